//! `hone inspect`: what is in a model and where it can be split.

use std::process::ExitCode;

use hone_export::inspect::{Inspection, Port, inspect};
use hone_export::report::Table;

use crate::args::Inspect;
use crate::ui::{Outcome, Ui, bytes};

pub fn run(args: &Inspect, ui: &Ui) -> Outcome {
    let mut found = inspect(&args.model)?;
    ui.table(&facts(&found));
    ui.table(&operators(&found));
    if !found.unsupported.is_empty() {
        let mut table = Table::new("Not supported", &["node", "operator", "why"]);
        found.unsupported.iter().for_each(|u| table.row([&u.node, &u.op, &u.why]));
        table.note = "Cut before these nodes with --cut, or export the model without them.".into();
        ui.table(&table);
    }
    if args.nodes {
        let mut table = Table::new("Nodes", &["node", "operator", "output", "MACs"]);
        found.nodes.iter().for_each(|n| table.row([n.name.clone(), n.op.clone(), n.shape.clone(), bytes(n.macs)]));
        ui.table(&table);
    } else {
        found.nodes.clear();
    }
    ui.table(&cuts(&found));
    ui.document(&found);
    Ok(ExitCode::SUCCESS)
}

fn facts(found: &Inspection) -> Table {
    let ports = |ports: &[Port]| {
        ports.iter().map(|port| format!("{} {}", port.name, port.shape)).collect::<Vec<_>>().join(", ")
    };
    let mut table = Table::new(&format!("Model {}", found.name), &["fact", "value"]);
    table.row(["opset", &found.opset.to_string()]);
    table.row(["producer", &found.producer]);
    table.row(["inputs", &ports(&found.inputs)]);
    table.row(["outputs", &ports(&found.outputs)]);
    table.row(["parameters, bytes", &bytes(found.parameter_bytes)]);
    table.row(["multiply-accumulates a row", &bytes(found.macs)]);
    table.row(["nodes", &format!("{}, {} after simplification", found.nodes_before, found.nodes_after)]);
    let open: Vec<&str> = found.open_sizes.iter().map(String::as_str).collect();
    if !open.is_empty() {
        table.row([
            "open sizes",
            &format!("{}, counted as 1 here; export needs all but the batch fixed", open.join(", ")),
        ]);
    }
    if let Some(why) = &found.too_costly {
        table.row(["refused by export without --max-gmacs", why]);
    }
    for (what, times) in &found.fused {
        table.row(["merged", &format!("{what} × {times}")]);
    }
    table
}

fn operators(found: &Inspection) -> Table {
    let mut table = Table::new("Operators", &["operator", "nodes"]);
    found.operators.iter().for_each(|(op, n)| table.row([op.clone(), n.to_string()]));
    table
}

fn cuts(found: &Inspection) -> Table {
    let columns = ["", "tensor", "shape", "width", "pooled", "int8 bytes", "backbone MACs", "head MACs"];
    let mut table = Table::new("Legal cuts", &columns);
    for cut in &found.cuts {
        table.row([
            if cut.automatic { "→" } else { "" }.to_owned(),
            cut.tensor.clone(),
            cut.shape.clone(),
            cut.width.to_string(),
            if cut.pooled { "yes" } else { "" }.to_owned(),
            cut.width.to_string(),
            bytes(cut.backbone_macs),
            bytes(cut.head_macs),
        ]);
    }
    table.note = match &found.no_head {
        Some(why) if found.cuts.is_empty() => format!("`hone export` cannot split this model: {why}"),
        None => "→: where `hone export` cuts by itself. Width: numbers of the embedding.".into(),
        Some(why) => format!("`hone export` needs --cut here: {why}"),
    };
    table
}
