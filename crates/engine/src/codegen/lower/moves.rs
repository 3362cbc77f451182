//! Ops that only move elements.

use super::Scope;
use super::access::{Meet, Rows, inside};
use crate::codegen::build::Body;
use crate::codegen::ir::*;
use crate::codegen::plan::Layout;
use onebit_core::ops::{Op, PadMode};

/// Most values that are joined.
const MOST_INPUTS: usize = 64;

/// Writes the function.
pub fn lower(b: &mut Body<'_>, scope: &Scope<'_>) -> Result<(), String> {
    let (x, sink) = (&scope.inputs[0], &scope.sink);
    match scope.layer.op {
        Op::Pad(p) if p.mode != PadMode::Constant => {
            return Err(
                "(pad) mirrors or repeats the border, which is not generated yet; pad with a constant".into(),
            );
        }
        Op::Concat if scope.inputs.len() > MOST_INPUTS => {
            return Err(format!(
                "(concat) joins {} values, more than the {MOST_INPUTS} that are generated",
                scope.inputs.len()
            ));
        }
        Op::Pad(_) | Op::Slice(_) | Op::Concat | Op::Reshape(_) => {}
        _ => return Err("does not only move elements".into()),
    }
    b.repeat("x", sink.shape.w, |b, ox| {
        sink.pixel(b, ox.clone(), Meet::Store, |b, c| match scope.layer.op {
            Op::Slice(s) => {
                let column = Expr::int(s.from[1]) + ox.clone() * Expr::int(s.step[1]);
                let channel = Expr::int(s.from[2]) + c * Expr::int(s.step[2]);
                number(b, scope, x, x.row(Expr::int(0)), column, channel)
            }
            Op::Pad(p) => {
                let column = ox.clone() + Expr::int(-(p.pad[1] as i64));
                let there = x.has_row(&Expr::int(0)) & inside(column.clone(), x.shape.w);
                let there = b.name("there", there);
                let column = column.within(0, x.shape.w as i64 - 1);
                let value = number(b, scope, x, x.row(Expr::int(0)), column, c);
                let padding = match (sink.is_bits(), value.ty) {
                    (true, _) => Expr::int(i64::from(p.value > 0.0)),
                    (_, Ty::Float) => Expr::float(p.value),
                    // The plan has found it to be an integer.
                    _ => Expr::int(p.value as i64),
                };
                there.select(value, padding)
            }
            Op::Concat => {
                let mut ends = 0;
                let mut parts: Vec<(Expr, Expr)> = Vec::new();
                for x in &scope.inputs {
                    let channel = (c.clone() + Expr::int(-(ends as i64))).within(0, x.shape.c as i64 - 1);
                    ends += x.shape.c;
                    let before = c.clone().lt(Expr::int(ends));
                    parts.push((before, number(b, scope, x, x.row(Expr::int(0)), ox.clone(), channel)));
                }
                let last = parts.pop().map_or(Expr::int(0), |(_, value)| value);
                parts.into_iter().rev().fold(last, |rest, (before, value)| before.select(value, rest))
            }
            _ => {
                let (w, n) = (sink.shape.w, sink.shape.c);
                let at = (scope.row.clone() * Expr::int(w) + ox.clone()) * Expr::int(n) + c;
                flat(b, scope, x, at)
            }
        });
    });
    Ok(())
}

/// An element as the sink takes it: a number, or 0 or 1.
fn number(b: &Body<'_>, scope: &Scope<'_>, x: &Rows, row: Expr, column: Expr, channel: Expr) -> Expr {
    if scope.sink.is_bits() {
        return x.bit(b, row, column, channel);
    }
    let value = x.element(b, row, column, channel);
    let float = scope.sink.layout == Layout::Numbers(Kind::F32);
    if float { b.convert(value, Ty::Float) } else { value }
}

/// Element `at` of a whole value, in `(h, w, c)` order.
fn flat(b: &mut Body<'_>, scope: &Scope<'_>, x: &Rows, at: Expr) -> Expr {
    let shape = x.shape;
    if matches!(x.layout, Layout::Numbers(_)) {
        return number(b, scope, x, x.row(Expr::int(0)), Expr::int(0), at);
    }
    let at = b.name("element", at);
    let line = Expr::int(shape.w * shape.c);
    let row = b.name("line", at.clone().over(line.clone()));
    let rest = b.name("rest", (at - row.clone() * line).within(0, (shape.w * shape.c) as i64 - 1));
    let column = b.name("column", rest.clone().over(Expr::int(shape.c)));
    let channel = (rest - column.clone() * Expr::int(shape.c)).within(0, shape.c as i64 - 1);
    number(b, scope, x, x.row(row), column, channel)
}
