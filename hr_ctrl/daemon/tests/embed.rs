//! A site inside another program: real actors, no nucleus.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use hr_ctrl::boot::BootRecord;
use hr_ctrl::embed;
use hr_ctrl::site::{ActorInfo, Notice, Site, StartSpec};
use refrain_abi::limits::ActorLimits;
use refrain_abi::{ActorName, Gid};
use refrain_sys::{PidFd, Signal};

const WATCHDOG: Duration = Duration::from_secs(30);

fn sleeper() -> StartSpec {
    StartSpec {
        name: ActorName::new("sleeper").unwrap(),
        program: "sleep".to_owned(),
        argv: vec!["sleep".to_owned(), "1000".to_owned()],
        env: vec![("PATH".to_owned(), std::env::var("PATH").unwrap())],
        cwd: "/".into(),
        umask: None,
        rlimits: Vec::new(),
        limits: ActorLimits::default(),
        user: None,
        no_new_privs: false,
        gid: Some(Gid(1)),
        in_place: false,
        fresh_layout: false,
        stopped: false,
        notice: Notice::Fault,
        policy: None,
        hang: Default::default(),
    }
}

async fn in_life(site: &Site, life: u32) -> ActorInfo {
    let start = Instant::now();
    loop {
        let actors = site.actors().await.unwrap();
        if let Some(actor) = actors
            .into_iter()
            .find(|actor| actor.life == Some(life) && actor.state == "running")
        {
            return actor;
        }
        assert!(start.elapsed() < WATCHDOG, "life {life} never came");
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn h9_an_embedded_site_restarts_what_fails_and_halts_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let bank = dir.path().join("bank");
    let name = format!("embedded-{}", std::process::id());
    actix_rt::System::new().block_on(async {
        let mut record = BootRecord::embedded(&name, bank.clone());
        record.tunables.pmm.keep_on_halt = Some(false);
        let second = record.clone();
        let site = embed::start(record).await.unwrap();
        let refused = embed::start(second).await.map(|_| ()).unwrap_err();
        assert!(refused.contains("in use"), "{refused}");
        let aid = site.site().run(sleeper()).await.unwrap();
        let first = in_life(site.site(), 0).await;
        assert_eq!(first.aid, Some(aid.0));
        let pidfd = PidFd::open(first.pid.unwrap()).unwrap();
        pidfd.send_signal(Signal::KILL).unwrap();
        let second = in_life(site.site(), 1).await;
        assert_ne!(first.pid, second.pid);
        site.site().restart().await.unwrap();
        let third = in_life(site.site(), 2).await;
        let pidfd = PidFd::open(third.pid.unwrap()).unwrap();
        site.halt().await.unwrap();
        assert!(pidfd.has_ended());
    });
    assert!(!bank.exists(), "the bank is discarded");
}
