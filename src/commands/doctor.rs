//! `hone doctor`: one screen that says what works on this machine, what does not, and what to do.

use std::process::ExitCode;

use hone_export::Result;
use hone_export::doctor::{self, Check, State};
use hone_export::report::Table;
use serde::Serialize;

use crate::args::Doctor;
use crate::ui::{Outcome, Ui};

#[derive(Serialize)]
struct Document {
    healthy: bool,
    checks: Vec<Check>,
}

pub fn run(args: &Doctor, ui: &Ui) -> Outcome {
    let mut checks = doctor::machine();
    checks.extend(providers(args)?);
    checks.extend(doctor::accelerators());
    let temporary = std::env::temp_dir();
    checks.push(doctor::folder(
        "temporary files",
        &temporary,
        "free space there, or set TMPDIR to a folder that can be written to",
    ));
    if let Some(store) = &args.store {
        // It is made at the first commit.
        let folder = store.ancestors().find(|folder| folder.is_dir()).unwrap_or(std::path::Path::new("."));
        checks.push(doctor::folder(
            "store",
            folder,
            "heads that are tuned could not be kept: give another --store, or the right to write there",
        ));
    }
    if let Some(bundle) = &args.bundle {
        checks.extend(doctor::bundle(bundle));
    }
    let mut table = Table::new("Doctor", &["check", "state", "found"]);
    for check in &checks {
        table.row([check.check.clone(), check.state.name().to_owned(), check.found.clone()]);
    }
    let advice: Vec<String> =
        checks.iter().filter_map(|check| Some(format!("{}: {}", check.check, check.advice.as_ref()?))).collect();
    table.note =
        if advice.is_empty() { "Nothing to do.".into() } else { format!("What to do:\n{}", advice.join("\n")) };
    ui.table(&table);
    let healthy = checks.iter().all(|check| check.state != State::Failed);
    ui.document(&Document { healthy, checks });
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A provider that is missing is no failure: nobody needs all of them. None at all would be.
fn providers(args: &Doctor) -> Result<Vec<Check>> {
    #[cfg(feature = "ort")]
    {
        let lines = super::providers::all(&args.library)?;
        let is_worth_a_line = |line: &&super::providers::Line| line.tested && line.provider != "native";
        let check = |line: &super::providers::Line| {
            let version = line.version.as_deref().unwrap_or_default();
            match (&line.why, &line.library) {
                (None, library) => {
                    let at = library.as_ref().map_or_else(String::new, |library| format!(", {library}"));
                    Check::good(&line.provider, format!("{version} on {}{at}", line.devices.join(", ")))
                }
                (Some(why), _) => Check::bad(&line.provider, State::Warning, line.state.clone(), why.clone()),
            }
        };
        Ok(lines.iter().filter(is_worth_a_line).map(check).collect())
    }
    #[cfg(not(feature = "ort"))]
    {
        let _ = args;
        Ok(vec![Check::good("providers", "this build has the native engine alone")])
    }
}
