//! Operators against naive references and the tables of the ONNX specification.

use ndarray::{ArrayD, Ix4, IxDyn};

use super::*;
use crate::graph::{
    DType, Op, Tensor,
    op::{Padding, Resize, Window},
    testing::{assert_close, noise, noisy, tensor},
    window::Geometry,
};

fn eval(op: Op, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let node = Node { name: "n".to_owned(), op, inputs: Vec::new(), outputs: vec![ValueId(0)] };
    let args: Vec<Option<&Tensor>> = inputs.iter().copied().map(Some).collect();
    super::node(&node, &Graph { opset: 13, ..Graph::default() }, &args)
}

fn one(op: Op, inputs: &[&Tensor]) -> Tensor {
    eval(op, inputs).unwrap().remove(0)
}

/// Seven nested loops, as the operator is defined.
fn naive_conv(x: &Tensor, w: &Tensor, b: &[f32], window: &Window, group: usize) -> Tensor {
    let x = x.as_f32().unwrap().view().into_dimensionality::<Ix4>().unwrap();
    let w = w.as_f32().unwrap().view().into_dimensionality::<Ix4>().unwrap();
    let g = Geometry::new(window, &x.shape()[2..], false).unwrap();
    let (n, m, depth) = (x.shape()[0], w.shape()[0], w.shape()[1]);
    let mut out = ArrayD::zeros(IxDyn(&[n, m, g.output[0], g.output[1]]));
    for (at, v) in out.indexed_iter_mut() {
        let (image, channel, oy, ox) = (at[0], at[1], at[2], at[3]);
        let mut sum = f64::from(b[channel]);
        for c in 0..depth {
            for ky in 0..g.kernel[0] {
                for kx in 0..g.kernel[1] {
                    let y = (oy * g.strides[0] + ky * g.dilations[0]) as isize - g.begin[0] as isize;
                    let xx = (ox * g.strides[1] + kx * g.dilations[1]) as isize - g.begin[1] as isize;
                    if y >= 0 && xx >= 0 && (y as usize) < g.input[0] && (xx as usize) < g.input[1] {
                        let from = channel / (m / group) * depth + c;
                        let i = x[[image, from, y as usize, xx as usize]];
                        sum += f64::from(i) * f64::from(w[[channel, c, ky, kx]]);
                    }
                }
            }
        }
        *v = sum as f32;
    }
    Tensor::F32(out)
}

#[test]
fn convolution_matches_the_definition() {
    // (channels, filters, group, kernel, strides, dilations, padding)
    let explicit = |p: [usize; 4]| Padding::Explicit(p.to_vec());
    let cases = [
        (3, 8, 1, [3, 3], [2, 2], [1, 1], explicit([0, 0, 1, 1])),
        (4, 6, 1, [1, 1], [1, 1], [1, 1], explicit([0; 4])),
        (4, 6, 1, [1, 1], [2, 3], [1, 1], explicit([0; 4])),
        (5, 5, 5, [3, 3], [1, 1], [1, 1], explicit([1; 4])),
        (5, 10, 5, [3, 5], [2, 1], [1, 2], explicit([1, 4, 0, 3])),
        (4, 12, 4, [3, 3], [3, 3], [1, 1], Padding::SameLower),
        (4, 6, 2, [3, 2], [1, 2], [2, 1], Padding::SameUpper),
        (1, 7, 1, [10, 4], [2, 2], [1, 1], explicit([4, 1, 5, 1])),
        (2, 3, 1, [2, 2], [1, 1], [1, 1], explicit([9, 9, 9, 9])),
    ];
    for (c, m, group, kernel, strides, dilations, padding) in cases {
        let window =
            Window { kernel: kernel.to_vec(), strides: strides.to_vec(), dilations: dilations.to_vec(), padding };
        let x = noisy(1, &[2, c, 11, 13]);
        let w = noisy(2, &[m, c / group, kernel[0], kernel[1]]);
        let b = noise(3, m);
        let y = one(Op::Conv { window: window.clone(), group }, &[&x, &w, &tensor(&[m], b.clone())]);
        assert_close(&y, &naive_conv(&x, &w, &b, &window, group), 1e-6);
    }
    // A line is an image of height one.
    let line = |window: Window| Op::Conv { window, group: 2 };
    let (kernel, strides, dilations) = (vec![5], vec![3], vec![2]);
    let window = Window { kernel, strides, dilations, padding: Padding::Explicit(vec![4, 1]) };
    let image = Window {
        kernel: vec![1, 5],
        strides: vec![1, 3],
        dilations: vec![1, 2],
        padding: Padding::Explicit(vec![0, 4, 0, 1]),
    };
    let y = one(line(window), &[&noisy(1, &[2, 4, 30]), &noisy(2, &[6, 2, 5])]);
    let reference = naive_conv(&noisy(1, &[2, 4, 1, 30]), &noisy(2, &[6, 2, 1, 5]), &[0.0; 6], &image, 2);
    assert_eq!(y.shape(), [2, 6, 9]);
    let reference = tensor(&[2, 6, 9], reference.as_f32().unwrap().iter().copied().collect());
    assert_close(&y, &reference, 1e-6);
}

