//! HR_CTRL, the boot actor that restarts (SPEC part I), on an arbiter of its own so that nothing
//! else of the site delays a restart.
//!
//! The actor is only the door: messages come in here and go to the [`crate::engine`], which also watches
//! the fds of lives by itself. A restart passes through no mailbox.

mod supervised;

pub(crate) use supervised::{RestartedTogether, Settled, Supervise, SupervisedEnded};

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Message, MessageResult, ResponseFuture};
use hr_ctrl_core::{ActorKey, Event, HaltLevel, Refusal, Requester, Target};
use refrain_abi::{Aid, Capability, Gid, Serial};
use refrain_pmm::Registration;
use tokio::sync::oneshot;

use crate::engine::{self, Adopted, ImageAnswer, Pending, RunRequest, SharedEngine};
use crate::keeper::Part;
use crate::nucleus_link::Kept;
use crate::pmm::Asker;
use crate::site::{ActorInfo, KillTarget, ShutdownLevel, SiteError, SiteStat, StartSpec};
use crate::supervise::Host;

/// The boot actor HR_CTRL.
pub struct HrCtrl {
    engine: SharedEngine,
}

impl HrCtrl {
    /// The actor over its engine.
    #[must_use]
    pub fn new(engine: SharedEngine) -> Self {
        Self { engine }
    }

    fn run(
        &self,
        mut spec: StartSpec,
        by: Requester,
        (stdio, host): (Option<[OwnedFd; 3]>, Option<Host>),
    ) -> BoxedAnswer<Aid> {
        let (answer, waiting) = oneshot::channel();
        let mut engine = self.engine.borrow_mut();
        if let Some(host) = &host
            && let Err(why) = engine.may_supervise(spec.name, host)
        {
            return Box::pin(async { Err(why) });
        }
        if let Requester::Life { actor, .. } = by {
            engine.inherit(&mut spec, actor);
        }
        engine.configure(&mut spec);
        let (name, gid) = (spec.name, spec.gid);
        let policy = engine.policy_named(gid, spec.policy.as_ref());
        let request = RunRequest {
            spec,
            stdio,
            host,
            answer,
        };
        let ticket = engine.ticket(Pending::Run(Box::new(request)));
        engine.step(Event::Run {
            ticket,
            name,
            gid,
            by,
            policy,
        });
        boxed(waiting)
    }

    fn kill(&self, target: Target, tidy: bool, by: Requester) -> BoxedAnswer<()> {
        let (answer, waiting) = oneshot::channel();
        let mut engine = self.engine.borrow_mut();
        let ticket = engine.ticket(Pending::Other(answer));
        engine.step(Event::Kill {
            ticket,
            target,
            tidy,
            by,
        });
        boxed(waiting)
    }
}

type BoxedAnswer<T> = ResponseFuture<Result<T, SiteError>>;

/// An answer that never comes is that of a site that has halted.
fn boxed<T: 'static>(waiting: oneshot::Receiver<Result<T, SiteError>>) -> BoxedAnswer<T> {
    Box::pin(async move { waiting.await.unwrap_or(Err(SiteError::Halted)) })
}

fn requester(asker: &Asker) -> Requester {
    Requester::Life {
        actor: asker.actor,
        life: asker.life,
    }
}

impl Actor for HrCtrl {
    type Context = Context<Self>;
}

/// `arun`.
#[derive(Message)]
#[rtype(result = "Result<Aid, SiteError>")]
pub struct Run(pub StartSpec);

/// `hrfexec`.
#[derive(Message)]
#[rtype(result = "Result<Aid, SiteError>")]
pub struct RunFromLife {
    /// What to run.
    pub spec: StartSpec,
    /// Who asks.
    pub by: Asker,
    /// stdin, stdout, stderr.
    pub stdio: [OwnedFd; 3],
}

