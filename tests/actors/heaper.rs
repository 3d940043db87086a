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

use refrain::data::heap::{Heap, HeapVec};
use refrain::{HR_GROUP_KEY, named, pmm_allocate};

const SIZE: usize = 256 << 10;

refrain::data::heap_type! {
    #[derive(Default)]
    struct Root { lives: HeapVec<u32>, page: HeapVec<u64> }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let mut words = std::env::args().skip(1);
    let file = words.next().ok_or("no file")?;
    let life = refrain::life()?.0;
    let ends: Vec<_> = words.collect();
    let end = ends.get(life as usize).or(ends.last()).ok_or("no end")?;
    let mut heap = Heap::<Root>::open(named("heap", HR_GROUP_KEY), SIZE)?;
    let other = Heap::<Root>::open(named("other", HR_GROUP_KEY), SIZE)?;
    let mut file = File::options().append(true).create(true).open(file)?;
    let block = pmm_allocate("heap.1", SIZE as u64, HR_GROUP_KEY)?;
    writeln!(file, "{:?} {:p}", heap.root().lives, block.as_ptr())?;
    heap.update(|root| {
        root.lives.push(life);
        root.page.resize(5000, 1);
    })?;
    if end == "stray" {
        block.write(SIZE / 4, b"stray")?;
    }
    let foreign = pmm_allocate("other.1", SIZE as u64, HR_GROUP_KEY)?;
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
