//! `#!` lines: which program a script is run by.
//!
//! Called by [`crate::image`]. The line is read as the kernel reads it: an interpreter and at most one
//! argument, which is the rest of the line.
//!
//! Source: execve(2), "Interpreter scripts".

use std::path::PathBuf;

/// The longest `#!` line that the kernel reads, in bytes (BINPRM_BUF_SIZE).
pub const MAX_LINE: usize = 256;

/// What a `#!` line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The interpreter.
    pub interpreter: PathBuf,
    /// The one argument before the script's name.
    pub argument: Option<Vec<u8>>,
}

/// Reads the `#!` line at the front of a file; `None` when it names no interpreter. `front` holds the
/// file's first [`MAX_LINE`] bytes, or all it has.
#[must_use]
pub fn parse(front: &[u8]) -> Option<Line> {
    use std::os::unix::ffi::OsStrExt;
    let rest = front.strip_prefix(b"#!")?;
    let end = rest.iter().position(|byte| *byte == b'\n' || *byte == 0);
    let line = rest.get(..end.unwrap_or(rest.len()))?;
    let line = line.trim_ascii();
    let cut = line.iter().position(|byte| *byte == b' ' || *byte == b'\t');
    let (interpreter, argument) = line.split_at(cut.unwrap_or(line.len()));
    // A line that was cut off within the interpreter's path names another file than it means.
    if interpreter.is_empty() || (end.is_none() && cut.is_none() && front.len() >= MAX_LINE) {
        return None;
    }
    let argument = argument.trim_ascii();
    Some(Line {
        interpreter: PathBuf::from(std::ffi::OsStr::from_bytes(interpreter)),
        argument: (!argument.is_empty()).then(|| argument.to_vec()),
    })
}

/// What `/usr/bin/env ARGUMENT` would run: the program's name, and what follows it (`-S` splits the
/// argument at blanks). `None` when it sets variables or takes options that we don't know.
#[must_use]
pub fn env_words(argument: &[u8]) -> Option<Vec<Vec<u8>>> {
    let split = argument.strip_prefix(b"-S").map(<[u8]>::trim_ascii);
    let words: Vec<Vec<u8>> = match split {
        // Quotes and escapes are left to the real env.
        Some(rest) if rest.iter().any(|byte| b"\"'\\$".contains(byte)) => return None,
        Some(rest) => rest
            .split(u8::is_ascii_whitespace)
            .map(<[u8]>::to_vec)
            .collect(),
        None => vec![argument.to_vec()],
    };
    let words: Vec<Vec<u8>> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let first = words.first()?;
    (!first.starts_with(b"-") && !first.contains(&b'=')).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Option<(String, Option<String>)> {
        let line = parse(line)?;
        let argument = line.argument.map(|bytes| String::from_utf8(bytes).unwrap());
        Some((line.interpreter.to_str().unwrap().to_owned(), argument))
    }

    #[test]
    fn a_line_is_read_as_the_kernel_reads_it() {
        let some = |a: &str, b: Option<&str>| Some((a.to_owned(), b.map(str::to_owned)));
        assert_eq!(words(b"#!/bin/sh\necho"), some("/bin/sh", None));
        assert_eq!(
            words(b"#! \t/bin/sh -e -u \n"),
            some("/bin/sh", Some("-e -u"))
        );
        assert_eq!(words(b"#!/bin/sh"), some("/bin/sh", None));
        assert_eq!(
            words(b"#!/usr/bin/env\tpython3\n"),
            some("/usr/bin/env", Some("python3"))
        );
        assert_eq!(words(b"#!\n/bin/sh"), None);
        assert_eq!(words(b"#!   "), None);
        assert_eq!(words(b"/bin/sh"), None);
    }

    #[test]
    fn a_path_that_is_cut_off_is_not_run() {
        let mut long = b"#!/".to_vec();
        long.resize(MAX_LINE, b'x');
        assert_eq!(parse(&long), None);
        let mut argument = b"#!/bin/sh ".to_vec();
        argument.resize(MAX_LINE, b'x');
        assert!(parse(&argument).is_some());
    }

    #[test]
    fn env_is_seen_through_where_it_only_finds_a_program() {
        let plain = |text: &[&str]| Some(text.iter().map(|w| w.as_bytes().to_vec()).collect());
        assert_eq!(env_words(b"python3"), plain(&["python3"]));
        assert_eq!(env_words(b"-S python3 -u"), plain(&["python3", "-u"]));
        assert_eq!(env_words(b"-Snode --trace"), plain(&["node", "--trace"]));
        assert_eq!(env_words(b"A=1"), None);
        assert_eq!(env_words(b"-i python3"), None);
        assert_eq!(env_words(b"-S 'a b'"), None);
    }
}
