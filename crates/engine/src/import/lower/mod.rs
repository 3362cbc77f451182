//! From N-dimensional values of a source to nodes of a [`Graph`].
//!
//! A front end walks through its operators in order and calls one method of [`Lowerer`] for each. Two things happen
//! here. **Layout:** the graph has maps of height, width and channels; a [`Var`] knows which axes of the source lie where,
//! so that transpositions, reshapes and flattening of the source cost nothing unless an operator really needs another
//! order. **Levels:** a value that can only be one of a few numbers (after a sign, a comparison, a rounding) is kept as
//! the list of those numbers and the places where it changes from one to the next. Whatever function of one number the
//! source applies to it only changes the list. So `sign(sign(x) + 0.1)`, `where(x >= 0, 1, -1)`, `2 * cast(x > t) - 1` or
//! `round(clip(x, 0, 1) * 3) / 3` need no patterns: what they have in common is what they compute. When such a value
//! reaches a convolution whose weights lie on a [`grid`], the convolution runs on bits.

mod codes;
mod decode;
mod emit;
pub mod grid;
mod layout;
mod levels;
mod pointwise;
mod products;
mod spatial;
mod split;
pub mod unary;

pub use codes::Range as CodeRange;
pub use layout::{Constant, Padding};
pub use levels::Levels;
pub use pointwise::Binary;
pub use products::Filter;
pub use spatial::Pool;
pub use split::Split;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::meta::Meta;
use onebit_core::DType;
use onebit_core::model::{MAX_ELEMENTS, Params, Tensor};
use onebit_core::ops::Op;
use onebit_core::types::{Shape, ValueType};
use std::collections::HashMap;
use unary::Unary;

/// A value of the source that is not constant.
#[derive(Clone, Debug)]
pub struct Var {
    /// Length of each axis after the batch axis.
    pub dims: Vec<usize>,
    /// For each of these axes the axes of the graph's map (0 rows, 1 columns, 2 channels) that it runs over, the slowest
    /// first. Axes of length 1 have none; a flattened map has one axis that runs over three.
    groups: Vec<Vec<usize>>,
    form: Form,
    /// Rows and columns that are still to be added around the map.
    padding: Option<Padding>,
}

/// What the graph has of a value.
#[derive(Clone, Debug)]
enum Form {
    /// Floats.
    Float(Float),
    /// Floats that were rounded to integers and have no known bounds yet: the functions applied since, rounding first.
    Rounded { before: Float, after: Vec<Unary> },
    /// One of few numbers.
    Levels(Levels),
    /// Integers that are the network's result, as they are.
    Index(usize),
}

/// Floats, and how they follow from an earlier value by functions that keep or turn the order of numbers.
#[derive(Clone, Debug)]
struct Float {
    value: usize,
    root: usize,
    chain: Vec<Unary>,
    /// Smallest and largest possible number.
    range: (f32, f32),
}

impl Float {
    /// Floats of which nothing is known.
    fn new(value: usize) -> Self {
        Float { value, root: value, chain: Vec::new(), range: (f32::NEG_INFINITY, f32::INFINITY) }
    }
    /// The number that the chain makes of `x`.
    fn follow(&self, x: f32) -> f32 {
        self.chain.iter().fold(x, |x, f| f.apply(x))
    }
}

/// Makes a [`Graph`] of the operators of a source.
pub struct Lowerer {
    graph: Graph,
    /// Affine nodes over accumulators: what they read, and their constants.
    affines: HashMap<usize, (usize, Affine)>,
    /// Values that are another one repeated along axes of length 1, and how their axes lie.
    repeats: HashMap<usize, (Var, Vec<Vec<usize>>)>,
    /// Elements of constants that may still be added.
    room: usize,
}

/// Elements of constants that operators may bring along besides the weights of the file: a few bytes of a hostile file
/// can ask for constants of any size.
const ROOM: usize = 1 << 26;

