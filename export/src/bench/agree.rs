//! Whether providers give the same embeddings and answers for the same rows.

use std::path::Path;

use hone_runtime::Bundle;

use super::run::{Launch, Line, ROWS, Running, Worker, write_inputs};
use crate::Result;
use crate::apply::accuracy::best_class;

/// Bytes of inputs that lie in a file between the processes at a time.
const CHUNK_BYTES: usize = 32 << 20;

/// In front of the provider's name in the lines of the original model while they are measured: the bundle runs there, too.
pub const ORIGINAL: &str = "original:";

/// What one provider made of the rows.
#[derive(Debug, Clone)]
pub struct Embeddings {
    /// As `--provider` names it, behind [`ORIGINAL`] for the original model.
    pub provider: String,
    /// Rows of the bundle's embedding; scores as f32, little-endian, for the original model.
    pub bytes: Vec<u8>,
}

impl Embeddings {
    /// Whether these are the original's scores.
    #[must_use]
    pub fn is_original(&self) -> bool {
        self.provider.starts_with(ORIGINAL)
    }
}

/// Lets every provider embed all `inputs`. Providers that fail on the way are left out.
///
/// # Errors
/// [`crate::Error::Io`] for the files between the processes.
pub fn embed_all(running: &mut Running, inputs: &[Vec<f32>], folder: &Path) -> Result<Vec<Embeddings>> {
    let mut all: Vec<Embeddings> = Vec::new();
    for (number, chunk) in chunks(inputs).enumerate() {
        for (provider, bytes) in running.embed(chunk, folder)? {
            match all.iter_mut().find(|other| other.provider == provider) {
                Some(other) => other.bytes.extend(bytes),
                None if number == 0 => all.push(Embeddings { provider, bytes }),
                None => {}
            }
        }
    }
    // What ended on the way has fewer.
    let whole: Vec<&str> = running.providers();
    all.retain(|embeddings| whole.contains(&embeddings.provider.as_str()));
    Ok(all)
}

/// The best class of every one of `rows` rows: by the bundle's own head, or of the original's scores; `None` without a head, and for an original of
/// other classes than the head's.
///
/// # Errors
/// A row that the head refuses.
fn answers(bundle: &Bundle<'_>, embeddings: &Embeddings, rows: usize) -> Result<Option<Vec<usize>>> {
    let Some(head) = bundle.head else { return Ok(None) };
    if embeddings.is_original() {
        let scores: Vec<f32> = embeddings.bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        let is_alike = scores.len() == rows * head.classes();
        return Ok(is_alike.then(|| scores.chunks_exact(head.classes().max(1)).filter_map(best_class).collect()));
    }
    let embedded = embeddings.bytes.chunks_exact(bundle.embedding.row_bytes());
    embedded.map(|row| Ok(head.predict(row)?.class)).collect::<Result<Vec<_>>>().map(Some)
}

/// Mean cosine of rows with those of another provider; `None` where a row is zero throughout.
#[must_use]
pub fn cosine(bundle: &Bundle<'_>, a: &[u8], b: &[u8]) -> Option<f64> {
    let spec = bundle.embedding;
    let pairs = a.chunks_exact(spec.row_bytes()).zip(b.chunks_exact(spec.row_bytes()));
    let (mut sum, mut count) = (0.0, 0usize);
    let (mut left, mut right) = (vec![0.0; spec.dim], vec![0.0; spec.dim]);
    for (a, b) in pairs {
        spec.dequantize_row(a, &mut left).ok()?;
        spec.dequantize_row(b, &mut right).ok()?;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let norms = (dot(&left, &left) * dot(&right, &right)).sqrt();
        if norms > 0.0 {
            sum += dot(&left, &right) / norms;
            count += 1;
        }
    }
    (count > 0).then(|| sum / count as f64)
}

/// Fills in every line's agreement with the reference, and its cosine with the first provider; gives the reference. That is the original model where
/// there is one with the classes of the bundle's head, and the first provider otherwise.
///
/// # Errors
/// A row that the bundle's head refuses.
pub fn fill<'e>(
    bundle: &Bundle<'_>,
    embeddings: &'e [Embeddings],
    rows: usize,
    lines: &mut [Line],
) -> Result<Option<&'e Embeddings>> {
    let named = |name: &str| embeddings.iter().find(|e| e.provider == name);
    let first = embeddings.iter().find(|e| !e.is_original());
    let mut expected = None;
    for candidate in embeddings.iter().filter(|e| e.is_original()).chain(first) {
        if let Some(answers) = answers(bundle, candidate, rows)?.filter(|answers| answers.len() == rows) {
            expected = Some((candidate, answers));
            break;
        }
    }
    for line in lines {
        let Some(own) = named(&line.provider) else { continue };
        if let (Some((_, expected)), Some(got)) = (&expected, answers(bundle, own, rows)?)
            && expected.len() == got.len()
            && !expected.is_empty()
        {
            let same = expected.iter().zip(&got).filter(|(a, b)| a == b).count();
            line.agreement = Some(same as f64 / expected.len() as f64);
        }
        if let Some(first) = first.filter(|_| !own.is_original()) {
            line.cosine = cosine(bundle, &own.bytes, &first.bytes);
        }
    }
    Ok(expected.map(|(reference, _)| reference))
}

/// Embeds the inputs on one provider, in a process that ends with it. `folder` is that of the inputs which it is started with.
///
/// # Errors
/// [`crate::Error::Worker`]: what the process says; [`crate::Error::Io`].
pub fn embed_on(launch: Launch, inputs: &[Vec<f32>], folder: &Path) -> Result<Vec<u8>> {
    let (mut worker, _) = Worker::start(launch)?;
    let mut bytes = Vec::new();
    for chunk in chunks(inputs) {
        write_inputs(&folder.join(ROWS), chunk)?;
        bytes.extend(worker.embed(folder, ROWS)?);
    }
    Ok(bytes)
}

/// As much of the inputs as lies in a file at a time.
fn chunks(inputs: &[Vec<f32>]) -> std::slice::Chunks<'_, Vec<f32>> {
    let row_bytes = inputs.first().map_or(0, |row| row.len() * 4);
    inputs.chunks((CHUNK_BYTES / row_bytes.max(1)).max(1))
}
