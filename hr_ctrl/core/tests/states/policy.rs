//! Restart policy (SPEC H33): delays, what happens past the limit, exit codes that end the attempts.

use hr_ctrl_core::{
    ActorState, Controller, Effect, Event, GroupState, GroupView, Limits, Policy, Reason,
    Requester, Target, gave_up_message,
};
use refrain_abi::{Aid, Gid, PastLimit};

use crate::rig::{LIMITS, Rig, name};

fn delayed(first_ms: u64, cap_ms: u64) -> Policy {
    Policy {
        first_ms,
        cap_ms,
        healthy_ms: 1000,
        max_restarts: Some(100),
        ..Policy::default()
    }
}

fn past(max_restarts: u32, past_limit: PastLimit) -> Policy {
    Policy {
        max_restarts: Some(max_restarts),
        past_limit,
        ..Policy::default()
    }
}

fn permanent(codes: &[u8]) -> Policy {
    Policy {
        permanent: codes.iter().copied().collect(),
        ..Policy::default()
    }
}

fn group(rig: &Rig, gid: u32) -> GroupView {
    rig.controller.group(Gid(gid)).expect("the group is there")
}

fn delay_over(rig: &mut Rig, gid: u32) -> Vec<String> {
    let until_ms = group(rig, gid).delayed_until_ms.expect("it waits");
    rig.now = rig.now.max(until_ms);
    rig.step(Event::DelayOver {
        gid: Gid(gid),
        until_ms,
    })
}

#[test]
fn h33_without_a_policy_a_group_waits_for_nothing() {
    assert_eq!(Policy::default().first_ms, 0);
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    assert_eq!(
        rig.fails("a"),
        ["group 1 restarts for a badness 1", "begin a.1 aid 2"]
    );
}

#[test]
fn h33_each_delay_is_longer_than_the_one_before_up_to_the_cap() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", delayed(100, 500));
    for (attempt, delay) in [(1, 100), (2, 200), (3, 400), (4, 500), (5, 500)] {
        let until = rig.now + delay;
        let waits = format!("group 1 waits {delay} until {until} attempt {attempt}");
        assert_eq!(rig.fails("a").last(), Some(&waits));
        assert_eq!(group(&rig, 1).state, GroupState::Delayed);
        assert_eq!(
            delay_over(&mut rig, 1),
            [format!("begin a.{attempt} aid {}", attempt + 1)]
        );
    }
}

#[test]
fn h33_a_healthy_run_makes_the_next_delay_the_first() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", delayed(100, 500));
    rig.fails("a");
    delay_over(&mut rig, 1);
    rig.now += 999;
    assert!(rig.fails("a").last().unwrap().contains("waits 200"));
    delay_over(&mut rig, 1);
    rig.now += 1000;
    assert!(rig.fails("a").last().unwrap().contains("waits 100 "));
}

#[test]
fn h33_the_delay_counts_from_the_failure_and_begins_when_nobody_is_left() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", delayed(100, 500));
    rig.up(1, &["b"]);
    rig.now = 5000;
    rig.ended("a");
    rig.gone("a");
    rig.now = 5070;
    rig.ended("b");
    assert_eq!(rig.gone("b"), ["group 1 waits 100 until 5100 attempt 1"]);
    assert_eq!(rig.state("b"), Some(ActorState::Waiting));
    assert_eq!(
        delay_over(&mut rig, 1),
        ["begin a.1 aid 3", "begin b.1 aid 4"]
    );
}

#[test]
fn h33_the_end_of_another_delay_is_ignored() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", delayed(100, 500));
    let over = |until_ms| Event::DelayOver {
        gid: Gid(1),
        until_ms,
    };
    assert_eq!(rig.step(over(100)), [""; 0]);
    rig.fails("a");
    assert_eq!(rig.step(over(99)), [""; 0]);
    assert_eq!(
        rig.step(Event::DelayOver {
            gid: Gid(2),
            until_ms: 100
        }),
        [""; 0]
    );
    assert_eq!(rig.step(over(100)), ["begin a.1 aid 2"]);
    assert_eq!(rig.step(over(100)), [""; 0]);
}

#[test]
fn h33_a_group_that_waits_is_killed_at_once() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", delayed(100, 500));
    rig.fails("a");
    assert_eq!(
        rig.kill_group(1),
        ["forget a", "group 1 terminated", "done 2"]
    );
}

#[test]
fn h33_running_a_member_ends_the_delay_for_its_group() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", delayed(100, 500));
    rig.up(1, &["b"]);
    rig.up_indirect("a", "i");
    rig.ended("a");
    for actor in ["a", "b", "i"] {
        rig.fails(actor);
    }
    let effects = rig.run("b", 1);
    assert_eq!(
        effects,
        [
            "begin a.1 aid 4",
            "begin b.1 aid 5 for 4",
            "started 4 aid 5"
        ]
    );
    // The row of attempts goes on.
    rig.ended("a");
    rig.gone("a");
    assert!(rig.fails("b").last().unwrap().contains("attempt 2"));
    let effects = rig.run("i", 1);
    assert_eq!(effects.last().unwrap(), "started 5 aid 8");
    assert_eq!(effects.len(), 4, "{effects:?}");
}

