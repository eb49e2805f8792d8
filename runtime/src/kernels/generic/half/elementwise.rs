//! Sums, products, functions of one value, and the way out to f32.

use super::values::{SIZE, apply, clamp, store, widen};
use crate::kernels::generic::elementwise::apart;
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Function, Op};

/// Sum or difference of two tensors.
pub static ADD: Kernel = Kernel::in_place(Code::Add16, add);
/// Product of two tensors, element by element.
pub static MUL: Kernel = Kernel::in_place(Code::Mul16, mul);
/// A function of one value.
pub static UNARY: Kernel = Kernel::in_place(Code::Unary16, unary);
/// f16 to f32.
pub static FLOAT: Kernel = Kernel::in_place(Code::Float16, float);

/// `out = f(a, b)`, where the second operand has as many values, one a channel, or one.
fn binary(op: &Op<'_>, memory: &mut Memory<'_>, f: impl Fn(f32, f32) -> f32) {
    let (period, bounds) = (op.second().elements().max(1), op.bounds());
    let f = |a: [u8; SIZE], b: [u8; SIZE]| clamp(f(widen(a), widen(b)), bounds);
    if op.in_place {
        let (second, output) = memory.pair(op.second().range(), op.output.range());
        for part in output.as_chunks_mut().0.chunks_mut(period) {
            for (out, b) in part.iter_mut().zip(second.as_chunks().0) {
                store(out, f(*out, *b));
            }
        }
        return;
    }
    let (first, second, output) = apart(op, memory);
    for (first, out) in first.as_chunks().0.chunks(period).zip(output.as_chunks_mut().0.chunks_mut(period)) {
        for ((out, a), b) in out.iter_mut().zip(first).zip(second.as_chunks().0) {
            store(out, f(*a, *b));
        }
    }
}

fn add(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (first, second) = op.signs();
    binary(op, memory, |a, b| a * first + b * second);
}

fn mul(op: &Op<'_>, memory: &mut Memory<'_>) {
    binary(op, memory, |a, b| a * b);
}

fn unary(op: &Op<'_>, memory: &mut Memory<'_>) {
    let Some(function) = op.function() else { return };
    match function {
        // On their own, so that they become vectors.
        Function::Clamp(low, high) => each(op, memory, |x| clamp(x, (low, high))),
        Function::LeakyRelu(slope, floor) => {
            each(op, memory, |x| if x < 0.0 { clamp(slope * x, (floor, f32::INFINITY)) } else { x });
        }
        Function::Linear(factor, summand) => each(op, memory, |x| factor * x + summand),
        function => each(op, memory, |x| apply(function, x)),
    }
}

fn each(op: &Op<'_>, memory: &mut Memory<'_>, f: impl Fn(f32) -> f32) {
    if op.in_place {
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        output.as_chunks_mut().0.iter_mut().for_each(|value| store(value, f(widen(*value))));
        return;
    }
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    for (out, value) in output.as_chunks_mut().0.iter_mut().zip(input.as_chunks().0) {
        store(out, f(widen(*value)));
    }
}

fn float(op: &Op<'_>, memory: &mut Memory<'_>) {
    let input = memory.arena.get(op.input().range()).unwrap_or_default();
    for (out, value) in memory.output.iter_mut().zip(input.as_chunks().0) {
        *out = widen(*value);
    }
}
