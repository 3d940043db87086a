//! What the last steps have changed, so that the daemon knows which memos to write.
//!
//! Each place that changes what a memo holds says so here. Nothing is noted twice between two
//! calls of [`Controller::take_changed`], and noting allocates nothing once the list has grown.

use refrain_abi::Gid;

use crate::actor::Actor;
use crate::group::Group;
use crate::{ActorKey, Controller};

/// Something whose memo is another one now, or is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Changed {
    /// An actor.
    Actor(ActorKey),
    /// A group.
    Group(Gid),
    /// The site.
    Site,
}

/// The list, and what tells what is in it already.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    list: Vec<Changed>,
    /// One more with each list that was taken; an actor or a group holds that of its last entry.
    round: u64,
    site_in: u64,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            round: 1,
            site_in: 0,
        }
    }
}

impl Changes {
    pub fn actor(&mut self, key: ActorKey, actor: &mut Actor) {
        if std::mem::replace(&mut actor.noted_in, self.round) != self.round {
            self.list.push(Changed::Actor(key));
        }
    }

    pub fn group(&mut self, gid: Gid, group: &mut Group) {
        if std::mem::replace(&mut group.noted_in, self.round) != self.round {
            self.list.push(Changed::Group(gid));
        }
    }

    pub fn site(&mut self) {
        if std::mem::replace(&mut self.site_in, self.round) != self.round {
            self.list.push(Changed::Site);
        }
    }
}

impl Controller {
    /// Appends what has changed since the last call, each once. A memo that is asked for now and
    /// is not there is that of an actor or a group that was forgotten.
    pub fn take_changed(&mut self, into: &mut Vec<Changed>) {
        into.append(&mut self.changes.list);
        self.changes.round += 1;
    }
}
