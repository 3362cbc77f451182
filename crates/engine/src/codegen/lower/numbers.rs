//! Convolutions and dense layers of every other format, as products and sums of small integers.
//!
//! The window of a pixel is gathered once for all filters, padding included. Few inputs by bits (first layers on pixels) are
//! summed for every pattern of three weights, and a filter adds the sums of its patterns (distributed arithmetic, Peled and
//! Liu 1974); more inputs by bits are summed where the weight is 1; other weights are multiplied. Weights are stored in as
//! few bits as they take.

use super::Scope;
use super::access::{Rows, inside};
use super::pooled::{Pooled, conv};
use super::transform::{Transform, flips};
use crate::codegen::build::Body;
use crate::codegen::ir::*;
use crate::codegen::plan::{Layout, Repr};
use onebit_core::model::{Node as Layer, Tensor};
use onebit_core::ops::BConv2d;
use onebit_core::{Quant, Shape};

/// Most inputs of a filter whose patterns are summed beforehand.
const MOST_PATTERNS: usize = 36;
/// Weights of a pattern.
const TOGETHER: usize = 3;

/// Weights in flash: levels of `bits` bits, or whole numbers.
struct Weights {
    table: TableId,
    /// Bits of a level, 8 for numbers.
    bits: usize,
    min: i64,
    step: i64,
}

impl Weights {
    fn new(b: &mut Body<'_>, name: &str, values: &[i32], quant: Quant) -> Self {
        let bits = if quant == Quant::TERNARY { 2 } else { quant.planes().next_power_of_two() };
        if bits > 4 {
            let table = b.program.integers(name, values.iter().map(|v| i64::from(*v)).collect());
            return Weights { table, bits: 8, min: 0, step: 1 };
        }
        let (min, step) = (i64::from(quant.min()), i64::from(quant.step()));
        let mut packed = vec![0; (values.len() * bits).div_ceil(8)];
        for (i, v) in values.iter().enumerate() {
            packed[i * bits / 8] |= ((i64::from(*v) - min) / step) << (i * bits % 8);
        }
        let table = b.program.table(name, Kind::U8, Constants::Int(packed));
        Weights { table, bits, min, step }
    }

    /// Weight `i`.
    fn at(&self, b: &Body<'_>, i: Expr) -> Expr {
        if self.bits == 8 {
            return b.constant(self.table, i);
        }
        let per_byte = 8 / self.bits as i64;
        let log = per_byte.trailing_zeros();
        let byte = b.constant(self.table, i.clone() >> Expr::int(log));
        let shift = (i & Expr::int(per_byte - 1)) * Expr::int(self.bits);
        let level = (byte >> shift) & Expr::int((1 << self.bits) - 1);
        level * Expr::int(self.step) + Expr::int(self.min)
    }
}

/// A layer of this kind.
struct Numbers {
    conv: BConv2d,
    input: Shape,
    pooled: Pooled,
    /// Bounds of an input, padding included.
    bounds: (i64, i64),
    /// Bounds of a sum and of all its parts.
    sum: (i64, i64),
}

/// Writes the function.
pub fn lower(
    b: &mut Body<'_>,
    scope: &Scope<'_>,
    pool: Option<&Layer<'_>>,
    input: Shape,
) -> Result<(), String> {
    let (x, sink) = (&scope.inputs[0], &scope.sink);
    let conv = conv(scope.layer, input).ok_or("is no convolution")?;
    let weight = scope.layer.params.weight.as_ref().ok_or("has no weight")?;
    let quant = weight.as_bits().ok_or("has weights that are not packed")?.0;
    let values = weight.to_i32().ok_or("has weights that are not packed")?;
    let (lo, hi) = match x.repr {
        Repr::Bits => (-1, 1),
        Repr::Int { lo, hi } => (lo, hi),
        Repr::Float => return Err("multiplies floats with packed weights".into()),
    };
    let pads = conv.window.pad != [0; 4];
    let pad = i64::from(conv.pad_value);
    let bounds = if pads { (lo.min(pad), hi.max(pad)) } else { (lo, hi) };
    let reach = |row: &[i32]| row.iter().map(|w| i64::from(w.abs())).sum::<i64>();
    let reach = values.chunks_exact(weight.cols.max(1)).map(reach).max().unwrap_or(0);
    let most = reach * bounds.0.abs().max(bounds.1);
    let pooled = Pooled::new(pool, sink.shape.c);
    let name = b.function_name().to_owned();
    // Channels that take the minimum are inverted, see `pooled`.
    let mut params = scope.layer.params.clone();
    if pooled.minimum.contains(&true) {
        let flip = flips(&params, sink.shape.c);
        let flip: Vec<bool> = flip.iter().zip(&pooled.minimum).map(|(f, m)| f != m).collect();
        params.flips = Some(Tensor::flags(&flip));
    }
    let transform = Transform::new(b, &name, conv.output, &params, Some((-most, most)), sink.layout)?;
    let layer = Numbers { conv, input, pooled, bounds, sum: (-most, most) };
    let gathers = conv.groups == 1 && matches!(x.layout, Layout::Numbers(_));
    let name = format!("{name}_weights");
    if !gathers {
        let weights = Weights::new(b, &name, &values, quant);
        layer.in_place(b, scope, &weights, &transform);
    } else if quant.is_bit() && weight.cols <= MOST_PATTERNS && sink.shape.c >= 8 {
        layer.patterns(b, scope, (&name, &values), &transform);
    } else if quant.is_bit() {
        layer.selected(b, scope, (&name, &values), &transform);
    } else {
        let weights = Weights::new(b, &name, &values, quant);
        layer.products(b, scope, &weights, &transform);
    }
    Ok(())
}

