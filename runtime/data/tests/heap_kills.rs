//! A life that changes a heap, killed again and again at any moment; and long sequences of transactions against
//! the standard library's collections.
//!
//! The life is a child: this test program, started again for one test of its own, with the memory in a file. It
//! maps the file where the bank would, at one address in every life (SPEC H11).
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use refrain_data::blocks::BlocksError;
use refrain_data::heap::{Heap, HeapError, HeapMap, HeapString, HeapVec};
use refrain_data::memory::Scratch;
use refrain_data::{Blocks, Region};
use refrain_sys::mapping::{BlockMapping, map_block_fixed};

const PAGE: usize = 4096;
const SIZE: usize = 1 << 20;
/// Root, heap, and a page for the count of transactions that the life has acknowledged.
const FILE: usize = PAGE + SIZE + PAGE;
/// Far from whatever the kernel chooses by itself.
const ADDRESS: u64 = 0x2000_0000_0000;

refrain_data::heap_type! {
    #[derive(Default)]
    struct Store {
        names: HeapMap<u64, HeapString>,
        lists: HeapMap<u8, HeapVec<u64>>,
        done: u64,
    }
}

/// What a [`Store`] should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    names: HashMap<u64, String>,
    lists: BTreeMap<u8, Vec<u64>>,
    done: u64,
}

/// One change of a transaction.
#[derive(Clone, Debug)]
enum Change {
    Name(u64, usize),
    Unname(u64),
    Push(u8, u64),
    Pop(u8),
    Clear(u8),
}

impl Change {
    fn on_heap(&self, root: &mut Store) {
        match *self {
            Self::Name(key, len) => drop(root.names.insert(key, text(key, len).as_str().into())),
            Self::Unname(key) => drop(root.names.remove(&key)),
            Self::Push(list, value) => {
                let list = root.lists.entry(list).or_default();
                list.extend((0..value % 90).map(|more| value + more));
            }
            Self::Pop(list) => drop(root.lists.get_mut(&list).and_then(|list| list.pop())),
            Self::Clear(list) => drop(root.lists.remove(&list)),
        }
    }

    fn on_model(&self, model: &mut Model) {
        match *self {
            Self::Name(key, len) => drop(model.names.insert(key, text(key, len))),
            Self::Unname(key) => drop(model.names.remove(&key)),
            Self::Push(list, value) => {
                let list = model.lists.entry(list).or_default();
                list.extend((0..value % 90).map(|more| value + more));
            }
            Self::Pop(list) => drop(model.lists.get_mut(&list).and_then(Vec::pop)),
            Self::Clear(list) => drop(model.lists.remove(&list)),
        }
    }
}

fn text(key: u64, len: usize) -> String {
    format!("{key}:").repeat(len)
}

fn same(root: &Store, model: &Model) -> bool {
    let name = |(key, name): (&u64, &HeapString)| {
        model.names.get(key).is_some_and(|has| has == name.as_str())
    };
    let list =
        |(key, list): (&u8, &HeapVec<u64>)| model.lists.get(key).is_some_and(|has| *has == ***list);
    root.done == model.done
        && root.names.len() == model.names.len()
        && root.lists.len() == model.lists.len()
        && root.names.iter().all(name)
        && root.lists.iter().all(list)
}

/// The changes of transaction `number`: the same whoever asks.
fn changes(number: u64) -> Vec<Change> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: u64| {
        // Source: xorshift64, Marsaglia 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let change = |_| match next(6) {
        0..2 => Change::Name(next(300), next(60) as usize),
        2 => Change::Unname(next(300)),
        3 => Change::Push(next(12) as u8, next(1000)),
        4 => Change::Pop(next(12) as u8),
        _ => Change::Clear(next(12) as u8),
    };
    (0..1 + number % 7).map(change).collect()
}

#[derive(Clone)]
struct InFile(Arc<BlockMapping>);

impl InFile {
    fn open(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        Self(Arc::new(
            map_block_fixed(file.as_fd(), ADDRESS, FILE).unwrap(),
        ))
    }

    fn acknowledged(&self) -> &AtomicU64 {
        &self.0.words()[(PAGE + SIZE) / 8]
    }
}

impl Blocks for InFile {
    fn block(&mut self, number: u32, _bytes: usize) -> Result<Region, BlocksError> {
        let all = Region::new(Arc::clone(&self.0)).ok_or("a mapping begins at a page")?;
        let (offset, len) = if number == 0 { (0, PAGE) } else { (PAGE, SIZE) };
        Ok(all.part(offset, len).ok_or("a block lies inside")?)
    }

