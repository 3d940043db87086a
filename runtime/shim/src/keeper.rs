//! The keeper of a life: holds its address space, so that its end is not delayed by the memory.
//!
//! Called by `life` in a standby, and by `serve`, which ends it. In the kernel's order memory is torn
//! down before files are closed and before anybody is told; a life of 1 GiB takes 50 to 200 ms for
//! that. A keeper is a process that shares the memory (CLONE_VM) and nothing else: the
//! end of the life then drops a reference, and the memory goes when the template, having reaped the
//! life, ends the keeper.
//!
//! It is a child of the template (CLONE_PARENT), so that the program's `wait` never sees it, and ends
//! with the template: PDEATHSIG speaks of a *thread*, and a template has one. It closes its copy of
//! every fd, blocks every signal, and sleeps on a stack of its own: a page that
//! belongs to Refrain. It uses no thread-local storage, which is the life's. Must never run a line of
//! the program.

use core::sync::atomic::{AtomicU32, Ordering};

use refrain_abi::Serial;
use refrain_abi::control::{ControlPage, keeper_slot, keeper_word};

use crate::life_calls::{
    LAST_FD, close_range, end_with_parent, exists, futex_wake_all, give_way, parent,
};
use crate::serve::{Comm, in_role};
use crate::signal_calls::ALL;
use crate::syscalls::{self, MaskHow};

/// The size of its stack, in bytes; of which its orders take the lowest.
pub const STACK: usize = 8 << 10;

/// Not 0 once the keeper is to go. It sleeps on this word, which lies in the memory that it shares
/// with the life: so the life needs no pid to dismiss it.
static DISMISSED: AtomicU32 = AtomicU32::new(0);

/// Ends the keeper of this life, if it has one.
pub fn dismiss() {
    if DISMISSED.swap(1, Ordering::Relaxed) == 0 {
        futex_wake_all(&DISMISSED);
    }
}

/// What the keeper is told, at the low end of its stack: the standby goes on meanwhile, so that
/// nothing of *its* stack can be lent.
struct Orders {
    template: u32,
    name: Comm,
}

/// Starts the keeper of `serial`, the standby that calls this; its pid is in the control page then.
/// Where it can't be had, none is there, and the life's end takes as long as it does.
///
/// The serial is stored before the clone, and the kernel stores the pid beside it before the keeper
/// runs: the halves of one little-endian word.
///
/// # Safety
/// `stack` is [`STACK`] bytes, aligned to 16, that nothing else uses for as long as the process lives.
pub unsafe fn start(
    page: &'static ControlPage,
    serial: Serial,
    template: u32,
    name: &Comm,
    stack: *mut u8,
) {
    let Some(word) = page.keepers.get(keeper_slot(serial)) else {
        return;
    };
    // The keeper of a life some serials ago may not have ended yet, on a busy machine or after
    // a large life. It stays known, and this life has none.
    let before = word.load(Ordering::Acquire) as u32;
    if before != 0 && exists(before) {
        return;
    }
    let orders = stack.cast::<Orders>();
    // SAFETY: the caller's promise; the stack is larger than this.
    unsafe {
        orders.write(Orders {
            template,
            name: *name,
        });
    }
    DISMISSED.store(0, Ordering::Relaxed);
    // A handler of the program's must not run in the keeper: it inherits this mask.
    let Ok(mask) = syscalls::signal_mask(MaskHow::Block, ALL) else {
        return;
    };
    word.store(keeper_word(serial, 0), Ordering::Release);
    let top = stack.wrapping_add(STACK);
    // SAFETY: `keep` never returns, and the stack and the orders are the keeper's from here on.
    if unsafe { clone_keeper(top, word.as_ptr().cast(), keep, orders) } < 0 {
        word.store(0, Ordering::Release);
    }
    let _ = syscalls::signal_mask(MaskHow::Set, mask);
}

/// Takes a process that was reaped out of the control page; answers whether it was a keeper there.
pub fn forget(page: &ControlPage, pid: u32) -> bool {
    let mut found = false;
    for word in &page.keepers {
        let known = word.load(Ordering::Acquire);
        if known as u32 == pid {
            found = true;
            // A standby may be putting its own keeper there.
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
            let _ = word.compare_exchange(known, 0, success, failure);
        }
    }
    found
}

/// The keeper.
///
/// # Safety
/// `orders` is what [`start`] has written.
unsafe extern "C" fn keep(orders: *const Orders) -> ! {
    // SAFETY: the caller's promise; nobody writes there again.
    let orders = unsafe { &*orders };
    end_with_parent();
    // The template may have ended before that.
    if parent() == orders.template && close_range(0, LAST_FD).is_ok() {
        give_way();
        syscalls::set_name(&in_role(b'K', &orders.name));
        while DISMISSED.load(Ordering::Relaxed) == 0 {
            syscalls::futex_wait(&DISMISSED, 0);
        }
    }
    // The template, which reaps it, takes its pid out of the control page.
    syscalls::exit(0)
}

/// CLONE_VM, CLONE_PARENT, CLONE_PARENT_SETTID; CLONE_PARENT brings the exit signal of the caller.
const FLAGS: usize = 0x100 | 0x8000 | 0x10_0000;

/// Clones; the child calls `entry` with `orders` on the stack that ends at `top`. Answers its pid or
/// a negative errno.
///
/// # Safety
/// `entry` never returns; the stack is the child's alone; `place` is valid for a pid.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_keeper(
    top: *mut u8,
    place: *mut u32,
    entry: unsafe extern "C" fn(*const Orders) -> !,
    orders: *const Orders,
) -> isize {
    let result: isize;
    // SAFETY: the child leaves this code at once for a stack of its own and does not come back; for
    // the caller this is a system call like any other.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") crate::kernel::number::CLONE => result,
            in("rdi") FLAGS, in("rsi") top, in("rdx") place,
            in("r10") 0, in("r8") 0, in("r12") orders, in("r13") entry,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// Clones; the child calls `entry` with `orders` on the stack that ends at `top`. Answers its pid or
/// a negative errno.
///
/// # Safety
/// `entry` never returns; the stack is the child's alone; `place` is valid for a pid.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_keeper(
    top: *mut u8,
    place: *mut u32,
    entry: unsafe extern "C" fn(*const Orders) -> !,
    orders: *const Orders,
) -> isize {
    let result: isize;
    // SAFETY: as for the other architecture.
    unsafe {
        core::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "br x21",
            "2:",
            in("x8") crate::kernel::number::CLONE,
            inlateout("x0") FLAGS => result,
            in("x1") top, in("x2") place, in("x3") 0, in("x4") 0,
            in("x20") orders, in("x21") entry,
        );
    }
    result
}
