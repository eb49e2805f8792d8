//! Whole models give the same bits on every processor and with every tier: the checksums below are of what x86-64's portable kernels
//! gave, and `cargo xtask test` runs this file on aarch64 as well. Models have the shapes of real ones and random weights.

use std::collections::HashSet;

use crc::{CRC_32_ISO_HDLC, Crc};
use hone_runtime::engine::Prepared;
use hone_runtime::kernels::suite::{Builder, Rng, Slide};
use hone_runtime::kernels::{self, Tier};
use hone_runtime::plan::writer::{blocked, blocked_depthwise};
use hone_runtime::plan::{Code, DType, OpParts, Plan, PlanParts, Requant, Window};
use hone_runtime::quant::QuantParams;

/// Checksum of every operator's output in order, on one input. A change of the plans below changes it: put in what x86-64's
/// portable kernels find, and let the others confirm it.
const GOLDEN: [(&str, u32); 8] = [
    ("keyword spotting", 0xc8a0_9ca8),
    ("image classification", 0x514e_4db3),
    ("visual wake words", 0x4faf_a9f8),
    ("anomaly detection", 0xf6dc_234b),
    ("inverted residual", 0x3d90_23b8),
    ("squeeze and excitation", 0x4814_efe5),
    ("fire", 0x6edb_aa67),
    ("gestures", 0xeeea_ce30),
];

#[test]
fn every_processor_and_tier_gives_the_same_bits() {
    let tiers = kernels::available().into_iter().map(|name| kernels::named(name).unwrap());
    for tier in tiers.chain(emulated()) {
        let found = GOLDEN.map(|(name, _)| (name, checksum(&plan(name), tier)));
        let wrong: Vec<_> = found.iter().zip(&GOLDEN).filter(|(found, golden)| found != golden).collect();
        assert!(wrong.is_empty(), "{}: found and wanted: {wrong:#010x?}", tier.name);
        println!("{}: {} models with the bits of every other processor", tier.name, found.len());
    }
}

/// Real models: plans that `cargo xtask same-bits` has exported, each with an input and the checksum of every operator's result as the
/// portable kernels of an x86-64 gave them.
#[test]
fn given_plans_give_the_given_bits() {
    let Some(folder) = std::env::var_os("HONE_SAME_BITS") else {
        println!("skipped: HONE_SAME_BITS names no folder of plans; `cargo xtask same-bits` makes one");
        return;
    };
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let plans: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "plan")).collect();
    assert!(!plans.is_empty());
    for path in plans {
        let bytes = std::fs::read(&path).unwrap();
        let input = std::fs::read(path.with_extension("input")).unwrap();
        let wanted = std::fs::read_to_string(path.with_extension("crc")).unwrap();
        let wanted: Vec<u32> = wanted.lines().map(|line| u32::from_str_radix(line, 16).unwrap()).collect();
        let tiers = kernels::available().into_iter().map(|name| kernels::named(name).unwrap());
        for tier in tiers.chain(emulated()) {
            let found = operators(&bytes, &input, tier);
            assert_eq!(found.len(), wanted.len(), "{}", path.display());
            let wrong = found.iter().zip(&wanted).position(|(found, wanted)| found != wanted);
            assert_eq!(wrong, None, "{}: the first operator that differs with {}", path.display(), tier.name);
            println!("{}: {}: {} operators with the given bits", tier.name, path.display(), found.len());
        }
    }
}

