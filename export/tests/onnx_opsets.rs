//! One normal form for the models of opset 7 to 21, and the form of the target opset back.

#[path = "support/onnx.rs"]
mod build;

use build::{float, floats, int, int_tensor, ints, model, node, save, string, tensor, tensor_attribute};
use hone_export::graph::op::{Padding, Window};
use hone_export::graph::{DType, Dim, Graph, Op, Tensor};
use hone_export::onnx::{self, WriteOptions};
use tract_onnx::pb;

fn read(model: &pb::ModelProto) -> Graph {
    let folder = tempfile::tempdir().expect("a temporary folder");
    onnx::read(&save(folder.path(), "m.onnx", model)).expect("a good model")
}

/// The graph of one node over `x`.
fn one(opset: i64, input: &[i64], node: pb::NodeProto, constants: Vec<pb::TensorProto>) -> Graph {
    read(&model(opset, input, vec![node], constants))
}

/// The only operator of a model, which must not depend on the opset it is written with.
fn op_of(forms: Vec<(i64, pb::NodeProto, Vec<pb::TensorProto>)>) -> Op {
    let mut ops = Vec::new();
    for (opset, node, constants) in forms {
        let graph = one(opset, &[0, 3, 8, 8], node, constants);
        assert_eq!(graph.nodes.len(), 1, "opset {opset}");
        for target in [13, 18, 21] {
            let again = rewrite(&graph, Some(target));
            assert_eq!(graph.nodes[0].op, again.nodes[0].op, "opset {opset} to {target}");
        }
        ops.push(graph.nodes[0].op.clone());
    }
    let first = ops[0].clone();
    assert!(ops.iter().all(|op| *op == first), "{ops:?}");
    first
}

fn rewrite(graph: &Graph, opset: Option<i64>) -> Graph {
    let options = WriteOptions { opset, ..WriteOptions::default() };
    let bytes = onnx::encode(graph, &options).expect("a graph that can be written");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, bytes).expect("the test's own folder is writable");
    onnx::read(&path).expect("what was written can be read")
}

#[test]
fn clip_bounds_are_attributes_or_inputs() {
    let op = op_of(vec![
        (7, node("Clip", &["x"], &["y"], vec![float("min", 0.0), float("max", 6.0)]), vec![]),
        (11, node("Clip", &["x", "a", "b"], &["y"], vec![]), vec![tensor("a", &[], &[0.0]), tensor("b", &[1], &[6.0])]),
    ]);
    assert_eq!(op, Op::Clip { min: 0.0, max: 6.0 });
    let op = op_of(vec![
        (10, node("Clip", &["x"], &["y"], vec![float("max", 6.0)]), vec![]),
        (13, node("Clip", &["x", "", "b"], &["y"], vec![]), vec![tensor("b", &[], &[6.0])]),
    ]);
    assert_eq!(op, Op::Clip { min: f32::NEG_INFINITY, max: 6.0 });
}

#[test]
fn computed_clip_bounds_become_max_and_min() {
    let nodes = vec![
        node("ReduceMax", &["x"], &["top"], vec![int("keepdims", 0)]),
        node("Clip", &["x", "w", "top"], &["y"], vec![]),
    ];
    let graph = read(&model(13, &[0, 4], nodes, vec![tensor("w", &[], &[-1.0])]));
    assert_eq!(graph.nodes[1..].iter().map(|n| &n.op).collect::<Vec<_>>(), [&Op::Max, &Op::Min]);
}

