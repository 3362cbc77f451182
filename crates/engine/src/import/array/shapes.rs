//! What moves elements and leaves them as they are.

use super::{Array, Elements, count};
use crate::error::{Error, Result};
use std::borrow::Cow;

/// The same for elements of every type.
macro_rules! each {
    ($elements:expr, $v:ident => $result:expr) => {
        match $elements {
            Elements::F32($v) => Elements::F32($result),
            Elements::I64($v) => Elements::I64($result),
            Elements::Bool($v) => Elements::Bool($result),
        }
    };
}

/// The shape to which all of these expand: axes are matched from the last, and those of length 1 are repeated.
///
/// # Errors
/// When two lengths of an axis differ and none is 1, or the shape is too large.
pub fn broadcast<'a>(shapes: impl IntoIterator<Item = &'a [usize]>) -> Result<Vec<usize>> {
    let mut result: Vec<usize> = Vec::new();
    for shape in shapes {
        let missing = shape.len().saturating_sub(result.len());
        result.splice(0..0, std::iter::repeat_n(1, missing));
        for (to, d) in result.iter_mut().rev().zip(shape.iter().rev()) {
            match (*to, *d) {
                (1, d) => *to = d,
                (a, d) if d != 1 && a != d => {
                    return Err(Error::Model(format!(
                        "axes of the lengths {a} and {d} do not fit each other"
                    )));
                }
                _ => {}
            }
        }
    }
    count(&result)?;
    Ok(result)
}

/// Elements in the order of `shape`, of which step `i` of axis `a` is `i * strides[a]` places on.
fn strided<T: Copy>(from: &[T], shape: &[usize], strides: &[usize]) -> Vec<T> {
    let n = shape.iter().product();
    let mut to = Vec::with_capacity(n);
    let (Some((length, outer)), Some(stride)) = (shape.split_last(), strides.last()) else {
        return from.to_vec();
    };
    let mut index = vec![0; outer.len()];
    let mut start = 0;
    while to.len() < n {
        to.extend((0..*length).map(|i| from[start + i * stride]));
        for axis in (0..outer.len()).rev() {
            index[axis] += 1;
            start += strides[axis];
            if index[axis] < outer[axis] {
                break;
            }
            start -= strides[axis] * outer[axis];
            index[axis] = 0;
        }
    }
    to
}

impl Array {
    /// Place of an axis, which counts from the end if it is negative.
    ///
    /// # Errors
    /// When there is no such axis.
    pub fn axis(&self, axis: i64) -> Result<usize> {
        axis_of(axis, self.shape.len())
    }

