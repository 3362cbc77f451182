//! A dense layer reads its input in `(h, w, c)` order anyway: a reshape in front of it is dropped, and so is a
//! reshape that changes nothing or follows another. Transposes that follow each other become one, or none; one that
//! only moves axes of length 1 is a reshape.

use crate::error::Result;
use crate::graph::Graph;
use onebit_core::Shape;
use onebit_core::ops::{Op, Reshape, Transpose};

/// See the module.
pub fn run(graph: &mut Graph) -> Result<usize> {
    let mut done = 0;
    for i in 0..graph.nodes.len() {
        for slot in 0..graph.nodes[i].inputs.len() {
            let v = graph.nodes[i].inputs[slot];
            if let Op::Transpose(t) = graph.nodes[i].op
                && t.order != [0, 1, 2]
                && keeps_order(t, graph.ty(v).shape)
            {
                graph.nodes[i].op = Op::Reshape(Reshape { shape: graph.ty(i + 1).shape });
                done += 1;
            }
            let Some(producer) = graph.producer(v) else { continue };
            let source = producer.inputs[0];
            let order_only = matches!(graph.nodes[i].op, Op::BDense(_) | Op::Dense | Op::Reshape(_));
            let dropped = match producer.op {
                Op::Reshape(_) => order_only || graph.ty(source) == graph.ty(v),
                Op::Transpose(t) => t.order == [0, 1, 2],
                _ => false,
            };
            if dropped {
                graph.nodes[i].inputs[slot] = source;
                done += 1;
                continue;
            }
            if let (Op::Transpose(first), Op::Transpose(second)) = (producer.op, graph.nodes[i].op) {
                let order = second.order.map(|axis| first.order[axis]);
                graph.nodes[i].op = Op::Transpose(Transpose { order });
                graph.nodes[i].inputs = vec![source];
                done += 1;
            }
        }
    }
    Ok(done)
}

/// Whether the axes that are longer than 1 stay in their order.
fn keeps_order(transpose: Transpose, shape: Shape) -> bool {
    let sizes: [usize; 3] = shape.into();
    transpose.order.into_iter().filter(|axis| sizes[*axis] > 1).is_sorted()
}
