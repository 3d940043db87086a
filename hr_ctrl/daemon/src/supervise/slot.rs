//! Where the lives of one supervisor actor run, one after the other, on its arbiter.
//!
//! actix's own `Supervisor` re-uses the object and does not survive a panic: an actor's future unwinds through
//! the arbiter. So a slot polls the future of the life's context itself, within `catch_unwind`, and owns the
//! delivery of messages: they wait in the actor's mailbox, which outlives its lives, and a future in each
//! life's context takes them out.
//!
//! Called by HR_CTRL through [`Command`]s, and by its arbiter. It reports each end, when nothing of the life is
//! left, and must never begin a life that HR_CTRL has not decided, or allowed beforehand.
//!
//! # One life at a time (invariants 1 and 2)
//! A slot holds one life or none, and begins one only when it holds none. An ended life is dropped before its
//! end is reported: its object, the futures in its context, and those that it has spawned on its arbiter, which
//! run in a `LocalSet` of the life's own. What a life has given to *other* threads (a thread that it started, a
//! clone of its [`super::Life`]) cannot be taken back within one Linux process; its requests are refused.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Turn, Poll, Waker};

use actix::dev::{ContextFut, Envelope, EnvelopeProxy};
use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, AsyncContext, Context};
use hr_ctrl_core::ActorKey;
use refrain_abi::LifeNo;
use refrain_sys::clock;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;

use super::life::{Ground, Life, LifeShared};
use super::mailbox::Mailbox;
use super::panics::{self, Said};
use super::together::{self, Member, Together};
use crate::hr_ctrl::{RestartedTogether, SupervisedEnded};

/// How many messages a life handles before others on its arbiter have their turn.
const TURN: u32 = 64;

/// What HR_CTRL tells a slot.
pub(crate) enum Command {
    /// Begin this life.
    Begin(ActorKey, Arc<LifeShared>, Arc<Together>),
    /// Stop it: `tidy`, by `Actor::stopping` and `stopped`; else without another line of it.
    Stop { life: LifeNo, tidy: bool },
    /// The actor is not registered any more.
    Close,
}

/// How a life ended, but for the exit handler.
pub(super) enum End {
    /// Its context stopped.
    Stopped,
    /// Its context stopped when HR_CTRL had told it to.
    Told,
    /// It panicked, and said this.
    Panicked(Said),
    /// HR_CTRL has stopped it.
    Killed,
    /// The arbiter has ended.
    Abandoned,
}

impl End {
    /// As `aps` shows it.
    pub fn words(&self) -> Cow<'static, str> {
        match self {
            Self::Told => "told to stop".into(),
            Self::Stopped => "stopped without the exit handler".into(),
            Self::Panicked(said) => said.to_string().into(),
            Self::Killed => "killed".into(),
            Self::Abandoned => "its arbiter has ended".into(),
        }
    }

    fn into_words(self, clean: bool) -> String {
        match self {
            Self::Stopped if clean => "clean".to_owned(),
            end if clean => format!("clean, {}", end.words()),
            end => end.words().into_owned(),
        }
    }
}

/// The life that runs.
struct Running<A: Actor<Context = Context<A>>> {
    life: Arc<LifeShared>,
    /// Its object in its context; or why it could not be made.
    made: Result<ContextFut<A, Context<A>>, Said>,
    /// What it spawns on its arbiter.
    beside: LocalSet,
    /// HR_CTRL has told it to stop.
    told: bool,
}

/// See the module.
pub(super) struct Slot<A: Actor<Context = Context<A>>> {
    ground: Arc<Ground>,
    mailbox: Arc<Mailbox<A>>,
    factory: RefCell<Factory<A>>,
    running: RefCell<Option<Running<A>>>,
    /// Of the future that polls this slot.
    waker: RefCell<Option<Waker>>,
    is_closed: Cell<bool>,
    /// Its group.
    group: OnceCell<Arc<Together>>,
    /// HR_CTRL is to be told of a restart in place.
    untold: Cell<bool>,
}

pub(super) type Factory<A> = Box<dyn FnMut(&Life) -> A>;

impl<A: Actor<Context = Context<A>>> Slot<A> {
    pub fn new(ground: Arc<Ground>, mailbox: Arc<Mailbox<A>>, factory: Factory<A>) -> Rc<Self> {
        Rc::new(Self {
            ground,
            mailbox,
            factory: RefCell::new(factory),
            running: RefCell::new(None),
            waker: RefCell::new(None),
            is_closed: Cell::new(false),
            group: OnceCell::new(),
            untold: Cell::new(false),
        })
    }

