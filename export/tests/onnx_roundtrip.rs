//! What is written is what was read: the shared models, through the file format and back, in numbers and in structure.

#[path = "support/onnx.rs"]
mod build;

use std::path::Path;

use hone_export::graph::{Graph, Tensor, ValueId};
use hone_export::onnx::{self, WriteOptions};
use tract_onnx::prelude::*;

const MODELS: [&str; 16] = [
    "imagenet/mobilenet_v1_025_128",
    "imagenet/mobilenet_v2_100_224",
    "imagenet/squeezenet1_1",
    "imu/wand_conv1d",
    "mlperf_tiny/autoencoder_toycar",
    "mlperf_tiny/autoencoder_toycar_bn",
    "mlperf_tiny/dscnn_kws12",
    "mlperf_tiny/dscnn_kws12_bn",
    "mlperf_tiny/mobilenetv1_025_vww",
    "mlperf_tiny/mobilenetv1_025_vww_bn",
    "mlperf_tiny/resnet8_cifar10",
    "mlperf_tiny/resnet8_cifar10_bn",
    "mnist/mnist_cntk",
    "openwakeword/embedding_model",
    "openwakeword/melspectrogram",
    "text/all_minilm_l6_v2_sub",
];

/// A value as the comparison sees it: a constant by its data, anything else by name.
fn seen(graph: &Graph, id: ValueId) -> (String, Option<&Tensor>) {
    (graph.value(id).name.clone(), graph.constant(Some(id)))
}

fn assert_equal(a: &Graph, b: &Graph, model: &str) {
    assert_eq!(a.nodes.len(), b.nodes.len(), "{model}");
    for (left, right) in a.nodes.iter().zip(&b.nodes) {
        assert_eq!((&left.name, &left.op), (&right.name, &right.op), "{model}");
        let inputs = |g, n: &hone_export::graph::Node| -> Vec<_> {
            n.inputs.iter().map(|id| id.map(|id| seen(g, id)).map(|(n, t)| (n, t.cloned()))).collect()
        };
        assert_eq!(inputs(a, left), inputs(b, right), "{model}: {}", left.name);
        let outputs = |g: &Graph, ids: &[ValueId]| ids.iter().map(|&id| g.value(id).name.clone()).collect::<Vec<_>>();
        assert_eq!(outputs(a, &left.outputs), outputs(b, &right.outputs), "{model}: {}", left.name);
    }
    let ends = |g: &Graph| -> Vec<_> {
        let ids = g.inputs.iter().chain(&g.outputs);
        ids.map(|&id| (g.value(id).name.clone(), g.value(id).dtype, g.value(id).shape.clone())).collect()
    };
    assert_eq!(ends(a), ends(b), "{model}");
}

#[test]
fn read_write_read_is_the_same_graph() {
    let Some(shared) = build::shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for model in MODELS {
        let graph = onnx::read(&shared.join(format!("{model}.onnx"))).expect(model);
        for opset in [None, Some(17), Some(21)] {
            let options = WriteOptions { opset, overwrite: true, ..WriteOptions::default() };
            let path = folder.path().join("m.onnx");
            onnx::write(&graph, &path, &options).unwrap_or_else(|e| panic!("{model} as opset {opset:?}: {e}"));
            assert_equal(&graph, &onnx::read(&path).expect(model), model);
        }
    }
}

/// A float32 array of NumPy's file format, version 1.
fn npy(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).expect("a shared sample");
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = std::str::from_utf8(&bytes[10..10 + header]).expect("an npy header");
    assert!(text.contains("<f4") && text.contains("'fortran_order': False"), "{text}");
    let shape = text.split_once('(').and_then(|(_, t)| t.split_once(')')).expect("a shape").0;
    let shape = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    (shape, bytes[10 + header..].as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

#[test]
fn rewritten_models_give_the_published_outputs() {
    let Some(shared) = build::shared() else { return };
    for (model, sample) in [
        ("imu/wand_conv1d", "wand_conv1d"),
        ("mlperf_tiny/autoencoder_toycar", "autoencoder_toycar"),
        ("mlperf_tiny/autoencoder_toycar_bn", "autoencoder_toycar"),
        ("mlperf_tiny/dscnn_kws12", "dscnn_kws12"),
        ("mlperf_tiny/dscnn_kws12_bn", "dscnn_kws12"),
        ("mlperf_tiny/mobilenetv1_025_vww", "mobilenetv1_025_vww"),
        ("mlperf_tiny/resnet8_cifar10", "resnet8_cifar10"),
        ("mlperf_tiny/resnet8_cifar10_bn", "resnet8_cifar10"),
        ("mnist/mnist_cntk", "mnist_cntk"),
        ("imagenet/mobilenet_v1_025_128", "mobilenet_v1_025_128"),
        ("openwakeword/embedding_model", "oww_embedding"),
    ] {
        let graph = onnx::read(&shared.join(format!("{model}.onnx"))).expect(model);
        let bytes = onnx::encode(&graph, &WriteOptions::default()).expect(model);
        let (shape, input) = npy(&shared.join(format!("sample_io/{sample}.in.npy")));
        let (_, expected) = npy(&shared.join(format!("sample_io/{sample}.out.npy")));
        let runnable = onnx()
            .with_ignore_output_shapes(true)
            .with_ignore_value_info(true)
            .model_for_read(&mut &bytes[..])
            .and_then(|m| m.with_input_fact(0, f32::fact(&shape).into()))
            .and_then(|m| m.into_optimized())
            .and_then(|m| m.into_runnable())
            .expect(model);
        let input = tract_ndarray::ArrayD::from_shape_vec(shape, input).expect(model).into_tensor();
        let outputs = runnable.run(tvec!(input.into())).expect(model);
        let output = outputs[0].to_plain_array_view::<f32>().expect(model);
        let scale = expected.iter().fold(1.0f32, |m, x| m.max(x.abs()));
        let error = output.iter().zip(&expected).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
        assert_eq!(output.len(), expected.len(), "{model}");
        println!("{model}: largest error {error:.1e} of the largest output");
        assert!(error < 1e-4, "{model}: {error}");
    }
}
