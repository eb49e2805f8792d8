//! Matrix products: Gemm and batched MatMul.

use ndarray::{Array2, ArrayD, ArrayView2, IxDyn, linalg::general_mat_mul};

use super::{Fault, Outcome, elements, elementwise::broadcast_shape, shape::flat};

/// alpha · A' · B' + beta · C, with C broadcast to the result.
pub(super) fn gemm(
    a: &ArrayD<f32>,
    b: &ArrayD<f32>,
    c: Option<&ArrayD<f32>>,
    (alpha, beta): (f32, f32),
    (trans_a, trans_b): (bool, bool),
) -> Outcome<ArrayD<f32>> {
    let (av, bv) = (matrix(a, trans_a)?, matrix(b, trans_b)?);
    let ((m, k), (k2, n)) = (av.dim(), bv.dim());
    if k != k2 {
        return Fault::invalid(format!("A {:?} and B {:?} do not fit", a.shape(), b.shape()));
    }
    elements(&[m, n])?;
    let mut out = match c {
        Some(c) => {
            let Some(c) = c.broadcast(IxDyn(&[m, n])) else {
                return Fault::invalid(format!("C {:?} does not broadcast to [{m}, {n}]", c.shape()));
            };
            c.to_owned().into_dimensionality::<ndarray::Ix2>()?
        }
        None => Array2::zeros((m, n)),
    };
    let beta = if c.is_some() { beta } else { 0.0 };
    general_mat_mul(alpha, &av, &bv, beta, &mut out);
    Ok(out.into_dyn())
}

fn matrix(a: &ArrayD<f32>, transposed: bool) -> Outcome<ArrayView2<'_, f32>> {
    let view = match a.view().into_dimensionality::<ndarray::Ix2>() {
        Ok(view) => view,
        Err(_) => return Fault::invalid(format!("a matrix is expected, got shape {:?}", a.shape())),
    };
    Ok(if transposed { view.reversed_axes() } else { view })
}

/// As numpy's `matmul`: leading axes broadcast, vectors are rows on the left and columns on the right.
pub(super) fn matmul(a: &ArrayD<f32>, b: &ArrayD<f32>) -> Outcome<ArrayD<f32>> {
    let fault = || Fault::Invalid(format!("A {:?} and B {:?} do not fit", a.shape(), b.shape()));
    let mut a_shape = a.shape().to_vec();
    let mut b_shape = b.shape().to_vec();
    if a_shape.is_empty() || b_shape.is_empty() {
        return Err(fault());
    }
    let (a_vector, b_vector) = (a_shape.len() == 1, b_shape.len() == 1);
    if a_vector {
        a_shape.insert(0, 1);
    }
    if b_vector {
        b_shape.push(1);
    }
    let (a_lead, a_dims) = a_shape.split_at(a_shape.len() - 2);
    let (b_lead, b_dims) = b_shape.split_at(b_shape.len() - 2);
    let (m, k, n) = (a_dims[0], a_dims[1], b_dims[1]);
    if k != b_dims[0] {
        return Err(fault());
    }
    let lead = broadcast_shape(a_lead, b_lead)?;
    let mut out_shape = lead.clone();
    out_shape.extend([m, n]);
    let mut out = vec![0.0f32; elements(&out_shape)?];
    let (a, b) = (flat(a), flat(b));
    if b_lead.iter().all(|&n| n == 1) && a_lead == lead {
        // One matrix on the right: all rows on the left at once.
        let rows = lead.iter().product::<usize>() * m;
        multiply(&a, &b, (rows, k, n), &mut out)?;
    } else if !out.is_empty() {
        for (i, y) in out.chunks_exact_mut(m * n).enumerate() {
            let (ai, bi) = (source(i, &lead, a_lead), source(i, &lead, b_lead));
            multiply(&a[ai * m * k..][..m * k], &b[bi * k * n..][..k * n], (m, k, n), y)?;
        }
    }
    if a_vector {
        out_shape.remove(out_shape.len() - 2);
    }
    if b_vector {
        out_shape.pop();
    }
    Ok(ArrayD::from_shape_vec(IxDyn(&out_shape), out)?)
}

fn multiply(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize), y: &mut [f32]) -> Outcome<()> {
    let a = ArrayView2::from_shape((m, k), a)?;
    let b = ArrayView2::from_shape((k, n), b)?;
    let mut y = ndarray::ArrayViewMut2::from_shape((m, n), y)?;
    general_mat_mul(1.0, &a, &b, 0.0, &mut y);
    Ok(())
}

/// Flat index, in an operand whose leading axes `from` were broadcast to `to`, of the result's flat index.
fn source(mut index: usize, to: &[usize], from: &[usize]) -> usize {
    let mut strides = vec![0; to.len()];
    let mut stride = 1;
    for (axis, &n) in from.iter().enumerate().rev() {
        if n != 1 {
            strides[axis + to.len() - from.len()] = stride;
        }
        stride *= n;
    }
    let mut at = 0;
    for (axis, &n) in to.iter().enumerate().rev() {
        at += index % n * strides[axis];
        index /= n;
    }
    at
}
