//! Everything that a plan must be before a kernel sees it.
//!
//! Two questions: does each operator fit its tensors and its data, so that kernels can rely on every size; and does the order of
//! operators make sense in the arena, so that nothing is read before it was written or overwritten while it is still needed.

use core::ops::Range;

use super::format::{ALIGN, Code, DType};
use super::op::{MAX_INPUTS, Op, Record};
use super::{Plan, WHAT};
use crate::error::{Error, Result};

pub(super) fn plan(plan: &Plan<'_>) -> Result<()> {
    if plan.ops.is_empty() {
        return bad("no operators");
    }
    for index in 0..plan.tensors.len() {
        let tensor = plan.tensor(index)?;
        if tensor.range().end > plan.header.arena_bytes {
            return bad("a tensor lies outside the arena");
        }
    }
    let input = plan.tensor(plan.header.input)?;
    if input.offset.is_none() {
        return bad("the input lies outside the arena");
    }
    plan.tensor(plan.header.output)?;
    for record in plan.ops {
        let op = Op::decode(plan, record)?;
        data(plan, record)?;
        shapes(&op)?;
        if op.scratch_range().end > plan.header.arena_bytes || !op.scratch.0.is_multiple_of(ALIGN) {
            return bad("scratch lies outside the arena");
        }
    }
    order(plan)?;
    let names = plan.names.split(|byte| *byte == 0).count();
    if core::str::from_utf8(plan.names).is_err() || !(plan.names.is_empty() || names == plan.ops.len() + 1) {
        return bad("its names are not one text an operator");
    }
    Ok(())
}

fn bad<T>(why: &'static str) -> Result<T> {
    Err(Error::Malformed { what: WHAT, why })
}

fn require(holds: bool, why: &'static str) -> Result<()> {
    if holds { Ok(()) } else { bad(why) }
}

/// Blocks lie behind the tables, aligned.
fn data(plan: &Plan<'_>, record: &[u8; super::format::OP_BYTES]) -> Result<()> {
    let raw = Record::decode(record)?;
    let tables = plan.names.as_ptr_range().end as usize - plan.bytes.as_ptr() as usize;
    for (offset, len) in
        [raw.weights, (raw.bias, usize::from(raw.counts.0)), (raw.multipliers, usize::from(raw.counts.1))]
    {
        let in_place = len == 0 && offset == 0;
        require(
            in_place || (offset >= tables && offset.is_multiple_of(ALIGN)),
            "an operator's data is not aligned behind the tables",
        )?;
    }
    Ok(())
}

/// Sizes, element types and data of one operator.
fn shapes(op: &Op<'_>) -> Result<()> {
    let inputs = match op.code {
        Code::Add | Code::Mul | Code::Add16 | Code::Mul16 => 2..=2,
        Code::Concat | Code::Concat16 => 1..=MAX_INPUTS,
        _ => 1..=1,
    };
    require(inputs.contains(&op.input_count()), "an operator with another number of inputs than it takes")?;
    let (takes, gives) = types(op.code);
    require(op.inputs().all(|input| input.dtype == takes), "an operator on a tensor of the wrong type")?;
    require(op.output.dtype == gives, "an operator gives a tensor of the wrong type")?;
    if op.in_place {
        require(may_be_in_place(op) && op.output.offset == op.input().offset, "an operator that cannot work in place")?;
    }
    match op.code {
        Code::Conv | Code::Conv16 => conv(op),
        Code::Depthwise | Code::Depthwise16 => depthwise(op),
        Code::Dense | Code::DenseFloat | Code::Dense16 => dense(op),
        Code::Add | Code::Mul | Code::Add16 | Code::Mul16 => elementwise(op),
        Code::MaxPool | Code::MaxPool16 | Code::AveragePool | Code::AveragePool16 => pool(op),
        Code::Table => {
            same_shape(op)?;
            require(op.weights.len() == 256, "a table that has not 256 entries")
        }
        Code::Softmax => {
            same_shape(op)?;
            require(op.weights.len() == 1024 && op.a > 0, "a softmax without its table")
        }
        Code::MeanFloat => {
            let outputs = op.output.channels();
            let fits = op.input().channels() == outputs && op.output.elements() == outputs;
            require(fits && op.multipliers.len() == 4, "a mean that is not one value a channel")
        }
        Code::Unary16 | Code::Softmax16 | Code::SoftmaxFloat => same_shape(op),
        Code::Dequantize | Code::Float16 | Code::Reshape | Code::Reshape16 => {
            require(op.input().elements() == op.output.elements(), "an operator that changes the number of elements")
        }
        Code::Pad | Code::Pad16 => pad(op),
        Code::Transpose | Code::Transpose16 => transpose(op),
        Code::Resize | Code::Resize16 => resize(op),
        Code::Concat | Code::Concat16 => concat(op),
    }
}

