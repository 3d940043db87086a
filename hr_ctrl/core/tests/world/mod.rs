//! A pretend site: a daemon with random latencies, lives that do as they like, an owner who gives
//! commands, a catalogue, and a nucleus that starts another controller when one is gone.
//!
//! Nothing here decides about actors; it carries effects out and makes things happen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use hr_ctrl_core::{
    ActorKey, ActorState, Controller, Effect, Event, HaltLevel, Kind, Limits, Refusal, Requester,
    StopHow,
};
use refrain_abi::{ActorName, Aid, Gid, LifeNo};

use crate::judge::Judge;

mod adoption;
mod command;

const LIMITS: Limits = Limits {
    max_actors: 10,
    max_groups: 4,
    max_badness: 3,
    interval_ms: 3000,
};
const NAMES: u64 = 12;
const GIDS: u64 = 5;
/// Aids are reserved in the catalogue so many at a time.
const AID_STRIDE: u32 = 32;

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Something that comes about at its time.
#[derive(Clone, Debug)]
enum Happening {
    Tell(Event),
    /// The life ends, if it has not yet.
    LifeEnds {
        actor: ActorKey,
        life: LifeNo,
        clean: bool,
    },
    /// The owner, an actor or chance does something.
    Command,
}

/// One line of the catalogue.
#[derive(Clone, Debug)]
struct Registration {
    gid: Gid,
    kind: Kind,
    last_life: Option<LifeNo>,
    restarts: u32,
    clean: bool,
}

/// A life that has ended.
#[derive(Clone, Copy, Debug)]
struct Remains {
    life: LifeNo,
    clean: bool,
    exit_code: Option<u8>,
    ended_at: u64,
    gone_at: u64,
}

