//! Each op of a model as nodes of ONNX.

use super::builder::{Builder, Id};
use super::levels;
use super::products::{Product, Site, as_map, pad, settle, window_attributes};
use super::proto::{Attribute, Elem};
use super::{Carried, dims, moves};
use onebit_core::model::{Node, Params, Tensor};
use onebit_core::ops::{Activation, BConv2d, Op, Pool2d, PoolKind, Window};
use onebit_core::types::{DType, Encoding, Shape, ValueType};

/// The value of a layer, not yet called after it; it may be one of its inputs.
///
/// # Errors
/// Why ONNX cannot compute it exactly.
pub fn layer(
    b: &mut Builder,
    node: &Node<'_>,
    inputs: &[Carried],
    out: ValueType,
) -> Result<Carried, String> {
    let (name, x, p) = (node.name.as_str(), inputs[0], &node.params);
    let integers = levels::largest(out.dtype);
    let (id, bound) = match &node.op {
        Op::Sign(s) => (levels::sign(b, name, x.id, *s), integers),
        Op::Threshold(_) => (thresholds(b, name, x.id, x.bound, p, out)?, integers),
        Op::Quantize(q) => (levels::quantize(b, name, x.id, q), integers),
        // Integers are floats of the same value already.
        Op::Decode => (x.id, 0),
        Op::Lookup => {
            let table = p.weight.as_ref().ok_or("has no table")?;
            levels::lookup(b, name, x, table)?
        }
        Op::BConv2d(c) => {
            let BConv2d { window, groups, pad_value, .. } = *c;
            let product = Product::Conv { window, groups, pad_value: pad_value as f32 };
            integer_product(b, &Site { layer: name, x, out: out.shape, product }, p, out)?
        }
        Op::BDense(_) => {
            integer_product(b, &Site { layer: name, x, out: out.shape, product: Product::Dense }, p, out)?
        }
        Op::Conv2d(c) => {
            let product = Product::Conv { window: c.window, groups: c.groups, pad_value: c.pad_value };
            (float_product(b, &Site { layer: name, x, out: out.shape, product }, p)?, 0)
        }
        Op::Dense => {
            (float_product(b, &Site { layer: name, x, out: out.shape, product: Product::Dense }, p)?, 0)
        }
        Op::BPool2d(pool) => {
            // The minimum is the maximum of the negatives.
            let flips = levels::flips(p, x.ty.shape.c);
            let flipped = flips.contains(&true);
            let id = if flipped { levels::flip(b, name, x.id, &flips) } else { x.id };
            let id = max_pool(b, name, Carried { id, ..x }, &pool.window, out.shape);
            (if flipped { levels::flip(b, name, id, &flips) } else { id }, integers)
        }
        Op::Pool2d(pool) => (pool2d(b, name, x, pool, out.shape), x.bound),
        Op::Affine => (affine(b, name, x.id, p), 0),
        Op::Activation(a) => (activation(b, name, x.id, a), 0),
        Op::Prelu => {
            let slope = channels(b, name, "scale", x.id, p.scale.as_ref()).ok_or("has no scale")?;
            (b.like(name, "PRelu", &[x.id, slope], vec![]), 0)
        }
        Op::Add => (pair(b, name, "Add", inputs), x.bound.saturating_add(inputs[1].bound)),
        Op::Mul => (pair(b, name, "Mul", inputs), x.bound.saturating_mul(inputs[1].bound)),
        Op::Div => (pair(b, name, "Div", inputs), 0),
        Op::Max => (pair(b, name, "Max", inputs), x.bound.max(inputs[1].bound)),
        Op::Min => (pair(b, name, "Min", inputs), x.bound.max(inputs[1].bound)),
        Op::Concat => {
            let ids: Vec<Id> = inputs.iter().map(|x| x.id).collect();
            let axis = vec![Attribute::Int("axis", 1)];
            let bound = inputs.iter().map(|x| x.bound).max().unwrap_or(0);
            (b.node(name, "Concat", &ids, axis, Elem::Float, &dims(out.shape)), bound)
        }
        Op::Reshape(r) => (moves::reshape(b, name, x, r.shape), x.bound),
        Op::Transpose(t) => (moves::transpose(b, name, x, t, out.shape), x.bound),
        Op::Slice(s) => (moves::slice(b, name, x, s, out.shape), x.bound),
        Op::Pad(p) => (moves::border(b, name, x, p, out.shape), x.bound.max(p.value.abs() as i64)),
        Op::Resize(r) => (moves::resize(b, name, x, r, out.shape), x.bound),
        Op::DepthToSpace(d) => (moves::depth_to_space(b, name, x, d, out.shape), x.bound),
        Op::Softmax => (b.like(name, "Softmax", &[x.id], vec![Attribute::Int("axis", 1)]), 0),
        Op::Argmax => {
            let axis = vec![Attribute::Int("axis", 1), Attribute::Int("keepdims", 1)];
            let class = b.node(name, "ArgMax", &[x.id], axis, Elem::Int64, &dims(out.shape));
            (b.cast(name, class, Elem::Float), x.ty.shape.c as i64)
        }
    };
    Ok(Carried { id, ty: out, bound })
}

