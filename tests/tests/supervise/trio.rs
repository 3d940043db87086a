//! One group of a C actor, a Rust user actor and a supervisor actor: whoever crashes, the three restart as one.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

use actix::{Actor, Context, Handler, Message};
use hr_ctrl::Gid;
use hr_ctrl::events::{Events, Heard, SiteEvent};
use hr_ctrl::site::{ActorInfo, Site, StartSpec};
use hr_ctrl::supervise::{Life, Supervise, SupervisedAddr};
use hr_ctrl::{ActorName, supervise::SendError};
use refrain::{Block, HR_GROUP_KEY};
use refrain_tests::binaries;
use refrain_tests::programs::with_libhr_file;
use tempfile::TempDir;

use super::cast::{in_life, site, until};

const GROUP: Gid = Gid(1);
const TRIO: [&str; 3] = ["c", "rust", "supervisor"];

/// Counts its lives in a block, signs each, and in the first one, when there is such a file, writes to nowhere.
const IN_C: &str = r#"
    #include <hr/hr.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
        PmmName name = { "RAM", "kept.c" };
        unsigned long *kept;
        if (argc < 2 || pmmAllocate((VmAddr *)&kept, &name, 4096, HR_GROUP_KEY, HR_GROUP_KEYSIZE) != K_OK)
            return 1;
        kept[kept[0] + 1] = 0xC000 + kept[0];
        kept[0] += 1;
        while (kept[0] != 1 || access(argv[1], F_OK) != 0)
            usleep(1000);
        *(volatile int *)0 = 1;
        return 0;
    }
"#;

/// Does the same in a block of its own, and looks into those of the others.
struct Member {
    life: Life,
    own: Block,
}

impl Member {
    fn new(life: &Life) -> Self {
        let own = block(life, "kept.supervisor");
        let words = own.words();
        let lives = words[0].load(SeqCst);
        words[usize::try_from(lives).unwrap() + 1].store(0x5000 + lives, SeqCst);
        words[0].store(lives + 1, SeqCst);
        let life = life.clone();
        Self { life, own }
    }
}

fn block(life: &Life, name: &str) -> Block {
    let actor = life.attach().unwrap();
    actor.pmm_allocate(name, 4096, HR_GROUP_KEY).unwrap()
}

fn content(block: &Block) -> Vec<u64> {
    block.words().iter().map(|word| word.load(SeqCst)).collect()
}

impl Actor for Member {
    type Context = Context<Self>;
}

/// What the blocks hold, in the order of [`TRIO`].
#[derive(Message)]
#[rtype(result = "[Vec<u64>; 3]")]
struct Contents;

impl Handler<Contents> for Member {
    type Result = actix::MessageResult<Contents>;
    fn handle(&mut self, _: Contents, _: &mut Context<Self>) -> Self::Result {
        let of = |name| content(&block(&self.life, name));
        actix::MessageResult([of("kept.c"), of("kept.rust"), content(&self.own)])
    }
}

/// A panic.
#[derive(Message)]
#[rtype(result = "()")]
struct Crash;

impl Handler<Crash> for Member {
    type Result = ();
    fn handle(&mut self, _: Crash, _: &mut Context<Self>) {
        panic!("told to crash");
    }
}

async fn user_actor(site: &Site, name: &str, gid: Gid, program: &Path, words: &[&str]) {
    let program = program.to_str().unwrap();
    let argv = [&[program], words].concat();
    let spec = StartSpec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        gid: Some(gid),
        ..StartSpec::new(ActorName::new(name).unwrap(), program)
    };
    site.run(spec).await.unwrap();
}

/// The three of them in a site, and a stranger in another group.
async fn trio(site: &Site, dir: &Path) -> SupervisedAddr<Member> {
    fs::write(dir.join("c.c"), IN_C).unwrap();
    let c = with_libhr_file(&dir.join("c.c"), dir);
    let groupie = binaries::path("groupie");
    let of = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (now, said) = (of("now.rust"), of("said"));
    // `point` keeps an address of the block in its second word, or compares it.
    let rust = "alloc kept.rust 4096 group add kept.rust point kept.rust on 1 wait";
    let rust: Vec<_> = rust.split(' ').collect();
    let rust = [&[said.as_str()], &rust[..], &[&now, "panic", "end", "park"]].concat();
    user_actor(site, "c", GROUP, &c, &[&of("now.c")]).await;
    user_actor(site, "rust", GROUP, &groupie, &rust).await;
    user_actor(site, "stranger", Gid(2), &groupie, &["-", "park"]).await;
    let supervisor = Supervise::new("supervisor", GROUP);
    site.supervise(supervisor, Member::new).await.unwrap()
}

