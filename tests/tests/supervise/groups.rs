//! Groups that restart as one, of both kinds of actors.

use hr_ctrl::events::{Heard, SiteEvent};
use hr_ctrl::policy::{PastLimit, PolicyParts};
use hr_ctrl::site::{KillTarget, Site, StartSpec};
use hr_ctrl::supervise::{On, Supervise, SupervisedAddr};
use hr_ctrl::{ActorName, Gid};
use refrain_sys::{PidFd, Signal};

use super::cast::{Add, Counter, End, Way, Who, in_life, row, site, site_with, until};

const GROUP: Gid = Gid(1);

/// A user actor.
async fn sleeper(site: &Site, name: &str, gid: Gid) {
    let spec = StartSpec {
        argv: vec!["sleep".to_owned(), "1000".to_owned()],
        env: vec![("PATH".to_owned(), std::env::var("PATH").unwrap())],
        gid: Some(gid),
        ..StartSpec::new(ActorName::new(name).unwrap(), "sleep")
    };
    site.run(spec).await.unwrap();
}

#[tokio::test]
async fn h9_a_mixed_group_restarts_as_one_whoever_fails() {
    let site = site().await;
    sleeper(&site, "user", GROUP).await;
    sleeper(&site, "stranger", Gid(2)).await;
    let addr = site
        .supervise(Supervise::new("counter", GROUP), Counter::new)
        .await
        .unwrap();
    let mut pid = in_life(&site, "user", 0).await.pid.unwrap();
    for life in 1..=6 {
        if life % 2 == 1 {
            let _ = addr.send(End(Way::Handler)).await;
        } else {
            PidFd::open(pid).unwrap().send_signal(Signal::KILL).unwrap();
        }
        let user = in_life(&site, "user", life).await;
        in_life(&site, "counter", life).await;
        assert_ne!(user.pid, Some(pid));
        pid = user.pid.unwrap();
    }
    assert_eq!(addr.send(Add).await, Ok((1, 6)));
    in_life(&site, "stranger", 0).await;
    site.halt().await.unwrap();
}

/// The members of a group of supervisor actors.
async fn members(site: &Site, count: u32, on: impl Fn(u32) -> On) -> Vec<SupervisedAddr<Counter>> {
    let mut members = Vec::new();
    for number in 0..count {
        let how = Supervise::new(&format!("member-{number}"), GROUP).on(on(number));
        members.push(site.supervise(how, Counter::new).await.unwrap());
    }
    members
}

async fn all_in_life(site: &Site, count: u32, life: u32) {
    for number in 0..count {
        in_life(site, &format!("member-{number}"), life).await;
    }
}

#[tokio::test]
async fn h9_a_group_on_one_arbiter_restarts_as_one() {
    let site = site().await;
    let members = members(&site, 20, |_| On::Group).await;
    for life in 1..=20 {
        for member in &members {
            assert_eq!(member.send(Add).await, Ok((1, life - 1)), "each is fresh");
        }
        let _ = members[life as usize % 20].send(End(Way::Handler)).await;
        all_in_life(&site, 20, life).await;
    }
    site.halt().await.unwrap();
}

/// How the last end of an actor was noticed.
async fn notice(site: &Site, name: &str) -> &'static str {
    let rows = site.actors().await.unwrap();
    let row = rows.into_iter().find(|row| row.name == name);
    row.unwrap().notice.unwrap()
}

