//! Supervisor actors: the same effects, carried out in this very process ([`crate::supervise`]).
//!
//! The core does not know the mode of an actor. Where a user actor has a template and a standby, a supervisor
//! actor has a *host*: the factory that makes its next life stands always ready. `Load` is done at once;
//! `Begin` and `Stop` go to the slot on its arbiter, which reports an end when nothing of the life is left,
//! so `Ended` and `Gone` go to the core back to back.
//!
//! **After the program has ended** and was started again, the bank knows the actor and nobody has its
//! factory. The core restores and restarts it like any other; its life is decided, and begins when the
//! program registers it again ([`Engine::take_place`]). Until then `aps` shows it as `loading`, and its group
//! has not terminated. Below a nucleus it is adopted like that, too: its life has failed with the program, so
//! its group restarts; other groups notice nothing ([`Engine::adopt_supervised`]).

mod adopted;
mod after;

use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use hr_ctrl_core::{ActorKey, ActorState, ActorView, Event, GroupState, Kind, StopHow, Ticket};
use refrain_abi::{ActorName, Aid, Capability, Gid, LifeNo, Serial};
use refrain_sys::clock;

use super::kept::Registered;
use super::{Engine, Pending};
use crate::hr_ctrl::SupervisedEnded;
use crate::ledger::Numbered;
use crate::limits::LimitRows;
use crate::pmm;
use crate::site::{ActorInfo, SiteError, StartSpec};
use crate::supervise::{Command, Credentials, Host, LifeShared};

/// How the end of a life was noticed, in `aps`: by HR_CTRL, from its arbiter's report.
const REPORTED: &str = "report";

/// One registered supervisor actor.
pub(crate) struct Supervised {
    spec: StartSpec,
    gid: Gid,
    /// `None`: the bank knows it, and its program has not registered it again yet.
    host: Option<Host>,
    life: Option<Own>,
    /// A life that is decided and waits for a host.
    begin: Option<(LifeNo, Aid)>,
    /// It is entered in the bank.
    registered: bool,
    last_end: Option<String>,
    /// How that was noticed.
    last_notice: Option<&'static str>,
    last_aid: Option<Aid>,
    /// Group restarts that its ends provoked and that the console is still to be told of.
    untold: Vec<Restart>,
}

/// The life that runs.
struct Own {
    shared: Arc<LifeShared>,
    credentials: Credentials,
    began_ms: u64,
}

/// A group restart, to be told.
struct Restart {
    badness: u32,
    how: String,
    /// It comes after a delay.
    waits: bool,
}

impl Supervised {
    fn new(spec: StartSpec, gid: Gid, host: Option<Host>) -> Self {
        Self {
            gid,
            spec,
            host,
            life: None,
            begin: None,
            registered: false,
            last_end: None,
            last_notice: None,
            last_aid: None,
            untold: Vec::new(),
        }
    }

    fn name(&self) -> ActorName {
        self.spec.name
    }

    fn registration(&self) -> Registered {
        Registered {
            start: self.spec.clone(),
            image: None,
            supervised: true,
        }
    }

    pub(super) fn is_in(&self, life: LifeNo) -> bool {
        self.life
            .as_ref()
            .is_some_and(|own| own.shared.no() == life)
    }

    /// The capability of its life, if that has this aid.
    pub(super) fn capability_of(&self, aid: Aid) -> Option<Capability> {
        let told = self.life.as_ref()?.credentials;
        (told.aid == aid).then_some(told.capability)
    }

    /// Its row of `aps`.
    pub(super) fn info(&self, view: &ActorView<'_>) -> ActorInfo {
        let life = self.life.as_ref();
        let aid = life.map(|life| life.credentials.aid);
        ActorInfo {
            name: view.name.to_string(),
            gid: view.gid.map(|gid| gid.0),
            aid: aid.or(view.aid).or(self.last_aid).map(|aid| aid.0),
            capability: life.map(|life| life.credentials.capability.to_string()),
            // That of the controller, which is no way to end it.
            pid: None,
            kind: match view.kind {
                Kind::Direct => "direct",
                Kind::Indirect => "indirect",
                Kind::Ordinary => "ordinary",
            },
            mode: "supervisor",
            state: match view.state {
                ActorState::Ending => ActorState::Stopping.as_str(),
                ActorState::Running if life.is_none() => ActorState::Loading.as_str(),
                state => state.as_str(),
            },
            life: view.life.map(|life| life.0),
            restarts: view.restarts,
            start: Some("factory"),
            image: "cold",
            start_reason: self
                .host
                .is_none()
                .then(|| "its program has not registered it again".to_owned()),
            last_end: self.last_end.clone(),
            notice: self.last_notice,
            failure: None,
            limits: LimitRows::default(),
            user: None,
            no_new_privs: false,
            keeper: false,
            watch: None,
            path: self.spec.program.clone(),
            uptime_ms: life.map(|life| clock::now_monotonic_ms().saturating_sub(life.began_ms)),
        }
    }
}

