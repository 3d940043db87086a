//! A talk with an interpreter, for tests: lines in, and what it says to them.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use hr_ctrl::interpreter::{IniMode, Input, Interpreter, Session};
use refrain_abi::session::FromSite;

use crate::interpreter::CInit;

/// An interpreter without a site, and what it has said.
pub(crate) struct Talk {
    pub(crate) interpreter: CInit,
    session: Session,
    said: Rc<RefCell<Vec<FromSite>>>,
    directory: tempfile::TempDir,
}

impl Talk {
    pub(crate) fn new() -> Self {
        let said = Rc::new(RefCell::new(Vec::new()));
        let directory = tempfile::tempdir().unwrap();
        let sink = {
            let said = said.clone();
            move |message| said.borrow_mut().push(message)
        };
        let session = Session::new(directory.path().to_owned(), Rc::new(sink), Rc::new(|| ()));
        let env = [("PATH", "/bin"), ("REFRAIN_LOG", "debug")];
        let env = env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        Self {
            interpreter: CInit::without_site(env),
            session,
            said,
            directory,
        }
    }

    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.directory.path().join(name), bytes).unwrap();
        name.into()
    }

    pub(crate) async fn line(&self, line: &str) -> i32 {
        self.interpreter
            .execute(&self.session, Input::Line(line.to_owned()))
            .await
    }

    pub(crate) async fn ini(&self, file: &str, mode: IniMode) -> u32 {
        self.interpreter
            .read_ini(&self.session, file.as_ref(), mode, &|_| {})
            .await
    }

    pub(crate) async fn words(&self, words: Vec<String>) -> i32 {
        self.interpreter
            .execute(&self.session, Input::Words(words))
            .await
    }

    /// What was written to stdout, and the lines on stderr, since the last time.
    pub(crate) fn said(&self) -> (String, Vec<String>) {
        let mut out = String::new();
        let mut err = Vec::new();
        for message in self.said.take() {
            match message {
                FromSite::Out(text) => out += &text,
                FromSite::Err(line) => err.push(line),
                other => panic!("{other:?}"),
            }
        }
        (out, err)
    }

    pub(crate) async fn out(&self, line: &str) -> String {
        assert_eq!(self.line(line).await, 0, "{line}");
        let (out, err) = self.said();
        assert!(err.is_empty(), "{err:?}");
        out
    }

    pub(crate) async fn err(&self, line: &str, code: i32) -> String {
        assert_eq!(self.line(line).await, code, "{line}");
        let (out, err) = self.said();
        assert_eq!((out.as_str(), err.len()), ("", 1), "{err:?}");
        err.concat()
    }
}
