//! What HR_CTRL holds and does: the engine that carries out the decisions of `hr_ctrl_core`.
//!
//! One thread, HR_CTRL's arbiter, owns it. Events come from the fds it watches and from messages
//! of the other boot actors; each goes through [`Engine::step`], one at a time, whatever their
//! number. What must happen before the next life runs is done at once, in the order of the
//! effects; everything else (catalogue, log, next standby) is put off until after the wake-up.
//!
//! The restart path reads: [`ends`] (a life has ended, is anything left of it?) -> `step` ->
//! [`begin`] (wake the standby); [`relay`] is the way round it, by which a failing life does that
//! itself. [`stop`] ends the other members of a group. [`template`] keeps standbys ready, at the pace
//! that [`pace`] sets, [`policy`] has groups wait, [`load`] brings images in, [`warm`] takes one that a life
//! has made, [`forget`] clears up, [`tell`] and [`happened`] say what happened, [`hang`] notices lives that do
//! nothing any more. [`supervised`] does all of this for actors in this very process, and [`together`] has
//! groups of them restart by themselves.

mod adopt;
mod ahead;
mod begin;
mod build;
mod claims;
mod ends;
mod forget;
mod hang;
mod happened;
mod images;
mod kept;
mod limit;
mod load;
mod pace;
mod policy;
mod relay;
mod runtime;
mod stop;
mod supervised;
mod sweep;
mod tell;
mod template;
mod together;
mod view;
mod warm;

pub(crate) use adopt::{Adopted, adopt};
pub(crate) use warm::ImageAnswer;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use actix::Addr;
use hr_ctrl_core::{
    ActorKey, Changed, Controller, Effect, Event, HaltLevel, Limits, Ticket, blocked_message,
};
use refrain_abi::tunables::{HrCtrlTunables, Tunables};
use refrain_abi::{Aid, Gid, LifeNo};
use refrain_sys::{PidFd, clock};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::containment::Containment;
use crate::events::SiteEvent;
use crate::ledger::Ledger;
use crate::nucleus_link::NucleusLink;
use crate::output::Output;
use crate::pmm::{self, Pmm};
use crate::site::{SiteError, StartSpec};
use crate::supervise::{Host, LifeShared, Together};
use happened::Happened;
use images::Images;
use runtime::ActorRuntime;
use supervised::Supervised;

/// What HR_CTRL asks of the thread that holds C_INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootOrder {
    /// Bring PMM and C_INIT to their initial state, read `sysadm.ini` without its starts of
    /// restartable actors, and report [`Event::BootActorsReset`].
    Reset,
    /// Everything has ended: close the bank and end the site, or start it cold.
    Halted(HaltLevel),
}

/// Who waits for an answer, and what with.
pub(crate) enum Pending {
    /// `arun` or `hrfexec`.
    Run(Box<RunRequest>),
    /// `akill`, `restart`.
    Other(oneshot::Sender<Result<(), SiteError>>),
}

/// A request to run an actor.
pub struct RunRequest {
    /// What to run.
    pub spec: StartSpec,
    /// stdin, stdout and stderr of an indirect actor.
    pub stdio: Option<[OwnedFd; 3]>,
    /// The slot of a supervisor actor.
    pub(crate) host: Option<Host>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Aid, SiteError>>,
}

/// The parts of the site that the engine works with.
pub struct Parts {
    /// The tunables.
    pub tunables: Tunables,
    /// The bank's directory.
    pub bank: PathBuf,
    /// The bank's actor.
    pub pmm: Addr<Pmm>,
    /// Console and log.
    pub output: Output,
    /// The way to nucleus; `None` in an embedding program.
    pub nucleus: Option<NucleusLink>,
    /// How children of lives are found and ended.
    pub containment: Containment,
    /// Whoever wants to know what happens.
    pub events: broadcast::Sender<SiteEvent>,
    /// Orders to the thread of C_INIT.
    pub orders: mpsc::UnboundedSender<BootOrder>,
    /// The first aid to give out.
    pub first_aid: Aid,
    /// Below which aids are reserved in the bank.
    pub aids_reserved: Aid,
}

