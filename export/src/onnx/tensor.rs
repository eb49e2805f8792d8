//! `TensorProto` ↔ [`Tensor`]: every data field, sizes checked against the dimensions before anything is allocated.

use half::f16;
use ndarray::{ArrayD, IxDyn};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataLocation;

use super::external::External;
use crate::graph::{DType, Tensor};
use crate::{Error, Result};

/// Dimensions of a tensor; ONNX sets no bound, no model comes near this one.
const RANK_LIMIT: usize = 64;

/// Converts a tensor and takes its data out of `proto`; `external` reads what lies in another file.
pub(super) fn from_proto(proto: pb::TensorProto, external: &mut External, file: &std::path::Path) -> Result<Tensor> {
    let name = proto.name.clone();
    let wrong = |why: String| Error::malformed(file, format!("tensor '{name}': {why}"));
    let dtype = super::dtype_of(proto.data_type).map_err(|ty| Error::Unsupported {
        node: name.clone(),
        op: "tensor".to_owned(),
        why: format!("element type {ty} is not supported"),
    })?;
    if proto.segment.is_some() {
        return Err(wrong("is cut into segments, which no ONNX version defines".to_owned()));
    }
    let (shape, count) = shape_of(&proto.dims, dtype).map_err(&wrong)?;
    let bytes = (count * dtype.size_bytes()) as u64;
    let array = Shaped { shape, count };
    if proto.data_location == Some(DataLocation::External as i32) {
        if carried(&proto).next().is_some() || !proto.raw_data.is_empty() {
            return Err(wrong("is external and carries data of its own".to_owned()));
        }
        return array.decode_bytes(dtype, external.read(&name, &proto.external_data, bytes)?).map_err(&wrong);
    }
    let mut fields = carried(&proto);
    let (field, second) = (fields.next(), fields.next());
    drop(fields);
    match (field, second, proto.raw_data.is_empty()) {
        (None, None, false) => {
            if proto.raw_data.len() as u64 != bytes {
                let have = proto.raw_data.len();
                return Err(wrong(format!("declares {:?}, {bytes} bytes of data, and carries {have}", proto.dims)));
            }
            array.decode_bytes(dtype, proto.raw_data).map_err(&wrong)
        }
        (None, None, true) if count == 0 => array.decode_bytes(dtype, Vec::new()).map_err(&wrong),
        (None, None, true) => Err(wrong(format!("declares {:?}, {bytes} bytes of data, and carries none", proto.dims))),
        (Some((field, have)), None, true) => {
            if have != count {
                return Err(wrong(format!("declares {:?}, {count} elements, and carries {have}", proto.dims)));
            }
            if field != field_of(dtype) {
                return Err(wrong(format!("keeps {dtype:?} elements in {field}")));
            }
            array.take_fields(dtype, proto).map_err(&wrong)
        }
        _ => Err(wrong("carries its data twice".to_owned())),
    }
}

/// Converts back; the data goes into `raw_data`.
pub(super) fn to_proto(name: &str, tensor: &Tensor) -> pb::TensorProto {
    fn raw<T: Copy, const N: usize>(a: &ArrayD<T>, to_bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(a.len() * N);
        // Logical order, whatever the memory layout.
        a.iter().for_each(|&x| bytes.extend_from_slice(&to_bytes(x)));
        bytes
    }
    pb::TensorProto {
        name: name.to_owned(),
        // Shapes come from arrays in memory and fit.
        dims: tensor.shape().iter().map(|&n| n as i64).collect(),
        data_type: super::data_type(tensor.dtype()) as i32,
        raw_data: match tensor {
            Tensor::F32(a) => raw(a, f32::to_le_bytes),
            Tensor::F16(a) => raw(a, f16::to_le_bytes),
            Tensor::F64(a) => raw(a, f64::to_le_bytes),
            Tensor::I64(a) => raw(a, i64::to_le_bytes),
            Tensor::I32(a) => raw(a, i32::to_le_bytes),
            Tensor::I8(a) => raw(a, i8::to_le_bytes),
            Tensor::U8(a) => raw(a, u8::to_le_bytes),
            Tensor::Bool(a) => raw(a, |b| [u8::from(b)]),
        },
        ..Default::default()
    }
}

