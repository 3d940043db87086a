//! The little language that the test actors take on their command line: `OUT WORD...`. What a
//! life says goes to stdout and, one `write` a line, to the file OUT (`-`: nowhere else).
//!
//! | words | meaning |
//! | --- | --- |
//! | `on LIVES ... end` | only in these lives: `0`, `1+`, `0-3` |
//! | `say TEXT` | say a line |
//! | `report` | say what a life can see of itself, as JSON |
//! | `wait FILE` | until there is such a file |
//! | `park` | for ever |
//! | `alone FILE` | lock it, or say `not alone`: no other life may hold it at this moment |
//! | `listen PORT` | bind it, answer every connection with the life's number, and go on |
//! | `deaf PORT FILE` | bind it, take connections until there is such a file, none after that, and go on |
//! | `http PORT FILE` | bind it, answer 200 until there is such a file, 503 after that, and go on |
//! | `spin` | for ever, without a rest |
//! | `threads N` | start that many, asleep |
//! | `flood BYTES` | so many bytes to stdout, in lines |
//! | `signal N` | send oneself the signal, until it works |
//! | `panic`, `abort`, `exit N`, `return` | an end |

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

/// Initialised data whose address a life reports (SPEC H11).
static LANDMARK: [u64; 2] = [11, 12];

/// What is left to do, and where to say things.
pub struct Script {
    words: VecDeque<String>,
    out: Option<File>,
    life: u32,
}

/// What a word of the basic language leads to.
pub enum Step {
    /// Done; go on.
    Done,
    /// Return from `main`.
    Return,
    /// Not a word of the basic language.
    Other(String),
}

impl Script {
    /// Reads the command line.
    pub fn from_args() -> Self {
        let mut words: VecDeque<String> = std::env::args().skip(1).collect();
        let out = words.pop_front().expect("the first argument is OUT");
        let open = || OpenOptions::new().append(true).create(true).open(&out);
        let out = (out != "-").then(|| open().expect("OUT can be written"));
        let life = std::env::var("REFRAIN_LIFE")
            .ok()
            .and_then(|text| text.parse().ok());
        Self {
            words,
            out,
            life: life.unwrap_or(u32::MAX),
        }
    }

    /// The next word.
    pub fn word(&mut self) -> Option<String> {
        self.words.pop_front()
    }

    /// The next word, which must be there.
    pub fn operand(&mut self) -> String {
        self.word().expect("the word has an operand")
    }

    /// The next word as a number.
    pub fn number(&mut self) -> u64 {
        self.operand().parse().expect("the operand is a number")
    }

    /// Says a line.
    pub fn say(&mut self, text: &str) {
        let line = format!("{text}\n");
        // Whoever reads stdout may be gone; the file is what tests rely on.
        let _ = std::io::stdout().write_all(line.as_bytes());
        let _ = std::io::stdout().flush();
        if let Some(file) = &mut self.out {
            file.write_all(line.as_bytes()).expect("OUT can be written");
        }
    }

    /// Carries out the next word of the basic language.
    pub fn step(&mut self, word: String) -> Step {
        match word.as_str() {
            "on" => self.on(),
            "end" => {}
            "say" => {
                let text = self.operand();
                self.say(&text);
            }
            "report" => self.report(),
            "wait" => wait_for(Path::new(&self.operand())),
            "park" => loop {
                std::thread::park();
            },
            "listen" => self.listen(),
            "deaf" => self.deaf(),
            "http" => self.http(),
            "spin" => loop {
                std::hint::spin_loop();
            },
            "alone" => self.alone(),
            "threads" => (0..self.number()).for_each(|_| {
                std::thread::spawn(|| {
                    loop {
                        std::thread::park();
                    }
                });
            }),
            "flood" => self.flood(),
            "signal" => signal_oneself(i32::try_from(self.number()).expect("a signal number")),
            "panic" => panic!("as the script says"),
            "abort" => std::process::abort(),
            "exit" => std::process::exit(i32::try_from(self.number()).expect("an exit status")),
            "return" => return Step::Return,
            _ => return Step::Other(word),
        }
        Step::Done
    }

    fn on(&mut self) {
        let lives = self.operand();
        let number = |text: &str| text.parse::<u32>().expect("a life's number");
        let meant = if let Some(first) = lives.strip_suffix('+') {
            self.life >= number(first)
        } else if let Some((first, last)) = lives.split_once('-') {
            (number(first)..=number(last)).contains(&self.life)
        } else {
            self.life == number(&lives)
        };
        if !meant {
            while self.word().is_some_and(|word| word != "end") {}
        }
    }

