//! f16 operators against what their definitions say, written down naively in f64: the difference stays within one step of f16 and what
//! `docs/plan-format.md` allows for a sum in f32.

use half::f16;
use hone_runtime::QuantParams;
use hone_runtime::engine::Prepared;
use hone_runtime::kernels::{generic, suite::Rng};
use hone_runtime::plan::writer::{padded_floats, panels};
use hone_runtime::plan::{Code, DType, Function, OpParts, Plan, PlanParts, Tensor, Window};

const OPEN: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

fn tensor(shape: [usize; 3], offset: usize) -> Tensor {
    Tensor { dtype: DType::F16, shape, quant: QuantParams { scale: 1.0, zero_point: 0 }, offset: Some(offset) }
}

fn randoms(rng: &mut Rng, count: usize) -> Vec<f16> {
    (0..count).map(|_| f16::from_f64(rng.unit() * 4.0 - 2.0)).collect()
}

/// Runs one operator on one input.
fn run(op: OpParts, input: [usize; 3], output: [usize; 3], values: &[f16]) -> Vec<f64> {
    let second = (2 * input.iter().product::<usize>()).next_multiple_of(16);
    let parts = PlanParts {
        arena_bytes: second + 2 * output.iter().product::<usize>(),
        tensors: vec![tensor(input, 0), tensor(output, second)],
        input: 0,
        output: 1,
        channels_first: false,
        ops: vec![op],
        names: false,
    };
    let bytes = parts.to_bytes().expect("a plan");
    let mut engine = Prepared::new(Plan::parse(&bytes).unwrap(), &generic::TIER).unwrap();
    engine.set_input(&values.iter().map(|x| x.to_f32()).collect::<Vec<_>>()).unwrap();
    engine.run();
    engine.output().as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect()
}

/// `wanted` with the sum of sizes behind each.
fn assert_close(got: &[f64], wanted: &[(f64, f64)], terms: usize, what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (index, (got, (wanted, size))) in got.iter().zip(wanted).enumerate() {
        let rounding = wanted.abs() * 2f64.powi(-11) + 2f64.powi(-25);
        let allowed = rounding + terms as f64 * 2f64.powi(-24) * size * 1.01;
        assert!((got - wanted).abs() <= allowed, "{what}: {got} for {wanted} at {index}");
    }
}

fn float(values: &[f16]) -> Vec<f64> {
    values.iter().map(|x| x.to_f64()).collect()
}

#[test]
fn convolutions() {
    let mut rng = Rng::new(1);
    for case in 0..300 {
        let groups = rng.pick(&[1, 1, 1, 2, 3]);
        let depthwise = case % 5 == 0;
        let (inside, outside) = (1 + rng.below(9), 1 + rng.below(20));
        let (groups, inputs, outputs) =
            if depthwise { (inside * 3, inside * 3, inside * 3) } else { (groups, groups * inside, groups * outside) };
        let kernel = rng.pick(&[[1, 1], [3, 3], [1, 3], [2, 2], [5, 1]]);
        let (stride, dilation) = (rng.pick(&[[1, 1], [2, 1], [2, 2]]), rng.pick(&[[1, 1], [1, 1], [1, 2]]));
        let pad = [rng.below(kernel[0]), rng.below(kernel[1])];
        let size = [1 + rng.below(7) + (kernel[0] - 1) * dilation[0], 1 + rng.below(7) + (kernel[1] - 1) * dilation[1]];
        let out: [usize; 2] = std::array::from_fn(|axis| {
            (size[axis] + 2 * pad[axis] - (kernel[axis] - 1) * dilation[axis] - 1) / stride[axis] + 1
        });
        let (of_group, per_group) = (inputs / groups, outputs / groups);
        let depth = kernel[0] * kernel[1] * of_group;
        let (values, weights) = (randoms(&mut rng, size[0] * size[1] * inputs), randoms(&mut rng, outputs * depth));
        let biases: Vec<f32> = (0..outputs).map(|_| rng.unit() as f32).collect();
        let (low, high) = rng.pick(&[OPEN, (0.0, 6.0), (0.0, f32::INFINITY)]);
        let code = if depthwise { Code::Depthwise16 } else { Code::Conv16 };
        let mut op = OpParts::new(code, "", &[0], 1).bounded(low, high);
        op.window = Window { kernel, stride, dilation, pad };
        op.groups = groups;
        if depthwise {
            (op.weights, op.bias) = (panels(&weights, outputs, depth), padded_floats(&biases));
        } else {
            op.weights = weights.chunks(per_group * depth).flat_map(|group| panels(group, per_group, depth)).collect();
            op.bias = biases.chunks(per_group).flat_map(padded_floats).collect();
        }
        let got = run(op, [size[0], size[1], inputs], [out[0], out[1], outputs], &values);

        let (values, weights) = (float(&values), float(&weights));
        let mut wanted = Vec::new();
        for (y, x, o) in (0..out[0]).flat_map(|y| (0..out[1]).flat_map(move |x| (0..outputs).map(move |o| (y, x, o)))) {
            let (mut sum, mut size_of_sum) = (f64::from(biases[o]), f64::from(biases[o]).abs());
            for (ky, kx) in (0..kernel[0]).flat_map(|ky| (0..kernel[1]).map(move |kx| (ky, kx))) {
                let row = (y * stride[0] + ky * dilation[0]).checked_sub(pad[0]).filter(|row| *row < size[0]);
                let column = (x * stride[1] + kx * dilation[1]).checked_sub(pad[1]).filter(|column| *column < size[1]);
                let (Some(row), Some(column)) = (row, column) else { continue };
                for c in 0..of_group {
                    let value = values[(row * size[1] + column) * inputs + o / per_group * of_group + c];
                    let product = value * weights[o * depth + (ky * kernel[1] + kx) * of_group + c];
                    sum += product;
                    size_of_sum += product.abs();
                }
            }
            wanted.push((sum.max(low.into()).min(high.into()), size_of_sum));
        }
        assert_close(&got, &wanted, depth + 2, &format!("case {case}"));
    }
}

