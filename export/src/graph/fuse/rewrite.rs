//! Bookkeeping of local rewrites: who makes and who reads a value, kept right while nodes are merged.

use ndarray::{ArrayD, IxDyn};

use crate::graph::{Dim, Graph, Node, Op, Tensor, Value, ValueId, cost, fold};

pub(super) struct Rewriter<'g> {
    pub graph: &'g mut Graph,
    budget: &'g mut fold::Budget,
    is_output: Vec<bool>,
    /// Node that makes a value.
    maker: Vec<Option<usize>>,
    /// How often a value is read, by nodes and as graph output.
    reads: Vec<usize>,
    /// For every value, the first node that reads it.
    reader: Vec<Option<usize>>,
    removed: Vec<bool>,
    /// Nodes to be put in front of a node.
    inserted: Vec<(usize, Node)>,
}

impl<'g> Rewriter<'g> {
    pub fn new(graph: &'g mut Graph, budget: &'g mut fold::Budget) -> Self {
        let mut is_output = vec![false; graph.values.len()];
        let mut reads = vec![0; graph.values.len()];
        let mut reader = vec![None; graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            for id in node.inputs.iter().flatten() {
                reads[id.0] += 1;
                reader[id.0].get_or_insert(i);
            }
        }
        for id in &graph.outputs {
            reads[id.0] += 1;
            is_output[id.0] = true;
        }
        let removed = vec![false; graph.nodes.len()];
        let maker = graph.producers();
        Self { graph, budget, is_output, maker, reads, reader, removed, inserted: Vec::new() }
    }

    pub fn is_removed(&self, node: usize) -> bool {
        self.removed[node]
    }

    pub fn node(&self, i: usize) -> &Node {
        &self.graph.nodes[i]
    }

    /// Input `k` of node `i`.
    pub fn input(&self, i: usize, k: usize) -> Option<ValueId> {
        self.graph.nodes[i].inputs.get(k).copied().flatten()
    }

