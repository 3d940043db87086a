//! The goals that the project has set itself, held against one run. Called by `report.rs` at the end of a
//! run. A goal whose part was not run says so. Nothing here makes the benchmark fail.

use serde::Serialize;

use crate::data::{self, Who};
use crate::report::Report;
use crate::restart::Notice::{Fault, Kernel};
use crate::{cost, flat, group, memory, peers, pmm, restart, scale, supervise};

/// How far peers are to be behind, as a factor.
const PEER: f64 = 8.0;
/// Microseconds that a re-attach may take beyond the mapping.
const REATTACH_US: f64 = 15.0;
/// KiB for template and standby of an idle actor.
const IDLE_KIB: f64 = 300.0;
/// The other actors that the goal names.
const OTHERS: f64 = 10_000.0;
/// How far a `Map` may be behind a plain hash map.
const MAP_GET: f64 = 2.0;
const MAP_PUT: f64 = 3.0;
/// How far stores that keep data are to be behind a `Map`.
const STORE: f64 = 10.0;
/// Opening many entries against few, where it does not depend on them: what two runs of it differ by.
const REOPEN: f64 = 1.5;
/// What passes for flat: samples of memory differ by about as much from one to the next.
const FLAT_PERCENT: f64 = 2.0;
/// How many looks stand for the beginning, and for the end.
const AROUND: usize = 3;

/// One goal and what became of it.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// The goal.
    pub goal: String,
    /// What it asks for.
    pub wanted: String,
    /// What this run says.
    pub measured: String,
    /// Whether that is enough; none where it was not measured.
    pub reached: Option<bool>,
}

impl Verdict {
    /// `reached` as a word.
    pub fn word(&self) -> &str {
        match self.reached {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not measured",
        }
    }

    fn ratios(goal: impl Into<String>, found: Option<(f64, f64)>, (p50, p99): (f64, f64)) -> Self {
        Self {
            goal: goal.into(),
            wanted: format!("p50 {p50}x, p99 {p99}x"),
            measured: found.map_or(String::new(), |(half, most)| {
                format!("p50 {half:.2}x, p99 {most:.2}x")
            }),
            reached: found.map(|(half, most)| half <= p50 && most <= p99),
        }
    }

    fn at_most(goal: impl Into<String>, found: Option<f64>, wanted: f64, unit: &str) -> Self {
        Self {
            goal: goal.into(),
            wanted: format!("at most {wanted} {unit}"),
            measured: found.map_or(String::new(), |found| format!("{found:.1} {unit}")),
            reached: found.map(|found| found <= wanted),
        }
    }
}

/// All of them.
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    let mut all = single(report);
    for (notice, name) in [(Fault, "fault notice"), (Kernel, "kernel notice")] {
        let found = report.compared(memory::PART, &memory::against_none(notice));
        let goal = format!("1 GiB touched against 0, {name}");
        all.push(Verdict::ratios(goal, found, (1.5, 3.0)));
    }
    for members in [10, 100, 1000] {
        let found = report.ratio(group::PART, &group::ours(members));
        let goal = format!("group of {members}");
        all.push(Verdict::ratios(goal, found, (0.4, 0.6)));
    }
    all.push(others(report));
    all.push(nearest_peer(report));
    for size in pmm::SIZES {
        let found = report.compared(pmm::PART, &pmm::more("re-attach", size));
        let goal = format!("re-attach of {size} more than mapping a file, p50");
        let found = found.map(|(half, _)| half);
        all.push(Verdict::at_most(goal, found, REATTACH_US, "us"));
    }
    let idle = report.facts.iter().rev();
    let idle = idle.filter(|fact| fact.what.starts_with(cost::KEPT));
    let idle = idle.filter_map(|fact| fact.number).next();
    let goal = "idle actor, template and standby";
    all.push(Verdict::at_most(goal, idle, IDLE_KIB, "KiB"));
    all.extend(levelness(report));
    all.extend(nearest_libraries(report));
    all.extend(persistent_data(report));
    all
}

