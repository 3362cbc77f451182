//! Convolutions and dense layers of bits by bits: the window of a pixel is gathered into words once, and every filter counts
//! the bits in which it differs: `sum = bits - 2 * mismatches`.
//!
//! A bit of the output is then one comparison of mismatches: where it falls as the sum rises, the filter is stored negated.

use super::Scope;
use super::access::{Rows, inside};
use super::pooled::{Pooled, conv};
use super::transform::{Transform, flips};
use crate::codegen::build::Body;
use crate::codegen::ir::*;
use crate::codegen::plan::Layout;
use onebit_core::model::Node as Layer;
use onebit_core::ops::BConv2d;
use onebit_core::{DType, Shape};

/// Most units that are gathered without loops.
const UNROLLED: usize = 40;

/// A layer of this kind.
pub struct Binary {
    conv: BConv2d,
    pooled: Pooled,
    /// Bits of a pixel of the input.
    pixel: usize,
    input: Shape,
}

impl Binary {
    /// Whether the layer is one: bits by bits, without groups.
    pub fn new(scope: &Scope<'_>, pool: Option<&Layer<'_>>, input: Shape) -> Option<Self> {
        let conv = conv(scope.layer, input)?;
        let is_bit = scope.layer.params.weight.as_ref()?.as_bits()?.0.is_bit();
        let Layout::Bits { pixel, .. } = scope.inputs[0].layout else { return None };
        if !is_bit || conv.groups != 1 {
            return None;
        }
        let pooled = Pooled::new(pool, scope.sink.shape.c);
        Some(Binary { conv, pooled, pixel, input })
    }

    fn taps(&self) -> usize {
        self.conv.window.taps()
    }
    /// Padding that is left out.
    fn is_masked(&self) -> bool {
        self.conv.pad_value == 0 && self.conv.window.pad != [0; 4]
    }

    /// Writes the function.
    pub fn lower(&self, b: &mut Body<'_>, scope: &Scope<'_>) -> Result<(), String> {
        let (x, sink, params) = (&scope.inputs[0], &scope.sink, &scope.layer.params);
        let name = b.function_name().to_owned();
        let (word, n) = (b.program.word, sink.shape.c);
        let words = (self.taps() * self.pixel).div_ceil(word);
        let total = (self.taps() * self.input.c) as i64;
        let one_bit = self.conv.output == DType::BIT && sink.is_bits();
        // Filters, negated where the bit falls as the sum rises.
        let flip = flips(params, n);
        let negate: Vec<bool> = (0..n).map(|c| one_bit && flip[c] != self.pooled.minimum[c]).collect();
        let weights = self.weights(b, scope, words, &negate)?;
        let weights =
            b.program.table(&format!("{name}_weights"), Kind::unsigned(word), Constants::Int(weights));
        let limits = match params.thresholds.as_ref().and_then(|t| t.as_i32()) {
            Some(t) if one_bit => {
                // `sum >= t`, or `-sum >= 1 - t`.
                let t =
                    t.iter().zip(&negate).map(|(t, n)| if *n { 1 - i64::from(*t) } else { i64::from(*t) });
                let limit = |t: i64| match self.is_masked() {
                    true => t.clamp(-total, total + 1),
                    false => ((total - t).div_euclid(2) + 1).clamp(0, total + 1),
                };
                Some(b.program.integers(&format!("{name}_limits"), t.map(limit).collect()))
            }
            _ => None,
        };
        let transform = match limits {
            Some(_) => Transform::Same,
            None => Transform::new(b, &name, self.conv.output, params, Some((-total, total)), sink.layout)?,
        };
        let direct = self.direct(b, x);
        let patch = match direct {
            Some(view) => view,
            None => b.array("window", Kind::unsigned(word), words),
        };
        let mask = self.is_masked().then(|| b.array("mask", Kind::unsigned(word), words));
        if direct.is_some() {
            let (used, kind) = (x.units * x.shape.h, &b.program.buffers[x.buffer]);
            for unit in used..kind.len {
                b.store(x.buffer, Expr::int(unit), Expr::int(0));
            }
        }
        self.pooled.pixels(b, scope, |b, place, meet| {
            let [ox, ..] = place.clone();
            let valid = match direct {
                Some(_) => None,
                None => self.gather(b, x, place, (patch, mask, words)),
            };
            sink.pixel(b, ox, meet, |b, c| {
                let from = c.clone() * Expr::int(words);
                let differ = b.mismatches(patch, weights, from, words, mask).within(0, total);
                let sum = match &valid {
                    Some(valid) => valid.clone() - Expr::int(2) * differ.clone(),
                    None => Expr::int(total) - Expr::int(2) * differ.clone(),
                }
                .within(-total, total);
                match limits {
                    Some(t) if mask.is_some() => sum.ge(b.constant(t, c)),
                    Some(t) => differ.lt(b.constant(t, c)),
                    None => transform.apply(b, sum, c, sink.is_bits()),
                }
            });
        });
        Ok(())
    }