    /// How far apart neighbours along each axis lie.
    fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.shape.len()];
        for axis in (1..strides.len()).rev() {
            strides[axis - 1] = strides[axis] * self.shape[axis];
        }
        strides
    }

    /// Lengths before and after an axis.
    pub(super) fn around(&self, axis: usize) -> (usize, usize) {
        (self.shape[..axis].iter().product(), self.shape[axis + 1..].iter().product())
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// When that has another number of elements.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Array> {
        if count(&shape)? != self.len() {
            return Err(Error::Model(format!(
                "a constant of {} elements cannot have the shape {shape:?}",
                self.len()
            )));
        }
        Ok(Array { shape, elements: self.elements.clone() })
    }

    /// Axis `i` of the result is axis `order[i]`.
    ///
    /// # Errors
    /// When `order` does not have every axis once.
    pub fn transposed(&self, order: &[usize]) -> Result<Array> {
        let rank = self.shape.len();
        if order.len() != rank || (0..rank).any(|axis| !order.contains(&axis)) {
            return Err(Error::Model(format!("the order of axes does not name each of {rank} once")));
        }
        let shape: Vec<usize> = order.iter().map(|a| self.shape[*a]).collect();
        let strides = self.strides();
        let strides: Vec<usize> = order.iter().map(|a| strides[*a]).collect();
        let elements = each!(&self.elements, v => strided(v, &shape, &strides));
        Array::new(shape, elements)
    }

    /// Repeated along axes of length 1 until it has `shape`, which may have more axes in front.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn expanded(&self, shape: &[usize]) -> Result<Cow<'_, Array>> {
        if self.shape == shape {
            return Ok(Cow::Borrowed(self));
        }
        count(shape)?;
        let front = shape.len().checked_sub(self.shape.len());
        let fits = |front: usize| self.shape.iter().zip(&shape[front..]).all(|(d, to)| *d == 1 || d == to);
        let Some(front) = front.filter(|f| fits(*f)) else {
            let text = format!("a constant of shape {:?} does not expand to {shape:?}", self.shape);
            return Err(Error::Model(text));
        };
        let own = self.strides().into_iter().zip(&self.shape).map(|(s, d)| if *d == 1 { 0 } else { s });
        let strides: Vec<usize> = std::iter::repeat_n(0, front).chain(own).collect();
        let elements = each!(&self.elements, v => strided(v, shape, &strides));
        Array::new(shape.to_vec(), elements).map(Cow::Owned)
    }

    /// Only these indices of an axis, in this order; they may repeat.
    ///
    /// # Errors
    /// When there is no such axis or index, or the result is too large.
    pub fn taken(&self, axis: usize, indices: &[usize]) -> Result<Array> {
        let length = *self.shape.get(axis).ok_or_else(|| no_axis(axis, self.shape.len()))?;
        if let Some(i) = indices.iter().find(|i| **i >= length) {
            return Err(Error::Model(format!("an axis of length {length} has no index {i}")));
        }
        let mut shape = self.shape.clone();
        shape[axis] = indices.len();
        let n = count(&shape)?;
        let (outer, inner) = self.around(axis);
        fn copy<T: Copy>(
            v: &[T],
            n: usize,
            outer: usize,
            inner: usize,
            length: usize,
            at: &[usize],
        ) -> Vec<T> {
            let mut to = Vec::with_capacity(n);
            for o in 0..outer {
                at.iter().for_each(|i| to.extend_from_slice(&v[(o * length + i) * inner..][..inner]));
            }
            to
        }
        // Without elements there is nothing to walk over.
        let outer = if n == 0 { 0 } else { outer };
        let elements = each!(&self.elements, v => copy(v, n, outer, inner, length, indices));
        Array::new(shape, elements)
    }

    /// One after the other along an axis.
    ///
    /// # Errors
    /// When there are none, or they differ in type or in the other axes.
    pub fn concatenated(arrays: &[&Array], axis: usize) -> Result<Array> {
        let first = *arrays.first().ok_or_else(|| Error::Model("it has no inputs".into()))?;
        let mut shape = first.shape.clone();
        if axis >= shape.len() {
            return Err(no_axis(axis, shape.len()));
        }
        shape[axis] = 0;
        for array in arrays {
            let same = |a: usize| a == axis || array.shape.get(a) == Some(&shape[a]);
            if array.shape.len() != shape.len() || !(0..shape.len()).all(same) {
                let text = format!("shapes {:?} and {:?} cannot be joined", first.shape, array.shape);
                return Err(Error::Model(text));
            }
            shape[axis] = shape[axis].saturating_add(array.shape[axis]);
        }
        let n = count(&shape)?;
        let (outer, _) = first.around(axis);
        fn join<T: Copy>(parts: &[&[T]], n: usize, outer: usize) -> Vec<T> {
            let mut to = Vec::with_capacity(n);
            for o in 0..if n == 0 { 0 } else { outer } {
                for part in parts {
                    let length = part.len() / outer;
                    to.extend_from_slice(&part[o * length..][..length]);
                }
            }
            to
        }
        fn parts<'a, T>(arrays: &[&'a Array], get: fn(&'a Array) -> Result<&'a [T]>) -> Result<Vec<&'a [T]>> {
            arrays.iter().map(|a| get(a)).collect()
        }
        let elements = match &first.elements {
            Elements::F32(_) => Elements::F32(join(&parts(arrays, Array::floats)?, n, outer)),
            Elements::I64(_) => Elements::I64(join(&parts(arrays, Array::integers)?, n, outer)),
            Elements::Bool(_) => Elements::Bool(join(&parts(arrays, Array::truths)?, n, outer)),
        };
        Array::new(shape, elements)
    }

    /// An array of one value, which is the only element of this.
    ///
    /// # Errors
    /// When it has another number of elements, or the shape is too large.
    pub fn filled(&self, shape: Vec<usize>) -> Result<Array> {
        let n = count(&shape)?;
        if self.len() != 1 {
            return Err(Error::Model(format!("one value is wanted, but there are {}", self.len())));
        }
        let elements = each!(&self.elements, v => vec![v[0]; n]);
        Array::new(shape, elements)
    }

    /// `before` and `after` more elements at the ends of an axis, all of them the only element of `value`; a negative
    /// number takes elements away.
    ///
    /// # Errors
    /// When there is no such axis, types differ, or more is taken away than there is.
    pub fn padded(&self, axis: usize, before: i64, after: i64, value: &Array) -> Result<Array> {
        let length = *self.shape.get(axis).ok_or_else(|| no_axis(axis, self.shape.len()))?;
        let cut = |v: i64| usize::try_from(v.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let grow = |v: i64| usize::try_from(v.max(0)).unwrap_or(usize::MAX);
        let end = length.checked_sub(cut(after)).filter(|end| cut(before) <= *end);
        let end =
            end.ok_or_else(|| Error::Model(format!("an axis of {length} is too short for its padding")))?;
        let kept: Vec<usize> = (cut(before)..end).collect();
        let kept = self.taken(axis, &kept)?;
        let border = |n: usize| {
            let mut shape = self.shape.clone();
            shape[axis] = n;
            value.filled(shape)
        };
        Array::concatenated(&[&border(grow(before))?, &kept, &border(grow(after))?], axis)
    }
}

/// Place of an axis, which counts from the end if it is negative, among `rank` of them.
///
/// # Errors
/// When there is no such axis.
pub(in crate::import) fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    let place = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let place = place.and_then(|p| usize::try_from(p).ok()).filter(|p| *p < rank);
    place.ok_or_else(|| no_axis(axis, rank))
}

fn no_axis(axis: impl std::fmt::Display, rank: usize) -> Error {
    Error::Model(format!("there is no axis {axis} among {rank}"))
}
