//! A network as a flat list of nodes: what recipes expand to, and what training and export walk through.
//!
//! Value 0 is the input, value `i + 1` is made by node `i`. Maps are `[n, h, w, c]`; a vector is `1 x 1 x c`.

use crate::layer::{Act, Layer, Norm, Pool, Weights};
use onebit::core::model::MAX_ACCUMULATOR;
use onebit::core::ops::{Pool2d, PoolKind, Window};
use onebit::core::types::{Encoding, Quant, Shape};
use onebit::error::{Error, Result};
use onebit::meta::{Layout, Preprocessing};
use serde::{Deserialize, Serialize};

/// A network as it stands in a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Height, width and channels of the pictures.
    pub input: Shape,
    /// Subtracted from pixels, for each channel or once. Where neither this nor `std` is given the network takes bytes,
    /// exactly, as integers 0 to 255.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f32>,
    /// What pixels are divided by after that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub std: Vec<f32>,
    /// What `default` means for weights.
    #[serde(default = "sign_weights")]
    pub weights: Weights,
    /// What `default` means for activations.
    #[serde(default = "sign_act")]
    pub act: Act,
    /// The layers.
    pub layers: Vec<Layer>,
}

impl Architecture {
    /// How pixels become the input. Pictures of 224 x 224 are the centre of larger ones, as is usual for ImageNet.
    pub fn preprocessing(&self) -> Preprocessing {
        let resize = if (self.input.h, self.input.w) == (224, 224) { 256 } else { 0 };
        Preprocessing { layout: Layout::Nhwc, mean: self.mean.clone(), std: self.std.clone(), resize }
    }
}

fn sign_weights() -> Weights {
    Weights::Sign(crate::layer::Estimator::Clip(1.0))
}
fn sign_act() -> Act {
    Act::Sign(crate::layer::Estimator::Clip(1.0))
}

/// What a parameter is, which decides how optimisers treat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Latent weights of a quantised layer: clipped, never decayed.
    Latent,
    /// Weights of a float layer.
    Weight,
    /// Factors: of BatchNorm, slopes of PReLU.
    Scale,
    /// Terms: biases, shifts.
    Offset,
    /// Largest value of a PACT activation.
    Range,
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `+-sqrt(6 / (inputs + outputs))` (Glorot and Bengio 2010).
    Glorot,
    /// Normal with variance `2 / inputs` (He et al. 2015).
    He,
    /// The same number everywhere.
    Constant(f32),
}

/// A learned tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// `layer.weight` and so on.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Filters are `[n, ky, kx, c]`, what belongs to channels is `[1, 1, 1, c]`.
    pub shape: [usize; 4],
    /// How it starts.
    pub init: Init,
}

/// A convolution or a dense layer, which is a convolution whose window covers the map.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// The sliding window.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// What the padding reads where inputs are quantised.
    pub pad_value: i8,
    /// Quantiser; never [`Weights::Default`].
    pub weights: Weights,
    /// Whether a bias is added; it is the second parameter.
    pub bias: bool,
    /// Constant kernel in place of the first parameter.
    pub fixed: Option<Vec<f32>>,
    /// Whether it was written as a dense layer.
    pub dense: bool,
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeOp {
    /// Parameters: weight, then bias.
    Linear(Linear),
    /// Parameters: scale, offset (if learned). Statistics: mean, variance.
    Norm(Norm),
    /// Parameters: `a` of [`Act::RSign`], [`Act::Pact`], [`Act::Prelu`]; `a`, `b`, `c` of [`Act::RPrelu`]. Never [`Act::Default`].
    Act(Act),
    /// Maximum or average of a window.
    Pool(Pool2d),
    /// Parameter: what is added to each channel.
    Shift,
    /// Zeroes this share of the numbers in training.
    Dropout(f32),
    /// Sum of two values.
    Add,
    /// Joins values along the channels.
    Concat,
}

/// One op with its place in the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Kind and number: `conv3`.
    pub name: String,
    /// What it computes.
    pub op: NodeOp,
    /// Values that it reads.
    pub inputs: Vec<usize>,
    /// Shape of its value, for one picture.
    pub shape: Shape,
    /// Integers that its value is a multiple of, if it has few levels.
    pub quant: Option<Quant>,
    /// Its parameters, in [`Network::params`].
    pub params: std::ops::Range<usize>,
}

/// A network with all shapes known.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Shape of a picture.
    pub input: Shape,
    /// Format of the input: bytes, or `None` for floats.
    pub input_quant: Option<Quant>,
    /// The ops in order of execution; the last makes the output.
    pub nodes: Vec<Node>,
    /// All parameters.
    pub params: Vec<Param>,
}

/// Most bits that run on bit planes or bytes after export; quantisers with more are simulated with floats.
pub const MAX_BITS: u8 = 8;

