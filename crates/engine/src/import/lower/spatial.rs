//! Pools, concatenation, resizing, and what looks at all channels of a pixel.

use super::layout::{rows_first, without_single};
use super::levels::Levels;
use super::unary::Unary;
use super::{Binary, Channels, Filter, Float, Form, Lowerer, Var};
use crate::error::{Error, Result};
use onebit_core::DType;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{
    Activation, BPool2d, Conv2d, Coordinates, DepthToSpace, Op, Pad, PadMode, Pool2d, PoolKind, Reshape,
    Resize, ResizeMode, Transpose, Window,
};
use onebit_core::types::Shape;

/// Longest side of a block of pixels that becomes channels.
const MAX_BLOCK: usize = 32;

/// A pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    /// Maximum or average.
    pub kind: PoolKind,
    /// The sliding window; `None` covers the map.
    pub window: Option<Window>,
    /// An average counts the padding as zeros.
    pub count_pad: bool,
}

impl Lowerer {
    /// A pool of a map with its channels at `channels`.
    ///
    /// # Errors
    /// When the window does not fit.
    pub fn pool(&mut self, name: &str, x: Var, channels: Channels, pool: Pool) -> Result<Var> {
        let mut x = self.as_map(name, x, channels)?;
        let mut window = pool.window;
        // Padding with what no maximum takes is the pool's own.
        if let (Some(padding), Some(window), PoolKind::Max) = (x.padding, &mut window, pool.kind)
            && padding.value <= f32::MIN
        {
            window.pad = std::array::from_fn(|i| window.pad[i] + padding.pad[i]);
            x.padding = None;
        }
        let x = self.unpadded(name, x)?;
        let (rank, map) = (x.dims.len(), self.map_of(&x));
        let window = window.unwrap_or_else(|| Window::whole(map));
        if pool.kind == PoolKind::Max
            && let Form::Levels(levels) = &x.form
            && let Some(packed) = self.pack(levels)?
            && let DType::Bits(_) = self.format(packed.value())
            && packed.table.iter().all(|row| row.is_sorted() || row.iter().rev().is_sorted())
        {
            // Where the numbers fall as the integers rise, the largest number is the smallest integer.
            let falls: Vec<bool> = packed.table.iter().map(|row| row[0] > row[row.len() - 1]).collect();
            let falls: Vec<bool> = (0..map.c).map(|c| falls[c.min(falls.len() - 1)]).collect();
            let flips = falls.contains(&true).then(|| Tensor::flags(&falls));
            let params = Params { flips, ..Params::default() };
            let value = self.add(name, Op::BPool2d(BPool2d { window }), &[packed.value()], params)?;
            let form = Form::Levels(Levels::packed(value, packed.table));
            return Ok(self.map_with(value, rank, channels, form));
        }
        // Neither a maximum nor an average leaves the range of its taps, of which padding may be one.
        let (low, high) = self.range(&x);
        let range = if window.pad == [0; 4] { (low, high) } else { (low.min(0.0), high.max(0.0)) };
        let value = self.float(name, &x)?;
        let op = Op::Pool2d(Pool2d { kind: pool.kind, window, count_pad: pool.count_pad });
        let value = self.add(name, op, &[value], Params::default())?;
        let form = Form::Float(Float { range, ..Float::new(value) });
        Ok(self.map_with(value, rank, channels, form))
    }