#[test]
fn dense_layers() {
    let mut rng = Rng::new(2);
    for case in 0..100 {
        let (depth, outputs) = (1 + rng.below(200), 1 + rng.below(40));
        let (values, weights) = (randoms(&mut rng, depth), randoms(&mut rng, depth * outputs));
        let mut op = OpParts::new(Code::Dense16, "", &[0], 1).bounded(OPEN.0, OPEN.1);
        op.weights = panels(&weights, outputs, depth);
        op.bias = padded_floats(&vec![0.5; outputs]);
        let got = run(op, [1, 1, depth], [1, 1, outputs], &values);
        let (values, weights) = (float(&values), float(&weights));
        let products = |o: usize| values.iter().zip(&weights[o * depth..]).map(|(x, w)| x * w);
        let wanted =
            (0..outputs).map(|o| (products(o).sum::<f64>() + 0.5, products(o).map(f64::abs).sum::<f64>() + 0.5));
        assert_close(&got, &wanted.collect::<Vec<_>>(), depth + 2, &format!("case {case}"));
    }
}

#[test]
fn poolings() {
    let mut rng = Rng::new(3);
    for case in 0..200 {
        let (channels, kernel) = (1 + rng.below(12), rng.pick(&[[2, 2], [3, 3], [1, 4]]));
        let size = [kernel[0] + rng.below(6), kernel[1] + rng.below(6)];
        let (pad, stride) = ([rng.below(kernel[0]), rng.below(kernel[1])], rng.pick(&[[1, 1], [2, 2]]));
        let out: [usize; 2] =
            std::array::from_fn(|axis| (size[axis] + 2 * pad[axis] - kernel[axis]) / stride[axis] + 1);
        let values = randoms(&mut rng, size[0] * size[1] * channels);
        let (greatest, all) = (rng.once_in(2), rng.once_in(2));
        let code = if greatest { Code::MaxPool16 } else { Code::AveragePool16 };
        let mut op = OpParts::new(code, "", &[0], 1).bounded(OPEN.0, OPEN.1);
        op.window = Window { kernel, stride, dilation: [1, 1], pad };
        op.shifts.0 = u8::from(all && !greatest);
        let got = run(op, [size[0], size[1], channels], [out[0], out[1], channels], &values);
        let values = float(&values);
        let mut wanted = Vec::new();
        for (y, x, c) in (0..out[0]).flat_map(|y| (0..out[1]).flat_map(move |x| (0..channels).map(move |c| (y, x, c))))
        {
            let taps = (0..kernel[0]).flat_map(|ky| (0..kernel[1]).map(move |kx| (ky, kx)));
            let inside: Vec<f64> = taps
                .filter_map(|(ky, kx)| {
                    let row = (y * stride[0] + ky).checked_sub(pad[0]).filter(|row| *row < size[0])?;
                    let column = (x * stride[1] + kx).checked_sub(pad[1]).filter(|column| *column < size[1])?;
                    Some(values[(row * size[1] + column) * channels + c])
                })
                .collect();
            let count = if all { kernel[0] * kernel[1] } else { inside.len() } as f64;
            let mean = inside.iter().sum::<f64>() / count;
            let most = inside.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            wanted.push((if greatest { most } else { mean }, 2.0));
        }
        assert_close(&got, &wanted, if greatest { 0 } else { 8 }, &format!("case {case}"));
    }
}

