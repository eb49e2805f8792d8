//! Runs every entry of a job and reports: a CRC of every operator's output, instructions, memory, and what the head says.
//!
//! One line a fact: a word, perhaps a name, then `name=value` pairs.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use hone_firmware::board::{self, INSTRUCTIONS_PER_TICK, ticks};
use hone_firmware::crc::{crc32, crc32_more};
use hone_firmware::job::{self, Entry};
use hone_firmware::serial::{hex, line, number, text};
use hone_runtime::engine::Engine;
use hone_runtime::kernels::{cortex_m, generic};
use hone_runtime::plan::{DType, Plan, Tensor};
use hone_runtime::{HeadView, Result};

#[entry]
fn main() -> ! {
    board::start();
    let Some(memory) = board::take() else { board::exit(false) };
    line(&["hone", board::NAME, cortex_m::TIER.name]);
    let [code, data, zeroed] = board::sections();
    text("sections");
    number("code", code);
    number("data", data);
    number("zeroed", zeroed);
    text("\n");
    let mut well = true;
    for entry in job::entries(memory.job) {
        let outcome = report(&entry, memory.arena, memory.floats);
        if let Err(why) = &outcome {
            line(&["error", why.code()]);
        }
        well &= outcome.is_ok();
    }
    text("stack");
    number("bytes", board::stack_used());
    text("\n");
    line(&["end"]);
    board::exit(well)
}

fn report(entry: &Entry<'_>, arena: &mut [u8], floats: &mut [f32]) -> Result<()> {
    let plan = Plan::parse(entry.plan)?;
    let engine = Engine::new(plan, &cortex_m::TIER)?;
    text("plan");
    number("bytes", entry.plan.len());
    number("operators", plan.len());
    number("arena", plan.arena_bytes());
    text("\n");
    // Once without interruption, for the total.
    start(&engine, entry, arena)?;
    let before = ticks();
    engine.run(arena, &[], &mut [], floats)?;
    let spent = ticks().wrapping_sub(before);
    text("run");
    number("instructions", instructions(spent));
    hex("output", result_crc(&plan.output(), arena, floats));
    text("\n");
    if !entry.head.is_empty() {
        head(entry.head, engine.output(arena), floats)?;
    }
    let (first, second) = arena.split_at_mut_checked(arena.len() / 2).unwrap_or_default();
    if entry.compare {
        operators("operator", &engine, entry, first, floats)?;
        operators("reference", &Engine::new(plan, &generic::TIER)?, entry, second, floats)?;
        let same = engine.output(first) == engine.output(second);
        line(&[if same { "same" } else { "different" }]);
    } else {
        operators("operator", &engine, entry, arena, floats)?;
    }
    Ok(())
}

/// Runs once more and reports after every operator.
fn operators(word: &str, engine: &Engine<'_>, entry: &Entry<'_>, arena: &mut [u8], floats: &mut [f32]) -> Result<()> {
    start(engine, entry, arena)?;
    let mut before = ticks();
    engine.run_each(arena, &[], &mut [], floats, |op, arena, floats| {
        let spent = ticks().wrapping_sub(before);
        text(word);
        text(" ");
        text(op.code.name());
        number("macs", usize::try_from(op.macs()).unwrap_or(usize::MAX));
        number("elements", op.output.elements());
        number("instructions", instructions(spent));
        hex("crc", result_crc(&op.output, arena, floats));
        text("\n");
        before = ticks();
    })
}

/// An arena of zeros but for the input.
fn start(engine: &Engine<'_>, entry: &Entry<'_>, arena: &mut [u8]) -> Result<()> {
    arena.get_mut(..engine.plan().arena_bytes()).unwrap_or_default().fill(0);
    for (to, from) in engine.input(arena)?.iter_mut().zip(entry.input) {
        *to = *from;
    }
    Ok(())
}

fn instructions(ticks: u32) -> usize {
    ticks.saturating_mul(INSTRUCTIONS_PER_TICK) as usize
}

/// Of a tensor in the arena, or of float results.
fn result_crc(tensor: &Tensor, arena: &[u8], floats: &[f32]) -> u32 {
    match tensor.dtype {
        DType::F32 => floats_crc(floats.get(..tensor.elements()).unwrap_or_default()),
        _ => crc32(arena.get(tensor.range()).unwrap_or_default()),
    }
}

fn floats_crc(floats: &[f32]) -> u32 {
    floats.iter().fold(0, |crc, value| crc32_more(crc, &value.to_le_bytes()))
}

fn head(record: &[u8], embedding: &[u8], floats: &mut [f32]) -> Result<()> {
    let head = HeadView::parse(record)?;
    let before = ticks();
    let answer = head.predict(embedding)?;
    let spent = ticks().wrapping_sub(before);
    let scores = floats.get_mut(..head.classes()).unwrap_or_default();
    head.scores(embedding, scores)?;
    text("head");
    number("class", answer.class);
    number("classes", head.classes());
    number("instructions", instructions(spent));
    hex("scores", floats_crc(scores));
    text("\n");
    Ok(())
}
