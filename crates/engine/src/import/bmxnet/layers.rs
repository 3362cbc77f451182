//! A symbol and its parameters as typed layers.

use super::params::{Array, Element};
use super::symbol::{Node, Symbol};
use crate::error::{Error, Result};
use crate::import::build::BatchNorm;
use onebit_core::ops::{Activation, Pool2d, PoolKind, Window};
use onebit_core::types::Shape;
use std::collections::HashMap;

/// Bits that stand for "not quantised".
pub const FLOAT: usize = 32;

/// An operation of the source.
pub enum Kind<'a> {
    /// The network's input.
    Input,
    /// Passes its input on.
    Same,
    /// Convolution; its matrix has columns in `(c, ky, kx)` order.
    Conv(Matrix<'a>, Window, usize),
    /// Dense layer.
    Dense(Matrix<'a>),
    /// Running statistics.
    BatchNorm(BatchNorm),
    /// A function of one number.
    Activation(Activation),
    /// Slopes below 0, one or one per channel.
    Slope(Vec<f32>),
    /// Quantises to so many bits, 1 to 8.
    Quantize(usize),
    /// Pooling.
    Pool(Pool),
    /// Map to vector, in `(c, h, w)` order.
    Flatten,
    /// Sum of values.
    Sum,
    /// Product of values.
    Product,
    /// Joins channels.
    Join,
    /// `x * scale + bias`.
    Scalar(f32, f32),
    /// Normalised exponentials.
    Softmax,
}

/// A layer.
pub struct Layer<'a> {
    /// Name in the source.
    pub name: String,
    /// What it computes.
    pub kind: Kind<'a>,
    /// Layers that it reads.
    pub inputs: Vec<usize>,
}

/// How one-bit weights are packed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// One bit after the other, row after row.
    Rows,
    /// Word `i` of every row, then word `i + 1` of every row.
    Columns,
}

/// The weights of a layer, and how it quantises.
pub struct Matrix<'a> {
    array: Array<'a>,
    /// `None` for floats.
    pub packing: Option<Packing>,
    /// Outputs.
    pub rows: usize,
    /// Inputs of one output.
    pub cols: usize,
    /// Added to each output.
    pub bias: Option<Vec<f32>>,
    /// Bits of the inputs: 1 to 8, or [`FLOAT`].
    pub input_bits: usize,
    /// Bits of the weights: 1 to 8, or [`FLOAT`].
    pub weight_bits: usize,
    /// The result is multiplied by the mean magnitude of the weights.
    pub scaled: bool,
}

impl Matrix<'_> {
    /// All weights row by row; only for weights that are not packed.
    pub fn floats(&self, layer: &str) -> Result<Vec<f32>> {
        self.array.floats().ok_or_else(|| Error::layer(layer, "its weights are integers"))
    }
    /// A packed weight: true for +1.
    pub fn bit(&self, row: usize, col: usize) -> bool {
        let word = self.array.element.bytes() * 8;
        let bit = match self.packing {
            Some(Packing::Columns) => (col / word * self.rows + row) * word + col % word,
            _ => row * self.cols + col,
        };
        // Little-endian words that are packed from the lowest bit are one stream of bits.
        self.array.bytes[bit / 8] >> (bit % 8) & 1 == 1
    }
}

/// Pooling before the size of its input is known.
pub struct Pool {
    kind: PoolKind,
    window: Window,
    /// The window is the whole map.
    pub global: bool,
    /// Windows that overhang the lower and right border count.
    full: bool,
    count_pad: bool,
}

impl Pool {
    /// The window on a map, and whether an average counts the padding.
    ///
    /// # Errors
    /// When MXNet's average cannot be expressed.
    pub fn on(&self, shape: Shape) -> Result<Pool2d, String> {
        let (mut window, mut count_pad) = (self.window, self.count_pad);
        if self.global {
            window = Window::whole(shape);
        } else if self.full {
            for (i, size) in [shape.h, shape.w].into_iter().enumerate() {
                let padded = size + 2 * window.pad[i];
                let beyond = padded.saturating_sub(window.kernel[i]) % window.stride[i].max(1);
                if beyond != 0 {
                    window.pad[i + 2] += window.stride[i] - beyond;
                    // MXNet counts the padding, but not what overhangs it.
                    if self.kind == PoolKind::Average && count_pad && window.pad[i] > 0 {
                        return Err("averages over padded windows that overhang the map".into());
                    }
                    count_pad = false;
                }
            }
        }
        Ok(Pool2d { kind: self.kind, window, count_pad })
    }
}

