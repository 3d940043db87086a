//! A controller whose effects read as text: `begin a.1 aid 3` is life 1 of actor a.

use std::collections::HashMap;

use hr_ctrl_core::{
    ActorKey, ActorState, Controller, Effect, Event, HaltLevel, Kind, Limits, Policy, Refusal,
    Requester, StopHow, Target, Ticket,
};
use refrain_abi::{ActorName, Aid, Gid, LifeNo};

pub const LIMITS: Limits = Limits {
    max_actors: 8,
    max_groups: 3,
    max_badness: 3,
    interval_ms: 1000,
};

pub struct Rig {
    pub controller: Controller,
    keys: HashMap<String, ActorKey>,
    tickets: u64,
    /// The `at_ms` of the next end of a life.
    pub now: u64,
}

pub fn name(text: &str) -> ActorName {
    ActorName::new(text).expect("tests use good names")
}

/// The word for a refusal: its variant.
pub fn word(why: &Refusal) -> String {
    let text = format!("{why:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

impl Rig {
    pub fn new() -> Self {
        Self::with(LIMITS)
    }

    pub fn with(limits: Limits) -> Self {
        let controller = Controller::new(limits, Aid(1));
        Self {
            controller,
            keys: HashMap::new(),
            tickets: 0,
            now: 0,
        }
    }

    pub fn effects(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.controller.step(event);
        for effect in &effects {
            if let Effect::Load { actor, name, .. } = effect {
                self.keys.insert(name.to_string(), *actor);
            }
        }
        effects
    }

    pub fn step(&mut self, event: Event) -> Vec<String> {
        let effects = self.effects(event);
        effects.iter().map(|effect| self.text(effect)).collect()
    }

    /// The key that an actor has or had.
    pub fn key(&self, actor: &str) -> ActorKey {
        self.keys[actor]
    }

    pub fn life(&self, actor: &str) -> LifeNo {
        let view = self.controller.view(self.key(actor));
        view.and_then(|view| view.life).unwrap_or_default()
    }

    pub fn aid(&self, actor: &str) -> Aid {
        self.controller
            .view(self.key(actor))
            .and_then(|view| view.aid)
            .expect("it is alive")
    }

    pub fn state(&self, actor: &str) -> Option<ActorState> {
        self.controller.view(self.key(actor)).map(|view| view.state)
    }

    pub fn as_life(&self, actor: &str) -> Requester {
        Requester::Life {
            actor: self.key(actor),
            life: self.life(actor),
        }
    }

    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    pub fn run_by(&mut self, actor: &str, gid: Option<u32>, by: Requester) -> Vec<String> {
        let (ticket, name) = (self.ticket(), name(actor));
        self.step(Event::Run {
            ticket,
            name,
            gid: gid.map(Gid),
            by,
            policy: None,
        })
    }

    /// Run by the owner, who names a policy for the group.
    pub fn run_with(&mut self, actor: &str, gid: u32, policy: Policy) -> Vec<String> {
        let (ticket, name) = (self.ticket(), name(actor));
        self.step(Event::Run {
            ticket,
            name,
            gid: Some(Gid(gid)),
            by: Requester::Owner,
            policy: Some(policy),
        })
    }

    /// A direct actor of a group with a policy, running.
    pub fn up_with(&mut self, gid: u32, actor: &str, policy: Policy) {
        self.run_with(actor, gid, policy);
        self.loaded(actor);
    }

    pub fn run(&mut self, actor: &str, gid: u32) -> Vec<String> {
        self.run_by(actor, Some(gid), Requester::Owner)
    }

    pub fn run_ordinary(&mut self, actor: &str) -> Vec<String> {
        self.run_by(actor, None, Requester::Owner)
    }

    pub fn spawn(&mut self, spawner: &str, actor: &str) -> Vec<String> {
        let by = self.as_life(spawner);
        self.run_by(actor, None, by)
    }

    pub fn loaded(&mut self, actor: &str) -> Vec<String> {
        let actor = self.key(actor);
        self.step(Event::Loaded { actor })
    }

    pub fn load_failed(&mut self, actor: &str) -> Vec<String> {
        let actor = self.key(actor);
        self.step(Event::LoadFailed { actor })
    }

    /// Direct actors of a group, running.
    pub fn up(&mut self, gid: u32, actors: &[&str]) {
        for actor in actors {
            self.run(actor, gid);
            self.loaded(actor);
        }
    }

    pub fn up_ordinary(&mut self, actor: &str) {
        self.run_ordinary(actor);
        self.loaded(actor);
    }

    /// An indirect actor, running.
    pub fn up_indirect(&mut self, spawner: &str, actor: &str) {
        self.spawn(spawner, actor);
        self.loaded(actor);
    }

    pub fn ended_with(&mut self, actor: &str, code: u8) -> Vec<String> {
        self.ended_so(actor, false, Some(code))
    }

    fn ended_so(&mut self, actor: &str, clean: bool, exit_code: Option<u8>) -> Vec<String> {
        let (life, at_ms) = (self.life(actor), self.now);
        self.step(Event::Ended {
            actor: self.key(actor),
            life,
            clean,
            exit_code,
            at_ms,
        })
    }

    pub fn ended(&mut self, actor: &str) -> Vec<String> {
        self.ended_so(actor, false, None)
    }

    pub fn ended_clean(&mut self, actor: &str) -> Vec<String> {
        self.ended_so(actor, true, None)
    }

    pub fn gone(&mut self, actor: &str) -> Vec<String> {
        let life = self.life(actor);
        self.step(Event::Gone {
            actor: self.key(actor),
            life,
        })
    }

    pub fn begin_failed(&mut self, actor: &str) -> Vec<String> {
        let life = self.life(actor);
        self.step(Event::BeginFailed {
            actor: self.key(actor),
            life,
        })
    }

    /// A failure of the life, to its last remains.
    pub fn fails(&mut self, actor: &str) -> Vec<String> {
        let mut effects = self.ended(actor);
        effects.extend(self.gone(actor));
        effects
    }

    /// A clean termination of the life, to its last remains.
    pub fn ends_clean(&mut self, actor: &str) -> Vec<String> {
        let mut effects = self.ended_clean(actor);
        effects.extend(self.gone(actor));
        effects
    }

    pub fn kill(&mut self, target: Target, tidy: bool, by: Requester) -> Vec<String> {
        let ticket = self.ticket();
        self.step(Event::Kill {
            ticket,
            target,
            tidy,
            by,
        })
    }

    pub fn kill_group(&mut self, gid: u32) -> Vec<String> {
        self.kill(Target::Group(Gid(gid)), false, Requester::Owner)
    }

    pub fn kill_actor(&mut self, actor: &str) -> Vec<String> {
        let target = Target::Aid(self.aid(actor));
        self.kill(target, false, Requester::Owner)
    }

    pub fn site_restart(&mut self) -> Vec<String> {
        let ticket = Some(self.ticket());
        self.step(Event::SiteRestart { ticket })
    }

    pub fn boot_actors_reset(&mut self) -> Vec<String> {
        self.step(Event::BootActorsReset)
    }

    pub fn halt(&mut self, level: HaltLevel) -> Vec<String> {
        self.step(Event::Halt { level })
    }

    pub fn restore(&mut self, actor: &str, gid: u32, kind: Kind, lived: bool, clean: bool) {
        let (last_life, restarts) = if lived {
            (Some(LifeNo(4)), 2)
        } else {
            (None, 0)
        };
        let (name, gid) = (name(actor), Gid(gid));
        let none = self.step(Event::Restore {
            name,
            gid,
            kind,
            last_life,
            restarts,
            clean,
            policy: None,
        });
        assert!(none.is_empty(), "a restored registration provokes nothing");
        let key = self.controller.find_name(&name).expect("restored");
        self.keys.insert(actor.to_owned(), key);
    }

    pub fn name_of(&self, key: ActorKey) -> &str {
        let found = self.keys.iter().find(|(_, k)| **k == key);
        found.map_or("?", |(name, _)| name.as_str())
    }

    fn text(&self, effect: &Effect) -> String {
        match effect {
            Effect::Load {
                actor,
                ticket,
                kind,
                ..
            } => {
                format!("load {} for {} {kind:?}", self.name_of(*actor), ticket.0)
            }
            Effect::Begin {
                actor,
                life,
                aid,
                ticket,
            } => {
                let request = ticket.map_or(String::new(), |ticket| format!(" for {}", ticket.0));
                format!("begin {}.{life} aid {aid}{request}", self.name_of(*actor))
            }
            Effect::Stop { actor, life, how } => {
                let how = if *how == StopHow::Kill {
                    "kill"
                } else {
                    "tidy"
                };
                format!("stop {}.{life} {how}", self.name_of(*actor))
            }
            Effect::Forget { actor } => format!("forget {}", self.name_of(*actor)),
            Effect::GroupTerminated { gid } => format!("group {gid} terminated"),
            Effect::Started { ticket, aid } => format!("started {} aid {aid}", ticket.0),
            Effect::Done { ticket } => format!("done {}", ticket.0),
            Effect::Refused { ticket, why } => format!("refused {} {}", ticket.0, word(why)),
            Effect::GroupRestarts {
                gid,
                failed,
                badness,
            } => {
                format!(
                    "group {gid} restarts for {} badness {badness}",
                    self.name_of(*failed)
                )
            }
            Effect::Blocked { gid, names } => {
                let names: Vec<_> = names.iter().map(ActorName::as_str).collect();
                format!("group {gid} blocked by {}", names.join(" "))
            }
            Effect::Delay {
                gid,
                until_ms,
                delay_ms,
                attempt,
            } => format!("group {gid} waits {delay_ms} until {until_ms} attempt {attempt}"),
            Effect::GaveUp {
                gid,
                failed,
                reason,
                ..
            } => {
                format!(
                    "group {gid} given up for {} {reason:?}",
                    self.name_of(*failed)
                )
            }
            Effect::BadnessPassed { gid, badness } => format!("group {gid} passed {badness}"),
            Effect::ResetBootActors => "reset boot actors".to_owned(),
            Effect::Halted { level } => format!("halted {level:?}"),
        }
    }
}
