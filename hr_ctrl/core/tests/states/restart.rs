//! Failure and group restart: SPEC H8, H9, H21.

use hr_ctrl_core::{ActorState, Event, Policy};
use refrain_abi::{Gid, LifeNo};

use crate::rig::{LIMITS, Rig};

#[test]
fn h8_an_end_without_the_exit_handler_restarts_a_group_of_one_at_gone() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    assert_eq!(rig.ended("a"), ["group 1 restarts for a badness 1"]);
    assert_eq!(rig.gone("a"), ["begin a.1 aid 2"]);
    let view = rig.controller.view(rig.key("a")).expect("registered");
    assert_eq!((view.life, view.restarts), (Some(LifeNo(1)), 1));
}

#[test]
fn h9_all_members_stop_and_begin_only_when_the_last_is_gone() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b", "c"]);
    assert_eq!(
        rig.ended("b"),
        [
            "stop a.0 kill",
            "stop c.0 kill",
            "group 1 restarts for b badness 1"
        ]
    );
    assert_eq!(rig.gone("b"), [""; 0]);
    assert_eq!(rig.ended("a"), [""; 0]);
    assert_eq!(rig.ended("c"), [""; 0]);
    assert_eq!(rig.gone("c"), [""; 0]);
    assert_eq!(
        rig.gone("a"),
        ["begin a.1 aid 4", "begin b.1 aid 5", "begin c.1 aid 6"]
    );
}

#[test]
fn h9_failed_member_restarts_the_clean_one() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.ends_clean("a");
    assert_eq!(rig.ended("b"), ["group 1 restarts for b badness 1"]);
    assert_eq!(rig.gone("b"), ["begin a.1 aid 3", "begin b.1 aid 4"]);
}

#[test]
fn h9_a_clean_end_whose_remains_are_still_there_is_waited_for() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.ended_clean("a");
    rig.ended("b");
    assert_eq!(rig.gone("b"), [""; 0]);
    assert_eq!(rig.gone("a"), ["begin a.1 aid 3", "begin b.1 aid 4"]);
}

#[test]
fn h9_indirect_members_wait_for_their_spawner_even_when_they_had_ended_cleanly() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up_indirect("a", "b");
    rig.up_indirect("a", "c");
    rig.ends_clean("c");
    assert_eq!(
        rig.ended("a"),
        ["stop b.0 kill", "group 1 restarts for a badness 1"]
    );
    rig.gone("a");
    assert_eq!(rig.fails("b"), ["begin a.1 aid 4"]);
    assert_eq!(rig.state("b"), Some(ActorState::Waiting));
    assert_eq!(rig.state("c"), Some(ActorState::Waiting));
    assert_eq!(
        rig.spawn("a", "b"),
        ["begin b.1 aid 5 for 4", "started 4 aid 5"]
    );
}

#[test]
fn h9_other_groups_and_ordinary_actors_notice_nothing() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up(2, &["b"]);
    rig.up_ordinary("o");
    assert_eq!(
        rig.fails("a").last().map(String::as_str),
        Some("begin a.1 aid 4")
    );
    assert_eq!(rig.state("b"), Some(ActorState::Running));
    assert_eq!((rig.life("b"), rig.life("o")), (LifeNo(0), LifeNo(0)));
}

#[test]
fn h9_a_second_failure_meanwhile_is_part_of_the_same_restart() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.ended("a");
    assert_eq!(rig.ended("b"), [""; 0]);
    rig.gone("a");
    assert_eq!(rig.gone("b"), ["begin a.1 aid 3", "begin b.1 aid 4"]);
    let group = rig.controller.groups().next().expect("there is one");
    assert_eq!(group.badness, 1);
}

#[test]
fn h9_a_stopped_life_that_ends_as_if_clean_is_not_clean() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up_indirect("a", "b");
    rig.ended("a");
    rig.ended_clean("b");
    assert!(
        !rig.controller
            .view(rig.key("b"))
            .expect("registered")
            .terminated_clean
    );
    rig.gone("a");
    assert_eq!(rig.gone("b"), ["begin a.1 aid 3"]);
    assert_eq!(rig.ends_clean("a"), ["group 1 blocked by b"]);
}

#[test]
fn h9_nothing_is_run_in_a_group_while_it_restarts() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.ends_clean("a");
    rig.ended("b");
    assert_eq!(rig.run("a", 1), ["refused 3 GroupStopping"]);
    assert_eq!(rig.run("new", 1), ["refused 4 GroupStopping"]);
    assert_eq!(
        rig.run("new", 2),
        ["load new for 5 Direct"],
        "another group is not concerned"
    );
}

