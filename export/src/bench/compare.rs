//! Two benches of the same bundle, one after the other in time.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Machine;
use super::run::Line;
use super::stats::ratio;
use crate::{Error, Result};

/// Differences below this share are never called one: processes of the same program differ by as much.
const FLOOR: f64 = 0.01;

/// What an earlier bench's JSON is read for.
#[derive(Debug, Clone, Deserialize)]
pub struct Earlier {
    /// What it was measured on.
    pub machine: Machine,
    /// Of what.
    pub bundle: OfBundle,
    /// Its lines.
    pub rows: Vec<Line>,
}

/// The bundle of an earlier bench.
#[derive(Debug, Clone, Deserialize)]
pub struct OfBundle {
    /// Of its backbone.
    pub fingerprint: String,
}

/// Largest file of an earlier bench, in bytes.
const LIMIT_BYTES: u64 = 64 << 20;

impl Earlier {
    /// Reads what `hone bench --json` printed.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] for anything else.
    pub fn read(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(Error::io(path))?;
        if !meta.is_file() || meta.len() > LIMIT_BYTES {
            return Err(Error::malformed(path, format!("not a regular file of at most {LIMIT_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::malformed(path, format!("not what `hone bench --json` prints: {e}")))
    }
}

/// How a provider's median time has changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// As `--provider` names it.
    pub provider: String,
    /// `int8`, `fp16` or `fp32`.
    pub precision: String,
    /// New median over old one.
    pub ratio: f64,
    /// 95 % confidence interval of the ratio.
    pub interval: [f64; 2],
    /// What two processes of the same differed by in either bench, at least 1 %.
    pub noise: f64,
    /// `slower`, `faster`, or `same` within interval and noise.
    pub verdict: String,
    /// Whether both benches trusted their times.
    pub trusted: bool,
}

/// Every line that both benches have.
#[must_use]
pub fn compare(new: &[Line], old: &[Line]) -> Vec<Change> {
    let pair = |line: &Line| {
        let same = |other: &&Line| other.provider == line.provider && other.precision == line.precision;
        let before = old.iter().find(same)?;
        let (ratio, interval) = ratio(&line.rounds_us.concat(), &before.rounds_us.concat())?;
        let known = |line: &Line| line.noise.filter(|noise| *noise >= 0.0).map_or(0.0, |noise| noise.min(1.0));
        let noise = known(line).max(known(before)).max(FLOOR);
        let verdict = if interval[0] > 1.0 + noise {
            "slower"
        } else if interval[1] < 1.0 / (1.0 + noise) {
            "faster"
        } else {
            "same"
        };
        Some(Change {
            provider: line.provider.clone(),
            precision: line.precision.clone(),
            ratio,
            interval,
            noise,
            verdict: verdict.to_owned(),
            trusted: line.doubts.is_empty() && before.doubts.is_empty(),
        })
    };
    new.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rounds: [f64; 8], noise: f64) -> Line {
        let text = r#"{"provider":"native","kernel":"avx2","precision":"int8","threads":1,"load_ms":1,"first_us":1,"warm_up_runs":1,
            "runs":1,"p50_us":1,"p90_us":1,"p99_us":1,"max_us":1,"interval_us":null,"noise":null,"rounds_us":[],"throughput":[],
            "peak_rss_bytes":null,"library_bytes":null,"agreement":null,"cosine":null,"doubts":[]}"#;
        let line: Line = serde_json::from_str(text).unwrap();
        Line { rounds_us: vec![rounds.to_vec()], noise: Some(noise), ..line }
    }

    #[test]
    fn a_change_counts_beyond_chance_and_beyond_what_the_same_program_differs_by() {
        let old = line([100.0, 101.0, 99.0, 100.0, 102.0, 98.0, 100.0, 101.0], 0.0);
        let slower = line(old.rounds_us[0].iter().map(|v| v * 1.2).collect::<Vec<_>>().try_into().unwrap(), 0.0);
        let verdict =
            |new: &Line, old: &Line| compare(std::slice::from_ref(new), std::slice::from_ref(old))[0].verdict.clone();
        assert_eq!(verdict(&slower, &old), "slower");
        assert_eq!(verdict(&old, &slower), "faster");
        assert_eq!(verdict(&old, &old), "same");
        assert_eq!(verdict(&Line { noise: Some(0.25), ..slower.clone() }, &old), "same", "within the noise");
        let wild = line([80.0, 150.0, 95.0, 160.0, 90.0, 140.0, 85.0, 155.0], 0.0);
        assert_eq!(verdict(&wild, &old), "same", "beyond what the rounds can tell");
        assert!(compare(&[slower], &[Line { provider: "tract".into(), ..old }]).is_empty());
    }
}
