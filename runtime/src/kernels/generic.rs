//! Portable kernels in safe code, written so that the compiler can use whatever vector unit the target has.
//!
//! [`TIER`] is the specification of every int8 operator; f16 operators are in [`half`]; [`dots_centred`] serves the tuner.

mod conv;
pub(super) mod elementwise;
mod float;
#[cfg(feature = "f16")]
pub mod half;
mod pool;
mod shape;

use super::Tier;

pub use conv::{CONV, DENSE, DEPTHWISE};
#[cfg(target_arch = "aarch64")]
pub(crate) use elementwise::multipliers;
pub use elementwise::{ADD, MUL, SOFTMAX, TABLE};
pub use float::{DENSE_FLOAT, DEQUANTIZE, MEAN_FLOAT, SOFTMAX_FLOAT, halve, quantize};
pub use pool::{AVERAGE_POOL, MAX_POOL};
pub use shape::{CONCAT, PAD, RESHAPE, RESIZE, TRANSPOSE};

/// Every operator, for any processor.
pub static TIER: Tier = Tier {
    name: "generic",
    kernels: kernels![
        half; &CONV, &DEPTHWISE, &DENSE, &ADD, &MUL, &MAX_POOL, &AVERAGE_POOL, &TABLE, &DENSE_FLOAT, &MEAN_FLOAT
    ],
    quantize,
    halve,
};

/// Rows of one tile of [`dots_centred`].
pub const TILE: usize = 16;
/// Values that are multiplied at a time: two int16 products a lane of a 128-bit register.
const WIDTH: usize = 8;
/// Blocks of [`WIDTH`] values of a row that a tile holds at a time, as int16: 2 KB a tile.
const TILE_BLOCKS: usize = 8;
/// Rows that are multiplied with one row at a time.
const TOGETHER: usize = 4;

type WideRow = [[i16; WIDTH]; TILE_BLOCKS];

/// The products of [`dot_centred`] of each of up to [`TILE`] rows with each of up to [`TILE`] others, `out[i][j]` for `a[i]`, `b[j]`.
/// With `triangle` those with j ≤ i suffice; others may be there or 0.
///
/// Every row is widened to int16 once a tile rather than once a product.
pub fn dots_centred(a: &[&[u8]], b: &[&[u8]], zero_point: i8, triangle: bool, out: &mut [[i64; TILE]; TILE]) {
    let z = i16::from(zero_point);
    *out = [[0; TILE]; TILE];
    let elements = a.iter().chain(b).map(|row| row.len()).max().unwrap_or(0);
    let mut wide_a = [[[0i16; WIDTH]; TILE_BLOCKS]; TILE];
    let mut wide_b = wide_a;
    for block in (0..elements).step_by(BLOCK) {
        let mut sums = [[0i32; TILE]; TILE];
        for start in (block..elements.min(block + BLOCK)).step_by(WIDTH * TILE_BLOCKS) {
            widen(a, start, z, &mut wide_a);
            widen(b, start, z, &mut wide_b);
            for (i, (a, sums)) in wide_a.iter().zip(&mut sums).take(a.len()).enumerate() {
                let count = if triangle { b.len().min(i + 1) } else { b.len() };
                let fours = wide_b.as_chunks::<TOGETHER>().0.iter().zip(sums.as_chunks_mut::<TOGETHER>().0);
                for (b, sums) in fours.take(count.div_ceil(TOGETHER)) {
                    add_dots(a, b, sums);
                }
            }
        }
        for (out, sum) in out.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            *out += i64::from(*sum);
        }
    }
}

/// Differences to `z` of the elements from `start` on; zeros beyond a row's end.
fn widen(rows: &[&[u8]], start: usize, z: i16, out: &mut [WideRow; TILE]) {
    for (row, out) in rows.iter().zip(out) {
        let row = row.get(start..).unwrap_or_default();
        if let Some(whole) = row.first_chunk::<{ WIDTH * TILE_BLOCKS }>() {
            widen_values(whole, z, out.as_flattened_mut());
        } else {
            *out = [[0; WIDTH]; TILE_BLOCKS];
            widen_values(row, z, out.as_flattened_mut());
        }
    }
}

#[inline(always)]
fn widen_values(row: &[u8], z: i16, out: &mut [i16]) {
    for (out, &q) in out.iter_mut().zip(row) {
        *out = i16::from(q.cast_signed()).wrapping_sub(z);
    }
}

