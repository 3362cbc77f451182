//! Functions of single elements: of one value, of a value and a constant, of two values.

use super::layout::Constant;
use super::unary::{Compare, Order, Unary};
use super::{Affine, Channels, Float, Form, Levels, Lowerer, Var};
use crate::error::{Error, Result};
use crate::import::array::Array;
use onebit_core::DType;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{Elementwise, Op, Reshape, Threshold};
use onebit_core::types::{Encoding, Quant, Shape};

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// `max(a, b)`
    Max,
    /// `min(a, b)`
    Min,
    /// `a >= 0 ? a : a * b`
    Prelu,
    /// `a^b`
    Pow,
    /// 1 where the comparison holds, else 0.
    Compare(Compare),
}

impl Binary {
    /// Value at `a` and `b`.
    pub fn apply(self, a: f32, b: f32) -> f32 {
        self.with_right(b).apply(a)
    }
    /// The function of `a` for a constant `b`.
    fn with_right(self, b: f32) -> Unary {
        match self {
            Binary::Add => Unary::Add(b),
            Binary::Sub => Unary::Sub(b),
            Binary::Mul => Unary::Mul(b),
            Binary::Div => Unary::Div(b),
            Binary::Max => Unary::Max(b),
            Binary::Min => Unary::Min(b),
            Binary::Prelu => Unary::Leaky(b),
            Binary::Pow => Unary::Pow(b),
            Binary::Compare(compare) => Unary::Compare(compare, b),
        }
    }
    /// The function of `b` for a constant `a`, or `None` when there is no name for it.
    fn with_left(self, a: f32) -> Option<Unary> {
        Some(match self {
            Binary::Sub => Unary::SubFrom(a),
            Binary::Div => Unary::DivInto(a),
            Binary::Compare(compare) => Unary::Compare(compare.exchanged(), a),
            Binary::Prelu | Binary::Pow => return None,
            _ => self.with_right(a),
        })
    }
}

/// Most functions in a row that are looked through.
const MAX_CHAIN: usize = 64;

impl Lowerer {
    /// A function of one number, of every element.
    ///
    /// # Errors
    /// When no op computes it.
    pub fn unary(&mut self, name: &str, x: Var, f: Unary) -> Result<Var> {
        let padding = x.padding.map(|p| super::Padding { value: f.apply(p.value), ..p });
        let form = match &x.form {
            Form::Levels(levels) => {
                let mapped = self.map_levels(name, levels, 1, |_, v| f.apply(v))?;
                if self.is_even(&mapped) {
                    Form::Levels(mapped)
                } else {
                    let value = self.float(name, &x.clone().bare())?;
                    self.of_float(name, &Float { range: self.range(&x), ..Float::new(value) }, f)?
                }
            }
            Form::Float(float) => self.of_float(name, float, f)?,
            Form::Rounded { before, after } => {
                let after: Vec<Unary> = after.iter().copied().chain([f]).collect();
                match self.bounded(name, before, &after) {
                    _ if f.order() == Order::Neither => {
                        let value = self.float(name, &self.with(&x, x.form.clone()).bare())?;
                        self.of_float(name, &Float::new(value), f)?
                    }
                    Some(Form::Levels(uneven)) if !self.is_even(&uneven) => {
                        let value = self.float(name, &self.with(&x, x.form.clone()).bare())?;
                        self.of_float(name, &Float::new(value), f)?
                    }
                    Some(form) => form,
                    None if after.len() > MAX_CHAIN => {
                        let value = self.float(name, &self.with(&x, x.form.clone()).bare())?;
                        self.of_float(name, &Float::new(value), f)?
                    }
                    None => Form::Rounded { before: before.clone(), after },
                }
            }
            Form::Index(_) => {
                let value = self.float(name, &x)?;
                self.of_float(name, &Float::new(value), f)?
            }
        };
        Ok(Var { form, padding, ..x })
    }

    fn of_float(&mut self, name: &str, x: &Float, f: Unary) -> Result<Form> {
        if let Some(form) = self.quantized(name, x, f) {
            return Ok(form);
        }
        if let Unary::Round(_) = f {
            return Ok(Form::Rounded { before: x.clone(), after: vec![f] });
        }
        let value = self.emit(name, x.value, f)?;
        let (low, high) = (f.apply(x.range.0), f.apply(x.range.1));
        Ok(Form::Float(match f.order() {
            Order::Neither => Float::new(value),
            order => {
                let (low, high) = if order == Order::Falls { (high, low) } else { (low, high) };
                let known = !low.is_nan() && !high.is_nan();
                let range = if known { (low, high) } else { (f32::NEG_INFINITY, f32::INFINITY) };
                // A long chain starts again: each value has its own.
                if x.chain.len() < MAX_CHAIN {
                    let chain = x.chain.iter().copied().chain([f]).collect();
                    Float { value, root: x.root, chain, range }
                } else {
                    Float { range, ..Float::new(value) }
                }
            }
        }))
    }

