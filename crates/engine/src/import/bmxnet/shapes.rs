//! The shapes that layers make of an input, and the input that fits them: MXNet's files do not name it.

use super::layers::{Kind, Layer};
use crate::error::{Error, Result};
use onebit_core::types::Shape;

/// Shapes that the layers make of an input.
///
/// # Errors
/// Names the first layer that does not fit.
pub fn shapes(layers: &[Layer<'_>], input: Shape) -> Result<Vec<Shape>> {
    let mut shapes: Vec<Shape> = Vec::with_capacity(layers.len());
    for layer in layers {
        let at = |text: String| Error::layer(&layer.name, text);
        let inputs: Vec<Shape> = layer.inputs.iter().map(|i| shapes[*i]).collect();
        let x = inputs.first().copied().unwrap_or(input);
        let per_channel = |n: usize| match n == x.c {
            true => Ok(x),
            false => Err(at(format!("has constants for {n} channels, but gets {x}"))),
        };
        shapes.push(match &layer.kind {
            Kind::Conv(m, window, groups) => {
                if window.taps() * x.c != m.cols * groups {
                    let channels = m.cols / window.taps() * groups;
                    return Err(at(format!("takes {channels} channels, but gets {x}")));
                }
                let [h, w] = window.output(x).map_err(|e| at(e.to_string()))?;
                Shape::new(h, w, m.rows)
            }
            Kind::Dense(m) if x.elements() != m.cols => {
                return Err(at(format!("takes {} inputs, but gets {x}", m.cols)));
            }
            Kind::Dense(m) => Shape::vector(m.rows),
            Kind::BatchNorm(bn) => per_channel(bn.mean.len())?,
            Kind::Slope(slopes) if slopes.len() != 1 => per_channel(slopes.len())?,
            Kind::Pool(pool) => {
                let pool = pool.on(x).map_err(at)?;
                let [h, w] = pool.window.pool_output(x).map_err(|e| at(e.to_string()))?;
                Shape::new(h, w, x.c)
            }
            Kind::Flatten => Shape::vector(x.elements()),
            Kind::Sum | Kind::Product => {
                let largest = inputs.iter().copied().max_by_key(Shape::pixels).unwrap_or(x);
                if inputs.iter().any(|s| *s != largest && (s.pixels() != 1 || s.c != largest.c)) {
                    return Err(at(format!("combines values of different shapes, {inputs:?}")));
                }
                largest
            }
            Kind::Join => {
                if inputs.iter().any(|s| (s.h, s.w) != (x.h, x.w)) {
                    return Err(at(format!("joins values of different sizes, {inputs:?}")));
                }
                Shape { c: inputs.iter().map(|s| s.c).sum(), ..x }
            }
            _ => x,
        });
    }
    Ok(shapes)
}

/// The shape of the input: channels from the first matrix, size such that all layers fit; and a sentence
/// that says so.
///
/// # Errors
/// When no size fits.
pub fn input_shape(layers: &[Layer<'_>]) -> Result<(Shape, String)> {
    let conv = layers.iter().find_map(|l| match &l.kind {
        Kind::Conv(m, window, groups) => Some((m.cols / window.taps() * groups, *window)),
        _ => None,
    });
    let Some((channels, window)) = conv else {
        return vector_input(layers);
    };
    let fits = |size: usize| shapes(layers, Shape::new(size, size, channels));
    // Where everything is averaged before the dense layer, all sizes fit: the first layer then tells
    // small pictures from large ones.
    let large = window.kernel[0] >= 7 && window.stride[0] >= 2;
    let global = layers.iter().any(|l| matches!(&l.kind, Kind::Pool(p) if p.global));
    let usual: &[usize] = match (global, large, channels) {
        (_, true, _) => &[224, 227, 299, 256, 128, 96],
        (true, false, _) => &[32, 28, 96, 224],
        (false, false, 1) => &[28, 32, 96, 224],
        (false, false, _) => &[32, 96, 224, 227, 299, 28],
    };
    let size = usual.iter().copied().chain(1..=512).find(|s| fits(*s).is_ok());
    let Some(size) = size else {
        let why = fits(usual[0]).expect_err("no size fits");
        return Err(Error::Model(format!(
            "no square input of 1 to 512 pixels fits all layers (at {0} x {0}, {why})",
            usual[0]
        )));
    };
    let shape = Shape::new(size, size, channels);
    Ok((
        shape,
        format!("The source does not say how large its input is: {shape} was taken, which fits all layers."),
    ))
}

/// A network without convolutions: a square picture if the number of inputs allows it.
fn vector_input(layers: &[Layer<'_>]) -> Result<(Shape, String)> {
    let inputs = layers.iter().find_map(|l| match &l.kind {
        Kind::Dense(m) => Some(m.cols),
        _ => None,
    });
    let n = inputs.ok_or_else(|| Error::Model("has neither a convolution nor a dense layer".into()))?;
    let square = |n: usize| Some(n.isqrt()).filter(|s| s * s == n);
    let shape = match (square(n), square(n / 3)) {
        (Some(s), _) => Shape::new(s, s, 1),
        (None, Some(s)) if n.is_multiple_of(3) => Shape::new(s, s, 3),
        _ => Shape::vector(n),
    };
    // A BatchNorm of the data, for example, may want it flat.
    let shape = if shapes(layers, shape).is_ok() { shape } else { Shape::vector(n) };
    shapes(layers, shape)?;
    Ok((shape, format!("The source does not say what its {n} inputs are: {shape} was taken.")))
}
