//! The backward pass: float products on the engine's GEMM kernel.
//!
//! * `dx` of a dense layer is `dy q(w)`. That of a convolution is a convolution of `dy` with mirrored filters where that
//!   costs little more than the layer itself, else `dy q(w)` added up tap by tap (col2im).
//! * `dw` multiplies columns of the map, read where they lie (a tap of all windows is one row of offsets), with `dy`.

use super::LinearOp;
use crate::ops::vector;
use onebit::core::kernels::{self, Aligned, Fgemm, Pass, Rows, Target};
use onebit::core::model::{Params, Tensor};
use onebit::core::ops::{Conv2d, Window, conv2d};
use onebit::core::types::{DType, Shape, ValueType};
use rayon::prelude::*;

fn gemm() -> &'static Fgemm {
    &kernels::best().fgemm
}

/// A matrix of `rows x cols`, rows `stride` apart, in panels of the kernel's width: `[panel][row][nr]`.
struct Panels {
    data: Aligned,
    rows: usize,
    cols: usize,
}

impl Panels {
    fn new(b: &[f32], rows: usize, cols: usize, stride: usize) -> Self {
        Self::fill(rows, cols, |row, first, out| {
            out.copy_from_slice(&b[row * stride + first..][..out.len()]);
        })
    }

    /// `write(row, first column, numbers)` for each part of a row in a panel.
    fn fill(rows: usize, cols: usize, write: impl Fn(usize, usize, &mut [f32])) -> Self {
        let nr = gemm().nr;
        let mut data = Aligned::zeroed((cols.div_ceil(nr) * rows * nr).div_ceil(2));
        for (panel, out) in data.as_f32_mut().chunks_exact_mut(rows * nr).take(cols.div_ceil(nr)).enumerate()
        {
            let width = nr.min(cols - panel * nr);
            for (row, out) in out.chunks_exact_mut(nr).enumerate() {
                write(row, panel * nr, &mut out[..width]);
            }
        }
        Panels { data, rows, cols }
    }

    /// Rows of `a` times this; results are `stride` apart.
    fn multiply(&self, a: Rows<'_>, out: &mut [f32], stride: usize) {
        let nr = gemm().nr;
        for (panel, b) in
            self.data.as_f32().chunks_exact(self.rows * nr).take(self.cols.div_ceil(nr)).enumerate()
        {
            let width = nr.min(self.cols - panel * nr);
            gemm().multiply(a, b, None, Target { out: &mut out[panel * nr..], stride, width });
        }
    }
}

/// Gradient of the inputs; `w` are the weights that the layer computed with.
pub fn inputs(op: &LinearOp, dy: &[f32], w: &[f32]) -> Vec<f32> {
    let (xs, ys) = (op.input.elements(), op.output.elements());
    let mut dx = vec![0.0; op.batch * xs];
    let task = op.task();
    if op.is_dense() {
        let panels = Panels::new(w, op.output.c, xs, xs);
        let task = op.rows();
        dx.par_chunks_mut(xs * task).zip(dy.par_chunks(ys * task)).for_each(|(dx, dy)| {
            let a = Rows { a: dy, count: dy.len() / ys, stride: ys, taps: &[0], run: ys };
            panels.multiply(a, dx, xs);
        });
    } else if op.is_depthwise() {
        dx.par_chunks_mut(xs).zip(dy.par_chunks(ys)).for_each(|(dx, dy)| depthwise_inputs(op, dy, w, dx));
    } else if let Some(mirrored) = mirrored(op, w) {
        let scratch_words = mirrored.scratch_words();
        dx.par_chunks_mut(xs * task).zip(dy.par_chunks(ys * task)).for_each(|(dx, dy)| {
            let words = |n: usize| Aligned::zeroed(n);
            let (mut input, mut output) = (words(ys.div_ceil(2)), words(xs.div_ceil(2)));
            let mut scratch = words(scratch_words);
            for (dx, dy) in dx.chunks_exact_mut(xs).zip(dy.chunks_exact(ys)) {
                input.as_f32_mut()[..ys].copy_from_slice(dy);
                mirrored.run(1, &input, &mut output, &mut scratch);
                dx.copy_from_slice(&output.as_f32()[..xs]);
            }
        });
    } else {
        let (groups, taps) = (op.linear.groups, op.taps());
        let per = op.output.c / groups;
        let panels: Vec<Panels> =
            (0..groups).map(|g| Panels::new(&w[g * per * taps..], per, taps, taps)).collect();
        let pixels = op.output.pixels();
        dx.par_chunks_mut(xs * task).zip(dy.par_chunks(ys * task)).for_each(|(dx, dy)| {
            let mut columns = vec![0.0; pixels * taps];
            for (dx, dy) in dx.chunks_exact_mut(xs).zip(dy.chunks_exact(ys)) {
                for (g, panels) in panels.iter().enumerate() {
                    let a = Rows { a: dy, count: pixels, stride: op.output.c, taps: &[g * per], run: per };
                    panels.multiply(a, &mut columns, taps);
                    kernels::best().run(AddColumns { op, group: g, columns: &columns, dx });
                }
            }
        });
    }
    dx
}

