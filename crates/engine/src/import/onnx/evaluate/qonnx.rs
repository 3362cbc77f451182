//! Operators of QONNX: arbitrary-precision quantisers, thresholds and the XNOR-popcount product.
//!
//! The arithmetic is that of the Python package qonnx 1.0 (`custom_op/general`), operation by operation in f32.

use super::Call;
use crate::error::{Error, Result};
use crate::import::array::{Array, Elements, broadcast, work};
use crate::import::lower::unary::{Quantizer, Round, bounds};

pub(super) fn evaluate(call: &Call) -> Result<Option<Vec<Array>>> {
    let array = match call.op {
        "BipolarQuant" => {
            let (x, scale) = (call.input(0)?, call.input(1)?);
            x.zip(scale, |x, s| if x >= 0.0 { s } else { -s }, |x, _| Ok(x))?
        }
        "Quant" | "IntQuant" => quant(call)?,
        "Trunc" => trunc(call)?,
        "MultiThreshold" => multi_threshold(call)?,
        "XnorPopcountMatMul" => {
            let (a, b) = (call.input(0)?, call.input(1)?);
            let k = *a.shape.last().unwrap_or(&0) as f32;
            let product = a.map(|v| 2.0 * v - 1.0)?.multiplied(&b.map(|v| 2.0 * v - 1.0)?)?;
            product.map(|v| (v + k) * 0.5)?
        }
        _ => return Ok(None),
    };
    Ok(Some(vec![array]))
}

/// A number of bits that an input gives as a float.
fn bits(call: &Call, i: usize) -> Result<u32> {
    match call.scalar(i)? {
        v if (1.0..=32.0).contains(&v) && v.fract() == 0.0 => Ok(v as u32),
        v => Err(Error::Model(format!("{v} is no number of bits from 1 to 32"))),
    }
}

/// `f` of the elements of three arrays that are expanded to each other's shape.
fn zip3(x: &Array, y: &Array, z: &Array, f: impl Fn(f32, f32, f32) -> f32) -> Result<Array> {
    let shape = broadcast([&x.shape[..], &y.shape, &z.shape])?;
    let (x, y, z) = (x.expanded(&shape)?, y.expanded(&shape)?, z.expanded(&shape)?);
    let rest = y.floats()?.iter().zip(z.floats()?);
    let values = x.floats()?.iter().zip(rest).map(|(x, (y, z))| f(*x, *y, *z)).collect();
    Array::new(shape, Elements::F32(values))
}

fn rounding(call: &Call, default: &str) -> Result<Round> {
    let named = Round::named(call.node.text("rounding_mode", default)?);
    named.ok_or_else(|| Error::Model("its rounding mode is not known".into()))
}

/// `Quant`, also called `IntQuant`. Signed integers of one bit are -1 and +1.
fn quant(call: &Call) -> Result<Array> {
    let rounding = rounding(call, "ROUND")?;
    let (signed, narrow) = (call.flag("signed", true)?, call.flag("narrow", false)?);
    let bits = bits(call, 3)?;
    let (lowest, highest) = bounds(bits, signed, narrow);
    zip3(call.input(0)?, call.input(1)?, call.input(2)?, |x, scale, zero| match bits == 1 && signed {
        true => ((if x / scale + zero >= 0.0 { 1.0 } else { -1.0 }) - zero) * scale,
        false => Quantizer { scale, zero, lowest, highest, rounding }.apply(x),
    })
}

/// `Trunc`, which drops low bits, for one scale.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Trunc {
    /// Step between neighbouring inputs.
    scale: f32,
    /// Integer whose input is 0.
    zero_point: f32,
    /// Power of 2 by which integers are divided.
    divisor: f32,
    /// Bounds of the quotient, in the second version of the operator only.
    bounds: Option<(f32, f32)>,
    /// How the quotient becomes an integer.
    rounding: Round,
    /// Integer whose output is 0.
    out_zero_point: f32,
    /// Step between neighbouring outputs.
    out_scale: f32,
}

impl Trunc {
    /// The output for `x`.
    fn apply(&self, x: f32) -> f32 {
        let mut y = (x / self.scale + self.zero_point).round_ties_even() / self.divisor;
        if let Some((low, high)) = self.bounds {
            y = if y > high { high } else { y };
            y = if y < low { low } else { y };
        }
        (self.rounding.apply(y) - self.out_zero_point) * self.out_scale
    }
}

/// Five inputs are the first version of the operator, six the second.
fn trunc(call: &Call) -> Result<Array> {
    let rounding = rounding(call, "FLOOR")?;
    let (x, scale, zero) = (call.input(0)?, call.input(1)?, call.input(2)?);
    if call.inputs.len() == 5 {
        let divisor = 2f32.powf(call.scalar(3)? - call.scalar(4)?);
        return zip3(x, scale, zero, |x, scale, zero_point| {
            let (out_zero_point, out_scale) = (zero_point, scale);
            let bounds = None;
            Trunc { scale, zero_point, divisor, bounds, rounding, out_zero_point, out_scale }.apply(x)
        });
    }
    let bounds = Some(bounds(bits(call, 5)?, call.flag("signed", true)?, call.flag("narrow", false)?));
    let out_scale = call.scalar(4)?;
    zip3(x, scale, zero, |x, scale, zero_point| {
        let divisor = (out_scale / scale).log2().round_ties_even().exp2();
        let out_zero_point = zero_point / divisor;
        Trunc { scale, zero_point, divisor, bounds, rounding, out_zero_point, out_scale }.apply(x)
    })
}

/// How many thresholds of its channel an element reaches. Without a layout it depends on the number of axes.
fn multi_threshold(call: &Call) -> Result<Array> {
    let (x, thresholds) = (call.input(0)?, call.input(1)?);
    let layout = match (call.node.text("data_layout", "")?, x.shape.len()) {
        ("", 2) => "NC",
        ("", 3) => "NWC",
        ("", _) => "NCHW",
        (given, _) => given,
    };
    let axis = x.axis(layout.find('C').unwrap_or(1) as i64)?;
    let [channels, steps] = thresholds.shape[..] else {
        return Err(Error::Model("its thresholds have no channels and steps".into()));
    };
    if channels != 1 && channels != x.shape[axis] {
        return Err(Error::Model(format!(
            "it has {channels} rows of thresholds for {} channels",
            x.shape[axis]
        )));
    }
    work(&[x.len(), steps])?;
    let (scale, bias) = (call.node.float("out_scale", 1.0)?, call.node.float("out_bias", 0.0)?);
    let thresholds = thresholds.floats()?;
    let inner: usize = x.shape[axis + 1..].iter().product();
    let values = x.floats()?.iter().enumerate().map(|(i, x)| {
        let channel = i / inner % channels.max(1);
        let reached = thresholds[channel * steps..][..steps].iter().filter(|t| x >= *t).count();
        scale * reached as f32 + bias
    });
    Array::new(x.shape.clone(), Elements::F32(values.collect()))
}
