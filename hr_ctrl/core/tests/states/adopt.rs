//! A controller that goes on from the memos of one that has ended (SPEC H31).

use hr_ctrl_core::{
    ActorState, Controller, Event, GroupMemo, GroupState, HaltLevel, Kind, Limits, Policy,
    Requester, Target,
};
use refrain_abi::{Gid, PastLimit};

use crate::rig::{LIMITS, Rig};

impl Rig {
    /// The controller ends, and another is recalled from its memos.
    fn dies(&mut self) {
        let old = &self.controller;
        let groups = old.groups().filter_map(|view| old.group_memo(view.gid));
        let actors = old
            .actors()
            .filter_map(|view| Some((*view.name, old.actor_memo(view.key)?)));
        self.controller = Controller::recall(LIMITS, old.site_memo(), groups, actors);
    }

    fn adopted(&mut self) -> Vec<String> {
        self.step(Event::Adopted)
    }
}

#[test]
fn h31_what_runs_is_left_alone() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.up_ordinary("o");
    rig.dies();
    assert_eq!(rig.adopted(), [""; 0]);
    assert_eq!(rig.aid("b").0, 2);
    assert_eq!(rig.fails("o"), ["forget o"]);
    rig.ended("a");
    rig.gone("a");
    assert_eq!(rig.fails("b"), ["begin a.1 aid 4", "begin b.1 aid 5"]);
}

#[test]
fn h31_a_group_in_the_middle_of_a_restart_comes_to_its_end() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.ended("a");
    rig.dies();
    // Before the others are told to stop again, the daemon says what has happened meanwhile.
    assert_eq!(rig.gone("a"), [""; 0]);
    assert_eq!(rig.adopted(), ["stop b.0 kill"]);
    assert_eq!(rig.fails("b"), ["begin a.1 aid 3", "begin b.1 aid 4"]);
}

#[test]
fn h31_an_end_that_nobody_saw_is_handled_like_any_other() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.dies();
    assert_eq!(
        rig.fails("a"),
        ["group 1 restarts for a badness 1", "begin a.1 aid 2"]
    );
    assert_eq!(rig.adopted(), [""; 0]);
}

#[test]
fn h31_a_life_that_was_never_begun_and_cannot_be_is_no_reason_to_restart() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.dies();
    assert_eq!(rig.begin_failed("b"), [""; 0]);
    assert_eq!(rig.adopted(), [""; 0]);
    assert_eq!(rig.state("b"), Some(ActorState::Failed));
}

#[test]
fn h31_whoever_loads_gets_what_was_asked_for_but_a_spawner_asks_again() {
    let mut rig = Rig::new();
    rig.up(1, &["d"]);
    rig.run("late", 1);
    rig.run_ordinary("o");
    rig.spawn("d", "i");
    rig.dies();
    rig.adopted();
    assert_eq!(rig.loaded("late"), ["begin late.0 aid 2"]);
    assert_eq!(rig.loaded("o"), ["begin o.0 aid 3"]);
    assert_eq!(rig.spawn("d", "i"), [""; 0]);
    assert_eq!(
        rig.loaded("i"),
        ["begin i.0 aid 4 for 5", "started 5 aid 4"]
    );
}

#[test]
fn h31_a_load_of_a_spawner_that_does_not_ask_again_is_kept_for_it() {
    let mut rig = Rig::new();
    rig.up(1, &["d"]);
    rig.spawn("d", "i");
    rig.dies();
    rig.adopted();
    assert_eq!(rig.loaded("i"), [""; 0]);
    assert_eq!(rig.state("i"), Some(ActorState::Waiting));
    assert_eq!(rig.spawn("d", "i").last().unwrap(), "started 3 aid 2");
}

#[test]
fn h31_a_kill_and_a_halt_go_on() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up(2, &["b"]);
    rig.kill(Target::Group(Gid(1)), true, Requester::Owner);
    rig.dies();
    assert_eq!(rig.adopted(), ["stop a.0 tidy"]);
    assert_eq!(rig.fails("a"), ["forget a", "group 1 terminated"]);
    rig.halt(HaltLevel::Cold);
    rig.fails("b");
    rig.dies();
    assert_eq!(rig.adopted(), ["halted Cold"]);
    assert_eq!(rig.adopted(), [""; 0]);
}

#[test]
fn h31_a_reset_that_was_under_way_is_asked_for_again_when_nobody_is_alive() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.site_restart();
    rig.fails("a");
    rig.dies();
    assert_eq!(rig.adopted(), ["reset boot actors"]);
    // sysadm.ini has started an ordinary actor when the next one ends, too.
    rig.up_ordinary("o");
    rig.dies();
    assert_eq!(rig.adopted(), ["stop o.0 kill"]);
    assert_eq!(rig.fails("o"), ["forget o", "reset boot actors"]);
    assert_eq!(rig.boot_actors_reset(), ["begin a.1 aid 3"]);
}

#[test]
fn h33_delays_and_groups_that_were_given_up_are_remembered() {
    let mut rig = Rig::new();
    let delayed = Policy {
        first_ms: 100,
        ..Policy::default()
    };
    let stopped = Policy {
        max_restarts: Some(0),
        past_limit: PastLimit::Stop,
        ..Policy::default()
    };
    rig.up_with(1, "a", delayed);
    rig.up_with(2, "b", stopped);
    rig.fails("a");
    rig.fails("b");
    rig.dies();
    let again = [
        "group 1 waits 100 until 100 attempt 1",
        "group 2 given up for b Limit",
    ];
    assert_eq!(rig.adopted(), again);
    assert_eq!(rig.state("b"), Some(ActorState::Stopped));
    let over = Event::DelayOver {
        gid: Gid(1),
        until_ms: 100,
    };
    assert_eq!(rig.step(over), ["begin a.1 aid 3"]);
    assert_eq!(rig.controller.policy(Gid(1)), Some(&delayed));
    assert!(rig.fails("a").last().unwrap().contains("waits 200"));
}

#[test]
fn h31_a_lost_memo_costs_what_it_held_and_no_more() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up(2, &["b"]);
    rig.kill_group(2);
    rig.ended("b");
    let old = &rig.controller;
    let memo = |actor: &str| old.actor_memo(rig.key(actor)).expect("registered");
    let killed = old.group_memo(Gid(2)).expect("it is there");
    let a = (crate::rig::name("a"), memo("a"));
    // Neither the memo of group 1 nor that of b can be read; a is there twice.
    let site = old.site_memo();
    let mut next = Controller::recall(LIMITS, site, [killed], [a, a]);
    assert_eq!(
        next.group(Gid(1)).map(|g| (g.state, g.alive)),
        Some((GroupState::Steady, 1))
    );
    let effects = next.step(Event::Adopted);
    assert_eq!(
        effects,
        [hr_ctrl_core::Effect::GroupTerminated { gid: Gid(2) }]
    );
    assert_eq!(next.groups().count(), 1);
}

#[test]
fn h31_a_group_without_members_is_dropped() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    let groups: Vec<GroupMemo> = rig.controller.group_memo(Gid(1)).into_iter().collect();
    let next = Controller::recall(LIMITS, rig.controller.site_memo(), groups, []);
    assert_eq!((next.groups().count(), next.actors().count()), (0, 0));
    assert_eq!(next.next_aid(), rig.controller.next_aid());
}

#[test]
fn h31_a_fresh_controller_takes_no_notice_of_an_adoption() {
    let mut rig = Rig::with(Limits {
        max_actors: 4,
        ..LIMITS
    });
    rig.restore("a", 1, Kind::Direct, true, false);
    assert_eq!(rig.adopted(), [""; 0]);
}
