//! What importers share: weights, BatchNorm, the order of axes, preprocessing and classes.

use super::{Classes, ImportOptions};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::meta::{Layout, Preprocessing};
use onebit_core::model::{Data, MAX_ELEMENTS, Params, Tensor};
use onebit_core::ops::Op;
use onebit_core::types::{Quant, Shape};
use std::path::Path;

/// A matrix of +1 and -1.
pub fn signs(rows: usize, cols: usize, positive: impl Fn(usize, usize) -> bool) -> Tensor<'static> {
    Tensor::bits(rows, cols, Quant::BIT, |r, c| if positive(r, c) { 1 } else { -1 })
}

/// For every element of an `(h, w, c)` map in that order, its place in `(c, h, w)` order.
///
/// It reorders filters and the columns of dense layers that read a flattened map.
pub fn chw_of_hwc(shape: Shape) -> Vec<usize> {
    let Shape { h, w, c } = shape;
    (0..h * w * c).map(|i| (i % c) * h * w + i / c).collect()
}

/// The values in another order: element `i` is `values[order[i]]`.
pub fn reordered<T: Copy>(values: &[T], order: &[usize]) -> Vec<T> {
    order.iter().map(|i| values[*i]).collect()
}

/// Running statistics and parameters of a BatchNorm, one value per channel.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// `None` is 1 everywhere.
    pub gamma: Option<Vec<f32>>,
    /// Added last.
    pub beta: Vec<f32>,
    /// Running mean.
    pub mean: Vec<f32>,
    /// Running variance.
    pub variance: Vec<f32>,
    /// Added to the variance.
    pub eps: f64,
}

impl BatchNorm {
    /// The same for channels in another order.
    #[must_use]
    pub fn reordered(&self, order: &[usize]) -> Self {
        BatchNorm {
            gamma: self.gamma.as_ref().map(|g| reordered(g, order)),
            beta: reordered(&self.beta, order),
            mean: reordered(&self.mean, order),
            variance: reordered(&self.variance, order),
            eps: self.eps,
        }
    }

    /// The constants of the [`Op::Affine`] that computes it; the scale is computed in f64, then rounded.
    ///
    /// # Errors
    /// Names the layer when lengths differ or a variance cannot be divided by.
    pub fn affine(self, layer: &str) -> Result<Params<Tensor<'static>>> {
        let n = self.mean.len();
        let lengths = [self.beta.len(), self.variance.len(), self.gamma.as_ref().map_or(n, Vec::len)];
        if lengths.iter().any(|l| *l != n) {
            return Err(Error::layer(
                layer,
                format!("its BatchNorm constants differ in length: {n}, {lengths:?}"),
            ));
        }
        let mut scale = Vec::with_capacity(n);
        for (c, v) in self.variance.iter().enumerate() {
            let sum = f64::from(*v) + self.eps;
            let s = self.gamma.as_ref().map_or(1.0, |g| f64::from(g[c])) / sum.sqrt();
            if !(sum > 0.0 && (s as f32).is_finite()) {
                let text = format!("its BatchNorm cannot divide by the variance {v} of channel {c}");
                return Err(Error::layer(layer, text));
            }
            scale.push(s as f32);
        }
        Ok(Params {
            center: Some(Tensor::f32(self.mean)),
            scale: Some(Tensor::f32(scale)),
            bias: Some(Tensor::f32(self.beta)),
            ..Params::default()
        })
    }
}

/// The preprocessing that the options ask for, for a float input of `shape`; notes what was assumed.
///
/// # Errors
/// When mean or std have the wrong length or a value that cannot be used.
pub fn preprocessing(
    options: &ImportOptions,
    shape: Shape,
    layout: Layout,
    notes: &mut Vec<String>,
) -> Result<Preprocessing> {
    for (what, values) in [("mean", &options.mean), ("std", &options.std)] {
        if values.len() > 1 && values.len() != shape.c {
            return Err(Error::Input(format!(
                "{what} has {} values, but the input has {} channels: give one value, or one for each channel",
                values.len(),
                shape.c
            )));
        }
        if values.iter().any(|v| !v.is_finite() || (what == "std" && *v == 0.0)) {
            return Err(Error::Input(format!("{what} has a value that cannot be used: {values:?}")));
        }
    }
    match (options.mean.is_empty(), options.std.is_empty()) {
        (true, true) => notes.push(
            "The source does not say how pixels are normalised: they are used as they are, 0 to 255; \
             --mean and --std say otherwise."
                .into(),
        ),
        (true, false) => {
            notes.push("The source does not say which mean is subtracted from pixels: 0.".into())
        }
        (false, true) => notes.push("The source does not say what pixels are divided by (std): 1.".into()),
        (false, false) => {}
    }
    Ok(Preprocessing {
        layout,
        mean: options.mean.clone(),
        std: options.std.clone(),
        resize: resize(options, shape),
    })
}

