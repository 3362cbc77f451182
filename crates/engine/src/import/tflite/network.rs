//! The network so far: what each tensor of the file has become, and which function translates which op.

use super::schema::{Format, Model, Operator, Quantization, Tensor};
use super::{blocks, codes, layers, lce, pointwise, shapes};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::import::array::{Array, Elements};
use crate::import::lower::unary::{Quantizer, Round, Unary};
use crate::import::lower::{Channels, Lowerer, Split, Var};
use crate::import::{ImportOptions, build};
use crate::meta::{Layout, Meta, Preprocessing};
use onebit_core::types::{DType, Shape};
use std::collections::HashMap;

/// Most elements of the input. Work and memory of the translation grow with them, whatever the size of the file.
const MAX_ELEMENTS: usize = 1 << 24;
/// Elements of constants that may be read for each byte of the file: bits are eight elements, a few layers share them.
const ELEMENTS_PER_BYTE: usize = 16;
/// Bytes that the layers may take for each byte of the file, and in any case.
const LAYERS_PER_BYTE: usize = 64;
const LAYERS_ANYWAY: usize = 64 << 20;
/// Longest axis of a value that is rounded to codes: each of its channels gets 255 thresholds.
pub const MAX_QUANTISED: usize = 1 << 16;

/// What a tensor has become.
#[derive(Clone, Debug)]
pub enum Value {
    /// Known now; its axes are those of the file.
    Constant(Array),
    /// Known when the network runs.
    Live(Live),
}

/// A value that is known when the network runs.
#[derive(Clone, Debug)]
pub struct Live {
    /// Without the batch axis.
    pub var: Var,
    /// Whether the file's first axis is the batch axis, which has length 1.
    pub batch: bool,
    /// What its numbers mean.
    pub kind: Kind,
}

/// What the numbers of a value mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The numbers themselves.
    Real,
    /// Codes of a quantised tensor.
    Codes,
    /// -1 and +1, which the file packs into words.
    Packed,
}

impl Live {
    /// The same value with other numbers.
    pub fn with(&self, var: Var) -> Live {
        Live { var, ..self.clone() }
    }
    /// Axis `axis` of the file, from the end if negative, as one of `var`; `None` is the batch axis.
    pub fn axis(&self, node: &Node<'_>, axis: i64) -> Result<Option<usize>> {
        let rank = self.var.dims.len() + usize::from(self.batch);
        let from_start = if axis < 0 { axis.saturating_add_unsigned(rank as u64) } else { axis };
        match usize::try_from(from_start) {
            Ok(axis) if axis < rank => Ok(axis.checked_sub(usize::from(self.batch))),
            _ => Err(node.error(format!("names axis {axis} of a value with {rank} axes"))),
        }
    }
    /// Its shape in the file.
    pub fn shape(&self) -> Vec<usize> {
        let batch = self.batch.then_some(1);
        batch.into_iter().chain(self.var.dims.iter().copied()).collect()
    }
}

/// An op and the name of what it makes.
pub struct Node<'a> {
    /// The op.
    pub op: Operator<'a>,
    /// Name of its layer.
    pub name: String,
}

impl Node<'_> {
    /// An error that names the layer and the op.
    pub fn error(&self, message: impl AsRef<str>) -> Error {
        Error::layer(&self.name, format!("({}) {}", self.op.name, message.as_ref()))
    }
    /// Tensor of input `i`, if it is there.
    pub fn optional(&self, i: usize) -> Option<usize> {
        self.op.inputs.get(i).copied().flatten()
    }
    fn input(&self, i: usize) -> Result<usize> {
        self.optional(i).ok_or_else(|| self.error(format!("lacks input {i}")))
    }
}

/// The network so far.
pub struct Network<'a> {
    pub(super) model: &'a Model<'a>,
    pub(super) lowerer: Lowerer,
    /// By the index of their tensor.
    pub(super) values: HashMap<usize, Value>,
    /// Those with a batch axis of length 1 and more others than a map has; only reshapes and transposes read them.
    pub(super) splits: HashMap<usize, Split>,
    /// Those whose every so many pixels of each axis lie together in the file's batch axis.
    pub(super) blocks: HashMap<usize, Vec<usize>>,
    /// Elements of constants that may still be read.
    allowance: usize,
    /// Layers whose bytes were counted, and the bytes that further ones may take.
    counted: (usize, usize),
    notes: Vec<String>,
}

