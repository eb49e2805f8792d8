//! Dense f32 linear algebra with a fixed order of operations: the same bits on every target.
//!
//! Matrices are row-major, and their rows are padded with zeros to whole blocks of [`LANES`] values, so that no loop has
//! a remainder. Sums run in [`LANES`] interleaved partial sums, or over whole rows at a time, so that a vector unit can be used
//! without changing the result. Sizes are upheld by [`super::workspace`]; a caller's mistake gives a wrong sum, never a panic.

/// Interleaved partial sums of every reduction.
pub const LANES: usize = 8;

/// `len` rounded up to whole blocks.
#[must_use]
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(LANES)
}

/// One block of a row.
pub type Block = [f32; LANES];

/// The whole blocks of a row.
#[must_use]
pub fn blocks(row: &[f32]) -> &[Block] {
    row.as_chunks().0
}

/// The whole blocks of a row.
#[must_use]
pub fn blocks_mut(row: &mut [f32]) -> &mut [Block] {
    row.as_chunks_mut().0
}

/// Σ aᵢ·bᵢ up to the end of the shorter.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let (a, b) = (a.get(..len).unwrap_or_default(), b.get(..len).unwrap_or_default());
    let ((blocks_a, rest_a), (blocks_b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, y) in blocks_a.iter().zip(blocks_b) {
        add_products(&mut sums, x, y);
    }
    for ((s, &x), &y) in sums.iter_mut().zip(rest_a).zip(rest_b) {
        *s += x * y;
    }
    fold(&sums)
}

/// Σ aᵢ.
#[must_use]
pub fn sum(a: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for block in a.chunks(LANES) {
        for (s, &x) in sums.iter_mut().zip(block) {
            *s += x;
        }
    }
    fold(&sums)
}

/// Σ aᵢ·bᵢ·cᵢ up to the end of the shortest.
#[must_use]
pub fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let len = a.len().min(b.len()).min(c.len());
    let [a, b, c] = [a, b, c].map(|v| v.get(..len).unwrap_or_default());
    let [(a, rest_a), (b, rest_b), (c, rest_c)] = [a, b, c].map(<[f32]>::as_chunks::<LANES>);
    let mut sums = [0.0; LANES];
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for (((s, &a), &b), &c) in sums.iter_mut().zip(a).zip(b).zip(c) {
            *s += a * b * c;
        }
    }
    for (((s, &a), &b), &c) in sums.iter_mut().zip(rest_a).zip(rest_b).zip(rest_c) {
        *s += a * b * c;
    }
    fold(&sums)
}

/// The end of a reduction. Not inlined, here and below: a compiler that sees partial sums together with their ends is led to keep them
/// shuffled, which is slower.
#[inline(never)]
fn fold(sums: &Block) -> f32 {
    end(sums)
}

#[inline(never)]
fn fold_each(sums: &[Block; 4]) -> [f32; 4] {
    sums.each_ref().map(end)
}

#[inline(always)]
fn end([a, b, c, d, e, f, g, h]: &Block) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// sums += x∘y. Whole blocks are taken out and put back, here and in [`subtract`], so that they may be worked on at once.
#[inline(always)]
pub fn add_products(sums: &mut Block, x: &Block, y: &Block) {
    let mut block = *sums;
    for ((s, &x), &y) in block.iter_mut().zip(x).zip(y) {
        *s += x * y;
    }
    *sums = block;
}

/// y −= k·x.
#[inline(always)]
pub fn subtract(y: &mut Block, k: f32, x: &Block) {
    let mut block = *y;
    for (y, &x) in block.iter_mut().zip(x) {
        *y -= k * x;
    }
    *y = block;
}

/// y += k·x.
pub fn axpy(k: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += k * x;
    }
}

/// y += Σ kⱼ·xⱼ, in this order.
pub fn axpy_each([k0, k1, k2, k3]: [f32; 4], [x0, x1, x2, x3]: [&[f32]; 4], y: &mut [f32]) {
    for ((((y, &x0), &x1), &x2), &x3) in y.iter_mut().zip(x0).zip(x1).zip(x2).zip(x3) {
        *y = *y + k0 * x0 + k1 * x1 + k2 * x2 + k3 * x3;
    }
}

/// y = x + k·y.
pub fn xpay(x: &[f32], k: f32, y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x + k * *y;
    }
}

