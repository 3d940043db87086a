//! A bank's catalogue and files, read to the end whatever is wrong with them. Called by `survey`,
//! which tells what was found, and by `repair`, which writes down what is sound.
//!
//! A bank is refused for the first flaw (`recover`); here each flaw is noted and the next record is
//! read. What a record says is judged by the same code as there: `catalogue` reads it, `consistency`
//! holds it against the others.
//!
//! A record with a damaged slot may still have a whole one. That is the present state or the one
//! before it; which of the two cannot be told. It counts where it contradicts nothing and its file
//! is there in full, as the file goes with the record. An intent is never taken from it: carried out
//! wrongly, it would free what is in use.
//!
//! It must never write, trust a length, or drop a whole record whose file is there.

use std::io;

use refrain_abi::Aid;

use crate::consistency::Accepted;
use crate::layout::{Geometry, Kind, SLOT};
use crate::record::{ActorRecord, BlockRecord, Intent, Record, State};
use crate::salvage::geometry_of;
use crate::slot::{Flaw, read_slot, record_at};
use crate::store::{CATALOGUE_GONE, CATALOGUE_NEW, FileInfo, Numbered, Store};

/// How far aids go on when the last state of their floor is lost: more than are given out between
/// two changes of it.
const AID_GAP: u32 = 1 << 20;
/// Where aids go on when nothing is known of their floor.
const AID_RESTART: u32 = 1 << 30;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What it is, naming the block, actor or file where there is one.
    pub what: String,
    /// The byte of the catalogue where the structure begins that shows it.
    pub offset: Option<u64>,
    /// Whether a site refuses to start on the bank for it.
    pub stops_start: bool,
    /// What a repair does about it.
    pub mend: String,
}

/// A change of a file that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resize {
    pub file: Numbered,
    pub has: u64,
    pub size: u64,
}

/// A block that is sound, with its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundBlock {
    pub record: BlockRecord,
    pub file: FileInfo,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Examined {
    pub geometry: Geometry,
    pub state: State,
    pub intent: Option<Intent>,
    pub blocks: Vec<FoundBlock>,
    pub actors: Vec<ActorRecord>,
    /// Bytes in blocks.
    pub used: u64,
    pub damage: Vec<Damage>,
    pub resizes: Vec<Resize>,
    /// Whether the catalogue has to be written anew.
    pub rewrite: bool,
    /// The bank's own files that no sound record names.
    pub orphans: Vec<String>,
}

/// Examines a bank: `bytes` of its catalogue, of which there may be none, and the `names` in its
/// directory.
///
/// # Errors
/// The version of a catalogue of another one, or what the medium reports.
pub(crate) fn examine(
    bytes: Option<&[u8]>,
    names: &[String],
    store: &dyn Store,
) -> Result<Examined, ExamineError> {
    let (geometry, flaw) = geometry_of(bytes.unwrap_or_default()).map_err(ExamineError::Version)?;
    let mut examiner = Examiner {
        bytes: bytes.unwrap_or_default(),
        geometry,
        store,
        accepted: Accepted::new(geometry),
        damage: Vec::new(),
        resizes: Vec::new(),
        rewrite: false,
    };
    match (bytes, flaw) {
        (None, _) => examiner.note(
            "there is no catalogue".into(),
            None,
            "make an empty catalogue".into(),
        ),
        (Some(_), Some(flaw)) => examiner.note_flaw(flaw, header_mend(&geometry)),
        (Some(_), None) => {}
    }
    if bytes.is_some() {
        examiner.length();
    }
    let state = examiner.state(bytes.is_some());
    let intent = examiner.intent();
    let blocks = examiner.blocks()?;
    let actors = examiner.actors()?;
    let orphans = names.iter().filter(|name| examiner.is_orphan(name));
    Ok(Examined {
        orphans: orphans.cloned().collect(),
        geometry,
        state,
        intent,
        blocks,
        actors,
        used: examiner.accepted.used(),
        damage: examiner.damage,
        resizes: examiner.resizes,
        rewrite: examiner.rewrite,
    })
}

/// Why a bank cannot be examined.
#[derive(Debug)]
pub(crate) enum ExamineError {
    /// Another version.
    Version(u32),
    /// The medium.
    Io(io::Error),
}

impl From<io::Error> for ExamineError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn header_mend(geometry: &Geometry) -> String {
    format!(
        "write the header anew: size {}, window {:#x} of {} bytes, {} blocks, {} actors, {} groups",
        geometry.size,
        geometry.window.base,
        geometry.window.size,
        geometry.max_blocks,
        geometry.max_actors,
        geometry.max_groups
    )
}

