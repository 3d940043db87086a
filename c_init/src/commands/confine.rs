//! What `arun` says of an actor's limits and rights, and the configuration by the actor's name (SPEC H34).

use clap::Args;
use hr_ctrl::site::StartSpec;
use refrain_abi::limits::{ActorLimits, ActorTunables, RunAs};
use refrain_sys::{process, user};

use super::CommandError;
use crate::config::units;

/// What a template needs: two for each of its children, of which there are five at most, and its own.
pub(crate) const MIN_FILES: u64 = 32;

/// The options of `arun` that limit an actor.
#[derive(Clone, Debug, Default, Args)]
pub struct Confine {
    /// the memory that it may take, like 64MiB, standby and template included
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub memory: Option<u64>,
    /// the CPU time that it may take: 50% is half a CPU, 200% are two
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_percent)]
    pub cpu: Option<u32>,
    /// how many processes and threads its life may be, children included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Option<u32>,
    /// how many files each of its processes may have open
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(MIN_FILES..))]
    pub open_files: Option<u64>,
    /// its nice value, -20 to 19
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(i32).range(-20..20),
        allow_negative_numbers = true
    )]
    pub nice: Option<i32>,
    /// run it as this user: USER[:GROUP], names or numbers; for sites of root
    #[arg(short = 'u', value_name = "USER")]
    pub run_as: Option<String>,
    /// nothing that it executes gives it more rights; so it always is with -u
    #[arg(long)]
    pub no_new_privs: bool,
}

impl Confine {
    /// Adds limits and rights to `spec`: those of the options, and where they say nothing those of
    /// `configured`.
    pub(super) async fn apply(
        &self,
        spec: &mut StartSpec,
        configured: Option<&ActorTunables>,
    ) -> Result<(), CommandError> {
        let configured = configured.cloned().unwrap_or_default();
        let given = ActorLimits {
            memory: self.memory,
            cpu_percent: self.cpu,
            pids: self.pids,
            open_files: self.open_files,
            nice: self.nice,
        };
        spec.limits = given.or(configured.limits);
        spec.no_new_privs = self.no_new_privs || configured.no_new_privs;
        let Some(text) = self.run_as.clone().or(configured.user) else {
            return Ok(());
        };
        // The tables of users may be a directory service's, and far away.
        let found = tokio::task::spawn_blocking(move || run_as(&text)).await;
        let found = found.map_err(CommandError::failed)?;
        let Some((user, home)) = found.map_err(CommandError::failed)? else {
            return Ok(());
        };
        let told = [
            ("HOME", &home),
            ("USER", &user.name),
            ("LOGNAME", &user.name),
        ];
        spec.env
            .retain(|(name, _)| told.iter().all(|(ours, _)| name != ours));
        let told = told.map(|(name, value)| (name.to_owned(), value.clone()));
        spec.env.extend(told);
        spec.user = Some(user);
        Ok(())
    }
}

/// Why an actor cannot run as the user that was named.
#[derive(Debug, thiserror::Error)]
enum UserError {
    #[error("only a site of root can run actors as another user; leave out -u")]
    NotRoot,
    #[error("no user '{0}'; give a name of the system's, or UID:GID")]
    NoUser(String),
    #[error("user {0} is in no table, so its group is not known; give UID:GID")]
    NoGroupOf(u32),
    #[error("no group '{0}'; give a name of the system's, or a number")]
    NoGroup(String),
    #[error("the tables of users cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
}

/// The user that `text` names, and his home; `None` where that is the site's own.
fn run_as(text: &str) -> Result<Option<(RunAs, String)>, UserError> {
    let (who, group) = match text.split_once(':') {
        Some((who, group)) => (who, Some(group)),
        None => (text, None),
    };
    let number = who.parse::<u32>().ok().filter(|uid| *uid != u32::MAX);
    let entry = match number {
        Some(uid) => user::by_uid(uid)?,
        None => user::by_name(who)?,
    };
    let uid = entry.as_ref().map(|entry| entry.uid).or(number);
    let uid = uid.ok_or_else(|| UserError::NoUser(who.to_owned()))?;
    let gid = match (group, &entry) {
        (Some(group), _) => gid_of(group)?,
        (None, Some(entry)) => entry.gid,
        (None, None) => return Err(UserError::NoGroupOf(uid)),
    };
    let own = (process::geteuid(), process::getegid());
    if (uid, gid) == own {
        return Ok(None);
    }
    if own.0 != 0 {
        return Err(UserError::NotRoot);
    }
    let groups = match &entry {
        Some(entry) => user::groups_of(&entry.name, gid)?,
        None => vec![gid],
    };
    let (name, home) = match entry {
        Some(entry) => (entry.name, entry.home),
        None => (uid.to_string(), "/".to_owned()),
    };
    let user = RunAs {
        name,
        uid,
        gid,
        groups,
    };
    Ok(Some((user, home)))
}

fn gid_of(group: &str) -> Result<u32, UserError> {
    let number = group.parse().ok().filter(|gid| *gid != u32::MAX);
    match number {
        Some(gid) => Ok(gid),
        None => user::group_by_name(group)?.ok_or_else(|| UserError::NoGroup(group.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_name_or_number_and_a_nameless_one_needs_its_group() {
        if process::geteuid() != 0 {
            assert!(matches!(run_as("1:1"), Err(UserError::NotRoot)));
            return;
        }
        let (nobody, _) = run_as("65534:65534").unwrap().unwrap();
        assert_eq!((nobody.uid, nobody.gid), (65_534, 65_534));
        let (stranger, home) = run_as("3999999999:77").unwrap().unwrap();
        assert_eq!((stranger.uid, stranger.gid), (3_999_999_999, 77));
        assert_eq!((stranger.groups, home.as_str()), (vec![77], "/"));
        assert_eq!(run_as("root").unwrap(), None, "the site's own");
        assert!(matches!(run_as("3999999999"), Err(UserError::NoGroupOf(_))));
        assert!(matches!(run_as("no-such-user"), Err(UserError::NoUser(_))));
        assert!(matches!(run_as("4294967295:1"), Err(UserError::NoUser(_))));
        assert!(matches!(
            run_as("root:no-such-group"),
            Err(UserError::NoGroup(_))
        ));
    }
}
