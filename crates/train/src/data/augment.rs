//! Random changes of training pictures, decided by seed, epoch and picture alone.
//!
//! Pictures are changed as bytes and stay bytes: shifts and mirrors move pixels, everything else is interpolated between four
//! pixels and rounded. All moves of a picture are one move, so that it is interpolated once.

use super::random::{Purpose, Random};
use onebit::core::types::Shape;
use onebit::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which changes. All are drawn anew for each picture and epoch; 0 and `false` mean none. What comes in from outside and
/// what is blanked has the mean pixel if the network subtracts one, else 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Moves by up to this many whole pixels along each axis.
    pub shift: usize,
    /// Mirrors every second picture left to right.
    pub flip: bool,
    /// Turns by up to this many degrees either way.
    pub rotate: f32,
    /// Grows or shrinks by up to this share.
    pub scale: f32,
    /// Bends by up to this many pixels (Simard, Steinkraus and Platt 2003); most pixels move by less than half of that.
    pub elastic: f32,
    /// Side of a square that is blanked around a random pixel (Cutout, DeVries and Taylor 2017).
    pub cutout: usize,
}

/// Which numbers decide the changes of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the epoch.
    pub epoch: usize,
    /// Index of the picture in its [`Source`](super::Source).
    pub picture: usize,
}

impl Augment {
    /// True if pictures stay as they are.
    pub fn is_none(&self) -> bool {
        *self == Augment::default()
    }

    /// Looks whether the numbers make sense.
    ///
    /// # Errors
    /// Names the number and its range.
    pub fn check(&self) -> Result<()> {
        let checks = [
            ((0.0..=180.0).contains(&self.rotate), "rotate must be from 0 to 180 degrees"),
            ((0.0..1.0).contains(&self.scale), "scale must be from 0 to below 1"),
            ((0.0..=1e4).contains(&self.elastic), "elastic must be from 0 to 10000 pixels"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, text)) => Err(Error::Input(format!("train.augment.{text}"))),
            None => Ok(()),
        }
    }

    /// Writes the changed picture `from` to `to`; both are `[h][w][c]` bytes of this shape, `fill` is a pixel of it.
    ///
    /// # Panics
    /// When `from`, `to` or `fill` have another length.
    pub fn apply(&self, change: Change, shape: Shape, fill: &[u8], from: &[u8], to: &mut [u8]) {
        let n = shape.elements();
        assert!(from.len() == n && to.len() == n && fill.len() == shape.c);
        if n == 0 {
            return;
        }
        // Always drawn in this order and number, so that one more kind of change leaves the others as they were.
        let mut random =
            Random::of(Purpose::Augment, &[change.seed, change.epoch as u64, change.picture as u64]);
        let dy = random.within(self.shift.min(shape.h));
        let dx = random.within(self.shift.min(shape.w));
        let flip = random.below(2) == 1 && self.flip;
        let angle = random.symmetric() * self.rotate;
        let factor = 1.0 + random.symmetric() * self.scale;
        let hole = (random.below(shape.h), random.below(shape.w));
        let picture = Picture { shape, fill, from };
        if self.rotate == 0.0 && self.scale == 0.0 && self.elastic == 0.0 {
            picture.shifted(dy, dx, flip, to);
        } else {
            let bend = (self.elastic != 0.0).then(|| Bend::random(&mut random, shape, self.elastic));
            picture.warped(&Warp { dy, dx, flip, angle, factor, bend }, to);
        }
        if self.cutout > 0 {
            let (rows, columns) =
                (around(hole.0, self.cutout, shape.h), around(hole.1, self.cutout, shape.w));
            for row in to.chunks_exact_mut(shape.w * shape.c).take(rows.end).skip(rows.start) {
                picture.blank(&mut row[columns.start * shape.c..columns.end * shape.c]);
            }
        }
    }
}

