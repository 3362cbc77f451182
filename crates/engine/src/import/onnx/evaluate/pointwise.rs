//! Operators on each element: arithmetic, functions, comparisons and casts.

use super::Call;
use crate::error::{Error, Result};
use crate::import::array::{Array, Elements, maximum, minimum};
use crate::import::onnx::tensors::{Type, type_name};

pub(super) fn evaluate(call: &Call) -> Result<Option<Array>> {
    if let Some(function) = function(call)? {
        return call.input(0)?.map(function).map(Some);
    }
    let pair = || Ok::<_, Error>((call.input(0)?, call.input(1)?));
    Ok(Some(match call.op {
        "Add" | "Sub" | "Mul" | "Div" | "Mod" => arithmetic(call)?,
        "Sum" => fold(call, |a, b| a + b, i64::wrapping_add)?,
        "Min" => fold(call, minimum, i64::min)?,
        "Max" => fold(call, maximum, i64::max)?,
        "Pow" => power(call.input(0)?, call.input(1)?)?,
        "Neg" => sign_of(call.input(0)?, |x| -x, i64::wrapping_neg)?,
        "Abs" => sign_of(call.input(0)?, f32::abs, i64::wrapping_abs)?,
        "Sign" => {
            // Not a number has the sign 0.
            sign_of(call.input(0)?, |x| f32::from(i8::from(x > 0.0) - i8::from(x < 0.0)), i64::signum)?
        }
        "Relu" => sign_of(call.input(0)?, |x| if x < 0.0 { 0.0 } else { x }, |x| x.max(0))?,
        "PRelu" => {
            let (x, slope) = pair()?;
            x.zip(
                slope,
                |x, s| if x < 0.0 { s * x } else { x },
                |x, s| Ok(if x < 0 { s.wrapping_mul(x) } else { x }),
            )?
        }
        "Clip" => clip(call)?,
        "Cast" => return cast(call.input(0)?, call.node.int("to", 0)?),
        "CastLike" => match &call.input(1)?.elements {
            Elements::F32(_) => return cast(call.input(0)?, 1),
            Elements::I64(_) => return cast(call.input(0)?, 7),
            Elements::Bool(_) => return cast(call.input(0)?, 9),
        },
        "Equal" => pair().and_then(|(a, b)| a.compare(b, |a, b| a == b, |a, b| a == b, |a, b| a == b))?,
        "Greater" => pair().and_then(|(a, b)| a.compare(b, |a, b| a > b, |a, b| a > b, |a, b| a & !b))?,
        "GreaterOrEqual" => {
            pair().and_then(|(a, b)| a.compare(b, |a, b| a >= b, |a, b| a >= b, |a, b| a | !b))?
        }
        "Less" => pair().and_then(|(a, b)| a.compare(b, |a, b| a < b, |a, b| a < b, |a, b| !a & b))?,
        "LessOrEqual" => {
            pair().and_then(|(a, b)| a.compare(b, |a, b| a <= b, |a, b| a <= b, |a, b| !a | b))?
        }
        "And" => logic(call, |a, b| a & b)?,
        "Or" => logic(call, |a, b| a | b)?,
        "Xor" => logic(call, |a, b| a ^ b)?,
        "Not" => {
            let x = call.input(0)?;
            let elements = Elements::Bool(x.truths()?.iter().map(|v| !v).collect());
            Array { shape: x.shape.clone(), elements }
        }
        "Where" => call.input(0)?.choose(call.input(1)?, call.input(2)?)?,
        _ => return Ok(None),
    }))
}

type Function = Box<dyn Fn(f32) -> f32>;

