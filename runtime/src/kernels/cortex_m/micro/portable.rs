//! The inner loops in Rust: for processors without Thumb-2, and for tests of everything around them.

use super::super::instructions::{pack4, pkhbt, pkhtb, requantize, sxtb16, sxtb16_ror8};
use super::{Pair, Row, Run, Single};

/// The tier's name.
pub const NAME: &str = "cortex_m";
/// Outputs of a block that [`pair`] makes.
pub const WIDTH: usize = 2;
/// Steps of four inputs that are counted at a time.
pub const TURN: usize = 8;
/// Counts one step.
pub const PAIR_STEP: usize = 1;
/// Counts one step.
pub const SINGLE_STEP: usize = 1;

/// As `dsp::pair`.
///
/// # Safety
/// As there.
pub unsafe fn pair(layer: *const Pair, first: *mut u8, second: *mut u8) {
    // SAFETY: the caller's.
    let layer = unsafe { &*layer };
    let steps = layer.turns * TURN - layer.skip;
    let mut weights = layer.weights.cast::<[[i8; 4]; 4]>();
    for block in 0..layer.blocks {
        // SAFETY: `Pair::new` has taken the pointers from slices of that length.
        let ([b0, b1], [m0, m1]) = unsafe { (at(layer.bias, block), at(layer.multipliers, block)) };
        let [mut a, mut b, mut c, mut d] = [b0, b0, b1, b1];
        let mut patches = layer.patches.cast::<[i16; 8]>();
        for _ in 0..steps {
            // SAFETY: as above, and the patches have eight int16 a step.
            let ([w, v, ..], [x0, x2, x1, x3, y0, y2, y1, y3]) = unsafe { (*weights.cast::<[[i8; 4]; 2]>(), *patches) };
            for (((x, y), w), v) in [x0, x1, x2, x3].into_iter().zip([y0, y1, y2, y3]).zip(w).zip(v) {
                let [x, y, w, v] = [i32::from(x), i32::from(y), i32::from(w), i32::from(v)];
                a = a.wrapping_add(x * w);
                b = b.wrapping_add(y * w);
                c = c.wrapping_add(x * v);
                d = d.wrapping_add(y * v);
            }
            (weights, patches) = (weights.wrapping_add(1), patches.wrapping_add(1));
        }
        for (out, sums) in [(second, [b, d]), (first, [a, c])] {
            let [a, b] = sums;
            let q = |sum, multiplier| requantize(sum, multiplier, layer.high_word, layer.shift) as u8;
            // SAFETY: both rows have room for all outputs.
            unsafe { out.add(4 * block).cast::<[u8; 2]>().write([q(a, m0), q(b, m1)]) };
        }
    }
}

/// Two numbers of block `block`.
///
/// # Safety
/// They are there.
unsafe fn at(table: *const i32, block: usize) -> [i32; 2] {
    // SAFETY: the caller's.
    unsafe { *table.add(4 * block).cast() }
}

/// As `dsp::single`.
///
/// # Safety
/// As there.
pub unsafe fn single(layer: *const Single, input: *const u8, out: *mut u8) {
    // SAFETY: the caller's.
    let layer = unsafe { &*layer };
    let steps = layer.turns * TURN - layer.skip;
    let mut weights = layer.weights.cast::<[[i8; 4]; 4]>();
    for block in 0..layer.blocks {
        // SAFETY: `Single::new` has taken the pointers from slices of that length.
        let (mut sums, multipliers) = unsafe {
            (*layer.bias.add(4 * block).cast::<[i32; 4]>(), *layer.multipliers.add(4 * block).cast::<[i32; 4]>())
        };
        let mut row = input.cast::<[i8; 4]>();
        for _ in 0..steps {
            // SAFETY: as above, and the caller gives the row.
            let (w, x) = unsafe { (*weights, *row) };
            for (sum, w) in sums.iter_mut().zip(w) {
                for (x, w) in x.into_iter().zip(w) {
                    *sum = sum.wrapping_add(i32::from(x) * i32::from(w));
                }
            }
            (weights, row) = (weights.wrapping_add(1), row.wrapping_add(1));
        }
        if layer.shift == 0 {
            // SAFETY: for sums the caller gives room for four words a block.
            unsafe { out.cast::<[i32; 4]>().add(block).write(sums) };
            continue;
        }
        for (output, (sum, multiplier)) in sums.into_iter().zip(multipliers).enumerate() {
            // SAFETY: the caller gives room for four bytes a block.
            unsafe { *out.add(4 * block + output) = requantize(sum, multiplier, layer.high_word, layer.shift) as u8 };
        }
    }
}

/// As `dsp::expand`.
///
/// # Safety
/// As there.
pub unsafe fn expand(from: *const u8, to: *mut u32, run: *const Run) {
    // SAFETY: the caller's.
    let run = unsafe { &*run };
    for row in 0..run.rows {
        for word in 0..run.len {
            // SAFETY: the caller's.
            unsafe {
                let x = *from.add(row * run.from + 4 * word).cast::<u32>();
                let to = to.byte_add(row * run.to).add(4 * word);
                to.write(sxtb16(x));
                to.add(1).write(sxtb16_ror8(x));
            }
        }
    }
}