/// The convolution with mirrored filters, where it costs at most a third more than the layer.
fn mirrored(op: &LinearOp, w: &[f32]) -> Option<conv2d::Prepared> {
    let Window { kernel: [kh, kw], stride, dilation, pad: [top, left, bottom, right] } = op.linear.window;
    if op.linear.groups != 1 || stride != [1; 2] || dilation != [1; 2] {
        return None;
    }
    if 3 * op.input.pixels() > 4 * op.output.pixels() {
        return None;
    }
    let pad = [
        (kh - 1).checked_sub(top)?,
        (kw - 1).checked_sub(left)?,
        (kh - 1).checked_sub(bottom)?,
        (kw - 1).checked_sub(right)?,
    ];
    let (c, n) = (op.input.c, op.output.c);
    let mut flipped = vec![0.0; w.len()];
    for (f, filter) in w.chunks_exact(kh * kw * c).enumerate() {
        for (tap, channels) in filter.chunks_exact(c).enumerate() {
            for (ch, v) in channels.iter().enumerate() {
                flipped[(ch * kh * kw + kh * kw - 1 - tap) * n + f] = *v;
            }
        }
    }
    let conv = Conv2d { window: Window { pad, ..op.linear.window }, groups: 1, pad_value: 0.0 };
    let params = Params { weight: Some(Tensor::f32_matrix(c, kh * kw * n, flipped)), ..Params::default() };
    let [x, y] = [op.output, op.input].map(|s| ValueType::new(s, DType::F32));
    Some(conv2d::Prepared::new(conv, x, y, &params, kernels::best()))
}

/// Adds columns of one group, `[pixel][tap][channel]`, to the pixels that they came from (col2im).
struct AddColumns<'a> {
    op: &'a LinearOp,
    group: usize,
    columns: &'a [f32],
    dx: &'a mut [f32],
}

impl Pass for AddColumns<'_> {
    #[inline(always)]
    fn run(self) {
        let AddColumns { op, group, columns, dx } = self;
        let (c, per) = (op.input.c, op.input.c / op.linear.groups);
        let mut pixels = Vec::new();
        for (o, column) in columns.chunks_exact(op.taps()).enumerate() {
            pixels.clear();
            let (oy, ox) = (o / op.output.w, o % op.output.w);
            op.linear.window.for_each_tap(op.input, oy, ox, |_, pixel| pixels.push(pixel));
            for (pixel, column) in pixels.iter().zip(column.chunks_exact(per)) {
                if let Some(p) = pixel {
                    let to = &mut dx[p * c + group * per..][..per];
                    for i in 0..per {
                        to[i] += column[i];
                    }
                }
            }
        }
    }
}

