//! One arm for each operator; those that need more are in files of their own.

use super::evaluate::QONNX_DOMAINS;
use super::importer::{Walk, Wire};
use super::proto::Node;
use crate::error::{Error, Result};
use crate::import::array::Array;
use crate::import::lower::unary::{Compare, Round, Unary};
use crate::import::lower::{Binary, Channels, Split, Var};
use onebit_core::ops::{Activation, Op};
use std::rc::Rc;

/// Domain of operators of ONNX on maps with channels last.
pub(super) const CHANNELS_LAST: &str = "qonnx.custom_op.channels_last";

/// A node and its inputs.
pub(super) struct Inputs<'n> {
    pub node: &'n Node<'n>,
    wires: Vec<Option<Wire>>,
}

impl Inputs<'_> {
    /// An error about this node.
    pub fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::layer(self.node.label(), format!("({}) {what}", self.node.op))
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.wires.len()
    }
    /// Input `i`, if it is given.
    pub fn get(&self, i: usize) -> Option<&Wire> {
        self.wires.get(i)?.as_ref()
    }
    /// Input `i`, which the network computes.
    pub fn var(&self, i: usize) -> Result<Var> {
        match self.get(i) {
            Some(Wire::Var(v)) => Ok(v.clone()),
            Some(Wire::Constant(_)) => {
                Err(self.error(format!("has a constant as input {i}, which is not supported")))
            }
            Some(Wire::Split(split)) => {
                let axes = split.dims.len();
                Err(self.error(format!("would need a map of {axes} axes; maps have three")))
            }
            Some(Wire::Rows(_)) => Err(self.error("moves elements between samples")),
            None => Err(self.error(format!("has no input {i}"))),
        }
    }
    /// Input `i`, which is constant, if it is given.
    pub fn constant(&self, i: usize) -> Result<Option<Rc<Array>>> {
        match self.get(i) {
            Some(Wire::Constant(a)) => Ok(Some(a.clone())),
            Some(Wire::Var(_) | Wire::Split(_) | Wire::Rows(_)) => {
                let text = "computes its input {i} from the network's input, which is not supported";
                Err(self.error(text.replace("{i}", &i.to_string())))
            }
            None => Ok(None),
        }
    }
    /// Input `i`, which is constant.
    pub fn weight(&self, i: usize) -> Result<Rc<Array>> {
        self.constant(i)?.ok_or_else(|| self.error(format!("has no input {i}")))
    }
    /// Integers of the constant input `i`, else of the attribute `name`, where older versions have them.
    pub fn ints(&self, i: usize, name: &str) -> Result<Option<Vec<i64>>> {
        match self.constant(i)? {
            Some(a) => Ok(Some(a.to_i64().ok_or_else(|| self.error(format!("has floats as {name}")))?)),
            None => Ok(self.node.ints(name)?.map(<[i64]>::to_vec)),
        }
    }
    /// A number of the constant input `i`, else of the attribute `name`.
    pub fn number(&self, i: usize, name: &str, default: f32) -> Result<f32> {
        match self.constant(i)? {
            Some(a) => a.as_scalar().ok_or_else(|| self.error(format!("has more than one number as {name}"))),
            None => self.node.float(name, default),
        }
    }
    /// An axis (negative: from the end) of a value with `rank` axes after the batch, counted from the first of these.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let all = rank as i64 + 1;
        match if axis < 0 { axis + all } else { axis } {
            0 => Err(self.error("works along the batch axis, which is not supported")),
            a if (1..all).contains(&a) => Ok(a as usize - 1),
            _ => Err(self.error(format!("works along axis {axis} of a value with {all} axes"))),
        }
    }
}

