//! Writes plans operator by operator, with random data and a random order in the arena.

use std::vec;
use std::vec::Vec;

use super::rng::{Rng, Values};
use crate::plan::format::ALIGN;
use crate::plan::{Code, DType, OpParts, PlanParts, Requant, Tensor};
use crate::quant::QuantParams;

/// A plan that grows at its end. Tensors are named by their index.
#[derive(Debug)]
pub struct Builder {
    /// Source of everything random.
    pub rng: Rng,
    tensors: Vec<Tensor>,
    /// Slot of the arena that each tensor lies in.
    slot_of: Vec<Option<usize>>,
    slots: Vec<Slot>,
    ops: Vec<OpParts>,
    scratch_of: Vec<Option<usize>>,
}

#[derive(Debug)]
struct Slot {
    bytes: usize,
    free: bool,
}

impl Builder {
    /// The plan's input is tensor 0.
    pub fn new(rng: Rng, input: [usize; 3]) -> Self {
        let mut builder = Self::empty(rng);
        builder.tensor(input);
        builder
    }

    /// As [`Builder::new`], with an input in f16.
    pub fn half(rng: Rng, input: [usize; 3]) -> Self {
        let mut builder = Self::empty(rng);
        builder.half_tensor(input);
        builder
    }

    fn empty(rng: Rng) -> Self {
        let (tensors, slot_of, slots, ops, scratch_of) = (vec![], vec![], vec![], vec![], vec![]);
        Self { rng, tensors, slot_of, slots, ops, scratch_of }
    }

    /// Shape of a tensor.
    pub fn shape(&self, tensor: usize) -> [usize; 3] {
        self.tensors[tensor].shape
    }

    /// Scale and zero point of a tensor.
    pub fn quant(&self, tensor: usize) -> QuantParams {
        self.tensors[tensor].quant
    }

    /// A new int8 tensor in memory of its own, with a zero point that is often extreme.
    pub fn tensor(&mut self, shape: [usize; 3]) -> usize {
        let quant = self.random_quant();
        self.tensor_with(shape, quant)
    }

    /// A new int8 tensor in memory of its own.
    pub fn tensor_with(&mut self, shape: [usize; 3], quant: QuantParams) -> usize {
        let slot = self.slot(shape.iter().product());
        self.push(Tensor { dtype: DType::Int8, shape, quant, offset: Some(0) }, Some(slot))
    }

    /// A new f16 tensor in memory of its own.
    pub fn half_tensor(&mut self, shape: [usize; 3]) -> usize {
        let slot = self.slot(2 * shape.iter().product::<usize>());
        let quant = QuantParams { scale: 1.0, zero_point: 0 };
        self.push(Tensor { dtype: DType::F16, shape, quant, offset: Some(0) }, Some(slot))
    }

    /// A new tensor of the same type, scale and zero point as `other`, in memory of its own.
    pub fn like(&mut self, other: usize, shape: [usize; 3]) -> usize {
        match self.tensors[other].dtype {
            DType::F16 => self.half_tensor(shape),
            _ => self.tensor_with(shape, self.quant(other)),
        }
    }

    /// A new tensor of the same type where `other` lies.
    pub fn tensor_over(&mut self, other: usize, shape: [usize; 3], quant: QuantParams) -> usize {
        let slot = self.slot_of[other].unwrap();
        let dtype = self.tensors[other].dtype;
        let bytes = &mut self.slots[slot].bytes;
        *bytes = (dtype.bytes() * shape.iter().product::<usize>()).max(*bytes);
        self.push(Tensor { dtype, shape, quant, offset: Some(0) }, Some(slot))
    }

    /// A new tensor of floats in the caller's output.
    pub fn float_tensor(&mut self, shape: [usize; 3]) -> usize {
        let quant = QuantParams { scale: 1.0, zero_point: 0 };
        self.push(Tensor { dtype: DType::F32, shape, quant, offset: None }, None)
    }

    /// The output of an operator on `input`: where the input lies, or in memory of its own.
    pub fn output(&mut self, input: usize, shape: [usize; 3], in_place: bool) -> usize {
        let quant = self.random_quant();
        if in_place { self.tensor_over(input, shape, quant) } else { self.tensor_with(shape, quant) }
    }

    /// Nothing reads `tensor` any more: others may lie there.
    pub fn release(&mut self, tensor: usize) {
        if let Some(slot) = self.slot_of[tensor] {
            self.slots[slot].free = true;
        }
    }

    /// Appends an operator that wants `scratch` bytes, which lie apart from all that is in use.
    pub fn op(&mut self, op: OpParts, scratch: usize) -> usize {
        let slot = (scratch > 0).then(|| self.slot(scratch));
        if let Some(slot) = slot {
            self.slots[slot].free = true;
        }
        self.scratch_of.push(slot);
        let output = op.output;
        self.ops.push(OpParts { scratch: (0, scratch), ..op });
        output
    }