    fn free(&mut self, _number: u32) -> Result<(), BlocksError> {
        Ok(())
    }

    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        Ok(NonZeroU64::new(std::process::id().into()).ok_or("a pid is not 0")?)
    }

    /// There is one at a time: the test waits for the end of each.
    fn is_alive(&self, _writer: NonZeroU64) -> Result<bool, BlocksError> {
        Ok(false)
    }
}

/// The life: transactions without end, from the one on that the heap says is next.
#[test]
fn a_life_of_h32_kills() {
    let Some(path) = std::env::var_os("REFRAIN_TEST_HEAP") else {
        return;
    };
    let blocks = InFile::open(Path::new(&path));
    let mut heap = Heap::<Store>::open(blocks.clone(), SIZE).unwrap();
    loop {
        let number = heap.root().done;
        let failed = heap.transaction(|root| {
            changes(number + 1)
                .iter()
                .for_each(|change| change.on_heap(root));
            Err::<(), Box<dyn std::error::Error + Send + Sync>>("every one fails first".into())
        });
        assert!(failed.is_err());
        let done = heap.transaction(|root| {
            changes(number)
                .iter()
                .for_each(|change| change.on_heap(root));
            root.done += 1;
            Ok::<_, HeapError>(root.done)
        });
        blocks
            .acknowledged()
            .store(done.unwrap(), Ordering::Release);
    }
}

#[test]
fn h32_a_life_that_is_killed_at_any_moment_leaves_whole_transactions_and_all_it_acknowledged() {
    const KILLS: u64 = 60;
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("heap");
    File::create(&path).unwrap().set_len(FILE as u64).unwrap();
    let mut model = Model::default();
    for kill in 0..KILLS {
        let mut life = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_life_of_h32_kills"])
            .env("REFRAIN_TEST_HEAP", &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Where in its work it is then is left to chance.
        std::thread::sleep(Duration::from_micros(3_000 + kill * 37 % 1000 * 20));
        life.kill().unwrap();
        life.wait().unwrap();
        let blocks = InFile::open(&path);
        let acknowledged = blocks.acknowledged().load(Ordering::Acquire);
        let heap = Heap::<Store>::open(blocks, SIZE).unwrap();
        let done = heap.root().done;
        assert!(
            done == acknowledged || done == acknowledged + 1,
            "{done}, {acknowledged}"
        );
        while model.done < done {
            changes(model.done)
                .iter()
                .for_each(|change| change.on_model(&mut model));
            model.done += 1;
        }
        assert!(
            same(heap.root(), &model),
            "after kill {kill}, {done} transactions"
        );
    }
    println!("{KILLS} kills, {} transactions, none torn", model.done);
    assert!(model.done > 0, "no life has done anything");
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0u64..60, 0usize..400).prop_map(|(key, len)| Change::Name(key, len)),
        2 => (0u64..60).prop_map(Change::Unname),
        3 => (0u8..5, 0u64..1000).prop_map(|(list, value)| Change::Push(list, value)),
        1 => (0u8..5).prop_map(Change::Pop),
        1 => (0u8..5).prop_map(Change::Clear),
    ]
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug)]
enum End {
    Commits,
    Fails,
    Panics,
    /// Then the heap is opened anew.
    CommitsAndCloses,
}

fn end() -> impl Strategy<Value = End> {
    let rare = prop_oneof![
        Just(End::Fails),
        Just(End::Panics),
        Just(End::CommitsAndCloses)
    ];
    prop_oneof![3 => Just(End::Commits), 2 => rare]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
    #[test]
    fn h32_a_heap_does_what_the_standard_librarys_collections_do(
        transactions in prop::collection::vec((prop::collection::vec(change(), 0..12), end()), 1..60)
    ) {
        let blocks = Scratch::with_blocks(1, SIZE).unwrap();
        let mut heap = Some(Heap::<Store>::open(blocks.clone(), SIZE).unwrap());
        let mut model = Model::default();
        for (changes, end) in transactions {
            let open = heap.as_mut().unwrap();
            let change = |root: &mut Store| {
                changes.iter().for_each(|change| change.on_heap(root));
                root.done += 1;
                match end {
                    End::Fails => Err("meant".into()),
                    End::Panics => std::panic::resume_unwind(Box::new("meant")),
                    _ => Ok(()),
                }
            };
            let run = || open.transaction::<(), Box<dyn std::error::Error + Send + Sync>>(change);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            // A full heap takes the transaction back as well.
            if matches!(result, Ok(Ok(()))) {
                changes.iter().for_each(|change| change.on_model(&mut model));
                model.done += 1;
            }
            if matches!(end, End::CommitsAndCloses) {
                drop(heap.take());
                heap = Some(Heap::open(blocks.clone(), SIZE).unwrap());
            }
            prop_assert!(same(heap.as_ref().unwrap().root(), &model));
        }
    }
}
