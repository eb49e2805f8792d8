//! The cases: real layers first, then random ones that grow.

use core::ops::Range;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::build::Builder;
use super::layer::Slide;
use super::rng::Rng;
use crate::plan::{DType, PlanParts, Tensor};
use crate::quant::QuantParams;

/// A plan, and the operators in it that are compared.
#[derive(Debug)]
pub struct Case {
    /// Says what it is, with the seed of random ones.
    pub name: String,
    /// The plan.
    pub parts: PlanParts,
    /// Indices of operators.
    pub ops: Range<usize>,
}

/// What is tested together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Conv,
    Pointwise,
    Depthwise,
    Dense,
    DenseFloat,
    Add,
    Mul,
    Pools,
    Tables,
    Movement,
    HalfConv,
    HalfPointwise,
    HalfDepthwise,
    HalfDense,
    HalfElementwise,
    HalfPools,
    HalfFunctions,
    HalfAttention,
    HalfMovement,
}

impl Group {
    /// Every group.
    pub const ALL: &'static [Self] = &[
        Self::Conv,
        Self::Pointwise,
        Self::Depthwise,
        Self::Dense,
        Self::DenseFloat,
        Self::Add,
        Self::Mul,
        Self::Pools,
        Self::Tables,
        Self::Movement,
        Self::HalfConv,
        Self::HalfPointwise,
        Self::HalfDepthwise,
        Self::HalfDense,
        Self::HalfElementwise,
        Self::HalfPools,
        Self::HalfFunctions,
        Self::HalfAttention,
        Self::HalfMovement,
    ];

    /// Number of cases from the tables of real layers, which come first.
    pub fn fixed_cases(self) -> usize {
        match self {
            Self::Conv | Self::HalfConv => CONV.len(),
            Self::Pointwise | Self::HalfPointwise => POINTWISE.len(),
            Self::Depthwise | Self::HalfDepthwise => DEPTHWISE.len(),
            Self::Dense | Self::DenseFloat | Self::HalfDense => DENSE.len(),
            _ => 0,
        }
    }

    /// Number of all cases.
    pub fn cases(self) -> usize {
        let random = match self {
            Self::DenseFloat => 100,
            Self::Tables => 200,
            _ => 300,
        };
        self.fixed_cases() + random
    }
}

/// Channels at and around the widths of vectors.
const CHANNELS: &[usize] =
    &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 130, 257];

type Row = ([usize; 3], usize, [usize; 2], [usize; 2], usize);

/// Input, outputs, kernel, stride, groups; border as TensorFlow's SAME.
const CONV: &[Row] = &[
    // On fewer pixels where channels are many. MLPerf Tiny: keyword spotting, image classification, visual wake words.
    ([49, 10, 1], 64, [10, 4], [2, 2], 1),
    ([32, 32, 3], 16, [3, 3], [1, 1], 1),
    ([16, 16, 16], 16, [3, 3], [1, 1], 1),
    ([16, 32, 16], 32, [3, 3], [2, 2], 1),
    ([32, 32, 16], 32, [1, 1], [2, 2], 1),
    ([8, 8, 32], 32, [3, 3], [1, 1], 1),
    ([10, 10, 32], 64, [3, 3], [2, 2], 1),
    ([16, 16, 32], 64, [1, 1], [2, 2], 1),
    ([5, 4, 64], 64, [3, 3], [1, 1], 1),
    ([48, 48, 3], 8, [3, 3], [2, 2], 1),
    // MobileNetV2 and SqueezeNet.
    ([31, 31, 3], 32, [3, 3], [2, 2], 1),
    ([27, 27, 3], 64, [3, 3], [2, 2], 1),
    ([9, 9, 16], 64, [3, 3], [1, 1], 1),
    ([3, 4, 48], 192, [3, 3], [1, 1], 1),
    // Sound and gestures in one dimension.
    ([76, 32, 1], 24, [3, 3], [1, 1], 1),
    ([38, 16, 24], 24, [1, 3], [1, 1], 1),
    ([38, 16, 24], 24, [3, 1], [1, 1], 1),
    ([1, 128, 6], 16, [1, 5], [1, 2], 1),
    ([1, 64, 16], 32, [1, 7], [1, 1], 1),
    // Groups.
    ([8, 8, 64], 64, [3, 3], [1, 1], 4),
    ([6, 6, 24], 24, [1, 1], [1, 1], 3),
    ([6, 6, 12], 24, [3, 3], [2, 1], 12),
];