fn depthwise_inputs(op: &LinearOp, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let (c, taps) = (op.input.c, op.linear.window.taps());
    for (o, dy) in dy.chunks_exact(c).enumerate() {
        op.linear.window.for_each_tap(op.input, o / op.output.w, o % op.output.w, |tap, pixel| {
            if let Some(p) = pixel {
                for (ch, d) in dx[p * c..][..c].iter_mut().enumerate() {
                    *d += dy[ch] * w[ch * taps + tap];
                }
            }
        });
    }
}

/// Gradient of the quantised weights, `[filter][tap][channel]`.
pub fn weights(op: &LinearOp, dy: &[f32], x: &[f32]) -> Vec<f32> {
    if op.is_dense() { dense_weights(op, dy, x) } else { conv_weights(op, dy, x) }
}

fn dense_weights(op: &LinearOp, dy: &[f32], x: &[f32]) -> Vec<f32> {
    /// Filters of a task.
    const FILTERS: usize = 128;
    let (k, n) = (op.input.elements(), op.output.c);
    let panels = Panels::new(x, op.batch, k, k);
    let mut dw = vec![0.0; n * k];
    dw.par_chunks_mut(k * FILTERS).enumerate().for_each(|(task, dw)| {
        // Filters by pictures: a filter's column of `dy` has rows a power of two apart, which share one set of the cache.
        let count = dw.len() / k;
        let mut rows = vec![0.0; count * op.batch];
        for (picture, dy) in dy.chunks_exact(n).enumerate() {
            let dy = &dy[task * FILTERS..][..count];
            dy.iter().enumerate().for_each(|(filter, d)| rows[filter * op.batch + picture] = *d);
        }
        let a = Rows { a: &rows, count, stride: op.batch, taps: &[0], run: op.batch };
        panels.multiply(a, dw, k);
    });
    dw
}

fn conv_weights(op: &LinearOp, dy: &[f32], x: &[f32]) -> Vec<f32> {
    /// Pixels that are multiplied at a time: their gradients stay in the L2 cache.
    const PIXELS: usize = 1024;
    let (xs, ys) = (op.input.elements(), op.output.elements());
    let (taps, n, groups) = (op.taps(), op.output.c, op.linear.groups);
    let pictures = (PIXELS / op.output.pixels()).clamp(1, op.task());
    let tasks: Vec<Vec<f32>> = dy
        .par_chunks(ys * op.task())
        .zip(x.par_chunks(xs * op.task()))
        .map(|(dy, x)| {
            // `[group][tap][channel][filter]`
            let mut sums = vec![0.0; groups * taps * (n / groups)];
            let mut products = Vec::new();
            for (i, (dy, x)) in dy.chunks(ys * pictures).zip(x.chunks(xs * pictures)).enumerate() {
                if op.is_depthwise() {
                    depthwise_weights(op, dy, x, &mut sums);
                } else if i == 0 {
                    columns_times(op, dy, x, &mut sums);
                } else {
                    products.resize(sums.len(), 0.0);
                    columns_times(op, dy, x, &mut products);
                    vector::zip(&mut sums, &products, |a, b| a + b);
                }
            }
            sums
        })
        .collect();
    let mut tasks = tasks.into_iter();
    let mut sums = tasks.next().expect("a batch has pictures");
    for task in tasks {
        vector::zip(&mut sums, &task, |a, b| a + b);
    }
    let mut dw = vec![0.0; n * taps];
    let per = n / groups;
    for (i, dw) in dw.chunks_exact_mut(taps).enumerate() {
        let group = &sums[i / per * taps * per..];
        dw.iter_mut().enumerate().for_each(|(k, d)| *d = group[k * per + i % per]);
    }
    dw
}

