//! The shots that a session holds, in their own memory: label and embedding row of each, oldest first.

#[allow(unused_imports, reason = "String, Vec, ToOwned")]
use crate::prelude::*;

use crate::error::{Error, Result};
use crate::store::{Action, Draft, Generation, Measures, Shot, shots};
use crate::tune::gate::LeftOut;

/// Shots with a table of their labels, which is in order of first use and has no label without a shot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Memory {
    labels: Vec<String>,
    classes: Vec<u16>,
    left_out: Vec<LeftOut>,
    rows: Vec<u8>,
    row_bytes: usize,
}

impl Memory {
    /// No shots, for rows of `row_bytes` bytes.
    pub(super) fn new(row_bytes: usize) -> Self {
        Self { labels: Vec::new(), classes: Vec::new(), left_out: Vec::new(), rows: Vec::new(), row_bytes }
    }

    /// The shots of a generation, which must have rows of `row_bytes` bytes.
    pub(super) fn of(generation: &Generation, row_bytes: usize) -> Result<Self> {
        if !generation.classes.is_empty() && generation.row_bytes != row_bytes {
            return Err(Error::Shape {
                what: "bytes of a stored shot",
                expected: row_bytes,
                got: generation.row_bytes,
            });
        }
        let mut memory = Self::new(row_bytes);
        generation.shots().try_for_each(|shot| memory.add(shot.label, shot.row, shot.left_out))?;
        Ok(memory)
    }

    /// Adds one shot of `label`; `left_out` as in a [`Draft`].
    pub(super) fn add(&mut self, label: &str, row: &[u8], left_out: LeftOut) -> Result<()> {
        check_label(label)?;
        let class = match self.labels.iter().position(|known| known == label) {
            Some(class) => class,
            None => self.labels.len(),
        };
        let class = u16::try_from(class).ok().filter(|class| *class < u16::MAX).ok_or(Error::Bounds {
            what: "classes of the shots",
            value: class as u64 + 1,
            min: 0,
            max: u64::from(u16::MAX),
        })?;
        if usize::from(class) == self.labels.len() {
            self.labels.push(label.to_owned());
        }
        self.classes.push(class);
        self.left_out.push(left_out);
        self.rows.extend_from_slice(row);
        Ok(())
    }

    /// The same without the shots of `label`; of none, all shots go.
    pub(super) fn without(&self, label: Option<&str>) -> Result<Self> {
        let mut rest = Self::new(self.row_bytes);
        let Some(gone) = label else { return Ok(rest) };
        let mut stay = self.shots().filter(|shot| shot.label != gone);
        stay.try_for_each(|shot| rest.add(shot.label, shot.row, shot.left_out))?;
        Ok(rest)
    }

    pub(super) fn len(&self) -> usize {
        self.classes.len()
    }

    pub(super) fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The shots' embeddings, one after the other.
    pub(super) fn rows(&self) -> &[u8] {
        &self.rows
    }

    /// Every shot, oldest first.
    pub(super) fn shots(&self) -> impl Iterator<Item = Shot<'_>> {
        shots(&self.labels, &self.classes, &self.left_out, &self.rows, self.row_bytes)
    }

    /// The same shots with other left-out answers, one each.
    pub(super) fn judged(&self, left_out: &[LeftOut]) -> Result<Self> {
        if left_out.len() != self.len() {
            return Err(Error::Shape {
                what: "left-out answers of the shots",
                expected: self.len(),
                got: left_out.len(),
            });
        }
        Ok(Self { left_out: left_out.to_vec(), ..self.clone() })
    }

    /// Hands `make` a draft with these shots.
    pub(super) fn with_draft<T>(
        &self,
        action: Action<&str>,
        time: Option<u64>,
        measures: Measures,
        head: &[u8],
        canaries: &[LeftOut],
        make: impl FnOnce(&Draft<'_>) -> T,
    ) -> T {
        let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
        make(&Draft {
            action,
            time,
            measures,
            head,
            labels: &labels,
            classes: &self.classes,
            left_out: &self.left_out,
            row_bytes: self.row_bytes,
            rows: &self.rows,
            canaries,
        })
    }
}

/// A label that can be stored: not empty, at most 65,535 bytes.
fn check_label(label: &str) -> Result<()> {
    if (1..=usize::from(u16::MAX)).contains(&label.len()) {
        return Ok(());
    }
    Err(Error::Bounds { what: "bytes of a label", value: label.len() as u64, min: 1, max: u64::from(u16::MAX) })
}
