//! Real models as plans: every layer within one step of ONNX's definition when it is fed the same inputs, and the whole as close as the
//! layers let it be. Needs the shared models. And small graphs, which are lowered right or refused by name.

#[path = "support/models.rs"]
mod models;
#[path = "support/small.rs"]
mod small;

use std::collections::HashMap;
use std::path::Path;

use hone_export::graph::{self, Graph, Op, Tensor, ValueId, eval::Evaluator, infer};
use hone_export::quantize::{self, Options, Rounding};
use hone_export::{lower, onnx, split};
use hone_runtime::engine::Prepared;
use hone_runtime::kernels::generic;
use models::{rows, shared};
use ndarray::ArrayD;
use small::Small;

fn quantized(model: &Path, rows: &[Tensor], cut: Option<&str>) -> Graph {
    let mut graph = onnx::read(model).expect("a model");
    graph::simplify(&mut graph).expect("simplification");
    infer::make_batch_dynamic(&mut graph).expect("a batch");
    let embedding = match cut {
        Some(name) => graph.find(name).expect("the cut"),
        None => split::choose(&graph, None).map_or(graph.outputs[0], |split| split.cut.value),
    };
    if !graph.outputs.contains(&embedding) {
        graph.outputs.push(embedding);
    }
    in_int8(&graph, embedding, rows)
}

fn in_int8(graph: &Graph, embedding: ValueId, rows: &[Tensor]) -> Graph {
    let options = Options { rounding: Rounding::Nearest, equalize: false, ..Options::default() };
    let scratch = tempfile::tempdir().expect("a folder");
    let mut rows = rows;
    let quantized = quantize::int8(graph, embedding, &mut rows, &options, scratch.path(), &mut |_, _| {});
    quantized.expect("quantization").graph
}

fn only(graph: &Graph, output: ValueId) -> Graph {
    let mut graph = graph.clone();
    graph.outputs = vec![output];
    graph
}

/// The steps of a value in the plan's memory order.
fn steps(tensor: &Tensor, order: &[usize], quant: hone_runtime::QuantParams) -> Vec<u8> {
    let codes: ArrayD<u8> = match tensor {
        Tensor::U8(a) => a.mapv(|q| q.wrapping_sub(128)),
        Tensor::I8(a) => a.mapv(i8::cast_unsigned),
        Tensor::F32(a) => a.mapv(|v| quant.quantize(v).cast_unsigned()),
        other => panic!("{:?}", other.dtype()),
    };
    let axes: Vec<usize> = std::iter::once(0).chain(order.iter().map(|axis| axis + 1)).collect();
    codes.permuted_axes(axes).iter().copied().collect()
}

fn largest_difference(a: &[u8], b: &[u8]) -> i32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (i32::from(a.cast_signed()) - i32::from(b.cast_signed())).abs()).max().unwrap_or(0)
}

/// Lowers, then compares layer by layer and as a whole. Gives the arena's bytes and a line for people.
fn check(graph: &Graph, row: &Tensor) -> (usize, String) {
    let lowered = lower::int8(graph).expect("the model lowers");
    let plan = lowered.read().expect("a plan");
    let mut at_one = graph.clone();
    infer::with_batch(&mut at_one, 1).expect("a batch of one");
    let mut values: HashMap<String, Tensor> = HashMap::new();
    let evaluator = Evaluator::new(&at_one).expect("an evaluator");
    let outputs = evaluator
        .run_with(std::slice::from_ref(row), &mut |index, made| {
            for (id, tensor) in at_one.nodes[index].outputs.iter().zip(made) {
                values.insert(at_one.value(*id).name.clone(), tensor.clone());
            }
            Ok(())
        })
        .expect("it runs");
    let input = row.as_f32().unwrap().as_slice().unwrap();

    let mut engine = Prepared::new(plan, &generic::TIER).expect("an engine");
    let mut reference: Vec<Vec<u8>> = Vec::new();
    let mut worst = (0, String::new());
    for (index, (op, layer)) in plan.ops().zip(&lowered.layers).enumerate() {
        for (tensor, maker) in op.inputs().zip(&layer.inputs) {
            match maker {
                Some(maker) if !reference[*maker].is_empty() => {
                    engine.arena()[tensor.range()].copy_from_slice(&reference[*maker]);
                }
                Some(_) => {}
                None => engine.set_input(input).expect("an input"),
            }
        }
        engine.run_op(index);
        let got = engine.arena()[op.output.range()].to_vec();
        if let Some(value) = &layer.value {
            let wanted = steps(&values[value], &layer.order, op.output.quant);
            let difference = largest_difference(&got, &wanted);
            assert!(difference <= 1, "{value} ({}): {difference} steps apart", op.code.name());
            if difference > worst.0 {
                worst = (difference, value.clone());
            }
            reference.push(wanted);
        } else {
            reference.push(got);
        }
    }

    engine.set_input(input).expect("an input");
    engine.run();
    let last = outputs[0].as_f32().expect("float output");
    let whole = if engine.output().is_empty() {
        let peak = last.iter().fold(1e-6f32, |peak, v| peak.max(v.abs()));
        let far = engine.float_output().iter().zip(last).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(far <= 0.1 * peak, "scores {far} apart of {peak}");
        format!("scores within {far:.4} of {peak:.3}")
    } else {
        let quant = plan.output().quant;
        let far =
            largest_difference(engine.output(), &steps(&outputs[0], &(0..last.ndim() - 1).collect::<Vec<_>>(), quant));
        assert!(far <= 12, "the embedding is {far} steps apart");
        format!("embedding within {far} steps")
    };
    let macs: u64 = plan.ops().map(|op| op.macs()).sum();
    let line = format!(
        "{} operators, {macs} MAC, plan {} B, arena {} B, layers within {}, {whole}",
        plan.len(),
        lowered.plan.len(),
        plan.arena_bytes(),
        worst.0
    );
    (plan.arena_bytes(), line)
}

