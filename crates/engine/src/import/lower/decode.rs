//! Floats of values that have levels, where an operator needs them.

use super::levels::{MOST_UNEVEN, Source, linear};
use super::{Affine, Float, Form, Levels, Lowerer, Var};
use crate::error::{Error, Result};
use onebit_core::DType;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{Op, Threshold};
use onebit_core::types::{Encoding, Quant};

impl Lowerer {
    /// `x` without what is known of its levels, for functions that would make many uneven ones of them.
    ///
    /// # Errors
    /// As [`Lowerer::float`].
    pub fn floats(&mut self, name: &str, x: Var) -> Result<Var> {
        let x = self.unpadded(name, x)?;
        let value = self.float(name, &x)?;
        Ok(self.with(&x, Form::Float(Float::new(value))))
    }

    /// `x` as floats.
    ///
    /// # Errors
    /// When its levels are too many for the ops there are.
    pub fn float(&mut self, name: &str, x: &Var) -> Result<usize> {
        let x = &self.unpadded(name, x.clone())?;
        match &x.form {
            Form::Float(f) => Ok(f.value),
            Form::Index(value) => {
                let c = self.shape(*value).c;
                self.add(name, Op::Affine, &[*value], Affine::of_scale(vec![1.0; c]).params())
            }
            Form::Rounded { before, after } => {
                let (mut value, after) = (before.value, after.clone());
                for f in after {
                    value = self.emit(name, value, f)?;
                }
                Ok(value)
            }
            Form::Levels(levels) => match self.pack(levels)? {
                Some(packed) => self.decoded(name, &packed),
                None => self.summed(name, levels),
            },
        }
    }

    /// What `op`, which only copies numbers from place to place, makes of `x`: levels stay levels.
    ///
    /// # Errors
    /// As ops are added.
    pub(super) fn copied(&mut self, name: &str, x: &Var, op: Op) -> Result<Form> {
        if let Form::Levels(levels) = &x.form {
            let levels = self.as_edges(name, levels)?;
            if let Source::Edges { base, edges, name } = levels.source {
                let base = self.add(&name, op, &[base], Params::default())?;
                return Ok(Form::Levels(Levels { source: Source::Edges { base, edges, name }, ..levels }));
            }
        }
        let value = self.float(name, x)?;
        let value = self.add(name, op, &[value], Params::default())?;
        Ok(Form::Float(Float { range: self.range(x), ..Float::new(value) }))
    }

    /// Floats of integers whose meaning is linear in each channel.
    fn decoded(&mut self, name: &str, packed: &Levels) -> Result<usize> {
        let value = packed.value();
        let quant = self.format(value).quant().ok_or_else(|| Error::layer(name, "has too many levels"))?;
        let linear: Option<Vec<(f32, f32)>> = packed.table.iter().map(|row| linear(quant, row)).collect();
        let c = self.shape(value).c;
        let Some(linear) = linear else {
            let edges = self.as_edges(name, packed)?;
            return self.summed(name, &edges);
        };
        let floats = self.add(name, Op::Decode, &[value], Params::default())?;
        let of = |f: fn(&(f32, f32)) -> f32| {
            (0..c).map(|c| f(&linear[c.min(linear.len() - 1)])).collect::<Vec<f32>>()
        };
        let affine = Affine { center: None, scale: of(|l| l.0), bias: of(|l| l.1) };
        let params = affine.params();
        if params.each().next().is_none() {
            return Ok(floats);
        }
        self.add(name, Op::Affine, &[floats], params)
    }

    /// The same levels by edges over decoded integers.
    fn as_edges(&mut self, name: &str, levels: &Levels) -> Result<Levels> {
        let Source::Packed { value } = levels.source else { return Ok(levels.clone()) };
        let quant = self.format(value).quant().ok_or_else(|| Error::Model("has too many levels".into()))?;
        let base = self.add(name, Op::Decode, &[value], Params::default())?;
        let edges = (1..quant.levels()).map(|i| quant.value_of_level(i) as f32 - 0.5).collect();
        Ok(Levels { source: Source::Edges { base, edges, name: name.into() }, table: levels.table.clone() }
            .merged())
    }

    /// Floats of levels that are on no grid, or rise and fall: the first number, and what each edge adds to it.
    fn summed(&mut self, name: &str, levels: &Levels) -> Result<usize> {
        let Source::Edges { base, edges, .. } = &levels.source else {
            return self.decoded(name, levels);
        };
        if edges.len() >= MOST_UNEVEN {
            return Err(Error::layer(
                name,
                format!("has {} uneven levels, which is too many", edges.len() + 1),
            ));
        }
        let c = self.shape(*base).c;
        let of = |i: usize| -> Vec<f32> {
            (0..c).map(|c| levels.table[c.min(levels.table.len() - 1)][i]).collect()
        };
        let mut sum: Option<usize> = None;
        for (i, edge) in edges.iter().enumerate() {
            let thresholds = Some(Tensor::f32_matrix(c, 1, vec![*edge; c]));
            let bit = DType::Bits(Quant::new(1, Encoding::Unsigned));
            let params = Params { thresholds, ..Params::default() };
            let value = self.add(name, Op::Threshold(Threshold { output: bit }), &[*base], params)?;
            let value = self.add(name, Op::Decode, &[value], Params::default())?;
            let scale = of(i + 1).iter().zip(of(i)).map(|(b, a)| b - a).collect();
            let bias = if i == 0 { of(0) } else { vec![0.0; c] };
            let params = Affine { center: None, scale, bias }.params();
            let value = self.add(name, Op::Affine, &[value], params)?;
            sum = Some(match sum {
                Some(sum) => self.add(name, Op::Add, &[sum, value], Params::default())?,
                None => value,
            });
        }
        sum.ok_or_else(|| Error::layer(name, "is constant"))
    }

    /// The levels again where a function makes fewer of integers.
    pub(super) fn relevel(&mut self, name: &str, levels: Levels) -> Result<Levels> {
        // Only what tells some integers no longer apart has to be taken apart.
        let Source::Packed { value } = levels.source else { return Ok(levels) };
        let quant = self.format(value).quant();
        let linear = |row: &Vec<f32>| quant.and_then(|q| linear(q, row)).is_some();
        if levels.table.iter().all(linear) { Ok(levels) } else { self.as_edges(name, &levels) }
    }
}
