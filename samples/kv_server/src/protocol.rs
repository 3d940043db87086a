//! Redis's protocol, version 2: bytes to requests, answers to bytes.
//!
//! Called by the server with whatever has come in so far. Pure: no socket, no store. It must never take a length
//! from the wire for granted, nor hold on to more than [`MAX_REQUEST`] bytes of one request.
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use std::borrow::Cow;

/// The longest word of a request, in bytes.
pub const MAX_WORD: usize = 16 << 20;
/// The longest request, in bytes.
pub const MAX_REQUEST: usize = 32 << 20;
/// The most words of a request.
const MAX_WORDS: i64 = 16_384;
/// The longest request of one line, and the longest line with a number, in bytes.
const MAX_LINE: usize = 64 << 10;
const MAX_NUMBER: usize = 32;

/// A request that cannot be read, and none behind it. The texts are Redis's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The number of words is none, or too large.
    #[error("Protocol error: invalid multibulk length")]
    Count,
    /// The length of a word is none, or too large.
    #[error("Protocol error: invalid bulk length")]
    Length,
    /// A word does not begin as words do.
    #[error("Protocol error: expected '$', got '{0}'")]
    NoWord(char),
    /// A line without an end.
    #[error("Protocol error: too big inline request")]
    Line,
    /// A quoted word without an end.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
}

/// A request in the bytes that have come in.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The command and its arguments; none in an empty line.
    pub words: Vec<Cow<'a, [u8]>>,
    /// How many bytes it took.
    pub len: usize,
}

/// The first request in `input`; `None` when its end has not come in yet.
///
/// # Errors
/// [`Malformed`]: what follows cannot be read either, so the connection is to be closed.
pub fn parse(input: &[u8]) -> Result<Option<Request<'_>>, Malformed> {
    match input.first() {
        None => Ok(None),
        Some(b'*') => words(input),
        Some(_) => line(input),
    }
}

/// The number in the line that begins at `at`, and where the next line begins.
fn number(input: &[u8], at: usize, wrong: Malformed) -> Result<Option<(i64, usize)>, Malformed> {
    let rest = input.get(at..).unwrap_or_default();
    let Some(len) = rest.iter().take(MAX_NUMBER).position(|byte| *byte == b'\r') else {
        return if rest.len() < MAX_NUMBER {
            Ok(None)
        } else {
            Err(wrong)
        };
    };
    match rest.get(len + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(wrong),
    }
    let text = std::str::from_utf8(&rest[..len]).map_err(|_| wrong)?;
    let number = text.parse().map_err(|_| wrong)?;
    Ok(Some((number, at + len + 2)))
}

/// `*2 $3 GET $1 k`, each in a line.
fn words(input: &[u8]) -> Result<Option<Request<'_>>, Malformed> {
    let Some((count, mut len)) = number(input, 1, Malformed::Count)? else {
        return Ok(None);
    };
    if count > MAX_WORDS {
        return Err(Malformed::Count);
    }
    let mut words = Vec::with_capacity(usize::try_from(count.clamp(0, 8)).unwrap_or(0));
    for _ in 0..count {
        match input.get(len) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return Err(Malformed::NoWord(char::from(*other))),
        }
        let Some((size, start)) = number(input, len + 1, Malformed::Length)? else {
            return Ok(None);
        };
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_WORD);
        let end = start + size.ok_or(Malformed::Length)?;
        if end > MAX_REQUEST {
            return Err(Malformed::Length);
        }
        match input.get(end..end + 2) {
            None => return Ok(None),
            Some(b"\r\n") => words.push(Cow::Borrowed(&input[start..end])),
            Some(_) => return Err(Malformed::Length),
        }
        len = end + 2;
    }
    Ok(Some(Request { words, len }))
}

/// `GET k` as somebody types it.
fn line(input: &[u8]) -> Result<Option<Request<'_>>, Malformed> {
    let Some(end) = input.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        let is_open = input.len() < MAX_LINE;
        return if is_open {
            Ok(None)
        } else {
            Err(Malformed::Line)
        };
    };
    let line = &input[..end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let len = end + 1;
    if !line.iter().any(|byte| matches!(byte, b'"' | b'\'')) {
        let words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let words = words.map(Cow::Borrowed).collect();
        return Ok(Some(Request { words, len }));
    }
    let words = quoted(line).ok_or(Malformed::Quotes)?;
    Ok(Some(Request { words, len }))
}

/// Words of a line with quotes; `None` where one is not closed, or goes on behind its end.
fn quoted(line: &[u8]) -> Option<Vec<Cow<'_, [u8]>>> {
    let mut words = Vec::new();
    let mut bytes = line.iter().copied().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(first) = bytes.peek().copied() else {
            return Some(words);
        };
        let mut word = Vec::new();
        if matches!(first, b'"' | b'\'') {
            bytes.next();
            loop {
                match (bytes.next()?, first) {
                    (end, quote) if end == quote => break,
                    (b'\\', b'"') => word.push(escaped(&mut bytes)?),
                    (b'\\', _) if bytes.peek() == Some(&b'\'') => word.extend(bytes.next()),
                    (byte, _) => word.push(byte),
                }
            }
            if bytes.peek().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                return None;
            }
        } else {
            while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
                word.push(byte);
            }
        }
        words.push(Cow::Owned(word));
    }
}

