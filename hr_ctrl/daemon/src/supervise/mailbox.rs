//! The mailbox of a supervisor actor: it belongs to the actor, not to one life of it, so what waits in it
//! outlives a restart.
//!
//! [`super::address::SupervisedAddr`] puts messages in, from any thread; the life that runs takes them out, on
//! its arbiter. A message that a life has taken is that life's: if it fails while handling it, whoever sent it
//! is told, and no other life sees it again. Must never call an actor's code, nor wake anybody, under its lock.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use actix::dev::Envelope;
use actix::{Actor, Context};

use super::{SendError, WhileRestarting};

/// Where messages of an actor wait.
pub(super) struct Mailbox<A: Actor<Context = Context<A>>> {
    inner: Mutex<Inner<A>>,
    capacity: usize,
    policy: WhileRestarting,
}

struct Inner<A: Actor<Context = Context<A>>> {
    queue: VecDeque<Envelope<A>>,
    is_serving: bool,
    is_closed: bool,
    /// Of the life that has found the queue empty.
    waiting: Option<Waker>,
}

impl<A: Actor<Context = Context<A>>> Mailbox<A> {
    pub fn new(capacity: usize, policy: WhileRestarting) -> Self {
        let inner = Inner {
            queue: VecDeque::new(),
            // Before the first life nothing is refused: whoever has the address may use it.
            is_serving: true,
            is_closed: false,
            waiting: None,
        };
        Self {
            inner: Mutex::new(inner),
            capacity,
            policy,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<A>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message behind the others.
    pub fn put(&self, envelope: Envelope<A>) -> Result<(), SendError> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(SendError::Gone);
        }
        if !inner.is_serving && self.policy == WhileRestarting::Refuse {
            return Err(SendError::Restarting);
        }
        if inner.queue.len() >= self.capacity {
            let limit = self.capacity;
            return Err(SendError::Full { limit });
        }
        inner.queue.push_back(envelope);
        let waiting = inner.waiting.take();
        drop(inner);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        Ok(())
    }

    /// Takes the first message, or notes whom to wake when there is one.
    pub fn take(&self, waker: &Waker) -> Option<Envelope<A>> {
        let mut inner = self.lock();
        let first = inner.queue.pop_front();
        if first.is_none() {
            inner.waiting = Some(waker.clone());
        }
        first
    }

    /// A life has begun.
    pub fn serve(&self) {
        self.lock().is_serving = true;
    }

    /// The life has ended: what waits is kept, or its senders are told.
    pub fn pause(&self) {
        let mut inner = self.lock();
        inner.is_serving = false;
        inner.waiting = None;
        let refused = match self.policy {
            WhileRestarting::Wait => VecDeque::new(),
            WhileRestarting::Refuse => std::mem::take(&mut inner.queue),
        };
        drop(inner);
        drop(refused);
    }

    /// The actor is not registered any more: nothing will be taken out.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        let refused = std::mem::take(&mut inner.queue);
        drop(inner);
        drop(refused);
    }

    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::dev::ToEnvelope;
    use actix::{Handler, Message};

    struct Nobody;

    impl Actor for Nobody {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Anything;

    impl Handler<Anything> for Nobody {
        type Result = ();
        fn handle(&mut self, _: Anything, _: &mut Context<Self>) {}
    }

    fn letter() -> Envelope<Nobody> {
        <Context<Nobody> as ToEnvelope<Nobody, Anything>>::pack(Anything, None)
    }

    fn count(mailbox: &Mailbox<Nobody>) -> usize {
        std::iter::from_fn(|| mailbox.take(Waker::noop())).count()
    }

    #[test]
    fn what_waits_outlives_a_restart_where_the_user_wants_that() {
        let mailbox = Mailbox::new(8, WhileRestarting::Wait);
        mailbox.serve();
        mailbox.put(letter()).unwrap();
        mailbox.pause();
        mailbox.put(letter()).unwrap();
        mailbox.serve();
        assert_eq!(count(&mailbox), 2);
    }

    #[test]
    fn what_waits_is_refused_at_a_restart_where_the_user_wants_that() {
        let mailbox = Mailbox::new(8, WhileRestarting::Refuse);
        mailbox.put(letter()).unwrap();
        mailbox.pause();
        assert_eq!(mailbox.put(letter()), Err(SendError::Restarting));
        assert_eq!(count(&mailbox), 0);
    }

    #[test]
    fn a_full_mailbox_and_a_closed_one_say_which_they_are() {
        let mailbox = Mailbox::new(1, WhileRestarting::Wait);
        mailbox.put(letter()).unwrap();
        assert_eq!(mailbox.put(letter()), Err(SendError::Full { limit: 1 }));
        mailbox.close();
        assert_eq!(mailbox.put(letter()), Err(SendError::Gone));
        assert_eq!(count(&mailbox), 0);
    }
}
