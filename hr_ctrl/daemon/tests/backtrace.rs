//! A failure in words: real programs that fail, what their handlers saw, and the names that come out.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;

use hr_ctrl::failure::{self, Objects, Report};
use refrain_abi::Serial;
use refrain_abi::control::{ControlPage, Failure};

/// A program that waits in its handler. Ended when dropped.
struct Crashed {
    child: Child,
    page: ControlPage,
}

impl Drop for Crashed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Crashed {
    fn new(program: &Path, how: &str) -> Self {
        let mut child = Command::new(program)
            .arg(how)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut record = [0; size_of::<Failure>()];
        child
            .stdout
            .take()
            .unwrap()
            .read_exact(&mut record)
            .unwrap();
        Self {
            child,
            page: page_with(&record),
        }
    }

    fn objects(&self) -> Objects {
        Objects::of_template(self.child.id(), None).unwrap()
    }

    fn report(&self) -> Report {
        let record = failure::copy(&self.page, Serial(1)).unwrap();
        failure::explain(&record, &self.objects())
    }
}

/// A control page with the words that a handler wrote.
fn page_with(record: &[u8]) -> ControlPage {
    let short = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    let page = ControlPage::default();
    let failure = &page.failure;
    failure.serial.store(short(0), Relaxed);
    failure.signal.store(short(4), Relaxed);
    failure.code.store(short(8), Relaxed);
    failure.stack_len.store(short(12), Relaxed);
    failure.address.store(long(16), Relaxed);
    failure.instruction.store(long(24), Relaxed);
    failure.stack_pointer.store(long(32), Relaxed);
    failure.frame_pointer.store(long(40), Relaxed);
    failure.link.store(long(48), Relaxed);
    failure.thread.store(short(56), Relaxed);
    for (n, word) in failure.stack.iter().enumerate() {
        word.store(long(64 + 8 * n), Relaxed);
    }
    page
}

fn compile(dir: &Path, flags: &[&str]) -> PathBuf {
    let program = dir.join("crash");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash.c");
    let status = Command::new("cc")
        // No `inner.cold` beside `inner`.
        .args([
            "-O2",
            "-fno-optimize-sibling-calls",
            "-fno-reorder-blocks-and-partition",
        ])
        .arg("-o")
        .args([&program, &source])
        .args(flags)
        .status()
        .unwrap();
    assert!(status.success());
    program
}

fn names(report: &Report) -> Vec<&str> {
    let frames = report.backtrace.iter();
    frames.filter_map(|f| f.function.as_deref()).collect()
}

/// Fails unless these functions are in the backtrace, in this order; others may lie between them.
#[track_caller]
fn assert_in_order(report: &Report, expected: &[&str]) {
    let mut found = report
        .backtrace
        .iter()
        .filter_map(|f| f.function.as_deref());
    for name in expected {
        assert!(found.any(|f| f == *name), "{name} in {report:#?}");
    }
}

const NO_FRAME_POINTERS: &[&str] = &["-fomit-frame-pointer"];

#[test]
fn the_calls_of_a_program_without_frame_pointers_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let report = Crashed::new(&compile(dir.path(), NO_FRAME_POINTERS), "write").report();
    assert_eq!(names(&report)[..4], ["inner", "middle", "outer", "main"]);
    assert_eq!((report.signal, report.address), (11, Some(0)));
    let line = report.to_string();
    let start = "SIGSEGV (address not mapped) at 0x0, in crash+0x";
    assert!(line.starts_with(start), "{line}");
    assert!(line.contains(" (function inner+0x"), "{line}");
    let offset = report.backtrace[0].offset;
    assert!(line.contains(&format!("crash+{offset:#x}")), "{line}");
}

#[test]
fn the_offset_of_a_frame_is_the_address_in_its_file() {
    let dir = tempfile::tempdir().unwrap();
    for flags in [&["-g", "-pie"][..], &["-g", "-no-pie"]] {
        let program = compile(dir.path(), flags);
        let report = Crashed::new(&program, "write").report();
        let offset = format!("{:#x}", report.backtrace[0].offset);
        let answer = Command::new("addr2line")
            .args(["-f", "-e"])
            .arg(&program)
            .arg(&offset)
            .output()
            .unwrap();
        let answer = String::from_utf8(answer.stdout).unwrap();
        assert!(answer.starts_with("inner\n"), "{offset}: {answer}");
    }
}

