//! Texts: a `.tsv` file with one column of them and maybe one of labels, or a `.txt` file with one a line. The file is
//! scanned once for the places of its rows (16 bytes a row are kept); texts are read when they are asked for.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::labels::{self, Labels};
use crate::error::{Error, Result};

/// Longest line in bytes.
const MAX_LINE_BYTES: u64 = 1 << 16;
/// Columns that hold the text when there is a header, in this order.
const TEXT_COLUMNS: [&str; 5] = ["text", "sentence", "utterance", "review", "query"];

/// An open file of texts.
#[derive(Debug)]
pub(super) struct Texts {
    path: PathBuf,
    file: BufReader<File>,
    /// Byte offset and line of each row.
    places: Vec<(u64, u64)>,
    columns: Columns,
}

/// What the columns of a line are.
#[derive(Debug, Clone, Copy)]
struct Columns {
    /// Whether tabs separate columns at all.
    split: bool,
    count: usize,
    text: usize,
    label: Option<usize>,
}

impl Texts {
    /// Scans the file. In a `.tsv` file the first line is a header where one of its cells is called as texts or labels are.
    /// The label is `column` (a name, a number from 0, or `none`), else the column that the header calls `label`, `class`,
    /// `class_index`, `target` or `y`; the text is the column that the header calls so, else the last one that is not the label.
    pub fn open(path: &Path, column: Option<&str>) -> Result<(Self, Option<Labels>)> {
        let split = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv"));
        let mut file = BufReader::new(super::open_plain(path)?);
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        let mut columns: Option<Columns> = None;
        let (mut at, mut number) = (0, 0);
        while let Some((line, bytes)) = next_line(&mut file, path, number + 1)? {
            let place = (at, number + 1);
            (at, number) = (at + bytes, number + 1);
            let known = match columns {
                Some(known) => known,
                None => {
                    let (known, is_header) = Columns::of(path, &line, split, column)?;
                    columns = Some(known);
                    if is_header {
                        continue;
                    }
                    known
                }
            };
            let cells = known.cells(&line);
            if cells.len() != known.count {
                let why = format!("line {number} has {} columns, the first one {}", cells.len(), known.count);
                return Err(Error::malformed(path, why));
            }
            if let Some(label) = known.label {
                texts.push(cells[label].trim().to_owned());
            }
            places.push(place);
        }
        let Some(columns) = columns.filter(|_| !places.is_empty()) else {
            return Err(Error::data(path, "no rows"));
        };
        let labels = columns.label.map(|_| labels::from_texts(texts));
        Ok((Self { path: path.to_path_buf(), file, places, columns }, labels))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn rows(&self) -> usize {
        self.places.len()
    }

    pub fn row(&mut self, index: usize) -> Result<String> {
        let (byte, number) = self.places[index];
        self.file.seek(SeekFrom::Start(byte)).map_err(Error::io(&self.path))?;
        let line = next_line(&mut self.file, &self.path, number)?.map(|(line, _)| line).unwrap_or_default();
        match self.columns.cells(&line)[..] {
            ref cells if cells.len() == self.columns.count => Ok(cells[self.columns.text].to_owned()),
            _ => Err(Error::malformed(&self.path, format!("line {number} changed while it was in use"))),
        }
    }
}

impl Columns {
    /// From the first line, and whether that is a header.
    fn of(path: &Path, line: &str, split: bool, column: Option<&str>) -> Result<(Self, bool)> {
        if !split {
            if let Some(column) = column.filter(|column| *column != "none") {
                return Err(Error::data(
                    path,
                    format!(
                        "there is no column '{column}': the lines of a .txt file are texts as they stand (a .tsv file has columns)"
                    ),
                ));
            }
            return Ok((Self { split, count: 1, text: 0, label: None }, false));
        }
        let cells: csv::StringRecord = line.split('\t').collect();
        let is_header = labels::find(&cells, &TEXT_COLUMNS).or(labels::find(&cells, &labels::LABEL_COLUMNS)).is_some();
        let header = is_header.then_some(&cells);
        let label = match column {
            Some("none") => None,
            _ => labels::label_column(path, header, cells.len(), column)?,
        };
        let named = header.and_then(|header| labels::find(header, &TEXT_COLUMNS));
        let text = named.or_else(|| (0..cells.len()).rev().find(|at| Some(*at) != label));
        let text = text.filter(|text| Some(*text) != label);
        let text = text.ok_or_else(|| Error::data(path, "its only column would be the label: no texts are left"))?;
        Ok((Self { split, count: cells.len(), text, label }, is_header))
    }