/// The part of `0..end` that lies in `side` pixels around a centre.
fn around(centre: usize, side: usize, end: usize) -> std::ops::Range<usize> {
    let before = side / 2;
    centre.saturating_sub(before)..centre.saturating_add(side - before).min(end)
}

struct Picture<'a> {
    shape: Shape,
    fill: &'a [u8],
    from: &'a [u8],
}

/// Where pixels come from; `bend` is applied last.
struct Warp {
    dy: isize,
    dx: isize,
    flip: bool,
    angle: f32,
    factor: f32,
    bend: Option<Bend>,
}

impl Picture<'_> {
    fn blank(&self, to: &mut [u8]) {
        match self.fill {
            [byte] => to.fill(*byte),
            fill => to.chunks_exact_mut(fill.len()).for_each(|pixel| pixel.copy_from_slice(fill)),
        }
    }

    /// Mirrors, then moves by whole pixels.
    fn shifted(&self, dy: isize, dx: isize, flip: bool, to: &mut [u8]) {
        let Shape { h, w, c } = self.shape;
        // Columns `first..end` of the result are `first - dx..end - dx` of the mirrored picture.
        let (first, end) =
            (dx.clamp(0, w as isize) as usize, (w as isize + dx).clamp(0, w as isize) as usize);
        let source = (-dx).clamp(0, w as isize) as usize..(w as isize - dx).clamp(0, w as isize) as usize;
        for (y, to) in to.chunks_exact_mut(w * c).enumerate() {
            let row = usize::try_from(y as isize - dy).ok().filter(|y| *y < h);
            let Some(row) = row.map(|y| &self.from[y * w * c..(y + 1) * w * c]) else {
                self.blank(to);
                continue;
            };
            self.blank(&mut to[..first * c]);
            self.blank(&mut to[end * c..]);
            let to = &mut to[first * c..end * c];
            if !flip {
                to.copy_from_slice(&row[source.start * c..source.end * c]);
            } else {
                let mirrored = row[(w - source.end) * c..(w - source.start) * c].chunks_exact(c).rev();
                to.chunks_exact_mut(c).zip(mirrored).for_each(|(to, from)| to.copy_from_slice(from));
            }
        }
    }

    /// Mirrors, grows, turns, moves and bends.
    fn warped(&self, warp: &Warp, to: &mut [u8]) {
        let Shape { h, w, c } = self.shape;
        let (sin, cos) = warp.angle.to_radians().sin_cos();
        let (sin, cos) = (sin / warp.factor, cos / warp.factor);
        let centre = ((h as f32 - 1.0) / 2.0, (w as f32 - 1.0) / 2.0);
        let mirror = if warp.flip { -1.0 } else { 1.0 };
        let framed = self.framed();
        for (y, to) in to.chunks_exact_mut(w * c).enumerate() {
            let bend = warp.bend.as_ref().map(|b| (b, b.row(y)));
            let v = y as f32 - centre.0 - warp.dy as f32;
            for (x, to) in to.chunks_exact_mut(c).enumerate() {
                let u = x as f32 - centre.1 - warp.dx as f32;
                let (mut down, mut right) =
                    (cos * v - sin * u + centre.0, (cos * u + sin * v) * mirror + centre.1);
                if let Some((bend, row)) = &bend {
                    let [more_down, more_right] = bend.at(row, x);
                    down += more_down;
                    right += more_right;
                }
                self.between(&framed, down, right, to);
            }
        }
    }

    /// The picture in a frame of one pixel before and two after it along both axes, so that four pixels around any place
    /// from -1 to the end are in it.
    fn framed(&self) -> Vec<u8> {
        let Shape { h, w, c } = self.shape;
        let row = (w + 3) * c;
        let mut framed = vec![0; (h + 3) * row];
        self.blank(&mut framed);
        for (to, from) in framed.chunks_exact_mut(row).skip(1).zip(self.from.chunks_exact(w * c)) {
            to[c..c + w * c].copy_from_slice(from);
        }
        framed
    }

    /// The pixel between the four around a place, rounded.
    #[inline]
    fn between(&self, framed: &[u8], down: f32, right: f32, to: &mut [u8]) {
        let Shape { h, w, c } = self.shape;
        // In the frame no place is negative, so that truncation is the floor; further out all is the same.
        let (down, right) = (down.clamp(-1.0, h as f32) + 1.0, right.clamp(-1.0, w as f32) + 1.0);
        let (top, left) = (down as i32, right as i32);
        let (b, r) = (down - top as f32, right - left as f32);
        let first = (top as usize * (w + 3) + left as usize) * c;
        let upper = &framed[first..][..2 * c];
        let lower = &framed[first + (w + 3) * c..][..2 * c];
        for (i, to) in to.iter_mut().enumerate() {
            let [p, q, s, t] = [upper[i], upper[c + i], lower[i], lower[c + i]].map(f32::from);
            let (upper, lower) = (p + r * (q - p), s + r * (t - s));
            // Truncating what is half above is rounding; the value is between bytes.
            *to = (upper + b * (lower - upper) + 0.5) as u8;
        }
    }
}

