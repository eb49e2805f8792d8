//! Models as plans in half precision: the answers stay close to the original's in f32, by our evaluator and by ONNX Runtime (its answers on
//! the shared models are recorded beside them), and weights take half the bytes.

#[path = "support/models.rs"]
mod models;
#[path = "support/small.rs"]
mod small;

use std::path::Path;

use half::f16;
use hone_export::graph::{self, Graph, Op, Tensor, ValueId, eval::Evaluator, infer};
use hone_export::lower::{self, HalfOutput};
use hone_export::quantize::fp16;
use hone_export::verify::before_softmax;
use hone_export::{onnx, split};
use hone_runtime::engine::Prepared;
use hone_runtime::kernels;
use hone_runtime::plan::Code;
use models::{rows, shared};
use small::Small;

/// Least ratio of signal to noise of scores before the softmax and of embeddings, in dB.
const LEAST_DB: f64 = 40.0;
/// How much noisier a plan may be than the graph whose every value is rounded to f16 where it is stored. Mostly it is less noisy; a quotient by
/// constants is a product with their reciprocals, which are rounded.
const LESS_THAN_ROUNDING_DB: f64 = 2.5;

/// The same of shares behind the softmax, against ONNX Runtime's.
const LEAST_DB_OF_SHARES: f64 = 30.0;

fn decibels(wanted: &[f32], got: &[f32]) -> f64 {
    assert_eq!(wanted.len(), got.len());
    let signal: f64 = wanted.iter().map(|x| f64::from(*x).powi(2)).sum();
    let noise: f64 = wanted.iter().zip(got).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    10.0 * (signal / noise.max(1e-30)).log10()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.as_f32().expect("floats").iter().copied().collect()
}

fn only(graph: &Graph, output: ValueId) -> Graph {
    let mut graph = graph.clone();
    graph.outputs = vec![output];
    graph
}

/// What a plan gives for every row.
fn run(lowered: &lower::Lowered, rows: &[Tensor]) -> Vec<Vec<f32>> {
    let plan = lowered.read().expect("a plan");
    let mut engine = Prepared::new(plan, kernels::best().expect("a tier")).expect("an engine");
    rows.iter()
        .map(|row| {
            engine.set_input(&floats(row)).expect("an input");
            engine.run();
            if engine.output().is_empty() {
                engine.float_output().to_vec()
            } else {
                engine.output().as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
            }
        })
        .collect()
}

/// The graph in f32 against its plan in f16; the ratio in dB over all rows.
fn compare(original: &Graph, gives: HalfOutput, rows: &[Tensor]) -> (lower::Lowered, f64) {
    let halved = fp16::convert(original).expect("half precision");
    let lowered = lower::fp16(&halved, gives).expect("the model lowers");
    let wanted = evaluated(original, rows);
    let db = decibels(&wanted, &run(&lowered, rows).concat());
    let rounded = decibels(&wanted, &evaluated(&halved, rows));
    assert!(db >= rounded - LESS_THAN_ROUNDING_DB, "{db:.1} dB, by rounding alone {rounded:.1}");
    (lowered, db)
}

/// The answers of a graph by our evaluator, in f32 or rounded to f16 as the graph says.
fn evaluated(graph: &Graph, rows: &[Tensor]) -> Vec<f32> {
    let mut at_one = graph.clone();
    infer::with_batch(&mut at_one, 1).expect("a batch of one");
    let evaluator = Evaluator::new(&at_one).expect("an evaluator");
    rows.iter().flat_map(|row| floats(&evaluator.run(std::slice::from_ref(row)).expect("it runs")[0])).collect()
}

