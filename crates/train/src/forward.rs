//! The forward pass of a network over its nodes, in training and in evaluation.

use crate::layer::{Act, Weights};
use crate::network::{Linear, Network, NodeOp};
use crate::ops::act::{self, Function};
use crate::ops::host::numbers;
use crate::ops::linear::{self, LinearOp};
use crate::ops::norm::{self, Statistics};
use crate::ops::pool;
use crate::weights::levels;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use onebit::core::types::Quant;

/// How ops are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Fused, on the CPU backend; integers on bit kernels.
    Fused,
    /// Burn's ops, on any backend: the specification.
    Plain,
}

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Statistics of the batch; dropout.
    Train {
        /// Weights are floats, clipped as latents are (first of two stages).
        float_weights: bool,
        /// Decides what is dropped.
        seed: u64,
    },
    /// Running statistics: what the exported network computes.
    Evaluate,
}

/// Statistics that a training pass found: for each BatchNorm node its batch's mean and unbiased variance.
pub type Found = Vec<(usize, Statistics)>;

/// A value and the scale of its integers, if it has few levels.
#[derive(Clone)]
struct Value {
    x: Tensor<4>,
    levels: Option<(Quant, f32)>,
}

/// Runs the network on `[n, h, w, c]` pictures; returns `[n, classes]` and what BatchNorms found.
///
/// `params` and `statistics` are in the order of [`Network::params`] and of the nodes.
pub fn forward(
    network: &Network,
    form: Form,
    mode: Mode,
    params: &[Tensor<4>],
    statistics: &[Option<Statistics>],
    pictures: Tensor<4>,
) -> (Tensor<2>, Found) {
    let device = pictures.device();
    let last = network.last_uses();
    let mut found = Found::new();
    let input = Value { x: pictures, levels: network.input_quant.map(|q| (q, 1.0)) };
    let mut values: Vec<Option<Value>> = vec![Some(input)];
    for (i, node) in network.nodes.iter().enumerate() {
        let inputs: Vec<Value> = node
            .inputs
            .iter()
            .map(|&v| {
                // Values are dropped with their last reader, so that memory is free for the next.
                let value = &mut values[v];
                if last[v] == Some(i) && node.inputs.iter().filter(|w| **w == v).count() == 1 {
                    value.take()
                } else {
                    value.clone()
                }
                .expect("values live until their last reader")
            })
            .collect();
        let learned: Vec<&Tensor<4>> = params[node.params.clone()].iter().collect();
        let pass = Pass { network, form, mode, device: &device, node: i, learned: &learned };
        let made = pass.node(&inputs, statistics[i].as_ref(), &mut found);
        values.push(Some(made));
    }
    let logits = values.pop().flatten().expect("a network has nodes").x;
    let n = logits.dims()[0];
    (logits.reshape([n, network.classes()]), found)
}

struct Pass<'a> {
    network: &'a Network,
    form: Form,
    mode: Mode,
    device: &'a Device,
    node: usize,
    learned: &'a [&'a Tensor<4>],
}