    /// The node's only output.
    pub fn output(&self, i: usize) -> Option<ValueId> {
        match self.graph.nodes[i].outputs[..] {
            [id] => Some(id),
            _ => None,
        }
    }

    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.graph.value(id).constant.as_ref()
    }

    /// Shape of input `k` of node `i` where that is a constant of f32 numbers.
    pub fn floats_shape(&self, i: usize, k: usize) -> Option<&[usize]> {
        self.constant(self.input(i, k)?)?.as_f32().map(|a| a.shape())
    }

    /// Constant input `k` of node `i` as f32 numbers with their shape. It copies: what may be large is looked at with
    /// [`Self::floats_shape`] and paid for with [`Self::affords`] first.
    pub fn floats(&self, i: usize, k: usize) -> Option<(Vec<usize>, Vec<f32>)> {
        let tensor = self.constant(self.input(i, k)?)?;
        Some((tensor.shape().to_vec(), fold::floats(tensor)?.into_owned()))
    }

    pub fn shape(&self, id: ValueId) -> Option<&[Dim]> {
        self.graph.value(id).shape.as_deref()
    }

    pub fn rank(&self, id: ValueId) -> Option<usize> {
        self.shape(id).map(<[Dim]>::len)
    }

    /// The node that makes the value.
    pub fn maker(&self, id: ValueId) -> Option<usize> {
        self.maker.get(id.0).copied().flatten().filter(|&i| !self.removed[i])
    }

    pub fn read_once(&self, id: ValueId) -> bool {
        self.reads.get(id.0) == Some(&1)
    }

    /// The only reader of a value that is no graph output.
    pub fn only_reader(&self, id: ValueId) -> Option<usize> {
        if !self.read_once(id) || self.is_output[id.0] {
            return None;
        }
        self.reader.get(id.0).copied().flatten().filter(|&i| !self.removed[i])
    }

    /// `earlier` now makes what `later` made; `later` goes away. `earlier`'s own output must be read by `later` alone.
    pub fn absorb_later(&mut self, earlier: usize, later: usize) {
        let outputs = self.graph.nodes[later].outputs.clone();
        if let Some(id) = outputs.first() {
            self.maker[id.0] = Some(earlier);
        }
        self.graph.nodes[earlier].outputs = outputs;
        self.removed[later] = true;
    }

    /// `later` now reads `x` where it read `earlier`'s output; `earlier` goes away. The output must be read by `later` alone.
    pub fn absorb_earlier(&mut self, earlier: usize, later: usize, x: ValueId) {
        let gone = self.graph.nodes[earlier].outputs.clone();
        for id in self.graph.nodes[later].inputs.iter_mut().flatten() {
            if gone.contains(id) {
                *id = x;
            }
        }
        self.removed[earlier] = true;
        if self.reader[x.0].is_none_or(|r| r == earlier) {
            self.reader[x.0] = Some(later);
        }
    }

    /// Replaces what a node computes. Values that it read and does not any more count as read once less.
    pub fn replace(&mut self, i: usize, op: Op, inputs: Vec<Option<ValueId>>) {
        for id in self.graph.nodes[i].inputs.clone().into_iter().flatten() {
            self.reads[id.0] = self.reads[id.0].saturating_sub(1);
        }
        for id in inputs.iter().flatten() {
            self.reads[id.0] += 1;
            self.reader[id.0].get_or_insert(i);
        }
        let node = &mut self.graph.nodes[i];
        (node.op, node.inputs) = (op, inputs);
    }

    /// Whether constant input `k` of node `i` may be read: as [`Self::affords`].
    pub fn affords_reading(&mut self, i: usize, k: usize) -> bool {
        let numbers = self.input(i, k).and_then(|id| self.constant(id)).map_or(0, Tensor::len);
        self.budget.spend(0, cost::per_number(numbers as u64))
    }

    /// Whether constant input `k` of node `i` may be computed anew: within what simplification may spend, which this spends.
    pub fn affords(&mut self, i: usize, k: usize) -> bool {
        let Some(id) = self.input(i, k) else { return false };
        let numbers = self.constant(id).map_or(0, Tensor::len);
        let copied = if self.read_once(id) { 0 } else { numbers.saturating_mul(size_of::<f32>()) };
        self.budget.spend(copied, cost::per_number(numbers as u64))
    }

    /// Replaces constant input `k` of node `i`: in place when nobody else reads it, else (or when absent) as a new constant.
    pub fn set_floats(&mut self, i: usize, k: usize, shape: &[usize], data: Vec<f32>, suffix: &str) {
        let Ok(array) = ArrayD::from_shape_vec(IxDyn(shape), data) else { return };
        let tensor = Tensor::F32(array);
        if let Some(id) = self.input(i, k).filter(|&id| self.read_once(id)) {
            let value = self.graph.value_mut(id);
            value.shape = Some(shape.iter().map(|&n| Dim::Fixed(n)).collect());
            value.constant = Some(tensor);
            return;
        }
        let base = match self.input(i, k) {
            Some(id) => format!("{}_{suffix}", self.graph.value(id).name),
            None => format!("{}.{suffix}", self.graph.nodes[i].name),
        };
        let id = self.add_constant(&base, tensor);
        self.reads[id.0] = 1;
        self.reader[id.0] = Some(i);
        let node = &mut self.graph.nodes[i];
        if node.inputs.len() <= k {
            node.inputs.resize(k + 1, None);
        }
        if let Some(old) = node.inputs[k].replace(id) {
            self.reads[old.0] = self.reads[old.0].saturating_sub(1);
        }
    }

    pub fn add_constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let id = self.graph.add_constant(name, tensor);
        self.grow();
        id
    }

    /// Puts a node of one output in front of node `before`; gives the output. The caller makes somebody read it.
    pub fn insert_before(&mut self, before: usize, name: &str, op: Op, input: ValueId, shape: Vec<Dim>) -> ValueId {
        let dtype = self.graph.value(input).dtype;
        let id = self.graph.add_value(Value { name: name.to_owned(), dtype, shape: Some(shape), constant: None });
        self.grow();
        self.reads[input.0] += 1;
        let name = self.graph.value(id).name.clone();
        self.inserted.push((before, Node { name, op, inputs: vec![Some(input)], outputs: vec![id] }));
        id
    }

    fn grow(&mut self) {
        let n = self.graph.values.len();
        self.maker.resize(n, None);
        self.reads.resize(n, 0);
        self.reader.resize(n, None);
        self.is_output.resize(n, false);
    }

    /// Drops removed nodes and puts inserted ones in their places.
    pub fn finish(self) {
        if self.inserted.is_empty() {
            let mut removed = self.removed.into_iter();
            self.graph.nodes.retain(|_| !removed.next().unwrap_or(false));
            return;
        }
        let mut inserted = self.inserted;
        inserted.sort_by_key(|(before, _)| *before);
        let mut inserted = inserted.into_iter().peekable();
        let nodes = std::mem::take(&mut self.graph.nodes);
        for (i, (node, removed)) in nodes.into_iter().zip(self.removed).enumerate() {
            while let Some((_, new)) = inserted.next_if(|(before, _)| *before == i) {
                self.graph.nodes.push(new);
            }
            if !removed {
                self.graph.nodes.push(node);
            }
        }
    }
}
