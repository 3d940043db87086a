//! Documents: nothing they point at is missing, and nobody misses one of them.
//!
//! Called by the tests in `main.rs`. What the pages say is not judged here.

use crate::links;
use crate::repo::{Finding, Repo};

/// The commands of the console (SPEC C2, DESIGN section 7).
const COMMANDS: &[&str] = &[
    "akill",
    "aps",
    "arun",
    "chorusStat",
    "console",
    "echo",
    "env",
    "help",
    "log",
    "memstat",
    "reboot",
    "restart",
    "rshd",
    "setenv",
    "shutdown",
    "sleep",
    "source",
    "ulimit",
    "umask",
    "unsetenv",
];

/// Folders whose files are named by their path.
const FOLDERS: &[&str] = &[
    "runtime/", "hr_ctrl/", "c_init/", "samples/", "tests/", "docs/", ".ci/",
];

/// What every decision record has.
const SECTIONS: &[&str] = &[
    "## Context",
    "## Decision",
    "## Consequences",
    "## Rejected",
];

/// Relative links lead to a file of the repository, and to a heading where they name one.
pub fn links(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in repo.with_extension("md") {
        for link in links::links(&page.text) {
            let target = links::resolve(&page.path, &link.path).filter(|path| repo.has(path));
            let Some(target) = target else {
                findings.push(page.finding(link.line, format!("dead link to {}", link.path)));
                continue;
            };
            let anchors = repo.get(&target).map(|page| links::anchors(&page.text));
            if !link.anchor.is_empty() && !anchors.is_some_and(|a| a.contains(&link.anchor)) {
                let what = format!("{target} has no heading for #{}", link.anchor);
                findings.push(page.finding(link.line, what));
            }
        }
    }
    findings
}

/// A path in backquotes, in a page or in a comment, is a file or folder that exists. The
/// changelog may name what is gone.
pub fn named_files(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.files().filter(|file| file.path != "CHANGELOG.md") {
        let names = match file.extension() {
            "md" => links::quoted(&file.text),
            "rs" => file
                .lines()
                .filter(|(_, line)| line.trim_start().starts_with("//"))
                .flat_map(|(number, line)| {
                    line.split('`')
                        .skip(1)
                        .step_by(2)
                        .map(move |name| (number, name))
                })
                .collect(),
            _ => continue,
        };
        for (line, name) in names.into_iter().filter(|(_, name)| is_path(name)) {
            if !exists(repo, &file.path, name) {
                findings.push(file.finding(line, format!("names {name}, which does not exist")));
            }
        }
    }
    findings
}

fn is_path(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    FOLDERS.iter().any(|folder| name.starts_with(folder)) && name.chars().all(plain)
}

/// From the root, or from a folder that the naming file is in.
fn exists(repo: &Repo, from: &str, name: &str) -> bool {
    let folders = from.match_indices('/').map(|(at, _)| &from[..=at]);
    std::iter::once("")
        .chain(folders)
        .any(|folder| repo.has(&format!("{folder}{name}")))
}

/// Every page can be reached from another one; the README is where readers begin.
pub fn orphans(repo: &Repo) -> Vec<Finding> {
    let mut linked = vec!["README.md".to_string()];
    for page in repo.with_extension("md") {
        let targets = links::links(&page.text).into_iter();
        let targets = targets.filter_map(|link| links::resolve(&page.path, &link.path));
        linked.extend(targets.filter(|target| *target != page.path));
    }
    repo.with_extension("md")
        .filter(|page| !linked.contains(&page.path))
        .map(|page| page.finding(0, "no other page links to it"))
        .collect()
}

/// Every command of the console has a page.
pub fn command_pages(repo: &Repo) -> Vec<Finding> {
    let pages = COMMANDS
        .iter()
        .map(|command| format!("docs/commands/{command}.md"));
    pages
        .filter(|page| repo.get(page).is_none())
        .map(missing)
        .collect()
}

fn missing(path: String) -> Finding {
    Finding {
        path,
        line: 0,
        what: "is missing".into(),
    }
}

/// Decision records are numbered without a gap, have every section, and stand in the index.
pub fn decisions(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    let index = repo
        .get("docs/adr/README.md")
        .map_or("", |index| &index.text);
    let in_folder = |path: &str| path.starts_with("docs/adr/") && !path.ends_with("/README.md");
    for (number, record) in repo
        .files()
        .filter(|file| in_folder(&file.path))
        .enumerate()
    {
        let name = record.path.trim_start_matches("docs/adr/");
        if !name.starts_with(&format!("{:04}-", number + 1)) {
            findings.push(record.finding(0, format!("is number {} in its folder", number + 1)));
        }
        for section in SECTIONS
            .iter()
            .filter(|s| !record.text.lines().any(|line| line == **s))
        {
            findings.push(record.finding(0, format!("has no section \"{section}\"")));
        }
        if !index.contains(&format!("]({name})")) {
            findings.push(record.finding(0, "is not listed in docs/adr/README.md"));
        }
    }
    if index.is_empty() {
        findings.push(missing("docs/adr/README.md".into()));
    }
    findings
}

