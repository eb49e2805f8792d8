//! What a bench says to the process that runs one provider, and what that answers: one line of JSON each.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, Result};

/// In front of every line of a worker, to be told from what foreign libraries print.
const MARK: &str = "@hone ";
/// A worker's line that says that it goes on.
pub const BEAT: &str = "@hone-goes-on";

/// What a worker is asked, after its [`Ready`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Run until the time of a run does not fall any more, at most this long: [`Warm`].
    Warm {
        /// In milliseconds.
        limit_ms: f64,
    },
    /// Time so many runs, one by one: [`Round`].
    Round {
        /// At least 1.
        runs: usize,
    },
    /// As many rows as possible in the time given: [`Offline`].
    Offline {
        /// Each with a backbone of its own.
        threads: usize,
        /// Rows at a time.
        batch: usize,
        /// In milliseconds.
        ms: f64,
    },
    /// Read inputs from a file, write embeddings (or the original's scores) to another: [`Embedded`]. Both lie in the folder of the inputs that
    /// the worker was started with: names, as a path need not be text.
    Embed {
        /// f32, little-endian, row after row.
        inputs: String,
        /// Embedding rows, or scores as f32, little-endian.
        out: String,
    },
    /// [`Memory`].
    Memory,
    /// Which nodes ONNX Runtime gives to whom: a list of [`super::preflight::Part`], for its providers alone.
    Parts,
    /// Time operator by operator: a list of [`super::profile::OpTime`].
    Profile {
        /// Of the whole backbone.
        runs: usize,
    },
}

/// The first line of a worker: its backbone is loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// As `--provider` names it.
    pub provider: String,
    /// Its kernels.
    pub kernel: String,
    /// `int8`, `fp16` or `fp32`.
    pub precision: String,
    /// From the bytes of the bundle to a backbone that runs, in milliseconds.
    pub load_ms: f64,
    /// The first inference, in microseconds.
    pub first_us: f64,
}

/// How long it took until runs were steady.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warm {
    /// Runs made.
    pub runs: usize,
    /// Whether the time of a run had stopped falling.
    pub settled: bool,
    /// Median time of the last ones, in microseconds.
    pub us: f64,
}

/// One round of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Of every run, in order.
    pub times_us: Vec<f64>,
    /// Share of the round that the thread waited for a processor, where the system says it.
    pub waited: Option<f64>,
}

/// Throughput.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offline {
    /// Of all threads together.
    pub rows_per_s: f64,
}

/// How many rows were written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedded {
    /// Rows.
    pub rows: usize,
}

/// What the process took, as far as the system says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Largest resident set so far.
    pub peak_rss_bytes: Option<u64>,
    /// Files of the shared libraries that loading and running the backbone brought in.
    pub library_bytes: Option<u64>,
}

/// A worker's line: the answer, or why there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<T> {
    /// The answer.
    Did(T),
    /// The error in words.
    Failed(String),
}

/// A worker's line for a result.
///
/// # Errors
/// [`Error::Worker`]: it has no form as JSON.
pub fn encode<T: Serialize>(result: &Result<T>) -> Result<String> {
    let line = match result {
        Ok(answer) => Line::Did(answer),
        Err(error) => Line::Failed(error.to_string()),
    };
    let text = serde_json::to_string(&line).map_err(|e| Error::worker(e.to_string()))?;
    Ok(format!("{MARK}{text}"))
}

/// The answer in a worker's line; `None` for a line that is none of its own.
///
/// # Errors
/// [`Error::Worker`]: what the worker says, or an answer to another question.
pub fn decode<T: DeserializeOwned>(line: &str) -> Result<Option<T>> {
    let Some(text) = line.strip_prefix(MARK) else { return Ok(None) };
    match serde_json::from_str(text) {
        Ok(Line::Did(answer)) => Ok(Some(answer)),
        Ok(Line::Failed(why)) => Err(Error::worker(why)),
        Err(e) => Err(Error::worker(format!("its answer is not understood: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_and_foreign_lines_are_passed_over() {
        let warm = Warm { runs: 12, settled: true, us: 83.25 };
        let line = encode(&Ok(warm.clone())).unwrap();
        assert_eq!(decode::<Warm>(&line).unwrap(), Some(warm));
        assert_eq!(decode::<Warm>("# LIBNATIVE: loaded").unwrap(), None);
        let line = encode::<Warm>(&Err(Error::worker("no such device"))).unwrap();
        assert!(decode::<Warm>(&line).unwrap_err().to_string().contains("no such device"));
        assert!(decode::<Round>(&encode(&Ok(Memory { peak_rss_bytes: None, library_bytes: None })).unwrap()).is_err());
    }
}
