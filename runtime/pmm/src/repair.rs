//! Mending a bank that a site refuses to start on, or that hands out no block for a damaged file
//! (`c_init bank repair`). Called by a person who has seen the plan; a site never calls it.
//!
//! A plan is made under the bank's lock and says every step in words; carrying it out takes those
//! steps and no other. What is sound (`examine`) goes into a new catalogue, which takes the place of
//! the old one in one step; that is the change. Everything that the change leaves without a name has
//! been given one in `lost+found-N` before: the old catalogue with its damaged records, files that
//! no sound record names, what a file had behind its block's end.
//!
//! | step | after a crash behind it |
//! | --- | --- |
//! | 1. `lost+found-N` made | the bank as it was |
//! | 2. old catalogue and nameless files linked into it | the same; those files have two names |
//! | 3. blocks' files brought to their size | the same; blocks that were damaged are whole |
//! | 4. new catalogue written beside the old one, renamed | repaired; the next start removes what is left |
//! | 5. nameless files removed from the bank | repaired |
//!
//! A repair that stopped between is simply made again; it uses the next N. Where the file system
//! has no links, the catalogue is copied and nameless files are moved in step 2; they are out of the
//! bank's reach then, but no record that is sound has missed them.
//!
//! It must never touch a block whose record and file are whole, nor remove the last name of a file.

use std::io;
use std::path::{Path, PathBuf};

use crate::catalogue::Catalogue;
use crate::directory::lock_directory;
use crate::error::{CheckError, OpenError};
use crate::examine::{Examined, Resize};
use crate::open::{install, io_error};
use crate::store::{CATALOGUE, DirStore, LOST_AND_FOUND, Store};
use crate::survey::{Look, Survey};

/// A repair that is planned; the bank is locked as long as it is.
pub struct Repair {
    dir: PathBuf,
    store: Box<dyn Store>,
    look: Look,
    examined: Examined,
    /// The directory for what is kept, seen from the bank's.
    kept: String,
    steps: Vec<String>,
}

impl std::fmt::Debug for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repair")
            .field("dir", &self.dir)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl Repair {
    /// Plans the repair of the bank in a directory, and changes nothing.
    ///
    /// # Errors
    /// [`CheckError`]: there is no bank, a site holds it, it belongs to somebody else, it is of another
    /// version, or it cannot be read.
    pub fn plan(dir: &Path) -> Result<Self, CheckError> {
        plan_with(dir, |store| Box::new(store))
    }

    /// What there is to do, one step a line; nothing for a bank without damage.
    #[must_use]
    pub fn steps(&self) -> &[String] {
        &self.steps
    }

    /// Does it. Answers the directory in which everything was kept that is not the bank's any more.
    ///
    /// # Errors
    /// [`CheckError::Repair`]; no block is lost by that.
    pub fn carry_out(mut self) -> Result<PathBuf, CheckError> {
        if self.steps.is_empty() {
            return Ok(self.dir);
        }
        let kept = self.kept.clone();
        let made = self.store.make_directory(&kept);
        made.map_err(|error| self.failed(format!("make {kept}"), error))?;
        if self.examined.rewrite {
            self.keep_catalogue()?;
        }
        for name in self.examined.orphans.clone() {
            let kept = self.keep(&name);
            kept.map_err(|error| self.failed(format!("keep {name}"), error))?;
        }
        for resize in self.examined.resizes.clone() {
            let resized = self.resize(&resize);
            let name = resize.file.name();
            resized.map_err(|error| self.failed(format!("mend {name}"), error))?;
        }
        if self.examined.rewrite {
            let catalogue = sound(&self.examined);
            install(&self.dir, self.store.as_mut(), &catalogue)?;
        }
        for name in &self.examined.orphans {
            match self.store.remove(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed(format!("remove {name}"), error));
                }
                _ => {}
            }
        }
        Ok(self.dir.join(&self.kept))
    }

    fn keep_catalogue(&mut self) -> Result<(), CheckError> {
        let Some(bytes) = &self.look.bytes else {
            return Ok(());
        };
        let to = format!("{}/{CATALOGUE}", self.kept);
        let done = match self.store.link(CATALOGUE, &to) {
            Ok(false) => self
                .store
                .create(&to, bytes.len() as u64, &[(0, bytes)])
                .map(drop),
            linked => linked.map(drop),
        };
        done.map_err(|error| self.failed("keep the old catalogue".into(), error))
    }

    fn keep(&mut self, name: &str) -> io::Result<()> {
        let to = format!("{}/{name}", self.kept);
        match self.store.link(name, &to)? {
            true => Ok(()),
            false => self.store.rename(name, &to),
        }
    }

    fn resize(&mut self, resize: &Resize) -> io::Result<()> {
        let name = resize.file.name();
        if resize.has > resize.size {
            let tail = tail_of(&self.kept, &name);
            self.store.keep_tail(&name, resize.size, &tail)?;
        }
        self.store.set_size(&name, resize.size)
    }

    fn failed(&self, doing: String, source: io::Error) -> CheckError {
        CheckError::Repair {
            dir: self.dir.clone(),
            doing,
            source,
        }
    }
}

