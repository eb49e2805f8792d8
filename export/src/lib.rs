//! hone-export: a pretrained ONNX model in, quantized ONNX and a device bundle out.
//!
//! The stages, in the order in which data flows; each uses those before it:
//! [`graph`] is the model in memory (shape inference, folding, fusion, evaluation), [`onnx`] reads and writes it, [`inspect`] says
//! what is in it, [`split`] decides where the backbone ends, [`data`] streams examples, [`calibrate`] measures ranges, [`quantize`]
//! rounds, [`lower`] compiles for the native engine, [`verify`] runs before and after, [`pipeline`] is all of that from a model file to a bundle, [`apply`] uses a bundle on
//! data, [`bench`](mod@bench) measures providers, [`doctor`] looks at the machine, [`report`] says what came out.
//!
//! Without the feature `onnx` (a default one) only what a device needs is built: [`apply`], [`bench`](mod@bench), [`data`], [`report`]; no tract.

pub mod apply;
pub mod bench;
#[cfg(feature = "onnx")]
pub mod calibrate;
pub mod data;
pub mod doctor;
pub mod error;
pub mod files;
#[cfg(feature = "onnx")]
pub mod graph;
#[cfg(feature = "onnx")]
pub mod inspect;
#[cfg(feature = "onnx")]
pub mod lower;
#[cfg(feature = "onnx")]
pub mod onnx;
#[cfg(feature = "onnx")]
pub mod pipeline;
#[cfg(feature = "onnx")]
pub mod quantize;
pub mod report;
#[cfg(feature = "onnx")]
pub mod split;
#[cfg(feature = "onnx")]
pub mod verify;

pub use error::{Error, Result};
