//! Users: who is meant by a name, and what files one of them may open.
//!
//! Called by the interpreter when an actor is to run as another user, and by the controller's loader.
//! Asks the C library, so that users of a directory service are found, too: that may wait for a
//! network, and is called on a thread that may.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::thread;

/// The longest entry of a user or a group that is read, in bytes.
const MAX_ENTRY: usize = 1 << 20;
/// The most supplementary groups, as the kernel's NGROUPS_MAX.
const MAX_GROUPS: usize = 65_536;

/// A user as the system's tables have him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// His name.
    pub name: String,
    /// His uid.
    pub uid: u32,
    /// His primary group.
    pub gid: u32,
    /// His home directory.
    pub home: String,
}

/// Whose rights a process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The uid.
    pub uid: u32,
    /// The gid.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

/// The user of this name; `None` when there is none.
///
/// # Errors
/// The C library's, where the tables cannot be read.
///
/// Source: getpwnam_r(3).
pub fn by_name(name: &str) -> io::Result<Option<User>> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    user(&|entry, buffer, result| {
        // SAFETY: a C string, and places for an entry, its strings and a pointer; `user` sees to them.
        unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry,
                buffer.as_mut_ptr(),
                buffer.len(),
                result,
            )
        }
    })
}

/// The user of this uid; `None` when there is none.
///
/// # Errors
/// As [`by_name`].
pub fn by_uid(uid: u32) -> io::Result<Option<User>> {
    user(&|entry, buffer, result| {
        // SAFETY: places for an entry, its strings and a pointer; `user` sees to them.
        unsafe { libc::getpwuid_r(uid, entry, buffer.as_mut_ptr(), buffer.len(), result) }
    })
}

type AskUser<'a> =
    dyn Fn(*mut libc::passwd, &mut [c_char], *mut *mut libc::passwd) -> libc::c_int + 'a;

fn user(ask: &AskUser<'_>) -> io::Result<Option<User>> {
    let mut size = 1024;
    loop {
        let mut buffer: Vec<c_char> = vec![0; size];
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut result = std::ptr::null_mut();
        match ask(entry.as_mut_ptr(), &mut buffer, &raw mut result) {
            libc::ERANGE if size < MAX_ENTRY => size *= 2,
            // Some libraries say so of a user that there is not. Source: getpwnam_r(3), ERRORS.
            0 | libc::ENOENT | libc::ESRCH if result.is_null() => return Ok(None),
            0 => {
                // SAFETY: found: the entry is filled.
                let entry = unsafe { entry.assume_init() };
                return Ok(Some(User {
                    name: text(entry.pw_name),
                    uid: entry.pw_uid,
                    gid: entry.pw_gid,
                    home: text(entry.pw_dir),
                }));
            }
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The gid of the group of this name; `None` when there is none.
///
/// # Errors
/// As [`by_name`].
///
/// Source: getgrnam_r(3).
pub fn group_by_name(name: &str) -> io::Result<Option<u32>> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut size = 1024;
    loop {
        let mut buffer: Vec<c_char> = vec![0; size];
        let mut entry = std::mem::MaybeUninit::<libc::group>::uninit();
        let mut result = std::ptr::null_mut();
        // SAFETY: a C string, and places for an entry, its strings and a pointer.
        let error = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr(),
                size,
                &raw mut result,
            )
        };
        match error {
            libc::ERANGE if size < MAX_ENTRY => size *= 2,
            0 | libc::ENOENT | libc::ESRCH if result.is_null() => return Ok(None),
            // SAFETY: found: the entry is filled.
            0 => return Ok(Some(unsafe { entry.assume_init() }.gr_gid)),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The groups that a user of this name has, `gid` among them.
///
/// # Errors
/// `InvalidInput` for a name with a NUL, or more groups than the kernel takes.
///
/// Source: getgrouplist(3).
pub fn groups_of(name: &str, gid: u32) -> io::Result<Vec<u32>> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut groups: Vec<u32> = vec![0; 64];
    loop {
        let mut count = i32::try_from(groups.len()).unwrap_or(i32::MAX);
        // SAFETY: a C string, and a place for as many groups as `count` says.
        let result =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let count = usize::try_from(count).unwrap_or(0);
        if result >= 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        if groups.len() >= MAX_GROUPS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        groups.resize(count.max(groups.len() * 2).min(MAX_GROUPS), 0);
    }
}

fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the C library's strings of an entry end with NUL and live as long as the buffer.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// Runs `act` with another user's rights to files: on a thread of its own, which ends with it, so that
/// nothing can be left of them. Only rights to files: what `act` executes has this process's, so it must
/// execute nothing.
///
/// # Errors
/// EPERM for a process that may not do so; no thread.
///
/// Source: setfsuid(2), "the capabilities ... CAP_DAC_OVERRIDE ... are cleared".
pub fn with_files_of<T: Send>(user: &Credentials, act: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let run = || {
            take_file_rights(user)?;
            Ok(act())
        };
        let thread = thread::Builder::new().spawn_scoped(scope, run)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a panic while files were opened")))
    })
}

/// The bare system calls: the C library's functions would change every thread.
fn take_file_rights(user: &Credentials) -> io::Result<()> {
    // SAFETY: the pointer and the count are those of one slice.
    let result =
        unsafe { libc::syscall(libc::SYS_setgroups, user.groups.len(), user.groups.as_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    for (call, id) in [
        (libc::SYS_setfsgid, user.gid),
        (libc::SYS_setfsuid, user.uid),
    ] {
        // SAFETY: numbers only.
        unsafe { libc::syscall(call, id) };
        // It answers the id of before, whatever came of it: asked with an id that none is, it tells.
        // SAFETY: numbers only.
        if unsafe { libc::syscall(call, u32::MAX) } as u32 != id {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_number_and_nobody_knows_the_nameless() {
        let root = by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(by_uid(0).unwrap(), Some(root));
        assert_eq!(by_name("no-such-user-here").unwrap(), None);
        assert_eq!(by_uid(3_999_999_999).unwrap(), None);
        assert_eq!(group_by_name("no-such-group-here").unwrap(), None);
        assert!(groups_of("root", 0).unwrap().contains(&0));
    }

    #[test]
    fn with_another_users_rights_only_his_files_open_and_the_thread_of_before_keeps_its_own() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "mine").unwrap();
        rustix::fs::chmod(&secret, 0o600.into()).unwrap();
        let nobody = Credentials {
            uid: 65_534,
            gid: 65_534,
            groups: Vec::new(),
        };
        let theirs = with_files_of(&nobody, || std::fs::read(&secret).map_err(|e| e.kind()));
        assert_eq!(theirs.unwrap(), Err(io::ErrorKind::PermissionDenied));
        assert_eq!(std::fs::read(&secret).unwrap(), b"mine");
    }
}
