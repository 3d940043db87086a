//! The address of a supervisor actor: obtained once, good for every life.
//!
//! Held by whoever talks to the actor, on any thread and any runtime. It must never reach past the mailbox: a
//! sender cannot tell, nor need to know, which life handles its message.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Context, Handler, Message};
use tokio::sync::oneshot;

use super::SendError;
use super::mailbox::Mailbox;

/// The address of a supervisor actor ([`crate::site::Site::supervise`]). A clone is the same address.
pub struct SupervisedAddr<A: Actor<Context = Context<A>>> {
    mailbox: Arc<Mailbox<A>>,
}

impl<A: Actor<Context = Context<A>>> SupervisedAddr<A> {
    pub(super) fn new(mailbox: Arc<Mailbox<A>>) -> Self {
        Self { mailbox }
    }

    /// Sends a message and gives its answer. The message is in the mailbox when this returns; only the answer
    /// is waited for.
    ///
    /// # Errors
    /// [`SendError`]. [`SendError::Lost`]: a life took the message and ended before it answered.
    pub fn send<M>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<M::Result, SendError>> + Send + use<A, M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let (answer, waiting) = oneshot::channel();
        let envelope = <Context<A> as ToEnvelope<A, M>>::pack(message, Some(answer));
        let sent = self.mailbox.put(envelope);
        async move {
            sent?;
            waiting.await.map_err(|_| SendError::Lost)
        }
    }

    /// Sends a message whose answer nobody waits for.
    ///
    /// # Errors
    /// [`SendError`], but for `Lost`.
    pub fn do_send<M>(&self, message: M) -> Result<(), SendError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let envelope = <Context<A> as ToEnvelope<A, M>>::pack(message, None);
        self.mailbox.put(envelope)
    }

    /// Whether the actor is still registered. Between two lives it is.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        !self.mailbox.is_closed()
    }
}

impl<A: Actor<Context = Context<A>>> Clone for SupervisedAddr<A> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.mailbox))
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for SupervisedAddr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SupervisedAddr<{}>", std::any::type_name::<A>())
    }
}