impl Act {
    /// Integers that the function's values are multiples of.
    pub fn quant(self) -> Option<Quant> {
        match self {
            Act::Sign(_) | Act::RSign(_) => Some(Quant::BIT),
            Act::Dorefa(k) | Act::Pact(k) if k <= MAX_BITS => Some(Quant::new(k, Encoding::Unsigned)),
            _ => None,
        }
    }
}

impl Weights {
    /// Integers that the weights of a filter are multiples of.
    pub fn quant(self) -> Option<Quant> {
        match self {
            Weights::Sign(_) | Weights::Xnor | Weights::Magnitude => Some(Quant::BIT),
            Weights::Ternary => Some(Quant::TERNARY),
            Weights::Dorefa(k) if k <= MAX_BITS => Some(Quant::new(k, Encoding::Bipolar)),
            _ => None,
        }
    }
}

impl Network {
    /// Expands the layers and checks that they fit together.
    ///
    /// # Errors
    /// Names the layer and what does not fit.
    pub fn new(architecture: &Architecture) -> Result<Self> {
        let bytes = architecture.mean.is_empty() && architecture.std.is_empty();
        let input_quant = bytes.then_some(Quant::new(8, Encoding::Unsigned));
        let network =
            Network { input: architecture.input, input_quant, nodes: Vec::new(), params: Vec::new() };
        let mut builder = Builder { architecture, network };
        if architecture.input.checked_elements().is_none_or(|n| n == 0 || n > 1 << 24) {
            return Err(Error::layer(
                "network.input",
                format!("{} is no size of a picture", architecture.input),
            ));
        }
        for (what, values) in [("mean", &architecture.mean), ("std", &architecture.std)] {
            let usable = |v: &f32| v.is_finite() && (what == "mean" || *v != 0.0);
            if !(values.len() <= 1 || values.len() == architecture.input.c) || !values.iter().all(usable) {
                let text = "needs one number, or one for each channel, and std cannot be 0";
                return Err(Error::layer(format!("network.{what}"), text));
            }
        }
        builder.layers(&architecture.layers, 0, 0)?;
        if builder.network.nodes.is_empty() {
            return Err(Error::layer("network.layers", "has no layers"));
        }
        Ok(builder.network)
    }

    /// Shape of a value.
    pub fn shape(&self, value: usize) -> Shape {
        value.checked_sub(1).map_or(self.input, |i| self.nodes[i].shape)
    }
    /// Integers that a value is a multiple of.
    pub fn quant(&self, value: usize) -> Option<Quant> {
        value.checked_sub(1).map_or(self.input_quant, |i| self.nodes[i].quant)
    }
    /// Number of outputs.
    pub fn classes(&self) -> usize {
        self.shape(self.nodes.len()).elements()
    }
    /// For each value, the last node that reads it; the output is read by nobody.
    pub fn last_uses(&self) -> Vec<Option<usize>> {
        let mut last = vec![None; self.nodes.len() + 1];
        for (i, node) in self.nodes.iter().enumerate() {
            for &v in &node.inputs {
                last[v] = Some(i);
            }
        }
        last
    }
}

/// Layers nest this deep at most.
const MAX_DEPTH: usize = 16;
/// A network has this many nodes at most.
const MAX_NODES: usize = 10_000;

struct Builder<'a> {
    architecture: &'a Architecture,
    network: Network,
}

