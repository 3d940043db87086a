//! Compiles runtime/shim into what templates are made of: the shared object, the one for interpreters
//! of scripts, and the static stub.
//!
//! By calling rustc, because cargo can't make a library that is preloaded and a program without a
//! libc out of one package, and because both must be there before this crate is compiled: it carries
//! them as bytes. Both are built for size and speed in every profile: they are part of the restart
//! path, and a debug build of them would call into libc.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cannot build the shim: {why}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let var = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let out = PathBuf::from(var("OUT_DIR")?);
    let runtime = PathBuf::from(var("CARGO_MANIFEST_DIR")?).join("..");
    let (abi, shim) = (runtime.join("abi/src"), runtime.join("shim/src"));
    for path in [&abi, &shim] {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");

    let compile = |source: &Path, output: &Path, arguments: &[&str]| -> Result<(), String> {
        let mut rustc = Command::new(var("RUSTC")?);
        rustc.args([
            "--edition",
            "2024",
            "--target",
            &var("TARGET")?,
            "--cap-lints",
            "allow",
        ]);
        rustc.args([
            "-C",
            "panic=abort",
            "-C",
            "opt-level=2",
            "-C",
            "codegen-units=1",
        ]);
        if let Ok(linker) = env::var("RUSTC_LINKER") {
            rustc.args(["-C", &format!("linker={linker}")]);
        }
        rustc
            .args(arguments)
            .arg("-o")
            .arg(output)
            .arg(source.join("lib.rs"));
        let status = rustc.status().map_err(|error| format!("rustc: {error}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("rustc failed: {rustc:?}"))
        }
    };
    let abi_library = out.join("librefrain_abi.rlib");
    compile(
        &abi,
        &abi_library,
        &["--crate-name", "refrain_abi", "--crate-type", "rlib"],
    )?;
    let external = format!("refrain_abi={}", abi_library.display());
    let common = [
        "--extern",
        &external,
        "-C",
        "strip=symbols",
        "-C",
        "link-arg=-nostdlib",
    ];

    let object = [
        "--crate-name",
        "refrain_shim",
        "--crate-type",
        "cdylib",
        "--cfg",
        "shim_object",
    ];
    // The first constructor of all is ours; whatever is called is bound at once.
    let flags = ["-C", "link-arg=-Wl,-z,initfirst,-z,now,--hash-style=both"];
    let preloaded = [&object[..], &common, &flags].concat();
    compile(&shim, &out.join("shim.so"), &preloaded)?;
    let for_scripts = [&preloaded[..], &["--cfg", "shim_script"]].concat();
    compile(&shim, &out.join("shim-script.so"), &for_scripts)?;

    let stub = [
        "--crate-name",
        "refrain_stub",
        "--crate-type",
        "bin",
        "--cfg",
        "shim_stub",
    ];
    let flags = [
        "-C",
        "relocation-model=static",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "link-args=-nostartfiles -static -no-pie -Wl,--build-id=none,-z,noexecstack",
    ];
    compile(
        &shim,
        &out.join("stub"),
        &[&stub[..], &common, &flags].concat(),
    )
}
