//! The controller once more, written from `docs/restart-states.md` in the plainest way: no
//! counters, no indexes, no phases; after every event the whole site is looked at again.

use std::collections::{BTreeMap, BTreeSet};

use hr_ctrl_core::{
    ActorKey, Effect, Event, GiveUp, HaltLevel, Kind, Limits, Policy, Refusal, Requester, StopHow,
    Ticket,
};
use refrain_abi::{ActorName, Aid, Gid, LifeNo};

mod policy;
mod settle;
mod stop;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Running,
    Stopping,
    Resetting,
    Halting(HaltLevel),
    Halted,
}

struct Actor {
    key: ActorKey,
    name: ActorName,
    gid: Option<Gid>,
    kind: Kind,
    loading: bool,
    orphaned: bool,
    /// Requests for its start that are not answered: the load's, then the one that took it over.
    asks: Vec<Ticket>,
    life: Option<LifeNo>,
    aid: Aid,
    alive: bool,
    told: Option<StopHow>,
    /// The last life has ended, and whether that was clean.
    ended: Option<bool>,
    killers: Vec<Ticket>,
}

impl Actor {
    fn is_clean(&self) -> bool {
        !self.alive && !self.loading && self.ended == Some(true)
    }
}

/// See the module.
pub struct Naive {
    limits: Limits,
    actors: Vec<Actor>,
    restarting: BTreeSet<Gid>,
    killing: BTreeMap<Gid, Vec<Ticket>>,
    blocked: BTreeSet<Gid>,
    failures: BTreeMap<Gid, Vec<u64>>,
    policies: BTreeMap<Gid, Policy>,
    rows: BTreeMap<Gid, policy::Row>,
    /// Groups that wait, and until when.
    delayed: BTreeMap<Gid, u64>,
    given_up: BTreeMap<Gid, GiveUp>,
    mode: Mode,
    waiters: Vec<Ticket>,
    keys: u64,
    aids: u32,
    out: Vec<Effect>,
}

