//! What stops lives: failures, kills, restarts and halts.

use hr_ctrl_core::{Effect, HaltLevel, Kind, Refusal, Requester, StopHow, Target, Ticket};

use super::{Actor, Mode, Naive};

impl Naive {
    pub(super) fn ask_restart(&mut self, ticket: Option<Ticket>) {
        if matches!(self.mode, Mode::Halting(_) | Mode::Halted) {
            let why = Refusal::SiteStopping;
            self.out
                .extend(ticket.map(|ticket| Effect::Refused { ticket, why }));
            return;
        }
        self.waiters.extend(ticket);
        if self.mode == Mode::Running {
            self.restart_site();
        }
    }

    pub(super) fn reset(&mut self) {
        if self.mode != Mode::Resetting {
            return;
        }
        self.mode = Mode::Running;
        self.restarting = self.gids();
        self.restarting
            .retain(|gid| !self.killing.contains_key(gid));
        let done = std::mem::take(&mut self.waiters).into_iter();
        self.out.extend(done.map(|ticket| Effect::Done { ticket }));
    }

    pub(super) fn stop(&mut self, which: impl Fn(&Actor) -> bool, how: StopHow) {
        for a in self
            .actors
            .iter_mut()
            .filter(|a| a.alive && a.ended.is_none() && which(a))
        {
            let stronger = a.told == Some(StopHow::Tidy) && how == StopHow::Kill;
            if a.told.is_none() || stronger {
                a.told = Some(how);
                let life = a.life.expect("alive");
                self.out.push(Effect::Stop {
                    actor: a.key,
                    life,
                    how,
                });
            }
        }
    }

    pub(super) fn orphan(&mut self, which: impl Fn(&Actor) -> bool) {
        let mut late = Vec::new();
        for a in self
            .actors
            .iter_mut()
            .filter(|a| a.loading && a.kind != Kind::Direct)
        {
            if which(a) {
                a.orphaned = true;
                late.extend(a.asks.drain(1..));
            }
        }
        self.cancel(late);
    }

    pub(super) fn restart_site(&mut self) {
        self.mode = Mode::Stopping;
        self.restarting.clear();
        self.failures.clear();
        self.rows.clear();
        self.delayed.clear();
        self.given_up.clear();
        self.blocked.clear();
        self.stop(|_| true, StopHow::Kill);
        self.orphan(|_| true);
        for gid in self.gids() {
            self.terminate_if_clean(gid);
        }
    }

    pub(super) fn halt(&mut self, level: HaltLevel) {
        let rank = |level| match level {
            HaltLevel::Halt => 0,
            HaltLevel::Cold => 1,
            HaltLevel::Immediate => 2,
        };
        match self.mode {
            Mode::Halted => return,
            Mode::Halting(now) if rank(now) >= rank(level) => return,
            _ => self.mode = Mode::Halting(level),
        }
        let why = || Refusal::SiteStopping;
        let waiters = std::mem::take(&mut self.waiters).into_iter();
        self.out
            .extend(waiters.map(|ticket| Effect::Refused { ticket, why: why() }));
        let tidy = level == HaltLevel::Halt;
        self.stop(|_| true, if tidy { StopHow::Tidy } else { StopHow::Kill });
    }

    pub(super) fn kill(
        &mut self,
        ticket: Ticket,
        target: Target,
        tidy: bool,
        by: Requester,
    ) -> Result<(), Refusal> {
        let own = self.asker(by)?;
        let how = if tidy { StopHow::Tidy } else { StopHow::Kill };
        let gid = match target {
            Target::Group(gid) => Some(gid),
            Target::Aid(aid) => {
                let found = self.actors.iter().position(|a| a.alive && a.aid == aid);
                let stale = aid.0 > 0 && aid.0 <= self.aids;
                let i = found.ok_or(Refusal::NoSuchAid { aid, stale })?;
                if self.actors[i].gid.is_none() {
                    if own.is_some() {
                        return Err(Refusal::NoSuchAid { aid, stale: false });
                    }
                    self.actors[i].killers.push(ticket);
                    self.stop(|a| a.alive && a.aid == aid, how);
                }
                self.actors[i].gid
            }
        };
        let Some(gid) = gid else { return Ok(()) };
        if own.is_some_and(|own| own != gid) {
            return Err(Refusal::NotYourGroup { gid });
        }
        if !self.gids().contains(&gid) {
            return Err(Refusal::NoSuchGroup { gid });
        }
        self.killing.entry(gid).or_default().push(ticket);
        self.restarting.remove(&gid);
        self.delayed.remove(&gid);
        self.given_up.remove(&gid);
        self.stop(|a| a.gid == Some(gid), how);
        Ok(())
    }
}
