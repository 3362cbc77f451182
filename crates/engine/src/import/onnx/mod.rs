//! ONNX files: of PyTorch, Keras and Larq, and QONNX of Brevitas and FINN.
//!
//! [`proto`] reads the file, [`evaluate`] computes what depends on constants only, `rewrite` drops what training left
//! behind, and `importer` hands the operators to the [lowerer](super::lower) one after the other.

mod budget;
mod convolutions;
pub mod evaluate;
mod importer;
mod moves;
mod operators;
pub mod proto;
mod quantizers;
mod rewrite;
pub mod tensors;

pub use importer::Onnx;
