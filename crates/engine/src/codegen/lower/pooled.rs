//! Convolutions with the pool that follows them: pixel by pixel, the windows of a pool one after the other.
//!
//! Channels that take the minimum are computed inverted, so that all pool by OR, and are inverted back once for each pixel.

use super::Scope;
use super::access::Meet;
use super::transform::flips;
use crate::codegen::build::Body;
use crate::codegen::ir::*;
use onebit_core::Shape;
use onebit_core::model::Node as Layer;
use onebit_core::ops::{BConv2d, Op, Window};

/// The convolution that a layer is.
pub fn conv(layer: &Layer<'_>, input: Shape) -> Option<BConv2d> {
    match layer.op {
        Op::BConv2d(c) => Some(c),
        Op::BDense(d) => Some(d.as_conv(input)),
        _ => None,
    }
}

/// The pool that is computed with a convolution.
pub struct Pooled {
    /// Rows and columns that are pooled, and their distance.
    pub window: Option<Window>,
    /// Channels that take the minimum.
    pub minimum: Vec<bool>,
}

impl Pooled {
    /// The pool `layer`, or none, of `c` channels.
    pub fn new(layer: Option<&Layer<'_>>, c: usize) -> Self {
        match layer.map(|p| (p.op, &p.params)) {
            Some((Op::BPool2d(pool), params)) => {
                Pooled { window: Some(pool.window), minimum: flips(params, c) }
            }
            _ => Pooled { window: None, minimum: vec![false; c] },
        }
    }
    /// Columns of the convolution from a pixel to the next.
    pub fn step(&self) -> usize {
        self.window.map_or(1, |w| w.stride[1])
    }
    /// Runs `each` for every output pixel `x` and every place `(down, right)` of its pool.
    pub fn pixels(
        &self,
        b: &mut Body<'_>,
        scope: &Scope<'_>,
        mut each: impl FnMut(&mut Body<'_>, [Expr; 3], Meet),
    ) {
        let sink = &scope.sink;
        let [rows, cols] = self.window.map_or([1, 1], |p| p.kernel);
        b.repeat("x", sink.shape.w, |b, ox| {
            let many = rows * cols > 1;
            if many {
                b.repeat("unit", sink.pixel_units(), |b, unit| {
                    let at = sink.row.clone() + ox.clone() * Expr::int(sink.pixel_units()) + unit;
                    b.store(sink.buffer, at, Expr::word(0));
                });
            }
            let meet = if many { Meet::Or } else { Meet::Store };
            b.repeat("down", rows, |b, down| {
                b.repeat("right", cols, |b, right| each(b, [ox.clone(), down, right], meet));
            });
            if self.minimum.contains(&true) {
                self.invert(b, scope, ox);
            }
        });
    }

    /// Inverts the channels that take the minimum.
    fn invert(&self, b: &mut Body<'_>, scope: &Scope<'_>, ox: Expr) {
        let (sink, kind) = (&scope.sink, scope.sink.layout.kind());
        let units = sink.pixel_units();
        let table = self.masks(b, kind, units);
        b.repeat("unit", units, |b, unit| {
            let at = b.name("at", sink.row.clone() + ox * Expr::int(units) + unit.clone());
            let value = b.load_word(sink.buffer, at.clone()) ^ b.constant_word(table, unit);
            b.store(sink.buffer, at, value);
        });
    }

    /// The channels that take the minimum, as units of a pixel.
    pub fn masks(&self, b: &mut Body<'_>, kind: Kind, units: usize) -> TableId {
        let bits = 8 * kind.bytes();
        let mut masks = vec![0; units];
        for (c, _) in self.minimum.iter().enumerate().filter(|(_, m)| **m) {
            masks[c / bits] |= 1i64 << (c % bits);
        }
        let name = format!("{}_minimum", b.function_name());
        b.program.table(&name, kind, Constants::Int(masks))
    }
}
