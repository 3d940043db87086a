//! The memo of a restart group: what is done to it, its failures, and its policy.

use refrain_abi::{Gid, PastLimit};

use super::{code, decode, is_sealed, join, seal, split};
use crate::group::{Group, GroupPhase};
use crate::policy::Attempts;
use crate::{ActorKey, ExitCodes, GiveUp, Policy, Reason};

/// How many failures of a group a memo holds, the newest ones.
pub(super) const FAILURES: usize = 16;

/// What is remembered of one restart group. Its members are known from their own memos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMemo {
    /// The gid.
    pub gid: Gid,
    pub(crate) phase: PhaseMemo,
    pub(crate) blocked: bool,
    /// The newest times at which members failed, the oldest first; the first `noted` of them.
    pub(crate) failures: [u64; FAILURES],
    pub(crate) noted: usize,
    pub(crate) policy: Policy,
    pub(crate) attempts: Attempts,
}

/// The phase of a group without those who wait for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhaseMemo {
    Steady,
    Restarting,
    Delayed,
    GivingUp(GiveUp),
    Stopped(GiveUp),
    Killing,
}

/// The places of what a memo holds among its words.
mod at {
    use super::FAILURES;

    pub const HEAD: usize = 0;
    pub const GID_ATTEMPTS: usize = 1;
    pub const FAILED: usize = 2;
    pub const DELAY: usize = 3;
    pub const DUE: usize = 4;
    pub const RESTARTS_FACTOR: usize = 5;
    pub const INTERVAL: usize = 6;
    pub const FIRST: usize = 7;
    pub const CAP: usize = 8;
    pub const HEALTHY: usize = 9;
    pub const PERMANENT: usize = 10;
    pub const FAILURE: usize = PERMANENT + 4;
    pub const CHECK: usize = FAILURE + FAILURES;
}

/// The bits of the first word, and where the small numbers in it begin.
mod head {
    pub const BLOCKED: u64 = 1 << 8;
    pub const IS_PAST: u64 = 1 << 9;
    pub const HAS_RESTARTS: u64 = 1 << 10;
    pub const HAS_INTERVAL: u64 = 1 << 11;
    pub const BY_CODE: u64 = 1 << 12;
    pub const PAST_LIMIT: u32 = 16;
    pub const NOTED: u32 = 24;
    pub const EXIT_CODE: u32 = 32;
}

fn byte(word: u64, from: u32) -> u64 {
    word >> from & 0xff
}

impl PhaseMemo {
    fn of(phase: &GroupPhase) -> Self {
        match phase {
            GroupPhase::Steady => Self::Steady,
            GroupPhase::Restarting => Self::Restarting,
            GroupPhase::Delayed => Self::Delayed,
            GroupPhase::GivingUp(give_up) => Self::GivingUp(*give_up),
            GroupPhase::Stopped(give_up) => Self::Stopped(*give_up),
            GroupPhase::Killing(_) => Self::Killing,
        }
    }

    /// Its number and bits in the first word, and the word for who failed.
    fn encode(self) -> (u64, u64) {
        let (number, give_up) = match self {
            Self::Steady => (1, None),
            Self::Restarting => (2, None),
            Self::Delayed => (3, None),
            Self::GivingUp(give_up) => (4, Some(give_up)),
            Self::Stopped(give_up) => (5, Some(give_up)),
            Self::Killing => (6, None),
        };
        let reason = match give_up.map(|give_up| give_up.reason) {
            Some(Reason::ExitCode(code)) => head::BY_CODE | u64::from(code) << head::EXIT_CODE,
            Some(Reason::Limit) | None => 0,
        };
        (
            number | reason,
            give_up.map_or(0, |give_up| give_up.failed.0),
        )
    }

    fn decode(word: u64, failed: u64) -> Option<Self> {
        let exit_code = u8::try_from(byte(word, head::EXIT_CODE)).ok()?;
        let reason = match word & head::BY_CODE {
            0 => Reason::Limit,
            _ => Reason::ExitCode(exit_code),
        };
        let give_up = GiveUp {
            failed: ActorKey(failed),
            reason,
        };
        Some(match byte(word, 0) {
            1 => Self::Steady,
            2 => Self::Restarting,
            3 => Self::Delayed,
            4 => Self::GivingUp(give_up),
            5 => Self::Stopped(give_up),
            6 => Self::Killing,
            _ => return None,
        })
    }
}

