//! What happens on a site, as a stream for the program that embeds it.
//!
//! [`crate::site::Site::events`] subscribes. The stream is bounded: a program that does not keep up loses the
//! oldest events, and is told how many ([`Heard::Missed`]). Nothing waits for a reader, and events are passed on
//! when the lives that they tell of have begun: the restart path does not wait for them either.
//!
//! Each life is told of twice: once as it begins, once as it ends. How a life ended is known when the kernel has
//! reaped it, so its end may be told after the beginning of its successor.
//!
//! ```no_run
//! use hr_ctrl::events::{Heard, SiteEvent};
//!
//! # async fn example(site: hr_ctrl::site::Site) {
//! let mut events = site.events();
//! while let Some(heard) = events.next().await {
//!     match heard {
//!         Heard::Event(SiteEvent::GroupRestarted { gid, failed, latency, .. }) => {
//!             println!("group {gid} is back after {failed} failed: {latency:?}");
//!         }
//!         Heard::Event(other) => println!("{other:?}"),
//!         Heard::Missed(count) => println!("{count} events were missed"),
//!     }
//! }
//! # }
//! ```

use std::time::Duration;

use refrain_abi::{ActorName, Aid, Gid, LifeNo};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// How many events a reader may be behind.
pub const DEPTH: usize = 1024;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SiteEvent {
    /// A life has begun.
    Started {
        /// The actor.
        actor: ActorName,
        /// Its group, `None` for an ordinary actor.
        gid: Option<Gid>,
        /// The number of the life.
        life: LifeNo,
        /// Its aid.
        aid: Aid,
    },
    /// A life has ended.
    Ended {
        /// The actor.
        actor: ActorName,
        /// Its group, `None` for an ordinary actor.
        gid: Option<Gid>,
        /// The number of the life.
        life: LifeNo,
        /// Its aid.
        aid: Aid,
        /// It had called the exit handler (SPEC H21).
        clean: bool,
        /// How it ended, as `last_end` of `aps`; `None` when nobody has learned it.
        cause: Option<String>,
    },
    /// A member had failed, and every direct member of its group has begun again (SPEC H9).
    GroupRestarted {
        /// The group.
        gid: Gid,
        /// The member.
        failed: ActorName,
        /// The group's badness, this restart included.
        badness: u32,
        /// From when the controller noticed the failure to when the last member was begun. `None` where the
        /// failing life had woken its successor before the controller noticed.
        latency: Option<Duration>,
    },
    /// The restart of a group waits (SPEC H33).
    GroupDelayed {
        /// The group.
        gid: Gid,
        /// How long, counted from the failure.
        delay: Duration,
        /// Which attempt since the last healthy run the restart will be, from 1.
        attempt: u32,
    },
    /// A group is not restarted any more (SPEC H33).
    GroupStopped {
        /// The group.
        gid: Gid,
        /// The member that failed last.
        failed: ActorName,
        /// The group's badness, this failure included.
        badness: u32,
        /// Why.
        reason: String,
    },
    /// No member is alive and some have not terminated (SPEC H23).
    GroupBlocked {
        /// The group.
        gid: Gid,
        /// Those members.
        names: Vec<ActorName>,
    },
    /// A group has terminated, or was killed (SPEC H22, H24).
    GroupTerminated {
        /// The group.
        gid: Gid,
    },
    /// The badness of a group has passed its limit: the site is restarted (SPEC H26).
    LimitPassed {
        /// The group.
        gid: Gid,
        /// Its badness.
        badness: u32,
    },
    /// The site was restarted (SPEC H25): its direct actors begin.
    SiteRestarted,
    /// Nothing is left of the site's actors: it ends.
    Halted,
}

/// What a reader hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event(SiteEvent),
    /// So many events came too fast; the next one that is heard is the oldest still there.
    Missed(u64),
}

/// A stream of events ([`crate::site::Site::events`]).
#[derive(Debug)]
pub struct Events(broadcast::Receiver<SiteEvent>);

impl Events {
    pub(crate) fn of(sender: &broadcast::Sender<SiteEvent>) -> Self {
        Self(sender.subscribe())
    }

    /// The next event; `None` when the site has ended. May be dropped half way: nothing is lost.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(RecvError::Lagged(count)) => Some(Heard::Missed(count)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event, if one is there already.
    pub fn try_next(&mut self) -> Option<Heard> {
        match self.0.try_recv() {
            Ok(event) => Some(Heard::Event(event)),
            Err(TryRecvError::Lagged(count)) => Some(Heard::Missed(count)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_too_far_behind_is_told_by_how_much() {
        let (sender, _) = broadcast::channel(2);
        let mut events = Events::of(&sender);
        for gid in 0..5 {
            sender
                .send(SiteEvent::GroupTerminated { gid: Gid(gid) })
                .unwrap();
        }
        let gid = Gid(3);
        assert_eq!(events.try_next(), Some(Heard::Missed(3)));
        assert_eq!(
            events.try_next(),
            Some(Heard::Event(SiteEvent::GroupTerminated { gid }))
        );
    }
}
