//! The backbone compiled for the native engine: flat little-endian bytes, used in place from flash or a memory map.
//!
//! [`Plan::parse`] checks everything once: lengths, checksum, shapes, that every operator's data is inside the file and every tensor
//! inside the arena, that nothing is read before it was written or overwritten while it is still needed. What it hands out cannot be
//! wrong, so that kernels need no checks of their own. The bytes are specified in `docs/plan-format.md`.
//!
//! Tensors are `[height, width, channels]`, channels fastest, one row of data at a time. int8 is asymmetric per tensor, weights are
//! symmetric per output channel, accumulators are int32 (wrapping), [`Requant`] brings them back to int8. f16 tensors have f16 weights,
//! f32 biases and f32 accumulators.

mod check;
pub mod format;
mod function;
mod op;
pub mod requant;
mod tensor;
#[cfg(feature = "alloc")]
pub mod writer;

pub use format::{Code, DType};
pub use function::Function;
pub use op::{MAX_INPUTS, Op, Window};
pub use requant::Requant;
pub use tensor::Tensor;
#[cfg(feature = "alloc")]
pub use writer::{OpParts, PlanParts};

use crate::bytes::crc32;
use crate::error::{Error, Result};
use format::{HEADER_BYTES, MAGIC, OP_BYTES, TENSOR_BYTES, VERSION};

pub(crate) const WHAT: &str = "plan";

/// A plan whose every byte was checked, borrowed from where it lies.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    bytes: &'a [u8],
    tensors: &'a [[u8; TENSOR_BYTES]],
    ops: &'a [[u8; OP_BYTES]],
    names: &'a [u8],
    header: Header,
}

/// The numbers of the header.
#[derive(Debug, Clone, Copy)]
struct Header {
    arena_bytes: usize,
    input: usize,
    output: usize,
    channels_first: bool,
    data_offset: usize,
}

impl<'a> Plan<'a> {
    /// Reads and checks a plan that fills `bytes` wholly.
    ///
    /// # Errors
    /// [`Error::BadMagic`], [`Error::Version`], [`Error::Truncated`], [`Error::Crc`] for what is no plan, an older or newer one, or a
    /// damaged one; [`Error::Bounds`] and [`Error::Malformed`] for one that contradicts itself.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let plan = Self::frame(bytes)?;
        check::plan(&plan)?;
        Ok(plan)
    }

    /// Header and tables, before what they say is checked.
    fn frame(bytes: &'a [u8]) -> Result<Self> {
        let mut r = crate::bytes::Reader::new(WHAT, bytes);
        let magic: [u8; 8] = r.array()?;
        if magic != MAGIC {
            let [a, b, c, d, ..] = magic;
            return Err(Error::BadMagic { what: WHAT, found: [a, b, c, d] });
        }
        let version = r.u16()?;
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version, supported: VERSION });
        }
        let flags = r.u16()?;
        let total = r.u32()? as usize;
        let stored = r.u32()?;
        if total != bytes.len() {
            return Err(Error::Truncated { what: WHAT, needs: total, has: bytes.len() });
        }
        let computed = crc32(bytes.get(format::CRC_START..).unwrap_or_default());
        if stored != computed {
            return Err(Error::Crc { what: WHAT, stored, computed });
        }
        let arena_bytes = r.count("arena in bytes", format::MAX_BYTES)?;
        let tensor_count = r.count("tensors", format::MAX_TENSORS)?;
        let op_count = r.count("operators", format::MAX_OPS)?;
        let (input, output) = (usize::from(r.u16()?), usize::from(r.u16()?));
        let names_bytes = r.count("bytes of names", total)?;
        let data_offset = r.count("offset of the data", total)?;
        r.pad_to(HEADER_BYTES)?;
        if flags & !format::FLAG_CHANNELS_FIRST != 0 {
            return Err(Error::Malformed { what: WHAT, why: "unknown flags" });
        }
        let (tensors, _) = r.bytes(tensor_count * TENSOR_BYTES)?.as_chunks();
        let (ops, _) = r.bytes(op_count * OP_BYTES)?.as_chunks();
        let names = r.bytes(names_bytes)?;
        r.pad_to(format::ALIGN)?;
        if data_offset != r.position() {
            return Err(Error::Malformed { what: WHAT, why: "the data does not follow the tables" });
        }
        let channels_first = flags & format::FLAG_CHANNELS_FIRST != 0;
        Ok(Self {
            bytes,
            tensors,
            ops,
            names,
            header: Header { arena_bytes, input, output, channels_first, data_offset },
        })
    }

    /// Bytes of the one buffer that every tensor and every operator's scratch lies in.
    #[must_use]
    pub fn arena_bytes(&self) -> usize {
        self.header.arena_bytes
    }

    /// The input tensor.
    #[must_use]
    pub fn input(&self) -> Tensor {
        self.tensor_or_empty(self.header.input)
    }

    /// Whether the model takes its input as `[channels, height, width]`; the tensor is always `[height, width, channels]`.
    #[must_use]
    pub fn channels_first(&self) -> bool {
        self.header.channels_first
    }

    /// The output tensor.
    #[must_use]
    pub fn output(&self) -> Tensor {
        self.tensor_or_empty(self.header.output)
    }

    /// Number of operators.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is no operator.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Operator `index`, decoded.
    #[must_use]
    pub fn op(&self, index: usize) -> Option<Op<'a>> {
        // `parse` has decoded every record once, so that only an index beyond the end gives `None`.
        let raw = op::Record::decode(self.ops.get(index)?).ok()?;
        Op::decode(self, &raw).ok()
    }

    /// The operators in order.
    pub fn ops(&self) -> impl Iterator<Item = Op<'a>> {
        let plan = *self;
        (0..self.ops.len()).filter_map(move |index| plan.op(index))
    }

    /// The operators' names in the model that it was compiled from, in order; none where the plan carries no names.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        // Each is ended by a zero, so that what follows the last is no name. `parse` has checked that all is UTF-8.
        let texts = self.names.split_last().map_or(&[][..], |(_, texts)| texts);
        let count = if self.names.is_empty() { 0 } else { usize::MAX };
        texts.split(|byte| *byte == 0).take(count).map(|text| core::str::from_utf8(text).unwrap_or_default())
    }

    /// Name of operator `index`; empty where the plan carries no names. Goes through those before it: for all, [`Plan::names`].
    #[must_use]
    pub fn name(&self, index: usize) -> &'a str {
        self.names().nth(index).unwrap_or_default()
    }

    /// The whole file.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Tensor `index`, whose record [`check`] decodes before anything else.
    fn tensor(&self, index: usize) -> Result<Tensor> {
        let record = self.tensors.get(index);
        record.map(Tensor::read).ok_or(Error::Malformed { what: WHAT, why: "a tensor that is not there" })
    }

    /// Bytes that tensor `index` takes; see [`Tensor::place`].
    fn place(&self, index: usize) -> core::ops::Range<usize> {
        self.tensors.get(index).map_or(0..0, Tensor::place)
    }

    fn tensor_or_empty(&self, index: usize) -> Tensor {
        self.tensor(index).unwrap_or(Tensor::EMPTY)
    }
}
