//! A bank, looked at and not touched: what it holds, what is wrong with it, and what the next start
//! of a site does with it. For `c_init bank`; it takes no lock, needs no site, and works beside one
//! that runs, and on a copy on a read-only file system.
//!
//! A site may change the bank meanwhile. So the catalogue and the list of files are read again when
//! everything has been looked at; unless both are as they were, all of it is looked at again. A
//! bank that never keeps still that long is told as it was last seen, without what only one look
//! found wrong.
//!
//! It must never open anything for writing, nor hold the bank's lock for a moment.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use refrain_abi::{ActorName, Aid, DeletionKey, Gid, LifeNo};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::access::Owner;
use crate::error::{CheckError, OpenError};
use crate::examine::{Damage, ExamineError, Examined, examine};
use crate::holder::holder;
use crate::intent::frees;
use crate::inventory::BlockInfo;
use crate::layout::{Geometry, HEADER, MAX_CATALOGUE, VERSION};
use crate::record::Intent;
use crate::registry::Running;
use crate::slot::read_header;
use crate::store::{
    CATALOGUE, CATALOGUE_GONE, CATALOGUE_NEW, DirStore, LOST_AND_FOUND, Medium, Numbered, Store,
};

/// How often a bank that changes is looked at again, and how long it is left alone between.
const LOOKS: u32 = 32;
const PAUSE: Duration = Duration::from_millis(1);

/// What a bank was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The bank's size in bytes.
    pub size: u64,
    /// The base of its address window.
    pub window_base: u64,
    /// The window's size in bytes.
    pub window_size: u64,
    /// How many blocks it may hold.
    pub max_blocks: u32,
    /// How many actors it may register.
    pub max_actors: u32,
    /// How many groups they may be in.
    pub max_groups: u32,
    /// The page size of the machine that made it, in bytes.
    pub page_size: u32,
    /// The size that the catalogue has or should have, in bytes.
    pub catalogue: u64,
}

/// The controller that opened the bank last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastOpening {
    /// Its pid; 0 where that is lost.
    pub pid: u32,
    /// How often the bank was opened.
    pub openings: u64,
    /// The boot id of that opening.
    pub boot_id: String,
    /// Whether the machine has not been booted since.
    pub this_boot: bool,
    /// Aids below it may have been given out.
    pub aid_floor: Aid,
}

/// A block that is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedBlock {
    /// What its record says.
    pub info: BlockInfo,
    /// The name of its file.
    pub file: String,
    /// The size of that file in bytes.
    pub file_size: u64,
    /// How many of them the file system has provided.
    pub provided: u64,
}

/// A registration that is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedActor {
    /// The actor's name.
    pub name: ActorName,
    /// Its group.
    pub gid: Gid,
    /// Whether it is direct.
    pub direct: bool,
    /// The number of the life that runs, or ran last.
    pub life: LifeNo,
    /// How often it was restarted.
    pub restarts: u32,
    /// Whether that life ended clean.
    pub clean: bool,
    /// That life, if it ran when this was noted.
    pub running: Option<Running>,
    /// The name of the file with its start data.
    pub file: String,
    /// The size of that file in bytes.
    pub file_size: u64,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The bank's directory, as it was given.
    pub dir: PathBuf,
    /// What it lies on.
    pub medium: Medium,
    /// The version of its format.
    pub version: u32,
    /// What it was made with.
    pub sizes: Sizes,
    /// Bytes in blocks.
    pub used: u64,
    /// Who opened it last.
    pub last: LastOpening,
    /// Who holds it now, and the pid where the kernel tells it.
    pub held_by: Option<Option<u32>>,
    /// Whether it kept still while it was looked at.
    pub steady: bool,
    /// The blocks, by address.
    pub blocks: Vec<SurveyedBlock>,
    /// The registrations, by name.
    pub actors: Vec<SurveyedActor>,
    /// A change that was begun and not finished, in words.
    pub intent: Option<String>,
    /// What is wrong.
    pub damage: Vec<Damage>,
    /// What the next start does before it begins, in words; nothing where it is refused.
    pub recovery: Vec<String>,
    /// Why no site of this machine starts on it, damage or not.
    pub refusal: Option<String>,
    /// Files that are not the bank's.
    pub foreign: Vec<String>,
}

