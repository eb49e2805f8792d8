//! The solver reaches the optimum that scikit-learn reaches, and its leave-one-out is what refits would give.
//!
//! Fixtures and figures: `fixtures/make_tune_fixtures.py`.

use std::path::Path;

use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};
use hone_runtime::tensor::Rows;
use hone_runtime::tune::softmax::{Options, Shots, solve};
use hone_runtime::tune::{Fit, workspace_len};
use proptest::prelude::*;

struct Set {
    spec: EmbeddingSpec,
    classes: usize,
    labels: Vec<u16>,
    rows: Vec<u8>,
}

struct Head {
    fit: Fit,
    w: Vec<f32>,
    b: Vec<f32>,
    answers: Vec<u16>,
}

fn int8(dim: usize, zero_point: i8) -> EmbeddingSpec {
    EmbeddingSpec { dim, kind: EmbeddingKind::Int8(QuantParams { scale: 0.02, zero_point }) }
}

impl Set {
    fn read(name: &str, dim: usize, classes: usize) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/tune_{name}.bin"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let n = bytes.len() / (dim + 1);
        let (labels, rows) = bytes.split_at(n);
        let labels = labels.iter().map(|&l| u16::from(l)).collect();
        Self { spec: int8(dim, -128), classes, labels, rows: rows.to_vec() }
    }

    /// Clusters around one-hot directions, from a linear congruential sequence.
    fn draw(dim: usize, classes: usize, n: usize, seed: u32) -> Self {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let labels: Vec<u16> = (0..n).map(|i| (i % classes) as u16).collect();
        let mut rows = Vec::new();
        for &label in &labels {
            for d in 0..dim {
                let own = if d % classes == usize::from(label) { 40 } else { 0 };
                rows.push((next() / 2 + own).wrapping_sub(100));
            }
        }
        Self { spec: int8(dim, -100), classes, labels, rows }
    }

    fn tune(&self, options: &Options) -> Head {
        self.tune_weighted(options, None)
    }

    fn tune_weighted(&self, options: &Options, weights: Option<&[f32]>) -> Head {
        let (n, dim, classes) = (self.labels.len(), self.spec.dim, self.classes);
        let mut memory = vec![f32::NAN; workspace_len(n, dim, classes)];
        let (mut w, mut b, mut answers) = (vec![0.0; classes * dim], vec![0.0; classes], vec![0; n]);
        let rows = Rows::new(&self.rows, self.spec.row_bytes()).unwrap();
        let shots = Shots { rows, spec: self.spec, labels: &self.labels, weights, classes };
        let fit = solve(&shots, options, &mut memory, &mut w, &mut b, &mut answers).unwrap();
        assert!(w.iter().chain(&b).all(|v| v.is_finite()));
        Head { fit, w, b, answers }
    }

    /// Unit rows in f64, and the scale t.
    fn unit(&self) -> (Vec<Vec<f64>>, f64) {
        let EmbeddingKind::Int8(q) = self.spec.kind else { panic!("int8 only") };
        let rows: Vec<Vec<f64>> = self
            .rows
            .chunks(self.spec.dim)
            .map(|row| {
                let u: Vec<f64> = row.iter().map(|&v| f64::from(v.cast_signed()) - f64::from(q.zero_point)).collect();
                let norm = u.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-300);
                u.iter().map(|v| v / norm).collect()
            })
            .collect();
        let n = rows.len() as f64;
        let mean: Vec<f64> = (0..self.spec.dim).map(|d| rows.iter().map(|r| r[d]).sum::<f64>() / n).collect();
        let t = rows.iter().map(|r| r.iter().zip(&mean).map(|(x, m)| (x - m).powi(2)).sum::<f64>()).sum::<f64>() / n;
        (rows, t)
    }

    /// The objective of the weights that came out, in f64, from the rows themselves.
    fn objective(&self, head: &Head, l2: f64) -> f64 {
        let (rows, t) = self.unit();
        let mut loss = 0.0;
        for (row, &label) in rows.iter().zip(&self.labels) {
            let z: Vec<f64> = head
                .w
                .chunks(self.spec.dim)
                .zip(&head.b)
                .map(|(w, &b)| w.iter().zip(row).map(|(&w, x)| f64::from(w) * x).sum::<f64>() + f64::from(b))
                .collect();
            let top = z.iter().copied().fold(f64::MIN, f64::max);
            loss += z.iter().map(|z| (z - top).exp()).sum::<f64>().ln() + top - z[usize::from(label)];
        }
        // The penalty is on the weights of the scaled rows x/√t.
        loss + 0.5 * l2 * t * head.w.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>()
    }
}

