//! Arrays of users and the network's inputs and outputs: batch axis and axis order.
//!
//! Inside, everything is NHWC. A user's array has the axis order of the framework that the network came
//! from, its first axis is the batch.

use onebit::core::types::Shape;
use onebit::data::npy::Array;
use onebit::meta::Layout;

/// How a user's array is to be read.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    samples: usize,
    order: Layout,
}

/// Network inputs of shape `shape` from an array, `[sample][h][w][c]`. Accepted are a batch and a single
/// sample, in axis order `layout`, in the other order if only that fits, or flat. Axes of length 1 may be left out.
///
/// # Errors
/// Says which shapes would fit.
pub fn inputs(array: Array, shape: Shape, layout: Layout) -> Result<Vec<f32>, String> {
    samples(array, shape, layout, "takes")
}

/// As [`inputs`], of what the network takes or puts out: `does` says which.
///
/// # Errors
/// Says which shapes would fit.
pub fn samples(array: Array, shape: Shape, layout: Layout, does: &str) -> Result<Vec<f32>, String> {
    let Some(reading) = read(&array.shape, shape, layout) else {
        return Err(format!(
            "has shape {}, but the network {does} {}{}",
            list(&array.shape, None),
            list(&axes(shape, layout), Some("batch")),
            if shape.pixels() > 1 { format!(" ({})", name(layout)) } else { String::new() },
        ));
    };
    if reading.samples == 0 {
        return Err("contains no samples".into());
    }
    Ok(match reading.order {
        Layout::Nchw => transpose(&array.values, shape.c, shape.pixels()),
        Layout::Nhwc => array.values,
    })
}

/// Shape of an array of outputs for the user: vectors are 2-D, maps 4-D.
pub fn output_shape(samples: usize, shape: Shape, layout: Layout) -> Vec<usize> {
    let mut all = vec![samples];
    all.extend(axes(shape, layout));
    all
}

/// Outputs `[sample][h][w][c]` in the axis order of the user.
pub fn outputs(values: Vec<f32>, shape: Shape, layout: Layout) -> Vec<f32> {
    match layout {
        Layout::Nchw => transpose(&values, shape.pixels(), shape.c),
        Layout::Nhwc => values,
    }
}

fn read(array: &[usize], shape: Shape, layout: Layout) -> Option<Reading> {
    let sample = |axes: &[usize]| order(axes, shape, layout);
    let batch = array.split_first().and_then(|(&n, rest)| Some(Reading { samples: n, order: sample(rest)? }));
    batch.or_else(|| Some(Reading { samples: 1, order: sample(array)? }))
}

/// Axis order of one sample with these axes.
fn order(sample: &[usize], shape: Shape, layout: Layout) -> Option<Layout> {
    let other = match layout {
        Layout::Nhwc => Layout::Nchw,
        Layout::Nchw => Layout::Nhwc,
    };
    let Shape { h, w, c } = shape;
    let elements = sample.iter().try_fold(1usize, |n, s| n.checked_mul(*s))?;
    if elements != shape.elements() {
        None
    } else if shape.pixels() == 1 || (c == 1 && sample == [h, w]) {
        // The axes of a vector do not matter, and one channel is the same in both orders.
        Some(Layout::Nhwc)
    } else if same(sample, &full(shape, layout)) || sample == [shape.elements()] {
        Some(layout)
    } else if same(sample, &full(shape, other)) {
        Some(other)
    } else {
        None
    }
}

/// Whether two lists of axes are the same but for those of length 1.
fn same(a: &[usize], b: &[usize]) -> bool {
    let long = |axes: &[usize]| axes.iter().copied().filter(|d| *d != 1).collect::<Vec<_>>();
    long(a) == long(b)
}

fn full(shape: Shape, layout: Layout) -> [usize; 3] {
    match layout {
        Layout::Nhwc => [shape.h, shape.w, shape.c],
        Layout::Nchw => [shape.c, shape.h, shape.w],
    }
}

/// Axes of one sample: one for a vector, three for a map.
fn axes(shape: Shape, layout: Layout) -> Vec<usize> {
    if shape.pixels() == 1 { vec![shape.c] } else { full(shape, layout).to_vec() }
}

fn name(layout: Layout) -> &'static str {
    match layout {
        Layout::Nhwc => "NHWC",
        Layout::Nchw => "NCHW",
    }
}

fn list(shape: &[usize], first: Option<&str>) -> String {
    let all = first.map(str::to_owned).into_iter().chain(shape.iter().map(usize::to_string));
    format!("[{}]", all.collect::<Vec<_>>().join(", "))
}

