//! Operators in real numbers, by index, as onnx.ai defines them; tensors are `[height, width, channels]`.

use hone_runtime::QuantParams;
use hone_runtime::kernels::suite::Rng;

/// A tensor of real numbers.
pub struct Map {
    pub shape: [usize; 3],
    pub values: Vec<f64>,
}

impl Map {
    /// DequantizeLinear.
    pub fn dequantize(steps: &[u8], shape: [usize; 3], quant: QuantParams) -> Self {
        let real = |q: &u8| f64::from(quant.scale) * (f64::from(q.cast_signed()) - f64::from(quant.zero_point));
        Self { shape, values: steps.iter().map(real).collect() }
    }

    fn at(&self, y: usize, x: usize, c: usize) -> f64 {
        self.values[(y * self.shape[1] + x) * self.shape[2] + c]
    }

    fn from(shape: [usize; 3], f: impl Fn(usize, usize, usize) -> f64) -> Self {
        let [h, w, c] = shape;
        let mut values = Vec::new();
        for y in 0..h {
            for x in 0..w {
                values.extend((0..c).map(|c| f(y, x, c)));
            }
        }
        Self { shape, values }
    }
}

/// A window with its borders.
#[derive(Debug, Clone, Copy)]
pub struct Slide {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub before: [usize; 2],
    pub behind: [usize; 2],
}

impl Slide {
    /// ONNX's auto_pad = SAME_UPPER.
    pub fn same(kernel: [usize; 2], stride: [usize; 2], size: [usize; 2]) -> Self {
        let border: Vec<usize> = (0..2)
            .map(|axis| {
                let outputs = size[axis].div_ceil(stride[axis]);
                ((outputs - 1) * stride[axis] + kernel[axis]).saturating_sub(size[axis])
            })
            .collect();
        let before = [border[0] / 2, border[1] / 2];
        let behind = [border[0] - before[0], border[1] - before[1]];
        Self { kernel, stride, dilation: [1, 1], before, behind }
    }

    fn output(&self, size: usize, axis: usize) -> usize {
        let extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
        (size + self.before[axis] + self.behind[axis] - extent) / self.stride[axis] + 1
    }

    /// Places under the window that lie inside an input of `size`, each with its tap's row and column.
    fn places(&self, y: usize, x: usize, size: [usize; 2]) -> Vec<[usize; 4]> {
        let mut places = Vec::new();
        for ky in 0..self.kernel[0] {
            for kx in 0..self.kernel[1] {
                let at = |out: usize, tap: usize, axis: usize| {
                    (out * self.stride[axis] + tap * self.dilation[axis]) as i64 - self.before[axis] as i64
                };
                let (iy, ix) = (at(y, ky, 0), at(x, kx, 1));
                if (0..size[0] as i64).contains(&iy) && (0..size[1] as i64).contains(&ix) {
                    places.push([ky, kx, iy as usize, ix as usize]);
                }
            }
        }
        places
    }
}

/// int8 weights with one scale an output channel, and a bias in steps of input scale · weight scale.
pub struct Weights {
    pub outputs: usize,
    /// Products of one output.
    pub depth: usize,
    /// `[output, tap row, tap column, input channel of the group]`.
    pub steps: Vec<i8>,
    pub scales: Vec<f32>,
    pub bias: Vec<i32>,
}

impl Weights {
    pub fn random(rng: &mut Rng, outputs: usize, depth: usize) -> Self {
        let steps = (0..outputs * depth).map(|_| rng.int8().max(-127)).collect();
        let scales = (0..outputs).map(|_| (0.001 + 0.02 * rng.unit()) as f32).collect();
        let bias = (0..outputs).map(|_| rng.between(-9000, 9000) as i32).collect();
        Self { outputs, depth, steps, scales, bias }
    }
}

/// Conv.
pub fn conv(input: &Map, weights: &Weights, scale: f32, slide: &Slide, groups: usize) -> Map {
    let [h, w, channels] = input.shape;
    let (group_inputs, group_outputs) = (channels / groups, weights.outputs / groups);
    let shape = [slide.output(h, 0), slide.output(w, 1), weights.outputs];
    Map::from(shape, |y, x, o| {
        let first = o / group_outputs * group_inputs;
        let weight_scale = f64::from(weights.scales[o]);
        let mut sum = f64::from(weights.bias[o]) * f64::from(scale) * weight_scale;
        for [ky, kx, iy, ix] in slide.places(y, x, [h, w]) {
            for c in 0..group_inputs {
                let index = ((o * slide.kernel[0] + ky) * slide.kernel[1] + kx) * group_inputs + c;
                sum += input.at(iy, ix, first + c) * weight_scale * f64::from(weights.steps[index]);
            }
        }
        sum
    })
}

/// AveragePool with count_include_pad = 0.
pub fn mean(input: &Map, slide: &Slide) -> Map {
    let [h, w, channels] = input.shape;
    Map::from([slide.output(h, 0), slide.output(w, 1), channels], |y, x, c| {
        let places = slide.places(y, x, [h, w]);
        places.iter().map(|[_, _, iy, ix]| input.at(*iy, *ix, c)).sum::<f64>() / places.len() as f64
    })
}

/// MaxPool.
pub fn greatest(input: &Map, slide: &Slide) -> Map {
    let [h, w, channels] = input.shape;
    Map::from([slide.output(h, 0), slide.output(w, 1), channels], |y, x, c| {
        let places = slide.places(y, x, [h, w]);
        places.iter().map(|[_, _, iy, ix]| input.at(*iy, *ix, c)).fold(f64::NEG_INFINITY, f64::max)
    })
}

/// Softmax over the last axis.
pub fn softmax(input: &Map) -> Map {
    let channels = input.shape[2];
    Map::from(input.shape, |y, x, c| {
        let sum: f64 = (0..channels).map(|other| (input.at(y, x, other) - input.at(y, x, c)).exp()).sum();
        1.0 / sum
    })
}