    fn alone(&mut self) {
        let path = self.operand();
        let open = OpenOptions::new().append(true).create(true).open(path);
        let file = open.expect("the file can be made");
        match file.try_lock() {
            // Held until this life ends.
            Ok(()) => std::mem::forget(file),
            Err(error) => self.say(&format!("not alone in life {}: {error}", self.life)),
        }
    }

    fn listen(&mut self) {
        let port = u16::try_from(self.number()).expect("a port");
        let life = self.life;
        match TcpListener::bind(("127.0.0.1", port)) {
            Err(error) => self.say(&format!("bind: {error}")),
            Ok(listener) => {
                std::thread::spawn(move || {
                    for peer in listener.incoming().flatten() {
                        let _ = writeln!(&peer, "life {life}");
                    }
                });
                self.say(&format!("listening in life {life}"));
            }
        }
    }

    fn deaf(&mut self) {
        let (listener, until) = self.bind_until(0);
        std::thread::spawn(move || {
            listener.set_nonblocking(true).expect("a listener can be");
            while !Path::new(&until).exists() {
                let _ = listener.accept();
                std::thread::sleep(Duration::from_millis(2));
            }
            loop {
                std::thread::park();
            }
        });
    }

    fn http(&mut self) {
        let (listener, until) = self.bind_until(16);
        std::thread::spawn(move || {
            for mut peer in listener.incoming().flatten() {
                let ill = Path::new(&until).exists();
                let status = if ill { "503 No" } else { "204 Yes" };
                let mut request = [0; 256];
                let _ = std::io::Read::read(&mut peer, &mut request);
                let asked = request.starts_with(b"GET /health HTTP/1.0\r\n");
                let status = if asked { status } else { "400 What" };
                let _ = write!(&peer, "HTTP/1.1 {status}\r\n\r\n");
            }
        });
    }

    /// Binds the port of the next word, with room for so many connections that nobody has taken; and the
    /// word after it.
    fn bind_until(&mut self, backlog: i32) -> (TcpListener, String) {
        let port = u16::try_from(self.number()).expect("a port");
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        // A second listen changes the backlog.
        rustix::net::listen(&listener, backlog).expect("a listener listens");
        (listener, self.operand())
    }

    fn flood(&mut self) {
        let total = self.number();
        let line = [b"x".repeat(120), b"\n".to_vec()].concat();
        let mut stdout = std::io::stdout().lock();
        let mut sent = 0;
        while sent < total {
            if stdout.write_all(&line).is_err() {
                break;
            }
            sent += line.len() as u64;
        }
        drop(stdout);
        self.say("flooded");
    }

    fn report(&mut self) {
        let main = Self::report as *const () as usize;
        let heap = Box::new(0_u8);
        let fds = std::fs::read_dir("/proc/self/fd").expect("a process has fds");
        let fds = fds.flatten().filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            let number: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((number, target.display().to_string()))
        });
        // The fd of this very listing is left out.
        let fds: Vec<(u32, String)> = fds.filter(|fd| !fd.1.starts_with("/proc/")).collect();
        let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        let report = serde_json::json!({
            "life": self.life,
            "pid": std::process::id(),
            "code": main,
            "data": LANDMARK.as_ptr() as usize,
            "heap": &raw const *heap as usize,
            "args": std::env::args().collect::<Vec<_>>(),
            "env": std::env::vars().collect::<std::collections::BTreeMap<_, _>>(),
            "cwd": std::env::current_dir().ok(),
            "exe": std::env::current_exe().ok(),
            "fds": fds,
            "threads": threads,
        });
        self.say(&report.to_string());
    }
}

fn wait_for(path: &Path) {
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Rust's own handler takes the first SIGSEGV or SIGBUS that is not a real fault, restores the
/// default and returns, so one is not always enough.
fn signal_oneself(number: i32) {
    let signal = rustix::process::Signal::from_named_raw(number).expect("a named signal");
    for _ in 0..3 {
        rustix::process::kill_process(rustix::process::getpid(), signal)
            .expect("one may signal oneself");
        std::thread::sleep(Duration::from_millis(20));
    }
}
