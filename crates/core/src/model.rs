//! The deploy form of a network: ops in execution order, static shapes, packed weights.
//!
//! A model is a list of [`Node`]s. Every node makes one value; value 0 is the network input, value
//! `i + 1` is the output of node `i`, and a node reads only earlier values, so the list is a
//! topological order and cycles cannot be written down. CPU, GPU, code generators and the
//! reference read this and nothing else.

pub use crate::ops::Op;
use crate::types::{DType, Quant, ValueType};
use crate::{bits, types::Shape};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Largest number of elements of one value or tensor that a model may have.
pub const MAX_ELEMENTS: usize = 1 << 28;
/// Largest bound of an integer accumulator; beyond it kernels could overflow.
pub const MAX_ACCUMULATOR: i64 = 1 << 28;

/// Why an op, model or input is refused: one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub String);

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}
impl core::error::Error for Error {}
impl From<&str> for Error {
    fn from(s: &str) -> Self {
        Error(s.to_string())
    }
}

/// Elements of a [`Tensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum Data<'a> {
    /// `[rows][plane][words(cols)]` words, row padding bits 0.
    Bits(Quant, Cow<'a, [u64]>),
    /// `[rows][cols]` floats.
    F32(Cow<'a, [f32]>),
    /// `[rows][cols]` integers.
    I32(Cow<'a, [i32]>),
}

/// A constant matrix. Weights have one row per output channel; a vector is one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// The elements.
    pub data: Data<'a>,
}

impl Tensor<'static> {
    /// A row of floats.
    pub fn f32(values: Vec<f32>) -> Self {
        Tensor { rows: 1, cols: values.len(), data: Data::F32(Cow::Owned(values)) }
    }
    /// A matrix of floats.
    pub fn f32_matrix(rows: usize, cols: usize, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), rows * cols);
        Tensor { rows, cols, data: Data::F32(Cow::Owned(values)) }
    }
    /// A matrix of integers.
    pub fn i32_matrix(rows: usize, cols: usize, values: Vec<i32>) -> Self {
        assert_eq!(values.len(), rows * cols);
        Tensor { rows, cols, data: Data::I32(Cow::Owned(values)) }
    }
    /// A bit-packed matrix, encoded from the value at each `(row, col)`.
    ///
    /// # Panics
    /// When `quant` cannot hold a value.
    pub fn bits(rows: usize, cols: usize, quant: Quant, value: impl Fn(usize, usize) -> i32) -> Self {
        let words = bits::words(cols);
        let mut packed = alloc::vec![0u64; rows * quant.planes() * words];
        for r in 0..rows {
            for c in 0..cols {
                let code = quant.encode(value(r, c)).expect("the format holds the value");
                for p in 0..quant.planes() {
                    let row = &mut packed[(r * quant.planes() + p) * words..][..words];
                    row[c / 64] |= u64::from(code >> p & 1) << (c % 64);
                }
            }
        }
        Tensor { rows, cols, data: Data::Bits(quant, Cow::Owned(packed)) }
    }
    /// A row of booleans.
    pub fn flags(values: &[bool]) -> Self {
        Tensor::bits(1, values.len(), Quant::BIT, |_, c| if values[c] { 1 } else { -1 })
    }
}

