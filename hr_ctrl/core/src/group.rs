//! Restart groups: failure, restart, clean termination, and groups that are blocked.
//!
//! Everything that a group waits for ends in [`Controller::settle`]: called after each event that
//! took a life or a load away, it asks whether the group (and then the site) has what it waited
//! for. Work here is in proportion to the group, never to the site.

use std::collections::VecDeque;

use refrain_abi::Gid;

use crate::actor::Phase;
use crate::life::Cause;
use crate::policy::Attempts;
use crate::{ActorKey, Controller, Effect, GiveUp, GroupState, GroupView, Kind, Policy, Ticket};

/// What is being done to a group as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum GroupPhase {
    /// Nothing.
    #[default]
    Steady,
    /// A member failed; when no life is left, the direct members begin.
    Restarting,
    /// No life is left; the direct members begin when a delay is over.
    Delayed,
    /// A member failed for the last time; when no life is left, the group is stopped.
    GivingUp(GiveUp),
    /// Nothing of it begins until a member is run.
    Stopped(GiveUp),
    /// It is forgotten when no life and no load is left; these are answered then.
    Killing(Vec<Ticket>),
}

/// One restart group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// In the order of registration.
    pub members: Vec<ActorKey>,
    pub phase: GroupPhase,
    /// Lives that are not gone.
    pub live: usize,
    /// Loads that are outstanding.
    pub loads: usize,
    /// When its members failed, one entry a restart, the oldest first.
    pub failures: VecDeque<u64>,
    pub policy: Policy,
    pub attempts: Attempts,
    /// The message of H23 was printed and still holds.
    pub blocked: bool,
    /// See [`crate::changes`].
    pub noted_in: u64,
}

impl Group {
    /// Notes a failure and returns the badness with it. A failure that is `interval_ms` old or
    /// older no longer counts.
    pub fn note_failure(&mut self, at_ms: u64, interval_ms: u64) -> u32 {
        while self
            .failures
            .front()
            .is_some_and(|&t| at_ms.saturating_sub(t) >= interval_ms)
        {
            self.failures.pop_front();
        }
        self.failures.push_back(at_ms);
        self.badness()
    }

    pub fn badness(&self) -> u32 {
        u32::try_from(self.failures.len()).unwrap_or(u32::MAX)
    }

    /// Forgets badness and a restart that is under way: the site's restart stands in for it.
    pub fn leave_to_site_restart(&mut self) {
        self.forget_failures();
        self.blocked = false;
        if !self.is_killing() {
            self.phase = GroupPhase::Steady;
        }
    }

    /// Its history is clear.
    pub fn forget_failures(&mut self) {
        self.failures.clear();
        self.attempts = Attempts::default();
    }

    pub fn is_given_up(&self) -> bool {
        matches!(self.phase, GroupPhase::GivingUp(_) | GroupPhase::Stopped(_))
    }

    pub fn is_killing(&self) -> bool {
        matches!(self.phase, GroupPhase::Killing(_))
    }

    pub fn view(&self, gid: Gid) -> GroupView {
        let state = match self.phase {
            GroupPhase::Steady if self.blocked => GroupState::Blocked,
            GroupPhase::Steady => GroupState::Steady,
            GroupPhase::Restarting => GroupState::Restarting,
            GroupPhase::Delayed => GroupState::Delayed,
            GroupPhase::GivingUp(_) => GroupState::GivingUp,
            GroupPhase::Stopped(_) => GroupState::Stopped,
            GroupPhase::Killing(_) => GroupState::Killing,
        };
        let (members, alive) = (self.members.len(), self.live);
        let delayed_until_ms = (self.phase == GroupPhase::Delayed).then_some(self.attempts.due_ms);
        let gave_up = match self.phase {
            GroupPhase::GivingUp(give_up) | GroupPhase::Stopped(give_up) => Some(give_up),
            _ => None,
        };
        GroupView {
            gid,
            state,
            members,
            alive,
            badness: self.badness(),
            attempts: self.attempts.count,
            delay_ms: self.attempts.delay_ms,
            delayed_until_ms,
            gave_up,
        }
    }
}

impl Controller {
    /// Whether a failure of this actor's life would be answered by its next life at once, whenever
    /// it comes: it is direct, alone in a steady group, the group's badness is below its limit even if
    /// nothing of it expires, no delay would come, and the exit code does not matter. Such a life may be
    /// allowed to wake its successor itself; any other event of its group or of the site may change the
    /// answer.
    #[must_use]
    pub fn restarts_at_once(&self, key: ActorKey) -> bool {
        let Some(actor) = self.actors.get(&key) else {
            return false;
        };
        let Some(group) = actor.gid.and_then(|gid| self.groups.get(&gid)) else {
            return false;
        };
        actor.phase == Phase::Running
            && actor.kind == Kind::Direct
            && self.site.is_running()
            && group.phase == GroupPhase::Steady
            && group.members.len() == 1
            && group.badness() < group.policy.limit(&self.limits)
            && group.policy.first_ms == 0
            && !group.attempts.is_past
            && group.policy.permanent.is_empty()
    }

