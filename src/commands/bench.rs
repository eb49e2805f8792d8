//! `hone bench`: latency, throughput, load time, memory and agreement of providers, each in processes of its own.

mod page;
mod preflight;
mod tables;
pub mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hone_export::apply::{Applied, BundleFile, latency};
use hone_export::bench::Machine;
use hone_export::bench::agree::{self, Embeddings, ORIGINAL};
use hone_export::bench::compare::{Change, Earlier, compare};
use hone_export::bench::cross::{Cross, cross, divide};
use hone_export::bench::profile::OpTime;
use hone_export::bench::run::{Effort, Entry, Failure, Line, PROCESSES, Running, write_inputs};
use hone_export::{Error, Result};
use hone_runtime::Backbone as _;
use hone_runtime::head::Kind;
use serde::Serialize;

use crate::args::{Bench, Scenario};
use crate::ui::{Outcome, Ui};

use self::worker::Launcher;

/// What `--json` prints; an earlier one is read by `--compare`.
#[derive(Serialize)]
pub struct Document {
    /// Kernels of the native engine.
    pub kernel: String,
    pub machine: Machine,
    pub bundle: About,
    pub rows: Vec<Line>,
    /// Providers that did not run.
    pub failed: Vec<Failure>,
    /// What agreement is with: a provider, or `original`; nothing without data.
    pub reference: Option<String>,
    /// What cosines are with: a provider.
    pub cosine_with: Option<String>,
    /// Whether the earlier bench was of the same backbone; nothing without one.
    pub same_bundle: Option<bool>,
    /// Whether it ran on a machine like this.
    pub same_machine: Option<bool>,
    /// Lines that it has nothing for, as `provider precision`.
    pub uncompared: Vec<String>,
    /// Milliseconds to solve for a head of ten classes from five shots of each.
    pub tune_ms: f64,
    /// Against an earlier bench.
    pub changes: Option<Vec<Change>>,
    /// Heads tuned on one provider and used on another, where it was asked for.
    pub cross: Option<Cross>,
    /// Operator by operator, where it was asked for.
    pub profiles: Option<Vec<Profile>>,
}

/// Times of a provider's operators.
#[derive(Serialize)]
pub struct Profile {
    pub provider: String,
    pub ops: Vec<OpTime>,
}

impl Profile {
    fn new((provider, ops): &(String, Vec<OpTime>)) -> Self {
        Self { provider: provider.clone(), ops: ops.clone() }
    }
}

/// The bundle that was timed.
#[derive(Serialize)]
pub struct About {
    pub path: PathBuf,
    pub bytes: u64,
    pub precision: String,
    pub embedding_dim: usize,
    /// Of its backbone.
    pub fingerprint: String,
}

/// Rows of data on which providers are compared.
const ROWS: usize = 256;
/// Rows that are timed in turn, and the bytes that they may take: they count in the processes' memory.
const TIMED_ROWS: usize = 16;
const TIMED_BYTES: usize = 8 << 20;
/// Most threads and rows at a time.
const MOST_THREADS: usize = 1024;
const MOST_ROWS: usize = 1024;
/// Most runs of a profile.
const PROFILED_RUNS: usize = 200;

