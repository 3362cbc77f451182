//! Values that can only be one of a few numbers.

use super::grid::Grid;
use super::unary::{Compare, Order, Quantizer, Unary};
use super::{Float, Form, Lowerer, Var};
use crate::error::{Error, Result};
use crate::passes::fold_thresholds::rises_at;
use onebit_core::DType;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{Op, Threshold};
use onebit_core::types::Quant;
use std::rc::Rc;

/// Most levels of a value; more are floats.
const MAX_LEVELS: usize = 256;
/// Most levels that are on no grid.
pub(super) const MOST_UNEVEN: usize = 17;
/// Floats beyond which no integer level is looked for.
const FAR: f32 = 16_777_216.0;

/// A value that is one of a few numbers.
#[derive(Clone, Debug)]
pub struct Levels {
    pub(super) source: Source,
    /// The numbers, one row for all channels or one for each.
    pub(super) table: Vec<Vec<f32>>,
}

/// What says which of the numbers it is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Floats: level `i` from `edges[i - 1]` on, as the operator `name` has it.
    Edges { base: usize, edges: Vec<f32>, name: Rc<str> },
    /// Integers: level `i` is their `i`-th smallest value.
    Packed { value: usize },
}

/// Integers of the graph and what they stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaled {
    pub value: usize,
    pub scale: f32,
    pub offset: f32,
}

impl Levels {
    /// Levels of integers of the graph.
    pub(super) fn packed(value: usize, table: Vec<Vec<f32>>) -> Self {
        Levels { source: Source::Packed { value }, table }
    }
    /// The value of the graph that says which level it is.
    pub(super) fn value(&self) -> usize {
        match self.source {
            Source::Edges { base, .. } => base,
            Source::Packed { value } => value,
        }
    }
    /// The levels after a function of one number for each row of the table; `f` gets the row.
    fn map(&self, rows: usize, f: impl Fn(usize, f32) -> f32) -> Levels {
        let rows = rows.max(self.table.len());
        let row = |r: usize| self.table[r.min(self.table.len() - 1)].iter().map(|v| f(r, *v)).collect();
        let mut table: Vec<Vec<f32>> = (0..rows).map(row).collect();
        if table.windows(2).all(|p| p[0] == p[1]) {
            table.truncate(1);
        }
        Levels { source: self.source.clone(), table }.merged()
    }
    /// Levels next to each other that are the same number are one.
    pub(super) fn merged(mut self) -> Self {
        let Source::Edges { edges, .. } = &mut self.source else { return self };
        let table = &self.table;
        let keep: Vec<bool> =
            (0..edges.len()).map(|i| table.iter().any(|row| row[i] != row[i + 1])).collect();
        let mut kept = keep.iter();
        edges.retain(|_| *kept.next().unwrap_or(&true));
        for row in &mut self.table {
            let mut kept = std::iter::once(&true).chain(&keep);
            row.retain(|_| *kept.next().unwrap_or(&true));
        }
        self
    }
}

impl Lowerer {
    /// Integers that stand for the numbers that they are.
    ///
    /// # Errors
    /// As ops are added.
    pub fn of_integers(&self, x: &Var, value: usize, scale: f32, zero: f32) -> Result<Var> {
        let quant = self.format(value).quant().ok_or_else(|| Error::Model("has too many levels".into()))?;
        let level = |i| (quant.value_of_level(i) as f32 - zero) * scale;
        let table = vec![(0..quant.levels()).map(level).collect()];
        Ok(Var { form: Form::Levels(Levels::packed(value, table)), padding: None, ..x.clone() })
    }

    /// The levels of `levels` after `f`, which gets the channel and the number; `rows` is 1 if all channels have the same
    /// function. They are still linear in their integers, or known by edges.
    ///
    /// # Errors
    /// As ops are added.
    pub(super) fn map_levels(
        &mut self,
        name: &str,
        levels: &Levels,
        rows: usize,
        f: impl Fn(usize, f32) -> f32,
    ) -> Result<Levels> {
        self.relevel(name, levels.map(rows, f))
    }

    /// Two values as one function of both, where both have levels that depend on the same floats.
    pub(super) fn joined_levels(&self, a: &Levels, b: &Levels, f: impl Fn(f32, f32) -> f32) -> Option<Form> {
        let (Source::Edges { base, edges: ea, name }, Source::Edges { base: other, edges: eb, .. }) =
            (&a.source, &b.source)
        else {
            return None;
        };
        if base != other {
            return None;
        }
        let mut edges: Vec<f32> = ea.iter().chain(eb).copied().collect();
        edges.sort_by(f32::total_cmp);
        edges.dedup();
        let rows = a.table.len().max(b.table.len());
        let level = |edges: &[f32], x: f32| edges.iter().filter(|e| x >= **e).count();
        let places: Vec<(usize, usize)> =
            std::iter::once((0, 0)).chain(edges.iter().map(|e| (level(ea, *e), level(eb, *e)))).collect();
        let row = |r: usize| {
            let (a, b) = (&a.table[r.min(a.table.len() - 1)], &b.table[r.min(b.table.len() - 1)]);
            places.iter().map(|(i, j)| f(a[*i], b[*j])).collect()
        };
        let table = (0..rows).map(row).collect();
        Some(Form::Levels(
            Levels { source: Source::Edges { base: *base, edges, name: name.clone() }, table }.merged(),
        ))
    }