/// Model, sample inputs, cut where it is not automatic, and the arena that CMSIS-NN needs for it.
const MODELS: [(&str, &str, Option<&str>, Option<usize>); 13] = [
    ("mlperf_tiny/dscnn_kws12", "dscnn_kws12", None, Some(16_000)),
    ("mlperf_tiny/dscnn_kws12_bn", "dscnn_kws12", None, Some(16_000)),
    ("mlperf_tiny/resnet8_cifar10", "resnet8_cifar10", None, Some(49_728)),
    ("mlperf_tiny/resnet8_cifar10_bn", "resnet8_cifar10", None, Some(49_728)),
    ("mlperf_tiny/mobilenetv1_025_vww", "mobilenetv1_025_vww", None, Some(55_296)),
    ("mlperf_tiny/mobilenetv1_025_vww_bn", "mobilenetv1_025_vww", None, Some(55_296)),
    ("mlperf_tiny/autoencoder_toycar", "autoencoder_toycar", None, Some(768)),
    ("mlperf_tiny/autoencoder_toycar_bn", "autoencoder_toycar", None, Some(768)),
    ("imagenet/mobilenet_v1_025_128", "mobilenet_v1_025_128", None, None),
    ("imagenet/squeezenet1_1", "squeezenet1_1", None, None),
    ("openwakeword/embedding_model", "oww_embedding", Some("conv2d_19"), None),
    ("imu/wand_conv1d", "wand_conv1d", None, None),
    ("mnist/mnist_cntk", "mnist_cntk", None, None),
];

fn model(shared: &Path, name: &str, samples: &str, cut: Option<&str>, arena: Option<usize>) {
    let rows = rows(&shared.join("sample_io").join(format!("{samples}.in.npy")));
    let graph = quantized(&shared.join(format!("{name}.onnx")), &rows, cut);
    let (whole, backbone) = (graph.outputs[0], *graph.outputs.last().expect("an output"));
    let (bytes, line) = check(&only(&graph, whole), &rows[0]);
    println!("{name}: {line}");
    if let Some(bound) = arena {
        assert!(bytes <= bound, "{name}: an arena of {bytes} bytes, CMSIS-NN needs {bound}");
    }
    if backbone != whole {
        println!("{name}, backbone: {}", check(&only(&graph, backbone), &rows[0]).1);
    }
}

#[test]
fn every_layer_is_within_a_step_of_onnx() {
    let Some(shared) = shared() else { return };
    for (name, samples, cut, arena) in MODELS {
        model(&shared, name, samples, cut, arena);
    }
}

#[test]
fn mobilenet_v2_lowers_whole() {
    let Some(shared) = shared() else { return };
    model(&shared, "imagenet/mobilenet_v2_100_224", "mobilenet_v2_100_224", None, None);
}

/// A small graph in int8, and a row of its input.
fn small_in_int8(mut small: Small, shape: &[usize], output: ValueId) -> (Graph, Tensor) {
    let shape: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
    let row = Tensor::from_f32(&shape, small.noise(shape.iter().product())).expect("a row");
    (in_int8(&small.finished(output), output, std::slice::from_ref(&row)), row)
}

/// Tensors that differ in rank alone are combined; two that stretch each other are refused.
#[test]
fn operands_that_differ_in_rank() {
    for op in [Op::Add, Op::Sub, Op::Mul] {
        for swapped in [false, true] {
            let (small, y) = Small::with_operands(op.clone(), &[1, 64], &[-1, 1, 1, 64], swapped);
            let (graph, row) = small_in_int8(small, &[1, 64], y);
            check(&graph, &row);
            let (small, y) = Small::with_operands(op.clone(), &[1, 64], &[-1, 1, 64, 1], swapped);
            let (graph, _) = small_in_int8(small, &[1, 64], y);
            let error = lower::int8(&graph).expect_err("64 × 64 values");
            assert_eq!(error.code(), "unsupported");
            assert!(error.to_string().contains("operands of [1, 64, 1] and [1, 64]"), "{error}");
        }
    }
}

/// A window of a plan has at most 255 a side.
#[test]
fn a_window_over_more_than_255_is_refused() {
    for op in [Op::GlobalMaxPool, Op::GlobalAveragePool] {
        for (size, fits) in [(255, true), (256, false)] {
            let shape = [2, size, 3];
            let mut small = Small::new(&shape);
            let y = small.node(op.clone(), &[small.input]);
            let (graph, row) = small_in_int8(small, &shape, y);
            if fits {
                check(&graph, &row);
                continue;
            }
            let error = lower::int8(&graph).expect_err("a window of 256");
            assert_eq!(error.code(), "unsupported");
            assert!(error.to_string().contains(&op.name()) && error.to_string().contains("256"), "{error}");
        }
    }
}