/// Input and outputs.
const POINTWISE: &[([usize; 3], usize)] = &[
    ([25, 5, 64], 64),
    ([48, 48, 8], 16),
    ([24, 12, 16], 32),
    ([12, 24, 32], 32),
    ([12, 6, 64], 64),
    ([6, 3, 128], 128),
    ([3, 3, 128], 256),
    ([3, 2, 256], 256),
    ([14, 14, 32], 16),
    ([14, 14, 16], 96),
    ([2, 3, 160], 960),
    ([2, 3, 960], 160),
    ([13, 13, 64], 16),
    ([1, 33, 16], 16),
];

/// Input, kernel, stride.
const DEPTHWISE: &[([usize; 3], [usize; 2], [usize; 2])] = &[
    ([25, 5, 64], [3, 3], [1, 1]),
    ([48, 48, 8], [3, 3], [1, 1]),
    ([48, 48, 16], [3, 3], [2, 2]),
    ([24, 24, 32], [3, 3], [1, 1]),
    ([12, 12, 64], [3, 3], [2, 2]),
    ([6, 6, 128], [3, 3], [1, 1]),
    ([6, 6, 128], [3, 3], [2, 2]),
    ([3, 3, 256], [3, 3], [1, 1]),
    ([14, 14, 96], [3, 3], [2, 2]),
    ([7, 7, 960], [3, 3], [1, 1]),
    ([9, 9, 40], [5, 5], [1, 1]),
    ([10, 10, 72], [5, 5], [2, 2]),
    ([1, 40, 16], [1, 3], [1, 1]),
];

/// Depth and outputs.
const DENSE: &[(usize, usize)] = &[
    (64, 12),
    (64, 10),
    (256, 2),
    (640, 128),
    (128, 128),
    (128, 8),
    (8, 128),
    (128, 640),
    (1280, 10),
    (1280, 100),
    (1300, 7),
    (1, 1),
    (3, 5),
];

