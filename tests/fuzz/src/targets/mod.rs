//! The targets. Each module's own head says what holds for every input beside that it is taken.

mod catalogue;
mod command_line;
mod config;
mod control_page;
mod elf;
mod exec_blob;
mod frames;
mod requests;
mod session;
mod sysadm_ini;

use std::path::Path;

use hr_ctrl::interpreter::Session;

use crate::Target;

/// Every target.
pub const ALL: &[Target] = &[
    frames::TARGET,
    requests::TARGET,
    exec_blob::TARGET,
    control_page::TARGET,
    catalogue::TARGET,
    elf::TARGET,
    command_line::TARGET,
    sysadm_ini::TARGET,
    config::TARGET,
    session::TARGET,
];

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

/// Takes as many bytes from the front as there are up to `count`.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, rest) = bytes.split_at(count.min(bytes.len()));
    *bytes = rest;
    head
}

/// Takes a number, little-endian; what is missing is zero.
fn number(bytes: &mut &[u8], width: usize) -> u64 {
    let digits = take(bytes, width.min(8));
    digits
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Whether a text is one line that moves no cursor.
fn is_plain_line(text: &str) -> bool {
    !text.chars().any(c_init::words::steers)
}

/// Whether a command must not be carried out here: it would wait, open a port, or read a file of this
/// machine.
fn is_kept_back(words: &[String]) -> bool {
    use c_init::commands::Verb;
    match c_init::commands::parse(words) {
        Ok(Verb::Sleep(_) | Verb::Rshd(_)) => true,
        Ok(Verb::Source(source)) => {
            source.file.components().count() != 1 || !source.file.is_relative()
        }
        _ => false,
    }
}

/// A session whose lines are checked to be lines.
fn checked_session(scratch: &Path) -> Session {
    use refrain_abi::session::FromSite;
    let check = |message: FromSite| {
        if let FromSite::Err(line) = message {
            assert!(is_plain_line(&line), "{line:?} is no plain line");
        }
    };
    Session::new(
        scratch.to_owned(),
        std::rc::Rc::new(check),
        std::rc::Rc::new(|| ()),
    )
}