#[test]
fn reaches_the_optimum_of_scikit_learn() {
    let table = include_str!("fixtures/tune_figures.csv");
    // As accurate as asked, within the slack of the estimate by which it stops.
    for (tolerance, limit) in [(Options::default().tolerance, 1e-4), (1e-6, 1e-5)] {
        let mut worst = 0.0f64;
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let [name, dim, classes, _, l2, loss] = fields[..] else { panic!("{line}") };
            let set = Set::read(name, dim.parse().unwrap(), classes.parse().unwrap());
            let (l2, loss): (f32, f64) = (l2.parse().unwrap(), loss.parse().unwrap());
            let head = set.tune(&Options { l2: Some(l2), tolerance });
            let relative = (set.objective(&head, f64::from(l2)) - loss) / loss;
            assert!(head.fit.converged, "{line}: {:?}", head.fit);
            assert!((-1e-6..limit).contains(&relative), "{line}: {relative:e}");
            assert!((f64::from(head.fit.objective) / loss - 1.0).abs() < 1e-4, "{line}: {:?}", head.fit);
            worst = worst.max(relative);
        }
        println!("tolerance {tolerance:e}: largest relative distance to scikit-learn's loss: {worst:e}");
    }
}

/// Solves M·X = Y by Gaussian elimination with pivoting.
fn gauss(mut m: Vec<Vec<f64>>, mut y: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = m.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&a, &b| m[a][i].abs().total_cmp(&m[b][i].abs())).unwrap();
        m.swap(i, pivot);
        y.swap(i, pivot);
        for r in 0..n {
            if r != i {
                let k = m[r][i] / m[i][i];
                let (mi, yi) = (m[i].clone(), y[i].clone());
                m[r].iter_mut().zip(&mi).for_each(|(a, b)| *a -= k * b);
                y[r].iter_mut().zip(&yi).for_each(|(a, b)| *a -= k * b);
            }
        }
    }
    (0..n).map(|i| y[i].iter().map(|v| v / m[i][i]).collect()).collect()
}

/// Answers of ridge regressions (free bias) refitted without each shot, the prior of all shots restored.
fn refits(set: &Set, l2: f64, weights: &[f64]) -> Vec<u16> {
    let (rows, t) = set.unit();
    let (n, dim, classes) = (rows.len(), set.spec.dim, set.classes);
    let ridge = l2 / 0.2;
    let one = |label: u16, c: usize| if usize::from(label) == c { 1.0 } else { 0.0 };
    let all: f64 = weights.iter().sum();
    let prior: Vec<f64> =
        (0..classes).map(|c| (0..n).map(|i| weights[i] * one(set.labels[i], c)).sum::<f64>() / all).collect();
    (0..n)
        .map(|out| {
            let w = |i: usize| if i == out { 0.0 } else { weights[i] };
            let mut m = vec![vec![0.0; dim + 1]; dim + 1];
            let mut y = vec![vec![0.0; classes]; dim + 1];
            for (i, row) in rows.iter().enumerate() {
                let x: Vec<f64> = row.iter().map(|v| v / t.sqrt()).chain([1.0]).collect();
                for a in 0..=dim {
                    for b in 0..=dim {
                        m[a][b] += w(i) * x[a] * x[b];
                    }
                    for (c, y) in y[a].iter_mut().enumerate() {
                        *y += w(i) * x[a] * one(set.labels[i], c);
                    }
                }
            }
            for (d, row) in m.iter_mut().enumerate().take(dim) {
                row[d] += ridge;
            }
            let solution = gauss(m, y);
            let score = |c: usize| {
                let x = rows[out].iter().map(|v| v / t.sqrt()).chain([1.0]);
                let without = (prior[c] * all - weights[out] * one(set.labels[out], c)) / (all - weights[out]);
                x.zip(&solution).map(|(x, s)| x * s[c]).sum::<f64>() - without + prior[c]
            };
            (0..classes).fold(0, |best, c| if score(c) > score(best) { c } else { best }) as u16
        })
        .collect()
}

