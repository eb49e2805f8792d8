//! Promise 7: hostile ONNX files cost bounded time and memory, and nothing outside the model's folder is read.
//!
//! Every case must be refused with an error that names the file and the cause, within 100 MB; the time is printed.
#![allow(unsafe_code, reason = "the allocator that measures")]

#[path = "support/onnx.rs"]
mod build;
#[path = "support/memory.rs"]
mod memory;

use std::path::Path;
use std::time::Instant;

use build::{float, graph_attribute, info, int, ints, model, node, save, tensor, tensor_attribute};
use hone_export::{Error, onnx};
use memory::{MEMORY_LIMIT_BYTES, alone, peak_of};
use prost::Message as _;
use tract_onnx::pb;

/// Reads a file that must be refused with that code and words; gives the error.
fn refused(case: &str, path: &Path, code: &str, words: &str) -> Error {
    let start = Instant::now();
    let (result, memory) = peak_of(|| onnx::read(path));
    let time = start.elapsed();
    let error = match result {
        Ok(graph) => panic!("{case}: accepted, {} nodes", graph.nodes.len()),
        Err(error) => error,
    };
    println!("{case}: {} ms, {memory} bytes: {error}", time.as_millis());
    assert!(memory < MEMORY_LIMIT_BYTES, "{case}: {memory} bytes");
    assert_eq!(error.code(), code, "{case}: {error}");
    assert!(error.to_string().contains(words), "{case}: '{error}' does not say '{words}'");
    let name = path.file_name().expect("the test names a file").to_string_lossy().into_owned();
    assert!(error.to_string().contains(&name), "{case}: '{error}' does not name the file");
    error
}

fn refused_model(case: &str, model: &pb::ModelProto, code: &str, words: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    refused(case, &save(folder.path(), "m.onnx", model), code, words);
}

fn refused_bytes(case: &str, bytes: &[u8], code: &str, words: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, bytes).expect("the test's own folder is writable");
    refused(case, &path, code, words);
}

fn relu() -> Vec<pb::NodeProto> {
    vec![node("Relu", &["x"], &["y"], vec![])]
}

/// A model with one weight that is kept outside.
fn external(entries: &[(&str, &str)]) -> pb::ModelProto {
    let external_data =
        entries.iter().map(|(k, v)| pb::StringStringEntryProto { key: (*k).into(), value: (*v).into() }).collect();
    let weight = pb::TensorProto { external_data, data_location: Some(1), ..tensor("w", &[4], &[]) };
    model(13, &[0, 4], vec![node("Add", &["x", "w"], &["y"], vec![])], vec![weight])
}

