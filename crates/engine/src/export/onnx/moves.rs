//! Elements that change their place: other shapes and orders, boxes, borders, and maps of another size.

use super::builder::{Builder, Id};
use super::products::{as_map, pad, settle};
use super::proto::{Attribute, Elem};
use super::{Carried, Dialect, dims};
use onebit_core::ops::resize::ResizeMode;
use onebit_core::ops::{DepthToSpace, Pad, Resize, Slice, Transpose, pad::PadMode};
use onebit_core::types::Shape;

/// The axes in another order, the batch first.
pub fn turn(b: &mut Builder, layer: &str, x: Id, order: &[usize]) -> Id {
    let axes: Vec<usize> = order[1..].iter().map(|i| b.dims(x)[i - 1]).collect();
    let perm = Attribute::Ints("perm", order.iter().map(|i| *i as i64).collect());
    b.node(layer, "Transpose", &[x], vec![perm], Elem::Float, &axes)
}

/// The same elements in other axes.
fn reshaped(b: &mut Builder, layer: &str, x: Id, axes: &[usize]) -> Id {
    let batch = match b.dialect {
        Dialect::Onnx => -1,
        Dialect::Qonnx => 1,
    };
    let shape: Vec<i64> = std::iter::once(batch).chain(axes.iter().map(|d| *d as i64)).collect();
    let shape = b.ints(&format!("{layer}.shape"), &shape);
    b.node(layer, "Reshape", &[x, shape], vec![], Elem::Float, axes)
}

/// The same elements, counted in `(h, w, c)` order, in another shape.
pub fn reshape(b: &mut Builder, layer: &str, x: Carried, to: Shape) -> Id {
    let from = x.ty.shape;
    if from == to {
        return x.id;
    }
    // With one channel or one pixel both orders are the same.
    let same = |s: Shape| s.c == 1 || s.pixels() == 1;
    let ordered = if same(from) { x.id } else { turn(b, layer, x.id, &[0, 2, 3, 1]) };
    if same(to) {
        return reshaped(b, layer, ordered, &dims(to));
    }
    let y = reshaped(b, layer, ordered, &[to.h, to.w, to.c]);
    turn(b, layer, y, &[0, 3, 1, 2])
}

/// Height, width and channels in another order.
pub fn transpose(b: &mut Builder, layer: &str, x: Carried, op: &Transpose, out: Shape) -> Id {
    let map = as_map(b, layer, x);
    // Where height, width and channels are in `[N, C, H, W]`.
    let [h, w, c] = op.order.map(|axis| [2, 3, 1][axis]);
    let y = turn(b, layer, map, &[0, c, h, w]);
    settle(b, layer, y, out)
}

/// A box, or every few elements.
pub fn slice(b: &mut Builder, layer: &str, x: Carried, op: &Slice, out: Shape) -> Id {
    let map = as_map(b, layer, x);
    let end = [0, 1, 2].map(|i| op.from[i] + (op.size[i] - 1) * op.step[i] + 1);
    let mut inputs = vec![map];
    for (role, v) in [("starts", op.from), ("ends", end), ("axes", [2, 3, 1]), ("steps", op.step)] {
        inputs.push(b.ints(&format!("{layer}.{role}"), &v.map(|v| v as i64)));
    }
    let y = b.node(layer, "Slice", &inputs, vec![], Elem::Float, &[out.c, out.h, out.w]);
    settle(b, layer, y, out)
}

/// More rows and columns.
pub fn border(b: &mut Builder, layer: &str, x: Carried, op: &Pad, out: Shape) -> Id {
    let map = as_map(b, layer, x);
    let mode = match op.mode {
        PadMode::Constant => "constant",
        PadMode::Reflect => "reflect",
        PadMode::Edge => "edge",
    };
    let y = pad(b, layer, map, op.pad, op.value, mode);
    settle(b, layer, y, out)
}

/// A map of another size. Its pixels are named one by one, and interpolated by products with matrices: the op of ONNX
/// wants the size of the batch too.
pub fn resize(b: &mut Builder, layer: &str, x: Carried, op: &Resize, out: Shape) -> Id {
    let from = x.ty.shape;
    let map = as_map(b, layer, x);
    let taps = |from: usize, to: usize| (0..to).map(move |i| op.tap(i, from, to));
    let y = if op.mode == ResizeMode::Linear {
        let (mut rows, mut cols) = (vec![0.0; out.h * from.h], vec![0.0; from.w * out.w]);
        for (i, tap) in taps(from.h, out.h).enumerate() {
            rows[i * from.h + tap.first as usize] += tap.weights[0];
            rows[i * from.h + tap.second as usize] += tap.weights[1];
        }
        for (i, tap) in taps(from.w, out.w).enumerate() {
            cols[tap.first as usize * out.w + i] += tap.weights[0];
            cols[tap.second as usize * out.w + i] += tap.weights[1];
        }
        let rows = b.floats(&format!("{layer}.rows"), &[out.h, from.h], &rows);
        let cols = b.floats(&format!("{layer}.columns"), &[from.w, out.w], &cols);
        let tall = b.node(layer, "MatMul", &[rows, map], vec![], Elem::Float, &[from.c, out.h, from.w]);
        b.node(layer, "MatMul", &[tall, cols], vec![], Elem::Float, &[out.c, out.h, out.w])
    } else {
        let places = |b: &mut Builder, role, from, to| {
            let places: Vec<i64> = taps(from, to).map(|t| t.first.into()).collect();
            b.ints(&format!("{layer}.{role}"), &places)
        };
        let (rows, cols) = (places(b, "rows", from.h, out.h), places(b, "columns", from.w, out.w));
        let axis = |i| vec![Attribute::Int("axis", i)];
        let tall = b.node(layer, "Gather", &[map, rows], axis(2), Elem::Float, &[from.c, out.h, from.w]);
        b.node(layer, "Gather", &[tall, cols], axis(3), Elem::Float, &[out.c, out.h, out.w])
    };
    settle(b, layer, y, out)
}

/// Channels become blocks of pixels.
pub fn depth_to_space(b: &mut Builder, layer: &str, x: Carried, op: &DepthToSpace, out: Shape) -> Id {
    let ([bh, bw], Shape { h, w, .. }) = (op.block, x.ty.shape);
    let map = as_map(b, layer, x);
    let axes = [out.c, out.h, out.w];
    let y = if bh == bw {
        let block = vec![Attribute::Int("blocksize", bh as i64), Attribute::Text("mode", "DCR".into())];
        b.node(layer, "DepthToSpace", &[map], block, Elem::Float, &axes)
    } else {
        let cut = reshaped(b, layer, map, &[bh, bw, out.c, h, w]);
        let turned = turn(b, layer, cut, &[0, 3, 4, 1, 5, 2]);
        reshaped(b, layer, turned, &axes)
    };
    settle(b, layer, y, out)
}
