//! Functions of one element, or of two.

use super::Scope;
use super::access::Meet;
use super::transform::Transform;
use crate::codegen::build::Body;
use crate::codegen::ir::*;
use crate::codegen::plan::{Layout, Repr};
use onebit_core::DType;
use onebit_core::model::Tensor;
use onebit_core::ops::{Activation, Op, Zero};

/// Writes the function.
pub fn lower(b: &mut Body<'_>, scope: &Scope<'_>) -> Result<(), String> {
    let (x, sink, params) = (&scope.inputs[0], &scope.sink, &scope.layer.params);
    let name = b.function_name().to_owned();
    let bounds = match x.repr {
        Repr::Bits => Some((-1, 1)),
        Repr::Int { lo, hi } => Some((lo, hi)),
        Repr::Float => None,
    };
    let floats = sink.layout == Layout::Numbers(Kind::F32);
    let transform = match scope.layer.op {
        Op::Threshold(t) => Transform::new(b, &name, t.output, params, bounds, sink.layout)?,
        Op::Affine => Transform::new(b, &name, DType::F32, params, bounds, sink.layout)?,
        _ => Transform::Same,
    };
    let table = match scope.layer.op {
        Op::Lookup => {
            let values = params.weight.as_ref().and_then(Tensor::as_i32).ok_or("has no table")?;
            Some(b.program.integers(&format!("{name}_table"), values.iter().map(|v| i64::from(*v)).collect()))
        }
        Op::Quantize(q) => {
            let (lo, hi) = bounds.ok_or("rounds floats")?;
            let values = (lo..=hi).map(|v| i64::from(q.apply(v as f32))).collect();
            Some(b.program.integers(&format!("{name}_table"), values))
        }
        Op::Prelu => {
            let slopes = params.scale.as_ref().and_then(Tensor::as_f32).ok_or("has no slopes")?;
            Some(b.program.table(&format!("{name}_slopes"), Kind::F32, Constants::Float(slopes.to_vec())))
        }
        _ => None,
    };
    b.repeat("x", sink.shape.w, |b, ox| {
        sink.pixel(b, ox.clone(), Meet::Store, |b, c| {
            let row = x.row(Expr::int(0));
            let value = x.element(b, row.clone(), ox.clone(), c.clone());
            let value = if floats { b.convert(value, Ty::Float) } else { value };
            let zero = |v: &Expr| if v.ty == Ty::Float { Expr::float(0.0) } else { Expr::int(0) };
            let number = |v: f32, like: &Expr| match like.ty {
                Ty::Float => Expr::float(v),
                _ => Expr::int(v as i64),
            };
            match scope.layer.op {
                Op::Threshold(_) | Op::Affine => transform.apply(b, value, c, sink.is_bits()),
                Op::Sign(s) => {
                    let positive = match s.zero {
                        Zero::Positive => value.clone().ge(zero(&value)),
                        Zero::Negative => zero(&value).lt(value),
                    };
                    if sink.is_bits() { positive } else { positive * Expr::int(2) + Expr::int(-1) }
                }
                Op::Lookup => {
                    let (lo, hi) = bounds.unwrap_or((0, 0));
                    let levels = table.map_or(1, |t| b.program.tables[t].len() as i64);
                    // Distance of the levels: 1, or 2 where they are odd.
                    let log = i64::from(hi - lo >= levels);
                    let level = (value - Expr::int(lo)) >> Expr::int(log);
                    table.map_or(Expr::int(0), |t| b.constant(t, level))
                }
                Op::Quantize(_) => {
                    let lo = bounds.map_or(0, |(lo, _)| lo);
                    let value = table.map_or(Expr::int(0), |t| b.constant(t, value + Expr::int(-lo)));
                    if sink.is_bits() { value.ge(Expr::int(0)) } else { value }
                }
                Op::Activation(Activation::Relu) => {
                    let value = b.name("value", value);
                    zero(&value).lt(value.clone()).select(value.clone(), zero(&value))
                }
                Op::Activation(Activation::Clip { low, high }) => {
                    let value = b.name("value", value);
                    let (low, high) = (number(low, &value), number(high, &value));
                    let above = low.clone().lt(value.clone()).select(value, low);
                    let above = b.name("above", above);
                    above.clone().lt(high.clone()).select(above, high)
                }
                Op::Prelu => {
                    let value = b.name("value", value);
                    let slope = table.map_or(Expr::float(1.0), |t| b.constant(t, c));
                    value.clone().ge(Expr::float(0.0)).select(value.clone(), value * slope)
                }
                Op::Add | Op::Mul | Op::Max | Op::Min => {
                    let other = &scope.inputs[1];
                    let s = other.shape;
                    let at = |i: Expr, size: usize| if size == 1 { Expr::int(0) } else { i };
                    let other = other.element(b, other.row(Expr::int(0)), at(ox.clone(), s.w), at(c, s.c));
                    let other = if floats { b.convert(other, Ty::Float) } else { other };
                    match scope.layer.op {
                        Op::Add => value + other,
                        Op::Mul => value * other,
                        Op::Max => {
                            let (a, c) = (b.name("a", value), b.name("b", other));
                            a.clone().lt(c.clone()).select(c, a)
                        }
                        _ => {
                            let (a, c) = (b.name("a", value), b.name("b", other));
                            c.clone().lt(a.clone()).select(c, a)
                        }
                    }
                }
                // Decoding: the number is what it was.
                _ => value,
            }
        });
    });
    Ok(())
}
