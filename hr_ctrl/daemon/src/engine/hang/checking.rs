//! Checks from outside: asking a life again and again, and what its answers mean.
//!
//! How a question is asked is [`crate::checks`]; when a life is excused, and what becomes of one that hangs,
//! is the module above. Must never have two questions to one life under way.

use std::rc::Rc;
use std::time::Duration;

use refrain_abi::hang::{Check, Probe};
use refrain_sys::clock;
use tokio::sync::oneshot;

use super::{Watched, ms};
use crate::checks::command::{self, Job, Leash, Ran};
use crate::checks::{self, Answer};
use crate::engine::runtime::ActorRuntime;
use crate::engine::{Engine, SharedEngine};
use crate::rights;

/// How many lines of what a failed check printed go into the actor's log.
const LOGGED_LINES: usize = 20;

/// What a check does next.
enum Next {
    /// Nothing: the life is excused.
    Later,
    Ask(Probe, Duration),
    Run(Box<Job>, Duration),
}

impl Engine {
    /// What is needed to ask; `None` when nobody asks this life any more.
    fn next_check(&mut self, (actor, serial): Watched) -> Option<Next> {
        let excuse = self.excuse(actor);
        let runtime = self.actors.get_mut(&actor)?;
        runtime.watched_life(serial)?;
        let check = runtime.spec.hang.check.clone()?;
        let checking = runtime.hang.watch.as_mut()?.check.as_mut()?;
        if let Some(why) = excuse {
            checking.failed = 0;
            checking.trouble = Some(why.to_owned());
            return Some(Next::Later);
        }
        let limit = ms(check.timeout_ms);
        Some(match check.probe {
            Probe::Command(line) => {
                let site = self.parts.containment.path();
                self.checks += 1;
                // A controller after this one finds it by its not being an actor's.
                let name = format!("check-{}-{}", std::process::id(), self.checks);
                let cgroup = site.map(|site| (site.to_owned(), name));
                Next::Run(Box::new(runtime.job(line, cgroup)), limit)
            }
            probe => Next::Ask(probe, limit),
        })
    }

    /// Takes an answer; whether the life is to be asked again.
    fn answered(&mut self, (actor, serial): Watched, answer: Answer, printed: &[u8]) -> bool {
        let excuse = match answer {
            Answer::Failed(_) => self.excuse(actor),
            _ => None,
        };
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return false;
        };
        let name = runtime.name;
        let is_watched = runtime.watched_life(serial).is_some();
        let spec = runtime.spec.hang.check.as_ref();
        let (Some(watch), Some(spec)) = (&mut runtime.hang.watch, spec) else {
            return false;
        };
        let Some(checking) = watch.check.as_mut().filter(|_| is_watched) else {
            return false;
        };
        match (answer, excuse) {
            (Answer::Well, _) => {
                (checking.failed, checking.trouble, checking.told) = (0, None, false);
                watch.well_at = Some(clock::now_monotonic_ms());
            }
            (Answer::Failed(_), Some(excuse)) => {
                (checking.failed, checking.trouble) = (0, Some(excuse.to_owned()));
            }
            (Answer::Unable(why), _) => {
                if !std::mem::replace(&mut checking.told, true) {
                    self.parts.output.say(format!(
                        "HR_CTRL: {name}: its check cannot be carried out ({why}), and says nothing about it"
                    ));
                }
                checking.trouble = Some(why);
            }
            (Answer::Failed(why), None) => {
                checking.failed += 1;
                let (failed, limit) = (checking.failed, spec.failures.max(1));
                let output = &self.parts.output;
                output.note(
                    name,
                    format!("HR_CTRL: check failed ({failed} of {limit}): {why}"),
                );
                let printed = String::from_utf8_lossy(printed);
                for line in printed.lines().take(LOGGED_LINES) {
                    output.note(name, format!("HR_CTRL: check: {line}"));
                }
                checking.trouble = Some(why.clone());
                if failed >= limit {
                    let times = if limit == 1 {
                        String::new()
                    } else {
                        format!(" {limit} times")
                    };
                    self.hangs(actor, &format!("check failed{times}: {why}"));
                    return false;
                }
            }
        }
        true
    }
}

impl ActorRuntime {
    /// A command that checks the life that runs.
    fn job(&self, line: String, cgroup: Option<(std::path::PathBuf, String)>) -> Job {
        let spec = &self.spec;
        let mut env = spec.env.clone();
        if let Some(life) = &self.life {
            let ours = [
                ("REFRAIN_NAME", self.name.to_string()),
                ("REFRAIN_PID", life.pid.to_string()),
                ("REFRAIN_AID", life.aid.to_string()),
                ("REFRAIN_LIFE", life.no.0.to_string()),
            ];
            env.extend(ours.map(|(name, value)| (name.to_owned(), value)));
        }
        Job {
            line,
            env,
            cwd: spec.cwd.clone(),
            umask: spec.umask,
            rlimits: self.limited.rlimits(&spec.rlimits),
            nice: self.limited.nice(),
            credentials: spec.user.as_ref().map(rights::credentials),
            no_new_privs: spec.user.is_some() || spec.no_new_privs,
            cgroup,
        }
    }
}

pub(super) async fn check_again_and_again(
    engine: SharedEngine,
    of: Watched,
    check: Check,
    after: Duration,
) {
    let start = tokio::time::Instant::now() + after;
    let mut ticks = tokio::time::interval_at(start, ms(check.every_ms.max(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let next = engine.borrow_mut().next_check(of);
        let (answer, printed) = match next {
            None => return,
            Some(Next::Later) => continue,
            Some(Next::Ask(Probe::Http { target, path }, limit)) => {
                (checks::http(&target, &path, limit).await, Vec::new())
            }
            Some(Next::Ask(Probe::Tcp(target), limit)) => {
                (checks::tcp(&target, limit).await, Vec::new())
            }
            Some(Next::Ask(..)) => return,
            Some(Next::Run(job, limit)) => {
                let (_leash, ran) = start_command(&engine, *job, limit);
                match ran.await {
                    Ok(Ran { answer, output }) => (answer, output),
                    Err(_) => return,
                }
            }
        };
        if !engine.borrow_mut().answered(of, answer, &printed) {
            return;
        }
    }
}

/// Runs a command in a task of its own, which outlives whoever waits: it has to see to the command's end,
/// and the site waits for that before it halts.
fn start_command(
    engine: &SharedEngine,
    job: Job,
    limit: Duration,
) -> (Leash, oneshot::Receiver<Ran>) {
    let (leash, dropped) = command::leash();
    let (answer, ran) = oneshot::channel();
    engine.borrow_mut().clearing += 1;
    let engine = Rc::clone(engine);
    actix_rt::spawn(async move {
        let _ = answer.send(command::run(job, limit, dropped).await);
        let mut engine = engine.borrow_mut();
        engine.clearing -= 1;
        engine.halt_if_done();
    });
    (leash, ran)
}