impl<'a> Walk<'a> {
    /// The results of a node with an input that is no constant.
    pub fn operator(&mut self, node: &'a Node<'a>, wires: Vec<Option<Wire>>) -> Result<Vec<Wire>> {
        let inputs = Inputs { node, wires };
        if inputs.wires.iter().flatten().any(|w| matches!(w, Wire::Rows(_))) {
            return self.rows(inputs);
        }
        if QONNX_DOMAINS.contains(&node.domain) {
            return Ok(vec![Wire::Var(self.qonnx(&inputs)?)]);
        }
        if node.domain == CHANNELS_LAST {
            return Ok(vec![Wire::Var(self.channels_last(inputs)?)]);
        }
        if !matches!(node.domain, "" | "ai.onnx") {
            return Err(inputs.error(format!("is an operator of '{}', which is not supported", node.domain)));
        }
        if let Some(f) = binary_of(node.op) {
            return Ok(vec![Wire::Var(self.binary(&inputs, f)?)]);
        }
        if let Some(steps) = unary_of(&inputs)? {
            let mut x = inputs.var(0)?;
            for f in steps {
                x = self.lowerer.unary(node.label(), x, f)?;
            }
            return Ok(vec![Wire::Var(x)]);
        }
        let var = match node.op {
            "Conv" => self.conv(&inputs)?,
            "ConvTranspose" => self.conv_transpose(&inputs)?,
            "Gemm" => self.gemm(&inputs)?,
            "MatMul" => self.matmul(&inputs)?,
            "BatchNormalization" => self.batch_norm(&inputs)?,
            "MaxPool" | "AveragePool" => self.pool(&inputs, Channels::First)?,
            "GlobalAveragePool" | "GlobalMaxPool" => self.global_pool(&inputs)?,
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceL1" | "ReduceL2"
            | "ReduceSumSquare" | "ReduceLogSumExp" => self.reduce(&inputs)?,
            "Mean" => {
                let sum = self.binary(&inputs, Binary::Add)?;
                self.lowerer.unary(node.label(), sum, Unary::Div(inputs.len() as f32))?
            }
            "Xor" => {
                let same = self.binary(&inputs, Binary::Compare(Compare::Equal))?;
                self.lowerer.unary(node.label(), same, Unary::Choose(0.0, 1.0))?
            }
            "ThresholdedRelu" => {
                let x = inputs.var(0)?;
                let above = Unary::Compare(Compare::Greater, node.float("alpha", 1.0)?);
                let gate = self.lowerer.unary(node.label(), x.clone(), above)?;
                self.lowerer.binary(node.label(), Binary::Mul, x, gate)?
            }
            "Mod" => {
                return Err(inputs.error(
                    "takes a remainder of what the network computes, which is not supported; write \
                     x - y * Cast(x / y, to=INT64) where the quotient may be rounded",
                ));
            }
            "InstanceNormalization" => {
                return Err(inputs.error(
                    "takes mean and variance of each map while the network runs, which is not supported; train with \
                     BatchNormalization, or write it with ReduceMean, Sub, Mul, Sqrt and Div",
                ));
            }
            "QuantizeLinear" => self.quantize_linear(&inputs)?,
            "DequantizeLinear" => self.dequantize_linear(&inputs)?,
            "Where" => self.choose(&inputs)?,
            "Softmax" | "LogSoftmax" => self.softmax(&inputs)?,
            "ArgMax" => {
                let x = inputs.var(0)?;
                let axis = inputs.axis(node.int("axis", 0)?, x.dims.len())?;
                if node.int("select_last_index", 0)? != 0 {
                    return Err(inputs.error("takes the last of equal numbers, which is not supported"));
                }
                let keep = node.int("keepdims", 1)? != 0;
                self.lowerer.along(node.label(), x, axis, Op::Argmax, keep)?
            }
            "HardSwish" | "Swish" | "Silu" | "Mish" | "Gelu" | "Softplus" | "Elu" | "Selu" | "Celu"
            | "Softsign" => self.smooth(&inputs)?,
            _ => return self.moves(&inputs),
        };
        Ok(vec![Wire::Var(var)])
    }

    /// An operator of values whose samples are joined with another axis: what treats each row or element alone, and the
    /// reshape that takes them apart again.
    fn rows(&mut self, inputs: Inputs<'a>) -> Result<Vec<Wire>> {
        let Inputs { node, wires } = inputs;
        let alone = matches!(node.op, "MatMul" | "Gemm") || binary_of(node.op).is_some();
        let all = !wires.iter().flatten().any(|w| matches!(w, Wire::Var(_) | Wire::Split(_)));
        if let ("Reshape", Some(Some(Wire::Rows(x)))) = (node.op, wires.first()) {
            let (split, own) = (Split::of(x.clone()), x.dims.iter().map(|d| *d as i64).collect());
            return self.reshaped(&Inputs { node, wires }, split, own);
        }
        let single = |w: Option<Wire>| match w {
            Some(Wire::Rows(x)) => Some(Wire::Var(x)),
            other => other,
        };
        let inputs = Inputs { node, wires: wires.into_iter().map(single).collect() };
        if !all || !(alone || unary_of(&inputs)?.is_some()) {
            return Err(inputs.error("reads a value whose samples are joined with another axis"));
        }
        let join = |w: Wire| match w {
            Wire::Var(x) => Wire::Rows(x),
            other => other,
        };
        Ok(self.operator(node, inputs.wires)?.into_iter().map(join).collect())
    }

