//! Built-in ops that only move elements. Shapes must be constants once all that is known is computed.

use super::network::{Kind, Live, Network, Node, Value};
use crate::error::Result;
use crate::import::array::{Array, Elements};
use crate::import::lower::{Channels, Split};

/// Integers as a constant.
fn ints(values: Vec<i64>) -> Value {
    Value::Constant(Array::ints(values))
}

/// The shape of a value, which is a constant.
pub fn shape(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let shape = match network.stored(node, 0)? {
        Value::Live(live) => live.shape(),
        Value::Constant(array) => array.shape,
    };
    Ok(ints(shape.into_iter().map(|d| d as i64).collect()))
}

/// `target` for so many elements, with the length that it leaves open.
fn filled(node: &Node<'_>, elements: usize, target: &[i64]) -> Result<Vec<usize>> {
    let refuse = || node.error(format!("cannot give {elements} elements the shape {target:?}"));
    let known =
        target.iter().filter(|d| **d != -1).try_fold(1usize, |n, d| n.checked_mul(usize::try_from(*d).ok()?));
    let open = known.and_then(|n| elements.checked_div(n)).unwrap_or(0);
    let length = |d: &i64| if *d == -1 { Some(open) } else { usize::try_from(*d).ok() };
    let shape: Vec<usize> = target.iter().map(length).collect::<Option<_>>().ok_or_else(refuse)?;
    match shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) == Some(elements) {
        true => Ok(shape),
        false => Err(refuse()),
    }
}

/// The same elements in another shape.
fn reshaped(network: &mut Network<'_>, node: &Node<'_>, x: Value, target: &[i64]) -> Result<Value> {
    match x {
        Value::Constant(array) => {
            let shape = filled(node, array.len(), target)?;
            Array::new(shape, array.elements).map(Value::Constant)
        }
        Value::Live(live) => {
            let mut shape = filled(node, live.var.dims.iter().product(), target)?;
            let batch = shape.first() == Some(&1);
            if batch {
                shape.remove(0);
            }
            let var = network.lowerer.reshaped(&node.name, live.var, shape)?;
            Ok(Value::Live(Live { var, batch, kind: live.kind }))
        }
    }
}

/// The shape in input 1, or in the options.
fn target(network: &mut Network<'_>, node: &Node<'_>) -> Result<Vec<i64>> {
    match node.optional(1) {
        Some(_) => network.ints(node, 1, "shape"),
        None => node.op.options.ints(0),
    }
}

/// The value that input 0 is a split of, if it is one.
fn split_input(network: &Network<'_>, node: &Node<'_>) -> Option<Split> {
    network.splits.get(&node.optional(0)?).cloned()
}

/// The result of a reshape or transpose that has more axes than a map; `None` where it has not, and of all other ops.
pub fn split_axes(network: &mut Network<'_>, node: &Node<'_>) -> Result<Option<Split>> {
    if node.optional(0).is_some_and(|i| network.blocks.contains_key(&i)) {
        return Ok(None);
    }
    match (node.op.name.as_ref(), split_input(network, node)) {
        ("RESHAPE", split) => {
            let target = target(network, node)?;
            if target.len() < 5 {
                return Ok(None);
            }
            let split = match split {
                Some(split) => split,
                None => match network.real(node, 0)? {
                    Value::Live(live) if live.batch => Split::of(live.var),
                    _ => return Ok(None),
                },
            };
            let shape = filled(node, split.dims.iter().product(), &target)?;
            Ok(shape.strip_prefix(&[1]).and_then(|dims| split.further(dims)))
        }
        ("TRANSPOSE", Some(split)) => {
            let axes = network.ints(node, 1, "order of axes")?;
            let mut sorted = axes.clone();
            sorted.sort_unstable();
            if !sorted.into_iter().eq(0..=split.dims.len() as i64) || axes[0] != 0 {
                return Err(node.error(format!("moves the batch axis or is no order of axes: {axes:?}")));
            }
            let order: Vec<usize> = axes[1..].iter().map(|a| *a as usize - 1).collect();
            Ok(Some(split.transposed(&order)))
        }
        _ => Ok(None),
    }
}

/// To another shape.
pub fn reshape(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let target = target(network, node)?;
    if let Some(split) = split_input(network, node) {
        let shape = filled(node, split.dims.iter().product(), &target)?;
        let Some(dims) = shape.strip_prefix(&[1]) else {
            return Err(node.error("joins the batch axis with others"));
        };
        let var = network.lowerer.joined(&node.name, split, dims.to_vec())?;
        return Ok(Value::Live(Live { var, batch: true, kind: Kind::Real }));
    }
    let x = network.real(node, 0)?;
    reshaped(network, node, x, &target)
}

