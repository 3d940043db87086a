//! The controller against a naive one, event for event, and before a judge of what always holds,
//! on random sequences of events, sensible and senseless ones.

use hr_ctrl_core::{
    ActorKey, ActorMemo, ActorState, Controller, Effect, Event, GroupMemo, HaltLevel, Kind, Limits,
    Requester, SiteMemo, Target, Ticket,
};
use proptest::prelude::*;
use refrain_abi::{ActorName, Aid, Gid, LifeNo};

mod judge;
mod naive;
mod ops;

use ops::{Op, Restored, op, restored};

const LIMITS: Limits = Limits {
    max_actors: 6,
    max_groups: 2,
    max_badness: 2,
    interval_ms: 100,
};

fn name(n: usize) -> ActorName {
    ActorName::new(&format!("n{n}")).expect("a good name")
}

/// The site under test, its naive twin, and the judge.
struct Trial {
    controller: Controller,
    naive: naive::Naive,
    judge: judge::Judge,
    tickets: u64,
    now: u64,
}

impl Trial {
    fn new() -> Self {
        let controller = Controller::new(LIMITS, Aid(1));
        let (naive, judge) = (naive::Naive::new(LIMITS), judge::Judge::new(Aid(1)));
        Self {
            controller,
            naive,
            judge,
            tickets: 0,
            now: 0,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// The nth actor in one of these states, counted round.
    fn pick(&self, n: usize, states: &[ActorState]) -> Option<(ActorKey, LifeNo)> {
        let fit: Vec<_> = self
            .controller
            .actors()
            .filter(|a| states.contains(&a.state))
            .collect();
        let actor = fit.get(n % fit.len().max(1))?;
        Some((actor.key, actor.life.unwrap_or_default()))
    }

    fn requester(&self, by: Option<usize>) -> Requester {
        use ActorState::{Ending, Running, Stopping};
        let life = by.and_then(|n| self.pick(n, &[Running, Running, Stopping, Ending]));
        life.map_or(Requester::Owner, |(actor, life)| Requester::Life {
            actor,
            life,
        })
    }

    fn fit(&mut self, op: &Op) -> Option<Event> {
        use ActorState::{Ending, Loading, Running, Stopping};
        let at_ms = self.now;
        Some(match *op {
            Op::DelayOver { which, stale } => {
                let delayed = self.controller.groups();
                let delayed = delayed.filter_map(|g| Some((g.gid, g.delayed_until_ms?)));
                let delayed: Vec<_> = delayed.collect();
                let (gid, until_ms) = *delayed.get(which % delayed.len().max(1))?;
                let until_ms = until_ms + u64::from(stale);
                Event::DelayOver { gid, until_ms }
            }
            Op::Run {
                name: n,
                gid,
                by,
                policy,
            } => {
                let (ticket, by) = (self.ticket(), self.requester(by));
                Event::Run {
                    ticket,
                    name: name(n),
                    gid: gid.map(Gid),
                    by,
                    policy,
                }
            }
            Op::LoadEnds { which, well } => {
                let (actor, _) = self.pick(which, &[Loading])?;
                if well {
                    Event::Loaded { actor }
                } else {
                    Event::LoadFailed { actor }
                }
            }
            Op::Ends { which, clean, code } => {
                let (actor, life) = self.pick(which, &[Running, Stopping])?;
                Event::Ended {
                    actor,
                    life,
                    clean,
                    exit_code: code,
                    at_ms,
                }
            }
            Op::Goes { which } => {
                let (actor, life) = self.pick(which, &[Ending])?;
                Event::Gone { actor, life }
            }
            Op::BeginFails { which } => {
                let (actor, life) = self.pick(which, &[Running, Stopping])?;
                Event::BeginFailed { actor, life }
            }
            Op::Kill {
                which,
                by_gid,
                tidy,
                by,
            } => {
                let (ticket, by) = (self.ticket(), self.requester(by));
                let gid = Gid(which as u32 % 4);
                let aid = self.controller.next_aid().0.saturating_sub(which as u32);
                let target = if by_gid {
                    Target::Group(gid)
                } else {
                    Target::Aid(Aid(aid))
                };
                Event::Kill {
                    ticket,
                    target,
                    tidy,
                    by,
                }
            }
            Op::SiteRestart { asked } => Event::SiteRestart {
                ticket: asked.then(|| self.ticket()),
            },
            Op::BootActorsReset => Event::BootActorsReset,
            Op::Halt { level } => {
                let levels = [HaltLevel::Halt, HaltLevel::Cold, HaltLevel::Immediate];
                Event::Halt {
                    level: *levels.get(level)?,
                }
            }
            Op::Noise { kind, key, life } => self.noise(kind, ActorKey(key), LifeNo(life)),
            Op::Wait { ms } => {
                self.now += ms;
                return None;
            }
        })
    }

    /// An event that mostly makes no sense.
    fn noise(&self, kind: usize, actor: ActorKey, life: LifeNo) -> Event {
        let at_ms = self.now;
        match kind {
            0 => Event::Loaded { actor },
            1 => Event::LoadFailed { actor },
            2 => Event::BeginFailed { actor, life },
            3 => Event::Ended {
                actor,
                life,
                clean: false,
                exit_code: None,
                at_ms,
            },
            _ => Event::Gone { actor, life },
        }
    }

    fn step(&mut self, event: Event) {
        let effects = self.controller.step(event.clone());
        self.judge.observe(&event, &effects, &self.controller);
        let expected = self.naive.step(event.clone());
        assert_eq!(
            in_any_order(&effects),
            in_any_order(&expected),
            "after {event:?}"
        );
    }

    fn restore(&mut self, all: &[Restored]) {
        for (n, one) in all.iter().enumerate() {
            let kind = if one.is_direct {
                Kind::Direct
            } else {
                Kind::Indirect
            };
            let (name, gid, clean) = (name(n), Gid(one.gid), one.clean);
            let last_life = one.last_life.map(LifeNo);
            let event = Event::Restore {
                name,
                gid,
                kind,
                last_life,
                restarts: 0,
                clean,
                policy: one.policy,
            };
            self.controller.step_into(event.clone(), &mut Vec::new());
            self.judge.restored(&event, &self.controller);
            self.naive.step(event);
        }
        if !all.is_empty() {
            self.step(Event::SiteRestart { ticket: None });
        }
    }

    /// Lets everything that is under way come to its end; lives that run, run on.
    fn come_to_rest(&mut self) {
        use ActorState::{Ending, Loading, Stopping};
        for _ in 0..1000 {
            let event = if let Some((actor, life)) = self.pick(0, &[Ending]) {
                Event::Gone { actor, life }
            } else if let Some((actor, life)) = self.pick(0, &[Stopping]) {
                Event::Ended {
                    actor,
                    life,
                    clean: false,
                    exit_code: None,
                    at_ms: self.now,
                }
            } else if let Some((actor, _)) = self.pick(0, &[Loading]) {
                Event::Loaded { actor }
            } else if let Some((gid, until_ms)) = self
                .controller
                .groups()
                .find_map(|g| Some((g.gid, g.delayed_until_ms?)))
                .filter(|_| !self.controller.is_restarting())
            {
                Event::DelayOver { gid, until_ms }
            } else if self.controller.is_restarting() {
                Event::BootActorsReset
            } else {
                return;
            };
            self.step(event);
        }
        panic!("the site does not come to rest");
    }
}

/// The controller that goes on from the memos of this one.
fn recalled(controller: &Controller) -> Controller {
    let groups = controller.groups().map(|view| {
        let memo = controller.group_memo(view.gid).expect("it has one");
        GroupMemo::from_words(&memo.to_words()).expect("a memo")
    });
    let actors = controller.actors().map(|view| {
        let memo = controller.actor_memo(view.key).expect("it has one");
        let memo = ActorMemo::from_words(&memo.to_words()).expect("a memo");
        (*view.name, memo)
    });
    let site = SiteMemo::from_words(&controller.site_memo().to_words()).expect("a memo");
    Controller::recall(LIMITS, site, groups, actors)
}

/// What a recalled controller would not decide alike: an indirect load is orphaned, and a reset
/// during which ordinary actors were started begins anew.
fn loses_something(controller: &Controller) -> bool {
    controller.actors().any(|view| {
        let is_loading = view.state == ActorState::Loading;
        let in_reset = controller.is_restarting() && view.kind == Kind::Ordinary;
        is_loading && view.kind != Kind::Direct || in_reset
    })
}

/// The effects without the answers to requests up to this one.
fn without_answers(effects: Vec<Effect>, up_to: u64) -> Vec<String> {
    let is_late = |ticket: &Ticket| ticket.0 > up_to;
    let kept = effects.into_iter().filter_map(|effect| match effect {
        Effect::Started { ticket, .. }
        | Effect::Done { ticket }
        | Effect::Refused { ticket, .. }
            if !is_late(&ticket) =>
        {
            None
        }
        Effect::Begin {
            actor,
            life,
            aid,
            ticket,
        } => {
            let ticket = ticket.filter(is_late);
            Some(Effect::Begin {
                actor,
                life,
                aid,
                ticket,
            })
        }
        effect => Some(effect),
    });
    in_any_order(&kept.collect::<Vec<_>>())
}

fn views(controller: &Controller) -> String {
    let actors: Vec<_> = controller.actors().collect();
    let groups: Vec<_> = controller.groups().collect();
    format!(
        "{actors:#?} {groups:#?} {} {:?}",
        controller.next_aid(),
        controller.site_memo()
    )
}

fn in_any_order(effects: &[Effect]) -> Vec<String> {
    let mut all: Vec<_> = effects.iter().map(|effect| format!("{effect:?}")).collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(600),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_controller_does_what_a_naive_one_does(
        before in restored(),
        ops in proptest::collection::vec(op(), 1..150),
    ) {
        let mut trial = Trial::new();
        trial.restore(&before);
        for op in &ops {
            if let Some(event) = trial.fit(op) {
                trial.step(event);
            }
        }
        trial.come_to_rest();
        trial.judge.at_rest(&trial.controller);
    }

    #[test]
    fn h31_a_recalled_controller_decides_as_the_one_before(
        before in restored(),
        ops in proptest::collection::vec(op(), 1..150),
        after in 0_usize..150,
    ) {
        let mut trial = Trial::new();
        trial.restore(&before);
        let mut twin = None;
        for (n, op) in ops.iter().enumerate() {
            if twin.is_none() && n >= after && !loses_something(&trial.controller) {
                let mut next = recalled(&trial.controller);
                let again = next.step(Event::Adopted);
                trial.judge.requests_are_lost();
                trial.judge.observe(&Event::Adopted, &again, &next);
                let asks = |e: &Effect| matches!(e, Effect::Begin { .. } | Effect::Forget { .. });
                prop_assert!(!again.iter().any(asks), "{again:?}");
                prop_assert_eq!(next.step(Event::Adopted), []);
                prop_assert_eq!(views(&next), views(&trial.controller));
                twin = Some((next, trial.tickets));
            }
            let Some(event) = trial.fit(op) else { continue };
            let effects = trial.controller.step(event.clone());
            if let Some((next, up_to)) = &mut twin {
                let others = next.step(event.clone());
                trial.judge.observe(&event, &others, next);
                let others = without_answers(others, *up_to);
                prop_assert_eq!(without_answers(effects, *up_to), others);
                prop_assert_eq!(views(next), views(&trial.controller));
            } else {
                trial.judge.observe(&event, &effects, &trial.controller);
            }
        }
    }
}
