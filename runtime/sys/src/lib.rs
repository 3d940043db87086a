//! The only door to Linux: everything above this crate asks the kernel through it or through
//! rustix's safe calls, never through libc.
//!
//! Each module is one of the kernel's own concepts, thin and safe to call. Errors are
//! [`std::io::Error`] as the kernel gave them; what an error *means* is decided above. Nothing here
//! decides policy, logs, or keeps state between two calls.
//!
//! `unsafe` is allowed module by module below, so it can be grepped and counted.

pub mod cgroup;
pub mod children;
pub mod clock;
mod fault_chain;
pub mod first_write;
pub mod futex;
pub mod inherited;
pub mod life_socket;
pub mod limit_group;
pub mod mapping;
pub mod memfd;
pub mod pidfd;
pub mod probe;
pub mod process;
pub mod seqpacket;
pub mod signals;
pub mod spawn;
pub mod user;
pub mod wait_status;
pub mod warm;

mod spawn_child;

pub use pidfd::{Identity, PidFd, Signal};
pub use spawn::Spawn;
pub use wait_status::WaitStatus;