/// The library that comes closest to one supervisor actor, and the library or machine with actors of its own that
/// comes closest to a hundred. A process of Erlang ends without an unwinding, so one of them is shown and not judged.
fn nearest_libraries(report: &Report) -> [Verdict; 2] {
    [
        (1, "ractor, kameo against a supervisor actor"),
        (
            supervise::MANY,
            "ractor, kameo, Erlang against 100 supervisor actors together",
        ),
    ]
    .map(|(lives, goal)| {
        let ours = supervise::name("ours", lives);
        let rows = report.rows.iter();
        let judged =
            rows.filter(|row| row.part == supervise::PART && row.limit.as_ref() == Some(&ours));
        let judged = judged.filter(|row| lives > 1 || !row.what.starts_with(supervise::ERLANG));
        let ratios =
            judged.filter_map(|row| Some((&row.what, report.ratio(row.part, &row.what)?.0)));
        let nearest = ratios.min_by(|a, b| a.1.total_cmp(&b.1));
        Verdict {
            goal: format!("{goal}, p50"),
            wanted: "none quicker".to_owned(),
            measured: nearest.map_or(String::new(), |(name, factor)| {
                format!("{factor:.2}x: {name}")
            }),
            reached: nearest.map(|(_, factor)| factor >= 1.0),
        }
    })
}

/// Our data types against a plain hash map, against stores that keep data, and opened again.
fn persistent_data(report: &Report) -> Vec<Verdict> {
    let mut all = Vec::new();
    let map = |op, most, goal: &str| {
        let found = data_ratios(report, op, |what| what.starts_with(Who::Map.name()));
        farthest(format!("{goal}, each size, p50"), found, most)
    };
    all.push(map(data::GET, MAP_GET, "get of a Map against a HashMap"));
    all.push(map(data::PUT, MAP_PUT, "put into a Map against a HashMap"));
    for op in [data::GET, data::PUT, data::UPDATE] {
        let found = data_ratios(report, op, is_store);
        let nearest = found.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
        all.push(Verdict {
            goal: format!("{op}: the quickest store that keeps data, against a Map, p50"),
            wanted: format!("{STORE}x slower"),
            measured: nearest.map_or(String::new(), |(name, factor)| {
                format!("{factor:.1}x: {name}")
            }),
            reached: nearest.map(|(_, factor)| factor >= STORE),
        });
    }
    let found = data_ratios(report, data::REOPEN, |what| !is_store(what));
    let goal = "opened after a crash and read, many entries against 1 k, p50";
    all.push(farthest(goal.to_owned(), found, REOPEN));
    all
}

fn is_store(what: &str) -> bool {
    let mut peers = Who::ALL.into_iter().filter(|who| who.is_peer());
    peers.any(|who| what.starts_with(who.name()))
}

/// Rows of an operation against theirs, p50.
fn data_ratios<'a>(report: &'a Report, op: &str, of: impl Fn(&str) -> bool) -> Vec<(&'a str, f64)> {
    let rows = report.rows.iter().filter(|row| row.part == data::PART);
    let rows = rows.filter(|row| data::is_of(op, &row.what) && of(&row.what));
    rows.filter_map(|row| Some((row.what.as_str(), report.ratio(row.part, &row.what)?.0)))
        .collect()
}

/// The largest of some factors decides.
fn farthest(goal: String, found: Vec<(&str, f64)>, most: f64) -> Verdict {
    let found = found.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    Verdict {
        goal,
        wanted: format!("at most {most}x"),
        measured: found.map_or(String::new(), |(name, factor)| {
            format!("{factor:.2}x: {name}")
        }),
        reached: found.map(|(_, factor)| factor <= most),
    }
}

/// One actor, each notice, hot and cold.
fn single(report: &Report) -> Vec<Verdict> {
    let mut all = Vec::new();
    for (part, heat) in [(restart::HOT, "back to back"), (restart::COLD, "cold")] {
        let found = report.ratio(part, &restart::ours("C", "SEGV", Fault));
        let goal = format!("one actor, fault notice, {heat}");
        all.push(Verdict::ratios(goal, found, (1.5, 3.0)));
        for end in ["SEGV", "KILL", "exit 1"] {
            let found = report.ratio(part, &restart::ours("C", end, Kernel));
            let goal = format!("one actor, kernel notice, {end}, {heat}");
            all.push(Verdict::ratios(goal, found, (1.3, 2.0)));
        }
    }
    all
}

