//! One operator of a plan, decoded.

use core::ops::Range;

use super::format::{Code, FLAG_IN_PLACE, NONE, OP_BYTES, TENSOR_BYTES};
use super::{Function, Plan, Requant, Tensor, WHAT};
use crate::bytes::Fields;
use crate::error::{Error, Result};

/// Inputs that an operator can have.
pub const MAX_INPUTS: usize = 6;

/// A window that slides over height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Taps along height and width.
    pub kernel: [usize; 2],
    /// Step along height and width.
    pub stride: [usize; 2],
    /// Distance of taps along height and width.
    pub dilation: [usize; 2],
    /// Border before the first row and the first column; what lies behind the last follows from the output's size.
    pub pad: [usize; 2],
}

impl Window {
    /// Number of taps.
    #[must_use]
    pub fn taps(&self) -> usize {
        let [h, w] = self.kernel;
        h * w
    }

    /// Rows and columns from the first tap to the last, both counted.
    #[must_use]
    pub fn extent(&self) -> [usize; 2] {
        let ([kh, kw], [dh, dw]) = (self.kernel, self.dilation);
        [kh.saturating_sub(1) * dh + 1, kw.saturating_sub(1) * dw + 1]
    }

    /// Whether every output depends on one pixel of the input alone, wherever that is.
    #[must_use]
    pub fn is_one_pixel(&self) -> bool {
        self.kernel == [1, 1] && self.pad == [0, 0]
    }

    /// Whether every output depends on the input at its own place alone.
    #[must_use]
    #[inline(never)]
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0]
    }
}

/// One operator: tensors, parameters, and its data inside the plan.
///
/// Layouts of the data (all in `docs/plan-format.md`): dense and convolution weights in blocks of 4 outputs × 4 inputs, depthwise
/// weights in blocks of 4 channels × 2 taps, f16 weights in panels of 8 outputs, `bias` and `multipliers` as little-endian int32 or f32.
#[derive(Debug, Clone, Copy)]
pub struct Op<'a> {
    /// What it computes.
    pub code: Code,
    /// Whether the output lies where the first input lay.
    pub in_place: bool,
    first: Tensor,
    second: Tensor,
    /// All inputs, by index; decoded when asked for, as few operators have more than two.
    inputs: [u16; MAX_INPUTS],
    tensors: &'a [[u8; TENSOR_BYTES]],
    /// What it gives.
    pub output: Tensor,
    /// The window of convolutions and poolings; the border (`pad`) of a Pad; axis numbers of a Transpose are in `kernel` and `stride[0]`.
    pub window: Window,
    /// Groups of a convolution.
    pub groups: usize,
    /// Shift, bounds and zero point of the output.
    pub requant: Requant,
    /// The raw shift byte, where it has another meaning: the shift of an Add, [`Op::function`], [`Op::signs`], whether an AveragePool16
    /// divides by all its taps (1), whether a MatMul16 takes its second operand transposed (1).
    pub shift: u8,
    /// Weights, table, or index maps.
    pub weights: &'a [u8],
    /// int32 per output channel, the input's zero point already in it, padded to a multiple of 4; f16 operators: f32, padded to a
    /// multiple of 8.
    pub bias: &'a [u8],
    /// int32 (f32 for float outputs) per output channel, padded to a multiple of 4; f32 padded to a multiple of 8 for a layer
    /// normalization.
    pub multipliers: &'a [u8],
    /// Bytes of the arena that it may use while it runs.
    pub scratch: (usize, usize),
    /// A number of its own; see [`Op::bounds`] for f16 operators.
    pub a: i32,
    /// Another.
    pub b: i32,
}

impl<'a> Op<'a> {
    /// The first input.
    #[must_use]
    pub fn input(&self) -> Tensor {
        self.first
    }

    /// The second input, for operators of two.
    #[must_use]
    pub fn second(&self) -> Tensor {
        self.second
    }

