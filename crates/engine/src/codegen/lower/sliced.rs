//! Convolutions of one channel of bits, a word of columns at a time: bit `x` of a word belongs to output column `x`.
//!
//! For each row of the window and up to three neighbouring taps, the mismatches of every pattern of weights are two words,
//! computed once for all filters. A filter adds the words of its patterns as bit-sliced counters, compares them with its
//! limit by as many operations as they have bits, and pools by OR of shifted words. At the end channels by columns become
//! columns by channels (a transposition, Warren, Hacker's Delight 7-3).

use super::Scope;
use super::access::Rows;
use super::pooled::{Pooled, conv};
use super::transform::flips;
use crate::codegen::build::Body;
use crate::codegen::ir::*;
use crate::codegen::plan::Layout;
use onebit_core::DType;
use onebit_core::Shape;
use onebit_core::model::Node as Layer;
use onebit_core::ops::Window;

/// Most words of patterns that are kept on the stack.
const MOST_PATTERNS: usize = 160;
/// Taps whose mismatches are looked up together.
const TOGETHER: usize = 3;

/// A layer of this kind.
pub struct Sliced {
    kernel: [usize; 2],
    pool: Window,
    pooled: Pooled,
    width: usize,
}

/// A sum of words of one weight, as names.
type Columns = Vec<Vec<Expr>>;

impl Sliced {
    /// Whether the layer is one.
    pub fn new(scope: &Scope<'_>, pool: Option<&Layer<'_>>, input: Shape, word: usize) -> Option<Self> {
        let conv = conv(scope.layer, input)?;
        let w = conv.window;
        let pooled = Pooled::new(pool, scope.sink.shape.c);
        let pool = pooled.window.unwrap_or(Window::square(1, 1, 0));
        let Layout::Bits { pixel: 1, .. } = scope.inputs[0].layout else { return None };
        let Layout::Bits { pixel, .. } = scope.sink.layout else { return None };
        let plain =
            w.stride == [1; 2] && w.dilation == [1; 2] && w.pad == [0; 4] && conv.output == DType::BIT;
        let is_bit = scope.layer.params.weight.as_ref()?.as_bits()?.0.is_bit();
        // Windows of the pool must not lie across words.
        let fits = input.w <= word || word.is_multiple_of(pool.stride[1]);
        let sliced = Sliced { kernel: w.kernel, pool, pooled, width: input.w };
        let [kh, kw] = w.kernel;
        let rows = (pool.kernel[0] - 1) + kh;
        let most = if word == 8 { 16 } else { 32 };
        let small = kw < word.min(16) && kh * kw <= most && rows * sliced.row_words() <= MOST_PATTERNS;
        (plain && is_bit && fits && small && pixel > 1 && input.w - kw + 1 >= 6).then_some(sliced)
    }

    /// Taps of each group of a row of the window.
    fn groups(&self) -> Vec<usize> {
        let kw = self.kernel[1];
        (0..kw).step_by(TOGETHER).map(|k| TOGETHER.min(kw - k)).collect()
    }
    /// Words of the patterns of `taps` taps: two for each, but one for a single tap.
    fn planes(taps: usize) -> usize {
        if taps == 1 { 1 } else { 2 }
    }
    /// Words of the patterns of a row.
    fn row_words(&self) -> usize {
        self.groups().iter().map(|taps| Self::planes(*taps) << taps).sum()
    }