    /// A function of `x` and a constant, which is its second argument unless `constant_first`.
    ///
    /// # Errors
    /// When shapes do not go together, or no op computes it.
    pub fn with_constant(
        &mut self,
        name: &str,
        f: Binary,
        x: Var,
        array: &Array,
        constant_first: bool,
    ) -> Result<Var> {
        if array.is_empty() || array.to_f32().iter().any(|v| v.is_nan()) {
            return Err(Error::layer(name, "has a constant that is empty or not a number"));
        }
        // What differs between elements differs in the padding too.
        let x = if array.uniform().is_some() { x } else { self.unpadded(name, x)? };
        if array.shape.len() > x.dims.len() + 1 && array.len() > 1 {
            return Err(Error::layer(
                name,
                "has a constant with more axes than the value beside it, which is not supported",
            ));
        }
        let constant = self.spread(name, &x, array)?;
        let unary = |v: f32| if constant_first { f.with_left(v) } else { Some(f.with_right(v)) };
        let refuse = || {
            Error::layer(name, format!("computes {f:?} with a constant on that side, which is not supported"))
        };
        let values = match constant {
            Constant::Uniform(v) => return self.unary(name, x, unary(v).ok_or_else(refuse)?),
            Constant::Channels(values) => values,
            Constant::Elements(values) => {
                let x = self.unpadded(name, x)?;
                return self.with_elements(name, f, x, values, constant_first);
            }
        };
        let functions: Vec<Unary> =
            values.iter().map(|v| unary(*v)).collect::<Option<_>>().ok_or_else(refuse)?;
        if let Form::Levels(levels) = &x.form
            && x.padding.is_none()
        {
            self.check_room(name, levels.table[0].len().checked_mul(values.len()))?;
            let mapped = self.map_levels(name, levels, values.len(), |c, v| functions[c].apply(v))?;
            if self.is_even(&mapped) {
                return Ok(self.with(&x, Form::Levels(mapped)));
            }
        }
        let x = self.unpadded(name, x)?;
        let value = self.float(name, &x)?;
        let value = self.channelwise(name, f, value, values, constant_first)?;
        let form = match f {
            // A comparison with c is one of the difference with 0, exactly.
            Binary::Compare(compare) => {
                let compare = if constant_first { compare.exchanged() } else { compare };
                self.of_float(name, &Float::new(value), Unary::Compare(compare, 0.0))?
            }
            _ => Form::Float(Float::new(value)),
        };
        Ok(self.with(&x, form))
    }

    /// A function of floats and one constant for each channel.
    fn channelwise(
        &mut self,
        name: &str,
        f: Binary,
        value: usize,
        values: Vec<f32>,
        constant_first: bool,
    ) -> Result<usize> {
        let n = values.len();
        let affine = match f {
            Binary::Add => Affine::of_bias(values),
            Binary::Sub if constant_first => Affine { center: None, scale: vec![-1.0; n], bias: values },
            Binary::Sub | Binary::Compare(_) => Affine::of_center(values),
            Binary::Mul => Affine::of_scale(values),
            Binary::Div if !constant_first => Affine::of_scale(values.iter().map(|v| 1.0 / v).collect()),
            Binary::Prelu => {
                let params = Params { scale: Some(Tensor::f32(values)), ..Params::default() };
                return self.add(name, Op::Prelu, &[value], params);
            }
            Binary::Pow => return Err(Error::layer(name, "has a different exponent for each channel")),
            Binary::Max | Binary::Min | Binary::Div => {
                // A map of one pixel that contains the constants: nothing else has them beside values.
                let shape = self.shape(value);
                let nothing = self.emit(name, value, Unary::Clip(0.0, 0.0))?;
                let map = self.affine(name, nothing, Affine::of_bias(values))?;
                debug_assert_eq!(self.shape(map), shape);
                let (op, inputs) = match f {
                    Binary::Max => (Op::Max, [value, map]),
                    Binary::Min => (Op::Min, [value, map]),
                    _ => (Op::Div, [map, value]),
                };
                return self.add(name, op, &inputs, Params::default());
            }
        };
        self.affine(name, value, affine)
    }

