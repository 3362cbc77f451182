//! Folds BatchNorm, biases and activations in front of a sign or quantiser into one threshold per channel.
//!
//! Between a layer and its sign there are only monotone functions of one number: affine maps, ReLU, tanh,
//! clip and so on. So for each channel and each step between two output levels there is one number where
//! the output changes, and a rising or falling direction. That number is found by bisection over the
//! values of the format (all integers, or all floats), *evaluating the very functions of the reference*:
//! the threshold is right to the last bit, for gamma of either sign and for gamma = 0, without algebra.

use crate::error::{Error, Result};
use crate::graph::Graph;
use onebit_core::model::{Node, Params, Tensor};
use onebit_core::ops::transform::{affine, level};
use onebit_core::ops::{Op, Quantize, Sign, Threshold, prelu};
use onebit_core::{DType, bits};

/// See the module.
pub fn run(graph: &mut Graph) -> Result<usize> {
    let mut done = 0;
    for i in 0..graph.nodes.len() {
        let Some(root) = Root::of(&graph.nodes[i]) else { continue };
        let mut chain = Vec::new();
        let mut base = graph.nodes[i].inputs[0];
        while let Some(link) = graph.producer(base).filter(|n| is_monotone(graph, n)) {
            chain.push(link.clone());
            base = link.inputs[0];
        }
        chain.reverse();
        // Levels that are looked up need no thresholds: rounding is cheaper.
        let looked_up = graph.producer(base).is_some_and(|node| node.op == Op::Lookup);
        let as_it_is = match graph.nodes[i].op {
            Op::Threshold(_) => true,
            Op::Quantize(_) => looked_up,
            _ => false,
        };
        if chain.is_empty() && as_it_is {
            continue;
        }
        let base_type = graph.ty(base);
        if matches!(base_type.dtype, DType::Bits(_)) {
            continue;
        }
        let channels = base_type.shape.c;
        let steps = root.steps();
        let mut flips = vec![false; channels];
        let mut thresholds = Vec::with_capacity(channels * steps);
        for (c, flip) in flips.iter_mut().enumerate() {
            let reaches = |step: usize, x: f32| root.reaches(c, step, follow(&chain, c, x));
            let row: Vec<Edge> = (0..steps)
                .map(|step| match base_type.dtype {
                    DType::F32 => float_edge(|x| reaches(step, x)),
                    // Signs of i32 without a chain compare integers; elsewhere they are converted first.
                    _ => integer_edge(|x| reaches(step, x as f32)),
                })
                .collect();
            *flip = row.iter().any(|e| matches!(e, Edge::Falls(_)));
            if *flip && row.iter().any(|e| matches!(e, Edge::Rises(_))) {
                return Err(Error::layer(&graph.nodes[i].name, "rises and falls in one channel"));
            }
            thresholds.extend(row.iter().map(|e| e.threshold(*flip)));
        }
        let thresholds = match base_type.dtype {
            DType::F32 => {
                let floats = thresholds.into_iter().map(|t| t.float).collect();
                Tensor::f32_matrix(channels, steps, floats)
            }
            _ => {
                let ints = thresholds.into_iter().map(|t| t.int).collect();
                Tensor::i32_matrix(channels, steps, ints)
            }
        };
        let node = &mut graph.nodes[i];
        node.op = Op::Threshold(Threshold { output: root.output() });
        node.inputs = vec![base];
        node.params = Params {
            thresholds: Some(thresholds),
            flips: flips.contains(&true).then(|| Tensor::flags(&flips)),
            ..Default::default()
        };
        done += 1;
    }
    Ok(done)
}

/// What ends a chain: it says whether a number reaches an output level.
enum Root {
    Sign(Sign),
    Quantize(Quantize),
    Threshold { output: DType, thresholds: Tensor<'static>, flips: Option<Tensor<'static>> },
}

impl Root {
    fn of(node: &Node<'static>) -> Option<Root> {
        match node.op {
            Op::Sign(s) => Some(Root::Sign(s)),
            Op::Quantize(q) if matches!(q.output, DType::Bits(_)) => Some(Root::Quantize(q)),
            Op::Threshold(t) => Some(Root::Threshold {
                output: t.output,
                thresholds: node.params.thresholds.clone()?,
                flips: node.params.flips.clone(),
            }),
            _ => None,
        }
    }
    fn output(&self) -> DType {
        match self {
            Root::Sign(_) => DType::BIT,
            Root::Quantize(q) => q.output,
            Root::Threshold { output, .. } => *output,
        }
    }
    fn steps(&self) -> usize {
        self.output().quant().map_or(0, |q| q.levels() - 1)
    }
    fn reaches(&self, c: usize, step: usize, x: f32) -> bool {
        match self {
            Root::Sign(s) => s.of(x),
            Root::Quantize(q) => {
                let levels = q.output.quant().expect("bits are quantised");
                q.apply(x) >= levels.value_of_level(step + 1)
            }
            Root::Threshold { thresholds, flips, .. } => {
                let flip = flips.as_ref().and_then(Tensor::as_bits).is_some_and(|(_, w)| bits::get(w, c));
                let at = c * thresholds.cols + step;
                match (thresholds.as_f32(), thresholds.as_i32()) {
                    (Some(t), _) => level(x, &t[at..=at], flip) == 1,
                    // Integer thresholds end a chain only where there is no chain.
                    (_, t) => level(x as i32, &t.expect("f32 or i32")[at..=at], flip) == 1,
                }
            }
        }
    }
}

