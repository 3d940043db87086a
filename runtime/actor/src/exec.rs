//! `hrfexec`: running a program as an indirect actor of one's own group (SPEC H2, H4, H12).
//!
//! Called by restartable actors. The strings travel in a memfd, the stdio as fds beside the
//! request. This module must never pass on what belongs to the caller's life (`REFRAIN_*`).

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use refrain_abi::Aid;
use refrain_abi::request::{ErrorCode, MAX_EXEC_BLOB, Reply, Request};
use refrain_sys::memfd;

use crate::attach::{Actor, AttachError, attach};
use crate::link::{RequestError, unexpected};

/// What every variable of Refrain's own begins with.
const OWN_VARIABLES: &[u8] = b"REFRAIN_";

/// Why `hrfexec` began no life.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The program is no actor.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The controller refused, or does not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A NUL byte, which no path, argument or variable can hold.
    #[error("hrfexec: {text:?} holds a NUL byte")]
    Nul {
        /// The offending text.
        text: OsString,
    },
    /// A string of the environment that names no variable.
    #[error("hrfexec: {text:?} is no environment string of the form NAME=VALUE")]
    Variable {
        /// The offending text.
        text: OsString,
    },
    /// Arguments and environment are more than a frame's blob may hold.
    #[error(
        "hrfexec: arguments and environment are {len} bytes; at most {MAX_EXEC_BLOB} are passed on"
    )]
    TooLong {
        /// Their length in bytes.
        len: usize,
    },
    /// The request could not be put together.
    #[error("hrfexec: cannot {what}: {why}")]
    Prepare {
        /// What was being done.
        what: &'static str,
        /// What the kernel says.
        #[source]
        why: io::Error,
    },
}

impl ExecError {
    /// The controller's family of refusal; `None` where it did not come from there.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Request(error) | Self::Attach(AttachError::Request(error)) => error.code(),
            _ => None,
        }
    }
}

/// An fd that becomes the new life's stdin, stdout or stderr.
#[derive(Debug)]
pub enum StdioFd<'a> {
    /// Closed in the caller once the life has begun.
    Owned(OwnedFd),
    /// Still the caller's afterwards.
    Borrowed(BorrowedFd<'a>),
}

impl AsFd for StdioFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Owned(fd) => fd.as_fd(),
            Self::Borrowed(fd) => *fd,
        }
    }
}

impl From<OwnedFd> for StdioFd<'_> {
    fn from(fd: OwnedFd) -> Self {
        Self::Owned(fd)
    }
}

impl From<File> for StdioFd<'_> {
    fn from(file: File) -> Self {
        Self::Owned(file.into())
    }
}

impl<'a> From<BorrowedFd<'a>> for StdioFd<'a> {
    fn from(fd: BorrowedFd<'a>) -> Self {
        Self::Borrowed(fd)
    }
}

impl<'a> From<&'a File> for StdioFd<'a> {
    fn from(file: &'a File) -> Self {
        Self::Borrowed(file.as_fd())
    }
}

/// What `hrfexec` is to run, and how. Only the path must be given.
///
/// A path whose file name (or [`Exec::name`]) is registered in the caller's group and not alive
/// is started from the image in memory; the disk is not looked at, so a bare name does then
/// (SPEC H4).
///
/// ```no_run
/// use std::fs::File;
/// use refrain::Exec;
///
/// let aid = Exec::new("target/debug/collector")
///     .name("collector-east")
///     .args(["--zone", "east"])
///     .env("LEVEL", "2")
///     .stdout(File::create("/var/log/collector.log")?)
///     .spawn()?;
/// println!("started aid {aid}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing runs before spawn()"]
pub struct Exec<'a> {
    path: OsString,
    name: OsString,
    argv: Vec<OsString>,
    envp: Vec<OsString>,
    cwd: Option<PathBuf>,
    stdio: [Option<StdioFd<'a>>; 3],
}

