//! Lines from a stream, with a bound: what the client reads of the site's socket, and `rshd` of
//! its connections. A peer that never ends its line costs the bound and no more.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LinesError {
    /// More bytes than the bound without a newline.
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
    /// The stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads lines of at most `limit` bytes.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    partial: Vec<u8>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of `reader`, of at most `limit` bytes each without the newline.
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self {
            reader: BufReader::new(reader),
            partial: Vec::new(),
            limit,
        }
    }

    /// The next line without its newline; `None` at the end. What stands behind the last newline
    /// is a line too. Dropping the future loses nothing: the next call goes on where it was.
    ///
    /// # Errors
    /// [`LinesError`]; the stream is of no use afterwards.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, LinesError> {
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                let rest = std::mem::take(&mut self.partial);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let taken = newline.unwrap_or(chunk.len());
            if self.partial.len() + taken > self.limit {
                return Err(LinesError::TooLong(self.limit));
            }
            self.partial.extend_from_slice(&chunk[..taken]);
            self.reader.consume(taken + usize::from(newline.is_some()));
            if newline.is_some() {
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(bytes: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, LinesError> {
        let mut lines = Lines::new(bytes, limit);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await? {
            read.push(line);
        }
        Ok(read)
    }

    #[tokio::test]
    async fn the_last_line_needs_no_newline() {
        assert_eq!(all(b"a\n\nbc", 8).await.unwrap(), [&b"a"[..], b"", b"bc"]);
    }

    #[tokio::test]
    async fn a_line_past_the_bound_is_refused() {
        assert!(matches!(all(b"12345678\n", 8).await, Ok(lines) if lines.len() == 1));
        assert!(matches!(
            all(b"123456789\n", 8).await,
            Err(LinesError::TooLong(8))
        ));
    }
}
