//! Float convolution, depthwise included.
//!
//! ```text
//! out[y][x][n] = (sum over taps t and channels c of  w[n][t][c] * x[pixel(y, x, t)][c]) + bias[n]
//! ```
//! The sum is one chain of fused multiply-adds that starts at 0 and runs over `(ky, kx, c)` in order; a tap in the
//! padding reads `pad_value`. Group `g` of the output channels reads only the channels of group `g`.
//! Weights may be stored bit-packed; they are floats once prepared.
//!
//! **Fast path.** `kernels::fgemm` reads the taps where they lie, so nothing is lowered. Where there is padding, a band
//! of rows is first copied with it, so that no tap is a special case. Output pixels of a row are rows of the product.

use super::Window;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Conv2d {
    /// The sliding window.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// What a tap in the padding reads.
    pub pad_value: f32,
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::*;
    use crate::cases::{Case, Rng, map};
    use crate::kernels::{Aligned, Kernels, Rows, Target};
    use crate::model::{Error, Params, Tensor, per_channel};
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::team::{Cut, Piece};
    use crate::types::{DType, Quant, Shape, ValueType};
    use alloc::format;
    use alloc::vec::Vec;
    use core::ops::Range;

    /// Type of the output.
    pub fn infer(conv: &Conv2d, x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        crate::ops::floats_only(x)?;
        if !conv.pad_value.is_finite() {
            return Err("has a padding value that is not finite".into());
        }
        let out = conv.window.filter(x.shape, conv.groups, params)?;
        per_channel("bias", params.bias.as_ref(), out)?;
        Ok(ValueType::new(out, DType::F32))
    }

    /// The specification.
    pub fn reference(
        conv: &Conv2d,
        x: ValueType,
        v: &Values,
        params: &Params<Tensor<'_>>,
        out: ValueType,
    ) -> Values {
        let weight = params.weight.as_ref().expect("checked by infer");
        let (v, w) = (v.f32(), weight.to_f32());
        let (ng, cg) = (out.shape.c / conv.groups, x.shape.c / conv.groups);
        let mut all = Vec::new();
        for oy in 0..out.shape.h {
            for ox in 0..out.shape.w {
                for n in 0..out.shape.c {
                    let mut acc = 0f32;
                    conv.window.for_each_tap(x.shape, oy, ox, |tap, pixel| {
                        for c in 0..cg {
                            let value = match pixel {
                                Some(p) => v[p * x.shape.c + n / ng * cg + c],
                                None => conv.pad_value,
                            };
                            acc = libm::fmaf(value, w[n * weight.cols + tap * cg + c], acc);
                        }
                    });
                    let bias = params.bias.as_ref().and_then(|b| b.as_f32()).map_or(0.0, |b| b[n]);
                    all.push(acc + bias);
                }
            }
        }
        Values::F32(all)
    }

    /// Floats of a band of rows that stay in a small L2 cache beside a panel of weights.
    const BAND: usize = 32 * 1024;

    /// The op prepared for one machine.
    pub struct Prepared {
        conv: Conv2d,
        input: ValueType,
        out: ValueType,
        kernels: &'static Kernels,
        /// `[group][panel][k][nr]`, or `[tap][channel]` for depthwise.
        panels: Aligned,
        /// `[group][panel][nr]`, or `[channel]` for depthwise.
        bias: Vec<f32>,
        depthwise: bool,
        /// Where the runs of taps of a window start, from its first float.
        taps: Vec<usize>,
        /// Floats of such a run.
        run: usize,
        /// Floats of a row of the map with its padding.
        line: usize,
    }

    impl Prepared {
        /// Prepares an op that `infer` has accepted.
        pub fn new(
            conv: Conv2d,
            input: ValueType,
            out: ValueType,
            params: &Params<Tensor<'_>>,
            kernels: &'static Kernels,
        ) -> Self {
            let weight = params.weight.as_ref().expect("checked by infer");
            let (w, k, n) = (weight.to_f32(), weight.cols, out.shape.c);
            let bias = params.bias.as_ref().and_then(|b| b.as_f32());
            let depthwise = conv.groups == n && conv.groups == input.shape.c;
            // A depthwise convolution is one panel of all channels.
            let (groups, nr) = if depthwise { (1, n) } else { (conv.groups, kernels.fgemm.nr) };
            let ng = n / groups;
            let panels_per_group = ng.div_ceil(nr);
            let columns = groups * panels_per_group * nr;
            let mut panels = Aligned::zeroed((columns * k).div_ceil(2));
            let packed = panels.as_f32_mut();
            let mut biases = alloc::vec![0.0; columns];
            for ch in 0..n {
                let (g, i) = (ch / ng, ch % ng);
                let (panel, column) = (g * panels_per_group + i / nr, i % nr);
                for (kk, w) in w[ch * k..][..k].iter().enumerate() {
                    packed[(panel * k + kk) * nr + column] = *w;
                }
                biases[panel * nr + column] = bias.map_or(0.0, |b| b[ch]);
            }
            let (window, c) = (&conv.window, input.shape.c);
            let line = (input.shape.w + window.pad[1] + window.pad[3]) * c;
            // What wraps would look near; `Executor::new` refuses the largest.
            let row = |ky: usize| (ky * window.dilation[0]).saturating_mul(line);
            let [kh, kw] = window.kernel;
            // Neighbouring taps whose channels all count are one run.
            let (run, taps) = if groups == 1 && !depthwise && (window.dilation[1] == 1 || kw == 1) {
                (kw * c, (0..kh).map(row).collect())
            } else {
                let tap =
                    |t: usize| row(t / kw).saturating_add((t % kw * window.dilation[1]).saturating_mul(c));
                (if depthwise { c } else { c / groups }, (0..kh * kw).map(tap).collect())
            };
            Prepared { conv, input, out, kernels, panels, bias: biases, depthwise, taps, run, line }
        }

        /// Name of the kernel that runs.
        pub fn kernel(&self) -> &'static str {
            self.kernels.fgemm.name
        }

        fn is_padded(&self) -> bool {
            self.conv.window.pad != [0; 4]
        }

        /// Rows of the map, padding included, that `rows` rows of the output read.
        fn rows_read(&self, rows: usize) -> usize {
            let window = &self.conv.window;
            let above = window.dilation[0].saturating_mul(window.kernel[0] - 1);
            (rows - 1).saturating_mul(window.stride[0]).saturating_add(above).saturating_add(1)
        }

        /// Rows of the output that are computed from one band of the map.
        fn band(&self) -> usize {
            let more = (BAND / self.line).saturating_sub(self.rows_read(1)) / self.conv.window.stride[0];
            (1 + more).min(self.out.shape.h)
        }

        /// Words of scratch memory that [`Prepared::run`] needs.
        pub fn scratch_words(&self) -> usize {
            if self.is_padded() {
                self.rows_read(self.band()).saturating_mul(self.line).div_ceil(2)
            } else {
                0
            }
        }

        /// Runs `batch` images, one after the other in `x` and `out` (see [`crate::types`]).
        pub fn run(&self, batch: usize, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
            let (from, to) = (self.input.arena_words(), self.out.arena_words());
            for b in 0..batch {
                self.rows(0..self.out.shape.h, &x[b * from..][..from], &mut out[b * to..][..to], scratch);
            }
        }

        /// How one image can be cut into pieces.
        pub(crate) fn cut(&self) -> Cut {
            Cut { pixels: self.out.shape.w, channels: self.conv.groups == 1 && !self.depthwise }
        }

        /// Runs a piece of one image; `out` begins with it.
        pub(crate) fn run_piece(&self, piece: &Piece, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
            match piece {
                Piece::Pixels(p) => {
                    let w = self.out.shape.w;
                    self.rows(p.start / w..p.end / w, x, out, scratch);
                }
                Piece::Channels(channels) => {
                    let source = bytemuck::cast_slice(x);
                    self.convolve(source, 1, channels, channels.len(), bytemuck::cast_slice_mut(out));
                }
            }
        }

        /// Computes rows of the output of one image.
        fn rows(&self, rows: Range<usize>, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
            let x: &[f32] = bytemuck::cast_slice(x);
            let out: &mut [f32] = bytemuck::cast_slice_mut(out);
            let scratch: &mut [f32] = bytemuck::cast_slice_mut(scratch);
            let Shape { w, c, .. } = self.out.shape;
            for first in rows.clone().step_by(self.band()) {
                let count = self.band().min(rows.end - first);
                let top = first * self.conv.window.stride[0];
                let source = if self.is_padded() {
                    self.pad(x, top, &mut scratch[..self.rows_read(count) * self.line])
                } else {
                    &x[top * self.line..]
                };
                let out = &mut out[(first - rows.start) * w * c..][..count * w * c];
                self.convolve(source, count, &(0..c), c, out);
            }
        }

        /// Copies the rows of the padded map that start at `top` and fill `band`.
        fn pad<'s>(&self, x: &[f32], top: usize, band: &'s mut [f32]) -> &'s [f32] {
            let Shape { h, w, c } = self.input.shape;
            let [above, left, ..] = self.conv.window.pad;
            for (y, line) in (top..).zip(band.chunks_exact_mut(self.line)) {
                match y.checked_sub(above).filter(|y| *y < h) {
                    Some(y) => {
                        line[..left * c].fill(self.conv.pad_value);
                        line[left * c..][..w * c].copy_from_slice(&x[y * w * c..][..w * c]);
                        line[(left + w) * c..].fill(self.conv.pad_value);
                    }
                    None => line.fill(self.conv.pad_value),
                }
            }
            band
        }

        /// Computes some channels of `rows` rows of the output from the rows of the map that they read; pixels of the
        /// output are `n` floats apart.
        fn convolve(&self, source: &[f32], rows: usize, channels: &Range<usize>, n: usize, out: &mut [f32]) {
            let gemm = &self.kernels.fgemm;
            let stride = self.conv.window.stride;
            let pixel = stride[1] * self.input.shape.c;
            // Where the next row of the output reads on where the last one ended, they are one.
            let mut width = self.out.shape.w;
            let step = stride[0] * self.line;
            let joined = width * pixel == step;
            if joined {
                width *= rows;
            }
            let weights = self.panels.as_f32();
            let lines = || (0..rows * self.out.shape.w / width).map(|y| (y * step, y * width * n));
            let lines_of = |at: usize| Rows {
                a: &source[at..],
                count: width,
                stride: pixel,
                taps: &self.taps,
                run: self.run,
            };
            if self.depthwise {
                for (from, to) in lines() {
                    let target = Target { out: &mut out[to..], stride: n, width: n };
                    gemm.depthwise(lines_of(from), weights, &self.bias, target);
                }
                return;
            }
            let (groups, k) = (self.conv.groups, self.taps.len() * self.run);
            let ng = self.out.shape.c / groups;
            let panels = weights.chunks_exact(k * gemm.nr).zip(self.bias.chunks_exact(gemm.nr));
            for (panel, (b, bias)) in panels.enumerate() {
                let (g, i) = (panel / ng.div_ceil(gemm.nr), panel % ng.div_ceil(gemm.nr) * gemm.nr);
                if !channels.contains(&(g * ng + i)) {
                    continue;
                }
                for (from, to) in lines() {
                    let out = &mut out[to + g * ng + i - channels.start..];
                    let target = Target { out, stride: n, width: gemm.nr.min(ng - i) };
                    gemm.multiply(lines_of(from + g * self.run), b, Some(bias), target);
                }
            }
        }
    }

    /// Shapes, groups, paddings.
    pub fn cases() -> Vec<Case> {
        let mut rng = Rng::new(8);
        let mut cases = Vec::new();
        for (kernel, stride, pad, c, n, groups) in [
            (3, 1, 1, 3, 40, 1),
            (5, 1, 0, 1, 64, 1),
            (7, 2, 3, 3, 33, 1),
            (1, 1, 0, 17, 5, 1),
            (3, 2, 1, 6, 4, 2),
            (3, 1, 1, 37, 37, 37),
            (3, 1, 1, 4, 8, 4),
        ] {
            for (pad_value, bias, packed) in [(0.0, true, false), (-1.0, false, true)] {
                let conv = Conv2d { window: Window::square(kernel, stride, pad), groups, pad_value };
                let name = format!("{kernel}x{kernel}/{stride} pad {pad} {c} to {n} in {groups}");
                let mut case = Case::new(&name, Op::Conv2d(conv), &[map(9, 8, c, DType::F32)]);
                let k = kernel * kernel * c / groups;
                case.params.weight = Some(if packed {
                    rng.weights(n, k, Quant::BIT)
                } else {
                    Tensor::f32_matrix(n, k, rng.floats(n * k, -1.0, 1.0))
                });
                case.params.bias = bias.then(|| Tensor::f32(rng.floats(n, -1.0, 1.0)));
                cases.push(case);
            }
        }
        cases
    }
}