    /// A function of floats and one constant for each element.
    fn with_elements(&mut self, name: &str, f: Binary, x: Var, values: Vec<f32>, first: bool) -> Result<Var> {
        let map = self.map_of(&x);
        let value = self.float(name, &x)?;
        let vector = Op::Reshape(Reshape { shape: Shape::vector(map.elements()) });
        let value = self.add(name, vector, &[value], Params::default())?;
        let value = self.channelwise(name, f, value, values, first)?;
        let value = self.add(name, Op::Reshape(Reshape { shape: map }), &[value], Params::default())?;
        let form = match f {
            Binary::Compare(compare) => {
                let compare = if first { compare.exchanged() } else { compare };
                self.of_float(name, &Float::new(value), Unary::Compare(compare, 0.0))?
            }
            _ => Form::Float(Float::new(value)),
        };
        Ok(self.with(&x, form))
    }

    /// BatchNorm: `(x - center) * scale + bias`, with constants that go with `x` as those of a binary function.
    ///
    /// # Errors
    /// When shapes do not go together.
    pub fn normalized(&mut self, name: &str, x: Var, constants: &[Array; 3]) -> Result<Var> {
        let x = self.unpadded(name, x)?;
        let map = self.map_of(&x);
        let mut spread = Vec::with_capacity(3);
        for array in constants {
            spread.push(self.spread(name, &x, array)?);
        }
        if spread.iter().any(|s| matches!(s, Constant::Elements(_))) {
            let [center, scale, bias] = constants;
            let x = self.with_constant(name, Binary::Sub, x, center, false)?;
            let x = self.with_constant(name, Binary::Mul, x, scale, false)?;
            return self.with_constant(name, Binary::Add, x, bias, false);
        }
        let mut each = spread.into_iter().map(|s| match s {
            Constant::Uniform(v) => vec![v; map.c],
            Constant::Channels(values) | Constant::Elements(values) => values,
        });
        let mut next = || each.next().unwrap_or_default();
        let (center, scale, bias) = (next(), next(), next());
        let form = match &x.form {
            Form::Levels(levels) => {
                self.check_room(name, levels.table[0].len().checked_mul(map.c))?;
                let f = |c: usize, v: f32| (v - center[c]) * scale[c] + bias[c];
                Form::Levels(self.map_levels(name, levels, map.c, f)?)
            }
            _ => {
                let value = self.float(name, &x)?;
                let value = self.affine(name, value, Affine { center: Some(center), scale, bias })?;
                Form::Float(Float::new(value))
            }
        };
        Ok(self.with(&x, form))
    }

    /// How many thresholds are reached: `values` has `rows` rows, one for each channel or one for all, of `steps`.
    ///
    /// # Errors
    /// When rows and channels differ, or there are more than 255 steps.
    pub fn thresholds(
        &mut self,
        name: &str,
        x: Var,
        rows: usize,
        steps: usize,
        values: Vec<f32>,
        channels_last: bool,
    ) -> Result<Var> {
        let channels = if channels_last { Channels::Last } else { Channels::First };
        let x = self.as_map(name, x, channels)?;
        let x = self.unpadded(name, x)?;
        let (c, rank) = (self.map_of(&x).c, x.dims.len());
        let bits = (1..=8u8).find(|bits| (1usize << bits) > steps);
        let (Some(bits), true) = (bits, (rows == c || rows == 1) && values.len() == rows * steps) else {
            return Err(Error::layer(
                name,
                format!("has {rows} rows of {steps} thresholds for {c} channels"),
            ));
        };
        // Bits are -1 and +1, so that padding may be either of them or lie between.
        let encoding = if steps == 1 { Encoding::Bipolar } else { Encoding::Unsigned };
        let quant = Quant::new(bits, encoding);
        // Steps that the format has and the source has not are never reached.
        let all = quant.levels() - 1;
        let row = |c: usize| {
            let row = &values[c.min(rows - 1) * steps..][..steps];
            (0..all).map(|i| row.get(i).copied().unwrap_or(f32::MAX).clamp(f32::MIN, f32::MAX))
        };
        let thresholds = Tensor::f32_matrix(c, all, (0..c).flat_map(row).collect());
        let params = Params { thresholds: Some(thresholds), ..Params::default() };
        let value = self.float(name, &x)?;
        let op = Op::Threshold(Threshold { output: DType::Bits(quant) });
        let value = self.add(name, op, &[value], params)?;
        let table = vec![(0..quant.levels()).map(|i| i as f32).collect()];
        Ok(self.map_with(value, rank, channels, Form::Levels(Levels::packed(value, table))))
    }

