//! Where the axes of a source lie in the graph's maps, and what happens when they must lie elsewhere.

use super::{Channels, Float, Form, Levels, Lowerer, Var};
use crate::error::{Error, Result};
use crate::import::array::Array;
use onebit_core::DType;
use onebit_core::model::Params;
use onebit_core::ops::{Op, Pad, PadMode, Reshape, Slice, Transpose};
use onebit_core::types::Shape;

/// Most parts that elements in another order are put together of.
const MOST_PIECES: usize = 1024;

/// Rows and columns around a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Padding {
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
    /// What they contain.
    pub value: f32,
}

/// A constant beside a value of the graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// One number.
    Uniform(f32),
    /// One for each channel of the graph's map.
    Channels(Vec<f32>),
    /// One for each element of the graph's map.
    Elements(Vec<f32>),
}

impl Var {
    /// For each axis of the graph's map and each axis of the source, how far a step on the former goes on the latter.
    fn steps(&self, map: Shape) -> Vec<[usize; 3]> {
        let sizes = [map.h, map.w, map.c];
        let one = |group: &Vec<usize>| {
            let mut steps = [0; 3];
            let mut step = 1;
            for axis in group.iter().rev() {
                steps[*axis] = step;
                step *= sizes[*axis];
            }
            steps
        };
        self.groups.iter().map(one).collect()
    }

    /// The axes of the graph's map in the order of the source's elements.
    fn order(&self) -> Vec<usize> {
        self.groups.concat()
    }
}

/// Axes of the graph's map for those of a value of `rank` axes: `first` lie along rows and columns, the others after.
/// What is beyond the third axis has none.
pub(super) fn rows_first(first: &[usize], rank: usize) -> Vec<Vec<usize>> {
    let mut groups = vec![Vec::new(); rank];
    let others = (0..rank).filter(|a| !first.contains(a));
    for (place, axis) in first.iter().copied().chain(others).take(3).enumerate() {
        groups[axis] = vec![place];
    }
    groups
}

/// The axes of the graph's map for axes of the lengths `dims`; those of length 1 have none.
pub(super) fn without_single(dims: &[usize], groups: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    dims.iter().zip(groups).map(|(d, group)| if *d == 1 { Vec::new() } else { group }).collect()
}

impl Lowerer {
    /// How a constant lies beside `x`, by the rules of broadcasting (the last axes are matched).
    ///
    /// # Errors
    /// When shapes do not match, or `x` itself would have to be repeated.
    pub fn spread(&self, name: &str, x: &Var, array: &Array) -> Result<Constant> {
        if let Some(one) = array.as_scalar() {
            return Ok(Constant::Uniform(one));
        }
        let refuse = || {
            let text = format!(
                "a constant of shape {:?} does not go with a value of shape [N, {}]",
                array.shape,
                x.dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
            );
            Error::layer(name, text)
        };
        let rank = x.dims.len();
        let extra = array.shape.len().saturating_sub(rank);
        if array.shape[..extra].iter().any(|d| *d != 1) {
            return Err(refuse());
        }
        let shape = &array.shape[extra..];
        let offset = rank - shape.len();
        let map = self.map_of(x);
        let steps = x.steps(map);
        // The place of an element of the constant is linear in the coordinates of the map.
        let (mut along, mut stride) = ([0; 3], 1);
        for (i, d) in shape.iter().enumerate().rev() {
            if *d != 1 {
                if *d != x.dims[offset + i] {
                    return Err(refuse());
                }
                for (along, step) in along.iter_mut().zip(steps[offset + i]) {
                    *along += stride * step;
                }
            }
            stride *= d;
        }
        let values = array.to_f32();
        let at = |h: usize, w: usize, c: usize| values[h * along[0] + w * along[1] + c * along[2]];
        let channels: Vec<f32> = (0..map.c).map(|c| at(0, 0, c)).collect();
        let rows = (0..map.h).flat_map(|h| (0..map.w).map(move |w| (h, w)));
        let flat = along[0] == 0 && along[1] == 0;
        if flat || rows.clone().all(|(h, w)| (0..map.c).all(|c| at(h, w, c) == channels[c])) {
            let uniform = channels.iter().all(|v| *v == channels[0]);
            return Ok(if uniform { Constant::Uniform(channels[0]) } else { Constant::Channels(channels) });
        }
        self.check_room(name, map.checked_elements())?;
        Ok(Constant::Elements(rows.flat_map(|(h, w)| (0..map.c).map(move |c| at(h, w, c))).collect()))
    }

