//! Every kernel of a tier against [`generic`](super::generic), bit for bit, those in f16 within what their definition allows: declaring a
//! tier instantiates its tests.
//!
//! ```no_run
//! // In a test crate; `None` on a processor without what the tier needs leaves the tests out with a notice.
//! hone_runtime::kernel_suite!(generic, &hone_runtime::kernels::generic::TIER);
//! ```
//!
//! Cases are tables of real layers and, beyond them, random shapes that grow from case to case; the name of a failing one has its
//! seed. Buffers have exactly the size asked for and lie between pages that fault ([`Fence`]); what a kernel may not write is compared
//! before and after; and every case runs twice, with other bytes wherever the answer may not depend on them.
//! After a fault, `HONE_SUITE_TRACE=1` prints the name of each case before it runs.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails is to panic"
)]

mod build;
mod cases;
mod fence;
mod half;
mod layer;
mod model;
mod rng;

use std::io::Write;
use std::vec::Vec;
use std::{eprintln, format, vec};

pub use build::Builder;
pub use cases::{Case, Group, case};
pub use fence::{Fence, Side};
pub use layer::{Slide, values};
pub use model::{half_model, model};
pub use rng::{Rng, Values};

use super::{Kernel, Memory, Tier, generic};
use crate::plan::{Code, DType, Op, Plan, Tensor};

/// The tests of a tier, one a group of operators. The second argument is a `&'static Tier` or an `Option` of one.
#[macro_export]
macro_rules! kernel_suite {
    ($name:ident, $tier:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "for the tier's expression")]
            use super::*;
            use $crate::kernels::suite::{Group, run_complete, run_group, run_halve, run_models, run_quantize};

            $crate::kernel_suite!(@groups $tier;
                conv Conv, pointwise Pointwise, depthwise Depthwise, dense Dense, dense_float DenseFloat, add Add, mul Mul,
                pools Pools, tables_and_softmax Tables, movement Movement,
                half_conv HalfConv, half_pointwise HalfPointwise, half_depthwise HalfDepthwise, half_dense HalfDense,
                half_elementwise HalfElementwise, half_pools HalfPools, half_functions HalfFunctions,
                half_attention HalfAttention, half_movement HalfMovement);

            #[test]
            fn complete() {
                run_complete(::core::convert::Into::into($tier));
            }

            #[test]
            fn quantize() {
                run_quantize(::core::convert::Into::into($tier));
            }

            #[test]
            fn halve() {
                run_halve(::core::convert::Into::into($tier));
            }

            #[test]
            fn models() {
                run_models(::core::convert::Into::into($tier));
            }
        }
    };
    (@groups $tier:expr; $($test:ident $group:ident),*) => {
        $(
            #[test]
            fn $test() {
                run_group(::core::convert::Into::into($tier), Group::$group);
            }
        )*
    };
}

/// Every operator has a kernel: cases of one without would be left out.
///
/// # Panics
/// With the operators that have none, or more than one.
pub fn run_complete(tier: Option<&'static Tier>) {
    let Some(tier) = tier else { return };
    for code in Code::ALL {
        let count = tier.kernels.iter().filter(|kernel| kernel.code == *code).count();
        assert_eq!(count, 1, "{}: kernels for {code:?}", tier.name);
    }
}

/// Runs all cases of a group; a tier without a kernel for them has none.
pub fn run_group(tier: Option<&'static Tier>, group: Group) {
    let Some(tier) = tier else { return eprintln!("notice: this processor has not what the tier needs: left out") };
    let mut bench = Bench::default();
    for index in 0..group.cases() {
        let case = case(group, index);
        bench.check(tier, &case);
    }
}

/// Runs whole random models, each operator on what the one before gave.
pub fn run_models(tier: Option<&'static Tier>) {
    let Some(tier) = tier else { return };
    let mut bench = Bench::default();
    for seed in 0..60 {
        for (kind, parts) in [("model", model(seed)), ("f16 model", half_model(seed))] {
            let ops = 0..parts.ops.len();
            bench.check(tier, &Case { name: format!("{kind} {seed}"), parts, ops });
        }
    }
}

/// The buffers that cases run in, used again and again.
#[derive(Debug, Default)]
pub struct Bench {
    plan: Fence,
    arena: Fence,
    packed: Fence,
    workspace: Fence,
    output: Fence,
}

