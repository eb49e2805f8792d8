//! The shared models, evaluated, simplified and split, against the outputs and embeddings of ONNX Runtime.

use std::path::{Path, PathBuf};

use hone_export::graph::{Graph, Tensor, eval::Evaluator, infer, simplify};
use hone_export::{Error, onnx, split};

/// The shared models and data directory; absent outside CI it skips the test, with a notice.
fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("HONE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if path.join("models").is_dir() {
        return Some(path.join("models"));
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", path.display());
    eprintln!("skipped: no shared models and data directory at {}", path.display());
    None
}

/// A little-endian f32 array of npy version 1.
fn npy(path: &Path) -> Tensor {
    let bytes = std::fs::read(path).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..start]).unwrap();
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split(['(', ')']).nth(1).unwrap();
    let shape: Vec<usize> = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let data = bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Tensor::from_f32(&shape, data).unwrap()
}

fn run(graph: &Graph, input: &Tensor) -> Tensor {
    Evaluator::new(graph).unwrap().run(std::slice::from_ref(input)).unwrap().remove(0)
}

/// Largest difference, relative to the largest value of `b` (at least one).
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    let (a, b) = (a.as_f32().unwrap(), b.as_f32().unwrap());
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0.0f32, |m, (x, y)| m.max((x - y).abs())) / largest
}

