//! One generation as one flat record: parsed in place from `&[u8]`, emitted into the caller's buffer.
//!
//! Written specification: `docs/store-format.md`. Nothing here allocates or knows of files, so that the same record goes
//! to a folder on a desktop and to flash on a microcontroller.
//!
//! ```
//! use hone_runtime::Fingerprint;
//! use hone_runtime::store::{Action, Draft, Record};
//! use hone_runtime::tune::gate::LeftOut;
//!
//! let mut draft = Draft::new(Action::Tuned { provider: "native" }, b"the head's own record");
//! draft.labels = &["cat", "dog"];
//! draft.classes = &[0, 1];
//! draft.left_out = &[LeftOut::Right, LeftOut::Wrong];
//! draft.row_bytes = 3;
//! draft.rows = &[1, 2, 3, 4, 5, 6];
//! let mut buffer = [0; 256];
//! let len = draft.emit(1, 0, Fingerprint([7; 16]), &mut buffer)?;
//!
//! let record = Record::parse(&buffer[..len])?;
//! assert_eq!(record.head, b"the head's own record");
//! let shot = record.shots().nth(1).unwrap();
//! assert_eq!((shot.class, shot.left_out, shot.row), (1, LeftOut::Wrong, [4u8, 5, 6].as_slice()));
//! # Ok::<(), hone_runtime::Error>(())
//! ```

use super::Action;
use crate::Fingerprint;
use crate::bytes::{Reader, Writer, crc32};
use crate::error::{Error, Result};
use crate::tune::gate::LeftOut;

/// First bytes of every record.
pub const MAGIC: [u8; 4] = *b"HGEN";
/// Version of the format that this build reads and writes.
pub const VERSION: u16 = 1;
/// Last bytes of every record, written after everything before them was read back.
pub const COMMIT_WORD: [u8; 4] = *b"KEPT";
/// Bytes before the first section.
pub const HEADER_BYTES: usize = 96;

const WHAT: &str = "generation";
const TRAILER_BYTES: usize = 8;
const HAS_TIME: u16 = 1;
const HAS_L2: u16 = 1 << 1;
const HAS_LOO: u16 = 1 << 2;
const HAS_CANARY_BEFORE: u16 = 1 << 3;
const HAS_CANARY_AFTER: u16 = 1 << 4;
const KNOWN_FLAGS: u16 = (1 << 5) - 1;

/// What the acceptance gate measured when the head was made; `None` where it was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measures {
    /// Code of the solver, as `tune` numbers them; 0: no solver was involved.
    pub method: u16,
    /// Strength of the L2 regularization.
    pub l2: Option<f32>,
    /// Leave-one-out accuracy on the shots, 0 to 1.
    pub loo_accuracy: Option<f32>,
    /// Accuracy on the canaries with the head before, 0 to 1.
    pub canary_before: Option<f32>,
    /// Accuracy on the canaries with this head, 0 to 1.
    pub canary_after: Option<f32>,
}

impl Measures {
    fn fields(&self) -> [(u16, Option<f32>); 4] {
        [
            (HAS_L2, self.l2),
            (HAS_LOO, self.loo_accuracy),
            (HAS_CANARY_BEFORE, self.canary_before),
            (HAS_CANARY_AFTER, self.canary_after),
        ]
    }
}

/// Content of a generation to be: everything but its number, its parent and the backbone, which the store knows.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// Why this generation is made.
    pub action: Action<&'a str>,
    /// Seconds since 1970-01-01 UTC, where the caller has a clock and wants it kept.
    pub time: Option<u64>,
    /// What was measured.
    pub measures: Measures,
    /// The head's own record (`docs/bundle-format.md`), opaque here.
    pub head: &'a [u8],
    /// Labels that `classes` indexes: not bound to the head's, so that shots of a class may wait for their first tuning.
    pub labels: &'a [&'a str],
    /// Per shot: index into `labels`.
    pub classes: &'a [u16],
    /// Per shot: what the acceptance gate has to know of it. Empty: the head was tuned with none of them.
    pub left_out: &'a [LeftOut],
    /// Bytes of one embedding row.
    pub row_bytes: usize,
    /// The shots' embeddings, `row_bytes` each.
    pub rows: &'a [u8],
    /// Per canary of the bundle, in its order: the same as for the shots. Empty: the head was tuned with none of them.
    pub canaries: &'a [LeftOut],
}

/// One shot of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredShot<'a> {
    /// Index of its label.
    pub class: u16,
    /// What the acceptance gate has to know of it.
    pub left_out: LeftOut,
    /// Its embedding.
    pub row: &'a [u8],
}

