//! Heaps against the models that the standard library has: transactions that commit, fail, panic and fill
//! the heap.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_data::heap::{
    Heap, HeapBox, HeapError, HeapMap, HeapOpenError, HeapSet, HeapString, HeapVec, touch,
};
use refrain_data::memory::Scratch;

refrain_data::heap_type! {
    #[derive(Default)]
    struct Store {
        names: HeapMap<u64, HeapString>,
        lists: HeapVec<HeapVec<u8>>,
        tree: Option<HeapBox<Node>>,
        seen: HeapSet<u32>,
        count: u64,
    }
}

refrain_data::heap_type! {
    #[derive(Debug, PartialEq)]
    enum Node { Leaf(u64), Pair(HeapBox<Node>, HeapBox<Node>) }
}

/// What a test's own transactions fail with.
#[derive(Debug)]
enum Failure {
    Mine(usize),
    Heap(#[expect(dead_code, reason = "shown when a test fails")] HeapError),
}

impl From<HeapError> for Failure {
    fn from(error: HeapError) -> Self {
        Self::Heap(error)
    }
}

const SIZE: usize = 4 << 20;

fn scratch(size: usize) -> Scratch {
    Scratch::with_blocks(1, size).unwrap()
}

fn open(blocks: &Scratch) -> Heap<Store> {
    Heap::open(blocks.clone(), SIZE).unwrap()
}

fn sum(node: &Node) -> u64 {
    match node {
        Node::Leaf(value) => *value,
        Node::Pair(left, right) => sum(left) + sum(right),
    }
}

fn tree(depth: u64) -> Node {
    match depth {
        0 => Node::Leaf(1),
        _ => Node::Pair(HeapBox::new(tree(depth - 1)), HeapBox::new(tree(depth - 1))),
    }
}

#[test]
fn h32_what_was_committed_is_there_in_the_next_life() {
    let blocks = scratch(SIZE);
    let mut heap = open(&blocks);
    heap.update(|root| {
        for key in 0..1000 {
            root.names
                .insert(key, format!("number {key}").as_str().into());
            root.seen.insert(key as u32 % 7);
        }
        root.tree = Some(HeapBox::new(tree(6)));
        root.count = 3;
    })
    .unwrap();
    drop(heap);
    let mut heap = open(&blocks);
    assert_eq!(heap.root().names.len(), 1000);
    let name = |key: u64| heap.root().names.get(&key).unwrap().as_str();
    assert!((0..1000).all(|key| name(key) == format!("number {key}")));
    assert_eq!((heap.root().count, heap.root().seen.len()), (3, 7));
    assert_eq!(sum(heap.root().tree.as_ref().unwrap()), 64);
    // And it goes on.
    let removed = heap.update(|root| root.names.remove(&5).map(|name| name.as_str().to_owned()));
    assert_eq!(removed.unwrap().unwrap(), "number 5");
}

#[test]
fn h32_an_error_takes_everything_back() {
    let mut heap = open(&scratch(SIZE));
    heap.update(|root| root.names.insert(1, "one".into()).is_none())
        .unwrap();
    let used = heap.used();
    for round in 0..50 {
        let result = heap.transaction(|root| {
            root.names.clear();
            root.count = 99;
            for at in 0..round {
                root.lists.push(vec![7u8; 100 * at].as_slice().into());
            }
            Err::<(), _>(Failure::Mine(round))
        });
        assert!(matches!(result, Err(Failure::Mine(has)) if has == round));
        let root = heap.root();
        assert_eq!((heap.used(), root.count, root.lists.len()), (used, 0, 0));
        assert_eq!(root.names.get(&1).unwrap().as_str(), "one");
    }
}

#[test]
fn h32_a_panic_takes_everything_back_and_the_heap_goes_on() {
    let mut heap = open(&scratch(SIZE));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        heap.update(|root| {
            root.count = 1;
            root.names.insert(1, "one".into());
            std::panic::resume_unwind(Box::new("meant"));
        })
    }));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "meant");
    assert_eq!((heap.root().count, heap.root().names.len()), (0, 0));
    heap.update(|root| root.count = 2).unwrap();
    assert_eq!(heap.root().count, 2);
}

