//! The fast path on bit planes: columns of bits times panels of bits.

use super::border::Borders;
use super::levels::levels;
use super::lower::{Columns, Lowering};
use super::{BConv2d, OwnedTransform};
use crate::bits;
use crate::kernels::{Accumulators, Aligned, Block, Kernels, Limits, Pair};
use crate::model::{Params, Tensor};
use crate::ops::rows_at_a_time;
use crate::ops::transform::Transform;
use crate::team::{Cut, Piece};
use crate::types::{DType, Encoding, Quant, ValueType};
use alloc::vec::Vec;
use core::ops::Range;

/// Bytes of weights that stay in the second cache while blocks of rows pass by.
const CACHED_WEIGHTS: usize = 512 * 1024;
/// Blocks that are lowered before weights that do not stay there are read.
const BLOCKS: usize = 8;
/// Most thresholds of a channel that are compared one by one in the kernel.
const MAX_STEPS: usize = 15;

/// Weights in panels, padding and thresholds in tables.
pub(super) struct Planes {
    conv: BConv2d,
    input: ValueType,
    out: ValueType,
    kernels: &'static Kernels,
    lowering: Lowering,
    borders: Borders,
    /// Words of a column of one plane.
    k: usize,
    pairs: Vec<Pair>,
    /// The unit of a sum is `2^shift / 2`.
    shift: u32,
    /// `[group][panel][weight plane][k][nr]`.
    panels: Aligned,
    /// `[class][group][channel padded to panels]`: twice the accumulator of a sum of 0.
    half: Vec<i32>,
    output: Output,
    /// Columns that are lowered at a time.
    block: usize,
    /// Blocks that are lowered before they are multiplied.
    blocks: usize,
}

/// What becomes of sums.
enum Output {
    Ints,
    /// Center, scale and bias, `[group][channel padded to panels]`.
    Floats([Vec<f32>; 3]),
    /// Few levels: limits of sums, `[class][step][group][channel padded to panels]`.
    Limits {
        quant: Quant,
        table: Vec<i64>,
        steps: usize,
        flips: Vec<u64>,
    },
    /// Many levels: accumulators are compared afterwards.
    Levels(OwnedTransform),
}

impl Planes {
    pub(super) fn new(
        conv: BConv2d,
        input: ValueType,
        out: ValueType,
        params: &Params<Tensor<'_>>,
        kernels: &'static Kernels,
    ) -> Self {
        let weight = params.weight.as_ref().expect("checked by infer");
        let (wq, filters) = weight.as_bits().expect("checked by infer");
        let xq = input.dtype.quant().expect("checked by infer");
        let gemm = &kernels.bgemm;
        let (pairs, shift) = pairs(xq, wq);
        let lowering = Lowering::new(&conv, input, out.shape, wq, shift);
        let k = gemm.padded(lowering.words());
        let block = rows_at_a_time(xq.planes() * k * 8, gemm.mr);
        let mut planes = Planes {
            conv,
            input,
            out,
            kernels,
            lowering,
            borders: Borders::new(&conv.window, input.shape, out.shape),
            k,
            pairs,
            shift,
            panels: Aligned::zeroed(0),
            half: Vec::new(),
            output: Output::Ints,
            block,
            blocks: 1,
        };
        planes.panels = planes.pack(wq, filters, bits::words(weight.cols));
        if planes.panels.len() * 8 / conv.groups > CACHED_WEIGHTS {
            planes.blocks = BLOCKS;
        }
        // A tap in the padding is lowered as code 0 but should have contributed `pad_value`.
        let wrong_by = conv.pad_value - xq.decode(0);
        let padded = planes.borders.any(&conv.window);
        let ints = if padded { weight.to_i32().expect("checked by infer") } else { Vec::new() };
        let cg = input.shape.c / conv.groups;
        let offset = planes.borders.offsets(&conv.window, &ints, out.shape.c, cg, 0, wrong_by);
        // Even, because sums enter four times an accumulator twice.
        let quad: Vec<i64> =
            (0..out.shape.c).map(|ch| quad_constant(xq, wq, weight.cols, ch, filters)).collect();
        let half = |class: &[i32]| planes.padded(0, |ch| quad[ch] / 2 + 2 * i64::from(class[ch]));
        let half: Vec<i64> = offset.chunks(out.shape.c).flat_map(half).collect();
        // What wraps here wraps back: four times an accumulator fits (`MAX_ACCUMULATOR`).
        planes.half = half.iter().map(|h| *h as i32).collect();
        let mut transform = OwnedTransform::new(conv.output, params, out.shape.c);
        if let DType::Bits(quant) = conv.output {
            transform.sort(quant.levels() - 1);
        }
        planes.output = match transform.view() {
            Transform::I32 => Output::Ints,
            Transform::F32 { center, scale, bias } => {
                Output::Floats([center, scale, bias].map(|t| planes.padded(0.0, |ch| t[ch])))
            }
            Transform::Levels { quant, .. } if quant.levels() > MAX_STEPS + 1 => Output::Levels(transform),
            Transform::Levels { quant, thresholds, flips } => {
                let steps = quant.levels() - 1;
                let table = planes.limits(&half, thresholds, steps);
                Output::Limits { quant, table, steps, flips: flips.to_vec() }
            }
        };
        planes
    }

