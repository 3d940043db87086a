//! What `hrfexec` passes: three numbers, then the blob; as many arguments come out as the numbers say.

use std::os::fd::OwnedFd;
use std::path::Path;

use refrain_abi::request::Reply;
use refrain_sys::memfd;

use super::number;
use crate::Target;

pub const TARGET: Target = Target {
    name: "exec_blob",
    longest: 4096,
    words: &["\0", "PATH=/bin", "=", "/bin/true\0", "\0\0"],
    put,
};

fn put(mut bytes: &[u8], _: &Path) {
    let claimed = number(&mut bytes, 1);
    let (argc, envc) = (number(&mut bytes, 1) as u32, number(&mut bytes, 1) as u32);
    let counts = match claimed {
        0 => (bytes.len() as u32, argc, envc),
        1 => (u32::MAX, argc, envc),
        2 => (bytes.len() as u32, u32::MAX, envc),
        3 => (bytes.len() as u32, u32::MAX - 2, u32::MAX - argc),
        other => (other as u32, argc, envc),
    };
    let memory = memfd::from_bytes("blob", bytes, false).expect("there is memory");
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").expect("/dev/null can be opened"));
    let fds = [null(), null(), null(), memory];
    match hr_ctrl::fuzzing::exec_spec(counts, &fds) {
        Ok(spec) => {
            assert_eq!(spec.argv.len(), counts.1 as usize);
            assert!(spec.env.len() <= counts.2 as usize);
            let strings = spec.argv.iter().chain([&spec.program]);
            assert!(!strings.into_iter().any(|text| text.contains('\0')));
        }
        Err(reply) => assert!(matches!(*reply, Reply::Error { .. }), "{reply:?}"),
    }
}
