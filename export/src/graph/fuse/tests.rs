//! Every rewrite leaves the outputs as they were, and leaves what it says.

use super::*;
use crate::graph::{
    Op, Tensor,
    testing::{Builder, assert_close, noise, noisy, ops, run, tensor, window},
};

/// Simplifies, compares outputs before and after, and gives the operators that are left.
fn simplified(mut graph: Graph, input: &Tensor) -> Vec<String> {
    let before = run(&graph, std::slice::from_ref(input));
    simplify(&mut graph).unwrap();
    let after = run(&graph, std::slice::from_ref(input));
    assert_close(&after[0], &before[0], 1e-5);
    ops(&graph)
}

fn positive(seed: u64, n: usize) -> Tensor {
    tensor(&[n], noise(seed, n).into_iter().map(|v| v.abs() + 0.1).collect())
}

fn batch_norm(b: &mut Builder, x: crate::graph::ValueId, channels: usize) -> crate::graph::ValueId {
    let parameters = [noisy(10, &[channels]), noisy(11, &[channels]), noisy(12, &[channels]), positive(13, channels)];
    let mut inputs = vec![x];
    for p in parameters {
        inputs.push(b.constant(p));
    }
    b.node(Op::BatchNormalization { epsilon: 1e-3 }, &inputs)
}

fn conv(
    b: &mut Builder,
    x: crate::graph::ValueId,
    shape: [usize; 4],
    pads: [usize; 4],
    group: usize,
) -> crate::graph::ValueId {
    let w = b.constant(noisy(20, &shape));
    b.node(Op::Conv { window: window(&shape[2..], &[1, 1], &pads), group }, &[x, w])
}

#[test]
fn batch_normalization_goes_into_its_neighbours() {
    let input = noisy(1, &[2, 4, 6, 5]);
    // After a convolution, grouped too.
    for group in [1, 2, 4] {
        let mut b = Builder::new(13);
        let x = b.input("x", &[4, 6, 5]);
        let y = conv(&mut b, x, [8, 4 / group, 3, 3], [1; 4], group);
        let y = batch_norm(&mut b, y, 8);
        assert_eq!(simplified(b.output(y), &input), ["Conv"]);
    }
    // Before a convolution: exact without padding, else it stays a layer of its own.
    for (pads, expected) in [([0; 4], vec!["Conv"]), ([1; 4], vec!["Conv", "Conv"])] {
        for group in [1, 2] {
            let mut b = Builder::new(13);
            let x = b.input("x", &[4, 6, 5]);
            let y = batch_norm(&mut b, x, 4);
            let y = conv(&mut b, y, [6, 4 / group, 3, 3], pads, group);
            assert_eq!(simplified(b.output(y), &input), expected);
        }
    }
    // Dense layers, on both sides.
    let mut b = Builder::new(13);
    let x = b.input("x", &[4]);
    let y = batch_norm(&mut b, x, 4);
    let w = b.constant(noisy(20, &[4, 7]));
    let y = b.node(Op::MatMul, &[y, w]);
    let bias = b.constant(noisy(21, &[1, 7]));
    let y = b.node(Op::Add, &[bias, y]);
    let y = batch_norm(&mut b, y, 7);
    assert_eq!(simplified(b.output(y), &noisy(1, &[3, 4])), ["Gemm"]);
}

/// A value that somebody else reads, or that is an output, is not taken away.
#[test]
fn what_others_read_stays() {
    let mut b = Builder::new(13);
    let x = b.input("x", &[4, 6, 5]);
    let y = conv(&mut b, x, [4, 4, 1, 1], [0; 4], 1);
    let z = batch_norm(&mut b, y, 4);
    let sum = b.node(Op::Add, &[y, z]);
    b.graph.outputs.push(y);
    let mut graph = b.output(sum);
    let input = noisy(1, &[1, 4, 6, 5]);
    let before = run(&graph, std::slice::from_ref(&input));
    simplify(&mut graph).unwrap();
    let after = run(&graph, std::slice::from_ref(&input));
    assert_close(&after[0], &before[0], 1e-5);
    assert_close(&after[1], &before[1], 1e-5);
    assert_eq!(ops(&graph), ["Conv", "Conv", "Add"]);
}

