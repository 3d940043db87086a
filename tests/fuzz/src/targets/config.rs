//! Configurations: what is taken has a window below 2^47 and a bank that fits it; what is refused is
//! refused in one plain line.

use std::path::Path;

use c_init::config::{ConfigError, parse};

use crate::Target;

pub const TARGET: Target = Target {
    name: "config",
    longest: 2048,
    words: &[
        "(pmm: (",
        "ram_bank_size: ",
        "max_blocks: ",
        "window_base: ",
        "window_size: ",
        "keep_on_halt: ",
        "hr_ctrl: (",
        "max_actors: ",
        "interval: ",
        "console: (",
        "log_size: ",
        "\"64MiB\"",
        "\"10s\"",
        "\"1h\"",
        "Some(",
        "0x",
        "#![enable(",
        "r#\"",
        "18446744073709551615",
    ],
    put,
};

fn put(bytes: &[u8], _: &Path) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match parse("site.ron".as_ref(), text) {
        Ok(tunables) => {
            let pmm = tunables.pmm;
            let end = pmm.window_base.checked_add(pmm.window_size);
            assert!(end.is_some_and(|end| end <= 1 << 47));
            assert!(pmm.ram_bank_size <= pmm.window_size);
        }
        Err(why) => {
            let line = why.to_string();
            assert!(super::is_plain_line(&line), "{line:?}");
            if let ConfigError::Wrong { line, column, .. } = why {
                assert!(line >= 1 && column >= 1);
            }
        }
    }
}
