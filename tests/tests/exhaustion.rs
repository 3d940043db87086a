//! When the kernel has nothing left to give, the actors that run go on, the operation fails with a line
//! that says why, and what was given up on is tried again when that makes sense.
//!
//! Errors are injected into single processes of the site, so that the machine is left alone; a full pid
//! space is a cgroup's. ENOSPC of the bank is tested with it (`bank.rs`), EMFILE by connections with the
//! sessions (`hostile.rs`), out of memory and out of processes of one actor with its limits (`limits.rs`).
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::path::PathBuf;

use refrain_tests::programs::{installed, skipped};
use refrain_tests::{Options, Row, Site, Tracer, proc, wait};
use rustix::process::Signal;

/// What makes fds.
const OPENERS: &str =
    "memfd_create,openat,socketpair,pipe2,eventfd2,pidfd_open,dup,dup3,fcntl,epoll_create1";
/// What a fork is made of.
const FORKS: &str = "clone,clone3,fork,vfork";

/// Two actors in groups of their own, `one` and `two`, with standbys.
fn residents(site: &Site) -> [Row; 2] {
    ["one", "two"].map(|name| {
        let gid = if name == "one" { 1 } else { 2 };
        site.actor(gid, name, "crasher", &["park"]);
        site.runs_with_standby(name, 0)
    })
}

