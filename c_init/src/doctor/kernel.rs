//! What is tried: each mechanism that starts, watches and ends a life.
//!
//! Called by `doctor`. It must leave no child, file or cgroup.

use std::io;
use std::time::Instant;

use refrain_abi::tunables::Tunables;
use refrain_sys::memfd::is_exec_refused;
use refrain_sys::probe::{self, Child, Sleeper};
use refrain_sys::{children, process};

use super::{Finding, told};

/// Everything that was tried.
pub(super) fn findings() -> Vec<Finding> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut findings = vec![Finding::note("kernel", release)];
    let memory =
        Sleeper::in_memfd().and_then(|sleeper| sleeper.start(None).map(|it| (sleeper, it)));
    findings.push(executable_memfd(&memory));
    let started = memory.or_else(|_| {
        let sleeper = Sleeper::in_file()?;
        let child = sleeper.start(None)?;
        Ok::<_, io::Error>((sleeper, child))
    });
    match started {
        Ok((sleeper, child)) => {
            findings.extend(pidfds(&child));
            drop(child);
            findings.extend(cgroups(&sleeper));
        }
        Err(why) => findings.push(Finding::missing(
            "start of a program",
            why.to_string(),
            "no actor can be started",
        )),
    }
    findings.push(mapping());
    findings.push(close_range());
    findings
}

fn executable_memfd(tried: &io::Result<(Sleeper, Child)>) -> Finding {
    let feature = "executable memfds";
    let cost = "images are files without a name beside the bank's; as fast where that is tmpfs \
                and not mounted noexec";
    match tried {
        Ok(_) => {
            let setting = told("/proc/sys/vm/memfd_noexec");
            let setting = setting.map(|value| format!("vm.memfd_noexec={value}"));
            Finding::found(feature, setting.unwrap_or_else(|| "yes".into()))
        }
        Err(why) if is_exec_refused(why) => {
            Finding::lacking(feature, "refused (vm.memfd_noexec=2)", cost)
        }
        Err(why) => Finding::lacking(feature, why.to_string(), cost),
    }
}

fn pidfds(child: &Child) -> Vec<Finding> {
    let killed = match child.kill() {
        Ok(()) => Finding::found("pidfds", "pidfd_send_signal and poll work"),
        Err(why) => Finding::missing(
            "pidfds",
            why.to_string(),
            "Refrain cannot run: it watches and kills by pidfd only",
        ),
    };
    let feature = "PIDFD_GET_INFO";
    let told = match child.tells_end_after_reaping() {
        Ok(true) => Finding::found(feature, "tells how a life ended that was reaped"),
        Ok(false) => Finding::lacking(
            feature,
            "not known here (Linux 6.15)",
            "how a life ended whose template is gone is not told",
        ),
        Err(why) => Finding::lacking(feature, why.to_string(), "ends may not be told"),
    };
    vec![killed, told]
}

fn cgroups(sleeper: &Sleeper) -> Vec<Finding> {
    let clone3 = match probe::clone3() {
        Ok(()) => Finding::found("clone3", "yes"),
        Err(why) => Finding::missing("clone3", why.to_string(), sweep_cost()),
    };
    let held = match probe::own_cgroup() {
        Ok(held) => held,
        Err(why) => {
            let missing = Finding::missing("cgroup v2", why.to_string(), sweep_cost());
            return vec![clone3, missing];
        }
    };
    let mut findings = vec![
        clone3,
        Finding::found("cgroup v2", "one of our own can be made"),
    ];
    let feature = "CLONE_INTO_CGROUP";
    match held.start(sleeper) {
        Ok(child) => {
            findings.push(Finding::found(feature, "yes"));
            let ended = held.kill_all().and_then(|()| child.wait_ended());
            findings.push(match ended {
                Ok(()) => Finding::found("cgroup.kill", "yes"),
                Err(why) => Finding::missing("cgroup.kill", why.to_string(), sweep_cost()),
            });
        }
        Err(why) => findings.push(Finding::missing(feature, why.to_string(), sweep_cost())),
    }
    findings
}

/// Without a cgroup whatever a life started is searched for in `/proc`, at each end of a life.
fn sweep_cost() -> String {
    let begin = Instant::now();
    let swept = children::descendants_of(std::process::id());
    let took = begin.elapsed().as_micros();
    match swept {
        Ok(_) => format!(
            "what a life started is searched for in /proc: restarts will take {took} us more, with \
             the processes that run now"
        ),
        Err(why) => format!("what a life started cannot be found: {why}"),
    }
}

fn mapping() -> Finding {
    let feature = "MADV_POPULATE_WRITE";
    match probe::populate_at(Tunables::default().pmm.window_base) {
        Ok(()) => Finding::found(
            feature,
            "a page at the address of the first block was set up",
        ),
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Finding::missing(
            "address window",
            "taken",
            "blocks cannot be mapped at their addresses; choose another pmm.window_base",
        ),
        Err(why) => Finding::missing(
            feature,
            why.to_string(),
            "restarts will take 1.3 us more for each page that the program touches",
        ),
    }
}

fn close_range() -> Finding {
    match process::mark_all_cloexec() {
        Ok(()) => Finding::found("close_range", "yes"),
        Err(why) => Finding::missing(
            "close_range",
            why.to_string(),
            "a failing life cannot let go of its files early: restarts will take 100 us more, and \
             75 us for each MiB that it had touched",
        ),
    }
}
