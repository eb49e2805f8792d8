//! `hone head export-onnx`: backbone and head as one plain ONNX file.

use std::path::Path;

use hone_export::apply::{Applied, plain};
use hone_export::files::is_same;
use hone_export::onnx::{self, WriteOptions};
use hone_export::{Error, Result};
use hone_runtime::Backbone as _;
use serde_json::json;

use crate::args::HeadTarget;
use crate::ui::Ui;

pub fn run(applied: &Applied<'_>, target: &HeadTarget, out: &Path, force: bool, ui: &Ui) -> Result<()> {
    let in_force = applied.head_in_force(target.store.as_deref())?;
    in_force.warnings.iter().for_each(|warning| ui.warn(warning));
    if is_same(applied.path, out) {
        let why = format!("{} is the bundle itself; name another file", out.display());
        return Err(Error::Setting { name: "--out".into(), why });
    }
    let head = in_force.view()?;
    let plain = plain::join(applied, &head, &[])?;
    onnx::write(&plain.graph, out, &WriteOptions { overwrite: force, ..WriteOptions::default() })?;
    let labels: Vec<&str> = head.labels().iter().collect();
    let provider = applied.backbone.provider();
    ui.say(format!(
        "{}: {} classes, scores within {:.1e} of the bundle's on tract, and within {:.1e} of those on {provider}",
        out.display(),
        labels.len(),
        plain.difference,
        plain.provider_difference
    ));
    if applied.bundle.precision == hone_runtime::bundle::Precision::Int8 {
        crate::commands::export::saturation(ui);
    }
    ui.document(&json!({
        "model": out.display().to_string(),
        "generation": in_force.generation,
        "labels": labels,
        "largest_difference": plain.difference,
        "provider": provider,
        "provider_difference": plain.provider_difference,
    }));
    Ok(())
}
