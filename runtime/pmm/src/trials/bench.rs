//! An image, written into a directory, opened by the code that every start of a site runs, and
//! judged. Used by `images`, `power` and `syncs`.

use std::fs;
use std::os::unix::fs::DirBuilderExt;

use refrain_abi::{Aid, DeletionKey};
use tempfile::TempDir;

use super::chance::Chance;
use super::medium::{Image, Kept};
use super::record::Recorder;
use super::tally::{Cut, Tally};
use super::world::{Change, stops};
use super::{PAGE, Seen, look, memory, name};
use crate::{Bank, BankOptions, Owner, Survey};

/// What a write may be torn at, in bytes.
pub(super) const TEARS: [usize; 3] = [8, 512, 4096];

/// Where images are opened, and what came of it.
pub(super) struct Bench {
    root: TempDir,
    number: u64,
    pub tally: Tally,
}

/// What may be seen of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum May {
    /// Nothing was changed yet.
    Old,
    /// All was changed.
    New,
    /// Either.
    Both,
}

/// A bank that was opened again.
pub(super) struct Reopened {
    /// What recovery did to the image.
    pub calls: Vec<Kept>,
    /// Which state was seen, so that it has to be seen again.
    pub may: May,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            root: memory(),
            number: 0,
            tally: Tally::default(),
        }
    }

    /// Opens an image of a change that was cut off.
    pub(super) fn judge(&mut self, image: &Image, change: &Change, cut: Cut, may: May) -> Reopened {
        self.tally.count(change.what, cut);
        let options = self.place(image, change);
        if let Some(damage) = change.damage {
            repaired(&options, damage);
        }
        let recorder = Recorder::new(image.clone(), change.medium);
        if change.damage.is_some() {
            recorder.set(Image::of(&options.dir));
        }
        let (mut bank, _) = recorder.open(&options).unwrap_or_else(|error| {
            panic!(
                "a bank that does not open: {error}\n{:#?}",
                image.contents().keys()
            );
        });
        let seen = look(&mut bank);
        let may = self.compare(&seen, change, may);
        let reopened = Reopened {
            calls: recorder.take(),
            may,
        };
        if self.number.is_multiple_of(8) {
            probe(&mut bank, &seen, change);
        }
        drop(bank);
        fs::remove_dir_all(&options.dir).unwrap();
        reopened
    }

    /// Opens an image and changes the bank: what that did, and what is to be seen from then on.
    pub(super) fn go_on(&mut self, image: &Image, change: &Change) -> (Vec<Kept>, Seen) {
        let options = self.place(image, change);
        let recorder = Recorder::new(image.clone(), change.medium);
        let (mut bank, _) = recorder.open(&options).unwrap();
        bank.reserve_aids(Aid(1 << 21)).unwrap();
        bank.clear_registrations().unwrap();
        let seen = look(&mut bank);
        drop(bank);
        fs::remove_dir_all(&options.dir).unwrap();
        (recorder.take(), seen)
    }

    /// Opens an image of which nothing may differ from this.
    pub(super) fn expect(&mut self, image: &Image, change: &Change, cut: Cut, seen: &Seen) {
        self.tally.count(change.what, cut);
        self.tally.new += 1;
        let options = self.place(image, change);
        let (mut bank, _) = Recorder::new(image.clone(), change.medium)
            .open(&options)
            .unwrap();
        assert_eq!(look(&mut bank), *seen, "what was done is lost");
        drop(bank);
        fs::remove_dir_all(&options.dir).unwrap();
    }

    /// Writes an image into a directory of its own.
    fn place(&mut self, image: &Image, change: &Change) -> BankOptions {
        self.number += 1;
        let dir = self.root.path().join(self.number.to_string());
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        image.write_to(&dir);
        BankOptions {
            dir,
            ..change.options.clone()
        }
    }

    fn compare(&mut self, seen: &Seen, change: &Change, may: May) -> May {
        let Change { before, after, .. } = change;
        let (old, new) = (seen == before, seen == after);
        let fits = match may {
            May::Old => old,
            May::New => new,
            May::Both => old || new,
        };
        assert!(
            fits,
            "neither old nor new: {seen:?}\nold: {before:?}\nnew: {after:?}\nmay be {may:?}"
        );
        match (old, new) {
            (true, true) => self.tally.same += 1,
            (true, false) => self.tally.old += 1,
            (false, _) => self.tally.new += 1,
        }
        if old { May::Old } else { May::New }
    }
}

