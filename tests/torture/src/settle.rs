//! After a step: waits until everything that is due has come, and checks that nothing else has.
//!
//! Called by the run after each step. Every wait is for a condition, with a watchdog that is longer than
//! anything takes; how long something took is never a verdict.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::cast::Role;
use crate::interrupt;
use crate::link::WATCHDOG;
use crate::model::{Due, Evidence, Known, Row, Stand, compare};
use crate::record::wrong_name;
use crate::run::Torture;

/// Between two looks, growing up to the second.
const PAUSES: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(4)];
/// After how long a ping is sent again: whoever took it may have been killed before it answered.
const AGAIN: Duration = Duration::from_millis(40);

/// What a step makes due, and what is to be said about ends; by index into the cast.
pub struct Dues {
    /// What is due.
    pub dues: Vec<Due>,
    /// What `aps` must say about the last end.
    pub ends: Vec<Option<&'static str>>,
}

impl Dues {
    /// Nothing is due for anybody.
    #[must_use]
    pub fn nothing(members: usize) -> Self {
        Self {
            dues: vec![Due::Same; members],
            ends: vec![None; members],
        }
    }
}

/// Looks again and again, less often as time goes by.
struct Patience {
    begun: Instant,
    pause: Duration,
}

impl Patience {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            pause: PAUSES[0],
        }
    }

    /// Waits a little; answers whether it has been too long.
    fn is_over(&mut self) -> Result<bool> {
        interrupt::check()?;
        thread::sleep(self.pause);
        self.pause = (self.pause * 5 / 4).min(PAUSES[1]);
        Ok(self.begun.elapsed() > WATCHDOG)
    }
}

impl Torture {
    /// Waits until what is due has come; then it is what is known.
    ///
    /// # Errors
    /// What has not come, or what should not have.
    pub fn settle(&mut self, dues: &Dues) -> Result<()> {
        let is_new = |due: &Due| matches!(due, Due::Times(_) | Due::Between(..) | Due::New);
        let is_vague = |due: &Due| matches!(due, Due::Between(..));
        let those = |wanted: &dyn Fn(&Due) -> bool| -> Vec<usize> {
            let all = dues.dues.iter().enumerate();
            all.filter(|(_, due)| wanted(due))
                .map(|(index, _)| index)
                .collect()
        };
        let dues = &self.with_owed(dues);
        self.ping(&those(&is_new))?;
        // A life that is being killed may have answered; it does not answer twice.
        self.ping(&those(&is_vague))?;
        let mut patience = Patience::new();
        let known = loop {
            let rows = self.stage.link.rows()?;
            match self.compare_all(&rows, dues) {
                Ok(known) => break known,
                Err(why) if patience.is_over()? => bail!("{why}"),
                Err(_) => {}
            }
        };
        self.stage.known = known;
        self.stage.owed.fill(0);
        self.tally.checks += 1;
        (0..self.stage.cast.members.len()).try_for_each(|index| {
            let evidence = self.stage.evidence(index);
            self.check_wrong(index, &evidence)
        })
    }

    /// Does the same by the actors' own evidence alone, which costs the site nothing. What has come is owed
    /// to the next [`Torture::settle`], which finds it in what the site says.
    ///
    /// # Errors
    /// As [`Torture::settle`].
    pub fn settle_by_evidence(&mut self, dues: &Dues) -> Result<()> {
        let dues = self.with_owed(dues);
        let mut hit = Vec::new();
        for (index, due) in dues.dues.iter().enumerate() {
            let Due::Times(lives) = *due else {
                ensure!(*due == Due::Same, "{due:?} cannot be seen without the site");
                continue;
            };
            if self.stage.owed[index] != lives {
                self.stage.owed[index] = lives;
                hit.push(index);
            }
        }
        self.ping(&hit)?;
        let mut patience = Patience::new();
        while let Err(why) = self.compare_evidence() {
            ensure!(!patience.is_over()?, "{why}");
        }
        self.tally.evidence_checks += 1;
        Ok(())
    }

    fn compare_evidence(&self) -> Result<(), String> {
        for (index, member) in self.stage.cast.members.iter().enumerate() {
            let (known, owed) = (&self.stage.known[index], self.stage.owed[index]);
            let evidence = self.stage.evidence(index);
            self.check_wrong(index, &evidence)
                .map_err(|why| why.to_string())?;
            let is_same = owed > 0 || evidence.pid == u64::from(known.pid);
            let is_due = evidence.begun == known.begun + u64::from(owed);
            let is_next = owed == 0 || evidence.life == u64::from(known.life + owed);
            if known.stand != Stand::Absent && !(is_same && is_due && is_next) {
                let name = &member.name;
                return Err(format!(
                    "{name}: {owed} lives more are due: {evidence:?}, known {known:?}"
                ));
            }
        }
        Ok(())
    }

