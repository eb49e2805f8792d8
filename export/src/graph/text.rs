//! The inputs of a text encoder as one.
//!
//! A bundle's backbone has one input of floats. A BERT-like encoder has two or three of integers, all `[N, L]`: ids of the tokens, a mask, maybe
//! the tokens' types. [`merge_inputs`] puts a prelude in front that makes them from one input `[N, 2, L]`: the ids (exact in f32 below 2²⁴) and the mask.
//! What an encoder gives for every token, `[N, L, D]`, [`mean`] makes one embedding of.

use super::{DType, Dim, Graph, Node, Op, Value, ValueId};
use crate::Result;

const IDS: &[&str] = &["input_ids"];
const MASKS: &[&str] = &["attention_mask", "input_mask"];
const TYPES: &[&str] = &["token_type_ids", "segment_ids"];

/// Merges the inputs of a text encoder, which are known by their names, types and shapes; every other graph stays as it is.
/// Gives the number of tokens, where it did. Types become 0, which is what one sentence has.
///
/// `tokens` is the length where the model leaves it open; a length that the model states stays.
///
/// # Errors
/// [`crate::Error::InvalidModel`] where shapes contradict each other.
pub fn merge_inputs(graph: &mut Graph, tokens: Option<usize>) -> Result<Option<usize>> {
    let Some(inputs) = Inputs::of(graph, tokens) else { return Ok(None) };
    let Inputs { ids, mask, types, batch, tokens } = inputs;
    let row = [batch.clone(), Dim::Fixed(tokens)];
    let float = |graph: &mut Graph, name: &str, shape: Vec<Dim>| {
        graph.add_value(Value { name: name.into(), dtype: Some(DType::F32), shape: Some(shape), constant: None })
    };
    let whole = float(graph, "tokens", vec![batch.clone(), Dim::Fixed(2), Dim::Fixed(tokens)]);
    let one = vec![batch, Dim::Fixed(1), Dim::Fixed(tokens)];
    let parts = [float(graph, "tokens_ids", one.clone()), float(graph, "tokens_mask", one)];
    let rows = [float(graph, "tokens_ids_row", row.to_vec()), float(graph, "tokens_mask_row", row.to_vec())];
    let mut prelude = Vec::new();
    let mut push = |op: Op, inputs: &[ValueId], outputs: &[ValueId], name: &str| {
        let inputs = inputs.iter().copied().map(Some).collect();
        prelude.push(Node { name: name.into(), op, inputs, outputs: outputs.to_vec() });
    };
    push(Op::Split { axis: 1, sizes: vec![1, 1] }, &[whole], &parts, "tokens_split");
    push(Op::Squeeze { axes: vec![1] }, &[parts[0]], &[rows[0]], "tokens_ids_squeeze");
    push(Op::Squeeze { axes: vec![1] }, &[parts[1]], &[rows[1]], "tokens_mask_squeeze");
    // What was an input becomes what the cast makes, so that whoever reads it need not know.
    let to = |id: ValueId| Op::Cast { to: graph.value(id).dtype.unwrap_or(DType::I64) };
    push(to(ids), &[rows[0]], &[ids], "tokens_ids_cast");
    push(to(mask), &[rows[1]], &[mask], "tokens_mask_cast");
    if let Some(types) = types {
        // Of integers, not of the input: what an f16 file keeps in f32 are values of which nothing but integers is made.
        let (of_mask, of_types) = (graph.value(mask).dtype, graph.value(types).dtype);
        if of_mask == of_types {
            push(Op::Sub, &[mask, mask], &[types], "tokens_types");
        } else {
            let zeros = Value { name: "tokens_types_row".into(), ..graph.value(mask).clone() };
            let zeros = graph.add_value(Value { shape: Some(row.to_vec()), ..zeros });
            push(Op::Sub, &[mask, mask], &[zeros], "tokens_types");
            push(Op::Cast { to: of_types.unwrap_or(DType::I64) }, &[zeros], &[types], "tokens_types_cast");
        }
    }
    for id in [ids, mask].into_iter().chain(types) {
        graph.value_mut(id).shape = Some(row.to_vec());
    }
    graph.nodes.splice(0..0, prelude);
    graph.inputs = vec![whole];
    super::infer::infer(graph)?;
    Ok(Some(tokens))
}