    /// What a function that makes levels makes of floats, or `None` when it makes none.
    pub(super) fn quantized(&self, name: &str, x: &Float, f: Unary) -> Option<Form> {
        match f {
            Unary::Sign => Some(self.steps(name, x, f, vec![-1.0, 0.0, 1.0])),
            Unary::Compare(Compare::Equal, c) => Some(self.only_at(name, x.value, c, [0.0, 1.0])),
            Unary::Choose(a, b) => Some(self.only_at(name, x.value, 0.0, [a, b])),
            Unary::Compare(..) => Some(self.steps(name, x, f, vec![0.0, 1.0])),
            Unary::Quantize(q) => quantizer_levels(&q).map(|levels| self.steps(name, x, f, levels)),
            Unary::Round(round) => {
                let (low, high) = (round.apply(x.range.0), round.apply(x.range.1));
                integers(low, high).map(|levels| self.steps(name, x, f, levels))
            }
            _ => None,
        }
    }

    /// What floats become that were rounded and then went through `after`, if that has few levels.
    pub(super) fn bounded(&self, name: &str, before: &Float, after: &[Unary]) -> Option<Form> {
        let follow = |n: f32| after[1..].iter().fold(n, |n, f| f.apply(n));
        let rounded = |x: f32| after[0].apply(x);
        let low = rounded(before.range.0).max(-FAR);
        let high = rounded(before.range.1).min(FAR);
        // Beyond the first and the last change the result stays the same.
        let (bottom, top) = (follow(low), follow(high));
        let first =
            (0..).map(|e| low + (1u64 << e.min(40)) as f32).find(|n| *n >= high || follow(*n) != bottom)?;
        let mut range = (low, first.min(high));
        while range.1 - range.0 > 1.0 {
            let middle = ((range.0 + range.1) / 2.0).floor();
            if follow(middle) == bottom { range.0 = middle } else { range.1 = middle }
        }
        let start = range.0;
        let mut numbers = vec![start];
        let mut n = start;
        while follow(n) != top {
            n += 1.0;
            numbers.push(n);
            if numbers.len() > MAX_LEVELS {
                return None;
            }
        }
        let form = self.steps(name, before, after[0], numbers);
        let Form::Levels(levels) = &form else { return Some(form) };
        // Numbers outside count as the first and the last, which become the same.
        Some(Form::Levels(levels.map(1, |_, n| follow(n))))
    }

    /// Levels of `f` of floats, which takes the values `numbers`, rising, or clamps to the first and last of them.
    fn steps(&self, name: &str, x: &Float, f: Unary, mut numbers: Vec<f32>) -> Form {
        let falls = x.chain.iter().chain([&f]).filter(|f| f.order() == Order::Falls).count() % 2 == 1;
        if falls {
            numbers.reverse();
        }
        let whole = |v: f32| f.apply(x.follow(v));
        let edges: Vec<f32> = numbers
            .windows(2)
            .map(|pair| match falls {
                // Between the two, so that errors of rounding in a level do not matter.
                true => rises_at(|v| whole(v) < (pair[0] + pair[1]) / 2.0),
                false => rises_at(|v| whole(v) > (pair[0] + pair[1]) / 2.0),
            })
            .collect();
        let source = Source::Edges { base: x.root, edges, name: name.into() };
        Form::Levels(Levels { source, table: vec![numbers] }.without_impossible())
    }

    /// One number at `c` and another everywhere else.
    fn only_at(&self, name: &str, base: usize, c: f32, [elsewhere, here]: [f32; 2]) -> Form {
        let source = Source::Edges { base, edges: vec![c, c.next_up()], name: name.into() };
        Form::Levels(Levels { source, table: vec![vec![elsewhere, here, elsewhere]] })
    }

