//! Zip archives, as far as `.npz` needs them: members stored or deflated, with 64-bit sizes, not encrypted, in one file.
//!
//! Format: PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end) and 4.5.3
//! (64-bit sizes). Nothing is kept in memory but one entry at a time.

use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read, Result, Seek as _, SeekFrom, Take};

use flate2::read::DeflateDecoder;
use flate2::{Crc, CrcReader};

/// An archive, read where it lies.
pub(super) struct Archive {
    file: BufReader<File>,
    entries: u64,
    /// Where the central directory begins.
    directory: u64,
}

/// An entry of the central directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub name: Vec<u8>,
    /// Bytes in the archive.
    pub packed: u64,
    /// Bytes that it unpacks to, as declared.
    pub unpacked: u64,
    flags: u16,
    method: u16,
    crc: u32,
    /// Where its local header begins.
    at: u64,
}

const END: u32 = 0x0605_4b50;
const END_BYTES: usize = 22;
const LOCATOR_64: u32 = 0x0706_4b50;
const LOCATOR_64_BYTES: usize = 20;
const END_64: u32 = 0x0606_4b50;
const END_64_BYTES: usize = 56;
const ENTRY: u32 = 0x0201_4b50;
const ENTRY_BYTES: usize = 46;
const LOCAL: u32 = 0x0403_4b50;
const LOCAL_BYTES: usize = 30;
/// The longest comment at the end.
const COMMENT_BYTES: u64 = 0xffff;

const ENCRYPTED: u16 = 1;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

impl Archive {
    /// Finds the central directory.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] or [`ErrorKind::UnexpectedEof`] for what is no archive.
    pub fn open(file: File) -> Result<Self> {
        let length = file.metadata()?.len();
        let mut archive = Self { file: BufReader::new(file), entries: 0, directory: 0 };
        let tail_at = length.saturating_sub(END_BYTES as u64 + COMMENT_BYTES);
        let mut tail = Vec::new();
        archive.file.seek(SeekFrom::Start(tail_at))?;
        archive.file.by_ref().take(length - tail_at).read_to_end(&mut tail)?;
        let ends_here = |at: &usize| {
            let end = &tail[*at..];
            u32_at(end, 0) == Some(END)
                && u16_at(end, 20).is_some_and(|comment| END_BYTES + usize::from(comment) == end.len())
        };
        let at = (0..=tail.len().saturating_sub(END_BYTES)).rev().find(ends_here);
        let at = at.ok_or_else(|| invalid("it has no end of a central directory"))?;
        let end = &tail[at..];
        let (entries, directory) = (u16_at(end, 10).unwrap_or_default(), u32_at(end, 16).unwrap_or_default());
        (archive.entries, archive.directory) = (entries.into(), directory.into());
        if entries == u16::MAX || directory == u32::MAX {
            archive.read_end_64(tail_at + at as u64)?;
        }
        Ok(archive)
    }

    /// Reads the 64-bit end, whose locator lies before the end at `end`; without a locator the numbers are what they are.
    fn read_end_64(&mut self, end: u64) -> Result<()> {
        let Some(locator) = end.checked_sub(LOCATOR_64_BYTES as u64) else { return Ok(()) };
        let locator = self.bytes::<LOCATOR_64_BYTES>(locator)?;
        if u32_at(&locator, 0) != Some(LOCATOR_64) {
            return Ok(());
        }
        let end = self.bytes::<END_64_BYTES>(u64_at(&locator, 8).unwrap_or_default())?;
        if u32_at(&end, 0) != Some(END_64) {
            return Err(invalid("its 64-bit end is not where it is said to be"));
        }
        self.entries = u64_at(&end, 32).unwrap_or_default();
        self.directory = u64_at(&end, 48).unwrap_or_default();
        Ok(())
    }

