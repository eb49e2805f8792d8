//! Little-endian reading and writing with every length checked, shared by the formats of this crate.

use crate::error::{Error, Result};

#[cfg(feature = "std")]
type Table = crc::Table<16>;
#[cfg(not(feature = "std"))]
type Table = crc::Table<1>;
static CRC32_TABLE: crc::Crc<u32, Table> = crc::Crc::<u32, Table>::new(&crc::CRC_32_ISO_HDLC);

/// CRC-32/ISO-HDLC, the CRC of zip, PNG and Ethernet; a 1 KB table on devices, 16 KB on desktops.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    CRC32_TABLE.checksum(bytes)
}

/// The CRC of two pieces as if they were one.
pub(crate) fn crc32_of_two(first: &[u8], second: &[u8]) -> u32 {
    let mut digest = CRC32_TABLE.digest();
    digest.update(first);
    digest.update(second);
    digest.finalize()
}

/// Takes typed values from the front of a byte slice; `what` names the structure in errors.
pub(crate) struct Reader<'a> {
    what: &'static str,
    all: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, all: bytes.len(), rest: bytes }
    }

    /// Bytes taken so far.
    pub(crate) fn position(&self) -> usize {
        self.all - self.rest.len()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Error::Truncated {
            what: self.what,
            needs: self.position().saturating_add(len),
            has: self.all,
        })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn f32(&mut self) -> Result<f32> {
        self.array().map(f32::from_le_bytes)
    }

    /// A `u32` that counts something; refused beyond `max`.
    pub(crate) fn count(&mut self, what: &'static str, max: usize) -> Result<usize> {
        let value = self.u32()?;
        usize::try_from(value).ok().filter(|count| *count <= max).ok_or(Error::Bounds {
            what,
            value: u64::from(value),
            min: 0,
            max: max as u64,
        })
    }

    /// A `u16` length and that many bytes of UTF-8.
    pub(crate) fn text(&mut self) -> Result<&'a str> {
        let len = usize::from(self.u16()?);
        let what = self.what;
        core::str::from_utf8(self.bytes(len)?).map_err(|_| Error::Malformed { what, why: "text is not UTF-8" })
    }

    /// Zero bytes up to the next multiple of `align`.
    pub(crate) fn pad_to(&mut self, align: usize) -> Result<()> {
        let padding = self.position().next_multiple_of(align) - self.position();
        if self.bytes(padding)?.iter().any(|byte| *byte != 0) {
            return Err(Error::Malformed { what: self.what, why: "padding is not zero" });
        }
        Ok(())
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Error::Malformed { what: self.what, why: "bytes follow its end" })
        }
    }
}

/// Numbers at fixed places of a record of known length: places are constants, so that each is one load without a check.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a, const N: usize>(pub(crate) &'a [u8; N]);

#[allow(clippy::inline_always, reason = "the checks vanish only where the places are known")]
impl<const N: usize> Fields<'_, N> {
    #[inline(always)]
    pub(crate) fn u8(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn i8(self, at: usize) -> i8 {
        self.u8(at).cast_signed()
    }

    #[inline(always)]
    pub(crate) fn u16(self, at: usize) -> u16 {
        self.0.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_le_bytes(*bytes))
    }

    #[inline(always)]
    pub(crate) fn u32(self, at: usize) -> u32 {
        self.0.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}

/// Puts typed values at the front of a caller's buffer.
pub(crate) struct Writer<'a> {
    what: &'static str,
    buffer: &'a mut [u8],
    position: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(what: &'static str, buffer: &'a mut [u8]) -> Self {
        Self { what, buffer, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// What was written so far.
    pub(crate) fn written(&self) -> &[u8] {
        self.buffer.get(..self.position).unwrap_or_default()
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let has = self.buffer.len();
        let needs = self.position.saturating_add(bytes.len());
        self.buffer
            .get_mut(self.position..needs)
            .ok_or(Error::Buffer { what: self.what, needs, has })?
            .copy_from_slice(bytes);
        self.position = needs;
        Ok(())
    }

    pub(crate) fn u8(&mut self, value: u8) -> Result<()> {
        self.bytes(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> Result<()> {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> Result<()> {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn f32(&mut self, value: f32) -> Result<()> {
        self.bytes(&value.to_le_bytes())
    }

    /// A count as `u32`; refused beyond `max`.
    pub(crate) fn count(&mut self, what: &'static str, value: usize, max: usize) -> Result<()> {
        let refused = Error::Bounds { what, value: value as u64, min: 0, max: max as u64 };
        match u32::try_from(value) {
            Ok(count) if value <= max => self.u32(count),
            _ => Err(refused),
        }
    }

    /// A `u16` length and that many bytes of UTF-8.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        let len = u16::try_from(text.len()).map_err(|_| Error::Bounds {
            what: "length of a text in bytes",
            value: text.len() as u64,
            min: 0,
            max: u64::from(u16::MAX),
        })?;
        self.u16(len)?;
        self.bytes(text.as_bytes())
    }

    /// Zero bytes up to the next multiple of `align`.
    pub(crate) fn pad_to(&mut self, align: usize) -> Result<()> {
        while !self.position.is_multiple_of(align) {
            self.u8(0)?;
        }
        Ok(())
    }
}