/// How often things came about, so that a run in which nothing happens does not pass for good.
#[derive(Clone, Debug, Default)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// See the module.
pub struct World {
    dice: Dice,
    controller: Controller,
    judge: Judge,
    /// By time, then in the order in which they were set.
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    now: u64,
    serial: u64,
    tickets: u64,
    /// The lives that have not ended, whatever the controller has been told.
    lives: BTreeMap<ActorKey, LifeNo>,
    /// How the last life of each actor ended that has ended, if one has.
    remains: BTreeMap<ActorKey, Remains>,
    /// The memos that outlive a controller.
    ledger: adoption::Ledger,
    /// In the order of registration.
    catalogue: Vec<(ActorName, Registration)>,
    aids_reserved: u32,
    deaths: u64,
    /// In calm, there are no more than these.
    deaths_at_most: u64,
    /// No commands any more, and lives go on until they are stopped.
    calm: bool,
    halted: bool,
    pub tally: Tally,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            dice: Dice(seed),
            controller: Controller::new(LIMITS, Aid(1)),
            judge: Judge::new(Aid(1)),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            now: 0,
            serial: 0,
            tickets: 0,
            lives: BTreeMap::new(),
            remains: BTreeMap::new(),
            ledger: adoption::Ledger::default(),
            catalogue: Vec::new(),
            aids_reserved: AID_STRIDE,
            deaths: 0,
            deaths_at_most: 0,
            calm: false,
            halted: false,
            tally: Tally::default(),
        };
        world.after(0, Happening::Command);
        world
    }

    /// Lets so many things happen.
    pub fn live(&mut self, happenings: usize) {
        for _ in 0..happenings {
            self.next();
        }
    }

    /// No more commands; everything that is under way comes to its end. Then looks at the result.
    pub fn come_to_rest(&mut self) {
        self.calm = true;
        self.deaths_at_most = self.deaths + 5;
        self.drain();
        self.judge.at_rest(&self.controller);
    }

    /// Halts the site at rest.
    pub fn halt(&mut self) {
        let levels = [HaltLevel::Halt, HaltLevel::Cold, HaltLevel::Immediate];
        let level = levels[self.dice.below(3) as usize];
        self.tell(Event::Halt { level });
        self.drain();
        assert!(self.halted, "the site does not halt");
        assert_eq!(
            self.controller.actors().count() + self.controller.groups().count(),
            0
        );
        assert!(self.lives.is_empty(), "a life is left");
    }

    fn drain(&mut self) {
        let mut left = 100_000;
        while self.next() {
            left -= 1;
            assert!(left > 0, "the site does not come to rest");
        }
    }

    fn after(&mut self, delay: u64, happening: Happening) {
        self.serial += 1;
        self.queue.push(Reverse((self.now + delay, self.serial)));
        self.happenings.insert(self.serial, happening);
    }

    fn soon(&mut self, most: u64, happening: Happening) {
        let delay = self.dice.below(most);
        self.after(delay, happening);
    }

    fn next(&mut self) -> bool {
        let Some(Reverse((at, serial))) = self.queue.pop() else {
            return false;
        };
        self.now = at;
        match self.happenings.remove(&serial).expect("queued once") {
            Happening::Tell(event) => self.tell(event),
            Happening::LifeEnds { actor, life, clean } => self.end_life(actor, life, clean),
            Happening::Command if self.calm => {}
            Happening::Command => {
                self.command();
                self.soon(60, Happening::Command);
            }
        }
        true
    }

    fn end_life(&mut self, actor: ActorKey, life: LifeNo, clean: bool) {
        if self.lives.get(&actor) != Some(&life) {
            return;
        }
        self.lives.remove(&actor);
        let at_ms = self.now;
        let exit_code = self.dice.one_in(2).then(|| self.dice.below(8) as u8);
        // The report may take its time, and what the life left behind takes its own.
        let report = self.dice.below(4);
        self.after(
            report,
            Happening::Tell(Event::Ended {
                actor,
                life,
                clean,
                exit_code,
                at_ms,
            }),
        );
        let remains = if self.dice.one_in(3) {
            self.dice.below(40)
        } else {
            0
        };
        let gone_at = self.now + report + remains;
        let ended = Remains {
            life,
            clean,
            exit_code,
            ended_at: at_ms,
            gone_at,
        };
        self.remains.insert(actor, ended);
        self.after(
            report + remains,
            Happening::Tell(Event::Gone { actor, life }),
        );
    }

    fn tell(&mut self, event: Event) {
        let effects = self.controller.step(event.clone());
        self.judge.observe(&event, &effects, &self.controller);
        self.write_catalogue();
        self.ledger.write(&mut self.controller);
        self.check_relays();
        // The controller may end at any point of what it has decided.
        let dies = self.dice.one_in(60) && (!self.calm || self.deaths < self.deaths_at_most);
        let done = if dies {
            self.dice.below(effects.len() as u64 + 1) as usize
        } else {
            effects.len()
        };
        for effect in effects.into_iter().take(done) {
            self.carry_out(effect);
        }
        if dies {
            self.die();
        }
    }

    /// What the controller says would restart at once does: its failure now, and at any time from now,
    /// comes to exactly its own next life.
    fn check_relays(&mut self) {
        let at_once = self.controller.actors().map(|view| view.key);
        let at_once = at_once.filter(|key| self.controller.restarts_at_once(*key));
        let Some(actor) = at_once.into_iter().next() else {
            return;
        };
        self.tally.count("life that may wake its successor");
        let mut controller = self.controller.clone();
        let Some(life) = controller.view(actor).and_then(|view| view.life) else {
            panic!("{actor:?} restarts at once without a life");
        };
        let at_ms = self.now + self.dice.clone().below(2 * LIMITS.interval_ms);
        let ended = Event::Ended {
            actor,
            life,
            clean: false,
            exit_code: Some(0),
            at_ms,
        };
        let effects = controller.step(ended);
        assert!(
            matches!(effects[..], [Effect::GroupRestarts { .. }]),
            "{effects:?}"
        );
        let effects = controller.step(Event::Gone { actor, life });
        let [
            Effect::Begin {
                actor: begun,
                life: next,
                ticket: None,
                ..
            },
        ] = effects[..]
        else {
            panic!("{effects:?}");
        };
        assert_eq!((begun, next), (actor, life.next()));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Load { actor, .. } => {
                let fails = self.dice.one_in(12);
                let event = if fails {
                    Event::LoadFailed { actor }
                } else {
                    Event::Loaded { actor }
                };
                self.soon(60, Happening::Tell(event));
            }
            Effect::Begin { actor, life, .. } => {
                assert!(
                    !self.lives.contains_key(&actor),
                    "two lives of {actor:?} run at once"
                );
                if self.dice.one_in(60) {
                    self.tally.count("life that could not begin");
                    self.soon(5, Happening::Tell(Event::BeginFailed { actor, life }));
                    return;
                }
                self.begin(actor, life);
            }
            Effect::Stop { actor, life, how } => {
                let most = if how == StopHow::Kill { 5 } else { 80 };
                let clean = self.dice.one_in(2);
                self.soon(most, Happening::LifeEnds { actor, life, clean });
            }
            Effect::ResetBootActors => {
                for _ in 0..self.dice.below(3) {
                    let event = self.run(None, Requester::Owner);
                    self.soon(20, Happening::Tell(event));
                }
                self.after(20, Happening::Tell(Event::BootActorsReset));
                self.tally.count("site restart");
            }
            Effect::Halted { .. } => self.halted = true,
            Effect::GroupRestarts { .. } => self.tally.count("group restart"),
            Effect::GroupTerminated { .. } => self.tally.count("group that terminated"),
            Effect::Delay { gid, until_ms, .. } => {
                self.tally.count("restart that waits");
                let delay = until_ms.saturating_sub(self.now);
                self.after(delay, Happening::Tell(Event::DelayOver { gid, until_ms }));
            }
            Effect::GaveUp { .. } => self.tally.count("group that was given up"),
            Effect::Blocked { .. } => self.tally.count("blocked group"),
            Effect::BadnessPassed { .. } => self.tally.count("badness past its limit"),
            Effect::Refused {
                why: Refusal::Cancelled,
                ..
            } => self.tally.count("cancelled start"),
            Effect::Refused { .. } => self.tally.count("refusal"),
            Effect::Started { .. } => self.tally.count("start"),
            Effect::Done { .. } => self.tally.count("kill or restart carried out"),
            Effect::Forget { .. } => {}
        }
    }

    fn begin(&mut self, actor: ActorKey, life: LifeNo) {
        self.lives.insert(actor, life);
        // Some live until they are stopped.
        if !self.calm && !self.dice.one_in(4) {
            let clean = self.dice.one_in(2);
            self.soon(300, Happening::LifeEnds { actor, life, clean });
        }
    }

    /// The bank holds what the controller holds, at once; what is being loaded is not in it yet.
    fn write_catalogue(&mut self) {
        let registered = self
            .controller
            .actors()
            .filter(|a| a.state != ActorState::Loading);
        self.catalogue = registered
            .filter_map(|a| {
                let (kind, last_life, restarts) = (a.kind, a.life, a.restarts);
                let clean = a.terminated_clean;
                let gid = a.gid?;
                Some((
                    *a.name,
                    Registration {
                        gid,
                        kind,
                        last_life,
                        restarts,
                        clean,
                    },
                ))
            })
            .collect();
        while self.controller.next_aid().0 >= self.aids_reserved {
            self.aids_reserved += AID_STRIDE;
        }
    }

    /// The controller crashes. Its lives end with it, whoever waits for an answer has lost his
    /// connection, and a new controller begins from what the bank holds.
    fn crash(&mut self) {
        self.tally.count("controller crash");
        self.queue.clear();
        self.happenings.clear();
        self.lives.clear();
        self.remains.clear();
        self.ledger = adoption::Ledger::default();
        let first_aid = Aid(self.aids_reserved);
        self.controller = Controller::new(LIMITS, first_aid);
        self.judge = Judge::new(first_aid);
        for (name, held) in self.catalogue.clone() {
            let Registration {
                gid,
                kind,
                last_life,
                restarts,
                clean,
            } = held;
            let event = Event::Restore {
                name,
                gid,
                kind,
                last_life,
                restarts,
                clean,
                policy: None,
            };
            assert_eq!(self.controller.step(event.clone()), []);
            self.judge.restored(&event, &self.controller);
        }
        self.tell(Event::SiteRestart { ticket: None });
        self.soon(60, Happening::Command);
    }
}