/// Lines so long that their columns are made in parts.
#[test]
fn a_long_line_is_convolved_in_parts() {
    let window = Window {
        kernel: vec![1, 15],
        strides: vec![1, 2],
        dilations: vec![1, 3],
        padding: Padding::Explicit(vec![0, 20, 0, 7]),
    };
    let (x, w) = (noisy(1, &[1, 20, 2, 3001]), noisy(2, &[2, 20, 1, 15]));
    let y = one(Op::Conv { window: window.clone(), group: 1 }, &[&x, &w]);
    assert_close(&y, &naive_conv(&x, &w, &[0.0; 2], &window, 1), 1e-5);
}

#[test]
fn columns_times_weights_is_the_convolution() {
    let window = Window {
        kernel: vec![3, 2],
        strides: vec![2, 1],
        dilations: vec![1, 2],
        padding: Padding::Explicit(vec![1, 0, 2, 1]),
    };
    let (x, w) = (noisy(1, &[1, 3, 7, 6]), noisy(2, &[4, 3, 3, 2]));
    let geometry = Geometry::new(&window, &[7, 6], false).unwrap();
    let x_flat = x.as_f32().unwrap().as_slice().unwrap();
    let columns = im2col(x_flat, 3, &geometry, (0, 1)).unwrap();
    let every_third = im2col(x_flat, 3, &geometry, (1, 3)).unwrap();
    assert_eq!(every_third, columns.slice(ndarray::s![.., 1..;3]));
    let matrix = ndarray::ArrayView2::from_shape((4, 18), w.as_f32().unwrap().as_slice().unwrap()).unwrap();
    let y = matrix.dot(&columns).into_raw_vec_and_offset().0;
    let shape = [1, 4, geometry.output[0], geometry.output[1]];
    assert_close(&tensor(&shape, y), &naive_conv(&x, &w, &[0.0; 4], &window, 1), 1e-6);
    assert!(im2col(&[0.0; 5], 3, &geometry, (0, 1)).is_err());
}

#[test]
fn pooling_with_padding_and_ceil() {
    let x = tensor(&[1, 1, 1, 4], vec![1.0, f32::NAN, -3.0, -4.0]);
    let window = |end: usize| Window {
        kernel: vec![1, 2],
        strides: vec![1, 2],
        dilations: vec![1, 1],
        padding: Padding::Explicit(vec![0, 1, 0, end]),
    };
    let y = one(Op::MaxPool { window: window(1), ceil: false }, &[&x]);
    let y: Vec<f32> = y.as_f32().unwrap().iter().copied().collect();
    assert!(y[0] == 1.0 && y[1].is_nan() && y[2] == -4.0);
    let x = tensor(&[1, 1, 1, 4], vec![1.0, 2.0, 3.0, 5.0]);
    for (include, expected) in [(false, [1.0, 2.5, 5.0]), (true, [0.5, 2.5, 2.5])] {
        let op = Op::AveragePool { window: window(1), ceil: false, count_include_pad: include };
        assert_eq!(one(op, &[&x]).as_f32().unwrap().as_slice().unwrap(), expected);
    }
    // The last window of ceil mode covers one element of data and nothing of the padding.
    let op = Op::AveragePool { window: window(0), ceil: true, count_include_pad: true };
    assert_eq!(one(op, &[&x]).as_f32().unwrap().as_slice().unwrap(), [0.5, 2.5, 5.0]);
}

