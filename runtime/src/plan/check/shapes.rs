//! Whether one operator fits its tensors and its data, so that kernels can rely on every size.

#[cfg(feature = "f16")]
mod half;

use super::{Checked, bad, require};
use crate::plan::Op;
use crate::plan::format::{Code, DType};
use crate::plan::op::MAX_INPUTS;

/// exp(0) in a softmax's table.
const SOFTMAX_ONE: i32 = 1 << 20;
/// Largest number a of a softmax.
const SOFTMAX_LARGEST: i32 = 65_535;
/// Float multipliers are smaller, so that no product with an accumulator is infinite.
const FLOAT_LIMIT: f32 = (1u128 << 96) as f32;

/// Sizes, element types and data of one operator.
#[inline(never)]
pub(super) fn op(op: &Op<'_>) -> Checked {
    // Before all else, so that this is the reason given, whatever else is wrong with it; the last arm below is for the compiler.
    if cfg!(not(feature = "f16")) && op.code.is_f16() {
        return bad("an operator in f16, which this build does not run");
    }
    let (least, most) = match op.code {
        Code::Add | Code::Mul | Code::Add16 | Code::Mul16 | Code::MatMul16 => (2, 2),
        Code::Concat => (1, MAX_INPUTS),
        _ => (1, 1),
    };
    let count = op.input_count();
    require((least..=most).contains(&count), "an operator with another number of inputs than it takes")?;
    let (takes, gives) = types(op);
    require(op.inputs().all(|input| input.dtype == takes), "an operator on a tensor of the wrong type")?;
    require(op.output.dtype == gives, "an operator gives a tensor of the wrong type")?;
    if op.in_place {
        require(may_be_in_place(op) && op.output.offset == op.input().offset, "an operator that cannot work in place")?;
    }
    match op.code {
        Code::Conv => conv(op),
        Code::Depthwise => depthwise(op),
        Code::Dense | Code::DenseFloat => dense(op),
        Code::Add | Code::Mul => elementwise(op),
        Code::MaxPool | Code::AveragePool => pool(op),
        Code::Table => {
            same_shape(op)?;
            require(op.weights.len() == 256, "a table that has not 256 entries")
        }
        Code::Softmax => {
            same_shape(op)?;
            softmax(op)
        }
        Code::MeanFloat => {
            let outputs = op.output.channels();
            let fits = op.input().channels() == outputs && op.output.elements() == outputs;
            require(fits && op.multipliers.len() == 4, "a mean that is not one value a channel")?;
            float_multipliers(op, 1)
        }
        Code::SoftmaxFloat => {
            require(op.in_place, "a softmax over floats that is not in place")?;
            same_shape(op)
        }
        Code::Dequantize | Code::Reshape => same_elements(op),
        Code::Pad => pad(op),
        Code::Transpose => transpose(op),
        Code::Resize => resize(op),
        Code::Concat => concat(op),
        #[cfg(feature = "f16")]
        _ => half::op(op),
        #[cfg(not(feature = "f16"))]
        _ => bad("an operator in f16, which this build does not run"),
    }
}

/// Element types taken and given.
fn types(op: &Op<'_>) -> (DType, DType) {
    match op.code {
        Code::DenseFloat | Code::Dequantize | Code::MeanFloat => (DType::Int8, DType::F32),
        Code::SoftmaxFloat => (DType::F32, DType::F32),
        Code::Float16 => (DType::F16, DType::F32),
        // Values are moved, whatever they are.
        Code::Pad | Code::Transpose | Code::Resize | Code::Concat | Code::Reshape if op.input().dtype == DType::F16 => {
            (DType::F16, DType::F16)
        }
        code if code.is_f16() => (DType::F16, DType::F16),
        _ => (DType::Int8, DType::Int8),
    }
}