/// As `dsp::copy`.
///
/// # Safety
/// As there.
pub unsafe fn copy(from: *const u8, to: *mut u8, run: *const Run) {
    // SAFETY: the caller's.
    let run = unsafe { &*run };
    for row in 0..run.rows {
        // SAFETY: the caller's.
        unsafe { from.add(row * run.from).copy_to_nonoverlapping(to.add(row * run.to), run.len) };
    }
}

/// As `dsp::expand_two`.
///
/// # Safety
/// As there.
pub unsafe fn expand_two(first: *const u32, second: *const u32, to: *mut u32, words: usize) {
    // SAFETY: the caller's.
    unsafe {
        let run = Run { len: words, rows: 1, from: 0, to: 0 };
        expand(first.cast(), to, &raw const run);
        expand(second.cast(), to.add(2), &raw const run);
    }
}

/// As `dsp::columns`.
///
/// # Safety
/// As there.
pub unsafe fn columns(from: *const u8, distance: usize, to: *mut u32, stride: usize, count: usize, twice: usize) {
    let rows = |column: usize| {
        let from = from.wrapping_add(column * stride).cast::<u32>();
        // SAFETY: the caller's.
        unsafe { [*from, *from.byte_add(distance), *from.byte_add(twice)] }
    };
    // SAFETY: the caller's.
    unsafe { columns_of(rows, to, count) };
}

/// As `dsp::columns_top`.
///
/// # Safety
/// As there.
pub unsafe fn columns_top(from: *const u8, distance: usize, to: *mut u32, stride: usize, count: usize, zeros: usize) {
    let rows = |column: usize| {
        let from = from.wrapping_add(column * stride).cast::<u32>();
        // SAFETY: the caller's.
        unsafe { [zeros as u32, *from, *from.byte_add(distance)] }
    };
    // SAFETY: the caller's.
    unsafe { columns_of(rows, to, count) };
}

/// As `dsp::columns_bottom`.
///
/// # Safety
/// As there.
pub unsafe fn columns_bottom(
    from: *const u8,
    distance: usize,
    to: *mut u32,
    stride: usize,
    count: usize,
    zeros: usize,
) {
    let rows = |column: usize| {
        let from = from.wrapping_add(column * stride).cast::<u32>();
        // SAFETY: the caller's.
        unsafe { [*from, *from.byte_add(distance), zeros as u32] }
    };
    // SAFETY: the caller's.
    unsafe { columns_of(rows, to, count) };
}

/// # Safety
/// `to` has room for six words a column.
unsafe fn columns_of(rows: impl Fn(usize) -> [u32; 3], to: *mut u32, count: usize) {
    for column in 0..count {
        let [a, b, c] = rows(column);
        let (a02, a13, b02, b13) = (sxtb16(a), sxtb16_ror8(a), sxtb16(b), sxtb16_ror8(b));
        let words = [pkhbt(a02, b02), pkhbt(a13, b13), pkhtb(a02, b02), pkhtb(a13, b13), sxtb16(c), sxtb16_ror8(c)];
        // SAFETY: the caller's.
        unsafe { to.add(6 * column).cast::<[u32; 6]>().write(words) };
    }
}

/// As `dsp::depthwise`.
///
/// # Safety
/// As there.
pub unsafe fn depthwise(from: *const u32, block: *const u32, out: *mut u8, row: *const Row) {
    /// Rows 0 and 1 of channels 0 to 3, then row 2 of channels 0, 2, 1, 3.
    type Column = [i16; 12];
    // SAFETY: the caller's.
    let (row, bias, [m0, m1, m2, m3, high_word, shift]) =
        unsafe { (&*row, *block.cast::<[i32; 4]>(), *block.add(22).cast::<[i32; 6]>()) };
    let weights = block.wrapping_add(4).cast::<Column>();
    let mut from = from.cast::<Column>();
    for output in 0..row.outputs {
        let [mut a, mut b, mut c, mut d] = bias;
        for column in 0..3 {
            // SAFETY: the caller's.
            let (x, w) = unsafe { (*from.add(column), *weights.add(column)) };
            let [a0, a1, b0, b1, c0, c1, d0, d1, a2, c2, b2, d2] = {
                let mut products = [0; 12];
                for ((product, x), w) in products.iter_mut().zip(x).zip(w) {
                    *product = i32::from(x) * i32::from(w);
                }
                products
            };
            a = a.wrapping_add(a0 + a1 + a2);
            b = b.wrapping_add(b0 + b1 + b2);
            c = c.wrapping_add(c0 + c1 + c2);
            d = d.wrapping_add(d0 + d1 + d2);
        }
        let done = [(a, m0), (b, m1), (c, m2), (d, m3)].map(|(sum, m)| requantize(sum, m, high_word, shift as u32));
        // SAFETY: the caller's.
        unsafe { out.add(output * row.stride).cast::<u32>().write_unaligned(pack4(done).to_le()) };
        from = from.wrapping_add(3).wrapping_byte_sub(row.back);
    }
}