/// [`dot`] of `x` with each of four rows that are at least as long, sharing the loads; the same bits. A shorter row counts as zeros.
#[inline(always)]
pub fn dots(x: &[Block], [r0, r1, r2, r3]: [&[Block]; 4]) -> [f32; 4] {
    // Rows of one length, which the compiler then need not ask about in the loop.
    let covers = |row: &'_ [Block]| row.len() >= x.len();
    if !(covers(r0) && covers(r1) && covers(r2) && covers(r3)) {
        return [r0, r1, r2, r3].map(|row| dot(x.as_flattened(), row.as_flattened()));
    }
    let (mut s0, mut s1, mut s2, mut s3) = ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for ((((x, r0), r1), r2), r3) in x.iter().zip(r0).zip(r1).zip(r2).zip(r3) {
        add_products(&mut s0, x, r0);
        add_products(&mut s1, x, r1);
        add_products(&mut s2, x, r2);
        add_products(&mut s3, x, r3);
    }
    fold_each(&[s0, s1, s2, s3])
}

/// exp(x) for x ≤ 0, of which compilers can compute several at once: within 2 units in the last place of the true value down to
/// −87, and constant from there on. NaN stays NaN.
#[must_use]
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = core::f32::consts::LOG2_E;
    // ln 2 in two parts, of which the first has few enough bits for n·LN2_HIGH to be exact (Cody and Waite 1980).
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // Taylor, degree 7: |r| ≤ ln 2 / 2 leaves a relative error below 1e-8.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let power = shifted.to_bits().wrapping_add(127).wrapping_shl(23);
    p * f32::from_bits(power)
}

/// The next four rows of an iterator, empty where it has ended.
#[inline(always)]
fn take<'a>(rows: &mut impl Iterator<Item = &'a [Block]>) -> [&'a [Block]; 4] {
    core::array::from_fn(|_| rows.next().unwrap_or_default())
}

/// `out[c][j]` = Σᵢ `matrix[j][i]`·`input[c][i]`: products of every row of `matrix` with every row of `input`, both of `width`
/// values; rows of `out` have `out_width`, of which the first are written.
pub fn rows_times(matrix: &[f32], width: usize, input: &[f32], out: &mut [f32], out_width: usize) {
    let (blocks, per_row) = (blocks(matrix), width / LANES);
    if per_row == 0 || out_width == 0 {
        return;
    }
    let mut rows = blocks.chunks_exact(per_row);
    let mut j = 0;
    // Four rows of the matrix stay in the fastest memory while all classes pass.
    while rows.len() > 0 {
        let four = take(&mut rows);
        for (x, out) in input.chunks_exact(width).zip(out.chunks_exact_mut(out_width)) {
            for (out, sum) in out.iter_mut().skip(j).zip(dots(self::blocks(x), four)) {
                *out = sum;
            }
        }
        j += 4;
    }
}

/// `out[c][i]` = Σⱼ `input[c][j]`·`matrix[j][i]`: a weighted sum of the rows of `matrix`, in their order, for every row of
/// `input`. Rows of `matrix` and `out` have `width` values, rows of `input` `in_width`, of which the first are read.
pub fn columns_times(matrix: &[f32], width: usize, input: &[f32], in_width: usize, out: &mut [f32]) {
    let (matrix, per_row) = (blocks(matrix), width / LANES);
    if per_row == 0 || in_width == 0 {
        return;
    }
    let mut at = 0;
    // Columns that stay in registers, for all classes before the next ones.
    while at < per_row {
        at += match per_row - at {
            1 => columns::<1>(matrix, per_row, at, input, in_width, out),
            2 | 3 => columns::<2>(matrix, per_row, at, input, in_width, out),
            _ => columns::<4>(matrix, per_row, at, input, in_width, out),
        };
    }
}

fn columns<const K: usize>(
    matrix: &[Block],
    per_row: usize,
    at: usize,
    input: &[f32],
    in_width: usize,
    out: &mut [f32],
) -> usize {
    for (x, out) in input.chunks_exact(in_width).zip(out.chunks_exact_mut(per_row * LANES)) {
        let mut sums = [[0.0; LANES]; K];
        for (&x, row) in x.iter().zip(matrix.chunks_exact(per_row)) {
            let Some(row) = row.get(at..).and_then(|row| row.first_chunk::<K>()) else { continue };
            for (sums, row) in sums.iter_mut().zip(row) {
                for (s, &m) in sums.iter_mut().zip(row) {
                    *s += x * m;
                }
            }
        }
        if let Some(out) = blocks_mut(out).get_mut(at..at + K) {
            out.copy_from_slice(&sums);
        }
    }
    K
}

