//! What computes with elements.

use super::{Array, Elements, broadcast};
use crate::error::{Error, Result};
use std::borrow::Cow;

/// Most multiplications or comparisons that one constant may take.
const MOST_WORK: u64 = 1 << 32;

/// Refuses what would take minutes.
///
/// # Errors
/// When the product of the factors is too large.
pub(in crate::import) fn work(factors: &[usize]) -> Result<()> {
    let product = factors.iter().try_fold(1u64, |n, f| n.checked_mul(*f as u64));
    match product.is_some_and(|n| n <= MOST_WORK) {
        true => Ok(()),
        false => Err(Error::Model("it is too large to be evaluated: export the result as a constant".into())),
    }
}

/// What a reduction does with the elements along its axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::import) enum Reduction {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    SumSquare,
    LogSumExp,
}

impl Array {
    /// `f` of every element.
    ///
    /// # Errors
    /// When they are not floats.
    pub fn map(&self, f: impl Fn(f32) -> f32) -> Result<Array> {
        let elements = Elements::F32(self.floats()?.iter().map(|x| f(*x)).collect());
        Ok(Array { shape: self.shape.clone(), elements })
    }

    /// `floats` or `ints` of the elements of two arrays that are expanded to each other's shape.
    ///
    /// # Errors
    /// When shapes or types do not fit, or as `ints`.
    pub(in crate::import) fn zip(
        &self,
        other: &Array,
        floats: impl Fn(f32, f32) -> f32,
        ints: impl Fn(i64, i64) -> Result<i64>,
    ) -> Result<Array> {
        let (shape, a, b) = self.expanded_with(other)?;
        let elements = match &a.elements {
            Elements::F32(a) => {
                Elements::F32(a.iter().zip(b.floats()?).map(|(a, b)| floats(*a, *b)).collect())
            }
            Elements::I64(a) => {
                let values = a.iter().zip(b.integers()?).map(|(a, b)| ints(*a, *b));
                Elements::I64(values.collect::<Result<_>>()?)
            }
            Elements::Bool(_) => return Err(Error::Model("truth values cannot be computed with".into())),
        };
        Array::new(shape, elements)
    }

    /// Truth of pairs, as [`Array::zip`].
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub(in crate::import) fn compare(
        &self,
        other: &Array,
        floats: impl Fn(f32, f32) -> bool,
        ints: impl Fn(i64, i64) -> bool,
        truths: impl Fn(bool, bool) -> bool,
    ) -> Result<Array> {
        let (shape, a, b) = self.expanded_with(other)?;
        let values = match &a.elements {
            Elements::F32(a) => a.iter().zip(b.floats()?).map(|(a, b)| floats(*a, *b)).collect(),
            Elements::I64(a) => a.iter().zip(b.integers()?).map(|(a, b)| ints(*a, *b)).collect(),
            Elements::Bool(a) => a.iter().zip(b.truths()?).map(|(a, b)| truths(*a, *b)).collect(),
        };
        Array::new(shape, Elements::Bool(values))
    }

