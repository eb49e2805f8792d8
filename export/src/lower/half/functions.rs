//! Functions of one value, and what combines two operands element by element.
//!
//! Functions are merged into the operator before them where that has bounds, a bias or a function of its own; products of functions of one
//! tensor are recognised as the activations that they spell out (x · sigmoid(x), GELU by its error function).

use half::f16;
use hone_runtime::kernels::generic::half::apply;
use hone_runtime::plan::writer::{padded_floats, panels};
use hone_runtime::plan::{Code, Function, OpParts};

use super::{Constant, OPEN};
use crate::Result;
use crate::graph::{Node, Op};
use crate::lower::draft::Stored;
use crate::lower::walk::Walk;
use crate::lower::{POINT, unsupported, with_last};

pub(super) fn lower(walk: &mut Walk<'_>, node: &Node) -> Result<Stored> {
    let function = match &node.op {
        Op::Relu => Function::Clamp(0.0, f32::INFINITY),
        Op::Clip { min, max } => Function::Clamp(*min, min.max(*max)),
        Op::LeakyRelu { alpha } => Function::LeakyRelu(*alpha, f32::NEG_INFINITY),
        Op::HardSigmoid { alpha, beta } => Function::HardSigmoid(*alpha, *beta),
        Op::HardSwish => Function::HardSwish,
        Op::Sigmoid => Function::Sigmoid,
        Op::Tanh => Function::Tanh,
        Op::Erf => Function::Erf,
        Op::Exp => Function::Exp,
        Op::Log => Function::Log,
        Op::Sqrt => Function::Sqrt,
        Op::Reciprocal => Function::Reciprocal,
        Op::Abs => Function::Abs,
        Op::Neg => Function::Linear(-1.0, 0.0),
        Op::PRelu | Op::Max | Op::Min | Op::Pow => return with_scalar(walk, node),
        Op::Add | Op::Sub | Op::Mul | Op::Div => {
            for slot in [1, 0] {
                if let Some(constant) = walk.half_constant(node, slot) {
                    return with_constant(walk, node, 1 - slot, &constant);
                }
            }
            return binary(walk, node);
        }
        _ => return Err(unsupported(node, "the native engine has no f16 operator for it")),
    };
    walk.half_function(node, 0, function)
}

/// Operators whose second operand is one constant.
fn with_scalar(walk: &mut Walk<'_>, node: &Node) -> Result<Stored> {
    // Slopes that are all the same are one.
    let constant = walk.half_constant(node, 1).map(|constant| constant.floats());
    let scalar = constant.and_then(|c| c.iter().all(|x| *x == c[0]).then(|| c.first().copied())?);
    let Some(scalar) = scalar.filter(|_| node.inputs.len() == 2) else {
        return Err(unsupported(node, "only one constant as its second operand is run"));
    };
    let function = match node.op {
        Op::PRelu => Function::LeakyRelu(scalar, f32::NEG_INFINITY),
        Op::Max => Function::Clamp(scalar, f32::INFINITY),
        Op::Min => Function::Clamp(f32::NEG_INFINITY, scalar),
        _ if scalar == 0.5 => Function::Sqrt,
        _ if scalar == 2.0 => {
            let input = walk.stored(node, 0)?;
            let shape = walk.draft.tensors[input.tensor].shape;
            let output = walk.draft.half(shape);
            let op = OpParts::new(Code::Mul16, &node.name, &[input.tensor; 2], output).bounded(OPEN.0, OPEN.1);
            let name = walk.made(node);
            walk.draft.push(op, &name, &input.order);
            return Ok(Stored { tensor: output, ..input });
        }
        _ => return Err(unsupported(node, format!("the power of {scalar}; squares and roots are run"))),
    };
    walk.half_function(node, 0, function)
}

/// Merges a function into the operator that makes its input; false where that cannot take it.
pub(super) fn merge(op: &mut OpParts, function: Function) -> bool {
    let bounds = op.numbers_as_floats();
    match (op.code, function) {
        (Code::Unary16, function) => {
            let before = Function::from_parts(op.shifts.0, bounds.0, bounds.1);
            let Some(both) = before.and_then(|before| composed(before, function)) else { return false };
            *op = op.clone().function(both);
            true
        }
        (
            Code::Conv16
            | Code::Depthwise16
            | Code::Dense16
            | Code::Add16
            | Code::Mul16
            | Code::MaxPool16
            | Code::AveragePool16,
            Function::Clamp(low, high),
        ) => {
            let (low, high) = clamped(bounds, (low, high));
            *op = op.clone().bounded(low, high);
            true
        }
        _ => false,
    }
}

/// Bounds `before`, then bounds `after`.
fn clamped(before: (f32, f32), after: (f32, f32)) -> (f32, f32) {
    (before.0.max(after.0).min(after.1), before.1.max(after.0).min(after.1))
}

