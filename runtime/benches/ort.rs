//! What our provider adds to a bare session of ONNX Runtime with bound input and output: the checks of the input, the copy and the embedding's
//! quantization. The bare side is the C function `RunWithBinding` alone, with the same copy of the input and one look at the output.
//!
//! Rounds of both are interleaved, so that the machine's drift hits both alike; the difference is taken round by round. Says "skipped" where no
//! library of ONNX Runtime is found.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and may stop")]
#![allow(unsafe_code, reason = "the bare side calls the C interface")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use hone_runtime::backbone::ort::{ExecutionProvider, Found, OrtBackbone, Settings};
use hone_runtime::backbone::{Backbone as _, Fingerprint};
use hone_runtime::bundle::{Bundle, BundleParts, InputSpec};
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};
use ort::sys;

/// Inputs, without the batch: from a small array to a picture.
const SHAPES: [[i64; 3]; 4] = [[1, 8, 8], [3, 32, 32], [3, 96, 96], [3, 224, 224]];

/// A field of a protobuf message that has a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 127 {
        out.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

/// A field of a protobuf message that is a number.
fn number(field: u8, mut value: i64) -> Vec<u8> {
    let mut out = vec![field << 3];
    while value > 127 {
        out.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// An ONNX file: GlobalAveragePool from `x` to `y`, which costs next to nothing.
fn model([channels, height, width]: [i64; 3]) -> Vec<u8> {
    let port = |name: &str, dims: [i64; 4]| {
        let dims: Vec<u8> = dims.iter().flat_map(|&dim| field(1, &number(1, dim))).collect();
        let tensor = [number(1, 1), field(2, &dims)].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    };
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"GlobalAveragePool")].concat();
    let (x, y) = (port("x", [1, channels, height, width]), port("y", [1, channels, 1, 1]));
    let graph = [field(1, &node), field(2, b"bench"), field(11, &x), field(12, &y)].concat();
    [number(1, 8), field(7, &graph), field(8, &number(2, 13))].concat()
}

/// A session and what is bound to it; never freed.
struct Bare {
    session: *mut sys::OrtSession,
    binding: *mut sys::OrtIoBinding,
    input: &'static mut [f32],
    output: &'static mut [f32],
}

/// The result of a C function that writes it.
fn made<T>(call: impl FnOnce(*mut *mut T) -> sys::OrtStatusPtr) -> *mut T {
    let mut out = std::ptr::null_mut();
    assert!(call(&raw mut out).0.is_null(), "ONNX Runtime failed");
    out
}

impl Bare {
    /// After a first session of ours: that loads the library and makes the process's one environment.
    fn new(model: &[u8], [channels, height, width]: [i64; 3]) -> Self {
        let api = ort::api();
        let input = Vec::leak(vec![0.0_f32; (channels * height * width) as usize]);
        let output = Vec::leak(vec![0.0_f32; channels as usize]);
        let tensor = |data: &mut [f32], shape: &[i64]| {
            // SAFETY: `made` passes a place for the pointer.
            let memory = made(|out| unsafe {
                (api.CreateCpuMemoryInfo)(
                    sys::OrtAllocatorType::OrtArenaAllocator,
                    sys::OrtMemType::OrtMemTypeDefault,
                    out,
                )
            });
            let float = sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
            // SAFETY: the data is never freed, and has as many values as the shape says.
            made(|out| unsafe {
                let (data, bytes) = (data.as_mut_ptr().cast(), size_of_val(data));
                (api.CreateTensorWithDataAsOrtValue)(memory, data, bytes, shape.as_ptr(), shape.len(), float, out)
            })
        };
        let (x, y) = (tensor(input, &[1, channels, height, width]), tensor(output, &[1, channels, 1, 1]));
        // SAFETY: every pointer was made by ONNX Runtime above or is of a constant, and nothing is freed.
        unsafe {
            let level = sys::OrtLoggingLevel::ORT_LOGGING_LEVEL_ERROR;
            let environment = made(|out| (api.CreateEnv)(level, c"bench".as_ptr(), out));
            let options = made(|out| (api.CreateSessionOptions)(out));
            assert!((api.SetIntraOpNumThreads)(options, 1).0.is_null());
            let session =
                made(|out| (api.CreateSessionFromArray)(environment, model.as_ptr().cast(), model.len(), options, out));
            let binding = made(|out| (api.CreateIoBinding)(session, out));
            assert!((api.BindInput)(binding, c"x".as_ptr(), x).0.is_null());
            assert!((api.BindOutput)(binding, c"y".as_ptr(), y).0.is_null());
            Self { session, binding, input, output }
        }
    }