    /// Writes the function.
    pub fn lower(&self, b: &mut Body<'_>, scope: &Scope<'_>) -> Result<(), String> {
        let (x, sink, params) = (&scope.inputs[0], &scope.sink, &scope.layer.params);
        let name = b.function_name().to_owned();
        let (word, n) = (b.program.word, sink.shape.c);
        let kind = Kind::unsigned(word);
        let [kh, kw] = self.kernel;
        let total = (kh * kw) as i64;
        let flip = flips(params, n);
        let negate: Vec<bool> = (0..n).map(|c| flip[c] != self.pooled.minimum[c]).collect();
        let weight = params.weight.as_ref().ok_or("has no weight")?;
        let values = weight.to_i32().ok_or("has weights that are not bits")?;
        let pack = |(c, row): (usize, &[i32])| {
            row.iter().enumerate().fold(0, |w, (i, v)| w | i64::from((*v > 0) != negate[c]) << i)
        };
        let weights: Vec<i64> = values.chunks_exact(kh * kw).enumerate().map(pack).collect();
        let bits = match kh * kw {
            0..=8 => 8,
            9..=16 => 16,
            _ => 32,
        };
        let weights =
            b.program.table(&format!("{name}_weights"), Kind::unsigned(bits), Constants::Int(weights));
        let thresholds = params.thresholds.as_ref().and_then(|t| t.as_i32()).ok_or("has no thresholds")?;
        let limit = |(t, negate): (&i32, &bool)| {
            let t = if *negate { 1 - i64::from(*t) } else { i64::from(*t) };
            ((total - t).div_euclid(2) + 1).clamp(0, total + 1)
        };
        let limits = thresholds.iter().zip(&negate).map(limit).collect();
        let limits = b.program.integers(&format!("{name}_limits"), limits);
        let rows = self.pool.kernel[0] - 1 + kh;
        let patterns = b.array("patterns", kind, rows * self.row_words());
        let channels = b.array("channels", kind, word);
        let step = self.pool.stride[1];
        // Pixels of the output in a word of columns.
        let (per_word, chunks) = match self.width <= word {
            true => (sink.shape.w, 1),
            false => (word / step, sink.shape.w.div_ceil(word / step)),
        };
        b.repeat("chunk", chunks, |b, chunk| {
            b.repeat("k", rows, |b, k| {
                let at = b.name("at", k.clone() * Expr::int(self.row_words()));
                let taps = self.columns(b, x, k, &chunk);
                self.patterns(b, patterns, at, &taps);
            });
            b.repeat("group", n.div_ceil(word), |b, group| {
                b.repeat("c", word, |b, i| {
                    let c = group.clone() * Expr::int(word) + i.clone();
                    b.either(
                        c.clone().lt(Expr::int(n)),
                        |b| {
                            let c = c.clone().within(0, n as i64 - 1);
                            let met = self.filter(b, patterns, weights, limits, bits, c);
                            b.store(channels, i.clone(), met);
                        },
                        |b| b.store(channels, i.clone(), Expr::word(0)),
                    );
                });
                transpose(b, channels);
                self.store(b, scope, channels, group, (chunk.clone(), chunks, per_word));
            });
        });
        Ok(())
    }

