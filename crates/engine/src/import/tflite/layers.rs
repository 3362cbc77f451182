//! Built-in ops with weights or windows, and those that look at several elements at once.

use super::blocks::dilation as dilated;
use super::network::{Kind, Live, Network, Node, Value};
use super::pointwise::applied;
use crate::error::Result;
use crate::import::array::Array;
use crate::import::lower::unary::Unary;
use crate::import::lower::{Channels, Filter, Pool};
use onebit_core::ops::{Activation, Coordinates, Op, PoolKind, Resize, ResizeMode, Window};

/// `Padding` of the schema: as much output as input, by stride. The other is none.
const SAME: u8 = 0;

/// A window over a map of the file's `NHWC`.
///
/// # Errors
/// When the value is no map or a size is not positive.
pub fn window(
    node: &Node<'_>,
    live: &Live,
    kernel: [i32; 2],
    stride: [i32; 2],
    dilation: [i32; 2],
    padding: u8,
) -> Result<Window> {
    let &[h @ 1..=usize::MAX, w @ 1..=usize::MAX, _] = live.var.dims.as_slice() else {
        return Err(node.error(format!("needs a map of one image, but gets the shape {:?}", live.shape())));
    };
    let positive = |v: [i32; 2]| match v.map(usize::try_from) {
        [Ok(a @ 1..), Ok(b @ 1..)] => Ok([a, b]),
        _ => Err(node.error(format!("has the impossible kernel, stride or dilation {v:?}"))),
    };
    let (kernel, stride, dilation) = (positive(kernel)?, positive(stride)?, positive(dilation)?);
    let mut pad = [0; 4];
    if padding == SAME {
        for (axis, size) in [h, w].into_iter().enumerate() {
            let extent = (kernel[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1);
            let last = (size.div_ceil(stride[axis]) - 1) * stride[axis];
            let total = last.saturating_add(extent).saturating_sub(size);
            (pad[axis], pad[axis + 2]) = (total / 2, total - total / 2);
        }
    }
    Ok(Window { kernel, stride, dilation, pad })
}

/// The activation that an op ends with: `ActivationFunctionType` of the schema.
pub fn activated(network: &mut Network<'_>, node: &Node<'_>, value: Value, code: u8) -> Result<Value> {
    let f = match code {
        0 => return Ok(value),
        1 => Unary::Max(0.0),
        2 => Unary::Clip(-1.0, 1.0),
        3 => Unary::Clip(0.0, 6.0),
        4 => Unary::Activation(Activation::Tanh),
        other => return Err(node.error(format!("ends with the unknown activation {other}"))),
    };
    applied(network, node, value, f)
}

/// Weights in input 1. Where they are quantised and the map is not, the source quantises the map while it runs.
fn weights(network: &mut Network<'_>, node: &Node<'_>) -> Result<Array> {
    let array = network.constant(node, 1, "weights")?;
    let is_float = |i: usize| match node.optional(i) {
        Some(index) => network.model.tensor(index).map(|t| t.quantization.is_none()),
        None => Ok(false),
    };
    if is_float(0)? && !is_float(1)? {
        network.note(
            "Layers with quantised weights and float values are computed in floats; TensorFlow Lite rounds their values \
             to bytes.",
        );
    }
    Ok(array)
}

/// Bias in input `i`, if there is one.
fn bias(network: &mut Network<'_>, node: &Node<'_>, i: usize) -> Result<Option<Vec<f32>>> {
    match node.optional(i) {
        Some(_) => Ok(Some(network.constant(node, i, "bias")?.to_f32())),
        None => Ok(None),
    }
}

/// The shape of a filter, which has four axes, and the kernel's rows and columns.
fn four(node: &Node<'_>, filter: &Array) -> Result<([usize; 4], [i32; 2])> {
    let shape = filter.shape.as_slice().try_into().ok();
    let kernel = |s: [usize; 4]| Some((s, [i32::try_from(s[1]).ok()?, i32::try_from(s[2]).ok()?]));
    shape.and_then(kernel).ok_or_else(|| node.error(format!("has a filter of shape {:?}", filter.shape)))
}

/// Filter `[out][rows][columns][in / groups]`.
pub fn conv(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = network.live(node, 0)?;
    let array = weights(network, node)?;
    let bias = bias(network, node, 2)?;
    let live = convolved(network, node, &live, &array, bias)?;
    activated(network, node, Value::Live(live), node.op.options.choice(3)?)
}

/// [`conv`] of a map and a filter, without its activation.
pub fn convolved(
    network: &mut Network<'_>,
    node: &Node<'_>,
    live: &Live,
    array: &Array,
    bias: Option<Vec<f32>>,
) -> Result<Live> {
    let ([rows, _, _, per_group], kernel) = four(node, array)?;
    let o = &node.op.options;
    let (stride, dilation) = ([o.int(2, 0)?, o.int(1, 0)?], [o.int(5, 1)?, o.int(4, 1)?]);
    let dilation = dilated(network, node, dilation, stride == [1; 2] && o.choice(0)? != SAME)?;
    let window = window(node, live, kernel, stride, dilation, o.choice(0)?)?;
    let channels = live.var.dims.last().copied().unwrap_or(1);
    let groups = channels.checked_div(per_group).filter(|g| g * per_group == channels && *g > 0);
    let groups = groups.ok_or_else(|| {
        node.error(format!("has filters of {per_group} channels for a map of {channels} channels"))
    })?;
    let filter = Filter { rows, values: array.to_f32(), bias };
    let var = network.lowerer.conv(&node.name, live.var.clone(), Channels::Last, &filter, window, groups)?;
    Ok(live.with(var))
}

/// Filter `[1][rows][columns][out]`; output channel `o` reads input channel `o / multiplier`.
pub fn depthwise(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = network.live(node, 0)?;
    let array = weights(network, node)?;
    let bias = bias(network, node, 2)?;
    let live = by_channel(network, node, &live, &array, bias)?;
    activated(network, node, Value::Live(live), node.op.options.choice(4)?)
}

/// [`depthwise`] of a map and a filter, without its activation.
pub fn by_channel(
    network: &mut Network<'_>,
    node: &Node<'_>,
    live: &Live,
    array: &Array,
    bias: Option<Vec<f32>>,
) -> Result<Live> {
    let ([_, height, width, rows], kernel) = four(node, array)?;
    let o = &node.op.options;
    let (stride, dilation) = ([o.int(2, 0)?, o.int(1, 0)?], [o.int(6, 1)?, o.int(5, 1)?]);
    let dilation = dilated(network, node, dilation, stride == [1; 2] && o.choice(0)? != SAME)?;
    let window = window(node, live, kernel, stride, dilation, o.choice(0)?)?;
    let taps = height.saturating_mul(width);
    let by_tap = array.to_f32();
    if by_tap.len() != taps.saturating_mul(rows) {
        return Err(node.error(format!("has a filter of shape {:?}, whose first axis is not 1", array.shape)));
    }
    let values =
        (0..rows).flat_map(|o| (0..taps).map(move |t| (o, t))).map(|(o, t)| by_tap[t * rows + o]).collect();
    let groups = live.var.dims.last().copied().unwrap_or(1);
    let filter = Filter { rows, values, bias };
    let var = network.lowerer.conv(&node.name, live.var.clone(), Channels::Last, &filter, window, groups)?;
    Ok(live.with(var))
}

/// Filter `[out][rows][columns][in]`; input 0 is the shape of the output, input 2 the map.
pub fn transposed(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let array = network.constant(node, 1, "filter")?;
    let live = network.live(node, 2)?;
    let bias = bias(network, node, 3)?;
    let live = upsampled(network, node, &live, &array, bias)?;
    activated(network, node, Value::Live(live), node.op.options.choice(3)?)
}

/// [`transposed`] of a map and a filter, without its activation.
pub fn upsampled(
    network: &mut Network<'_>,
    node: &Node<'_>,
    live: &Live,
    array: &Array,
    bias: Option<Vec<f32>>,
) -> Result<Live> {
    let shape = network.ints(node, 0, "output shape")?;
    let ([rows, ..], kernel) = four(node, array)?;
    let o = &node.op.options;
    let stride = [o.int(2, 0)?, o.int(1, 0)?];
    // The padding is that of the convolution that goes from this output to this input.
    let sizes = match shape.as_slice() {
        [1, h, w, _] => usize::try_from(*h).ok().zip(usize::try_from(*w).ok()),
        _ => None,
    };
    let (h, w) = sizes
        .filter(|(h, w)| *h > 0 && *w > 0)
        .ok_or_else(|| node.error("has an impossible output shape"))?;
    let mut forward = live.clone();
    match forward.var.dims.as_mut_slice() {
        [fh, fw, _] => (*fh, *fw) = (h, w),
        _ => return Err(node.error("needs a map of one image")),
    }
    let window = window(node, &forward, kernel, stride, [1, 1], o.choice(0)?)?;
    let mut extra = [0; 2];
    for (axis, size) in [h, w].into_iter().enumerate() {
        let taken = (live.var.dims[axis] - 1).checked_mul(window.stride[axis]);
        let whole = taken.and_then(|t| t.checked_add(window.kernel[axis]));
        let cut = whole.and_then(|whole| whole.checked_sub(window.pad[axis] + window.pad[axis + 2]));
        extra[axis] = cut
            .and_then(|cut| size.checked_sub(cut))
            .filter(|extra| *extra < window.stride[axis])
            .ok_or_else(|| {
                node.error(format!("has an output shape {shape:?} that does not fit its input"))
            })?;
    }
    let filter = Filter { rows, values: array.to_f32(), bias };
    let lowerer = &mut network.lowerer;
    let var =
        lowerer.conv_transposed(&node.name, live.var.clone(), Channels::Last, &filter, window, 1, extra)?;
    Ok(live.with(var))
}

/// Weights `[out][in]`; all axes of the input but those that fill `in` are one.
pub fn dense(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = network.live(node, 0)?;
    let array = weights(network, node)?;
    let bias = bias(network, node, 2)?;
    let live = multiplied(network, node, live, &array, bias)?;
    activated(network, node, Value::Live(live), node.op.options.choice(0)?)
}

/// [`dense`] of a value and weights, without its activation.
pub fn multiplied(
    network: &mut Network<'_>,
    node: &Node<'_>,
    mut live: Live,
    array: &Array,
    bias: Option<Vec<f32>>,
) -> Result<Live> {
    let &[rows, cols] = array.shape.as_slice() else {
        return Err(node.error(format!("has weights of shape {:?}", array.shape)));
    };
    if node.op.options.choice(1)? != 0 {
        return Err(node.error("has shuffled weights; convert it again"));
    }
    let keep = node.op.options.flag(2)?;
    let elements: usize = live.var.dims.iter().product();
    if !keep || live.var.dims.is_empty() {
        let lines = elements.checked_div(cols).filter(|lines| lines * cols == elements && *lines > 0);
        let lines = lines.ok_or_else(|| node.error(format!("takes {cols} inputs, but gets {elements}")))?;
        // One line is the image; several are a first axis of their own.
        live.batch = lines == 1;
        let dims = if lines == 1 { vec![cols] } else { vec![lines, cols] };
        live.var = network.lowerer.reshaped(&node.name, live.var, dims)?;
    }
    let filter = Filter { rows, values: array.to_f32(), bias };
    let var = network.lowerer.dense(&node.name, live.var.clone(), &filter)?;
    Ok(live.with(var))
}

/// A value times a constant matrix `[in][out]`, or `[out][in]` where the options say so.
pub fn matmul(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = network.live(node, 0)?;
    let array = network.constant(node, 1, "matrix (attention multiplies two computed values)")?;
    let (transposed, turned) = (node.op.options.flag(0)?, node.op.options.flag(1)?);
    let wrong = || node.error(format!("multiplies by a constant of shape {:?}", array.shape));
    let [outer @ .., rows, cols] = array.shape.as_slice() else { return Err(wrong()) };
    if transposed || outer.iter().any(|d| *d != 1) {
        return Err(wrong());
    }
    let values = array.to_f32();
    let filter = match turned {
        true => Filter { rows: *rows, values, bias: None },
        false => {
            let places = (0..*cols).flat_map(|n| (0..*rows).map(move |k| k * cols + n));
            Filter { rows: *cols, values: places.map(|i| values[i]).collect(), bias: None }
        }
    };
    let var = network.lowerer.dense(&node.name, live.var.clone(), &filter)?;
    Ok(Value::Live(live.with(var)))
}

/// Maximum, or average of what is not padding.
pub fn pool(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = network.live(node, 0)?;
    let o = &node.op.options;
    let (stride, kernel) = ([o.int(2, 0)?, o.int(1, 0)?], [o.int(4, 0)?, o.int(3, 0)?]);
    let window = window(node, &live, kernel, stride, [1, 1], o.choice(0)?)?;
    let kind = if node.op.name == "MAX_POOL_2D" { PoolKind::Max } else { PoolKind::Average };
    let pool = Pool { kind, window: Some(window), count_pad: false };
    let var = network.lowerer.pool(&node.name, live.var.clone(), Channels::Last, pool)?;
    activated(network, node, Value::Live(live.with(var)), node.op.options.choice(5)?)
}

/// The axes that input 1 names, each once, and whether the result has a batch axis.
pub fn axes(
    network: &mut Network<'_>,
    node: &Node<'_>,
    live: &Live,
    keep: bool,
) -> Result<(Vec<usize>, bool)> {
    let (mut axes, mut batch) = (Vec::new(), live.batch);
    for axis in network.ints(node, 1, "axes")? {
        match live.axis(node, axis)? {
            Some(axis) if !axes.contains(&axis) => axes.push(axis),
            Some(_) => {}
            None => batch = keep,
        }
    }
    Ok((axes, batch))
}

/// The average, sum, largest or smallest over some axes.
pub fn reduce(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let mut live = network.live(node, 0)?;
    let keep = node.op.options.flag(0)?;
    let (axes, batch) = axes(network, node, &live, keep)?;
    live.batch = batch;
    let (lowerer, name, var) = (&mut network.lowerer, &node.name, live.var.clone());
    let elements: usize = axes.iter().map(|a| var.dims[*a]).product();
    let turned = node.op.name == "REDUCE_MIN";
    let var = match node.op.name.as_ref() {
        "REDUCE_MAX" | "REDUCE_MIN" => {
            let var = if turned { lowerer.unary(name, var, Unary::Mul(-1.0))? } else { var };
            let largest = lowerer.maximum(name, var, &axes, keep)?;
            if turned { lowerer.unary(name, largest, Unary::Mul(-1.0))? } else { largest }
        }
        "SUM" => {
            let mean = lowerer.mean(name, var, &axes, keep)?;
            lowerer.unary(name, mean, Unary::Mul(elements as f32))?
        }
        _ => lowerer.mean(name, var, &axes, keep)?,
    };
    Ok(Value::Live(live.with(var)))
}

/// `exp(beta x) / sum`, or its logarithm, over the last axis.
pub fn softmax(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let mut live = network.live(node, 0)?;
    let logarithm = node.op.name == "LOG_SOFTMAX";
    let beta = if logarithm { 1.0 } else { node.op.options.float(0, 0.0)? };
    if beta != 1.0 {
        live.var = network.lowerer.unary(&node.name, live.var, Unary::Mul(beta))?;
    }
    let Some(axis) = live.axis(node, -1)? else { return Err(node.error("works along the batch axis")) };
    let var = match logarithm {
        true => network.lowerer.log_softmax(&node.name, live.var.clone(), axis)?,
        false => network.lowerer.along(&node.name, live.var.clone(), axis, Op::Softmax, true)?,
    };
    Ok(Value::Live(live.with(var)))
}

/// Place of the first largest element.
pub fn argmax(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = network.live(node, 0)?;
    let axis = match network.ints(node, 1, "axis")?.as_slice() {
        [axis] => live.axis(node, *axis)?,
        _ => None,
    };
    let axis = axis.ok_or_else(|| node.error("works along the batch axis, or several"))?;
    let var = network.lowerer.along(&node.name, live.var.clone(), axis, Op::Argmax, false)?;
    Ok(Value::Live(Live { kind: Kind::Real, ..live.with(var) }))
}

/// Rows and columns of another number: input 1 is `[rows, columns]`.
pub fn resize(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = network.live(node, 0)?;
    let sizes = network.ints(node, 1, "size")?;
    let size: Option<Vec<usize>> = sizes.iter().map(|s| usize::try_from(*s).ok()).collect();
    let Some(&[h, w]) = size.as_deref() else {
        return Err(node.error(format!("has the impossible size {sizes:?}")));
    };
    let linear = node.op.name == "RESIZE_BILINEAR";
    let first = if linear { 2 } else { 0 };
    let (align, half) = (node.op.options.flag(first)?, node.op.options.flag(first + 1)?);
    let coordinates = match (align, half) {
        (true, _) => Coordinates::AlignCorners,
        (_, true) => Coordinates::HalfPixel,
        _ => Coordinates::Asymmetric,
    };
    let mode = match linear {
        true => ResizeMode::Linear,
        false if align || half => ResizeMode::NearestPreferCeil,
        false => ResizeMode::NearestFloor,
    };
    let resize = Resize { size: [h, w], mode, coordinates };
    let var = network.lowerer.resized(&node.name, live.var.clone(), Channels::Last, resize)?;
    Ok(Value::Live(live.with(var)))
}
