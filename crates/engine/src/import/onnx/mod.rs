//! ONNX: the file, its constants, and what they evaluate to.

pub mod evaluate;
pub mod proto;
pub mod tensors;