    /// Output channels of a group, and panels that hold them.
    fn group(&self) -> (usize, usize) {
        let channels = self.out.shape.c / self.conv.groups;
        (channels, channels.div_ceil(self.kernels.bgemm.nr))
    }

    /// Channels of all groups, each padded to whole panels.
    fn all_channels(&self) -> usize {
        self.conv.groups * self.group().1 * self.kernels.bgemm.nr
    }

    /// `of` every channel, with `padding` for those that only fill a panel.
    fn padded<T: Copy>(&self, padding: T, of: impl Fn(usize) -> T) -> Vec<T> {
        let (ng, panels) = self.group();
        let width = panels * self.kernels.bgemm.nr;
        let value = |i: usize| if i % width < ng { of(i / width * ng + i % width) } else { padding };
        (0..self.all_channels()).map(value).collect()
    }

    fn pack(&self, wq: Quant, filters: &[u64], words: usize) -> Aligned {
        let (ng, panels) = self.group();
        let (planes, k, nr) = (wq.planes(), self.k, self.kernels.bgemm.nr);
        let mut packed = Aligned::zeroed(self.conv.groups * panels * planes * k * nr);
        let mut column = alloc::vec![0; k];
        for channel in 0..self.out.shape.c {
            let (g, i) = (channel / ng, channel % ng);
            for p in 0..planes {
                column.fill(0);
                self.lowering.filter(&filters[(channel * planes + p) * words..][..words], &mut column);
                let panel = ((g * panels + i / nr) * planes + p) * k * nr;
                let mut run = 0;
                for (w, word) in column.iter().enumerate() {
                    run = if self.kernels.bgemm.prefix { run ^ word } else { *word };
                    packed[panel + w * nr + i % nr] = run;
                }
            }
        }
        packed
    }

    /// Limits that sums stay below where accumulators reach thresholds.
    fn limits(&self, half: &[i64], thresholds: &[i32], steps: usize) -> Vec<i64> {
        let mut table = Vec::new();
        for half in half.chunks(self.all_channels()) {
            for step in 0..steps {
                // (half - (sum << shift)) / 2 >= t  <=>  sum < floor((half - 2 t) / 2^shift) + 1
                let t = self.padded(None, |ch| Some(i64::from(thresholds[ch * steps + step])));
                let limit = |(half, t): (&i64, Option<i64>)| {
                    t.map_or(i64::MIN, |t| ((half - 2 * t) >> self.shift) + 1)
                };
                table.extend(half.iter().zip(t).map(limit));
            }
        }
        table
    }

