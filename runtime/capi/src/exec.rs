//! `hr/hrCtrl.h`: the family `hrfexec` (SPEC H2, H4, H12).
//!
//! Called by restartable actors. The three functions that take `...` are C, in the header, and end up here. Must
//! never pass on what belongs to the caller's life (`REFRAIN_*`).

use std::ffi::{OsStr, OsString, c_char, c_int};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use refrain::{Aid, Exec, ExecError};

use crate::actor::KnCap;
use crate::codes::{Code, Coded, minus_one, minus_one_with};
use crate::names::{PmmName, Wrong, name};
use crate::pointers::{self, Null, store};

/// `AFX_SUPERVISOR_SPACE` of `afexec.h`.
const SUPERVISOR_SPACE: c_int = 0x2;

/// `AcParam` of `afexec.h`.
#[repr(C)]
pub struct AcParam {
    site: c_int,
    flags: c_int,
    stdin: *mut c_char,
    stdout: *mut c_char,
    stderr: *mut c_char,
    curdir: *mut c_char,
    rootdir: *mut c_char,
    cred: *mut (),
}

/// What every function of the family is given first.
struct Front {
    base_name: *mut PmmName,
    path: *const c_char,
    cap: *mut KnCap,
    param: *const AcParam,
}

/// See `hrCtrl.h`.
///
/// # Safety
/// As `hrCtrl.h` says: each pointer is null or points to what the header demands.
// SAFETY: the name is ChorusOS's, `hrCtrl.h` declares it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hrfexec(
    base_name: *mut PmmName,
    path: *const c_char,
    cap: *mut KnCap,
    param: *const AcParam,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe { hrfexecve(base_name, path, cap, param, argv, envp) }
}

/// See `hrCtrl.h`.
///
/// # Safety
/// As [`hrfexec`].
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hrfexecve(
    base_name: *mut PmmName,
    path: *const c_char,
    cap: *mut KnCap,
    param: *const AcParam,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    let front = Front {
        base_name,
        path,
        cap,
        param,
    };
    // SAFETY: by this function's contract.
    match unsafe { pointers::list(envp, "envp") } {
        // SAFETY: by this function's contract.
        Ok(envp) => unsafe { run(front, argv, Some(&envp), false) },
        Err(why) => refuse(&Refused::Wrong(why.into())),
    }
}

/// See `hrCtrl.h`.
///
/// # Safety
/// As [`hrfexec`].
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hrfexecv(
    base_name: *mut PmmName,
    path: *const c_char,
    cap: *mut KnCap,
    param: *const AcParam,
    argv: *const *const c_char,
) -> c_int {
    let front = Front {
        base_name,
        path,
        cap,
        param,
    };
    // SAFETY: by this function's contract.
    unsafe { run(front, argv, None, false) }
}

/// See `hrCtrl.h`.
///
/// # Safety
/// As [`hrfexec`].
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hrfexecvp(
    base_name: *mut PmmName,
    path: *const c_char,
    cap: *mut KnCap,
    param: *const AcParam,
    argv: *const *const c_char,
) -> c_int {
    let front = Front {
        base_name,
        path,
        cap,
        param,
    };
    // SAFETY: by this function's contract.
    unsafe { run(front, argv, None, true) }
}

/// Why no life began.
enum Refused {
    Wrong(Wrong),
    Arguments,
    Supervisor,
    Root,
    File { path: PathBuf, why: io::Error },
    Exec { path: PathBuf, why: ExecError },
}

impl From<Wrong> for Refused {
    fn from(why: Wrong) -> Self {
        Self::Wrong(why)
    }
}

impl From<Null> for Refused {
    fn from(why: Null) -> Self {
        Self::Wrong(why.into())
    }
}

/// # Safety
/// As [`hrfexec`].
unsafe fn run(
    front: Front,
    argv: *const *const c_char,
    envp: Option<&[&OsStr]>,
    search: bool,
) -> c_int {
    // SAFETY: by this function's contract.
    let begun = unsafe { begin(&front, argv, envp, search) };
    let aid = match begun {
        Ok(aid) => aid,
        Err(why) => return refuse(&why),
    };
    if !front.cap.is_null() {
        // It may have ended already; then there is no capability to hand out.
        let cap = refrain::capability_of(aid).map_or(KnCap::default(), KnCap::from);
        // SAFETY: not null, so a `KnCap` that may be written, by this function's contract.
        unsafe { store(front.cap, cap) };
    }
    crate::group::number(aid.0)
}

