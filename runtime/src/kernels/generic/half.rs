//! Portable f16 kernels: values are brought to f32 once where they are used more than once, everything is computed in f32, and results are
//! rounded to f16 when they are stored.
//!
//! Unlike int8 kernels these are not the only bits that are right: another order of summation is as good. The bound that every tier keeps
//! to is in `docs/plan-format.md`.

mod attention;
mod conv;
mod elementwise;
mod pool;
mod values;

pub use attention::{LAYER_NORM, MAT_MUL, SOFTMAX};
pub use conv::{CONV, DENSE, DEPTHWISE};
pub use elementwise::{ADD, FLOAT, MUL, UNARY};
pub use pool::{AVERAGE_POOL, MAX_POOL};
pub use values::apply;

use crate::kernels::{Kernel, Memory};
use crate::plan::{Code, Op};

/// A kernel that works on the plan's data in place, with memory to work in.
const fn kernel(code: Code, workspace_bytes: fn(&Op<'_>) -> usize, run: fn(&Op<'_>, &mut Memory<'_>)) -> Kernel {
    Kernel { workspace_bytes, ..Kernel::in_place(code, run) }
}
