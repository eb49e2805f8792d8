//! Texts: a `.tsv` file with one column of them and maybe one of labels, or a `.txt` file with one a line. The file is
//! scanned once for the places of its rows (8 bytes a row are kept, and 4 of its label); texts are read when they are asked for.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::labels::{self, Collector, Labels, MAX_CLASSES};
use crate::error::{Error, Result};

/// Longest line in bytes, without its end.
const MAX_LINE_BYTES: usize = 1 << 16;
/// Most rows of a file.
const MAX_ROWS: usize = 1 << 24;
/// Columns that hold the text when there is a header, in this order.
pub(super) const TEXT_COLUMNS: [&str; 5] = ["text", "sentence", "utterance", "review", "query"];

/// An open file of texts.
#[derive(Debug)]
pub(super) struct Texts {
    lines: Lines,
    /// Byte offset of each row; they stand in lines that follow each other.
    places: Vec<u64>,
    /// Line of the first row, from 1.
    first: u64,
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
    /// Scans the file. Every line is a row, empty ones at the end excepted.
    ///
    /// The first line of a `.tsv` file is a header where that is certain: it has the name that `column` gives, or the name of a column
    /// of texts and that of one of labels, or its last cell is a name of texts and stands in its column once. With one of those names
    /// that comes again in its column, it is a row. With one that stands there once and is not the last cell, it may be either: refused.
    ///
    /// The label is `column` (a name, a number from 0, or `none`), else the column that the header calls `label`, `class`,
    /// `class_index`, `target` or `y`; the text is the column that the header calls so, else the last one that is not the label.
    pub fn open(path: &Path, column: Option<&str>) -> Result<(Self, Option<Labels>)> {
        Self::with_limit(path, column, MAX_ROWS)
    }

    fn with_limit(path: &Path, column: Option<&str>, max_rows: usize) -> Result<(Self, Option<Labels>)> {
        let split = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv"));
        let mut lines = Lines {
            path: path.to_path_buf(),
            file: BufReader::new(super::open_plain(path)?),
            line: Vec::new(),
            number: 0,
            at: 0,
        };
        let (columns, is_header) = if split {
            let Some(line) = lines.next()? else { return Err(Error::data(path, "no rows")) };
            let cells: csv::StringRecord = line.text.split('\t').collect();
            let is_header = is_header(&mut lines, &cells, column)?;
            (Columns::of(path, &cells, is_header, column)?, is_header)
        } else {
            (Columns::of_lines(path, column)?, false)
        };
        let first = if is_header { 2 } else { 1 };
        lines.go_to(0, 1)?;
        let (mut places, mut labels, mut empty) = (Vec::new(), Collector::default(), None);
        while let Some(Line { at, number, text }) = lines.next()? {
            if number < first {
                continue;
            }
            if text.trim().is_empty() {
                empty.get_or_insert(number);
                continue;
            }
            if let Some(empty) = empty {
                return Err(Error::malformed(path, format!("line {empty} is empty: every line is a row, take it out")));
            }
            if places.len() == max_rows {
                return Err(Error::TooLarge {
                    path: path.to_path_buf(),
                    what: "a file of texts".into(),
                    needs: format!("more than {max_rows} rows"),
                    limit: format!("{max_rows} rows"),
                });
            }
            let (_, label) =
                columns.pick(text).map_err(|why| Error::malformed(path, format!("line {number} {why}")))?;
            if let Some(label) = label {
                labels.push(label);
            }
            if labels.different() > MAX_CLASSES {
                let why =
                    format!("line {number}: more than {MAX_CLASSES} different labels; is their column the right one?");
                return Err(Error::data(path, why));
            }
            places.push(at);
        }
        if places.is_empty() {
            return Err(Error::data(path, "no rows"));
        }
        let labels = columns.label.map(|_| labels.finish());
        Ok((Self { lines, places, first, columns }, labels))
    }

    pub fn path(&self) -> &Path {
        &self.lines.path
    }

    pub fn rows(&self) -> usize {
        self.places.len()
    }

    pub fn row(&mut self, index: usize) -> Result<String> {
        let number = self.first + index as u64;
        self.lines.go_to(self.places[index], number)?;
        let line = self.lines.next()?.and_then(|line| Some(self.columns.pick(line.text).ok()?.0.to_owned()));
        line.ok_or_else(|| Error::malformed(self.path(), format!("line {number} changed while it was in use")))
    }
}

