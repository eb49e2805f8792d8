//! `hone quickstart`: the main job from end to end on the built-in model and data, every number measured in this run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use hone_export::apply::accuracy::{Evaluation, Matching, evaluate, evaluate_restricted};
use hone_export::apply::latency::{self, Line};
use hone_export::apply::original::Original;
use hone_export::apply::shots::{KShot, k_shot, read_draws};
use hone_export::apply::teach::{self, Mode, Tuned};
use hone_export::apply::{Applied, BundleFile, Embedded};
use hone_export::data::{Options, Source};
use hone_export::graph::cost::Limit;
use hone_export::pipeline::{Precision, Preset, Request};
use hone_export::{Error, quantize};
use hone_models as models;
use hone_runtime::tune::Options as TuneOptions;
use serde::Serialize;

use crate::args::Quickstart;
use crate::commands::{export, tune};
use crate::ui::{Outcome, Ui};
use staging::Staging;

mod page;
mod staging;

/// From a stored 8×8 image of 0..=16 to the model's input.
const PREPROCESS: &str = "tensor:scale=1/16";
/// Files in the quickstart's folder.
const BUNDLE: &str = "glyphs.hone";
const REPORT: &str = "report.html";
/// The line of `digits-k5.npy` that is taught.
const DRAW: usize = 0;

/// Accuracy on the handwriting, over all of a head's classes and over the ten digits alone.
#[derive(Debug, Serialize)]
struct Accuracy {
    precision: &'static str,
    head: &'static str,
    top1: f64,
    top1_digits_only: f64,
    n: usize,
}

/// Everything that the run measured.
#[derive(Serialize)]
struct Measured {
    accuracy: Vec<Accuracy>,
    k_shot: Vec<KShot>,
    tuned: Tuned,
    bench: Vec<Line>,
    export_seconds: f64,
    seconds: f64,
    report: PathBuf,
    #[serde(skip)]
    before: Evaluation,
    #[serde(skip)]
    after: Evaluation,
}

pub fn run(args: &Quickstart, ui: &Ui) -> Outcome {
    let staging = Staging::begin(&args.out, args.force)?;
    let measured = measure(&staging.path(), &args.out, ui).map_err(|error| staging.explain(error))?;
    staging.finish()?;
    ui.say(format!("\n{:.1} s in all; look at {}", measured.seconds, measured.report.display()));
    ui.say(format!("the bundle: {}", args.out.join(BUNDLE).display()));
    ui.document(&measured);
    Ok(ExitCode::SUCCESS)
}

/// Does everything in the folder `out`, which will be called `name`.
fn measure(out: &Path, name: &Path, ui: &Ui) -> Result<Measured, Error> {
    let start = Instant::now();
    prepare(out)?;
    let data = out.join("data");

    ui.say("1/5  export: inspect, split, calibrate, quantize to int8, verify, bundle");
    let request = request(out, &data)?;
    let exported = export::export(&request, ui)?;
    export::tables(&request, &exported).iter().for_each(|table| ui.table(table));

    ui.say("\n2/5  evaluate on handwriting, before tuning");
    let file = BundleFile::read(exported.bundle())?;
    let applied = Applied::open(&file)?;
    let all = ui.track("embedding", |p| applied.embed(&mut digits(&data, None)?, p))?;
    let mut test_source = digits(&data, Some("digits-test.npy"))?;
    let test = ui.track("embedding", |p| applied.embed(&mut test_source, p))?;
    let base = applied.bundle.head.ok_or(hone_runtime::Error::Missing { what: "base head" })?;
    let before = evaluate(&base, &test, Matching::default())?;
    let original = Original::open(&request.model, &applied)?;
    let mut accuracy = vec![fp32_accuracy(&original, &applied, &mut test_source)?];
    accuracy.push(line("int8", "as shipped", &before, &evaluate_restricted(&base, &test, Matching::default())?));

    ui.say("\n3/5  teach 5 examples a digit: a head for digits alone, committed if it is better");
    let mut shots_source = digits(&data, Some(&format!("digits-k5.npy#{DRAW}")))?;
    let shots = ui.track("embedding", |p| applied.embed(&mut shots_source, p))?;
    let mut session = applied.session(&out.join("home"), None)?;
    session.set_time(tune::now());
    // The owner's task is digits alone: as with `hone tune --only-taught`.
    let options = TuneOptions { replay_weight: 0.0, ..TuneOptions::default() };
    let tuned = teach::tune(&applied, &mut session, &shots, &options, Mode::default())?;
    tune::print(ui, &tuned, tune::Asked { limit: false, only_taught: true });
    let head = session.head()?;
    let after = evaluate(&head, &test, Matching::default())?;
    accuracy.push(line("int8", "tuned, 5 shots", &after, &evaluate_restricted(&head, &test, Matching::default())?));
    ui.table(&page::accuracy(&accuracy));

    ui.say("\n4/5  accuracy by number of shots");
    let k_shot = k_shots(&data, &applied, &all, &test)?;
    ui.table(&page::shots(&k_shot));

    ui.say("\n5/5  benchmark");
    let inputs = applied.inputs(&mut shots_source)?;
    let mut bench = Vec::new();
    for provider in ["native", "tract"] {
        let agreement = original.agreement(&applied, provider, &inputs)?;
        bench.push(Line { agreement, ..latency::bundle(&applied, provider, &inputs, 300)? });
    }
    bench.push(original.latency(&inputs, 300)?);
    ui.table(&page::bench(&bench));

    let measured = Measured {
        accuracy,
        k_shot,
        tuned,
        bench,
        export_seconds: exported.seconds,
        seconds: start.elapsed().as_secs_f64(),
        report: name.join(REPORT),
        before,
        after,
    };
    page::page(&request, &exported, &measured, name).write(&out.join(REPORT))?;
    Ok(measured)
}

