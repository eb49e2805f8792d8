//! The fp16 file against the original, by our own evaluator: the bytes are read back, every operator is computed in f32 and its result
//! rounded to f16 where the file stores f16, which is what ONNX Runtime's CPU provider does at least at the ends of its kernels.
//! A provider that emulates every f16 operation (tract) needs minutes for what takes seconds here.

use std::collections::HashMap;
use std::path::Path;

use half::f16;
use rayon::prelude::*;

use super::{Agreement, Candidate, Row, before_softmax, decibels, floats, powers};
use crate::graph::{DType, Graph, Op, Tensor, ValueId, eval::Evaluator};
use crate::quantize::LayerReport;
use crate::{Error, Result, onnx};

/// As [`super::compare`], for a graph that [`crate::quantize::fp16::convert`] made; also the ratio of signal to noise layer by layer.
///
/// # Errors
/// What evaluation meets, and [`Error::Collapsed`] naming the first layer that leaves fp16's range of ±65504.
pub fn compare(candidate: &Candidate<'_>, inputs: &[Tensor], held_out: bool) -> Result<(Agreement, Vec<LayerReport>)> {
    let original = before_softmax(candidate.original);
    let bytes = onnx::encode(candidate.written, &onnx::WriteOptions::default())?;
    let written = before_softmax(&onnx::read_bytes(&bytes, Path::new("the fp16 model"))?);
    let layers = shared_layers(&original, &written);
    let mut slots_of_original = vec![Vec::new(); original.nodes.len()];
    let mut slot_of_written = vec![None; written.nodes.len()];
    for (slot, layer) in layers.iter().enumerate() {
        slots_of_original[layer.original.0].push(slot);
        slot_of_written[layer.written] = Some(slot);
    }
    let (reference, half) = (Evaluator::new(&original)?, Evaluator::new(&written)?);
    let rows: Vec<(Row, Vec<(f64, f64)>)> = inputs
        .par_iter()
        .map(|input| {
            let mut kept: Vec<Option<Tensor>> = vec![None; layers.len()];
            let expected = reference.run_with(std::slice::from_ref(input), &mut |node, outputs| {
                for &slot in &slots_of_original[node] {
                    kept[slot] = Some(outputs[layers[slot].original.1].clone());
                }
                Ok(())
            })?;
            let mut noise = vec![(0.0, 0.0); layers.len()];
            let given = half.run_with(std::slice::from_ref(input), &mut |node, outputs| {
                if let Some(slot) = slot_of_written[node]
                    && let Some(expected) = &kept[slot]
                {
                    let (mut expected, mut given) = (floats(expected)?, floats(&outputs[0])?);
                    if expected.iter().any(|v| *v < MINUS_INFINITY) {
                        for values in [&mut expected, &mut given] {
                            values.to_mut().iter_mut().for_each(|v| *v = v.max(f16::MIN.to_f32()));
                        }
                    }
                    check_range(&layers[slot], &expected, &given)?;
                    noise[slot] = powers(&expected, &given);
                }
                Ok(())
            })?;
            let mut row = Row::default();
            let last = |tensors: &[Tensor]| floats(&tensors[tensors.len() - 1]).map(|v| v.into_owned());
            row.add(&floats(&expected[0])?, &floats(&given[0])?, &last(&expected)?, &last(&given)?);
            Ok((row, noise))
        })
        .collect::<Result<_>>()?;
    let noise = rows.iter().fold(vec![(0.0, 0.0); layers.len()], |mut sum, (_, noise)| {
        sum.iter_mut().zip(noise).for_each(|(a, b)| *a = (a.0 + b.0, a.1 + b.1));
        sum
    });
    let reports = layers
        .iter()
        .zip(noise)
        .map(|(layer, noise)| LayerReport {
            name: layer.name.clone(),
            op: layer.op.clone(),
            sqnr_db: decibels(noise),
            quantized: true,
            strength: None,
        })
        .collect();
    let rows = rows.into_iter().map(|(row, _)| row);
    Ok((Agreement::of(rows, candidate.is_classifier, held_out), reports))
}

/// What is below stands for minus infinity in front of a softmax, as attention's masks do; f16's least number does it as well.
const MINUS_INFINITY: f32 = -1e8;

/// A float value that both graphs compute.
struct Layer {
    /// Node and operator of the original.
    name: String,
    op: String,
    /// In the original: index of the node and of its output.
    original: (usize, usize),
    /// In the file: index of the node that makes it.
    written: usize,
}

fn shared_layers(original: &Graph, written: &Graph) -> Vec<Layer> {
    let names: HashMap<&str, usize> = original.values.iter().enumerate().map(|(i, v)| (v.name.as_str(), i)).collect();
    let producers = original.producers();
    let find = |id: ValueId| -> Option<(usize, usize)> {
        let value = *names.get(written.value(id).name.as_str())?;
        let node = producers[value]?;
        let output = original.nodes[node].outputs.iter().position(|o| o.0 == value)?;
        Some((node, output))
    };
    written
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(i, node)| {
            let at = find(node.outputs[0])?;
            let source = &original.nodes[at.0];
            // Integers, as shapes and sizes are, stay exact; casts give what they get.
            let dtype = original.value(source.outputs[at.1]).dtype;
            let is_float = dtype == Some(DType::F32) && !matches!(source.op, Op::Cast { .. });
            is_float.then(|| Layer { name: source.name.clone(), op: source.op.name(), original: at, written: i })
        })
        .collect()
}

fn check_range(layer: &Layer, expected: &[f32], given: &[f32]) -> Result<()> {
    let beyond = expected.iter().zip(given).find(|(e, g)| e.is_finite() && !g.is_finite());
    beyond.map_or(Ok(()), |(expected, given)| {
        Err(Error::Collapsed {
            precision: "fp16".into(),
            why: format!("{given} where the original gives {expected}: fp16 ends at ±65504"),
            layers: vec![format!("{} ({})", layer.name, layer.op)],
        })
    })
}
