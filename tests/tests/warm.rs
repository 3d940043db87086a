//! Warm images (SPEC H34): a life makes its state the image, and later lives begin there.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::path::{Path, PathBuf};

use refrain_tests::programs::{c_program, installed, with_libhr};
use refrain_tests::{Options, Row, Site, binaries, proc, wait};
use rustix::process::Signal;
use serde_json::Value;

/// `warm.c`, linked with `libhr`.
fn warm_c(site: &Site) -> PathBuf {
    with_libhr("warm", site.dir())
}

/// A Python program of this package, and what it needs beside it; `None` without Python.
fn python(site: &Site, program: &str) -> Option<(PathBuf, String)> {
    let python = installed("python3")?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let module = here.join("../runtime/capi/python/refrain.py");
    fs::copy(module, site.file("refrain.py")).unwrap();
    fs::copy(binaries::path("libhr.so"), site.file("libhr.so")).unwrap();
    // Python looks for modules beside the program that it runs.
    let place = site.file(program);
    fs::copy(here.join("actors/python").join(program), &place).unwrap();
    Some((python, place.display().to_string()))
}

/// Runs `program WORDS OUT LOADS` as `name` in a group; the words of both files are the site's.
fn run(site: &Site, gid: &str, name: &str, program: &[&str]) {
    let out = site.file(&format!("{name}.out")).display().to_string();
    let loads = site.file(&format!("{name}.loads")).display().to_string();
    let mut words = vec!["-g", gid, "-n", name, program[0]];
    words.extend(&program[1..]);
    words.extend([out.as_str(), loads.as_str()]);
    site.arun(words);
}

/// Waits for the line of life `life`, and the row of its actor.
fn line_of(site: &Site, name: &str, life: usize) -> (String, Row) {
    let lines = site.wait_lines(&format!("{name}.out"), life + 1);
    (lines[life].clone(), site.runs(name, life as u32))
}

fn loads(site: &Site, name: &str) -> usize {
    site.lines(&format!("{name}.loads")).len()
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let mut words = line.split(' ');
    words
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {name} in {line}"))
}

fn template_of(row: &Row) -> u32 {
    proc::stat(row.pid()).unwrap().parent
}

#[test]
fn h34_a_c_program_begins_its_later_lives_where_it_made_its_image() {
    let site = Options::new().never_bad().start();
    let program = warm_c(&site);
    run(&site, "1", "warm", &[program.to_str().unwrap()]);
    let mut first = None;
    for life in 0..4 {
        let (line, row) = line_of(&site, "warm", life);
        assert_eq!(
            field(&line, "image"),
            if life == 0 { "0" } else { "1" },
            "{line}"
        );
        let number = life.to_string();
        assert_eq!(
            (field(&line, "life"), field(&line, "number")),
            (&*number, &*number)
        );
        assert_eq!(
            field(&line, "value"),
            "4711",
            "as it was when the image was made"
        );
        // A pointer into the environment stays good, and a second call changes nothing.
        assert_eq!(
            (field(&line, "kept"), field(&line, "again")),
            ("1", "2"),
            "{line}"
        );
        let table = first.get_or_insert_with(|| field(&line, "table").to_owned());
        assert_eq!(field(&line, "table"), table, "H11");
        assert_eq!(row.image, "warm");
        // It names itself: whoever looks it up by its name finds the life.
        let comm = fs::read_to_string(format!("/proc/{}/comm", row.pid())).unwrap();
        assert_eq!(comm.trim(), "warm");
        proc::kill(row.pid(), Signal::SEGV);
    }
    let (_, row) = line_of(&site, "warm", 4);
    assert_eq!(
        row.last_end.as_deref().map(|end| end.contains("SIGSEGV")),
        Some(true)
    );
    assert_eq!(loads(&site, "warm"), 1, "the table was loaded once");
    let log = wait::until("five lives in the log", || {
        Some(site.ok("log warm")).filter(|log| log.contains("life 4"))
    });
    assert_eq!(log.matches("table loaded").count(), 1, "{log}");
    assert_eq!(log.matches("life ").count(), 5, "{log}");
}

