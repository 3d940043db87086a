//! Groups of supervisor actors that restart in place: what they are allowed beforehand, and how it is booked.
//!
//! The protocol, and why it begins no life twice, is told in `supervise/together.rs`. Here is HR_CTRL's side of
//! it. A restart that has happened is fed to the core as the ends and beginnings that it was; `Stop` and
//! `Begin` of lives in `booked` are then carried out already.

use std::collections::hash_map::Entry;

use hr_ctrl_core::Event;
use refrain_abi::Gid;
use refrain_sys::clock;

use super::Engine;
use crate::supervise::{AHEAD, Command, Done, Together};

/// How the end of a life was noticed, in `aps`: by its arbiter, which has restarted its group.
const IN_PLACE: &str = "in place";

impl Engine {
    /// Allows a group to restart in place, if all of it is on one arbiter and the core would restart it at once.
    pub(super) fn arm_together(&self, gid: Gid) {
        let Some(group) = self.together.get(&gid) else {
            return;
        };
        let left = self.core.restarts_ahead(gid, clock::now_monotonic_ms());
        let (mut members, mut thread) = (0, None);
        for member in self.core.members(gid) {
            let own = self.supervised.get(&member.key).and_then(|s| s.thread());
            if own.is_none() || own != *thread.get_or_insert(own) {
                return group.allow(0, 0);
            }
            members += 1;
        }
        group.allow(left.min(AHEAD), members);
    }

    /// Takes the leave back, and books what was done with it. Returns with nobody but the controller deciding.
    pub(super) fn take_back_together(&mut self, gid: Gid) {
        let done = self.together.get(&gid).map(|group| group.take_back());
        self.book_all(gid, done.unwrap_or_default());
    }

    pub(super) fn take_back_all_together(&mut self) {
        let gids: Vec<Gid> = self.together.keys().copied().collect();
        for gid in gids {
            self.take_back_together(gid);
        }
    }

    /// A group says that it has restarted.
    pub(crate) fn book_together(&mut self, gid: Gid) {
        let done = self.together.get(&gid).map(|group| group.take_done());
        self.book_all(gid, done.unwrap_or_default());
        // What was allowed was counted from the badness of before. A leave of which a part is used up by now
        // stays as it is.
        self.arm_together(gid);
    }

    /// Books what has happened: whoever has had an answer of a new life finds it in `aps`.
    pub(crate) fn book_everything(&mut self) {
        let to_be_booked = |(gid, group): (&Gid, &std::sync::Arc<Together>)| {
            group.is_to_be_booked().then_some(*gid)
        };
        let gids: Vec<Gid> = self.together.iter().filter_map(to_be_booked).collect();
        for gid in gids {
            self.book_together(gid);
        }
    }

    fn book_all(&mut self, gid: Gid, all: Vec<Done>) {
        for done in all {
            self.book_in_place(gid, done);
        }
    }

    /// Tells the core that every member has ended, the failed one first, and is gone; its answer is to begin the
    /// lives that run.
    fn book_in_place(&mut self, gid: Gid, done: Done) {
        let (took, how) = (done.took(), done.how());
        let Done {
            failed,
            at_ms,
            begun,
            ..
        } = done;
        let mut lives = Vec::with_capacity(begun.len());
        for (actor, next) in begun {
            let Some(old) = self.core.view(actor).and_then(|view| view.life) else {
                continue;
            };
            let ended = if actor == failed {
                how.clone()
            } else {
                "killed".to_owned()
            };
            self.end_supervised(actor, false, (ended, IN_PLACE));
            self.booked.insert(actor, next);
            lives.push((actor, old));
        }
        lives.sort_by_key(|(actor, _)| *actor != failed);
        self.happened.booking = true;
        for &(actor, life) in &lives {
            let (clean, exit_code) = (false, None);
            self.step(Event::Ended {
                actor,
                life,
                clean,
                exit_code,
                at_ms,
            });
        }
        for &(actor, life) in &lives {
            self.step(Event::Gone { actor, life });
        }
        self.happened.booking = false;
        if let Some(took) = took {
            self.restart_took(gid, took);
        }
        // The core has decided otherwise: what it did not begin ends. That it would not was the condition of
        // the leave, so this is for a core that was changed without it.
        for (actor, _) in lives {
            let Entry::Occupied(left) = self.booked.entry(actor) else {
                continue;
            };
            let life = left.remove().no();
            if let Some(supervised) = self.supervised.get(&actor) {
                tracing::error!(?actor, "a life that began in place was not to begin");
                let tidy = false;
                supervised.tell(Command::Stop { life, tidy });
            }
            // Nor are those after it.
            self.take_back_together(gid);
        }
    }
}
