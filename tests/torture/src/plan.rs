//! What is done next: a step, chosen by the dice. A function of the seed and of which actors stand, and
//! that is the same in every run in which nothing is lost; so a seed replays.
//!
//! Called by the run, once a step. It must never ask a clock or the site.

use crate::cast::{Body, Cast, Role};
use crate::dice::Dice;
use crate::fault::{FAULTS, How};
use crate::model::Stand;

/// A family of steps, as `--faults` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Family {
    /// One fault each in many groups at once.
    Lives,
    /// An actor that ends again and again as soon as it begins.
    Storms,
    /// Many faults in one group, at any moment of its restart.
    PileUps,
    /// Lives, templates and standbys stopped, failed, and continued.
    Pauses,
    /// Templates, standbys and keepers killed.
    Templates,
    /// hr_ctrl killed, also while it recovers.
    Controller,
    /// Site restarts.
    Site,
    /// Commands, right and wrong ones, beside faults.
    Commands,
    /// The bank filled to its end.
    Bank,
    /// Clean ends, groups killed, actors run and killed.
    Ends,
}

/// How often a family is chosen, beside the others.
const WEIGHTS: &[(Family, usize)] = &[
    (Family::Lives, 600),
    (Family::Storms, 80),
    (Family::PileUps, 90),
    (Family::Pauses, 40),
    (Family::Templates, 50),
    (Family::Controller, 25),
    (Family::Site, 6),
    (Family::Commands, 30),
    (Family::Bank, 8),
    (Family::Ends, 50),
];

/// A fault for an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index into the cast.
    pub member: usize,
    /// Index into [`FAULTS`].
    pub fault: usize,
}

/// A process of an actor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its life.
    Life,
    /// Its template.
    Template,
    /// Its standby.
    Standby,
    /// A keeper of it.
    Keeper,
}

/// How hr_ctrl ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coup {
    /// `kill -9`.
    Kill,
    /// SIGSEGV.
    Segv,
    /// SIGABRT.
    Abort,
    /// SIGSTOP, until nucleus misses its pulse.
    Stop,
}

/// How a group is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killer {
    /// `akill -g GID`.
    ByGroup,
    /// `akill AID` of one of its members.
    ByAid,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Faults, at most one in a group.
    Lives(Vec<Hit>),
    /// An actor alone in its group ends in all of these ways, each as soon as it has begun.
    Storm(Vec<Hit>),
    /// Faults in one group, each after so many microseconds.
    PileUp(Vec<(Hit, u64)>),
    /// These are stopped, and their actors killed where it says so; then faults elsewhere; then they go on.
    Pause(Vec<(usize, Part, bool)>, Vec<Hit>),
    /// These are killed, together with the life where it says so.
    Templates(Vec<(usize, Part, bool)>),
    /// Faults; hr_ctrl ends; more faults; and it is killed again, so many microseconds after each start.
    Controller {
        /// How it ends first.
        coup: Coup,
        /// Faults just before.
        before: Vec<Hit>,
        /// Faults while it is away.
        after: Vec<Hit>,
        /// When the next ones are killed.
        again: Vec<u64>,
    },
    /// `restart`.
    Site,
    /// Commands, by their index into [`crate::commands::ORDERS`], and faults beside them.
    Commands(Vec<usize>, Vec<Hit>),
    /// The bank is filled; the one who does it dies before it has given it back, where it says so.
    Bank(bool, Vec<Hit>),
    /// An actor ends cleanly.
    Clean(usize),
    /// The group of an actor is killed.
    Kill(usize, Killer),
    /// An actor that is not always there is run, or killed.
    Extra(usize),
}

/// The choice of steps.
pub struct Plan {
    dice: Dice,
    weights: Vec<(Family, usize)>,
}

impl Plan {
    /// The plan of `seed`, of these families only.
    #[must_use]
    pub fn new(seed: u64, families: &[Family]) -> Self {
        let chosen = WEIGHTS
            .iter()
            .filter(|(family, _)| families.contains(family));
        Self {
            dice: Dice::new(seed),
            weights: chosen.copied().collect(),
        }
    }