/// An integer product, and what becomes of it: floats, levels, or itself.
fn integer_product(
    b: &mut Builder,
    site: &Site<'_>,
    p: &Params<Tensor<'_>>,
    out: ValueType,
) -> Result<(Id, i64), String> {
    let weight = p.weight.as_ref().ok_or("has no weight")?;
    let (Some((quant, _)), Some(mut ints)) = (weight.as_bits(), weight.to_i32()) else {
        return Err("needs bit-packed weights".into());
    };
    let mut p = p.clone();
    // A filter of the opposite sign has the opposite product; formats that are not symmetric need a product with -1.
    let symmetric = matches!(quant.encoding, Encoding::Bipolar | Encoding::Ternary);
    if let (true, DType::Bits(_), Some(t)) = (symmetric, out.dtype, &p.thresholds)
        && let Some(t) = t.as_i32()
        && p.flips.is_some()
    {
        let flips = levels::flips(&p, out.shape.c);
        let (mut t, steps) = (t.to_vec(), t.len() / out.shape.c);
        let rows = ints.chunks_exact_mut(weight.cols).zip(t.chunks_exact_mut(steps));
        for ((row, t), _) in rows.zip(&flips).filter(|(_, flip)| **flip) {
            row.iter_mut().for_each(|w| *w = -*w);
            // `x < t` is `-x >= 1 - t`; what overflows is reached by no number.
            t.iter_mut().for_each(|t| *t = 1i32.checked_sub(*t).unwrap_or(i32::MAX));
        }
        p.thresholds = Some(Tensor::i32_matrix(out.shape.c, steps, t));
        p.flips = None;
    }
    let (id, bound) = site.integers(b, &ints, weight.rows, quant)?;
    Ok(match out.dtype {
        DType::Bits(_) => (thresholds(b, site.layer, id, bound, &p, out)?, levels::largest(out.dtype)),
        DType::F32 => {
            let id = if b.elem(id) == Elem::Double { b.cast(site.layer, id, Elem::Float) } else { id };
            (affine(b, site.layer, id, &p), 0)
        }
        _ => (id, bound),
    })
}

fn float_product(b: &mut Builder, site: &Site<'_>, p: &Params<Tensor<'_>>) -> Result<Id, String> {
    let weight = p.weight.as_ref().ok_or("has no weight")?;
    Ok(site.floats(b, weight, p.bias.as_ref()))
}

fn thresholds(
    b: &mut Builder,
    layer: &str,
    x: Id,
    bound: i64,
    p: &Params<Tensor<'_>>,
    out: ValueType,
) -> Result<Id, String> {
    let (DType::Bits(quant), Some(t)) = (out.dtype, &p.thresholds) else {
        return Err("has no thresholds".into());
    };
    Ok(levels::thresholds(b, layer, x, bound, quant, t, &levels::flips(p, out.shape.c)))
}

/// A constant with one number for each channel.
fn channels(b: &mut Builder, layer: &str, role: &str, x: Id, t: Option<&Tensor<'_>>) -> Option<Id> {
    let dims = levels::per_channel(b, x);
    Some(b.floats(&format!("{layer}.{role}"), &dims, t?.as_f32()?))
}

/// `(x - center) * scale + bias`.
fn affine(b: &mut Builder, layer: &str, x: Id, p: &Params<Tensor<'_>>) -> Id {
    let steps = [("Sub", "center", &p.center), ("Mul", "scale", &p.scale), ("Add", "bias", &p.bias)];
    steps.into_iter().fold(x, |x, (op, role, t)| match channels(b, layer, role, x, t.as_ref()) {
        Some(constant) => b.like(layer, op, &[x, constant], vec![]),
        None => x,
    })
}

fn activation(b: &mut Builder, layer: &str, x: Id, a: &Activation) -> Id {
    let op = match *a {
        Activation::Clip { low, high } => {
            let (low, high) = (b.scalar(low), b.scalar(high));
            return b.like(layer, "Clip", &[x, low, high], vec![]);
        }
        // ONNX makes NaN of negative numbers.
        Activation::Sqrt | Activation::Log => {
            let x = b.like(layer, "Relu", &[x], vec![]);
            let op = if *a == Activation::Sqrt { "Sqrt" } else { "Log" };
            return b.like(layer, op, &[x], vec![]);
        }
        Activation::Relu => "Relu",
        Activation::Tanh => "Tanh",
        Activation::Sigmoid => "Sigmoid",
        Activation::Abs => "Abs",
        Activation::Exp => "Exp",
        Activation::Erf => "Erf",
        Activation::Round => "Round",
        Activation::Floor => "Floor",
        Activation::Ceil => "Ceil",
    };
    b.like(layer, op, &[x], vec![])
}

