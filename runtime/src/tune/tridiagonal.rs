//! A symmetric matrix as Q·T·Qᵀ with T tridiagonal: what [`super::loo`] and [`super::newton`] need of it for any
//! strength of regularization costs one factorization.
//!
//! Householder reflections (Golub and Van Loan, Matrix Computations, 8.3.1) from the last row up, so that every vector begins
//! where its row begins: Q = Hₙ₋₁·…·H₁, where Hᵢ = I − vᵢ·vᵢᵀ changes the first i entries only and ‖vᵢ‖² = 2. Diagonal blocks of
//! [`LANES`]×[`LANES`] are kept whole, so that no loop begins or ends within a block.

use super::linalg::{Block, LANES, axpy, axpy_each, blocks, blocks_mut, dot, dot3, dots, padded, subtract};

/// Squared norm below which entries are taken for zero: far below rounding for a matrix of diagonal about 1.
const NEGLIGIBLE: f32 = 1e-30;

/// T.
#[derive(Debug, Clone, Copy)]
pub struct Tridiagonal<'a> {
    /// n values.
    pub diagonal: &'a [f32],
    /// n values; `off[j]` stands between j and j + 1, the last is 0.
    pub off: &'a [f32],
}

/// Reduces `matrix` (n rows of `width`, symmetric) in place: vᵢ is left in the first i entries of row i, T in `diagonal` and `off` (n
/// each). `v` and `p` are scratch of `width` values.
pub fn reduce(matrix: &mut [f32], width: usize, diagonal: &mut [f32], off: &mut [f32], v: &mut [f32], p: &mut [f32]) {
    v.fill(0.0);
    off.fill(0.0);
    for i in (0..diagonal.len()).rev() {
        let Some((above, row)) = matrix.split_at_mut_checked(i * width) else { return };
        if let (Some(d), Some(&at)) = (diagonal.get_mut(i), row.get(i)) {
            *d = at;
        }
        let (Some(x), Some(off)) = (row.get_mut(..i), i.checked_sub(1).and_then(|j| off.get_mut(j))) else { return };
        let Some(alpha) = reflector(x) else {
            *off = x.last().copied().unwrap_or_default();
            x.fill(0.0);
            continue;
        };
        *off = alpha;
        for (v, &x) in v.iter_mut().zip(x.iter()) {
            *v = x;
        }
        if let Some(v) = v.get_mut(i..) {
            v.fill(0.0);
        }
        // A ← H·A·H = A − v·qᵀ − q·vᵀ with p = A·v and q = p − (vᵀp/2)·v.
        product(above, width, v, p);
        let half = 0.5 * dot(v, p);
        for (p, &v) in p.iter_mut().zip(v.iter()) {
            *p -= half * v;
        }
        update(above, width, v, p);
    }
}

/// Makes the reflector that leaves only the last entry of `x`: gives that entry, and v in place of x. `None`: nothing else is there.
fn reflector(x: &mut [f32]) -> Option<f32> {
    let (last, before) = x.split_last_mut()?;
    let rest = dot(before, before);
    if rest.is_nan() || rest <= NEGLIGIBLE {
        return None;
    }
    let norm = libm::sqrtf(rest + *last * *last);
    let alpha = if *last > 0.0 { -norm } else { norm };
    // ‖x − alpha·e‖²/2 = norm·(norm + |last|).
    let factor = 1.0 / libm::sqrtf(norm * (norm + libm::fabsf(*last)));
    *last -= alpha;
    x.iter_mut().for_each(|v| *v *= factor);
    Some(alpha)
}

/// p = A·v from the lower triangle and the diagonal blocks of the rows given.
fn product(rows: &[f32], width: usize, v: &[f32], p: &mut [f32]) {
    p.fill(0.0);
    let mut fours = rows.chunks_exact(4 * width);
    let mut r = 0;
    for four in &mut fours {
        let mut rows = four.chunks_exact(width);
        let four: [&[f32]; 4] = core::array::from_fn(|_| rows.next().unwrap_or_default());
        let before = r / LANES * LANES;
        let (Some(own), Some(factors)) = (v.get(..before + LANES), v.get(r..).and_then(|v| v.first_chunk())) else {
            return;
        };
        let sums = dots(blocks(own), four.map(blocks));
        axpy_each(*factors, four, p.get_mut(..before).unwrap_or_default());
        for (p, sum) in p.iter_mut().skip(r).zip(sums) {
            *p += sum;
        }
        r += 4;
    }
    for row in fours.remainder().chunks_exact(width) {
        let before = r / LANES * LANES;
        let (Some(own), Some(&factor)) = (v.get(..before + LANES), v.get(r)) else { return };
        axpy(factor, row, p.get_mut(..before).unwrap_or_default());
        if let Some(p) = p.get_mut(r) {
            *p += dot(own, row);
        }
        r += 1;
    }
}