/// Whether the inputs are called like a text encoder's, whatever their shapes.
#[must_use]
pub fn is_named_like_an_encoder(graph: &Graph) -> bool {
    let has =
        |names: &[&str]| graph.inputs.iter().any(|id| names.contains(&graph.value(*id).name.to_lowercase().as_str()));
    has(IDS) && has(MASKS)
}

/// Rows of the table of embeddings that the ids of a graph that [`merge_inputs`] made are looked up in; none where there is no such table.
#[must_use]
pub fn embeddings(graph: &Graph) -> Option<usize> {
    let mut of_ids = vec![*parts(graph)?.outputs.first()?];
    // The table comes first, the ids come next; the simplified graph is in the order of what depends on what.
    for node in &graph.nodes {
        if !node.inputs.iter().flatten().any(|id| of_ids.contains(id)) {
            continue;
        }
        match node.op {
            Op::Gather { axis: 0 } => return graph.constant(node.inputs[0])?.shape().first().copied(),
            Op::Cast { .. } | Op::Squeeze { .. } | Op::Flatten { .. } | Op::Reshape { .. } | Op::Identity => {
                of_ids.push(node.outputs[0]);
            }
            _ => {}
        }
    }
    None
}

/// Appends the mean of `hidden` `[N, L, D]` over the tokens that the mask has: `[N, D]`. `None` for graphs that [`merge_inputs`] did not make.
pub fn mean(graph: &mut Graph, hidden: ValueId) -> Option<ValueId> {
    let part = parts(graph)?.outputs.get(1).copied()?;
    // The integers, as the encoder has them: an f16 file keeps in f32 what nothing but integers is made of.
    let mask = integers_of(graph, part)?;
    let mut push = |op: Op, inputs: &[ValueId], name: &str| {
        let output = graph.add_value(Value { name: name.into(), dtype: Some(DType::F32), ..Value::default() });
        let inputs = inputs.iter().copied().map(Some).collect();
        graph.nodes.push(Node { name: name.into(), op, inputs, outputs: vec![output] });
        output
    };
    let mask = push(Op::Cast { to: DType::F32 }, &[mask], "embedding_mask");
    let mask = push(Op::Unsqueeze { axes: vec![1] }, &[mask], "embedding_mask_row");
    let sum = push(Op::MatMul, &[mask, hidden], "embedding_sum");
    let sum = push(Op::Squeeze { axes: vec![1] }, &[sum], "embedding_sum_row");
    let count = push(Op::ReduceSum { axes: vec![2], keepdims: true }, &[mask], "embedding_tokens");
    let count = push(Op::Squeeze { axes: vec![1] }, &[count], "embedding_tokens_row");
    Some(push(Op::Div, &[sum, count], "embedding"))
}

/// Number of tokens of a graph that [`merge_inputs`] made, also after simplification: its one input's second row is the mask.
#[must_use]
pub fn tokens(graph: &Graph) -> Option<usize> {
    parts(graph)?;
    let [input] = graph.inputs[..] else { return None };
    graph.value(input).shape.as_ref()?.last()?.fixed()
}

/// The node that parts the one input of a graph that [`merge_inputs`] made into ids and mask, of which integers are made.
fn parts(graph: &Graph) -> Option<&Node> {
    let [input] = graph.inputs[..] else { return None };
    let [_, Dim::Fixed(2), Dim::Fixed(_)] = graph.value(input).shape.as_deref()? else { return None };
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&Some(input)));
    let (split, None) = (readers.next()?, readers.next()) else { return None };
    let Op::Split { axis: 1, .. } = split.op else { return None };
    split.outputs.iter().all(|part| integers_of(graph, *part).is_some()).then_some(split)
}