impl Builder<'_> {
    fn layers(&mut self, layers: &[Layer], mut x: usize, depth: usize) -> Result<usize> {
        if depth > MAX_DEPTH {
            return Err(Error::layer("network.layers", format!("nest deeper than {MAX_DEPTH}")));
        }
        for layer in layers {
            x = self.layer(layer, x, depth)?;
        }
        Ok(x)
    }

    fn layer(&mut self, layer: &Layer, x: usize, depth: usize) -> Result<usize> {
        let shape = self.network.shape(x);
        match layer {
            Layer::Conv(c) => {
                let [kernel, stride, pad] = [c.kernel, c.stride, c.pad];
                let window = Window { dilation: [c.dilation; 2], ..Window::square(kernel, stride, pad) };
                let linear = Linear {
                    window,
                    groups: c.groups,
                    pad_value: c.pad_value,
                    // A kernel that is given is taken as it is.
                    weights: if c.fixed.is_some() { Weights::Float } else { self.weights(c.weights)? },
                    bias: c.bias,
                    fixed: c.fixed.clone(),
                    dense: false,
                };
                self.linear("conv", linear, c.filters, x)
            }
            Layer::Dense(d) => {
                let linear = Linear {
                    window: Window::whole(shape),
                    groups: 1,
                    pad_value: 0,
                    weights: self.weights(d.weights)?,
                    bias: d.bias,
                    fixed: None,
                    dense: true,
                };
                self.linear("dense", linear, d.units, x)
            }
            Layer::Norm(n) => {
                if !(n.eps > 0.0 && n.momentum > 0.0 && n.momentum <= 1.0) {
                    return Err(self.wrong("norm", "needs an eps above 0 and a momentum from 0 to 1"));
                }
                let learned: &[_] = if n.affine {
                    &[("scale", Role::Scale, 1.0), ("offset", Role::Offset, 0.0)]
                } else {
                    &[]
                };
                self.per_channel("norm", NodeOp::Norm(n.clone()), x, None, learned)
            }
            Layer::Act(act) => self.act(*act, x),
            Layer::MaxPool(p) => self.pool(PoolKind::Max, p, x),
            Layer::AvgPool(p) => self.pool(PoolKind::Average, p, x),
            Layer::GlobalAvgPool(_) => {
                let pool = Pool2d { kind: PoolKind::Average, window: Window::whole(shape), count_pad: false };
                self.push("pool", NodeOp::Pool(pool), &[x], Shape::vector(shape.c), None, Vec::new())
            }
            Layer::Shift(_) => {
                self.per_channel("shift", NodeOp::Shift, x, None, &[("offset", Role::Offset, 0.0)])
            }
            Layer::Dropout(d) => {
                if !(0.0..1.0).contains(&d.rate) {
                    return Err(self.wrong("dropout", "needs a rate from 0 to below 1"));
                }
                let quant = self.network.quant(x).filter(|_| d.rate == 0.0);
                self.per_channel("dropout", NodeOp::Dropout(d.rate), x, quant, &[])
            }
            Layer::Residual(r) => {
                let body = self.layers(&r.body, x, depth + 1)?;
                let shortcut = self.layers(&r.shortcut, x, depth + 1)?;
                let [a, b] = [body, shortcut].map(|v| self.network.shape(v));
                if a != b {
                    return Err(
                        self.wrong("add", &format!("cannot add its body, {a}, and its shortcut, {b}"))
                    );
                }
                self.push("add", NodeOp::Add, &[body, shortcut], a, None, Vec::new())
            }
            Layer::Concat(c) => {
                let mut values = Vec::new();
                for branch in &c.branches {
                    values.push(self.layers(branch, x, depth + 1)?);
                }
                let shapes: Vec<Shape> = values.iter().map(|v| self.network.shape(*v)).collect();
                let Some(first) = shapes.first() else {
                    return Err(self.wrong("concat", "has no branches"));
                };
                if shapes.iter().any(|s| (s.h, s.w) != (first.h, first.w)) {
                    return Err(self.wrong("concat", "joins maps of different size"));
                }
                let quants: Vec<_> = values.iter().map(|v| self.network.quant(*v)).collect();
                // Only bits have one scale wherever they come from.
                let quant = quants[0].filter(|q| q.is_bit() && quants.iter().all(|other| *other == Some(*q)));
                let joined = Shape { c: shapes.iter().map(|s| s.c).sum(), ..*first };
                self.push("concat", NodeOp::Concat, &values, joined, quant, Vec::new())
            }
            Layer::Repeat(r) => {
                let mut x = x;
                for _ in 0..r.times {
                    x = self.layers(&r.layers, x, depth + 1)?;
                }
                Ok(x)
            }
        }
    }

    fn weights(&self, weights: Weights) -> Result<Weights> {
        match (weights, self.architecture.weights) {
            (Weights::Default, Weights::Default) => {
                Err(Error::layer("network.weights", "cannot be `default`"))
            }
            (Weights::Default, weights) => Ok(weights),
            (weights, _) => Ok(weights),
        }
    }

    fn linear(&mut self, kind: &str, linear: Linear, filters: usize, x: usize) -> Result<usize> {
        let shape = self.network.shape(x);
        let groups = linear.groups;
        if groups == 0 || filters == 0 || !shape.c.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
            let text =
                format!("cannot divide {} channels and {filters} filters into {groups} groups", shape.c);
            return Err(self.wrong(kind, &text));
        }
        if !(-1..=1).contains(&linear.pad_value) {
            return Err(self.wrong(kind, "has a pad_value other than -1, 0 and 1"));
        }
        let [h, w] = linear.window.output(shape).map_err(|e| self.wrong(kind, &e.to_string()))?;
        let [kh, kw] = linear.window.kernel;
        let taps = kh * kw * (shape.c / groups);
        let mut learned = Vec::new();
        match &linear.fixed {
            None => {
                let role = if linear.weights == Weights::Float { Role::Weight } else { Role::Latent };
                let init = if linear.dense || role == Role::Latent { Init::Glorot } else { Init::He };
                learned.push(("weight", role, [filters, kh, kw, shape.c / groups], init));
            }
            Some(kernel) if kernel.len() == kh * kw && groups == shape.c && filters == shape.c => {}
            Some(_) => {
                return Err(self.wrong(
                    kind,
                    "needs one group and one filter per channel for a fixed kernel of that size",
                ));
            }
        }
        if taps.checked_mul(filters).is_none_or(|n| n > 1 << 28) {
            return Err(self.wrong(kind, "has more than 2^28 weights"));
        }
        if let (Some(x), Some(w), None) = (self.network.quant(x), linear.weights.quant(), &linear.fixed) {
            // The engine refuses the layer too, but only after training.
            let largest = |q: Quant| i64::from(q.max().max(-q.min()));
            if largest(x) * largest(w) * taps as i64 > MAX_ACCUMULATOR {
                let text = format!("could overflow its accumulator with {taps} taps: it needs fewer bits");
                return Err(self.wrong(kind, &text));
            }
        }
        if linear.bias {
            learned.push(("bias", Role::Offset, [1, 1, 1, filters], Init::Constant(0.0)));
        }
        self.push(kind, NodeOp::Linear(linear), &[x], Shape::new(h, w, filters), None, learned)
    }

    fn act(&mut self, act: Act, x: usize) -> Result<usize> {
        let act = match (act, self.architecture.act) {
            (Act::Default, Act::Default) => return Err(Error::layer("network.act", "cannot be `default`")),
            (Act::Default, act) => act,
            (act, _) => act,
        };
        let learned: &[(&str, Role, f32)] = match act {
            Act::RSign(_) => &[("shift", Role::Offset, 0.0)],
            Act::Prelu => &[("slope", Role::Scale, 0.25)],
            Act::RPrelu => {
                &[("slope", Role::Scale, 0.25), ("shift", Role::Offset, 0.0), ("offset", Role::Offset, 0.0)]
            }
            _ => &[],
        };
        let kind = match act {
            Act::Sign(_) | Act::RSign(_) => "sign",
            Act::Dorefa(_) | Act::Pact(_) => "quantize",
            _ => "act",
        };
        if let Act::Pact(_) = act {
            let shape = self.network.shape(x);
            let range = vec![("range", Role::Range, [1, 1, 1, 1], Init::Constant(6.0))];
            return self.push(kind, NodeOp::Act(act), &[x], shape, act.quant(), range);
        }
        self.per_channel(kind, NodeOp::Act(act), x, act.quant(), learned)
    }

    fn pool(&mut self, kind: PoolKind, p: &Pool, x: usize) -> Result<usize> {
        let shape = self.network.shape(x);
        let pool = Pool2d { kind, window: Window::square(p.size, p.stride, p.pad), count_pad: false };
        let [h, w] = pool.window.pool_output(shape).map_err(|e| self.wrong("pool", &e.to_string()))?;
        let quant = self.network.quant(x).filter(|_| kind == PoolKind::Max);
        self.push("pool", NodeOp::Pool(pool), &[x], Shape::new(h, w, shape.c), quant, Vec::new())
    }

    /// A node whose value has the shape of its input and whose parameters belong to channels.
    fn per_channel(
        &mut self,
        kind: &str,
        op: NodeOp,
        x: usize,
        quant: Option<Quant>,
        learned: &[(&'static str, Role, f32)],
    ) -> Result<usize> {
        let shape = self.network.shape(x);
        let learned = learned
            .iter()
            .map(|(name, role, start)| (*name, *role, [1, 1, 1, shape.c], Init::Constant(*start)))
            .collect();
        self.push(kind, op, &[x], shape, quant, learned)
    }

    fn push(
        &mut self,
        kind: &str,
        op: NodeOp,
        inputs: &[usize],
        shape: Shape,
        quant: Option<Quant>,
        learned: Vec<(&'static str, Role, [usize; 4], Init)>,
    ) -> Result<usize> {
        let name = self.name(kind);
        if self.network.nodes.len() >= MAX_NODES {
            return Err(Error::layer("network.layers", format!("are more than {MAX_NODES}")));
        }
        let first = self.network.params.len();
        for (what, role, shape, init) in learned {
            self.network.params.push(Param { name: format!("{name}.{what}"), role, shape, init });
        }
        let params = first..self.network.params.len();
        self.network.nodes.push(Node { name, op, inputs: inputs.to_vec(), shape, quant, params });
        Ok(self.network.nodes.len())
    }

    /// The next name of a kind.
    fn name(&self, kind: &str) -> String {
        let number = |name: &str| name.strip_prefix(kind)?.parse::<usize>().ok();
        let last = self.network.nodes.iter().rev().find_map(|n| number(&n.name)).unwrap_or(0);
        format!("{kind}{}", last + 1)
    }

    fn wrong(&self, kind: &str, what: &str) -> Error {
        Error::layer(self.name(kind), what)
    }
}

#[cfg(test)]
mod tests;
