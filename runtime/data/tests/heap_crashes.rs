//! A crash after every instruction of every kind of transaction on a heap, of its making, of its migration and
//! of its recovery (SPEC H32), with the real code to recover.
//!
//! A heap is opened at the address that it was made at. So the operation runs in a child that puts its
//! memory in the place of the copy (`lay_over`), and each image is opened in the copy, in this one.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use refrain_data::blocks::BlocksError;
use refrain_data::heap::{Heap, HeapBox, HeapError, HeapMap, HeapOpenError, HeapString, HeapVec};
use refrain_data::{Blocks, Region};
use refrain_step::{done_stepping, lay_over, step};
use refrain_sys::mapping::{SharedWords, create_words};

const PAGE: usize = 4096;
/// Large enough for a front, a map and six pages of values.
const SIZE: usize = 17 * PAGE;

refrain_data::heap_type! {
    #[derive(Default)]
    struct Store {
        names: HeapMap<u64, HeapString>,
        list: HeapVec<u64>,
        last: Option<HeapBox<u64>>,
    }
}

refrain_data::heap_type! {
    #[derive(Default)]
    struct Next { list: HeapVec<u64>, more: Option<HeapBox<[u64; 40]>> }
}

/// What is in a heap: who it was opened as, values, bytes in use.
type State = (&'static str, Vec<(u64, String)>, Vec<u64>, u64);

/// The blocks of a heap: the first page, and the rest.
#[derive(Clone)]
struct Two(Arc<SharedWords>);

impl Blocks for Two {
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError> {
        let all = Region::new(Arc::clone(&self.0)).ok_or("a memfd begins at a page")?;
        let (offset, len) = if number == 0 { (0, PAGE) } else { (PAGE, SIZE) };
        assert!(bytes <= len, "block {number} of {bytes} bytes");
        Ok(all.part(offset, len).ok_or("a block lies inside")?)
    }

    fn free(&mut self, _number: u32) -> Result<(), BlocksError> {
        Ok(())
    }

    /// Each is another life, and those before have ended.
    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = u64::from(std::process::id()) << 32 | NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(NonZeroU64::new(number).ok_or("a pid is not 0")?)
    }

    fn is_alive(&self, _writer: NonZeroU64) -> Result<bool, BlocksError> {
        Ok(false)
    }
}

/// Two memories; the one that is worked on is seen from elsewhere.
struct Memories {
    work: (OwnedFd, SharedWords),
    copy: Two,
}

impl Memories {
    fn new() -> Self {
        let new = |name| create_words(name, (PAGE + SIZE) / 8).unwrap();
        let copy = Arc::new(new("copy").1);
        Self {
            work: new("work"),
            copy: Two(copy),
        }
    }

    /// With a heap that holds a few things.
    fn filled() -> Self {
        let memories = Self::new();
        let mut heap = Heap::<Store>::open(memories.copy.clone(), SIZE).unwrap();
        let fill = |root: &mut Store| {
            for key in 0..6 {
                root.names.insert(key, "a name".into());
            }
            root.list.extend(0..20);
            root.last = Some(HeapBox::new(7));
        };
        heap.update(fill).unwrap();
        drop(heap);
        lay(&memories.work.1, &image(&memories.copy.0));
        memories
    }

    fn open(&self) -> Heap<Store> {
        Heap::open(self.copy.clone(), SIZE).unwrap()
    }

    /// Steps `operation` on the memory that is worked on; `each` gets every image.
    fn step(&self, operation: impl FnOnce(), each: impl FnMut(&[u64]) -> bool) -> u64 {
        let operation = || {
            lay_over(&self.copy.0, self.work.0.as_fd()).unwrap();
            operation();
        };
        let stepped = step(&self.work.1, operation, each).unwrap();
        assert!(!stepped.panicked, "the operation panicked");
        stepped.points
    }

    /// What the real code makes of an image, in the copy.
    fn recovered(&self, image: &[u64], read: &impl Fn(Two) -> State) -> State {
        lay(&self.copy.0, image);
        read(self.copy.clone())
    }

    /// Crashes `operation` after every instruction. Every image is recovered; a few of those that recovery has
    /// to write to are recovered one instruction at a time, and crashed there, too.
    fn crash_everywhere(
        &self,
        what: &str,
        operation: impl FnOnce(),
        read: impl Fn(Two) -> State,
    ) -> [State; 2] {
        let old = self.recovered(&image(&self.work.1), &read);
        let mut states = vec![old.clone()];
        let mut kept = Vec::new();
        let mut images = 0;
        let points = self.step(operation, |image| {
            images += 1;
            let half_done = image[PAGE / 8] != 0;
            if half_done && images % 101 == 0 && kept.len() < 4 {
                kept.push(image.to_vec());
            }
            let state = self.recovered(image, &read);
            if states.last() != Some(&state) {
                states.push(state);
            }
            true
        });
        let new = self.recovered(&image(&self.work.1), &read);
        assert!(states.len() <= 2, "{what}: {states:?}");
        assert_eq!(states.last(), Some(&new), "{what}");
        let end = image(&self.work.1);
        let mut in_recovery = 0;
        for crash in &kept {
            lay(&self.work.1, crash);
            let recover = || drop(read(self.copy.clone()));
            in_recovery += self.step(recover, |image| {
                assert_eq!(self.recovered(image, &read), old, "{what}: in recovery");
                true
            });
        }
        lay(&self.work.1, &end);
        let recoveries = kept.len();
        println!("{what}: {points} crash points, {in_recovery} in {recoveries} recoveries, 0 torn");
        assert!(points > 0, "{what}: nothing was changed");
        [old, new]
    }
}

