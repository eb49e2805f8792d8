//! Leave-one-out answers decide whether a head is accepted: on real embeddings they are what heads give that were really solved
//! without each shot.
#![cfg(feature = "export")]

#[path = "common/program.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod program;
#[path = "common/shared.rs"]
mod shared;

use std::path::{Path, PathBuf};

use hone_export::apply::{Applied, BundleFile, Embedded, shots::read_draws};
use hone_export::data::{Options as DataOptions, Source};
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec};
use hone_runtime::tensor::Rows;
use hone_runtime::tune::softmax::{Options, Shots, solve};
use hone_runtime::tune::{Fit, workspace_len};
use program::hone_json;
use shared::shared;

/// What relates the strength of the softmax to that of its companion, ridge regression on one-hot targets (`tune::loo`).
const COMPANION_CURVATURE: f64 = 0.2;

/// Shots of one draw.
struct Draw {
    spec: EmbeddingSpec,
    rows: Vec<u8>,
    labels: Vec<u16>,
    classes: usize,
}

struct Solved {
    fit: Fit,
    weights: Vec<f32>,
    bias: Vec<f32>,
    answers: Vec<u16>,
}

impl Draw {
    fn new(spec: EmbeddingSpec, data: &Embedded, at: &[usize]) -> Self {
        let truths = data.labels().unwrap();
        let rows = at.iter().flat_map(|&row| data.row(row).to_vec()).collect();
        let labels = at.iter().map(|&row| u16::try_from(truths[row]).unwrap()).collect();
        Self { spec, rows, labels, classes: data.classes.len() }
    }

    fn without(&self, shot: usize) -> Self {
        let bytes = self.spec.row_bytes();
        let mut rest =
            Self { spec: self.spec, rows: self.rows.clone(), labels: self.labels.clone(), classes: self.classes };
        rest.rows.drain(shot * bytes..(shot + 1) * bytes);
        rest.labels.remove(shot);
        rest
    }

    fn solve(&self, l2: Option<f32>, weights_of_shots: Option<&[f32]>) -> Solved {
        let (n, dim, classes) = (self.labels.len(), self.spec.dim, self.classes);
        let mut memory = vec![0.0; workspace_len(n, dim, classes)];
        let (mut weights, mut bias, mut answers) = (vec![0.0; classes * dim], vec![0.0; classes], vec![0; n]);
        let rows = Rows::new(&self.rows, self.spec.row_bytes()).unwrap();
        let shots = Shots { rows, spec: self.spec, labels: &self.labels, weights: weights_of_shots, classes };
        let options = Options { l2, ..Options::default() };
        let fit = solve(&shots, &options, &mut memory, &mut weights, &mut bias, &mut answers).unwrap();
        Solved { fit, weights, bias, answers }
    }

    /// Unit rows about the zero point.
    fn unit_rows(&self) -> Vec<Vec<f64>> {
        let EmbeddingKind::Int8(q) = self.spec.kind else { panic!("an int8 embedding is expected") };
        let unit = |row: &[u8]| -> Vec<f64> {
            let u: Vec<f64> = row.iter().map(|v| f64::from(v.cast_signed()) - f64::from(q.zero_point)).collect();
            let norm = u.iter().map(|v| v * v).sum::<f64>().sqrt();
            u.iter().map(|v| v / norm).collect()
        };
        self.rows.chunks(self.spec.row_bytes()).map(unit).collect()
    }

    /// What the softmax head that is solved without a shot says to it. The others of its class weigh as much as with it, since a shot
    /// that is judged in use takes nothing from its class's prior.
    fn softmax_without(&self, shot: usize, l2: f32) -> u16 {
        let (rest, own) = (self.without(shot), self.labels[shot]);
        let others = rest.labels.iter().filter(|&&label| label == own).count() as f32;
        let weights: Vec<f32> =
            rest.labels.iter().map(|&label| if label == own { 1.0 + 1.0 / others } else { 1.0 }).collect();
        let head = rest.solve(Some(l2), Some(&weights));
        let row = &self.unit_rows()[shot];
        let score = |w: &[f32], b: f32| w.iter().zip(row).map(|(&w, x)| f64::from(w) * x).sum::<f64>() + f64::from(b);
        let scores: Vec<f64> = head.weights.chunks(self.spec.dim).zip(&head.bias).map(|(w, &b)| score(w, b)).collect();
        largest(&scores).0
    }