impl Naive {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            actors: Vec::new(),
            restarting: BTreeSet::new(),
            killing: BTreeMap::new(),
            blocked: BTreeSet::new(),
            failures: BTreeMap::new(),
            policies: BTreeMap::new(),
            rows: BTreeMap::new(),
            delayed: BTreeMap::new(),
            given_up: BTreeMap::new(),
            mode: Mode::Running,
            waiters: Vec::new(),
            keys: 0,
            aids: 0,
            out: Vec::new(),
        }
    }

    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Run {
                ticket,
                name,
                gid,
                by,
                policy,
            } => match self.run(ticket, name, gid, by) {
                Err(why) => self.out.push(Effect::Refused { ticket, why }),
                Ok(run) => {
                    let policy = policy.filter(|_| by == Requester::Owner);
                    self.wake_group(run, policy);
                }
            },
            Event::Loaded { actor } => self.loaded(actor),
            Event::LoadFailed { actor } => {
                if let Some(i) = self.find(actor).filter(|&i| self.actors[i].loading) {
                    let mut failed = self.actors.remove(i);
                    failed.asks.remove(0);
                    self.cancel(failed.asks);
                }
            }
            Event::BeginFailed { actor, life } => {
                if let Some(i) = self.living(actor, life) {
                    self.actors[i].ended = Some(false);
                    self.actors[i].alive = false;
                    self.forget_ordinary(i);
                }
            }
            Event::Ended {
                actor,
                life,
                clean,
                exit_code,
                at_ms,
            } => {
                if let Some(i) = self.living(actor, life) {
                    let told = self.actors[i].told.is_some();
                    self.actors[i].ended = Some(clean && !told);
                    if !clean
                        && !told
                        && let Some(gid) = self.actors[i].gid
                    {
                        self.fail(gid, actor, at_ms, exit_code);
                    }
                }
            }
            Event::Gone { actor, life } => {
                let dead = |a: &Actor| a.alive && a.life == Some(life) && a.ended.is_some();
                if let Some(i) = self.find(actor).filter(|&i| dead(&self.actors[i])) {
                    self.actors[i].alive = false;
                    self.forget_ordinary(i);
                }
            }
            Event::Kill {
                ticket,
                target,
                tidy,
                by,
            } => {
                if let Err(why) = self.kill(ticket, target, tidy, by) {
                    self.out.push(Effect::Refused { ticket, why });
                }
            }
            Event::SiteRestart { ticket } => self.ask_restart(ticket),
            Event::BootActorsReset => self.reset(),
            Event::Halt { level } => self.halt(level),
            Event::Adopted => {}
            Event::DelayOver { gid, until_ms } => {
                if self.mode == Mode::Running && self.delayed.get(&gid) == Some(&until_ms) {
                    self.delayed.remove(&gid);
                    self.begin_members(gid);
                }
            }
            Event::Restore {
                name,
                gid,
                kind,
                last_life,
                clean,
                policy,
                ..
            } => {
                self.policies.extend(policy.map(|policy| (gid, policy)));
                let key = self.register(name, Some(gid), kind);
                let i = self.find(key).expect("just registered");
                self.actors[i].life = last_life;
                self.actors[i].ended = last_life.map(|_| clean);
                return Vec::new();
            }
        }
        while self.settle() {}
        std::mem::take(&mut self.out)
    }

    fn find(&self, key: ActorKey) -> Option<usize> {
        self.actors.iter().position(|a| a.key == key)
    }

    /// A life that has not ended.
    fn living(&self, key: ActorKey, life: LifeNo) -> Option<usize> {
        let lives = |a: &Actor| a.alive && a.ended.is_none() && a.life == Some(life);
        self.find(key).filter(|&i| lives(&self.actors[i]))
    }

    fn gids(&self) -> BTreeSet<Gid> {
        let killing = self.killing.keys().copied();
        self.actors
            .iter()
            .filter_map(|a| a.gid)
            .chain(killing)
            .collect()
    }

    fn register(&mut self, name: ActorName, gid: Option<Gid>, kind: Kind) -> ActorKey {
        self.keys += 1;
        let key = ActorKey(self.keys);
        self.actors.push(Actor {
            key,
            name,
            gid,
            kind,
            loading: false,
            orphaned: false,
            asks: Vec::new(),
            life: None,
            aid: Aid(0),
            alive: false,
            told: None,
            ended: None,
            killers: Vec::new(),
        });
        key
    }

    fn asker(&self, by: Requester) -> Result<Option<Gid>, Refusal> {
        let Requester::Life { actor, life } = by else {
            return Ok(None);
        };
        let asks = self
            .living(actor, life)
            .filter(|&i| self.actors[i].told.is_none());
        let gid = self.actors[asks.ok_or(Refusal::StaleLife)?].gid;
        gid.map(Some).ok_or(Refusal::NotRestartable)
    }

    fn run(
        &mut self,
        ticket: Ticket,
        name: ActorName,
        gid: Option<Gid>,
        by: Requester,
    ) -> Result<policy::Run, Refusal> {
        let own = self.asker(by)?;
        let gid = own.or(gid);
        let kind = match (own, gid) {
            (Some(_), _) => Kind::Indirect,
            (None, Some(_)) => Kind::Direct,
            (None, None) => Kind::Ordinary,
        };
        let reset_takes = self.mode == Mode::Resetting && kind == Kind::Ordinary;
        if self.mode != Mode::Running && !reset_takes {
            return Err(Refusal::SiteStopping);
        }
        let known = self.actors.iter().position(|a| a.name == name);
        if let Some(i) = known.filter(|&i| self.actors[i].gid != gid) {
            return Err(Refusal::NameTaken {
                name,
                gid: self.actors[i].gid,
            });
        }
        if let Some(gid) = gid
            && (self.restarting.contains(&gid)
                || self.killing.contains_key(&gid)
                || self.given_up.contains_key(&gid) && self.is_alive(gid))
        {
            return Err(Refusal::GroupStopping { gid });
        }
        let Some(i) = known else {
            self.load(ticket, name, gid, kind)?;
            return Ok(policy::Run { gid, begin: None });
        };
        let actor = &mut self.actors[i];
        if actor.loading && actor.orphaned && gid.is_some() && actor.asks.len() == 1 {
            actor.asks.push(ticket);
            return Ok(policy::Run { gid, begin: None });
        }
        if actor.alive || actor.loading || !actor.asks.is_empty() {
            return Err(Refusal::Alive {
                name,
                aid: actor.alive.then_some(actor.aid),
            });
        }
        actor.asks.push(ticket);
        Ok(policy::Run {
            gid,
            begin: Some(i),
        })
    }

    fn load(
        &mut self,
        ticket: Ticket,
        name: ActorName,
        gid: Option<Gid>,
        kind: Kind,
    ) -> Result<(), Refusal> {
        let (actors, groups) = (self.limits.max_actors, self.limits.max_groups);
        if self.actors.len() >= actors as usize {
            return Err(Refusal::TooManyActors { limit: actors });
        }
        let gids = self.gids();
        if gid.is_some_and(|gid| !gids.contains(&gid)) && gids.len() >= groups as usize {
            return Err(Refusal::TooManyGroups { limit: groups });
        }
        let actor = self.register(name, gid, kind);
        let i = self.find(actor).expect("just registered");
        self.actors[i].loading = true;
        self.actors[i].asks.push(ticket);
        self.out.push(Effect::Load {
            actor,
            ticket,
            name,
            gid,
            kind,
        });
        Ok(())
    }

    fn begin(&mut self, i: usize, ticket: Option<Ticket>) {
        self.aids += 1;
        let aid = Aid(self.aids);
        let a = &mut self.actors[i];
        let life = a.life.map_or(LifeNo(0), LifeNo::next);
        (a.life, a.aid, a.alive, a.told, a.ended) = (Some(life), aid, true, None, None);
        self.out.push(Effect::Begin {
            actor: a.key,
            life,
            aid,
            ticket,
        });
        self.out
            .extend(ticket.map(|ticket| Effect::Started { ticket, aid }));
    }

    fn cancel(&mut self, tickets: Vec<Ticket>) {
        let why = Refusal::Cancelled;
        let refused = tickets.into_iter().map(|ticket| (ticket, why.clone()));
        self.out
            .extend(refused.map(|(ticket, why)| Effect::Refused { ticket, why }));
    }

    fn loaded(&mut self, key: ActorKey) {
        let Some(i) = self.find(key).filter(|&i| self.actors[i].loading) else {
            return;
        };
        let a = &mut self.actors[i];
        a.loading = false;
        let gid = a.gid;
        let halting = matches!(self.mode, Mode::Halting(_) | Mode::Halted);
        if halting || gid.is_some_and(|gid| self.killing.contains_key(&gid)) {
            return;
        }
        if a.orphaned {
            let first = a.asks.remove(0);
            self.cancel(vec![first]);
        }
        let Some(gid) = gid else {
            match self.actors[i].asks.pop() {
                Some(ticket) => self.begin(i, Some(ticket)),
                None => self.forget(i),
            }
            return;
        };
        if self.given_up.contains_key(&gid) {
            let asks = std::mem::take(&mut self.actors[i].asks);
            return self.cancel(asks);
        }
        if self.mode == Mode::Running
            && !self.restarting.contains(&gid)
            && !self.delayed.contains_key(&gid)
            && let Some(ticket) = self.actors[i].asks.pop()
        {
            self.begin(i, Some(ticket));
        }
    }

    fn forget(&mut self, i: usize) {
        let a = self.actors.remove(i);
        self.out.push(Effect::Forget { actor: a.key });
        self.cancel(a.asks);
        self.out
            .extend(a.killers.into_iter().map(|ticket| Effect::Done { ticket }));
    }

    fn forget_ordinary(&mut self, i: usize) {
        if self.actors[i].gid.is_none() {
            self.forget(i);
        }
    }
}