    pub(super) fn kernel(&self) -> &'static str {
        self.kernels.bgemm.name
    }

    fn scratch(&self) -> Scratch<usize> {
        let rows = self.block * self.blocks;
        let lda = self.lowering.lda(self.block);
        Scratch {
            band: self.lowering.band_words(),
            columns: self.blocks * self.input.dtype.quant().map_or(1, Quant::planes) * self.k * lda,
            sums: if self.lowering.has_sums() { self.blocks * lda } else { 0 },
            at: rows,
            to: rows,
            temporary: match &self.output {
                Output::Limits { steps, .. } => self.block * (steps + 1),
                Output::Levels(_) => self.block * (32 + 1),
                _ if self.group().0.is_multiple_of(self.kernels.bgemm.nr) => 0,
                _ => self.block * (32 + 1),
            },
        }
    }

    /// Words of scratch memory that [`Planes::run`] needs.
    pub(super) fn scratch_words(&self) -> usize {
        let s = self.scratch();
        s.band.saturating_add(s.columns + s.sums + s.at + s.to + s.temporary)
    }

    /// Runs `batch` images.
    pub(super) fn run(&self, batch: usize, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
        let pixels = batch * self.out.shape.pixels();
        self.run_part(0..pixels, 0..self.group().0, x, out, scratch);
    }

    /// Runs a piece of one image.
    pub(super) fn run_piece(&self, piece: &Piece, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
        match piece.clone() {
            Piece::Pixels(pixels) => self.run_part(pixels, 0..self.group().0, x, out, scratch),
            Piece::Channels(channels) if self.conv.groups == 1 => {
                self.run_part(0..1, channels, x, out, scratch)
            }
            Piece::Channels(_) => unreachable!("channels of groups are not cut"),
        }
    }

    /// How one image can be cut into pieces.
    pub(super) fn cut(&self) -> Cut {
        Cut { pixels: 1, channels: self.conv.groups == 1 }
    }

    /// Runs output pixels, numbered through all images, and channels of each group; `out` begins with the first.
    fn run_part(
        &self,
        range: Range<usize>,
        channels: Range<usize>,
        x: &[u64],
        out: &mut [u64],
        scratch: &mut [u64],
    ) {
        let mut scratch = self.scratch().take(scratch);
        let (in_words, pixels) = (self.input.arena_words(), self.out.shape.pixels());
        if matches!(self.out.dtype, DType::Bits(_)) && !self.direct() {
            out.fill(0);
        }
        for g in 0..self.conv.groups {
            if self.lowering.band_words() == 0 {
                // Columns of all images together: in a dense layer each has only one.
                self.run_pixels(g, range.clone(), range.start, &channels, x, 0, &mut scratch, out);
                continue;
            }
            let (w, mut first) = (self.out.shape.w, range.start);
            while first < range.end {
                // A band ends with its rows, the image or the range.
                let (image, oy) = (first / pixels, first % pixels / w);
                let rows = self.lowering.band_rows().min(self.out.shape.h - oy);
                let end = (image * pixels + (oy + rows) * w).min(range.end);
                let rows = (end - image * pixels).div_ceil(w) - oy;
                let x = &x[image * in_words..][..in_words];
                self.lowering.spread(x, g, oy, rows, scratch.band);
                self.run_pixels(g, first..end, range.start, &channels, x, oy, &mut scratch, out);
                first = end;
            }
        }
    }

    /// Runs output pixels, numbered through all images; `x` is their image, or all images where there are no bands;
    /// `out` begins with pixel `origin` and the first channel.
    fn run_pixels(
        &self,
        g: usize,
        range: Range<usize>,
        origin: usize,
        channels: &Range<usize>,
        x: &[u64],
        oy: usize,
        scratch: &mut Scratch<&mut [u64]>,
        out: &mut [u64],
    ) {
        let pixels = self.out.shape.pixels();
        let words = self.input.arena_words();
        let planes = self.input.dtype.quant().map_or(1, Quant::planes);
        let at: &mut [usize] = bytemuck::cast_slice_mut(scratch.at);
        let to: &mut [usize] = bytemuck::cast_slice_mut(scratch.to);
        let sums: &mut [i64] = bytemuck::cast_slice_mut(scratch.sums);
        for first in range.clone().step_by(self.block * self.blocks) {
            let total = (range.end - first).min(self.block * self.blocks);
            let (full, lda) = (self.block.min(total), self.lowering.lda(self.block.min(total)));
            let block_words = planes * self.k * lda;
            for start in (0..total).step_by(full) {
                let mut done = start;
                let end = (start + full).min(total);
                // A block may reach from one image into the next.
                while done < end {
                    let (image, pixel) = ((first + done) / pixels, (first + done) % pixels);
                    let n = (end - done).min(pixels - pixel);
                    let block = start / full;
                    let mut columns = Columns {
                        words: &mut scratch.columns[block * block_words + done - start..],
                        lda,
                        plane: self.k * lda,
                        sums: sums.get_mut(block * lda + done - start..).unwrap_or_default(),
                    };
                    let x = if scratch.band.is_empty() { &x[image * words..][..words] } else { x };
                    let gemm = &self.kernels.bgemm;
                    self.lowering.lower(gemm, x, g, scratch.band, oy, pixel, n, &mut columns);
                    self.place(first + done, origin, n, &mut at[done..], &mut to[done..]);
                    done += n;
                }
            }
            // As many channels as fit into a word.
            for channel in channels.clone().step_by(64) {
                for start in (0..total).step_by(full) {
                    let rows = full.min(total - start);
                    let block = start / full;
                    let a = &scratch.columns[block * block_words..][..block_words];
                    let base = if sums.is_empty() { &[][..] } else { &sums[block * lda..][..rows] };
                    self.multiply(
                        Target { g, channel, width: 64.min(channels.end - channel), origin: channels.start },
                        Rows { a, lda, base, at: &at[start..][..rows], to: &to[start..][..rows] },
                        scratch.temporary,
                        out,
                    );
                }
            }
        }
    }

    /// Where the constants and outputs of `n` neighbouring output pixels of an image lie, from `pixel` on; the output
    /// begins with pixel `origin`.
    fn place(&self, pixel: usize, origin: usize, n: usize, at: &mut [usize], to: &mut [usize]) {
        let pixels = self.out.shape.pixels();
        let (c, width) = (self.out.shape.c, self.out.shape.w);
        let (image_units, pixel_units) = match self.out.dtype {
            DType::Bits(q) => (self.out.arena_words(), q.planes() * bits::words(c)),
            _ => (self.out.arena_words() * 2, c),
        };
        let steps = if let Output::Limits { steps, .. } = &self.output { *steps } else { 1 };
        let class_size = self.all_channels() * steps;
        let unit = |pixel: usize| pixel / pixels * image_units + pixel % pixels * pixel_units;
        let (first, pixel) = (unit(pixel) - unit(origin), pixel % pixels);
        for (i, to) in to[..n].iter_mut().enumerate() {
            *to = first + i * pixel_units;
        }
        let mut done = 0;
        while done < n {
            let (y, x) = ((pixel + done) / width, (pixel + done) % width);
            let run = (width - x).min(n - done);
            self.borders.classes_of(y, x, class_size, &mut at[done..done + run]);
            done += run;
        }
    }

    /// Whether masks of the kernel are words of the output.
    fn direct(&self) -> bool {
        let aligned = self.conv.groups == 1 || self.group().0.is_multiple_of(64);
        aligned
            && match &self.output {
                Output::Limits { quant, .. } => quant.bits == 1 && quant.encoding != Encoding::Signed,
                _ => false,
            }
    }

    /// Multiplies a block of columns with at most 64 channels.
    fn multiply(&self, target: Target, rows: Rows<'_>, temporary: &mut [u64], out: &mut [u64]) {
        let Target { g, channel, width, origin } = target;
        let (gemm, n) = (&self.kernels.bgemm, rows.at.len());
        let (ng, panels) = self.group();
        let stride = self.panels.len() / (self.conv.groups * panels);
        // The first channel among the padded ones, of all, and in the output.
        let (first, channel) = (g * panels * gemm.nr + channel, g * ng + channel);
        let place = channel - origin;
        let block = Block {
            rows: n,
            k: self.k,
            a: rows.a,
            lda: rows.lda,
            plane: self.k * rows.lda,
            b: &self.panels[first / gemm.nr * stride..],
            panels: width.div_ceil(gemm.nr),
            stride,
            pairs: &self.pairs,
            base: rows.base,
        };
        let (at, to) = (rows.at, rows.to);
        let acc = Accumulators { half: &self.half[first..], at, to, shift: self.shift };
        // Only whole panels are stored: the last one takes a detour.
        let whole = width.is_multiple_of(gemm.nr);
        match &self.output {
            Output::Ints if whole => {
                gemm.ints(&block, &acc, &mut bytemuck::cast_slice_mut(out)[place..]);
            }
            Output::Ints => {
                let (values, own) = self.detour(n, temporary);
                gemm.ints(&block, &Accumulators { to: own, ..acc }, values);
                scatter(values, width, to, &mut bytemuck::cast_slice_mut(out)[place..]);
            }
            Output::Floats(constants) => {
                let constants = constants.each_ref().map(|t| &t[first..]);
                let out = &mut bytemuck::cast_slice_mut(out)[place..];
                if whole {
                    gemm.floats(&block, &acc, constants, out);
                    return;
                }
                let (values, own) = self.detour(n, temporary);
                gemm.floats(&block, &Accumulators { to: own, ..acc }, constants, values);
                scatter(values, width, to, out);
            }
            Output::Limits { quant, table, steps, flips } => {
                let flips = bits::read(flips, channel, width);
                let step = self.all_channels();
                let limits = Limits { table: &table[first..], at, to, steps: *steps, step, flips };
                if self.direct() {
                    gemm.bits(&block, &limits, &mut out[place / 64..]);
                    return;
                }
                let (masks, own) = temporary.split_at_mut(self.block * steps);
                let own = every(bytemuck::cast_slice_mut(own), n, *steps);
                gemm.bits(&block, &Limits { to: own, ..limits }, masks);
                for (to, masks) in to.iter().zip(masks.chunks_exact(*steps)) {
                    let mut planes = [0; 8];
                    for mask in masks {
                        Quant::raise(&mut planes, *mask);
                    }
                    quant.encode_levels(&mut planes);
                    self.put(*quant, &planes, place, width, &mut out[*to..]);
                }
            }
            Output::Levels(transform) => {
                let Transform::Levels { quant, thresholds, flips } = transform.view() else { return };
                let (steps, flips) = (quant.levels() - 1, bits::read(flips, channel, width));
                let (values, own): (&mut [i32], _) = self.detour(n, temporary);
                gemm.ints(&block, &Accumulators { to: own, ..acc }, values);
                for (to, values) in to.iter().zip(values.chunks_exact(64)) {
                    let values = &values[..width];
                    let mut planes = levels(values, steps, &thresholds[channel * steps..], flips);
                    quant.encode_levels(&mut planes);
                    self.put(quant, &planes, place, width, &mut out[*to..]);
                }
            }
        }
    }

    /// Room for 64 values of each row, and their places.
    fn detour<'t, T: bytemuck::Pod>(
        &self,
        rows: usize,
        temporary: &'t mut [u64],
    ) -> (&'t mut [T], &'t [usize]) {
        let (values, own) = temporary.split_at_mut(self.block * 32);
        (bytemuck::cast_slice_mut(values), every(bytemuck::cast_slice_mut(own), rows, 64))
    }

    /// Stores codes of neighbouring channels of one output pixel.
    fn put(&self, quant: Quant, planes: &[u64; 8], channel: usize, width: usize, pixel: &mut [u64]) {
        let words = bits::words(self.out.shape.c);
        for (p, plane) in planes.iter().enumerate().take(quant.planes()) {
            bits::or(&mut pixel[p * words..], channel, width, plane & bits::low_mask(width));
        }
    }
}

