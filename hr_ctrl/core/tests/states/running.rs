//! Running, registration, clean termination: SPEC H2 to H6, H14, H21 to H23, H27.

use hr_ctrl_core::{
    ActorState, Event, GroupState, Kind, Limits, Refusal, Requester, Ticket, blocked_message,
};
use refrain_abi::{Aid, Gid, LifeNo};

use crate::rig::{LIMITS, Rig, name};

#[test]
fn h3_a_new_name_is_loaded_once_and_then_begins() {
    let mut rig = Rig::new();
    assert_eq!(rig.run("a", 1), ["load a for 1 Direct"]);
    assert_eq!(rig.state("a"), Some(ActorState::Loading));
    assert_eq!(
        rig.loaded("a"),
        ["begin a.0 aid 1 for 1", "started 1 aid 1"]
    );
    assert_eq!(
        rig.loaded("a"),
        [""; 0],
        "a second report of the load changes nothing"
    );
    assert_eq!(rig.state("a"), Some(ActorState::Running));
}

#[test]
fn h3_a_load_that_fails_leaves_nothing_behind() {
    let mut rig = Rig::new();
    rig.run("a", 1);
    assert_eq!(
        rig.load_failed("a"),
        [""; 0],
        "the daemon has told the reason"
    );
    assert!(rig.controller.is_idle());
    assert_eq!(
        rig.run("a", 2),
        ["load a for 2 Direct"],
        "the name is free again"
    );
}

#[test]
fn h2_an_ordinary_actor_is_forgotten_at_its_end_and_never_restarted() {
    let mut rig = Rig::new();
    assert_eq!(rig.run_ordinary("a"), ["load a for 1 Ordinary"]);
    rig.loaded("a");
    assert_eq!(rig.ended("a"), [""; 0]);
    assert_eq!(rig.gone("a"), ["forget a"]);
    assert!(rig.controller.is_idle());
}

#[test]
fn h2_an_ordinary_actor_may_not_use_the_hot_restart_api() {
    let mut rig = Rig::new();
    rig.up_ordinary("a");
    assert_eq!(rig.spawn("a", "b"), ["refused 2 NotRestartable"]);
}

#[test]
fn h2_an_actor_spawned_by_a_life_is_indirect_and_in_its_group() {
    let mut rig = Rig::new();
    rig.up(7, &["a"]);
    assert_eq!(rig.spawn("a", "b"), ["load b for 2 Indirect"]);
    assert_eq!(
        rig.loaded("b"),
        ["begin b.0 aid 2 for 2", "started 2 aid 2"]
    );
    let view = rig.controller.view(rig.key("b")).expect("registered");
    assert_eq!((view.gid, view.kind), (Some(Gid(7)), Kind::Indirect));
}

#[test]
fn h2_a_spawned_actor_begins_though_its_spawner_ended_cleanly_meanwhile() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.spawn("a", "b");
    assert_eq!(
        rig.ends_clean("a"),
        [""; 0],
        "the group does not terminate over a load"
    );
    assert_eq!(
        rig.loaded("b"),
        ["begin b.0 aid 2 for 2", "started 2 aid 2"]
    );
}

#[test]
fn h4_a_registered_name_that_is_not_alive_begins_without_a_load_and_keeps_its_kind() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up_indirect("a", "b");
    rig.ends_clean("b");
    assert_eq!(
        rig.run("b", 1),
        ["begin b.1 aid 3 for 3", "started 3 aid 3"]
    );
    let view = rig.controller.view(rig.key("b")).expect("registered");
    assert_eq!(
        (view.kind, view.restarts),
        (Kind::Indirect, 0),
        "asked for, so not a restart"
    );
    rig.ends_clean("a");
    let by = rig.as_life("b");
    assert_eq!(
        rig.run_by("a", None, by),
        ["begin a.1 aid 4 for 4", "started 4 aid 4"]
    );
    assert_eq!(
        rig.controller.view(rig.key("a")).map(|a| a.kind),
        Some(Kind::Direct)
    );
}

