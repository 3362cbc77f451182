//! Ops that compute functions of floats.

use super::unary::{Round, Unary};
use super::{Affine, Lowerer};
use crate::error::{Error, Result};
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{Activation, Elementwise, Op};

impl Lowerer {
    /// Adds the op that computes a function of floats.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn emit(&mut self, name: &str, value: usize, f: Unary) -> Result<usize> {
        let c = self.shape(value).c;
        self.check_room(name, c.checked_mul(3))?;
        let all = |v: f32| vec![v; c];
        let clip = |low: f32, high: f32| {
            Op::Activation(Activation::Clip { low: low.max(f32::MIN), high: high.min(f32::MAX) })
        };
        let activation = match f {
            Unary::Add(v) => return self.affine(name, value, Affine::of_bias(all(v))),
            Unary::Sub(v) => return self.affine(name, value, Affine::of_center(all(v))),
            Unary::Mul(v) => return self.affine(name, value, Affine::of_scale(all(v))),
            Unary::Div(v) => return self.affine(name, value, Affine::of_scale(all(1.0 / v))),
            Unary::SubFrom(v) => {
                let affine = Affine { center: None, scale: all(-1.0), bias: all(v) };
                return self.affine(name, value, affine);
            }
            Unary::Max(0.0) => Op::Activation(Activation::Relu),
            Unary::Max(v) => clip(v, f32::MAX),
            Unary::Min(v) => clip(f32::MIN, v),
            Unary::Clip(low, high) if low == 0.0 && high == f32::INFINITY => Op::Activation(Activation::Relu),
            Unary::Clip(low, high) => clip(low, high),
            Unary::Leaky(slope) => {
                let params = Params { scale: Some(Tensor::f32(all(slope))), ..Params::default() };
                return self.add(name, Op::Prelu, &[value], params);
            }
            Unary::Abs => Op::Activation(Activation::Abs),
            // The part above 0 and that below are rounded apart.
            Unary::Round(
                round @ (Round::ToZero
                | Round::FromZero
                | Round::HalfAway
                | Round::HalfUp
                | Round::HalfToZero),
            ) => {
                let (moved, above, below) = match round {
                    Round::ToZero => (0.0, Round::Floor, Round::Ceil),
                    Round::FromZero => (0.0, Round::Ceil, Round::Floor),
                    Round::HalfToZero => (-0.5, Round::Ceil, Round::Floor),
                    _ => (0.5, Round::Floor, Round::Ceil),
                };
                let above = [Unary::Add(moved), Unary::Round(above), Unary::Max(0.0)];
                let below = [Unary::Sub(moved), Unary::Round(below), Unary::Min(0.0)];
                let above = above.into_iter().try_fold(value, |value, f| self.emit(name, value, f))?;
                let below = below.into_iter().try_fold(value, |value, f| self.emit(name, value, f))?;
                return self.add(name, Op::Add, &[above, below], Params::default());
            }
            Unary::Round(Round::HalfEven) => Op::Activation(Activation::Round),
            Unary::Round(Round::Floor) => Op::Activation(Activation::Floor),
            Unary::Round(Round::Ceil) => Op::Activation(Activation::Ceil),
            Unary::Activation(a) => Op::Activation(a),
            Unary::DivInto(v) => {
                let zeros = self.add(name, clip(0.0, 0.0), &[value], Params::default())?;
                let top = self.affine(name, zeros, Affine::of_bias(all(v)))?;
                return self.add(name, Op::Div, &[top, value], Params::default());
            }
            Unary::Pow(c) if (1.0..=4.0).contains(&c) && c.fract() == 0.0 => {
                let times = |product, _| self.add(name, Op::Mul, &[product, value], Params::default());
                return (1..c as usize).try_fold(value, times);
            }
            Unary::Pow(0.5) => Op::Activation(Activation::Sqrt),
            Unary::Quantize(q) => {
                // A product with the reciprocal would round ties elsewhere.
                let zeros = self.add(name, clip(0.0, 0.0), &[value], Params::default())?;
                let scale = self.affine(name, zeros, Affine::of_bias(all(q.scale)))?;
                let value = self.add(name, Op::Div, &[value, scale], Params::default())?;
                let steps = [
                    Unary::Add(q.zero),
                    Unary::Clip(q.lowest, q.highest),
                    Unary::Round(q.rounding),
                    Unary::Sub(q.zero),
                    Unary::Mul(q.scale),
                ];
                return steps.into_iter().try_fold(value, |value, f| self.emit(name, value, f));
            }
            _ => return Err(Error::layer(name, format!("computes {f:?} of floats, which is not supported"))),
        };
        self.add(name, activation, &[value], Params::default())
    }

    /// Elementwise op of two maps.
    pub(super) fn elementwise(op: Elementwise) -> Op {
        match op {
            Elementwise::Add => Op::Add,
            Elementwise::Mul => Op::Mul,
            Elementwise::Div => Op::Div,
            Elementwise::Max => Op::Max,
            Elementwise::Min => Op::Min,
        }
    }
}
