//! Reads and writes ONNX files; the only module that names protobuf types.
//!
//! [`read`] takes a file of opset 7 to 21 and gives a [`Graph`] in one normal form, whatever the opset: what was
//! an attribute and became an input later (bounds of `Clip`, amounts of `Pad`, axes, …) is held in the typed
//! [`Op`](crate::graph::Op). [`encode`] and [`write()`] give the form of the target opset back.
//!
//! # Untrusted files
//! A file goes through four gates, each cheap compared with the next:
//! 1. the path must name a regular file of at most [`FILE_LIMIT_BYTES`] (a pipe or device is never opened);
//! 2. `scan` walks the wire format in constant memory and bounds nesting and what decoding would allocate;
//! 3. prost decodes, streaming, and checks UTF-8 and wire types;
//! 4. `import` checks every size against the data that is there before it allocates, and every name.
//!
//! External data is only ever a plain file directly beneath the model's folder (see `external`).
//!
//! # What is not kept
//! The protobuf types know tensors only: sequences, maps, optionals and the per-node fields of IR 10 (overload,
//! metadata) are unknown to them and dropped on decoding. That is harmless for reading: an input or output that is
//! no tensor arrives without a type and is refused, an overload selects a model-local function and functions are
//! refused. Documentation strings, metadata, `value_info`, training graphs and quantization annotations are not
//! carried into the [`Graph`] and thus not written back.

mod attributes;
mod export;
mod external;
mod hints;
mod import;
mod normalize;
mod opset;
mod rewrite;
mod scan;
mod source;
mod tensor;
mod wire;

use std::io::Write as _;
use std::path::Path;

use prost::Message as _;
use tract_onnx::pb;

use crate::graph::Graph;
use crate::{Error, Result};

/// Largest file that is read or written: protobuf itself ends at 2 GiB.
pub const FILE_LIMIT_BYTES: u64 = 0x7fff_ffff;

/// Opsets of the default domain that are read.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=21;

/// How a model is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    /// Opset of the default domain, 13 to 21. `None`: the graph's own within 13 to 18, raised where an operator
    /// needs more (fp16 quantization scales need 19).
    pub opset: Option<i64>,
    /// Version of the file format; 8 is read by everything that reads opset 13.
    pub ir_version: i64,
    /// Name of the program that made the model.
    pub producer: String,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { opset: None, ir_version: 8, producer: "hone".to_owned(), overwrite: false }
    }
}

/// Reads an ONNX model, with its external data.
///
/// # Errors
/// [`Error::Io`], [`Error::Malformed`] (no ONNX, cut short, data that does not fit its dimensions),
/// [`Error::TooLarge`], [`Error::UnsafePath`] (external data), [`Error::InvalidModel`] (cycles, missing or
/// duplicate names, opset) and [`Error::Unsupported`] (naming the node). Unknown operators are not an error here:
/// they become [`Op::Other`](crate::graph::Op::Other).
pub fn read(path: &Path) -> Result<Graph> {
    let meta = std::fs::metadata(path).map_err(Error::io(path))?;
    if !meta.is_file() {
        return Err(Error::malformed(path, "not a regular file"));
    }
    if meta.len() > FILE_LIMIT_BYTES {
        return Err(too_large(path, "the file", meta.len(), FILE_LIMIT_BYTES));
    }
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    scan::scan(path, &file, meta.len())?;
    let model = source::decode(path, file, meta.len())?;
    import::import(model, path, external::External::new(path)).map_err(|e| in_file(e, path))
}

/// Reads a model that lies inside another file, such as the backbone of a bundle; `place` is what errors name.
///
/// The checks are those of [`read`]. External data is refused: there is no folder of the model's own.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], place: &Path) -> Result<Graph> {
    let len = bytes.len() as u64;
    if len > FILE_LIMIT_BYTES {
        return Err(too_large(place, "the model", len, FILE_LIMIT_BYTES));
    }
    scan::scan(place, std::io::Cursor::new(bytes), len)?;
    let model = pb::ModelProto::decode(bytes);
    let model = model.map_err(|e| Error::malformed(place, format!("holds no ONNX model: {e}")))?;
    import::import(model, place, external::External::none(place)).map_err(|e| in_file(e, place))
}

