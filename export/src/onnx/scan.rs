//! Walks the wire format of a model before it is decoded, in constant memory.
//!
//! Protobuf amplifies: two bytes can stand for an empty node of 168 bytes in memory, one byte for an integer of
//! eight, and messages nest as deep as the file is long. The walk follows the message types of ONNX, skips the
//! weights, and refuses what would cost more than [`STRUCTURE_LIMIT_BYTES`] or nests deeper than [`DEPTH_LIMIT`].
//! Weights proper (`raw_data`, floats) cost what they take in the file and are not counted.

use std::io::{BufRead, BufReader, Read, Seek};
use std::mem::size_of;
use std::path::Path;

use tract_onnx::pb;

use crate::{Error, Result};

/// Levels of messages; a model without subgraphs has eight. prost itself stops at 100.
pub(super) const DEPTH_LIMIT: usize = 64;

/// What the decoded messages, strings and varints may take together. A convolutional network with thousands of
/// layers stays below a tenth of it.
pub(super) const STRUCTURE_LIMIT_BYTES: u64 = 32 << 20;

/// Fields that are looked at, so that the walk itself ends in time.
pub(super) const FIELD_LIMIT: u64 = 10_000_000;

/// Vectors double when they grow.
const GROWTH: u64 = 2;

/// Message types of ONNX, as far as the decoder knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Segment,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
    Opset,
    Entry,
    Annotation,
    Training,
    Function,
}

/// What a field holds.
enum Field {
    Message(Kind),
    /// Strings and byte strings, kept one allocation each.
    Text,
    /// The one `raw_data` of a tensor.
    Payload,
    Varint,
    /// Repeated varints of that size in memory, packed or not.
    Varints(u64),
    Fixed32,
    Fixed32s,
    Fixed64s,
}

/// Refuses a file whose decoding would cost too much, or that is no protobuf message at all.
pub(super) fn scan(path: &Path, file: impl Read + Seek, len: u64) -> Result<()> {
    let mut wire = Wire { input: BufReader::with_capacity(64 << 10, file), position: 0, path };
    let (mut cost, mut fields) = (0u64, 0u64);
    let mut stack = vec![(Kind::Model, len)];
    while let Some(&(kind, end)) = stack.last() {
        if wire.position >= end {
            if wire.position > end {
                return Err(wire.malformed("a field is longer than the message that holds it"));
            }
            stack.pop();
            continue;
        }
        let key = wire.varint()?;
        let (number, wire_type) = (key >> 3, key & 7);
        fields += 1;
        if number == 0 || fields > FIELD_LIMIT {
            let why = if number == 0 {
                "a field has number 0".to_owned()
            } else {
                format!("it has more than {FIELD_LIMIT} fields")
            };
            return Err(wire.malformed(&why));
        }
        let known = field(kind, number);
        match (known, wire_type) {
            (_, 3 | 4) => return Err(wire.malformed("holds a protobuf group, which ONNX does not use")),
            (Some(Field::Varint) | None, 0) => drop(wire.varint()?),
            (Some(Field::Varints(size)), 0) => {
                wire.varint()?;
                cost += GROWTH * size;
            }
            (Some(Field::Fixed32 | Field::Fixed32s) | None, 5) => wire.skip(4, end)?,
            (Some(Field::Fixed64s) | None, 1) => wire.skip(8, end)?,
            (known, 2) => {
                let bytes = wire.varint()?;
                if bytes > end.saturating_sub(wire.position) {
                    let why = format!(
                        "cut short: field {number} of {kind:?} declares {bytes} bytes, {} are left",
                        end.saturating_sub(wire.position)
                    );
                    return Err(wire.malformed(&why));
                }
                match known {
                    Some(Field::Message(child)) => {
                        if stack.len() >= DEPTH_LIMIT {
                            return Err(wire.malformed(&format!("nested deeper than {DEPTH_LIMIT} messages")));
                        }
                        cost += GROWTH * child.size_bytes();
                        stack.push((child, wire.position + bytes));
                    }
                    Some(Field::Text) => {
                        cost += GROWTH * size_of::<String>() as u64 + bytes.max(16);
                        wire.skip(bytes, end)?;
                    }
                    Some(Field::Varints(size)) => cost += GROWTH * size * wire.count_varints(bytes)?,
                    Some(Field::Varint | Field::Fixed32) => return Err(wire.wrong_type(kind, number)),
                    Some(Field::Payload | Field::Fixed32s | Field::Fixed64s) | None => wire.skip(bytes, end)?,
                }
            }
            (Some(_), _) => return Err(wire.wrong_type(kind, number)),
            (None, _) => return Err(wire.malformed("holds an unknown wire type")),
        }
        if cost > STRUCTURE_LIMIT_BYTES {
            return Err(super::too_large(path, "decoding its nodes and names", cost, STRUCTURE_LIMIT_BYTES));
        }
    }
    Ok(())
}

/// A reader that knows where it is.
struct Wire<'a, R: Read> {
    input: BufReader<R>,
    position: u64,
    path: &'a Path,
}

