//! From a bundle to a prediction by a head that its owner taught, on a desktop.
//!
//! ```text
//! cargo run --release -p hone-runtime --features tract --example personalize -- \
//!     kws.hone home/ query.f32 yes=yes-1.f32 yes=yes-2.f32 no=no-1.f32 no=no-2.f32
//! ```
//!
//! Every `.f32` file is one input as the backbone takes it: little-endian f32, row-major, preprocessing done. The second
//! run on the same store has learned from the first one's shots too.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use hone_runtime::backbone::tract::TractBackbone;
use hone_runtime::tune::Options;
use hone_runtime::{Bundle, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [bundle, store, query, shots @ ..] = arguments.as_slice() else {
        return Err("usage: personalize BUNDLE STORE QUERY LABEL=INPUT…".into());
    };
    let shots: Vec<(&str, &Path)> =
        shots.iter().filter_map(|shot| shot.split_once('=')).map(|(label, file)| (label, Path::new(file))).collect();
    println!("{}", personalize(Path::new(bundle), Path::new(store), Path::new(query), &shots)?);
    Ok(())
}

/// The ten lines: teaches `shots`, tunes, commits, and gives the label of `query`.
pub fn personalize(
    bundle: &Path,
    store: &Path,
    query: &Path,
    shots: &[(&str, &Path)],
) -> Result<String, Box<dyn Error>> {
    let bytes = fs::read(bundle)?;
    let bundle = Bundle::parse(&bytes)?;
    let mut session = Session::open(&bundle, TractBackbone::load(&bundle)?, store)?;
    for (label, file) in shots {
        session.teach(label, &input(file)?)?;
    }
    let outcome = session.tune(&Options::default())?;
    eprintln!("{}", outcome.decision.reason);
    session.commit()?;
    Ok(session.predict(&input(query)?)?.label.to_owned())
}

fn input(file: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (values, []) = bytes.as_chunks::<4>() else {
        return Err(format!("{}: not a whole number of f32", file.display()).into());
    };
    Ok(values.iter().copied().map(f32::from_le_bytes).collect())
}
