//! A site inside an actix program: `embed_actix BANK [--hang]`.
//!
//! A shop adds up what its customers pay. The tally is a supervisor actor: it panics at a payment of nothing, is
//! back before the next one, and finds its sum in a block of persistent memory. A user actor is in the same
//! restart group, so both begin a new life then.
//!
//! With `--hang` the program does not end by itself. Kill it, as hard as you like, and start it again with the
//! same bank: the sum goes on, and so do the numbers of the lives.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::prelude::*;
use anyhow::{Context as _, Result, ensure};
use hr_ctrl::site::{Site, StartSpec};
use hr_ctrl::supervise::{Life, Supervise, SupervisedAddr};
use hr_ctrl::{ActorName, Gid};
use refrain::{Block, HR_GROUP_KEY};

const GROUP: Gid = Gid(1);

/// The supervisor actor: one object for each life.
struct Tally {
    life: Life,
    block: Block,
}

impl Tally {
    /// The factory. A panic here is a failure of the life, too.
    fn new(life: &Life) -> Self {
        let attached = life.attach().expect("the site serves its lives");
        let block = attached.pmm_allocate("tally", 4096, HR_GROUP_KEY);
        let block = block.expect("the bank has room for a page");
        let life = life.clone();
        Self { life, block }
    }

    /// What is left of all lives before.
    fn sum(&self) -> &AtomicU64 {
        &self.block.words()[0]
    }
}

impl Actor for Tally {
    type Context = Context<Self>;
}

/// A payment; answers the sum, and the number of the life that has it.
#[derive(Message)]
#[rtype(result = "(u64, u32)")]
struct Pay(u64);

impl Handler<Pay> for Tally {
    type Result = MessageResult<Pay>;
    fn handle(&mut self, Pay(amount): Pay, _: &mut Context<Self>) -> Self::Result {
        assert!(amount > 0, "somebody paid nothing");
        let sum = self.sum().fetch_add(amount, Ordering::SeqCst) + amount;
        MessageResult((sum, self.life.no().0))
    }
}

/// An actix actor as there are in any program. It holds the address of the tally once and for all.
struct Customer {
    tally: SupervisedAddr<Tally>,
}

impl Actor for Customer {
    type Context = Context<Self>;
}

/// Pays these amounts, one after the other.
#[derive(Message)]
#[rtype(result = "Vec<Option<(u64, u32)>>")]
struct Shop(Vec<u64>);

impl Handler<Shop> for Customer {
    type Result = ResponseFuture<Vec<Option<(u64, u32)>>>;
    fn handle(&mut self, Shop(amounts): Shop, _: &mut Context<Self>) -> Self::Result {
        let tally = self.tally.clone();
        Box::pin(async move {
            let mut answers = Vec::new();
            for amount in amounts {
                answers.push(tally.send(Pay(amount)).await.ok());
            }
            answers
        })
    }
}

/// The user actor: any program will do.
fn neighbour() -> Result<StartSpec> {
    Ok(StartSpec {
        argv: vec!["sleep".to_owned(), "1000".to_owned()],
        env: vec![("PATH".to_owned(), std::env::var("PATH")?)],
        gid: Some(GROUP),
        ..StartSpec::new(ActorName::new("neighbour")?, "sleep")
    })
}

#[actix::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let bank = args.next().context("usage: embed_actix BANK [--hang]")?;
    let hangs = args.next().is_some_and(|word| word == "--hang");
    let name = Path::new(&bank).file_name().context("a bank has a name")?;
    let site = Site::builder(&name.to_string_lossy())
        .bank(&bank)
        .keep_on_halt(false)
        .actor(neighbour()?)
        .start()
        .await?;
    let tally = site
        .supervise(Supervise::new("tally", GROUP), Tally::new)
        .await?;
    let customer = Customer { tally }.start();
    let answers = customer.send(Shop(vec![1, 2, 0, 3])).await?;
    ensure!(answers[2].is_none(), "that life has failed");
    let (sum, life) = answers[3].context("the next one answers")?;
    println!("the tally is {sum} in life {life}");
    for actor in site.actors().await? {
        let how = actor.last_end.unwrap_or_default();
        println!("{} ({}), group {GROUP}: {how}", actor.name, actor.mode);
    }
    if hangs {
        println!("kill me");
        std::future::pending::<()>().await;
    }
    site.halt().await?;
    Ok(())
}
