//! Operators that move elements, and those that tell shapes.

use super::importer::{Walk, Wire};
use super::operators::Inputs;
use crate::error::Result;
use crate::import::array::Array;
use crate::import::lower::unary::Unary;
use crate::import::lower::{Binary, Channels, Split, Var};
use onebit_core::ops::{Coordinates, Resize, ResizeMode};
use std::rc::Rc;

impl Walk<'_> {
    /// Operators that are not in the table of `operator`.
    pub(super) fn moves(&mut self, inputs: &Inputs<'_>) -> Result<Vec<Wire>> {
        let (node, name) = (inputs.node, inputs.node.label());
        let constant = |a: Array| Ok(vec![Wire::Constant(Rc::new(a))]);
        let var = match node.op {
            "Shape" => {
                let shape = self.shape(&inputs.var(0)?);
                let n = shape.len() as i64;
                let clamp = |v: i64| (if v < 0 { v + n } else { v }).clamp(0, n) as usize;
                let (start, end) = (clamp(node.int("start", 0)?), clamp(node.int("end", n)?));
                return constant(Array::ints(shape[start.min(end)..end].to_vec()));
            }
            "Size" => return constant(Array::ints(vec![self.shape(&inputs.var(0)?).iter().product()])),
            "Split" => return self.split(inputs),
            "Transpose" => {
                let rank = match inputs.get(0) {
                    Some(Wire::Split(split)) => split.dims.len(),
                    _ => inputs.var(0)?.dims.len(),
                } as i64;
                let reversed: Vec<i64> = (0..=rank).rev().collect();
                let order = node.ints("perm")?.unwrap_or(&reversed);
                let mut seen: Vec<i64> = order.to_vec();
                seen.sort_unstable();
                if !seen.iter().copied().eq(0..=rank) || order[0] != 0 {
                    return Err(
                        inputs.error(format!("moves the batch axis or is no order of axes: {order:?}"))
                    );
                }
                let order: Vec<usize> = order[1..].iter().map(|a| *a as usize - 1).collect();
                if let Some(Wire::Split(split)) = inputs.get(0) {
                    return Ok(vec![Wire::Split(Rc::new(split.transposed(&order)))]);
                }
                self.lowerer.transposed(inputs.var(0)?, &order)
            }
            "Reshape" => return self.reshape(inputs),
            "Flatten" => {
                let x = inputs.var(0)?;
                match node.int("axis", 1)? {
                    1 => {
                        let n = x.dims.iter().product();
                        self.lowerer.reshaped(name, x, vec![n])?
                    }
                    a if a == x.dims.len() as i64 + 1 || a == 0 => {
                        return Err(inputs.error("flattens the batch axis, which is not supported"));
                    }
                    a => {
                        let axis = inputs.axis(a, x.dims.len())?;
                        if x.dims[..axis].iter().any(|d| *d > 1) {
                            return Err(
                                inputs.error("joins axes with the batch axis, which is not supported")
                            );
                        }
                        let n = x.dims.iter().product();
                        self.lowerer.reshaped(name, x, vec![n])?
                    }
                }
            }
            "Squeeze" => {
                let x = inputs.var(0)?;
                let rank = x.dims.len();
                let axes = match inputs.ints(1, "axes")? {
                    Some(axes) => axes.iter().map(|a| inputs.axis(*a, rank)).collect::<Result<Vec<_>>>()?,
                    None => (0..rank).filter(|i| x.dims[*i] == 1).collect(),
                };
                if axes.iter().any(|a| x.dims[*a] != 1) {
                    return Err(inputs.error("drops an axis that is longer than 1"));
                }
                x.without(&axes)
            }
            "Unsqueeze" => {
                let x = inputs.var(0)?;
                let axes = inputs.ints(1, "axes")?.ok_or_else(|| inputs.error("names no axes"))?;
                let rank = x.dims.len() + axes.len();
                let mut axes = axes.iter().map(|a| inputs.axis(*a, rank)).collect::<Result<Vec<_>>>()?;
                axes.sort_unstable();
                let mut dims = x.dims.clone();
                for a in axes {
                    dims.insert(a.min(dims.len()), 1);
                }
                self.lowerer.reshaped(name, x, dims)?
            }
            "Expand" => self.expand(inputs)?,
            "Tile" => {
                let x = inputs.var(0)?;
                let repeats = inputs.ints(1, "repeats")?.unwrap_or_default();
                match repeats.split_first() {
                    Some((1, rest)) if rest.len() == x.dims.len() => self.repeated(inputs, x, rest)?,
                    _ => return Err(inputs.error("repeats the batch axis, which is not supported")),
                }
            }
            "Slice" => self.slice(inputs)?,
            "Gather" => self.gather(inputs)?,
            "Concat" => self.concat(inputs)?,
            "Pad" => self.pad(inputs)?,
            "Resize" | "Upsample" => self.resize(inputs)?,
            "DepthToSpace" => {
                let x = inputs.var(0)?;
                let block = usize::try_from(node.int("blocksize", 0)?).unwrap_or(0);
                let columns_first = node.text("mode", "DCR")? == "CRD";
                self.lowerer.depth_to_space(name, x, Channels::First, block, columns_first)?
            }
            "SpaceToDepth" => {
                let block = usize::try_from(node.int("blocksize", 0)?).unwrap_or(0);
                self.lowerer.space_to_depth(name, inputs.var(0)?, Channels::First, block)?
            }
            _ => return Err(inputs.error("is an operator that is not supported")),
        };
        Ok(vec![Wire::Var(var)])
    }

    /// Shape with the batch axis.
    fn shape(&self, x: &Var) -> Vec<i64> {
        std::iter::once(self.batch).chain(x.dims.iter().copied()).map(|d| d as i64).collect()
    }

    fn reshape(&mut self, inputs: &Inputs<'_>) -> Result<Vec<Wire>> {
        let split = match inputs.get(0) {
            Some(Wire::Split(split)) => Split::clone(split),
            _ => {
                let x = inputs.var(0)?;
                Split::of(x)
            }
        };
        let own = std::iter::once(self.batch).chain(split.now()).map(|d| d as i64).collect();
        self.reshaped(inputs, split, own)
    }

    /// A reshape of a value whose axes with the batch have the lengths `own`.
    pub(super) fn reshaped(&mut self, inputs: &Inputs<'_>, split: Split, own: Vec<i64>) -> Result<Vec<Wire>> {
        let wanted = inputs.ints(1, "shape")?.ok_or_else(|| inputs.error("has no shape"))?;
        let keeps_zero = inputs.node.int("allowzero", 0)? == 0;
        let mut dims = Vec::with_capacity(wanted.len());
        for (i, d) in wanted.iter().enumerate() {
            dims.push(match *d {
                0 if keeps_zero => {
                    *own.get(i).ok_or_else(|| inputs.error("keeps an axis that is not there"))?
                }
                d if d >= -1 => d,
                _ => return Err(inputs.error(format!("has the impossible shape {wanted:?}"))),
            });
        }
        let known = dims.iter().filter(|d| **d >= 0).try_fold(1i64, |n, d| n.checked_mul(*d));
        let total: i64 = own.iter().product();
        let open = dims.iter().filter(|d| **d == -1).count();
        let impossible =
            || inputs.error(format!("cannot give a value of shape {own:?} the shape {wanted:?}"));
        let known = known.filter(|n| *n > 0 && open <= 1).ok_or_else(impossible)?;
        for d in dims.iter_mut().filter(|d| **d == -1) {
            *d = total / known;
        }
        // A batch axis of fixed length 1 may be left out of a file whose batch is open, and the other way round.
        let rest: Vec<usize> = match dims.split_first() {
            Some((first, rest)) if *first == self.batch as i64 => rest.iter().map(|d| *d as usize).collect(),
            _ if self.batch > 1
                || !(1..=3).contains(&dims.len())
                || dims.iter().product::<i64>() != total =>
            {
                return Err(inputs.error(format!("moves elements between samples: {own:?} becomes {dims:?}")));
            }
            _ => {
                let rows = dims.iter().map(|d| *d as usize).collect();
                return Ok(vec![Wire::Rows(self.lowerer.joined(inputs.node.label(), split, rows)?)]);
            }
        };
        let elements = |dims: &[usize]| dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if elements(&rest) != elements(&split.dims) {
            return Err(impossible());
        }
        if let Some(split) = split.further(&rest) {
            return Ok(vec![Wire::Split(Rc::new(split))]);
        }
        let joined = self.lowerer.joined(inputs.node.label(), split, rest)?;
        Ok(vec![Wire::Var(joined)])
    }

    fn slice(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let x = inputs.var(0)?;
        let old = self.opset < 10;
        let read = |i: usize, name: &str| inputs.ints(if old { usize::MAX } else { i }, name);
        let (starts, ends) = (read(1, "starts")?, read(2, "ends")?);
        let (Some(starts), Some(ends)) = (starts, ends) else {
            return Err(inputs.error("says not what it takes"));
        };
        let axes = read(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = read(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err(inputs.error("has starts, ends, axes and steps of different lengths"));
        }
        let mut parts: Vec<_> = x.dims.iter().map(|d| (0, *d, 1)).collect();
        let mut backwards = Vec::new();
        for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
            let batch = *axis == 0 || *axis == -(x.dims.len() as i64) - 1;
            if batch && *start == 0 && *end >= self.batch as i64 && *step == 1 {
                continue;
            }
            let axis = inputs.axis(*axis, x.dims.len())?;
            let d = x.dims[axis] as i64;
            if *step < 1 {
                backwards.push((axis, places_backwards(d, *start, *end, *step)));
                continue;
            }
            let clamp = |v: i64| (if v < 0 { v.saturating_add(d) } else { v }).clamp(0, d);
            let (from, to) = (clamp(*start), clamp(*end));
            if to <= from {
                return Err(inputs.error("takes nothing"));
            }
            parts[axis] =
                (from as usize, ((to - from) as u64).div_ceil(*step as u64) as usize, *step as usize);
        }
        let name = inputs.node.label();
        let mut x = self.lowerer.sliced(name, x, &parts)?;
        for (axis, places) in backwards {
            x = self.lowerer.taken(name, x, axis, &places)?;
        }
        Ok(x)
    }

    fn gather(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (name, x) = (inputs.node.label(), inputs.var(0)?);
        let axis = inputs.axis(inputs.node.int("axis", 0)?, x.dims.len())?;
        let index = inputs.weight(1)?;
        let d = x.dims[axis] as i64;
        let place = |i: i64| usize::try_from(if i < 0 { i + d } else { i }).ok().filter(|i| (*i as i64) < d);
        let places = index.to_i64().and_then(|v| v.into_iter().map(place).collect::<Option<Vec<_>>>());
        let places = places.ok_or_else(|| inputs.error("picks elements that are not there"))?;
        let x = self.lowerer.taken(name, x, axis, &places)?;
        if index.shape.is_empty() {
            return Ok(x.without(&[axis]));
        }
        let mut dims = x.dims.clone();
        dims.splice(axis..=axis, index.shape.iter().copied());
        if dims == x.dims { Ok(x) } else { self.lowerer.reshaped(name, x, dims) }
    }

    fn concat(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let first = (0..inputs.len()).find(|i| matches!(inputs.get(*i), Some(Wire::Var(_))));
        let like = inputs.var(first.unwrap_or(0))?;
        let axis = inputs.axis(inputs.node.int("axis", 1)?, like.dims.len())?;
        let mut parts = Vec::with_capacity(inputs.len());
        for i in 0..inputs.len() {
            parts.push(match inputs.get(i) {
                Some(Wire::Constant(array)) => self.constant_beside(inputs, &like, axis, array)?,
                _ => inputs.var(i)?,
            });
        }
        self.lowerer.concat(inputs.node.label(), parts, axis)
    }

    /// A constant as a value that can be joined to `like` along an axis: only sums of values and constants have any.
    fn constant_beside(
        &mut self,
        inputs: &Inputs<'_>,
        like: &Var,
        axis: usize,
        array: &Array,
    ) -> Result<Var> {
        let name = inputs.node.label();
        let n = match array.shape.as_slice() {
            [1, rest @ ..] if rest.len() == like.dims.len() => rest[axis] as i64,
            _ => return Err(inputs.error("joins a constant of another batch, which is not supported")),
        };
        let mut part: Vec<_> = like.dims.iter().map(|d| (0, *d, 1)).collect();
        part[axis] = (0, 1, 1);
        let x = self.lowerer.sliced(name, like.clone(), &part)?;
        let x = self.lowerer.floats(name, x)?;
        let zeros = self.lowerer.unary(name, x, Unary::Clip(0.0, 0.0))?;
        let mut repeats = vec![1; like.dims.len()];
        repeats[axis] = n;
        let zeros = self.repeated(inputs, zeros, &repeats)?;
        self.lowerer.with_constant(name, Binary::Add, zeros, array, false)
    }

    fn expand(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let x = inputs.var(0)?;
        let shape = inputs.ints(1, "shape")?.unwrap_or_default();
        let own = self.shape(&x);
        let Some(more) = own.len().checked_sub(shape.len()) else {
            return Err(inputs.error("adds axes before the batch axis, which is not supported"));
        };
        let mut repeats = vec![1; own.len()];
        for ((repeat, from), to) in repeats.iter_mut().zip(&own).skip(more).zip(&shape) {
            match (*from, *to) {
                (from, to) if to == 1 || to == from => {}
                (1, to) => *repeat = to,
                _ => return Err(inputs.error(format!("cannot repeat {own:?} to {shape:?}"))),
            }
        }
        if repeats[0] != 1 {
            return Err(inputs.error("repeats the batch axis, which is not supported"));
        }
        self.repeated(inputs, x, &repeats[1..])
    }

    /// `x` so many times along each axis.
    fn repeated(&mut self, inputs: &Inputs<'_>, mut x: Var, repeats: &[i64]) -> Result<Var> {
        let single = repeats.iter().zip(&x.dims).all(|(n, d)| *n == 1 || *d == 1);
        if single && x.dims.len() <= 3 {
            let length = |(n, d): (&i64, &usize)| {
                usize::try_from(*n).ok().filter(|n| (1..=1 << 16).contains(n)).map(|n| n * d)
            };
            let dims: Option<Vec<usize>> = repeats.iter().zip(&x.dims).map(length).collect();
            let dims =
                dims.ok_or_else(|| inputs.error("repeats a value 0 times, or more than 65536 times"))?;
            return self.lowerer.repeated(inputs.node.label(), x, dims);
        }
        for (axis, n) in repeats.iter().enumerate().filter(|(_, n)| **n != 1) {
            let n = usize::try_from(*n).ok().filter(|n| (1..=1 << 10).contains(n));
            let n = n.ok_or_else(|| inputs.error("repeats a value 0 times, or more than 1024 times"))?;
            x = self.lowerer.concat(inputs.node.label(), vec![x; n], axis)?;
        }
        Ok(x)
    }

    fn split(&mut self, inputs: &Inputs<'_>) -> Result<Vec<Wire>> {
        let (node, x) = (inputs.node, inputs.var(0)?);
        let axis = inputs.axis(node.int("axis", 0)?, x.dims.len())?;
        let (d, n) = (x.dims[axis], node.outputs.len().max(1));
        let sizes = match inputs.ints(1, "split")? {
            Some(sizes) => sizes.iter().map(|s| usize::try_from(*s).unwrap_or(0)).collect(),
            None => {
                // Equal parts, of which the last may be smaller.
                let part = d.div_ceil(n);
                (0..n).map(|i| part.min(d.saturating_sub(i * part))).collect::<Vec<usize>>()
            }
        };
        if sizes.contains(&0) || sizes.iter().try_fold(0usize, |n, s| n.checked_add(*s)) != Some(d) {
            return Err(inputs.error(format!("splits {d} elements into {sizes:?}")));
        }
        let (mut made, mut from) = (Vec::new(), 0);
        for size in sizes {
            let mut parts: Vec<_> = x.dims.iter().map(|d| (0, *d, 1)).collect();
            parts[axis] = (from, size, 1);
            made.push(Wire::Var(self.lowerer.sliced(node.label(), x.clone(), &parts)?));
            from += size;
        }
        Ok(made)
    }

    fn pad(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, x) = (inputs.node, inputs.var(0)?);
        // Version 1 calls them paddings.
        let older = if node.has("paddings") { "paddings" } else { "pads" };
        let pads = inputs.ints(1, older)?.ok_or_else(|| inputs.error("has no pads"))?;
        let value = inputs.number(2, "value", 0.0)?;
        let rank = x.dims.len();
        let axes = match inputs.ints(3, "axes")? {
            Some(axes) => axes,
            None => (0..=rank as i64).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(inputs.error(format!("has {} pads for {} axes", pads.len(), axes.len())));
        }
        let mut all = vec![(0, 0); rank];
        let mut kept: Vec<_> = x.dims.iter().map(|d| (0, *d, 1)).collect();
        for (i, axis) in axes.iter().enumerate() {
            let pair = (pads[i], pads[i + axes.len()]);
            if pair == (0, 0) {
                continue;
            }
            let axis = inputs.axis(*axis, rank)?;
            let size = |v: i64| usize::try_from(v.max(0)).ok().filter(|v| *v <= 1 << 16);
            let added = size(pair.0).zip(size(pair.1));
            all[axis] = added.ok_or_else(|| inputs.error("has impossible pads"))?;
            // Negative pads crop.
            let crop = |v: i64| usize::try_from(v.saturating_neg().max(0)).unwrap_or(usize::MAX);
            let (before, after) = (crop(pair.0), crop(pair.1));
            let left = x.dims[axis].checked_sub(before).and_then(|d| d.checked_sub(after)).filter(|d| *d > 0);
            kept[axis] = (before, left.ok_or_else(|| inputs.error("crops all that there is"))?, 1);
        }
        let name = node.label();
        let x = self.lowerer.sliced(name, x, &kept)?;
        match node.text("mode", "constant")? {
            "constant" => self.lowerer.padded(name, x, &all, value),
            mode @ ("reflect" | "edge") => self.lowerer.mirrored(name, x, &all, mode == "reflect"),
            mode => Err(inputs.error(format!("has the mode '{mode}', which is not supported"))),
        }
    }

    fn resize(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, x) = (inputs.node, inputs.var(0)?);
        let upsample = node.op == "Upsample";
        let rank = x.dims.len();
        let [scales_at, sizes_at] = if upsample || self.opset < 11 { [1, usize::MAX] } else { [2, 3] };
        let scales = match inputs.constant(scales_at)? {
            Some(a) if !a.is_empty() => Some(a.to_f32()),
            _ => node.floats("scales")?.map(<[f32]>::to_vec),
        };
        let axes = node.ints("axes")?.map(<[i64]>::to_vec).unwrap_or_else(|| (0..=rank as i64).collect());
        let own = self.shape(&x);
        let mut shape = own.clone();
        let mut uneven = false;
        let place =
            |a: i64| usize::try_from(if a < 0 { a + rank as i64 + 1 } else { a }).ok().filter(|a| *a <= rank);
        match (inputs.ints(sizes_at, "")?, &scales) {
            (Some(_), _) if node.text("keep_aspect_ratio_policy", "stretch")? != "stretch" => {
                return Err(inputs.error("keeps the ratio of rows and columns, which is not supported"));
            }
            (Some(sizes), _) if sizes.len() == axes.len() => {
                for (a, s) in axes.iter().zip(&sizes) {
                    shape[place(*a).ok_or_else(|| inputs.error("names an axis that is not there"))?] = *s;
                }
            }
            (None, Some(scales)) if scales.len() == axes.len() => {
                for (a, s) in axes.iter().zip(scales) {
                    let a = place(*a).ok_or_else(|| inputs.error("names an axis that is not there"))?;
                    shape[a] = (own[a] as f32 * s).floor() as i64;
                    // Places are computed from the scale, which is then not that of the sizes.
                    uneven |= own[a] as f32 * s != shape[a] as f32;
                }
            }
            _ => return Err(inputs.error("says neither sizes nor scales of all axes")),
        }
        if shape.len() < 3 || shape[..2] != own[..2] || shape.iter().any(|d| !(1..=1 << 16).contains(d)) {
            return Err(
                inputs.error(format!("makes {own:?} to {shape:?}; only rows and columns are resized"))
            );
        }
        let places = node.text("coordinate_transformation_mode", "half_pixel")?;
        let coordinates = match places {
            _ if upsample || self.opset < 11 => Coordinates::Asymmetric,
            "half_pixel" | "half_pixel_symmetric" | "tf_half_pixel_for_nn" => Coordinates::HalfPixel,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "asymmetric" => Coordinates::Asymmetric,
            "align_corners" => Coordinates::AlignCorners,
            other => return Err(inputs.error(format!("has the mode '{other}', which is not supported"))),
        };
        if uneven && coordinates != Coordinates::AlignCorners {
            return Err(inputs.error(format!(
                "has scales that are not those of its sizes, {own:?} to {shape:?}, which is not supported; give sizes"
            )));
        }
        if node.int("antialias", 0)? != 0 {
            return Err(inputs.error("smooths what it makes smaller, which is not supported"));
        }
        let rounding = node.text("nearest_mode", "round_prefer_floor")?;
        let mode = match (node.text("mode", "nearest")?, rounding) {
            // Half a pixel further than half pixels and then down: their nearest, of two the one behind.
            ("nearest", "floor") if places == "tf_half_pixel_for_nn" => ResizeMode::NearestPreferCeil,
            (mode, _) if places == "tf_half_pixel_for_nn" => {
                return Err(inputs.error(format!("resizes by '{mode}' and '{rounding}' as '{places}'")));
            }
            ("nearest", _) if upsample || self.opset < 11 => ResizeMode::NearestFloor,
            ("nearest", "round_prefer_floor") => ResizeMode::NearestPreferFloor,
            ("nearest", "round_prefer_ceil") => ResizeMode::NearestPreferCeil,
            ("nearest", "floor") => ResizeMode::NearestFloor,
            ("nearest", "ceil") => ResizeMode::NearestCeil,
            ("linear" | "bilinear", _) => ResizeMode::Linear,
            (other, _) => return Err(inputs.error(format!("resizes by '{other}', which is not supported"))),
        };
        let size = match shape[2..] {
            [h, w] => [h as usize, w as usize],
            [w] => [1, w as usize],
            _ => return Err(inputs.error("resizes a value that is no map")),
        };
        let name = node.label();
        let resized = self.lowerer.resized(name, x, Channels::First, Resize { size, mode, coordinates })?;
        self.chain(name, resized, &[] as &[Unary])
    }
}

/// The elements of an axis of length `d` that a slice with a negative step takes.
fn places_backwards(d: i64, start: i64, end: i64, step: i64) -> Vec<usize> {
    let place = |v: i64| if v < 0 { v.saturating_add(d) } else { v }.clamp(-1, d - 1);
    let (start, end) = (place(start), place(end));
    let step = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    (end + 1..=start).rev().step_by(step.max(1)).map(|v| v as usize).collect()
}
