//! The fast path of binary convolution, prepared for one machine.

use super::border::Borders;
use super::{BConv2d, OwnedTransform};
use crate::bits;
use crate::exec::steps_first;
use crate::kernels::{Aligned, Kernels, MAX_CHANNELS, MAX_COLUMNS};
use crate::model::{Params, Tensor};
use crate::ops::transform::{Transform, affine, level};
use crate::ops::{MAX_BLOCK, rows_at_a_time};
use crate::types::{DType, Quant, ValueType};
use alloc::vec::Vec;

/// Rows that are few, as in a dense layer for one image.
const FEW_ROWS: usize = 4;
/// Output pixels from which the float kernel beats bit planes on bytes: below, 32 times the weights are read
/// for too few pixels.
const FLOAT_PIXELS: usize = 16;

/// How one row is multiplied with one filter.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Product {
    /// One plane on both sides: a single count.
    Bit,
    /// A combination of counts for all pairs of planes.
    Planes,
    /// Bytes as floats.
    Float,
}

/// Weights in panels, padding and thresholds in tables.
pub struct Prepared {
    pub(super) conv: BConv2d,
    pub(super) input: ValueType,
    out: ValueType,
    pub(super) xq: Quant,
    pub(super) wq: Quant,
    pub(super) kernels: &'static Kernels,
    pub(super) product: Product,
    /// Channels of a panel.
    nr: usize,
    /// Words of a lowered row of one plane; floats for [`Product::Float`].
    pub(super) k: usize,
    /// `[group][panel][weight plane][k][nr]` words, or `[group][panel][k][nr]` floats.
    panels: Aligned,
    borders: Borders,
    /// `[class][channel]`: added to the accumulator of the kernel.
    offset: Vec<i32>,
    /// `[channel]`: four times the constant part of a product of several planes.
    quad: Vec<i32>,
    /// `[class][group][channels padded to panels]`: exclusive limits of counts, for bits from bits.
    limits: Vec<u32>,
    /// `[group][channels padded to panels]`: thresholds, for bits from floats.
    float_limits: Vec<f32>,
    /// `[step][channel]`: thresholds of several levels, where all accumulators are exact as floats.
    steps: Vec<f32>,
    transform: OwnedTransform,
    /// Rows that are lowered at a time.
    block: usize,
}

/// Where the result of a lowered row goes, and what it needs.
#[derive(Clone, Copy, Default)]
struct Row {
    /// First word (bits) or element (numbers) of the output pixel.
    at: usize,
    class: usize,
    /// Weighted sum of its planes, for weights with an offset.
    sum: i32,
}

/// The output channels of one panel.
#[derive(Clone, Copy)]
struct Target {
    /// Place of the panel among all.
    index: usize,
    /// First channel, and number of channels.
    channel: usize,
    width: usize,
}

impl Prepared {
    /// Prepares an op that `infer` has accepted.
    pub fn new(
        conv: BConv2d,
        input: ValueType,
        out: ValueType,
        params: &Params<Tensor<'_>>,
        kernels: &'static Kernels,
    ) -> Self {
        let weight = params.weight.as_ref().expect("checked by infer");
        let (wq, rows) = weight.as_bits().expect("checked by infer");
        let xq = input.dtype.quant().expect("checked by infer");
        let ints = weight.to_i32().expect("checked by infer");
        let n = out.shape.c;
        let largest = wq.max().max(-wq.min()) as usize;
        let bytes = !matches!(input.dtype, DType::Bits(_));
        let exact = bytes && weight.cols * 255 * largest < 1 << 24;
        let product = if exact && kernels.fgemm.fused && out.shape.pixels() >= FLOAT_PIXELS {
            Product::Float
        } else if xq.is_bit() && wq.is_bit() {
            Product::Bit
        } else {
            Product::Planes
        };
        let (mr, nr, k) = match product {
            Product::Float => (kernels.fgemm.mr, kernels.fgemm.nr, weight.cols),
            _ => {
                let gemm = &kernels.bgemm;
                (gemm.mr, gemm.nr, gemm.padded(bits::words(weight.cols)))
            }
        };
        let row_bytes = if product == Product::Float { k * 4 } else { xq.planes() * k * 8 };
        let mut prepared = Prepared {
            conv,
            input,
            out,
            xq,
            wq,
            kernels,
            product,
            nr,
            k,
            panels: Aligned::zeroed(0),
            borders: Borders::new(&conv.window, input.shape, out.shape),
            offset: Vec::new(),
            quad: (0..n).map(|ch| quad_constant(xq, wq, weight.cols, ch, rows)).collect(),
            limits: Vec::new(),
            float_limits: Vec::new(),
            steps: Vec::new(),
            transform: OwnedTransform::new(conv.output, params, n),
            block: rows_at_a_time(row_bytes, mr),
        };
        prepared.panels = match product {
            Product::Float => prepared.pack_floats(&ints),
            _ => prepared.pack_bits(rows, bits::words(weight.cols)),
        };
        // A tap in the padding is lowered as code 0 but should have contributed `pad_value`, and a count of
        // differing bits is taken from the number of taps. Floats are lowered with the true value.
        if product != Product::Float {
            let wrong_by = conv.pad_value - xq.decode(0);
            let constant = if product == Product::Bit { weight.cols as i32 } else { 0 };
            let cg = input.shape.c / conv.groups;
            prepared.offset = prepared.borders.offsets(&conv.window, &ints, cg, constant, wrong_by);
        }
        let reach = i64::from(xq.max().max(-xq.min())) * largest as i64 * weight.cols as i64;
        match (conv.output, &params.thresholds) {
            (DType::BIT, _) => prepared.set_limits(),
            (DType::Bits(_), Some(t)) if reach < 1 << 24 => prepared.steps = steps_first(t),
            _ => {}
        }
        prepared
    }

