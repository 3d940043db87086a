//! The bank's blocks: allocate, free, grant (SPEC H15 to H20). Called by the controller's boot
//! actor PMM, for a life that asks on its socket or for itself.
//!
//! Order of every change: a block's file comes before its record and goes after it, so a file
//! without a record is what a crash leaves behind, and a record without a file never is. A change
//! of several records goes through an intent (`intent`).
//!
//! It must never map a block or read one: its content is the actors' own.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use refrain_abi::{ActorName, BlockName, DeletionKey, Gid};
use rustix::io::Errno;

use crate::access::{Owner, may_grant, may_use};
use crate::catalogue::Catalogue;
use crate::error::{FullError, PmmError};
use crate::inventory::Block;
use crate::layout::MAX_GRANTS;
use crate::record::{BlockRecord, Intent};
use crate::space::{self, Window};
use crate::store::{Medium, Numbered, Store};

/// A bank that is open, and locked until this value is dropped.
pub struct Bank {
    pub(crate) dir: PathBuf,
    pub(crate) store: Box<dyn Store>,
    pub(crate) catalogue: Catalogue,
    /// Record of each block, by name.
    pub(crate) names: HashMap<BlockName, u32>,
    /// Record of each registration, by name, with its start data.
    pub(crate) actors: HashMap<ActorName, (u32, Vec<u8>)>,
    /// Bytes in blocks.
    pub(crate) used: u64,
    /// The number of the next file.
    pub(crate) next_id: u64,
    /// Where the search for an address begins.
    pub(crate) cursor: u64,
    /// Whether the machine was booted since the bank was open last.
    pub(crate) rebooted: bool,
}

impl std::fmt::Debug for Bank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bank")
            .field("dir", &self.dir)
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

impl Bank {
    /// The bank's directory, as it was given.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the bank lies on.
    #[must_use]
    pub fn medium(&self) -> Medium {
        self.store.medium()
    }

    /// Whether the machine was booted since the bank was open last: of the lives that its
    /// registrations speak of, none is left.
    #[must_use]
    pub fn rebooted(&self) -> bool {
        self.rebooted
    }

    /// Base and size in bytes of the window that blocks are mapped in. They are those of the bank's
    /// making, whatever the options say now: blocks may hold pointers into blocks.
    #[must_use]
    pub fn window(&self) -> (u64, u64) {
        let Window { base, size } = self.catalogue.geometry().window;
        (base, size)
    }

    /// Finds a block, or makes it: zeroed, all its pages provided. `size` is in bytes and rounded up
    /// to whole pages; `key` counts for a new block only. Source: SPEC H15, H16, H20; pmmAllocate(2K).
    ///
    /// # Errors
    /// [`PmmError`]: denied, another size, full; nothing has changed then.
    pub fn allocate(
        &mut self,
        name: BlockName,
        size: u64,
        key: DeletionKey,
        by: Owner,
    ) -> Result<Block, PmmError> {
        if size == 0 {
            return Err(PmmError::ZeroSize { name });
        }
        if key == DeletionKey::Group && !matches!(by, Owner::Group(_)) {
            return Err(PmmError::NoGroup { name, owner: by });
        }
        if by == Owner::Group(Gid(Gid::NONE_ON_WIRE)) {
            return Err(PmmError::BadGid {
                gid: Gid(Gid::NONE_ON_WIRE),
            });
        }
        let page = u64::from(self.catalogue.geometry().page_size);
        let asked = size.checked_next_multiple_of(page).unwrap_or(size);
        match self.names.get(&name) {
            Some(&index) => self.hand_out(index, asked, by),
            None => self.make(name, asked, key, by),
        }
    }

    /// Opens a block that is there, whatever its size, as [`Bank::allocate`] hands it out. Nothing is made.
    ///
    /// # Errors
    /// [`PmmError::NotFound`], [`PmmError::Denied`], or the medium failed.
    pub fn open_block(&self, name: BlockName, by: Owner) -> Result<Block, PmmError> {
        let index = self.find(name)?;
        self.hand_out(index, self.block(index).size, by)
    }

    /// Which block has a name now: a number that no other block of this bank ever has.
    #[must_use]
    pub fn block_id(&self, name: BlockName) -> Option<u64> {
        self.names.get(&name).map(|index| self.block(*index).id)
    }

    fn hand_out(&self, index: u32, asked: u64, by: Owner) -> Result<Block, PmmError> {
        let block = self.block(index);
        let &BlockRecord {
            name, size, addr, ..
        } = block;
        check_use(block, by)?;
        if size != asked {
            return Err(PmmError::SizeMismatch {
                name,
                has: size,
                asked,
            });
        }
        let opened = self.store.open(&Numbered::Block(block.id).name());
        let (fd, has) = opened.map_err(|source| PmmError::Io {
            doing: format!("open block {name}"),
            source,
        })?;
        if has != size {
            return Err(PmmError::Damaged { name, has, size });
        }
        Ok(Block {
            addr,
            size,
            existed: true,
            fd,
        })
    }