fn shape_of(x: &Value) -> Vec<i64> {
    let shape = match x {
        Value::Live(live) => live.shape(),
        Value::Constant(array) => array.shape.clone(),
    };
    shape.into_iter().map(|d| d as i64).collect()
}

/// Without axes of length 1.
pub fn squeeze(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let x = network.real(node, 0)?;
    let shape = shape_of(&x);
    let rank = shape.len() as i64;
    let axes: Vec<i64> =
        node.op.options.ints(0)?.iter().map(|a| if *a < 0 { a + rank } else { *a }).collect();
    let dropped = |(i, d): (usize, &i64)| *d == 1 && (axes.is_empty() || axes.contains(&(i as i64)));
    let target: Vec<i64> = shape.iter().enumerate().filter(|p| !dropped(*p)).map(|(_, d)| *d).collect();
    reshaped(network, node, x, &target)
}

/// With one more axis of length 1.
pub fn expand(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let x = network.real(node, 0)?;
    let mut shape = shape_of(&x);
    let axis = match network.ints(node, 1, "axis")?.as_slice() {
        [axis] if *axis < 0 => axis.checked_add(shape.len() as i64 + 1),
        [axis] => Some(*axis),
        _ => None,
    };
    let axis = axis.and_then(|a| usize::try_from(a).ok()).filter(|a| *a <= shape.len());
    shape.insert(axis.ok_or_else(|| node.error("names an axis that cannot be"))?, 1);
    reshaped(network, node, x, &shape)
}

/// Axes in another order.
pub fn transpose(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = network.live(node, 0)?;
    let mut order = Vec::new();
    for axis in network.ints(node, 1, "order of axes")? {
        order.extend(live.axis(node, axis)?);
    }
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..live.var.dims.len()) {
        return Err(node.error(format!("does not name each axis once: {order:?}")));
    }
    let first = network.ints(node, 1, "order of axes")?.first().copied();
    if live.batch && first != Some(0) {
        return Err(node.error("moves the batch axis, which is not supported"));
    }
    let var = network.lowerer.transposed(live.var.clone(), &order);
    Ok(Value::Live(live.with(var)))
}

/// For each axis what is added in front and behind.
pub fn pad(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = network.live(node, 0)?;
    let table = network.ints(node, 1, "padding")?;
    let amount = |v: &i64| usize::try_from(*v).ok().filter(|v| *v < 1 << 16);
    let pads: Option<Vec<(usize, usize)>> =
        table.chunks(2).map(|p| amount(p.first()?).zip(amount(p.get(1)?))).collect();
    let pads = pads.filter(|p| p.len() == live.shape().len());
    let mut pads = pads.ok_or_else(|| node.error(format!("has the impossible padding {table:?}")))?;
    if live.batch && pads.remove(0) != (0, 0) {
        return Err(node.error("pads the batch axis"));
    }
    let (lowerer, var) = (&mut network.lowerer, live.var.clone());
    let var = match node.op.name.as_ref() {
        "PAD" => lowerer.padded(&node.name, var, &pads, 0.0)?,
        "PADV2" => {
            let value = network.constant(node, 2, "padding value")?.as_scalar();
            let value = value.ok_or_else(|| node.error("pads with several numbers"))?;
            network.lowerer.padded(&node.name, var, &pads, value)?
        }
        // A mirror that repeats the border is the border itself where it is one pixel wide.
        _ if node.op.options.choice(0)? == 0 => lowerer.mirrored(&node.name, var, &pads, true)?,
        _ if pads.iter().all(|(a, b)| *a.max(b) <= 1) => lowerer.mirrored(&node.name, var, &pads, false)?,
        _ => return Err(node.error("mirrors more than one pixel with its border, which is not supported")),
    };
    Ok(Value::Live(live.with(var)))
}

/// A part of an axis.
#[derive(Clone, Copy)]
struct Part {
    from: usize,
    length: usize,
    step: usize,
    /// Whether the axis goes away.
    shrink: bool,
}