#[test]
fn quantization_rounds_half_to_even_and_saturates() {
    let x = tensor(&[8], vec![0.5, 1.5, 2.5, -0.5, -1.5, 1e9, -1e9, f32::NAN]);
    let scale = tensor(&[], vec![1.0]);
    let zero = Tensor::I8(ArrayD::from_elem(IxDyn(&[]), 1));
    let Tensor::I8(q) = one(Op::QuantizeLinear { axis: 1 }, &[&x, &scale, &zero]) else { panic!("type") };
    assert_eq!(q.as_slice().unwrap(), [1, 3, 3, 1, -1, 127, -128, 1]);
    let Tensor::U8(q) = one(Op::QuantizeLinear { axis: 1 }, &[&x, &scale]) else { panic!("type") };
    assert_eq!(q.as_slice().unwrap(), [0, 2, 2, 0, 0, 255, 0, 0]);
    let weights = Tensor::I8(ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![1, 2, 3, 4]).unwrap());
    let scales = tensor(&[2], vec![0.5, 10.0]);
    let y = one(Op::DequantizeLinear { axis: 0 }, &[&weights, &scales]);
    assert_eq!(y.as_f32().unwrap().iter().copied().collect::<Vec<f32>>(), [0.5, 1.0, 30.0, 40.0]);
    assert!(eval(Op::DequantizeLinear { axis: 0 }, &[&weights, &tensor(&[3], vec![1.0; 3])]).is_err());
}

