//! The default solver: L2-regularised softmax regression in the span of the shots.
//!
//! Shots are compared by direction: xᵢ = uᵢ/‖uᵢ‖, where uᵢ = qᵢ − zero point. Their Gram matrix comes from exact
//! integer products; it is centred and scaled to a mean squared norm of 1, so that one L2 strength means the same
//! for every backbone. By the representer theorem the best weights are W = Aᵀ·X; with more shots than dimensions W
//! itself is the unknown.

use half::f16;

use super::hold_back::hold_back;
use super::linalg::{axpy, axpy_each, columns_times, dot, padded, products_of_rows, set_both, sum};
use super::loo::{self, GRID, Judged, PRIOR_GRID};
use super::newton::{self, Problem};
use super::prior::Prior;
use super::space::{Side, Space};
use super::tridiagonal::{self, Tridiagonal};
use super::workspace::{Buffers, carve};
use crate::error::{Error, Result};
use crate::kernels::generic::{TILE, dot_centred, dots_centred};
use crate::quant::{EmbeddingKind, EmbeddingSpec};
use crate::tensor::Rows;

/// Labelled embeddings.
#[derive(Debug, Clone, Copy)]
pub struct Shots<'a> {
    /// N rows as the bundle stores embeddings.
    pub rows: Rows<'a>,
    /// How a row is stored.
    pub spec: EmbeddingSpec,
    /// N class indices below `classes`.
    pub labels: &'a [u16],
    /// N weights between 1e-6 and 1e6; `None` means 1 each.
    pub weights: Option<&'a [f32]>,
    /// Number of classes C of the head, at least 2.
    pub classes: usize,
}

/// Where rows come from: the owner's shots, then replayed rows, `order[k]` being the row of the k-th.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub spec: EmbeddingSpec,
    pub own: Rows<'a>,
    pub replay: Option<Rows<'a>>,
    pub order: &'a [u16],
}

impl<'a> Source<'a> {
    pub fn row(&self, i: usize) -> &'a [u8] {
        let Some(k) = i.checked_sub(self.own.len()) else { return self.own.get(i).unwrap_or_default() };
        let at = self.order.get(k).copied().map(usize::from);
        self.replay.zip(at).and_then(|(rows, at)| rows.get(at)).unwrap_or_default()
    }
}

/// Rows with their classes; the first `own` are the owner's.
pub(super) struct Examples<'a> {
    pub source: Source<'a>,
    pub labels: &'a [u16],
    pub own: usize,
    pub classes: usize,
    /// The head to start from, where there is one.
    pub prior: Option<Prior<'a>>,
    /// Share of the replayed rows that new classes may take from those that the prior knows.
    pub lose: f32,
}

/// Relative accuracy of the objective unless the caller says otherwise: rounding the weights to int8 moves it by more.
pub const TOLERANCE: f32 = 1e-5;

/// How to solve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// L2 strength λ > 0; `None`: chosen by leave-one-out.
    pub l2: Option<f32>,
    /// Relative accuracy of the objective at which to stop.
    pub tolerance: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { l2: None, tolerance: TOLERANCE }
    }
}

/// What came out, beside the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// L2 strength used.
    pub l2: f32,
    /// Leave-one-out accuracy on the shots, 0..=1; `None` when no class has two shots.
    pub loo_accuracy: Option<f32>,
    /// Final objective: Σ weight·cross-entropy + (λ/2)·‖W‖², in the scaled space; with a prior W is what is added to its rows, and the
    /// biases of its classes count too.
    pub objective: f32,
    /// Newton steps.
    pub steps: usize,
    /// Whether the tolerance was reached.
    pub converged: bool,
}