#[test]
fn h9_a_direct_member_loaded_during_the_restart_begins_with_it_for_the_first_time() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.run("b", 1);
    rig.ended("a");
    assert_eq!(rig.loaded("b"), [""; 0]);
    assert_eq!(rig.state("b"), Some(ActorState::Waiting));
    assert_eq!(
        rig.gone("a"),
        [
            "begin a.1 aid 2",
            "begin b.0 aid 3 for 2",
            "started 2 aid 3"
        ]
    );
    let view = rig.controller.view(rig.key("b")).expect("registered");
    assert_eq!(view.restarts, 0);
}

#[test]
fn h9_a_restart_does_not_wait_for_a_load_and_the_load_begins_by_itself() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.run("b", 1);
    rig.ended("a");
    assert_eq!(rig.gone("a"), ["begin a.1 aid 2"]);
    assert_eq!(
        rig.loaded("b"),
        ["begin b.0 aid 3 for 2", "started 2 aid 3"]
    );
}

#[test]
fn h9_an_indirect_member_whose_spawner_failed_during_its_load_waits() {
    for load_ends_first in [true, false] {
        let mut rig = Rig::new();
        rig.up(1, &["a"]);
        rig.spawn("a", "b");
        rig.ended("a");
        if load_ends_first {
            assert_eq!(rig.loaded("b"), ["refused 2 Cancelled"]);
            assert_eq!(rig.gone("a"), ["begin a.1 aid 2"]);
        } else {
            assert_eq!(rig.gone("a"), ["begin a.1 aid 2"]);
            assert_eq!(rig.loaded("b"), ["refused 2 Cancelled"]);
        }
        assert_eq!(rig.state("b"), Some(ActorState::Waiting));
        assert_eq!(
            rig.spawn("a", "b"),
            ["begin b.0 aid 3 for 3", "started 3 aid 3"]
        );
    }
}

#[test]
fn h9_a_spawner_that_is_back_before_the_load_is_done_takes_it_over() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.spawn("a", "b");
    rig.fails("a");
    assert_eq!(
        rig.spawn("a", "b"),
        [""; 0],
        "no second load of the same name"
    );
    assert_eq!(rig.spawn("a", "b"), ["refused 4 Alive"]);
    assert_eq!(
        rig.loaded("b"),
        [
            "refused 2 Cancelled",
            "begin b.0 aid 3 for 3",
            "started 3 aid 3"
        ]
    );
}

#[test]
fn h9_who_took_over_a_load_is_refused_when_it_fails_or_its_life_fails_too() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.spawn("a", "b");
    rig.fails("a");
    rig.spawn("a", "b");
    assert_eq!(
        rig.ended("a"),
        ["refused 3 Cancelled", "group 1 restarts for a badness 2"]
    );
    rig.gone("a");
    rig.spawn("a", "b");
    assert_eq!(
        rig.load_failed("b"),
        ["refused 4 Cancelled"],
        "the daemon answers the first"
    );
}

#[test]
fn h21_a_life_that_called_the_exit_handler_and_runs_on_is_stopped_and_begins_again() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    // That `a` called the handler is known only at its end: until then it is a life like any.
    assert_eq!(
        rig.ended("b"),
        ["stop a.0 kill", "group 1 restarts for b badness 1"]
    );
    rig.gone("b");
    rig.ended_clean("a");
    assert_eq!(rig.gone("a"), ["begin a.1 aid 3", "begin b.1 aid 4"]);
}

#[test]
fn a_life_that_cannot_begin_fails_without_provoking_a_restart() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    assert_eq!(rig.begin_failed("a"), [""; 0]);
    assert_eq!(rig.state("a"), Some(ActorState::Failed));
    assert_eq!(rig.state("b"), Some(ActorState::Running));
    assert_eq!(rig.ends_clean("b"), ["group 1 blocked by a"]);
    assert_eq!(
        rig.run("a", 1),
        ["begin a.1 aid 3 for 3", "started 3 aid 3"]
    );
}

#[test]
fn a_group_of_one_that_cannot_begin_again_is_blocked_and_not_retried() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.fails("a");
    assert_eq!(rig.begin_failed("a"), ["group 1 blocked by a"]);
    assert_eq!(rig.begin_failed("a"), [""; 0]);
    assert_eq!(
        rig.kill_group(1),
        ["forget a", "group 1 terminated", "done 2"]
    );
}