    fn run(&mut self, input: &[f32]) -> f32 {
        self.input.copy_from_slice(input);
        // SAFETY: both pointers are of objects that are never freed, and `&mut` keeps others away.
        let status = unsafe { (ort::api().RunWithBinding)(self.session, std::ptr::null(), self.binding) };
        assert!(status.0.is_null(), "ONNX Runtime failed");
        // SAFETY: ONNX Runtime has written there behind the compiler's back.
        unsafe { self.output.as_ptr().add(self.output.len() - 1).read_volatile() }
    }
}

/// The model as a bundle's backbone.
fn bundle(model: &[u8], [channels, height, width]: [i64; 3]) -> Vec<u8> {
    let kind = EmbeddingKind::Int8(QuantParams { scale: 0.01, zero_point: 0 });
    let parts = BundleParts {
        name: "bench",
        input: InputSpec::new("x", &[channels as usize, height as usize, width as usize]).unwrap(),
        embedding: EmbeddingSpec { dim: channels as usize, kind },
        ..BundleParts::new(model, Fingerprint([0; 16]))
    };
    parts.to_bytes().unwrap()
}

fn time(runs: u32, mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..runs {
        work();
    }
    start.elapsed() / runs
}

fn main() {
    let found = Found::search(None);
    if let Err(why) = found.library(ExecutionProvider::Cpu) {
        return println!("skipped: {why}");
    }
    let mut criterion = Criterion::default().configure_from_args();
    for shape in SHAPES {
        let model = model(shape);
        let bytes = bundle(&model, shape);
        let bundle = Bundle::parse(&bytes).unwrap();
        let mut ours = OrtBackbone::load(&bundle, ExecutionProvider::Cpu, &Settings::default()).unwrap();
        let mut bare = Bare::new(&model, shape);
        let elements = shape.iter().product::<i64>() as usize;
        let input: Vec<f32> = (0..elements).map(|i| i as f32 / elements as f32).collect();
        let mut row = vec![0; ours.embedding().row_bytes()];

        // The difference, round by round: criterion's two lines below are far apart in time.
        let runs = (20_000 / elements).max(1) as u32;
        let mut differences: Vec<f64> = (0..1_000)
            .map(|_| {
                let theirs = time(runs, || {
                    black_box(bare.run(black_box(&input)));
                });
                let ours = time(runs, || ours.embed(black_box(&input), &mut row).unwrap());
                (ours.as_secs_f64() - theirs.as_secs_f64()) * 1e6
            })
            .collect();
        differences.sort_by(f64::total_cmp);
        let at = |share: usize| differences[differences.len() * share / 100];
        let name = format!("{shape:?}");
        println!(
            "{name}: provider minus bare session, µs an inference: median {:.2}, quartiles {:.2} … {:.2}",
            at(50),
            at(25),
            at(75)
        );

        let mut group = criterion.benchmark_group(name);
        group.bench_function("bare session", |bench| bench.iter(|| black_box(bare.run(black_box(&input)))));
        group.bench_function("provider", |bench| bench.iter(|| ours.embed(black_box(&input), &mut row).unwrap()));
        group.finish();
    }
    criterion.final_summary();
}
