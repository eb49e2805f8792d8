//! Operators in f16: how they are appended to a [`Builder`], and how far two kernels may be apart.

use std::vec;
use std::vec::Vec;

use half::f16;

use super::build::Builder;
use super::layer::Slide;
use super::rng::Rng;
use crate::kernels::{Memory, generic};
use crate::plan::format::Code;
use crate::plan::writer::{padded_floats, panels};
use crate::plan::{Function, Op, OpParts, Tensor};

impl Builder {
    /// Bounds as after no activation, a ReLU, a ReLU6, or any.
    fn half_bounds(&mut self) -> (f32, f32) {
        match self.rng.below(5) {
            0 => (0.0, f32::INFINITY),
            1 => (0.0, 6.0),
            2 => (-1.5, 2.25),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    fn half_output(&mut self, input: usize, shape: [usize; 3], in_place: bool) -> usize {
        if in_place { self.tensor_over(input, shape, self.quant(input)) } else { self.half_tensor(shape) }
    }

    fn half_weights(&mut self, count: usize, depth: usize) -> Vec<f16> {
        let scale = 2.0 / (depth as f64).sqrt();
        let any = self.rng.once_in(6);
        let rng = &mut self.rng;
        (0..count).map(|_| f16::from_f64(if any { value(rng) } else { (rng.unit() - 0.5) * scale })).collect()
    }

    fn half_numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.rng.unit() * 2.0 - 1.0) as f32).collect()
    }

    /// A bias a channel, each group's padded.
    fn half_bias(&mut self, outputs: usize, group: usize) -> Vec<i32> {
        self.half_numbers(outputs).chunks(group).flat_map(padded_floats).collect()
    }

    /// As [`Builder::conv`].
    pub fn half_conv(&mut self, input: usize, outputs: usize, slide: Slide, groups: usize, in_place: bool) -> usize {
        let [h, w, channels] = self.shape(input);
        let [oh, ow] = slide.output([h, w]).expect("a window that fits");
        let output = self.half_output(input, [oh, ow, outputs], in_place);
        let (depth, group) = (slide.taps() * channels / groups, outputs / groups);
        let weights = self.half_weights(outputs * depth, depth);
        let weights = weights.chunks(group * depth).flat_map(|part| panels(part, group, depth)).collect();
        let bias = self.half_bias(outputs, group);
        let (low, high) = self.half_bounds();
        let op = OpParts::new(Code::Conv16, "conv", &[input], output).bounded(low, high);
        self.op(OpParts { window: slide.window(), groups, in_place, weights, bias, ..op }, 0)
    }

    /// As [`Builder::depthwise`].
    pub fn half_depthwise(&mut self, input: usize, slide: Slide) -> usize {
        let [h, w, channels] = self.shape(input);
        let [oh, ow] = slide.output([h, w]).expect("a window that fits");
        let output = self.half_tensor([oh, ow, channels]);
        let weights = self.half_weights(slide.taps() * channels, slide.taps());
        let weights = panels(&weights, channels, slide.taps());
        let bias = self.half_bias(channels, channels);
        let (low, high) = self.half_bounds();
        let op = OpParts::new(Code::Depthwise16, "depthwise", &[input], output).bounded(low, high);
        self.op(OpParts { window: slide.window(), groups: channels, weights, bias, ..op }, 0)
    }

    /// As [`Builder::dense`].
    pub fn half_dense(&mut self, input: usize, outputs: usize) -> usize {
        let output = self.half_tensor([1, 1, outputs]);
        let depth = self.shape(input).iter().product();
        let weights = panels(&self.half_weights(outputs * depth, depth), outputs, depth);
        let bias = self.half_bias(outputs, outputs);
        let (low, high) = self.half_bounds();
        let op = OpParts::new(Code::Dense16, "dense", &[input], output).bounded(low, high);
        self.op(OpParts { weights, bias, ..op }, 0)
    }

    /// A sum, a difference or a product.
    pub fn half_binary(&mut self, first: usize, second: usize, in_place: bool) -> usize {
        let output = self.half_output(first, self.shape(first), in_place);
        let kind = self.rng.below(4) as u8;
        let code = if kind == 3 { Code::Mul16 } else { Code::Add16 };
        let (low, high) = self.half_bounds();
        let op = OpParts::new(code, "binary", &[first, second], output).bounded(low, high);
        self.op(OpParts { in_place, shifts: (kind % 3, 0), ..op }, 0)
    }

    /// The greatest value, or the mean, under a window.
    pub fn half_pool(&mut self, input: usize, slide: Slide, greatest: bool) -> usize {
        let [h, w, channels] = self.shape(input);
        let [oh, ow] = slide.output([h, w]).expect("a window that fits");
        let output = self.half_tensor([oh, ow, channels]);
        let all = u8::from(!greatest && self.rng.once_in(2));
        let code = if greatest { Code::MaxPool16 } else { Code::AveragePool16 };
        let (low, high) = self.half_bounds();
        let op = OpParts::new(code, "pool", &[input], output).bounded(low, high);
        self.op(OpParts { window: slide.window(), shifts: (all, 0), ..op }, 0)
    }

    /// The function of that number, 0 to 14, with random parameters.
    pub fn half_function(&mut self, input: usize, code: u8, in_place: bool) -> usize {
        let output = self.half_output(input, self.shape(input), in_place);
        let (a, b) = ((self.rng.unit() - 0.5) as f32, self.rng.unit() as f32);
        let parts = [(a, b), (a, -b), (a, 0.0), (0.0, 0.0)];
        let function = parts.into_iter().find_map(|(a, b)| Function::from_parts(code, a, b));
        let op = OpParts::new(Code::Unary16, "function", &[input], output);
        self.op(OpParts { in_place, ..op.function(function.expect("a function")) }, 0)
    }

    /// As [`Builder::softmax`].
    pub fn half_softmax(&mut self, input: usize, in_place: bool) -> usize {
        let output = self.half_output(input, self.shape(input), in_place);
        self.op(OpParts { in_place, ..OpParts::new(Code::Softmax16, "softmax", &[input], output) }, 0)
    }

    /// A layer normalization over the channels.
    pub fn half_layer_norm(&mut self, input: usize, in_place: bool) -> usize {
        let shape = self.shape(input);
        let output = self.half_output(input, shape, in_place);
        let multipliers = padded_floats(&self.half_numbers(shape[2]));
        let bias = padded_floats(&self.half_numbers(shape[2]));
        let epsilon = self.rng.pick(&[1e-5, 1e-12, 0.1]);
        let op = OpParts::new(Code::LayerNorm16, "normalization", &[input], output).bounded(epsilon, 0.0);
        self.op(OpParts { in_place, multipliers, bias, ..op }, 0)
    }

    /// A matrix product of two tensors.
    pub fn half_mat_mul(&mut self, first: usize, second: usize, transposed: bool) -> usize {
        let ([h, m, _], [_, rows, columns]) = (self.shape(first), self.shape(second));
        let output = self.half_tensor([h, m, if transposed { rows } else { columns }]);
        let factor = self.rng.pick(&[1.0, 0.25, 0.176_776_69]);
        let op = OpParts::new(Code::MatMul16, "product", &[first, second], output).bounded(factor, 0.0);
        self.op(OpParts { shifts: (u8::from(transposed), 0), ..op }, 0)
    }

    /// f16 to float.
    pub fn half_float(&mut self, input: usize) -> usize {
        let output = self.float_tensor(self.shape(input));
        self.op(OpParts::new(Code::Float16, "floats", &[input], output), 0)
    }
}

