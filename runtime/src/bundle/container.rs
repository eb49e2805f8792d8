//! The outer layer: header, table of sections, checksums. Knows nothing of what the sections hold.

#[allow(unused_imports, reason = "Vec, where there is an allocator")]
use crate::prelude::*;

use crate::bytes::{Reader, crc32, crc32_of_two};
use crate::error::{Error, Result};

const WHAT: &str = "bundle";
/// As PNG's: a byte that is not ASCII, and line ends that a text transfer would damage.
const MAGIC: [u8; 8] = *b"\x89HONE\r\n\x1a";
const VERSION: u16 = 1;
const MAX_SECTIONS: usize = 64;
#[cfg(feature = "alloc")]
const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 24;
pub(super) const ALIGN: usize = 16;
/// Flag of a section without which the bundle cannot be understood.
pub(super) const MANDATORY: u16 = 1;

/// Kinds of sections.
pub(super) mod kind {
    pub(crate) const MODEL: u16 = 1;
    pub(crate) const BACKBONE_ONNX: u16 = 2;
    pub(crate) const PLAN: u16 = 3;
    pub(crate) const INPUT: u16 = 4;
    pub(crate) const EMBEDDING: u16 = 5;
    pub(crate) const PREPROCESS: u16 = 6;
    pub(crate) const STATISTICS: u16 = 7;
    pub(crate) const HEAD: u16 = 8;
    pub(crate) const LABELS: u16 = 9;
    pub(crate) const CANARIES: u16 = 10;
    pub(crate) const FACTS: u16 = 11;
    pub(crate) const VOCABULARY: u16 = 12;

    pub(crate) const KNOWN: [u16; 12] = [
        MODEL,
        BACKBONE_ONNX,
        PLAN,
        INPUT,
        EMBEDDING,
        PREPROCESS,
        STATISTICS,
        HEAD,
        LABELS,
        CANARIES,
        FACTS,
        VOCABULARY,
    ];
}

/// Sections of a file whose header, table, checksums and padding were checked.
pub(super) struct Sections<'a>(heapless::Vec<(u16, &'a [u8]), MAX_SECTIONS>);

impl<'a> Sections<'a> {
    pub(super) fn parse(file: &'a [u8]) -> Result<Self> {
        let mut r = Reader::new(WHAT, file);
        let magic: [u8; 8] = r.array()?;
        if magic != MAGIC {
            let [a, b, c, d, ..] = magic;
            return Err(Error::BadMagic { what: WHAT, found: [a, b, c, d] });
        }
        let version = r.u16()?;
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version, supported: VERSION });
        }
        if r.u16()? != 0 {
            return Err(Error::Malformed { what: WHAT, why: "unknown flags" });
        }
        let count = r.count("sections", MAX_SECTIONS)?;
        let total = to_usize(r.u64()?);
        if total > file.len() {
            return Err(Error::Truncated { what: WHAT, needs: total, has: file.len() });
        }
        let stored = r.u32()?;
        if r.u32()? != 0 {
            return Err(Error::Malformed { what: WHAT, why: "reserved bytes are not zero" });
        }
        let table = r.bytes(count * ENTRY_BYTES)?;
        check_crc("table of the bundle", stored, header_crc(file, table))?;

        let mut sections = Self(heapless::Vec::new());
        let mut entries = Reader::new(WHAT, table);
        for _ in 0..count {
            let (kind, flags, crc) = (entries.u16()?, entries.u16()?, entries.u32()?);
            let (offset, len) = (to_usize(entries.u64()?), to_usize(entries.u64()?));
            r.pad_to(ALIGN)?;
            if offset != r.position() {
                return Err(Error::Malformed { what: WHAT, why: "sections do not follow one another" });
            }
            let section = r.bytes(len)?;
            check_crc(name(kind), crc, crc32(section))?;
            if flags & !MANDATORY != 0 {
                return Err(Error::Malformed { what: WHAT, why: "unknown flags of a section" });
            }
            let known = kind::KNOWN.contains(&kind);
            if !known && flags & MANDATORY != 0 {
                return Err(Error::UnknownSection { kind });
            }
            if known {
                sections.insert(kind, section)?;
            }
        }
        r.end()?;
        Ok(sections)
    }

    pub(super) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(known, _)| *known == kind).map(|(_, section)| *section)
    }

    pub(super) fn need(&self, kind: u16) -> Result<&'a [u8]> {
        self.get(kind).ok_or(Error::Missing { what: name(kind) })
    }

    fn insert(&mut self, kind: u16, section: &'a [u8]) -> Result<()> {
        if self.get(kind).is_some() {
            return Err(Error::Malformed { what: name(kind), why: "the section comes twice" });
        }
        // `count` bounds the number of sections by the vector's capacity.
        self.0.push((kind, section)).map_err(|_| Error::Malformed { what: WHAT, why: "too many sections" })
    }
}

pub(super) fn name(kind: u16) -> &'static str {
    match kind {
        kind::MODEL => "model section",
        kind::BACKBONE_ONNX => "backbone section",
        kind::PLAN => "plan section",
        kind::INPUT => "input section",
        kind::EMBEDDING => "embedding section",
        kind::PREPROCESS => "preprocessing section",
        kind::STATISTICS => "statistics section",
        kind::HEAD => "head section",
        kind::LABELS => "labels section",
        kind::CANARIES => "canaries section",
        kind::FACTS => "facts section",
        kind::VOCABULARY => "vocabulary section",
        _ => "section of a kind unknown here",
    }
}

fn check_crc(what: &'static str, stored: u32, computed: u32) -> Result<()> {
    if stored == computed { Ok(()) } else { Err(Error::Crc { what, stored, computed }) }
}

/// CRC of the header up to its CRC field, and of the table.
fn header_crc(file: &[u8], table: &[u8]) -> u32 {
    crc32_of_two(file.get(..24).unwrap_or_default(), table)
}

/// Saturates: no slice is that long, so that the next length check refuses it.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A section for writing: kind, flags, bytes.
#[cfg(feature = "alloc")]
pub(super) type Section<'a> = (u16, u16, &'a [u8]);

/// The file that holds `sections` in this order.
#[cfg(feature = "alloc")]
pub(super) fn assemble(sections: &[Section<'_>]) -> Result<Vec<u8>> {
    if sections.len() > MAX_SECTIONS {
        return Err(Error::Bounds { what: "sections", value: sections.len() as u64, min: 0, max: MAX_SECTIONS as u64 });
    }
    let mut table = Vec::new();
    let mut end = HEADER_BYTES + ENTRY_BYTES * sections.len();
    for (kind, flags, bytes) in sections {
        let offset = end.next_multiple_of(ALIGN);
        end = offset + bytes.len();
        table.extend(kind.to_le_bytes());
        table.extend(flags.to_le_bytes());
        table.extend(crc32(bytes).to_le_bytes());
        table.extend((offset as u64).to_le_bytes());
        table.extend((bytes.len() as u64).to_le_bytes());
    }
    let mut file = Vec::with_capacity(end);
    file.extend(MAGIC);
    file.extend(VERSION.to_le_bytes());
    file.extend(0u16.to_le_bytes());
    file.extend((sections.len() as u32).to_le_bytes());
    file.extend((end as u64).to_le_bytes());
    file.extend(header_crc(&file, &table).to_le_bytes());
    file.extend(0u32.to_le_bytes());
    file.extend(&table);
    for (_, _, bytes) in sections {
        file.resize(file.len().next_multiple_of(ALIGN), 0);
        file.extend(*bytes);
    }
    Ok(file)
}
