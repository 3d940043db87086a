//! Groups that restart as one, of both kinds of actors.

use hr_ctrl::site::{Site, StartSpec};
use hr_ctrl::supervise::{On, Supervise, SupervisedAddr};
use hr_ctrl::{ActorName, Gid};
use refrain_sys::{PidFd, Signal};

use super::cast::{Add, Counter, End, Way, in_life, site};

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
    let addr = site.supervise(Supervise::new("counter", GROUP), Counter::new).await.unwrap();
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
    let addr = site.supervise(Supervise::new("counter", GROUP), Counter::new).await.unwrap();
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
    let refused = site.supervise(Supervise::new("user", GROUP), Counter::new).await;
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("registered as a user actor"), "{why}");
    site.halt().await.unwrap();
}
