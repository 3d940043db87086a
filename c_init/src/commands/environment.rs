//! `setenv`, `unsetenv`, `env` and `echo`: the interpreter's environment, which the actors
//! started afterwards are given (SPEC C2). It is one for the whole site, and a site restart
//! resets it to what the site was started with.

use clap::Args;

use super::{CommandError, Flow, Outcome};
use crate::interpreter::Context;

/// `setenv`: sets a variable.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "setenv VAR VALUE")]
pub struct Setenv {
    /// the variable
    #[arg(value_name = "VAR")]
    pub name: String,
    /// its value; quote it where it holds blanks
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub value: String,
}

impl Setenv {
    pub(crate) fn run(&self, cx: &Context<'_>) -> Outcome {
        check_name(&self.name)?;
        cx.state_mut()
            .env
            .insert(self.name.clone(), self.value.clone());
        Ok(Flow::Next)
    }
}

/// `unsetenv`: removes a variable.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "unsetenv VAR")]
pub struct Unsetenv {
    /// the variable; removing one that is not set does nothing
    #[arg(value_name = "VAR")]
    pub name: String,
}

impl Unsetenv {
    pub(crate) fn run(&self, cx: &Context<'_>) -> Outcome {
        check_name(&self.name)?;
        cx.state_mut().env.remove(&self.name);
        Ok(Flow::Next)
    }
}

/// What execve(2) can carry as a name.
fn check_name(name: &str) -> Result<(), CommandError> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(CommandError::Failed(format!(
            "'{name}' is no name of a variable"
        )));
    }
    Ok(())
}

/// `env`: lists the environment.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "env")]
pub struct Env {}

impl Env {
    pub(crate) fn run(&self, cx: &Context<'_>) -> Outcome {
        let env: String = cx
            .state()
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        cx.out(env);
        Ok(Flow::Next)
    }
}

/// `echo`: prints the words.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "echo [WORD...]", disable_help_flag = true)]
pub struct Echo {
    /// what to print, with a blank between two words
    #[arg(
        value_name = "WORD",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub words: Vec<String>,
}

impl Echo {
    pub(crate) fn run(&self, cx: &Context<'_>) -> Outcome {
        cx.out(self.words.join(" ") + "\n");
        Ok(Flow::Next)
    }
}
