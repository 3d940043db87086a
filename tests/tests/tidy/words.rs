//! Words: identifiers keep to SPEC's vocabulary, and no file names a machine.
//!
//! The thing that is loaded, run and restarted is an *actor*, one run of it a *life*. A Linux
//! process is called one where Linux itself is meant; those places stand in a table.

use crate::repo::{File, Finding, Repo};
use crate::tokens::{self, Token};

/// Words that other systems use for an actor.
const SYNONYMS: &[&str] = &["service", "task", "process"];

/// Where such a word is right: (path or folder, identifier or file name, why).
const RIGHT: &[(&str, &str, &str)] = &[
    ("", "kill_process", "rustix's name for kill(2)"),
    (
        "runtime/sys/src/process.rs",
        "kill_process_group",
        "rustix's name for killpg(2)",
    ),
    (
        "runtime/shim/",
        "lead_process_group",
        "setpgid(2) calls it that",
    ),
    (
        "runtime/actor/src/link.rs",
        "a_link_of_another_process",
        "a child that a life forked",
    ),
    (
        "runtime/sys/",
        "process",
        "the module about Linux processes",
    ),
    (
        "runtime/sys/src/spawn_child.rs",
        "PRIO_PROCESS",
        "a constant of setpriority(2)",
    ),
    (
        "runtime/sys/tests/",
        "zombie_processes",
        "processes that nobody has reaped yet",
    ),
    (
        "tests/",
        "processes",
        "whatever a site has left running, actor or not",
    ),
];

/// Texts that belong to one machine. In pieces, so that this file does not hold them.
const MACHINES: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("192.", "168."),
    concat!(".inter", "nal/"),
];

/// No identifier and no name of a Rust file uses a synonym of actor.
pub fn identifiers(repo: &Repo) -> Vec<Finding> {
    identifiers_but(repo, RIGHT)
}

fn identifiers_but(repo: &Repo, right: &[(&str, &str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut met = Vec::new();
    for file in repo.with_extension("rs") {
        for (line, word) in suspects(file) {
            let is_right = |e: &&(&str, &str, &str)| file.path.starts_with(e.0) && e.1 == word;
            match right.iter().find(is_right) {
                Some(entry) => met.push(entry),
                None => {
                    let what = format!("`{word}`: say actor, life or group (SPEC, vocabulary)");
                    findings.push(file.finding(line, what));
                }
            }
        }
    }
    for entry in right.iter().filter(|entry| !met.contains(entry)) {
        let what = format!("`{}` is allowed here and not used any more", entry.1);
        findings.push(Finding {
            path: entry.0.into(),
            line: 0,
            what,
        });
    }
    findings
}

/// Identifiers and the file's own name, where they hold a synonym; a segment of a path into a
/// library (`std::process::exit`, `tokio::task::yield_now`) is that library's word.
fn suspects(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let segments = file
        .path
        .split('/')
        .map(|segment| segment.trim_end_matches(".rs"));
    found.extend(
        segments
            .filter(|name| is_synonym(name))
            .map(|name| (0, name.to_string())),
    );
    let Ok(tokens) = tokens::tokens(&file.text) else {
        return found;
    };
    let mut in_use = false;
    for (at, token) in tokens.iter().enumerate() {
        let Some(word) = token.word() else {
            in_use &= !token.is_sign(';');
            continue;
        };
        in_use |= word == "use" && !tokens.get(at + 1).is_some_and(|next| next.is_sign('<'));
        if is_synonym(word) && !(SYNONYMS.contains(&word) && (in_use || in_path(&tokens, at))) {
            found.push((token.line, word.to_string()));
        }
    }
    found
}

fn in_path(tokens: &[Token], at: usize) -> bool {
    let colons = |pair: Option<&[Token]>| {
        pair.is_some_and(|pair| pair.iter().all(|token| token.is_sign(':')))
    };
    colons(tokens.get(at + 1..at + 3)) || at >= 2 && colons(tokens.get(at - 2..at))
}

/// Whether one of the words that `identifier` is made of is a synonym, plural included.
fn is_synonym(identifier: &str) -> bool {
    let mut words = vec![String::new()];
    let mut after_small = false;
    for c in identifier.chars() {
        if c == '_' || c == '-' || (c.is_uppercase() && after_small) {
            words.push(String::new());
        }
        after_small = c.is_lowercase();
        words
            .last_mut()
            .expect("never empty")
            .extend(c.to_lowercase().filter(|c| *c != '_'));
    }
    words
        .iter()
        .map(|word| word.trim_start_matches('-'))
        .any(|word| {
            SYNONYMS.iter().any(|s| {
                word == *s
                    || word
                        .strip_prefix(s)
                        .is_some_and(|rest| rest == "s" || rest == "es")
            })
        })
}

/// No text names a place that only one machine has.
pub fn machines(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.files() {
        for (number, line) in file.lines() {
            for place in MACHINES.iter().filter(|place| names(line, place)) {
                findings.push(file.finding(number, format!("names `{place}`")));
            }
        }
    }
    findings
}

/// Whether `place` stands in `line` as the beginning of a path, not inside a longer one.
fn names(line: &str, place: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_.~*-})>".contains(c);
    let absolute = place.starts_with('/');
    line.match_indices(place)
        .any(|(at, _)| !(absolute && line[..at].ends_with(inside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_with_a_foreign_word_is_found() {
        let text = "struct ServiceTable;\nfn spawn_task() {}\nlet processes = 1;\n\
                    struct Processor;\nlet multitasking = std::process::id();\n\
                    use std::{process, fs};\nlet process = process::id();\nlet mut service = 1;\n";
        let found = identifiers_but(&Repo::of(&[("a.rs", text)]), &[]);
        let lines: Vec<_> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [1, 2, 3, 7, 8]);
    }

    #[test]
    fn the_table_allows_a_word_in_its_place_only_and_is_kept_short() {
        let repo = Repo::of(&[
            ("x/process.rs", ""),
            ("x/lib.rs", "mod process;"),
            ("y/a.rs", ""),
        ]);
        assert_eq!(
            identifiers_but(&repo, &[("x/", "process", "Linux's own")]),
            []
        );
        assert_eq!(
            identifiers_but(&repo, &[("x/lib.rs", "process", "Linux's own")]).len(),
            1
        );
        let idle = [("x/", "process", "Linux's own"), ("y/", "task", "x")];
        assert_eq!(identifiers_but(&repo, &idle).len(), 1);
    }

    #[test]
    fn a_place_on_one_machine_is_found() {
        let bad = format!("cd {}x\nlet p = \"{}me\";\n", MACHINES[0], MACHINES[2]);
        let good = "~/x a/work/b $HOME/x {dir}/root/x docs/home/x\n";
        let found = machines(&Repo::of(&[("a.md", &bad), ("b.md", good)]));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].path, "a.md");
    }
}
