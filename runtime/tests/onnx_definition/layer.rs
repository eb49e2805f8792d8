//! Plans of single layers, written by the formulas of `docs/plan-format.md`.

use hone_runtime::QuantParams;
use hone_runtime::engine::Prepared;
use hone_runtime::kernels::generic;
use hone_runtime::kernels::suite::Rng;
use hone_runtime::plan::{Code, DType, OpParts, Plan, PlanParts, Requant, Tensor};

use crate::reference::Weights;

/// A plan whose tensors lie one behind the other.
pub struct Net {
    tensors: Vec<Tensor>,
    end: usize,
    pub ops: Vec<OpParts>,
}

impl Net {
    pub fn new(input: [usize; 3], quant: QuantParams) -> Self {
        let mut net = Self { tensors: Vec::new(), end: 0, ops: Vec::new() };
        net.tensor(input, quant);
        net
    }

    pub fn tensor(&mut self, shape: [usize; 3], quant: QuantParams) -> usize {
        let tensor = Tensor { dtype: DType::Int8, shape, quant, offset: Some(self.end) };
        self.end = (self.end + tensor.bytes()).next_multiple_of(16);
        self.tensors.push(tensor);
        self.tensors.len() - 1
    }

    /// Where another tensor of the same size lies.
    pub fn over(&mut self, other: usize, shape: [usize; 3], quant: QuantParams) -> usize {
        self.tensors.push(Tensor { dtype: DType::Int8, shape, quant, offset: self.tensors[other].offset });
        self.tensors.len() - 1
    }

    pub fn float(&mut self, shape: [usize; 3]) -> usize {
        let quant = QuantParams { scale: 1.0, zero_point: 0 };
        self.tensors.push(Tensor { dtype: DType::F32, shape, quant, offset: None });
        self.tensors.len() - 1
    }

    /// The first values of row `row` of an input `[rows, values, 1]`, from `first` on, as a tensor of its own.
    pub fn part(&mut self, row: u32, first: u32, shape: [usize; 3], quant: QuantParams) -> usize {
        let count: usize = shape.iter().product();
        let cut = self.tensor([1, count, 1], self.tensors[0].quant);
        let mut op = OpParts::new(Code::Resize, "part", &[0], cut);
        op.weights = [row].into_iter().chain(first..first + count as u32).flat_map(u32::to_le_bytes).collect();
        self.ops.push(op);
        let part = self.tensor(shape, quant);
        self.ops.push(OpParts::new(Code::Reshape, "shape", &[cut], part));
        part
    }

    /// What the last operator gives for an input: bytes, or floats.
    pub fn run(&self, input: &[u8]) -> (Vec<u8>, Vec<f32>) {
        let mut ops = self.ops.clone();
        let scratch = ops.iter().map(|op| op.scratch.1).max().unwrap();
        ops.iter_mut().for_each(|op| op.scratch.0 = self.end);
        let output = ops.last().unwrap().output;
        let parts = PlanParts {
            arena_bytes: self.end + scratch,
            tensors: self.tensors.clone(),
            input: 0,
            output,
            channels_first: false,
            ops,
            names: false,
        };
        let bytes = parts.to_bytes().unwrap();
        let mut prepared = Prepared::new(Plan::parse(&bytes).unwrap(), &generic::TIER).unwrap();
        prepared.set_input_bytes(input).unwrap();
        prepared.run();
        (prepared.output().to_vec(), prepared.float_output().to_vec())
    }
}

pub fn random_bytes(rng: &mut Rng, count: usize) -> Vec<u8> {
    (0..count).map(|_| rng.bits() as u8).collect()
}

pub fn random_quant(rng: &mut Rng) -> QuantParams {
    QuantParams { scale: (0.001 + 0.1 * rng.unit()) as f32, zero_point: rng.int8() }
}

pub fn bytes(steps: &[i8]) -> Vec<u8> {
    steps.iter().map(|q| q.cast_unsigned()).collect()
}

