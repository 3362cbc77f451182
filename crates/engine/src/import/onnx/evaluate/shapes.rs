//! Operators that ask for shapes or move elements.

use super::{Call, int};
use crate::error::{Error, Result};
use crate::import::array::{Array, Elements, MOST_AXES, axis_of, broadcast};

pub(super) fn evaluate(call: &Call) -> Result<Option<Array>> {
    Ok(Some(match call.op {
        "Identity" => call.input(0)?.clone(),
        "Shape" => shape(call)?,
        "Size" => int(call.input(0)?.len() as i64),
        "ConstantOfShape" => {
            let value = match call.node.tensor("value")? {
                Some(tensor) => tensor.to_array(&super::External::none())?,
                None => Array::scalar(0.0),
            };
            value.filled(lengths(call.input(0)?)?)?
        }
        "Reshape" => reshape(call)?,
        "Flatten" => {
            let array = call.input(0)?;
            let rank = array.shape.len();
            // Beyond the last axis is allowed here.
            let axis = match call.node.int("axis", 1)? {
                a if a == rank as i64 => rank,
                a => array.axis(a)?,
            };
            let (front, back) = array.shape.split_at(axis);
            array.reshaped(vec![front.iter().product(), back.iter().product()])?
        }
        "Squeeze" => squeeze(call)?,
        "Unsqueeze" => unsqueeze(call)?,
        "Transpose" => {
            let array = call.input(0)?;
            let rank = array.shape.len();
            let order: Vec<usize> = match call.node.ints("perm")? {
                Some(perm) => perm.iter().map(|a| axis_of(*a, rank)).collect::<Result<_>>()?,
                None => (0..rank).rev().collect(),
            };
            array.transposed(&order)?
        }
        "Expand" => {
            let (array, shape) = (call.input(0)?, lengths(call.input(1)?)?);
            let shape = broadcast([&array.shape[..], &shape])?;
            array.expanded(&shape)?.into_owned()
        }
        "Tile" => tile(call)?,
        "Gather" => gather(call)?,
        "Slice" => slice(call)?,
        "Concat" => {
            let inputs = call.all()?;
            let axis = inputs[0].axis(call.node.int("axis", 1)?)?;
            Array::concatenated(&inputs, axis)?
        }
        "Pad" => return pad(call),
        "Range" => range(call)?,
        _ => return Ok(None),
    }))
}

/// The lengths of axes that an array lists.
pub(super) fn lengths(array: &Array) -> Result<Vec<usize>> {
    let length =
        |d: &i64| usize::try_from(*d).map_err(|_| Error::Model(format!("an axis has the length {d}")));
    array.integers()?.iter().map(length).collect()
}

fn shape(call: &Call) -> Result<Array> {
    let shape = &call.input(0)?.shape;
    let rank = shape.len() as i64;
    let place = |p: i64| if p < 0 { p.saturating_add(rank) } else { p }.clamp(0, rank) as usize;
    let (start, end) = (place(call.node.int("start", 0)?), place(call.node.int("end", rank)?));
    Ok(Array::ints(shape.get(start..end).unwrap_or(&[]).iter().map(|d| *d as i64).collect()))
}

fn reshape(call: &Call) -> Result<Array> {
    let (array, wanted) = (call.input(0)?, call.wanted("shape", 1)?);
    if wanted.len() > MOST_AXES {
        return Err(Error::Model(format!("its result has more than {MOST_AXES} axes")));
    }
    let copies = !call.flag("allowzero", false)?;
    let wrong =
        || Error::Model(format!("a constant of shape {:?} cannot have the shape {wanted:?}", array.shape));
    let mut shape = Vec::new();
    let mut open = None;
    for (axis, d) in wanted.iter().enumerate() {
        shape.push(match d {
            0 if copies => *array.shape.get(axis).ok_or_else(wrong)?,
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            d => usize::try_from(*d).map_err(|_| wrong())?,
        });
    }
    if let Some(axis) = open {
        let known = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(wrong)?;
        shape[axis] = array.len().checked_div(known).ok_or_else(wrong)?;
    }
    array.reshaped(shape)
}

