//! A test actor that makes its state the image of later lives (SPEC H34), or tries to with something in
//! the way: `warmer OUT LOADS [OBSTACLE]`. A line a life goes into OUT, one into LOADS each time that
//! the state was made.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use refrain::{HR_GROUP_KEY, Image};

fn say(path: &str, line: &str) {
    let file = File::options().create(true).append(true).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{line}"));
    written.expect("a line can be written");
}

/// Puts something in the way; answers what holds it there.
fn put(obstacle: &str) -> Box<dyn std::any::Any> {
    match obstacle {
        "thread" => Box::new(thread::spawn(|| {
            loop {
                thread::park();
            }
        })),
        "child" => Box::new(
            Command::new("sleep")
                .arg("1000")
                .spawn()
                .expect("sleep runs"),
        ),
        "file" => Box::new(File::open("/dev/zero").expect("there are zeros")),
        "block" => Box::new(refrain::pmm_allocate("early", 4096, HR_GROUP_KEY).expect("a block")),
        other => panic!("{other}: not an obstacle"),
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let [out, loads] = [(); 2].map(|()| words.next().expect("OUT and LOADS"));
    let held = words.next().map(|obstacle| put(&obstacle));
    say(&loads, "loaded");
    let first = refrain::attach().expect("an actor");
    let table: Vec<u64> = (0..1 << 16).map(|n| n * n).collect();
    print!("not flushed; ");

    let image = match refrain::image_here() {
        Ok(image) => image,
        Err(why) => {
            say(&out, &format!("error: {why}"));
            loop {
                thread::park();
            }
        }
    };
    drop(held);
    let me = refrain::attach().expect("an actor still");
    // Of the life that made the image; in a later one it speaks for nobody.
    let stale = image == Image::Begun && first.pmm_allocate("x", 4096, HR_GROUP_KEY).is_ok();
    let block = me
        .pmm_allocate("lives", 4096, HR_GROUP_KEY)
        .expect("a block");
    let lives = block.atomic_u64(0).expect("a word").fetch_add(1, SeqCst);
    say(
        &out,
        &format!(
            "image={image:?} life={} aid={} lives={lives} table={:p} sum={} stale={stale} again={:?}",
            me.life(),
            me.aid(),
            table.as_ptr(),
            table.iter().fold(0_u64, |sum, n| sum.wrapping_add(*n)),
            refrain::image_here().expect("it stands"),
        ),
    );
    println!("life {}", me.life());
    loop {
        thread::park();
    }
}
