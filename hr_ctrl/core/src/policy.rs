//! Restart policy of a group (SPEC H33): how often it is restarted, how long it waits before, what
//! happens past the limit, and which exit codes end the attempts.
//!
//! The default is that of ChorusOS: no delay, and a site restart when `hr_ctrl.max_badness` restarts
//! within `hr_ctrl.interval` are passed. Nothing here looks at another group: a group that fails
//! again and again waits alone.
//!
//! **Attempts.** Each failure that is answered by a restart is an attempt. The first of a row waits
//! `first_ms`, each further one `factor` times as long as the one before, at most `cap_ms`. A failure
//! after a *healthy run* begins a new row: the group had been up for `healthy_ms`, counted from when
//! its last restart was due. Past the limit, a group that keeps trying ([`PastLimit::Retry`]) waits the
//! cap before every attempt until it had a healthy run.

use core::fmt;

use refrain_abi::{ActorName, Gid, PastLimit};

use crate::group::GroupPhase;
use crate::{ActorKey, Controller, Effect, Limits, StopHow};

/// The policy of one restart group. Source: SPEC H33.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many restarts within the interval are put up with; `None`: [`Limits::max_badness`].
    pub max_restarts: Option<u32>,
    /// The interval, in milliseconds; `None`: [`Limits::interval_ms`].
    pub interval_ms: Option<u64>,
    /// The delay before the first restart of a row, in milliseconds; 0: none, nor before any later one.
    pub first_ms: u64,
    /// What each further delay is multiplied by, in percent; below 100 counts as 100.
    pub factor_percent: u32,
    /// The longest delay, in milliseconds.
    pub cap_ms: u64,
    /// After so long a run, in milliseconds, a failure is the first of a row.
    pub healthy_ms: u64,
    /// What happens past the limit.
    pub past_limit: PastLimit,
    /// A life that fails with one of these ends the attempts.
    pub permanent: ExitCodes,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_restarts: None,
            interval_ms: None,
            first_ms: 0,
            factor_percent: 200,
            cap_ms: 60_000,
            healthy_ms: 10_000,
            past_limit: PastLimit::Site,
            permanent: ExitCodes::default(),
        }
    }
}

/// A set of exit codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitCodes(pub(crate) [u64; 4]);

impl ExitCodes {
    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// Whether this one is in it.
    #[must_use]
    pub fn contains(&self, code: u8) -> bool {
        self.0[usize::from(code / 64)] & 1 << (code % 64) != 0
    }
}

impl FromIterator<u8> for ExitCodes {
    fn from_iter<I: IntoIterator<Item = u8>>(codes: I) -> Self {
        let mut set = Self::default();
        for code in codes {
            set.0[usize::from(code / 64)] |= 1 << (code % 64);
        }
        set
    }
}

impl Policy {
    /// How many restarts within the interval are put up with.
    pub(crate) fn limit(&self, limits: &Limits) -> u32 {
        self.max_restarts.unwrap_or(limits.max_badness)
    }

    /// The interval, in milliseconds.
    pub(crate) fn interval(&self, limits: &Limits) -> u64 {
        self.interval_ms.unwrap_or(limits.interval_ms)
    }

    /// The delay before this attempt of a row, in milliseconds; the first is 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a delay need not be exact, and the cap bounds it"
    )]
    fn delay_ms(&self, attempt: u32, is_past: bool) -> u64 {
        if is_past {
            return self.cap_ms;
        }
        let factor = f64::from(self.factor_percent.max(100)) / 100.0;
        let steps = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let delay = self.first_ms as f64 * factor.powi(steps);
        (delay as u64).min(self.cap_ms)
    }
}

/// Where a group is in its row of attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempts {
    /// Failures without a healthy run between them.
    pub count: u32,
    /// The limit was passed in this row.
    pub is_past: bool,
    /// The delay before the restart that goes on, in milliseconds.
    pub delay_ms: u64,
    /// When the last restart was due, on the clock of [`crate::Event::Ended`].
    pub due_ms: u64,
}

impl Attempts {
    /// Notes a failure that a restart answers.
    fn note(&mut self, policy: &Policy, at_ms: u64, is_past: bool) {
        if at_ms.saturating_sub(self.due_ms) >= policy.healthy_ms {
            *self = Self::default();
        }
        self.count = self.count.saturating_add(1);
        self.is_past |= is_past;
        self.delay_ms = policy.delay_ms(self.count, self.is_past);
        self.due_ms = at_ms.saturating_add(self.delay_ms);
    }
}

/// Why a group was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was restarted too often.
    Limit,
    /// A life ended with an exit code that is a permanent failure.
    ExitCode(u8),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit => f.write_str("past its limit"),
            Self::ExitCode(code) => write!(f, "exit {code}"),
        }
    }
}

/// A group that is not tried again, until somebody runs a member of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiveUp {
    /// The member that failed last.
    pub failed: ActorKey,
    /// Why.
    pub reason: Reason,
}

/// The line that the console shows for [`Effect::GaveUp`].
#[must_use]
pub fn gave_up_message(gid: Gid, failed: &ActorName, badness: u32, reason: Reason) -> String {
    let why = match reason {
        Reason::Limit => format!("{failed} failed, failure {badness} within the interval"),
        Reason::ExitCode(code) => format!("{failed} ended with exit {code}, a permanent failure"),
    };
    format!(
        "HR_CTRL: group {gid} stopped: {why} (arun -g {gid} starts a member again, akill -g {gid} ends \
         the group)"
    )
}