    /// Joins values along an axis, counted from the first after the batch.
    ///
    /// # Errors
    /// When shapes do not go together.
    pub fn concat(&mut self, name: &str, parts: Vec<Var>, axis: usize) -> Result<Var> {
        let Some(first) = parts.first() else { return Err(Error::layer(name, "joins nothing")) };
        let rank = first.dims.len();
        if axis >= rank || parts.iter().any(|p| p.dims.len() != rank) {
            return Err(Error::layer(name, "joins values along an axis that they do not have"));
        }
        if rank > 3 {
            return Err(Error::layer(name, "joins values of more than three axes after the batch"));
        }
        // The joined axis must lie where channels lie; the others in their usual order.
        let mut groups = Channels::Last.groups(rank);
        let last = groups.remove(rank - 1);
        groups.insert(axis, last);
        let mut dims = first.dims.clone();
        dims[axis] = 0;
        let mut arranged = Vec::with_capacity(parts.len());
        for part in parts {
            dims[axis] += part.dims[axis];
            let part = self.unpadded(name, part)?;
            arranged.push(self.arranged(name, part, &groups)?);
        }
        let groups = without_single(&dims, groups);
        // Bits stay bits if all parts mean the same by them.
        let mut packed = Vec::new();
        for part in &arranged {
            if let Form::Levels(levels) = &part.form
                && let Some(levels) = self.pack(levels)?
            {
                packed.push(levels);
            }
        }
        let same = |a: &Levels, b: &Levels| {
            a.table.len() == 1 && a.table == b.table && self.format(a.value()) == self.format(b.value())
        };
        if packed.len() == arranged.len()
            && packed.windows(2).all(|p| same(&p[0], &p[1]))
            && packed[0].table.len() == 1
        {
            let inputs: Vec<usize> = packed.iter().map(Levels::value).collect();
            let value = self.add(name, Op::Concat, &inputs, Params::default())?;
            let form = Form::Levels(Levels::packed(value, packed.swap_remove(0).table));
            return Ok(Var { dims, groups, form, padding: None });
        }
        let inputs: Vec<usize> = arranged.iter().map(|p| self.float(name, p)).collect::<Result<_>>()?;
        let value = self.add(name, Op::Concat, &inputs, Params::default())?;
        Ok(Var { dims, groups, form: Form::Float(Float::new(value)), padding: None })
    }

    /// Resizes the rows and columns of a map.
    ///
    /// # Errors
    /// When the op refuses the sizes.
    pub fn resized(&mut self, name: &str, x: Var, channels: Channels, resize: Resize) -> Result<Var> {
        let x = self.as_map(name, x, channels)?;
        let x = self.unpadded(name, x)?;
        let rank = x.dims.len();
        let form = match resize.mode {
            ResizeMode::Linear => {
                let value = self.float(name, &x)?;
                Form::Float(Float::new(self.add(name, Op::Resize(resize), &[value], Params::default())?))
            }
            _ => self.copied(name, &x, Op::Resize(resize))?,
        };
        let value = Var { form: form.clone(), ..x }.value();
        Ok(self.map_with(value, rank, channels, form))
    }

    /// `x` with axes of length 1 repeated to the lengths `dims`, which are as many as those of `x`.
    ///
    /// # Errors
    /// When there are more than three axes.
    pub fn repeated(&mut self, name: &str, x: Var, dims: Vec<usize>) -> Result<Var> {
        if x.dims == dims {
            return Ok(x);
        }
        let x = self.unpadded(name, x)?;
        let source = self.as_map(name, x, Channels::First)?;
        let from = self.map_of(&source);
        let mut to = [from.h, from.w, from.c];
        for (d, group) in dims.iter().zip(Channels::First.groups(dims.len())) {
            to[group[0]] = *d;
        }
        let [h, w, c] = to;
        let mut value = self.float(name, &source)?;
        if (h, w) != (from.h, from.w) {
            let (mode, coordinates) = (ResizeMode::NearestFloor, Coordinates::Asymmetric);
            let op = Op::Resize(Resize { size: [h, w], mode, coordinates });
            value = self.add(name, op, &[value], Params::default())?;
        }
        if c != from.c {
            let op = Op::Conv2d(Conv2d { window: Window::square(1, 1, 0), groups: 1, pad_value: 0.0 });
            let weight = Some(Tensor::f32_matrix(c, 1, vec![1.0; c]));
            value = self.add(name, op, &[value], Params { weight, ..Params::default() })?;
        }
        let made = self.map_var(value, dims.len(), Channels::First);
        self.repeats.insert(value, (source, made.groups.clone()));
        Ok(made)
    }

    /// What `small` is a repetition of, where an op that takes it beside `large` repeats it by itself.
    pub(super) fn unrepeated(&self, small: Var, large: &Var) -> Var {
        match self.repeats.get(&small.value()).filter(|_| matches!(small.form, Form::Float(_))) {
            // A value whose axes were exchanged since is another one.
            Some((source, groups)) if small.dims == large.dims && small.groups == *groups => {
                let (from, to) = (self.map_of(source), self.map_of(large));
                let one = from.pixels() == 1 && from.c == to.c;
                let fits = one || from.c == 1 && (from.h, from.w) == (to.h, to.w) || from.elements() == 1;
                if fits { source.clone() } else { small }
            }
            _ => small,
        }
    }

