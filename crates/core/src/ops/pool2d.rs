//! Maximum or average of numbers over a window.
//!
//! Padding is left out of a maximum, which is the first of equal taps (that tells zeros of different sign apart). An average divides the sum of the real taps, added in order, by
//! the number of real taps, or of all taps where `count_pad` is set.

use super::Window;
use crate::types::Shape;

/// Which reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum PoolKind {
    /// Largest tap.
    Max,
    /// Mean of the taps; floats only.
    Average,
}

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Pool2d {
    /// Which reduction.
    pub kind: PoolKind,
    /// The sliding window.
    pub window: Window,
    /// An average counts the padding as zeros.
    pub count_pad: bool,
}

/// Largest taps of one image.
#[inline(always)]
pub fn run_max<T: Copy + PartialOrd>(pool: &Pool2d, input: Shape, output: Shape, x: &[T], out: &mut [T]) {
    let larger = |o: T, x: T| if x > o { x } else { o };
    for_each_window(pool, input, output, out, |taps, out| {
        taps.fold(x, None, larger, out);
    });
}

/// Averages of one image.
#[inline(always)]
pub fn run_average(pool: &Pool2d, input: Shape, output: Shape, x: &[f32], out: &mut [f32]) {
    for_each_window(pool, input, output, out, |taps, out| {
        taps.fold(x, Some(0.0), |o, x| o + x, out);
        let real = taps.rows * taps.cols;
        let n = if pool.count_pad { pool.window.taps() } else { real } as f32;
        for o in out {
            *o /= n;
        }
    });
}

/// The taps of a window that lie inside the map.
struct Taps {
    /// First element of the first tap.
    first: usize,
    rows: usize,
    /// Elements from a row of taps to the next.
    down: usize,
    cols: usize,
    /// Elements from a tap to the next of its row.
    right: usize,
}

#[inline(always)]
fn for_each_window<T>(
    pool: &Pool2d,
    input: Shape,
    output: Shape,
    out: &mut [T],
    mut f: impl FnMut(&Taps, &mut [T]),
) {
    let (window, c) = (&pool.window, input.c);
    let start = |o: usize, axis: usize, tap: usize| {
        o * window.stride[axis] + tap * window.dilation[axis] - window.pad[axis]
    };
    for (oy, line) in out.chunks_exact_mut(output.w * c).take(output.h).enumerate() {
        let ys = window.inside(oy, 0, input.h);
        let y = start(oy, 0, ys.start);
        for (ox, out) in line.chunks_exact_mut(c).enumerate() {
            let xs = window.inside(ox, 1, input.w);
            let x = start(ox, 1, xs.start);
            let taps = Taps {
                first: (y * input.w + x) * c,
                rows: ys.len(),
                down: window.dilation[0] * input.w * c,
                cols: xs.len(),
                right: window.dilation[1] * c,
            };
            f(&taps, out);
        }
    }
}

impl Taps {
    /// `out[c] = f(.. f(f(first, tap 0), tap 1) ..)`; without a `first`, tap 0 takes its place (and is met twice).
    #[inline(always)]
    fn fold<T: Copy>(&self, x: &[T], first: Option<T>, f: impl Fn(T, T) -> T, out: &mut [T]) {
        let c = out.len();
        let mut at = 0;
        while at + 64 <= c {
            self.fold_channels::<T, 64>(x, at, first, &f, out);
            at += 64;
        }
        while at + 8 <= c {
            self.fold_channels::<T, 8>(x, at, first, &f, out);
            at += 8;
        }
        while at < c {
            self.fold_channels::<T, 1>(x, at, first, &f, out);
            at += 1;
        }
    }

