//! A test actor that asks its controller for something all the time, and finds out whether each request was
//! carried out just once: `asker BLOCK`. What it finds is in the block BLOCK of its group:
//!
//! | word | meaning |
//! | --- | --- |
//! | 0 | rounds that were gone through |
//! | 1 | requests of which the controller did not know whether they were carried out |
//! | 2 | answers that are wrong |
//! | 3 | lives that have begun |

use std::sync::atomic::Ordering::SeqCst;

use refrain::{Block, DeletionKey, ErrorCode, HR_GROUP_KEY};

const SCRATCH: &str = "scratch";

fn main() {
    let me = refrain::attach().expect("a life of a site");
    let name = std::env::args().nth(1).expect("the name of a block");
    let notes = refrain::pmm_allocate(&name, 4096, HR_GROUP_KEY).expect("a block");
    let words = notes.words();
    words[3].fetch_add(1, SeqCst);
    let wrong = |what: &str| {
        println!("wrong: {what}");
        words[2].fetch_add(1, SeqCst);
    };
    // The life before may have ended in the middle of a round.
    allocate().words()[0].store(0, SeqCst);
    loop {
        let round = words[0].load(SeqCst);
        let scratch = allocate();
        if scratch.existed() && scratch.words()[0].load(SeqCst) != 0 {
            wrong("a block that was freed is there");
        }
        scratch.words()[0].store(round + 1, SeqCst);
        drop(scratch);
        match refrain::hr_get_actor_group(me.aid()) {
            Ok(gid) if gid == me.gid() => {}
            other => wrong(&format!("my group is {other:?}")),
        }
        match refrain::pmm_free(SCRATCH) {
            Ok(()) => {}
            Err(error) if error.code() == Some(ErrorCode::Again) => {
                words[1].fetch_add(1, SeqCst);
                let scratch = allocate();
                let found = scratch.words()[0].load(SeqCst);
                if found != 0 && found != round + 1 {
                    wrong("a block of another round");
                }
                scratch.words()[0].store(0, SeqCst);
            }
            // Nobody else frees it: the request was carried out before.
            Err(error) => wrong(&format!("a block cannot be freed: {error}")),
        }
        words[0].fetch_add(1, SeqCst);
    }
}

/// The block of this round: new, or left by a free that was not carried out.
fn allocate() -> Block {
    let key = DeletionKey::opaque(b"asker").expect("a short key");
    loop {
        match refrain::pmm_allocate(SCRATCH, 4096, key) {
            Ok(block) => return block,
            Err(error) if error.code() == Some(ErrorCode::Again) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
