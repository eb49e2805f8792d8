//! Class labels: UTF-8 texts one after the other, with a table of where each ends.

use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};

/// The labels of C classes, borrowed. Labels may repeat (ImageNet has two "crane"); none is longer than 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Labels<'a> {
    /// End of each label in `text`, ascending.
    ends: &'a [[u8; 4]],
    text: &'a str,
}

impl<'a> Labels<'a> {
    /// Number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Label of class `class`.
    #[must_use]
    pub fn get(&self, class: usize) -> Option<&'a str> {
        let end = |class: usize| self.ends.get(class).map(|end| u32::from_le_bytes(*end) as usize);
        let start = match class.checked_sub(1) {
            Some(before) => end(before)?,
            None => 0,
        };
        self.text.get(start..end(class)?)
    }

    /// The labels in order of the classes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let labels = *self;
        (0..labels.len()).map(move |class| labels.get(class).unwrap_or_default())
    }

    /// The first class with this label.
    #[must_use]
    pub fn position(&self, label: &str) -> Option<usize> {
        self.iter().position(|l| l == label)
    }

    /// Reads `classes` end offsets, then `text_bytes` bytes.
    pub(crate) fn read(r: &mut Reader<'a>, classes: usize, text_bytes: usize) -> Result<Self> {
        const WHAT: &str = "labels";
        let ends = r.bytes(classes.saturating_mul(4))?.as_chunks().0;
        let text = core::str::from_utf8(r.bytes(text_bytes)?)
            .map_err(|_| Error::Malformed { what: WHAT, why: "text is not UTF-8" })?;
        let mut before = 0;
        for end in ends {
            let end = u32::from_le_bytes(*end) as usize;
            // Together with the end of the whole text below: every range lies in the text and between characters.
            if end < before || !text.is_char_boundary(end) {
                return Err(Error::Malformed { what: WHAT, why: "an end is out of order" });
            }
            before = end;
        }
        if before != text.len() {
            return Err(Error::Malformed { what: WHAT, why: "the last end is not the end of the text" });
        }
        Ok(Self { ends, text })
    }

    /// Bytes of the texts alone.
    pub(crate) fn text_bytes(labels: &[&str]) -> usize {
        labels.iter().map(|label| label.len()).sum()
    }

    /// Writes what [`Labels::read`] reads; the caller has written the two counts.
    pub(crate) fn write(w: &mut Writer<'_>, labels: &[&str]) -> Result<()> {
        let mut end = 0;
        for label in labels {
            end += label.len();
            w.count("text of labels in bytes", end, MAX_TEXT_BYTES)?;
        }
        labels.iter().try_for_each(|label| w.bytes(label.as_bytes()))
    }
}

/// Most bytes of all labels together.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 24;
