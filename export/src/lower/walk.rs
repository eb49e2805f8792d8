//! From the first node to the last: which operator each becomes, once the QuantizeLinear behind it says on which scale.

use std::collections::HashMap;

use hone_runtime::QuantParams;
use hone_runtime::plan::{Code, OpParts};

use super::draft::{Draft, Stored, channels_last, row_major, three};
use super::{constant, curve, dims, invalid, layers, moves, unsupported};
use crate::graph::{Graph, Node, Op, ValueId};
use crate::{Error, Result};

/// Where a float value of the graph comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A tensor of the plan, dequantized.
    Stored(Stored),
    /// A node whose operator waits for the scale of its output.
    Computed(Computed),
}

/// A node, and the activation that was merged into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Computed {
    /// Index in [`Graph::nodes`].
    pub node: usize,
    /// Bounds of an activation behind it.
    pub low: f32,
    pub high: f32,
}

impl Computed {
    fn new(node: usize) -> Self {
        Self { node, low: f32::NEG_INFINITY, high: f32::INFINITY }
    }

    /// Whether no activation was merged into it.
    pub fn is_plain(&self) -> bool {
        self.low == f32::NEG_INFINITY && self.high == f32::INFINITY
    }

    /// The bounds on an int8 scale.
    pub fn bounds(&self, quant: QuantParams) -> (i8, i8) {
        let low = if self.low == f32::NEG_INFINITY { i8::MIN } else { quant.quantize(self.low) };
        let high = if self.high == f32::INFINITY { i8::MAX } else { quant.quantize(self.high) };
        (low, high.max(low))
    }
}

/// The walk's state.
pub(super) struct Walk<'g> {
    pub graph: &'g Graph,
    pub draft: Draft,
    /// Float values.
    pub sources: HashMap<ValueId, Source>,
    /// Integer values: outputs of QuantizeLinear.
    codes: HashMap<ValueId, Stored>,
    /// Which node makes a value.
    makers: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
}

/// The whole graph.
pub(super) fn run(graph: &Graph) -> Result<Draft> {
    let (mut walk, input, output) = Walk::new(graph)?;
    for index in 0..graph.nodes.len() {
        walk.node(index, input)?;
    }
    if !walk.codes.values().any(|stored| stored.tensor == walk.draft.input) {
        return Err(invalid(graph, "its input is not quantized"));
    }
    walk.finish(output)?;
    Ok(walk.draft)
}

impl<'g> Walk<'g> {
    /// The start of a walk, and the graph's only input and output.
    pub fn new(graph: &'g Graph) -> Result<(Self, ValueId, ValueId)> {
        let ([input], [output]) = (&graph.inputs[..], &graph.outputs[..]) else {
            return Err(invalid(graph, "the native engine takes models of one input and one output"));
        };
        let walk = Walk {
            graph,
            draft: Draft::default(),
            sources: HashMap::new(),
            codes: HashMap::new(),
            makers: graph.producers(),
            readers: graph.consumers(),
        };
        Ok((walk, *input, *output))
    }

    /// Whether one node alone reads a value, and nobody outside the graph.
    pub fn is_read_once(&self, id: ValueId) -> bool {
        self.readers[id.0].len() == 1 && !self.graph.outputs.contains(&id)
    }

    /// How the model's input of `rank` axes lies: channels last where a window slides over one of `read`, the values as which operators
    /// read it.
    pub fn input_order(&self, read: &[ValueId], rank: usize) -> Vec<usize> {
        let slides = |op: &Op| {
            matches!(
                op,
                Op::Conv { .. }
                    | Op::MaxPool { .. }
                    | Op::AveragePool { .. }
                    | Op::GlobalAveragePool
                    | Op::GlobalMaxPool
                    | Op::Resize(_)
            )
        };
        let readers = read.iter().flat_map(|id| &self.readers[id.0]);
        let slid_over = readers.map(|&index| &self.graph.nodes[index]).any(|reader| slides(&reader.op));
        if slid_over { channels_last(rank) } else { row_major(rank) }
    }

    /// The node that makes a value.
    pub fn maker(&self, id: ValueId) -> Option<&Node> {
        self.makers[id.0].map(|index| &self.graph.nodes[index])
    }

    /// A constant of one element, plain or dequantized.
    pub fn scalar(&self, id: ValueId) -> Result<Option<f32>> {
        let values = constant::floats(self.graph, id, self.maker(id))?;
        Ok(values.filter(|v| v.len() == 1).map(|v| v[0]))
    }

    /// The tensor behind a node's input.
    pub fn stored(&self, node: &Node, slot: usize) -> Result<Stored> {
        let id = node.inputs.get(slot).copied().flatten();
        match id.and_then(|id| self.sources.get(&id)) {
            Some(Source::Stored(stored)) => Ok(stored.clone()),
            Some(Source::Computed(computed)) => {
                let maker = &self.graph.nodes[computed.node];
                Err(unsupported(
                    node,
                    format!("its input from '{}' ({}) is not quantized", maker.name, maker.op.name()),
                ))
            }
            None => {
                Err(unsupported(node, "its input is neither a lowered tensor nor a constant that is supported here"))
            }
        }
    }