/// `products[group][tap][channel][filter]` of some pictures.
fn columns_times(op: &LinearOp, dy: &[f32], x: &[f32], products: &mut [f32]) {
    let Window { kernel: [kh, kw], stride, dilation, pad } = op.linear.window;
    let (Shape { h, w, c }, n, groups) = (op.input, op.output.c, op.linear.groups);
    let [high, wide] = [h + pad[0] + pad[2], w + pad[1] + pad[3]];
    let pictures = dy.len() / op.output.elements();
    let padded;
    let source = if pad == [0; 4] {
        x
    } else {
        let mut all = vec![op.pad_value(); pictures * high * wide * c];
        for (all, x) in all.chunks_exact_mut(high * wide * c).zip(x.chunks_exact(h * w * c)) {
            for (y, line) in x.chunks_exact(w * c).enumerate() {
                all[((y + pad[0]) * wide + pad[1]) * c..][..w * c].copy_from_slice(line);
            }
        }
        padded = all;
        &padded
    };
    let mut pixels = Vec::with_capacity(pictures * op.output.pixels());
    for i in 0..pictures {
        for oy in 0..op.output.h {
            let row = (i * high + oy * stride[0]) * wide;
            pixels.extend((0..op.output.w).map(|ox| (row + ox * stride[1]) * c));
        }
    }
    if groups == 1 && kw * c < gemm().mr {
        few_columns_times(op, dy, source, &pixels, wide * c, products);
        return;
    }
    let (per_in, per_out) = (c / groups, n / groups);
    // Neighbouring taps whose channels all count are one run of rows.
    let (runs, run) = if groups == 1 && dilation[1] == 1 { (1, kw * c) } else { (kw, per_in) };
    for g in 0..groups {
        let panels = Panels::new(&dy[g * per_out..], pixels.len(), per_out, n);
        let products = &mut products[g * op.taps() * per_out..][..op.taps() * per_out];
        for ky in 0..kh {
            for kx in 0..runs {
                let first = (ky * dilation[0] * wide + kx * dilation[1]) * c + g * per_in;
                let a = Rows { a: &source[first..], count: run, stride: 1, taps: &pixels, run: 1 };
                let to = (ky * kw + kx) * per_in * per_out;
                panels.multiply(a, &mut products[to..], per_out);
            }
        }
    }
}

/// The same where a row of the kernel has fewer numbers than a tile has rows: filters become the rows, and the columns are
/// copied together (im2col). Rows of `source` are `line` apart.
fn few_columns_times(
    op: &LinearOp,
    dy: &[f32],
    source: &[f32],
    pixels: &[usize],
    line: usize,
    products: &mut [f32],
) {
    let Window { kernel: [_, kw], dilation, .. } = op.linear.window;
    let (c, n, taps) = (op.input.c, op.output.c, op.taps());
    let place = |k: usize| {
        let (tap, channel) = (k / c, k % c);
        tap / kw * dilation[0] * line + tap % kw * dilation[1] * c + channel
    };
    let places: Vec<usize> = (0..taps).map(place).collect();
    let panels = Panels::fill(pixels.len(), taps, |row, first, out| {
        let source = &source[pixels[row]..];
        out.iter_mut().zip(&places[first..]).for_each(|(out, place)| *out = source[*place]);
    });
    let rows: Vec<usize> = (0..pixels.len()).map(|p| p * n).collect();
    let mut by_filter = vec![0.0; n * taps];
    panels.multiply(Rows { a: dy, count: n, stride: 1, taps: &rows, run: 1 }, &mut by_filter, taps);
    for (f, filter) in by_filter.chunks_exact(taps).enumerate() {
        filter.iter().enumerate().for_each(|(k, v)| products[k * n + f] = *v);
    }
}

/// Adds to `sums[channel][tap]`.
fn depthwise_weights(op: &LinearOp, dy: &[f32], x: &[f32], sums: &mut [f32]) {
    let (c, taps) = (op.input.c, op.linear.window.taps());
    for (dy, x) in dy.chunks_exact(op.output.elements()).zip(x.chunks_exact(op.input.elements())) {
        for (o, dy) in dy.chunks_exact(c).enumerate() {
            op.linear.window.for_each_tap(op.input, o / op.output.w, o % op.output.w, |tap, pixel| {
                for (ch, dy) in dy.iter().enumerate() {
                    let x = pixel.map_or(op.pad_value(), |p| x[p * c + ch]);
                    sums[ch * taps + tap] += dy * x;
                }
            });
        }
    }
}