    /// The channels in `outer` groups of `inner`, which become `inner` groups of `outer`: a channel shuffle.
    ///
    /// # Errors
    /// When they are not as many.
    pub fn shuffled(&mut self, name: &str, x: Var, outer: usize, inner: usize) -> Result<Var> {
        let x = self.as_map(name, x, Channels::First)?;
        let x = self.unpadded(name, x)?;
        let (rank, map) = (x.dims.len(), self.map_of(&x));
        if outer.checked_mul(inner) != Some(map.c) {
            return Err(Error::layer(name, format!("has {} channels, not {outer} x {inner}", map.c)));
        }
        let value = self.float(name, &x)?;
        let value = self.regrouped(name, value, map, [outer, inner])?;
        Ok(self.map_var(value, rank, Channels::First))
    }

    /// The channels of `map` as `groups[0]` groups of `groups[1]`, groups last.
    pub(super) fn regrouped(
        &mut self,
        name: &str,
        mut value: usize,
        map: Shape,
        groups: [usize; 2],
    ) -> Result<usize> {
        let ops = [
            Op::Reshape(Reshape { shape: Shape::new(map.pixels(), groups[0], groups[1]) }),
            Op::Transpose(Transpose { order: [0, 2, 1] }),
            Op::Reshape(Reshape { shape: map }),
        ];
        for op in ops {
            value = self.add(name, op, &[value], Params::default())?;
        }
        Ok(value)
    }

    /// An op of all numbers along one axis, which is moved to where channels lie: `softmax` or `argmax`.
    ///
    /// # Errors
    /// When the axis is not there.
    pub fn along(&mut self, name: &str, x: Var, axis: usize, op: Op, keep: bool) -> Result<Var> {
        let x = self.with_channels(name, x, axis)?;
        let value = self.float(name, &x)?;
        let value = self.add(name, op, &[value], Params::default())?;
        let Var { mut dims, mut groups, .. } = x;
        let form = match self.format(value) {
            DType::F32 => Form::Float(Float::new(value)),
            _ => Form::Index(value),
        };
        if op == Op::Argmax {
            (dims[axis], groups[axis]) = (1, Vec::new());
            if !keep {
                dims.remove(axis);
                groups.remove(axis);
            }
        }
        Ok(Var { dims, groups, form, padding: None })
    }

    /// `x` with `axis` where channels lie.
    fn with_channels(&mut self, name: &str, x: Var, axis: usize) -> Result<Var> {
        let rank = x.dims.len();
        if axis >= rank || rank > 3 {
            return Err(Error::layer(name, "works along an axis that its value does not have"));
        }
        let mut groups = Channels::Last.groups(rank);
        let last = groups.remove(rank - 1);
        groups.insert(axis, last);
        let x = self.unpadded(name, x)?;
        self.arranged(name, x, &groups)
    }

    /// `x - log(sum(exp(x)))` along an axis, also where `exp` is too small for a float.
    ///
    /// # Errors
    /// As [`Lowerer::along`].
    pub fn log_softmax(&mut self, name: &str, x: Var, axis: usize) -> Result<Var> {
        let x = self.with_channels(name, x, axis)?;
        // x - max - log(sum(exp(x - max))): nothing underflows, and large numbers go first.
        let most = self.maximum(name, x.clone(), &[axis], true)?;
        let x = self.binary(name, Binary::Sub, x, most)?;
        let powers = self.unary(name, x.clone(), Unary::Activation(Activation::Exp))?;
        let sum = self.sum(name, powers, &[axis], true)?;
        let sum = self.unary(name, sum, Unary::Activation(Activation::Log))?;
        self.binary(name, Binary::Sub, x, sum)
    }

    /// `log(sum(exp(x)))` over axes, counted from the first after the batch, also where `exp` is too large for a float.
    ///
    /// # Errors
    /// As [`Lowerer::maximum`] and [`Lowerer::sum`].
    pub fn log_sum_exp(&mut self, name: &str, x: Var, axes: &[usize], keep: bool) -> Result<Var> {
        // max + log(sum(exp(x - max))): the largest power is 1.
        let most = self.maximum(name, x.clone(), axes, true)?;
        let x = self.binary(name, Binary::Sub, x, most.clone())?;
        let powers = self.unary(name, x, Unary::Activation(Activation::Exp))?;
        let sum = self.sum(name, powers, axes, true)?;
        let sum = self.unary(name, sum, Unary::Activation(Activation::Log))?;
        let sum = self.binary(name, Binary::Add, sum, most)?;
        Ok(if keep { sum } else { sum.without(axes) })
    }