/// `akill`.
#[derive(Message)]
#[rtype(result = "Result<(), SiteError>")]
pub struct Kill {
    /// What to kill.
    pub target: KillTarget,
    /// SIGTERM first.
    pub tidy: bool,
}

/// `hrKillGroup`.
#[derive(Message)]
#[rtype(result = "Result<(), SiteError>")]
pub struct KillFromLife {
    /// The group.
    pub gid: Gid,
    /// Who asks.
    pub by: Asker,
}

/// `hrGetActorGroup` (SPEC H14).
#[derive(Message)]
#[rtype(result = "Result<Option<Gid>, SiteError>")]
pub struct GroupOf {
    /// The life asked about.
    pub aid: Aid,
    /// Who asks.
    pub by: Asker,
}

/// The capability of a life, asked for by a member of its group (SPEC H6).
#[derive(Message)]
#[rtype(result = "Result<Capability, SiteError>")]
pub(crate) struct CapabilityOf {
    /// The life asked about.
    pub aid: Aid,
    /// Who asks.
    pub by: Asker,
}

/// A life wants its present state to be the image of later lives.
#[derive(Message)]
#[rtype(result = "Result<ImageAnswer, SiteError>")]
pub(crate) struct ImageHere(pub Asker);

/// A life says that it fails.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Failing(pub Asker);

/// A life has promised progress, or changed or taken back its promise.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Promised(pub Asker);

/// `aps`.
#[derive(Message)]
#[rtype(result = "Vec<ActorInfo>")]
pub struct List;

/// How many bytes the images of all actors take.
#[derive(Message)]
#[rtype(result = "u64")]
pub struct ImageBytes;

/// `chorusStat`.
#[derive(Message)]
#[rtype(result = "SiteStat")]
pub struct Stat {
    /// The site's name.
    pub site: String,
}

/// The queues of these standbys hold what was freed: others are to take their place.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Refresh(Vec<(ActorKey, Serial)>);

/// Has standbys replaced, if there are any.
pub(crate) fn refresh(hr_ctrl: &Addr<HrCtrl>, stale: Vec<(ActorKey, Serial)>) {
    if !stale.is_empty() {
        hr_ctrl.do_send(Refresh(stale));
    }
}

/// `restart`; answered when the site runs again.
#[derive(Message)]
#[rtype(result = "Result<(), SiteError>")]
pub struct Restart;

/// `shutdown -i`; answered at once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Shutdown(pub ShutdownLevel);

/// `sysShutdown` (SPEC H26); answered at once.
#[derive(Message)]
#[rtype(result = "Result<(), SiteError>")]
pub struct ShutdownFromLife {
    /// How.
    pub level: ShutdownLevel,
    /// Who asks.
    pub by: Asker,
}

/// At boot: what the bank and nucleus have kept of an earlier controller's actors. With a ledger they are
/// adopted; else they are restored from the bank by a site restart.
#[derive(Message)]
#[rtype(result = "Result<Option<Adopted>, String>")]
pub(crate) struct Recover {
    /// From the bank.
    pub(crate) registrations: Vec<Registration>,
    /// From nucleus.
    pub(crate) kept: Kept,
}

/// How far `sysadm.ini` was read at the start of the site: the line that is about to be carried out, from 1;
/// `None` when there are no others.
#[derive(Message)]
#[rtype(result = "()")]
pub struct IniLine(pub Option<u32>);

/// C_INIT and PMM are in their initial state, `sysadm.ini` was read again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BootActorsReset;

/// `sysadm.ini` was read and the site is to halt when nothing is left (`--once`).
#[derive(Message)]
#[rtype(result = "()")]
pub struct ArmOnce;

/// After a cold halt: start as at first.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StartCold;

/// Everything has ended: give up the site's containment.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ClearUp;

impl Handler<Run> for HrCtrl {
    type Result = BoxedAnswer<Aid>;
    fn handle(&mut self, Run(spec): Run, _: &mut Context<Self>) -> Self::Result {
        self.run(spec, Requester::Owner, (None, None))
    }
}