    /// Serves the slot until the actor is deregistered.
    pub async fn serve(self: Rc<Self>, commands: UnboundedReceiver<Command>) {
        let mut served = Served {
            slot: self,
            commands,
        };
        poll_fn(|turn| {
            let Served { slot, commands } = &mut served;
            slot.poll(commands, turn)
        })
        .await;
    }

    fn poll(
        self: &Rc<Self>,
        commands: &mut UnboundedReceiver<Command>,
        turn: &mut Turn<'_>,
    ) -> Poll<()> {
        let known = self
            .waker
            .borrow()
            .as_ref()
            .map(|w| w.will_wake(turn.waker()));
        if known != Some(true) {
            *self.waker.borrow_mut() = Some(turn.waker().clone());
        }
        loop {
            match commands.poll_recv(turn) {
                Poll::Ready(Some(Command::Begin(actor, life, group))) => {
                    let _ = self.ground.actor.set(actor);
                    if self.group.set(Arc::clone(&group)).is_ok() {
                        together::join(&group, Rc::clone(self) as Rc<dyn Member>);
                    }
                    self.begin_life(life);
                }
                Poll::Ready(Some(Command::Stop { life, tidy })) => self.stop(life, tidy),
                // HR_CTRL has forgotten the actor, or the site is gone.
                Poll::Ready(Some(Command::Close) | None) => {
                    self.is_closed.set(true);
                    return Poll::Ready(());
                }
                Poll::Pending => break,
            }
        }
        // A turn later than the lives that it is about.
        let untold = self.untold.take();
        while let Some(end) = self.poll_life(turn) {
            match self.restart_in_place(end) {
                Ok(()) => {}
                Err(end) => {
                    self.end_and_report(end);
                    break;
                }
            }
        }
        if self.untold.get() {
            // The others of the group are awake, and go first.
            turn.waker().wake_by_ref();
        }
        if untold {
            self.ground
                .hr_ctrl
                .do_send(RestartedTogether(self.ground.gid));
        }
        Poll::Pending
    }

    /// Makes a fresh object and its context. What it says first, it says when it is polled.
    fn begin_life(&self, life: Arc<LifeShared>) {
        debug_assert!(self.running.borrow().is_none(), "one life at a time");
        let beside = LocalSet::new();
        let made = {
            let _entered = beside.enter();
            panics::catch(|| {
                let object = (self.factory.borrow_mut())(&Life(Arc::clone(&life)));
                let mut context = Context::new();
                context.spawn(Pump {
                    mailbox: Arc::clone(&self.mailbox),
                    taken: None,
                });
                context.into_future(object)
            })
        };
        let is_made = made.is_ok();
        *self.running.borrow_mut() = Some(Running {
            life,
            made,
            beside,
            told: false,
        });
        if is_made {
            self.mailbox.serve();
        }
    }

    fn stop(&self, life: LifeNo, tidy: bool) {
        let mut running = self.running.borrow_mut();
        let Some(Running { made, told, .. }) = running.as_mut().filter(|r| r.life.no() == life)
        else {
            return; // It has ended by itself, which was reported.
        };
        match made {
            Ok(future) if tidy => {
                *told = true;
                future.ctx().stop();
            }
            _ => {
                drop(running);
                self.end_and_report(End::Killed);
            }
        }
    }

    /// Gives the life its turn; answers how it ended, if it did.
    fn poll_life(&self, turn: &mut Turn<'_>) -> Option<End> {
        let mut running = self.running.borrow_mut();
        let Running {
            made, beside, told, ..
        } = running.as_mut()?;
        let future = match made {
            Ok(future) => future,
            Err(said) => return Some(End::Panicked(std::mem::take(said))),
        };
        let polled = {
            let _entered = beside.enter();
            panics::catch(|| Pin::new(future).poll(turn))
        };
        match polled {
            Err(said) => return Some(End::Panicked(said)),
            Ok(Poll::Ready(())) if *told => return Some(End::Told),
            Ok(Poll::Ready(())) => return Some(End::Stopped),
            // What it said of a panic that it has caught by itself does not count.
            Ok(Poll::Pending) => drop(panics::take()),
        }
        let polled = panics::catch(|| Pin::new(beside).poll(turn).is_ready());
        // tokio has caught what unwound there.
        polled.err().or_else(panics::take).map(End::Panicked)
    }

