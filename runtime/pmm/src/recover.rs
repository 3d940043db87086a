//! Opening a bank that exists: everything is read and checked before anything is written, then
//! what an earlier controller left unfinished is finished. Called by `open`; the same code runs
//! after a clean halt, a killed controller and a power failure.
//!
//! It must never write before the whole catalogue and every file that it names were found sound,
//! nor remove a file whose name is not the bank's own.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use refrain_abi::ActorName;

use crate::bank::Bank;
use crate::catalogue::Catalogue;
use crate::consistency::Accepted;
use crate::error::OpenError;
use crate::layout::{Geometry, HEADER, Kind, VERSION};
use crate::open::{self, opening_state};
use crate::record::ActorRecord;
use crate::slot::{Flaw, read_header};
use crate::store::{CATALOGUE, CATALOGUE_GONE, CATALOGUE_NEW, Numbered, Store};

/// What a person can do about damage.
pub(crate) const CURE: &str = "nothing was changed: restore the directory from a copy, \
     see `c_init bank repair`, or remove it for an empty bank";

/// Opens the bank in a directory that holds a catalogue, with the sizes that are wanted now.
///
/// # Errors
/// [`OpenError`].
pub(crate) fn recover(
    dir: &Path,
    store: Box<dyn Store>,
    wanted: &Geometry,
) -> Result<Bank, OpenError> {
    let (catalogue, bytes) = read(dir, store.as_ref())?;
    let geometry = *catalogue.geometry();
    if geometry.page_size != wanted.page_size {
        let what = format!(
            "made for pages of {} bytes, here they have {}",
            geometry.page_size, wanted.page_size
        );
        return Err(OpenError::Geometry {
            dir: dir.into(),
            what,
            cure: "open it on the machine that made it",
        });
    }
    check_blocks(&catalogue).map_err(|flaw| flaw_error(dir, flaw))?;
    let names = store
        .list()
        .map_err(|error| open::io_error(dir, "list the directory", error, 0))?;
    let actors = read_files(dir, store.as_ref(), &catalogue, &names)?;
    let mut bank = assemble(dir, store, catalogue, actors);
    bank.store.attach(geometry.file_size()).map_err(|error| {
        open::io_error(
            dir,
            "open the catalogue for writing",
            error,
            geometry.file_size(),
        )
    })?;
    // The last controller may have been killed before a sync, or have met one that failed: what was read
    // may be known to the kernel's cache alone. Nothing is built on it before it is on the medium.
    bank.store
        .secure(&bytes)
        .map_err(|error| open::io_error(dir, "make the catalogue durable", error, 0))?;
    finish(&mut bank, &names)?;
    open::resize(&mut bank, wanted)?;
    Ok(bank)
}

fn read(dir: &Path, store: &dyn Store) -> Result<(Catalogue, Vec<u8>), OpenError> {
    let failed = |error| open::io_error(dir, "read the catalogue", error, 0);
    let header = store.read(CATALOGUE, HEADER as u64).map_err(failed)?;
    let geometry = read_header(&header).map_err(|flaw| flaw_error(dir, flaw))?;
    // One byte more than there should be, to see a file that is too long.
    let bytes = store
        .read(CATALOGUE, geometry.file_size() + 1)
        .map_err(failed)?;
    let catalogue = Catalogue::load(&bytes).map_err(|flaw| flaw_error(dir, flaw))?;
    Ok((catalogue, bytes))
}

fn flaw_error(dir: &Path, flaw: Flaw) -> OpenError {
    match flaw {
        Flaw::Version(found) => OpenError::Version {
            dir: dir.into(),
            found,
            known: VERSION,
        },
        Flaw::Damaged { what, offset } => OpenError::Damaged {
            dir: dir.into(),
            what,
            offset,
            cure: CURE,
        },
    }
}

/// What no single record shows: `consistency` tells the first that is at odds with another.
fn check_blocks(catalogue: &Catalogue) -> Result<(), Flaw> {
    let geometry = catalogue.geometry();
    let mut accepted = Accepted::new(*geometry);
    for (index, block) in catalogue.blocks().iter() {
        let at = geometry.at(Kind::Block, index);
        accepted
            .block(block)
            .map_err(|what| Flaw::damaged(what, at))?;
    }
    for (index, actor) in catalogue.actors().iter() {
        let at = geometry.at(Kind::Actor, index);
        accepted
            .actor(actor)
            .map_err(|what| Flaw::damaged(what, at))?;
    }
    Ok(())
}