fn squeeze(call: &Call) -> Result<Array> {
    let array = call.input(0)?;
    let axes: Option<Vec<usize>> = match call.list("axes", 1)? {
        Some(axes) => Some(axes.iter().map(|a| array.axis(*a)).collect::<Result<_>>()?),
        None => None,
    };
    let mut shape = Vec::new();
    for (axis, d) in array.shape.iter().enumerate() {
        match &axes {
            Some(axes) if axes.contains(&axis) && *d != 1 => {
                return Err(Error::Model(format!("axis {axis} has the length {d} and cannot be squeezed")));
            }
            Some(axes) if axes.contains(&axis) => {}
            None if *d == 1 => {}
            _ => shape.push(*d),
        }
    }
    array.reshaped(shape)
}

fn unsqueeze(call: &Call) -> Result<Array> {
    let (array, axes) = (call.input(0)?, call.wanted("axes", 1)?);
    let rank = array.shape.len() + axes.len();
    if rank > MOST_AXES {
        return Err(Error::Model(format!("its result has more than {MOST_AXES} axes")));
    }
    let mut new = vec![false; rank];
    for axis in &axes {
        if std::mem::replace(&mut new[axis_of(*axis, rank)?], true) {
            return Err(Error::Model("it names an axis twice".into()));
        }
    }
    let mut old = array.shape.iter();
    let shape = new.iter().map(|new| if *new { 1 } else { old.next().copied().unwrap_or(1) });
    array.reshaped(shape.collect())
}

fn tile(call: &Call) -> Result<Array> {
    let (mut array, repeats) = (call.input(0)?.clone(), lengths(call.input(1)?)?);
    if repeats.len() != array.shape.len() {
        return Err(Error::Model(format!(
            "it has {} axes, but {} repeats",
            array.shape.len(),
            repeats.len()
        )));
    }
    for (axis, repeat) in repeats.iter().enumerate() {
        let length = array.shape[axis];
        if *repeat != 1 {
            // At most the number of elements of the result unless that is 0.
            let n = length.checked_mul(*repeat).filter(|n| *n <= call.most);
            let n = n.ok_or_else(|| Error::Model("its repeats are too large".into()))?;
            let indices: Vec<usize> = (0..n).map(|i| i % length).collect();
            array = array.taken(axis, &indices)?;
        }
    }
    Ok(array)
}

fn gather(call: &Call) -> Result<Array> {
    let (array, indices) = (call.input(0)?, call.input(1)?);
    let axis = array.axis(call.node.int("axis", 0)?)?;
    let length = array.shape[axis];
    let places: Vec<usize> = indices
        .integers()?
        .iter()
        .map(|i| axis_of(*i, length).map_err(|_| no_index(*i, length)))
        .collect::<Result<_>>()?;
    let mut shape = array.shape.clone();
    shape.splice(axis..=axis, indices.shape.iter().copied());
    array.taken(axis, &places)?.reshaped(shape)
}

fn no_index(index: i64, length: usize) -> Error {
    Error::Model(format!("an axis of length {length} has no index {index}"))
}

fn slice(call: &Call) -> Result<Array> {
    let mut array = call.input(0)?.clone();
    let (starts, ends) = (call.wanted("starts", 1)?, call.wanted("ends", 2)?);
    let axes = call.list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = match call.optional(4) {
        Some(steps) => steps.integers()?.to_vec(),
        None => vec![1; starts.len()],
    };
    if [ends.len(), axes.len(), steps.len()].iter().any(|n| *n != starts.len()) {
        return Err(Error::Model("its starts, ends, axes and steps differ in number".into()));
    }
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = array.axis(*axis)?;
        // Wide enough for the extremes of 64 bits, which mean "to the end".
        let (length, step) = (array.shape[axis] as i128, i128::from(*step));
        let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let place = |p: i64| {
            let p = i128::from(p);
            (if p < 0 { p + length } else { p }).clamp(lowest, highest)
        };
        let (start, end) = (place(*start), place(*end));
        let n = match step {
            0 => return Err(Error::Model("it has steps of 0".into())),
            s if s > 0 => (end - start + s - 1) / s,
            s => (end - start + s + 1) / s,
        };
        let indices: Vec<usize> = (0..n.max(0)).map(|i| (start + i * step) as usize).collect();
        array = array.taken(axis, &indices)?;
    }
    Ok(array)
}