/// Whether the first line of a `.tsv` file, which was just read, names columns.
fn is_header(lines: &mut Lines, cells: &csv::StringRecord, column: Option<&str>) -> Result<bool> {
    let number: Option<usize> = column.and_then(|column| column.parse().ok());
    let name = column.filter(|column| number.is_none() && *column != "none");
    if name.is_some_and(|name| labels::find(cells, &[name]).is_some()) {
        return Ok(true);
    }
    let (text, label) = (labels::find(cells, &TEXT_COLUMNS), labels::find(cells, &labels::LABEL_COLUMNS));
    let at = match (text, label) {
        (Some(_), Some(_)) => return Ok(true),
        (None, None) => return Ok(false),
        (Some(at), None) | (None, Some(at)) => at,
    };
    // A class or a text may be called like a column; the name of a column does not come again below.
    let cell = cells[at].trim();
    while let Some(line) = lines.next()? {
        if line.text.split('\t').nth(at).is_some_and(|other| other.trim() == cell) {
            return Ok(false);
        }
    }
    // The columns are the same with and without that line, only the row is not.
    if text == Some(cells.len() - 1) && number != text {
        return Ok(true);
    }
    Err(Error::data(
        &lines.path,
        format!(
            "line 1 may be names of columns or a row ('{cell}' is the name of one): where it is names, call the columns `label` and `text` or name the label's (--label-column), \
             where it is a row, put a line with such names in front"
        ),
    ))
}

impl Columns {
    /// Of a `.tsv` file with this first line.
    fn of(path: &Path, cells: &csv::StringRecord, is_header: bool, column: Option<&str>) -> Result<Self> {
        let header = is_header.then_some(cells);
        let label = match column {
            Some("none") => None,
            _ => labels::label_column(path, header, cells.len(), column)?,
        };
        let named = header.and_then(|header| labels::find(header, &TEXT_COLUMNS));
        let text = named.or_else(|| (0..cells.len()).rev().find(|at| Some(*at) != label));
        let text = text.filter(|text| Some(*text) != label);
        let text = text.ok_or_else(|| Error::data(path, "its only column would be the label: no texts are left"))?;
        Ok(Self { split: true, count: cells.len(), text, label })
    }

    /// Of a `.txt` file.
    fn of_lines(path: &Path, column: Option<&str>) -> Result<Self> {
        match column.filter(|column| *column != "none") {
            None => Ok(Self { split: false, count: 1, text: 0, label: None }),
            Some(column) => Err(Error::data(
                path,
                format!(
                    "there is no column '{column}': the lines of a .txt file are texts as they stand (a .tsv file has columns)"
                ),
            )),
        }
    }

    /// The text and the label of a line, or what is wrong with the line.
    fn pick<'l>(&self, line: &'l str) -> std::result::Result<(&'l str, Option<&'l str>), String> {
        if !self.split {
            return Ok((line, None));
        }
        let (mut count, mut text, mut label) = (0, "", None);
        for (at, cell) in line.split('\t').enumerate() {
            count = at + 1;
            if at == self.text {
                text = cell;
            }
            if Some(at) == self.label {
                label = Some(cell.trim());
            }
        }
        if count != self.count {
            return Err(format!("has {count} columns, the first one {}", self.count));
        }
        match (text.trim(), label) {
            ("", _) => Err(format!("has no text (column {}, counted from 0)", self.text)),
            (_, Some("")) => Err(format!("has no label (column {}, counted from 0)", self.label.unwrap_or_default())),
            _ => Ok((text, label)),
        }
    }
}

/// A file by lines; one line is in memory at a time.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
    /// Number from 1 of the line before the next one.
    number: u64,
    /// Byte offset of the next one.
    at: u64,
}

/// A line without its end (and without a byte order mark).
struct Line<'l> {
    /// Byte offset.
    at: u64,
    /// From 1.
    number: u64,
    text: &'l str,
}

