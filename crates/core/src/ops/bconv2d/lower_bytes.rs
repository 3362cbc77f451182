//! im2col on bytes: output pixels become rows of bytes without a sign.
//!
//! A value is stored as `value + zero`. The part of the map that a band of output rows reads of one group is first laid
//! out that way, with the padding in place as `zero` and bit planes transposed to bytes; then every row consists of
//! the same few pieces at the same distances.

use super::BConv2d;
use crate::bits;
use crate::types::{DType, Encoding, Quant, Shape, ValueType};
use alloc::vec::Vec;

/// Bytes that a band may take: each is read for several rows and should stay in the second cache.
const BAND_BYTES: usize = 128 * 1024;
/// Short pieces are copied in moves of this size, which write over what follows.
const MOVE: usize = 16;
/// Bytes from which on a piece is long.
const LONG: usize = 64;

/// How the map of one convolution is lowered.
pub(super) struct ByteLowering {
    conv: BConv2d,
    input: ValueType,
    out: Shape,
    /// Channels of a group.
    cg: usize,
    zero: u8,
    /// Columns of a band.
    width: usize,
    /// Output rows of a band.
    rows: usize,
    band_bytes: usize,
    /// Bytes of a piece, and where the pieces of a row begin, relative to its pixel.
    piece: usize,
    offsets: Vec<usize>,
    /// Distance of neighbouring rows.
    lda: usize,
}

impl ByteLowering {
    /// Rows hold every window `parts` times, and are `lda` bytes apart.
    pub(super) fn new(conv: &BConv2d, input: ValueType, out: Shape, parts: usize, lda: usize) -> Self {
        let ([kh, kw], [sy, sx], [dy, dx]) = (conv.window.kernel, conv.window.stride, conv.window.dilation);
        let cg = input.shape.c / conv.groups;
        // Sizes that wrap would look small; `Executor::new` refuses the largest.
        let width =
            (out.w - 1).saturating_mul(sx).saturating_add((kw - 1).saturating_mul(dx)).saturating_add(1);
        let above = (kh - 1).saturating_mul(dy);
        let line = width.saturating_mul(cg);
        let rows = ((BAND_BYTES / line).saturating_sub(above.saturating_add(1)) / sy + 1).min(out.h);
        let read = (rows - 1).saturating_mul(sy).saturating_add(above).saturating_add(1);
        let band_bytes = read.saturating_mul(line);
        // Neighbouring taps are neighbours in the band.
        let taps = if dx == 1 { kw } else { 1 };
        let row = (0..kh).flat_map(|ky| {
            (0..kw / taps)
                .map(move |i| (ky * dy).saturating_mul(width).saturating_add(i * dx).saturating_mul(cg))
        });
        let offsets = row.collect::<Vec<_>>().repeat(parts);
        let zero = zero(input.dtype);
        ByteLowering {
            conv: *conv,
            input,
            out,
            cg,
            zero,
            width,
            rows,
            band_bytes,
            piece: taps * cg,
            offsets,
            lda,
        }
    }

    /// Output rows that are prepared together.
    pub(super) fn band_rows(&self) -> usize {
        self.rows
    }

    /// Bytes of a band.
    pub(super) fn band_bytes(&self) -> usize {
        self.band_bytes.saturating_add(MOVE)
    }

    /// Bytes of `n` rows.
    pub(super) fn row_bytes(&self, n: usize) -> usize {
        n * self.lda + MOVE
    }

    /// Lays out what the output rows from `oy` on read of group `g`.
    pub(super) fn spread(&self, image: &[u64], g: usize, oy: usize, rows: usize, band: &mut [u8]) {
        let (window, shape, cg) = (&self.conv.window, self.input.shape, self.cg);
        let read = (rows - 1) * window.stride[0] + (window.kernel[0] - 1) * window.dilation[0] + 1;
        let first = window.pad[1].min(self.width);
        let columns = shape.w.min(self.width - first);
        for (r, to) in band.chunks_exact_mut(self.width * cg).enumerate().take(read) {
            let y = (oy * window.stride[0] + r).checked_sub(window.pad[0]).filter(|y| *y < shape.h);
            let Some(y) = y else {
                to.fill(self.zero);
                continue;
            };
            to[..first * cg].fill(self.zero);
            to[(first + columns) * cg..].fill(self.zero);
            self.decode(image, g, y * shape.w, &mut to[first * cg..(first + columns) * cg]);
        }
    }

