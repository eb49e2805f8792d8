//! Dense f32 linear algebra with a fixed order of operations: the same bits on every target.
//!
//! Matrices are row-major. Sums run in [`LANES`] interleaved partial sums, so that a vector unit can be used
//! without changing the result. Sizes are upheld by [`super::workspace`]; a caller's mistake gives a wrong sum, never a panic.

/// Interleaved partial sums of every reduction.
pub const LANES: usize = 8;

/// Σ aᵢ·bᵢ up to the end of the shorter.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let (a, b) = (a.get(..len).unwrap_or_default(), b.get(..len).unwrap_or_default());
    let mut sums = [0.0f32; LANES];
    let (blocks_a, blocks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (rest_a, rest_b) = (blocks_a.remainder(), blocks_b.remainder());
    for (x, y) in blocks_a.zip(blocks_b) {
        for ((s, &x), &y) in sums.iter_mut().zip(x).zip(y) {
            *s += x * y;
        }
    }
    for ((s, &x), &y) in sums.iter_mut().zip(rest_a).zip(rest_b) {
        *s += x * y;
    }
    fold(sums)
}

/// Σ aᵢ.
#[must_use]
pub fn sum(a: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for block in a.chunks(LANES) {
        for (s, &x) in sums.iter_mut().zip(block) {
            *s += x;
        }
    }
    fold(sums)
}

fn fold([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// y += k·x.
pub fn axpy(k: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += k * x;
    }
}

/// y = x + k·y.
pub fn xpay(x: &[f32], k: f32, y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x + k * *y;
    }
}

/// [`dot`] of each of `M` rows with each of `K` others of the same length, sharing the loads; the same bits.
fn dots<const M: usize, const K: usize>(a: [&[f32]; M], b: [&[f32]; K]) -> [[f32; K]; M] {
    let mut sums = [[[0.0f32; LANES]; K]; M];
    let (blocks_a, blocks_b) = (a.map(|a| a.as_chunks::<LANES>()), b.map(|b| b.as_chunks::<LANES>()));
    let count = blocks_b.first().map_or(0, |b| b.0.len());
    for i in 0..count {
        let block = |blocks: &(&[[f32; LANES]], &[f32])| blocks.0.get(i).copied().unwrap_or_default();
        let (x, y): ([[f32; LANES]; M], [[f32; LANES]; K]) =
            (blocks_a.each_ref().map(block), blocks_b.each_ref().map(block));
        for (sums, x) in sums.iter_mut().zip(&x) {
            for (sums, y) in sums.iter_mut().zip(&y) {
                for ((s, x), y) in sums.iter_mut().zip(x).zip(y) {
                    *s += x * y;
                }
            }
        }
    }
    for (sums, (_, x)) in sums.iter_mut().zip(blocks_a) {
        for (sums, (_, y)) in sums.iter_mut().zip(blocks_b) {
            for ((s, x), y) in sums.iter_mut().zip(x).zip(y) {
                *s += x * y;
            }
        }
    }
    sums.map(|sums| sums.map(fold))
}

/// out[c] = matrix · in[c] for every class c; `matrix` is n×n and symmetric, rows of `input` and `out` have n values.
pub fn multiply(matrix: &[f32], n: usize, input: &[f32], out: &mut [f32]) {
    let mut classes = input.chunks_exact(2 * n).zip(out.chunks_exact_mut(2 * n));
    for (x, y) in &mut classes {
        let ((x0, x1), (y0, y1)) = (x.split_at(n), y.split_at_mut(n));
        let mut rows = matrix.chunks_exact(2 * n).zip(y0.chunks_exact_mut(2).zip(y1.chunks_exact_mut(2)));
        for (rows, (y0, y1)) in &mut rows {
            let (r0, r1) = rows.split_at(n);
            let [from0, from1] = dots([x0, x1], [r0, r1]);
            y0.copy_from_slice(&from0);
            y1.copy_from_slice(&from1);
        }
        if n % 2 == 1
            && let (Some(row), Some(y0), Some(y1)) = (matrix.get(n * n - n..), y0.last_mut(), y1.last_mut())
        {
            (*y0, *y1) = (dot(x0, row), dot(x1, row));
        }
    }
    let done = input.len() / (2 * n) * 2 * n;
    if let (Some(x), Some(y)) = (input.get(done..done + n), out.get_mut(done..done + n)) {
        for (y, row) in y.iter_mut().zip(matrix.chunks_exact(n)) {
            *y = dot(x, row);
        }
    }
}

/// Cholesky factorization in place: the lower triangle of `m` (n×n, symmetric) becomes L with M = L·Lᵀ.
/// The strict upper triangle is left as it is. A pivot below `floor` is raised to it, which keeps a matrix that is
/// positive definite but for rounding usable.
pub fn cholesky(m: &mut [f32], n: usize, floor: f32) {
    let mut done = 0;
    // Four rows at a time meet the rows above them: four sums that do not wait for each other.
    while done + 4 <= n {
        let Some((above, rest)) = m.split_at_mut_checked(done * n) else { return };
        let [r0, r1, r2, r3] = {
            let mut rows = rest.chunks_exact_mut(n);
            let mut next = || rows.next().unwrap_or_default();
            [next(), next(), next(), next()]
        };
        for (j, row_j) in above.chunks_exact(n).enumerate() {
            let (Some(before_j), Some(&pivot)) = (row_j.get(..j), row_j.get(j)) else { return };
            let inverse = 1.0 / pivot;
            let (Some(a0), Some(a1), Some(a2), Some(a3)) = (r0.get(..j), r1.get(..j), r2.get(..j), r3.get(..j)) else {
                return;
            };
            let [[s0], [s1], [s2], [s3]] = dots([a0, a1, a2, a3], [before_j]);
            for (row, s) in [(&mut *r0, s0), (&mut *r1, s1), (&mut *r2, s2), (&mut *r3, s3)] {
                if let Some(at) = row.get_mut(j) {
                    *at = (*at - s) * inverse;
                }
            }
        }
        for i in done..done + 4 {
            cholesky_row(m, n, i, done, floor);
        }
        done += 4;
    }
    for i in done..n {
        cholesky_row(m, n, i, 0, floor);
    }
}

