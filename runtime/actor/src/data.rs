//! Structures of crate `refrain-data` in blocks of the bank (SPEC H32).
//!
//! Called by actors, which pass [`named`] where a structure asks for its blocks. This module knows names and who
//! asks; what is in the blocks is `refrain-data`'s part. It must never hand out a block of another name.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use refrain_abi::request::ErrorCode;
use refrain_abi::{Aid, DeletionKey};

use crate::block::Block;

use self::blocks::BlocksError;
pub use refrain_data::*;

/// The blocks of the structure called `name`: its root has that name, and its further blocks have a number
/// behind it (`name.1`, `name.2` ...). They are allocated with `key` as they are asked for.
///
/// Nothing is done before a structure is opened with it.
///
/// ```no_run
/// use refrain::{Cell, HR_GROUP_KEY, Log, Map, named};
///
/// let mut lives = Cell::<u64>::open(named("lives", HR_GROUP_KEY))?;
/// println!("life number {}", lives.update(|lives| { *lives += 1; *lives }));
///
/// let mut stock = Map::<u64, [u32; 4]>::open(named("stock", HR_GROUP_KEY), 10_000)?;
/// stock.insert(&17, &[1, 0, 0, 2])?;
///
/// let mut latencies = Log::<u32>::open(named("latencies", HR_GROUP_KEY), 1000)?;
/// latencies.append(&250);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn named(name: &str, key: DeletionKey) -> Named {
    let name = name.to_owned();
    Named { name, key }
}

/// The blocks of a structure in the bank: see [`named`].
#[derive(Clone, Debug)]
pub struct Named {
    name: String,
    key: DeletionKey,
}

impl Named {
    /// The name of block `number`.
    fn block_name(&self, number: u32) -> String {
        match number {
            0 => self.name.clone(),
            number => format!("{}.{number}", self.name),
        }
    }
}

impl Memory for Block {
    fn words(&self) -> &[AtomicU64] {
        self.words()
    }

    fn sync(&self) -> io::Result<()> {
        self.mapped.mapping.flush()
    }
}

impl Blocks for Named {
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError> {
        let block = crate::pmm_allocate(&self.block_name(number), bytes as u64, self.key)?;
        Ok(Region::new(Arc::new(block)).ok_or("a block begins at a page")?)
    }

    fn free(&mut self, number: u32) -> Result<(), BlocksError> {
        match crate::pmm_free(&self.block_name(number)) {
            Err(error) if error.code() != Some(ErrorCode::NotFound) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        let aid = u64::from(crate::attach()?.aid().0);
        Ok(NonZeroU64::new(aid).ok_or("a life has an aid")?)
    }

    /// An ordinary actor may not ask (SPEC H2), and takes it that the other one has ended.
    fn is_alive(&self, writer: NonZeroU64) -> Result<bool, BlocksError> {
        let Ok(aid) = u32::try_from(writer.get()) else {
            return Ok(false);
        };
        match crate::hr_get_actor_group(Aid(aid)) {
            Ok(_) => Ok(true),
            Err(error) => match error.code() {
                Some(ErrorCode::NotFound | ErrorCode::Denied) => Ok(false),
                _ => Err(error.into()),
            },
        }
    }
}