#[test]
fn functions_of_one_value() {
    let mut rng = Rng::new(4);
    let values = randoms(&mut rng, 600);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    // Abramowitz and Stegun 7.1.5: the series converges everywhere and quickly for the values here.
    let erf = |x: f64| {
        let mut term = x;
        let mut sum = x;
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    };
    let cases: [(Function, &dyn Fn(f64) -> f64); 15] = [
        (Function::Clamp(-0.5, 1.25), &|x| x.clamp(-0.5, 1.25)),
        (Function::LeakyRelu(0.125, -0.2), &|x| if x < 0.0 { (0.125 * x).max(f64::from(-0.2f32)) } else { x }),
        (Function::Linear(0.5, -3.0), &|x| 0.5 * x - 3.0),
        (Function::HardSigmoid(0.25, 0.5), &|x| (0.25 * x + 0.5).clamp(0.0, 1.0)),
        (Function::HardSwish, &|x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
        (Function::Sigmoid, &sigmoid),
        (Function::Swish, &|x| x * sigmoid(x)),
        (Function::Tanh, &f64::tanh),
        (Function::Erf, &erf),
        (Function::Gelu, &|x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt()))),
        (Function::Exp, &f64::exp),
        (Function::Log, &f64::ln),
        (Function::Sqrt, &f64::sqrt),
        (Function::Reciprocal, &|x| 1.0 / x),
        (Function::Abs, &f64::abs),
    ];
    for (function, definition) in cases {
        let op = OpParts::new(Code::Unary16, "", &[0], 1).function(function);
        let got = run(op, [1, 1, values.len()], [1, 1, values.len()], &values);
        let pairs: Vec<(f64, f64)> = got.iter().copied().zip(float(&values).into_iter().map(definition)).collect();
        // Logarithms and roots of negative numbers are none, in both.
        assert!(pairs.iter().all(|(got, wanted)| got.is_nan() == wanted.is_nan()), "{function:?}");
        let (got, wanted): (Vec<f64>, Vec<_>) =
            pairs.into_iter().filter(|(got, _)| !got.is_nan()).map(|(got, y)| (got, (y, 4.0))).unzip();
        assert_close(&got, &wanted, 2, &format!("{function:?}"));
    }
}

#[test]
fn softmax_and_layer_normalization() {
    let mut rng = Rng::new(5);
    for case in 0..100 {
        let (rows, channels) = (1 + rng.below(5), 2 + rng.below(60));
        let values = randoms(&mut rng, rows * channels);
        let shape = [1, rows, channels];
        let got = run(OpParts::new(Code::Softmax16, "", &[0], 1), shape, shape, &values);
        let real = float(&values);
        let shares = real.chunks(channels).flat_map(|row| {
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            row.iter().map(move |x| (x.exp() / sum, 1.0)).collect::<Vec<_>>()
        });
        assert_close(&got, &shares.collect::<Vec<_>>(), 8, &format!("softmax {case}"));

        let numbers = |rng: &mut Rng| (0..channels).map(|_| rng.unit() as f32 + 0.5).collect::<Vec<_>>();
        let (scales, summands) = (numbers(&mut rng), numbers(&mut rng));
        let mut op = OpParts::new(Code::LayerNorm16, "", &[0], 1).bounded(1e-5, 0.0);
        (op.multipliers, op.bias) = (padded_floats(&scales), padded_floats(&summands));
        let got = run(op, shape, shape, &values);
        let normal = real.chunks(channels).flat_map(|row| {
            let mean = row.iter().sum::<f64>() / channels as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / channels as f64;
            let factor = 1.0 / (variance + f64::from(1e-5f32)).sqrt();
            let one = |(x, (scale, summand)): (&f64, (&f32, &f32))| {
                ((x - mean) * factor * f64::from(*scale) + f64::from(*summand), 4.0 + 4.0 * factor)
            };
            row.iter().zip(scales.iter().zip(&summands)).map(one).collect::<Vec<_>>()
        });
        assert_close(&got, &normal.collect::<Vec<_>>(), channels + 8, &format!("normalization {case}"));
    }
}

