//! What a network costs: parameters, multiply-adds and bytes, layer by layer.

use onebit_core::model::{Data, Model, Node};
use onebit_core::ops::Op;
use onebit_core::types::{DType, ValueType};
use serde::Serialize;
use std::fmt;

/// What a layer with weights multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Single bits with single bits.
    Binary,
    /// Weights of one bit with bytes.
    BinaryOnBytes,
    /// Weights or activations of 2 to 7 bits.
    KBit,
    /// Bytes with bytes.
    Int8,
    /// Weights of one bit with floats.
    BinaryOnFloats,
    /// Weights of 2 to 8 bits with floats.
    KBitOnFloats,
    /// Floats.
    Float,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Binary => "binary",
            Kind::BinaryOnBytes => "binary weights, bytes",
            Kind::KBit => "k-bit",
            Kind::Int8 => "int8",
            Kind::BinaryOnFloats => "binary weights, floats",
            Kind::KBitOnFloats => "k-bit weights, floats",
            Kind::Float => "float",
        })
    }
}

/// The costs of one layer, for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerStats {
    /// Name of the layer.
    pub name: String,
    /// Name of the op.
    pub op: &'static str,
    /// Shape of the output: height, width, channels.
    pub output: [usize; 3],
    /// Number format of the output.
    pub output_format: String,
    /// Bits of one weight; none where there are no weights.
    pub weight_bits: Option<u8>,
    /// Bits of one element of the (first) input.
    pub activation_bits: u8,
    /// What is multiplied; none where there are no weights.
    pub kind: Option<Kind>,
    /// Trained numbers, see [`Stats::parameters`].
    pub parameters: u64,
    /// Multiply-adds of 1- to 8-bit weights with bits or bytes.
    pub binary_macs: u64,
    /// Multiply-adds of floats.
    pub float_macs: u64,
    /// Bytes of the constants.
    pub weight_bytes: u64,
    /// Bytes of the output.
    pub activation_bytes: u64,
}

impl LayerStats {
    /// Multiply-adds of single bits: every weight plane with every activation plane.
    pub fn bit_macs(&self) -> u64 {
        self.binary_macs * u64::from(self.weight_bits.unwrap_or(0)) * u64::from(self.activation_bits)
    }
}

/// The costs of a network, for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Layer by layer.
    pub layers: Vec<LayerStats>,
    /// Trained numbers: weights, and one for each channel of a scale, shift or threshold. A channel with
    /// several thresholds (k-bit output) counts once: they stand for one batch normalisation.
    pub parameters: u64,
    /// Multiply-adds of 1- to 8-bit weights with bits or bytes.
    pub binary_macs: u64,
    /// Multiply-adds of floats.
    pub float_macs: u64,
    /// Bytes of all constants.
    pub weight_bytes: u64,
    /// Bytes of all values, if none shared its place with another.
    pub activation_bytes: u64,
    /// Bytes of the parameters in single precision.
    pub float32_bytes: u64,
}

/// Counts what `model` costs.
pub fn stats(model: &Model<'_>) -> Stats {
    let layers: Vec<LayerStats> =
        model.nodes().iter().enumerate().map(|(i, node)| layer(model, node, model.types()[i + 1])).collect();
    let sum = |of: fn(&LayerStats) -> u64| layers.iter().map(of).sum::<u64>();
    let parameters = sum(|l| l.parameters);
    Stats {
        parameters,
        binary_macs: sum(|l| l.binary_macs),
        float_macs: sum(|l| l.float_macs),
        weight_bytes: sum(|l| l.weight_bytes),
        activation_bytes: sum(|l| l.activation_bytes),
        float32_bytes: 4 * parameters,
        layers,
    }
}

