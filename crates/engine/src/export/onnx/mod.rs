//! A model as an ONNX file, for onnxruntime, Netron and the tools of FINN.
//!
//! Maps are `[N, C, H, W]` and vectors `[N, C]`; the network's input and output keep the axis order of its source.
//! Every number is a float inside, +1 and -1 too, and every layer's value and node has the layer's name. Floats hold
//! the integers up to 2^24 exactly, so thresholds see the same accumulators as here; products that could be larger
//! are split into digits and added up in double precision, and what cannot be exact is refused. Weights of few bits
//! are stored as bytes.
//!
//! Pictures are not prepared by the exported network: its input is what the model's first layer reads.

mod builder;
mod layers;
mod levels;
mod moves;
mod products;
mod proto;

use crate::atomic::replace;
use crate::error::{Error, Result};
use crate::meta::{Layout, Meta};
use builder::{Builder, Id, QONNX};
use onebit_core::model::Model;
use onebit_core::ops::Op;
use onebit_core::types::{DType, Quant, Shape, ValueType};
use proto::Elem;
use std::path::Path;

/// Which ops an exported file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Those of ONNX, opset 17; any number of inputs at a time.
    Onnx,
    /// Those of QONNX too: weights and activations of few bits pass quantisers. One input at a time, because the
    /// tools that read it want fixed shapes.
    Qonnx,
}

/// Largest magnitude of integers that floats hold, with the next one: a threshold that none reaches.
const EXACT: i64 = (1 << 24) - 1;
/// Longest protocol-buffer message.
const MAX_BYTES: usize = i32::MAX as usize;

/// A value of the model in the ONNX graph.
#[derive(Clone, Copy)]
struct Carried {
    id: Id,
    ty: ValueType,
    /// Largest magnitude of an integer; floats have none.
    bound: i64,
}

/// Writes `model` as an ONNX file.
///
/// # Errors
/// Names the layer that ONNX cannot compute exactly or at all; also when the file would be larger than 2 GiB, which
/// no ONNX file may be.
pub fn export(model: &Model<'_>, meta: &Meta, dialect: Dialect) -> Result<Vec<u8>> {
    let mut builder = Builder::new(dialect, model.nodes().iter().map(|n| n.name.as_str()));
    let b = &mut builder;
    let mut values = vec![input(b, model.input(), meta.input.layout)?];
    for (i, node) in model.nodes().iter().enumerate() {
        let inputs: Vec<Carried> = node.inputs.iter().map(|&v| values[v]).collect();
        let out = model.types()[i + 1];
        let before = b.count();
        let mut made = layers::layer(b, node, &inputs, out).map_err(|e| Error::layer(&node.name, e))?;
        if made.id < before {
            made.id = b.like(&node.name, "Identity", &[made.id], vec![]);
        }
        // Doubles are for sums and comparisons of what is looked up; other nodes take floats.
        let summed = matches!(node.op, Op::Lookup | Op::Add) && b.elem(made.id) == Elem::Double;
        let mut readers = model.nodes().iter().filter(|n| n.inputs.contains(&(i + 1))).peekable();
        let fits = summed && readers.peek().is_some();
        let fits = fits && readers.all(|n| matches!(n.op, Op::Threshold(_) | Op::Add));
        if out.dtype == DType::I32 && made.bound > EXACT && !fits {
            let message = format!(
                "its integers could reach {}, but ONNX's floats hold integers up to {EXACT} only; put a scale or thresholds into it",
                made.bound
            );
            return Err(Error::layer(&node.name, message));
        }
        b.name_after(made.id, &node.name);
        values.push(made);
    }
    let last = output(b, values[values.len() - 1], meta.input.layout);
    let graph = builder.finish(&meta.name, last);
    let opsets: &[(&str, i64)] = match dialect {
        Dialect::Onnx => &[("", 17)],
        Dialect::Qonnx => &[("", 17), (QONNX, 2)],
    };
    let file = proto::model(&graph, opsets, &properties(meta)?);
    if file.len() > MAX_BYTES {
        return Err(Error::Model(format!(
            "the network is {} bytes long in ONNX, but no ONNX file may be longer than {MAX_BYTES}",
            file.len()
        )));
    }
    Ok(file.into_bytes())
}

/// Writes an ONNX file and says how many bytes it has. An existing file is replaced in one step, or left alone when
/// anything fails.
///
/// # Errors
/// As [`export`]; also when the file cannot be written.
pub fn save(model: &Model<'_>, meta: &Meta, dialect: Dialect, path: &Path) -> Result<u64> {
    let bytes = export(model, meta, dialect).map_err(|e| e.in_file(path))?;
    replace(path, &bytes)?;
    Ok(bytes.len() as u64)
}

/// Axes of a value, without the batch.
fn dims(shape: Shape) -> Vec<usize> {
    if shape.pixels() == 1 { vec![shape.c] } else { vec![shape.c, shape.h, shape.w] }
}

/// The network's input as floats, `[N, C, H, W]`.
fn input(b: &mut Builder, ty: ValueType, layout: Layout) -> Result<Carried> {
    let Shape { h, w, c } = ty.shape;
    let turned = layout == Layout::Nhwc && ty.shape.pixels() > 1;
    let axes = if turned { vec![h, w, c] } else { dims(ty.shape) };
    let mut id = match (ty.dtype, b.dialect) {
        (DType::F32, _) => b.input(Elem::Float, &axes),
        (DType::U8, Dialect::Onnx) => {
            let id = b.input(Elem::Uint8, &axes);
            b.cast("input", id, Elem::Float)
        }
        // Their tools know integers by a quantiser, and have no integer inputs.
        (DType::U8, Dialect::Qonnx) => {
            let id = b.input(Elem::Float, &axes);
            let bytes = Quant::new(8, onebit_core::types::Encoding::Unsigned);
            levels::quantiser(b, "input", id, bytes, "ROUND")
        }
        (other, _) => return Err(Error::Model(format!("networks with {other} input cannot be exported"))),
    };
    if turned {
        id = moves::turn(b, "input", id, &[0, 3, 1, 2]);
    }
    Ok(Carried { id, ty, bound: levels::largest(ty.dtype) })
}

/// The network's output in the axis order of its source.
fn output(b: &mut Builder, v: Carried, layout: Layout) -> Id {
    match layout {
        Layout::Nhwc if v.ty.shape.pixels() > 1 => moves::turn(b, "output", v.id, &[0, 2, 3, 1]),
        _ => v.id,
    }
}

/// What the model says about itself, field by field; all but text is JSON.
fn properties(meta: &Meta) -> Result<Vec<(String, String)>> {
    let refuse =
        |e: serde_json::Error| Error::Model(format!("the network's description has no JSON form: {e}"));
    let fields = match serde_json::to_value(meta).map_err(refuse)? {
        serde_json::Value::Object(fields) => fields,
        _ => Default::default(),
    };
    let text = |v: serde_json::Value| match v {
        serde_json::Value::String(s) => s,
        other => other.to_string(),
    };
    Ok(fields.into_iter().map(|(k, v)| (format!("onebit.{k}"), text(v))).collect())
}
