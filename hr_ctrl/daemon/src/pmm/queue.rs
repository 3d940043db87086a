//! A life's requests, taken off its socket when they have been answered: so that they survive the
//! controller (SPEC H31).
//!
//! Called by [`super::lives`]. The socket's queue is the kernel's, and the template keeps its end open. A
//! request stays at the head of the queue while it is carried out; a controller that ends meanwhile leaves it
//! there, and the next one finds it. That must not carry it out a second time, where this would be
//! another thing than once. So such a request is *taken* first: its sequence number goes into the control
//! page, beside the serial of the life, before anything is done.
//!
//! | step | the controller ends after it: the next one |
//! | --- | --- |
//! | look at the head of the queue | carries it out |
//! | take it (a request that may be repeated is not taken) | answers [`ErrorCode::Again`] |
//! | carry it out | the same; what was done stays done |
//! | answer it | the same: a second answer, with a number that nobody waits for any more |
//! | discard it, let go | sees the next one |
//!
//! Those that may be repeated ([`Request::is_repeatable`]) are carried out again and answered: the life
//! notices nothing. A frame that is no request, or cut, is refused again. What the fault handler says
//! (`Failing`) is answered by nobody and only says that the control page is to be looked at: it goes when it was
//! handed on, and a controller that adopts a life looks there anyway. `ImageHere` is taken: the socket that
//! was offered ended with the controller, so its template has ended, too, or never comes about.
//!
//! The word `taken` is the actor's to write. By that it can have its own request carried out twice, or not at
//! all, and no one else's. Must never believe anything else of it.
//!
//! [`ErrorCode::Again`]: refrain_abi::request::ErrorCode::Again

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use refrain_abi::Serial;
use refrain_abi::control::ControlPage;
use refrain_abi::request::{MAX_FDS, MAX_FRAME, Request};
use refrain_sys::seqpacket;

/// What is at the head of a life's queue.
#[derive(Debug)]
pub(super) enum Head {
    /// Nothing, and nothing will come: the socket is closed.
    Closed,
    /// A frame that cannot be carried out, and why.
    Unreadable(&'static str),
    /// A request that a controller has begun to carry out, which then ended.
    Interrupted {
        /// Its number.
        seq: u32,
    },
    /// A request, with the fds beside it.
    Request {
        /// Its number.
        seq: u32,
        /// What is asked.
        request: Request,
        /// What came beside it.
        fds: Vec<OwnedFd>,
    },
}

/// The requests of one life.
pub(super) struct Queue<'a, S> {
    /// The controller's end of its socket.
    pub socket: &'a S,
    /// Its control page.
    pub page: &'a ControlPage,
    /// Its serial.
    pub serial: Serial,
}