    /// Drops the life: not a line of it runs afterwards, but for destructors, which run here.
    fn end(&self) -> Option<Arc<LifeShared>> {
        let Running {
            life, made, beside, ..
        } = self.running.borrow_mut().take()?;
        life.end();
        self.mailbox.pause();
        if let Ok(mut future) = made {
            // Else its drop would tell the actor that it stops.
            future.ctx().terminate();
            let _entered = beside.enter();
            let _ = panics::catch(|| drop(future));
        }
        let _ = panics::catch(|| drop(beside));
        drop(panics::take());
        Some(life)
    }

    /// Begins the group's next lives, if HR_CTRL has allowed that; else gives the end back, which is to be
    /// reported.
    fn restart_in_place(&self, end: End) -> Result<(), End> {
        let running = self.running.borrow();
        let failed = running
            .as_ref()
            .is_some_and(|r| !r.told && !r.life.is_clean());
        drop(running);
        let (Some(group), Some(actor)) = (self.group.get(), self.ground.actor.get()) else {
            return Err(end);
        };
        if !failed || !group.is_allowed() {
            return Err(end);
        }
        together::restart(group, *actor, end)?;
        self.untold.set(true);
        Ok(())
    }

    fn end_and_report(&self, end: End) {
        if let (Some(life), Some(actor)) = (self.end(), self.ground.actor.get()) {
            self.report(*actor, &life, end);
        }
    }

    fn report(&self, actor: ActorKey, life: &LifeShared, end: End) {
        let clean = life.is_clean();
        self.ground.hr_ctrl.do_send(SupervisedEnded {
            actor,
            life: life.no(),
            clean,
            how: end.into_words(clean),
            at_ms: clock::now_monotonic_ms(),
        });
    }
}

impl<A: Actor<Context = Context<A>>> Member for Slot<A> {
    fn running(&self) -> Option<(ActorKey, LifeNo)> {
        let running = self.running.try_borrow().ok()?;
        Some((*self.ground.actor.get()?, running.as_ref()?.life.no()))
    }

    fn life(&self, no: LifeNo) -> Arc<LifeShared> {
        LifeShared::new(Arc::clone(&self.ground), no)
    }

    fn drop_life(&self) {
        self.end();
    }

    fn begin(&self, life: Arc<LifeShared>) {
        self.begin_life(life);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// A slot while it is served. It sees to it that one whose arbiter ends is not waited for.
struct Served<A: Actor<Context = Context<A>>> {
    slot: Rc<Slot<A>>,
    commands: UnboundedReceiver<Command>,
}

impl<A: Actor<Context = Context<A>>> Drop for Served<A> {
    fn drop(&mut self) {
        // Before the report, which HR_CTRL may answer at once: it is to hear that nothing begins here.
        self.commands.close();
        let slot = &self.slot;
        if let Some(group) = slot.group.get() {
            together::leave(group, &(Rc::clone(slot) as Rc<dyn Member>));
        }
        slot.mailbox.close();
        if slot.is_closed.get() {
            slot.end();
            return;
        }
        slot.end_and_report(End::Abandoned);
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Begin(actor, life, _) = command {
                life.end();
                slot.report(actor, &life, End::Abandoned);
            }
        }
    }
}

/// Takes messages out of the mailbox and has the life handle them.
struct Pump<A: Actor<Context = Context<A>>> {
    mailbox: Arc<Mailbox<A>>,
    /// What the life handles. It stands here, and is dropped with the life that fails, because a frame that has
    /// nothing to drop is passed by in an unwinding.
    taken: Option<Envelope<A>>,
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        object: &mut A,
        context: &mut Context<A>,
        turn: &mut Turn<'_>,
    ) -> Poll<()> {
        let Self { mailbox, taken } = self.get_mut();
        for _ in 0..TURN {
            // While it waits for a future, or stops, nothing is taken; it is polled again after that.
            if context.waiting() {
                return Poll::Pending;
            }
            *taken = mailbox.take(turn.waker());
            let Some(envelope) = taken else {
                return Poll::Pending;
            };
            envelope.handle(object, context);
        }
        *taken = None;
        turn.waker().wake_by_ref();
        Poll::Pending
    }
}
