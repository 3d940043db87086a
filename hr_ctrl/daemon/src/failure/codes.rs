//! Signals and their codes in words.
//!
//! Called for a [`super::Report`]. It must never say more than the kernel does: an unknown code stays a
//! number. Source: signal(7), sigaction(2), asm-generic/siginfo.h.

use std::borrow::Cow;

/// `si_code` of what the kernel sends without further reason.
const SI_KERNEL: i32 = 0x80;

const SIGILL: i32 = 4;
const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;

/// The name of a signal.
pub(super) fn signal(number: i32) -> Cow<'static, str> {
    Cow::Borrowed(match number {
        SIGILL => "SIGILL",
        5 => "SIGTRAP",
        SIGABRT => "SIGABRT",
        SIGBUS => "SIGBUS",
        SIGFPE => "SIGFPE",
        SIGSEGV => "SIGSEGV",
        31 => "SIGSYS",
        other => return Cow::Owned(format!("signal {other}")),
    })
}

/// Why it came.
pub(super) fn reason(signal: i32, code: i32) -> Cow<'static, str> {
    Cow::Borrowed(match (signal, code) {
        (SIGSEGV, 1) => "address not mapped",
        (SIGSEGV, 2) => "no permission",
        (SIGSEGV, 3) => "bounds exceeded",
        (SIGSEGV, 4) => "denied by a protection key",
        (SIGSEGV, 8 | 9) => "wrong memory tag",
        (SIGSEGV, 10) => "control flow protection",
        (SIGBUS, 1) => "address not aligned",
        (SIGBUS, 2) => "nothing behind the address",
        (SIGBUS, 3) => "hardware error",
        (SIGBUS, 4 | 5) => "broken memory",
        (SIGFPE, 1) => "division by zero",
        (SIGFPE, 2) => "integer overflow",
        (SIGFPE, 3) => "floating point division by zero",
        (SIGFPE, 4) => "floating point overflow",
        (SIGFPE, 5) => "floating point underflow",
        (SIGFPE, 6) => "floating point inexact",
        (SIGFPE, 7) => "floating point invalid",
        (SIGFPE, 8) => "index out of range",
        (SIGILL, 1) => "illegal opcode",
        (SIGILL, 2) => "illegal operand",
        (SIGILL, 3) => "illegal addressing mode",
        (SIGILL, 4) => "illegal trap",
        (SIGILL, 5) => "privileged opcode",
        (SIGILL, 6) => "privileged register",
        (SIGILL, 7) => "coprocessor error",
        (SIGILL, 8) => "internal stack error",
        (SIGSEGV, SI_KERNEL) => "address not valid",
        (_, SI_KERNEL) => "sent by the kernel",
        (_, 0) => "sent by a process",
        (_, -1) => "queued by a process",
        (_, -2) => "timer expired",
        (SIGABRT, -6) => "raised by itself",
        (_, -6) => "sent to the thread",
        (_, other) => return Cow::Owned(format!("code {other}")),
    })
}

/// Whether `si_addr` is the address that could not be reached. For SIGFPE and SIGILL it is the
/// instruction, which is told anyway; for what somebody sent it means nothing.
pub(super) fn has_address(signal: i32, code: i32) -> bool {
    matches!(signal, SIGSEGV | SIGBUS) && code > 0 && code != SI_KERNEL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words_where_they_are_known() {
        assert_eq!(signal(11), "SIGSEGV");
        assert_eq!(signal(-3), "signal -3");
        assert_eq!(reason(SIGFPE, 1), "division by zero");
        assert_eq!(reason(SIGABRT, -6), "raised by itself");
        assert_eq!(reason(SIGBUS, 99), "code 99");
    }

    #[test]
    fn a_signal_that_was_sent_has_no_address() {
        assert!(has_address(SIGSEGV, 1));
        assert!(!has_address(SIGSEGV, 0));
        assert!(!has_address(SIGSEGV, SI_KERNEL));
        assert!(!has_address(SIGABRT, 1));
    }
}
