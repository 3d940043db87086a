//! A client that stays: the site's console, or the one that started the site and waits.
//!
//! It is a small state machine around three sources: messages of the site, lines of the user,
//! signals.
//!
//! | state   | meaning                                    | left by                         |
//! | ------- | ------------------------------------------ | ------------------------------- |
//! | Booting | `sysadm.ini` is read; nothing is typed yet | `Booted`                        |
//! | Idle    | a prompt is shown, or stdin is read        | a line; the end of the lines    |
//! | Running | a command was sent                         | `Done`                          |
//! | Leaving | the site was told to halt                  | `Halted`, the session's end     |
//!
//! Ctrl-C in Running interrupts the command; in Idle, with a terminal, the prompt deals with it.
//! Every other signal ends the client, and with it a site that it started in the foreground.

use refrain_abi::session::{FromSite, ToSite};

use super::command::After;
use super::link::{Link, LinkError};
use super::screen::Screen;
use super::signals::{Asked, Signals};
use crate::console::{Input, Reader};
use crate::interpreter::MAX_LINE;
use crate::program::complain;
use crate::{DONE, FAILED, INTERRUPTED, words};

/// How often, and how many milliseconds apart, a lost site is looked for.
const RECONNECT: (u32, u64) = (50, 100);

/// Why the client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The console of the site that it has started, and halts when it leaves.
    Owner,
    /// A console among others (`--connect`).
    Connected,
    /// Until the site halts by itself (`--once`).
    Once,
    /// Until `sysadm.ini` has been read (`--detach`).
    Detached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Booting,
    Idle,
    Running,
    Leaving,
}

/// Attends the site; answers the exit code.
pub(super) async fn run(site: &str, mode: Mode) -> i32 {
    let result = async {
        let signals = Signals::new().map_err(|why| LinkError::Broken(why.to_string()))?;
        let link = Link::open(site, true).await?;
        let typed = matches!(mode, Mode::Owner | Mode::Connected);
        let (reader, above) = if typed {
            Reader::new(site)
        } else {
            Reader::none()
        };
        let screen = Screen::new(above);
        let state = if mode == Mode::Connected {
            State::Idle
        } else {
            State::Booting
        };
        let mut client = Client {
            site,
            mode,
            link,
            reader,
            screen,
            state,
            after: After::Leave,
            halt: false,
            failed: false,
        };
        let code = client.attend(signals).await;
        client.reader.restore();
        code
    };
    match result.await {
        Ok(code) => code,
        Err(why) => complain(why.code(), why.to_string()),
    }
}

struct Client<'a> {
    site: &'a str,
    mode: Mode,
    link: Link,
    reader: Reader,
    screen: Screen,
    state: State,
    /// What follows the command that runs.
    after: After,
    /// The site is to be halted as soon as the command that runs is done.
    halt: bool,
    /// Whether any command has failed.
    failed: bool,
}

/// The client's end, with its exit code.
type End = Option<i32>;

