//! Every tensor gets its place in one arena.
//!
//! Tensors that an operator may overwrite in place share one block; blocks are placed greedily, the largest first, at the lowest offset
//! where nothing that lives at the same time lies. Several orders and both ways of pointwise convolutions are tried; the smallest arena wins.

use hone_runtime::plan::format::ALIGN;
use hone_runtime::plan::{Code, PlanParts};

use super::draft::Draft;
use super::{Layer, Lowered};
use crate::{Error, Result};

/// Puts the tensors into an arena and writes the plan.
pub(super) fn place(draft: Draft) -> Result<Lowered> {
    let draft = without_unused(draft);
    let best = [false, true]
        .into_iter()
        .map(|pointwise| Layout::of(&draft, pointwise))
        .min_by_key(|layout| (layout.arena_bytes, layout.in_place.iter().filter(|p| **p).count()))
        .unwrap_or_else(|| Layout::of(&draft, false));
    let Draft { mut tensors, mut ops, layers, input, output, channels_first } = draft;
    let makers = |tensor: usize| ops.iter().position(|op| op.output == tensor);
    let layers: Vec<Layer> = ops
        .iter()
        .zip(layers)
        .map(|(op, made)| Layer {
            value: made.value,
            order: made.order,
            inputs: op.inputs.iter().map(|&input| makers(input)).collect(),
        })
        .collect();
    for (tensor, block) in tensors.iter_mut().zip(&best.block_of) {
        if tensor.offset.is_some() {
            tensor.offset = Some(best.offsets[*block]);
        }
    }
    for (index, op) in ops.iter_mut().enumerate() {
        op.in_place |= best.in_place[index];
        if let Some(block) = best.scratch_of[index] {
            op.scratch = (best.offsets[block], best.scratch_bytes[index]);
        }
    }
    let parts = PlanParts { arena_bytes: best.arena_bytes, tensors, input, output, channels_first, ops, names: true };
    // What the reader would refuse is a limit of the format, not a fault of the model.
    let plan = parts.to_bytes().map_err(|why| Error::Unsupported {
        node: "the whole".into(),
        op: "plan".into(),
        why: format!("the native engine's format does not hold it: {why}"),
    })?;
    Ok(Lowered { plan, layers })
}

/// Tensors that no operator touches are dropped.
fn without_unused(mut draft: Draft) -> Draft {
    let mut used = vec![false; draft.tensors.len()];
    used[draft.input] = true;
    for op in &draft.ops {
        op.inputs.iter().chain([&op.output]).for_each(|&tensor| used[tensor] = true);
    }
    let mut new_index = vec![0; used.len()];
    let mut tensors = Vec::new();
    for (old, tensor) in draft.tensors.iter().enumerate().filter(|(old, _)| used[*old]) {
        new_index[old] = tensors.len();
        tensors.push(*tensor);
    }
    for op in &mut draft.ops {
        op.inputs.iter_mut().for_each(|tensor| *tensor = new_index[*tensor]);
        op.output = new_index[op.output];
    }
    (draft.input, draft.output) = (new_index[draft.input], new_index[draft.output]);
    Draft { tensors, ..draft }
}

/// A block of the arena: the operators from which to which it lives, and its bytes from each of some operators on. A block in which an
/// operator works in place grows only when that operator comes.
#[derive(Debug, Clone)]
struct Block {
    /// (operator, bytes from there on), in order; never shrinks.
    sizes: Vec<(isize, usize)>,
    last: isize,
}

impl Block {
    fn new(first: isize, last: isize, bytes: usize) -> Self {
        Self { sizes: vec![(first, bytes)], last }
    }

    fn first(&self) -> isize {
        self.sizes[0].0
    }

    /// Bytes at the end, which are the most.
    fn bytes(&self) -> usize {
        self.sizes.last().map_or(0, |&(_, bytes)| bytes)
    }

    /// Most bytes up to operator `until`.
    fn bytes_until(&self, until: isize) -> usize {
        self.sizes.iter().rev().find(|(from, _)| *from <= until).map_or(0, |&(_, bytes)| bytes)
    }

    fn grow(&mut self, now: isize, bytes: usize, last: isize) {
        let bytes = bytes.max(self.bytes());
        self.sizes.push((now, bytes));
        self.last = self.last.max(last);
    }
}

#[derive(Debug)]
struct Layout {
    block_of: Vec<usize>,
    scratch_of: Vec<Option<usize>>,
    scratch_bytes: Vec<usize>,
    in_place: Vec<bool>,
    offsets: Vec<usize>,
    arena_bytes: usize,
}

