//! A network of floats takes the bytes of a picture instead.

use crate::error::{Error, Result};
use crate::graph::Graph;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::Op;
use onebit_core::types::{DType, ValueType};

/// The graph with bytes as its input: what the preprocessing of [`Meta`](crate::Meta) computes becomes an affine map
/// of the network, which folds into the layer or the thresholds that read it. `None` where the input is none of floats.
///
/// # Errors
/// When a mean is no number, or a standard deviation cannot be divided by.
pub fn as_bytes(graph: &Graph) -> Result<Option<Graph>> {
    let ty = graph.ty(Graph::INPUT);
    if ty.dtype != DType::F32 {
        return Ok(None);
    }
    let mut meta = graph.meta.clone();
    let (mean, std): (Vec<f32>, Vec<f32>) =
        (0..ty.shape.c).map(|c| graph.meta.input.normalisation(c)).unzip();
    if let Some(bad) = mean.iter().find(|m| !m.is_finite()) {
        return Err(Error::Model(format!("the mean {bad} of the preprocessing is no number: set another")));
    }
    if let Some(bad) = std.iter().find(|s| !s.is_normal() || !(1.0 / **s).is_finite()) {
        return Err(Error::Model(format!(
            "pixels cannot be divided by the std {bad} of the preprocessing: set another"
        )));
    }
    (meta.input.mean, meta.input.std) = (Vec::new(), Vec::new());
    let mut new = Graph::new(ValueType::new(ty.shape, DType::U8), meta);
    let mut input = new.add("pixels", Op::Decode, &[Graph::INPUT], Params::default())?;
    if mean.iter().any(|m| *m != 0.0) || std.iter().any(|s| *s != 1.0) {
        let scale = std.iter().map(|s| 1.0 / s).collect();
        let params =
            Params { center: Some(Tensor::f32(mean)), scale: Some(Tensor::f32(scale)), ..Params::default() };
        input = new.add("normalised", Op::Affine, &[input], params)?;
    }
    let mut place = vec![input];
    for node in &graph.nodes {
        let inputs: Vec<usize> = node.inputs.iter().map(|v| place[*v]).collect();
        place.push(new.add(&node.name, node.op, &inputs, node.params.clone())?);
    }
    new.output = place[graph.output];
    new.notes.clone_from(&graph.notes);
    Ok(Some(new))
}
