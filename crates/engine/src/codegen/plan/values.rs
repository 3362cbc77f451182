//! What the elements of every value are, worked out from the input on: bounds of integers choose how wide they are stored, and
//! show which floats of the model are integers, computed exactly.

use super::{Home, Layout, Repr, Value};
use crate::codegen::ir::Kind;
use crate::codegen::target::Target;
use crate::error::{Error, Result};
use onebit_core::model::{Model, Node, Params, Tensor};
use onebit_core::ops::{Activation, Op, PoolKind};
use onebit_core::{DType, Quant, Shape, ValueType};

/// Integers up to this size are exact in single precision.
pub const EXACT: i64 = 1 << 24;

/// Largest network that is generated: far more than small processors hold, and planned in seconds.
const MOST_LAYERS: usize = 4096;
const MOST_ELEMENTS: usize = 1 << 24;
const MOST_ROWS: usize = 1 << 12;

/// The value that the scores are: a softmax or an argmax at the end changes no class and is left out.
pub fn output(model: &Model<'_>, notes: &mut Vec<String>) -> usize {
    let mut output = model.nodes().len();
    while let Some(node) = output.checked_sub(1).map(|i| &model.nodes()[i]) {
        let is_vector = model.types()[output].shape.pixels() == 1;
        let moves = matches!(node.op, Op::Softmax | Op::Argmax) && is_vector;
        if !moves || output == 1 {
            break;
        }
        notes.push(format!(
            "scores are those before '{}' ({}), the class is the same",
            node.name,
            node.op.name()
        ));
        output = node.inputs[0];
    }
    output
}

/// All values up to `output`.
pub fn values(model: &Model<'_>, output: usize, target: Target) -> Result<Vec<Value>> {
    if output > MOST_LAYERS {
        return Err(Error::Model(format!(
            "the network has {output} layers, more than generated code is meant for"
        )));
    }
    let size = |s: Shape| s.elements() > MOST_ELEMENTS || s.h > MOST_ROWS;
    if size(model.input().shape) {
        return Err(Error::Model(format!("the input, {}, is too large for generated code", model.input())));
    }
    let mut values = vec![input(model.input())?];
    for (i, node) in model.nodes()[..output].iter().enumerate() {
        let out = model.types()[i + 1];
        let weights = node.params.each().map(|(_, t)| t.rows.saturating_mul(t.cols)).max().unwrap_or(0);
        if size(out.shape) || weights > MOST_ELEMENTS {
            let text = format!(
                "({}) with {weights} weights and output {out} is too large for generated code",
                node.op.name()
            );
            return Err(Error::layer(&node.name, text));
        }
        let types: Vec<ValueType> = node.inputs.iter().map(|v| model.types()[*v]).collect();
        let reprs: Vec<Repr> = node.inputs.iter().map(|v| values[*v].repr).collect();
        let repr = repr(node, &types, &reprs, out).map_err(|e| Error::layer(&node.name, e))?;
        let layout =
            layout(repr, out.shape, target, i + 1 == output).map_err(|e| Error::layer(&node.name, e))?;
        let home = if i + 1 == output { Home::Scores } else { Home::Scratch(0) };
        values.push(Value { shape: out.shape, repr, layout, home, rows: out.shape.h });
    }
    Ok(values)
}

fn input(ty: ValueType) -> Result<Value> {
    let (repr, layout) = match ty.dtype {
        DType::BIT => (Repr::Bits, Layout::Bits { pixel: ty.shape.c, unit: Kind::U8 }),
        DType::F32 | DType::I32 => {
            let text = format!(
                "the network takes {}, but generated code takes bytes or bits: convert it with --quantize, or train with an \
                 input of bytes or bits",
                ty.dtype
            );
            return Err(Error::Model(text));
        }
        other => {
            let quant = other.quant().unwrap_or(Quant::BIT);
            let (lo, hi) = (quant.min().into(), quant.max().into());
            match Kind::holding(lo, hi) {
                Some(kind @ (Kind::U8 | Kind::I8)) => (Repr::Int { lo, hi }, Layout::Numbers(kind)),
                _ => {
                    let text = format!("the network takes {other}, which does not fit into bytes");
                    return Err(Error::Model(text));
                }
            }
        }
    };
    Ok(Value { shape: ty.shape, repr, layout, home: Home::Input, rows: ty.shape.h })
}