/// Whether a node never falls, or never rises, as its input rises, channel for channel.
pub(crate) fn is_monotone(graph: &Graph, node: &Node<'_>) -> bool {
    match node.op {
        Op::Affine => true,
        // Bits are no numbers to compare.
        Op::Decode => !matches!(graph.ty(node.inputs[0]).dtype, DType::Bits(_)),
        Op::Activation(a) => a.is_monotone(),
        Op::Prelu => {
            node.params.scale.as_ref().and_then(|t| t.as_f32()).is_some_and(|s| s.iter().all(|s| *s >= 0.0))
        }
        _ => false,
    }
}

/// Value of a chain of monotone functions for channel `c`.
fn follow(chain: &[Node<'static>], c: usize, x: f32) -> f32 {
    chain.iter().fold(x, |x, node| {
        let constant = |t: &Option<Tensor<'static>>, default| {
            t.as_ref().and_then(|t| t.as_f32()).map_or(default, |t| t[c])
        };
        let p = &node.params;
        match node.op {
            Op::Affine => {
                affine(x, constant(&p.center, 0.0), constant(&p.scale, 1.0), constant(&p.bias, 0.0))
            }
            Op::Activation(a) => a.apply(x),
            Op::Decode => x,
            Op::Prelu => prelu::apply(x, constant(&p.scale, 1.0)),
            _ => unreachable!("only monotone ops are in a chain"),
        }
    })
}

/// Where and how a monotone predicate changes.
#[derive(Clone, Copy)]
enum Edge<T = Number> {
    Always,
    Never,
    /// True from here on.
    Rises(T),
    /// False from here on.
    Falls(T),
}

/// A threshold in both formats; the one that the base value has is meant.
#[derive(Clone, Copy)]
struct Number {
    int: i32,
    float: f32,
}

impl Edge {
    /// The constant `t` for which `(x >= t) != flip` is this predicate.
    fn threshold(self, flip: bool) -> Number {
        match self {
            Edge::Rises(t) | Edge::Falls(t) => t,
            Edge::Always | Edge::Never if matches!(self, Edge::Always) == flip => {
                Number { int: i32::MAX, float: f32::MAX }
            }
            Edge::Always | Edge::Never => Number { int: i32::MIN, float: f32::MIN },
        }
    }
}

/// Smallest key in `lowest..=highest` at which the predicate differs from its value at `lowest`.
fn bisect(lowest: i64, highest: i64, reaches: impl Fn(i64) -> bool) -> Edge<i64> {
    let (first, last) = (reaches(lowest), reaches(highest));
    if first == last {
        return if first { Edge::Always } else { Edge::Never };
    }
    let (mut same, mut changed) = (lowest, highest);
    while changed - same > 1 {
        let middle = same + (changed - same) / 2;
        if reaches(middle) == first { same = middle } else { changed = middle }
    }
    if first { Edge::Falls(changed) } else { Edge::Rises(changed) }
}

fn integer_edge(reaches: impl Fn(i32) -> bool) -> Edge {
    let bound = onebit_core::model::MAX_ACCUMULATOR;
    let number = |key: i64| Number { int: key as i32, float: key as f32 };
    bisect(-bound, bound, |key| reaches(key as i32)).map(number)
}

/// The smallest float at which a predicate that never becomes false again holds: the lowest float if it always does, the
/// highest if it never does.
pub(crate) fn rises_at(reaches: impl Fn(f32) -> bool) -> f32 {
    match float_edge(reaches) {
        Edge::Rises(t) | Edge::Falls(t) => t.float,
        Edge::Always => f32::MIN,
        Edge::Never => f32::MAX,
    }
}

fn float_edge(reaches: impl Fn(f32) -> bool) -> Edge {
    // Finite floats in order, as integers: the sign-magnitude bits made two's complement.
    let value =
        |key: i64| f32::from_bits(if key < 0 { key.unsigned_abs() as u32 | 1 << 31 } else { key as u32 });
    let largest = i64::from(1e38f32.to_bits());
    bisect(-largest, largest, |key| reaches(value(key))).map(|key| Number { int: 0, float: value(key) })
}

impl Edge<i64> {
    fn map(self, f: impl Fn(i64) -> Number) -> Edge {
        match self {
            Edge::Always => Edge::Always,
            Edge::Never => Edge::Never,
            Edge::Rises(t) => Edge::Rises(f(t)),
            Edge::Falls(t) => Edge::Falls(f(t)),
        }
    }
}
