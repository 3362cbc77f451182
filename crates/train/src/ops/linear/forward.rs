//! The forward pass, on the engine's kernels.

use super::LinearOp;
use crate::layer::Weights;
use crate::weights::{quantize_weights, real_weights};
use onebit::core::bits;
use onebit::core::kernels::{self, Aligned};
use onebit::core::model::{Data, Params, Tensor};
use onebit::core::ops::{BConv2d, Conv2d, Window, bconv2d, conv2d};
use onebit::core::types::{DType, Encoding, Quant, Shape, ValueType};
use rayon::prelude::*;
use std::borrow::Cow;

/// A prepared kernel.
// One for each pass: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
enum Kernel {
    Integer(bconv2d::Prepared),
    Float(conv2d::Prepared),
}

/// A layer as the kernels see it: a dense layer is a 1x1 convolution of a picture whose pixels are the pictures of a task.
struct View {
    window: Window,
    input: Shape,
    output: Shape,
    /// Numbers of the input and the output of one call.
    call: [usize; 2],
}

fn view(op: &LinearOp) -> View {
    let (window, input, output) = if op.is_dense() {
        let rows = op.rows();
        let (k, n) = (op.input.elements(), op.output.c);
        (Window::square(1, 1, 0), Shape::new(1, rows, k), Shape::new(1, rows, n))
    } else {
        (op.linear.window, op.input, op.output)
    };
    View { window, input, output, call: [input.elements(), output.elements()] }
}

/// `y` of [`LinearOp`].
pub fn forward(op: &LinearOp, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let view = view(op);
    let (rows, taps) = (op.output.c, op.taps());
    let bias = bias.map(|b| Tensor::f32(b.to_vec()));
    let kernels = kernels::best();
    let (kernel, dtype) = match (op.levels, op.linear.weights.quant()) {
        (Some((quant, scale)), Some(wq)) => {
            let dtype =
                if quant == Quant::new(8, Encoding::Unsigned) { DType::U8 } else { DType::Bits(quant) };
            let (weight, scales) = packed(op.linear.weights, wq, w, rows);
            let scale = Tensor::f32(scales.iter().map(|s| scale * s).collect());
            let params = Params { weight: Some(weight), scale: Some(scale), bias, ..Params::default() };
            let conv = BConv2d {
                window: view.window,
                groups: op.linear.groups,
                pad_value: op.linear.pad_value.into(),
                output: DType::F32,
            };
            let [x, y] = [ValueType::new(view.input, dtype), ValueType::new(view.output, DType::F32)];
            (Kernel::Integer(bconv2d::Prepared::new(conv, x, y, &params, kernels)), dtype)
        }
        _ => {
            let weight = Some(Tensor::f32_matrix(rows, taps, real_weights(op.linear.weights, w, rows)));
            let conv = Conv2d { window: view.window, groups: op.linear.groups, pad_value: op.pad_value() };
            let [x, y] = [view.input, view.output].map(|s| ValueType::new(s, DType::F32));
            let params = Params { weight, bias, ..Params::default() };
            (Kernel::Float(conv2d::Prepared::new(conv, x, y, &params, kernels)), DType::F32)
        }
    };
    let mut y = vec![0.0; op.batch * op.output.elements()];
    let scratch_words = match &kernel {
        Kernel::Integer(k) => k.scratch_words(),
        Kernel::Float(k) => k.scratch_words(),
    };
    let [xs, ys] = view.call;
    let x_words = ValueType::new(view.input, dtype).arena_words();
    let task = if op.is_dense() { 1 } else { op.task() };
    y.par_chunks_mut(ys * task).zip(x.par_chunks(xs * task)).for_each(|(y, x)| {
        let words = |n| Aligned::zeroed(n);
        let (mut input, mut output, mut scratch) =
            (words(x_words), words(ys.div_ceil(2)), words(scratch_words));
        for (y, x) in y.chunks_mut(ys).zip(x.chunks(xs)) {
            pack(x, op.levels, dtype, view.input.c, &mut input);
            match &kernel {
                Kernel::Integer(k) => k.run(1, &input, &mut output, &mut scratch),
                Kernel::Float(k) => k.run(1, &input, &mut output, &mut scratch),
            }
            y.copy_from_slice(&output.as_f32()[..y.len()]);
        }
    });
    y
}

/// Latent weights as the kernels take them, and the scale of each filter.
fn packed(weights: Weights, quant: Quant, w: &[f32], rows: usize) -> (Tensor<'static>, Vec<f32>) {
    let cols = w.len() / rows;
    if let Weights::Sign(_) = weights {
        // The usual case, without integers in between.
        let words = bits::words(cols);
        let mut all = vec![0u64; rows * words];
        let filters = all.par_chunks_exact_mut(words).zip(w.par_chunks_exact(cols));
        filters.for_each(|(row, filter)| bits::pack_signs(filter, row));
        return (Tensor { rows, cols, data: Data::Bits(quant, Cow::Owned(all)) }, vec![1.0; rows]);
    }
    let (ints, scales) = quantize_weights(weights, w, rows).expect("has integers");
    (Tensor::bits(rows, cols, quant, |r, c| ints[r * cols + c]), scales)
}

/// Writes numbers in the format of the kernels: pixels of `c` channels each. What `x` lacks of a last task stays as it is.
fn pack(x: &[f32], levels: Option<(Quant, f32)>, dtype: DType, c: usize, out: &mut Aligned) {
    match dtype {
        DType::F32 => out.as_f32_mut()[..x.len()].copy_from_slice(x),
        DType::U8 => {
            let scale = levels.map_or(1.0, |(_, scale)| scale);
            let byte = |v: f32| (v / scale).round_ties_even() as u8;
            let bytes = x
                .chunks(8)
                .map(|x| x.iter().enumerate().fold(0u64, |w, (i, v)| w | u64::from(byte(*v)) << (8 * i)));
            out.iter_mut().zip(bytes).for_each(|(word, bytes)| *word = bytes);
        }
        DType::Bits(quant) if quant.is_bit() => {
            for (row, x) in out.chunks_exact_mut(bits::words(c)).zip(x.chunks(c)) {
                bits::pack_signs(x, row);
            }
        }
        DType::Bits(quant) => {
            let (words, planes) = (bits::words(c), quant.planes());
            let scale = levels.map_or(1.0, |(_, scale)| scale);
            let code = |v: f32| quant.encode((v / scale).round_ties_even() as i32).unwrap_or(0) as u8;
            for (pixel, x) in out.chunks_exact_mut(words * planes).zip(x.chunks(c)) {
                for (w, x) in x.chunks(64).enumerate() {
                    let mut codes = [0; 64];
                    codes.iter_mut().zip(x).for_each(|(code_of, v)| *code_of = code(*v));
                    for plane in 0..planes {
                        pixel[plane * words + w] = bits::gather(&codes, plane);
                    }
                }
            }
        }
        DType::I8 | DType::I32 => unreachable!("no layer reads {dtype}"),
    }
}
