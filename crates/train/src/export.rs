//! Makes the engine's graph of a trained network: the definition of what the network computes in evaluation.
//!
//! The graph is plain, as an importer's: passes fuse it. Its ops are those of the engine's reference, in f32, so that
//! training can evaluate with the same numbers to the last bit:
//!
//! | node | ops |
//! |---|---|
//! | linear, quantised inputs and weights | integer convolution; where a scale is not 1 or there is a bias, `accumulator * scale + bias` with `scale` = input's * filter's |
//! | linear, otherwise | float convolution of decoded inputs and [`real_weights`], bias added last |
//! | norm | `(x - mean) * scale + offset`, `scale = gamma / sqrt(variance + eps)` in f64, rounded once |
//! | sign, rsign | `x >= 0`, `(x - a) >= 0` |
//! | dorefa, pact with up to 8 bits | `round(x * n)`, `round(x * (n / a))`, clamped to 0..=n; their scales are `1 / n`, `a / n` |
//! | dorefa, pact with more bits | the same with floats, times the scale |
//! | prelu, rprelu | `x >= 0 ? x : a x`, and that of `x - b`, plus `c` |
//! | max pool | of integers where inputs are quantised |
//! | average pool, add, concat | of floats; bits are concatenated as they are |
//!
//! Decoding is `integer * scale`. Padding of a float convolution reads 0, or `pad_value` times the scale where its inputs
//! are quantised.

use crate::layer::{Act, Norm};
use crate::network::{Linear, Network, Node, NodeOp};
use crate::recipe::Recipe;
use crate::weights::{levels, quantize_weights, real_weights};
use onebit::core::model::{Params, Tensor};
use onebit::core::ops::{
    Activation, BConv2d, BDense, BPool2d, Conv2d, Op, Pool2d, PoolKind, Quantize, Rounding, Sign, Zero,
};
use onebit::core::types::{DType, Encoding, Quant, ValueType};
use onebit::error::{Error, Result};
use onebit::import::build::BatchNorm;
use onebit::{Graph, Meta};

/// The numbers of a trained network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// One for each of [`Network::params`], in its shape.
    pub params: Vec<Vec<f32>>,
    /// For each node that is a BatchNorm, running mean and variance of the channels; else `None`.
    pub statistics: Vec<Option<(Vec<f32>, Vec<f32>)>>,
}

/// The text on one line, as model files hold them.
pub(crate) fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the model file says of a network that a recipe describes; classes, accuracy and the training are the caller's.
pub fn meta(recipe: &Recipe) -> Meta {
    let (name, source) = (line(&recipe.name), line(&format!("onebit train: {}", recipe.about)));
    Meta { name, source, input: recipe.network.preprocessing(), ..Meta::default() }
}

/// The engine's graph of a network, not yet optimised.
///
/// # Errors
/// Names the parameter or layer when numbers are missing, not finite, or do not fit.
pub fn lower(network: &Network, values: &Values, meta: Meta) -> Result<Graph> {
    let mut lowerer = lower_nodes(network, values, meta)?;
    // Accumulators may be the output; levels have to be scaled.
    lowerer.graph.output = lowerer.numbers("output", network.nodes.len())?;
    Ok(lowerer.graph)
}

fn lower_nodes<'a>(network: &'a Network, values: &'a Values, meta: Meta) -> Result<Lowerer<'a>> {
    check(network, values)?;
    let dtype = if network.input_quant.is_some() { DType::U8 } else { DType::F32 };
    let graph = Graph::new(ValueType::new(network.input, dtype), meta);
    let made = vec![Made { value: Graph::INPUT, scale: 1.0 }];
    let mut lowerer = Lowerer { network, values, graph, made };
    for (i, node) in network.nodes.iter().enumerate() {
        let made = lowerer.node(i, node)?;
        lowerer.made.push(made);
    }
    Ok(lowerer)
}

