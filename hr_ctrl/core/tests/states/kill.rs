//! Kills: SPEC H24, and who may kill what.

use hr_ctrl_core::{ActorState, Requester, Target};
use refrain_abi::{Aid, Gid};

use crate::rig::Rig;

const OWNER: Requester = Requester::Owner;

#[test]
fn h24_a_killed_group_terminates_when_everything_is_gone_and_is_not_restarted() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    assert_eq!(rig.kill_group(1), ["stop a.0 kill", "stop b.0 kill"]);
    assert_eq!(rig.fails("a"), [""; 0]);
    assert_eq!(
        rig.fails("b"),
        ["forget a", "forget b", "group 1 terminated", "done 3"]
    );
    assert!(rig.controller.is_idle());
}

#[test]
fn h24_a_kill_by_aid_kills_the_whole_group() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    assert_eq!(rig.kill_actor("b"), ["stop a.0 kill", "stop b.0 kill"]);
}

#[test]
fn h24_an_ordinary_actor_is_killed_alone() {
    let mut rig = Rig::new();
    rig.up_ordinary("o");
    rig.up_ordinary("p");
    assert_eq!(rig.kill_actor("o"), ["stop o.0 kill"]);
    assert_eq!(rig.kill_actor("o"), [""; 0], "a second one waits as well");
    assert_eq!(rig.fails("o"), ["forget o", "done 3", "done 4"]);
    assert_eq!(rig.state("p"), Some(ActorState::Running));
}

#[test]
fn h24_a_group_without_a_life_terminates_at_once() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up_indirect("a", "b");
    rig.fails("a");
    rig.fails("b");
    rig.ends_clean("a");
    assert_eq!(
        rig.kill_group(1),
        ["forget a", "forget b", "group 1 terminated", "done 3"]
    );
}

#[test]
fn h24_a_tidy_kill_tells_the_lives_and_a_plain_one_escalates_it() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    let target = Target::Group(Gid(1));
    assert_eq!(
        rig.kill(target, true, OWNER),
        ["stop a.0 tidy", "stop b.0 tidy"]
    );
    rig.fails("a");
    assert_eq!(rig.kill(target, true, OWNER), [""; 0]);
    assert_eq!(rig.kill(target, false, OWNER), ["stop b.0 kill"]);
    let end = [
        "forget a",
        "forget b",
        "group 1 terminated",
        "done 3",
        "done 4",
        "done 5",
    ];
    assert_eq!(rig.fails("b"), end, "everyone who asked is answered");
}

#[test]
fn h24_a_kill_during_a_restart_takes_its_place() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.ended("a");
    assert_eq!(rig.kill_group(1), [""; 0], "everybody was stopped before");
    rig.gone("a");
    assert_eq!(
        rig.fails("b"),
        ["forget a", "forget b", "group 1 terminated", "done 3"]
    );
}

#[test]
fn h24_a_kill_waits_for_a_load_and_then_cancels_it() {
    let mut rig = Rig::new();
    rig.run("a", 1);
    assert_eq!(rig.kill_group(1), [""; 0]);
    assert_eq!(rig.run("b", 1), ["refused 3 GroupStopping"]);
    let end = [
        "forget a",
        "refused 1 Cancelled",
        "group 1 terminated",
        "done 2",
    ];
    assert_eq!(rig.loaded("a"), end);
}

#[test]
fn h24_a_kill_is_answered_when_the_load_it_waited_for_fails() {
    let mut rig = Rig::new();
    rig.run("a", 1);
    rig.kill_group(1);
    assert_eq!(rig.load_failed("a"), ["group 1 terminated", "done 2"]);
    assert!(rig.controller.is_idle());
}

#[test]
fn h24_a_direct_member_that_waited_for_the_restart_is_cancelled_by_a_kill() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.run("b", 1);
    rig.ended("a");
    rig.loaded("b");
    rig.kill_group(1);
    let end = [
        "forget a",
        "forget b",
        "refused 2 Cancelled",
        "group 1 terminated",
        "done 3",
    ];
    assert_eq!(rig.gone("a"), end);
}

#[test]
fn h24_a_life_kills_its_own_group_and_no_other() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up(2, &["b"]);
    rig.up_ordinary("o");
    let a = rig.as_life("a");
    let (b, o) = (rig.aid("b"), rig.aid("o"));
    assert_eq!(
        rig.kill(Target::Group(Gid(2)), false, a),
        ["refused 4 NotYourGroup"]
    );
    assert_eq!(
        rig.kill(Target::Aid(b), false, a),
        ["refused 5 NotYourGroup"]
    );
    assert_eq!(rig.kill(Target::Aid(o), false, a), ["refused 6 NoSuchAid"]);
    let ordinary = rig.as_life("o");
    assert_eq!(
        rig.kill(Target::Group(Gid(1)), false, ordinary),
        ["refused 7 NotRestartable"]
    );
    assert_eq!(rig.kill(Target::Group(Gid(1)), false, a), ["stop a.0 kill"]);
    assert_eq!(
        rig.kill(Target::Group(Gid(1)), false, a),
        ["refused 9 StaleLife"]
    );
    assert_eq!(rig.fails("a"), ["forget a", "group 1 terminated", "done 8"]);
}

#[test]
fn h24_unknown_targets_are_refused() {
    let mut rig = Rig::new();
    rig.up_ordinary("o");
    assert_eq!(
        rig.kill(Target::Group(Gid(1)), false, OWNER),
        ["refused 2 NoSuchGroup"]
    );
    assert_eq!(
        rig.kill(Target::Aid(Aid(9)), false, OWNER),
        ["refused 3 NoSuchAid"]
    );
    rig.fails("o");
    assert_eq!(
        rig.kill(Target::Aid(Aid(1)), false, OWNER),
        ["refused 4 NoSuchAid"]
    );
}

#[test]
fn h24_a_group_of_the_same_number_is_a_new_one_after_the_kill() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.fails("a");
    rig.kill_group(1);
    rig.fails("a");
    rig.up(1, &["a"]);
    assert_eq!(
        rig.ended("a"),
        ["group 1 restarts for a badness 1"],
        "badness is forgotten"
    );
    assert_eq!(rig.gone("a"), ["begin a.1 aid 4"]);
}
