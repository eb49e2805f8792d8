//! The four MLPerf Tiny models layer for layer, with seeded weights.
//!
//! How many instructions a kernel takes does not depend on the values of its weights, so that these stand for the real models where those
//! are not at hand.

use hone_runtime::plan::format::ALIGN;
use hone_runtime::plan::writer::{blocked, blocked_depthwise};
use hone_runtime::plan::{Code, DType, OpParts, PlanParts, Requant, Tensor, Window};
use hone_runtime::quant::QuantParams;

use super::job::Case;

/// Seeded numbers: xorshift64*.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for every seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any number.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.bits() >> 32) as usize * n) >> 32
    }

    /// Any bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.bits() >> 40) as u8).collect()
    }
}

/// A network under construction.
pub struct Net {
    parts: PlanParts,
    random: Random,
}

/// Index of a tensor.
pub type Id = usize;

impl Net {
    /// One with an input of that shape at offset 0.
    pub fn new(seed: u64, shape: [usize; 3]) -> Self {
        let parts = PlanParts {
            arena_bytes: 0,
            tensors: Vec::new(),
            input: 0,
            output: 0,
            channels_first: false,
            ops: Vec::new(),
            names: true,
        };
        let mut net = Self { parts, random: Random::new(seed) };
        net.tensor(shape, 0);
        net
    }

    /// A tensor at an offset.
    pub fn tensor(&mut self, shape: [usize; 3], offset: usize) -> Id {
        let zero_point = (self.random.below(64) as i32 - 128) as i8;
        let quant = QuantParams { scale: 0.05, zero_point };
        let tensor = Tensor { dtype: DType::Int8, shape, quant, offset: Some(offset) };
        self.parts.arena_bytes = self.parts.arena_bytes.max(offset + tensor.bytes().next_multiple_of(ALIGN));
        self.parts.tensors.push(tensor);
        self.parts.tensors.len() - 1
    }

    /// The tensor.
    pub fn at(&self, id: Id) -> Tensor {
        self.parts.tensors[id]
    }

    fn scratch(&mut self, offset: usize, bytes: usize) -> (usize, usize) {
        self.parts.arena_bytes = self.parts.arena_bytes.max(offset + bytes);
        (offset, bytes)
    }

    /// Multipliers of `outputs` channels whose accumulators sum `depth` products, so that outputs spread over int8.
    fn requantize(&mut self, op: &mut OpParts, outputs: usize, depth: usize) {
        let typical = 24.0 / ((depth as f64).sqrt() * 73.0 * 73.0);
        let factors: Vec<f64> =
            (0..outputs).map(|_| typical * (0.5 + self.random.below(1000) as f64 / 1000.0)).collect();
        let mut multipliers = vec![0; outputs];
        let requant = Requant::fit(&factors, &mut multipliers).expect("factors in range");
        op.shifts = (requant.shift(), requant.left());
        multipliers.resize(outputs.next_multiple_of(4), 0);
        op.bias = multipliers.iter().map(|_| self.random.below(20_000) as i32 - 10_000).collect();
        op.multipliers = multipliers;
    }

    /// A convolution; `scratch` is an offset.
    pub fn conv(&mut self, input: Id, output: Id, window: Window, in_place: bool, scratch: usize) {
        let (inputs, outputs) = (self.at(input).channels(), self.at(output).channels());
        let depth = window.taps() * inputs;
        let name =
            format!("Conv {}x{} {}", window.kernel[0], window.kernel[1], shapes(&self.at(input), &self.at(output)));
        let mut op = OpParts::new(Code::Conv, &name, &[input], output);
        op.weights = blocked(&self.random.bytes(outputs * depth), outputs, depth);
        self.requantize(&mut op, outputs, depth);
        (op.window, op.in_place) = (window, in_place);
        if in_place || !window.is_pointwise() {
            op.scratch = self.scratch(scratch, 4 * depth.next_multiple_of(4));
        }
        self.parts.ops.push(op);
    }

