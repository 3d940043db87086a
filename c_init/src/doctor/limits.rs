//! How many actors this machine lets a site have.
//!
//! Called by `doctor`. What a site needs for an actor is what hr_ctrl itself goes by.

use refrain_abi::tunables::Tunables;
use rustix::process::{Resource, getrlimit};

use super::{Finding, status, told};

/// How many fds a site holds without actors.
const SITE_FDS: u64 = 256;
/// How many fds hr_ctrl holds for an actor at most, while it starts its next life.
const ACTOR_FDS: u64 = 12;
/// How many pids an actor takes: template, life, standby, and the keepers of both.
const ACTOR_PIDS: u64 = 5;
/// Source: CAP_SYS_RESOURCE in linux/capability.h.
const SYS_RESOURCE: u32 = 24;

/// Everything that was looked at.
pub(super) fn findings() -> Vec<Finding> {
    vec![open_files(), pids(), raise()]
}

/// Whether this process has a capability.
pub(super) fn has_capability(number: u32) -> bool {
    let set = status("CapEff").and_then(|text| u64::from_str_radix(&text, 16).ok());
    set.unwrap_or(0) >> number & 1 == 1
}

fn number(path: &str) -> Option<u64> {
    told(path)?.parse().ok()
}

fn text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".into(), |limit| limit.to_string())
}

fn wanted() -> u64 {
    Tunables::default().hr_ctrl.max_actors.into()
}

fn open_files() -> Finding {
    let feature = "open files";
    let limit = getrlimit(Resource::Nofile);
    let most = number("/proc/sys/fs/nr_open");
    let hard = match has_capability(SYS_RESOURCE) {
        true => most.max(limit.maximum),
        false => limit.maximum,
    };
    let room = hard.map(|hard| hard.saturating_sub(SITE_FDS) / ACTOR_FDS);
    let mut what = format!(
        "soft limit {}, hard limit {}",
        text(limit.current),
        text(limit.maximum)
    );
    if hard != limit.maximum {
        what += &format!(", may be raised to {}", text(hard));
    }
    match room {
        Some(room) if room < wanted() => Finding::missing(
            feature,
            what,
            format!(
                "room for {room} actors only, hr_ctrl.max_actors is {}; raise `ulimit -Hn` or \
                 LimitNOFILE",
                wanted()
            ),
        ),
        Some(room) => Finding::found(feature, format!("{what}: room for {room} actors")),
        None => Finding::found(feature, what),
    }
}

fn pids() -> Finding {
    let feature = "processes";
    let limit = getrlimit(Resource::Nproc).current;
    // The limit is not for root, whatever it says.
    let is_root = rustix::process::geteuid().is_root();
    let own = limit.filter(|_| !is_root);
    let pid_max = number("/proc/sys/kernel/pid_max");
    let group = refrain_sys::cgroup::own_directory().ok();
    let group = group.and_then(|dir| number(&dir.join("pids.max").display().to_string()));
    let least = own.into_iter().chain(pid_max).chain(group).min();
    let what = format!(
        "ulimit -u {}, pid_max {}, pids.max {}",
        text(limit),
        text(pid_max),
        text(group)
    );
    match least.map(|least| least / ACTOR_PIDS) {
        Some(room) if room < wanted() => Finding::missing(
            feature,
            what,
            format!(
                "room for {room} actors only, hr_ctrl.max_actors is {}; raise the lowest of them",
                wanted()
            ),
        ),
        Some(room) => Finding::found(feature, format!("{what}: room for {room} actors")),
        None => Finding::found(feature, what),
    }
}

fn raise() -> Finding {
    match has_capability(SYS_RESOURCE) {
        true => Finding::found("CAP_SYS_RESOURCE", "a site may raise its own limits"),
        false => Finding::lacking(
            "CAP_SYS_RESOURCE",
            "no",
            "limits cannot be raised above the hard ones",
        ),
    }
}
