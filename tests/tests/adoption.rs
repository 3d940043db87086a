//! The controller is killed again and again, at random moments and while it recovers, on a site under load
//! (SPEC H31, DESIGN invariant 6): no life is disturbed, none is lost, none is doubled, no request is carried
//! out twice. `REFRAIN_CONTROLLER_KILLS` says how often.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use refrain_tests::{Options, Row, Site, proc, programs, wait};
use rustix::process::Signal;

/// How many kills are checked together.
const BATCH: u32 = 5;

/// xorshift64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// The actors that nobody crashes, and what they were at first.
struct Calm {
    port: u16,
    rows: Vec<Row>,
}

impl Calm {
    fn check(&self, site: &Site) {
        let now = site.aps();
        for before in &self.rows {
            let same = now.iter().filter(|row| row.name == before.name);
            let same: Vec<_> = same.collect();
            let [after] = same[..] else {
                panic!("{} is there {} times", before.name, same.len());
            };
            let of = |row: &Row| (row.pid, row.aid, row.life, row.capability.clone());
            assert_eq!(of(before), of(after), "{} was disturbed", before.name);
            assert_eq!(after.state, "running");
        }
        let mut answer = String::new();
        let connected = TcpStream::connect(("127.0.0.1", self.port));
        connected.unwrap().read_to_string(&mut answer).unwrap();
        assert_eq!(answer.trim(), "life 0", "the server is in another life");
    }
}

/// The pid of the hr_ctrl of now, as soon as there is one.
fn controller(nucleus: u32) -> proc::ProcId {
    wait::until("an hr_ctrl", || {
        let mut children = proc::children(nucleus).into_iter();
        let is_it = |stat: &proc::Stat| proc::text(stat.id.pid, "comm").trim() == "hr_ctrl";
        children
            .find(|stat| stat.state != 'Z' && is_it(stat))
            .map(|stat| stat.id)
    })
}

/// Kills hr_ctrl, sometimes the next one, too, while it recovers. Answers how many.
fn kill(nucleus: u32, dice: &mut Dice) -> [u32; 2] {
    let mut kills = [0; 2];
    proc::kill_if_there(controller(nucleus));
    kills[0] += 1;
    while dice.below(4) == 0 {
        // Reading the bank and the ledger and asking templates takes a few milliseconds.
        let next = controller(nucleus);
        std::thread::sleep(Duration::from_micros(dice.below(12_000)));
        proc::kill_if_there(next);
        kills[1] += 1;
    }
    kills
}

#[test]
fn h31_a_thousand_deaths_of_the_controller_disturb_lose_and_double_no_life() {
    let asked = std::env::var("REFRAIN_CONTROLLER_KILLS").ok();
    let wanted: u32 = asked.and_then(|n| n.parse().ok()).unwrap_or(60);
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
        | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let site = Options::new().never_bad().start();
    let port = programs::free_port();
    let server = ["listen", &port.to_string(), "park"].map(str::to_owned);
    site.actor(
        1,
        "server",
        "crasher",
        &server.each_ref().map(String::as_str),
    );
    site.arun(["-g", "2", "-n", "asker", &program("asker"), "notes"]);
    for name in ["left", "right"] {
        site.actor(3, name, "crasher", &["park"]);
    }
    site.ordinary("plain", "crasher", &["park"]);
    site.actor(4, "victim", "crasher", &["park"]);
    for name in ["one", "two", "three"] {
        site.actor(5, name, "crasher", &["park"]);
    }
    let calm = ["server", "asker", "left", "right", "plain"];
    let rows = calm
        .map(|name| site.wait_row(name, |row| row.runs(0)))
        .to_vec();
    let calm = Calm { port, rows };
    let nucleus = site.nucleus_pid();
    let (mut kills, mut crashes) = ([0; 2], [0; 2]);
    while kills[0] + kills[1] < wanted {
        for _ in 0..BATCH {
            // Crashes of two groups, before, while and after the controller is away.
            let lives = [
                crash(&site, "victim", crashes[0]),
                crash(&site, "two", crashes[1]),
            ];
            for (crashed, life) in crashes.iter_mut().zip(lives) {
                if let Some(life) = life.filter(|_| dice.below(2) == 0) {
                    proc::kill_if_there(life);
                    *crashed += 1;
                }
            }
            std::thread::sleep(Duration::from_micros(dice.below(3000)));
            for (sum, more) in kills.iter_mut().zip(kill(nucleus, &mut dice)) {
                *sum += more;
            }
        }
        site.wait_row("victim", |row| row.runs(crashes[0]));
        for name in ["one", "two", "three"] {
            site.wait_row(name, |row| row.runs(crashes[1]));
        }
        calm.check(&site);
    }
    let [plain, recovering] = kills;
    println!(
        "{plain} kills, {recovering} more during recovery; {crashes:?} crashes of lives meanwhile"
    );
    // Every request was carried out, once, by the one life that asked.
    let asker = site.wait_row("asker", |row| row.runs(0));
    assert_eq!(asker.restarts, 0);
    let log = site.ok("log asker");
    assert!(!log.contains("wrong"), "{log}");
}

