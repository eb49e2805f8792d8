//! Fits and rounds the weights of one layer to what its quantized input really holds.
//!
//! From second moments of the layer's quantized inputs x and its float targets t: a ridge regression toward the original weights, its
//! strength chosen by two-fold cross validation over the calibration rows; rounding column by column, the error of each column
//! spread over those that follow (Frantar et al., "GPTQ", 2022; Hassibi and Stork, "Optimal brain surgeon", 1992); a bias that makes the mean
//! exact (bias correction). Moments are taken around an offset, since float sums of uncentred data lose the small differences.

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::linear::{cholesky, invert_lower, solve_rows};

/// Ridge strengths in units of the mean variance of the inputs; the last keeps the original weights.
const STRENGTHS: [f64; 7] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, f64::INFINITY];
/// Least and largest damping of the rounding, in the same unit.
const DAMPING: (f64, f64) = (1e-4, 10.0);
/// Relative jitter that keeps a rank-deficient second moment invertible.
const JITTER: f64 = 1e-6;

/// Moments of one group's inputs (K) and targets (O), around fixed offsets. The second ones are empty where only means are wanted.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    pub count: f64,
    /// Σ x, [K].
    pub x: Array1<f64>,
    /// Σ t, [O].
    pub t: Array1<f64>,
    /// Σ x·xᵀ, [K, K].
    pub xx: Array2<f64>,
    /// Σ t·xᵀ, [O, K].
    pub tx: Array2<f64>,
}

impl Moments {
    pub fn zeros(outputs: usize, inputs: usize, second: bool) -> Self {
        let k = if second { inputs } else { 0 };
        Self {
            count: 0.0,
            x: Array1::zeros(inputs),
            t: Array1::zeros(outputs),
            xx: Array2::zeros((k, k)),
            tx: Array2::zeros((if second { outputs } else { 0 }, k)),
        }
    }

    /// Adds columns x [K, P] with targets t [O, P], both already moved by the offsets.
    pub fn add(&mut self, x: &ArrayView2<'_, f32>, t: &ArrayView2<'_, f32>) {
        self.count += x.ncols() as f64;
        let add = |sum: &mut Array2<f64>, part: Array2<f32>| sum.zip_mut_with(&part, |s, &p| *s += f64::from(p));
        if !self.xx.is_empty() {
            add(&mut self.xx, x.dot(&x.t()));
            add(&mut self.tx, t.dot(&x.t()));
        }
        for (sum, row) in self.x.iter_mut().zip(x.rows()) {
            *sum += row.iter().map(|&v| f64::from(v)).sum::<f64>();
        }
        for (sum, row) in self.t.iter_mut().zip(t.rows()) {
            *sum += row.iter().map(|&v| f64::from(v)).sum::<f64>();
        }
    }

    pub fn merge(mut self, other: &Self) -> Self {
        self.count += other.count;
        self.x += &other.x;
        self.t += &other.t;
        self.xx += &other.xx;
        self.tx += &other.tx;
        self
    }

    fn centred(&self) -> Centred {
        let n = self.count.max(1.0);
        let (mean_x, mean_t) = (&self.x / n, &self.t / n);
        if self.xx.is_empty() {
            return Centred { h: self.xx.clone(), c: self.tx.clone(), mean_x, mean_t, unit: 0.0 };
        }
        let outer =
            |a: &Array1<f64>, b: &Array1<f64>| a.view().insert_axis(Axis(1)).dot(&b.view().insert_axis(Axis(0)));
        let mut h = &self.xx - &(outer(&mean_x, &mean_x) * n);
        let mut c = &self.tx - &(outer(&mean_t, &mean_x) * n);
        // Inputs that do not vary: what is left is rounding, and nothing can be fitted to it.
        if mean_diagonal(&h) < 1e-9 * mean_diagonal(&self.xx) {
            h.fill(0.0);
            c.fill(0.0);
        }
        let unit = mean_diagonal(&h);
        h.diag_mut().mapv_inplace(|v| v + JITTER * unit);
        Centred { h, c, mean_x, mean_t, unit }
    }
}

struct Centred {
    h: Array2<f64>,
    c: Array2<f64>,
    mean_x: Array1<f64>,
    mean_t: Array1<f64>,
    unit: f64,
}