fn image(words: &[AtomicU64]) -> Vec<u64> {
    words
        .iter()
        .map(|word| word.load(Ordering::Relaxed))
        .collect()
}

fn lay(words: &[AtomicU64], image: &[u64]) {
    for (word, value) in words.iter().zip(image) {
        word.store(*value, Ordering::Relaxed);
    }
}

fn read(blocks: Two) -> State {
    let heap = Heap::<Store>::open(blocks, SIZE).unwrap();
    done_stepping();
    let root = heap.root();
    let names = root.names.iter();
    let mut names: Vec<_> = names.map(|(key, name)| (*key, name.to_string())).collect();
    names.sort();
    let mut list = root.list.to_vec();
    list.extend(root.last.as_deref());
    ("Store", names, list, heap.used())
}

/// One transaction, crashed everywhere; it must change something.
fn try_change(memories: &Memories, what: &str, change: impl FnOnce(&mut Store) + Send) {
    let operation = || memories.open().update(change).unwrap();
    let [old, new] = memories.crash_everywhere(what, operation, read);
    assert_ne!(old, new, "{what}");
}

#[test]
fn h32_a_transaction_is_old_or_new_after_a_crash_at_any_instruction() {
    let memories = Memories::filled();
    try_change(&memories, "insert", |root| {
        root.names.insert(100, "inserted".into());
    });
    try_change(&memories, "insert that grows the map", |root| {
        for key in 200..203 {
            root.names.insert(key, "inserted".into());
        }
    });
    try_change(&memories, "push that grows the vector", |root| {
        root.list.extend(0..200);
    });
    try_change(&memories, "remove and replace", |root| {
        root.names.remove(&3);
        root.last = Some(HeapBox::new(8));
    });
    try_change(&memories, "free everything", |root| {
        *root = Store::default()
    });
}

#[test]
fn h32_a_transaction_that_fails_is_as_if_it_had_never_been_at_any_instruction() {
    let memories = Memories::filled();
    let change = |root: &mut Store| {
        root.names.clear();
        root.list.extend(0..100);
    };
    let error = || {
        let mut heap = memories.open();
        let result = heap.transaction(|root| {
            change(root);
            Err::<(), Box<dyn std::error::Error + Send + Sync>>("meant".into())
        });
        assert!(result.is_err());
    };
    let [old, new] = memories.crash_everywhere("an error", error, read);
    assert_eq!(old, new);
    let panic = || {
        let mut heap = memories.open();
        let panicking = std::panic::AssertUnwindSafe(|| {
            heap.update(|root| {
                change(root);
                std::panic::resume_unwind(Box::new("meant"));
            })
        });
        assert!(std::panic::catch_unwind(panicking).is_err());
    };
    let [old, new] = memories.crash_everywhere("a panic", panic, read);
    assert_eq!(old, new);
    let full = || {
        let result = memories.open().update(|root| {
            change(root);
            root.list.resize(SIZE, 0);
        });
        assert!(matches!(result, Err(HeapError::Full { .. })));
    };
    let [old, new] = memories.crash_everywhere("a full heap", full, read);
    assert_eq!(old, new);
}

#[test]
fn h32_a_heap_is_made_as_a_whole() {
    let memories = Memories::new();
    let make = || drop(memories.open());
    // Where it was not made, opening makes it.
    let [old, new] = memories.crash_everywhere("making", make, read);
    assert_eq!(old, new);
}

/// As what it is, without the migration.
fn read_either(blocks: Two) -> State {
    match Heap::<Next>::open_version(blocks.clone(), SIZE, 1) {
        Ok(heap) => {
            done_stepping();
            let mut list = heap.root().list.to_vec();
            list.extend(heap.root().more.iter().map(|more| more[39]));
            ("Next", Vec::new(), list, heap.used())
        }
        Err(HeapOpenError::Open(_)) => read(blocks),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn h32_a_heap_is_migrated_as_a_whole() {
    let memories = Memories::filled();
    let migrate = || {
        let blocks = memories.copy.clone();
        let migrated = Heap::<Next>::migrate::<Store>(blocks, SIZE, (0, 1), |mut old| {
            old.list.push(99);
            let more = Some(HeapBox::new([old.names.len() as u64; 40]));
            Ok(Next {
                list: old.list,
                more,
            })
        });
        drop(migrated.unwrap());
    };
    let [old, new] = memories.crash_everywhere("migration", migrate, read_either);
    assert_eq!((old.0, new.0), ("Store", "Next"));
    assert_eq!(new.2[19..], [19, 99, 6]);
}

#[test]
fn the_trial_finds_a_transaction_that_is_committed_too_early() {
    let memories = Memories::filled();
    let operation = || {
        let mut heap = memories.open();
        let work = &memories.copy.0[PAGE / 8];
        heap.update(|root| {
            root.list[0] = 77;
            // As if the saved pages did not count.
            work.store(0, Ordering::Relaxed);
            root.list[1] = 77;
        })
        .unwrap();
    };
    let found =
        std::panic::AssertUnwindSafe(|| memories.crash_everywhere("too early", operation, read));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(found);
    std::panic::set_hook(hook);
    let told = *found.unwrap_err().downcast::<String>().unwrap();
    assert!(told.starts_with("too early: ["), "{told}");
}