impl Layout {
    fn of(draft: &Draft, pointwise: bool) -> Self {
        let end = draft.ops.len() as isize;
        let mut blocks: Vec<Block> = Vec::new();
        let mut block_of = vec![usize::MAX; draft.tensors.len()];
        let last_use: Vec<isize> = (0..draft.tensors.len())
            .map(|tensor| {
                let reader = draft.ops.iter().rposition(|op| op.inputs.contains(&tensor));
                if tensor == draft.output { end } else { reader.map_or(-1, |reader| reader as isize) }
            })
            .collect();
        let bytes =
            |tensor: usize| if draft.tensors[tensor].offset.is_some() { draft.tensors[tensor].bytes() } else { 0 };
        blocks.push(Block::new(-1, last_use[draft.input].max(0), bytes(draft.input)));
        block_of[draft.input] = 0;
        let (mut in_place, mut scratch_of, mut scratch_bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (index, op) in draft.ops.iter().enumerate() {
            let now = index as isize;
            let is_conv = matches!(op.code, Code::Conv | Code::Conv16);
            let is_pointwise = is_conv && op.window.is_pointwise() && op.groups == 1;
            let may = match op.code {
                Code::Add | Code::Mul | Code::Table | Code::Softmax | Code::Reshape => true,
                Code::Add16 | Code::Mul16 | Code::Unary16 | Code::Softmax16 | Code::LayerNorm16 => true,
                Code::Conv | Code::Conv16 => pointwise && is_pointwise,
                _ => false,
            };
            // The first input must end here, and be read once.
            let first = op.inputs[0];
            let once = op.inputs.iter().filter(|&&input| block_of[input] == block_of[first]).count() == 1;
            let same_block_ends =
                (0..draft.tensors.len()).all(|t| block_of[t] != block_of[first] || last_use[t] <= now);
            let shares = may && once && same_block_ends && last_use[first] == now && first != draft.output;
            in_place.push(shares);
            if shares {
                let block = block_of[first];
                block_of[op.output] = block;
                blocks[block].grow(now, bytes(op.output), last_use[op.output].max(now));
            } else {
                block_of[op.output] = blocks.len();
                blocks.push(Block::new(now, last_use[op.output].max(now), bytes(op.output)));
            }
            let depth = draft.tensors[first].channels().next_multiple_of(4);
            let scratch = if shares && is_pointwise && op.code == Code::Conv { 4 * depth } else { op.scratch.1 };
            scratch_bytes.push(scratch);
            scratch_of.push((scratch > 0).then(|| {
                blocks.push(Block::new(now, now, scratch));
                blocks.len() - 1
            }));
        }
        let (offsets, arena_bytes) = best_offsets(&blocks);
        Self { block_of, scratch_of, scratch_bytes, in_place, offsets, arena_bytes }
    }
}

/// The smallest arena of several greedy orders.
fn best_offsets(blocks: &[Block]) -> (Vec<usize>, usize) {
    let mut orders: Vec<Vec<usize>> = Vec::new();
    let by = |key: &dyn Fn(&Block) -> (isize, isize)| {
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by_key(|&i| key(&blocks[i]));
        order
    };
    orders.push(by(&|b| (-(b.bytes() as isize), b.first())));
    orders.push(by(&|b| (-((b.bytes() as isize) * (b.last - b.first() + 1)), b.first())));
    orders.push(by(&|b| (b.first() - b.last, -(b.bytes() as isize))));
    orders.push(by(&|b| (b.first(), -(b.bytes() as isize))));
    orders.push(by(&|b| (-b.last, -(b.bytes() as isize))));
    let placed = orders.iter().map(|order| greedy(blocks, order));
    placed.min_by_key(|(_, bytes)| *bytes).unwrap_or_default()
}

/// Block after block at the lowest offset where it is in nobody's way.
fn greedy(blocks: &[Block], order: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; blocks.len()];
    let mut done: Vec<usize> = Vec::new();
    let mut arena = 0;
    for &index in order {
        let block = &blocks[index];
        // For every block that lives at some of the same time: where it begins and ends then, and how far this one reaches then.
        let others: Vec<(usize, usize, usize)> = done
            .iter()
            .filter(|&&other| blocks[other].first() <= block.last && block.first() <= blocks[other].last)
            .map(|&other| {
                let until = block.last.min(blocks[other].last);
                (offsets[other], offsets[other] + blocks[other].bytes_until(until), block.bytes_until(until))
            })
            .filter(|&(start, end, _)| end > start)
            .collect();
        let fits = |at: usize| others.iter().all(|&(start, end, bytes)| at >= end || at + bytes <= start);
        let places = std::iter::once(0).chain(others.iter().map(|&(_, end, _)| end.next_multiple_of(ALIGN)));
        let at = places.filter(|&at| fits(at)).min().unwrap_or(0);
        offsets[index] = at;
        arena = arena.max(at + block.bytes());
        done.push(index);
    }
    (offsets, arena)
}
