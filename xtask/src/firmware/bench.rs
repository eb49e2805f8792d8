//! The table of instructions, beside CMSIS-NN's.

use std::path::Path;

use hone_runtime::plan::Plan;

use super::board::BOARDS;
use super::job::{self, Case};
use super::peers::{CMSIS_NN, Peer};
use super::qemu::{self, Line};
use super::synthetic;
use crate::step::Result;

/// One model on one board.
struct Run {
    instructions: u64,
    stack: u64,
    /// Instructions of every operator.
    layers: Vec<u64>,
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
        let (mut columns, mut stack, mut runs) = (Vec::new(), 0, Vec::new());
        for ((board, image), theirs) in BOARDS.iter().zip(&images).zip(peer.instructions) {
            let ours = measure(&plan, &qemu::run(board, image, &job::bytes(std::slice::from_ref(case), &[], false))?)?;
            columns.push(format!("{} ({})", thousands(ours.instructions), thousands(theirs)));
            stack = stack.max(ours.stack);
            runs.push(ours);
        }
        profiles.push(runs);
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
    println!("\nInstructions per multiply-accumulate by operator; per value of the result where there is none");
    for ((case, peer), runs) in cases.iter().zip(&CMSIS_NN).zip(&profiles) {
        let plan = Plan::parse(&case.plan).map_err(|e| format!("{}: {e}", case.name))?;
        layers(peer, &plan, runs);
    }
    Ok(())
}

/// The table of one model, board by board.
fn layers(peer: &Peer, plan: &Plan<'_>, runs: &[Run]) {
    let cores = BOARDS.each_ref().map(|board| board.core).join(" | ");
    println!("\n| {} | MAC | values | {cores} | CMSIS-NN, M4F |", peer.name);
    println!("|---|--:|--:|{}--:|", "--:|".repeat(BOARDS.len()));
    for (index, op) in plan.ops().enumerate() {
        let (macs, values) = (op.macs(), op.output.elements() as u64);
        let each = |run: &Run| {
            let instructions = run.layers.get(index).copied().unwrap_or(0) as f64;
            match macs {
                0 => format!("{:.1} a value", instructions / values.max(1) as f64),
                _ => format!("{:.2}", instructions / macs as f64),
            }
        };
        let columns: Vec<String> = runs.iter().map(each).collect();
        println!(
            "| {} {} | {} | {} | {} | {} |",
            op.code.name(),
            plan.name(index),
            thousands(macs),
            thousands(values),
            columns.join(" | "),
            peer.layer(&op).unwrap_or("")
        );
    }
}

fn measure(plan: &Plan<'_>, text: &str) -> Result<Run> {
    let lines = Line::all(text);
    let one = |word: &str| lines.iter().find(|line| line.word == word).ok_or(format!("the device reports no {word}"));
    let operators = lines.iter().filter(|line| line.word == "operator");
    let layers = operators.map(|line| line.number("instructions")).collect::<Result<Vec<u64>>>()?;
    if layers.len() != plan.len() {
        return Err(format!("the device reports {} operators of {}", layers.len(), plan.len()));
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