type Actors = HashMap<ActorName, (u32, Vec<u8>)>;

/// Finds the file of every record, and reads the start data. A block's *size* is not looked at: an
/// actor that holds its fd can change it, and must not keep a site from starting by that; it is
/// checked when the block is handed out.
fn read_files(
    dir: &Path,
    store: &dyn Store,
    catalogue: &Catalogue,
    names: &[String],
) -> Result<Actors, OpenError> {
    let present: HashSet<&str> = names.iter().map(String::as_str).collect();
    let geometry = catalogue.geometry();
    for (index, block) in catalogue.blocks().iter() {
        let file = Numbered::Block(block.id).name();
        if !present.contains(file.as_str()) {
            let what = format!("the file {file} of block {} is missing", block.name);
            return Err(flaw_error(
                dir,
                Flaw::damaged(what, geometry.at(Kind::Block, index)),
            ));
        }
    }
    let mut actors = HashMap::new();
    for (index, actor) in catalogue.actors().iter() {
        let &ActorRecord {
            name,
            spec_id,
            spec_len,
            spec_crc,
            ..
        } = actor;
        let file = Numbered::Spec(spec_id).name();
        let damaged = |how: &str| {
            let what = format!("the file {file} of actor {name} is {how}");
            flaw_error(dir, Flaw::damaged(what, geometry.at(Kind::Actor, index)))
        };
        if !present.contains(file.as_str()) {
            return Err(damaged("missing"));
        }
        let spec = store
            .read(&file, spec_len + 1)
            .map_err(|error| open::io_error(dir, "read a registration", error, 0))?;
        if spec.len() as u64 != spec_len || crc32c::crc32c(&spec) != spec_crc {
            return Err(damaged("not as it was written"));
        }
        actors.insert(name, (index, spec));
    }
    Ok(actors)
}

/// A bank from what its catalogue says.
pub(crate) fn assemble(
    dir: &Path,
    store: Box<dyn Store>,
    catalogue: Catalogue,
    actors: Actors,
) -> Bank {
    let geometry = *catalogue.geometry();
    let blocks = catalogue.blocks().iter();
    let used = blocks.map(|(_, block)| block.size).sum();
    // Where the last controller stopped, though what it gave out last may be free again.
    let (block, actor) = (catalogue.blocks().last(), catalogue.actors().last());
    let behind = block
        .addr
        .saturating_add(block.size)
        .saturating_add(u64::from(geometry.page_size));
    Bank {
        dir: dir.into(),
        names: catalogue
            .blocks()
            .iter()
            .map(|(index, block)| (block.name, index))
            .collect(),
        actors,
        used,
        next_id: block.id.max(actor.id).saturating_add(1),
        cursor: behind.max(geometry.window.base),
        rebooted: false,
        store,
        catalogue,
    }
}

/// Finishes what was begun, removes files without a record, and takes note of this opening.
fn finish(bank: &mut Bank, names: &[String]) -> Result<(), OpenError> {
    let dir = bank.dir.clone();
    let failed = |doing: &'static str| {
        let dir = dir.clone();
        move |error| open::io_error(&dir, doing, error, 0)
    };
    if let Some(intent) = bank.catalogue.intent() {
        bank.carry_out(intent).map_err(|error| {
            failed("finish an interrupted change")(std::io::Error::other(error))
        })?;
    }
    let blocks = bank
        .catalogue
        .blocks()
        .iter()
        .map(|(_, block)| Numbered::Block(block.id));
    let specs = bank
        .catalogue
        .actors()
        .iter()
        .map(|(_, actor)| Numbered::Spec(actor.spec_id));
    let known: HashSet<Numbered> = blocks.chain(specs).collect();
    for name in names {
        let orphan = Numbered::parse(name).is_some_and(|file| !known.contains(&file));
        if !orphan && name != CATALOGUE_NEW && name != CATALOGUE_GONE {
            continue;
        }
        match bank.store.remove(name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("remove what an interrupted change left")(error));
            }
            _ => {}
        }
    }
    let before = *bank.catalogue.state();
    let state = opening_state(Some(&before));
    bank.rebooted = state.boot_id != before.boot_id;
    bank.catalogue
        .set_state(bank.store.as_mut(), state)
        .map_err(failed("write the catalogue"))
}
