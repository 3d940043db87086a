//! A restartable program in a few lines: [`run`].
//!
//! Called by `main`, once. It must never make a clean end of a failure: only an `Ok` is one.

use std::error::Error;
use std::process::ExitCode;

use crate::attach::{Actor, attach};

/// Runs `body` as this life. `Ok` is a clean end (SPEC H21): the group terminates when all of its members have
/// ended so. `Err`, which is printed, and a panic are failures: the group is restarted (SPEC H9).
///
/// A program that was started by hand says so and fails.
///
/// ```no_run
/// use std::process::ExitCode;
/// use std::sync::atomic::Ordering::SeqCst;
///
/// fn main() -> ExitCode {
///     refrain::run(|life| {
///         let block = life.pmm_allocate("step", 4096, refrain::HR_GROUP_KEY)?;
///         let step = block.atomic_u64(0)?;
///         while step.load(SeqCst) < 100 {
///             println!("step {} in life {}", step.fetch_add(1, SeqCst), life.life());
///         }
///         Ok(())
///     })
/// }
/// ```
pub fn run(body: impl FnOnce(&'static Actor) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let ended = match attach() {
        Ok(life) => body(life).map(|()| life.hr_exit_hdl()),
        Err(why) => Err(why.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_started_by_hand_fails_without_running_its_body() {
        let code = run(|_| panic!("it has no life"));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
    }
}
