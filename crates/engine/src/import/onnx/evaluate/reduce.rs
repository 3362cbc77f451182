//! Operators that take many elements to one, and products of matrices.

use super::Call;
use crate::error::{Error, Result};
use crate::import::array::{Array, Elements, Reduction};

pub(super) fn evaluate(call: &Call) -> Result<Option<Array>> {
    Ok(Some(match call.op {
        "ReduceSum" => reduce(call, Reduction::Sum)?,
        "ReduceMean" => reduce(call, Reduction::Mean)?,
        "ReduceMax" => reduce(call, Reduction::Max)?,
        "ReduceMin" => reduce(call, Reduction::Min)?,
        "ReduceProd" => reduce(call, Reduction::Prod)?,
        "ReduceL1" => reduce(call, Reduction::L1)?,
        "ReduceL2" => reduce(call, Reduction::L2)?,
        "ReduceSumSquare" => reduce(call, Reduction::SumSquare)?,
        "ReduceLogSumExp" => reduce(call, Reduction::LogSumExp)?,
        "ArgMax" => extreme(call, false)?,
        "ArgMin" => extreme(call, true)?,
        "Softmax" => softmax(call)?,
        "MatMul" => match (call.input(0)?, call.input(1)?) {
            (a, b) if a.shape.len() == 2 && b.shape.len() == 2 => a.multiplied(b)?,
            _ => return Ok(None),
        },
        "Gemm" => gemm(call)?,
        _ => return Ok(None),
    }))
}

fn reduce(call: &Call, how: Reduction) -> Result<Array> {
    let x = call.input(0)?;
    let axes = call.list("axes", 1)?.unwrap_or_default();
    let keep = call.flag("keepdims", true)?;
    let mut axes: Vec<usize> = axes.iter().map(|a| x.axis(*a)).collect::<Result<_>>()?;
    axes.sort_unstable();
    axes.dedup();
    if axes.is_empty() {
        if call.flag("noop_with_empty_axes", false)? {
            return Ok(x.clone());
        }
        axes = (0..x.shape.len()).collect();
    }
    x.reduced(&axes, how, keep)
}

/// Places of the largest elements along an axis, or of the smallest.
fn extreme(call: &Call, smallest: bool) -> Result<Array> {
    let x = call.input(0)?;
    let axis = x.axis(call.node.int("axis", 0)?)?;
    let last = call.flag("select_last_index", false)?;
    fn places<T: PartialOrd>(v: &[T], length: usize, smallest: bool, last: bool) -> Vec<i64> {
        let best = |row: &[T]| {
            let better = |best: usize, i: usize| {
                let better = if smallest { row[i] < row[best] } else { row[i] > row[best] };
                if better || last && row[i] == row[best] { i } else { best }
            };
            (1..row.len()).fold(0, better) as i64
        };
        v.chunks_exact(length.max(1)).map(best).collect()
    }
    let (rows, length) = x.rows(&[axis])?;
    if length == 0 {
        return Err(Error::Model("an axis without elements has no maximum".into()));
    }
    let elements = match &rows.elements {
        Elements::F32(v) => places(v, length, smallest, last),
        Elements::I64(v) => places(v, length, smallest, last),
        Elements::Bool(_) => return Err(Error::Model("truth values have no maximum".into())),
    };
    let mut shape = x.shape.clone();
    match call.flag("keepdims", true)? {
        true => shape[axis] = 1,
        false => _ = shape.remove(axis),
    }
    Array::new(shape, Elements::I64(elements))
}

/// Before version 13 over all axes from the given one on, since then along it alone.
fn softmax(call: &Call) -> Result<Array> {
    let x = call.input(0)?;
    let rank = x.shape.len();
    let axes: Vec<usize> = match call.opset < 13 {
        true => (x.axis(call.node.int("axis", 1)?)?..rank).collect(),
        false => vec![x.axis(call.node.int("axis", -1)?)?],
    };
    let (rows, length) = x.rows(&axes)?;
    let mut values = rows.floats()?.to_vec();
    for row in values.chunks_exact_mut(length.max(1)) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let power = |v: &f32| f64::from(*v - most).exp();
        let sum: f64 = row.iter().map(power).sum();
        row.iter_mut().for_each(|v| *v = (power(v) / sum) as f32);
    }
    let result = Array::new(rows.shape.clone(), Elements::F32(values))?;
    // Back from where `rows` put the axes.
    let moved: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).chain(axes.iter().copied()).collect();
    let back: Vec<usize> = (0..rank).map(|a| moved.iter().position(|m| *m == a).unwrap_or(a)).collect();
    result.transposed(&back)
}

fn gemm(call: &Call) -> Result<Array> {
    let side = |i: usize, attribute: &str| {
        let x = call.input(i)?;
        match call.flag(attribute, false)? && x.shape.len() == 2 {
            true => x.transposed(&[1, 0]),
            false => Ok(x.clone()),
        }
    };
    let product = side(0, "transA")?.multiplied(&side(1, "transB")?)?;
    let alpha = call.node.float("alpha", 1.0)?;
    let product = product.map(|v| alpha * v)?;
    match call.optional(2) {
        None => Ok(product),
        Some(c) => {
            let beta = call.node.float("beta", 1.0)?;
            let c = c.map(|v| beta * v)?;
            let c = c.expanded(&product.shape)?;
            product.zip(&c, |a, c| a + c, |a, _| Ok(a))
        }
    }
}
