//! What becomes due by itself once an event has been noted: found by looking at everything.

use hr_ctrl_core::Effect;
use refrain_abi::Gid;

use super::{Actor, Mode, Naive};

impl Naive {
    /// Looks at the whole site for something that is due; whether there was anything.
    pub(super) fn settle(&mut self) -> bool {
        let before = self.out.len();
        for gid in self.gids() {
            self.settle_group(gid);
        }
        let gids = self.gids();
        self.failures.retain(|gid, _| gids.contains(gid));
        self.blocked.retain(|gid| gids.contains(gid));
        self.policies.retain(|gid, _| gids.contains(gid));
        self.rows.retain(|gid, _| gids.contains(gid));
        self.delayed.retain(|gid, _| gids.contains(gid));
        self.given_up.retain(|gid, _| gids.contains(gid));
        let alive = self.actors.iter().any(|a| a.alive);
        let ordinary = self.actors.iter().any(|a| a.loading && a.gid.is_none());
        let loading = self.actors.iter().any(|a| a.loading);
        match self.mode {
            Mode::Stopping if !alive && !ordinary => {
                self.mode = Mode::Resetting;
                self.out.push(Effect::ResetBootActors);
            }
            Mode::Halting(level) if !alive && !loading => {
                self.mode = Mode::Halted;
                while !self.actors.is_empty() {
                    self.forget(0);
                }
                self.out.push(Effect::Halted { level });
            }
            _ => {}
        }
        self.out.len() > before
    }

    fn settle_group(&mut self, gid: Gid) {
        let loading = self.actors.iter().any(|a| a.gid == Some(gid) && a.loading);
        if loading || self.actors.iter().any(|a| a.gid == Some(gid) && a.alive) {
            self.blocked.remove(&gid);
        }
        if self.actors.iter().any(|a| a.gid == Some(gid) && a.alive) {
            return;
        }
        if self.killing.contains_key(&gid) {
            if !loading {
                self.terminate(gid);
            }
            return;
        }
        if matches!(self.mode, Mode::Stopping | Mode::Resetting) {
            self.terminate_if_clean(gid);
        }
        if self.mode != Mode::Running {
            return;
        }
        if self.restarting.remove(&gid) {
            self.restart_now_or_later(gid);
            if self.actors.iter().any(|a| a.gid == Some(gid) && a.alive) {
                return;
            }
        }
        if self.delayed.contains_key(&gid) || self.given_up.contains_key(&gid) {
            return;
        }
        if !loading && !self.terminate_if_clean(gid) && self.blocked.insert(gid) {
            let left = self
                .actors
                .iter()
                .filter(|a| a.gid == Some(gid) && !a.is_clean());
            let names = left.map(|a| a.name).collect();
            self.out.push(Effect::Blocked { gid, names });
        }
    }

    pub(super) fn terminate_if_clean(&mut self, gid: Gid) -> bool {
        let mut members = self.actors.iter().filter(|a| a.gid == Some(gid)).peekable();
        let clean = members.peek().is_some() && members.all(Actor::is_clean);
        if clean {
            self.terminate(gid);
        }
        clean
    }

    fn terminate(&mut self, gid: Gid) {
        while let Some(i) = self.actors.iter().position(|a| a.gid == Some(gid)) {
            self.forget(i);
        }
        self.out.push(Effect::GroupTerminated { gid });
        let killers = self.killing.remove(&gid).unwrap_or_default();
        self.out
            .extend(killers.into_iter().map(|ticket| Effect::Done { ticket }));
    }
}