/// Short side to which pictures are scaled: what the user says, else 256 for inputs of 224, else 0.
pub fn resize(options: &ImportOptions, shape: Shape) -> usize {
    options.resize.unwrap_or(if (shape.h, shape.w) == (224, 224) { 256 } else { 0 })
}

/// The size of the input that the user gives, if any.
///
/// # Errors
/// When it is empty or larger than a tensor may be.
pub fn input_shape(options: &ImportOptions) -> Result<Option<Shape>> {
    let Some([h, w, c]) = options.input else { return Ok(None) };
    let shape = Shape::new(h, w, c);
    match shape.checked_elements() {
        Some(1..=MAX_ELEMENTS) => Ok(Some(shape)),
        _ => Err(Error::Input(format!("an input of {h} x {w} x {c} is empty or too large"))),
    }
}

/// The picture that the `n` inputs of a dense layer most likely are; notes what was assumed.
pub fn picture(n: usize, notes: &mut Vec<String>) -> Shape {
    let side = |n: usize| Some(n.isqrt()).filter(|s| s * s == n && *s > 1);
    let shape = match (side(n), side(n / 3).filter(|_| n.is_multiple_of(3))) {
        (Some(s), _) => Shape::new(s, s, 1),
        (None, Some(s)) => Shape::new(s, s, 3),
        (None, None) => return Shape::vector(n),
    };
    notes.push(format!(
        "The source does not say what its {n} inputs are: a picture of {shape} was assumed (--input says it)."
    ));
    shape
}

/// Name of the network: what the user says, else `stem`.
pub fn name(options: &ImportOptions, stem: &str) -> String {
    options.name.clone().unwrap_or_else(|| stem.to_owned())
}

/// Last part of a path as text.
pub fn file_name(path: &Path) -> String {
    let full = path.file_name().map(|n| n.to_string_lossy().into_owned());
    full.or_else(|| std::path::absolute(path).ok()?.file_name().map(|n| n.to_string_lossy().into_owned()))
        .unwrap_or_else(|| path.display().to_string())
}

/// Keeps the outputs that the options call classes, and names them.
///
/// # Errors
/// When there are fewer outputs, or outputs cannot be taken away because the last layer is no matrix.
pub fn choose_classes(graph: &mut Graph, options: &ImportOptions) -> Result<()> {
    let wanted = match &options.classes {
        Classes::FromSource => return Ok(()),
        Classes::First(n) => *n,
        Classes::Named(names) => names.len(),
    };
    let outputs = graph.ty(graph.output).shape;
    check_class_count(wanted, outputs.c)?;
    if wanted < outputs.c {
        keep_outputs(graph, wanted)?;
    }
    match &options.classes {
        Classes::Named(names) => graph.meta.classes = names.clone(),
        _ => graph.meta.classes.truncate(wanted),
    }
    Ok(())
}

/// Checks a number of classes against the number of outputs.
///
/// # Errors
/// When there are no classes or fewer outputs.
pub fn check_class_count(classes: usize, outputs: usize) -> Result<()> {
    if classes == 0 || classes > outputs {
        return Err(Error::Input(format!(
            "the network has {outputs} outputs, so it cannot have {classes} classes"
        )));
    }
    Ok(())
}

/// Takes away all but the first `n` output channels: rows of the last matrix, and the constants after it.
fn keep_outputs(graph: &mut Graph, n: usize) -> Result<()> {
    let mut value = graph.output;
    loop {
        let only_reader = graph.uses()[value] == 1;
        let Some(node) = value.checked_sub(1).and_then(|i| graph.nodes.get_mut(i)).filter(|_| only_reader)
        else {
            return Err(Error::Model("the outputs of this network cannot be cut down to classes".into()));
        };
        let matrix = matches!(node.op, Op::Dense | Op::BDense(_) | Op::Conv2d(_) | Op::BConv2d(_));
        let grouped = match &node.op {
            Op::Conv2d(c) => c.groups > 1,
            Op::BConv2d(c) => c.groups > 1,
            _ => false,
        };
        let per_channel = matches!(
            node.op,
            Op::Affine | Op::Prelu | Op::Activation(_) | Op::Softmax | Op::Pad(_) | Op::Resize(_)
        );
        if grouped || !(matrix || per_channel) {
            let text = "follows the outputs, which can therefore not be cut down to classes";
            return Err(Error::layer(&node.name, text));
        }
        for role in Params::<()>::ROLES {
            let slot = node.params.slot(role).expect("all roles have a slot");
            if let Some(t) = slot.take() {
                let by_row = matches!(role, "weight" | "thresholds");
                *slot = Some(if by_row { first_rows(t, n) } else { first_cols(t, n) });
            }
        }
        value = node.inputs[0];
        if matrix {
            return graph.normalize().map(|_| ());
        }
    }
}