#[test]
fn external_data_stays_in_the_folder() {
    let _alone = alone();
    let root = tempfile::tempdir().expect("a temporary folder");
    let folder = root.path().join("model");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    let data: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    for place in ["secret.bin", "model/plain.bin", "model/sub/inner.bin"] {
        std::fs::write(root.path().join(place), &data).unwrap();
    }
    let good = save(&folder, "good.onnx", &external(&[("location", "plain.bin"), ("offset", "0"), ("length", "16")]));
    let graph = onnx::read(&good).expect("a plain file in the folder");
    let weight = graph.constant(graph.find("w")).and_then(|t| t.as_f32()).expect("the weight").clone();
    assert_eq!(weight.iter().copied().collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0]);

    let absolute = root.path().join("secret.bin").to_string_lossy().into_owned();
    for (location, words) in [
        ("../secret.bin", "own folder"),
        ("..", "own folder"),
        (".", "own folder"),
        ("", "own folder"),
        (absolute.as_str(), "own folder"),
        ("sub/inner.bin", "own folder"),
        ("sub/../plain.bin", "own folder"),
        ("./plain.bin", "own folder"),
        ("..\\secret.bin", "own folder"),
        ("C:secret.bin", "own folder"),
        ("plain.bin/", "own folder"),
        ("plain\0.bin", "own folder"),
        ("sub", "no regular file"),
        ("absent.bin", "os error"),
    ] {
        let path = save(&folder, "m.onnx", &external(&[("location", location)]));
        refused(&format!("location '{location}'"), &path, "unsafe-path", words);
    }
    for (entries, words) in [
        ([("offset", "-4"), ("length", "16")], "no number"),
        ([("offset", "4"), ("length", "16")], "do not fit"),
        ([("offset", "9223372036854775807"), ("length", "16")], "do not fit"),
        ([("offset", "18446744073709551615"), ("length", "16")], "no number"),
        ([("offset", "99999999999999999999999"), ("length", "16")], "no number"),
        ([("offset", "0"), ("length", "-16")], "no number"),
        ([("offset", "0"), ("length", "12")], "dimensions need 16"),
        ([("offset", "0"), ("length", "9223372036854775807")], "dimensions need 16"),
        ([("offset", "0x0"), ("length", "16")], "no number"),
    ] {
        let model = external(&[&[("location", "plain.bin")], &entries[..]].concat());
        refused(&format!("{entries:?}"), &save(&folder, "m.onnx", &model), "unsafe-path", words);
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret.bin", folder.join("soft.bin")).unwrap();
        std::os::unix::fs::symlink("plain.bin", folder.join("inside.bin")).unwrap();
        std::fs::hard_link(root.path().join("secret.bin"), folder.join("hard.bin")).unwrap();
        mkfifo(&folder.join("pipe.bin"));
        for (location, words) in [
            ("soft.bin", "symbolic link"),
            ("inside.bin", "symbolic link"),
            ("hard.bin", "hard link"),
            ("pipe.bin", "no regular file"),
        ] {
            let path = save(&folder, "m.onnx", &external(&[("location", location)]));
            refused(location, &path, "unsafe-path", words);
        }
    }
}

#[test]
fn external_data_is_bounded() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("w.bin"), vec![0u8; 1 << 20]).unwrap();
    let mut huge = external(&[("location", "w.bin")]);
    huge.graph.as_mut().unwrap().initializer[0].dims = vec![1 << 20, 1 << 20];
    refused("terabytes outside", &save(folder.path(), "m.onnx", &huge), "too-large", "limit");
    // The same megabyte, a hundred times over.
    let mut shared = external(&[("location", "w.bin")]);
    let graph = shared.graph.as_mut().unwrap();
    graph.initializer[0].dims = vec![1 << 18];
    for i in 0..100 {
        let again = pb::TensorProto { name: format!("w{i}"), ..graph.initializer[0].clone() };
        graph.initializer.push(again);
    }
    refused("one file read a hundred times", &save(folder.path(), "m.onnx", &shared), "too-large", "limit");
}

#[cfg(unix)]
fn mkfifo(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo is there");
    assert!(status.success());
}

#[test]
fn what_is_no_file() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    refused("a folder", folder.path(), "malformed", "regular file");
    refused("nothing", &folder.path().join("absent.onnx"), "io", "os error");
    #[cfg(unix)]
    {
        let pipe = folder.path().join("pipe.onnx");
        mkfifo(&pipe);
        refused("a pipe", &pipe, "malformed", "regular file");
        refused("a device", Path::new("/dev/zero"), "malformed", "regular file");
    }
    let large = folder.path().join("large.onnx");
    std::fs::File::create(&large).unwrap().set_len(3 << 30).unwrap();
    refused("3 GiB of holes", &large, "too-large", "limit");
    let holes = folder.path().join("holes.onnx");
    std::fs::File::create(&holes).unwrap().set_len(2_000_000_000).unwrap();
    refused("2 GB of holes", &holes, "malformed", "not an ONNX model");
}

#[test]
fn what_is_no_model() {
    let _alone = alone();
    refused_bytes("empty", b"", "malformed", "no graph");
    refused_bytes("text", b"this is not a model at all", "malformed", "not an ONNX model");
    let mut other = model(13, &[1], relu(), vec![]);
    other.graph.as_mut().unwrap().name = "\u{1}\u{1}\u{1}\u{1}".into();
    let mut bytes = other.encode_to_vec();
    let at = bytes.windows(4).position(|w| w == [1; 4]).expect("the name");
    bytes[at] = 0xff;
    refused_bytes("a name that is not UTF-8", &bytes, "malformed", "UTF-8");
    let whole = model(13, &[0, 4], relu(), vec![tensor("w", &[4], &[0.0; 4])]).encode_to_vec();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("m.onnx");
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(onnx::read(&path).is_err(), "cut to {cut} of {} bytes", whole.len());
    }
}