/// # Safety
/// As [`hrfexec`].
unsafe fn begin(
    front: &Front,
    argv: *const *const c_char,
    envp: Option<&[&OsStr]>,
    search: bool,
) -> Result<Aid, Refused> {
    // SAFETY: by this function's contract.
    let name = unsafe { name(front.base_name, "baseName") }?;
    // SAFETY: as above.
    let given = unsafe { pointers::text(front.path, "path") }?;
    // SAFETY: as above.
    let argv = unsafe { pointers::list(argv, "argv") }?;
    // SAFETY: as above.
    let param = unsafe { front.param.as_ref() };
    if argv.is_empty() {
        return Err(Refused::Arguments);
    }
    let settings = match param {
        // SAFETY: as above.
        Some(param) => unsafe { Settings::of(param) }?,
        None => Settings::default(),
    };
    let path = program(given, search, settings.curdir.is_some());
    let mut exec = Exec::new(&path).name(name).argv(&argv);
    if let Some(envp) = envp {
        let own = |text: &&&OsStr| !text.as_bytes().starts_with(b"REFRAIN_");
        exec = exec.envp(envp.iter().filter(own));
    }
    if let Some(file) = settings.stdin {
        exec = exec.stdin(file);
    }
    if let Some(file) = settings.stdout {
        exec = exec.stdout(file);
    }
    if let Some(file) = settings.stderr {
        exec = exec.stderr(file);
    }
    if let Some(curdir) = settings.curdir {
        exec = exec.cwd(curdir);
    }
    exec.spawn().map_err(|why| Refused::Exec {
        path: path.into(),
        why,
    })
}

/// What an `AcParam` says.
#[derive(Default)]
struct Settings {
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    curdir: Option<PathBuf>,
}

impl Settings {
    /// # Safety
    /// Each pointer in `param` is null or points to a NUL-terminated string.
    unsafe fn of(param: &AcParam) -> Result<Self, Refused> {
        if param.flags & SUPERVISOR_SPACE != 0 {
            return Err(Refused::Supervisor);
        }
        if !param.rootdir.is_null() {
            return Err(Refused::Root);
        }
        // SAFETY: by this function's contract.
        let text = |text: *mut c_char| unsafe { pointers::text(text, "") }.ok();
        let mut append = OpenOptions::new();
        append.append(true).create(true);
        let open = |options: &OpenOptions, path: *mut c_char| match text(path) {
            Some(path) => options.open(path).map(Some).map_err(|why| Refused::File {
                path: path.into(),
                why,
            }),
            None => Ok(None),
        };
        Ok(Self {
            stdin: open(OpenOptions::new().read(true), param.stdin)?,
            stdout: open(&append, param.stdout)?,
            stderr: open(&append, param.stderr)?,
            curdir: text(param.curdir).map(PathBuf::from),
        })
    }
}

/// The path that the controller is given. It looks along `$PATH` for one without a slash, and begins others at
/// the directory of the new life, which may not be the caller's.
fn program(given: &OsStr, search: bool, elsewhere: bool) -> OsString {
    let path = Path::new(given);
    if search && !given.as_bytes().contains(&b'/') {
        return given.to_owned();
    }
    match std::env::current_dir() {
        Ok(dir) if elsewhere => dir.join(path).into(),
        _ if given.as_bytes().contains(&b'/') => given.to_owned(),
        _ => Path::new(".").join(path).into(),
    }
}

fn refuse(why: &Refused) -> c_int {
    match why {
        Refused::Wrong(why) => minus_one_with(why.code().errno(), why),
        Refused::Arguments => minus_one_with(libc::EINVAL, &"hrfexec: there is no argv[0]"),
        Refused::Supervisor => minus_one_with(
            libc::ENOTSUP,
            &"hrfexec: a program is a user actor; leave AFX_SUPERVISOR_SPACE out",
        ),
        Refused::Root => minus_one_with(
            libc::ENOTSUP,
            &"hrfexec: actors share the root directory; acRootdir must be null",
        ),
        Refused::File { path, why } => minus_one_with(
            why.raw_os_error().unwrap_or(libc::EIO),
            &format_args!("hrfexec: cannot open {}: {why}", path.display()),
        ),
        Refused::Exec { path, why } => match why {
            ExecError::Attach(why) => minus_one(why),
            ExecError::Request(request) if request.family() == Code::NoExec => {
                minus_one_with(not_loaded(path), why)
            }
            ExecError::Request(why) => minus_one(why),
            ExecError::TooLong { .. } => minus_one_with(libc::E2BIG, why),
            ExecError::Prepare { why: cause, .. } => {
                minus_one_with(cause.raw_os_error().unwrap_or(libc::EIO), why)
            }
            // A NUL, a variable without a name.
            _ => minus_one_with(libc::EINVAL, why),
        },
    }
}

/// Why the controller could not load the program: as `execve` would say it.
fn not_loaded(path: &Path) -> c_int {
    if !path.as_os_str().as_bytes().contains(&b'/') {
        return libc::ENOENT;
    }
    match path.metadata() {
        Err(why) => why.raw_os_error().unwrap_or(libc::ENOENT),
        Ok(about) if !about.is_file() || about.permissions().mode() & 0o111 == 0 => libc::EACCES,
        Ok(_) => libc::ENOEXEC,
    }
}
