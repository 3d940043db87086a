//! A machine that loses power at any moment, with the bank on a disk: what was not synced has reached
//! the medium in part, in any order, torn at any sector (`medium` says what may be). What an operation
//! had finished is there, what it had not is old or new, and what a start of the site has seen it
//! sees again.
//!
//! `REFRAIN_POWER_IMAGES=100000 cargo test -p refrain-pmm power_failure -- --nocapture` opens so
//! many; `REFRAIN_CRASH_SEED` chooses others.

use super::bench::{Bench, May, Place, TEARS, number};
use super::chance::Chance;
use super::medium::{Image, Kept};
use super::tally::Cut;
use super::world::{Change, OPERATIONS, World};
use crate::Medium;

/// How many images are opened where nobody says.
const IMAGES: u64 = 4_000;
/// Where so many states are possible at most, each is opened; of more, `SAMPLES` are.
const FEW: usize = 32;
const SAMPLES: u64 = 4;

/// Every state that a power failure may leave where they are few, some where they are many.
fn left(image: &Image, tear: usize, chance: &mut Chance) -> Vec<Image> {
    let mut every = Chance::every();
    let mut all = Vec::new();
    while all.len() < FEW {
        all.push(image.after_power_failure(tear, &mut every));
        if !every.again() {
            return all;
        }
    }
    let some = (0..SAMPLES).map(|_| image.after_power_failure(tear, chance));
    some.collect()
}

fn after(base: &Image, calls: &[Kept]) -> Image {
    let mut image = base.clone();
    calls.iter().for_each(|call| image.call(call));
    image
}

/// Power fails behind each call of a change, and in the recovery from it, and behind that.
fn fail_everywhere(bench: &mut Bench, change: &Change, place: &mut Place, chance: &mut Chance) {
    let all = change.calls.len();
    for done in 0..=all {
        let image = after(&change.base, &change.calls[..done]);
        let may = match done {
            0 => May::Old,
            done if done == all => May::New,
            _ => May::Both,
        };
        let tear = chance.of(&TEARS);
        for image in left(&image, tear, chance) {
            place.at = format!("power fails behind call {done}, torn at {tear}");
            let opened = bench.judge(&image, change, Cut::Torn(tear), may);
            if chance.one_in(4) {
                let calls = (image, opened.calls);
                fail_in_recovery(bench, change, &calls, opened.may, (Cut::Recovery, chance));
            }
        }
        if chance.one_in(4) {
            crash_first(bench, change, &image, place, chance);
        }
    }
}

/// The controller ends and the next one opens the bank; only then does the power fail.
fn crash_first(
    bench: &mut Bench,
    change: &Change,
    image: &Image,
    place: &mut Place,
    chance: &mut Chance,
) {
    place.at += "; the controller crashed before";
    let opened = bench.judge(image, change, Cut::Whole, May::Both);
    let calls = (image.clone(), opened.calls);
    fail_in_recovery(bench, change, &calls, opened.may, (Cut::Again, chance));
    if change.damage.is_none() {
        let (calls, seen) = bench.go_on(image, change);
        let image = after(image, &calls);
        let image = image.after_power_failure(chance.of(&TEARS), chance);
        bench.expect(&image, change, Cut::Again, &seen);
    }
}

/// Power fails somewhere in a recovery, and behind it: then it has to be what was seen.
fn fail_in_recovery(
    bench: &mut Bench,
    change: &Change,
    (base, calls): &(Image, Vec<Kept>),
    seen: May,
    (cut, chance): (Cut, &mut Chance),
) {
    if change.damage.is_some() {
        return;
    }
    for (done, may) in [
        (chance.below(calls.len() as u64 + 1) as usize, May::Both),
        (calls.len(), seen),
    ] {
        let image = after(base, &calls[..done]);
        let tear = chance.of(&TEARS);
        let image = image.after_power_failure(tear, chance);
        bench.judge(&image, change, cut, may);
    }
}

#[test]
fn h31_power_failure_behind_any_call_leaves_the_old_or_the_new_state() {
    let seed = number("REFRAIN_CRASH_SEED", 1);
    let images = number("REFRAIN_POWER_IMAGES", IMAGES);
    println!("seed {seed}");
    let mut bench = Bench::new();
    for what in OPERATIONS {
        let (change, mut chance) = World::first(Medium::Disk, what, seed);
        let mut place = Place::new(seed, &change);
        fail_everywhere(&mut bench, &change, &mut place, &mut chance);
    }
    let mut turn = seed;
    while bench.tally.total() < images {
        turn = turn.wrapping_add(1);
        wander(&mut bench, turn);
    }
    let tally = &bench.tally;
    println!("{tally}");
    println!(
        "{} images of a power failure opened: {} old, {} new, {} where both are the same, 0 neither-old-nor-new",
        tally.total(),
        tally.old,
        tally.new,
        tally.same
    );
}

/// A bank's life of operations by chance, in each of which power fails.
fn wander(bench: &mut Bench, seed: u64) {
    let mut chance = Chance::new(seed.wrapping_mul(0x9876_5432_1fed_cba9));
    let mut world = World::new(Medium::Disk);
    world.change("make", &mut chance);
    for _ in 0..40 {
        let Some(change) = world.any(&mut chance) else {
            continue;
        };
        let mut place = Place::new(seed, &change);
        fail_everywhere(bench, &change, &mut place, &mut chance);
    }
}
