//! What the site is told of restarts: which life failed, how, and what its fault handler saw.
//!
//! All of it comes after the next life has begun: how a life ended is known when its template has
//! reaped it, usually a moment later, and names for addresses are looked up on another thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use hr_ctrl_core::ActorKey;
use refrain_abi::Gid;

use super::runtime::{ActorRuntime, Restart};
use super::{Engine, SharedEngine};
use crate::failure::{self, Objects, Report};

/// How many restarts of one actor wait for their cause at most.
const MAX_UNTOLD: usize = 64;
/// When a failure is put into words: the next life has begun and its own standby is there.
const EXPLAIN_AFTER: Duration = Duration::from_millis(20);
/// How often, at most, for one actor.
const EXPLAIN_EVERY: Duration = Duration::from_secs(1);

impl Engine {
    /// Carries out `GroupRestarts`: notes what is to be told. Tells nothing: the next life has not
    /// begun yet.
    pub(super) fn group_restarts(&mut self, gid: Gid, failed: ActorKey, badness: u32) {
        *self.group_restarts.entry(gid).or_default() += 1;
        self.restart_begins(gid, failed, badness);
        if self.supervised.contains_key(&failed) {
            return self.note_supervised_restart(gid, failed, badness);
        }
        let Some(runtime) = self.actors.get_mut(&failed) else {
            return;
        };
        let waits = self.core.group(gid).is_some_and(|group| group.delay_ms > 0);
        let life = runtime.life.as_ref();
        let how = life
            .filter(|life| life.reaped)
            .and_then(|_| runtime.last_end.clone());
        runtime.untold.push_back(Restart {
            pid: life.map(|life| life.pid),
            gid,
            badness,
            waits,
            how,
        });
    }

    /// Tells of the restarts whose cause is known by now, or of all (`anyhow`).
    pub(super) fn tell_restarts(&mut self, actor: ActorKey, anyhow: bool) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let name = runtime.name;
        while let Some(first) = runtime.untold.front() {
            // Lives are reaped in order: a later cause that is known says that this one is lost.
            let lost = runtime
                .untold
                .iter()
                .skip(1)
                .any(|later| later.how.is_some())
                || runtime.untold.len() > MAX_UNTOLD;
            if first.how.is_none() && !lost && !anyhow {
                return;
            }
            let Some(restart) = runtime.untold.pop_front() else {
                return;
            };
            let Restart { gid, badness, .. } = restart;
            let how = restart.how.as_deref().unwrap_or("cause unknown");
            let restarted = if restart.waits {
                "restarts after a delay"
            } else {
                "restarted"
            };
            self.parts.output.say(format!(
                "HR_CTRL: {name} failed ({how}), group {gid} {restarted} (badness {badness})"
            ));
        }
    }

    /// Takes the record that the fault handler of a life has left, to be put into words when the life
    /// after it has had its time.
    pub(super) fn note_failure(&mut self, actor: ActorKey) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let record = runtime
            .failing
            .take()
            .and_then(|serial| failure::copy(&runtime.control, serial));
        let Some(record) = record else { return };
        let waiting = runtime.record.replace(record);
        if waiting.is_none() && !runtime.explaining {
            runtime.explaining = true;
            actix_rt::spawn(explain(self.shared(), actor));
        }
    }

    /// What `explain` needs on its thread; `None` when there is nothing to explain.
    fn take_record(&mut self, actor: ActorKey) -> Option<ToExplain> {
        let runtime = self.actors.get_mut(&actor)?;
        let Some(record) = runtime.record.take() else {
            runtime.explaining = false;
            return None;
        };
        // With a layout of its own, a life that is gone was laid out like nothing that is still there.
        let template = runtime
            .template
            .as_ref()
            .filter(|_| !runtime.spec.fresh_layout);
        let program = runtime.program.as_ref();
        Some(ToExplain {
            record,
            template: template.map(|template| template.template.pid),
            image: program.and_then(|program| program.image.fd.try_clone().ok()),
        })
    }

    fn explained(&mut self, actor: ActorKey, report: Report) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let (name, output) = (runtime.name, &self.parts.output);
        output.say(format!("HR_CTRL: {name}: {report}"));
        output.note(name, format!("HR_CTRL: {report}"));
        for (number, frame) in report.backtrace.iter().enumerate() {
            output.note(name, format!("HR_CTRL:   #{number} {frame}"));
        }
        runtime.failure = Some(Arc::new(report));
    }
}

/// A record and where its addresses belong.
struct ToExplain {
    record: failure::Record,
    template: Option<u32>,
    image: Option<OwnedFd>,
}

/// Puts the records of one actor into words, one after the other, with a rest between two: a crash storm
/// does not have every crash explained.
async fn explain(engine: SharedEngine, actor: ActorKey) {
    tokio::time::sleep(EXPLAIN_AFTER).await;
    loop {
        let Some(to_explain) = engine.borrow_mut().take_record(actor) else {
            return;
        };
        let explained = actix_rt::task::spawn_blocking(move || {
            let ToExplain {
                record,
                template,
                image,
            } = to_explain;
            // Made anew each time: it holds files, and most actors never fail.
            let objects = template
                .and_then(|template| Objects::of_template(template, image).ok())
                .unwrap_or_else(Objects::unknown);
            failure::explain(&record, &objects)
        });
        if let Ok(report) = explained.await {
            engine.borrow_mut().explained(actor, report);
        }
        tokio::time::sleep(EXPLAIN_EVERY).await;
    }
}

impl ActorRuntime {
    /// How `pid` ended is known: for the restart that it provoked, if it did.
    pub(super) fn explain_restart(&mut self, pid: u32, how: &str) {
        let restart = self
            .untold
            .iter_mut()
            .find(|restart| restart.pid == Some(pid));
        if let Some(restart) = restart {
            restart.how = Some(how.to_owned());
        }
    }
}
