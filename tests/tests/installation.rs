//! What `runtime/capi/install` installs is complete, and lies where it says.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use refrain_tests::programs::installed;
use refrain_tests::{Finished, Options, binaries, run};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs the install script.
fn install(words: &[&str]) -> Finished {
    let script = repository().join("runtime/capi/install");
    run::to_end(Command::new(script).args(words), None)
}

#[test]
fn what_is_installed_is_all_that_a_sample_needs() {
    let Some(pkg_config) = installed("pkg-config") else {
        return;
    };
    let mut site = Options::new().prepare();
    let prefix = site.file("prefix").display().to_string();
    let built = binaries::path("libhr.a").parent().unwrap().to_owned();
    let done = install(&["--prefix", &prefix, "--from", built.to_str().unwrap()]);
    let _ = done.expect_ok("install");
    // Nothing but pkg-config says where things are.
    let ask = |words: &[&str]| {
        let mut command = Command::new(&pkg_config);
        command.env("PKG_CONFIG_PATH", format!("{prefix}/lib/pkgconfig"));
        let said = run::to_end(command.args(words).arg("refrain"), None).expect_ok("pkg-config");
        said.trim().to_owned()
    };
    let flags = ask(&["--cflags", "--libs"]);
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let source = repository().join("samples/c/hello_restart.c");
    let hello = site.file("hello_restart");
    let mut cc = Command::new("cc");
    cc.arg(source).arg("-o").arg(&hello).args(flags);
    let _ = run::to_end(&mut cc, None).expect_ok("cc");
    let counter = repository().join("samples/python/counter.py");
    let lines = format!(
        "arun -g 1 {}\narun -g 2 {}\n",
        hello.display(),
        counter.display()
    );
    let lines = match installed("python3") {
        Some(_) => lines.as_str(),
        None => lines.lines().next().unwrap(),
    };
    site.write("sysadm.ini", lines);
    let mut c_init = site.starter_of(Path::new(&format!("{prefix}/bin/c_init")));
    c_init
        .env("LD_LIBRARY_PATH", format!("{prefix}/lib"))
        .env("PYTHONPATH", ask(&["--variable=pythondir"]))
        .args(["--once", "sysadm.ini"]);
    let finished = run::to_end(&mut c_init, None);
    site.wait_down();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.out.contains("hello again: the counter is 2"),
        "{finished:?}"
    );
    if lines.contains("counter.py") {
        assert!(finished.out.contains("life 2, aid"), "{finished:?}");
        assert!(finished.out.contains("the counter is 3"), "{finished:?}");
    }
    let aps = run::to_end(
        Command::new(format!("{prefix}/bin/aps")).arg("--help"),
        None,
    );
    assert!(aps.expect_ok("aps").contains("--json"));
}

#[test]
fn an_installation_goes_below_the_destdir_and_names_the_prefix() {
    let site = Options::new().prepare();
    let dest = site.file("package").display().to_string();
    let built = binaries::path("libhr.a").parent().unwrap().to_owned();
    let built = built.to_str().unwrap();
    let done = install(&["--prefix", "/opt/r", "--destdir", &dest, "--from", built]);
    let _ = done.expect_ok("install");
    let root = Path::new(&dest).join("opt/r");
    let told = fs::read_to_string(root.join("lib/pkgconfig/refrain.pc")).unwrap();
    assert!(told.starts_with("prefix=/opt/r\n"), "{told}");
    for header in [
        "hr/hr.h",
        "hr/hrCtrl.h",
        "pmm/chPmm.h",
        "am/afexec.h",
        "chorus.h",
    ] {
        let header = root.join("include/refrain").join(header);
        assert!(header.is_file(), "{}", header.display());
    }
    for link in [
        "bin/arun",
        "bin/akill",
        "bin/aps",
        "lib/libhr.so",
        "lib/libhr.so.0",
    ] {
        assert!(root.join(link).is_file(), "{link} leads somewhere");
    }
    for (words, code) in [
        (&["--bogus"][..], 2),
        (&["--prefix", "here"], 2),
        (&["--from", "/nowhere"], 1),
    ] {
        let line = install(words).expect_refusal(code, "install");
        assert!(line.starts_with("install: "), "{line}");
    }
}
