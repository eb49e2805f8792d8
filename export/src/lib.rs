//! hone-export: a pretrained ONNX model in, quantized ONNX and a device bundle out.
//!
//! The modules are the stages of the pipeline, in order; each calls only those above it:
//! [`onnx`] reads and writes files, [`graph`] is the model in memory (shape inference, folding, fusion,
//! evaluation), [`split`] decides where the backbone ends, [`data`] streams examples, [`calibrate`] measures
//! ranges, [`quantize`] rounds, [`verify`] runs before and after, [`report`] says what came out.

pub mod apply;
pub mod calibrate;
pub mod data;
pub mod error;
pub mod graph;
pub mod inspect;
pub mod onnx;
pub mod pipeline;
pub mod quantize;
pub mod report;
pub mod split;
pub mod verify;

pub use error::{Error, Result};
