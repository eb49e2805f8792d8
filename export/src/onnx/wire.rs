//! The messages that are written, with what the protobuf types that are read cannot say.
//!
//! ONNX is proto2: an attribute of value 0 is present or absent. Types that follow proto3 leave zeros out, and readers that ask for
//! presence then take the operator's default (QNN's execution provider: axis 1 for axis 0). Field numbers are those of `onnx.proto`; what is
//! not written is not here.

use prost::Message;
use tract_onnx::pb;

/// `ModelProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<pb::OperatorSetIdProto>,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<pb::TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<pb::ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<pb::ValueInfoProto>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// `AttributeProto`; `r#type` says which of the fields holds the value, and that one is present.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    #[prost(message, optional, tag = "5")]
    pub t: Option<pb::TensorProto>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    #[prost(enumeration = "pb::attribute_proto::AttributeType", tag = "20")]
    pub r#type: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_zero_is_written_and_read_back() {
        let axis = Attribute { name: "axis".into(), i: Some(0), r#type: 2, ..Attribute::default() };
        // name, then field 3 of wire type 0 with value 0, then the type.
        assert_eq!(axis.encode_to_vec(), [b"\x0a\x04axis".as_slice(), &[0x18, 0, 0xa0, 1, 2]].concat());
        let read = pb::AttributeProto::decode(axis.encode_to_vec().as_slice()).unwrap();
        assert_eq!((read.name.as_str(), read.i, read.r#type), ("axis", 0, 2));
    }
}