/// Tunes: weights `w` (C×D, row-major) and bias `b` (C) such that the scores of an embedding u (zero point subtracted) are
/// w·u/‖u‖ + b. `answers[i]` is what a head without shot i says to it ([`loo::UNJUDGED`] where that is undefined).
///
/// `memory` needs [`super::workspace_len`] values. The same shots in the same order give the same bits on every target.
///
/// # Errors
/// [`Error::ZeroShots`], [`Error::OneClass`], [`Error::UnknownClass`], [`Error::EmptyClass`] for a class without shots; [`Error::Shape`] and [`Error::Buffer`] for sizes that do not fit;
/// [`Error::NonFinite`] for weights out of range, and for f16 embeddings that hold NaN or infinity.
pub fn solve(
    shots: &Shots<'_>,
    options: &Options,
    memory: &mut [f32],
    w: &mut [f32],
    b: &mut [f32],
    answers: &mut [u16],
) -> Result<Fit> {
    let n = shots.labels.len();
    if let Some(weights) = shots.weights {
        if weights.len() != n {
            return Err(Error::Shape { what: "weights of the shots", expected: n, got: weights.len() });
        }
        if let Some(index) = weights.iter().position(|v| !(1e-6..=1e6).contains(v)) {
            return Err(Error::NonFinite { what: "weights of the shots (1e-6 to 1e6)", index });
        }
    }
    let source = Source { spec: shots.spec, own: shots.rows, replay: None, order: &[] };
    let examples = Examples { source, labels: shots.labels, own: n, classes: shots.classes, prior: None, lose: 0.0 };
    check_problem(&examples, options, w, b, answers)?;
    solve_examples(
        &examples,
        options,
        |i| shots.weights.and_then(|w| w.get(i)).copied().unwrap_or(1.0),
        memory,
        w,
        b,
        answers,
    )
}

/// [`solve`] on checked sizes, with replayed examples after the owner's shots. With a prior, the probability that each example's own class
/// has when the example is left out is in the first values of `memory` afterwards.
pub(super) fn solve_examples(
    examples: &Examples<'_>,
    options: &Options,
    weight_of: impl Fn(usize) -> f32,
    memory: &mut [f32],
    w: &mut [f32],
    b: &mut [f32],
    answers: &mut [u16],
) -> Result<Fit> {
    let Examples { ref source, labels, classes, prior, .. } = *examples;
    let (n, dim) = (labels.len(), source.spec.dim);
    let (width, size) = (padded(n), padded(n.min(dim)));
    let (basis, reflectors, mut buffers) = carve(memory, n, dim, classes)?;
    // Moved out so that the buffers can be borrowed beside them.
    let weights = core::mem::take(&mut buffers.weights);
    let roots = core::mem::take(&mut buffers.roots);
    let inverse_roots = core::mem::take(&mut buffers.inverse_roots);
    for (i, ((weight, root), inverse)) in
        weights.iter_mut().zip(roots.iter_mut()).zip(inverse_roots.iter_mut()).take(n).enumerate()
    {
        *weight = weight_of(i);
        *root = libm::sqrtf(*weight);
        *inverse = 1.0 / *root;
    }
    let total = sum(weights);
    let side = if n <= dim { Side::Shots } else { Side::Dimensions };
    if side == Side::Shots {
        products(source, n, basis);
    }
    for (i, inverse) in buffers.inverse_norm.iter_mut().take(n).enumerate() {
        let square = if side == Side::Shots { basis.get(i * width + i).copied() } else { Some(product(source, i, i)) };
        let norm = libm::sqrtf(square.unwrap_or_default());
        if !norm.is_finite() {
            return Err(Error::NonFinite { what: "embedding of a shot", index: i });
        }
        *inverse = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    }
    let prior_scale = match &prior {
        Some(prior) => offsets(examples, prior, width, &mut buffers)?,
        None => 0.0,
    };
    let (scale, grand) = match side {
        Side::Shots => gram(basis, weights, roots, total, &mut buffers),
        Side::Dimensions => (features(source, basis, weights, roots, total, &mut buffers), 0.0),
    };
    let diagonal = core::mem::take(&mut buffers.diagonal);
    let off = core::mem::take(&mut buffers.off);
    let (v, p) = (&mut *buffers.lower, &mut *buffers.inverse);
    match side {
        Side::Shots => {
            tridiagonal::reduce(basis, width, diagonal, off, v, p);
            tridiagonal::transposed(basis, width, n, v);
        }
        Side::Dimensions => {
            products_of_rows(basis, width, reflectors, size);
            tridiagonal::reduce(reflectors, size, diagonal, off, v, p);
            tridiagonal::transposed_times(basis, width, reflectors, size);
        }
    }
    let t = Tridiagonal { diagonal, off };
    let space = Space { side, basis, width, size, t, weights, roots, inverse_roots };
    let judged = Judged { labels, own: examples.own, classes, prior };
    let mut choice = match options.l2 {
        Some(l2) => loo::choose(&space, &judged, &[l2], &mut buffers, answers),
        None if prior.is_some() => loo::choose(&space, &judged, &PRIOR_GRID, &mut buffers, answers),
        None => loo::choose(&space, &judged, &GRID, &mut buffers, answers),
    };
    let problem = Problem { space, labels, classes, l2: choice.l2, prior, tolerance: options.tolerance };
    let solved = newton::solve(&problem, &mut buffers);
    if let Some(prior) = &prior {
        hold_back(&problem, prior, &judged, examples.lose, total, &mut buffers, answers);
        choice.accuracy = choice.accuracy.and_then(|_| loo::accuracy(&judged, answers));
    }
    let space = &problem.space;
    match side {
        Side::Shots => weights_from_coefficients(source, space, total, scale, grand, &mut buffers, w, b),
        Side::Dimensions => weights_from_dimensions(dim, space, scale, reflectors, &mut buffers, w, b),
    }
    if let Some(prior) = &prior {
        prior.add_to(prior_scale, w, b);
        basis.iter_mut().zip(buffers.per_shot.iter()).take(n).for_each(|(out, &p)| *out = p);
    }
    Ok(Fit {
        l2: choice.l2,
        loo_accuracy: choice.accuracy,
        objective: solved.objective,
        steps: solved.steps,
        converged: solved.converged,
    })
}

