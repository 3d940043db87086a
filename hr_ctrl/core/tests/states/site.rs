//! Site restart, badness, halt, boot: SPEC H25, H26.

use hr_ctrl_core::{ActorState, HaltLevel, Kind, Limits};
use refrain_abi::{Aid, Gid, LifeNo};

use crate::rig::{LIMITS, Rig};

#[test]
fn h25_a_site_restart_stops_all_resets_the_boot_actors_and_begins_the_direct_ones() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "clean"]);
    rig.up_indirect("a", "i");
    rig.up(2, &["b"]);
    rig.up_ordinary("o");
    rig.ends_clean("clean");
    assert_eq!(
        rig.site_restart(),
        [
            "stop a.0 kill",
            "stop i.0 kill",
            "stop b.0 kill",
            "stop o.0 kill"
        ]
    );
    assert!(rig.controller.is_restarting());
    assert_eq!(rig.fails("a"), [""; 0]);
    assert_eq!(
        rig.fails("o"),
        ["forget o"],
        "ordinary actors are not part of it"
    );
    assert_eq!(rig.fails("b"), [""; 0]);
    assert_eq!(rig.fails("i"), ["reset boot actors"]);
    assert_eq!(
        rig.boot_actors_reset(),
        [
            "begin a.1 aid 6",
            "begin clean.1 aid 7",
            "begin b.1 aid 8",
            "done 6"
        ]
    );
    assert_eq!(rig.state("i"), Some(ActorState::Waiting));
    assert!(!rig.controller.is_restarting());
    assert_eq!(
        rig.controller.view(rig.key("b")).map(|b| b.restarts),
        Some(1)
    );
}

#[test]
fn h25_while_sysadm_ini_is_read_again_only_ordinary_actors_start() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    assert_eq!(rig.site_restart(), ["stop a.0 kill"]);
    assert_eq!(rig.run_ordinary("o"), ["refused 3 SiteStopping"], "not yet");
    rig.fails("a");
    assert_eq!(rig.run("a", 1), ["refused 4 SiteStopping"]);
    assert_eq!(rig.run("new", 5), ["refused 5 SiteStopping"]);
    assert_eq!(rig.run_ordinary("o"), ["load o for 6 Ordinary"]);
    assert_eq!(
        rig.loaded("o"),
        ["begin o.0 aid 2 for 6", "started 6 aid 2"]
    );
    assert_eq!(rig.boot_actors_reset(), ["begin a.1 aid 3", "done 2"]);
    assert_eq!(rig.state("o"), Some(ActorState::Running));
}

#[test]
fn h25_a_second_site_restart_joins_the_first() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.site_restart();
    assert_eq!(rig.site_restart(), [""; 0]);
    rig.fails("a");
    assert_eq!(rig.site_restart(), [""; 0]);
    assert_eq!(
        rig.boot_actors_reset(),
        ["begin a.1 aid 2", "done 2", "done 3", "done 4"]
    );
}

#[test]
fn h25_loads_in_flight_direct_ones_begin_after_the_restart_the_others_are_cancelled() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.spawn("a", "i");
    rig.run("d", 1);
    rig.run("late", 1);
    rig.run_ordinary("o");
    rig.site_restart();
    assert_eq!(rig.loaded("d"), [""; 0]);
    assert_eq!(rig.loaded("i"), ["refused 2 Cancelled"]);
    assert_eq!(
        rig.fails("a"),
        [""; 0],
        "the name of an ordinary actor is to be free first"
    );
    assert_eq!(
        rig.loaded("o"),
        ["forget o", "refused 5 Cancelled", "reset boot actors"]
    );
    assert_eq!(
        rig.boot_actors_reset(),
        [
            "begin a.1 aid 2",
            "begin d.0 aid 3 for 3",
            "started 3 aid 3",
            "done 6"
        ]
    );
    assert_eq!(
        rig.loaded("late"),
        ["begin late.0 aid 4 for 4", "started 4 aid 4"]
    );
    assert_eq!(rig.state("i"), Some(ActorState::Waiting));
}

#[test]
fn h25_a_group_killed_during_a_site_restart_terminates_and_stays_away() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up(2, &["b"]);
    rig.site_restart();
    assert_eq!(rig.kill_group(1), [""; 0]);
    assert_eq!(rig.fails("a"), ["forget a", "group 1 terminated", "done 4"]);
    assert_eq!(rig.fails("b"), ["reset boot actors"]);
    assert_eq!(
        rig.kill_group(2),
        ["forget b", "group 2 terminated", "done 5"]
    );
    assert_eq!(rig.boot_actors_reset(), ["done 3"]);
    assert!(rig.controller.is_idle());
}