    /// The next step, where the actors stand as `stands` says.
    pub fn next(&mut self, cast: &Cast, stands: &[Stand]) -> Step {
        let scene = Scene { cast, stands };
        let dice = &mut self.dice;
        match dice.weighted(&self.weights) {
            Family::Lives => Step::Lives(scene.hits(dice, 70, &[])),
            Family::Storms => scene.storm(dice),
            Family::PileUps => scene.pile_up(dice),
            Family::Pauses => scene.pause(dice),
            Family::Templates => scene.templates(dice),
            Family::Controller => scene.controller(dice),
            Family::Site => Step::Site,
            Family::Commands => {
                let count = 1 + dice.below(8);
                let orders = (0..count).map(|_| dice.below(crate::commands::ORDERS.len()));
                Step::Commands(orders.collect(), scene.hits(dice, 30, &[]))
            }
            Family::Bank => {
                let filler = cast.filler();
                Step::Bank(dice.chance(40), scene.hits(dice, 40, &[filler]))
            }
            Family::Ends => scene.end(dice),
        }
    }
}

/// Who can be chosen.
struct Scene<'a> {
    cast: &'a Cast,
    stands: &'a [Stand],
}

impl Scene<'_> {
    fn runs(&self, member: usize) -> bool {
        self.stands[member] == Stand::Runs
    }

    fn fault(&self, dice: &mut Dice, member: usize) -> Hit {
        let actor = &self.cast.members[member];
        let fits = |fault: usize| FAULTS[fault].fits(actor);
        let weights: Vec<_> = (0..FAULTS.len())
            .filter(|&fault| fits(fault))
            .map(|fault| (fault, FAULTS[fault].weight))
            .collect();
        Hit {
            member,
            fault: dice.weighted(&weights),
        }
    }

    /// At most one fault a group, with a chance of `percent` each; none in the groups of `spared`.
    fn hits(&self, dice: &mut Dice, percent: usize, spared: &[usize]) -> Vec<Hit> {
        let spared: Vec<usize> = spared
            .iter()
            .flat_map(|&one| self.cast.fellows(one))
            .collect();
        let mut hits = Vec::new();
        for (member, actor) in self.cast.members.iter().enumerate() {
            if (actor.gid.is_some() && actor.place > 0) || spared.contains(&member) {
                continue;
            }
            let mut running = self.cast.fellows(member);
            running.retain(|&fellow| self.runs(fellow));
            // Python is slow to begin, and an ordinary actor has to be run again.
            let is_slow = actor.gid.is_none() || actor.body == Body::Python;
            let percent = if is_slow { percent / 5 } else { percent };
            if !running.is_empty() && dice.chance(percent) {
                let victim = *dice.one_of(&running);
                hits.push(self.fault(dice, victim));
            }
        }
        hits
    }

    /// A running actor alone in its group.
    fn single(&self, dice: &mut Dice) -> usize {
        let all = 0..self.cast.members.len();
        let singles: Vec<usize> = all
            .filter(|&member| self.cast.is_single(member) && self.runs(member))
            .collect();
        *dice.one_of(&singles)
    }

    fn storm(&self, dice: &mut Dice) -> Step {
        let member = self.single(dice);
        let count = 2 + dice.below(12);
        let mut hits = Vec::new();
        while hits.len() < count {
            let hit = self.fault(dice, member);
            // Only what it reads by itself is met by each life exactly once.
            if matches!(FAULTS[hit.fault].how, How::Letter(_)) {
                hits.push(hit);
            }
        }
        Step::Storm(hits)
    }

    fn pile_up(&self, dice: &mut Dice) -> Step {
        let all = 0..self.cast.members.len();
        let grouped: Vec<usize> = all
            .filter(|&member| self.cast.members[member].gid.is_some() && self.runs(member))
            .collect();
        let mut fellows = self.cast.fellows(*dice.one_of(&grouped));
        fellows.retain(|&fellow| self.runs(fellow));
        let count = 2 + dice.below(5 + 2 * fellows.len());
        let hit = |_| {
            let victim = *dice.one_of(&fellows);
            let hit = self.fault(dice, victim);
            let delay = if dice.chance(50) {
                0
            } else {
                dice.below(3000) as u64
            };
            (hit, delay)
        };
        Step::PileUp((0..count).map(hit).collect())
    }

    fn pause(&self, dice: &mut Dice) -> Step {
        let mut held: Vec<(usize, Part, bool)> = Vec::new();
        for _ in 0..1 + dice.below(4) {
            let member = self.single(dice);
            let part = *dice.one_of(&[Part::Life, Part::Life, Part::Template, Part::Standby]);
            let killed = dice.chance(50);
            if held.iter().all(|(other, ..)| *other != member) {
                held.push((member, part, killed));
            }
        }
        let spared: Vec<usize> = held.iter().map(|(member, ..)| *member).collect();
        let hits = self.hits(dice, 30, &spared);
        Step::Pause(held, hits)
    }

    fn templates(&self, dice: &mut Dice) -> Step {
        let mut killed: Vec<(usize, Part, bool)> = Vec::new();
        for _ in 0..1 + dice.below(6) {
            let member = self.single(dice);
            let part = *dice.one_of(&[Part::Template, Part::Standby, Part::Keeper]);
            let with_life = dice.chance(30);
            if killed.iter().all(|(other, ..)| *other != member) {
                killed.push((member, part, with_life));
            }
        }
        Step::Templates(killed)
    }

    fn controller(&self, dice: &mut Dice) -> Step {
        let coups = [
            (Coup::Kill, 70),
            (Coup::Segv, 12),
            (Coup::Abort, 12),
            (Coup::Stop, 6),
        ];
        let coup = dice.weighted(&coups);
        let before = self.hits(dice, 40, &[]);
        let hit: Vec<usize> = before.iter().map(|hit| hit.member).collect();
        let after = self.hits(dice, 30, &hit);
        let again = if dice.chance(25) {
            1 + dice.below(2)
        } else {
            0
        };
        Step::Controller {
            coup,
            before,
            after,
            again: (0..again).map(|_| dice.below(40_000) as u64).collect(),
        }
    }

    fn end(&self, dice: &mut Dice) -> Step {
        let all = || 0..self.cast.members.len();
        let role = |member: usize| self.cast.members[member].role;
        let extras: Vec<usize> = all()
            .filter(|&member| role(member) == Role::Extra)
            .collect();
        let can_be_clean = |member: &usize| {
            self.runs(*member)
                && self.cast.members[*member].has('l')
                && role(*member) == Role::Direct
        };
        let clean: Vec<usize> = all().filter(can_be_clean).collect();
        let grouped: Vec<usize> = all()
            .filter(|&member| self.cast.members[member].gid.is_some() && self.runs(member))
            .collect();
        match dice.below(10) {
            0..3 if !clean.is_empty() => Step::Clean(*dice.one_of(&clean)),
            3..5 => {
                let killer = *dice.one_of(&[Killer::ByGroup, Killer::ByAid]);
                Step::Kill(*dice.one_of(&grouped), killer)
            }
            _ => Step::Extra(*dice.one_of(&extras)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    fn steps(seed: u64, count: usize) -> Vec<Step> {
        let cast = Cast::default();
        let stands = vec![Stand::Runs; cast.members.len()];
        let mut plan = Plan::new(seed, Family::value_variants());
        (0..count).map(|_| plan.next(&cast, &stands)).collect()
    }

    #[test]
    fn a_seed_gives_the_same_steps_again_and_another_seed_others() {
        assert_eq!(steps(7, 300), steps(7, 300));
        assert_ne!(steps(7, 300), steps(8, 300));
    }

    #[test]
    fn every_family_and_every_fault_is_chosen_sooner_or_later() {
        let steps = steps(1, 3000);
        let hits = steps.iter().filter_map(|step| match step {
            Step::Lives(hits) => Some(hits),
            _ => None,
        });
        let mut faults: Vec<usize> = hits.flatten().map(|hit| hit.fault).collect();
        faults.sort_unstable();
        faults.dedup();
        assert_eq!(faults.len(), FAULTS.len());
        let kinds: std::collections::HashSet<_> =
            steps.iter().map(std::mem::discriminant).collect();
        assert_eq!(kinds.len(), 12);
    }

    #[test]
    fn no_group_is_hit_twice_where_the_count_must_be_exact() {
        let cast = Cast::default();
        for step in steps(3, 2000) {
            let hits = match step {
                Step::Lives(hits) | Step::Commands(_, hits) | Step::Bank(_, hits) => hits,
                Step::Controller { before, after, .. } => [before, after].concat(),
                _ => continue,
            };
            let mut hit: Vec<usize> = hits
                .iter()
                .flat_map(|hit| cast.fellows(hit.member))
                .collect();
            let all = hit.len();
            hit.sort_unstable();
            hit.dedup();
            assert_eq!(hit.len(), all, "{hits:?}");
        }
    }

    #[test]
    fn only_the_families_that_were_asked_for_are_chosen() {
        let cast = Cast::default();
        let stands = vec![Stand::Runs; cast.members.len()];
        let mut plan = Plan::new(1, &[Family::Site]);
        assert!((0..100).all(|_| plan.next(&cast, &stands) == Step::Site));
    }
}
