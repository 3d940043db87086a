//! Opening a bank: finding one or making one, and the sizes that it is to have. Called by the
//! controller once, at its start.
//!
//! A catalogue is written whole beside its place and then renamed into it, when it is made and
//! when its sizes change, so that there is never half of one.
//!
//! It must never write into a directory that holds something else, nor leave anything behind
//! when it fails where nothing was.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use refrain_abi::Aid;
use refrain_abi::tunables::Tunables;
use rustix::io::Errno;

use crate::bank::Bank;
use crate::catalogue::Catalogue;
use crate::directory::{lock_directory, sync_above};
use crate::error::OpenError;
use crate::intent::remove_files;
use crate::layout::{ADDRESS_LIMIT, Geometry, HEADER, MAX_RECORDS};
use crate::record::State;
use crate::recover::{CURE, assemble, recover};
use crate::slot::read_header;
use crate::space::Window;
use crate::store::{
    CATALOGUE, CATALOGUE_GONE, CATALOGUE_NEW, DirStore, LOST_AND_FOUND, Medium, Numbered, Store,
};

/// Where a bank lies and how large it is (SPEC H27).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankOptions {
    /// Its directory. It and what leads to it are made when missing.
    pub dir: PathBuf,
    /// How many bytes its blocks may have together. The catalogue comes on top.
    pub size: u64,
    /// How many blocks it holds.
    pub max_blocks: u32,
    /// How many actors it registers.
    pub max_actors: u32,
    /// How many groups they may be in.
    pub max_groups: u32,
    /// The base of the window that blocks are mapped in, an address. Counts for a new bank only.
    pub window_base: u64,
    /// The window's size in bytes. Counts for a new bank only.
    pub window_size: u64,
}