/// Functions of one float.
fn function(call: &Call) -> Result<Option<Function>> {
    /// Rounded once from double precision.
    fn precise(f: impl Fn(f64) -> f64 + 'static) -> Function {
        Box::new(move |x| f(f64::from(x)) as f32)
    }
    let function: Function = match call.op {
        "Sqrt" => Box::new(f32::sqrt),
        "Floor" => Box::new(f32::floor),
        "Ceil" => Box::new(f32::ceil),
        "Round" => Box::new(f32::round_ties_even),
        "Reciprocal" => Box::new(|x| 1.0 / x),
        "Exp" => precise(f64::exp),
        "Log" => precise(f64::ln),
        "Tanh" => precise(f64::tanh),
        "Sigmoid" => precise(|x| 1.0 / (1.0 + (-x).exp())),
        "Softplus" => precise(|x| x.exp().ln_1p()),
        "Erf" => precise(libm::erf),
        "LeakyRelu" => {
            let alpha = call.node.float("alpha", 0.01)?;
            Box::new(move |x| if x < 0.0 { alpha * x } else { x })
        }
        "HardSigmoid" => {
            let (alpha, beta) = (call.node.float("alpha", 0.2)?, call.node.float("beta", 0.5)?);
            Box::new(move |x| maximum(0.0, minimum(1.0, alpha * x + beta)))
        }
        _ => return Ok(None),
    };
    Ok(Some(function))
}

/// Integers wrap, as they do in onnxruntime.
fn arithmetic(call: &Call) -> Result<Array> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let by_zero = || Error::Model("it divides an integer by 0".into());
    match call.op {
        "Add" => a.zip(b, |a, b| a + b, |a, b| Ok(a.wrapping_add(b))),
        "Sub" => a.zip(b, |a, b| a - b, |a, b| Ok(a.wrapping_sub(b))),
        "Mul" => a.zip(b, |a, b| a * b, |a, b| Ok(a.wrapping_mul(b))),
        "Div" => {
            let quotient = |a: i64, b: i64| if b == 0 { Err(by_zero()) } else { Ok(a.wrapping_div(b)) };
            a.zip(b, |a, b| a / b, quotient)
        }
        // With `fmod` the sign is that of the dividend, without that of the divisor.
        _ if call.flag("fmod", false)? => {
            a.zip(b, |a, b| a % b, |a, b| if b == 0 { Err(by_zero()) } else { Ok(a.wrapping_rem(b)) })
        }
        _ => a.zip(
            b,
            |a, b| a - b * (a / b).floor(),
            |a, b| match b {
                0 => Err(by_zero()),
                b => {
                    let rest = a.wrapping_rem(b);
                    Ok(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
                }
            },
        ),
    }
}

fn fold(call: &Call, floats: fn(f32, f32) -> f32, ints: fn(i64, i64) -> i64) -> Result<Array> {
    let inputs = call.all()?;
    let mut result = inputs[0].clone();
    for input in &inputs[1..] {
        result = result.zip(input, floats, |a, b| Ok(ints(a, b)))?;
    }
    Ok(result)
}

fn sign_of(x: &Array, floats: fn(f32) -> f32, ints: fn(i64) -> i64) -> Result<Array> {
    match &x.elements {
        Elements::I64(v) => {
            let elements = Elements::I64(v.iter().map(|v| ints(*v)).collect());
            Ok(Array { shape: x.shape.clone(), elements })
        }
        _ => x.map(floats),
    }
}

/// The exponent may have another type; the result has that of the base.
fn power(x: &Array, y: &Array) -> Result<Array> {
    let float = |a: &Array| Array::new(a.shape.clone(), Elements::F32(a.to_f32()));
    // Squares and cubes are products in onnxruntime.
    let power = |x: f32, y: f32| match y {
        2.0 => x * x,
        3.0 => x * x * x,
        y => f64::from(x).powf(f64::from(y)) as f32,
    };
    let large = || Error::Model("a power of integers is too large, or its exponent negative".into());
    let whole = |x: i64, y: i64| u32::try_from(y).ok().and_then(|y| x.checked_pow(y)).ok_or_else(large);
    match (&x.elements, &y.elements) {
        (Elements::I64(_), Elements::F32(_)) => match cast(&float(x)?.zip(y, power, whole)?, 7)? {
            Some(result) => Ok(result),
            None => Err(large()),
        },
        (Elements::F32(_), Elements::I64(_)) => x.zip(&float(y)?, power, whole),
        _ => x.zip(y, power, whole),
    }
}

