//! Poolings and means, 16 channels at a time.

use core::arch::x86_64::*;
use core::ops::Range;

use super::simd::{Lanes, Multipliers, load16, store16, store32, unswap};
use crate::kernels::{Kernel, Memory, generic};
use crate::plan::{Code, Op};

/// Largest value of a window.
pub(super) static MAX_POOL: Kernel = Kernel::in_place(Code::MaxPool, max_pool);
/// Mean of a window, requantized.
pub(super) static AVERAGE_POOL: Kernel = Kernel::in_place(Code::AveragePool, average_pool);
/// Mean of every channel, as f32.
pub(super) static MEAN_FLOAT: Kernel = Kernel::in_place(Code::MeanFloat, mean_float);

/// Channels of a vector.
const LANES: usize = 16;

fn max_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    if op.output.channels() < LANES {
        return (generic::MAX_POOL.run)(op, memory);
    }
    // SAFETY: this kernel is reached only through its tiers, which are handed out where the processor has AVX2.
    unsafe {
        windows(op, memory, |input, window| {
            let (mut greatest, min, max) = (_mm_set1_epi8(i8::MIN), op.requant.min, op.requant.max);
            window.each(input, |values| greatest = _mm_max_epi8(greatest, values));
            _mm_min_epi8(_mm_max_epi8(greatest, _mm_set1_epi8(min)), _mm_set1_epi8(max))
        });
    }
}

/// requantize(Σ(q − zero point), multiplier for that many values).
fn average_pool(op: &Op<'_>, memory: &mut Memory<'_>) {
    if op.output.channels() < LANES {
        return (generic::AVERAGE_POOL.run)(op, memory);
    }
    let last = (op.multipliers.len() / 4).saturating_sub(1);
    // SAFETY: as above.
    unsafe {
        let lanes = Lanes::new(op.requant);
        windows(op, memory, |input, window| {
            let multiplier = Op::word(op.multipliers, window.count().saturating_sub(1).min(last));
            let multipliers = Multipliers::new(_mm256_set1_epi32(multiplier));
            let mut sums = window.sums(input, op.input().quant.zero_point);
            if lanes.shifts() {
                lanes.shift_left(&mut sums);
            }
            let [a, b] = sums.map(|sum| lanes.apply(sum, multipliers));
            _mm256_castsi256_si128(unswap(lanes.narrow(a, b, a, b)))
        });
    }
}

/// f32(Σ(q − zero point)) · multiplier over the whole map.
fn mean_float(op: &Op<'_>, memory: &mut Memory<'_>) {
    let [height, width, channels] = op.input().shape;
    if channels < LANES {
        return (generic::MEAN_FLOAT.run)(op, memory);
    }
    let input = memory.arena.get(op.input().range()).unwrap_or_default();
    let multiplier = f32::from_bits(Op::word(op.multipliers, 0).cast_unsigned());
    for channel in starts(channels) {
        let window = Window { rows: 0..height, columns: 0..width, channel, width, channels };
        // SAFETY: as above.
        let bytes = unsafe {
            let mut bytes = [[0; 32]; 2];
            for (bytes, sum) in bytes.iter_mut().zip(window.sums(input, op.input().quant.zero_point)) {
                store32(bytes, sum);
            }
            bytes
        };
        let out = memory.output.get_mut(channel..).unwrap_or_default();
        for (out, sum) in out.iter_mut().zip(bytes.as_flattened().as_chunks::<4>().0) {
            *out = i32::from_ne_bytes(*sum) as f32 * multiplier;
        }
    }
}

/// First channels of the vectors; the last begins earlier where the channels are no multiple of the lanes, and makes some results twice.
fn starts(channels: usize) -> impl Iterator<Item = usize> {
    (0..channels).step_by(LANES).map(move |start| start.min(channels - LANES))
}

/// The places of a window that lie inside the input, and 16 channels of them.
struct Window {
    rows: Range<usize>,
    columns: Range<usize>,
    channel: usize,
    width: usize,
    channels: usize,
}

impl Window {
    /// Number of places.
    fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Calls `f` with the values of every place.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn each(&self, input: &[u8], mut f: impl FnMut(__m128i)) {
        for y in self.rows.clone() {
            let first = (y * self.width + self.columns.start) * self.channels + self.channel;
            let row = input.get(first..).unwrap_or_default();
            for x in 0..self.columns.len() {
                let values = row.get(x * self.channels..).and_then(|rest| rest.first_chunk());
                f(values.map_or_else(|| _mm_setzero_si128(), |values| load16(values)));
            }
        }
    }

    /// Σ(q − zero) of every channel.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn sums(&self, input: &[u8], zero: i8) -> [__m256i; 2] {
        let mut sums = [_mm256_setzero_si256(); 2];
        // int16 holds the sum of 255 values.
        let (mut short, mut held) = (_mm256_setzero_si256(), 0);
        self.each(input, |values| {
            short = _mm256_add_epi16(short, _mm256_cvtepi8_epi16(values));
            held += 1;
            if held == 255 {
                sums = add(sums, short);
                (short, held) = (_mm256_setzero_si256(), 0);
            }
        });
        let zeros = _mm256_set1_epi32((self.count() as i32).wrapping_mul(i32::from(zero)));
        add(sums, short).map(|sum| _mm256_sub_epi32(sum, zeros))
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn add([low, high]: [__m256i; 2], short: __m256i) -> [__m256i; 2] {
    let halves = (_mm256_castsi256_si128(short), _mm256_extracti128_si256::<1>(short));
    [_mm256_add_epi32(low, _mm256_cvtepi16_epi32(halves.0)), _mm256_add_epi32(high, _mm256_cvtepi16_epi32(halves.1))]
}

/// `f` of every window and every 16 channels.
#[target_feature(enable = "avx2")]
fn windows(op: &Op<'_>, memory: &mut Memory<'_>, f: impl Fn(&[u8], &Window) -> __m128i) {
    let ([height, width, channels], [_, out_width, _]) = (op.input().shape, op.output.shape);
    let ([kernel_height, kernel_width], [down, right], [above, left]) =
        (op.window.kernel, op.window.stride, op.window.pad);
    let inside = |at: usize, border: usize, kernel: usize, size: usize| {
        at.saturating_sub(border).min(size)..(at + kernel).saturating_sub(border).min(size)
    };
    let (input, output) = memory.pair(op.input().range(), op.output.range());
    for (index, pixel) in output.chunks_exact_mut(channels).enumerate() {
        let rows = inside(index / out_width * down, above, kernel_height, height);
        let columns = inside(index % out_width * right, left, kernel_width, width);
        for channel in starts(channels) {
            let window = Window { rows: rows.clone(), columns: columns.clone(), channel, width, channels };
            let values = f(input, &window);
            if let Some(to) = pixel.get_mut(channel..).and_then(|rest| rest.first_chunk_mut()) {
                store16(to, values);
            }
        }
    }
}