/// The changelog says what the version of the workspace brings.
pub fn changelog(repo: &Repo) -> Vec<Finding> {
    let Some(page) = repo.get("CHANGELOG.md") else {
        return vec![missing("CHANGELOG.md".into())];
    };
    let manifest = repo.get("Cargo.toml").map_or("", |file| &file.text);
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = "));
    let version = version.unwrap_or_default().trim_matches('"');
    let released = page.text.contains(&format!("\n## [{version}]"));
    let coming = page.text.contains("\n## [Unreleased]") && page.text.contains(version);
    if released || coming {
        return Vec::new();
    }
    vec![page.finding(0, format!("says nothing of version {version}"))]
}

/// The README's test command is what `.ci/run` runs, to the letter.
pub fn readme_command(repo: &Repo) -> Vec<Finding> {
    let text = |path| repo.get(path).map_or("", |file| &file.text);
    let command = links::fenced(text("README.md")).find(|line| line.contains("cargo test"));
    let what = match command {
        None => "has no test command in a fence",
        Some(command) if !text(".ci/run").lines().any(|line| line == command) => {
            "has a test command that .ci/run does not run"
        }
        Some(_) => return Vec::new(),
    };
    vec![Finding {
        path: "README.md".into(),
        line: 0,
        what: what.into(),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_link_and_a_dead_anchor_are_found() {
        let page = "[a](docs/b.md)\n[a](docs/b.md#there)\n[a](docs/c.md)\n[a](docs/b.md#gone)\n\
                    [a](../x.md)\n[a](#here)\n# Here\n";
        let repo = Repo::of(&[("a.md", page), ("docs/b.md", "# There\n")]);
        let lines: Vec<_> = links(&repo).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [3, 4, 5]);
    }

    #[test]
    fn a_named_file_that_is_gone_is_found() {
        let page = "`docs/gone.md` `docs/b.md` `docs/` `docs/*.md` `c_init --once x`\n";
        let code = "//! See `tests/own.rs` and `docs/gone.md`.\nlet s = \"`docs/gone.md`\";\n";
        let repo = Repo::of(&[
            ("docs/b.md", page),
            ("runtime/x/src/lib.rs", code),
            ("runtime/x/tests/own.rs", "//! x\n"),
        ]);
        let found: Vec<_> = named_files(&repo)
            .into_iter()
            .map(|f| (f.path, f.line))
            .collect();
        assert_eq!(
            found,
            [("docs/b.md".into(), 1), ("runtime/x/src/lib.rs".into(), 1)]
        );
    }

    #[test]
    fn a_page_that_nobody_links_to_is_found() {
        let files = [
            ("README.md", "[b](b.md)"),
            ("b.md", ""),
            ("c.md", "[c](c.md)"),
        ];
        let found = orphans(&Repo::of(&files));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "c.md");
    }

    #[test]
    fn a_command_without_a_page_is_found() {
        let found = command_pages(&Repo::of(&[("docs/commands/aps.md", "")]));
        assert_eq!(found.len(), COMMANDS.len() - 1);
    }

    #[test]
    fn a_decision_out_of_order_is_found() {
        let whole = SECTIONS.join("\n");
        let short = SECTIONS[..3].join("\n");
        let index = "[x](0001-a.md) [x](0002-b.md) [x](0004-d.md)";
        let found = decisions(&Repo::of(&[
            ("docs/adr/README.md", index),
            ("docs/adr/0001-a.md", whole.as_str()),
            ("docs/adr/0002-b.md", short.as_str()),
            ("docs/adr/0003-c.md", whole.as_str()),
            ("docs/adr/0005-d.md", whole.as_str()),
        ]));
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "docs/adr/0002-b.md: has no section \"## Rejected\"",
                "docs/adr/0003-c.md: is not listed in docs/adr/README.md",
                "docs/adr/0005-d.md: is number 4 in its folder",
                "docs/adr/0005-d.md: is not listed in docs/adr/README.md",
            ]
        );
    }

    #[test]
    fn a_changelog_without_the_version_is_found() {
        let manifest = ("Cargo.toml", "[workspace.package]\nversion = \"0.2.0\"\n");
        let log = |text| changelog(&Repo::of(&[manifest, ("CHANGELOG.md", text)]));
        assert_eq!(log("# C\n## [0.2.0] - 2026-01-01\n"), []);
        assert_eq!(log("# C\n## [Unreleased]\nTo be 0.2.0.\n"), []);
        assert_eq!(log("# C\n## [Unreleased]\n## [0.1.0]\n").len(), 1);
        assert_eq!(changelog(&Repo::of(&[manifest])).len(), 1);
    }

    #[test]
    fn a_test_command_that_is_not_checked_is_found() {
        let readme = ("README.md", "```\ncargo test --all\n```\n");
        let run = |text| readme_command(&Repo::of(&[readme, (".ci/run", text)]));
        assert_eq!(run("set -e\ncargo test --all\n"), []);
        assert_eq!(run("cargo test\n").len(), 1);
        assert_eq!(
            readme_command(&Repo::of(&[("README.md", "cargo test")])).len(),
            1
        );
    }
}