#[test]
fn h4_a_name_of_another_group_or_of_an_ordinary_actor_is_refused() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up_ordinary("o");
    let refusal = |rig: &mut Rig, text, gid| {
        let event = Event::Run {
            ticket: Ticket(99),
            name: name(text),
            gid,
            by: Requester::Owner,
            policy: None,
        };
        match rig.effects(event).pop() {
            Some(hr_ctrl_core::Effect::Refused { why, .. }) => why,
            other => panic!("not refused: {other:?}"),
        }
    };
    let taken = |text, gid| Refusal::NameTaken {
        name: name(text),
        gid,
    };
    assert_eq!(
        refusal(&mut rig, "a", Some(Gid(2))),
        taken("a", Some(Gid(1)))
    );
    assert_eq!(refusal(&mut rig, "a", None), taken("a", Some(Gid(1))));
    assert_eq!(refusal(&mut rig, "o", Some(Gid(1))), taken("o", None));
    let alive = Refusal::Alive {
        name: name("o"),
        aid: Some(Aid(2)),
    };
    assert_eq!(refusal(&mut rig, "o", None), alive);
}

#[test]
fn h4_a_name_that_is_alive_is_refused_until_its_life_is_gone() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    assert_eq!(rig.run("a", 1), ["refused 3 Alive"]);
    rig.ended_clean("a");
    assert_eq!(rig.state("a"), Some(ActorState::Ending));
    assert_eq!(
        rig.run("a", 1),
        ["refused 4 Alive"],
        "its children may still hold its port"
    );
    rig.gone("a");
    assert_eq!(
        rig.run("a", 1),
        ["begin a.1 aid 3 for 5", "started 5 aid 3"]
    );
    rig.run("c", 1);
    assert_eq!(rig.run("c", 1), ["refused 7 Alive"], "it is being loaded");
}

#[test]
fn h5_a_name_stays_registered_past_the_actors_clean_end() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    assert_eq!(rig.ends_clean("a"), [""; 0]);
    let view = rig.controller.view(rig.key("a")).expect("still registered");
    assert_eq!(
        (view.state, view.terminated_clean),
        (ActorState::Clean, true)
    );
    assert_eq!((view.life, view.aid), (Some(LifeNo(0)), None));
    assert_eq!(rig.run("a", 2), ["refused 3 NameTaken"]);
}

#[test]
fn h6_aids_rise_and_a_stale_one_is_never_taken_for_its_successor() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    assert_eq!(rig.controller.find_aid(Aid(1)), Some(rig.key("a")));
    rig.fails("a");
    assert_eq!(rig.aid("a"), Aid(2));
    assert_eq!(rig.controller.find_aid(Aid(1)), None);
    assert_eq!(
        rig.controller.group_of(Aid(1)),
        Err(Refusal::NoSuchAid {
            aid: Aid(1),
            stale: true
        })
    );
    assert_eq!(
        rig.controller.group_of(Aid(3)),
        Err(Refusal::NoSuchAid {
            aid: Aid(3),
            stale: false
        })
    );
    assert_eq!(rig.controller.next_aid(), Aid(3));
}

#[test]
fn h6_events_of_an_older_life_are_ignored() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.fails("a");
    let (actor, life) = (rig.key("a"), LifeNo(0));
    for event in [
        Event::Ended {
            actor,
            life,
            clean: false,
            exit_code: None,
            at_ms: 0,
        },
        Event::Gone { actor, life },
        Event::BeginFailed { actor, life },
        Event::Gone {
            actor,
            life: LifeNo(1),
        },
        Event::LoadFailed { actor },
    ] {
        assert_eq!(rig.step(event), [""; 0]);
    }
    assert_eq!(rig.state("a"), Some(ActorState::Running));
}

#[test]
fn h6_a_request_of_a_life_that_has_ended_is_refused() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    let old = rig.as_life("a");
    rig.ended_clean("a");
    assert_eq!(rig.run_by("c", None, old), ["refused 3 StaleLife"]);
    rig.gone("a");
    rig.run("a", 1);
    assert_eq!(rig.run_by("c", None, old), ["refused 5 StaleLife"]);
}

#[test]
fn h14_the_group_of_a_life_is_told() {
    let mut rig = Rig::new();
    rig.up(5, &["a"]);
    rig.up_ordinary("o");
    assert_eq!(rig.controller.group_of(rig.aid("a")), Ok(Some(Gid(5))));
    assert_eq!(rig.controller.group_of(rig.aid("o")), Ok(None));
}