fn layer(model: &Model<'_>, node: &Node<'_>, out: ValueType) -> LayerStats {
    let p = &node.params;
    let parameters = p.each().map(|(role, t)| match role {
        "thresholds" => t.rows,
        "flips" => 0,
        _ => t.rows * t.cols,
    });
    // A filter is a row; it is applied once for every pixel of the output.
    let macs = p.weight.as_ref().map_or(0, |w| out.shape.pixels() as u64 * w.rows as u64 * w.cols as u64);
    let (binary_macs, float_macs) = match node.op {
        Op::BConv2d(_) | Op::BDense(_) => (macs, 0),
        _ => (0, macs),
    };
    let weight_bits = p.weight.as_ref().map(|w| match &w.data {
        Data::Bits(q, _) => q.bits,
        Data::F32(_) | Data::I32(_) => 32,
    });
    let activation_bits = element_bits(model.types()[node.inputs[0]].dtype);
    let kind = weight_bits.map(|w| match (w, activation_bits) {
        (32, _) => Kind::Float,
        (1, 32) => Kind::BinaryOnFloats,
        (_, 32) => Kind::KBitOnFloats,
        (1, 1) => Kind::Binary,
        (1, 8) => Kind::BinaryOnBytes,
        (8, 8) => Kind::Int8,
        _ => Kind::KBit,
    });
    LayerStats {
        name: node.name.clone(),
        op: node.op.name(),
        output: out.shape.into(),
        output_format: out.dtype.to_string(),
        weight_bits,
        activation_bits,
        kind,
        parameters: parameters.map(|n| n as u64).sum(),
        binary_macs,
        float_macs,
        weight_bytes: p.each().map(|(_, t)| t.bytes() as u64).sum(),
        activation_bytes: out.dtype.bytes(out.shape) as u64,
    }
}

/// Bits of one element.
pub fn element_bits(dtype: DType) -> u8 {
    match dtype {
        DType::I32 | DType::F32 => 32,
        other => other.quant().map_or(8, |q| q.bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::meta::Meta;
    use onebit_core::model::{Params, Tensor};
    use onebit_core::ops::{BConv2d, BDense, Window};
    use onebit_core::types::{Encoding, Quant, Shape};

    #[test]
    fn counts_of_a_small_network() {
        let mut graph = Graph::new(ValueType::new(Shape::new(6, 6, 3), DType::U8), Meta::default());
        let u2 = Quant::new(2, Encoding::Unsigned);
        let conv =
            BConv2d { window: Window::square(3, 1, 0), groups: 1, pad_value: 0, output: DType::Bits(u2) };
        let params = Params {
            weight: Some(Tensor::bits(8, 27, Quant::BIT, |_, _| 1)),
            thresholds: Some(Tensor::i32_matrix(8, 3, [0, 1, 2].repeat(8))),
            flips: Some(Tensor::flags(&[false; 8])),
            ..Params::default()
        };
        let x = graph.add("conv", Op::BConv2d(conv), &[Graph::INPUT], params).unwrap();
        let params = Params {
            weight: Some(Tensor::bits(10, 128, Quant::TERNARY, |_, _| 0)),
            scale: Some(Tensor::f32(vec![1.0; 10])),
            ..Params::default()
        };
        let x = graph.add("dense", Op::BDense(BDense { output: DType::F32 }), &[x], params).unwrap();
        let params = Params { weight: Some(Tensor::f32_matrix(5, 10, vec![0.5; 50])), ..Params::default() };
        graph.add("head", Op::Dense, &[x], params).unwrap();
        let s = stats(&graph.into_model().unwrap().0);

        let conv = &s.layers[0];
        assert_eq!((conv.weight_bits, conv.activation_bits, conv.parameters), (Some(1), 8, 8 * 27 + 8));
        let kinds: Vec<_> = s.layers.iter().map(|l| l.kind).collect();
        assert_eq!(kinds, [Some(Kind::BinaryOnBytes), Some(Kind::KBit), Some(Kind::Float)]);
        assert_eq!((conv.binary_macs, conv.bit_macs()), (16 * 8 * 27, 16 * 8 * 27 * 8));
        assert_eq!((conv.output, conv.output_format.as_str()), ([4, 4, 8], "u2"));
        assert_eq!((conv.weight_bytes, conv.activation_bytes), (8 * 8 + 8 * 3 * 4 + 8, 16 * 2 * 8));
        let dense = &s.layers[1];
        assert_eq!((dense.weight_bits, dense.activation_bits, dense.parameters), (Some(2), 2, 1290));
        assert_eq!((dense.binary_macs, dense.float_macs), (1280, 0));
        let head = &s.layers[2];
        assert_eq!((head.weight_bits, head.activation_bits, head.float_macs), (Some(32), 32, 50));
        assert_eq!((s.parameters, s.float32_bytes), (224 + 1290 + 50, 4 * 1564));
        assert_eq!((s.binary_macs, s.float_macs), (16 * 8 * 27 + 1280, 50));
    }
}
