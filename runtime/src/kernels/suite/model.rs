//! Whole random models: chains with branches, as exporters make them.

use super::build::Builder;
use super::layer::Slide;
use super::rng::Rng;
use crate::plan::PlanParts;

/// A small model; the same for a seed on every machine.
pub fn model(seed: u64) -> PlanParts {
    let mut rng = Rng::new(0x40DE_1000 ^ (seed << 8));
    let shape = [1 + rng.below(14), 2 + rng.below(12), 1 + rng.below(5)];
    let mut b = Builder::new(rng, shape);
    let mut at = 0;
    for _ in 0..1 + b.rng.below(7) {
        at = step(&mut b, at);
    }
    end(&mut b, at);
    b.finish()
}

/// As [`model`], in f16.
pub fn half_model(seed: u64) -> PlanParts {
    let mut rng = Rng::new(0x40DE_1600 ^ (seed << 8));
    let shape = [1 + rng.below(14), 2 + rng.below(12), 1 + rng.below(5)];
    let mut b = Builder::half(rng, shape);
    let mut at = 0;
    for _ in 0..1 + b.rng.below(6) {
        at = half_step(&mut b, at);
    }
    match b.rng.below(4) {
        0 => {
            let scores = b.half_dense(at, 7);
            let floats = b.half_float(scores);
            b.softmax_float(floats);
        }
        1 => {
            let scores = b.half_dense(at, 6);
            b.half_softmax(scores, true);
        }
        2 => {
            let [h, w, _] = b.shape(at);
            b.half_pool(at, Slide::valid([h, w]), false);
        }
        _ => {
            b.half_dense(at, 32);
        }
    }
    b.finish()
}

/// One or more operators in f16 on `at`; what it gives.
fn half_step(b: &mut Builder, at: usize) -> usize {
    let [h, w, c] = b.shape(at);
    let outputs = b.rng.pick(&[3, 4, 8, 9, 16, 20]);
    let stride = b.rng.pick(&[1, 1, 2]);
    let kernel = b.rng.pick(&[[3, 3], [1, 3], [3, 1], [2, 2], [5, 5]]);
    let same = Slide::same(kernel, [stride, stride], [h, w]);
    let next = match b.rng.below(10) {
        0 | 1 => b.half_conv(at, outputs, same, 1, false),
        2 => b.half_depthwise(at, same),
        3 => return b.half_conv(at, outputs, Slide::valid([1, 1]), 1, true),
        4 => {
            let inside = b.half_conv(at, c, Slide::same([3, 3], [1, 1], [h, w]), 1, false);
            let sum = b.half_binary(inside, at, true);
            b.release(at);
            return sum;
        }
        5 => {
            let greatest = b.rng.once_in(2);
            b.half_pool(at, same, greatest)
        }
        6 => {
            let code = b.rng.below(10) as u8;
            return b.half_function(at, code, true);
        }
        7 => return b.half_layer_norm(at, true),
        8 if h * w * c <= 400 => b.resize(at, [h + 1, 2 * w]),
        8 => b.pad(at, [1, 0], [2, 1]),
        _ => {
            // Attention of pixels to pixels.
            let scores = b.half_mat_mul(at, at, true);
            let shares = b.half_softmax(scores, true);
            let mixed = b.half_mat_mul(shares, at, false);
            b.release(shares);
            mixed
        }
    };
    b.release(at);
    next
}

/// One or more operators on `at`; what it gives.
fn step(b: &mut Builder, at: usize) -> usize {
    let [h, w, c] = b.shape(at);
    let outputs = b.rng.pick(&[3, 4, 8, 9, 16, 20]);
    let stride = b.rng.pick(&[1, 1, 2]);
    let kernel = b.rng.pick(&[[3, 3], [1, 3], [3, 1], [2, 2], [5, 5]]);
    let same = Slide::same(kernel, [stride, stride], [h, w]);
    let next = match b.rng.below(12) {
        0 | 1 => b.conv(at, outputs, same, 1, false),
        2 => {
            let inside = b.depthwise(at, same);
            let next = b.conv(inside, outputs, Slide::valid([1, 1]), 1, true);
            b.release(at);
            return next;
        }
        3 => return b.conv(at, outputs, Slide::valid([1, 1]), 1, true),
        4 => return residual(b, at),
        5 => return scaled(b, at),
        6 => b.max_pool(at, same),
        7 => b.average_pool(at, same),
        8 => return b.table(at, true),
        9 => {
            let axes = b.rng.pick(&[[1, 0, 2], [0, 2, 1], [2, 1, 0]]);
            b.transpose(at, axes)
        }
        10 if h * w * c <= 400 => b.resize(at, [h + 1, 2 * w]),
        10 => b.pad(at, [1, 0], [2, 1]),
        _ => return branches(b, at),
    };
    b.release(at);
    next
}

/// Adds a convolution of it to it.
fn residual(b: &mut Builder, at: usize) -> usize {
    let [h, w, c] = b.shape(at);
    let inside = b.conv(at, c, Slide::same([3, 3], [1, 1], [h, w]), 1, false);
    let sum = b.add(inside, at, true);
    b.release(at);
    sum
}

/// Multiplies it by one factor a channel, as squeeze-and-excitation does.
fn scaled(b: &mut Builder, at: usize) -> usize {
    let [h, w, c] = b.shape(at);
    let mean = b.average_pool(at, Slide::valid([h, w]));
    let squeezed = b.dense(mean, c);
    b.release(mean);
    let gate = b.table(squeezed, true);
    let product = b.mul(at, gate, true);
    b.release(gate);
    product
}

/// Puts a pooled and a moved copy of it side by side with it.
fn branches(b: &mut Builder, at: usize) -> usize {
    let [h, w, _] = b.shape(at);
    let pooled = b.max_pool(at, Slide::same([3, 3], [1, 1], [h, w]));
    let moved = b.resize(at, [h, w]);
    let whole = b.concat(&[at, pooled, moved]);
    [at, pooled, moved].into_iter().for_each(|part| b.release(part));
    whole
}

/// What comes last: scores as int8 or floats, or the embedding itself.
fn end(b: &mut Builder, at: usize) {
    match b.rng.below(6) {
        0 => {
            let scores = b.dense_float(at, 7);
            b.softmax_float(scores);
        }
        1 => {
            let scores = b.dense(at, 6);
            b.softmax(scores, true);
        }
        2 => {
            let [h, w, _] = b.shape(at);
            let mean = b.average_pool(at, Slide::valid([h, w]));
            b.dequantize(mean);
        }
        3 => {
            let [h, w, c] = b.shape(at);
            b.reshape(at, [1, 1, h * w * c], true);
        }
        4 => {
            b.mean_float(at);
        }
        _ => {
            b.dense(at, 32);
        }
    }
}