/// Two functions as one.
fn composed(before: Function, after: Function) -> Option<Function> {
    match (before, after) {
        (Function::Linear(a, b), Function::Linear(c, d)) => Some(Function::Linear(c * a, c * b + d)),
        (Function::LeakyRelu(slope, floor), Function::Clamp(low, f32::INFINITY)) if low <= 0.0 => {
            Some(Function::LeakyRelu(slope, floor.max(low)))
        }
        (Function::Clamp(a, b), Function::Clamp(c, d)) => {
            let (low, high) = clamped((a, b), (c, d));
            Some(Function::Clamp(low, high))
        }
        _ => None,
    }
}

/// One operand is a constant: one number is a function, one a channel a bias or a factor.
fn with_constant(walk: &mut Walk<'_>, node: &Node, slot: usize, constant: &Constant) -> Result<Stored> {
    let constant_first = slot == 1;
    if node.op == Op::Div && constant_first {
        return match constant.scalar() {
            Some(1.0) => walk.half_function(node, slot, Function::Reciprocal),
            _ => Err(unsupported(node, "a constant other than 1 divided by a tensor")),
        };
    }
    // out = factor · x + summand.
    let as_line = |c: f32| match node.op {
        Op::Sub if constant_first => (-1.0, c),
        Op::Sub => (1.0, -c),
        Op::Mul => (c, 0.0),
        Op::Div => (1.0 / c, 0.0),
        _ => (1.0, c),
    };
    let lines: Vec<(f32, f32)> = constant.floats().into_iter().map(as_line).collect();
    if !lines.iter().all(|(factor, summand)| factor.is_finite() && summand.is_finite()) {
        return Err(unsupported(node, "a constant that is not finite, or a division by 0"));
    }
    let mut input = walk.stored(node, slot)?;
    let axis = channel_axis(node, &input, constant)?;
    if let Some(axis) = axis {
        let order = with_last(&input.order, axis);
        input = walk.reordered(input, &order, &node.name)?;
    }
    // A summand joins the bias of the layer before.
    let added = lines.iter().all(|(factor, _)| *factor == 1.0);
    let maker = walk.half_maker(node, slot).filter(|maker| walk.draft.ops[*maker].output == input.tensor);
    if let Some(maker) = maker
        && added
        && into_bias(&mut walk.draft.ops[maker], walk.draft.tensors[input.tensor].shape[2], &lines)
    {
        return walk.half_merged(node, slot, maker);
    }
    if let [(factor, summand)] = lines[..] {
        return walk.half_function(node, slot, Function::Linear(factor, summand));
    }
    // A depthwise convolution of one tap.
    let shape = input.shape().ok_or_else(|| unsupported(node, "more than three axes"))?;
    let tensor = walk.shaped(input.tensor, shape, &node.name);
    let output = walk.draft.half(shape);
    let channels = shape[2];
    let factors: Vec<f16> = lines.iter().map(|(factor, _)| f16::from_f32(*factor)).collect();
    if factors.iter().any(|factor| !factor.is_finite()) {
        return Err(unsupported(node, "a factor beyond the range of f16"));
    }
    let mut op = OpParts::new(Code::Depthwise16, &node.name, &[tensor], output).bounded(OPEN.0, OPEN.1);
    op.window = POINT;
    op.groups = channels.min(usize::from(u16::MAX));
    op.weights = panels(&factors, channels, 1);
    op.bias = padded_floats(&lines.iter().map(|(_, summand)| *summand).collect::<Vec<_>>());
    let name = walk.made(node);
    walk.draft.push(op, &name, &input.order);
    Ok(Stored { tensor: output, ..input })
}

/// The axis that a constant has one number for each index of; `None` for one number in all.
fn channel_axis(node: &Node, input: &Stored, constant: &Constant) -> Result<Option<usize>> {
    let rank = input.dims.len();
    // Sizes along the graph's axes, aligned at the last one, the batch left out.
    let skip = constant.shape.len().saturating_sub(rank);
    let (front, sizes) = constant.shape.split_at(skip);
    let first = rank - sizes.len();
    let large: Vec<usize> = (0..sizes.len()).filter(|&axis| sizes[axis] != 1).map(|axis| axis + first).collect();
    match large[..] {
        _ if front.len() > 1 || front.iter().any(|size| *size != 1) => {
            Err(unsupported(node, "a constant that changes the batch"))
        }
        [] => Ok(None),
        [axis] if input.dims[axis] == constant.values.len() => Ok(Some(axis)),
        _ => Err(unsupported(node, format!("a constant of {:?} on {:?}", constant.shape, input.dims))),
    }
}

