//! Moves what makes bits or bytes of each number in front of what only moves numbers, where it meets the layer that
//! made them and there are no more of them.

use crate::error::Result;
use crate::graph::Graph;
use onebit_core::ops::{Op, PadMode, ResizeMode};

/// See the module.
pub fn run(graph: &mut Graph) -> Result<usize> {
    let mut done = 0;
    for i in 0..graph.nodes.len() {
        let op = graph.nodes[i].op;
        if !matches!(op, Op::Sign(_) | Op::Quantize(_)) {
            continue;
        }
        let v = graph.nodes[i].inputs[0];
        let Some(mover) = graph.producer(v).filter(|node| moves_only(&node.op)) else { continue };
        let (mover, source) = (mover.op, mover.inputs[0]);
        if graph.ty(source).shape.elements() <= graph.ty(v).shape.elements() {
            let name = format!("{}_early", graph.nodes[i].name);
            let output = graph.output;
            let early = graph.add(name, op, &[source], Default::default())?;
            graph.output = output;
            graph.nodes[i].op = mover;
            graph.nodes[i].inputs = vec![early];
            done += 1;
        }
    }
    Ok(done)
}

/// Whether every element of the output is an element of the input.
fn moves_only(op: &Op) -> bool {
    match op {
        Op::Reshape(_) | Op::Transpose(_) | Op::DepthToSpace(_) => true,
        Op::Pad(pad) => pad.mode != PadMode::Constant,
        Op::Resize(resize) => resize.mode != ResizeMode::Linear,
        _ => false,
    }
}
