//! One life of a supervisor actor, as the actor sees it: who it is, and the calls that a user actor has.
//!
//! The factory is given a [`Life`] and hands a clone to the object it makes. The calls go the way that those
//! of a user actor go: over a socket of this life's own, which PMM serves. So whatever is checked there is
//! checked here, and whoever keeps a `Life` past its end is refused. The socket is made when the first call
//! needs it: a life that asks for nothing costs none.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use actix::Addr;
use hr_ctrl_core::ActorKey;
use refrain_abi::{ActorName, Aid, Capability, Gid, LifeNo, Serial};
use refrain_sys::mapping::{self, ControlPageMapping};
use refrain_sys::seqpacket;

use crate::hr_ctrl::{HrCtrl, RestartedTogether};
use crate::pmm::{self, Asker, Pmm};

/// How long a life waits to be told who it is, once: HR_CTRL books a restart in place microseconds after it.
const BOOKING: Duration = Duration::from_secs(1);

/// What all lives of an actor share.
pub(crate) struct Ground {
    pub name: ActorName,
    pub gid: Gid,
    pub hr_ctrl: Addr<HrCtrl>,
    pub pmm: Addr<Pmm>,
    /// Known from the first life on.
    pub actor: OnceLock<ActorKey>,
    page: OnceLock<Page>,
}

struct Page {
    fd: Arc<OwnedFd>,
    control: Arc<ControlPageMapping>,
}

impl Ground {
    pub fn new(name: ActorName, gid: Gid, (hr_ctrl, pmm): (Addr<HrCtrl>, Addr<Pmm>)) -> Self {
        Self {
            name,
            gid,
            hr_ctrl,
            pmm,
            actor: OnceLock::new(),
            page: OnceLock::new(),
        }
    }
}

/// Who a life is: new each time (SPEC H6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub aid: Aid,
    pub capability: Capability,
}

/// One life, shared by HR_CTRL, its slot and its object.
pub(crate) struct LifeShared {
    ground: Arc<Ground>,
    no: LifeNo,
    clean: AtomicBool,
    over: AtomicBool,
    credentials: Mutex<Option<Credentials>>,
    told: Condvar,
    attached: OnceLock<refrain::Actor>,
    attaching: Mutex<()>,
}

impl LifeShared {
    pub fn new(ground: Arc<Ground>, no: LifeNo) -> Arc<Self> {
        Arc::new(Self {
            ground,
            no,
            clean: AtomicBool::new(false),
            over: AtomicBool::new(false),
            credentials: Mutex::new(None),
            told: Condvar::new(),
            attached: OnceLock::new(),
            attaching: Mutex::new(()),
        })
    }

    pub fn no(&self) -> LifeNo {
        self.no
    }

    /// HR_CTRL has decided, or booked, this life.
    pub fn tell(&self, credentials: Credentials) {
        let mut told = self
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *told = Some(credentials);
        self.told.notify_all();
    }

