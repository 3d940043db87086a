//! The site that is measured: the real one, started in the background and commanded through `c_init`.
//! It is halted when it is dropped, also after an error or an interrupt.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::programs::{Programs, line};
use crate::restart::Notice;

/// Policy never stops what is measured; the bank holds the largest block; tables hold every actor.
const CONFIG: &str = r#"(
    pmm: (ram_bank_size: "2GiB", max_blocks: 65536),
    hr_ctrl: (max_actors: 20000, max_groups: 20000, max_badness: 1000000000, answer_timeout: "5m"),
    console: (log_size: "4KiB"),
)"#;

/// A running site.
pub struct Site {
    name: String,
    c_init: PathBuf,
    dir: PathBuf,
    knows_notice: bool,
}

/// An actor to be started.
pub struct Start<'a> {
    /// Its restart group; an ordinary actor has none.
    pub gid: Option<u32>,
    /// Its name.
    pub name: &'a str,
    /// How the end of its lives is to be noticed.
    pub notice: Notice,
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub words: &'a [String],
}

impl Start<'_> {
    /// The command that starts it.
    ///
    /// # Errors
    /// For a word with a NUL.
    pub fn line(&self) -> Result<String> {
        let gid = self.gid.map(|gid| gid.to_string());
        let mut all: Vec<&OsStr> = vec!["arun".as_ref(), "-q".as_ref()];
        if let Some(gid) = &gid {
            all.extend([OsStr::new("-g"), gid.as_ref()]);
        }
        if self.notice == Notice::Kernel {
            all.extend([OsStr::new(NOTICE), "kernel".as_ref()]);
        }
        all.extend(["-n".as_ref(), self.name.as_ref(), self.program.as_os_str()]);
        all.extend(self.words.iter().map(OsStr::new));
        line(all)
    }
}

/// The flag of `arun` that chooses the notice.
const NOTICE: &str = "--notice";

/// What the benchmark reads of a row of `aps --json`.
#[derive(Debug, Deserialize)]
pub struct Row {
    /// The actor.
    pub name: String,
    /// The life's pid.
    pub pid: Option<u32>,
    /// "standby", "template" or "exec".
    pub start: Option<String>,
    /// How many lives began by a restart.
    pub restarts: u32,
    /// How the last end was noticed, where the site says so.
    pub notice: Option<String>,
    /// Whether the life has a keeper, where the site says so.
    pub keeper: Option<bool>,
}

impl Site {
    /// Starts a site that keeps its files in `dir`.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn start(programs: &Programs, dir: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench{}n{number}", std::process::id());
        let dir = dir.join(&name);
        fs::create_dir(&dir)?;
        fs::write(dir.join("config.ron"), CONFIG)?;
        let mut site = Self {
            name,
            c_init: programs.c_init.clone(),
            dir,
            knows_notice: false,
        };
        let bank = site.dir.join("bank");
        let config = site.dir.join("config.ron");
        let words = [
            "--detach".as_ref(),
            "--bank".as_ref(),
            bank.as_os_str(),
            "--config".as_ref(),
            config.as_os_str(),
        ];
        site.c_init(words)?;
        site.knows_notice = site.command("help arun")?.contains(NOTICE);
        Ok(site)
    }

    fn c_init<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        let mut command = Command::new(&self.c_init);
        command
            .args(["--site", &self.name])
            .args(words)
            .env_remove("REFRAIN_SITE")
            // Or a panic looks up symbols for a tenth of a second before it ends the life.
            .env("RUST_BACKTRACE", "0");
        let output = command.output().context("cannot run c_init")?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("{}: {words}", self.name);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Gives one command; answers its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn command(&self, text: &str) -> Result<String> {
        self.c_init(["-c", text])
    }

    /// Gives many commands as one file.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn commands(&self, lines: &[String]) -> Result<()> {
        let file = self.dir.join("commands");
        fs::write(&file, lines.join("\n") + "\n")?;
        self.command(&line(["source".as_ref(), file.as_os_str()])?)?;
        Ok(())
    }

    /// Runs a program as an actor.
    ///
    /// # Errors
    /// When the site refuses.
    pub fn arun(&self, start: &Start) -> Result<()> {
        self.command(&start.line()?)?;
        Ok(())
    }

    /// Whether an actor can be told to go without the fault notice.
    pub fn knows_notice(&self) -> bool {
        self.knows_notice
    }

    /// The directory that holds its bank.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `aps --json`.
    ///
    /// # Errors
    /// When the site does not answer.
    pub fn aps(&self) -> Result<Vec<Row>> {
        Ok(serde_json::from_str(&self.command("aps --json")?)?)
    }

    /// How the life of `name` that runs now was started, how the end before was noticed, whether it has a
    /// keeper, and how many restarts there were.
    ///
    /// # Errors
    /// When the site does not answer.
    pub fn start_kind(&self, name: &str) -> Result<String> {
        let rows = self.aps()?;
        let row = rows.into_iter().find(|row| row.name == name);
        let row = row.with_context(|| format!("no actor {name}"))?;
        let mut words = vec![row.start.unwrap_or_default()];
        words.extend(row.notice.map(|notice| format!("noticed by {notice}")));
        words.extend(row.keeper.map(|keeper| {
            let has = if keeper { "a" } else { "no" };
            format!("{has} keeper")
        }));
        words.push(format!("after {} restarts", row.restarts));
        Ok(words.join(", "))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // -i 3 waits for nobody. Where it fails, the sweep of `main.rs` ends what carries our path.
        if let Err(error) = self.command("shutdown -i 3") {
            eprintln!("the site {} could not be halted: {error:#}", self.name);
        }
    }
}
