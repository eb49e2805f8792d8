//! The table of instructions, beside CMSIS-NN's.

use std::path::Path;

use hone_runtime::plan::Plan;

use super::board::BOARDS;
use super::job::{self, Case};
use super::peers::CMSIS_NN;
use super::qemu::{self, Line};
use super::synthetic;
use crate::step::Result;

/// One operator on one board.
struct Layer {
    name: String,
    macs: u64,
    elements: u64,
    instructions: u64,
}

/// One model on one board.
struct Run {
    instructions: u64,
    stack: u64,
    layers: Vec<Layer>,
}

/// Measures all models on all boards and prints the tables.
pub fn run(folder: Option<&Path>) -> Result {
    let cases = match folder {
        Some(folder) => CMSIS_NN
            .iter()
            .map(|peer| Case::read(&folder.join(format!("{}.plan", peer.file))))
            .collect::<Result<_>>()?,
        None => synthetic::models(),
    };
    let mut images = Vec::new();
    for board in &BOARDS {
        images.push(board.build("bench")?);
    }
    println!(
        "\nInstructions per inference in QEMU (-icount shift=0), CMSIS-NN 7.0 in brackets; bytes of arena likewise\n"
    );
    println!(
        "| model | MAC | {} | arena B | stack B | plan B |",
        BOARDS.each_ref().map(|board| board.core).join(" | ")
    );
    println!("|---|--:|{}--:|--:|--:|", "--:|".repeat(BOARDS.len()));
    let mut profiles = Vec::new();
    for (case, peer) in cases.iter().zip(&CMSIS_NN) {
        let plan = Plan::parse(&case.plan).map_err(|e| format!("{}: {e}", case.name))?;
        let macs: u64 = plan.ops().map(|op| op.macs()).sum();
        let (mut columns, mut stack) = (Vec::new(), 0);
        for ((board, image), theirs) in BOARDS.iter().zip(&images).zip(peer.instructions) {
            let ours = measure(&plan, &qemu::run(board, image, &job::bytes(std::slice::from_ref(case), &[], false))?)?;
            columns.push(format!("{} ({})", thousands(ours.instructions), thousands(theirs)));
            stack = stack.max(ours.stack);
            if board.core == "M4F" {
                profiles.push((peer.name, ours));
            }
        }
        println!(
            "| {} | {} | {} | {} ({}) | {stack} | {} |",
            peer.name,
            thousands(macs),
            columns.join(" | "),
            thousands(plan.arena_bytes() as u64),
            thousands(peer.arena as u64),
            thousands(case.plan.len() as u64)
        );
    }
    for (name, run) in profiles {
        println!("\n{name} on M4F, {} instructions, by operator\n", thousands(run.instructions));
        println!("| operator | MAC | instructions | a MAC | a value |\n|---|--:|--:|--:|--:|");
        for layer in run.layers {
            let each =
                |of: u64| if of == 0 { "–".into() } else { format!("{:.2}", layer.instructions as f64 / of as f64) };
            let (macs, values) = (each(layer.macs), each(layer.elements));
            println!(
                "| {} | {} | {} | {macs} | {values} |",
                layer.name,
                thousands(layer.macs),
                thousands(layer.instructions)
            );
        }
    }
    Ok(())
}

fn measure(plan: &Plan<'_>, text: &str) -> Result<Run> {
    let lines = Line::all(text);
    let one = |word: &str| lines.iter().find(|line| line.word == word).ok_or(format!("the device reports no {word}"));
    let mut layers = Vec::new();
    for (index, line) in lines.iter().filter(|line| line.word == "operator").enumerate() {
        layers.push(Layer {
            name: format!("{} {}", line.name, plan.name(index)),
            macs: line.number("macs")?,
            elements: line.number("elements")?,
            instructions: line.number("instructions")?,
        });
    }
    Ok(Run { instructions: one("run")?.number("instructions")?, stack: one("stack")?.number("bytes")?, layers })
}

/// With commas.
fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
