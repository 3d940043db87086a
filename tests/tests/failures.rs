//! What a failure is told to have been: the record of the fault handler, in `aps` and in the log.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::programs::compile;
use refrain_tests::{Options, Site, wait};
use serde_json::Value;

/// The failure of actor `name`, once it is in words.
fn failure(site: &Site, name: &str) -> Value {
    let find = || {
        let rows: Value = serde_json::from_str(&site.ok("aps --json")).unwrap();
        let row = rows
            .as_array()?
            .iter()
            .find(|row| row["name"] == name)?
            .clone();
        (!row["failure"].is_null()).then(|| row["failure"].clone())
    };
    wait::until_true("the failure to be in words", || find().is_some());
    find().unwrap()
}

#[test]
fn a_fault_is_told_with_its_address_function_and_callers() {
    let site = Options::new().never_bad().start();
    let program = compile("cc", "faults", site.dir(), "faults", &["-O0", "-g"]);
    site.arun(["-g", "1", program.to_str().unwrap(), "segv"]);
    let _ = site.runs("faults", 1);
    let told = failure(&site, "faults");
    assert_eq!((&told["signal"], &told["address"]), (&11.into(), &0.into()));
    let functions: Vec<_> = told["backtrace"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|frame| frame["function"].as_str())
        .collect();
    assert!(functions.contains(&"main"), "{told}");
    let line = "SIGSEGV (address not mapped) at 0x0, in faults+";
    for log in ["faults", "HR_CTRL"] {
        let text = site.ok(&format!("log {log}"));
        assert!(text.contains(line), "log {log}: {text}");
    }
    let long = site.ok("aps -l");
    assert!(long.contains(line), "{long}");
}

#[test]
fn every_fault_that_has_a_handler_is_told_and_an_exit_is_not() {
    let site = Options::new().never_bad().start();
    let program = compile("cc", "faults", site.dir(), "faults", &[]);
    let kinds = [
        ("bus", 7),
        ("fpe", 8),
        ("ill", 4),
        ("abort", 6),
        ("stack", 11),
    ];
    for (gid, (kind, _)) in kinds.iter().enumerate() {
        let gid = (gid + 1).to_string();
        site.arun(["-g", &gid, "-n", kind, program.to_str().unwrap(), kind]);
    }
    site.arun(["-g", "9", "-n", "exit3", program.to_str().unwrap(), "exit3"]);
    for (kind, signal) in kinds {
        let _ = site.runs(kind, 1);
        assert_eq!(failure(&site, kind)["signal"], signal, "{kind}");
    }
    let _ = site.runs("exit3", 1);
    let rows: Value = serde_json::from_str(&site.ok("aps --json")).unwrap();
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "exit3");
    assert!(row.unwrap()["failure"].is_null(), "{rows}");
}
