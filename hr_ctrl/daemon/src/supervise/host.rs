//! What HR_CTRL holds of a slot, and the arbiters that slots are on.
//!
//! Made by [`crate::site::Site::supervise`], on the caller's thread; handed to HR_CTRL with the request. It must
//! never wait for an actor's code: it waits for an arbiter to start only.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};

use actix::{Actor, Addr, Context};
use actix_rt::{Arbiter, ArbiterHandle};
use refrain_abi::{ActorName, Gid, LifeNo};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::address::SupervisedAddr;
use super::life::{Ground, Life, LifeShared};
use super::mailbox::Mailbox;
use super::slot::{Command, Slot};
use super::{On, Supervise, panics};
use crate::hr_ctrl::HrCtrl;
use crate::pmm::Pmm;
use crate::site::SiteError;

/// An arbiter that ends with the last slot on it.
struct Lent(ArbiterHandle);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The arbiters of a site's supervisor actors.
pub(crate) struct Arbiters {
    /// Where new ones are started: the site's own.
    home: ArbiterHandle,
    groups: Mutex<HashMap<Gid, Weak<Lent>>>,
}

impl Arbiters {
    pub fn new(home: ArbiterHandle) -> Arc<Self> {
        Arc::new(Self {
            home,
            groups: Mutex::default(),
        })
    }

    /// Starts an arbiter in the site's system.
    async fn start(&self) -> Result<Arc<Lent>, SiteError> {
        let (started, waiting) = oneshot::channel();
        self.home.spawn_fn(move || {
            let _ = started.send(Arbiter::try_new().map(|arbiter| arbiter.handle()));
        });
        let started = waiting.await.map_err(|_| SiteError::Halted)?;
        let why = |error| SiteError::NotLoaded(format!("cannot start an arbiter: {error}"));
        started.map(|handle| Arc::new(Lent(handle))).map_err(why)
    }

    async fn of_group(&self, gid: Gid) -> Result<Arc<Lent>, SiteError> {
        let mut groups = self.groups.lock().await;
        if let Some(lent) = groups.get(&gid).and_then(Weak::upgrade) {
            return Ok(lent);
        }
        let lent = self.start().await?;
        groups.retain(|_, lent| lent.strong_count() > 0);
        groups.insert(gid, Arc::downgrade(&lent));
        Ok(lent)
    }
}

/// A slot, as HR_CTRL has it. The slot is told to close when this is dropped.
pub(crate) struct Host {
    commands: mpsc::UnboundedSender<Command>,
    ground: Arc<Ground>,
    /// Its arbiter's thread.
    pub thread: ThreadId,
    /// The type of the actor.
    pub object: &'static str,
    _arbiter: Option<Arc<Lent>>,
}

impl Host {
    /// Makes a slot on its arbiter. It begins no life before it is told to.
    pub async fn start<A, F>(
        how: &Supervise,
        name: ActorName,
        factory: F,
        (arbiters, hr_ctrl, pmm): (&Arbiters, Addr<HrCtrl>, Addr<Pmm>),
    ) -> Result<(Self, SupervisedAddr<A>), SiteError>
    where
        A: Actor<Context = Context<A>>,
        F: FnMut(&Life) -> A + Send + 'static,
    {
        panics::install();
        let lent = match &how.on {
            On::Group => Some(arbiters.of_group(how.gid).await?),
            On::Own => Some(arbiters.start().await?),
            On::Arbiter(_) => None,
        };
        let arbiter = match (&lent, &how.on) {
            (Some(lent), _) => lent.0.clone(),
            (None, On::Arbiter(handle)) => handle.clone(),
            (None, _) => return Err(SiteError::Halted),
        };
        let ground = Arc::new(Ground::new(name, how.gid, (hr_ctrl, pmm)));
        let mailbox = Arc::new(Mailbox::new(how.capacity, how.while_restarting));
        let (commands, receiver) = mpsc::unbounded_channel();
        let (started, waiting) = oneshot::channel();
        let slot = (Arc::clone(&ground), Arc::clone(&mailbox));
        arbiter.spawn_fn(move || {
            let slot: Rc<Slot<A>> = Slot::new(slot.0, slot.1, Box::new(factory));
            actix_rt::spawn(slot.serve(receiver));
            let _ = started.send(thread::current().id());
        });
        let why = |_| SiteError::NotLoaded(format!("{name}: its arbiter has ended"));
        let thread = waiting.await.map_err(why)?;
        let host = Self {
            commands,
            ground,
            thread,
            object: std::any::type_name::<A>(),
            _arbiter: lent,
        };
        Ok((host, SupervisedAddr::new(mailbox)))
    }

    /// A life to be, that nobody knows of yet.
    pub fn life(&self, no: LifeNo) -> Arc<LifeShared> {
        LifeShared::new(Arc::clone(&self.ground), no)
    }

    /// Tells the slot; whether it is there.
    pub fn tell(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }
}
