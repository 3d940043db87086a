//! Tells the crate which compiler builds it: the layout of Rust's types is that compiler's to choose, so it is
//! part of what a heap's schema says.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=RUSTC");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(compiler).arg("-V").output();
    let version = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned());
    let target = std::env::var("TARGET").unwrap_or_default();
    println!(
        "cargo:rustc-env=REFRAIN_RUSTC={} {target}",
        version.unwrap_or_default().trim()
    );
}
