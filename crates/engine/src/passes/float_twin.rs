//! The same network with its binary layers computed in float32, for an honest comparison.
//!
//! Every binary convolution and dense layer becomes a float one with the same weights as floats; bits between
//! layers become +-1 floats. All sums are of small integers, so the results are the same.

use crate::error::Result;
use crate::graph::Graph;
use onebit_core::DType;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{Conv2d, Op, Threshold};

/// See the module.
///
/// # Errors
/// When the graph is not valid.
pub fn float_twin(graph: &Graph) -> Result<Graph> {
    let mut twin = Graph::new(graph.ty(Graph::INPUT), graph.meta.clone());
    let mut place = vec![Graph::INPUT];
    for node in &graph.nodes {
        let mut inputs: Vec<usize> = node.inputs.iter().map(|v| place[*v]).collect();
        let (op, output) = match node.op {
            Op::BConv2d(c) => {
                let (window, groups) = (c.window, c.groups);
                (Op::Conv2d(Conv2d { window, groups, pad_value: c.pad_value as f32 }), c.output)
            }
            Op::BDense(d) => (Op::Dense, d.output),
            other => {
                let mut params = node.params.clone();
                if twin.ty(inputs[0]).dtype == DType::F32 {
                    params.thresholds = params.thresholds.as_ref().map(as_floats);
                }
                let value = twin.add(&node.name, other, &inputs, params)?;
                place.push(value);
                continue;
            }
        };
        if twin.ty(inputs[0]).dtype != DType::F32 {
            let name = format!("{}_decode", node.name);
            inputs[0] = twin.add(name, Op::Decode, &inputs, Params::default())?;
        }
        let params = &node.params;
        let weight = params.weight.as_ref().map(as_floats);
        let mut value = twin.add(&node.name, op, &inputs, Params { weight, ..Params::default() })?;
        match output {
            DType::Bits(_) => {
                // Integers beyond 2^24 are extremes (always, never): any float near them will do.
                let thresholds =
                    params.thresholds.as_ref().map(|t| Tensor::f32_matrix(t.rows, t.cols, t.to_f32()));
                let rest = Params { thresholds, flips: params.flips.clone(), ..Params::default() };
                let name = format!("{}_threshold", node.name);
                value = twin.add(name, Op::Threshold(Threshold { output }), &[value], rest)?;
            }
            DType::F32 if params.each().any(|(role, _)| role != "weight") => {
                let rest = Params { weight: None, ..params.clone() };
                value = twin.add(format!("{}_affine", node.name), Op::Affine, &[value], rest)?;
            }
            _ => {}
        }
        place.push(value);
    }
    twin.output = place[graph.output];
    Ok(twin)
}

/// Integers beyond 2^24 are thresholds that are always or never met: any float near them will do.
fn as_floats(t: &Tensor<'static>) -> Tensor<'static> {
    Tensor::f32_matrix(t.rows, t.cols, t.to_f32())
}
