//! One life at a time: nothing of the old life writes once the next one has begun.
//!
//! Threads of a life write to shared memory as fast as they can while one of them faults, or one
//! thread alone does; each life watches what it finds there for writes that are not its own. Each word
//! says whose it is.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};

use support::{Actor, compile, program, until};

/// `argv[1]`: a file of a page; `argv[2]`: how many threads write. Words of the page: 0 is the number of
/// lives that have seen a write of another one, 1 the number of those that have begun and
/// looked, 2 how many may fault, from 8 on each thread's own word: life << 32 | count.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
typedef volatile unsigned long word;
static word *page;
static unsigned long life;
static void *writer(void *at) {
    word *mine = page + 8 + (long)at;
    for (unsigned long n = 1;; n++) *mine = life << 32 | (n & 0xffffffff);
}
int main(int argc, char **argv) {
    int fd = open(argv[1], O_RDWR), threads = atoi(argv[2]);
    page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    life = atol(getenv("REFRAIN_LIFE"));
    unsigned long seen[8];
    for (int i = 0; i < 8; i++) seen[i] = page[8 + i];
    for (int round = 0; round < 20000; round++)
        for (int i = 0; i < 8; i++) if (page[8 + i] != seen[i]) { page[0]++; round = 20000; break; }
    pthread_t t;
    for (long i = 1; i <= threads; i++) pthread_create(&t, 0, writer, (void *)i);
    for (unsigned long n = 1; n < 20000; n++) page[8] = life << 32 | n;
    page[1]++;
    while (page[2] <= life) usleep(100);
    *(volatile int *)0 = 1;
}
"#;

/// As many lives as asked for, each the successor of a fault; answers how many saw a foreign write.
fn lives(threads: &str, count: u32) -> Option<u64> {
    let directory = tempfile::tempdir().unwrap();
    let path = compile(directory.path(), "writer", SOURCE, &["-pthread"])?;
    let file = directory.path().join("page");
    fs::write(&file, [0u8; 4096]).unwrap();
    let open = fs::OpenOptions::new().read(true).write(true).open(&file);
    let open = open.unwrap();
    let word = |index: u64| {
        let mut bytes = [0; 8];
        open.read_exact_at(&mut bytes, index * 8).unwrap();
        u64::from_le_bytes(bytes)
    };
    let may_fault = |lives: u32| {
        let bytes = u64::from(lives).to_le_bytes();
        open.write_all_at(&bytes, 2 * 8).unwrap();
    };
    let mut actor = Actor::contained(&program(&path, &[file.to_str().unwrap(), threads]))?;
    let standby = actor.standby_with(true);
    let mut next = actor.queue(standby, 0, false);
    actor.call(next.serial);
    for number in 1..=count {
        let life = next;
        let standby = actor.standby_with(true);
        next = actor.queue(standby, number, false);
        actor.arm(&life, next.serial);
        may_fault(number);
        life.wait();
        actor.end_of(life.pid);
        let page = &actor.page;
        let is_woken = page.wake.load(Ordering::Acquire) == next.serial.0;
        assert_eq!(is_woken, threads == "0");
        if !is_woken {
            actor.call(next.serial);
        }
        let reached = |word: &AtomicU32| word.load(Ordering::Acquire) == next.serial.0;
        until("the next life begins", || {
            reached(&page.began) || reached(&page.declined)
        });
        assert!(reached(&page.began), "it declines");
        page.go.store(next.serial.0, Ordering::Release);
    }
    may_fault(count + 1);
    next.wait();
    assert_eq!(word(1), u64::from(count) + 1);
    Some(word(0))
}

#[test]
fn h9_no_thread_of_a_life_that_faults_writes_after_the_next_one_began() {
    assert!(lives("3", 100).is_none_or(|seen| seen == 0));
}

#[test]
fn h9_a_life_that_wakes_its_successor_writes_nothing_after_that() {
    assert!(lives("0", 100).is_none_or(|seen| seen == 0));
}
