//! k-shot tables: tune on a few rows, evaluate on others, for several draws of the few.

use std::path::Path;

use hone_runtime::bundle::Fingerprint;
use hone_runtime::head::{HeadParts, Kind, Weights};
use hone_runtime::quant::symmetric_row;
use hone_runtime::tensor::Rows;
use hone_runtime::tune::{self, Input, Labelled, LeftOut, Memory, Options, Output};
use hone_runtime::{EmbeddingSpec, HeadView};
use serde::Serialize;

use super::Embedded;
use super::accuracy::{Evaluation, Matching, evaluate};
use crate::data::npy::ArrayFile;
use crate::{Error, Result};

/// Accuracy over several draws of shots.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KShot {
    /// Shots a class, on average over the classes of the draw.
    pub k: f64,
    /// Mean accuracy over the draws.
    pub mean: f64,
    /// Standard deviation over the draws (of the population, as `numpy.std`).
    pub sd: f64,
    /// Accuracy of each draw.
    pub seeds: Vec<f64>,
    /// Rows that each was measured on.
    pub n: usize,
}

/// Reads row numbers `[draws, rows]` (any further axes are draws too) from a `.npy` file; `rows` there are.
///
/// # Errors
/// [`Error::Data`] for numbers that are no row numbers, and what [`ArrayFile::open`] says.
pub fn read_draws(path: &Path, rows: usize) -> Result<Vec<Vec<usize>>> {
    let mut array = ArrayFile::open(path)?;
    let width = match array.shape() {
        [.., width] if *width > 0 => *width,
        shape => return Err(Error::data(path, format!("a table [draws, rows] is expected, its shape is {shape:?}"))),
    };
    let numbers = array.all()?.to_i64().ok_or_else(|| Error::data(path, "row numbers must be whole numbers"))?;
    let numbers: Vec<usize> = numbers
        .iter()
        .map(|&n| {
            usize::try_from(n)
                .ok()
                .filter(|&n| n < rows)
                .ok_or_else(|| Error::data(path, format!("row {n} is out of range, the data has {rows} rows")))
        })
        .collect::<Result<_>>()?;
    Ok(numbers.chunks(width).map(<[usize]>::to_vec).collect())
}

/// Tunes on the rows of each draw (places in `shots`), and evaluates on all of `test`.
///
/// The head is solved, quantized and scored as [`Session::tune`](hone_runtime::Session::tune) does it, on the draw alone: without
/// canaries, store and gate.
///
/// # Errors
/// What [`tune::tune`] and [`evaluate`] say.
pub fn k_shot(
    spec: EmbeddingSpec,
    shots: &Embedded,
    draws: &[Vec<usize>],
    test: &Embedded,
    options: &Options,
) -> Result<KShot> {
    let evaluations: Vec<(usize, Evaluation)> = draws
        .iter()
        .map(|draw| {
            let (record, classes) = tuned(spec, shots, draw, options)?;
            let head = HeadView::parse(&record)?;
            Ok((classes, evaluate(&head, test, Matching::default())?))
        })
        .collect::<Result<_>>()?;
    let seeds: Vec<f64> = evaluations.iter().map(|(_, e)| e.top1).collect();
    let (rows, classes) = draws.iter().zip(&evaluations).fold((0, 0), |(r, c), (draw, (n, _))| (r + draw.len(), c + n));
    let (mean, sd) = mean_and_deviation(&seeds);
    Ok(KShot {
        k: rows as f64 / classes.max(1) as f64,
        mean,
        sd,
        seeds,
        n: evaluations.first().map_or(0, |(_, e)| e.n),
    })
}