#[test]
fn leave_one_out_is_what_refits_give() {
    // On the shots' side and on the dimensions' side; an error rate well off 0 makes the comparison mean something.
    for (dim, classes, n) in [(24, 3, 18), (6, 3, 30), (12, 4, 12), (5, 2, 40)] {
        let set = Set::draw(dim, classes, n, 5);
        for l2 in [0.01f32, 0.2] {
            let head = set.tune(&Options { l2: Some(l2), ..Options::default() });
            assert_eq!(head.answers, refits(&set, f64::from(l2), &vec![1.0; n]), "{dim} {classes} {n} {l2}");
            let right = head.answers.iter().zip(&set.labels).filter(|(a, l)| a == l).count();
            assert_eq!(head.fit.loo_accuracy, Some(right as f32 / n as f32));
        }
    }
}

#[test]
fn a_weight_of_two_is_a_shot_twice() {
    for (dim, n) in [(24, 12), (4, 12)] {
        let set = Set::draw(dim, 3, n, 9);
        let mut twice = Set { labels: set.labels.clone(), rows: set.rows.clone(), ..set };
        twice.labels.extend(&set.labels[..3]);
        twice.rows.extend(&set.rows[..3 * dim]);
        let weights: Vec<f32> = (0..n).map(|i| if i < 3 { 2.0 } else { 1.0 }).collect();
        let options = Options { l2: Some(0.05), tolerance: 1e-8 };
        let (a, b) = (set.tune_weighted(&options, Some(&weights)), twice.tune(&options));
        assert!((a.fit.objective / b.fit.objective - 1.0).abs() < 1e-5);
        for (a, b) in a.w.iter().zip(&b.w) {
            assert!((a - b).abs() < 0.01, "{a} {b}");
        }
    }
}

/// Dimensions that are always zero change nothing but the side: D becomes larger than N.
#[test]
fn both_sides_solve_the_same_problem() {
    let narrow = Set::draw(10, 3, 18, 3);
    let padded = Set {
        spec: int8(40, -100),
        rows: narrow.rows.chunks(10).flat_map(|r| r.iter().copied().chain([(-100i8).cast_unsigned(); 30])).collect(),
        labels: narrow.labels.clone(),
        classes: 3,
    };
    for l2 in [0.004, 0.1] {
        let options = Options { l2: Some(l2), tolerance: 1e-7 };
        let (d_side, k_side) = (narrow.tune(&options), padded.tune(&options));
        assert_eq!(d_side.answers, k_side.answers);
        assert!((d_side.fit.objective / k_side.fit.objective - 1.0).abs() < 1e-5);
        for (d, k) in d_side.w.chunks(10).zip(k_side.w.chunks(40)) {
            assert!(k[10..].iter().all(|v| *v == 0.0));
            for (d, k) in d.iter().zip(k) {
                assert!((d - k).abs() < 0.01 * (1.0 + d.abs()), "{d} {k}");
            }
        }
    }
}

