//! The requests of one life, on its own socket (DESIGN section 4).
//!
//! Whatever arrives is hostile until decoded. One request is answered at a time, so a life can
//! never have more than one under way, and a request is never taken for another life's: nobody reads the
//! socket any more when the life has ended. A request outlives the controller ([`super::queue`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use actix::Addr;
use hr_ctrl_core::Refusal;
use refrain_abi::request::{ErrorCode, MAX_FRAME, Reply, Request};
use refrain_abi::{BlockName, Gid, Serial};
use refrain_sys::mapping::ControlPageMapping;
use refrain_sys::seqpacket;

use super::ahead::Ahead;
use super::queue::{Head, Queue};
use super::{Asker, ServeLife, SharedAhead, SharedBank, exec, image};
use crate::hr_ctrl::{self, HrCtrl};
use crate::site::{ShutdownLevel, SiteError, StartSpec};
use crate::watch;

/// What a life is told whose request the controller has not seen to its end.
const INTERRUPTED: &str = "the site's controller ended while it carried this out; \
                           look whether it was done, then ask again";

struct Server {
    asker: Asker,
    serial: Serial,
    welcome: Reply,
    page: Arc<OwnedFd>,
    control: Arc<ControlPageMapping>,
    bank: SharedBank,
    ahead: SharedAhead,
    hr_ctrl: Addr<HrCtrl>,
}

/// An answer and the fd that travels beside it.
type Answer = (Reply, Option<Arc<OwnedFd>>);

/// Why a request is refused.
pub(crate) struct Refused {
    code: ErrorCode,
    text: String,
}

impl Refused {
    fn new(code: ErrorCode, text: impl ToString) -> Self {
        Self {
            code,
            text: text.to_string(),
        }
    }

    pub(crate) fn reply(&self) -> Reply {
        Reply::error(self.code, &self.text)
    }
}

/// Serves `life` until it closes its socket or `ended` says that it has ended.
pub(super) async fn serve(
    life: ServeLife,
    (bank, ahead): (SharedBank, SharedAhead),
    hr_ctrl: Addr<HrCtrl>,
    mut ended: tokio::sync::watch::Receiver<()>,
) {
    let welcome = Reply::Welcome {
        aid: life.aid,
        gid: life.asker.gid,
        life: life.asker.life,
        serial: life.serial,
        capability: life.capability,
    };
    let server = Server {
        asker: life.asker,
        serial: life.serial,
        welcome,
        page: life.page,
        control: life.control,
        bank,
        ahead,
        hr_ctrl,
    };
    let socket = Rc::new(life.socket);
    tokio::select! {
        // Fails when the sender is dropped: the life has ended.
        _ = ended.changed() => {}
        () = server.run(&socket) => {}
    }
}

