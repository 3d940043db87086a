//! Crashes in a loop (the sixth scenario): every one is followed by a new life, and
//! nucleus, hr_ctrl and the template grow in nothing. `REFRAIN_STORM` says how many.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::{Options, Site, proc, wait};

/// How many crashes, when nothing else is said.
const CRASHES: u32 = 10_000;
/// After how many the first measure is taken: caches are warm, pools have their size.
const WARM: u32 = 1_000;
/// How much memory may differ between two measures, in KiB: allocators keep some slack.
const SLACK_KIB: u64 = 2_048;

/// What a process holds, at rest.
#[derive(Debug)]
struct Measure {
    rss: u64,
    fds: usize,
    zombies: usize,
    threads: u64,
}

fn measure(pid: u32) -> Measure {
    Measure {
        rss: proc::status(pid, "VmRSS").expect("the process lives"),
        fds: proc::fd_count(pid),
        zombies: proc::zombies_of(pid),
        threads: proc::status(pid, "Threads").expect("the process lives"),
    }
}

/// Measures nucleus, hr_ctrl and the template while life number `life` is parked and the next
/// standby sleeps.
fn at_rest(site: &Site, life: u32) -> [Measure; 3] {
    let row = site.runs("loops", life);
    let template = proc::stat(row.pid()).expect("the life lives").parent;
    wait::until_true("the standby to be there and the dead to be buried", || {
        let family = proc::family(template);
        let in_role = |role| family.iter().filter(|stat| stat.role == Some(role)).count();
        // Template, life and standby, and a second one where the machine was slow; each may have a keeper.
        let (standbys, keepers) = (in_role('S'), in_role('K'));
        (1..=2).contains(&standbys)
            && (1..=standbys + 1).contains(&keepers)
            && family.len() == 2 + standbys + keepers
            && family.iter().all(|stat| stat.state != 'Z')
    });
    [site.nucleus_pid(), site.controller_pid(), template].map(measure)
}

#[test]
fn ten_thousand_crashes_are_followed_by_as_many_lives_and_nothing_grows() {
    let asked = std::env::var("REFRAIN_STORM")
        .ok()
        .and_then(|text| text.parse().ok());
    let crashes = asked.unwrap_or(CRASHES).max(WARM + 1);
    let site = Options::new().never_bad().start();
    let go = site.file("go").display().to_string();
    let (first, second) = (
        format!("0-{}", WARM - 1),
        format!("{}-{}", WARM + 1, crashes - 1),
    );
    let words = [
        "on",
        &first,
        "abort",
        "end",
        "on",
        &WARM.to_string(),
        "wait",
        &go,
        "abort",
        "end",
        "on",
        &second,
        "abort",
        "end",
        "park",
    ];
    site.actor(1, "loops", "crasher", &words);
    let life = || u64::from(site.row("loops").and_then(|row| row.life).unwrap_or(0));
    wait::until_reaches("the warm-up", u64::from(WARM), life);
    let before = at_rest(&site, WARM);
    site.write("go", "");
    wait::until_reaches("the storm", u64::from(crashes), life);
    let after = at_rest(&site, crashes);

    let row = site.runs("loops", crashes);
    assert_eq!(row.restarts, crashes);
    assert_eq!(
        site.stat()["group_restarts"].as_u64(),
        Some(u64::from(crashes))
    );
    for (who, (before, after)) in ["nucleus", "hr_ctrl", "template"]
        .iter()
        .zip(before.iter().zip(&after))
    {
        let told = format!("{who}: {before:?} before, {after:?} after");
        assert!(after.rss <= before.rss + SLACK_KIB, "memory grows: {told}");
        // A second standby has two.
        assert!(after.fds <= before.fds + 2, "{told}");
        // A thread that loaded an image ends when nothing was loaded for a while.
        assert!(after.threads <= before.threads, "{told}");
        assert_eq!((before.zombies, after.zombies), (0, 0), "{told}");
    }
}

#[test]
fn a_group_of_many_crashes_again_and_again_and_nothing_grows() {
    let site = Options::new().never_bad().start();
    for member in 0..20 {
        site.actor(1, &format!("m{member}"), "crasher", &["park"]);
    }
    let pids = [site.nucleus_pid(), site.controller_pid()];
    let round = |life: u32| {
        let victim = format!("m{}", life % 20);
        proc::kill(
            site.runs(&victim, life).pid(),
            rustix::process::Signal::KILL,
        );
        for member in 0..20 {
            site.runs(&format!("m{member}"), life + 1);
        }
    };
    (0..5).for_each(round);
    let settled = || {
        wait::until_true("the dead to be buried", || {
            proc::family(pids[0]).iter().all(|stat| stat.state != 'Z')
        })
    };
    settled();
    let before = pids.map(measure);
    (5..30).for_each(round);
    settled();
    let after = pids.map(measure);
    for (before, after) in before.iter().zip(&after) {
        assert!(after.rss <= before.rss + SLACK_KIB, "{before:?} {after:?}");
        // A standby may be on its way, with its two fds, at either moment.
        assert!(after.fds <= before.fds + 40, "{before:?} {after:?}");
        assert_eq!(after.zombies, 0, "{after:?}");
    }
}