impl<'a> Draft<'a> {
    /// A draft without shots, time and measures.
    #[must_use]
    pub fn new(action: Action<&'a str>, head: &'a [u8]) -> Self {
        let measures = Measures::default();
        Self {
            action,
            time: None,
            measures,
            head,
            labels: &[],
            classes: &[],
            left_out: &[],
            row_bytes: 0,
            rows: &[],
            canaries: &[],
        }
    }

    /// Length of the record in bytes: what [`Draft::emit`] needs. Refuses a draft beyond 4 GiB.
    pub fn record_bytes(&self) -> Result<usize> {
        let labels = self.labels.iter().try_fold(0usize, |sum, label| sum.checked_add(2)?.checked_add(label.len()));
        let sections = [
            Some(self.action.subject().len()),
            Some(self.head.len()),
            labels,
            self.classes.len().checked_mul(2),
            Some(self.classes.len()),
            Some(self.rows.len()),
            Some(self.canaries.len()),
        ];
        sections
            .into_iter()
            .try_fold(HEADER_BYTES + TRAILER_BYTES, |sum, section| {
                section?.checked_next_multiple_of(4)?.checked_add(sum)
            })
            .filter(|bytes| u32::try_from(*bytes).is_ok())
            .ok_or(Error::Bounds {
                what: "bytes of a generation",
                value: self.rows.len() as u64,
                min: 0,
                max: u64::from(u32::MAX),
            })
    }

    /// Writes the record of generation `number` (1 or more) made from `parent` (0: the bundle's head) to the front of
    /// `out`; returns its length. The last four bytes are [`COMMIT_WORD`].
    pub fn emit(&self, number: u32, parent: u32, backbone: Fingerprint, out: &mut [u8]) -> Result<usize> {
        self.check(number, parent)?;
        let len = self.record_bytes()?;
        let has = out.len();
        let out = out.get_mut(..len).ok_or(Error::Buffer { what: WHAT, needs: len, has })?;
        let mut to = Writer::new(WHAT, out);
        to.bytes(&MAGIC)?;
        to.u16(VERSION)?;
        let measured = self.measures.fields();
        let time = if self.time.is_some() { HAS_TIME } else { 0 };
        to.u16(measured.iter().filter(|(_, value)| value.is_some()).fold(time, |flags, (flag, _)| flags | flag))?;
        to.count("bytes of a generation", len, u32::MAX as usize)?;
        to.u32(number)?;
        to.u32(parent)?;
        to.u16(self.action.code())?;
        to.u16(self.measures.method)?;
        to.u32(self.action.argument())?;
        to.bytes(&backbone.0)?;
        to.count("number of canaries", self.canaries.len(), u32::MAX as usize)?;
        to.bytes(&self.time.unwrap_or(0).to_le_bytes())?;
        for (_, value) in measured {
            to.f32(value.unwrap_or(0.0))?;
        }
        let label_bytes = self.labels.iter().map(|label| label.len() + 2).sum();
        to.count("bytes of a label", self.action.subject().len(), usize::from(u16::MAX))?;
        to.count("bytes of a head", self.head.len(), u32::MAX as usize)?;
        to.count("classes of the shots", self.labels.len(), usize::from(u16::MAX))?;
        to.count("bytes of labels", label_bytes, u32::MAX as usize)?;
        to.count("number of shots", self.classes.len(), u32::MAX as usize)?;
        to.count("bytes of an embedding", self.row_bytes, u32::MAX as usize)?;
        to.bytes(self.action.subject().as_bytes())?;
        to.pad_to(4)?;
        to.bytes(self.head)?;
        to.pad_to(4)?;
        for label in self.labels {
            to.text(label)?;
        }
        to.pad_to(4)?;
        for class in self.classes {
            to.u16(*class)?;
        }
        to.pad_to(4)?;
        let states = self.left_out.iter().copied().chain(core::iter::repeat(LeftOut::New));
        states.take(self.classes.len()).try_for_each(|state| to.u8(state as u8))?;
        to.pad_to(4)?;
        to.bytes(self.rows)?;
        to.pad_to(4)?;
        self.canaries.iter().try_for_each(|state| to.u8(*state as u8))?;
        to.pad_to(4)?;
        let crc = crc32(to.written());
        to.u32(crc)?;
        to.bytes(&COMMIT_WORD)?;
        Ok(to.position())
    }