impl<'a> Network<'a> {
    /// The input, for a file of `bytes` bytes.
    pub fn new(model: &'a Model<'a>, bytes: usize, file_name: &str, options: &ImportOptions) -> Result<Self> {
        let (&[input], [_, others @ ..]) = (model.inputs.as_slice(), model.outputs.as_slice()) else {
            return Err(Error::Model(format!(
                "has {} inputs and {} outputs; networks of one input are imported: cut it before converting",
                model.inputs.len(),
                model.outputs.len()
            )));
        };
        let tensor = model.tensor(input)?;
        let (batch, dims) = match tensor.shape.split_first() {
            Some((1, dims)) => (true, dims),
            Some((n, [_, _, _, ..])) => {
                let text = format!("is the input for {n} images at a time; convert it with a batch of 1");
                return Err(Error::layer(tensor.name, text));
            }
            _ => (false, tensor.shape.as_slice()),
        };
        let elements = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if elements.is_none_or(|n| n == 0 || n > MAX_ELEMENTS) {
            let text = format!("is an input of the impossible shape {dims:?}; convert it with fixed shapes");
            return Err(Error::layer(tensor.name, text));
        }
        // Codes of uint8 are pixels.
        let bytes_in = tensor.format == Format::U8;
        let dtype = if bytes_in { DType::U8 } else { DType::F32 };
        let mut notes = Vec::new();
        if !others.is_empty() {
            let (n, name) = (others.len() + 1, model.tensor(model.outputs[0])?.name);
            notes.push(format!("The source has {n} outputs; the first, '{name}', is used."));
        }
        let shape = match *dims {
            [h, w, c] => Shape::new(h, w, c),
            _ => Shape::vector(elements.unwrap_or(1)),
        };
        let stem = file_name.strip_suffix(".tflite").unwrap_or(file_name);
        let meta = Meta {
            name: build::name(options, stem),
            source: format!("TensorFlow Lite network {file_name}"),
            input: match bytes_in {
                true => Preprocessing { resize: build::resize(options, shape), ..Preprocessing::default() },
                false => build::preprocessing(options, shape, Layout::Nhwc, &mut notes)?,
            },
            ..Meta::default()
        };
        let (mut lowerer, mut var) = Lowerer::new(dims, Channels::Last, dtype, meta)?;
        let mut kind = Kind::Real;
        if let Some((lowest, highest)) = codes(&tensor)? {
            let steps = [Unary::Clip(lowest, highest), Unary::Round(Round::HalfEven)];
            for f in steps.into_iter().filter(|_| !bytes_in) {
                var = lowerer.unary("input_codes", var, f)?;
            }
            kind = Kind::Codes;
            notes.push(format!("The input is {}.", in_codes(&tensor)?));
        }
        let allowance = bytes.saturating_mul(ELEMENTS_PER_BYTE).saturating_add(1 << 16);
        let values = HashMap::from([(input, Value::Live(Live { var, batch, kind }))]);
        let counted = (0, bytes.saturating_mul(LAYERS_PER_BYTE).saturating_add(LAYERS_ANYWAY));
        let (splits, blocks) = (HashMap::new(), HashMap::new());
        Ok(Network { model, lowerer, values, splits, blocks, allowance, counted, notes })
    }

    /// Applies an op.
    pub fn translate(&mut self, op: Operator<'a>) -> Result<()> {
        let name = match op.outputs.first() {
            // Names of fused ops are joined with semicolons.
            Some(&i) => self.model.tensor(i)?.name.split(';').next().unwrap_or_default().to_owned(),
            None => op.name.to_string(),
        };
        let node = Node { op, name };
        if let (Some(split), [output]) = (shapes::split_axes(self, &node)?, node.op.outputs.as_slice()) {
            self.splits.insert(*output, split);
            return self.count(&node);
        }
        let (results, blocks) = match blocks::results(self, &node)? {
            Some(made) => made,
            None => (self.results(&node)?, None),
        };
        if results.len() != node.op.outputs.len() {
            return Err(node.error(format!(
                "has {} outputs instead of {}",
                node.op.outputs.len(),
                results.len()
            )));
        }
        for (value, index) in results.into_iter().zip(node.op.outputs.clone()) {
            let value = self.rounded(&node, value, index)?;
            self.values.insert(index, value);
            if let Some(blocks) = &blocks {
                self.blocks.insert(index, blocks.clone());
            }
        }
        self.count(&node)
    }