#[test]
fn h33_a_new_member_ends_the_delay_too() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", delayed(100, 500));
    rig.fails("a");
    assert_eq!(
        rig.run("new", 1),
        ["load new for 2 Direct", "begin a.1 aid 2"]
    );
    assert_eq!(
        rig.loaded("new"),
        ["begin new.0 aid 3 for 2", "started 2 aid 3"]
    );
}

#[test]
fn h33_a_site_restart_overrides_a_delay() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", delayed(100, 500));
    rig.fails("a");
    assert_eq!(rig.site_restart(), ["reset boot actors"]);
    assert_eq!(
        rig.step(Event::DelayOver {
            gid: Gid(1),
            until_ms: 100
        }),
        [""; 0]
    );
    assert_eq!(rig.boot_actors_reset(), ["begin a.1 aid 2", "done 2"]);
    assert!(rig.fails("a").last().unwrap().contains("attempt 1"));
}

#[test]
fn h33_past_its_limit_a_group_is_stopped_where_its_policy_says_so() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", past(1, PastLimit::Stop));
    rig.up(1, &["b"]);
    rig.up(2, &["other"]);
    rig.ended("a");
    rig.gone("a");
    rig.fails("b");
    assert_eq!(
        rig.ended("a"),
        ["stop b.1 kill", "group 1 given up for a Limit"]
    );
    assert_eq!(group(&rig, 1).state, GroupState::GivingUp);
    let refusal = rig.run("new", 1);
    assert_eq!(refusal, ["refused 4 GroupStopping"]);
    assert_eq!([rig.gone("a"), rig.fails("b")].concat(), [""; 0]);
    assert_eq!(group(&rig, 1).state, GroupState::Stopped);
    for actor in ["a", "b"] {
        assert_eq!(rig.state(actor), Some(ActorState::Stopped));
    }
    assert_eq!(rig.state("other"), Some(ActorState::Running));
}

#[test]
fn h33_a_stopped_group_is_run_again_with_a_clear_history() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", past(1, PastLimit::Stop));
    rig.up(1, &["b"]);
    rig.ended("a");
    rig.gone("a");
    rig.fails("b");
    rig.ended("a");
    rig.gone("a");
    rig.fails("b");
    assert_eq!(
        rig.run("b", 1),
        ["begin b.2 aid 5 for 3", "started 3 aid 5"]
    );
    assert_eq!(rig.state("a"), Some(ActorState::Failed));
    assert_eq!(group(&rig, 1).gave_up, None);
    assert_eq!(rig.ended("b"), ["group 1 restarts for b badness 1"]);
    assert_eq!(rig.gone("b"), ["begin a.2 aid 6", "begin b.3 aid 7"]);
}

#[test]
fn h33_a_stopped_group_is_freed_by_a_kill_and_revived_by_a_site_restart() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", past(0, PastLimit::Stop));
    rig.fails("a");
    let mut killed = rig.controller.clone();
    let ticket = rig.ticket();
    let (target, by) = (Target::Group(Gid(1)), Requester::Owner);
    let effects = killed.step(Event::Kill {
        ticket,
        target,
        tidy: false,
        by,
    });
    assert!(
        effects.contains(&Effect::GroupTerminated { gid: Gid(1) }),
        "{effects:?}"
    );
    rig.site_restart();
    assert_eq!(rig.boot_actors_reset()[0], "begin a.1 aid 2");
}

#[test]
fn h33_past_its_limit_a_group_that_retries_waits_the_cap_until_it_was_healthy() {
    let mut rig = Rig::new();
    let policy = Policy {
        cap_ms: 1500, // longer than the interval: the badness falls below the limit again
        healthy_ms: 2000,
        ..past(1, PastLimit::Retry)
    };
    rig.up_with(1, "a", policy);
    assert!(rig.controller.restarts_at_once(rig.key("a")));
    assert_eq!(rig.fails("a").last().unwrap(), "begin a.1 aid 2");
    for _ in 0..3 {
        assert!(rig.fails("a").last().unwrap().contains("waits 1500"));
        delay_over(&mut rig, 1);
        assert!(!rig.controller.restarts_at_once(rig.key("a")));
    }
    rig.now += 2000;
    assert!(rig.fails("a").last().unwrap().starts_with("begin"));
}

#[test]
fn h26_past_its_limit_the_site_restarts_where_the_policy_says_nothing() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", past(0, PastLimit::Site));
    assert_eq!(rig.fails("a"), ["group 1 passed 1", "reset boot actors"]);
}

