//! Tuning from the bundle's own head: what it knows stays, what it does not know is learned beside it.

use hone_runtime::bundle::Fingerprint;
use hone_runtime::head::{HeadParts, HeadView, Kind, Weights};
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};
use hone_runtime::tensor::Rows;
use hone_runtime::tune::{Input, Labelled, LeftOut, Memory, NO_CLASS, OldHead, Options, Outcome, Output, Prior, tune};

const DIM: usize = 12;
const SPEC: EmbeddingSpec =
    EmbeddingSpec { dim: DIM, kind: EmbeddingKind::Int8(QuantParams { scale: 0.1, zero_point: -7 }) };

/// Rows around a direction of their class's own, from a linear congruential generator.
fn rows(class: usize, count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(class as u32);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i32 - 128
    };
    let mut row = || -> Vec<u8> {
        (0..DIM)
            .map(|d| {
                let own = if d % 6 == class { 60 } else { 10 };
                ((own + next() / 5 - 7).clamp(-128, 127) as i8).cast_unsigned()
            })
            .collect()
    };
    (0..count).flat_map(|_| row()).collect()
}

/// A linear head that has learned the first `classes` directions.
fn base(classes: usize) -> Vec<u8> {
    let weights: Vec<f32> =
        (0..classes).flat_map(|c| (0..DIM).map(move |d| if d % 6 == c { 1.0 } else { -0.2 })).collect();
    let labels: Vec<String> = (0..classes).map(|c| format!("base {c}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let parts = HeadParts {
        kind: Kind::Softmax,
        unit: false,
        fingerprint: Fingerprint([1; 16]),
        embedding: SPEC,
        labels: &labels,
        bias: &vec![0.25; classes],
        weights: Weights::F32(&weights),
    };
    parts.to_bytes().unwrap()
}

struct Case<'a> {
    base: &'a [u8],
    class_of: &'a [u16],
    /// (class in the new head, direction, rows, seed).
    shots: &'a [(u16, usize, usize, u32)],
    canaries: &'a [(u16, usize, usize, u32)],
}

struct Tuned {
    outcome: Outcome,
    weights: Vec<f32>,
    bias: Vec<f32>,
    shots: Vec<LeftOut>,
    canaries: Vec<LeftOut>,
}

impl Case<'_> {
    fn examples(list: &[(u16, usize, usize, u32)]) -> (Vec<u8>, Vec<u16>) {
        let bytes = list.iter().flat_map(|&(_, direction, count, seed)| rows(direction, count, seed)).collect();
        (bytes, list.iter().flat_map(|&(class, _, count, _)| vec![class; count]).collect())
    }

    fn run(&self, options: &Options) -> hone_runtime::Result<Tuned> {
        let ((shot_rows, shot_classes), (canary_rows, canary_classes)) =
            (Self::examples(self.shots), Self::examples(self.canaries));
        let (n, m, classes) = (shot_classes.len(), canary_classes.len(), self.class_of.len());
        let head = HeadView::parse(self.base)?;
        let input = Input {
            spec: SPEC,
            classes,
            shots: Labelled { rows: Rows::new(&shot_rows, DIM)?, classes: &shot_classes },
            canaries: Some(Labelled { rows: Rows::new(&canary_rows, DIM)?, classes: &canary_classes }),
            old: Some(OldHead { head, class_of: self.class_of, shots: &[], canaries: &[] }),
            prior: Some(Prior { head, class_of: self.class_of }),
        };
        let mut values = vec![f32::NAN; Memory::values_len(n, m, DIM, classes)];
        let mut indices = vec![0; Memory::indices_len(n, m)];
        let mut tuned = Tuned {
            outcome: Outcome {
                fit: hone_runtime::tune::Fit {
                    l2: 0.0,
                    loo_accuracy: None,
                    objective: 0.0,
                    steps: 0,
                    converged: false,
                },
                decision: hone_runtime::tune::gate::decide(&hone_runtime::tune::Evidence::default(), 0.1),
                evidence: hone_runtime::tune::Evidence::default(),
                canary_before: None,
                canary_after: None,
                loo_accuracy: None,
                loo_old: None,
            },
            weights: vec![0.0; classes * DIM],
            bias: vec![0.0; classes],
            shots: vec![LeftOut::New; n],
            canaries: vec![LeftOut::New; m],
        };
        let memory = Memory { values: &mut values, indices: &mut indices };
        let out = Output {
            weights: &mut tuned.weights,
            bias: &mut tuned.bias,
            shots: &mut tuned.shots,
            canaries: &mut tuned.canaries,
        };
        tuned.outcome = tune(&input, options, memory, out)?;
        Ok(tuned)
    }
}