    /// How many failures of this group in a row, from `at_ms` on, whenever they come and whoever fails, would each
    /// be answered by the next life of every member at once: all members are direct and run in a steady group,
    /// no delay would come, exit codes do not matter, and so far is the group's badness from its limit. What
    /// is said of [`Controller::restarts_at_once`] holds here.
    #[must_use]
    pub fn restarts_ahead(&self, gid: Gid, at_ms: u64) -> u32 {
        let Some(group) = self.groups.get(&gid) else {
            return 0;
        };
        let (policy, attempts) = (&group.policy, &group.attempts);
        let is_plain = self.site.is_running()
            && group.phase == GroupPhase::Steady
            && policy.first_ms == 0
            && !attempts.is_past
            && policy.permanent.is_empty();
        let runs = |key| {
            let actor = self.actors.get(key);
            actor.is_some_and(|a| a.phase == Phase::Running && a.kind == Kind::Direct)
        };
        if !is_plain || !group.members.iter().all(runs) {
            return 0;
        }
        let interval_ms = policy.interval(&self.limits);
        let counts = |then: &&u64| at_ms.saturating_sub(**then) < interval_ms;
        let counted = group.failures.iter().filter(counts).count();
        let badness = u32::try_from(counted).unwrap_or(u32::MAX);
        policy.limit(&self.limits).saturating_sub(badness)
    }

    /// Whether a group is being restarted: what is told to stop now has a next life.
    #[must_use]
    pub fn is_group_restarting(&self, gid: Gid) -> bool {
        self.groups
            .get(&gid)
            .is_some_and(|group| group.phase == GroupPhase::Restarting)
    }

    /// After a life or a load is over: does what the group, then the site, waited for.
    pub(crate) fn settle(&mut self, gid: Option<Gid>, out: &mut Vec<Effect>) {
        if let Some(gid) = gid {
            self.settle_group(gid, out);
        }
        self.settle_site(out);
    }

    pub(crate) fn settle_group(&mut self, gid: Gid, out: &mut Vec<Effect>) {
        let Some(group) = self.groups.get_mut(&gid) else {
            return;
        };
        if group.live > 0 {
            return;
        }
        if group.is_killing() {
            if group.loads == 0 {
                self.terminate_group(gid, out);
            }
            return;
        }
        if group.members.is_empty() {
            self.changes.group(gid, group);
            self.groups.remove(&gid); // its only load failed: it never began, so it has no end
            return;
        }
        if !self.site.is_running() {
            // The site's restart or halt goes on from here, but what has come to its end has.
            if self.site.is_restarting() && self.is_all_clean(gid) {
                self.terminate_group(gid, out);
            }
            return;
        }
        match group.phase {
            GroupPhase::Restarting => self.begin_or_wait(gid, out),
            GroupPhase::GivingUp(give_up) => {
                group.phase = GroupPhase::Stopped(give_up);
                self.changes.group(gid, group);
            }
            _ => {}
        }
        self.settle_silent_group(gid, out);
    }

    /// A steady group with nobody alive has terminated (SPEC H22) or is blocked (SPEC H23).
    fn settle_silent_group(&mut self, gid: Gid, out: &mut Vec<Effect>) {
        let Some(group) = self.groups.get(&gid) else {
            return;
        };
        if group.live > 0 || group.loads > 0 || group.phase != GroupPhase::Steady {
            return;
        }
        if self.is_all_clean(gid) {
            self.terminate_group(gid, out);
        } else if !group.blocked {
            self.say_blocked(gid, out);
            if let Some(group) = self.groups.get_mut(&gid) {
                group.blocked = true;
                self.changes.group(gid, group);
            }
        }
    }

    /// The message of H23, which names those who have not terminated.
    pub(crate) fn say_blocked(&self, gid: Gid, out: &mut Vec<Effect>) {
        let left = self.members(gid).filter(|member| !member.terminated_clean);
        let names = left.map(|member| *member.name).collect();
        out.push(Effect::Blocked { gid, names });
    }

    /// Whether every member has terminated cleanly and nothing of it is left.
    pub(crate) fn is_all_clean(&self, gid: Gid) -> bool {
        let Some(group) = self.groups.get(&gid) else {
            return false;
        };
        let is_clean = |key| {
            self.actors
                .get(key)
                .is_some_and(|a| a.phase == Phase::Clean)
        };
        !group.members.is_empty() && group.members.iter().all(is_clean)
    }

    /// Begins every direct member of a group in which no life is left; its indirect members
    /// wait for their spawners. A member that is still being loaded begins when it is.
    pub(crate) fn begin_members(&mut self, gid: Gid, out: &mut Vec<Effect>) {
        self.each_member(gid, |this, key| {
            let Some(actor) = this.actors.get_mut(&key).filter(|a| !a.is_loading()) else {
                return;
            };
            match actor.kind {
                Kind::Direct => this.begin(key, Cause::Restart, out),
                Kind::Indirect | Kind::Ordinary => {
                    actor.phase = Phase::Waiting;
                    this.changes.actor(key, actor);
                }
            }
        });
    }

    /// Forgets a group without lives or loads, and answers those who killed it.
    pub(crate) fn terminate_group(&mut self, gid: Gid, out: &mut Vec<Effect>) {
        let Some(mut group) = self.groups.remove(&gid) else {
            return;
        };
        self.changes.group(gid, &mut group);
        for key in group.members {
            self.forget(key, out);
        }
        out.push(Effect::GroupTerminated { gid });
        if let GroupPhase::Killing(tickets) = group.phase {
            out.extend(tickets.into_iter().map(|ticket| Effect::Done { ticket }));
        }
    }

    /// Calls `act` for each member. The list is lent out meanwhile, so that the restart path
    /// copies nothing; `act` may change actors, but not who is a member.
    pub(crate) fn each_member(&mut self, gid: Gid, mut act: impl FnMut(&mut Self, ActorKey)) {
        let Some(group) = self.groups.get_mut(&gid) else {
            return;
        };
        let members = std::mem::take(&mut group.members);
        for &key in &members {
            act(self, key);
        }
        if let Some(group) = self.groups.get_mut(&gid) {
            group.members = members;
        }
    }
}