/// Copies the first `width` of 64 values of each row to their places.
fn scatter<T: Copy>(values: &[T], width: usize, to: &[usize], out: &mut [T]) {
    for (to, values) in to.iter().zip(values.chunks_exact(64)) {
        out[*to..*to + width].copy_from_slice(&values[..width]);
    }
}

/// Multiples of `step`.
fn every(places: &mut [usize], n: usize, step: usize) -> &[usize] {
    for (i, place) in places[..n].iter_mut().enumerate() {
        *place = i * step;
    }
    &places[..n]
}

/// Neighbouring output channels of a group.
#[derive(Clone, Copy)]
struct Target {
    g: usize,
    channel: usize,
    width: usize,
    /// The channel with which the output begins.
    origin: usize,
}

/// Lowered columns and where their results go.
struct Rows<'a> {
    a: &'a [u64],
    lda: usize,
    base: &'a [i64],
    at: &'a [usize],
    to: &'a [usize],
}

/// Parts of the scratch memory: their sizes, or the parts.
struct Scratch<T> {
    band: T,
    columns: T,
    sums: T,
    at: T,
    to: T,
    temporary: T,
}

impl Scratch<usize> {
    fn take(self, mut words: &mut [u64]) -> Scratch<&mut [u64]> {
        let mut part = |n: usize| {
            let (part, rest) = core::mem::take(&mut words).split_at_mut(n);
            words = rest;
            part
        };
        Scratch {
            band: part(self.band),
            columns: part(self.columns),
            sums: part(self.sums),
            at: part(self.at),
            to: part(self.to),
            temporary: part(self.temporary),
        }
    }
}

