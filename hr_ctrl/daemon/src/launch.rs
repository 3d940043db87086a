//! Starting a site: what `c_init` does before it becomes a client like any other.
//!
//! The starter takes the site's lock, binds its socket, copies its own executable into a sealed
//! memfd and starts nucleus from that; so the site runs on whatever becomes of the files it came
//! from. It waits until hr_ctrl says that the site serves, or why it cannot.

use std::env;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use refrain_sys::memfd;
use refrain_sys::spawn::Spawn;
use rustix::fs::{FlockOperation, flock};

use crate::boot::BootRecord;
pub use crate::pulse::SYSTEMD_VARS;
use crate::pulse::WATCHDOG_PID;
use crate::{nucleus, paths};

/// The lowest limit of open files that a site starts with.
const MIN_FILES: u64 = 256;

/// How long the lock of a site may be held that nobody listens for.
const DYING: Duration = Duration::from_secs(5);
/// How long nucleus is waited for when it clears up after a site that could not serve.
const CLEAR_UP: Duration = Duration::from_secs(10);

/// Why a site was not started. One line each: what, where, the cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// A site of this name runs.
    #[error(
        "site \"{site}\" is already running; connect with c_init --connect --site {site}, or \
         choose another name with --site"
    )]
    Running {
        /// Its name.
        site: String,
    },
    /// The name cannot be a file name.
    #[error("site name \"{0}\": {1}")]
    Name(String, refrain_abi::NameError),
    /// A file of the site could not be made.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// nucleus could not be started.
    #[error("cannot start nucleus: {0}")]
    Nucleus(io::Error),
    /// nucleus is one thread.
    #[error("this program has more than one thread; put it below nucleus first thing in main")]
    Threads,
    /// The site itself says why it cannot serve.
    #[error("{0}")]
    Refused(String),
}

/// Starts the site that `record` describes and returns when it serves.
///
/// # Errors
/// [`LaunchError`]; then nothing of the site is left behind.
pub fn start_site(record: &BootRecord) -> Result<(), LaunchError> {
    refrain_abi::ActorName::new(&record.site)
        .map_err(|error| LaunchError::Name(record.site.clone(), error))?;
    enough_files()?;
    let lock = take_lock(&record.site)?;
    let socket = paths::socket(&record.site);
    let file_error = |path: &PathBuf| {
        let path = path.clone();
        move |error| LaunchError::File { path, error }
    };
    // The lock is ours, so a socket that is there belongs to a site that died.
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(LaunchError::File {
                path: socket,
                error,
            });
        }
        _ => {}
    }
    let listener = UnixListener::bind(&socket).map_err(file_error(&socket))?;
    let started = start_nucleus(record, lock, listener.into());
    match &started {
        Ok(()) => {}
        // nucleus came up and removes both itself; until it has ended, that must not be the next site's.
        Err(LaunchError::Refused(_)) => {
            let end = SiteEnd::watch(&record.site);
            let _ = end.map(|end| end.wait(CLEAR_UP));
        }
        Err(_) => {
            let _ = fs::remove_file(&socket);
            let _ = fs::remove_file(paths::lock(&record.site));
            let _ = fs::remove_dir(paths::site_root());
        }
    }
    started
}

/// Makes this process nucleus, with its own program as the controller, to the end of that. Answers the program's
/// exit code.
///
/// # Errors
/// [`LaunchError`]; then nothing was started.
pub(crate) fn become_nucleus(site: &str) -> Result<i32, LaunchError> {
    refrain_abi::ActorName::new(site).map_err(|error| LaunchError::Name(site.to_owned(), error))?;
    enough_files()?;
    let lock = take_lock(site)?;
    let argv = env::args_os()
        .map(|word| CString::new(word.into_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| LaunchError::Nucleus(error.into()))?;
    let exe = own_image(&own_name()).map_err(LaunchError::Nucleus)?;
    nucleus::embedding(site.to_owned(), (exe, lock), argv).map_err(LaunchError::Nucleus)
}

/// A site needs some thirty fds for itself and a dozen an actor; with a few it would come up and
/// then answer nobody.
fn enough_files() -> Result<(), LaunchError> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    match limit {
        Some(limit) if limit < MIN_FILES => Err(LaunchError::Refused(format!(
            "the limit of {limit} open files is too low for a site; raise it to {MIN_FILES} at least (ulimit -n)"
        ))),
        _ => Ok(()),
    }
}

/// The end of a site, for whoever told it to end: nucleus holds the site's lock to the last.
#[derive(Debug)]
pub struct SiteEnd(File);