    /// What is due, with what came since the site was asked last.
    fn with_owed(&self, dues: &Dues) -> Dues {
        let owed = self.stage.owed.iter();
        let sum = |(due, owed): (&Due, &u32)| match (*due, *owed) {
            (due, 0) => due,
            (Due::Times(lives), owed) => Due::Times(lives + owed),
            (_, owed) => Due::Times(owed),
        };
        Dues {
            dues: dues.dues.iter().zip(owed).map(sum).collect(),
            ends: dues.ends.clone(),
        }
    }

    /// Waits until a life of each of these has answered.
    ///
    /// # Errors
    /// When one does not.
    pub fn ping(&mut self, members: &[usize]) -> Result<()> {
        self.pings += 1;
        let number = self.pings;
        let mut silent = members.to_vec();
        let mut sent: Option<Instant> = None;
        let mut patience = Patience::new();
        while !silent.is_empty() {
            if sent.is_none_or(|sent| sent.elapsed() > AGAIN) {
                for &index in &silent {
                    self.stage.tell(index, 'p', number)?;
                }
                sent = Some(Instant::now());
            }
            let is_over = patience.is_over()?;
            let mut wrong = Ok(());
            silent.retain(|&index| {
                let evidence = self.stage.evidence(index);
                if let Err(why) = self.check_wrong(index, &evidence) {
                    wrong = Err(why);
                }
                evidence.pong != number
            });
            wrong?;
            let name = |index: &usize| self.stage.cast.members[*index].name.clone();
            let names: Vec<_> = silent.iter().map(name).collect();
            ensure!(!is_over || names.is_empty(), "no life answers of {names:?}");
        }
        Ok(())
    }

    fn check_wrong(&self, index: usize, evidence: &Evidence) -> Result<()> {
        let (count, code, detail) = evidence.wrong;
        let name = &self.stage.cast.members[index].name;
        let what = wrong_name(code);
        ensure!(count == 0, "{name} says: {what} ({detail}; {count} times)");
        Ok(())
    }

    fn compare_all(&self, rows: &[Row], dues: &Dues) -> Result<Vec<Known>, String> {
        let members = &self.stage.cast.members;
        if let Some(row) = rows
            .iter()
            .find(|row| members.iter().all(|m| m.name != row.name))
        {
            return Err(format!("nobody has run this one: {row:?}"));
        }
        let mut known = Vec::with_capacity(members.len());
        for (index, member) in members.iter().enumerate() {
            let mut mine = rows.iter().filter(|row| row.name == member.name);
            let (row, other) = (mine.next(), mine.next());
            if other.is_some() {
                return Err(format!("{} is there twice", member.name));
            }
            if row.is_some_and(|row| row.gid != member.gid) {
                return Err(format!("{} is in another group: {row:?}", member.name));
            }
            let evidence = self.stage.evidence(index);
            let now = compare(&self.stage.known[index], dues.dues[index], row, &evidence);
            known.push(now.map_err(|why| format!("{}: {why}", member.name))?);
            let said = row
                .and_then(|row| row.last_end.as_deref())
                .unwrap_or("nothing");
            if let Some(end) = dues.ends[index].filter(|end| !said.contains(end)) {
                return Err(format!(
                    "{} ended by {end}, and aps says {said}",
                    member.name
                ));
            }
        }
        Ok(known)
    }

    /// Runs everybody again who is gone and should be there.
    ///
    /// # Errors
    /// When somebody does not come.
    pub fn revive(&mut self) -> Result<()> {
        let members = &self.stage.cast.members;
        let is_missing = |index: &usize| {
            let role = members[*index].role;
            self.stage.known[*index].stand == Stand::Absent && role != Role::Extra
        };
        let missing: Vec<usize> = (0..members.len()).filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut dues = Dues::nothing(members.len());
        for &index in &missing {
            self.stage.forget(index);
            dues.dues[index] = Due::New;
        }
        for index in missing {
            self.stage.arun(index)?;
            self.tally.operations += 1;
        }
        self.settle(&dues)
    }

    /// Waits until a condition holds that the site is asked about.
    ///
    /// # Errors
    /// When it never does.
    pub fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let mut patience = Patience::new();
        while !holds(self)? {
            ensure!(!patience.is_over()?, "waited in vain for {what}");
        }
        Ok(())
    }
}
