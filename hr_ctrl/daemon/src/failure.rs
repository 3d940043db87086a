//! What a life's fault handler saw, as text for the console, the log and `aps -l`.
//!
//! The handler leaves signal, addresses, registers and a piece of the stack in the control page
//! (`runtime/abi/src/control.rs`). The engine copies that record ([`copy`]) when it learns of the failure, and
//! has it explained ([`explain`]) on a thread that may wait, after the next life has begun. The layout
//! of the life is that of its template (SPEC H11), so [`Objects`] looks at the template.
//!
//! The frames are found by the table that each program carries for its exceptions (`.eh_frame`), so that
//! programs without frame pointers have a backtrace too; by the chain of frame pointers where there is
//! no table; and the instruction is told in any case. What a life loaded after `main` began is not
//! known: its frames are addresses, and the backtrace ends there.
//!
//! It must never be called on the restart path, because it reads programs and libraries from their
//! files. It must never trust a word of the record or of a file: each is bounded and checked, and nonsense
//! makes a shorter backtrace. And it must never show what was on the stack, which may be a secret: of the
//! record's bytes it shows return addresses, and those only where they lie in code that is mapped.
//! What it does show are the registers that say where the life was, names and offsets.

mod codes;
mod elf;
mod maps;
mod names;
mod record;
mod unwind;
mod walk;

use std::fmt::{self, Display};

use serde::Serialize;

pub use maps::Objects;
pub use record::{Record, copy};

/// A failure in words: what happened, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The signal's number.
    pub signal: i32,
    /// `si_code`: what the kernel says about it.
    pub code: i32,
    /// The address that could not be reached, for SIGSEGV and SIGBUS of the kernel's own.
    pub address: Option<u64>,
    /// The address of the instruction.
    pub instruction: u64,
    /// The id of the thread.
    pub thread: u32,
    /// The name that frames in the program itself have as their object; empty if that is not known.
    pub program: String,
    /// The instruction first, then who called; never empty.
    pub backtrace: Vec<Frame>,
}

/// A place in a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Frame {
    /// The address in the life: of the instruction, or the one that a call returns to.
    pub address: u64,
    /// The name of the program or library; empty where nothing is known to be at that address.
    pub object: String,
    /// The address as that file counts it, which is what `addr2line` and `objdump` take.
    pub offset: u64,
    /// The function, where the file names it.
    pub function: Option<String>,
    /// How many bytes into the function; 0 without one.
    pub function_offset: u64,
}

/// Puts a record into words. Reads files: not for a thread that serves others.
///
/// Each file is read in part and within limits, but it takes as long as its file system does.
#[must_use]
pub fn explain(record: &Record, objects: &Objects) -> Report {
    Report {
        signal: record.signal,
        code: record.code,
        address: codes::has_address(record.signal, record.code).then_some(record.address),
        instruction: record.instruction,
        thread: record.thread,
        program: objects.program(),
        backtrace: walk::backtrace(record, objects),
    }
}

impl Display for Report {
    /// One line, as `SIGSEGV (address not mapped) at 0x0, in crash+0x1139 (function main+0x12)`. Where
    /// that is in a library, the innermost frame of the program follows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signal = codes::signal(self.signal);
        write!(f, "{signal} ({})", codes::reason(self.signal, self.code))?;
        if let Some(address) = self.address {
            write!(f, " at {address:#x}")?;
        }
        let Some(first) = self.backtrace.first() else {
            return Ok(());
        };
        write!(f, ", in {first}")?;
        if first.object == self.program {
            return Ok(());
        }
        let of_program = |frame: &&Frame| !frame.object.is_empty() && frame.object == self.program;
        match self.backtrace.iter().find(of_program) {
            Some(caller) => write!(f, ", called from {caller}"),
            None => Ok(()),
        }
    }
}

impl Display for Frame {
    /// As `crash+0x1139 (function main+0x12)`, or the address alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.object.is_empty() {
            return write!(f, "{:#x}", self.address);
        }
        write!(f, "{}+{:#x}", self.object, self.offset)?;
        match &self.function {
            Some(name) => write!(f, " (function {name}+{:#x})", self.function_offset),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(object: &str, function: Option<&str>) -> Frame {
        Frame {
            address: 0x5555_0000_1139,
            object: object.to_owned(),
            offset: 0x1139,
            function: function.map(str::to_owned),
            function_offset: 0x12,
        }
    }

    fn report(backtrace: Vec<Frame>) -> Report {
        Report {
            signal: 11,
            code: 1,
            address: Some(0),
            instruction: 0x5555_0000_1139,
            thread: 7,
            program: "crash".to_owned(),
            backtrace,
        }
    }

    #[test]
    fn a_failure_is_told_in_one_line() {
        assert_eq!(
            report(vec![
                frame("crash", Some("main")),
                frame("libc.so.6", Some("f"))
            ])
            .to_string(),
            "SIGSEGV (address not mapped) at 0x0, in crash+0x1139 (function main+0x12)"
        );
    }

    #[test]
    fn a_failure_in_a_library_names_who_called_it() {
        assert_eq!(
            report(vec![
                frame("libc.so.6", None),
                frame("libstdc++.so.6", Some("abort")),
                frame("crash", Some("main")),
            ])
            .to_string(),
            "SIGSEGV (address not mapped) at 0x0, in libc.so.6+0x1139, \
             called from crash+0x1139 (function main+0x12)"
        );
    }

    #[test]
    fn an_address_without_an_object_stands_alone() {
        assert_eq!(
            report(vec![frame("", None)]).to_string(),
            "SIGSEGV (address not mapped) at 0x0, in 0x555500001139"
        );
    }
}
