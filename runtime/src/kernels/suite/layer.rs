//! Single operators, appended to a [`Builder`].

use std::vec;
use std::vec::Vec;

use super::build::Builder;
use super::rng::Values;
use crate::plan::format::Code;
use crate::plan::writer::{blocked, blocked_depthwise};
use crate::plan::{OpParts, Window};

/// A window with its border on both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slide {
    /// Taps.
    pub kernel: [usize; 2],
    /// Steps.
    pub stride: [usize; 2],
    /// Distances of taps.
    pub dilation: [usize; 2],
    /// Border before the first row and column.
    pub before: [usize; 2],
    /// Border behind the last.
    pub behind: [usize; 2],
}

impl Slide {
    /// Step and distance 1, no border.
    pub const fn valid(kernel: [usize; 2]) -> Self {
        Self { kernel, stride: [1; 2], dilation: [1; 2], before: [0; 2], behind: [0; 2] }
    }

    /// With a step, and the border that gives `size / stride` outputs, rounded up, the odd row behind (TensorFlow's SAME).
    pub fn same(kernel: [usize; 2], stride: [usize; 2], size: [usize; 2]) -> Self {
        let mut slide = Self { stride, ..Self::valid(kernel) };
        for axis in 0..2 {
            let last = (size[axis].div_ceil(stride[axis]) - 1) * stride[axis];
            let border = (last + kernel[axis]).saturating_sub(size[axis]);
            slide.before[axis] = border / 2;
            slide.behind[axis] = border - border / 2;
        }
        slide
    }

    /// Height and width of the output on an input of `size`; `None` where the window does not fit.
    pub fn output(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let extent = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            let room = (size[axis] + self.before[axis] + self.behind[axis]).checked_sub(extent)?;
            out[axis] = room / self.stride[axis] + 1;
        }
        Some(out)
    }

    pub(super) fn window(&self) -> Window {
        Window { kernel: self.kernel, stride: self.stride, dilation: self.dilation, pad: self.before }
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}

/// About how large a sum of `depth` products of random bytes is.
fn typical(depth: usize) -> f64 {
    5400.0 * (depth as f64).sqrt()
}

fn bytes(values: Vec<i8>) -> Vec<u8> {
    values.into_iter().map(i8::cast_unsigned).collect()
}

