//! Poolings.

use super::conv::{row_and_column, source};
use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op};

/// Largest value of a window.
pub static MAX_POOL: Kernel = Kernel::in_place(Code::MaxPool, max_pool);
/// Mean of a window, requantized.
pub static AVERAGE_POOL: Kernel = Kernel::in_place(Code::AveragePool, average_pool);

/// `out = finish(fold over the values under the window that lie inside the input, their number)`, channel by channel.
fn pool<T: Copy>(
    op: &Op<'_>,
    memory: &mut Memory<'_>,
    start: T,
    fold: impl Fn(T, i8) -> T,
    finish: impl Fn(T, usize) -> i8,
) {
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    let (channels, width, taps) = (op.output.channels(), op.output.width(), op.window.taps());
    for (index, pixel) in output.chunks_exact_mut(channels.max(1)).enumerate() {
        let at = row_and_column(index, width);
        for (channel, out) in pixel.iter_mut().enumerate() {
            let (mut state, mut count) = (start, 0);
            for tap in 0..taps {
                let Some(place) = source(&op.window, at, tap, op.input().shape) else { continue };
                let q = input.get(place * channels + channel).copied().unwrap_or(0);
                state = fold(state, q.cast_signed());
                count += 1;
            }
            *out = finish(state, count).cast_unsigned();
        }
    }
}

fn max_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    let (min, max) = (op.requant.min, op.requant.max);
    pool(op, memory, i8::MIN, i8::max, |q, _| q.max(min).min(max));
}

/// requantize(Σ(q − zero point), multiplier for that many values).
fn average_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    let zero = i32::from(op.input().quant.zero_point);
    let last = (op.multipliers.len() / 4).saturating_sub(1);
    pool(
        op,
        memory,
        0i32,
        |sum, q| sum + i32::from(q) - zero,
        |sum, count| op.requant.apply(sum, Op::word(op.multipliers, count.saturating_sub(1).min(last))),
    );
}
