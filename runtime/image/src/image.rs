//! A program file as an image: checked, copied into memory, sealed (SPEC H3).
//!
//! Called by the controller at the first start of an actor, never on the restart path (SPEC H10). The
//! file is read once; after that it may be changed or deleted, the image stays. Must never execute
//! what it has not checked: the checks are made on the copy, which nobody can change any more.
//!
//! A script's image is its interpreter, with the script's bytes in a memfd beside it.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use refrain_sys::memfd;
use rustix::fs::{Access, AtFlags, Mode, OFlags};

use crate::elf::{self, Elf, ElfError};
use crate::{interpreter, script, wrapper};

/// Why a file can't be an image: one line, with the path and the cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// There is no such file.
    #[error("{path}: no such file", path = .0.display())]
    NotFound(PathBuf),
    /// A directory.
    #[error("{path}: is a directory, name the program in it", path = .0.display())]
    IsDirectory(PathBuf),
    /// It lacks the permission to be executed.
    #[error("{path}: not executable (chmod +x makes it so)", path = .0.display())]
    NotExecutable(PathBuf),
    /// It holds nothing.
    #[error("{path}: empty file", path = .0.display())]
    Empty(PathBuf),
    /// It ends too early.
    #[error("{path}: {what}; copy or build it again", path = .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: ElfError,
    },
    /// It is for another machine.
    #[error("{path}: built for {found}, this machine is {host}", path = .path.display())]
    WrongArchitecture {
        /// The file.
        path: PathBuf,
        /// What it was built for.
        found: String,
        /// What runs here.
        host: &'static str,
    },
    /// Neither an ELF program nor a script.
    #[error("{path}: {why}; a program is an ELF file or begins with #!", path = .path.display())]
    NotAProgram {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// The interpreter that a script or a program names can't be used.
    #[error("{path}: its interpreter {interpreter} {why}", path = .path.display())]
    Interpreter {
        /// The script or program.
        path: PathBuf,
        /// What it names.
        interpreter: String,
        /// What is wrong with that.
        why: String,
    },
    /// Executable memfds are refused here, and no directory was given to keep a file in.
    #[error("{path}: executable memfds are refused here (vm.memfd_noexec=2), and no bank \
             directory was given", path = .0.display())]
    NoExecMemfd(PathBuf),
    /// It can't be read, or there is no memory for it.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

/// How a program is linked: what decides how its lives begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// Its `main` can be taken over.
    Dynamic,
    /// It has no dynamic loader.
    Static,
    /// It has one, but can't be taken over, for this reason.
    Unhookable(&'static str),
}

/// The script that an image was made for.
#[derive(Debug)]
pub struct Script {
    /// Its bytes, sealed; read through `/proc/self/fd`.
    pub fd: OwnedFd,
    /// Its path as it was asked for, from the root: `$0`.
    pub path: PathBuf,
    /// Its interpreter as the `#!` line names it: `argv[0]`. Not its real path, because a Python of a
    /// virtual environment finds that by the link it is called through.
    pub interpreter: CString,
    /// What comes between the interpreter and the script's name.
    pub arguments: Vec<CString>,
}

/// An actor image.
#[derive(Debug)]
pub struct Image {
    /// What is executed: a sealed memfd, or the file itself (`-xip`).
    pub fd: OwnedFd,
    /// The script beside it, where the program is one.
    pub script: Option<Script>,
    /// The program's path, symbolic links resolved: what it finds when it looks for itself.
    pub path: PathBuf,
    /// How much memory it takes, in bytes; 0 when executed in place.
    pub size: u64,
    /// How it is linked.
    pub linkage: Linkage,
    /// RPATH or RUNPATH with `$ORIGIN` replaced, where there is any: the loader would look beside
    /// the memfd.
    pub origin_libs: Option<CString>,
}

impl Image {
    /// Copies the program at `path` into memory. `env` in a `#!` line looks along this process's
    /// `PATH`.
    ///
    /// # Errors
    /// [`ImageError`], which says what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, ImageError> {
        Self::load_from(path, &Where::Memory(None), wrapper::behind)
    }

    /// As [`Image::load`] or [`Image::in_place`], for a user who is not the controller's: executes
    /// nothing, and so asks no version manager what its wrapper means.
    ///
    /// # Errors
    /// [`ImageError`], which says what is wrong with the file.
    pub fn load_for_another(path: &Path, in_place: bool) -> Result<Self, ImageError> {
        let place = if in_place {
            Where::InPlace
        } else {
            Where::Memory(None)
        };
        Self::load_from(path, &place, |_, _| None)
    }

    /// As [`Image::load`]; where executable memfds are refused, the image is a file without a name
    /// in `fallback` (the bank's directory, on tmpfs).
    ///
    /// # Errors
    /// [`ImageError`], which says what is wrong with the file.
    pub fn load_in(path: &Path, fallback: &Path) -> Result<Self, ImageError> {
        Self::load_from(path, &Where::Memory(Some(fallback)), wrapper::behind)
    }

    /// The program's file itself as the image (SPEC H7, `-xip`): whoever changes the file changes
    /// the next template. A script's bytes are copied all the same.
    ///
    /// # Errors
    /// [`ImageError`], which says what is wrong with the file.
    pub fn in_place(path: &Path) -> Result<Self, ImageError> {
        Self::load_from(path, &Where::InPlace, wrapper::behind)
    }

    fn load_from(
        path: &Path,
        place: &Where<'_>,
        behind: impl Fn(&Path, &Path) -> Option<PathBuf>,
    ) -> Result<Self, ImageError> {
        let (file, real) = open_checked(path)?;
        let front = front_of(&file, &real)?;
        if !front.starts_with(b"#!") {
            return Self::from_program(&file, &real, place);
        }
        let fail = |error| io_error(&real, error);
        let fd = memfd::create(&memfd_name(&real), false).map_err(fail)?;
        copy(&file, fd.as_fd()).map_err(fail)?;
        memfd::seal_image(fd.as_fd()).map_err(fail)?;
        let bytes = rustix::fs::fstat(&fd)
            .map_err(|error| fail(error.into()))?
            .st_size;
        let interpreter = interpreter::find(path, &front, behind)?;
        let mut image = Self::from_program(&interpreter.file, &interpreter.path, place)?;
        image.size += bytes.unsigned_abs();
        image.script = Some(Script {
            fd,
            path: std::path::absolute(path).map_err(fail)?,
            interpreter: interpreter.name,
            arguments: interpreter.arguments,
        });
        Ok(image)
    }

    fn from_program(file: &File, path: &Path, place: &Where<'_>) -> Result<Self, ImageError> {
        let (fd, size) = match place {
            Where::InPlace => (reopen(path)?, 0),
            Where::Memory(fallback) => copied(file, path, *fallback)?,
        };
        let fail = |error| io_error(path, error);
        let copy = File::from(fd.try_clone().map_err(fail)?);
        let elf = elf::inspect(&copy).map_err(|error| of_elf(path, error))?;
        if let Some(loader) = elf
            .interpreter
            .as_ref()
            .filter(|path| !Path::new(path).exists())
        {
            return Err(ImageError::Interpreter {
                path: path.to_owned(),
                interpreter: loader.clone(),
                why: "is not there; install the C library it belongs to".to_owned(),
            });
        }
        let special = fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o6000 != 0);
        let linkage = linkage(&elf, special && matches!(place, Where::InPlace));
        let origin_libs = elf
            .search_path
            .as_deref()
            .and_then(|text| expand_origin(text, path));
        Ok(Self {
            fd,
            script: None,
            path: path.to_owned(),
            size,
            linkage,
            origin_libs,
        })
    }
}