/// All products of planes in the order of Horner's rule, and the exponent of the unit of their sum:
/// `4 acc = constant - 2^(exponent + 1) * sum`.
fn pairs(xq: Quant, wq: Quant) -> (Vec<Pair>, u32) {
    let mut pairs: Vec<(u32, Pair)> = Vec::new();
    for w in 0..wq.planes() {
        for x in 0..xq.planes() {
            let weight = wq.plane_weight(w) * xq.plane_weight(x);
            let pair = Pair { a: x, b: w, doublings: 0, negative: weight < 0 };
            pairs.push((weight.unsigned_abs().trailing_zeros(), pair));
        }
    }
    crate::insertion_sort(&mut pairs, |(exponent, pair)| (core::cmp::Reverse(*exponent), pair.negative));
    for i in 1..pairs.len() {
        pairs[i].1.doublings = pairs[i - 1].0 - pairs[i].0;
    }
    let lowest = pairs.last().map_or(0, |(exponent, _)| *exponent);
    (pairs.into_iter().map(|(_, pair)| pair).collect(), lowest)
}

/// Four times the part of a product that depends on neither activation:
/// `sum_ij w_j a_i K + a_offset * sum_j w_j T_j + K w_offset a_offset - w_offset * sum_i a_i K`,
/// where `T_j` is the +-1 sum of weight plane `j`.
fn quad_constant(xq: Quant, wq: Quant, taps: usize, channel: usize, rows: &[u64]) -> i64 {
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
    total
}