    /// The largest number over axes, counted from the first after the batch.
    ///
    /// # Errors
    /// When the value has more axes than a map.
    pub fn maximum(&mut self, name: &str, x: Var, axes: &[usize], keep: bool) -> Result<Var> {
        let mut x = self.unpadded(name, x)?;
        let long: Vec<usize> =
            axes.iter().copied().filter(|a| x.dims.get(*a).is_some_and(|d| *d > 1)).collect();
        let among = |x: &Var, axis: usize| long.iter().any(|a| x.groups[*a].contains(&axis));
        if long.len() > 2 {
            x = self.maximum(name, x, &long[1..], true)?;
            return self.maximum(name, x, axes, keep);
        }
        if among(&x, 2) && self.map_of(&x).c > 1 {
            let groups = rows_first(&long, x.dims.len());
            x = self.arranged(name, x, &groups)?;
        }
        let map = self.map_of(&x);
        let mut window = Window::square(1, 1, 0);
        for (axis, size) in [map.h, map.w].into_iter().enumerate().filter(|(axis, _)| among(&x, *axis)) {
            window.kernel[axis] = size;
        }
        let value = self.float(name, &x)?;
        let op = Op::Pool2d(Pool2d { kind: PoolKind::Max, window, count_pad: false });
        let value = self.add(name, op, &[value], Params::default())?;
        x.form = Form::Float(Float::new(value));
        let rank = x.dims.len();
        for axis in axes.iter().copied().filter(|a| *a < rank) {
            (x.dims[axis], x.groups[axis]) = (1, Vec::new());
        }
        Ok(if keep { x } else { x.without(axes) })
    }

    /// Channels become blocks of pixels. The channels of a pixel come in the order (row, column, channel) of the block,
    /// or with the channel first.
    ///
    /// # Errors
    /// When the block does not divide the channels.
    pub fn depth_to_space(
        &mut self,
        name: &str,
        x: Var,
        channels: Channels,
        block: usize,
        channel_first: bool,
    ) -> Result<Var> {
        let x = self.as_map(name, x, channels)?;
        let x = self.unpadded(name, x)?;
        let (rank, map) = (x.dims.len(), self.map_of(&x));
        let blocks = block.checked_mul(block).filter(|b| *b > 0 && map.c % b == 0 && rank == 3);
        let blocks = blocks.ok_or_else(|| {
            Error::layer(
                name,
                format!("cannot make blocks of {block} x {block} pixels of {} channels", map.c),
            )
        })?;
        let mut value = self.float(name, &x)?;
        if channel_first {
            value = self.regrouped(name, value, map, [map.c / blocks, blocks])?;
        }
        let op = Op::DepthToSpace(DepthToSpace { block: [block; 2] });
        let value = self.add(name, op, &[value], Params::default())?;
        Ok(self.map_var(value, rank, channels))
    }

    /// Blocks of pixels become channels, in the order (row, column, channel) of the block.
    ///
    /// # Errors
    /// When the block does not divide rows and columns.
    pub fn space_to_depth(&mut self, name: &str, x: Var, channels: Channels, block: usize) -> Result<Var> {
        let axes = if channels == Channels::First { [1, 2, 0] } else { [0, 1, 2] };
        // There is a slice for each pixel of a block.
        let whole = |axis: usize| (1..=MAX_BLOCK).contains(&block) && x.dims[axis].is_multiple_of(block);
        if x.dims.len() != 3 || !whole(axes[0]) || !whole(axes[1]) {
            return Err(Error::layer(name, format!("cannot take blocks of {block} pixels of {:?}", x.dims)));
        }
        let places = (0..block).flat_map(|row| (0..block).map(move |column| [row, column]));
        let every = |[row, column]: [usize; 2]| {
            let mut parts: Vec<_> = x.dims.iter().map(|d| (0, *d, 1)).collect();
            for (from, axis) in [(row, axes[0]), (column, axes[1])] {
                parts[axis] = (from, x.dims[axis] / block, block);
            }
            self.sliced(name, x.clone(), &parts)
        };
        let parts = places.map(every).collect::<Result<Vec<Var>>>()?;
        self.concat(name, parts, axes[2])
    }

