//! Values of nodes whose inputs are all constants: what exporters leave in graphs on weights, shapes and axes.
//!
//! The maths is that of the ONNX operator pages, and of the package qonnx for its operators, in single precision and in
//! the order of operations of onnxruntime and qonnx. Sums and products of many elements and functions such as `exp`
//! are taken in double precision and rounded once, because there is no common order for them. Types are as wide as
//! [`Elements`]: results in half precision are not rounded, but casts to it are.

mod linear;
mod pointwise;
mod qonnx;
mod reduce;
mod shapes;

use super::proto::Node;
use super::tensors::External;
use crate::error::{Error, Result};
use crate::import::array::{Array, Elements, MOST_ELEMENTS, broadcast};
pub use linear::{code_range, quantize_linear};
use std::rc::Rc;

/// Domains that QONNX operators have had.
pub const QONNX_DOMAINS: [&str; 3] = ["onnx.brevitas", "finn.custom_op.general", "qonnx.custom_op.general"];

/// The outputs of a node of the operator `op` of version `opset` of `domain`, all of whose inputs are constants. Inputs that
/// are left out are `None`. `None` if the operator, or this form of it, is not known here.
///
/// # Errors
/// Names the node when its inputs or attributes are not what the operator wants, or a result would have more than
/// [`MOST_ELEMENTS`] elements.
pub fn evaluate(
    op: &str,
    domain: &str,
    opset: i64,
    node: &Node,
    inputs: &[Option<Rc<Array>>],
) -> Result<Option<Vec<Array>>> {
    evaluate_within(MOST_ELEMENTS, op, domain, opset, node, inputs)
}

/// As [`evaluate`] for results of at most `most` elements: a few bytes of a file can ask for a gigabyte.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_within(
    most: usize,
    op: &str,
    domain: &str,
    opset: i64,
    node: &Node,
    inputs: &[Option<Rc<Array>>],
) -> Result<Option<Vec<Array>>> {
    let call = Call { op, opset, node, inputs, most };
    let result = size(&call).and_then(|n| call.room(n)).and_then(|()| match domain {
        "" | "ai.onnx" => standard(&call),
        d if QONNX_DOMAINS.contains(&d) => qonnx::evaluate(&call),
        _ => Ok(None),
    });
    result.map_err(|e| match e {
        Error::Model(what) => node.error(what),
        other => other,
    })
}

/// How many elements the result can have where it can have more than the inputs. Pad and Range see to it themselves.
fn size(call: &Call) -> Result<usize> {
    let product = |lengths: &[usize]| lengths.iter().fold(1, |n: usize, d| n.saturating_mul(*d.max(&1)));
    Ok(match (call.op, call.optional(0), call.optional(1)) {
        ("ConstantOfShape", Some(shape), _) => product(&shapes::lengths(shape)?),
        ("Expand", Some(x), Some(shape)) => product(&broadcast([&x.shape[..], &shapes::lengths(shape)?])?),
        ("Tile", Some(x), Some(repeats)) => product(&shapes::lengths(repeats)?).saturating_mul(x.len()),
        ("Gather", Some(x), Some(indices)) => {
            let length = x.shape[x.axis(call.node.int("axis", 0)?)?];
            x.len().checked_div(length).unwrap_or(0).saturating_mul(indices.len())
        }
        ("MatMul" | "Gemm" | "XnorPopcountMatMul", Some(a), Some(b)) => {
            let rows = if call.flag("transA", false)? { a.shape.last() } else { a.shape.first() };
            let cols = if call.flag("transB", false)? { b.shape.first() } else { b.shape.last() };
            rows.unwrap_or(&1).saturating_mul(*cols.unwrap_or(&1))
        }
        ("QuantizeLinear" | "DequantizeLinear" | "BatchNormalization" | "MultiThreshold", ..) => 0,
        // All others with many inputs expand them to each other's shape, or need no more than they have.
        _ => broadcast(call.inputs.iter().flatten().map(|x| &x.shape[..])).map_or(0, |shape| product(&shape)),
    })
}

/// The groups do not share operators: the first that knows one evaluates it.
fn standard(call: &Call) -> Result<Option<Vec<Array>>> {
    if call.op == "Split" {
        return shapes::split(call).map(Some);
    }
    for group in [constant, shapes::evaluate, pointwise::evaluate, reduce::evaluate, linear::evaluate] {
        if let Some(array) = group(call)? {
            return Ok(Some(vec![array]));
        }
    }
    Ok(None)
}

fn constant(call: &Call) -> Result<Option<Array>> {
    let node = call.node;
    if call.op != "Constant" {
        return Ok(None);
    }
    Ok(Some(if let Some(tensor) = node.tensor("value")? {
        tensor.to_array(&External::none())?
    } else if let Some(floats) = node.floats("value_floats")? {
        Array::new(vec![floats.len()], Elements::F32(floats.to_vec()))?
    } else if let Some(ints) = node.ints("value_ints")? {
        Array::ints(ints.to_vec())
    } else if node.has("value_float") {
        Array::scalar(node.float("value_float", 0.0)?)
    } else if node.has("value_int") {
        int(node.int("value_int", 0)?)
    } else {
        return Ok(None);
    }))
}

/// An integer without axes.
fn int(value: i64) -> Array {
    Array { shape: Vec::new(), elements: Elements::I64(vec![value]) }
}

/// A node and its inputs.
struct Call<'a> {
    op: &'a str,
    opset: i64,
    node: &'a Node<'a>,
    inputs: &'a [Option<Rc<Array>>],
    most: usize,
}

impl<'a> Call<'a> {
    /// Refuses a result of so many elements if it is too large.
    fn room(&self, elements: usize) -> Result<()> {
        match elements <= self.most {
            true => Ok(()),
            false => Err(Error::Model("its result is too large for the constants that the file has".into())),
        }
    }

    fn optional(&self, i: usize) -> Option<&'a Array> {
        self.inputs.get(i).and_then(Option::as_deref)
    }

    fn input(&self, i: usize) -> Result<&'a Array> {
        self.optional(i).ok_or_else(|| Error::Model(format!("its input {} is missing", i + 1)))
    }

    /// All inputs, none of which may be left out.
    fn all(&self) -> Result<Vec<&'a Array>> {
        (0..self.inputs.len().max(1)).map(|i| self.input(i)).collect()
    }

    /// Integers that newer versions of an operator take from input `i` and older ones from an attribute.
    fn list(&self, attribute: &str, i: usize) -> Result<Option<Vec<i64>>> {
        match self.optional(i) {
            Some(array) => array.integers().map(|v| Some(v.to_vec())),
            None => Ok(self.node.ints(attribute)?.map(<[i64]>::to_vec)),
        }
    }

    /// The same where there must be some.
    fn wanted(&self, attribute: &str, i: usize) -> Result<Vec<i64>> {
        self.list(attribute, i)?.ok_or_else(|| Error::Model(format!("it has no '{attribute}'")))
    }

    /// The only element of input `i`.
    fn scalar(&self, i: usize) -> Result<f32> {
        let array = self.input(i)?;
        let many =
            || Error::Model(format!("its input {} has {} elements instead of one", i + 1, array.len()));
        array.as_scalar().ok_or_else(many)
    }

    fn flag(&self, attribute: &str, default: bool) -> Result<bool> {
        Ok(self.node.int(attribute, i64::from(default))? != 0)
    }
}