#[test]
fn axes_are_attributes_or_inputs() {
    let axes = || vec![int_tensor("a", &[2, 3])];
    let forms = |op: &str, since: i64, extra: Vec<pb::AttributeProto>| {
        let old = [vec![ints("axes", &[2, 3])], extra.clone()].concat();
        vec![
            (7, node(op, &["x"], &["y"], old.clone()), vec![]),
            (since - 1, node(op, &["x"], &["y"], old), vec![]),
            (since, node(op, &["x", "a"], &["y"], extra), axes()),
        ]
    };
    assert_eq!(op_of(forms("Squeeze", 13, vec![])), Op::Squeeze { axes: vec![2, 3] });
    assert_eq!(op_of(forms("Unsqueeze", 13, vec![])), Op::Unsqueeze { axes: vec![2, 3] });
    let keep = || vec![int("keepdims", 0)];
    assert_eq!(op_of(forms("ReduceSum", 13, keep())), Op::ReduceSum { axes: vec![2, 3], keepdims: false });
    assert_eq!(op_of(forms("ReduceMean", 18, keep())), Op::ReduceMean { axes: vec![2, 3], keepdims: false });
    assert_eq!(op_of(forms("ReduceMax", 18, vec![])), Op::ReduceMax { axes: vec![2, 3], keepdims: true });
    let noop = node("ReduceMean", &["x"], &["y"], vec![int("noop_with_empty_axes", 1)]);
    assert_eq!(op_of(vec![(18, noop, vec![])]), Op::Identity);
}

#[test]
fn pads_are_attributes_or_inputs() {
    let amounts = [0, 0, 1, 2, 0, 0, 3, 4];
    let op = op_of(vec![
        (7, node("Pad", &["x"], &["y"], vec![ints("pads", &amounts), float("value", 0.5)]), vec![]),
        (
            11,
            node("Pad", &["x", "p", "v"], &["y"], vec![string("mode", "constant")]),
            vec![int_tensor("p", &amounts), tensor("v", &[], &[0.5])],
        ),
        (
            18,
            node("Pad", &["x", "p", "v", "a"], &["y"], vec![]),
            vec![int_tensor("p", &[1, 2, 3, 4]), tensor("v", &[], &[0.5]), int_tensor("a", &[2, -1])],
        ),
    ]);
    assert_eq!(op, Op::Pad { amounts: vec![0, 0, 1, 2, 0, 0, 3, 4], value: 0.5 });
    let edge = vec![string("mode", "edge"), ints("pads", &amounts)];
    let op = op_of(vec![(10, node("Pad", &["x"], &["y"], edge), vec![])]);
    assert_eq!(op, Op::PadMode { amounts: vec![0, 0, 1, 2, 0, 0, 3, 4], mode: "edge".into() });
}

#[test]
fn windows_have_their_defaults() {
    let op = op_of(vec![(7, node("Conv", &["x", "w"], &["y"], vec![]), vec![tensor("w", &[2, 3, 1, 5], &[0.0; 30])])]);
    let window = |kernel: [usize; 2], padding| Window {
        kernel: kernel.to_vec(),
        strides: vec![1, 1],
        dilations: vec![1, 1],
        padding,
    };
    assert_eq!(op, Op::Conv { window: window([1, 5], Padding::Explicit(vec![0; 4])), group: 1 });
    let pool = |mode: &str| {
        let attributes = vec![ints("kernel_shape", &[3, 3]), string("auto_pad", mode)];
        op_of(vec![(8, node("MaxPool", &["x"], &["y"], attributes), vec![])])
    };
    for (mode, padding) in [
        ("NOTSET", Padding::Explicit(vec![0; 4])),
        ("VALID", Padding::Explicit(vec![0; 4])),
        ("SAME_UPPER", Padding::SameUpper),
        ("SAME_LOWER", Padding::SameLower),
    ] {
        assert_eq!(pool(mode), Op::MaxPool { window: window([3, 3], padding), ceil: false });
    }
    let ceil = vec![ints("kernel_shape", &[3, 3]), int("ceil_mode", 1), int("count_include_pad", 1)];
    let op = op_of(vec![(10, node("AveragePool", &["x"], &["y"], ceil), vec![])]);
    let window = window([3, 3], Padding::Explicit(vec![0; 4]));
    assert_eq!(op, Op::AveragePool { window, ceil: true, count_include_pad: true });
    let line = one(
        11,
        &[1, 6, 119],
        node("Conv", &["x", "w"], &["y"], vec![ints("pads", &[1, 1])]),
        vec![tensor("w", &[1, 6, 3], &[0.0; 18])],
    );
    assert!(matches!(&line.nodes[0].op, Op::Conv { window, .. } if window.kernel == [3]));
}