impl GroupMemo {
    /// How many words it takes.
    pub const WORDS: usize = at::CHECK + 1;

    pub(crate) fn of(gid: Gid, group: &Group) -> Self {
        let mut failures = [0; FAILURES];
        let too_old = group.failures.len().saturating_sub(FAILURES);
        let newest = group.failures.iter().skip(too_old);
        let noted = failures
            .iter_mut()
            .zip(newest)
            .map(|(to, &at)| *to = at)
            .count();
        Self {
            gid,
            phase: PhaseMemo::of(&group.phase),
            blocked: group.blocked,
            failures,
            noted,
            policy: group.policy,
            attempts: group.attempts,
        }
    }

    /// The words to write.
    #[must_use]
    pub fn to_words(&self) -> [u64; Self::WORDS] {
        let (policy, attempts) = (&self.policy, &self.attempts);
        let (phase, failed) = self.phase.encode();
        let flag = |is: bool, flag| if is { flag } else { 0 };
        let mut words = [0; Self::WORDS];
        words[at::HEAD] = phase
            | flag(self.blocked, head::BLOCKED)
            | flag(attempts.is_past, head::IS_PAST)
            | flag(policy.max_restarts.is_some(), head::HAS_RESTARTS)
            | flag(policy.interval_ms.is_some(), head::HAS_INTERVAL)
            | code(&PastLimit::ALL, &policy.past_limit) << head::PAST_LIMIT
            | (self.noted as u64) << head::NOTED;
        words[at::GID_ATTEMPTS] = join(self.gid.0, attempts.count);
        words[at::FAILED] = failed;
        words[at::DELAY] = attempts.delay_ms;
        words[at::DUE] = attempts.due_ms;
        words[at::RESTARTS_FACTOR] = join(
            policy.max_restarts.unwrap_or_default(),
            policy.factor_percent,
        );
        words[at::INTERVAL] = policy.interval_ms.unwrap_or_default();
        words[at::FIRST] = policy.first_ms;
        words[at::CAP] = policy.cap_ms;
        words[at::HEALTHY] = policy.healthy_ms;
        words[at::PERMANENT..at::FAILURE].copy_from_slice(&policy.permanent.0);
        words[at::FAILURE..at::CHECK].copy_from_slice(&self.failures);
        seal(words)
    }

    /// What these words say; `None` when they are no memo.
    #[must_use]
    pub fn from_words(words: &[u64; Self::WORDS]) -> Option<Self> {
        if !is_sealed(words) {
            return None;
        }
        let bits = words[at::HEAD];
        let has = |flag| bits & flag != 0;
        let (gid, count) = split(words[at::GID_ATTEMPTS]);
        let (max_restarts, factor_percent) = split(words[at::RESTARTS_FACTOR]);
        let noted = usize::try_from(byte(bits, head::NOTED)).ok()?;
        let policy = Policy {
            max_restarts: has(head::HAS_RESTARTS).then_some(max_restarts),
            interval_ms: has(head::HAS_INTERVAL).then_some(words[at::INTERVAL]),
            first_ms: words[at::FIRST],
            factor_percent,
            cap_ms: words[at::CAP],
            healthy_ms: words[at::HEALTHY],
            past_limit: decode(&PastLimit::ALL, byte(bits, head::PAST_LIMIT))?,
            permanent: ExitCodes(words[at::PERMANENT..at::FAILURE].try_into().ok()?),
        };
        let attempts = Attempts {
            count,
            is_past: has(head::IS_PAST),
            delay_ms: words[at::DELAY],
            due_ms: words[at::DUE],
        };
        let memo = Self {
            gid: Gid(gid),
            phase: PhaseMemo::decode(bits, words[at::FAILED])?,
            blocked: has(head::BLOCKED),
            failures: words[at::FAILURE..at::CHECK].try_into().ok()?,
            noted,
            policy,
            attempts,
        };
        // What the fields do not hold is not there: any other bit makes it no memo.
        (noted <= FAILURES && memo.to_words() == *words).then_some(memo)
    }
}