/// The life of `name` if it runs as the one that the crashes so far have led to.
fn crash(site: &Site, name: &str, life: u32) -> Option<proc::ProcId> {
    let finished = site.command("aps --json");
    let rows: Vec<Row> = serde_json::from_str(&finished.out).ok()?;
    let row = rows
        .into_iter()
        .find(|row| row.name == name && row.runs(life))?;
    Some(proc::stat(row.pid?)?.id)
}

fn program(name: &str) -> String {
    refrain_tests::binaries::path(name).display().to_string()
}

#[test]
fn h31_requests_of_a_life_are_carried_out_once_whoever_answers_them() {
    let site = Options::new().start();
    site.arun(["-g", "2", "-n", "asker", &program("asker"), "notes"]);
    site.runs("asker", 0);
    let nucleus = site.nucleus_pid();
    for round in 0..30 {
        std::thread::sleep(Duration::from_micros(round * 331 % 4001));
        proc::kill_if_there(controller(nucleus));
    }
    proc::kill(
        site.wait_row("asker", |row| row.runs(0)).pid(),
        Signal::KILL,
    );
    site.runs("asker", 1);
    let log = site.ok("log asker");
    assert!(!log.contains("wrong"), "{log}");
}

#[test]
fn h31_a_life_that_was_woken_when_its_template_had_ended_is_adopted_like_any_other() {
    let site = Options::new().never_bad().start();
    let nucleus = site.nucleus_pid();
    site.actor(1, "one", "crasher", &["park"]);
    for life in (0..40).step_by(2) {
        // A life whose template is there, unlike that of the round before.
        let row = site.runs_with_standby("one", life);
        let template = proc::stat(row.pid()).unwrap().parent;
        assert_ne!(template, nucleus);
        let controller = controller(nucleus);
        // Both ends are heard of at once: that of the template, and that of the life, which has woken its
        // successor.
        proc::kill(controller.pid, Signal::STOP);
        proc::kill(template, Signal::KILL);
        wait::until_true("the template to end", || !proc::is_alive(template));
        proc::kill(row.pid(), Signal::ABORT);
        wait::until_true("the life to end", || !proc::is_alive(row.pid()));
        proc::kill(controller.pid, Signal::CONT);
        let next = site.runs("one", life + 1);
        proc::kill_if_there(controller);
        assert_eq!(site.runs("one", life + 1).pid(), next.pid());
        wait::until_true("another controller", || {
            site.controller_pid() != controller.pid
        });
        assert_eq!(site.runs("one", life + 1).pid(), next.pid());
        proc::kill(next.pid(), Signal::KILL);
    }
}
