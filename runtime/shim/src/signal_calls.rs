//! The system calls on signals.
//!
//! Called by `fault`, `stopping`, `signals` and `keeper`. The structures are the kernel's, not libc's.
//! Must be safe in a signal handler: no call here takes a lock or allocates.
//!
//! Source: sigaction(2), sigaltstack(2), rt_tgsigqueueinfo(2), the kernel's uapi/asm/sigcontext.h.

use crate::kernel::{call, number};
use crate::syscalls::{Result, SignalMask};

/// Every signal.
pub const ALL: SignalMask = SignalMask::MAX;
/// The default disposition.
pub const DEFAULT: usize = 0;
/// SA_SIGINFO: the handler takes three arguments.
pub const SIGINFO: usize = 4;
/// SA_ONSTACK: on the alternate stack, where there is one.
pub const ONSTACK: usize = 0x0800_0000;
/// SA_RESTART: calls that were interrupted go on.
pub const RESTART: usize = 0x1000_0000;

/// A handler of ours.
pub type Handler = unsafe extern "C" fn(i32, *mut Info, *mut Context);

/// `siginfo_t`: 128 bytes.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Info {
    /// `si_signo`.
    pub signal: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    padding: i32,
    /// `si_addr` of a fault; pid and user of a sender.
    pub address: u64,
    /// `si_value` of a signal that was queued.
    pub value: u64,
    rest: [u64; 12],
}

/// `ucontext_t` as far as it is looked at.
#[cfg(target_arch = "x86_64")]
#[repr(C)]
#[derive(Debug)]
pub struct Context {
    front: [u64; 5],
    registers: [u64; 32],
    /// The signals that are blocked once the handler has returned.
    pub blocked: SignalMask,
}

/// `ucontext_t` as far as it is looked at.
#[cfg(target_arch = "aarch64")]
#[repr(C)]
#[derive(Debug)]
pub struct Context {
    front: [u64; 5],
    /// The signals that are blocked once the handler has returned.
    pub blocked: SignalMask,
    reserved: [u64; 16],
    fault_address: u64,
    registers: [u64; 33],
}

#[cfg(target_arch = "x86_64")]
const _: () = assert!(core::mem::offset_of!(Context, blocked) == 296);
#[cfg(target_arch = "aarch64")]
const _: () = assert!(core::mem::offset_of!(Context, registers) == 184);
const _: () = assert!(size_of::<Info>() == 128);

/// Where the program was.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The instruction.
    pub instruction: u64,
    /// The stack pointer.
    pub stack_pointer: u64,
    /// rbp, x29.
    pub frame_pointer: u64,
    /// x30; 0 where there is none.
    pub link: u64,
}

impl Context {
    /// Where the program was when the signal came.
    #[cfg(target_arch = "x86_64")]
    #[must_use]
    pub fn place(&self) -> Place {
        // gregs: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
        let [_, _, _, _, _, _, _, _, _, _, rbp, _, _, _, _, rsp, rip, ..] = self.registers;
        Place {
            instruction: rip,
            stack_pointer: rsp,
            frame_pointer: rbp,
            link: 0,
        }
    }

    /// Where the program was when the signal came.
    #[cfg(target_arch = "aarch64")]
    #[must_use]
    pub fn place(&self) -> Place {
        // x0 to x30, sp, pc.
        let [.., x29, x30, sp, pc] = self.registers;
        Place {
            instruction: pc,
            stack_pointer: sp,
            frame_pointer: x29,
            link: x30,
        }
    }
}

/// `struct kernel_sigaction`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: SignalMask,
}

/// What a handler returns to. Only x86-64 asks the program for it; the other has it in the vDSO. The
/// bytes are those that debuggers know a signal's frame by.
///
/// # Safety
/// Only the kernel lets anything come here: its frame is on the stack.
// SAFETY: the body is all there is, and does not return.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn restorer() {
    core::arch::naked_asm!("mov rax, 15", "syscall")
}

/// Lets `handler` take `signal`, every other one blocked meanwhile.
///
/// # Errors
/// The errno.
pub fn handle(signal: i32, handler: Handler, flags: usize) -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    let (flags, restorer) = (
        flags | 0x0400_0000,
        restorer as unsafe extern "C" fn() as usize,
    );
    #[cfg(target_arch = "aarch64")]
    let restorer = 0;
    set_action(
        signal,
        Action {
            handler: handler as usize,
            flags: flags | SIGINFO,
            restorer,
            mask: ALL,
        },
    )
}

/// Puts the default disposition back.
///
/// # Errors
/// The errno: EPERM and the like under a filter of the program's own.
pub fn reset(signal: i32) -> Result<()> {
    set_action(
        signal,
        Action {
            handler: DEFAULT,
            flags: 0,
            restorer: 0,
            mask: 0,
        },
    )
}

fn set_action(signal: i32, action: Action) -> Result<()> {
    let arguments = [signal as usize, (&raw const action).addr(), 0, 8];
    // SAFETY: the kernel reads the action, whose handler is ours or none.
    unsafe { call(number::RT_SIGACTION, arguments) }.map(drop)
}

/// Sends `info` to the thread `tid` of this process `pid`, as if it came from where it came first.
///
/// # Safety
/// `info` is what the kernel passed to a handler.
///
/// # Errors
/// The errno.
pub unsafe fn queue(pid: u32, tid: u32, signal: i32, info: *const Info) -> Result<()> {
    let arguments = [pid as usize, tid as usize, signal as usize, info.addr()];
    // SAFETY: the kernel reads the 128 bytes of the caller's promise.
    unsafe { call(number::RT_TGSIGQUEUEINFO, arguments) }.map(drop)
}

/// `stack_t`.
#[repr(C)]
struct Stack {
    base: usize,
    flags: i32,
    size: usize,
}

/// Gives this thread an alternate signal stack, unless it has one; answers whether it was given.
///
/// # Safety
/// The memory is writable, never freed, and used by nothing else.
///
/// # Errors
/// The errno.
pub unsafe fn alternate_stack(base: usize, size: usize) -> Result<bool> {
    const SS_DISABLE: i32 = 2;
    let mut old = Stack {
        base: 0,
        flags: 0,
        size: 0,
    };
    // SAFETY: the kernel writes the old one, and is given no new one.
    unsafe { call(number::SIGALTSTACK, [0, (&raw mut old).addr()]) }?;
    if old.flags & SS_DISABLE == 0 {
        return Ok(false);
    }
    let new = Stack {
        base,
        flags: 0,
        size,
    };
    // SAFETY: the caller's promise.
    unsafe { call(number::SIGALTSTACK, [(&raw const new).addr(), 0]) }.map(|_| true)
}

/// Whether the eight bytes at `address`, a multiple of eight, can be read: by a call that takes a mask
/// from there, for a thread that blocks every signal anyhow.
#[must_use]
pub fn can_read(address: usize) -> bool {
    const SIG_BLOCK: usize = 0;
    // SAFETY: the kernel reads a mask there, or finds that it can't.
    let answer = unsafe { call(number::RT_SIGPROCMASK, [SIG_BLOCK, address, 0, 8]) };
    // At 0 it takes none, and finds nothing wrong with that.
    address != 0 && answer.is_ok()
}

/// Waits for ever: for a thread whose every signal is blocked, until it is killed.
pub fn wait_for_the_end() -> ! {
    loop {
        // SAFETY: no fds, no timeout, no mask.
        let _ = unsafe { call(number::PPOLL, [0, 0, 0, 0, 8]) };
    }
}
