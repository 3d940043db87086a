//! The control page: 4 KiB that an actor, its template and the controller share.
//!
//! | word | writer | meaning |
//! | --- | --- | --- |
//! | `wake` | controller | the highest serial that may run; the futex that standbys sleep on |
//! | `clean` | life | its own serial, stored by `HR_EXIT_HDL` (SPEC H21): one atomic store |
//! | `began` | life | its own serial, stored on waking, before `main` |
//! | `exec_errno` | life | why `execveat` of the image failed, for lives that start by exec |
//! | `end_*` | template | the last life that the template reaped |
//! | `progress` | life | a counter that an actor may advance |
//!
//! The actor can write every word, so the controller takes none of them for an index, a length
//! or a pid. A life that writes nonsense here harms nobody but itself.
//!
//! Why `clean` holds a serial and not a flag: nothing has to reset it between two lives, so a
//! store that comes late from a dying life cannot make its successor's end look clean.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// The size of the page and of the memfd behind it, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// The first word of every control page: "RFRN".
pub const MAGIC: u32 = u32::from_le_bytes(*b"RFRN");

/// The version of this layout.
pub const VERSION: u32 = 1;

/// The layout of the control page, from its first byte. Rest of the page: zero, reserved.
#[repr(C)]
#[derive(Debug, Default)]
pub struct ControlPage {
    /// Offset 0: [`MAGIC`].
    pub magic: AtomicU32,
    /// Offset 4: [`VERSION`].
    pub version: AtomicU32,
    /// Offset 8: the highest serial that may run (futex).
    pub wake: AtomicU32,
    /// Offset 12: the serial of the life that began last.
    pub began: AtomicU32,
    /// Offset 16: the serial of the life that called the exit handler last.
    pub clean: AtomicU32,
    /// Offset 20: the errno of the last failed `execveat`, 0 for none.
    pub exec_errno: AtomicU32,
    /// Offset 24: progress counter.
    pub progress: AtomicU64,
    /// Offset 32: pid of the life that the template reaped last.
    pub end_pid: AtomicU32,
    /// Offset 36: its wait status, as `waitpid` gives it.
    pub end_status: AtomicU32,
    /// Offset 40: how many lives the template has reaped; advanced after the two words above.
    pub end_count: AtomicU32,
}