/// The prior's scores of every example into `image`; returns what its rows are multiplied by.
fn offsets(examples: &Examples<'_>, prior: &Prior<'_>, width: usize, b: &mut Buffers<'_>) -> Result<f32> {
    let n = examples.labels.len();
    // Shots may be of another kind than what the prior was trained on; what is replayed is not.
    let (mut norms, mut count) = (0.0, 0.0f32);
    for &inverse in b.inverse_norm.iter().take(n).skip(if examples.own < n { examples.own } else { 0 }) {
        if inverse > 0.0 {
            norms += 1.0 / inverse;
            count += 1.0;
        }
    }
    let scale = prior.scale(norms / count.max(1.0));
    for (i, &inverse) in b.inverse_norm.iter().take(n).enumerate() {
        let factor = if prior.head.unit() { inverse } else { scale * inverse };
        prior.scores(examples.source.row(i), factor, i, b.image, width)?;
    }
    Ok(scale)
}

/// Sizes, classes and options.
pub(super) fn check_problem(
    examples: &Examples<'_>,
    options: &Options,
    w: &[f32],
    b: &[f32],
    answers: &[u16],
) -> Result<()> {
    let Examples { ref source, labels, classes, prior, .. } = *examples;
    let dim = source.spec.check()?.dim;
    let sizes = [
        ("bytes of a shot", source.spec.row_bytes(), source.own.row_bytes()),
        ("labels of the shots", source.own.len() + source.order.len(), labels.len()),
        ("weights of the head", classes.saturating_mul(dim), w.len()),
        ("biases of the head", classes, b.len()),
        ("answers", labels.len(), answers.len()),
    ];
    if let Some(&(what, expected, got)) = sizes.iter().find(|(_, expected, got)| expected != got) {
        return Err(Error::Shape { what, expected, got });
    }
    let Some(&first) = labels.first() else { return Err(Error::ZeroShots) };
    if let Some(&label) = labels.iter().find(|&&label| usize::from(label) >= classes) {
        return Err(Error::UnknownClass { class: usize::from(label), classes });
    }
    if labels.iter().all(|&label| label == first) {
        return Err(Error::OneClass);
    }
    // Without a shot the best bias of a class would be minus infinity.
    let known = |class| prior.is_some_and(|prior| prior.class(class).is_some());
    let taught = |class| labels.iter().any(|&label| usize::from(label) == class);
    if let Some(class) = (0..classes).find(|&class| !known(class) && !taught(class)) {
        return Err(Error::EmptyClass { class });
    }
    let positive = |v: f32| v.is_normal() && v > 0.0;
    if options.l2.is_some_and(|l2| !(1e-12..=1e12).contains(&l2)) {
        return Err(Error::Malformed { what: "L2 strength", why: "it must lie between 1e-12 and 1e12" });
    }
    if !positive(options.tolerance) {
        return Err(Error::Malformed { what: "tolerance", why: "it must be positive and finite" });
    }
    Ok(())
}

