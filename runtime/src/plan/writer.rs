//! The writer: collects tensors, operators and their data, then has the reader accept the plan before anyone else sees it.

use crate::prelude::*;

use super::format::{
    ALIGN, Code, FLAG_CHANNELS_FIRST, FLAG_IN_PLACE, HEADER_BYTES, MAGIC, NONE, OP_BYTES, PANEL, TENSOR_BYTES, VERSION,
};
use super::op::{MAX_INPUTS, Window};
use super::{Plan, Requant, Tensor};
use crate::bytes::crc32;
use crate::error::{Error, Result};

/// One operator, for writing. Data as [`super::Op`] describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct OpParts {
    /// What it computes.
    pub code: Code,
    /// Its name in the model.
    pub name: String,
    /// Whether the output lies where the first input lay.
    pub in_place: bool,
    /// Indices of tensors, at most 6.
    pub inputs: Vec<usize>,
    /// Index of a tensor.
    pub output: usize,
    /// Least and greatest int8 output.
    pub bounds: (i8, i8),
    /// Window of convolutions and poolings; see [`super::Op::window`].
    pub window: Window,
    /// Groups of a convolution.
    pub groups: usize,
    /// Shift and left shift.
    pub shifts: (u8, u8),
    /// Weights, table or maps.
    pub weights: Vec<u8>,
    /// One number an output channel, as bits.
    pub bias: Vec<i32>,
    /// One number an output channel, as bits.
    pub multipliers: Vec<i32>,
    /// Offset and length in the arena.
    pub scratch: (usize, usize),
    /// Numbers of its own.
    pub numbers: (i32, i32),
}

impl OpParts {
    /// An operator without data: one input, no window, full int8 range.
    #[must_use]
    pub fn new(code: Code, name: &str, inputs: &[usize], output: usize) -> Self {
        Self {
            code,
            name: name.into(),
            in_place: false,
            inputs: inputs.into(),
            output,
            bounds: (i8::MIN, i8::MAX),
            window: Window::default(),
            groups: 1,
            shifts: (Requant::MIN_SHIFT, 0),
            weights: Vec::new(),
            bias: Vec::new(),
            multipliers: Vec::new(),
            scratch: (0, 0),
            numbers: (0, 0),
        }
    }

    /// The same with the least and the greatest output of an f16 operator; see [`super::Op::bounds`].
    #[must_use]
    pub fn bounded(self, low: f32, high: f32) -> Self {
        Self { numbers: (low.to_bits().cast_signed(), high.to_bits().cast_signed()), ..self }
    }

    /// What [`OpParts::bounded`] and [`OpParts::function`] put there.
    #[must_use]
    pub fn numbers_as_floats(&self) -> (f32, f32) {
        (f32::from_bits(self.numbers.0.cast_unsigned()), f32::from_bits(self.numbers.1.cast_unsigned()))
    }

    /// The same with the function of a Unary16.
    #[must_use]
    pub fn function(self, function: super::Function) -> Self {
        let (code, a, b) = function.to_parts();
        Self { shifts: (code, 0), ..self }.bounded(a, b)
    }
}

/// What a plan holds, for writing one.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanParts {
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Every tensor, at its place in the arena.
    pub tensors: Vec<Tensor>,
    /// Index of the input.
    pub input: usize,
    /// Index of the output.
    pub output: usize,
    /// Whether the model takes `[channels, height, width]`.
    pub channels_first: bool,
    /// The operators in order.
    pub ops: Vec<OpParts>,
    /// Whether the operators' names are written.
    pub names: bool,
}