/// `(x - center) * scale + bias` for each channel.
#[derive(Clone, Debug)]
struct Affine {
    center: Option<Vec<f32>>,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

/// Whether the channels of a source's maps are the first or the last axis after the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// NCHW: ONNX.
    First,
    /// NHWC: TensorFlow.
    Last,
}

impl Channels {
    /// The axes of the graph's map for each axis of a source's map of `rank` axes after the batch.
    pub fn groups(self, rank: usize) -> Vec<Vec<usize>> {
        let spatial: &[usize] = if rank < 3 { &[1] } else { &[0, 1] };
        let mut axes: Vec<usize> = if rank < 2 { Vec::new() } else { spatial.to_vec() };
        axes.insert(if self == Channels::First { 0 } else { axes.len() }, 2);
        axes.into_iter().map(|a| vec![a]).collect()
    }
}

impl Lowerer {
    /// A graph with one input of floats or bytes, whose axes after the batch are `dims`.
    ///
    /// # Errors
    /// When there are more than three axes, or their lengths are impossible.
    pub fn new(dims: &[usize], channels: Channels, dtype: DType, meta: Meta) -> Result<(Self, Var)> {
        if dims.is_empty() || dims.len() > 3 {
            return Err(Error::Model(format!(
                "its input has {} axes after the batch; networks of 1 to 3 are imported",
                dims.len()
            )));
        }
        let groups = channels.groups(dims.len());
        let mut shape = [1; 3];
        for (d, group) in dims.iter().zip(&groups) {
            shape[group[0]] = *d;
        }
        let elements = Shape::from(shape).checked_elements().filter(|n| (1..=MAX_ELEMENTS).contains(n));
        elements.ok_or_else(|| Error::Model(format!("its input has the impossible shape {dims:?}")))?;
        let lowerer = Lowerer {
            graph: Graph::new(ValueType::new(Shape::from(shape), dtype), meta),
            affines: HashMap::new(),
            repeats: HashMap::new(),
            room: ROOM,
        };
        let form = match dtype.quant() {
            None => Form::Float(Float::new(Graph::INPUT)),
            Some(q) => {
                let table = vec![(0..q.levels()).map(|i| q.value_of_level(i) as f32).collect()];
                Form::Levels(Levels::packed(Graph::INPUT, table))
            }
        };
        let var =
            Var { dims: dims.to_vec(), groups: layout::without_single(dims, groups), form, padding: None };
        Ok((lowerer, var))
    }