/// An op of two values; the second may have one pixel or one channel.
fn pair(b: &mut Builder, layer: &str, op: &'static str, inputs: &[Carried]) -> Id {
    let (x, y) = (inputs[0], inputs[1]);
    let spread = x.ty.shape.pixels() > 1 && y.ty.shape.pixels() == 1;
    let y = if spread { as_map(b, layer, y) } else { y.id };
    // What is looked up may need doubles on one side alone.
    let double = [x.id, y].iter().any(|id| b.elem(*id) == Elem::Double);
    let widen = |b: &mut Builder, id: Id| match double && b.elem(id) != Elem::Double {
        true => b.cast(layer, id, Elem::Double),
        false => id,
    };
    let sides = [x.id, y].map(|id| widen(b, id));
    b.like(layer, op, &sides, vec![])
}

/// Padding below and to the right that a window reads; it may have more.
fn used_pad(window: &Window, input: Shape, out: Shape) -> [usize; 4] {
    let [top, left, bottom, right] = window.pad;
    let end = |axis: usize, outputs: usize, size: usize, before: usize, after: usize| {
        let reach =
            (outputs - 1) * window.stride[axis] + window.dilation[axis] * (window.kernel[axis] - 1) + 1;
        reach.saturating_sub(size + before).min(after)
    };
    [top, left, end(0, out.h, input.h, top, bottom), end(1, out.w, input.w, left, right)]
}

/// Whether onnxruntime pads as much by itself: less than a kernel.
fn narrow(window: &Window, pad: [usize; 4]) -> bool {
    (0..4).all(|i| pad[i] < window.kernel[i % 2])
}

fn max_pool(b: &mut Builder, layer: &str, x: Carried, window: &Window, out: Shape) -> Id {
    let map = as_map(b, layer, x);
    let axes = [out.c, out.h, out.w];
    if window.covers(x.ty.shape) {
        let y = b.node(layer, "GlobalMaxPool", &[map], vec![], Elem::Float, &axes);
        return settle(b, layer, y, out);
    }
    let used = used_pad(window, x.ty.shape, out);
    let (map, rest) = match narrow(window, used) {
        true => (map, used),
        false => (pad(b, layer, map, used, f32::MIN, "constant"), [0; 4]),
    };
    let mut attributes = window_attributes(window, rest);
    attributes.push(Attribute::Ints("dilations", window.dilation.map(|v| v as i64).to_vec()));
    let y = b.node(layer, "MaxPool", &[map], attributes, Elem::Float, &axes);
    settle(b, layer, y, out)
}

fn pool2d(b: &mut Builder, layer: &str, x: Carried, pool: &Pool2d, out: Shape) -> Id {
    let window = &pool.window;
    if pool.kind == PoolKind::Max {
        return max_pool(b, layer, x, window, out);
    }
    let used = used_pad(window, x.ty.shape, out);
    let attributes = if window.covers(x.ty.shape) {
        None
    } else if window.dilation == [1; 2] && narrow(window, used) {
        let mut attributes = window_attributes(window, used);
        attributes.push(Attribute::Int("count_include_pad", pool.count_pad.into()));
        Some(attributes)
    } else {
        return divided_sum(b, layer, x, pool, out);
    };
    let map = as_map(b, layer, x);
    let op = if attributes.is_some() { "AveragePool" } else { "GlobalAveragePool" };
    let y = b.node(layer, op, &[map], attributes.unwrap_or_default(), Elem::Float, &[out.c, out.h, out.w]);
    settle(b, layer, y, out)
}

/// An average that `AveragePool` cannot take (dilated ones only from opset 19 on): a sum, divided pixel by pixel.
fn divided_sum(b: &mut Builder, layer: &str, x: Carried, pool: &Pool2d, out: Shape) -> Id {
    let (window, input) = (pool.window, x.ty.shape);
    let product = Product::Conv { window, groups: out.c, pad_value: 0.0 };
    let ones = Tensor::f32_matrix(out.c, window.taps(), vec![1.0; out.c * window.taps()]);
    let sum = Site { layer, x, out, product }.floats(b, &ones, None);
    let counted = |i: usize| match pool.count_pad {
        true => window.taps(),
        false => window.inside(i / out.w, 0, input.h).len() * window.inside(i % out.w, 1, input.w).len(),
    };
    let counts: Vec<f32> = (0..out.pixels()).map(|i| counted(i) as f32).collect();
    let counts = b.floats(&format!("{layer}.counts"), &dims(Shape { c: 1, ..out }), &counts);
    b.like(layer, "Div", &[sum, counts], vec![])
}