impl PlanParts {
    /// The plan's bytes. Equal parts give equal bytes.
    ///
    /// # Errors
    /// Whatever [`Plan::parse`] would refuse, and numbers that the format cannot hold.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        if self.names {
            for op in &self.ops {
                names.extend(op.name.bytes().filter(|byte| *byte != 0));
                names.push(0);
            }
        }
        let tables = HEADER_BYTES + self.tensors.len() * TENSOR_BYTES + self.ops.len() * OP_BYTES;
        let data_offset = (tables + names.len()).next_multiple_of(ALIGN);
        let mut data = Data { bytes: Vec::new(), offset: data_offset };
        let records = self.ops.iter().map(|op| record(op, &mut data)).collect::<Result<Vec<_>>>()?;
        let total = data_offset + data.bytes.len();

        let mut file = Vec::with_capacity(total);
        file.extend(MAGIC);
        file.extend(VERSION.to_le_bytes());
        file.extend((if self.channels_first { FLAG_CHANNELS_FIRST } else { 0 }).to_le_bytes());
        file.extend(u32_of("bytes of a plan", total)?);
        file.extend([0; 4]);
        file.extend(u32_of("arena in bytes", self.arena_bytes)?);
        file.extend(u32_of("tensors", self.tensors.len())?);
        file.extend(u32_of("operators", self.ops.len())?);
        file.extend(u16_of("input", self.input)?);
        file.extend(u16_of("output", self.output)?);
        file.extend(u32_of("bytes of names", names.len())?);
        file.extend(u32_of("offset of the data", data_offset)?);
        file.resize(HEADER_BYTES, 0);
        for tensor in &self.tensors {
            file.extend(tensor.encode());
        }
        for record in records {
            file.extend(record);
        }
        file.extend(names);
        file.resize(data_offset, 0);
        file.extend(data.bytes);
        let crc = crc32(file.get(super::format::CRC_START..).unwrap_or_default()).to_le_bytes();
        if let Some(place) = file.get_mut(16..20) {
            place.copy_from_slice(&crc);
        }
        Plan::parse(&file)?;
        Ok(file)
    }
}

/// The data behind the tables; equal blocks are stored once.
struct Data {
    bytes: Vec<u8>,
    offset: usize,
}

impl Data {
    fn add(&mut self, block: &[u8]) -> usize {
        if block.is_empty() {
            return 0;
        }
        let at = self.bytes.len().next_multiple_of(ALIGN);
        self.bytes.resize(at, 0);
        self.bytes.extend(block);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        self.offset + at
    }
}