/// Model, sample inputs, cut where it is not automatic.
const MODELS: [(&str, &str, Option<&str>); 14] = [
    ("mlperf_tiny/dscnn_kws12", "dscnn_kws12", None),
    ("mlperf_tiny/dscnn_kws12_bn", "dscnn_kws12", None),
    ("mlperf_tiny/resnet8_cifar10", "resnet8_cifar10", None),
    ("mlperf_tiny/resnet8_cifar10_bn", "resnet8_cifar10", None),
    ("mlperf_tiny/mobilenetv1_025_vww", "mobilenetv1_025_vww", None),
    ("mlperf_tiny/mobilenetv1_025_vww_bn", "mobilenetv1_025_vww", None),
    ("mlperf_tiny/autoencoder_toycar", "autoencoder_toycar", None),
    ("mlperf_tiny/autoencoder_toycar_bn", "autoencoder_toycar", None),
    ("imagenet/mobilenet_v1_025_128", "mobilenet_v1_025_128", None),
    ("imagenet/mobilenet_v2_100_224", "mobilenet_v2_100_224", None),
    ("imagenet/squeezenet1_1", "squeezenet1_1", None),
    ("openwakeword/embedding_model", "oww_embedding", Some("conv2d_19")),
    ("imu/wand_conv1d", "wand_conv1d", None),
    ("mnist/mnist_cntk", "mnist_cntk", None),
];

fn model(shared: &Path, name: &str, samples: &str, cut: Option<&str>) {
    let mut rows = rows(&shared.join("sample_io").join(format!("{samples}.in.npy")));
    let recorded = models::rows(&shared.join("sample_io").join(format!("{samples}.out.npy")));
    rows.truncate(3);
    let mut graph = onnx::read(&shared.join(format!("{name}.onnx"))).expect("a model");
    graph::simplify(&mut graph).expect("simplification");
    infer::make_batch_dynamic(&mut graph).expect("a batch");
    let embedding = match cut {
        Some(name) => graph.find(name).expect("the cut"),
        None => split::choose(&graph, None).map_or(graph.outputs[0], |split| split.cut.value),
    };
    let whole = graph.outputs[0];

    // Before the softmax, where the noise arises.
    let scores = before_softmax(&only(&graph, whole));
    let (lowered, db) = compare(&scores, HalfOutput::F32, &rows);
    let plan = lowered.read().unwrap();
    assert!(db >= LEAST_DB, "{name}: {db:.1} dB");
    let macs: u64 = plan.ops().map(|op| op.macs()).sum();
    let (bytes, arena) = (lowered.plan.len(), plan.arena_bytes());
    println!("{name}: {} operators, {macs} MAC, plan {bytes} B, arena {arena} B, scores {db:.1} dB", plan.len());
    // Nothing that a convolution or a dense layer can take is left beside it.
    assert!(plan.ops().all(|op| op.code != Code::Unary16 || name.contains("embedding_model")), "{name}");
    // Two bytes a weight; outputs are rounded up to 8, so that small models may have a little more.
    let weights: usize = plan.ops().map(|op| op.weights.len()).sum();
    let original: usize = scores
        .nodes
        .iter()
        .filter(|node| matches!(node.op, Op::Conv { .. } | Op::Gemm { .. } | Op::MatMul))
        .filter_map(|node| scores.constant(node.inputs.get(1).copied().flatten()))
        .map(Tensor::len)
        .sum();
    assert!(weights <= original * 2 + original / 4 + 2048, "{name}: {weights} bytes for {original} weights");

    // The whole model, softmax and all, against what ONNX Runtime gave.
    let lowered = lower::fp16(&fp16::convert(&only(&graph, whole)).unwrap(), HalfOutput::F32).expect("it lowers");
    for (got, wanted) in run(&lowered, &rows).iter().zip(&recorded) {
        let wanted = floats(wanted);
        let db = decibels(&wanted, got);
        // A softmax makes of one part in a thousand of its scores what their size is.
        assert!(db >= LEAST_DB_OF_SHARES, "{name}: {db:.1} dB of ONNX Runtime's answer");
    }
    if embedding != whole {
        let (_, db) = compare(&only(&graph, embedding), HalfOutput::F16, &rows);
        println!("{name}, backbone: {db:.1} dB");
        assert!(db >= LEAST_DB, "{name}, backbone: {db:.1} dB");
    }
}

