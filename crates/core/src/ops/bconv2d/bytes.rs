//! The fast path on bytes: rows of bytes times panels of bytes, in integers.

use super::border::Borders;
use super::levels::levels;
use super::lower_bytes::{ByteLowering, zero};
use super::{BConv2d, OwnedTransform};
use crate::bits;
use crate::kernels::{Aligned, Igemm, IntLimits, Kernels, MAX_OUTPUTS};
use crate::model::{Params, Tensor};
use crate::ops::transform::Transform;
use crate::types::{DType, Encoding, Quant, ValueType};
use alloc::vec::Vec;
use core::ops::Range;

/// Most rows that are lowered at a time, and bytes that they may take: panels are read once for all of them.
const MAX_ROWS: usize = 64;
const ROW_BYTES: usize = 256 * 1024;

/// Most thresholds of a channel that are compared one by one in the kernel.
const MAX_STEPS: usize = 15;

/// Weights in panels, padding and thresholds in tables.
pub(super) struct Bytes {
    conv: BConv2d,
    input: ValueType,
    out: ValueType,
    gemm: &'static Igemm,
    lowering: ByteLowering,
    borders: Borders,
    /// Bytes of a row.
    k: usize,
    /// `[group][panel]`.
    panels: Aligned,
    /// Limits of sums for outputs of few levels, `[class][step][group][channel padded to panels]`; else what is added
    /// to sums, `[class][group][channel padded to panels]`.
    table: Vec<i32>,
    /// Limits of each channel in the table, or 0.
    steps: usize,
    transform: OwnedTransform,
    /// Rows that are lowered at a time.
    block: usize,
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
        let (wq, _) = weight.as_bits().expect("checked by infer");
        let (parts, largest) = byte_weights(wq);
        let gemm = kernels.igemm(largest);
        let k = gemm.padded(parts * weight.cols);
        let zero = i32::from(zero(input.dtype));
        let mut bytes = Bytes {
            conv,
            input,
            out,
            gemm,
            lowering: ByteLowering::new(&conv, input, out.shape, parts, k),
            borders: Borders::new(&conv.window, input.shape, out.shape),
            k,
            panels: Aligned::zeroed(0),
            table: Vec::new(),
            steps: 0,
            transform: OwnedTransform::new(conv.output, params, out.shape.c),
            block: (ROW_BYTES / k).clamp(gemm.mr, MAX_ROWS) / gemm.mr * gemm.mr,
        };
        let (ng, panels) = bytes.group();
        bytes.panels = Aligned::zeroed((conv.groups * panels * gemm.panel_len(k)).div_ceil(8));
        let all: &mut [i8] = bytemuck::cast_slice_mut(&mut bytes.panels);
        let groups = all.chunks_exact_mut(panels * gemm.panel_len(k));
        for (weights, panels) in weights.chunks(ng * weight.cols).zip(groups) {
            let start: Vec<i32> = weights
                .chunks(weight.cols)
                .map(|filter| -zero.wrapping_mul(filter.iter().sum::<i32>()))
                .collect();
            gemm.pack(parts * weight.cols, &split(weights, weight.cols, parts), &start, panels);
        }
        // A tap in the padding is lowered as 0.
        let cg = input.shape.c / conv.groups;
        let (n, width) = (out.shape.c, panels * gemm.nr);
        let offsets = bytes.borders.offsets(&conv.window, &weights, n, cg, 0, conv.pad_value);
        let padded = (0..conv.groups * width).map(|i| (i % width < ng).then_some(i / width * ng + i % width));
        if let Transform::Levels { quant, thresholds, .. } = bytes.transform.view() {
            let all = quant.levels() - 1;
            if all <= MAX_STEPS {
                bytes.steps = all;
                for class in offsets.chunks(n) {
                    for step in 0..all {
                        // Sums stay far inside 32 bits, so a limit that does not fit is out of their reach.
                        let limit = |ch: usize| thresholds[ch * all + step].saturating_sub(class[ch]);
                        bytes.table.extend(padded.clone().map(|ch| ch.map_or(i32::MAX, limit)));
                    }
                }
                return bytes;
            }
            bytes.transform.sort(all);
        }
        for class in offsets.chunks(n) {
            bytes.table.extend(padded.clone().map(|ch| ch.map_or(0, |ch| class[ch])));
        }
        bytes
    }

    /// Output channels of a group, and panels that hold them.
    fn group(&self) -> (usize, usize) {
        let channels = self.out.shape.c / self.conv.groups;
        (channels, channels.div_ceil(self.gemm.nr))
    }

    /// Channels of all groups, each padded to whole panels.
    fn all_channels(&self) -> usize {
        self.conv.groups * self.group().1 * self.gemm.nr
    }

    pub(super) fn kernel(&self) -> &'static str {
        self.gemm.name
    }

    /// Words of the parts of the scratch memory: band, rows, `at`, `to`, sums or masks.
    fn scratch(&self) -> [usize; 5] {
        let (block, lowering) = (self.block, &self.lowering);
        let bytes = [lowering.band_bytes(), lowering.row_bytes(block)].map(|bytes| bytes.div_ceil(8));
        [bytes[0], bytes[1], block, block, block * self.gemm.nr.div_ceil(2).max(self.steps)]
    }

    /// Words of scratch memory that [`Bytes::run`] needs.
    pub(super) fn scratch_words(&self) -> usize {
        self.scratch().iter().fold(0, |sum, part| sum.saturating_add(*part))
    }

    /// Runs `batch` images.
    pub(super) fn run(&self, batch: usize, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
        self.run_pixels(0..batch * self.out.shape.pixels(), x, out, scratch);
    }

    /// Runs output pixels, numbered through all images; `out` begins with the first.
    pub(super) fn run_pixels(
        &self,
        range: Range<usize>,
        x: &[u64],
        out: &mut [u64],
        mut scratch: &mut [u64],
    ) {
        let [band, rows, at, to, temporary] = self.scratch().map(|words| {
            let (part, rest) = core::mem::take(&mut scratch).split_at_mut(words);
            scratch = rest;
            part
        });
        let (band, rows) = (bytemuck::cast_slice_mut(band), bytemuck::cast_slice_mut(rows));
        let (at, to) = (bytemuck::cast_slice_mut(at), bytemuck::cast_slice_mut(to));
        let (in_words, width, pixels) = (self.input.arena_words(), self.out.shape.w, self.out.shape.pixels());
        if matches!(self.conv.output, DType::Bits(_)) {
            out.fill(0);
        }
        for g in 0..self.conv.groups {
            // A block may reach from one band or image into the next.
            let (mut filled, mut first) = (0, range.start);
            while first < range.end {
                // A band ends with its rows, the image or the range.
                let (image, oy) = (first / pixels, first % pixels / width);
                let band_rows = self.lowering.band_rows().min(self.out.shape.h - oy);
                let end = (image * pixels + (oy + band_rows) * width).min(range.end);
                let band_rows = (end - image * pixels).div_ceil(width) - oy;
                self.lowering.spread(&x[image * in_words..][..in_words], g, oy, band_rows, band);
                while first < end {
                    let n = (end - first).min(self.block - filled);
                    self.lowering.lower(band, oy, first % pixels, n, &mut rows[filled * self.k..]);
                    self.place(first, range.start, n, &mut at[filled..], &mut to[filled..]);
                    (first, filled) = (first + n, filled + n);
                    if filled == self.block {
                        self.multiply(g, rows, &at[..filled], &to[..filled], temporary, out);
                        filled = 0;
                    }
                }
            }
            if filled > 0 {
                self.multiply(g, rows, &at[..filled], &to[..filled], temporary, out);
            }
        }
    }

    /// Where the constants and outputs of `n` neighbouring output pixels of an image lie, from `pixel` on; the output
    /// begins with pixel `origin`.
    fn place(&self, pixel: usize, origin: usize, n: usize, at: &mut [usize], to: &mut [usize]) {
        let (c, width, pixels) = (self.out.shape.c, self.out.shape.w, self.out.shape.pixels());
        let (image_units, pixel_units) = match self.out.dtype {
            DType::Bits(q) => (self.out.arena_words(), q.planes() * bits::words(c)),
            _ => (self.out.arena_words() * 2, c),
        };
        let unit = |pixel: usize| pixel / pixels * image_units + pixel % pixels * pixel_units;
        let (first, pixel) = (unit(pixel) - unit(origin), pixel % pixels);
        for (i, to) in to[..n].iter_mut().enumerate() {
            *to = first + i * pixel_units;
        }
        let class_size = self.all_channels() * self.steps.max(1);
        let mut done = 0;
        while done < n {
            let (y, x) = ((pixel + done) / width, (pixel + done) % width);
            let run = (width - x).min(n - done);
            self.borders.classes_of(y, x, class_size, &mut at[done..done + run]);
            done += run;
        }
    }

    /// Multiplies a block of rows with all channels of a group.
    fn multiply(
        &self,
        g: usize,
        rows: &[u8],
        at: &[usize],
        to: &[usize],
        temporary: &mut [u64],
        out: &mut [u64],
    ) {
        let (gemm, k, n) = (self.gemm, self.k, at.len());
        let (ng, panels) = self.group();
        let all: &[i8] = bytemuck::cast_slice(&self.panels);
        // As many channels as fit into a word, or a panel.
        let step = if self.steps > 0 { 64 } else { gemm.nr };
        for channel in (0..ng).step_by(step) {
            let (width, panel) = (step.min(ng - channel), g * panels + channel / gemm.nr);
            let (b, table) = (&all[panel * gemm.panel_len(k)..], &self.table[panel * gemm.nr..]);
            let channel = g * ng + channel;
            if self.steps > 0 {
                let masks = &mut temporary[..n * self.steps];
                masks.fill(0);
                let limits = IntLimits { table, at, steps: self.steps, step: self.all_channels() };
                gemm.bits(n, width.div_ceil(gemm.nr), k, rows, k, b, &limits, masks);
                self.store_bits(channel, width, masks, to, out);
            } else {
                let sums: &mut [i32] = bytemuck::cast_slice_mut(temporary);
                gemm.sums(n, k, rows, k, b, sums);
                self.store(channel, width, sums, Rows { table, at, to }, out);
            }
        }
    }

    /// Stores the comparisons of at most 64 channels, each row's masks of all steps.
    fn store_bits(&self, channel: usize, width: usize, masks: &[u64], to: &[usize], out: &mut [u64]) {
        let Transform::Levels { quant, flips, .. } = self.transform.view() else { return };
        let flips = bits::read(flips, channel, width);
        for (masks, to) in masks.chunks_exact(self.steps).zip(to) {
            if let ([mask], true) = (masks, quant.encoding != Encoding::Signed) {
                bits::or(&mut out[*to..], channel, width, mask ^ flips);
                continue;
            }
            let mut planes = [0; 8];
            for mask in masks {
                Quant::raise(&mut planes, mask ^ flips);
            }
            self.put(quant, planes, channel, width, &mut out[*to..]);
        }
    }

    /// Stores levels of neighbouring channels of one output pixel.
    fn put(&self, quant: Quant, mut levels: [u64; 8], channel: usize, width: usize, pixel: &mut [u64]) {
        quant.encode_levels(&mut levels);
        let words = bits::words(self.out.shape.c);
        for (p, plane) in levels.iter().enumerate().take(quant.planes()) {
            bits::or(&mut pixel[p * words..], channel, width, plane & bits::low_mask(width));
        }
    }

    /// Stores what becomes of the sums of at most a panel of channels.
    fn store(&self, channel: usize, width: usize, sums: &[i32], rows: Rows<'_>, out: &mut [u64]) {
        let Rows { table, at, to } = rows;
        let view = self.transform.view();
        if let Transform::F32 { center, scale, bias } = view {
            let constants = [&center[channel..], &scale[channel..], &bias[channel..]];
            let out = &mut bytemuck::cast_slice_mut(out)[channel..];
            self.gemm.affine(width, sums, table, at, &constants, to, out);
            return;
        }
        for ((sums, at), to) in sums.chunks_exact(self.gemm.nr).zip(at).zip(to) {
            if let Transform::Levels { quant, thresholds, flips } = view {
                let mut acc = [0; MAX_OUTPUTS];
                add(&sums[..width], &table[*at..], &mut acc);
                let steps = quant.levels() - 1;
                let flips = bits::read(flips, channel, width);
                let levels = levels(&acc[..width], steps, &thresholds[channel * steps..], flips);
                self.put(quant, levels, channel, width, &mut out[*to..]);
            } else {
                let out: &mut [i32] = bytemuck::cast_slice_mut(out);
                add(&sums[..width], &table[*at..], &mut out[to + channel..]);
            }
        }
    }
}