/// Values of the examples in the ONNX specification of Resize.
#[test]
fn resize_as_the_specification_shows() {
    let mode = |mode: &str, coordinates: &str, nearest: &str| {
        Op::Resize(Resize {
            mode: mode.into(),
            coordinate_transformation_mode: coordinates.into(),
            nearest_mode: nearest.into(),
        })
    };
    let x = tensor(&[1, 1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    let empty = tensor(&[0], vec![]);
    let scales = tensor(&[4], vec![1.0, 1.0, 2.0, 2.0]);
    let run = |op: Op| one(op, &[&x, &empty, &scales]).as_f32().unwrap().iter().copied().collect::<Vec<f32>>();
    let nearest = run(mode("nearest", "asymmetric", "floor"));
    assert_eq!(nearest[..8], [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
    assert_eq!(run(mode("linear", "half_pixel", ""))[..8], [1.0, 1.25, 1.75, 2.0, 1.5, 1.75, 2.25, 2.5]);
    let corners = run(mode("linear", "align_corners", ""));
    assert!((corners[1] - 4.0 / 3.0).abs() < 1e-6 && corners[15] == 4.0);
    assert!(matches!(eval(mode("cubic", "half_pixel", ""), &[&x, &empty, &scales]), Err(Error::Unsupported { .. })));
}

#[test]
fn broadcasting_and_shapes() {
    let a = noisy(1, &[2, 3, 4, 5]);
    for shape in
        [vec![], vec![1], vec![5], vec![4, 1], vec![3, 1, 1], vec![2, 1, 1, 1], vec![2, 3, 4, 5], vec![3, 4, 1]]
    {
        let b = noisy(2, &shape);
        let fast = one(Op::Sub, &[&a, &b]);
        let (av, bv) = (a.as_f32().unwrap(), b.as_f32().unwrap());
        assert_eq!(fast.as_f32().unwrap(), av - bv, "{shape:?}");
        let negated = one(Op::Neg, &[&one(Op::Sub, &[&b, &a])]);
        assert_eq!(fast, negated, "{shape:?}");
    }
    assert!(eval(Op::Add, &[&a, &noisy(1, &[3])]).is_err());
    let x = Tensor::from_i64((0..6).collect());
    let ints = |v: &[i64]| Tensor::from_i64(v.to_vec());
    let sliced = one(Op::Slice, &[&x, &ints(&[-1]), &ints(&[i64::MIN]), &ints(&[0]), &ints(&[-2])]);
    assert_eq!(sliced, ints(&[5, 3, 1]));
    assert_eq!(one(Op::Slice, &[&x, &ints(&[4]), &ints(&[2])]).len(), 0);
    assert_eq!(one(Op::Gather { axis: 0 }, &[&x, &ints(&[-1, 0])]), ints(&[5, 0]));
    assert!(eval(Op::Gather { axis: 0 }, &[&x, &ints(&[6])]).is_err());
    assert!(eval(Op::Expand, &[&ints(&[1]), &ints(&[1 << 40, 1 << 20])]).is_err());
    assert!(eval(Op::ConstantOfShape { value: ints(&[0]) }, &[&ints(&[i64::MAX, i64::MAX])]).is_err());
    assert!(eval(Op::Range, &[&ints(&[0]), &ints(&[i64::MAX]), &ints(&[1])]).is_err());
    assert!(eval(Op::Div, &[&ints(&[1]), &ints(&[0])]).is_err());
}

#[test]
fn batched_products() {
    let (a, b) = (noisy(1, &[2, 1, 3, 4]), noisy(2, &[5, 4, 2]));
    let y = one(Op::MatMul, &[&a, &b]);
    assert_eq!(y.shape(), [2, 5, 3, 2]);
    let (av, bv, yv) = (a.as_f32().unwrap(), b.as_f32().unwrap(), y.as_f32().unwrap());
    for (at, v) in yv.indexed_iter() {
        let sum: f32 = (0..4).map(|k| av[[at[0], 0, at[2], k]] * bv[[at[1], k, at[3]]]).sum();
        assert!((sum - v).abs() < 1e-5);
    }
    assert_eq!(one(Op::MatMul, &[&noisy(1, &[4]), &b]).shape(), [5, 2]);
    assert!(eval(Op::MatMul, &[&a, &noisy(1, &[3, 2])]).is_err());
}

/// f16 tensors are computed in f32 and rounded; NaN passes through everything.
#[test]
fn halves_and_nan() {
    let half = one(Op::Cast { to: DType::F16 }, &[&noisy(1, &[1, 2, 3, 3])]);
    assert_eq!(one(Op::Relu, &[&half]).dtype(), DType::F16);
    let nan = tensor(&[1, 2], vec![f32::NAN, 1.0]);
    for op in [Op::Relu, Op::Clip { min: 0.0, max: 6.0 }, Op::Sigmoid, Op::HardSwish, Op::Softmax { axis: 1 }] {
        let y = one(op.clone(), &[&nan]);
        assert!(y.as_f32().unwrap().iter().next().unwrap().is_nan(), "{op:?}");
    }
    let _ = one(Op::QuantizeLinear { axis: 0 }, &[&nan, &tensor(&[], vec![f32::NAN])]);
}

#[test]
fn refusals_name_the_node() {
    let other = Op::Other { domain: "com.example".into(), op_type: "Magic".into(), attributes: Vec::new() };
    let e = eval(other, &[&noisy(1, &[1])]).unwrap_err().to_string();
    assert!(e.contains("'n'") && e.contains("com.example.Magic"), "{e}");
    let e = eval(Op::MatMul, &[&noisy(1, &[2, 3]), &noisy(1, &[2, 3])]).unwrap_err().to_string();
    assert!(e.contains("'n'") && e.contains("[2, 3]"), "{e}");
    assert!(eval(Op::Relu, &[]).is_err());
}
