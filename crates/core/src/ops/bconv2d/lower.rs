//! im2col on bits: output pixels become columns of words, one column for each plane.
//!
//! A column is a string of *pieces*: the bits of one tap, or those of a whole kernel row where that takes fewer
//! words, each padded to whole words with 0 bits. The part of the map that a band of output rows reads is first
//! spread into one array for each word of a piece, in which the pixels of an image row are neighbours and the padding
//! is there as 0 bits; then 8 output pixels are lowered at a time, word by word, with the prefix made on the way.
//! Columns that lie ready in memory (1x1 windows, vectors) skip the spreading.

use super::BConv2d;
use crate::bits;
use crate::kernels::{Bgemm, LOWER_SLACK, Offsets};
use crate::ops::Window;
use crate::types::{DType, Quant, Shape, ValueType};
use alloc::vec::Vec;

/// Words that a band may take: it is read several times and should stay in the first cache.
const BAND_WORDS: usize = 4096;

/// How the map of one convolution is lowered.
pub(super) struct Lowering {
    /// The input, a vector where the window covers all of it.
    shape: Shape,
    bytes: bool,
    planes: usize,
    /// Channels of a group, and its words in a column (whole words where groups are lowered from rows).
    cg: usize,
    window: Window,
    out: Shape,
    source: Source,
    /// Words of a column before padding.
    words: usize,
    /// Weighted sums of set bits are needed, with these weights of planes.
    sum_weights: Option<[i64; 8]>,
}

enum Source {
    /// Columns lie ready in memory.
    Ready,
    Spread(Spread),
}

/// How a band of the map is spread.
struct Spread {
    /// Taps and words of a piece.
    taps: usize,
    piece_words: usize,
    /// Columns of the map are dealt out by their remainder modulo the stride, so that output pixels read neighbours.
    phases: usize,
    /// Words of one array row.
    width: usize,
    /// Output rows of a band.
    rows: usize,
    /// Words of a band of one plane.
    band_words: usize,
    offsets: Offsets,
}

impl Lowering {
    /// `unit` is the exponent of the unit of sums.
    pub(super) fn new(conv: &BConv2d, input: ValueType, out: Shape, wq: Quant, unit: u32) -> Self {
        let xq = input.dtype.quant().expect("checked by infer");
        let bytes = !matches!(input.dtype, DType::Bits(_));
        let (mut shape, mut window) = (input.shape, conv.window);
        let one_row = bytes || (xq.planes() == 1 && shape.c.is_multiple_of(64));
        if is_vector(conv, shape) && one_row {
            // Pixels without gaps are one long pixel.
            shape = Shape::vector(shape.elements());
            window = Window::square(1, 1, 0);
        }
        let cg = shape.c / conv.groups;
        let mut sum_weights = None;
        if wq.plane_offset() != 0 {
            let mut weights = [0; 8];
            for (p, w) in weights.iter_mut().enumerate().take(xq.planes()) {
                *w = (i64::from(xq.plane_weight(p)) * i64::from(wq.plane_offset())) >> unit;
            }
            sum_weights = Some(weights);
        }
        let ready = reads_pixels(&window) && (conv.groups == 1 || cg.is_multiple_of(64));
        let (source, words) = if ready {
            (Source::Ready, bits::words(cg))
        } else {
            let spread = Spread::new(&window, out, cg);
            let words = spread.offsets.words();
            (Source::Spread(spread), words)
        };
        Lowering { shape, bytes, planes: xq.planes(), cg, window, out, source, words, sum_weights }
    }

    /// Whether bytes can be lowered: only where no window has to be unrolled.
    pub(super) fn takes_bytes(conv: &BConv2d, shape: Shape) -> bool {
        is_vector(conv, shape) || conv.groups == 1 && reads_pixels(&conv.window)
    }

    /// Words of a column of one plane, before the kernel's padding.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// Whether columns need weighted sums of their set bits.
    pub(super) fn has_sums(&self) -> bool {
        self.sum_weights.is_some()
    }

    /// Puts the bits of a filter, `(ky, kx, c)` without gaps, in the order of a column.
    pub(super) fn filter(&self, filter: &[u64], column: &mut [u64]) {
        let (taps, words) = match &self.source {
            Source::Ready => (1, self.words),
            Source::Spread(s) => (s.taps, s.piece_words),
        };
        for (i, piece) in column[..self.words].chunks_exact_mut(words).enumerate() {
            bits::or_range(piece, 0, filter, i * taps * self.cg, taps * self.cg);
        }
    }

    /// Output rows that are prepared together.
    pub(super) fn band_rows(&self) -> usize {
        match &self.source {
            Source::Ready => self.out.h,
            Source::Spread(s) => s.rows,
        }
    }

    /// Words of scratch memory of a band.
    pub(super) fn band_words(&self) -> usize {
        match &self.source {
            Source::Ready => 0,
            Source::Spread(s) => s.band_words.saturating_mul(self.planes).saturating_add(LOWER_SLACK),
        }
    }

