//! Float convolution, depthwise included.
//!
//! ```text
//! out[y][x][n] = (sum over taps t and channels c of  w[n][t][c] * x[pixel(y, x, t)][c]) + bias[n]
//! ```
//! The sum is one chain of fused multiply-adds that starts at 0 and runs over `(ky, kx, c)` in order; a tap in the
//! padding reads `pad_value`. Group `g` of the output channels reads only the channels of group `g`.
//! Weights may be stored bit-packed; they are floats once prepared.
//!
//! **Fast path.** im2col and `kernels::fgemm`; a depthwise convolution multiplies and adds whole
//! pixels, tap by tap.

use super::Window;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Conv2d {
    /// The sliding window.
    #[cfg_attr(feature = "serde", serde(flatten))]
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
    use crate::kernels::{Aligned, Kernels, MAX_COLUMNS};
    use crate::model::{Error, Params, Tensor, per_channel};
    use crate::ops::{MAX_BLOCK, Op, rows_at_a_time};
    use crate::reference::Values;
    use crate::types::{DType, Quant, ValueType};
    use alloc::vec::Vec;
    use alloc::{format, vec};

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

    /// The op prepared for one machine.
    pub struct Prepared {
        conv: Conv2d,
        input: ValueType,
        out: ValueType,
        kernels: &'static Kernels,
        /// Elements of a filter.
        k: usize,
        /// `[group][panel][k][nr]`, or `[tap][channel]` for depthwise.
        panels: Aligned,
        bias: Vec<f32>,
        /// Rows that are lowered at a time.
        block: usize,
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
            let gemm = &kernels.fgemm;
            let ng = n / conv.groups;
            let panels_per_group = ng.div_ceil(gemm.nr);
            let depthwise = conv.groups == n && conv.groups == input.shape.c;
            let len = if depthwise { n * k } else { conv.groups * panels_per_group * k * gemm.nr };
            let mut panels = Aligned::zeroed(len.div_ceil(2));
            let packed = panels.as_f32_mut();
            for ch in 0..n {
                let (g, i) = (ch / ng, ch % ng);
                let panel = (g * panels_per_group + i / gemm.nr) * k * gemm.nr + i % gemm.nr;
                for (kk, w) in w[ch * k..][..k].iter().enumerate() {
                    let at = if depthwise { kk * n + ch } else { panel + kk * gemm.nr };
                    packed[at] = *w;
                }
            }
            let bias = params.bias.as_ref().and_then(|b| b.as_f32());
            Prepared {
                conv,
                input,
                out,
                kernels,
                k,
                panels,
                bias: bias.map_or(vec![0.0; n], <[f32]>::to_vec),
                block: rows_at_a_time(k * 4, gemm.mr),
            }
        }

        /// Name of the kernel that runs.
        pub fn kernel(&self) -> &'static str {
            self.kernels.fgemm.name
        }

        fn is_depthwise(&self) -> bool {
            self.conv.groups == self.out.shape.c && self.conv.groups == self.input.shape.c
        }

        /// Words of scratch memory that [`Prepared::run`] needs.
        pub fn scratch_words(&self) -> usize {
            let floats = if self.is_depthwise() { self.input.shape.c } else { self.block * self.k };
            floats.div_ceil(2)
        }

        /// Runs `batch` images, one after the other in `x` and `out` (see [`crate::types`]).
        pub fn run(&self, batch: usize, x: &[u64], out: &mut [u64], scratch: &mut [u64]) {
            let x: &[f32] = bytemuck::cast_slice(x);
            let out: &mut [f32] = bytemuck::cast_slice_mut(out);
            let scratch: &mut [f32] = bytemuck::cast_slice_mut(scratch);
            let (from, to) = (self.input.arena_words() * 2, self.out.arena_words() * 2);
            if self.is_depthwise() {
                for b in 0..batch {
                    self.depthwise(&x[b * from..][..from], &mut out[b * to..][..to], scratch);
                }
                return;
            }
            let gemm = &self.kernels.fgemm;
            let pixels = self.out.shape.pixels();
            let (rows, n) = (batch * pixels, self.out.shape.c);
            let ng = n / self.conv.groups;
            let panels = ng.div_ceil(gemm.nr);
            let weights = self.panels.as_f32();
            for g in 0..self.conv.groups {
                for first in (0..rows).step_by(self.block) {
                    let count = self.block.min(rows - first);
                    for r in 0..count {
                        let (image, pixel) = ((first + r) / pixels, (first + r) % pixels);
                        let row = &mut scratch[r * self.k..][..self.k];
                        self.lower(&x[image * from..][..from], g, pixel, row);
                    }
                    for panel in 0..panels {
                        let size = self.k * gemm.nr;
                        let b = &weights[(g * panels + panel) * size..][..size];
                        let width = gemm.nr.min(ng - panel * gemm.nr);
                        let channel = g * ng + panel * gemm.nr;
                        let mut sums = [0f32; MAX_BLOCK * MAX_COLUMNS];
                        gemm.product(count, self.k, scratch, self.k, b, &mut sums);
                        let bias = &self.bias[channel..][..width];
                        for (r, sums) in sums.chunks_exact(gemm.nr).enumerate().take(count) {
                            let (image, pixel) = ((first + r) / pixels, (first + r) % pixels);
                            let out = &mut out[image * to + pixel * n + channel..][..width];
                            for j in 0..width {
                                out[j] = sums[j] + bias[j];
                            }
                        }
                    }
                }
            }
        }

        fn lower(&self, image: &[f32], g: usize, pixel: usize, row: &mut [f32]) {
            let (shape, out) = (self.input.shape, self.out.shape);
            let cg = shape.c / self.conv.groups;
            if self.conv.window.pad != [0; 4] {
                row.fill(self.conv.pad_value);
            }
            self.conv.window.for_each_run(shape, pixel / out.w, pixel % out.w, |tap, taps, pixel| {
                if cg == shape.c {
                    row[tap * cg..][..taps * cg].copy_from_slice(&image[pixel * cg..][..taps * cg]);
                } else {
                    for i in 0..taps {
                        let from = &image[(pixel + i) * shape.c + g * cg..][..cg];
                        row[(tap + i) * cg..][..cg].copy_from_slice(from);
                    }
                }
            });
        }

        fn depthwise(&self, x: &[f32], out: &mut [f32], padding: &mut [f32]) {
            let (shape, c) = (self.input.shape, self.input.shape.c);
            let padding = &mut padding[..c];
            padding.fill(self.conv.pad_value);
            let weights = self.panels.as_f32();
            let map = self.out.shape;
            for (i, out) in out.chunks_exact_mut(c).take(map.pixels()).enumerate() {
                out.fill(0.0);
                self.conv.window.for_each_tap(shape, i / map.w, i % map.w, |tap, pixel| {
                    let x = pixel.map_or(&*padding, |p| &x[p * c..][..c]);
                    self.kernels.fgemm.madd(x, &weights[tap * c..][..c], out);
                });
                for (o, b) in out.iter_mut().zip(&self.bias) {
                    *o += b;
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
