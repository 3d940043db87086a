//! Warm images (SPEC H34): later lives begin from the state that this one has now.
//!
//! Called by a restartable actor once, when its initialisation is done and before it opens or maps
//! what a life has for itself. The state is kept by forking a template off this life, which the
//! preloaded object does; this module looks first whether that can be done, and says what is in the
//! way. It must never let an image be made that shares memory or files with the lives from it.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Mutex;

use refrain_abi::request::{ErrorCode, Reply, Request};
use refrain_sys::warm::{self, Offer, Side};

use crate::attach::{self, Actor, AttachError, attach};
use crate::link::{Answer, RequestError, lock, unexpected};

/// How many files an error names.
const NAMED: usize = 4;

/// What [`image_here`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// This life has made the image, and goes on.
    Made,
    /// This life began from the image: here, not in `main`.
    Begun,
    /// There is an image already, made or begun from by an earlier call in this life.
    Stands,
}

/// Why there is no image of this state. The life goes on as it was, and so do its successors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The program is no actor.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The controller refused, or does not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The life was not forked from a template.
    #[error(
        "no image of a life that was started by exec: aps -l says why it was (static programs, and \
         programs whose constructors start threads, are)"
    )]
    NotForked,
    /// Other threads run; a fork would lose them.
    #[error("no image of a life with {count} threads: call image_here before the others start")]
    Threads {
        /// How many there are, this one included.
        count: usize,
    },
    /// The life has children.
    #[error("no image of a life with children: wait for them, or start them after image_here")]
    Children,
    /// Files are open that later lives would not have.
    #[error(
        "no image of a life with open files: {files}; close them, or open them after image_here"
    )]
    Files {
        /// Which: number and name of the first few.
        files: String,
    },
    /// Blocks are mapped.
    #[error(
        "no image of a life with persistent memory: block {name} is mapped; call pmm_allocate after \
         image_here"
    )]
    Block {
        /// The first of them.
        name: String,
    },
    /// The controller ended before the image stood.
    #[error("no image: the site's controller was started again meanwhile; call image_here again")]
    Lost,
    /// Other memory is shared.
    #[error(
        "no image of a life with shared memory: {what} is mapped at {addr:#x}; map it after image_here"
    )]
    Shared {
        /// What is mapped there.
        what: String,
        /// Where.
        addr: usize,
    },
    /// The kernel's.
    #[error("cannot make an image: {0}")]
    Kernel(#[from] io::Error),
}

impl ImageError {
    /// The controller's family of refusal; `None` where it did not come from there.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Request(error) | Self::Attach(AttachError::Request(error)) => error.code(),
            Self::Lost => Some(ErrorCode::Again),
            _ => None,
        }
    }
}

/// Whether this life has an image behind it: made by it, or begun from.
static STANDS: Mutex<bool> = Mutex::new(false);

