//! One command on a running site: `c_init -c` and every applet.

use refrain_abi::session::{FromSite, ToSite};

use super::link::{Link, LinkError};
use super::screen;
use super::signals::{Asked, Signals};
use crate::program::complain;
use crate::{DONE, FAILED, INTERRUPTED};

/// Gives the command and answers its exit code.
pub(super) async fn run(site: &str, request: ToSite) -> i32 {
    match attend(site, request).await {
        Ok(code) => code,
        Err(why) => complain(why.code(), why.to_string()),
    }
}

async fn attend(site: &str, request: ToSite) -> Result<i32, LinkError> {
    let mut signals = Signals::new().map_err(|why| LinkError::Broken(why.to_string()))?;
    let mut link = Link::open(site, false).await?;
    link.send(&request).await?;
    let mut visit = Visit {
        after: After::of(&request),
        done: false,
    };
    loop {
        let code = tokio::select! {
            message = link.receive() => visit.hear(message?),
            asked = signals.next() => {
                if asked == Asked::Interrupt && !visit.done {
                    link.send(&ToSite::Interrupt).await?;
                    continue;
                }
                Some(if visit.done { DONE } else { INTERRUPTED })
            }
        };
        if let Some(code) = code {
            return Ok(code);
        }
    }
}

/// A session of one command.
struct Visit {
    after: After,
    /// The command was carried out; what follows it is waited for.
    done: bool,
}

impl Visit {
    /// Takes a message, or the session's end; answers the exit code when it is known.
    fn hear(&mut self, message: Option<FromSite>) -> Option<i32> {
        // Output that nobody reads any more (`aps | head -1`) ends the program.
        let unread = |text: &str| (!screen::out(text)).then_some(FAILED);
        match message {
            Some(FromSite::Out(text)) => unread(&text),
            Some(FromSite::Console(line)) => unread(&(line + "\n")),
            Some(FromSite::Err(line)) => {
                screen::err(&line);
                None
            }
            Some(FromSite::Done { code }) => {
                self.done = code == DONE;
                (code != DONE || self.after == After::Leave).then_some(code)
            }
            Some(FromSite::Booted { .. }) => None,
            Some(FromSite::Refused(why)) => Some(complain(FAILED, why)),
            // A site that ends because it was told to has done its duty.
            Some(FromSite::Halted { .. }) | None if self.after == After::Halted => Some(DONE),
            Some(FromSite::Halted { code }) => Some(code),
            None if self.done => Some(DONE),
            None => Some(complain(FAILED, "the site has ended the session")),
        }
    }
}

/// What follows when the command is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing.
    Leave,
    /// The site halts: that is waited for, so that a script may start the next one.
    Halted,
    /// This session is the console.
    Console,
}

impl After {
    /// What follows `request`, as the site's own interpreter will read it.
    pub(super) fn of(request: &ToSite) -> Self {
        use crate::commands::{Verb, parse};
        use hr_ctrl::site::ShutdownLevel::{Halt, Immediate};
        let words = match request {
            ToSite::Line(line) => crate::words::split(line).unwrap_or_default(),
            ToSite::Words(words) => words.clone(),
            _ => return Self::Leave,
        };
        match parse(&words) {
            Ok(Verb::Shutdown(it)) if matches!(it.level(), Halt | Immediate) => Self::Halted,
            Ok(Verb::Console(_)) => Self::Console,
            _ => Self::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_only_a_halt_and_the_console_are_waited_for() {
        let after = |line: &str| After::of(&ToSite::Line(line.to_owned()));
        assert_eq!(after("shutdown -i 0"), After::Halted);
        assert_eq!(after("shutdown -i3 # now"), After::Halted);
        assert_eq!(after("shutdown -i 1"), After::Leave);
        assert_eq!(after("console"), After::Console);
        for line in [
            "restart",
            "shutdown",
            "echo shutdown -i 0",
            "echo 'x",
            "",
            "bogus",
        ] {
            assert_eq!(after(line), After::Leave, "{line}");
        }
    }
}