fn mean_diagonal(h: &Array2<f64>) -> f64 {
    h.diag().sum() / h.nrows().max(1) as f64
}

/// What one layer is fitted from: per group, the moments of even and of odd calibration rows.
pub(super) struct LayerMoments {
    pub groups: Vec<[Moments; 2]>,
    /// Offset of the inputs, [groups][K].
    pub x_offset: Vec<Vec<f32>>,
    /// Offset of the targets, [groups][O].
    pub t_offset: Vec<Vec<f32>>,
}

/// Rounded weights of one layer.
#[derive(Debug, Clone)]
pub(super) struct Rounded {
    /// [O, K] in −127..=127, or in −63..=63.
    pub weights: Array2<i8>,
    /// [O].
    pub scales: Vec<f32>,
    /// [O], before it is rounded to steps of input scale × weight scale.
    pub bias: Vec<f32>,
    /// The ridge strength that cross validation chose; infinite: the original weights.
    pub strength: f64,
}

/// How [`fit`] rounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// The step of the layer's input.
    pub input_scale: f32,
    /// Whether errors are fed back; otherwise the original weights are rounded to nearest, and only the bias is corrected.
    pub compensate: bool,
    /// Largest magnitude of a stored weight.
    pub weight_max: f64,
    /// Whether all outputs share one scale.
    pub one_scale: bool,
}

/// Fits and rounds. `original` is [O, K].
pub(super) fn fit(original: &Array2<f32>, bias: &[f32], moments: &LayerMoments, how: How) -> Rounded {
    let How { input_scale, compensate, weight_max, one_scale } = how;
    let groups = moments.groups.len();
    let per_group = original.nrows() / groups;
    let k = original.ncols();
    let start: Vec<Array2<f64>> =
        (0..groups).map(|g| original.slice(s![g * per_group..(g + 1) * per_group, ..]).mapv(f64::from)).collect();
    let whole: Vec<Centred> = moments.groups.iter().map(|[a, b]| a.clone().merge(b).centred()).collect();
    let largest = whole.iter().map(|m| m.unit).fold(0.0, f64::max);
    let units = |m: &Centred| m.unit.max(1e-6 * largest).max(f64::MIN_POSITIVE);
    let strength = if compensate { choose_strength(&start, moments, largest) } else { f64::INFINITY };
    let mut out = Rounded {
        weights: Array2::zeros(original.dim()),
        scales: vec![0.0; original.nrows()],
        bias: vec![0.0; original.nrows()],
        strength,
    };
    let fitted: Vec<Array2<f64>> = (whole.iter().zip(&start))
        .map(|(m, start)| ridge(start, m, strength * units(m)).unwrap_or_else(|| start.clone()))
        .collect();
    let own_scales = fitted.iter().flat_map(|w| w.rows()).zip(bias).map(|(row, bias)| {
        let top = row.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        let for_bias = f64::from(bias.abs()) / (f64::from(input_scale) * f64::from(1 << 30));
        (top / weight_max).max(for_bias).max(1e-12)
    });
    let mut all_scales: Vec<f64> = own_scales.collect();
    if one_scale {
        let largest = all_scales.iter().copied().fold(0.0, f64::max);
        all_scales.fill(largest);
    }
    for (g, (m, w)) in whole.iter().zip(&fitted).enumerate() {
        let scales = &all_scales[g * per_group..(g + 1) * per_group];
        let damping = strength.min(DAMPING.1).max(DAMPING.0) * units(m);
        let rounded = compensate.then(|| compensated(w, scales, m, damping, weight_max)).flatten();
        let rounded = rounded.unwrap_or_else(|| nearest(w, scales, weight_max));
        for o in 0..per_group {
            let row = g * per_group + o;
            // Steps, as they will be stored: an f32 scale.
            let scale = scales[o] as f32;
            let mut mean = m.mean_t[o] + f64::from(moments.t_offset[g][o]);
            for i in 0..k {
                let x = m.mean_x[i] + f64::from(moments.x_offset[g][i]);
                mean -= f64::from(rounded[[o, i]]) * f64::from(scale) * x;
                out.weights[[row, i]] = rounded[[o, i]];
            }
            out.scales[row] = scale;
            out.bias[row] = mean as f32;
        }
    }
    out
}

