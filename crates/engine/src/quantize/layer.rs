//! One float layer with weights becomes an integer one and an affine map.

use super::source::{self, Linear, affines_of};
use super::weights::{self, Rounded};
use super::{Layer, Options};
use crate::error::Result;
use crate::graph::Graph;
use onebit_core::model::{Node, Params, Tensor};
use onebit_core::ops::{BConv2d, BDense, Conv2d, Op, Window};
use onebit_core::types::DType;

/// Integers below this are floats too, and so are their sums and products that stay below it.
pub const EXACT: f64 = (1 << 24) as f64;

/// Adds the integer form of a float convolution or dense layer that reads value `x` of the graph, and what of it was
/// rounded. Behind a layer that makes the scores, `head` has the affine maps between it and the output: they become part
/// of it, and all scores have one scale, so that rounding it changes no order.
///
/// # Errors
/// The inner one says why the layer stays as it is; nothing that the output needs was added then.
pub fn quantize(
    graph: &mut Graph,
    node: &Node<'static>,
    x: usize,
    head: Option<&[Node<'static>]>,
    options: &Options<'_>,
) -> Result<Result<(usize, Layer), String>> {
    let from = match Linear::of(graph, x) {
        Some(from) => from,
        None => match source::round(graph, x, &node.name, options)? {
            Ok(from) => from,
            Err(reason) => return Ok(Err(reason)),
        },
    };
    let Some(matrix) = Matrix::of(graph, node, &from) else {
        return Ok(Err("its weights times what its inputs stand for are beyond floats".into()));
    };
    let (op, pad, pad_error) = match integer_op(graph, node, &from) {
        Some(op) => op,
        None => return Ok(Err("its padding is none of the numbers that its input can be".into())),
    };
    let result = match head {
        Some(chain) => matrix.head(chain, options.weight_bits),
        None => matrix.filters(options.weight_bits),
    };
    let Some(Affine { rounded, scale, bias }) = result else {
        return Ok(Err("its sums do not fit into 24 bits, or its scales into floats".into()));
    };
    let mut value = from.value;
    if let Some((pad, values)) = pad {
        value = match source::padded(graph, &node.name, value, pad, &values) {
            Some(value) => value,
            None => return Ok(Err("its input cannot be padded as integers".into())),
        };
    }
    let bits = rounded.weight.as_bits().map_or(0, |(q, _)| q.bits);
    let input = graph.ty(value).dtype;
    let bound = matrix.bound(&rounded, from.error.max(0.0) + pad_error, head.unwrap_or_default());
    let error = rounded.error;
    let weight = Some(rounded.weight);
    let accumulators = match graph.add(&node.name, op, &[value], Params { weight, ..Params::default() }) {
        Ok(v) => v,
        Err(e) => return Ok(Err(format!("no integer layer computes it: {e}"))),
    };
    let constants =
        Params { scale: Some(Tensor::f32(scale)), bias: Some(Tensor::f32(bias)), ..Params::default() };
    let name = format!("{}_scale", node.name);
    let made = graph.add(name, Op::Affine, &[accumulators], constants)?;
    let layer = Layer { name: node.name.clone(), op: op.name(), bits, input, rounding: error, bound };
    Ok(Ok((made, layer)))
}

/// What computes the sums of integers; the padding that comes before it; by how much a padded number is off.
type Integers = (Op, Option<([usize; 4], Vec<i32>)>, f64);

fn integer_op(graph: &Graph, node: &Node<'static>, from: &Linear) -> Option<Integers> {
    let Op::Conv2d(Conv2d { mut window, groups, pad_value }) = node.op else {
        return Some((Op::BDense(BDense { output: DType::I32 }), None, 0.0));
    };
    let conv =
        |window: Window, pad_value| Op::BConv2d(BConv2d { window, groups, pad_value, output: DType::I32 });
    if window.pad == [0; 4] {
        return Some((conv(window, 0), None, 0.0));
    }
    let (values, error) = from.nearest(graph, f64::from(pad_value))?;
    match values.iter().all(|v| *v == values[0]) && (-1..=1).contains(&values[0]) {
        true => Some((conv(window, values[0]), None, error)),
        false => {
            let pad = std::mem::take(&mut window.pad);
            Some((conv(window, 0), Some((pad, values)), error))
        }
    }
}

/// The weights of a layer as numbers that are multiplied with integers.
struct Matrix {
    rows: usize,
    cols: usize,
    /// As the layer has them, times what an integer of their channel stands for.
    values: Vec<f64>,
    /// Bits as they are, and their scale.
    kept: Option<(Tensor<'static>, f64)>,
    /// Added to each sum.
    bias: Vec<f64>,
    /// For each row the sum of the absolute weights of the layer.
    sums: Vec<f64>,
    /// Smallest and largest integer of the input, padding included.
    range: (f64, f64),
}

/// Weights of integers and what their sums become.
struct Affine {
    rounded: Rounded,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl Matrix {
    fn of(graph: &Graph, node: &Node<'static>, from: &Linear) -> Option<Matrix> {
        let weight = node.params.weight.as_ref()?;
        let (rows, cols) = (weight.rows, weight.cols);
        let groups = match node.op {
            Op::Conv2d(conv) => conv.groups,
            _ => 1,
        };
        let channels = from.scale.len();
        let of_group = channels / groups.max(1);
        // Channel that a column of a row reads.
        let channel = |n: usize, i: usize| n / (rows / groups).max(1) * of_group + i % of_group.max(1);
        let w = weight.to_f32();
        let bias = node.params.bias.as_ref().and_then(|b| b.as_f32());
        let mut values = Vec::with_capacity(w.len());
        let (mut biases, mut sums) = (Vec::new(), Vec::new());
        for (n, row) in w.chunks_exact(cols).enumerate() {
            let mut sum = bias.map_or(0.0, |b| f64::from(b[n]));
            for (i, w) in row.iter().enumerate() {
                let c = channel(n, i);
                values.push(f64::from(*w) * from.scale[c]);
                sum += f64::from(*w) * from.offset[c];
            }
            biases.push(sum);
            sums.push(row.iter().map(|w| f64::from(w.abs())).sum());
        }
        if values.iter().chain(&biases).any(|v| !(*v as f32).is_finite()) {
            return None;
        }
        let quant = graph.ty(from.value).dtype.quant()?;
        let one_scale = from.scale.iter().all(|s| *s == from.scale[0]) && from.scale[0] != 0.0;
        let kept = (one_scale && weight.as_bits().is_some()).then(|| (weight.clone(), from.scale[0]));
        // Padding reads -1, 0 or 1.
        let range = (f64::from(quant.min().min(-1)), f64::from(quant.max().max(1)));
        Some(Matrix { rows, cols, values, kept, bias: biases, sums, range })
    }

    /// Each filter with a step of its own.
    fn filters(&self, bits: u8) -> Option<Affine> {
        let rounded = self.kept().unwrap_or_else(|| weights::round(self.rows, &self.values, bits, false));
        affine(rounded, &self.bias)
    }

    fn kept(&self) -> Option<Rounded> {
        let (weight, step) = self.kept.clone()?;
        Some(Rounded { steps: vec![step; self.rows], error: 0.0, row_errors: vec![0.0; self.rows], weight })
    }

    /// All filters with one step, times the affine maps behind them, in as many bits as let floats hold every score.
    fn head(&self, chain: &[Node<'static>], bits: u8) -> Option<Affine> {
        let (factors, offsets): (Vec<f64>, Vec<f64>) = affines_of(chain, self.rows).into_iter().unzip();
        let bias: Vec<f64> = (0..self.rows).map(|n| self.bias[n] * factors[n] + offsets[n]).collect();
        if let Some(mut rounded) = self.kept() {
            for (step, factor) in rounded.steps.iter_mut().zip(&factors) {
                *step *= factor;
            }
            return affine(rounded, &bias);
        }
        let values: Vec<f64> =
            self.values.iter().enumerate().map(|(i, w)| w * factors[i / self.cols]).collect();
        (2..=bits).rev().find_map(|bits| {
            let rounded = weights::round(self.rows, &values, bits, true);
            let most = self.range.0.abs().max(self.range.1);
            let ints = rounded.weight.to_i32()?;
            let fits = ints.chunks_exact(self.cols).zip(&bias).all(|(row, b)| {
                let sum: f64 = row.iter().map(|q| f64::from(q.abs())).sum();
                sum * most + (b / rounded.steps[0]).abs() + 1.0 < EXACT
            });
            fits.then(|| affine(rounded, &bias)).flatten()
        })
    }

    /// How far a sum can be from that of floats: rounded weights times the largest integers, and weights times what
    /// numbers of the input are off.
    fn bound(&self, rounded: &Rounded, input_error: f64, chain: &[Node<'static>]) -> f64 {
        let most = self.range.0.abs().max(self.range.1);
        let maps = affines_of(chain, self.rows);
        let one = |n: usize| rounded.row_errors[n] * most + self.sums[n] * input_error * maps[n].0.abs();
        (0..self.rows).map(one).fold(0.0, f64::max)
    }
}

/// `None` where a constant is beyond floats.
fn affine(rounded: Rounded, bias: &[f64]) -> Option<Affine> {
    let scale: Vec<f32> = rounded.steps.iter().map(|s| *s as f32).collect();
    let bias: Vec<f32> = bias.iter().map(|b| *b as f32).collect();
    scale.iter().chain(&bias).all(|v| v.is_finite()).then_some(Affine { rounded, scale, bias })
}