    /// For each element of the graph's map in order, its place on the last axis of the source.
    pub(super) fn columns(&self, x: &Var) -> Vec<usize> {
        let map = self.map_of(x);
        let step = x.steps(map).pop().unwrap_or([0; 3]);
        let mut all = Vec::with_capacity(map.elements());
        for h in 0..map.h {
            for w in 0..map.w {
                all.extend((0..map.c).map(|c| h * step[0] + w * step[1] + c * step[2]));
            }
        }
        all
    }

    /// Applies an op that only moves elements.
    fn moved(
        &mut self,
        name: &str,
        x: Var,
        dims: Vec<usize>,
        groups: Vec<Vec<usize>>,
        op: Op,
    ) -> Result<Var> {
        let groups = without_single(&dims, groups);
        let form = match self.movable(name, &x)? {
            Form::Float(f) => {
                let value = self.add(name, op, &[f.value], Params::default())?;
                Form::Float(Float { range: f.range, ..Float::new(value) })
            }
            Form::Levels(levels) => {
                let value = self.add(name, op, &[levels.value()], Params::default())?;
                Form::Levels(Levels::packed(value, levels.table))
            }
            Form::Index(value) => Form::Index(self.add(name, op, &[value], Params::default())?),
            Form::Rounded { .. } => unreachable!("made movable"),
        };
        Ok(Var { dims, groups, form, padding: None })
    }

    /// `x` as floats or as integers of the graph whose levels are the same for all channels.
    fn movable(&mut self, name: &str, x: &Var) -> Result<Form> {
        if let Form::Levels(levels) = &x.form
            && let Some(packed) = self.pack(levels)?
            && packed.table.len() == 1
        {
            return Ok(Form::Levels(packed));
        }
        match &x.form {
            Form::Float(_) | Form::Index(_) => Ok(x.form.clone()),
            _ => Ok(Form::Float(Float::new(self.float(name, &Var { padding: None, ..x.clone() })?))),
        }
    }

    /// Lays axes of `x` where `groups` says; axes of length 1 lie anywhere.
    ///
    /// # Errors
    /// When an axis of `x` runs over several axes of the map.
    pub fn arranged(&mut self, name: &str, x: Var, groups: &[Vec<usize>]) -> Result<Var> {
        let right = x.dims.iter().zip(x.groups.iter().zip(groups)).all(|(d, (a, b))| *d == 1 || a == b);
        if right && !self.misplaced(&x, groups) {
            return Ok(x);
        }
        let x = self.unpadded(name, x)?;
        let x = if x.groups.iter().any(|g| g.len() > 1) { self.apart(name, x)? } else { x };
        // Which axis of the map each of the new map is.
        let mut order = [usize::MAX; 3];
        for (d, (from, to)) in x.dims.iter().zip(x.groups.iter().zip(groups)) {
            if *d > 1 {
                match (from.as_slice(), to.as_slice()) {
                    ([from], [to]) => order[*to] = *from,
                    _ => return Err(Error::layer(name, "needs axes that are flattened together")),
                }
            }
        }
        let mut rest = (0..3).filter(|a| !order.contains(a)).collect::<Vec<_>>().into_iter();
        for o in order.iter_mut().filter(|o| **o == usize::MAX) {
            *o = rest.next().unwrap_or(0);
        }
        let map = self.map_of(&x);
        let sizes = [map.h, map.w, map.c];
        let moving: Vec<usize> = order.iter().copied().filter(|a| sizes[*a] > 1).collect();
        let shape = Shape::from(order.map(|a| sizes[a]));
        let op = if moving.is_sorted() {
            Op::Reshape(Reshape { shape })
        } else {
            Op::Transpose(Transpose { order })
        };
        let (dims, groups) = (x.dims.clone(), groups.to_vec());
        if shape == map && moving.is_sorted() {
            return Ok(Var { groups: without_single(&dims, groups), ..x });
        }
        self.moved(name, x, dims, groups, op)
    }