    fn credentials(&self) -> Option<Credentials> {
        let told = self
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if told.is_none() {
            // Else HR_CTRL is told when this turn of the arbiter is over.
            let gid = self.ground.gid;
            self.ground.hr_ctrl.do_send(RestartedTogether(gid));
        }
        let waited = self
            .told
            .wait_timeout_while(told, BOOKING, |told| told.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether the exit handler was called (SPEC H21).
    pub fn is_clean(&self) -> bool {
        let by_page = || {
            let page = self.ground.page.get()?;
            Some(page.control.is_clean(self.serial()))
        };
        self.clean.load(Ordering::SeqCst) || by_page().unwrap_or(false)
    }

    /// The life has ended: no request of it is carried out any more.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether it has ever asked for anything.
    pub fn has_attached(&self) -> bool {
        self.attached.get().is_some()
    }

    /// Serials are counted from 1.
    fn serial(&self) -> Serial {
        Serial(self.no.0.wrapping_add(1))
    }

    fn attach(&self) -> Result<&refrain::Actor, refrain::AttachError> {
        if let Some(actor) = self.attached.get() {
            return Ok(actor);
        }
        let _turn = self
            .attaching
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(actor) = self.attached.get() {
            return Ok(actor);
        }
        let actor = refrain::Actor::over(self.serve()?)?;
        Ok(self.attached.get_or_init(|| actor))
    }

    /// The life's end of a socket whose other end PMM serves.
    fn serve(&self) -> Result<OwnedFd, refrain::AttachError> {
        let credentials = self
            .credentials()
            .filter(|_| !self.over.load(Ordering::SeqCst));
        let (Some(credentials), Some(actor)) = (credentials, self.ground.actor.get()) else {
            return Err(refrain::RequestError::NoAnswer.into());
        };
        let io = |error| refrain::AttachError::Page(error);
        let page = match self.ground.page.get() {
            Some(page) => page,
            None => {
                let (fd, control) = mapping::create_control_page().map_err(io)?;
                self.ground.page.get_or_init(|| Page {
                    fd: Arc::new(fd),
                    control: Arc::new(control),
                })
            }
        };
        let (theirs, own) = seqpacket::pair_nonblocking_first().map_err(io)?;
        let asker = Asker {
            actor: *actor,
            gid: Some(self.ground.gid),
            life: self.no,
        };
        self.ground.pmm.do_send(pmm::ServeLife {
            asker,
            aid: credentials.aid,
            serial: self.serial(),
            capability: credentials.capability,
            socket: Arc::new(theirs),
            page: Arc::clone(&page.fd),
            control: Arc::clone(&page.control),
        });
        Ok(own)
    }
}

/// One life of a supervisor actor. A clone is the same life.
///
/// Name and group are the same in every life; number, aid and capability are this one's (SPEC H6).
#[derive(Clone)]
pub struct Life(pub(super) Arc<LifeShared>);

impl Life {
    /// The actor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.ground.name.as_str()
    }

    /// Its restart group.
    #[must_use]
    pub fn gid(&self) -> Gid {
        self.0.ground.gid
    }

    /// The number of this life: 0 for the first (SPEC H13).
    #[must_use]
    pub fn no(&self) -> LifeNo {
        self.0.no
    }

    /// The id of this life. After a restart in place it waits, some microseconds, until HR_CTRL has booked
    /// that; aid 0, which nobody ever has, when the site has ended.
    #[must_use]
    pub fn aid(&self) -> Aid {
        self.0.credentials().map_or(Aid(0), |told| told.aid)
    }

    /// The unforgeable credential of this life; `None` when the site has ended. Waits as [`Life::aid`] does.
    #[must_use]
    pub fn capability(&self) -> Option<Capability> {
        self.0.credentials().map(|told| told.capability)
    }

    /// `HR_EXIT_HDL`: takes this life out of the controller's watch. Its end, however it comes about, is then
    /// clean (SPEC H21). The life goes on until its context stops.
    pub fn hr_exit_hdl(&self) {
        self.0.clean.store(true, Ordering::SeqCst);
    }

    /// This life as an actor that may ask: `pmm_allocate`, `pmm_free`, `hrfexec`, `hr_kill_group` and the rest
    /// are the methods of what it gives, and mean what they mean in a user actor.
    ///
    /// Each call waits for its answer, some tens of microseconds, and keeps its arbiter waiting as long.
    ///
    /// # Errors
    /// [`refrain::AttachError`]: the life or the site has ended, or there are no fds left.
    ///
    /// ```
    /// use std::sync::atomic::Ordering::SeqCst;
    /// use hr_ctrl::supervise::Life;
    ///
    /// /// How many lives the actor has had, this one included.
    /// fn lives(life: &Life) -> Result<u64, refrain::PmmError> {
    ///     let block = life.attach()?.pmm_allocate("lives", 4096, refrain::HR_GROUP_KEY)?;
    ///     Ok(block.words()[0].fetch_add(1, SeqCst) + 1)
    /// }
    /// ```
    pub fn attach(&self) -> Result<&refrain::Actor, refrain::AttachError> {
        self.0.attach()
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, gid) = (self.0.ground.name, self.0.ground.gid);
        write!(f, "Life({name}, group {gid}, life {})", self.0.no)
    }
}
