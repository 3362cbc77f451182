//! The ops: a closed set. Each has one page, always in the same order: maths, attributes, `run` (the
//! fast path), `infer` (shape), `reference` (the specification), `cases` (for tests and benches).

pub mod activation;
pub mod affine;
pub mod argmax;
pub mod bconv2d;
pub mod bdense;
pub mod bpool2d;
pub mod concat;
pub mod conv2d;
pub mod decode;
pub mod dense;
pub mod depth_to_space;
pub mod elementwise;
pub mod lookup;
pub mod pad;
pub mod pool2d;
pub mod prelu;
pub mod quantize;
pub mod reshape;
pub mod resize;
pub mod sign;
pub mod slice;
pub mod softmax;
pub mod threshold;
pub mod transform;
pub mod transpose;
pub mod window;

#[cfg(feature = "alloc")]
use crate::model::{Error, MAX_ELEMENTS, Params, Tensor};
#[cfg(feature = "alloc")]
use crate::types::ValueType;
#[cfg(feature = "alloc")]
use alloc::{format, vec::Vec};

pub use activation::Activation;
pub use bconv2d::BConv2d;
pub use bdense::BDense;
pub use bpool2d::BPool2d;
pub use conv2d::Conv2d;
pub use depth_to_space::DepthToSpace;
pub use elementwise::Elementwise;
pub use pad::{Pad, PadMode};
pub use pool2d::{Pool2d, PoolKind};
pub use quantize::{Quantize, Rounding};
pub use reshape::Reshape;
pub use resize::{Coordinates, Resize, ResizeMode};
pub use sign::{Sign, Zero};
pub use slice::Slice;
pub use threshold::Threshold;
pub use transpose::Transpose;
pub use window::Window;

/// Every op that a model can contain.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Op {
    /// Sign of numbers, as bits.
    Sign(Sign),
    /// Per-channel thresholds to bits or k-bit levels.
    Threshold(Threshold),
    /// Rounds to integers.
    Quantize(Quantize),
    /// Integers of any format to floats.
    Decode,
    /// A number for each level of an integer.
    Lookup,
    /// Convolution of integer activations (1 to 8 bits) with 1- to 8-bit weights.
    BConv2d(BConv2d),
    /// Dense layer of integer activations with 1- to 8-bit weights.
    BDense(BDense),
    /// Float convolution, depthwise included.
    Conv2d(Conv2d),
    /// Float dense layer.
    Dense,
    /// Maximum or minimum of bit-packed values over a window.
    BPool2d(BPool2d),
    /// Maximum or average of numbers over a window.
    Pool2d(Pool2d),
    /// `(x - center) * scale + bias` per channel.
    Affine,
    /// A function of one number.
    Activation(Activation),
    /// `x >= 0 ? x : x * scale` per channel.
    Prelu,
    /// Sum of two values.
    Add,
    /// Product of two values.
    Mul,
    /// Quotient of two values.
    Div,
    /// The larger of two values.
    Max,
    /// The smaller of two values.
    Min,
    /// Joins values along the channels.
    Concat,
    /// The same elements in another shape.
    Reshape(Reshape),
    /// The axes in another order.
    Transpose(Transpose),
    /// A box of a value, or every few elements.
    Slice(Slice),
    /// More rows and columns.
    Pad(Pad),
    /// A map of another size.
    Resize(Resize),
    /// Channels become blocks of pixels.
    DepthToSpace(DepthToSpace),
    /// `exp(x) / sum(exp(x))` over the channels.
    Softmax,
    /// Index of the first largest channel.
    Argmax,
}