/// Where an image goes.
enum Where<'a> {
    /// Into a memfd, or into this directory where that is refused.
    Memory(Option<&'a Path>),
    /// Nowhere: the file is the image.
    InPlace,
}

fn io_error(path: &Path, error: io::Error) -> ImageError {
    ImageError::Io {
        path: path.to_owned(),
        error,
    }
}

fn of_elf(path: &Path, error: ElfError) -> ImageError {
    let path = path.to_owned();
    match error {
        ElfError::WrongArchitecture { found, host } => {
            ImageError::WrongArchitecture { path, found, host }
        }
        what @ ElfError::Truncated(_) => ImageError::Truncated { path, what },
        other => ImageError::NotAProgram {
            path,
            why: other.to_string(),
        },
    }
}

/// Opens a file that may be executed; answers it with its real path.
pub(crate) fn open_checked(path: &Path) -> Result<(File, PathBuf), ImageError> {
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::NotFound(path.to_owned()),
        io::ErrorKind::NotADirectory => ImageError::NotFound(path.to_owned()),
        _ => io_error(path, error),
    };
    let real = path.canonicalize().map_err(fail)?;
    let metadata = fs::metadata(&real).map_err(fail)?;
    if metadata.is_dir() {
        return Err(ImageError::IsDirectory(path.to_owned()));
    }
    if !metadata.is_file() {
        let why = "not a regular file".to_owned();
        return Err(ImageError::NotAProgram {
            path: path.to_owned(),
            why,
        });
    }
    let allowed = rustix::fs::accessat(rustix::fs::CWD, &real, Access::EXEC_OK, AtFlags::EACCESS);
    if allowed.is_err() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(ImageError::NotExecutable(path.to_owned()));
    }
    if metadata.len() == 0 {
        return Err(ImageError::Empty(path.to_owned()));
    }
    Ok((File::open(&real).map_err(fail)?, real))
}