#[test]
fn random_bytes_never_panic() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("m.onnx");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let conv = node("Conv", &["x", "w"], &["c"], vec![ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 2])]);
    let pool = node("MaxPool", &["c"], &["p"], vec![ints("kernel_shape", &[2, 2])]);
    let soft = node("Softmax", &["p"], &["y"], vec![int("axis", 1), float("nothing", 0.5)]);
    let whole = model(11, &[0, 1, 8, 8], vec![conv, pool, soft], vec![tensor("w", &[1, 1, 3, 3], &[0.5; 9])]);
    let whole = whole.encode_to_vec();
    let mut refusals = 0;
    for round in 0..3000 {
        let bytes = if round % 3 == 0 {
            (0..random() % 300).map(|_| random() as u8).collect()
        } else {
            let mut bytes = whole.clone();
            for _ in 0..=random() % 4 {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes
        };
        std::fs::write(&path, &bytes).unwrap();
        let (result, memory) = peak_of(|| onnx::read(&path));
        refusals += usize::from(result.is_err());
        assert!(memory < MEMORY_LIMIT_BYTES, "round {round}: {memory} bytes");
    }
    println!("{refusals} of 3000 refused");
    assert!(refusals > 2000);
}

#[test]
fn tensors_that_lie_about_their_size() {
    let _alone = alone();
    let with = |weight: pb::TensorProto| model(13, &[0, 4], relu(), vec![weight]);
    let tera = tensor("w", &[1 << 20, 1 << 20], &[1.0; 8]);
    let bytes = with(tera.clone()).encode_to_vec();
    assert!(bytes.len() < 1024, "a 1 KB file");
    refused_bytes("terabytes of raw data", &bytes, "malformed", "4398046511104 bytes");
    let floats = pb::TensorProto { float_data: vec![1.0; 8], raw_data: vec![], ..tera.clone() };
    refused_model("terabytes of floats", &with(floats), "malformed", "carries 8");
    let none = pb::TensorProto { raw_data: vec![], ..tera.clone() };
    refused_model("terabytes of nothing", &with(none), "malformed", "carries none");
    refused_model("overflow", &with(tensor("w", &[i64::MAX, i64::MAX, 8], &[])), "malformed", "any machine");
    refused_model("empty, yet huge", &with(tensor("w", &[0, i64::MAX, i64::MAX], &[])), "malformed", "any machine");
    refused_model("negative", &with(tensor("w", &[-1, -4], &[1.0; 4])), "malformed", "negative");
    refused_model("65 dimensions", &with(tensor("w", &[1; 65], &[1.0])), "malformed", "65 dimensions");
    let twice = pb::TensorProto { float_data: vec![1.0], ..tensor("w", &[1], &[1.0]) };
    refused_model("two kinds of data", &with(twice), "malformed", "twice");
    let elsewhere = pb::TensorProto { int64_data: vec![1], raw_data: vec![], ..tensor("w", &[1], &[]) };
    refused_model("floats among integers", &with(elsewhere), "malformed", "int64_data");
    let wide = pb::TensorProto { data_type: 2, int32_data: vec![256], ..tensor("w", &[1], &[]) };
    refused_model("256 as a byte", &with(wide), "malformed", "256");
    let strings = pb::TensorProto { data_type: 8, string_data: vec![b"a".to_vec()], ..tensor("w", &[1], &[]) };
    refused_model("strings", &with(strings), "unsupported", "STRING");
    let segment = Some(pb::tensor_proto::Segment { begin: 0, end: 1 });
    refused_model("segments", &with(pb::TensorProto { segment, ..tensor("w", &[1], &[1.0]) }), "malformed", "segments");
    let constant = node("Constant", &[], &["y"], vec![tensor_attribute("value", tera)]);
    refused_model("a constant of terabytes", &model(13, &[1], vec![constant], vec![]), "malformed", "4398046511104");
}