/// Case `index` of a group; the same on every machine.
pub fn case(group: Group, index: usize) -> Case {
    let mut rng = Rng::new(((group as u64) << 32) | index as u64);
    // Sizes grow with the number, so that the first failure is about the smallest.
    let largest = 1 + index.saturating_sub(group.fixed_cases()) / 12;
    let is_half = group as u8 >= Group::HalfConv as u8;
    match group {
        Group::Conv | Group::HalfConv => match CONV.get(index) {
            Some((input, outputs, kernel, stride, groups)) => {
                let slide = Slide::same(*kernel, *stride, [input[0], input[1]]);
                conv(rng, is_half, index, *input, *outputs, slide, *groups)
            }
            None if rng.once_in(4) => {
                // Every tap once an output, whole vectors of channels, any border: what fast algorithms take.
                let mut slide = Slide::valid([3, 3]);
                (slide.before, slide.behind) = ([rng.below(3), rng.below(3)], [rng.below(3), rng.below(3)]);
                let size = |rng: &mut Rng, most: usize| 3 + rng.below(most);
                let wide = if rng.once_in(8) { 5 * largest } else { largest };
                let [h, w] = [size(&mut rng, largest), size(&mut rng, wide)];
                let (inputs, outputs) = (rng.pick(&[16, 16, 32, 48, 64, 96]), channels(&mut rng, largest * 4));
                conv(rng, is_half, index, [h, w, inputs], outputs, slide, 1)
            }
            None => {
                let groups = if rng.once_in(3) { rng.pick(&[2, 3, 4, 7, 8, 16]) } else { 1 };
                let largest = largest / groups.min(3) + 1;
                let (inputs, outputs) = (channels(&mut rng, largest), channels(&mut rng, largest));
                let ([h, w], slide) = slide(&mut rng, largest.min(16), true);
                conv(rng, is_half, index, [h, w, inputs * groups], outputs * groups, slide, groups)
            }
        },
        Group::Pointwise | Group::HalfPointwise => {
            let (shape, outputs) = POINTWISE.get(index).copied().unwrap_or_else(|| {
                let (inputs, outputs) = (channels(&mut rng, largest * 11), channels(&mut rng, largest * 11));
                let size = |rng: &mut Rng| 1 + rng.below(largest.min(5));
                ([size(&mut rng), size(&mut rng), inputs], outputs)
            });
            let in_place = rng.once_in(2);
            let mut b = builder(rng, is_half, shape);
            if is_half {
                b.half_conv(0, outputs, Slide::valid([1, 1]), 1, in_place);
            } else {
                b.conv(0, outputs, Slide::valid([1, 1]), 1, in_place);
            }
            finish(b, format!("pointwise {index} {shape:?} to {outputs}, in place {in_place}"))
        }
        Group::Depthwise | Group::HalfDepthwise => {
            let (shape, slide) = match DEPTHWISE.get(index) {
                Some((shape, kernel, stride)) => (*shape, Slide::same(*kernel, *stride, [shape[0], shape[1]])),
                None => {
                    let channels = channels(&mut rng, largest * 4);
                    let ([h, w], slide) = slide(&mut rng, largest.min(16), true);
                    ([h, w, channels], slide)
                }
            };
            let mut b = builder(rng, is_half, shape);
            if is_half {
                b.half_depthwise(0, slide)
            } else {
                b.depthwise(0, slide)
            };
            finish(b, format!("depthwise {index} {shape:?} {slide:?}"))
        }
        Group::Dense | Group::DenseFloat | Group::HalfDense => {
            let (depth, outputs) = DENSE.get(index).copied().unwrap_or_else(|| {
                let largest = largest * 8;
                (1 + rng.below(largest * 8), channels(&mut rng, largest))
            });
            let mut b = builder(rng, is_half, [1, 1, depth]);
            match group {
                Group::Dense => b.dense(0, outputs),
                Group::HalfDense => b.half_dense(0, outputs),
                _ => {
                    b.dense_float(0, outputs);
                    b.softmax_float(1)
                }
            };
            let ops = if group == Group::DenseFloat { 0..2 } else { 0..1 };
            Case { name: format!("{group:?} {index} {depth} to {outputs}"), parts: b.finish(), ops }
        }
        Group::Add | Group::Mul | Group::HalfElementwise => binary(rng, group, index),
        Group::Pools | Group::HalfPools => pool(rng, is_half, index, largest),
        Group::Tables => table(rng, index, largest),
        Group::Movement | Group::HalfMovement => movement(rng, is_half, index, largest),
        Group::HalfFunctions => function(rng, index, largest),
        Group::HalfAttention => attention(rng, index, largest),
    }
}

fn builder(rng: Rng, is_half: bool, input: [usize; 3]) -> Builder {
    if is_half { Builder::half(rng, input) } else { Builder::new(rng, input) }
}

/// Compares the last operator.
fn finish(builder: Builder, name: String) -> Case {
    let parts = builder.finish();
    let ops = parts.ops.len() - 1..parts.ops.len();
    Case { name, parts, ops }
}

fn channels(rng: &mut Rng, largest: usize) -> usize {
    let usable = CHANNELS.iter().take_while(|c| **c <= largest.max(4)).count();
    CHANNELS[rng.below(usable)]
}

/// An input's size and a window that fits it, with borders that differ on every side; without dilation for poolings.
fn slide(rng: &mut Rng, largest: usize, dilated: bool) -> ([usize; 2], Slide) {
    let kernels: &[[usize; 2]] =
        &[[1, 1], [1, 2], [1, 3], [3, 1], [2, 2], [3, 3], [3, 3], [3, 3], [5, 5], [4, 2], [10, 4], [1, 7], [7, 7]];
    loop {
        let kernel = rng.pick(kernels);
        let mut slide = Slide::valid(kernel);
        for axis in 0..2 {
            slide.stride[axis] = rng.pick(&[1, 1, 1, 2, 2, 3]);
            slide.dilation[axis] = if dilated { rng.pick(&[1, 1, 1, 1, 2, 3]) } else { 1 };
            let extent = (slide.kernel[axis] - 1) * slide.dilation[axis] + 1;
            slide.before[axis] = rng.below(extent.min(4));
            slide.behind[axis] = rng.below(extent.min(4));
        }
        let size = [1 + rng.below(largest + 4), 1 + rng.below(largest + 4)];
        let Some(out) = slide.output(size) else { continue };
        // A window that begins behind the data sees the border alone, which a plan may not say.
        if (0..2).all(|axis| (out[axis] - 1) * slide.stride[axis] < size[axis] + slide.before[axis]) {
            return (size, slide);
        }
    }
}

