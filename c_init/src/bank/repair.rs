//! `c_init bank repair`: the plan, and carrying it out.

use std::path::Path;

use refrain_pmm::{CheckError, Repair};

use crate::client::screen;
use crate::words::printable;
use crate::{DONE, FAILED};

/// Tells the plan of a repair, and with `yes` carries it out. Answers the exit code: 1 where there is
/// damage and it was left.
pub(super) fn repair(dir: &Path, yes: bool) -> Result<i32, CheckError> {
    let plan = Repair::plan(dir)?;
    if plan.steps().is_empty() {
        screen::out("whole: nothing to repair\n");
        return Ok(DONE);
    }
    let steps = plan.steps().iter();
    screen::out(
        &steps
            .map(|step| format!("{}\n", printable(step)))
            .collect::<String>(),
    );
    if !yes {
        screen::out("nothing was changed; repair --yes does this\n");
        return Ok(FAILED);
    }
    let kept = plan.carry_out()?;
    let kept = kept.display().to_string();
    screen::out(&format!(
        "repaired; what was taken out is in {}\n",
        printable(&kept)
    ));
    Ok(DONE)
}
