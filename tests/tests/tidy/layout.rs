//! The layout of the repository: what may lie at the top, and what a crate must have
//! (DESIGN section 2).
//!
//! Called by the tests in `main.rs`. Manifests are read line by line: they are written in one
//! form here, and this rule keeps them so.

use crate::repo::{Finding, Repo};
use std::collections::BTreeSet;

const FOLDERS: &[&str] = &[
    ".ci", "c_init", "docs", "hr_ctrl", "runtime", "samples", "tests",
];
/// The documents, cargo's two, and the settings of rustfmt, clippy, cargo-deny and git.
const FILES: &[&str] = &[
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
];

/// Lines of code below which a crate has no reason to exist yet.
const SMALLEST_CRATE: usize = 20;

/// Nothing lies at the top but what was designed to, and all of that is there.
pub fn top_level(repo: &Repo) -> Vec<Finding> {
    let folder = |path: &str| path.split_once('/').map(|(folder, _)| folder.to_string());
    let found: BTreeSet<_> = repo
        .files()
        .map(|file| folder(&file.path).unwrap_or(file.path.clone()))
        .collect();
    let designed: BTreeSet<_> = FOLDERS
        .iter()
        .chain(FILES)
        .map(ToString::to_string)
        .collect();
    let finding = |path: &String, what: &str| Finding {
        path: path.clone(),
        line: 0,
        what: what.into(),
    };
    let extra = found
        .difference(&designed)
        .map(|path| finding(path, "does not belong at the top"));
    let missing = designed
        .difference(&found)
        .map(|path| finding(path, "is missing"));
    extra.chain(missing).collect()
}

/// Every member exists and every crate is a member, takes the workspace's lints, and holds code.
pub fn crates(repo: &Repo) -> Vec<Finding> {
    let root = repo.get("Cargo.toml").map_or("", |file| &file.text);
    let members: BTreeSet<_> = members(root).into_iter().collect();
    let mut findings = Vec::new();
    for member in members
        .iter()
        .filter(|m| repo.get(&format!("{m}/Cargo.toml")).is_none())
    {
        let what = format!("member {member} does not exist");
        findings.push(Finding {
            path: "Cargo.toml".into(),
            line: 0,
            what,
        });
    }
    let manifest = |path: &str| path.strip_suffix("/Cargo.toml").map(String::from);
    for (file, folder) in repo
        .files()
        .filter_map(|file| Some((file, manifest(&file.path)?)))
    {
        if !members.contains(&folder) {
            findings.push(file.finding(0, "is no member of the workspace"));
        }
        if !file.text.contains("[lints]\nworkspace = true\n") {
            findings.push(file.finding(0, "does not take the workspace's lints"));
        }
        let lines = lines_of_code(repo, &folder);
        if lines < SMALLEST_CRATE {
            findings.push(file.finding(0, format!("is an empty crate: {lines} lines of code")));
        }
    }
    findings
}

/// What stands in quotes between `members = [` and `]`.
fn members(manifest: &str) -> Vec<String> {
    let list = manifest
        .split_once("members = [")
        .map_or("", |(_, rest)| rest);
    let list = list.split(']').next().unwrap_or_default();
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(String::from)
        .collect()
}

fn lines_of_code(repo: &Repo, folder: &str) -> usize {
    let code = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    repo.with_extension("rs")
        .filter(|file| file.path.starts_with(&format!("{folder}/")))
        .map(|file| file.text.lines().filter(|line| code(line)).count())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_at_the_top_and_a_missing_file_are_found() {
        let mut files: Vec<_> = FILES.iter().map(|file| (*file, "")).collect();
        let inner: Vec<_> = FOLDERS.iter().map(|folder| format!("{folder}/x")).collect();
        files.extend(inner.iter().map(|path| (path.as_str(), "")));
        assert_eq!(top_level(&Repo::of(&files)), []);
        files.extend([("notes.txt", ""), ("src/lib.rs", "")]);
        files.retain(|(path, _)| *path != "LICENSE");
        let found: Vec<_> = top_level(&Repo::of(&files))
            .iter()
            .map(|f| f.path.clone())
            .collect();
        assert_eq!(found, ["notes.txt", "src", "LICENSE"]);
    }

    #[test]
    fn a_crate_out_of_order_is_found() {
        let root = ("Cargo.toml", "members = [\n    \"a\",\n    \"gone\",\n]\n");
        let lints = "[package]\n\n[lints]\nworkspace = true\n";
        let code = "fn f() {}\n".repeat(SMALLEST_CRATE);
        let good = [
            root,
            ("a/Cargo.toml", lints),
            ("a/src/lib.rs", code.as_str()),
        ];
        assert_eq!(
            crates(&Repo::of(&good)).len(),
            1,
            "only the member that is gone"
        );
        let empty = [
            ("b/Cargo.toml", "[package]\n"),
            ("b/src/lib.rs", "//! x\n\n// y\n"),
        ];
        let found = crates(&Repo::of(&[&good[..], &empty[..]].concat()));
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "Cargo.toml: member gone does not exist",
                "b/Cargo.toml: is no member of the workspace",
                "b/Cargo.toml: does not take the workspace's lints",
                "b/Cargo.toml: is an empty crate: 0 lines of code",
            ]
        );
    }
}
