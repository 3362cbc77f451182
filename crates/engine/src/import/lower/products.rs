//! Convolutions and matrices: on bits where both sides are integers times a scale.

use super::grid::Grid;
use super::layout::without_single;
use super::levels::Scaled;
use super::{Affine, Channels, Float, Form, Lowerer, Var};
use crate::error::{Error, Result};
use onebit_core::DType;
use onebit_core::model::{MAX_ACCUMULATOR, Params, Tensor};
use onebit_core::ops::{BConv2d, BDense, Conv2d, DepthToSpace, Op, Pad, PadMode, Slice, Window};
use onebit_core::types::Quant;
use std::borrow::Cow;

/// Weights of a convolution: one row for each output channel, columns in `(ky, kx, c)` order.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Output channels.
    pub rows: usize,
    /// `rows` times taps times channels of a group.
    pub values: Vec<f32>,
    /// Added to each output channel.
    pub bias: Option<Vec<f32>>,
}

impl Filter {
    fn cols(&self) -> usize {
        self.values.len() / self.rows.max(1)
    }
    fn check(&self, name: &str) -> Result<()> {
        let bias = self.bias.iter().flatten();
        if self.values.iter().chain(bias).any(|v| !v.is_finite()) {
            return Err(Error::layer(name, "has weights that are not finite"));
        }
        let cols = self.cols();
        if self.rows == 0 || cols == 0 || self.values.len() != self.rows * cols {
            return Err(Error::layer(name, "has no weights"));
        }
        match &self.bias {
            Some(b) if b.len() != self.rows => {
                Err(Error::layer(name, format!("has {} biases for {} channels", b.len(), self.rows)))
            }
            _ => Ok(()),
        }
    }
    /// Weights as integers, if they lie on a grid and no accumulator of numbers up to `largest` can overflow.
    fn grid(&self, largest: i64) -> Option<Grid> {
        let grid = Grid::of_rows(&self.values, self.cols())?;
        let weight = i64::from(grid.quant.max().max(-grid.quant.min()));
        (weight * largest * self.cols() as i64 <= MAX_ACCUMULATOR).then_some(grid)
    }
    /// What to say of weights that a few zeros keep from being one bit: `sign(0)` is 0 in most frameworks.
    fn few_zeros(&self, name: &str, grid: &Grid) -> Option<String> {
        let zeros = grid.integers.iter().filter(|v| **v == 0).count();
        let few = grid.quant == Quant::TERNARY && zeros > 0 && zeros * 100 < grid.integers.len();
        few.then(|| {
            format!(
                "{zeros} of the {} weights of '{name}' are 0, so it takes two bits for each: make them +1 or -1 where \
                 it is trained (where(w >= 0, 1, -1) instead of sign(w)).",
                grid.integers.len()
            )
        })
    }
    fn packed(&self, grid: &Grid) -> Tensor<'static> {
        let cols = self.cols();
        Tensor::bits(self.rows, cols, grid.quant, |r, c| grid.integers[r * cols + c])
    }
}

impl Lowerer {
    /// A convolution of a map with its channels at `channels`; the padding of `window` reads 0.
    ///
    /// # Errors
    /// When filters and map do not fit.
    pub fn conv(
        &mut self,
        name: &str,
        x: Var,
        channels: Channels,
        filter: &Filter,
        mut window: Window,
        groups: usize,
    ) -> Result<Var> {
        filter.check(name)?;
        let mut x = self.as_map(name, x, channels)?;
        // Padding in front becomes the convolution's own where it reads the same.
        let mut pad_value = 0.0;
        if let Some(padding) = x.padding {
            if window.pad == [0; 4] || padding.value == 0.0 {
                window.pad = std::array::from_fn(|i| window.pad[i] + padding.pad[i]);
                pad_value = padding.value;
                x.padding = None;
            } else {
                x = self.unpadded(name, x)?;
            }
        }
        let rank = x.dims.len();
        let value = self.product(name, &x, filter, window, groups, pad_value)?;
        Ok(self.map_var(value, rank, channels))
    }