    /// Ridge regressions with a free intercept that are solved in f64 without each shot, the priors of all shots restored: for each
    /// shot the answer, and by how much it leads.
    fn ridge_without_each(&self, l2: f64) -> Vec<(u16, f64)> {
        let (rows, n) = (self.unit_rows(), self.labels.len());
        let gram: Vec<Vec<f64>> =
            rows.iter().map(|a| rows.iter().map(|b| a.iter().zip(b).map(|(x, y)| x * y).sum()).collect()).collect();
        let mean = |of: &dyn Fn(usize) -> f64, but: usize| {
            (0..n).filter(|&i| i != but).map(of).sum::<f64>() / (n - usize::from(but < n)) as f64
        };
        // The mean squared norm of the rows, centred by all shots.
        let grand = mean(&|i| mean(&|j| gram[i][j], n), n);
        let scale = mean(&|i| gram[i][i], n) - grand;
        let ridge = l2 / COMPANION_CURVATURE * scale;
        let target = |i: usize, class: usize| if usize::from(self.labels[i]) == class { 1.0 } else { 0.0 };
        (0..n)
            .map(|out| {
                // Centred by the shots that are left.
                let row_mean: Vec<f64> = (0..n).map(|i| mean(&|j| gram[i][j], out)).collect();
                let grand = mean(&|i| row_mean[i], out);
                let centred = |i: usize, j: usize| gram[i][j] - row_mean[i] - row_mean[j] + grand;
                let kept: Vec<usize> = (0..n).filter(|&i| i != out).collect();
                let mut m: Vec<Vec<f64>> = kept
                    .iter()
                    .map(|&i| kept.iter().map(|&j| centred(i, j) + if i == j { ridge } else { 0.0 }).collect())
                    .collect();
                let prior = |class: usize, but: usize| mean(&|i| target(i, class), but);
                let mut y: Vec<Vec<f64>> = kept
                    .iter()
                    .map(|&i| (0..self.classes).map(|class| target(i, class) - prior(class, out)).collect())
                    .collect();
                cholesky_solve(&mut m, &mut y);
                let score = |class: usize| {
                    kept.iter().zip(&y).map(|(&i, a)| a[class] * centred(i, out)).sum::<f64>() + prior(class, n)
                };
                largest(&(0..self.classes).map(score).collect::<Vec<f64>>())
            })
            .collect()
    }
}

/// The place of the largest, and by how much it leads.
fn largest(scores: &[f64]) -> (u16, f64) {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    (u16::try_from(order[0]).unwrap(), scores[order[0]] - scores[order[1]])
}

/// Solves M·X = Y in place of Y; M is symmetric and positive definite.
fn cholesky_solve(m: &mut [Vec<f64>], y: &mut [Vec<f64>]) {
    let n = m.len();
    for i in 0..n {
        for j in 0..=i {
            let s: f64 = m[i][j] - (0..j).map(|k| m[i][k] * m[j][k]).sum::<f64>();
            m[i][j] = if i == j { s.sqrt() } else { s / m[j][j] };
        }
    }
    for class in 0..y[0].len() {
        for i in 0..n {
            let s = (0..i).map(|k| m[i][k] * y[k][class]).sum::<f64>();
            y[i][class] = (y[i][class] - s) / m[i][i];
        }
        for i in (0..n).rev() {
            let s = (i + 1..n).map(|k| m[k][i] * y[k][class]).sum::<f64>();
            y[i][class] = (y[i][class] - s) / m[i][i];
        }
    }
}

