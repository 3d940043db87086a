//! Persistent memory for actors (SPEC H15 to H19): the asking side of PMM.
//!
//! Called by any actor, restartable or not. This module keeps what the life has mapped, so that
//! a second `pmm_allocate` of a name finds the mapping that is there. It must never map a block
//! anywhere but at the address that the controller names, and never unmap one that a handle
//! still points to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, Weak};

use refrain_abi::request::{ErrorCode, Reply, Request};
use refrain_abi::{BlockName, DeletionKey, Gid, NameError};
use refrain_sys::mapping;

use crate::attach::{Actor, AttachError, attach};
use crate::block::{Block, Mapped};
use crate::link::{Answer, RequestError, lock, unexpected};

/// `HR_GROUP_KEY`: ties a block to the caller's restart group; it is freed by itself when the
/// group terminates. Source: SPEC H18, ChorusOS `pmmAllocate(2RESTART)`.
pub const HR_GROUP_KEY: DeletionKey = DeletionKey::Group;

/// Why persistent memory was not allocated, freed or granted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PmmError {
    /// The program is no actor.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The text is no name of a block.
    #[error("{name:?} is no name of a block: {why}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        #[source]
        why: NameError,
    },
    /// The controller refused, or does not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The block's place is taken in this life.
    #[error(
        "block {name} belongs at {addr:#x}, where this life has something else mapped; \
         drop the handles of freed blocks, or move pmm.window_base"
    )]
    PlaceTaken {
        /// The block.
        name: BlockName,
        /// Its address.
        addr: u64,
    },
    /// The block could not be mapped.
    #[error("cannot map block {name} at {addr:#x}: {why}")]
    Map {
        /// The block.
        name: BlockName,
        /// Its address.
        addr: u64,
        /// What the kernel says.
        #[source]
        why: io::Error,
    },
}

impl PmmError {
    /// The controller's family of refusal; `None` where it did not come from there.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Request(error) | Self::Attach(AttachError::Request(error)) => error.code(),
            _ => None,
        }
    }
}

/// What this life has mapped. Few blocks, so a list; looked at only when one is allocated.
#[derive(Debug, Default)]
pub(crate) struct Mappings(Vec<Arc<Mapped>>);

impl Mappings {
    /// Maps the block that a reply describes, or finds it mapped already.
    fn place(
        &mut self,
        name: BlockName,
        key: DeletionKey,
        reply: BlockReply,
    ) -> Result<Arc<Mapped>, PmmError> {
        let BlockReply { addr, size, fd } = reply;
        let map_error = |why| PmmError::Map { name, addr, why };
        let fd = File::from(fd);
        let about = fd.metadata().map_err(map_error)?;
        let file = (about.dev(), about.ino());
        let same = |mapped: &&Arc<Mapped>| mapped.addr == addr && mapped.file == file;
        if let Some(mapped) = self.0.iter().find(same) {
            return Ok(Arc::clone(mapped));
        }
        let end = addr.saturating_add(size);
        let overlaps =
            |mapped: &Mapped| mapped.addr < end && addr < mapped.addr + mapped.mapping.len() as u64;
        // The bank's blocks never overlap, so what lies here was freed since, by this actor or
        // another. Its pages go once the last handle is dropped.
        self.0
            .retain(|mapped| mapped.name != name && !overlaps(mapped));
        let mut shared = lock(&SHARED);
        shared.retain(|mapped| mapped.strong_count() > 0);
        let others: Vec<_> = shared.iter().filter_map(Weak::upgrade).collect();
        if let Some(mapped) = others.iter().find(same) {
            self.0.push(Arc::clone(mapped));
            return Ok(Arc::clone(mapped));
        }
        let len =
            usize::try_from(size).map_err(|_| map_error(io::ErrorKind::OutOfMemory.into()))?;
        let mapping =
            mapping::map_block_fixed(fd.as_fd(), addr, len).map_err(|why| match why.kind() {
                io::ErrorKind::AlreadyExists => PmmError::PlaceTaken { name, addr },
                _ => map_error(why),
            })?;
        let mapped = Arc::new(Mapped {
            mapping,
            name,
            key,
            addr,
            file,
        });
        self.0.push(Arc::clone(&mapped));
        shared.push(Arc::downgrade(&mapped));
        Ok(mapped)
    }

    /// The name of a block that is mapped, if one is.
    pub(crate) fn first_name(&self) -> Option<BlockName> {
        self.0.first().map(|mapped| mapped.name)
    }

    fn forget(&mut self, gone: impl Fn(&Mapped) -> bool) {
        self.0.retain(|mapped| !gone(mapped));
    }
}

/// What every actor of this process has mapped. A user actor is one process; of supervisor actors a process
/// has many, and a block has one place there, too.
static SHARED: Mutex<Vec<Weak<Mapped>>> = Mutex::new(Vec::new());

struct BlockReply {
    addr: u64,
    size: u64,
    fd: OwnedFd,
}

