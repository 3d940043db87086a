//! What may happen to a site, drawn by lot for the model test: mostly what makes sense, some that does
//! not.

use hr_ctrl_core::Policy;
use proptest::prelude::*;
use refrain_abi::PastLimit;

/// What may happen, before it is fitted to the state of the site at that moment.
#[derive(Clone, Debug)]
pub enum Op {
    Run {
        name: usize,
        gid: Option<u32>,
        by: Option<usize>,
        policy: Option<Policy>,
    },
    DelayOver {
        which: usize,
        stale: bool,
    },
    LoadEnds {
        which: usize,
        well: bool,
    },
    Ends {
        which: usize,
        clean: bool,
        code: Option<u8>,
    },
    Goes {
        which: usize,
    },
    BeginFails {
        which: usize,
    },
    Kill {
        which: usize,
        by_gid: bool,
        tidy: bool,
        by: Option<usize>,
    },
    SiteRestart {
        asked: bool,
    },
    BootActorsReset,
    Halt {
        level: usize,
    },
    /// An event of any actor and life, which mostly makes no sense.
    Noise {
        kind: usize,
        key: u64,
        life: u32,
    },
    Wait {
        ms: u64,
    },
}

/// Mostly none; else one of few, so that limits are passed and delays grow.
fn policy() -> impl Strategy<Value = Option<Policy>> {
    let counts = (
        proptest::option::of(0_u32..3),
        proptest::option::of(1_u64..80),
    );
    let delays = (
        prop_oneof![Just(0_u64), Just(5), Just(40)],
        prop_oneof![Just(100_u32), Just(150), Just(300)],
        prop_oneof![Just(20_u64), Just(100)],
        10_u64..100,
    );
    let ends = (0_usize..3, proptest::collection::vec(0_u8..3, 0..2));
    let policy = (counts, delays, ends).prop_map(|(counts, delays, (past, permanent))| Policy {
        max_restarts: counts.0,
        interval_ms: counts.1,
        first_ms: delays.0,
        factor_percent: delays.1,
        cap_ms: delays.2,
        healthy_ms: delays.3,
        past_limit: PastLimit::ALL[past],
        permanent: permanent.into_iter().collect(),
    });
    proptest::option::weighted(0.4, policy)
}

/// Anything that may happen, as often as it helps to get somewhere.
pub fn op() -> impl Strategy<Value = Op> {
    let asker = || proptest::option::weighted(0.4, 0_usize..8);
    prop_oneof![
        12 => (0_usize..7, proptest::option::weighted(0.8, 1_u32..4), asker(), policy())
            .prop_map(|(name, gid, by, policy)| Op::Run { name, gid, by, policy }),
        6 => (0_usize..4, proptest::bool::weighted(0.1))
            .prop_map(|(which, stale)| Op::DelayOver { which, stale }),
        14 => (0_usize..8, proptest::bool::weighted(0.9))
            .prop_map(|(which, well)| Op::LoadEnds { which, well }),
        10 => (0_usize..8, any::<bool>(), proptest::option::of(0_u8..4))
            .prop_map(|(which, clean, code)| Op::Ends { which, clean, code }),
        16 => (0_usize..8).prop_map(|which| Op::Goes { which }),
        1 => (0_usize..8).prop_map(|which| Op::BeginFails { which }),
        3 => (0_usize..8, any::<bool>(), any::<bool>(), asker())
            .prop_map(|(which, by_gid, tidy, by)| Op::Kill { which, by_gid, tidy, by }),
        1 => any::<bool>().prop_map(|asked| Op::SiteRestart { asked }),
        4 => Just(Op::BootActorsReset),
        1 => prop_oneof![200 => Just(9_usize), 1 => 0_usize..3]
            .prop_map(|level| Op::Halt { level }),
        2 => (0_usize..5, 0_u64..12, 0_u32..4)
            .prop_map(|(kind, key, life)| Op::Noise { kind, key, life }),
        2 => (1_u64..80).prop_map(|ms| Op::Wait { ms }),
    ]
}

#[derive(Clone, Debug)]
pub struct Restored {
    pub gid: u32,
    pub is_direct: bool,
    pub last_life: Option<u32>,
    pub clean: bool,
    pub policy: Option<Policy>,
}

/// What a bank may hold.
pub fn restored() -> impl Strategy<Value = Vec<Restored>> {
    let one = (
        1_u32..3,
        any::<bool>(),
        proptest::option::of(0_u32..5),
        any::<bool>(),
        policy(),
    );
    let one = one.prop_map(|(gid, is_direct, last_life, clean, policy)| {
        let clean = clean && last_life.is_some();
        Restored {
            gid,
            is_direct,
            last_life,
            clean,
            policy,
        }
    });
    proptest::collection::vec(one, 0..4)
}
