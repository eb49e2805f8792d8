//! Calibration, shot and evaluation data: rows with labels, streamed from whatever holds them.
//!
//! A [`Source`] opens arrays (`.npy`, `.npz`, idx, idx.gz, `.csv`), texts (`.tsv`, `.txt`), folders of pictures or wav files, and folders that
//! hold arrays. Rows are read when they are asked for, so memory does not grow with their number (labels, file names
//! and places of rows excepted: some bytes a row). [`preprocess`] makes a row the model's input.
//!
//! ```
//! use hone_export::data::{Options, Source, npy};
//! let folder = tempfile::tempdir()?;
//! npy::write(folder.path().join("x.npy"), &[3, 2], &[0_u8, 1, 2, 3, 4, 5])?;
//! npy::write(folder.path().join("y.npy"), &[3], &[0_u8, 1, 0])?;
//! let mut source = Source::open(folder.path(), &Options::default())?;
//! assert_eq!(source.classes(), ["0", "1"]);
//! for row in source.rows() {
//!     let row = row?;
//!     println!("{} has label {:?}", row.id, row.label);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

mod fft;
mod folder;
pub mod idx;
pub mod images;
mod labels;
mod mel;
pub mod npy;
#[cfg_attr(not(feature = "npz"), path = "data/no_npz.rs")]
pub mod npz;
mod open;
pub mod preprocess;
mod select;
mod table;
mod text;
#[cfg_attr(not(feature = "text"), path = "data/no_tokens.rs")]
mod tokens;
mod values;
pub mod wav;

pub use images::Picture;
pub use preprocess::Preprocessor;
pub use select::RowsFile;
pub use values::{ElementType, Values};
pub use wav::Clip;

use folder::Files;
use npy::ArrayFile;
use table::Table;
use text::Texts;

/// What the user says about the data beyond its path.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The file of rows inside the folder, where it is not called `x.npy`.
    pub x: Option<PathBuf>,
    /// Labels: `.npy`, `.npz`, idx, a text file with one a line, or a csv file (`FILE.csv#COLUMN` names its column); for
    /// folders of pictures or sound, a csv file with a column `file` that also says which files in which order.
    /// Looked for in the data's folder first.
    pub labels: Option<PathBuf>,
    /// Class names, one a line.
    pub classes: Option<PathBuf>,
    /// Added to numeric labels (1 where a model has a background class in front).
    pub label_offset: i64,
    /// Column of a csv file of numbers, or of a tsv file of texts, that holds the label: its name, its number from 0, or `none`.
    pub label_column: Option<String>,
    /// Rows to use, in that order.
    pub rows: Option<RowsFile>,
    /// At most this many rows.
    pub limit: Option<usize>,
    /// Round robin over the classes, each class in an order drawn from `seed`.
    pub balance: bool,
    /// Seed of `balance`.
    pub seed: u64,
}

/// One example.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Row number in the source, before any selection.
    pub index: usize,
    /// Index into [`Source::classes`].
    pub label: Option<usize>,
    /// File name relative to the source's folder, or `FILE#ROW`.
    pub id: String,
    /// What the row holds.
    pub values: RawRow,
}

/// What a row holds, before preprocessing.
#[derive(Debug, Clone, PartialEq)]
pub enum RawRow {
    /// Numbers in C order.
    Array {
        /// Sizes of the row's axes (without the axis of rows).
        shape: Vec<usize>,
        /// As many numbers as `shape` says.
        values: Values,
    },
    /// A decoded picture.
    Image(Picture),
    /// A clip of mono sound.
    Audio(Clip),
    /// A text.
    Text(String),
}

/// What kind of rows a source gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Arrays of one shape and element type.
    Array {
        /// Sizes of a row's axes.
        shape: Vec<usize>,
        /// Type of the elements.
        element: ElementType,
    },
    /// Pictures.
    Images,
    /// Sound.
    Audio,
    /// Texts.
    Text,
}

/// Rows with labels, read on demand.
#[derive(Debug)]
pub struct Source {
    reader: Reader,
    /// For every row of the reader, selected or not.
    labels: Option<Vec<usize>>,
    classes: Vec<String>,
    /// Row numbers of the reader, in the order of use.
    order: Vec<usize>,
}

/// Where rows come from.
#[derive(Debug)]
enum Reader {
    Array(ArrayFile),
    Table(Table),
    Texts(Texts),
    Files(Files),
}

