//! What an actor cannot do to others (DESIGN section 8, invariants 7 and 8; SPEC H19): to blocks of another
//! group, to other actors, to the controller. `docs/security.md` has the whole table.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::path::Path;

use refrain_tests::programs::{c_program, installed, skipped};
use refrain_tests::{Options, Site, leftovers, proc, run, wait};
use rustix::process::{Gid, Uid};

const NOBODY: u32 = 65_534;

/// Another uid is to be had only from root.
fn is_root() -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        skipped("only root can become somebody else");
    }
    is
}

/// A Python program of this package in the site's directory; `None` without Python.
fn python(site: &Site, program: &str) -> Option<[String; 2]> {
    let python = installed("python3")?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("actors/python")
        .join(program);
    let place = site.write(program, fs::read(source).unwrap());
    Some([python, place].map(|path| path.display().to_string()))
}

/// An actor in group 1 with a block of ones that goes with the group, and one that has a key.
fn owner(site: &Site) -> (u32, u32) {
    let words = [
        "alloc", "b", "4096", "group", "fill", "b", "alloc", "k", "4096", "secret",
    ];
    let aid = site.actor(1, "owner", "groupie", &[&words[..], &["park"]].concat());
    site.wait_lines("owner", 3);
    (aid, site.runs("owner", 0).pid())
}

/// The owner's blocks are as they were, and so is everybody of the site.
fn assert_untouched(site: &Site, controller: u32, owner: u32) {
    assert_eq!(site.controller_pid(), controller, "hr_ctrl is the same");
    let row = site.runs("owner", 0);
    assert_eq!((row.pid(), row.restarts), (owner, 0));
    let mut blocks = site.blocks();
    blocks.sort();
    assert_eq!(blocks, ["b", "k"]);
    site.actor(
        1,
        "reader",
        "groupie",
        &["alloc", "b", "4096", "group", "sum", "b", "clean", "return"],
    );
    site.wait_line("reader", |line| line == "sum b = 512");
}

#[test]
fn h19_forged_frames_names_gids_aids_and_fds_get_a_refusal() {
    let site = Site::start();
    let (aid, pid) = owner(&site);
    let Some([python, program]) = python(&site, "intruder.py") else {
        return;
    };
    let controller = site.controller_pid();
    let out = site.file("said").display().to_string();
    let aid = aid.to_string();
    site.arun([
        "-g", "2", "-n", "intruder", &python, &program, &out, &aid, "1", "b",
    ]);
    site.wait_line("said", |line| line == "tried");
    let lines = site.lines("said");
    for line in &lines {
        let (what, answer) = line.split_once(": ").unwrap_or((line, ""));
        let right = match what {
            "hello" | "hello again" => answer == "welcome",
            // The group of a life is no secret (SPEC H14); a key frees one's own blocks, and there are none.
            "group of another" => answer == "group 1",
            "free by the key that it has" => answer == "done 0",
            // A promise of progress, which binds nobody but the life that makes it.
            "kind 12" => answer == "done 0",
            "tried" => true,
            _ => answer.starts_with("error "),
        };
        assert!(right, "{line}\nof {lines:#?}");
    }
    assert_eq!(site.runs("intruder", 0).restarts, 0);
    assert_untouched(&site, controller, pid);
}

