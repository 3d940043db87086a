//! Persistent memory of supervisor actors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Actor, Context, Handler, Message};
use hr_ctrl::Gid;
use hr_ctrl::supervise::{Life, Supervise};
use refrain::{Block, HR_GROUP_KEY};

use super::cast::{Counter, End, Way, Who, in_life, row, site, until};

const GROUP: Gid = Gid(3);

/// Counts in a block.
struct Keeper {
    block: Block,
}

impl Keeper {
    fn new(life: &Life) -> Self {
        let actor = life.attach().unwrap();
        let block = actor.pmm_allocate("kept", 4096, HR_GROUP_KEY).unwrap();
        Self { block }
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;
}

/// Adds one, and panics if it is told to.
#[derive(Message)]
#[rtype(result = "u64")]
struct Count {
    then_panic: bool,
}

impl Handler<Count> for Keeper {
    type Result = u64;
    fn handle(&mut self, count: Count, _: &mut Context<Self>) -> u64 {
        let words = self.block.words();
        let sum = words[0].fetch_add(1, Ordering::SeqCst) + 1;
        words[place(sum)].fetch_add(sum, Ordering::SeqCst);
        assert!(!count.then_panic, "counted {sum}");
        sum
    }
}

/// Where a number is added up, somewhere in the page.
fn place(sum: u64) -> usize {
    1 + usize::try_from(sum % 511).unwrap()
}

/// The whole page.
#[derive(Message)]
#[rtype(result = "Vec<u64>")]
struct Content;

impl Handler<Content> for Keeper {
    type Result = Vec<u64>;
    fn handle(&mut self, _: Content, _: &mut Context<Self>) -> Vec<u64> {
        let words = self.block.words().iter();
        words.map(|word| word.load(Ordering::SeqCst)).collect()
    }
}

#[tokio::test]
async fn h15_a_thousand_panics_lose_nothing_that_is_in_a_block() {
    let site = site().await;
    let addr = site
        .supervise(Supervise::new("keeper", GROUP), Keeper::new)
        .await
        .unwrap();
    let mut expected = vec![0; 512];
    for sum in 1..=1000 {
        let then_panic = true;
        addr.send(Count { then_panic }).await.unwrap_err();
        expected[0] = sum;
        expected[place(sum)] += sum;
    }
    assert_eq!(addr.send(Content).await, Ok(expected));
    let row = row(&site, "keeper", |row| row.life >= Some(1000)).await;
    assert_eq!((row.life, row.restarts), (Some(1000), 1000), "{row:?}");
    assert!(row.last_end.unwrap().ends_with("counted 1000"));
    site.halt().await.unwrap();
}

/// Two members see one block at one address.
struct Peer;

impl Actor for Peer {
    type Context = Context<Self>;
}

#[tokio::test]
async fn h11_members_of_one_site_share_a_block_at_its_one_address() {
    let site = site().await;
    let places: Arc<[AtomicU64; 2]> = Arc::default();
    let lives = Arc::new(AtomicU64::new(0));
    for (at, name) in ["left", "right"].into_iter().enumerate() {
        let (places, lives) = (Arc::clone(&places), Arc::clone(&lives));
        let peer = Supervise::new(name, GROUP);
        let factory = move |life: &Life| {
            let actor = life.attach().unwrap();
            let block = actor.pmm_allocate("shared", 8192, HR_GROUP_KEY).unwrap();
            places[at].store(block.as_ptr().as_ptr() as u64, Ordering::SeqCst);
            lives.store(
                block.words()[1].fetch_add(1, Ordering::SeqCst) + 1,
                Ordering::SeqCst,
            );
            Peer
        };
        site.supervise(peer, factory).await.unwrap();
        in_life(&site, name, 0).await;
    }
    until("both have begun", || async {
        (lives.load(Ordering::SeqCst) == 2).then_some(())
    })
    .await;
    let [left, right] = [0, 1].map(|at| places[at].load(Ordering::SeqCst));
    assert!(left != 0 && left == right, "{left:#x} {right:#x}");
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h18_blocks_go_with_the_group_and_h19_other_groups_do_not_reach_them() {
    let site = site().await;
    let keeper = site
        .supervise(Supervise::new("keeper", GROUP), Keeper::new)
        .await
        .unwrap();
    let other = site
        .supervise(Supervise::new("other", Gid(1)), Counter::new)
        .await
        .unwrap();
    keeper.send(Count { then_panic: false }).await.unwrap();
    let stranger = other.send(Who).await.unwrap();
    let refused = stranger
        .attach()
        .unwrap()
        .pmm_allocate("kept", 4096, HR_GROUP_KEY);
    assert!(refused.unwrap_err().to_string().contains("kept"));
    let blocks = || async { site.memory().await.unwrap().blocks };
    assert_eq!(blocks().await.len(), 1);
    site.kill(hr_ctrl::site::KillTarget::Group(GROUP), false)
        .await
        .unwrap();
    until("its block is freed", || async {
        blocks().await.is_empty().then_some(())
    })
    .await;
    site.halt().await.unwrap();
}

#[tokio::test]
async fn invariant_7_a_life_that_has_ended_is_refused() {
    let site = site().await;
    let addr = site
        .supervise(Supervise::new("counter", GROUP), Counter::new)
        .await
        .unwrap();
    let old = addr.send(Who).await.unwrap();
    let actor = old.attach().unwrap();
    actor.pmm_allocate("mine", 4096, HR_GROUP_KEY).unwrap();
    let _ = addr.send(End(Way::Handler)).await;
    let new = addr.send(Who).await.unwrap();
    assert!(
        new.attach()
            .unwrap()
            .pmm_allocate("mine", 4096, HR_GROUP_KEY)
            .unwrap()
            .existed()
    );
    // PMM is told of the end off the path.
    until("its requests are refused", || async {
        actor.pmm_free("mine").err()
    })
    .await;
    assert_ne!(old.capability(), new.capability());
    site.halt().await.unwrap();
}

#[tokio::test]
async fn h21_the_exit_handler_of_the_attached_actor_is_the_same() {
    let site = site().await;
    let addr = site
        .supervise(Supervise::new("counter", GROUP), Counter::new)
        .await
        .unwrap();
    addr.send(Who)
        .await
        .unwrap()
        .attach()
        .unwrap()
        .hr_exit_hdl();
    let _ = addr.send(End(Way::Handler)).await;
    until("the group has terminated", || async {
        site.actors().await.unwrap().is_empty().then_some(())
    })
    .await;
    site.halt().await.unwrap();
}