/// Element types taken and given.
fn types(code: Code) -> (DType, DType) {
    match code {
        Code::DenseFloat | Code::Dequantize | Code::MeanFloat => (DType::Int8, DType::F32),
        Code::SoftmaxFloat => (DType::F32, DType::F32),
        Code::Float16 => (DType::F16, DType::F32),
        code if code as u16 > 64 => (DType::F16, DType::F16),
        _ => (DType::Int8, DType::Int8),
    }
}

/// Element by element, or through scratch: pixel by pixel for a pointwise convolution, from the end where it widens.
fn may_be_in_place(op: &Op<'_>) -> bool {
    match op.code {
        Code::Add | Code::Mul | Code::Table | Code::Softmax | Code::Reshape => true,
        Code::Add16 | Code::Mul16 | Code::Unary16 | Code::Softmax16 | Code::Reshape16 | Code::SoftmaxFloat => true,
        Code::Conv | Code::Conv16 => {
            op.window.is_pointwise() && op.groups == 1 && op.scratch.1 >= 4 * op.input().channels().next_multiple_of(4)
        }
        _ => false,
    }
}

fn same_shape(op: &Op<'_>) -> Result<()> {
    require(op.input().shape == op.output.shape, "an operator that changes the shape")
}

/// The window lands inside the input, or in a border that is smaller than the window.
fn window(op: &Op<'_>) -> Result<()> {
    let w = &op.window;
    let sizes = [w.kernel, w.stride, w.dilation];
    require(sizes.as_flattened().iter().all(|size| *size > 0), "a window with a size of 0")?;
    let (input, output, extent) = (op.input().shape, op.output.shape, w.extent());
    for axis in 0..2 {
        let at = |values: &[usize]| values.get(axis).copied().unwrap_or(0);
        let (size, out, extent, stride, pad) = (at(&input), at(&output), at(&extent), at(&w.stride), at(&w.pad));
        let last = (out - 1) * stride;
        require(pad < extent && last < size + pad, "a window that lies in the border alone")?;
        // Behind the data there is at most as much border as a window minus one can need.
        require(last + extent < size + pad + extent.max(stride) + stride, "an output beyond its input")?;
    }
    Ok(())
}

/// int32 (or f32) per output channel, padded to a multiple of 4.
fn per_channel(op: &Op<'_>, padded: usize, takes_multipliers: bool) -> Result<()> {
    require(op.bias.len() == padded * 4, "a bias that is not one number an output channel")?;
    let wanted = if takes_multipliers { padded * 4 } else { 0 };
    require(op.multipliers.len() == wanted, "multipliers that are not one an output channel")?;
    if takes_multipliers && op.output.dtype == DType::Int8 {
        require((0..padded).all(|c| Op::word(op.multipliers, c) >= 0), "a negative multiplier")?;
    }
    Ok(())
}