/// A −= v·qᵀ + q·vᵀ in the lower triangle and the diagonal blocks.
fn update(rows: &mut [f32], width: usize, v: &[f32], q: &[f32]) {
    let mut pairs = rows.chunks_exact_mut(2 * width);
    let mut r = 0;
    for pair in &mut pairs {
        // Two rows of one diagonal block share the loads.
        let (a, b) = pair.split_at_mut(width);
        let (Some(&[va, vb]), Some(&[qa, qb])) =
            (v.get(r..).and_then(|v| v.first_chunk()), q.get(r..).and_then(|q| q.first_chunk()))
        else {
            return;
        };
        for (((a, b), &v), &q) in a.iter_mut().zip(b).zip(v).zip(q).take(r / LANES * LANES + LANES) {
            *a = *a - va * q - qa * v;
            *b = *b - vb * q - qb * v;
        }
        r += 2;
    }
    let row = pairs.into_remainder();
    if let (Some(&va), Some(&qa)) = (v.get(r), q.get(r)) {
        for ((a, &v), &q) in row.iter_mut().zip(v).zip(q).take(r / LANES * LANES + LANES) {
            *a = *a - va * q - qa * v;
        }
    }
}

/// Qᵀ in place of the reflectors that [`reduce`] left: row j is the j-th vector of the basis. `v` is scratch of `width` values.
pub fn transposed(matrix: &mut [f32], width: usize, n: usize, v: &mut [f32]) {
    for i in 0..n {
        let Some((above, row)) = matrix.split_at_mut_checked(i * width) else { return };
        let Some(row) = row.get_mut(..width) else { return };
        let v = take_reflector(row, i, v);
        row.fill(0.0);
        if let Some(one) = row.get_mut(i) {
            *one = 1.0;
        }
        // Qᵀ = H₁·…·Hₙ₋₁, and before Hᵢ only the leading i×i block differs from the identity.
        reflect_rows(above, width, v);
    }
}

/// Every row of `rows` times Qᵀ, by the reflectors that [`reduce`] left in `matrix`. Rows of both have `width` values; `v` is scratch
/// of as many.
pub fn rows_times_transposed(rows: &mut [f32], matrix: &[f32], width: usize, v: &mut [f32]) {
    for (i, row) in matrix.chunks_exact(width).enumerate() {
        reflect_rows(rows, width, take_reflector(row, i, v));
    }
}

/// Copies vᵢ, padded with zeros to whole blocks.
fn take_reflector<'v>(row: &[f32], i: usize, v: &'v mut [f32]) -> &'v [Block] {
    let Some(v) = v.get_mut(..padded(i)) else { return &[] };
    for (k, (v, &x)) in v.iter_mut().zip(row).enumerate() {
        *v = if k < i { x } else { 0.0 };
    }
    blocks(v)
}

/// row ← row − (row·v)·v.
fn reflect_rows(rows: &mut [f32], width: usize, v: &[Block]) {
    let mut rows = rows.chunks_exact_mut(width);
    while rows.len() > 0 {
        let mut four: [&mut [Block]; 4] = core::array::from_fn(|_| blocks_mut(rows.next().unwrap_or_default()));
        let sums = dots(v, four.each_ref().map(|row| &**row));
        for (row, sum) in four.iter_mut().zip(sums) {
            axpy(-sum, v.as_flattened(), row.as_flattened_mut());
        }
    }
}

