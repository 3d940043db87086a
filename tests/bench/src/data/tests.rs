//! Everybody does what is timed, at a small size: what is not right would be quick.

use std::sync::Mutex;

use tempfile::TempDir;

use super::peers::redis::Redis;
use super::subject::{Op, Subject, fresh, loaded};
use super::turns::{Contender, fill, measure};
use super::who::Who;

const COUNT: u64 = 1_000;
/// A store is mapped at a place of its own, where one test can have it at a time.
static PLACES: Mutex<()> = Mutex::new(());

fn all() -> impl Iterator<Item = Who> {
    Who::ALL.into_iter().filter(|who| who.missing().is_none())
}

#[test]
fn everybody_has_a_sample_of_each_operation_that_it_has() {
    let _mine = PLACES.lock();
    let dir = TempDir::new_in("/dev/shm").unwrap();
    let mut contenders: Vec<_> = all()
        .map(|who| {
            let mut subject = who.open::<64>(dir.path(), COUNT).unwrap();
            fill(&mut *subject, COUNT).unwrap();
            Contender::new(who, subject)
        })
        .collect();
    measure(&mut contenders, COUNT, 1, "data, a test").unwrap();
    for one in contenders {
        for (op, samples) in Op::ALL.into_iter().zip(&one.samples) {
            assert_eq!(one.subject.can(op), !samples.is_empty(), "{:?}", one.who);
        }
    }
}

#[test]
fn what_was_put_and_updated_is_found_and_what_was_taken_out_is_not() {
    let _mine = PLACES.lock();
    let dir = TempDir::new_in("/dev/shm").unwrap();
    for who in all() {
        let mut subject = who.open::<1024>(dir.path(), COUNT).unwrap();
        if !subject.can(Op::Get) {
            continue;
        }
        subject.load(&[loaded(1), loaded(2)]).unwrap();
        subject.put(&[fresh(1)]).unwrap();
        subject.update(&[loaded(1)]).unwrap();
        subject.get(&[loaded(1), fresh(1), loaded(2)]).unwrap();
        subject.unload(&[fresh(1), loaded(2)]).unwrap();
        subject.get(&[loaded(1)]).unwrap();
        for key in [fresh(1), loaded(2)] {
            assert!(subject.get(&[key]).is_err(), "{who:?} has key {key}");
            assert!(subject.update(&[key]).is_err(), "{who:?} has key {key}");
        }
    }
}

#[test]
fn a_redis_that_appends_has_after_a_kill_what_it_had_before() {
    if let Some(why) = Who::Redis.missing() {
        eprintln!("{why}");
        return;
    }
    let dir = TempDir::new_in("/dev/shm").unwrap();
    let mut redis = Redis::<64>::start(dir.path(), true).unwrap();
    redis.load(&[loaded(1), loaded(2)]).unwrap();
    redis.put(&[fresh(1)]).unwrap();
    // It is killed.
    drop(redis);
    let mut redis = Redis::<64>::start(dir.path(), true).unwrap();
    redis.get(&[loaded(1), loaded(2), fresh(1)]).unwrap();
    assert!(redis.get(&[fresh(2)]).is_err());
}
