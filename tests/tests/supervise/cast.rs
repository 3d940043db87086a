//! The actors of these tests, and their sites.

use std::future::Future;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, ResponseFuture};
use hr_ctrl::Gid;
use hr_ctrl::embed::EmbeddedSite;
use hr_ctrl::policy::PolicyParts;
use hr_ctrl::site::{ActorInfo, Site, SiteError};
use hr_ctrl::supervise::Life;
use refrain_abi::tunables::Tunables;
use tempfile::TempDir;

const WATCHDOG: Duration = Duration::from_secs(60);

/// A site of a test's own. Its bank goes with it, also when the test fails.
pub struct TestSite {
    site: EmbeddedSite,
    _bank: TempDir,
}

impl Deref for TestSite {
    type Target = EmbeddedSite;

    fn deref(&self) -> &EmbeddedSite {
        &self.site
    }
}

impl TestSite {
    pub async fn halt(self) -> Result<(), SiteError> {
        self.site.halt().await
    }
}

/// A site of this test's own, whose groups may be restarted as often as one likes.
pub async fn site() -> TestSite {
    let policy = PolicyParts {
        max_restarts: Some(1_000_000),
        ..PolicyParts::default()
    };
    site_with(policy).await
}

/// The same with another policy for the groups 1 to 3.
pub async fn site_with(policy: PolicyParts) -> TestSite {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("supervise-{}-{number}", std::process::id());
    let mut tunables = Tunables::default();
    // The sites of one process need windows of their own: a block has one place in it.
    tunables.pmm.window_base += u64::from(number) * tunables.pmm.window_size;
    let dir = TempDir::with_prefix_in("supervise-", "/dev/shm").unwrap();
    let builder = Site::builder(&name).bank(dir.path().join("bank"));
    let mut builder = builder.tunables(tunables).keep_on_halt(false);
    for gid in 1..=3 {
        builder = builder.group(Gid(gid), policy.clone());
    }
    let site = builder.start().await.unwrap();
    TestSite { site, _bank: dir }
}

/// Waits for a condition.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < WATCHDOG, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The row of an actor, when it is one that `fits`.
pub async fn row(site: &Site, name: &str, fits: impl Fn(&ActorInfo) -> bool) -> ActorInfo {
    let look = || async {
        let rows = site.actors().await.unwrap();
        rows.into_iter().find(|row| row.name == name && fits(row))
    };
    until(&format!("no such row of {name}"), look).await
}

/// The row of an actor in this life, running.
pub async fn in_life(site: &Site, name: &str, life: u32) -> ActorInfo {
    row(site, name, |row| {
        row.life == Some(life) && row.state == "running"
    })
    .await
}

/// Counts, and fails in every way that there is.
pub struct Counter {
    pub life: Life,
    pub count: u32,
}

impl Counter {
    pub fn new(life: &Life) -> Self {
        let (life, count) = (life.clone(), 0);
        Self { life, count }
    }
}

impl Actor for Counter {
    type Context = Context<Self>;
}

/// Adds one; answers the sum and the life that has it.
#[derive(Message)]
#[rtype(result = "(u32, u32)")]
pub struct Add;

impl Handler<Add> for Counter {
    type Result = actix::MessageResult<Add>;
    fn handle(&mut self, _: Add, _: &mut Context<Self>) -> Self::Result {
        self.count += 1;
        actix::MessageResult((self.count, self.life.no().0))
    }
}

/// A way to end.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// A panic in a handler.
    Handler,
    /// In a future of the actor's context.
    Future,
    /// In a future that runs beside the actor.
    Beside,
    /// The context stops.
    Stop,
    /// It stops after the exit handler.
    Clean,
    /// A panic after the exit handler.
    CleanPanic,
}

#[derive(Message)]
#[rtype(result = "()")]
pub struct End(pub Way);

impl Handler<End> for Counter {
    type Result = ();
    fn handle(&mut self, End(way): End, context: &mut Context<Self>) {
        match way {
            Way::Handler => panic!("told to fail in a handler"),
            Way::Future => {
                context.spawn(wrap_future(async { panic!("told to fail in a future") }));
            }
            Way::Beside => drop(actix_rt::spawn(async { panic!("told to fail beside") })),
            Way::Stop => context.stop(),
            Way::Clean => {
                self.life.hr_exit_hdl();
                context.stop();
            }
            Way::CleanPanic => {
                self.life.hr_exit_hdl();
                panic!("nobody minds");
            }
        }
    }
}

/// Answers in a future that actix lets run beside the actor, and panics there.
#[derive(Message)]
#[rtype(result = "u32")]
pub struct AnswerBeside;

impl Handler<AnswerBeside> for Counter {
    type Result = ResponseFuture<u32>;
    fn handle(&mut self, _: AnswerBeside, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async { panic!("told to fail in an answer") })
    }
}

/// Who it is.
#[derive(Message)]
#[rtype(result = "Life")]
pub struct Who;

impl Handler<Who> for Counter {
    type Result = actix::MessageResult<Who>;
    fn handle(&mut self, _: Who, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(self.life.clone())
    }
}
