//! The Rust actor that is tortured: `victim DIR NAME SLOT FLAGS PORT GROUP [SPAWN...]`.
//!
//! It looks whether everything is as it must be when a life begins, says what it found in its slot of
//! the record (`src/record.rs`), then does what the commands on `DIR/NAME.fifo` say. PORT 0: it
//! listens nowhere. SPAWN: the name, program and arguments of a member that it runs in each life.
//!
//! | flag | meaning |
//! | --- | --- |
//! | `l` | it uses the library: a block of its own, and a word in its group's |
//! | `w` | it makes a warm image first |
//! | `k` | it has a child |
//! | `t` | it has two threads more |
//! | `b` | one of its threads changes the block all the time |
//! | `q` | one of its threads asks the site something, and prints, all the time |
//! | `f` | it fills the bank when told to, and gives back what a life before it took |

mod ends;
mod keep;

use std::env;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keep::Keep;
use refrain_torture::record::{COMMAND, NO_LIFE, Record, Slot, Word, Wrong, read_command};

/// How often the thread of flag `b` changes the block.
const BUSY: Duration = Duration::from_millis(20);

/// The command line.
struct Part {
    dir: PathBuf,
    name: String,
    slot: usize,
    flags: String,
    port: u16,
    group: String,
    spawn: Vec<String>,
}

impl Part {
    fn from_args() -> Self {
        let mut words = env::args().skip(1);
        let mut word = || words.next().expect("DIR NAME SLOT FLAGS PORT GROUP");
        Self {
            dir: word().into(),
            name: word(),
            slot: word().parse().expect("a slot"),
            flags: word(),
            port: word().parse().expect("a port"),
            group: word(),
            spawn: words.collect(),
        }
    }

    fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{}.{ending}", self.name))
    }
}

/// What a life holds until its end.
struct Held {
    _lock: File,
    _port: Option<TcpListener>,
}

fn main() {
    let part = Part::from_args();
    let image = part.has('w').then(refrain::image_here);
    let record = Record::open(&part.dir.join("record")).expect("the record can be mapped");
    // Shared with threads, which end when the life does.
    let record: &'static Record = Box::leak(Box::new(record));
    let slot = record.slot(part.slot);
    if matches!(image, Some(Ok(refrain::Image::Made))) {
        slot.count(Word::Images);
    }
    let _held = hold(&part, slot);
    note_life(slot);
    let keep = part
        .has('l')
        .then(|| Arc::new(Keep::open(&part.name, &part.group, slot)));
    if let Some(keep) = keep.as_deref().filter(|_| part.has('f')) {
        keep.empty(slot);
    }
    (0..if part.has('t') { 2 } else { 0 }).for_each(|_| drop(thread::spawn(sleep)));
    if let Some(keep) = keep.clone().filter(|_| part.has('b')) {
        thread::spawn(move || {
            loop {
                keep.change(slot);
                thread::sleep(BUSY);
            }
        });
    }
    if part.has('q') {
        thread::spawn(move || keep::ask_on(slot));
    }
    if part.has('k') {
        let mut command = Command::new("sleep");
        let command = command.arg("1000000").stdin(Stdio::null());
        drop(command.spawn().expect("sleep can be run"));
    }
    if let [name, program, args @ ..] = &part.spawn[..] {
        keep::run_member(slot, name, Path::new(program), args);
    }
    slot.count(Word::Begun);
    serve(&part, slot, keep.as_deref());
}

fn sleep() {
    loop {
        thread::park();
    }
}

/// Takes what only one life can have at a time.
fn hold(part: &Part, slot: Slot<'_>) -> Held {
    let open = OpenOptions::new()
        .append(true)
        .create(true)
        .open(part.file("lock"));
    let lock = open.expect("the lock can be opened");
    if lock.try_lock().is_err() {
        slot.wrong(Wrong::NotAlone, u64::from(std::process::id()));
    }
    let listen = |port| match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => Some(listener),
        Err(_) => {
            slot.wrong(Wrong::PortTaken, u64::from(port));
            None
        }
    };
    let port = (part.port > 0).then(|| listen(part.port)).flatten();
    Held {
        _lock: lock,
        _port: port,
    }
}

fn note_life(slot: Slot<'_>) {
    let life = env::var("REFRAIN_LIFE")
        .ok()
        .and_then(|life| life.parse().ok());
    let life = life.unwrap_or(NO_LIFE);
    let before = slot.get(Word::Life);
    if before != NO_LIFE && life <= before {
        slot.wrong(Wrong::LifeNumber, life);
    }
    slot.set(Word::Life, life);
    slot.set(Word::Pid, u64::from(std::process::id()));
}

fn serve(part: &Part, slot: Slot<'_>, keep: Option<&Keep>) {
    // Open for writing as well: it never comes to its end.
    let fifo = OpenOptions::new()
        .read(true)
        .write(true)
        .open(part.file("fifo"));
    let mut fifo = fifo.expect("the FIFO is there");
    let mut bytes = [0; COMMAND];
    loop {
        fifo.read_exact(&mut bytes)
            .expect("somebody holds the FIFO open");
        let Some((letter, number)) = read_command(&bytes) else {
            continue;
        };
        match (letter, keep) {
            ('p', _) => slot.set(Word::Pong, number),
            ('w', Some(keep)) => (0..number).for_each(|_| keep.change(slot)),
            ('F', Some(keep)) => keep.fill(slot, number, false),
            ('G', Some(keep)) => keep.fill(slot, number, true),
            ('h', Some(keep)) => keep.half_a_change(slot),
            ('c', Some(_)) => refrain::exit_clean(0),
            // The one end that needs `main`.
            ('r', _) => {
                slot.count(Word::Taken);
                return;
            }
            (letter, _) => ends::end(letter, slot),
        }
    }
}
