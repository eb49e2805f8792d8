//! `hone providers`: what can run a backbone here, and what is missing.

use std::process::{Command, ExitCode};

use hone_export::Error;
use hone_export::report::Table;
use hone_runtime::backbone::ort::{ExecutionProvider, Settings, probe};
use hone_runtime::kernels;
use serde::{Deserialize, Serialize};

use crate::args::{OrtLib, Probe as ProbeArgs, Providers};
use crate::ui::{Outcome, Ui};

/// One provider. Its JSON also is what a probing process hands back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// As `--provider` names it.
    pub provider: String,
    /// `ready`, `missing`, or `not built`.
    pub state: String,
    /// Whether the project's tests run it.
    pub tested: bool,
    /// Version of its library, or the kernels of the native engine.
    pub version: Option<String>,
    /// What it runs on.
    pub devices: Vec<String>,
    /// Path of its library.
    pub library: Option<String>,
    /// Who said that it is there.
    pub found_by: Option<String>,
    /// Path of its plugin.
    pub plugin: Option<String>,
    /// Why it cannot be used, and what to do.
    pub why: Option<String>,
}

#[derive(Serialize)]
struct Document {
    providers: Vec<Line>,
}

pub fn run(args: &Providers, ui: &Ui) -> Outcome {
    let providers = all(&args.library)?;
    let mut table = Table::new("Providers", &["provider", "state", "version", "devices", "library", "found by"]);
    for line in &providers {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".into());
        let state = if line.tested { line.state.clone() } else { format!("{} (not tested)", line.state) };
        let devices = if line.devices.is_empty() { "–".to_owned() } else { line.devices.join(", ") };
        table.row([
            line.provider.clone(),
            state,
            text(&line.version),
            devices,
            text(&line.library),
            text(&line.found_by),
        ]);
    }
    let whys = providers.iter().filter_map(|line| Some(format!("{}: {}", line.provider, line.why.as_ref()?)));
    table.note = whys.collect::<Vec<_>>().join("\n");
    ui.table(&table);
    ui.document(&Document { providers });
    Ok(ExitCode::SUCCESS)
}

/// Every provider that hone knows, those of this build first asked in processes of their own: each may need another library.
pub fn all(library: &OrtLib) -> Result<Vec<Line>, Error> {
    let own = |name: &str, version: String| Line {
        provider: name.into(),
        state: "ready".into(),
        tested: true,
        version: Some(version),
        devices: vec!["CPU".into()],
        library: None,
        found_by: None,
        plugin: None,
        why: None,
    };
    let mut lines = vec![own("native", format!("kernels {}", kernels::best()?.name))];
    if hone_runtime::backbone::provider::PROVIDERS.contains(&"tract") {
        lines.push(own("tract", "built in".into()));
    }
    for provider in ExecutionProvider::ALL {
        lines.push(if provider.is_built() { ask(provider, library) } else { absent(provider) });
    }
    Ok(lines)
}

fn absent(provider: ExecutionProvider) -> Line {
    let why = format!("not in this build: `cargo install --path . --features {}`", provider.feature());
    Line { state: "not built".into(), why: Some(why), ..missing(provider, String::new()) }
}

fn missing(provider: ExecutionProvider, why: String) -> Line {
    Line {
        provider: provider.name().into(),
        state: "missing".into(),
        tested: provider.is_tested(),
        version: None,
        devices: Vec::new(),
        library: None,
        found_by: None,
        plugin: None,
        why: Some(why),
    }
}

/// Another process of this program loads the library: it may be any, and whatever it does ends with that process.
fn ask(provider: ExecutionProvider, library: &OrtLib) -> Line {
    let Ok(program) = std::env::current_exe() else {
        return missing(provider, "the program's own path is unknown".into());
    };
    let mut command = Command::new(program);
    command.args(["--json", "probe", provider.name()]);
    if let Some(library) = &library.ort_lib {
        command.arg("--ort-lib").arg(library);
    }
    match command.output() {
        Err(error) => missing(provider, format!("it could not be asked: {error}")),
        Ok(output) => serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            missing(provider, format!("its library ended the process ({}): {last}", output.status))
        }),
    }
}

/// The process that [`ask`] starts.
pub fn answer(args: &ProbeArgs, ui: &Ui) -> Outcome {
    let provider = ExecutionProvider::named(&args.provider)
        .ok_or_else(|| hone_runtime::Error::UnknownProvider { name: args.provider.clone() })?;
    let settings = Settings { library: args.library.ort_lib.clone(), ..Settings::default() };
    ui.document(&match probe(provider, &settings) {
        Err(why) => missing(provider, why),
        Ok(probe) => Line {
            state: "ready".into(),
            version: Some(probe.version),
            devices: if probe.devices.is_empty() { vec!["CPU".into()] } else { probe.devices },
            library: Some(probe.library.display().to_string()),
            found_by: Some(probe.origin.name().into()),
            plugin: probe.plugin.map(|plugin| plugin.display().to_string()),
            why: None,
            ..missing(provider, String::new())
        },
    });
    Ok(ExitCode::SUCCESS)
}