impl Server {
    /// Serves requests until the socket closes. A life that cannot be served any more is given up: its socket
    /// closes, which the template, who keeps the controller's end, too, would otherwise put off.
    async fn run(&self, socket: &Rc<impl AsFd + 'static>) {
        if let Err(why) = self.serve_all(socket).await {
            tracing::debug!(actor = ?self.asker.actor, %why, "a life's requests are not served any more");
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }

    async fn serve_all(&self, socket: &Rc<impl AsFd + 'static>) -> io::Result<()> {
        let queue = Queue {
            socket: socket.as_ref(),
            page: &self.control,
            serial: self.serial,
        };
        loop {
            watch::readable(Rc::clone(socket)).await?;
            let Some(head) = queue.look()? else {
                continue;
            };
            if let Head::Closed = head {
                return Ok(());
            }
            self.see_to(head, socket).await?;
            queue.done()?;
        }
    }

    /// Carries out what is at the head of the queue, and answers it.
    async fn see_to(&self, head: Head, socket: &Rc<impl AsFd + 'static>) -> io::Result<()> {
        let (seq, (reply, fd)) = match head {
            Head::Closed => return Ok(()),
            Head::Unreadable(why) => (0, (Reply::error(ErrorCode::Invalid, why), None)),
            Head::Interrupted { seq } => (seq, (Reply::error(ErrorCode::Again, INTERRUPTED), None)),
            Head::Request { seq, request, fds } => match request {
                Request::Failing => {
                    // Awaited, so that a life which says nothing else fills no mailbox.
                    let _ = self.hr_ctrl.send(hr_ctrl::Failing(self.asker)).await;
                    return Ok(());
                }
                Request::ImageHere => {
                    return image::answer(&self.hr_ctrl, self.asker, socket.as_ref(), seq).await;
                }
                request => {
                    let answer = self.carry_out(request, fds).await;
                    let refused = |refused: Refused| (refused.reply(), None);
                    (seq, answer.unwrap_or_else(refused))
                }
            },
        };
        let mut out = [0; MAX_FRAME];
        let len = reply.encode(seq, &mut out).map_err(io::Error::other)?;
        let fds: Vec<BorrowedFd<'_>> = fd.iter().map(|fd| fd.as_fd()).collect();
        // A life that does not read its answers loses them: nobody waits for it here.
        match seqpacket::send_dontwait(socket, &out[..len], &fds) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    async fn carry_out(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, Refused> {
        let asker = &self.asker;
        let done = |count| Ok((Reply::Done { count }, None));
        match request {
            Request::Hello => {
                let actor = asker.actor;
                self.remember(|ahead, bank| ahead.attached(bank, actor));
                Ok((self.welcome, Some(Arc::clone(&self.page))))
            }
            Request::PmmAllocate { name, size, key } => {
                let block = self.with_bank(|bank| bank.allocate(name, size, key, asker.owner()))?;
                self.remember(|ahead, bank| ahead.used(bank, asker.actor, name));
                let reply = Reply::Block {
                    addr: block.addr,
                    size: block.size,
                    existed: block.existed,
                };
                Ok((reply, Some(Arc::new(block.fd))))
            }
            Request::PmmFree { name } => {
                let freed = self.with_bank(|bank| bank.free(name, asker.owner()));
                self.freed(Some(name));
                freed?;
                done(1)
            }
            Request::PmmFreeAll { key } => {
                let freed = self.with_bank(|bank| bank.free_all(key, asker.owner()));
                self.freed(None);
                done(freed?)
            }
            Request::PmmGrant { name, gid } => {
                self.with_bank(|bank| bank.grant(name, gid, asker.owner()))?;
                done(0)
            }
            Request::Hrfexec { blob, argc, envc } => {
                let spec = exec::spec(asker.gid, (blob, argc, envc), &fds)?;
                self.hrfexec(spec, fds).await
            }
            Request::GetActorGroup { aid } => {
                let asked = self
                    .hr_ctrl
                    .send(hr_ctrl::GroupOf { aid, by: *asker })
                    .await;
                let gid = asked.map_err(|_| gone())?.map_err(refused)?;
                Ok((Reply::Group { gid }, None))
            }
            Request::GetCapability { aid } => {
                let asked = self
                    .hr_ctrl
                    .send(hr_ctrl::CapabilityOf { aid, by: *asker })
                    .await;
                let capability = asked.map_err(|_| gone())?.map_err(refused)?;
                Ok((Reply::Capability { capability }, None))
            }
            Request::KillGroup { gid } => self.kill_group(gid).await,
            Request::Shutdown { level } => self.shutdown(level).await,
            Request::Promise => {
                let told = self.hr_ctrl.send(hr_ctrl::Promised(*asker)).await;
                told.map_err(|_| gone())?;
                done(0)
            }
            // Both are seen to before they come here.
            Request::Failing | Request::ImageHere => Err(invalid("not answered")),
        }
    }

    /// Notes what the next life will ask for.
    fn remember(&self, note: impl FnOnce(&mut Ahead, &refrain_pmm::Bank)) {
        if let Some(bank) = self.bank.borrow().as_ref() {
            note(&mut self.ahead.borrow_mut(), bank);
        }
    }

    /// Before a free is answered, whatever came of it: nobody maps any more what was sent ahead of it.
    fn freed(&self, name: Option<BlockName>) {
        if let Some(bank) = self.bank.borrow().as_ref() {
            let stale = self.ahead.borrow_mut().freed(bank, name);
            hr_ctrl::refresh(&self.hr_ctrl, stale);
        }
    }

    fn with_bank<T>(
        &self,
        act: impl FnOnce(&mut refrain_pmm::Bank) -> Result<T, refrain_pmm::PmmError>,
    ) -> Result<T, Refused> {
        let mut bank = self.bank.borrow_mut();
        let bank = bank.as_mut().ok_or_else(gone)?;
        act(bank).map_err(|error| Refused::new(error.code(), &error))
    }

    async fn hrfexec(&self, spec: StartSpec, mut fds: Vec<OwnedFd>) -> Result<Answer, Refused> {
        fds.truncate(3);
        let stdio: [OwnedFd; 3] = fds
            .try_into()
            .map_err(|_| invalid("hrfexec passes stdin, stdout and stderr"))?;
        let run = hr_ctrl::RunFromLife {
            spec,
            by: self.asker,
            stdio,
        };
        let aid = self
            .hr_ctrl
            .send(run)
            .await
            .map_err(|_| gone())?
            .map_err(refused)?;
        Ok((Reply::Started { aid }, None))
    }

    async fn kill_group(&self, gid: Gid) -> Result<Answer, Refused> {
        let kill = hr_ctrl::KillFromLife {
            gid,
            by: self.asker,
        };
        let killed = self.hr_ctrl.send(kill).await.map_err(|_| gone())?;
        killed.map_err(refused)?;
        Ok((Reply::Done { count: 0 }, None))
    }

    async fn shutdown(&self, level: u32) -> Result<Answer, Refused> {
        if self.asker.gid.is_none() {
            return Err(refused(SiteError::Refused(Refusal::NotRestartable)));
        }
        let level = match level {
            0 => ShutdownLevel::Halt,
            1 => ShutdownLevel::HotRestart,
            2 => ShutdownLevel::ColdRestart,
            3 => ShutdownLevel::Immediate,
            other => return Err(invalid(&format!("shutdown level {other}: 0, 1, 2 or 3"))),
        };
        let by = self.asker;
        self.hr_ctrl
            .send(hr_ctrl::ShutdownFromLife { level, by })
            .await
            .map_err(|_| gone())?
            .map_err(refused)?;
        Ok((Reply::Done { count: 0 }, None))
    }
}

pub(super) fn gone() -> Refused {
    Refused::new(
        ErrorCode::Again,
        "the site is being restarted or halted; ask again",
    )
}

pub(super) fn invalid(text: &str) -> Refused {
    Refused::new(ErrorCode::Invalid, text)
}

pub(super) fn refused(why: SiteError) -> Refused {
    let code = match &why {
        SiteError::NotLoaded(_) => ErrorCode::NoExec,
        SiteError::NoImage(_) | SiteError::ForeignUser => ErrorCode::Denied,
        SiteError::OtherMode { .. } => ErrorCode::Exists,
        SiteError::Halted | SiteError::NotStarted(_) | SiteError::NotHalted(_) => ErrorCode::Again,
        SiteError::Refused(refusal) => family(refusal),
    };
    Refused::new(code, why)
}

/// What a program decides by.
fn family(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::NameTaken { .. } | Refusal::Alive { .. } => ErrorCode::Exists,
        Refusal::TooManyActors { .. } | Refusal::TooManyGroups { .. } => ErrorCode::Full,
        Refusal::NoSuchAid { .. } | Refusal::NoSuchGroup { .. } => ErrorCode::NotFound,
        Refusal::GroupStopping { .. } | Refusal::SiteStopping | Refusal::Cancelled => {
            ErrorCode::Again
        }
        // NotYourGroup, StaleLife, NotRestartable.
        _ => ErrorCode::Denied,
    }
}