#[test]
fn a_life_that_could_not_begin_counts_as_gone_for_the_restart_that_waits_for_it() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.fails("a");
    assert_eq!(
        rig.begin_failed("b"),
        ["begin a.1 aid 3", "begin b.1 aid 4"]
    );
}

#[test]
fn gone_without_ended_is_ignored() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    let (actor, life) = (rig.key("a"), rig.life("a"));
    assert_eq!(rig.step(Event::Gone { actor, life }), [""; 0]);
    assert_eq!(rig.state("a"), Some(ActorState::Running));
}

#[test]
fn h9_a_life_restarts_at_once_only_if_it_is_alone_and_its_badness_allows() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up_ordinary("o");
    let at_once = |rig: &Rig, actor| rig.controller.restarts_at_once(rig.key(actor));
    assert!(at_once(&rig, "a"));
    assert!(!at_once(&rig, "o"), "an ordinary actor is never restarted");
    rig.run("b", 1);
    assert!(!at_once(&rig, "a"), "a load makes a second member");
    rig.load_failed("b");
    assert!(at_once(&rig, "a"));
    rig.up(1, &["c"]);
    assert!(!at_once(&rig, "a") && !at_once(&rig, "c"));
}

#[test]
fn h26_a_life_whose_failure_restarts_the_site_does_not_restart_at_once() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    let limit = rig.controller.limits().max_badness;
    for _ in 0..limit {
        assert!(rig.controller.restarts_at_once(rig.key("a")));
        rig.fails("a");
    }
    assert!(!rig.controller.restarts_at_once(rig.key("a")));
}

/// A restart of a whole group, one member after the other.
fn restart_group(rig: &mut Rig, failed: &str, others: &[&str]) -> Vec<String> {
    let mut effects = rig.ended(failed);
    for other in others {
        effects.extend(rig.ended(other));
    }
    for actor in others.iter().chain([&failed]) {
        effects.extend(rig.gone(actor));
    }
    effects
}

#[test]
fn h26_as_many_restarts_as_a_group_has_ahead_begin_every_member_at_once() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    let ahead = |rig: &Rig| rig.controller.restarts_ahead(Gid(1), rig.now);
    for left in (1..=LIMITS.max_badness).rev() {
        assert_eq!(ahead(&rig), left);
        let effects = restart_group(&mut rig, "b", &["a"]);
        let begun = effects.iter().filter(|effect| effect.starts_with("begin"));
        assert_eq!(begun.count(), 2, "{effects:?}");
    }
    assert_eq!(ahead(&rig), 0);
    rig.now += LIMITS.interval_ms;
    assert_eq!(
        ahead(&rig),
        LIMITS.max_badness,
        "those failures count no more"
    );
    rig.now -= LIMITS.interval_ms;
    let effects = restart_group(&mut rig, "a", &["b"]);
    assert!(
        !effects.iter().any(|effect| effect.starts_with("begin")),
        "{effects:?}"
    );
    assert_eq!(ahead(&rig), 0, "the site restarts");
}

#[test]
fn h9_a_group_has_no_restarts_ahead_unless_all_of_it_runs_and_is_direct() {
    let ahead = |rig: &Rig| rig.controller.restarts_ahead(Gid(1), rig.now);
    let mut rig = Rig::new();
    assert_eq!(ahead(&rig), 0, "no such group");
    rig.up(1, &["a", "b"]);
    assert!(ahead(&rig) > 0);
    rig.run("c", 1);
    assert_eq!(ahead(&rig), 0, "one is loaded");
    rig.loaded("c");
    assert!(ahead(&rig) > 0);
    rig.ended("c");
    assert_eq!(ahead(&rig), 0, "it restarts");
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.ends_clean("a");
    assert_eq!(
        ahead(&rig),
        0,
        "one has ended cleanly, and begins again at the core's word only"
    );
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up_indirect("a", "i");
    assert_eq!(ahead(&rig), 0, "one waits for its spawner at a restart");
    let mut rig = Rig::new();
    let first_ms = 10;
    let policy = Policy {
        first_ms,
        ..Policy::default()
    };
    rig.up_with(1, "a", policy);
    assert_eq!(ahead(&rig), 0, "a delay would come");
}
