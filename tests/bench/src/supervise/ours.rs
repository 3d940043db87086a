//! Supervisor actors of a site that is embedded in the benchmark. Called by `supervise/mod.rs`. They live on the
//! thread that measures; HR_CTRL and PMM have their own, as in any program.

use std::sync::atomic::{AtomicU32, Ordering};

use actix::{Actor, Context, Handler, Message, System};
use anyhow::Result;
use hr_ctrl::Gid;
use hr_ctrl::embed::EmbeddedSite;
use hr_ctrl::policy::PolicyParts;
use hr_ctrl::site::Site;
use hr_ctrl::supervise::{On, Supervise, SupervisedAddr};

use super::{Supervises, Watch, panic_now};

const GROUP: Gid = Gid(1);

/// A site with a group of actors, and the first of them.
pub struct Ours {
    site: EmbeddedSite,
    first: SupervisedAddr<Child>,
}

/// The message that ends a life.
#[derive(Message)]
#[rtype(result = "()")]
struct Crash;

struct Child(Watch);

impl Actor for Child {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.0.began();
    }
}

impl Handler<Crash> for Child {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Context<Self>) {
        panic_now();
    }
}

impl Supervises for Ours {
    async fn start(lives: usize, watch: Watch) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("refrain-bench-supervise-{}-{number}", std::process::id());
        // As often as one likes.
        let policy = PolicyParts {
            max_restarts: Some(1_000),
            interval_ms: Some(10),
            ..PolicyParts::default()
        };
        let builder = Site::builder(&name).keep_on_halt(false);
        let site = builder.group(GROUP, policy).start().await?;
        let mut first = None;
        for actor in 0..lives {
            let watch = watch.clone();
            let here = On::Arbiter(System::current().arbiter().clone());
            let how = Supervise::new(&format!("child-{actor}"), GROUP).on(here);
            let child = site.supervise(how, move |_| Child(watch.clone())).await?;
            first.get_or_insert(child);
        }
        let first = first.expect("there is one life at least");
        Ok(Self { site, first })
    }

    async fn crash(&self) -> Result<()> {
        Ok(self.first.do_send(Crash)?)
    }

    async fn stop(self) {
        // What is left of it is swept.
        let _ = self.site.halt().await;
    }
}
