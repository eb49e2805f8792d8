//! The inputs of a text encoder as one.
//!
//! A bundle's backbone has one input of floats. A BERT-like encoder has two or three of integers, all `[N, L]`: ids of the tokens, a mask, maybe
//! the tokens' types. [`merge_inputs`] puts a prelude in front that makes them from one input `[N, 2, L]`: the ids (exact in f32 below 2²⁴) and the mask.

use super::{DType, Dim, Graph, Node, Op, Tensor, Value, ValueId};
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
        let cast = to(types);
        let zero = graph.add_constant("tokens_zero", Tensor::F32(ndarray::arr1(&[0.0]).into_dyn()));
        let zeros = float(graph, "tokens_types_row", row.to_vec());
        push(Op::Mul, &[rows[1], zero], &[zeros], "tokens_types");
        push(cast, &[zeros], &[types], "tokens_types_cast");
    }
    for id in [ids, mask].into_iter().chain(types) {
        graph.value_mut(id).shape = Some(row.to_vec());
    }
    graph.nodes.splice(0..0, prelude);
    graph.inputs = vec![whole];
    super::infer::infer(graph)?;
    Ok(Some(tokens))
}

/// Number of tokens of a graph that [`merge_inputs`] made, also after simplification: its one input's second row is the mask.
#[must_use]
pub fn tokens(graph: &Graph) -> Option<usize> {
    let [input] = graph.inputs[..] else { return None };
    let [_, Dim::Fixed(2), Dim::Fixed(tokens)] = graph.value(input).shape.as_deref()? else { return None };
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&Some(input)));
    let (split, None) = (readers.next()?, readers.next()) else { return None };
    let Op::Split { axis: 1, .. } = split.op else { return None };
    let is_integer = |from: ValueId| {
        let mut id = from;
        loop {
            let mut readers = graph.nodes.iter().filter(|node| node.inputs.first() == Some(&Some(id)));
            match readers.next() {
                Some(Node { op: Op::Cast { to: DType::I64 | DType::I32 }, .. }) => return true,
                Some(Node { op: Op::Squeeze { .. } | Op::Flatten { .. } | Op::Reshape { .. }, outputs, .. }) => {
                    id = outputs[0];
                }
                _ => return false,
            }
        }
    };
    split.outputs.iter().all(|part| is_integer(*part)).then_some(*tokens)
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
    use crate::graph::{eval::Evaluator, simplify};

    fn integers(graph: &mut Graph, name: &str, shape: &[Dim]) -> ValueId {
        let value = Value { name: name.into(), dtype: Some(DType::I64), shape: Some(shape.to_vec()), constant: None };
        graph.add_value(value)
    }

    /// table[ids] · (mask + types), [N, L].
    fn encoder(names: [&str; 3], shape: &[Dim]) -> Graph {
        let mut graph = Graph { opset: 17, ..Graph::default() };
        graph.inputs = names.iter().map(|name| integers(&mut graph, name, shape)).collect();
        let [ids, mask, types] = graph.inputs[..] else { panic!("three inputs") };
        let table =
            graph.add_constant("table", Tensor::from_f32(&[5000], (0..5000).map(|v| v as f32).collect()).unwrap());
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
        let given = Evaluator::new(&graph).unwrap().run(&[input]).unwrap();
        assert_eq!(given[0], Tensor::from_f32(&[1, 3], vec![4097.0, 7.0, 0.0]).unwrap());
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