fn check(network: &Network, values: &Values) -> Result<()> {
    if values.params.len() != network.params.len() || values.statistics.len() != network.nodes.len() {
        return Err(Error::Model("the trained numbers are those of another network".into()));
    }
    for (param, v) in network.params.iter().zip(&values.params) {
        if v.len() != param.shape.iter().product::<usize>() {
            let text = format!("has {} numbers for the shape {:?}", v.len(), param.shape);
            return Err(Error::layer(&param.name, text));
        }
        if v.iter().any(|x| !x.is_finite()) {
            return Err(Error::layer(
                &param.name,
                "has a number that is infinite or none: the training diverged, try a lower learning rate",
            ));
        }
    }
    Ok(())
}

/// A value of the network in the graph: numbers, or levels that are multiplied by the scale.
#[derive(Clone, Copy)]
struct Made {
    value: usize,
    scale: f32,
}

struct Lowerer<'a> {
    network: &'a Network,
    values: &'a Values,
    graph: Graph,
    made: Vec<Made>,
}

impl Lowerer<'_> {
    fn node(&mut self, index: usize, node: &Node) -> Result<Made> {
        let (name, x) = (&node.name, node.inputs[0]);
        let params = &self.values.params[node.params.clone()];
        let value = match &node.op {
            NodeOp::Linear(linear) => self.linear(node, linear, params)?,
            NodeOp::Norm(norm) => {
                let statistics = self.values.statistics[index].as_ref();
                let constants = batch_norm(node, norm, params, statistics)?;
                let x = self.numbers(name, x)?;
                self.graph.add(name, Op::Affine, &[x], constants)?
            }
            NodeOp::Act(act) => return self.act(node, *act, params),
            NodeOp::Pool(pool) => return self.pool(node, pool),
            NodeOp::Shift => {
                let x = self.numbers(name, x)?;
                self.add_bias(name, x, &params[0])?
            }
            NodeOp::Dropout(_) if node.quant.is_some() => return Ok(self.made[x]),
            NodeOp::Dropout(_) => self.numbers(name, x)?,
            NodeOp::Add => {
                let inputs = [self.floats(name, x)?, self.floats(name, node.inputs[1])?];
                self.graph.add(name, Op::Add, &inputs, Params::default())?
            }
            NodeOp::Concat => {
                let mut inputs = Vec::new();
                for &v in &node.inputs {
                    let bits = node.quant.is_some();
                    inputs.push(if bits { self.made[v].value } else { self.floats(name, v)? });
                }
                self.graph.add(name, Op::Concat, &inputs, Params::default())?
            }
        };
        Ok(Made { value, scale: 1.0 })
    }

    fn linear(&mut self, node: &Node, linear: &Linear, params: &[Vec<f32>]) -> Result<usize> {
        let (name, x, rows) = (&node.name, node.inputs[0], node.shape.c);
        let (latent, bias) = match (&linear.fixed, params) {
            (Some(_), bias) => (None, bias.first()),
            (None, [latent, bias @ ..]) => (Some(latent), bias.first()),
            (None, []) => return Err(Error::layer(name, "has no weights")),
        };
        let bias = || bias.map(|b| Tensor::f32(b.clone()));
        let integers = latent.and_then(|latent| {
            Some((linear.weights.quant()?, quantize_weights(linear.weights, latent, rows)?))
        });
        let (Some(_), Some((quant, (ints, scale)))) = (self.network.quant(x), integers) else {
            let weights = match (latent, &linear.fixed) {
                (Some(latent), _) => real_weights(linear.weights, latent, rows),
                (None, kernel) => {
                    kernel.iter().flatten().copied().cycle().take(rows * linear.window.taps()).collect()
                }
            };
            let pad = self.network.quant(x).map_or(0.0, |_| f32::from(linear.pad_value) * self.made[x].scale);
            let conv = Conv2d { window: linear.window, groups: linear.groups, pad_value: pad };
            let op = if linear.dense { Op::Dense } else { Op::Conv2d(conv) };
            let weight = Some(Tensor::f32_matrix(rows, weights.len() / rows, weights));
            let x = self.floats(name, x)?;
            return self.graph.add(name, op, &[x], Params { weight, bias: bias(), ..Params::default() });
        };
        let cols = ints.len() / rows;
        let weight = Some(Tensor::bits(rows, cols, quant, |r, c| ints[r * cols + c]));
        let op = if linear.dense {
            Op::BDense(BDense { output: DType::I32 })
        } else {
            let pad_value = i32::from(linear.pad_value);
            Op::BConv2d(BConv2d {
                window: linear.window,
                groups: linear.groups,
                pad_value,
                output: DType::I32,
            })
        };
        let input = self.made[x];
        let sum = self.graph.add(name, op, &[input.value], Params { weight, ..Params::default() })?;
        let scale: Vec<f32> = scale.iter().map(|s| input.scale * s).collect();
        let scaled = scale.iter().any(|s| *s != 1.0);
        if !scaled && !linear.bias {
            return Ok(sum);
        }
        let scale = scaled.then(|| Tensor::f32(scale));
        let constants = Params { scale, bias: bias(), ..Params::default() };
        self.graph.add(format!("{name}_scale"), Op::Affine, &[sum], constants)
    }

    fn act(&mut self, node: &Node, act: Act, params: &[Vec<f32>]) -> Result<Made> {
        let (name, x) = (&node.name, node.inputs[0]);
        let value = match act {
            Act::Default => return Err(Error::layer(name, "is not expanded")),
            Act::Sign(_) | Act::RSign(_) => {
                let mut x = self.numbers(name, x)?;
                if let [a] = params {
                    let constants = Params { center: Some(Tensor::f32(a.clone())), ..Params::default() };
                    x = self.graph.add(format!("{name}_shift"), Op::Affine, &[x], constants)?;
                }
                self.plain(name, Op::Sign(Sign { zero: Zero::Positive }), x)?
            }
            Act::Dorefa(bits) => return self.quantize(node, bits, 1.0),
            Act::Pact(bits) => return self.quantize(node, bits, params[0][0]),
            Act::Relu => self.function(name, x, Activation::Relu)?,
            Act::Tanh => self.function(name, x, Activation::Tanh)?,
            Act::HardTanh => self.function(name, x, Activation::Clip { low: -1.0, high: 1.0 })?,
            Act::Prelu => {
                let x = self.floats(name, x)?;
                self.prelu(name, x, &params[0])?
            }
            Act::RPrelu => {
                let x = self.numbers(name, x)?;
                let center = Some(Tensor::f32(params[1].clone()));
                let constants = Params { center, ..Params::default() };
                let x = self.graph.add(format!("{name}_shift"), Op::Affine, &[x], constants)?;
                let x = self.prelu(name, x, &params[0])?;
                self.add_bias(&format!("{name}_offset"), x, &params[2])?
            }
        };
        Ok(Made { value, scale: 1.0 })
    }

    /// Levels `round(clip(x, 0, range) n / range)`.
    fn quantize(&mut self, node: &Node, bits: u8, range: f32) -> Result<Made> {
        let (name, x) = (&node.name, node.inputs[0]);
        let n = levels(bits);
        let (scale, factor) = (range / n, n / range);
        if !(range > 0.0 && factor.is_finite() && scale > 0.0) {
            return Err(Error::layer(
                name,
                format!(
                    "cannot have {range} as its largest value: the training diverged, try a lower learning rate"
                ),
            ));
        }
        if let Some(Quant { bits, .. }) = node.quant {
            let x = self.numbers(name, x)?;
            let quantize = Quantize {
                scale: factor,
                offset: 0.0,
                rounding: Rounding::HalfEven,
                output: DType::Bits(Quant::new(bits, Encoding::Unsigned)),
                lowest: 0,
                highest: n as i32,
            };
            return Ok(Made { value: self.plain(name, Op::Quantize(quantize), x)?, scale });
        }
        let x = self.floats(name, x)?;
        let x = self.plain(name, Op::Activation(Activation::Clip { low: 0.0, high: range }), x)?;
        let x = self.scale(&format!("{name}_levels"), x, factor)?;
        let x = self.plain(&format!("{name}_round"), Op::Activation(Activation::Round), x)?;
        Ok(Made { value: self.scale(&format!("{name}_scale"), x, scale)?, scale: 1.0 })
    }

    fn pool(&mut self, node: &Node, pool: &Pool2d) -> Result<Made> {
        let (name, x) = (&node.name, node.inputs[0]);
        let made = self.made[x];
        let (op, value) = match (pool.kind, self.graph.ty(made.value).dtype) {
            (PoolKind::Max, DType::Bits(_)) => (Op::BPool2d(BPool2d { window: pool.window }), made.value),
            (PoolKind::Max, DType::U8) => {
                // Pools take bits or numbers.
                let x = self.floats(name, x)?;
                let x = self.plain(name, Op::Pool2d(*pool), x)?;
                let bytes = Quantize {
                    scale: 1.0,
                    offset: 0.0,
                    rounding: Rounding::HalfEven,
                    output: DType::U8,
                    lowest: 0,
                    highest: 255,
                };
                return Ok(Made {
                    value: self.plain(&format!("{name}_bytes"), Op::Quantize(bytes), x)?,
                    ..made
                });
            }
            (PoolKind::Max, _) => (Op::Pool2d(*pool), self.numbers(name, x)?),
            (PoolKind::Average, _) => (Op::Pool2d(*pool), self.floats(name, x)?),
        };
        let scale = if node.quant.is_some() { made.scale } else { 1.0 };
        Ok(Made { value: self.plain(name, op, value)?, scale })
    }

    /// The value as floats or accumulators.
    fn numbers(&mut self, reader: &str, value: usize) -> Result<usize> {
        let made = self.made[value];
        match self.graph.ty(made.value).dtype {
            DType::F32 | DType::I32 => Ok(made.value),
            _ => self.floats(reader, value),
        }
    }

    /// The value as floats.
    fn floats(&mut self, reader: &str, value: usize) -> Result<usize> {
        let Made { value, scale } = self.made[value];
        if self.graph.ty(value).dtype == DType::F32 {
            return Ok(value);
        }
        let value = self.plain(&format!("{reader}_decode"), Op::Decode, value)?;
        if scale == 1.0 { Ok(value) } else { self.scale(&format!("{reader}_scale"), value, scale) }
    }

    /// All channels times a number.
    fn scale(&mut self, name: &str, x: usize, factor: f32) -> Result<usize> {
        let scale = Some(Tensor::f32(vec![factor; self.graph.ty(x).shape.c]));
        self.graph.add(name, Op::Affine, &[x], Params { scale, ..Params::default() })
    }

    fn add_bias(&mut self, name: &str, x: usize, bias: &[f32]) -> Result<usize> {
        let bias = Some(Tensor::f32(bias.to_vec()));
        self.graph.add(name, Op::Affine, &[x], Params { bias, ..Params::default() })
    }

    fn prelu(&mut self, name: &str, x: usize, slope: &[f32]) -> Result<usize> {
        let scale = Some(Tensor::f32(slope.to_vec()));
        self.graph.add(name, Op::Prelu, &[x], Params { scale, ..Params::default() })
    }

    fn function(&mut self, name: &str, x: usize, function: Activation) -> Result<usize> {
        let x = self.floats(name, x)?;
        self.plain(name, Op::Activation(function), x)
    }

    /// An op without constants.
    fn plain(&mut self, name: &str, op: Op, x: usize) -> Result<usize> {
        self.graph.add(name, op, &[x], Params::default())
    }
}

/// Constants of the affine map that a BatchNorm is.
fn batch_norm(
    node: &Node,
    norm: &Norm,
    params: &[Vec<f32>],
    statistics: Option<&(Vec<f32>, Vec<f32>)>,
) -> Result<Params<Tensor<'static>>> {
    let (mean, variance) =
        statistics.cloned().ok_or_else(|| Error::layer(&node.name, "has no running mean and variance"))?;
    let (gamma, beta) = match params {
        [gamma, beta] => (Some(gamma.clone()), beta.clone()),
        _ => (None, vec![0.0; mean.len()]),
    };
    BatchNorm { gamma, beta, mean, variance, eps: f64::from(norm.eps) }.affine(&node.name)
}

#[cfg(test)]
pub(crate) mod tests;