#[test]
fn h25_a_kill_that_waits_for_a_load_outlasts_the_site_restart() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.run("b", 1);
    rig.kill_group(1);
    rig.site_restart();
    assert_eq!(rig.fails("a"), ["reset boot actors"]);
    assert_eq!(rig.boot_actors_reset(), ["done 4"]);
    let end = [
        "forget a",
        "forget b",
        "refused 2 Cancelled",
        "group 1 terminated",
        "done 3",
    ];
    assert_eq!(rig.loaded("b"), end);
}

#[test]
fn h25_a_group_restart_goes_on_with_the_site_restart() {
    let mut rig = Rig::new();
    rig.up(1, &["a", "b"]);
    rig.ended("a");
    assert_eq!(rig.site_restart(), [""; 0], "everybody was stopped before");
    rig.gone("a");
    assert_eq!(rig.fails("b"), ["reset boot actors"]);
    assert_eq!(
        rig.boot_actors_reset(),
        ["begin a.1 aid 3", "begin b.1 aid 4", "done 3"]
    );
}

#[test]
fn h22_a_group_that_had_ended_cleanly_before_the_site_restart_terminates_during_it() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.ended_clean("a");
    assert_eq!(rig.site_restart(), [""; 0]);
    assert_eq!(
        rig.gone("a"),
        ["forget a", "group 1 terminated", "reset boot actors"]
    );
}

#[test]
fn h25_a_site_without_lives_restarts_at_once_and_reset_alone_means_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.boot_actors_reset(), [""; 0]);
    assert_eq!(rig.site_restart(), ["reset boot actors"]);
    assert!(!rig.controller.is_idle(), "sysadm.ini may bring actors");
    assert_eq!(rig.boot_actors_reset(), ["done 1"]);
    assert!(rig.controller.is_idle());
}

#[test]
fn h25_a_group_with_only_indirect_members_left_is_blocked_after_it() {
    let mut rig = Rig::new();
    rig.restore("i", 1, Kind::Indirect, true, false);
    assert_eq!(rig.site_restart(), ["reset boot actors"]);
    assert_eq!(rig.boot_actors_reset(), ["done 1", "group 1 blocked by i"]);
}

#[test]
fn h26_badness_past_its_limit_restarts_the_site_instead_of_the_group() {
    let mut rig = Rig::with(Limits {
        max_badness: 2,
        ..LIMITS
    });
    rig.up(1, &["a"]);
    rig.up(2, &["b"]);
    for badness in 1..=2 {
        let says = format!("group 1 restarts for a badness {badness}");
        assert_eq!(rig.fails("a")[0], says);
    }
    assert_eq!(rig.ended("a"), ["group 1 passed 3", "stop b.0 kill"]);
    assert_eq!(rig.gone("a"), [""; 0]);
    assert_eq!(rig.fails("b"), ["reset boot actors"]);
    assert_eq!(
        rig.boot_actors_reset(),
        ["begin a.3 aid 5", "begin b.1 aid 6"]
    );
    assert_eq!(
        rig.fails("a")[0],
        "group 1 restarts for a badness 1",
        "counted anew"
    );
}

#[test]
fn h26_only_failures_within_the_interval_count() {
    let mut rig = Rig::with(Limits {
        max_badness: 2,
        interval_ms: 1000,
        ..LIMITS
    });
    rig.up(1, &["a"]);
    for (at_ms, badness) in [(0, 1), (600, 2), (1000, 2), (1599, 0)] {
        rig.now = at_ms;
        let says = match badness {
            0 => "group 1 passed 3".to_owned(),
            n => format!("group 1 restarts for a badness {n}"),
        };
        assert_eq!(rig.fails("a")[0], says, "at {at_ms} ms");
    }
}

#[test]
fn h26_a_clock_that_goes_back_is_no_harm() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.now = 5000;
    rig.fails("a");
    rig.now = 0;
    assert_eq!(rig.fails("a")[0], "group 1 restarts for a badness 2");
}

#[test]
fn a_halt_tells_the_lives_and_is_over_when_all_are_gone() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up_ordinary("o");
    assert_eq!(
        rig.halt(HaltLevel::Halt),
        ["stop a.0 tidy", "stop o.0 tidy"]
    );
    assert_eq!(rig.run("b", 1), ["refused 3 SiteStopping"]);
    assert_eq!(rig.site_restart(), ["refused 4 SiteStopping"]);
    assert_eq!(rig.fails("a"), [""; 0], "a failure restarts nothing now");
    assert_eq!(rig.fails("o"), ["forget o", "forget a", "halted Halt"]);
    assert_eq!(rig.halt(HaltLevel::Immediate), [""; 0]);
    assert_eq!(rig.run_ordinary("o"), ["refused 5 SiteStopping"]);
}