/// File, sample, cut, width, pooled, classes of the linear head, nodes after simplification.
type Row = (&'static str, &'static str, &'static str, usize, bool, Option<usize>, usize);

const MODELS: [Row; 12] = [
    ("mlperf_tiny/resnet8_cifar10", "resnet8_cifar10", "flatten", 64, false, Some(10), 23),
    ("mlperf_tiny/resnet8_cifar10_bn", "resnet8_cifar10", "flatten", 64, false, Some(10), 23),
    ("mlperf_tiny/dscnn_kws12", "dscnn_kws12", "flatten", 64, false, Some(12), 22),
    ("mlperf_tiny/dscnn_kws12_bn", "dscnn_kws12", "flatten", 64, false, Some(12), 22),
    ("mlperf_tiny/mobilenetv1_025_vww", "mobilenetv1_025_vww", "flatten", 256, false, Some(2), 58),
    ("mlperf_tiny/mobilenetv1_025_vww_bn", "mobilenetv1_025_vww", "flatten", 256, false, Some(2), 58),
    ("mlperf_tiny/autoencoder_toycar", "autoencoder_toycar", "activation_8", 128, false, Some(640), 19),
    ("mlperf_tiny/autoencoder_toycar_bn", "autoencoder_toycar", "activation_8", 128, false, Some(640), 19),
    ("imagenet/mobilenet_v1_025_128", "mobilenet_v1_025_128", "avgpool_0", 256, false, Some(1001), 58),
    ("imagenet/squeezenet1_1", "squeezenet1_1", "fire9_concat_1", 512, true, None, 66),
    ("imu/wand_conv1d", "wand_conv1d", "/Flatten_output_0", 208, false, Some(5), 12),
    ("mnist/mnist_cntk", "mnist_cntk", "Pooling160_Output_0_reshape0", 256, false, Some(10), 8),
];

#[test]
fn outputs_embeddings_and_splits_match_onnx_runtime() {
    let Some(models) = shared() else { return };
    let mobilenet_v2 =
        ("imagenet/mobilenet_v2_100_224", "mobilenet_v2_100_224", "avgpool_0", 1280, false, Some(1001), 101);
    for (file, sample, cut, width, pooled, classes, nodes) in MODELS.into_iter().chain([mobilenet_v2]) {
        let io = |kind: &str| models.join(format!("sample_io/{sample}.{kind}.npy"));
        let (input, expected) = (npy(&io("in")), npy(&io("out")));
        let mut graph = onnx::read(&models.join(format!("{file}.onnx"))).unwrap();
        assert!(difference(&run(&graph, &input), &expected) < 1e-4, "{file} as read");
        simplify(&mut graph).unwrap();
        assert!(difference(&run(&graph, &input), &expected) < 1e-4, "{file} simplified");
        assert_eq!(graph.nodes.len(), nodes, "{file}");
        for id in graph.nodes.iter().flat_map(|n| &n.outputs) {
            assert!(graph.value(*id).shape.is_some(), "{file}: shape of '{}'", graph.value(*id).name);
        }

        let halves = split::choose(&graph, None).unwrap();
        assert_eq!((halves.cut.tensor.as_str(), halves.cut.width, halves.cut.pooled), (cut, width, pooled), "{file}");
        assert_eq!(halves.head.as_ref().map(|h| h.bias.len()), classes, "{file}");
        let embedding = run(&halves.backbone, &input);
        assert_eq!(embedding.shape(), [input.shape()[0], width], "{file}");
        if io("embedding").exists() {
            assert!(difference(&embedding, &npy(&io("embedding"))) < 1e-4, "{file}: embedding");
        }
        match &halves.head_graph {
            Some(head) => assert!(difference(&run(head, &embedding), &expected) < 1e-4, "{file}: both halves"),
            None => assert!(halves.cut.pooled && halves.not_linear.is_some(), "{file}"),
        }
        // Every legal cut gives the model back, where the embedding is not an average.
        for legal in split::cuts(&graph).iter().filter(|c| !c.pooled) {
            let halves = split::choose(&graph, Some(&legal.tensor)).unwrap();
            let out = run(halves.head_graph.as_ref().unwrap(), &run(&halves.backbone, &input));
            assert!(difference(&out, &expected) < 1e-4, "{file} cut at '{}'", legal.tensor);
        }
    }
}

#[test]
fn a_model_without_head_is_refused_unless_its_output_is_named() {
    let Some(models) = shared() else { return };
    let mut graph = onnx::read(&models.join("openwakeword/embedding_model.onnx")).unwrap();
    let (input, expected) =
        (npy(&models.join("sample_io/oww_embedding.in.npy")), npy(&models.join("sample_io/oww_embedding.out.npy")));
    simplify(&mut graph).unwrap();
    assert!(difference(&run(&graph, &input), &expected) < 1e-4);
    let error = split::choose(&graph, None).unwrap_err();
    assert!(matches!(error, Error::NoHead { .. }) && error.to_string().contains("--cut conv2d_19"), "{error}");
    let halves = split::choose(&graph, Some("conv2d_19")).unwrap();
    assert!(halves.cut.is_output && halves.head.is_none());
    let embedding = run(&halves.backbone, &input);
    assert_eq!(embedding.shape(), [4, 96]);
    assert!(difference(&embedding, &expected) < 1e-4);
}

#[test]
fn illegal_cuts_say_why() {
    let Some(models) = shared() else { return };
    let mut graph = onnx::read(&models.join("mlperf_tiny/resnet8_cifar10.onnx")).unwrap();
    simplify(&mut graph).unwrap();
    for (cut, expected) in [
        ("activation_3", "a path leads around it: input → conv2d"),
        ("flaten", "nearest legal cuts: 'flatten'"),
        ("input", "the model's input"),
        ("dense.weight", "a constant"),
    ] {
        let error = split::choose(&graph, Some(cut)).unwrap_err();
        assert!(matches!(error, Error::IllegalCut { .. }) && error.to_string().contains(expected), "{error}");
    }
}

/// Models of a fixed batch of one give the same rows when they take many.
#[test]
fn fixed_batch_models_take_batches() {
    let Some(models) = shared() else { return };
    for (file, sample) in [("imu/wand_conv1d", "wand_conv1d"), ("mnist/mnist_cntk", "mnist_cntk")] {
        let mut graph = onnx::read(&models.join(format!("{file}.onnx"))).unwrap();
        simplify(&mut graph).unwrap();
        assert!(infer::make_batch_dynamic(&mut graph).unwrap(), "{file}");
        let input = npy(&models.join(format!("sample_io/{sample}.in.npy")));
        let expected = npy(&models.join(format!("sample_io/{sample}.out.npy")));
        let row = input.as_f32().unwrap().view();
        let twice = ndarray::concatenate(ndarray::Axis(0), &[row.clone(), row]).unwrap();
        let out = run(&graph, &Tensor::F32(twice));
        let expected = expected.as_f32().unwrap().view();
        let expected = ndarray::concatenate(ndarray::Axis(0), &[expected.clone(), expected]).unwrap();
        assert!(difference(&out, &Tensor::F32(expected)) < 1e-4, "{file}");
    }
}