/// While each of `calls` fails with `error` in hr_ctrl, an `arun` is refused with `words`; the residents go on
/// and are restarted; when it is over, the same `arun` runs.
fn hr_ctrl_without(calls: &str, error: &str, words: &str) {
    if installed("strace").is_none() {
        return;
    }
    let site = Options::new().never_bad().start();
    let [one, two] = residents(&site);
    let (controller, nucleus) = (site.controller_pid(), site.nucleus_pid());
    let tracer = Tracer::fail(calls, error, controller).unwrap();
    let crasher = refrain_tests::binaries::path("crasher")
        .display()
        .to_string();
    let finished = site.applet("arun", ["-g", "3", "-n", "three", &crasher, "park"]);
    let said = finished.expect_refusal(1, "arun");
    assert!(said.contains(words), "{error}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    proc::kill(one.pid(), Signal::KILL);
    site.runs("one", 1);
    assert_eq!(site.runs("two", 0).pid(), two.pid());
    tracer.detach();
    site.actor(3, "three", "crasher", &["park"]);
    site.runs_with_standby("three", 0);
    // What could not be made ahead meanwhile is made now.
    let one = site.runs_with_standby("one", 1);
    proc::kill(one.pid(), Signal::KILL);
    site.runs("one", 2);
    assert_eq!(site.runs("two", 0).pid(), two.pid());
    assert_eq!(
        (site.controller_pid(), site.nucleus_pid()),
        (controller, nucleus)
    );
}

#[test]
fn a_site_without_a_free_fd_refuses_new_actors_and_restarts_those_it_has() {
    hr_ctrl_without(OPENERS, "EMFILE", "Too many open files (os error 24)");
}

#[test]
fn a_machine_without_a_free_file_refuses_new_actors_and_keeps_those_it_has() {
    hr_ctrl_without(OPENERS, "ENFILE", "Too many open files in system");
}

#[test]
fn a_machine_without_memory_for_an_image_refuses_new_actors_and_keeps_those_it_has() {
    hr_ctrl_without(
        "memfd_create,ftruncate,fallocate",
        "ENOMEM",
        "Cannot allocate memory",
    );
}

#[test]
fn a_machine_without_memory_for_a_fork_refuses_new_actors_and_keeps_those_it_has() {
    hr_ctrl_without(FORKS, "ENOMEM", "Cannot allocate memory");
}

/// While the template of `one` cannot fork, a life without a standby waits; it begins when that is over.
fn template_without_forks(error: &str) {
    if installed("strace").is_none() {
        return;
    }
    let site = Options::new().never_bad().start();
    let [one, two] = residents(&site);
    let template = proc::stat(one.pid()).unwrap().parent;
    let tracer = Tracer::fail(FORKS, error, template).unwrap();
    // Whatever stands by is used up; then there is no life until a fork succeeds.
    let mut life = 0;
    let waiting = wait::until("a life that cannot begin", || {
        let row = site.row("one").unwrap();
        if row.runs(life) {
            proc::kill(row.pid(), Signal::KILL);
            life += 1;
        }
        (row.state != "running").then_some(row)
    });
    assert!(waiting.pid.is_none(), "{waiting:?}");
    assert_eq!(site.runs("two", 0).pid(), two.pid());
    proc::kill(two.pid(), Signal::KILL);
    site.runs("two", 1);
    tracer.detach();
    site.runs_with_standby("one", life);
}

#[test]
fn a_template_that_may_not_fork_is_asked_again_until_it_may() {
    template_without_forks("EAGAIN");
}

#[test]
fn a_template_without_memory_for_a_fork_is_asked_again_until_there_is_some() {
    template_without_forks("ENOMEM");
}

/// A cgroup of version 1 for the test's own: how many processes it may have can be changed at any time.
struct PidSpace {
    path: PathBuf,
}

impl PidSpace {
    /// Moves all processes of the site into it, `None` where there is no such hierarchy.
    fn around(site: &Site) -> Option<Self> {
        let Some(base) = proc::cgroup_of(std::process::id(), "pids") else {
            skipped("there is no hierarchy with the controller pids here");
            return None;
        };
        let path = base.join(format!("refrain-pid-space-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&path) {
            skipped(&format!(
                "no cgroup with the controller pids can be made here: {error}"
            ));
            return None;
        }
        let space = Self { path };
        for member in proc::family(site.nucleus_pid()) {
            space.write("cgroup.procs", &member.id.pid.to_string());
        }
        Some(space)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path.join(file), text).unwrap();
    }

    /// Nobody in it can fork any more.
    fn fill(&self) {
        self.write("pids.max", "1");
    }

    fn empty(&self) {
        self.write("pids.max", "max");
    }
}

impl Drop for PidSpace {
    fn drop(&mut self) {
        // Its processes end with the site, which is dropped first.
        wait::until("the pid space to be empty", || {
            fs::remove_dir(&self.path).ok()
        });
    }
}

#[test]
fn with_a_full_pid_space_the_actors_go_on_and_what_waits_begins_when_there_is_room() {
    let mut site = Options::new().never_bad().start();
    let Some(space) = PidSpace::around(&site) else {
        return;
    };
    let [one, two] = residents(&site);
    space.fill();
    let crasher = refrain_tests::binaries::path("crasher")
        .display()
        .to_string();
    let finished = site.applet("arun", ["-g", "3", "-n", "three", &crasher, "park"]);
    let said = finished.expect_refusal(1, "arun");
    assert!(said.contains("Resource temporarily unavailable"), "{said}");
    // Each of both has the lives that stand by.
    proc::kill(one.pid(), Signal::KILL);
    let one = site.runs("one", 1);
    assert_eq!(site.runs("two", 0).pid(), two.pid());
    // A controller cannot be made either, until there is room.
    let controller = site.controller_pid();
    proc::kill(controller, Signal::KILL);
    wait::until_true("hr_ctrl to end", || !proc::is_alive(controller));
    assert!(proc::is_alive(one.pid()) && proc::is_alive(two.pid()));
    space.empty();
    assert_eq!(site.runs("one", 1).pid(), one.pid(), "adopted");
    assert_eq!(site.runs("two", 0).pid(), two.pid(), "adopted");
    for life in 1..6 {
        proc::kill(site.runs("one", life).pid(), Signal::KILL);
    }
    site.runs_with_standby("one", 6);
    site.halt(0);
}

#[test]
fn a_console_that_is_stopped_with_its_pipes_full_holds_up_nobody() {
    let site = Options::new().never_bad().start();
    let (mut console, stdin, reader) = site.piped_console();
    proc::kill(console.id(), Signal::STOP);
    let [one, two] = residents(&site);
    let flood = (16_u64 << 20).to_string();
    site.actor(3, "flood", "crasher", &["flood", &flood, "park"]);
    wait::until_true("the flood to be over", || {
        site.lines("flood") == ["flooded"]
    });
    for life in 0..10 {
        proc::kill(site.runs("one", life).pid(), Signal::KILL);
    }
    assert_ne!(site.runs("one", 10).pid(), one.pid());
    assert_eq!(site.runs("two", 0).pid(), two.pid());
    proc::kill(console.id(), Signal::CONT);
    drop((stdin, reader));
    console.wait().unwrap();
}