    /// `N` channels, which stay in registers.
    #[inline(always)]
    fn fold_channels<T: Copy, const N: usize>(
        &self,
        x: &[T],
        channel: usize,
        first: Option<T>,
        f: &impl Fn(T, T) -> T,
        out: &mut [T],
    ) {
        let mut acc = [x[self.first + channel]; N];
        match first {
            Some(first) => acc.fill(first),
            None => acc.copy_from_slice(&x[self.first + channel..][..N]),
        }
        for ky in 0..self.rows {
            for kx in 0..self.cols {
                let tap = &x[self.first + ky * self.down + kx * self.right + channel..][..N];
                for i in 0..N {
                    acc[i] = f(acc[i], tap[i]);
                }
            }
        }
        out[channel..][..N].copy_from_slice(&acc);
    }
}

#[cfg(feature = "alloc")]
pub use with_alloc::*;

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::*;
    use crate::cases::{Case, map};
    use crate::model::Error;
    use crate::ops::Op;
    use crate::reference::Values;
    use crate::types::{DType, ValueType};
    use alloc::{format, vec::Vec};

    /// Type of the output.
    pub fn infer(p: &Pool2d, x: ValueType) -> Result<ValueType, Error> {
        match (p.kind, x.dtype) {
            (_, DType::F32) | (PoolKind::Max, DType::I32) => {}
            (kind, other) => return Err(Error(format!("cannot take the {kind:?} of {other}"))),
        }
        let [h, w] = p.window.pool_output(x.shape)?;
        Ok(ValueType::new(Shape::new(h, w, x.shape.c), x.dtype))
    }

    /// The specification.
    pub fn reference(pool: &Pool2d, x: ValueType, v: &Values, out: ValueType) -> Values {
        fn windows<T: Copy>(
            pool: &Pool2d,
            x: ValueType,
            v: &[T],
            out: ValueType,
            reduce: impl Fn(Vec<T>) -> T,
        ) -> Vec<T> {
            let mut all = Vec::new();
            for i in 0..out.shape.elements() {
                let (pixel, c) = (i / x.shape.c, i % x.shape.c);
                let mut taps = Vec::new();
                pool.window.for_each_tap(x.shape, pixel / out.shape.w, pixel % out.shape.w, |_, p| {
                    taps.extend(p.map(|p| v[p * x.shape.c + c]));
                });
                all.push(reduce(taps));
            }
            all
        }
        match (pool.kind, v) {
            (PoolKind::Max, Values::Int(v)) => {
                let max = |t: Vec<i32>| t.into_iter().max().expect("checked by infer");
                Values::Int(windows(pool, x, v, out, max))
            }
            (PoolKind::Max, Values::F32(v)) => {
                let larger = |a: f32, b: f32| if b > a { b } else { a };
                let max = |t: Vec<f32>| t.into_iter().reduce(larger).expect("checked by infer");
                Values::F32(windows(pool, x, v, out, max))
            }
            (PoolKind::Average, v) => {
                let mean = |t: Vec<f32>| {
                    let n = if pool.count_pad { pool.window.taps() } else { t.len() };
                    t.into_iter().fold(0.0, |a, b| a + b) / n as f32
                };
                Values::F32(windows(pool, x, v.f32(), out, mean))
            }
        }
    }

    /// Kinds, padding, uneven windows.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for window in [
            Window::square(2, 2, 0),
            Window::square(3, 2, 1),
            Window { kernel: [3, 2], stride: [1, 3], dilation: [1, 2], pad: [2, 0, 0, 1] },
            Window { kernel: [7, 6], stride: [1, 1], dilation: [1, 1], pad: [0; 4] },
        ] {
            for (kind, count_pad, d) in [
                (PoolKind::Max, false, DType::F32),
                (PoolKind::Max, false, DType::I32),
                (PoolKind::Average, false, DType::F32),
                (PoolKind::Average, true, DType::F32),
            ] {
                let op = Op::Pool2d(Pool2d { kind, window, count_pad });
                cases.push(Case::new(&format!("{window:?} {d}"), op, &[map(7, 6, 11, d)]));
            }
        }
        cases
    }
}
