//! The site that is tortured, and everything that its actors share with the torture program: a directory
//! on tmpfs with the record, a FIFO each, and the programs.
//!
//! Dropping it halts the site and looks behind it; what is left all the same is removed, and told.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use refrain_sys::PidFd;
use refrain_tests::{Options, Site, binaries, leftovers, programs, run};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::cast::{Body, Cast, Member, Role};
use crate::link::Link;
use crate::model::{Evidence, Known};
use crate::record::{NO_LIFE, Record, Word, command};

/// Badness never restarts the site by itself; a silent controller is ended soon.
const CONFIG: &str = r#"(
    pmm: (ram_bank_size: "64MiB", max_blocks: 512),
    hr_ctrl: (max_badness: 1000000000, answer_timeout: "8s"),
    console: (log_size: "16KiB"),
)"#;
/// Ports for actors that listen, below those that the kernel chooses from.
const PORTS: Range<u16> = 20_000..32_000;
/// Bytes of a line in the file of beginnings of a script.
const LINE: u64 = 32;

/// What this machine lacks for it.
#[derive(Debug, thiserror::Error)]
#[error("this machine cannot run it: {0}")]
pub struct Unfit(pub &'static str);

/// Everything.
pub struct Stage {
    /// Who is tortured.
    pub cast: Cast,
    /// The session with the site.
    pub link: Link,
    /// What is known of each actor.
    pub known: Vec<Known>,
    /// How many lives of each have come since the site was asked last.
    pub owed: Vec<u32>,
    /// The site. Before `dir`: it ends first.
    pub site: Site,
    /// What the actors write into.
    pub record: Record,
    dir: TempDir,
    python: PathBuf,
    fifos: Vec<File>,
    ports: Vec<u16>,
}

impl Stage {
    /// A site without actors, and all that they will need.
    ///
    /// # Errors
    /// [`Unfit`]; the kernel's.
    pub fn new() -> Result<Self> {
        let python = programs::installed("python3").ok_or(Unfit("python3 is not installed"))?;
        let cast = Cast::default();
        let shm = Path::new("/dev/shm");
        let place = if shm.is_dir() {
            shm.to_owned()
        } else {
            std::env::temp_dir()
        };
        let dir = TempDir::with_prefix_in("torture-", place)?;
        build_programs(dir.path())?;
        let record = Record::create(&dir.path().join("record"))?;
        let fifos: io::Result<Vec<File>> =
            cast.members.iter().map(|m| fifo(dir.path(), m)).collect();
        let mut free = free_ports();
        let mut port = |member: &Member| {
            if member.has('p') {
                free.next()
            } else {
                Some(0)
            }
        };
        let ports: Option<Vec<u16>> = cast.members.iter().map(&mut port).collect();
        let options = Options::new().config(CONFIG).env("RUST_BACKTRACE", "0");
        let site = options.start();
        Ok(Self {
            link: Link::new(site.name())?,
            known: vec![Known::NOTHING; cast.members.len()],
            owed: vec![0; cast.members.len()],
            cast,
            site,
            record,
            dir,
            python,
            fifos: fifos?,
            ports: ports.context("there are not enough free ports")?,
        })
    }

    /// A file of the actors' directory.
    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// The program of an actor and its arguments.
    fn words(&self, index: usize) -> Vec<String> {
        let member = &self.cast.members[index];
        let dir = self.dir.path().display().to_string();
        let mut words = match member.body {
            Body::Rust => vec![binaries::path("victim").display().to_string()],
            Body::C => vec![self.file("victim-c")],
            Body::Static => vec![self.file("victim-static")],
            Body::Python => vec![self.python.display().to_string(), self.file("victim.py")],
            Body::Shell => vec![self.file("victim.sh")],
        };
        words.extend([dir, member.name.clone()]);
        if member.body == Body::Shell {
            return words;
        }
        let flags = if member.flags.is_empty() {
            "-"
        } else {
            member.flags
        };
        words.extend([
            index.to_string(),
            flags.to_owned(),
            self.ports[index].to_string(),
        ]);
        if member.body == Body::Rust {
            words.push(format!("{}:{}", member.place, member.gid.unwrap_or(0)));
            if let Some(other) = self.cast.run_by(index) {
                words.push(self.cast.members[other].name.clone());
                words.extend(self.words(other));
            }
        }
        words
    }

    /// Runs an actor that is not registered; an indirect one is run by another actor.
    ///
    /// # Errors
    /// What the site says.
    pub fn arun(&mut self, index: usize) -> Result<()> {
        let member = &self.cast.members[index];
        if matches!(member.role, Role::Indirect(_)) {
            return Ok(());
        }
        let gid = member.gid.map(|gid| gid.to_string());
        let mut words = vec!["arun", "-q"];
        if let Some(gid) = &gid {
            words.extend(["-g", gid]);
        }
        words.extend(member.options);
        words.extend(["-n", &member.name]);
        let program = self.words(index);
        words.extend(program.iter().map(String::as_str));
        let answer = self.link.order(&words).context("arun")?;
        ensure!(
            answer.code == 0,
            "arun {}: {answer:?}",
            self.cast.members[index].name
        );
        Ok(())
    }

    /// Forgets what an actor has written about itself, because it is registered no more.
    pub fn forget(&self, index: usize) {
        let slot = self.record.slot(index);
        slot.set(Word::Life, NO_LIFE);
        for word in [Word::Committed, Word::Shared, Word::Address] {
            slot.set(word, 0);
        }
    }

    /// Tells the life of an actor something.
    ///
    /// # Errors
    /// When its FIFO is full.
    pub fn tell(&self, index: usize, letter: char, number: u64) -> Result<()> {
        let written = (&self.fifos[index]).write_all(&command(letter, number));
        written.with_context(|| format!("{} reads no commands", self.cast.members[index].name))
    }

    /// Sends a signal to the life that is known of an actor, never to another process of that pid.
    ///
    /// # Errors
    /// When there is none: a life that nobody has hit must be there.
    pub fn signal(&self, index: usize, signal: Signal) -> Result<()> {
        let (name, mut pid) = (&self.cast.members[index].name, self.known[index].pid);
        if self.owed[index] > 0 {
            pid = u32::try_from(self.evidence(index).pid)?;
        }
        let pidfd = PidFd::open(pid).with_context(|| format!("the life of {name}, pid {pid}"))?;
        Ok(pidfd.send_signal(signal)?)
    }

    /// What an actor has written about itself.
    #[must_use]
    pub fn evidence(&self, index: usize) -> Evidence {
        if self.cast.members[index].body == Body::Shell {
            return self.lines(index).unwrap_or_default();
        }
        let slot = self.record.slot(index);
        let wrong = [Word::Wrong, Word::Code, Word::Detail].map(|word| slot.get(word));
        Evidence {
            begun: slot.get(Word::Begun),
            life: slot.get(Word::Life),
            pid: slot.get(Word::Pid),
            pong: slot.get(Word::Pong),
            wrong: wrong.into(),
        }
    }

    fn lines(&self, index: usize) -> io::Result<Evidence> {
        let name = &self.cast.members[index].name;
        let mut file = File::open(self.file(&format!("{name}.begun")))?;
        let begun = file.metadata()?.len() / LINE;
        file.seek(SeekFrom::Start(begun.saturating_sub(1) * LINE))?;
        let mut line = [0; LINE as usize];
        file.read_exact(&mut line)?;
        let line = String::from_utf8_lossy(&line);
        let mut words = line
            .split_whitespace()
            .map(|word| word.parse().unwrap_or(NO_LIFE));
        let pong = fs::read_to_string(self.file(&format!("{name}.pong"))).unwrap_or_default();
        Ok(Evidence {
            begun,
            life: words.next().unwrap_or(NO_LIFE),
            pid: words.next().unwrap_or(0),
            pong: pong.trim().parse().unwrap_or(0),
            wrong: (0, 0, 0),
        })
    }

    /// The names that the bank holds registrations of, in order, and after them what is wrong with it: `c_init bank
    /// show`, which asks nobody.
    ///
    /// # Errors
    /// When the bank cannot be read.
    pub fn registrations(&self) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Row {
            name: String,
        }
        #[derive(serde::Deserialize)]
        struct Bank {
            registrations: Vec<Row>,
            damage: Vec<serde_json::Value>,
        }
        let mut command = self.site.program("c_init");
        command
            .args(["bank", "show", "--json"])
            .arg(self.site.bank());
        let shown = run::to_end(&mut command, None);
        ensure!(shown.code == Some(0), "bank show: {shown:?}");
        let bank: Bank = serde_json::from_str(&shown.out)?;
        let mut names: Vec<String> = bank.registrations.into_iter().map(|row| row.name).collect();
        names.sort();
        names.extend(bank.damage.iter().map(ToString::to_string));
        Ok(names)
    }

    /// Halts the site; answers what it left behind, which is removed.
    ///
    /// # Errors
    /// What was left behind.
    pub fn end(self) -> Result<()> {
        let name = self.site.name().to_owned();
        // The harness looks behind a site that it ends, and complains by a panic.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(self)));
        let left = remove_left_over(&name);
        ensure!(left.is_empty(), "left behind: {left:#?}");
        if ended.is_err() {
            bail!("the site did not end as it should");
        }
        Ok(())
    }
}

