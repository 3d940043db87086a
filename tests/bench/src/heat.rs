//! A heat: contestants that are restarted in turn, one each, again and again, so that whatever
//! else goes on in the machine meets all of them. Called by the parts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::interrupt;
use crate::lane::{End, Lane};
use crate::programs::Programs;
use crate::progress::Progress;
use crate::report::Report;
use crate::restart::Notice;
use crate::site::{Site, Start};

/// The fact that tells of a site with one notice only.
const UNKNOWN: &str = "rows with fault notice";

/// What the parts have at hand.
pub struct Stage<'a> {
    /// The programs.
    pub programs: &'a Programs,
    /// A directory on tmpfs for lanes and sites.
    pub dir: &'a Path,
    /// Whether the run is to take less than a minute.
    pub quick: bool,
}

impl Stage<'_> {
    /// `full`, or `quick` where the run is to be short.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// One thing that is measured beside others.
pub struct Contestant {
    what: String,
    limit: Option<String>,
    end: End,
    lane: Lane,
    samples: Vec<f64>,
    /// The actor's name, where it is the site that restarts it.
    ours: Option<String>,
}

/// How a bare mechanism is set up.
#[derive(Clone, Default)]
pub struct Bare<'a> {
    /// "handler", "pidfd", "keeper", "fork" or "exec".
    pub mode: &'a str,
    /// Whether everything is to happen on the first CPU.
    pub one_cpu: bool,
    /// How many members it restarts together; 0 is 1.
    pub members: u64,
    /// How much memory each life touches, in bytes.
    pub touch: u64,
    /// The program that "exec" starts, with the words before the lane's.
    pub program: Vec<String>,
}

/// How an actor of the site is set up.
#[derive(Clone)]
pub struct Ours<'a> {
    /// Its program.
    pub program: &'a Path,
    /// The words before the lane's.
    pub before: Vec<String>,
    /// How much memory each life touches, in bytes.
    pub touch: u64,
    /// How its lives end.
    pub end: End,
    /// How their end is noticed. A site that cannot choose has only one way.
    pub notice: Notice,
}

impl<'a> Ours<'a> {
    /// With the kernel's notice and nothing else.
    pub fn new(program: &'a Path, end: End) -> Self {
        Self {
            program,
            before: Vec::new(),
            touch: 0,
            end,
            notice: Notice::Kernel,
        }
    }
}

impl Contestant {
    /// A bare mechanism, as an ordinary actor of the site: it stands in the same tree of processes.
    ///
    /// # Errors
    /// When it does not start.
    pub fn bare(stage: &Stage, site: &Site, what: &str, end: End, bare: &Bare) -> Result<Self> {
        let members = bare.members.max(1);
        let mut lane = Lane::new(stage.dir, bare.mode, members)?;
        let cpu = if bare.one_cpu { "0" } else { "-1" };
        let mut words = vec![bare.mode.to_owned(), cpu.to_owned(), members.to_string()];
        words.extend(lane.words(0, bare.touch, None));
        if bare.mode == "exec" {
            words.extend(bare.program.iter().cloned());
            words.extend(lane.words(0, bare.touch, None));
        }
        let name = lane.dir().file_name().context("a lane has a name")?;
        let name = name.to_string_lossy().into_owned();
        let start = Start {
            gid: None,
            name: &name,
            notice: Notice::Fault,
            program: &stage.programs.limit,
            words: &words,
        };
        lane.start(|_| site.arun(&start))?;
        Ok(Self::new(what, end, lane, None))
    }

    /// An actor that the site restarts.
    ///
    /// # Errors
    /// When it does not start.
    pub fn ours(stage: &Stage, site: &Site, what: &str, ours: &Ours) -> Result<Self> {
        let mut lane = Lane::new(stage.dir, "ours", 1)?;
        let name = lane.dir().file_name().context("a lane has a name")?;
        let name = name.to_string_lossy().into_owned();
        let gid = name.rsplit('-').next();
        let gid = gid.and_then(|number| number.parse().ok());
        let words = [&ours.before[..], &lane.words(0, ours.touch, None)].concat();
        let notice = match ours.notice {
            Notice::Kernel if site.knows_notice() => Notice::Kernel,
            _ => Notice::Fault,
        };
        let start = Start {
            gid,
            name: &name,
            notice,
            program: ours.program,
            words: &words,
        };
        lane.start(|_| site.arun(&start))?;
        Ok(Self::new(what, ours.end, lane, Some(name)))
    }

    /// Something that is started already.
    pub fn new(what: &str, end: End, lane: Lane, ours: Option<String>) -> Self {
        Self {
            what: what.to_owned(),
            limit: None,
            end,
            lane,
            samples: Vec::new(),
            ours,
        }
    }

    /// Names the row that it is compared with.
    pub fn against(mut self, limit: &str) -> Self {
        self.limit = Some(limit.to_owned());
        self
    }

    /// Gives a restart more time than any of ours takes.
    pub fn patient(mut self, watchdog: Duration) -> Self {
        self.lane.patient(watchdog);
        self
    }

    /// Takes one sample.
    ///
    /// # Errors
    /// When the restart does not come.
    pub fn restart(&mut self) -> Result<()> {
        let sample = self
            .lane
            .restart(self.end)
            .with_context(|| self.what.clone())?;
        self.samples.push(sample);
        Ok(())
    }

    /// Puts the samples into the report.
    pub fn tell(self, part: &'static str, report: &mut Report) {
        report.row(part, &self.what, self.limit.as_deref(), self.samples);
    }
}

/// How a heat is run.
#[derive(Clone, Copy)]
pub struct Pace {
    /// How many turns each contestant has; the first does not count.
    pub rounds: u32,
    /// How many restarts a turn has. Where there is more than one, the first does not count: the
    /// others' turns have left it cold caches.
    pub burst: u32,
    /// The quiet time before each restart.
    pub gap: Duration,
}

impl Pace {
    /// One restart a turn.
    pub fn single(rounds: u32, gap: Duration) -> Self {
        let burst = 1;
        Self { rounds, burst, gap }
    }
}

/// Restarts the contestants in turn; then tells the report. `label` is for the progress.
///
/// # Errors
/// When a restart does not come, or a signal does.
pub fn run(
    (part, label, report): (&'static str, &str, &mut Report),
    site: &Site,
    mut contestants: Vec<Contestant>,
    pace: Pace,
) -> Result<()> {
    let progress = Progress::new(label, u64::from(pace.rounds) + 1);
    for round in 0..=pace.rounds {
        for contestant in &mut contestants {
            for restart in 0..pace.burst {
                interrupt::sleep(pace.gap)?;
                contestant.restart()?;
                if round == 0 || (restart == 0 && pace.burst > 1) {
                    contestant.samples.pop();
                }
            }
        }
        progress.step();
    }
    drop(progress);
    if !site.knows_notice() && !report.has_fact(part, UNKNOWN) {
        report.fact(part, UNKNOWN, "skipped: arun has no flag --notice here");
    }
    for contestant in contestants {
        if let Some(name) = &contestant.ours {
            let kind = site.start_kind(name)?;
            report.fact(
                part,
                &format!("start kind of {:?} at its end", contestant.what),
                kind,
            );
        }
        contestant.tell(part, report);
    }
    Ok(())
}
