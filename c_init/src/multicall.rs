//! One binary, several names, in the manner of busybox: what `argv[0]` says is what runs.
//!
//! Nucleus and hr_ctrl are this binary too, so that a site needs one file only, and runs from a
//! copy of it in memory.

use std::env;

use crate::{applet, bank, commands, doctor, factory, program};

/// The entry point of the binary `c_init`: goes by the name it was called by. Answers the exit
/// code.
#[must_use]
pub fn main() -> i32 {
    let name = env::args_os().next().unwrap_or_default();
    let name = name.to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or_default();
    match name {
        "nucleus" => hr_ctrl::nucleus::main(&arguments()),
        "hr_ctrl" => hr_ctrl::controller::main(&arguments(), factory()),
        name if commands::find(name).is_some() => applet::main(name),
        // The two commands that need no site; a file of that name is read as `./bank`.
        _ => match env::args_os().nth(1) {
            Some(word) if word == "bank" => bank::main(),
            Some(word) if word == "doctor" => doctor::main(),
            _ => program::main(),
        },
    }
}

/// The arguments of a boot process; they come from this program itself and are text.
fn arguments() -> Vec<String> {
    env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}