/// Adds constants to sums.
fn add(sums: &[i32], offsets: &[i32], out: &mut [i32]) {
    let n = sums.len();
    let (offsets, out) = (&offsets[..n], &mut out[..n]);
    for i in 0..n {
        out[i] = sums[i].wrapping_add(offsets[i]);
    }
}

/// Where the constants and outputs of a block of rows lie.
#[derive(Clone, Copy)]
struct Rows<'a> {
    table: &'a [i32],
    at: &'a [usize],
    to: &'a [usize],
}

/// Bytes of which the sum is a weight, and their largest magnitude. Where a weight takes several, a row holds
/// everything as often.
pub(super) fn byte_weights(wq: Quant) -> (usize, u8) {
    let parts = wq.max().unsigned_abs().div_ceil(127);
    (parts.max(1) as usize, wq.max().max(-wq.min()).min(128) as u8)
}

/// Splits weights, filters of `k`, into `parts` that fit into bytes and add up to them: `[filter][part][k]`.
fn split(weights: &[i32], k: usize, parts: usize) -> Vec<i8> {
    if parts == 1 {
        return weights.iter().map(|w| (*w).clamp(-128, 127) as i8).collect();
    }
    let mut all = Vec::with_capacity(weights.len() * parts);
    for filter in weights.chunks(k) {
        for part in 0..parts as i32 {
            all.extend(filter.iter().map(|w| {
                // What parts of at most 127 have left of it.
                let rest = w - w.signum() * 127 * part;
                if rest * w.signum() <= 0 { 0 } else { rest.clamp(-127, 127) as i8 }
            }));
        }
    }
    all
}
