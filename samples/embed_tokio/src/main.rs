//! A site inside a program on plain tokio, with all of its threads: `embed_tokio BANK`.
//!
//! A shell script that fails is restarted twice, as the policy of its group allows, and then given up. What
//! happens is read from the site's stream of events, and counted by a supervisor actor.

use std::path::Path;

use actix::{Actor, Context, Handler, Message};
use anyhow::{Context as _, Result};
use hr_ctrl::embed::EmbeddedSite;
use hr_ctrl::events::{Heard, SiteEvent};
use hr_ctrl::policy::{PastLimit, PolicyParts};
use hr_ctrl::site::{Site, StartSpec};
use hr_ctrl::supervise::{Supervise, SupervisedAddr};
use hr_ctrl::{ActorName, Gid};

const SCRIPTS: Gid = Gid(1);
const COUNTERS: Gid = Gid(2);

/// Counts lives.
struct Counter(u32);

impl Actor for Counter {
    type Context = Context<Self>;
}

/// One more; answers how many there were.
#[derive(Message)]
#[rtype(result = "u32")]
struct Another;

impl Handler<Another> for Counter {
    type Result = u32;
    fn handle(&mut self, _: Another, _: &mut Context<Self>) -> u32 {
        self.0 += 1;
        self.0
    }
}

/// Fails in each of its lives.
fn flaky() -> Result<StartSpec> {
    let script = "echo this is life $REFRAIN_LIFE; sleep 0.05; exit 3";
    Ok(StartSpec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), std::env::var("PATH")?)],
        gid: Some(SCRIPTS),
        ..StartSpec::new(ActorName::new("flaky")?, "sh")
    })
}

/// Tells what happens until the group of scripts is given up and the end of each of its lives was told.
async fn watch(site: &EmbeddedSite, counter: &SupervisedAddr<Counter>) -> Result<()> {
    let mut events = site.events();
    let (mut alive, mut is_given_up) = (0, false);
    while (alive > 0 || !is_given_up)
        && let Some(heard) = events.next().await
    {
        match heard {
            Heard::Event(SiteEvent::Started {
                actor, life, gid, ..
            }) if gid == Some(SCRIPTS) => {
                alive += 1;
                let lives = counter.send(Another).await?;
                println!("{actor} begins life {life}, the {lives}. that was seen");
            }
            Heard::Event(SiteEvent::Ended {
                actor, life, cause, ..
            }) => {
                alive -= 1;
                let cause = cause.unwrap_or_default();
                println!("{actor} has ended life {life}: {cause}");
            }
            Heard::Event(SiteEvent::GroupRestarted { gid, badness, .. }) => {
                println!("group {gid} was restarted, badness {badness}");
            }
            Heard::Event(SiteEvent::GroupStopped { gid, reason, .. }) => {
                println!("group {gid} is given up: {reason}");
                is_given_up = true;
            }
            Heard::Event(_) => {}
            Heard::Missed(count) => println!("{count} events were missed"),
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let bank = std::env::args().nth(1).context("usage: embed_tokio BANK")?;
    let name = Path::new(&bank).file_name().context("a bank has a name")?;
    let policy = PolicyParts {
        max_restarts: Some(2),
        past_limit: Some(PastLimit::Stop),
        ..PolicyParts::default()
    };
    let site = Site::builder(&name.to_string_lossy())
        .bank(&bank)
        .keep_on_halt(false)
        .group(SCRIPTS, policy)
        .start()
        .await?;
    let counter = Supervise::new("counter", COUNTERS);
    let counter = site.supervise(counter, |_| Counter(0)).await?;
    site.run(flaky()?).await?;
    // A handle is Send: it may be used from any thread of the runtime.
    let site = tokio::spawn(async move {
        let watched = watch(&site, &counter).await;
        watched.map(|()| site)
    });
    let site = site.await??;
    let log = site.log("flaky").unwrap_or_default();
    print!("{}", String::from_utf8_lossy(&log));
    site.halt().await?;
    Ok(())
}