    /// Counts the bytes of new layers: shapes and ops that take few bytes in a file could ask for any number of them.
    fn count(&mut self, node: &Node<'_>) -> Result<()> {
        let nodes = &self.lowerer.graph().nodes;
        let new = nodes.get(self.counted.0..).unwrap_or_default();
        let bytes: usize = new.iter().flat_map(|n| n.params.each().map(|(_, t)| t.bytes())).sum();
        self.counted = match self.counted.1.checked_sub(bytes) {
            Some(rest) => (nodes.len(), rest),
            None => {
                return Err(node.error("needs constants that are far larger than the file; convert it again"));
            }
        };
        Ok(())
    }

    pub(super) fn results(&mut self, node: &Node<'_>) -> Result<Vec<Value>> {
        let one = |v: Value| vec![v];
        if let Some(value) = codes::translate(self, node)? {
            return Ok(one(value));
        }
        match node.op.name.as_ref() {
            "LceQuantize" => lce::quantize(self, node).map(one),
            "LceDequantize" => lce::dequantize(self, node).map(one),
            "LceBconv2d" => lce::conv(self, node).map(one),
            "LceBMaxPool2d" => lce::max_pool(self, node).map(one),
            "LceBsign" => {
                Err(node.error("is of Larq Compute Engine 0.3; convert the network with 0.4 or later"))
            }
            "CONV_2D" => layers::conv(self, node).map(one),
            "DEPTHWISE_CONV_2D" => layers::depthwise(self, node).map(one),
            "TRANSPOSE_CONV" => layers::transposed(self, node).map(one),
            "FULLY_CONNECTED" => layers::dense(self, node).map(one),
            "AVERAGE_POOL_2D" | "MAX_POOL_2D" => layers::pool(self, node).map(one),
            "BATCH_MATMUL" => layers::matmul(self, node).map(one),
            "MEAN" | "SUM" | "REDUCE_MAX" | "REDUCE_MIN" => layers::reduce(self, node).map(one),
            "SOFTMAX" | "LOG_SOFTMAX" => layers::softmax(self, node).map(one),
            "ARG_MAX" => layers::argmax(self, node).map(one),
            "RESIZE_NEAREST_NEIGHBOR" | "RESIZE_BILINEAR" => layers::resize(self, node).map(one),
            "SHAPE" => shapes::shape(self, node).map(one),
            "RESHAPE" => shapes::reshape(self, node).map(one),
            "SQUEEZE" => shapes::squeeze(self, node).map(one),
            "EXPAND_DIMS" => shapes::expand(self, node).map(one),
            "TRANSPOSE" => shapes::transpose(self, node).map(one),
            "PAD" | "PADV2" | "MIRROR_PAD" => shapes::pad(self, node).map(one),
            "SLICE" => shapes::slice(self, node).map(one),
            "STRIDED_SLICE" => shapes::strided_slice(self, node).map(one),
            "DEPTH_TO_SPACE" | "SPACE_TO_DEPTH" => shapes::blocks(self, node).map(one),
            "SPLIT" | "SPLIT_V" => shapes::split(self, node),
            "UNPACK" => shapes::unpack(self, node),
            "CONCATENATION" => shapes::concat(self, node).map(one),
            "PACK" => shapes::pack(self, node).map(one),
            _ => match pointwise::translate(self, node)? {
                Some(value) => Ok(one(value)),
                None => {
                    Err(node.error(match node.op.name.contains("LSTM") || node.op.name.contains("RNN") {
                        true => "is recurrent; only networks without memory are imported",
                        false => "is an op that is not imported; replace it before converting, or ask for it",
                    }))
                }
            },
        }
    }