impl Controller {
    /// The policy of a group; `None` when there is no such group.
    #[must_use]
    pub fn policy(&self, gid: Gid) -> Option<&Policy> {
        self.groups.get(&gid).map(|group| &group.policy)
    }

    /// A member's life ended without the exit handler: the group restarts (SPEC H9), or the site
    /// does when the group has done so too often (SPEC H26), or what else its policy says (SPEC H33).
    ///
    /// Only a running life fails, and lives run only in a group that is steady: every other way
    /// has told them all to stop.
    pub(crate) fn member_failed(
        &mut self,
        gid: Gid,
        failed: ActorKey,
        (at_ms, exit_code): (u64, Option<u8>),
        out: &mut Vec<Effect>,
    ) {
        let Some(group) = self.groups.get_mut(&gid) else {
            return;
        };
        let policy = group.policy;
        let badness = group.note_failure(at_ms, policy.interval(&self.limits));
        self.changes.group(gid, group);
        if let Some(code) = exit_code.filter(|code| policy.permanent.contains(*code)) {
            let reason = Reason::ExitCode(code);
            return self.give_up(gid, GiveUp { failed, reason }, out);
        }
        let is_past = badness > policy.limit(&self.limits);
        match policy.past_limit {
            PastLimit::Site if is_past => {
                out.push(Effect::BadnessPassed { gid, badness });
                return self.begin_site_restart(out);
            }
            PastLimit::Stop if is_past => {
                let reason = Reason::Limit;
                return self.give_up(gid, GiveUp { failed, reason }, out);
            }
            PastLimit::Site | PastLimit::Stop | PastLimit::Retry => {}
        }
        group.attempts.note(&policy, at_ms, is_past);
        self.stop_members(gid, GroupPhase::Restarting, out);
        out.push(Effect::GroupRestarts {
            gid,
            failed,
            badness,
        });
    }

    /// Stops the group for good: nothing of it begins until somebody runs a member.
    fn give_up(&mut self, gid: Gid, give_up: GiveUp, out: &mut Vec<Effect>) {
        self.stop_members(gid, GroupPhase::GivingUp(give_up), out);
        self.say_gave_up(gid, give_up, out);
    }

    pub(crate) fn say_gave_up(&self, gid: Gid, give_up: GiveUp, out: &mut Vec<Effect>) {
        let badness = self.groups.get(&gid).map_or(0, |group| group.badness());
        let GiveUp { failed, reason } = give_up;
        out.push(Effect::GaveUp {
            gid,
            failed,
            badness,
            reason,
        });
    }

    fn stop_members(&mut self, gid: Gid, phase: GroupPhase, out: &mut Vec<Effect>) {
        if let Some(group) = self.groups.get_mut(&gid) {
            group.phase = phase;
        }
        self.each_member(gid, |this, key| {
            this.stop(key, StopHow::Kill, out);
            this.orphan_load(key, out);
        });
    }

    /// No life of a restarting group is left: its direct members begin, now or after a delay.
    pub(crate) fn begin_or_wait(&mut self, gid: Gid, out: &mut Vec<Effect>) {
        let Some(group) = self.groups.get_mut(&gid) else {
            return;
        };
        self.changes.group(gid, group);
        if group.attempts.delay_ms > 0 {
            group.phase = GroupPhase::Delayed;
            return self.say_delay(gid, out);
        }
        group.phase = GroupPhase::Steady;
        self.begin_members(gid, out);
    }

    pub(crate) fn say_delay(&self, gid: Gid, out: &mut Vec<Effect>) {
        if let Some(group) = self.groups.get(&gid) {
            let Attempts {
                count,
                delay_ms,
                due_ms,
                ..
            } = group.attempts;
            let (until_ms, attempt) = (due_ms, count);
            out.push(Effect::Delay {
                gid,
                until_ms,
                delay_ms,
                attempt,
            });
        }
    }

    /// The delay of a group is over, unless that was of an earlier one.
    pub(crate) fn delay_over(&mut self, gid: Gid, until_ms: u64, out: &mut Vec<Effect>) {
        let group = self.groups.get(&gid);
        let waits = group.is_some_and(|group| {
            group.phase == GroupPhase::Delayed && group.attempts.due_ms == until_ms
        });
        if waits && self.site.is_running() {
            self.end_delay(gid, out);
            self.settle(Some(gid), out);
        }
    }

    fn end_delay(&mut self, gid: Gid, out: &mut Vec<Effect>) {
        if let Some(group) = self.groups.get_mut(&gid) {
            group.phase = GroupPhase::Steady;
            self.changes.group(gid, group);
        }
        self.begin_members(gid, out);
    }

    /// Somebody runs a member: the group waits no longer, and one that was given up is tried anew.
    pub(crate) fn run_wakes_group(
        &mut self,
        gid: Option<Gid>,
        policy: Option<Policy>,
        out: &mut Vec<Effect>,
    ) {
        let Some((gid, group)) = gid.and_then(|gid| Some((gid, self.groups.get_mut(&gid)?))) else {
            return;
        };
        if let Some(policy) = policy {
            group.policy = policy;
            self.changes.group(gid, group);
        }
        match group.phase {
            GroupPhase::Delayed => self.end_delay(gid, out),
            GroupPhase::Stopped(_) => {
                group.phase = GroupPhase::Steady;
                group.forget_failures();
                self.changes.group(gid, group);
            }
            _ => {}
        }
    }
}