/// The file's first bytes: enough to tell what it is.
pub(crate) fn front_of(file: &File, path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut front = vec![0; script::MAX_LINE];
    let mut len = 0;
    while let Some(rest) = front.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file
            .read_at(rest, len as u64)
            .map_err(|error| io_error(path, error))?
        {
            0 => break,
            count => len += count,
        }
    }
    front.truncate(len);
    // Before anything is copied: a large file that is no program must cost nothing.
    if front.starts_with(b"#!") || front.starts_with(b"\x7fELF") {
        return Ok(front);
    }
    let why = "neither ELF nor script".to_owned();
    Err(ImageError::NotAProgram {
        path: path.to_owned(),
        why,
    })
}

/// Looks for an executable file along a `PATH`. A name with a slash is a path already.
#[must_use]
pub fn find_in_path(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    std::env::split_paths(path)
        .map(|directory| directory.join(name))
        .find(|candidate| {
            let executable = rustix::fs::access(candidate, Access::EXEC_OK).is_ok();
            executable && candidate.is_file()
        })
}

/// Copies a program into a sealed memfd, or into a file in `fallback`; answers its size too.
fn copied(file: &File, path: &Path, fallback: Option<&Path>) -> Result<(OwnedFd, u64), ImageError> {
    let fail = |error| io_error(path, error);
    let fd = match (memfd::create(&memfd_name(path), true), fallback) {
        (Ok(fd), _) => {
            copy(file, fd.as_fd()).map_err(fail)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o555)).map_err(|e| fail(e.into()))?;
            memfd::seal_image(fd.as_fd()).map_err(fail)?;
            fd
        }
        (Err(error), Some(directory)) if memfd::is_exec_refused(&error) => {
            executable_file(directory, |target| copy(file, target)).map_err(fail)?
        }
        (Err(error), None) if memfd::is_exec_refused(&error) => {
            return Err(ImageError::NoExecMemfd(path.to_owned()));
        }
        (Err(error), _) => return Err(fail(error)),
    };
    let size = rustix::fs::fstat(&fd)
        .map_err(|error| fail(error.into()))?
        .st_size;
    Ok((fd, size.unsigned_abs()))
}

/// A file without a name in `directory`, filled by `fill`, then open for reading and executing only: a
/// file that is open for writing can't be executed.
pub(crate) fn executable_file(
    directory: &Path,
    fill: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::from_raw_mode(0o700))?;
    fill(file.as_fd())?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o500))?;
    use std::os::fd::AsRawFd;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::open(
        own,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn reopen(path: &Path) -> Result<OwnedFd, ImageError> {
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|error| io_error(path, error.into()))
}

/// Copies all of `file`, inside the kernel.
fn copy(file: &File, target: BorrowedFd<'_>) -> io::Result<()> {
    let mut offset = 0;
    while rustix::fs::sendfile(target, file, Some(&mut offset), 1 << 30)? > 0 {}
    Ok(())
}

/// What the memfd is called in `/proc/PID/maps`; the kernel allows 249 bytes.
fn memfd_name(path: &Path) -> String {
    let name = path
        .file_name()
        .unwrap_or(OsStr::new("image"))
        .to_string_lossy();
    name.chars().filter(|c| !c.is_control()).take(60).collect()
}

pub(crate) fn linkage(elf: &Elf, set_id: bool) -> Linkage {
    match (&elf.interpreter, elf.imports_start) {
        (None, _) => Linkage::Static,
        (Some(_), _) if set_id => Linkage::Unhookable("set-user-id: nothing is preloaded"),
        (Some(_), Some(true)) => Linkage::Dynamic,
        (Some(_), Some(false)) => Linkage::Unhookable("starts without its C library"),
        (Some(_), None) => Linkage::Unhookable("its imports can't be read"),
    }
}

/// The directories of a search path, if one of them is relative to the program; `$ORIGIN` replaced
/// by where the program really is.
pub(crate) fn expand_origin(search_path: &str, program: &Path) -> Option<CString> {
    if !search_path.contains("$ORIGIN") && !search_path.contains("${ORIGIN}") {
        return None;
    }
    let origin = program.parent()?.to_str()?;
    let text = search_path
        .replace("${ORIGIN}", origin)
        .replace("$ORIGIN", origin);
    CString::new(text).ok()
}
