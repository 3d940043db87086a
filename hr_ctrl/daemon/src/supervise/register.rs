//! `Site::supervise`: how a program registers a supervisor actor.

use actix::{Actor, Context};
use refrain_abi::ActorName;

use super::{Host, Life, Supervise, SupervisedAddr};
use crate::site::{Site, SiteError, StartSpec};

impl Site {
    /// Registers a supervisor actor and begins its first life: an actix actor in this very Linux process, that
    /// is restarted like any other actor ([`crate::supervise`]). The factory makes a fresh object for each
    /// life.
    ///
    /// An actor that the bank knows of, because the program has ended and was started again, takes its place
    /// and goes on with its next life.
    ///
    /// # Errors
    /// [`SiteError`]: the name is none, is taken or alive, the site is stopping.
    ///
    /// ```no_run
    /// use actix::{Actor, Context, Handler, Message};
    /// use hr_ctrl::supervise::Supervise;
    /// use refrain_abi::Gid;
    ///
    /// struct Divider;
    ///
    /// impl Actor for Divider {
    ///     type Context = Context<Self>;
    /// }
    ///
    /// #[derive(Message)]
    /// #[rtype(result = "u32")]
    /// struct Divide(u32, u32);
    ///
    /// impl Handler<Divide> for Divider {
    ///     type Result = u32;
    ///     fn handle(&mut self, Divide(a, b): Divide, _: &mut Context<Self>) -> u32 {
    ///         a / b
    ///     }
    /// }
    ///
    /// # async fn example(site: hr_ctrl::site::Site) -> Result<(), Box<dyn std::error::Error>> {
    /// let divider = site.supervise(Supervise::new("divider", Gid(1)), |_| Divider).await?;
    /// assert!(divider.send(Divide(1, 0)).await.is_err(), "that life has panicked");
    /// assert_eq!(divider.send(Divide(6, 3)).await?, 2, "the next one answers");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn supervise<A, F>(
        &self,
        how: Supervise,
        factory: F,
    ) -> Result<SupervisedAddr<A>, SiteError>
    where
        A: Actor<Context = Context<A>>,
        F: FnMut(&Life) -> A + Send + 'static,
    {
        let name = ActorName::new(&how.name)
            .map_err(|why| SiteError::NotLoaded(format!("{:?}: {why}", how.name)))?;
        let (hr_ctrl, pmm) = self.boot_actors();
        let parts = (self.arbiters(), hr_ctrl.clone(), pmm);
        let (host, addr) = Host::start(&how, name, factory, parts).await?;
        let spec = StartSpec {
            gid: Some(how.gid),
            policy: how.policy,
            ..StartSpec::new(name, host.object)
        };
        let supervised = hr_ctrl.send(crate::hr_ctrl::Supervise { spec, host }).await;
        supervised.map_err(|_| SiteError::Halted)??;
        Ok(addr)
    }
}
