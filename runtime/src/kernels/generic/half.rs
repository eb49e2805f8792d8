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
