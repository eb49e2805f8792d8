//! The file that a loader writes beside the firmware; `firmware-host/firmware/src/job.rs` reads and specifies it.

use std::path::Path;

use hone_runtime::plan::Plan;

use super::reference;
use super::synthetic::Random;
use crate::step::{Result, at};

/// A plan and the bytes of its input tensor.
#[derive(Debug, Clone)]
pub struct Case {
    /// For tables.
    pub name: String,
    /// The file.
    pub plan: Vec<u8>,
    /// As many bytes as the input tensor has.
    pub input: Vec<u8>,
}

impl Case {
    /// A plan of a file, with a seeded input.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(at(path))?;
        Self::new(&path.file_stem().unwrap_or_default().to_string_lossy(), bytes)
    }

    /// A plan, with a seeded input.
    pub fn new(name: &str, plan: Vec<u8>) -> Result<Self> {
        let input = Plan::parse(&plan).map_err(|e| format!("{name}: {e}"))?.input();
        let input = Random::new(1).bytes(input.bytes());
        Ok(Self { name: name.into(), plan, input })
    }

    /// The checksum of every operator's result, as the specification has it.
    pub fn checksums(&self) -> Result<Vec<u32>> {
        Ok(reference::results(self)?.0)
    }
}

/// Bytes of a job with these cases, each with `head`; `compare` also runs the portable kernels.
pub fn bytes(cases: &[Case], head: &[u8], compare: bool) -> Vec<u8> {
    let first = 16 + 32 * cases.len();
    let (mut table, mut data) = (Vec::new(), Vec::new());
    let mut place = |block: &[u8]| {
        if block.is_empty() {
            return [0, 0];
        }
        let at = (first + data.len()).next_multiple_of(16);
        data.resize(at - first, 0);
        data.extend(block);
        [at, block.len()]
    };
    for case in cases {
        let words = [place(&case.plan), place(&case.input), place(head), [usize::from(compare), 0]];
        table.extend(words.as_flattened().iter().flat_map(|word| (*word as u32).to_le_bytes()));
    }
    let mut job = b"HONEJOB1".to_vec();
    job.extend((cases.len() as u32).to_le_bytes());
    job.extend([0; 4]);
    job.extend(table);
    job.extend(data);
    job
}