impl Handler<RunFromLife> for HrCtrl {
    type Result = BoxedAnswer<Aid>;
    fn handle(&mut self, run: RunFromLife, _: &mut Context<Self>) -> Self::Result {
        self.run(run.spec, requester(&run.by), (Some(run.stdio), None))
    }
}

impl Handler<Kill> for HrCtrl {
    type Result = BoxedAnswer<()>;
    fn handle(&mut self, kill: Kill, _: &mut Context<Self>) -> Self::Result {
        let target = match kill.target {
            KillTarget::Aid(aid) => Target::Aid(aid),
            KillTarget::Group(gid) => Target::Group(gid),
        };
        self.kill(target, kill.tidy, Requester::Owner)
    }
}

impl Handler<KillFromLife> for HrCtrl {
    type Result = BoxedAnswer<()>;
    fn handle(&mut self, kill: KillFromLife, _: &mut Context<Self>) -> Self::Result {
        self.kill(Target::Group(kill.gid), false, requester(&kill.by))
    }
}

impl Handler<GroupOf> for HrCtrl {
    type Result = Result<Option<Gid>, SiteError>;
    fn handle(&mut self, asked: GroupOf, _: &mut Context<Self>) -> Self::Result {
        if asked.by.gid.is_none() {
            return Err(SiteError::Refused(Refusal::NotRestartable));
        }
        self.engine
            .borrow()
            .group_of(asked.aid)
            .map_err(SiteError::Refused)
    }
}

impl Handler<CapabilityOf> for HrCtrl {
    type Result = Result<Capability, SiteError>;
    fn handle(&mut self, asked: CapabilityOf, _: &mut Context<Self>) -> Self::Result {
        let gid = asked.by.gid.ok_or(Refusal::NotRestartable);
        gid.and_then(|gid| self.engine.borrow().capability_of(asked.aid, gid))
            .map_err(SiteError::Refused)
    }
}

impl Handler<ImageHere> for HrCtrl {
    type Result = Result<ImageAnswer, SiteError>;
    fn handle(&mut self, ImageHere(by): ImageHere, _: &mut Context<Self>) -> Self::Result {
        self.engine.borrow_mut().image_here(&by)
    }
}

impl Handler<Promised> for HrCtrl {
    type Result = ();
    fn handle(&mut self, Promised(by): Promised, _: &mut Context<Self>) {
        self.engine.borrow_mut().promised(&by);
    }
}

impl Handler<Failing> for HrCtrl {
    type Result = ();
    fn handle(&mut self, Failing(by): Failing, _: &mut Context<Self>) {
        self.engine.borrow_mut().failing(by.actor, by.life);
    }
}

/// How long `aps` waits for the cause of an end that was only just noticed, in milliseconds.
const END_REPORT_MS: u32 = 50;

impl Handler<List> for HrCtrl {
    type Result = ResponseFuture<Vec<ActorInfo>>;
    fn handle(&mut self, _: List, _: &mut Context<Self>) -> Self::Result {
        let engine = Rc::clone(&self.engine);
        Box::pin(async move {
            // A life is back before its template has reaped the one before it. Whoever asks a
            // moment after a crash wants to see why.
            for _ in 0..END_REPORT_MS {
                if !engine.borrow().is_end_unknown() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let mut engine = engine.borrow_mut();
            engine.book_everything();
            engine.actor_infos()
        })
    }
}

impl Handler<Refresh> for HrCtrl {
    type Result = ();
    fn handle(&mut self, Refresh(stale): Refresh, _: &mut Context<Self>) {
        let mut engine = self.engine.borrow_mut();
        for (actor, serial) in stale {
            engine.refresh_standby(actor, serial);
        }
    }
}

impl Handler<ImageBytes> for HrCtrl {
    type Result = u64;
    fn handle(&mut self, _: ImageBytes, _: &mut Context<Self>) -> Self::Result {
        self.engine.borrow().image_bytes()
    }
}

impl Handler<Stat> for HrCtrl {
    type Result = MessageResult<Stat>;
    fn handle(&mut self, stat: Stat, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.engine.borrow().stat(stat.site))
    }
}