/// Parts of the axes of a value.
fn cut(network: &mut Network<'_>, node: &Node<'_>, x: Value, parts: &[Part]) -> Result<Value> {
    match x {
        Value::Constant(array) => {
            let [part] = parts else {
                return Err(node.error("cuts a constant of several axes, which is not supported"));
            };
            let places = (0..part.length).map(|i| part.from + i * part.step);
            let pick = |v: &[f32]| places.clone().map(|i| v[i]).collect();
            let elements = match &array.elements {
                Elements::I64(v) => Elements::I64(places.clone().map(|i| v[i]).collect()),
                _ => Elements::F32(pick(&array.to_f32())),
            };
            let shape = if part.shrink { vec![] } else { vec![part.length] };
            Array::new(shape, elements).map(Value::Constant)
        }
        Value::Live(mut live) => {
            let mut inner = parts;
            if live.batch {
                live.batch = !parts[0].shrink;
                inner = &parts[1..];
            }
            let triples: Vec<(usize, usize, usize)> =
                inner.iter().map(|p| (p.from, p.length, p.step)).collect();
            let var = network.lowerer.sliced(&node.name, live.var.clone(), &triples)?;
            let gone: Vec<usize> = (0..inner.len()).filter(|i| inner[*i].shrink).collect();
            Ok(Value::Live(live.with(var.without(&gone))))
        }
    }
}

/// A part that starts at `begin` and has `size` elements, or all to the end.
pub fn slice(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let x = network.real(node, 0)?;
    let (begin, size) = (network.ints(node, 1, "begin")?, network.ints(node, 2, "size")?);
    let shape = shape_of(&x);
    let part = |i: usize| {
        let (from, length) = (*begin.get(i)?, *size.get(i)?);
        let length = if length == -1 { shape[i].checked_sub(from)? } else { length };
        let fits = from >= 0 && length > 0 && from.checked_add(length)? <= shape[i];
        fits.then_some(Part { from: from as usize, length: length as usize, step: 1, shrink: false })
    };
    let parts: Option<Vec<Part>> = (0..shape.len()).map(part).collect();
    let parts =
        parts.ok_or_else(|| node.error(format!("cuts {size:?} from {begin:?} out of shape {shape:?}")))?;
    cut(network, node, x, &parts)
}

/// Every so many elements from a begin to an end, as Python counts them.
pub fn strided_slice(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let x = network.real(node, 0)?;
    let [begin, end, steps] = ["begin", "end", "stride"];
    let (begin, end) = (network.ints(node, 1, begin)?, network.ints(node, 2, end)?);
    let steps = network.ints(node, 3, steps)?;
    let o = &node.op.options;
    let [begin_mask, end_mask, ellipsis, new_axis, shrink] =
        [o.int(0, 0)?, o.int(1, 0)?, o.int(2, 0)?, o.int(3, 0)?, o.int(4, 0)?];
    if ellipsis != 0 || new_axis != 0 || o.flag(5)? {
        return Err(node.error("cuts with an ellipsis, a new axis or an offset, which is not supported"));
    }
    let shape = shape_of(&x);
    let bit = |mask: i32, i: usize| mask >> i.min(31) & 1 == 1;
    let part = |i: usize| {
        let length = shape[i];
        let Some((begin, (end, step))) = begin.get(i).zip(end.get(i).zip(steps.get(i))) else {
            // Axes that are not named are whole.
            return Some(Part { from: 0, length: length as usize, step: 1, shrink: false });
        };
        let place = |v: i64| if v < 0 { v.saturating_add(length) } else { v }.clamp(0, length);
        let from = if bit(begin_mask, i) { 0 } else { place(*begin) };
        if bit(shrink, i) {
            return (from < length).then_some(Part { from: from as usize, length: 1, step: 1, shrink: true });
        }
        let to = if bit(end_mask, i) { length } else { place(*end) };
        let step = usize::try_from(*step).ok().filter(|s| *s > 0)?;
        let count = usize::try_from(to - from).ok().filter(|n| *n > 0)?.div_ceil(step);
        Some(Part { from: from as usize, length: count, step, shrink: false })
    };
    let parts: Option<Vec<Part>> = (0..shape.len()).map(part).collect();
    let parts = parts.ok_or_else(|| {
        node.error(format!(
            "cuts {begin:?} to {end:?} by {steps:?} out of shape {shape:?}, which is not supported"
        ))
    })?;
    cut(network, node, x, &parts)
}

