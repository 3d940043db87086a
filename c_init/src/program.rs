//! The program `c_init`: starts a site, or gives commands to one that runs (DESIGN section 7).

use std::env;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ErrorKind;
use hr_ctrl::boot::BootRecord;
use hr_ctrl::{launch, paths};
use refrain_abi::session::ToSite;
use refrain_abi::tunables::Tunables;

use crate::client::{self, Mode};
use crate::{DONE, FAILED, USAGE, commands, config};

/// The longest name of a site: its socket's path has to fit into 108 bytes.
const MAX_SITE: usize = 48;

/// Starts a site, or gives commands to one that runs.
///
/// Without --connect and -c the site is started: sysadm.ini is read, and then commands from the
/// terminal; or, where stdin is no terminal, from stdin to its end, and the site halts.
///
/// c_init bank shows, checks and repairs a bank; c_init doctor looks at the machine. Neither needs a
/// site.
#[derive(Clone, Debug, Parser)]
#[command(name = "c_init", version)]
pub struct Options {
    /// The site's name; $REFRAIN_SITE, or "default", where it is not given
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// The directory of the bank: on tmpfs (the default) or on a disk
    #[arg(long, value_name = "DIR", conflicts_with_all = ["connect", "command"])]
    pub bank: Option<PathBuf>,
    /// The tunables: see docs/configuration.md
    #[arg(long, value_name = "FILE", conflicts_with_all = ["connect", "command"])]
    pub config: Option<PathBuf>,
    /// Read FILE in place of sysadm.ini, and halt when it is done and no group is left
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ini", "connect", "command"])]
    pub once: Option<PathBuf>,
    /// Start the site in the background; return when sysadm.ini has been read
    #[arg(long, conflicts_with_all = ["connect", "command"])]
    pub detach: bool,
    /// A console on the running site
    #[arg(long, conflicts_with_all = ["ini", "command"])]
    pub connect: bool,
    /// One command on the running site
    #[arg(
        short = 'c',
        value_name = "COMMAND",
        conflicts_with = "ini",
        allow_hyphen_values = true
    )]
    pub command: Option<String>,
    /// The commands to begin with
    #[arg(value_name = "sysadm.ini")]
    pub ini: Option<PathBuf>,
}

/// The entry point of the program; answers the exit code.
#[must_use]
pub fn main() -> i32 {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) =>
        {
            client::screen::out(&error.render().to_string());
            return DONE;
        }
        Err(error) => {
            return complain(
                USAGE,
                format!("{}; see c_init --help", commands::one_line(&error)),
            );
        }
    };
    let site = match site_name(options.site.clone()) {
        Ok(site) => site,
        Err(why) => return complain(USAGE, why),
    };
    if let Some(command) = options.command {
        return client::command(&site, ToSite::Line(command));
    }
    if options.connect {
        return client::console(&site, Mode::Connected);
    }
    let tunables = match options.config.as_deref().map(config::read).transpose() {
        Ok(tunables) => tunables.unwrap_or_default(),
        Err(why) => {
            // The place comes first, as for every line of a file.
            client::screen::err(&why.to_string());
            return FAILED;
        }
    };
    match start(&options, &site, tunables) {
        Ok(mode) => client::console(&site, mode),
        Err(why) => complain(FAILED, why),
    }
}

/// Starts the site; answers what there is to do for its first client.
fn start(options: &Options, site: &str, tunables: Tunables) -> Result<Mode, String> {
    let record = boot_record(options, site, tunables)?;
    launch::start_site(&record).map_err(|why| why.to_string())?;
    Ok(match (options.detach, record.once) {
        (true, _) => Mode::Detached,
        (false, true) => Mode::Once,
        (false, false) => Mode::Owner,
    })
}

/// What the site is started with.
fn boot_record(options: &Options, site: &str, tunables: Tunables) -> Result<BootRecord, String> {
    let cwd = env::current_dir().map_err(|why| format!("the current directory: {why}"))?;
    let bank = options
        .bank
        .as_ref()
        .map_or_else(|| paths::default_bank(site), |dir| cwd.join(dir));
    Ok(BootRecord {
        site: site.to_owned(),
        bank,
        tunables,
        // As it was given, for errors show it so; a relative path starts at `cwd`.
        ini: options.once.clone().or_else(|| options.ini.clone()),
        cwd,
        env: inherited(),
        once: options.once.is_some(),
        wait_for_console: true,
    })
}

/// The environment that the site is started with: ours, but for what is no text.
fn inherited() -> Vec<(String, String)> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        // systemd speaks to the site through these, not to its actors.
        .filter(|(name, _)| !launch::SYSTEMD_VARS.contains(&name.as_str()))
        .collect()
}

/// Which site is meant: what was given, else `$REFRAIN_SITE`, else "default".
///
/// # Errors
/// One line where that is no name: it becomes a directory's name and part of a socket's path.
pub(crate) fn site_name(given: Option<String>) -> Result<String, String> {
    let site = given
        .or_else(|| {
            env::var("REFRAIN_SITE")
                .ok()
                .filter(|name| !name.is_empty())
        })
        .unwrap_or_else(|| paths::DEFAULT_SITE.to_owned());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if site.is_empty() || site.len() > MAX_SITE || site.starts_with('.') || !site.chars().all(plain)
    {
        return Err(format!(
            "'{site}' is no name of a site: at most {MAX_SITE} letters, digits, '-', '_' and '.', \
             the first no '.'"
        ));
    }
    Ok(site)
}

/// One line to stderr, and the exit code.
pub(crate) fn complain(code: i32, what: impl AsRef<str>) -> i32 {
    client::screen::err(&format!("c_init: {}", what.as_ref()));
    code
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn c3_the_definition_of_c_init_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn c3_options_that_contradict_each_other_are_refused() {
        for line in [
            "c_init --connect -c aps",
            "c_init --connect --detach",
            "c_init --once a.ini b.ini",
            "c_init -c aps sysadm.ini",
            "c_init --bank /x --connect",
            "c_init a.ini b.ini",
            "c_init --bogus",
        ] {
            assert!(Options::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn c3_a_site_has_a_plain_name() {
        assert_eq!(site_name(Some("my-site.1".into())).unwrap(), "my-site.1");
        for bad in ["", "../x", ".hidden", "a b", "a/b", "a\nb", &"x".repeat(49)] {
            assert!(site_name(Some(bad.to_owned())).is_err(), "{bad}");
        }
    }

    #[test]
    fn c1_sysadm_ini_keeps_the_path_that_was_given() {
        let options = Options::try_parse_from(["c_init", "--bank", "b", "sub/sysadm.ini"]).unwrap();
        let record = boot_record(&options, "x", Tunables::default()).unwrap();
        assert_eq!(record.ini.as_deref(), Some("sub/sysadm.ini".as_ref()));
        assert!(record.bank.is_absolute() && record.bank.ends_with("b"));
        assert!(!record.once);
    }
}
