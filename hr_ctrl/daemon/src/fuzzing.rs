//! Doors for `tests/fuzz` to what reads hostile bytes in here and is otherwise private.
//!
//! Called by the fuzz targets and by nothing in the product. It must never do more than call what the
//! product itself calls with such bytes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use refrain_abi::Gid;
use refrain_abi::request::Reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::failure::Objects;
use crate::interpreter::Interpreter;
use crate::keeper::{Frame, MAX_FRAME};
use crate::output::Output;
use crate::pmm::exec;
use crate::session::{self, Host, Queue};
use crate::site::StartSpec;

/// What `hrfexec` passes, as PMM reads it.
///
/// # Errors
/// The answer that the life gets.
pub fn exec_spec(counts: (u32, u32, u32), fds: &[OwnedFd]) -> Result<StartSpec, Box<Reply>> {
    exec::spec(Some(Gid(1)), counts, fds).map_err(|refused| Box::new(refused.reply()))
}

/// A frame between nucleus and hr_ctrl: what is written for what was read; `None` when it is no frame.
#[must_use]
pub fn nucleus_frame(bytes: &[u8]) -> Option<Vec<u8>> {
    let frame = Frame::decode(bytes).ok()?;
    let mut buffer = [0; MAX_FRAME];
    let length = frame.encode(&mut buffer);
    Some(buffer[..length].to_vec())
}

/// What is known of a life whose code at `range` is that file.
///
/// # Errors
/// The file's.
pub fn objects(file: File, range: Range<u64>) -> io::Result<Objects> {
    Objects::of_file(file, range)
}

/// A session in which a client says `bytes` and then hears everything that it is answered.
///
/// # Errors
/// The socket's.
pub async fn session(bytes: &[u8], interpreter: Rc<dyn Interpreter>) -> io::Result<Vec<u8>> {
    let (mut client, site) = UnixStream::pair()?;
    let host: Rc<dyn Host> = Rc::new(Desk {
        interpreter,
        output: Output::start(4096),
    });
    let served = actix_rt::spawn(session::serve(site, host));
    // The site may hang up before it has read everything.
    let _ = client.write_all(bytes).await;
    let _ = client.shutdown().await;
    let mut answers = Vec::new();
    let _ = client.read_to_end(&mut answers).await;
    served.await.map_err(io::Error::other)?;
    Ok(answers)
}

struct Desk {
    interpreter: Rc<dyn Interpreter>,
    output: Output,
}

impl Host for Desk {
    fn interpreter(&self) -> Rc<dyn Interpreter> {
        Rc::clone(&self.interpreter)
    }

    fn console_opened(&self, _queue: Queue) {}

    fn output(&self) -> Output {
        self.output.clone()
    }
}
