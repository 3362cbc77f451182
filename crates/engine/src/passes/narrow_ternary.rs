//! Makes bits of a sign with the values -1, 0 and +1 where 0 does not occur, which halves the work of what reads it.
//!
//! `torch.sign(0)` is 0, so a network that was trained with it has ternary signs. There is no 0 among
//! * integers, when no accumulator that a layer of bits can put out lies between both thresholds (those of `K` products of
//!   -1 and +1 have the parity of `K` and are at most `K`): this is exact;
//! * floats, when 0 is put out for a very narrow range of numbers that need more than half of their significand: they are
//!   the root of some BatchNorm, and met by accident only;
//! * sums of floats, one side of which is a scaled accumulator plus a bias that needs more than half of its significand: the
//!   other side would have to be its negative to the last bit.
//!
//! The latter two are noted; a 0 counts as +1 then.

use crate::error::Result;
use crate::graph::Graph;
use onebit_core::model::{Node, Tensor};
use onebit_core::ops::{Op, PadMode, Threshold};
use onebit_core::{DType, bits, types::Quant};

/// Widest range of floats that are met by accident only, as a part of the largest threshold of a layer.
const NARROW: f32 = 1.0 / 4_194_304.0;

/// See the module.
pub fn run(graph: &mut Graph) -> Result<usize> {
    let (mut done, mut accidents) = (0, Vec::new());
    loop {
        let mut found = 0;
        for i in 0..graph.nodes.len() {
            if graph.nodes[i].op != Op::Threshold(Threshold { output: DType::Bits(Quant::TERNARY) })
                || !readers_take_bits(graph, i + 1)
            {
                continue;
            }
            let Some(how) = zero(graph, i) else { continue };
            if how == Zero::Accident {
                accidents.push(graph.nodes[i].name.clone());
            }
            let node = &mut graph.nodes[i];
            node.op = Op::Threshold(Threshold { output: DType::BIT });
            node.params.thresholds = node.params.thresholds.take().map(|t| first_steps(&t));
            found += 1;
        }
        if found == 0 {
            break;
        }
        done += found;
        // A layer that reads bits now may be followed by another sign without a 0.
        graph.normalize()?;
    }
    if let Some((first, rest)) = accidents.split_first() {
        let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
        graph.notes.push(format!(
            "The sign in '{first}'{more} is 0 only where floats cancel to the last bit; 0 is taken as +1 there, \
             which makes it one bit."
        ));
    }
    Ok(done)
}

/// How sure it is that a threshold never puts out 0.
#[derive(Clone, Copy, PartialEq)]
enum Zero {
    Never,
    Accident,
}

/// Whether the threshold that is node `i` puts out 0; `None` when it may.
fn zero(graph: &Graph, i: usize) -> Option<Zero> {
    let (node, source) = (&graph.nodes[i], graph.nodes[i].inputs[0]);
    let thresholds = node.params.thresholds.as_ref()?;
    let flips = node.params.flips.as_ref().and_then(Tensor::as_bits);
    // The inputs that become 0: from the first number up to the second, without it.
    let between = |c: usize| match flips.is_some_and(|(_, words)| bits::get(words, c)) {
        true => (2 * c + 1, 2 * c),
        false => (2 * c, 2 * c + 1),
    };
    let mut all = Zero::Never;
    if let Some(t) = thresholds.as_f32() {
        // Thresholds of channels that are constant are the largest of floats.
        let largest = t.iter().map(|t| t.abs()).filter(|t| *t < 1e37).fold(0.0, f32::max);
        for c in 0..thresholds.rows {
            let (from, to) = (t[between(c).0], t[between(c).1]);
            if from >= to {
                continue;
            }
            let only_zero = from == 0.0 && to == f32::from_bits(1);
            if !(rare(from, to, largest) || only_zero && rarely_cancels(graph, source, c)) {
                return None;
            }
            all = Zero::Accident;
        }
    } else {
        let t = thresholds.as_i32()?;
        let (most, step) = accumulators(graph, source);
        for c in 0..thresholds.rows {
            let (from, to) = (i64::from(t[between(c).0]), i64::from(t[between(c).1]));
            let from = from.max(-most);
            let first = from + (from - most).rem_euclid(step);
            if first < to && first <= most {
                return None;
            }
        }
    }
    Some(all)
}