/// Adds the products of one row with several. Values stand in lanes that are summed last, so that compilers may add neighbours
/// first, as multiply-and-add instructions do; on its own (not inlined) the loop is seen for what it is.
#[inline(never)]
fn add_dots(a: &WideRow, b: &[WideRow; TOGETHER], sums: &mut [i32; TOGETHER]) {
    let mut dots = [0; TOGETHER];
    for (b, dot) in b.iter().zip(&mut dots) {
        let mut lanes = [0i32; WIDTH];
        for (a, b) in a.iter().zip(b) {
            for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
                *lane = lane.wrapping_add(i32::from(a).wrapping_mul(i32::from(b)));
            }
        }
        *dot = lanes.iter().fold(0i32, |sum, &lane| sum.wrapping_add(lane));
    }
    for (sum, dot) in sums.iter_mut().zip(dots) {
        *sum = sum.wrapping_add(dot);
    }
}

/// Elements whose products (255² at most) an int32 sum holds for certain.
const BLOCK: usize = 16_384;

/// Σ (aᵢ − z)·(bᵢ − z) over int8 rows as they are stored, in bytes. Exact for rows of up to 2^40 elements; rows of different
/// length are taken up to the end of the shorter.
///
/// ```
/// use hone_runtime::kernels::generic::dot_centred;
/// let (a, b) = ([-128i8, 127], [127i8, -128]);
/// assert_eq!(dot_centred(&a.map(i8::cast_unsigned), &b.map(i8::cast_unsigned), 0), -2 * 127 * 128);
/// assert_eq!(dot_centred(&[3, 5], &[4, 4], 3), 2);
/// ```
#[must_use]
pub fn dot_centred(a: &[u8], b: &[u8], zero_point: i8) -> i64 {
    let z = i16::from(zero_point);
    a.chunks(BLOCK).zip(b.chunks(BLOCK)).map(|(a, b)| i64::from(dot_block(a, b, z))).sum()
}

/// |xᵢ − z| ≤ 255, so that differences fit int16 and a block's sum of products fits int32.
fn dot_block(a: &[u8], b: &[u8], z: i16) -> i32 {
    a.iter().zip(b).fold(0i32, |sum, (&x, &y)| {
        let (x, y) = (i16::from(x.cast_signed()).wrapping_sub(z), i16::from(y.cast_signed()).wrapping_sub(z));
        sum.wrapping_add(i32::from(x).wrapping_mul(i32::from(y)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extreme_rows_do_not_overflow() {
        let (low, high) = ([0x80; 65_536], [0x7f; 65_536]);
        assert_eq!(dot_centred(&low, &low, 127), 65_536 * 255 * 255);
        assert_eq!(dot_centred(&high, &high, -128), 65_536 * 255 * 255);
    }

    #[test]
    fn a_tile_holds_the_single_products() {
        let rows: std::vec::Vec<std::vec::Vec<u8>> =
            (0..13u32).map(|i| (0..300u32).map(|d| (i * 7919 + d * d * 31 + d) as u8).collect()).collect();
        let rows: std::vec::Vec<&[u8]> = rows.iter().map(std::vec::Vec::as_slice).collect();
        for (a, b, z) in [(&rows[..8], &rows[5..13], -128), (&rows[..3], &rows[3..8], 127), (&rows[..1], &rows[..1], 0)]
        {
            for triangle in [false, true] {
                let mut out = [[7; TILE]; TILE];
                dots_centred(a, b, z, triangle, &mut out);
                for (i, (a, out)) in a.iter().zip(&out).enumerate() {
                    for (j, (b, &out)) in b.iter().zip(out).enumerate() {
                        assert!(out == dot_centred(a, b, z) || (triangle && j > i));
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn equals_the_sum_in_wide_integers(
            rows in proptest::collection::vec((any::<i8>(), any::<i8>()), 0..300), z in any::<i8>()
        ) {
            let (a, b): (std::vec::Vec<u8>, std::vec::Vec<u8>) = rows.iter().map(|&(x, y)| (x.cast_unsigned(), y.cast_unsigned())).unzip();
            let wide: i64 = rows.iter().map(|&(x, y)| (i64::from(x) - i64::from(z)) * (i64::from(y) - i64::from(z))).sum();
            prop_assert_eq!(dot_centred(&a, &b, z), wide);
        }
    }
}
