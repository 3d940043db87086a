//! How an actor that hangs is noticed (SPEC H34): what `arun` and the configuration say of it.
//!
//! Written by `c_init`, carried in the actor's specification, carried out by the controller. Does no I/O:
//! an address is taken apart here, and looked up where it is connected to.

use serde::{Deserialize, Serialize};

/// How the lives of one actor are watched. With nothing said, a program may still promise progress by
/// itself ([`crate::control::ControlPage::promise_of`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HangWatch {
    /// Within how many milliseconds a life must advance its progress counter; wins over what the program
    /// promises.
    pub progress_ms: Option<u32>,
    /// What is asked from outside whether a life works.
    pub check: Option<Check>,
    /// How many milliseconds a life has before either is looked at; `None`: no time for progress, and
    /// [`Check::every_ms`] for the check.
    pub after_ms: Option<u64>,
    /// Whether a life that hangs is ended by SIGABRT, for a core dump and a backtrace, before SIGKILL.
    pub core: bool,
}

impl HangWatch {
    /// What these say, and what `other` says where they say nothing.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            progress_ms: self.progress_ms.or(other.progress_ms),
            check: self.check.or_else(|| other.check.clone()),
            after_ms: self.after_ms.or(other.after_ms),
            core: self.core || other.core,
        }
    }
}

/// A question that is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The question.
    pub probe: Probe,
    /// How long after one the next begins, in milliseconds; one that takes longer delays the next.
    pub every_ms: u64,
    /// How long the answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// How many in a row must fail until the life counts as hung; at least 1.
    pub failures: u32,
}

impl Check {
    /// Every 5 seconds, for 2 seconds, 3 times.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            every_ms: 5_000,
            timeout_ms: 2_000,
            failures: 3,
        }
    }
}

/// A question, of which the answer is yes or no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Probe {
    /// A command line for `/bin/sh -c`: does it exit with 0?
    Command(String),
    /// Does a TCP connection come about?
    Tcp(Target),
    /// Is an HTTP GET answered with a status from 200 to 399?
    Http {
        /// Who is asked.
        target: Target,
        /// What for: a path, with a slash in front.
        path: String,
    },
}

/// A host and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why a text is no [`Target`] or URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// No host and port.
    NoTarget,
    /// No URL that can be asked.
    NoUrl,
}

impl std::fmt::Display for TargetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoTarget => "not HOST:PORT, like 127.0.0.1:6379 or [::1]:6379",
            Self::NoUrl => "not http://HOST[:PORT][/PATH]; https is not spoken, use a command",
        })
    }
}

impl std::error::Error for TargetError {}

/// The port of HTTP.
const HTTP_PORT: u16 = 80;

impl Target {
    /// Reads `HOST:PORT`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`TargetError::NoTarget`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (host, port) = text.rsplit_once(':').ok_or(TargetError::NoTarget)?;
        let port = port.parse().ok().filter(|port| *port != 0);
        let host = host_of(host).ok_or(TargetError::NoTarget)?;
        port.map(|port| Self {
            host: host.to_owned(),
            port,
        })
        .ok_or(TargetError::NoTarget)
    }
}

/// A host without its brackets; `None` for what cannot be one, or would be taken apart elsewhere.
fn host_of(text: &str) -> Option<&str> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@[]".contains(c);
    match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .filter(|host| host.contains(':') && !host.contains(is_odd)),
        None => Some(text)
            .filter(|host| !host.is_empty() && !host.contains(is_odd) && !host.contains(':')),
    }
}

impl Probe {
    /// Reads `http://HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// [`TargetError::NoUrl`].
    pub fn parse_url(text: &str) -> Result<Self, TargetError> {
        let rest = text.strip_prefix("http://").ok_or(TargetError::NoUrl)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        // What goes into the request line must not end it.
        let path = path.split('#').next().unwrap_or("/");
        if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(TargetError::NoUrl);
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.contains(']'));
        let target = if has_port {
            Target::parse(authority)
        } else {
            Target::parse(&format!("{authority}:{HTTP_PORT}"))
        };
        Ok(Self::Http {
            target: target.map_err(|_| TargetError::NoUrl)?,
            path: path.to_owned(),
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::fmt::Display for Probe {
    /// As it was written on the command line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(line) => f.write_str(line),
            Self::Tcp(target) => write!(f, "{target}"),
            Self::Http { target, path } => write!(f, "http://{target}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for text in ["127.0.0.1:6379", "localhost:1", "[::1]:65535"] {
            assert_eq!(
                Target::parse(text).map(|it| it.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in [
            "", ":", "x", "x:", ":1", "x:0", "x:65536", "::1:80", "[]:1", "[x]:1", "a b:1",
            "x:1:2", "a@b:1",
        ] {
            assert_eq!(Target::parse(text), Err(TargetError::NoTarget), "{text:?}");
        }
    }

    #[test]
    fn a_url_has_a_port_and_a_path_also_where_they_are_left_out() {
        for (text, is) in [
            (
                "http://127.0.0.1:8080/health",
                "http://127.0.0.1:8080/health",
            ),
            ("http://localhost", "http://localhost:80/"),
            ("http://[::1]/a?b=c#d", "http://[::1]:80/a?b=c"),
            ("http://[::1]:81", "http://[::1]:81/"),
        ] {
            let told = Probe::parse_url(text).map(|it| it.to_string());
            assert_eq!(told, Ok(is.to_owned()), "{text:?}");
        }
        for text in [
            "",
            "http://",
            "https://localhost/",
            "localhost:80",
            "http://a b/",
            "http://x/a b",
            "http://x/a\r\nHost: y",
            "http://u@x/",
            "http://x:0/",
        ] {
            assert_eq!(Probe::parse_url(text), Err(TargetError::NoUrl), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_taken_from_the_other() {
        let tcp = |text| Some(Check::new(Probe::Tcp(Target::parse(text).unwrap())));
        let one = HangWatch {
            progress_ms: Some(1),
            check: tcp("a:1"),
            ..HangWatch::default()
        };
        let other = HangWatch {
            progress_ms: Some(2),
            check: tcp("b:1"),
            after_ms: Some(3),
            core: true,
        };
        let both = one.clone().or(&other);
        assert_eq!(
            (both.progress_ms, both.after_ms, both.core),
            (Some(1), Some(3), true)
        );
        assert_eq!(both.check, one.check, "a check is taken as a whole");
    }
}
