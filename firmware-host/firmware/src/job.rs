//! What a loader writes at the board's job address before the program starts. Little endian:
//!
//! | offset | type | what |
//! |---|---|---|
//! | 0 | 8 bytes | `HONEJOB1` |
//! | 8 | u32 | number of entries |
//! | 12 | u32 | 0 |
//! | 16 | 8 × u32 an entry | offset and bytes of the plan, of the input, of the head (or 0, 0); 1 to compare with the specification; 0 |
//!
//! Offsets count from the job's first byte; a plan's is a multiple of 16.

use hone_runtime::plan::Op;

const MAGIC: [u8; 8] = *b"HONEJOB1";
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 32;

/// One thing to run.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// A plan; it is checked when it is parsed.
    pub plan: &'a [u8],
    /// The bytes of its input tensor.
    pub input: &'a [u8],
    /// A head record for what the plan gives, or nothing.
    pub head: &'a [u8],
    /// Whether to run it with the portable kernels as well, and to compare.
    pub compare: bool,
}

/// The entries; none where there is no job.
pub fn entries(job: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let word = |at: usize| job.get(at..).map_or(0, |rest| Op::word(rest, 0).cast_unsigned() as usize);
    let count = if job.starts_with(&MAGIC) { word(8) } else { 0 };
    (0..count).map_while(move |index| {
        let entry = index.checked_mul(ENTRY_BYTES)?.checked_add(HEADER_BYTES)?;
        let block = |at: usize| {
            let (offset, len) = (word(entry + at), word(entry + at + 4));
            job.get(offset..offset.checked_add(len)?)
        };
        Some(Entry { plan: block(0)?, input: block(8)?, head: block(16)?, compare: word(entry + 24) == 1 })
    })
}
