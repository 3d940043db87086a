//! The engine's part of what is sent ahead ([`crate::pmm::StandbyAsleep`], ADR 0015): PMM is told of each
//! standby whose life is known beforehand, and has one replaced whose queue holds what was freed.
//!
//! Must never be on the restart path: a standby that is woken before PMM has heard of it asks as every
//! first life does.

use std::sync::Arc;

use hr_ctrl_core::ActorKey;
use refrain_abi::Serial;

use super::Engine;
use crate::pmm;

impl Engine {
    /// Tells PMM of the standby, once its start frame is queued.
    pub(super) fn tell_standby(&self, actor: ActorKey) {
        let Some(runtime) = self.actors.get(&actor) else {
            return;
        };
        let Some(standby) = &runtime.standby else {
            return;
        };
        // Without a start frame before it, the standby would take the welcome for one.
        let Some(life) = standby.start_queued else {
            return;
        };
        let gid = runtime.gid;
        self.parts.pmm.do_send(pmm::StandbyAsleep {
            asker: pmm::Asker { actor, gid, life },
            serial: standby.serial,
            capability: standby.capability,
            socket: Arc::downgrade(&standby.socket),
            page: Arc::clone(&runtime.page),
        });
    }

    /// Has the standby with this serial replaced.
    pub(crate) fn refresh_standby(&mut self, actor: ActorKey, serial: Serial) {
        // Or the life might wake just this one.
        self.take_back(actor);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let stale = runtime
            .standby
            .take_if(|standby| standby.serial == serial)
            .or_else(|| runtime.spare.take_if(|spare| spare.serial == serial));
        if let Some(stale) = stale {
            runtime.discard(stale);
            runtime.move_up();
            self.queue_ahead(actor);
            self.want_standby(actor);
        }
    }
}