/// Two-fold cross validation over even and odd rows; the loss is summed over all groups and outputs.
fn choose_strength(start: &[Array2<f64>], moments: &LayerMoments, largest: f64) -> f64 {
    let mut losses = [0.0f64; STRENGTHS.len()];
    for (w0, halves) in start.iter().zip(&moments.groups) {
        // With fewer positions than unknowns twice over, as in last layers, the original weights win anyway.
        if halves.iter().any(|h| h.count < 2.0 * w0.ncols() as f64) {
            return f64::INFINITY;
        }
        let folds = [halves[0].centred(), halves[1].centred()];
        for (train, test) in [(&folds[0], &folds[1]), (&folds[1], &folds[0])] {
            let unit = train.unit.max(1e-6 * largest).max(f64::MIN_POSITIVE);
            for (loss, strength) in losses.iter_mut().zip(STRENGTHS) {
                match ridge(w0, train, strength * unit) {
                    Some(w) => *loss += (w.dot(&test.h) * &w).sum() - 2.0 * (&w * &test.c).sum(),
                    None => *loss = f64::INFINITY,
                }
            }
        }
    }
    let mut best = STRENGTHS.len() - 1;
    for i in (0..STRENGTHS.len()).rev() {
        if losses[i] < losses[best] {
            best = i;
        }
    }
    STRENGTHS[best]
}

/// W0 + (C − W0·H)·(H + λI)⁻¹.
fn ridge(w0: &Array2<f64>, m: &Centred, lambda: f64) -> Option<Array2<f64>> {
    if lambda.is_infinite() {
        return Some(w0.clone());
    }
    let mut a = m.h.clone();
    a.diag_mut().mapv_inplace(|v| v + lambda);
    let l = cholesky(&a)?;
    Some(w0 + &solve_rows(&l, &(&m.c - &w0.dot(&m.h))))
}

fn nearest(w: &Array2<f64>, scales: &[f64], max: f64) -> Array2<i8> {
    Array2::from_shape_fn(w.dim(), |(o, i)| (w[[o, i]] / scales[o]).round().clamp(-max, max) as i8)
}