    /// A tensor of any shape that depends on the plan's input: its first value, repeated.
    pub fn source(&mut self, shape: [usize; 3]) -> usize {
        let elements: usize = shape.iter().product();
        let [.., channels] = self.shape(0);
        assert_eq!(channels, 1, "a source takes an input of one channel");
        let quant = self.quant(0);
        let row = self.like(0, [1, elements, 1]);
        let maps = vec![0; 4 * (1 + elements)];
        self.op(OpParts { weights: maps, ..OpParts::new(Code::Resize, "source", &[0], row) }, 0);
        // The same bytes, so that the next operator may change them in place.
        let shaped = self.tensor_over(row, shape, quant);
        self.op(OpParts { in_place: true, ..OpParts::new(Code::Reshape, "source shape", &[row], shaped) }, 0)
    }

    /// The plan, the last operator's output being its output.
    pub fn finish(mut self) -> PlanParts {
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, self.rng.below(index + 1));
        }
        let mut offsets = vec![0; self.slots.len()];
        let mut end: usize = 0;
        for slot in order {
            let start = end.next_multiple_of(ALIGN) + ALIGN * self.rng.below(3);
            offsets[slot] = start;
            end = start + self.slots[slot].bytes;
        }
        for (tensor, slot) in self.tensors.iter_mut().zip(&self.slot_of) {
            if let Some(slot) = slot {
                tensor.offset = Some(offsets[*slot]);
            }
        }
        for (op, slot) in self.ops.iter_mut().zip(&self.scratch_of) {
            if let Some(slot) = slot {
                op.scratch.0 = offsets[*slot];
            }
        }
        let output = self.ops.last().unwrap().output;
        PlanParts {
            arena_bytes: end,
            tensors: self.tensors,
            input: 0,
            output,
            channels_first: self.rng.once_in(2),
            ops: self.ops,
            names: true,
        }
    }

    /// A scale and a zero point, the latter extreme half of the time.
    pub fn random_quant(&mut self) -> QuantParams {
        let zero_point =
            if self.rng.once_in(2) { self.rng.int8() } else { self.rng.pick(&[i8::MIN, i8::MAX, 0, -1, 1]) };
        QuantParams { scale: (0.001 + 0.1 * self.rng.unit()) as f32, zero_point }
    }

    /// Least and greatest output: all, from the zero point on as after a ReLU, or any.
    pub fn random_bounds(&mut self, zero_point: i8) -> (i8, i8) {
        match self.rng.below(4) {
            0 => (zero_point, i8::MAX),
            1 => {
                let (a, b) = (self.rng.int8(), self.rng.int8());
                (a.min(b), a.max(b))
            }
            _ => (i8::MIN, i8::MAX),
        }
    }

    /// Shifts and `count` multipliers for accumulators of about `typical` size: what a real layer has, or extreme ones.
    pub fn random_requant(&mut self, count: usize, typical: f64) -> ((u8, u8), Vec<i32>) {
        let rng = &mut self.rng;
        let mut multipliers = vec![0; count];
        let factor = 45.0 / typical.max(1.0);
        if !rng.once_in(3) {
            let factors: Vec<f64> = (0..count).map(|_| factor * (0.2 + 1.6 * rng.unit())).collect();
            let requant = Requant::fit(&factors, &mut multipliers).unwrap();
            return ((requant.shift(), requant.left()), multipliers);
        }
        for multiplier in &mut multipliers {
            *multiplier = match rng.below(8) {
                0 => 0,
                1 => 1,
                2 | 3 => i32::MAX,
                _ => (rng.bits() >> 33) as i32,
            };
        }
        let fitting = (31.0 - factor.log2()).round().clamp(33.0, 54.0) as u8;
        let shift = match rng.below(4) {
            0 => rng.between(33, 54) as u8,
            1 => rng.pick(&[33, 54]),
            _ => fitting,
        };
        let left = if rng.once_in(3) { rng.between(1, 24) as u8 } else { 0 };
        ((shift, left), multipliers)
    }

    /// A bias for accumulators of about `typical` size; rarely such that they wrap.
    pub fn random_bias(&mut self, count: usize, typical: f64) -> Vec<i32> {
        let rng = &mut self.rng;
        let extreme = rng.once_in(6);
        let typical = typical.min(f64::from(1 << 30)) as i64;
        let one = |rng: &mut Rng| match rng.below(3) {
            0 if extreme => i32::MIN,
            1 if extreme => i32::MAX,
            _ => rng.between(-typical, typical) as i32,
        };
        (0..count).map(|_| one(rng)).collect()
    }

    /// Weights of one kind.
    pub fn random_weights(&mut self, count: usize) -> Vec<i8> {
        let values = Values::of_weights(&mut self.rng);
        (0..count).map(|_| values.next(&mut self.rng)).collect()
    }

    fn slot(&mut self, bytes: usize) -> usize {
        let free = self.slots.iter().position(|slot| slot.free);
        if let Some(index) = free {
            let slot = &mut self.slots[index];
            *slot = Slot { bytes: slot.bytes.max(bytes), free: false };
            return index;
        }
        self.slots.push(Slot { bytes, free: false });
        self.slots.len() - 1
    }

    fn push(&mut self, tensor: Tensor, slot: Option<usize>) -> usize {
        if let Some(slot) = slot {
            self.slots[slot].free = false;
        }
        self.tensors.push(tensor);
        self.slot_of.push(slot);
        self.tensors.len() - 1
    }
}