#[cfg(feature = "alloc")]
impl Op {
    /// Name as in the model file.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Sign(_) => "sign",
            Op::Threshold(_) => "threshold",
            Op::Quantize(_) => "quantize",
            Op::Decode => "decode",
            Op::Lookup => "lookup",
            Op::BConv2d(_) => "b_conv2d",
            Op::BDense(_) => "b_dense",
            Op::Conv2d(_) => "conv2d",
            Op::Dense => "dense",
            Op::BPool2d(_) => "b_pool2d",
            Op::Pool2d(_) => "pool2d",
            Op::Affine => "affine",
            Op::Activation(_) => "activation",
            Op::Prelu => "prelu",
            Op::Add => "add",
            Op::Mul => "mul",
            Op::Div => "div",
            Op::Max => "max",
            Op::Min => "min",
            Op::Concat => "concat",
            Op::Reshape(_) => "reshape",
            Op::Transpose(_) => "transpose",
            Op::Slice(_) => "slice",
            Op::Pad(_) => "pad",
            Op::Resize(_) => "resize",
            Op::DepthToSpace(_) => "depth_to_space",
            Op::Softmax => "softmax",
            Op::Argmax => "argmax",
        }
    }

    /// Number of inputs: `Some(n)`, or `None` for one or more.
    pub fn arity(&self) -> Option<usize> {
        match self {
            Op::Add | Op::Mul | Op::Div | Op::Max | Op::Min => Some(2),
            Op::Concat => None,
            _ => Some(1),
        }
    }

    /// Roles of the constants that the op may have.
    pub fn roles(&self) -> &'static [&'static str] {
        match self {
            Op::BConv2d(_) | Op::BDense(_) => &Params::<()>::ROLES,
            Op::Conv2d(_) | Op::Dense => &["weight", "bias"],
            Op::Lookup => &["weight"],
            Op::Threshold(_) => &["thresholds", "flips"],
            Op::BPool2d(_) => &["flips"],
            Op::Affine => &["center", "scale", "bias"],
            Op::Prelu => &["scale"],
            _ => &[],
        }
    }

    /// Type of the output, given the inputs and constants.
    ///
    /// # Errors
    /// Says in one sentence what does not fit.
    pub fn infer(&self, inputs: &[ValueType], params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        let arity_fits = match self.arity() {
            Some(n) => inputs.len() == n,
            None => !inputs.is_empty(),
        };
        if !arity_fits {
            return Err(Error(format!("has {} inputs", inputs.len())));
        }
        if let Some((role, _)) = params.each().find(|(role, _)| !self.roles().contains(role)) {
            return Err(Error(format!("takes no {role}")));
        }
        let x = inputs[0];
        let out = match self {
            Op::Sign(_) => sign::infer(x),
            Op::Threshold(t) => threshold::infer(t, x, params),
            Op::Quantize(q) => quantize::infer(q, x),
            Op::Decode => decode::infer(x),
            Op::Lookup => lookup::infer(x, params),
            Op::BConv2d(c) => bconv2d::infer(c, x, params),
            Op::BDense(d) => bdense::infer(d, x, params),
            Op::Conv2d(c) => conv2d::infer(c, x, params),
            Op::Dense => dense::infer(x, params),
            Op::BPool2d(p) => bpool2d::infer(p, x, params),
            Op::Pool2d(p) => pool2d::infer(p, x),
            Op::Affine => affine::infer(x, params),
            Op::Activation(a) => activation::infer(a, x),
            Op::Prelu => prelu::infer(x, params),
            Op::Add => elementwise::infer(Elementwise::Add, inputs),
            Op::Mul => elementwise::infer(Elementwise::Mul, inputs),
            Op::Div => elementwise::infer(Elementwise::Div, inputs),
            Op::Max => elementwise::infer(Elementwise::Max, inputs),
            Op::Min => elementwise::infer(Elementwise::Min, inputs),
            Op::Concat => concat::infer(inputs),
            Op::Reshape(r) => reshape::infer(r, x),
            Op::Transpose(t) => transpose::infer(t, x),
            Op::Slice(s) => slice::infer(s, x),
            Op::Pad(p) => pad::infer(p, x),
            Op::Resize(r) => resize::infer(r, x),
            Op::DepthToSpace(d) => depth_to_space::infer(d, x),
            Op::Softmax => softmax::infer(x),
            Op::Argmax => argmax::infer(x),
        }?;
        // Here and not on the pages, which may therefore saturate: a shape that is accepted is one to reckon with.
        match out.shape.checked_elements() {
            Some(1..=MAX_ELEMENTS) => Ok(out),
            _ => Err(Error(format!("would have an impossible shape, {}", out.shape))),
        }
    }
}

/// The cases of every op.
#[cfg(feature = "alloc")]
#[doc(hidden)]
pub fn cases() -> Vec<crate::cases::Case> {
    [
        sign::cases(),
        threshold::cases(),
        quantize::cases(),
        decode::cases(),
        lookup::cases(),
        bconv2d::cases(),
        bdense::cases(),
        conv2d::cases(),
        dense::cases(),
        bpool2d::cases(),
        pool2d::cases(),
        affine::cases(),
        activation::cases(),
        prelu::cases(),
        elementwise::cases(),
        concat::cases(),
        reshape::cases(),
        transpose::cases(),
        slice::cases(),
        pad::cases(),
        resize::cases(),
        depth_to_space::cases(),
        softmax::cases(),
        argmax::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Most rows that a convolution lowers at a time.
#[cfg(feature = "alloc")]
const MAX_BLOCK: usize = 64;

/// Rows of `bytes` that a convolution lowers at a time: whole tiles of `mr` that stay in half of a small L1 cache.
#[cfg(feature = "alloc")]
fn rows_at_a_time(bytes: usize, mr: usize) -> usize {
    (16 * 1024 / bytes).clamp(mr, MAX_BLOCK) / mr * mr
}

/// Refuses everything but floats.
#[cfg(feature = "alloc")]
fn floats_only(x: ValueType) -> Result<ValueType, Error> {
    match x.dtype {
        crate::types::DType::F32 => Ok(x),
        other => Err(Error(format!("needs f32 input, not {other}: decode it first"))),
    }
}
