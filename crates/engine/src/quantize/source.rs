//! How the input of a float layer is integers: as it is written, or after rounding it to a few levels.

use super::Options;
use crate::error::Result;
use crate::graph::Graph;
use crate::passes::fold_thresholds::is_monotone;
use crate::session::{Elements, Session};
use onebit_core::model::{Node, Params, Tensor};
use onebit_core::ops::{Activation, Op, Pad, PadMode, PoolKind, Quantize, Rounding, Slice};
use onebit_core::types::{DType, Encoding, Quant};

/// A value of floats that are integers of another value, times a scale, plus an offset, both for each channel.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The integers: bits or bytes.
    pub value: usize,
    /// What 1 stands for.
    pub scale: Vec<f64>,
    /// What 0 stands for.
    pub offset: Vec<f64>,
    /// Largest difference between such a number and the float that it stands for; 0 where they are equal.
    pub error: f64,
}

/// Part of the numbers that may lie beyond the range which calibration finds.
const OUTLIERS: f64 = 0.001;
/// Numbers that are kept to find it.
const MEASURED: usize = 1 << 24;
/// A clip at a larger number than this is no range.
const LARGEST: f32 = 1e6;

impl Linear {
    /// The value as integers without any rounding: a decoded value behind affine maps and constant padding.
    pub fn of(graph: &mut Graph, value: usize) -> Option<Linear> {
        let channels = graph.ty(value).shape.c;
        let (mut at, mut chain) = (value, Vec::new());
        let base = loop {
            let node = graph.producer(at)?;
            at = *node.inputs.first()?;
            match node.op {
                Op::Decode => break at,
                Op::Affine => chain.push(node.clone()),
                Op::Pad(pad) if pad.mode == PadMode::Constant => chain.push(node.clone()),
                _ => return None,
            }
        };
        graph.ty(base).dtype.quant()?;
        let mut of =
            Linear { value: base, scale: vec![1.0; channels], offset: vec![0.0; channels], error: 0.0 };
        for node in chain.into_iter().rev() {
            if let Op::Pad(pad) = node.op {
                let (values, error) = of.nearest(graph, f64::from(pad.value))?;
                of.error = of.error.max(error);
                of.value = padded(graph, &node.name, of.value, pad.pad, &values)?;
                continue;
            }
            let mut most = 0f64;
            for c in 0..channels {
                let (scale, offset) = affine_of(&node, c);
                of.scale[c] *= scale;
                of.offset[c] = of.offset[c] * scale + offset;
                most = most.max(scale.abs());
            }
            of.error *= most;
        }
        Some(of)
    }

    /// For each channel the integer that stands for the number `x`, and how far the worst is off: up to half a step of
    /// bytes, almost nothing for fewer levels. `None` where there is no such integer, or a scale is 0. It may be -1, 0 or
    /// 1, which layers can pad with whatever the format.
    pub fn nearest(&self, graph: &Graph, x: f64) -> Option<(Vec<i32>, f64)> {
        let quant = graph.ty(self.value).dtype.quant()?;
        let most = if quant.bits == 8 { 0.5 } else { 0.001 };
        let mut worst = 0f64;
        let mut values = Vec::with_capacity(self.scale.len());
        for (scale, offset) in self.scale.iter().zip(&self.offset) {
            let exact = (x - offset) / scale;
            // Not a number where the scale is 0; saturated where it is too large, which no format holds.
            let value = exact.round() as i32;
            let off = (exact - f64::from(value)).abs();
            let possible = (-1..=1).contains(&value) || quant.encode(value).is_some();
            if !possible || off > most || off.is_nan() {
                return None;
            }
            worst = worst.max(off * scale.abs());
            values.push(value);
        }
        Some((values, worst))
    }
}

/// The map with rows and columns around it that hold one integer for each channel; `None` where its format has no such
/// integer.
pub fn padded(graph: &mut Graph, name: &str, value: usize, pad: [usize; 4], values: &[i32]) -> Option<usize> {
    let (shape, name) = (graph.ty(value).shape, format!("{name}_pad"));
    let mut parts = Vec::new();
    let mut first = 0;
    for run in values.chunk_by(|a, b| a == b) {
        let mut part = value;
        if run.len() < values.len() {
            let (from, size) = ([0, 0, first], [shape.h, shape.w, run.len()]);
            let op = Op::Slice(Slice { from, size, step: [1; 3] });
            part = graph.add(&name, op, &[value], Params::default()).ok()?;
        }
        let op = Op::Pad(Pad { pad, mode: PadMode::Constant, value: *run.first()? as f32 });
        parts.push(graph.add(&name, op, &[part], Params::default()).ok()?);
        first += run.len();
    }
    match parts[..] {
        [one] => Some(one),
        _ => graph.add(&name, Op::Concat, &parts, Params::default()).ok(),
    }
}

/// Scale and offset of an affine map for one channel: what it computes but for rounding.
pub fn affine_of(node: &Node<'_>, c: usize) -> (f64, f64) {
    let constant = |t: &Option<Tensor<'_>>, default| {
        t.as_ref().and_then(|t| t.as_f32()).and_then(|t| t.get(c)).map_or(default, |v| f64::from(*v))
    };
    let scale = constant(&node.params.scale, 1.0);
    (scale, constant(&node.params.bias, 0.0) - constant(&node.params.center, 0.0) * scale)
}

