//! Sizes: of files, functions and lines (STYLE: "a file is one concept").
//!
//! A ratchet: what is over the limit stands in a table with its exact size. It may not grow, and
//! when it shrinks the table follows.

use crate::repo::{File, Finding, Repo};
use crate::tokens;

const FILE_LIMIT: usize = 500;
const FUNCTION_LIMIT: usize = 100;
const LINE_LIMIT: usize = 120;

/// Files over the limit: (path, lines).
const LARGE_FILES: &[(&str, usize)] = &[];
/// Functions over the limit: (path, name, lines).
const LARGE_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Texts that others wrote, or that a tool writes.
const NOT_OURS: &[&str] = &["Cargo.lock", "LICENSE"];

/// Pictures, which the benchmark draws.
const PICTURE: &str = ".svg";

/// Inputs of the fuzz targets, which are anything but tidy.
const INPUTS: &[&str] = &["tests/fuzz/corpus/", "tests/fuzz/crashes/"];

fn ours(repo: &Repo) -> impl Iterator<Item = &File> {
    repo.files()
        .filter(|file| !NOT_OURS.contains(&file.path.as_str()))
        .filter(|file| !file.path.ends_with(PICTURE))
        .filter(|file| !INPUTS.iter().any(|folder| file.path.starts_with(folder)))
}

/// No file has more lines than the limit.
pub fn files(repo: &Repo) -> Vec<Finding> {
    files_over(repo, LARGE_FILES)
}

/// No function has more lines than the limit.
pub fn functions(repo: &Repo) -> Vec<Finding> {
    functions_over(repo, LARGE_FUNCTIONS)
}

fn files_over(repo: &Repo, known: &[(&str, usize)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in ours(repo) {
        let lines = file.text.lines().count();
        let allowed = known
            .iter()
            .find(|(path, _)| *path == file.path)
            .map(|(_, lines)| *lines);
        if let Some(what) = ratchet("file", lines, FILE_LIMIT, allowed) {
            findings.push(file.finding(0, what));
        }
    }
    for (path, _) in known.iter().filter(|(path, _)| repo.get(path).is_none()) {
        findings.push(stale(path));
    }
    findings
}

fn functions_over(repo: &Repo, known: &[(&str, &str, usize)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut met = Vec::new();
    for file in repo.with_extension("rs") {
        let tokens = match tokens::tokens(&file.text) {
            Ok(tokens) => tokens,
            Err(what) => {
                findings.push(file.finding(0, what));
                continue;
            }
        };
        for function in tokens::functions(&tokens) {
            let entry = known
                .iter()
                .find(|k| k.0 == file.path && k.1 == function.name);
            met.extend(entry);
            let allowed = entry.map(|entry| entry.2);
            let kind = format!("function `{}`", function.name);
            if let Some(what) = ratchet(&kind, function.lines, FUNCTION_LIMIT, allowed) {
                findings.push(file.finding(function.line, what));
            }
        }
    }
    findings.extend(
        known
            .iter()
            .filter(|entry| !met.contains(entry))
            .map(|entry| stale(entry.0)),
    );
    findings
}

fn ratchet(kind: &str, lines: usize, limit: usize, allowed: Option<usize>) -> Option<String> {
    match allowed {
        None if lines > limit => Some(format!(
            "{kind} has {lines} lines, the limit is {limit}: split it"
        )),
        Some(allowed) if lines > allowed => Some(format!(
            "{kind} grew from {allowed} to {lines} lines; it may only shrink"
        )),
        Some(allowed) if lines < allowed => Some(format!(
            "{kind} shrank to {lines} lines: lower its entry, or drop it"
        )),
        _ => None,
    }
}

fn stale(path: &str) -> Finding {
    let what = "listed as too large and not there any more: drop its entry".into();
    Finding {
        path: path.into(),
        line: 0,
        what,
    }
}

/// No line is longer than the limit, but for tables and addresses, which cannot be broken.
pub fn lines(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in ours(repo) {
        for (number, line) in file.lines() {
            let length = line.chars().count();
            let cannot_break = line.trim_start().starts_with('|') || line.contains("://");
            if length > LINE_LIMIT && !cannot_break {
                let what = format!("{length} characters, the limit is {LINE_LIMIT}");
                findings.push(file.finding(number, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_the_limit_is_found_and_an_entry_is_a_ratchet() {
        let text = "//! x\n".repeat(FILE_LIMIT + 1);
        let repo = Repo::of(&[("a.rs", &text), ("b.rs", "//! x\n")]);
        assert_eq!(files_over(&repo, &[]).len(), 1);
        assert_eq!(files_over(&repo, &[("a.rs", FILE_LIMIT + 1)]), []);
        let grew = files_over(&repo, &[("a.rs", FILE_LIMIT)]);
        assert!(grew[0].what.contains("grew from 500 to 501"), "{grew:?}");
        let shrank = files_over(&repo, &[("a.rs", FILE_LIMIT + 9)]);
        assert!(shrank[0].what.contains("shrank"), "{shrank:?}");
        let gone = files_over(&repo, &[("a.rs", FILE_LIMIT + 1), ("c.rs", 600)]);
        assert_eq!(gone, [stale("c.rs")]);
    }

    #[test]
    fn a_function_over_the_limit_is_found_and_an_entry_is_a_ratchet() {
        let text = format!(
            "fn f() {{\n{}}}\nfn g() {{}}",
            "f();\n".repeat(FUNCTION_LIMIT - 1)
        );
        let repo = Repo::of(&[("a.rs", &text)]);
        let found = functions_over(&repo, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].what,
            "function `f` has 101 lines, the limit is 100: split it"
        );
        assert_eq!(functions_over(&repo, &[("a.rs", "f", 101)]), []);
        assert_eq!(functions_over(&repo, &[("a.rs", "f", 100)]).len(), 1);
        assert_eq!(
            functions_over(&repo, &[("a.rs", "f", 101), ("a.rs", "h", 120)]).len(),
            1
        );
    }

    #[test]
    fn a_long_line_is_found_unless_it_cannot_be_broken() {
        let long = "x".repeat(LINE_LIMIT + 1);
        let text = format!(
            "{long}\n| {long} |\nhttps://{long}\n{}\n",
            "é".repeat(LINE_LIMIT)
        );
        let others = [("LICENSE", long.as_str()), ("docs/a.svg", long.as_str())];
        let found = lines(&Repo::of(&[("a.md", text.as_str()), others[0], others[1]]));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].line), ("a.md", 1));
    }
}
