//! How lives end, and what is said of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix::{Actor, Context};
use hr_ctrl::site::{KillTarget, SiteError};
use hr_ctrl::supervise::{On, SendError, Supervise};
use hr_ctrl::{Aid, Gid};

use super::cast::{Add, AnswerBeside, Counter, End, Way, Who, in_life, row, site, until};

const GROUP: Gid = Gid(1);

#[tokio::test]
async fn h9_a_panic_in_a_handler_begins_a_fresh_life() {
    let site = site().await;
    let addr = site
        .supervise(Supervise::new("counter", GROUP), Counter::new)
        .await
        .unwrap();
    assert_eq!(addr.send(Add).await, Ok((1, 0)));
    assert_eq!(addr.send(Add).await, Ok((2, 0)));
    let first = in_life(&site, "counter", 0).await;
    assert_eq!(
        (first.mode, first.kind, first.gid),
        ("supervisor", "direct", Some(1))
    );
    assert_eq!(addr.send(End(Way::Handler)).await, Err(SendError::Lost));
    assert_eq!(addr.send(Add).await, Ok((1, 1)), "a fresh object");
    let second = in_life(&site, "counter", 1).await;
    assert_ne!(
        (first.aid, &first.capability),
        (second.aid, &second.capability),
        "SPEC H6"
    );
    assert_eq!(second.restarts, 1);
    let how = second.last_end.unwrap();
    assert!(how.starts_with("panicked at "), "{how}");
    assert!(
        how.contains("cast.rs:") && how.ends_with("told to fail in a handler"),
        "{how}"
    );
    let life = addr.send(Who).await.unwrap();
    assert_eq!(Some(life.aid().0), second.aid);
    assert_eq!(
        life.capability().unwrap().to_string(),
        second.capability.unwrap()
    );
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h8_every_panic_is_a_failure_and_so_is_a_stop() {
    let site = site().await;
    let how = Supervise::new("counter", GROUP).on(On::Own);
    let addr = site.supervise(how, Counter::new).await.unwrap();
    let ways = [
        (Way::Handler, "told to fail in a handler"),
        (Way::Future, "told to fail in a future"),
        (Way::Beside, "told to fail beside"),
        (Way::Stop, "stopped without the exit handler"),
    ];
    for (life, (way, said)) in (1..).zip(ways) {
        let _ = addr.send(End(way)).await;
        let how = in_life(&site, "counter", life).await.last_end.unwrap();
        assert!(how.ends_with(said), "{way:?}: {how}");
    }
    assert_eq!(addr.send(AnswerBeside).await, Err(SendError::Lost));
    let how = in_life(&site, "counter", 5).await.last_end.unwrap();
    assert!(how.ends_with("told to fail in an answer"), "{how}");
    site.halt().await.unwrap();
}

/// Panics in its constructor or when it is started, if it is told to.
struct Fragile;

impl Actor for Fragile {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Context<Self>) {
        panic!("told to fail when started");
    }
}

