//! A program that may crash, and whose user actors run on: `embed_nucleus BANK [ANSWER_TIMEOUT_MS]`.
//!
//! It puts itself below a nucleus, runs two programs and a supervisor actor, and tells who runs. Kill it, as
//! hard as you like: it is started again and says so. The lighthouse has not noticed; the keeper, whose group
//! has lost a member with the program, is in its next life. Ctrl-C ends everything.

use std::path::Path;

use actix::{Actor, Context};
use anyhow::{Context as _, Result};
use hr_ctrl::embed::{Nucleus, under_nucleus};
use hr_ctrl::events::{Heard, SiteEvent};
use hr_ctrl::site::{Site, StartSpec};
use hr_ctrl::supervise::Supervise;
use hr_ctrl::{ActorName, Gid};

const LIGHTHOUSE: Gid = Gid(1);
const KEEPERS: Gid = Gid(2);

/// The supervisor actor.
struct Log;

impl Actor for Log {
    type Context = Context<Self>;
}

/// A user actor: any program will do.
fn sleeper(name: &str, gid: Gid) -> Result<StartSpec> {
    Ok(StartSpec {
        argv: vec!["sleep".to_owned(), "1000".to_owned()],
        env: vec![("PATH".to_owned(), std::env::var("PATH")?)],
        gid: Some(gid),
        ..StartSpec::new(ActorName::new(name)?, "sleep")
    })
}

async fn run(bank: &str, site: &str, nucleus: Nucleus, timeout_ms: Option<u64>) -> Result<()> {
    let (life, pid) = (nucleus.life(), std::process::id());
    let before = nucleus.last_end().unwrap_or("nothing").to_owned();
    let mut tunables = hr_ctrl::Tunables::default();
    tunables.hr_ctrl.answer_timeout_ms = timeout_ms.unwrap_or(tunables.hr_ctrl.answer_timeout_ms);
    let site = Site::builder(site)
        .tunables(tunables)
        .bank(bank)
        .keep_on_halt(false)
        .actor(sleeper("lighthouse", LIGHTHOUSE)?)
        .actor(sleeper("keeper", KEEPERS)?)
        .nucleus(nucleus)
        .start()
        .await?;
    let mut events = site.events();
    let log = site
        .supervise(Supervise::new("log", KEEPERS), |_| Log)
        .await?;
    // In a life after the first, its group restarts at this moment.
    let is_back = |heard| matches!(heard, Heard::Event(SiteEvent::Started { actor, .. }) if actor.as_str() == "log");
    while let Some(heard) = events.next().await {
        if is_back(heard) {
            break;
        }
    }
    println!("program: pid {pid}, life {life}, after {before}");
    for actor in site.actors().await? {
        let (life, pid) = (
            actor.life.unwrap_or_default(),
            actor.pid.unwrap_or_default(),
        );
        println!("{}: pid {pid}, life {life}", actor.name);
    }
    println!("all told");
    site.ended().await?;
    drop(log);
    Ok(())
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let bank = args
        .next()
        .context("usage: embed_nucleus BANK [ANSWER_TIMEOUT_MS]")?;
    let timeout_ms = args.next().map(|word| word.parse()).transpose()?;
    let name = Path::new(&bank).file_name().context("a bank has a name")?;
    let name = name.to_string_lossy();
    // Before there is a second thread.
    let nucleus = under_nucleus(&name)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&bank, &name, nucleus, timeout_ms))
}