fn first_rows(t: Tensor<'static>, n: usize) -> Tensor<'static> {
    let cut = |len: usize| len / t.rows * n;
    let data = match &t.data {
        Data::F32(v) => Data::F32(v[..cut(v.len())].to_vec().into()),
        Data::I32(v) => Data::I32(v[..cut(v.len())].to_vec().into()),
        Data::Bits(q, v) => Data::Bits(*q, v[..cut(v.len())].to_vec().into()),
    };
    Tensor { rows: n, cols: t.cols, data }
}

fn first_cols(t: Tensor<'static>, n: usize) -> Tensor<'static> {
    match &t.data {
        Data::F32(v) => Tensor::f32(v[..n].to_vec()),
        Data::I32(v) => Tensor::i32_matrix(1, n, v[..n].to_vec()),
        Data::Bits(q, _) => {
            let values = t.to_i32().expect("bits are integers");
            Tensor::bits(1, n, *q, |_, c| values[c])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Meta;
    use onebit_core::types::{DType, ValueType};

    #[test]
    fn reordering_turns_chw_into_hwc() {
        let shape = Shape::new(2, 3, 4);
        let order = chw_of_hwc(shape);
        for (y, x, c) in [(0, 0, 0), (1, 2, 3), (0, 2, 1)] {
            assert_eq!(order[(y * 3 + x) * 4 + c], (c * 2 + y) * 3 + x);
        }
    }

    #[test]
    fn batch_norm_refuses_impossible_variances() {
        let with = |variance: f32, eps| {
            let one = vec![1.0];
            BatchNorm { gamma: None, beta: one.clone(), mean: one, variance: vec![variance], eps }
                .affine("bn7")
        };
        assert_eq!(with(0.25, 0.0).unwrap().scale.unwrap().as_f32(), Some(&[2.0][..]));
        for (variance, eps) in [(0.0, 0.0), (-1.0, 1e-3), (f32::NAN, 1e-3)] {
            assert!(with(variance, eps).unwrap_err().to_string().contains("bn7"));
        }
    }

    #[test]
    fn classes_cut_the_last_matrix_and_what_follows() {
        let input = ValueType::new(Shape::vector(3), DType::F32);
        let mut graph = Graph::new(input, Meta::default());
        let weight = Tensor::f32_matrix(4, 3, (0..12).map(|v| v as f32).collect());
        let params = Params { weight: Some(weight), ..Params::default() };
        let v = graph.add("fc", Op::Dense, &[0], params).unwrap();
        let bias = Some(Tensor::f32(vec![1.0, 2.0, 3.0, 4.0]));
        graph.add("bias", Op::Affine, &[v], Params { bias, ..Params::default() }).unwrap();
        let options = |classes| ImportOptions { classes, ..ImportOptions::default() };
        let named = Classes::Named(vec!["a".into(), "b".into()]);
        choose_classes(&mut graph, &options(named)).unwrap();
        assert_eq!(graph.ty(graph.output).shape, Shape::vector(2));
        assert_eq!(graph.nodes[0].params.weight.as_ref().unwrap().to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(graph.meta.classes, ["a", "b"]);
        assert!(choose_classes(&mut graph, &options(Classes::First(3))).is_err());
        assert!(choose_classes(&mut graph, &options(Classes::First(0))).is_err());
    }

    #[test]
    fn normalisation_must_fit_the_channels() {
        let shape = Shape::new(4, 4, 3);
        let with = |mean: &[f32], std: &[f32]| {
            let options =
                ImportOptions { mean: mean.to_vec(), std: std.to_vec(), ..ImportOptions::default() };
            let mut notes = Vec::new();
            preprocessing(&options, shape, Layout::Nchw, &mut notes).map(|_| notes.len())
        };
        assert_eq!(with(&[], &[]).unwrap(), 1);
        assert_eq!(with(&[1.0, 2.0, 3.0], &[255.0]).unwrap(), 0);
        assert!(with(&[1.0, 2.0], &[]).is_err());
        assert!(with(&[], &[0.0]).is_err());
        assert!(with(&[f32::NAN], &[]).is_err());
    }
}