impl Actor {
    /// See [`pmm_allocate`](crate::pmm_allocate).
    ///
    /// # Errors
    /// [`PmmError`].
    pub fn pmm_allocate(&self, name: &str, size: u64, key: DeletionKey) -> Result<Block, PmmError> {
        let name = block_name(name)?;
        let request = Request::PmmAllocate { name, size, key };
        self.link().check_own()?;
        // Held across the request: two threads that allocate one name must not both map it.
        let mut mappings = lock(self.mappings());
        if let Some(reply) = self.block_ahead(name, size) {
            let mapped = mappings.place(name, key, reply)?;
            return Ok(Block {
                mapped,
                existed: true,
            });
        }
        let answer = self.link().ask(&request, &[])?;
        let Answer {
            reply:
                Reply::Block {
                    addr,
                    size,
                    existed,
                },
            ..
        } = answer
        else {
            return Err(unexpected(&request).into());
        };
        let fd = answer.only_fd("pmm_allocate")?;
        let mapped = mappings.place(name, key, BlockReply { addr, size, fd })?;
        Ok(Block { mapped, existed })
    }

    /// The block, if it came before this life began and was not freed since. The controller has checked
    /// then what it checks when it is asked, but for the size, which is compared here; one that does
    /// not fit is the controller's to refuse.
    fn block_ahead(&self, name: BlockName, size: u64) -> Option<BlockReply> {
        let pages = size.checked_next_multiple_of(mapping::page_size())?;
        let block = self.link().block_ahead(name, self.block_epoch())?;
        (block.size == pages).then_some(BlockReply {
            addr: block.addr,
            size: block.size,
            fd: block.fd,
        })
    }

    /// See [`pmm_free`](crate::pmm_free).
    ///
    /// # Errors
    /// [`PmmError`].
    pub fn pmm_free(&self, name: &str) -> Result<(), PmmError> {
        let name = block_name(name)?;
        self.done(&Request::PmmFree { name })?;
        lock(self.mappings()).forget(|mapped| mapped.name == name);
        Ok(())
    }

    /// See [`pmm_free_all`](crate::pmm_free_all).
    ///
    /// # Errors
    /// [`PmmError`].
    pub fn pmm_free_all(&self, key: DeletionKey) -> Result<u32, PmmError> {
        let freed = self.done(&Request::PmmFreeAll { key })?;
        lock(self.mappings()).forget(|mapped| mapped.key == key);
        Ok(freed)
    }

    /// See [`pmm_grant`](crate::pmm_grant).
    ///
    /// # Errors
    /// [`PmmError`].
    pub fn pmm_grant(&self, name: &str, gid: Gid) -> Result<(), PmmError> {
        self.done(&Request::PmmGrant {
            name: block_name(name)?,
            gid,
        })?;
        Ok(())
    }
}

fn block_name(name: &str) -> Result<BlockName, PmmError> {
    BlockName::new(name).map_err(|why| PmmError::Name {
        name: name.to_owned(),
        why,
    })
}

/// Maps the block called `name`, as it was left, or allocates it, zeroed, if there is none.
///
/// `size` is in bytes and rounded up to whole pages. `key` frees many blocks at once; with
/// [`HR_GROUP_KEY`] the block goes when the caller's group does. A second call for the same
/// name in one life gives the same memory. Source: SPEC H15 to H19, ChorusOS `pmmAllocate`.
///
/// # Errors
/// [`PmmError`]: no actor, no name, a size other than that of the block that is there, a full
/// bank, another group's block.
///
/// ```no_run
/// use refrain::{DeletionKey, HR_GROUP_KEY, pmm_allocate};
/// let journal = pmm_allocate("journal", 64 << 10, HR_GROUP_KEY)?;
/// if journal.existed() {
///     println!("a life before this one left {} bytes at {:p}", journal.len(), journal.as_ptr());
/// }
/// let key = DeletionKey::opaque(b"cache").expect("five bytes are a key");
/// let cache = pmm_allocate("cache", 1 << 20, key)?;
/// cache.write(0, b"warm")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pmm_allocate(name: &str, size: u64, key: DeletionKey) -> Result<Block, PmmError> {
    attach()?.pmm_allocate(name, size, key)
}

/// Frees the block called `name`. Whoever may access a block may free it (SPEC H17).
///
/// Handles to it that are left keep their memory, which belongs to nobody else any more.
///
/// # Errors
/// [`PmmError`]: no actor, no such block, another group's block.
///
/// ```no_run
/// refrain::pmm_free("journal")?;
/// # Ok::<(), refrain::PmmError>(())
/// ```
pub fn pmm_free(name: &str) -> Result<(), PmmError> {
    attach()?.pmm_free(name)
}

/// Frees every block that was allocated with `key`, and says how many those were (SPEC H17).
///
/// # Errors
/// [`PmmError`]: no actor, or [`HR_GROUP_KEY`], whose blocks go with the group or by name.
///
/// ```no_run
/// let key = refrain::DeletionKey::opaque(b"cache").expect("five bytes are a key");
/// println!("{} blocks freed", refrain::pmm_free_all(key)?);
/// # Ok::<(), refrain::PmmError>(())
/// ```
pub fn pmm_free_all(key: DeletionKey) -> Result<u32, PmmError> {
    attach()?.pmm_free_all(key)
}

/// Lets the actors of group `gid` use the block called `name` as the caller's own do (SPEC H19).
///
/// # Errors
/// [`PmmError`]: no actor, no such block, another group's block, too many grants.
///
/// ```no_run
/// refrain::pmm_grant("journal", refrain::Gid(2))?;
/// # Ok::<(), refrain::PmmError>(())
/// ```
pub fn pmm_grant(name: &str, gid: Gid) -> Result<(), PmmError> {
    attach()?.pmm_grant(name, gid)
}