#[test]
fn h33_an_exit_code_of_permanent_failure_stops_the_group_at_once() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", permanent(&[2, 78]));
    rig.up(1, &["b"]);
    rig.up(2, &["other"]);
    assert_eq!(
        rig.ended_with("a", 1),
        ["stop b.0 kill", "group 1 restarts for a badness 1"]
    );
    rig.gone("a");
    rig.fails("b");
    assert_eq!(
        rig.ended_with("b", 78),
        ["stop a.1 kill", "group 1 given up for b ExitCode(78)"]
    );
    rig.gone("b");
    assert_eq!(rig.fails("a"), [""; 0]);
    let reason = group(&rig, 1).gave_up.map(|give_up| give_up.reason);
    assert_eq!(reason, Some(Reason::ExitCode(78)));
    assert_eq!(rig.state("other"), Some(ActorState::Running));
}

#[test]
fn h33_how_a_life_ended_that_was_told_to_stop_is_no_permanent_failure() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", permanent(&[2]));
    rig.up(1, &["b"]);
    rig.ended("a");
    rig.gone("a");
    assert_eq!(rig.ended_with("b", 2), [""; 0]);
    assert_eq!(rig.gone("b"), ["begin a.1 aid 3", "begin b.1 aid 4"]);
}

#[test]
fn h33_whoever_loads_into_a_group_that_is_given_up_is_refused() {
    let mut rig = Rig::new();
    rig.up_with(1, "a", past(0, PastLimit::Stop));
    rig.run("late", 1);
    rig.fails("a");
    assert_eq!(rig.loaded("late"), ["refused 2 Cancelled"]);
    assert_eq!(rig.state("late"), Some(ActorState::Stopped));
    assert_eq!(
        rig.run("late", 1),
        ["begin late.0 aid 2 for 3", "started 3 aid 2"]
    );
}

#[test]
fn h33_a_life_never_wakes_its_successor_where_the_policy_is_to_be_asked() {
    for policy in [
        delayed(1, 10),
        permanent(&[9]),
        past(0, PastLimit::Stop),
        past(0, PastLimit::Retry),
    ] {
        let mut rig = Rig::new();
        rig.up_with(1, "a", policy);
        assert!(!rig.controller.restarts_at_once(rig.key("a")), "{policy:?}");
    }
    let mut rig = Rig::new();
    rig.up_with(1, "a", past(1, PastLimit::Stop));
    assert!(rig.controller.restarts_at_once(rig.key("a")));
}

#[test]
fn h33_the_first_that_names_a_policy_sets_it_and_so_does_a_later_one() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    assert_eq!(rig.controller.policy(Gid(1)), Some(&Policy::default()));
    rig.up_with(1, "b", delayed(5, 10));
    rig.up(1, &["c"]);
    assert_eq!(rig.controller.policy(Gid(1)), Some(&delayed(5, 10)));
    rig.up_with(1, "d", permanent(&[3]));
    assert_eq!(rig.controller.policy(Gid(1)), Some(&permanent(&[3])));
    // A refused run changes nothing, and a life has no say.
    rig.run_with("a", 1, delayed(5, 10));
    let (ticket, by) = (rig.ticket(), rig.as_life("a"));
    let policy = Some(delayed(5, 10));
    rig.step(Event::Run {
        ticket,
        name: name("child"),
        gid: None,
        by,
        policy,
    });
    assert_eq!(rig.controller.policy(Gid(1)), Some(&permanent(&[3])));
}

#[test]
fn h33_a_crash_loop_of_one_group_never_slows_another() {
    let mut rig = Rig::new();
    rig.up_with(1, "looping", delayed(100, 10_000));
    rig.up(2, &["other"]);
    for life in 1..4 {
        assert_eq!(rig.fails("looping").len(), 2);
        assert_eq!(group(&rig, 1).state, GroupState::Delayed);
        let effects = rig.fails("other");
        assert!(
            effects[1].starts_with(&format!("begin other.{life} ")),
            "{effects:?}"
        );
        delay_over(&mut rig, 1);
    }
}

#[test]
fn h33_hostile_figures_of_a_policy_do_not_break_the_controller() {
    let policy = Policy {
        first_ms: u64::MAX,
        factor_percent: u32::MAX,
        cap_ms: u64::MAX,
        healthy_ms: u64::MAX,
        max_restarts: Some(u32::MAX),
        ..Policy::default()
    };
    let limits = Limits {
        interval_ms: u64::MAX,
        ..LIMITS
    };
    let mut rig = Rig::with(limits);
    rig.up_with(1, "a", policy);
    for _ in 0..3 {
        rig.now = u64::MAX;
        rig.fails("a");
        delay_over(&mut rig, 1);
    }
    let _: Controller = Controller::new(limits, Aid(1));
}

#[test]
fn h33_the_message_says_why_and_how_to_go_on() {
    let limit = gave_up_message(Gid(3), &name("web"), 6, Reason::Limit);
    assert_eq!(
        limit,
        "HR_CTRL: group 3 stopped: web failed, failure 6 within the interval (arun -g 3 starts a \
         member again, akill -g 3 ends the group)"
    );
    let code = gave_up_message(Gid(3), &name("web"), 1, Reason::ExitCode(78));
    assert!(code.contains("group 3 stopped: web ended with exit 78, a permanent failure ("));
}