    /// For each tap of row `k` of the window, the words of the input that it reads.
    fn columns(&self, b: &mut Body<'_>, x: &Rows, k: Expr, chunk: &Expr) -> Vec<Expr> {
        let word = b.program.word;
        let unit = 8 * x.layout.kind().bytes();
        let (per, units) = (word / unit, self.width.div_ceil(unit));
        let line = b.name("line", x.row(k));
        let part = |b: &mut Body<'_>, name: &str, first: Expr, known: usize| {
            let mut parts = Expr::word(0);
            for i in 0..per.min(known) {
                let at = first.clone() + Expr::int(i);
                let there = at.clone().lt(Expr::int(units));
                let load = b.load_word(x.buffer, line.clone() + at.within(0, units as i64 - 1));
                let load = there.select(load, Expr::word(0));
                parts = parts | (load << Expr::int(i * unit));
            }
            b.name(name, parts)
        };
        let one = self.width <= word;
        let first = chunk.clone() * Expr::int(per);
        let low = part(b, "low", first.clone(), if one { units } else { per });
        let high = if one { Expr::word(0) } else { part(b, "high", first + Expr::int(per), per) };
        let tap = |kx: usize| match kx {
            0 => low.clone(),
            _ if one => low.clone() >> Expr::int(kx),
            _ => (low.clone() >> Expr::int(kx)) | (high.clone() << Expr::int(word - kx)),
        };
        (0..self.kernel[1]).map(tap).collect()
    }

    /// Mismatches of all patterns of weights: where the weight is 1, a 0 differs.
    fn patterns(&self, b: &mut Body<'_>, to: BufferId, at: Expr, taps: &[Expr]) {
        let ones = Expr::word(b.program.word_max() as u32);
        let mut base = 0;
        let mut first = 0;
        for group in self.groups() {
            let taps: Vec<Expr> = (first..first + group).map(|k| b.name("tap", taps[k].clone())).collect();
            let planes = Self::planes(group);
            let all = (1 << group) - 1;
            // The complement of a pattern differs where it does not: of three taps `3 - m`, which is `!m` in two bits.
            for pattern in 0..1 << group {
                let place = |plane: usize| at.clone() + Expr::int(base + pattern * planes + plane);
                if group == TOGETHER && pattern > all / 2 {
                    continue;
                }
                let inputs: Vec<Expr> = taps
                    .iter()
                    .enumerate()
                    .map(|(k, t)| if pattern >> k & 1 == 1 { t.clone() ^ ones.clone() } else { t.clone() })
                    .collect();
                let sums = match inputs.as_slice() {
                    [a, c, d] => {
                        let [sum, carry] = full(b, a, c, d);
                        let other =
                            |plane: usize| at.clone() + Expr::int(base + (all - pattern) * planes + plane);
                        b.store(to, other(0), sum.clone() ^ ones.clone());
                        b.store(to, other(1), carry.clone() ^ ones.clone());
                        vec![sum, carry]
                    }
                    [a, c] => vec![a.clone() ^ c.clone(), a.clone() & c.clone()],
                    all => all.to_vec(),
                };
                for (plane, sum) in sums.into_iter().enumerate() {
                    b.store(to, place(plane), sum);
                }
            }
            base += planes << group;
            first += group;
        }
    }

    /// Columns whose bit filter `c` sets, pooled: of `step` columns the first counts.
    fn filter(
        &self,
        b: &mut Body<'_>,
        patterns: BufferId,
        weights: TableId,
        limits: TableId,
        bits: usize,
        c: Expr,
    ) -> Expr {
        let [kh, kw] = self.kernel;
        let (word, row_words) = (b.program.word, self.row_words());
        let ones = Expr::word(b.program.word_max() as u32);
        // Weights as numbers, that need not fit into a word.
        let filter = match bits {
            32 => b.constant_word(weights, c.clone()),
            _ => b.constant(weights, c.clone()),
        };
        let filter = b.name("filter", filter);
        let limit = b.constant(limits, c);
        let limit = b.name("limit", limit);
        // Place of the words of each group of taps, in row 0 of the patterns.
        let mut places = Vec::new();
        for ky in 0..kh {
            let (mut base, mut first) = (ky * row_words, 0);
            for taps in self.groups() {
                let planes = Self::planes(taps);
                let shift = Expr::int(ky * kw + first);
                let mask = (1i64 << taps) - 1;
                let pattern = match filter.ty {
                    Ty::Word => b
                        .convert((filter.clone() >> shift) & Expr::word(mask as u32), Ty::Int)
                        .within(0, mask),
                    _ => (filter.clone() >> shift) & Expr::int(mask),
                };
                let place = b.name("place", pattern * Expr::int(planes) + Expr::int(base));
                places.push((place, planes));
                base += planes << taps;
                first += taps;
            }
        }
        let met = b.variable("met", Expr::word(0));
        b.repeat("down", self.pool.kernel[0], |b, down| {
            let mut columns: Columns = vec![Vec::new(), Vec::new()];
            for (place, planes) in &places {
                let at = place.clone() + down.clone() * Expr::int(row_words);
                for (plane, column) in columns.iter_mut().enumerate().take(*planes) {
                    let value = b.load_word(patterns, at.clone() + Expr::int(plane));
                    column.push(b.name("count", value));
                }
            }
            let sums = add(b, columns);
            // `sum < limit`, from the lowest bit on: where the limit has a 1, a 0 of the sum is below, where it has a 0, a 1 is above.
            let below = b.variable("below", Expr::word(0));
            let largest = (kh * kw + 1) as u64;
            for bit in 0..(64 - largest.leading_zeros()) as usize {
                let one = (limit.clone() >> Expr::int(bit)) & Expr::int(1);
                let value = match sums.get(bit) {
                    Some(sum) => {
                        let zero = sum.clone() ^ ones.clone();
                        one.select(below.clone() | zero.clone(), below.clone() & zero)
                    }
                    None => one.select(ones.clone(), below.clone()),
                };
                b.set(&below, value);
            }
            b.set(&met, met.clone() | below);
        });
        debug_assert!(word > self.pool.kernel[1]);
        let shifted =
            (1..self.pool.kernel[1]).fold(met.clone(), |all, i| all | (met.clone() >> Expr::int(i)));
        b.name("pooled", shifted)
    }

    /// Writes the pixels of a word of columns.
    fn store(
        &self,
        b: &mut Body<'_>,
        scope: &Scope<'_>,
        channels: BufferId,
        group: Expr,
        (chunk, chunks, per_word): (Expr, usize, usize),
    ) {
        let sink = &scope.sink;
        let (word, kind, units) = (b.program.word, sink.layout.kind(), sink.pixel_units());
        let unit = 8 * kind.bytes();
        let table = self.pooled.minimum.contains(&true).then(|| self.pooled.masks(b, kind, units));
        let step = self.pool.stride[1];
        let per_group = (word / unit).min(units);
        b.repeat("pixel", per_word, |b, i| {
            let x = b.name("x", chunk * Expr::int(per_word) + i.clone());
            let there = if chunks > 1 { x.clone().lt(Expr::int(sink.shape.w)) } else { Expr::int(1) };
            b.when(there, |b| {
                let x = x.within(0, sink.shape.w as i64 - 1);
                let bits = b.load_word(channels, i * Expr::int(step));
                let bits = b.name("bits", bits);
                for u in 0..per_group {
                    let at = group.clone() * Expr::int(word / unit) + Expr::int(u);
                    b.when(at.clone().lt(Expr::int(units)), |b| {
                        let at = at.within(0, units as i64 - 1);
                        let value = match unit == word {
                            true => bits.clone(),
                            false => (bits.clone() >> Expr::int(u * unit)) & Expr::word((1 << unit) - 1),
                        };
                        let value = match table {
                            Some(t) => value ^ b.constant_word(t, at.clone()),
                            None => value,
                        };
                        b.store(sink.buffer, sink.row.clone() + x.clone() * Expr::int(units) + at, value);
                    });
                }
            });
        });
    }
}

