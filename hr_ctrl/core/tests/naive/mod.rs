//! The controller once more, written from `docs/restart-states.md` in the plainest way: no
//! counters, no indexes, no phases; after every event the whole site is looked at again.

use std::collections::{BTreeMap, BTreeSet};

use hr_ctrl_core::{
    ActorKey, Effect, Event, HaltLevel, Kind, Limits, Refusal, Requester, StopHow, Target, Ticket,
};
use refrain_abi::{ActorName, Aid, Gid, LifeNo};

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
            } => {
                if let Err(why) = self.run(ticket, name, gid, by) {
                    self.out.push(Effect::Refused { ticket, why });
                }
            }
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
                at_ms,
            } => {
                if let Some(i) = self.living(actor, life) {
                    let told = self.actors[i].told.is_some();
                    self.actors[i].ended = Some(clean && !told);
                    if !clean
                        && !told
                        && let Some(gid) = self.actors[i].gid
                    {
                        self.fail(gid, actor, at_ms);
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
            Event::SiteRestart { ticket } => match self.mode {
                Mode::Halting(_) | Mode::Halted => {
                    let why = Refusal::SiteStopping;
                    self.out
                        .extend(ticket.map(|ticket| Effect::Refused { ticket, why }));
                }
                mode => {
                    self.waiters.extend(ticket);
                    if mode == Mode::Running {
                        self.restart_site();
                    }
                }
            },
            Event::BootActorsReset if self.mode == Mode::Resetting => {
                self.mode = Mode::Running;
                self.restarting = self.gids();
                self.restarting
                    .retain(|gid| !self.killing.contains_key(gid));
                let done = std::mem::take(&mut self.waiters).into_iter();
                self.out.extend(done.map(|ticket| Effect::Done { ticket }));
            }
            Event::Halt { level } => self.halt(level),
            Event::Restore {
                name,
                gid,
                kind,
                last_life,
                clean,
                ..
            } => {
                let key = self.register(name, Some(gid), kind);
                let i = self.find(key).expect("just registered");
                self.actors[i].life = last_life;
                self.actors[i].ended = last_life.map(|_| clean);
                return Vec::new();
            }
            Event::BootActorsReset => {}
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
    ) -> Result<(), Refusal> {
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
            && (self.restarting.contains(&gid) || self.killing.contains_key(&gid))
        {
            return Err(Refusal::GroupStopping { gid });
        }
        let Some(i) = known else {
            return self.load(ticket, name, gid, kind);
        };
        let actor = &mut self.actors[i];
        if actor.loading && actor.orphaned && gid.is_some() && actor.asks.len() == 1 {
            actor.asks.push(ticket);
            return Ok(());
        }
        if actor.alive || actor.loading {
            return Err(Refusal::Alive {
                name,
                aid: actor.alive.then_some(actor.aid),
            });
        }
        self.begin(i, Some(ticket));
        Ok(())
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
        if self.mode == Mode::Running
            && !self.restarting.contains(&gid)
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

    fn stop(&mut self, which: impl Fn(&Actor) -> bool, how: StopHow) {
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

    fn orphan(&mut self, which: impl Fn(&Actor) -> bool) {
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

    fn fail(&mut self, gid: Gid, failed: ActorKey, at_ms: u64) {
        let notes = self.failures.entry(gid).or_default();
        notes.retain(|&note| at_ms.saturating_sub(note) < self.limits.interval_ms);
        notes.push(at_ms);
        let badness = notes.len() as u32;
        if badness > self.limits.max_badness {
            self.out.push(Effect::BadnessPassed { gid, badness });
            self.restart_site();
            return;
        }
        self.restarting.insert(gid);
        self.stop(|a| a.gid == Some(gid), StopHow::Kill);
        self.orphan(|a| a.gid == Some(gid));
        self.out.push(Effect::GroupRestarts {
            gid,
            failed,
            badness,
        });
    }

    fn restart_site(&mut self) {
        self.mode = Mode::Stopping;
        self.restarting.clear();
        self.failures.clear();
        self.blocked.clear();
        self.stop(|_| true, StopHow::Kill);
        self.orphan(|_| true);
        for gid in self.gids() {
            self.terminate_if_clean(gid);
        }
    }

    fn halt(&mut self, level: HaltLevel) {
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

    fn kill(
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
        self.stop(|a| a.gid == Some(gid), how);
        Ok(())
    }

    /// Looks at the whole site for something that is due; whether there was anything.
    fn settle(&mut self) -> bool {
        let before = self.out.len();
        for gid in self.gids() {
            self.settle_group(gid);
        }
        let gids = self.gids();
        self.failures.retain(|gid, _| gids.contains(gid));
        self.blocked.retain(|gid| gids.contains(gid));
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
            for i in 0..self.actors.len() {
                let a = &mut self.actors[i];
                if a.gid == Some(gid) && a.kind == Kind::Direct && !a.loading {
                    let ticket = a.asks.pop();
                    self.begin(i, ticket);
                } else if a.gid == Some(gid) {
                    a.ended = None;
                }
            }
            if self.actors.iter().any(|a| a.gid == Some(gid) && a.alive) {
                return;
            }
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

    fn terminate_if_clean(&mut self, gid: Gid) -> bool {
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