/// Ends and removes whatever is left of the site `name`, and tells what that was.
fn remove_left_over(name: &str) -> Vec<String> {
    let left = leftovers::processes(name, &[]);
    let mut told = leftovers::describe(&left);
    left.into_iter()
        .for_each(refrain_tests::proc::kill_if_there);
    let mut cgroups = leftovers::cgroups(name);
    // The deepest first; a cgroup's files vanish with it.
    for parent in cgroups.clone() {
        let entries = fs::read_dir(&parent).into_iter().flatten().flatten();
        cgroups.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
    }
    cgroups.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().len()));
    for path in cgroups {
        let _ = fs::remove_dir(&path);
        told.push(path.display().to_string());
    }
    for path in leftovers::files(name) {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        told.push(path.display().to_string());
    }
    told
}

fn fifo(dir: &Path, member: &Member) -> io::Result<File> {
    let path = dir.join(format!("{}.fifo", member.name));
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0)?;
    // Open for reading as well: what is written waits for the next life.
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true);
    options
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
}

/// Ports that nobody listens on, and that the kernel gives to nobody who does not ask for them.
fn free_ports() -> impl Iterator<Item = u16> {
    let from = PORTS.start + (std::process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (from..PORTS.end).chain(PORTS.start..from).filter(is_free)
}

/// The directory of the programs' sources.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("actors")
}

fn build_programs(dir: &Path) -> Result<()> {
    for (name, flags) in [("victim-c", &[][..]), ("victim-static", &["-static"])] {
        let mut command = Command::new("cc");
        command.args(["-O1", "-pthread", "-o"]).arg(dir.join(name));
        command.arg(sources().join("victim.c")).args(flags);
        let built = run::to_end(&mut command, None);
        if built.code != Some(0) {
            eprintln!("{command:?}: {}", built.err);
            bail!(Unfit(
                "its C compiler does not build actors/victim.c, dynamically and statically"
            ));
        }
    }
    for script in ["victim.py", "victim.sh"] {
        let place = dir.join(script);
        fs::copy(sources().join(script), &place)?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
    }
    let module = sources().join("../../../runtime/capi/python/refrain.py");
    fs::copy(module, dir.join("refrain.py"))?;
    fs::copy(binaries::path("libhr.so"), dir.join("libhr.so"))?;
    Ok(())
}
