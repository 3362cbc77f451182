//! Loops over slices, on all threads and with the vectors of this CPU.

use onebit::core::kernels::{self, Pass};
use rayon::prelude::*;

/// Numbers of a task: enough to pay for handing it to a thread, few enough to stay in a cache.
pub const TASK: usize = 1 << 15;

struct Map<'a, F> {
    x: &'a [f32],
    out: &'a mut [f32],
    f: F,
}
impl<F: Fn(f32) -> f32> Pass for Map<'_, F> {
    #[inline(always)]
    fn run(self) {
        self.out.iter_mut().zip(self.x).for_each(|(o, x)| *o = (self.f)(*x));
    }
}

struct Zip<'a, F> {
    x: &'a [f32],
    out: &'a mut [f32],
    f: F,
}
impl<F: Fn(f32, f32) -> f32> Pass for Zip<'_, F> {
    #[inline(always)]
    fn run(self) {
        self.out.iter_mut().zip(self.x).for_each(|(o, x)| *o = (self.f)(*o, *x));
    }
}

/// `f(x)` for each number.
pub fn map(x: &[f32], f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let kernels = kernels::best();
    out.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(out, x)| kernels.run(Map { x, out, f: &f }));
    out
}

/// `out = f(out, x)` for each pair of numbers.
pub fn zip(out: &mut [f32], x: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    let kernels = kernels::best();
    out.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(out, x)| kernels.run(Zip { x, out, f: &f }));
}

struct Rows<'a, const N: usize, F> {
    data: [&'a [f32]; 2],
    channels: [&'a [f32]; N],
    out: &'a mut [f32],
    f: F,
}
impl<const N: usize, F: Fn([f32; 2], [f32; N]) -> f32> Pass for Rows<'_, N, F> {
    #[inline(always)]
    fn run(self) {
        let c = self.channels[0].len();
        let [x, y] = self.data;
        let channels = self.channels.map(|p| &p[..c]);
        for ((out, x), y) in self.out.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(y.chunks_exact(c)) {
            for i in 0..c {
                out[i] = (self.f)([x[i], y[i]], std::array::from_fn(|p| channels[p][i]));
            }
        }
    }
}

/// `f([x, y], numbers of the channel)` for each number of two maps whose channels lie innermost.
pub fn channels<const N: usize>(
    [x, y]: [&[f32]; 2],
    channels: [&[f32]; N],
    f: impl Fn([f32; 2], [f32; N]) -> f32 + Sync,
) -> Vec<f32> {
    let c = channels[0].len();
    let task = (TASK / c).max(1) * c;
    let mut out = vec![0.0; x.len()];
    let kernels = kernels::best();
    let data = x.par_chunks(task).zip(y.par_chunks(task));
    out.par_chunks_mut(task)
        .zip(data)
        .for_each(|(out, (x, y))| kernels.run(Rows { data: [x, y], channels, out, f: &f }));
    out
}

struct Sums<'a, const N: usize, F> {
    data: [&'a [f32]; 2],
    channels: [&'a [f32]; 2],
    sums: &'a mut [Vec<f32>; N],
    f: F,
}
impl<const N: usize, F: Fn([f32; 2], [f32; 2]) -> [f32; N]> Pass for Sums<'_, N, F> {
    #[inline(always)]
    fn run(self) {
        let c = self.channels[0].len();
        let [x, y] = self.data;
        let [p, q] = self.channels.map(|p| &p[..c]);
        let sums = self.sums.each_mut().map(|s| &mut s[..c]);
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact(c)) {
            for i in 0..c {
                let terms = (self.f)([x[i], y[i]], [p[i], q[i]]);
                for n in 0..N {
                    sums[n][i] += terms[n];
                }
            }
        }
    }
}

/// For each channel the sums of `f([x, y], numbers of the channel)` over all pixels. Partial sums of a fixed number of
/// pixels are f32 and added in order as f64, so that they do not depend on the number of threads.
pub fn sums<const N: usize>(
    [x, y]: [&[f32]; 2],
    channels: [&[f32]; 2],
    f: impl Fn([f32; 2], [f32; 2]) -> [f32; N] + Sync,
) -> [Vec<f64>; N] {
    let c = channels[0].len();
    let task = (TASK / c).clamp(1, 256) * c;
    let kernels = kernels::best();
    let parts: Vec<[Vec<f32>; N]> = x
        .par_chunks(task)
        .zip(y.par_chunks(task))
        .map(|(x, y)| {
            let mut sums = std::array::from_fn(|_| vec![0.0; c]);
            kernels.run(Sums { data: [x, y], channels, sums: &mut sums, f: &f });
            sums
        })
        .collect();
    let mut all = std::array::from_fn(|_| vec![0.0; c]);
    for part in parts {
        for (all, part) in all.iter_mut().zip(part) {
            all.iter_mut().zip(part).for_each(|(a, p)| *a += f64::from(p));
        }
    }
    all
}