    fn expanded_with<'a>(&'a self, b: &'a Array) -> Result<(Vec<usize>, Cow<'a, Array>, Cow<'a, Array>)> {
        let shape = broadcast([&self.shape[..], &b.shape])?;
        let (a, b) = (self.expanded(&shape)?, b.expanded(&shape)?);
        Ok((shape, a, b))
    }

    /// Elements of `yes` where this is true, else of `no`.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn choose(&self, yes: &Array, no: &Array) -> Result<Array> {
        let shape = broadcast([&self.shape[..], &yes.shape, &no.shape])?;
        let (which, yes, no) = (self.expanded(&shape)?, yes.expanded(&shape)?, no.expanded(&shape)?);
        fn mix<T: Copy>(which: &[bool], yes: &[T], no: &[T]) -> Vec<T> {
            which.iter().zip(yes.iter().zip(no)).map(|(w, (y, n))| if *w { *y } else { *n }).collect()
        }
        let which = which.truths()?;
        let elements = match &yes.elements {
            Elements::F32(yes) => Elements::F32(mix(which, yes, no.floats()?)),
            Elements::I64(yes) => Elements::I64(mix(which, yes, no.integers()?)),
            Elements::Bool(yes) => Elements::Bool(mix(which, yes, no.truths()?)),
        };
        Array::new(shape, elements)
    }

    /// These axes innermost, and the number of elements along them.
    pub(in crate::import) fn rows(&self, axes: &[usize]) -> Result<(Cow<'_, Array>, usize)> {
        let rank = self.shape.len();
        let rest = (0..rank).filter(|a| !axes.contains(a));
        let order: Vec<usize> = rest.chain(axes.iter().copied()).collect();
        let rows = match order.is_sorted() {
            true if order.len() == rank => Cow::Borrowed(self),
            _ => Cow::Owned(self.transposed(&order)?),
        };
        Ok((rows, axes.iter().map(|a| self.shape[*a]).product()))
    }

    /// One element for all along `axes`, which keep the length 1 if `keep`. Sums of floats are taken in double precision:
    /// frameworks differ in their order.
    ///
    /// # Errors
    /// When there is no element to choose, integers overflow, or the elements are truth values.
    pub(in crate::import) fn reduced(&self, axes: &[usize], how: Reduction, keep: bool) -> Result<Array> {
        let shape: Vec<usize> = (0..self.shape.len())
            .filter(|a| keep || !axes.contains(a))
            .map(|a| if axes.contains(&a) { 1 } else { self.shape[a] })
            .collect();
        let (rows, length) = self.rows(axes)?;
        let n = super::count(&shape)?;
        if length == 0
            && !matches!(
                how,
                Reduction::Sum | Reduction::Prod | Reduction::L1 | Reduction::L2 | Reduction::SumSquare
            )
        {
            return Err(Error::Model("an axis without elements has no mean, maximum or minimum".into()));
        }
        let row = |i: usize| i * length..(i + 1) * length;
        let elements = match &rows.elements {
            Elements::F32(v) => Elements::F32((0..n).map(|i| reduce_floats(&v[row(i)], how)).collect()),
            Elements::I64(v) => {
                let values: Option<Vec<i64>> = (0..n).map(|i| reduce_ints(&v[row(i)], how)).collect();
                Elements::I64(values.ok_or_else(|| Error::Model("a sum of integers is too large".into()))?)
            }
            Elements::Bool(_) => return Err(Error::Model("truth values cannot be reduced".into())),
        };
        Array::new(shape, elements)
    }

    /// Product of two matrices, summed in double precision.
    ///
    /// # Errors
    /// When they are not float matrices that fit.
    pub fn multiplied(&self, other: &Array) -> Result<Array> {
        let ([m, k], [k2, n]) = (&self.shape[..], &other.shape[..]) else {
            return Err(Error::Model("only products of two matrices are supported".into()));
        };
        if k != k2 {
            return Err(Error::Model(format!("matrices of {k} columns and {k2} rows do not fit")));
        }
        work(&[*m, *k, *n])?;
        super::count(&[*m, *n])?;
        let (a, b) = (self.floats()?, other.floats()?);
        let mut to = Vec::with_capacity(m * n);
        let mut sums = vec![0f64; *n];
        for i in 0..*m {
            sums.fill(0.0);
            for j in 0..*k {
                let a = f64::from(a[i * k + j]);
                sums.iter_mut().zip(&b[j * n..(j + 1) * n]).for_each(|(s, b)| *s += a * f64::from(*b));
            }
            to.extend(sums.iter().map(|s| *s as f32));
        }
        Array::new(vec![*m, *n], Elements::F32(to))
    }
}

fn reduce_floats(row: &[f32], how: Reduction) -> f32 {
    let values = row.iter().map(|v| f64::from(*v));
    match how {
        Reduction::Sum => values.sum::<f64>() as f32,
        Reduction::Mean => (values.sum::<f64>() / row.len() as f64) as f32,
        Reduction::Prod => values.product::<f64>() as f32,
        Reduction::L1 => values.map(f64::abs).sum::<f64>() as f32,
        Reduction::L2 => values.map(|v| v * v).sum::<f64>().sqrt() as f32,
        Reduction::SumSquare => values.map(|v| v * v).sum::<f64>() as f32,
        Reduction::LogSumExp => {
            let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
            // Of infinity alone there is no difference to take.
            let most = if most.is_finite() { most } else { 0.0 };
            (most + values.map(|v| (v - most).exp()).sum::<f64>().ln()) as f32
        }
        Reduction::Max => row.iter().copied().fold(f32::NEG_INFINITY, maximum),
        Reduction::Min => row.iter().copied().fold(f32::INFINITY, minimum),
    }
}

fn reduce_ints(row: &[i64], how: Reduction) -> Option<i64> {
    let sum = |f: fn(i64) -> Option<i64>| row.iter().try_fold(0i64, |s, v| s.checked_add(f(*v)?));
    match how {
        Reduction::Sum => sum(Some),
        Reduction::Mean => sum(Some).map(|s| s / row.len() as i64),
        Reduction::Prod => row.iter().try_fold(1i64, |p, v| p.checked_mul(*v)),
        Reduction::L1 => sum(i64::checked_abs),
        Reduction::L2 => sum(|v| v.checked_mul(v)).map(|s| (s as f64).sqrt() as i64),
        Reduction::SumSquare => sum(|v| v.checked_mul(v)),
        // Not an integer.
        Reduction::LogSumExp => None,
        Reduction::Max => row.iter().copied().max(),
        Reduction::Min => row.iter().copied().min(),
    }
}

/// The larger one; not a number if one is none.
pub(in crate::import) fn maximum(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

/// The smaller one; not a number if one is none.
pub(in crate::import) fn minimum(a: f32, b: f32) -> f32 {
    if a.is_nan() || a < b { a } else { b }
}