/// Waits for a life of all three, and for each to have counted it.
async fn all_in_life(
    site: &Site,
    supervisor: &SupervisedAddr<Member>,
    life: u32,
) -> [ActorInfo; 3] {
    let mut rows = Vec::new();
    for name in TRIO {
        rows.push(in_life(site, name, life).await);
    }
    let counted = || async {
        let contents = supervisor.send(Contents).await.unwrap();
        let all = contents.iter().all(|kept| kept[0] == u64::from(life) + 1);
        (all && contents[1][1] != 0).then_some(contents)
    };
    let contents = until("each has counted its life", counted).await;
    for (kept, sign) in [(&contents[0], 0xC000), (&contents[2], 0x5000)] {
        let mut signed = vec![u64::from(life) + 1];
        signed.extend((0..=u64::from(life)).map(|life| sign + life));
        signed.resize(512, 0);
        assert_eq!(*kept, signed, "what every life before has signed is there");
    }
    rows.try_into().unwrap()
}

/// Who failed at each restart of the group, and how each life of it ended.
async fn told(mut events: Events) -> (Vec<String>, Vec<(String, u32, String)>) {
    let (mut failed, mut ends) = (Vec::new(), Vec::new());
    while let Some(heard) = events.next().await {
        match heard {
            Heard::Event(SiteEvent::GroupRestarted { failed: who, .. }) => {
                failed.push(who.to_string());
            }
            Heard::Event(SiteEvent::Ended {
                actor, life, cause, ..
            }) if TRIO.contains(&actor.as_str()) && life.0 < 3 => {
                ends.push((actor.to_string(), life.0, cause.unwrap_or_default()));
            }
            Heard::Event(_) => {}
            Heard::Missed(count) => panic!("{count} events were missed"),
        }
    }
    (failed, ends)
}

#[tokio::test]
async fn h9_a_c_actor_a_rust_actor_and_a_supervisor_actor_restart_as_one_whoever_crashes() {
    let dir = TempDir::with_prefix_in("trio-", "/dev/shm").unwrap();
    let site = site().await;
    let events = site.events();
    let supervisor = trio(&site, dir.path()).await;
    let stranger = in_life(&site, "stranger", 0).await;
    let mut before = all_in_life(&site, &supervisor, 0).await;
    for (life, victim) in (1..).zip(TRIO) {
        match victim {
            "supervisor" => assert_eq!(supervisor.send(Crash).await, Err(SendError::Lost)),
            user => fs::write(dir.path().join(format!("now.{user}")), "").unwrap(),
        }
        let rows = all_in_life(&site, &supervisor, life).await;
        for (new, old) in rows.iter().zip(&before) {
            assert_eq!(new.restarts, life, "{victim}: {new:?}");
            assert_ne!(new.aid, old.aid, "{victim}: {new:?}");
            assert_ne!(new.capability, old.capability, "{victim}: {new:?}");
            assert!(new.pid.is_none() || new.pid != old.pid, "{victim}: {new:?}");
            assert_eq!(new.pid.is_none(), new.name == "supervisor");
        }
        before = rows;
    }
    let same = in_life(&site, "stranger", 0).await;
    assert_eq!((same.aid, same.pid), (stranger.aid, stranger.pid));
    site.halt().await.unwrap();
    let (failed, ends) = told(events).await;
    assert_eq!(failed, TRIO, "three restarts, one for each crash");
    for (victim, crashed) in TRIO.iter().zip(0..) {
        for life in 0..3 {
            let how: Vec<_> = ends
                .iter()
                .filter(|end| end.0 == *victim && end.1 == life)
                .map(|end| end.2.as_str())
                .collect();
            let [how] = how[..] else {
                panic!("one end of life {life} of {victim}: {ends:?}");
            };
            let word = match (*victim, life == crashed) {
                ("c", true) => "SIGSEGV",
                ("rust", true) => "101",
                (_, true) => "told to crash",
                (_, false) => "kill",
            };
            assert!(
                how.to_lowercase().contains(&word.to_lowercase()),
                "{victim}, life {life}: {how}"
            );
        }
    }
    let said = fs::read_to_string(dir.path().join("said")).unwrap();
    let pointers: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("pointer"))
        .collect();
    let same = "pointer same";
    assert_eq!(pointers, ["pointer kept", same, same, same], "H11");
}