/// Entries (i, j) and (j, i) of a square table.
pub fn set_both(table: &mut [f32], width: usize, i: usize, j: usize, value: f32) {
    for at in [i * width + j, j * width + i] {
        if let Some(entry) = table.get_mut(at) {
            *entry = value;
        }
    }
}

/// Products of every row of `matrix` with every other, both triangles; rows of `matrix` have `width` values, rows of `out`
/// `out_width`.
pub fn products_of_rows(matrix: &[f32], width: usize, out: &mut [f32], out_width: usize) {
    let (matrix, per_row) = (blocks(matrix), width / LANES);
    if per_row == 0 {
        return;
    }
    for (i, x) in matrix.chunks_exact(per_row).enumerate() {
        let mut rows = matrix.chunks_exact(per_row).take(i + 1);
        let mut j = 0;
        while rows.len() > 0 {
            for sum in dots(x, take(&mut rows)) {
                if j <= i {
                    set_both(out, out_width, i, j, sum);
                }
                j += 1;
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::vec::Vec;

    use super::*;

    /// Numbers between −½ and ½ from a linear congruential sequence.
    pub fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    /// Rows of `width` values, padded with zeros.
    pub fn pad(rows: &[f32], width: usize) -> Vec<f32> {
        let mut out = Vec::new();
        for row in rows.chunks(width) {
            out.extend(row);
            out.resize(out.len().next_multiple_of(LANES), 0.0);
        }
        out
    }

    #[test]
    fn sums_follow_the_stated_order() {
        let a: Vec<f32> = (0..21).map(|i| 1.0 / (i as f32 + 1.0)).collect();
        let mut lanes = [0.0f32; 8];
        for (i, &x) in a.iter().enumerate() {
            lanes[i % 8] += x;
        }
        let [a0, b, c, d, e, f, g, h] = lanes;
        assert_eq!(sum(&a).to_bits(), (((a0 + e) + (c + g)) + ((b + f) + (d + h))).to_bits());
        assert_eq!(dot(&a, &[1.0; 21]).to_bits(), sum(&a).to_bits());
    }

    #[test]
    fn exp_is_that_of_the_library() {
        for i in 0..=870_000u32 {
            let x = -(i as f32) * 1e-4;
            let (found, wanted) = (exp(x), libm::expf(x));
            assert!((found - wanted).abs() <= 2.0 * f32::EPSILON * wanted, "{x}: {found} {wanted}");
        }
        assert_eq!((exp(0.0), exp(-1e30), exp(f32::NEG_INFINITY)), (1.0, exp(-87.0), exp(-87.0)));
        assert!(exp(-87.0) < 1e-37 && exp(f32::NAN).is_nan());
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (rows, columns, classes) in [(1, 1, 1), (5, 7, 3), (8, 8, 2), (11, 41, 4)] {
            let matrix = numbers(rows * columns, 1);
            let (along, across) = (numbers(classes * columns, 2), numbers(classes * rows, 3));
            let (width, tall) = (padded(columns), padded(rows));
            let m = pad(&matrix, columns);
            let mut found = std::vec![0.0; classes * tall];
            rows_times(&m, width, &pad(&along, columns), &mut found, tall);
            for c in 0..classes {
                for j in 0..rows {
                    let wanted: f32 = (0..columns).map(|i| matrix[j * columns + i] * along[c * columns + i]).sum();
                    assert!((found[c * tall + j] - wanted).abs() < 1e-5, "{rows} {columns} {c} {j}");
                }
            }
            let mut found = std::vec![9.0; classes * width];
            columns_times(&m, width, &pad(&across, rows), tall, &mut found);
            for c in 0..classes {
                for i in 0..width {
                    let at = |j: usize| if i < columns { matrix[j * columns + i] } else { 0.0 };
                    let wanted: f32 = (0..rows).map(|j| at(j) * across[c * rows + j]).sum();
                    assert!((found[c * width + i] - wanted).abs() < 1e-5, "{rows} {columns} {c} {i}");
                }
            }
            let mut found = std::vec![0.0; rows * tall];
            products_of_rows(&m, width, &mut found, tall);
            for i in 0..rows {
                for j in 0..rows {
                    let wanted: f32 = (0..columns).map(|k| matrix[i * columns + k] * matrix[j * columns + k]).sum();
                    assert!((found[i * tall + j] - wanted).abs() < 1e-5, "{rows} {columns} {i} {j}");
                }
            }
        }
    }
}
