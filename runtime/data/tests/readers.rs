//! Readers beside a writer, in every order that the memory model allows (loom): the very lines that `CellReader`
//! and `LogReader` run, over loom's words.

use std::sync::atomic::Ordering;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;
use refrain_data::seqlock::{self, Taken, Word, before_filling, flip, slot_of, take, try_copy};

struct LoomWord(AtomicU64);

impl Word for LoomWord {
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}

fn words<const N: usize>() -> [LoomWord; N] {
    std::array::from_fn(|_| LoomWord(AtomicU64::new(0)))
}

struct Cell {
    sequence: LoomWord,
    slots: [[LoomWord; 2]; 2],
}

impl Cell {
    fn new() -> Self {
        let [sequence] = words();
        let slots = [words(), words()];
        Self { sequence, slots }
    }

    /// What `Cell::set` does.
    fn set(&self, value: u64) {
        before_filling::<LoomWord>();
        let other = 1 - slot_of(self.sequence.load(Ordering::Relaxed));
        for word in &self.slots[other] {
            word.store(value, Ordering::Relaxed);
        }
        flip(&self.sequence);
    }

    fn try_read(&self) -> Option<[u64; 2]> {
        let mut value = [0; 2];
        let slots = [&self.slots[0][..], &self.slots[1][..]];
        try_copy(&self.sequence, slots, |at, word| value[at] = word).map(|()| value)
    }
}

#[test]
fn h32_a_reader_of_a_cell_sees_one_value_or_none() {
    loom::model(|| {
        let cell = Arc::new(Cell::new());
        let writer = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || (1..=3).for_each(|value| cell.set(value)))
        };
        if let Some([first, second]) = cell.try_read() {
            assert_eq!(first, second);
        }
        writer.join().unwrap();
        assert_eq!(cell.try_read(), Some([3, 3]));
    });
}

/// A log of two records in three slots, of two words each.
struct Log {
    count: LoomWord,
    slots: [[LoomWord; 2]; 3],
}

fn oldest(next: u64) -> u64 {
    next.saturating_sub(2)
}

impl Log {
    fn new() -> Self {
        let [count] = words();
        let slots = [words(), words(), words()];
        Self { count, slots }
    }

    /// What `Log::append` does.
    fn append(&self, value: u64) {
        let next = self.count.load(Ordering::Relaxed);
        seqlock::before_filling::<LoomWord>();
        for word in &self.slots[(next % 3) as usize] {
            word.store(value, Ordering::Relaxed);
        }
        self.count.store(next + 1, Ordering::Release);
    }
}

#[test]
fn h32_a_reader_of_a_log_sees_a_whole_record_or_is_told() {
    loom::model(|| {
        let log = Arc::new(Log::new());
        log.append(100);
        let writer = {
            let log = Arc::clone(&log);
            thread::spawn(move || (101..=103).for_each(|value| log.append(value)))
        };
        let mut record = [0; 2];
        let taken = take(&log.count, 0, oldest, || {
            record = [0, 1].map(|at| log.slots[0][at].load(Ordering::Relaxed));
        });
        match taken {
            Taken::Whole => assert_eq!(record, [100; 2]),
            Taken::Gone { oldest } => assert!(oldest > 0),
            Taken::NotYet => panic!("the record was there before"),
        }
        writer.join().unwrap();
    });
}