impl Numbers {
    /// Inputs of a filter.
    fn taps(&self) -> usize {
        self.conv.window.taps() * self.input.c
    }

    /// The array of a window, and whether it is the input itself.
    fn window(&self, b: &mut Body<'_>, x: &Rows) -> (BufferId, bool) {
        let whole = self.conv.window.covers(self.input) && !x.is_ring();
        if whole {
            return (x.buffer, true);
        }
        let kind = Kind::holding(self.bounds.0, self.bounds.1).unwrap_or(Kind::I32);
        (b.array("window", kind, self.taps()), false)
    }

    /// Element `i` of the window.
    fn input(&self, b: &Body<'_>, window: BufferId, i: Expr) -> Expr {
        b.load(window, i).within(self.bounds.0, self.bounds.1)
    }

    /// Fills the window of output `(x, down, right)`.
    fn gather(&self, b: &mut Body<'_>, x: &Rows, [ox, down, right]: [Expr; 3], window: (BufferId, bool)) {
        let (to, direct) = window;
        if direct {
            return;
        }
        let (w, c) = (&self.conv.window, self.input.c);
        let [kh, kw] = w.kernel;
        let left = (ox * Expr::int(self.pooled.step()) + right) * Expr::int(w.stride[1]);
        let left = b.name("left", left + Expr::int(-(w.pad[1] as i64)));
        b.repeat("ky", kh, |b, ky| {
            let k = down * Expr::int(w.stride[0]) + ky.clone() * Expr::int(w.dilation[0]);
            let has_row = b.name("has_row", x.has_row(&k));
            let row = b.name("line", has_row.clone().select(x.row(k), Expr::int(0)));
            b.repeat("kx", kw, |b, kx| {
                let column = b.name("column", left + kx.clone() * Expr::int(w.dilation[1]));
                let there = b.name("there", has_row & inside(column.clone(), self.input.w));
                let column = column.within(0, self.input.w as i64 - 1);
                let first = (ky * Expr::int(kw) + kx) * Expr::int(c);
                b.repeat("c", c, |b, channel| {
                    let value = x.element(b, row, column, channel.clone());
                    let value = there.select(value, Expr::int(self.conv.pad_value));
                    b.store(to, first + channel, value);
                });
            });
        });
    }

