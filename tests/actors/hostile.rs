//! A test actor that means harm: it says on its socket and prints what no program should. Beside the
//! words of `script/mod.rs` it knows
//!
//! | words | meaning |
//! | --- | --- |
//! | `escapes` | print what would steer a terminal |
//! | `endless BYTES` | so many bytes to stdout, all in one line |
//! | `frames` | frames that are none on its socket; say what each was answered |
//! | `blobs` | `hrfexec` with fds that are no memory; say what each was answered |
//! | `requests N` | so many requests and notices, without reading an answer |

mod script;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use refrain_abi::request::{MAX_FRAME, Reply, Request};
use refrain_sys::{inherited, memfd, seqpacket};
use script::{Script, Step};

/// What is on the socket of a life.
struct Socket(OwnedFd);

impl Socket {
    fn take() -> Self {
        let number = std::env::var("REFRAIN_FD").expect("an actor has a socket");
        let number = number.parse().expect("an fd is a number");
        Self(inherited::take(number).expect("the socket is open"))
    }

    fn send(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) {
        seqpacket::send(&self.0, frame, fds).expect("the socket takes a frame");
    }

    /// The answer with that sequence number. What was sent ahead of any request is passed over.
    fn answer(&self, seq: u32) -> String {
        let mut buffer = [0; MAX_FRAME];
        loop {
            let received = seqpacket::recv(&self.0, &mut buffer, seqpacket::MAX_FDS);
            let received = received.expect("the socket is answered on");
            assert!(!received.is_closed(), "the socket was closed");
            match Reply::decode(&buffer[..received.len]) {
                Ok((of, Reply::Error { text, .. })) if of == seq => {
                    return text.as_str().to_owned();
                }
                Ok((of, reply)) if of == seq && seq != 0 => return format!("{reply:?}"),
                _ => {}
            }
        }
    }
}

fn encoded(request: Request, seq: u32) -> Vec<u8> {
    let mut buffer = [0; MAX_FRAME];
    let length = request.encode(seq, &mut buffer);
    buffer[..length.expect("a request fits a frame")].to_vec()
}

fn null() -> OwnedFd {
    File::open("/dev/null")
        .expect("/dev/null can be opened")
        .into()
}

fn frames(script: &mut Script) {
    let socket = Socket::take();
    let hello = encoded(Request::Hello, 9);
    let mut forged = encoded(Request::Hello, 9);
    forged[0] = 3;
    forged.extend([0xff; 4]);
    let fds: Vec<OwnedFd> = (0..6).map(|_| null()).collect();
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    for (what, frame, fds, seq) in [
        ("half", &hello[..4], &fds[..0], 0),
        ("one byte", &hello[..1], &fds[..0], 0),
        ("unknown", &[0xee; 64][..], &fds[..0], 0),
        ("forged", &forged[..], &fds[..0], 0),
        ("long", &[1; MAX_FRAME + 1][..], &fds[..0], 0),
        ("six fds", &hello[..], &fds[..], 0),
        ("two fds", &hello[..], &fds[..2], 9),
    ] {
        socket.send(frame, fds);
        script.say(&format!("{what}: {}", socket.answer(seq)));
    }
}

fn blobs(script: &mut Script) {
    let socket = Socket::take();
    let (pipe, _write) = io::pipe().expect("a pipe can be made");
    let open = |path| OwnedFd::from(File::open(path).expect("it can be opened"));
    let sparse = memfd::create("sparse", false).expect("a memfd can be made");
    rustix::fs::ftruncate(&sparse, 1 << 40).expect("a memfd can be long");
    let null = null();
    let short = memfd::from_bytes("short", b"a", false).expect("a memfd can be made");
    for (seq, (what, fd, blob)) in [
        ("pipe", pipe.as_fd(), 100),
        ("directory", open("/").as_fd(), 100),
        ("zero", open("/dev/zero").as_fd(), 100),
        ("file", open("/etc/passwd").as_fd(), 100),
        ("sparse", sparse.as_fd(), 1 << 20),
        ("all", sparse.as_fd(), u32::MAX),
        ("short", short.as_fd(), 100),
    ]
    .into_iter()
    .enumerate()
    {
        let request = Request::Hrfexec {
            blob,
            argc: 1,
            envc: u32::MAX,
        };
        let seq = seq as u32 + 1;
        let stdio = null.as_fd();
        socket.send(&encoded(request, seq), &[stdio, stdio, stdio, fd]);
        script.say(&format!("{what}: {}", socket.answer(seq)));
    }
}

fn flood(count: u64) {
    let socket = Socket::take();
    for seq in 0..count {
        let request = match seq % 3 {
            0 => Request::Hello,
            1 => Request::Failing,
            _ => Request::GetActorGroup {
                aid: refrain_abi::Aid(1),
            },
        };
        socket.send(&encoded(request, seq as u32), &[]);
    }
}

fn endless(count: u64) {
    let mut stdout = io::stdout().lock();
    let chunk = [b'x'; 1 << 16];
    for _ in 0..count.div_ceil(chunk.len() as u64) {
        stdout.write_all(&chunk).expect("stdout takes everything");
    }
    stdout.write_all(b"\n").expect("stdout takes everything");
}

fn main() {
    let mut script = Script::from_args();
    while let Some(word) = script.word() {
        let word = match script.step(word) {
            Step::Done => continue,
            Step::Return => return,
            Step::Other(word) => word,
        };
        match word.as_str() {
            "escapes" => println!("before\x1b[2J\x1b]0;title\x07after\ttab"),
            "frames" => frames(&mut script),
            "blobs" => blobs(&mut script),
            "endless" => endless(script.number()),
            "requests" => flood(script.number()),
            other => panic!("{other}: not a word of the script"),
        }
    }
}