/// Operators of two operands take both from one input: its first and its second half of rows.
#[test]
fn sums_products_and_matrix_products() {
    let mut rng = Rng::new(6);
    for case in 0..200 {
        let (m, k, n) = (1 + rng.below(9), 1 + rng.below(40), 1 + rng.below(20));
        let transposed = rng.once_in(2);
        let is_matrix = case % 2 == 0;
        let first = [1, m, k];
        let second = match (is_matrix, transposed) {
            (true, true) => [1, n, k],
            (true, false) => [1, k, n],
            (false, true) => [1, 1, k],
            (false, false) => first,
        };
        let [a, b] = [first, second].map(|shape| shape.iter().product::<usize>());
        let output = if is_matrix { [1, m, n] } else { first };
        let kind = rng.below(4) as u8;
        let op = match (is_matrix, kind) {
            (true, _) => OpParts {
                shifts: (u8::from(transposed), 0),
                ..OpParts::new(Code::MatMul16, "", &[2, 4], 5).bounded(0.5, 0.0)
            },
            (_, 3) => OpParts::new(Code::Mul16, "", &[2, 4], 5).bounded(OPEN.0, OPEN.1),
            _ => OpParts { shifts: (kind, 0), ..OpParts::new(Code::Add16, "", &[2, 4], 5).bounded(OPEN.0, OPEN.1) },
        };
        let pick = |from: usize, count: usize, input: usize, output: usize| {
            let maps = std::iter::once(0).chain(from..from + count);
            let weights = maps.flat_map(|at| (at as u32).to_le_bytes()).collect();
            OpParts { weights, ..OpParts::new(Code::Resize, "", &[input], output) }
        };
        let shapes = [[1, a + b, 1], [1, a, 1], first, [1, b, 1], second, output];
        let mut offset = 0;
        let tensors = shapes.map(|shape| {
            let place = offset;
            offset = (offset + 2 * shape.iter().product::<usize>()).next_multiple_of(16);
            tensor(shape, place)
        });
        let parts = PlanParts {
            arena_bytes: offset,
            tensors: tensors.to_vec(),
            input: 0,
            output: 5,
            channels_first: false,
            ops: vec![
                pick(0, a, 0, 1),
                OpParts::new(Code::Reshape, "", &[1], 2),
                pick(a, b, 0, 3),
                OpParts::new(Code::Reshape, "", &[3], 4),
                op,
            ],
            names: false,
        };
        let values = randoms(&mut rng, a + b);
        let bytes = parts.to_bytes().expect("a plan");
        let mut engine = Prepared::new(Plan::parse(&bytes).unwrap(), &generic::TIER).unwrap();
        engine.set_input(&values.iter().map(|x| x.to_f32()).collect::<Vec<_>>()).unwrap();
        engine.run();
        let got: Vec<f64> =
            engine.output().as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect();
        let values = float(&values);
        let (left, right) = values.split_at(a);
        let wanted: Vec<(f64, f64)> = if is_matrix {
            let at = |k_at: usize, column: usize| right[if transposed { column * k + k_at } else { k_at * n + column }];
            let products = |row: usize, column: usize| (0..k).map(move |i| left[row * k + i] * at(i, column));
            let pairs = (0..m).flat_map(|row| (0..n).map(move |column| (row, column)));
            pairs
                .map(|(row, column)| {
                    let sum: f64 = products(row, column).sum();
                    (0.5 * sum, products(row, column).map(f64::abs).sum())
                })
                .collect()
        } else {
            let combine = |x: f64, y: f64| match kind {
                0 => x + y,
                1 => x - y,
                2 => y - x,
                _ => x * y,
            };
            left.iter().zip(right.iter().cycle()).map(|(x, y)| (combine(*x, *y), 4.0)).collect()
        };
        assert_close(&got, &wanted, k + 2, &format!("case {case}"));
    }
}

/// What is beyond f16 is infinite, as IEEE 754 says, and bounds apply to it.
#[test]
fn sums_beyond_the_range_are_infinite() {
    let values = [f16::MAX, f16::MAX];
    let dense = |low, high| {
        let mut op = OpParts::new(Code::Dense16, "", &[0], 1).bounded(low, high);
        op.weights = panels(&[f16::ONE, f16::ONE], 1, 2);
        op.bias = padded_floats(&[0.0]);
        run(op, [1, 1, 2], [1, 1, 1], &values)
    };
    assert_eq!(dense(f32::NEG_INFINITY, f32::INFINITY), [f64::INFINITY]);
    assert_eq!(dense(0.0, 6.0), [6.0]);
}