/// Adds to the bias of a layer that nothing bounds; false for what is no such layer.
fn into_bias(op: &mut OpParts, channels: usize, lines: &[(f32, f32)]) -> bool {
    let layer = matches!(op.code, Code::Conv16 | Code::Depthwise16 | Code::Dense16);
    if !layer || op.numbers_as_floats() != OPEN || (lines.len() != 1 && lines.len() != channels) {
        return false;
    }
    let groups = if op.code == Code::Depthwise16 { 1 } else { op.groups };
    let (group, padded) = (channels / groups, op.bias.len() / groups);
    for channel in 0..channels {
        let (_, summand) = lines[channel % lines.len()];
        let bias = &mut op.bias[channel / group * padded + channel % group];
        *bias = (f32::from_bits(bias.cast_unsigned()) + summand).to_bits().cast_signed();
    }
    true
}

/// Both operands are tensors.
fn binary(walk: &mut Walk<'_>, node: &Node) -> Result<Stored> {
    if node.op == Op::Mul
        && let Some(made) = activation(walk, node)?
    {
        return Ok(made);
    }
    if node.op == Op::Div {
        return Err(unsupported(node, "a tensor divided by a tensor"));
    }
    let (larger, inputs, shape, swapped) = walk.operands(node, &node.name)?;
    let output = walk.draft.half(shape);
    let (code, kind) = match node.op {
        Op::Mul => (Code::Mul16, 0),
        Op::Sub => (Code::Add16, 1 + u8::from(swapped)),
        _ => (Code::Add16, 0),
    };
    let op = OpParts::new(code, &node.name, &inputs, output).bounded(OPEN.0, OPEN.1);
    let name = walk.made(node);
    walk.draft.push(OpParts { shifts: (kind, 0), ..op }, &name, &larger.order);
    Ok(Stored { tensor: output, ..larger })
}

/// A product of two functions of one tensor that spells out a known activation.
fn activation(walk: &mut Walk<'_>, node: &Node) -> Result<Option<Stored>> {
    let (first, second) = (Chain::of(walk, node, 0)?, Chain::of(walk, node, 1)?);
    if first.root.tensor != second.root.tensor || first.root != second.root {
        return Ok(None);
    }
    let product = |x: f32| first.apply(x) * second.apply(x);
    let known = [
        (Function::Swish, 1.0),
        (Function::HardSwish, 1.0),
        (Function::Gelu, 1.0),
        // GELU's half may follow behind.
        (Function::Gelu, 2.0),
    ];
    let points = (-120..=120).map(|i| i as f32 / 10.0);
    let same = |(function, factor): &(Function, f32)| {
        // Constants are rounded to f16: √2 is 1.414.
        points.clone().all(|x| (product(x) - factor * apply(*function, x)).abs() <= 1e-3 * x.abs().min(4.0))
    };
    let Some((function, factor)) = known.into_iter().find(same) else { return Ok(None) };
    // What only led here is dropped.
    let mut dropped: Vec<usize> = first.ops.iter().chain(&second.ops).copied().collect();
    dropped.sort_unstable();
    for index in dropped.into_iter().rev() {
        walk.draft.ops.remove(index);
        walk.draft.layers.remove(index);
    }
    let root = first.root;
    let shape = walk.draft.tensors[root.tensor].shape;
    let name = walk.made(node);
    let mut input = root.tensor;
    if factor != 1.0 {
        let output = walk.draft.half(shape);
        walk.draft.push_helper(OpParts::new(Code::Unary16, &node.name, &[input], output).function(function));
        input = output;
    }
    let last = if factor == 1.0 { function } else { Function::Linear(factor, 0.0) };
    let output = walk.draft.half(shape);
    walk.draft.push(OpParts::new(Code::Unary16, &node.name, &[input], output).function(last), &name, &root.order);
    Ok(Some(Stored { tensor: output, ..root }))
}

/// A tensor, and the functions that were applied to it one after the other and that nothing else reads.
struct Chain {
    root: Stored,
    /// Operators from the root on, which this node alone needs.
    ops: Vec<usize>,
    functions: Vec<Function>,
}

impl Chain {
    fn of(walk: &Walk<'_>, node: &Node, slot: usize) -> Result<Self> {
        let mut chain = Self { root: walk.stored(node, slot)?, ops: Vec::new(), functions: Vec::new() };
        let Some(mut at) = walk.half_maker(node, slot) else { return Ok(chain) };
        loop {
            let op = &walk.draft.ops[at];
            let (a, b) = op.numbers_as_floats();
            let function = Function::from_parts(op.shifts.0, a, b);
            let Some(function) = function.filter(|_| op.code == Code::Unary16) else { break };
            chain.ops.insert(0, at);
            chain.functions.insert(0, function);
            chain.root.tensor = op.inputs[0];
            let before = walk.draft.ops.iter().position(|before| before.output == op.inputs[0]);
            let Some(before) = before else { break };
            let name = walk.draft.layers[before].value.clone();
            let once = name.and_then(|name| walk.graph.find(&name)).is_some_and(|id| walk.is_read_once(id));
            if !once {
                break;
            }
            at = before;
        }
        Ok(chain)
    }

    fn apply(&self, x: f32) -> f32 {
        self.functions.iter().fold(x, |x, function| apply(*function, x))
    }
}