fn conv(op: &Op<'_>) -> Result<()> {
    window(op)?;
    let (inputs, outputs) = (op.input().channels(), op.output.channels());
    let whole = op.groups > 0 && inputs.is_multiple_of(op.groups) && outputs.is_multiple_of(op.groups);
    require(whole, "groups that do not divide the channels")?;
    let int8 = op.code == Code::Conv;
    let padded = op.groups * op.group_outputs().next_multiple_of(4);
    let bytes =
        padded.checked_mul(op.depth().next_multiple_of(4)).and_then(|n| n.checked_mul(if int8 { 1 } else { 2 }));
    require(bytes == Some(op.weights.len()), "weights of another size than the convolution's")?;
    let patches = 4 * op.depth().next_multiple_of(4);
    require(op.window.is_pointwise() || op.scratch.1 >= patches, "a convolution without scratch for two patches")?;
    per_channel(op, padded, int8)
}

fn depthwise(op: &Op<'_>) -> Result<()> {
    window(op)?;
    let channels = op.input().channels();
    require(
        channels == op.output.channels() && op.groups == channels.min(usize::from(u16::MAX)),
        "a depthwise convolution that changes the channels",
    )?;
    let int8 = op.code == Code::Depthwise;
    let padded = channels.next_multiple_of(4);
    let bytes =
        padded.checked_mul(op.window.taps().next_multiple_of(2)).and_then(|n| n.checked_mul(if int8 { 1 } else { 2 }));
    require(bytes == Some(op.weights.len()), "weights of another size than the convolution's")?;
    per_channel(op, padded, int8)
}

fn dense(op: &Op<'_>) -> Result<()> {
    let outputs = op.output.channels();
    require(op.output.elements() == outputs, "a dense layer whose output is not one row")?;
    let int8 = op.code != Code::Dense16;
    let padded = outputs.next_multiple_of(4);
    let bytes =
        padded.checked_mul(op.depth().next_multiple_of(4)).and_then(|n| n.checked_mul(if int8 { 1 } else { 2 }));
    require(bytes == Some(op.weights.len()), "weights of another size than the dense layer's")?;
    per_channel(op, padded, int8)
}

fn elementwise(op: &Op<'_>) -> Result<()> {
    let (a, b) = (op.input().shape, op.second().shape);
    let [.., channels] = a;
    require(
        a == op.output.shape && (b == a || b == [1, 1, channels] || b == [1, 1, 1]),
        "operands whose shapes do not fit",
    )?;
    match op.code {
        Code::Add => require((1..=22).contains(&op.shift), "an addition whose shift is not in 1..=22"),
        Code::Mul => {
            require(op.multipliers.len() == 4 && Op::word(op.multipliers, 0) >= 0, "a product without its multiplier")
        }
        _ => Ok(()),
    }
}

