//! A run: step after step until its time is over, each checked; and what is told when one goes wrong.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::census::Census;
use crate::interrupt;
use crate::link::Stat;
use crate::model::Stand;
use crate::plan::{Family, Plan, Step};
use crate::record::Word;
use crate::stage::Stage;
use crate::tally::Tally;

/// How many steps are told when one goes wrong.
const TOLD: usize = 50;
/// After how many steps everybody is counted.
const CENSUS: u64 = 40;
/// How often it says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// At most so long.
    pub time: Duration,
    /// At most so many steps.
    pub steps: u64,
}

/// A run.
pub struct Torture {
    /// The site and its actors.
    pub stage: Stage,
    /// Who is there.
    pub census: Census,
    /// What was done.
    pub tally: Tally,
    /// The site's own processes.
    pub stat: Stat,
    /// The number of the last ping.
    pub pings: u64,
    /// How many steps the site was not asked about.
    pub unasked: u32,
    /// How often the bank was filled.
    pub fills: u64,
    /// When hr_ctrl was ended last.
    pub deaths: VecDeque<Instant>,
    steps: VecDeque<String>,
    begun: Instant,
}

impl Torture {
    /// Starts a site and its actors.
    ///
    /// # Errors
    /// When something does not start; the site is ended then.
    pub fn new() -> Result<Self> {
        let mut stage = Stage::new()?;
        let census = Census::new(stage.site.name())?;
        let stat = stage.link.stat()?;
        let mut torture = Self {
            stage,
            census,
            tally: Tally::default(),
            stat,
            pings: 0,
            unasked: 0,
            fills: 0,
            deaths: VecDeque::new(),
            steps: VecDeque::new(),
            begun: Instant::now(),
        };
        if let Err(why) = torture.revive() {
            torture.tell();
            let _ = torture.stage.end();
            return Err(why);
        }
        torture.begun = Instant::now();
        Ok(torture)
    }

    /// Takes steps until the run is over or something is wrong.
    ///
    /// # Errors
    /// What is wrong; what is told beside it is on stderr.
    pub fn run(&mut self, seed: u64, families: &[Family], length: Length) -> Result<()> {
        let mut plan = Plan::new(seed, families);
        let mut told = Instant::now();
        self.count()?;
        while self.tally.steps < length.steps && self.begun.elapsed() < length.time {
            let stands: Vec<Stand> = self.stage.known.iter().map(|known| known.stand).collect();
            let step = plan.next(&self.stage.cast, &stands);
            self.steps
                .push_back(format!("{:>6} {step:?}", self.tally.steps));
            if self.steps.len() > TOLD {
                self.steps.pop_front();
            }
            self.step(&step)
                .with_context(|| format!("step {}", self.tally.steps))?;
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                eprintln!("{}", self.tally.line(self.begun.elapsed()));
            }
        }
        self.count()
    }

    /// A step, and everything after it.
    fn step(&mut self, step: &Step) -> Result<()> {
        self.carry_out(step)?;
        self.revive()?;
        self.tally.recovered();
        self.tally.steps += 1;
        if self.tally.steps.is_multiple_of(CENSUS) {
            self.count()?;
        }
        Ok(())
    }

    /// Counts everybody.
    fn count(&mut self) -> Result<()> {
        self.settle(&self.nothing())?;
        let stat = self.stage.link.stat()?;
        ensure!(
            stat.nucleus == self.stat.nucleus,
            "there is another nucleus"
        );
        ensure!(
            stat.hr_ctrl == self.stat.hr_ctrl,
            "hr_ctrl was started again without cause"
        );
        self.census
            .count(&self.stage.cast, &self.stage.known, stat)?;
        self.check_bank()?;
        self.tally.censuses += 1;
        Ok(())
    }

    /// Who would be brought back if everything died now: exactly those who are registered.
    fn check_bank(&mut self) -> Result<()> {
        let mut wanted: Vec<String> = Vec::new();
        for (member, known) in self.stage.cast.members.iter().zip(&self.stage.known) {
            if member.gid.is_some() && known.stand != Stand::Absent {
                wanted.push(member.name.clone());
            }
        }
        wanted.sort();
        self.until(
            "the bank to hold the actors that are registered",
            |torture| Ok(torture.stage.registrations()? == wanted),
        )
    }

    /// Tells the last steps, and what the site says.
    pub fn tell(&mut self) {
        if interrupt::has_come() {
            return self.tally.forget_pending();
        }
        eprintln!("the last steps:");
        for step in &self.steps {
            eprintln!("{step}");
        }
        let mut asked = vec![
            vec!["aps", "--json"],
            vec!["chorusStat"],
            vec!["log", "HR_CTRL"],
        ];
        let members = self.stage.cast.members.clone();
        for (index, member) in members.iter().enumerate() {
            if self.stage.evidence(index).wrong.0 > 0 {
                asked.push(vec!["log", &member.name]);
            }
        }
        for words in asked {
            match self.stage.link.order(&words) {
                Ok(answer) => eprintln!("{words:?}:\n{}{}", answer.out, answer.err),
                Err(error) => eprintln!("{words:?}: {error}"),
            }
        }
    }

    /// Ends the site.
    ///
    /// # Errors
    /// What it leaves behind.
    pub fn end(self) -> Result<()> {
        self.stage.end()
    }

    /// The table, and what goes with it.
    #[must_use]
    pub fn report(&self) -> String {
        let slots = 0..self.stage.cast.members.len();
        let sum = |word| -> u64 {
            slots
                .clone()
                .map(|slot| self.stage.record.slot(slot).get(word))
                .sum()
        };
        format!(
            "{}\n\n{}\n{}\nsessions: {}; requests of lives that were asked again: {}; warm images made: {}",
            self.tally.tables(),
            self.tally.line(self.begun.elapsed()),
            self.census.holdings(),
            self.stage.link.opened,
            sum(Word::Agains),
            sum(Word::Images)
        )
    }
}