/// Qᵀ times `columns` (n rows of `width`) in place, by the reflectors in `matrix` (n rows of `matrix_width`).
pub fn transposed_times(columns: &mut [f32], width: usize, matrix: &[f32], matrix_width: usize) {
    let (columns, per_row) = (blocks_mut(columns), width / LANES);
    let mut at = 0;
    // Columns that stay in registers and in the fastest memory while all reflectors pass.
    while at < per_row {
        at += match per_row - at {
            1 => reflect_columns::<1>(columns, per_row, at, matrix, matrix_width),
            2 | 3 => reflect_columns::<2>(columns, per_row, at, matrix, matrix_width),
            _ => reflect_columns::<4>(columns, per_row, at, matrix, matrix_width),
        };
    }
}

fn reflect_columns<const K: usize>(
    columns: &mut [Block],
    per_row: usize,
    at: usize,
    matrix: &[f32],
    width: usize,
) -> usize {
    for (i, v) in matrix.chunks_exact(width).enumerate().rev() {
        let v = v.get(..i).unwrap_or_default();
        let mut sums = [[0.0; LANES]; K];
        for (&v, row) in v.iter().zip(columns.chunks_exact(per_row)) {
            let Some(row) = row.get(at..).and_then(|row| row.first_chunk::<K>()) else { continue };
            for (sums, row) in sums.iter_mut().zip(row) {
                for (s, &x) in sums.iter_mut().zip(row) {
                    *s += v * x;
                }
            }
        }
        for (&v, row) in v.iter().zip(columns.chunks_exact_mut(per_row)) {
            let Some(row) = row.get_mut(at..).and_then(|row| row.first_chunk_mut::<K>()) else { continue };
            for (sums, x) in sums.iter().zip(row) {
                subtract(x, v, sums);
            }
        }
    }
    K
}

impl Tridiagonal<'_> {
    /// T times each row of `rows` (of `width` values).
    pub fn multiply(&self, rows: &[f32], width: usize, out: &mut [f32]) {
        for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            for ((out, &x), &d) in out.iter_mut().zip(row).zip(self.diagonal) {
                *out = d * x;
            }
            for ((out, &x), &off) in out.iter_mut().skip(1).zip(row).zip(self.off) {
                *out += off * x;
            }
            for ((out, &x), &off) in out.iter_mut().zip(row.iter().skip(1)).zip(self.off) {
                *out += off * x;
            }
        }
    }

    /// Σ aᵀ·T·b over rows of `width` values.
    #[must_use]
    pub fn inner(&self, a: &[f32], b: &[f32], width: usize) -> f32 {
        let mut sum = 0.0;
        for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
            let (a1, b1) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default());
            sum += dot3(self.diagonal, a, b) + (dot3(self.off, a, b1) + dot3(self.off, a1, b));
        }
        sum
    }

    /// Factors `curvature`·T + `ridge`·I = L·D·Lᵀ: the subdiagonal of L, and the inverse of D. A pivot below a thousandth of the ridge
    /// is raised to it, which keeps a matrix that is positive definite but for rounding usable.
    pub fn factor(&self, curvature: f32, ridge: f32, lower: &mut [f32], inverse: &mut [f32]) {
        let mut carry = 0.0f32;
        for (((lower, inverse), &d), &off) in lower.iter_mut().zip(inverse.iter_mut()).zip(self.diagonal).zip(self.off)
        {
            let off = curvature * off;
            *inverse = 1.0 / (curvature * d + ridge - carry).max(1e-3 * ridge);
            *lower = off * *inverse;
            carry = off * *lower;
        }
    }
}

/// Solves with what [`Tridiagonal::factor`] made, in place, for every row of `width` values.
pub fn solve(lower: &[f32], inverse: &[f32], rows: &mut [f32], width: usize) {
    // Rows whose recurrences do not wait for each other.
    let mut fours = rows.chunks_exact_mut(4 * width);
    for four in &mut fours {
        let mut rows = four.chunks_exact_mut(width);
        solve_rows::<4>(lower, inverse, core::array::from_fn(|_| rows.next().unwrap_or_default()));
    }
    let mut pairs = fours.into_remainder().chunks_exact_mut(2 * width);
    for pair in &mut pairs {
        let (a, b) = pair.split_at_mut(width);
        solve_rows(lower, inverse, [a, b]);
    }
    if let Some(row) = pairs.into_remainder().get_mut(..width) {
        solve_rows(lower, inverse, [row]);
    }
}

