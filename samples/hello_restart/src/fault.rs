//! A real null pointer, for the first life of `hello_restart`.
//!
//! Called by `main`, once. In assembler, because a load from null in Rust is undefined: a debug
//! build turns it into an abort, and an optimised one may turn it into anything. It must never
//! return.
#![allow(unsafe_code)]

/// Loads from address 0: SIGSEGV.
pub fn load_from_null() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: nothing is mapped at address 0 (vm.mmap_min_addr), so the load faults and the life
    // ends here; no memory is changed and no register is relied on afterwards.
    unsafe {
        std::arch::asm!("mov {0}, qword ptr [{0}]", inout(reg) 0_u64 => _);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("ldr {0}, [{0}]", inout(reg) 0_u64 => _);
    }
    // Another machine, or one that maps address 0: an abnormal end all the same.
    std::process::abort()
}
