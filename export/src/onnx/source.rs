//! Streams a file into prost, so that a model is in memory once and not twice.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use prost::Message as _;
use prost::bytes::Buf;
use tract_onnx::pb;

use crate::{Error, Result};

const CHUNK_BYTES: usize = 256 << 10;

/// Decodes a file that [`super::scan`] has passed; `len` is the length it was scanned with.
pub(super) fn decode(path: &Path, mut file: File, len: u64) -> Result<pb::ModelProto> {
    file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
    let remaining = usize::try_from(len).map_err(|_| Error::malformed(path, "too long for this machine"))?;
    let mut source = Source { file, buffer: vec![0; CHUNK_BYTES], start: 0, end: 0, remaining, error: None };
    source.refill();
    let model = pb::ModelProto::decode(&mut source);
    if let Some(error) = source.error {
        return Err(Error::io(path)(error));
    }
    model.map_err(|e| Error::malformed(path, format!("not an ONNX model: {e}")))
}

/// A file as a [`Buf`]. That trait has no way to report a failed read: zeros are given instead, which no protobuf
/// message continues with, and the error is kept for [`decode`].
struct Source {
    file: File,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    remaining: usize,
    error: Option<std::io::Error>,
}

impl Source {
    fn refill(&mut self) {
        self.start = 0;
        self.end = self.remaining.min(self.buffer.len());
        if self.error.is_none() {
            self.error = self.file.read_exact(&mut self.buffer[..self.end]).err();
        }
        if self.error.is_some() {
            self.buffer.fill(0);
        }
    }
}

impl Buf for Source {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn advance(&mut self, count: usize) {
        let mut count = count.min(self.remaining);
        while count > 0 {
            let step = count.min(self.end - self.start);
            self.start += step;
            self.remaining -= step;
            count -= step;
            if self.start == self.end {
                self.refill();
            }
        }
    }
}