#[test]
fn shared_weights_are_not_scaled_twice() {
    let mut b = Builder::new(13);
    let x = b.input("x", &[4, 6, 5]);
    let w = b.constant(noisy(20, &[4, 4, 1, 1]));
    let op = Op::Conv { window: window(&[1, 1], &[1, 1], &[0; 4]), group: 1 };
    let y = b.node(op.clone(), &[x, w]);
    let y = batch_norm(&mut b, y, 4);
    let y = b.node(Op::Relu, &[y]);
    let y = b.node(op, &[y, w]);
    assert_eq!(simplified(b.output(y), &noisy(1, &[1, 4, 6, 5])), ["Conv", "Relu", "Conv"]);
}

#[test]
fn padding_goes_into_windows_only_where_exact() {
    let amounts = vec![0, 0, 1, 0, 0, 0, 1, 1];
    let pool =
        |b: &mut Builder, x| b.node(Op::MaxPool { window: window(&[2, 2], &[1, 1], &[0; 4]), ceil: false }, &[x]);
    let average = |b: &mut Builder, x| {
        let op = Op::AveragePool { window: window(&[2, 2], &[1, 1], &[0; 4]), ceil: false, count_include_pad: false };
        b.node(op, &[x])
    };
    let conv = |b: &mut Builder, x| conv(b, x, [2, 4, 3, 3], [1, 0, 1, 0], 1);
    type Layer<'a> = &'a dyn Fn(&mut Builder, crate::graph::ValueId) -> crate::graph::ValueId;
    let cases: [(f32, bool, Layer<'_>, &[&str]); 6] = [
        (0.0, false, &conv, &["Conv"]),
        (1.0, false, &conv, &["Pad", "Conv"]),
        (0.0, false, &average, &["AveragePool"]),
        (0.0, false, &pool, &["Pad", "MaxPool"]),
        (0.0, true, &pool, &["Relu", "MaxPool"]),
        (f32::NEG_INFINITY, false, &pool, &["MaxPool"]),
    ];
    for (value, relu, layer, expected) in cases {
        let mut b = Builder::new(13);
        let mut x = b.input("x", &[4, 6, 5]);
        if relu {
            x = b.node(Op::Relu, &[x]);
        }
        let y = b.node(Op::Pad { amounts: amounts.clone(), value }, &[x]);
        let y = layer(&mut b, y);
        assert_eq!(simplified(b.output(y), &noisy(1, &[2, 4, 6, 5])), expected);
    }
}

#[test]
fn activations_in_one_form() {
    let input = tensor(&[1, 64], noise(1, 64).into_iter().map(|v| 8.0 * v).collect());
    let scalar = |v: f32| tensor(&[1, 1], vec![v]);
    // Relu then a cap is one Clip.
    let mut b = Builder::new(13);
    let x = b.input("x", &[64]);
    let y = b.node(Op::Relu, &[x]);
    let six = b.constant(scalar(6.0));
    let y = b.node(Op::Min, &[six, y]);
    assert_eq!(simplified(b.output(y), &input), ["Clip"]);
    // max(x, 0.2 x)
    let mut b = Builder::new(13);
    let x = b.input("x", &[64]);
    let alpha = b.constant(scalar(0.2));
    let y = b.node(Op::Mul, &[x, alpha]);
    let y = b.node(Op::Max, &[y, x]);
    assert_eq!(simplified(b.output(y), &input), ["LeakyRelu"]);
    // x · clip(x + 3, 0, 6) / 6
    for (opset, expected) in [(13, vec!["HardSigmoid", "Mul"]), (14, vec!["HardSwish"])] {
        let mut b = Builder::new(opset);
        let x = b.input("x", &[64]);
        let (three, six) = (b.constant(scalar(3.0)), b.constant(scalar(6.0)));
        let y = b.node(Op::Add, &[x, three]);
        let y = b.node(Op::Clip { min: 0.0, max: 6.0 }, &[y]);
        let y = b.node(Op::Div, &[y, six]);
        let y = b.node(Op::Mul, &[x, y]);
        assert_eq!(simplified(b.output(y), &input), expected);
    }
}

#[test]
fn transposes_cancel_through_elementwise_operators() {
    let (to_last, to_first) = (vec![0, 2, 3, 1], vec![0, 3, 1, 2]);
    let mut b = Builder::new(13);
    let x = b.input("x", &[4, 6, 5]);
    let a = b.node(Op::Relu, &[x]);
    let a = b.node(Op::Transpose { perm: to_last.clone() }, &[a]);
    let c = b.node(Op::Sigmoid, &[x]);
    let c = b.node(Op::Transpose { perm: to_last.clone() }, &[c]);
    let y = b.node(Op::Add, &[a, c]);
    let y = b.node(Op::Relu, &[y]);
    let y = b.node(Op::Transpose { perm: to_first }, &[y]);
    assert_eq!(simplified(b.output(y), &noisy(1, &[2, 4, 6, 5])), ["Relu", "Sigmoid", "Add", "Relu"]);
    // A mean over the spatial axes of channels-last data.
    let mut b = Builder::new(13);
    let x = b.input("x", &[4, 6, 5]);
    let y = b.node(Op::Transpose { perm: to_last }, &[x]);
    let y = b.node(Op::ReduceMean { axes: vec![1, 2], keepdims: false }, &[y]);
    assert_eq!(simplified(b.output(y), &noisy(1, &[2, 4, 6, 5])), ["GlobalAveragePool", "Flatten"]);
}

/// Shape arithmetic on the batch, as PyTorch exports `x.view(x.size(0), -1)` and friends.
#[test]
fn shape_arithmetic_disappears() {
    let mut b = Builder::new(13);
    let x = b.input("x", &[4, 6, 5]);
    let shape = b.node(Op::Shape { start: 0, end: None }, &[x]);
    let zero = b.constant(Tensor::from_i64(vec![0]));
    let batch = b.node(Op::Gather { axis: 0 }, &[shape, zero]);
    let rest = b.constant(Tensor::from_i64(vec![120]));
    let target = b.node(Op::Concat { axis: 0 }, &[batch, rest]);
    let y = b.node(Op::Reshape { allow_zero: false }, &[x, target]);
    let input = noisy(1, &[3, 4, 6, 5]);
    assert_eq!(simplified(b.output(y), &input), ["Flatten"]);
}

/// Constants that would grow without bound are left alone or refused, at once.
#[test]
fn hostile_constants_do_not_grow() {
    let build = |n: i64| {
        let mut b = Builder::new(13);
        let x = b.input("x", &[1]);
        let shape = b.constant(Tensor::from_i64(vec![n, n]));
        let big = b.node(Op::ConstantOfShape { value: tensor(&[1], vec![1.0]) }, &[shape]);
        let sum = b.node(Op::ReduceSum { axes: vec![], keepdims: false }, &[big]);
        let y = b.node(Op::Add, &[x, sum]);
        b.output(y)
    };
    assert!(simplify(&mut build(1 << 30)).is_err());
    let mut graph = build(4000);
    simplify(&mut graph).unwrap();
    assert_eq!(ops(&graph)[0], "ConstantOfShape");
}

#[test]
fn fixed_batch_becomes_dynamic_only_when_rows_stay_apart() {
    let build = |perm: Vec<usize>| {
        let mut b = Builder::new(13);
        let x = b.input("x", &[4, 6]);
        b.graph.value_mut(x).shape = Some([1, 4, 6].map(crate::graph::Dim::Fixed).to_vec());
        let y = b.node(Op::Transpose { perm }, &[x]);
        let target = b.constant(Tensor::from_i64(vec![1, 24]));
        let y = b.node(Op::Reshape { allow_zero: false }, &[y, target]);
        b.output(y)
    };
    let mut rows = build(vec![0, 2, 1]);
    assert!(infer::make_batch_dynamic(&mut rows).unwrap());
    let (both, second) = (noisy(1, &[2, 4, 6]), noise(1, 48)[24..].to_vec());
    let one = run(&rows, &[tensor(&[1, 4, 6], second)]);
    let two = run(&rows, &[both]);
    assert_eq!(two[0].as_f32().unwrap().as_slice().unwrap()[24..], *one[0].as_f32().unwrap().as_slice().unwrap());
    assert!(!infer::make_batch_dynamic(&mut build(vec![1, 0, 2])).unwrap());
}
