//! Memos survive the way through words, and words that are no memo are told from one.

use proptest::prelude::*;
use refrain_abi::PastLimit;

use super::group::{FAILURES, PhaseMemo};
use super::*;
use crate::policy::Attempts;
use crate::{ExitCodes, GiveUp, Policy, Reason};

fn one_of<T: Copy + std::fmt::Debug + 'static>(list: &'static [T]) -> impl Strategy<Value = T> {
    (0..list.len()).prop_map(|place| list[place])
}

/// Memos of every phase, sound ones.
fn actor() -> impl Strategy<Value = ActorMemo> {
    let numbers = (
        1..u64::MAX,
        any::<u32>(),
        any::<u32>(),
        1..u32::MAX,
        any::<u32>(),
    );
    let lived = any::<bool>();
    (one_of(&PHASES), one_of(&KINDS), numbers, lived).prop_map(|(phase, kind, numbers, lived)| {
        let (key, gid, life, aid, restarts) = numbers;
        let is_alive = phase.state().is_alive();
        let lived = is_alive || lived && phase.state() != ActorState::Loading;
        ActorMemo {
            key: ActorKey(key),
            gid: (kind != Kind::Ordinary).then_some(Gid(gid)),
            kind,
            phase,
            life: lived.then_some(LifeNo(life)),
            aid: is_alive.then_some(Aid(aid)),
            restarts,
        }
    })
}

fn give_up() -> impl Strategy<Value = GiveUp> {
    let reason = proptest::option::of(any::<u8>());
    (any::<u64>(), reason).prop_map(|(failed, code)| GiveUp {
        failed: ActorKey(failed),
        reason: code.map_or(Reason::Limit, Reason::ExitCode),
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let some = (any::<Option<u32>>(), any::<Option<u64>>());
    let times = (any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>());
    let rest = (one_of(&PastLimit::ALL), any::<[u64; 4]>());
    (some, times, rest).prop_map(|(some, times, rest)| Policy {
        max_restarts: some.0,
        interval_ms: some.1,
        first_ms: times.0,
        factor_percent: times.1,
        cap_ms: times.2,
        healthy_ms: times.3,
        past_limit: rest.0,
        permanent: ExitCodes(rest.1),
    })
}

fn group() -> impl Strategy<Value = GroupMemo> {
    let failures = proptest::collection::vec(any::<u64>(), 0..=FAILURES);
    let phase = prop_oneof![
        Just(PhaseMemo::Steady),
        Just(PhaseMemo::Restarting),
        Just(PhaseMemo::Delayed),
        Just(PhaseMemo::Killing),
        give_up().prop_map(PhaseMemo::GivingUp),
        give_up().prop_map(PhaseMemo::Stopped),
    ];
    let attempts = (any::<u32>(), any::<bool>(), any::<u64>(), any::<u64>());
    let rest = (any::<u32>(), phase, any::<bool>(), policy(), attempts);
    (rest, failures).prop_map(|((gid, phase, blocked, policy, attempts), times)| {
        let (mut failures, noted) = ([0; FAILURES], times.len());
        failures[..noted].copy_from_slice(&times);
        GroupMemo {
            gid: Gid(gid),
            phase,
            blocked,
            failures,
            noted,
            policy,
            attempts: Attempts {
                count: attempts.0,
                is_past: attempts.1,
                delay_ms: attempts.2,
                due_ms: attempts.3,
            },
        }
    })
}

fn site() -> impl Strategy<Value = SiteMemo> {
    (one_of(&SITE_PHASES), any::<u32>(), any::<u64>()).prop_map(|(phase, aid, key)| SiteMemo {
        phase,
        next_aid: Aid(aid),
        next_key: ActorKey(key),
    })
}

proptest! {
    #[test]
    fn an_actors_memo_survives_as_words(memo in actor()) {
        prop_assert_eq!(ActorMemo::from_words(&memo.to_words()), Some(memo));
    }

    #[test]
    fn a_groups_memo_survives_as_words(memo in group()) {
        prop_assert_eq!(GroupMemo::from_words(&memo.to_words()), Some(memo));
    }

    #[test]
    fn the_sites_memo_survives_as_words(memo in site()) {
        prop_assert_eq!(SiteMemo::from_words(&memo.to_words()), Some(memo));
    }

    /// The writer was stopped between two of its stores.
    #[test]
    fn words_of_two_memos_are_none(old in actor(), new in actor(), upto in 1..ActorMemo::WORDS) {
        let (old, new) = (old.to_words(), new.to_words());
        let mut torn = old;
        torn[..upto].copy_from_slice(&new[..upto]);
        prop_assume!(torn != old && torn != new);
        prop_assert_eq!(ActorMemo::from_words(&torn), None);
    }

    #[test]
    fn a_changed_bit_is_seen(memo in group(), word in 0..GroupMemo::WORDS, bit in 0..64) {
        let mut words = memo.to_words();
        words[word] ^= 1_u64 << bit;
        prop_assert_eq!(GroupMemo::from_words(&words), None);
    }

    /// Whoever writes the words can make up a check sum, too: nothing is believed for that.
    #[test]
    fn sealed_nonsense_is_refused_or_taken_whole(words in any::<[u64; ActorMemo::WORDS]>(), head in any::<u32>()) {
        let mut words = words;
        words[0] = u64::from(head) & 0x7_0f0f;
        if let Some(memo) = ActorMemo::from_words(&seal(words)) {
            prop_assert!(memo.is_sound());
            prop_assert_eq!(memo.to_words(), seal(words));
        }
    }

    #[test]
    fn sealed_nonsense_of_a_group_is_refused_or_taken_whole(
        words in any::<[u64; GroupMemo::WORDS]>(),
        head in any::<u32>(),
    ) {
        let mut words = words;
        words[0] = u64::from(head) & 0x0f03_1f07;
        words[2] = 0;
        if let Some(memo) = GroupMemo::from_words(&seal(words)) {
            prop_assert_eq!(memo.to_words(), seal(words));
        }
    }
}

#[test]
fn zeroed_words_are_no_memo() {
    assert_eq!(ActorMemo::from_words(&[0; ActorMemo::WORDS]), None);
    assert_eq!(GroupMemo::from_words(&[0; GroupMemo::WORDS]), None);
    assert_eq!(SiteMemo::from_words(&[0; SiteMemo::WORDS]), None);
    assert_eq!(ActorMemo::from_words(&seal([0; ActorMemo::WORDS])), None);
}