fn conv(rng: Rng, is_half: bool, index: usize, input: [usize; 3], outputs: usize, slide: Slide, groups: usize) -> Case {
    let mut b = builder(rng, is_half, input);
    if is_half {
        b.half_conv(0, outputs, slide, groups, false)
    } else {
        b.conv(0, outputs, slide, groups, false)
    };
    finish(b, format!("conv {index} {input:?} to {outputs} in {groups} groups, {slide:?}"))
}

fn binary(mut rng: Rng, group: Group, index: usize) -> Case {
    let largest = 1 + index / 12;
    let channels = channels(&mut rng, largest * 4);
    let shape = [1 + rng.below(largest), 1 + rng.below(largest), channels];
    let form = rng.below(4);
    let in_place = rng.once_in(2) && form != 3;
    let mut b = builder(rng, group == Group::HalfElementwise, [1, 1, 1]);
    let first = b.source(shape);
    let second = match form {
        0 => b.source(shape),
        1 => b.source([1, 1, channels]),
        2 => b.source([1, 1, 1]),
        // Both operands are one tensor.
        _ => first,
    };
    match group {
        Group::Add => b.add(first, second, in_place),
        Group::Mul => b.mul(first, second, in_place),
        _ => b.half_binary(first, second, in_place),
    };
    finish(b, format!("{group:?} {index} {shape:?}, form {form}, in place {in_place}"))
}

fn pool(mut rng: Rng, is_half: bool, index: usize, largest: usize) -> Case {
    let channels = channels(&mut rng, largest * 4);
    let ([h, w], slide) = if rng.once_in(4) {
        // Global.
        let size = [1 + rng.below(largest.min(25)), 1 + rng.below(largest.min(25))];
        (size, Slide::valid(size))
    } else {
        slide(&mut rng, largest.min(16), false)
    };
    let greatest = rng.once_in(2);
    let mut b = builder(rng, is_half, [h, w, channels]);
    match (is_half, greatest) {
        (true, _) => b.half_pool(0, slide, greatest),
        (_, true) => b.max_pool(0, slide),
        _ => b.average_pool(0, slide),
    };
    finish(b, format!("pool {index} {:?} {slide:?}, greatest {greatest}", [h, w, channels]))
}

fn table(mut rng: Rng, index: usize, largest: usize) -> Case {
    let shape = [1 + rng.below(largest), 1 + rng.below(largest), channels(&mut rng, largest * 16)];
    let (softmax, in_place) = (rng.once_in(2), rng.once_in(2));
    let mut b = Builder::new(rng, shape);
    if softmax {
        b.softmax(0, in_place)
    } else {
        b.table(0, in_place)
    };
    finish(b, format!("table {index} {shape:?}, softmax {softmax}, in place {in_place}"))
}

/// Functions of one value, every one of them in turn.
fn function(mut rng: Rng, index: usize, largest: usize) -> Case {
    let shape = [1 + rng.below(largest), 1 + rng.below(largest), channels(&mut rng, largest * 16)];
    let in_place = rng.once_in(2);
    let mut b = Builder::half(rng, shape);
    b.half_function(0, index as u8 % 15, in_place);
    finish(b, format!("function {index} {shape:?}, in place {in_place}"))
}

