//! Whole files of commands through the script reader, by an interpreter without a site: every error is one
//! plain line, and the file ends, whatever it sources. The file is called `ini`, and may source itself.

use std::fs;
use std::path::Path;

use c_init::interpreter::CInit;
use hr_ctrl::interpreter::{IniMode, Interpreter};

use super::{checked_session, is_kept_back};
use crate::Target;

pub const TARGET: Target = Target {
    name: "sysadm_ini",
    longest: 512,
    words: &[
        "\n",
        "\r\n",
        "# ",
        "setenv A 1\n",
        "unsetenv A\n",
        "echo ",
        "source ini\n",
        "ulimit -",
        "umask ",
        "arun -g 1 ",
        "help\n",
        "env\n",
        "exit\n",
        "'",
        "\"",
        "\\\n",
    ],
    put,
};

fn put(bytes: &[u8], scratch: &Path) {
    for line in bytes.split(|byte| *byte == b'\n') {
        let text = std::str::from_utf8(line).unwrap_or_default();
        if is_kept_back(&c_init::words::split(text).unwrap_or_default()) {
            return;
        }
    }
    fs::write(scratch.join("ini"), bytes).expect("the file can be written");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime can be made");
    for mode in [IniMode::Start, IniMode::Adopt { from: Some(2) }] {
        let interpreter = CInit::without_site(Vec::new());
        let session = checked_session(scratch);
        let failed =
            runtime.block_on(interpreter.read_ini(&session, "ini".as_ref(), mode, &|_| ()));
        let lines = bytes.split(|byte| *byte == b'\n').count();
        assert!(failed as usize <= lines, "{failed} of {lines} lines failed");
    }
}