/// Shift and multipliers of a layer.
pub fn multiply(op: &mut OpParts, factors: &[f64]) {
    op.multipliers = vec![0; factors.len()];
    let requant = Requant::fit(factors, &mut op.multipliers).unwrap();
    op.shifts = (requant.shift(), requant.left());
}

/// Weights, bias and multipliers of a layer.
pub fn weigh(op: &mut OpParts, weights: &Weights, from: QuantParams, to: QuantParams, groups: usize, depthwise: bool) {
    let Weights { outputs, depth, .. } = *weights;
    let factor = |o: usize| f64::from(from.scale) * f64::from(weights.scales[o]) / f64::from(to.scale);
    multiply(op, &(0..outputs).map(factor).collect::<Vec<_>>());
    let sum = |o: usize| weights.steps[o * depth..(o + 1) * depth].iter().map(|w| i32::from(*w)).sum::<i32>();
    op.bias = (0..outputs).map(|o| weights.bias[o] - i32::from(from.zero_point) * sum(o)).collect();
    let group = if depthwise { outputs } else { outputs / groups };
    let padded = |numbers: &[i32]| -> Vec<i32> {
        let pad = group.next_multiple_of(4) - group;
        numbers.chunks(group).flat_map(|part| part.iter().copied().chain(vec![0; pad])).collect()
    };
    op.bias = padded(&op.bias);
    op.multipliers = padded(&op.multipliers);
    op.weights = if depthwise { depthwise_bytes(weights) } else { conv_bytes(weights, groups) };
}

/// "byte ((o / 4) · (K / 4) + k / 4) · 16 + (o mod 4) · 4 + k mod 4", every group's outputs rounded up.
fn conv_bytes(weights: &Weights, groups: usize) -> Vec<u8> {
    let (group, k_all) = (weights.outputs / groups, weights.depth.next_multiple_of(4));
    let size = group.next_multiple_of(4) * k_all;
    let mut out = vec![0; groups * size];
    for o in 0..weights.outputs {
        for k in 0..weights.depth {
            let (start, o_in) = (o / group * size, o % group);
            let place = ((o_in / 4) * (k_all / 4) + k / 4) * 16 + o_in % 4 * 4 + k % 4;
            out[start + place] = weights.steps[o * weights.depth + k].cast_unsigned();
        }
    }
    out
}

/// "blocks of 4 channels; within one, pairs of taps (a, b) as 8 bytes a₀ a₁ b₀ b₁ a₂ a₃ b₂ b₃".
fn depthwise_bytes(weights: &Weights) -> Vec<u8> {
    let (taps, channels) = (weights.depth, weights.outputs);
    let pairs = taps.div_ceil(2);
    let mut out = vec![0; channels.div_ceil(4) * pairs * 8];
    for c in 0..channels {
        for tap in 0..taps {
            let within = [[0, 1, 4, 5], [2, 3, 6, 7]][tap % 2][c % 4];
            out[(c / 4 * pairs + tap / 2) * 8 + within] = weights.steps[c * taps + tap].cast_unsigned();
        }
    }
    out
}

/// The numbers of an Add, and how far (in steps) its rounded multipliers may be off.
pub fn add(op: &mut OpParts, from: [QuantParams; 2], to: QuantParams) -> f64 {
    let factors = from.map(|quant| f64::from(quant.scale) / f64::from(to.scale));
    let fits = |shift: &i32| factors.iter().all(|f| (f * f64::from(1 << shift)).round() <= 32767.0);
    let shift = (1..=22).rev().find(fits).unwrap();
    let unit = f64::from(1 << shift);
    let [ma, mb] = factors.map(|f| (f * unit).round() as i32);
    let zeros = ma * i32::from(from[0].zero_point) + mb * i32::from(from[1].zero_point);
    op.numbers = ((mb << 16) | ma, (1 << (shift - 1)) + (i32::from(to.zero_point) << shift) - zeros);
    op.shifts = (shift as u8, 0);
    let off = |factor: f64, m: i32| 255.0 * (factor - f64::from(m) / unit).abs();
    off(factors[0], ma) + off(factors[1], mb)
}