/// `[n][rows][cols]` to `[n][cols][rows]`.
fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for sample in values.chunks_exact(rows * cols) {
        for c in 0..cols {
            out.extend((0..rows).map(|r| sample[r * cols + c]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(array: &[usize], shape: [usize; 3], layout: Layout) -> Option<(usize, Layout)> {
        read(array, Shape::from(shape), layout).map(|r| (r.samples, r.order))
    }

    #[test]
    fn batches_samples_and_orders() {
        use Layout::{Nchw, Nhwc};
        let rgb = [4, 5, 3];
        assert_eq!(reading(&[7, 3, 4, 5], rgb, Nchw), Some((7, Nchw)));
        assert_eq!(reading(&[7, 4, 5, 3], rgb, Nchw), Some((7, Nhwc)));
        assert_eq!(reading(&[7, 3, 4, 5], rgb, Nhwc), Some((7, Nchw)));
        let signal = [1, 101, 40];
        assert_eq!(reading(&[7, 40, 101], signal, Nchw), Some((7, Nchw)));
        assert_eq!(reading(&[7, 101, 40], signal, Nchw), Some((7, Nhwc)));
        assert_eq!(reading(&[40, 101], signal, Nchw), Some((1, Nchw)));
        assert_eq!(reading(&[4, 5, 3], rgb, Nhwc), Some((1, Nhwc)));
        assert_eq!(reading(&[3, 4, 5], rgb, Nhwc), Some((1, Nchw)));
        assert_eq!(reading(&[7, 60], rgb, Nchw), Some((7, Nchw)));
        assert_eq!(reading(&[60], rgb, Nchw), Some((1, Nchw)));
        assert_eq!(reading(&[0, 3, 4, 5], rgb, Nchw), Some((0, Nchw)));
        for wrong in [&[7, 5, 4, 3][..], &[7, 3, 20], &[4, 5], &[], &[2, 7, 3, 4, 5], &[7, 61]] {
            assert_eq!(reading(wrong, rgb, Nchw), None, "{wrong:?}");
        }
        // Where both orders fit, the source's order counts.
        assert_eq!(reading(&[2, 3, 3, 3], [3, 3, 3], Nchw), Some((2, Nchw)));
        assert_eq!(reading(&[2, 3, 3, 3], [3, 3, 3], Nhwc), Some((2, Nhwc)));
        let grey = [28, 28, 1];
        assert_eq!(reading(&[28, 28], grey, Nchw), Some((1, Nhwc)));
        assert_eq!(reading(&[9, 28, 28], grey, Nchw), Some((9, Nhwc)));
        assert_eq!(reading(&[9, 1, 28, 28], grey, Nchw), Some((9, Nchw)));
        // One row of pixels is a sequence.
        assert_eq!(reading(&[7, 2, 32], [1, 32, 2], Nchw), Some((7, Nchw)));
        assert_eq!(reading(&[7, 32, 2], [1, 32, 2], Nchw), Some((7, Nhwc)));
        let vector = [1, 1, 784];
        assert_eq!(reading(&[9, 784], vector, Nchw), Some((9, Nhwc)));
        assert_eq!(reading(&[784], vector, Nchw), Some((1, Nhwc)));
        assert_eq!(reading(&[9, 1, 28, 28], vector, Nchw), Some((9, Nhwc)));
        assert_eq!(reading(&[9, 783], vector, Nchw), None);
    }

    #[test]
    fn orders_are_converted_there_and_back() {
        let shape = Shape::new(2, 1, 3);
        let chw = vec![0.0, 10.0, 1.0, 11.0, 2.0, 12.0];
        let array = Array { shape: vec![1, 3, 2, 1], values: chw.clone() };
        let hwc = inputs(array, shape, Layout::Nchw).unwrap();
        assert_eq!(hwc, [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
        assert_eq!(outputs(hwc, shape, Layout::Nchw), chw);
        assert_eq!(output_shape(4, shape, Layout::Nchw), [4, 3, 2, 1]);
        assert_eq!(output_shape(4, Shape::vector(10), Layout::Nchw), [4, 10]);
        let array = Array { shape: vec![2, 5], values: vec![0.0; 10] };
        assert_eq!(
            inputs(array, shape, Layout::Nchw).unwrap_err(),
            "has shape [2, 5], but the network takes [batch, 3, 2, 1] (NCHW)"
        );
    }
}