/// One value of an activation: mostly ordinary, sometimes tiny or large.
fn value(rng: &mut Rng) -> f64 {
    let x = rng.unit() * 4.0 - 2.0;
    match rng.below(16) {
        0 => 0.0,
        1 => x * 1e-6,
        2 => x * 40.0,
        _ => x,
    }
}

/// f16 data of one kind.
pub(super) fn values(rng: &mut Rng, count: usize) -> Vec<u8> {
    let kind = rng.below(8);
    let (constant, huge) = (value(rng), f16::MAX.to_f64());
    let one = |rng: &mut Rng| match kind {
        0 => constant,
        1 => value(rng) * 1e-7,
        2 if rng.once_in(3) => rng.pick(&[huge, -huge, 1000.0]),
        _ => value(rng),
    };
    (0..count).flat_map(|_| f16::from_f64(one(rng)).to_le_bytes()).collect()
}

/// What a tensor holds.
fn read(arena: &[u8], tensor: &Tensor) -> Vec<f64> {
    arena[tensor.range()].as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect()
}

/// Distance of neighbouring f16 numbers around `x`.
fn step(x: f64) -> f64 {
    let exponent = libm::ilogb(x.abs().max(f64::MIN_POSITIVE)).clamp(-14, 15);
    libm::ldexp(1.0, exponent - 10)
}

/// Compares two outputs of an operator within what `docs/plan-format.md` allows.
///
/// # Panics
/// With the first difference that is too large.
pub(super) fn compare(op: &Op<'_>, state: &[u8], wanted: &[u8], got: &[u8], name: &str) {
    if op.output.offset.is_none() {
        return;
    }
    let allowed = allowance(op, state);
    let [_, width, channels] = op.output.shape;
    let top = 65_536.0;
    for (index, (wanted, got)) in read(wanted, &op.output).into_iter().zip(read(got, &op.output)).enumerate() {
        // Where f16 ends, infinity is the next number; what is none, or what was computed from infinity, may come out as anything.
        let allowed = allowed[index];
        if wanted.is_nan() || allowed.is_nan() || allowed == f64::INFINITY {
            continue;
        }
        let far = (wanted.clamp(-top, top) - got.clamp(-top, top)).abs();
        let (y, x, c) = (index / channels / width, index / channels % width, index % channels);
        let shape = op.output.shape;
        assert!(far <= allowed, "{name}: {got:e} for {wanted:e}, {far:e} apart, at [{y}, {x}, {c}] of {shape:?}");
    }
}

