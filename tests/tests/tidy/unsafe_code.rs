//! `unsafe`: where it may stand, and that it says why it is sound.
//!
//! The compiler refuses `unsafe` in a crate until a module allows it; this rule keeps the list
//! of modules that may. Clippy asks for the reason of a block; this rule asks for it also at
//! `unsafe impl`, `unsafe extern`, unsafe attributes, and inside macros.

use crate::repo::{File, Finding, Repo};
use crate::tokens::{self, Kind, Token};
use proc_macro2::Delimiter;

/// Modules that are there to hold it (STYLE, house rules).
const DOORS: &[&str] = &[
    "runtime/sys/",
    "runtime/pmm/src/mapping.rs",
    // Where references into shared pages are made (docs/adr/0025).
    "runtime/data/src/region.rs",
    "runtime/data/src/cell.rs",
    "runtime/data/src/log/mod.rs",
    "runtime/data/src/map/places.rs",
    "tests/step/src/ptrace.rs",
    "runtime/data/src/heap",
    "runtime/shim/",
    "runtime/capi/",
    // heed's calls that open a file are unsafe.
    "tests/bench/src/data/peers/lmdb.rs",
];

/// Programs that do wrong on purpose: (path, how often, what for). A ratchet.
const ON_PURPOSE: &[(&str, usize, &str)] = &[
    (
        "samples/hello_restart/src/fault.rs",
        2,
        "a load from null, in assembler",
    ),
    (
        "samples/restart_spawn/src/bin/HR_parent/fault.rs",
        3,
        "faults of the machine, in assembler",
    ),
];

/// `unsafe` stands in [`DOORS`] and [`ON_PURPOSE`] only.
pub fn places(repo: &Repo) -> Vec<Finding> {
    places_but(repo, ON_PURPOSE)
}

fn places_but(repo: &Repo, on_purpose: &[(&str, usize, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.with_extension("rs") {
        if DOORS.iter().any(|door| file.path.starts_with(door)) {
            continue;
        }
        let lines: Vec<_> = unsafe_tokens(file)
            .into_iter()
            .map(|(line, _)| line)
            .collect();
        match on_purpose.iter().find(|entry| entry.0 == file.path) {
            None => findings.extend(lines.iter().map(|line| {
                file.finding(
                    *line,
                    "`unsafe` may not stand here; add a safe call to runtime/sys",
                )
            })),
            Some((_, allowed, _)) if *allowed != lines.len() => findings.push(file.finding(
                0,
                format!("{} times `unsafe`, the table says {allowed}", lines.len()),
            )),
            Some(_) => {}
        }
    }
    for (path, ..) in on_purpose
        .iter()
        .filter(|entry| repo.get(entry.0).is_none())
    {
        let what = "in the table of unsafe on purpose and not there any more".into();
        findings.push(Finding {
            path: (*path).into(),
            line: 0,
            what,
        });
    }
    findings
}

/// Each `unsafe` has a `SAFETY:` comment, an unsafe function its `# Safety`.
pub fn reasons(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.with_extension("rs") {
        let lines: Vec<_> = file.text.lines().collect();
        for (line, what) in unsafe_tokens(file) {
            if !says_why(&lines, line) {
                findings.push(file.finding(line, format!("{what} without a `SAFETY:` reason")));
            }
        }
    }
    findings
}

/// Every `unsafe` that asks for a reason: its line, and what it is.
fn unsafe_tokens(file: &File) -> Vec<(usize, &'static str)> {
    let Ok(tokens) = tokens::tokens(&file.text) else {
        return Vec::new();
    };
    let is_unsafe = |(_, token): &(usize, &Token)| token.word() == Some("unsafe");
    let places = tokens.iter().enumerate().filter(is_unsafe);
    places
        .filter_map(|(at, token)| Some((token.line, what(&tokens[at + 1..])?)))
        .collect()
}

fn what(next: &[Token]) -> Option<&'static str> {
    match next.first()?.kind {
        Kind::Open(Delimiter::Brace) => return Some("unsafe block"),
        Kind::Open(_) => return Some("unsafe attribute"),
        _ => {}
    }
    // Past `extern "C"` to what it is about.
    let about = next.iter().position(|token| {
        token.word().is_some_and(|word| word != "extern") || matches!(token.kind, Kind::Open(_))
    })?;
    match (
        next[about].word(),
        next.get(about + 1).and_then(Token::word),
    ) {
        (Some("fn"), None) => None, // the type of a function
        (Some("fn"), Some(_)) => Some("unsafe function"),
        (Some("impl"), _) => Some("unsafe impl"),
        (Some("trait"), _) => Some("unsafe trait"),
        _ => Some("unsafe extern block"),
    }
}

/// Whether the statement that `line` belongs to, or the comment above it, names its reason.
fn says_why(lines: &[&str], line: usize) -> bool {
    let says = |text: &str| text.contains("SAFETY:") || text.contains("# Safety");
    if says(lines[line - 1]) {
        return true;
    }
    for text in lines[..line - 1].iter().rev().map(|text| text.trim()) {
        if text.starts_with("//") {
            if says(text) {
                return true;
            }
        } else if text.is_empty() || text.ends_with([';', '{', '}']) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_outside_the_doors_is_found() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        let repo = Repo::of(&[("c_init/src/a.rs", text), ("runtime/sys/src/a.rs", text)]);
        let found = places_but(&repo, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].path.as_str(), found[0].line),
            ("c_init/src/a.rs", 2)
        );
        assert_eq!(places_but(&repo, &[("c_init/src/a.rs", 1, "x")]), []);
        assert_eq!(places_but(&repo, &[("c_init/src/a.rs", 2, "x")]).len(), 1);
        let gone = [("c_init/src/a.rs", 1, "x"), ("b.rs", 1, "x")];
        assert_eq!(places_but(&repo, &gone).len(), 1);
    }

    #[test]
    fn an_unsafe_without_a_reason_is_found() {
        let bad = "unsafe impl Send for A {}\n\n\
                   // SAFETY: of another statement.\nlet a = b;\nlet c =\n    unsafe { d() };\n\
                   unsafe extern \"C\" {\n}\n/// Reads.\npub unsafe fn f() {}\n\
                   #[unsafe(no_mangle)]\nfn g() {}\n";
        let found = reasons(&Repo::of(&[("a.rs", bad)]));
        let lines: Vec<_> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [1, 6, 7, 10, 11]);
    }

    #[test]
    fn a_reason_may_stand_above_the_statement() {
        let good = "// SAFETY: x.\nlet c =\n    unsafe { d() };\n\
                    /// Reads.\n///\n/// # Safety\n/// x.\n#[inline]\npub unsafe fn f() {}\n\
                    type F = unsafe extern \"C\" fn(u8);\n// unsafe in a comment\n";
        assert_eq!(reasons(&Repo::of(&[("a.rs", good)])), []);
    }
}
