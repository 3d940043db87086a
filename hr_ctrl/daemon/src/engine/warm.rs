//! Warm images (SPEC H34): a life offers its present state as the image of later lives.
//!
//! The life asks ([`Engine::image_here`]) and is offered the life's end of a template's socket. It forks
//! a template off itself, which says `Ready` there with its pidfd beside it; that template then takes the
//! place of the one there was, standby and all, by the way that every change of template goes. The
//! old one stays parent of the life that runs. The life asks a second time, and is answered when this
//! is done, or why it is not.
//!
//! | the offer is | when | on the second request |
//! | --- | --- | --- |
//! | open | its template has not said `Ready` | the answer waits |
//! | settled | the template has taken its place, or never will | the answer is given, the offer is gone |
//!
//! The template is not our child, and what says that it is one is the actor's own program: so its pidfd
//! is believed only after its pid was found in the actor's cgroup, and it is no process that is
//! known there already. Must never signal anybody by that pidfd before.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use hr_ctrl_core::{ActorKey, ActorState, Refusal};
use refrain_abi::LifeNo;
use refrain_abi::template::{FromTemplate, MAX_FRAME};
use refrain_image::{StartKind, Template};
use refrain_sys::{PidFd, seqpacket};
use tokio::sync::oneshot;

use super::{Engine, SharedEngine, template};
use crate::output::ActorOutput;
use crate::pmm::Asker;
use crate::site::SiteError;
use crate::watch;

/// Whether the image stands.
type Outcome = Result<(), SiteError>;

/// What a life was offered.
pub(crate) struct Offer {
    life: LifeNo,
    state: State,
}

enum State {
    Open(Vec<oneshot::Sender<Outcome>>),
    Settled(Outcome),
}

/// What a life is answered.
pub(crate) enum ImageAnswer {
    /// The new template's end of its socket, `/dev/null`, where its output goes, and the actor's
    /// `cgroup.procs` where there is one.
    Offered(Vec<OwnedFd>),
    /// It has asked before: whether the image stands, once that is known.
    Asked(oneshot::Receiver<Outcome>),
}

impl Engine {
    /// A life wants its present state to be the image of later lives.
    pub(crate) fn image_here(&mut self, by: &Asker) -> Result<ImageAnswer, SiteError> {
        self.may_become_an_image(by)?;
        let shared = self.shared();
        let null = self.null.try_clone();
        let limit = self.parts.tunables.hr_ctrl.template_timeout_ms;
        let runtime = self.actors.get_mut(&by.actor).ok_or_else(stale)?;
        if let Some(offer) = runtime.offer.take_if(|offer| offer.life == by.life) {
            let (answer, waiting) = oneshot::channel();
            match offer.state {
                State::Settled(outcome) => drop(answer.send(outcome)),
                State::Open(mut waiters) => {
                    waiters.push(answer);
                    let state = State::Open(waiters);
                    runtime.offer = Some(Offer { state, ..offer });
                }
            }
            return Ok(ImageAnswer::Asked(waiting));
        }
        let failed = |why: std::io::Error| SiteError::NoImage(why.to_string());
        let output = runtime.output.as_ref().map(ActorOutput::writer);
        let output = output.transpose().map_err(failed)?.ok_or_else(stale)?;
        let (ours, theirs) = seqpacket::pair_nonblocking_first().map_err(failed)?;
        let mut fds = vec![theirs, null.map_err(failed)?, output];
        fds.extend(runtime.contained.procs());
        runtime.offer = Some(Offer {
            life: by.life,
            state: State::Open(Vec::new()),
        });
        actix_rt::spawn(take_place(shared, by.actor, by.life, ours, limit));
        Ok(ImageAnswer::Offered(fds))
    }