#[test]
fn every_model_is_close_to_the_original() {
    let Some(shared) = shared() else { return };
    for (name, samples, cut) in MODELS {
        model(&shared, name, samples, cut);
    }
}

/// A sentence encoder has two inputs of integers: it is refused, and by name.
#[test]
fn what_cannot_be_lowered_is_refused() {
    let Some(shared) = shared() else { return };
    let mut graph = onnx::read(&shared.join("text/all_minilm_l6_v2_sub.onnx")).expect("a model");
    graph::simplify(&mut graph).expect("simplification");
    let error = lower::fp16(&fp16::convert(&graph).unwrap(), HalfOutput::F16).expect_err("two inputs");
    assert!(error.to_string().contains("one input"), "{error}");
}

#[test]
fn operators_that_are_refused() {
    let mut small = Small::new(&[4, 6]);
    let y = small.node(Op::ReduceSum { axes: vec![2], keepdims: true }, &[small.input]);
    let error = lower::fp16(&small.halved(y), HalfOutput::F16).expect_err("a sum");
    assert_eq!(error.code(), "unsupported");
    assert!(error.to_string().contains("ReduceSum"), "{error}");
    for op in [Op::GlobalMaxPool, Op::GlobalAveragePool] {
        let mut small = Small::new(&[2, 256, 3]);
        let y = small.node(op.clone(), &[small.input]);
        let error = lower::fp16(&small.halved(y), HalfOutput::F16).expect_err("a window of 256");
        assert_eq!(error.code(), "unsupported");
        assert!(
            error.to_string().contains(&format!("{}_0", op.name())) && error.to_string().contains("256"),
            "{error}"
        );
    }
}

impl Small {
    fn halved(&self, output: ValueId) -> Graph {
        fp16::convert(&self.finished(output)).expect("half precision")
    }

    /// The codes of the plan, whose answer is compared with the evaluator's.
    fn check(&mut self, output: ValueId, shape: &[usize], least_db: f64) -> Vec<Code> {
        let graph = self.finished(output);
        let count: usize = shape.iter().product();
        let all: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
        let rows: Vec<Tensor> = (0..3)
            .map(|_| {
                let data = self.noise(count).into_iter().map(|x| 3.0 * x).collect();
                Tensor::from_f32(&all, data).unwrap()
            })
            .collect();
        let (lowered, db) = compare(&graph, HalfOutput::F16, &rows);
        let codes: Vec<Code> = lowered.read().unwrap().ops().map(|op| op.code).collect();
        assert!(db >= least_db, "{db:.1} dB by {codes:?}");
        codes
    }
}