    fn check(&self, number: u32, parent: u32) -> Result<()> {
        if number == 0 || parent >= number {
            return Err(malformed("its number must be above its parent's"));
        }
        if self.head.is_empty() {
            return Err(malformed("it has no head"));
        }
        check_measures(&self.measures)?;
        let expected = self.classes.len().checked_mul(self.row_bytes);
        if expected != Some(self.rows.len()) {
            let expected = expected.unwrap_or(usize::MAX);
            return Err(Error::Shape { what: "bytes of the shots' embeddings", expected, got: self.rows.len() });
        }
        if self.row_bytes == 0 && !self.classes.is_empty() {
            return Err(malformed("its shots have no embedding"));
        }
        let (expected, got) = (self.classes.len(), self.left_out.len());
        if got != 0 && got != expected {
            return Err(Error::Shape { what: "left-out answers of the shots", expected, got });
        }
        if self.labels.iter().any(|label| label.is_empty()) {
            return Err(malformed("a label is empty"));
        }
        match self.classes.iter().find(|class| usize::from(**class) >= self.labels.len()) {
            Some(class) => Err(Error::UnknownClass { class: usize::from(*class), classes: self.labels.len() }),
            None => Ok(()),
        }
    }
}

/// A record whose every byte has been checked; borrows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Record<'a> {
    /// This generation's number, from 1.
    pub number: u32,
    /// The generation that was active when this one was made; 0: the bundle's own head.
    pub parent: u32,
    /// Why it was made.
    pub action: Action<&'a str>,
    /// Seconds since 1970-01-01 UTC, where they were given.
    pub time: Option<u64>,
    /// The backbone that head and shots belong to.
    pub backbone: Fingerprint,
    /// What was measured.
    pub measures: Measures,
    /// The head's own record.
    pub head: &'a [u8],
    /// Bytes of one embedding row.
    pub row_bytes: usize,
    labels: &'a [u8],
    classes: &'a [u8],
    left_out: &'a [u8],
    rows: &'a [u8],
    canaries: &'a [u8],
}