impl Handler<Restart> for HrCtrl {
    type Result = BoxedAnswer<()>;
    fn handle(&mut self, _: Restart, _: &mut Context<Self>) -> Self::Result {
        let mut engine = self.engine.borrow_mut();
        if engine.is_restarting() {
            let why = SiteError::Refused(Refusal::SiteStopping);
            return Box::pin(async { Err(why) });
        }
        let (answer, waiting) = oneshot::channel();
        let ticket = engine.ticket(Pending::Other(answer));
        engine.step(Event::SiteRestart {
            ticket: Some(ticket),
        });
        boxed(waiting)
    }
}

impl Handler<Shutdown> for HrCtrl {
    type Result = ();
    fn handle(&mut self, Shutdown(level): Shutdown, _: &mut Context<Self>) {
        let mut engine = self.engine.borrow_mut();
        match level {
            ShutdownLevel::HotRestart => engine.step(Event::SiteRestart { ticket: None }),
            ShutdownLevel::Halt => engine.halt(HaltLevel::Halt),
            ShutdownLevel::ColdRestart => engine.halt(HaltLevel::Cold),
            ShutdownLevel::Immediate => engine.halt(HaltLevel::Immediate),
        }
    }
}

impl Handler<ShutdownFromLife> for HrCtrl {
    type Result = Result<(), SiteError>;
    fn handle(&mut self, asked: ShutdownFromLife, cx: &mut Context<Self>) -> Self::Result {
        if self.engine.borrow().is_foreign(&asked.by) {
            return Err(SiteError::ForeignUser);
        }
        self.handle(Shutdown(asked.level), cx);
        Ok(())
    }
}

impl Handler<Recover> for HrCtrl {
    type Result = ResponseFuture<Result<Option<Adopted>, String>>;
    fn handle(&mut self, recover: Recover, _: &mut Context<Self>) -> Self::Result {
        let engine = Rc::clone(&self.engine);
        let Recover {
            registrations,
            kept,
        } = recover;
        Box::pin(async move {
            if kept.iter().any(|(label, _)| label.part == Part::Ledger) {
                return engine::adopt(&engine, kept, registrations).await.map(Some);
            }
            let mut engine = engine.borrow_mut();
            engine.keep_ledger();
            if !registrations.is_empty() {
                engine.restore(registrations, kept);
                engine.step(Event::SiteRestart { ticket: None });
            }
            Ok(None)
        })
    }
}

impl Handler<IniLine> for HrCtrl {
    type Result = ();
    fn handle(&mut self, IniLine(line): IniLine, _: &mut Context<Self>) {
        self.engine.borrow().note_ini_line(line);
    }
}

impl Handler<BootActorsReset> for HrCtrl {
    type Result = ();
    fn handle(&mut self, _: BootActorsReset, _: &mut Context<Self>) {
        self.engine.borrow_mut().site_restarts();
    }
}

impl Handler<ArmOnce> for HrCtrl {
    type Result = ();
    fn handle(&mut self, _: ArmOnce, _: &mut Context<Self>) {
        self.engine.borrow_mut().arm_once();
    }
}

impl Handler<StartCold> for HrCtrl {
    type Result = ();
    fn handle(&mut self, _: StartCold, _: &mut Context<Self>) {
        self.engine.borrow_mut().start_cold();
    }
}

impl Handler<ClearUp> for HrCtrl {
    type Result = ();
    fn handle(&mut self, _: ClearUp, _: &mut Context<Self>) {
        self.engine.borrow_mut().clear_up();
    }
}