impl Engine {
    /// Whether a host may be given to an actor of this name, if there is one.
    ///
    /// # Errors
    /// It is a user actor, or lives on the same arbiter as HR_CTRL.
    pub(crate) fn may_supervise(&self, name: ActorName, host: &Host) -> Result<(), SiteError> {
        let known = self.core.find_name(&name);
        if known.is_some_and(|actor| self.actors.contains_key(&actor)) {
            let mode = "user";
            return Err(SiteError::OtherMode { name, mode });
        }
        if host.thread == std::thread::current().id() {
            let why = "no actor lives on the arbiter that restarts it; choose another";
            return Err(SiteError::NotLoaded(format!("{name}: {why}")));
        }
        Ok(())
    }

    /// The program that had registered an actor was started again and registers it again: its life, which is
    /// decided, begins, or will when its group has stopped. Gives the host back where that is not so.
    pub(crate) fn take_place(
        &mut self,
        name: ActorName,
        gid: Option<Gid>,
        host: Host,
    ) -> Result<(), Host> {
        let Some(actor) = self.core.find_name(&name) else {
            return Err(host);
        };
        let Some(supervised) = self.supervised.get_mut(&actor) else {
            return Err(host);
        };
        if supervised.host.is_some() || Some(supervised.gid) != gid {
            return Err(host);
        }
        let group = self.core.group(supervised.gid);
        let restarts = group.is_some_and(|group| group.state == GroupState::Restarting);
        match supervised.begin.take() {
            Some((life, aid)) => {
                supervised.host = Some(host);
                self.begin_hosted(actor, life, aid);
                Ok(())
            }
            None if restarts => {
                supervised.host = Some(host);
                Ok(())
            }
            None => Err(host),
        }
    }

    /// Whether a supervisor actor has a life.
    pub(super) fn is_hosted(&self, actor: ActorKey) -> bool {
        self.supervised
            .get(&actor)
            .is_some_and(|s| s.life.is_some())
    }

    /// Carries out `Load`.
    pub(super) fn load_supervised(
        &mut self,
        actor: ActorKey,
        spec: StartSpec,
        (gid, host): (Gid, Host),
    ) {
        self.together.entry(gid).or_default();
        let supervised = Supervised::new(spec, gid, Some(host));
        self.keep_supervised(actor, &supervised);
        self.supervised.insert(actor, supervised);
        self.deferred.push_back(Event::Loaded { actor });
    }

    /// At boot: an actor that the bank or nucleus knows.
    pub(super) fn restore_supervised(&mut self, actor: ActorKey, gid: Gid, spec: StartSpec) {
        let mut supervised = Supervised::new(spec, gid, None);
        supervised.registered = true;
        self.keep_supervised(actor, &supervised);
        self.together.entry(gid).or_default();
        self.supervised.insert(actor, supervised);
    }

    /// Carries out `Begin`.
    pub(super) fn begin_supervised(
        &mut self,
        actor: ActorKey,
        life: LifeNo,
        aid: Aid,
        ticket: Option<Ticket>,
    ) {
        let host = ticket.and_then(|ticket| match self.tickets.get_mut(&ticket)? {
            Pending::Run(request) => request.host.take(),
            Pending::Other(_) => None,
        });
        let Some(supervised) = self.supervised.get_mut(&actor) else {
            return;
        };
        if let Some(host) = host {
            supervised.host = Some(host);
        }
        if supervised.host.is_none() {
            supervised.begin = Some((life, aid));
        } else {
            self.begin_hosted(actor, life, aid);
        }
    }

    fn begin_hosted(&mut self, actor: ActorKey, life: LifeNo, aid: Aid) {
        let Some(supervised) = self.supervised.get_mut(&actor) else {
            return;
        };
        let Some(host) = &supervised.host else { return };
        let credentials = Credentials {
            aid,
            capability: random_capability(),
        };
        let booked = self.booked.remove(&actor).filter(|b| b.no() == life);
        let is_booked = booked.is_some();
        let shared = booked.unwrap_or_else(|| host.life(life));
        shared.tell(credentials);
        let group = self.together.entry(supervised.gid).or_default();
        let begin = Command::Begin(actor, Arc::clone(&shared), Arc::clone(group));
        if !is_booked && !host.tell(begin) {
            let name = supervised.name();
            let why = "its arbiter has ended";
            let line = format!("HR_CTRL: {name} cannot be started again: {why}");
            self.parts.output.say(line);
            return self.step(Event::BeginFailed { actor, life });
        }
        let began_ms = clock::now_monotonic_ms();
        if let Some(own) = self.ledger.own(actor) {
            // Nobody is woken: all that the next life of the program asks is whether there was one.
            let serial = Serial(1);
            own.set_life(
                Numbered { life, serial },
                0,
                began_ms,
                credentials.capability,
            );
        }
        supervised.life = Some(Own {
            shared,
            credentials,
            began_ms,
        });
        self.life_began(actor, life, aid);
        self.begun.push((actor, life));
        if self.begun.len() == 1 {
            let engine = self.shared();
            actix_rt::spawn(async move {
                tokio::task::yield_now().await;
                engine.borrow_mut().after_supervised_begins();
            });
        }
    }

