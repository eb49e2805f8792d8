//! Poolings: up to 32 channels of a pixel at a time.

use super::values::{Bounds, EIGHT, SIZE, narrow_some, widen_some, widen8};
use super::vector::{Eight, add, all, div, max};
use crate::kernels::Memory;
use crate::plan::Op;

pub(super) fn max_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: this kernel is reached only through its tiers, which are handed out where the processor has all of it.
    unsafe { run::<true>(op, memory) }
}

pub(super) fn average_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    // SAFETY: as above.
    unsafe { run::<false>(op, memory) }
}

/// Vectors of channels that are worked on at a time.
const VECTORS: usize = 4;

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
fn run<const GREATEST: bool>(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    let ([height, width, channels], window) = (op.input().shape, op.window);
    let bounds = Bounds::new(op.bounds());
    let size = channels * SIZE;
    let divisor = (op.shift == 1).then_some(window.taps());
    // Places of one axis under the window.
    let places = |first: usize, [count, step, pad, size]: [usize; 4]| {
        let taps =
            pad.saturating_sub(first).div_ceil(step)..(pad + size).saturating_sub(first).div_ceil(step).min(count);
        taps.map(move |tap| (first + tap * step).wrapping_sub(pad))
    };
    let ([down, right], [down_step, right_step]) = (window.kernel, window.dilation.map(|step| step.max(1)));
    let ([above, left], [down_stride, right_stride]) = (window.pad, window.stride);
    let out_width = op.output.width().max(1);
    for (index, pixel) in output.chunks_exact_mut(size.max(1)).enumerate() {
        let rows = places(index / out_width * down_stride, [down, down_step, above, height]);
        let columns = places(index % out_width * right_stride, [right, right_step, left, width]);
        let count = rows.clone().count() * columns.clone().count();
        let divisor = all(divisor.unwrap_or(count) as f32);
        for (part, to) in pixel.chunks_mut(VECTORS * EIGHT).enumerate() {
            let start = if GREATEST { f32::NEG_INFINITY } else { 0.0 };
            let mut states = [all(start); VECTORS];
            for y in rows.clone() {
                for x in columns.clone() {
                    let first = (y * width + x) * size + part * VECTORS * EIGHT;
                    let from = input.get(first..first + to.len()).unwrap_or_default();
                    match from.first_chunk::<{ VECTORS * EIGHT }>() {
                        Some(all) => {
                            for (state, from) in states.iter_mut().zip(all.as_chunks().0) {
                                *state = fold::<GREATEST>(*state, widen8(from));
                            }
                        }
                        None => {
                            for (state, from) in states.iter_mut().zip(from.chunks(EIGHT)) {
                                *state = fold::<GREATEST>(*state, widen_some(from));
                            }
                        }
                    }
                }
            }
            for (state, to) in states.into_iter().zip(to.chunks_mut(EIGHT)) {
                narrow_some(to, bounds.clamp(if GREATEST { state } else { div(state, divisor) }));
            }
        }
    }
}

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
#[inline]
fn fold<const GREATEST: bool>(state: Eight, values: Eight) -> Eight {
    if GREATEST { max(values, state) } else { add(state, values) }
}
