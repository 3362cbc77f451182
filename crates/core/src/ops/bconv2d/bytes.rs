//! The fast path on bytes: rows of floats, where all sums are exact.

use super::{BConv2d, OwnedTransform};
use crate::bits;
use crate::exec::steps_first;
use crate::kernels::{Aligned, Kernels, MAX_COLUMNS};
use crate::model::{Params, Tensor};
use crate::ops::transform::{Transform, affine, level};
use crate::ops::{MAX_BLOCK, rows_at_a_time};
use crate::types::{DType, Quant, ValueType};
use alloc::vec::Vec;

/// Bytes times small weights as floats; exact, because every sum stays below 2^24.
pub(super) struct Bytes {
    conv: BConv2d,
    input: ValueType,
    out: ValueType,
    kernels: &'static Kernels,
    /// Elements of a filter.
    k: usize,
    /// `[group][panel][k][nr]`.
    panels: Aligned,
    /// `[group][channels padded to panels]`: thresholds, for bits.
    limits: Vec<f32>,
    /// `[step][channel]`: thresholds of several levels.
    steps: Vec<f32>,
    transform: OwnedTransform,
    /// Rows that are lowered at a time.
    block: usize,
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

impl Bytes {
    pub(super) fn new(
        conv: BConv2d,
        input: ValueType,
        out: ValueType,
        params: &Params<Tensor<'_>>,
        kernels: &'static Kernels,
    ) -> Self {
        let weight = params.weight.as_ref().expect("checked by infer");
        let weights = weight.to_i32().expect("checked by infer");
        let (k, gemm) = (weight.cols, &kernels.fgemm);
        let transform = OwnedTransform::new(conv.output, params, out.shape.c);
        let mut bytes = Bytes {
            conv,
            input,
            out,
            kernels,
            k,
            panels: Aligned::zeroed(0),
            limits: Vec::new(),
            steps: Vec::new(),
            transform,
            block: rows_at_a_time(k * 4, gemm.mr),
        };
        let (ng, panels) = bytes.group();
        bytes.panels = Aligned::zeroed((conv.groups * panels * k * gemm.nr).div_ceil(2));
        let floats = bytes.panels.as_f32_mut();
        for (channel, filter) in weights.chunks(k).enumerate() {
            let (g, i) = (channel / ng, channel % ng);
            let panel = (g * panels + i / gemm.nr) * k * gemm.nr + i % gemm.nr;
            for (kk, w) in filter.iter().enumerate() {
                floats[panel + kk * gemm.nr] = *w as f32;
            }
        }
        // Accumulators are below 2^24, so a threshold that is rounded is out of their reach anyway.
        match (conv.output, &params.thresholds) {
            (DType::BIT, Some(t)) => {
                let t = t.to_f32();
                let width = panels * gemm.nr;
                let limit = |i| if i % width < ng { t[i / width * ng + i % width] } else { f32::MAX };
                bytes.limits = (0..conv.groups * width).map(limit).collect();
            }
            (DType::Bits(_), Some(t)) => bytes.steps = steps_first(t),
            _ => {}
        }
        bytes
    }

    /// Output channels of a group, and panels that hold them.
    fn group(&self) -> (usize, usize) {
        let channels = self.out.shape.c / self.conv.groups;
        (channels, channels.div_ceil(self.kernels.fgemm.nr))
    }

    pub(super) fn kernel(&self) -> &'static str {
        self.kernels.fgemm.name
    }

    /// Words of scratch memory that [`Bytes::run`] needs.
    pub(super) fn scratch_words(&self) -> usize {
        (self.block * self.k).div_ceil(2)
    }

    /// Runs `batch` images.
    pub(super) fn run(&self, batch: usize, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
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
        let lowered: &mut [f32] = bytemuck::cast_slice_mut(scratch);
        let total = batch * shape.pixels();
        let (ng, panels) = self.group();
        let nr = self.kernels.fgemm.nr;
        for g in 0..self.conv.groups {
            for first in (0..total).step_by(self.block) {
                let mut rows = [0; MAX_BLOCK];
                let rows = &mut rows[..self.block.min(total - first)];
                for (r, row) in rows.iter_mut().enumerate() {
                    let (image, pixel) = ((first + r) / shape.pixels(), (first + r) % shape.pixels());
                    *row = image * image_units + pixel * pixel_units;
                    let x = &x[image * in_words..][..in_words];
                    let to = &mut lowered[r * self.k..][..self.k];
                    let (oy, ox) = (pixel / shape.w, pixel % shape.w);
                    if self.input.dtype == DType::I8 {
                        let widen = |v: i8| f32::from(v);
                        self.lower_floats(bytemuck::cast_slice(x), widen, g, oy, ox, to);
                    } else {
                        let widen = |v: u8| f32::from(v);
                        self.lower_floats(bytemuck::cast_slice(x), widen, g, oy, ox, to);
                    }
                }
                for panel in 0..panels {
                    let channel = g * ng + panel * nr;
                    let width = nr.min(ng - panel * nr);
                    let target = Target { index: g * panels + panel, channel, width };
                    self.multiply(rows, lowered, target, out);
                }
            }
        }
    }

    /// Multiplies rows with one panel; `rows` holds the first word or element of each output pixel.
    fn multiply(&self, rows: &[usize], lowered: &[f32], target: Target, out: &mut [u64]) {
        let (k, nr, gemm) = (self.k, self.kernels.fgemm.nr, &self.kernels.fgemm);
        let Target { index, channel, width } = target;
        let mut sums = [0f32; MAX_BLOCK * MAX_COLUMNS];
        gemm.product(rows.len(), k, lowered, k, &self.panels.as_f32()[index * k * nr..][..k * nr], &mut sums);
        for (row, sums) in rows.iter().zip(sums.chunks_exact(nr)) {
            if self.limits.is_empty() {
                let mut acc = [0i32; MAX_COLUMNS];
                for (acc, sum) in acc.iter_mut().zip(sums) {
                    *acc = *sum as i32;
                }
                self.put(*row, channel, &acc[..width], out);
            } else {
                let mask = gemm.reaches(&sums[..width], &self.limits[index * nr..][..width]);
                let flips = bits::read(&self.transform.flips, channel, width);
                bits::or(&mut out[*row..], channel, width, (mask ^ flips) & bits::low_mask(width));
            }
        }
    }

    fn lower_floats<T: Copy>(
        &self,
        image: &[T],
        widen: impl Fn(T) -> f32,
        g: usize,
        oy: usize,
        ox: usize,
        row: &mut [f32],
    ) {
        let (shape, cg) = (self.input.shape, self.input.shape.c / self.conv.groups);
        row.fill(self.conv.pad_value as f32);
        self.conv.window.for_each_run(shape, oy, ox, |tap, taps, pixel| {
            // Without groups a run of pixels is one run of channels.
            let (runs, n) = if cg == shape.c { (1, taps * cg) } else { (taps, cg) };
            for i in 0..runs {
                let from = &image[(pixel + i) * shape.c + g * cg..][..n];
                for (to, from) in row[(tap + i) * cg..][..n].iter_mut().zip(from) {
                    *to = widen(*from);
                }
            }
        });
    }

    /// Stores the accumulators of neighbouring channels of one output pixel.
    fn put(&self, row: usize, channel: usize, acc: &[i32], out: &mut [u64]) {
        let (at, n) = (row + channel, acc.len());
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
                    bits::or(&mut out[row + p * words..], channel, n, plane & bits::low_mask(n));
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
                    bits::or(&mut out[row + p * words..][..words], channel, n, *mask);
                }
            }
        }
    }
}
