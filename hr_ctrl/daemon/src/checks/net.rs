//! Checks over TCP: a connection, or an HTTP GET.
//!
//! A connection shows only that the kernel still takes connections for the actor: it does so until the
//! backlog is full, whether or not anybody accepts them. What comes back is hostile input; only its first
//! line is looked at, and only a number is taken from it.

use std::io;
use std::time::Duration;

use refrain_abi::hang::Target;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, timed_out};

/// How much of an answer is read, in bytes: more than any status line needs.
const MAX_LINE: usize = 1024;

/// Does a connection come about?
pub(crate) async fn tcp(target: &Target, limit: Duration) -> Answer {
    ask(target, limit, async |_| Ok(Answer::Well)).await
}

/// Is a GET of `path` answered with a status from 200 to 399?
pub(crate) async fn http(target: &Target, path: &str, limit: Duration) -> Answer {
    ask(target, limit, async |stream| {
        get(stream, target, path).await
    })
    .await
}

/// Connects and asks, in `limit` together.
async fn ask(
    target: &Target,
    limit: Duration,
    question: impl AsyncFnOnce(TcpStream) -> io::Result<Answer>,
) -> Answer {
    // A resolver that does not answer is not the actor's fault. For an address nobody is asked.
    let looked_up = tokio::net::lookup_host((target.host.as_str(), target.port));
    let addresses = match tokio::time::timeout(limit, looked_up).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(why)) => return Answer::Unable(format!("{}: {why}", target.host)),
        Err(_) => return Answer::Unable(format!("{}: the name is not resolved", target.host)),
    };
    let asked = async {
        let mut answer = Answer::Unable(format!("{}: it has no address", target.host));
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return question(stream).await.unwrap_or_else(|why| blame(&why)),
                Err(why) => answer = blame(&why),
            }
        }
        answer
    };
    let asked = tokio::time::timeout(limit, asked).await;
    asked.unwrap_or_else(|_| timed_out(limit))
}

/// Whose fault an error is.
fn blame(error: &io::Error) -> Answer {
    let ours = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
        Errno::AFNOSUPPORT,
    ];
    let errno = Errno::from_io_error(error);
    if errno.is_some_and(|errno| ours.contains(&errno)) {
        Answer::Unable(error.to_string())
    } else {
        Answer::Failed(error.to_string())
    }
}

async fn get(mut stream: TcpStream, target: &Target, path: &str) -> io::Result<Answer> {
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {target}\r\nUser-Agent: refrain\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::with_capacity(MAX_LINE);
    let mut answer = stream.take(MAX_LINE as u64);
    while !line.contains(&b'\n') && answer.read_buf(&mut line).await? > 0 {}
    Ok(match status(&line) {
        Some(200..400) => Answer::Well,
        Some(other) => Answer::Failed(format!("HTTP {other}")),
        None => Answer::Failed("no answer in HTTP".to_owned()),
    })
}

/// The status in the first line of an answer.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(u8::is_ascii_whitespace);
    words.next()?.strip_prefix(b"HTTP/")?;
    let digits = words.next().filter(|digits| digits.len() == 3)?;
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_three_digits_behind_http() {
        let told: &[(&[u8], Option<u16>)] = &[
            (b"HTTP/1.0 200 OK\r\n", Some(200)),
            (b"HTTP/1.1 503\r\nx", Some(503)),
            (b"HTTP/2 304 \n", Some(304)),
            (b"", None),
            (b"HTTP/1.0", None),
            (b"HTTP/1.0 20", None),
            (b"HTTP/1.0 +20 x", None),
            (b"HTTP/1.0 2000 OK", None),
            (b"SSH-2.0 200", None),
            (b"\xff\xfe 200", None),
            (b"\nHTTP/1.0 200", None),
        ];
        for (text, is) in told {
            assert_eq!(status(text), *is, "{text:?}");
        }
    }

    #[test]
    fn a_shortage_of_the_sites_own_is_not_the_actors_failure() {
        let of = |errno: Errno| blame(&errno.into());
        assert!(matches!(of(Errno::MFILE), Answer::Unable(_)));
        assert!(matches!(of(Errno::CONNREFUSED), Answer::Failed(_)));
        assert!(matches!(of(Errno::CONNRESET), Answer::Failed(_)));
        let eof = io::ErrorKind::UnexpectedEof.into();
        assert!(matches!(blame(&eof), Answer::Failed(_)));
    }
}