    fn node(&mut self, index: usize, input: ValueId) -> Result<()> {
        let node = &self.graph.nodes[index];
        let (Some(Some(first)), [output]) = (node.inputs.first().copied(), &node.outputs[..]) else {
            return Err(unsupported(node, "the native engine takes nodes of one output"));
        };
        let output = *output;
        match &node.op {
            Op::QuantizeLinear { .. } => {
                let quant = constant::params(self.graph, node)?;
                let stored = if first == input {
                    self.quantize_input(node, input, quant)?
                } else {
                    self.quantize(node, first, quant)?
                };
                self.codes.insert(output, stored);
            }
            Op::DequantizeLinear { .. } => {
                if self.graph.constant(Some(first)).is_none() {
                    let stored = self.codes.get(&first).cloned();
                    let stored = stored.ok_or_else(|| unsupported(node, "its input comes from no QuantizeLinear"))?;
                    let tensor = self.draft.tensors[stored.tensor].quant;
                    if tensor != constant::params(self.graph, node)? {
                        return Err(unsupported(node, "another scale than that of the QuantizeLinear before it"));
                    }
                    self.sources.insert(output, Source::Stored(stored));
                }
            }
            Op::Relu | Op::Clip { .. } | Op::Max | Op::Min if self.merge(index, first, output)? => {}
            op if moves::keeps_values(op) && matches!(self.sources.get(&first), Some(Source::Stored(_))) => {
                let stored = moves::lower(self, index)?;
                self.sources.insert(output, Source::Stored(stored));
            }
            _ => {
                self.sources.insert(output, Source::Computed(Computed::new(index)));
            }
        }
        Ok(())
    }

    /// Merges an activation that only bounds into the layer before it.
    fn merge(&mut self, index: usize, first: ValueId, output: ValueId) -> Result<bool> {
        let node = &self.graph.nodes[index];
        let Some(Source::Computed(before)) = self.sources.get(&first) else { return Ok(false) };
        let before = *before;
        let layer = matches!(
            self.graph.nodes[before.node].op,
            Op::Conv { .. }
                | Op::Gemm { .. }
                | Op::MatMul
                | Op::Add
                | Op::Sub
                | Op::Mul
                | Op::AveragePool { .. }
                | Op::GlobalAveragePool
        );
        if !layer || self.readers[first.0].len() != 1 || self.graph.outputs.contains(&first) {
            return Ok(false);
        }
        let bound = match node.inputs.get(1).copied().flatten() {
            Some(id) => self.scalar(id)?,
            None => None,
        };
        let (low, high) = match (&node.op, bound) {
            (Op::Relu, _) => (0.0, f32::INFINITY),
            (Op::Clip { min, max }, _) => (*min, *max),
            (Op::Max, Some(bound)) => (bound, f32::INFINITY),
            (Op::Min, Some(bound)) => (f32::NEG_INFINITY, bound),
            _ => return Ok(false),
        };
        let merged = Computed { node: before.node, low: before.low.max(low), high: before.high.min(high) };
        self.sources.insert(output, Source::Computed(merged));
        Ok(true)
    }

    fn quantize_input(&mut self, node: &Node, input: ValueId, quant: QuantParams) -> Result<Stored> {
        // Behind a QuantizeLinear comes its DequantizeLinear.
        let read = self.readers[node.outputs[0].0].iter().map(|&index| self.graph.nodes[index].outputs[0]);
        self.place_input(node, input, &read.collect::<Vec<_>>(), |draft, shape| draft.int8(shape, quant))
    }

    /// The tensor that `make` makes for the model's input, which `node` brings to its type; operators read it as `read`.
    pub fn place_input(
        &mut self,
        node: &Node,
        input: ValueId,
        read: &[ValueId],
        make: impl FnOnce(&mut Draft, [usize; 3]) -> usize,
    ) -> Result<Stored> {
        if !self.draft.tensors.is_empty() {
            return Err(unsupported(node, "the input is taken twice, or not first"));
        }
        let dims = dims(self.graph, input)?;
        // Whoever slides a window over it wants the channels last.
        let order = self.input_order(read, dims.len());
        let mut stored = Stored { tensor: 0, dims, order };
        let shape = stored.shape().ok_or_else(|| unsupported(node, "an input of more than three axes"))?;
        self.draft.channels_first = !stored.is_row_major();
        stored.tensor = make(&mut self.draft, shape);
        self.draft.input = stored.tensor;
        Ok(stored)
    }

    /// Emits the operator behind a float value on the scale `quant`.
    fn quantize(&mut self, q: &Node, id: ValueId, quant: QuantParams) -> Result<Stored> {
        let name = self.graph.value(q.outputs[0]).name.clone();
        if let Some(curve) = curve::of(self, id)? {
            let from = self.draft.tensors[curve.of.tensor];
            let identity = matches!(self.sources.get(&id), Some(Source::Stored(_)));
            if identity && from.quant == quant {
                return Ok(curve.of);
            }
            let node = self.maker(id).map_or_else(|| q.name.clone(), |n| n.name.clone());
            let output = self.draft.int8(from.shape, quant);
            let mut op = OpParts::new(Code::Table, &node, &[curve.of.tensor], output);
            op.weights = curve.table(quant);
            self.draft.push(op, &name, &curve.of.order);
            return Ok(Stored { tensor: output, ..curve.of });
        }
        let Some(Source::Computed(computed)) = self.sources.get(&id) else {
            return Err(unsupported(q, "its input is made by nothing that is supported"));
        };
        layers::lower(self, *computed, quant, &name)
    }

