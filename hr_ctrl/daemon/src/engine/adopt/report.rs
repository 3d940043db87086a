//! Asking the templates which lives and standbys there are.
//!
//! All are asked before any is waited for. A template that somebody has stopped is continued: it is ours,
//! unlike a life. One that does not answer in time is ended; its lives are then known to nobody, and their
//! groups restart.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use hr_ctrl_core::ActorKey;
use refrain_abi::Serial;
use refrain_abi::template::FromTemplate;
use refrain_image::{Heard, Template};
use refrain_sys::{Identity, PidFd, Signal, WaitStatus};

use super::super::kept::TemplateNote;
use super::{Adoptee, Orphan};
use crate::watch;

/// A life or a standby.
pub(super) struct Child {
    pub serial: Serial,
    pub pid: u32,
    pub pidfd: PidFd,
    pub socket: OwnedFd,
    /// The generation of its template.
    pub generation: u32,
}

/// What the templates of an actor have said.
pub(super) struct Reported {
    pub actor: ActorKey,
    pub templates: Vec<(TemplateNote, Rc<Template>)>,
    pub children: Vec<Child>,
    /// pid and status of children that were reaped and not heard of.
    pub ended: Vec<(u32, WaitStatus)>,
    pub orphan: Option<Orphan>,
}

/// Asks the templates of all actors, and waits for at most `limit_ms`.
pub(super) async fn ask(adoptees: Vec<Adoptee>, limit_ms: u64) -> Vec<Reported> {
    for (_, template) in adoptees.iter().flat_map(|adoptee| &adoptee.templates) {
        let _ = template.pidfd.send_signal(Signal::CONT);
        // Its queue may be full of what the hr_ctrl before has asked: then the answer is missed below.
        let _ = template.request_report(own_number());
    }
    let limit = Duration::from_millis(limit_ms);
    join_all(adoptees.into_iter().map(|adoptee| hear(adoptee, limit))).await
}

async fn hear(adoptee: Adoptee, limit: Duration) -> Reported {
    let mut reported = Reported {
        actor: adoptee.actor,
        templates: Vec::new(),
        children: Vec::new(),
        ended: Vec::new(),
        orphan: adoptee.orphan,
    };
    for (note, template) in adoptee.templates {
        let said = tokio::time::timeout(limit, hear_one(note.generation, &template)).await;
        let Ok(Some((children, ended))) = said else {
            let _ = template.pidfd.send_signal(Signal::KILL);
            continue;
        };
        reported.children.extend(children);
        reported.ended.extend(ended);
        reported.templates.push((note, template));
    }
    reported
}

/// What this hr_ctrl asks with. The one before may have ended while it read a report; what is left of
/// that comes first, and is not all.
fn own_number() -> u32 {
    std::process::id()
}

/// Everything that one template says before its report is complete.
async fn hear_one(
    generation: u32,
    template: &Rc<Template>,
) -> Option<(Vec<Child>, Vec<(u32, WaitStatus)>)> {
    let (mut children, mut ended) = (Vec::new(), Vec::new());
    loop {
        while let Some(Heard { message, fds }) = template.receive().ok()? {
            match message {
                FromTemplate::Child { number, .. } | FromTemplate::Reported { number }
                    if number != own_number() => {}
                FromTemplate::Reported { .. } => return Some((children, ended)),
                FromTemplate::Ended { pid, status } => ended.push((pid, WaitStatus(status))),
                FromTemplate::Child { serial, pid, .. } => {
                    let mut fds = fds.into_iter();
                    let (pidfd, socket) = fds.next().zip(fds.next())?;
                    let pidfd = PidFd::from(pidfd);
                    // The pidfd of somebody else would be watched, and killed.
                    let is_it = |who: Identity| who.pid == pid && who.parent == template.pid;
                    if pidfd.identity().ok().flatten().is_some_and(is_it) {
                        children.push(Child {
                            serial,
                            pid,
                            pidfd,
                            socket,
                            generation,
                        });
                    }
                }
                // Said to the hr_ctrl before; the report says it again.
                FromTemplate::Ready
                | FromTemplate::Threaded { .. }
                | FromTemplate::Forked { .. }
                | FromTemplate::ForkFailed { .. } => {}
            }
        }
        watch::readable(Rc::clone(template)).await.ok()?;
    }
}