impl<'a> Record<'a> {
    /// Checks commit word, CRC and every length of `bytes`, which must be one record and nothing more.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut from = Reader::new(WHAT, bytes);
        let magic: [u8; 4] = from.array()?;
        if magic != MAGIC {
            return Err(Error::BadMagic { what: WHAT, found: magic });
        }
        let version = from.u16()?;
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version, supported: VERSION });
        }
        let flags = from.u16()?;
        let declared = from.count("bytes of a generation", usize::MAX)?;
        if bytes.len() < declared {
            return Err(Error::Truncated { what: WHAT, needs: declared, has: bytes.len() });
        }
        if bytes.len() > declared {
            return Err(malformed("bytes follow its end"));
        }
        check_trailer(bytes)?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(malformed("it has flags that this version does not know"));
        }

        let number = from.u32()?;
        let parent = from.u32()?;
        let action = from.u16()?;
        let method = from.u16()?;
        let argument = from.u32()?;
        let backbone = Fingerprint(from.array()?);
        let canary_count = from.count("number of canaries", bytes.len())?;
        let time = match from.u64()? {
            seconds if flags & HAS_TIME != 0 => Some(seconds),
            0 => None,
            _ => return Err(malformed("an absent field is not zero")),
        };
        let mut measured = |flag: u16| {
            let value = from.f32()?;
            match flags & flag {
                0 if value.to_bits() != 0 => Err(malformed("an absent field is not zero")),
                0 => Ok(None),
                _ => Ok(Some(value)),
            }
        };
        let measures = Measures {
            method,
            l2: measured(HAS_L2)?,
            loo_accuracy: measured(HAS_LOO)?,
            canary_before: measured(HAS_CANARY_BEFORE)?,
            canary_after: measured(HAS_CANARY_AFTER)?,
        };
        check_measures(&measures)?;
        if number == 0 || parent >= number {
            return Err(malformed("its number must be above its parent's"));
        }

        let subject_bytes = from.count("bytes of a label", usize::from(u16::MAX))?;
        let head_bytes = from.count("bytes of a head", bytes.len())?;
        let label_count = from.count("classes of the shots", usize::from(u16::MAX))?;
        let label_bytes = from.count("bytes of labels", bytes.len())?;
        let shot_count = from.count("number of shots", bytes.len())?;
        let row_bytes = from.count("bytes of an embedding", usize::MAX)?;
        let rows_bytes = shot_count.checked_mul(row_bytes).ok_or(malformed("its shots are larger than memory"))?;
        if head_bytes == 0 {
            return Err(malformed("it has no head"));
        }
        if row_bytes == 0 && shot_count > 0 {
            return Err(malformed("its shots have no embedding"));
        }

        let mut section = |len: usize| -> Result<&'a [u8]> {
            let section = from.bytes(len)?;
            from.pad_to(4)?;
            Ok(section)
        };
        let subject = core::str::from_utf8(section(subject_bytes)?).map_err(|_| malformed("a label is not UTF-8"))?;
        let head = section(head_bytes)?;
        let labels = section(label_bytes)?;
        let classes = section(shot_count.checked_mul(2).ok_or(malformed("its shots are larger than memory"))?)?;
        let left_out = section(shot_count)?;
        let rows = section(rows_bytes)?;
        let canaries = section(canary_count)?;
        from.bytes(TRAILER_BYTES)?;
        from.end()?;

        let action = Action::from_stored(action, argument, subject).ok_or(malformed("its action is not known"))?;
        check_labels(labels, label_count)?;
        if left_out.iter().chain(canaries).any(|code| LeftOut::from_code(*code).is_none()) {
            return Err(malformed("a left-out answer is not known"));
        }
        let record = Self {
            number,
            parent,
            action,
            time,
            backbone,
            measures,
            head,
            row_bytes,
            labels,
            classes,
            left_out,
            rows,
            canaries,
        };
        match record.shots().map(|shot| usize::from(shot.class)).find(|class| *class >= label_count) {
            Some(class) => Err(Error::UnknownClass { class, classes: label_count }),
            None => Ok(record),
        }
    }

    /// The labels that the shots' classes index.
    pub fn labels(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        // `parse` has walked the same table to its end; a failure here cannot happen and would only end the walk.
        let mut from = Reader::new(WHAT, self.labels);
        core::iter::from_fn(move || from.text().ok())
    }

    /// Number of shots.
    #[must_use]
    pub fn shot_count(&self) -> usize {
        self.classes.len() / 2
    }

    /// The shots, oldest first.
    pub fn shots(&self) -> impl Iterator<Item = StoredShot<'a>> + use<'a> {
        let classes = self.classes.as_chunks().0.iter().copied().map(u16::from_le_bytes);
        // Without shots `row_bytes` may be 0, and there is nothing to split.
        let rows = self.rows.chunks_exact(self.row_bytes.max(1));
        classes.zip(states(self.left_out)).zip(rows).map(|((class, left_out), row)| StoredShot { class, left_out, row })
    }

    /// What the acceptance gate has to know of the bundle's canaries, in their order.
    pub fn canaries(&self) -> impl Iterator<Item = LeftOut> + use<'a> {
        states(self.canaries)
    }

    /// The shots' embeddings, [`Record::row_bytes`] each.
    #[must_use]
    pub fn rows(&self) -> &'a [u8] {
        self.rows
    }
}

fn malformed(why: &'static str) -> Error {
    Error::Malformed { what: WHAT, why }
}

/// Commit word and CRC at the end of `bytes`.
fn check_trailer(bytes: &[u8]) -> Result<()> {
    let cut_short = Error::Truncated { what: WHAT, needs: HEADER_BYTES + TRAILER_BYTES, has: bytes.len() };
    let (rest, word) = bytes.split_last_chunk::<4>().ok_or(cut_short.clone())?;
    let (body, crc) = rest.split_last_chunk::<4>().ok_or(cut_short)?;
    if *word != COMMIT_WORD {
        return Err(malformed("its commit word was never written"));
    }
    let stored = u32::from_le_bytes(*crc);
    let computed = crc32(body);
    if stored != computed {
        return Err(Error::Crc { what: WHAT, stored, computed });
    }
    Ok(())
}

fn check_measures(measures: &Measures) -> Result<()> {
    match measures.fields().iter().position(|(_, value)| value.is_some_and(|value| !value.is_finite())) {
        Some(index) => Err(Error::NonFinite { what: "measures of a generation", index }),
        None => Ok(()),
    }
}

/// Stored states, every one of which `parse` has found known.
fn states<'a>(codes: &'a [u8]) -> impl Iterator<Item = LeftOut> + use<'a> {
    codes.iter().map(|code| LeftOut::from_code(*code).unwrap_or_default())
}

fn check_labels(table: &[u8], count: usize) -> Result<()> {
    let mut from = Reader::new("labels of a generation", table);
    for _ in 0..count {
        if from.text()?.is_empty() {
            return Err(malformed("a label is empty"));
        }
    }
    from.end()
}