    /// A function of two values, one of which may be repeated along axes of length 1.
    ///
    /// # Errors
    /// When shapes do not go together, or no op computes it.
    pub fn binary(&mut self, name: &str, f: Binary, a: Var, b: Var) -> Result<Var> {
        let (a, b) = (self.unpadded(name, a)?, self.unpadded(name, b)?);
        let b = self.unrepeated(b, &a);
        let a = if f == Binary::Div || a.dims != b.dims { a } else { self.unrepeated(a, &b) };
        if let (Form::Levels(la), Form::Levels(lb)) = (&a.form, &b.form)
            && a.groups == b.groups
            && let Some(form) = self.joined_levels(la, lb, |x, y| f.apply(x, y))
            && matches!(&form, Form::Levels(levels) if self.is_even(levels))
        {
            return Ok(self.with(&a, form));
        }
        let op = match f {
            Binary::Add => Elementwise::Add,
            Binary::Mul => Elementwise::Mul,
            Binary::Div => Elementwise::Div,
            Binary::Max => Elementwise::Max,
            Binary::Min => Elementwise::Min,
            Binary::Sub => {
                let b = self.unary(name, b, Unary::Mul(-1.0))?;
                return self.binary(name, Binary::Add, a, b);
            }
            // A difference has the sign of the comparison, exactly.
            Binary::Compare(compare) => {
                let difference = self.binary(name, Binary::Sub, a, b)?;
                return self.unary(name, difference, Unary::Compare(compare, 0.0));
            }
            Binary::Prelu | Binary::Pow => {
                return Err(Error::layer(name, "has a slope or an exponent that is no constant"));
            }
        };
        // Axes of length 1 in front, as broadcasting has it.
        let rank = a.dims.len().max(b.dims.len());
        let (a, b) = (a.with_rank(rank), b.with_rank(rank));
        let refuse = |a: &Var, b: &Var| {
            Error::layer(
                name,
                format!("combines shapes [N, {:?}] and [N, {:?}], which do not go together", a.dims, b.dims),
            )
        };
        if a.dims.iter().zip(&b.dims).any(|(x, y)| x != y && *x != 1 && *y != 1) {
            return Err(refuse(&a, &b));
        }
        // The larger one first; both of them may be repeated only by the other op order.
        let size = |x: &Var| x.dims.iter().product::<usize>();
        let exchanged = size(&a) < size(&b);
        let (mut large, mut small) = if exchanged { (b, a) } else { (a, b) };
        // A flattened map beside another order: its axes are taken apart.
        if large.groups.iter().any(|g| g.len() > 1) && small.groups != large.groups {
            large = self.apart(name, large)?;
        }
        if small.dims != large.dims && rank <= 3 {
            // Where channels are channels an op may repeat them; what no op repeats is joined to itself.
            large = self.as_map(name, large, Channels::First)?;
            if !repeatable(&small.dims, &large.dims) {
                let both = small.dims.iter().zip(&large.dims).map(|(a, b)| *a.max(b));
                let dims: Vec<usize> = both.collect();
                large = self.repeated(name, large, dims.clone())?;
                small = self.repeated(name, small, dims)?;
            }
        }
        let small = self.arranged(name, small, &large.groups)?;
        let (mut large_value, mut small_value) = (self.float(name, &large)?, self.float(name, &small)?);
        let (from, to) = (self.shape(small_value), self.shape(large_value));
        let repeats = from == to
            || (from.pixels() == 1 && (from.c == to.c || from.c == 1))
            || (from.c == 1 && (from.h, from.w) == (to.h, to.w));
        if !repeats {
            return Err(refuse(&large, &small));
        }
        if exchanged && op == Elementwise::Div {
            if from != to {
                return Err(Error::layer(name, "divides a value by a larger one, which is not supported"));
            }
            std::mem::swap(&mut large_value, &mut small_value);
        }
        let value = self.add(name, Self::elementwise(op), &[large_value, small_value], Params::default())?;
        Ok(Var { form: Form::Float(Float::new(value)), padding: None, ..large })
    }
}

/// Whether ops of two maps with channels first repeat the small one: one number for each channel, for each pixel, or
/// for all.
fn repeatable(small: &[usize], large: &[usize]) -> bool {
    let (Some((sc, sp)), Some((lc, lp))) = (small.split_first(), large.split_first()) else { return true };
    let one = |d: &usize| *d == 1;
    let (channels, pixels) = (sc == lc, sp == lp);
    (channels || *sc == 1) && (pixels || sp.iter().all(one)) && large.iter().zip(small).all(|(l, s)| s <= l)
}

impl Var {
    /// The same with axes of length 1 in front.
    fn with_rank(mut self, rank: usize) -> Self {
        while self.dims.len() < rank {
            self.dims.insert(0, 1);
            self.groups.insert(0, Vec::new());
        }
        self
    }
    /// Without padding, which the caller keeps.
    fn bare(mut self) -> Self {
        self.padding = None;
        self
    }
}