/// Class of the largest score of one row, the first of equals; see [`solve`].
pub(super) fn predict(spec: &EmbeddingSpec, row: &[u8], w: &[f32], b: &[f32]) -> u16 {
    let value = |d: usize| match spec.kind {
        EmbeddingKind::Int8(q) => {
            row.get(d).map_or(0.0, |byte| f32::from(i16::from(byte.cast_signed()) - i16::from(q.zero_point)))
        }
        EmbeddingKind::F16 => row.get(2 * d..2 * d + 2).map_or(0.0, half_value),
    };
    let norm = libm::sqrtf((0..spec.dim).map(|d| value(d) * value(d)).sum());
    let inverse = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    let mut best = (f32::NEG_INFINITY, 0);
    for ((w, &b), class) in w.chunks_exact(spec.dim).zip(b).zip(0u16..) {
        let score = inverse * w.iter().enumerate().map(|(d, w)| w * value(d)).sum::<f32>() + b;
        if score > best.0 {
            best = (score, class);
        }
    }
    best.1
}

/// uᵢ·uⱼ: exact for int8, rounded once to f32; for f16 in f32 with a fixed order.
fn product(source: &Source<'_>, i: usize, j: usize) -> f32 {
    let (a, b) = (source.row(i), source.row(j));
    match source.spec.kind {
        EmbeddingKind::Int8(q) => dot_centred(a, b, q.zero_point) as f32,
        EmbeddingKind::F16 => {
            let values = |row: &'_ [u8]| -> [f32; 8] {
                let mut out = [0.0; 8];
                for (v, bytes) in out.iter_mut().zip(row.chunks_exact(2)) {
                    *v = half_value(bytes);
                }
                out
            };
            a.chunks(16).zip(b.chunks(16)).map(|(a, b)| dot(&values(a), &values(b))).sum()
        }
    }
}

fn half_value(bytes: &[u8]) -> f32 {
    <[u8; 2]>::try_from(bytes).map_or(0.0, |b| f16::from_le_bytes(b).to_f32())
}

/// Values of a row that are widened at a time.
const WIDE: usize = 256;

/// Values of uᵢ from `start` on.
fn widen(source: &Source<'_>, i: usize, start: usize, out: &mut [f32]) {
    let row = source.row(i);
    match source.spec.kind {
        EmbeddingKind::Int8(q) => {
            let zero_point = i16::from(q.zero_point);
            for (out, &byte) in out.iter_mut().zip(row.get(start..).unwrap_or_default()) {
                *out = f32::from(i16::from(byte.cast_signed()) - zero_point);
            }
        }
        EmbeddingKind::F16 => {
            for (out, bytes) in out.iter_mut().zip(row.get(2 * start..).unwrap_or_default().chunks_exact(2)) {
                *out = half_value(bytes);
            }
        }
    }
}