#[test]
fn softmax_below_13_flattens() {
    let soft = |axis| node("Softmax", &["x"], &["y"], vec![int("axis", axis)]);
    let ops = |graph: &Graph| graph.nodes.iter().map(|n| n.op.clone()).collect::<Vec<_>>();
    assert_eq!(ops(&one(11, &[0, 10], soft(1), vec![])), [Op::Softmax { axis: -1 }]);
    assert_eq!(ops(&one(11, &[0, 10], node("Softmax", &["x"], &["y"], vec![]), vec![])), [Op::Softmax { axis: -1 }]);
    assert_eq!(ops(&one(7, &[0, 10, 1, 1], soft(1), vec![])), [Op::Softmax { axis: 1 }]);
    assert_eq!(ops(&one(13, &[0, 10, 4], soft(1), vec![])), [Op::Softmax { axis: 1 }]);
    let flattened = [
        Op::Shape { start: 0, end: None },
        Op::Flatten { axis: 1 },
        Op::Softmax { axis: -1 },
        Op::Reshape { allow_zero: false },
    ];
    assert_eq!(ops(&one(11, &[0, 10, 4], soft(1), vec![])), flattened);
    assert_eq!(ops(&one(11, &[0, 10, 4], soft(-2), vec![])), flattened);
}

#[test]
fn what_became_an_input_is_a_constant_input() {
    let slice = one(
        9,
        &[0, 8],
        node("Slice", &["x"], &["y"], vec![ints("starts", &[1]), ints("ends", &[3]), ints("axes", &[1])]),
        vec![],
    );
    let inputs = &slice.nodes[0].inputs;
    let values: Vec<_> = inputs[1..].iter().map(|&id| slice.constant(id).cloned()).collect();
    assert_eq!(values, [1, 3, 1].map(|i| Some(Tensor::from_i64(vec![i]))));
    let scales = [1.0, 1.0, 2.0, 2.0];
    let resizes = [
        one(7, &[0, 3, 4, 4], node("Upsample", &["x"], &["y"], vec![floats("scales", &scales)]), vec![]),
        one(9, &[0, 3, 4, 4], node("Upsample", &["x", "s"], &["y"], vec![]), vec![tensor("s", &[4], &scales)]),
        one(10, &[0, 3, 4, 4], node("Resize", &["x", "s"], &["y"], vec![]), vec![tensor("s", &[4], &scales)]),
        one(
            11,
            &[0, 3, 4, 4],
            node(
                "Resize",
                &["x", "r", "s"],
                &["y"],
                vec![string("coordinate_transformation_mode", "asymmetric"), string("nearest_mode", "floor")],
            ),
            vec![tensor("r", &[0], &[]), tensor("s", &[4], &scales)],
        ),
    ];
    for graph in &resizes {
        let node = &graph.nodes[0];
        assert_eq!(node.op, resizes[0].nodes[0].op);
        assert_eq!((node.inputs.len(), node.inputs[1]), (3, None));
        assert_eq!(graph.constant(node.inputs[2]), Tensor::from_f32(&[4], scales.to_vec()).as_ref());
    }
    let split = op_of_outputs(7, vec![ints("split", &[1, 2])], vec![]);
    assert_eq!(split, op_of_outputs(13, vec![], vec![int_tensor("s", &[1, 2])]));
    assert_eq!(split, Op::Split { axis: 0, sizes: vec![1, 2] });
}

fn op_of_outputs(opset: i64, attributes: Vec<pb::AttributeProto>, constants: Vec<pb::TensorProto>) -> Op {
    let inputs: &[&str] = if constants.is_empty() { &["x"] } else { &["x", "s"] };
    one(opset, &[3, 4], node("Split", inputs, &["y", "z"], attributes), constants).nodes[0].op.clone()
}