    /// Rows and columns around a map that repeat its border (`edge`) or mirror what is next to it.
    ///
    /// # Errors
    /// When other axes are padded, or by more than there is.
    pub fn mirrored(&mut self, name: &str, x: Var, pads: &[(usize, usize)], reflect: bool) -> Result<Var> {
        let last = pads.len() == 3 && pads[2] == (0, 0) && pads[0] != (0, 0);
        let channels = if last { Channels::Last } else { Channels::First };
        let x = self.as_map(name, x, channels)?;
        let x = self.unpadded(name, x)?;
        let mut pad = [0; 4];
        for (group, (before, after)) in channels.groups(x.dims.len()).iter().zip(pads) {
            match group.as_slice() {
                [axis] if *axis < 2 => (pad[*axis], pad[axis + 2]) = (*before, *after),
                _ if (*before, *after) == (0, 0) => {}
                _ => return Err(Error::layer(name, "pads channels, which is not supported")),
            }
        }
        let rank = x.dims.len();
        let value = self.float(name, &x)?;
        let mode = if reflect { PadMode::Reflect } else { PadMode::Edge };
        let value = self.add(name, Op::Pad(Pad { pad, mode, value: 0.0 }), &[value], Params::default())?;
        Ok(self.map_var(value, rank, channels))
    }

    /// The average over axes, counted from the first after the batch.
    ///
    /// # Errors
    /// When an op refuses the map.
    pub fn mean(&mut self, name: &str, x: Var, axes: &[usize], keep: bool) -> Result<Var> {
        self.reduced(name, x, axes, keep, false)
    }

    /// The sum over axes, counted from the first after the batch; that of integers is exact.
    ///
    /// # Errors
    /// When an op refuses the map.
    pub fn sum(&mut self, name: &str, x: Var, axes: &[usize], keep: bool) -> Result<Var> {
        self.reduced(name, x, axes, keep, true)
    }

    fn reduced(&mut self, name: &str, x: Var, axes: &[usize], keep: bool, sum: bool) -> Result<Var> {
        let mut x = self.unpadded(name, x)?;
        let mut long: Vec<usize> = axes.to_vec();
        long.retain(|a| x.dims.get(*a).is_some_and(|d| *d > 1));
        if long.iter().any(|a| x.groups[*a].len() > 1)
            && long.len() < x.dims.iter().filter(|d| **d > 1).count()
        {
            x = self.apart(name, x)?;
        }
        let over: Vec<usize> = long.iter().flat_map(|a| x.groups[*a].clone()).collect();
        let map = self.map_of(&x);
        let sizes = [map.h, map.w];
        let mut whole = Window::square(1, 1, 0);
        for axis in over.iter().copied().filter(|a| *a < 2) {
            whole.kernel[axis] = sizes[axis];
        }
        let spatial = whole.kernel != [1, 1];
        // Rows and columns first, then channels.
        if spatial {
            let value = if sum {
                self.check_room(name, map.c.checked_mul(whole.taps()))?;
                let ones = vec![1.0; map.c * whole.taps()];
                self.product(name, &x, &Filter { rows: map.c, values: ones, bias: None }, whole, map.c, 0.0)?
            } else {
                let value = self.float(name, &x)?;
                let op = Op::Pool2d(Pool2d { kind: PoolKind::Average, window: whole, count_pad: false });
                self.add(name, op, &[value], Params::default())?
            };
            x.form = Form::Float(Float::new(value));
        }
        if over.contains(&2) && map.c > 1 {
            // Over channels it is a product with one row.
            let point = Window::square(1, 1, 0);
            let ones = Filter { rows: 1, values: vec![1.0; map.c], bias: None };
            let mut value = self.product(name, &x, &ones, point, 1, 0.0)?;
            // Divided last: a sum of 0 has the average 0.
            if !sum {
                value = self.emit(name, value, Unary::Div(map.c as f32))?;
            }
            x.form = Form::Float(Float::new(value));
        }
        let rank = x.dims.len();
        for axis in axes.iter().copied().filter(|a| *a < rank) {
            (x.dims[axis], x.groups[axis]) = (1, Vec::new());
        }
        Ok(if keep { x } else { x.without(axes) })
    }
}

impl Var {
    /// Without axes of length 1.
    pub fn without(mut self, axes: &[usize]) -> Self {
        for i in (0..self.dims.len()).rev().filter(|i| axes.contains(i)) {
            self.dims.remove(i);
            self.groups.remove(i);
        }
        self
    }
}
