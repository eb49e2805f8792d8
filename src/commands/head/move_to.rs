//! `hone head move`: the head in force for another provider.

use std::path::Path;

use hone_export::bench::agree::embed_on;
use hone_export::bench::run::write_inputs;
use hone_export::{Error, Result};
use hone_runtime::Session;
use hone_runtime::backbone::provider::{Chain, names};
use hone_runtime::tensor::Rows;
use serde_json::json;

use crate::args::Library;
use crate::commands::bench::worker::Launcher;
use crate::ui::Ui;

/// From where to where.
pub struct Way<'a> {
    /// `None`: what the store says.
    pub from: Option<&'a str>,
    pub to: &'a str,
    pub limit: f32,
    pub dry_run: bool,
    /// How long a provider may be silent.
    pub patience: std::time::Duration,
}

/// Whether the head holds there, and is in force where it was not a dry run.
pub fn run(
    session: &mut Session<'_, Chain<'_>>,
    bundle: &Path,
    way: &Way<'_>,
    inputs: &[Vec<f32>],
    library: &Library,
    ui: &Ui,
) -> Result<bool> {
    if !(0.0..=1.0).contains(&way.limit) {
        return Err(Error::Setting { name: "--min-agreement".into(), why: format!("{} is outside 0..=1", way.limit) });
    }
    let recorded = session.tuned_on().map(str::to_owned);
    if let (Some(recorded), Some(given)) = (&recorded, way.from)
        && recorded != given
    {
        let why =
            format!("the store says that the head in force was tuned on {recorded}, not on {given}; leave --from out");
        return Err(Error::Setting { name: "--from".into(), why });
    }
    let from = way.from.map(str::to_owned).or(recorded).unwrap_or_else(|| "native".to_owned());
    if let Some(name) = [from.as_str(), way.to].into_iter().find(|name| !names().contains(name)) {
        return Err(hone_runtime::Error::UnknownProvider { name: name.to_owned() }.into());
    }
    let Some(first) = inputs.first() else {
        return Err(Error::Setting { name: "--data".into(), why: "there is no row to compare providers on".into() });
    };
    let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let one = folder.path().join("inputs");
    write_inputs(&one, std::slice::from_ref(first))?;
    let launcher = Launcher::new(bundle, library, &one, way.patience)?;
    // Each in a process of its own: they may need different libraries.
    let embed = |provider: &str| {
        ui.track(provider, |progress| {
            progress(0, 1);
            embed_on(launcher.bundle(provider), inputs, folder.path())
        })
    };
    let (there, here) = (embed(&from)?, embed(way.to)?);
    let row_bytes = session.bundle().embedding.row_bytes();
    let (there, here) = (Rows::new(&there, row_bytes)?, Rows::new(&here, row_bytes)?);
    let (generation, drift) = if way.dry_run {
        (None, session.head()?.recentred(there, here)?.1)
    } else {
        let (generation, drift) = session.move_to(way.to, there, here, way.limit)?;
        (Some(generation), drift)
    };
    let accepted = drift.recentred >= way.limit;
    match generation {
        Some(generation) => ui.say(format!("generation {generation} is in force, for {}: {drift}", way.to)),
        None if !accepted => ui.say(format!("it would be refused on {}: {drift}", way.to)),
        None => ui.say(format!("it would be accepted on {}: {drift}", way.to)),
    }
    ui.document(&json!({
        "accepted": accepted,
        "min_agreement": way.limit,
        "generation": generation,
        "from": from,
        "provider": way.to,
        "rows": drift.rows,
        "agreement": drift.agreement,
        "recentred": drift.recentred,
        "largest_shift": drift.largest_shift,
    }));
    Ok(accepted)
}
