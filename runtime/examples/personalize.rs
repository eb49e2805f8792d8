//! From a bundle to predictions by a head that its owner taught, on a desktop.
//!
//! ```text
//! cargo run --release -- quickstart
//! cargo run --release -p hone-runtime --features tract --example personalize
//! ```
//!
//! The first command makes the bundle and the data in `hone-quickstart/`; another folder of its making may be named as an
//! argument. A second run has learned from the first one's shots already, and says that there is nothing new.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use hone_runtime::backbone::tract::TractBackbone;
use hone_runtime::tune::Options;
use hone_runtime::{Bundle, Session};

/// One input as the backbone takes it, preprocessing done, with its label.
pub type Labelled = (String, Vec<f32>);

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).map_or_else(|| PathBuf::from("hone-quickstart"), PathBuf::from);
    let bundle = folder.join("glyphs.hone");
    if !bundle.exists() {
        return Err(format!("{}: not there; `cargo run --release -- quickstart` makes it", bundle.display()).into());
    }
    let digits = digits(&folder.join("data"))?;
    // The first five of each digit are the owner's examples, the rest asks.
    let mut seen = [0; 10];
    let (shots, asked): (Vec<Labelled>, Vec<Labelled>) = digits.into_iter().partition(|(label, _)| {
        let count = label.parse().ok().and_then(|digit: usize| seen.get_mut(digit));
        count.is_some_and(|count| {
            *count += 1;
            *count <= 5
        })
    });
    let answers = personalize(&bundle, &folder.join("personalize-home"), &shots, &asked)?;
    let right = answers.iter().zip(&asked).filter(|(answer, (label, _))| *answer == label).count();
    println!("{right} of {} digits are right after {} examples", asked.len(), shots.len());
    Ok(())
}

/// The ten lines: teaches `shots`, tunes, commits, and gives the labels of `asked`.
pub fn personalize(
    bundle: &Path,
    store: &Path,
    shots: &[Labelled],
    asked: &[Labelled],
) -> Result<Vec<String>, Box<dyn Error>> {
    let bytes = fs::read(bundle)?;
    let bundle = Bundle::parse(&bytes)?;
    let mut session = Session::open(&bundle, TractBackbone::load(&bundle)?, store)?;
    for (label, input) in shots {
        session.teach(label, input)?;
    }
    // A head of the taught classes alone: what else the bundle knows is not replayed.
    let outcome = session.tune(&Options { replay_weight: 0.0, ..Options::default() })?;
    println!("{}", outcome.decision.reason);
    session.commit()?;
    asked.iter().map(|(_, input)| Ok(session.predict(input)?.label.to_owned())).collect()
}

/// The handwriting of the quickstart: 8×8 pixels of ink, 0..=16, as bytes, and a digit for each.
fn digits(data: &Path) -> Result<Vec<Labelled>, Box<dyn Error>> {
    let (images, labels) = (npy(&data.join("digits-x.npy"))?, npy(&data.join("digits-y.npy"))?);
    let input = |pixels: &[u8]| pixels.iter().map(|ink| f32::from(*ink) / 16.0).collect();
    Ok(labels.iter().map(u8::to_string).zip(images.chunks_exact(64).map(input)).collect())
}

/// The data of a version 1 `.npy` file of bytes: its header says how long it is.
fn npy(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let data = bytes
        .get(8..10)
        .and_then(|len| bytes.get(10 + usize::from(u16::from_le_bytes(len.try_into().ok()?))..))
        .ok_or_else(|| format!("{}: not an .npy file", path.display()))?;
    Ok(data.to_vec())
}
