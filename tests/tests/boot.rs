//! What happens while `sysadm.ini` is being read for the first time.

use refrain_tests::Options;
use refrain_tests::console::Console;
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn c2_a_site_that_still_reads_sysadm_ini_halts_at_once_when_it_is_told_to() {
    let mut site = Options::new().prepare();
    site.write("slow", "echo begun\nsleep 100000\necho never\n");
    let mut console = Console::start(site.starter().args(["--once", "slow"]));
    console.wait_line("the first command", |line| line == "begun");
    let pid = Pid::from_raw(console.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let finished = console.wait_end();
    assert!(!finished.out.contains("never"), "{finished:?}");
    site.wait_down();
}

#[test]
fn c2_shutdown_3_does_not_wait_for_the_end_of_sysadm_ini() {
    let mut site = Options::new().prepare();
    site.write(
        "slow",
        "arun -g 1 /bin/sleep 100000\necho begun\nsleep 100000\n",
    );
    let mut console = Console::start(site.starter().args(["--once", "slow"]));
    console.wait_line("the first commands", |line| line == "begun");
    site.started();
    site.ok("shutdown -i 3");
    let finished = console.wait_end();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    site.wait_down();
}
