//! `libhr`: the crate `refrain` for C, and for languages that call C.
//!
//! Called by actors; the headers in `include` are what they see, and say what each function does. This crate
//! decides nothing: it checks C's pointers, asks the crate, and turns its answers into the numbers of the
//! headers ([`codes`]); the text of a thread's last error is kept for `hr_error`. Must never follow a null
//! pointer, nor let a panic cross into C: nothing here panics knowingly, and the compiler ends a life whose
//! `extern "C"` function would.
//!
//! | module | of the headers |
//! | --- | --- |
//! | [`life`] | `hr/hr.h`: the life's number, image and progress; `HR_EXIT_HDL` |
//! | [`pmm`] | `pmm/chPmm.h` |
//! | [`exec`] | `hr/hrCtrl.h`: the family `hrfexec`; those that end with `...` are C, in the header |
//! | [`group`] | `hr/hrCtrl.h`: groups and `sysShutdown` |
//! | [`actor`] | `chorus.h`, `afexec.h`: who the caller is |
#![allow(unsafe_code)]

mod actor;
mod codes;
mod exec;
mod group;
mod life;
mod names;
mod pmm;
mod pointers;