/// The layers that the output needs, in order; the first is the input.
///
/// # Errors
/// Names the first layer that cannot be imported.
pub fn read<'a>(symbol: &Symbol, params: &HashMap<&str, Array<'a>>) -> Result<Vec<Layer<'a>>> {
    let mut needed = vec![false; symbol.nodes.len()];
    needed[symbol.head] = true;
    for i in (0..=symbol.head).rev().filter(|i| symbol.nodes[*i].op != "null").collect::<Vec<_>>() {
        if needed[i] {
            let node = &symbol.nodes[i];
            if node.inputs.is_empty() {
                return Err(node.error("reads nothing"));
            }
            for input in values_of(node) {
                needed[*input] = true;
            }
        }
    }
    let mut layers = vec![Layer { name: String::new(), kind: Kind::Input, inputs: Vec::new() }];
    let mut place = vec![0; symbol.nodes.len()];
    for (i, node) in symbol.nodes.iter().enumerate().filter(|(i, _)| needed[*i]) {
        if node.op == "null" {
            if params.contains_key(node.name.as_str()) {
                return Err(node.error("is a constant that is used as data, which is not supported"));
            }
            if !std::mem::take(&mut layers[0].name).is_empty() {
                return Err(node.error("is a second input, but only networks with one can be imported"));
            }
            layers[0].name = node.name.clone();
            continue;
        }
        let kind = Source { symbol, params, node }.kind(i == symbol.head)?;
        let inputs = values_of(node).iter().map(|v| place[*v]).collect();
        place[i] = layers.len();
        layers.push(Layer { name: node.name.clone(), kind, inputs });
    }
    Ok(layers)
}

/// The inputs of a node that are values, not constants or labels.
fn values_of(node: &Node) -> &[usize] {
    let all = matches!(
        node.op.as_str(),
        "elemwise_add"
            | "_Plus"
            | "_plus"
            | "_add"
            | "broadcast_add"
            | "broadcast_plus"
            | "add_n"
            | "ElementWiseSum"
            | "elemwise_mul"
            | "_Mul"
            | "_mul"
            | "broadcast_mul"
            | "Concat"
            | "concat"
    );
    if all { &node.inputs } else { &node.inputs[..1.min(node.inputs.len())] }
}

/// A node with what it refers to.
struct Source<'s, 'a> {
    symbol: &'s Symbol,
    params: &'s HashMap<&'s str, Array<'a>>,
    node: &'s Node,
}

