//! Finds the program that runs a script.
//!
//! Called by [`crate::image`]. Follows `#!` lines as the kernel does, up to the program that is none
//! itself, and sees through `env`, so that the image is the program that will really run. Must never take
//! more than [`MAX_NESTING`] steps.
//!
//! An interpreter that is a script itself (pyenv's `python3` is one) is not copied into memory: its own
//! interpreter reads it by its path.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::image::{ImageError, find_in_path, front_of, open_checked};
use crate::script;

/// How many `#!` lines are followed: as many as the kernel does.
const MAX_NESTING: usize = 5;

/// The program that runs a script.
pub(crate) struct Interpreter {
    /// Its file.
    pub(crate) file: File,
    /// Its path, links resolved.
    pub(crate) path: PathBuf,
    /// Its path as it was named: `argv[0]`.
    pub(crate) name: CString,
    /// What comes before the script's name.
    pub(crate) arguments: Vec<CString>,
}

/// Finds the program that runs the script at `path`, whose first bytes are `front`; `behind` is
/// [`crate::wrapper::behind`], or nothing where nothing may be executed.
pub(crate) fn find(
    path: &Path,
    front: &[u8],
    behind: impl Fn(&Path, &Path) -> Option<PathBuf>,
) -> Result<Interpreter, ImageError> {
    let mut front = front.to_vec();
    let mut arguments = Vec::new();
    for _ in 0..MAX_NESTING {
        let (named, mut words) = named_by(&front, path)?;
        let beside = path.parent().unwrap_or(Path::new("/"));
        let interpreter = behind(&named, beside).unwrap_or(named);
        words.append(&mut arguments);
        arguments = words;
        let unusable = |error: ImageError| ImageError::Interpreter {
            path: path.to_owned(),
            interpreter: interpreter.display().to_string(),
            why: format!("can't be used: {error}"),
        };
        let (file, real) = open_checked(&interpreter).map_err(unusable)?;
        front = front_of(&file, &real).map_err(unusable)?;
        let name = c_string(path, &interpreter, interpreter.as_os_str().as_bytes())?;
        if !front.starts_with(b"#!") {
            return Ok(Interpreter {
                file,
                path: real,
                name,
                arguments,
            });
        }
        arguments.insert(0, name);
    }
    Err(broken(path, Path::new("#!"), "leads to scripts only"))
}

fn broken(path: &Path, interpreter: &Path, why: &str) -> ImageError {
    ImageError::Interpreter {
        path: path.to_owned(),
        interpreter: interpreter.display().to_string(),
        why: why.to_owned(),
    }
}

fn c_string(path: &Path, interpreter: &Path, bytes: &[u8]) -> Result<CString, ImageError> {
    CString::new(bytes).map_err(|_| broken(path, interpreter, "is followed by a NUL"))
}

/// What one `#!` line names, and the arguments on it.
fn named_by(front: &[u8], path: &Path) -> Result<(PathBuf, Vec<CString>), ImageError> {
    let line =
        script::parse(front).ok_or_else(|| broken(path, Path::new("#!"), "is no program"))?;
    let interpreter = line.interpreter;
    if interpreter.is_relative() {
        return Err(broken(path, &interpreter, "is not an absolute path"));
    }
    let argument = line.argument.as_deref();
    let is_env = interpreter.file_name() == Some(OsStr::new("env"));
    if let Some(words) = argument.filter(|_| is_env).and_then(script::env_words) {
        let (name, rest) = words.split_first().unwrap_or((const { &Vec::new() }, &[]));
        let name = OsStr::from_bytes(name);
        let search = std::env::var_os("PATH").unwrap_or_default();
        let found = find_in_path(name, &search)
            .ok_or_else(|| broken(path, Path::new(name), "is not in PATH"))?;
        let rest = rest.iter().map(|word| c_string(path, &found, word));
        let rest = rest.collect::<Result<_, _>>()?;
        return Ok((found, rest));
    }
    if !interpreter.exists() {
        return Err(broken(path, &interpreter, "is not there"));
    }
    let arguments = argument
        .map(|word| c_string(path, &interpreter, word))
        .transpose()?;
    Ok((interpreter, arguments.into_iter().collect()))
}
