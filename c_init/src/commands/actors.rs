//! `arun` and `akill`: the beginning and the end of actors (SPEC C2, H2, H24).

use clap::{Args, ValueEnum};
use hr_ctrl::site::{KillTarget, Notice, StartSpec};
use refrain_abi::limits::ActorLimits;
use refrain_abi::{ActorName, Aid, Gid};

use super::confine::Confine;
use super::hang::Hang;
use super::{CommandError, Flow, Outcome};
use crate::interpreter::Context;
use crate::policy::PolicyArgs;

/// The largest gid; the one above it means "no group" in the protocol.
const MAX_GID: i64 = Gid::NONE_ON_WIRE as i64 - 1;

/// Whether each life has the addresses of the last (DESIGN section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// The addresses of the last life.
    Same,
    /// Other addresses in each life.
    Fresh,
}

/// How the end of a life is noticed ([`Notice`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NoticeWord {
    /// By the life's own fault handler where there is one.
    Fault,
    /// By the kernel only.
    Kernel,
}

/// `arun`: runs a program as an actor.
#[derive(Clone, Debug, Args)]
#[command(
    override_usage = "arun [-g GID [POLICY...]] [-S|-U] [-q] [-d] [-xip] [-n NAME] [-u USER] [--OPTION...] \
                      PATH [ARG...]"
)]
pub struct Arun {
    /// run it as a restartable actor of this restart group
    #[arg(short, value_name = "GID", value_parser = clap::value_parser!(u32).range(..=MAX_GID))]
    pub gid: Option<u32>,
    /// as a supervisor actor; refused, for those belong to an embedding program
    #[arg(short = 'S', conflicts_with = "user")]
    pub supervisor: bool,
    /// as a user actor (the default)
    #[arg(short = 'U')]
    pub user: bool,
    /// do not print the aid
    #[arg(short)]
    pub quiet: bool,
    /// stop before main until SIGCONT, for a debugger
    #[arg(short = 'd')]
    pub debug: bool,
    // A value that can only be "ip": so `-xip` is one flag, although clap knows no such kind.
    /// execute in place: the image is the file itself, not a copy
    #[arg(short = 'x', value_name = "ip", value_parser = ["ip"], hide_possible_values = true)]
    pub xip: Option<String>,
    /// the actor's name, instead of the program's file name
    #[arg(short, value_name = "NAME")]
    pub name: Option<String>,
    /// whether each life has the addresses of the last (the default) or others
    #[arg(
        long,
        value_name = "same|fresh",
        value_enum,
        default_value = "same",
        hide_possible_values = true
    )]
    pub layout: Layout,
    /// how a failure is noticed: by a fault handler in the life (the default) or by the kernel only
    #[arg(
        long,
        value_name = "fault|kernel",
        value_enum,
        default_value = "fault",
        hide_possible_values = true
    )]
    pub notice: NoticeWord,
    /// The restart policy of the group.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Limits and rights.
    #[command(flatten)]
    pub confine: Confine,
    /// How it is watched for hangs.
    #[command(flatten)]
    pub hang: Hang,
    /// the program, looked for along $PATH where it has no slash; what follows is the program's
    #[arg(value_name = "PATH", required = true, num_args = 1.., trailing_var_arg = true)]
    pub program: Vec<String>,
}

impl Arun {
    /// Whether `-xip` was given.
    #[must_use]
    pub fn in_place(&self) -> bool {
        self.xip.is_some()
    }

    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        if self.supervisor {
            return Err(CommandError::failed(
                "supervisor actors are part of an embedding program and cannot be loaded from a \
                 file; leave out -S",
            ));
        }
        let mut spec = self.spec(cx)?;
        let site = cx.site()?;
        let configured = site.boot().tunables.actors.get(spec.name.as_str());
        self.confine.apply(&mut spec, configured).await?;
        let aid = site.run(spec).await.map_err(CommandError::failed)?;
        if !self.quiet {
            cx.out(format!("Started aid = {aid}\n"));
        }
        Ok(Flow::Next)
    }

    /// Whether an actor of this name is registered.
    pub(crate) async fn is_known(&self, cx: &Context<'_>) -> bool {
        let Ok(site) = cx.site() else {
            return false;
        };
        let program = self.program.first().map_or("", String::as_str);
        let name = self.name.as_deref().unwrap_or_else(|| file_name(program));
        let actors = site.actors().await.unwrap_or_default();
        actors.iter().any(|actor| actor.name == name)
    }

    /// What the site is asked for.
    fn spec(&self, cx: &Context<'_>) -> Result<StartSpec, CommandError> {
        let program = self.program.first().map_or("", String::as_str);
        let name = self.name.as_deref().unwrap_or_else(|| file_name(program));
        let name = ActorName::new(name).map_err(|why| {
            CommandError::failed(format!(
                "'{name}' cannot name an actor: {why}; give one with -n"
            ))
        })?;
        let state = cx.state();
        Ok(StartSpec {
            name,
            program: program.to_owned(),
            argv: self.program.clone(),
            env: state
                .env
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            cwd: cx.session().cwd().to_owned(),
            umask: state.umask,
            rlimits: state.rlimits(),
            gid: self.gid.map(Gid),
            in_place: self.in_place(),
            fresh_layout: self.layout == Layout::Fresh,
            stopped: self.debug,
            notice: match self.notice {
                NoticeWord::Fault => Notice::Fault,
                NoticeWord::Kernel => Notice::Kernel,
            },
            policy: self.policy.parts(),
            // See `Confine::apply`.
            limits: ActorLimits::default(),
            user: None,
            no_new_privs: false,
            hang: self.hang.watch(),
        })
    }
}

/// The part of a path behind its last slash.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `akill`: kills an actor with its group, or a group.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "akill {-g GID | [-c] AID}")]
pub struct Akill {
    /// kill every member of this restart group
    #[arg(
        short,
        value_name = "GID",
        value_parser = clap::value_parser!(u32).range(..=MAX_GID),
        conflicts_with_all = ["clean", "aid"]
    )]
    pub gid: Option<u32>,
    /// tell the actor to end with SIGTERM first, and wait for hr_ctrl.grace
    #[arg(short)]
    pub clean: bool,
    /// the actor's aid, as arun and aps show it; a restartable actor takes its group along
    #[arg(
        value_name = "AID",
        required_unless_present = "gid",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub aid: Option<u32>,
}

impl Akill {
    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        let target = match (self.gid, self.aid) {
            (Some(gid), _) => KillTarget::Group(Gid(gid)),
            (None, Some(aid)) => KillTarget::Aid(Aid(aid)),
            (None, None) => {
                return Err(CommandError::Usage("AID is missing; see help akill".into()));
            }
        };
        cx.site()?
            .kill(target, self.clean)
            .await
            .map_err(CommandError::failed)?;
        Ok(Flow::Next)
    }
}
