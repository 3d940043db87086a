//! One target for its time: the engine as a program of its own, so that whatever an input does to it
//! is seen from outside, and what it said read afterwards.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use refrain_fuzz::{SCRATCH_VAR, TARGET_VAR, Target, corpus, home};

use crate::Options;

/// An input that takes longer is a finding, in seconds.
const TIMEOUT: u32 = 10;
/// An engine that takes more memory has met a finding, in mebibytes.
const MEMORY: u32 = 1024;
/// How much a corpus may grow to by `--keep`, in bytes.
const CORPUS: u64 = 24 << 10;
/// How many lines of the engine's are shown at a finding.
const LAST_WORDS: usize = 30;

/// What a signal from outside ends the engine by: SIGINT, SIGKILL, SIGTERM. Those that an input can provoke
/// are handled by libFuzzer, which says so and keeps the input.
const FROM_OUTSIDE: [i32; 3] = [2, 9, 15];

/// What came of a target.
#[derive(Debug)]
pub struct Outcome {
    /// Nothing was found.
    pub sound: bool,
    /// How many inputs it was given.
    pub inputs: u64,
    /// How many edges of the program were reached.
    pub edges: u64,
    /// The most memory that the engine took, in mebibytes.
    pub memory: u64,
    /// The signal by which somebody has killed the engine. That is no finding.
    pub killed: Option<i32>,
    /// The end of what the engine said.
    pub last_words: Vec<String>,
}

/// Runs a target.
pub fn target(
    engine: &Path,
    target: &Target,
    scratch: &Path,
    options: &Options,
    seed: u32,
) -> anyhow::Result<Outcome> {
    let place = scratch.join(target.name);
    let (work, found) = (place.join("work"), place.join("found"));
    for directory in [&work, &found] {
        fs::create_dir_all(directory)?;
    }
    let words = place.join("words");
    fs::write(&words, dictionary(target))?;
    let kept = corpus(target);
    fs::create_dir_all(&kept)?;
    let crashes = home().join("crashes");
    fs::create_dir_all(&crashes)?;
    let log = place.join("log");
    let status = engine_for(engine, target, &work, &log)?
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!(
            "-artifact_prefix={}/{}-",
            crashes.display(),
            target.name
        ))
        .arg(format!("-dict={}", words.display()))
        .arg(format!("-seed={}", seed.max(1)))
        .args(["-use_value_profile=1", "-print_final_stats=1"])
        .args([&found, &kept])
        .status()
        .context("the engine cannot be run")?;
    if options.keep && status.success() {
        keep(engine, target, &work, &found, &kept)?;
    }
    let said = fs::read(&log)?;
    let killed = status
        .signal()
        .filter(|signal| FROM_OUTSIDE.contains(signal));
    Ok(Outcome {
        killed,
        ..outcome(status.success(), &String::from_utf8_lossy(&said))
    })
}

fn engine_for(engine: &Path, target: &Target, work: &Path, log: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(engine);
    let said = File::create(log)?;
    command
        .env(TARGET_VAR, target.name)
        .env(SCRATCH_VAR, work)
        .stdout(said.try_clone()?)
        .stderr(said)
        .arg(format!("-max_len={}", target.longest))
        .arg(format!("-timeout={TIMEOUT}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg("-detect_leaks=0");
    Ok(command)
}

/// The words of a target as libFuzzer reads them.
fn dictionary(target: &Target) -> String {
    let mut text = String::new();
    for word in target.words {
        text.push('"');
        for byte in word.bytes() {
            // Writing to a text cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
        text.push_str("\"\n");
    }
    text
}

/// Adds to the corpus what reaches more than it does, the smallest first.
fn keep(
    engine: &Path,
    target: &Target,
    work: &Path,
    found: &Path,
    kept: &Path,
) -> anyhow::Result<()> {
    let before = sizes(kept)?;
    let log = work.with_file_name("merge.log");
    engine_for(engine, target, work, &log)?
        .arg("-merge=1")
        .args([kept, found])
        .status()
        .context("the engine cannot be run")?;
    let mut total: u64 = before.iter().map(|(size, _)| size).sum();
    let mut new = sizes(kept)?;
    new.retain(|entry| !before.contains(entry));
    new.sort();
    for (size, path) in new {
        total += size;
        if total > CORPUS {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn sizes(directory: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let entries = fs::read_dir(directory)?;
    let entries = entries.map(|entry| {
        let entry = entry?;
        Ok((entry.metadata()?.len(), entry.path()))
    });
    entries.collect()
}

/// Reads what libFuzzer said.
fn outcome(sound: bool, said: &str) -> Outcome {
    let number = |key: &str| {
        let mut found = said.lines().rev().filter_map(|line| line.split_once(key));
        let text = found.next().map_or("", |(_, rest)| rest.trim_start());
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.len().saturating_sub(LAST_WORDS);
    Outcome {
        sound,
        inputs: number("stat::number_of_executed_units:"),
        edges: number(" cov: "),
        memory: number("stat::peak_rss_mb:"),
        killed: None,
        last_words: lines[last..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_figures_are_read() {
        let said = "#5\tINITED cov: 12 ft: 3\n#9\tDONE   cov: 34 ft: 34 corp: 3/9b\n\
            stat::number_of_executed_units: 831912\nstat::peak_rss_mb:              27\n";
        let outcome = outcome(true, said);
        assert_eq!(
            (outcome.inputs, outcome.edges, outcome.memory),
            (831_912, 34, 27)
        );
        assert_eq!(outcome.last_words.len(), 4);
    }

    #[test]
    fn every_word_is_escaped_in_full() {
        let target = refrain_fuzz::targets::find("frames").unwrap();
        let text = dictionary(target);
        assert_eq!(text.lines().count(), target.words.len());
        assert!(text.starts_with("\"\\x01\\x00\\x00\\x00\"\n"), "{text}");
    }
}
