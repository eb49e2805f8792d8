//! Sums, products, functions of one value, and the way out to f32, eight values at a time.

use super::values::{Bounds, EIGHT, SIZE, narrow_some, widen, widen_some};
use super::vector::{self, Eight};
use crate::kernels::generic::elementwise::apart;
use crate::kernels::{Memory, generic};
use crate::plan::{Function, Op};

const SUM: u8 = 0;
const DIFFERENCE: u8 = 1;
const REVERSE: u8 = 2;
const PRODUCT: u8 = 3;

pub(super) fn add(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: this kernel is reached only through its tiers, which are handed out where the processor has all of it.
    unsafe {
        match op.shift {
            1 => binary::<DIFFERENCE>(op, memory),
            2 => binary::<REVERSE>(op, memory),
            _ => binary::<SUM>(op, memory),
        }
    }
}

pub(super) fn mul(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: as above.
    unsafe { binary::<PRODUCT>(op, memory) }
}

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
fn apply<const KIND: u8>(first: Eight, second: Eight) -> Eight {
    match KIND {
        DIFFERENCE => vector::sub(first, second),
        REVERSE => vector::sub(second, first),
        PRODUCT => vector::mul(first, second),
        _ => vector::add(first, second),
    }
}

/// `out = f(a, b)`, where the second operand has as many values, one a channel, or one.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
fn binary<const KIND: u8>(op: &Op<'_>, memory: &mut Memory<'_>) {
    let bounds = Bounds::new(op.bounds());
    if op.in_place {
        let (second, output) = memory.pair(op.second().range(), op.output.range());
        let mut one = [0; EIGHT];
        let second = repeated(second, &mut one);
        for out in output.chunks_mut(second.len().max(1)) {
            for (out, second) in out.chunks_mut(EIGHT).zip(second.chunks(EIGHT)) {
                narrow_some(out, bounds.clamp(apply::<KIND>(widen_some(out), widen_some(second))));
            }
        }
        return;
    }
    let (first, second, output) = apart(op, memory);
    let mut one = [0; EIGHT];
    let second = repeated(second, &mut one);
    let period = second.len().max(1);
    for (first, out) in first.chunks(period).zip(output.chunks_mut(period)) {
        for ((first, out), second) in first.chunks(EIGHT).zip(out.chunks_mut(EIGHT)).zip(second.chunks(EIGHT)) {
            narrow_some(out, bounds.clamp(apply::<KIND>(widen_some(first), widen_some(second))));
        }
    }
}

/// An operand; eight times the same value where it has one.
fn repeated<'m>(second: &'m [u8], all: &'m mut [u8; EIGHT]) -> &'m [u8] {
    if second.len() != SIZE {
        return second;
    }
    all.chunks_exact_mut(SIZE).for_each(|to| to.copy_from_slice(second));
    all
}

pub(super) fn unary(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: as above.
    unsafe { function(op, memory) }
}

/// Functions without a logarithm or an exponential; generic has the others.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
fn function(op: &Op<'_>, memory: &mut Memory<'_>) {
    let Some(function) = op.function() else { return };
    match function {
        Function::Clamp(low, high) => {
            let bounds = Bounds::new((low, high));
            each(op, memory, |x| bounds.clamp(x));
        }
        Function::LeakyRelu(slope, floor) => {
            let (slope, floor) = (vector::all(slope), vector::all(floor));
            each(op, memory, |x| {
                let below = vector::max(vector::mul(x, slope), floor);
                vector::where_negative(x, below)
            });
        }
        Function::Linear(factor, summand) => {
            let (factor, summand) = (vector::all(factor), vector::all(summand));
            each(op, memory, |x| vector::multiply_add(x, factor, summand));
        }
        Function::HardSigmoid(factor, summand) => {
            let (factor, summand, bounds) = (vector::all(factor), vector::all(summand), Bounds::new((0.0, 1.0)));
            each(op, memory, |x| bounds.clamp(vector::multiply_add(x, factor, summand)));
        }
        Function::HardSwish => {
            let bounds = Bounds::new((0.0, 1.0));
            each(op, memory, |x| {
                vector::mul(x, bounds.clamp(vector::add(vector::div(x, vector::all(6.0)), vector::all(0.5))))
            });
        }
        Function::Sqrt => each(op, memory, |x| vector::sqrt(x)),
        Function::Reciprocal => each(op, memory, |x| vector::div(vector::all(1.0), x)),
        Function::Abs => each(op, memory, |x| vector::abs(x)),
        Function::Sigmoid
        | Function::Swish
        | Function::Tanh
        | Function::Erf
        | Function::Gelu
        | Function::Exp
        | Function::Log => (generic::half::UNARY.run)(op, memory),
    }
}

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
fn each(op: &Op<'_>, memory: &mut Memory<'_>, f: impl Fn(Eight) -> Eight) {
    if op.in_place {
        let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
        for values in output.chunks_mut(EIGHT) {
            narrow_some(values, f(widen_some(values)));
        }
        return;
    }
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    for (out, values) in output.chunks_mut(EIGHT).zip(input.chunks(EIGHT)) {
        narrow_some(out, f(widen_some(values)));
    }
}

pub(super) fn float(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: as above.
    unsafe { widen(memory.arena.get(op.input().range()).unwrap_or_default(), memory.output) }
}
