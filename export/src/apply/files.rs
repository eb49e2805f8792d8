//! Single files to predict on, and the head that answers.

use std::path::Path;

use hone_runtime::{Backbone as _, Error as Cause, HeadView};

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
        let mut warnings: Vec<String> = session.store().warnings().iter().map(ToString::to_string).collect();
        let here = self.backbone.provider();
        if let Some(there) = session.tuned_on().filter(|there| *there != here) {
            warnings.push(format!(
                "the head was tuned on {there}, and {here} embeds here: `hone head move --provider {here} --from {there}` re-centres it, or says \
                 that it does not hold"
            ));
        }
        Ok(HeadInForce {
            record: session.head().map_err(Error::place(self.path.display()))?.as_bytes().to_vec(),
            generation: session.store().active().map(|active| active.number),
            warnings,
        })
    }

    /// Embeds one picture, one wav file, or every row of any other data.
    ///
    /// # Errors
    /// As [`Applied::embed`].
    pub fn embed_file(&self, path: &Path) -> Result<Embedded> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if extension == "csv"
            && let Some(mut whole) = self.without_labels(path)
        {
            return self.embed(&mut whole, &mut |_, _| ());
        }
        let values = match extension.as_str() {
            "wav" => RawRow::Audio(Clip::open(path)?),
            "jpg" | "jpeg" | "png" | "bmp" => RawRow::Image(Picture::open(path)?),
            _ => return self.embed(&mut Source::open(path, &Options::default())?, &mut |_, _| ()),
        };
        let row = Row { index: 0, label: None, id: path.display().to_string(), values };
        self.embed_row(path, row)
    }
    /// A table whose rows have exactly as many numbers as the model takes, and so no column for a label.
    fn without_labels(&self, path: &Path) -> Option<Source> {
        let options = Options { label_column: Some("none".into()), ..Options::default() };
        let mut source = Source::open(path, &options).ok()?;
        let row = source.row(0).ok()?;
        self.preprocessor.apply(&row).is_ok().then_some(source)
    }
}
