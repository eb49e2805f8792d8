//! Single files to predict on, and the head that answers.

use std::path::Path;

use hone_runtime::{Error as Cause, HeadView};

use super::{Applied, Embedded};
use crate::data::{Clip, Options, Picture, RawRow, Row, Source};
use crate::{Error, Result};

/// The head in force.
#[derive(Debug, Clone)]
pub struct HeadInForce {
    record: Vec<u8>,
    /// Generation that it is; none: the bundle's own head.
    pub generation: Option<u32>,
    /// What the store's owner should know.
    pub warnings: Vec<String>,
}

impl HeadInForce {
    /// The head.
    ///
    /// # Errors
    /// None that opening it did not give.
    pub fn view(&self) -> Result<HeadView<'_>> {
        Ok(HeadView::parse(&self.record)?)
    }
}

impl Applied<'_> {
    /// The head in force: the store's, or the bundle's own.
    ///
    /// # Errors
    /// [`Error::Io`] for a store that does not exist, as [`Applied::session`], and [`Cause::Missing`] where there is no head.
    pub fn head_in_force(&self, store: Option<&Path>) -> Result<HeadInForce> {
        let Some(store) = store else {
            let head = self.bundle.head.ok_or(Cause::Missing { what: "head of its own; tune it and name its store" });
            let head = head.map_err(Error::place(self.path.display()))?;
            return Ok(HeadInForce { record: head.as_bytes().to_vec(), generation: None, warnings: Vec::new() });
        };
        std::fs::metadata(store).map_err(Error::io(store))?;
        let session = self.session(store, None)?;
        Ok(HeadInForce {
            record: session.head().map_err(Error::place(self.path.display()))?.as_bytes().to_vec(),
            generation: session.store().active().map(|active| active.number),
            warnings: session.store().warnings().iter().map(ToString::to_string).collect(),
        })
    }

    /// Embeds one picture, one wav file, or every row of any other data.
    ///
    /// # Errors
    /// As [`Applied::embed`].
    pub fn embed_file(&self, path: &Path) -> Result<Embedded> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let values = match extension.as_str() {
            "wav" => RawRow::Audio(Clip::open(path)?),
            "jpg" | "jpeg" | "png" | "bmp" => RawRow::Image(Picture::open(path)?),
            "csv" => {
                // A row of exactly as many numbers as the model takes has no column for a label.
                let unlabelled = Options { label_column: Some("none".into()), ..Options::default() };
                if let Ok(mut whole) = Source::open(path, &unlabelled)
                    && whole.row(0).is_ok_and(|row| self.preprocessor.apply(&row).is_ok())
                {
                    return self.embed(&mut whole, &mut |_, _| ());
                }
                return self.embed(&mut Source::open(path, &Options::default())?, &mut |_, _| ());
            }
            _ => return self.embed(&mut Source::open(path, &Options::default())?, &mut |_, _| ()),
        };
        let row = Row { index: 0, label: None, id: path.display().to_string(), values };
        self.embed_row(path, row)
    }
}
