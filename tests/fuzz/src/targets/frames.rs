//! Frames of every protocol: what is decoded is encoded to what decodes to the same.

use std::path::Path;

use refrain_abi::request::{MAX_FRAME, Reply, Request};
use refrain_abi::template::{self, FromTemplate, StartFrame, ToTemplate};

use crate::Target;

pub const TARGET: Target = Target {
    name: "frames",
    longest: 2 * MAX_FRAME,
    words: &[
        "\x01\0\0\0",
        "\x0b\0\0\0",
        "\x3f\0\0\0",
        "\u{e9}",
        "a/b",
        "..",
    ],
    put,
};

fn put(bytes: &[u8], _: &Path) {
    let mut buffer = [0; MAX_FRAME];
    if let Ok((seq, request)) = Request::decode(bytes) {
        let length = request
            .encode(seq, &mut buffer)
            .expect("a request fits a frame");
        assert_eq!(Request::decode(&buffer[..length]), Ok((seq, request)));
    }
    if let Ok((seq, reply)) = Reply::decode(bytes) {
        let length = reply
            .encode(seq, &mut buffer)
            .expect("a reply fits a frame");
        assert_eq!(Reply::decode(&buffer[..length]), Ok((seq, reply)));
    }
    let mut buffer = [0; template::MAX_FRAME];
    if let Ok(frame) = ToTemplate::decode(bytes) {
        let length = frame.encode(&mut buffer);
        assert_eq!(ToTemplate::decode(&buffer[..length]), Ok(frame));
    }
    if let Ok(frame) = FromTemplate::decode(bytes) {
        let length = frame.encode(&mut buffer);
        assert_eq!(FromTemplate::decode(&buffer[..length]), Ok(frame));
    }
    if let Ok(frame) = StartFrame::decode(bytes) {
        let length = frame.encode(&mut buffer);
        assert_eq!(StartFrame::decode(&buffer[..length]), Ok(frame));
    }
    if let Some(written) = hr_ctrl::fuzzing::nucleus_frame(bytes) {
        let again = hr_ctrl::fuzzing::nucleus_frame(&written);
        assert_eq!(again.as_ref(), Some(&written));
    }
}
