//! A controller that ends at any instruction: every prefix of an operation's calls, and what of the
//! next call may be done, opened by the next one. The same of that one's recovery, and of the
//! recovery from that.
//!
//! `REFRAIN_CRASH_IMAGES=100000 cargo test -p refrain-pmm crash_images -- --nocapture` opens so many;
//! `REFRAIN_CRASH_SEED` chooses others.

use super::bench::{Bench, May, Place, Reopened, TEARS, number, pieces, torn};
use super::chance::Chance;
use super::medium::{Image, Kept};
use super::tally::Cut;
use super::world::{Change, OPERATIONS, World};
use crate::Medium;

/// How many images are opened where nobody says.
const IMAGES: u64 = 10_000;

fn allowed(done: usize, change: &Change) -> May {
    match done {
        0 => May::Old,
        done if done == change.calls.len() => May::New,
        _ => May::Both,
    }
}

fn can_tear(call: &Kept) -> bool {
    match call {
        Kept::Write(_, _, bytes) => bytes.len() > 8,
        Kept::Provide(..) => true,
        _ => false,
    }
}

/// The first `done` calls made.
fn prefix(base: &Image, calls: &[Kept], done: usize) -> Image {
    let mut image = base.clone();
    calls[..done].iter().for_each(|call| image.call(call));
    image
}

/// Every prefix of a change and of each write in it, and every prefix of the recovery of each.
fn exhaust(bench: &mut Bench, change: &Change, place: &mut Place) {
    for done in 0..=change.calls.len() {
        let image = prefix(&change.base, &change.calls, done);
        place.at = format!("behind call {done}");
        let opened = bench.judge(&image, change, Cut::Whole, allowed(done, change));
        recoveries(bench, change, &image, &opened);
        let Some(call) = change.calls.get(done) else {
            continue;
        };
        for tear in TEARS {
            let pieces = pieces(&image, call, tear);
            let mut image = image.clone();
            // Of a whole page in words one piece in eight, else each.
            let step = 1 + pieces.len() / 64;
            for (count, piece) in pieces
                .iter()
                .enumerate()
                .take(pieces.len().saturating_sub(1))
            {
                image.call(piece);
                if count % step != 0 {
                    continue;
                }
                place.at = format!("in call {done}, behind piece {count} of {tear} bytes");
                let opened = bench.judge(&image, change, Cut::Torn(tear), May::Both);
                if count == pieces.len() / 2 {
                    recoveries(bench, change, &image, &opened);
                }
            }
        }
    }
}

fn recoveries(bench: &mut Bench, change: &Change, image: &Image, opened: &Reopened) {
    if change.damage.is_some() {
        return;
    }
    for done in 1..opened.calls.len() {
        let image = prefix(image, &opened.calls, done);
        bench.judge(&image, change, Cut::Recovery, May::Both);
    }
}

/// Cuts a change off somewhere, and the recovery from that, and the recovery from that.
fn sample(bench: &mut Bench, change: &Change, place: &mut Place, chance: &mut Chance) {
    let (mut base, mut calls, mut cut) = (change.base.clone(), change.calls.clone(), Cut::Whole);
    loop {
        let mut done = chance.below(calls.len() as u64 + 1) as usize;
        let tear = !chance.one_in(3);
        if tear {
            let all = calls.iter().enumerate();
            let long = all.filter(|(_, call)| can_tear(call)).map(|(at, _)| at);
            let long: Vec<_> = long.chain([done]).collect();
            done = chance.of(&long);
        }
        let mut image = prefix(&base, &calls, done);
        let part = calls.get(done).filter(|_| tear);
        let part = part.and_then(|call| torn(&image, call, chance));
        place.at = format!("{cut} behind call {done} of {}, {part:?} done", calls.len());
        let may = match (cut, &part) {
            (Cut::Whole, None) => allowed(done, change),
            _ => May::Both,
        };
        if let Some((tear, part)) = part {
            part.iter().for_each(|piece| image.call(piece));
            if cut == Cut::Whole {
                cut = Cut::Torn(tear);
            }
        }
        let opened = bench.judge(&image, change, cut, may);
        if change.damage.is_some() || cut == Cut::Again || opened.calls.len() < 2 {
            return;
        }
        cut = match cut {
            Cut::Recovery => Cut::Again,
            _ => Cut::Recovery,
        };
        (base, calls) = (image, opened.calls);
    }
}

#[test]
fn h31_crash_images_of_every_operation_open_to_the_old_or_the_new_state() {
    let seed = number("REFRAIN_CRASH_SEED", 1);
    let images = number("REFRAIN_CRASH_IMAGES", IMAGES);
    println!("seed {seed}");
    let mut bench = Bench::new();
    for medium in [Medium::Ram, Medium::Disk] {
        for what in OPERATIONS {
            let (change, _) = World::first(medium, what, seed);
            let mut place = Place::new(seed, &change);
            exhaust(&mut bench, &change, &mut place);
        }
    }
    println!(
        "every prefix of each operation: {} images",
        bench.tally.total()
    );
    let mut turn = seed;
    while bench.tally.total() < images {
        turn = turn.wrapping_add(1);
        wander(&mut bench, turn);
    }
    let tally = &bench.tally;
    println!("{tally}");
    println!(
        "{} crash images of the bank opened: {} old, {} new, {} where both are the same, 0 neither-old-nor-new",
        tally.total(),
        tally.old,
        tally.new,
        tally.same
    );
}

/// A bank's life of operations by chance, each cut off in a few places.
fn wander(bench: &mut Bench, seed: u64) {
    let mut chance = Chance::new(seed.wrapping_mul(0x1234_5678_9abc_def1));
    let medium = chance.of(&[Medium::Ram, Medium::Disk]);
    let mut world = World::new(medium);
    world.change("make", &mut chance);
    for _ in 0..60 {
        let Some(change) = world.any(&mut chance) else {
            continue;
        };
        let mut place = Place::new(seed, &change);
        for _ in 0..4 {
            sample(bench, &change, &mut place, &mut chance);
        }
    }
}