    /// The graph and what has to be said about it.
    pub fn finish(mut self, options: &ImportOptions) -> Result<(Graph, Vec<String>)> {
        self.model.check_single()?;
        let index = self.model.outputs[0];
        let tensor = self.model.tensor(index)?;
        let live = match self.values.remove(&index) {
            Some(Value::Live(live)) if live.kind != Kind::Packed => live,
            Some(Value::Live(_)) => {
                let text = "is the output and packed into words; end the network with LceDequantize";
                return Err(Error::layer(tensor.name, text));
            }
            _ => return Err(Error::layer(tensor.name, "is the output, but does not depend on the input")),
        };
        if live.kind == Kind::Codes {
            self.notes.push(format!("The output is {}.", in_codes(&tensor)?));
        }
        let mut graph = self.lowerer.finish(live.var, Channels::Last)?;
        build::choose_classes(&mut graph, options)?;
        Ok((graph, self.notes))
    }

    /// Something that the user should know, once.
    pub(super) fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|note| note == text) {
            self.notes.push(text.into());
        }
    }

    /// Counts elements that are about to be read.
    pub(super) fn spend(&mut self, node: &Node<'_>, elements: usize) -> Result<()> {
        match self.allowance.checked_sub(elements) {
            Some(rest) => self.allowance = rest,
            None => {
                return Err(node.error("reads constants that are far larger than the file; convert it again"));
            }
        }
        Ok(())
    }

    /// Input `i` as it is in the file.
    pub(super) fn stored(&mut self, node: &Node<'_>, i: usize) -> Result<Value> {
        let index = node.input(i)?;
        if let Some(value) = self.values.get(&index) {
            return Ok(value.clone());
        }
        let tensor = self.model.tensor(index)?;
        if let Some(split) = self.splits.get(&index) {
            let axes = split.dims.len();
            return Err(node.error(format!("would need a map of {axes} axes; maps have three")));
        }
        if !tensor.is_constant() {
            return Err(node.error(format!("reads '{}', which nothing makes", tensor.name)));
        }
        let elements = tensor.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        self.spend(node, elements.unwrap_or(usize::MAX))?;
        tensor.array().map(Value::Constant)
    }

    /// Input `i` as real numbers.
    pub(super) fn real(&mut self, node: &Node<'_>, i: usize) -> Result<Value> {
        let tensor = self.model.tensor(node.input(i)?)?;
        match self.stored(node, i)? {
            Value::Live(live) if live.kind == Kind::Packed => {
                Err(node.error("reads packed bits, which only ops of Larq Compute Engine can do"))
            }
            Value::Live(live) if live.kind == Kind::Codes => {
                let (scale, zero) = single(&tensor)?;
                let var = self.lowerer.unary(&node.name, live.var.clone(), Unary::Sub(zero))?;
                let var = self.lowerer.unary(&node.name, var, Unary::Mul(scale))?;
                Ok(Value::Live(Live { var, kind: Kind::Real, ..live }))
            }
            Value::Constant(array) => match &tensor.quantization {
                Some(quantization) if !tensor.format.is_float() => {
                    dequantised(&tensor, quantization, array).map(Value::Constant)
                }
                _ => Ok(Value::Constant(array)),
            },
            live => Ok(live),
        }
    }

    /// Input `i` as real numbers that are not constant.
    pub(super) fn live(&mut self, node: &Node<'_>, i: usize) -> Result<Live> {
        match self.real(node, i)? {
            Value::Live(live) => Ok(live),
            Value::Constant(_) => {
                Err(node.error(format!("has a constant as input {i}, which is not supported")))
            }
        }
    }

    /// Input `i`, which must be constant, as real numbers.
    pub(super) fn constant(&mut self, node: &Node<'_>, i: usize, what: &str) -> Result<Array> {
        match self.real(node, i)? {
            Value::Constant(array) => Ok(array),
            Value::Live(_) => {
                Err(node.error(format!("takes its {what} from a tensor that is computed; make it constant")))
            }
        }
    }

    /// Input `i`, which must be constant, as integers.
    pub(super) fn ints(&mut self, node: &Node<'_>, i: usize, what: &str) -> Result<Vec<i64>> {
        let array = self.constant(node, i, what)?;
        // Folded arithmetic leaves floats.
        let whole = || array.to_f32().iter().map(|v| (v.fract() == 0.0).then_some(*v as i64)).collect();
        array.to_i64().or_else(whole).ok_or_else(|| node.error(format!("has a {what} that is no integer")))
    }

    /// `value` as tensor `index` keeps it: rounded to codes where that is quantised.
    fn rounded(&mut self, node: &Node<'_>, value: Value, index: usize) -> Result<Value> {
        let tensor = self.model.tensor(index)?;
        let Value::Live(live) = value else { return Ok(value) };
        let Some((lowest, highest)) = codes(&tensor)?.filter(|_| live.kind == Kind::Real) else {
            return Ok(Value::Live(live));
        };
        if live.var.dims.iter().any(|d| *d > MAX_QUANTISED) {
            return Err(
                node.error(format!("is quantised and has the shape {:?}, which is too long", live.shape()))
            );
        }
        let (scale, zero) = single(&tensor)?;
        let steps = [
            Unary::Div(scale),
            // Halves are rounded away from 0 before the zero point is added.
            Unary::Quantize(rounder(lowest - zero, highest - zero)),
            Unary::Add(zero),
        ];
        let var = steps.into_iter().try_fold(live.var, |var, f| self.lowerer.unary(&node.name, var, f))?;
        Ok(Value::Live(Live { var, kind: Kind::Codes, batch: live.batch }))
    }
}