/// Whether `from..to` is narrow beside `largest`, and all its floats need more than half of their significand.
fn rare(from: f32, to: f32, largest: f32) -> bool {
    let mut floats = std::iter::successors(Some(from), |x| Some(x.next_up())).take_while(|x| *x < to);
    // The first that does not need it ends the search: of 4096 in a row there is one.
    to - from <= largest * NARROW && floats.all(needs_significand)
}

fn needs_significand(x: f32) -> bool {
    const STORED: u32 = f32::MANTISSA_DIGITS - 1;
    x.is_normal() && (x.to_bits() | 1 << STORED).trailing_zeros() < STORED / 2 + 1
}

/// Whether channel `c` of `value` is a sum that is 0 by accident only.
fn rarely_cancels(graph: &Graph, value: usize, c: usize) -> bool {
    let Some(Node { op: Op::Add, inputs, .. }) = graph.producer(value) else { return false };
    let constant = |t: &Option<Tensor<'_>>, none: f32| {
        t.as_ref().and_then(Tensor::as_f32).map_or(none, |t| t.get(c).copied().unwrap_or(0.0))
    };
    inputs.iter().filter_map(|v| graph.producer(*v).map(|n| (v, n))).any(|(v, n)| {
        // A bias beside a value that is repeated is not the channel's own.
        let scaled = matches!(n.op, Op::Affine | Op::BConv2d(_) | Op::BDense(_));
        scaled
            && graph.ty(*v) == graph.ty(value)
            && constant(&n.params.scale, 1.0) != 0.0
            && needs_significand(constant(&n.params.bias, 0.0))
    })
}

/// The largest accumulator and the distance of accumulators, which count from the largest.
fn accumulators(graph: &Graph, value: usize) -> (i64, i64) {
    let any = (onebit_core::model::MAX_ACCUMULATOR, 1);
    let Some(node) = graph.producer(value) else { return any };
    let leaves_out = match node.op {
        Op::BConv2d(conv) => conv.window.pad != [0; 4] && conv.pad_value == 0,
        Op::BDense(_) => false,
        _ => return any,
    };
    match &node.params.weight {
        Some(w) if w.dtype() == DType::BIT && graph.ty(node.inputs[0]).dtype == DType::BIT => {
            (w.cols as i64, if leaves_out { 1 } else { 2 })
        }
        _ => any,
    }
}

/// Whether whatever reads `value` takes one bit as well as a ternary number.
fn readers_take_bits(graph: &Graph, value: usize) -> bool {
    let mut values = vec![value];
    while let Some(v) = values.pop() {
        if graph.output == v {
            return false;
        }
        for (i, node) in graph.nodes.iter().enumerate().filter(|(_, n)| n.inputs.contains(&v)) {
            match node.op {
                Op::BConv2d(_) | Op::BDense(_) | Op::Decode => {}
                Op::Pad(pad) if pad.mode == PadMode::Constant && pad.value.abs() != 1.0 => return false,
                Op::BPool2d(_)
                | Op::Reshape(_)
                | Op::Transpose(_)
                | Op::Slice(_)
                | Op::DepthToSpace(_)
                | Op::Pad(_) => values.push(i + 1),
                _ => return false,
            }
        }
    }
    true
}

