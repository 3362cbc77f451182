//! Convolution of integer activations with 1- to 8-bit weights: the heart of the project.
//!
//! ```text
//! acc[y][x][n] = sum over taps t and channels c of  w[n][t][c] * x[pixel(y, x, t)][c]
//! out          = transform(acc)
//! ```
//! A tap in the padding reads `pad_value`; 0 leaves the tap out exactly. Group `g` of the output
//! channels reads only the channels of group `g`. Weights are rows of `(ky, kx, c)` elements.
//!
//! **Fast path.** Every value is a sum over planes of +-1: `v = (sum_i p_i * s_i + e) / 2`
//! ([`Quant::plane_weight`]). A product of any two formats is therefore a combination of binary
//! products of planes, and one microkernel (`kernels::bgemm`) serves all of them; bytes are eight
//! planes. The map is lowered to rows of bits (bit im2col), padding reads as 0 bits, and the
//! difference to the true padding value is one number per channel and *border class* (which rows
//! and columns of the kernel lie outside), added after the kernel. For one plane on both sides and bit
//! output, that number goes into the limit that the kernel compares with, and the mask of the
//! comparison is the next layer's bits.
//!
//! Sources: XNOR and popcount, Courbariaux et al. 2016; border correction as in LCE; thresholds as in
//! FINN; prefix parity is ours.

