//! Convolutions and dense layers of every other format: one product after the other, weights in as few bits as they take.

use super::Scope;
use super::access::{Meet, inside};
use super::binary::{conv, pooling};
use super::transform::Transform;
use crate::codegen::build::Body;
use crate::codegen::ir::*;
use crate::codegen::plan::Repr;
use onebit_core::model::Node as Layer;
use onebit_core::{Quant, Shape};

/// Weights in flash: levels of `bits` bits, or whole numbers.
struct Weights {
    table: TableId,
    /// Bits of a level, 8 for numbers.
    bits: usize,
    min: i64,
    step: i64,
}

impl Weights {
    fn new(b: &mut Body<'_>, name: &str, layer: &Layer<'_>) -> Result<Self, String> {
        let weight = layer.params.weight.as_ref().ok_or("has no weight")?;
        let quant = weight.as_bits().ok_or("has weights that are not packed")?.0;
        let values = weight.to_i32().ok_or("has weights that are not packed")?;
        let name = format!("{name}_weights");
        let bits = if quant == Quant::TERNARY { 2 } else { quant.planes().next_power_of_two() };
        if bits > 4 {
            let table = b.program.integers(&name, values.iter().map(|v| i64::from(*v)).collect());
            return Ok(Weights { table, bits: 8, min: 0, step: 1 });
        }
        let (min, step) = (i64::from(quant.min()), i64::from(quant.step()));
        let mut packed = vec![0; (values.len() * bits).div_ceil(8)];
        for (i, v) in values.iter().enumerate() {
            packed[i * bits / 8] |= (i64::from(*v) - min) / step << (i * bits % 8);
        }
        let table = b.program.table(&name, Kind::U8, Constants::Int(packed));
        Ok(Weights { table, bits, min, step })
    }

    /// Weight `i`.
    fn at(&self, b: &Body<'_>, i: Expr) -> Expr {
        if self.bits == 8 {
            return b.constant(self.table, i);
        }
        let per_byte = 8 / self.bits as i64;
        let log = per_byte.trailing_zeros();
        let byte = b.constant(self.table, i.clone() >> Expr::int(log));
        let shift = (i & Expr::int(per_byte - 1)) * Expr::int(self.bits);
        let level = (byte >> shift) & Expr::int((1 << self.bits) - 1);
        level * Expr::int(self.step) + Expr::int(self.min)
    }
}

/// Writes the function.
pub fn lower(
    b: &mut Body<'_>,
    scope: &Scope<'_>,
    pool: Option<&Layer<'_>>,
    input: Shape,
) -> Result<(), String> {
    let (x, sink, params) = (&scope.inputs[0], &scope.sink, &scope.layer.params);
    let conv = conv(scope.layer, input).ok_or("is no convolution")?;
    let (window, minimum) = pooling(pool, sink.shape.c);
    let name = b.function_name().to_owned();
    let weights = Weights::new(b, &name, scope.layer)?;
    let (lo, hi) = bounds(scope, i64::from(conv.pad_value))?;
    let transform = Transform::new(b, &name, conv.output, params, Some((lo, hi)), sink.layout)?;
    let invert = minimum.contains(&true).then(|| {
        b.program.integers(&format!("{name}_minimum"), minimum.iter().map(|m| i64::from(*m)).collect())
    });
    let w = conv.window;
    let [kh, kw] = w.kernel;
    let (group, filters) = (input.c / conv.groups, sink.shape.c / conv.groups);
    let ([rows, cols], step) = window.map_or(([1, 1], 1), |p| (p.kernel, p.stride[1]));
    b.repeat("x", sink.shape.w, |b, ox| {
        sink.pixel(b, ox.clone(), Meet::Store, |b, n| {
            // Bits of pooled windows meet by OR, or by AND where the minimum is taken: as OR of the inverse.
            let invert = invert.map(|t| b.name("invert", b.constant(t, n.clone())));
            let met = (rows * cols > 1).then(|| b.counter("met", Expr::int(0), 0, 1));
            let mut last = None;
            b.repeat("down", rows, |b, down| {
                b.repeat("right", cols, |b, right| {
                    let sum = b.counter("acc", Expr::int(0), lo, hi);
                    let left = (ox.clone() * Expr::int(step) + right) * Expr::int(w.stride[1]);
                    let left = b.name("left", left + Expr::int(-(w.pad[1] as i64)));
                    b.repeat("ky", kh, |b, ky| {
                        let k = down * Expr::int(w.stride[0]) + ky.clone() * Expr::int(w.dilation[0]);
                        let has_row = b.name("has_row", x.has_row(&k));
                        let row = b.name("line", has_row.clone().select(x.row(k), Expr::int(0)));
                        b.repeat("kx", kw, |b, kx| {
                            let column = b.name("column", left + kx.clone() * Expr::int(w.dilation[1]));
                            let there = has_row & inside(column.clone(), input.w);
                            let there = b.name("there", there);
                            let first =
                                (n.clone() * Expr::int(kh * kw) + ky * Expr::int(kw) + kx) * Expr::int(group);
                            let first = b.name("first", first);
                            let channel = match conv.groups {
                                1 => Expr::int(0),
                                // The group is the number of its filters that are not behind this one.
                                g => (1..g).fold(Expr::int(0), |at, i| {
                                    at + n.clone().ge(Expr::int(i * filters)) * Expr::int(group)
                                }),
                            };
                            let channel = b.name("channel", channel);
                            let add = |b: &mut Body<'_>, padding: bool| {
                                b.repeat("i", group, |b, i| {
                                    let weight = weights.at(b, first.clone() + i.clone());
                                    let column = column.clone().within(0, input.w as i64 - 1);
                                    let value = match padding {
                                        true => Expr::int(conv.pad_value),
                                        false => x.element(b, row.clone(), column, channel.clone() + i),
                                    };
                                    b.set(&sum, (sum.clone() + weight * value).within(lo, hi));
                                });
                            };
                            let pads = conv.pad_value != 0;
                            b.either(
                                there,
                                |b| add(b, false),
                                |b| {
                                    if pads {
                                        add(b, true)
                                    }
                                },
                            );
                        });
                    });
                    let value = transform.apply(b, sum, n.clone(), sink.is_bits());
                    let value = match &invert {
                        Some(invert) => value ^ invert.clone(),
                        None => value,
                    };
                    match &met {
                        Some(met) => b.when(value, |b| b.set(met, Expr::int(1))),
                        None => last = Some(value),
                    }
                });
            });
            let value = met.or(last).unwrap_or(Expr::int(0));
            match invert {
                Some(invert) => value ^ invert,
                None => value,
            }
        });
    });
    Ok(())
}

/// Bounds of all partial sums.
fn bounds(scope: &Scope<'_>, pad: i64) -> Result<(i64, i64), String> {
    let (lo, hi) = match scope.inputs[0].repr {
        Repr::Bits => (-1, 1),
        Repr::Int { lo, hi } => (lo, hi),
        Repr::Float => return Err("multiplies floats with packed weights".into()),
    };
    let most = lo.abs().max(hi.abs()).max(pad.abs());
    let weight = scope.layer.params.weight.as_ref().ok_or("has no weight")?;
    let values = weight.to_i32().ok_or("has weights that are not packed")?;
    let reach = values
        .chunks_exact(weight.cols.max(1))
        .map(|row| row.iter().map(|w| i64::from(w.abs())).sum::<i64>());
    let reach = reach.max().unwrap_or(0) * most;
    Ok((-reach, reach))
}