    /// A depthwise convolution.
    pub fn depthwise(&mut self, input: Id, output: Id, window: Window) {
        let (channels, taps) = (self.at(input).channels(), window.taps());
        let name = format!(
            "Depthwise {}x{} {}",
            window.kernel[0],
            window.kernel[1],
            shapes(&self.at(input), &self.at(output))
        );
        let mut op = OpParts::new(Code::Depthwise, &name, &[input], output);
        op.weights = blocked_depthwise(&self.random.bytes(taps * channels), taps, channels);
        self.requantize(&mut op, channels, taps);
        (op.window, op.groups) = (window, channels);
        self.parts.ops.push(op);
    }

    /// A dense layer.
    pub fn dense(&mut self, input: Id, output: Id) {
        let (depth, outputs) = (self.at(input).elements(), self.at(output).channels());
        let name = format!("Dense {depth}->{outputs}");
        let mut op = OpParts::new(Code::Dense, &name, &[input], output);
        op.weights = blocked(&self.random.bytes(outputs * depth), outputs, depth);
        self.requantize(&mut op, outputs, depth);
        self.parts.ops.push(op);
    }

    /// A sum.
    pub fn add(&mut self, a: Id, b: Id, output: Id, in_place: bool) {
        let mut op = OpParts::new(Code::Add, &format!("Add {:?}", self.at(output).shape), &[a, b], output);
        let [ma, mb] = [0; 2].map(|_| 9_000 + self.random.below(14_000) as u32);
        op.numbers = ((ma | mb << 16).cast_signed(), (1 << 14) - self.random.below(1 << 20) as i32);
        (op.shifts, op.in_place) = ((15, 0), in_place);
        self.parts.ops.push(op);
    }

    /// The mean of every channel.
    pub fn mean(&mut self, input: Id, output: Id) {
        let [height, width, _] = self.at(input).shape;
        let mut op = OpParts::new(Code::AveragePool, "AveragePool", &[input], output);
        op.window = window([height, width], 1, [0, 0]);
        op.multipliers = vec![0];
        let factor = 1.1 / (height * width) as f64;
        let requant = Requant::fit(&[factor], &mut op.multipliers).expect("a factor in range");
        op.shifts = (requant.shift(), requant.left());
        self.parts.ops.push(op);
    }

    /// Softmax.
    pub fn softmax(&mut self, input: Id, output: Id, in_place: bool) {
        let mut op = OpParts::new(Code::Softmax, "Softmax", &[input], output);
        let entry = |d: usize| (f64::from(1u32 << 20) * (-0.1 * d as f64).exp()).round() as u32;
        op.weights = (0..256).flat_map(|d| entry(d).to_le_bytes()).collect();
        (op.numbers, op.in_place) = ((256, 0), in_place);
        self.parts.ops.push(op);
    }

    /// The case: the last tensor made is the output.
    pub fn finish(mut self, name: &str) -> Case {
        self.parts.output = self.parts.tensors.len() - 1;
        let plan = self.parts.to_bytes().unwrap_or_else(|why| panic!("{name}: {why}"));
        let input = self.random.bytes(self.at(0).bytes());
        Case { name: name.into(), plan, input }
    }
}

fn shapes(input: &Tensor, output: &Tensor) -> String {
    let [h, w, c] = output.shape;
    format!("{}->{c} {h}x{w}", input.channels())
}

/// A window without dilation.
pub fn window(kernel: [usize; 2], stride: usize, pad: [usize; 2]) -> Window {
    Window { kernel, stride: [stride; 2], dilation: [1; 2], pad }
}

const POINT: [usize; 2] = [1, 1];

/// MLPerf Tiny's four models.
pub fn models() -> Vec<Case> {
    vec![keywords(), images(), persons(), anomalies()]
}

