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
        _ => return Ok(None),
    };
    let x = network.real(node, 0)?;
    steps.into_iter().try_fold(x, |x, f| applied(network, node, x, f)).map(Some)
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

/// `x * min(max(x + 3, 0), 6) / 6`.
fn hard_swish(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let x = floats(network, node, 0)?;
    let mut gate = x.clone();
    for f in [Unary::Add(3.0), Unary::Clip(0.0, 6.0)] {
        gate = applied(network, node, gate, f)?;
    }
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