    /// Writes the pixels; `sum` is that of a filter.
    fn pixels(
        &self,
        b: &mut Body<'_>,
        scope: &Scope<'_>,
        transform: &Transform,
        mut prepare: impl FnMut(&mut Body<'_>, [Expr; 3]) -> Expr,
        mut sum: impl FnMut(&mut Body<'_>, Expr, &Expr) -> Expr,
    ) {
        let sink = &scope.sink;
        self.pooled.pixels(b, scope, |b, place, meet| {
            let all = prepare(b, place.clone());
            let [ox, ..] = place;
            sink.pixel(b, ox, meet, |b, n| {
                let sum = sum(b, n.clone(), &all).within(self.sum.0, self.sum.1);
                transform.apply(b, sum, n, sink.is_bits())
            });
        });
    }

    /// A sum under construction.
    fn counter(&self, b: &mut Body<'_>, name: &str) -> Expr {
        b.counter(name, Expr::int(0), self.sum.0, self.sum.1)
    }
    fn add(&self, b: &mut Body<'_>, sum: &Expr, value: Expr) {
        b.set(sum, (sum.clone() + value).within(self.sum.0, self.sum.1));
    }

    /// Sums of all patterns of three weights, then lookups.
    fn patterns(
        &self,
        b: &mut Body<'_>,
        scope: &Scope<'_>,
        (name, values): (&str, &[i32]),
        transform: &Transform,
    ) {
        let x = &scope.inputs[0];
        let (k, groups) = (self.taps(), self.taps().div_ceil(TOGETHER));
        // Two patterns in a byte.
        let bytes = groups.div_ceil(2);
        let mut packed = vec![0i64; scope.sink.shape.c * bytes];
        for (n, row) in values.chunks_exact(k).enumerate() {
            for (i, _) in row.iter().enumerate().filter(|(_, w)| **w > 0) {
                let group = i / TOGETHER;
                packed[n * bytes + group / 2] |= 1 << (group % 2 * 4 + i % TOGETHER);
            }
        }
        let table = b.program.table(name, Kind::U8, Constants::Int(packed));
        let most = TOGETHER as i64 * self.bounds.0.abs().max(self.bounds.1);
        let kind = Kind::holding(-most, most).unwrap_or(Kind::I32);
        let sums = b.array("sums", kind, groups << TOGETHER);
        let window = self.window(b, x);
        let prepare = |b: &mut Body<'_>, place: [Expr; 3]| {
            self.gather(b, x, place, window);
            let one = |b: &mut Body<'_>, group: Expr, known: usize| {
                let input = |b: &mut Body<'_>, i: usize| match i < known {
                    true => {
                        let value =
                            self.input(b, window.0, group.clone() * Expr::int(TOGETHER) + Expr::int(i));
                        b.name("input", value)
                    }
                    false => Expr::int(0),
                };
                let (first, second, third) = (input(b, 0), input(b, 1), input(b, 2));
                let both = b.name("both", first.clone() + second.clone());
                let apart = b.name("apart", first - second);
                let at = group << Expr::int(TOGETHER);
                for (pattern, value) in [
                    (7, both.clone() + third.clone()),
                    (3, both - third.clone()),
                    (5, apart.clone() + third.clone()),
                    (1, apart - third),
                ] {
                    let value = b.name("sum", value);
                    b.store(sums, at.clone() + Expr::int(7 - pattern), Expr::int(0) - value.clone());
                    b.store(sums, at.clone() + Expr::int(pattern), value);
                }
            };
            if k >= TOGETHER {
                b.repeat("group", k / TOGETHER, |b, group| one(b, group, TOGETHER));
            }
            if k % TOGETHER > 0 {
                one(b, Expr::int(k / TOGETHER), k % TOGETHER);
            }
            Expr::int(0)
        };
        let sum = |b: &mut Body<'_>, n: Expr, _: &Expr| {
            let mut sum = Expr::int(0);
            for byte in 0..bytes {
                let pair = b.constant(table, n.clone() * Expr::int(bytes) + Expr::int(byte));
                let pair = b.name("pair", pair);
                let halves = [pair.clone() & Expr::int(7), pair >> Expr::int(4)];
                for (half, pattern) in halves.into_iter().enumerate().take(groups - 2 * byte) {
                    let at = pattern + Expr::int((2 * byte + half) << TOGETHER);
                    sum = sum + b.load(sums, at).within(-most, most);
                }
            }
            sum
        };
        self.pixels(b, scope, transform, prepare, sum);
    }

    /// Inputs whose weight is 1, twice, less all of them.
    fn selected(
        &self,
        b: &mut Body<'_>,
        scope: &Scope<'_>,
        (name, values): (&str, &[i32]),
        transform: &Transform,
    ) {
        let x = &scope.inputs[0];
        let k = self.taps();
        let bytes = k.div_ceil(8);
        let mut packed = vec![0i64; scope.sink.shape.c * bytes];
        for (n, row) in values.chunks_exact(k).enumerate() {
            for (i, _) in row.iter().enumerate().filter(|(_, w)| **w > 0) {
                packed[n * bytes + i / 8] |= 1 << (i % 8);
            }
        }
        let table = b.program.table(name, Kind::U8, Constants::Int(packed));
        let window = self.window(b, x);
        let prepare = |b: &mut Body<'_>, place: [Expr; 3]| {
            self.gather(b, x, place, window);
            let all = self.counter(b, "all");
            b.repeat("i", k, |b, i| {
                let value = self.input(b, window.0, i);
                self.add(b, &all, value);
            });
            all
        };
        let sum = |b: &mut Body<'_>, n: Expr, all: &Expr| {
            let selected = self.counter(b, "selected");
            let byte = |b: &mut Body<'_>, j: Expr, known: usize| {
                let weights = b.constant(table, n.clone() * Expr::int(bytes) + j.clone());
                let weights = b.name("weights", weights);
                for i in 0..known {
                    let value = self.input(b, window.0, j.clone() * Expr::int(8) + Expr::int(i));
                    b.when((weights.clone() >> Expr::int(i)) & Expr::int(1), |b| {
                        self.add(b, &selected, value)
                    });
                }
            };
            if k >= 8 {
                b.repeat("j", k / 8, |b, j| byte(b, j, 8));
            }
            if !k.is_multiple_of(8) {
                byte(b, Expr::int(k / 8), k % 8);
            }
            selected * Expr::int(2) - all.clone()
        };
        self.pixels(b, scope, transform, prepare, sum);
    }

    /// One product after the other.
    fn products(&self, b: &mut Body<'_>, scope: &Scope<'_>, weights: &Weights, transform: &Transform) {
        let x = &scope.inputs[0];
        let k = self.taps();
        let window = self.window(b, x);
        let prepare = |b: &mut Body<'_>, place: [Expr; 3]| {
            self.gather(b, x, place, window);
            Expr::int(0)
        };
        let sum = |b: &mut Body<'_>, n: Expr, _: &Expr| {
            let sum = self.counter(b, "acc");
            b.repeat("i", k, |b, i| {
                let weight = weights.at(b, n.clone() * Expr::int(k) + i.clone());
                let value = self.input(b, window.0, i);
                self.add(b, &sum, weight * value);
            });
            sum
        };
        self.pixels(b, scope, transform, prepare, sum);
    }

    /// One product after the other, of inputs where they lie: groups of channels, and bits by other weights.
    fn in_place(&self, b: &mut Body<'_>, scope: &Scope<'_>, weights: &Weights, transform: &Transform) {
        let (x, sink, conv) = (&scope.inputs[0], &scope.sink, &self.conv);
        let w = conv.window;
        let [kh, kw] = w.kernel;
        let (group, filters) = (self.input.c / conv.groups, sink.shape.c / conv.groups);
        self.pooled.pixels(b, scope, |b, [ox, down, right], meet| {
            let left = (ox.clone() * Expr::int(self.pooled.step()) + right) * Expr::int(w.stride[1]);
            let left = b.name("left", left + Expr::int(-(w.pad[1] as i64)));
            sink.pixel(b, ox, meet, |b, n| {
                let sum = self.counter(b, "acc");
                b.repeat("ky", kh, |b, ky| {
                    let k = down.clone() * Expr::int(w.stride[0]) + ky.clone() * Expr::int(w.dilation[0]);
                    let has_row = b.name("has_row", x.has_row(&k));
                    let row = b.name("line", has_row.clone().select(x.row(k), Expr::int(0)));
                    b.repeat("kx", kw, |b, kx| {
                        let column = b.name("column", left.clone() + kx.clone() * Expr::int(w.dilation[1]));
                        let there = b.name("there", has_row & inside(column.clone(), self.input.w));
                        let column = column.within(0, self.input.w as i64 - 1);
                        let first =
                            (n.clone() * Expr::int(kh * kw) + ky * Expr::int(kw) + kx) * Expr::int(group);
                        let first = b.name("first", first);
                        let channel = n.clone().over(Expr::int(filters)) * Expr::int(group);
                        let channel = b.name("channel", channel.within(0, (self.input.c - group) as i64));
                        let add = |b: &mut Body<'_>, padding: bool| {
                            b.repeat("i", group, |b, i| {
                                let weight = weights.at(b, first.clone() + i.clone());
                                let value = match padding {
                                    true => Expr::int(conv.pad_value),
                                    false => x.element(b, row.clone(), column.clone(), channel.clone() + i),
                                };
                                self.add(b, &sum, weight * value);
                            });
                        };
                        b.either(
                            there,
                            |b| add(b, false),
                            |b| {
                                if conv.pad_value != 0 {
                                    add(b, true)
                                }
                            },
                        );
                    });
                });
                transform.apply(b, sum, n, sink.is_bits())
            });
        });
    }
}
