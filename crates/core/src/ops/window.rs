//! The window that a convolution or pool slides over a map.

use crate::types::Shape;

/// Kernel size, stride, dilation and padding.
///
/// Output rows: `(h + top + bottom - dilation * (kernel - 1) - 1) / stride + 1`; columns likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Window {
    /// Rows, columns.
    pub kernel: [usize; 2],
    /// Down, right.
    pub stride: [usize; 2],
    /// Distance of neighbouring taps, down and right.
    pub dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
}

impl Window {
    /// A square window.
    pub const fn square(kernel: usize, stride: usize, pad: usize) -> Self {
        Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], pad: [pad; 4] }
    }
    /// A window that covers a whole map once.
    pub const fn whole(shape: Shape) -> Self {
        Window { kernel: [shape.h, shape.w], stride: [1; 2], dilation: [1; 2], pad: [0; 4] }
    }
    /// Whether the window covers a map of `shape` once, without padding.
    pub fn covers(&self, shape: Shape) -> bool {
        self.kernel == [shape.h, shape.w] && self.dilation == [1; 2] && self.pad == [0; 4]
    }
    /// Taps of the kernel.
    pub const fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
    /// Input row of tap row `ky` for output row `oy`, or `None` in the padding.
    #[inline]
    pub fn row(&self, oy: usize, ky: usize, h: usize) -> Option<usize> {
        (oy * self.stride[0] + ky * self.dilation[0]).checked_sub(self.pad[0]).filter(|y| *y < h)
    }
    /// Input column of tap column `kx` for output column `ox`, or `None` in the padding.
    #[inline]
    pub fn col(&self, ox: usize, kx: usize, w: usize) -> Option<usize> {
        (ox * self.stride[1] + kx * self.dilation[1]).checked_sub(self.pad[1]).filter(|x| *x < w)
    }
    /// Taps along an axis (0: rows, 1: columns) that output `o` has inside a map of that size.
    #[inline(always)]
    pub fn inside(&self, o: usize, axis: usize, size: usize) -> core::ops::Range<usize> {
        let start = o * self.stride[axis];
        let (pad, dilation) = (self.pad[axis], self.dilation[axis]);
        let before = |end: usize| end.saturating_sub(start).div_ceil(dilation).min(self.kernel[axis]);
        before(pad)..before(size + pad)
    }
    /// Calls `f(tap, input pixel)` for every tap of output `(oy, ox)`; the pixel is `None` in the padding.
    #[inline]
    pub fn for_each_tap(&self, input: Shape, oy: usize, ox: usize, mut f: impl FnMut(usize, Option<usize>)) {
        for ky in 0..self.kernel[0] {
            let y = self.row(oy, ky, input.h);
            for kx in 0..self.kernel[1] {
                let x = self.col(ox, kx, input.w);
                f(ky * self.kernel[1] + kx, y.zip(x).map(|(y, x)| y * input.w + x));
            }
        }
    }
    /// Calls `f(first tap, taps, first input pixel)` for the taps of output `(oy, ox)` that lie inside the map, in
    /// runs that read neighbouring pixels.
    #[inline]
    pub fn for_each_run(&self, input: Shape, oy: usize, ox: usize, mut f: impl FnMut(usize, usize, usize)) {
        let kw = self.kernel[1];
        let start = ox * self.stride[1];
        for ky in 0..self.kernel[0] {
            let Some(y) = self.row(oy, ky, input.h) else { continue };
            if self.dilation[1] == 1 {
                let first = self.pad[1].saturating_sub(start);
                let end = kw.min((input.w + self.pad[1]).saturating_sub(start));
                if first < end {
                    f(ky * kw + first, end - first, y * input.w + start + first - self.pad[1]);
                }
            } else {
                for kx in 0..kw {
                    if let Some(x) = self.col(ox, kx, input.w) {
                        f(ky * kw + kx, 1, y * input.w + x);
                    }
                }
            }
        }
    }

    /// Rows and columns of the output.
    ///
    /// # Errors
    /// When a size is zero or absurd, or the window does not fit into the padded map.
    #[cfg(feature = "alloc")]
    pub fn output(&self, input: Shape) -> Result<[usize; 2], crate::model::Error> {
        use crate::model::MAX_ELEMENTS;
        use alloc::format;
        const LARGEST: usize = 1 << 16;
        let positive = [self.kernel, self.stride, self.dilation].into_iter().flatten();
        if positive.chain([1]).any(|v| v == 0 || v > LARGEST) || self.pad.iter().any(|p| *p > LARGEST) {
            return Err("has a kernel, stride, dilation or padding of 0 or above 65536".into());
        }
        // Products of two such numbers do not fit into the words of a 32-bit target.
        if self.kernel[0].checked_mul(self.kernel[1]).is_none_or(|taps| taps > MAX_ELEMENTS) {
            return Err("has a kernel with more taps than a tensor may have elements".into());
        }
        let one = |size: usize, i: usize| {
            let extent = self.dilation[i].checked_mul(self.kernel[i] - 1)?.checked_add(1)?;
            let padded = size + self.pad[i] + self.pad[i + 2];
            Some(padded.checked_sub(extent)? / self.stride[i] + 1)
        };
        match (one(input.h, 0), one(input.w, 1)) {
            (Some(h), Some(w)) => Ok([h, w]),
            _ => Err(crate::model::Error(format!(
                "its {} x {} window does not fit into a {} x {} map",
                self.kernel[0], self.kernel[1], input.h, input.w
            ))),
        }
    }

    /// Shape of the output of filters, the rows of the weight, in groups of channels.
    ///
    /// # Errors
    /// As [`Window::output`]; also when groups do not divide the channels, or a row is not a filter.
    #[cfg(feature = "alloc")]
    pub(crate) fn filter(
        &self,
        input: Shape,
        groups: usize,
        params: &crate::model::Params<crate::model::Tensor<'_>>,
    ) -> Result<Shape, crate::model::Error> {
        use crate::model::Error;
        use alloc::format;
        let [h, w] = self.output(input)?;
        let Some(weight) = &params.weight else {
            return Err("has no weight".into());
        };
        let divides = |n: usize| groups > 0 && n.is_multiple_of(groups);
        if !divides(input.c) || !divides(weight.rows) {
            return Err(Error(format!(
                "has {groups} groups, which do not divide {} input and {} output channels",
                input.c, weight.rows
            )));
        }
        let k = self.taps().saturating_mul(input.c / groups);
        if weight.cols != k {
            return Err(Error(format!("its weight has {} columns, but a filter has {k} taps", weight.cols)));
        }
        Ok(Shape::new(h, w, weight.rows))
    }

    /// As [`Window::output`], and every window must cover at least one real pixel.
    #[cfg(feature = "alloc")]
    pub fn pool_output(&self, input: Shape) -> Result<[usize; 2], crate::model::Error> {
        let [h, w] = self.output(input)?;
        let covers = |outputs: usize, size: usize, i: usize| {
            let (stride, dilation, pad) = (self.stride[i], self.dilation[i], self.pad[i]);
            // Windows that start in the padding, and the last one; those between start on a pixel.
            let in_padding = pad.div_ceil(stride).min(outputs);
            (0..in_padding).chain([outputs - 1]).all(|o| {
                let tap = pad.saturating_sub(o * stride).div_ceil(dilation);
                tap < self.kernel[i] && o * stride + tap * dilation - pad < size
            })
        };
        let (rows, cols) = (covers(h, input.h, 0), covers(w, input.w, 1));
        if rows && cols { Ok([h, w]) } else { Err("has windows that lie wholly in the padding".into()) }
    }
}