fn clip(call: &Call) -> Result<Array> {
    let x = call.input(0)?;
    let (mut low, mut high) = (call.optional(1).cloned(), call.optional(2).cloned());
    if call.opset < 11 {
        low = Some(Array::scalar(call.node.float("min", f32::MIN)?));
        high = Some(Array::scalar(call.node.float("max", f32::MAX)?));
    }
    let mut result = x.clone();
    for (bound, floats, ints) in [
        (low, maximum as fn(f32, f32) -> f32, i64::max as fn(i64, i64) -> i64),
        (high, minimum as fn(f32, f32) -> f32, i64::min as fn(i64, i64) -> i64),
    ] {
        if let Some(bound) = bound {
            result = result.zip(&bound.reshaped(Vec::new())?, floats, |a, b| Ok(ints(a, b)))?;
        }
    }
    Ok(result)
}

fn logic(call: &Call, f: fn(bool, bool) -> bool) -> Result<Array> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    a.truths()?;
    a.compare(b, |_, _| false, |_, _| false, f)
}

/// To a `TensorProto.DataType`; `None` for types that are no numbers.
fn cast(x: &Array, to: i64) -> Result<Option<Array>> {
    let to = i32::try_from(to).unwrap_or(0);
    let Some(kind) = Type::of(to) else { return Ok(None) };
    let rounded =
        |digits, lowest, most| x.to_f32().iter().map(|v| rounded(*v, digits, lowest, most)).collect();
    let outside = |v: &dyn std::fmt::Display| Error::Model(format!("{v} is no {}", type_name(to)));
    let elements = match (kind, &x.elements) {
        (Type::F32 | Type::F64, _) => Elements::F32(x.to_f32()),
        (Type::F16, _) => Elements::F32(rounded(10, -14, 65504.0)),
        (Type::Bf16, _) => Elements::F32(rounded(7, -126, f64::from(f32::from_bits(0x7f7f_0000)))),
        (Type::Bool, Elements::F32(v)) => Elements::Bool(v.iter().map(|v| *v != 0.0).collect()),
        (Type::Bool, Elements::I64(v)) => Elements::Bool(v.iter().map(|v| *v != 0).collect()),
        (Type::Bool, Elements::Bool(v)) => Elements::Bool(v.clone()),
        (Type::Int(..), Elements::Bool(v)) => Elements::I64(v.iter().map(|v| i64::from(*v)).collect()),
        // Fractions are cut off; what does not fit is undefined in ONNX.
        (Type::Int(bits, signed), Elements::F32(v)) => {
            let most = 2f64.powi(if signed { bits as i32 - 1 } else { (bits as i32).min(63) });
            let least = if signed { -most } else { 0.0 };
            let cut = |v: &f32| match f64::from(*v).trunc() {
                whole if whole >= least && whole < most => Ok(whole as i64),
                _ => Err(outside(v)),
            };
            Elements::I64(v.iter().map(cut).collect::<Result<_>>()?)
        }
        (Type::Int(64, false), Elements::I64(v)) => {
            let positive = |v: &i64| if *v < 0 { Err(outside(v)) } else { Ok(*v) };
            Elements::I64(v.iter().map(positive).collect::<Result<_>>()?)
        }
        // The low bits stay.
        (Type::Int(bits, signed), Elements::I64(v)) => {
            let shift = 64 - bits as u32;
            let wrap = |v: &i64| match signed {
                true => v << shift >> shift,
                false => ((*v as u64) << shift >> shift) as i64,
            };
            Elements::I64(v.iter().map(wrap).collect())
        }
    };
    Array::new(x.shape.clone(), elements).map(Some)
}

/// The nearest float of so many binary digits behind the leading one and so low an exponent, with even digits on a tie.
fn rounded(x: f32, digits: i32, lowest: i32, most: f64) -> f32 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let x = f64::from(x);
    // The exponent of a normal double: all floats are.
    let exponent = (x.abs().to_bits() >> 52) as i32 - 1023;
    let quantum = 2f64.powi(exponent.max(lowest) - digits);
    let value = (x / quantum).round_ties_even() * quantum;
    if value.abs() > most { f32::INFINITY.copysign(x as f32) } else { value as f32 }
}
