//! What the device has to report: the specification's kernels on this machine.

use crc::{CRC_32_ISO_HDLC, Crc};
use hone_runtime::engine::Prepared;
use hone_runtime::kernels::generic;
use hone_runtime::plan::{DType, Plan};

use super::job::Case;
use crate::step::Result;

/// CRC-32/ISO-HDLC, as the device computes it.
pub fn crc32(bytes: &[u8]) -> u32 {
    Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(bytes)
}

/// Of f32 as little-endian bytes.
pub fn floats_crc(values: &[f32]) -> u32 {
    crc32(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

/// The checksum of every operator's result, and the last one's bytes where they are int8.
pub fn results(case: &Case) -> Result<(Vec<u32>, Vec<u8>)> {
    let fail = |why: hone_runtime::Error| format!("{}: {why}", case.name);
    let plan = Plan::parse(&case.plan).map_err(fail)?;
    let mut prepared = Prepared::new(plan, &generic::TIER).map_err(fail)?;
    prepared.set_input_bytes(&case.input).map_err(fail)?;
    let mut checksums = Vec::new();
    for (index, op) in plan.ops().enumerate() {
        prepared.run_op(index);
        checksums.push(if op.output.dtype == DType::F32 {
            floats_crc(prepared.float_output().get(..op.output.elements()).unwrap_or_default())
        } else {
            crc32(prepared.arena().get(op.output.range()).unwrap_or_default())
        });
    }
    Ok((checksums, prepared.output().to_vec()))
}
