//! Heads tuned on one provider, used on another.

use std::path::Path;

use hone_runtime::bundle::Bundle;
use hone_runtime::head::HeadView;
use hone_runtime::head::drift::AGREEMENT_LIMIT;
use hone_runtime::tensor::Rows;
use hone_runtime::tune::Options;
use serde::Serialize;

use super::agree::Embeddings;
use crate::apply::Embedded;
use crate::apply::accuracy::{Matching, evaluate};
use crate::apply::shots::tuned;
use crate::{Error, Result};

/// Accuracy of every head on every provider.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cross {
    /// Shots a class that each head was tuned on: the first ones of the data. They also are what a head is re-centred on.
    pub shots_per_class: usize,
    /// Rows that accuracy was measured on: all others.
    pub test_rows: usize,
    /// Every pair of providers.
    pub pairs: Vec<Pair>,
}

/// A head on a provider.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// Where its shots were embedded.
    pub tuned_on: String,
    /// Where the other rows were.
    pub runs_on: String,
    /// Accuracy of the head as it is.
    pub accuracy: f64,
    /// Accuracy of the re-centred head.
    pub recentred: f64,
    /// Share of the shots' answers that stay the same.
    pub agreement: f32,
    /// The same for the re-centred head.
    pub recentred_agreement: f32,
    /// Whether that is enough for `hone head move`.
    pub holds: bool,
}

/// Numbers of the rows to tune on, the first `shots` of every class, and of the others.
///
/// # Errors
/// [`Error::Setting`] where a class has no row beyond the shots.
pub fn divide(labels: &[usize], classes: &[String], shots: usize) -> Result<[Vec<usize>; 2]> {
    let mut seen = vec![0; classes.len()];
    let (mut taught, mut others) = (Vec::new(), Vec::new());
    for (row, &class) in labels.iter().enumerate() {
        seen[class] += 1;
        if seen[class] <= shots { taught.push(row) } else { others.push(row) }
    }
    if let Some(class) = (0..classes.len()).find(|&class| seen[class] > 0 && seen[class] <= shots) {
        let why = format!(
            "class '{}' has {} rows: none is left to try a head on; use fewer shots, or more rows (--limit)",
            classes[class], seen[class]
        );
        return Err(Error::Setting { name: "--cross".into(), why });
    }
    Ok([taught, others])
}

/// Tunes on each provider's embeddings of the first `shots` rows of every class and tries the head on every provider's embeddings of the
/// others. `labels` and `classes` are those of the rows, in the order of the embeddings.
///
/// # Errors
/// [`Error::Setting`] where a class has no row beyond the shots, and what tuning and heads say.
pub fn cross(
    bundle: &Bundle<'_>,
    embeddings: &[Embeddings],
    labels: &[usize],
    classes: &[String],
    shots: usize,
) -> Result<Cross> {
    let [taught, others] = divide(labels, classes, shots)?;
    let spec = bundle.embedding;
    let part = |of: &Embeddings, at: &[usize]| {
        let row_bytes = spec.row_bytes();
        let rows = at.iter().flat_map(|&row| &of.bytes[row * row_bytes..][..row_bytes]).copied().collect();
        Embedded {
            path: Path::new(&of.provider).to_path_buf(),
            rows,
            row_bytes,
            labels: Some(at.iter().map(|&row| labels[row]).collect()),
            classes: classes.to_vec(),
            ids: at.iter().map(|row| format!("row {row}")).collect(),
            embed_ms_total: 0.0,
        }
    };
    let parts: Vec<(&str, Embedded, Embedded)> =
        embeddings.iter().map(|of| (of.provider.as_str(), part(of, &taught), part(of, &others))).collect();
    let all: Vec<usize> = (0..taught.len()).collect();
    let mut pairs = Vec::new();
    for (tuned_on, there, _) in &parts {
        let (record, _) = tuned(spec, there, &all, &Options::default())?;
        let head = HeadView::parse(&record)?;
        for (runs_on, here, test) in &parts {
            let there = Rows::new(&there.rows, there.row_bytes)?;
            let (moved, drift) = head.recentred(there, Rows::new(&here.rows, here.row_bytes)?)?;
            pairs.push(Pair {
                tuned_on: (*tuned_on).to_owned(),
                runs_on: (*runs_on).to_owned(),
                accuracy: evaluate(&head, test, Matching::default())?.top1,
                recentred: evaluate(&HeadView::parse(&moved)?, test, Matching::default())?.top1,
                agreement: drift.agreement,
                recentred_agreement: drift.recentred,
                holds: drift.recentred >= AGREEMENT_LIMIT,
            });
        }
    }
    Ok(Cross { shots_per_class: shots, test_rows: others.len(), pairs })
}