#[tokio::test]
async fn h8_a_panic_in_the_factory_is_a_failure_of_that_life() {
    let site = site().await;
    let factory = |life: &hr_ctrl::supervise::Life| {
        assert!(life.no().0 != 1, "told to fail in the factory");
        Counter::new(life)
    };
    let addr = site
        .supervise(Supervise::new("counter", GROUP), factory)
        .await
        .unwrap();
    let _ = addr.send(End(Way::Handler)).await;
    assert_eq!(
        addr.send(Add).await,
        Ok((1, 2)),
        "the life between failed in its factory"
    );
    let how = in_life(&site, "counter", 2).await.last_end.unwrap();
    assert!(how.ends_with("told to fail in the factory"), "{how}");
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h33_a_life_that_fails_when_it_is_started_meets_the_limit() {
    let stop = hr_ctrl::policy::PolicyParts {
        max_restarts: Some(3),
        past_limit: Some(hr_ctrl::policy::PastLimit::Stop),
        ..Default::default()
    };
    let site = super::cast::site_with(stop).await;
    let fragile = Supervise::new("fragile", GROUP);
    site.supervise(fragile, |_| Fragile).await.unwrap();
    let stopped = row(&site, "fragile", |row| row.state == "stopped").await;
    assert_eq!(
        (stopped.life, stopped.restarts),
        (Some(3), 3),
        "three restarts were allowed"
    );
    assert!(
        stopped
            .last_end
            .unwrap()
            .ends_with("told to fail when started")
    );
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h22_a_group_whose_members_all_end_cleanly_terminates() {
    let site = site().await;
    let one = site
        .supervise(Supervise::new("one", GROUP), Counter::new)
        .await
        .unwrap();
    let two = site
        .supervise(Supervise::new("two", GROUP), Counter::new)
        .await
        .unwrap();
    one.send(End(Way::Clean)).await.unwrap();
    let row = row(&site, "one", |row| row.state == "clean").await;
    assert_eq!(row.last_end.as_deref(), Some("clean"));
    assert!(one.is_registered(), "SPEC H5");
    let _ = two.send(End(Way::CleanPanic)).await;
    until("the group has terminated", || async {
        site.actors().await.unwrap().is_empty().then_some(())
    })
    .await;
    until("its addresses are told", || async {
        (!one.is_registered()).then_some(())
    })
    .await;
    assert_eq!(one.send(Add).await, Err(SendError::Gone));
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h9_a_member_that_ended_cleanly_begins_again_with_its_group() {
    let site = site().await;
    let one = site
        .supervise(Supervise::new("one", GROUP), Counter::new)
        .await
        .unwrap();
    let two = site
        .supervise(Supervise::new("two", GROUP), Counter::new)
        .await
        .unwrap();
    one.send(End(Way::Clean)).await.unwrap();
    row(&site, "one", |row| row.state == "clean").await;
    let waits = one.send(Add);
    let _ = two.send(End(Way::Handler)).await;
    assert_eq!(
        waits.await,
        Ok((1, 1)),
        "what was sent to it meanwhile has waited"
    );
    in_life(&site, "two", 1).await;
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h24_a_kill_ends_the_group_and_h4_its_name_may_be_registered_again() {
    let site = site().await;
    let addr = site
        .supervise(Supervise::new("counter", GROUP), Counter::new)
        .await
        .unwrap();
    let again = site
        .supervise(Supervise::new("counter", GROUP), Counter::new)
        .await;
    assert!(again.unwrap_err().to_string().contains("already alive"));
    let aid = in_life(&site, "counter", 0).await.aid.unwrap();
    site.kill(KillTarget::Aid(Aid(aid)), false).await.unwrap();
    assert!(site.actors().await.unwrap().is_empty());
    until("its address is told", || async {
        (!addr.is_registered()).then_some(())
    })
    .await;
    let stale = site
        .kill(KillTarget::Aid(Aid(aid)), false)
        .await
        .unwrap_err();
    assert!(matches!(stale, SiteError::Refused(_)), "{stale}");
    let addr = site
        .supervise(Supervise::new("counter", GROUP), Counter::new)
        .await
        .unwrap();
    assert_eq!(addr.send(Add).await, Ok((1, 0)));
    site.halt().await.unwrap();
}

/// Tells when it is stopped, and when it is dropped.
struct Tidy {
    stopped: Arc<AtomicU32>,
    dropped: Arc<AtomicU32>,
}

impl Actor for Tidy {
    type Context = Context<Self>;
    fn stopped(&mut self, _: &mut Context<Self>) {
        self.stopped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Tidy {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_tidy_kill_tells_the_actor_and_a_plain_one_does_not() {
    let site = site().await;
    for (tidy, told) in [(true, 1), (false, 0)] {
        let (stopped, dropped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let counters = (Arc::clone(&stopped), Arc::clone(&dropped));
        let factory = move |_: &_| Tidy {
            stopped: Arc::clone(&counters.0),
            dropped: Arc::clone(&counters.1),
        };
        site.supervise(Supervise::new("tidy", GROUP), factory)
            .await
            .unwrap();
        site.kill(KillTarget::Group(GROUP), tidy).await.unwrap();
        let seen = (
            stopped.load(Ordering::SeqCst),
            dropped.load(Ordering::SeqCst),
        );
        assert_eq!(seen, (told, 1), "tidy: {tidy}");
    }
    site.halt().await.unwrap();
}

/// Spawns beside itself what counts under the number of its life.
struct Busy;

impl Busy {
    fn new(life: &hr_ctrl::supervise::Life, turns: &Arc<[AtomicU32; 2]>) -> Self {
        let (no, turns) = (life.no().0 as usize, Arc::clone(turns));
        actix_rt::spawn(async move {
            loop {
                turns[no.min(1)].fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert!(
                    no > 0 || turns[0].load(Ordering::SeqCst) < 20,
                    "life 0 fails"
                );
            }
        });
        Self
    }
}

impl Actor for Busy {
    type Context = Context<Self>;
}

#[tokio::test]
async fn invariant_1_nothing_that_a_life_has_spawned_runs_beside_the_next() {
    let site = site().await;
    let turns: Arc<[AtomicU32; 2]> = Arc::default();
    let seen = Arc::clone(&turns);
    let busy = Supervise::new("busy", GROUP);
    site.supervise(busy, move |life| Busy::new(life, &turns))
        .await
        .unwrap();
    in_life(&site, "busy", 1).await;
    let before = seen[0].load(Ordering::SeqCst);
    until("life 1 has its turns", || async {
        (seen[1].load(Ordering::SeqCst) > 20).then_some(())
    })
    .await;
    assert_eq!(seen[0].load(Ordering::SeqCst), before, "life 0 is gone");
    site.halt().await.unwrap();
}

#[tokio::test]
async fn an_arbiter_that_ends_takes_its_actor_along_and_is_told() {
    let site = site().await;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_rt::System::new().block_on(async {
            let arbiter = actix_rt::Arbiter::new();
            sender.send(arbiter.handle()).unwrap();
            arbiter.join().unwrap();
        });
    });
    let arbiter = receiver.recv().unwrap();
    let how = Supervise::new("counter", GROUP).on(On::Arbiter(arbiter.clone()));
    let addr = site.supervise(how, Counter::new).await.unwrap();
    assert_eq!(addr.send(Add).await, Ok((1, 0)));
    arbiter.stop();
    let failed = row(&site, "counter", |row| row.state == "failed").await;
    assert_eq!(failed.last_end.as_deref(), Some("its arbiter has ended"));
    assert_eq!(addr.send(Add).await, Err(SendError::Gone));
    // Its name is still registered: it begins again with the factory that it is given now.
    let addr = site
        .supervise(Supervise::new("counter", GROUP), Counter::new)
        .await
        .unwrap();
    let (count, life) = addr.send(Add).await.unwrap();
    assert!(count == 1 && life > 0, "life {life}");
    site.halt().await.unwrap();
}
