//! What a panic in a supervisor actor says, kept as how its life ended.
//!
//! The payload of a panic does not tell where it came from; only the panic hook does. So one hook is put in
//! front of the program's own, once, when the first supervisor actor is registered. While a life runs on a
//! thread it takes down what it is told and prints nothing: the failure is told as that of the life. Any other
//! panic is the program's own and goes to its hook as before. A program that sets another hook afterwards gets
//! the panics of lives, too, and their ends lose the place in the source.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// How much of a message is kept, in bytes.
const MAX_MESSAGE: usize = 512;

thread_local! {
    /// Whether code of a life runs on this thread.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// What the last panic here said.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Puts our hook in front of the program's.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // The thread may be ending, and its variables gone.
            if WATCHED.try_with(Cell::get).unwrap_or(false) {
                let _ = SAID.try_with(|said| said.replace(Some(told(info))));
            } else {
                before(info);
            }
        }));
    });
}

fn told(info: &PanicHookInfo<'_>) -> String {
    let text = text(info.payload());
    match info.location() {
        Some(place) => clipped(&format!("panicked at {place}: {text}")),
        None => clipped(&format!("panicked: {text}")),
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is no text")
}

/// One line of bounded length.
fn clipped(message: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let end = message.floor_char_boundary(MAX_MESSAGE);
    message[..end].chars().map(plain).collect()
}

/// Runs code of a life.
///
/// # Errors
/// It panicked: what that said.
pub(super) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    let was_watched = WATCHED.replace(true);
    // What the panic may have left half done is thrown away with the life.
    let result = catch_unwind(AssertUnwindSafe(code));
    WATCHED.set(was_watched);
    result.map_err(|payload| {
        let said = take();
        let said = said.unwrap_or_else(|| clipped(&format!("panicked: {}", text(&*payload))));
        // A payload may panic when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(payload)));
        said
    })
}

/// What a panic said since the last call that nothing was unwound for: in a future that runs beside the
/// actor, where tokio catches it.
pub(super) fn take() -> Option<String> {
    SAID.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_life_is_told_with_its_place_on_one_line() {
        install();
        let said = catch(|| panic!("first\nsecond")).unwrap_err();
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
        let said = catch(|| panic!("{long}")).unwrap_err();
        assert!(said.len() <= MAX_MESSAGE && said.ends_with('ä'));
    }

    #[test]
    fn a_payload_that_is_no_text_is_told_as_such() {
        install();
        let said = catch(|| std::panic::panic_any(7)).unwrap_err();
        assert!(said.ends_with("a value that is no text"), "{said}");
    }
}