    /// All inputs in order.
    pub fn inputs(&self) -> impl Iterator<Item = Tensor> + use<'a> {
        let tensors = self.tensors;
        self.inputs.into_iter().filter_map(move |index| tensors.get(usize::from(index))).map(Tensor::read)
    }

    /// For every axis of a Transpose's output, the axis of the input that it comes from.
    #[must_use]
    pub fn transpose_axes(&self) -> [usize; 3] {
        let ([first, second], [third, _]) = (self.window.kernel, self.window.stride);
        [first, second, third]
    }

    /// Number of inputs.
    #[must_use]
    pub fn input_count(&self) -> usize {
        self.inputs.iter().filter(|index| **index != NONE).count()
    }

    /// The part of the arena that it may use while it runs.
    #[must_use]
    pub fn scratch_range(&self) -> Range<usize> {
        let (offset, len) = self.scratch;
        offset..offset.saturating_add(len)
    }

    /// Output channels of one group.
    #[must_use]
    pub fn group_outputs(&self) -> usize {
        self.output.channels().checked_div(self.groups).unwrap_or(0)
    }

    /// Input channels of one group.
    #[must_use]
    pub fn group_inputs(&self) -> usize {
        self.input().channels().checked_div(self.groups).unwrap_or(0)
    }

    /// Products of one output of a convolution, dense layer or matrix product: taps · input channels of a group.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self.code {
            Code::Dense | Code::DenseFloat | Code::Dense16 => self.input().elements(),
            Code::Depthwise | Code::Depthwise16 => self.window.taps(),
            Code::MatMul16 => self.input().channels(),
            _ => self.window.taps() * self.group_inputs(),
        }
    }

    /// The two 16-bit multipliers of an Add.
    #[must_use]
    pub fn factors(&self) -> (i32, i32) {
        let [a, b, c, d] = self.a.to_le_bytes();
        (i32::from(i16::from_le_bytes([a, b])), i32::from(i16::from_le_bytes([c, d])))
    }

    /// The two numbers of an f16 operator. Of a convolution, a dense layer, a sum, a product or a pooling they are the least and the
    /// greatest output: −∞ and ∞ where nothing bounds it. Of a Unary16 they are its function's, of a layer normalization the first is its
    /// epsilon, of a product of matrices its factor.
    #[must_use]
    pub fn bounds(&self) -> (f32, f32) {
        (f32::from_bits(self.a.cast_unsigned()), f32::from_bits(self.b.cast_unsigned()))
    }

    /// The function of a Unary16.
    #[must_use]
    pub fn function(&self) -> Option<Function> {
        let (a, b) = self.bounds();
        Function::from_parts(self.shift, a, b)
    }

    /// The signs that the operands of an Add16 are added with: a sum, the first less the second, the second less the first.
    #[must_use]
    pub fn signs(&self) -> (f32, f32) {
        match self.shift {
            1 => (1.0, -1.0),
            2 => (-1.0, 1.0),
            _ => (1.0, 1.0),
        }
    }

    /// What one run costs: multiply-accumulates, values that a pooling looks at, or elements written; see
    /// [`super::format::MAX_WORK`].
    #[must_use]
    pub fn work(&self) -> u64 {
        let elements = self.output.elements() as u64;
        match self.code {
            Code::MaxPool | Code::MaxPool16 | Code::AveragePool | Code::AveragePool16 => {
                elements.saturating_mul(self.window.taps() as u64)
            }
            Code::MeanFloat => self.input().elements() as u64,
            _ => elements.max(self.macs()),
        }
    }

    /// Values that a kernel may lay out for the rows that the windows reach, beside [`Op::work`]: what lies between the taps of dilated windows and
    /// in the border is more than what is multiplied.
    #[must_use]
    pub fn reach(&self) -> u64 {
        let windowed = matches!(
            self.code,
            Code::Conv
                | Code::Conv16
                | Code::Depthwise
                | Code::Depthwise16
                | Code::MaxPool
                | Code::MaxPool16
                | Code::AveragePool
                | Code::AveragePool16
        );
        if !windowed || self.window.is_pointwise() {
            return 0;
        }
        let [high, wide] = self.window.extent();
        [high, self.input().width() + wide, self.input().channels()]
            .into_iter()
            .fold(self.output.height() as u64, |product, factor| product.saturating_mul(factor as u64))
    }

    /// Multiply-accumulates of one run; 0 for operators that are no products of matrices.
    #[must_use]
    pub fn macs(&self) -> u64 {
        match self.code {
            Code::Conv
            | Code::Depthwise
            | Code::Dense
            | Code::DenseFloat
            | Code::Conv16
            | Code::Depthwise16
            | Code::Dense16
            | Code::MatMul16 => (self.output.elements() as u64).saturating_mul(self.depth() as u64),
            _ => 0,
        }
    }

    /// Little-endian int32 at `index` of `words`; 0 beyond the end.
    #[must_use]
    pub fn word(words: &[u8], index: usize) -> i32 {
        words.as_chunks::<4>().0.get(index).map_or(0, |bytes| i32::from_le_bytes(*bytes))
    }

    pub(super) fn decode(plan: &Plan<'a>, raw: &Record) -> Result<Self> {
        let is_there = |index: u16| usize::from(index) < plan.tensors.len();
        if !raw.inputs.into_iter().all(|index| index == NONE || is_there(index)) || !is_there(raw.output) {
            return Err(Error::Malformed { what: WHAT, why: "a tensor that is not there" });
        }
        let tensor = |index: u16| plan.tensor(usize::from(index));
        let [first, second, ..] = raw.inputs;
        let output = tensor(raw.output);
        let requant = match raw.code {
            Code::Conv | Code::Depthwise | Code::Dense | Code::Mul | Code::AveragePool => {
                Requant::from_parts(raw.shift, raw.left)?
            }
            _ => Requant::from_parts(Requant::MIN_SHIFT, 0)?,
        };
        let weights = plan.block(raw.weights.0, raw.weights.1);
        let bias = plan.block(raw.bias, 4 * usize::from(raw.counts.0));
        let multipliers = plan.block(raw.multipliers, 4 * usize::from(raw.counts.1));
        let (Some(weights), Some(bias), Some(multipliers)) = (weights, bias, multipliers) else {
            return Err(Error::Malformed { what: WHAT, why: "an operator's data lies outside the file" });
        };
        Ok(Self {
            code: raw.code,
            in_place: raw.in_place,
            first: tensor(first),
            second: tensor(second),
            inputs: raw.inputs,
            tensors: plan.tensors,
            output,
            window: raw.window,
            groups: raw.groups,
            requant: requant.with_output(output.quant.zero_point, raw.min, raw.max)?,
            shift: raw.shift,
            weights,
            bias,
            multipliers,
            scratch: raw.scratch,
            a: raw.a,
            b: raw.b,
        })
    }
}