    fn binary(&mut self, inputs: &Inputs<'_>, f: Binary) -> Result<Var> {
        let name = inputs.node.label();
        let lacking = || inputs.error("lacks an input, or has only constants before the first value");
        let first = (0..inputs.len()).find(|i| matches!(inputs.get(*i), Some(Wire::Var(_))));
        let first = first.ok_or_else(lacking)?;
        let mut x = inputs.var(first)?;
        // Only operators of two numbers can tell them apart.
        for i in (0..inputs.len()).filter(|i| *i != first) {
            x = match inputs.get(i) {
                Some(Wire::Var(b)) => self.lowerer.binary(name, f, x, b.clone())?,
                Some(Wire::Constant(c)) => self.lowerer.with_constant(name, f, x, c, i < first)?,
                Some(_) | None => return Err(lacking()),
            };
        }
        Ok(x)
    }

    /// An operator of QONNX on maps with channels last, as are the weights of a convolution.
    fn channels_last(&mut self, mut inputs: Inputs<'_>) -> Result<Var> {
        let x = inputs.var(0)?;
        let rank = x.dims.len();
        let Some(last) = rank.checked_sub(1) else { return Err(inputs.error("has no channels")) };
        let order: Vec<usize> = std::iter::once(last).chain(0..last).collect();
        inputs.wires[0] = Some(Wire::Var(self.lowerer.transposed(x, &order)));
        let made = match inputs.node.op {
            "Conv" => {
                let weight = inputs.weight(1)?;
                let n = weight.shape.len();
                if n < 2 {
                    return Err(inputs.error("has a weight with too few axes"));
                }
                let order: Vec<usize> = [0, n - 1].into_iter().chain(1..n - 1).collect();
                inputs.wires[1] = Some(Wire::Constant(Rc::new(weight.transposed(&order)?)));
                self.conv(&inputs)?
            }
            "MaxPool" | "AveragePool" => self.pool(&inputs, Channels::First)?,
            "BatchNormalization" => self.batch_norm(&inputs)?,
            _ => return Err(inputs.error("is an operator of QONNX that is not supported")),
        };
        let back: Vec<usize> = (1..made.dims.len()).chain([0]).collect();
        Ok(self.lowerer.transposed(made, &back))
    }

    /// `where(condition, a, b)`.
    fn choose(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let name = inputs.node.label();
        let uniform = |i: usize| match inputs.get(i) {
            Some(Wire::Constant(a)) => a.uniform(),
            _ => None,
        };
        let condition = inputs.var(0)?;
        if let (Some(a), Some(b)) = (uniform(1), uniform(2)) {
            return self.lowerer.unary(name, condition, Unary::Choose(a, b));
        }
        for (i, x_if_true) in [(1, true), (2, false)] {
            if let (Some(Wire::Var(x)), Some(c)) = (inputs.get(i), uniform(3 - i))
                && let Some(f) = self.lowerer.clipped(&condition, x, c, x_if_true)
            {
                return self.lowerer.unary(name, x.clone(), f);
            }
        }
        // a * condition + b * (1 - condition): one of the products is a zero.
        let other = self.lowerer.unary(name, condition.clone(), Unary::Choose(0.0, 1.0))?;
        let mut part = |i: usize, gate: Var| match inputs.get(i) {
            Some(Wire::Constant(c)) => self.lowerer.with_constant(name, Binary::Mul, gate, c, false),
            Some(Wire::Var(v)) => self.lowerer.binary(name, Binary::Mul, v.clone(), gate),
            _ => Err(inputs.error("lacks an input")),
        };
        let (a, b) = (part(1, condition)?, part(2, other)?);
        self.lowerer.binary(name, Binary::Add, a, b)
    }

