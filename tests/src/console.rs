//! A program that is talked to while it runs: a console with pipes for stdin, stdout and stderr.
//! Called by tests that give several commands in one session or read what comes by itself. A
//! console on a terminal is the business of the tests in `tests/tests/console.rs`.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::{Finished, Site, run, wait};

/// A running program and everything it has printed so far.
pub struct Console {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Stream,
    err: Stream,
}

struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                shared
                    .lock()
                    .expect("no reader panics")
                    .extend_from_slice(&chunk[..count]);
            }
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("no reader panics")).into_owned()
    }

    fn drain(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            wait::until_true("a program's pipes to be closed", || reader.is_finished());
        }
        self.text()
    }
}

impl Console {
    /// Starts `command`.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = run::spawn(command);
        let stdin = child.stdin.take();
        let out = Stream::of(child.stdout.take().expect("stdout is a pipe"));
        let err = Stream::of(child.stderr.take().expect("stderr is a pipe"));
        Self {
            child,
            stdin,
            out,
            err,
        }
    }

    /// The program's pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types a line.
    ///
    /// # Panics
    /// When the program reads no more.
    pub fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open until close");
        writeln!(stdin, "{line}").expect("the program reads its stdin");
    }

    /// What it wrote to stdout so far.
    #[must_use]
    pub fn out(&self) -> String {
        self.out.text()
    }

    /// What it wrote to stderr so far.
    #[must_use]
    pub fn err(&self) -> String {
        self.err.text()
    }

    /// Waits until stdout or stderr has a line for which `wanted` holds, and returns it.
    pub fn wait_line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        wait::until(&format!("{what} on the console"), || {
            let (out, err) = (self.out(), self.err());
            out.lines()
                .chain(err.lines())
                .find(|line| wanted(line))
                .map(str::to_owned)
        })
    }

    /// Ends the input and waits for the program's end.
    pub fn close(mut self) -> Finished {
        self.stdin = None;
        self.wait_end()
    }

    /// Waits for the program's end with the input left open.
    pub fn wait_end(&mut self) -> Finished {
        let status = run::wait_for(&mut self.child, "a console");
        Finished {
            code: status.code(),
            out: self.out.drain(),
            err: self.err.drain(),
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // No-ops when the program has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Site {
    /// A console on the site that nobody reads, with the ends of its pipes. It has answered once.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn piped_console(&self) -> (Child, ChildStdin, BufReader<ChildStdout>) {
        let mut command = self.program("c_init");
        command
            .env_remove("REFRAIN_SITE")
            .args(["--site", self.name(), "--connect"]);
        let mut console = run::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let mut stdin = console.stdin.take().expect("its stdin is a pipe");
        let mut reader = BufReader::new(console.stdout.take().expect("its stdout is a pipe"));
        let mut line = String::new();
        let said = stdin.write_all(b"echo there\n");
        said.and_then(|()| reader.read_line(&mut line))
            .expect("the console is there");
        assert!(line.contains("there"), "{line}");
        (console, stdin, reader)
    }
}