/// Element by element, or through scratch: pixel by pixel for a pointwise convolution, from the end where it widens.
fn may_be_in_place(op: &Op<'_>) -> bool {
    match op.code {
        Code::Add | Code::Mul | Code::Table | Code::Softmax | Code::Reshape => true,
        Code::Add16 | Code::Mul16 | Code::Unary16 | Code::Softmax16 | Code::LayerNorm16 | Code::SoftmaxFloat => true,
        Code::Conv16 => op.window.is_pointwise() && op.groups == 1,
        Code::Conv => {
            op.window.is_pointwise() && op.groups == 1 && op.scratch.1 >= 4 * op.input().channels().next_multiple_of(4)
        }
        _ => false,
    }
}

fn same_shape(op: &Op<'_>) -> Checked {
    require(op.input().shape == op.output.shape, "an operator that changes the shape")
}

fn same_elements(op: &Op<'_>) -> Checked {
    require(op.input().elements() == op.output.elements(), "an operator that changes the number of elements")
}

/// exp(0) is among the values of every row, so that no sum is zero; what is larger would not be an exponential.
fn softmax(op: &Op<'_>) -> Checked {
    let table = op.weights.as_chunks::<4>().0;
    let is_one = op.weights.len() == 1024 && Op::word(op.weights, 0) == SOFTMAX_ONE;
    let holds = |entry: &[u8; 4]| (0..=SOFTMAX_ONE).contains(&i32::from_le_bytes(*entry));
    require(is_one && table.iter().all(holds), "a softmax without its table")?;
    require((1..=SOFTMAX_LARGEST).contains(&op.a), "a softmax whose output scale is not in 1/65535..=1")
}

/// The window lands inside the input, or in a border that is smaller than the window, and what would be another output does not fit.
fn window(op: &Op<'_>) -> Checked {
    let w = &op.window;
    let sizes = [w.kernel, w.stride, w.dilation];
    require(sizes.as_flattened().iter().all(|size| *size > 0), "a window with a size of 0")?;
    let (input, output, extent) = (op.input().shape, op.output.shape, w.extent());
    for axis in 0..2 {
        let at = |values: &[usize]| values.get(axis).copied().unwrap_or(0);
        let (size, out, extent, stride, pad) = (at(&input), at(&output), at(&extent), at(&w.stride), at(&w.pad));
        let last = (out - 1) * stride;
        require(pad < extent && last < size + pad, "a window that lies in the border alone")?;
        require(last + stride + extent > size + pad, "an output that leaves out what its window reaches")?;
    }
    Ok(())
}

/// int32 (multipliers f32 for float outputs) per output channel, padded to a multiple of 4.
fn per_channel(op: &Op<'_>, padded: usize) -> Checked {
    require(op.bias.len() == padded * 4, "a bias that is not one number an output channel")?;
    require(op.multipliers.len() == padded * 4, "multipliers that are not one an output channel")?;
    if op.output.dtype == DType::F32 {
        return float_multipliers(op, padded);
    }
    require((0..padded).all(|c| Op::word(op.multipliers, c) >= 0), "a negative multiplier")
}

/// A product with any accumulator is finite.
fn float_multipliers(op: &Op<'_>, count: usize) -> Checked {
    let holds = |index| (0.0..FLOAT_LIMIT).contains(&f32::from_bits(Op::word(op.multipliers, index).cast_unsigned()));
    require((0..count).all(holds), "a real multiplier that is negative or not finite")
}

/// As many weights as `groups` of `outputs` × `depth` take in blocks of 4 × 4, and zeros where there is no output or no input.
fn blocks(op: &Op<'_>, groups: usize, outputs: usize, depth: Option<usize>) -> Checked {
    let depth = depth.and_then(|depth| Some((depth, depth.checked_next_multiple_of(4)?)));
    let (rows, bytes) = match depth {
        Some((_, padded)) => (outputs.div_ceil(4), padded.checked_mul(4)),
        None => (0, None),
    };
    let whole = bytes.and_then(|bytes| bytes.checked_mul(rows)).and_then(|bytes| bytes.checked_mul(groups));
    let (Some((depth, _)), Some(bytes), true) = (depth, bytes, whole == Some(op.weights.len())) else {
        return bad("weights of another size than the layer's");
    };
    let is_zero = |row: &[u8]| row.iter().all(|byte| *byte == 0);
    // `max(1)`: chunks of no bytes would panic, and the compiler cannot know that there are none.
    for (index, row) in op.weights.chunks_exact(bytes.max(1)).enumerate() {
        let is_last = index.checked_rem(rows) == rows.checked_sub(1);
        let outputs = if is_last { outputs - 4 * (rows - 1) } else { 4 };
        let mut last = row.rchunks_exact(16).next().unwrap_or_default().chunks_exact(4);
        let inputs = depth - (depth - 1) / 4 * 4;
        require(last.all(|values| values.get(inputs..).is_some_and(is_zero)), "weights of an input that is not there")?;
        let mut missing = row.chunks_exact(16).flat_map(|block| block.chunks_exact(4).skip(outputs));
        require(outputs == 4 || missing.all(is_zero), "weights of an output that is not there")?;
    }
    Ok(())
}

