//! The end of a controller that its actors outlive, and how the next one adopts them (SPEC H31).
//!
//! What stays is the ledger, with the memos of every whole step, and the truth: which lives run,
//! which have ended meanwhile. What is lost is every request, every report that was under way, and
//! the effects of the last step from some point on.

use std::collections::BTreeMap;

use hr_ctrl_core::{
    ActorKey, ActorMemo, ActorState, Changed, Controller, Event, GroupMemo, SiteMemo,
};
use refrain_abi::{ActorName, Gid};

use super::{Happening, LIMITS, World};

/// Memos as words, written from what the controller says has changed and from nothing else.
#[derive(Default)]
pub(super) struct Ledger {
    actors: BTreeMap<ActorKey, [u64; ActorMemo::WORDS]>,
    groups: BTreeMap<Gid, [u64; GroupMemo::WORDS]>,
    site: Option<[u64; SiteMemo::WORDS]>,
    /// Written once, when the actor is registered.
    names: BTreeMap<ActorKey, ActorName>,
    changed: Vec<Changed>,
    writes: u64,
}

impl Ledger {
    pub(super) fn write(&mut self, controller: &mut Controller) {
        controller.take_changed(&mut self.changed);
        for changed in self.changed.drain(..) {
            match changed {
                Changed::Actor(key) => {
                    set(
                        &mut self.actors,
                        key,
                        controller.actor_memo(key).map(|memo| memo.to_words()),
                    );
                    set(
                        &mut self.names,
                        key,
                        controller.view(key).map(|view| *view.name),
                    );
                }
                Changed::Group(gid) => {
                    set(
                        &mut self.groups,
                        gid,
                        controller.group_memo(gid).map(|memo| memo.to_words()),
                    );
                }
                Changed::Site => self.site = Some(controller.site_memo().to_words()),
            }
        }
        self.writes += 1;
        // A memo that was not written stays wrong: it is enough to look now and then.
        if self.writes.is_multiple_of(8) {
            self.check(controller);
        }
    }

    /// Nothing has changed without being said to have.
    fn check(&self, controller: &Controller) {
        for view in controller.actors() {
            let memo = controller.actor_memo(view.key).map(|memo| memo.to_words());
            assert_eq!(self.actors.get(&view.key), memo.as_ref(), "{view:?}");
        }
        for view in controller.groups() {
            let memo = controller.group_memo(view.gid).map(|memo| memo.to_words());
            assert_eq!(self.groups.get(&view.gid), memo.as_ref(), "{view:?}");
        }
        assert_eq!(controller.actors().count(), self.actors.len());
        assert_eq!(controller.groups().count(), self.groups.len());
        assert!(
            self.site
                .is_none_or(|words| words == controller.site_memo().to_words())
        );
    }

    fn recall(&self) -> Controller {
        let site = self.site.as_ref().and_then(SiteMemo::from_words);
        let groups = self
            .groups
            .values()
            .map(|words| GroupMemo::from_words(words).expect("a memo"));
        let actors = self.actors.iter().map(|(key, words)| {
            (
                self.names[key],
                ActorMemo::from_words(words).expect("a memo"),
            )
        });
        let Some(site) = site else {
            return Controller::new(LIMITS, refrain_abi::Aid(1));
        };
        Controller::recall(LIMITS, site, groups, actors)
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl World {
    /// The controller ends where it is, and the next one adopts what there is. It may end itself
    /// at any report that it is given.
    pub(super) fn die(&mut self) {
        self.tally.count("controller that was adopted from");
        self.deaths += 1;
        let reports = |happening: &mut Happening| matches!(happening, Happening::Tell(_));
        let lost: Vec<u64> = self
            .happenings
            .extract_if(.., |_, h| reports(h))
            .map(|(serial, _)| serial)
            .collect();
        self.queue
            .retain(|std::cmp::Reverse((_, serial))| !lost.contains(serial));
        self.judge.requests_are_lost();
        self.ledger.check(&self.controller);
        self.controller = self.ledger.recall();
        self.adopt();
    }

    fn adopt(&mut self) {
        let death = self.deaths;
        for (key, life) in &self.lives {
            let view = self
                .controller
                .view(*key)
                .expect("whoever lives is remembered");
            assert_eq!(view.life, Some(*life), "{view:?}");
            assert!(
                matches!(view.state, ActorState::Running | ActorState::Stopping),
                "{view:?}"
            );
        }
        let alive: Vec<_> = self
            .controller
            .actors()
            .filter(|view| view.state.is_alive())
            .filter_map(|view| Some((view.key, view.life?, view.state)))
            .collect();
        let mut reports = Vec::new();
        // First whoever had begun for the controller only, then what came to its end.
        for &(key, life, state) in &alive {
            let ended = self
                .remains
                .get(&key)
                .is_some_and(|remains| remains.life == life);
            if !self.lives.contains_key(&key) && !ended {
                if state == ActorState::Running {
                    self.tally.count("life that began late");
                    self.begin(key, life);
                } else {
                    reports.push(Event::BeginFailed { actor: key, life });
                }
            }
        }
        for (actor, life, _) in alive {
            let Some(remains) = self.remains.get(&actor).copied().filter(|r| r.life == life) else {
                continue;
            };
            let (clean, at_ms) = (remains.clean, remains.ended_at);
            let exit_code = remains.exit_code;
            reports.push(Event::Ended {
                actor,
                life,
                clean,
                exit_code,
                at_ms,
            });
            let gone = Event::Gone { actor, life };
            if remains.gone_at <= self.now {
                reports.push(gone);
            } else {
                self.after(remains.gone_at - self.now, Happening::Tell(gone));
            }
        }
        for view in self
            .controller
            .actors()
            .filter(|view| view.state == ActorState::Loading)
        {
            let actor = view.key;
            let fails = self.dice.one_in(3);
            reports.push(if fails {
                Event::LoadFailed { actor }
            } else {
                Event::Loaded { actor }
            });
        }
        // In any order, but for the two reports of one life.
        let by_chance = self.dice.below(reports.len() as u64) as usize;
        if !matches!(reports.get(by_chance), Some(Event::Gone { .. })) {
            reports.rotate_left(by_chance);
        }
        reports.push(Event::Adopted);
        for report in reports {
            self.tell(report);
            if self.deaths != death {
                return; // the next one has reported what this one was to be told
            }
        }
    }
}