impl Lines {
    fn go_to(&mut self, at: u64, number: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(at)).map_err(Error::io(&self.path))?;
        (self.at, self.number) = (at, number - 1);
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Line<'_>>> {
        self.line.clear();
        // Room for the longest line and its end.
        let mut rest = self.file.by_ref().take(MAX_LINE_BYTES as u64 + 2);
        let bytes = rest.read_until(b'\n', &mut self.line).map_err(Error::io(&self.path))?;
        if bytes == 0 {
            return Ok(None);
        }
        let (at, number) = (self.at, self.number + 1);
        (self.at, self.number) = (at + bytes as u64, number);
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_LINE_BYTES {
            return Err(Error::malformed(&self.path, format!("line {number} is longer than {MAX_LINE_BYTES} bytes")));
        }
        let text = std::str::from_utf8(line);
        let text = text.map_err(|_| Error::malformed(&self.path, format!("line {number} is not UTF-8")))?;
        let text = if number == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        Ok(Some(Line { at, number, text }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open_at_most(
        max_rows: usize,
        name: &str,
        text: &[u8],
        column: Option<&str>,
    ) -> Result<(Vec<String>, Option<Labels>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let (mut texts, labels) = Texts::with_limit(&path, column, max_rows)?;
        // Backwards: rows are found by their place.
        let mut rows: Vec<String> = (0..texts.rows()).rev().map(|row| texts.row(row)).collect::<Result<_>>()?;
        rows.reverse();
        Ok((rows, labels))
    }

    fn open(name: &str, text: &[u8], column: Option<&str>) -> Result<(Vec<String>, Option<Labels>)> {
        open_at_most(MAX_ROWS, name, text, column)
    }

    fn error(name: &str, text: &[u8], column: Option<&str>) -> String {
        open(name, text, column).unwrap_err().to_string()
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn names(names: &[&str]) -> Option<Labels> {
        Some(labels::from_texts(names))
    }

    #[test]
    fn texts_and_labels_are_found_by_the_header() {
        let (rows, labels) =
            open("a.tsv", b"row\tlabel\tdomain\ttext\n0\t1\t2\tso \"it\" is\n1\t0\t2\t\xc3\xa4,b\n", None).unwrap();
        assert_eq!((rows, labels), (owned(&["so \"it\" is", "ä,b"]), Some(Labels::Numbers(vec![1, 0]))));
        let (rows, labels) =
            open("a.TSV", "\u{feff}sentence\tclass\r\nja\tgut\r\nnein\tschlecht\r\n".as_bytes(), None).unwrap();
        assert_eq!((rows, labels), (owned(&["ja", "nein"]), names(&["gut", "schlecht"])));
        let (rows, labels) = open("a.tsv", b"label\ttext\n1\tx\n", Some("none")).unwrap();
        assert_eq!((rows, labels), (owned(&["x"]), None));
        // Where the label's column is named, that name is the header's.
        let (rows, labels) = open("a.tsv", b"mood\twords\nhigh\tx\n", Some("Mood")).unwrap();
        assert_eq!((rows, labels), (owned(&["x"]), names(&["high"])));
        let (rows, labels) = open("a.tsv", b"label\twords\n1\tx\n", Some("label")).unwrap();
        assert_eq!((rows, labels), (owned(&["x"]), Some(Labels::Numbers(vec![1]))));
        // The name of the last column alone is enough, as the columns are the same without it.
        assert_eq!(open("a.tsv", b"index\tsentence\n0\tx\n1\ty\n", None).unwrap(), (owned(&["x", "y"]), None));
        assert_eq!(open("a.tsv", b"mood\ttext\nlow\tx\n", Some("0")).unwrap(), (owned(&["x"]), names(&["low"])));
    }

    #[test]
    fn without_a_header_the_label_is_asked_for() {
        assert_eq!(open("a.tsv", b"1\tx\n0\ty", None).unwrap(), (owned(&["x", "y"]), None));
        let numbers = |numbers: &[i64]| Some(Labels::Numbers(numbers.to_vec()));
        assert_eq!(open("a.tsv", b"1\tx\n0\ty", Some("0")).unwrap(), (owned(&["x", "y"]), numbers(&[1, 0])));
        assert_eq!(open("a.tsv", b"x\t1\ny\t0", Some("1")).unwrap(), (owned(&["x", "y"]), numbers(&[1, 0])));
        assert_eq!(open("a.txt", b"x\ty\nz", None).unwrap(), (owned(&["x\ty", "z"]), None));
    }

    #[test]
    fn a_first_row_that_has_the_name_of_a_column_is_not_lost() {
        for class in ["y", "class", "target", "query", "text"] {
            let both = format!("{class}\tso it is\nn\tno\n{class}\tyes\n");
            let expected = owned(&["so it is", "no", "yes"]);
            let labels = names(&[class, "n", class]);
            assert_eq!(open("a.tsv", both.as_bytes(), Some("0")).unwrap(), (expected.clone(), labels.clone()));
            assert_eq!(open("a.tsv", both.as_bytes(), None).unwrap(), (expected, None));
            let behind = format!("so it is\t{class}\nyes\t{class}\n");
            let expected = (owned(&["so it is", "yes"]), names(&[class, class]));
            assert_eq!(open("a.tsv", behind.as_bytes(), Some("1")).unwrap(), expected);
            // Once: it may be either.
            for (text, column) in
                [(format!("{class}\tso it is\nn\tno\n"), "0"), (format!("yes\t{class}\nno\tn\n"), "1")]
            {
                let why = error("a.tsv", text.as_bytes(), Some(column));
                assert!(why.contains(&format!("may be names of columns or a row ('{class}'")), "{why}");
            }
        }
        assert_eq!(open("a.tsv", b"text\nb\ntext\n", None).unwrap(), (owned(&["text", "b", "text"]), None));
    }

    #[test]
    fn empty_lines_are_no_rows() {
        for name in ["a.tsv", "a.txt"] {
            assert_eq!(open(name, b"x\ny\n\n \t\r\n\n", None).unwrap(), (owned(&["x", "y"]), None));
            assert!(error(name, b"x\n\n \ny\n", None).contains("line 2 is empty"));
            assert!(error(name, b"\nx\n", None).contains("line 1 is empty"));
            assert!(error(name, b"\n\n\n", None).contains("no rows"));
        }
        let why = error("a.tsv", b"label\ttext\n1\tx\n0\t \n1\ty\n", None);
        assert!(why.contains("line 3 has no text (column 1"), "{why}");
        let why = error("a.tsv", b"label\ttext\n1\tx\n \tz\n", None);
        assert!(why.contains("line 3 has no label (column 0"), "{why}");
        assert_eq!(open("a.tsv", b"label\ttext\n \tz\n", Some("none")).unwrap(), (owned(&["z"]), None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(error("a.tsv", b"", None).contains("no rows"));
        assert!(error("a.tsv", b"label\ttext\n", None).contains("no rows"));
        assert!(error("a.tsv", b"label\ttext\n1\n", None).contains("line 2 has 1 columns, the first one 2"));
        assert!(error("a.tsv", b"label\n1\n", Some("label")).contains("no texts are left"));
        assert!(error("a.tsv", b"label\ttext\n1\tx\n", Some("mood")).contains("label, text"));
        assert!(error("a.tsv", b"text\tlabel\n\xff\t1\n", None).contains("line 2 is not UTF-8"));
        assert!(error("a.txt", b"x\n", Some("0")).contains("a .tsv file has columns"));
    }

    #[test]
    fn lines_and_rows_have_a_limit() {
        let longest = "x".repeat(MAX_LINE_BYTES);
        for end in ["", "\n", "\r\n"] {
            let (rows, _) = open("a.txt", format!("a\n{longest}{end}").as_bytes(), None).unwrap();
            assert_eq!(rows[1].len(), 1 << 16);
            let why = error("a.txt", format!("a\nx{longest}{end}").as_bytes(), None);
            assert!(why.contains("line 2 is longer than 65536 bytes"), "{why}");
        }
        assert!(error("a.txt", format!("{longest}\rx\n").as_bytes(), None).contains("line 1 is longer"));
        assert_eq!(open_at_most(2, "a.tsv", b"label\ttext\n1\tx\n1\ty\n\n", None).unwrap().0.len(), 2);
        let why = open_at_most(2, "a.tsv", b"label\ttext\n1\tx\n1\ty\n0\tz\n", None).unwrap_err();
        assert_eq!(why.code(), "too-large");
        assert!(why.to_string().contains("more than 2 rows"), "{why}");
        let many: String = (0..=MAX_CLASSES).map(|row| format!("c{row}\tx\n")).collect();
        assert!(error("a.tsv", many.as_bytes(), Some("0")).contains("line 65537: more than 65536 different labels"));
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
                prop_assert!(rows.iter().all(|row| !row.trim().is_empty()));
            }
        }
    }
}