use super::Window;
use super::transform::Transform;
use crate::types::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BConv2d {
    /// The sliding window.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// What a tap in the padding reads: 0 (left out), +1 or -1.
    pub pad_value: i32,
    /// Output format; `i32` takes no constants, `f32` takes `center`, `scale` and `bias`, bits take
    /// `thresholds` and `flips`.
    pub output: DType,
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::*;
    use crate::bits;
    use crate::cases::{Case, Rng, formats, map};
    use crate::kernels::{Aligned, Kernels, MAX_TILE};
    use crate::model::{Error, MAX_ACCUMULATOR, Params, Tensor, per_channel};
    use crate::ops::Op;
    use crate::ops::transform::{affine, level};
    use crate::reference::Values;
    use crate::types::{Encoding, Quant, Shape, ValueType};
    use alloc::format;
    use alloc::vec::Vec;

    /// Type of the output.
    pub fn infer(conv: &BConv2d, x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        let Some(xq) = x.dtype.quant() else {
            return Err(Error(format!("needs bits or bytes as input, not {}", x.dtype)));
        };
        if !(-1..=1).contains(&conv.pad_value) {
            return Err("has a padding value other than -1, 0 and 1".into());
        }
        let [h, w] = conv.window.output(x.shape)?;
        let Some(weight) = &params.weight else {
            return Err("has no weight".into());
        };
        let Some((wq, _)) = weight.as_bits() else {
            return Err("needs bit-packed weights".into());
        };
        let divides = |n: usize| conv.groups > 0 && n.is_multiple_of(conv.groups);
        if !divides(x.shape.c) || !divides(weight.rows) {
            return Err(Error(format!(
                "has {} groups, which do not divide {} input and {} output channels",
                conv.groups, x.shape.c, weight.rows
            )));
        }
        let k = conv.window.taps() * (x.shape.c / conv.groups);
        if weight.cols != k {
            return Err(Error(format!("its weight has {} columns, but a filter has {k} taps", weight.cols)));
        }
        let largest = |q: Quant| i64::from(q.max().max(-q.min()));
        if largest(xq) * largest(wq) * k as i64 > MAX_ACCUMULATOR {
            return Err(Error(format!("could overflow its accumulator with {k} taps")));
        }
        let out = Shape::new(h, w, weight.rows);
        check_transform(conv.output, out, params)?;
        Ok(ValueType::new(out, conv.output))
    }

    /// Checks the constants of an output transform.
    fn check_transform(output: DType, out: Shape, params: &Params<Tensor<'_>>) -> Result<(), Error> {
        let affine = [&params.center, &params.scale, &params.bias];
        match output {
            DType::F32 => {
                for (role, t) in ["center", "scale", "bias"].iter().zip(affine) {
                    per_channel(role, t.as_ref(), out)?;
                }
            }
            _ if affine.iter().any(|t| t.is_some()) => {
                return Err("has a scale, but its output is no float".into());
            }
            DType::Bits(q) => return crate::ops::threshold::check(q, out, params, DType::I32),
            DType::I32 => {}
            other => return Err(Error(format!("cannot put out {other}"))),
        }
        if params.thresholds.is_some() || params.flips.is_some() {
            return Err("has thresholds, but its output is not bits".into());
        }
        Ok(())
    }

    /// The specification.
    pub fn reference(
        conv: &BConv2d,
        x: ValueType,
        v: &Values,
        params: &Params<Tensor<'_>>,
        out: ValueType,
    ) -> Values {
        let weight = params.weight.as_ref().expect("checked by infer");
        let w = weight.to_i32().expect("checked by infer");
        let (v, owned) = (v.int(), OwnedTransform::new(conv.output, params, out.shape.c));
        let (ng, cg) = (out.shape.c / conv.groups, x.shape.c / conv.groups);
        let mut ints = Vec::new();
        let mut floats = Vec::new();
        for oy in 0..out.shape.h {
            for ox in 0..out.shape.w {
                for n in 0..out.shape.c {
                    let mut acc = 0i32;
                    conv.window.for_each_tap(x.shape, oy, ox, |tap, pixel| {
                        for c in 0..cg {
                            let value = match pixel {
                                Some(p) => v[p * x.shape.c + n / ng * cg + c],
                                None => conv.pad_value,
                            };
                            acc += w[n * weight.cols + tap * cg + c] * value;
                        }
                    });
                    match owned.view() {
                        Transform::I32 => ints.push(acc),
                        Transform::F32 { center, scale, bias } => {
                            floats.push(affine(acc as f32, center[n], scale[n], bias[n]));
                        }
                        Transform::Levels { quant, thresholds, flips } => {
                            let steps = quant.levels() - 1;
                            let t = &thresholds[n * steps..][..steps];
                            ints.push(quant.value_of_level(level(acc, t, bits::get(flips, n))));
                        }
                    }
                }
            }
        }
        if out.dtype == DType::F32 { Values::F32(floats) } else { Values::Int(ints) }
    }

    /// The constants of an output transform, complete and owned.
    pub(crate) struct OwnedTransform {
        output: DType,
        floats: [Vec<f32>; 3],
        thresholds: Vec<i32>,
        flips: Vec<u64>,
    }

    impl OwnedTransform {
        pub(crate) fn new(output: DType, params: &Params<Tensor<'_>>, n: usize) -> Self {
            let floats = |t: &Option<Tensor<'_>>, default| {
                t.as_ref().and_then(|t| t.as_f32()).map_or(alloc::vec![default; n], <[f32]>::to_vec)
            };
            OwnedTransform {
                output,
                floats: [floats(&params.center, 0.0), floats(&params.scale, 1.0), floats(&params.bias, 0.0)],
                thresholds: params
                    .thresholds
                    .as_ref()
                    .and_then(|t| t.as_i32())
                    .map_or(Vec::new(), <[i32]>::to_vec),
                flips: params
                    .flips
                    .as_ref()
                    .and_then(|t| t.as_bits())
                    .map_or(alloc::vec![0; bits::words(n)], |(_, w)| w.to_vec()),
            }
        }
        pub(crate) fn view(&self) -> Transform<'_> {
            match self.output {
                DType::Bits(quant) => {
                    Transform::Levels { quant, thresholds: &self.thresholds, flips: &self.flips }
                }
                DType::F32 => {
                    let [center, scale, bias] = &self.floats;
                    Transform::F32 { center, scale, bias }
                }
                _ => Transform::I32,
            }
        }
    }

    /// The op prepared for one machine: weights in panels, padding and thresholds in tables.
    pub struct Prepared {
        conv: BConv2d,
        input: ValueType,
        out: ValueType,
        xq: Quant,
        wq: Quant,
        kernels: &'static Kernels,
        /// Words of a lowered row, as the kernel wants it.
        k: usize,
        /// `[group][panel][weight plane][k][nr]`.
        panels: Aligned,
        /// Border class of every output row and column.
        row_class: Vec<u32>,
        col_class: Vec<u32>,
        col_classes: usize,
        /// `[class][channel]`: added to the accumulator of the kernel.
        offset: Vec<i32>,
        /// `[channel]`: four times the constant part of a product of several planes.
        quad: Vec<i64>,
        /// `[class][group][channels padded to panels]`: exclusive limits of counts, for bit output.
        limits: Vec<u32>,
        transform: OwnedTransform,
        /// Rows that are lowered at a time.
        block: usize,
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
            let gemm = &kernels.bgemm;
            let (n, ng) = (out.shape.c, out.shape.c / conv.groups);
            let cg = input.shape.c / conv.groups;
            let words = bits::words(weight.cols);
            let k = gemm.padded(words);
            let panels_per_group = ng.div_ceil(gemm.nr);
            let (pw, nr) = (wq.planes(), gemm.nr);
            let mut panels = Aligned::zeroed(conv.groups * panels_per_group * pw * k * nr);
            for channel in 0..n {
                let (g, i) = (channel / ng, channel % ng);
                for p in 0..pw {
                    let row = &rows[(channel * pw + p) * words..][..words];
                    let panel = ((g * panels_per_group + i / nr) * pw + p) * k * nr;
                    let mut run = 0;
                    for w in 0..k {
                        let word = row.get(w).copied().unwrap_or(0);
                        run = if gemm.prefix { run ^ word } else { word };
                        panels[panel + w * nr + i % nr] = run;
                    }
                }
            }

            let (row_class, row_sets) = classes(out.shape.h, conv.window.kernel[0], |o, k| {
                conv.window.row(o, k, input.shape.h).is_some()
            });
            let (col_class, col_sets) = classes(out.shape.w, conv.window.kernel[1], |o, k| {
                conv.window.col(o, k, input.shape.w).is_some()
            });
            // A padding tap is lowered as code 0; it should have contributed `pad_value`.
            let wrong_by = conv.pad_value - xq.decode(0);
            let ints = weight.to_i32().expect("checked by infer");
            let binary = xq.is_bit() && wq.is_bit();
            let constant = if binary { weight.cols as i32 } else { 0 };
            let mut offset = Vec::with_capacity(row_sets.len() * col_sets.len() * n);
            for ys in &row_sets {
                for xs in &col_sets {
                    for filter in ints.chunks(weight.cols) {
                        let mut padded = 0;
                        for (tap, w) in filter.chunks(cg).enumerate() {
                            let kw = conv.window.kernel[1];
                            if !(ys[tap / kw] && xs[tap % kw]) {
                                padded += w.iter().sum::<i32>();
                            }
                        }
                        offset.push(constant + wrong_by * padded);
                    }
                }
            }
            let quad = (0..n).map(|ch| quad_constant(xq, wq, weight.cols, ch, rows)).collect();

            let transform = OwnedTransform::new(conv.output, params, n);
            let mut limits = Vec::new();
            if let (true, DType::BIT) = (binary, conv.output) {
                let Transform::Levels { thresholds, .. } = transform.view() else { unreachable!() };
                for class in offset.chunks(n) {
                    for g in 0..conv.groups {
                        for i in 0..panels_per_group * nr {
                            // acc = offset - 2 count >= t  <=>  count < floor((offset - t) / 2) + 1
                            let limit = (i < ng).then(|| {
                                let ch = g * ng + i;
                                let room = i64::from(class[ch]) - i64::from(thresholds[ch]);
                                (room.div_euclid(2) + 1).clamp(0, i64::from(u32::MAX)) as u32
                            });
                            limits.push(limit.unwrap_or(0));
                        }
                    }
                }
            }
            // A block of lowered rows stays in half of a small L1 cache.
            let block = (16 * 1024 / 8 / (xq.planes() * k)).clamp(gemm.mr, 64) / gemm.mr * gemm.mr;
            Prepared {
                conv,
                input,
                out,
                xq,
                wq,
                kernels,
                k,
                panels,
                row_class,
                col_class,
                col_classes: col_sets.len(),
                offset,
                quad,
                limits,
                transform,
                block,
            }
        }

        /// Name of the kernel that runs.
        pub fn kernel(&self) -> &'static str {
            self.kernels.bgemm.name
        }

        /// Words of scratch memory that [`Prepared::run`] needs.
        pub fn scratch_words(&self) -> usize {
            // Lowered rows, their plane sums, and the bytes of one row.
            self.block * (self.xq.planes() * self.k + 1) + self.k * 8
        }

        /// Runs `batch` images, one after the other in `x` and `out` (see [`crate::types`]).
        pub fn run(&self, batch: usize, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
            let pixels = self.out.shape.pixels();
            let rows = batch * pixels;
            let (pa, k) = (self.xq.planes(), self.k);
            let (lowered, rest) = scratch.split_at_mut(self.block * pa * k);
            let (sums, bytes) = rest.split_at_mut(self.block);
            let sums: &mut [i64] = bytemuck::cast_slice_mut(sums);
            if matches!(self.conv.output, DType::Bits(_)) {
                out.fill(0);
            }
            let in_words = self.input.arena_words();
            for g in 0..self.conv.groups {
                for first in (0..rows).step_by(self.block) {
                    let count = self.block.min(rows - first);
                    for r in 0..count {
                        let (image, pixel) = ((first + r) / pixels, (first + r) % pixels);
                        let (oy, ox) = (pixel / self.out.shape.w, pixel % self.out.shape.w);
                        let row = &mut lowered[r * pa * k..][..pa * k];
                        let image = &x[image * in_words..][..in_words];
                        sums[r] = self.lower(image, g, oy, ox, row, bytes);
                    }
                    self.multiply(g, first, count, lowered, sums, out);
                }
            }
        }

        /// Lowers one output pixel to `[plane][k]` words. Returns the weighted plane sums that formats
        /// with an offset need.
        fn lower(
            &self,
            image: &[u64],
            g: usize,
            oy: usize,
            ox: usize,
            row: &mut [u64],
            bytes: &mut [u64],
        ) -> i64 {
            let (shape, window) = (self.input.shape, &self.conv.window);
            let cg = shape.c / self.conv.groups;
            let pa = self.xq.planes();
            row.fill(0);
            match self.input.dtype {
                DType::Bits(_) => {
                    let words = bits::words(shape.c);
                    let whole_words = cg.is_multiple_of(64);
                    window.for_each_tap(shape, oy, ox, |tap, pixel| {
                        let Some(pixel) = pixel else { return };
                        for p in 0..pa {
                            let src = &image[(pixel * pa + p) * words..][..words];
                            let dst = &mut row[p * self.k..][..self.k];
                            if whole_words {
                                let (to, from, n) = (tap * cg / 64, g * cg / 64, cg / 64);
                                dst[to..to + n].copy_from_slice(&src[from..from + n]);
                            } else {
                                bits::or_range(dst, tap * cg, src, g * cg, cg);
                            }
                        }
                    });
                }
                _ => {
                    let image: &[u8] = bytemuck::cast_slice(image);
                    let taps = window.taps() * cg;
                    bytes[..taps.div_ceil(8)].fill(0);
                    let flat: &mut [u8] = bytemuck::cast_slice_mut(bytes);
                    window.for_each_tap(shape, oy, ox, |tap, pixel| {
                        let Some(pixel) = pixel else { return };
                        let src = &image[pixel * shape.c + g * cg..][..cg];
                        flat[tap * cg..][..cg].copy_from_slice(src);
                    });
                    for (i, eight) in flat[..taps.next_multiple_of(8)].chunks_exact(8).enumerate() {
                        let planes = transpose8(eight.try_into().expect("chunks of 8"));
                        for (p, plane) in planes.into_iter().enumerate() {
                            row[p * self.k + i / 8] |= u64::from(plane) << (i % 8 * 8);
                        }
                    }
                }
            }
            let mut sum = 0;
            if self.wq.plane_offset() != 0 {
                for p in 0..pa {
                    let ones = bits::count_ones(&row[p * self.k..][..self.k]);
                    sum += i64::from(self.xq.plane_weight(p)) * i64::from(ones);
                }
            }
            if self.kernels.bgemm.prefix {
                for plane in row.chunks_exact_mut(self.k) {
                    let mut run = 0;
                    for w in plane {
                        run ^= *w;
                        *w = run;
                    }
                }
            }
            sum
        }

        /// Multiplies lowered rows `first..first + count` with the weights of group `g`.
        fn multiply(
            &self,
            g: usize,
            first: usize,
            count: usize,
            lowered: &[u64],
            sums: &[i64],
            out: &mut [u64],
        ) {
            let gemm = &self.kernels.bgemm;
            let (pa, pw, k, nr) = (self.xq.planes(), self.wq.planes(), self.k, gemm.nr);
            let n = self.out.shape.c;
            let ng = n / self.conv.groups;
            let panels = ng.div_ceil(nr);
            for panel in 0..panels {
                let b = &self.panels[(g * panels + panel) * pw * k * nr..][..pw * k * nr];
                let width = nr.min(ng - panel * nr);
                let channel = g * ng + panel * nr;
                let mut r = 0;
                while r < count {
                    let mr = if r + gemm.mr <= count { gemm.mr } else { 1 };
                    let a = &lowered[r * pa * k..];
                    if !self.limits.is_empty() {
                        let row = (self.conv.groups * panels) * nr;
                        let limits: [&[u32]; 4] = core::array::from_fn(|i| {
                            let class = if i < mr { self.class(first + r + i) } else { 0 };
                            &self.limits[class * row + (g * panels + panel) * nr..][..nr]
                        });
                        let mut masks = [0; 4];
                        gemm.bits(mr, k, a, k, b, &limits, &mut masks);
                        for (i, mask) in masks.iter().enumerate().take(mr) {
                            self.put_bits(first + r + i, channel, width, &[u64::from(*mask)], out);
                        }
                    } else {
                        let mut acc = [0i32; MAX_TILE];
                        self.accumulate(mr, a, b, channel, width, &sums[r..], &mut acc);
                        for i in 0..mr {
                            let offset = self.class(first + r + i) * n + channel;
                            let acc = &mut acc[i * nr..][..width];
                            for (acc, o) in acc.iter_mut().zip(&self.offset[offset..][..width]) {
                                *acc += o;
                            }
                            self.put(first + r + i, channel, acc, out);
                        }
                    }
                    r += mr;
                }
            }
        }

        /// Accumulators of one tile, without the border offset.
        fn accumulate(
            &self,
            mr: usize,
            a: &[u64],
            b: &[u64],
            channel: usize,
            width: usize,
            sums: &[i64],
            acc: &mut [i32; MAX_TILE],
        ) {
            let gemm = &self.kernels.bgemm;
            let (pa, k, nr) = (self.xq.planes(), self.k, gemm.nr);
            let mut counts = [0u32; MAX_TILE];
            if self.xq.is_bit() && self.wq.is_bit() {
                gemm.counts(mr, k, a, k, b, &mut counts);
                for (acc, count) in acc.iter_mut().zip(&counts[..mr * nr]) {
                    *acc = -2 * *count as i32;
                }
                return;
            }
            let mut quad = [0i64; MAX_TILE];
            for (pw, b) in b.chunks_exact(k * nr).enumerate() {
                for pa_i in 0..pa {
                    gemm.counts(mr, k, &a[pa_i * k..], pa * k, b, &mut counts);
                    let coefficient =
                        -2 * i64::from(self.wq.plane_weight(pw)) * i64::from(self.xq.plane_weight(pa_i));
                    for (q, count) in quad.iter_mut().zip(&counts[..mr * nr]) {
                        *q += coefficient * i64::from(*count);
                    }
                }
            }
            let weight_offset = i64::from(self.wq.plane_offset());
            for i in 0..mr {
                for j in 0..width {
                    let whole = quad[i * nr + j] + self.quad[channel + j] + 2 * weight_offset * sums[i];
                    acc[i * nr + j] = (whole >> 2) as i32;
                }
            }
        }

        #[inline]
        fn class(&self, row: usize) -> usize {
            let pixel = row % self.out.shape.pixels();
            let (y, x) = (pixel / self.out.shape.w, pixel % self.out.shape.w);
            self.row_class[y] as usize * self.col_classes + self.col_class[x] as usize
        }

        /// Stores the accumulators of neighbouring channels of one output pixel.
        fn put(&self, row: usize, channel: usize, acc: &[i32], out: &mut [u64]) {
            let pixels = self.out.shape.pixels();
            let (image, pixel) = (row / pixels, row % pixels);
            let image = image * self.out.arena_words();
            let at = image * 2 + pixel * self.out.shape.c + channel;
            match self.transform.view() {
                Transform::I32 => {
                    let out: &mut [i32] = bytemuck::cast_slice_mut(out);
                    out[at..at + acc.len()].copy_from_slice(acc);
                }
                Transform::F32 { center, scale, bias } => {
                    let out: &mut [f32] = bytemuck::cast_slice_mut(out);
                    for (i, (o, acc)) in out[at..at + acc.len()].iter_mut().zip(acc).enumerate() {
                        let c = channel + i;
                        *o = affine(*acc as f32, center[c], scale[c], bias[c]);
                    }
                }
                Transform::Levels { quant, thresholds, flips } => {
                    let steps = quant.levels() - 1;
                    let mut masks = [0u64; 8];
                    for (i, acc) in acc.iter().enumerate() {
                        let c = channel + i;
                        let t = &thresholds[c * steps..][..steps];
                        let code = quant.code_of_level(level(*acc, t, bits::get(flips, c)));
                        for (p, mask) in masks.iter_mut().enumerate().take(quant.planes()) {
                            *mask |= u64::from(code >> p & 1) << i;
                        }
                    }
                    // `put_bits` flips single bits; levels have been flipped above.
                    let flipped = if quant.planes() == 1 { bits::read(flips, channel, acc.len()) } else { 0 };
                    masks[0] ^= flipped;
                    self.put_bits(row, channel, acc.len(), &masks[..quant.planes()], out);
                }
            }
        }

        /// Stores the bits of neighbouring channels of one output pixel, one mask per plane. The masks
        /// of a single plane say `acc >= threshold`; the flips are applied here.
        #[inline]
        fn put_bits(&self, row: usize, channel: usize, width: usize, masks: &[u64], out: &mut [u64]) {
            let pixels = self.out.shape.pixels();
            let words = bits::words(self.out.shape.c);
            let planes = masks.len();
            let at = row / pixels * self.out.arena_words() + row % pixels * planes * words;
            for (p, mask) in masks.iter().enumerate() {
                let flips = if planes == 1 { bits::read(&self.transform.flips, channel, width) } else { 0 };
                let mask = (mask ^ flips) & bits::low_mask(width);
                bits::or(&mut out[at + p * words..][..words], channel, width, mask);
            }
        }
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

    /// Groups output positions by the set of taps that are inside: class of each, and the sets.
    fn classes(
        outputs: usize,
        taps: usize,
        inside: impl Fn(usize, usize) -> bool,
    ) -> (Vec<u32>, Vec<Vec<bool>>) {
        let mut sets: Vec<Vec<bool>> = Vec::new();
        let class = (0..outputs)
            .map(|o| {
                let set: Vec<bool> = (0..taps).map(|t| inside(o, t)).collect();
                let known = sets.iter().position(|s| *s == set);
                known.unwrap_or_else(|| {
                    sets.push(set);
                    sets.len() - 1
                }) as u32
            })
            .collect();
        (class, sets)
    }

    /// Transposes 8 bytes: bit `i` of result `p` is bit `p` of byte `i`.
    fn transpose8(bytes: [u8; 8]) -> [u8; 8] {
        let mut x = u64::from_le_bytes(bytes);
        for (mask, shift) in
            [(0x00AA_00AA_00AA_00AA, 7), (0x0000_CCCC_0000_CCCC, 14), (0x0000_0000_F0F0_F0F0, 28)]
        {
            let t = (x ^ (x >> shift)) & mask;
            x ^= t ^ (t << shift);
        }
        x.to_le_bytes()
    }

    /// Random constants for an output format.
    pub(crate) fn random_transform(
        rng: &mut Rng,
        params: &mut Params<Tensor<'static>>,
        output: DType,
        n: usize,
        spread: i32,
    ) {
        match output {
            DType::F32 => {
                params.center = Some(Tensor::f32(rng.floats(n, -4.0, 4.0)));
                params.scale = Some(Tensor::f32(rng.floats(n, -1.0, 1.0)));
                params.bias = Some(Tensor::f32(rng.floats(n, -4.0, 4.0)));
            }
            DType::Bits(q) => {
                params.thresholds = Some(rng.thresholds(n, q.levels() - 1, spread));
                params.flips = Some(rng.flags(n));
            }
            _ => {}
        }
    }

    /// Shapes, formats, paddings and borders that must all equal the reference.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut rng = Rng::new(1);
        let mut add = |name: &str, x: ValueType, n: usize, conv: BConv2d, wq: Quant| {
            let mut case = Case::new(name, Op::BConv2d(conv), &[x]);
            let k = conv.window.taps() * x.shape.c / conv.groups;
            case.params.weight = Some(rng.weights(n, k, wq));
            random_transform(&mut rng, &mut case.params, conv.output, n, 12);
            cases.push(case);
        };
        let conv = |window, pad_value, output| BConv2d { window, groups: 1, pad_value, output };
        let bit = |h, w, c| map(h, w, c, DType::BIT);
        for c in [1, 3, 63, 64, 65, 128, 192, 257] {
            for output in [DType::I32, DType::BIT, DType::F32] {
                let name = format!("{c} channels to {output}");
                add(&name, bit(5, 6, c), 19, conv(Window::square(3, 1, 1), 0, output), Quant::BIT);
            }
        }
        for (kernel, stride, pad) in
            [(1, 1, 0), (1, 2, 0), (2, 2, 1), (3, 2, 1), (3, 3, 2), (5, 1, 2), (7, 2, 3), (4, 1, 3)]
        {
            for pad_value in [0, 1, -1] {
                let name = format!("kernel {kernel} stride {stride} pad {pad} of {pad_value}");
                let window = Window::square(kernel, stride, pad);
                for output in [DType::I32, DType::BIT] {
                    add(&name, bit(9, 7, 40), 33, conv(window, pad_value, output), Quant::BIT);
                }
            }
        }
        let odd = Window { kernel: [3, 2], stride: [2, 1], dilation: [2, 3], pad: [1, 0, 3, 2] };
        add("dilated, uneven", bit(11, 9, 70), 21, conv(odd, 0, DType::BIT), Quant::BIT);
        add("long rows", bit(2, 2, 5000), 5, conv(Window::square(2, 1, 0), 0, DType::I32), Quant::BIT);
        add(
            "one pixel, one filter",
            bit(1, 1, 1),
            1,
            conv(Window::square(1, 1, 0), 0, DType::BIT),
            Quant::BIT,
        );
        for (groups, c, n) in [(2, 128, 32), (3, 15, 9), (4, 256, 64), (8, 8, 8)] {
            for output in [DType::BIT, DType::I32] {
                let grouped = BConv2d { groups, ..conv(Window::square(3, 1, 1), 0, output) };
                add(&format!("{groups} groups of {c}"), bit(4, 5, c), n, grouped, Quant::BIT);
            }
        }
        for wq in formats() {
            for xq in formats() {
                let output = [DType::I32, DType::BIT, DType::Bits(Quant::TERNARY)][xq.planes() % 3];
                let name = format!("w {} a {}", DType::Bits(wq), DType::Bits(xq));
                let x = map(4, 5, 37, DType::Bits(xq));
                add(&name, x, 18, conv(Window::square(3, 1, 1), 0, output), wq);
            }
            for bytes in [DType::U8, DType::I8] {
                let name = format!("w {} on {bytes}", DType::Bits(wq));
                let c = conv(Window::square(3, 1, 1), [-1, 0, 1][wq.planes() % 3], DType::I32);
                add(&name, map(6, 5, 3, bytes), 18, c, wq);
            }
        }
        for q in [
            Quant::new(2, Encoding::Unsigned),
            Quant::new(2, Encoding::Bipolar),
            Quant::new(3, Encoding::Signed),
            Quant::TERNARY,
        ] {
            let name = format!("to {}", DType::Bits(q));
            add(&name, bit(4, 4, 66), 70, conv(Window::square(3, 1, 1), 1, DType::Bits(q)), Quant::BIT);
        }
        cases
    }
}
