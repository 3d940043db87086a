#![allow(clippy::unwrap_used)]
mod support;
use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Instant;
use support::*;
#[test]
fn latency() {
    let d = tempfile::tempdir().unwrap();
    let p = compile(
        d.path(),
        "w",
        "#include <unistd.h>\nint main(void){write(1,\"x\",1);pause();}",
        &[],
    )
    .unwrap();
    for (n, pr) in [("c", program(&p, &[])), ("c-exec", program(&p, &[]))] {
        let kind = if n == "c" {
            refrain_image::StartKind::Template
        } else {
            refrain_image::StartKind::Exec
        };
        let mut a = Actor::start_by(&pr, kind);
        let mut t = vec![];
        for i in 0..300 {
            let s = a.standby();
            let (o, w) = rustix::pipe::pipe().unwrap();
            let null = std::fs::File::open("/dev/null").unwrap();
            use std::os::fd::AsFd;
            send_start(
                &s.socket,
                refrain_abi::template::StartFrame {
                    life: refrain_abi::LifeNo(i),
                    serial: s.serial,
                    stopped: false,
                },
                &[null.as_fd(), w.as_fd(), w.as_fd()],
            );
            std::thread::sleep(std::time::Duration::from_millis(2));
            let t0 = Instant::now();
            a.page.wake.store(s.serial.0, Ordering::Release);
            refrain_sys::futex::wake(&a.page.wake, 1).unwrap();
            let mut b = [0; 1];
            std::fs::File::from(o).read_exact(&mut b).unwrap();
            t.push(t0.elapsed().as_nanos() as u64 / 100);
            s.pidfd.send_signal(refrain_sys::Signal::KILL).unwrap();
            s.pidfd.wait_ended(None).unwrap();
            a.end_of(s.pid);
        }
        t.sort();
        println!("{n}: p50 {} p99 {} (0.1us)", t[150], t[297]);
    }
}
