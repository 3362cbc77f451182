//! What becomes of an accumulator: the constants of [`onebit_core::ops::transform`] as tables, folded where bounds allow.

use crate::codegen::build::Body;
use crate::codegen::ir::*;
use crate::codegen::plan::{EXACT, Layout};
use onebit_core::DType;
use onebit_core::bits;
use onebit_core::model::{Params, Tensor};

/// The transform of one layer.
pub enum Transform {
    /// The accumulator itself.
    Same,
    /// `(x - center) * scale + bias`.
    Affine { center: Option<TableId>, scale: Option<TableId>, bias: Option<TableId>, exact: bool },
    /// Levels: the number of thresholds that are reached, or missed.
    Levels { thresholds: TableId, flips: Option<TableId>, steps: usize, min: i64, step: i64 },
}

/// Flags of channels.
pub fn flips(params: &Params<Tensor<'_>>, c: usize) -> Vec<bool> {
    let words = params.flips.as_ref().and_then(|t| t.as_bits());
    (0..c).map(|i| words.is_some_and(|(_, w)| bits::get(w, i))).collect()
}

/// Integer thresholds within reach of `lo..=hi`: those beyond are reached always or never.
fn clamped(thresholds: impl Iterator<Item = i64>, (lo, hi): (i64, i64)) -> Vec<i64> {
    thresholds.map(|t| t.clamp(lo, hi + 1)).collect()
}

/// Floats of a role as integers or floats.
fn table(b: &mut Body<'_>, name: &str, t: &Option<Tensor<'_>>, exact: bool) -> Option<TableId> {
    let values = t.as_ref()?.as_f32()?;
    Some(if exact {
        b.program.integers(name, values.iter().map(|v| *v as i64).collect())
    } else {
        b.program.table(name, Kind::F32, Constants::Float(values.to_vec()))
    })
}

impl Transform {
    /// The transform of `params` for integers within bounds, else for floats, into `layout`.
    pub fn new(
        b: &mut Body<'_>,
        name: &str,
        output: DType,
        params: &Params<Tensor<'_>>,
        bounds: Option<(i64, i64)>,
        layout: Layout,
    ) -> Result<Transform, String> {
        match output {
            DType::Bits(q) => {
                let tensor = params.thresholds.as_ref().ok_or("has no thresholds")?;
                let steps = q.levels() - 1;
                let flips = flips(params, tensor.rows);
                let name_thresholds = format!("{name}_thresholds");
                let thresholds = match (bounds, tensor.as_i32(), tensor.as_f32()) {
                    (Some(bounds), Some(t), _) => {
                        b.program.integers(&name_thresholds, clamped(t.iter().map(|t| i64::from(*t)), bounds))
                    }
                    // An integer reaches a float where it reaches the next integer.
                    (Some(bounds), _, Some(t)) => b
                        .program
                        .integers(&name_thresholds, clamped(t.iter().map(|t| t.ceil() as i64), bounds)),
                    (None, _, Some(t)) => {
                        b.program.table(&name_thresholds, Kind::F32, Constants::Float(t.to_vec()))
                    }
                    _ => return Err("has integer thresholds for floats".into()),
                };
                let flips = flips.contains(&true).then(|| {
                    b.program
                        .integers(&format!("{name}_flips"), flips.iter().map(|f| i64::from(*f)).collect())
                });
                Ok(Transform::Levels { thresholds, flips, steps, min: q.min().into(), step: q.step().into() })
            }
            DType::F32 => {
                let exact = layout.kind() != Kind::F32;
                let mut constants = |role: &str, t| table(b, &format!("{name}_{role}"), t, exact);
                Ok(Transform::Affine {
                    center: constants("center", &params.center),
                    scale: constants("scale", &params.scale),
                    bias: constants("bias", &params.bias),
                    exact,
                })
            }
            _ => Ok(Transform::Same),
        }
    }

    /// The number that an accumulator becomes; where the output has two levels and `as_bit` is set, 0 or 1.
    pub fn apply(&self, b: &mut Body<'_>, x: Expr, channel: Expr, as_bit: bool) -> Expr {
        match self {
            Transform::Same => x,
            Transform::Affine { center, scale, bias, exact } => {
                // The plan has shown for each channel that no step of exact arithmetic leaves these bounds.
                let bounded = |x: Expr| if *exact { x.within(-EXACT, EXACT) } else { x };
                let x = if *exact { x } else { b.convert(x, Ty::Float) };
                let x = match center {
                    Some(t) => bounded(x - b.constant(*t, channel.clone())),
                    None => x,
                };
                let x = match scale {
                    Some(t) => bounded(x * b.constant(*t, channel.clone())),
                    None => x,
                };
                match bias {
                    Some(t) => bounded(x + b.constant(*t, channel)),
                    // The reference adds 0, which makes -0 a 0.
                    None if !*exact => x + Expr::float(0.0),
                    None => x,
                }
            }
            Transform::Levels { thresholds, flips, steps, min, step } => {
                let x = b.name("sum", x);
                let first = channel.clone() * Expr::int(*steps);
                let count = if *steps <= 3 {
                    let reached =
                        |i: usize| x.clone().ge(b.constant(*thresholds, first.clone() + Expr::int(i)));
                    (0..*steps).map(reached).reduce(|a, b| a + b).unwrap_or(Expr::int(0))
                } else {
                    let count = b.counter("level", Expr::int(0), 0, *steps as i64);
                    b.repeat("step", *steps, |b, i| {
                        let t = b.constant(*thresholds, first + i);
                        b.when(x.ge(t), |b| b.set(&count, count.clone() + Expr::int(1)));
                    });
                    count
                };
                let count = match flips {
                    Some(t) if *steps == 1 => count ^ b.constant(*t, channel),
                    Some(t) => {
                        let missed = Expr::int(*steps) - count.clone();
                        b.constant(*t, channel).select(missed, count)
                    }
                    None => count,
                };
                if as_bit { count } else { count * Expr::int(*step) + Expr::int(*min) }
            }
        }
    }
}
