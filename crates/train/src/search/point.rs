//! One network of a space: its layers, its recipe, and the model that it will be.

use super::space::Space;
use crate::data::{Purpose, Random};
use crate::export::{Values, lower, meta};
use crate::layer::{Act, Conv, Dense, Estimator, Layer, Norm, Pool, Residual, Weights};
use crate::network::{Architecture, Network, NodeOp, Role};
use crate::recipe::Recipe;
use onebit::core::model::Model;
use onebit::core::types::Shape;
use onebit::error::Result;
use onebit::passes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the first block reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Pixels that are brighter than the mean of all training pictures, channel by channel, are +1, others -1.
    Bits,
    /// Pixels as they are; the first block multiplies them by signs.
    Bytes,
}

/// What follows the sums of the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// Nothing: scores are integers. In training the loss multiplies them by 2 over the root of the number of inputs.
    Sums,
    /// BatchNorm: an affine map of floats for each class.
    Norm,
}

/// Convolution, max-pool, BatchNorm, sign: the fused block of eBNN (McDanel et al. 2017). A residual block adds the sums of a
/// second convolution before its last BatchNorm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Filters.
    pub filters: usize,
    /// Rows and columns of kernels.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Whether the map keeps its size; the padding is -1 for signs and 0 for bytes.
    pub pad: bool,
    /// Rows and columns of the max-pool, and its step; 1 is none.
    pub pool: usize,
    /// Whether there is a second convolution.
    pub residual: bool,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// What the first block reads.
    pub input: Input,
    /// Blocks, from the input on.
    pub blocks: Vec<Block>,
    /// Units of a dense layer before the last; 0 is none.
    pub hidden: usize,
    /// What follows the sums of the last layer.
    pub scores: Scores,
}

impl fmt::Display for Point {
    /// `bits, 16 3x3 pool 2, 32 3x3 /2 pad, dense 64`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.input == Input::Bits { "bits" } else { "bytes" })?;
        for b in &self.blocks {
            write!(f, ", {} {1}x{1}", b.filters, b.kernel)?;
            if b.stride > 1 {
                write!(f, " /{}", b.stride)?;
            }
            f.write_str(if b.pad { " pad" } else { "" })?;
            if b.pool > 1 {
                write!(f, " pool {}", b.pool)?;
            }
            f.write_str(if b.residual { " residual" } else { "" })?;
        }
        if self.hidden > 0 {
            write!(f, ", dense {}", self.hidden)?;
        }
        f.write_str(if self.scores == Scores::Norm { ", norm" } else { "" })
    }
}

/// Standard deviation of the scores in the loss before anything is learned. On 8,000 pictures of MNIST 2 was best, and as good as
/// a BatchNorm; 1/2, 1 and 4 were worse by 1 to 3 %.
const SHARPNESS: f32 = 2.0;

fn norm(affine: bool) -> Layer {
    Layer::Norm(Norm { affine, ..Norm::default() })
}

fn sign() -> Layer {
    Layer::Act(Act::Sign(Estimator::Clip(1.0)))
}

fn dense(units: usize) -> Layer {
    Layer::Dense(Dense { units, weights: Weights::Default, bias: false })
}

impl Point {
    /// The layers; `classes` is the number of outputs.
    fn layers(&self, classes: usize) -> Vec<Layer> {
        let mut layers = Vec::new();
        let mut bits = self.input == Input::Bits;
        if bits {
            // Without learned numbers the threshold is the mean: a learned offset could leave nothing but +1.
            layers.extend([norm(false), sign()]);
        }
        for b in &self.blocks {
            let conv = |stride, pad: bool, bits: bool| {
                Layer::Conv(Conv {
                    filters: b.filters,
                    kernel: b.kernel,
                    stride,
                    pad: if pad { b.kernel / 2 } else { 0 },
                    pad_value: if pad && bits { -1 } else { 0 },
                    dilation: 1,
                    groups: 1,
                    weights: Weights::Default,
                    bias: false,
                    fixed: None,
                })
            };
            layers.push(conv(b.stride, b.pad, bits));
            if b.pool > 1 {
                layers.push(Layer::MaxPool(Pool { size: b.pool, stride: b.pool, pad: 0 }));
            }
            if b.residual {
                let body = vec![norm(true), sign(), conv(1, true, true)];
                layers.push(Layer::Residual(Residual { body, shortcut: Vec::new() }));
            }
            layers.extend([norm(true), sign()]);
            bits = true;
        }
        if self.hidden > 0 {
            layers.extend([dense(self.hidden), norm(true), sign()]);
        }
        layers.push(dense(classes));
        if self.scores == Scores::Norm {
            layers.push(norm(true));
        }
        layers
    }

