//! The sample that people are to believe: `samples/kv_server` under the load of redis-benchmark, killed again and again, with
//! clients that remember what they were told (SPEC H32). `REFRAIN_KV_CRASHES` says how often, 60 if unset; `SEED` which moments.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use refrain_tests::programs::{free_port, installed};
use refrain_tests::resp::{Answer, Client, encode};
use refrain_tests::{Options, Site, binaries, proc, run, wait};
use rustix::process::Signal;

const CRASHES: u64 = 60;
/// Clients that check, each with keys of its own.
const CHECKERS: u64 = 2;
const KEYS: u64 = 40;

/// A small generator of numbers that are random enough (splitmix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % sides
    }
}

fn start(site: &Site) -> u16 {
    let port = free_port();
    let program = binaries::path("kv_server").display().to_string();
    site.arun([
        "-g",
        "1",
        "-n",
        "kv",
        &program,
        "--port",
        &port.to_string(),
        "--size",
        "32MiB",
    ]);
    connect(port);
    port
}

/// A connection that is answered, however long the server is away.
fn connect(port: u16) -> Client {
    wait::soon("the server to answer", || {
        let mut client = Client::connect(port).ok()?;
        let pong = client.ask(&["PING"]).ok()?;
        assert_eq!(pong, Answer::Word("PONG".to_owned()));
        Some(client)
    })
}

fn ok() -> Answer {
    Answer::Word("OK".to_owned())
}

/// A request that changes keys, the keys' values when it is done, and the answer.
struct Write {
    words: Vec<Vec<u8>>,
    after: Vec<(String, Option<Vec<u8>>)>,
    answer: Answer,
}

/// A client that remembers every write that was acknowledged.
struct Checker {
    port: u16,
    number: u64,
    client: Client,
    dice: Dice,
    rounds: u64,
    has: BTreeMap<String, Vec<u8>>,
    acknowledged: u64,
    /// When the last answer came.
    answered: Instant,
    /// Each time without answers, in microseconds.
    gaps: Vec<u64>,
}

impl Checker {
    fn new(port: u16, number: u64, seed: u64) -> Self {
        Self {
            port,
            number,
            client: connect(port),
            dice: Dice(seed.wrapping_add(number)),
            rounds: 0,
            has: BTreeMap::new(),
            acknowledged: 0,
            answered: Instant::now(),
            gaps: Vec::new(),
        }
    }

    fn key(&mut self) -> String {
        format!("checker {} key {}", self.number, self.dice.throw(KEYS))
    }

    /// Bytes that no other write has, of a length that is short, long, or in pieces.
    fn value(&mut self) -> Vec<u8> {
        self.rounds += 1;
        let most = [30, 400, 5000][self.dice.throw(3) as usize];
        let len = self.dice.throw(most) as usize;
        let text = format!("<{}:{}>", self.number, self.rounds).into_bytes();
        text.iter()
            .copied()
            .cycle()
            .take(text.len() + len)
            .collect()
    }

    /// A random write, as if `has` were there.
    fn write(&mut self, has: &BTreeMap<String, Vec<u8>>) -> Write {
        let key = self.key();
        let old = has.get(&key).cloned();
        let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect();
        match self.dice.throw(10) {
            0..4 => {
                let value = self.value();
                let (words, answer) = (words(&[b"SET", key.as_bytes(), &value]), ok());
                Write {
                    words,
                    after: vec![(key, Some(value))],
                    answer,
                }
            }
            4..6 => {
                let words = words(&[b"DEL", key.as_bytes()]);
                let answer = Answer::Number(i64::from(old.is_some()));
                Write {
                    words,
                    after: vec![(key, None)],
                    answer,
                }
            }
            6 => {
                let more = self.value();
                let words = words(&[b"APPEND", key.as_bytes(), &more]);
                let value = [old.unwrap_or_default(), more].concat();
                let answer = Answer::Number(value.len() as i64);
                Write {
                    words,
                    after: vec![(key, Some(value))],
                    answer,
                }
            }
            7..9 => {
                let counter = format!("counter {}", self.number);
                let old = has
                    .get(&counter)
                    .map_or(0, |old| String::from_utf8_lossy(old).parse().unwrap());
                let (words, answer) = (
                    words(&[b"INCR", counter.as_bytes()]),
                    Answer::Number(old + 1),
                );
                Write {
                    words,
                    after: vec![(counter, Some((old + 1).to_string().into_bytes()))],
                    answer,
                }
            }
            _ => {
                let pairs: BTreeMap<_, _> = (0..3).map(|_| (self.key(), self.value())).collect();
                let mut words = words(&[b"MSET"]);
                words.extend(
                    pairs
                        .iter()
                        .flat_map(|(key, value)| [key.clone().into_bytes(), value.clone()]),
                );
                let after = pairs
                    .into_iter()
                    .map(|(key, value)| (key, Some(value)))
                    .collect();
                Write {
                    words,
                    after,
                    answer: ok(),
                }
            }
        }
    }