fn solve_rows<const K: usize>(lower: &[f32], inverse: &[f32], mut rows: [&mut [f32]; K]) {
    let mut carry = [0.0f32; K];
    for (j, (&lower, &inverse)) in lower.iter().zip(inverse).enumerate() {
        for (row, carry) in rows.iter_mut().zip(&mut carry) {
            let Some(x) = row.get_mut(j) else { continue };
            let y = *x - *carry;
            *x = y * inverse;
            *carry = y * lower;
        }
    }
    let mut next = [0.0f32; K];
    for (j, &lower) in lower.iter().enumerate().rev() {
        for (row, next) in rows.iter_mut().zip(&mut next) {
            let Some(x) = row.get_mut(j) else { continue };
            *x -= lower * *next;
            *next = *x;
        }
    }
}

/// xᵀ·(L·D·Lᵀ)⁻¹·x of every column x of `columns` (rows of `width` values).
pub fn column_norms(columns: &[f32], width: usize, lower: &[f32], inverse: &[f32], out: &mut [f32]) {
    let (columns, per_row) = (blocks(columns), width / LANES);
    let mut at = 0;
    while at < per_row {
        at += match per_row - at {
            1 => norms::<1>(columns, per_row, at, lower, inverse, out),
            _ => norms::<2>(columns, per_row, at, lower, inverse, out),
        };
    }
}

