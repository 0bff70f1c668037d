//! `ByteReader`: a bounds-checked cursor over a record's bytes.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, Ipv6Addr};

use super::DecodeError;

/// Reads from the front, in native byte order, as the BPF programs write.
#[derive(Debug)]
pub(super) struct ByteReader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> ByteReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, len: bytes.len() }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.short(N))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.short(len))?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_ne_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_ne_bytes)
    }

    /// Reads an IPv6 address; a mapped one is returned as IPv4.
    pub(super) fn address(&mut self) -> Result<IpAddr, DecodeError> {
        Ok(Ipv6Addr::from(self.array::<16>()?).to_canonical())
    }

    /// Reads a field of `N` bytes, as text up to the first NUL.
    pub(super) fn text<const N: usize>(&mut self) -> Result<String, DecodeError> {
        let field = self.array::<N>()?;
        let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Skips `N` bytes of padding, or of fields that are not used.
    pub(super) fn skip<const N: usize>(&mut self) -> Result<(), DecodeError> {
        self.array::<N>().map(drop)
    }

    /// Number of bytes that are not read yet.
    pub(super) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    const fn short(&self, need: usize) -> DecodeError {
        DecodeError::Short {
            need,
            offset: self.len.saturating_sub(self.rest.len()),
            have: self.rest.len(),
        }
    }
}
