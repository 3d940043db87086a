//! A life's request that its present state be the image of later lives (SPEC H34).
//!
//! Called by [`super::lives`] for this one request, which brings several fds back or waits for a
//! template. HR_CTRL decides. Must never hold up another life's requests: each has its own future.

use std::io;
use std::os::fd::AsFd;

use actix::Addr;
use refrain_abi::request::{MAX_FRAME, Reply};
use refrain_sys::seqpacket;

use super::Asker;
use super::lives::{gone, refused};
use crate::engine::ImageAnswer;
use crate::hr_ctrl::{HrCtrl, ImageHere};

/// Answers request `seq` of the life behind `socket`.
///
/// # Errors
/// The socket's.
pub(super) async fn answer(
    hr_ctrl: &Addr<HrCtrl>,
    by: Asker,
    socket: &impl AsFd,
    seq: u32,
) -> io::Result<()> {
    let (reply, fds) = match hr_ctrl.send(ImageHere(by)).await {
        Err(_) => (gone().reply(), Vec::new()),
        Ok(Err(why)) => (refused(why).reply(), Vec::new()),
        Ok(Ok(ImageAnswer::Offered(fds))) => (Reply::Template, fds),
        Ok(Ok(ImageAnswer::Asked(outcome))) => match outcome.await {
            Ok(Ok(())) => (Reply::Done { count: 1 }, Vec::new()),
            Ok(Err(why)) => (refused(why).reply(), Vec::new()),
            Err(_) => (gone().reply(), Vec::new()),
        },
    };
    let mut out = [0; MAX_FRAME];
    let len = reply.encode(seq, &mut out).map_err(io::Error::other)?;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    match seqpacket::send_dontwait(socket, &out[..len], &fds) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}