fn norms<const K: usize>(
    columns: &[Block],
    per_row: usize,
    at: usize,
    lower: &[f32],
    inverse: &[f32],
    out: &mut [f32],
) -> usize {
    let (mut carry, mut sums) = ([[0.0f32; LANES]; K], [[0.0f32; LANES]; K]);
    for ((row, &lower), &inverse) in columns.chunks_exact(per_row).zip(lower).zip(inverse) {
        let Some(row) = row.get(at..).and_then(|row| row.first_chunk::<K>()) else { continue };
        for ((row, carry), sums) in row.iter().zip(&mut carry).zip(&mut sums) {
            for ((&x, carry), s) in row.iter().zip(carry).zip(sums) {
                let y = x - *carry;
                *s += y * y * inverse;
                *carry = y * lower;
            }
        }
    }
    if let Some(out) = blocks_mut(out).get_mut(at..at + K) {
        out.copy_from_slice(&sums);
    }
    K
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::super::linalg::tests::{numbers, pad};
    use super::super::linalg::{columns_times, products_of_rows};
    use super::*;

    struct Reduced {
        width: usize,
        /// The matrix as it was.
        matrix: Vec<f32>,
        /// Its reflectors.
        reflectors: Vec<f32>,
        /// Qᵀ.
        basis: Vec<f32>,
        diagonal: Vec<f32>,
        off: Vec<f32>,
    }

    /// A positive semidefinite matrix of the given rank.
    fn reduced(n: usize, rank: usize) -> Reduced {
        let width = padded(n);
        let mut matrix = vec![0.0; n * width];
        products_of_rows(&pad(&numbers(n * rank, 7), rank), padded(rank), &mut matrix, width);
        let (mut diagonal, mut off, mut v, mut p) = (vec![0.0; n], vec![0.0; n], vec![0.0; width], vec![0.0; width]);
        let mut reflectors = matrix.clone();
        reduce(&mut reflectors, width, &mut diagonal, &mut off, &mut v, &mut p);
        let mut basis = reflectors.clone();
        transposed(&mut basis, width, n, &mut v);
        Reduced { width, matrix, reflectors, basis, diagonal, off }
    }

    impl Reduced {
        fn t(&self) -> Tridiagonal<'_> {
            Tridiagonal { diagonal: &self.diagonal, off: &self.off }
        }
    }

    const SIZES: [(usize, usize); 7] = [(1, 1), (2, 2), (3, 1), (8, 8), (9, 4), (17, 17), (41, 60)];

    #[test]
    fn the_basis_is_orthonormal_and_gives_the_matrix_back() {
        for (n, rank) in SIZES {
            let r = reduced(n, rank);
            let mut identity = vec![0.0; n * r.width];
            products_of_rows(&r.basis, r.width, &mut identity, r.width);
            for (i, row) in identity.chunks(r.width).enumerate() {
                for (j, &x) in row.iter().take(n).enumerate() {
                    assert!((x - if i == j { 1.0 } else { 0.0 }).abs() < 2e-6, "{n}: {i} {j} {x}");
                }
            }
            // T·Qᵀ row by row, then Q times it: row i of the matrix is Σⱼ Qᵀ[j][i]·(T·Qᵀ)[j].
            let at = |m: &[f32], j: usize, i: usize| m[j * r.width + i];
            let tq = |j: usize, i: usize| {
                let mut x = r.diagonal[j] * at(&r.basis, j, i);
                if j > 0 {
                    x += r.off[j - 1] * at(&r.basis, j - 1, i);
                }
                if j + 1 < n {
                    x += r.off[j] * at(&r.basis, j + 1, i);
                }
                x
            };
            for i in 0..n {
                for k in 0..n {
                    let back: f32 = (0..n).map(|j| at(&r.basis, j, i) * tq(j, k)).sum();
                    assert!((back - at(&r.matrix, i, k)).abs() < 1e-5, "{n}: {i} {k}");
                }
            }
        }
    }

    #[test]
    fn reflectors_applied_one_by_one_are_the_basis() {
        for (n, rank) in SIZES {
            let r = reduced(n, rank);
            let rows = pad(&numbers(3 * n, 11), n);
            // Rows times Qᵀ: weighted sums of the rows of Qᵀ.
            let mut wanted = vec![0.0; rows.len()];
            columns_times(&r.basis, r.width, &rows, r.width, &mut wanted);
            let mut found = rows.clone();
            rows_times_transposed(&mut found, &r.reflectors, r.width, &mut vec![0.0; r.width]);
            for (f, w) in found.iter().zip(&wanted) {
                assert!((f - w).abs() < 1e-5, "{n}: {f} {w}");
            }
            // Qᵀ times columns.
            for count in [3, 8, 37] {
                let wide = padded(count);
                let columns = pad(&numbers(n * count, 12), count);
                let mut wanted = vec![0.0; columns.len()];
                columns_times(&columns, wide, &r.basis, r.width, &mut wanted);
                let mut found = columns.clone();
                transposed_times(&mut found, wide, &r.reflectors, r.width);
                for (f, w) in found.iter().zip(&wanted) {
                    assert!((f - w).abs() < 1e-5, "{n} {count}: {f} {w}");
                }
            }
        }
    }

    #[test]
    fn solutions_satisfy_their_equations() {
        for (n, rank) in SIZES {
            let r = reduced(n, rank);
            let (mut lower, mut inverse) = (vec![0.0; n], vec![0.0; n]);
            let (curvature, ridge) = (0.7, 0.02);
            r.t().factor(curvature, ridge, &mut lower, &mut inverse);
            let rows = pad(&numbers(5 * n, 3), n);
            let mut x = rows.clone();
            solve(&lower, &inverse, &mut x, r.width);
            let mut back = vec![0.0; rows.len()];
            r.t().multiply(&x, r.width, &mut back);
            for ((b, x), row) in back.iter().zip(&x).zip(&rows) {
                assert!((curvature * b + ridge * x - row).abs() < 1e-4, "{n}: {b} {x} {row}");
            }
            // xᵀ·T·x by its definition.
            let inner = r.t().inner(&x, &rows, r.width);
            let wanted: f32 = back.iter().zip(&rows).map(|(b, row)| b * row).sum();
            assert!((inner - wanted).abs() < 1e-3 * (1.0 + wanted.abs()), "{n}: {inner} {wanted}");
            // The same columns, by solving for each: the rows of Q are the columns of Qᵀ.
            let mut norms = vec![0.0; r.width];
            column_norms(&r.basis, r.width, &lower, &inverse, &mut norms);
            for (i, norm) in norms.iter().take(n).enumerate() {
                let mut column: Vec<f32> =
                    (0..r.width).map(|j| if j < n { r.basis[j * r.width + i] } else { 0.0 }).collect();
                let before = column.clone();
                solve(&lower, &inverse, &mut column, r.width);
                let wanted = dot(&before, &column);
                assert!((norm - wanted).abs() < 1e-4 * wanted, "{n} {i}: {norm} {wanted}");
            }
        }
    }
}