/// Rounding with error feedback; `None` when the damped moment cannot be factored.
fn compensated(w: &Array2<f64>, scales: &[f64], m: &Centred, damping: f64, max: f64) -> Option<Array2<i8>> {
    let k = w.ncols();
    // Inputs with the largest variance first: their errors can still be spread.
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&a, &b| m.h[[b, b]].total_cmp(&m.h[[a, a]]).then(a.cmp(&b)));
    // A = R·Rᵀ with R upper, from the lower factor of the matrix in reverse order; U = R⁻¹ is upper.
    let reversed = Array2::from_shape_fn((k, k), |(i, j)| {
        let (a, b) = (order[k - 1 - i], order[k - 1 - j]);
        m.h[[a, b]] + if a == b { damping } else { 0.0 }
    });
    let inverse = invert_lower(&cholesky(&reversed)?);
    let u = Array2::from_shape_fn((k, k), |(i, j)| inverse[[k - 1 - i, k - 1 - j]]);
    let mut out = Array2::zeros(w.dim());
    for (o, &scale) in scales.iter().enumerate() {
        let mut row: Vec<f64> = order.iter().map(|&i| w[[o, i]]).collect();
        for i in 0..k {
            let q = (row[i] / scale).round().clamp(-max, max);
            out[[o, order[i]]] = q as i8;
            let error = (row[i] - q * scale) / u[[i, i]];
            let spread = u.slice(s![i, i + 1..]);
            for (w, &u) in row[i + 1..].iter_mut().zip(spread) {
                *w -= error * u;
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Correlated inputs, as neighbouring pixels are.
    fn inputs(k: usize, p: usize) -> Array2<f32> {
        let mut state = 3u64;
        let mut noise = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let base: Vec<f32> = (0..p).map(|_| noise()).collect();
        Array2::from_shape_fn((k, p), |(_, j)| base[j] + 0.3 * noise())
    }

    fn layer(x: &Array2<f32>, w: &Array2<f32>) -> LayerMoments {
        let t = w.dot(x);
        let mut halves = [Moments::zeros(w.nrows(), w.ncols(), true), Moments::zeros(w.nrows(), w.ncols(), true)];
        let middle = x.ncols() / 2;
        halves[0].add(&x.slice(s![.., ..middle]), &t.slice(s![.., ..middle]));
        halves[1].add(&x.slice(s![.., middle..]), &t.slice(s![.., middle..]));
        LayerMoments {
            groups: vec![halves],
            x_offset: vec![vec![0.0; w.ncols()]],
            t_offset: vec![vec![0.0; w.nrows()]],
        }
    }

    fn how(compensate: bool) -> How {
        How { input_scale: 0.01, compensate, weight_max: 127.0, one_scale: false }
    }

    fn error(rounded: &Rounded, x: &Array2<f32>, w: &Array2<f32>) -> f64 {
        let dequantized =
            Array2::from_shape_fn(w.dim(), |(o, i)| f32::from(rounded.weights[[o, i]]) * rounded.scales[o]);
        let mut y = dequantized.dot(x);
        for (mut row, b) in y.rows_mut().into_iter().zip(&rounded.bias) {
            row += *b;
        }
        (y - w.dot(x)).iter().map(|v| f64::from(v * v)).sum()
    }

    #[test]
    fn error_feedback_beats_rounding_to_nearest_on_correlated_inputs() {
        let (x, w) = (inputs(24, 400), inputs(6, 24).mapv(|v| v * 0.2));
        let w = w.slice(s![.., ..24]).to_owned();
        let moments = layer(&x, &w);
        let compensated = error(&fit(&w, &[0.0; 6], &moments, how(true)), &x, &w);
        let nearest = error(&fit(&w, &[0.0; 6], &moments, how(false)), &x, &w);
        assert!(compensated < 0.7 * nearest, "{compensated} against {nearest}");
    }

    #[test]
    fn the_mean_is_exact_after_the_bias_correction() {
        let x = inputs(10, 200).mapv(|v| v + 0.4);
        let w = inputs(3, 10);
        let rounded = fit(&w, &[0.0; 3], &layer(&x, &w), how(false));
        let wq = Array2::from_shape_fn(w.dim(), |(o, i)| f32::from(rounded.weights[[o, i]]) * rounded.scales[o]);
        let difference = w.dot(&x) - wq.dot(&x);
        for (o, row) in difference.rows().into_iter().enumerate() {
            assert!((row.mean().expect("columns") - rounded.bias[o]).abs() < 1e-4);
        }
    }

    #[test]
    fn inputs_without_variance_leave_the_weights_alone() {
        let x = Array2::from_elem((4, 50), 0.5);
        let w = inputs(2, 4);
        let rounded = fit(&w, &[0.0; 2], &layer(&x, &w), how(true));
        assert!(error(&rounded, &x, &w) < 1e-6);
        assert!(rounded.weights.iter().all(|&q| q != -128));
    }

    #[test]
    fn one_scale_for_all_outputs_is_the_largest_and_its_errors_are_fed_back_too() {
        let x = inputs(24, 400);
        // Rows of very different sizes: what one scale costs.
        let mut w = inputs(6, 24);
        for (i, mut row) in w.rows_mut().into_iter().enumerate() {
            row *= 0.5f32.powi(i as i32);
        }
        let moments = layer(&x, &w);
        let run = |one_scale, compensate| fit(&w, &[0.0; 6], &moments, How { one_scale, ..how(compensate) });
        let (own, shared, nearest) = (run(false, true), run(true, true), run(true, false));
        let largest = own.scales.iter().copied().fold(0.0, f32::max);
        assert!(shared.scales.iter().all(|&s| s == shared.scales[0]), "{:?}", shared.scales);
        assert!((shared.scales[0] / largest - 1.0).abs() < 0.05, "{} and {largest}", shared.scales[0]);
        let errors = [&own, &shared, &nearest].map(|r| error(r, &x, &w));
        assert!(errors[0] < errors[1] && errors[1] < 0.7 * errors[2], "{errors:?}");
    }
}