/// Softmax, layer normalization, products of two tensors.
fn attention(mut rng: Rng, index: usize, largest: usize) -> Case {
    let c = channels(&mut rng, largest * 4);
    let shape = [1 + rng.below(largest.min(5)), 1 + rng.below(largest.min(12)), c];
    let (in_place, transposed) = (rng.once_in(2), rng.once_in(2));
    let columns = channels(&mut rng, largest * 2);
    let mut b = Builder::half(rng, if index % 4 < 2 { shape } else { [1, 1, 1] });
    match index % 4 {
        0 => b.half_softmax(0, in_place),
        1 => b.half_layer_norm(0, in_place),
        _ => {
            let first = b.source(shape);
            let [h, _, k] = shape;
            let second = b.source(if transposed { [h, columns, k] } else { [h, k, columns] });
            b.half_mat_mul(first, second, transposed)
        }
    };
    finish(b, format!("attention {index} {shape:?}, in place {in_place}, {columns} columns, transposed {transposed}"))
}

fn movement(mut rng: Rng, is_half: bool, index: usize, largest: usize) -> Case {
    let mut size = || 1 + rng.below(largest.min(16));
    let (h, w) = (size(), size());
    let (to_h, to_w) = (size(), size());
    let c = channels(&mut rng, largest * 4);
    let shape = [h, w, c];
    let what = index % 7;
    let mut border = [[0; 2]; 2];
    border.as_flattened_mut().iter_mut().for_each(|b| *b = rng.below(5));
    let axes = rng.pick(&[[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]);
    let more: Vec<usize> = (0..rng.below(5)).map(|_| channels(&mut rng, largest)).collect();
    let in_place = rng.once_in(2);
    let mut b = builder(rng, is_half, if what == 3 { [1, 1, 1] } else { shape });
    match what {
        0 => b.pad(0, border[0], border[1]),
        1 => b.transpose(0, axes),
        2 => b.resize(0, [to_h, to_w]),
        3 => {
            let mut parts = Vec::from([b.source(shape)]);
            parts.extend(more.iter().map(|channels| b.source([h, w, *channels])));
            b.concat(&parts)
        }
        4 => b.reshape(0, [1, w, c * h], in_place),
        _ if is_half => b.half_float(0),
        5 => b.mean_float(0),
        _ => b.dequantize(0),
    };
    finish(b, format!("movement {index} {shape:?}, kind {what}"))
}

/// An input to quantize.
#[derive(Debug)]
pub(super) struct Floats {
    pub(super) values: Vec<f32>,
    pub(super) tensor: Tensor,
    pub(super) channels_first: bool,
}

/// Halves of a step, what saturates, what is almost nothing, and ordinary values.
pub(super) fn quantize(index: usize) -> Floats {
    let mut rng = Rng::new(0xF10A_7000 + index as u64);
    let largest = 1 + index / 12;
    let shape = [1 + rng.below(largest), 1 + rng.below(largest), channels(&mut rng, largest)];
    // Powers of two make exact halves; the least and the greatest normal scales make quotients that overflow or vanish.
    let scales = [0.5, 0.25, 1.0 / 128.0, 1.0, 0.1, 0.0078, 2.0 / 255.0, f32::MIN_POSITIVE, f32::MAX, 1e-30, 3e10];
    let scale = if rng.once_in(2) { rng.pick(&scales) } else { (0.2 * rng.unit() + 1e-6) as f32 };
    let quant = QuantParams { scale, zero_point: if rng.once_in(2) { rng.int8() } else { rng.pick(&[-128, 0, 127]) } };
    let one = |rng: &mut Rng| match rng.below(8) {
        0 => (rng.between(-300, 300) as f32 + 0.5) * scale,
        1 => rng.pick(&[f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -1e-45, 0.0, -0.0, 1e9, -1e9, 2147483648.0]),
        2 => f32::from_bits(rng.bits() as u32),
        3 => rng.between(-300, 300) as f32 * scale,
        _ => ((rng.unit() - 0.5) * 400.0) as f32 * scale,
    };
    let finite = |x: f32| if x.is_finite() { x } else { 0.0 };
    let values = (0..shape.iter().product()).map(|_| finite(one(&mut rng))).collect();
    let tensor = Tensor { dtype: DType::Int8, shape, quant, offset: Some(0) };
    Floats { values, tensor, channels_first: rng.once_in(2) }
}