impl SiteEnd {
    /// Looks at the site that runs now; `None` when none does.
    #[must_use]
    pub fn watch(site: &str) -> Option<Self> {
        File::open(paths::lock(site)).ok().map(Self)
    }

    /// Waits until nothing of the site is left, for at most `limit`; answers whether it is so.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let start = Instant::now();
        while flock(&self.0, FlockOperation::NonBlockingLockShared).is_err() {
            if start.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

/// Takes the lock of a site. The file may have been unlinked by a site that ended between our
/// open and our lock; then the lock we hold is nobody's, and we try again. One that nobody listens for is held
/// by a site that was killed: the last of its threads is about to end.
fn take_lock(site: &str) -> Result<OwnedFd, LaunchError> {
    let path = paths::lock(site);
    let file_error = |error| LaunchError::File {
        path: path.clone(),
        error,
    };
    let root = paths::site_root();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&root)
        .map_err(|error| LaunchError::File { path: root, error })?;
    let started = Instant::now();
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(file_error)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                if started.elapsed() > DYING || UnixStream::connect(paths::socket(site)).is_ok() {
                    return Err(LaunchError::Running {
                        site: site.to_owned(),
                    });
                }
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            Err(error) => return Err(file_error(error.into())),
        }
        let held = file.metadata().map_err(file_error)?;
        match fs::metadata(&path) {
            Ok(found) if found.ino() == held.ino() && found.dev() == held.dev() => {
                return Ok(file.into());
            }
            _ => {}
        }
    }
}

fn start_nucleus(record: &BootRecord, lock: OwnedFd, listener: OwnedFd) -> Result<(), LaunchError> {
    let boot = serde_json::to_vec(record).map_err(|e| LaunchError::Nucleus(e.into()))?;
    let boot = memfd::from_bytes("refrain-boot", &boot, false).map_err(LaunchError::Nucleus)?;
    let exe = own_image("c_init").map_err(LaunchError::Nucleus)?;
    let (mut status, status_end) = io::pipe().map_err(LaunchError::Nucleus)?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(LaunchError::Nucleus)?;
    let text = |text: &str| CString::new(text).map_err(|e| LaunchError::Nucleus(e.into()));
    let limit = record.tunables.hr_ctrl.answer_timeout_ms.to_string();
    let argv = [text("nucleus")?, text(&record.site)?, text(&limit)?];
    let systemd = SYSTEMD_VARS
        .iter()
        .filter(|name| **name != WATCHDOG_PID)
        .filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?)));
    let envp = record
        .env
        .iter()
        .cloned()
        .chain(systemd)
        .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok())
        .collect::<Vec<_>>();
    // What nucleus and hr_ctrl have to say outside the site's console is for whoever debugs them.
    let stderr = io::stderr();
    let log = if env::var_os("REFRAIN_LOG").is_some() {
        stderr.as_fd()
    } else {
        null.as_fd()
    };
    Spawn::new(exe.as_fd(), &argv, &envp)
        .cwd(std::path::Path::new("/"))
        .setsid(true)
        .fds(&[
            (null.as_fd(), 0),
            (null.as_fd(), 1),
            (log, 2),
            (exe.as_fd(), nucleus::EXE_FD),
            (boot.as_fd(), nucleus::BOOT_FD),
            (listener.as_fd(), nucleus::LISTENER_FD),
            (lock.as_fd(), nucleus::LOCK_FD),
            (status_end.as_fd(), nucleus::STATUS_FD),
        ])
        .spawn()
        .map_err(LaunchError::Nucleus)?;
    drop(status_end);
    let mut said = String::new();
    status
        .read_to_string(&mut said)
        .map_err(LaunchError::Nucleus)?;
    match said.trim_end() {
        "ok" => Ok(()),
        "" => Err(LaunchError::Refused(
            "hr_ctrl ended before the site served; set REFRAIN_LOG=debug to see why".into(),
        )),
        why => Err(LaunchError::Refused(why.to_owned())),
    }
}

/// The file name that this program was called by.
pub(crate) fn own_name() -> String {
    let called = env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(std::path::Path::file_name);
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// The running executable in a memfd; where those may not be executed, the file itself, which
/// stays open whatever becomes of its name.
fn own_image(name: &str) -> io::Result<OwnedFd> {
    let mut file = File::open("/proc/self/exe")?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    match memfd::from_bytes(name, &bytes, true) {
        Ok(image) => memfd::seal_image(image.as_fd()).map(|()| image),
        Err(error) if memfd::is_exec_refused(&error) => Ok(file.into()),
        Err(error) => Err(error),
    }
}