/// `values` of each group, each padded with zeros to a multiple of 4.
fn padded(values: &[i32], group: usize) -> Vec<i32> {
    let mut out = Vec::new();
    for part in values.chunks(group) {
        out.extend(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

impl Builder {
    /// A convolution to `outputs` channels.
    pub fn conv(&mut self, input: usize, outputs: usize, slide: Slide, groups: usize, in_place: bool) -> usize {
        let [h, w, channels] = self.shape(input);
        let [oh, ow] = slide.output([h, w]).expect("a window that fits");
        let output = self.output(input, [oh, ow, outputs], in_place);
        let (depth, group) = (slide.taps() * channels / groups, outputs / groups);
        let weights = self.random_weights(outputs * depth);
        let blocks = weights.chunks(group * depth).flat_map(|part| blocked(part, group, depth)).collect();
        let pointwise = slide == Slide { dilation: slide.dilation, ..Slide::valid([1; 2]) };
        let scratch = if pointwise && groups == 1 && !in_place { 0 } else { 4 * depth.next_multiple_of(4) };
        let op =
            OpParts { window: slide.window(), groups, in_place, ..OpParts::new(Code::Conv, "conv", &[input], output) };
        self.weighted(op, bytes(blocks), depth, group, scratch)
    }

    /// A depthwise convolution.
    pub fn depthwise(&mut self, input: usize, slide: Slide) -> usize {
        let [h, w, channels] = self.shape(input);
        let [oh, ow] = slide.output([h, w]).expect("a window that fits");
        let output = self.tensor([oh, ow, channels]);
        let taps = slide.taps();
        let weights = self.random_weights(taps * channels);
        let blocks = bytes(blocked_depthwise(&weights, taps, channels));
        let op = OpParts::new(Code::Depthwise, "depthwise", &[input], output);
        self.weighted(OpParts { window: slide.window(), groups: channels, ..op }, blocks, taps, channels, 0)
    }

    /// A dense layer.
    pub fn dense(&mut self, input: usize, outputs: usize) -> usize {
        let output = self.tensor([1, 1, outputs]);
        let depth = self.shape(input).iter().product();
        let blocks = bytes(blocked(&self.random_weights(outputs * depth), outputs, depth));
        self.weighted(OpParts::new(Code::Dense, "dense", &[input], output), blocks, depth, outputs, 0)
    }

    /// Bias, multipliers, shifts, bounds.
    fn weighted(&mut self, op: OpParts, weights: Vec<u8>, depth: usize, group: usize, scratch: usize) -> usize {
        let outputs = self.shape(op.output)[2];
        let (shifts, multipliers) = self.random_requant(outputs, typical(depth));
        let bias = self.random_bias(outputs, typical(depth));
        let bounds = self.random_bounds(self.quant(op.output).zero_point);
        let (bias, multipliers) = (padded(&bias, group), padded(&multipliers, group));
        self.op(OpParts { weights, bias, multipliers, shifts, bounds, ..op }, scratch)
    }

    /// A dense layer whose scores leave as floats.
    pub fn dense_float(&mut self, input: usize, outputs: usize) -> usize {
        let output = self.float_tensor([1, 1, outputs]);
        let depth = self.shape(input).iter().product();
        let weights = bytes(blocked(&self.random_weights(outputs * depth), outputs, depth));
        let bias = padded(&self.random_bias(outputs, typical(depth)), outputs);
        let scale = 8.0 / typical(depth);
        let scales: Vec<i32> =
            (0..outputs).map(|_| ((scale * self.rng.unit()) as f32).to_bits().cast_signed()).collect();
        let multipliers = padded(&scales, outputs);
        self.op(OpParts { weights, bias, multipliers, ..OpParts::new(Code::DenseFloat, "scores", &[input], output) }, 0)
    }

    /// A softmax over floats.
    pub fn softmax_float(&mut self, input: usize) -> usize {
        let output = self.float_tensor(self.shape(input));
        let op = OpParts::new(Code::SoftmaxFloat, "shares", &[input], output);
        self.op(OpParts { in_place: true, ..op }, 0)
    }

    /// The mean of every channel, as floats.
    pub fn mean_float(&mut self, input: usize) -> usize {
        let [h, w, channels] = self.shape(input);
        let output = self.float_tensor([1, 1, channels]);
        let scale = self.quant(input).scale / (h * w) as f32;
        let multipliers = vec![scale.to_bits().cast_signed()];
        self.op(OpParts { multipliers, ..OpParts::new(Code::MeanFloat, "mean", &[input], output) }, 0)
    }

    /// int8 to float.
    pub fn dequantize(&mut self, input: usize) -> usize {
        let output = self.float_tensor(self.shape(input));
        self.op(OpParts::new(Code::Dequantize, "floats", &[input], output), 0)
    }

    /// A sum.
    pub fn add(&mut self, first: usize, second: usize, in_place: bool) -> usize {
        let output = self.output(first, self.shape(first), in_place);
        let shift = self.rng.between(1, 22);
        // As a real layer has it, both products small enough that their sum, shifted, is about an int8; or anything.
        let size = if self.rng.once_in(4) { i64::from(i16::MAX) } else { (1 << shift.min(14)) + 1 };
        let low = if self.rng.once_in(8) { i64::from(i16::MIN) } else { -size };
        let (ma, mb) = (self.rng.between(low, size) as i16, self.rng.between(low, size) as i16);
        let [a, b] = ma.to_le_bytes();
        let [c, d] = mb.to_le_bytes();
        let sum = self.rng.between(-(1 << 23), 1 << 23) as i32;
        let bounds = self.random_bounds(self.quant(output).zero_point);
        let op = OpParts::new(Code::Add, "add", &[first, second], output);
        let numbers = (i32::from_le_bytes([a, b, c, d]), sum);
        self.op(OpParts { in_place, bounds, shifts: (shift as u8, 0), numbers, ..op }, 0)
    }

    /// A product.
    pub fn mul(&mut self, first: usize, second: usize, in_place: bool) -> usize {
        let output = self.output(first, self.shape(first), in_place);
        let (shifts, multipliers) = self.random_requant(1, typical(1));
        let bounds = self.random_bounds(self.quant(output).zero_point);
        let op = OpParts::new(Code::Mul, "mul", &[first, second], output);
        self.op(OpParts { in_place, bounds, shifts, multipliers, ..op }, 0)
    }

    /// The greatest value under a window.
    pub fn max_pool(&mut self, input: usize, slide: Slide) -> usize {
        let [h, w, channels] = self.shape(input);
        let [oh, ow] = slide.output([h, w]).expect("a window that fits");
        let output = self.tensor_with([oh, ow, channels], self.quant(input));
        let bounds = self.random_bounds(self.quant(output).zero_point);
        let op = OpParts::new(Code::MaxPool, "max pool", &[input], output);
        self.op(OpParts { window: slide.window(), bounds, ..op }, 0)
    }

    /// The mean under a window.
    pub fn average_pool(&mut self, input: usize, slide: Slide) -> usize {
        let [h, w, channels] = self.shape(input);
        let [oh, ow] = slide.output([h, w]).expect("a window that fits");
        let output = self.tensor([oh, ow, channels]);
        let inside = (0..2).all(|axis| {
            let last = ([oh, ow][axis] - 1) * slide.stride[axis] + slide.kernel[axis];
            slide.before[axis] == 0 && last <= [h, w][axis]
        });
        let count = if inside && self.rng.once_in(2) { 1 } else { slide.taps() };
        let (shifts, multipliers) = self.random_requant(count, 100.0 * slide.taps() as f64);
        let bounds = self.random_bounds(self.quant(output).zero_point);
        let op = OpParts::new(Code::AveragePool, "average pool", &[input], output);
        self.op(OpParts { window: slide.window(), bounds, shifts, multipliers, ..op }, 0)
    }

    /// A random function of one value.
    pub fn table(&mut self, input: usize, in_place: bool) -> usize {
        let output = self.output(input, self.shape(input), in_place);
        let weights = (0..256).map(|_| self.rng.bits() as u8).collect();
        self.op(OpParts { in_place, weights, ..OpParts::new(Code::Table, "table", &[input], output) }, 0)
    }

    /// A softmax over the channels, with the table of a random scale.
    pub fn softmax(&mut self, input: usize, in_place: bool) -> usize {
        let output = self.output(input, self.shape(input), in_place);
        let scale = self.rng.pick(&[0.001, 0.02, 0.1, 0.5, 4.0]);
        let exp = |d: u32| (libm::exp(-scale * f64::from(d)) * f64::from(1 << 20)).round() as u32;
        let weights = (0..256).flat_map(|d| exp(d).to_le_bytes()).collect();
        let numbers = (self.rng.pick(&[256, 256, 255, 1, 65_535]), 0);
        let bounds = self.random_bounds(self.quant(output).zero_point);
        let op = OpParts::new(Code::Softmax, "softmax", &[input], output);
        self.op(OpParts { in_place, weights, numbers, bounds, ..op }, 0)
    }

    /// A border: rows before and behind, columns before and behind.
    pub fn pad(&mut self, input: usize, rows: [usize; 2], columns: [usize; 2]) -> usize {
        let [h, w, channels] = self.shape(input);
        let shape = [h + rows[0] + rows[1], w + columns[0] + columns[1], channels];
        let output = self.like(input, shape);
        let window = Window { pad: [rows[0], columns[0]], ..Window::default() };
        self.op(OpParts { window, ..OpParts::new(Code::Pad, "pad", &[input], output) }, 0)
    }

    /// Output axis i is input axis `axes[i]`.
    pub fn transpose(&mut self, input: usize, axes: [usize; 3]) -> usize {
        let shape = self.shape(input);
        let output = self.like(input, axes.map(|axis| shape[axis]));
        let window = Window { kernel: [axes[0], axes[1]], stride: [axes[2], 0], ..Window::default() };
        self.op(OpParts { window, ..OpParts::new(Code::Transpose, "transpose", &[input], output) }, 0)
    }

    /// Rows and columns picked at random.
    pub fn resize(&mut self, input: usize, size: [usize; 2]) -> usize {
        let [h, w, channels] = self.shape(input);
        let output = self.like(input, [size[0], size[1], channels]);
        let rows: Vec<usize> = (0..size[0]).map(|_| self.rng.below(h)).collect();
        let columns: Vec<usize> = (0..size[1]).map(|_| self.rng.below(w)).collect();
        let weights = rows.into_iter().chain(columns).flat_map(|at| (at as u32).to_le_bytes()).collect();
        self.op(OpParts { weights, ..OpParts::new(Code::Resize, "resize", &[input], output) }, 0)
    }

    /// Channels side by side; all parts share height, width, scale and zero point.
    pub fn concat(&mut self, parts: &[usize]) -> usize {
        let [h, w, _] = self.shape(parts[0]);
        let channels = parts.iter().map(|part| self.shape(*part)[2]).sum();
        let output = self.like(parts[0], [h, w, channels]);
        self.op(OpParts::new(Code::Concat, "concat", parts, output), 0)
    }

    /// The same bytes under another shape.
    pub fn reshape(&mut self, input: usize, shape: [usize; 3], in_place: bool) -> usize {
        let quant = self.quant(input);
        let output = if in_place { self.tensor_over(input, shape, quant) } else { self.like(input, shape) };
        self.op(OpParts { in_place, ..OpParts::new(Code::Reshape, "reshape", &[input], output) }, 0)
    }
}

/// int8 data of one kind.
pub fn values(rng: &mut super::Rng, count: usize) -> Vec<u8> {
    let kind = Values::of_activations(rng);
    let mut out = vec![0; count];
    out.iter_mut().for_each(|q| *q = kind.next(rng).cast_unsigned());
    out
}