/// For every output, how far two kernels may be apart: one or two steps of f16 for rounding, and for a sum of n products in f32
/// n · 2^-23 of the sum of their sizes.
fn allowance(op: &Op<'_>, state: &[u8]) -> Vec<f64> {
    let mut arena = state.to_vec();
    let outputs = |arena: &mut [u8], op: &Op<'_>| {
        let kernel = generic::TIER.kernel(op.code).expect("a kernel");
        let mut workspace = vec![0; (kernel.workspace_bytes)(op)];
        (kernel.run)(op, &mut Memory { arena, packed: &[], workspace: &mut workspace, output: &mut [] });
        read(arena, &op.output)
    };
    let results = outputs(&mut arena, op);
    let epsilon = libm::ldexp(1.0, -23);
    match op.code {
        Code::MaxPool16 => vec![0.0; results.len()],
        Code::Unary16 => {
            let (a, b) = op.bounds();
            let inputs = read(state, &op.input());
            let linear = |x: f64| match op.function() {
                Some(Function::Linear(..) | Function::HardSigmoid(..)) => (f64::from(a) * x).abs() + f64::from(b).abs(),
                _ => 0.0,
            };
            let exact = matches!(op.function(), Some(Function::Clamp(..) | Function::Abs));
            let one = |(y, x): (f64, f64)| 2.0 * step(y) + libm::ldexp(1.0, -18) + 2.0 * epsilon * linear(x);
            results.into_iter().zip(inputs).map(|pair| if exact { 0.0 } else { one(pair) }).collect()
        }
        Code::Softmax16 => {
            let share = 2.0 + epsilon * op.output.channels() as f64;
            results.into_iter().map(|y| share * step(y) + libm::ldexp(1.0, -24)).collect()
        }
        Code::LayerNorm16 => {
            let channels = op.output.channels();
            let (added, _) = op.bounds();
            let factors: Vec<f64> =
                op.multipliers.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x).into()).collect();
            let largest = |values: &[f64]| values.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            let inputs = read(state, &op.input());
            let rows = results.chunks(channels).zip(inputs.chunks(channels));
            let row = |(results, row): (&[f64], &[f64])| {
                let mean = row.iter().sum::<f64>() / channels as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / channels as f64;
                let size = largest(&factors) * largest(row) / (variance + f64::from(added)).sqrt() + 1.0;
                results
                    .iter()
                    .map(|y| 2.0 * step(*y) + 4.0 * (channels + 4) as f64 * epsilon * size)
                    .collect::<Vec<_>>()
            };
            rows.flat_map(row).collect()
        }
        _ => {
            // The same operator on sizes alone gives the sum of the sizes.
            let positive = |bytes: &[u8], size: usize| {
                let mut bytes = bytes.to_vec();
                bytes.iter_mut().skip(size - 1).step_by(size).for_each(|byte| *byte &= 0x7F);
                bytes
            };
            let mut arena = state.to_vec();
            for input in op.inputs() {
                let sizes = positive(&arena[input.range()], 2);
                arena[input.range()].copy_from_slice(&sizes);
            }
            let (weights, bias) = (positive(op.weights, 2), positive(op.bias, 4));
            let mut sizes: Op<'_> = *op;
            (sizes.weights, sizes.bias) = (&weights, &bias);
            if op.code == Code::MatMul16 {
                sizes.a = op.bounds().0.abs().to_bits().cast_signed();
            } else {
                (sizes.a, sizes.b) = (f32::NEG_INFINITY.to_bits().cast_signed(), f32::INFINITY.to_bits().cast_signed());
            }
            if op.code == Code::Add16 {
                sizes.shift = 0;
            }
            let sums = outputs(&mut arena, &sizes);
            let terms = match op.code {
                Code::AveragePool16 => op.window.taps(),
                Code::Add16 | Code::Mul16 => 0,
                _ => op.depth() + 2,
            };
            // A sum of sizes that is none does not bound anything.
            let sum = |sum: f64| if sum.is_finite() { sum } else { f64::INFINITY };
            let pairs = results.into_iter().zip(sums);
            pairs.map(|(y, size)| step(y) + if terms == 0 { 0.0 } else { terms as f64 * epsilon * sum(size) }).collect()
        }
    }
}
