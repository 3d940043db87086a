//! The ways in which `HR_parent` crashes, all of them abnormal ends (SPEC H8).
//!
//! In assembler, because in Rust each is either undefined or a panic, and here the machine itself
//! is to raise the fault. None ever returns; on other machines than x86-64 they abort.
#![allow(unsafe_code)]

/// What the console is told, and what makes it happen.
pub const KINDS: [(&str, fn() -> !); 4] = [
    ("null pointer (SIGSEGV)", null_pointer),
    ("division by zero (SIGFPE)", division_by_zero),
    ("invalid instruction (SIGILL)", invalid_instruction),
    ("plain exit, without the exit handler", || {
        std::process::exit(3)
    }),
];

fn null_pointer() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: nothing is mapped at address 0 (vm.mmap_min_addr), so the load faults.
    unsafe {
        std::arch::asm!("mov {0}, qword ptr [{0}]", inout(reg) 0_u64 => _);
    }
    std::process::abort()
}

fn division_by_zero() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it faults; rax and rdx, which it would change, are named.
    unsafe {
        std::arch::asm!("idiv {0}", in(reg) 0_u64, inout("rax") 1_u64 => _, inout("rdx") 0_u64 => _);
    }
    std::process::abort()
}

fn invalid_instruction() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: ud2 is defined to fault, and does nothing else.
    unsafe {
        std::arch::asm!("ud2");
    }
    std::process::abort()
}
