//! `source`, `sleep` and `exit`: what a file of commands is made of.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{CommandError, Flow, Outcome};
use crate::interpreter::Context;

/// `source`: carries out the commands in a file.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "source FILE")]
pub struct Source {
    /// the file; a relative path starts at the session's directory
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

impl Source {
    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        let inner = cx.deeper()?;
        let failed = crate::interpreter::script::run(&inner, &self.file)
            .await
            .map_err(|why| CommandError::Failed(format!("{}: {why}", self.file.display())))?;
        if failed == 0 {
            Ok(Flow::Next)
        } else {
            Err(CommandError::Reported)
        }
    }
}

/// `sleep`: waits.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "sleep [SECONDS]")]
pub struct Sleep {
    /// how long, with decimals if need be
    #[arg(value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub time: Duration,
}

impl Sleep {
    pub(crate) async fn run(&self) -> Outcome {
        tokio::time::sleep(self.time).await;
        Ok(Flow::Next)
    }
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|why| why.to_string())
}

/// `exit`: leaves the file or the session.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "exit")]
pub struct Exit {}

impl Exit {
    // A session's end is its client's affair: see `client::console`.
    pub(crate) fn run(&self) -> Outcome {
        Ok(Flow::End)
    }
}