/// uᵢ·uⱼ of all pairs, N rows of N padded.
fn products(source: &Source<'_>, n: usize, table: &mut [f32]) {
    let width = padded(n);
    if let EmbeddingKind::Int8(q) = source.spec.kind {
        let mut tile = [[0; TILE]; TILE];
        let (mut rows_i, mut rows_j) = ([&[][..]; TILE], [&[][..]; TILE]);
        for i in (0..n).step_by(TILE) {
            let rows_i = gather(source, i, n, &mut rows_i);
            for j in (0..=i).step_by(TILE) {
                let rows_j = gather(source, j, n, &mut rows_j);
                dots_centred(rows_i, rows_j, q.zero_point, i == j, &mut tile);
                for (i, sums) in (i..n).zip(&tile) {
                    for (j, &sum) in (j..=i).zip(sums) {
                        set_both(table, width, i, j, sum as f32);
                    }
                }
            }
        }
    } else {
        for i in 0..n {
            for j in 0..=i {
                set_both(table, width, i, j, product(source, i, j));
            }
        }
    }
}

fn gather<'a, 'b>(source: &Source<'a>, start: usize, n: usize, rows: &'b mut [&'a [u8]; TILE]) -> &'b [&'a [u8]] {
    let count = TILE.min(n - start);
    for (i, row) in (start..n).zip(rows.iter_mut()) {
        *row = source.row(i);
    }
    rows.get(..count).unwrap_or_default()
}

/// From the products to the centred, scaled Gram matrix of unit rows, rows and columns times √w; leaves each row's mean in `row_mean`.
/// Returns the scale t and the grand mean.
fn gram(table: &mut [f32], weights: &[f32], roots: &[f32], total: f32, b: &mut Buffers<'_>) -> (f32, f32) {
    let width = weights.len();
    for (row, &inverse_i) in table.chunks_exact_mut(width).zip(b.inverse_norm.iter()) {
        for (entry, &inverse_j) in row.iter_mut().zip(b.inverse_norm.iter()) {
            // In this order for (i, j) and (j, i) alike: the matrix stays symmetric to the bit.
            *entry *= inverse_i * inverse_j;
        }
    }
    for (mean, row) in b.row_mean.iter_mut().zip(table.chunks_exact(width)) {
        *mean = dot(weights, row) / total;
    }
    let grand = dot(weights, b.row_mean) / total;
    let mut norm = 0.0;
    for (i, ((row, &mean_i), &weight)) in table.chunks_exact(width).zip(b.row_mean.iter()).zip(weights).enumerate() {
        norm += weight * (row.get(i).copied().unwrap_or_default() - (mean_i + mean_i) + grand);
    }
    let scale = usable(norm / total);
    let inverse = 1.0 / scale;
    for ((row, &mean_i), &root_i) in table.chunks_exact_mut(width).zip(b.row_mean.iter()).zip(roots) {
        for ((entry, &mean_j), &root_j) in row.iter_mut().zip(b.row_mean.iter()).zip(roots) {
            // Roots are 0 beyond the last shot, and so is the row there.
            *entry = (*entry - (mean_i + mean_j) + grand) * (root_i * root_j) * inverse;
        }
    }
    (scale, grand)
}

/// The centred, scaled rows times √w, transposed: D rows of N padded; leaves their mean in `mean`. Returns the scale t.
fn features(
    source: &Source<'_>,
    table: &mut [f32],
    weights: &[f32],
    roots: &[f32],
    total: f32,
    b: &mut Buffers<'_>,
) -> f32 {
    let width = weights.len();
    let mut wide = [0.0; WIDE];
    for (i, &inverse) in b.inverse_norm.iter().enumerate().take(source.own.len() + source.order.len()) {
        for (start, rows) in (0..).step_by(WIDE).zip(table.chunks_mut(WIDE * width)) {
            widen(source, i, start, &mut wide);
            for (row, &v) in rows.chunks_exact_mut(width).zip(&wide) {
                if let Some(entry) = row.get_mut(i) {
                    *entry = v * inverse;
                }
            }
        }
    }
    let mut norm = 0.0;
    for (row, mean) in table.chunks_exact_mut(width).zip(b.mean.iter_mut()) {
        *mean = dot(weights, row) / total;
        for (entry, &root) in row.iter_mut().zip(roots) {
            *entry = (*entry - *mean) * root;
        }
        norm += dot(row, row);
    }
    let scale = usable(norm / total);
    let factor = 1.0 / libm::sqrtf(scale);
    for entry in table.iter_mut() {
        *entry *= factor;
    }
    scale
}

/// Shots that are all alike have no spread; any scale then gives weights of zero.
fn usable(scale: f32) -> f32 {
    if scale > 1e-12 { scale } else { 1.0 }
}

/// Shots whose rows are widened together.
const TOGETHER: usize = 4;

/// W_c = (1/t)·Σ a_ic·xᵢ and its bias, after making each class's coefficients sum to zero (which changes no score).
#[expect(clippy::too_many_arguments, reason = "one step of `solve`, split off to be read by itself")]
fn weights_from_coefficients(
    source: &Source<'_>,
    space: &Space<'_>,
    total: f32,
    scale: f32,
    grand: f32,
    buffers: &mut Buffers<'_>,
    w: &mut [f32],
    b: &mut [f32],
) {
    let (width, dim) = (space.width, source.spec.dim);
    let coefficients = &mut *buffers.image;
    columns_times(space.basis, width, buffers.unknown, space.size, coefficients);
    for (a, (b, &bias)) in coefficients.chunks_exact_mut(width).zip(b.iter_mut().zip(buffers.bias.iter())) {
        for (a, &root) in a.iter_mut().zip(space.roots) {
            *a *= root;
        }
        axpy(-sum(a) / total, space.weights, a);
        let mut offset = 0.0;
        for ((a, &inverse), &mean) in a.iter_mut().zip(buffers.inverse_norm.iter()).zip(buffers.row_mean.iter()) {
            offset += *a * (mean - grand);
            *a = *a * inverse / scale;
        }
        *b = bias - offset / scale;
    }
    // Each row is widened once for all classes.
    w.fill(0.0);
    let n = source.own.len() + source.order.len();
    let mut wide = [[0.0; WIDE]; TOGETHER];
    for i in (0..n).step_by(TOGETHER) {
        for start in (0..dim).step_by(WIDE) {
            let len = WIDE.min(dim - start);
            for (i, wide) in (i..n).zip(&mut wide) {
                widen(source, i, start, wide);
            }
            for (a, w) in coefficients.chunks_exact(width).zip(w.chunks_exact_mut(dim)) {
                // Beyond the last shot coefficients are 0.
                let (Some(a), Some(w)) =
                    (a.get(i..).and_then(|a| a.first_chunk::<TOGETHER>()), w.get_mut(start..start + len))
                else {
                    continue;
                };
                axpy_each(*a, wide.each_ref().map(<[f32; WIDE]>::as_slice), w);
            }
        }
    }
}

fn weights_from_dimensions(
    dim: usize,
    space: &Space<'_>,
    scale: f32,
    reflectors: &[f32],
    buffers: &mut Buffers<'_>,
    w: &mut [f32],
    b: &mut [f32],
) {
    tridiagonal::rows_times_transposed(buffers.unknown, reflectors, space.size, buffers.lower);
    let factor = 1.0 / libm::sqrtf(scale);
    let rows = buffers.unknown.chunks_exact(space.size).zip(w.chunks_exact_mut(dim));
    for ((unknown, w), (b, &bias)) in rows.zip(b.iter_mut().zip(buffers.bias.iter())) {
        for (w, &u) in w.iter_mut().zip(unknown) {
            *w = u * factor;
        }
        *b = bias - dot(w, buffers.mean);
    }
}
