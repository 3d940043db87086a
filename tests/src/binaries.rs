//! Where the programs under test are: beside the test executable, in `target/<profile>`.
//!
//! `CARGO_BIN_EXE_*` names only binaries of this package, so the others are found by place, and
//! built once when cargo runs the tests: a test never meets a stale `c_init`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Set to keep the harness from building: the binaries are up to date already.
pub const PREBUILT_VAR: &str = "REFRAIN_TESTS_PREBUILT";

/// The path of the program `name`, or of the shared library `libhr.so`, built.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    static PROFILE_DIR: OnceLock<PathBuf> = OnceLock::new();
    let path = PROFILE_DIR.get_or_init(built_profile_dir).join(name);
    assert!(
        path.is_file(),
        "{} is missing; run `cargo build --workspace` first",
        path.display()
    );
    path
}

fn built_profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a running test has an executable");
    let place = exe.parent().expect("an executable lies in a directory");
    // Tests run in target/<profile>/deps, programs in target/<profile>.
    let dir = if place.ends_with("deps") {
        place.parent().expect("deps lies in a directory")
    } else {
        place
    };
    if let Some(cargo) = std::env::var_os("CARGO")
        && std::env::var_os(PREBUILT_VAR).is_none()
    {
        build(Path::new(&cargo), dir);
    }
    dir.to_owned()
}

fn build(cargo: &Path, profile_dir: &Path) {
    let target = profile_dir.parent().expect("target/<profile> has a parent");
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--bins",
            "--lib",
            "--target-dir",
        ])
        .arg(target);
    if profile_dir.ends_with("release") {
        command.arg("--release");
    }
    let status = command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .expect("cargo, which runs this test, can be run");
    assert!(status.success(), "the programs under test do not build");
}
