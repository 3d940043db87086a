//! The site as a whole: restart (SPEC H25, H26) and halt.
//!
//! Both first stop every life. A restart then has the boot actors reset and begins every direct
//! restartable actor; a halt forgets all that is left. A halt overrides a restart. These are the
//! only places that walk over every actor of the site.

use refrain_abi::Gid;

use crate::controller::refuse;
use crate::{ActorKey, Controller, Effect, HaltLevel, Kind, Refusal, StopHow, Ticket};

/// Where the site is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SitePhase {
    #[default]
    Running,
    /// A restart, first half: lives are stopping.
    Stopping,
    /// A restart, second half: the boot actors are being reset.
    Resetting,
    Halting(HaltLevel),
    Halted(HaltLevel),
}

/// The site's own state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Site {
    phase: SitePhase,
    /// Lives that are not gone.
    pub live: usize,
    /// Outstanding loads of restartable actors.
    loads: usize,
    /// Outstanding loads of ordinary actors.
    ordinary_loads: usize,
    /// Who waits for the site's restart.
    tickets: Vec<Ticket>,
    /// The phase at the recall of this controller, until what was lost is made good.
    recalled: Option<SitePhase>,
}

impl Site {
    /// Neither restarting nor halting.
    pub fn is_running(&self) -> bool {
        self.phase == SitePhase::Running
    }

    pub fn is_restarting(&self) -> bool {
        matches!(self.phase, SitePhase::Stopping | SitePhase::Resetting)
    }

    pub fn is_halting(&self) -> bool {
        matches!(self.phase, SitePhase::Halting(_) | SitePhase::Halted(_))
    }

    pub fn phase(&self) -> SitePhase {
        self.phase
    }

    pub fn recall(&mut self, phase: SitePhase) {
        (self.phase, self.recalled) = (phase, Some(phase));
    }

    pub fn take_recalled(&mut self) -> Option<SitePhase> {
        self.recalled.take()
    }

    /// Whether an actor of this kind may begin now. `sysadm.ini` is read while the boot actors
    /// are being reset, and only its ordinary actors are started then (SPEC H25).
    pub fn takes(&self, kind: Kind) -> bool {
        match self.phase {
            SitePhase::Running => true,
            SitePhase::Resetting => kind == Kind::Ordinary,
            SitePhase::Stopping | SitePhase::Halting(_) | SitePhase::Halted(_) => false,
        }
    }

    pub fn load_starts(&mut self, gid: Option<Gid>) {
        *self.loads_of(gid) += 1;
    }

    pub fn load_ends(&mut self, gid: Option<Gid>) {
        *self.loads_of(gid) -= 1;
    }

    fn loads_of(&mut self, gid: Option<Gid>) -> &mut usize {
        if gid.is_some() {
            &mut self.loads
        } else {
            &mut self.ordinary_loads
        }
    }
}

impl Controller {
    pub(crate) fn site_restart(&mut self, ticket: Option<Ticket>, out: &mut Vec<Effect>) {
        if self.site.is_halting() {
            if let Some(ticket) = ticket {
                refuse(ticket, Refusal::SiteStopping, out);
            }
            return;
        }
        self.site.tickets.extend(ticket);
        if self.site.is_running() {
            self.begin_site_restart(out);
            self.settle_site(out);
        }
    }

    /// Stops everything. Groups that are being killed come to their end meanwhile; a group that
    /// is being restarted goes on with the site.
    pub(crate) fn begin_site_restart(&mut self, out: &mut Vec<Effect>) {
        self.site.phase = SitePhase::Stopping;
        self.changes.site();
        self.stop_all(StopHow::Kill, out);
        for key in self.all_keys() {
            self.orphan_load(key, out);
        }
        for (&gid, group) in &mut self.groups {
            group.leave_to_site_restart();
            self.changes.group(gid, group);
        }
        // A group that the bank remembers as all clean had terminated when the last controller
        // died; running it again would undo that.
        for gid in self.all_gids() {
            if self.is_all_clean(gid) {
                self.terminate_group(gid, out);
            }
        }
    }

