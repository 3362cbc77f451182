//! Built-in ops of single elements.

use super::layers::activated;
use super::network::{Kind, Live, Network, Node, Value};
use super::schema::Format;
use crate::error::Result;
use crate::import::array::{Array, Elements};
use crate::import::lower::Binary;
use crate::import::lower::unary::{Compare, Round, Unary};
use onebit_core::ops::Activation;

/// The result of the op, or `None` when it is no op of single elements that is known.
pub fn translate(network: &mut Network<'_>, node: &Node<'_>) -> Result<Option<Value>> {
    let truth = |compare| (Binary::Compare(compare), false);
    let two = match node.op.name.as_ref() {
        "ADD" => (Binary::Add, true),
        "SUB" => (Binary::Sub, true),
        "MUL" => (Binary::Mul, true),
        "DIV" => (Binary::Div, true),
        "MAXIMUM" => (Binary::Max, false),
        "MINIMUM" => (Binary::Min, false),
        "PRELU" => (Binary::Prelu, false),
        "POW" => (Binary::Pow, false),
        "LOGICAL_AND" => (Binary::Mul, false),
        "LOGICAL_OR" => (Binary::Max, false),
        "EQUAL" => truth(Compare::Equal),
        "GREATER" => truth(Compare::Greater),
        "GREATER_EQUAL" => truth(Compare::GreaterOrEqual),
        "LESS" => truth(Compare::Less),
        "LESS_EQUAL" => truth(Compare::LessOrEqual),
        _ => return one(network, node),
    };
    let (a, b) = (floats(network, node, 0)?, floats(network, node, 1)?);
    let result = combined(network, node, two.0, a, b)?;
    let activation = if two.1 { node.op.options.choice(0)? } else { 0 };
    activated(network, node, result, activation).map(Some)
}

/// Ops of one value, and those that are made of several.
fn one(network: &mut Network<'_>, node: &Node<'_>) -> Result<Option<Value>> {
    let steps = match node.op.name.as_ref() {
        "RELU" => vec![Unary::Max(0.0)],
        "RELU6" => vec![Unary::Clip(0.0, 6.0)],
        "RELU_N1_TO_1" => vec![Unary::Clip(-1.0, 1.0)],
        "RELU_0_TO_1" => vec![Unary::Clip(0.0, 1.0)],
        "LEAKY_RELU" => vec![Unary::Leaky(node.op.options.float(0, 0.0)?)],
        "LOGISTIC" => vec![Unary::Activation(Activation::Sigmoid)],
        "TANH" => vec![Unary::Activation(Activation::Tanh)],
        "ABS" => vec![Unary::Abs],
        "NEG" => vec![Unary::Mul(-1.0)],
        "SQUARE" => vec![Unary::Pow(2.0)],
        "SQRT" => vec![Unary::Activation(Activation::Sqrt)],
        "RSQRT" => vec![Unary::Activation(Activation::Sqrt), Unary::DivInto(1.0)],
        "EXP" => vec![Unary::Activation(Activation::Exp)],
        "LOG" => vec![Unary::Activation(Activation::Log)],
        "SIGN" => vec![Unary::Sign],
        "ROUND" => vec![Unary::Round(Round::HalfEven)],
        "FLOOR" => vec![Unary::Round(Round::Floor)],
        "CEIL" => vec![Unary::Round(Round::Ceil)],
        "LOGICAL_NOT" => vec![Unary::SubFrom(1.0)],
        // Reading dequantises, and writing quantises, by what the tensors say.
        "QUANTIZE" | "DEQUANTIZE" => vec![],
        "CAST" => cast(network, node)?,
        "HARD_SWISH" => return hard_swish(network, node).map(Some),
        "SELECT" | "SELECT_V2" => return select(network, node).map(Some),
        "ELU" => return elu(network, node).map(Some),
        "GELU" => return gelu(network, node).map(Some),
        "SQUARED_DIFFERENCE" => {
            let (a, b) = (floats(network, node, 0)?, floats(network, node, 1)?);
            let difference = combined(network, node, Binary::Sub, a, b)?;
            return applied(network, node, difference, Unary::Pow(2.0)).map(Some);
        }
        "NOT_EQUAL" => {
            let (a, b) = (floats(network, node, 0)?, floats(network, node, 1)?);
            let equal = combined(network, node, Binary::Compare(Compare::Equal), a, b)?;
            return applied(network, node, equal, Unary::SubFrom(1.0)).map(Some);
        }
        "ADD_N" => {
            let first = floats(network, node, 0)?;
            let sum = (1..node.op.inputs.len()).try_fold(first, |sum, i| {
                let next = floats(network, node, i)?;
                combined(network, node, Binary::Add, sum, next)
            });
            return sum.map(Some);
        }
        _ => return Ok(None),
    };
    let x = network.real(node, 0)?;
    chain(network, node, x, &steps).map(Some)
}

/// Functions of one number, one after the other.
fn chain(network: &mut Network<'_>, node: &Node<'_>, x: Value, steps: &[Unary]) -> Result<Value> {
    steps.iter().try_fold(x, |x, f| applied(network, node, x, *f))
}

/// Input `i` as real numbers. Those of codes are floats from here on: what differs between channels or rises and falls
/// would make uneven levels of 256 codes.
fn floats(network: &mut Network<'_>, node: &Node<'_>, i: usize) -> Result<Value> {
    let codes = matches!(network.stored(node, i)?, Value::Live(live) if live.kind == Kind::Codes);
    match network.real(node, i)? {
        Value::Live(live) if codes => {
            let var = network.lowerer.floats(&node.name, live.var.clone())?;
            Ok(Value::Live(live.with(var)))
        }
        value => Ok(value),
    }
}

