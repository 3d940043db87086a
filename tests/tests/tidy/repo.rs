//! The repository as the rules see it: paths and texts, read once.
//!
//! Called by every rule. It must never follow a link out of the repository or read what git
//! ignores.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// One text file; a file that is not UTF-8 has an empty text.
pub struct File {
    /// Relative to the root, with forward slashes.
    pub path: String,
    /// What it holds.
    pub text: String,
}

impl File {
    /// What follows the last dot of the file's name; empty without one.
    pub fn extension(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// The lines with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// A finding in this file.
    pub fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            what: what.into(),
        }
    }
}

/// Every file of the repository, by path.
pub struct Repo {
    files: BTreeMap<String, File>,
}

impl Repo {
    /// The root of the repository that this test was built from.
    pub fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    /// Reads the repository at `root`.
    pub fn read(root: &Path) -> Self {
        let mut repo = Self {
            files: BTreeMap::new(),
        };
        repo.read_folder(root, "");
        repo
    }

    /// A repository made of (path, text), for the tests of the rules.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| {
            (
                (*path).to_string(),
                File {
                    path: (*path).into(),
                    text: (*text).into(),
                },
            )
        };
        Self {
            files: files.iter().map(file).collect(),
        }
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) {
        for entry in std::fs::read_dir(folder).expect("the repository can be read") {
            let entry = entry.expect("the repository can be read");
            let name = entry
                .file_name()
                .into_string()
                .expect("file names are UTF-8");
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().expect("the repository can be read");
            // What .gitignore names, and git's own folder.
            if path == ".git" || path == "target" || name.ends_with(".log") {
                continue;
            }
            if kind.is_dir() {
                self.read_folder(&entry.path(), &format!("{path}/"));
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).expect("the repository can be read");
                let text = String::from_utf8(bytes).unwrap_or_default();
                self.files.insert(path.clone(), File { path, text });
            }
        }
    }

    /// Every file.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &File> {
        self.files.values()
    }

    /// Every file with this extension.
    pub fn with_extension(&self, extension: &str) -> impl Iterator<Item = &File> {
        self.files()
            .filter(move |file| file.extension() == extension)
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Whether `path` is a file or a folder of the repository.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty() || self.files.contains_key(path) || self.has_folder(path)
    }

    fn has_folder(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        let mut from_here = self.files.range(prefix.clone()..);
        from_here
            .next()
            .is_some_and(|(found, _)| found.starts_with(&prefix))
    }
}

/// Something that is out of order.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where; a path relative to the root.
    pub path: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong, and the cure.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

#[test]
fn files_and_folders_are_found_by_path() {
    let repo = Repo::of(&[("docs/adr/0001-x.md", ""), ("docs/b.md", "")]);
    assert!(repo.has("docs/adr") && repo.has("docs/adr/") && repo.has("docs/b.md"));
    assert!(!repo.has("docs/ad") && !repo.has("adr"));
    assert_eq!(repo.with_extension("md").count(), 2);
}
