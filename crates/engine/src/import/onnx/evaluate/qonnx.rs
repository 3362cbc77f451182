//! Operators of QONNX: arbitrary-precision quantisers, thresholds and the XNOR-popcount product.
//!
//! The arithmetic is that of the Python package qonnx 1.0 (`custom_op/general`), operation by operation in f32.

use super::Call;
use crate::error::{Error, Result};
use crate::import::array::{Array, Elements, broadcast, work};

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

/// How a number becomes an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, a tie to the even one: "ROUND" or "HALF_EVEN".
    HalfEven,
    /// Towards positive infinity.
    Ceil,
    /// Towards negative infinity.
    Floor,
    /// Away from 0.
    Up,
    /// Towards 0: "DOWN" or "ROUND_TO_ZERO".
    Down,
    /// To the nearest, a tie away from 0.
    HalfUp,
    /// To the nearest, a tie towards 0.
    HalfDown,
}

impl Rounding {
    /// By its name in QONNX, in any case.
    ///
    /// # Errors
    /// When there is no such rounding.
    pub fn of(name: &str) -> Result<Self> {
        Ok(match name.to_ascii_uppercase().as_str() {
            "ROUND" | "HALF_EVEN" => Rounding::HalfEven,
            "CEIL" => Rounding::Ceil,
            "FLOOR" => Rounding::Floor,
            "UP" => Rounding::Up,
            "DOWN" | "ROUND_TO_ZERO" => Rounding::Down,
            "HALF_UP" => Rounding::HalfUp,
            "HALF_DOWN" => Rounding::HalfDown,
            _ => return Err(Error::Model("its rounding mode is not known".into())),
        })
    }

    /// The integer for `x`.
    pub fn apply(self, x: f32) -> f32 {
        let sign = |magnitude: f32| if x == 0.0 { 0.0 } else { x.signum() * magnitude };
        match self {
            Rounding::HalfEven => x.round_ties_even(),
            Rounding::Ceil => x.ceil(),
            Rounding::Floor => x.floor(),
            Rounding::Up => sign(x.abs().ceil()),
            Rounding::Down => x.trunc(),
            Rounding::HalfUp => sign((x.abs() + 0.5).floor()),
            Rounding::HalfDown => sign((x.abs() - 0.5).ceil()),
        }
    }
}

/// Smallest and largest integer of so many bits; `narrow` leaves out one at the end where there is one more.
fn bounds(bits: u32, signed: bool, narrow: bool) -> (f32, f32) {
    let power = |bits: u32| 2f32.powi(bits as i32);
    let narrow = f32::from(u8::from(narrow));
    match signed {
        true => (narrow - power(bits - 1), power(bits - 1) - 1.0),
        false => (0.0, power(bits) - 1.0 - narrow),
    }
}

/// A quantiser for one scale: `Quant`, also called `IntQuant`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantParams {
    /// Step between neighbouring outputs.
    pub scale: f32,
    /// Integer whose output is 0.
    pub zero_point: f32,
    /// Width of the integers, at least 1. Signed integers of 1 bit are -1 and +1.
    pub bits: u32,
    /// Whether there are negative integers.
    pub signed: bool,
    /// Whether one integer at the end is left out.
    pub narrow: bool,
    /// How integers are made.
    pub rounding: Rounding,
}

impl QuantParams {
    /// Smallest integer.
    pub fn lowest(&self) -> f32 {
        if self.is_bipolar() { -1.0 } else { bounds(self.bits, self.signed, self.narrow).0 }
    }

    /// Largest integer.
    pub fn highest(&self) -> f32 {
        if self.is_bipolar() { 1.0 } else { bounds(self.bits, self.signed, self.narrow).1 }
    }

    fn is_bipolar(&self) -> bool {
        self.bits == 1 && self.signed
    }

    /// The output for `x`: an integer less the zero point, times the scale.
    pub fn apply(&self, x: f32) -> f32 {
        let mut y = x / self.scale + self.zero_point;
        if self.is_bipolar() {
            y = if y >= 0.0 { 1.0 } else { -1.0 };
        } else {
            let (low, high) = bounds(self.bits, self.signed, self.narrow);
            y = if y > high { high } else { y };
            y = if y < low { low } else { y };
            y = self.rounding.apply(y);
        }
        (y - self.zero_point) * self.scale
    }
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

fn quant(call: &Call) -> Result<Array> {
    let rounding = Rounding::of(call.node.text("rounding_mode", "ROUND")?)?;
    let (signed, narrow) = (call.flag("signed", true)?, call.flag("narrow", true)?);
    let bits = bits(call, 3)?;
    zip3(call.input(0)?, call.input(1)?, call.input(2)?, |x, scale, zero_point| {
        QuantParams { scale, zero_point, bits, signed, narrow, rounding }.apply(x)
    })
}

/// `Trunc`, which drops low bits, for one scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruncParams {
    /// Step between neighbouring inputs.
    pub scale: f32,
    /// Integer whose input is 0.
    pub zero_point: f32,
    /// Power of 2 by which integers are divided.
    pub divisor: f32,
    /// Bounds of the quotient, in the second version of the operator only.
    pub bounds: Option<(f32, f32)>,
    /// How the quotient becomes an integer.
    pub rounding: Rounding,
    /// Integer whose output is 0.
    pub out_zero_point: f32,
    /// Step between neighbouring outputs.
    pub out_scale: f32,
}

impl TruncParams {
    /// The output for `x`.
    pub fn apply(&self, x: f32) -> f32 {
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
    let rounding = Rounding::of(call.node.text("rounding_mode", "FLOOR")?)?;
    let (x, scale, zero) = (call.input(0)?, call.input(1)?, call.input(2)?);
    if call.inputs.len() == 5 {
        let divisor = 2f32.powf(call.scalar(3)? - call.scalar(4)?);
        return zip3(x, scale, zero, |x, scale, zero_point| {
            let (out_zero_point, out_scale) = (zero_point, scale);
            let bounds = None;
            TruncParams { scale, zero_point, divisor, bounds, rounding, out_zero_point, out_scale }.apply(x)
        });
    }
    let bounds = Some(bounds(bits(call, 5)?, call.flag("signed", true)?, call.flag("narrow", false)?));
    let out_scale = call.scalar(4)?;
    zip3(x, scale, zero, |x, scale, zero_point| {
        let divisor = (out_scale / scale).log2().round_ties_even().exp2();
        let out_zero_point = zero_point / divisor;
        TruncParams { scale, zero_point, divisor, bounds, rounding, out_zero_point, out_scale }.apply(x)
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