    /// Whether floats can be made of the levels: few, or on a grid that all channels share.
    pub(super) fn is_even(&self, levels: &Levels) -> bool {
        let pattern = match &levels.source {
            _ if levels.table[0].len() <= MOST_UNEVEN => return true,
            Source::Packed { value } => {
                let quant = self.format(*value).quant();
                return quant.is_some_and(|q| levels.table.iter().all(|row| linear(q, row).is_some()));
            }
            Source::Edges { .. } => levels.table.iter().find(|row| row.windows(2).all(|p| p[0] != p[1])),
        };
        let Some(pattern) = pattern else { return false };
        let last = pattern.len() - 1;
        let like = |row: &Vec<f32>| {
            let scale = (row[last] - row[0]) / (pattern[last] - pattern[0]);
            let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let near = |(v, p): (&f32, &f32)| ((p - pattern[0]) * scale + row[0] - v).abs() <= largest * 1e-6;
            row.iter().zip(pattern).all(near)
        };
        let rises = pattern.is_sorted() || pattern.iter().rev().is_sorted();
        rises && Grid::of_levels(pattern).is_some() && levels.table.iter().all(like)
    }

    /// Integers that stand for the levels, with the same meaning in all channels.
    ///
    /// # Errors
    /// As ops are added.
    pub(super) fn pack(&mut self, levels: &Levels) -> Result<Option<Levels>> {
        let (base, edges, name) = match &levels.source {
            Source::Packed { .. } => return Ok(Some(levels.clone())),
            Source::Edges { base, edges, name } => (*base, edges, name),
        };
        // All channels share the integers of the first that tells them apart.
        let pattern = levels.table.iter().find(|row| row.windows(2).all(|p| p[0] != p[1]));
        let Some(pattern) = pattern else { return Ok(None) };
        // Two levels that differ between channels are one bit: other integers may not hold them all exactly.
        let grid = match levels.table.len() > 1 && edges.len() == 1 {
            true => Some(Grid { quant: Quant::BIT, integers: vec![-1, 1], scales: vec![1.0] }),
            false => Grid::of_levels(pattern).map(|(grid, _)| grid),
        };
        let Some(grid) = grid else { return Ok(None) };
        let codes = &grid.integers;
        let falls = codes.windows(2).all(|p| p[0] > p[1]);
        if !falls && codes.windows(2).any(|p| p[0] >= p[1]) {
            return Ok(None);
        }
        let quant = grid.quant;
        let step = |s: usize| {
            let number = quant.value_of_level(s + 1);
            // The first level that is no longer on the other side of this step.
            let first = codes.iter().position(|c| (*c >= number) != falls);
            match first {
                None => f32::MAX,
                Some(0) => f32::MIN,
                Some(i) => edges[i - 1],
            }
        };
        let row: Vec<f32> = (0..quant.levels() - 1).map(step).collect();
        let c = self.shape(base).c;
        self.check_room(name, c.checked_mul(row.len()))?;
        let params = Params {
            thresholds: Some(Tensor::f32_matrix(c, row.len(), row.repeat(c))),
            flips: falls.then(|| Tensor::flags(&vec![true; c])),
            ..Params::default()
        };
        let op = Op::Threshold(Threshold { output: DType::Bits(quant) });
        let value = self.add(name, op, &[base], params)?;
        // Levels that do not occur get the number that they would have.
        let full = |row: &Vec<f32>| {
            let (i, j) = (0, codes.len() - 1);
            // A constant is linear too.
            let scale = match codes[j] - codes[i] {
                0 => row[0] / codes[0] as f32,
                steps => (row[j] - row[i]) / steps as f32,
            };
            let number = |level: usize| {
                let code = quant.value_of_level(level);
                match codes.iter().position(|c| *c == code) {
                    Some(k) => row[k],
                    None => row[i] + (code - codes[i]) as f32 * scale,
                }
            };
            (0..quant.levels()).map(number).collect()
        };
        Ok(Some(Levels::packed(value, levels.table.iter().map(full).collect())))
    }

    /// Integers times one scale, plus one offset: what a product of bits can read.
    ///
    /// # Errors
    /// As ops are added.
    pub(super) fn scaled(&mut self, x: &Var) -> Result<Option<Scaled>> {
        let Form::Levels(levels) = &x.form else { return Ok(None) };
        let Some(packed) = self.pack(levels)? else { return Ok(None) };
        let [row] = packed.table.as_slice() else { return Ok(None) };
        let value = packed.value();
        let Some(quant) = self.format(value).quant() else { return Ok(None) };
        Ok(linear(quant, row).map(|(scale, offset)| Scaled { value, scale, offset }))
    }

    /// The maximum or minimum of `x` and `c`, if that is what `condition ? x : c` is (`condition ? c : x` unless
    /// `x_if_true`): `where(x < c, x, c)`.
    pub fn clipped(&self, condition: &Var, x: &Var, c: f32, x_if_true: bool) -> Option<Unary> {
        let (Form::Levels(levels), Form::Float(float)) = (&condition.form, &x.form) else { return None };
        let Source::Edges { base, edges, .. } = &levels.source else { return None };
        let ([edge], [row]) = (edges.as_slice(), levels.table.as_slice()) else { return None };
        let same_map = x.groups == condition.groups && x.padding.is_none() && condition.padding.is_none();
        if !same_map || *base != float.root || float.chain.iter().any(|f| f.order() != Order::Rises) {
            return None;
        }
        // On both sides of the edge the result is on the same side of `c` as `x`.
        if !(float.follow(edge.next_down()) <= c && c <= float.follow(*edge)) {
            return None;
        }
        match (row[0] != 0.0, row[1] != 0.0) {
            (true, false) => Some(if x_if_true { Unary::Min(c) } else { Unary::Max(c) }),
            (false, true) => Some(if x_if_true { Unary::Max(c) } else { Unary::Min(c) }),
            _ => None,
        }
    }