/// What a run left behind.
struct Outcome {
    arena: Vec<u8>,
    output: Vec<f32>,
}

impl Bench {
    /// Compares the operators `case.ops` of a tier with generic's, each on random inputs.
    ///
    /// # Panics
    /// With the case's name and the operator, where they differ.
    pub fn check(&mut self, tier: &'static Tier, case: &Case) {
        if std::env::var_os("HONE_SUITE_TRACE").is_some() {
            // Not eprintln, which the test harness keeps until the end.
            let line = format!("{}: {}\n", tier.name, case.name);
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        }
        let bytes = case.parts.to_bytes().unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let mut rng = Rng::new(bytes.len() as u64);
        let mut state = vec![0; case.parts.arena_bytes];
        state.iter_mut().for_each(|byte| *byte = rng.bits() as u8);
        let plan = Plan::parse(&bytes).unwrap();
        let input = plan.input();
        state[input.range()].copy_from_slice(&data(&mut rng, &input));
        let mut floats = vec![0.0; float_elements(&plan)];
        for index in case.ops.clone() {
            let op = plan.op(index).unwrap();
            let Some(kernel) = tier.kernel(op.code) else { continue };
            for part in op.inputs().filter(|_| case.ops.len() == 1) {
                let fresh = data(&mut rng, &part);
                state[part.range()].copy_from_slice(&fresh);
            }
            let wanted = reference(&op, &state, &floats);
            for side in [Side::Behind, Side::Before] {
                let name = format!("{}: {}: operator {index}, {:?}", tier.name, case.name, op.code);
                let got = self.run(kernel, &bytes, index, &state, &floats, side, &name);
                if op.code.is_f16() {
                    half::compare(&op, &state, &wanted.arena, &got.arena, &name);
                    compare_floats(&op, &wanted, &got, &name);
                } else {
                    compare(&op, &state, &wanted, &got, &name);
                }
            }
            state.copy_from_slice(&wanted.arena);
            floats.copy_from_slice(&wanted.output);
        }
    }

    /// Runs one operator between fences; everything that its answer may not depend on is other garbage on either side.
    #[allow(clippy::too_many_arguments, reason = "all of them differ from case to case")]
    fn run(
        &mut self,
        kernel: &Kernel,
        bytes: &[u8],
        index: usize,
        state: &[u8],
        floats: &[f32],
        side: Side,
        name: &str,
    ) -> Outcome {
        let Self { plan, arena, packed, workspace, output } = self;
        let fill = if side == Side::Behind { 0x00 } else { 0xFF };
        let file = plan.get(bytes.len(), side, 0);
        file.copy_from_slice(bytes);
        let op = Plan::parse(file).unwrap().op(index).unwrap();
        let packed_bytes = packed.get((kernel.packed_bytes)(&op), side, fill);
        (kernel.pack)(&op, packed_bytes);
        let space = workspace.get((kernel.workspace_bytes)(&op), side, fill);
        let memory = arena.get(state.len(), side, 0);
        memory.copy_from_slice(state);
        if side == Side::Before {
            scramble(&op, memory);
        }
        let before = memory.to_vec();
        let out = output.floats(floats.len(), side, 0);
        out.copy_from_slice(floats);
        (kernel.run)(&op, &mut Memory { arena: memory, packed: packed_bytes, workspace: space, output: out });
        let (arena_after, output_after) = (memory.to_vec(), out.to_vec());
        let may_write = writable(&op);
        for (place, (was, is)) in before.iter().zip(&arena_after).enumerate() {
            assert!(
                was == is || may_write.iter().any(|r| r.contains(&place)),
                "{name}: wrote to byte {place} of the arena"
            );
        }
        for (what, fence) in
            [("plan", plan), ("arena", arena), ("packed", packed), ("workspace", workspace), ("output", output)]
        {
            assert!(fence.is_unharmed(), "{name}: wrote outside the {what}");
        }
        Outcome { arena: arena_after, output: output_after }
    }
}

fn float_elements(plan: &Plan<'_>) -> usize {
    let output = plan.output();
    if output.dtype == DType::F32 { output.elements() } else { 0 }
}

fn reference(op: &Op<'_>, state: &[u8], floats: &[f32]) -> Outcome {
    let (mut arena, mut output) = (state.to_vec(), floats.to_vec());
    let kernel = generic::TIER.kernel(op.code).unwrap();
    let mut workspace = vec![0; (kernel.workspace_bytes)(op)];
    (kernel.run)(op, &mut Memory { arena: &mut arena, packed: &[], workspace: &mut workspace, output: &mut output });
    Outcome { arena, output }
}

