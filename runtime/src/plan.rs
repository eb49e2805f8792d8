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

use crate::bytes::{Fields, crc32};
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
        let truncated = |needs| Error::Truncated { what: WHAT, needs, has: bytes.len() };
        let Some(magic) = bytes.first_chunk() else { return Err(truncated(MAGIC.len())) };
        if *magic != MAGIC {
            let [a, b, c, d, ..] = *magic;
            return Err(Error::BadMagic { what: WHAT, found: [a, b, c, d] });
        }
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(truncated(HEADER_BYTES));
        };
        let f = Fields(header);
        let (version, flags, total, stored) = (f.u16(8), f.u16(10), f.u32(12) as usize, f.u32(16));
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version, supported: VERSION });
        }
        if total != bytes.len() {
            return Err(truncated(total));
        }
        let computed = crc32(bytes.get(format::CRC_START..).unwrap_or_default());
        if stored != computed {
            return Err(Error::Crc { what: WHAT, stored, computed });
        }
        let count = |at: usize, what: &'static str, max: usize| {
            let value = f.u32(at);
            let refused = Error::Bounds { what, value: u64::from(value), min: 0, max: max as u64 };
            if value as usize > max { Err(refused) } else { Ok(value as usize) }
        };
        let arena_bytes = count(20, "arena in bytes", format::MAX_BYTES)?;
        let tensor_count = count(24, "tensors", format::MAX_TENSORS)?;
        let op_count = count(28, "operators", format::MAX_OPS)?;
        let (input, output) = (usize::from(f.u16(32)), usize::from(f.u16(34)));
        let names_bytes = count(36, "bytes of names", total)?;
        let data_offset = count(40, "offset of the data", total)?;
        let malformed = |why| Err(Error::Malformed { what: WHAT, why });
        if flags & !format::FLAG_CHANNELS_FIRST != 0 {
            return malformed("unknown flags");
        }
        if (44..HEADER_BYTES).any(|at| f.u8(at) != 0) {
            return malformed("reserved bytes are not zero");
        }
        let end = HEADER_BYTES + tensor_count * TENSOR_BYTES + op_count * OP_BYTES + names_bytes;
        let tables = rest.split_at_checked(tensor_count * TENSOR_BYTES).and_then(|(tensors, rest)| {
            let (ops, rest) = rest.split_at_checked(op_count * OP_BYTES)?;
            let (names, rest) = rest.split_at_checked(names_bytes)?;
            Some((tensors.as_chunks().0, ops.as_chunks().0, names, rest))
        });
        let Some((tensors, ops, names, rest)) = tables else { return Err(truncated(end)) };
        if data_offset != end.next_multiple_of(format::ALIGN) {
            return malformed("the data does not follow the tables");
        }
        if rest.iter().take(data_offset - end).any(|byte| *byte != 0) {
            return malformed("padding is not zero");
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
        self.tensor(self.header.input)
    }

    /// Whether the model takes its input as `[channels, height, width]`; the tensor is always `[height, width, channels]`.
    #[must_use]
    pub fn channels_first(&self) -> bool {
        self.header.channels_first
    }

    /// The output tensor.
    #[must_use]
    pub fn output(&self) -> Tensor {
        self.tensor(self.header.output)
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

    /// Part of the file.
    #[inline(never)]
    fn block(&self, offset: usize, len: usize) -> Option<&'a [u8]> {
        self.bytes.get(offset..)?.get(..len)
    }

    /// Bytes that tensor `index` takes; see [`Tensor::place`].
    fn place(&self, index: usize) -> core::ops::Range<usize> {
        self.tensors.get(index).map_or(0..0, Tensor::place)
    }

    /// Tensor `index`, whose record [`check`] decodes before anything else; empty where there is none.
    #[inline(never)]
    fn tensor(&self, index: usize) -> Tensor {
        self.tensors.get(index).map_or(Tensor::EMPTY, Tensor::read)
    }
}