fn others(report: &Report) -> Verdict {
    let rows = report.rows.iter().filter(|row| row.part == scale::PART);
    let most = rows
        .filter(|row| row.limit.as_deref() == Some(scale::OURS_ALONE))
        .max_by(|a, b| count(a.point).total_cmp(&count(b.point)));
    let found = most.and_then(|row| report.ratio(row.part, &row.what));
    let most = most.map_or(0.0, |row| count(row.point));
    let mut verdict = Verdict::ratios("10,000 other actors against none", found, (1.1, 1.5));
    if found.is_some() && most < OTHERS {
        verdict.measured += &format!(" with {most}");
        verdict.reached = verdict.reached.filter(|reached| !reached);
    }
    verdict
}

fn count(point: Option<(&'static str, f64)>) -> f64 {
    point.map_or(0.0, |(_, count)| count)
}

/// The peer that comes closest to ours of the same length of life.
fn nearest_peer(report: &Report) -> Verdict {
    let rows = report.rows.iter().filter(|row| row.part == peers::PART);
    let ratios = rows.filter_map(|row| {
        let limit = row.limit.as_deref()?;
        let peer = !row.what.starts_with("ours") && limit.starts_with("ours");
        Some((&row.what, report.ratio(row.part, &row.what)?.0)).filter(|_| peer)
    });
    let nearest = ratios.min_by(|a, b| a.1.total_cmp(&b.1));
    Verdict {
        goal: "the quickest peer, against ours of the same length of life, p50".to_owned(),
        wanted: format!("{PEER}x slower"),
        measured: nearest.map_or(String::new(), |(name, factor)| {
            format!("{factor:.1}x: {name}")
        }),
        reached: nearest.map(|(_, factor)| factor >= PEER),
    }
}

/// Memory, fds, threads, dead over many restarts: what grew after the first tenth.
fn levelness(report: &Report) -> Vec<Verdict> {
    let mut all = Vec::new();
    for series in report.series.iter().filter(|s| s.part == flat::PART) {
        let looks = series.rows.len();
        let Some(first) = looks.checked_sub(AROUND).filter(|first| *first > AROUND) else {
            continue;
        };
        let mut grown = Vec::new();
        for (column, name) in series.columns.iter().enumerate().skip(1) {
            if flat::NOT_JUDGED.iter().any(|word| name.contains(word)) {
                continue;
            }
            let early = middle(&series.rows[1..=AROUND], column);
            let late = middle(&series.rows[first..], column);
            if (late - early) / early.max(1.0) * 100.0 > FLAT_PERCENT {
                grown.push(format!("{name} {early:.0} to {late:.0}"));
            }
        }
        let restarts = series.rows[looks - 1][0];
        all.push(Verdict {
            goal: format!("flat over {restarts} restarts, {}", series.what),
            wanted: format!("nothing grows by {FLAT_PERCENT}% after the first tenth"),
            measured: if grown.is_empty() {
                "nothing grew".to_owned()
            } else {
                grown.join("; ")
            },
            reached: Some(grown.is_empty()),
        });
    }
    all
}

/// The median of a column: what is open for a moment while it is looked at does not count.
fn middle(rows: &[Vec<f64>], column: usize) -> f64 {
    let mut values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Series;

    fn verdict<'a>(all: &'a [Verdict], goal: &str) -> &'a Verdict {
        all.iter().find(|one| one.goal.starts_with(goal)).unwrap()
    }

    #[test]
    fn a_part_that_was_not_run_is_not_judged() {
        let all = verdicts(&Report::new());
        assert!(all.iter().all(|one| one.reached.is_none()));
    }

    #[test]
    fn the_quickest_peer_decides() {
        let mut report = Report::new();
        report.row(peers::PART, "ours: short", None, vec![10.0]);
        report.row(peers::PART, "slow", Some("ours: short"), vec![1000.0]);
        report.row(peers::PART, "quick", Some("ours: short"), vec![50.0]);
        let all = verdicts(&report);
        let peer = verdict(&all, "the quickest peer");
        assert_eq!(peer.measured, "5.0x: quick");
        assert_eq!(peer.reached, Some(false));
    }

    #[test]
    fn the_quickest_library_decides() {
        let mut report = Report::new();
        report.row(supervise::PART, "ours, one", None, vec![10.0]);
        report.row(supervise::PART, "quick, one", Some("ours, one"), vec![5.0]);
        report.row(supervise::PART, "slow, one", Some("ours, one"), vec![50.0]);
        let all = verdicts(&report);
        let library = verdict(&all, "ractor, kameo");
        assert_eq!(library.measured, "0.50x: quick, one");
        assert_eq!(library.reached, Some(false));
    }

    #[test]
    fn erlang_is_judged_against_a_hundred_only() {
        let mut report = Report::new();
        for (lives, ours) in [(1, "ours, one"), (100, "ours, 100 together")] {
            let erlang = supervise::name(supervise::ERLANG, lives);
            report.row(supervise::PART, ours, None, vec![10.0]);
            report.row(supervise::PART, &erlang, Some(ours), vec![5.0]);
        }
        let all = verdicts(&report);
        assert_eq!(verdict(&all, "ractor, kameo against").reached, None);
        let together = verdict(&all, "ractor, kameo, Erlang against");
        assert_eq!(together.reached, Some(false));
    }

    #[test]
    fn the_worst_size_and_the_quickest_store_decide() {
        let mut report = Report::new();
        for (size, map) in [("small", 15.0), ("large", 25.0)] {
            let name = |who| data::what(who, data::GET, size, "1 k");
            let row = |report: &mut Report, who, limit: Option<Who>, sample| {
                let limit = limit.map(name);
                report.row(data::PART, &name(who), limit.as_deref(), vec![sample]);
            };
            row(&mut report, Who::HashMap, None, 10.0);
            row(&mut report, Who::Map, Some(Who::HashMap), map);
            row(&mut report, Who::Heap, Some(Who::HashMap), 9.0);
            row(&mut report, Who::Redb, Some(Who::Map), 500.0);
            row(&mut report, Who::Lmdb, Some(Who::Map), 150.0);
        }
        let all = verdicts(&report);
        let map = verdict(&all, "get of a Map");
        assert_eq!(map.measured, "2.50x: ours: Map, get, large, 1 k");
        assert_eq!(map.reached, Some(false));
        let store = verdict(&all, "get: the quickest");
        assert_eq!(store.measured, "6.0x: LMDB, get, large, 1 k");
        assert_eq!(store.reached, Some(false));
        assert_eq!(verdict(&all, "put into").reached, None);
    }

    #[test]
    fn opening_many_is_held_against_opening_few() {
        let mut report = Report::new();
        for (who, few, many) in [
            (Who::Map, 100.0, 120.0),
            (Who::Heap, 100.0, 110.0),
            (Who::Redb, 100.0, 9000.0),
        ] {
            let name = |entries| data::what(who, data::REOPEN, "64 bytes", entries);
            report.row(data::PART, &name("1 k"), None, vec![few]);
            report.row(data::PART, &name("1 M"), Some(&name("1 k")), vec![many]);
        }
        let all = verdicts(&report);
        let opened = verdict(&all, "opened after a crash");
        assert!(
            opened.measured.starts_with("1.20x: ours: Map"),
            "{}",
            opened.measured
        );
        assert_eq!(opened.reached, Some(true));
    }

    #[test]
    fn fewer_others_than_the_goal_names_are_not_enough() {
        let mut report = Report::new();
        report.row(scale::PART, scale::OURS_ALONE, None, vec![10.0]);
        let limit = Some(scale::OURS_ALONE);
        report.row(scale::PART, "ours: 1400 others", limit, vec![10.0]);
        report.point(scale::PART, "ours: 1400 others", scale::CURVE, 1400.0);
        let all = verdicts(&report);
        assert_eq!(verdict(&all, "10,000").reached, None);
    }

    #[test]
    fn what_grows_after_the_first_tenth_is_named() {
        let mut report = Report::new();
        let look = |done: f64, fds, pss| vec![done, fds, pss];
        let mut rows: Vec<_> = (0..10).map(|n| look(f64::from(n), 20.0, 5.0)).collect();
        rows.extend((10..13).map(|n| look(f64::from(n), 30.0, 50.0)));
        let columns = ["restarts", "fds", "nucleus PSS"];
        report.series(Series {
            part: flat::PART,
            what: "one".to_owned(),
            columns: columns.map(str::to_owned).to_vec(),
            rows,
        });
        let all = verdicts(&report);
        let flat = verdict(&all, "flat over 12");
        assert_eq!(flat.measured, "fds 20 to 30");
        assert_eq!(flat.reached, Some(false));
    }
}