impl<R: Read + Seek> Wire<'_, R> {
    fn malformed(&self, why: &str) -> Error {
        Error::malformed(self.path, format!("not an ONNX model: {why} (at byte {})", self.position))
    }

    fn wrong_type(&self, kind: Kind, number: u64) -> Error {
        self.malformed(&format!("field {number} of {kind:?} has the wrong wire type"))
    }

    fn fill(&mut self) -> Result<&[u8]> {
        self.input.fill_buf().map_err(Error::io(self.path))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in 0..10 {
            let Some(&byte) = self.fill()?.first() else {
                return Err(self.malformed("cut short"));
            };
            self.input.consume(1);
            self.position += 1;
            value |= u64::from(byte & 0x7f).checked_shl(7 * shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed("holds an integer of more than ten bytes"))
    }

    /// Passes over `bytes`, which must end within the message that ends at `end`.
    fn skip(&mut self, bytes: u64, end: u64) -> Result<()> {
        if bytes > end.saturating_sub(self.position) {
            return Err(self.malformed("cut short"));
        }
        let offset = i64::try_from(bytes).map_err(|_| self.malformed("cut short"))?;
        self.input.seek_relative(offset).map_err(Error::io(self.path))?;
        self.position += bytes;
        Ok(())
    }

    fn count_varints(&mut self, bytes: u64) -> Result<u64> {
        let mut count = 0u64;
        let mut left = bytes;
        while left > 0 {
            let chunk = self.fill()?;
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            if len == 0 {
                return Err(self.malformed("cut short"));
            }
            count += chunk[..len].iter().filter(|&&b| b < 0x80).count() as u64;
            self.input.consume(len);
            self.position += len as u64;
            left -= len as u64;
        }
        Ok(count)
    }
}

impl Kind {
    /// Size of the decoded message itself, without what it points to.
    fn size_bytes(self) -> u64 {
        (match self {
            Self::Model => size_of::<pb::ModelProto>(),
            Self::Graph => size_of::<pb::GraphProto>(),
            Self::Node => size_of::<pb::NodeProto>(),
            Self::Attribute => size_of::<pb::AttributeProto>(),
            Self::Tensor => size_of::<pb::TensorProto>(),
            Self::Segment => size_of::<pb::tensor_proto::Segment>(),
            Self::Sparse => size_of::<pb::SparseTensorProto>(),
            Self::ValueInfo => size_of::<pb::ValueInfoProto>(),
            Self::Type => size_of::<pb::TypeProto>(),
            Self::TensorType => size_of::<pb::type_proto::Tensor>(),
            Self::Shape => size_of::<pb::TensorShapeProto>(),
            Self::Dimension => size_of::<pb::tensor_shape_proto::Dimension>(),
            Self::Opset => size_of::<pb::OperatorSetIdProto>(),
            Self::Entry => size_of::<pb::StringStringEntryProto>(),
            Self::Annotation => size_of::<pb::TensorAnnotation>(),
            Self::Training => size_of::<pb::TrainingInfoProto>(),
            Self::Function => size_of::<pb::FunctionProto>(),
        }) as u64
    }
}

/// The fields of the decoder's message types; anything else is skipped, as the decoder does.
fn field(kind: Kind, number: u64) -> Option<Field> {
    use Field::{Fixed32, Fixed32s, Fixed64s, Message, Payload, Text, Varint, Varints};
    use Kind::{
        Annotation, Attribute, Dimension, Entry, Function, Graph, Model, Node, Opset, Segment, Shape, Sparse, Tensor,
        TensorType, Training, Type, ValueInfo,
    };
    Some(match (kind, number) {
        (Model, 1 | 5) => Varint,
        (Model, 2 | 3 | 4 | 6) => Text,
        (Model, 7) => Message(Graph),
        (Model, 8) => Message(Opset),
        (Model, 14) => Message(Entry),
        (Model, 20) => Message(Training),
        (Model, 25) => Message(Function),
        (Graph, 1) => Message(Node),
        (Graph, 2 | 10) => Text,
        (Graph, 5) => Message(Tensor),
        (Graph, 11..=13) => Message(ValueInfo),
        (Graph, 14) => Message(Annotation),
        (Graph, 15) => Message(Sparse),
        (Node, 1..=4 | 6 | 7) => Text,
        (Node, 5) => Message(Attribute),
        (Attribute, 1 | 4 | 9 | 13 | 21) => Text,
        (Attribute, 2) => Fixed32,
        (Attribute, 3 | 20) => Varint,
        (Attribute, 5 | 10) => Message(Tensor),
        (Attribute, 6 | 11) => Message(Graph),
        (Attribute, 7) => Fixed32s,
        (Attribute, 8) => Varints(8),
        (Attribute, 15) => Message(Type),
        (Attribute, 22 | 23) => Message(Sparse),
        (Tensor, 1 | 7 | 11) => Varints(8),
        (Tensor, 2 | 14) => Varint,
        (Tensor, 3) => Message(Segment),
        (Tensor, 4) => Fixed32s,
        (Tensor, 5) => Varints(4),
        (Tensor, 6 | 8 | 12) => Text,
        (Tensor, 9) => Payload,
        (Tensor, 10) => Fixed64s,
        (Tensor, 13) => Message(Entry),
        (Segment, 1 | 2) => Varint,
        (Sparse, 1 | 2) => Message(Tensor),
        (Sparse, 3) => Varints(8),
        (ValueInfo, 1 | 3) => Text,
        (ValueInfo, 2) => Message(Type),
        (Type, 1) => Message(TensorType),
        (Type, 6) => Text,
        (TensorType, 1) => Varint,
        (TensorType, 2) => Message(Shape),
        (Shape, 1) => Message(Dimension),
        (Dimension, 1) => Varint,
        (Dimension, 2 | 3) => Text,
        (Opset, 1) => Text,
        (Opset, 2) => Varint,
        (Entry, 1 | 2) => Text,
        (Annotation, 1) => Text,
        (Annotation, 2) => Message(Entry),
        (Training, 1 | 2) => Message(Graph),
        (Training, 3 | 4) => Message(Entry),
        (Function, 1 | 4 | 5 | 6 | 8 | 10) => Text,
        (Function, 7) => Message(Node),
        (Function, 9) => Message(Opset),
        _ => return None,
    })
}