    /// `x` with one axis of the map for each of its own.
    pub(super) fn apart(&mut self, name: &str, x: Var) -> Result<Var> {
        let dims = x.dims.clone();
        let ordered = self.in_c_order(name, x)?;
        self.reshaped_map(name, ordered, dims)
    }

    /// Whether the map has an axis longer than 1 that no axis of `groups` runs over: then it is not laid out so.
    fn misplaced(&self, x: &Var, groups: &[Vec<usize>]) -> bool {
        let map = self.map_of(x);
        [map.h, map.w, map.c]
            .iter()
            .enumerate()
            .any(|(a, size)| *size > 1 && !groups.iter().any(|g| g.contains(&a)))
    }

    /// `x` laid out as a map with channels at `channels`.
    pub(super) fn as_map(&mut self, name: &str, x: Var, channels: Channels) -> Result<Var> {
        if !(1..=3).contains(&x.dims.len()) {
            let text = format!("needs a map, but gets a value with {} axes after the batch", x.dims.len());
            return Err(Error::layer(name, text));
        }
        let groups = channels.groups(x.dims.len());
        self.arranged(name, x, &groups)
    }

    /// `x` with its elements in the order of the source: rows, columns, channels of the map are its axes in order.
    fn in_c_order(&mut self, name: &str, x: Var) -> Result<Var> {
        let order = x.order();
        let x = self.unpadded(name, x)?;
        if order.is_sorted() {
            return Ok(x);
        }
        let map = self.map_of(&x);
        let sizes = [map.h, map.w, map.c];
        let mut full: Vec<usize> = (0..3).filter(|a| !order.contains(a)).collect();
        debug_assert!(full.iter().all(|a| sizes[*a] == 1));
        full.extend(&order);
        let place = |a: &usize| full.iter().position(|f| f == a).unwrap_or(0);
        let groups = x.groups.iter().map(|g| g.iter().map(place).collect()).collect();
        let dims = x.dims.clone();
        let order = [full[0], full[1], full[2]];
        self.moved(name, x, dims, groups, Op::Transpose(Transpose { order }))
    }

    /// The order that a front end promises for the output.
    pub(super) fn in_source_order(&mut self, x: Var, channels: Channels) -> Result<Var> {
        let map = self.map_of(&x);
        let wanted = match channels {
            _ if map.pixels() == 1 => return Ok(x),
            Channels::First => vec![2, 0, 1],
            Channels::Last => vec![0, 1, 2],
        };
        let sizes = [map.h, map.w, map.c];
        let wanted: Vec<usize> = wanted.into_iter().filter(|a| sizes[*a] > 1).collect();
        if x.order() == wanted {
            return Ok(x);
        }
        if let 2..=3 = x.dims.len()
            && x.groups.iter().all(|g| g.len() <= 1)
        {
            return self.as_map("output", x, channels);
        }
        let x = self.in_c_order("output", x)?;
        let (n, dims) = (x.dims.iter().product(), x.dims.clone());
        let mut flat = self.reshaped_map("output", x, vec![n])?;
        flat.dims = dims;
        Ok(flat)
    }

    /// The axes of `x` in another order; `order` counts from the first axis after the batch.
    pub fn transposed(&self, x: Var, order: &[usize]) -> Var {
        Var {
            dims: order.iter().map(|i| x.dims[*i]).collect(),
            groups: order.iter().map(|i| x.groups[*i].clone()).collect(),
            ..x
        }
    }

    /// The same elements with other axes.
    ///
    /// # Errors
    /// When the number of elements differs, or more than three axes would have to be told apart.
    pub fn reshaped(&mut self, name: &str, x: Var, dims: Vec<usize>) -> Result<Var> {
        if dims.iter().product::<usize>() != x.dims.iter().product::<usize>() {
            let text =
                format!("cannot give {} elements the shape {dims:?}", x.dims.iter().product::<usize>());
            return Err(Error::layer(name, text));
        }
        let long = |dims: &[usize]| dims.iter().copied().filter(|d| *d > 1).collect::<Vec<usize>>();
        if long(&dims) == long(&x.dims) {
            // Only axes of length 1 come or go; padding stays apart.
            let mut kept = x.dims.iter().zip(&x.groups).filter(|(d, _)| **d > 1).map(|(_, g)| g.clone());
            let mut group = |d: &usize| if *d > 1 { kept.next().unwrap_or_default() } else { Vec::new() };
            let groups = dims.iter().map(&mut group).collect();
            return Ok(Var { dims, groups, ..x });
        }
        let x = self.unpadded(name, x)?;
        let map = self.map_of(&x);
        let sizes = [map.h, map.w, map.c];
        // Axes of the map are handed out in order, as many for each new axis as fill it.
        let mut rest = x.order().into_iter();
        let mut groups = Vec::with_capacity(dims.len());
        let fits = dims.iter().all(|d| {
            let (mut group, mut n) = (Vec::new(), 1);
            while n < *d {
                let Some(axis) = rest.next() else { return false };
                n *= sizes[axis];
                group.push(axis);
            }
            groups.push(group);
            n == *d
        });
        if fits {
            return Ok(Var { dims, groups, ..x });
        }
        let x = self.in_c_order(name, x)?;
        self.reshaped_map(name, x, dims)
    }

