//! im2col: one output pixel becomes a row of bits (or floats) that a kernel multiplies.

use super::prepared::{Prepared, Product};
use crate::bits;
use crate::types::DType;

impl Prepared {
    /// Lowers one output pixel to row `r`. Returns the weighted plane sums that formats with an offset need.
    pub(super) fn lower(
        &self,
        image: &[u64],
        g: usize,
        oy: usize,
        ox: usize,
        r: usize,
        lowered: &mut [u64],
        bytes: &mut [u64],
    ) -> i32 {
        if self.product == Product::Float {
            let row = &mut bytemuck::cast_slice_mut::<u64, f32>(lowered)[r * self.k..][..self.k];
            match self.input.dtype {
                DType::I8 => {
                    let widen = |v: i8| f32::from(v);
                    self.lower_floats(bytemuck::cast_slice(image), widen, g, oy, ox, row);
                }
                _ => {
                    let widen = |v: u8| f32::from(v);
                    self.lower_floats(bytemuck::cast_slice(image), widen, g, oy, ox, row);
                }
            }
            return 0;
        }
        let pa = self.xq.planes();
        let row = &mut lowered[r * pa * self.k..][..pa * self.k];
        if self.whole_pixels() {
            if pa == 1 {
                self.lower_pixels::<true>(image, oy, ox, row);
            } else {
                self.lower_pixels::<false>(image, oy, ox, row);
            }
            return 0;
        }
        row.fill(0);
        match self.input.dtype {
            DType::Bits(_) => self.lower_bits(image, g, oy, ox, row),
            _ => self.lower_bytes(image, g, oy, ox, row, bytes),
        }
        let mut sum = 0;
        if self.wq.plane_offset() != 0 {
            for p in 0..pa {
                let ones = bits::count_ones(&row[p * self.k..][..self.k]);
                sum += self.xq.plane_weight(p) * ones as i32;
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

    /// Whether pixels are whole words that are all needed, and no sums are.
    fn whole_pixels(&self) -> bool {
        let whole = matches!(self.input.dtype, DType::Bits(_)) && self.input.shape.c.is_multiple_of(64);
        whole && self.conv.groups == 1 && self.wq.plane_offset() == 0
    }

    /// Copies runs of pixels, and makes the prefix on the way. `SINGLE`: the map has one plane, known when compiling.
    fn lower_pixels<const SINGLE: bool>(&self, image: &[u64], oy: usize, ox: usize, row: &mut [u64]) {
        let (words, pa) = (self.input.shape.c / 64, if SINGLE { 1 } else { self.xq.planes() });
        let prefix = self.kernels.bgemm.prefix;
        for (p, row) in row.chunks_exact_mut(self.k).enumerate() {
            let (mut done, mut run) = (0, 0);
            self.conv.window.for_each_run(self.input.shape, oy, ox, |tap, taps, pixel| {
                row[done..tap * words].fill(run);
                // A single plane of neighbouring pixels is one run of words.
                let (pieces, n) = if SINGLE { (1, taps * words) } else { (taps, words) };
                for i in 0..pieces {
                    let src = &image[((pixel + i) * pa + p) * words..][..n];
                    let dst = &mut row[(tap + i) * words..][..n];
                    if prefix {
                        for (d, s) in dst.iter_mut().zip(src) {
                            run ^= s;
                            *d = run;
                        }
                    } else {
                        dst.copy_from_slice(src);
                    }
                }
                done = (tap + taps) * words;
            });
            row[done..].fill(run);
        }
    }

    fn lower_bits(&self, image: &[u64], g: usize, oy: usize, ox: usize, row: &mut [u64]) {
        let (shape, pa) = (self.input.shape, self.xq.planes());
        let (words, cg) = (bits::words(shape.c), shape.c / self.conv.groups);
        self.conv.window.for_each_run(shape, oy, ox, |tap, taps, pixel| {
            for i in 0..taps {
                for p in 0..pa {
                    let src = &image[((pixel + i) * pa + p) * words..][..words];
                    let dst = &mut row[p * self.k..][..self.k];
                    bits::or_range(dst, (tap + i) * cg, src, g * cg, cg);
                }
            }
        });
    }

    fn lower_bytes(&self, image: &[u64], g: usize, oy: usize, ox: usize, row: &mut [u64], bytes: &mut [u64]) {
        let (shape, cg) = (self.input.shape, self.input.shape.c / self.conv.groups);
        let image: &[u8] = bytemuck::cast_slice(image);
        let taps = self.conv.window.taps() * cg;
        bytes[..taps.div_ceil(8)].fill(0);
        let flat: &mut [u8] = bytemuck::cast_slice_mut(bytes);
        self.conv.window.for_each_run(shape, oy, ox, |tap, taps, pixel| {
            for i in 0..taps {
                let from = &image[(pixel + i) * shape.c + g * cg..][..cg];
                flat[(tap + i) * cg..][..cg].copy_from_slice(from);
            }
        });
        for (i, eight) in flat[..taps.next_multiple_of(8)].chunks_exact(8).enumerate() {
            let planes = transpose8(eight.try_into().expect("chunks of 8"));
            for (p, plane) in planes.into_iter().enumerate() {
                row[p * self.k + i / 8] |= u64::from(plane) << (i % 8 * 8);
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
