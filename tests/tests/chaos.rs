//! Everything at once, in a random order: crashes, kills, starts, site restarts, deaths of the
//! controller. The invariants of DESIGN section 8 must hold all the time. Prints its seed;
//! `SEED=n` runs the same order again, `REFRAIN_CHAOS` says how many steps.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::collections::BTreeSet;

use refrain_tests::{Options, Row, Site, binaries, proc, wait};
use rustix::process::Signal;

const GROUPS: u32 = 4;
const MEMBERS: u32 = 3;
const STEPS: u32 = 300;
/// After how many steps the controller is killed; one that dies much more often ends its site.
const CONTROLLER: u32 = 100;
/// After how many steps the site is given time to settle, and looked at.
const ROUND: u32 = 30;

/// A small generator of numbers that are random enough (splitmix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((word ^ (word >> 31)) % u64::from(sides)).unwrap()
    }
}

fn name(gid: u32, member: u32) -> String {
    format!("g{gid}m{member}")
}

/// A name that is registered now, or may be.
fn start(site: &Site, gid: u32, member: u32) -> Option<i32> {
    let name = name(gid, member);
    let (lock, out) = (site.file(&format!("{name}.lock")), site.file(&name));
    let program = binaries::path("crasher");
    let line = format!(
        "arun -g {gid} -n {name} {} {} alone {} park",
        program.display(),
        out.display(),
        lock.display()
    );
    site.command(&line).code
}

/// One random step. Any answer will do but a wrong one: commands may be refused, the controller
/// may be away.
fn step(site: &Site, dice: &mut Dice) {
    let rows = || -> Vec<Row> {
        let out = site.command("aps --json").out;
        serde_json::from_str(&out).unwrap_or_default()
    };
    let (gid, member) = (1 + dice.throw(GROUPS), dice.throw(MEMBERS));
    match dice.throw(100) {
        0..45 => {
            let rows = rows();
            let lives: Vec<u32> = rows.iter().filter_map(|row| row.pid).collect();
            if let Some(count) = u32::try_from(lives.len()).ok().filter(|count| *count > 0) {
                let pid = lives[dice.throw(count) as usize];
                let signal = [
                    Signal::KILL,
                    Signal::SEGV,
                    Signal::TERM,
                    Signal::STOP,
                    Signal::ABORT,
                ];
                // It may have ended meanwhile; then the pid is nobody's for a long time yet.
                if let Some(stat) = proc::stat(pid) {
                    proc::signal_if_there(stat.id, signal[dice.throw(5) as usize]);
                }
            }
        }
        45..75 => drop(start(site, gid, member)),
        75..85 => drop(site.command(&format!("akill -g {gid}"))),
        85..92 => {
            let aid = rows()
                .get(member as usize)
                .and_then(|row| row.aid)
                .unwrap_or(1);
            drop(site.command(&format!("akill {aid}")));
        }
        _ => drop(site.command("restart")),
    }
}

/// Kills hr_ctrl, if it can be found.
fn kill_controller(site: &Site) {
    let stat = site.command("chorusStat --json").out;
    let stat: serde_json::Value = serde_json::from_str(&stat).unwrap_or_default();
    let pid = stat["hr_ctrl"]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok());
    if let Some(stat) = pid.and_then(proc::stat) {
        proc::signal_if_there(stat.id, Signal::KILL);
    }
}

/// Waits until the site is at rest: every registered actor runs, in one life each.
fn settle(site: &Site) {
    wait::until_true("the site to serve", || site.command("aps").code == Some(0));
    // A life that was stopped by a signal never ends by itself.
    for row in site.aps() {
        if let Some(stat) = row
            .pid
            .and_then(proc::stat)
            .filter(|stat| stat.state == 'T')
        {
            proc::signal_if_there(stat.id, Signal::KILL);
        }
    }
    wait::until_true("every actor to run", || {
        let rows = site.aps();
        let runs = |row: &Row| {
            row.state == "running"
                && row
                    .pid
                    .and_then(proc::stat)
                    .is_some_and(|stat| !"TZX".contains(stat.state))
        };
        rows.iter().all(runs)
    });
}

#[test]
fn invariants_hold_whatever_happens_in_whatever_order() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let steps = number("REFRAIN_CHAOS")
        .and_then(|steps| u32::try_from(steps).ok())
        .unwrap_or(STEPS);
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let mut site = Options::new().never_bad().start();
    let mut aids = BTreeSet::new();
    for count in 0..steps {
        step(&site, &mut dice);
        if count % CONTROLLER == CONTROLLER / 2 {
            kill_controller(&site);
        }
        if count % ROUND == ROUND - 1 {
            settle(&site);
            let rows = site.aps();
            let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
            assert_eq!(
                names.len(),
                rows.len(),
                "a name is registered once: {rows:#?}"
            );
            for row in &rows {
                assert!(
                    row.name.starts_with(&format!("g{}m", row.gid.unwrap())),
                    "{row:?}"
                );
                aids.insert((row.aid(), row.pid()));
            }
        }
    }
    let distinct: BTreeSet<u32> = aids.iter().map(|(aid, _)| *aid).collect();
    assert_eq!(distinct.len(), aids.len(), "no aid was given to two lives");
    // What is registered can still be crashed and comes back; what is killed stays away.
    for row in site.aps() {
        // Another member's end has ended this one meanwhile.
        let life = site.wait_row(&row.name, |row| row.state == "running");
        proc::kill(life.pid(), Signal::KILL);
        settle(&site);
    }
    for gid in 1..=GROUPS {
        let known = site.aps().iter().any(|row| row.gid == Some(gid));
        assert_eq!(
            site.command(&format!("akill -g {gid}")).code,
            Some(i32::from(!known))
        );
    }
    assert!(site.aps().is_empty());
    for (gid, member) in (1..=GROUPS).flat_map(|gid| (0..MEMBERS).map(move |member| (gid, member)))
    {
        let said = site.lines(&name(gid, member));
        assert!(said.is_empty(), "two lives at once: {said:?}");
    }
    site.halt(0);
}
