//! hone-export: a pretrained ONNX model in, quantized ONNX and a device bundle out.
//!
//! The stages, in the order in which data flows; each uses those before it:
//! [`graph`] is the model in memory (shape inference, folding, fusion, evaluation), [`onnx`] reads and writes it, [`inspect`] says
//! what is in it, [`split`] decides where the backbone ends, [`data`] streams examples, [`calibrate`] measures ranges, [`quantize`]
//! rounds, [`lower`] compiles for the native engine, [`verify`] runs before and after, [`pipeline`] is all of that from a model file to a bundle, [`apply`] uses a bundle on
//! data, [`report`] says what came out.

pub mod apply;
pub mod calibrate;
pub mod data;
pub mod error;
pub mod graph;
pub mod inspect;
pub mod lower;
pub mod onnx;
pub mod pipeline;
pub mod quantize;
pub mod report;
pub mod split;
pub mod verify;

pub use error::{Error, Result};