/// See the module.
pub struct Engine {
    me: Weak<RefCell<Engine>>,
    core: Controller,
    /// User actors.
    actors: HashMap<ActorKey, ActorRuntime>,
    /// Supervisor actors.
    supervised: HashMap<ActorKey, Supervised>,
    /// Their groups.
    together: HashMap<Gid, Arc<Together>>,
    /// Lives that have begun already, while their beginning is booked.
    booked: HashMap<ActorKey, Arc<LifeShared>>,
    /// Of supervisor actors, in this turn: what is done off the path is still to come.
    begun: Vec<(ActorKey, LifeNo)>,
    tickets: HashMap<Ticket, Pending>,
    last_ticket: u64,
    effects: Vec<Effect>,
    deferred: VecDeque<Event>,
    parts: Parts,
    null: OwnedFd,
    images: Arc<Images>,
    /// Halt as soon as nothing is left (`c_init --once`).
    once: bool,
    halting: bool,
    group_restarts: HashMap<Gid, u64>,
    /// Templates, standbys and lives of forgotten actors, and commands that check, that have not ended yet.
    clearing: usize,
    /// How many commands have checked an actor.
    checks: u64,
    /// The halt that waits for them.
    halted: Option<HaltLevel>,
    /// Members that were asked to stop and have not answered yet.
    asked: Vec<ActorKey>,
    /// Lives that have failed, whose end is still to be told to others.
    put_off: Vec<(ActorKey, LifeNo)>,
    /// Lives that have stopped by themselves and are still to be ended.
    stopped: Vec<Rc<PidFd>>,
    /// Actors whose next standby waits for its turn.
    paced: VecDeque<ActorKey>,
    /// What is to be told to a program that embeds the site.
    happened: Happened,
    /// What the next hr_ctrl has to know of the core's decisions.
    ledger: Ledger,
    /// For what a step has changed: kept, so that the restart path allocates nothing.
    changed: Vec<Changed>,
    /// For the members of a cgroup: kept, so that the restart path allocates nothing.
    members: Vec<u32>,
}

pub(crate) type SharedEngine = Rc<RefCell<Engine>>;

/// How many aids are reserved in the bank at a time.
const AID_STRIDE: u32 = 4096;

fn limits(tunables: &HrCtrlTunables) -> Limits {
    Limits {
        max_actors: tunables.max_actors,
        max_groups: tunables.max_groups,
        max_badness: tunables.max_badness,
        interval_ms: tunables.interval_ms,
    }
}

impl Engine {
    /// An engine without actors.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened.
    pub fn new(parts: Parts) -> io::Result<SharedEngine> {
        let null = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?
            .into();
        let limits = limits(&parts.tunables.hr_ctrl);
        let core = Controller::new(limits, parts.first_aid);
        let mut ledger = Ledger::create(limits.max_actors, limits.max_groups)?;
        ledger.write(&core, &[Changed::Site]);
        ledger.site().set_started_ms(clock::now_monotonic_ms());
        Ok(Rc::new_cyclic(|me| {
            RefCell::new(Self {
                me: me.clone(),
                core,
                actors: HashMap::new(),
                supervised: HashMap::new(),
                together: HashMap::new(),
                booked: HashMap::new(),
                begun: Vec::new(),
                tickets: HashMap::new(),
                last_ticket: 0,
                effects: Vec::new(),
                deferred: VecDeque::new(),
                happened: Happened::new(parts.events.clone()),
                parts,
                null,
                images: Arc::default(),
                once: false,
                halting: false,
                group_restarts: HashMap::new(),
                clearing: 0,
                checks: 0,
                halted: None,
                asked: Vec::new(),
                put_off: Vec::new(),
                stopped: Vec::new(),
                paced: VecDeque::new(),
                ledger,
                changed: Vec::with_capacity(64),
                members: Vec::with_capacity(64),
            })
        }))
    }

    pub(crate) fn shared(&self) -> SharedEngine {
        self.me
            .upgrade()
            .expect("the engine is borrowed, so its owner holds it")
    }