/// The record of a head that was tuned on these rows alone, and the number of its classes.
///
/// # Errors
/// What [`tune::tune`] says.
pub fn tuned(spec: EmbeddingSpec, shots: &Embedded, at: &[usize], options: &Options) -> Result<(Vec<u8>, usize)> {
    let truths = shots.labels()?;
    // The head has the classes of the draw, in the order of the data.
    let mut present: Vec<usize> = at.iter().map(|&i| truths[i]).collect();
    present.sort_unstable();
    present.dedup();
    let labels: Vec<&str> = present.iter().map(|&class| shots.classes[class].as_str()).collect();
    let classes: Vec<u16> = at
        .iter()
        .map(|&i| present.binary_search(&truths[i]).ok().and_then(|c| u16::try_from(c).ok()).unwrap_or(tune::NO_CLASS))
        .collect();
    let mut rows = Vec::with_capacity(at.len() * shots.row_bytes);
    at.iter().for_each(|&i| rows.extend_from_slice(shots.row(i)));

    let (n, dim, c) = (at.len(), spec.dim, labels.len());
    let mut values = vec![0.0; Memory::values_len(n, 0, dim, c)];
    let mut indices = vec![0; Memory::indices_len(n, 0)];
    let (mut weights, mut bias, mut states) = (vec![0.0; c * dim], vec![0.0; c], vec![LeftOut::New; n]);
    let input = Input {
        spec,
        classes: c,
        shots: Labelled { rows: Rows::new(&rows, spec.row_bytes())?, classes: &classes },
        canaries: None,
        old: None,
        prior: None,
    };
    let memory = Memory { values: &mut values, indices: &mut indices };
    let out = Output { weights: &mut weights, bias: &mut bias, shots: &mut states, canaries: &mut [] };
    tune::tune(&input, options, memory, out)?;

    let mut steps = vec![0; c * dim];
    let pairs = weights.chunks_exact(dim).zip(steps.chunks_exact_mut(dim));
    let scales: Vec<f32> = pairs.map(|(w, q)| symmetric_row(w, q)).collect::<hone_runtime::Result<_>>()?;
    let parts = HeadParts {
        kind: Kind::Softmax,
        unit: true,
        fingerprint: Fingerprint([0; 16]),
        embedding: spec,
        labels: &labels,
        bias: &bias,
        weights: Weights::Int8 { scales: &scales, rows: &steps },
    };
    Ok((parts.to_bytes()?, c))
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_runtime::quant::{EmbeddingKind, QuantParams};

    #[test]
    fn deviation_is_of_the_population() {
        // numpy.mean and numpy.std of [2, 4, 4, 4, 5, 5, 7, 9].
        assert_eq!(mean_and_deviation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), (5.0, 2.0));
    }

    #[test]
    fn separable_rows_are_learned_from_every_draw() {
        let spec = EmbeddingSpec { dim: 2, kind: EmbeddingKind::Int8(QuantParams { scale: 0.1, zero_point: 0 }) };
        let embedded = Embedded {
            path: "x".into(),
            rows: vec![90, 5, 80, 0, 5, 90, 0, 85],
            row_bytes: 2,
            labels: Some(vec![0, 0, 1, 1]),
            classes: vec!["left".into(), "up".into()],
            ids: (0..4).map(|i| i.to_string()).collect(),
            embed_ms_total: 0.0,
        };
        let table = k_shot(spec, &embedded, &[vec![0, 2], vec![3, 1]], &embedded, &Options::default()).unwrap();
        assert_eq!((table.k, table.mean, table.sd, table.n), (1.0, 1.0, 0.0, 4));
        let error = k_shot(spec, &embedded, &[vec![0, 1]], &embedded, &Options::default()).unwrap_err();
        assert_eq!(error.code(), "one-class");
    }

    #[test]
    fn draws_out_of_range_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.npy");
        crate::data::npy::write(&path, &[2, 2], &[0_i32, 1, 2, 3]).unwrap();
        assert_eq!(read_draws(&path, 4).unwrap(), [[0, 1], [2, 3]]);
        let error = read_draws(&path, 3).unwrap_err();
        assert!(error.to_string().contains("k.npy") && error.to_string().contains("row 3"), "{error}");
    }
}