    /// The graph's output becomes the plan's.
    fn finish(&mut self, output: ValueId) -> Result<()> {
        let name = self.graph.value(output).name.clone();
        match self.sources.get(&output).cloned() {
            Some(Source::Stored(stored)) => {
                let stored = self.reordered(stored.clone(), &row_major(stored.dims.len()), &name)?;
                self.draft.output = stored.tensor;
            }
            Some(Source::Computed(computed)) => self.draft.output = layers::float_output(self, computed, &name)?,
            None => match self.codes.get(&output).cloned() {
                Some(stored) => self.draft.output = stored.tensor,
                None => {
                    return Err(invalid(self.graph, format!("nothing that is supported makes its output '{name}'")));
                }
            },
        }
        if self.draft.output == self.draft.input {
            return Err(invalid(self.graph, "its output is its input"));
        }
        // What was lowered but leads to no output (a second QuantizeLinear, say) would end the plan otherwise.
        self.draft.end();
        Ok(())
    }

    /// The same tensor with its elements in `order`; a Transpose where they lie otherwise.
    pub fn reordered(&mut self, stored: Stored, order: &[usize], name: &str) -> Result<Stored> {
        if stored.lies_as(order) {
            return Ok(Stored { order: order.to_vec(), ..stored });
        }
        let too_many = || Error::Unsupported {
            node: name.to_owned(),
            op: "Transpose".into(),
            why: "more than three axes would have to be permuted".into(),
        };
        // Only axes of more than one element are moved.
        let significant = |order: &[usize]| {
            let axes: Vec<usize> = order.iter().copied().filter(|&axis| stored.dims[axis] != 1).collect();
            let sizes: Vec<usize> = axes.iter().map(|&axis| stored.dims[axis]).collect();
            (axes, sizes)
        };
        let ((from, from_sizes), (to, to_sizes)) = (significant(&stored.order), significant(order));
        let (Some(shape), Some(out)) = (three(&from_sizes), three(&to_sizes)) else { return Err(too_many()) };
        let missing = 3 - from.len();
        let axis = |i: usize| {
            let Some(i) = i.checked_sub(missing) else { return i };
            missing + from.iter().position(|&axis| axis == to[i]).unwrap_or(0)
        };
        let input = self.shaped(stored.tensor, shape, name);
        let output = self.draft.like(input, out);
        let mut op = OpParts::new(Code::Transpose, name, &[input], output);
        op.window.kernel = [axis(0), axis(1)];
        op.window.stride = [axis(2), 0];
        self.draft.push_helper(op);
        Ok(Stored { tensor: output, order: order.to_vec(), dims: stored.dims })
    }

    /// The two operands of an element-by-element operator: the larger one and its shape in memory, the tensors of both (of the larger
    /// first), and whether they changed places for that.
    ///
    /// The larger one has every element of the result; the other one has as many, one a channel, or one in all. Anything else is refused.
    pub fn operands(&mut self, node: &Node, name: &str) -> Result<(Stored, [usize; 2], [usize; 3], bool)> {
        let (mut a, mut b) = (self.stored(node, 0)?, self.stored(node, 1)?);
        let size = |stored: &Stored| (stored.dims.iter().product::<usize>(), stored.dims.len());
        let swapped = size(&b) > size(&a);
        if swapped {
            std::mem::swap(&mut a, &mut b);
        }
        let refused = |a: &Stored, b: &Stored| unsupported(node, format!("operands of {:?} and {:?}", a.dims, b.dims));
        // Two that stretch each other make a result larger than either.
        if dims(self.graph, node.outputs[0])? != a.dims {
            return Err(refused(&a, &b));
        }
        // A vector of channels may come without its axes of one element.
        while b.dims.len() < a.dims.len() {
            b.dims.insert(0, 1);
            b.order = std::iter::once(0).chain(b.order.iter().map(|&axis| axis + 1)).collect();
        }
        let b = self.reordered(b, &a.order, name)?;
        let (Some(shape), Some(other)) = (a.shape(), b.shape()) else {
            return Err(unsupported(node, "operands of more than three axes"));
        };
        if other != shape && other != [1, 1, shape[2]] && other != [1, 1, 1] {
            return Err(refused(&a, &b));
        }
        let tensors = [self.shaped(a.tensor, shape, name), self.shaped(b.tensor, other, name)];
        Ok((a, tensors, shape, swapped))
    }

    /// The same bytes under another shape of as many elements.
    pub fn shaped(&mut self, tensor: usize, shape: [usize; 3], name: &str) -> usize {
        if self.draft.tensors[tensor].shape == shape {
            return tensor;
        }
        self.draft.helper(Code::Reshape, name, tensor, shape)
    }
}
