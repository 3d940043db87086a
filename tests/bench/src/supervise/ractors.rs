//! Supervised actors of the crate `ractor`. Called by `supervise/mod.rs`. It leaves all restarting to the
//! supervisor's own code, so that is here, as short as it can be.

use anyhow::Result;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{Supervises, Watch, panic_now};

/// A supervisor that runs.
pub struct Ractor(ActorRef<Crash>);

/// The message that ends a life; the supervisor hands it on to the first child.
pub struct Crash;

struct Child;

struct Supervisor;

/// What a supervisor keeps.
struct State {
    children: Vec<ActorRef<Crash>>,
    lives: usize,
    /// Who has not ended yet of those that are restarted.
    ending: usize,
    watch: Watch,
}

impl Actor for Child {
    type Msg = Crash;
    type State = ();
    type Arguments = Watch;

    async fn pre_start(&self, _: ActorRef<Crash>, watch: Watch) -> Result<(), ActorProcessingErr> {
        watch.began();
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Crash>,
        _: Crash,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        panic_now();
        Ok(())
    }
}

impl State {
    async fn spawn(&mut self, supervisor: &ActorCell) -> Result<(), ActorProcessingErr> {
        self.children.clear();
        self.ending = self.lives;
        for _ in 0..self.lives {
            let watch = self.watch.clone();
            let (child, _) = Actor::spawn_linked(None, Child, watch, supervisor.clone()).await?;
            self.children.push(child);
        }
        Ok(())
    }
}

impl Actor for Supervisor {
    type Msg = Crash;
    type State = State;
    type Arguments = (usize, Watch);

    async fn pre_start(
        &self,
        own: ActorRef<Crash>,
        (lives, watch): (usize, Watch),
    ) -> Result<State, ActorProcessingErr> {
        let mut state = State {
            children: Vec::new(),
            lives,
            ending: lives,
            watch,
        };
        state.spawn(&own.get_cell()).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<Crash>,
        crash: Crash,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(child) = state.children.first() {
            child.cast(crash)?;
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        own: ActorRef<Crash>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(..) => {
                state.children.iter().skip(1).for_each(|child| child.kill());
            }
            SupervisionEvent::ActorTerminated(..) => {}
            _ => return Ok(()),
        }
        state.ending -= 1;
        if state.ending == 0 {
            state.spawn(&own.get_cell()).await?;
        }
        Ok(())
    }
}

impl Supervises for Ractor {
    async fn start(lives: usize, watch: Watch) -> Result<Self> {
        let (supervisor, _) = Actor::spawn(None, Supervisor, (lives, watch)).await?;
        Ok(Self(supervisor))
    }

    async fn crash(&self) -> Result<()> {
        Ok(self.0.cast(Crash)?)
    }

    async fn stop(self) {
        // It fails only when it has stopped.
        let _ = self.0.stop_and_wait(None, None).await;
    }
}
