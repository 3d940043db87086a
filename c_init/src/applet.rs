//! Every command as a program of its own (SPEC C3): `arun`, `aps` ... are the binary `c_init` by
//! another name, or a small binary that calls [`main`].
//!
//! The flags are the command's own with `--site NAME` added. They are checked here, so that
//! wrong usage needs no site, and then sent as words for the site's interpreter to carry out.

use std::env;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};
use refrain_abi::session::ToSite;

use crate::commands::{self, CommandError, help};
use crate::program::{complain, site_name};
use crate::{DONE, USAGE, client};

/// The entry point of the command `name` as a program; answers the exit code.
#[must_use]
pub fn main(name: &str) -> i32 {
    let mut words = vec![name.to_owned()];
    for word in env::args_os().skip(1) {
        match word.into_string() {
            Ok(word) => words.push(word),
            Err(word) => return complain(USAGE, format!("{name}: {word:?} is not UTF-8 text")),
        }
    }
    match read(&words) {
        Ok((site, words)) => match site_name(site) {
            Ok(site) => client::command(&site, ToSite::Words(words)),
            Err(why) => complain(USAGE, format!("{name}: {why}")),
        },
        Err(CommandError::Help(_)) => {
            client::screen::out(&explain(name));
            DONE
        }
        Err(why) => complain(why.code(), why.to_string()),
    }
}

/// The program's definition: the command's, and where the site is.
fn definition(name: &str) -> Option<Command> {
    let site = Arg::new("site")
        .long("site")
        .value_name("NAME")
        .help("the site; $REFRAIN_SITE, or \"default\", where it is not given");
    commands::find(name).map(|command| command.arg(site))
}

fn explain(name: &str) -> String {
    definition(name)
        .as_ref()
        .map(help::explain)
        .unwrap_or_default()
}

/// Checks the words; answers the site that they name, and the words without it.
fn read(words: &[String]) -> Result<(Option<String>, Vec<String>), CommandError> {
    let name = words.first().map_or("", String::as_str);
    let Some(command) = definition(name) else {
        return Err(CommandError::Usage(format!(
            "{name}: unknown command; help lists them"
        )));
    };
    match command.try_get_matches_from(words) {
        Ok(matches) => Ok((
            matches.get_one("site").cloned(),
            without_site(words, &matches),
        )),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            Err(CommandError::Help(name.into()))
        }
        Err(error) => {
            let what = commands::one_line(&error);
            Err(CommandError::Usage(format!(
                "{name}: {what}; see {name} --help"
            )))
        }
    }
}

/// Takes `--site NAME` out of words that have been checked. What belongs to a program or to
/// `echo` stands behind all flags and is left alone, `--site` or not.
fn without_site(words: &[String], matches: &ArgMatches) -> Vec<String> {
    let foreign = ["program", "words"].into_iter().filter_map(|id| {
        matches
            .try_get_many::<String>(id)
            .ok()
            .flatten()
            .map(|values| values.len())
    });
    let flags = words.len() - foreign.sum::<usize>();
    let mut kept = Vec::with_capacity(words.len());
    let mut rest = words[..flags].iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--site" => drop(rest.next()),
            word if word.starts_with("--site=") => {}
            "--" => {
                kept.push(word.clone());
                kept.extend(rest.by_ref().cloned());
            }
            _ => kept.push(word.clone()),
        }
    }
    kept.extend_from_slice(&words[flags..]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        crate::words::split(line).unwrap()
    }

    #[test]
    fn c3_the_site_is_a_flag_of_every_program() {
        for (line, kept) in [
            ("arun --site x -g 1 p --site y", "arun -g 1 p --site y"),
            (
                "arun -g 1 --site=x -- p --site=y",
                "arun -g 1 -- p --site=y",
            ),
            ("aps --json --site x", "aps --json"),
            ("akill --site x -g 3", "akill -g 3"),
        ] {
            assert_eq!(
                read(&words(line)).unwrap(),
                (Some("x".to_owned()), words(kept)),
                "{line}"
            );
        }
        assert_eq!(read(&words("aps")).unwrap(), (None, words("aps")));
    }

    #[test]
    fn c3_wrong_usage_needs_no_site() {
        let told = read(&words("arun --bogus")).unwrap_err();
        assert_eq!(
            told.to_string(),
            "arun: unexpected argument '--bogus'; see arun --help"
        );
        assert_eq!(told.code(), USAGE);
        assert!(explain("aps").contains("--site NAME"));
    }

    #[test]
    fn c3_every_command_is_a_program() {
        for command in commands::all() {
            definition(command.get_name()).unwrap().debug_assert();
        }
    }
}