fn tail_of(kept: &str, name: &str) -> String {
    format!("{kept}/{name}.tail")
}

/// The catalogue of what is sound.
fn sound(examined: &Examined) -> Catalogue {
    let blocks = examined.blocks.iter().map(|block| block.record.clone());
    Catalogue::assembled(
        examined.geometry,
        examined.state,
        examined.intent,
        blocks.collect(),
        examined.actors.clone(),
    )
}

/// [`Repair::plan`] with a hand on every step.
pub(crate) fn plan_with(
    dir: &Path,
    wrap: impl FnOnce(DirStore) -> Box<dyn Store>,
) -> Result<Repair, CheckError> {
    // Locking makes a directory that is missing, so this comes first.
    Survey::of(dir)?;
    let (fd, _) = lock_directory(dir)?;
    let store = DirStore::new(fd)
        .map_err(|error| io_error(dir, "examine the file system", error, 0))
        .map_err(CheckError::from)?;
    let store = wrap(store);
    let look = Look::take(dir, store.as_ref())?;
    let examined = look.examine(dir, store.as_ref())?;
    check_page_size(dir, &examined)?;
    let kept = free_name(&look.names);
    let steps = steps(&examined, &kept, look.bytes.is_some());
    Ok(Repair {
        dir: dir.into(),
        store,
        look,
        examined,
        kept,
        steps,
    })
}

fn check_page_size(dir: &Path, examined: &Examined) -> Result<(), CheckError> {
    let (made, here) = (
        examined.geometry.page_size,
        rustix::param::page_size() as u32,
    );
    if made == here {
        return Ok(());
    }
    let what = format!("made for pages of {made} bytes, here they have {here}");
    Err(OpenError::Geometry {
        dir: dir.into(),
        what,
        cure: "repair it on the machine that made it",
    }
    .into())
}

fn free_name(names: &[String]) -> String {
    let mut number = 1u32;
    loop {
        let name = format!("{LOST_AND_FOUND}-{number}");
        if !names.contains(&name) {
            return name;
        }
        number += 1;
    }
}

fn steps(examined: &Examined, kept: &str, has_catalogue: bool) -> Vec<String> {
    if examined.damage.is_empty() {
        return Vec::new();
    }
    let mut steps = Vec::new();
    if examined.rewrite && has_catalogue {
        steps.push(format!(
            "keep the old catalogue as {}",
            format_args!("{kept}/{CATALOGUE}")
        ));
    }
    let orphans = examined.orphans.iter();
    steps
        .extend(orphans.map(|name| format!("move {name}, which no sound record names, to {kept}")));
    for damage in &examined.damage {
        let offset = damage.offset.map(|at| format!(" (catalogue offset {at})"));
        let offset = offset.unwrap_or_default();
        steps.push(format!("{}{offset}: {}", damage.what, damage.mend));
    }
    let longer = examined.resizes.iter().filter(|it| it.has > it.size);
    steps.extend(longer.map(|it| {
        let name = it.file.name();
        format!("keep what is cut from {name} as {}", tail_of(kept, &name))
    }));
    if examined.rewrite {
        steps.push(format!(
            "write the catalogue anew, with {} blocks and {} registrations",
            examined.blocks.len(),
            examined.actors.len()
        ));
    }
    steps
}
