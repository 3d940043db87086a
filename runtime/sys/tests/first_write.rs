//! Pages that are saved before their first write: what comes back, and what happens to faults that are not ours.
//!
//! Whatever ends a process or changes its handlers is done in a child: this test program, started again for one
//! test of its own (`in_child`).
#![allow(unsafe_code, clippy::unwrap_used)]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use refrain_sys::first_write::{Pages, Places};
use refrain_sys::mapping::{SharedWords, create_words};

const PAGE: usize = 4096;
const WORDS: usize = PAGE / 8;

/// A memory with control words, pages and room to save them.
struct Memory {
    words: SharedWords,
    len: usize,
}

impl Memory {
    fn new(len: usize) -> Self {
        let control = (64 + len * 4).div_ceil(PAGE);
        let words = create_words("first-write", (control + 2 * len) * WORDS)
            .unwrap()
            .1;
        Self { words, len }
    }

    fn at(&self, page: usize) -> NonNull<u8> {
        let word = &self.words[page * WORDS];
        NonNull::from(word).cast()
    }

    fn pages(&self) -> std::io::Result<Pages> {
        let control = (64 + self.len * 4).div_ceil(PAGE);
        let places = Places {
            pages: self.at(control),
            len: self.len,
            saved: self.at(control + self.len),
            numbers: NonNull::from(&self.words[8]).cast::<AtomicU32>(),
            count: NonNull::from(&self.words[0]).cast::<AtomicU64>(),
        };
        // SAFETY: disjoint parts of a mapping that outlives them in every test.
        unsafe { Pages::new(places) }
    }

    /// The first word of a page.
    fn word(&self, page: usize) -> &AtomicU64 {
        let control = (64 + self.len * 4).div_ceil(PAGE);
        &self.words[(control + page) * WORDS]
    }

    fn all(&self) -> Vec<u64> {
        (0..self.len)
            .map(|page| self.word(page).load(Ordering::Relaxed))
            .collect()
    }
}

/// Runs test `name` of this program in a child, where [`is_child`] holds.
fn in_child(name: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("REFRAIN_TEST_CHILD", name)
        .output()
        .unwrap()
        .status
}

fn is_child(name: &str) -> bool {
    std::env::var_os("REFRAIN_TEST_CHILD").is_some_and(|child| child == name)
}

#[test]
fn h32_what_was_not_committed_comes_back() {
    let memory = Memory::new(100);
    let pages = memory.pages().unwrap();
    for (round, kept) in [(1, true), (2, false), (3, true), (4, false)] {
        let before = memory.all();
        let writing = pages.begin(100, 0..0).unwrap();
        for page in (0..100).step_by(round as usize) {
            memory.word(page).store(round, Ordering::Relaxed);
        }
        assert!(writing.saved() >= 100 / round as usize);
        if kept {
            let changed = memory.all();
            writing.commit();
            assert_eq!(memory.all(), changed);
        } else {
            writing.roll_back();
            assert_eq!(memory.all(), before);
        }
    }
}

#[test]
fn h32_an_opening_takes_back_what_a_crash_left_half_done() {
    let memory = Memory::new(10);
    let pages = memory.pages().unwrap();
    let writing = pages.begin(10, 0..2).unwrap();
    memory.word(1).store(1, Ordering::Relaxed);
    memory.word(7).store(1, Ordering::Relaxed);
    // As if the life ended here.
    std::mem::forget(writing);
    std::mem::forget(pages);
    memory.pages().unwrap();
    assert_eq!(memory.all(), [0; 10]);
}

#[test]
fn numbers_that_make_no_sense_are_refused_and_nothing_is_changed() {
    let memory = Memory::new(10);
    memory.words[0].store(11, Ordering::Relaxed);
    let kind = |memory: &Memory| memory.pages().unwrap_err().kind();
    assert_eq!(kind(&memory), std::io::ErrorKind::InvalidData);
    memory.words[0].store(2, Ordering::Relaxed);
    memory.words[8].store(10 << 32, Ordering::Relaxed);
    assert_eq!(kind(&memory), std::io::ErrorKind::InvalidData);
}

#[test]
fn pages_that_hold_nothing_are_not_saved() {
    let memory = Memory::new(50);
    let pages = memory.pages().unwrap();
    let writing = pages.begin(20, 0..0).unwrap();
    for page in [49, 30, 20, 19, 4] {
        memory.word(page).store(1, Ordering::Relaxed);
    }
    assert_eq!(writing.saved(), 2);
    writing.roll_back();
    // They can be written in the next one as well.
    let writing = pages.begin(50, 0..0).unwrap();
    memory.word(30).store(2, Ordering::Relaxed);
    assert_eq!(writing.saved(), 1);
    writing.commit();
}

#[test]
fn one_writing_at_a_time() {
    let memory = Memory::new(10);
    let pages = memory.pages().unwrap();
    let writing = pages.begin(10, 0..0).unwrap();
    let second = pages.begin(10, 0..0).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::WouldBlock);
    drop(writing);
    drop(pages.begin(10, 0..0).unwrap());
}

#[test]
fn a_thread_that_blocks_every_signal_writes_all_the_same_and_blocks_them_afterwards() {
    let memory = Memory::new(10);
    let pages = memory.pages().unwrap();
    let mask = |how, set: &libc::sigset_t| {
        // SAFETY: zeroed is an empty set.
        let mut old = unsafe { std::mem::zeroed() };
        // SAFETY: two valid sets.
        assert_eq!(unsafe { libc::pthread_sigmask(how, set, &mut old) }, 0);
        old
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: zeroed is an empty set.
            let mut all = unsafe { std::mem::zeroed() };
            // SAFETY: a valid set.
            unsafe { libc::sigfillset(&mut all) };
            mask(libc::SIG_SETMASK, &all);
            let writing = pages.begin(10, 0..0).unwrap();
            memory.word(3).store(5, Ordering::Relaxed);
            writing.commit();
            let now = mask(libc::SIG_BLOCK, &all);
            // SAFETY: a valid set.
            assert_eq!(unsafe { libc::sigismember(&now, libc::SIGSEGV) }, 1);
        });
    });
    assert_eq!(memory.word(3).load(Ordering::Relaxed), 5);
}