pub fn run(args: &Bench, ui: &Ui) -> Outcome {
    let earlier = args.how.compare.as_deref().map(Earlier::read).transpose()?;
    let effort = effort(args)?;
    if let Some(path) = &args.how.html {
        // Found now, not after everything was measured.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        tempfile::tempfile_in(folder).map_err(Error::io(path))?;
    }
    let file = BundleFile::read(&args.bundle)?;
    let applied = Applied::open_on(&file, &[], args.library.settings()?)?;
    let providers = providers(args, &applied, ui)?;
    let Rows { inputs: rows, labels } = rows(args, &applied)?;
    let timed = (TIMED_BYTES / (applied.bundle.input.elements() * 4).max(1)).clamp(1, TIMED_ROWS).min(rows.len());
    if let (Some(shots), Some((labels, classes))) = (args.how.cross, &labels) {
        divide(labels, classes, shots.get())?;
    }
    #[cfg(feature = "export")]
    if let Some(original) = &args.original {
        std::fs::metadata(original).map_err(Error::io(original))?;
    }
    let machine = Machine::here()?;

    let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let inputs = folder.path().join("inputs");
    write_inputs(&inputs, &rows[..timed])?;
    let launcher = Launcher::new(&args.bundle, &args.library, &inputs, args.how.patience.duration())?;
    if args.how.preflight {
        return preflight::run(&applied, &providers, &launcher, folder.path(), ui);
    }
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for provider in &providers {
        entries.push(Entry { provider: provider.clone(), start: Box::new(|| launcher.bundle(provider)) });
    }
    #[cfg(feature = "export")]
    if let Some(original) = &args.original {
        for provider in for_original(&providers) {
            let launcher = &launcher;
            let start = Box::new(move || launcher.original(provider, original));
            entries.push(Entry { provider: format!("{ORIGINAL}{provider}"), start });
        }
    }
    let mut running = ui.track("starting", |p| Running::start(&entries, &effort, p));
    ui.track("measuring", |p| running.measure(&effort, p));
    let profiles = if args.how.profile { Some(running.profiles(PROFILED_RUNS)) } else { None };
    // Random inputs have no class to agree on, nor have values.
    let classifies = applied.bundle.head.is_none_or(|head| head.kind() != Kind::Regression);
    let embeddings = if args.data.is_some() && (classifies || labels.is_some()) {
        agree::embed_all(&mut running, &rows, folder.path())?
    } else {
        Vec::new()
    };
    let (mut lines, failed) = running.end();
    let heads = match (args.how.cross, &labels) {
        (Some(shots), Some((labels, classes))) => {
            let of_bundle: Vec<_> = embeddings.iter().filter(|e| !e.is_original()).cloned().collect();
            match cross(&applied.bundle, &of_bundle, labels, classes, shots.get()) {
                Ok(cross) => Some(cross),
                // What was measured is printed all the same.
                Err(error) => {
                    ui.warn(format!("heads could not be compared: {error}"));
                    None
                }
            }
        }
        _ => None,
    };
    let reference = agree::fill(&applied.bundle, &embeddings, rows.len(), &mut lines)?;
    if let Some(reference) = reference.filter(|reference| !reference.is_original())
        && embeddings.iter().any(Embeddings::is_original)
    {
        ui.warn(format!(
            "the original has other classes than the bundle's head: agreement is with {}",
            reference.provider
        ));
    }
    let is_original = |line: &Line| line.provider.starts_with(ORIGINAL);
    let reference = reference.map(|reference| match reference.is_original() {
        true => "original".to_owned(),
        false => reference.provider.clone(),
    });
    let reference = reference.filter(|_| lines.iter().any(|line| line.agreement.is_some()));
    let cosine_with = embeddings.iter().find(|e| !e.is_original()).map(|e| e.provider.clone());
    // The reference agrees with itself: that says nothing.
    if let Some(first) = lines.iter_mut().find(|line| is_original(line)) {
        first.agreement = None;
    }
    // They are told from the bundle's lines by their precision.
    for name in lines.iter_mut().map(|line| &mut line.provider) {
        *name = name.strip_prefix(ORIGINAL).unwrap_or(name).to_owned();
    }
    let failed: Vec<Failure> = failed.into_iter().map(of_original_in_words).collect();
    if lines.is_empty() {
        let whys: Vec<String> = failed.iter().map(|f| format!("{}: {}", f.provider, f.why)).collect();
        return Err(Error::worker(format!("nothing ran: {}", whys.join("; "))));
    }
    let changes = earlier.as_ref().map(|earlier| compare(&lines, &earlier.rows));
    let is_compared =
        |line: &&Line| changes.iter().flatten().any(|c| c.provider == line.provider && c.precision == line.precision);
    let uncompared = lines.iter().filter(|line| changes.is_some() && !is_compared(line));
    let uncompared = uncompared.map(|line| format!("{} {}", line.provider, line.precision)).collect();
    let about = about(&applied, &file);
    let same_machine = earlier.as_ref().map(|earlier| {
        let of = |machine: &Machine| (machine.cpu.clone(), machine.kernel.clone(), machine.processors);
        of(&earlier.machine) == of(&machine)
    });
    let document = Document {
        kernel: machine.kernel.clone(),
        same_bundle: earlier.as_ref().map(|earlier| earlier.bundle.fingerprint == about.fingerprint),
        same_machine,
        uncompared,
        cosine_with,
        bundle: about,
        rows: lines,
        failed,
        reference,
        tune_ms: latency::tuning(applied.bundle.embedding)?,
        changes,
        cross: heads,
        profiles: profiles.as_ref().map(|(profiles, _)| profiles.iter().map(Profile::new).collect()),
        machine,
    };
    tables::print(&document, ui);
    if let Some(cross) = &document.cross {
        ui.table(&tables::cross_table(cross));
    }
    if let Some((_, without)) = &profiles {
        tables::profiles(&document).iter().for_each(|table| ui.table(table));
        without.iter().for_each(|failure| ui.say(&failure.why));
    }
    if let Some(earlier) = &earlier {
        tables::print_changes(&document, &earlier.machine, ui);
    }
    if let Some(path) = &args.how.html {
        page::write(&document, path)?;
        ui.say(format!("\nThe page is {}", path.display()));
    }
    ui.document(&document);
    document.failed.iter().for_each(|failure| ui.warn(format!("{} did not run: {}", failure.provider, failure.why)));
    Ok(code(args, &document))
}

