//! Carries steps out: injects what they say, states what is due, and has it settled.
//!
//! Called by the run, once a step.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use refrain_sys::PidFd;
use rustix::process::Signal;

use crate::cast::Role;
use crate::commands::ORDERS;
use crate::fault::{FAULTS, How};
use crate::model::{Due, Stand};
use crate::plan::{Hit, Killer, Part, Step};
use crate::record::Word;
use crate::run::Torture;
use crate::settle::Dues;

/// After how many steps that only hit lives the site is asked: by then every actor's evidence was looked at
/// as often.
const ASKED: u32 = 4;

impl Torture {
    /// Carries a step out and waits until everything is as it must be.
    ///
    /// # Errors
    /// What is not.
    pub fn carry_out(&mut self, step: &Step) -> Result<()> {
        if let Step::Lives(hits) = step {
            return self.lives(hits);
        }
        // The other steps begin with what the site says.
        if self.stage.owed.iter().any(|owed| *owed > 0) {
            self.settle(&self.nothing())?;
        }
        match step {
            Step::Lives(hits) => self.lives(hits),
            Step::Storm(hits) => self.storm(hits),
            Step::PileUp(hits) => self.pile_up(hits),
            Step::Pause(held, hits) => self.pause(held, hits),
            Step::Templates(killed) => self.templates(killed),
            Step::Controller {
                coup,
                before,
                after,
                again,
            } => self.controller(*coup, [before, after], again),
            Step::Site => self.site(),
            Step::Commands(orders, hits) => self.commands(orders, hits),
            Step::Bank(dies, hits) => self.bank(*dies, hits),
            Step::Clean(member) => self.clean(*member),
            Step::Kill(member, killer) => self.kill(*member, *killer),
            Step::Extra(member) => self.extra(*member),
        }
    }

    /// Nothing is due.
    pub fn nothing(&self) -> Dues {
        Dues::nothing(self.stage.cast.members.len())
    }

    /// Injects a fault, and states what is due: one life more for everybody in the group.
    fn hit(&mut self, family: &'static str, hit: Hit, dues: &mut Dues) -> Result<()> {
        let fault = &FAULTS[hit.fault];
        self.inject(family, hit)?;
        let body = self.stage.cast.members[hit.member].body;
        dues.ends[hit.member] = Some(fault.end_of(body));
        self.restart(hit.member, dues);
        Ok(())
    }

    /// Injects faults, at most one in a group.
    pub fn hit_all(&mut self, family: &'static str, hits: &[Hit], dues: &mut Dues) -> Result<()> {
        hits.iter().try_for_each(|hit| self.hit(family, *hit, dues))
    }

    fn inject(&mut self, family: &'static str, hit: Hit) -> Result<()> {
        let fault = &FAULTS[hit.fault];
        self.tally.inject(family, fault.name);
        match fault.how {
            How::Letter(letter) => self.stage.tell(hit.member, letter, 0),
            How::Signal(signal) => self.stage.signal(hit.member, signal),
        }
    }

    /// The group of `member` restarts; an ordinary actor is gone.
    fn restart(&self, member: usize, dues: &mut Dues) {
        let due = match self.stage.cast.members[member].role {
            Role::Ordinary => Due::Gone,
            _ => Due::Times(1),
        };
        if due == Due::Gone {
            dues.ends[member] = None;
        }
        for fellow in self.stage.cast.fellows(member) {
            dues.dues[fellow] = due;
        }
    }

    fn lives(&mut self, hits: &[Hit]) -> Result<()> {
        let mut dues = self.nothing();
        self.hit_all("life", hits, &mut dues)?;
        self.unasked += 1;
        if self.unasked < ASKED && !dues.dues.contains(&Due::Gone) {
            return self.settle_by_evidence(&dues);
        }
        self.unasked = 0;
        self.settle(&dues)
    }

    fn storm(&mut self, hits: &[Hit]) -> Result<()> {
        let mut dues = self.nothing();
        for hit in hits {
            self.inject("crash storm", *hit)?;
            dues.dues[hit.member] = Due::Times(u32::try_from(hits.len())?);
        }
        self.settle(&dues)
    }