fn pool(op: &Op<'_>) -> Result<()> {
    window(op)?;
    require(op.window.dilation == [1, 1], "a pooling with a dilation")?;
    require(op.input().channels() == op.output.channels(), "a pooling that changes the channels")?;
    match op.code {
        Code::MaxPool => require(op.input().quant == op.output.quant, "a maximum on another scale than its input"),
        Code::AveragePool => {
            let (count, taps) = (op.multipliers.len() / 4, op.window.taps());
            require(count == taps || (count == 1 && always_full(op)), "a mean without its multipliers")?;
            require((0..count).all(|i| Op::word(op.multipliers, i) >= 0), "a negative multiplier")
        }
        _ => Ok(()),
    }
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

fn pad(op: &Op<'_>) -> Result<()> {
    let ([h, w, c], [oh, ow, oc]) = (op.input().shape, op.output.shape);
    let [top, left] = op.window.pad;
    require(c == oc && h + top <= oh && w + left <= ow, "a border that does not fit its output")?;
    require(op.input().quant == op.output.quant, "a border on another scale")
}

fn transpose(op: &Op<'_>) -> Result<()> {
    let axes = op.transpose_axes();
    let mut seen = [false; 3];
    for (axis, size) in axes.into_iter().zip(op.output.shape) {
        let Some(seen) = seen.get_mut(axis) else { return bad("axes that are no permutation") };
        require(!*seen && op.input().shape.get(axis) == Some(&size), "axes that are no permutation of the shape")?;
        *seen = true;
    }
    require(op.input().quant == op.output.quant, "a transposition on another scale")
}

fn resize(op: &Op<'_>) -> Result<()> {
    let ([h, w, c], [oh, ow, oc]) = (op.input().shape, op.output.shape);
    require(c == oc && op.input().quant == op.output.quant, "a resizing that changes more than height and width")?;
    let maps = op.weights.as_chunks::<4>().0;
    require(op.weights.len() == 4 * (oh + ow), "a resizing without its maps")?;
    let inside = |(index, at): (usize, &[u8; 4])| (u32::from_le_bytes(*at) as usize) < if index < oh { h } else { w };
    require(maps.iter().enumerate().all(inside), "a resizing that reads outside its input")
}

fn concat(op: &Op<'_>) -> Result<()> {
    let [oh, ow, oc] = op.output.shape;
    let mut channels = 0;
    for input in op.inputs() {
        let [h, w, c] = input.shape;
        require((h, w) == (oh, ow) && input.quant == op.output.quant, "a part that does not fit the whole")?;
        channels += c;
    }
    require(channels == oc, "parts that do not add up to the whole")
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The life of every tensor: written once, read only afterwards, and from the one to the last of the others nothing else is written over
/// it. Quadratic in the number of operators, which the format bounds.
fn order(plan: &Plan<'_>) -> Result<()> {
    let (input, output) = (plan.header.input, plan.header.output);
    require(input != output, "the output is the input")?;
    for tensor in 0..plan.tensors.len() {
        let place = plan.tensor(tensor)?.range();
        let is = |index: u16| usize::from(index) == tensor;
        // Before the first operator the input is there, and nothing else.
        let mut written = tensor == input;
        let mut last = None;
        for (index, record) in plan.ops.iter().enumerate() {
            let record = Record::decode(record)?;
            if record.inputs.into_iter().any(is) {
                require(written, "an operator reads what was not written yet")?;
                last = Some(index);
            }
            if is(record.output) {
                require(!written, "a tensor is written twice")?;
                written = true;
            }
        }
        require(written, "a tensor that nothing writes")?;
        let last = if tensor == output { Some(plan.ops.len()) } else { last };
        unharmed(plan, tensor, &place, last)?;
    }
    let last = plan.ops.last().map(Record::decode).transpose()?;
    require(last.is_some_and(|last| usize::from(last.output) == output), "the last operator does not give the output")
}

/// Nothing is written over `tensor` from where it exists up to the operator `last` that reads it last.
fn unharmed(plan: &Plan<'_>, tensor: usize, place: &Range<usize>, last: Option<usize>) -> Result<()> {
    let mut exists = tensor == plan.header.input;
    for (index, record) in plan.ops.iter().enumerate().take_while(|(index, _)| last.is_some_and(|last| *index <= last))
    {
        let record = Record::decode(record)?;
        let written = plan.tensor(usize::from(record.output))?.range();
        let scratch = record.scratch.0..record.scratch.0.saturating_add(record.scratch.1);
        let makes_it = usize::from(record.output) == tensor;
        if makes_it {
            require(!overlap(place, &scratch), "an operator's output lies in its scratch")?;
            exists = true;
        } else if exists {
            // In place, the first input may go with the operator that reads it last.
            let [first, others @ ..] = record.inputs;
            let read_by_others = others.into_iter().any(|other| usize::from(other) == tensor);
            let goes = record.in_place && usize::from(first) == tensor && !read_by_others && last == Some(index);
            require(goes || !overlap(place, &written), "an operator overwrites what is still needed")?;
            require(!overlap(place, &scratch), "an operator's scratch overwrites what is still needed")?;
        }
    }
    Ok(())
}
