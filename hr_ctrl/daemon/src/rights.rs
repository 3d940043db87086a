//! Actors of another user (`arun -u`): what they may read is what they may run.
//!
//! The controller reads programs into memory with its own rights, which are root's where there are other
//! users. So the files of such an actor are opened with that user's: an actor that spawns another one
//! must not get to see, as an image, what it may not read. Called by the loader, on its threads. Must never
//! execute anything on the way.

use std::os::fd::AsFd;
use std::path::Path;

use refrain_abi::limits::RunAs;
use refrain_image::{Image, image::ImageError};
use refrain_sys::user::{self, Credentials};
use rustix::fs::{Access, AtFlags, CWD, Gid, Uid};

use crate::site::StartSpec;

/// The user as the kernel takes him.
#[must_use]
pub fn credentials(user: &RunAs) -> Credentials {
    Credentials {
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
    }
}

/// Reads the program of an actor that runs as `user`.
///
/// # Errors
/// One line: what that user may not do, or what is wrong with the file.
pub fn load_image(user: &RunAs, path: &Path, spec: &StartSpec) -> Result<Image, String> {
    let cwd = &spec.cwd;
    let load = || {
        // Here, because the exec that would fail says no more than "permission denied".
        if rustix::fs::accessat(CWD, cwd, Access::EXEC_OK, AtFlags::EACCESS).is_err() {
            let cwd = cwd.display();
            return Err(format!(
                "may not enter {cwd}; run it from a directory that is open to that user"
            ));
        }
        Image::load_for_another(path, spec.in_place).map_err(|error| match error {
            ImageError::NoExecMemfd(path) => format!(
                "{}: another user's program needs executable memfds (vm.memfd_noexec=2)",
                path.display()
            ),
            error => error.to_string(),
        })
    };
    let name = &user.name;
    let image = user::with_files_of(&credentials(user), load)
        .map_err(|error| format!("rights of user {name}: {error}"))?
        .map_err(|why| format!("as user {name}: {why}"))?;
    if !spec.in_place {
        // Made with the user's rights to files, the copy would be his to change the mode of.
        disown(image.fd.as_fd())?;
    }
    if let Some(script) = &image.script {
        disown(script.fd.as_fd())?;
    }
    Ok(image)
}

fn disown(fd: impl AsFd) -> Result<(), String> {
    rustix::fs::fchown(fd, Some(Uid::ROOT), Some(Gid::ROOT))
        .map_err(|error| format!("its image: {error}"))
}