/// Parts along an axis: equal ones (`SPLIT`: the axis is input 0), or those of the sizes in input 1 (`SPLIT_V`).
pub fn split(network: &mut Network<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let sized = node.op.name == "SPLIT_V";
    let live = network.live(node, if sized { 0 } else { 1 })?;
    let axis = match network.ints(node, if sized { 2 } else { 0 }, "axis")?.as_slice() {
        [axis] => live.axis(node, *axis)?,
        _ => None,
    };
    let axis = axis.ok_or_else(|| node.error("splits the batch axis"))?;
    let (length, count) = (live.var.dims[axis], node.op.outputs.len());
    let sizes = match sized {
        true => network.ints(node, 1, "sizes")?,
        false => vec![length.checked_div(count).unwrap_or(0) as i64; count],
    };
    let refuse = || node.error(format!("cannot split {length} into {count} parts of {sizes:?}"));
    let known = sizes.iter().filter(|s| **s != -1).try_fold(0i64, |n, s| n.checked_add(*s));
    let open = known.and_then(|n| (length as i64).checked_sub(n)).ok_or_else(refuse)?;
    let size = |s: &i64| usize::try_from(if *s == -1 { open } else { *s }).ok().filter(|s| *s > 0);
    let fits = |sizes: &Vec<usize>| {
        sizes.len() == count && sizes.iter().try_fold(0usize, |n, s| n.checked_add(*s)) == Some(length)
    };
    let sizes: Option<Vec<usize>> = sizes.iter().map(size).collect();
    let sizes = sizes.filter(fits).ok_or_else(refuse)?;
    parts(network, node, &live, axis, &sizes)
}

/// Parts of these sizes, which fill the axis.
fn parts(
    network: &mut Network<'_>,
    node: &Node<'_>,
    live: &Live,
    axis: usize,
    sizes: &[usize],
) -> Result<Vec<Value>> {
    let mut from = 0;
    let part = |size: &usize| {
        let mut parts: Vec<(usize, usize, usize)> = live.var.dims.iter().map(|d| (0, *d, 1)).collect();
        parts[axis] = (from, *size, 1);
        from += size;
        let var = network.lowerer.sliced(&node.name, live.var.clone(), &parts)?;
        Ok(Value::Live(live.with(var)))
    };
    sizes.iter().map(part).collect()
}

/// Each element of an axis, without it.
pub fn unpack(network: &mut Network<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let live = network.live(node, 0)?;
    let axis = live.axis(node, i64::from(node.op.options.int(1, 0)?))?;
    let axis = axis.ok_or_else(|| node.error("takes the batch apart"))?;
    let (length, count) = (live.var.dims[axis], node.op.outputs.len());
    if length != count {
        return Err(node.error(format!("makes {count} values of {length}")));
    }
    let sizes = vec![1; count];
    let single = |value| match value {
        Value::Live(live) => Value::Live(live.with(live.var.clone().without(&[axis]))),
        constant => constant,
    };
    Ok(parts(network, node, &live, axis, &sizes)?.into_iter().map(single).collect())
}

/// Channels become blocks of pixels, or the other way round.
pub fn blocks(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = network.live(node, 0)?;
    let block = usize::try_from(node.op.options.int(0, 0)?).unwrap_or(0);
    let (lowerer, name, var) = (&mut network.lowerer, &node.name, live.var.clone());
    let var = match node.op.name.as_ref() {
        "DEPTH_TO_SPACE" => lowerer.depth_to_space(name, var, Channels::Last, block, false)?,
        _ => lowerer.space_to_depth(name, var, Channels::Last, block)?,
    };
    Ok(Value::Live(live.with(var)))
}

/// Values side by side along an axis.
pub fn concat(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let axis = i64::from(node.op.options.int(0, 0)?);
    let parts = (0..node.op.inputs.len()).map(|i| network.real(node, i)).collect::<Result<Vec<Value>>>()?;
    let Some(Value::Live(first)) = parts.iter().find(|p| matches!(p, Value::Live(_))) else {
        return joined(network, node, parts);
    };
    let first = first.clone();
    let axis = first.axis(node, axis)?.ok_or_else(|| node.error("joins along the batch axis"))?;
    let live = parts.into_iter().map(|p| match p {
        Value::Live(live) => Ok(live.var),
        Value::Constant(_) => Err(node.error("joins a constant and a value, which is not supported")),
    });
    let vars = live.collect::<Result<Vec<_>>>()?;
    let var = network.lowerer.concat(&node.name, vars, axis)?;
    super::layers::activated(network, node, Value::Live(first.with(var)), node.op.options.choice(1)?)
}

/// Constants of one axis, one after the other.
fn joined(network: &mut Network<'_>, node: &Node<'_>, parts: Vec<Value>) -> Result<Value> {
    let mut all = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        match part {
            Value::Constant(array) if array.shape.len() <= 1 => {
                all.extend(network.ints(node, i, "part of a shape")?)
            }
            _ => return Err(node.error("joins constants of several axes, which is not supported")),
        }
    }
    Ok(ints(all))
}

/// Numbers as a row.
pub fn pack(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let parts = (0..node.op.inputs.len()).map(|i| network.real(node, i)).collect::<Result<Vec<Value>>>()?;
    match parts.iter().all(|p| matches!(p, Value::Constant(a) if a.shape.is_empty())) {
        true => joined(network, node, parts),
        false => Err(node.error("stacks values, which is supported only for shapes")),
    }
}