/// One layer of a transformer: attention of four heads, GELU by its error function, two normalizations.
#[test]
fn a_transformer_layer() {
    let (length, width, heads) = (6, 16, 4);
    let mut g = Small::new(&[length, width]);
    let x = g.input;
    let project = |g: &mut Small, x: ValueId, from: usize, to: usize| {
        let (w, b) = (g.constant(&[from, to]), g.constant(&[to]));
        let product = g.node(Op::MatMul, &[x, w]);
        g.node(Op::Add, &[product, b])
    };
    let split = |g: &mut Small, x: ValueId, perm: &[usize]| {
        let shape = g.integers(&[-1, length as i64, heads as i64, (width / heads) as i64]);
        let shaped = g.node(Op::Reshape { allow_zero: false }, &[x, shape]);
        g.node(Op::Transpose { perm: perm.to_vec() }, &[shaped])
    };
    let [q, k, v] = [(); 3].map(|()| project(&mut g, x, width, width));
    let q = split(&mut g, q, &[0, 2, 1, 3]);
    let k = split(&mut g, k, &[0, 2, 3, 1]);
    let v = split(&mut g, v, &[0, 2, 1, 3]);
    let scores = g.node(Op::MatMul, &[q, k]);
    let two = g.number(2.0);
    let scaled = g.node(Op::Div, &[scores, two]);
    let shares = g.node(Op::Softmax { axis: -1 }, &[scaled]);
    let mixed = g.node(Op::MatMul, &[shares, v]);
    let mixed = g.node(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[mixed]);
    let shape = g.integers(&[-1, length as i64, width as i64]);
    let mixed = g.node(Op::Reshape { allow_zero: false }, &[mixed, shape]);
    let mixed = project(&mut g, mixed, width, width);
    let sum = g.node(Op::Add, &[mixed, x]);
    let normalized = |g: &mut Small, x: ValueId| {
        let (scale, bias) = (g.constant(&[width]), g.constant(&[width]));
        g.node(Op::LayerNormalization { axis: -1, epsilon: 1e-5 }, &[x, scale, bias])
    };
    let attended = normalized(&mut g, sum);
    let inside = project(&mut g, attended, width, 3 * width);
    let root = g.number(std::f32::consts::SQRT_2);
    let divided = g.node(Op::Div, &[inside, root]);
    let erf = g.node(Op::Erf, &[divided]);
    let one = g.number(1.0);
    let above = g.node(Op::Add, &[erf, one]);
    let product = g.node(Op::Mul, &[inside, above]);
    let half = g.number(0.5);
    let gelu = g.node(Op::Mul, &[product, half]);
    let outside = project(&mut g, gelu, 3 * width, width);
    let sum = g.node(Op::Add, &[outside, attended]);
    let y = normalized(&mut g, sum);
    let codes = g.check(y, &[length, width], 50.0);
    let count = |code: Code| codes.iter().filter(|c| **c == code).count();
    assert_eq!(count(Code::Conv16), 6, "biases are merged: {codes:?}");
    assert_eq!(count(Code::MatMul16), 2, "{codes:?}");
    assert_eq!(count(Code::Mul16), 0, "GELU is one function: {codes:?}");
}

#[test]
fn activations_are_recognised_and_merged() {
    let shape = [3, 5, 7];
    // x · sigmoid(x) after a convolution.
    let mut g = Small::new(&shape);
    let w = g.constant(&[4, 3, 3, 3]);
    let window = graph::op::Window {
        kernel: vec![3, 3],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        padding: graph::op::Padding::Explicit(vec![1, 1, 1, 1]),
    };
    let conv = g.node(Op::Conv { window: window.clone(), group: 1 }, &[g.input, w]);
    let gate = g.node(Op::Sigmoid, &[conv]);
    let y = g.node(Op::Mul, &[conv, gate]);
    assert_eq!(g.check(y, &shape, 60.0)[..2], [Code::Conv16, Code::Unary16]);

    // A leaky ReLU with a floor.
    let mut g = Small::new(&shape);
    let leaky = g.node(Op::LeakyRelu { alpha: 0.2 }, &[g.input]);
    let floor = g.number(-0.4);
    let y = g.node(Op::Max, &[leaky, floor]);
    assert_eq!(g.check(y, &shape, 60.0).iter().filter(|code| **code == Code::Unary16).count(), 1);

    // A bias by channels, and a bound.
    let mut g = Small::new(&shape);
    let w = g.constant(&[4, 3, 3, 3]);
    let conv = g.node(Op::Conv { window, group: 1 }, &[g.input, w]);
    let bias = g.constant(&[4, 1, 1]);
    let biased = g.node(Op::Add, &[conv, bias]);
    let y = g.node(Op::Clip { min: -1.0, max: 1.5 }, &[biased]);
    assert_eq!(g.check(y, &shape, 60.0)[0], Code::Conv16);
}

