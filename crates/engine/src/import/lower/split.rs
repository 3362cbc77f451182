//! Values that have more axes for a while than a map: a channel shuffle, patches of a picture.

use super::{Lowerer, Var};
use crate::error::{Error, Result};

/// A value whose axes are split into more than a map has.
#[derive(Clone, Debug)]
pub struct Split {
    x: Var,
    /// Lengths of the axes after the batch that `x` is split into.
    pub dims: Vec<usize>,
    /// In which order they come now.
    order: Vec<usize>,
}

impl Split {
    /// `x` as it is.
    pub fn of(x: Var) -> Self {
        Split { dims: x.dims.clone(), order: (0..x.dims.len()).collect(), x }
    }
    /// Lengths of the axes as they come now.
    pub fn now(&self) -> Vec<usize> {
        self.order.iter().map(|i| self.dims[*i]).collect()
    }
    /// The same elements with axes `dims`, where these are too many for a map.
    pub fn further(&self, dims: &[usize]) -> Option<Split> {
        let more = self.order.is_sorted() && dims.iter().filter(|d| **d > 1).count() > 3;
        more.then(|| Split { x: self.x.clone(), dims: dims.to_vec(), order: (0..dims.len()).collect() })
    }
    /// The axes in another order; `order` must name each of them once.
    #[must_use]
    pub fn transposed(&self, order: &[usize]) -> Split {
        Split { order: order.iter().map(|i| self.order[*i]).collect(), ..self.clone() }
    }
}

impl Lowerer {
    /// A value that was split, with axes `dims`.
    ///
    /// # Errors
    /// When more than three axes would have to be told apart.
    pub fn joined(&mut self, name: &str, split: Split, dims: Vec<usize>) -> Result<Var> {
        let Split { x, dims: parts, order } = split;
        if order.is_sorted() {
            return self.reshaped(name, x, dims);
        }
        // Channel shuffle: the channels are split in two, which change places.
        if let ([outer, inner, rest @ ..], [1, 0, ..]) = (parts.as_slice(), order.as_slice())
            && order[2..].is_sorted()
            && dims == x.dims
            && x.dims.len() == 3
            && rest == &x.dims[1..]
        {
            return self.shuffled(name, x, *outer, *inner);
        }
        // Axes that stay side by side count as one.
        let mut runs: Vec<(usize, usize)> = Vec::new();
        let mut last = None;
        for i in &order {
            match runs.last_mut() {
                Some((_, n)) if last.is_some_and(|l: usize| l + 1 == *i) => *n *= parts[*i],
                _ => runs.push((*i, parts[*i])),
            }
            last = Some(*i);
        }
        runs.retain(|(_, n)| *n > 1);
        if runs.len() > 3 {
            return Err(Error::layer(
                name,
                format!("would need a map of {} axes; maps have three", runs.len()),
            ));
        }
        let mut sorted = runs.clone();
        sorted.sort_unstable();
        let place = |run: &(usize, usize)| sorted.iter().position(|s| s == run).unwrap_or(0);
        let order: Vec<usize> = runs.iter().map(place).collect();
        let x = self.reshaped(name, x, sorted.iter().map(|s| s.1).collect())?;
        let x = self.transposed(x, &order);
        self.reshaped(name, x, dims)
    }
}