    /// The first entry that `wanted` is true for.
    ///
    /// # Errors
    /// As [`Archive::open`], for a damaged directory.
    pub fn find(&mut self, wanted: impl Fn(&Member) -> bool) -> Result<Option<Member>> {
        self.file.seek(SeekFrom::Start(self.directory))?;
        for _ in 0..self.entries {
            let member = self.next_entry()?;
            if wanted(&member) {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    fn next_entry(&mut self) -> Result<Member> {
        let mut fixed = [0; ENTRY_BYTES];
        self.file.read_exact(&mut fixed)?;
        if u32_at(&fixed, 0) != Some(ENTRY) {
            return Err(invalid("its central directory is damaged"));
        }
        let short = |at| u16_at(&fixed, at).unwrap_or_default();
        let long = |at| u32_at(&fixed, at).unwrap_or_default();
        let mut name = vec![0; short(28).into()];
        self.file.read_exact(&mut name)?;
        let mut extra = vec![0; short(30).into()];
        self.file.read_exact(&mut extra)?;
        self.file.seek_relative(short(32).into())?;
        // The 64-bit record has those numbers alone that do not fit, in this order.
        let mut wide = record_64(&extra).chunks_exact(8).filter_map(|bytes| u64_at(bytes, 0));
        let mut number = |short: u32| match short {
            u32::MAX => wide.next().ok_or_else(|| invalid("a member lacks its 64-bit sizes")),
            short => Ok(u64::from(short)),
        };
        let (unpacked, packed, at) = (number(long(24))?, number(long(20))?, number(long(42))?);
        Ok(Member { name, packed, unpacked, flags: short(8), method: short(10), crc: long(16), at })
    }

    /// A stream of what the member holds.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for an encrypted member or another method, else as [`Archive::open`].
    pub fn unpack(mut self, member: &Member) -> Result<Unpacked> {
        let unsupported = |why: String| Error::new(ErrorKind::Unsupported, why);
        if member.flags & ENCRYPTED != 0 {
            return Err(unsupported("it is encrypted".into()));
        }
        let local = self.bytes::<LOCAL_BYTES>(member.at)?;
        if u32_at(&local, 0) != Some(LOCAL) {
            return Err(invalid("it is not where the central directory says"));
        }
        let names = [26, 28].map(|at| i64::from(u16_at(&local, at).unwrap_or_default()));
        self.file.seek_relative(names.iter().sum())?;
        let packed = self.file.take(member.packed);
        let stream = match member.method {
            STORED => Stream::Stored(packed),
            DEFLATED => Stream::Deflated(DeflateDecoder::new(packed)),
            method => {
                return Err(unsupported(format!("its method is {method}, 0 (stored) and 8 (deflated) are known")));
            }
        };
        Ok(Unpacked { stream: CrcReader::new(stream), crc: member.crc })
    }

    fn bytes<const N: usize>(&mut self, at: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// What a member holds; the end is an error where the checksum is another than declared.
pub(super) struct Unpacked {
    stream: CrcReader<Stream>,
    crc: u32,
}

enum Stream {
    Stored(Take<BufReader<File>>),
    Deflated(DeflateDecoder<Take<BufReader<File>>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Stored(bytes) => bytes.read(buffer),
            Self::Deflated(bytes) => bytes.read(buffer),
        }
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.stream.read(buffer)?;
        if n == 0 && !buffer.is_empty() && Crc::sum(self.stream.crc()) != self.crc {
            return Err(invalid("its checksum is another than declared"));
        }
        Ok(n)
    }
}

/// What the extra field of 64-bit sizes holds; nothing where there is none.
fn record_64(mut extra: &[u8]) -> &[u8] {
    while let (Some(kind), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let end = (4 + usize::from(length)).min(extra.len());
        if kind == 1 {
            return &extra[4..end];
        }
        extra = &extra[end..];
    }
    &[]
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    /// An archive with a comment, by the crate `zip`.
    fn written(members: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            zip.start_file(*name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.set_comment("PK\x05\x06 is no end here").unwrap();
        zip.finish().unwrap().into_inner()
    }

    fn open(bytes: &[u8]) -> Result<Archive> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        Archive::open(file)
    }

    fn read(bytes: &[u8], name: &str) -> Result<Vec<u8>> {
        let mut archive = open(bytes)?;
        let member = archive.find(|member| member.name == name.as_bytes())?.expect("a member of that name");
        let mut out = Vec::new();
        archive.unpack(&member)?.read_to_end(&mut out)?;
        assert_eq!(out.len() as u64, member.unpacked);
        Ok(out)
    }

    #[test]
    fn what_was_stored_or_deflated_is_read_back_with_short_and_with_64_bit_sizes() {
        let long: Vec<u8> = (0..300_000_u32).map(|i| (i / 1000) as u8).collect();
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            for large in [false, true] {
                let options = SimpleFileOptions::default().compression_method(method).large_file(large);
                let bytes = written(&[("a", b"one"), ("empty", b""), ("b", &long)], options);
                assert_eq!(read(&bytes, "a").unwrap(), b"one");
                assert_eq!(read(&bytes, "empty").unwrap(), b"");
                assert_eq!(read(&bytes, "b").unwrap(), long);
                assert!(open(&bytes).unwrap().find(|member| member.name == b"c").unwrap().is_none());
            }
        }
    }

    #[test]
    fn many_members_have_a_64_bit_end() {
        let names: Vec<String> = (0..70_000).map(|i| i.to_string()).collect();
        let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        assert_eq!(read(&written(&members, options), "69999").unwrap(), b"69999");
    }

    #[test]
    fn damage_is_seen() {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let bytes = written(&[("a", b"some bytes")], options);
        let at = bytes.windows(10).position(|window| window == b"some bytes").unwrap();
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(read(&changed, "a").unwrap_err().to_string().contains("checksum"));
        for length in [0, 1, END_BYTES - 1, bytes.len() - 1] {
            assert!(open(&bytes[..length]).is_err(), "{length}");
        }
        let mut encrypted = bytes.clone();
        let entry = bytes.windows(4).rposition(|window| window == ENTRY.to_le_bytes()).unwrap();
        encrypted[entry + 8] |= 1;
        assert_eq!(read(&encrypted, "a").unwrap_err().kind(), ErrorKind::Unsupported);
        let mut other = bytes.clone();
        other[entry + 10] = 12;
        assert_eq!(read(&other, "a").unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