/// Writes the built-in files into `data/`.
fn prepare(out: &Path) -> Result<(), Error> {
    let data = out.join("data");
    std::fs::create_dir_all(&data).map_err(Error::io(&data))?;
    for file in models::QUICKSTART {
        let path = data.join(file.name);
        std::fs::write(&path, file.bytes).map_err(Error::io(&path))?;
    }
    // A class of look-alike glyphs, such as 0, O and o, goes by its first member here, so that the digit keeps its class.
    let names = String::from_utf8_lossy(models::GLYPHS_LABELS.bytes);
    let first: Vec<String> = names.lines().map(|l| l.chars().take(1).collect()).collect();
    let path = data.join(models::GLYPHS_LABELS.name);
    std::fs::write(&path, first.join("\n") + "\n").map_err(Error::io(&path))
}

fn request(out: &Path, data: &Path) -> Result<Request, Error> {
    let names = data.join(models::GLYPHS_LABELS.name);
    Ok(Request {
        model: data.join(models::GLYPHS_MODEL.name),
        calibration: data.join(models::GLYPHS_CALIB.name),
        data: Options {
            labels: Some(models::GLYPHS_CALIB_LABELS.name.into()),
            classes: Some(models::GLYPHS_LABELS.name.into()),
            ..Options::default()
        },
        preprocess: PREPROCESS.parse()?,
        vocabulary: None,
        out: out.to_path_buf(),
        name: Some("glyphs".into()),
        cut: None,
        preset: Preset::Generic,
        precision: Precision::Int8,
        fixed_batch: false,
        quantize: quantize::Options::default(),
        calibration_rows: 235,
        least_agreement: 0.9,
        model_classes: Some(export::lines(&names)?),
        limit: Limit::default(),
        force: true,
    })
}

/// The handwriting, or some of its rows.
fn digits(data: &Path, rows: Option<&str>) -> Result<Source, Error> {
    let rows = rows.map(|r| data.join(r).to_string_lossy().parse()).transpose()?;
    let options = Options {
        labels: Some(models::DIGITS_LABELS.name.into()),
        classes: Some(models::DIGITS_CLASSES.name.into()),
        rows,
        ..Options::default()
    };
    Source::open(data.join(models::DIGITS.name), &options)
}

fn line(precision: &'static str, head: &'static str, all: &Evaluation, digits: &Evaluation) -> Accuracy {
    Accuracy { precision, head, top1: all.top1, top1_digits_only: digits.top1, n: all.n }
}

fn fp32_accuracy(original: &Original, applied: &Applied<'_>, source: &mut Source) -> Result<Accuracy, Error> {
    let (all, digits) = (
        original.evaluate(applied, source, Matching::default(), false, &mut |_, _| {})?,
        original.evaluate(applied, source, Matching::default(), true, &mut |_, _| {})?,
    );
    Ok(line("fp32", "as shipped", &all, &digits))
}

fn k_shots(data: &Path, applied: &Applied<'_>, all: &Embedded, test: &Embedded) -> Result<Vec<KShot>, Error> {
    [models::DIGITS_K1, models::DIGITS_K5, models::DIGITS_K20]
        .iter()
        .map(|file| {
            let draws = read_draws(&data.join(file.name), all.len())?;
            k_shot(applied.bundle.embedding, all, &draws, test, &TuneOptions::default())
        })
        .collect()
}