/// Class of the largest score of a row.
fn answer(tuned: &Tuned, row: &[u8]) -> usize {
    let u: Vec<f32> = row.iter().map(|&q| f32::from(q.cast_signed()) + 7.0).collect();
    let norm = u.iter().map(|v| v * v).sum::<f32>().sqrt();
    let score = |c: usize| {
        tuned.weights[c * DIM..][..DIM].iter().zip(&u).map(|(w, v)| w * v / norm).sum::<f32>() + tuned.bias[c]
    };
    (0..tuned.bias.len()).reduce(|best, c| if score(c) > score(best) { c } else { best }).unwrap()
}

fn right(tuned: &Tuned, direction: usize, class: usize) -> usize {
    rows(direction, 50, 77).chunks(DIM).filter(|row| answer(tuned, row) == class).count()
}

#[test]
fn a_new_class_is_learned_and_the_known_ones_stay_even_without_canaries() {
    let base = base(4);
    // Class 3 of the base head has no canary.
    let case = Case {
        base: &base,
        class_of: &[0, 1, 2, 3, NO_CLASS],
        shots: &[(4, 5, 5, 1)],
        canaries: &[(0, 0, 6, 2), (1, 1, 6, 3), (2, 2, 6, 4)],
    };
    let tuned = case.run(&Options::default()).unwrap();
    assert!(tuned.outcome.decision.accepted, "{}", tuned.outcome.decision.reason);
    assert!(tuned.outcome.canary_after.unwrap() >= 0.9);
    for class in 0..4 {
        assert!(right(&tuned, class, class) >= 48, "class {class}: {}", right(&tuned, class, class));
    }
    assert!(right(&tuned, 5, 4) >= 40, "{}", right(&tuned, 5, 4));
}

#[test]
fn a_strong_penalty_gives_the_base_head_back() {
    let base = base(4);
    let case = Case {
        base: &base,
        class_of: &[0, 1, 2, 3],
        shots: &[(1, 0, 4, 1)],
        canaries: &[(0, 0, 6, 2), (1, 1, 6, 3), (2, 2, 6, 4)],
    };
    let tuned = case.run(&Options { l2: Some(1e6), ..Options::default() }).unwrap();
    // One factor for all weights, the biases as they were.
    let factor = tuned.weights[0];
    for (i, w) in tuned.weights.iter().enumerate() {
        let base = if i % DIM % 6 == i / DIM { 1.0 } else { -0.2 };
        assert!((w - factor * base).abs() < 1e-3 * factor, "{i}: {w}");
    }
    assert!(tuned.bias.iter().all(|b| (b - 0.25).abs() < 1e-3), "{:?}", tuned.bias);
    // Mean length of the canaries, in real units.
    let rows: Vec<u8> = [(0, 2), (1, 3), (2, 4)].iter().flat_map(|&(d, seed)| rows(d, 6, seed)).collect();
    let length = |row: &[u8]| row.iter().map(|&q| (f32::from(q.cast_signed()) + 7.0).powi(2)).sum::<f32>().sqrt();
    let mean = rows.chunks(DIM).map(length).sum::<f32>() / 18.0;
    assert!((factor - 0.1 * mean).abs() < 1e-3 * factor, "{factor} {mean}");
}

