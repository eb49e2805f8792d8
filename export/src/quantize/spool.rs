//! Tensors of all calibration rows on disk, so that memory does not grow with their number.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Mutex;

use crate::{Error, Result};

/// Fixed-size records in an unnamed temporary file, which the system removes when it is closed.
#[derive(Debug)]
pub(super) struct Spool {
    file: Mutex<File>,
    record_bytes: usize,
    folder: std::path::PathBuf,
}

impl Spool {
    pub fn new(folder: &Path, record_bytes: usize) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io(folder))?;
        Ok(Self { file: Mutex::new(file), record_bytes, folder: folder.to_path_buf() })
    }

    fn at<T>(&self, index: usize, access: impl FnOnce(&mut File) -> std::io::Result<T>) -> Result<T> {
        // A poisoned lock only means that another row failed; its error is the one that is reported.
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let offset = index as u64 * self.record_bytes as u64;
        file.seek(SeekFrom::Start(offset)).and_then(|_| access(&mut file)).map_err(Error::io(&self.folder))
    }

    pub fn write(&self, index: usize, record: &[u8]) -> Result<()> {
        debug_assert_eq!(record.len(), self.record_bytes);
        self.at(index, |file| file.write_all(record))
    }

    pub fn read(&self, index: usize) -> Result<Vec<u8>> {
        let mut record = vec![0; self.record_bytes];
        self.at(index, |file| file.read_exact(&mut record))?;
        Ok(record)
    }

    pub fn write_f32(&self, index: usize, values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.write(index, &bytes)
    }

    pub fn read_f32(&self, index: usize) -> Result<Vec<f32>> {
        let bytes = self.read(index)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}
