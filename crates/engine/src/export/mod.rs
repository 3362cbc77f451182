//! Writes a [`Model`](onebit_core::model::Model) in the format of other tools.

pub mod onnx;