#[test]
fn h34_a_rust_program_has_new_credentials_and_its_blocks_in_each_life() {
    let site = Options::new().never_bad().start();
    let program = binaries::path("warmer");
    run(&site, "1", "warmer", &[program.to_str().unwrap()]);
    let (first, row) = line_of(&site, "warmer", 0);
    assert_eq!(field(&first, "image"), "Made");
    proc::kill(row.pid(), Signal::KILL);
    let (second, row) = line_of(&site, "warmer", 1);
    assert_eq!(
        (field(&second, "image"), field(&second, "life")),
        ("Begun", "1")
    );
    assert_eq!(field(&second, "aid"), row.aid().to_string());
    assert_ne!(field(&second, "aid"), field(&first, "aid"));
    assert_eq!(
        (field(&first, "lives"), field(&second, "lives")),
        ("0", "1")
    );
    assert_eq!(field(&second, "stale"), "false", "invariant 7: {second}");
    for kept in ["table", "sum"] {
        assert_eq!(field(&first, kept), field(&second, kept));
    }
    assert_eq!(
        (field(&first, "again"), field(&second, "again")),
        ("Stands", "Stands")
    );
    assert_eq!(loads(&site, "warmer"), 1);
    let log = wait::until("two lives in the log", || {
        Some(site.ok("log warmer")).filter(|log| log.contains("life 1"))
    });
    assert_eq!(log.matches("not flushed").count(), 1, "{log}");
}

#[test]
fn h34_a_python_program_imports_once() {
    let site = Options::new().never_bad().start();
    let Some((python, program)) = python(&site, "warm.py") else {
        return;
    };
    let python = python.to_str().unwrap();
    run(&site, "1", "warmpy", &[python, &program]);
    let mut seen: Vec<Value> = Vec::new();
    for life in 0..3 {
        let (line, row) = line_of(&site, "warmpy", life);
        let said: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(said["image"], u32::from(life > 0), "{said}");
        assert_eq!(
            (&said["life"], &said["pid"]),
            (&life.into(), &row.pid().into())
        );
        assert_eq!(said["environ"], life.to_string());
        assert_eq!((&said["seven"], &said["sum"]), (&7.into(), &"0.3".into()));
        assert_eq!(row.image, "warm");
        seen.push(said);
        proc::kill(row.pid(), Signal::SEGV);
    }
    assert_eq!(seen[0]["id"], seen[2]["id"], "H11");
    assert_ne!(
        seen[1]["drawn"], seen[2]["drawn"],
        "random is seeded in each life"
    );
    line_of(&site, "warmpy", 3);
    assert_eq!(loads(&site, "warmpy"), 1, "imported once");
    let log = site.ok("log warmpy");
    assert_eq!(log.matches("imported").count(), 1, "{log}");
}

#[test]
fn h34_when_the_warm_template_dies_the_next_life_starts_cold_and_makes_another() {
    let site = Options::new().never_bad().start();
    let program = binaries::path("warmer");
    run(&site, "1", "warmer", &[program.to_str().unwrap()]);
    let (_, row) = line_of(&site, "warmer", 0);
    proc::kill(row.pid(), Signal::KILL);
    let (_, row) = line_of(&site, "warmer", 1);
    let template = template_of(&row);
    proc::kill(template, Signal::KILL);
    let row = site.wait_row("warmer", |row| row.image == "cold");
    assert!(row.runs(1), "the life goes on: {row:?}");
    proc::kill(row.pid(), Signal::KILL);
    let (line, row) = line_of(&site, "warmer", 2);
    assert_eq!(field(&line, "image"), "Made");
    assert_eq!((loads(&site, "warmer"), &*row.image), (2, "warm"));
    proc::kill(row.pid(), Signal::KILL);
    let (line, _) = line_of(&site, "warmer", 3);
    assert_eq!(
        (field(&line, "image"), loads(&site, "warmer")),
        ("Begun", 2)
    );
}

