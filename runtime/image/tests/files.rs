//! Files that are no images: one clear error each, with the path.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use refrain_image::{Image, ImageError, find_in_path};

fn file(directory: &Path, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// The one-line error that loading `path` gives, without the path in front.
fn refusal(path: &Path) -> String {
    let error = Image::load(path).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n'), "more than one line: {text}");
    let start = format!("{}: ", path.display());
    text.strip_prefix(&start)
        .unwrap_or_else(|| panic!("does not name {start}{text}"))
        .to_owned()
}

#[test]
fn every_bad_file_has_an_error_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().canonicalize().unwrap();
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(refusal(&here.join("none")), "no such file");
    assert_eq!(refusal(&here), "is a directory, name the program in it");
    let plain = file(&here, "plain", &program, 0o644);
    assert_eq!(refusal(&plain), "not executable (chmod +x makes it so)");
    assert_eq!(refusal(&plain.join("below")), "no such file");
    assert_eq!(refusal(&file(&here, "empty", b"", 0o755)), "empty file");
    let cut = file(&here, "cut", &program[..program.len() / 2], 0o755);
    assert!(
        refusal(&cut).starts_with("truncated ELF file: "),
        "{}",
        refusal(&cut)
    );
    let short = file(&here, "short", &program[..20], 0o755);
    assert!(refusal(&short).starts_with("truncated ELF file: its header"));
    let mut other = program.clone();
    other[18..20].copy_from_slice(&243u16.to_le_bytes());
    let other = file(&here, "other", &other, 0o755);
    assert!(refusal(&other).starts_with("built for riscv, this machine is "));
    let text = file(&here, "text", b"hello, world\n", 0o755);
    assert!(refusal(&text).starts_with("neither ELF nor script"));
    let device = Path::new("/dev/null");
    assert!(refusal(device).starts_with("not a regular file"));
}

#[test]
fn a_script_whose_interpreter_is_not_there_says_which() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().canonicalize().unwrap();
    let gone = file(&here, "gone", b"#!/no/such/shell\n", 0o755);
    assert_eq!(
        refusal(&gone),
        "its interpreter /no/such/shell is not there"
    );
    let relative = file(&here, "relative", b"#!sh\n", 0o755);
    assert_eq!(
        refusal(&relative),
        "its interpreter sh is not an absolute path"
    );
    let env = file(
        &here,
        "env",
        b"#!/usr/bin/env no-such-program-here\n",
        0o755,
    );
    assert_eq!(
        refusal(&env),
        "its interpreter no-such-program-here is not in PATH"
    );
    let blank = file(&here, "blank", b"#!\n", 0o755);
    assert!(refusal(&blank).contains("is no program"));
    let own = here.join("circle");
    file(
        &here,
        "circle",
        format!("#!{}\n", own.display()).as_bytes(),
        0o755,
    );
    assert_eq!(refusal(&own), "its interpreter #! leads to scripts only");
    let text = file(&here, "plain", b"hello", 0o755);
    let by_text = file(
        &here,
        "by",
        format!("#!{}\n", text.display()).as_bytes(),
        0o755,
    );
    assert!(
        refusal(&by_text).contains("can't be used"),
        "{}",
        refusal(&by_text)
    );
}

#[test]
fn a_script_carries_its_bytes_and_its_interpreter() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(
        directory.path(),
        "script",
        b"#!/bin/sh -e\necho hello\n",
        0o755,
    );
    let image = Image::load(&path).unwrap();
    let script = image.script.unwrap();
    assert_eq!(image.path, Path::new("/bin/sh").canonicalize().unwrap());
    assert_eq!(script.interpreter.to_str(), Ok("/bin/sh"));
    assert_eq!(script.arguments.len(), 1);
    let mut bytes = [0; 24];
    assert_eq!(rustix::io::pread(&script.fd, &mut bytes, 0).unwrap(), 24);
    assert_eq!(&bytes, b"#!/bin/sh -e\necho hello\n");
}

#[test]
fn a_script_that_is_run_by_a_script_is_run_as_the_kernel_would() {
    let directory = tempfile::tempdir().unwrap();
    let first = file(directory.path(), "first", b"#!/bin/sh -e\n", 0o755);
    let line = format!("#!{} word\n", first.display());
    let script = Image::load(&file(directory.path(), "second", line.as_bytes(), 0o755));
    let script = script.unwrap().script.unwrap();
    let arguments: Vec<_> = script
        .arguments
        .iter()
        .map(|word| word.to_str().unwrap())
        .collect();
    assert_eq!(arguments, ["-e", first.to_str().unwrap(), "word"]);
    assert_eq!(script.interpreter.to_str(), Ok("/bin/sh"));
}

#[test]
fn an_image_can_not_be_changed_any_more() {
    let image = Image::load(&std::env::current_exe().unwrap()).unwrap();
    assert!(image.size > 100_000);
    assert!(rustix::io::pwrite(&image.fd, b"x", 0).is_err());
    assert!(rustix::fs::ftruncate(&image.fd, 0).is_err());
}

#[test]
fn programs_are_found_along_a_path() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    file(here, "tool", b"#!/bin/sh\n", 0o755);
    file(here, "data", b"x", 0o644);
    let find = |name: &str| find_in_path(name.as_ref(), here.as_os_str());
    assert_eq!(find("tool"), Some(here.join("tool")));
    assert_eq!(find("data"), None);
    assert_eq!(find("none"), None);
    assert_eq!(find("./a/b"), Some(PathBuf::from("./a/b")));
}

#[test]
fn errors_are_told_apart_by_their_kind() {
    assert!(matches!(
        Image::load(Path::new("/")),
        Err(ImageError::IsDirectory(_))
    ));
    assert!(matches!(
        Image::in_place(Path::new("/none")),
        Err(ImageError::NotFound(_))
    ));
}