    /// The graph, whose output is `x` in the order of the source, for tensors with `channels` at that place.
    ///
    /// # Errors
    /// When the value cannot be laid out.
    pub fn finish(mut self, x: Var, channels: Channels) -> Result<Graph> {
        let x = self.unpadded("output", x)?;
        let x = self.in_source_order(x, channels)?;
        let value = match &x.form {
            Form::Index(value) => *value,
            Form::Levels(levels) => {
                self.plain_integers(levels)?.map_or_else(|| self.float("output", &x), Ok)?
            }
            _ => self.float("output", &x)?,
        };
        if value == Graph::INPUT {
            return Err(Error::Model("it has no layers that do anything".into()));
        }
        self.graph.output = value;
        Ok(self.graph)
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    fn add(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[usize],
        params: Params<Tensor<'static>>,
    ) -> Result<usize> {
        self.reserve(name, params.each().map(|(_, t)| t.bytes() / 4).sum())?;
        self.graph.add(name, op, inputs, params)
    }
    /// Allows constants of as many elements as so many bytes of weights can hold.
    pub fn allow(&mut self, bytes: usize) {
        self.room = self.room.saturating_add(bytes.saturating_mul(2));
    }
    /// Counts elements of constants.
    ///
    /// # Errors
    /// When there are too many.
    fn reserve(&mut self, name: &str, elements: usize) -> Result<()> {
        self.check_room(name, Some(elements))?;
        self.room -= elements;
        Ok(())
    }
    /// Fails before constants of so many elements are made that could not be added.
    fn check_room(&self, name: &str, elements: Option<usize>) -> Result<()> {
        match elements {
            Some(n) if n <= self.room => Ok(()),
            _ => Err(Error::layer(
                name,
                "needs constants that are far larger than the file, which is not supported",
            )),
        }
    }
    fn shape(&self, value: usize) -> Shape {
        self.graph.ty(value).shape
    }
    /// Shape of the graph's map that holds `x`, without padding that is still to be added.
    fn map_of(&self, x: &Var) -> Shape {
        self.shape(x.value())
    }

    /// `x` with `form` in the same place.
    fn with(&self, x: &Var, form: Form) -> Var {
        Var { form, ..x.clone() }
    }

    /// `(x - center) * scale + bias` of a value for each channel. Two of them in a row over accumulators become one.
    fn affine(&mut self, name: &str, value: usize, next: Affine) -> Result<usize> {
        let (value, affine) = match self.affines.get(&value) {
            Some((source, first)) if self.graph.ty(*source).dtype == DType::I32 => {
                (*source, first.then(&next))
            }
            _ => (value, next),
        };
        let made = self.add(name, Op::Affine, &[value], affine.clone().params())?;
        self.affines.insert(made, (value, affine));
        Ok(made)
    }
}

impl Var {
    /// The value of the graph that it depends on.
    fn value(&self) -> usize {
        match &self.form {
            Form::Float(f) | Form::Rounded { before: f, .. } => f.value,
            Form::Levels(levels) => levels.value(),
            Form::Index(value) => *value,
        }
    }
    /// Whether it can only be one of few numbers.
    pub fn has_levels(&self) -> bool {
        matches!(self.form, Form::Levels(_))
    }
}

impl Affine {
    fn of_scale(scale: Vec<f32>) -> Self {
        Affine { center: None, bias: vec![0.0; scale.len()], scale }
    }
    fn of_bias(bias: Vec<f32>) -> Self {
        Affine { center: None, scale: vec![1.0; bias.len()], bias }
    }
    fn of_center(center: Vec<f32>) -> Self {
        Affine { scale: vec![1.0; center.len()], bias: vec![0.0; center.len()], center: Some(center) }
    }
    /// Both in a row, computed in f64 and rounded once. What is exact alone stays exact: a BatchNorm behind a scale of 1
    /// keeps its constants.
    fn then(&self, next: &Affine) -> Affine {
        let n = self.scale.len();
        let at = |v: &Option<Vec<f32>>, c: usize| v.as_ref().map_or(0.0, |v| f64::from(v[c]));
        let mut all = Affine { center: Some(vec![0.0; n]), scale: vec![0.0; n], bias: vec![0.0; n] };
        for c in 0..n {
            let (c1, a, b) = (at(&self.center, c), f64::from(self.scale[c]), f64::from(self.bias[c]));
            let (m, s, t) = (at(&next.center, c), f64::from(next.scale[c]), f64::from(next.bias[c]));
            let (center, bias) =
                if c1 == 0.0 && a != 0.0 && m != 0.0 { ((m - b) / a, t) } else { (c1, (b - m) * s + t) };
            (all.scale[c], all.bias[c]) = ((a * s) as f32, bias as f32);
            if let Some(all) = &mut all.center {
                all[c] = center as f32;
            }
        }
        all
    }
    /// The constants of the op, without those that change nothing.
    fn params(self) -> Params<Tensor<'static>> {
        let used = |v: Vec<f32>, none: f32| v.iter().any(|x| *x != none).then(|| Tensor::f32(v));
        Params {
            center: self.center.and_then(|v| used(v, 0.0)),
            scale: used(self.scale, 1.0),
            bias: used(self.bias, 0.0),
            ..Params::default()
        }
    }
}
