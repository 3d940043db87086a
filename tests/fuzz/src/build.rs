//! Builds the engine: the targets with libFuzzer, instrumented.
//!
//! Called by `main.rs`, by way of cargo, into a directory of its own beside the other builds: the
//! instrumentation is in every crate. All flags are those of a stable compiler. Must never build
//! without debug assertions: an overflow is a finding.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

/// What the compiler counts: edges, and the operands of comparisons.
/// Source: Clang's SanitizerCoverage, which libFuzzer is written for.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=yes",
    "-Coverflow-checks=yes",
    "-Copt-level=1",
    "-Ccodegen-units=16",
];

/// The machine, as the compiler calls it. Named to cargo, it keeps the flags away from what only runs while
/// building.
const MACHINE: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};

/// Builds the engine and answers where it is.
pub fn engine() -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| refrain_fuzz::home().join("../../target"), PathBuf::from);
    let target = target.join("fuzz");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "refrain-fuzz"])
        .args(["--bin", "refrain-fuzz-engine", "--features", "engine"])
        .args(["--target", MACHINE, "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .current_dir(refrain_fuzz::home())
        .status()
        .context("cargo cannot be run")?;
    ensure!(status.success(), "the engine cannot be built");
    Ok(target.join(MACHINE).join("debug/refrain-fuzz-engine"))
}
