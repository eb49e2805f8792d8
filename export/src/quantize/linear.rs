//! Dense f64 linear algebra of the weight fit, in blocks that ndarray's matrix product works on.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, linalg::general_mat_mul, s};

const BLOCK: usize = 64;

/// The lower factor L of a symmetric positive definite matrix, A = L·Lᵀ; `None` when a pivot is not positive.
pub(super) fn cholesky(a: &Array2<f64>) -> Option<Array2<f64>> {
    let n = a.nrows();
    let mut l = a.clone();
    for start in (0..n).step_by(BLOCK) {
        let end = (start + BLOCK).min(n);
        factor_diagonal(l.slice_mut(s![start..end, start..end]))?;
        if end == n {
            break;
        }
        let (top, mut bottom) = l.view_mut().split_at(ndarray::Axis(0), end);
        let diagonal = top.slice(s![start..end, start..end]);
        solve_right(&diagonal, bottom.slice_mut(s![.., start..end]));
        let panel = bottom.slice(s![.., start..end]).to_owned();
        // Only the lower triangle is needed: block column by block column.
        for column in (end..n).step_by(BLOCK) {
            let last = (column + BLOCK).min(n);
            let (from, to) = (column - end, last - end);
            let mut target = bottom.slice_mut(s![from.., column..last]);
            general_mat_mul(-1.0, &panel.slice(s![from.., ..]), &panel.slice(s![from..to, ..]).t(), 1.0, &mut target);
        }
    }
    for i in 0..n {
        l.slice_mut(s![i, i + 1..]).fill(0.0);
    }
    Some(l)
}

fn factor_diagonal(mut a: ArrayViewMut2<'_, f64>) -> Option<()> {
    let n = a.nrows();
    for j in 0..n {
        for i in j..n {
            let mut v = a[[i, j]];
            for k in 0..j {
                v -= a[[i, k]] * a[[j, k]];
            }
            if i == j {
                if v.is_nan() || v <= 0.0 {
                    return None;
                }
                a[[j, j]] = v.sqrt();
            } else {
                a[[i, j]] = v / a[[j, j]];
            }
        }
    }
    Some(())
}

/// X := X·L⁻ᵀ for a small lower triangular L.
fn solve_right(l: &ArrayView2<'_, f64>, mut x: ArrayViewMut2<'_, f64>) {
    let n = l.nrows();
    for mut row in x.rows_mut() {
        for j in 0..n {
            let mut v = row[j];
            for k in 0..j {
                v -= row[k] * l[[j, k]];
            }
            row[j] = v / l[[j, j]];
        }
    }
}

/// The inverse of a lower triangular matrix.
pub(super) fn invert_lower(l: &Array2<f64>) -> Array2<f64> {
    let n = l.nrows();
    let mut x = Array2::<f64>::zeros((n, n));
    for start in (0..n).step_by(BLOCK) {
        let end = (start + BLOCK).min(n);
        // Rows of this block: L_dd·X_d = I_d − L_d,before·X_before.
        let mut rhs = Array2::<f64>::zeros((end - start, end));
        if start > 0 {
            let mut before = rhs.slice_mut(s![.., ..start]);
            general_mat_mul(-1.0, &l.slice(s![start..end, ..start]), &x.slice(s![..start, ..start]), 0.0, &mut before);
        }
        for i in start..end {
            rhs[[i - start, i]] += 1.0;
        }
        for i in 0..end - start {
            for k in 0..i {
                let factor = l[[start + i, start + k]];
                let (above, mut row) = rhs.multi_slice_mut((s![k, ..], s![i, ..]));
                row.scaled_add(-factor, &above);
            }
            let pivot = l[[start + i, start + i]];
            rhs.row_mut(i).mapv_inplace(|v| v / pivot);
        }
        x.slice_mut(s![start..end, ..end]).assign(&rhs);
    }
    x
}

/// B·A⁻¹ for the rows of `b`, given A's lower factor L.
pub(super) fn solve_rows(l: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    let inverse = invert_lower(l);
    b.dot(&inverse.t()).dot(&inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positive(n: usize) -> Array2<f64> {
        let mut state = 11u64;
        let a = Array2::from_shape_fn((n, n + 3), |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / f64::from(1 << 24) - 0.5
        });
        a.dot(&a.t()) + Array2::<f64>::eye(n) * 0.1
    }

    fn largest(a: &Array2<f64>) -> f64 {
        a.iter().fold(0.0, |m, v| m.max(v.abs()))
    }

    #[test]
    fn factors_and_inverses_reproduce_the_matrix_at_every_block_boundary() {
        for n in [1, 5, 63, 64, 65, 130] {
            let a = positive(n);
            let l = cholesky(&a).expect("positive definite");
            assert!(largest(&(l.dot(&l.t()) - &a)) < 1e-9 * largest(&a), "n = {n}");
            assert!(largest(&(l.dot(&invert_lower(&l)) - Array2::<f64>::eye(n))) < 1e-8, "n = {n}");
            let x = solve_rows(&l, &a);
            assert!(largest(&(x - Array2::<f64>::eye(n))) < 1e-8, "n = {n}");
        }
    }

    #[test]
    fn an_indefinite_matrix_is_noticed() {
        let a = ndarray::array![[1.0, 2.0], [2.0, 1.0]];
        assert!(cholesky(&a).is_none());
    }
}
