//! Reading rows of values and writing them, whatever their layout.

use crate::codegen::build::Body;
use crate::codegen::ir::*;
use crate::codegen::plan::{Layout, Needs, Repr, Value};
use onebit_core::Shape;

/// The rows of a value that one row of a stage reads.
pub struct Rows {
    pub buffer: BufferId,
    pub shape: Shape,
    pub repr: Repr,
    pub layout: Layout,
    /// Units from a row to the next.
    pub units: usize,
    /// Rows that are kept; fewer than the map's where `ring` is set.
    kept: usize,
    ring: bool,
    /// First row of the window in the map; may lie in the padding.
    y: Expr,
    /// First row of the window in memory.
    slot: Expr,
}

impl Rows {
    /// The rows of `value` that row `row` of the output needs; `slot` is where the first lies in a ring.
    pub fn new(buffer: BufferId, value: &Value, needs: Needs, row: Expr, slot: Option<Expr>) -> Self {
        let y = row * Expr::int(needs.stride) + Expr::int(needs.first);
        Rows {
            buffer,
            shape: value.shape,
            repr: value.repr,
            layout: value.layout,
            units: value.row_units(),
            kept: value.rows,
            ring: slot.is_some(),
            slot: slot.unwrap_or_else(|| y.clone()),
            y,
        }
    }
    /// Whether rows take turns in memory.
    pub fn is_ring(&self) -> bool {
        self.ring
    }
    /// Whether row `k` of the window lies in the map: 1 or 0.
    pub fn has_row(&self, k: &Expr) -> Expr {
        inside(self.y.clone() + k.clone(), self.shape.h)
    }
    /// First unit of row `k` of the window, which lies in the map.
    pub fn row(&self, k: Expr) -> Expr {
        let slot = self.slot.clone() + k;
        let kept = Expr::int(self.kept);
        let slot = match self.ring {
            true => slot.clone().ge(kept.clone()).select(slot.clone() - kept, slot),
            false => slot,
        };
        slot.within(0, self.kept as i64 - 1) * Expr::int(self.units)
    }
    /// Element `(x, c)` of the row that begins at unit `row`.
    pub fn element(&self, b: &Body<'_>, row: Expr, x: Expr, c: Expr) -> Expr {
        match self.layout {
            Layout::Numbers(kind) => {
                let value = b.load(self.buffer, row + x * Expr::int(self.shape.c) + c);
                match self.repr {
                    Repr::Int { lo, hi } => value.within(lo, hi),
                    _ if kind == Kind::F32 => value,
                    _ => value.within(-1, 1),
                }
            }
            Layout::Bits { .. } => self.bit(b, row, x, c) * Expr::int(2) + Expr::int(-1),
        }
    }
    /// The bit of element `(x, c)`, 0 or 1.
    pub fn bit(&self, b: &Body<'_>, row: Expr, x: Expr, c: Expr) -> Expr {
        let Layout::Bits { pixel, unit } = self.layout else {
            return self.element(b, row, x, c).ge(Expr::int(0));
        };
        let (bits, log) = (8 * unit.bytes() as i64, (8 * unit.bytes()).trailing_zeros());
        let at = x * Expr::int(pixel) + c;
        let word = b.load_word(self.buffer, row + (at.clone() >> Expr::int(log)));
        let bit = (word >> (at & Expr::int(bits - 1))) & Expr::word(1);
        b.convert(bit, Ty::Int).within(0, 1)
    }
}

/// Whether `0 <= i < size`.
pub fn inside(i: Expr, size: usize) -> Expr {
    i.clone().ge(Expr::int(0)) & i.lt(Expr::int(size))
}

/// The row that a stage writes.
pub struct Sink {
    pub buffer: BufferId,
    pub shape: Shape,
    pub layout: Layout,
    /// Its first unit.
    pub row: Expr,
}

/// How bits meet those that are in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Meet {
    /// They replace them.
    Store,
    /// Either is set.
    Or,
}

impl Sink {
    /// The row in `slot`.
    pub fn new(buffer: BufferId, value: &Value, slot: Expr) -> Self {
        let row = slot * Expr::int(value.row_units());
        Sink { buffer, shape: value.shape, layout: value.layout, row }
    }
    /// Whether elements are written as bits.
    pub fn is_bits(&self) -> bool {
        matches!(self.layout, Layout::Bits { .. })
    }
    /// Units of a pixel of bits.
    pub fn pixel_units(&self) -> usize {
        match self.layout {
            Layout::Bits { pixel, unit } => pixel.div_ceil(8 * unit.bytes()),
            Layout::Numbers(_) => self.shape.c,
        }
    }
    /// Writes pixel `x`. `element(b, c)` is the number of channel `c`, or for bits 0 or 1.
    pub fn pixel(
        &self,
        b: &mut Body<'_>,
        x: Expr,
        meet: Meet,
        mut element: impl FnMut(&mut Body<'_>, Expr) -> Expr,
    ) {
        let c = self.shape.c;
        let Layout::Bits { pixel, unit } = self.layout else {
            b.repeat("c", c, |b, channel| {
                let value = element(b, channel.clone());
                let float = b.program.buffers[self.buffer].kind == Kind::F32;
                let value = if float { b.convert(value, Ty::Float) } else { value };
                b.store(self.buffer, self.row.clone() + x * Expr::int(c) + channel, value);
            });
            return;
        };
        let bits = 8 * unit.bytes();
        if pixel == 1 {
            // The bits of a row fill units one by one.
            let (log, mask) = (Expr::int(bits.trailing_zeros()), Expr::int(bits - 1));
            let at = b.name("at", self.row.clone() + (x.clone() >> log));
            let place = b.name("place", x & mask);
            let bit = element(b, Expr::int(0));
            let bit = b.convert(bit, Ty::Word) << place.clone();
            let there = b.load_word(self.buffer, at.clone());
            let there = match meet {
                Meet::Store => place.equals(Expr::int(0)).select(Expr::word(0), there),
                Meet::Or => there,
            };
            b.store(self.buffer, at, there | bit);
            return;
        }
        let units = pixel / bits;
        let at = b.name("at", self.row.clone() + x * Expr::int(units));
        b.repeat("unit", units, |b, unit| {
            // Bits come in from the top, so that none is shifted by a variable.
            let word = b.variable("bits", Expr::word(0));
            b.repeat("c", bits, |b, i| {
                b.set(&word, word.clone() >> Expr::int(1));
                let channel = unit.clone() * Expr::int(bits) + i;
                b.when(channel.clone().lt(Expr::int(c)), |b| {
                    let bit = element(b, channel.within(0, c as i64 - 1));
                    b.when(bit, |b| b.set(&word, word.clone() | Expr::word(1 << (bits - 1))));
                });
            });
            let at = at.clone() + unit;
            let value = match meet {
                Meet::Store => word,
                Meet::Or => b.load_word(self.buffer, at.clone()) | word,
            };
            b.store(self.buffer, at, value);
        });
    }
}