#[test]
fn dropout_and_batch_normalization_are_inference() {
    let graph = one(7, &[0, 3, 8, 8], node("Dropout", &["x"], &["y", "mask"], vec![float("ratio", 0.3)]), vec![]);
    assert_eq!((&graph.nodes[0].op, graph.nodes[0].outputs.len()), (&Op::Identity, 1));
    let channel = |name: &str| tensor(name, &[3], &[1.0; 3]);
    let constants: Vec<_> = ["s", "b", "m", "v"].into_iter().map(channel).collect();
    let bn = |attributes| node("BatchNormalization", &["x", "s", "b", "m", "v"], &["y"], attributes);
    let op = op_of(vec![
        (7, bn(vec![int("spatial", 1), float("momentum", 0.99), float("epsilon", 0.5)]), constants.clone()),
        (15, bn(vec![int("training_mode", 0), float("epsilon", 0.5)]), constants),
    ]);
    assert_eq!(op, Op::BatchNormalization { epsilon: 0.5 });
}

#[test]
fn constants_initializers_and_order() {
    // IR 3 lists initializers as inputs; the nodes come in the wrong order; a constant is made by a node.
    let constant =
        node("Constant", &[], &["c"], vec![tensor_attribute("value", tensor("", &[1, 3], &[1.0, 2.0, 3.0]))]);
    let nodes = vec![node("Add", &["a", "w"], &["y"], vec![]), node("Mul", &["x", "c"], &["a"], vec![]), constant];
    let mut model = model(7, &[0, 3], nodes, vec![tensor("w", &[3], &[0.5; 3])]);
    model.graph.as_mut().unwrap().input.push(build::info("w", &[3]));
    let graph = read(&model);
    let names: Vec<_> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["the_mul", "the_add"]);
    assert_eq!(graph.inputs.len(), 1);
    assert_eq!(graph.value(graph.inputs[0]).shape, Some(vec![Dim::Symbol("N".into()), Dim::Fixed(3)]));
    assert_eq!(graph.constant(graph.find("c")), Tensor::from_f32(&[1, 3], vec![1.0, 2.0, 3.0]).as_ref());
    let chain = read(&build::model(13, &[3], vec![node("Sum", &["x", "x", "x"], &["y"], vec![])], vec![]));
    assert_eq!(chain.nodes.iter().map(|n| &n.op).collect::<Vec<_>>(), [&Op::Add, &Op::Add]);
}

#[test]
fn every_field_of_a_tensor() {
    let typed = |data_type: i32, fill: &dyn Fn(&mut pb::TensorProto)| {
        let mut proto = pb::TensorProto { name: "w".into(), dims: vec![2], data_type, ..Default::default() };
        fill(&mut proto);
        let graph = one(13, &[2], node("Custom", &["x", "w"], &["y"], vec![]), vec![proto]);
        graph.constant(graph.find("w")).cloned().expect("the constant")
    };
    let half = half::f16::from_f32(1.5);
    assert_eq!(typed(1, &|t| t.float_data = vec![1.5, -2.0]), Tensor::from_f32(&[2], vec![1.5, -2.0]).unwrap());
    assert_eq!(typed(7, &|t| t.int64_data = vec![-1, 1 << 40]), Tensor::from_i64(vec![-1, 1 << 40]));
    assert_eq!(typed(11, &|t| t.double_data = vec![1.5, 2.5]), Tensor::F64(ndarray::arr1(&[1.5, 2.5]).into_dyn()));
    let narrow = |a: i32, b: i32| move |t: &mut pb::TensorProto| t.int32_data = vec![a, b];
    assert_eq!(typed(6, &narrow(-7, 8)), Tensor::I32(ndarray::arr1(&[-7, 8]).into_dyn()));
    assert_eq!(typed(3, &narrow(-128, 127)), Tensor::I8(ndarray::arr1(&[-128, 127]).into_dyn()));
    assert_eq!(typed(2, &narrow(0, 255)), Tensor::U8(ndarray::arr1(&[0, 255]).into_dyn()));
    assert_eq!(typed(9, &narrow(0, 1)), Tensor::Bool(ndarray::arr1(&[false, true]).into_dyn()));
    let bits = i32::from(half.to_bits());
    assert_eq!(typed(10, &narrow(bits, bits)), Tensor::F16(ndarray::arr1(&[half, half]).into_dyn()));
    assert_eq!(typed(3, &|t| t.raw_data = vec![0x80, 0x7f]), Tensor::I8(ndarray::arr1(&[-128, 127]).into_dyn()));
}

