//! The harness of the system tests: starts a site of its own for each test, talks to it through
//! the command line only (DESIGN section 7), and sees to it that nothing of it is left behind.
//!
//! Used by the files in `tests/tests`, each a theme of SPEC part I and II. It must never reach
//! into a crate of the product: what a test cannot do with `c_init`, signals and `/proc`, a user
//! cannot do either. No test is decided by elapsed time; every wait is for a condition, with a
//! generous watchdog ([`wait::until`]).
//!
//! | variable | meaning |
//! | --- | --- |
//! | `REFRAIN_STORM` | how many crashes `storm.rs` makes, 10,000 if unset |
//! | `REFRAIN_CONTROLLER_KILLS` | how often `adoption.rs` kills hr_ctrl, 60 if unset |
//! | `REFRAIN_KV_CRASHES` | how often `kv_server` crashes the server, 60 if unset |
//! | `REFRAIN_CHAOS`, `SEED` | how many random steps `chaos.rs` takes, and which ones |
//! | `REFRAIN_TESTS_PREBUILT` | set: the programs under test are built already |

pub mod binaries;
pub mod console;
pub mod leftovers;
pub mod options;
pub mod proc;
pub mod programs;
pub mod resp;
pub mod row;
pub mod run;
pub mod site;
pub mod tracer;
pub mod wait;
pub mod watched;

pub use options::Options;
pub use row::Row;
pub use run::Finished;
pub use site::Site;
pub use tracer::Tracer;