/// As many weights as `channels` × `taps` take in blocks of 4 channels and pairs of taps, and zeros where there is no channel or no tap.
fn depthwise_blocks(op: &Op<'_>, channels: usize, taps: usize) -> Checked {
    let pairs = taps.div_ceil(2);
    let whole = channels.div_ceil(4).checked_mul(8 * pairs);
    require(whole == Some(op.weights.len()), "weights of another size than the layer's")?;
    // Within a pair of taps a, b: a₀ a₁ b₀ b₁ a₂ a₃ b₂ b₃.
    let places = [[0, 2], [1, 3], [4, 6], [5, 7]];
    let is_zero = |pair: &[u8; 8], place: usize| pair.get(place).is_none_or(|weight| *weight == 0);
    for (block, weights) in op.weights.as_chunks::<8>().0.chunks_exact(pairs.max(1)).enumerate() {
        if let Some(last) = weights.last().filter(|_| taps % 2 == 1) {
            require(places.iter().all(|[_, b]| is_zero(last, *b)), "weights of a tap that is not there")?;
        }
        let missing = places.get((channels - 4 * block).min(4)..).unwrap_or_default().as_flattened();
        if !missing.is_empty() {
            let empty = weights.iter().all(|pair| missing.iter().all(|place| is_zero(pair, *place)));
            require(empty, "weights of a channel that is not there")?;
        }
    }
    Ok(())
}

/// What depthwise convolutions have in common.
fn channelwise(op: &Op<'_>) -> Checked {
    window(op)?;
    let channels = op.input().channels();
    require(
        channels == op.output.channels() && op.groups == channels.min(usize::from(u16::MAX)),
        "a depthwise convolution that changes the channels",
    )
}

/// What dense layers have in common.
fn one_row(op: &Op<'_>) -> Checked {
    let is_row = op.output.elements() == op.output.channels() && op.groups == 1;
    require(is_row, "a dense layer whose output is not one row")
}

fn conv(op: &Op<'_>) -> Checked {
    window(op)?;
    let (inputs, outputs) = (op.input().channels(), op.output.channels());
    let whole = op.groups > 0 && inputs.is_multiple_of(op.groups) && outputs.is_multiple_of(op.groups);
    require(whole, "groups that do not divide the channels")?;
    // Not `Op::depth`, which may overflow until the weights are known to be there.
    blocks(op, op.groups, op.group_outputs(), op.window.taps().checked_mul(op.group_inputs()))?;
    let patches = 4 * op.depth().next_multiple_of(4);
    let in_place = op.window.is_pointwise() && op.groups == 1;
    require(in_place || op.scratch.1 >= patches, "a convolution without scratch for two patches")?;
    per_channel(op, op.groups * op.group_outputs().next_multiple_of(4))
}

fn depthwise(op: &Op<'_>) -> Checked {
    channelwise(op)?;
    let channels = op.output.channels();
    depthwise_blocks(op, channels, op.window.taps())?;
    per_channel(op, channels.next_multiple_of(4))
}

fn dense(op: &Op<'_>) -> Checked {
    one_row(op)?;
    let outputs = op.output.channels();
    blocks(op, 1, outputs, Some(op.depth()))?;
    per_channel(op, outputs.next_multiple_of(4))
}