    /// The accumulators of a convolution, scaled.
    pub(super) fn product(
        &mut self,
        name: &str,
        x: &Var,
        filter: &Filter,
        mut window: Window,
        groups: usize,
        pad_value: f32,
    ) -> Result<usize> {
        let zeros = window.pad == [0; 4] || pad_value == 0.0;
        if let Some((mut scaled, filter)) = self.integers(x, filter, groups, zeros)?
            && let Some(grid) = filter.grid(self.largest(&scaled))
            && let Some(pad_code) = self.pad_code(name, &mut scaled, &mut window, pad_value)?
        {
            let conv = BConv2d { window, groups, pad_value: pad_code, output: DType::I32 };
            return self.integer_product(name, Op::BConv2d(conv), &scaled, &filter, &grid);
        }
        let value = self.float(name, x)?;
        let conv = Conv2d { window, groups, pad_value };
        self.float_product(name, Op::Conv2d(conv), value, filter)
    }

    /// The integers of `x`, and the weights for them: a scale for each channel becomes part of the weights, which
    /// `zeros` allows (what is padded has no channel). `None` where `x` is no integers times scales.
    fn integers<'f>(
        &mut self,
        x: &Var,
        filter: &'f Filter,
        groups: usize,
        zeros: bool,
    ) -> Result<Option<(Scaled, Cow<'f, Filter>)>> {
        if let Some(scaled) = self.scaled(x)? {
            return Ok(Some((scaled, Cow::Borrowed(filter))));
        }
        let Some((value, scales)) = self.channel_scales(x)?.filter(|_| zeros) else { return Ok(None) };
        let (inputs, rows, cols) = (scales.len() / groups.max(1), filter.rows / groups.max(1), filter.cols());
        if inputs == 0 || rows == 0 {
            return Ok(None);
        }
        let weight =
            |(i, v): (usize, &f32)| v * scales[(i / cols / rows * inputs + i % cols % inputs) % scales.len()];
        let values = filter.values.iter().enumerate().map(weight).collect();
        let filter = Filter { values, ..filter.clone() };
        Ok(Some((Scaled { value, scale: 1.0, offset: 0.0 }, Cow::Owned(filter))))
    }

    /// The largest integer that `scaled` can be, of either sign.
    fn largest(&self, scaled: &Scaled) -> i64 {
        let quant = self.format(scaled.value).quant();
        quant.map_or(i64::MAX >> 32, |q| i64::from(q.max().max(-q.min())))
    }

    /// A product of floats; binary weights are stored as such.
    fn float_product(&mut self, name: &str, op: Op, value: usize, filter: &Filter) -> Result<usize> {
        match filter.grid(1).filter(|g| g.quant.bits <= 2 && filter.cols() > 1) {
            Some(grid) => {
                self.graph.notes.extend(filter.few_zeros(name, &grid));
                let params = Params { weight: Some(filter.packed(&grid)), ..Params::default() };
                let value = self.add(name, op, &[value], params)?;
                let bias = filter.bias.clone().unwrap_or_else(|| vec![0.0; filter.rows]);
                if bias.iter().all(|b| *b == 0.0) && grid.scales.iter().all(|s| *s == 1.0) {
                    return Ok(value);
                }
                self.affine(name, value, Affine { center: None, scale: grid.scales, bias })
            }
            None => {
                let weight = Tensor::f32_matrix(filter.rows, filter.cols(), filter.values.clone());
                let bias = filter.bias.clone().map(Tensor::f32);
                self.add(name, op, &[value], Params { weight: Some(weight), bias, ..Params::default() })
            }
        }
    }

    /// A product of integers: `acc * scale + bias` with what the scales and the offset of both sides make of it.
    fn integer_product(
        &mut self,
        name: &str,
        op: Op,
        scaled: &Scaled,
        filter: &Filter,
        grid: &Grid,
    ) -> Result<usize> {
        self.graph.notes.extend(filter.few_zeros(name, grid));
        let params = Params { weight: Some(filter.packed(grid)), ..Params::default() };
        let acc = self.add(name, op, &[scaled.value], params)?;
        let bias = |n: usize| filter.bias.as_ref().map_or(0.0, |b| b[n]);
        let rows = grid.integers.chunks(filter.cols()).zip(&grid.scales).enumerate();
        let (mut scale, mut all) = (Vec::new(), Vec::new());
        for (n, (row, s)) in rows {
            scale.push(s * scaled.scale);
            let sum: i64 = row.iter().map(|v| i64::from(*v)).sum();
            let moved = f64::from(scaled.offset) * f64::from(*s) * sum as f64;
            all.push((f64::from(bias(n)) + moved) as f32);
        }
        self.affine(name, acc, Affine { center: None, scale, bias: all })
    }

    /// What padding reads in the integers of `scaled`, if a convolution of them can do it; padding that is no -1, 0 or
    /// +1 is added to the map.
    fn pad_code(
        &mut self,
        name: &str,
        scaled: &mut Scaled,
        window: &mut Window,
        value: f32,
    ) -> Result<Option<i32>> {
        if window.pad == [0; 4] {
            return Ok(Some(0));
        }
        let code = (value - scaled.offset) / scaled.scale;
        if [-1.0, 0.0, 1.0].contains(&code) {
            return Ok(Some(code as i32));
        }
        let holds =
            self.format(scaled.value).quant().is_some_and(|q| q.encode(code.round() as i32).is_some());
        if !holds || (code - code.round()).abs() > 1e-4 {
            return Ok(None);
        }
        let op = Op::Pad(Pad { pad: window.pad, value: code.round(), mode: PadMode::Constant });
        scaled.value = self.add(name, op, &[scaled.value], Params::default())?;
        window.pad = [0; 4];
        Ok(Some(0))
    }

    /// A matrix of `filter.rows` rows times the last axis of `x`.
    ///
    /// # Errors
    /// When the axis and the rows differ in length.
    pub fn dense(&mut self, name: &str, x: Var, filter: &Filter) -> Result<Var> {
        filter.check(name)?;
        let mut x = self.unpadded(name, x)?;
        let (last, cols) = (x.dims.last().copied().unwrap_or(0), filter.cols());
        if last != cols {
            return Err(Error::layer(name, format!("takes {cols} inputs, but gets {last}")));
        }
        let mut dims = x.dims.clone();
        if let Some(last) = dims.last_mut() {
            *last = filter.rows;
        }
        if x.dims[..x.dims.len() - 1].iter().any(|d| *d > 1) {
            // The same matrix for every place of the other axes: a convolution of single pixels.
            let groups = Channels::Last.groups(x.dims.len().min(3));
            if x.dims.len() > 3 {
                return Err(Error::layer(name, "multiplies a value of more than three axes after the batch"));
            }
            x = self.arranged(name, x, &groups)?;
            let value = self.product(name, &x, filter, Window::square(1, 1, 0), 1, 0.0)?;
            return Ok(self.map_var(value, x.dims.len(), Channels::Last));
        }
        let order = self.columns(&x);
        let sorted = order.iter().copied().eq(0..cols);
        let reordered = (!sorted).then(|| Filter {
            values: filter.values.chunks(cols).flat_map(|row| order.iter().map(|i| row[*i])).collect(),
            ..filter.clone()
        });
        let filter = reordered.as_ref().unwrap_or(filter);
        let integers = self.integers(&x, filter, 1, true)?;
        let integers = integers.and_then(|(scaled, f)| Some((f.grid(self.largest(&scaled))?, scaled, f)));
        let value = match integers {
            Some((grid, scaled, filter)) => {
                let op = Op::BDense(BDense { output: DType::I32 });
                self.integer_product(name, op, &scaled, &filter, &grid)?
            }
            _ => {
                let value = self.float(name, &x)?;
                self.float_product(name, Op::Dense, value, filter)?
            }
        };
        let mut groups = vec![Vec::new(); dims.len()];
        if let Some(group) = groups.last_mut().filter(|_| filter.rows > 1) {
            group.push(2);
        }
        Ok(Var { dims, groups, form: Form::Float(Float::new(value)), padding: None })
    }

    /// A transposed convolution by sub-pixels: for each place in a block of `stride` outputs an ordinary convolution
    /// with the taps that meet there, then the blocks are laid out and the border is cut off.
    /// `filter` has a row for each output channel as that of [`Lowerer::conv`]; `window` describes the forward
    /// convolution, `extra` is what the output is longer at its end.
    ///
    /// # Errors
    /// When filters and map do not fit.
    pub fn conv_transposed(
        &mut self,
        name: &str,
        x: Var,
        channels: Channels,
        filter: &Filter,
        window: Window,
        groups: usize,
        extra: [usize; 2],
    ) -> Result<Var> {
        filter.check(name)?;
        let x = self.as_map(name, x, channels)?;
        let x = self.unpadded(name, x)?;
        let (rank, map) = (x.dims.len(), self.map_of(&x));
        let c = map.c / groups.max(1);
        if filter.cols() != window.taps() * c || groups == 0 || !filter.rows.is_multiple_of(groups) {
            return Err(Error::layer(name, "has filters that do not fit its map"));
        }
        // Output o = i * stride + k * dilation - pad gets input i times tap k. In the uncut output (pad 0), block p of
        // phase r reads input p - j for the tap with k * dilation = j * stride + r.
        let [sy, sx] = window.stride;
        let reach = |axis: usize| (window.kernel[axis] - 1) * window.dilation[axis] / window.stride[axis] + 1;
        let (ky, kx) = (reach(0), reach(1));
        let blocks = sy * sx;
        let elements = [filter.rows, ky, kx, c].into_iter().try_fold(blocks, usize::checked_mul);
        self.check_room(name, elements)?;
        let mut values = vec![0.0; blocks * filter.rows * ky * kx * c];
        let row_len = ky * kx * c;
        for ty in 0..window.kernel[0] {
            for tx in 0..window.kernel[1] {
                let (y, x) = (ty * window.dilation[0], tx * window.dilation[1]);
                let (ry, rx, jy, jx) = (y % sy, x % sx, y / sy, x / sx);
                for n in 0..filter.rows {
                    // Channels of a group must stay together, so there the phases are inside.
                    let phase = ry * sx + rx;
                    let row = if groups == 1 { phase * filter.rows + n } else { n * blocks + phase };
                    let from = n * filter.cols() + (ty * window.kernel[1] + tx) * c;
                    let to = row * row_len + ((ky - 1 - jy) * kx + kx - 1 - jx) * c;
                    values[to..to + c].copy_from_slice(&filter.values[from..from + c]);
                }
            }
        }
        let bias = filter.bias.as_ref().map(|b| match groups {
            1 => b.repeat(blocks),
            _ => b.iter().flat_map(|v| vec![*v; blocks]).collect(),
        });
        let phases = Filter { rows: blocks * filter.rows, values, bias };
        let unit = Window {
            kernel: [ky, kx],
            stride: [1; 2],
            dilation: [1; 2],
            pad: [ky - 1, kx - 1, ky - 1, kx - 1],
        };
        let mut value = self.product(name, &x, &phases, unit, groups, 0.0)?;
        if blocks > 1 {
            if groups > 1 {
                let phased = self.shape(value);
                value = self.regrouped(name, value, phased, [filter.rows, blocks])?;
            }
            let op = Op::DepthToSpace(DepthToSpace { block: [sy, sx] });
            value = self.add(name, op, &[value], Params::default())?;
        }
        let full = self.shape(value);
        let length = |axis: usize, size: usize| {
            let whole =
                (size - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1;
            (whole + extra[axis]).checked_sub(window.pad[axis] + window.pad[axis + 2])
        };
        let (Some(h), Some(w)) = (length(0, map.h), length(1, map.w)) else {
            return Err(Error::layer(name, "has more padding than output"));
        };
        if h + window.pad[0] > full.h || w + window.pad[1] > full.w {
            let after = [h + window.pad[0], w + window.pad[1]];
            let pad = [0, 0, after[0].saturating_sub(full.h), after[1].saturating_sub(full.w)];
            let op = Op::Pad(Pad { pad, value: 0.0, mode: PadMode::Constant });
            // Beyond the last input there is nothing but the bias.
            if filter.bias.iter().flatten().any(|b| *b != 0.0) {
                return Err(Error::layer(
                    name,
                    "has output padding beyond its taps and a bias, which is not supported",
                ));
            }
            value = self.add(name, op, &[value], Params::default())?;
        }
        let slice =
            Slice { from: [window.pad[0], window.pad[1], 0], size: [h, w, filter.rows], step: [1; 3] };
        if slice.from != [0; 3] || self.shape(value) != onebit_core::types::Shape::new(h, w, filter.rows) {
            value = self.add(name, Op::Slice(slice), &[value], Params::default())?;
        }
        Ok(self.map_var(value, rank, channels))
    }

    /// A map of floats of the graph as a value of the source.
    pub(super) fn map_var(&self, value: usize, rank: usize, channels: Channels) -> Var {
        self.map_with(value, rank, channels, Form::Float(Float::new(value)))
    }

    /// A map of the graph as a value of the source.
    pub(super) fn map_with(&self, value: usize, rank: usize, channels: Channels, form: Form) -> Var {
        let shape = self.shape(value);
        let sizes = [shape.h, shape.w, shape.c];
        let groups = channels.groups(rank);
        let dims: Vec<usize> = groups.iter().map(|g| g.iter().map(|a| sizes[*a]).product()).collect();
        let groups = without_single(&dims, groups);
        Var { dims, groups, form, padding: None }
    }
}
