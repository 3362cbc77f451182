//! Passes: each rewrites the graph into an equal one that runs faster. One file each.
//!
//! | pass | before | after |
//! |---|---|---|
//! | [`share`] | nodes that compute the same | one of them |
//! | [`early_sign`] | sign or quantised form of a reshaped, transposed or enlarged value | the same of its sign |
//! | [`fold_thresholds`] | affine, activation, sign | one threshold per channel |
//! | [`early_threshold`] | threshold of a max-pool | bit pool of a threshold |
//! | [`narrow_ternary`] | sign with the values -1, 0, +1 that is never 0 | sign of one bit |
//! | [`fuse_output`] | accumulators, then threshold or affine | the layer itself puts out bits or floats |
//! | [`drop_reshape`] | flatten, then dense; transposes that follow each other | dense; one transpose or none |
//! | [`dead_code`] | nodes that nothing reads | |
//!
//! All are exact: the output of the network stays the same bit for bit. One has an exception, which it notes in the graph:
//! [`narrow_ternary`] rules out zeros of floats that are met by accident only.

pub mod dead_code;
pub mod drop_reshape;
pub mod early_sign;
pub mod early_threshold;
pub mod float_twin;
pub mod fold_thresholds;
pub mod fuse_output;
pub mod narrow_ternary;
pub mod share;

use crate::error::Result;
use crate::graph::Graph;

pub use float_twin::float_twin;

/// A pass: rewrites the graph and returns the number of rewrites. It may leave the list of nodes unsorted and
/// with unread nodes.
pub type Pass = fn(&mut Graph) -> Result<usize>;

/// Every pass with its name, in the order in which they run.
pub static PASSES: &[(&str, Pass)] = &[
    ("share", share::run),
    ("early_sign", early_sign::run),
    ("fold_thresholds", fold_thresholds::run),
    ("early_threshold", early_threshold::run),
    ("narrow_ternary", narrow_ternary::run),
    ("fuse_output", fuse_output::run),
    ("drop_reshape", drop_reshape::run),
    ("dead_code", dead_code::run),
];

/// Runs all passes until none finds anything more; after a rewrite it starts again with the first, so that a pass
/// sees a graph in which the ones before it have nothing left to do. Returns the rewrites of each.
///
/// # Errors
/// When the graph is not valid.
pub fn optimize(graph: &mut Graph) -> Result<Vec<(&'static str, usize)>> {
    graph.normalize()?;
    let mut done: Vec<_> = PASSES.iter().map(|(name, _)| (*name, 0)).collect();
    let mut next = 0;
    while let Some((_, pass)) = PASSES.get(next) {
        let rewrites = pass(graph)?;
        if rewrites > 0 {
            graph.normalize()?;
            done[next].1 += rewrites;
            next = 0;
        } else {
            next += 1;
        }
    }
    Ok(done)
}