    /// Output channels of a group, and panels that hold them.
    fn group(&self) -> (usize, usize) {
        let channels = self.out.shape.c / self.conv.groups;
        (channels, channels.div_ceil(self.nr))
    }

    fn pack_bits(&self, rows: &[u64], words: usize) -> Aligned {
        let (ng, panels) = self.group();
        let (pw, k, nr) = (self.wq.planes(), self.k, self.nr);
        let mut packed = Aligned::zeroed(self.conv.groups * panels * pw * k * nr);
        for channel in 0..self.out.shape.c {
            let (g, i) = (channel / ng, channel % ng);
            for p in 0..pw {
                let row = &rows[(channel * pw + p) * words..][..words];
                let panel = ((g * panels + i / nr) * pw + p) * k * nr;
                let mut run = 0;
                for w in 0..k {
                    let word = row.get(w).copied().unwrap_or(0);
                    run = if self.kernels.bgemm.prefix { run ^ word } else { word };
                    packed[panel + w * nr + i % nr] = run;
                }
            }
        }
        packed
    }

    fn pack_floats(&self, weights: &[i32]) -> Aligned {
        let (ng, panels) = self.group();
        let (k, nr) = (self.k, self.nr);
        let mut packed = Aligned::zeroed((self.conv.groups * panels * k * nr).div_ceil(2));
        let floats = packed.as_f32_mut();
        for (channel, filter) in weights.chunks(k).enumerate() {
            let (g, i) = (channel / ng, channel % ng);
            let panel = (g * panels + i / nr) * k * nr + i % nr;
            for (kk, w) in filter.iter().enumerate() {
                floats[panel + kk * nr] = *w as f32;
            }
        }
        packed
    }

    /// Turns thresholds of accumulators into what the kernels compare with.
    fn set_limits(&mut self) {
        let Transform::Levels { thresholds, .. } = self.transform.view() else { return };
        let (ng, panels) = self.group();
        let channel = |g: usize, i: usize| (i < ng).then_some(g * ng + i);
        let padded = |g| (0..panels * self.nr).map(move |i| channel(g, i));
        let groups = 0..self.conv.groups;
        match self.product {
            Product::Bit => {
                for class in self.offset.chunks(self.out.shape.c) {
                    for ch in groups.clone().flat_map(padded) {
                        // acc = offset - 2 count >= t  <=>  count < floor((offset - t) / 2) + 1
                        self.limits.push(ch.map_or(0, |ch| {
                            let room = i64::from(class[ch]) - i64::from(thresholds[ch]);
                            (room.div_euclid(2) + 1).clamp(0, i64::from(u32::MAX)) as u32
                        }));
                    }
                }
            }
            // Accumulators are below 2^24, so a threshold that is rounded is out of their reach anyway.
            Product::Float => {
                self.float_limits = groups
                    .flat_map(padded)
                    .map(|ch| ch.map_or(f32::MAX, |ch| thresholds[ch] as f32))
                    .collect();
            }
            Product::Planes => {}
        }
    }

