//! Standbys ahead of need, and members of a group that stop by themselves (DESIGN section 5, ADR 0014).
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::programs::{c_program, compile};
use refrain_tests::{Options, Site, proc, wait};
use rustix::process::Signal;

/// How many standbys of actor `name` are there.
fn standbys(site: &Site, name: &str) -> usize {
    let life = site.row(name).and_then(|row| proc::stat(row.pid?));
    let family = life.map(|life| proc::family(life.parent));
    let in_role = |stat: &&proc::Stat| stat.role == Some('S') && stat.state != 'Z';
    family.map_or(0, |family| family.iter().filter(in_role).count())
}

#[test]
fn a_template_whose_forks_are_slow_has_two_standbys() {
    let site = Options::new().never_bad().start();
    let program = c_program("bulky", site.dir());
    site.arun(["-g", "1", program.to_str().unwrap()]);
    for life in 0..3 {
        proc::kill(site.runs("bulky", life).pid(), Signal::KILL);
        let _ = site.runs("bulky", life + 1);
    }
    wait::until_true("two standbys", || standbys(&site, "bulky") == 2);
    // Both are used: two crashes in a row meet a standby each.
    for life in 3..5 {
        proc::kill(site.runs("bulky", life).pid(), Signal::KILL);
        let row = site.runs("bulky", life + 1);
        assert_eq!(row.start.as_deref(), Some("standby"), "{row:?}");
    }
}

#[test]
fn h9_members_stop_by_themselves_but_for_those_with_threads() {
    let site = Options::new().never_bad().start();
    let plain = c_program("faults", site.dir());
    let threaded = compile(
        "cc",
        "threaded",
        site.dir(),
        "threaded",
        &["-pthread", "-w"],
    );
    for name in ["first", "second", "third"] {
        site.arun(["-g", "1", "-n", name, plain.to_str().unwrap(), "sleep"]);
    }
    site.arun(["-g", "1", threaded.to_str().unwrap()]);
    let members = ["first", "second", "third", "threaded"];
    // On a machine that is busy a member may be killed before it has got the time to stop.
    let by_themselves = (0..20).any(|life| {
        for name in members {
            let _ = site.runs(name, life);
            wait::until_true("a standby", || standbys(&site, name) > 0);
        }
        proc::kill(site.runs("first", life).pid(), Signal::KILL);
        let noticed = members.map(|name| site.runs(name, life + 1).notice.unwrap());
        assert_eq!([&*noticed[0], &*noticed[3]], ["kernel", "kernel"]);
        noticed[1] == "fault" && noticed[2] == "fault"
    });
    assert!(by_themselves, "no member stops by itself");
    // Those that stopped are ended afterwards, and every member has its next standby.
    for name in members {
        wait::until_true("the next standby", || standbys(&site, name) > 0);
        let row = site.row(name).unwrap();
        assert!(
            row.last_end
                .as_deref()
                .is_some_and(|end| end.contains("SIGKILL")),
            "{row:?}"
        );
    }
    wait::until_true("the stopped to be gone", || {
        let family = proc::family(site.nucleus_pid());
        let lives = family.iter().filter(|stat| stat.role.is_none()).count();
        // nucleus, hr_ctrl, and a life of each member.
        lives == 6
    });
}