#[test]
fn invariant_8_another_user_reaches_neither_bank_nor_controller_nor_other_actors() {
    if !is_root() {
        return;
    }
    let site = Site::start();
    let (_, pid) = owner(&site);
    let (controller, nucleus) = (site.controller_pid(), site.nucleus_pid());
    let program = c_program("trespasser", site.dir()).display().to_string();
    open_to_all(&site);
    let bank = site.bank();
    let mut paths = vec![bank.display().to_string()];
    let inside = fs::read_dir(&bank).unwrap().flatten();
    paths.extend(inside.map(|entry| entry.path().display().to_string()));
    assert!(paths.len() > 3, "catalogue and blocks: {paths:?}");
    paths.extend(
        leftovers::files(site.name())
            .iter()
            .map(|path| path.display().to_string()),
    );
    let template = proc::stat(pid).unwrap().parent;
    let pids = [controller, nucleus, pid, template].map(|pid| pid.to_string());
    let out = site.file("said").display().to_string();
    let mut words = vec!["-g", "2", "-u", "nobody", program.as_str(), &out];
    words.extend(paths.iter().map(String::as_str));
    words.push("--");
    words.extend(pids.iter().map(String::as_str));
    site.arun(words);
    site.wait_line("said", |line| line == "tried");
    let lines = site.lines("said");
    let done: Vec<_> = lines
        .iter()
        .filter(|line| line.ends_with(": done"))
        .collect();
    assert!(done.is_empty(), "{done:#?}");
    for pid in &pids {
        for what in ["signal", "trace", "peek", "poke", "pidfd-signal", "take-fd"] {
            let line = format!("{what} {pid}: EPERM");
            assert!(lines.contains(&line), "{line}, of {lines:#?}");
        }
    }
    assert_untouched(&site, controller, pid);
}

/// The site's directory, for actors of other users.
fn open_to_all(site: &Site) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(site.dir(), fs::Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn invariant_8_a_site_that_is_not_roots_keeps_its_controller_from_its_own_actors() {
    let Some(setpriv) = installed("setpriv").filter(|_| is_root()) else {
        return;
    };
    let site = Options::new().prepare();
    open_to_all(&site);
    let program = c_program("trespasser", site.dir()).display().to_string();
    let bank = site.file("bank");
    fs::create_dir(&bank).unwrap();
    let owner = (Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY)));
    rustix::fs::chown(&bank, owner.0, owner.1).unwrap();
    site.write(
        "todo",
        format!("arun {program} said -- hr_ctrl nucleus exit\n"),
    );
    let inner = site.program("c_init");
    let mut command = std::process::Command::new(setpriv);
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command
        .arg(inner.get_program())
        .args(["--site", site.name(), "--bank"])
        .arg(&bank);
    command.args(["--once", "todo"]).current_dir(site.dir());
    command
        .env_remove("XDG_RUNTIME_DIR")
        .env(leftovers::MARK, site.name());
    let finished = run::to_end(&mut command, None);
    if finished.err.contains("ermission denied") {
        return skipped(&format!(
            "nobody cannot run what is built here: {}",
            finished.err
        ));
    }
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let lines = site.lines("said");
    assert_eq!(
        lines.last().map(String::as_str),
        Some("tried"),
        "{lines:#?}"
    );
    for line in lines.iter().filter(|line| *line != "tried") {
        // A signal is what Linux leaves to everybody of one's own uid.
        let may = line.starts_with("signal ") || line.starts_with("pidfd-signal ");
        assert_eq!(line.ends_with(": done"), may, "{line}, of {lines:#?}");
    }
    let _ = fs::remove_dir("/dev/shm/refrain-65534");
}

#[test]
fn a_template_that_passes_off_a_stranger_as_its_standby_has_nobody_killed() {
    if !is_root() {
        return;
    }
    let site = Options::new().never_bad().start();
    let (_, victim) = owner(&site);
    let controller = site.controller_pid();
    let Some([python, program]) = python(&site, "kidnapper.py") else {
        return;
    };
    open_to_all(&site);
    let (out, pid) = (site.file("said").display().to_string(), victim.to_string());
    site.arun([
        "-g",
        "2",
        "-u",
        "nobody",
        "-n",
        "kidnapper",
        &python,
        &program,
        &out,
        &pid,
    ]);
    let template = site.wait_lines("said", 1)[0].parse().unwrap();
    wait::until_true("the end of a template that lies", || {
        !proc::is_alive(template)
    });
    let life = site.runs("kidnapper", 0).pid();
    proc::kill(life, rustix::process::Signal::SEGV);
    site.runs("kidnapper", 1);
    site.ok("akill -g 2");
    wait::until_true("the kidnapper to be gone", || {
        site.row("kidnapper").is_none()
    });
    assert_untouched(&site, controller, victim);
}