impl<S: AsFd> Queue<'_, S> {
    /// Looks at the head of the queue, and takes the request that is there. Whatever it is, it stays until
    /// [`Queue::done`]. `None` when there is none yet.
    ///
    /// # Errors
    /// The socket's.
    pub fn look(&self) -> io::Result<Option<Head>> {
        let mut frame = [0; MAX_FRAME];
        let seen = match seqpacket::peek(self.socket, &mut frame, MAX_FDS) {
            Ok(seen) if seen.is_closed() => return Ok(Some(Head::Closed)),
            Ok(seen) => seen,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if seen.truncated {
            let why = "a frame that is too long, or with too many fds";
            return Ok(Some(Head::Unreadable(why)));
        }
        let Ok((seq, request)) = Request::decode(&frame[..seen.len]) else {
            return Ok(Some(Head::Unreadable("not a request of this protocol")));
        };
        if !request.is_repeatable() {
            if seq == 0 {
                let why = "a request with number 0, which is nobody's";
                return Ok(Some(Head::Unreadable(why)));
            }
            if self.page.is_taken(self.serial, seq) {
                return Ok(Some(Head::Interrupted { seq }));
            }
            self.page.take(self.serial, seq);
        }
        let fds = seen.fds;
        Ok(Some(Head::Request { seq, request, fds }))
    }

    /// What was at the head is done with, its answer sent.
    ///
    /// # Errors
    /// The socket's.
    pub fn done(&self) -> io::Result<()> {
        seqpacket::discard(self.socket)?;
        self.page.let_go();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use refrain_abi::request::MAX_FRAME;
    use refrain_abi::{Aid, BlockName, DeletionKey, Gid};

    use super::*;

    const SERIAL: Serial = Serial(7);

    /// A life's end of a socket, the controller's end, and the control page.
    struct Rig {
        life: OwnedFd,
        socket: OwnedFd,
        page: ControlPage,
    }

    impl Rig {
        fn new() -> Self {
            let (socket, life) = seqpacket::pair_nonblocking_first().unwrap();
            let page = ControlPage::default();
            Self { life, socket, page }
        }

        /// As a controller that has just begun to serve the life sees it.
        fn controller(&self) -> Queue<'_, OwnedFd> {
            Queue {
                socket: &self.socket,
                page: &self.page,
                serial: SERIAL,
            }
        }

        fn ask(&self, seq: u32, request: Request) {
            let mut frame = [0; MAX_FRAME];
            let len = request.encode(seq, &mut frame).unwrap();
            seqpacket::send(&self.life, &frame[..len], &[]).unwrap();
        }

        /// The number of the request to be carried out, negative where it was interrupted.
        fn head(&self) -> Option<i64> {
            match self.controller().look().unwrap() {
                Some(Head::Request { seq, .. }) => Some(i64::from(seq)),
                Some(Head::Interrupted { seq }) => Some(-i64::from(seq)),
                Some(other) => panic!("{other:?}"),
                None => None,
            }
        }
    }

    fn name() -> BlockName {
        BlockName::new("block").unwrap()
    }

    fn once_only() -> [Request; 6] {
        [
            Request::PmmFree { name: name() },
            Request::PmmFreeAll {
                key: DeletionKey::Opaque([1; 32]),
            },
            Request::Hrfexec {
                blob: 1,
                argc: 1,
                envc: 0,
            },
            Request::KillGroup { gid: Gid(1) },
            Request::Shutdown { level: 1 },
            Request::ImageHere,
        ]
    }

    #[test]
    fn h31_a_request_that_was_under_way_is_not_carried_out_by_the_next_controller() {
        for request in once_only() {
            let rig = Rig::new();
            rig.ask(5, request);
            rig.ask(6, request);
            assert_eq!(rig.head(), Some(5));
            // Here the controller ends; and the next one before it has answered, too.
            assert_eq!(rig.head(), Some(-5), "{request:?}");
            assert_eq!(rig.head(), Some(-5), "{request:?}");
            rig.controller().done().unwrap();
            assert_eq!(rig.head(), Some(6), "{request:?}");
            rig.controller().done().unwrap();
            assert_eq!(rig.head(), None);
        }
    }

    #[test]
    fn h31_a_request_that_nobody_has_looked_at_is_carried_out_by_the_next_controller() {
        let rig = Rig::new();
        for (seq, request) in (1..).zip(once_only()) {
            rig.ask(seq, request);
            assert_eq!(rig.head(), Some(i64::from(seq)));
            rig.controller().done().unwrap();
        }
        // One that was discarded a moment before its mark was taken away.
        let request = Request::ImageHere;
        rig.ask(20, request);
        assert_eq!(rig.head(), Some(20));
        seqpacket::discard(&rig.socket).unwrap();
        rig.ask(21, request);
        assert_eq!(rig.head(), Some(21));
    }

    #[test]
    fn h31_a_request_that_may_be_repeated_is_carried_out_again() {
        let repeatable = [
            Request::Hello,
            Request::PmmAllocate {
                name: name(),
                size: 1,
                key: DeletionKey::Group,
            },
            Request::PmmGrant {
                name: name(),
                gid: Gid(2),
            },
            Request::GetActorGroup { aid: Aid(1) },
            Request::GetCapability { aid: Aid(1) },
        ];
        for request in repeatable {
            let rig = Rig::new();
            rig.ask(5, request);
            for _ in 0..3 {
                assert_eq!(rig.head(), Some(5), "{request:?}");
            }
            rig.controller().done().unwrap();
            assert_eq!(rig.head(), None);
        }
    }

    #[test]
    fn h31_what_a_life_had_under_way_is_not_taken_for_a_request_of_the_next() {
        let rig = Rig::new();
        rig.ask(1, Request::ImageHere);
        assert_eq!(rig.head(), Some(1));
        let next = Queue {
            serial: Serial(8),
            ..rig.controller()
        };
        assert!(matches!(
            next.look().unwrap(),
            Some(Head::Request { seq: 1, .. })
        ));
    }

    #[test]
    fn a_frame_that_is_no_request_stays_until_it_is_done_with() {
        let rig = Rig::new();
        let mut unnumbered = [0; MAX_FRAME];
        let len = Request::ImageHere.encode(0, &mut unnumbered).unwrap();
        let unnumbered = &unnumbered[..len];
        for frame in [&b"nonsense"[..], &[1; MAX_FRAME + 1], unnumbered] {
            seqpacket::send(&rig.life, frame, &[]).unwrap();
            for _ in 0..2 {
                let head = rig.controller().look().unwrap();
                assert!(matches!(head, Some(Head::Unreadable(_))), "{head:?}");
            }
            rig.controller().done().unwrap();
        }
        drop(rig.life);
        let controller = Queue {
            socket: &rig.socket,
            page: &rig.page,
            serial: SERIAL,
        };
        assert!(matches!(controller.look().unwrap(), Some(Head::Closed)));
    }

    #[test]
    fn the_fds_of_a_request_come_each_time_and_close_when_it_is_done_with() {
        let rig = Rig::new();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut frame = [0; MAX_FRAME];
        let [_, _, hrfexec, ..] = once_only();
        let len = hrfexec.encode(1, &mut frame).unwrap();
        seqpacket::send(&rig.life, &frame[..len], &[writer.as_fd()]).unwrap();
        drop(writer);
        match rig.controller().look().unwrap() {
            Some(Head::Request { fds, .. }) => assert_eq!(fds.len(), 1),
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.head(), Some(-1));
        rig.controller().done().unwrap();
        // Nobody has the other end any more.
        let mut nothing = Vec::new();
        std::io::Read::read_to_end(&mut { reader }, &mut nothing).unwrap();
        assert!(nothing.is_empty());
    }
}