impl Survey {
    /// Looks at the bank in a directory.
    ///
    /// # Errors
    /// [`CheckError`]: there is none, it is of another version, or it cannot be read.
    pub fn of(dir: &Path) -> Result<Self, CheckError> {
        let fd = open_directory(dir)?;
        let held_by = holder(&fd).map_err(read_error(dir, "examine the directory"))?;
        let store = DirStore::new(fd.into()).map_err(read_error(dir, "examine the file system"))?;
        let mut look = Look::take(dir, &store)?;
        let mut examined = look.examine(dir, &store)?;
        for _ in 0..LOOKS {
            let again = Look::take(dir, &store)?;
            if again == look {
                return Ok(survey(dir, &store, held_by, &look, examined, true));
            }
            std::thread::sleep(PAUSE);
            look = Look::take(dir, &store)?;
            let before = std::mem::replace(&mut examined, look.examine(dir, &store)?);
            examined
                .damage
                .retain(|one| before.damage.iter().any(|other| other == one));
        }
        Ok(survey(dir, &store, held_by, &look, examined, false))
    }
}

fn open_directory(dir: &Path) -> Result<File, CheckError> {
    let no_bank = |what: &str| CheckError::NoBank {
        dir: dir.into(),
        what: what.into(),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(Errno::NOENT) => Err(no_bank("there is no such directory")),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(no_bank("it is no directory")),
        Err(error) => Err(read_error(dir, "open the directory")(error.into())),
    }
}

fn read_error(dir: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> CheckError {
    let dir = dir.to_path_buf();
    move |source| CheckError::Read { dir, doing, source }
}

/// The catalogue and the names in the directory, at one moment.
#[derive(PartialEq, Eq)]
pub(crate) struct Look {
    pub bytes: Option<Vec<u8>>,
    pub names: Vec<String>,
}

impl Look {
    /// Reads them; there has to be a bank.
    pub(crate) fn take(dir: &Path, store: &dyn Store) -> Result<Self, CheckError> {
        let mut names = store
            .list()
            .map_err(read_error(dir, "list the directory"))?;
        names.sort_unstable();
        let no_bank = |what: &str| CheckError::NoBank {
            dir: dir.into(),
            what: what.into(),
        };
        let bytes = read(store).map_err(read_error(dir, "read the catalogue"))?;
        if bytes.is_none() {
            if names.iter().any(|name| name == CATALOGUE_GONE) {
                return Err(no_bank("it was being discarded; the next start goes on"));
            }
            if !names.iter().any(|name| Numbered::parse(name).is_some()) {
                return Err(no_bank("it holds no catalogue and no block"));
            }
        }
        Ok(Self { bytes, names })
    }

    /// What is in them.
    pub(crate) fn examine(&self, dir: &Path, store: &dyn Store) -> Result<Examined, CheckError> {
        examine(self.bytes.as_deref(), &self.names, store).map_err(|error| match error {
            ExamineError::Version(found) => OpenError::Version {
                dir: dir.into(),
                found,
                known: VERSION,
            }
            .into(),
            ExamineError::Io(source) => read_error(dir, "read what the catalogue names")(source),
        })
    }
}

fn read(store: &dyn Store) -> io::Result<Option<Vec<u8>>> {
    let header = match store.read(CATALOGUE, HEADER as u64) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        header => header?,
    };
    // One byte more than there should be, to see a file that is too long.
    let limit = read_header(&header).map_or(MAX_CATALOGUE, |geometry| geometry.file_size());
    match store.read(CATALOGUE, limit + 1) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some),
    }
}

