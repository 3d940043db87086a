//! Rust files: each says what it is for, and none is left unfinished.
//!
//! Called by the tests in `main.rs`; it must never look into a macro's expansion.

use crate::repo::{Finding, Repo};
use crate::tokens;

/// Macros that stand for code still to be written, or for a look that was not tidied away.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Every module opens with `//!`.
pub fn module_docs(repo: &Repo) -> Vec<Finding> {
    let silent = |text: &str| !text.starts_with("//! ");
    repo.with_extension("rs")
        .filter(|file| silent(&file.text))
        .map(|file| file.finding(1, "open with `//!`: what it is for, who calls it"))
        .collect()
}

/// No macro of [`UNFINISHED`] is called.
pub fn unfinished(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.with_extension("rs") {
        let Ok(tokens) = tokens::tokens(&file.text) else {
            continue;
        };
        for pair in tokens.windows(2).filter(|pair| pair[1].is_sign('!')) {
            if let Some(word) = pair[0].word().filter(|word| UNFINISHED.contains(word)) {
                findings.push(file.finding(pair[0].line, format!("`{word}!` is left")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_words_is_found() {
        let repo = Repo::of(&[
            ("a.rs", "//! For x.\n"),
            ("b.rs", "use a;\n//! Late.\n"),
            ("c.rs", "// For x.\n"),
            ("d.rs", ""),
        ]);
        let found: Vec<_> = module_docs(&repo)
            .into_iter()
            .map(|finding| finding.path)
            .collect();
        assert_eq!(found, ["b.rs", "c.rs", "d.rs"]);
    }

    #[test]
    fn what_is_left_to_be_written_is_found() {
        let text = "fn f(dbg: bool) {\n    todo!();\n}\nfn g() { let todo = \"dbg!\"; }\n";
        let found = unfinished(&Repo::of(&[("a.rs", text)]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 2);
    }
}