#[test]
fn extreme_rows_are_solved() {
    let one =
        |rows: Vec<u8>, labels: Vec<u16>, classes, spec| Set { spec, classes, labels, rows }.tune(&Options::default());
    // All rows alike, all rows zero, one row zero, the largest differences.
    assert!(one(vec![5; 16], vec![0, 1, 0, 1], 2, int8(4, 0)).w.iter().all(|w| w.abs() < 1e-3));
    assert!(one(vec![7; 16], vec![0, 1, 0, 1], 2, int8(4, 7)).w.iter().all(|w| *w == 0.0));
    assert_eq!(one(vec![0, 0, 90, 10], vec![0, 1], 2, int8(2, 0)).answers, [u16::MAX; 2]);
    let low_high: Vec<u8> = [[0x80; 700], [0x7f; 700]].concat();
    assert!(one(low_high, vec![0, 1], 2, int8(700, 127)).fit.converged);
    let wide: Vec<u8> = (0..2 * 65_536u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(one(wide, vec![0, 1], 2, int8(65_536, -128)).fit.converged);
    let f16 = |v: f32| half::f16::from_f32(v).to_le_bytes();
    let rows = [1.0, 0.0, 65_504.0, 60_000.0, 6e-8, 0.0, 0.5, 0.4].map(f16).concat();
    let spec = EmbeddingSpec { dim: 2, kind: EmbeddingKind::F16 };
    assert_eq!(one(rows, vec![0, 1, 0, 1], 2, spec).answers, [0, 1, 0, 1]);
}

#[test]
fn f16_rows_give_what_int8_rows_give() {
    for n in [9, 30] {
        let set = Set::draw(19, 3, n, 11);
        let halves =
            set.rows.iter().flat_map(|&v| half::f16::from_f32(f32::from(v.cast_signed()) + 100.0).to_le_bytes());
        let spec = EmbeddingSpec { dim: 19, kind: EmbeddingKind::F16 };
        let f16 = Set { spec, rows: halves.collect(), labels: set.labels.clone(), classes: 3 };
        let (a, b) = (set.tune(&Options::default()), f16.tune(&Options::default()));
        assert_eq!((a.answers, a.fit.l2), (b.answers, b.fit.l2));
        assert!((a.fit.objective / b.fit.objective - 1.0).abs() < 1e-5);
    }
}

#[test]
fn bad_input_is_refused_by_name() {
    let spec = int8(2, 0);
    let code =
        |rows: &[u8], labels: &[u16], weights: Option<&[f32]>, classes: usize, options: Options, memory: usize| {
            let shots = Shots { rows: Rows::new(rows, 2).unwrap(), spec, labels, weights, classes };
            let (mut w, mut b, mut a) = (vec![0.0; 2 * classes], vec![0.0; classes], vec![0; labels.len()]);
            solve(&shots, &options, &mut vec![0.0; memory], &mut w, &mut b, &mut a).unwrap_err().code()
        };
    let ok = Options::default();
    let (rows, labels) = ([1, 2, 3, 4], [0, 1]);
    assert_eq!(code(&[], &[], None, 2, ok, 999), "zero-shots");
    assert_eq!(code(&rows, &[1, 1], None, 2, ok, 999), "one-class");
    assert_eq!(code(&rows, &[0, 0], None, 1, ok, 999), "one-class");
    assert_eq!(code(&rows, &[0, 2], None, 2, ok, 999), "unknown-class");
    assert_eq!(code(&rows, &labels, None, 3, ok, 999), "empty-class");
    assert_eq!(code(&rows, &[0], None, 2, ok, 999), "shape");
    assert_eq!(code(&rows, &labels, Some(&[1.0]), 2, ok, 999), "shape");
    assert_eq!(code(&rows, &labels, Some(&[1.0, f32::NAN]), 2, ok, 999), "non-finite");
    assert_eq!(code(&rows, &labels, Some(&[1.0, 0.0]), 2, ok, 999), "non-finite");
    assert_eq!(code(&rows, &labels, None, 2, ok, workspace_len(2, 2, 2) - 1), "buffer");
    for l2 in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(code(&rows, &labels, None, 2, Options { l2: Some(l2), ..ok }, 999), "malformed");
    }
    assert_eq!(code(&rows, &labels, None, 2, Options { tolerance: 0.0, ..ok }, 999), "malformed");

    let nan = [half::f16::NAN, half::f16::ONE].map(half::f16::to_le_bytes).concat();
    let spec = EmbeddingSpec { dim: 1, kind: EmbeddingKind::F16 };
    let shots = Shots { rows: Rows::new(&nan, 2).unwrap(), spec, labels: &labels, weights: None, classes: 2 };
    let error = solve(&shots, &ok, &mut [0.0; 999], &mut [0.0; 2], &mut [0.0; 2], &mut [0; 2]).unwrap_err();
    assert_eq!(error.code(), "non-finite");
}

