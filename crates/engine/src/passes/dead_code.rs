//! Drops nodes whose value nothing reads, and sorts the rest.

use crate::error::Result;
use crate::graph::Graph;

/// See the module.
pub fn run(graph: &mut Graph) -> Result<usize> {
    graph.normalize()
}
