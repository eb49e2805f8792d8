//! Poolings.

use super::values::{SIZE, clamp, store, widen};
use crate::kernels::generic::conv::{row_and_column, source};
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op};

/// Largest value of a window.
pub static MAX_POOL: Kernel = Kernel::with_workspace(Code::MaxPool16, workspace_bytes, max_pool);
/// Mean of a window.
pub static AVERAGE_POOL: Kernel = Kernel::with_workspace(Code::AveragePool16, workspace_bytes, average_pool);

/// One f32 a channel.
fn workspace_bytes(op: &Op<'_>) -> usize {
    op.output.channels() * 4
}

/// `out = finish(fold over the values under the window that lie inside the input, their number)`, channel by channel.
fn pool(
    op: &Op<'_>,
    memory: &mut Memory<'_>,
    start: f32,
    fold: impl Fn(f32, f32) -> f32,
    finish: impl Fn(f32, usize) -> f32,
) {
    let (channels, width, taps) = (op.output.channels(), op.output.width(), op.window.taps());
    let (input, output, states) = memory.pair_and_workspace(op.input().range(), op.output.range());
    let (input, bounds) = (input.as_chunks::<SIZE>().0, op.bounds());
    let states = states.as_chunks_mut().0;
    for (index, pixel) in output.as_chunks_mut::<SIZE>().0.chunks_exact_mut(channels.max(1)).enumerate() {
        let at = row_and_column(index, width);
        states.iter_mut().for_each(|state| *state = start.to_ne_bytes());
        let mut count = 0;
        for place in (0..taps).filter_map(|tap| source(&op.window, at, tap, op.input().shape)) {
            let values = input.get(place * channels..).unwrap_or_default();
            for ((state, value), _) in states.iter_mut().zip(values).zip(0..channels) {
                *state = fold(f32::from_ne_bytes(*state), widen(*value)).to_ne_bytes();
            }
            count += 1;
        }
        for (out, state) in pixel.iter_mut().zip(states.iter()) {
            store(out, clamp(finish(f32::from_ne_bytes(*state), count), bounds));
        }
    }
}

fn max_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    pool(op, memory, f32::NEG_INFINITY, |greatest, x| if x > greatest { x } else { greatest }, |greatest, _| greatest);
}

fn average_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    let all = (op.shift == 1).then_some(op.window.taps());
    pool(op, memory, 0.0, |sum, x| sum + x, |sum, count| sum / all.unwrap_or(count) as f32);
}
