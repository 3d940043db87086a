//! Little-endian fields in a bounded buffer: how every frame on a socket is built and read.
//!
//! A reader that runs past the end yields [`Short`]; nothing here panics on hostile bytes.

use core::fmt;

/// A frame that ends before its last field, or a buffer that is too small for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short;

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("frame too short")
    }
}

impl core::error::Error for Short {}

/// Appends fields to a buffer of the caller's.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the front of `buffer`.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, at: 0 }
    }

    /// Appends `bytes` as they are.
    ///
    /// # Errors
    /// [`Short`] when they do not fit.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<&mut Self, Short> {
        let end = self.at.checked_add(bytes.len()).ok_or(Short)?;
        self.buffer
            .get_mut(self.at..end)
            .ok_or(Short)?
            .copy_from_slice(bytes);
        self.at = end;
        Ok(self)
    }

    /// Appends a 32-bit word.
    ///
    /// # Errors
    /// [`Short`] when it does not fit.
    pub fn u32(&mut self, word: u32) -> Result<&mut Self, Short> {
        self.bytes(&word.to_le_bytes())
    }

    /// Appends a 64-bit word.
    ///
    /// # Errors
    /// [`Short`] when it does not fit.
    pub fn u64(&mut self, word: u64) -> Result<&mut Self, Short> {
        self.bytes(&word.to_le_bytes())
    }

    /// How many bytes were written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at == 0
    }
}

/// Takes fields from a buffer, front to back.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Takes the next `count` bytes.
    ///
    /// # Errors
    /// [`Short`] when there are fewer.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Short)?;
        self.rest = rest;
        Ok(head)
    }

    /// Takes the next bytes as an array.
    ///
    /// # Errors
    /// [`Short`] when there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        self.bytes(N)?.try_into().map_err(|_| Short)
    }

    /// Takes a 32-bit word.
    ///
    /// # Errors
    /// [`Short`] when there are fewer than 4 bytes.
    pub fn u32(&mut self) -> Result<u32, Short> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Takes a 64-bit word.
    ///
    /// # Errors
    /// [`Short`] when there are fewer than 8 bytes.
    pub fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}
