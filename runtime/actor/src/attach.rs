//! Attaching: how a program learns that it is an actor, and which.
//!
//! Called once per life, by the first call of anything in this crate or by [`attach`] itself.
//! It must never take a socket that is not this life's own for one, and must never be done by
//! a program that does not run under Refrain: that one is told so.

use std::env;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use refrain_abi::control::ControlPage;
use refrain_abi::request::{Reply, Request};
use refrain_abi::template::FD_VAR;
use refrain_abi::{Aid, Capability, Gid, LifeNo, Serial};
use refrain_sys::life_socket;
use refrain_sys::mapping::{self, ControlPageMapping};

use crate::link::{self, Answer, Link, RequestError, lock, unexpected};
use crate::pmm::Mappings;

/// Why a program could not attach.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Nothing of Refrain's is in the environment, or what is there belongs to the actor that
    /// started this program.
    #[error("this program does not run under Refrain; start it with arun")]
    NotAnActor,
    /// The controller did not welcome this life.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The control page that came with the welcome could not be mapped.
    #[error("cannot map this life's control page: {0}")]
    Page(#[source] std::io::Error),
}

/// This life, as its controller knows it. There is one in a life: [`attach`] gives it.
#[derive(Debug)]
pub struct Actor {
    link: Link,
    page: ControlPageMapping,
    /// Empty until somebody asks, where the welcome came before the aid was given out.
    aid: OnceLock<Aid>,
    gid: Option<Gid>,
    life: LifeNo,
    serial: Serial,
    capability: Capability,
    mappings: Mutex<Mappings>,
}

impl Actor {
    /// Attaches over `socket`, a life's end of a pair whose other end the controller serves. For the controller
    /// itself, which makes such a pair for a supervisor actor; a user actor calls [`attach`].
    ///
    /// # Errors
    /// [`AttachError`]: the controller does not welcome the life.
    #[doc(hidden)]
    pub fn over(socket: OwnedFd) -> Result<Self, AttachError> {
        let link = Link::new(socket);
        // The controller welcomes a life whose predecessor has attached before that life begins: then
        // there is nothing to wait for.
        let answer = match link.welcome()? {
            Some(welcome) => welcome,
            None => link.ask(&Request::Hello, &[])?,
        };
        let Answer {
            reply:
                Reply::Welcome {
                    aid,
                    gid,
                    life,
                    serial,
                    capability,
                },
            ..
        } = answer
        else {
            return Err(unexpected(&Request::Hello).into());
        };
        let fd = answer.only_fd("attach")?;
        let page = mapping::map_control_page(fd.as_fd()).map_err(AttachError::Page)?;
        let mappings = Mutex::default();
        Ok(Self {
            link,
            page,
            aid: known(aid).map(OnceLock::from).unwrap_or_default(),
            gid,
            life,
            serial,
            capability,
            mappings,
        })
    }

    /// The id of this life; the next life has another (SPEC H6). Aid 0, which nobody ever has, when
    /// it was not told yet and the controller is gone, or in a child that the life forked.
    #[must_use]
    pub fn aid(&self) -> Aid {
        if let Some(aid) = self.aid.get() {
            return *aid;
        }
        let asked = || match self.link.ask(&Request::Hello, &[]).ok()?.reply {
            Reply::Welcome { aid, .. } => known(aid),
            _ => None,
        };
        match self.page.aid_of(self.serial).or_else(asked) {
            Some(aid) => *self.aid.get_or_init(|| aid),
            None => Aid(0),
        }
    }

    /// The restart group, the same in every life; `None` for an ordinary actor (SPEC H2).
    #[must_use]
    pub fn gid(&self) -> Option<Gid> {
        self.gid
    }

    /// The number of this life: 0 for the first (SPEC H13).
    #[must_use]
    pub fn life(&self) -> LifeNo {
        self.life
    }

    /// The unforgeable credential of this life (SPEC H6).
    #[must_use]
    pub fn capability(&self) -> Capability {
        self.capability
    }