#[test]
fn h32_a_heap_that_is_full_in_the_middle_of_a_transaction_is_as_before() {
    let mut heap = open(&scratch(SIZE));
    heap.update(|root| root.lists.push(vec![1; 5000].as_slice().into()))
        .unwrap();
    let used = heap.used();
    for piece in [24, 700, 5000, 300_000] {
        let result = heap.transaction(|root| {
            root.count += 1;
            root.names.insert(4, "four".into());
            // More than there is.
            for _ in 0..SIZE / piece {
                root.lists.push(vec![2; piece].as_slice().into());
            }
            Ok::<(), HeapError>(())
        });
        let Err(HeapError::Full {
            used: told,
            capacity,
        }) = result
        else {
            panic!("a heap of {SIZE} bytes took everything: {result:?}");
        };
        assert_eq!((told, capacity), (used, heap.capacity()));
        assert_eq!((heap.used(), heap.root().count), (used, 0));
        let lists = &heap.root().lists;
        assert_eq!((lists.len(), lists[0][4999]), (1, 1));
    }
    // What there is can still be used to the end.
    heap.update(|root| root.lists.push(vec![3; 1 << 20].as_slice().into()))
        .unwrap();
}

#[test]
fn h32_two_thousand_pages_change_in_one_transaction() {
    const PAGES: usize = 2000;
    let size = 64 << 20;
    let mut heap = Heap::<HeapVec<u64>>::open(scratch(size), size).unwrap();
    let words = PAGES * 2 * 512;
    heap.update(|root| root.extend(0..words as u64)).unwrap();
    // Every other page, last to first, so that none comes with its neighbour.
    let change = |root: &mut HeapVec<u64>| {
        for at in (0..PAGES).rev() {
            root[at * 1024] = 1;
        }
    };
    let failed: Result<(), Failure> = heap.transaction(|root| {
        change(root);
        Err(Failure::Mine(0))
    });
    assert!(failed.is_err());
    let same = |at: usize, word: u64| word == at as u64;
    assert!(
        heap.root()
            .iter()
            .enumerate()
            .all(|(at, word)| same(at, *word))
    );
    heap.update(change).unwrap();
    let changed = |at: usize, word: u64| match at.is_multiple_of(1024) {
        true => word == 1,
        false => same(at, word),
    };
    assert!(
        heap.root()
            .iter()
            .enumerate()
            .all(|(at, word)| changed(at, *word))
    );
}

#[test]
fn h32_a_heap_of_another_type_version_or_size_is_refused() {
    let blocks = scratch(SIZE);
    drop(open(&blocks));
    let other = Heap::<HeapVec<u64>>::open(blocks.clone(), SIZE).unwrap_err();
    let text = other.to_string();
    assert!(
        text.contains("Store") && text.contains("HeapVec<u64>"),
        "{text}"
    );
    let other = Heap::<Store>::open_version(blocks.clone(), SIZE, 1).unwrap_err();
    assert!(other.to_string().contains("version 1"), "{other}");
    let other = Heap::<Store>::open(blocks.clone(), SIZE / 2).unwrap_err();
    assert!(matches!(other, HeapOpenError::Size { .. }), "{other}");
    let small = Heap::<Store>::open(scratch(SIZE), 4096).unwrap_err();
    assert!(matches!(small, HeapOpenError::TooSmall { .. }), "{small}");
    assert_eq!(open(&blocks).root().count, 0);
}