fn survey(
    dir: &Path,
    store: &DirStore,
    held_by: Option<Option<u32>>,
    look: &Look,
    examined: Examined,
    steady: bool,
) -> Survey {
    let recovery = recovery(&examined);
    let Examined {
        geometry, state, ..
    } = &examined;
    let boot_id = String::from_utf8_lossy(&state.boot_id).into_owned();
    let now = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let foreign = |name: &&String| {
        !matches!(name.as_str(), CATALOGUE | CATALOGUE_NEW | CATALOGUE_GONE)
            && !name.starts_with(LOST_AND_FOUND)
            && Numbered::parse(name).is_none()
    };
    Survey {
        dir: dir.into(),
        medium: store.medium(),
        version: VERSION,
        sizes: Sizes {
            size: geometry.size,
            window_base: geometry.window.base,
            window_size: geometry.window.size,
            max_blocks: geometry.max_blocks,
            max_actors: geometry.max_actors,
            max_groups: geometry.max_groups,
            page_size: geometry.page_size,
            catalogue: geometry.file_size(),
        },
        used: examined.used,
        last: LastOpening {
            pid: state.pid,
            openings: state.openings,
            this_boot: boot_id == now.trim(),
            boot_id,
            aid_floor: state.aid_floor,
        },
        held_by,
        steady,
        blocks: blocks(&examined),
        actors: actors(&examined),
        intent: examined.intent.as_ref().map(in_words),
        recovery,
        refusal: refusal(geometry),
        foreign: look.names.iter().filter(foreign).cloned().collect(),
        damage: examined.damage,
    }
}

fn blocks(examined: &Examined) -> Vec<SurveyedBlock> {
    let mut blocks: Vec<_> = examined
        .blocks
        .iter()
        .map(|block| SurveyedBlock {
            info: BlockInfo::of(&block.record),
            file: Numbered::Block(block.record.id).name(),
            file_size: block.file.size,
            provided: block.file.provided,
        })
        .collect();
    blocks.sort_unstable_by_key(|block| block.info.addr);
    blocks
}

fn actors(examined: &Examined) -> Vec<SurveyedActor> {
    let mut actors: Vec<_> = examined
        .actors
        .iter()
        .map(|actor| SurveyedActor {
            name: actor.name,
            gid: actor.gid,
            direct: actor.direct,
            life: actor.life,
            restarts: actor.restarts,
            clean: actor.clean,
            running: actor.running,
            file: Numbered::Spec(actor.spec_id).name(),
            file_size: actor.spec_len,
        })
        .collect();
    actors.sort_unstable_by_key(|actor| actor.name);
    actors
}

fn in_words(intent: &Intent) -> String {
    match intent {
        Intent::FreeKey { key, by } => {
            let key = DeletionKey::Opaque(*key);
            format!("free every block with the key {} for {by}", key_text(&key))
        }
        Intent::EndGroup { gid } => {
            let owner = Owner::Group(*gid);
            format!("free every HR_GROUP_KEY block of {owner}")
        }
        Intent::ClearRegistrations => "drop every registration".into(),
    }
}

/// A deletion key for people to read: its bytes in hexadecimal without the zeros behind them.
pub(crate) fn key_text(key: &DeletionKey) -> String {
    match key {
        DeletionKey::Group => "HR_GROUP_KEY".into(),
        DeletionKey::Opaque(bytes) => {
            let len = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(1, |at| at + 1);
            bytes[..len]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        }
    }
}

/// Why a sound bank is refused here.
fn refusal(geometry: &Geometry) -> Option<String> {
    let (made, here) = (geometry.page_size, rustix::param::page_size() as u32);
    (made != here).then(|| format!("made for pages of {made} bytes, here they have {here}"))
}

/// What the next opening does, in its own order.
fn recovery(examined: &Examined) -> Vec<String> {
    let is_damaged = examined.damage.iter().any(|damage| damage.stops_start);
    if is_damaged || refusal(&examined.geometry).is_some() {
        return Vec::new();
    }
    let mut steps = Vec::new();
    if let Some(intent) = &examined.intent {
        let doomed = examined
            .blocks
            .iter()
            .filter(|it| frees(intent, &it.record));
        let names: Vec<_> = doomed.map(|it| it.record.name.to_string()).collect();
        let which = match (intent, names.is_empty()) {
            (Intent::ClearRegistrations, _) => format!("{} of them", examined.actors.len()),
            (_, true) => "none is left".into(),
            (_, false) => names.join(", "),
        };
        steps.push(format!("finish to {}: {which}", in_words(intent)));
    }
    let orphans = examined.orphans.iter();
    steps.extend(orphans.map(|name| format!("remove {name}, which no record names")));
    steps
}
