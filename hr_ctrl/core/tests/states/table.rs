//! The tables of `docs/restart-states.md` are what the controller does.
//!
//! Every pair of a state and an event is tried. A pair without a row must change nothing and have
//! no effect; a pair with a row must do what the row says. So the tables can neither lie nor lack
//! anything. When they do, the failure shows the table as it should be.

use std::fmt::Write as _;

use hr_ctrl_core::{Effect, Event, GroupState, HaltLevel, Kind, Policy, Requester, Target};
use refrain_abi::{Gid, PastLimit};

use crate::rig::{Rig, word};

const DOC: &str = include_str!("../../../../docs/restart-states.md");

type Named<T> = (&'static str, T);
/// Makes an event that fits the rig.
type Make = fn(&mut Rig) -> Event;

/// One table: how to bring a rig into each state, what may happen, and how to read the state.
struct Table {
    heading: &'static str,
    states: Vec<Named<fn() -> Rig>>,
    events: Vec<Named<Make>>,
    state_of: fn(&Rig) -> String,
}

impl Table {
    fn render(&self) -> String {
        let mut text = "| state | event | next state | effects |
"
        .to_owned();
        text.push_str(
            "| --- | --- | --- | --- |
",
        );
        for (state, set_up) in &self.states {
            for (event, make) in &self.events {
                let mut rig = set_up();
                let before = (self.state_of)(&rig);
                assert_eq!(
                    before,
                    state.split(',').next().unwrap_or_default(),
                    "set-up"
                );
                let event_made = make(&mut rig);
                let effects: Vec<_> = rig.effects(event_made).iter().map(brief(&rig)).collect();
                let after = (self.state_of)(&rig);
                if before != after || !effects.is_empty() {
                    let next = if before == after { "" } else { &after };
                    let effects = effects.join(", ");
                    writeln!(text, "| {state} | {event} | {next} | {effects} |").expect("a string");
                }
            }
        }
        text
    }

    fn check(&self) {
        let section = DOC.split(self.heading).nth(1).unwrap_or_default();
        let written: String = section
            .lines()
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'))
            .flat_map(|line| [line, "\n"])
            .collect();
        let right = self.render();
        assert!(
            written == right,
            "docs/restart-states.md, {:?}, should say:\n{right}",
            self.heading
        );
    }
}

/// An effect in a few words.
fn brief(rig: &Rig) -> impl Fn(&Effect) -> String {
    |effect| match effect {
        Effect::Load { name, .. } => format!("load {name}"),
        Effect::Begin { actor, .. } => format!("begin {}", rig.name_of(*actor)),
        Effect::Stop { actor, .. } => format!("stop {}", rig.name_of(*actor)),
        Effect::Forget { actor } => format!("forget {}", rig.name_of(*actor)),
        Effect::GroupTerminated { .. } => "group terminated".into(),
        Effect::Started { .. } => "answer: started".into(),
        Effect::Done { .. } => "answer: done".into(),
        Effect::Refused { why, .. } => format!("answer: `{}`", word(why)),
        Effect::GroupRestarts { .. } => "group restarts".into(),
        Effect::Blocked { names, .. } => {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            format!("blocked by {}", names.join(" "))
        }
        Effect::BadnessPassed { .. } => "badness passed".into(),
        Effect::Delay { .. } => "delay".into(),
        Effect::GaveUp { .. } => "group given up".into(),
        Effect::ResetBootActors => "reset boot actors".into(),
        Effect::Halted { .. } => "halted".into(),
    }
}

fn run(rig: &mut Rig, actor: &str, gid: Option<u32>) -> Event {
    let (ticket, name) = (rig.ticket(), crate::rig::name(actor));
    Event::Run {
        ticket,
        name,
        gid: gid.map(Gid),
        by: Requester::Owner,
        policy: None,
    }
}

fn ended(rig: &Rig, actor: &str, clean: bool) -> Event {
    Event::Ended {
        actor: rig.key(actor),
        life: rig.life(actor),
        clean,
        exit_code: None,
        at_ms: 0,
    }
}

fn gone(rig: &Rig, actor: &str) -> Event {
    Event::Gone {
        actor: rig.key(actor),
        life: rig.life(actor),
    }
}

fn kill(rig: &mut Rig, gid: u32, tidy: bool) -> Event {
    let ticket = rig.ticket();
    Event::Kill {
        ticket,
        target: Target::Group(Gid(gid)),
        tidy,
        by: Requester::Owner,
    }
}

/// What the table says of an actor that is not registered.
fn actor_state(rig: &Rig, actor: &str) -> String {
    rig.state(actor)
        .map_or("forgotten", |state| state.as_str())
        .to_owned()
}

/// `it`, and `other`, a direct member of the same group, running where the state allows.
fn pair(prepare: impl Fn(&mut Rig)) -> Rig {
    let mut rig = Rig::new();
    rig.up(1, &["other"]);
    rig.run("it", 1);
    prepare(&mut rig);
    rig
}

fn running_pair(prepare: impl Fn(&mut Rig)) -> Rig {
    pair(|rig| {
        rig.loaded("it");
        prepare(rig);
    })
}

#[test]
fn the_table_of_an_actor_is_what_the_controller_does() {
    Table {
        heading: "## Table: an actor",
        states: vec![
            ("loading", || pair(|_| {})),
            ("running", || running_pair(|_| {})),
            ("stopping", || running_pair(|rig| drop(rig.ended("other")))),
            ("ending, clean", || {
                running_pair(|rig| drop(rig.ended_clean("it")))
            }),
            ("ending, failed", || {
                running_pair(|rig| drop(rig.ended("it")))
            }),
            ("ending, stopped", || {
                running_pair(|rig| {
                    rig.ended("other");
                    rig.ended("it");
                })
            }),
            ("clean", || running_pair(|rig| drop(rig.ends_clean("it")))),
            ("waiting, direct", || {
                running_pair(|rig| {
                    rig.ended("other");
                    rig.fails("it");
                })
            }),
            ("waiting, indirect", || {
                let mut rig = Rig::new();
                rig.up(1, &["other"]);
                rig.up_indirect("other", "it");
                rig.fails("other");
                rig.fails("it");
                rig
            }),
            ("failed", || {
                running_pair(|rig| drop(rig.begin_failed("it")))
            }),
        ],
        events: vec![
            ("run it", |rig| run(rig, "it", Some(1))),
            ("loaded", |rig| Event::Loaded {
                actor: rig.key("it"),
            }),
            ("load failed", |rig| Event::LoadFailed {
                actor: rig.key("it"),
            }),
            ("ended, clean", |rig| ended(rig, "it", true)),
            ("ended, not clean", |rig| ended(rig, "it", false)),
            ("gone", |rig| gone(rig, "it")),
            ("begin failed", |rig| Event::BeginFailed {
                actor: rig.key("it"),
                life: rig.life("it"),
            }),
            ("other ended, clean", |rig| ended(rig, "other", true)),
            ("other ended, not clean", |rig| ended(rig, "other", false)),
            ("other gone", |rig| gone(rig, "other")),
            ("kill", |rig| kill(rig, 1, false)),
        ],
        state_of: |rig| actor_state(rig, "it"),
    }
    .check();
}

fn group_state(rig: &Rig) -> String {
    let found = rig.controller.groups().find(|group| group.gid == Gid(1));
    found
        .map_or("forgotten", |group| GroupState::as_str(group.state))
        .to_owned()
}

type Change = fn(&mut Policy);
/// A policy by which the first failure is the last.
const ONCE: Change = |policy| {
    policy.max_restarts = Some(0);
    policy.past_limit = PastLimit::Stop;
};
const DELAYED: Change = |policy| policy.first_ms = 100;

/// A direct `d`, running, and an indirect `i` that is clean, in group 1.
fn group(prepare: impl Fn(&mut Rig)) -> Rig {
    group_of(|_| (), prepare)
}

/// The same with another policy than the default.
fn group_of(change: Change, prepare: impl Fn(&mut Rig)) -> Rig {
    let (mut rig, mut policy) = (Rig::new(), Policy::default());
    change(&mut policy);
    rig.up_with(1, "d", policy);
    rig.up_indirect("d", "i");
    rig.ends_clean("i");
    prepare(&mut rig);
    rig
}

#[test]
fn the_table_of_a_group_is_what_the_controller_does() {
    Table {
        heading: "## Table: a group",
        states: vec![
            ("steady, d running", || group(|_| {})),
            ("steady, d ended clean", || {
                group(|rig| drop(rig.ended_clean("d")))
            }),
            ("restarting, d ended", || group(|rig| drop(rig.ended("d")))),
            ("delayed", || group_of(DELAYED, |rig| drop(rig.fails("d")))),
            ("giving up, d ended", || {
                group_of(ONCE, |rig| drop(rig.ended("d")))
            }),
            ("stopped", || group_of(ONCE, |rig| drop(rig.fails("d")))),
            ("killing, d told tidily", || {
                group(|rig| drop(rig.kill(Target::Group(Gid(1)), true, Requester::Owner)))
            }),
            ("killing, d ended", || {
                group(|rig| {
                    rig.kill_group(1);
                    rig.ended("d");
                })
            }),
            ("blocked", || {
                group(|rig| {
                    rig.fails("d");
                    rig.ends_clean("d");
                })
            }),
        ],
        events: vec![
            ("run d", |rig| run(rig, "d", Some(1))),
            ("run i", |rig| run(rig, "i", Some(1))),
            ("run new", |rig| run(rig, "new", Some(1))),
            ("d ended, not clean", |rig| ended(rig, "d", false)),
            ("d gone", |rig| gone(rig, "d")),
            ("delay over", |_| Event::DelayOver {
                gid: Gid(1),
                until_ms: 100,
            }),
            ("kill", |rig| kill(rig, 1, false)),
            ("kill, tidy", |rig| kill(rig, 1, true)),
        ],
        state_of: group_state,
    }
    .check();
}

/// `d`, direct in group 1, and `o`, ordinary, both running.
fn site(prepare: impl Fn(&mut Rig)) -> Rig {
    let mut rig = Rig::new();
    rig.up(1, &["d"]);
    rig.up_ordinary("o");
    prepare(&mut rig);
    rig
}

/// The controller tells of a site only whether it restarts; what it refuses tells the rest.
fn site_state(rig: &Rig) -> String {
    let mut probe = rig.controller.clone();
    let is_restarting = probe.is_restarting();
    let mut takes = |name, gid| {
        let (ticket, by) = (hr_ctrl_core::Ticket(u64::MAX), Requester::Owner);
        let event = Event::Run {
            ticket,
            name: crate::rig::name(name),
            gid,
            by,
            policy: None,
        };
        matches!(probe.step(event)[..], [Effect::Load { .. }])
    };
    let takes_ordinary = takes("probe-o", None);
    let takes_direct = takes("probe-d", Some(Gid(2)));
    match (is_restarting, takes_ordinary, takes_direct) {
        (true, false, false) => "stopping",
        (true, true, false) => "resetting",
        (false, true, true) => "running",
        (false, false, false) if rig.controller.actors().next().is_some() => "halting",
        (false, false, false) => "halted",
        other => panic!("{other:?} is no state of a site"),
    }
    .to_owned()
}

#[test]
fn the_table_of_a_site_is_what_the_controller_does() {
    Table {
        heading: "## Table: the site",
        states: vec![
            ("running", || site(|_| {})),
            ("stopping, d and o live", || {
                site(|rig| drop(rig.site_restart()))
            }),
            ("stopping, d ended", || {
                site(|rig| {
                    rig.site_restart();
                    rig.fails("o");
                    rig.ended("d");
                })
            }),
            ("resetting", || {
                site(|rig| {
                    rig.site_restart();
                    rig.fails("o");
                    rig.fails("d");
                })
            }),
            ("halting, d told tidily", || {
                site(|rig| {
                    rig.halt(HaltLevel::Halt);
                    rig.fails("o");
                })
            }),
            ("halting, d ended", || {
                site(|rig| {
                    rig.halt(HaltLevel::Immediate);
                    rig.fails("o");
                    rig.ended("d");
                })
            }),
            ("halted", || {
                site(|rig| {
                    rig.halt(HaltLevel::Halt);
                    rig.fails("o");
                    rig.fails("d");
                })
            }),
        ],
        events: vec![
            ("run new -g 2", |rig| run(rig, "new", Some(2))),
            ("run new", |rig| run(rig, "new", None)),
            ("d ended, not clean", |rig| ended(rig, "d", false)),
            ("d gone", |rig| gone(rig, "d")),
            ("kill", |rig| kill(rig, 1, false)),
            ("site restart", |rig| Event::SiteRestart {
                ticket: Some(rig.ticket()),
            }),
            ("boot actors reset", |_| Event::BootActorsReset),
            ("halt -i 0", |_| Event::Halt {
                level: HaltLevel::Halt,
            }),
            ("halt -i 3", |_| Event::Halt {
                level: HaltLevel::Immediate,
            }),
        ],
        state_of: site_state,
    }
    .check();
}

#[test]
fn the_document_names_every_state_and_kind() {
    for state in hr_ctrl_core::ActorState::ALL {
        assert!(
            DOC.contains(&format!("`{}`", state.as_str())),
            "{state:?} is not explained"
        );
    }
    for kind in [Kind::Direct, Kind::Indirect, Kind::Ordinary] {
        assert!(
            DOC.contains(&format!("{kind:?}").to_lowercase()),
            "{kind:?} is not explained"
        );
    }
}