impl BankOptions {
    /// The bank that a site's tunables describe.
    #[must_use]
    pub fn new(dir: PathBuf, tunables: &Tunables) -> Self {
        Self {
            dir,
            size: tunables.pmm.ram_bank_size,
            max_blocks: tunables.pmm.max_blocks,
            max_actors: tunables.hr_ctrl.max_actors,
            max_groups: tunables.hr_ctrl.max_groups,
            window_base: tunables.pmm.window_base,
            window_size: tunables.pmm.window_size,
        }
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: an empty bank was made.
    Created,
    /// A bank, with its blocks and registrations.
    Recovered,
}

impl Bank {
    /// Opens the bank in a directory, or makes one. Other sizes than those it was made with are
    /// taken over if all that it holds fits; the address window stays as it was.
    ///
    /// # Errors
    /// [`OpenError`]. Nothing was destroyed, and nothing is left behind where nothing was.
    pub fn open(options: &BankOptions) -> Result<(Self, Opened), OpenError> {
        open_with(options, |store| Box::new(store))
    }
}

/// [`Bank::open`] with a hand on every step.
pub(crate) fn open_with(
    options: &BankOptions,
    wrap: impl FnOnce(DirStore) -> Box<dyn Store>,
) -> Result<(Bank, Opened), OpenError> {
    let dir = options.dir.as_path();
    let mut wanted = geometry(options)?;
    let (fd, made) = lock_directory(dir)?;
    let store =
        DirStore::new(fd).map_err(|error| io_error(dir, "examine the file system", error, 0))?;
    let mut store = wrap(store);
    let names = store
        .list()
        .map_err(|error| io_error(dir, "list the directory", error, 0))?;
    if names.iter().any(|name| name == CATALOGUE) {
        return Ok((recover(dir, store, &wanted)?, Opened::Recovered));
    }
    wanted.made_directory = made;
    let result =
        clear(dir, store.as_mut(), &names, &mut wanted).and_then(|()| create(dir, store, wanted));
    if result.is_err() && made {
        // Empty, as nothing could be made in it; if that fails too it is merely an empty directory.
        let _ = fs::remove_dir(dir);
    }
    Ok((result?, Opened::Created))
}

fn geometry(options: &BankOptions) -> Result<Geometry, OpenError> {
    let refuse = |what: String, cure| {
        Err(OpenError::Geometry {
            dir: options.dir.clone(),
            what,
            cure,
        })
    };
    let page_size = rustix::param::page_size() as u32;
    let page = u64::from(page_size);
    for (name, count) in [
        ("pmm.max_blocks", options.max_blocks),
        ("hr_ctrl.max_actors", options.max_actors),
        ("hr_ctrl.max_groups", options.max_groups),
    ] {
        if !(1..=MAX_RECORDS).contains(&count) {
            return refuse(
                format!("{name} of {count} is out of range"),
                "choose 1 to 1048576",
            );
        }
    }
    let window = Window {
        base: options.window_base,
        size: options.window_size,
    };
    let end = window.base.checked_add(window.size);
    if window.base == 0 || !window.base.is_multiple_of(page) || !window.size.is_multiple_of(page) {
        return refuse(
            format!(
                "the address window at {:#x} of {} bytes is not in whole pages",
                window.base, window.size
            ),
            "choose multiples of the page size for pmm.window_base and pmm.window_size",
        );
    }
    if end.is_none_or(|end| end > ADDRESS_LIMIT) {
        return refuse(
            format!(
                "the address window at {:#x} of {} bytes leaves the address space",
                window.base, window.size
            ),
            "end it below 0x800000000000",
        );
    }
    if options.size == 0 || options.size > window.size {
        return refuse(
            format!(
                "{} bytes do not fit an address window of {} bytes",
                options.size, window.size
            ),
            "choose pmm.ram_bank_size between 1 and pmm.window_size",
        );
    }
    Ok(Geometry {
        size: options.size,
        window,
        max_blocks: options.max_blocks,
        max_actors: options.max_actors,
        max_groups: options.max_groups,
        page_size,
        made_directory: false,
    })
}

/// Makes room for a new bank in a directory without a catalogue: goes on with a discard that was
/// interrupted, and refuses whatever else is there.
fn clear(
    dir: &Path,
    store: &mut dyn Store,
    names: &[String],
    wanted: &mut Geometry,
) -> Result<(), OpenError> {
    let gone = names.iter().any(|name| name == CATALOGUE_GONE);
    let foreign = |name: &&String| {
        !matches!(name.as_str(), CATALOGUE_NEW | CATALOGUE_GONE)
            && !name.starts_with(LOST_AND_FOUND)
            && Numbered::parse(name).is_none()
    };
    if let Some(name) = names.iter().find(foreign) {
        return Err(not_a_bank(dir, format!("it holds {name:?}")));
    }
    if gone {
        let header = store
            .read(CATALOGUE_GONE, HEADER as u64)
            .unwrap_or_default();
        wanted.made_directory |= read_header(&header).is_ok_and(|geometry| geometry.made_directory);
        return remove_files(store)
            .map_err(|error| io_error(dir, "finish removing the last bank", error, 0));
    }
    if let Some(name) = names.iter().find(|name| Numbered::parse(name).is_some()) {
        let what = format!("the file {name} is there and no catalogue");
        return Err(OpenError::Damaged {
            dir: dir.into(),
            what,
            offset: 0,
            cure: CURE,
        });
    }
    Ok(())
}

fn create(dir: &Path, mut store: Box<dyn Store>, geometry: Geometry) -> Result<Bank, OpenError> {
    if store.medium() == Medium::Disk {
        sync_above(dir).map_err(|error| io_error(dir, "make the directory durable", error, 0))?;
    }
    let catalogue = Catalogue::fresh(geometry, opening_state(None));
    install(dir, store.as_mut(), &catalogue)?;
    Ok(assemble(dir, store, catalogue, HashMap::new()))
}

/// Writes a whole catalogue beside the one there is, and puts it in its place in one step.
pub(crate) fn install(
    dir: &Path,
    store: &mut dyn Store,
    catalogue: &Catalogue,
) -> Result<(), OpenError> {
    let needed = catalogue.geometry().file_size();
    let failed = |error| io_error(dir, "make the catalogue", error, needed);
    match store.remove(CATALOGUE_NEW) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let parts = catalogue.parts();
    let parts: Vec<(u64, &[u8])> = parts
        .iter()
        .map(|(at, bytes)| (*at, bytes.as_slice()))
        .collect();
    store
        .create(CATALOGUE_NEW, needed, &parts)
        .map_err(failed)?;
    store.rename(CATALOGUE_NEW, CATALOGUE).map_err(failed)?;
    store.attach(needed).map_err(failed)
}

/// Takes over the sizes that are wanted, if they are others and all that the bank holds fits.
pub(crate) fn resize(bank: &mut Bank, wanted: &Geometry) -> Result<(), OpenError> {
    let stored = *bank.catalogue.geometry();
    let wanted = Geometry {
        window: stored.window,
        made_directory: stored.made_directory,
        ..*wanted
    };
    if wanted == stored {
        return Ok(());
    }
    let actors = bank.catalogue.actors();
    let groups: HashSet<_> = actors.iter().map(|(_, actor)| actor.gid).collect();
    let blocks = bank.names.len() as u64;
    for (holds, limit, what, cure) in [
        (
            bank.used,
            wanted.size,
            "bytes in blocks",
            "raise pmm.ram_bank_size",
        ),
        (
            blocks,
            wanted.max_blocks.into(),
            "blocks",
            "raise pmm.max_blocks",
        ),
        (
            bank.actors.len() as u64,
            wanted.max_actors.into(),
            "actors",
            "raise hr_ctrl.max_actors",
        ),
        (
            groups.len() as u64,
            wanted.max_groups.into(),
            "groups",
            "raise hr_ctrl.max_groups",
        ),
    ] {
        if holds > limit {
            let what = format!("it holds {holds} {what}, the configuration allows {limit}");
            return Err(OpenError::Geometry {
                dir: bank.dir.clone(),
                what,
                cure,
            });
        }
    }
    if wanted.size > wanted.window.size {
        let what = format!(
            "{} bytes do not fit its address window of {} bytes",
            wanted.size, wanted.window.size
        );
        return Err(OpenError::Geometry {
            dir: bank.dir.clone(),
            what,
            cure: "lower pmm.ram_bank_size",
        });
    }
    let catalogue = bank.catalogue.rebuilt(wanted);
    install(&bank.dir, bank.store.as_mut(), &catalogue)?;
    bank.names = catalogue
        .blocks()
        .iter()
        .map(|(index, block)| (block.name, index))
        .collect();
    for (index, actor) in catalogue.actors().iter() {
        if let Some(entry) = bank.actors.get_mut(&actor.name) {
            entry.0 = index;
        }
    }
    bank.catalogue = catalogue;
    Ok(())
}

/// The state record of an opening by this process.
pub(crate) fn opening_state(before: Option<&State>) -> State {
    let mut boot_id = [0; 36];
    if let Ok(text) = fs::read("/proc/sys/kernel/random/boot_id")
        && let Some(text) = text.get(..boot_id.len())
    {
        boot_id.copy_from_slice(text);
    }
    State {
        aid_floor: before.map_or(Aid(1), |state| state.aid_floor),
        pid: std::process::id(),
        openings: before.map_or(0, |state| state.openings).wrapping_add(1),
        boot_id,
    }
}

/// Refuses a path that holds something else.
pub(crate) fn not_a_bank(dir: &Path, what: String) -> OpenError {
    OpenError::NotABank {
        dir: dir.into(),
        what,
    }
}

/// The kernel's answer as the error that a person is told.
pub(crate) fn io_error(
    dir: &Path,
    doing: &'static str,
    source: io::Error,
    needed: u64,
) -> OpenError {
    let dir = dir.to_path_buf();
    match Errno::from_io_error(&source) {
        Some(Errno::ROFS) => OpenError::ReadOnly { dir },
        Some(Errno::NOSPC | Errno::DQUOT) => OpenError::NoSpace { dir, needed },
        Some(Errno::ACCESS | Errno::PERM) => OpenError::Permission {
            dir,
            what: format!("cannot {doing}; run as its owner, or choose another with --bank"),
        },
        _ => OpenError::Io { dir, doing, source },
    }
}
