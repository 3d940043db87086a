//! Pacing: the next standbys of a whole group are forked a few at a time.
//!
//! The lives that have just begun need the CPUs that a hundred forks would take. A single actor's next
//! standby is asked for at once; a group's wait their turn here. A member that fails before its turn
//! has come gets its fork at once, for its start.

use std::time::Duration;

use hr_ctrl_core::ActorKey;

use super::{Engine, SharedEngine};

/// How long the lives that have just begun are left alone.
const QUIET: Duration = Duration::from_millis(2);
/// How many forks are asked for together, a millisecond apart.
const TOGETHER: usize = 4;

impl Engine {
    /// Sees to it that there will be a standby, soon.
    pub(super) fn want_standby_soon(&mut self, actor: ActorKey) {
        self.paced.push_back(actor);
        if self.paced.len() == 1 {
            actix_rt::spawn(pace(self.shared()));
        }
    }
}

async fn pace(engine: SharedEngine) {
    tokio::time::sleep(QUIET).await;
    loop {
        {
            let mut engine = engine.borrow_mut();
            for _ in 0..TOGETHER {
                // The last one stays until it was asked for: its place says that somebody paces.
                let Some(actor) = engine.paced.front().copied() else {
                    return;
                };
                engine.want_standby(actor);
                engine.paced.pop_front();
            }
            if engine.paced.is_empty() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
