//! One row of activations by all weights: as fast as weights come, converted on the way.

use super::values::{Bounds, EIGHT, SLACK_BYTES, floats, narrow_some, numbers, widen, widen8};
use super::vector::{Eight, add, all, multiply_add, zero};
use crate::kernels::Memory;
use crate::plan::Op;

/// The row in f32.
pub(super) fn workspace_bytes(op: &Op<'_>) -> usize {
    op.depth() * 4 + SLACK_BYTES
}

/// A dense layer, or a pointwise convolution of one pixel.
pub(super) fn row(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: this kernel is reached only through its tiers, which are handed out where the processor has all of it.
    unsafe { run(op, memory) }
}

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
fn run(op: &Op<'_>, memory: &mut Memory<'_>) {
    let depth = op.depth();
    let Some(values) = floats(memory.workspace).get_mut(..depth).filter(|_| depth > 0) else { return };
    widen(memory.arena.get(op.input().range()).unwrap_or_default(), values);
    let output = memory.arena.get_mut(op.output.range()).unwrap_or_default();
    let bounds = Bounds::new(op.bounds());
    let (mut weights, mut first) = (op.weights, 0);
    let mut output = output.chunks_mut(EIGHT);
    while output.len() > 0 {
        let panels = match output.len() {
            1 => 1,
            2 | 3 => 2,
            _ => 4,
        };
        let Some((own, rest)) = weights.split_at_checked(panels * depth * EIGHT) else { return };
        weights = rest;
        let own = own.as_chunks().0;
        // Eight sums that do not wait for each other.
        match panels {
            1 => store(sums::<1, 8>(values, own), op.bias, first, bounds, &mut output),
            2 => store(sums::<2, 4>(values, own), op.bias, first, bounds, &mut output),
            _ => store(sums::<4, 2>(values, own), op.bias, first, bounds, &mut output),
        }
        first += panels * 8;
    }
}

/// The products of `values` with `PANELS` panels, each panel's on `WAYS` sums in turn.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
fn sums<const PANELS: usize, const WAYS: usize>(values: &[f32], weights: &[[u8; EIGHT]]) -> [Eight; PANELS] {
    let mut panels = [&[][..]; PANELS];
    for (panel, own) in panels.iter_mut().zip(weights.chunks_exact(values.len())) {
        *panel = own;
    }
    let mut sums = [[zero(); WAYS]; PANELS];
    let (whole, rest) = values.as_chunks::<WAYS>();
    for (index, values) in whole.iter().enumerate() {
        for (sums, panel) in sums.iter_mut().zip(panels) {
            let Some(weights) = panel.get(index * WAYS..).and_then(|from| from.first_chunk::<WAYS>()) else { continue };
            for ((sum, value), weights) in sums.iter_mut().zip(values).zip(weights) {
                *sum = multiply_add(all(*value), widen8(weights), *sum);
            }
        }
    }
    let mut out = [zero(); PANELS];
    for ((out, sums), panel) in out.iter_mut().zip(sums).zip(panels) {
        for (value, weights) in rest.iter().zip(panel.iter().skip(whole.len() * WAYS)) {
            *out = multiply_add(all(*value), widen8(weights), *out);
        }
        for sum in sums {
            *out = add(*out, sum);
        }
    }
    out
}

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
fn store<'m, const PANELS: usize>(
    sums: [Eight; PANELS],
    bias: &[u8],
    first: usize,
    bounds: Bounds,
    output: &mut impl Iterator<Item = &'m mut [u8]>,
) {
    for ((index, sum), to) in sums.into_iter().enumerate().zip(output) {
        narrow_some(to, bounds.clamp(add(sum, numbers(bias, first + index * 8))));
    }
}