mod one {
    refrain_data::heap_type! { #[derive(Default)] pub struct Inner { pub a: u32, pub b: u32 } }
}
mod two {
    refrain_data::heap_type! { #[derive(Default)] pub struct Inner { pub b: u32, pub a: u32 } }
}

#[test]
fn h32_types_that_a_root_reaches_are_part_of_its_schema() {
    let blocks = scratch(SIZE);
    drop(Heap::<HeapVec<one::Inner>>::open(blocks.clone(), SIZE).unwrap());
    assert!(Heap::<HeapVec<two::Inner>>::open(blocks.clone(), SIZE).is_err());
    assert!(Heap::<HeapVec<one::Inner>>::open(blocks, SIZE).is_ok());
}

#[test]
fn h32_a_heap_has_one_writer() {
    let blocks = scratch(SIZE);
    let heap = open(&blocks);
    assert!(Heap::<Store>::open(blocks.clone(), SIZE).is_err());
    drop(heap);
    assert!(Heap::<Store>::open(blocks, SIZE).is_ok());
}

refrain_data::heap_type! {
    struct Large { page: [u64; 1024], names: HeapMap<u64, HeapString> }
}

impl Default for Large {
    fn default() -> Self {
        let names = HeapMap::with_capacity(3);
        Self {
            page: [1; 1024],
            names,
        }
    }
}

#[test]
fn h32_a_root_that_is_larger_than_a_page_has_memory_of_its_own() {
    let blocks = scratch(SIZE);
    let mut heap = Heap::<Large>::open(blocks.clone(), SIZE).unwrap();
    heap.update(|root| root.page[1023] = 5).unwrap();
    drop(heap);
    let heap = Heap::<Large>::open(blocks, SIZE).unwrap();
    assert_eq!((heap.root().page[1022], heap.root().page[1023]), (1, 5));
}

#[test]
fn h32_a_migration_moves_collections_or_leaves_all_as_it_was() {
    let blocks = scratch(SIZE);
    let mut heap = Heap::<Large>::open(blocks.clone(), SIZE).unwrap();
    heap.update(|root| {
        for key in 0..500 {
            root.names.insert(key, format!("{key}").as_str().into());
        }
    })
    .unwrap();
    let used = heap.used();
    drop(heap);
    let full = Heap::<Store>::migrate::<Large>(blocks.clone(), SIZE, (0, 1), |old| {
        let mut lists = HeapVec::new();
        lists.resize(SIZE, HeapVec::new());
        Ok(Store {
            names: old.names,
            lists,
            ..Store::default()
        })
    });
    let Err(HeapOpenError::Transaction(HeapError::Full { .. })) = full else {
        panic!("there is no room for that: {full:?}");
    };
    let heap = Heap::<Large>::open(blocks.clone(), SIZE).unwrap();
    assert_eq!((heap.used(), heap.root().names.len()), (used, 500));
    drop(heap);
    let migrate = || {
        Heap::<Store>::migrate::<Large>(blocks.clone(), SIZE, (0, 1), |old| {
            let count = old.page[1023];
            Ok(Store {
                names: old.names,
                count,
                ..Store::default()
            })
        })
    };
    let heap = migrate().unwrap();
    assert_eq!((heap.root().names.len(), heap.root().count), (500, 1));
    // The old root's pages are free again.
    assert_eq!(heap.used(), used - 3 * 4096);
    drop(heap);
    let mut heap = migrate().unwrap();
    assert_eq!(heap.root().names.get(&499).unwrap().as_str(), "499");
    heap.update(|root| root.count = 9).unwrap();
    drop(heap);
    let heap = Heap::<Store>::open_version(blocks.clone(), SIZE, 1).unwrap();
    assert_eq!(heap.root().count, 9);
    drop(heap);
    assert!(Heap::<Large>::open(blocks, SIZE).is_err());
}

#[test]
fn a_system_call_writes_into_pages_that_were_touched() {
    use std::io::Read;
    const EFAULT: i32 = 14;
    let mut heap = Heap::<HeapVec<u8>>::open(scratch(SIZE), SIZE).unwrap();
    heap.update(|root| root.resize(20_000, 1)).unwrap();
    let mut file = std::fs::File::open("/dev/zero").unwrap();
    let read = heap.update(|root| {
        let refused = file.read(root).unwrap_err().raw_os_error();
        touch(root);
        (refused, file.read(root).unwrap())
    });
    assert_eq!(read.unwrap(), (Some(EFAULT), 20_000));
    assert!(heap.root().iter().all(|byte| *byte == 0));
}

#[test]
fn h32_threads_share_a_heap_behind_a_lock() {
    let heap = std::sync::RwLock::new(open(&scratch(SIZE)));
    let write = |thread: u64| {
        for round in 0..100 {
            let mut heap = heap.write().unwrap();
            heap.update(|root| {
                root.names.insert(thread * 1000 + round, "x".into());
                root.count += 1;
            })
            .unwrap();
        }
    };
    let read = || {
        for _ in 0..100 {
            let heap = heap.read().unwrap();
            assert_eq!(heap.root().count, heap.root().names.len() as u64);
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || write(thread));
        }
        scope.spawn(read);
    });
    assert_eq!(heap.read().unwrap().root().count, 400);
}

#[test]
fn h32_transactions_on_two_heaps_may_be_nested() {
    let mut one = open(&scratch(SIZE));
    let mut two = open(&scratch(SIZE));
    one.update(|first| {
        first.names.insert(1, "outer".into());
        two.update(|second| second.names.insert(1, "inner".into()).is_none())
            .unwrap();
        first.names.insert(2, "outer".into());
    })
    .unwrap();
    assert_eq!((one.root().names.len(), two.root().names.len()), (2, 1));
    assert_eq!(two.root().names.get(&1).unwrap().as_str(), "inner");
}

#[test]
#[should_panic(expected = "in a transaction only")]
fn memory_is_taken_in_a_transaction_only() {
    let _ = HeapVec::<u8>::with_capacity(1);
}

#[test]
fn what_was_emptied_holds_no_memory() {
    let mut heap = open(&scratch(SIZE));
    let empty = heap.used();
    for round in 1..20u64 {
        heap.update(|root| {
            for key in 0..200 {
                root.names
                    .insert(key * round, "some text that is not short".into());
                root.lists.push(vec![1; key as usize * 7].as_slice().into());
            }
        })
        .unwrap();
        assert_eq!(heap.root().names.len(), 200);
        heap.update(|root| {
            root.names.clear();
            root.lists = HeapVec::new();
        })
        .unwrap();
        assert_eq!(heap.used(), empty, "round {round}");
    }
}
