//! What the owner, an actor or chance may ask of the site, and reports that come too late.

use hr_ctrl_core::{ActorKey, Event, Policy, Requester, Target, Ticket};
use refrain_abi::{ActorName, Aid, Gid, LifeNo, PastLimit};

use super::{GIDS, NAMES, World};

impl World {
    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Mostly none; else one with which limits are passed and delays grow.
    fn policy(&mut self) -> Option<Policy> {
        let max_restarts = self.dice.one_in(2).then(|| self.dice.below(4) as u32);
        let policy = Policy {
            max_restarts,
            interval_ms: None,
            first_ms: [0, 0, 10][self.dice.below(3) as usize],
            factor_percent: 200,
            cap_ms: 200,
            healthy_ms: 100,
            past_limit: PastLimit::ALL[self.dice.below(3) as usize],
            permanent: (0..self.dice.below(2) as u8).collect(),
        };
        self.dice.one_in(4).then_some(policy)
    }

    pub(super) fn run(&mut self, gid: Option<Gid>, by: Requester) -> Event {
        let name = format!("n{}", self.dice.below(NAMES));
        let name = ActorName::new(&name).expect("a good name");
        Event::Run {
            ticket: self.ticket(),
            name,
            gid,
            by,
            policy: self.policy(),
        }
    }

    /// A life that runs or has just ended, to ask for something.
    fn some_life(&mut self) -> Option<Requester> {
        let n = self.dice.below(self.lives.len() as u64) as usize;
        let (&actor, &life) = self.lives.iter().nth(n)?;
        Some(Requester::Life { actor, life })
    }

    pub(super) fn command(&mut self) {
        let by_life = if self.dice.one_in(2) {
            self.some_life()
        } else {
            None
        };
        let by = by_life.unwrap_or(Requester::Owner);
        let gid = Gid(self.dice.below(GIDS) as u32);
        let event = match self.dice.below(200) {
            0..=159 => {
                let gid = (!self.dice.one_in(5)).then_some(gid);
                self.run(gid, by)
            }
            160..=175 => {
                let aid = self
                    .controller
                    .next_aid()
                    .0
                    .saturating_sub(self.dice.below(8) as u32);
                let target = if self.dice.one_in(2) {
                    Target::Group(gid)
                } else {
                    Target::Aid(Aid(aid))
                };
                let tidy = self.dice.one_in(2);
                Event::Kill {
                    ticket: self.ticket(),
                    target,
                    tidy,
                    by,
                }
            }
            176 => {
                let ticket = self.dice.one_in(2).then(|| self.ticket());
                Event::SiteRestart { ticket }
            }
            177..=196 => self.noise(),
            197 => Event::BootActorsReset,
            _ => return self.crash(),
        };
        // Resetting ends with the daemon's own report, not with a stray one.
        if event != Event::BootActorsReset || !self.controller.is_restarting() {
            self.tell(event);
        }
    }

    /// A report that comes too late: of a life before the one of now, or of a forgotten actor.
    fn noise(&mut self) -> Event {
        let oldest = self.controller.actors().next().map_or(1, |a| a.key.0);
        let n = self.dice.below(8) as usize;
        let old = self
            .controller
            .actors()
            .nth(n)
            .and_then(|a| Some((a.key, a.life?.0.checked_sub(1)?)));
        let (actor, life) = old.unwrap_or((ActorKey(self.dice.below(oldest)), 0));
        let (life, at_ms) = (LifeNo(life), self.now);
        match self.dice.below(3) {
            0 => Event::Ended {
                actor,
                life,
                clean: false,
                exit_code: None,
                at_ms,
            },
            1 => Event::Gone { actor, life },
            _ => Event::BeginFailed { actor, life },
        }
    }
}
