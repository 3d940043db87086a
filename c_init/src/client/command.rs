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
    let broken = |why: std::io::Error| LinkError::Broken(why.to_string());
    let mut signals = Signals::new().map_err(broken)?;
    let mut link = Link::open(site, false).await?;
    let after = After::of(&request);
    link.send(&request).await?;
    let mut done = None;
    loop {
        tokio::select! {
            message = link.receive() => match message? {
                Some(FromSite::Out(text)) if !screen::out(&text) => return Ok(FAILED),
                Some(FromSite::Out(_)) => {}
                Some(FromSite::Err(line)) => screen::err(&line),
                Some(FromSite::Console(line)) if !screen::out(&format!("{line}\n")) => return Ok(FAILED),
                Some(FromSite::Console(_)) => {}
                Some(FromSite::Done { code: DONE }) if after != After::Leave => done = Some(DONE),
                Some(FromSite::Done { code }) => return Ok(code),
                // A site that halts because it was told to has done its duty.
                Some(FromSite::Halted { code }) => return Ok(if after == After::Halted { DONE } else { code }),
                Some(FromSite::Booted { .. }) => {}
                None if after == After::Halted || done.is_some() => return Ok(DONE),
                None => return Ok(complain(FAILED, "the site has ended the session")),
            },
            asked = signals.next() => match (asked, done) {
                (Asked::Interrupt, None) => link.send(&ToSite::Interrupt).await?,
                _ => return Ok(done.unwrap_or(INTERRUPTED)),
            },
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
