//! Promise 7, after reading: what a model asks to be folded, merged or evaluated costs bounded time and memory.
//!
//! Memory is asserted, time printed: it is bounded by a count of operations, whose effect is asserted instead.
#![allow(unsafe_code, reason = "the allocator that measures")]

#[path = "support/onnx.rs"]
mod build;
#[path = "support/memory.rs"]
mod memory;

use std::path::Path;
use std::time::Instant;

use build::{int, int_tensor, ints, model, node, save, tensor};
use hone_export::data::{Options, npy};
use hone_export::graph::cost::Limit;
use hone_export::graph::{Graph, simplify};
use hone_export::pipeline::{self, Precision, Preset, Request};
use hone_export::{Error, inspect, onnx, quantize};
use tract_onnx::pb;

/// Reads and simplifies a model within the memory bound.
fn simplified(case: &str, proto: &pb::ModelProto) -> Result<Graph, Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = save(folder.path(), "m.onnx", proto);
    let _alone = memory::alone();
    let start = Instant::now();
    let (result, peak) = memory::peak_of(|| {
        let mut graph = onnx::read(&path)?;
        simplify(&mut graph).map(|_| graph)
    });
    let file_bytes = std::fs::metadata(&path).expect("just written").len();
    let left = result.as_ref().map_or(0, |graph| graph.nodes.len());
    println!("{case}: {file_bytes} bytes, {left} nodes left, {} ms, peak {peak}", start.elapsed().as_millis());
    assert!(peak < memory::MEMORY_LIMIT_BYTES, "{case}: {peak} bytes");
    result
}

/// How many of the nodes `op` are left.
fn left(case: &str, proto: &pb::ModelProto, op: &str) -> usize {
    let graph = simplified(case, proto).expect("nothing contradicts itself");
    graph.nodes.iter().filter(|n| n.op.name() == op).count()
}

/// `y = x + max(last)`, so that all before it counts.
fn output(nodes: &mut Vec<pb::NodeProto>, last: &str) {
    nodes.push(node("ReduceMax", &[last], &["top"], vec![int("keepdims", 0)]));
    nodes.push(node("Add", &["x", "top"], &["y"], vec![]));
}

#[test]
fn products_of_constants() {
    let mut nodes = vec![node("ConstantOfShape", &["side"], &["m0"], vec![])];
    for i in 0..2000 {
        nodes.push(node("MatMul", &[&format!("m{i}"), "m0"], &[&format!("m{}", i + 1)], vec![]));
    }
    output(&mut nodes, "m2000");
    let proto = model(13, &[0, 4], nodes, vec![int_tensor("side", &[512, 512])]);
    let graph = simplified("2000 products of 512 x 512", &proto).expect("nothing contradicts itself");
    assert!(graph.nodes.len() > 1990, "{} nodes left", graph.nodes.len());
}

#[test]
fn many_constants_of_moderate_size() {
    let mut nodes = Vec::new();
    for i in 0..5000 {
        nodes.push(node("ConstantOfShape", &["side"], &[&format!("c{i}")], vec![]));
        let sum = if i == 0 { "c0".to_owned() } else { format!("s{}", i - 1) };
        nodes.push(node("Mul", &[&sum, &format!("c{i}")], &[&format!("s{i}")], vec![]));
    }
    output(&mut nodes, "s4999");
    let proto = model(13, &[0, 4], nodes, vec![int_tensor("side", &[1, 200_000])]);
    assert!(left("5000 constants of 800 KB", &proto, "ConstantOfShape") > 4900);
}

#[test]
fn a_constant_that_doubles() {
    let mut nodes = vec![node("ConstantOfShape", &["side"], &["c0"], vec![])];
    for i in 0..23 {
        let (from, to) = (format!("c{i}"), format!("c{}", i + 1));
        nodes.push(node("Concat", &[&from, &from], &[&to], vec![int("axis", 0)]));
    }
    output(&mut nodes, "c23");
    let proto = model(13, &[0, 4], nodes.clone(), vec![int_tensor("side", &[2])]);
    assert!(left("a constant doubled 23 times", &proto, "Concat") > 0);
    nodes.truncate(24);
    nodes.push(node("Concat", &["c23", "c23"], &["c24"], vec![int("axis", 0)]));
    output(&mut nodes, "c24");
    let proto = model(13, &[0, 4], nodes, vec![int_tensor("side", &[2])]);
    let error = simplified("a constant doubled 24 times", &proto).expect_err("2^25 elements");
    assert_eq!(error.code(), "invalid-model");
}

