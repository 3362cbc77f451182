//! Padding: which taps of a window lie outside, and what they would have contributed.
//!
//! Output rows fall into a few classes by the range of kernel rows that lies inside the map, columns
//! likewise; the correction for padding is one number per class and channel.

use crate::model::Error;
use crate::ops::Window;
use crate::types::Shape;
use alloc::vec::Vec;
use core::ops::Range;

/// Border classes of a window on a map.
pub(super) struct Borders {
    /// Class of every output row and column.
    rows: Vec<u32>,
    cols: Vec<u32>,
    /// Kernel rows and columns inside the map, for each class.
    row_sets: Vec<Range<usize>>,
    col_sets: Vec<Range<usize>>,
}

impl Borders {
    pub(super) fn new(window: &Window, input: Shape, out: Shape) -> Self {
        let (rows, row_sets) = border_classes(window, 0, out.h, input.h);
        let (cols, col_sets) = border_classes(window, 1, out.w, input.w);
        Borders { rows, cols, row_sets, col_sets }
    }

    /// Classes of neighbouring output pixels of row `y` from column `x` on, times `size`.
    #[inline]
    pub(super) fn classes_of(&self, y: usize, x: usize, size: usize, classes: &mut [usize]) {
        let row = self.rows[y] as usize * self.col_sets.len();
        for (class, col) in classes.iter_mut().zip(&self.cols[x..]) {
            *class = (row + *col as usize) * size;
        }
    }

    /// Number of classes.
    fn classes(&self) -> usize {
        self.row_sets.len() * self.col_sets.len()
    }

    /// Whether a tap of any pixel is outside.
    pub(super) fn any(&self, window: &Window) -> bool {
        let partial = |sets: &[Range<usize>], taps| sets.iter().any(|set| *set != (0..taps));
        partial(&self.row_sets, window.kernel[0]) || partial(&self.col_sets, window.kernel[1])
    }

    /// `[class][channel]`: `constant` plus `wrong_by` times the sum of the weights whose taps are outside. Weights are
    /// `n` rows of `(ky, kx, c)` elements with `cg` channels; without [`Borders::any`] they are not read.
    pub(super) fn offsets(
        &self,
        window: &Window,
        weights: &[i32],
        n: usize,
        cg: usize,
        constant: i32,
        wrong_by: i32,
    ) -> Vec<i32> {
        let [kh, kw] = window.kernel;
        if !self.any(window) {
            return alloc::vec![constant; self.classes() * n];
        }
        let taps = kh * kw * cg;
        // `sums[ky][kx]` is the sum of the weights of a filter above and left of tap `(ky, kx)`.
        let mut sums = alloc::vec![0i32; (kh + 1) * (kw + 1)];
        let mut offset = alloc::vec![0; self.classes() * n];
        for (channel, filter) in weights.chunks(taps).enumerate() {
            for (tap, w) in filter.chunks(cg).enumerate() {
                let at = tap / kw * (kw + 1) + tap % kw;
                let before = sums[at + 1] + sums[at + kw + 1] - sums[at];
                sums[at + kw + 2] = before + w.iter().sum::<i32>();
            }
            let classes = self.row_sets.iter().flat_map(|ys| self.col_sets.iter().map(move |xs| (ys, xs)));
            for (class, (ys, xs)) in classes.enumerate() {
                let sum = |y: usize, x: usize| sums[y * (kw + 1) + x];
                let inside = sum(ys.end, xs.end) - sum(ys.start, xs.end) - sum(ys.end, xs.start)
                    + sum(ys.start, xs.start);
                offset[class * n + channel] = constant + wrong_by * (sum(kh, kw) - inside);
            }
        }
        offset
    }
}

/// Largest border table, in entries; a 7 x 7 kernel with 2048 channels needs 100 thousand.
const MAX_BORDER: u64 = 1 << 22;

/// Refuses padding whose border table (an entry for each class and channel) would be absurdly large.
pub(super) fn check_border(window: &Window, input: Shape, out: Shape) -> Result<(), Error> {
    let rows = most_classes(window, 0, out.h, input.h) as u64;
    let cols = most_classes(window, 1, out.w, input.w) as u64;
    if rows.saturating_mul(cols).saturating_mul(out.c as u64) > MAX_BORDER {
        return Err("has so much padding that its border table would be absurdly large".into());
    }
    Ok(())
}

/// No fewer than the classes that [`border_classes`] finds: a class for each window that reaches into the padding,
/// and one for all others.
fn most_classes(window: &Window, i: usize, outputs: usize, size: usize) -> usize {
    let (stride, pad) = (window.stride[i], window.pad[i]);
    let extent = window.dilation[i] * (window.kernel[i] - 1) + 1;
    let before = pad.div_ceil(stride);
    let first_after = (size + pad).saturating_sub(extent - 1).div_ceil(stride);
    (before + outputs.saturating_sub(first_after) + 1).min(outputs)
}

/// Groups the output rows (`i` = 0) or columns (1) by the taps that are inside the map, which is a range that
/// moves one way: the class of each, and the range of each class.
fn border_classes(window: &Window, i: usize, outputs: usize, size: usize) -> (Vec<u32>, Vec<Range<usize>>) {
    let (stride, dilation, pad) = (window.stride[i], window.dilation[i], window.pad[i]);
    let mut sets: Vec<Range<usize>> = Vec::new();
    let class = (0..outputs).map(|o| {
        let taps_before = |pixel: usize| (pixel + pad).saturating_sub(o * stride).div_ceil(dilation);
        let end = taps_before(size).min(window.kernel[i]);
        let set = taps_before(0).min(end)..end;
        if sets.last() != Some(&set) {
            sets.push(set);
        }
        sets.len() as u32 - 1
    });
    let class: Vec<u32> = class.collect();
    debug_assert!(sets.len() <= most_classes(window, i, outputs, size));
    (class, sets)
}
