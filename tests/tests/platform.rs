//! Machines that lack something (DESIGN section 9), and machines with systemd. Each is made from
//! this one, with a namespace of its own; where that is not permitted the test says so and skips.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use refrain_tests::programs::{c_program, free_port};
use refrain_tests::{Options, Site, binaries, proc, run, wait};
use rustix::process::Signal;

/// `inner`, run by `unshare` after `prepare` (a line of shell that may fail).
fn elsewhere(inner: &Command, unshare: &[&str], prepare: &str) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(unshare).args([
        "sh",
        "-c",
        &format!("{prepare} || exit 99; exec \"$0\" \"$@\""),
    ]);
    outer.arg(inner.get_program()).args(inner.get_args());
    outer.current_dir(inner.get_current_dir().unwrap());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Whether `unshare` and `prepare` work here.
fn can(unshare: &[&str], prepare: &str) -> bool {
    let mut probe = Command::new("true");
    probe.current_dir("/");
    let can = elsewhere(&probe, unshare, prepare)
        .status()
        .is_ok_and(|status| status.success());
    if !can {
        println!("skipped: unshare {unshare:?}, then {prepare:?}, is not permitted here");
    }
    can
}

/// A line of shell that unmounts every file system of this kind.
fn without(kind: &str) -> String {
    let kind = format!(" - {kind}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mounts.lines().filter(|line| line.contains(&kind));
    let points = points
        .filter_map(|line| line.split(' ').nth(4))
        .collect::<Vec<_>>();
    format!("umount {}", points.join(" "))
}

fn sweeping_site() -> Option<Site> {
    let prepare = without("cgroup2 ");
    if !can(&["-m"], &prepare) {
        return None;
    }
    let mut site = Options::new().never_bad().prepare();
    let mut starter = elsewhere(site.starter().arg("--detach"), &["-m"], &prepare);
    assert_eq!(run::to_end(&mut starter, None).code, Some(0));
    site.started();
    assert_eq!(site.stat()["containment"], "sweep");
    Some(site)
}

/// Every child that `daemoniser` makes ends with its life, and its port is free.
fn children_end_with_each_life(site: &Site, flags: &[&str]) {
    let program = c_program("daemoniser", site.dir()).display().to_string();
    let (port, out) = (
        free_port().to_string(),
        site.file("out").display().to_string(),
    );
    let words = [&["-g", "1"], flags, &[&program, &port, &out]].concat();
    site.arun(words);
    let mut old: Vec<u32> = Vec::new();
    for life in 0..5_u32 {
        let line = site.wait_lines("out", life as usize + 1).pop().unwrap();
        assert!(line.ends_with(" bound"), "{line}");
        assert!(
            old.iter().all(|pid| !proc::is_alive(*pid)),
            "life {life}: {old:?}"
        );
        let pids = line.split(' ').skip(1).take(3);
        old.extend(pids.map(|pid| pid.parse::<u32>().unwrap()));
        proc::kill(site.runs("daemoniser", life).pid(), Signal::SEGV);
    }
}

#[test]
fn invariant_2_holds_without_cgroup_v2() {
    if let Some(site) = sweeping_site() {
        children_end_with_each_life(&site, &[]);
    }
}

#[test]
fn h31_what_runs_is_adopted_without_cgroup_v2() {
    let Some(site) = sweeping_site() else { return };
    site.actor(1, "stays", "crasher", &["park"]);
    site.actor(2, "ends", "crasher", &["park"]);
    let (stays, ends) = (site.runs_with_standby("stays", 0), site.runs("ends", 0));
    let old = site.controller_pid();
    proc::kill(ends.pid(), Signal::ABORT);
    proc::kill(old, Signal::KILL);
    let after = site.wait_row("ends", |row| row.runs(1));
    assert_ne!(after.pid, ends.pid);
    assert_eq!(site.runs("stays", 0).pid, stays.pid);
    assert_ne!(site.controller_pid(), old);
}

#[test]
fn h31_a_life_that_a_killed_site_has_left_is_ended_without_cgroup_v2() {
    let Some(mut site) = sweeping_site() else {
        return;
    };
    let lock = site.file("lock").display().to_string();
    site.actor(1, "me", "crasher", &["alone", &lock, "park"]);
    let life = site.runs_with_standby("me", 0).pid();
    let ends = [site.nucleus_pid(), site.controller_pid()];
    site.note_family();
    ends.iter().for_each(|pid| proc::kill(*pid, Signal::KILL));
    wait::until_true("the site to be down", || {
        !ends.into_iter().any(proc::is_alive)
    });
    assert!(proc::is_alive(life));
    let prepare = without("cgroup2 ");
    let mut starter = elsewhere(site.starter().arg("--detach"), &["-m"], &prepare);
    assert_eq!(run::to_end(&mut starter, None).code, Some(0));
    site.started();
    site.wait_row("me", |row| row.runs(1));
    assert!(!proc::is_alive(life));
    assert!(!site.lines("me").contains(&"not alone".to_owned()));
}

#[test]
fn invariant_2_holds_without_cgroup_v2_where_each_life_has_a_template_of_its_own() {
    if let Some(site) = sweeping_site() {
        children_end_with_each_life(&site, &["--layout", "fresh"]);
    }
}

#[test]
fn h34_without_cgroups_memory_is_limited_all_the_same_and_what_cannot_be_is_refused() {
    let prepare = without("cgroup");
    if !can(&["-m"], &prepare) {
        return;
    }
    let mut site = Options::new().prepare();
    let mut starter = elsewhere(site.starter().arg("--detach"), &["-m"], &prepare);
    assert_eq!(run::to_end(&mut starter, None).code, Some(0));
    site.started();
    let (program, out) = (c_program("hungry", site.dir()), site.file("out"));
    let words = format!("{} {} memory", program.display(), out.display());
    site.ok(&format!("arun -g 1 --memory 64MiB {words}"));
    assert_eq!(
        site.wait_lines("out", 1),
        ["refused: Cannot allocate memory"]
    );
    assert!(
        site.ok("aps -l")
            .contains("memory 67108864 B (RLIMIT_DATA of each process)")
    );
    for flag in ["--pids 5", "--cpu 50%"] {
        let line = site.refused(&format!("arun -g 2 -n other {flag} {words}"));
        assert!(
            line.contains("cannot be enforced here") && line.contains("leave it out"),
            "{line}"
        );
    }
    assert!(site.row("other").is_none());
}

/// A cgroup of version 2 that was handed over whole, as systemd does for `Delegate=` with
/// `DelegateSubgroup=`: nobody is in it but in the one below it. Removed when dropped.
struct Delegated(std::path::PathBuf);

impl Delegated {
    fn make(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let point = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let path = std::path::Path::new(point.split(' ').nth(4)?).join(format!("{name}-unit"));
        fs::create_dir(&path).ok()?;
        let unit = Self(path);
        fs::create_dir(unit.0.join("main")).ok()?;
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&unit.0, "user.delegate", b"1", flags).ok()?;
        Some(unit)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        wait::until_true("the cgroups to be empty", || {
            let _ = fs::remove_dir(self.0.join("main"));
            fs::remove_dir(&self.0).is_ok()
        });
    }
}

