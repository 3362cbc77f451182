//! Codes of 8 bits that a source computes in integers, to the last bit.
//!
//! What such a source does to one integer rises with it, so it is known by where each code begins: thresholds, which the
//! passes put into the product before them. Sums of two codes need more bits than a float has: their terms are looked up
//! as integers, added, and compared.

use super::levels::linear;
use super::{Form, Levels, Lowerer, Var};
use crate::error::{Error, Result};
use onebit_core::DType;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{Op, Quantize, Rounding, Threshold};
use onebit_core::types::{Encoding, Quant};

/// Smallest and largest code.
pub type Range = (i32, i32);

/// The format of bytes that holds `range`.
fn bytes(range: Range) -> Quant {
    Quant::new(8, if range.0 < 0 { Encoding::Signed } else { Encoding::Unsigned })
}

impl Lowerer {
    /// Codes of numbers: those of channel `c` of the map are at least `code` from `edge(c, code)` on, which rises with
    /// the code.
    ///
    /// # Errors
    /// As ops are added.
    pub fn stepped(
        &mut self,
        name: &str,
        x: Var,
        range: Range,
        edge: impl Fn(usize, i32) -> f32,
    ) -> Result<Var> {
        let x = self.unpadded(name, x)?;
        let value = self.float(name, &x)?;
        let (quant, c) = (bytes(range), self.shape(value).c);
        self.check_room(name, c.checked_mul(quant.levels()))?;
        let edge = |c: usize, code: i32| match code {
            _ if code <= range.0 => f32::MIN,
            _ if code > range.1 => f32::MAX,
            _ => edge(c, code),
        };
        let edges = (0..c).flat_map(|c| (1..quant.levels()).map(move |i| (c, quant.value_of_level(i))));
        let edges = edges.map(|(c, code)| edge(c, code)).collect();
        self.codes(name, &x, value, quant, Tensor::f32_matrix(c, quant.levels() - 1, edges))
    }

    /// A threshold for each code but the first.
    fn codes(
        &mut self,
        name: &str,
        like: &Var,
        value: usize,
        quant: Quant,
        edges: Tensor<'static>,
    ) -> Result<Var> {
        let params = Params { thresholds: Some(edges), ..Params::default() };
        let value =
            self.add(name, Op::Threshold(Threshold { output: DType::Bits(quant) }), &[value], params)?;
        self.of_integers(like, value, 1.0, 0.0)
    }

    /// What `term` makes of each level of `x`, whose levels are the same in all channels.
    fn looked_up(&mut self, name: &str, x: &Var, term: impl Fn(i32) -> i32) -> Result<usize> {
        let packed = match &x.form {
            Form::Levels(levels) => self.pack(levels)?,
            _ => None,
        };
        let (Some(packed), Some(quant)) =
            (&packed, packed.as_ref().and_then(|p| self.format(p.value()).quant()))
        else {
            return Err(Error::layer(name, "reads codes that are no integers of at most 8 bits"));
        };
        let row = &packed.table[0];
        let value = match self.format(packed.value()) {
            DType::Bits(_) => packed.value(),
            // Bytes of the input.
            _ => self.rounded(name, packed.value(), quant)?,
        };
        let table = Tensor::i32_matrix(1, row.len(), row.iter().map(|v| term(*v as i32)).collect());
        self.add(name, Op::Lookup, &[value], Params { weight: Some(table), ..Params::default() })
    }

    /// Numbers that are integers of a format, in that format.
    fn rounded(&mut self, name: &str, value: usize, quant: Quant) -> Result<usize> {
        let quantize = Quantize {
            scale: 1.0,
            offset: 0.0,
            rounding: Rounding::HalfEven,
            output: DType::Bits(quant),
            lowest: quant.min(),
            highest: quant.max(),
        };
        self.add(name, Op::Quantize(quantize), &[value], Params::default())
    }

    /// Codes that a function makes of codes.
    ///
    /// # Errors
    /// When `x` is no codes.
    pub fn recoded(&mut self, name: &str, x: Var, range: Range, f: impl Fn(i32) -> i32) -> Result<Var> {
        let x = self.unpadded(name, x)?;
        let f = |code: i32| f(code).clamp(range.0, range.1);
        // Codes that are only moved stay what they are.
        if let Form::Levels(levels) = &x.form
            && let Some(packed) = self.pack(levels)?
            && let (value, [row]) = (packed.value(), packed.table.as_slice())
            && let row = row.iter().map(|v| f(*v as i32) as f32).collect::<Vec<f32>>()
            && let Some(quant) = self.format(value).quant()
            && linear(quant, &row).is_some()
        {
            return Ok(Var { form: Form::Levels(Levels::packed(value, vec![row])), ..x });
        }
        let value = self.looked_up(name, &x, f)?;
        let value = self.rounded(name, value, bytes(range))?;
        self.of_integers(&x, value, 1.0, 0.0)
    }

    /// Codes of the sum of a term for each code of `a` and one for each of `b`; the sum makes at least `code` from
    /// `edge(code)` on. `None` where one of the two would have to be repeated.
    ///
    /// # Errors
    /// When `a` or `b` is no codes.
    pub fn sum_of_codes(
        &mut self,
        name: &str,
        [a, b]: [Var; 2],
        terms: [&dyn Fn(i32) -> i32; 2],
        range: Range,
        edge: impl Fn(i32) -> i32,
    ) -> Result<Option<Var>> {
        let (a, b) = (self.unpadded(name, a)?, self.unpadded(name, b)?);
        if a.dims != b.dims {
            return Ok(None);
        }
        let b = self.arranged(name, b, &a.groups)?;
        let mut values = [0; 2];
        for ((value, x), term) in values.iter_mut().zip([&a, &b]).zip(terms) {
            *value = self.looked_up(name, x, term)?;
        }
        if self.shape(values[0]) != self.shape(values[1]) {
            return Ok(None);
        }
        let sum = self.add(name, Op::Add, &values, Params::default())?;
        let (quant, c) = (bytes(range), self.shape(sum).c);
        let limit = |code: i32| match code {
            _ if code <= range.0 => i32::MIN,
            _ if code > range.1 => i32::MAX,
            _ => edge(code),
        };
        let row: Vec<i32> = (1..quant.levels()).map(|i| limit(quant.value_of_level(i))).collect();
        self.check_room(name, c.checked_mul(row.len()))?;
        let edges = Tensor::i32_matrix(c, row.len(), row.repeat(c));
        self.codes(name, &a, sum, quant, edges).map(Some)
    }
}
