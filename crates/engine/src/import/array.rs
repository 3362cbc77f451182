//! Constants of other frameworks: N-dimensional arrays in C order, before they become weights.

mod numbers;
mod shapes;

pub(super) use numbers::{Reduction, maximum, minimum, work};
pub(super) use shapes::axis_of;
pub use shapes::broadcast;

use crate::error::{Error, Result};

/// Most elements of an array.
pub const MOST_ELEMENTS: usize = 1 << 28;

/// Most axes of an array.
pub const MOST_AXES: usize = 16;

/// Number of elements of a shape. The lengths that are not 0 multiply to no more than [`MOST_ELEMENTS`].
///
/// # Errors
/// When an array may not be that large.
pub fn count(shape: &[usize]) -> Result<usize> {
    let n = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d.max(&1)));
    match n.filter(|n| *n <= MOST_ELEMENTS && shape.len() <= MOST_AXES) {
        Some(n) => Ok(if shape.contains(&0) { 0 } else { n }),
        None if shape.len() > MOST_AXES => {
            Err(Error::Model(format!("a constant of {} axes has more than {MOST_AXES}", shape.len())))
        }
        None => {
            let text = format!("a constant of shape {shape:?} has more than {MOST_ELEMENTS} elements");
            Err(Error::Model(text))
        }
    }
}

/// Elements of an [`Array`]. Narrower types of a source are widened: half and double floats to f32, integers to i64.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Floats.
    F32(Vec<f32>),
    /// Integers.
    I64(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// A constant: shape and elements in C order. A scalar has no axes and one element.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// As many elements as the product of the shape.
    pub elements: Elements,
}

impl Array {
    /// Checks that the elements fill the shape.
    ///
    /// # Errors
    /// When they do not.
    pub fn new(shape: Vec<usize>, elements: Elements) -> Result<Self> {
        let count = count(&shape)?;
        let array = Array { shape, elements };
        match count == array.len() {
            true => Ok(array),
            false => Err(Error::Model(format!(
                "a constant of shape {:?} has {} elements",
                array.shape,
                array.len()
            ))),
        }
    }
    /// A float without axes.
    pub fn scalar(value: f32) -> Self {
        Array { shape: Vec::new(), elements: Elements::F32(vec![value]) }
    }
    /// A row of integers: shapes, axes and the like.
    pub fn ints(values: Vec<i64>) -> Self {
        Array { shape: vec![values.len()], elements: Elements::I64(values) }
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.elements {
            Elements::F32(v) => v.len(),
            Elements::I64(v) => v.len(),
            Elements::Bool(v) => v.len(),
        }
    }
    /// True if it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All elements as floats; truth is 1.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.elements {
            Elements::F32(v) => v.clone(),
            Elements::I64(v) => v.iter().map(|x| *x as f32).collect(),
            Elements::Bool(v) => v.iter().map(|x| f32::from(u8::from(*x))).collect(),
        }
    }
    /// All elements as integers, or `None` for floats.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match &self.elements {
            Elements::F32(_) => None,
            Elements::I64(v) => Some(v.clone()),
            Elements::Bool(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
        }
    }
    /// The number that all elements are, or `None` when they differ.
    pub fn uniform(&self) -> Option<f32> {
        let all = self.to_f32();
        let first = *all.first()?;
        all.iter().all(|v| *v == first).then_some(first)
    }
    /// The elements if they are floats.
    ///
    /// # Errors
    /// When they are not; so do the next two.
    pub fn floats(&self) -> Result<&[f32]> {
        match &self.elements {
            Elements::F32(v) => Ok(v),
            _ => Err(Error::Model("an input should have floats".into())),
        }
    }
    /// The elements if they are integers.
    ///
    /// # Errors
    /// When they are not.
    pub fn integers(&self) -> Result<&[i64]> {
        match &self.elements {
            Elements::I64(v) => Ok(v),
            _ => Err(Error::Model("an input should have integers".into())),
        }
    }
    /// The elements if they are truth values.
    ///
    /// # Errors
    /// When they are not.
    pub fn truths(&self) -> Result<&[bool]> {
        match &self.elements {
            Elements::Bool(v) => Ok(v),
            _ => Err(Error::Model("an input should have truth values".into())),
        }
    }
    /// The only element as a float, or `None` when there are more.
    pub fn as_scalar(&self) -> Option<f32> {
        (self.len() == 1).then(|| self.to_f32()[0])
    }
}