/// A record with its index, and whether it is from the slot that a damaged one left.
struct Candidate<T> {
    index: u32,
    value: T,
    left: bool,
}

struct Examiner<'a> {
    bytes: &'a [u8],
    geometry: Geometry,
    store: &'a dyn Store,
    accepted: Accepted,
    damage: Vec<Damage>,
    resizes: Vec<Resize>,
    rewrite: bool,
}

impl Examiner<'_> {
    /// Notes damage of the catalogue.
    fn note(&mut self, what: String, offset: Option<u64>, mend: String) {
        self.rewrite = true;
        self.damage.push(Damage {
            what,
            offset,
            stops_start: true,
            mend,
        });
    }

    fn note_flaw(&mut self, flaw: Flaw, mend: String) {
        match flaw {
            Flaw::Damaged { what, offset } => self.note(what, Some(offset), mend),
            Flaw::Version(version) => self.note(format!("version {version}"), Some(8), mend),
        }
    }

    /// The catalogue's length: what is missing of it reads as free records.
    fn length(&mut self) {
        let (has, size) = (self.bytes.len() as u64, self.geometry.file_size());
        if has != size && self.damage.is_empty() {
            let what = format!("the catalogue has {has} bytes instead of {size}");
            let mend = "write it with its full size; records behind its end are free".into();
            self.note(what, Some(has), mend);
        }
    }

    fn holds(&self, at: u64) -> bool {
        at + 2 * SLOT as u64 <= self.bytes.len() as u64
    }

    /// What the whole slots of a damaged record hold, the newest first.
    fn left<T: Record>(&self, at: u64, index: u32) -> Option<T> {
        let mut slots: Vec<_> = [at, at + SLOT as u64]
            .into_iter()
            .filter_map(|at| read_slot(at, T::KIND, index, self.bytes).ok().flatten())
            .collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(slot.seq.get()));
        slots
            .iter()
            .find_map(|slot| T::decode(&slot.payload).ok())
            .flatten()
    }

    /// Every used record of a kind; those with damage come last, as they must not push out a whole
    /// one.
    fn candidates<T: Record>(&mut self) -> Vec<(Candidate<T>, Option<Flaw>)> {
        let (mut whole, mut left) = (Vec::new(), Vec::new());
        for index in 0..self.geometry.count(T::KIND) {
            let at = self.geometry.at(T::KIND, index);
            if !self.holds(at) {
                break;
            }
            match record_at::<T>(at, index, self.bytes) {
                Ok(value) => whole.extend(value.map(|value| {
                    let left = false;
                    (Candidate { index, value, left }, None)
                })),
                Err(flaw) => match self.left(at, index) {
                    Some(value) => {
                        let candidate = Candidate {
                            index,
                            value,
                            left: true,
                        };
                        left.push((candidate, Some(flaw)));
                    }
                    None => self.note_flaw(flaw, "free the record".into()),
                },
            }
        }
        whole.append(&mut left);
        whole
    }

    fn state(&mut self, is_there: bool) -> State {
        let at = self.geometry.at(Kind::State, 0);
        let missing = || Flaw::damaged("the state record is missing", at);
        let found = match self.holds(at) {
            true => record_at::<State>(at, 0, self.bytes),
            false => Ok(None),
        };
        let flaw = match found {
            Ok(Some(state)) => return state,
            Ok(None) => missing(),
            Err(flaw) => flaw,
        };
        let state = match self.left::<State>(at, 0) {
            Some(state) => State {
                aid_floor: Aid(state.aid_floor.0.saturating_add(AID_GAP)),
                ..state
            },
            None if !is_there => State {
                aid_floor: Aid(1),
                ..UNKNOWN
            },
            None => UNKNOWN,
        };
        if is_there {
            let mend = format!("write it anew; aids go on at {}", state.aid_floor);
            self.note_flaw(flaw, mend);
        }
        state
    }

    fn intent(&mut self) -> Option<Intent> {
        let at = self.geometry.at(Kind::Intent, 0);
        if !self.holds(at) {
            return None;
        }
        record_at(at, 0, self.bytes).unwrap_or_else(|flaw| {
            let mend = "drop it: what it may have begun to free stays";
            self.note_flaw(flaw, mend.into());
            None
        })
    }

    fn blocks(&mut self) -> io::Result<Vec<FoundBlock>> {
        let mut found = Vec::new();
        for (candidate, flaw) in self.candidates::<BlockRecord>() {
            let at = self.geometry.at(Kind::Block, candidate.index);
            let kept = self.accept_block(&candidate)?;
            let record = candidate.value;
            match (kept, flaw) {
                (Ok(file), flaw) => {
                    if let Some(flaw) = flaw {
                        let mend = format!("keep block {} as its other slot has it", record.name);
                        self.note_flaw(flaw, mend);
                    } else {
                        self.check_size(&record, file, at);
                    }
                    found.push(FoundBlock { record, file });
                }
                (Err(why), Some(flaw)) => {
                    let mend = format!("free the record: in its other slot, {why}");
                    self.note_flaw(flaw, mend);
                }
                (Err(why), None) => {
                    self.note(why, Some(at), format!("free block {}", record.name));
                }
            }
        }
        Ok(found)
    }

    /// A block whose file is there and that is at odds with none before it.
    fn accept_block(
        &mut self,
        candidate: &Candidate<BlockRecord>,
    ) -> io::Result<Result<FileInfo, String>> {
        let block = &candidate.value;
        let file = Numbered::Block(block.id).name();
        Ok(match self.store.examine(&file)? {
            None => Err(format!(
                "the file {file} of block {} is missing",
                block.name
            )),
            Some(info) if !info.regular => {
                Err(format!("{file}, of block {}, is no file", block.name))
            }
            // The file is the only witness of a record from a slot that was left.
            Some(info) if candidate.left && info.size != block.size => Err(format!(
                "the file {file} of block {} has {} bytes instead of {}",
                block.name, info.size, block.size
            )),
            Some(info) => self.accepted.block(block).map(|()| info),
        })
    }

    /// An actor that holds a block's file can give it another size. A site starts all the same, and
    /// refuses to hand the block out.
    fn check_size(&mut self, block: &BlockRecord, info: FileInfo, at: u64) {
        let file = Numbered::Block(block.id);
        let (has, size) = (info.size, block.size);
        if has == size {
            return;
        }
        let mend = if has < size {
            format!(
                "make {} {size} bytes long again; what is new is zero",
                file.name()
            )
        } else {
            format!("cut {} to {size} bytes", file.name())
        };
        self.resizes.push(Resize { file, has, size });
        self.damage.push(Damage {
            what: format!(
                "the file {} of block {} has {has} bytes instead of {size}",
                file.name(),
                block.name
            ),
            offset: Some(at),
            stops_start: false,
            mend,
        });
    }

    fn actors(&mut self) -> io::Result<Vec<ActorRecord>> {
        let mut found = Vec::new();
        for (candidate, flaw) in self.candidates::<ActorRecord>() {
            let actor = candidate.value;
            let at = self.geometry.at(Kind::Actor, candidate.index);
            let kept = match self.spec_flaw(&actor)? {
                Some(how) => Err(format!(
                    "the file {} of actor {} is {how}",
                    Numbered::Spec(actor.spec_id).name(),
                    actor.name
                )),
                None => self.accepted.actor(&actor),
            };
            match (kept, flaw) {
                (Ok(()), flaw) => {
                    if let Some(flaw) = flaw {
                        let mend = format!("keep actor {} as its other slot has it", actor.name);
                        self.note_flaw(flaw, mend);
                    }
                    found.push(actor);
                }
                (Err(why), Some(flaw)) => {
                    let mend = format!("free the record: in its other slot, {why}");
                    self.note_flaw(flaw, mend);
                }
                (Err(why), None) => {
                    self.note(why, Some(at), format!("deregister actor {}", actor.name));
                }
            }
        }
        Ok(found)
    }

    fn spec_flaw(&self, actor: &ActorRecord) -> io::Result<Option<&'static str>> {
        let file = Numbered::Spec(actor.spec_id).name();
        match self.store.examine(&file)? {
            None => return Ok(Some("missing")),
            Some(info) if !info.regular => return Ok(Some("no file")),
            Some(info) if info.size != actor.spec_len => {
                return Ok(Some("not as it was written"));
            }
            Some(_) => {}
        }
        let spec = match self.store.read(&file, actor.spec_len + 1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some("missing")),
            spec => spec?,
        };
        let is_whole =
            spec.len() as u64 == actor.spec_len && crc32c::crc32c(&spec) == actor.spec_crc;
        Ok((!is_whole).then_some("not as it was written"))
    }

    fn is_orphan(&self, name: &str) -> bool {
        matches!(name, CATALOGUE_NEW | CATALOGUE_GONE)
            || Numbered::parse(name).is_some_and(|file| !self.accepted.names(file))
    }
}

/// The state when nothing is known of it: of another boot, so that no pid is believed.
const UNKNOWN: State = State {
    aid_floor: Aid(AID_RESTART),
    pid: 0,
    openings: 0,
    boot_id: [b'?'; 36],
};