/// Cells of a picture along each axis whose corners move.
const CELLS: usize = 4;
/// Corners that act on the cells along an axis: a cubic spline reads one more on either side.
const CORNERS: usize = CELLS + 3;

/// Smooth random moves: corners of a grid move at random, pixels between them follow by uniform cubic B-splines. The weights
/// are positive and sum to 1, so nothing moves further than the corners. For 28 x 28 pixels this is about as smooth as
/// Simard's Gaussian of 4 pixels, at a fraction of the cost.
struct Bend {
    corners: [[[f32; 2]; CORNERS]; CORNERS],
    rows: Vec<(usize, [f32; 4])>,
    columns: Vec<(usize, [f32; 4])>,
}

impl Bend {
    fn random(random: &mut Random, shape: Shape, most: f32) -> Self {
        let corners = std::array::from_fn(|_| {
            std::array::from_fn(|_| [random.symmetric() * most, random.symmetric() * most])
        });
        Bend { corners, rows: splines(shape.h), columns: splines(shape.w) }
    }

    /// The moves of the corners, blended for row `y`.
    fn row(&self, y: usize) -> [[f32; 2]; CORNERS] {
        let (first, weights) = &self.rows[y];
        std::array::from_fn(|x| {
            let mut sum = [0.0; 2];
            for (weight, corners) in weights.iter().zip(&self.corners[*first..]) {
                sum[0] += weight * corners[x][0];
                sum[1] += weight * corners[x][1];
            }
            sum
        })
    }

    /// How far column `x` of a row moves down and right.
    fn at(&self, row: &[[f32; 2]; CORNERS], x: usize) -> [f32; 2] {
        let (first, weights) = &self.columns[x];
        let mut sum = [0.0; 2];
        for (weight, corner) in weights.iter().zip(&row[*first..]) {
            sum[0] += weight * corner[0];
            sum[1] += weight * corner[1];
        }
        sum
    }
}