    /// Sends a few writes at once, and takes their answers.
    fn round(&mut self) {
        let mut will = self.has.clone();
        let mut writes = Vec::new();
        for _ in 0..1 + self.dice.throw(6) {
            let write = self.write(&will);
            note(&mut will, &write.after);
            writes.push(write);
        }
        let bytes: Vec<u8> = writes
            .iter()
            .flat_map(|write| encode(&write.words))
            .collect();
        // Where it cannot be sent as a whole, answers to its begin may have come in.
        let _ = self.client.send(&bytes);
        for (at, write) in writes.iter().enumerate() {
            let Ok(answer) = self.client.answer() else {
                return self.after_a_crash(&writes[at..]);
            };
            assert_eq!(answer, write.answer, "{:?}", write.words);
            self.answered = Instant::now();
            self.acknowledged += 1;
            note(&mut self.has, &write.after);
        }
    }

    /// Which of the writes without an answer have happened: the first so many, each as a whole.
    fn after_a_crash(&mut self, all: &[Write]) {
        self.client = connect(self.port);
        self.gaps
            .push(u64::try_from(self.answered.elapsed().as_micros()).unwrap());
        self.answered = Instant::now();
        let keys: Vec<&String> = all
            .iter()
            .flat_map(|write| &write.after)
            .map(|(key, _)| key)
            .collect();
        // The server may be killed again while it is asked.
        let found: BTreeMap<String, Option<Vec<u8>>> = loop {
            let words: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            match self
                .client
                .ask(&[&[b"MGET".as_slice()], &words[..]].concat())
            {
                Ok(Answer::List(values)) => {
                    break keys
                        .iter()
                        .map(|key| (*key).clone())
                        .zip(values.into_iter().map(bytes_of))
                        .collect();
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => self.client = connect(self.port),
            }
        };
        let mut state = self.has.clone();
        let mut states = vec![state.clone()];
        for write in all {
            note(&mut state, &write.after);
            states.push(state.clone());
        }
        let fits = |state: &BTreeMap<String, Vec<u8>>| {
            found
                .iter()
                .all(|(key, value)| state.get(key) == value.as_ref())
        };
        let fit = states.iter().rposition(fits);
        self.has =
            states.swap_remove(fit.unwrap_or_else(|| panic!("torn: {found:?}, of {:?}", self.has)));
    }

    /// Compares everything.
    fn verify(&mut self) {
        let own = (0..KEYS).map(|key| format!("checker {} key {key}", self.number));
        for key in own.chain([format!("counter {}", self.number)]) {
            let value = loop {
                match self.client.ask(&["GET", &key]) {
                    Ok(answer) => break bytes_of(answer),
                    Err(_) => self.client = connect(self.port),
                }
            };
            assert_eq!(value.as_ref(), self.has.get(&key), "{key}");
        }
    }
}

fn note(has: &mut BTreeMap<String, Vec<u8>>, after: &[(String, Option<Vec<u8>>)]) {
    for (key, value) in after {
        match value {
            Some(value) => drop(has.insert(key.clone(), value.clone())),
            None => drop(has.remove(key)),
        }
    }
}

fn bytes_of(answer: Answer) -> Option<Vec<u8>> {
    match answer {
        Answer::Bytes(bytes) => Some(bytes),
        Answer::Nothing => None,
        other => panic!("{other:?}"),
    }
}

/// Who answers: the life's number, and its pid.
fn life(client: &mut Client) -> io::Result<(u64, u32)> {
    let Some(info) = bytes_of(client.ask(&["INFO"])?) else {
        panic!("INFO says nothing");
    };
    let info = String::from_utf8(info).unwrap();
    let field = |name: &str| -> u64 {
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {info}"))
            .parse()
            .unwrap()
    };
    Ok((field("life"), u32::try_from(field("process_id")).unwrap()))
}

/// Kills the server that `client` is connected to, and comes back with the next life.
fn crash(port: u16, client: &mut Client, signal: Signal) {
    let (old, pid) = life(client).unwrap();
    let server = proc::stat(pid).unwrap().id;
    wait::soon("the next life", || {
        // A SEGV that was no fault is let pass by the handler of Rust's library, once.
        proc::signal_if_there(server, signal);
        *client = connect(port);
        life(client).ok().filter(|(life, _)| *life > old)
    });
}

/// Runs redis-benchmark again and again: it gives up when the server crashes. Answers how often.
fn load(benchmark: &Path, port: u16, stop: &AtomicBool) -> u64 {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut command = Command::new(benchmark);
        command.args([
            "-p",
            &port.to_string(),
            "-q",
            "-n",
            "20000",
            "-c",
            "8",
            "-r",
            "1000",
            "-P",
            "4",
        ]);
        command
            .args(["-t", "set,get,incr,mset"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if stop.load(Ordering::Relaxed) {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        rounds += 1;
    }
    rounds
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn h32_no_acknowledged_write_is_lost_however_often_the_server_crashes() {
    let crashes = number("REFRAIN_KV_CRASHES").unwrap_or(CRASHES);
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}");
    let site = Options::new().never_bad().start();
    let port = start(&site);
    let (stop, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    let check = |number| {
        let mut checker = Checker::new(port, number, seed);
        while !stop.load(Ordering::Relaxed) {
            checker.round();
        }
        checker.verify();
        writes.fetch_add(checker.acknowledged, Ordering::Relaxed);
        checker.gaps
    };
    let check = &check;
    let mut gaps: Vec<u64> = std::thread::scope(|scope| {
        let checkers: Vec<_> = (0..CHECKERS)
            .map(|number| scope.spawn(move || check(number)))
            .collect();
        if let Some(benchmark) = installed("redis-benchmark") {
            let stop = &stop;
            scope.spawn(move || load(&benchmark, port, stop));
        }
        let stopper = StopOnDrop(&stop);
        let mut dice = Dice(!seed);
        let mut client = connect(port);
        for _ in 0..crashes {
            std::thread::sleep(Duration::from_micros(dice.throw(20_000)));
            let signal = [Signal::KILL, Signal::SEGV, Signal::ABORT][dice.throw(3) as usize];
            crash(port, &mut client, signal);
        }
        drop(stopper);
        checkers
            .into_iter()
            .flat_map(|checker| checker.join().unwrap())
            .collect()
    });
    gaps.sort_unstable();
    let percent = |percent: usize| gaps[(gaps.len() * percent).div_ceil(100).saturating_sub(1)];
    println!(
        "kv_server: {crashes} crashes, {} acknowledged writes, none lost; {} times without answers: p50 {} us, p99 {} us",
        writes.into_inner(),
        gaps.len(),
        percent(50),
        percent(99)
    );
    assert_eq!(u64::from(site.row("kv").unwrap().restarts), crashes);
    let mut client = connect(port);
    assert_eq!(client.ask(&["FLUSHALL"]).unwrap(), ok());
    crash(port, &mut client, Signal::KILL);
    assert_eq!(client.ask(&["DBSIZE"]).unwrap(), Answer::Number(0));
    // It ends clean, its group is over, and its memory is free again.
    assert!(client.ask(&["SHUTDOWN"]).is_err());
    site.wait_forgotten("kv");
    assert!(site.blocks().is_empty());
}

/// Ends the other threads also when this one panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn redis_benchmark_runs_to_its_end_and_its_keys_are_there_after_a_crash() {
    let Some(benchmark) = installed("redis-benchmark") else {
        return;
    };
    let site = Site::start();
    let port = start(&site);
    let mut command = Command::new(benchmark);
    command.args([
        "-p",
        &port.to_string(),
        "-q",
        "-n",
        "2000",
        "-c",
        "20",
        "-r",
        "300",
        "-d",
        "1500",
    ]);
    let out = run::to_end(command.args(["-t", "ping,set,get,incr,mset"]), None)
        .expect_ok("redis-benchmark");
    assert!(
        out.contains("MSET (10 keys)") && !out.contains("ERR"),
        "{out}"
    );
    let mut client = connect(port);
    let before = client.ask(&["DBSIZE"]).unwrap();
    let value = client.ask(&["GET", "key:000000000007"]).unwrap();
    crash(port, &mut client, Signal::SEGV);
    assert_eq!(client.ask(&["DBSIZE"]).unwrap(), before);
    assert_eq!(client.ask(&["GET", "key:000000000007"]).unwrap(), value);
    assert!(matches!(before, Answer::Number(300..)), "{before:?}");
}

/// Requests, each a line of words; a line that begins with `raw` is sent as it is, on a connection of its own.
const REQUESTS: &[&str] = &[
    "PING",
    "PING hello",
    "ECHO x",
    "ECHO",
    "SELECT 0",
    "SELECT 99",
    "SELECT x",
    "NOSUCH",
    "noSuch a b",
    "GET",
    "GET a b",
    "SET k v",
    "GET k",
    "get k",
    "SET k w NX",
    "GET k",
    "SET k x XX",
    "GET k",
    "SET none x XX",
    "GET none",
    "SET k v EX 100",
    "TTL k",
    "SET k v PX 100000",
    "TTL k",
    "PERSIST k",
    "PERSIST k",
    "TTL k",
    "PTTL k",
    "TTL none",
    "PTTL none",
    "EXPIRE k 50",
    "TTL k",
    "PEXPIRE k 70000",
    "TTL k",
    "EXPIRE k x",
    "EXPIRE none 5",
    "EXPIRE k -1",
    "GET k",
    "SET k v EX 0",
    "SET k v EX x",
    "SET k v EX",
    "SET k v EX 5 PX 5",
    "SET k v NX XX",
    "SET k v BAD",
    "SET n 10",
    "INCR n",
    "DECR n",
    "INCRBY n 5",
    "DECRBY n 7",
    "INCRBY n x",
    "INCRBY n 9223372036854775807",
    "SET n 9223372036854775807",
    "INCR n",
    "SET n -9223372036854775808",
    "DECR n",
    "DECRBY n -9223372036854775808",
    "SET n abc",
    "INCR n",
    "INCR fresh",
    "GET fresh",
    "APPEND n def",
    "GET n",
    "STRLEN n",
    "STRLEN none",
    "APPEND made x",
    "GET made",
    "MSET a 1 b 2 a 3",
    "MSET a",
    "MSET a 1 b",
    "MGET a b none",
    "MGET",
    "EXISTS a b a none",
    "DEL a a none",
    "DEL",
    "EXISTS a",
    "DBSIZE",
    "DBSIZE x",
    "CONFIG GET save",
    "CONFIG GET appendonly",
    "SET t v PX 1",
    "FLUSHALL",
    "DBSIZE",
    "EXPIRE k 9223372036854775807",
    "INCR",
    "INCRBY k",
    "TTL",
    "QUIT",
    "raw *1\\r\\n$4\\r\\nPING\\r\\n",
    "raw PING\\r\\nECHO \\\"a b\\\"\\r\\n\\r\\nPING\\r\\nQUIT\\r\\n",
    "raw *x\\r\\n",
    "raw *1\\r\\n$-5\\r\\n",
    "raw *1\\r\\n:5\\r\\n",
    "raw SET q \\\"open\\r\\n",
    "raw *0\\r\\nQUIT\\r\\n",
    "raw *-1\\r\\nQUIT\\r\\n",
];

/// Everything that a server says to the requests above.
fn said(port: u16) -> Vec<String> {
    let mut client = connect(port);
    let mut all = Vec::new();
    for request in REQUESTS {
        let answer = match request.strip_prefix("raw ") {
            None => format!(
                "{:?}",
                client.ask(&request.split(' ').collect::<Vec<_>>()).unwrap()
            ),
            Some(raw) => {
                let mut client = connect(port);
                let raw = raw
                    .replace("\\r", "\r")
                    .replace("\\n", "\n")
                    .replace("\\\"", "\"");
                client.send(raw.as_bytes()).unwrap();
                let ends = !raw.starts_with("*1\r\n$4");
                let answers =
                    (0..5).map_while(|n| (ends || n == 0).then(|| client.answer().ok())?);
                format!("{:?}", answers.collect::<Vec<_>>())
            }
        };
        all.push(format!("{request}: {answer}"));
    }
    all
}

#[test]
fn it_answers_as_redis_does() {
    let Some(redis) = installed("redis-server") else {
        return;
    };
    let site = Site::start();
    let port = start(&site);
    let redis_port = free_port();
    let redis = redis.display().to_string();
    site.arun([
        "-g",
        "2",
        "-n",
        "redis",
        &redis,
        "--port",
        &redis_port.to_string(),
        "--save",
        "",
    ]);
    let (ours, theirs) = (said(port), said(redis_port));
    let unlike: Vec<_> = ours
        .iter()
        .zip(&theirs)
        .filter(|(ours, theirs)| ours != theirs)
        .collect();
    assert!(unlike.is_empty(), "{unlike:#?}");
}
