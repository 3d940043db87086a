//! The hot-restart API: groups, the exit handler, shutdown (SPEC H14, H21, H24, H26).
//!
//! Called by restartable actors; an ordinary one is refused by the controller, whose text says
//! so. Nothing here decides who may do what: that is the controller's part.

use refrain_abi::request::{ErrorCode, Reply, Request};
use refrain_abi::{Aid, Capability, Gid, LifeNo};

use crate::attach::{Actor, AttachError, attach};
use crate::link::{RequestError, unexpected};

/// Why a call of the hot-restart API failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HrError {
    /// The program is no actor.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The controller refused, or does not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl HrError {
    /// The controller's family of refusal; `None` where it did not come from there.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Request(error) | Self::Attach(AttachError::Request(error)) => error.code(),
            Self::Attach(_) => None,
        }
    }
}

impl Actor {
    /// See [`hr_get_actor_group`](crate::hr_get_actor_group).
    ///
    /// # Errors
    /// [`HrError`].
    pub fn hr_get_actor_group(&self, aid: Aid) -> Result<Option<Gid>, HrError> {
        let request = Request::GetActorGroup { aid };
        match self.link().ask(&request, &[])?.reply {
            Reply::Group { gid } => Ok(gid),
            _ => Err(unexpected(&request).into()),
        }
    }

    /// See [`capability_of`](crate::capability_of).
    ///
    /// # Errors
    /// [`HrError`].
    pub fn capability_of(&self, aid: Aid) -> Result<Capability, HrError> {
        let request = Request::GetCapability { aid };
        match self.link().ask(&request, &[])?.reply {
            Reply::Capability { capability } => Ok(capability),
            _ => Err(unexpected(&request).into()),
        }
    }

    /// See [`hr_kill_group`](crate::hr_kill_group).
    ///
    /// # Errors
    /// [`HrError`].
    pub fn hr_kill_group(&self, gid: Gid) -> Result<(), HrError> {
        self.done(&Request::KillGroup { gid })?;
        Ok(())
    }

    /// See [`sys_shutdown`](crate::sys_shutdown).
    ///
    /// # Errors
    /// [`HrError`].
    pub fn sys_shutdown(&self, level: u32) -> Result<(), HrError> {
        self.done(&Request::Shutdown { level })?;
        Ok(())
    }
}

/// The number of this life: 0 for the first (SPEC H13).
///
/// # Errors
/// [`AttachError`] in a program that is no actor.
///
/// ```no_run
/// println!("this is life {}", refrain::life()?);
/// # Ok::<(), refrain::AttachError>(())
/// ```
pub fn life() -> Result<LifeNo, AttachError> {
    Ok(attach()?.life())
}

/// The group of the actor whose life has the id `aid`; `None` for an ordinary actor (SPEC H14).
///
/// # Errors
/// [`HrError`]: no actor, or an aid that is not, or no longer, that of a life.
///
/// ```no_run
/// let me = refrain::attach()?;
/// assert_eq!(refrain::hr_get_actor_group(me.aid())?, me.gid());
/// # Ok::<(), refrain::HrError>(())
/// ```
pub fn hr_get_actor_group(aid: Aid) -> Result<Option<Gid>, HrError> {
    attach()?.hr_get_actor_group(aid)
}

/// The capability of a life of the caller's own group (SPEC H6): what `hrfexec` has begun, for instance.
///
/// # Errors
/// [`HrError`]: no actor, an ordinary actor, an aid that is not, or no longer, that of a life, another's group.
///
/// ```no_run
/// let aid = refrain::Exec::new("./HR_child").spawn()?;
/// println!("aid {aid} has the capability {}", refrain::capability_of(aid)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn capability_of(aid: Aid) -> Result<Capability, HrError> {
    attach()?.capability_of(aid)
}

/// Kills every member of a group, which then terminates as if all had ended cleanly (SPEC H24).
///
/// The group must be the caller's own, so this call seldom lives to see its answer.
///
/// # Errors
/// [`HrError`]: no actor, an ordinary actor, another's group.
///
/// ```no_run
/// if let Some(gid) = refrain::attach()?.gid() {
///     refrain::hr_kill_group(gid)?;
/// }
/// # Ok::<(), refrain::HrError>(())
/// ```
pub fn hr_kill_group(gid: Gid) -> Result<(), HrError> {
    attach()?.hr_kill_group(gid)
}

/// `HR_EXIT_HDL`: takes this life out of the controller's watch. Its end, however it comes about,
/// is then clean (SPEC H21). One store into shared memory; no request is sent.
///
/// # Errors
/// [`AttachError`] in a program that is no actor. Once attached it cannot fail; a program that
/// needs that attaches first and calls [`Actor::hr_exit_hdl`].
///
/// ```no_run
/// refrain::hr_exit_hdl()?;
/// // Even this is a clean end now.
/// std::process::abort();
/// # #[allow(unreachable_code)]
/// # Ok::<(), refrain::AttachError>(())
/// ```
pub fn hr_exit_hdl() -> Result<(), AttachError> {
    attach()?.hr_exit_hdl();
    Ok(())
}

/// Ends this life cleanly: [`hr_exit_hdl`], then [`std::process::exit`]. In a program that is no
/// actor it simply exits.
///
/// ```no_run
/// println!("all done");
/// refrain::exit_clean(0);
/// ```
pub fn exit_clean(code: i32) -> ! {
    // Not an actor: nobody watches, so there is no watch to leave.
    let _ = hr_exit_hdl();
    std::process::exit(code)
}

/// `sysShutdown`: as the console's `shutdown -i LEVEL`: 0 halt, 1 hot restart of the site, 2 cold
/// restart without persistent memory, 3 immediate stop (SPEC H26, C2).
///
/// # Errors
/// [`HrError`]: no actor, one that may not do this, or a level past 3.
///
/// ```no_run
/// refrain::sys_shutdown(1)?;
/// # Ok::<(), refrain::HrError>(())
/// ```
pub fn sys_shutdown(level: u32) -> Result<(), HrError> {
    attach()?.sys_shutdown(level)
}
