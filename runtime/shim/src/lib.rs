//! The object that is preloaded into templates, and the stub that stands in where that can't be.
//!
//! `runtime/image/build.rs` compiles this crate three times: as a shared object (`--cfg shim_object`),
//! which takes over `__libc_start_main` of a dynamically linked program; the same for interpreters of
//! scripts (`--cfg shim_script` as well); and as a static executable without a libc (`--cfg shim_stub`),
//! which is the template of programs that can't be forked. All serve fork requests with the
//! same loop. For cargo it is an ordinary library that nobody links, so
//! that every check sees its code.
//!
//! It runs inside other people's programs, at a moment when they believe that nothing has happened
//! yet. So it must never allocate, keep a lock, start a thread, leave an fd or a variable of its own
//! behind, or call libc where a system call does (the exceptions: `fork`, which runs the program's
//! atfork handlers, `dlsym`, and `dl_iterate_phdr`).
//!
//! | module | what |
//! | --- | --- |
//! | `start` | takes over `__libc_start_main`; `main` of a template |
//! | `stub` | the entry point of the static executable |
//! | `serve` | the loop of a template: fork, reap, report |
//! | `children` | who it has forked, and the wait for requests and ends |
//! | `life` | what a child does between fork and `main`: take its start, prefault, sleep |
//! | `keeper` | holds a life's memory, so that its end is not delayed by that |
//! | `members` | who was left behind in the actor's cgroup |
//! | `signals` | a program sees the dispositions that it would see without Refrain |
//! | `fault` | the handler of faults: records, closes, wakes the next life, ends by the real signal |
//! | `failure` | what it saw, in the control page |
//! | `stopping` | stopping for good without ending: of a group's members |
//! | `held` | what a life holds besides its files |
//! | `identity` | which life this process is |
//! | `environ` | takes Refrain's traces out of the environment, gives a life its two variables |
//! | `script` | opening a script opens its bytes in the image |
//! | `warm` | a life becomes the template of later lives |
//! | `written` | a standby of such a template writes beforehand where the life before has written |
//! | `answer` | `readlink("/proc/self/exe")` answers the program's path |
#![no_std]
#![cfg_attr(shim_stub, no_main)]
#![allow(unsafe_code)]
// The cfgs are set by runtime/image/build.rs only, not by cargo.
#![allow(unexpected_cfgs)]

pub mod answer;
mod children;
pub mod environ;
pub mod failure;
pub mod fault;
pub mod held;
pub mod identity;
pub mod keeper;
pub mod kernel;
pub mod life;
pub mod life_calls;
pub mod members;
pub mod prefault;
pub mod script;
pub mod serve;
pub mod signal_calls;
pub mod signals;
pub mod socket;
pub mod start;
pub mod stopping;
pub mod stub;
pub mod syscalls;
pub mod text;
pub mod warm;
pub mod written;

/// A panic ends the template: the controller sees it and says so. Nothing here panics knowingly.
#[cfg(any(shim_object, shim_stub))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    syscalls::exit(125)
}

// Named by the unwind tables of `core`, never called: both objects abort on panic. Hidden, or it
// would stand in front of the real one of programs that link Rust's library dynamically.
#[cfg(any(shim_object, shim_stub))]
core::arch::global_asm!(
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    "rust_eh_personality:",
);