impl<'a> Tensor<'a> {
    /// Number format of the elements.
    pub fn dtype(&self) -> DType {
        match &self.data {
            Data::Bits(q, _) => DType::Bits(*q),
            Data::F32(_) => DType::F32,
            Data::I32(_) => DType::I32,
        }
    }
    /// The floats, if it holds floats.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }
    /// The integers, if it holds integers.
    pub fn as_i32(&self) -> Option<&[i32]> {
        match &self.data {
            Data::I32(v) => Some(v),
            _ => None,
        }
    }
    /// Format and words, if it is bit-packed.
    pub fn as_bits(&self) -> Option<(Quant, &[u64])> {
        match &self.data {
            Data::Bits(q, w) => Some((*q, w)),
            _ => None,
        }
    }
    /// Bytes of the stored elements.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::Bits(_, w) => w.len() * 8,
            Data::F32(v) => v.len() * 4,
            Data::I32(v) => v.len() * 4,
        }
    }
    /// All elements as integers (bit-packed and integer tensors), row by row.
    pub fn to_i32(&self) -> Option<Vec<i32>> {
        match &self.data {
            Data::I32(v) => Some(v.to_vec()),
            Data::Bits(q, words) => {
                let n = bits::words(self.cols);
                let mut out = Vec::with_capacity(self.rows * self.cols);
                if q.is_bit() {
                    for row in words.chunks_exact(n.max(1)) {
                        for (i, word) in row.iter().enumerate() {
                            let count = (self.cols - i * 64).min(64);
                            out.extend((0..count).map(|b| 2 * (word >> b & 1) as i32 - 1));
                        }
                    }
                    return Some(out);
                }
                for r in 0..self.rows {
                    for c in 0..self.cols {
                        let code = (0..q.planes()).fold(0, |code, p| {
                            let row = &words[(r * q.planes() + p) * n..][..n];
                            code | u32::from(bits::get(row, c)) << p
                        });
                        out.push(q.decode(code));
                    }
                }
                Some(out)
            }
            Data::F32(_) => None,
        }
    }
    /// All elements as floats, row by row.
    pub fn to_f32(&self) -> Vec<f32> {
        match (&self.data, self.to_i32()) {
            (Data::F32(v), _) => v.to_vec(),
            (_, ints) => ints.unwrap_or_default().into_iter().map(|v| v as f32).collect(),
        }
    }
    /// The same tensor, owning its elements.
    pub fn into_owned(self) -> Tensor<'static> {
        let data = match self.data {
            Data::Bits(q, w) => Data::Bits(q, Cow::Owned(w.into_owned())),
            Data::F32(v) => Data::F32(Cow::Owned(v.into_owned())),
            Data::I32(v) => Data::I32(Cow::Owned(v.into_owned())),
        };
        Tensor { rows: self.rows, cols: self.cols, data }
    }
    /// Checks that the elements match rows and columns, that row padding is 0, that ternary codes are
    /// valid and that floats are finite.
    pub fn check(&self) -> Result<(), Error> {
        let elements = self.rows.checked_mul(self.cols).filter(|n| *n <= MAX_ELEMENTS);
        let Some(elements) = elements.filter(|n| *n > 0) else {
            return Err(Error(format!("has an impossible size, {} x {}", self.rows, self.cols)));
        };
        match &self.data {
            Data::F32(v) if v.len() != elements => Err("has the wrong number of elements".into()),
            Data::I32(v) if v.len() != elements => Err("has the wrong number of elements".into()),
            Data::F32(v) if v.iter().any(|x| !x.is_finite()) => Err("contains NaN or infinity".into()),
            Data::Bits(q, words) => {
                let n = bits::words(self.cols);
                if words.len() != self.rows * q.planes() * n {
                    return Err("has the wrong number of words".into());
                }
                let padding = !bits::low_mask(self.cols - (n - 1) * 64);
                if words.chunks(n).any(|row| row[n - 1] & padding != 0) {
                    return Err("has set bits after the end of a row".into());
                }
                let forbidden = |row: &[u64]| (0..n).any(|w| row[n + w] & !row[w] != 0);
                if *q == Quant::TERNARY && words.chunks(2 * n).any(forbidden) {
                    return Err("has a ternary code that is not -1, 0 or 1".into());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The constants of an op, by role. Which roles an op takes is on its page.
#[derive(Clone, Debug, PartialEq)]
pub struct Params<T> {
    /// Weights, one row per output channel, columns in (ky, kx, c) order.
    pub weight: Option<T>,
    /// Subtracted first, one value per channel.
    pub center: Option<T>,
    /// Multiplied second, one value per channel.
    pub scale: Option<T>,
    /// Added last, one value per channel.
    pub bias: Option<T>,
    /// One row per channel, one column per step between output levels.
    pub thresholds: Option<T>,
    /// One bit per channel: 1 where the output falls as the input rises.
    pub flips: Option<T>,
}

impl<T> Default for Params<T> {
    fn default() -> Self {
        Params { weight: None, center: None, scale: None, bias: None, thresholds: None, flips: None }
    }
}

impl<T> Params<T> {
    /// Role names, in the order of [`Params::each`].
    pub const ROLES: [&'static str; 6] = ["weight", "center", "scale", "bias", "thresholds", "flips"];

    /// The constants that are present, with their role names.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &T)> {
        let all = [&self.weight, &self.center, &self.scale, &self.bias, &self.thresholds, &self.flips];
        Self::ROLES.into_iter().zip(all).filter_map(|(role, t)| Some((role, t.as_ref()?)))
    }
    /// The slot of a role.
    pub fn slot(&mut self, role: &str) -> Option<&mut Option<T>> {
        Some(match role {
            "weight" => &mut self.weight,
            "center" => &mut self.center,
            "scale" => &mut self.scale,
            "bias" => &mut self.bias,
            "thresholds" => &mut self.thresholds,
            "flips" => &mut self.flips,
            _ => return None,
        })
    }
}

/// One op of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    /// Unique name, as the source framework called it.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Values it reads.
    pub inputs: Vec<usize>,
    /// Its constants.
    pub params: Params<Tensor<'a>>,
}

/// A network ready to run. [`Model::new`] is the only way to get one, so every model is valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Model<'a> {
    nodes: Vec<Node<'a>>,
    types: Vec<ValueType>,
}

impl<'a> Model<'a> {
    /// Checks every node and works out every shape.
    ///
    /// # Errors
    /// Names the node, says what is wrong with it.
    pub fn new(input: ValueType, nodes: Vec<Node<'a>>) -> Result<Self, Error> {
        if !matches!(input.shape.checked_elements(), Some(1..=MAX_ELEMENTS)) {
            return Err(Error(format!("the input would have an impossible shape, {}", input.shape)));
        }
        let mut types = alloc::vec![input];
        for node in &nodes {
            let at = |e: Error| Error(format!("layer '{}' ({}): {e}", node.name, node.op.name()));
            for (role, tensor) in node.params.each() {
                tensor.check().map_err(|e| at(Error(format!("its {role} {e}"))))?;
            }
            let inputs: Option<Vec<ValueType>> = node.inputs.iter().map(|&v| types.get(v).copied()).collect();
            let inputs = inputs.ok_or_else(|| at("reads a value that is not made before it".into()))?;
            types.push(node.op.infer(&inputs, &node.params).map_err(at)?);
        }
        if nodes.is_empty() {
            return Err("the model has no layers".into());
        }
        Ok(Model { nodes, types })
    }
    /// The ops, in execution order.
    pub fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }
    /// Takes the ops out.
    pub fn into_nodes(self) -> Vec<Node<'a>> {
        self.nodes
    }
    /// Type of every value: the input, then one for each node.
    pub fn types(&self) -> &[ValueType] {
        &self.types
    }
    /// Type of the network input.
    pub fn input(&self) -> ValueType {
        self.types[0]
    }
    /// Type of the network output, the value of the last node.
    pub fn output(&self) -> ValueType {
        self.types[self.types.len() - 1]
    }
}

/// Shape of a value with one entry per channel.
pub(crate) fn per_channel(role: &str, tensor: Option<&Tensor<'_>>, shape: Shape) -> Result<(), Error> {
    match tensor {
        Some(t) if t.as_f32().is_none() => Err(Error(format!("its {role} must be f32"))),
        Some(t) if t.rows != 1 || t.cols != shape.c => {
            Err(Error(format!("its {role} is {} x {}, but there are {} channels", t.rows, t.cols, shape.c)))
        }
        _ => Ok(()),
    }
}