/// Where the original is timed: on those named providers that compute in float on the processor; on tract where there is none.
#[cfg(feature = "export")]
fn for_original(providers: &[String]) -> Vec<&str> {
    let floats = |name: &str| {
        #[cfg(feature = "ort")]
        if let Some(provider) = hone_runtime::backbone::ort::ExecutionProvider::named(name) {
            return provider.is_for_processors();
        }
        name == "tract"
    };
    let named: Vec<&str> = providers.iter().map(String::as_str).filter(|name| floats(name)).collect();
    if named.is_empty() { vec!["tract"] } else { named }
}

/// A failure with the name that a reader knows.
fn of_original_in_words(failure: Failure) -> Failure {
    match failure.provider.strip_prefix(ORIGINAL) {
        Some(provider) => Failure { provider: format!("the original on {provider}"), ..failure },
        None => failure,
    }
}

/// 1 where a provider that was asked for did not run, or has become slower and that is to count.
fn code(args: &Bench, document: &Document) -> ExitCode {
    let slower = document.changes.iter().flatten().any(|change| change.verdict == "slower");
    // What could not be compared may be slower.
    let regressed = args.how.fail_on_regression && (slower || !document.uncompared.is_empty());
    if document.failed.is_empty() && !regressed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn effort(args: &Bench) -> Result<Effort> {
    let setting = |name: &str, why: &str| Error::Setting { name: name.into(), why: why.into() };
    if args.runs == Some(0) {
        return Err(setting("--runs", "at least 1 run is needed"));
    }
    if !(args.how.seconds > 0.0 && args.how.seconds <= 86_400.0) {
        return Err(setting("--seconds", "more than 0 and at most a day (86400)"));
    }
    let has = |scenario| args.how.scenario.contains(&scenario);
    if !has(Scenario::SingleStream) && (args.runs.is_some() || args.how.compare.is_some()) {
        return Err(setting("--scenario", "--runs and --compare are about single-stream, which is left out"));
    }
    if args.how.threads.iter().any(|n| n.get() > MOST_THREADS) || args.how.batch.iter().any(|n| n.get() > MOST_ROWS) {
        let why = format!("at most {MOST_THREADS} threads (--threads) and {MOST_ROWS} rows at a time (--batch)");
        return Err(Error::Setting { name: "--threads or --batch".into(), why });
    }
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads: Vec<usize> = args.how.threads.iter().map(|n| n.get()).collect();
    if threads.is_empty() {
        threads = if all > 1 { vec![1, all] } else { vec![1] };
    }
    let batches = args.how.batch.iter().map(|n| n.get());
    let pairs = batches.flat_map(|batch| threads.iter().map(move |&threads| (threads, batch)));
    Ok(Effort {
        runs: if has(Scenario::SingleStream) { args.runs } else { Some(PROCESSES) },
        seconds: args.how.seconds,
        rounds: 10,
        throughput: if has(Scenario::Offline) { pairs.collect() } else { Vec::new() },
        throughput_ms: (args.how.seconds * 100.0).clamp(50.0, 500.0),
    })
}

/// What was asked for, each once; otherwise what runs the bundle by itself.
fn providers(args: &Bench, applied: &Applied<'_>, ui: &Ui) -> Result<Vec<String>> {
    if args.provider.is_empty() {
        ui.notices(applied);
        return Ok(vec![applied.backbone.provider().to_owned()]);
    }
    let known = hone_runtime::backbone::provider::names();
    let mut providers: Vec<String> = Vec::new();
    for name in &args.provider {
        if !known.contains(&name.as_str()) {
            return Err(hone_runtime::Error::UnknownProvider { name: name.clone() }.into());
        }
        if !providers.contains(name) {
            providers.push(name.clone());
        }
    }
    Ok(providers)
}

/// What the backbones run on.
struct Rows {
    inputs: Vec<Vec<f32>>,
    /// The class of each, and the classes' names, where the data has them.
    labels: Option<(Vec<usize>, Vec<String>)>,
}

fn rows(args: &Bench, applied: &Applied<'_>) -> Result<Rows> {
    let Some(path) = &args.data else {
        let inputs = latency::random_inputs(applied.bundle.input.elements(), TIMED_ROWS, 1);
        return Ok(Rows { inputs, labels: None });
    };
    let mut options = args.options.clone();
    options.limit = Some(options.limit.unwrap_or(ROWS));
    let mut source = options.open(path)?;
    let inputs = applied.inputs(&mut source)?;
    if inputs.is_empty() {
        return Err(Error::data(path, "there is no row to run on"));
    }
    let labels = if args.how.cross.is_some() { Some((source.labels()?, source.classes().to_vec())) } else { None };
    Ok(Rows { inputs, labels })
}

fn about(applied: &Applied<'_>, file: &BundleFile) -> About {
    About {
        path: file.path.clone(),
        bytes: file.bytes.len() as u64,
        precision: applied.bundle.precision.name().to_owned(),
        embedding_dim: applied.bundle.embedding.dim,
        fingerprint: applied.bundle.fingerprint.to_string(),
    }
}
