//! C_INIT, the boot actor that holds sessions and reads `sysadm.ini` (SPEC part II), on the main
//! thread. It understands no command itself: that is the interpreter it was given.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use refrain_abi::session::FromSite;
use refrain_sys::process;
use tokio::net::UnixListener;
use tokio::sync::Notify;

use crate::boot::BootRecord;
use crate::interpreter::{IniMode, Interpreter, InterpreterFactory, Session};
use crate::output::Output;
use crate::session::{self, Host, Queue};
use crate::site::Site;

/// What sessions share with C_INIT; outlives each of its lives.
pub struct Desk {
    site: Site,
    factory: InterpreterFactory,
    interpreter: RefCell<Rc<dyn Interpreter>>,
    consoles: RefCell<Vec<Queue>>,
    first_console: Notify,
    failed: std::cell::Cell<u32>,
}

impl Desk {
    /// A desk with a fresh interpreter.
    pub fn new(site: Site, factory: InterpreterFactory) -> Rc<Self> {
        let interpreter = RefCell::new(factory(site.clone()));
        Rc::new(Self {
            site,
            factory,
            interpreter,
            consoles: RefCell::default(),
            first_console: Notify::new(),
            failed: std::cell::Cell::new(0),
        })
    }

    /// Returns when a console has been opened.
    pub async fn console_there(&self) {
        if self.consoles.borrow().is_empty() {
            self.first_console.notified().await;
        }
    }

    /// Brings the interpreter to its initial state and reads `sysadm.ini`; see [`Interpreter::read_ini`].
    pub async fn read_ini(self: &Rc<Self>, mode: IniMode, reached: &dyn Fn(u32)) {
        *self.interpreter.borrow_mut() = (self.factory)(self.site.clone());
        let boot = self.site.boot();
        let mut failed = 0;
        if let Some(ini) = boot.ini.clone() {
            let session = self.site_session(boot.cwd.clone());
            let interpreter = self.interpreter();
            failed = interpreter.read_ini(&session, &ini, mode, reached).await;
        }
        self.failed.set(self.failed.get().saturating_add(failed));
        self.tell_consoles(&FromSite::Booted { failed });
    }

    /// What the site was started with.
    pub fn boot(&self) -> &BootRecord {
        self.site.boot()
    }

    /// Tells every console that the site has ended.
    pub fn halted(&self) {
        let code = i32::from(self.site.boot().once && self.failed.get() > 0);
        self.tell_consoles(&FromSite::Halted { code });
    }

    fn tell_consoles(&self, message: &FromSite) {
        self.consoles
            .borrow_mut()
            .retain(|queue| queue.send(message.clone()));
    }

    /// A session whose output goes to every console.
    fn site_session(self: &Rc<Self>, cwd: PathBuf) -> Session {
        let desk = Rc::clone(self);
        let sink = Rc::new(move |message: FromSite| {
            if let FromSite::Err(line) = &message {
                tracing::warn!(%line, "sysadm.ini");
            }
            desk.tell_consoles(&message);
        });
        Session::new(cwd, sink, Rc::new(|| {}))
    }
}

impl Host for Desk {
    fn interpreter(&self) -> Rc<dyn Interpreter> {
        Rc::clone(&self.interpreter.borrow())
    }

    fn console_opened(&self, queue: Queue) {
        self.consoles.borrow_mut().push(queue);
        self.first_console.notify_one();
    }

    fn output(&self) -> Output {
        self.site.output().clone()
    }
}

/// The boot actor C_INIT.
pub struct CInit {
    desk: Rc<Desk>,
    listener: Option<OwnedFd>,
}

impl CInit {
    /// Serves sessions that come in on `listener`.
    ///
    /// # Errors
    /// EMFILE.
    pub fn new(desk: Rc<Desk>, listener: &OwnedFd) -> io::Result<Self> {
        Ok(Self {
            desk,
            listener: Some(listener.try_clone()?),
        })
    }
}

impl Actor for CInit {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        let desk = Rc::clone(&self.desk);
        context.spawn(
            async move {
                if let Err(error) = accept(listener, desk).await {
                    tracing::error!(%error, "no more sessions");
                }
            }
            .into_actor(self),
        );
    }
}

/// How many sessions there are at once. Each takes an fd of the process that restarts actors, which needs
/// its own: half of what `controller.rs` sets aside for a site is more than any site has consoles.
const MAX_SESSIONS: usize = 128;

async fn accept(listener: OwnedFd, desk: Rc<Desk>) -> io::Result<()> {
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    // Each session has a clone.
    let sessions = Rc::new(());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // EMFILE and their kind pass; the sessions there are go on.
                tracing::warn!(%error, "a session could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        // Invariant 8: only the site's owner commands it.
        let owner = process::peer_credentials(stream.as_fd()).map(|(_, uid, _)| uid);
        if !owner.is_ok_and(|uid| uid == 0 || uid == process::geteuid()) {
            continue;
        }
        if Rc::strong_count(&sessions) > MAX_SESSIONS {
            let why = format!("the site has {MAX_SESSIONS} sessions already; end one of them");
            session::refuse(&stream, &why);
            continue;
        }
        let (host, session) = (Rc::clone(&desk) as Rc<dyn Host>, Rc::clone(&sessions));
        actix_rt::spawn(async move {
            session::serve(stream, host).await;
            drop(session);
        });
    }
}
