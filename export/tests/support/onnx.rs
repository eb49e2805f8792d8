//! Small ONNX models from messages, as other programs would write them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use prost::Message as _;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto;

pub fn tensor(name: &str, dims: &[i64], data: &[f32]) -> pb::TensorProto {
    let raw_data = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    pb::TensorProto { name: name.into(), dims: dims.to_vec(), data_type: 1, raw_data, ..Default::default() }
}

pub fn int_tensor(name: &str, data: &[i64]) -> pb::TensorProto {
    let dims = vec![data.len() as i64];
    pb::TensorProto { name: name.into(), dims, data_type: 7, int64_data: data.to_vec(), ..Default::default() }
}

pub fn info(name: &str, dims: &[i64]) -> pb::ValueInfoProto {
    let dim = |&n: &i64| Dimension {
        value: Some(if n == 0 { dimension::Value::DimParam("N".into()) } else { dimension::Value::DimValue(n) }),
        ..Default::default()
    };
    let shape = Some(pb::TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let value = Some(type_proto::Value::TensorType(type_proto::Tensor { elem_type: 1, shape }));
    let r#type = Some(pb::TypeProto { value, ..Default::default() });
    pb::ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<pb::AttributeProto>) -> pb::NodeProto {
    let strings = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
    let name = format!("the_{}", op.to_lowercase());
    pb::NodeProto {
        input: strings(inputs),
        output: strings(outputs),
        name,
        op_type: op.into(),
        attribute,
        ..Default::default()
    }
}

fn attribute(name: &str, ty: AttributeType) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: ty as i32, ..Default::default() }
}

pub fn int(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto { i, ..attribute(name, AttributeType::Int) }
}

pub fn ints(name: &str, v: &[i64]) -> pb::AttributeProto {
    pb::AttributeProto { ints: v.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub fn float(name: &str, f: f32) -> pb::AttributeProto {
    pb::AttributeProto { f, ..attribute(name, AttributeType::Float) }
}

pub fn floats(name: &str, v: &[f32]) -> pb::AttributeProto {
    pb::AttributeProto { floats: v.to_vec(), ..attribute(name, AttributeType::Floats) }
}

pub fn string(name: &str, s: &str) -> pb::AttributeProto {
    pb::AttributeProto { s: s.into(), ..attribute(name, AttributeType::String) }
}

pub fn tensor_attribute(name: &str, t: pb::TensorProto) -> pb::AttributeProto {
    pb::AttributeProto { t: Some(t), ..attribute(name, AttributeType::Tensor) }
}

pub fn graph_attribute(name: &str, g: pb::GraphProto) -> pb::AttributeProto {
    pb::AttributeProto { g: Some(g), ..attribute(name, AttributeType::Graph) }
}

/// A model over inputs `x` and an output `y` whose shape is left open.
pub fn model(
    opset: i64,
    input: &[i64],
    nodes: Vec<pb::NodeProto>,
    initializer: Vec<pb::TensorProto>,
) -> pb::ModelProto {
    let mut output = info("y", &[]);
    if let Some(type_proto::Value::TensorType(t)) = output.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        t.shape = None;
    }
    pb::ModelProto {
        ir_version: 7,
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: opset }],
        graph: Some(pb::GraphProto {
            name: "g".into(),
            node: nodes,
            initializer,
            input: vec![info("x", input)],
            output: vec![output],
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn save(folder: &Path, name: &str, model: &pb::ModelProto) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, model.encode_to_vec()).expect("the test's own folder is writable");
    path
}

/// The shared models, or a notice where they are not there; with `CI=true` they have to be.
pub fn shared() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("HONE_SHARED").map_or(default, PathBuf::from).join("models");
    if folder.is_dir() {
        return Some(folder);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing", folder.display());
    println!("skipped: {} is missing (set HONE_SHARED)", folder.display());
    None
}