/// Stores to an address where nothing is.
fn fault() {
    let nowhere = std::ptr::without_provenance_mut::<u64>(0x10);
    // SAFETY: it is not: that is the point.
    unsafe { nowhere.write_volatile(1) };
}

#[test]
fn h8_a_real_fault_in_a_writing_ends_the_program_by_sigsegv() {
    const NAME: &str = "h8_a_real_fault_in_a_writing_ends_the_program_by_sigsegv";
    if is_child(NAME) {
        let memory = Memory::new(10);
        let pages = memory.pages().unwrap();
        let _writing = pages.begin(10, 0..0).unwrap();
        memory.word(3).store(5, Ordering::Relaxed);
        fault();
        unreachable!("a store to nowhere");
    }
    assert_eq!(in_child(NAME).signal(), Some(libc::SIGSEGV));
}

#[test]
fn h8_a_write_outside_of_a_writing_ends_the_program_by_sigsegv() {
    const NAME: &str = "h8_a_write_outside_of_a_writing_ends_the_program_by_sigsegv";
    if is_child(NAME) {
        let memory = Memory::new(10);
        let pages = memory.pages().unwrap();
        let writing = pages.begin(10, 0..0).unwrap();
        memory.word(3).store(5, Ordering::Relaxed);
        writing.commit();
        memory.word(3).store(6, Ordering::Relaxed);
        unreachable!("a store to a page that is read-only");
    }
    assert_eq!(in_child(NAME).signal(), Some(libc::SIGSEGV));
}

#[test]
fn h8_a_write_by_another_thread_ends_the_program_by_sigsegv() {
    const NAME: &str = "h8_a_write_by_another_thread_ends_the_program_by_sigsegv";
    if is_child(NAME) {
        let memory = Memory::new(10);
        let pages = memory.pages().unwrap();
        let _writing = pages.begin(10, 0..0).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| memory.word(3).store(5, Ordering::Relaxed));
        });
        unreachable!("a store by a thread that has no leave");
    }
    assert_eq!(in_child(NAME).signal(), Some(libc::SIGSEGV));
}

#[test]
fn a_sigsegv_that_was_sent_ends_the_program_too() {
    const NAME: &str = "a_sigsegv_that_was_sent_ends_the_program_too";
    if is_child(NAME) {
        // Rust's own handler takes a signal that was sent for a fault that will happen again.
        // SAFETY: the default needs no handler.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        let memory = Memory::new(10);
        let pages = memory.pages().unwrap();
        drop(pages.begin(10, 0..0).unwrap());
        // SAFETY: sends a signal to this program.
        unsafe { libc::raise(libc::SIGSEGV) };
        unreachable!("SIGSEGV ends a program");
    }
    assert_eq!(in_child(NAME).signal(), Some(libc::SIGSEGV));
}

/// How the program's own handler ends it.
const MENDED: i32 = 42;

extern "C" fn own_handler(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's, or as it gave it to whoever passes it on.
    let info = unsafe { &*info };
    // SAFETY: a SIGSEGV has an address.
    let address = unsafe { info.si_addr() };
    let code = if address.addr() == 0x10 {
        MENDED
    } else {
        MENDED + 1
    };
    // SAFETY: ends the program.
    unsafe { libc::_exit(code) };
}

fn install_own() {
    // SAFETY: zeroed is an action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = own_handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: a whole action.
    unsafe { libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()) };
}

#[test]
fn a_handler_that_was_there_before_gets_what_is_not_ours() {
    const NAME: &str = "a_handler_that_was_there_before_gets_what_is_not_ours";
    if is_child(NAME) {
        install_own();
        let memory = Memory::new(10);
        let pages = memory.pages().unwrap();
        let _writing = pages.begin(10, 0..0).unwrap();
        memory.word(3).store(5, Ordering::Relaxed);
        fault();
    }
    assert_eq!(in_child(NAME).code(), Some(MENDED));
}

#[test]
fn a_handler_that_comes_later_is_behind_ours_from_the_next_writing_on() {
    const NAME: &str = "a_handler_that_comes_later_is_behind_ours_from_the_next_writing_on";
    if is_child(NAME) {
        let memory = Memory::new(10);
        let pages = memory.pages().unwrap();
        drop(pages.begin(10, 0..0).unwrap());
        install_own();
        let _writing = pages.begin(10, 0..0).unwrap();
        memory.word(3).store(5, Ordering::Relaxed);
        fault();
    }
    assert_eq!(in_child(NAME).code(), Some(MENDED));
}

#[test]
fn a_program_out_of_mappings_opens_more_pages_at_once() {
    const NAME: &str = "a_program_out_of_mappings_opens_more_pages_at_once";
    // Every other page: 40,000 runs of writable pages would be 80,000 mappings, more than the kernel's default
    // allows (vm.max_map_count).
    const LEN: usize = 80_000;
    if is_child(NAME) {
        let memory = Memory::new(LEN);
        let pages = memory.pages().unwrap();
        let writing = pages.begin(LEN, 0..0).unwrap();
        for page in (0..LEN).step_by(2) {
            memory.word(page).store(1, Ordering::Relaxed);
        }
        writing.roll_back();
        assert!(memory.all().iter().all(|word| *word == 0));
        return;
    }
    assert!(in_child(NAME).success());
}