#[test]
fn operands_of_every_kind() {
    let shape = [4, 5, 6];
    let mut cases: Vec<(&str, f64)> = Vec::new();
    for op in [Op::Add, Op::Sub, Op::Mul, Op::Div] {
        for slot in 0..2 {
            for constant in [&[4, 1, 1][..], &[6], &[1], &[1, 4, 1, 1]] {
                if op == Op::Div && slot == 0 {
                    continue;
                }
                let mut g = Small::new(&shape);
                let mut data = g.noise(constant.iter().product());
                data.iter_mut().for_each(|x| *x += 2.0);
                let c = g.graph.add_constant("c", Tensor::from_f32(constant, data).unwrap());
                let x = g.node(Op::Tanh, &[g.input]);
                let operands = if slot == 0 { [c, x] } else { [x, c] };
                let y = g.node(op.clone(), &operands);
                g.check(y, &shape, 55.0);
                cases.push(("constant", 0.0));
            }
        }
    }
    for op in [Op::Add, Op::Sub, Op::Mul] {
        for swapped in [false, true] {
            let mut g = Small::new(&shape);
            let mean = g.node(Op::GlobalAveragePool, &[g.input]);
            let x = g.node(Op::Tanh, &[g.input]);
            let operands = if swapped { [mean, x] } else { [x, mean] };
            let y = g.node(op.clone(), &operands);
            g.check(y, &shape, 55.0);
            cases.push(("tensor", 0.0));
        }
    }
    assert_eq!(cases.len(), 28 + 6);
}

/// Tensors that differ in rank alone are combined; two that stretch each other are refused.
#[test]
fn operands_that_differ_in_rank() {
    for op in [Op::Add, Op::Sub, Op::Mul] {
        for swapped in [false, true] {
            let (mut g, y) = Small::with_operands(op.clone(), &[1, 64], &[-1, 1, 1, 64], swapped);
            g.check(y, &[1, 64], 55.0);
            let (g, y) = Small::with_operands(op.clone(), &[1, 64], &[-1, 1, 64, 1], swapped);
            let error = lower::fp16(&g.halved(y), HalfOutput::F16).expect_err("64 × 64 values");
            assert_eq!(error.code(), "unsupported");
            assert!(error.to_string().contains("operands of [1, 64, 1] and [1, 64]"), "{error}");
        }
    }
}

/// What a constant makes no finite line of is refused, and not as another mistake than it is.
#[test]
fn constants_that_are_refused() {
    let refusal = |op: Op, constant: &[f32], constant_first: bool| {
        let mut g = Small::new(&[4, 6]);
        let ones = Tensor::from_f32(&[constant.len()], vec![1.0; constant.len()]).unwrap();
        let c = g.graph.add_constant("c", ones);
        let x = g.node(Op::Tanh, &[g.input]);
        let y = g.node(op, &if constant_first { [c, x] } else { [x, c] });
        let mut halved = g.halved(y);
        // Behind the conversion, which refuses what no f16 holds.
        for tensor in halved.values.iter_mut().filter_map(|value| value.constant.as_mut()) {
            if let Tensor::F16(data) = tensor {
                data.iter_mut().zip(constant).for_each(|(place, number)| *place = f16::from_f32(*number));
            }
        }
        let error = lower::fp16(&halved, HalfOutput::F16).expect_err("no such constant");
        assert_eq!(error.code(), "unsupported");
        error.to_string()
    };
    for op in [Op::Add, Op::Sub, Op::Mul] {
        for constant in [&[f32::INFINITY][..], &[f32::NAN], &[1.0, 2.0, f32::NEG_INFINITY, 3.0, 4.0, 5.0]] {
            for constant_first in [false, true] {
                let error = refusal(op.clone(), constant, constant_first);
                assert!(error.contains("a constant that is not finite"), "{error}");
            }
        }
    }
    assert!(refusal(Op::Div, &[0.0], false).contains("a division by 0"));
    assert!(refusal(Op::Div, &[f32::NAN], false).contains("not finite"));
    for constant in [&[2.0][..], &[f32::INFINITY], &[1.0; 6]] {
        assert!(refusal(Op::Div, constant, true).contains("a constant other than 1 divided by a tensor"));
    }
}