#[test]
fn other_operators_come_back_unchanged() {
    let mut proto = node(
        "Gelu",
        &["x", "", "w"],
        &["y"],
        vec![int("i", 1), string("s", "t"), floats("f", &[0.5]), tensor_attribute("t", tensor("", &[1], &[2.0]))],
    );
    proto.domain = "com.microsoft".into();
    let mut model = model(17, &[4], vec![proto], vec![tensor("w", &[1], &[1.0])]);
    model.opset_import.push(pb::OperatorSetIdProto { domain: "com.microsoft".into(), version: 1 });
    let graph = read(&model);
    let again = rewrite(&graph, None);
    assert_eq!(graph.nodes[0].op, again.nodes[0].op);
    assert_eq!((again.opset, again.nodes[0].inputs.len(), again.nodes[0].inputs[1]), (17, 3, None));
    // What cannot be carried over to a newer opset is named.
    let old = one(9, &[4], node("Hardmax", &["x"], &["y"], vec![]), vec![]);
    let error = onnx::encode(&old, &WriteOptions::default()).expect_err("Hardmax changed its meaning in opset 13");
    assert!(error.to_string().contains("the_hardmax"), "{error}");
}

#[test]
fn the_opset_is_raised_where_a_node_needs_it() {
    let graph = |op, inputs: &[&str], constants| one(21, &[4], node(op, inputs, &["y"], vec![]), constants);
    let norm = graph("LayerNormalization", &["x", "w"], vec![tensor("w", &[4], &[1.0; 4])]);
    let relu = one(9, &[4], node("Relu", &["x"], &["y"], vec![]), vec![]);
    assert_eq!(rewrite(&relu, None).opset, 13);
    assert_eq!(rewrite(&norm, None).opset, 18);
    let low = WriteOptions { opset: Some(13), ..WriteOptions::default() };
    assert!(onnx::encode(&norm, &low).expect_err("LayerNormalization needs 17").to_string().contains("opset 17"));
    let out = WriteOptions { opset: Some(12), ..WriteOptions::default() };
    assert_eq!(onnx::encode(&relu, &out).expect_err("below 13").code(), "setting");
    let scale = pb::TensorProto { data_type: 10, raw_data: vec![0, 0x3c], ..tensor("s", &[], &[]) };
    let zero = pb::TensorProto { data_type: 3, raw_data: vec![0], ..tensor("z", &[], &[]) };
    let mut quantize =
        model(19, &[4], vec![node("QuantizeLinear", &["x", "s", "z"], &["y"], vec![])], vec![scale, zero]);
    quantize.graph.as_mut().unwrap().output[0] = {
        let mut info = build::info("y", &[4]);
        if let Some(pb::type_proto::Value::TensorType(t)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) {
            t.elem_type = 3;
        }
        info
    };
    let quantize = rewrite(&read(&quantize), None);
    assert_eq!((quantize.opset, quantize.value(quantize.outputs[0]).dtype), (19, Some(DType::I8)));
}

#[test]
fn writing_is_complete_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("m.onnx");
    let graph = one(13, &[4], node("Relu", &["x"], &["y"], vec![]), vec![]);
    onnx::write(&graph, &path, &WriteOptions::default()).expect("a new file");
    let first = std::fs::read(&path).expect("it is there");
    assert_eq!(onnx::write(&graph, &path, &WriteOptions::default()).expect_err("it exists").code(), "exists");
    onnx::write(&graph, &path, &WriteOptions { overwrite: true, ..WriteOptions::default() }).expect("replaced");
    assert_eq!(std::fs::read(&path).expect("it is there"), first, "the same graph, the same bytes");
    let mut broken = graph;
    broken.nodes.clear();
    let other = folder.path().join("other.onnx");
    assert!(onnx::write(&broken, &other, &WriteOptions::default()).is_err());
    let absent = folder.path().join("absent/m.onnx");
    assert_eq!(
        onnx::write(&broken, &absent, &WriteOptions::default()).expect_err("no such folder").code(),
        "invalid-model"
    );
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1, "nothing half-written stays");
}