/// DS-CNN on 49×10 mel coefficients.
pub fn keywords() -> Case {
    let mut net = Net::new(1, [49, 10, 1]);
    let (a, b) = (0, 8000);
    let mut x = net.tensor([25, 5, 64], b);
    net.conv(0, x, window([10, 4], 2, [4, 1]), false, 1008);
    for at in [a, b, a, b] {
        let y = net.tensor([25, 5, 64], at);
        net.depthwise(x, y, window([3, 3], 1, [1, 1]));
        x = net.tensor([25, 5, 64], at);
        net.conv(y, x, window(POINT, 1, [0, 0]), true, b - at);
    }
    let mean = net.tensor([1, 1, 64], a);
    net.mean(x, mean);
    let scores = net.tensor([1, 1, 12], 128);
    net.dense(mean, scores);
    let out = net.tensor([1, 1, 12], 128);
    net.softmax(scores, out, true);
    net.finish("KWS DS-CNN")
}

/// ResNet-8 on 32×32 RGB.
pub fn images() -> Case {
    let mut net = Net::new(2, [32, 32, 3]);
    let kb = 1024;
    let three = |stride, pad| window([3, 3], stride, [pad; 2]);
    let x = net.tensor([32, 32, 16], 16 * kb);
    net.conv(0, x, three(1, 1), false, 4 * kb);
    let y = net.tensor([32, 32, 16], 0);
    net.conv(x, y, three(1, 1), false, 48 * kb);
    let z = net.tensor([32, 32, 16], 32 * kb);
    net.conv(y, z, three(1, 1), false, 48 * kb);
    let x = net.tensor([32, 32, 16], 32 * kb);
    net.add(z, 1, x, true);
    let mut x = x;
    for (channels, side, at) in [(32, 16, 8 * kb), (64, 8, 16 * kb)] {
        let y = net.tensor([side, side, channels], 0);
        net.conv(x, y, three(2, 0), false, 24 * kb);
        let z = net.tensor([side, side, channels], at);
        net.conv(y, z, three(1, 1), false, 24 * kb);
        let short = net.tensor([side, side, channels], 0);
        net.conv(x, short, window(POINT, 2, [0, 0]), false, 24 * kb);
        x = net.tensor([side, side, channels], at);
        net.add(z, short, x, true);
    }
    let mean = net.tensor([1, 1, 64], 0);
    net.mean(x, mean);
    let scores = net.tensor([1, 1, 10], 128);
    net.dense(mean, scores);
    let out = net.tensor([1, 1, 10], 128);
    net.softmax(scores, out, true);
    net.finish("IC ResNet-8")
}

/// MobileNetV1 0.25 on 96×96 RGB.
pub fn persons() -> Case {
    let mut net = Net::new(3, [96, 96, 3]);
    let top = 36_864;
    let mut x = net.tensor([48, 48, 8], 27_648);
    net.conv(0, x, window([3, 3], 2, [0, 0]), false, 46_080);
    let mut side = 48usize;
    let blocks = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)];
    let blocks = blocks.into_iter().chain([(128, 1); 5]).chain([(256, 2), (256, 1)]);
    for (channels, stride) in blocks {
        side = side.div_ceil(stride);
        let pad = if stride == 1 { 1 } else { 0 };
        let inputs = net.at(x).channels();
        let at = if net.at(x).offset == Some(0) { top } else { 0 };
        let y = net.tensor([side, side, inputs], at);
        net.depthwise(x, y, window([3, 3], stride, [pad; 2]));
        x = net.tensor([side, side, channels], at);
        net.conv(y, x, window(POINT, 1, [0, 0]), true, top - at);
    }
    let mean = net.tensor([1, 1, 256], top);
    net.mean(x, mean);
    let scores = net.tensor([1, 1, 2], 0);
    net.dense(mean, scores);
    let out = net.tensor([1, 1, 2], 0);
    net.softmax(scores, out, true);
    net.finish("VWW MobileNetV1 0.25")
}

/// The autoencoder for machine sounds.
pub fn anomalies() -> Case {
    let mut net = Net::new(4, [1, 1, 640]);
    let mut x = 0;
    for (index, outputs) in [128, 128, 128, 128, 8, 128, 128, 128, 128, 640].into_iter().enumerate() {
        let y = net.tensor([1, 1, outputs], if outputs == 640 { 0 } else { 640 - 640 * (index % 2) });
        net.dense(x, y);
        x = y;
    }
    net.finish("AD autoencoder")
}
