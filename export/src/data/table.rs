//! A csv file of numbers: one row a line, one column may hold the label. The file is scanned once for the places of
//! its rows (8 bytes a row are kept); rows are parsed when they are read.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::labels::{self, Labels};
use super::text::TEXT_COLUMNS;
use super::values::Values;
use crate::error::{Error, Result};

/// An open csv file.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    reader: csv::Reader<BufReader<File>>,
    /// Byte offset and line of each row.
    places: Vec<(u64, u64)>,
    columns: usize,
    label: Option<usize>,
    /// Whether the header names a column of texts.
    has_texts: bool,
}

impl Table {
    /// Scans the file. The label is `column` (a name, a number from 0, or `none`), else the column that the header
    /// calls `label`, `class`, `class_index`, `target` or `y`, else the last one.
    pub fn open(path: &Path, column: Option<&str>) -> Result<(Self, Option<Labels>)> {
        let file = super::open_plain(path)?;
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(false).from_reader(BufReader::new(file));
        let mut record = csv::StringRecord::new();
        let mut places = Vec::new();
        let mut texts = labels::Collector::default();
        let mut shape: Option<(usize, Option<usize>)> = None;
        let mut has_texts = false;
        while reader.read_record(&mut record).map_err(|e| bad(path, &e))? {
            let (columns, label) = match shape {
                Some(known) => known,
                None => {
                    let header = is_header(&record).then_some(&record);
                    has_texts = header.is_some_and(|header| labels::find(header, &TEXT_COLUMNS).is_some());
                    let label = match column {
                        Some("none") => None,
                        _ => {
                            Some(labels::label_column(path, header, record.len(), column)?.unwrap_or(record.len() - 1))
                        }
                    };
                    shape = Some((record.len(), label));
                    if header.is_some() {
                        continue;
                    }
                    (record.len(), label)
                }
            };
            if columns == usize::from(label.is_some()) {
                return Err(Error::data(path, "one column only, which would be the label: no numbers are left"));
            }
            if let Some(label) = label {
                texts.push(record.get(label).unwrap_or_default().trim());
            }
            places.push(record.position().map_or((0, 0), |p| (p.byte(), p.line())));
        }
        let Some((columns, label)) = shape.filter(|_| !places.is_empty()) else {
            return Err(Error::data(path, "no rows"));
        };
        let labels = label.map(|_| texts.finish());
        Ok((Self { path: path.to_path_buf(), reader, places, columns, label, has_texts }, labels))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn rows(&self) -> usize {
        self.places.len()
    }

    pub fn width(&self) -> usize {
        self.columns - usize::from(self.label.is_some())
    }

    pub fn row(&mut self, index: usize) -> Result<Values> {
        let (byte, line) = self.places[index];
        let mut position = csv::Position::new();
        position.set_byte(byte).set_line(line);
        self.reader.seek(position).map_err(|e| bad(&self.path, &e))?;
        let mut record = csv::StringRecord::new();
        self.reader.read_record(&mut record).map_err(|e| bad(&self.path, &e))?;
        let cells = record.iter().enumerate().filter(|(column, _)| Some(*column) != self.label);
        let values: Vec<f32> = cells
            .map(|(column, cell)| {
                cell.trim().parse().map_err(|_| {
                    let is_text = self.has_texts || cell.trim().contains(char::is_whitespace);
                    let hint = if is_text { " (texts are read from .tsv and .txt files)" } else { "" };
                    let cell = cell.escape_debug();
                    Error::malformed(
                        &self.path,
                        format!("line {line}, column {column}: '{cell}' is not a number{hint}"),
                    )
                })
            })
            .collect::<Result<_>>()?;
        if values.len() != self.width() {
            return Err(Error::malformed(&self.path, format!("line {line} changed while it was in use")));
        }
        Ok(Values::F32(values))
    }
}

/// Column names, when a cell other than the last (which may be a label's name) is no number.
fn is_header(record: &csv::StringRecord) -> bool {
    let numbers = record.len().max(2) - 1;
    record.iter().take(numbers).any(|cell| cell.trim().parse::<f32>().is_err())
}

fn bad(path: &Path, error: &csv::Error) -> Error {
    Error::malformed(path, error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(text: &[u8], column: Option<&str>) -> Result<(Table, Option<Labels>)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Table::open(file.path(), column)
    }

    #[test]
    fn headers_and_label_columns_are_found() {
        let (mut table, labels) = open(b"a,label,b\n1,x,2\n3,y,4.5\n", None).unwrap();
        assert_eq!(labels, Some(labels::from_texts(["x", "y"])));
        assert_eq!(table.row(1).unwrap(), Values::F32(vec![3.0, 4.5]));
        assert_eq!(table.row(0).unwrap(), Values::F32(vec![1.0, 2.0]));
        let (mut table, labels) = open(b"1,2,7\n3,4,8\n", None).unwrap();
        assert_eq!(labels, Some(Labels::Numbers(vec![7, 8])));
        assert_eq!((table.rows(), table.row(0).unwrap()), (2, Values::F32(vec![1.0, 2.0])));
        let (mut table, labels) = open(b"1,2,7\n", Some("none")).unwrap();
        assert_eq!((labels, table.row(0).unwrap()), (None, Values::F32(vec![1.0, 2.0, 7.0])));
        assert_eq!(open(b"5,2,7\n", Some("0")).unwrap().1, Some(Labels::Numbers(vec![5])));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &[u8]| match open(text, None) {
            Ok((mut table, _)) => table.row(0).unwrap_err().to_string(),
            Err(e) => e.to_string(),
        };
        assert!(error(b"").contains("no rows"));
        assert!(error(b"a,b,label\n").contains("no rows"));
        assert!(error(b"1,2\n3\n").contains("record 1"));
        assert!(error(b"a,b,label\n1,zwei,0\n").ends_with("line 2, column 1: 'zwei' is not a number"));
        assert!(error(b"text,label\nzwei,0\n").contains("'zwei' is not a number (texts are read from .tsv"));
        assert!(error(b"a,label\n\"zwei, drei\",0\n").contains("is not a number (texts are read from .tsv"));
        assert!(error(b"1\n2\n").contains("one column only"));
        assert!(open(b"a,label\n1,2\n", Some("c")).unwrap_err().to_string().contains("a, label"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn any_bytes_give_rows_or_an_error(bytes in proptest::collection::vec(prop_oneof![Just(b','), Just(b'\n'), Just(b'"'), b'0'..=b'9', any::<u8>()], 0..80)) {
            if let Ok((mut table, _)) = open(&bytes, None) {
                for row in 0..table.rows() {
                    if let Ok(values) = table.row(row) {
                        prop_assert_eq!(values.len(), table.width());
                    }
                }
            }
        }
    }
}