    /// Name of the kernel that runs.
    pub fn kernel(&self) -> &'static str {
        match self.product {
            Product::Float => self.kernels.fgemm.name,
            _ => self.kernels.bgemm.name,
        }
    }

    /// Words of scratch memory that [`Prepared::run`] needs: lowered rows and the bytes of one row.
    pub fn scratch_words(&self) -> usize {
        self.lowered_words() + self.k * 8
    }

    fn lowered_words(&self) -> usize {
        match self.product {
            Product::Float => (self.block * self.k).div_ceil(2),
            _ => self.block * self.xq.planes() * self.k,
        }
    }

    /// Runs `batch` images, one after the other in `x` and `out` (see [`crate::types`]).
    pub fn run(&self, batch: usize, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
        let (lowered, bytes) = scratch.split_at_mut(self.lowered_words());
        let (in_words, out_words) = (self.input.arena_words(), self.out.arena_words());
        let (shape, c) = (self.out.shape, self.out.shape.c);
        // Units of the output in one image and in one pixel.
        let (image_units, pixel_units) = match self.conv.output {
            DType::Bits(q) => (out_words, q.planes() * bits::words(c)),
            _ => (out_words * 2, c),
        };
        if matches!(self.conv.output, DType::Bits(_)) {
            out.fill(0);
        }
        let total = batch * shape.pixels();
        for g in 0..self.conv.groups {
            let (mut image, mut oy, mut ox) = (0, 0, 0);
            for first in (0..total).step_by(self.block) {
                let mut rows = [Row::default(); MAX_BLOCK];
                let rows = &mut rows[..self.block.min(total - first)];
                for (r, row) in rows.iter_mut().enumerate() {
                    row.at = image * image_units + (oy * shape.w + ox) * pixel_units;
                    row.class = self.borders.class(oy, ox);
                    let x = &x[image * in_words..][..in_words];
                    row.sum = self.lower(x, g, oy, ox, r, lowered, bytes);
                    (ox, oy) = if ox + 1 < shape.w { (ox + 1, oy) } else { (0, oy + 1) };
                    (oy, image) = if oy < shape.h { (oy, image) } else { (0, image + 1) };
                }
                self.multiply(g, rows, lowered, out);
            }
        }
    }

    /// Multiplies lowered rows with the weights of group `g`.
    fn multiply(&self, g: usize, rows: &[Row], lowered: &[u64], out: &mut [u64]) {
        let (ng, panels) = self.group();
        for panel in 0..panels {
            let target = Target {
                index: g * panels + panel,
                channel: g * ng + panel * self.nr,
                width: self.nr.min(ng - panel * self.nr),
            };
            // Buffers for a few rows or for a block: clearing a large one for a single row would outweigh the product.
            if rows.len() <= FEW_ROWS {
                self.multiply_panel::<FEW_ROWS>(rows, lowered, target, out);
            } else {
                self.multiply_panel::<MAX_BLOCK>(rows, lowered, target, out);
            }
        }
    }

    /// Multiplies at most `R` rows with one panel.
    fn multiply_panel<const R: usize>(&self, rows: &[Row], lowered: &[u64], target: Target, out: &mut [u64]) {
        match self.product {
            Product::Float => self.multiply_floats::<R>(rows, bytemuck::cast_slice(lowered), target, out),
            Product::Bit if !self.limits.is_empty() => self.multiply_to_bits::<R>(rows, lowered, target, out),
            Product::Bit => self.multiply_to_counts::<R>(rows, lowered, target, out),
            Product::Planes => self.multiply_planes::<R>(rows, lowered, target, out),
        }
    }

    fn panel(&self, target: Target) -> &[u64] {
        let size = self.wq.planes() * self.k * self.nr;
        &self.panels[target.index * size..][..size]
    }

    fn multiply_to_bits<const R: usize>(
        &self,
        rows: &[Row],
        lowered: &[u64],
        target: Target,
        out: &mut [u64],
    ) {
        let class_size = self.conv.groups * self.group().1 * self.nr;
        let (mut at, mut masks) = ([0; R], [0; R]);
        for (at, row) in at.iter_mut().zip(rows) {
            *at = row.class * class_size + target.index * self.nr;
        }
        let (n, k, b) = (rows.len(), self.k, self.panel(target));
        self.kernels.bgemm.bits(n, k, lowered, k, b, &self.limits, &at, &mut masks);
        self.put_masks(rows, masks.iter().map(|m| u64::from(*m)), target, out);
    }

    fn multiply_to_counts<const R: usize>(
        &self,
        rows: &[Row],
        lowered: &[u64],
        target: Target,
        out: &mut [u64],
    ) {
        let gemm = &self.kernels.bgemm;
        let (k, channel, width) = (self.k, target.channel, target.width);
        let mut counts = [[0u32; MAX_CHANNELS]; R];
        let counts = counts.as_flattened_mut();
        gemm.counts(rows.len(), k, lowered, k, self.panel(target), counts);
        let rows = rows.iter().zip(counts.chunks_exact(self.nr));
        match self.transform.view() {
            Transform::F32 { center, scale, bias } => {
                let constants = [center, scale, bias].map(|t| &t[channel..channel + width]);
                let out: &mut [f32] = bytemuck::cast_slice_mut(out);
                for (row, counts) in rows {
                    let out = &mut out[row.at + channel..][..width];
                    gemm.affine(counts, self.offsets(row, target), constants, out);
                }
            }
            Transform::I32 => {
                let out: &mut [i32] = bytemuck::cast_slice_mut(out);
                for (row, counts) in rows {
                    let out = &mut out[row.at + channel..][..width];
                    for ((out, count), offset) in out.iter_mut().zip(counts).zip(self.offsets(row, target)) {
                        *out = offset - 2 * *count as i32;
                    }
                }
            }
            Transform::Levels { .. } => {
                for (row, counts) in rows {
                    let mut acc = [0i32; MAX_CHANNELS];
                    for ((acc, count), offset) in acc.iter_mut().zip(counts).zip(self.offsets(row, target)) {
                        *acc = offset - 2 * *count as i32;
                    }
                    self.put(row, channel, &acc[..width], out);
                }
            }
        }
    }

    /// Adds the counts of all pairs of planes, four times too large. Sums may wrap on the way, but four times an
    /// accumulator fits (`MAX_ACCUMULATOR`), so the result does not.
    fn multiply_planes<const R: usize>(
        &self,
        rows: &[Row],
        lowered: &[u64],
        target: Target,
        out: &mut [u64],
    ) {
        let (pa, k, nr, n) = (self.xq.planes(), self.k, self.nr, rows.len());
        let (mut counts, mut quad) = ([[0u32; MAX_CHANNELS]; R], [[0i32; MAX_CHANNELS]; R]);
        let (counts, quad) = (counts.as_flattened_mut(), quad.as_flattened_mut());
        for (pw, b) in self.panel(target).chunks_exact(k * nr).enumerate() {
            for px in 0..pa {
                self.kernels.bgemm.counts(n, k, &lowered[px * k..], pa * k, b, counts);
                // Weights of planes are powers of two of either sign.
                let weight = -2 * self.wq.plane_weight(pw) * self.xq.plane_weight(px);
                let shift = weight.unsigned_abs().trailing_zeros();
                for (q, count) in quad.iter_mut().zip(&counts[..n * nr]) {
                    let part = (*count as i32) << shift;
                    *q = if weight < 0 { q.wrapping_sub(part) } else { q.wrapping_add(part) };
                }
            }
        }
        let weight_offset = self.wq.plane_offset();
        let constant = &self.quad[target.channel..][..target.width];
        for (row, quad) in rows.iter().zip(quad.chunks_exact(nr)) {
            let mut acc = [0i32; MAX_CHANNELS];
            let offsets = self.offsets(row, target);
            let sum = row.sum.wrapping_mul(2 * weight_offset);
            for j in 0..target.width {
                acc[j] = (quad[j].wrapping_add(constant[j]).wrapping_add(sum) >> 2) + offsets[j];
            }
            self.put(row, target.channel, &acc[..target.width], out);
        }
    }

    fn multiply_floats<const R: usize>(
        &self,
        rows: &[Row],
        lowered: &[f32],
        target: Target,
        out: &mut [u64],
    ) {
        let (k, nr, gemm) = (self.k, self.nr, &self.kernels.fgemm);
        let mut sums = [[0f32; MAX_COLUMNS]; R];
        let sums = sums.as_flattened_mut();
        let b = &self.panels.as_f32()[target.index * k * nr..][..k * nr];
        gemm.product(rows.len(), k, lowered, k, b, sums);
        let sums = sums.chunks_exact(nr);
        if !self.float_limits.is_empty() {
            let limits = &self.float_limits[target.index * nr..][..target.width];
            self.put_masks(rows, sums.map(|s| gemm.reaches(&s[..target.width], limits)), target, out);
            return;
        }
        for (row, sums) in rows.iter().zip(sums) {
            let mut acc = [0i32; MAX_COLUMNS];
            for (acc, sum) in acc.iter_mut().zip(sums) {
                *acc = *sum as i32;
            }
            self.put(row, target.channel, &acc[..target.width], out);
        }
    }

    /// What padding and constants add to the accumulators of one row.
    fn offsets(&self, row: &Row, target: Target) -> &[i32] {
        &self.offset[row.class * self.out.shape.c + target.channel..][..target.width]
    }

    /// Stores one plane of neighbouring channels, a mask of `accumulator >= threshold` for each row.
    fn put_masks(&self, rows: &[Row], masks: impl Iterator<Item = u64>, target: Target, out: &mut [u64]) {
        let Target { channel, width, .. } = target;
        let flips = bits::read(&self.transform.flips, channel, width);
        for (row, mask) in rows.iter().zip(masks) {
            bits::or(&mut out[row.at..], channel, width, (mask ^ flips) & bits::low_mask(width));
        }
    }

    /// Stores the accumulators of neighbouring channels of one output pixel.
    fn put(&self, row: &Row, channel: usize, acc: &[i32], out: &mut [u64]) {
        let (at, n) = (row.at + channel, acc.len());
        match self.transform.view() {
            Transform::I32 => {
                bytemuck::cast_slice_mut::<u64, i32>(out)[at..at + n].copy_from_slice(acc);
            }
            Transform::F32 { center, scale, bias } => {
                let out = &mut bytemuck::cast_slice_mut::<u64, f32>(out)[at..at + n];
                let (center, scale) = (&center[channel..][..n], &scale[channel..][..n]);
                let bias = &bias[channel..][..n];
                for i in 0..n {
                    out[i] = affine(acc[i] as f32, center[i], scale[i], bias[i]);
                }
            }
            Transform::Levels { quant, flips, .. } if !self.steps.is_empty() => {
                let words = bits::words(self.out.shape.c);
                let (flips, mut floats) = (bits::read(flips, channel, n), [0f32; MAX_COLUMNS]);
                for (float, acc) in floats.iter_mut().zip(acc) {
                    *float = *acc as f32;
                }
                let mut planes = [0; 8];
                for step in self.steps.chunks_exact(self.out.shape.c) {
                    let reached = self.kernels.fgemm.reaches(&floats[..n], &step[channel..][..n]);
                    Quant::raise(&mut planes, reached ^ flips);
                }
                quant.encode_levels(&mut planes);
                for (p, plane) in planes.iter().enumerate().take(quant.planes()) {
                    bits::or(&mut out[row.at + p * words..], channel, n, plane & bits::low_mask(n));
                }
            }
            Transform::Levels { quant, thresholds, flips } => {
                let (steps, words) = (quant.levels() - 1, bits::words(self.out.shape.c));
                let mut masks = [0u64; 8];
                for (i, acc) in acc.iter().enumerate() {
                    let c = channel + i;
                    let t = &thresholds[c * steps..][..steps];
                    let code = quant.code_of_level(level(*acc, t, bits::get(flips, c)));
                    for (p, mask) in masks.iter_mut().enumerate().take(quant.planes()) {
                        *mask |= u64::from(code >> p & 1) << i;
                    }
                }
                for (p, mask) in masks.iter().enumerate().take(quant.planes()) {
                    bits::or(&mut out[row.at + p * words..][..words], channel, n, *mask);
                }
            }
        }
    }
}

/// Four times the part of a product that depends on neither activation:
/// `sum_ij w_j a_i K + a_offset * sum_j w_j T_j + K w_offset a_offset - w_offset * sum_i a_i K`,
/// where `T_j` is the +-1 sum of weight plane `j`.
fn quad_constant(xq: Quant, wq: Quant, taps: usize, channel: usize, rows: &[u64]) -> i32 {
    let words = bits::words(taps);
    let k = taps as i64;
    let a_sum: i64 = (0..xq.planes()).map(|p| i64::from(xq.plane_weight(p))).sum();
    let (a_off, w_off) = (i64::from(xq.plane_offset()), i64::from(wq.plane_offset()));
    let mut total = k * w_off * a_off - w_off * a_sum * k;
    for p in 0..wq.planes() {
        let row = &rows[(channel * wq.planes() + p) * words..][..words];
        let t = 2 * i64::from(bits::count_ones(row)) - k;
        total += i64::from(wq.plane_weight(p)) * (a_sum * k + a_off * t);
    }
    // Four times an accumulator fits, and sums of what wraps wrap back.
    total as i32
}