/// The gradient of the objective in double precision, by its definition, is zero at the head that comes out.
#[test]
fn the_optimum_is_that_of_the_stated_objective() {
    let base = base(3);
    for shots in [3, 15] {
        // Fewer examples than dimensions, and more.
        let case = Case {
            base: &base,
            class_of: &[0, 1, NO_CLASS, 2],
            shots: &[(2, 4, shots, 1), (0, 3, 2, 9)],
            canaries: &[(0, 0, 2, 2), (1, 1, 3, 3)],
        };
        let options = Options { l2: Some(0.05), tolerance: 1e-9, forget_limit: 1.0, ..Options::default() };
        let tuned = case.run(&options).unwrap();
        let ((mut bytes, mut labels), canaries) = (Case::examples(case.shots), Case::examples(case.canaries));
        let own = labels.len();
        bytes.extend(canaries.0);
        labels.extend(canaries.1);
        let x: Vec<Vec<f64>> = bytes
            .chunks(DIM)
            .map(|row| {
                let u: Vec<f64> = row.iter().map(|&q| f64::from(q.cast_signed()) + 7.0).collect();
                let norm = u.iter().map(|v| v * v).sum::<f64>().sqrt();
                u.iter().map(|v| v / norm).collect()
            })
            .collect();
        // Two classes of shots, two of canaries: their means are what they are weighed by.
        let balance = (own as f64 / 2.0) / (5.0 / 2.0);
        let w: Vec<f64> = (0..labels.len()).map(|i| if i < own { 1.0 } else { balance }).collect();
        let total: f64 = w.iter().sum();
        let mean: Vec<f64> = (0..DIM).map(|d| x.iter().zip(&w).map(|(x, w)| w * x[d]).sum::<f64>() / total).collect();
        let spread: f64 = x
            .iter()
            .zip(&w)
            .map(|(x, w)| w * x.iter().zip(&mean).map(|(x, m)| (x - m).powi(2)).sum::<f64>())
            .sum::<f64>()
            / total;
        let length: f64 = bytes[own * DIM..]
            .chunks(DIM)
            .map(|row| row.iter().map(|&q| (f64::from(q.cast_signed()) + 7.0).powi(2)).sum::<f64>().sqrt())
            .sum::<f64>()
            / (labels.len() - own) as f64;
        let head = HeadView::parse(&base).unwrap();
        let mut prior = vec![0.0f32; DIM];
        for c in 0..4 {
            let known = usize::from(case.class_of[c]);
            let (offset, bias) = match head.real_weights(known, &mut prior) {
                Ok(()) => (prior.iter().map(|v| f64::from(*v) * 0.1 * length).collect::<Vec<_>>(), 0.25),
                Err(_) => (vec![0.0; DIM], 0.0),
            };
            let delta: Vec<f64> = (0..DIM).map(|d| f64::from(tuned.weights[c * DIM + d]) - offset[d]).collect();
            // ∂/∂ΔW = Σ w·(p − y)·x̃ + λ·ΔW in the scaled space, where x̃ = (x − mean)/√spread.
            let residual: Vec<f64> = x
                .iter()
                .zip(&labels)
                .map(|(x, &label)| {
                    let z: Vec<f64> = (0..4)
                        .map(|k| {
                            let row = &tuned.weights[k * DIM..][..DIM];
                            row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(tuned.bias[k])
                        })
                        .collect();
                    let sum: f64 = z.iter().map(|z| z.exp()).sum();
                    z[c].exp() / sum - if usize::from(label) == c { 1.0 } else { 0.0 }
                })
                .collect();
            for d in 0..DIM {
                let loss: f64 =
                    x.iter().zip(&w).zip(&residual).map(|((x, w), r)| w * r * (x[d] - mean[d]) / spread.sqrt()).sum();
                assert!((loss + 0.05 * delta[d] * spread.sqrt()).abs() < 2e-3, "{shots} {c} {d}: {loss} {}", delta[d]);
            }
            let at_mean = f64::from(tuned.bias[c]) - bias + delta.iter().zip(&mean).map(|(d, m)| d * m).sum::<f64>();
            let ridge = if known < 3 { 0.05 } else { 0.0 };
            let loss: f64 = w.iter().zip(&residual).map(|(w, r)| w * r).sum();
            assert!((loss + ridge * at_mean).abs() < 2e-3, "{shots} bias {c}: {loss} {at_mean}");
        }
    }
}

