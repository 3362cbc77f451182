//! Largest value or mean of a window.
//!
//! The gradient of a maximum goes to its first largest tap; that of a mean goes to all taps alike. Padding never counts.

use super::host::{self, BackwardPass, HostOp, Numbers};
use burn::tensor::Tensor;
use burn::tensor::module::{adaptive_avg_pool2d, avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use onebit::core::kernels::{self, Pass};
use onebit::core::ops::{Pool2d, PoolKind};
use onebit::core::types::Shape;
use rayon::prelude::*;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct PoolOp {
    pool: Pool2d,
    input: Shape,
    output: Shape,
    batch: usize,
}

impl PoolOp {
    /// The input pixels of the window of output pixel `o`.
    fn window(&self, o: usize, pixels: &mut Vec<usize>) {
        pixels.clear();
        let (oy, ox) = (o / self.output.w, o % self.output.w);
        self.pool.window.for_each_tap(self.input, oy, ox, |_, pixel| pixels.extend(pixel));
    }

    /// Largest numbers of one picture, and where they are if `places` is wanted.
    #[inline(always)]
    fn max(&self, x: &[f32], y: &mut [f32], places: &mut [u32]) {
        let c = self.input.c;
        let mut pixels = Vec::new();
        for (o, y) in y.chunks_exact_mut(c).enumerate() {
            self.window(o, &mut pixels);
            y.copy_from_slice(&x[pixels[0] * c..][..c]);
            if places.is_empty() {
                for p in &pixels[1..] {
                    let x = &x[p * c..][..c];
                    for i in 0..c {
                        y[i] = if x[i] > y[i] { x[i] } else { y[i] };
                    }
                }
                continue;
            }
            let place = &mut places[o * c..][..c];
            place.fill(pixels[0] as u32);
            for p in &pixels[1..] {
                let x = &x[p * c..][..c];
                for i in 0..c {
                    let larger = x[i] > y[i];
                    place[i] = if larger { *p as u32 } else { place[i] };
                    y[i] = if larger { x[i] } else { y[i] };
                }
            }
        }
    }

    #[inline(always)]
    fn mean(&self, x: &[f32], y: &mut [f32]) {
        let c = self.input.c;
        let mut pixels = Vec::new();
        for (o, y) in y.chunks_exact_mut(c).enumerate() {
            self.window(o, &mut pixels);
            y.copy_from_slice(&x[pixels[0] * c..][..c]);
            for p in &pixels[1..] {
                let x = &x[p * c..][..c];
                for i in 0..c {
                    y[i] += x[i];
                }
            }
            y.iter_mut().for_each(|y| *y /= pixels.len() as f32);
        }
    }

    /// Adds to the gradient of one picture; without `places`, that of means.
    #[inline(always)]
    fn gradient(&self, dy: &[f32], places: &[u32], dx: &mut [f32]) {
        let c = self.input.c;
        let mut pixels = Vec::new();
        for (o, dy) in dy.chunks_exact(c).enumerate() {
            self.window(o, &mut pixels);
            for p in &pixels {
                let dx = &mut dx[p * c..][..c];
                if places.is_empty() {
                    for i in 0..c {
                        dx[i] += dy[i] / pixels.len() as f32;
                    }
                    continue;
                }
                let place = &places[o * c..][..c];
                for i in 0..c {
                    dx[i] += if place[i] == *p as u32 { dy[i] } else { 0.0 };
                }
            }
        }
    }
}

/// The work on one picture, as a pass; closures would be compiled on their own, for any CPU.
struct Picture<'a> {
    op: &'a PoolOp,
    work: Work<'a>,
}

enum Work<'a> {
    Max { x: &'a [f32], y: &'a mut [f32], places: &'a mut [u32] },
    Mean { x: &'a [f32], y: &'a mut [f32] },
    Gradient { dy: &'a [f32], places: &'a [u32], dx: &'a mut [f32] },
}

impl Pass for Picture<'_> {
    #[inline(always)]
    fn run(self) {
        match self.work {
            Work::Max { x, y, places } => self.op.max(x, y, places),
            Work::Mean { x, y } => self.op.mean(x, y),
            Work::Gradient { dy, places, dx } => self.op.gradient(dy, places, dx),
        }
    }
}

impl HostOp for PoolOp {
    fn shape(&self) -> [usize; 4] {
        [self.batch, self.output.h, self.output.w, self.output.c]
    }

    fn run(&self, [x, ..]: [Numbers; 3], backward: bool) -> (Vec<f32>, Option<BackwardPass>) {
        let (xs, ys) = (self.input.elements(), self.output.elements());
        let mut y = vec![0.0; self.batch * ys];
        let max = self.pool.kind == PoolKind::Max;
        let mut places = vec![0u32; if max && backward { y.len() } else { 0 }];
        let kernels = kernels::best();
        if places.is_empty() {
            y.par_chunks_mut(ys).zip(x.par_chunks(xs)).for_each(|(y, x)| {
                let work = if max { Work::Max { x, y, places: &mut [] } } else { Work::Mean { x, y } };
                kernels.run(Picture { op: self, work });
            });
        } else {
            let pictures = y.par_chunks_mut(ys).zip(places.par_chunks_mut(ys)).zip(x.par_chunks(xs));
            pictures.for_each(|((y, places), x)| {
                kernels.run(Picture { op: self, work: Work::Max { x, y, places } })
            });
        }
        if !backward {
            return (y, None);
        }
        let op = self.clone();
        let pass: BackwardPass = Arc::new(move |dy, _| {
            let mut dx = vec![0.0; op.batch * xs];
            dx.par_chunks_mut(xs).zip(dy.par_chunks(ys)).enumerate().for_each(|(i, (dx, dy))| {
                let places = if max { &places[i * ys..][..ys] } else { &[] };
                kernels.run(Picture { op: &op, work: Work::Gradient { dy, places, dx } });
            });
            [Some(dx), None, None]
        });
        (y, Some(pass))
    }
}

/// On the CPU.
pub fn fused(pool: Pool2d, x: Tensor<4>, output: Shape) -> Tensor<4> {
    let [batch, h, w, c] = x.dims();
    host::apply(PoolOp { pool, input: Shape::new(h, w, c), output, batch }, x, &[])
}

/// With Burn's ops.
pub fn plain(pool: Pool2d, x: Tensor<4>, output: Shape) -> Tensor<4> {
    let x = x.permute([0, 3, 1, 2]);
    let [_, _, h, w] = x.dims();
    let window = pool.window;
    let [top, left, bottom, right] = window.pad;
    let pad = [(top, bottom), (left, right)];
    let y = match pool.kind {
        _ if window.covers(Shape::new(h, w, output.c)) && pool.kind == PoolKind::Average => {
            adaptive_avg_pool2d(x, [1, 1])
        }
        PoolKind::Max => {
            let options = MaxPoolOptions::new(window.kernel).with_stride(window.stride);
            max_pool2d(x, options.with_padding_pairs(pad).with_dilation(window.dilation))
        }
        PoolKind::Average => {
            let options = AvgPoolOptions::new(window.kernel).with_stride(window.stride);
            avg_pool2d(x, options.with_padding_pairs(pad).with_count_include_pad(pool.count_pad))
        }
    };
    y.permute([0, 2, 3, 1])
}