/// Makes the present state of this life the image from which later lives begin (SPEC H34).
///
/// Call it once, when what takes long is done (modules imported, tables loaded) and before the life
/// opens files, starts threads or maps blocks. It returns in this life with [`Image::Made`]; and when
/// the group is restarted, the next life begins by returning from this same call with
/// [`Image::Begun`], within the time of an ordinary restart. Its life number, its credentials, stdin,
/// stdout and stderr are its own; call [`attach`] again for them.
///
/// Kept: memory, and so everything the program has computed, its environment and arguments, signal
/// handlers, working directory, umask, user id. Not kept: files, sockets, blocks, threads, children,
/// timers, memory locks. What the program drew from a random generator of its own is the
/// same in every life: seed it after this call. So is the layout of its memory.
///
/// The image goes with the controller, with other arguments or another environment at `arun`, and if
/// the process that holds it dies: then the next life starts at `main` and makes it again.
///
/// # Errors
/// [`ImageError`] says what is in the way. Nothing has changed then, and the program can go on.
///
/// ```no_run
/// let tables: Vec<u64> = (0..1_000_000).map(|n| n * n).collect();
/// match refrain::image_here() {
///     Ok(refrain::Image::Begun) => println!("life {}: tables are there", refrain::life()?),
///     Ok(_) => println!("tables loaded"),
///     Err(error) => eprintln!("each life will load its tables: {error}"),
/// }
/// # drop(tables);
/// # Ok::<(), refrain::AttachError>(())
/// ```
pub fn image_here() -> Result<Image, ImageError> {
    let mut stands = lock(&STANDS);
    if *stands {
        return Ok(Image::Stands);
    }
    let actor = attach()?;
    actor.link().check_own()?;
    if !warm::is_possible() {
        return Err(ImageError::NotForked);
    }
    // Blocks that came ahead are fds; a life from the image asks for them again.
    actor.link().let_ahead_go();
    nothing_in_the_way(actor)?;
    let answer = actor.link().ask(&Request::ImageHere, &[])?;
    let Answer {
        reply: Reply::Template,
        fds,
    } = answer
    else {
        return Err(unexpected(&Request::ImageHere).into());
    };
    // Whatever is held back would be written by every life again.
    let _ = io::stdout().flush();
    let side = fork(&fds)?;
    *stands = true;
    match side {
        Side::Life => {
            // The numbers were closed in the template; they may be somebody else's now.
            for fd in fds {
                let _ = fd.into_raw_fd();
            }
            attach::begin_anew();
            Ok(Image::Begun)
        }
        Side::Asker => {
            drop(fds);
            // Answered when the template serves: from here on it is the image.
            let stood = wait_until_it_stands(actor);
            *stands = stood.is_ok();
            stood.map(|()| Image::Made)
        }
    }
}

fn wait_until_it_stands(actor: &Actor) -> Result<(), ImageError> {
    match actor.link().ask(&Request::ImageHere, &[])?.reply {
        Reply::Done { .. } => Ok(()),
        // A controller that knows of no offer: the one that made it has ended, and the template with it.
        Reply::Template => Err(ImageError::Lost),
        _ => Err(unexpected(&Request::ImageHere).into()),
    }
}

fn nothing_in_the_way(actor: &Actor) -> Result<(), ImageError> {
    let count = warm::thread_count()?;
    if count > 1 {
        return Err(ImageError::Threads { count });
    }
    if warm::has_children()? {
        return Err(ImageError::Children);
    }
    if let Some(name) = lock(actor.mappings()).first_name() {
        let name = name.to_string();
        return Err(ImageError::Block { name });
    }
    let open = warm::open_files(&[actor.link().as_fd().as_raw_fd()])?;
    if !open.is_empty() {
        let files = named(&open);
        return Err(ImageError::Files { files });
    }
    if let Some((addr, what)) = warm::shared_memory(actor.page_address())?
        .into_iter()
        .next()
    {
        return Err(ImageError::Shared { what, addr });
    }
    Ok(())
}

fn named(open: &[(i32, String)]) -> String {
    let mut names: Vec<_> = open
        .iter()
        .take(NAMED)
        .map(|(fd, name)| format!("{fd} ({name})"))
        .collect();
    if open.len() > NAMED {
        names.push(format!("and {} more", open.len() - NAMED));
    }
    names.join(", ")
}

/// Forks with what the controller has sent: socket, null, output, and the cgroup's members where there
/// is a cgroup.
fn fork(fds: &[OwnedFd]) -> io::Result<Side> {
    let [socket, null, output, rest @ ..] = fds else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    warm::fork_image(&Offer {
        socket: socket.as_fd(),
        null: null.as_fd(),
        output: output.as_fd(),
        members: rest.first().map(AsFd::as_fd),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_first_open_files_and_counts_the_others() {
        let open: Vec<_> = (5..8).map(|fd| (fd, format!("/tmp/{fd}"))).collect();
        assert_eq!(named(&open), "5 (/tmp/5), 6 (/tmp/6), 7 (/tmp/7)");
        let many: Vec<_> = (0..9).map(|fd| (fd, "x".to_owned())).collect();
        assert!(
            named(&many).ends_with("3 (x), and 5 more"),
            "{}",
            named(&many)
        );
    }

    #[test]
    fn h34_a_program_that_is_no_actor_has_no_image() {
        assert!(matches!(
            image_here(),
            Err(ImageError::Attach(AttachError::NotAnActor))
        ));
    }
}