/// Random contents of a tensor.
fn data(rng: &mut Rng, tensor: &Tensor) -> Vec<u8> {
    if tensor.dtype == DType::F16 { half::values(rng, tensor.elements()) } else { values(rng, tensor.bytes()) }
}

/// Parts of the arena that an operator may write: its output, its scratch, and its first input where it works in place.
fn writable(op: &Op<'_>) -> [core::ops::Range<usize>; 3] {
    let input = if op.in_place { op.input().range() } else { 0..0 };
    [op.output.range(), op.scratch_range(), input]
}

/// Changes everything but the inputs.
fn scramble(op: &Op<'_>, arena: &mut [u8]) {
    let inputs: Vec<_> = op.inputs().map(|input| input.range()).collect();
    for (place, byte) in arena.iter_mut().enumerate() {
        if !inputs.iter().any(|range| range.contains(&place)) {
            *byte ^= 0xFF;
        }
    }
}

fn compare(op: &Op<'_>, state: &[u8], wanted: &Outcome, got: &Outcome, name: &str) {
    let range = op.output.range();
    let (width, channels) = (op.output.width(), op.output.channels() * op.output.dtype.bytes());
    for (index, (wanted, got)) in wanted.arena[range.clone()].iter().zip(&got.arena[range.clone()]).enumerate() {
        let (y, x, c) = (index / channels / width, index / channels % width, index % channels);
        assert_eq!(
            got.cast_signed(),
            wanted.cast_signed(),
            "{name}: at [{y}, {x}, {c}] of {:?}, was {}",
            op.output.shape,
            state[range.start + index].cast_signed()
        );
    }
    compare_floats(op, wanted, got, name);
}

fn compare_floats(op: &Op<'_>, wanted: &Outcome, got: &Outcome, name: &str) {
    for (index, (wanted, got)) in wanted.output.iter().zip(&got.output).enumerate() {
        assert_eq!(got.to_bits(), wanted.to_bits(), "{name}: {got} for {wanted} at {index} of {:?}", op.output.shape);
    }
}

/// Compares how the model's input is rounded to f16.
pub fn run_halve(tier: Option<&'static Tier>) {
    let Some(tier) = tier else { return };
    let (mut floats, mut bytes) = (Fence::default(), Fence::default());
    for index in 0..300 {
        let case = cases::quantize(index);
        let tensor =
            Tensor { dtype: DType::F16, quant: crate::QuantParams { scale: 1.0, zero_point: 0 }, ..case.tensor };
        let mut wanted = vec![0; tensor.bytes()];
        generic::halve(&case.values, &tensor, case.channels_first, &mut wanted);
        for side in [Side::Behind, Side::Before] {
            let input = floats.floats(case.values.len(), side, 0);
            input.copy_from_slice(&case.values);
            let out = bytes.get(wanted.len(), side, 0x55);
            (tier.halve)(input, &tensor, case.channels_first, out);
            assert_eq!(out, wanted, "{}: halve, case {index}: {case:?}", tier.name);
            assert!(bytes.is_unharmed() && floats.is_unharmed(), "{}: halve wrote beyond, case {index}", tier.name);
        }
    }
}

/// Compares how the model's input is quantized.
pub fn run_quantize(tier: Option<&'static Tier>) {
    let Some(tier) = tier else { return };
    let (mut floats, mut bytes) = (Fence::default(), Fence::default());
    for index in 0..300 {
        let case = cases::quantize(index);
        let [h, w, c] = case.tensor.shape;
        let mut wanted = vec![0; h * w * c];
        generic::quantize(&case.values, &case.tensor, case.channels_first, &mut wanted);
        for side in [Side::Behind, Side::Before] {
            let input = floats.floats(wanted.len(), side, 0);
            input.copy_from_slice(&case.values);
            let out = bytes.get(wanted.len(), side, 0x55);
            (tier.quantize)(input, &case.tensor, case.channels_first, out);
            assert_eq!(out, wanted, "{}: quantize, case {index}: {case:?}", tier.name);
            assert!(bytes.is_unharmed() && floats.is_unharmed(), "{}: quantize wrote beyond, case {index}", tier.name);
        }
    }
}