    pub(crate) fn ticket(&mut self, pending: Pending) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.tickets.insert(ticket, pending);
        ticket
    }

    /// Feeds one event to the core and carries out what it decides.
    pub fn step(&mut self, event: Event) {
        self.take_back_for(&event);
        self.deferred.push_back(event);
        // Carrying out an effect may report further events; they wait their turn here.
        if self.deferred.len() > 1 {
            return;
        }
        while let Some(event) = self.deferred.front().cloned() {
            let mut effects = std::mem::take(&mut self.effects);
            self.core.step_into(event, &mut effects);
            self.write_down();
            for effect in effects.drain(..) {
                self.carry_out(effect);
            }
            self.effects = effects;
            self.deferred.pop_front();
        }
        self.halt_if_done();
    }

    /// Writes down what the core has decided, before any of it is carried out.
    fn write_down(&mut self) {
        let mut changed = std::mem::take(&mut self.changed);
        self.core.take_changed(&mut changed);
        self.ledger.write(&self.core, &changed);
        changed.clear();
        self.changed = changed;
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Begin {
                actor,
                life,
                aid,
                ticket,
            } => self.begin(actor, life, aid, ticket),
            Effect::Stop { actor, life, how } => self.stop(actor, life, how),
            Effect::Load {
                actor,
                ticket,
                name,
                gid,
                kind,
            } => {
                self.load(actor, ticket, name, gid, kind);
            }
            Effect::Forget { actor } => self.forget(actor),
            Effect::GroupTerminated { gid } => {
                self.parts.pmm.do_send(pmm::TerminateGroup(gid));
                self.happens(|| SiteEvent::GroupTerminated { gid });
            }
            Effect::Started { ticket, aid } => self.answer_run(ticket, Ok(aid)),
            Effect::Done { ticket } => self.answer(ticket, Ok(())),
            Effect::Refused { ticket, why } => {
                let why = SiteError::Refused(why);
                match self.tickets.get(&ticket) {
                    Some(Pending::Run(_)) => self.answer_run(ticket, Err(why)),
                    _ => self.answer(ticket, Err(why)),
                }
            }
            Effect::GroupRestarts {
                gid,
                failed,
                badness,
            } => {
                self.group_restarts(gid, failed, badness);
            }
            Effect::Delay {
                gid,
                until_ms,
                delay_ms,
                attempt,
            } => {
                self.delay(gid, until_ms, delay_ms, attempt);
            }
            Effect::GaveUp {
                gid,
                failed,
                badness,
                reason,
            } => {
                self.say_gave_up(gid, failed, badness, reason);
            }
            Effect::Blocked { gid, names } => {
                self.parts.output.say(blocked_message(gid, &names));
                self.happens(|| SiteEvent::GroupBlocked { gid, names });
            }
            Effect::BadnessPassed { gid, badness } => {
                self.parts.output.say(format!(
                    "HR_CTRL: group {gid} was restarted {badness} times within the interval: site restart \
                     (akill -g {gid} ends the group)"
                ));
                self.happens(|| SiteEvent::LimitPassed { gid, badness });
            }
            Effect::ResetBootActors => {
                self.ledger.site().count_restart();
                self.site_restart_begins();
                let _ = self.parts.orders.send(BootOrder::Reset);
            }
            Effect::Halted { level } => {
                self.halted = Some(level);
                self.happens(|| SiteEvent::Halted);
            }
        }
    }

    pub(crate) fn answer_run(&mut self, ticket: Ticket, result: Result<Aid, SiteError>) {
        if let Some(Pending::Run(request)) = self.tickets.remove(&ticket) {
            let _ = request.answer.send(result);
        }
    }

    fn answer(&mut self, ticket: Ticket, result: Result<(), SiteError>) {
        if let Some(Pending::Other(answer)) = self.tickets.remove(&ticket) {
            let _ = answer.send(result);
        }
    }

    /// `--once`: from now on the site halts when nothing is left.
    pub fn arm_once(&mut self) {
        self.once = true;
        self.halt_if_done();
    }

    fn halt_if_done(&mut self) {
        if self.once && !self.halting && self.core.is_idle() && self.tickets.is_empty() {
            self.halt(HaltLevel::Halt);
        }
        if self.clearing == 0
            && let Some(level) = self.halted.take()
        {
            let _ = self.parts.orders.send(BootOrder::Halted(level));
        }
    }

    /// Brings the site to its end.
    pub fn halt(&mut self, level: HaltLevel) {
        self.halting = true;
        self.step(Event::Halt { level });
    }

    /// After a cold halt: as at the first start, but for the aids, which go on.
    pub fn start_cold(&mut self) {
        let next = self.core.next_aid();
        self.core = Controller::new(limits(&self.parts.tunables.hr_ctrl), next);
        self.ledger.write(&self.core, &[Changed::Site]);
        self.halting = false;
        self.group_restarts.clear();
    }

    /// The site has ended: what it was contained in goes, too.
    pub fn clear_up(&mut self) {
        self.pass_on();
        std::mem::replace(
            &mut self.parts.containment,
            Containment::Sweep {
                site: String::new(),
                why: String::new(),
            },
        )
        .remove();
    }

    /// Keeps the bank's reservation of aids ahead of those given out.
    fn reserve_aids(&mut self, given: Aid) {
        if given.0.saturating_add(AID_STRIDE / 2) >= self.parts.aids_reserved.0 {
            self.parts.aids_reserved = Aid(given.0.saturating_add(AID_STRIDE));
            self.parts
                .pmm
                .do_send(pmm::ReserveAids(self.parts.aids_reserved));
        }
    }
}
