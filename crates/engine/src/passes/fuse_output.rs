//! Lets a binary layer put out what its only reader makes of its accumulators: bits (a threshold) or floats
//! (an affine map). The arithmetic is the same, see `onebit_core::ops::transform`.

use crate::error::Result;
use crate::graph::Graph;
use onebit_core::DType;
use onebit_core::ops::{BConv2d, BDense, Op};

/// See the module.
pub fn run(graph: &mut Graph) -> Result<usize> {
    let uses = graph.uses();
    let mut done = 0;
    for i in 0..graph.nodes.len() {
        let output = match graph.nodes[i].op {
            Op::Threshold(t) => t.output,
            Op::Affine => DType::F32,
            _ => continue,
        };
        let v = graph.nodes[i].inputs[0];
        let Some(layer) = v.checked_sub(1) else { continue };
        let place = match &mut graph.nodes[layer].op {
            Op::BConv2d(BConv2d { output, .. }) | Op::BDense(BDense { output }) => output,
            _ => continue,
        };
        // A layer takes one transform: what it puts out now counts, not what it did when the pass began.
        if uses[v] != 1 || *place != DType::I32 {
            continue;
        }
        *place = output;
        let params = std::mem::take(&mut graph.nodes[i].params);
        let weight = graph.nodes[layer].params.weight.take();
        graph.nodes[layer].params = params;
        graph.nodes[layer].params.weight = weight;
        graph.redirect(i + 1, layer + 1);
        // The old node reads nothing that is needed any more; give it the input so that it is not counted.
        graph.nodes[i].inputs = vec![Graph::INPUT];
        done += 1;
    }
    Ok(done)
}