/// The bytes of an operator, as numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub code: Code,
    pub in_place: bool,
    pub inputs: [u16; MAX_INPUTS],
    pub output: u16,
    pub min: i8,
    pub max: i8,
    pub window: Window,
    pub groups: usize,
    pub shift: u8,
    pub left: u8,
    /// Offset in the file and bytes.
    pub weights: (usize, usize),
    pub bias: usize,
    pub multipliers: usize,
    /// Numbers in the bias and in the multipliers, 4 bytes each.
    pub counts: (u16, u16),
    pub scratch: (usize, usize),
    pub a: i32,
    pub b: i32,
}

impl Record {
    /// Indices of the inputs and of the output, without decoding the rest.
    pub(super) fn tensors(record: &[u8; OP_BYTES]) -> ([u16; MAX_INPUTS], u16) {
        let f = Fields(record);
        ([f.u16(2), f.u16(4), f.u16(6), f.u16(8), f.u16(10), f.u16(12)], f.u16(14))
    }

    /// Whether the output lies where the first input lay.
    pub(super) fn is_in_place(record: &[u8; OP_BYTES]) -> bool {
        u16::from(Fields(record).u8(1)) & FLAG_IN_PLACE != 0
    }

    /// Its part of the arena to work in.
    pub(super) fn scratch(record: &[u8; OP_BYTES]) -> Range<usize> {
        let (start, len) = (Fields(record).u32(50) as usize, Fields(record).u32(54) as usize);
        start..start.saturating_add(len)
    }

    pub(super) fn decode(record: &[u8; OP_BYTES]) -> Result<Self> {
        let f = Fields(record);
        if u16::from(f.u8(1)) & !FLAG_IN_PLACE != 0 {
            return Err(Error::Malformed { what: WHAT, why: "unknown flags of an operator" });
        }
        if u32::from(f.u16(66)) | f.u32(68) | f.u32(72) | f.u32(76) != 0 {
            return Err(Error::Malformed { what: WHAT, why: "reserved bytes are not zero" });
        }
        let pair = |at: usize| [usize::from(f.u8(at)), usize::from(f.u8(at + 1))];
        let (inputs, output) = Self::tensors(record);
        Ok(Self {
            code: Code::decode(u16::from(f.u8(0)))?,
            in_place: Self::is_in_place(record),
            inputs,
            output,
            min: f.i8(16),
            max: f.i8(17),
            window: Window { kernel: pair(18), stride: pair(20), dilation: pair(22), pad: pair(24) },
            groups: usize::from(f.u16(26)),
            shift: f.u8(28),
            left: f.u8(29),
            weights: (f.u32(30) as usize, f.u32(34) as usize),
            bias: f.u32(38) as usize,
            multipliers: f.u32(42) as usize,
            counts: (f.u16(46), f.u16(48)),
            scratch: (f.u32(50) as usize, f.u32(54) as usize),
            a: f.u32(58).cast_signed(),
            b: f.u32(62).cast_signed(),
        })
    }
}