    /// Integers that stand for numbers by one scale for each channel, and these scales.
    ///
    /// # Errors
    /// As ops are added.
    pub(super) fn channel_scales(&mut self, x: &Var) -> Result<Option<(usize, Vec<f32>)>> {
        let Form::Levels(levels) = &x.form else { return Ok(None) };
        if levels.table.len() < 2 {
            return Ok(None);
        }
        let Some(packed) = self.pack(levels)? else { return Ok(None) };
        let Some(quant) = self.format(packed.value()).quant() else { return Ok(None) };
        let scale = |row: &Vec<f32>| linear(quant, row).filter(|(_, offset)| *offset == 0.0).map(|l| l.0);
        let scales: Option<Vec<f32>> = packed.table.iter().map(scale).collect();
        Ok(scales.map(|scales| (packed.value(), scales)))
    }

    /// The smallest and the largest number that `x` can be.
    pub(super) fn range(&self, x: &Var) -> (f32, f32) {
        match &x.form {
            Form::Float(f) => f.range,
            Form::Levels(levels) => {
                let all = levels.table.iter().flatten();
                all.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
            }
            Form::Rounded { .. } | Form::Index(_) => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    /// The integer of the graph that stands for `number`.
    pub(super) fn code_of(&self, levels: &Levels, number: f32) -> Option<i32> {
        let Source::Packed { value } = levels.source else { return None };
        let quant = self.format(value).quant()?;
        let [row] = levels.table.as_slice() else { return None };
        Some(quant.value_of_level(row.iter().position(|v| *v == number)?))
    }

    /// The integers themselves, if they are the numbers.
    pub(super) fn plain_integers(&mut self, levels: &Levels) -> Result<Option<usize>> {
        let Some(packed) = self.pack(levels)? else { return Ok(None) };
        let ([row], value) = (packed.table.as_slice(), packed.value()) else { return Ok(None) };
        let Some(quant) = self.format(value).quant() else { return Ok(None) };
        let plain = (0..quant.levels()).all(|i| row[i] == quant.value_of_level(i) as f32);
        Ok(plain.then_some(value))
    }
}

impl Levels {
    /// Drops levels that no finite number reaches.
    fn without_impossible(mut self) -> Self {
        let Source::Edges { edges, .. } = &mut self.source else { return self };
        // Edges rise; those at the lowest number are passed by every number, those at the highest by none.
        let always = edges.iter().take_while(|e| **e == f32::MIN).count();
        let never = edges[always..].iter().rev().take_while(|e| **e == f32::MAX).count();
        let last = edges.len() - never;
        edges.truncate(last);
        edges.drain(..always);
        for row in &mut self.table {
            row.truncate(last + 1);
            row.drain(..always);
        }
        self
    }
}

/// The numbers that a quantiser puts out, rising, if they are few.
fn quantizer_levels(q: &Quantizer) -> Option<Vec<f32>> {
    let codes = integers(q.lowest, q.highest)?;
    Some(codes.into_iter().map(|n| (n - q.zero) * q.scale).collect())
}

fn integers(low: f32, high: f32) -> Option<Vec<f32>> {
    let n = high - low;
    ((0.0..MAX_LEVELS as f32).contains(&n) && low.abs() <= FAR)
        .then(|| (0..=n as usize).map(|i| low + i as f32).collect())
}

/// Scale and offset that make the levels of a format the numbers of `row`.
pub(super) fn linear(quant: Quant, row: &[f32]) -> Option<(f32, f32)> {
    let value = |i: usize| quant.value_of_level(i) as f32;
    let last = row.len() - 1;
    let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let holds = |scale: f32, offset: f32| {
        row.iter().enumerate().all(|(i, v)| (value(i) * scale + offset - v).abs() <= largest * 1e-6)
    };
    // Without an offset if possible: a scale from the outermost level is the most exact.
    let outer = if value(last).abs() >= value(0).abs() { last } else { 0 };
    let scale = row[outer] / value(outer);
    if holds(scale, 0.0) {
        return Some((scale, 0.0));
    }
    let scale = (row[last] - row[0]) / (value(last) - value(0));
    let offset = row[0] - value(0) * scale;
    holds(scale, offset).then_some((scale, offset))
}