fn record(op: &OpParts, data: &mut Data) -> Result<[u8; OP_BYTES]> {
    if op.inputs.len() > MAX_INPUTS {
        let value = op.inputs.len() as u64;
        return Err(Error::Bounds { what: "inputs of an operator", value, min: 0, max: MAX_INPUTS as u64 });
    }
    let words = |numbers: &[i32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let mut bytes = Vec::with_capacity(OP_BYTES);
    bytes.push(op.code as u8);
    bytes.push(if op.in_place { FLAG_IN_PLACE as u8 } else { 0 });
    for slot in 0..MAX_INPUTS {
        match op.inputs.get(slot) {
            Some(index) => bytes.extend(u16_of("index of a tensor", *index)?),
            None => bytes.extend(NONE.to_le_bytes()),
        }
    }
    bytes.extend(u16_of("index of a tensor", op.output)?);
    bytes.extend([op.bounds.0.cast_unsigned(), op.bounds.1.cast_unsigned()]);
    let Window { kernel, stride, dilation, pad } = op.window;
    for size in [kernel, stride, dilation, pad].as_flattened() {
        bytes.push(u8::try_from(*size).map_err(|_| too_large("size of a window", *size, 255))?);
    }
    bytes.extend(u16_of("groups", op.groups)?);
    bytes.extend([op.shifts.0, op.shifts.1]);
    bytes.extend(u32_of("offset of the weights", data.add(&op.weights))?);
    bytes.extend(u32_of("bytes of the weights", op.weights.len())?);
    bytes.extend(u32_of("offset of the bias", data.add(&words(&op.bias)))?);
    bytes.extend(u32_of("offset of the multipliers", data.add(&words(&op.multipliers)))?);
    bytes.extend(u16_of("output channels", op.bias.len())?);
    bytes.extend(u16_of("multipliers", op.multipliers.len())?);
    bytes.extend(u32_of("offset of the scratch", op.scratch.0)?);
    bytes.extend(u32_of("bytes of the scratch", op.scratch.1)?);
    bytes.extend(op.numbers.0.to_le_bytes());
    bytes.extend(op.numbers.1.to_le_bytes());
    let mut record = [0; OP_BYTES];
    for (to, from) in record.iter_mut().zip(bytes) {
        *to = from;
    }
    Ok(record)
}

fn too_large(what: &'static str, value: usize, max: u64) -> Error {
    Error::Bounds { what, value: value as u64, min: 0, max }
}

fn u32_of(what: &'static str, value: usize) -> Result<[u8; 4]> {
    u32::try_from(value).map(u32::to_le_bytes).map_err(|_| too_large(what, value, u64::from(u32::MAX)))
}

fn u16_of(what: &'static str, value: usize) -> Result<[u8; 2]> {
    u16::try_from(value).map(u16::to_le_bytes).map_err(|_| too_large(what, value, u64::from(u16::MAX)))
}

/// Weights `[outputs, depth]` of one group, row by row, in blocks of 4 outputs × 4 inputs; what is missing is `T::default()`.
#[must_use]
pub fn blocked<T: Copy + Default>(weights: &[T], outputs: usize, depth: usize) -> Vec<T> {
    let at = |o: usize, k: usize| {
        if o < outputs && k < depth { weights.get(o * depth + k).copied().unwrap_or_default() } else { T::default() }
    };
    let mut out = Vec::with_capacity(outputs.next_multiple_of(4) * depth.next_multiple_of(4));
    for o in (0..outputs).step_by(4) {
        for k in (0..depth).step_by(4) {
            for row in o..o + 4 {
                out.extend((k..k + 4).map(|k| at(row, k)));
            }
        }
    }
    out
}

/// Depthwise weights `[taps, channels]`, tap by tap, in blocks of 4 channels × 2 taps: a₀ a₁ b₀ b₁ a₂ a₃ b₂ b₃ for taps a, b and channels
/// 0 to 3 of the block; what is missing is `T::default()`.
#[must_use]
pub fn blocked_depthwise<T: Copy + Default>(weights: &[T], taps: usize, channels: usize) -> Vec<T> {
    let at = |t: usize, c: usize| {
        if t < taps && c < channels { weights.get(t * channels + c).copied().unwrap_or_default() } else { T::default() }
    };
    let mut out = Vec::with_capacity(taps.next_multiple_of(2) * channels.next_multiple_of(4));
    for c in (0..channels).step_by(4) {
        for t in (0..taps).step_by(2) {
            for half in [c, c + 2] {
                out.extend([at(t, half), at(t, half + 1), at(t + 1, half), at(t + 1, half + 1)]);
            }
        }
    }
    out
}

/// f16 weights `[outputs, depth]` of one group, row by row, as bytes in panels of 8 outputs: for every 8 outputs, depth by depth, one value
/// of each; outputs that are missing are zeros. Depthwise weights are `[channels, taps]`.
#[must_use]
pub fn panels(weights: &[half::f16], outputs: usize, depth: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(outputs.next_multiple_of(PANEL) * depth * 2);
    for first in (0..outputs).step_by(PANEL) {
        for k in 0..depth {
            for o in first..first + PANEL {
                let value = if o < outputs { weights.get(o * depth + k).copied() } else { None };
                out.extend(value.unwrap_or_default().to_le_bytes());
            }
        }
    }
    out
}

/// f32 values one an output as what [`OpParts::bias`] holds for an f16 operator: padded with zeros to a multiple of 8.
#[must_use]
pub fn padded_floats(values: &[f32]) -> Vec<i32> {
    let mut out: Vec<i32> = values.iter().map(|value| value.to_bits().cast_signed()).collect();
    out.resize(values.len().next_multiple_of(PANEL), 0);
    out
}