/// Rounds to the nearest integer, halves away from 0, and clamps.
pub fn rounder(lowest: f32, highest: f32) -> Quantizer {
    Quantizer { scale: 1.0, zero: 0.0, lowest, highest, rounding: Round::HalfAway }
}

/// Smallest and largest code of a quantised tensor, or `None` where numbers stand for themselves.
pub fn codes(tensor: &Tensor<'_>) -> Result<Option<(f32, f32)>> {
    match (tensor.format, &tensor.quantization) {
        (_, None) | (Format::F32, _) => Ok(None),
        (Format::Int(1), _) => Ok(Some((-128.0, 127.0))),
        (Format::U8, _) => Ok(Some((0.0, 255.0))),
        (format, _) => {
            let text = format!("is quantised to {format:?}; convert with int8 activations");
            Err(Error::layer(tensor.name.as_ref(), text))
        }
    }
}

/// The only scale and zero point of a quantised tensor.
pub fn single(tensor: &Tensor<'_>) -> Result<(f32, f32)> {
    let only = tensor.quantization.as_ref().filter(|q| q.len() == 1).and_then(|q| q.at(0));
    only.map(|(scale, zero)| (scale, zero as f32)).ok_or_else(|| {
        Error::layer(
            tensor.name.as_ref(),
            "has no scale, or several, or one that cannot be used; convert it again",
        )
    })
}

/// What the numbers of a quantised input or output are.
fn in_codes(tensor: &Tensor<'_>) -> Result<String> {
    let (scale, zero) = single(tensor)?;
    Ok(format!("quantised as in the source: a code c stands for {scale} * (c - {zero})"))
}

/// The real numbers that a quantised constant stands for.
fn dequantised(tensor: &Tensor<'_>, quantization: &Quantization<'_>, array: Array) -> Result<Array> {
    let wrong = || {
        let text = "has scales or zero points that do not fit its shape or cannot be used; convert it again";
        Error::layer(tensor.name.as_ref(), text)
    };
    let integers = array.to_i64().ok_or_else(wrong)?;
    let scales = quantization.len();
    // Elements that follow each other at the same place of the axis.
    let run = match scales {
        1 => integers.len(),
        _ => match array.shape.split_at_checked(quantization.axis) {
            Some((_, [length, inner @ ..])) if *length == scales => inner.iter().product(),
            _ => return Err(wrong()),
        },
    };
    let mut real = Vec::with_capacity(integers.len());
    for (i, run) in integers.chunks(run.max(1)).enumerate() {
        let (scale, zero) = quantization.at(i % scales).ok_or_else(wrong)?;
        real.extend(run.iter().map(|q| (q - i64::from(zero)) as f32 * scale));
    }
    Array::new(array.shape, Elements::F32(real))
}
