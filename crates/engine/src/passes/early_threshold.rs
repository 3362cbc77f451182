//! Moves a threshold in front of the max-pool that it reads, so that the pool works on bits.
//!
//! A threshold is monotone, so it commutes with a maximum; where it falls as its input rises, the maximum
//! of inputs becomes the minimum of outputs. A pool that others read too has to be computed anyway: then its threshold is
//! cheaper behind it.

use crate::error::Result;
use crate::graph::Graph;
use onebit_core::model::Params;
use onebit_core::ops::{BPool2d, Op, PoolKind};

/// See the module.
pub fn run(graph: &mut Graph) -> Result<usize> {
    let uses = graph.uses();
    let mut done = 0;
    for i in 0..graph.nodes.len() {
        let Op::Threshold(threshold) = graph.nodes[i].op else { continue };
        let Some(pool) = graph.producer(graph.nodes[i].inputs[0]) else { continue };
        let Op::Pool2d(pool_op) = pool.op else { continue };
        if pool_op.kind != PoolKind::Max || uses[graph.nodes[i].inputs[0]] != 1 {
            continue;
        }
        let source = pool.inputs[0];
        let name = format!("{}_early", graph.nodes[i].name);
        let params = std::mem::take(&mut graph.nodes[i].params);
        graph.nodes[i].params = Params { flips: params.flips.clone(), ..Default::default() };
        graph.nodes[i].op = Op::BPool2d(BPool2d { window: pool_op.window });
        let output = graph.output;
        let early = graph.add(name, Op::Threshold(threshold), &[source], params)?;
        graph.output = output;
        graph.nodes[i].inputs = vec![early];
        done += 1;
    }
    Ok(done)
}