    /// Smooth functions, written with simpler ones.
    fn smooth(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, name, x) = (inputs.node, inputs.node.label(), inputs.var(0)?);
        let [exp, log, tanh, erf, sigmoid] =
            [Activation::Exp, Activation::Log, Activation::Tanh, Activation::Erf, Activation::Sigmoid]
                .map(Unary::Activation);
        let gate: Vec<Unary> = match node.op {
            "HardSwish" => vec![Unary::Mul(1.0 / 6.0), Unary::Add(0.5), Unary::Clip(0.0, 1.0)],
            "Swish" | "Silu" => vec![Unary::Mul(node.float("alpha", 1.0)?), sigmoid],
            "Gelu" if node.text("approximate", "none")? == "none" => {
                vec![Unary::Mul(std::f32::consts::FRAC_1_SQRT_2), erf, Unary::Add(1.0), Unary::Mul(0.5)]
            }
            // Beyond 80 the gate is 1.
            "Mish" => vec![Unary::Min(80.0), exp, Unary::Add(1.0), log, tanh],
            // max(x, 0) + log(1 + exp(-|x|)) does not overflow.
            "Softplus" => {
                let positive = self.lowerer.unary(name, x.clone(), Unary::Max(0.0))?;
                let rest = self.chain(name, x, &[Unary::Abs, Unary::Mul(-1.0), exp, Unary::Add(1.0), log])?;
                return self.lowerer.binary(name, Binary::Add, positive, rest);
            }
            "Elu" | "Selu" | "Celu" => {
                let selu = node.op == "Selu";
                let alpha = node.float("alpha", if selu { 1.673_263_2 } else { 1.0 })?;
                let gamma = node.float("gamma", if selu { 1.050_701 } else { 1.0 })?;
                let inner = if node.op == "Celu" { 1.0 / alpha } else { 1.0 };
                let positive = self.lowerer.unary(name, x.clone(), Unary::Max(0.0))?;
                let below = [Unary::Min(0.0), Unary::Mul(inner), exp, Unary::Sub(1.0), Unary::Mul(alpha)];
                let rest = self.chain(name, x, &below)?;
                let sum = self.lowerer.binary(name, Binary::Add, positive, rest)?;
                return self.lowerer.unary(name, sum, Unary::Mul(gamma));
            }
            "Softsign" => {
                let below = self.chain(name, x.clone(), &[Unary::Abs, Unary::Add(1.0)])?;
                return self.lowerer.binary(name, Binary::Div, x, below);
            }
            _ => return Err(inputs.error("is computed by an approximation that is not supported")),
        };
        let gate = self.chain(name, x.clone(), &gate)?;
        self.lowerer.binary(name, Binary::Mul, x, gate)
    }

    /// Functions of one number, one after the other.
    pub fn chain(&mut self, name: &str, mut x: Var, steps: &[Unary]) -> Result<Var> {
        for f in steps {
            x = self.lowerer.unary(name, x, *f)?;
        }
        Ok(x)
    }
}

/// The functions of one number that an operator is, one after the other.
fn unary_of(inputs: &Inputs<'_>) -> Result<Option<Vec<Unary>>> {
    let node = inputs.node;
    let activation = Unary::Activation;
    Ok(Some(vec![match node.op {
        "Relu" => Unary::Max(0.0),
        "LeakyRelu" => Unary::Leaky(node.float("alpha", 0.01)?),
        "Abs" => Unary::Abs,
        "Neg" => Unary::Mul(-1.0),
        "Sign" => Unary::Sign,
        "Round" => Unary::Round(Round::HalfEven),
        "Floor" => Unary::Round(Round::Floor),
        "Ceil" => Unary::Round(Round::Ceil),
        "Not" => Unary::Choose(0.0, 1.0),
        "Reciprocal" => Unary::DivInto(1.0),
        "Sqrt" => activation(Activation::Sqrt),
        "Exp" => activation(Activation::Exp),
        "Log" => activation(Activation::Log),
        "Erf" => activation(Activation::Erf),
        "Tanh" => activation(Activation::Tanh),
        "Sigmoid" => activation(Activation::Sigmoid),
        "HardSigmoid" => {
            let (alpha, beta) = (node.float("alpha", 0.2)?, node.float("beta", 0.5)?);
            return Ok(Some(vec![Unary::Mul(alpha), Unary::Add(beta), Unary::Clip(0.0, 1.0)]));
        }
        "Clip" => {
            let low = inputs.number(1, "min", f32::NEG_INFINITY)?;
            Unary::Clip(low, inputs.number(2, "max", f32::INFINITY)?)
        }
        "Cast" => match node.int("to", 1)? {
            1 | 10 | 11 | 16 => return Ok(Some(Vec::new())),
            9 => Unary::Choose(1.0, 0.0),
            2..=7 | 12 | 13 => Unary::Round(Round::ToZero),
            other => return Err(inputs.error(format!("converts to type {other}, which is not supported"))),
        },
        "CastLike" => return Ok(Some(Vec::new())),
        _ => return Ok(None),
    }]))
}

fn binary_of(op: &str) -> Option<Binary> {
    Some(match op {
        "Add" | "Sum" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" | "And" => Binary::Mul,
        "Div" => Binary::Div,
        "Max" | "Or" => Binary::Max,
        "Min" => Binary::Min,
        "PRelu" => Binary::Prelu,
        "Pow" => Binary::Pow,
        "Equal" => Binary::Compare(Compare::Equal),
        "Greater" => Binary::Compare(Compare::Greater),
        "GreaterOrEqual" => Binary::Compare(Compare::GreaterOrEqual),
        "Less" => Binary::Compare(Compare::Less),
        "LessOrEqual" => Binary::Compare(Compare::LessOrEqual),
        _ => return None,
    })
}
