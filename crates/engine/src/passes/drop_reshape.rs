//! A dense layer reads its input in `(h, w, c)` order anyway: a reshape in front of it is dropped, and so is a
//! reshape that changes nothing or follows another.

use crate::error::Result;
use crate::graph::Graph;
use onebit_core::ops::Op;

/// See the module.
pub fn run(graph: &mut Graph) -> Result<usize> {
    let mut done = 0;
    for i in 0..graph.nodes.len() {
        for slot in 0..graph.nodes[i].inputs.len() {
            let v = graph.nodes[i].inputs[slot];
            let Some(reshape) = graph.producer(v) else { continue };
            let source = reshape.inputs[0];
            let order_only = matches!(graph.nodes[i].op, Op::BDense(_) | Op::Dense | Op::Reshape(_));
            if matches!(reshape.op, Op::Reshape(_)) && (order_only || graph.ty(source) == graph.ty(v)) {
                graph.nodes[i].inputs[slot] = source;
                done += 1;
            }
        }
    }
    Ok(done)
}