#[tokio::test]
async fn h9_a_group_on_one_arbiter_restarts_in_place_and_is_booked() {
    let site = site().await;
    let mut events = site.events();
    let members = members(&site, 5, |_| On::Group).await;
    let mut in_place = 0;
    for life in 1..=50 {
        let failing = life as usize % 5;
        let _ = members[failing].send(End(Way::Handler)).await;
        // The first failure may come before HR_CTRL has allowed anything, and take a while.
        all_in_life(&site, 5, life).await;
        for member in &members {
            assert_eq!(member.send(Add).await, Ok((1, life)));
        }
        let who = members[0].send(Who).await.unwrap();
        assert!(
            who.aid().0 > 0 && who.capability().is_some(),
            "it is booked"
        );
        let row = in_life(&site, "member-0", life).await;
        assert_eq!((row.restarts, row.aid), (life, Some(who.aid().0)));
        in_place += u32::from(notice(&site, "member-0").await == "in place");
    }
    assert!(in_place >= 45, "{in_place} of 50 were in place");
    site.halt().await.unwrap();
    let (mut started, mut ended, mut restarts) = (0, 0, 0);
    while let Some(heard) = events.next().await {
        match heard {
            Heard::Event(SiteEvent::Started { .. }) => started += 1,
            Heard::Event(SiteEvent::Ended { .. }) => ended += 1,
            Heard::Event(SiteEvent::GroupRestarted { badness, .. }) => {
                restarts += 1;
                assert_eq!(badness, restarts);
            }
            Heard::Event(_) => {}
            Heard::Missed(count) => panic!("{count} events were missed"),
        }
    }
    assert_eq!((started, ended, restarts), (5 * 51, 5 * 51, 50));
}

#[tokio::test]
async fn h26_restarts_in_place_count_and_the_limit_holds() {
    let stop = PolicyParts {
        max_restarts: Some(5),
        past_limit: Some(PastLimit::Stop),
        ..PolicyParts::default()
    };
    let site = site_with(stop).await;
    let members = members(&site, 3, |_| On::Group).await;
    for _ in 0..6 {
        // As fast as it can: whatever is booked, and whatever is not.
        let _ = members[1].send(End(Way::Handler)).await;
    }
    let stopped = row(&site, "member-1", |row| row.state == "stopped").await;
    assert_eq!((stopped.life, stopped.restarts), (Some(5), 5));
    for name in ["member-0", "member-2"] {
        let other = row(&site, name, |row| row.state == "stopped").await;
        assert_eq!(other.life, Some(5), "{name}");
    }
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h24_a_kill_and_a_failure_at_the_same_moment_leave_nothing() {
    let site = site().await;
    for round in 0..100 {
        let members = members(&site, 3, |_| On::Group).await;
        all_in_life(&site, 3, 0).await;
        let failing = members[round % 3].send(End(Way::Handler));
        let killed = site.kill(KillTarget::Group(GROUP), false).await;
        killed.unwrap();
        let _ = failing.await;
        assert!(site.actors().await.unwrap().is_empty(), "round {round}");
    }
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h25_site_restarts_and_failures_at_the_same_moment_lose_nobody() {
    let site = site().await;
    let members = members(&site, 3, |_| On::Group).await;
    for round in 0..50 {
        let failing = members[round % 3].send(End(Way::Handler));
        site.restart().await.unwrap();
        let _ = failing.await;
        for member in &members {
            until("it answers", || async { member.send(Add).await.ok() }).await;
        }
    }
    let rows = site.actors().await.unwrap();
    let lives: Vec<_> = rows.iter().map(|row| row.life).collect();
    assert!(
        lives
            .iter()
            .all(|life| *life == lives[0] && *life >= Some(50)),
        "{rows:?}"
    );
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h9_a_group_on_arbiters_of_their_own_restarts_as_one() {
    let site = site().await;
    let on = |number| if number < 2 { On::Own } else { On::Group };
    let members = members(&site, 4, on).await;
    for life in 1..=8 {
        let _ = members[life as usize % 4].send(End(Way::Handler)).await;
        all_in_life(&site, 4, life).await;
        for member in &members {
            assert_eq!(member.send(Add).await, Ok((1, life)));
        }
    }
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h25_a_site_restart_begins_supervisor_actors_too() {
    let site = site().await;
    sleeper(&site, "user", Gid(2)).await;
    let addr = site
        .supervise(Supervise::new("counter", GROUP), Counter::new)
        .await
        .unwrap();
    site.restart().await.unwrap();
    in_life(&site, "user", 1).await;
    in_life(&site, "counter", 1).await;
    assert_eq!(addr.send(Add).await, Ok((1, 1)));
    site.halt().await.unwrap();
}

#[tokio::test]
async fn a_name_has_one_mode_as_long_as_it_is_registered() {
    let site = site().await;
    sleeper(&site, "user", GROUP).await;
    let refused = site
        .supervise(Supervise::new("user", GROUP), Counter::new)
        .await;
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("registered as a user actor"), "{why}");
    site.halt().await.unwrap();
}