    /// The boot actors are in their initial state: the second half of a site restart.
    pub(crate) fn boot_actors_reset(&mut self, out: &mut Vec<Effect>) {
        if self.site.phase != SitePhase::Resetting {
            return;
        }
        self.site.phase = SitePhase::Running;
        self.changes.site();
        let mut gids = self.all_gids();
        gids.retain(|gid| !self.groups[gid].is_killing());
        for &gid in &gids {
            self.begin_members(gid, out);
        }
        let tickets = std::mem::take(&mut self.site.tickets);
        out.extend(tickets.into_iter().map(|ticket| Effect::Done { ticket }));
        for gid in gids {
            self.settle_group(gid, out);
        }
    }

    /// Halts the site, or makes a halt that is under way stronger.
    pub(crate) fn halt(&mut self, level: HaltLevel, out: &mut Vec<Effect>) {
        let is_weaker = |before| strength(before) >= strength(level);
        match self.site.phase {
            SitePhase::Halted(_) => return,
            SitePhase::Halting(before) if is_weaker(before) => return,
            _ => self.site.phase = SitePhase::Halting(level),
        }
        self.changes.site();
        for ticket in std::mem::take(&mut self.site.tickets) {
            refuse(ticket, Refusal::SiteStopping, out);
        }
        let how = if level == HaltLevel::Halt {
            StopHow::Tidy
        } else {
            StopHow::Kill
        };
        self.stop_all(how, out);
        self.settle_site(out);
    }

    /// After a life or a load is over: goes on with a restart or a halt that waited for it.
    pub(crate) fn settle_site(&mut self, out: &mut Vec<Effect>) {
        let site = &mut self.site;
        if site.live > 0 || site.ordinary_loads > 0 {
            return;
        }
        match site.phase {
            SitePhase::Stopping => {
                site.phase = SitePhase::Resetting;
                self.changes.site();
                out.push(Effect::ResetBootActors);
            }
            SitePhase::Halting(level) if site.loads == 0 => {
                site.phase = SitePhase::Halted(level);
                self.changes.site();
                for key in self.all_keys() {
                    self.forget(key, out);
                }
                // No `GroupTerminated`: the groups have not terminated, their site has. What
                // becomes of their blocks is decided with the bank (`pmm.keep_on_halt`).
                for (&gid, group) in &mut self.groups {
                    self.changes.group(gid, group);
                }
                self.groups.clear();
                out.push(Effect::Halted { level });
            }
            _ => {}
        }
    }

    /// What a recalled phase had asked of the daemon, if nothing has happened to the site since.
    ///
    /// A reset that was under way may have started ordinary actors already. They are stopped again,
    /// because a reset finds nobody alive and `sysadm.ini` is read from its beginning.
    pub(crate) fn site_phase_again(&mut self, recalled: SitePhase, out: &mut Vec<Effect>) {
        match self.site.phase {
            phase if phase != recalled => {}
            SitePhase::Resetting => {
                self.site.phase = SitePhase::Stopping;
                self.changes.site();
                self.stop_all(StopHow::Kill, out);
                for key in self.all_keys() {
                    self.orphan_load(key, out);
                }
            }
            SitePhase::Halted(level) => out.push(Effect::Halted { level }),
            SitePhase::Running | SitePhase::Stopping | SitePhase::Halting(_) => {}
        }
    }

    fn stop_all(&mut self, how: StopHow, out: &mut Vec<Effect>) {
        for key in self.all_keys() {
            self.stop(key, how, out);
        }
    }

    fn all_keys(&self) -> Vec<ActorKey> {
        self.actors.keys().copied().collect()
    }

    fn all_gids(&self) -> Vec<Gid> {
        self.groups.keys().copied().collect()
    }
}

/// Which of two halts wins.
fn strength(level: HaltLevel) -> u8 {
    match level {
        HaltLevel::Halt => 0,
        HaltLevel::Cold => 1,
        HaltLevel::Immediate => 2,
    }
}