impl Pass<'_> {
    fn node(&self, inputs: &[Value], statistics: Option<&Statistics>, found: &mut Found) -> Value {
        let node = &self.network.nodes[self.node];
        let Value { x, levels } = inputs[0].clone();
        let float = |x| Value { x, levels: None };
        match &node.op {
            NodeOp::Linear(l) => float(self.linear(l, x, levels)),
            NodeOp::Norm(n) => float(match self.mode {
                Mode::Evaluate => {
                    let (mean, variance) = statistics.expect("every BatchNorm has statistics");
                    let gamma = self.learned.first().map(|g| numbers(g));
                    let scale = norm::scale(n.eps, gamma.as_deref(), variance);
                    let [mean, scale] = [mean.clone(), scale].map(|v| self.channels(v));
                    let y = (x - mean) * scale;
                    match self.learned.get(1) {
                        Some(offset) => y + (*offset).clone(),
                        None => y,
                    }
                }
                Mode::Train { .. } => {
                    let learned = n.affine.then(|| [self.learned[0], self.learned[1]]);
                    let (y, batch) = match self.form {
                        Form::Fused => norm::fused(n, x, learned),
                        Form::Plain => {
                            let (y, [mean, variance]) = norm::plain(n, x, learned);
                            (y, (numbers(&mean), numbers(&variance)))
                        }
                    };
                    found.push((self.node, batch));
                    y
                }
            }),
            NodeOp::Act(a) => self.act(*a, x, node.quant),
            NodeOp::Pool(p) => {
                let y = match self.form {
                    Form::Fused => pool::fused(*p, x, node.shape),
                    Form::Plain => pool::plain(*p, x, node.shape),
                };
                Value { x: y, levels: levels.filter(|_| node.quant.is_some()) }
            }
            NodeOp::Shift => float(self.function(Function::Shift { minus: false }, x, Some(self.learned[0]))),
            NodeOp::Dropout(rate) => match self.mode {
                Mode::Train { seed, .. } if *rate > 0.0 => float(self.dropout(*rate, seed, x)),
                _ => Value { x, levels: levels.filter(|_| node.quant.is_some()) },
            },
            NodeOp::Add => float(x + inputs[1].x.clone()),
            NodeOp::Concat => Value {
                x: Tensor::cat(inputs.iter().map(|v| v.x.clone()).collect(), 3),
                levels: node.quant.map(|q| (q, 1.0)),
            },
        }
    }

    fn linear(&self, l: &Linear, x: Tensor<4>, levels: Option<(Quant, f32)>) -> Tensor<4> {
        let node = &self.network.nodes[self.node];
        let mut l = l.clone();
        if matches!(self.mode, Mode::Train { float_weights: true, .. }) {
            l.weights = Weights::Float;
        }
        let fixed = l.fixed.as_ref().map(|kernel| {
            let [kh, kw] = l.window.kernel;
            let all: Vec<f32> = (0..node.shape.c).flat_map(|_| kernel.iter().copied()).collect();
            Tensor::from_data(TensorData::new(all, [node.shape.c, kh, kw, 1]), self.device)
        });
        let (w, rest) = match &fixed {
            Some(w) => (w, self.learned),
            None => (self.learned[0], &self.learned[1..]),
        };
        let bias = rest.first().copied();
        let input = self.network.shape(node.inputs[0]);
        let batch = x.dims()[0];
        let op = LinearOp { linear: l, input, output: node.shape, batch, levels };
        match self.form {
            Form::Fused => linear::fused(op, x, w, bias),
            Form::Plain => linear::plain(&op, x, w, bias),
        }
    }

    fn act(&self, a: Act, x: Tensor<4>, quant: Option<Quant>) -> Value {
        let p = |i: usize| Some(self.learned[i]);
        let mut scale = 1.0;
        let x = match a {
            Act::RSign(estimator) => {
                let x = self.function(Function::Shift { minus: true }, x, p(0));
                self.function(Function::Plain(Act::Sign(estimator)), x, None)
            }
            Act::Prelu => self.function(Function::Prelu, x, p(0)),
            Act::RPrelu => {
                let x = self.function(Function::Shift { minus: true }, x, p(1));
                let x = self.function(Function::Prelu, x, p(0));
                self.function(Function::Shift { minus: false }, x, p(2))
            }
            Act::Pact(bits) => {
                if self.form == Form::Fused {
                    scale = numbers(self.learned[0])[0].max(f32::MIN_POSITIVE) / levels(bits);
                }
                self.function(Function::Pact(bits), x, p(0))
            }
            Act::Dorefa(bits) => {
                scale = 1.0 / levels(bits);
                self.function(Function::Plain(a), x, None)
            }
            a => self.function(Function::Plain(a), x, None),
        };
        Value { x, levels: quant.map(|q| (q, scale)) }
    }

    fn function(&self, f: Function, x: Tensor<4>, p: Option<&Tensor<4>>) -> Tensor<4> {
        match self.form {
            Form::Fused => act::fused(f, x, p),
            Form::Plain => act::plain(f, x, p),
        }
    }

    fn dropout(&self, rate: f32, seed: u64, x: Tensor<4>) -> Tensor<4> {
        self.device.seed(seed ^ (self.node as u64) << 32);
        let keep = 1.0 - rate;
        let kept = Tensor::random(x.dims(), Distribution::Bernoulli(keep.into()), self.device);
        x * kept * (1.0 / keep)
    }

    fn channels(&self, v: Vec<f32>) -> Tensor<4> {
        let n = v.len();
        Tensor::from_data(TensorData::new(v, [1, 1, 1, n]), self.device)
    }
}