    /// Distance of the words of a column when `rows` output pixels are lowered together.
    pub(super) fn lda(&self, rows: usize) -> usize {
        match &self.source {
            Source::Ready => rows,
            Source::Spread(_) => rows + LOWER_SLACK,
        }
    }

    /// Spreads what the output rows from `oy` on read of group `g`.
    pub(super) fn spread(&self, image: &[u64], g: usize, oy: usize, rows: usize, band: &mut [u64]) {
        let Source::Spread(s) = &self.source else { return };
        let [sy, _] = self.window.stride;
        let read = (rows - 1) * sy + (self.window.kernel[0] - 1) * self.window.dilation[0] + 1;
        let row_words = s.piece_words * s.phases * s.width;
        let planes = band.chunks_exact_mut(s.band_words).take(self.planes).enumerate();
        for (plane, band) in planes {
            for (r, to) in band.chunks_exact_mut(row_words).enumerate().take(read) {
                match (oy * sy + r).checked_sub(self.window.pad[0]).filter(|y| *y < self.shape.h) {
                    Some(y) if s.taps == 1 => self.spread_row(s, image, g, y, plane, to),
                    Some(y) => self.spread_kernel_rows(s, image, g, y, plane, to),
                    None => to.fill(0),
                }
            }
        }
    }

    /// Spreads image row `y`, tap by tap.
    fn spread_row(&self, s: &Spread, image: &[u64], g: usize, y: usize, plane: usize, to: &mut [u64]) {
        let (words, sx, pad) = (bits::words(self.shape.c), self.window.stride[1], self.window.pad[1]);
        let step = sx * self.planes * words;
        for (w, to) in to.chunks_exact_mut(s.phases * s.width).enumerate() {
            for (phase, to) in to.chunks_exact_mut(s.width).enumerate() {
                // Element `i` is column `i * sx + phase - pad` of the map.
                let first = pad.saturating_sub(phase).div_ceil(sx).min(s.width);
                let end = (self.shape.w + pad).saturating_sub(phase).div_ceil(sx).clamp(first, s.width);
                to[..first].fill(0);
                to[end..].fill(0);
                if first == end {
                    continue;
                }
                let pixel = y * self.shape.w + first * sx + phase - pad;
                let from = &image[(pixel * self.planes + plane) * words..];
                let to = &mut to[first..end];
                if self.cg == self.shape.c || self.cg.is_multiple_of(64) {
                    let from = &from[g * (self.cg / 64) + w..];
                    if step == 1 {
                        to.copy_from_slice(&from[..to.len()]);
                    } else {
                        for (to, from) in to.iter_mut().zip(from.iter().step_by(step)) {
                            *to = *from;
                        }
                    }
                } else {
                    let n = (self.cg - w * 64).min(64);
                    for (to, from) in to.iter_mut().zip(from.chunks(step)) {
                        *to = bits::read(from, g * self.cg + w * 64, n);
                    }
                }
            }
        }
    }

    /// Spreads image row `y` in pieces of whole kernel rows.
    fn spread_kernel_rows(
        &self,
        s: &Spread,
        image: &[u64],
        g: usize,
        y: usize,
        plane: usize,
        to: &mut [u64],
    ) {
        let words = bits::words(self.shape.c);
        for x in 0..s.width {
            let mut piece = [0; MAX_PIECE];
            for tap in 0..s.taps {
                if let Some(column) = self.window.col(x, tap, self.shape.w) {
                    let pixel = y * self.shape.w + column;
                    let from = &image[(pixel * self.planes + plane) * words..][..words];
                    bits::or_range(&mut piece, tap * self.cg, from, g * self.cg, self.cg);
                }
            }
            for (w, word) in piece[..s.piece_words].iter().enumerate() {
                to[w * s.width + x] = *word;
            }
        }
    }

    /// Lowers output pixels `first .. first + n` of an image to columns of `a`, plane after plane; the first output
    /// row of the band is `oy`. Adds to `sums` where sums are needed.
    pub(super) fn lower(
        &self,
        gemm: &Bgemm,
        image: &[u64],
        g: usize,
        band: &[u64],
        oy: usize,
        first: usize,
        n: usize,
        a: &mut Columns<'_>,
    ) {
        match &self.source {
            Source::Ready => {
                for i in 0..n {
                    self.lower_ready(gemm, image, g, first + i, i, a);
                }
            }
            Source::Spread(s) => {
                let mut done = 0;
                while done < n {
                    let (y, x) = ((first + done) / self.out.w, (first + done) % self.out.w);
                    let pixels = (self.out.w - x).min(n - done);
                    let row = (y - oy) * self.window.stride[0] * s.piece_words * s.phases * s.width + x;
                    if self.sum_weights.is_some() {
                        a.sums[done..done + pixels.next_multiple_of(8)].fill(0);
                    }
                    for p in 0..self.planes {
                        let (weight, sums) = match self.sum_weights {
                            Some(weights) => (weights[p], &mut a.sums[done..]),
                            None => (0, &mut [][..]),
                        };
                        let (lda, to) = (a.lda, &mut a.words[p * a.plane + done..]);
                        gemm.lower(pixels, &s.offsets, band, p * s.band_words + row, lda, to, weight, sums);
                    }
                    done += pixels;
                }
            }
        }
    }