/// Scale and offset of affine maps one behind the other, for each channel.
pub fn affines_of(chain: &[Node<'_>], channels: usize) -> Vec<(f64, f64)> {
    let one = |c: usize| {
        chain.iter().fold((1.0, 0.0), |(scale, offset), node| {
            let (s, o) = affine_of(node, c);
            (scale * s, offset * s + o)
        })
    };
    (0..channels).map(one).collect()
}

/// Rounds a value to levels of `options.activation_bits`, of which 0 is one, if thresholds of integers can make them.
///
/// # Errors
/// The inner one says why the value stays as it is.
pub fn round(
    graph: &mut Graph,
    value: usize,
    name: &str,
    options: &Options<'_>,
) -> Result<Result<Linear, String>> {
    if let Err(reason) = comes_from_integers(graph, value) {
        return Ok(Err(reason));
    }
    let (lowest, largest) = match (known_range(graph, value), options.pixels) {
        (Some(range), _) => range,
        (None, []) => {
            let source = super::source_name(graph, value);
            return Ok(Err(format!(
                "the range of {source} is not known: give it pictures (--data) to measure it"
            )));
        }
        (None, pixels) => measured_range(graph, value, pixels)?,
    };
    let bits = options.activation_bits;
    let encoding = if lowest < 0.0 { Encoding::Signed } else { Encoding::Unsigned };
    let quant = Quant::new(bits, encoding);
    let step = if largest > 0.0 { largest / quant.max() as f32 } else { 1.0 };
    if !(step >= f32::MIN_POSITIVE && (1.0 / step).is_finite()) {
        return Ok(Err(format!("its inputs reach up to {largest}, too little to be rounded")));
    }
    let op = Quantize {
        scale: 1.0 / step,
        offset: 0.0,
        rounding: Rounding::HalfEven,
        output: DType::Bits(quant),
        lowest: if lowest < 0.0 { -quant.max() } else { 0 },
        highest: quant.max(),
    };
    let levels = graph.add(format!("{name}_levels"), Op::Quantize(op), &[value], Params::default())?;
    let channels = graph.ty(value).shape.c;
    let step = f64::from(step);
    let (scale, offset) = (vec![step; channels], vec![0.0; channels]);
    Ok(Ok(Linear { value: levels, scale, offset, error: step / 2.0 }))
}

/// Whether only monotone functions, maxima and moves lie between integers and a value, so that levels of it are
/// thresholds of integers.
fn comes_from_integers(graph: &Graph, mut value: usize) -> Result<(), String> {
    loop {
        let Some(node) = graph.producer(value) else {
            return Err("it reads the network's input, which is not made of bytes".into());
        };
        let x = node.inputs[0];
        let follows = match node.op {
            Op::Pool2d(pool) => pool.kind == PoolKind::Max,
            Op::Reshape(_) | Op::Transpose(_) | Op::DepthToSpace(_) => true,
            _ => is_monotone(graph, node),
        };
        if !follows {
            return Err(format!("it reads floats that {} makes", super::source_name(graph, value)));
        }
        if matches!(graph.ty(x).dtype, DType::I32 | DType::U8 | DType::I8) {
            return Ok(());
        }
        value = x;
    }
}

/// Smallest and largest absolute number of a value, where the function that made it has bounds.
fn known_range(graph: &Graph, mut value: usize) -> Option<(f32, f32)> {
    while let Some(node) = graph.producer(value) {
        match node.op {
            Op::Pool2d(_) | Op::Reshape(_) | Op::Transpose(_) | Op::DepthToSpace(_) => value = node.inputs[0],
            Op::Activation(Activation::Tanh | Activation::Erf) => return Some((-1.0, 1.0)),
            Op::Activation(Activation::Sigmoid) => return Some((0.0, 1.0)),
            Op::Activation(Activation::Clip { low, high }) => {
                let largest = low.abs().max(high.abs());
                return (largest <= LARGEST).then_some((low, largest));
            }
            _ => return None,
        }
    }
    None
}

/// Smallest number of a value on pictures, and the absolute number that all but [`OUTLIERS`] stay below.
fn measured_range(graph: &Graph, value: usize, pixels: &[u8]) -> Result<(f32, f32)> {
    let (image, elements) = (graph.ty(Graph::INPUT).shape.elements(), graph.ty(value).shape.elements());
    let pixels = &pixels[..pixels.len().min((MEASURED / elements).max(1) * image)];
    let mut part = graph.clone();
    part.output = value;
    let (model, meta) = part.into_model()?;
    let session = Session::new(&model, meta, &crate::Options::default())?;
    let outputs = session.run_elements(Elements::Pixels(pixels))?;
    let mut all: Vec<f32> = outputs.into_iter().flat_map(|o| o.scores).collect();
    let lowest = all.iter().fold(f32::INFINITY, |m, x| m.min(*x));
    all.iter_mut().for_each(|x| *x = x.abs());
    let at = ((all.len() as f64 * (1.0 - OUTLIERS)) as usize).min(all.len().saturating_sub(1));
    if all.is_empty() {
        return Ok((0.0, 0.0));
    }
    let (_, largest, _) = all.select_nth_unstable_by(at, f32::total_cmp);
    Ok((lowest, *largest))
}
