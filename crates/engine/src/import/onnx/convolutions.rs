//! Operators with windows and matrices: convolutions, pools, matrices, BatchNorm, averages.

use super::importer::{Walk, Wire};
use super::operators::Inputs;
use crate::error::Result;
use crate::import::array::Array;
use crate::import::build::BatchNorm;
use crate::import::lower::unary::Unary;
use crate::import::lower::{Channels, Filter, Pool, Var};
use onebit_core::ops::{Activation, Op, PoolKind, Window};

/// How an operator says what its window is.
struct Geometry {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Top, left, bottom, right.
    pad: [usize; 4],
    /// `SAME_UPPER` and the like: the padding follows from the map.
    auto: String,
}

impl Geometry {
    /// Reads the attributes of a node whose map has `axes` axes of pixels, 1 or 2.
    fn of(inputs: &Inputs<'_>, kernel: Option<&[usize]>, axes: usize) -> Result<Geometry> {
        let node = inputs.node;
        let sizes = |name: &str, default: usize, n: usize| -> Result<Vec<usize>> {
            let Some(given) = node.ints(name)? else { return Ok(vec![default; n]) };
            let sizes: Option<Vec<usize>> = given.iter().map(|v| usize::try_from(*v).ok()).collect();
            let fits = |s: &Vec<usize>| s.len() == n && s.iter().all(|v| *v <= 1 << 16);
            sizes.filter(fits).ok_or_else(|| {
                inputs
                    .error(format!("has {name} {given:?}, which is not supported for {axes} axes of pixels"))
            })
        };
        if !(1..=2).contains(&axes) {
            return Err(inputs.error(format!("has a window of {axes} axes; 1 and 2 are supported")));
        }
        // A window of one axis runs along columns.
        let pair = |v: &[usize], none: usize| if axes == 1 { [none, v[0]] } else { [v[0], v[1]] };
        let kernel = match kernel {
            Some(k) => k.to_vec(),
            None => sizes("kernel_shape", 1, axes)?,
        };
        let pads = sizes("pads", 0, 2 * axes)?;
        Ok(Geometry {
            kernel: pair(&kernel, 1),
            stride: pair(&sizes("strides", 1, axes)?, 1),
            dilation: pair(&sizes("dilations", 1, axes)?, 1),
            pad: if axes == 1 { [0, pads[0], 0, pads[1]] } else { [pads[0], pads[1], pads[2], pads[3]] },
            auto: node.text("auto_pad", "NOTSET")?.to_owned(),
        })
    }

    /// The window over a map of `size` pixels.
    fn window(mut self, inputs: &Inputs<'_>, size: [usize; 2]) -> Result<Window> {
        if self.stride.contains(&0) || self.dilation.contains(&0) || self.kernel.contains(&0) {
            return Err(inputs.error("has a kernel, stride or dilation of 0"));
        }
        if self.auto != "NOTSET" {
            self.pad = [0; 4];
        }
        for axis in 0..2 {
            let extent = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            let outputs = size[axis].div_ceil(self.stride[axis]).max(1);
            let total = ((outputs - 1) * self.stride[axis] + extent).saturating_sub(size[axis]);
            let (before, after) = match self.auto.as_str() {
                "NOTSET" | "VALID" => continue,
                "SAME_UPPER" => (total / 2, total - total / 2),
                "SAME_LOWER" => (total - total / 2, total / 2),
                other => return Err(inputs.error(format!("has the unknown auto_pad '{other}'"))),
            };
            (self.pad[axis], self.pad[axis + 2]) = (before, after);
        }
        let Geometry { kernel, stride, dilation, pad, .. } = self;
        Ok(Window { kernel, stride, dilation, pad })
    }
}

/// Rows and columns of a value with channels first.
fn pixels(x: &Var) -> [usize; 2] {
    match x.dims.as_slice() {
        [_, h, w] => [*h, *w],
        [_, w] => [1, *w],
        _ => [1, 1],
    }
}

