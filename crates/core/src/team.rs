//! One image on several threads: a layer is cut into parts that write to places apart from each other.
//!
//! The core starts no threads; whoever has some implements [`Team`]. Which layers are cut is decided by
//! [`crate::exec::Executor::run_team`], and the parts never change a result.

use crate::bits;
use crate::types::{DType, ValueType};
use core::ops::Range;

/// Most parts that a layer is cut into.
pub const MAX_PARTS: usize = 64;

/// Threads that work on the parts of a layer.
pub trait Team {
    /// Number of threads, the caller's included.
    fn members(&self) -> usize;
    /// What it costs to hand out parts and to wait for the last one, in nanoseconds.
    fn cost_ns(&self) -> u64;
    /// Calls `work` once with each part, on any thread, and returns when all are done.
    fn run(&self, parts: &mut [Part<'_>], work: &(dyn Fn(&mut Part<'_>) + Sync));
}

/// A part of the output of a layer, for one image.
pub struct Part<'a> {
    /// Which part.
    pub piece: Piece,
    /// Its place in the arena.
    pub out: &'a mut [u64],
    /// Scratch memory of its own.
    pub scratch: &'a mut [u64],
}

/// Which part of the output of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These pixels, all channels.
    Pixels(Range<usize>),
    /// These channels of the only pixel.
    Channels(Range<usize>),
}

impl Piece {
    /// First word of this piece of a value.
    pub(crate) fn first_word(&self, ty: ValueType) -> usize {
        match (self, ty.dtype) {
            (Piece::Pixels(p), DType::Bits(q)) => p.start * q.planes() * bits::words(ty.shape.c),
            (Piece::Channels(c), DType::Bits(_)) => c.start / 64,
            (Piece::Pixels(p), dtype) => p.start * ty.shape.c * element_bytes(dtype) / 8,
            (Piece::Channels(c), dtype) => c.start * element_bytes(dtype) / 8,
        }
    }
}

fn element_bytes(dtype: DType) -> usize {
    match dtype {
        DType::Bits(_) | DType::U8 | DType::I8 => 1,
        DType::I32 | DType::F32 => 4,
    }
}

/// How the output of a layer may be cut.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    /// Pixels that stay together.
    pub(crate) pixels: usize,
    /// An only pixel may be cut by its channels.
    pub(crate) channels: bool,
}

/// Pixels of a value that fill whole words: 1, 2, 4 or 8.
pub(crate) fn whole_words(ty: ValueType) -> usize {
    match ty.dtype {
        DType::Bits(_) => 1,
        dtype => 8 >> (ty.shape.c * element_bytes(dtype)).trailing_zeros().min(3),
    }
}

/// Cuts a value into at most `n` pieces of about the same size that begin on word boundaries.
fn cut(ty: ValueType, n: usize, how: Cut) -> impl Iterator<Item = Piece> {
    let one_plane = !matches!(ty.dtype, DType::Bits(q) if q.planes() > 1);
    let channels = how.channels && ty.shape.pixels() == 1 && one_plane;
    let (total, step) =
        if channels { (ty.shape.c, 64) } else { (ty.shape.pixels(), how.pixels * whole_words(ty)) };
    let steps = total.div_ceil(step);
    let n = n.min(steps).max(1);
    (0..n).map(move |i| {
        let range = i * steps / n * step..((i + 1) * steps / n * step).min(total);
        if channels { Piece::Channels(range) } else { Piece::Pixels(range) }
    })
}

/// Hands the pieces of a layer's output, at most `most`, to a team.
pub(crate) fn run(
    team: &dyn Team,
    most: usize,
    ty: ValueType,
    how: Cut,
    mut out: &mut [u64],
    mut scratch: &mut [u64],
    scratch_words: usize,
    work: &(dyn Fn(&mut Part<'_>) + Sync),
) {
    let mut parts: [Part<'_>; MAX_PARTS] =
        core::array::from_fn(|_| Part { piece: Piece::Pixels(0..0), out: &mut [], scratch: &mut [] });
    let mut pieces = cut(ty, most.min(MAX_PARTS), how).peekable();
    let (mut n, mut at) = (0, 0);
    while let Some(piece) = pieces.next() {
        let end = pieces.peek().map_or(at + out.len(), |next| next.first_word(ty));
        let (mine, rest) = core::mem::take(&mut out).split_at_mut(end - at);
        let (own, others) = core::mem::take(&mut scratch).split_at_mut(scratch_words);
        (out, scratch, at) = (rest, others, end);
        parts[n] = Part { piece, out: mine, scratch: own };
        n += 1;
    }
    team.run(&mut parts[..n], work);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Quant, Shape};

    #[test]
    fn pieces_cover_a_value_once_and_begin_on_words() {
        let formats = [DType::BIT, DType::Bits(Quant::TERNARY), DType::U8, DType::I32, DType::F32];
        for dtype in formats {
            for shape in
                [Shape::new(7, 7, 3), Shape::new(1, 1, 1000), Shape::new(5, 3, 64), Shape::new(1, 1, 1)]
            {
                let ty = ValueType::new(shape, dtype);
                for n in [1, 2, 3, 8] {
                    let (mut next, mut words) = (0, 0);
                    for piece in cut(ty, n, Cut { pixels: 1, channels: true }) {
                        let (Piece::Pixels(range) | Piece::Channels(range)) = piece.clone();
                        assert!(range.start == next && range.end > next, "{ty} {piece:?}");
                        assert!(
                            piece.first_word(ty) >= words && piece.first_word(ty) < ty.arena_words().max(1)
                        );
                        if !matches!(dtype, DType::Bits(_)) {
                            let elements = match &piece {
                                Piece::Pixels(p) => p.start * shape.c,
                                Piece::Channels(c) => c.start,
                            };
                            assert_eq!(elements * element_bytes(dtype) % 8, 0, "{ty} in {n}");
                        }
                        (next, words) = (range.end, piece.first_word(ty));
                    }
                    assert!(next == shape.pixels() || next == shape.c && shape.pixels() == 1);
                }
            }
        }
    }
}
