//! What `hrfexec` passes: a program's name, path, directory, arguments and environment, in a blob.
//!
//! Called by [`super::lives`] for that request, with an fd that an actor chose. It must never read from
//! one that could keep the thread waiting, which serves the other lives too: a pipe, a terminal, a file on
//! a file system that the actor serves itself. So the blob is memory, a memfd or a file on tmpfs, which
//! is also what the library sends.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use refrain_abi::request::MAX_EXEC_BLOB;
use refrain_abi::{ActorName, Gid};

use super::lives::{Refused, invalid};
use crate::site::StartSpec;

/// How many fds travel beside the request: stdin, stdout, stderr and the blob.
const BLOB: usize = 3;

/// The bytes of the blob.
fn read(fd: impl AsFd, length: u32) -> Result<Vec<u8>, Refused> {
    if u64::from(length) > MAX_EXEC_BLOB {
        return Err(invalid(&format!(
            "arguments and environment of more than {MAX_EXEC_BLOB} bytes"
        )));
    }
    // Only memory has seals (fcntl(2), "File Sealing"): everything else answers EINVAL or EBADF.
    if rustix::fs::fcntl_get_seals(&fd).is_err() {
        return Err(invalid("the blob is no memory; pass a memfd"));
    }
    let mut bytes = vec![0; length as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::pread(&fd, &mut bytes[filled..], filled as u64) {
            Ok(0) => return Err(invalid("the blob is shorter than its frame says")),
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(invalid(&format!("the blob cannot be read: {error}"))),
        }
    }
    Ok(bytes)
}

/// Reads the strings in the blob, against the counts in the frame; the actor will be one of `gid`.
pub(crate) fn spec(
    gid: Option<Gid>,
    (blob, argc, envc): (u32, u32, u32),
    fds: &[OwnedFd],
) -> Result<StartSpec, Refused> {
    let fd = fds
        .get(BLOB)
        .ok_or_else(|| invalid("hrfexec passes four fds"))?;
    let bytes = read(fd, blob)?;
    let text =
        String::from_utf8(bytes).map_err(|_| invalid("arguments and environment must be UTF-8"))?;
    let strings = text
        .strip_suffix('\0')
        .ok_or_else(|| invalid("the blob does not end with NUL"))?;
    let strings = strings.split('\0').collect::<Vec<_>>();
    let expected = 3_usize
        .saturating_add(argc as usize)
        .saturating_add(envc as usize);
    if strings.len() != expected {
        return Err(invalid(
            "the blob holds another number of strings than its frame says",
        ));
    }
    let (head, rest) = strings.split_at(3);
    let (argv, envp) = rest.split_at(argc as usize);
    let [name, path, cwd] = [head[0], head[1], head[2]];
    let name = if name.is_empty() {
        path.rsplit('/').next().unwrap_or_default()
    } else {
        name
    };
    let name =
        ActorName::new(name).map_err(|why| invalid(&format!("actor name \"{name}\": {why}")))?;
    Ok(StartSpec {
        name,
        program: path.to_owned(),
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        env: envp
            .iter()
            .filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        cwd: PathBuf::from(cwd),
        umask: None,
        rlimits: Vec::new(),
        gid,
        in_place: false,
        fresh_layout: false,
        stopped: false,
        notice: crate::site::Notice::default(),
        policy: None,
        // These are its spawner's.
        limits: refrain_abi::limits::ActorLimits::default(),
        user: None,
        no_new_privs: false,
        // The configuration's for its name.
        hang: refrain_abi::hang::HangWatch::default(),
    })
}