    /// Filters as words, bits in the order of [`Binary::gather`].
    fn weights(
        &self,
        b: &Body<'_>,
        scope: &Scope<'_>,
        words: usize,
        negate: &[bool],
    ) -> Result<Vec<i64>, String> {
        let weight = scope.layer.params.weight.as_ref().ok_or("has no weight")?;
        let values = weight.to_i32().ok_or("has weights that are not bits")?;
        let (word, c) = (b.program.word, self.input.c);
        let mut packed = vec![0i64; negate.len() * words];
        for (n, row) in values.chunks_exact(weight.cols).enumerate().take(negate.len()) {
            for (i, w) in row.iter().enumerate().filter(|(_, w)| (**w > 0) != negate[n]) {
                debug_assert!(w.abs() == 1);
                let at = i / c * self.pixel + i % c;
                packed[n * words + at / word] |= 1 << (at % word);
            }
        }
        Ok(packed)
    }

    /// The input as words, where its bits lie as the window has them.
    fn direct(&self, b: &mut Body<'_>, x: &Rows) -> Option<BufferId> {
        let whole = self.conv.window.covers(self.input) && !x.layout.is_dense();
        let buffer = b.program.buffers[x.buffer].clone();
        let bytes = buffer.len * buffer.kind.bytes();
        let (word, wide) = (Kind::unsigned(b.program.word), b.program.word / 8);
        if !whole || x.is_ring() || !matches!(buffer.place, Place::Scratch(_)) || !bytes.is_multiple_of(wide)
        {
            return None;
        }
        if buffer.kind == word {
            return Some(x.buffer);
        }
        Some(b.program.buffer(&format!("{}_words", buffer.name), buffer.place, word, bytes / wide))
    }