/// What is said to a left-out example is what a refit without it says, for nearly all.
#[test]
fn left_out_answers_are_those_of_refits() {
    let base = base(4);
    let shots = [(4, 5, 6, 1), (3, 4, 5, 21)];
    let case =
        Case { base: &base, class_of: &[0, 1, 2, 3, NO_CLASS], shots: &shots, canaries: &[(0, 0, 6, 2), (1, 1, 6, 3)] };
    let options = Options { l2: Some(0.05), forget_limit: 1.0, ..Options::default() };
    let all = case.run(&options).unwrap();
    let (bytes, labels) = Case::examples(&shots);
    let mut agree = 0;
    for (i, (row, &label)) in bytes.chunks(DIM).zip(&labels).enumerate() {
        // The same rows but one: the generator gives them one after the other, so the list is split at it.
        let head = HeadView::parse(&base).unwrap();
        let (mut rest, mut classes) = (bytes.clone(), labels.clone());
        rest.drain(i * DIM..(i + 1) * DIM);
        classes.remove(i);
        let (canary_rows, canary_classes) = Case::examples(case.canaries);
        let input = Input {
            spec: SPEC,
            classes: 5,
            shots: Labelled { rows: Rows::new(&rest, DIM).unwrap(), classes: &classes },
            canaries: Some(Labelled { rows: Rows::new(&canary_rows, DIM).unwrap(), classes: &canary_classes }),
            old: None,
            prior: Some(Prior { head, class_of: case.class_of }),
        };
        let (n, m) = (classes.len(), canary_classes.len());
        let mut values = vec![0.0; Memory::values_len(n, m, DIM, 5)];
        let mut indices = vec![0; Memory::indices_len(n, m)];
        let (mut weights, mut bias) = (vec![0.0; 5 * DIM], vec![0.0; 5]);
        let (mut states, mut canary_states) = (vec![LeftOut::New; n], vec![LeftOut::New; m]);
        let memory = Memory { values: &mut values, indices: &mut indices };
        let out = Output { weights: &mut weights, bias: &mut bias, shots: &mut states, canaries: &mut canary_states };
        let outcome = tune(&input, &options, memory, out).unwrap();
        let refit = Tuned { outcome, weights, bias, shots: states, canaries: canary_states };
        let truly = answer(&refit, row) == usize::from(label);
        agree += usize::from((all.shots[i] == LeftOut::Right) == truly);
    }
    assert!(agree + 1 >= labels.len(), "{agree} of {}", labels.len());
    assert_eq!(all.canaries.len(), 12);
}

#[test]
fn a_prior_that_does_not_fit_is_refused() {
    let base = base(4);
    let shots = [(1, 1, 3, 1)];
    let canaries = [(0, 0, 3, 2)];
    let bad = |class_of: &[u16]| {
        let case = Case { base: &base, class_of, shots: &shots, canaries: &canaries };
        case.run(&Options::default()).err().map(|error| error.code())
    };
    assert_eq!(bad(&[0, 4]), Some("unknown-class"));
    assert_eq!(bad(&[0, 1, NO_CLASS]), Some("empty-class"), "a class with neither row nor example");
    assert_eq!(bad(&[0, 1, 2, 3]), None);
}

/// The head that comes out has the same bits on every processor; what they are was computed on x86-64.
#[test]
fn the_same_bits_everywhere() {
    let base = base(4);
    let case = Case {
        base: &base,
        class_of: &[0, 1, 2, 3, NO_CLASS],
        shots: &[(4, 5, 5, 1), (1, 4, 3, 6)],
        canaries: &[(0, 0, 6, 2), (1, 1, 6, 3), (2, 2, 6, 4)],
    };
    let tuned = case.run(&Options::default()).unwrap();
    let bits = tuned.weights.iter().chain(&tuned.bias).flat_map(|v| v.to_bits().to_le_bytes());
    // FNV-1a.
    let hash =
        bits.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    assert_eq!(hash, 0x034d_887f_1cf7_fc64, "{hash:#018x}");
}