#[test]
fn windows_over_constants() {
    let mut nodes = vec![node("ConstantOfShape", &["image"], &["c0"], vec![])];
    for i in 0..50 {
        let window = vec![ints("kernel_shape", &[255, 255]), ints("pads", &[127; 4])];
        nodes.push(node("MaxPool", &[&format!("c{i}")], &[&format!("c{}", i + 1)], window));
    }
    output(&mut nodes, "c50");
    let proto = model(13, &[0, 4], nodes, vec![int_tensor("image", &[1, 1, 500, 500])]);
    assert_eq!(left("50 poolings of 255 x 255", &proto, "MaxPool"), 50);
}

#[test]
fn weights_that_thousands_of_layers_share() {
    let mut nodes = Vec::new();
    for i in 0..3000 {
        let x = if i == 0 { "x".to_owned() } else { format!("b{}", i - 1) };
        nodes.push(node("Conv", &[&x, "w"], &[&format!("a{i}")], vec![]));
        nodes.push(node("Mul", &[&format!("a{i}"), "factor"], &[&format!("b{i}")], vec![]));
    }
    nodes.push(node("Relu", &["b2999"], &["y"], vec![]));
    let weights = vec![tensor("w", &[256, 256, 1, 1], &vec![0.01; 1 << 16]), tensor("factor", &[1], &[2.0])];
    assert!(left("3000 scales into one weight", &model(13, &[0, 256, 2, 2], nodes, weights), "Mul") > 2500);
}

#[test]
fn one_weight_scaled_thousands_of_times() {
    let mut nodes = vec![node("Conv", &["x", "w"], &["a0"], vec![])];
    for i in 0..20_000 {
        nodes.push(node("Mul", &[&format!("a{i}"), "factor"], &[&format!("a{}", i + 1)], vec![]));
    }
    nodes.push(node("Relu", &["a20000"], &["y"], vec![]));
    let weights = vec![tensor("w", &[1024, 512, 1, 1], &vec![0.01; 1 << 19]), tensor("factor", &[1], &[1.01])];
    assert!(left("20000 scales into one weight", &model(13, &[0, 512, 2, 2], nodes, weights), "Mul") > 19_900);
}

#[test]
fn equal_names_by_the_thousand() {
    let mut nodes = Vec::new();
    for i in 0..5_000 {
        let x = if i == 0 { "x".to_owned() } else { format!("r{}", i - 1) };
        let (size, target, y) = (format!("n{i}"), format!("t{i}"), format!("r{i}"));
        // The target follows the batch: each gets a constant of its own, called after the node.
        nodes.push(node("Shape", &[&x], &[&size], vec![]));
        nodes.push(node("Slice", &[&size, "zero", "one"], &[&format!("b{i}")], vec![]));
        let tail = if i % 2 == 0 { "two_two" } else { "four" };
        nodes.push(node("Concat", &[&format!("b{i}"), tail], &[&target], vec![int("axis", 0)]));
        nodes.push(node("Reshape", &[&x, &target], &[&y], vec![]));
    }
    nodes.push(node("Relu", &["r4999"], &["y"], vec![]));
    let integers =
        [("zero", &[0][..]), ("one", &[1]), ("two_two", &[2, 2]), ("four", &[4])].map(|(n, v)| int_tensor(n, v));
    let proto = model(13, &[0, 4], nodes, integers.to_vec());
    match simplified("5000 reshapes called the same", &proto) {
        Ok(_) | Err(Error::TooLarge { .. }) => {}
        Err(other) => panic!("nothing contradicts itself: {other}"),
    }
}

/// A dense layer over a sequence: 2^14 positions × 1024 × 1024 = 17.2 G multiply-accumulates, weights made by ConstantOfShape.
fn seventeen_giga() -> pb::ModelProto {
    let nodes = vec![node("ConstantOfShape", &["side"], &["w"], vec![]), node("MatMul", &["x", "w"], &["y"], vec![])];
    model(13, &[0, 16_384, 1024], nodes, vec![int_tensor("side", &[1024, 1024])])
}

fn request(folder: &Path, limit: Limit) -> Request {
    Request {
        model: folder.join("m.onnx"),
        calibration: folder.join("x.npy"),
        data: Options::default(),
        preprocess: "none".parse().expect("a preprocessing record"),
        vocabulary: None,
        out: folder.join("out"),
        name: None,
        cut: None,
        preset: Preset::Generic,
        precision: Precision::Int8,
        fixed_batch: false,
        quantize: quantize::Options::default(),
        calibration_rows: 1,
        least_agreement: 0.0,
        model_classes: None,
        limit,
        force: false,
    }
}