/// Row `i` of the factor from column `from` on; the rows above it are done.
fn cholesky_row(m: &mut [f32], n: usize, i: usize, from: usize, floor: f32) {
    let Some((done, rest)) = m.split_at_mut_checked(i * n) else { return };
    let Some(current) = rest.get_mut(..n) else { return };
    for (j, row_j) in done.chunks_exact(n).enumerate().skip(from) {
        let Some((before, at)) = current.split_at_mut_checked(j) else { return };
        let (Some(at), Some(&pivot)) = (at.first_mut(), row_j.get(j)) else { return };
        *at = (*at - dot(before, row_j)) * (1.0 / pivot);
    }
    let Some((before, at)) = current.split_at_mut_checked(i) else { return };
    if let Some(at) = at.first_mut() {
        let pivot = *at - dot(before, before);
        *at = libm::sqrtf(if pivot > floor { pivot } else { floor });
    }
}

/// Solves L·Lᵀ·x = b in place for every class: rows of `b` have n values.
pub fn cholesky_solve(l: &[f32], n: usize, b: &mut [f32]) {
    // Classes innermost: their sums do not wait for each other.
    for (i, row) in l.chunks_exact(n).enumerate() {
        let (Some(left), Some(&pivot)) = (row.get(..i), row.get(i)) else { return };
        let inverse = 1.0 / pivot;
        let mut pairs = b.chunks_exact_mut(2 * n);
        for pair in &mut pairs {
            let (b0, b1) = pair.split_at_mut(n);
            let (Some((x0, at0)), Some((x1, at1))) = (b0.split_at_mut_checked(i), b1.split_at_mut_checked(i)) else {
                return;
            };
            let [[s0], [s1]] = dots([x0, x1], [left]);
            if let (Some(at0), Some(at1)) = (at0.first_mut(), at1.first_mut()) {
                (*at0, *at1) = ((*at0 - s0) * inverse, (*at1 - s1) * inverse);
            }
        }
        if let Some((x, [at, ..])) = pairs.into_remainder().split_at_mut_checked(i) {
            *at = (*at - dot(x, left)) * inverse;
        }
    }
    for (i, row) in l.chunks_exact(n).enumerate().rev() {
        let (Some(left), Some(&pivot)) = (row.get(..i), row.get(i)) else { return };
        let inverse = 1.0 / pivot;
        for b in b.chunks_exact_mut(n) {
            if let Some((before, [at, ..])) = b.split_at_mut_checked(i) {
                *at *= inverse;
                axpy(-*at, left, before);
            }
        }
    }
}

/// L⁻¹ in place of L (lower triangles). `scratch` has n values.
pub fn invert_lower(l: &mut [f32], n: usize, scratch: &mut [f32]) {
    for i in 0..n {
        let Some((done, rest)) = l.split_at_mut_checked(i * n) else { return };
        let (Some(current), Some(acc)) = (rest.get_mut(..=i), scratch.get_mut(..i)) else { return };
        acc.fill(0.0);
        for (k, row_k) in done.chunks_exact(n).enumerate() {
            let (Some(&factor), Some(acc)) = (current.get(k), acc.get_mut(..=k)) else { return };
            axpy(factor, row_k, acc);
        }
        let Some((pivot, before)) = current.split_last_mut() else { return };
        *pivot = 1.0 / *pivot;
        for (x, &s) in before.iter_mut().zip(acc.iter()) {
            *x = -s * *pivot;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// A symmetric positive definite matrix from a linear congruential sequence.
    fn positive(n: usize) -> Vec<f32> {
        let mut state = 7u32;
        let a: Vec<f32> = (0..n * n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        let mut m = std::vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                m[i * n + j] = dot(&a[i * n..][..n], &a[j * n..][..n]) + if i == j { 0.5 } else { 0.0 };
            }
        }
        m
    }

    #[test]
    fn a_solution_satisfies_its_equations() {
        for n in [1, 2, 7, 8, 9, 33] {
            let m = positive(n);
            let mut l = m.clone();
            cholesky(&mut l, n, 1e-9);
            let b: Vec<f32> = (0..2 * n).map(|i| i as f32 * 0.1 - 1.0).collect();
            let mut x = b.clone();
            cholesky_solve(&l, n, &mut x);
            let mut back = std::vec![0.0; 2 * n];
            multiply(&m, n, &x, &mut back);
            for (b, back) in b.iter().zip(&back) {
                assert!((b - back).abs() < 1e-4, "n = {n}: {b} {back}");
            }
        }
    }

    #[test]
    fn an_inverse_times_its_factor_is_the_identity() {
        let n = 19;
        let mut l = positive(n);
        cholesky(&mut l, n, 1e-9);
        let mut inverse = l.clone();
        invert_lower(&mut inverse, n, &mut std::vec![0.0; n]);
        for i in 0..n {
            for j in 0..=i {
                let s: f32 = (j..=i).map(|k| l[i * n + k] * inverse[k * n + j]).sum();
                assert!((s - if i == j { 1.0 } else { 0.0 }).abs() < 1e-4, "{i} {j} {s}");
            }
        }
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
}