#[test]
fn a_cold_or_immediate_halt_tells_nobody_and_an_empty_site_halts_at_once() {
    for level in [HaltLevel::Cold, HaltLevel::Immediate] {
        let mut rig = Rig::new();
        rig.up(1, &["a"]);
        assert_eq!(rig.halt(level), ["stop a.0 kill"]);
        let mut rig = Rig::new();
        assert_eq!(rig.halt(level), [format!("halted {level:?}")]);
    }
}

#[test]
fn a_stronger_halt_escalates_and_a_weaker_one_is_ignored() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.halt(HaltLevel::Halt);
    assert_eq!(rig.halt(HaltLevel::Halt), [""; 0]);
    assert_eq!(rig.halt(HaltLevel::Immediate), ["stop a.0 kill"]);
    assert_eq!(rig.halt(HaltLevel::Cold), [""; 0]);
    assert_eq!(rig.fails("a"), ["forget a", "halted Immediate"]);
}

#[test]
fn a_halt_overrides_a_site_restart_and_answers_everyone_who_waits() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.up(2, &["b"]);
    rig.run("d", 1);
    rig.kill_group(2);
    rig.site_restart();
    assert_eq!(rig.halt(HaltLevel::Halt), ["refused 5 SiteStopping"]);
    assert_eq!(rig.fails("b"), ["forget b", "group 2 terminated", "done 4"]);
    assert_eq!(
        rig.fails("a"),
        [""; 0],
        "the load is still to come to its end"
    );
    assert_eq!(rig.boot_actors_reset(), [""; 0]);
    let end = ["forget a", "forget d", "refused 3 Cancelled", "halted Halt"];
    assert_eq!(rig.loaded("d"), end);
}

#[test]
fn a_halt_while_the_boot_actors_are_reset_ends_the_site_at_once() {
    let mut rig = Rig::new();
    rig.up(1, &["a"]);
    rig.site_restart();
    rig.fails("a");
    assert_eq!(
        rig.halt(HaltLevel::Halt),
        ["refused 2 SiteStopping", "forget a", "halted Halt"]
    );
    assert_eq!(rig.boot_actors_reset(), [""; 0]);
}

#[test]
fn a_restored_site_begins_its_direct_actors_in_lives_of_higher_number() {
    let mut rig = Rig::new();
    rig.controller = hr_ctrl_core::Controller::new(LIMITS, Aid(70));
    rig.restore("a", 1, Kind::Direct, true, false);
    rig.restore("clean", 1, Kind::Direct, true, true);
    rig.restore("i", 1, Kind::Indirect, true, false);
    rig.restore("new", 2, Kind::Direct, false, false);
    let restored = rig.controller.view(rig.key("a")).expect("registered");
    assert_eq!((restored.life, restored.restarts), (Some(LifeNo(4)), 2));
    assert_eq!(rig.site_restart(), ["reset boot actors"]);
    assert_eq!(
        rig.boot_actors_reset(),
        [
            "begin a.5 aid 70",
            "begin clean.5 aid 71",
            "begin new.0 aid 72",
            "done 1"
        ]
    );
    let a = rig.controller.view(rig.key("a")).expect("registered");
    let new = rig.controller.view(rig.key("new")).expect("registered");
    assert_eq!((a.restarts, new.restarts), (3, 0));
}

#[test]
fn h22_a_group_that_had_terminated_when_the_controller_died_is_not_brought_back() {
    let mut rig = Rig::new();
    rig.restore("a", 1, Kind::Direct, true, true);
    rig.restore("b", 2, Kind::Direct, true, false);
    assert_eq!(
        rig.site_restart(),
        ["forget a", "group 1 terminated", "reset boot actors"]
    );
    assert_eq!(rig.boot_actors_reset(), ["begin b.5 aid 1", "done 1"]);
}

#[test]
fn a_registration_that_is_none_is_not_restored() {
    let mut rig = Rig::new();
    rig.restore("a", 1, Kind::Direct, true, false);
    for (text, kind) in [("a", Kind::Direct), ("o", Kind::Ordinary)] {
        let name = crate::rig::name(text);
        let (gid, last_life) = (Gid(9), None);
        let event = hr_ctrl_core::Event::Restore {
            name,
            gid,
            kind,
            last_life,
            restarts: 0,
            clean: false,
            policy: None,
        };
        assert_eq!(rig.step(event), [""; 0]);
    }
    assert_eq!(rig.controller.actors().count(), 1);
}