#[test]
fn graphs_that_contradict_themselves() {
    let _alone = alone();
    let case = |nodes| model(13, &[0, 4], nodes, vec![]);
    let cycle = vec![
        node("Add", &["x", "b"], &["a"], vec![]),
        node("Relu", &["a"], &["b"], vec![]),
        node("Neg", &["b"], &["y"], vec![]),
    ];
    refused_model("a cycle", &case(cycle), "invalid-model", "cycle");
    refused_model("itself", &case(vec![node("Add", &["x", "y"], &["y"], vec![])]), "invalid-model", "cycle");
    let twice = vec![node("Relu", &["x"], &["y"], vec![]), node("Neg", &["x"], &["y"], vec![])];
    refused_model("a name twice", &case(twice), "invalid-model", "twice");
    refused_model("overwrites the input", &case(vec![node("Relu", &["x"], &["x"], vec![])]), "invalid-model", "twice");
    refused_model("reads nothing", &case(vec![node("Relu", &["z"], &["y"], vec![])]), "invalid-model", "'z'");
    refused_model("no output", &case(vec![node("Relu", &["x"], &["q"], vec![])]), "invalid-model", "'y'");
    refused_model(
        "a node without output",
        &case(vec![node("Relu", &["x"], &[""], vec![])]),
        "invalid-model",
        "no output",
    );
    let mut same = model(13, &[4], relu(), vec![tensor("w", &[1], &[0.0]), tensor("w", &[1], &[1.0])]);
    refused_model("a weight twice", &same, "invalid-model", "'w'");
    same.graph = None;
    refused_model("no graph", &same, "malformed", "no graph");
    for opset in [-1, 0, 6, 22, i64::MAX] {
        refused_model(&format!("opset {opset}"), &model(opset, &[4], relu(), vec![]), "invalid-model", "7 to 21");
    }
    let negative = model(13, &[0, -4], relu(), vec![]);
    refused_model("an input of negative size", &negative, "invalid-model", "-4");
}

#[test]
fn what_is_not_supported_is_named() {
    let _alone = alone();
    let mut functions = model(13, &[4], relu(), vec![]);
    functions.functions = vec![pb::FunctionProto { name: Some("Sneaky".into()), node: relu(), ..Default::default() }];
    refused_model("a function body", &functions, "unsupported", "Sneaky");
    let mut sparse = model(13, &[4], relu(), vec![]);
    let values = Some(tensor("holes", &[1], &[1.0]));
    sparse.graph.as_mut().unwrap().sparse_initializer =
        vec![pb::SparseTensorProto { values, dims: vec![1 << 40], ..Default::default() }];
    refused_model("a sparse tensor", &sparse, "unsupported", "holes");
    let inner = pb::GraphProto { node: relu(), output: vec![info("y", &[4])], ..Default::default() };
    let branch = node("If", &["x"], &["y"], vec![graph_attribute("then_branch", inner)]);
    refused_model("a subgraph", &model(13, &[4], vec![branch], vec![]), "unsupported", "the_if");
    let refuse = |case: &str, opset, node: pb::NodeProto, words| {
        refused_model(
            case,
            &model(opset, &[0, 4], vec![node], vec![tensor("w", &[4], &[0.0; 4])]),
            "unsupported",
            words,
        );
    };
    refuse("broadcasting of old", 7, node("Add", &["x", "w"], &["y"], vec![int("broadcast", 1)]), "broadcast");
    refuse("an unknown attribute", 13, node("Relu", &["x"], &["y"], vec![int("slope", 1)]), "slope");
    refuse("computed pads", 13, node("Pad", &["x", "x"], &["y"], vec![]), "must be a constant");
    refuse("too few inputs", 13, node("Conv", &["x"], &["y"], vec![]), "the_conv");
    refuse("an absent input", 13, node("Add", &["", "x"], &["y"], vec![]), "the_add");
    refuse(
        "a kernel of zero",
        13,
        node("MaxPool", &["x"], &["y"], vec![ints("kernel_shape", &[0, 2])]),
        "kernel_shape",
    );
    refuse(
        "negative pads",
        13,
        node("MaxPool", &["x"], &["y"], vec![ints("kernel_shape", &[2]), ints("pads", &[-1, 0])]),
        "pads",
    );
    refuse("another type of attribute", 13, node("Gemm", &["x", "w"], &["y"], vec![int("alpha", 1)]), "alpha");
}