    fn may_become_an_image(&self, by: &Asker) -> Result<(), SiteError> {
        let refused = |why| Err(SiteError::Refused(why));
        if by.gid.is_none() {
            return refused(Refusal::NotRestartable);
        }
        if self.halting || self.is_restarting() {
            return refused(Refusal::SiteStopping);
        }
        let runtime = self.actors.get(&by.actor).ok_or_else(stale)?;
        if !self.is_running(by.actor, by.life) {
            return refused(Refusal::StaleLife);
        }
        if runtime.spec.fresh_layout {
            return Err(SiteError::NoImage(
                "no image of a life with --layout fresh: each has addresses of its own; use --layout same"
                    .to_owned(),
            ));
        }
        if runtime
            .template
            .as_ref()
            .is_some_and(|template| template.kind == StartKind::Exec)
        {
            return Err(SiteError::NoImage(
                "no image of a life that was started by exec: aps -l says why it was".to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether this life runs, and nobody is about to end it.
    fn is_running(&self, actor: ActorKey, no: LifeNo) -> bool {
        let runs = |state| matches!(state, ActorState::Running);
        let life = self.actors.get(&actor).and_then(|r| r.life.as_ref());
        life.is_some_and(|life| life.no == no && !life.ended && !life.told)
            && self.core.view(actor).is_some_and(|view| runs(view.state))
    }

    /// Lets the template that a life has forked take the place of the one there is; answers its
    /// generation.
    fn take_image(&mut self, actor: ActorKey, no: LifeNo, pidfd: &PidFd) -> Result<u32, String> {
        // A relay that was claimed is booked first: then the life has ended.
        self.take_back(actor);
        if !self.is_running(actor, no) {
            return Err("the life has ended meanwhile".to_owned());
        }
        let Some(runtime) = self.actors.get(&actor) else {
            return Err("the actor has gone meanwhile".to_owned());
        };
        let mut strangers = Vec::new();
        runtime.left_behind(&mut strangers);
        let is_forked_here = pidfd.pid().is_some_and(|pid| strangers.contains(&pid));
        if !is_forked_here || pidfd.has_ended() {
            return Err("what it forked is none of its own, or has ended".to_owned());
        }
        self.drop_template(actor);
        let runtime = self.actors.get(&actor);
        Ok(runtime.map_or(0, |runtime| runtime.generation))
    }

    /// The offer to a life has come to its end.
    fn settle_offer(&mut self, actor: ActorKey, life: LifeNo, outcome: Outcome) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let Some(offer) = runtime.offer.as_mut().filter(|offer| offer.life == life) else {
            return;
        };
        let settled = State::Settled(outcome.clone());
        let State::Open(waiters) = std::mem::replace(&mut offer.state, settled) else {
            return;
        };
        if waiters.is_empty() {
            return;
        }
        runtime.offer = None;
        for waiter in waiters {
            // A life that has ended does not wait.
            let _ = waiter.send(outcome.clone());
        }
    }
}

fn stale() -> SiteError {
    SiteError::Refused(Refusal::StaleLife)
}

/// Waits for the template that a life was offered, and puts it in its place.
async fn take_place(
    engine: SharedEngine,
    actor: ActorKey,
    life: LifeNo,
    socket: OwnedFd,
    limit_ms: u64,
) {
    let socket = Rc::new(socket);
    let ready = ready(Rc::clone(&socket));
    let first = tokio::time::timeout(Duration::from_millis(limit_ms), ready).await;
    let outcome = match first {
        Ok(Some(pidfd)) => {
            let taken = engine.borrow_mut().take_image(actor, life, &pidfd);
            taken.and_then(|generation| {
                let socket = Rc::into_inner(socket).ok_or("its socket is in use")?;
                let template = Template {
                    pid: pidfd.pid().unwrap_or(0),
                    pidfd,
                    socket,
                    start: StartKind::Template,
                };
                let template = Rc::new(template);
                template::serve(
                    &engine,
                    actor,
                    generation,
                    template,
                    StartKind::Template,
                    true,
                );
                Ok(())
            })
        }
        Ok(None) => Err("its template ended before it was ready".to_owned()),
        Err(_) => Err(format!("its template was not ready within {limit_ms} ms")),
    };
    let outcome = outcome.map_err(|why| SiteError::NoImage(format!("no image: {why}")));
    engine.borrow_mut().settle_offer(actor, life, outcome);
}

/// The pidfd beside `Ready`; `None` where something else comes, or nothing.
async fn ready(socket: Rc<OwnedFd>) -> Option<PidFd> {
    let mut buffer = [0; MAX_FRAME];
    loop {
        watch::readable(Rc::clone(&socket)).await.ok()?;
        let received = match seqpacket::recv_dontwait(socket.as_ref(), &mut buffer, 1) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            received => received.ok()?,
        };
        if received.is_closed() || received.truncated {
            return None;
        }
        let message = FromTemplate::decode(buffer.get(..received.len)?).ok()?;
        let fd = received.fds.into_iter().next()?;
        return (message == FromTemplate::Ready).then(|| PidFd::from(fd));
    }
}
