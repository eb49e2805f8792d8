//! Every board gives the specification's bits: a selection of the kernel suite, random models, and a head, in QEMU.

use hone_runtime::Fingerprint;
use hone_runtime::head::{HeadParts, HeadView, Kind, Weights};
use hone_runtime::kernels::suite::{Group, Rng, case, model, values};
use hone_runtime::plan::{Plan, PlanParts};
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec};

use super::board::{BOARDS, Board};
use super::elf::Image;
use super::job::{self, Case};
use super::qemu::{self, Line};
use super::{reference, synthetic};
use crate::step::Result;

const GROUPS: [Group; 10] = [
    Group::Conv,
    Group::Pointwise,
    Group::Depthwise,
    Group::Dense,
    Group::DenseFloat,
    Group::Add,
    Group::Mul,
    Group::Pools,
    Group::Tables,
    Group::Movement,
];
/// Cases of each group.
const CASES: usize = 40;
/// Random models.
const MODELS: u64 = 24;
/// What is larger takes the portable kernels too long in an emulator.
const MOST_MACS: u64 = 600_000;
/// Float results that the firmware has room for.
const MOST_FLOATS: usize = 1024;

/// Builds and runs the firmware of every board, and compares.
pub fn run() -> Result {
    let cases = cases()?;
    let wanted = cases.iter().map(Case::checksums).collect::<Result<Vec<_>>>()?;
    let keywords = synthetic::keywords();
    let head = head(&keywords)?;
    for board in &BOARDS {
        let image = board.build("bench")?;
        Image::read(&image)?.check_panics()?;
        let text = qemu::run(board, &image, &job::bytes(&cases, &[], true))?;
        let operators = compare(board, &cases, &wanted, &text, true)?;
        let text = qemu::run(board, &image, &job::bytes(std::slice::from_ref(&keywords), &head, false))?;
        compare_head(board, &keywords, &head, &text)?;
        println!(
            "{}: {} plans, {operators} operators and a head give the specification's bits",
            board.core,
            cases.len()
        );
    }
    Ok(())
}

/// Real models, without the portable kernels, and one with its head, on every board.
pub fn same_bits(cases: &[Case], with_head: &Case, head: &[u8]) -> Result {
    let wanted = cases.iter().map(Case::checksums).collect::<Result<Vec<_>>>()?;
    for board in &BOARDS {
        let image = board.build("bench")?;
        let mut operators = 0;
        // One by one: together they may not fit beside the program.
        for (case, wanted) in cases.iter().zip(&wanted) {
            let (case, wanted) = (std::slice::from_ref(case), std::slice::from_ref(wanted));
            let text = qemu::run(board, &image, &job::bytes(case, &[], false))?;
            operators += compare(board, case, wanted, &text, false)?;
        }
        let text = qemu::run(board, &image, &job::bytes(std::slice::from_ref(with_head), head, false))?;
        compare_head(board, with_head, head, &text)?;
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        let names = names.join(", ");
        println!("{}: {names}: {operators} operators and a head give the bits of this machine", board.core);
    }
    Ok(())
}

fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for group in GROUPS {
        let step = (group.cases() / CASES).max(1);
        for index in (0..group.cases()).step_by(step) {
            let case = case(group, index);
            cases.extend(small(&case.name, &case.parts)?);
        }
    }
    for seed in 0..MODELS {
        cases.extend(small(&format!("model {seed}"), &model(seed))?);
    }
    Ok(cases)
}

/// A case, unless the firmware is too small or the emulator too slow for it.
fn small(name: &str, parts: &PlanParts) -> Result<Option<Case>> {
    let bytes = parts.to_bytes().map_err(|why| format!("{name}: {why}"))?;
    let plan = Plan::parse(&bytes).map_err(|why| format!("{name}: {why}"))?;
    let macs: u64 = plan.ops().map(|op| op.macs()).sum();
    let floats = if plan.output().offset.is_none() { plan.output().elements() } else { 0 };
    if macs > MOST_MACS || floats > MOST_FLOATS {
        return Ok(None);
    }
    let input = values(&mut Rng::new(bytes.len() as u64), plan.input().bytes());
    Ok(Some(Case { name: name.into(), plan: bytes, input }))
}

/// The checksums of every operator, from the board's own kernels and, with `portable`, from its portable ones; how many operators.
fn compare(board: &Board, cases: &[Case], wanted: &[Vec<u32>], text: &str, portable: bool) -> Result<usize> {
    let lines = Line::all(text);
    let mut reports = lines.split(|line| line.word == "plan").skip(1);
    let mut operators = 0;
    for (case, wanted) in cases.iter().zip(wanted) {
        let fail = |why: &str| format!("{} ({}): {}: {why}", board.name, board.core, case.name);
        let report = reports.next().ok_or_else(|| fail("the device has not run it"))?;
        if let Some(error) = report.iter().find(|line| line.word == "error") {
            return Err(fail(&format!("the device reports {}", error.name)));
        }
        let words: &[&str] = if portable { &["operator", "reference"] } else { &["operator"] };
        for &word in words {
            let lines = report.iter().filter(|line| line.word == word);
            let got = lines.map(|line| line.hex("crc")).collect::<Result<Vec<u32>>>()?;
            if let Some(index) = (0..wanted.len().max(got.len())).find(|&index| got.get(index) != wanted.get(index)) {
                return Err(fail(&format!(
                    "{word} {index} gives {:08x?} instead of {:08x?}",
                    got.get(index),
                    wanted.get(index)
                )));
            }
        }
        if portable && !report.iter().any(|line| line.word == "same") {
            return Err(fail("the board's kernels differ from its portable ones"));
        }
        operators += wanted.len();
    }
    Ok(operators)
}

/// A head of three classes for what a case gives.
fn head(case: &Case) -> Result<Vec<u8>> {
    let fail = |why: hone_runtime::Error| format!("a head for {}: {why}", case.name);
    let output = Plan::parse(&case.plan).map_err(fail)?.output();
    let dim = output.elements();
    let rows: Vec<i8> = synthetic::Random::new(5).bytes(3 * dim).into_iter().map(u8::cast_signed).collect();
    let parts = HeadParts {
        kind: Kind::Softmax,
        unit: false,
        fingerprint: Fingerprint([0; 16]),
        embedding: EmbeddingSpec { dim, kind: EmbeddingKind::Int8(output.quant) },
        labels: &["one", "two", "three"],
        bias: &[0.1, -0.2, 0.0],
        weights: Weights::Int8 { scales: &[0.01, 0.02, 0.015], rows: &rows },
    };
    let mut record = vec![0; 4096 + 4 * dim];
    let len = parts.encode(&mut record).map_err(fail)?;
    record.truncate(len);
    Ok(record)
}

fn compare_head(board: &Board, case: &Case, record: &[u8], text: &str) -> Result {
    let fail = |why: hone_runtime::Error| format!("a head for {}: {why}", case.name);
    let head = HeadView::parse(record).map_err(fail)?;
    let (_, embedding) = reference::results(case)?;
    let mut scores = vec![0.0; head.classes()];
    head.scores(&embedding, &mut scores).map_err(fail)?;
    let class = head.predict(&embedding).map_err(fail)?.class;
    let lines = Line::all(text);
    let line = lines.iter().find(|line| line.word == "head").ok_or("the device reports no head")?;
    let got = (line.number("class")?, line.hex("scores")?);
    if got == (class as u64, reference::floats_crc(&scores)) {
        return Ok(());
    }
    Err(format!("{}: the head gives {got:x?} instead of class {class}, {scores:?}", board.name))
}