/// Checksums of every operator's result.
fn operators(bytes: &[u8], input: &[u8], tier: &'static Tier) -> Vec<u32> {
    let plan = Plan::parse(bytes).unwrap();
    let mut prepared = Prepared::new(plan, tier).unwrap();
    prepared.set_input_bytes(input).unwrap();
    let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let results = plan.ops().enumerate().map(|(index, op)| {
        prepared.run_op(index);
        if op.output.dtype == DType::F32 {
            let values = &prepared.float_output()[..op.output.elements()];
            crc.checksum(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
        } else {
            crc.checksum(&prepared.arena()[op.output.range()])
        }
    });
    results.collect()
}

/// Tiers whose instructions this processor need not have.
fn emulated() -> Vec<&'static Tier> {
    #[cfg(target_arch = "x86_64")]
    {
        use kernels::x86_64::emulated;
        [emulated::avxvnni(), emulated::avx512vnni()].into_iter().flatten().collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

fn checksum(bytes: &[u8], tier: &'static Tier) -> u32 {
    let plan = Plan::parse(bytes).unwrap();
    let mut prepared = Prepared::new(plan, tier).unwrap();
    let mut rng = Rng::new(7);
    // Uneven, as real inputs are.
    let input: Vec<f32> = (0..plan.input().elements()).map(|_| (rng.unit() * rng.unit() * 8.0 - 2.0) as f32).collect();
    prepared.set_input(&input).unwrap();
    let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let mut digest = crc.digest();
    for (index, op) in plan.ops().enumerate() {
        prepared.run_op(index);
        let output = &prepared.arena()[op.output.range()];
        let values: HashSet<_> = output.iter().collect();
        assert!(output.len() < 64 || values.len() >= 16, "operator {index}, {:?}, gives {values:?} alone", op.code);
        digest.update(output);
    }
    prepared.float_output().iter().for_each(|value| digest.update(&value.to_le_bytes()));
    digest.finalize()
}

fn plan(name: &str) -> Vec<u8> {
    let parts = match name {
        "keyword spotting" => keyword_spotting(),
        "image classification" => image_classification(),
        "visual wake words" => visual_wake_words(),
        "anomaly detection" => anomaly_detection(),
        "inverted residual" => inverted_residual(),
        "squeeze and excitation" => squeeze_and_excitation(),
        "fire" => fire(),
        "gestures" => gestures(),
        other => panic!("no model {other}"),
    };
    parts.to_bytes().unwrap()
}

/// Layers with ordinary weights, and outputs that use their range. What a layer reads is released, so that the next may lie there.
struct Model {
    b: Builder,
    at: usize,
    /// Scale and zero point of all tensors from here on; none: random ones.
    quant: Option<QuantParams>,
}

impl Model {
    fn new(seed: u64, input: [usize; 3]) -> Self {
        Self { b: Builder::new(Rng::new(seed), input), at: 0, quant: None }
    }

    fn shape(&self) -> [usize; 3] {
        self.b.shape(self.at)
    }

    fn weights(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| self.b.rng.int8().max(-127)).collect()
    }

    fn tensor(&mut self, shape: [usize; 3]) -> usize {
        let zero_point = self.b.rng.between(-128, 127) as i8;
        self.b.tensor_with(shape, self.quant.unwrap_or(QuantParams { scale: 0.03, zero_point }))
    }

    /// A copy of what there is, for an operator further down.
    fn keep(&mut self) -> usize {
        let kept = self.b.tensor_with(self.shape(), self.b.quant(self.at));
        self.b.op(OpParts::new(Code::Reshape, "keep", &[self.at], kept), 0)
    }

    /// Bias, multipliers and shifts for sums of `depth` products of random bytes, and a ReLU's bounds for some.
    fn finish(&mut self, op: OpParts, depth: usize, weights: Vec<i8>, scratch: usize) {
        let outputs = self.b.shape(op.output)[2];
        let typical = 73.0 * 73.0 * (depth as f64).sqrt();
        let factors: Vec<f64> = (0..outputs).map(|_| 60.0 / typical * (0.5 + self.b.rng.unit())).collect();
        let mut multipliers = vec![0; outputs];
        let requant = Requant::fit(&factors, &mut multipliers).unwrap();
        let mut bias: Vec<i32> = (0..outputs).map(|_| ((self.b.rng.unit() - 0.5) * typical) as i32).collect();
        multipliers.resize(outputs.next_multiple_of(4), 0);
        bias.resize(outputs.next_multiple_of(4), 0);
        let zero_point = self.b.quant(op.output).zero_point;
        let least = if self.b.rng.once_in(2) { zero_point.min(0) } else { i8::MIN };
        let weights = weights.into_iter().map(i8::cast_unsigned).collect();
        let shifts = (requant.shift(), requant.left());
        let op = OpParts { weights, bias, multipliers, shifts, bounds: (least, i8::MAX), ..op };
        let (input, in_place) = (op.inputs[0], op.in_place);
        self.at = self.b.op(op, scratch);
        if !in_place {
            self.b.release(input);
        }
    }

    fn conv(&mut self, outputs: usize, kernel: [usize; 2], stride: [usize; 2]) -> &mut Self {
        let [h, w, inputs] = self.shape();
        let slide = Slide::same(kernel, stride, [h, w]);
        let [oh, ow] = slide.output([h, w]).unwrap();
        let depth = kernel[0] * kernel[1] * inputs;
        let weights = self.weights(outputs * depth);
        let (input, output) = (self.at, self.tensor([oh, ow, outputs]));
        let op = OpParts { window: window(&slide), ..OpParts::new(Code::Conv, "conv", &[input], output) };
        let pointwise = kernel == [1, 1] && stride == [1, 1];
        let scratch = if pointwise { 0 } else { 4 * depth.next_multiple_of(4) };
        self.finish(op, depth, blocked(&weights, outputs, depth), scratch);
        self
    }

    /// A pointwise convolution whose output lies where its input lay.
    fn pointwise_in_place(&mut self, outputs: usize) -> &mut Self {
        let [h, w, inputs] = self.shape();
        let weights = self.weights(outputs * inputs);
        let (input, quant) = (self.at, QuantParams { scale: 0.03, zero_point: -3 });
        let output = self.b.tensor_over(input, [h, w, outputs], quant);
        let window = window(&Slide::valid([1, 1]));
        let op = OpParts { window, in_place: true, ..OpParts::new(Code::Conv, "pointwise", &[input], output) };
        self.finish(op, inputs, blocked(&weights, outputs, inputs), 4 * inputs.next_multiple_of(4));
        self
    }

    fn depthwise(&mut self, stride: usize) -> &mut Self {
        let [h, w, channels] = self.shape();
        let slide = Slide::same([3, 3], [stride, stride], [h, w]);
        let [oh, ow] = slide.output([h, w]).unwrap();
        let weights = self.weights(9 * channels);
        let (input, output) = (self.at, self.tensor([oh, ow, channels]));
        let op = OpParts::new(Code::Depthwise, "depthwise", &[input], output);
        let op = OpParts { window: window(&slide), groups: channels, ..op };
        self.finish(op, 9, blocked_depthwise(&weights, 9, channels), 0);
        self
    }

    fn dense(&mut self, outputs: usize) -> &mut Self {
        let depth = self.shape().iter().product();
        let weights = self.weights(outputs * depth);
        let (input, output) = (self.at, self.tensor([1, 1, outputs]));
        self.finish(OpParts::new(Code::Dense, "dense", &[input], output), depth, blocked(&weights, outputs, depth), 0);
        self
    }

    fn mean(&mut self) -> &mut Self {
        let [h, w, channels] = self.shape();
        let (input, output) = (self.at, self.tensor([1, 1, channels]));
        let mut multipliers = vec![0];
        let requant = Requant::fit(&[2.0 / (h * w) as f64], &mut multipliers).unwrap();
        let op = OpParts::new(Code::AveragePool, "mean", &[input], output);
        let window = window(&Slide::valid([h, w]));
        self.at = self.b.op(OpParts { window, multipliers, shifts: (requant.shift(), requant.left()), ..op }, 0);
        self.b.release(input);
        self
    }

    /// Adds `other`, in place.
    fn add(&mut self, other: usize) -> &mut Self {
        let (input, quant) = (self.at, QuantParams { scale: 0.03, zero_point: 1 });
        let output = self.b.tensor_over(input, self.shape(), quant);
        let [a, b] = 11_000i16.to_le_bytes();
        let [c, d] = (-9_000i16).to_le_bytes();
        let numbers = (i32::from_le_bytes([a, b, c, d]), 77_777);
        let op = OpParts::new(Code::Add, "add", &[input, other], output);
        self.at = self.b.op(OpParts { in_place: true, shifts: (14, 0), numbers, ..op }, 0);
        self.b.release(other);
        self
    }

    fn table(&mut self) -> &mut Self {
        self.at = self.b.table(self.at, true);
        self
    }

    /// Scores as floats, and their softmax.
    fn scores(&mut self, classes: usize) -> PlanParts {
        let scores = self.b.dense_float(self.at, classes);
        self.b.softmax_float(scores);
        self.end()
    }

    fn end(&mut self) -> PlanParts {
        core::mem::replace(&mut self.b, Builder::new(Rng::new(0), [1, 1, 1])).finish()
    }
}

fn window(slide: &Slide) -> Window {
    Window { kernel: slide.kernel, stride: slide.stride, dilation: slide.dilation, pad: slide.before }
}

/// DS-CNN.
fn keyword_spotting() -> PlanParts {
    let mut m = Model::new(1, [49, 10, 1]);
    m.conv(64, [10, 4], [2, 2]);
    for _ in 0..4 {
        m.depthwise(1).conv(64, [1, 1], [1, 1]);
    }
    m.mean().scores(12)
}

/// ResNet-8.
fn image_classification() -> PlanParts {
    let mut m = Model::new(2, [32, 32, 3]);
    m.conv(16, [3, 3], [1, 1]);
    for (outputs, stride) in [(16, 1), (32, 2), (64, 2)] {
        let kept = m.keep();
        m.conv(outputs, [3, 3], [stride, stride]).conv(outputs, [3, 3], [1, 1]);
        let inside = m.at;
        if stride == 1 {
            m.add(kept);
        } else {
            m.at = kept;
            m.conv(outputs, [1, 1], [stride, stride]).add(inside);
        }
    }
    m.mean().dense(10).end()
}

/// MobileNetV1 of a quarter of the width.
fn visual_wake_words() -> PlanParts {
    let mut m = Model::new(3, [96, 96, 3]);
    m.conv(8, [3, 3], [2, 2]);
    for (stride, outputs) in
        [(1, 16), (2, 32), (1, 32), (2, 64), (1, 64), (2, 128), (1, 128), (1, 128), (2, 256), (1, 256)]
    {
        m.depthwise(stride);
        if outputs % 128 == 0 {
            m.pointwise_in_place(outputs)
        } else {
            m.conv(outputs, [1, 1], [1, 1])
        };
    }
    m.mean().scores(2)
}

/// A deep autoencoder.
fn anomaly_detection() -> PlanParts {
    let mut m = Model::new(4, [1, 1, 640]);
    for outputs in [128, 128, 128, 128, 8, 128, 128, 128, 128, 640] {
        m.dense(outputs);
    }
    m.end()
}

/// MobileNetV2: narrow, wide, narrow, and a sum.
fn inverted_residual() -> PlanParts {
    let mut m = Model::new(5, [14, 14, 24]);
    for _ in 0..3 {
        let kept = m.keep();
        m.pointwise_in_place(144).depthwise(1).conv(24, [1, 1], [1, 1]).add(kept);
    }
    m.pointwise_in_place(10).end()
}

/// A gate a channel, and activations from tables.
fn squeeze_and_excitation() -> PlanParts {
    let mut m = Model::new(6, [12, 12, 8]);
    m.conv(40, [5, 5], [1, 1]).table();
    let (kept, shape) = (m.keep(), m.shape());
    m.mean().dense(10).table().dense(40).table();
    let (gate, output) = (m.at, m.tensor(shape));
    let op = OpParts::new(Code::Mul, "gate", &[kept, gate], output);
    m.at = m.b.op(OpParts { multipliers: vec![1_700_000_000], shifts: (37, 0), ..op }, 0);
    m.dense(16).end()
}

/// SqueezeNet: two convolutions of one tensor side by side, and a maximum.
fn fire() -> PlanParts {
    let mut m = Model::new(7, [27, 27, 3]);
    m.conv(20, [3, 3], [2, 2]).conv(16, [1, 1], [1, 1]);
    let kept = m.keep();
    m.conv(32, [1, 1], [1, 1]);
    let one = m.at;
    m.at = kept;
    m.quant = Some(m.b.quant(one));
    m.conv(30, [3, 3], [1, 1]);
    let both = m.b.concat(&[one, m.at]);
    let slide = Slide { stride: [2, 2], ..Slide::valid([3, 3]) };
    let output = m.b.tensor_with([7, 7, 62], m.b.quant(both));
    let op = OpParts::new(Code::MaxPool, "max", &[both], output);
    m.at = m.b.op(OpParts { window: window(&slide), ..op }, 0);
    m.dense(9).end()
}

/// Convolutions in one dimension.
fn gestures() -> PlanParts {
    let mut m = Model::new(8, [1, 128, 6]);
    m.conv(16, [1, 5], [1, 2]).conv(32, [1, 7], [1, 1]).conv(33, [1, 3], [1, 2]).mean().scores(4)
}