#[test]
fn h34_a_group_and_the_site_restart_a_warm_member_from_its_image() {
    let mut site = Options::new().never_bad().start();
    let program = binaries::path("warmer");
    run(&site, "1", "warmer", &[program.to_str().unwrap()]);
    line_of(&site, "warmer", 0);
    site.actor(1, "other", "crasher", &["park"]);
    let other = site.runs("other", 0);
    proc::kill(other.pid(), Signal::KILL);
    let (line, _) = line_of(&site, "warmer", 1);
    assert_eq!(field(&line, "image"), "Begun");
    site.runs("other", 1);
    site.ok("restart");
    let (line, row) = line_of(&site, "warmer", 2);
    assert_eq!(
        (field(&line, "image"), loads(&site, "warmer")),
        ("Begun", 1)
    );
    let template = template_of(&row);
    site.ok("akill -g 1");
    site.wait_forgotten("warmer");
    wait::until_true("the end of the warm template", || {
        proc::stat(template).is_none()
    });
    // Panics if anything is left: processes, cgroups, files.
    site.halt(0);
}

#[test]
fn h34_the_first_template_goes_with_the_life_that_made_the_image() {
    let site = Options::new().never_bad().start();
    let program = binaries::path("warmer");
    run(&site, "1", "warmer", &[program.to_str().unwrap()]);
    let (_, row) = line_of(&site, "warmer", 0);
    let cold = template_of(&row);
    assert!(proc::stat(cold).is_some());
    proc::kill(row.pid(), Signal::KILL);
    let (_, row) = line_of(&site, "warmer", 1);
    assert_ne!(template_of(&row), cold);
    wait::until_true("the end of the cold template", || {
        proc::stat(cold).is_none()
    });
}

#[test]
fn h34_what_is_in_the_way_of_an_image_is_named() {
    let site = Options::new().never_bad().start();
    let program = binaries::path("warmer").display().to_string();
    for (obstacle, wanted) in [
        (
            "thread",
            "with 2 threads: call image_here before the others start",
        ),
        ("child", "with children: wait for them"),
        ("file", "(/dev/zero); close them"),
        ("block", "block early is mapped; call pmm_allocate after"),
    ] {
        let name = format!("with_{obstacle}");
        let out = format!("{name}.out");
        let [said, loads] = [&out, &"loads".to_owned()].map(|file| site.file(file));
        let files = [said, loads].map(|file| file.display().to_string());
        let [said, loads] = files.each_ref().map(String::as_str);
        let words = ["-g", "1", "-n", &name, &program, said, loads, obstacle];
        site.arun(words);
        let line = site.wait_lines(&out, 1).remove(0);
        assert!(
            line.starts_with("error: ") && line.contains(wanted),
            "{line}"
        );
        assert_eq!(site.runs(&name, 0).image, "cold");
    }
}

#[test]
fn h34_only_a_restartable_actor_that_was_forked_can_have_an_image() {
    let site = Options::new().never_bad().start();
    let program = binaries::path("warmer").display().to_string();
    let said = |name: &str, flags: &[&str]| {
        let out = format!("{name}.out");
        let files = [out.as_str(), "loads"].map(|file| site.file(file).display().to_string());
        let mut words = flags.to_vec();
        words.extend(["-n", name, &program]);
        words.extend(files.iter().map(String::as_str));
        site.arun(words);
        site.wait_lines(&out, 1).remove(0)
    };
    // An ordinary actor starts by exec.
    let line = said("ordinary", &[]);
    assert!(line.contains("started by exec"), "{line}");
    let line = said("fresh", &["-g", "1", "--layout", "fresh"]);
    assert!(line.contains("use --layout same"), "{line}");
}

#[test]
fn a_template_that_is_not_the_lifes_own_is_not_taken() {
    let site = Options::new().never_bad().start();
    let Some((python, program)) = python(&site, "forger.py") else {
        return;
    };
    let other = c_program("whereabouts", site.dir());
    let out = site.file("other").display().to_string();
    site.arun(["-g", "2", other.to_str().unwrap(), &out]);
    let victim = site.runs("whereabouts", 0).pid();
    let (out, pid) = (site.file("said").display().to_string(), victim.to_string());
    let python = python.to_str().unwrap();
    site.arun(["-g", "1", "-n", "forger", python, &program, &out, &pid]);
    let line = site.wait_lines("said", 1).remove(0);
    assert!(
        line.starts_with("105 no image: ") && line.contains("none of its own"),
        "{line}"
    );
    assert_eq!(site.runs("forger", 0).image, "cold");
    // And nobody was harmed by what the life has claimed.
    site.ok("akill -g 1");
    assert_eq!(site.runs("whereabouts", 0).pid(), victim);
}
