//! A test actor that keeps its lives in a heap: `heaper FILE END...`, an END for each life, the last one for
//! all that follow.
//!
//! Each life writes into FILE which lives the heap knows of, adds itself in a transaction, begins another one that
//! must never be seen, and ends in the middle of that:
//!
//! | END | how |
//! | --- | --- |
//! | stray | not in a transaction: it writes to the heap's memory by another way |
//! | elsewhere | it writes to another heap's memory |
//! | thread | another thread of it writes to this heap |
//! | abort, panic | as they say |
//! | exit | `exit(3)` |
//! | stay | it rolls back, and stays |

use std::fs::File;
use std::io::Write;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use refrain::{Block, HR_GROUP_KEY};
use refrain_data::blocks::BlocksError;
use refrain_data::heap::{Heap, HeapVec};
use refrain_data::{Blocks, Memory, Region};

const SIZE: usize = 256 << 10;

refrain_data::heap_type! {
    #[derive(Default)]
    struct Root { lives: HeapVec<u32>, page: HeapVec<u64> }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A block as a structure's memory.
struct Held(Block);

impl Memory for Held {
    fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }

    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Blocks of this group, by name and number.
struct Named(&'static str);

impl Named {
    fn allocate(&self, number: u32, bytes: usize) -> Result<Block, BlocksError> {
        let name = format!("{}-{number}", self.0);
        Ok(refrain::pmm_allocate(&name, bytes as u64, HR_GROUP_KEY)?)
    }
}

impl Blocks for Named {
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError> {
        let block = Held(self.allocate(number, bytes)?);
        Ok(Region::new(Arc::new(block)).ok_or("a block begins at a page")?)
    }

    fn free(&mut self, _number: u32) -> Result<(), BlocksError> {
        Ok(())
    }

    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        Ok(NonZeroU64::new(refrain::attach()?.aid().0.into()).ok_or("an aid is not 0")?)
    }

    /// This actor is alone in its group.
    fn is_alive(&self, _writer: NonZeroU64) -> Result<bool, BlocksError> {
        Ok(false)
    }
}

fn main() -> Result<(), AnyError> {
    let mut words = std::env::args().skip(1);
    let file = words.next().ok_or("no file")?;
    let life = refrain::life()?.0;
    let ends: Vec<_> = words.collect();
    let end = ends.get(life as usize).or(ends.last()).ok_or("no end")?;
    let mut heap = Heap::<Root>::open(Named("heap"), SIZE)?;
    let other = Heap::<Root>::open(Named("other"), SIZE)?;
    let mut file = File::options().append(true).create(true).open(file)?;
    let block = Named("heap").allocate(1, SIZE)?;
    writeln!(file, "{:?} {:p}", heap.root().lives, block.as_ptr())?;
    heap.update(|root| {
        root.lives.push(life);
        root.page.resize(5000, 1);
    })?;
    if end == "stray" {
        block.write(SIZE / 4, b"stray")?;
    }
    let foreign = Named("other").allocate(1, SIZE)?;
    let never: Result<(), AnyError> = heap.transaction(|root| {
        root.lives.extend(1000..2000);
        match end.as_str() {
            "elsewhere" => foreign.write(SIZE / 4, b"stray")?,
            "thread" => {
                let page: &mut [u64] = root.page.as_mut_slice();
                std::thread::scope(|scope| scope.spawn(|| page.fill(2)).join().is_ok());
            }
            "abort" => std::process::abort(),
            "panic" => panic!("in a transaction"),
            "exit" => std::process::exit(3),
            _ => {}
        }
        Err("rolled back".into())
    });
    drop((other, never));
    loop {
        std::thread::park();
    }
}