impl<'a> Source<'_, 'a> {
    fn kind(&self, is_head: bool) -> Result<Kind<'a>> {
        let node = self.node;
        Ok(match node.op.as_str() {
            "Convolution" | "Convolution_v1" => self.conv(false)?,
            "QConvolution" | "QConvolution_v1" => self.conv(true)?,
            "FullyConnected" => Kind::Dense(self.matrix("num_hidden", false, None)?),
            "QFullyConnected" => Kind::Dense(self.matrix("num_hidden", true, Some(Packing::Columns))?),
            "BatchNorm" | "BatchNorm_v1" | "CuDNNBatchNorm" => self.batch_norm()?,
            "QActivation" => {
                let bits = self.bits("act_bit")?;
                // What only acts backwards is left to the layer that reads it.
                if node.flag("backward_only", false)? {
                    Kind::Same
                } else if bits == FLOAT {
                    return Err(node.error("quantises to 32 bits: only 1 to 8 bits are supported"));
                } else {
                    Kind::Quantize(bits)
                }
            }
            "Activation" => Kind::Activation(self.activation(node.text("act_type", ""))?),
            "relu" | "tanh" | "sigmoid" => Kind::Activation(self.activation(&node.op)?),
            "clip" => Kind::Activation(Activation::Clip {
                low: node.float("a_min", f64::from(f32::MIN))? as f32,
                high: node.float("a_max", f64::from(f32::MAX))? as f32,
            }),
            "LeakyReLU" => self.slope()?,
            "Pooling" | "Pooling_v1" => Kind::Pool(self.pool()?),
            "Flatten" | "flatten" => Kind::Flatten,
            "Reshape" | "reshape" => match node.list("shape")?[..] {
                [0, -1] => Kind::Flatten,
                [-1, n] if n > 0 => Kind::Flatten,
                _ => return Err(node.error("has a shape other than (0, -1): only flattening is supported")),
            },
            "elemwise_add" | "_Plus" | "_plus" | "_add" | "broadcast_add" | "broadcast_plus" | "add_n"
            | "ElementWiseSum" => Kind::Sum,
            "elemwise_mul" | "_Mul" | "_mul" | "broadcast_mul" => Kind::Product,
            "Concat" | "concat" => match node.number("dim", 1)? {
                1 => Kind::Join,
                dim => return Err(node.error(format!("joins axis {dim}, but only channels can be joined"))),
            },
            "_mul_scalar" | "_MulScalar" => Kind::Scalar(node.float("scalar", 1.0)? as f32, 0.0),
            "_div_scalar" | "_DivScalar" => match node.float("scalar", 1.0)? {
                0.0 => return Err(node.error("divides by 0")),
                by => Kind::Scalar((1.0 / by) as f32, 0.0),
            },
            "_plus_scalar" | "_PlusScalar" => Kind::Scalar(1.0, node.float("scalar", 0.0)? as f32),
            "_minus_scalar" | "_MinusScalar" => Kind::Scalar(1.0, -node.float("scalar", 0.0)? as f32),
            "Dropout" | "identity" | "_copy" | "BlockGrad" => Kind::Same,
            // The output is the logits: a softmax changes no order.
            "SoftmaxOutput"
            | "Softmax"
            | "softmax"
            | "SoftmaxActivation"
            | "log_softmax"
            | "LinearRegressionOutput"
            | "SVMOutput"
                if is_head =>
            {
                Kind::Same
            }
            "SoftmaxOutput" | "softmax" | "SoftmaxActivation" => Kind::Softmax,
            _ => return Err(node.error("is not an operation that this importer knows")),
        })
    }

    fn constant(&self, input: usize, what: &str) -> Result<Array<'a>> {
        let id = self.node.inputs.get(input);
        let id = *id.ok_or_else(|| self.node.error(format!("has no {what}")))?;
        let name = &self.symbol.nodes[id].name;
        self.params.get(name.as_str()).copied().ok_or_else(|| {
            self.node.error(format!("needs the {what} '{name}', which is not in the parameter file"))
        })
    }

    fn floats(&self, input: usize, what: &str, length: usize) -> Result<Vec<f32>> {
        let values = self.constant(input, what)?.floats();
        let values = values.ok_or_else(|| self.node.error(format!("has a {what} of integers")))?;
        if values.len() != length {
            let text = format!("has a {what} of {} values, but {length} channels", values.len());
            return Err(self.node.error(text));
        }
        Ok(values)
    }

    fn bits(&self, key: &str) -> Result<usize> {
        match self.node.number(key, 1)? {
            bits @ (1..=8 | FLOAT) => Ok(bits),
            bits => Err(self.node.error(format!("has {key} = {bits}: only 1 to 8 bits are supported"))),
        }
    }

    fn conv(&self, quantised: bool) -> Result<Kind<'a>> {
        let node = self.node;
        let kernel = node.pair("kernel", [0, 0])?;
        let [down, right] = node.pair("pad", [0, 0])?;
        let window = Window {
            kernel,
            stride: node.pair("stride", [1, 1])?,
            dilation: node.pair("dilate", [1, 1])?,
            pad: [down, right, down, right],
        };
        let groups = node.number("num_group", 1)?;
        if !matches!(node.text("layout", "None"), "None" | "NCHW") {
            return Err(node.error("has a layout other than NCHW"));
        }
        let matrix = self.matrix("num_filter", quantised, quantised.then_some(Packing::Rows))?;
        let taps = kernel[0].checked_mul(kernel[1]).filter(|t| *t > 0);
        if groups == 0 || taps.is_none_or(|t| !matrix.cols.is_multiple_of(t)) {
            return Err(node.error(format!("has a weight that does not fit a {kernel:?} kernel")));
        }
        Ok(Kind::Conv(matrix, window, groups))
    }

    fn matrix(&self, rows: &str, quantised: bool, packing: Option<Packing>) -> Result<Matrix<'a>> {
        let node = self.node;
        let rows = node.number(rows, 0)?;
        let array = self.constant(1, "weight")?;
        let packing = packing.filter(|_| quantised);
        let packing = if node.flag("binarized_weights_only", false)? { packing } else { None };
        let word = match array.element {
            Element::F32 | Element::F64 if packing.is_some() => array.element.bytes() * 8,
            _ if packing.is_some() => return Err(node.error("has packed weights of an unknown word size")),
            _ => 1,
        };
        let elements = array.len().checked_mul(word).unwrap_or(0);
        if rows == 0 || elements == 0 || !elements.is_multiple_of(rows) {
            return Err(node.error(format!("has {elements} weights, which do not make {rows} rows")));
        }
        let cols = elements / rows;
        if packing == Some(Packing::Columns) && !cols.is_multiple_of(word) {
            return Err(node.error(format!("has packed rows of {cols} weights, but words of {word}")));
        }
        let (input_bits, weight_bits) = match quantised {
            true => (self.bits("act_bit")?, self.bits("weight_bit")?),
            false => (FLOAT, FLOAT),
        };
        if packing.is_some() && (weight_bits != 1 || input_bits != 1) {
            return Err(node.error("has packed weights, but not one bit for weights and activations"));
        }
        if input_bits != FLOAT && weight_bits == FLOAT {
            return Err(node.error("quantises its input, but not its weights, which is not supported"));
        }
        let scaled = quantised && node.text("scaling_mode", "none") == "forward";
        if (scaled && packing.is_some()) || node.flag("scaling_factor", false)? {
            return Err(node.error("scales by the magnitude of weights that the file does not hold"));
        }
        let bias = if node.flag("no_bias", quantised)? { None } else { Some(self.floats(2, "bias", rows)?) };
        Ok(Matrix { array, packing, rows, cols, bias, input_bits, weight_bits, scaled })
    }

    fn batch_norm(&self) -> Result<Kind<'a>> {
        let node = self.node;
        if node.number("axis", 1)? != 1 {
            return Err(node.error("normalises another axis than the channels"));
        }
        let n = self.constant(3, "mean")?.len();
        let gamma = if node.flag("fix_gamma", true)? { None } else { Some(self.floats(1, "gamma", n)?) };
        Ok(Kind::BatchNorm(BatchNorm {
            gamma,
            beta: self.floats(2, "beta", n)?,
            mean: self.floats(3, "mean", n)?,
            variance: self.floats(4, "variance", n)?,
            eps: node.float("eps", 1e-3)?,
        }))
    }

    fn activation(&self, name: &str) -> Result<Activation> {
        match name {
            "relu" => Ok(Activation::Relu),
            "tanh" => Ok(Activation::Tanh),
            "sigmoid" => Ok(Activation::Sigmoid),
            _ => Err(self.node.error(format!("has the activation '{name}', which is not supported"))),
        }
    }

    fn slope(&self) -> Result<Kind<'a>> {
        let node = self.node;
        Ok(Kind::Slope(match node.text("act_type", "leaky") {
            "leaky" => vec![node.float("slope", 0.25)? as f32],
            // Random while training, the middle afterwards.
            "rrelu" => {
                let (low, high) = (node.float("lower_bound", 0.125)?, node.float("upper_bound", 0.334)?);
                vec![((low + high) / 2.0) as f32]
            }
            "prelu" => {
                let slopes = self.constant(1, "gamma")?.floats();
                slopes.ok_or_else(|| node.error("has slopes that are integers"))?
            }
            other => return Err(node.error(format!("has the type '{other}', which is not supported"))),
        }))
    }

    fn pool(&self) -> Result<Pool> {
        let node = self.node;
        let kind = match node.text("pool_type", "max") {
            "max" => PoolKind::Max,
            "avg" => PoolKind::Average,
            other => return Err(node.error(format!("has the type '{other}', which is not supported"))),
        };
        let [down, right] = node.pair("pad", [0, 0])?;
        let window = Window {
            kernel: node.pair("kernel", [1, 1])?,
            stride: node.pair("stride", [1, 1])?,
            dilation: [1, 1],
            pad: [down, right, down, right],
        };
        let largest = [window.kernel, window.stride, [down, right]].into_iter().flatten().max();
        if largest > Some(1 << 16) {
            return Err(node.error("has an absurd kernel, stride or padding"));
        }
        let full = match node.text("pooling_convention", "valid") {
            "valid" => false,
            "full" => true,
            other => return Err(node.error(format!("has the convention '{other}', which is not supported"))),
        };
        let count_pad = node.flag("count_include_pad", true)?;
        Ok(Pool { kind, window, global: node.flag("global_pool", false)?, full, count_pad })
    }
}