    fn pile_up(&mut self, hits: &[(Hit, u64)]) -> Result<()> {
        let mut dues = self.nothing();
        let most = u32::try_from(hits.len())?;
        for (hit, delay) in hits {
            thread::sleep(Duration::from_micros(*delay));
            self.tally.inject("pile-up", FAULTS[hit.fault].name);
            match FAULTS[hit.fault].how {
                How::Letter(letter) => self.stage.tell(hit.member, letter, 0)?,
                // The life that was known may be gone; then this hits nobody.
                How::Signal(signal) => drop(self.stage.signal(hit.member, signal)),
            }
            for fellow in self.stage.cast.fellows(hit.member) {
                dues.dues[fellow] = Due::Between(1, most);
            }
        }
        self.settle(&dues)
    }

    /// A pidfd of a part of an actor; `None` where it has none at this moment.
    fn part(&self, member: usize, part: Part) -> Option<PidFd> {
        let (actor, known) = (&self.stage.cast.members[member], &self.stage.known[member]);
        let pid = self.census.part(actor, known, part)?;
        PidFd::open(pid).ok()
    }

    fn pause(&mut self, held: &[(usize, Part, bool)], hits: &[Hit]) -> Result<()> {
        let mut dues = self.nothing();
        let mut stopped = Vec::new();
        let mut go_on = Vec::new();
        for (member, part, killed) in held {
            if let Some(pidfd) = self.part(*member, *part) {
                let name = match part {
                    Part::Life => "life",
                    Part::Template => "template",
                    Part::Standby | Part::Keeper => "standby",
                };
                self.tally.inject("SIGSTOP", name);
                pidfd.send_signal(Signal::STOP)?;
                stopped.push(pidfd);
            }
            if *killed {
                self.tally.inject("life", "kill -KILL, stopped");
                self.stage.signal(*member, Signal::KILL)?;
                self.restart(*member, &mut dues);
            } else {
                go_on.push(*member);
            }
        }
        self.hit_all("life", hits, &mut dues)?;
        // The others come back while these are stopped.
        let others = hits.iter().map(|hit| hit.member);
        let others: Vec<usize> = others
            .filter(|&other| dues.dues[other] != Due::Gone)
            .collect();
        let came = self.ping(&others);
        for pidfd in stopped {
            // It may be dead by now.
            let _ = pidfd.send_signal(Signal::CONT);
        }
        came?;
        self.settle(&dues)?;
        self.ping(&go_on)
    }

    fn templates(&mut self, killed: &[(usize, Part, bool)]) -> Result<()> {
        let mut dues = self.nothing();
        for (member, part, with_life) in killed {
            let Some(pidfd) = self.part(*member, *part) else {
                continue;
            };
            let name = match part {
                Part::Template | Part::Life => "template",
                Part::Standby => "standby",
                Part::Keeper => "keeper",
            };
            self.tally.inject("kill -9", name);
            // A standby may have begun, or a template may be on its way out.
            let _ = pidfd.send_signal(Signal::KILL);
            if *with_life {
                self.tally.inject("life", "kill -KILL");
                self.stage.signal(*member, Signal::KILL)?;
                self.restart(*member, &mut dues);
                if *part == Part::Standby {
                    // It may have been woken before anybody knew that it was dead: a life that was killed.
                    dues.dues[*member] = Due::Between(1, 2);
                }
            }
        }
        self.settle(&dues)?;
        for (member, ..) in killed {
            self.census.wait_parts(&self.stage.cast.members[*member])?;
        }
        Ok(())
    }

    fn site(&mut self) -> Result<()> {
        let mut dues = self.nothing();
        for (index, member) in self.stage.cast.members.iter().enumerate() {
            if self.stage.known[index].stand != Stand::Absent {
                dues.dues[index] = match member.role {
                    Role::Ordinary => Due::Gone,
                    _ => Due::Times(1),
                };
            }
        }
        self.tally.inject("site", "restart");
        self.order(&["restart"], 0)?;
        self.settle(&dues)
    }

    fn order(&mut self, words: &[&str], code: i32) -> Result<()> {
        let answer = self.stage.link.order(words);
        let answer = answer.with_context(|| format!("{words:?}"))?;
        ensure!(
            answer.code == code,
            "{words:?} must have exit code {code}: {answer:?}"
        );
        Ok(())
    }