/// Layout of a value that stages make.
fn layout(repr: Repr, shape: Shape, target: Target, is_output: bool) -> Result<Layout, String> {
    let word = target.word();
    Ok(match repr {
        Repr::Bits if is_output => Layout::Numbers(Kind::I16),
        Repr::Bits if shape.c == 1 => {
            let bits = [8, 16, 32].into_iter().find(|b| *b >= shape.w.min(word)).unwrap_or(word);
            Layout::Bits { pixel: 1, unit: Kind::unsigned(bits.min(word)) }
        }
        Repr::Bits => {
            let pixel = shape.c.next_multiple_of(8);
            let bits = [32, 16, 8].into_iter().find(|b| *b <= word && pixel.is_multiple_of(*b)).unwrap_or(8);
            Layout::Bits { pixel, unit: Kind::unsigned(bits) }
        }
        Repr::Float => Layout::Numbers(Kind::F32),
        Repr::Int { lo, hi } => match Kind::holding(lo, hi) {
            Some(Kind::I32) => Layout::Numbers(Kind::I32),
            Some(_) if is_output && lo >= -0x8000 && hi <= 0x7FFF => Layout::Numbers(Kind::I16),
            Some(_) if is_output => Layout::Numbers(Kind::I32),
            Some(kind) => Layout::Numbers(kind),
            None => return Err(format!("its integers, {lo} to {hi}, do not fit into 32 bits")),
        },
    })
}

/// Bounds of the elements that an op makes, in the order of the reference's arithmetic.
fn repr(node: &Node<'_>, types: &[ValueType], inputs: &[Repr], out: ValueType) -> Result<Repr, String> {
    let refuse = |why: &str| Err(format!("({}) {why}", node.op.name()));
    let x = inputs[0];
    let ints = |(lo, hi): (i64, i64)| Ok(Repr::Int { lo, hi });
    let quant =
        |q: Quant| if q.is_bit() { Repr::Bits } else { Repr::Int { lo: q.min().into(), hi: q.max().into() } };
    let bounds = |r: Repr| match r {
        Repr::Bits => Some((-1, 1)),
        Repr::Int { lo, hi } => Some((lo, hi)),
        Repr::Float => None,
    };
    if let Op::Quantize(q) = node.op {
        return match bounds(x) {
            // Few numbers: each is looked up.
            Some((lo, hi)) if hi - lo < 256 => match out.dtype {
                DType::BIT => Ok(Repr::Bits),
                _ => ints((q.lowest.into(), q.highest.into())),
            },
            _ => refuse("rounds floats, which is not generated yet: convert it with --quantize"),
        };
    }
    if let DType::Bits(q) = out.dtype
        && !matches!(node.op, Op::Reshape(_) | Op::Slice(_) | Op::Concat | Op::Pad(_) | Op::BPool2d(_))
    {
        return match node.op {
            Op::Sign(_) | Op::Threshold(_) | Op::BConv2d(_) | Op::BDense(_) => Ok(quant(q)),
            _ => refuse("is not generated yet for this format; --quantize or another activation avoids it"),
        };
    }
    match node.op {
        Op::BConv2d(_) | Op::BDense(_) => {
            let pad = if let Op::BConv2d(c) = node.op { i64::from(c.pad_value) } else { 0 };
            let acc = accumulator(node, x, pad);
            if out.dtype == DType::F32 { Ok(affine(&node.params, acc)) } else { ints(acc) }
        }
        Op::Affine => Ok(bounds(x).map_or(Repr::Float, |b| affine(&node.params, b))),
        Op::Reshape(_) | Op::Slice(_) | Op::BPool2d(_) => Ok(x),
        Op::Pad(p) if p.mode == onebit_core::ops::PadMode::Constant => match x {
            Repr::Int { lo, hi } => {
                let v = p.value as i64;
                if v as f32 != p.value { Ok(Repr::Float) } else { ints((lo.min(v), hi.max(v))) }
            }
            other => Ok(other),
        },
        Op::Pool2d(p) if p.kind == PoolKind::Max => Ok(x),
        Op::Pool2d(_) => Ok(Repr::Float),
        Op::Concat => Ok(inputs.iter().copied().reduce(join).unwrap_or(x)),
        Op::Decode => match bounds(x) {
            Some(b) => ints(b),
            None => Ok(x),
        },
        Op::Lookup => match node.params.weight.as_ref().and_then(Tensor::as_i32) {
            Some(t) => ints(ends(t.iter().map(|v| i64::from(*v)))),
            None => refuse("has no table"),
        },
        Op::Activation(a) => match (a, bounds(x)) {
            (Activation::Relu, Some((lo, hi))) => ints((lo.max(0), hi.max(0))),
            (Activation::Clip { low, high }, Some((lo, hi))) if whole(low) && whole(high) => {
                let clip = |v: i64| v.max(low as i64).min(high as i64);
                ints((clip(lo), clip(hi)))
            }
            (Activation::Relu | Activation::Clip { .. }, _) => Ok(Repr::Float),
            _ => refuse(
                "is computed with floats that generated code has no functions for; replace it by relu or clip",
            ),
        },
        Op::Prelu => Ok(Repr::Float),
        Op::Add | Op::Mul | Op::Max | Op::Min => {
            let (Some(a), Some(b)) = (bounds(x), bounds(inputs[1])) else { return Ok(Repr::Float) };
            let all = |f: fn(i64, i64) -> i64| {
                ends([f(a.0, b.0), f(a.0, b.1), f(a.1, b.0), f(a.1, b.1)].into_iter())
            };
            let (lo, hi) = match node.op {
                Op::Add => all(|a, b| a + b),
                Op::Mul => all(|a, b| a.saturating_mul(b)),
                Op::Max => all(i64::max),
                _ => all(i64::min),
            };
            let limit = if types[0].dtype == DType::F32 { EXACT } else { i64::from(i32::MAX) };
            match lo >= -limit && hi <= limit {
                true => ints((lo, hi)),
                false if types[0].dtype == DType::F32 => Ok(Repr::Float),
                false => refuse("could overflow 32 bits"),
            }
        }
        Op::Conv2d(_) | Op::Dense => refuse(
            "multiplies floats in a chain of fused multiply-adds, which no small processor computes exactly: convert it with \
             --quantize, which turns float layers to integers",
        ),
        _ => refuse("is not generated yet; replace the layer, or run the network with the library"),
    }
}

