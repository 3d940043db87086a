//! An image over the death of the controller that loaded it.
//!
//! nucleus keeps an image's fds; everything else of it fits a [`Record`], which the controller keeps
//! with the actor's registration. Called by a new controller. Must never open the program's file:
//! it may be another by now, or gone.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::image::{expand_origin, linkage};
use crate::{Image, elf, image};

/// What is remembered of an image besides its fds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`Image::path`].
    pub path: PathBuf,
    /// [`Image::size`], in bytes.
    pub size: u64,
    /// Its script.
    pub script: Option<ScriptRecord>,
}

/// What is remembered of a script besides its fd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptRecord {
    path: PathBuf,
    interpreter: CString,
    arguments: Vec<CString>,
}

impl Image {
    /// What to remember of it.
    #[must_use]
    pub fn record(&self) -> Record {
        let script = self.script.as_ref();
        Record {
            path: self.path.clone(),
            size: self.size,
            script: script.map(|script| ScriptRecord {
                path: script.path.clone(),
                interpreter: script.interpreter.clone(),
                arguments: script.arguments.clone(),
            }),
        }
    }

    /// The fds to keep: its own, and its script's.
    #[must_use]
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let script = self.script.as_ref().map(|script| script.fd.as_fd());
        [Some(self.fd.as_fd()), script]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The image again, from what was kept of it.
    ///
    /// # Errors
    /// `InvalidData` when the fds are not those of the record.
    pub fn from_kept(record: Record, fds: Vec<OwnedFd>) -> io::Result<Self> {
        let other = || io::Error::from(io::ErrorKind::InvalidData);
        let mut fds = fds.into_iter();
        let fd = fds.next().ok_or_else(other)?;
        let script = match (record.script, fds.next()) {
            (None, None) => None,
            (Some(script), Some(fd)) => Some(image::Script {
                fd,
                path: script.path,
                interpreter: script.interpreter,
                arguments: script.arguments,
            }),
            _ => return Err(other()),
        };
        let elf = elf::inspect(&File::from(fd.try_clone()?)).map_err(|_| other())?;
        let origin_libs = elf
            .search_path
            .as_deref()
            .and_then(|text| expand_origin(text, &record.path));
        Ok(Self {
            linkage: linkage(&elf, false),
            fd,
            script,
            path: record.path,
            size: record.size,
            origin_libs,
        })
    }
}