/// A repair that was cut off left the damage or none that matters, and can be made again.
fn repaired(options: &BankOptions, damage: usize) {
    let left = stops(&options.dir);
    assert!(left == 0 || left == damage, "{left} of {damage}");
    if left == 0 {
        Bank::open(options).unwrap();
    }
    let plan = crate::Repair::plan(&options.dir).unwrap();
    plan.carry_out().unwrap();
}

/// Nothing is given out twice, and nothing of the old is in the new.
fn probe(bank: &mut Bank, seen: &Seen, change: &Change) {
    let damage = Survey::of(bank.dir()).unwrap().damage;
    assert!(damage.is_empty(), "{damage:?}");
    let key = DeletionKey::Opaque([9; 32]);
    let Ok(block) = bank.allocate(name("probe"), PAGE, key, Owner::Ordinary) else {
        assert!(seen.blocks.len() >= 6, "there is room");
        return;
    };
    let mut page = [1; PAGE as usize];
    let file = fs::File::from(block.fd);
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut page, 0).unwrap();
    assert_eq!(page, [0; PAGE as usize], "a new block is zero");
    let id = bank.block_id(name("probe")).unwrap();
    // What was just freed may still be mapped by an actor that runs on.
    let gone = match change.what {
        "make" | "discard" => &[],
        _ => change.before.blocks.as_slice(),
    };
    for (other, number, _) in seen.blocks.iter().chain(gone) {
        let apart = block.addr + PAGE < other.addr || other.addr + other.size < block.addr;
        assert!(apart && *number != id, "given out twice");
    }
    bank.free(name("probe"), Owner::Ordinary).unwrap();
    assert_eq!(look(bank), *seen);
}

/// Says where a run was when it failed.
pub(super) struct Place {
    seed: u64,
    what: &'static str,
    calls: Vec<Kept>,
    pub at: String,
}

impl Place {
    pub(super) fn new(seed: u64, change: &Change) -> Self {
        Self {
            seed,
            what: change.what,
            calls: change.calls.clone(),
            at: String::new(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, {}, {}; its calls:", self.seed, self.what, self.at);
            for call in &self.calls {
                let text = format!("{call:?}");
                eprintln!("  {}", &text[..text.len().min(120)]);
            }
        }
    }
}

/// A number from the environment.
pub(super) fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// One of the ways in which a call can be done in part, and what it is torn at.
pub(super) fn torn(image: &Image, call: &Kept, chance: &mut Chance) -> Option<(usize, Vec<Kept>)> {
    let all = TEARS.map(|tear| (tear, pieces(image, call, tear)));
    let many: Vec<_> = all.iter().filter(|(_, all)| all.len() > 1).collect();
    if many.is_empty() {
        return None;
    }
    let (tear, all) = chance.of(&many);
    // In order, or in any.
    if chance.one_in(2) {
        let count = 1 + chance.below(all.len() as u64 - 1) as usize;
        return Some((*tear, all[..count].to_vec()));
    }
    let some = all.iter().filter(|_| chance.one_in(2));
    Some((*tear, some.cloned().collect()))
}

/// A call in pieces that end at multiples of so many bytes.
pub(super) fn pieces(image: &Image, call: &Kept, tear: usize) -> Vec<Kept> {
    let tear = tear as u64;
    let ends = |from: u64, to: u64| {
        let first = (from / tear + 1) * tear;
        (first..to).step_by(tear as usize).chain([to])
    };
    match call {
        Kept::Write(name, at, bytes) => {
            let mut from = *at;
            let pieces = ends(*at, at + bytes.len() as u64).map(|to| {
                let part = &bytes[(from - at) as usize..(to - at) as usize];
                let piece = Kept::Write(name.clone(), from, part.to_vec());
                from = to;
                piece
            });
            pieces.collect()
        }
        Kept::Provide(name, size) if tear == PAGE => {
            let has = image.contents()[name.as_str()].map_or(0, <[u8]>::len);
            let sizes = ends(has as u64, *size);
            sizes
                .map(|size| Kept::Provide(name.clone(), size))
                .collect()
        }
        _ => Vec::new(),
    }
}
