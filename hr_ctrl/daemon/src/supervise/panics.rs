//! What a panic in a supervisor actor says, kept as how its life ended.
//!
//! The payload of a panic does not tell where it came from; only the panic hook does. So one hook is put in
//! front of the program's own, once, when the first supervisor actor is registered. While a life runs on a
//! thread it takes down what it is told and prints nothing: the failure is told as that of the life. Any other
//! panic is the program's own and goes to its hook as before. A program that sets another hook afterwards gets
//! the panics of lives, too, and their ends lose the place in the source.
//!
//! The hook runs between a panic and the next life, so it only takes down; the words are made by whoever books
//! the end.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// How much of a message is kept, in bytes.
const MAX_MESSAGE: usize = 512;

thread_local! {
    /// Whether code of a life runs on this thread.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// What the last panic here said.
    static SAID: RefCell<Option<Said>> = const { RefCell::new(None) };
}

/// What a panic said. As text it is one line of bounded length.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// File, line and column.
    place: Option<(Box<str>, u32, u32)>,
    text: Text,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Text {
    Literal(&'static str),
    Made(Box<str>),
    #[default]
    None,
}

impl Said {
    fn told(info: &PanicHookInfo<'_>) -> Self {
        let place = info.location();
        Self {
            place: place.map(|place| (place.file().into(), place.line(), place.column())),
            text: Text::of(info.payload()),
        }
    }
}

impl Text {
    fn of(payload: &(dyn Any + Send)) -> Self {
        if let Some(text) = payload.downcast_ref::<&'static str>() {
            return Self::Literal(text);
        }
        let made = payload.downcast_ref::<String>();
        made.map_or(Self::None, |text| Self::Made(start_of(text).into()))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match &self.text {
            Text::Literal(text) => text,
            Text::Made(text) => &**text,
            Text::None => "a value that is no text",
        };
        let line = match &self.place {
            Some((file, line, column)) => format!("panicked at {file}:{line}:{column}: {text}"),
            None => format!("panicked: {text}"),
        };
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        f.write_str(&start_of(&line).chars().map(plain).collect::<String>())
    }
}

/// As much of it as is kept.
fn start_of(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_MESSAGE)]
}

/// Puts our hook in front of the program's.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // The thread may be ending, and its variables gone.
            if WATCHED.try_with(Cell::get).unwrap_or(false) {
                let _ = SAID.try_with(|said| said.replace(Some(Said::told(info))));
            } else {
                before(info);
            }
        }));
    });
}

/// Runs code of a life.
///
/// # Errors
/// It panicked: what that said.
pub(super) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, Said> {
    let was_watched = WATCHED.replace(true);
    // What the panic may have left half done is thrown away with the life.
    let result = catch_unwind(AssertUnwindSafe(code));
    WATCHED.set(was_watched);
    result.map_err(|payload| {
        let said = take().unwrap_or_else(|| Said {
            place: None,
            text: Text::of(&*payload),
        });
        // A payload may panic when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(payload)));
        said
    })
}

/// What a panic said since the last call that nothing was unwound for: in a future that runs beside the
/// actor, where tokio catches it.
pub(super) fn take() -> Option<Said> {
    SAID.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_life_is_told_with_its_place_on_one_line() {
        install();
        let said = catch(|| panic!("first\nsecond")).unwrap_err().to_string();
        assert!(said.starts_with("panicked at "), "{said}");
        assert!(said.contains("panics.rs:"), "{said}");
        assert!(said.ends_with(": first second"), "{said}");
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(take(), None);
    }

    #[test]
    fn a_long_message_is_clipped_between_characters() {
        install();
        let long = "ä".repeat(2 * MAX_MESSAGE);
        let said = catch(|| panic!("{long}")).unwrap_err().to_string();
        assert!(said.len() <= MAX_MESSAGE && said.ends_with('ä'));
    }

    #[test]
    fn a_payload_that_is_no_text_is_told_as_such() {
        install();
        let said = catch(|| std::panic::panic_any(7)).unwrap_err().to_string();
        assert!(said.ends_with("a value that is no text"), "{said}");
    }
}