/// What a backslash in double quotes stands for.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let digit = |letter: u8| char::from(letter).to_digit(16);
    Some(match bytes.next()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => {
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            u8::try_from(16 * high + low).ok()?
        }
        other => other,
    })
}

/// Answers to one client, one behind the other.
pub struct Answers<'a>(pub &'a mut Vec<u8>);

impl Answers<'_> {
    fn line(&mut self, sign: u8, text: &[u8]) {
        self.0.push(sign);
        // A line must not be ended by what a client has sent.
        let shown = text.iter().map(|byte| {
            if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                *byte
            }
        });
        self.0.extend(shown);
        self.0.extend(b"\r\n");
    }

    fn count(&mut self, sign: u8, number: i64) {
        use std::io::Write as _;
        self.0.push(sign);
        // Writing to a Vec cannot fail.
        let _ = write!(self.0, "{number}\r\n");
    }

    /// A word such as `OK`.
    pub fn word(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error; its first word is its kind.
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text.as_bytes());
    }

    /// A number.
    pub fn number(&mut self, number: i64) {
        self.count(b':', number);
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(b'$', i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        self.0.extend(bytes);
        self.0.extend(b"\r\n");
    }

    /// That there is nothing.
    pub fn nothing(&mut self) {
        self.0.extend(b"$-1\r\n");
    }

    /// The head of a list: `len` answers follow.
    pub fn list(&mut self, len: usize) {
        self.count(b'*', i64::try_from(len).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(words: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut answers = Answers(&mut bytes);
        answers.list(words.len());
        words.iter().for_each(|word| answers.bytes(word));
        bytes
    }

    fn words_of(input: &[u8]) -> Vec<String> {
        let request = parse(input).unwrap().unwrap();
        assert_eq!(request.len, input.len());
        let text = |word: &Cow<[u8]>| String::from_utf8_lossy(word).into_owned();
        request.words.iter().map(text).collect()
    }

    #[test]
    fn a_typed_line_is_split_and_unquoted() {
        assert_eq!(words_of(b"SET  a \t b\r\n"), ["SET", "a", "b"]);
        assert_eq!(words_of(b"PING\n"), ["PING"]);
        assert!(words_of(b"\r\n").is_empty());
        assert_eq!(
            words_of(b"a \"b \\x41\\n\\\"\" 'c\\' d'\n"),
            ["a", "b A\n\"", "c' d"]
        );
        assert_eq!(parse(b"a \"b\r\n"), Err(Malformed::Quotes));
        assert_eq!(parse(b"a \"b\"c\r\n"), Err(Malformed::Quotes));
    }

    #[test]
    fn what_is_malformed_is_told_as_redis_tells_it() {
        let told = |input: &[u8]| parse(input).unwrap_err().to_string();
        assert_eq!(told(b"*x\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(
            told(b"*16385\r\n"),
            "Protocol error: invalid multibulk length"
        );
        assert_eq!(
            told(b"*1\r\n$-1\r\n"),
            "Protocol error: invalid bulk length"
        );
        assert_eq!(
            told(b"*1\r\n$16777217\r\n"),
            "Protocol error: invalid bulk length"
        );
        assert_eq!(
            told(b"*1\r\n$1\r\nabc"),
            "Protocol error: invalid bulk length"
        );
        assert_eq!(
            told(b"*1\r\n:1\r\n"),
            "Protocol error: expected '$', got ':'"
        );
        assert_eq!(
            told(&vec![b'a'; MAX_LINE]),
            "Protocol error: too big inline request"
        );
        let digits = [b"*".as_slice(), &[b'1'; MAX_NUMBER]].concat();
        assert_eq!(told(&digits), "Protocol error: invalid multibulk length");
    }

    #[test]
    fn an_answer_cannot_be_cut_by_what_is_in_it() {
        let mut bytes = Vec::new();
        Answers(&mut bytes).error("ERR unknown command 'a\r\n+OK'");
        assert_eq!(bytes, b"-ERR unknown command 'a  +OK'\r\n");
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_parsed_however_it_comes_in(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            behind in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let bytes = encode(&words);
            for end in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..end]), Ok(None));
            }
            let input = [bytes.clone(), behind].concat();
            let request = parse(&input).unwrap().unwrap();
            prop_assert_eq!(request.len, bytes.len());
            prop_assert_eq!(request.words, words);
        }

        #[test]
        fn any_bytes_are_a_request_or_an_error_or_the_begin_of_one(
            begin in prop::sample::select(vec!["", "*", "*1\r\n$", "*-1", "*2\r\n$1\r\na\r\n"]),
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let input = [begin.as_bytes(), &bytes].concat();
            if let Ok(Some(request)) = parse(&input) {
                prop_assert!(request.len > 0 && request.len <= input.len());
            }
        }
    }
}
