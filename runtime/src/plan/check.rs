//! Everything that a plan must be before a kernel sees it.
//!
//! Two questions: does each operator fit its tensors and its data, so that kernels can rely on every size; and does the order of
//! operators make sense in the arena, so that nothing is read before it was written or overwritten while it is still needed.

mod shapes;

use core::ops::Range;

use super::format::{ALIGN, MAX_WORK, NONE};
use super::op::{Op, Record};
use super::{Plan, Tensor, WHAT};
use crate::error::{Error, Result};

/// Why a plan is refused: two registers on a microcontroller, where [`Error`] is memory to fill at every check.
struct Why(&'static str);

type Checked = core::result::Result<(), Why>;

impl From<Why> for Error {
    fn from(Why(why): Why) -> Self {
        Self::Malformed { what: WHAT, why }
    }
}

pub(super) fn plan(plan: &Plan<'_>) -> Result<()> {
    require(!plan.ops.is_empty(), "no operators")?;
    let ends = plan.header.input.max(plan.header.output);
    require(ends < plan.tensors.len(), "an input or an output that is not there")?;
    let output = plan.output();
    for record in plan.tensors {
        let tensor = Tensor::decode(record)?;
        require(tensor.range().end <= plan.header.arena_bytes, "a tensor lies outside the arena")?;
        let fits = tensor.offset.is_some() || (output.offset.is_none() && tensor.elements() <= output.elements());
        require(fits, "a tensor lies outside the caller's output")?;
    }
    require(plan.input().offset.is_some(), "the input lies outside the arena")?;
    let mut work = 0u64;
    for record in plan.ops {
        let raw = Record::decode(record)?;
        let op = Op::decode(plan, &raw)?;
        data(plan, &raw)?;
        let given = raw.inputs.iter().take_while(|index| **index != NONE).count();
        require(given == op.input_count(), "an operator with a gap between its inputs")?;
        shapes::op(&op)?;
        require(op.scratch_range().end <= plan.header.arena_bytes, "scratch lies outside the arena")?;
        require(op.scratch.0.is_multiple_of(ALIGN), "scratch is not aligned")?;
        work = work.saturating_add(op.work());
    }
    if work > MAX_WORK {
        return Err(Error::Bounds { what: "work of a plan", value: work, min: 0, max: MAX_WORK });
    }
    order(plan)?;
    let names = plan.names.iter().filter(|byte| **byte == 0).count();
    let is_whole = plan.names.last().is_none_or(|last| *last == 0);
    require(
        core::str::from_utf8(plan.names).is_ok() && is_whole && (plan.names.is_empty() || names == plan.ops.len()),
        "its names are not one text an operator",
    )?;
    Ok(())
}

fn bad(why: &'static str) -> Checked {
    Err(Why(why))
}

fn require(holds: bool, why: &'static str) -> Checked {
    if holds { Ok(()) } else { bad(why) }
}

/// Blocks lie behind the tables, aligned.
#[inline(never)]
fn data(plan: &Plan<'_>, raw: &Record) -> Checked {
    for (offset, len) in
        [raw.weights, (raw.bias, usize::from(raw.counts.0)), (raw.multipliers, usize::from(raw.counts.1))]
    {
        let is_none = len == 0 && offset == 0;
        require(
            is_none || (offset >= plan.header.data_offset && offset.is_multiple_of(ALIGN)),
            "an operator's data is not aligned behind the tables",
        )?;
    }
    Ok(())
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The life of every tensor: written once, read only afterwards, and from the one to the last of the others nothing else is written over
/// it. Quadratic in the number of operators, which the format bounds, and so it looks at no more of a record than it must.
fn order(plan: &Plan<'_>) -> Checked {
    let (input, output) = (plan.header.input, plan.header.output);
    require(input != output, "the output is the input")?;
    for tensor in 0..plan.tensors.len() {
        // Before the first operator the input is there, and nothing else.
        let mut written = (tensor == input).then_some(0);
        let mut last = 0;
        for (index, record) in plan.ops.iter().enumerate() {
            let (inputs, made) = Record::tensors(record);
            if inputs.into_iter().any(|read| usize::from(read) == tensor) {
                require(written.is_some(), "an operator reads what was not written yet")?;
                last = index;
            }
            if usize::from(made) == tensor {
                require(written.is_none(), "a tensor is written twice")?;
                written = Some(index);
                last = index;
            }
        }
        let Some(first) = written else { return bad("a tensor that nothing writes") };
        let last = if tensor == output { plan.ops.len() } else { last };
        unharmed(plan, tensor, first, last)?;
    }
    let last = plan.ops.last().map(|last| usize::from(Record::tensors(last).1));
    require(last == Some(output), "the last operator does not give the output")
}

/// Nothing is written over `tensor` from operator `first`, which makes it (or the start), up to `last`, which reads it last.
fn unharmed(plan: &Plan<'_>, tensor: usize, first: usize, last: usize) -> Checked {
    let place = plan.place(tensor);
    for (index, record) in plan.ops.iter().enumerate().skip(first).take_while(|(index, _)| *index <= last) {
        let (inputs, made) = Record::tensors(record);
        let scratch = Record::scratch(record);
        if usize::from(made) == tensor {
            require(!overlap(&place, &scratch), "an operator's output lies in its scratch")?;
            continue;
        }
        // In place, the first input may go with the operator that reads it last.
        let [at_place, others @ ..] = inputs;
        let read_by_others = others.into_iter().any(|other| usize::from(other) == tensor);
        let goes = Record::is_in_place(record) && usize::from(at_place) == tensor && !read_by_others && last == index;
        require(
            goes || !overlap(&place, &plan.place(usize::from(made))),
            "an operator overwrites what is still needed",
        )?;
        require(!overlap(&place, &scratch), "an operator's scratch overwrites what is still needed")?;
    }
    Ok(())
}