/// Draws that are compared, of a table of them: refits take the time.
const DRAWS: usize = 3;

/// Compares on a few draws: answers with those of the companion, refitted, and the accuracy with that of the head itself, refitted.
fn compare(name: &str, bundle: &Path, data: &Path, options: &DataOptions, draws: &[PathBuf]) {
    let file = BundleFile::read(bundle).unwrap();
    let applied = Applied::open(&file).unwrap();
    let embedded = applied.embed(&mut Source::open(data, options).unwrap(), &mut |_, _| ()).unwrap();
    let share = |right: usize, n: usize| right as f64 / n as f64;
    for draws in draws {
        let (mut estimates, mut refits) = (Vec::new(), Vec::new());
        for at in read_draws(draws, embedded.len()).unwrap().into_iter().take(DRAWS) {
            let draw = Draw::new(applied.bundle.embedding, &embedded, &at);
            let (solved, n) = (draw.solve(None, None), draw.labels.len());
            for (shot, (wanted, lead)) in draw.ridge_without_each(f64::from(solved.fit.l2)).into_iter().enumerate() {
                assert!(solved.answers[shot] == wanted || lead < 1e-3, "{name}: shot {shot}, which leads by {lead}");
            }
            let refitted = |shot: usize| draw.softmax_without(shot, solved.fit.l2) == draw.labels[shot];
            estimates.push(f64::from(solved.fit.loo_accuracy.unwrap()));
            refits.push(share((0..n).filter(|&shot| refitted(shot)).count(), n));
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let apart = estimates.iter().zip(&refits).map(|(e, r)| (e - r).abs()).fold(0.0, f64::max);
        let (estimate, refit) = (mean(&estimates), mean(&refits));
        println!(
            "{name}, {}: leave-one-out {estimate:.3}, refitted heads {refit:.3}, at most {apart:.3} apart",
            draws.file_name().unwrap().to_string_lossy()
        );
        // Stated tolerance: 3 points on average over the draws, 8 in any of them (4 of 50 shots).
        assert!((estimate - refit).abs() <= 0.03 && apart <= 0.08, "{name}: {estimates:?} and {refits:?}");
    }
}

#[test]
fn handwriting_is_judged_as_refits_judge_it() {
    let folder = tempfile::tempdir().unwrap();
    for file in hone_models::QUICKSTART {
        std::fs::write(folder.path().join(file.name), file.bytes).unwrap();
    }
    let line = "export glyphs.onnx --calib glyphs-calib.npy --labels glyphs-calib-y.npy --classes glyphs-labels.txt \
                --model-classes glyphs-labels.txt --prep tensor:scale=1/16 --out out";
    hone_json(folder.path(), &line.split_whitespace().collect::<Vec<_>>());
    let path = |name: &str| folder.path().join(name);
    let options = DataOptions {
        labels: Some(path("digits-y.npy")),
        classes: Some(path("digits-labels.txt")),
        ..DataOptions::default()
    };
    compare(
        "digits",
        &path("out/out.hone"),
        &path("digits-x.npy"),
        &options,
        &[path("digits-k5.npy"), path("digits-k20.npy")],
    );
}

#[test]
fn speech_is_judged_as_refits_judge_it() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = shared.join("data/fsdd_digits");
    let words = |name: &str| data.join(name).to_string_lossy().into_owned();
    let model = shared.join("models/mlperf_tiny/dscnn_kws12.onnx").to_string_lossy().into_owned();
    let (calib, rows) = (words("mfcc.npy"), format!("{}#0", words("k20.npy")));
    let line = ["export", &model, "--calib", &calib, "--rows", &rows, "--prep", "none", "--out", "out"];
    hone_json(folder.path(), &line);
    let options = DataOptions { labels: Some(data.join("digit.npy")), ..DataOptions::default() };
    let draws = [data.join("k5.npy"), data.join("k20.npy")];
    compare("spoken digits", &folder.path().join("out/out.hone"), &data.join("mfcc.npy"), &options, &draws);
}
