//! Moves a sign in front of a reshape, where it meets the layer that made the value.

use crate::error::Result;
use crate::graph::Graph;
use onebit_core::ops::Op;

/// See the module.
pub fn run(graph: &mut Graph) -> Result<usize> {
    let mut done = 0;
    for i in 0..graph.nodes.len() {
        let Op::Sign(sign) = graph.nodes[i].op else { continue };
        let Some(reshape) = graph.producer(graph.nodes[i].inputs[0]) else { continue };
        if let Op::Reshape(shape) = reshape.op {
            let (source, name) = (reshape.inputs[0], format!("{}_early", graph.nodes[i].name));
            let output = graph.output;
            let early = graph.add(name, Op::Sign(sign), &[source], Default::default())?;
            graph.output = output;
            graph.nodes[i].op = Op::Reshape(shape);
            graph.nodes[i].inputs = vec![early];
            done += 1;
        }
    }
    Ok(done)
}