    /// Fills the patch with the window of output `(x, down, right)`, and the mask. Returns the number of elements that count
    /// where padding is left out.
    fn gather(
        &self,
        b: &mut Body<'_>,
        x: &Rows,
        [ox, down, right]: [Expr; 3],
        (patch, mask, words): (BufferId, Option<BufferId>, usize),
    ) -> Option<Expr> {
        let w = &self.conv.window;
        let [kh, kw] = w.kernel;
        let unit = if x.layout.is_dense() { 1 } else { 8 * x.layout.kind().bytes() };
        let per_pixel = self.pixel / unit;
        let step = self.pooled.step();
        let left = (ox * Expr::int(step) + right) * Expr::int(w.stride[1]) + Expr::int(-(w.pad[1] as i64));
        let left = b.name("left", left);
        let top = down * Expr::int(w.stride[0]);
        let (word, log) = (b.program.word, b.program.word.trailing_zeros());
        if w.pad == [0; 4] && !x.layout.is_dense() && self.taps() * per_pixel <= UNROLLED {
            let mut parts: Vec<Expr> = vec![Expr::word(0); words];
            for ky in 0..kh {
                let row = x.row(top.clone() + Expr::int(ky * w.dilation[0]));
                let line = b.name("line", row + left.clone() * Expr::int(per_pixel));
                for (kx, u) in (0..kw).flat_map(|kx| (0..per_pixel).map(move |u| (kx, u))) {
                    let at = (ky * kw + kx) * self.pixel + u * unit;
                    let index = line.clone() + Expr::int(kx * w.dilation[1] * per_pixel + u);
                    let part = b.load_word(x.buffer, index) << Expr::int(at % word);
                    parts[at / word] = parts[at / word].clone() | part;
                }
            }
            for (i, part) in parts.into_iter().enumerate() {
                b.store(patch, Expr::int(i), part);
            }
            return None;
        }
        let whole_units = unit == word;
        if !whole_units {
            b.repeat("i", words, |b, i| {
                b.store(patch, i.clone(), Expr::word(0));
                if let Some(mask) = mask {
                    b.store(mask, i, Expr::word(0));
                }
            });
        }
        let total = (self.taps() * self.input.c) as i64;
        let valid = mask.map(|_| b.counter("valid", Expr::int(0), 0, total));
        b.repeat("ky", kh, |b, ky| {
            let k = top.clone() + ky.clone() * Expr::int(w.dilation[0]);
            let has_row = b.name("has_row", x.has_row(&k));
            let row = b.name("line", has_row.clone().select(x.row(k), Expr::int(0)));
            b.repeat("kx", kw, |b, kx| {
                let column = b.name("column", left.clone() + kx.clone() * Expr::int(w.dilation[1]));
                let there = b.name("there", has_row.clone() & inside(column.clone(), self.input.w));
                if let Some(valid) = &valid {
                    b.when(there.clone(), |b| {
                        b.set(valid, (valid.clone() + Expr::int(self.input.c)).within(0, total))
                    });
                }
                let tap = ky * Expr::int(kw) + kx;
                b.repeat("u", per_pixel, |b, u| {
                    let ones = self.ones(b, &u, unit);
                    let padding = if self.conv.pad_value == 1 { ones.clone() } else { Expr::word(0) };
                    let bits = if there.constant().is_some() {
                        self.unit(b, x, &row, &column, &u, per_pixel)
                    } else {
                        let bits = b.variable("bits", padding);
                        let value =
                            self.unit(b, x, &row, &column.within(0, self.input.w as i64 - 1), &u, per_pixel);
                        b.when(there.clone(), |b| b.set(&bits, value));
                        bits
                    };
                    let at = tap.clone() * Expr::int(per_pixel) + u;
                    if whole_units {
                        b.store(patch, at.clone(), bits);
                        if let Some(mask) = mask {
                            b.store(mask, at, there.select(ones, Expr::word(0)));
                        }
                        return;
                    }
                    let at = b.name("at", at * Expr::int(unit));
                    let (index, shift) = (at.clone() >> Expr::int(log), at & Expr::int(word - 1));
                    let put = |b: &mut Body<'_>, to: BufferId, bits: Expr| {
                        let value = b.load_word(to, index.clone()) | (bits << shift.clone());
                        b.store(to, index.clone(), value);
                    };
                    put(b, patch, bits);
                    if let Some(mask) = mask {
                        put(b, mask, there.select(ones, Expr::word(0)));
                    }
                });
            });
        });
        valid
    }

    /// Unit `u` of a pixel of the input; for dense rows a bit.
    fn unit(&self, b: &Body<'_>, x: &Rows, row: &Expr, column: &Expr, u: &Expr, per_pixel: usize) -> Expr {
        if x.layout.is_dense() {
            let bit = x.bit(b, row.clone(), column.clone(), u.clone());
            return b.convert(bit, Ty::Word);
        }
        b.load_word(x.buffer, row.clone() + column.clone() * Expr::int(per_pixel) + u.clone())
    }

    /// The bits of unit `u` that are channels.
    fn ones(&self, _b: &Body<'_>, u: &Expr, unit: usize) -> Expr {
        let ones = |bits: usize| Expr::word(if bits >= 32 { u32::MAX } else { (1 << bits) - 1 });
        let (units, last) = (self.pixel / unit, self.input.c - (self.pixel / unit - 1) * unit);
        u.clone().equals(Expr::int(units - 1)).select(ones(last), ones(unit))
    }
}