    fn cells<'l>(&self, line: &'l str) -> Vec<&'l str> {
        if self.split { line.split('\t').collect() } else { vec![line] }
    }
}

/// The next line without its end (and without a byte order mark), and how many bytes it takes in the file.
fn next_line(file: &mut BufReader<File>, path: &Path, number: u64) -> Result<Option<(String, u64)>> {
    let mut line = Vec::new();
    let bytes = file.take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(Error::io(path))? as u64;
    if bytes == 0 {
        return Ok(None);
    }
    if bytes == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        return Err(Error::malformed(path, format!("line {number} is longer than {MAX_LINE_BYTES} bytes")));
    }
    let line = String::from_utf8(line).map_err(|_| Error::malformed(path, format!("line {number} is not UTF-8")))?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let line = if number == 1 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
    Ok(Some((line.to_owned(), bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(name: &str, text: &[u8], column: Option<&str>) -> Result<(Vec<String>, Option<Labels>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let (mut texts, labels) = Texts::open(&path, column)?;
        // Backwards: rows are found by their place.
        let mut rows: Vec<String> = (0..texts.rows()).rev().map(|row| texts.row(row)).collect::<Result<_>>()?;
        rows.reverse();
        Ok((rows, labels))
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn texts_and_labels_are_found_by_the_header() {
        let (rows, labels) =
            open("a.tsv", b"row\tlabel\tdomain\ttext\n0\t1\t2\tso \"it\" is\n1\t0\t2\t\xc3\xa4,b\n", None).unwrap();
        assert_eq!((rows, labels), (owned(&["so \"it\" is", "ä,b"]), Some(Labels::Numbers(vec![1, 0]))));
        let (rows, labels) =
            open("a.TSV", "\u{feff}sentence\tclass\r\nja\tgut\r\nnein\tschlecht\r\n".as_bytes(), None).unwrap();
        assert_eq!((rows, labels), (owned(&["ja", "nein"]), Some(Labels::Names(owned(&["gut", "schlecht"])))));
        let (rows, labels) = open("a.tsv", b"label\ttext\n1\tx\n", Some("none")).unwrap();
        assert_eq!((rows, labels), (owned(&["x"]), None));
    }

    #[test]
    fn without_a_header_the_label_is_asked_for() {
        assert_eq!(open("a.tsv", b"1\tx\n0\ty", None).unwrap(), (owned(&["x", "y"]), None));
        let numbers = |numbers: &[i64]| Some(Labels::Numbers(numbers.to_vec()));
        assert_eq!(open("a.tsv", b"1\tx\n0\ty", Some("0")).unwrap(), (owned(&["x", "y"]), numbers(&[1, 0])));
        assert_eq!(open("a.tsv", b"x\t1\ny\t0", Some("1")).unwrap(), (owned(&["x", "y"]), numbers(&[1, 0])));
        assert_eq!(open("a.txt", b"x\ty\n\nz", None).unwrap(), (owned(&["x\ty", "", "z"]), None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |name: &str, text: &[u8], column: Option<&str>| open(name, text, column).unwrap_err().to_string();
        assert!(error("a.tsv", b"", None).contains("no rows"));
        assert!(error("a.tsv", b"label\ttext\n", None).contains("no rows"));
        assert!(error("a.tsv", b"label\ttext\n1\n", None).contains("line 2 has 1 columns, the first one 2"));
        assert!(error("a.tsv", b"label\n1\n", None).contains("no texts are left"));
        assert!(error("a.tsv", b"label\ttext\n1\tx\n", Some("mood")).contains("label, text"));
        assert!(error("a.tsv", b"text\tlabel\n\xff\t1\n", None).contains("line 2 is not UTF-8"));
        assert!(error("a.txt", b"x\n", Some("0")).contains("a .tsv file has columns"));
        assert!(error("a.txt", &[b'x'; 1 << 16], None).contains("line 1 is longer than 65536 bytes"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn any_bytes_give_texts_or_an_error(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\t'), Just(b'\n'), Just(b'\r'), b'a'..=b'z', any::<u8>()], 0..80),
            tsv in any::<bool>(),
        ) {
            if let Ok((rows, _)) = open(if tsv { "a.tsv" } else { "a.txt" }, &bytes, None) {
                prop_assert!(!rows.is_empty());
            }
        }
    }
}
