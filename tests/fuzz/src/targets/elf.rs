//! Programs: an ELF file or a `#!` line is read, or refused in one line; what is copied is the
//! whole file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use refrain_image::{Image, elf, script};

use crate::Target;

pub const TARGET: Target = Target {
    name: "elf",
    longest: 8 << 10,
    words: &[
        "\x7fELF\x02\x01\x01",
        "#!/bin/sh\n",
        "#!/usr/bin/env -S ",
        "$ORIGIN",
        "__libc_start_main",
        "\x06\0\0\0\0\0\0\0",
    ],
    put,
};

fn put(bytes: &[u8], scratch: &Path) {
    let front = &bytes[..bytes.len().min(script::MAX_LINE)];
    if let Some(line) = script::parse(front) {
        assert!(!line.interpreter.as_os_str().is_empty());
        if let Some(argument) = &line.argument {
            let words = script::env_words(argument);
            assert!(words.is_none_or(|words| !words.is_empty()));
        }
    }
    let inspected = elf::inspect(&bytes);
    // Of files that are no programs, one in some is enough: they take the same way out.
    if inspected.is_err() && !bytes.starts_with(b"#!") && !bytes.len().is_multiple_of(16) {
        return;
    }
    let path = scratch.join("program");
    fs::write(&path, bytes).expect("the program can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be executable");
    match Image::load(&path) {
        Ok(image) if image.script.is_none() => assert_eq!(image.size, bytes.len() as u64),
        Ok(image) => assert!(image.size > bytes.len() as u64),
        Err(why) => {
            // What a script's line names is shown as it is; who shows it makes it printable.
            let line = c_init::words::printable(&why.to_string()).into_owned();
            assert!(super::is_plain_line(&line), "{line:?}");
        }
    }
}
