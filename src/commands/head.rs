//! `hone head`: the head in force, its history, and what changes it without tuning.

#[cfg(feature = "export")]
mod export_onnx;
#[cfg(feature = "bench")]
mod move_to;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use hone_export::apply::teach::method;
use hone_export::apply::{Applied, BundleFile};
use hone_export::report::Table;
use hone_export::{Error, Result};
use hone_runtime::Session;
use hone_runtime::backbone::provider::Chain;
use hone_runtime::store::Entry;
use serde_json::{Value, json};

use super::tune::now;
use crate::args::{Head, HeadTarget};
use crate::ui::{Outcome, Ui, share};

pub fn run(args: &Head, ui: &Ui) -> Outcome {
    let target = args.target();
    let file = BundleFile::read(&target.bundle)?;
    let applied = Applied::open(&file)?;
    match args {
        Head::Show(_) => show(&applied, target, ui)?,
        Head::History(_) => history(&open(&applied, target, None)?, ui),
        Head::Rollback { to, .. } => {
            let mut session = open(&applied, target, None)?;
            let before = session.history().iter().rev().nth(1).map_or(0, |entry| entry.number);
            let to = to.unwrap_or(before);
            let generation = session.rollback(to)?;
            ui.say(format!("generation {generation} is in force, with the head and the shots of {}", named(to)));
            ui.document(&json!({ "generation": generation, "to": to }));
        }
        Head::RemoveClass { class, keep, .. } => {
            let mut session = open(&applied, target, *keep)?;
            let generation = session.remove_class(class)?;
            let labels: Vec<&str> = session.labels()?.iter().collect();
            ui.say(format!("generation {generation} is in force, without '{class}': {} classes", labels.len()));
            ui.document(&json!({ "generation": generation, "removed": class, "labels": labels }));
        }
        Head::Forget { class, keep, .. } => {
            let mut session = open(&applied, target, *keep)?;
            let before = session.shots().count();
            let generation = session.forget(class.as_deref())?;
            let left = session.shots().count();
            let kept = session.history().len();
            ui.say(format!("generation {generation} is in force: {} shots forgotten, {left} left", before - left));
            if kept > 1 {
                ui.say(format!("{kept} generations are kept, and may hold them; --keep 1 drops all but the newest"));
            }
            ui.document(&json!({
                "generation": generation, "forgotten": before - left, "shots": left, "generations_kept": kept
            }));
        }
        #[cfg(feature = "bench")]
        Head::Move { from, provider, data, options, min_agreement, dry_run, patience, library, .. } => {
            let inputs = applied.inputs(&mut options.open(data)?)?;
            let way = move_to::Way {
                from: from.as_deref(),
                to: provider,
                limit: *min_agreement,
                dry_run: *dry_run,
                patience: patience.duration(),
            };
            let mut session = open(&applied, target, None)?;
            if !move_to::run(&mut session, &target.bundle, &way, &inputs, library, ui)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        #[cfg(feature = "export")]
        Head::ExportOnnx { out, force, .. } => export_onnx::run(&applied, target, out, *force, ui)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A session on a store that must be there.
fn open<'b>(applied: &Applied<'b>, target: &HeadTarget, keep: Option<NonZeroUsize>) -> Result<Session<'b, Chain<'b>>> {
    let missing = || Error::Setting { name: "--store".into(), why: "the store's folder is needed here".into() };
    let store = target.store.as_deref().ok_or_else(missing)?;
    std::fs::metadata(store).map_err(Error::io(store))?;
    let mut session = applied.session(store, keep)?;
    session.set_time(now());
    Ok(session)
}

fn named(generation: u32) -> String {
    if generation == 0 { "the bundle itself".into() } else { format!("generation {generation}") }
}

fn show(applied: &Applied<'_>, target: &HeadTarget, ui: &Ui) -> Result<()> {
    let in_force = applied.head_in_force(target.store.as_deref())?;
    in_force.warnings.iter().for_each(|warning| ui.warn(warning));
    let head = in_force.view()?;
    let session = target.store.as_deref().map(|store| applied.session(store, None)).transpose()?;
    let shots_of = |label: &str| session.iter().flat_map(Session::shots).filter(|shot| shot.label == label).count();
    let classes: Vec<(&str, usize)> = head.labels().iter().map(|label| (label, shots_of(label))).collect();
    let from = in_force.generation.map_or_else(|| "the bundle's own".to_owned(), named);
    let kind = format!("{:?}", head.kind()).to_lowercase();

    let mut table = Table::new(&format!("Head in force: {from}"), &["class", "shots"]);
    classes.iter().for_each(|(label, shots)| table.row([(*label).to_owned(), shots.to_string()]));
    table.note = format!(
        "{kind}, {} classes, embedding of {}, CRC {:08x}, backbone {}",
        head.classes(),
        head.dim(),
        head.crc(),
        head.fingerprint()
    );
    ui.table(&table);
    ui.document(&json!({
        "generation": in_force.generation,
        "kind": kind,
        "unit": head.unit(),
        "dim": head.dim(),
        "classes": classes.iter().map(|(label, shots)| json!({ "label": label, "shots": shots })).collect::<Vec<_>>(),
        "head_crc": format!("{:08x}", head.crc()),
        "fingerprint": head.fingerprint().to_string(),
    }));
    Ok(())
}

fn history(session: &Session<'_, Chain<'_>>, ui: &Ui) {
    session.store().warnings().iter().for_each(|warning| ui.warn(warning.to_string()));
    let figure = |value: Option<f32>| value.map_or_else(|| "–".to_owned(), |v| share(f64::from(v)));
    let columns = ["", "generation", "why", "shots", "leave-one-out", "canaries", "L2", "CRC"];
    let mut table = Table::new("History", &columns);
    let newest = session.history().last().map(|entry| entry.number);
    for entry in session.history() {
        let m = &entry.measures;
        table.row([
            if Some(entry.number) == newest { "→" } else { "" }.to_owned(),
            entry.number.to_string(),
            entry.action.to_string(),
            entry.shots.to_string(),
            figure(m.loo_accuracy),
            format!("{} → {}", figure(m.canary_before), figure(m.canary_after)),
            m.l2.map_or_else(|| "–".to_owned(), |l2| format!("{l2:.2e}")),
            format!("{:08x}", entry.head_crc),
        ]);
    }
    table.note = "→: in force. Generation 0 is the bundle's own head.".into();
    ui.table(&table);
    let entries: Vec<Value> = session.history().iter().map(|entry| line(entry, newest)).collect();
    ui.document(&json!({ "active": newest, "generations": entries }));
}

fn line(entry: &Entry, newest: Option<u32>) -> Value {
    let m = &entry.measures;
    json!({
        "number": entry.number,
        "parent": entry.parent,
        "action": entry.action.name(),
        "why": entry.action.to_string(),
        "time": entry.time,
        "method": method(m.method),
        "l2": m.l2,
        "loo_accuracy": m.loo_accuracy,
        "canary_before": m.canary_before,
        "canary_after": m.canary_after,
        "shots": entry.shots,
        "head_crc": format!("{:08x}", entry.head_crc),
        "record_bytes": entry.record_bytes,
        "active": Some(entry.number) == newest,
    })
}
