//! Failures and what a group's policy says to them.

use hr_ctrl_core::{ActorKey, Effect, GiveUp, Kind, Policy, Reason, StopHow};
use refrain_abi::{Gid, PastLimit};

use super::Naive;

/// Failures without a healthy run between them.
#[derive(Clone, Copy, Default)]
pub(super) struct Row {
    failures: u32,
    past: bool,
    pub delay: u64,
    pub due: u64,
}

/// A request that is not refused.
pub(super) struct Run {
    pub gid: Option<Gid>,
    /// Who is to begin now, and has the request among its asks.
    pub begin: Option<usize>,
}

impl Naive {
    pub(super) fn is_alive(&self, gid: Gid) -> bool {
        self.actors.iter().any(|a| a.gid == Some(gid) && a.alive)
    }

    pub(super) fn wake_group(&mut self, run: Run, policy: Option<Policy>) {
        if let Some(gid) = run.gid {
            self.policies.extend(policy.map(|policy| (gid, policy)));
            if self.delayed.remove(&gid).is_some() {
                self.begin_members(gid);
            }
            if self.given_up.remove(&gid).is_some() {
                self.failures.remove(&gid);
                self.rows.remove(&gid);
            }
        }
        if let Some(i) = run.begin
            && let Some(ticket) = self.actors[i].asks.pop()
        {
            self.begin(i, Some(ticket));
        }
    }

    pub(super) fn begin_members(&mut self, gid: Gid) {
        for i in 0..self.actors.len() {
            let a = &mut self.actors[i];
            if a.gid == Some(gid) && a.kind == Kind::Direct && !a.loading {
                let ticket = a.asks.pop();
                self.begin(i, ticket);
            } else if a.gid == Some(gid) {
                a.ended = None;
            }
        }
    }

    pub(super) fn fail(&mut self, gid: Gid, failed: ActorKey, at: u64, code: Option<u8>) {
        let policy = self.policies.get(&gid).copied().unwrap_or_default();
        let interval = policy.interval_ms.unwrap_or(self.limits.interval_ms);
        let limit = policy.max_restarts.unwrap_or(self.limits.max_badness);
        let notes = self.failures.entry(gid).or_default();
        notes.retain(|&note| at.saturating_sub(note) < interval);
        notes.push(at);
        let badness = notes.len() as u32;
        let passed = badness > limit;
        let reason = match code.filter(|code| policy.permanent.contains(*code)) {
            Some(code) => Some(Reason::ExitCode(code)),
            None if passed && policy.past_limit == PastLimit::Stop => Some(Reason::Limit),
            None => None,
        };
        if reason.is_none() && passed && policy.past_limit == PastLimit::Site {
            self.out.push(Effect::BadnessPassed { gid, badness });
            self.restart_site();
            return;
        }
        self.stop(|a| a.gid == Some(gid), StopHow::Kill);
        self.orphan(|a| a.gid == Some(gid));
        if let Some(reason) = reason {
            self.given_up.insert(gid, GiveUp { failed, reason });
            let effect = Effect::GaveUp {
                gid,
                failed,
                badness,
                reason,
            };
            return self.out.push(effect);
        }
        self.note_in_row(gid, &policy, at, passed);
        self.restarting.insert(gid);
        self.out.push(Effect::GroupRestarts {
            gid,
            failed,
            badness,
        });
    }

    fn note_in_row(&mut self, gid: Gid, policy: &Policy, at: u64, passed: bool) {
        let row = self.rows.entry(gid).or_default();
        if at.saturating_sub(row.due) >= policy.healthy_ms {
            *row = Row::default();
        }
        row.failures += 1;
        row.past |= passed;
        let mut delay = policy.first_ms as f64;
        for _ in 1..row.failures {
            delay = delay * f64::from(policy.factor_percent) / 100.0;
        }
        row.delay = policy.cap_ms;
        if !row.past && delay < policy.cap_ms as f64 {
            row.delay = delay as u64;
        }
        row.due = at + row.delay;
    }

    /// Nobody of a group that restarts is alive.
    pub(super) fn restart_now_or_later(&mut self, gid: Gid) {
        let row = self.rows.get(&gid).copied().unwrap_or_default();
        if row.delay == 0 {
            return self.begin_members(gid);
        }
        self.delayed.insert(gid, row.due);
        self.out.push(Effect::Delay {
            gid,
            until_ms: row.due,
            delay_ms: row.delay,
            attempt: row.failures,
        });
    }
}
