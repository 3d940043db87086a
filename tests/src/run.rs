//! Runs a program to its end and keeps what it printed. Called by [`crate::site`] for every
//! command; never waits for the end of the program's *output*, which a daemon that forgot to let
//! go of its caller's pipes would hold up for ever.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::wait;

/// What became of a program.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

impl Finished {
    /// The output of a program that must have succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn expect_ok(self, what: &str) -> String {
        assert_eq!(
            self.code,
            Some(0),
            "`{what}` failed\nstdout: {}\nstderr: {}",
            self.out,
            self.err
        );
        self.out
    }

    /// The one line on stderr of a program that must have failed with `code`.
    ///
    /// # Panics
    /// When it ended in another way, or said more or less than one line.
    #[must_use]
    pub fn expect_refusal(self, code: i32, what: &str) -> String {
        assert_eq!(
            self.code,
            Some(code),
            "`{what}`\nstdout: {}\nstderr: {}",
            self.out,
            self.err
        );
        let line = self.err.trim_end_matches('\n');
        assert!(!line.is_empty(), "`{what}` failed without a word");
        assert!(
            !line.contains('\n'),
            "`{what}` said more than one line:\n{line}"
        );
        line.to_owned()
    }
}

/// Runs `command` with `input` on its stdin (none: `/dev/null`).
///
/// # Panics
/// When it cannot be run, or does not end.
#[must_use]
pub fn to_end(command: &mut Command, input: Option<&[u8]>) -> Finished {
    let mut out = scratch();
    let mut err = scratch();
    command.stdout(share(&out)).stderr(share(&err));
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    let mut child = spawn(command);
    if let (Some(bytes), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ends before it has read everything is its own business.
        let _ = stdin.write_all(bytes);
    }
    let status = wait_for(&mut child, &format!("{command:?}"));
    Finished {
        code: status.code(),
        out: text(&mut out),
        err: text(&mut err),
    }
}

/// Starts `command`.
///
/// # Panics
/// When it cannot be run.
pub fn spawn(command: &mut Command) -> Child {
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Waits for the end of `child`; kills it when the watchdog barks.
///
/// # Panics
/// When it does not end.
pub fn wait_for(child: &mut Child, what: &str) -> ExitStatus {
    let started = std::time::Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        if started.elapsed() > wait::WATCHDOG * 2 {
            let _ = child.kill();
            let _ = child.wait();
            panic!("does not end: {what}");
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn scratch() -> File {
    tempfile::tempfile().expect("a temporary file can be made")
}

fn share(file: &File) -> File {
    file.try_clone().expect("a file can be shared with a child")
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))
        .expect("a file can be rewound");
    file.read_to_end(&mut bytes).expect("a file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