    fn make(
        &mut self,
        name: BlockName,
        size: u64,
        key: DeletionKey,
        owner: Owner,
    ) -> Result<Block, PmmError> {
        self.check_writable()?;
        let geometry = *self.catalogue.geometry();
        let max = geometry.max_blocks;
        let index = self
            .catalogue
            .blocks()
            .first_free()
            .ok_or(FullError::Blocks { name, max })?;
        let free = geometry.size.saturating_sub(self.used);
        if size > free {
            return Err(FullError::Bank {
                name,
                asked: size,
                free,
                size: geometry.size,
            }
            .into());
        }
        let guard = u64::from(geometry.page_size);
        let mut taken: Vec<_> = self
            .names
            .values()
            .map(|index| self.block(*index))
            .map(|block| (block.addr, block.size))
            .collect();
        let addr = space::place(geometry.window, &mut taken, self.cursor, size, guard)
            .ok_or(FullError::Window { name, asked: size })?;
        let id = self.next_id;
        let file = Numbered::Block(id).name();
        self.next_id += 1;
        let fd = self
            .store
            .create(&file, size, &[])
            .map_err(|source| medium_error(source, format!("block {name}"), size))?;
        let record = BlockRecord {
            name,
            id,
            addr,
            size,
            owner,
            key,
            granted: Vec::new(),
        };
        self.write(format!("record block {name}"), |catalogue, store| {
            catalogue.set_block(store, index, Some(record))
        })?;
        self.names.insert(name, index);
        self.used += size;
        self.cursor = addr + size + guard;
        Ok(Block {
            addr,
            size,
            existed: false,
            fd,
        })
    }

    /// Frees a block. Actors that have it mapped keep what they see until they unmap it.
    /// Source: SPEC H17; pmmFree(2K).
    ///
    /// # Errors
    /// [`PmmError::NotFound`], [`PmmError::Denied`], or the medium failed.
    pub fn free(&mut self, name: BlockName, by: Owner) -> Result<(), PmmError> {
        let index = self.find(name)?;
        check_use(self.block(index), by)?;
        self.check_writable()?;
        self.release(index)
    }

    /// Frees every block with a key that `by` may use, and says how many those were.
    /// Source: SPEC H17; pmmFreeAll(2K).
    ///
    /// # Errors
    /// [`PmmError::GroupKey`] for `HR_GROUP_KEY`, or the medium failed.
    pub fn free_all(&mut self, key: DeletionKey, by: Owner) -> Result<u32, PmmError> {
        match key {
            DeletionKey::Group => Err(PmmError::GroupKey),
            DeletionKey::Opaque(key) => self.intend(Intent::FreeKey { key, by }),
        }
    }

    /// Frees the `HR_GROUP_KEY` blocks of a group that has terminated, and says how many those were.
    /// Blocks with keys of the group's own stay. Source: SPEC H18, H22.
    ///
    /// # Errors
    /// The medium failed.
    pub fn terminate_group(&mut self, gid: Gid) -> Result<u32, PmmError> {
        self.intend(Intent::EndGroup { gid })
    }

    /// Lets another group use a block, until it is freed. Source: SPEC H19.
    ///
    /// # Errors
    /// [`PmmError::NotFound`], [`PmmError::Denied`] (only the owner grants), [`FullError::Grants`].
    pub fn grant(&mut self, name: BlockName, to: Gid, by: Owner) -> Result<(), PmmError> {
        let index = self.find(name)?;
        let mut block = self.block(index).clone();
        if !may_grant(by, block.owner) {
            return Err(PmmError::Denied {
                name,
                owner: block.owner,
            });
        }
        if to.0 == Gid::NONE_ON_WIRE {
            return Err(PmmError::BadGid { gid: to });
        }
        if block.owner == Owner::Group(to) || block.granted.contains(&to) {
            return Ok(());
        }
        if block.granted.len() == MAX_GRANTS {
            return Err(FullError::Grants {
                name,
                max: MAX_GRANTS as u32,
            }
            .into());
        }
        self.check_writable()?;
        block.granted.push(to);
        self.write(format!("grant block {name}"), |catalogue, store| {
            catalogue.set_block(store, index, Some(block))
        })
    }

    pub(crate) fn block(&self, index: u32) -> &BlockRecord {
        self.catalogue
            .blocks()
            .get(index)
            .expect("the index of names lists used records")
    }

    fn find(&self, name: BlockName) -> Result<u32, PmmError> {
        self.names
            .get(&name)
            .copied()
            .ok_or(PmmError::NotFound { name })
    }

    pub(crate) fn check_writable(&self) -> Result<(), PmmError> {
        if self.catalogue.poisoned() || self.store.failed() {
            Err(PmmError::Poisoned)
        } else {
            Ok(())
        }
    }

    /// Carries out a change of the catalogue.
    pub(crate) fn write(
        &mut self,
        doing: String,
        change: impl FnOnce(&mut Catalogue, &mut dyn Store) -> io::Result<()>,
    ) -> Result<(), PmmError> {
        change(&mut self.catalogue, self.store.as_mut())
            .map_err(|source| PmmError::Io { doing, source })
    }

    /// Removes a file whose record is gone.
    pub(crate) fn remove_file(&mut self, file: Numbered) -> Result<(), PmmError> {
        let name = file.name();
        self.write(format!("remove {name}"), |catalogue, store| {
            let result = match store.remove(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result,
            };
            catalogue.note(result)
        })
    }

    /// Frees a block that may be freed: its record first, then its file.
    pub(crate) fn release(&mut self, index: u32) -> Result<(), PmmError> {
        let &BlockRecord { name, id, size, .. } = self.block(index);
        self.write(format!("free block {name}"), |catalogue, store| {
            catalogue.set_block(store, index, None)
        })?;
        self.names.remove(&name);
        self.used -= size;
        self.remove_file(Numbered::Block(id))
    }
}

fn check_use(block: &BlockRecord, by: Owner) -> Result<(), PmmError> {
    if may_use(by, block.owner, &block.granted) {
        Ok(())
    } else {
        Err(PmmError::Denied {
            name: block.name,
            owner: block.owner,
        })
    }
}

/// A file that could not be made: full, or broken.
pub(crate) fn medium_error(source: io::Error, what: String, asked: u64) -> PmmError {
    match Errno::from_io_error(&source) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::NOMEM) => {
            FullError::Medium { what, asked }.into()
        }
        _ => PmmError::Io {
            doing: format!("make the file of {what}"),
            source,
        },
    }
}