#[test]
fn h21_a_clean_end_restarts_nothing_and_is_not_a_failure() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    assert_eq!(rig.ended_clean("a"), [""; 0]);
    assert_eq!(rig.gone("a"), [""; 0]);
    assert_eq!(rig.state("b"), Some(ActorState::Running));
}

#[test]
fn h22_a_group_terminates_when_every_member_has_terminated_cleanly() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up_indirect("a", "b");
    rig.ends_clean("b");
    assert_eq!(
        rig.ended_clean("a"),
        [""; 0],
        "not before its last remains are gone"
    );
    assert_eq!(
        rig.gone("a"),
        ["forget a", "forget b", "group 1 terminated"]
    );
    assert!(rig.controller.is_idle());
    assert_eq!(rig.run("a", 2), ["load a for 3 Direct"], "the name is free");
}

#[test]
fn h22_a_failed_load_lets_a_group_terminate_whose_others_are_all_clean() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.run("b", 1);
    rig.ends_clean("a");
    assert_eq!(rig.load_failed("b"), ["forget a", "group 1 terminated"]);
}

#[test]
fn h23_a_group_is_blocked_while_an_indirect_member_was_not_spawned_again() {
    let mut rig = Rig::new();
    rig.up(3, &["a"]);
    rig.up_indirect("a", "b");
    rig.up_indirect("a", "c");
    rig.fails("a");
    rig.fails("b");
    assert_eq!(
        rig.fails("c").last().map(String::as_str),
        Some("begin a.1 aid 4")
    );
    assert_eq!(rig.state("b"), Some(ActorState::Waiting));
    assert_eq!(rig.ends_clean("a"), ["group 3 blocked by b c"]);
    assert_eq!(
        rig.controller.groups().next().map(|g| g.state),
        Some(GroupState::Blocked)
    );
    assert_eq!(
        rig.run("b", 3),
        ["begin b.1 aid 5 for 4", "started 4 aid 5"]
    );
    assert_eq!(
        rig.controller.groups().next().map(|g| g.state),
        Some(GroupState::Steady)
    );
    assert_eq!(
        rig.ends_clean("b"),
        ["group 3 blocked by c"],
        "once for each time it blocks"
    );
    rig.run("c", 3);
    assert_eq!(
        rig.ends_clean("c"),
        ["forget a", "forget b", "forget c", "group 3 terminated"]
    );
}

#[test]
fn h23_the_message_has_the_exact_text() {
    assert_eq!(
        blocked_message(Gid(3), &[name("HR_child"), name("other")]),
        "HR_CTRL: group 3 blocked, some members have not terminated: HR_child other"
    );
}

#[test]
fn h27_limits_on_actors_and_groups_are_kept_and_may_be_raised() {
    let mut rig = Rig::with(Limits {
        max_actors: 2,
        max_groups: 1,
        ..LIMITS
    });
    rig.up(1, &["a"]);
    assert_eq!(rig.run("b", 2), ["refused 2 TooManyGroups"]);
    rig.up_ordinary("b");
    assert_eq!(rig.run("c", 1), ["refused 4 TooManyActors"]);
    assert_eq!(rig.spawn("a", "c"), ["refused 5 TooManyActors"]);
    rig.controller.set_limits(LIMITS);
    assert_eq!(rig.spawn("a", "c"), ["load c for 6 Indirect"]);
    assert_eq!(rig.run("d", 2), ["load d for 7 Direct"]);
}

#[test]
fn actors_and_members_are_listed_in_the_order_of_registration() {
    let mut rig = Rig::new();
    rig.up(2, &["z", "m"]);
    rig.up_ordinary("a");
    let all: Vec<_> = rig
        .controller
        .actors()
        .map(|a| a.name.to_string())
        .collect();
    assert_eq!(all, ["z", "m", "a"]);
    let members: Vec<_> = rig
        .controller
        .members(Gid(2))
        .map(|a| a.name.to_string())
        .collect();
    assert_eq!(members, ["z", "m"]);
    assert_eq!(rig.controller.members(Gid(9)).count(), 0);
}