/// CRC-32 of the weights and biases of one fixed problem: the same on every target.
#[test]
fn the_same_bits_everywhere() {
    let crc = |set: &Set| {
        let head = set.tune(&Options::default());
        let bytes: Vec<u8> = head.w.iter().chain(&head.b).flat_map(|v| v.to_le_bytes()).collect();
        crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bytes)
    };
    let (shots_side, dimensions_side) = (Set::draw(48, 4, 20, 1), Set::draw(16, 4, 40, 1));
    let found = [crc(&shots_side), crc(&dimensions_side)];
    println!("{found:08x?}");
    assert_eq!(found, FIXED);
}
const FIXED: [u32; 2] = [0xd9ab_c474, 0xa169_f59f];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Which class has which index does not matter.
    #[test]
    fn permuted_classes_permute_the_head(dim in 2usize..40, n in 3usize..5, seed in any::<u32>()) {
        let set = Set::draw(dim, 3, 3 * n, seed);
        let turned = Set { labels: set.labels.iter().map(|l| (l + 1) % 3).collect(), rows: set.rows.clone(), ..set };
        let options = Options { l2: Some(0.1), tolerance: 1e-7 };
        let (a, b) = (set.tune(&options), turned.tune(&options));
        for c in 0..3 {
            let to = (c + 1) % 3;
            for (x, y) in a.w[c * dim..][..dim].iter().zip(&b.w[to * dim..][..dim]) {
                prop_assert!((x - y).abs() < 0.01 * (1.0 + x.abs()), "{} {}", x, y);
            }
        }
    }

    /// Shots are compared by direction: f16 rows of any length give the same head.
    #[test]
    fn the_length_of_a_row_does_not_matter(seed in any::<u32>(), exponent in -6i32..6) {
        let set = Set::draw(8, 2, 6, seed);
        let scaled = |k: f32| {
            let rows = set.rows.iter().enumerate().flat_map(|(i, &v)| {
                let k = if i / 8 % 2 == 0 { k } else { 1.0 };
                half::f16::from_f32(k * (f32::from(v.cast_signed()) + 100.0)).to_le_bytes()
            });
            let spec = EmbeddingSpec { dim: 8, kind: EmbeddingKind::F16 };
            Set { spec, rows: rows.collect(), labels: set.labels.clone(), classes: 2 }.tune(&Options::default())
        };
        let (a, b) = (scaled(1.0), scaled(2f32.powi(exponent)));
        prop_assert_eq!(a.answers, b.answers);
        for (x, y) in a.w.iter().zip(&b.w) {
            prop_assert!((x - y).abs() < 0.01 * (1.0 + x.abs()), "{} {}", x, y);
        }
    }

    /// Arbitrary bytes neither panic nor give anything that is not finite (checked in `tune`).
    #[test]
    fn any_rows_are_solved(
        dim in 1usize..12, zero_point in any::<i8>(), bytes in proptest::collection::vec(any::<u8>(), 24..120),
        labels in proptest::collection::vec(0u16..3, 120)
    ) {
        let n = bytes.len() / dim;
        let mut labels = labels[..n].to_vec();
        prop_assume!(n >= 3);
        labels[..3].copy_from_slice(&[0, 1, 2]);
        let set = Set { spec: int8(dim, zero_point), classes: 3, labels, rows: bytes[..n * dim].to_vec() };
        let head = set.tune(&Options::default());
        prop_assert!(head.answers.iter().all(|a| *a < 3 || *a == u16::MAX));
    }
}