    /// Copies one ready column.
    fn lower_ready(
        &self,
        gemm: &Bgemm,
        image: &[u64],
        g: usize,
        pixel: usize,
        i: usize,
        a: &mut Columns<'_>,
    ) {
        let [sy, sx] = self.window.stride;
        let pixel = pixel / self.out.w * sy * self.shape.w + pixel % self.out.w * sx;
        let mut sum = 0;
        for p in 0..self.planes {
            let words = bits::words(self.shape.c);
            let word = |w: usize| {
                if self.bytes {
                    byte_plane(bytemuck::cast_slice(image), pixel * self.shape.c, self.shape.c, w, p)
                } else {
                    image[(pixel * self.planes + p) * words + g * (self.cg / 64) + w]
                }
            };
            let to = &mut a.words[p * a.plane + i..];
            let mut run = 0;
            for w in 0..self.words {
                let word = word(w);
                run = if gemm.prefix { run ^ word } else { word };
                to[w * a.lda] = run;
                if let Some(weights) = &self.sum_weights {
                    sum += weights[p] * i64::from(word.count_ones());
                }
            }
            if gemm.padded(self.words) > self.words {
                to[self.words * a.lda] = run;
            }
        }
        if self.sum_weights.is_some() {
            a.sums[i] = sum;
        }
    }
}

/// Whether the map is one vector to `conv`: its window covers all of it.
fn is_vector(conv: &BConv2d, shape: Shape) -> bool {
    conv.groups == 1 && conv.window.covers(shape)
}

/// Whether every window is one pixel of the map.
fn reads_pixels(window: &Window) -> bool {
    window.taps() == 1 && window.pad == [0; 4]
}

/// Where columns go: word `w` of pixel `i` of plane `p` to `words[p * plane + w * lda + i]`.
pub(super) struct Columns<'a> {
    pub(super) words: &'a mut [u64],
    pub(super) lda: usize,
    pub(super) plane: usize,
    /// Weighted sums of the set bits of each column.
    pub(super) sums: &'a mut [i64],
}

/// Most words of a piece that is a whole kernel row.
const MAX_PIECE: usize = 8;

impl Spread {
    fn new(window: &Window, out: Shape, cg: usize) -> Self {
        let ([kh, kw], [sy, sx], [dy, dx]) = (window.kernel, window.stride, window.dilation);
        let row_words = bits::words(kw * cg);
        let whole_rows = row_words < kw * bits::words(cg) && row_words <= MAX_PIECE;
        let taps = if whole_rows { kw } else { 1 };
        let (pieces, piece_words) = (kw / taps, bits::words(taps * cg));
        // Pieces of one tap start at every column that a tap reads, pieces of a row only at those of output pixels.
        let phases = if pieces == 1 { 1 } else { sx };
        let width = out.w.saturating_add((pieces - 1).saturating_mul(dx) / sx);
        // Sizes that wrap would look small; `Executor::new` refuses the largest.
        let row = piece_words.saturating_mul(phases).saturating_mul(width);
        let above = (kh - 1).saturating_mul(dy);
        let fits = (BAND_WORDS / row).saturating_sub(above.saturating_add(1)) / sy + 1;
        let rows = fits.min(out.h);
        let band_words =
            (rows - 1).saturating_mul(sy).saturating_add(above).saturating_add(1).saturating_mul(row);
        let mut offsets = Vec::new();
        for ky in 0..kh {
            for piece in 0..pieces {
                let column = piece.saturating_mul(dx);
                for w in 0..piece_words {
                    let piece =
                        (w * phases + column % phases).saturating_mul(width).saturating_add(column / phases);
                    offsets.push((ky * dy).saturating_mul(row).saturating_add(piece));
                }
            }
        }
        let offsets = Offsets::new(offsets);
        Spread { taps, piece_words, phases, width, rows, band_words, offsets }
    }
}

/// 64 bits of plane `p` of the `n` bytes from `first` on, from byte `64 * w` of them on.
fn byte_plane(bytes: &[u8], first: usize, n: usize, w: usize, p: usize) -> u64 {
    let bytes = &bytes[first + w * 64..first + n.min(w * 64 + 64)];
    let mut codes = [0; 64];
    codes[..bytes.len()].copy_from_slice(bytes);
    bits::gather(&codes, p)
}