/// A function of one number, of every element.
pub fn applied(network: &mut Network<'_>, node: &Node<'_>, x: Value, f: Unary) -> Result<Value> {
    match x {
        Value::Live(live) => {
            let var = network.lowerer.unary(&node.name, live.var.clone(), f)?;
            Ok(Value::Live(live.with(var)))
        }
        Value::Constant(array) => {
            let values = array.to_f32().into_iter().map(|x| f.apply(x)).collect();
            Array::new(array.shape, Elements::F32(values)).map(Value::Constant)
        }
    }
}

/// A function of two numbers, with the shorter value repeated.
fn combined(network: &mut Network<'_>, node: &Node<'_>, f: Binary, a: Value, b: Value) -> Result<Value> {
    let lowerer = &mut network.lowerer;
    match (a, b) {
        (Value::Live(a), Value::Live(b)) => {
            let batch = a.batch || b.batch;
            let var = lowerer.binary(&node.name, f, a.var.clone(), b.var)?;
            Ok(Value::Live(Live { batch, ..a.with(var) }))
        }
        (Value::Live(live), Value::Constant(array)) => {
            let var = lowerer.with_constant(&node.name, f, live.var.clone(), &array, false)?;
            Ok(Value::Live(live.with(var)))
        }
        (Value::Constant(array), Value::Live(live)) => {
            let var = lowerer.with_constant(&node.name, f, live.var.clone(), &array, true)?;
            Ok(Value::Live(live.with(var)))
        }
        (Value::Constant(a), Value::Constant(b)) => {
            // Only shapes are computed from constants: equal lengths, or one number.
            let (x, y) = (a.to_f32(), b.to_f32());
            let shape = match (x.len(), y.len()) {
                (_, 1) => a.shape,
                (1, _) => b.shape,
                (m, n) if m == n => a.shape,
                _ => return Err(node.error("combines constants of different shapes, which is not supported")),
            };
            let n = x.len().max(y.len());
            let values =
                x.iter().cycle().zip(y.iter().cycle()).take(n).map(|(a, b)| f.apply(*a, *b)).collect();
            Array::new(shape, Elements::F32(values)).map(Value::Constant)
        }
    }
}

/// Between formats: floats are cut to integers, and numbers become truth.
fn cast(network: &Network<'_>, node: &Node<'_>) -> Result<Vec<Unary>> {
    let format = |i: Option<usize>| match i.map(|i| network.model.tensor(i)).transpose()? {
        Some(tensor) => Ok(tensor.format),
        None => Err(node.error("lacks an input or output")),
    };
    let (from, to) = (format(node.optional(0))?, format(node.op.outputs.first().copied())?);
    Ok(match to {
        Format::Bool if from != Format::Bool => vec![Unary::Abs, Unary::Compare(Compare::Greater, 0.0)],
        Format::Int(_) | Format::U8 if from.is_float() => vec![Unary::Round(Round::ToZero)],
        Format::Other(_) => return Err(node.error(format!("casts to {to:?}, which is not supported"))),
        _ => vec![],
    })
}

/// `x >= 0 ? x : exp(x) - 1`.
fn elu(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let x = floats(network, node, 0)?;
    let exp = Unary::Activation(Activation::Exp);
    let below = chain(network, node, x.clone(), &[Unary::Min(0.0), exp, Unary::Sub(1.0)])?;
    let above = applied(network, node, x, Unary::Max(0.0))?;
    combined(network, node, Binary::Add, above, below)
}

/// `x * (1 + erf(x / sqrt(2))) / 2`, or its approximation `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`.
fn gelu(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let x = floats(network, node, 0)?;
    let gate = match node.op.options.flag(0)? {
        true => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let slope = [Unary::Pow(2.0), Unary::Mul((0.044_715 * root) as f32), Unary::Add(root as f32)];
            let slope = chain(network, node, x.clone(), &slope)?;
            let inner = combined(network, node, Binary::Mul, x.clone(), slope)?;
            applied(network, node, inner, Unary::Activation(Activation::Tanh))?
        }
        false => {
            let steps = [Unary::Mul(std::f32::consts::FRAC_1_SQRT_2), Unary::Activation(Activation::Erf)];
            chain(network, node, x.clone(), &steps)?
        }
    };
    let gate = chain(network, node, gate, &[Unary::Add(1.0), Unary::Mul(0.5)])?;
    combined(network, node, Binary::Mul, x, gate)
}

/// `x * min(max(x + 3, 0), 6) / 6`.
fn hard_swish(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let x = floats(network, node, 0)?;
    let gate = chain(network, node, x.clone(), &[Unary::Add(3.0), Unary::Clip(0.0, 6.0)])?;
    let product = combined(network, node, Binary::Mul, x, gate)?;
    applied(network, node, product, Unary::Div(6.0))
}

/// `condition ? a : b`, as a sum of which one part is 0.
fn select(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let condition = network.real(node, 0)?;
    let (a, b) = (floats(network, node, 1)?, floats(network, node, 2)?);
    let otherwise = applied(network, node, condition.clone(), Unary::SubFrom(1.0))?;
    let a = combined(network, node, Binary::Mul, condition, a)?;
    let b = combined(network, node, Binary::Mul, otherwise, b)?;
    combined(network, node, Binary::Add, a, b)
}