/// The outputs of a Split.
pub(super) fn split(call: &Call) -> Result<Vec<Array>> {
    let array = call.input(0)?;
    let axis = array.axis(call.node.int("axis", 0)?)?;
    let (length, outputs) = (array.shape[axis], call.node.outputs.len());
    let parts: Vec<usize> = match call.list("split", 1)? {
        Some(parts) => lengths(&Array::ints(parts))?,
        None => {
            let part = length.div_ceil(outputs.max(1));
            (0..outputs).map(|i| length.saturating_sub(i * part).min(part)).collect()
        }
    };
    let sum = parts.iter().try_fold(0usize, |s, p| s.checked_add(*p));
    if parts.len() != outputs || sum != Some(length) {
        return Err(Error::Model(format!("its {outputs} parts do not fill an axis of length {length}")));
    }
    let mut start = 0;
    let mut arrays = Vec::new();
    for part in parts {
        let indices: Vec<usize> = (start..start + part).collect();
        arrays.push(array.taken(axis, &indices)?);
        start += part;
    }
    Ok(arrays)
}

fn pad(call: &Call) -> Result<Option<Array>> {
    let mut array = call.input(0)?.clone();
    if call.node.text("mode", "constant")? != "constant" {
        return Ok(None);
    }
    let pads = match call.list("pads", 1)? {
        Some(pads) => pads,
        None => call.wanted("paddings", 1)?,
    };
    let zero = match &array.elements {
        Elements::F32(_) => Array::scalar(call.node.float("value", 0.0)?),
        Elements::I64(_) => int(0),
        Elements::Bool(_) => Array { shape: Vec::new(), elements: Elements::Bool(vec![false]) },
    };
    let value = call.optional(2).unwrap_or(&zero);
    let axes = match call.optional(3) {
        Some(axes) => axes.integers()?.to_vec(),
        None => (0..array.shape.len() as i64).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Error::Model(format!("it has {} paddings for {} axes", pads.len(), axes.len())));
    }
    for (i, axis) in axes.iter().enumerate() {
        let (before, after) = (pads[i], pads[i + axes.len()]);
        if (before, after) != (0, 0) {
            let axis = array.axis(*axis)?;
            let others = array.shape.iter().enumerate().filter(|(a, _)| *a != axis);
            let slice: usize = others.map(|(_, d)| *d).product();
            let more = before.max(0).saturating_add(after.max(0)) as usize;
            call.room(slice.saturating_mul(more).saturating_add(array.len()))?;
            array = array.padded(axis, before, after, value)?;
        }
    }
    Ok(Some(array))
}

fn range(call: &Call) -> Result<Array> {
    let (start, limit, delta) = (call.input(0)?, call.input(1)?, call.input(2)?);
    if [start, limit, delta].iter().any(|a| a.len() != 1) {
        return Err(Error::Model("its inputs are not single numbers".into()));
    }
    match (&start.elements, &limit.elements, &delta.elements) {
        (Elements::I64(start), Elements::I64(limit), Elements::I64(delta)) => {
            let [start, limit, delta] = [start[0], limit[0], delta[0]].map(i128::from);
            if delta == 0 {
                return Err(Error::Model("it has steps of 0".into()));
            }
            let n = (limit - start + delta - delta.signum()).checked_div(delta).unwrap_or(0).max(0);
            let n = usize::try_from(n).unwrap_or(usize::MAX);
            call.room(n)?;
            Ok(Array::ints((0..n).map(|i| (start + i as i128 * delta) as i64).collect()))
        }
        _ => {
            let [start, limit, delta] = [start.floats()?[0], limit.floats()?[0], delta.floats()?[0]];
            let n = (f64::from(limit - start) / f64::from(delta)).ceil().max(0.0);
            // The cast saturates.
            call.room(n as usize)?;
            // Each element is the sum of the one before and the step, as onnxruntime has it.
            let mut next = start;
            let step = |_| {
                let value = next;
                next += delta;
                value
            };
            let values: Vec<f32> = (0..n as usize).map(step).collect();
            Array::new(vec![values.len()], Elements::F32(values))
        }
    }
}
