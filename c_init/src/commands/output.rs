//! `console` and `log`: what actors print, now and before.

use clap::Args;

use super::{CommandError, Flow, Outcome};
use crate::interpreter::Context;

/// `console`: makes this session the site's console.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "console")]
pub struct Console {}

impl Console {
    pub(crate) fn run(&self, cx: &Context<'_>) -> Outcome {
        cx.site()?;
        cx.session().attach_console();
        Ok(Flow::Next)
    }
}

/// `log`: shows the end of an actor's output.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "log NAME [-f]")]
pub struct Log {
    /// go on with what it prints from now on, until Ctrl-C
    #[arg(short)]
    pub follow: bool,
    /// the actor's name, as aps shows it
    #[arg(value_name = "NAME")]
    pub name: String,
}

impl Log {
    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        let site = cx.site()?;
        let unknown = || CommandError::Failed(format!("no actor '{}'; aps lists them", self.name));
        // Nothing is awaited between these two, so that no output falls between them.
        let past = site.log(&self.name).ok_or_else(unknown)?;
        let coming = self.follow.then(|| site.follow(&self.name)).flatten();
        let mut text = Utf8Stream::default();
        cx.out(text.push(&past));
        if let Some(mut coming) = coming {
            while let Some(bytes) = coming.recv().await {
                cx.out(text.push(&bytes));
            }
        }
        cx.out(text.end());
        Ok(Flow::Next)
    }
}

/// Turns bytes that come in pieces into text: a character that is cut between two pieces comes
/// out whole, and what is no UTF-8 becomes U+FFFD.
#[derive(Default)]
struct Utf8Stream {
    rest: Vec<u8>,
}

impl Utf8Stream {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            // An error without a length is a character that has only begun.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => self.rest.len() - self.unfinished(),
            Ok(_) => self.rest.len(),
        };
        let rest = self.rest.split_off(whole);
        String::from_utf8_lossy(&std::mem::replace(&mut self.rest, rest)).into_owned()
    }

    /// How many bytes at the end may be the beginning of a character.
    fn unfinished(&self) -> usize {
        let from = self.rest.len().saturating_sub(3);
        let tail = &self.rest[from..];
        let start = tail.iter().rposition(|&byte| byte >= 0xc0);
        start.map_or(0, |at| match std::str::from_utf8(&tail[at..]) {
            Err(error) if error.error_len().is_none() => tail.len() - at,
            _ => 0,
        })
    }

    fn end(self) -> String {
        String::from_utf8_lossy(&self.rest).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_between_two_pieces_comes_out_whole() {
        let mut stream = Utf8Stream::default();
        let bytes = "aü€b".as_bytes();
        let text: String = bytes.iter().map(|&byte| stream.push(&[byte])).collect();
        assert_eq!(text + &stream.end(), "aü€b");
    }

    #[test]
    fn what_is_no_text_is_replaced_and_holds_nothing_up() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"\xff\xfea\xe2\x82"), "\u{fffd}\u{fffd}a");
        assert_eq!(stream.push(b"\xac"), "€");
        assert_eq!(stream.push(b"\xe2"), "");
        assert_eq!(stream.end(), "\u{fffd}");
    }
}
