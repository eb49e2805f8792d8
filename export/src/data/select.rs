//! Which rows are used, and in which order.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::npy::ArrayFile;
use crate::error::{Error, Result};

/// Row numbers in a file: `FILE.npy`, or `FILE.npy#i` for line `i` of a table of them (`#i,j` for one more axis).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsFile {
    /// A `.npy` file of whole numbers.
    pub path: PathBuf,
    /// Index on each axis but the last.
    pub line: Vec<usize>,
}

impl FromStr for RowsFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((path, line)) = text.rsplit_once('#') else {
            return Ok(Self { path: text.into(), line: Vec::new() });
        };
        let line = line.split(',').map(|i| i.trim().parse()).collect::<Result<_, _>>().map_err(|_| Error::Setting {
            name: "--rows".into(),
            why: format!("'{text}': FILE.npy#LINE is expected, LINE a number from 0"),
        })?;
        Ok(Self { path: path.into(), line })
    }
}

impl RowsFile {
    /// Reads the row numbers and checks them against the `rows` that there are.
    ///
    /// # Errors
    /// [`Error::Data`] when a number is out of range or the line is not there; what [`ArrayFile::open`] says.
    pub fn read(&self, rows: usize) -> Result<Vec<usize>> {
        let mut array = ArrayFile::open(&self.path)?;
        let shape = array.shape().to_vec();
        let (lines, width) = (&shape[..shape.len().saturating_sub(1)], shape.last().copied().unwrap_or(1));
        let in_range = lines.iter().zip(&self.line).all(|(n, i)| i < n);
        if lines.len() != self.line.len() || !in_range {
            let want = match lines {
                [] => "it holds one list of rows, so no '#' is expected".into(),
                [n] => format!("it holds {n} lists of {width} rows, so '#0' to '#{}' are expected", n - 1),
                _ => format!(
                    "its shape is {shape:?}, so '#' with {} numbers separated by commas is expected",
                    lines.len()
                ),
            };
            return Err(Error::data(&self.path, want));
        }
        let first = lines.iter().zip(&self.line).fold(0, |at, (n, i)| at * n + i) * width;
        let numbers = array.all()?.to_i64().ok_or_else(|| {
            Error::data(&self.path, format!("row numbers must be whole numbers, it holds {}", array.element()))
        })?;
        numbers[first..first + width]
            .iter()
            .map(|n| match usize::try_from(*n) {
                Ok(row) if row < rows => Ok(row),
                _ => Err(Error::data(&self.path, format!("row {n} is out of range, the data has {rows} rows"))),
            })
            .collect()
    }
}

/// Round robin over the classes, each class in a seeded order, so that any beginning of the result is balanced.
pub(super) fn balanced(rows: &[usize], labels: &[usize], classes: usize, seed: u64) -> Vec<usize> {
    let mut by_class = vec![Vec::new(); classes];
    for row in rows {
        by_class[labels[*row]].push(*row);
    }
    let mut state = seed;
    for class in &mut by_class {
        for left in (1..class.len()).rev() {
            class.swap(left, (split_mix(&mut state) % (left as u64 + 1)) as usize);
        }
    }
    let longest = by_class.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|turn| by_class.iter().filter_map(move |class| class.get(turn).copied())).collect()
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Splits `FILE#NAME` where a file of that whole name does not exist.
pub(super) fn with_fragment(path: &Path) -> (PathBuf, Option<String>) {
    match path.to_str().and_then(|text| text.rsplit_once('#')) {
        Some((file, fragment)) if !path.exists() => (file.into(), Some(fragment.to_owned())),
        _ => (path.to_path_buf(), None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::npy;

    #[test]
    fn lines_of_a_table_of_rows_are_picked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.npy");
        npy::write(&path, &[2, 3], &[4_i32, 5, 6, 7, 8, 9]).unwrap();
        let read = |text: &str, rows| format!("{}{text}", path.display()).parse::<RowsFile>().unwrap().read(rows);
        assert_eq!(read("#1", 10).unwrap(), [7, 8, 9]);
        assert!(read("#1", 9).unwrap_err().to_string().contains("row 9 is out of range, the data has 9 rows"));
        assert!(read("#2", 10).unwrap_err().to_string().contains("'#0' to '#1'"));
        assert!(read("", 10).unwrap_err().to_string().contains("2 lists of 3 rows"));
        npy::write(&path, &[2], &[-1_i32, 0]).unwrap();
        assert!(read("", 10).unwrap_err().to_string().contains("row -1"));
        npy::write(&path, &[2, 1, 2], &[0_i32, 1, 2, 3]).unwrap();
        assert_eq!(read("#1,0", 10).unwrap(), [2, 3]);
        assert!("k.npy#x".parse::<RowsFile>().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

        #[test]
        fn every_beginning_is_balanced_and_nothing_is_lost(labels in proptest::collection::vec(0..4_usize, 1..60), seed: u64) {
            let rows: Vec<usize> = (0..labels.len()).collect();
            let order = balanced(&rows, &labels, 4, seed);
            prop_assert_eq!(&order, &balanced(&rows, &labels, 4, seed));
            let count = |rows: &[usize], class| rows.iter().filter(|r| labels[**r] == class).count();
            for n in 0..order.len() {
                let most = (0..4).map(|c| count(&order[..n], c)).max().unwrap();
                for class in 0..4 {
                    // A class is behind only when it has no more rows.
                    prop_assert!(count(&order[..n], class) + 1 >= most.min(count(&rows, class) + 1));
                }
            }
            let mut sorted = order;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, rows);
        }
    }
}
