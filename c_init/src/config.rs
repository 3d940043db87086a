//! The configuration file (`--config FILE`): RON in, [`Tunables`] out (SPEC H27, DESIGN 7).
//!
//! Every field is optional, an unknown one is refused, sizes and times are texts with units.
//! What is wrong is told with line and column. `docs/configuration.md` explains every field, and
//! `docs/example.ron` names every one with its default.

mod actors;
pub(crate) mod hang;
mod policy;
pub(crate) mod units;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use refrain_abi::tunables::{ConsoleTunables, HrCtrlTunables, PmmTunables, Tunables};
use ron::extensions::Extensions;
use serde::Deserialize;

use policy::Policy;
use units::{Address, Count, Size, Time};

/// Why a configuration is not one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {why}", .file.display())]
    Unreadable {
        /// The file as it was given.
        file: PathBuf,
        /// The system's reason.
        why: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}:{column}: {what}", .file.display())]
    Wrong {
        /// The file as it was given.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        what: String,
    },
    /// Values that are sound on their own do not go together.
    #[error("{}: {what}", .file.display())]
    Contradiction {
        /// The file as it was given.
        file: PathBuf,
        /// Which values.
        what: &'static str,
    },
}

/// Reads a configuration file.
///
/// # Errors
/// [`ConfigError`]; one line that says where and what.
pub fn read(file: &Path) -> Result<Tunables, ConfigError> {
    let text = fs::read(file).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8 text"))
    });
    match text {
        Ok(text) => parse(file, &text),
        Err(why) => Err(ConfigError::Unreadable {
            file: file.to_owned(),
            why,
        }),
    }
}

/// Reads a configuration from `text`; `file` is what errors call it.
///
/// # Errors
/// As [`read`].
///
/// ```
/// let tunables = c_init::config::parse(
///     "site.ron".as_ref(),
///     r#"(pmm: (ram_bank_size: "16MiB"), hr_ctrl: (interval: "1m"))"#,
/// )?;
/// assert_eq!(tunables.pmm.ram_bank_size, 16 << 20);
/// assert_eq!(tunables.hr_ctrl.interval_ms, 60_000);
/// assert_eq!(tunables.hr_ctrl.max_actors, 1024);
/// # Ok::<(), c_init::config::ConfigError>(())
/// ```
pub fn parse(file: &Path, text: &str) -> Result<Tunables, ConfigError> {
    let options = ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME);
    let config: Config = options.from_str(text).map_err(|error| {
        let what = lower_first(&error.code.to_string());
        let at = error.span.start;
        ConfigError::Wrong {
            file: file.to_owned(),
            line: at.line,
            column: at.col,
            what,
        }
    })?;
    let tunables = Tunables::from(config);
    let contradiction = |what| ConfigError::Contradiction {
        file: file.to_owned(),
        what,
    };
    if tunables.pmm.ram_bank_size > tunables.pmm.window_size {
        return Err(contradiction(
            "pmm.window_size is smaller than pmm.ram_bank_size",
        ));
    }
    if tunables
        .pmm
        .window_base
        .checked_add(tunables.pmm.window_size)
        .is_none_or(|end| end > 1 << 47)
    {
        return Err(contradiction(
            "the window of pmm.window_base and pmm.window_size ends above 2^47",
        ));
    }
    Ok(tunables)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_lowercase);
    crate::words::printable(&first.into_iter().flatten().chain(chars).collect::<String>())
        .into_owned()
}

/// The file's shape. It is apart from [`Tunables`] because that one is in plain numbers and
/// crosses from `c_init` to the site.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    pmm: Pmm,
    hr_ctrl: HrCtrl,
    console: Console,
    policy: Policy,
    groups: BTreeMap<u32, Policy>,
    actors: actors::Actors,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Pmm {
    ram_bank_size: Size,
    max_blocks: Count,
    window_base: Address,
    window_size: Size,
    keep_on_halt: Option<bool>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HrCtrl {
    max_actors: Count,
    max_groups: Count,
    max_badness: Count,
    interval: Time,
    grace: Time,
    answer_timeout: Time,
    template_timeout: Time,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Console {
    log_size: Size,
}

impl Default for Pmm {
    fn default() -> Self {
        let it = PmmTunables::default();
        Self {
            ram_bank_size: Size(it.ram_bank_size),
            max_blocks: Count(it.max_blocks),
            window_base: Address(it.window_base),
            window_size: Size(it.window_size),
            keep_on_halt: it.keep_on_halt,
        }
    }
}

impl Default for HrCtrl {
    fn default() -> Self {
        let it = HrCtrlTunables::default();
        Self {
            max_actors: Count(it.max_actors),
            max_groups: Count(it.max_groups),
            max_badness: Count(it.max_badness),
            interval: Time(it.interval_ms),
            grace: Time(it.grace_ms),
            answer_timeout: Time(it.answer_timeout_ms),
            template_timeout: Time(it.template_timeout_ms),
        }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self {
            log_size: Size(ConsoleTunables::default().log_size),
        }
    }
}

impl From<Config> for Tunables {
    fn from(it: Config) -> Self {
        Self {
            pmm: PmmTunables {
                ram_bank_size: it.pmm.ram_bank_size.0,
                max_blocks: it.pmm.max_blocks.0,
                window_base: it.pmm.window_base.0,
                window_size: it.pmm.window_size.0,
                keep_on_halt: it.pmm.keep_on_halt,
            },
            hr_ctrl: HrCtrlTunables {
                max_actors: it.hr_ctrl.max_actors.0,
                max_groups: it.hr_ctrl.max_groups.0,
                max_badness: it.hr_ctrl.max_badness.0,
                interval_ms: it.hr_ctrl.interval.0,
                grace_ms: it.hr_ctrl.grace.0,
                answer_timeout_ms: it.hr_ctrl.answer_timeout.0,
                template_timeout_ms: it.hr_ctrl.template_timeout.0,
            },
            console: ConsoleTunables {
                log_size: it.console.log_size.0,
            },
            policy: it.policy.into(),
            groups: it
                .groups
                .into_iter()
                .map(|(gid, policy)| (gid, policy.into()))
                .collect(),
            actors: actors::tunables(it.actors),
        }
    }
}

#[cfg(test)]
mod tests;