impl Walk<'_> {
    pub(super) fn conv(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let x = inputs.var(0)?;
        let weight = inputs.weight(1)?;
        let [out, per_group, kernel @ ..] = weight.shape.as_slice() else {
            return Err(inputs.error("has a weight with too few axes"));
        };
        let window = Geometry::of(inputs, Some(kernel), kernel.len())?.window(inputs, pixels(&x))?;
        let groups = usize::try_from(inputs.node.int("group", 1)?).unwrap_or(0);
        let (values, taps) = (weight.to_f32(), window.taps());
        // (out, c, ky, kx) becomes (out, ky, kx, c).
        let mut rows = Vec::with_capacity(values.len());
        for filter in values.chunks_exact((taps * per_group).max(1)) {
            for tap in 0..taps {
                rows.extend((0..*per_group).map(|c| filter[c * taps + tap]));
            }
        }
        let bias = inputs.constant(2)?.map(|b| b.to_f32());
        let filter = Filter { rows: *out, values: rows, bias };
        self.lowerer.conv(inputs.node.label(), x, Channels::First, &filter, window, groups)
    }

    pub(super) fn conv_transpose(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let x = inputs.var(0)?;
        let weight = inputs.weight(1)?;
        let [c, per_group, kernel @ ..] = weight.shape.as_slice() else {
            return Err(inputs.error("has a weight with too few axes"));
        };
        let axes = kernel.len();
        let geometry = Geometry::of(inputs, Some(kernel), axes)?;
        let groups = usize::try_from(inputs.node.int("group", 1)?).ok().filter(|g| *g > 0 && c % g == 0);
        let groups = groups.ok_or_else(|| inputs.error("has groups that do not divide its channels"))?;
        if geometry.auto != "NOTSET" || inputs.node.has("output_shape") {
            return Err(inputs.error("has auto_pad or output_shape; give explicit pads instead"));
        }
        let extra = inputs.node.ints("output_padding")?.unwrap_or(&[]);
        let extra: Vec<usize> = extra.iter().map(|v| usize::try_from(*v).unwrap_or(usize::MAX)).collect();
        let extra = match extra.as_slice() {
            [] => [0, 0],
            [w] if axes == 1 => [0, *w],
            [h, w] => [*h, *w],
            _ => return Err(inputs.error("has an output_padding of the wrong length")),
        };
        if extra.iter().any(|e| *e > 1 << 16) {
            return Err(inputs.error("has an impossible output_padding"));
        }
        let (values, taps, cg) = (weight.to_f32(), kernel.iter().product::<usize>(), c / groups);
        // (c, out of a group, ky, kx) becomes (out, ky, kx, c of a group).
        let mut rows = Vec::with_capacity(values.len());
        for n in 0..per_group * groups {
            let (g, i) = (n / per_group, n % per_group);
            for tap in 0..taps {
                rows.extend((0..cg).map(|k| values[((g * cg + k) * per_group + i) * taps + tap]));
            }
        }
        let bias = inputs.constant(2)?.map(|b| b.to_f32());
        let filter = Filter { rows: per_group * groups, values: rows, bias };
        let window = geometry.window(inputs, pixels(&x))?;
        let name = inputs.node.label();
        self.lowerer.conv_transposed(name, x, Channels::First, &filter, window, groups, extra)
    }

    /// `alpha * x * B + beta * C`.
    pub(super) fn gemm(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let node = inputs.node;
        if node.int("transA", 0)? != 0 {
            return Err(inputs.error("transposes its input, which is not supported"));
        }
        let alpha = node.float("alpha", 1.0)?;
        let mut matrix = self.matrix(inputs, node.int("transB", 0)? != 0)?;
        if alpha != 1.0 {
            matrix.values.iter_mut().for_each(|v| *v *= alpha);
        }
        let (name, x) = (node.label(), inputs.var(0)?);
        let beta = node.float("beta", 1.0)?;
        match inputs.constant(2)? {
            Some(c) if c.len() == matrix.rows => {
                matrix.bias = Some(c.to_f32().iter().map(|v| v * beta).collect());
            }
            Some(c) if c.len() == 1 => matrix.bias = Some(vec![c.to_f32()[0] * beta; matrix.rows]),
            Some(_) => return Err(inputs.error("has a bias of the wrong length")),
            None => {}
        }
        self.lowerer.dense(name, x, &matrix)
    }

    /// A value times a constant matrix.
    pub(super) fn matmul(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let x = match (inputs.get(0), inputs.get(1)) {
            (Some(Wire::Var(v)), Some(Wire::Constant(_))) => v.clone(),
            (Some(Wire::Constant(a)), Some(Wire::Var(x))) => {
                return self.matmul_from_left(inputs, a, x.clone());
            }
            _ => {
                return Err(
                    inputs.error("multiplies two computed values (attention?), which is not supported")
                );
            }
        };
        let matrix = self.matrix(inputs, false)?;
        self.lowerer.dense(inputs.node.label(), x, &matrix)
    }

    /// A constant matrix times a value: the same for each of its columns.
    fn matmul_from_left(&mut self, inputs: &Inputs<'_>, a: &Array, x: Var) -> Result<Var> {
        let n = x.dims.len();
        let [outer @ .., rows, _] = a.shape.as_slice() else {
            return Err(inputs.error("has a matrix with fewer than two axes"));
        };
        if n < 2 || outer.iter().any(|d| *d != 1) {
            return Err(inputs.error("multiplies along the batch axis, which is not supported"));
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.swap(n - 2, n - 1);
        let x = self.lowerer.transposed(x, &order);
        let filter = Filter { rows: *rows, values: a.to_f32(), bias: None };
        let product = self.lowerer.dense(inputs.node.label(), x, &filter)?;
        Ok(self.lowerer.transposed(product, &order))
    }

    /// Input 1 as rows for each output: it is `[inputs, outputs]`, or `[outputs, inputs]` if transposed.
    fn matrix(&self, inputs: &Inputs<'_>, transposed: bool) -> Result<Filter> {
        let b = inputs.weight(1)?;
        let lead = b.shape.len().saturating_sub(2);
        let (outer, [rows, cols]) = b.shape.split_at(lead) else {
            return Err(inputs.error("has a matrix with fewer than two axes"));
        };
        if outer.iter().any(|d| *d != 1) {
            return Err(inputs.error("has a different matrix for each element, which is not supported"));
        }
        let values = b.to_f32();
        if transposed {
            return Ok(Filter { rows: *rows, values, bias: None });
        }
        let transposed = (0..*cols).flat_map(|n| (0..*rows).map(move |k| (k, n)));
        let values = transposed.map(|(k, n)| values[k * cols + n]).collect();
        Ok(Filter { rows: *cols, values, bias: None })
    }

    pub(super) fn batch_norm(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, x) = (inputs.node, inputs.var(0)?);
        if node.int("training_mode", 0)? != 0 {
            return Err(inputs.error("is in training mode; export the network in evaluation mode"));
        }
        let floats = |i: usize| -> Result<Vec<f32>> { Ok(inputs.weight(i)?.to_f32()) };
        let norm = BatchNorm {
            gamma: Some(floats(1)?),
            beta: floats(2)?,
            mean: floats(3)?,
            variance: floats(4)?,
            eps: f64::from(node.float("epsilon", 1e-5)?),
        };
        let params = norm.affine(node.label())?;
        let Some(channels) = x.dims.first().copied() else {
            return Err(inputs.error("normalises a value without channels"));
        };
        // One value for each channel, the first axis after the batch.
        let array = |t: &Option<onebit_core::model::Tensor<'_>>| {
            let values = t.as_ref().map_or_else(Vec::new, |t| t.to_f32());
            let mut shape = vec![1; x.dims.len()];
            shape[0] = channels;
            Array::new(shape, crate::import::array::Elements::F32(values)).map_err(|e| inputs.error(e))
        };
        let constants = [array(&params.center)?, array(&params.scale)?, array(&params.bias)?];
        self.lowerer.normalized(node.label(), x, &constants)
    }

    pub(super) fn pool(&mut self, inputs: &Inputs<'_>, channels: Channels) -> Result<Var> {
        let (node, x) = (inputs.node, inputs.var(0)?);
        let kind = if node.op.starts_with("MaxPool") { PoolKind::Max } else { PoolKind::Average };
        let axes = x.dims.len().saturating_sub(1);
        let size = match (channels, x.dims.as_slice()) {
            (Channels::Last, [h, w, _]) => [*h, *w],
            _ => pixels(&x),
        };
        let mut window = Geometry::of(inputs, None, axes)?.window(inputs, size)?;
        let count_pad = node.int("count_include_pad", 0)? != 0;
        if node.int("ceil_mode", 0)? != 0 {
            // One more window where the last does not reach the end, unless it would start in the padding.
            for (axis, size) in size.into_iter().enumerate() {
                let extent = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
                let padded = size + window.pad[axis] + window.pad[axis + 2];
                let Some(free) = padded.checked_sub(extent) else { continue };
                let windows = free.div_ceil(window.stride[axis]);
                let starts_inside = windows * window.stride[axis] < size + window.pad[axis];
                let longer = windows * window.stride[axis] + extent;
                if starts_inside && longer > padded {
                    if kind == PoolKind::Average && count_pad {
                        return Err(
                            inputs.error("averages over padding in ceil_mode, which is not supported")
                        );
                    }
                    window.pad[axis + 2] += longer - padded;
                }
            }
        }
        let pool = Pool { kind, window: Some(window), count_pad };
        self.lowerer.pool(node.label(), x, channels, pool)
    }

    pub(super) fn global_pool(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let max = inputs.node.op == "GlobalMaxPool";
        let kind = if max { PoolKind::Max } else { PoolKind::Average };
        let x = inputs.var(0)?;
        self.lowerer.pool(
            inputs.node.label(),
            x,
            Channels::First,
            Pool { kind, window: None, count_pad: false },
        )
    }

    pub(super) fn reduce(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, mut x) = (inputs.node, inputs.var(0)?);
        let (name, rank) = (node.label(), x.dims.len());
        let keep = node.int("keepdims", 1)? != 0;
        let axes = match inputs.ints(1, "axes")? {
            Some(axes) if !axes.is_empty() => axes,
            _ if node.int("noop_with_empty_axes", 0)? != 0 => return Ok(x),
            _ => (1..=rank as i64).collect(),
        };
        let axes: Vec<usize> = axes.iter().map(|a| inputs.axis(*a, rank)).collect::<Result<_>>()?;
        match node.op {
            "ReduceL1" => x = self.lowerer.unary(name, x, Unary::Abs)?,
            "ReduceL2" | "ReduceSumSquare" => x = self.lowerer.unary(name, x, Unary::Pow(2.0))?,
            _ => {}
        }
        match node.op {
            "ReduceMean" => self.lowerer.mean(name, x, &axes, keep),
            "ReduceSum" | "ReduceL1" | "ReduceSumSquare" => self.lowerer.sum(name, x, &axes, keep),
            "ReduceL2" => {
                let sum = self.lowerer.sum(name, x, &axes, keep)?;
                self.lowerer.unary(name, sum, Unary::Activation(Activation::Sqrt))
            }
            "ReduceLogSumExp" => self.lowerer.log_sum_exp(name, x, &axes, keep),
            _ => {
                let turned = node.op == "ReduceMin";
                if turned {
                    x = self.lowerer.unary(name, x, Unary::Mul(-1.0))?;
                }
                let x = self.lowerer.maximum(name, x, &axes, keep)?;
                if turned { self.lowerer.unary(name, x, Unary::Mul(-1.0)) } else { Ok(x) }
            }
        }
    }

    pub(super) fn softmax(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, x) = (inputs.node, inputs.var(0)?);
        let name = node.label();
        let default = if self.opset < 13 { 1 } else { -1 };
        let axis = inputs.axis(node.int("axis", default)?, x.dims.len())?;
        let dims = x.dims.clone();
        // Before version 13 all axes from this one on count together.
        let joined = self.opset < 13 && dims[axis + 1..].iter().any(|d| *d > 1);
        let x = match joined {
            true => {
                let n = dims[axis..].iter().product();
                self.lowerer.reshaped(name, x, dims[..axis].iter().copied().chain([n]).collect())?
            }
            false => x,
        };
        let y = match node.op {
            "LogSoftmax" => self.lowerer.log_softmax(name, x, axis)?,
            _ => self.lowerer.along(name, x, axis, Op::Softmax, true)?,
        };
        if joined { self.lowerer.reshaped(name, y, dims) } else { Ok(y) }
    }
}