#[test]
fn abort_is_told_with_who_called_it() {
    let dir = tempfile::tempdir().unwrap();
    let report = Crashed::new(&compile(dir.path(), NO_FRAME_POINTERS), "abort").report();
    assert_in_order(&report, &["abort", "inner", "middle", "outer", "main"]);
    let line = report.to_string();
    assert!(line.starts_with("SIGABRT (raised by itself), in libc.so.6+0x"));
    assert!(line.contains(", called from crash+0x"), "{line}");
    assert!(line.contains(" (function inner+0x"), "{line}");
}

#[test]
fn a_call_of_no_function_is_told_with_who_called_it() {
    let dir = tempfile::tempdir().unwrap();
    let report = Crashed::new(&compile(dir.path(), NO_FRAME_POINTERS), "call").report();
    assert_eq!(report.backtrace[0].to_string(), "0x0");
    assert_eq!(names(&report)[..4], ["inner", "middle", "outer", "main"]);
}

#[test]
fn a_backtrace_goes_on_through_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let report = Crashed::new(&compile(dir.path(), NO_FRAME_POINTERS), "signal").report();
    assert_eq!(
        names(&report)[..4],
        ["inner", "middle", "outer", "own_handler"]
    );
    // The trampoline and what the signal interrupted. The frames of that lie past the recorded stack.
    let interrupted: Vec<&str> = report.backtrace[4..]
        .iter()
        .map(|f| f.object.as_str())
        .collect();
    assert_eq!(interrupted, ["libc.so.6", "libc.so.6"]);
}

#[test]
fn frame_pointers_are_followed_where_a_program_has_no_table() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "-fno-omit-frame-pointer",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
    ];
    let report = Crashed::new(&compile(dir.path(), &flags), "write").report();
    assert_eq!(names(&report)[..4], ["inner", "middle", "outer", "main"]);
}

#[test]
fn a_stripped_program_has_frames_without_wrong_names() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(dir.path(), NO_FRAME_POINTERS);
    let named = Crashed::new(&program, "write").report();
    assert!(
        Command::new("strip")
            .arg(&program)
            .status()
            .unwrap()
            .success()
    );
    let stripped = Crashed::new(&program, "write").report();
    let offsets = |report: &Report| -> Vec<u64> {
        let frames = report.backtrace.iter();
        frames.map(|frame| frame.offset).take(4).collect()
    };
    assert_eq!(offsets(&stripped), offsets(&named));
    let of_program = stripped.backtrace.iter().filter(|f| f.object == "crash");
    assert!(of_program.clone().count() >= 4);
    assert!(of_program.clone().all(|f| f.function.is_none()));
}

#[test]
fn the_image_may_be_given_where_no_path_leads_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(dir.path(), NO_FRAME_POINTERS);
    let image = File::open(&program).unwrap();
    let crashed = Crashed::new(&program, "write");
    std::fs::remove_file(&program).unwrap();
    let record = failure::copy(&crashed.page, Serial(1)).unwrap();
    let objects = Objects::of_template(crashed.child.id(), Some(image.into())).unwrap();
    let report = failure::explain(&record, &objects);
    assert_eq!(report.backtrace[0].object, "crash");
    assert_eq!(names(&report)[..4], ["inner", "middle", "outer", "main"]);
}

#[test]
fn a_report_is_json_without_a_byte_of_the_stack() {
    let dir = tempfile::tempdir().unwrap();
    let report = Crashed::new(&compile(dir.path(), NO_FRAME_POINTERS), "write").report();
    let json = serde_json::to_value(&report).unwrap();
    let fields: Vec<&String> = json.as_object().unwrap().keys().collect();
    let expected = [
        "address",
        "backtrace",
        "code",
        "instruction",
        "program",
        "signal",
        "thread",
    ];
    assert_eq!(fields, expected);
    assert_eq!(json["backtrace"][0]["function"], "inner");
}

#[test]
fn without_a_template_there_is_the_instruction_alone() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = Crashed::new(&compile(dir.path(), NO_FRAME_POINTERS), "write");
    let record = failure::copy(&crashed.page, Serial(1)).unwrap();
    let pid = crashed.child.id();
    drop(crashed);
    assert!(Objects::of_template(pid, None).is_err());
    let report = failure::explain(&record, &Objects::unknown());
    assert_eq!(report.backtrace.len(), 1);
    assert_eq!(report.backtrace[0].address, report.instruction);
}