#[test]
fn h34_a_site_makes_its_cgroup_where_controllers_can_be_enabled_for_it() {
    let mut site = Options::new().never_bad().prepare();
    let Some(unit) = Delegated::make("systest-delegated") else {
        println!("skipped: no cgroup of version 2 can be made and marked here");
        return;
    };
    let starter = site.starter();
    let mut command = Command::new("sh");
    let join = "echo $$ > \"$1\"/main/cgroup.procs || exit 99; shift; exec \"$@\" --detach";
    command.args(["-c", join, "-"]).arg(&unit.0);
    command
        .arg(starter.get_program())
        .args(starter.get_args())
        .current_dir(site.dir());
    assert_eq!(run::to_end(&mut command, None).code, Some(0));
    site.started();
    site.actor(1, "me", "crasher", &["park"]);
    let group = proc::text(site.runs("me", 0).pid(), "cgroup");
    let above = unit.0.file_name().unwrap().to_string_lossy().into_owned();
    let wanted = format!(
        "/{above}/refrain-{}-{}/",
        rustix::process::getuid().as_raw(),
        site.name()
    );
    assert!(group.contains(&wanted), "{wanted} is not in {group}");
    children_end_with_each_life(&site, &[]);
    site.halt(0);
}

#[test]
fn a_site_runs_where_executable_memfds_are_refused() {
    let unshare = ["--pid", "--fork", "--mount-proc"];
    let prepare = "echo 2 > /proc/sys/vm/memfd_noexec";
    if !can(&unshare, prepare) {
        return;
    }
    let mut site = Options::new().prepare();
    let [parent, child] =
        ["HR_parent", "HR_child"].map(|name| binaries::path(name).display().to_string());
    site.write("todo", format!("arun -g 1 {parent} {child}\n"));
    let mut once = elsewhere(site.starter().args(["--once", "todo"]), &unshare, prepare);
    let finished = run::to_end(&mut once, None);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.contains("transcript right"), "{finished:?}");
    site.wait_down();
}