    /// The recipe that trains the network.
    ///
    /// # Errors
    /// Names the layer that does not fit the pictures.
    pub fn recipe(&self, space: &Space, name: &str, picture: Shape, classes: usize) -> Result<Recipe> {
        let weights = Weights::Sign(Estimator::Clip(1.0));
        let network = Architecture {
            input: picture,
            mean: Vec::new(),
            std: Vec::new(),
            weights,
            act: Act::Sign(Estimator::Clip(1.0)),
            layers: self.layers(classes),
        };
        let mut recipe = Recipe {
            name: name.into(),
            about: format!("Found by onebit search: {self}"),
            data: String::new(),
            train: space.train.clone(),
            network,
        };
        if self.scores == Scores::Sums {
            let network = Network::new(&recipe.network)?;
            let inputs = network.nodes.last().map_or(1, |n| network.shape(n.inputs[0]).elements());
            recipe.train.score_factor = SHARPNESS / (inputs.max(1) as f32).sqrt();
        }
        recipe.check()?;
        Ok(recipe)
    }
}

/// The model that a recipe's network will be, with numbers as expensive as training can leave them: thresholds anywhere in
/// the range of the sums, of both directions.
///
/// # Errors
/// Names the layer that does not fit.
pub fn untrained(recipe: &Recipe) -> Result<Model<'static>> {
    let network = Network::new(&recipe.network)?;
    let mut graph = lower(&network, &values(&network), meta(recipe))?;
    passes::optimize(&mut graph)?;
    Ok(graph.into_model()?.0)
}

fn values(network: &Network) -> Values {
    let params = network.params.iter().enumerate().map(|(i, p)| {
        let mut random = Random::of(Purpose::Initial, &[i as u64]);
        let n = p.shape.iter().product();
        let number = |k: usize, random: &mut Random| match p.role {
            Role::Scale if k % 2 == 1 => -1.0,
            Role::Scale | Role::Range => 1.0,
            Role::Offset => 0.0,
            Role::Latent | Role::Weight => random.symmetric(),
        };
        (0..n).map(|k| number(k, &mut random)).collect()
    });
    let params = params.collect();
    // The largest magnitude of each value.
    let mut most = vec![255.0f32];
    let mut statistics = Vec::new();
    for node in &network.nodes {
        let x = most[node.inputs[0]];
        let taps = |weight: usize| network.params[weight].shape[1..].iter().product::<usize>() as f32;
        most.push(match &node.op {
            NodeOp::Linear(_) => x * taps(node.params.start),
            NodeOp::Pool(_) => x,
            NodeOp::Add => x + most[node.inputs[1]],
            NodeOp::Norm(_) => x,
            _ => 1.0,
        });
        statistics.push(matches!(node.op, NodeOp::Norm(_)).then(|| {
            // Neither always +1 nor always -1: what reads bytes is not negative.
            let share = |c: usize| if node.inputs[0] == 0 { 0.5 } else { [0.0, 0.4, -0.4, 0.9][c % 4] };
            let mean: Vec<f32> = (0..node.shape.c).map(|c| (share(c) * x).floor() + 0.5).collect();
            (mean, vec![x.max(1.0); node.shape.c])
        }));
    }
    Values { params, statistics }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onebit::core::ops::Op;
    use onebit::core::types::DType;

    const MNIST: Shape = Shape { h: 28, w: 28, c: 1 };

    /// Every combination of choices is a network of integers.
    #[test]
    fn all_networks_but_those_with_a_norm_are_integers() {
        let space = Space { scores: vec![Scores::Sums, Scores::Norm], ..Space::default() };
        let mut random = Random::of(Purpose::Search, &[3]);
        let (mut fit, mut residual) = (0, 0);
        for _ in 0..150 {
            let point = space.sample(&mut random);
            let Ok(recipe) = point.recipe(&space, "x", MNIST, 10) else { continue };
            let Ok(model) = untrained(&recipe) else { continue };
            fit += 1;
            let ops: Vec<_> = model.nodes().iter().map(|n| n.op.name()).collect();
            let types = model.types();
            assert_eq!(types[0].dtype, DType::U8, "{point}");
            residual += usize::from(point.blocks.iter().any(|b| b.residual));
            if !point.blocks.iter().any(|b| b.residual) {
                let floats = types[..types.len() - 1].iter().filter(|t| t.dtype == DType::F32).count();
                assert_eq!(floats, 0, "{point}: {ops:?}");
            }
            let last = types[types.len() - 1].dtype;
            let expected = if point.scores == Scores::Sums { DType::I32 } else { DType::F32 };
            assert_eq!(last, expected, "{point}: {ops:?}");
            if point.input == Input::Bits {
                assert!(matches!(model.nodes()[0].op, Op::Threshold(_)), "{point}: {ops:?}");
            }
            // What is written can be read, and says the same.
            let again = Recipe::parse(&recipe.to_toml().unwrap(), &[]).unwrap();
            assert_eq!(again, recipe);
        }
        assert!(fit > 80 && residual > 20, "{fit} {residual}");
    }

    #[test]
    fn networks_are_described() {
        let block = Block { filters: 16, kernel: 3, stride: 1, pad: false, pool: 2, residual: false };
        let second = Block { filters: 32, kernel: 5, stride: 2, pad: true, pool: 1, residual: true };
        let point =
            Point { input: Input::Bits, blocks: vec![block, second], hidden: 64, scores: Scores::Sums };
        assert_eq!(point.to_string(), "bits, 16 3x3 pool 2, 32 5x5 /2 pad residual, dense 64");
    }
}