/// The second operand is as the first, one value a channel, or one value.
fn operands(op: &Op<'_>) -> Checked {
    let (a, b) = (op.input().shape, op.second().shape);
    let [.., channels] = a;
    require(
        a == op.output.shape && (b == a || b == [1, 1, channels] || b == [1, 1, 1]),
        "operands whose shapes do not fit",
    )
}

fn elementwise(op: &Op<'_>) -> Checked {
    operands(op)?;
    if op.code == Code::Mul {
        return require(
            op.multipliers.len() == 4 && Op::word(op.multipliers, 0) >= 0,
            "a product without its multiplier",
        );
    }
    require((1..=22).contains(&op.shift), "an addition whose shift is not in 1..=22")?;
    let (ma, mb) = op.factors();
    let products = 128 * (i64::from(ma).abs() + i64::from(mb).abs());
    require(i64::from(op.b).abs() + products <= i64::from(i32::MAX), "an addition whose sums do not fit 32 bits")
}

/// What poolings have in common.
fn pooling(op: &Op<'_>) -> Checked {
    window(op)?;
    require(op.window.dilation == [1, 1], "a pooling with a dilation")?;
    require(op.input().channels() == op.output.channels(), "a pooling that changes the channels")
}

fn pool(op: &Op<'_>) -> Checked {
    pooling(op)?;
    if op.code == Code::MaxPool {
        return require(op.input().quant == op.output.quant, "a maximum on another scale than its input");
    }
    let (count, taps) = (op.multipliers.len() / 4, op.window.taps());
    require(count == taps || (count == 1 && always_full(op)), "a mean without its multipliers")?;
    require((0..count).all(|i| Op::word(op.multipliers, i) >= 0), "a negative multiplier")
}

/// Whether every window lies inside the input.
fn always_full(op: &Op<'_>) -> bool {
    let w = &op.window;
    let fits = |axis: usize| {
        let at = |values: &[usize]| values.get(axis).copied().unwrap_or(0);
        at(&w.pad) == 0 && (at(&op.output.shape) - 1) * at(&w.stride) + at(&w.kernel) <= at(&op.input().shape)
    };
    fits(0) && fits(1)
}

#[inline(never)]
fn pad(op: &Op<'_>) -> Checked {
    let ([h, w, c], [oh, ow, oc]) = (op.input().shape, op.output.shape);
    let [top, left] = op.window.pad;
    require(c == oc && h + top <= oh && w + left <= ow, "a border that does not fit its output")?;
    require(op.input().quant == op.output.quant, "a border on another scale")
}

fn transpose(op: &Op<'_>) -> Checked {
    let axes = op.transpose_axes();
    let mut seen = [false; 3];
    for (axis, size) in axes.into_iter().zip(op.output.shape) {
        let Some(seen) = seen.get_mut(axis) else { return bad("axes that are no permutation") };
        require(!*seen && op.input().shape.get(axis) == Some(&size), "axes that are no permutation of the shape")?;
        *seen = true;
    }
    require(op.input().quant == op.output.quant, "a transposition on another scale")
}

fn resize(op: &Op<'_>) -> Checked {
    let ([h, w, c], [oh, ow, oc]) = (op.input().shape, op.output.shape);
    require(c == oc && op.input().quant == op.output.quant, "a resizing that changes more than height and width")?;
    let maps = op.weights.as_chunks::<4>().0;
    require(op.weights.len() == 4 * (oh + ow), "a resizing without its maps")?;
    let inside = |(index, at): (usize, &[u8; 4])| (u32::from_le_bytes(*at) as usize) < if index < oh { h } else { w };
    require(maps.iter().enumerate().all(inside), "a resizing that reads outside its input")
}

fn concat(op: &Op<'_>) -> Checked {
    let [oh, ow, oc] = op.output.shape;
    let mut channels = 0;
    for input in op.inputs() {
        let [h, w, c] = input.shape;
        require((h, w) == (oh, ow) && input.quant == op.output.quant, "a part that does not fit the whole")?;
        channels += c;
    }
    require(channels == oc, "parts that do not add up to the whole")
}
