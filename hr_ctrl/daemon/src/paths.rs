//! Where a site is found: its socket and lock, and its bank where `--bank` does not say otherwise.
//!
//! Starters and clients compute the same paths from the site's name alone, so `arun --site NAME`
//! finds a site wherever its bank lies.

use std::env;
use std::path::{Path, PathBuf};

use refrain_sys::process;

/// The site that is meant where none is named.
pub const DEFAULT_SITE: &str = "default";

/// The directory that holds the sockets, and by default the banks, of this user's sites: the
/// first on tmpfs of `/run/refrain` (root only), `$XDG_RUNTIME_DIR/refrain` and
/// `/dev/shm/refrain-UID` (the last in any case).
///
/// A machine whose `/run` is on a disk gets its sites in `/dev/shm`: a bank of medium RAM must
/// not lie on stable storage.
#[must_use]
pub fn site_root() -> PathBuf {
    let uid = process::getuid();
    let run = (uid == 0).then(|| PathBuf::from("/run"));
    let xdg = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    for parent in run.into_iter().chain(xdg) {
        if process::is_tmpfs(&parent).unwrap_or(false) {
            return parent.join("refrain");
        }
    }
    Path::new("/dev/shm").join(format!("refrain-{uid}"))
}

/// The socket that a site listens on.
#[must_use]
pub fn socket(site: &str) -> PathBuf {
    site_root().join(format!("{site}.sock"))
}

/// The file whose lock says that a site of that name runs.
#[must_use]
pub fn lock(site: &str) -> PathBuf {
    site_root().join(format!("{site}.lock"))
}

/// The bank of a site that was started without `--bank`.
#[must_use]
pub fn default_bank(site: &str) -> PathBuf {
    site_root().join(site)
}
