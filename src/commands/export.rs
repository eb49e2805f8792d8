//! `hone export`: from a float model to quantized ONNX files and the bundle.

use std::path::Path;
use std::process::ExitCode;

use hone_export::Error;
use hone_export::calibrate::RangeMethod;
use hone_export::data;
use hone_export::graph::cost::Limit;
use hone_export::pipeline::{self, Native, Outcome as Exported, Precision, Request};
use hone_export::quantize::preset::Settings;
use hone_export::quantize::{self, ActivationType, Preset, Rounding, Scores, WeightScales};
use hone_export::report::Table;
use hone_runtime::backbone::provider::onnxruntime_saturates;
use serde_json::json;

use crate::args::Export;
use crate::ui::{Outcome, Ui, bytes, share};

pub fn run(args: &Export, ui: &Ui) -> Outcome {
    let request = request(args)?;
    let exported = export(&request, ui)?;
    print(&request, &exported, ui);
    ui.document(&document(&request, &exported));
    Ok(ExitCode::SUCCESS)
}

/// Runs the export behind a progress bar.
pub fn export(request: &Request, ui: &Ui) -> Result<Exported, Error> {
    let mut progress = ui.progress();
    pipeline::run(request, &mut |stage, done, total| progress.at(stage, done, total))
}

fn request(args: &Export) -> Result<Request, Error> {
    let ranges = match args.ranges.as_str() {
        "percentile" => match args.percentile.unwrap_or(99.99) {
            share if (50.0..=100.0).contains(&share) => RangeMethod::Percentile(share),
            share => {
                let why = format!("{share} is outside 50..=100");
                return Err(Error::Setting { name: "--percentile".into(), why });
            }
        },
        _ if args.percentile.is_some() => {
            let why = "it belongs to --ranges percentile, which is not given".to_owned();
            return Err(Error::Setting { name: "--percentile".into(), why });
        }
        "entropy" => RangeMethod::Entropy,
        "mse" => RangeMethod::Mse,
        _ => RangeMethod::MinMax,
    };
    if !(0.0..=1.0).contains(&args.min_agreement) {
        let why = format!("{} is outside 0..=1", args.min_agreement);
        return Err(Error::Setting { name: "--min-agreement".into(), why });
    }
    let preset = Preset::named(&args.preset).unwrap_or_default();
    let settings = settings(args, preset);
    let (prep, vocabulary) = data::preprocess::take_vocabulary(&args.prep)?;
    Ok(Request {
        model: args.model.clone(),
        calibration: args.calib.clone(),
        data: args.data.to_options()?,
        preprocess: prep.parse()?,
        vocabulary,
        out: args.out.clone(),
        name: args.name.clone(),
        cut: args.cut.clone(),
        preset,
        precision: settings.precision,
        fixed_batch: settings.fixed_batch,
        quantize: quantize::Options {
            ranges,
            rounding: if args.rounding == "nearest" { Rounding::Nearest } else { Rounding::Compensated },
            ..settings.options()
        },
        calibration_rows: args.calib_rows,
        least_agreement: args.min_agreement,
        model_classes: args.model_classes.as_deref().map(lines).transpose()?,
        limit: Limit::of_giga(args.max_gmacs)?,
        force: args.force,
    })
}

/// The preset's settings, with those that were given in their place.
fn settings(args: &Export, preset: Preset) -> Settings {
    let own = preset.settings();
    Settings {
        precision: match args.precision.as_deref() {
            Some("fp16") => Precision::Fp16,
            Some(_) => Precision::Int8,
            None => own.precision,
        },
        activations: match args.activations.as_deref() {
            Some("int8") => ActivationType::Int8,
            Some(_) => ActivationType::Uint8,
            None => own.activations,
        },
        weights: match args.weights.as_deref() {
            Some("per-tensor") => WeightScales::PerTensor,
            Some("conv-per-channel") => WeightScales::ConvPerChannel,
            Some(_) => WeightScales::PerChannel,
            None => own.weights,
        },
        scores: match args.scores.as_deref() {
            Some("quantized") => Scores::Quantized,
            Some(_) => Scores::Float,
            None => own.scores,
        },
        fixed_batch: args.batch.as_deref().map_or(own.fixed_batch, |batch| batch == "1"),
        reduce_range: args.reduce_range.unwrap_or(own.reduce_range),
        ..own
    }
}

/// The settings of a request, as a preset has them.
fn settings_of(request: &Request) -> Settings {
    let options = &request.quantize;
    Settings {
        precision: request.precision,
        activations: options.activations,
        weights: options.weights,
        reduce_range: options.reduce_range,
        scores: options.scores,
        prescribed_steps: options.prescribed_steps,
        fixed_batch: request.fixed_batch,
    }
}