impl Client<'_> {
    async fn attend(&mut self, mut signals: Signals) -> Result<i32, LinkError> {
        if self.state == State::Idle {
            self.prompt();
        }
        loop {
            let end = tokio::select! {
                message = self.link.receive() => match message {
                    Ok(Some(message)) => self.hear(message).await?,
                    Ok(None) | Err(_) => self.lost(&mut signals).await?,
                },
                input = self.reader.next() => self.typed(input).await?,
                asked = signals.next() => self.signalled(asked).await?,
            };
            if let Some(code) = end {
                return Ok(code);
            }
        }
    }

    /// The exit code when everything has ended as it should.
    fn code(&self) -> i32 {
        // On a terminal, everybody has seen what failed; a script wants to know.
        if self.failed && !self.reader.is_terminal() {
            FAILED
        } else {
            DONE
        }
    }

    fn prompt(&mut self) {
        self.state = State::Idle;
        self.screen.prompting = true;
        self.reader.ask();
    }

    async fn hear(&mut self, message: FromSite) -> Result<End, LinkError> {
        match message {
            FromSite::Out(text) => self.screen.out(&text),
            FromSite::Err(line) => self.screen.err(&line),
            FromSite::Console(line) => self.screen.line(&line),
            FromSite::Done { code } => {
                self.failed |= code != DONE;
                return self.done(code).await;
            }
            FromSite::Booted { failed } if self.state == State::Booting => {
                self.failed |= failed > 0;
                match self.mode {
                    Mode::Detached => return Ok(Some(DONE)),
                    Mode::Once => {}
                    Mode::Owner | Mode::Connected => self.prompt(),
                }
            }
            FromSite::Booted { .. } => {}
            FromSite::Refused(why) => return Ok(Some(complain(FAILED, why))),
            FromSite::Halted { code } => {
                if self.state == State::Idle {
                    self.screen.line(&format!("site {} has halted", self.site));
                }
                return Ok(Some(if code == DONE { self.code() } else { code }));
            }
        }
        Ok(None)
    }

    /// The command that ran is done.
    async fn done(&mut self, code: i32) -> Result<End, LinkError> {
        match self.state {
            _ if self.halt => {
                self.halt = false;
                self.link
                    .send(&ToSite::Line("shutdown -i 0".to_owned()))
                    .await?;
            }
            State::Running if self.after == After::Halted && code == DONE => {
                self.state = State::Leaving;
            }
            State::Running => self.prompt(),
            // The site was told to halt, and has refused.
            State::Leaving if code != DONE && self.reader.is_terminal() => self.prompt(),
            State::Leaving if code != DONE => return Ok(Some(code)),
            State::Leaving | State::Booting | State::Idle => {}
        }
        Ok(None)
    }

    async fn typed(&mut self, input: Input) -> Result<End, LinkError> {
        self.screen.prompting = false;
        let line = match input {
            Input::Line(line) => line,
            Input::Bad(why) => {
                self.failed = true;
                self.screen.err(&format!("c_init: {why}"));
                self.prompt();
                return Ok(None);
            }
            Input::Cleared => {
                self.prompt();
                return Ok(None);
            }
            Input::End => return self.leave().await,
        };
        if line.len() > MAX_LINE {
            return Box::pin(self.typed(Input::Bad(format!(
                "a line is at most {MAX_LINE} bytes long"
            ))))
            .await;
        }
        match words::split(&line)
            .unwrap_or_else(|_| vec![line.clone()])
            .as_slice()
        {
            [] => self.prompt(),
            [word] if word == "exit" || word == "quit" => return self.leave().await,
            _ => {
                let request = ToSite::Line(line);
                self.after = After::of(&request);
                self.state = State::Running;
                self.link.send(&request).await?;
            }
        }
        Ok(None)
    }

    async fn signalled(&mut self, asked: Asked) -> Result<End, LinkError> {
        let interactive = self.reader.is_terminal();
        if asked == Asked::Interrupt && self.state == State::Running && interactive {
            self.link.send(&ToSite::Interrupt).await?;
            return Ok(None);
        }
        match self.mode {
            Mode::Owner | Mode::Once => self.leave().await,
            Mode::Connected | Mode::Detached => Ok(Some(INTERRUPTED)),
        }
    }

    /// Leaves: a site that this client has started in the foreground goes with it.
    async fn leave(&mut self) -> Result<End, LinkError> {
        if matches!(self.mode, Mode::Connected | Mode::Detached) {
            return Ok(Some(self.code()));
        }
        let before = std::mem::replace(&mut self.state, State::Leaving);
        if self.reader.is_terminal() && before != State::Leaving {
            self.screen.line(&format!("halting site {}", self.site));
        }
        match before {
            State::Leaving => {}
            State::Running => {
                self.halt = true;
                self.link.send(&ToSite::Interrupt).await?;
            }
            State::Booting | State::Idle => {
                self.link
                    .send(&ToSite::Line("shutdown -i 0".to_owned()))
                    .await?;
            }
        }
        Ok(None)
    }

    /// The session has ended without a word. A site that restarts cold, or whose hr_ctrl has
    /// died, serves again in a moment.
    async fn lost(&mut self, signals: &mut Signals) -> Result<End, LinkError> {
        if self.state == State::Leaving {
            return Ok(Some(self.code()));
        }
        let (times, apart) = RECONNECT;
        for _ in 0..times {
            let pause = tokio::time::sleep(std::time::Duration::from_millis(apart));
            tokio::select! {
                () = pause => {}
                _ = signals.next() => return Ok(Some(INTERRUPTED)),
            }
            match Link::open(self.site, true).await {
                Ok(link) => {
                    self.link = link;
                    self.screen
                        .err("c_init: the site has closed the session; there is a new one");
                    if self.state == State::Running {
                        self.failed = true;
                        self.prompt();
                    }
                    return Ok(None);
                }
                Err(LinkError::NoSite(_) | LinkError::Broken(_)) => {}
                Err(why) => return Err(why),
            }
        }
        Err(LinkError::NoSite(self.site.to_owned()))
    }
}
