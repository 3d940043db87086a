//! The ways in which a Rust life ends itself. Called for each command that is an end; comes back only
//! from a letter that is none.

use std::fs::File;
use std::hint::black_box;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use refrain_sys::mapping::map_block_fixed;
use refrain_torture::record::{Slot, Word};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};

/// Where a page is mapped that has no file behind it any more.
const HOLE: u64 = 0x3100_0000_0000;
/// A page, in bytes.
const PAGE: usize = 4096;

/// Ends this life as `letter` says.
pub fn end(letter: char, slot: Slot<'_>) {
    let all = "sbfiakomPxytu";
    if !all.contains(letter) {
        return;
    }
    slot.count(Word::Taken);
    match letter {
        's' => signal(Signal::SEGV),
        'b' => bus(),
        'f' => signal(Signal::FPE),
        'i' => signal(Signal::ILL),
        'a' => std::process::abort(),
        'k' => signal(Signal::KILL),
        'o' => drop(black_box(deep(0))),
        'm' => out_of_memory(),
        'x' => std::process::exit(0),
        'y' => std::process::exit(3),
        't' => in_a_thread(|| std::process::exit(7)),
        'u' => in_a_thread(|| signal(Signal::SEGV)),
        _ => panic!("as it was told"),
    }
}

/// Rust's own handler takes the first SIGSEGV or SIGBUS that is no fault, and steps back.
fn signal(signal: Signal) {
    loop {
        let _ = kill_process(getpid(), signal);
    }
}

/// Reads a page that its file has lost: a real SIGBUS.
fn bus() {
    let path = std::env::temp_dir().join(format!("hole-{}", std::process::id()));
    let open = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path);
    let file = open.expect("a file can be made");
    let _ = std::fs::remove_file(&path);
    file.set_len(PAGE as u64).expect("it can grow");
    let page = map_block_fixed(file.as_fd(), HOLE, PAGE).expect("the place is free");
    file.set_len(0).expect("it can shrink");
    black_box(page.words()[0].load(SeqCst));
}

#[allow(unconditional_recursion)] // that is the point
fn deep(level: usize) -> usize {
    let page = black_box([level; PAGE / size_of::<usize>()]);
    deep(level + 1) + page[level % page.len()]
}

fn out_of_memory() {
    let limit = Rlimit {
        current: Some(1 << 20),
        maximum: Some(1 << 20),
    };
    setrlimit(Resource::As, limit).expect("a limit can be lowered");
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; 8 << 20]));
    }
}

fn in_a_thread(end: impl FnOnce() + Send + 'static) {
    let _ = thread::spawn(end).join();
}