/// The lines of a text file, without empty ones at the end.
pub fn lines(path: &Path) -> Result<Vec<String>, Error> {
    if !std::fs::metadata(path).map_err(Error::io(path))?.is_file() {
        return Err(Error::malformed(path, "not a regular file"));
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    Ok(text.trim_end().lines().map(|l| l.trim_end().to_owned()).collect())
}

/// The tables of an export.
pub fn tables(request: &Request, exported: &Exported) -> Vec<Table> {
    let agreement = &exported.agreement;
    let precision = request.precision.name();
    let mut table = Table::new(&format!("{} → {precision}", exported.name), &["figure", "value"]);
    table.row(["backbone ends at", exported.cut.tensor.as_str()]);
    table.row([
        "embedding",
        &format!(
            "{} numbers{}",
            exported.cut.width,
            if exported.cut.pooled { ", averaged over positions" } else { "" }
        ),
    ]);
    if let Some(top1) = agreement.top1 {
        table.row(["top-1 agreement with the original", &share(top1)]);
    }
    table.row(["SQNR of the scores", &format!("{:.1} dB", agreement.sqnr_db)]);
    table.row(["SQNR of the embedding", &format!("{:.1} dB", agreement.embedding_sqnr_db)]);
    table.row(["cosine of the embedding", &format!("{:.5}", agreement.cosine)]);
    table.row(["model file before", &format!("{} bytes", bytes(exported.bytes_before))]);
    table.row(["model file after", &format!("{} bytes", bytes(exported.bytes_after))]);
    table.row(["canaries in the bundle", &exported.canaries.to_string()]);
    if let Native::Plan { bytes: plan, arena_bytes } = exported.native {
        let size = format!("plan of {} bytes, arena of {} bytes", bytes(plan as u64), bytes(arena_bytes as u64));
        table.row(["native engine".to_owned(), size]);
    }
    table.note = format!(
        "Written files, {} on {} rows {}; calibrated on {} rows.",
        match request.precision {
            Precision::Int8 => "run by tract",
            Precision::Fp16 => "evaluated with every stored value rounded to f16",
        },
        agreement.rows,
        if agreement.held_out { "that calibration did not see" } else { "of the calibration data" },
        exported.calibration_rows
    );
    vec![table]
}

/// Says what ONNX Runtime does on processors like this one.
pub fn saturation(ui: &Ui) {
    if onnxruntime_saturates() {
        ui.say(
            "\nONNX Runtime's fast 8-bit kernels saturate on this processor (no VNNI) and may answer wrongly: set session.x64quantprecision to 1, or export with --reduce-range.",
        );
    }
}

/// What the preset changes and why, and what was given beside it.
fn preset(request: &Request, ui: &Ui) {
    let changes = request.preset.changes();
    if changes.is_empty() {
        return;
    }
    let name = request.preset.name();
    let mut table = Table::new(&format!("Preset {name}"), &["setting", "here", "generic", "why"]);
    for change in changes {
        table.row([change.setting, change.value, change.generic, change.why]);
    }
    ui.table(&table);
    for given in request.preset.overridden(settings_of(request)) {
        ui.say(format!("{}: {} was given and wins over the preset's {}.", given.setting, given.value, given.preset));
    }
}

fn print(request: &Request, exported: &Exported, ui: &Ui) {
    preset(request, ui);
    for table in tables(request, exported) {
        ui.table(&table);
    }
    if let Some(why) = &exported.no_head {
        ui.say(format!("\nThe bundle has no head of its own: {why}. `hone tune` makes one."));
    }
    if let Some([words, rows]) = exported.words.filter(|[words, rows]| words < rows) {
        ui.say(format!(
            "\nThe vocabulary has {words} tokens, the model embeddings for {rows}: is it the whole of the model's own?"
        ));
    }
    if let Native::Refused(why) = &exported.native {
        ui.say(format!("\nThe native engine does not run this backbone, tract does: {why}"));
    }
    if request.precision == Precision::Int8 && !request.quantize.reduce_range {
        saturation(ui);
    }
    ui.say("");
    for file in &exported.files {
        ui.say(format!("wrote {}", file.display()));
    }
    ui.say(format!("{:.1} s", exported.seconds));
}

fn document(request: &Request, exported: &Exported) -> serde_json::Value {
    json!({
        "model": exported.name,
        "precision": request.precision.name(),
        "preset": {
            "name": request.preset.name(),
            "changes": request.preset.changes(),
            "overridden": request.preset.overridden(settings_of(request)),
        },
        "agreement": exported.agreement.top1,
        "cosine": exported.agreement.cosine,
        "sqnr_db": exported.agreement.sqnr_db,
        "embedding_sqnr_db": exported.agreement.embedding_sqnr_db,
        "verified_rows": exported.agreement.rows,
        "held_out": exported.agreement.held_out,
        "calibration_rows": exported.calibration_rows,
        "bytes_before": exported.bytes_before,
        "bytes_after": exported.bytes_after,
        "embedding_dim": exported.cut.width,
        "cut": exported.cut.tensor,
        "canaries": exported.canaries,
        "native": match &exported.native {
            Native::Plan { bytes, arena_bytes } => json!({ "plan_bytes": bytes, "arena_bytes": arena_bytes, "refused": null }),
            Native::Refused(why) => json!({ "plan_bytes": null, "arena_bytes": null, "refused": why }),
        },
        "no_head": exported.no_head,
        "layers": exported.layers,
        "files": exported.files,
        "seconds": exported.seconds,
    })
}
