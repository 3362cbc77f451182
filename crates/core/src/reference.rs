//! Runs a model the slow, obvious way: unpacked numbers, one element at a time, no kernels.
//!
//! This is the specification. Everything else (CPU kernels, GPU, generated code) must equal it bit
//! for bit. It is also the oracle for passes, because a graph before fusion is made of the same ops.

use crate::model::{Error, Model, Node};
use crate::ops::{self, Op};
use crate::types::{Shape, ValueType};
use alloc::vec::Vec;

/// Unpacked elements of one image, in `[h][w][c]` order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Elements of every integer format, decoded.
    Int(Vec<i32>),
    /// Floats.
    F32(Vec<f32>),
}

impl Values {
    /// The integers. Panics on floats: the type says which it is.
    pub fn int(&self) -> &[i32] {
        match self {
            Values::Int(v) => v,
            Values::F32(_) => panic!("integers expected"),
        }
    }
    /// The floats. Panics on integers: the type says which it is.
    pub fn f32(&self) -> &[f32] {
        match self {
            Values::F32(v) => v,
            Values::Int(_) => panic!("floats expected"),
        }
    }
    /// All elements as floats.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Values::F32(v) => v.clone(),
            Values::Int(v) => v.iter().map(|x| *x as f32).collect(),
        }
    }
}

/// Value of one node for one image. `out` is the inferred type of the node.
pub fn node(node: &Node<'_>, types: &[ValueType], inputs: &[&Values], out: ValueType) -> Values {
    let (x, v, p) = (types[0], inputs[0], &node.params);
    match &node.op {
        Op::Sign(s) => ops::sign::reference(s, v),
        Op::Threshold(t) => ops::threshold::reference(t, x, v, p),
        Op::Quantize(q) => ops::quantize::reference(q, v),
        Op::Decode => ops::decode::reference(v),
        Op::Lookup => ops::lookup::reference(x, v, p),
        Op::BConv2d(c) => ops::bconv2d::reference(c, x, v, p, out),
        Op::BDense(d) => ops::bdense::reference(d, x, v, p, out),
        Op::Conv2d(c) => ops::conv2d::reference(c, x, v, p, out),
        Op::Dense => ops::dense::reference(x, v, p, out),
        Op::BPool2d(pool) => ops::bpool2d::reference(pool, x, v, p, out),
        Op::Pool2d(pool) => ops::pool2d::reference(pool, x, v, out),
        Op::Affine => ops::affine::reference(x, v, p),
        Op::Activation(a) => ops::activation::reference(a, v),
        Op::Prelu => ops::prelu::reference(x, v, p),
        Op::Add => ops::elementwise::reference(ops::Elementwise::Add, types, v, inputs[1]),
        Op::Mul => ops::elementwise::reference(ops::Elementwise::Mul, types, v, inputs[1]),
        Op::Div => ops::elementwise::reference(ops::Elementwise::Div, types, v, inputs[1]),
        Op::Max => ops::elementwise::reference(ops::Elementwise::Max, types, v, inputs[1]),
        Op::Min => ops::elementwise::reference(ops::Elementwise::Min, types, v, inputs[1]),
        Op::Concat => ops::concat::reference(types, inputs, out),
        Op::Reshape(_) => v.clone(),
        Op::Transpose(t) => ops::transpose::reference(t, x, v),
        Op::Slice(s) => ops::slice::reference(s, x, v),
        Op::Pad(p) => ops::pad::reference(p, x, v, out),
        Op::Resize(r) => ops::resize::reference(r, x, v),
        Op::DepthToSpace(d) => ops::depth_to_space::reference(d, x, v, out),
        Op::Softmax => ops::softmax::reference(x, v),
        Op::Argmax => ops::argmax::reference(x, v),
    }
}

/// Elements in another place: element `(y, x, c)` is element `from(y, x, c)` of `v`, or `outside`.
pub(crate) fn moved(
    shape: Shape,
    v: &Values,
    outside: f32,
    from: impl Fn(usize, usize, usize) -> Option<usize>,
) -> Values {
    fn each<T: Copy>(v: &[T], outside: T, places: impl Iterator<Item = Option<usize>>) -> Vec<T> {
        places.map(|place| place.map_or(outside, |i| v[i])).collect()
    }
    let places = (0..shape.elements()).map(|i| {
        let (pixel, c) = (i / shape.c, i % shape.c);
        from(pixel / shape.w, pixel % shape.w, c)
    });
    match v {
        Values::F32(v) => Values::F32(each(v, outside, places)),
        Values::Int(v) => Values::Int(each(v, outside as i32, places)),
    }
}

/// Values of all nodes of a model for one image; the last is the output.
///
/// # Errors
/// When `input` has not as many elements as the model's input.
pub fn run_all(model: &Model<'_>, input: Values) -> Result<Vec<Values>, Error> {
    let elements = match &input {
        Values::Int(v) => v.len(),
        Values::F32(v) => v.len(),
    };
    if elements != model.input().shape.elements() {
        return Err("the input has the wrong number of elements".into());
    }
    let mut values = alloc::vec![input];
    for (i, n) in model.nodes().iter().enumerate() {
        let types: Vec<ValueType> = n.inputs.iter().map(|&v| model.types()[v]).collect();
        let inputs: Vec<&Values> = n.inputs.iter().map(|&v| &values[v]).collect();
        let value = node(n, &types, &inputs, model.types()[i + 1]);
        values.push(value);
    }
    Ok(values)
}

/// Output of a model for one image.
///
/// # Errors
/// As [`run_all`].
pub fn run(model: &Model<'_>, input: Values) -> Result<Values, Error> {
    Ok(run_all(model, input)?.pop().expect("a model has nodes"))
}
