//! Pools: of bits by words, of numbers one by one.

use super::Scope;
use super::access::{Meet, inside};
use super::transform::flips;
use crate::codegen::build::Body;
use crate::codegen::ir::*;
use crate::codegen::plan::{Layout, Repr};
use onebit_core::ops::{Op, PoolKind, Window};

/// Writes the function.
pub fn lower(b: &mut Body<'_>, scope: &Scope<'_>) -> Result<(), String> {
    let minimum = flips(&scope.layer.params, scope.sink.shape.c);
    match scope.layer.op {
        Op::BPool2d(p) => {
            if scope.inputs[0].layout == scope.sink.layout
                && !scope.sink.layout.is_dense()
                && scope.sink.is_bits()
            {
                words(b, scope, &p.window, &minimum);
            } else {
                largest(b, scope, &p.window, &minimum);
            }
            Ok(())
        }
        Op::Pool2d(p) if p.kind == PoolKind::Max => {
            largest(b, scope, &p.window, &minimum);
            Ok(())
        }
        Op::Pool2d(p) => {
            average(b, scope, &p.window, p.count_pad);
            Ok(())
        }
        _ => Err("is no pool".into()),
    }
}

/// Calls `f` for every tap of output `x` that lies in the map, with the first unit of its row and its column.
fn taps(
    b: &mut Body<'_>,
    scope: &Scope<'_>,
    w: &Window,
    ox: &Expr,
    f: impl FnOnce(&mut Body<'_>, Expr, Expr),
) {
    let x = &scope.inputs[0];
    b.repeat("ky", w.kernel[0], |b, ky| {
        let k = ky * Expr::int(w.dilation[0]);
        let has_row = b.name("has_row", x.has_row(&k));
        let row = b.name("line", has_row.clone().select(x.row(k), Expr::int(0)));
        b.repeat("kx", w.kernel[1], |b, kx| {
            let at = ox.clone() * Expr::int(w.stride[1]) + kx * Expr::int(w.dilation[1]);
            let column = b.name("column", at + Expr::int(-(w.pad[1] as i64)));
            let there = has_row & inside(column.clone(), x.shape.w);
            b.when(there, |b| f(b, row, column.within(0, x.shape.w as i64 - 1)));
        });
    });
}

/// OR of units of bits, AND where the minimum is taken.
fn words(b: &mut Body<'_>, scope: &Scope<'_>, w: &Window, minimum: &[bool]) {
    let (x, sink) = (&scope.inputs[0], &scope.sink);
    let (units, kind) = (sink.pixel_units(), sink.layout.kind());
    let bits = 8 * kind.bytes();
    let mut masks = vec![0; units];
    for (c, _) in minimum.iter().enumerate().filter(|(_, m)| **m) {
        masks[c / bits] |= 1i64 << (c % bits);
    }
    let name = format!("{}_minimum", b.function_name());
    let all = Expr::word(((1u64 << bits) - 1) as u32);
    let table = minimum.contains(&true).then(|| b.program.table(&name, kind, Constants::Int(masks)));
    b.repeat("x", sink.shape.w, |b, ox| {
        b.repeat("unit", units, |b, unit| {
            let least = table.map(|t| b.constant_word(t, unit.clone()));
            let least = least.map(|least| b.name("least", least));
            let met = b.variable("met", least.clone().unwrap_or(Expr::word(0)));
            taps(b, scope, w, &ox, |b, row, column| {
                let value = b.load_word(x.buffer, row + column * Expr::int(units) + unit.clone());
                let value = b.name("bits", value);
                let or = met.clone() | value.clone();
                b.set(
                    &met,
                    match least {
                        Some(m) => (or & (m.clone() ^ all)) | (met.clone() & value & m),
                        None => or,
                    },
                );
            });
            b.store(sink.buffer, sink.row.clone() + ox * Expr::int(units) + unit, met);
        });
    });
}

/// The largest element, the smallest where the minimum is taken.
fn largest(b: &mut Body<'_>, scope: &Scope<'_>, w: &Window, minimum: &[bool]) {
    let (x, sink) = (&scope.inputs[0], &scope.sink);
    let name = format!("{}_minimum", b.function_name());
    let least = minimum
        .contains(&true)
        .then(|| b.program.integers(&name, minimum.iter().map(|m| i64::from(*m)).collect()));
    let bounds = match x.repr {
        Repr::Bits => Some((-1, 1)),
        Repr::Int { lo, hi } => Some((lo, hi)),
        Repr::Float => None,
    };
    b.repeat("x", sink.shape.w, |b, ox| {
        sink.pixel(b, ox.clone(), Meet::Store, |b, c| {
            let least = least.map(|t| b.constant(t, c.clone()));
            let least = least.map(|least| b.name("least", least));
            let best = match bounds {
                Some((lo, hi)) => {
                    let first = match &least {
                        Some(least) => least.clone().select(Expr::int(hi), Expr::int(lo)),
                        None => Expr::int(lo),
                    };
                    b.counter("best", first, lo, hi)
                }
                None => b.variable("best", Expr::float(f32::NEG_INFINITY)),
            };
            taps(b, scope, w, &ox, |b, row, column| {
                let value = x.element(b, row, column, c);
                let value = b.name("value", value);
                let larger = best.clone().lt(value.clone());
                let better = match least {
                    Some(least) => least.select(value.clone().lt(best.clone()), larger),
                    None => larger,
                };
                b.when(better, |b| b.set(&best, value));
            });
            if sink.is_bits() { best.ge(Expr::int(0)) } else { best }
        });
    });
    debug_assert!(!matches!((sink.layout, x.repr), (Layout::Bits { .. }, Repr::Float)));
}

/// The mean, taps added in order.
fn average(b: &mut Body<'_>, scope: &Scope<'_>, w: &Window, count_pad: bool) {
    let (x, sink) = (&scope.inputs[0], &scope.sink);
    let taps_of_all = w.taps() as i64;
    b.repeat("x", sink.shape.w, |b, ox| {
        sink.pixel(b, ox.clone(), Meet::Store, |b, c| {
            let sum = b.variable("sum", Expr::float(0.0));
            let padded = w.pad != [0; 4] && !count_pad;
            let count = padded.then(|| b.counter("count", Expr::int(0), 0, taps_of_all));
            taps(b, scope, w, &ox, |b, row, column| {
                let value = x.element(b, row, column, c);
                let value = b.convert(value, Ty::Float);
                b.set(&sum, sum.clone() + value);
                if let Some(count) = &count {
                    b.set(count, (count.clone() + Expr::int(1)).within(0, taps_of_all));
                }
            });
            let count = count.unwrap_or(Expr::int(taps_of_all));
            let count = b.convert(count, Ty::Float);
            sum.over(count)
        });
    });
}