    /// Reshapes the map itself, whose elements are in the order of the source.
    fn reshaped_map(&mut self, name: &str, x: Var, dims: Vec<usize>) -> Result<Var> {
        let long: Vec<usize> = (0..dims.len()).filter(|i| dims[*i] > 1).collect();
        let axes: &[usize] = match long.len() {
            0 | 1 => &[2],
            2 => &[1, 2],
            3 => &[0, 1, 2],
            n => return Err(Error::layer(name, format!("would need {n} axes; maps have three"))),
        };
        let mut shape = [1; 3];
        let mut groups = vec![Vec::new(); dims.len()];
        for (i, axis) in long.iter().zip(axes) {
            shape[*axis] = dims[*i];
            groups[*i] = vec![*axis];
        }
        let op = Op::Reshape(Reshape { shape: Shape::from(shape) });
        self.moved(name, x, dims, groups, op)
    }

    /// Adds rows and columns; they stay apart from the map until it is clear that no operator takes them with it.
    ///
    /// # Errors
    /// When the value has more than three axes.
    pub fn padded(&mut self, name: &str, x: Var, pads: &[(usize, usize)], value: f32) -> Result<Var> {
        if pads.iter().all(|p| *p == (0, 0)) {
            return Ok(x);
        }
        let x = self.unpadded(name, x)?;
        // Channels are padded where rows or columns lie: laid out otherwise, and after the others.
        let rank = x.dims.len();
        let channel = (2..=3).contains(&rank).then(|| x.groups.iter().position(|g| g == &[2])).flatten();
        if let Some(channel) = channel.filter(|c| pads[*c] != (0, 0)) {
            let (mut rest, mut own) = (pads.to_vec(), vec![(0, 0); rank]);
            (own[channel], rest[channel]) = (pads[channel], (0, 0));
            let x = self.padded(name, x, &rest, value)?;
            let x = self.unpadded(name, x)?;
            let mut groups = Channels::Last.groups(rank);
            let first = groups.remove(0);
            groups.insert(channel, first);
            let x = self.arranged(name, x, &groups)?;
            return self.padded(name, x, &own, value);
        }
        // A map whose padded axes are rows and columns is taken as it is.
        let pads_of = |groups: &[Vec<usize>]| {
            let mut pad = [0; 4];
            for ((before, after), group) in pads.iter().zip(groups) {
                match group.as_slice() {
                    _ if (*before, *after) == (0, 0) => {}
                    [axis] if *axis < 2 => (pad[*axis], pad[axis + 2]) = (*before, *after),
                    _ => return None,
                }
            }
            Some(pad)
        };
        let longer = |dims: &[usize]| dims.iter().zip(pads).map(|(d, (a, b))| d + a + b).collect();
        if let Some(pad) = pads_of(&x.groups) {
            return Ok(Var { dims: longer(&x.dims), padding: Some(Padding { pad, value }), ..x });
        }
        let last = pads.last() == Some(&(0, 0));
        let channels = if last { Channels::Last } else { Channels::First };
        let groups = channels.groups(x.dims.len());
        if let Some(pad) = pads_of(&groups) {
            let x = self.as_map(name, x, channels)?;
            return Ok(Var { dims: longer(&x.dims), groups, padding: Some(Padding { pad, value }), ..x });
        }
        // One axis after the other, each as the rows of a map.
        let mut x = x;
        for (axis, (before, after)) in pads.iter().enumerate().filter(|(_, p)| **p != (0, 0)) {
            let groups = rows_first(&[axis], x.dims.len());
            x = self.unpadded(name, x)?;
            x = self.arranged(name, x, &groups)?;
            x.dims[axis] += before + after;
            x.groups[axis] = vec![0];
            x.padding = Some(Padding { pad: [*before, 0, *after, 0], value });
        }
        Ok(x)
    }