impl<'a> Exec<'a> {
    /// Runs `path`, or the registered actor of that name, with itself as only argument, the
    /// caller's environment without `REFRAIN_*`, working directory and stdio.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        let path = path.as_ref().to_owned();
        let own = |name: &OsStr| name.as_bytes().starts_with(OWN_VARIABLES);
        let inherited = env::vars_os().filter(|(name, _)| !own(name));
        Self {
            argv: vec![path.clone()],
            envp: inherited
                .map(|(name, value)| variable(&name, &value))
                .collect(),
            path,
            name: OsString::new(),
            cwd: None,
            stdio: [None, None, None],
        }
    }

    /// The actor's name. Default: the file name of the path.
    pub fn name(mut self, name: impl AsRef<OsStr>) -> Self {
        name.as_ref().clone_into(&mut self.name);
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args<T: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.argv
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// The whole argument vector, `argv[0]` included, in place of what was given so far.
    pub fn argv<T: AsRef<OsStr>>(mut self, argv: impl IntoIterator<Item = T>) -> Self {
        self.argv.clear();
        self.args(argv)
    }

    /// Sets one variable, in place of one of that name.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        self.envp
            .retain(|text| variable_name(text) != Some(name.as_bytes()));
        self.envp.push(variable(name, value));
        self
    }

    /// The whole environment, strings of the form `NAME=VALUE`, in place of what was given so far.
    pub fn envp<T: AsRef<OsStr>>(mut self, envp: impl IntoIterator<Item = T>) -> Self {
        self.envp = envp
            .into_iter()
            .map(|text| text.as_ref().to_owned())
            .collect();
        self
    }

    /// The working directory. Default: the caller's.
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// What the life reads as stdin. Default: the caller's.
    pub fn stdin(mut self, fd: impl Into<StdioFd<'a>>) -> Self {
        self.stdio[0] = Some(fd.into());
        self
    }

    /// What the life writes to as stdout. Default: the caller's.
    pub fn stdout(mut self, fd: impl Into<StdioFd<'a>>) -> Self {
        self.stdio[1] = Some(fd.into());
        self
    }

    /// What the life writes to as stderr. Default: the caller's.
    pub fn stderr(mut self, fd: impl Into<StdioFd<'a>>) -> Self {
        self.stdio[2] = Some(fd.into());
        self
    }

    /// Begins a life, and returns its id once the controller has begun it.
    ///
    /// # Errors
    /// [`ExecError`]: no actor, an ordinary actor, a name that is alive or another group's, a
    /// program that cannot be loaded, a full table, strings that no program can be given.
    pub fn spawn(self) -> Result<Aid, ExecError> {
        attach()?.hrfexec(self)
    }

    /// The strings of the request, in the order in which [`Request::Hrfexec`] names them.
    fn blob(&self) -> Result<Vec<u8>, ExecError> {
        let cwd = match &self.cwd {
            Some(cwd) => cwd.clone(),
            None => env::current_dir().map_err(|why| ExecError::Prepare {
                what: "find the working directory",
                why,
            })?,
        };
        if let Some(text) = self.envp.iter().find(|text| variable_name(text).is_none()) {
            return Err(ExecError::Variable { text: text.clone() });
        }
        let mut blob = Vec::new();
        let front = [self.name.as_os_str(), &self.path, cwd.as_os_str()];
        let rest = self.argv.iter().chain(&self.envp).map(OsString::as_os_str);
        for text in front.into_iter().chain(rest) {
            if text.as_bytes().contains(&0) {
                return Err(ExecError::Nul {
                    text: text.to_owned(),
                });
            }
            blob.extend_from_slice(text.as_bytes());
            blob.push(0);
        }
        if blob.len() as u64 > MAX_EXEC_BLOB {
            return Err(ExecError::TooLong { len: blob.len() });
        }
        Ok(blob)
    }
}

impl Actor {
    /// See [`Exec::spawn`] and [`hrfexec`](crate::hrfexec).
    ///
    /// # Errors
    /// [`ExecError`].
    pub fn hrfexec(&self, exec: Exec<'_>) -> Result<Aid, ExecError> {
        self.link().check_own()?;
        let blob = exec.blob()?;
        let prepare = |why| ExecError::Prepare {
            what: "pass the arguments on",
            why,
        };
        let memfd = memfd::from_bytes("refrain-hrfexec", &blob, false).map_err(prepare)?;
        // Nobody changes it under the controller's eyes; also it could not be trusted otherwise.
        memfd::seal_image(memfd.as_fd()).map_err(prepare)?;
        let request = Request::Hrfexec {
            blob: blob.len() as u32,
            argc: exec.argv.len() as u32,
            envc: exec.envp.len() as u32,
        };
        let own = (io::stdin(), io::stdout(), io::stderr());
        let own = [own.0.as_fd(), own.1.as_fd(), own.2.as_fd()];
        let [stdin, stdout, stderr] =
            [0, 1, 2].map(|n: usize| exec.stdio[n].as_ref().map_or(own[n], AsFd::as_fd));
        let answer = self
            .link()
            .ask(&request, &[stdin, stdout, stderr, memfd.as_fd()])?;
        match answer.reply {
            Reply::Started { aid } => Ok(aid),
            _ => Err(unexpected(&request).into()),
        }
    }
}

/// Runs a program as an indirect actor of the caller's group, with everything said.
///
/// `path` is a path or a registered name; `argv` includes `argv[0]`; `envp` is strings of the form
/// `NAME=VALUE`; `stdio` is stdin, stdout, stderr, all still the caller's afterwards. [`Exec`] is
/// the same with defaults. Source: SPEC H2, H4, H12; ChorusOS `hrfexec(2RESTART)`.
///
/// # Errors
/// As [`Exec::spawn`].
///
/// ```no_run
/// use std::os::fd::AsFd;
/// let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
/// let aid = refrain::hrfexec(
///     "./HR_child",
///     &["HR_child", "200"],
///     &["LANG=C"],
///     [input.as_fd(), output.as_fd(), errors.as_fd()],
/// )?;
/// println!("started aid {aid}");
/// # Ok::<(), refrain::ExecError>(())
/// ```
pub fn hrfexec<A: AsRef<OsStr>, E: AsRef<OsStr>>(
    path: impl AsRef<OsStr>,
    argv: &[A],
    envp: &[E],
    stdio: [BorrowedFd<'_>; 3],
) -> Result<Aid, ExecError> {
    let [stdin, stdout, stderr] = stdio;
    Exec::new(path)
        .argv(argv)
        .envp(envp)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
}

fn variable(name: &OsStr, value: &OsStr) -> OsString {
    let mut text = name.to_owned();
    text.push("=");
    text.push(value);
    text
}

/// The name in `NAME=VALUE`; `None` when there is none. A `=` in front is part of the name, as
/// `std::env` and some shells have it.
fn variable_name(text: &OsStr) -> Option<&[u8]> {
    let bytes = text.as_bytes();
    let equals = bytes.iter().skip(1).position(|byte| *byte == b'=')?;
    Some(&bytes[..=equals])
}
