//! Command lines: split, read as a command, and what is wrong with them told in one plain line.

use std::path::Path;

use c_init::{commands, words};

use super::is_plain_line;
use crate::Target;

pub const TARGET: Target = Target {
    name: "command_line",
    longest: 1024,
    words: &[
        "arun ",
        "akill ",
        "aps",
        " -g ",
        " -n ",
        " -xip",
        "--json",
        "ulimit -",
        "umask ",
        "setenv ",
        "shutdown -i ",
        "sleep ",
        "source ",
        "log ",
        "help ",
        "rshd ",
        "'",
        "\"",
        "\\",
        "#",
        "--help",
    ],
    put,
};

fn put(bytes: &[u8], _: &Path) {
    let line = String::from_utf8_lossy(bytes);
    let split = match words::split(&line) {
        Ok(words) => words,
        Err(why) => {
            assert!(is_plain_line(&why.to_string()));
            return;
        }
    };
    assert!(split.iter().all(|word| !word.contains('\0')));
    if let Err(why) = commands::parse(&split) {
        let line = why.to_string();
        assert!(is_plain_line(&words::printable(&line)));
        // An escape becomes six characters.
        assert!(
            line.len() < 6 * bytes.len() + 200,
            "{} bytes of error",
            line.len()
        );
    }
}