    fn commands(&mut self, orders: &[usize], hits: &[Hit]) -> Result<()> {
        let mut dues = self.nothing();
        let runs = |known: &crate::model::Known| known.stand == Stand::Runs;
        let one = self
            .stage
            .known
            .iter()
            .position(runs)
            .context("nobody runs")?;
        let name = self.stage.cast.members[one].name.clone();
        let mut hits = hits.iter();
        for order in orders {
            if let Some(hit) = hits.next() {
                self.hit("life", *hit, &mut dues)?;
            }
            let (words, code) = ORDERS[*order];
            let words: Vec<String> = words
                .iter()
                .map(|word| word.replace("{name}", &name))
                .collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.order(&words, code)?;
            self.tally.operations += 1;
        }
        let rest: Vec<Hit> = hits.copied().collect();
        self.hit_all("life", &rest, &mut dues)?;
        self.settle(&dues)
    }

    fn bank(&mut self, dies: bool, hits: &[Hit]) -> Result<()> {
        let mut dues = self.nothing();
        let filler = self.stage.cast.filler();
        if self.stage.known[filler].stand != Stand::Runs {
            return Ok(());
        }
        self.fills += 1;
        let fills = self.fills;
        let (letter, name) = if dies {
            ('G', "filled, then abort")
        } else {
            ('F', "filled")
        };
        self.tally.inject("bank", name);
        self.stage.tell(filler, letter, fills)?;
        if dies {
            dues.ends[filler] = Some("SIGABRT");
            self.restart(filler, &mut dues);
        }
        self.hit_all("life", hits, &mut dues)?;
        self.until("the bank to be full", |torture| {
            let slot = torture.stage.record.slot(filler);
            Ok(slot.get(Word::Filled) == fills)
        })?;
        let room = self.stage.record.slot(filler).get(Word::Room);
        ensure!(room > 0, "the bank had no room");
        self.settle(&dues)?;
        self.until("the bank to be empty", |torture| {
            let blocks = torture.stage.link.blocks()?;
            Ok(blocks.iter().all(|name| !name.starts_with("fill.")))
        })
    }

    fn clean(&mut self, member: usize) -> Result<()> {
        let mut dues = self.nothing();
        let fellows = self.stage.cast.fellows(member);
        let runs = |fellow: &&usize| self.stage.known[**fellow].stand == Stand::Runs;
        if fellows.iter().filter(runs).count() > 1 {
            dues.dues[member] = Due::Clean;
        } else {
            fellows
                .iter()
                .for_each(|&fellow| dues.dues[fellow] = Due::Gone);
        }
        self.stage.tell(member, 'c', 0)?;
        self.tally.operations += 1;
        self.settle(&dues)
    }

    fn kill(&mut self, member: usize, killer: Killer) -> Result<()> {
        let mut dues = self.nothing();
        for fellow in self.stage.cast.fellows(member) {
            dues.dues[fellow] = Due::Gone;
        }
        let gid = self.stage.cast.members[member]
            .gid
            .context("it has a group")?
            .to_string();
        let aid = self.stage.known[member].aid.to_string();
        match killer {
            Killer::ByGroup => self.order(&["akill", "-g", &gid], 0)?,
            Killer::ByAid => self.order(&["akill", &aid], 0)?,
        }
        self.tally.operations += 1;
        self.settle(&dues)?;
        // Its blocks are gone with it (SPEC H18).
        let names: Vec<String> = self
            .stage
            .cast
            .fellows(member)
            .into_iter()
            .map(|fellow| format!("own.{}", self.stage.cast.members[fellow].name))
            .chain([format!("group.{gid}")])
            .collect();
        self.until(
            "the blocks of a group that was killed to be freed",
            |torture| {
                let blocks = torture.stage.link.blocks()?;
                Ok(blocks.iter().all(|block| !names.contains(block)))
            },
        )
    }

    fn extra(&mut self, member: usize) -> Result<()> {
        if self.stage.known[member].stand == Stand::Runs {
            return self.kill(member, Killer::ByGroup);
        }
        let mut dues = self.nothing();
        dues.dues[member] = Due::New;
        self.stage.forget(member);
        self.stage.arun(member)?;
        self.tally.operations += 1;
        self.settle(&dues)
    }
}
