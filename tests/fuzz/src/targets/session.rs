//! Sessions on the site's socket: whatever a client says, every answer is a line of the protocol.

use std::path::Path;
use std::rc::Rc;

use c_init::interpreter::CInit;
use futures_util::future::LocalBoxFuture;
use hr_ctrl::interpreter::{IniMode, Input, Interpreter, Session};
use refrain_abi::session::FromSite;

use super::is_kept_back;
use crate::Target;

pub const TARGET: Target = Target {
    name: "session",
    longest: 4096,
    words: &[
        "{\"open\":{\"version\":1,\"cwd\":\"/\",\"console\":false}}\n",
        "{\"line\":\"",
        "{\"words\":[\"",
        "\"interrupt\"\n",
        "\"}\n",
        "\"]}\n",
        "\\u001b",
        "\\ud800",
        "echo ",
        "env",
        "help",
        "1e999",
    ],
    put,
};

/// The interpreter, with what must not be carried out here left out.
struct Guarded(CInit);

impl Interpreter for Guarded {
    fn execute<'a>(&'a self, session: &'a Session, input: Input) -> LocalBoxFuture<'a, i32> {
        let words = match &input {
            Input::Line(line) => c_init::words::split(line).unwrap_or_default(),
            Input::Words(words) => words.clone(),
        };
        if is_kept_back(&words) {
            return Box::pin(std::future::ready(0));
        }
        self.0.execute(session, input)
    }

    fn read_ini<'a>(
        &'a self,
        session: &'a Session,
        file: &'a Path,
        mode: IniMode,
        reached: &'a dyn Fn(u32),
    ) -> LocalBoxFuture<'a, u32> {
        self.0.read_ini(session, file, mode, reached)
    }
}

fn put(bytes: &[u8], _: &Path) {
    let interpreter = Rc::new(Guarded(CInit::without_site(Vec::new())));
    let answers = actix_rt::Runtime::new()
        .and_then(|runtime| runtime.block_on(hr_ctrl::fuzzing::session(bytes, interpreter)))
        .expect("a session can be held");
    for line in answers
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let message: FromSite = serde_json::from_slice(line).expect("a line of the protocol");
        if let FromSite::Err(line) = message {
            assert!(super::is_plain_line(&line), "{line:?}");
        }
    }
}