    /// Carries out `Stop`.
    pub(super) fn stop_supervised(&mut self, actor: ActorKey, life: LifeNo, how: StopHow) {
        let Some(supervised) = self.supervised.get_mut(&actor) else {
            return;
        };
        if supervised.begin.take_if(|begin| begin.0 == life).is_some() {
            let (clean, exit_code, at_ms) = (false, None, clock::now_monotonic_ms());
            self.deferred.push_back(Event::Ended {
                actor,
                life,
                clean,
                exit_code,
                at_ms,
            });
            self.deferred.push_back(Event::Gone { actor, life });
            return;
        }
        if self.booked.contains_key(&actor) {
            return; // That life is gone, and the one that follows it runs.
        }
        let tidy = how == StopHow::Tidy;
        supervised.tell(Command::Stop { life, tidy });
        if tidy {
            let grace = Duration::from_millis(self.parts.tunables.hr_ctrl.grace_ms);
            let engine = self.shared();
            actix_rt::spawn(async move {
                tokio::time::sleep(grace).await;
                let tidy = false;
                if let Some(supervised) = engine.borrow().supervised.get(&actor) {
                    supervised.tell(Command::Stop { life, tidy });
                }
            });
        }
    }

    /// The slot has reported the end of a life.
    pub(crate) fn supervised_ended(&mut self, ended: SupervisedEnded) {
        let SupervisedEnded {
            actor,
            life,
            clean,
            how,
            at_ms,
        } = ended;
        if let Some(gid) = self.supervised.get(&actor).map(|supervised| supervised.gid) {
            self.take_back_together(gid);
        }
        let is_it = |supervised: &Supervised| supervised.is_in(life);
        if !self.supervised.get(&actor).is_some_and(is_it) {
            return;
        }
        self.end_supervised(actor, clean, (how, REPORTED));
        self.step(Event::Ended {
            actor,
            life,
            clean,
            exit_code: None,
            at_ms,
        });
        self.step(Event::Gone { actor, life });
        if clean {
            self.note_clean_end(actor, life);
        }
        self.tell_supervised_restarts(actor);
    }

    /// Takes down that the life of an actor has ended; the core is not told here.
    pub(super) fn end_supervised(
        &mut self,
        actor: ActorKey,
        clean: bool,
        (how, notice): (String, &'static str),
    ) {
        let Some(supervised) = self.supervised.get_mut(&actor) else {
            return;
        };
        let Some(own) = supervised.life.take() else {
            return;
        };
        supervised.last_end = Some(how.clone());
        supervised.last_notice = Some(notice);
        let named = (supervised.name(), Some(supervised.gid));
        let life = own.shared.no();
        if own.shared.has_attached() {
            self.parts.pmm.do_send(pmm::LifeEnded { actor, life });
        }
        self.life_is_over(named, (life, own.credentials.aid), clean, Some(how));
    }

    /// `GroupRestarts` of a group whose failed member is a supervisor actor.
    pub(super) fn note_supervised_restart(&mut self, gid: Gid, failed: ActorKey, badness: u32) {
        let waits = self.core.group(gid).is_some_and(|group| group.delay_ms > 0);
        let Some(supervised) = self.supervised.get_mut(&failed) else {
            return;
        };
        let how = supervised.last_end.clone().unwrap_or_default();
        supervised.untold.push(Restart {
            badness,
            how,
            waits,
        });
    }

    /// Carries out `Forget`.
    pub(super) fn forget_supervised(&mut self, actor: ActorKey) {
        self.tell_supervised_restarts(actor);
        let Some(supervised) = self.supervised.remove(&actor) else {
            return;
        };
        supervised.tell(Command::Close);
        if supervised.registered {
            self.parts.pmm.do_send(pmm::Deregister(supervised.name()));
        }
        self.parts.pmm.do_send(pmm::ForgetActor(actor));
        if let Some(nucleus) = &self.parts.nucleus {
            nucleus.let_actor_go(actor.0);
        }
        let gid = supervised.gid;
        if !self.supervised.values().any(|other| other.gid == gid) {
            self.together.remove(&gid);
        }
    }
}

impl Supervised {
    /// The thread that its life runs on.
    pub(super) fn thread(&self) -> Option<ThreadId> {
        self.life
            .as_ref()
            .and(self.host.as_ref())
            .map(|host| host.thread)
    }

    pub(super) fn tell(&self, command: Command) {
        if let Some(host) = &self.host {
            // A slot that is gone has reported the end of its life.
            host.tell(command);
        }
    }
}

fn random_capability() -> Capability {
    let mut bytes = [0; 16];
    refrain_sys::clock::random_bytes(&mut bytes).expect("the kernel has random bytes");
    Capability(bytes)
}