    /// The bytes of neighbouring pixels of one image row, from `pixel` on.
    fn decode(&self, image: &[u64], g: usize, pixel: usize, to: &mut [u8]) {
        let (c, cg) = (self.input.shape.c, self.cg);
        if let DType::Bits(q) = self.input.dtype {
            for (i, to) in to.chunks_exact_mut(cg).enumerate() {
                let words = bits::words(c);
                let planes = &image[(pixel + i) * q.planes() * words..][..q.planes() * words];
                decode_planes(q, planes, words, g * cg, to);
            }
            return;
        }
        let bytes: &[u8] = bytemuck::cast_slice(image);
        if cg == c {
            to.copy_from_slice(&bytes[pixel * c..][..to.len()]);
        } else {
            for (i, to) in to.chunks_exact_mut(cg).enumerate() {
                to.copy_from_slice(&bytes[(pixel + i) * c + g * cg..][..cg]);
            }
        }
        // Two's complement plus 128, or plus 0.
        for to in to {
            *to ^= self.zero;
        }
    }

    /// Lowers `n` output pixels from pixel `first` of an image on; the first output row of the band is `oy`.
    pub(super) fn lower(&self, band: &[u8], oy: usize, first: usize, n: usize, rows: &mut [u8]) {
        let [sy, sx] = self.conv.window.stride;
        let (mut y, mut x) = (first / self.out.w, first % self.out.w);
        for row in 0..n {
            let from = &band[((y - oy) * sy * self.width + x * sx) * self.cg..];
            let to = &mut rows[row * self.lda..];
            if self.piece > LONG {
                for (to, offset) in to.chunks_exact_mut(self.piece).zip(&self.offsets) {
                    to.copy_from_slice(&from[*offset..][..self.piece]);
                }
            } else {
                for (i, offset) in self.offsets.iter().enumerate() {
                    for done in (0..self.piece).step_by(MOVE) {
                        let sixteen: &[u8; MOVE] =
                            from[offset + done..].first_chunk().expect("room for a move");
                        *to[i * self.piece + done..].first_chunk_mut().expect("room for a move") = *sixteen;
                    }
                }
            }
            x += 1;
            if x == self.out.w {
                (y, x) = (y + 1, 0);
            }
        }
    }
}

/// Whether values of this format, which `infer` accepts, are bytes plus or minus a constant.
pub(super) fn fits_bytes(dtype: DType) -> bool {
    dtype != DType::Bits(Quant::new(8, Encoding::Bipolar))
}

/// The byte that stands for the value 0.
pub(super) fn zero(dtype: DType) -> u8 {
    if dtype.quant().is_none_or(|q| q.min() >= 0) { 0 } else { 128 }
}

/// Decodes the values of neighbouring channels of a pixel, `[plane][word]`, to `value + zero`.
fn decode_planes(q: Quant, pixel: &[u64], words: usize, channel: usize, to: &mut [u8]) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // `((code ^ flip) << shift) + add` in every byte; none overflows into its neighbour.
    let (flip, shift, add) = match q.encoding {
        Encoding::Unsigned => (0, 0, 0),
        Encoding::Bipolar => (0, 1, 129 - (1 << q.bits)),
        Encoding::Signed | Encoding::Ternary => (1 << (q.bits - 1), 0, 128 - (1 << (q.bits - 1))),
    };
    for (i, to) in to.chunks_mut(64).enumerate() {
        let mut eights = [0u64; 8];
        for (p, plane) in pixel.chunks_exact(words).enumerate() {
            let word = bits::read(plane, channel + i * 64, to.len());
            for (j, eight) in eights.iter_mut().enumerate() {
                *eight |= (word >> (8 * j) & 0xFF) << (8 * p);
            }
        }
        let mut bytes = [0u8; 64];
        for (bytes, eight) in bytes.chunks_exact_mut(8).zip(eights) {
            let code = transpose(eight);
            bytes.copy_from_slice(&(((code ^ (flip * ONES)) << shift) + add * ONES).to_le_bytes());
        }
        to.copy_from_slice(&bytes[..to.len()]);
    }
}

/// Transposes 8 rows of 8 bits: bit `i` of byte `p` becomes bit `p` of byte `i` (Warren, Hacker's Delight, 7-3).
pub(super) fn transpose(mut x: u64) -> u64 {
    for (shift, mask) in
        [(7, 0x00AA_00AA_00AA_00AA), (14, 0x0000_CCCC_0000_CCCC), (28, 0x0000_0000_F0F0_F0F0)]
    {
        let t = (x ^ (x >> shift)) & mask;
        x ^= t ^ (t << shift);
    }
    x
}
