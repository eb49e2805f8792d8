//! f16 with vectors: f16 in memory, f32 in registers. x86-64 with AVX2, F16C and FMA, and AArch64.
//!
//! Weights are read from the plan as it lies, so that nothing is repacked. A convolution brings a block of activations to f32 once, then one
//! panel of weights after another, and multiplies both in registers, six pixels by sixteen outputs.
//!
//! On x86-64 every kernel here is reached only through tiers that are handed out where the processor has AVX2, FMA and F16C. Beyond that
//! every kernel checks the sizes that its pointers rely on itself.
#![allow(unsafe_code, reason = "vector instructions")]
#![cfg_attr(target_arch = "aarch64", allow(unused_unsafe, reason = "which processor it is needs no proof there"))]

mod conv;
mod depthwise;
mod elementwise;
mod input;
mod pool;
mod product;
mod row;
mod values;
mod vector;
mod winograd;

use crate::kernels::Kernel;
use crate::plan::Code;

pub(super) use input::halve;

/// Convolution.
pub(super) static CONV: Kernel = Kernel::with_workspace(Code::Conv16, conv::workspace_bytes, conv::conv);
/// Depthwise convolution.
pub(super) static DEPTHWISE: Kernel = Kernel::in_place(Code::Depthwise16, depthwise::depthwise);
/// Dense layer.
pub(super) static DENSE: Kernel = Kernel::with_workspace(Code::Dense16, row::workspace_bytes, row::row);
/// Largest value of a window.
pub(super) static MAX_POOL: Kernel = Kernel::in_place(Code::MaxPool16, pool::max_pool);
/// Mean of a window.
pub(super) static AVERAGE_POOL: Kernel = Kernel::in_place(Code::AveragePool16, pool::average_pool);
/// Sum or difference of two tensors.
pub(super) static ADD: Kernel = Kernel::in_place(Code::Add16, elementwise::add);
/// Product of two tensors, element by element.
pub(super) static MUL: Kernel = Kernel::in_place(Code::Mul16, elementwise::mul);
/// A function of one value.
pub(super) static UNARY: Kernel = Kernel::in_place(Code::Unary16, elementwise::unary);
/// f16 to f32.
pub(super) static FLOAT: Kernel = Kernel::in_place(Code::Float16, elementwise::float);
