//! The door of the engine for a program that embeds the site: it registers supervisor actors, their slots report
//! their ends.

use std::rc::Rc;
use std::time::Duration;

use actix::{Context, Handler, Message, ResponseFuture};
use hr_ctrl_core::{ActorKey, Requester};
use refrain_abi::{Gid, LifeNo};

use super::{BoxedAnswer, HrCtrl};
use crate::site::{SiteError, StartSpec};
use crate::supervise::Host;

/// A supervisor actor, by the embedding program.
#[derive(Message)]
#[rtype(result = "Result<(), SiteError>")]
pub(crate) struct Supervise {
    /// Its name, group and policy.
    pub(crate) spec: StartSpec,
    /// Where it lives.
    pub(crate) host: Host,
}

/// The life of a supervisor actor has ended, and nothing of it is left.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SupervisedEnded {
    /// The actor.
    pub(crate) actor: ActorKey,
    /// The life.
    pub(crate) life: LifeNo,
    /// It had called the exit handler.
    pub(crate) clean: bool,
    /// How it ended, in words.
    pub(crate) how: String,
    /// When, on the clock of [`Event::Ended`].
    pub(crate) at_ms: u64,
}

impl Handler<Supervise> for HrCtrl {
    type Result = BoxedAnswer<()>;
    fn handle(&mut self, asked: Supervise, _: &mut Context<Self>) -> Self::Result {
        let taken =
            self.engine
                .borrow_mut()
                .take_place(asked.spec.name, asked.spec.gid, asked.host);
        match taken {
            Ok(()) => Box::pin(async { Ok(()) }),
            Err(host) => {
                let begun = self.run(asked.spec, Requester::Owner, (None, Some(host)));
                Box::pin(async { begun.await.map(drop) })
            }
        }
    }
}

impl Handler<SupervisedEnded> for HrCtrl {
    type Result = ();
    fn handle(&mut self, ended: SupervisedEnded, _: &mut Context<Self>) {
        self.engine.borrow_mut().supervised_ended(ended);
    }
}

/// A group has restarted in place, as it was allowed to: that is to be booked.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RestartedTogether(pub(crate) Gid);

impl Handler<RestartedTogether> for HrCtrl {
    type Result = ();
    fn handle(&mut self, RestartedTogether(gid): RestartedTogether, _: &mut Context<Self>) {
        self.engine.borrow_mut().book_together(gid);
    }
}

/// Answered when no site restart goes on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Settled;

impl Handler<Settled> for HrCtrl {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, _: Settled, _: &mut Context<Self>) -> Self::Result {
        let engine = Rc::clone(&self.engine);
        Box::pin(async move {
            while engine.borrow().is_restarting() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    }
}