/// A message field: key, length, content.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 12);
    prost::encoding::encode_key(u32::try_from(number).unwrap(), prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn nesting_thousands_deep() {
    let _alone = alone();
    for levels in [30, 1000, 5000] {
        // Graph (1) → node (5) → attribute (6) → graph …
        let mut graph = Vec::new();
        for _ in 0..levels {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        refused_bytes(&format!("{levels} graphs deep"), &field(7, &graph), "malformed", "nested deeper");
    }
}

#[test]
fn small_files_that_decode_large() {
    let _alone = alone();
    let graph = |content: Vec<u8>| field(7, &content);
    refused_bytes("ten million empty nodes", &graph([0x0a, 0].repeat(10_000_000)), "too-large", "limit");
    let attributes = field(1, &[0x2a, 0].repeat(10_000_000));
    refused_bytes("ten million empty attributes", &graph(attributes), "too-large", "limit");
    let zeros = vec![0u8; 20_000_000];
    refused_bytes("20 MB of small integers", &graph(field(1, &field(5, &field(8, &zeros)))), "too-large", "limit");
    refused_bytes("20 MB of dimensions", &graph(field(5, &field(1, &zeros))), "too-large", "limit");
    let strings = field(1, &[0x0a, 0].repeat(10_000_000));
    refused_bytes("ten million empty names", &graph(strings), "too-large", "limit");
    let groups = [0x0b].repeat(10_000_000);
    refused_bytes("groups in groups", &groups, "malformed", "group");
}

/// Files just below the bound of the scan, so that everything is decoded before they are refused.
#[test]
fn files_at_the_bound_stay_within_memory() {
    let _alone = alone();
    let nodes = |count: usize, make: &dyn Fn(usize) -> pb::NodeProto| {
        let mut nodes: Vec<_> = (0..count).map(make).collect();
        nodes.push(node("Relu", &["missing"], &["y"], vec![]));
        model(13, &[4], nodes, vec![])
    };
    // The largest numbers of nodes that the scan lets pass.
    let plain = |i: usize| pb::NodeProto { name: String::new(), ..node("Q", &["x"], &[&format!("{i}")], vec![]) };
    refused_model("many nodes", &nodes(60_000, &plain), "invalid-model", "missing");
    let wide = |i: usize| node("Q", &["x"], &[&format!("{i}")], vec![int("a", 1), int("b", 2)]);
    refused_model("many attributes", &nodes(5_000, &wide), "invalid-model", "missing");
    let mut late = nodes(60_000, &plain);
    let graph = late.graph.as_mut().unwrap();
    graph.node.pop();
    graph.node.push(node("Relu", &["x"], &["y"], vec![int("unknown", 1)]));
    refused_model("many nodes, the last one wrong", &late, "unsupported", "unknown");
    let mut inputs = model(13, &[4], relu(), vec![]);
    let graph = inputs.graph.as_mut().unwrap();
    graph.input.extend((0..40_000).map(|i| info(&format!("i{i}"), &[1])));
    graph.output = vec![info("absent", &[1])];
    refused_model("many inputs", &inputs, "invalid-model", "absent");
    let mut weights = model(13, &[4], relu(), (0..40_000).map(|i| tensor(&format!("w{i}"), &[1], &[0.0])).collect());
    weights.graph.as_mut().unwrap().output = vec![info("absent", &[1])];
    refused_model("many weights", &weights, "invalid-model", "absent");
    let big = tensor("w", &[5_000_000], &vec![0.5; 5_000_000]);
    let mut heavy = model(13, &[4], relu(), vec![big]);
    heavy.graph.as_mut().unwrap().output = vec![info("absent", &[1])];
    refused_model("20 MB of weights", &heavy, "invalid-model", "absent");
}
