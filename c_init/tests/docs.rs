//! The pages of `docs/commands/` and the definitions of the commands say the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use c_init::commands;

/// Pages of what the console does not know.
const OTHERS: [&str; 4] = ["README", "c_init", "bank", "doctor"];

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/commands")
}

fn read(name: &str) -> String {
    let path = docs().join(name);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[test]
fn c2_every_command_has_a_page_with_its_usage_and_flags() {
    for command in commands::all() {
        let name = command.get_name();
        let page = read(&format!("{name}.md"));
        assert!(
            page.starts_with(&format!("# {name}\n")),
            "{name}.md begins with its name"
        );
        let usage = format!("```text\n{}```\n", commands::help::explain(&command));
        assert!(
            page.contains(&usage),
            "{name}.md does not show this:\n{usage}"
        );
        for part in ["## Example", "## Exit codes", "## Errors"] {
            assert!(page.contains(part), "{name}.md has no part '{part}'");
        }
    }
}

#[test]
fn c2_there_is_no_page_without_a_command_and_the_index_names_all() {
    let index = read("README.md");
    let known: BTreeSet<_> = commands::all()
        .iter()
        .map(|it| it.get_name().to_owned())
        .collect();
    for entry in fs::read_dir(docs()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.trim_end_matches(".md").to_owned();
        assert!(
            known.contains(&name) || OTHERS.contains(&name.as_str()),
            "{file}: no such command"
        );
    }
    for name in known {
        assert!(
            index.contains(&format!("({name}.md)")),
            "the index does not name {name}"
        );
    }
}

#[test]
fn c3_the_page_of_c_init_names_every_option() {
    use clap::CommandFactory;
    let page = read("c_init.md");
    for arg in c_init::program::Options::command().get_arguments() {
        let Some(flag) = arg
            .get_long()
            .map(|it| format!("--{it}"))
            .or(arg.get_short().map(|it| format!("-{it}")))
        else {
            continue;
        };
        assert!(
            page.contains(&format!("`{flag}")),
            "c_init.md does not explain {flag}"
        );
    }
}

#[test]
fn c3_the_pages_of_bank_and_doctor_show_their_usage() {
    for (name, definitions) in [
        ("bank", c_init::bank::definitions()),
        ("doctor", vec![c_init::doctor::definition()]),
    ] {
        let page = read(&format!("{name}.md"));
        assert!(page.starts_with(&format!("# {name}\n")));
        for definition in definitions {
            let usage = format!("```text\n{}```\n", commands::help::explain(&definition));
            assert!(
                page.contains(&usage),
                "{name}.md does not show this:\n{usage}"
            );
        }
        for part in ["## Example", "## Exit codes", "## Errors"] {
            assert!(page.contains(part), "{name}.md has no part '{part}'");
        }
        assert!(read("README.md").contains(&format!("({name}.md)")));
    }
}
