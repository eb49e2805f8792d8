//! A generation with its own memory, and the line that it adds to the history.

#[allow(unused_imports, reason = "String, Vec, ToOwned")]
use crate::prelude::*;

use super::{Action, Draft, Measures, Record};
use crate::bytes::crc32;
use crate::tune::gate::LeftOut;

/// One line of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// This generation's number, from 1.
    pub number: u32,
    /// The generation that was active when it was made; 0: the bundle's own head.
    pub parent: u32,
    /// Why it was made.
    pub action: Action<String>,
    /// Seconds since 1970-01-01 UTC, where they were given.
    pub time: Option<u64>,
    /// What was measured when the head was made.
    pub measures: Measures,
    /// Shots kept with it.
    pub shots: usize,
    /// CRC32 of the head without its last four bytes: for a head record, the CRC that it ends with (`HeadView::crc`).
    pub head_crc: u32,
    /// Length of the whole record in bytes.
    pub record_bytes: usize,
}

/// One generation: the head and the shots that it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// This generation's number, from 1.
    pub number: u32,
    /// Why it was made.
    pub action: Action<String>,
    /// What was measured when the head was made.
    pub measures: Measures,
    /// The head's own record, as `HeadView::parse` takes it.
    pub head: Vec<u8>,
    /// Labels that `classes` indexes.
    pub labels: Vec<String>,
    /// Per shot: index into `labels`.
    pub classes: Vec<u16>,
    /// Per shot: what the acceptance gate has to know of it.
    pub left_out: Vec<LeftOut>,
    /// Bytes of one embedding row; 0 where the generation has no shots and none was stated.
    pub row_bytes: usize,
    /// The shots' embeddings, `row_bytes` each.
    pub rows: Vec<u8>,
    /// Per canary of the bundle: what the acceptance gate has to know of it. Empty: the head was tuned with none.
    pub canaries: Vec<LeftOut>,
}

/// One shot with its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot<'a> {
    /// Its class.
    pub label: &'a str,
    /// What the acceptance gate has to know of it.
    pub left_out: LeftOut,
    /// Its embedding.
    pub row: &'a [u8],
}

impl Entry {
    pub(crate) fn new(record: &Record<'_>, record_bytes: usize) -> Self {
        Self {
            number: record.number,
            parent: record.parent,
            action: owned(record.action),
            time: record.time,
            measures: record.measures,
            shots: record.shot_count(),
            head_crc: crc32(record.head.split_last_chunk::<4>().map_or(record.head, |(body, _)| body)),
            record_bytes,
        }
    }
}

impl Generation {
    /// Every shot, oldest first.
    pub fn shots(&self) -> impl Iterator<Item = Shot<'_>> {
        shots(&self.labels, &self.classes, &self.left_out, &self.rows, self.row_bytes)
    }

    /// Hands `make` a draft of this content under another action.
    pub(crate) fn with_draft<T>(
        &self,
        action: Action<&str>,
        time: Option<u64>,
        make: impl FnOnce(&Draft<'_>) -> T,
    ) -> T {
        let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
        make(&Draft {
            action,
            time,
            measures: self.measures,
            head: &self.head,
            labels: &labels,
            classes: &self.classes,
            left_out: &self.left_out,
            row_bytes: self.row_bytes,
            rows: &self.rows,
            canaries: &self.canaries,
        })
    }
}

impl From<&Record<'_>> for Generation {
    fn from(record: &Record<'_>) -> Self {
        Self {
            number: record.number,
            action: owned(record.action),
            measures: record.measures,
            head: record.head.to_vec(),
            labels: record.labels().map(ToOwned::to_owned).collect(),
            classes: record.shots().map(|shot| shot.class).collect(),
            left_out: record.shots().map(|shot| shot.left_out).collect(),
            row_bytes: record.row_bytes,
            rows: record.rows().to_vec(),
            canaries: record.canaries().collect(),
        }
    }
}

/// Joins the columns in which shots are kept.
pub(crate) fn shots<'a>(
    labels: &'a [String],
    classes: &'a [u16],
    left_out: &'a [LeftOut],
    rows: &'a [u8],
    row_bytes: usize,
) -> impl Iterator<Item = Shot<'a>> {
    let labels = classes.iter().filter_map(|class| labels.get(usize::from(*class)));
    // Without shots `row_bytes` may be 0, and there is nothing to split.
    let rows = rows.chunks_exact(row_bytes.max(1));
    labels.zip(left_out).zip(rows).map(|((label, left_out), row)| Shot { label, left_out: *left_out, row })
}

fn owned(action: Action<&str>) -> Action<String> {
    match action {
        Action::Tuned { provider } => Action::Tuned { provider: provider.to_owned() },
        Action::RolledBack { to } => Action::RolledBack { to },
        Action::ClassRemoved { label } => Action::ClassRemoved { label: label.to_owned() },
        Action::Forgot { label, shots } => Action::Forgot { label: label.to_owned(), shots },
        Action::Taught { shots } => Action::Taught { shots },
        Action::Moved { provider } => Action::Moved { provider: provider.to_owned() },
    }
}