/// Elements of either.
fn join(a: Repr, b: Repr) -> Repr {
    match (a, b) {
        (Repr::Bits, Repr::Bits) => Repr::Bits,
        (Repr::Int { lo, hi }, Repr::Int { lo: l, hi: h }) => Repr::Int { lo: lo.min(l), hi: hi.max(h) },
        _ => Repr::Float,
    }
}

fn ends(values: impl Iterator<Item = i64>) -> (i64, i64) {
    values.fold((i64::MAX, i64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)))
}

/// Whether a float is an integer that is exact, and no negative zero.
pub fn whole(v: f32) -> bool {
    v.fract() == 0.0 && v.abs() <= EXACT as f32
}

/// Bounds of the accumulator of a convolution: those of the filter that reaches farthest.
fn accumulator(node: &Node<'_>, x: Repr, pad: i64) -> (i64, i64) {
    let (lo, hi) = match x {
        Repr::Int { lo, hi } => (lo, hi),
        _ => (-1, 1),
    };
    let can_pad = matches!(node.op, Op::BConv2d(c) if c.window.pad != [0; 4]);
    let (lo, hi) = if can_pad { (lo.min(pad), hi.max(pad)) } else { (lo, hi) };
    let Some((w, values)) = node.params.weight.as_ref().and_then(|w| Some((w, w.to_i32()?))) else {
        return (0, 0);
    };
    let rows = values.chunks_exact(w.cols.max(1)).map(|row| {
        row.iter()
            .map(|w| i64::from(*w))
            .fold((0, 0), |(l, h), w| (l + (w * lo).min(w * hi), h + (w * lo).max(w * hi)))
    });
    rows.fold((0, 0), |(l, h), (a, b)| (l.min(a), h.max(b)))
}

/// What `(x - center) * scale + bias` is: integers where all constants are and no step leaves the exact range.
fn affine(params: &Params<Tensor<'_>>, (lo, hi): (i64, i64)) -> Repr {
    let constants = |t: &Option<Tensor<'_>>| t.as_ref().and_then(|t| t.as_f32()).map(<[f32]>::to_vec);
    let (center, scale, bias) =
        (constants(&params.center), constants(&params.scale), constants(&params.bias));
    let all = [&center, &scale, &bias].into_iter().flatten().flatten();
    if !all.clone().all(|v| whole(*v)) || lo < -EXACT || hi > EXACT {
        return Repr::Float;
    }
    let n = [&center, &scale, &bias].into_iter().flatten().map(Vec::len).max().unwrap_or(1);
    let at = |t: &Option<Vec<f32>>, i: usize, or: i64| t.as_ref().map_or(or, |t| t[i] as i64);
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for i in 0..n {
        let (c, s, b) = (at(&center, i, 0), at(&scale, i, 1), at(&bias, i, 0));
        for x in [lo, hi] {
            let (first, second, third) = (x - c, (x - c) * s, (x - c) * s + b);
            if first.abs() > EXACT || second.abs() > EXACT || third.abs() > EXACT {
                return Repr::Float;
            }
            (low, high) = (low.min(third), high.max(third));
        }
    }
    Repr::Int { lo: low, hi: high }
}