/// Of two thresholds for each channel the first.
fn first_steps(t: &Tensor<'_>) -> Tensor<'static> {
    match (t.as_f32(), t.as_i32()) {
        (Some(v), _) => Tensor::f32_matrix(t.rows, 1, v.iter().step_by(2).copied().collect()),
        (_, v) => {
            let v = v.unwrap_or_default().iter().step_by(2).copied().collect();
            Tensor::i32_matrix(t.rows, 1, v)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onebit_core::cases::Rng;
    use onebit_core::model::Params;
    use onebit_core::ops::{BConv2d, Window};
    use onebit_core::{Shape, ValueType};

    /// A convolution of 3 x 3 bits of 2 channels, a ternary threshold, and a convolution that reads it.
    fn graph(pad: usize, pad_value: i32, thresholds: Tensor<'static>, flip: bool) -> Graph {
        let mut rng = Rng::new(1);
        let mut g = Graph::new(ValueType::new(Shape::new(5, 5, 2), DType::BIT), Default::default());
        let mut conv = |g: &mut Graph, v: usize, window: Window| {
            let weight = Some(rng.weights(2, window.taps() * 2, Quant::BIT));
            let op = BConv2d { window, groups: 1, pad_value, output: DType::I32 };
            g.add("conv", Op::BConv2d(op), &[v], Params { weight, ..Params::default() }).unwrap()
        };
        let acc = conv(&mut g, Graph::INPUT, Window::square(3, 1, pad));
        let op = Op::Threshold(Threshold { output: DType::Bits(Quant::TERNARY) });
        let flips = flip.then(|| Tensor::flags(&[true, true]));
        let params = Params { thresholds: Some(thresholds), flips, ..Params::default() };
        let sign = g.add("sign", op, &[acc], params).unwrap();
        conv(&mut g, sign, Window::square(1, 1, 0));
        g
    }

    fn ints(row: [i32; 2]) -> Tensor<'static> {
        Tensor::i32_matrix(2, 2, row.repeat(2))
    }

    #[test]
    fn accumulators_of_the_other_parity_have_no_zero() {
        // 18 products: even accumulators. Between 3 and 4 there is only 3.
        assert_eq!(run(&mut graph(0, 0, ints([3, 4]), false)).unwrap(), 1);
        assert_eq!(run(&mut graph(0, 0, ints([4, 3]), true)).unwrap(), 1);
        assert_eq!(run(&mut graph(0, 0, ints([4, 5]), false)).unwrap(), 0);
        assert_eq!(run(&mut graph(0, 0, ints([3, 5]), false)).unwrap(), 0);
        assert_eq!(run(&mut graph(0, 0, ints([18, 19]), false)).unwrap(), 0);
        assert_eq!(run(&mut graph(0, 0, ints([19, i32::MAX]), false)).unwrap(), 1);
    }

    #[test]
    fn padding_that_leaves_taps_out_has_both_parities() {
        assert_eq!(run(&mut graph(1, 0, ints([3, 4]), false)).unwrap(), 0);
        assert_eq!(run(&mut graph(1, 1, ints([3, 4]), false)).unwrap(), 1);
    }

    #[test]
    fn floats_are_rare_when_they_need_their_significand() {
        let x = 0.123_456_7_f32;
        assert!(rare(x, x.next_up(), x) && rare(x, x.next_up().next_up(), x));
        assert!(!rare(0.0, f32::from_bits(1), 1.0) && !rare(0.5, 0.5f32.next_up(), 1.0));
        assert!(!rare(x, x * 1.000_001, x) && rare(x, x * 1.000_001, 8.0 * x));
        assert!(!needs_significand(1.0 + 1.0 / 1024.0) && needs_significand(1.0 + 1.0 / 4096.0));
    }

    #[test]
    fn rare_zeros_are_noted() {
        let mut g = Graph::new(ValueType::new(Shape::vector(2), DType::F32), Default::default());
        let mut rng = Rng::new(1);
        let (a, b) = (0.123_456_7_f32, -0.765_432_1_f32);
        let thresholds = Tensor::f32_matrix(2, 2, vec![a, a.next_up(), b, b.next_up()]);
        let op = Op::Threshold(Threshold { output: DType::Bits(Quant::TERNARY) });
        let params = Params { thresholds: Some(thresholds), ..Params::default() };
        let sign = g.add("sign", op, &[Graph::INPUT], params).unwrap();
        let weight = Some(rng.weights(3, 2, Quant::BIT));
        let op = Op::BDense(onebit_core::ops::BDense { output: DType::I32 });
        g.add("dense", op, &[sign], Params { weight, ..Params::default() }).unwrap();
        assert_eq!((run(&mut g).unwrap(), g.notes.len()), (1, 1));
        assert_eq!(g.ty(sign).dtype, DType::BIT);
    }
}