fn refused(folder: &Path, limit: Limit) -> Error {
    pipeline::run(&request(folder, limit), &mut |_, _, _| {}).expect_err("refused")
}

#[test]
fn a_small_model_of_seventeen_giga_is_refused_before_it_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = save(folder.path(), "m.onnx", &seventeen_giga());
    assert!(std::fs::metadata(&path).expect("just written").len() < 300);
    let error = refused(folder.path(), Limit::default());
    assert_eq!(error.code(), "too-costly");
    let text = error.to_string();
    assert!(text.contains("17") && text.contains("the limit is 8000000000") && text.contains("the_matmul"), "{text}");
    // With a higher limit the export goes on, to whatever else there is to say against this model.
    assert_ne!(refused(folder.path(), Limit::of_giga(20.0).expect("within 0..=100")).code(), "too-costly");
    assert_eq!(Limit::of_giga(100.1).expect_err("too high").code(), "setting");
    let shown = inspect::inspect(&path).expect("inspecting evaluates nothing");
    assert!(shown.too_costly.is_some_and(|why| why.contains("the_matmul")));
}

#[test]
fn activations_and_moves_count_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut nodes = Vec::new();
    for i in 0..300 {
        let x = if i == 0 { "x".to_owned() } else { format!("a{}", i - 1) };
        nodes.push(node("Sigmoid", &[&x], &[&format!("a{i}")], vec![]));
    }
    nodes.push(node("Sigmoid", &["a299"], &["y"], vec![]));
    save(folder.path(), "m.onnx", &model(13, &[0, 1 << 22], nodes, vec![]));
    let error = refused(folder.path(), Limit::default());
    assert_eq!(error.code(), "too-costly");
    let error = refused(folder.path(), Limit { operations: u64::MAX, ..Limit::default() });
    assert!(error.to_string().contains("bytes of activations"), "{error}");
}

#[test]
fn a_size_that_depends_on_the_data_has_no_bound() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let nodes = vec![
        node("ReduceMax", &["x"], &["top"], vec![int("keepdims", 0)]),
        node("Cast", &["top"], &["n"], vec![int("to", 7)]),
        node("Range", &["zero", "n", "one"], &["r"], vec![]),
        node("Cast", &["r"], &["y"], vec![int("to", 1)]),
    ];
    let scalar = |name: &str, v: i64| pb::TensorProto { dims: vec![], ..int_tensor(name, &[v]) };
    save(folder.path(), "m.onnx", &model(13, &[0, 4], nodes, vec![scalar("zero", 0), scalar("one", 1)]));
    let error = refused(folder.path(), Limit::default());
    assert_eq!(error.code(), "unsupported");
    assert!(error.to_string().contains("the_range"), "{error}");
}

/// A layer of 2^18 inputs and 2 outputs has 2^36 second moments: it is rounded without them.
#[test]
fn a_layer_too_wide_for_its_moments_is_rounded_to_nearest() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let width = 1usize << 18;
    let weights: Vec<f32> = (0..2 * width).map(|i| (i % 7) as f32 - 3.0).collect();
    let nodes = vec![node("Gemm", &["x", "w"], &["h"], vec![]), node("MatMul", &["h", "v"], &["y"], vec![])];
    let square = tensor("v", &[2, 2], &[1.0, 0.5, -0.5, 1.0]);
    save(
        folder.path(),
        "m.onnx",
        &model(13, &[0, width as i64], nodes, vec![tensor("w", &[width as i64, 2], &weights), square]),
    );
    let rows: Vec<f32> = (0..4 * width).map(|i| (i % 11) as f32 / 11.0).collect();
    npy::write(folder.path().join("x.npy"), &[4, width], &rows).expect("the test's own folder is writable");
    let _alone = memory::alone();
    let settings = Request { cut: Some("h".into()), calibration_rows: 4, ..request(folder.path(), Limit::default()) };
    let (outcome, peak) = memory::peak_of(|| pipeline::run(&settings, &mut |_, _, _| {}));
    let outcome = outcome.expect("exported");
    println!("peak {peak} bytes, {:?}", outcome.agreement);
    assert!(outcome.agreement.cosine > 0.999, "{:?}", outcome.agreement);
    assert!(peak < 3 * memory::MEMORY_LIMIT_BYTES, "{peak}");
}
