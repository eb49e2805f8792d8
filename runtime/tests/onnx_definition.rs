//! The generic kernels against ONNX's definition of a quantized layer: dequantize, compute in real numbers, quantize.
//!
//! The references are written from the operators' definitions at onnx.ai, in f64 and with plain loops over indices, and share nothing with the
//! kernels: weights reach the plan by the formula of `docs/plan-format.md`. A result may be half a step from the real value (and a
//! rounding error of the multiplier); one that only moves values, or sums integers, must be exact.

#[path = "onnx_definition/layer.rs"]
mod layer;
#[path = "onnx_definition/reference.rs"]
mod reference;

use hone_runtime::QuantParams;
use hone_runtime::kernels::generic;
use hone_runtime::kernels::suite::Rng;
use hone_runtime::plan::{Code, DType, OpParts, Tensor, Window};
use layer::{Net, bytes, random_bytes, random_quant};
use proptest::prelude::*;
use reference::{Map, Slide, Weights};

/// Half a step, and what a multiplier of 31 bits loses in a sum of 24 bits.
const HALF: f64 = 0.5 + 1e-4;

/// Whether `got` is the nearest step to `real` (in steps, zero point included), or the bound that it is beyond.
fn assert_nearest(got: &[u8], real: &[f64], bounds: (i8, i8), slack: f64, what: &str) {
    assert_eq!(got.len(), real.len(), "{what}");
    for (index, (got, real)) in got.iter().zip(real).enumerate() {
        let wanted = real.clamp(f64::from(bounds.0), f64::from(bounds.1));
        let got = f64::from(got.cast_signed());
        assert!((got - wanted).abs() <= HALF + slack, "{what}: {got} for {real} at {index}");
    }
}

fn convolution(rng: &mut Rng, input: [usize; 3], outputs: usize, slide: Slide, groups: usize, relu: bool) {
    let what = format!("{input:?} to {outputs} in {groups} groups, {slide:?}");
    let depthwise = groups == input[2] && outputs == groups && groups > 1;
    let (from, to) = (random_quant(rng), random_quant(rng));
    let weights = Weights::random(rng, outputs, slide.kernel[0] * slide.kernel[1] * input[2] / groups);
    let x = random_bytes(rng, input.iter().product());
    let real = reference::conv(&Map::dequantize(&x, input, from), &weights, from.scale, &slide, groups);
    // An output scale that uses the range.
    let largest = real.values.iter().fold(1e-9, |a: f64, v| a.max(v.abs()));
    let to = QuantParams { scale: (largest / 90.0) as f32, ..to };

    let mut net = Net::new(input, from);
    let output = net.tensor(real.shape, to);
    let mut op = OpParts::new(if depthwise { Code::Depthwise } else { Code::Conv }, "conv", &[0], output);
    op.window = Window { kernel: slide.kernel, stride: slide.stride, dilation: slide.dilation, pad: slide.before };
    op.groups = groups;
    op.bounds = if relu { (to.zero_point, i8::MAX) } else { (i8::MIN, i8::MAX) };
    layer::weigh(&mut op, &weights, from, to, groups, depthwise);
    op.scratch.1 = 4 * weights.depth.next_multiple_of(4);
    let bounds = op.bounds;
    net.ops.push(op);
    let steps: Vec<f64> = real.values.iter().map(|v| v / f64::from(to.scale) + f64::from(to.zero_point)).collect();
    assert_nearest(&net.run(&x).0, &steps, bounds, 0.0, &what);
}

#[test]
fn layers_of_real_models() {
    let rng = &mut Rng::new(1);
    let same = |kernel, stride, size| Slide::same(kernel, stride, size);
    convolution(rng, [49, 10, 1], 64, same([10, 4], [2, 2], [49, 10]), 1, true);
    convolution(rng, [32, 32, 3], 16, same([3, 3], [1, 1], [32, 32]), 1, true);
    convolution(rng, [16, 16, 16], 32, same([3, 3], [2, 2], [16, 16]), 1, true);
    convolution(rng, [16, 16, 16], 32, same([1, 1], [2, 2], [16, 16]), 1, false);
    convolution(rng, [8, 8, 64], 64, same([3, 3], [1, 1], [8, 8]), 1, false);
    convolution(rng, [25, 5, 64], 64, same([3, 3], [1, 1], [25, 5]), 64, true);
    convolution(rng, [25, 5, 64], 64, same([1, 1], [1, 1], [25, 5]), 1, true);
    convolution(rng, [48, 48, 3], 8, same([3, 3], [2, 2], [48, 48]), 1, true);
    convolution(rng, [24, 24, 16], 16, same([3, 3], [2, 2], [24, 24]), 16, true);
    convolution(rng, [1, 128, 6], 16, same([1, 5], [1, 2], [1, 128]), 1, true);
}

