//! Affine maps of constants: QuantizeLinear, DequantizeLinear and BatchNormalization.

use super::Call;
use crate::error::{Error, Result};
use crate::import::array::{Array, Elements};
use crate::import::onnx::proto::Node;
use std::borrow::Cow;

pub(super) fn evaluate(call: &Call) -> Result<Option<Array>> {
    match call.op {
        "DequantizeLinear" => dequantize(call),
        // The type of a zero point is that of the result, and arrays do not keep it.
        "QuantizeLinear" => match (call.node.int("output_dtype", 0)?, call.optional(2)) {
            (0, Some(_)) => Ok(None),
            (0, None) => quantize_linear(call.node, call.input(0)?, call.input(1)?, None, 2),
            (to, zero) => quantize_linear(call.node, call.input(0)?, call.input(1)?, zero, to as i32),
        },
        "BatchNormalization" if call.node.outputs.len() == 1 => batch_norm(call).map(Some),
        _ => Ok(None),
    }
}

/// One value, or one for each index of `axis`, expanded to `shape`; `None` if it is neither.
fn along<'a>(values: &'a Array, shape: &[usize], axis: usize) -> Result<Option<Cow<'a, Array>>> {
    if values.len() == 1 {
        let value = values.reshaped(Vec::new())?;
        return Ok(Some(Cow::Owned(value.expanded(shape)?.into_owned())));
    }
    if values.shape.len() != 1 || shape.get(axis) != Some(&values.len()) {
        return Ok(None);
    }
    let mut aligned = vec![1; shape.len()];
    aligned[axis] = values.len();
    let aligned = values.reshaped(aligned)?;
    Ok(Some(Cow::Owned(aligned.expanded(shape)?.into_owned())))
}

/// The axis of scales; one scale needs none.
fn axis(node: &Node, x: &Array, scale: &Array) -> Result<usize> {
    if scale.len() == 1 { Ok(0) } else { x.axis(node.int("axis", 1)?) }
}

/// Smallest and largest code of an ONNX type, `None` for types other than integers of 4 to 16 bits.
pub fn code_range(data_type: i32) -> Option<(i64, i64)> {
    Some(match data_type {
        2 => (0, 255),
        3 => (-128, 127),
        4 => (0, 65_535),
        5 => (-32_768, 32_767),
        21 => (0, 15),
        22 => (-8, 7),
        _ => return None,
    })
}

/// `round(x / scale) + zero_point` with ties to even, saturated to `data_type`, which is that of the zero point.
/// `None` for types other than integers of 4 to 16 bits, and for scales of blocks.
///
/// # Errors
/// When shapes or types do not fit.
pub fn quantize_linear(
    node: &Node,
    x: &Array,
    scale: &Array,
    zero_point: Option<&Array>,
    data_type: i32,
) -> Result<Option<Array>> {
    let Some((lowest, highest)) = code_range(data_type) else { return Ok(None) };
    let at = axis(node, x, scale)?;
    let zero = Array { shape: Vec::new(), elements: Elements::I64(vec![0]) };
    let (scales, zeros) = (along(scale, &x.shape, at)?, along(zero_point.unwrap_or(&zero), &x.shape, at)?);
    let (Some(scales), Some(zeros)) = (scales, zeros) else { return Ok(None) };
    let pairs = scales.floats()?.iter().zip(zeros.integers()?);
    let code = |(x, (s, z)): (&f32, (&f32, &i64))| {
        // The cast saturates and takes what is not a number to 0.
        ((x / s).round_ties_even() as i64).saturating_add(*z).clamp(lowest, highest)
    };
    let codes = x.floats()?.iter().zip(pairs).map(code).collect();
    Array::new(x.shape.clone(), Elements::I64(codes)).map(Some)
}

fn dequantize(call: &Call) -> Result<Option<Array>> {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let at = axis(call.node, x, scale)?;
    let zero = super::int(0);
    let zero = call.optional(2).unwrap_or(&zero);
    let (scales, zeros) = (along(scale, &x.shape, at)?, along(zero, &x.shape, at)?);
    let (Some(scales), Some(zeros)) = (scales, zeros) else { return Ok(None) };
    let pairs = scales.floats()?.iter().zip(zeros.integers()?);
    let value = |(q, (s, z)): (&i64, (&f32, &i64))| q.wrapping_sub(*z) as f32 * s;
    let values = x.integers()?.iter().zip(pairs).map(value).collect();
    Array::new(x.shape.clone(), Elements::F32(values)).map(Some)
}

/// As onnxruntime: one scale and one bias for each channel, then one multiplication and one addition.
fn batch_norm(call: &Call) -> Result<Array> {
    let x = call.input(0)?;
    let epsilon = call.node.float("epsilon", 1e-5)?;
    let channels = |i: usize| match call.input(i)?.floats()? {
        v if x.shape.get(1) == Some(&v.len()) => Ok(v),
        v => Err(Error::Model(format!(
            "its input {} has {} elements, not one for each channel",
            i + 1,
            v.len()
        ))),
    };
    let (gamma, beta, mean, variance) = (channels(1)?, channels(2)?, channels(3)?, channels(4)?);
    let scale: Vec<f32> = gamma.iter().zip(variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let bias: Vec<f32> = beta.iter().zip(mean.iter().zip(&scale)).map(|(b, (m, s))| b - m * s).collect();
    let rest: usize = x.shape[2..].iter().product();
    let channel = |i: usize| i / rest % scale.len();
    let values = x.floats()?.iter().enumerate().map(|(i, x)| x * scale[channel(i)] + bias[channel(i)]);
    Array::new(x.shape.clone(), Elements::F32(values.collect()))
}
