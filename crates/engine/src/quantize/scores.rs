//! The last affine map as integers: scores that are one factor times what they were.

use super::layer::EXACT;
use super::source::affines_of;
use super::{Scores, source_name};
use crate::graph::Graph;
use onebit_core::model::{Node, Params, Tensor};
use onebit_core::ops::{BConv2d, BDense, Op};
use onebit_core::types::DType;

/// The value whose channels are compared: the output, or what the last op takes the largest of.
pub fn scores_value(graph: &Graph) -> usize {
    match graph.producer(graph.output) {
        Some(node) if node.op == Op::Argmax => node.inputs[0],
        _ => graph.output,
    }
}

/// The value below the affine maps that make `value`, and the nodes of these maps, in order.
pub fn below_affines(graph: &Graph, mut value: usize) -> (usize, Vec<usize>) {
    let mut maps = Vec::new();
    while let Some(node) = graph.producer(value).filter(|n| n.op == Op::Affine) {
        maps.push(value - 1);
        value = node.inputs[0];
    }
    maps.reverse();
    (value, maps)
}

/// Makes `accumulator * scale + bias` of the scores one of integers: both are multiplied by one factor, the largest for
/// which every product and sum stays below 2^24. So the floats of the reference hold them exactly, and so does int32.
/// `Ok(None)` where the scores are integers as they are.
///
/// # Errors
/// Says why the scores stay floats.
pub fn make_integers(graph: &mut Graph) -> Result<Option<Scores>, String> {
    let scores = scores_value(graph);
    if graph.ty(scores).dtype != DType::F32 {
        return Ok(None);
    }
    let (base, chain) = below_affines(graph, scores);
    let chain: Vec<Node<'static>> = chain.into_iter().map(|n| graph.nodes[n].clone()).collect();
    let sums = sums(graph, base)
        .filter(|_| !chain.is_empty())
        .ok_or_else(|| format!("{} makes the scores, in floats", source_name(graph, base)))?;
    let maps = affines_of(&chain, sums.len());
    if integers_already(&chain, &maps, &sums) {
        return Ok(None);
    }
    let Some((factor, ints, bound)) = best(&maps, &sums) else {
        return Err("no factor makes integers below 2^24 of its scales and biases".into());
    };
    let largest = largest(&ints, &sums).unwrap_or(0.0) as u32;
    let (scale, bias) = ints.into_iter().map(|(s, b)| (s as f32, b as f32)).unzip();
    let node = &mut graph.nodes[scores - 1];
    node.inputs = vec![base];
    node.params =
        Params { scale: Some(Tensor::f32(scale)), bias: Some(Tensor::f32(bias)), ..Params::default() };
    Ok(Some(Scores { factor, largest, bound }))
}

/// A pair of numbers for each channel.
type Pairs = Vec<(f64, f64)>;

/// Factors that are tried, and the most scores that are computed for it.
const CANDIDATES: u32 = 1 << 12;
const TRIED_SCORES: usize = 1 << 22;

/// The factor that changes scores least, with its integers and the most by which it changes one. The steepest scale becomes
/// an integer exactly, in the best case the largest that is possible; so do all that equal it.
fn best(maps: &[(f64, f64)], sums: &[(f64, f64)]) -> Option<(f64, Pairs, f64)> {
    let steepest = maps.iter().fold(0f64, |m, (s, _)| m.max(s.abs()));
    let at = |m: u32| {
        let factor = f64::from(m) / steepest;
        let ints: Pairs = maps.iter().map(|(s, b)| ((s * factor).round(), (b * factor).round())).collect();
        largest(&ints, sums)?;
        let off = |i: usize| {
            let ((s, b), (is, ib), (low, high)) = (maps[i], ints[i], sums[i]);
            (s - is / factor).abs() * low.abs().max(high.abs()) + (b - ib / factor).abs()
        };
        let bound = (0..maps.len()).map(off).fold(0.0, f64::max);
        Some((factor, ints, bound))
    };
    // Larger factors make larger numbers, but for rounding.
    let most = (0..24).rev().fold(0, |m, bit| if at(m | 1 << bit).is_some() { m | 1 << bit } else { m });
    let candidates = CANDIDATES.min((TRIED_SCORES / maps.len().max(1)) as u32);
    let tried = (most / 2 + 1).max(most.saturating_sub(candidates))..=most;
    tried.rev().filter_map(at).min_by(|a, b| a.2.total_cmp(&b.2))
}

/// Smallest and largest sum of each channel of an integer layer.
fn sums(graph: &Graph, value: usize) -> Option<Pairs> {
    let node = graph.producer(value)?;
    let (Op::BConv2d(BConv2d { output: DType::I32, .. }) | Op::BDense(BDense { output: DType::I32 })) =
        node.op
    else {
        return None;
    };
    let quant = graph.ty(node.inputs[0]).dtype.quant()?;
    let mut range = (f64::from(quant.min()), f64::from(quant.max()));
    if let Op::BConv2d(conv) = node.op
        && conv.window.pad != [0; 4]
    {
        let pad = f64::from(conv.pad_value);
        range = (range.0.min(pad), range.1.max(pad));
    }
    let weight = node.params.weight.as_ref()?;
    let sum = |row: &[i32]| {
        row.iter().fold((0.0, 0.0), |(low, high), w| {
            let (a, b) = (f64::from(*w) * range.0, f64::from(*w) * range.1);
            (low + a.min(b), high + a.max(b))
        })
    };
    Some(weight.to_i32()?.chunks_exact(weight.cols).map(sum).collect())
}

/// The largest number that occurs in `sum * scale + bias`, if floats hold all of them.
fn largest(maps: &[(f64, f64)], sums: &[(f64, f64)]) -> Option<f64> {
    let mut most = 0f64;
    for ((scale, bias), (low, high)) in maps.iter().zip(sums) {
        for sum in [low, high] {
            let product = sum * scale;
            most = [*sum, product, *bias, product + bias].iter().fold(most, |m, v| m.max(v.abs()));
        }
    }
    (most < EXACT).then_some(most)
}

/// Whether the map has integer constants, and floats hold all that it computes.
fn integers_already(chain: &[Node<'static>], maps: &[(f64, f64)], sums: &[(f64, f64)]) -> bool {
    let [node] = chain else { return false };
    let whole = |(_, t): (&str, &Tensor<'_>)| t.to_f32().iter().all(|v| v.fract() == 0.0);
    node.params.each().all(whole) && largest(maps, sums).is_some()
}

/// Whether the op that makes `value` computes integers in floats, exactly.
pub fn is_exact(graph: &Graph, value: usize) -> bool {
    let Some(node) = graph.producer(value) else { return false };
    let whole = |t: &Option<Tensor<'_>>| t.iter().all(|t| t.to_f32().iter().all(|v| v.fract() == 0.0));
    let Params { center, scale, bias, .. } = &node.params;
    matches!(node.op, Op::BConv2d(_) | Op::BDense(_) | Op::Affine)
        && [center, scale, bias].into_iter().all(whole)
}
