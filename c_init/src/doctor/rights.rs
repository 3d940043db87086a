//! What a hardened machine takes away, what happens to core dumps, and whether systemd listens.
//!
//! Called by `doctor`. All of it is told, none of it can be changed from here.

use rustix::process::{Resource, getrlimit};

use super::{Finding, status, told};

/// Everything that was looked at.
pub(super) fn findings() -> Vec<Finding> {
    vec![
        core_dumps(),
        seccomp(),
        privileges(),
        ptrace(),
        security_modules(),
        systemd(),
    ]
}

fn core_dumps() -> Finding {
    let feature = "core dumps";
    let pattern = told("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let limit = getrlimit(Resource::Core).current;
    // A program behind a pipe is given every dump, whatever the limit.
    let is_piped = pattern.starts_with('|');
    let size = limit.map_or_else(|| "unlimited".into(), |limit| limit.to_string());
    let what = format!("kernel.core_pattern={pattern}, ulimit -c {size}");
    if limit == Some(0) && !is_piped {
        return Finding::found(feature, format!("{what}: none is written"));
    }
    Finding::lacking(
        feature,
        format!("{what}: they are written"),
        "the kernel tells of an end when the dump is written, 0.7 ms for each MiB of tmpfs; the \
         fault handler does not wait for it",
    )
}

fn seccomp() -> Finding {
    match status("Seccomp").as_deref() {
        Some("2") => Finding::note(
            "seccomp",
            "a filter is at work; what it takes away is missing above",
        ),
        Some(_) => Finding::note("seccomp", "no filter"),
        None => Finding::note("seccomp", "the kernel has none"),
    }
}

fn privileges() -> Finding {
    let what = match status("NoNewPrivs").as_deref() {
        Some("1") => "no_new_privs is set: set-user-id programs run as their caller",
        _ => "no_new_privs is not set",
    };
    let caps = status("CapEff").unwrap_or_else(|| "not told".into());
    Finding::note("privileges", format!("{what}; capabilities {caps}"))
}

fn ptrace() -> Finding {
    let what = match told("/proc/sys/kernel/yama/ptrace_scope").as_deref() {
        Some("0") => {
            "any process of a user may trace the others: kernel.yama.ptrace_scope=0".into()
        }
        Some(scope) => format!("kernel.yama.ptrace_scope={scope}: a debugger needs root"),
        None => "no Yama: any process of a user may trace the others".into(),
    };
    Finding::note("ptrace", what)
}

fn security_modules() -> Finding {
    let modules = told("/sys/kernel/security/lsm");
    let label = told("/proc/self/attr/current").map(|label| label.replace('\0', ""));
    let mut what = modules.unwrap_or_else(|| "not told".into());
    if let Some(label) = label.filter(|label| !label.is_empty()) {
        what += &format!(", this process is {label}");
    }
    Finding::note("security modules", what)
}

fn systemd() -> Finding {
    let what = match std::env::var_os("NOTIFY_SOCKET") {
        Some(_) => "it listens (NOTIFY_SOCKET is set)",
        None => "it does not listen to this process (no NOTIFY_SOCKET)",
    };
    Finding::note("systemd", what)
}