/// For each of `n` pixels the first corner that acts on it, and the weights of four.
fn splines(n: usize) -> Vec<(usize, [f32; 4])> {
    let weights = |i: usize| {
        let at = (i as f32 + 0.5) * CELLS as f32 / n as f32;
        let cell = (at as usize).min(CELLS - 1);
        let t = at - cell as f32;
        let (t2, t3, s) = (t * t, t * t * t, 1.0 - t);
        let weights = [s * s * s, 3.0 * t3 - 6.0 * t2 + 4.0, -3.0 * t3 + 3.0 * t2 + 3.0 * t + 1.0, t3];
        (cell, weights.map(|w| w / 6.0))
    };
    (0..n).map(weights).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const STILL: Warp = Warp { dy: 0, dx: 0, flip: false, angle: 0.0, factor: 1.0, bend: None };

    fn change(epoch: usize, picture: usize) -> Change {
        Change { seed: 7, epoch, picture }
    }

    fn warped(shape: Shape, from: &[u8], warp: Warp) -> Vec<u8> {
        let mut to = vec![0; from.len()];
        Picture { shape, fill: &vec![100; shape.c], from }.warped(&warp, &mut to);
        to
    }

    #[test]
    fn shifts_and_mirrors_move_whole_pixels() {
        let shape = Shape::new(2, 3, 2);
        let from: Vec<u8> = (1..=12).collect();
        let moved = |dy, dx, flip| {
            let mut to = vec![0; 12];
            Picture { shape, fill: &[50, 60], from: &from }.shifted(dy, dx, flip, &mut to);
            to
        };
        assert_eq!(moved(0, 0, false), from);
        assert_eq!(moved(1, 0, false), [50, 60, 50, 60, 50, 60, 1, 2, 3, 4, 5, 6]);
        assert_eq!(moved(0, -1, false), [3, 4, 5, 6, 50, 60, 9, 10, 11, 12, 50, 60]);
        assert_eq!(moved(0, 0, true), [5, 6, 3, 4, 1, 2, 11, 12, 9, 10, 7, 8]);
        assert_eq!(moved(-1, 2, true), [50, 60, 50, 60, 11, 12, 50, 60, 50, 60, 50, 60]);
        for (dy, dx) in [(2, 0), (0, 3), (-2, -3)] {
            assert_eq!(moved(dy, dx, true), [50, 60].repeat(6));
        }
    }

    #[test]
    fn every_shift_and_mirror_occurs_and_nothing_else() {
        let shape = Shape::new(4, 5, 1);
        let from: Vec<u8> = (1..=20).collect();
        let augment = Augment { shift: 1, flip: true, ..Augment::default() };
        let mut expected = BTreeSet::new();
        for (dy, dx) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dy, dx))) {
            for flip in [false, true] {
                let pixel = |y: isize, x: isize| {
                    let (y, x) = (y - dy, x - dx);
                    let x = if flip { 4 - x } else { x };
                    let inside = (0..4).contains(&y) && (0..5).contains(&x);
                    if inside { from[(y * 5 + x) as usize] } else { 9 }
                };
                expected.insert((0..20).map(|i| pixel(i / 5, i % 5)).collect::<Vec<u8>>());
            }
        }
        let mut seen = BTreeSet::new();
        for i in 0..400 {
            let mut to = vec![0; 20];
            augment.apply(change(i / 100, i % 100), shape, &[9], &from, &mut to);
            seen.insert(to);
        }
        assert_eq!(seen, expected);
    }

    #[test]
    fn turns_and_sizes_of_hand_made_pictures() {
        let shape = Shape::new(3, 3, 1);
        let from = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(warped(shape, &from, STILL), from);
        assert_eq!(warped(shape, &from, Warp { angle: 90.0, ..STILL }), [7, 4, 1, 8, 5, 2, 9, 6, 3]);
        assert_eq!(warped(shape, &from, Warp { flip: true, ..STILL }), [3, 2, 1, 6, 5, 4, 9, 8, 7]);
        let moved = warped(shape, &from, Warp { dy: 1, dx: 1, ..STILL });
        assert_eq!(moved, [100, 100, 100, 100, 1, 2, 100, 4, 5]);
        // Twice as large: pixels half way between those of the picture, halves rounded up.
        let grown = warped(shape, &from, Warp { factor: 2.0, ..STILL });
        assert_eq!(grown, [3, 4, 4, 5, 5, 6, 6, 7, 7]);
        let shrunk = warped(shape, &from, Warp { factor: 0.5, ..STILL });
        assert_eq!(shrunk, [100, 100, 100, 100, 5, 100, 100, 100, 100]);
        let colours = warped(Shape::new(1, 2, 2), &[0, 10, 20, 30], Warp { flip: true, ..STILL });
        assert_eq!(colours, [20, 30, 0, 10]);
    }

    #[test]
    fn bends_move_pixels_by_no_more_than_asked() {
        let shape = Shape::new(1, 4, 1);
        let corners = [[[0.0, 0.5]; CORNERS]; CORNERS];
        let bend = Bend { corners, rows: splines(1), columns: splines(4) };
        // All corners half a pixel to the right; what comes in is 100.
        let halves = warped(shape, &[0, 10, 20, 40], Warp { bend: Some(bend), ..STILL });
        assert_eq!(halves, [5, 15, 30, 70]);
        let mut random = Random::of(Purpose::Augment, &[1]);
        let mut largest = 0f32;
        for _ in 0..50 {
            let bend = Bend::random(&mut random, Shape::new(28, 20, 1), 3.0);
            for y in 0..28 {
                let row = bend.row(y);
                let moves = (0..20).flat_map(|x| bend.at(&row, x));
                largest = moves.fold(largest, |most, v| most.max(v.abs()));
            }
        }
        assert!((1.0..=3.0).contains(&largest), "{largest}");
    }

    #[test]
    fn squares_are_blanked_around_a_pixel() {
        let shape = Shape::new(6, 6, 1);
        let augment = Augment { cutout: 3, ..Augment::default() };
        let mut blanked = BTreeSet::new();
        for i in 0..300 {
            let mut to = vec![0; 36];
            augment.apply(change(0, i), shape, &[7], &[1; 36], &mut to);
            let hole: Vec<usize> = (0..36).filter(|i| to[*i] == 7).collect();
            let side = |of: fn(usize) -> usize| hole.iter().map(|i| of(*i)).collect::<BTreeSet<_>>().len();
            let (rows, columns) = (side(|i| i / 6), side(|i| i % 6));
            assert_eq!(hole.len(), rows * columns);
            assert!((2..=3).contains(&rows) && (2..=3).contains(&columns));
            blanked.insert(hole);
        }
        assert_eq!(blanked.len(), 36);
        let mut to = vec![0; 36];
        Augment { cutout: usize::MAX, ..augment }.apply(change(0, 0), shape, &[7], &[1; 36], &mut to);
        assert_eq!(to, [7; 36]);
    }

    #[test]
    fn changes_depend_on_seed_epoch_and_picture() {
        let shape = Shape::new(16, 16, 3);
        let from: Vec<u8> = (0..shape.elements()).map(|i| (i * 37 % 251) as u8).collect();
        let augment =
            Augment { shift: 2, flip: true, rotate: 20.0, scale: 0.2, elastic: 2.0, ..Augment::default() };
        let all: BTreeSet<Vec<u8>> = (0..8)
            .map(|i| {
                let mut to = vec![0; from.len()];
                let change = Change { seed: i & 1, epoch: (i >> 1 & 1) as usize, picture: (i >> 2) as usize };
                augment.apply(change, shape, &[1, 2, 3], &from, &mut to);
                let mut again = vec![0; from.len()];
                augment.apply(change, shape, &[1, 2, 3], &from, &mut again);
                assert_eq!(to, again);
                to
            })
            .collect();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn senseless_numbers_are_refused() {
        for (bad, name) in [
            (Augment { rotate: f32::NAN, ..Augment::default() }, "rotate"),
            (Augment { scale: 1.0, ..Augment::default() }, "scale"),
            (Augment { elastic: -1.0, ..Augment::default() }, "elastic"),
        ] {
            assert!(bad.check().unwrap_err().to_string().contains(name));
        }
        assert!(Augment { shift: usize::MAX / 4, rotate: 180.0, ..Augment::default() }.check().is_ok());
        let mut to = vec![0; 4];
        let far = Augment { shift: usize::MAX, ..Augment::default() };
        far.apply(change(0, 0), Shape::new(2, 2, 1), &[3], &[1; 4], &mut to);
    }
}