    /// `x` with its padding made part of the map.
    ///
    /// # Errors
    /// When the sizes are impossible.
    pub(super) fn unpadded(&mut self, name: &str, x: Var) -> Result<Var> {
        let Some(padding) = x.padding else { return Ok(x) };
        let inner = Var { padding: None, ..x.clone() };
        let form = self.movable(name, &inner)?;
        // A number that is no level of the value makes it floats.
        if let Form::Levels(levels) = &form
            && let Some(code) = self.code_of(levels, padding.value)
        {
            let op = Op::Pad(Pad { pad: padding.pad, value: code as f32, mode: PadMode::Constant });
            let value = self.add(name, op, &[levels.value()], Params::default())?;
            let form = Form::Levels(Levels::packed(value, levels.table.clone()));
            return Ok(Var { form, padding: None, ..x });
        }
        let value = self.float(name, &inner)?;
        let op = Op::Pad(Pad { pad: padding.pad, value: padding.value, mode: PadMode::Constant });
        let value = self.add(name, op, &[value], Params::default())?;
        Ok(Var { form: Form::Float(Float::new(value)), padding: None, ..x })
    }

    /// A part of `x`: for each axis the first element, how many, and how far apart.
    ///
    /// # Errors
    /// When it lies outside, or an axis runs over several axes of the map.
    pub fn sliced(&mut self, name: &str, x: Var, parts: &[(usize, usize, usize)]) -> Result<Var> {
        if x.dims.iter().zip(parts).all(|(d, part)| *part == (0, *d, 1)) {
            return Ok(x);
        }
        let mut x = self.unpadded(name, x)?;
        let cut = |x: &Var, i: usize| parts[i] != (0, x.dims[i], 1);
        if (0..x.dims.len()).any(|i| cut(&x, i) && x.groups[i].len() > 1) {
            x = self.apart(name, x)?;
        }
        let map = self.map_of(&x);
        let mut slice = Slice { from: [0; 3], size: [map.h, map.w, map.c], step: [1; 3] };
        for (group, part) in x.groups.iter().zip(parts) {
            if let [axis] = group.as_slice() {
                (slice.from[*axis], slice.size[*axis], slice.step[*axis]) = *part;
            }
        }
        let dims: Vec<usize> = parts.iter().map(|p| p.1).collect();
        let groups = x.groups.clone();
        self.moved(name, x, dims, groups, Op::Slice(slice))
    }

    /// Elements of one axis in any order, also more than once.
    ///
    /// # Errors
    /// When they come in more than `MOST_PIECES` rows of equal distance, and as [`Lowerer::sliced`].
    pub fn taken(&mut self, name: &str, x: Var, axis: usize, places: &[usize]) -> Result<Var> {
        // (first, number, step) of each piece.
        let mut pieces: Vec<(usize, usize, usize)> = Vec::new();
        for place in places {
            match pieces.last_mut() {
                Some((first, n @ 1, step)) if place > first => (*n, *step) = (2, place - *first),
                Some((first, n, step)) if *n > 1 && *place == *first + *n * *step => *n += 1,
                _ => pieces.push((*place, 1, 1)),
            }
        }
        if pieces.is_empty() || pieces.len() > MOST_PIECES {
            let text =
                format!("takes {} elements in {} pieces, which is not supported", places.len(), pieces.len());
            return Err(Error::layer(name, text));
        }
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let mut whole: Vec<_> = x.dims.iter().map(|d| (0, *d, 1)).collect();
            whole[axis] = piece;
            parts.push(self.sliced(name, x.clone(), &whole)?);
        }
        if parts.len() == 1 { Ok(parts.swap_remove(0)) } else { self.concat(name, parts, axis) }
    }

    /// Format of the integers of a value.
    pub(super) fn format(&self, value: usize) -> DType {
        self.graph.ty(value).dtype
    }
}