/// Kernels, strides, dilations, borders on all four sides, and a size that the window fits.
fn slides() -> impl Strategy<Value = (Slide, [usize; 2])> {
    let axis = (1usize..6, 1usize..4, 1usize..4).prop_flat_map(|(kernel, stride, dilation)| {
        let extent = (kernel - 1) * dilation + 1;
        (Just([kernel, stride, dilation]), 0..extent.min(4), 0..extent.min(4), extent..extent + 9)
    });
    (axis.clone(), axis).prop_map(|(y, x)| {
        let pick = |index: usize| [y.0[index], x.0[index]];
        let slide =
            Slide { kernel: pick(0), stride: pick(1), dilation: pick(2), before: [y.1, x.1], behind: [y.2, x.2] };
        (slide, [y.3, x.3])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn conv(
        (slide, [h, w]) in slides(), groups in 1usize..5, inputs in 1usize..7, outputs in 1usize..7, relu: bool, seed: u64
    ) {
        convolution(&mut Rng::new(seed), [h, w, inputs * groups], outputs * groups, slide, groups, relu);
    }

    #[test]
    fn depthwise((slide, [h, w]) in slides(), channels in 2usize..21, relu: bool, seed: u64) {
        convolution(&mut Rng::new(seed), [h, w, channels], channels, slide, channels, relu);
    }

    #[test]
    fn dense(depth in 1usize..200, outputs in 1usize..30, seed: u64) {
        let rng = &mut Rng::new(seed);
        let (from, to) = (random_quant(rng), random_quant(rng));
        let weights = Weights::random(rng, outputs, depth);
        let x = random_bytes(rng, depth);
        let point = Slide { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], before: [0, 0], behind: [0, 0] };
        let real = reference::conv(&Map::dequantize(&x, [1, 1, depth], from), &weights, from.scale, &point, 1);
        let largest = real.values.iter().fold(1e-9, |a: f64, v| a.max(v.abs()));
        let to = QuantParams { scale: (largest / 60.0) as f32, ..to };

        let mut net = Net::new([1, 1, depth], from);
        let output = net.tensor([1, 1, outputs], to);
        let mut op = OpParts::new(Code::Dense, "dense", &[0], output);
        layer::weigh(&mut op, &weights, from, to, 1, false);
        net.ops.push(op);
        let steps: Vec<f64> = real.values.iter().map(|v| v / f64::from(to.scale) + f64::from(to.zero_point)).collect();
        assert_nearest(&net.run(&x).0, &steps, (i8::MIN, i8::MAX), 0.0, "dense");

        // As floats: the sums are exact, the multiplier is rounded, and so is the product.
        let mut net = Net::new([1, 1, depth], from);
        let output = net.float([1, 1, outputs]);
        let mut op = OpParts::new(Code::DenseFloat, "scores", &[0], output);
        layer::weigh(&mut op, &weights, from, from, 1, false);
        let scale = |o: usize| (f64::from(from.scale) * f64::from(weights.scales[o])) as f32;
        op.multipliers = (0..outputs.next_multiple_of(4)).map(|o| if o < outputs { scale(o).to_bits().cast_signed() } else { 0 }).collect();
        op.shifts = OpParts::new(Code::DenseFloat, "", &[], 0).shifts;
        net.ops.push(op);
        for (got, real) in net.run(&x).1.iter().zip(&real.values) {
            // The reference adds scaled values: what cancels there leaves its own rounding.
            let tolerance = 2e-7 * real.abs() + 1e-12 * largest;
            prop_assert!((f64::from(*got) - real).abs() <= tolerance, "{} for {}", got, real);
        }
    }

    #[test]
    fn pools((slide, [h, w]) in slides(), channels in 1usize..10, seed: u64) {
        let slide = Slide { dilation: [1, 1], before: [slide.before[0].min(slide.kernel[0] - 1), slide.before[1].min(slide.kernel[1] - 1)], ..slide };
        let slide = Slide { behind: [slide.behind[0].min(slide.kernel[0] - 1), slide.behind[1].min(slide.kernel[1] - 1)], ..slide };
        let rng = &mut Rng::new(seed);
        let (from, to) = (random_quant(rng), random_quant(rng));
        let x = random_bytes(rng, h * w * channels);
        let window = Window { kernel: slide.kernel, stride: slide.stride, dilation: [1, 1], pad: slide.before };
        let map = Map::dequantize(&x, [h, w, channels], from);

        let mean = reference::mean(&map, &slide);
        let mut net = Net::new([h, w, channels], from);
        let output = net.tensor(mean.shape, to);
        let mut op = OpParts::new(Code::AveragePool, "mean", &[0], output);
        op.window = window;
        let ratio = f64::from(from.scale) / f64::from(to.scale);
        let factors: Vec<f64> = (1..=window.taps()).map(|n| ratio / n as f64).collect();
        layer::multiply(&mut op, &factors);
        net.ops.push(op);
        let steps: Vec<f64> = mean.values.iter().map(|v| v / f64::from(to.scale) + f64::from(to.zero_point)).collect();
        assert_nearest(&net.run(&x).0, &steps, (i8::MIN, i8::MAX), 0.0, "mean");

        let greatest = reference::greatest(&map, &slide);
        let mut net = Net::new([h, w, channels], from);
        let output = net.tensor(greatest.shape, from);
        let mut op = OpParts::new(Code::MaxPool, "max", &[0], output);
        op.window = window;
        net.ops.push(op);
        let steps: Vec<f64> = greatest.values.iter().map(|v| v / f64::from(from.scale) + f64::from(from.zero_point)).collect();
        for (got, wanted) in net.run(&x).0.iter().zip(steps) {
            prop_assert_eq!(f64::from(got.cast_signed()), wanted.round());
        }
    }

    #[test]
    fn sums_and_products(shape in [1usize..5, 1usize..5, 1usize..9], form in 0usize..3, in_place: bool, seed: u64) {
        let rng = &mut Rng::new(seed);
        let [h, w, c] = shape;
        let n = h * w * c;
        let other = [shape, [1, 1, c], [1, 1, 1]][form];
        let (qa, qb, to) = (random_quant(rng), random_quant(rng), random_quant(rng));
        let x = random_bytes(rng, 2 * n);
        let a = Map::dequantize(&x[..n], shape, qa);
        let b = Map::dequantize(&x[n..n + other.iter().product::<usize>()], other, qb);
        let at = |b: &Map, index: usize| b.values[match form { 0 => index, 1 => index % c, _ => 0 }];
        let (sa, sb) = (f64::from(qa.scale), f64::from(qb.scale));

        for code in [Code::Add, Code::Mul] {
            let real: Vec<f64> = (0..n).map(|i| if code == Code::Add { a.values[i] + at(&b, i) } else { a.values[i] * at(&b, i) }).collect();
            let largest = real.iter().fold(1e-9, |a: f64, v| a.max(v.abs()));
            let to = QuantParams { scale: (largest / 60.0).max(f64::from(qa.scale.max(qb.scale)) / 50.0) as f32, ..to };
            let mut net = Net::new([2, n, 1], qa);
            let first = net.part(0, 0, shape, qa);
            let second = net.part(1, 0, other, qb);
            let output = if in_place { net.over(first, shape, to) } else { net.tensor(shape, to) };
            let mut op = OpParts::new(code, "both", &[first, second], output);
            op.in_place = in_place;
            let mut slack = 0.0;
            if code == Code::Add {
                slack = layer::add(&mut op, [qa, qb], to);
            } else {
                layer::multiply(&mut op, &[sa * sb / f64::from(to.scale)]);
            }
            net.ops.push(op);
            let steps: Vec<f64> = real.iter().map(|v| v / f64::from(to.scale) + f64::from(to.zero_point)).collect();
            assert_nearest(&net.run(&x).0, &steps, (i8::MIN, i8::MAX), slack, "sum or product");
        }
    }

    #[test]
    fn softmax(rows in 1usize..5, channels in 1usize..40, seed: u64) {
        let rng = &mut Rng::new(seed);
        let from = random_quant(rng);
        let x = random_bytes(rng, rows * channels);
        let shares = reference::softmax(&Map::dequantize(&x, [1, rows, channels], from));

        // What ONNX quantizers give a softmax: 256 steps from 0 on.
        let to = QuantParams { scale: 1.0 / 256.0, zero_point: -128 };
        let mut net = Net::new([1, rows, channels], from);
        let output = net.tensor([1, rows, channels], to);
        let mut op = OpParts::new(Code::Softmax, "softmax", &[0], output);
        let exp = |d: u32| (f64::from(1 << 20) * (-f64::from(from.scale) * f64::from(d)).exp()).round() as u32;
        op.weights = (0..256).flat_map(|d| exp(d).to_le_bytes()).collect();
        op.numbers = (256, 0);
        net.ops.push(op);
        let steps: Vec<f64> = shares.values.iter().map(|v| v * 256.0 - 128.0).collect();
        assert_nearest(&net.run(&x).0, &steps, (i8::MIN, i8::MAX), 0.01, "softmax");

        let mut net = Net::new([1, rows, channels], from);
        let scores = net.float([1, rows, channels]);
        net.ops.push(OpParts::new(Code::Dequantize, "scores", &[0], scores));
        let output = net.float([1, rows, channels]);
        net.ops.push(OpParts { in_place: true, ..OpParts::new(Code::SoftmaxFloat, "shares", &[scores], output) });
        for (got, wanted) in net.run(&x).1.iter().zip(&shares.values) {
            prop_assert!((f64::from(*got) - wanted).abs() < 1e-5, "{} for {}", got, wanted);
        }
    }

    #[test]
    fn floats_from_steps(shape in [1usize..5, 1usize..5, 1usize..9], seed: u64) {
        let rng = &mut Rng::new(seed);
        let [h, w, c] = shape;
        let from = random_quant(rng);
        let x = random_bytes(rng, h * w * c);
        let map = Map::dequantize(&x, shape, from);
        let mut net = Net::new(shape, from);
        let output = net.float(shape);
        net.ops.push(OpParts::new(Code::Dequantize, "floats", &[0], output));
        for (got, wanted) in net.run(&x).1.iter().zip(&map.values) {
            // One rounding of an exact product.
            prop_assert_eq!(*got, *wanted as f32);
        }
        let mut net = Net::new(shape, from);
        let output = net.float([1, 1, c]);
        let mut op = OpParts::new(Code::MeanFloat, "mean", &[0], output);
        op.multipliers = vec![((f64::from(from.scale) / (h * w) as f64) as f32).to_bits().cast_signed()];
        net.ops.push(op);
        for (channel, got) in net.run(&x).1.iter().enumerate() {
            let mean = map.values.iter().skip(channel).step_by(c).sum::<f64>() / (h * w) as f64;
            prop_assert!((f64::from(*got) - mean).abs() <= 2e-7 * mean.abs());
        }
    }

    #[test]
    fn values_that_move(shape in [1usize..6, 1usize..6, 1usize..7], pads in [0usize..4, 0usize..4, 0usize..4, 0usize..4],
        axes in Just([0usize, 1, 2]).prop_shuffle(), to in [1usize..8, 1usize..8], more in 1usize..5, seed: u64) {
        let rng = &mut Rng::new(seed);
        let [h, w, c] = shape;
        let quant = random_quant(rng);
        let x = random_bytes(rng, h * w * c);
        let at = |y: usize, x_: usize, ch: usize| x[(y * w + x_) * c + ch];
        let run = |shape_out: [usize; 3], build: &dyn Fn(&mut OpParts)| {
            let mut net = Net::new(shape, quant);
            let output = net.tensor(shape_out, quant);
            let mut op = OpParts::new(Code::Reshape, "move", &[0], output);
            build(&mut op);
            net.ops.push(op);
            net.run(&x).0
        };
        let every = |shape: [usize; 3], f: &dyn Fn([usize; 3]) -> u8| -> Vec<u8> {
            let [h, w, c] = shape;
            (0..h * w * c).map(|i| f([i / c / w, i / c % w, i % c])).collect()
        };

        let [top, bottom, left, right] = pads;
        let padded = [h + top + bottom, w + left + right, c];
        let got = run(padded, &|op| { op.code = Code::Pad; op.window.pad = [top, left]; });
        prop_assert_eq!(got, every(padded, &|[y, x_, ch]| {
            let inside = (top..top + h).contains(&y) && (left..left + w).contains(&x_);
            if inside { at(y - top, x_ - left, ch) } else { quant.zero_point.cast_unsigned() }
        }));

        let turned = [shape[axes[0]], shape[axes[1]], shape[axes[2]]];
        let got = run(turned, &|op| {
            op.code = Code::Transpose;
            op.window.kernel = [axes[0], axes[1]];
            op.window.stride = [axes[2], 0];
        });
        prop_assert_eq!(got, every(turned, &|place| {
            let mut source = [0; 3];
            for (axis, index) in axes.iter().zip(place) { source[*axis] = index; }
            at(source[0], source[1], source[2])
        }));

        // Resize, nearest, asymmetric, floor: x_original = floor(x_resized · size / resized).
        let sized = [to[0], to[1], c];
        let (row, column) = (|y: usize| y * h / to[0], |x_: usize| x_ * w / to[1]);
        let got = run(sized, &|op| {
            op.code = Code::Resize;
            let maps = (0..to[0]).map(row).chain((0..to[1]).map(column));
            op.weights = maps.flat_map(|i| (i as u32).to_le_bytes()).collect();
        });
        prop_assert_eq!(got, every(sized, &|[y, x_, ch]| at(row(y), column(x_), ch)));

        let whole = run([1, 1, h * w * c], &|op| op.code = Code::Reshape);
        prop_assert_eq!(&whole, &x);

        // Concat of the input with itself, `more` times.
        let mut net = Net::new(shape, quant);
        let output = net.tensor([h, w, c * more], quant);
        net.ops.push(OpParts::new(Code::Concat, "concat", &vec![0; more], output));
        prop_assert_eq!(net.run(&x).0, every([h, w, c * more], &|[y, x_, ch]| at(y, x_, ch % c)));
    }

    #[test]
    fn functions_of_one_value(seed: u64, in_place: bool) {
        // Sigmoid, as the definition: dequantize, 1 / (1 + exp(−x)), quantize.
        let rng = &mut Rng::new(seed);
        let (from, to) = (random_quant(rng), QuantParams { scale: 1.0 / 256.0, zero_point: -128 });
        let steps: Vec<f64> = (0..256).map(|q: i32| {
            let real = f64::from(from.scale) * f64::from((q as u8).cast_signed() as i32 - i32::from(from.zero_point));
            256.0 / (1.0 + (-real).exp()) - 128.0
        }).collect();
        let x = random_bytes(rng, 60);
        let mut net = Net::new([2, 5, 6], from);
        let output = if in_place { net.over(0, [2, 5, 6], to) } else { net.tensor([2, 5, 6], to) };
        let mut op = OpParts::new(Code::Table, "sigmoid", &[0], output);
        op.in_place = in_place;
        op.weights = steps.iter().map(|s| (s.round().clamp(-128.0, 127.0) as i8).cast_unsigned()).collect();
        net.ops.push(op);
        let wanted: Vec<f64> = x.iter().map(|q| steps[usize::from(*q)]).collect();
        assert_nearest(&net.run(&x).0, &wanted, (i8::MIN, i8::MAX), 0.0, "sigmoid");
    }

    #[test]
    fn quantize_linear(values in proptest::collection::vec(-1e4f32..1e4, 24), scale in 1e-3f32..10.0, zero_point: i8, halves: bool) {
        // y = saturate(round_half_even(x / scale) + zero_point), the quotient in f32 as the input is.
        let values: Vec<f32> = if halves { values.iter().map(|v| (v.trunc() + 0.5) * 0.25).collect() } else { values };
        let quant = QuantParams { scale: if halves { 0.25 } else { scale }, zero_point };
        let tensor = Tensor { dtype: DType::Int8, shape: [2, 3, 4], quant, offset: Some(0) };
        let step = |v: f32| {
            let quotient = f64::from(v / quant.scale);
            let below = quotient.floor();
            let part = quotient - below;
            let up = part > 0.5 || (part == 0.5 && below.rem_euclid(2.0) == 1.0);
            (below + f64::from(u8::from(up)) + f64::from(zero_point)).clamp(-128.0, 127.0) as i8
        };
        let mut got = [0; 24];
        generic::quantize(&values, &tensor, false, &mut got);
        prop_assert_eq!(&got[..], &bytes(&values.iter().map(|v| step(*v)).collect::<Vec<_>>())[..]);
        generic::quantize(&values, &tensor, true, &mut got);
        // [4, 2, 3] to [2, 3, 4].
        let moved: Vec<i8> = (0..24).map(|i| step(values[i % 4 * 6 + i / 4])).collect();
        prop_assert_eq!(&got[..], &bytes(&moved)[..]);
    }
}
