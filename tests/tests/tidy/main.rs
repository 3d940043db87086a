//! Reads the repository itself and says where the house is out of order: sizes, dead links,
//! `unsafe` where it may not be, words that SPEC's vocabulary does not know.
//!
//! Each rule is a function from a [`repo::Repo`] to findings, in the module of its subject, with
//! a test on a bad sample beside it; the tests below run the rules on the repository. No rule
//! may change a file, start a program or look outside the repository.

mod docs;
mod layout;
mod links;
mod repo;
mod rust;
mod size;
mod tokens;
mod unsafe_code;
mod words;

use repo::{Finding, Repo};

#[track_caller]
fn check(rule: impl Fn(&Repo) -> Vec<Finding>) {
    let repo = Repo::read(&Repo::root());
    assert!(repo.files().len() > 40, "the repository was not found");
    let findings = rule(&repo);
    let lines: Vec<_> = findings
        .iter()
        .map(|finding| format!("\n  {finding}"))
        .collect();
    assert!(
        lines.is_empty(),
        "{} to put in order:{}\n",
        lines.len(),
        lines.concat()
    );
}

#[test]
fn no_file_outgrows_its_limit() {
    check(size::files);
}

#[test]
fn no_function_outgrows_its_limit() {
    check(size::functions);
}

#[test]
fn no_line_is_too_long() {
    check(size::lines);
}

#[test]
fn every_relative_link_leads_somewhere() {
    check(docs::links);
}

#[test]
fn every_file_that_is_named_exists() {
    check(docs::named_files);
}

#[test]
fn every_page_is_linked_from_another() {
    check(docs::orphans);
}

#[test]
fn every_command_has_a_page() {
    check(docs::command_pages);
}

#[test]
fn decisions_are_numbered_listed_and_complete() {
    check(docs::decisions);
}

#[test]
fn the_changelog_knows_the_version() {
    check(docs::changelog);
}

#[test]
fn the_check_of_a_change_runs_the_command_of_the_readme() {
    check(docs::readme_command);
}

#[test]
fn unsafe_stands_only_where_it_may() {
    check(unsafe_code::places);
}

#[test]
fn every_unsafe_says_why_it_is_safe() {
    check(unsafe_code::reasons);
}

#[test]
fn identifiers_use_the_words_of_the_spec() {
    check(words::identifiers);
}

#[test]
fn no_file_names_a_machine() {
    check(words::machines);
}

#[test]
fn every_module_says_what_it_is_for() {
    check(rust::module_docs);
}

#[test]
fn nothing_is_left_to_be_written() {
    check(rust::unfinished);
}

#[test]
fn the_top_level_is_as_designed() {
    check(layout::top_level);
}

#[test]
fn every_crate_is_a_member_with_lints_and_code() {
    check(layout::crates);
}