/// The integers that a part of the one input becomes.
fn integers_of(graph: &Graph, part: ValueId) -> Option<ValueId> {
    let mut id = part;
    loop {
        let node = graph.nodes.iter().find(|node| node.inputs.first() == Some(&Some(id)))?;
        match node.op {
            Op::Cast { to: DType::I64 | DType::I32 } => return node.outputs.first().copied(),
            Op::Squeeze { .. } | Op::Flatten { .. } | Op::Reshape { .. } => id = node.outputs[0],
            _ => return None,
        }
    }
}

/// The inputs of a text encoder.
struct Inputs {
    ids: ValueId,
    mask: ValueId,
    types: Option<ValueId>,
    batch: Dim,
    tokens: usize,
}

impl Inputs {
    fn of(graph: &Graph, tokens: Option<usize>) -> Option<Self> {
        let named = |names: &[&str]| {
            graph.inputs.iter().copied().find(|id| names.contains(&graph.value(*id).name.to_lowercase().as_str()))
        };
        let (ids, mask, types) = (named(IDS)?, named(MASKS)?, named(TYPES));
        if graph.inputs.len() != 2 + usize::from(types.is_some()) {
            return None;
        }
        let shape = graph.value(ids).shape.clone()?;
        let [batch, length] = &shape[..] else { return None };
        let fits = |id: &ValueId| {
            let value = graph.value(*id);
            let same = value.shape.as_ref().is_some_and(|other| {
                // Sizes without a name may be the same.
                other.len() == 2
                    && other.iter().zip(&shape).all(|(a, b)| a == b || (a.fixed(), b.fixed()) == (None, None))
            });
            same && matches!(value.dtype, Some(DType::I64 | DType::I32))
        };
        if !graph.inputs.iter().all(fits) {
            return None;
        }
        let batch = match batch {
            Dim::Symbol(name) if name.is_empty() => Dim::Symbol("N".into()),
            batch => batch.clone(),
        };
        Some(Self { ids, mask, types, batch, tokens: length.fixed().or(tokens)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Tensor, eval::Evaluator, simplify};

    fn integers(graph: &mut Graph, name: &str, shape: &[Dim]) -> ValueId {
        let value = Value { name: name.into(), dtype: Some(DType::I64), shape: Some(shape.to_vec()), constant: None };
        graph.add_value(value)
    }

    /// table[ids] · (mask + types), [N, L]; the table has the id's last three digits.
    fn encoder(names: [&str; 3], shape: &[Dim]) -> Graph {
        let mut graph = Graph { opset: 17, ..Graph::default() };
        graph.inputs = names.iter().map(|name| integers(&mut graph, name, shape)).collect();
        let [ids, mask, types] = graph.inputs[..] else { panic!("three inputs") };
        let table = graph
            .add_constant("table", Tensor::from_f32(&[5000], (0..5000).map(|v| (v % 1000) as f32).collect()).unwrap());
        let float = |graph: &mut Graph, name: &str| {
            graph.add_value(Value { name: name.into(), dtype: Some(DType::F32), ..Value::default() })
        };
        let sum = integers(&mut graph, "sum", shape);
        let [looked, factor, out] = ["looked", "factor", "out"].map(|name| float(&mut graph, name));
        for (name, op, inputs, output) in [
            ("gather", Op::Gather { axis: 0 }, vec![Some(table), Some(ids)], looked),
            ("add", Op::Add, vec![Some(mask), Some(types)], sum),
            ("cast", Op::Cast { to: DType::F32 }, vec![Some(sum)], factor),
            ("mul", Op::Mul, vec![Some(looked), Some(factor)], out),
        ] {
            graph.nodes.push(Node { name: name.into(), op, inputs, outputs: vec![output] });
        }
        graph.outputs = vec![out];
        graph
    }

    const NAMES: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];

    fn open() -> [Dim; 2] {
        [Dim::Symbol("batch".into()), Dim::Symbol("sequence".into())]
    }

    #[test]
    fn one_input_gives_what_three_gave() {
        let mut graph = encoder(NAMES, &open());
        assert_eq!(merge_inputs(&mut graph, Some(3)).unwrap(), Some(3));
        assert_eq!(tokens(&graph), Some(3));
        simplify(&mut graph).unwrap();
        assert_eq!(tokens(&graph), Some(3), "after simplification");
        // 4097 has no f16.
        let input = Tensor::from_f32(&[1, 2, 3], vec![4097.0, 7.0, 2.0, 1.0, 1.0, 0.0]).unwrap();
        let expected = Tensor::from_f32(&[1, 3], vec![97.0, 7.0, 0.0]).unwrap();
        let given = Evaluator::new(&graph).unwrap().run(std::slice::from_ref(&input)).unwrap();
        assert_eq!(given[0], expected);
        let half = crate::quantize::fp16::convert(&graph).unwrap();
        assert_eq!(Evaluator::new(&half).unwrap().run(&[input]).unwrap()[0], expected, "in half precision");
    }

    /// What most encoders give: a vector for every token, 0 where the mask is.
    #[test]
    fn vectors_of_tokens_are_averaged_over_those_that_the_mask_has() {
        let mut graph = encoder(NAMES, &open());
        let table: Vec<f32> = (0..5000).flat_map(|v| [(v % 1000) as f32, 1.0]).collect();
        let (factor, out) = (graph.nodes[3].inputs[1].unwrap(), graph.nodes[3].outputs[0]);
        let column = graph.add_value(Value { name: "column".into(), dtype: Some(DType::F32), ..Value::default() });
        graph.nodes[3].inputs[1] = Some(column);
        let column = vec![column];
        let unsqueeze = Node {
            name: "column".into(),
            op: Op::Unsqueeze { axes: vec![2] },
            inputs: vec![Some(factor)],
            outputs: column,
        };
        graph.nodes.insert(3, unsqueeze);
        let table = graph.add_constant("pairs", Tensor::from_f32(&[5000, 2], table).unwrap());
        graph.nodes[0].inputs[0] = Some(table);
        merge_inputs(&mut graph, Some(3)).unwrap();
        simplify(&mut graph).unwrap();
        assert_eq!(embeddings(&graph), Some(5000));
        let split = crate::split::choose(&graph, Some(&graph.value(out).name)).unwrap();
        assert_eq!((split.cut.width, split.cut.pooled), (2, true));
        assert!(crate::split::cuts(&graph).iter().all(|cut| cut.width == 2), "no other one is of tokens");
        let input = Tensor::from_f32(&[1, 2, 3], vec![4097.0, 7.0, 2.0, 1.0, 1.0, 0.0]).unwrap();
        let expected = Tensor::from_f32(&[1, 2], vec![52.0, 1.0]).unwrap();
        for graph in [crate::quantize::fp16::convert(&split.backbone).unwrap(), split.backbone] {
            assert_eq!(Evaluator::new(&graph).unwrap().run(std::slice::from_ref(&input)).unwrap()[0], expected);
        }
    }

    #[test]
    fn what_is_no_text_encoder_stays_as_it_is() {
        let fixed = [Dim::Symbol("N".into()), Dim::Fixed(8)];
        let mut others =
            vec![encoder(["input_ids", "attention_mask", "position_ids"], &fixed), encoder(NAMES, &open())];
        let mut floats = encoder(NAMES, &fixed);
        let mask = floats.inputs[1];
        floats.value_mut(mask).dtype = Some(DType::F32);
        let mut longer = encoder(NAMES, &fixed);
        longer.value_mut(mask).shape = Some(vec![fixed[0].clone(), Dim::Fixed(9)]);
        others.extend([floats, longer]);
        for mut graph in others {
            let before = graph.inputs.clone();
            assert_eq!(merge_inputs(&mut graph, None).unwrap(), None);
            assert_eq!(graph.inputs, before);
        }
    }
}