/// The typed data fields that are not empty, with their number of elements.
fn carried(proto: &pb::TensorProto) -> impl Iterator<Item = (&'static str, usize)> {
    [
        ("float_data", proto.float_data.len()),
        ("int32_data", proto.int32_data.len()),
        ("int64_data", proto.int64_data.len()),
        ("double_data", proto.double_data.len()),
        ("uint64_data", proto.uint64_data.len()),
        ("string_data", proto.string_data.len()),
    ]
    .into_iter()
    .filter(|&(_, len)| len > 0)
}

fn field_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float_data",
        DType::F64 => "double_data",
        DType::I64 => "int64_data",
        DType::F16 | DType::I32 | DType::I8 | DType::U8 | DType::Bool => "int32_data",
    }
}

/// Shape and number of elements, such that the number of bytes does not overflow.
fn shape_of(dims: &[i64], dtype: DType) -> Result<(Vec<usize>, usize), String> {
    if dims.len() > RANK_LIMIT {
        return Err(format!("has {} dimensions, the limit is {RANK_LIMIT}", dims.len()));
    }
    let shape = dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| format!("has a negative dimension in {dims:?}"))?;
    // Zeros are left out: [0, huge, huge] is empty, and still no array can have such a shape.
    let bytes = shape.iter().filter(|&&n| n > 0).try_fold(dtype.size_bytes(), |bytes, &n| bytes.checked_mul(n));
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(format!("declares {dims:?}, more than any machine can hold"));
    }
    let count = shape.iter().product();
    Ok((shape, count))
}

/// A checked shape, waiting for its data.
struct Shaped {
    shape: Vec<usize>,
    count: usize,
}

impl Shaped {
    fn array<T>(&self, data: impl Iterator<Item = T>) -> Result<ArrayD<T>, String> {
        let mut elements = Vec::with_capacity(self.count);
        elements.extend(data);
        ArrayD::from_shape_vec(IxDyn(&self.shape), elements).map_err(|e| e.to_string())
    }

    /// From little-endian bytes, whose number the caller has checked.
    fn decode_bytes(&self, dtype: DType, bytes: Vec<u8>) -> Result<Tensor, String> {
        fn elements<T, const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
            bytes.as_chunks::<N>().0.iter().map(move |&b| from(b))
        }
        Ok(match dtype {
            DType::F32 => Tensor::F32(self.array(elements(&bytes, f32::from_le_bytes))?),
            DType::F16 => Tensor::F16(self.array(elements(&bytes, f16::from_le_bytes))?),
            DType::F64 => Tensor::F64(self.array(elements(&bytes, f64::from_le_bytes))?),
            DType::I64 => Tensor::I64(self.array(elements(&bytes, i64::from_le_bytes))?),
            DType::I32 => Tensor::I32(self.array(elements(&bytes, i32::from_le_bytes))?),
            DType::I8 => Tensor::I8(self.array(elements(&bytes, i8::from_le_bytes))?),
            DType::U8 => Tensor::U8(self.array(bytes.into_iter())?),
            DType::Bool => Tensor::Bool(self.array(bytes.into_iter().map(|b| b != 0))?),
        })
    }

    /// From the typed field of that element type, whose length the caller has checked.
    fn take_fields(&self, dtype: DType, proto: pb::TensorProto) -> Result<Tensor, String> {
        let narrow = proto.int32_data;
        let outside = |x: &i32| format!("holds {x}, which is no {dtype:?}");
        if let Some(x) = narrow.iter().find(|&&x| match dtype {
            DType::I8 => i8::try_from(x).is_err(),
            DType::U8 => u8::try_from(x).is_err(),
            DType::Bool => !(0..=1).contains(&x),
            DType::F16 => u16::try_from(x).is_err(),
            _ => false,
        }) {
            return Err(outside(x));
        }
        // The casts below are exact: just checked.
        Ok(match dtype {
            DType::F32 => Tensor::F32(self.array(proto.float_data.into_iter())?),
            DType::F64 => Tensor::F64(self.array(proto.double_data.into_iter())?),
            DType::I64 => Tensor::I64(self.array(proto.int64_data.into_iter())?),
            DType::I32 => Tensor::I32(self.array(narrow.into_iter())?),
            DType::F16 => Tensor::F16(self.array(narrow.into_iter().map(|x| f16::from_bits(x as u16)))?),
            DType::I8 => Tensor::I8(self.array(narrow.into_iter().map(|x| x as i8))?),
            DType::U8 => Tensor::U8(self.array(narrow.into_iter().map(|x| x as u8))?),
            DType::Bool => Tensor::Bool(self.array(narrow.into_iter().map(|x| x != 0))?),
        })
    }
}
