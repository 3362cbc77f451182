//! `SPACE_TO_BATCH_ND` and `BATCH_TO_SPACE_ND`: TensorFlow writes a dilated convolution as a plain one of every n-th
//! pixel, with n maps in the batch. Here the map stays whole in between, and the convolution is dilated.

use super::network::{Network, Node, Value};
use crate::error::Result;

/// Ops between the two that treat each element alone.
const ALONE: &[&str] = &[
    "ADD",
    "SUB",
    "MUL",
    "DIV",
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "PRELU",
    "LEAKY_RELU",
    "QUANTIZE",
    "DEQUANTIZE",
    "LceQuantize",
    "LceDequantize",
];

/// Results of an op, and how far apart their pixels are on each axis, if they are in the batch.
pub type Results = (Vec<Value>, Option<Vec<usize>>);

/// The results of an op that makes or reads maps whose pixels lie in the batch, and how far these are apart on each axis
/// of the results; `None` for all other ops.
pub fn results(network: &mut Network<'_>, node: &Node<'_>) -> Result<Option<Results>> {
    let name = node.op.name.as_ref();
    let computed = |i: &&usize| matches!(network.values.get(*i), Some(Value::Live(_)));
    let all = node.op.inputs.iter().flatten().filter(computed).map(|i| network.blocks.get(i));
    let all: Vec<Option<&Vec<usize>>> = all.collect();
    let blocks = all.iter().flatten().next().copied().cloned();
    if blocks.is_some() && all.iter().any(|b| b.cloned() != blocks) {
        return Err(
            node.error("reads a map whose pixels lie in the batch beside another, which is not supported")
        );
    }
    let Some(mut blocks) = blocks else {
        if name != "SPACE_TO_BATCH_ND" {
            return Ok(None);
        }
        let live = network.live(node, 0)?;
        let blocks = positive(node, &network.ints(node, 1, "block")?)?;
        let mut pads = pairs(node, &network.ints(node, 2, "padding")?)?;
        let rank = live.var.dims.len();
        if !live.batch || blocks.len() >= rank || pads.len() != blocks.len() {
            return Err(node.error("takes apart more than rows and columns, which is not supported"));
        }
        pads.resize(rank, (0, 0));
        let var = network.lowerer.padded(&node.name, live.var.clone(), &pads, 0.0)?;
        if var.dims.iter().zip(&blocks).any(|(d, b)| d % b != 0) {
            return Err(node.error(format!("cannot take {:?} apart in blocks of {blocks:?}", var.dims)));
        }
        return Ok(Some((vec![Value::Live(live.with(var))], Some(blocks))));
    };
    match name {
        "BATCH_TO_SPACE_ND" => {
            let live = network.live(node, 0)?;
            let crops = pairs(node, &network.ints(node, 2, "crops")?)?;
            if positive(node, &network.ints(node, 1, "block")?)? != blocks || crops.len() != blocks.len() {
                return Err(node.error("joins other blocks than were made, which is not supported"));
            }
            let part = |(i, d): (usize, &usize)| {
                let (before, after) = crops.get(i).copied().unwrap_or((0, 0));
                let left = d.checked_sub(before + after).filter(|left| *left > 0)?;
                Some((before, left, 1))
            };
            let parts: Option<Vec<_>> = live.var.dims.iter().enumerate().map(part).collect();
            let parts = parts.ok_or_else(|| node.error("crops all there is"))?;
            let var = network.lowerer.sliced(&node.name, live.var.clone(), &parts)?;
            Ok(Some((vec![Value::Live(live.with(var))], None)))
        }
        // Sequences get one row for the convolution, and lose it again.
        "RESHAPE" => {
            let live = network.live(node, 0)?;
            let own: Vec<usize> =
                live.var.dims.iter().enumerate().map(|(i, d)| d / blocks.get(i).unwrap_or(&1)).collect();
            let wanted = match node.op.outputs.first() {
                Some(output) => network.model.tensor(*output)?.shape,
                None => Vec::new(),
            };
            let inner = wanted.get(1..).unwrap_or_default();
            let mut dims = live.var.dims.clone();
            if inner.strip_prefix(&[1]) == Some(own.as_slice()) {
                dims.insert(0, 1);
                blocks.insert(0, 1);
            } else if own.strip_prefix(&[1]) == Some(inner) && blocks[0] == 1 {
                dims.remove(0);
                blocks.remove(0);
            } else {
                return Err(node.error("moves elements between blocks of pixels, which is not supported"));
            }
            let var = network.lowerer.reshaped(&node.name, live.var.clone(), dims)?;
            Ok(Some((vec![Value::Live(live.with(var))], Some(blocks))))
        }
        "CONV_2D" | "DEPTHWISE_CONV_2D" => Ok(Some((network.results(node)?, Some(blocks)))),
        _ if ALONE.contains(&name) => Ok(Some((network.results(node)?, Some(blocks)))),
        _ => Err(node.error("reads a map whose pixels lie in the batch, which is not supported")),
    }
}

/// The dilation of a convolution with that of its input; `plain` says that it has no padding and no strides.
pub fn dilation(network: &Network<'_>, node: &Node<'_>, own: [i32; 2], plain: bool) -> Result<[i32; 2]> {
    let blocks = node.optional(0).and_then(|i| network.blocks.get(&i));
    let refuse = || node.error("has padding or strides on a map whose pixels lie in the batch");
    match blocks.map(Vec::as_slice) {
        None => Ok(own),
        Some(&[h, w]) if plain => {
            let times = |a: i32, b: usize| i32::try_from(b).ok().and_then(|b| a.checked_mul(b));
            times(own[0], h).zip(times(own[1], w)).map(|(h, w)| [h, w]).ok_or_else(refuse)
        }
        Some(_) => Err(refuse()),
    }
}

fn positive(node: &Node<'_>, values: &[i64]) -> Result<Vec<usize>> {
    let sizes: Option<Vec<usize>> =
        values.iter().map(|v| usize::try_from(*v).ok().filter(|v| (1..1 << 16).contains(v))).collect();
    sizes.ok_or_else(|| node.error(format!("has the impossible block {values:?}")))
}

/// What is added or cut before and behind, for each axis.
fn pairs(node: &Node<'_>, values: &[i64]) -> Result<Vec<(usize, usize)>> {
    let amount = |v: &i64| usize::try_from(*v).ok().filter(|v| *v < 1 << 16);
    let pairs: Option<Vec<_>> = values.chunks(2).map(|p| amount(p.first()?).zip(amount(p.get(1)?))).collect();
    pairs.ok_or_else(|| node.error(format!("has the impossible padding {values:?}")))
}
