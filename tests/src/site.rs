//! A site of a test's own: started in the background, commanded through `c_init`, halted and
//! looked behind when it is dropped, also when the test panics.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::console::Console;
use crate::proc::{self, ProcId};
use crate::{Finished, Options, Row, binaries, leftovers, run, wait};

/// A site, and the directory that its commands are given in.
pub struct Site {
    name: String,
    dir: TempDir,
    // On tmpfs when the machine has one at /dev/shm; dropped after the look behind.
    ram: TempDir,
    options: Options,
    family: Vec<ProcId>,
    nucleus: Option<ProcId>,
    boot_output: Finished,
    checked: bool,
}

impl Site {
    /// A site with nothing but defaults, running.
    #[must_use]
    pub fn start() -> Self {
        Options::new().start()
    }

    /// Starts the site in the background, as [`Options::start`] does it.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn detach(&mut self) {
        let mut command = self.starter();
        command.arg("--detach").args(self.ini_argument());
        self.boot_output = run::to_end(&mut command, None);
        assert_eq!(
            self.boot_output.code,
            Some(0),
            "no site: {:?}",
            self.boot_output
        );
        self.started();
    }

    pub(crate) fn prepare(options: Options) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}n{count}x", std::process::id());
        let shm = Path::new("/dev/shm");
        let place = if shm.is_dir() {
            shm.to_owned()
        } else {
            std::env::temp_dir()
        };
        let site = Self {
            name,
            dir: TempDir::with_prefix("systest-").expect("a temporary directory can be made"),
            ram: TempDir::with_prefix_in("systest-", place).expect("there is room for a bank"),
            options,
            family: Vec::new(),
            nucleus: None,
            boot_output: Finished {
                code: None,
                out: String::new(),
                err: String::new(),
            },
            checked: false,
        };
        if let Some(config) = &site.options.config {
            site.write("config.ron", config);
        }
        if let Some(ini) = &site.options.ini {
            let text = String::from_utf8_lossy(ini);
            let placed = text.replace("{dir}", &site.dir().display().to_string());
            let bytes = if text.contains("{dir}") {
                placed.into_bytes()
            } else {
                ini.clone()
            };
            site.write("sysadm.ini", bytes);
        }
        site
    }

    /// The unique name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory that commands are given in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in that directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Writes a file into that directory.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, contents).expect("a file can be written in the test's directory");
        path
    }

    /// The lines of a file in that directory; none when it is not there (yet).
    #[must_use]
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a line of a file for which `wanted` holds, and returns it.
    pub fn wait_line(&self, file: &str, wanted: impl Fn(&str) -> bool) -> String {
        let what = || format!("a line in {file}; it has {:?}", self.lines(file));
        let find = || self.lines(file).into_iter().find(|line| wanted(line));
        let started = std::time::Instant::now();
        while started.elapsed() < wait::WATCHDOG {
            if let Some(line) = find() {
                return line;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        find().unwrap_or_else(|| panic!("waited in vain for {}", what()))
    }

    /// Waits until a file has `count` lines, and returns them.
    pub fn wait_lines(&self, file: &str, count: usize) -> Vec<String> {
        wait::until(&format!("{count} lines in {file}"), || {
            Some(self.lines(file)).filter(|lines| lines.len() >= count)
        })
    }

    /// The bank's directory, unless the site has it at the default place.
    #[must_use]
    pub fn bank(&self) -> PathBuf {
        self.options
            .bank
            .clone()
            .unwrap_or_else(|| self.ram.path().join("bank"))
    }

    /// A program of the product, aimed at this site, in this site's directory.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        self.aimed(&binaries::path(name))
    }

    fn aimed(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir())
            .env("REFRAIN_SITE", &self.name)
            .env(leftovers::MARK, &self.name)
            .env("XDG_STATE_HOME", self.dir().join("state"))
            .envs(self.options.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// `c_init --site NAME` with what the options say about bank and configuration.
    #[must_use]
    pub fn starter(&self) -> Command {
        self.starter_of(&binaries::path("c_init"))
    }

    /// The same with a `c_init` that lies elsewhere.
    #[must_use]
    pub fn starter_of(&self, c_init: &Path) -> Command {
        let mut command = self.aimed(c_init);
        command
            .env_remove("REFRAIN_SITE")
            .args(["--site", &self.name]);
        if !self.options.default_bank {
            command.arg("--bank").arg(self.bank());
        }
        if self.options.config.is_some() {
            command.arg("--config").arg("config.ron");
        }
        command
    }

    /// `sysadm.ini`, when the options give one.
    #[must_use]
    pub fn ini_argument(&self) -> Option<&'static str> {
        self.options.ini.as_ref().map(|_| "sysadm.ini")
    }

    /// What `c_init --detach` printed.
    #[must_use]
    pub fn boot_output(&self) -> &Finished {
        &self.boot_output
    }

    /// To be called by a test that started the site its own way, as soon as it serves.
    pub fn started(&mut self) {
        let nucleus = self.nucleus_pid();
        self.nucleus = proc::stat(nucleus).map(|stat| stat.id);
        self.checked = false;
    }

    /// Gives one command and returns what became of it.
    #[must_use]
    pub fn command(&self, line: &str) -> Finished {
        let mut command = self.program("c_init");
        command
            .env_remove("REFRAIN_SITE")
            .args(["--site", &self.name, "-c", line]);
        run::to_end(&mut command, None)
    }

    /// A second console on the running site, with pipes; it is there when this returns.
    #[must_use]
    pub fn connect(&self) -> Console {
        let mut command = self.program("c_init");
        command
            .env_remove("REFRAIN_SITE")
            .args(["--site", &self.name, "--connect"]);
        let mut console = Console::start(&mut command);
        console.type_line("echo connected");
        console.wait_line("the echo", |line| line.contains("connected"));
        console
    }

    /// Gives one command that must succeed, and returns its output.
    pub fn ok(&self, line: &str) -> String {
        self.command(line).expect_ok(line)
    }

    /// Gives one command that must fail with exit code 1, and returns its one line on stderr.
    pub fn refused(&self, line: &str) -> String {
        self.command(line).expect_refusal(1, line)
    }

    /// Gives one command that must be refused as wrong usage (exit code 2).
    pub fn misused(&self, line: &str) -> String {
        self.command(line).expect_refusal(2, line)
    }

    /// Runs a program of the product as an applet with `words`.
    #[must_use]
    pub fn applet<S: AsRef<OsStr>>(
        &self,
        name: &str,
        words: impl IntoIterator<Item = S>,
    ) -> Finished {
        run::to_end(self.program(name).args(words), None)
    }

    /// `arun WORDS` as the applet does it; returns the aid.
    ///
    /// # Panics
    /// When it prints anything but `Started aid = N`.
    pub fn arun<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> u32 {
        let out = self.applet("arun", words).expect_ok("arun");
        aid_of(&out)
    }

    /// Runs a test actor in group `gid` under `name`: `program` is one of this package's
    /// binaries, `words` what it is to do; it reports into the file `name` (see `actors/`).
    pub fn actor(&self, gid: u32, name: &str, program: &str, words: &[&str]) -> u32 {
        let gid = gid.to_string();
        self.run_actor(&["-g", &gid, "-n", name], name, program, words)
    }

    /// The same as an ordinary actor.
    pub fn ordinary(&self, name: &str, program: &str, words: &[&str]) -> u32 {
        self.run_actor(&["-n", name], name, program, words)
    }

    /// The same with any flags of `arun`.
    pub fn run_actor(&self, flags: &[&str], name: &str, program: &str, words: &[&str]) -> u32 {
        let path = binaries::path(program);
        let mut all: Vec<&OsStr> = flags.iter().map(OsStr::new).collect();
        let out = self.file(name);
        all.extend([path.as_os_str(), out.as_os_str()]);
        all.extend(words.iter().map(OsStr::new));
        self.arun(all)
    }

    /// `aps --json`.
    #[must_use]
    pub fn aps(&self) -> Vec<Row> {
        let out = self.ok("aps --json");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("aps --json: {error}\n{out}"))
    }

    /// The row of an actor; `None` when none of that name is registered.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<Row> {
        self.aps().into_iter().find(|row| row.name == name)
    }

    /// Waits until the actor `name` is as `wanted` says.
    pub fn wait_row(&self, name: &str, wanted: impl Fn(&Row) -> bool) -> Row {
        let started = std::time::Instant::now();
        loop {
            let rows = self.aps();
            if let Some(row) = rows.iter().find(|row| row.name == name && wanted(row)) {
                return row.clone();
            }
            assert!(
                started.elapsed() < wait::WATCHDOG,
                "{name} does not come as wanted: {rows:#?}"
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits until life number `life` of the actor `name` runs.
    pub fn runs(&self, name: &str, life: u32) -> Row {
        self.wait_row(name, |row| row.runs(life))
    }

    /// Waits until life number `life` of the actor `name` runs and the next one is asleep beside
    /// it, so that a crash now is answered by a standby.
    pub fn runs_with_standby(&self, name: &str, life: u32) -> Row {
        let row = self.runs(name, life);
        let template = proc::stat(row.pid()).expect("the life lives").parent;
        wait::until_true("the standby", || proc::children(template).len() >= 2);
        row
    }

    /// Waits until no actor `name` is registered.
    pub fn wait_forgotten(&self, name: &str) {
        wait::until_true(&format!("{name} to be deregistered"), || {
            self.row(name).is_none()
        });
    }

    /// `chorusStat --json`.
    #[must_use]
    pub fn stat(&self) -> Value {
        let out = self.ok("chorusStat --json");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("chorusStat: {error}\n{out}"))
    }

    /// `memstat --json`.
    #[must_use]
    pub fn memory(&self) -> Value {
        let out = self.ok("memstat --json");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("memstat: {error}\n{out}"))
    }

    /// The names of the blocks in the bank, as `memstat --json` lists them.
    #[must_use]
    pub fn blocks(&self) -> Vec<String> {
        let memory = self.memory();
        let rows = memory["blocks"].as_array().cloned().unwrap_or_default();
        rows.iter()
            .filter_map(|row| row["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// The pid of nucleus.
    #[must_use]
    pub fn nucleus_pid(&self) -> u32 {
        self.pid_in_stat("nucleus")
    }

    /// The pid of hr_ctrl.
    #[must_use]
    pub fn controller_pid(&self) -> u32 {
        self.pid_in_stat("hr_ctrl")
    }

    fn pid_in_stat(&self, field: &str) -> u32 {
        let stat = self.stat();
        let pid = stat[field].as_u64().and_then(|pid| u32::try_from(pid).ok());
        pid.unwrap_or_else(|| panic!("chorusStat names no pid of {field}: {stat}"))
    }

    /// Whether the site's nucleus is still there.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.nucleus.is_some_and(proc::exists)
    }

    /// Halts the site with `shutdown -i LEVEL` and looks behind it.
    ///
    /// # Panics
    /// When it does not halt, or leaves something behind.
    pub fn halt(&mut self, level: u32) {
        self.note_family();
        self.ok(&format!("shutdown -i {level}"));
        self.wait_down();
    }

    /// Notes every process of the site, so that none can hide later by changing what it shows.
    pub fn note_family(&mut self) {
        if let Some(nucleus) = self.nucleus {
            self.family = proc::family(nucleus.pid)
                .into_iter()
                .map(|stat| stat.id)
                .collect();
        }
    }

    /// Waits until the site has ended and looks behind it.
    ///
    /// # Panics
    /// When it leaves something behind.
    pub fn wait_down(&mut self) {
        wait::until_true("nucleus to end", || !self.is_up());
        self.nucleus = None;
        let left = self.left_behind();
        self.checked = true;
        assert!(
            left.is_empty(),
            "the site left behind:\n{}",
            left.join("\n")
        );
    }

    /// What is left of the site, a line each; processes are given until the watchdog barks.
    fn left_behind(&self) -> Vec<String> {
        let started = std::time::Instant::now();
        let mut processes = leftovers::processes(&self.name, &self.family);
        while !processes.is_empty() && started.elapsed() < wait::WATCHDOG {
            std::thread::sleep(std::time::Duration::from_millis(10));
            processes = leftovers::processes(&self.name, &self.family);
        }
        let mut left = leftovers::describe(&processes);
        processes.into_iter().for_each(proc::kill_if_there);
        let paths = leftovers::files(&self.name)
            .into_iter()
            .chain(leftovers::cgroups(&self.name));
        left.extend(paths.map(|path| path.display().to_string()));
        if self.options.bank.is_none() && !self.options.keeps_bank {
            let bank = self.ram.path().join("bank");
            let files = fs::read_dir(bank).into_iter().flatten().flatten();
            left.extend(files.map(|entry| entry.path().display().to_string()));
        }
        left
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.checked {
            return;
        }
        self.note_family();
        let said = if self.is_up() {
            Some(self.command("shutdown -i 3"))
        } else {
            None
        };
        let started = std::time::Instant::now();
        while self.is_up() && started.elapsed() < wait::WATCHDOG {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let left = self.left_behind();
        if std::thread::panicking() {
            eprintln!("left behind by the failed test: {left:?}; shutdown said {said:?}");
        } else {
            assert!(
                left.is_empty(),
                "left behind: {left:#?}; shutdown said {said:?}"
            );
        }
    }
}

/// The aid in the output of `arun`.
///
/// # Panics
/// When it is anything but `Started aid = N`.
#[must_use]
pub fn aid_of(out: &str) -> u32 {
    let aid = out
        .strip_prefix("Started aid = ")
        .and_then(|rest| rest.trim_end().parse().ok());
    aid.unwrap_or_else(|| panic!("arun printed {out:?}"))
}
