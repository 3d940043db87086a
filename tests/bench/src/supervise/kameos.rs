//! Supervised actors of the crate `kameo`, under its own strategy. Called by `supervise/mod.rs`.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;
use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::message::{Context, Message};
use kameo::supervision::{RestartPolicy, SupervisionStrategy};

use super::{Supervises, Watch, panic_now};

/// A supervisor that runs, and its first child.
pub struct Kameo {
    supervisor: ActorRef<Supervisor>,
    first: ActorRef<Child>,
}

/// The message that ends a life.
struct Crash;

struct Child;

struct Supervisor;

impl Actor for Supervisor {
    type Args = ();
    type Error = Infallible;

    fn supervision_strategy() -> SupervisionStrategy {
        SupervisionStrategy::OneForAll
    }

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

impl Actor for Child {
    type Args = Watch;
    type Error = Infallible;

    async fn on_start(watch: Watch, _: ActorRef<Self>) -> Result<Self, Infallible> {
        watch.began();
        Ok(Self)
    }
}

impl Message<Crash> for Child {
    type Reply = ();

    async fn handle(&mut self, _: Crash, _: &mut Context<Self, ()>) {
        panic_now();
    }
}

impl Supervises for Kameo {
    async fn start(lives: usize, watch: Watch) -> Result<Self> {
        let supervisor = Supervisor::spawn(());
        let spawn = || {
            Child::supervise(&supervisor, watch.clone())
                .restart_policy(RestartPolicy::Permanent)
                .restart_limit(u32::MAX, Duration::from_secs(1))
                .spawn()
        };
        let first = spawn().await;
        for _ in 1..lives {
            spawn().await;
        }
        Ok(Self { supervisor, first })
    }

    async fn crash(&self) -> Result<()> {
        self.first.tell(Crash).await?;
        Ok(())
    }

    async fn stop(self) {
        // It fails only when it has stopped.
        let _ = self.supervisor.stop_gracefully().await;
        self.supervisor.wait_for_shutdown().await;
    }
}
