//! Building a template: the image is read if it is not in memory, the program is executed from it, and
//! waited for until it stands before `main`.
//!
//! It happens on threads of the pool, so that a big program delays nobody's restart. A template that is built
//! for a generation that nobody wants any more is ended. Must never wait for a template without a limit.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hr_ctrl_core::{ActorKey, Kind};
use refrain_abi::template::FromTemplate;
use refrain_image::{StartKind, Template, TemplateError, choose_start};

use super::template::{kill, reap, serve};
use super::{Engine, SharedEngine};
use crate::watch;

impl Engine {
    /// Builds the template of an actor whose image is in memory, in the background.
    pub(super) fn build_template(&mut self, actor: ActorKey) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if runtime.building {
            return;
        }
        runtime.building = true;
        runtime.generation += 1;
        let generation = runtime.generation;
        self.note_counters(actor);
        let engine = self.shared();
        actix_rt::spawn(async move {
            if let Err(why) = build(&engine, actor, generation).await {
                engine.borrow_mut().build_failed(actor, generation, &why);
            }
        });
    }

    fn build_failed(&mut self, actor: ActorKey, generation: u32, why: &str) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if runtime.generation != generation {
            return;
        }
        runtime.building = false;
        runtime.template = None;
        self.give_up(actor, why);
        self.settle(actor);
    }

    /// Whoever waits for a standby is told that there will be none.
    pub(super) fn give_up(&mut self, actor: ActorKey, why: &str) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some(ticket) = runtime.loading.take() {
            self.load_failed(actor, ticket, why.to_owned());
        } else {
            self.cannot_begin(actor, why);
        }
    }
}

/// Builds a template of `generation`, waits until it serves, and starts listening to it.
async fn build(engine: &SharedEngine, actor: ActorKey, generation: u32) -> Result<(), String> {
    super::load::image_in_memory(engine, actor).await?;
    let mut kind = {
        let borrowed = engine.borrow();
        let Some(runtime) = borrowed.actors.get(&actor) else {
            return Ok(());
        };
        let Some(program) = &runtime.program else {
            return Ok(());
        };
        if runtime.kind == Kind::Ordinary || runtime.exec_reason.is_some() {
            StartKind::Exec
        } else {
            choose_start(&program.image)
        }
    };
    loop {
        let Some(template) = spawn(engine, actor, generation, kind).await? else {
            return Ok(());
        };
        let limit =
            Duration::from_millis(engine.borrow().parts.tunables.hr_ctrl.template_timeout_ms);
        let why = match tokio::time::timeout(limit, first_word(&template)).await {
            Ok(Ok(FromTemplate::Ready)) => {
                serve(engine, actor, generation, template, kind, false);
                return Ok(());
            }
            Ok(Ok(FromTemplate::Threaded { threads })) => {
                format!("its constructors start threads ({threads} before main)")
            }
            Ok(_) => "it ends before main in its template".to_owned(),
            Err(_) => format!(
                "it does not reach main within {} s in its template",
                limit.as_secs()
            ),
        };
        kill(&template);
        actix_rt::spawn(reap(Rc::clone(&template)));
        if kind == StartKind::Exec {
            return Err("the template of its image did not come up".to_owned());
        }
        kind = StartKind::Exec;
        if let Some(runtime) = engine.borrow_mut().actors.get_mut(&actor) {
            runtime.exec_reason = Some(why);
        }
    }
}

/// Spawns a template on a thread of its own; `None` when nobody wants it any more.
async fn spawn(
    engine: &SharedEngine,
    actor: ActorKey,
    generation: u32,
    kind: StartKind,
) -> Result<Option<Rc<Template>>, String> {
    let prepared = {
        let borrowed = engine.borrow();
        borrowed
            .actors
            .get(&actor)
            .filter(|runtime| runtime.generation == generation)
            .and_then(|runtime| {
                let program = runtime.program.as_ref().map(Arc::clone)?;
                let output = runtime.output.as_ref()?.writer();
                Some((
                    program,
                    Arc::clone(&runtime.page),
                    output,
                    runtime.contained.directory(),
                    runtime.contained.procs(),
                    runtime.limited.joining(),
                ))
            })
    };
    let Some((program, page, output, cgroup, members, joins)) = prepared else {
        return Ok(None);
    };
    let output = output.map_err(|error| error.to_string())?;
    let joins = joins.map_err(|error| error.to_string())?;
    let spawned = actix_rt::task::spawn_blocking(move || {
        let cgroup = cgroup.as_ref().map(AsFd::as_fd);
        let members = members.as_ref().map(AsFd::as_fd);
        let joins = joins.iter().map(AsFd::as_fd).collect::<Vec<_>>();
        Template::spawn_with_output(
            &program,
            kind,
            page.as_fd(),
            cgroup,
            &joins,
            members,
            output.as_fd(),
        )
    })
    .await;
    match spawned {
        Ok(Ok(template)) => Ok(Some(Rc::new(template))),
        Ok(Err(error)) => Err(format!("cannot start its template: {error}")),
        Err(error) => Err(format!("cannot start its template: {error}")),
    }
}

async fn first_word(template: &Rc<Template>) -> Result<FromTemplate, TemplateError> {
    loop {
        watch::readable(Rc::clone(template)).await?;
        if let Some(heard) = template.receive()? {
            return Ok(heard.message);
        }
    }
}