    /// See [`hr_exit_hdl`](crate::hr_exit_hdl). Cannot fail, and may be called at any moment,
    /// from a signal handler too. In a child that the life forked it does nothing: only the
    /// life can speak for its own end.
    pub fn hr_exit_hdl(&self) {
        if self.link.is_own() {
            self.page.clean.store(self.serial.0, Ordering::SeqCst);
        }
    }

    pub(crate) fn page(&self) -> &ControlPage {
        &self.page
    }

    pub(crate) fn serial(&self) -> Serial {
        self.serial
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Where its control page is mapped.
    pub(crate) fn page_address(&self) -> usize {
        std::ptr::from_ref(&*self.page).addr()
    }

    /// Which blocks that came ahead may be mapped still.
    pub(crate) fn block_epoch(&self) -> u32 {
        self.page.block_epoch.load(Ordering::Acquire)
    }

    pub(crate) fn mappings(&self) -> &Mutex<Mappings> {
        &self.mappings
    }

    /// Asks for something that is answered by `Done`.
    pub(crate) fn done(&self, request: &Request) -> Result<u32, RequestError> {
        match self.link.ask(request, &[])?.reply {
            Reply::Done { count } => Ok(count),
            _ => Err(unexpected(request)),
        }
    }
}

/// The aid that a welcome names, if it names one.
fn known(aid: Aid) -> Option<Aid> {
    (aid.0 != 0).then_some(aid)
}

/// The life that attached. What it points to is never freed: a life that begins from a warm image
/// attaches anew, and whoever holds on to the one before is refused by its link.
static ACTOR: RwLock<Option<&'static Actor>> = RwLock::new(None);

fn attached() -> Option<&'static Actor> {
    *ACTOR.read().unwrap_or_else(PoisonError::into_inner)
}

/// In a life that has just begun from a warm image: what was attached was the life that made it.
pub(crate) fn begin_anew() {
    link::disown_all();
    *ACTOR.write().unwrap_or_else(PoisonError::into_inner) = None;
}

/// This life. The first call attaches; every later one, from any thread, gives the same.
///
/// The socket that the life attaches by is made close-on-exec: what the life starts by itself is
/// no actor. A child forked from the life is none either, and is refused.
///
/// # Errors
/// [`AttachError::NotAnActor`] for a program that was not started by Refrain; the call may be
/// repeated, nothing is remembered of it.
///
/// ```no_run
/// match refrain::attach() {
///     Ok(actor) => println!("aid {}, life {}", actor.aid(), actor.life()),
///     Err(refrain::AttachError::NotAnActor) => println!("started by hand: nothing persists"),
///     Err(other) => return Err(other),
/// }
/// # Ok::<(), refrain::AttachError>(())
/// ```
pub fn attach() -> Result<&'static Actor, AttachError> {
    // Two threads must not both say hello on one socket: each could take the other's welcome.
    static ATTACHING: Mutex<()> = Mutex::new(());
    if let Some(actor) = attached() {
        actor.link.check_own()?;
        return Ok(actor);
    }
    let _turn = lock(&ATTACHING);
    if let Some(actor) = attached() {
        return Ok(actor);
    }
    let actor = Actor::over(own_socket(env::var(FD_VAR).ok().as_deref())?)?;
    let actor: &'static Actor = Box::leak(Box::new(actor));
    *ACTOR.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
    Ok(actor)
}

/// The life's end of its socket, from the value of `$REFRAIN_FD`.
fn own_socket(variable: Option<&str>) -> Result<OwnedFd, AttachError> {
    let number = variable.and_then(|text| text.parse().ok());
    // A program that an actor starts by itself inherits the variable and not the fd; the number
    // may be closed there, or be something else.
    life_socket::own_handle(number.ok_or(AttachError::NotAnActor)?)
        .map_err(|_| AttachError::NotAnActor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_socket_of_a_site_is_told_that_it_is_no_actor() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let other = std::os::fd::AsRawFd::as_raw_fd(&file).to_string();
        for variable in [
            None,
            Some(""),
            Some("x"),
            Some("-1"),
            Some("99999"),
            Some(other.as_str()),
        ] {
            let error = own_socket(variable).unwrap_err();
            assert!(
                matches!(error, AttachError::NotAnActor),
                "{variable:?}: {error:?}"
            );
        }
    }
}