#[test]
fn systemd_is_told_that_the_site_serves_and_lives() {
    let mut site = Options::new().prepare();
    let socket = UnixDatagram::bind(site.file("notify")).unwrap();
    socket.set_read_timeout(Some(wait::WATCHDOG)).unwrap();
    let mut starter = site.starter();
    starter
        .arg("--detach")
        .env("NOTIFY_SOCKET", site.file("notify"));
    starter
        .env("WATCHDOG_USEC", "400000")
        .env("WATCHDOG_PID", "1");
    assert_eq!(run::to_end(&mut starter, None).code, Some(0));
    site.started();
    let ready = format!("READY=1\nMAINPID={}", site.nucleus_pid());
    let mut heard = Vec::new();
    while !(heard.iter().any(|said| said == &ready)
        && heard.iter().any(|said| said == "WATCHDOG=1"))
    {
        let mut buffer = [0; 512];
        let count = socket.recv(&mut buffer).unwrap();
        heard.push(String::from_utf8_lossy(&buffer[..count]).trim().to_owned());
    }
    // What systemd says to the site is not for its actors.
    let environment = site.ok("env");
    assert!(
        !environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"),
        "{environment}"
    );
}

#[test]
fn a_site_that_may_open_too_few_files_is_refused_with_the_cure() {
    let site = Options::new().prepare();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]);
    let starter = site.starter();
    limited
        .arg(starter.get_program())
        .args(starter.get_args())
        .arg("--detach");
    limited.current_dir(site.dir());
    let finished = run::to_end(&mut limited, None);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.err.contains("limit of 64 open files") && finished.err.contains("ulimit -n"),
        "{finished:?}"
    );
}

#[test]
fn h34_a_check_that_hangs_is_ended_without_cgroup_v2() {
    let Some(site) = sweeping_site() else {
        return;
    };
    let program = binaries::path("crasher").display().to_string();
    let check = "(sleep 9716 & sleep 9717); sleep 9718";
    let flags = [
        "-g",
        "1",
        "-n",
        "db",
        "--check",
        check,
        "--check-every",
        "30ms",
    ];
    let more = [
        "--check-timeout",
        "200ms",
        "--check-failures",
        "2",
        &program,
        "-",
        "park",
    ];
    site.arun(flags.iter().chain(&more));
    let row = site.wait_row("db", |row| row.last_end.is_some());
    let end = row.last_end.unwrap();
    assert_eq!(end, "hang: check failed 2 times: no answer within 200 ms");
    site.ok("akill -g 1");
    wait::until_true("the sleeps to end", || {
        let family = proc::family(site.nucleus_pid());
        let mut pids = family.iter().map(|stat| stat.id.pid);
        !pids.any(|pid| proc::text(pid, "cmdline").starts_with("sleep\n971"))
    });
}
