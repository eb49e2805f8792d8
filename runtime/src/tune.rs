//! From shots to a head, without allocation.
//!
//! [`tune`] is the whole step: it fits the owner's shots together with the bundle's canaries, chooses the L2 strength by
//! leave-one-out, and lets the acceptance gate ([`gate`]) decide whether the new head replaces the one in use.
//! [`softmax`] is the solver alone, [`loo`] the leave-one-out.
//!
//! ```
//! use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};
//! use hone_runtime::tensor::Rows;
//! use hone_runtime::tune::{Input, Labelled, LeftOut, Memory, Options, Output, tune};
//!
//! // Four shots of two classes, three dimensions.
//! let spec = EmbeddingSpec { dim: 3, kind: EmbeddingKind::Int8(QuantParams { scale: 0.1, zero_point: 0 }) };
//! let rows = [90, 10, 0, 80, 0, 10, 0, 90, 10, 10, 80, 0];
//! let shots = Labelled { rows: Rows::new(&rows, 3)?, classes: &[0, 0, 1, 1] };
//! let input = Input { spec, classes: 2, shots, canaries: None, old: None, prior: None };
//!
//! // All memory is the caller's; the sizes are constants.
//! let (mut values, mut indices) = ([0.0; Memory::values_len(4, 0, 3, 2)], [0; Memory::indices_len(4, 0)]);
//! let (mut weights, mut bias, mut states) = ([0.0; 6], [0.0; 2], [LeftOut::New; 4]);
//! let memory = Memory { values: &mut values, indices: &mut indices };
//! let out = Output { weights: &mut weights, bias: &mut bias, shots: &mut states, canaries: &mut [] };
//! let outcome = tune(&input, &Options::default(), memory, out)?;
//!
//! assert!(outcome.decision.accepted);
//! assert_eq!(outcome.decision.reason.to_string(), "first head, leave-one-out 1.00 on 4 shots");
//! assert_eq!(states, [LeftOut::Right; 4]);
//! # Ok::<(), hone_runtime::Error>(())
//! ```

pub mod gate;
mod hold_back;
mod linalg;
pub mod loo;
mod newton;
mod personalize;
mod prior;
pub mod softmax;
mod space;
mod tridiagonal;
mod workspace;

pub use gate::{Decision, Evidence, LeftOut, Reason};
pub use personalize::{Input, Labelled, Memory, NO_CLASS, OldHead, Options, Outcome, Output, tune};
pub use prior::Prior;
pub use softmax::Fit;
pub use workspace::workspace_len;