/// Encodes a graph as an ONNX file with all data inside.
///
/// # Errors
/// [`Error::Unsupported`] where the target opset cannot express a node, [`Error::TooLarge`] beyond 2 GiB,
/// [`Error::Setting`] for an opset outside 13 to 21.
pub fn encode(graph: &Graph, options: &WriteOptions) -> Result<Vec<u8>> {
    let model = export::export(graph, options)?;
    let len = model.encoded_len() as u64;
    if len > FILE_LIMIT_BYTES {
        return Err(too_large(Path::new(&graph.name), "the encoded model", len, FILE_LIMIT_BYTES));
    }
    Ok(model.encode_to_vec())
}

/// Writes a graph as an ONNX file: complete or not at all (temporary file in the same folder, fsync, rename).
///
/// # Errors
/// As [`encode`]; [`Error::Exists`] where `path` exists and may not be overwritten; [`Error::Io`].
pub fn write(graph: &Graph, path: &Path, options: &WriteOptions) -> Result<()> {
    let bytes = encode(graph, options)?;
    if !options.overwrite && path.symlink_metadata().is_ok() {
        return Err(Error::Exists(path.to_path_buf()));
    }
    let folder = external::folder_of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".hone-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // The umask applies, as for any new file; the default of temporary files (0600) would stay otherwise.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(Error::io(path))?;
    file.write_all(&bytes).map_err(Error::io(path))?;
    file.as_file().sync_all().map_err(Error::io(path))?;
    let done = if options.overwrite { file.persist(path) } else { file.persist_noclobber(path) };
    done.map_err(|e| match e.error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists(path.to_path_buf()),
        _ => Error::Io { path: path.to_path_buf(), source: e.error },
    })?;
    // The rename itself is durable once the folder is; not every file system can sync a folder.
    let _ = std::fs::File::open(folder).and_then(|f| f.sync_all());
    Ok(())
}

/// The operator as errors show it: with its domain unless that is the default one.
fn qualified(domain: &str, op_type: &str) -> String {
    if is_default_domain(domain) { op_type.to_owned() } else { format!("{domain}.{op_type}") }
}

fn is_default_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

fn too_large(path: &Path, what: &str, needs: u64, limit: u64) -> Error {
    Error::TooLarge {
        path: path.to_path_buf(),
        what: what.to_owned(),
        needs: format!("{needs} bytes"),
        limit: format!("{limit} bytes"),
    }
}

/// Errors about a node do not know the file: say it once, here.
fn in_file(error: Error, path: &Path) -> Error {
    match error {
        Error::Unsupported { node, op, why } => {
            Error::Unsupported { node, op, why: format!("{why} (model {})", path.display()) }
        }
        other => other,
    }
}

/// Element type as ONNX numbers it.
fn data_type(dtype: crate::graph::DType) -> pb::tensor_proto::DataType {
    use crate::graph::DType;
    use pb::tensor_proto::DataType;
    match dtype {
        DType::F32 => DataType::Float,
        DType::F16 => DataType::Float16,
        DType::F64 => DataType::Double,
        DType::I64 => DataType::Int64,
        DType::I32 => DataType::Int32,
        DType::I8 => DataType::Int8,
        DType::U8 => DataType::Uint8,
        DType::Bool => DataType::Bool,
    }
}

/// The inverse of [`data_type`]; the error is the type's name (or number) for a message.
fn dtype_of(number: i32) -> std::result::Result<crate::graph::DType, String> {
    use crate::graph::DType;
    use pb::tensor_proto::DataType;
    match DataType::try_from(number) {
        Ok(DataType::Float) => Ok(DType::F32),
        Ok(DataType::Float16) => Ok(DType::F16),
        Ok(DataType::Double) => Ok(DType::F64),
        Ok(DataType::Int64) => Ok(DType::I64),
        Ok(DataType::Int32) => Ok(DType::I32),
        Ok(DataType::Int8) => Ok(DType::I8),
        Ok(DataType::Uint8) => Ok(DType::U8),
        Ok(DataType::Bool) => Ok(DType::Bool),
        Ok(other) => Err(other.as_str_name().to_owned()),
        Err(_) => Err(format!("number {number}")),
    }
}
