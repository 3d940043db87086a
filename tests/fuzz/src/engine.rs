//! libFuzzer with one target in it, the one that `REFRAIN_FUZZ_TARGET` names.
//!
//! Built and started by `refrain-fuzz` (`run.rs`), with the compiler's instrumentation, in a
//! directory that it provides. It must never be built without: libFuzzer would be blind.
#![no_main]

use refrain_fuzz::Bench;

libfuzzer_sys::fuzz_target!(init: refrain_fuzz::prepare(), |bytes: &[u8]| {
    Bench::from_environment().put(bytes);
});