impl Source {
    /// Opens data: an array file, a csv file of numbers or of file names, a tsv or txt file of texts, a folder with `x.npy` (or `x_train.npy`,
    /// `x.npz`, `text.tsv`, one pair of idx files), a folder with a sub-folder of pictures or wav files for each class, or a folder
    /// of unlabelled ones (labelled by a `list.csv` in it, or by [`Options::labels`]).
    ///
    /// Labels of `x….npy` are looked for in `y….npy`, those of `…images-idx3…` in `…labels-idx1…`; class names in
    /// `labels.txt` beside them.
    ///
    /// # Errors
    /// Each names the file: [`Error::Io`], [`Error::Malformed`], [`Error::TooLarge`]; [`Error::Data`] for an empty
    /// source, labels that do not fit the rows or the class names, a row number out of range, `balance` without labels.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        let opened = open::open(path, options)?;
        let rows = opened.reader.rows();
        let (labels, classes) = match opened.labels {
            None => (None, opened.names.unwrap_or_default()),
            Some((labels, from)) => {
                let (labels, classes) = labels::resolve(labels, opened.names, options.label_offset, &from)?;
                if labels.len() != rows {
                    return Err(Error::data(
                        from,
                        format!("{} labels for the {rows} rows of {}", labels.len(), opened.reader.path().display()),
                    ));
                }
                (Some(labels), classes)
            }
        };
        let mut order = match &options.rows {
            Some(file) => RowsFile { path: open::beside(path, &file.path), line: file.line.clone() }.read(rows)?,
            None => (0..rows).collect(),
        };
        if options.balance {
            let labels = labels
                .as_ref()
                .ok_or_else(|| Error::data(path, "a class-balanced order needs labels, the data has none"))?;
            order = select::balanced(&order, labels, classes.len(), options.seed);
        }
        order.truncate(options.limit.unwrap_or(usize::MAX));
        if order.is_empty() {
            return Err(Error::data(path, "no rows are left to use"));
        }
        Ok(Self { reader: opened.reader, labels, classes, order })
    }

    /// The file or folder that the rows come from.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.reader.path()
    }

    /// Number of rows in use, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a source is never empty")]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// What every row holds.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.reader {
            Reader::Array(array) => Kind::Array { shape: array.row_shape().to_vec(), element: array.element() },
            Reader::Table(table) => Kind::Array { shape: vec![table.width()], element: ElementType::F32 },
            Reader::Texts(_) => Kind::Text,
            Reader::Files(files) if files.sound => Kind::Audio,
            Reader::Files(_) => Kind::Images,
        }
    }

    /// Class names by label; empty for unlabelled data without a file of names.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Whether the rows have labels.
    #[must_use]
    pub fn is_labelled(&self) -> bool {
        self.labels.is_some()
    }

    /// Labels of the rows in use, in their order.
    ///
    /// # Errors
    /// [`Error::Data`] when there are none.
    pub fn labels(&self) -> Result<Vec<usize>> {
        match &self.labels {
            Some(labels) => Ok(self.order.iter().map(|row| labels[*row]).collect()),
            None => Err(Error::data(
                self.path(),
                "labels are needed and there are none: use one sub-folder a class, y.npy beside x.npy, or name a file or a column of labels",
            )),
        }
    }

    /// Row numbers in the source of the rows in use, in their order.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.order
    }

    /// Reads the row at place `at` of the order of use.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity, [`Error::Malformed`] for a damaged file, [`Error::Io`],
    /// [`Error::Data`] beyond the last row.
    pub fn row(&mut self, at: usize) -> Result<Row> {
        let Some(&index) = self.order.get(at) else {
            return Err(Error::data(self.path(), format!("row {at} asked for, there are {}", self.order.len())));
        };
        let (id, values) = self.reader.row(index)?;
        Ok(Row { index, label: self.labels.as_ref().map(|labels| labels[index]), id, values })
    }

    /// All rows in use, one at a time.
    pub fn rows(&mut self) -> impl Iterator<Item = Result<Row>> + '_ {
        (0..self.order.len()).map(move |at| self.row(at))
    }
}

impl Reader {
    fn rows(&self) -> usize {
        match self {
            Self::Array(array) => array.rows(),
            Self::Table(table) => table.rows(),
            Self::Texts(texts) => texts.rows(),
            Self::Files(files) => files.names.len(),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Array(array) => array.path(),
            Self::Table(table) => table.path(),
            Self::Texts(texts) => texts.path(),
            Self::Files(files) => &files.place,
        }
    }

    fn row(&mut self, index: usize) -> Result<(String, RawRow)> {
        let (shape, values) = match self {
            Self::Files(files) => return files.row(index),
            Self::Texts(texts) => {
                return Ok((format!("{}#{index}", file_name(texts.path())), RawRow::Text(texts.row(index)?)));
            }
            Self::Array(array) => (array.row_shape().to_vec(), array.row(index)?),
            Self::Table(table) => (vec![table.width()], table.row(index)?),
        };
        if let Some((at, value)) = values.non_finite() {
            return Err(Error::NonFinite {
                what: format!("{}, row {index},", self.path().display()),
                value,
                index: at,
            });
        }
        Ok((format!("{}#{index}", file_name(self.path())), RawRow::Array { shape, values }))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Opens a plain file. A pipe or a device is refused before it is opened: opening or reading one may never end.
fn open_plain(path: &Path) -> Result<File> {
    if !std::fs::metadata(path).map_err(Error::io(path))?.is_file() {
        return Err(Error::malformed(path, "not a regular file"));
    }
    File::open(path).map_err(Error::io(path))
}

/// The bytes of a plain file of at most `limit` bytes; `what` names it in errors.
pub(crate) fn read_plain(path: &Path, what: &str, limit: u64) -> Result<Vec<u8>> {
    let mut file = open_plain(path)?;
    let len = file.metadata().map_err(Error::io(path))?.len();
    if len > limit {
        return Err(Error::TooLarge {
            path: path.to_path_buf(),
            what: what.to_owned(),
            needs: format!("{len} bytes"),
            limit: format!("{limit} bytes"),
        });
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
