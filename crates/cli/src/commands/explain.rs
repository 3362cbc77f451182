//! Which layers of a network still work on floats, and why.

use onebit::core::model::{Data, Model, Node};
use onebit::core::ops::Op;
use onebit::core::types::DType;
use serde::Serialize;

/// A layer that works on floats.
#[derive(Serialize)]
pub struct FloatLayer {
    /// Name of the layer.
    pub name: String,
    /// Name of the op.
    pub op: &'static str,
    /// Its multiply-adds for one image.
    pub float_macs: u64,
    /// Why it is not binary.
    pub reason: String,
}

/// The layers of `model` that read or write floats and are no step from floats to bits.
pub fn float_layers(model: &Model<'_>) -> Vec<FloatLayer> {
    let all = model.nodes().iter().enumerate();
    all.filter_map(|(i, node)| {
        let reason = reason(model, i, node)?;
        let out = model.types()[i + 1].shape;
        let weight = node.params.weight.as_ref().map_or(0, |w| w.rows as u64 * w.cols as u64);
        let float_macs = weight * out.pixels() as u64;
        Some(FloatLayer { name: node.name.clone(), op: node.op.name(), float_macs, reason })
    })
    .collect()
}

fn reason(model: &Model<'_>, i: usize, node: &Node<'_>) -> Option<String> {
    let reads_floats = node.inputs.iter().any(|&v| model.types()[v].dtype == DType::F32);
    let from = |v: usize| match v.checked_sub(1) {
        Some(n) => format!("'{}'", model.nodes()[n].name),
        None => "the network's input".to_owned(),
    };
    let readers: Vec<&Node<'_>> = model.nodes().iter().filter(|n| n.inputs.contains(&(i + 1))).collect();
    match node.op {
        Op::Conv2d(_) | Op::Dense => Some(match node.params.weight.as_ref().map(|w| &w.data) {
            Some(Data::Bits(..)) => {
                format!("its weights are binary, but it reads floats from {}", from(node.inputs[0]))
            }
            _ => "its weights are floats, not +1 and -1 times one scale for each filter".to_owned(),
        }),
        // These make bits of floats, or compute on bits and put out floats: nothing is left to binarise.
        Op::Sign(_) | Op::Threshold(_) | Op::Quantize(_) | Op::BConv2d(_) | Op::BDense(_) => None,
        Op::Decode => Some(format!("makes floats for {}", names(&readers))),
        _ if !reads_floats => None,
        Op::Add | Op::Mul | Op::Div | Op::Max | Op::Min | Op::Concat => {
            let sources: Vec<String> = node.inputs.iter().map(|&v| from(v)).collect();
            Some(format!("joins the floats of {}", sources.join(" and ")))
        }
        _ if readers.is_empty() => Some("makes the network's output".to_owned()),
        _ => Some(match readers.iter().find(|r| !makes_bits(r)) {
            Some(_) => format!("its floats are read by {}", names(&readers)),
            None => format!("no exact threshold replaces it before {}", names(&readers)),
        }),
    }
}

fn makes_bits(node: &Node<'_>) -> bool {
    matches!(node.op, Op::Sign(_) | Op::Threshold(_) | Op::Quantize(_))
}

fn names(nodes: &[&Node<'_>]) -> String {
    match nodes {
        [] => "the network's output".to_owned(),
        _ => {
            nodes.iter().map(|n| format!("'{}' ({})", n.name, n.op.name())).collect::<Vec<_>>().join(" and ")
        }
    }
}
