//! Operators in f16.

use super::{channelwise, one_row, operands, pooling, same_elements, same_shape, window};
use crate::plan::Op;
use crate::plan::check::{Checked, bad, require};
use crate::plan::format::{Code, PANEL};

/// Bytes of an f16.
const SIZE: usize = 2;

pub(super) fn op(op: &Op<'_>) -> Checked {
    match op.code {
        Code::Conv16 => conv(op),
        Code::Depthwise16 => depthwise(op),
        Code::Dense16 => dense(op),
        Code::Add16 => {
            require(op.shift <= 2, "a sum with signs that there are not")?;
            operands(op)?;
            bounds(op)
        }
        Code::Mul16 => {
            operands(op)?;
            bounds(op)
        }
        Code::MaxPool16 => {
            pooling(op)?;
            bounds(op)
        }
        Code::AveragePool16 => {
            require(op.shift <= 1, "a mean over neither the values inside the input nor all")?;
            pooling(op)?;
            bounds(op)
        }
        Code::Unary16 => {
            same_shape(op)?;
            require(op.function().is_some(), "a function that there is not, or parameters that it does not take")
        }
        Code::Softmax16 => same_shape(op),
        Code::LayerNorm16 => layer_norm(op),
        Code::MatMul16 => mat_mul(op),
        Code::Float16 => same_elements(op),
        _ => bad("an operator that is not in f16"),
    }
}

/// Numbers, and in order.
fn bounds(op: &Op<'_>) -> Checked {
    let (low, high) = op.bounds();
    require(low <= high, "bounds that are no numbers, or the wrong way round")
}

/// As many weights as `groups` of `outputs` × `depth` take in panels of 8 outputs, all of them finite, and zeros where there is no output.
fn panels(op: &Op<'_>, groups: usize, outputs: usize, depth: Option<usize>) -> Checked {
    let panel = depth.and_then(|depth| depth.checked_mul(PANEL * SIZE)).unwrap_or(0);
    let per_group = outputs.div_ceil(PANEL);
    let whole = panel.checked_mul(per_group).and_then(|bytes| bytes.checked_mul(groups));
    require(panel > 0 && whole == Some(op.weights.len()), "weights of another size than the layer's")?;
    let missing = per_group * PANEL - outputs;
    for (index, panel) in op.weights.chunks_exact(panel.max(1)).enumerate() {
        let is_last = index.checked_rem(per_group) == per_group.checked_sub(1);
        let there = if is_last { PANEL - missing } else { PANEL };
        for row in panel.as_chunks::<{ PANEL * SIZE }>().0 {
            let row = row.as_chunks::<SIZE>().0;
            require(row.iter().all(|value| is_finite(*value)), "a weight that is not finite")?;
            require(row.iter().skip(there).all(|value| *value == [0; SIZE]), "weights of an output that is not there")?;
        }
    }
    Ok(())
}

/// An exponent of all ones is that of infinity and of what is no number.
fn is_finite(value: [u8; SIZE]) -> bool {
    u16::from_le_bytes(value) & 0x7C00 != 0x7C00
}

fn floats(bytes: &[u8], count: usize, why: &'static str) -> Checked {
    let finite = |at| f32::from_bits(Op::word(bytes, at).cast_unsigned()).is_finite();
    require(bytes.len() == count * 4 && (0..count).all(finite), why)
}

/// A bias for every output, padded to a multiple of 8, and no multipliers.
fn bias(op: &Op<'_>, padded: usize) -> Checked {
    floats(op.bias, padded, "a bias that is not one finite number an output channel")?;
    require(op.multipliers.is_empty(), "multipliers of an f16 layer")?;
    bounds(op)
}

fn conv(op: &Op<'_>) -> Checked {
    window(op)?;
    let (inputs, outputs) = (op.input().channels(), op.output.channels());
    let whole = op.groups > 0 && inputs.is_multiple_of(op.groups) && outputs.is_multiple_of(op.groups);
    require(whole, "groups that do not divide the channels")?;
    panels(op, op.groups, op.group_outputs(), op.window.taps().checked_mul(op.group_inputs()))?;
    bias(op, op.groups * op.group_outputs().next_multiple_of(PANEL))
}

fn depthwise(op: &Op<'_>) -> Checked {
    channelwise(op)?;
    let channels = op.output.channels();
    panels(op, 1, channels, Some(op.window.taps()))?;
    bias(op, channels.next_multiple_of(PANEL))
}

fn dense(op: &Op<'_>) -> Checked {
    one_row(op)?;
    let outputs = op.output.channels();
    panels(op, 1, outputs, Some(op.depth()))?;
    bias(op, outputs.next_multiple_of(PANEL))
}

/// Scale and summand a channel; number a is what is added to the variance.
fn layer_norm(op: &Op<'_>) -> Checked {
    same_shape(op)?;
    let (epsilon, unused) = op.bounds();
    require(
        epsilon >= 0.0 && epsilon.is_finite() && unused.to_bits() == 0,
        "an epsilon that is negative or not finite",
    )?;
    let padded = op.input().channels().next_multiple_of(PANEL);
    let why = "a layer normalization without one finite scale and summand a channel";
    floats(op.multipliers, padded, why)?;
    floats(op.bias, padded, why)
}

/// `[h, m, k]` · `[h, k, n]`, or `[h, n, k]` transposed; number a is the factor.
fn mat_mul(op: &Op<'_>) -> Checked {
    let ([ah, m, k], [bh, rows, columns]) = (op.input().shape, op.second().shape);
    let (inner, n) = if op.shift == 1 { (columns, rows) } else { (rows, columns) };
    require(op.shift <= 1, "a matrix product that is neither plain nor transposed")?;
    require(ah == bh && inner == k && op.output.shape == [ah, m, n], "matrices that do not fit each other")?;
    let (factor, unused) = op.bounds();
    require(factor.is_finite() && unused.to_bits() == 0, "a factor that is not finite")
}