/// Sum and carry of three bits.
fn full(b: &mut Body<'_>, x: &Expr, y: &Expr, z: &Expr) -> [Expr; 2] {
    let half = b.name("half", x.clone() ^ y.clone());
    let carry = (x.clone() & y.clone()) | (half.clone() & z.clone());
    [b.name("sum", half ^ z.clone()), b.name("carry", carry)]
}

/// Adds words of weights 1, 2, 4, ..; one word for each bit of the sum is left.
fn add(b: &mut Body<'_>, mut columns: Columns) -> Vec<Expr> {
    let mut sums = Vec::new();
    let mut i = 0;
    while i < columns.len() {
        let mut column = std::mem::take(&mut columns[i]);
        let mut carries = Vec::new();
        while column.len() >= 3 {
            let three: Vec<Expr> = column.drain(..3).collect();
            let [sum, carry] = full(b, &three[0], &three[1], &three[2]);
            column.push(sum);
            carries.push(carry);
        }
        if let [x, y] = column.as_slice() {
            let (sum, carry) = (x.clone() ^ y.clone(), x.clone() & y.clone());
            carries.push(b.name("carry", carry));
            column = vec![b.name("sum", sum)];
        }
        if !carries.is_empty() {
            if columns.len() == i + 1 {
                columns.push(Vec::new());
            }
            columns[i + 1].extend(carries);
        }
        if let Some(sum) = column.pop() {
            sums.push(sum);
        }
        i += 1;
    }
    sums
}

/// Makes columns of the rows of a square of bits: bit `x` of word `c` becomes bit `c` of word `x`.
fn transpose(b: &mut Body<'_>, words: BufferId) {
    let word = b.program.word;
    let mut step = word / 2;
    while step > 0 {
        // Bits whose place has a 0 in the digit that is exchanged.
        let mask = (0..word).filter(|i| (i / step).is_multiple_of(2)).fold(0u32, |m, i| m | 1 << i);
        b.repeat("block", word / (2 * step), |b, block| {
            b.repeat("i", step, |b, i| {
                let low = b.name("low", block * Expr::int(2 * step) + i);
                let high = low.clone() + Expr::int(step);
                let (a, c) = (b.load_word(words, low.clone()), b.load_word(words, high.clone()));
                let (a, c) = (b.name("a", a), b.name("b", c));
                let swap = ((a.clone() >> Expr::int(step)) ^ c.clone()) & Expr::word(mask);
                let swap = b.name("swap", swap);
                b.store(words, low, a ^ (swap.clone() << Expr::int(step)));
                b.store(words, high, c ^ swap);
            });
        });
        step /= 2;
    }
}
