//! Float layers become integers, for chips without floats.
//!
//! Unlike a pass this changes what a network computes, by rounding it, so it runs only where it is asked for.
//!
//! | what | becomes |
//! |---|---|
//! | input of floats | the bytes of the picture; mean and standard deviation go into the layer that reads them |
//! | float weights that read bits, levels or bytes | integers of `weight_bits`, one step for each filter |
//! | floats between layers that thresholds of integers can make | levels of `activation_bits`, 0 among them |
//! | the layer that makes the scores | one step for all classes; the affine maps behind it become part of it |
//! | the last affine map | integers: the scores are one factor times what they were |
//!
//! BatchNorm, activations and signs behind a layer then fold into thresholds of its integers by the usual
//! [`passes`]: nothing else is rounded.
//!
//! **Padding.** A float layer pads with a number of its input, mostly the 0 that stands behind the normalisation. Its
//! integer form pads with the byte that stands for this number, `pad * std + mean` rounded, for each channel: exact for
//! pixels that are only divided, off by half a grey level at most else, which counts in [`Layer::bound`]. Where no
//! byte stands for it, the layer stays as it is.
//!
//! **Sums** stay exact: accumulators are integers, as those of binary layers are.
//!
//! ```
//! use onebit::core::model::{Params, Tensor};
//! use onebit::core::ops::{Op, Sign, Zero};
//! use onebit::core::{DType, Shape, ValueType};
//! use onebit::quantize::{self, quantize};
//! use onebit::Graph;
//!
//! let mut graph = Graph::new(ValueType::new(Shape::vector(4), DType::F32), Default::default());
//! graph.meta.input.std = vec![255.0];
//! let weight = Some(Tensor::f32_matrix(2, 4, vec![0.5, -1.0, 0.25, 2.0, 1.0, 1.0, -1.0, 0.1]));
//! let x = graph.add("stem", Op::Dense, &[0], Params { weight, ..Params::default() })?;
//! graph.add("sign", Op::Sign(Sign { zero: Zero::Positive }), &[x], Params::default())?;
//!
//! let (integers, report) = quantize(&graph, &quantize::Options::default())?;
//! assert_eq!(integers.ty(Graph::INPUT).dtype, DType::U8);
//! assert_eq!(report.layers[0].bits, 8);
//! assert!(report.floats.is_empty());
//! # Ok::<(), onebit::Error>(())
//! ```

mod input;
mod layer;
mod scores;
mod source;
mod weights;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::passes;
use onebit_core::model::{Node, Params};
use onebit_core::ops::{BConv2d, BDense, Op};
use onebit_core::types::DType;
use serde::Serialize;
use std::collections::HashMap;

/// How to make integers.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Bits of weights, 2 to 8.
    pub weight_bits: u8,
    /// Bits of floats between layers, 2 to 8. Each channel takes `2^bits - 1` thresholds.
    pub activation_bits: u8,
    /// Whether the last affine map becomes integers.
    pub integer_scores: bool,
    /// Pictures as the network takes them, `[n][h][w][c]`, to measure the range of floats between layers; without any,
    /// only those behind a function with bounds (tanh, sigmoid, clip) become levels.
    pub pixels: &'a [u8],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { weight_bits: 8, activation_bits: 4, integer_scores: true, pixels: &[] }
    }
}

/// What became integers, and what did not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Whether the network took floats before, and takes bytes now.
    pub input: bool,
    /// Layers with weights that became integers.
    pub layers: Vec<Layer>,
    /// What was done to the last affine map; none if nothing was.
    pub scores: Option<Scores>,
    /// What still computes with floats.
    pub floats: Vec<Float>,
}

/// A layer with weights that became integers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// Name of the layer.
    pub name: String,
    /// Name of its op now.
    pub op: &'static str,
    /// Bits of its weights.
    pub bits: u8,
    /// Format of its input.
    #[serde(serialize_with = "as_text")]
    pub input: DType,
    /// Largest rounding error of a weight, as a part of the largest weight of its filter (of all, for the scores).
    pub rounding: f64,
    /// The most by which rounding can change an output of the layer and of the affine maps that became part of it, but for
    /// rounding of floats and inputs beyond the range that was measured.
    pub bound: f64,
}

/// The last affine map as integers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Scores are this times what they were.
    pub factor: f64,
    /// The largest number that can occur, below 2^24.
    pub largest: u32,
    /// The most by which rounding to integers can change a score, divided by the factor.
    pub bound: f64,
}

/// A layer that computes with floats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Float {
    /// Name of the layer.
    pub name: String,
    /// Name of its op.
    pub op: &'static str,
    /// Why it stayed.
    pub reason: String,
}

impl Report {
    /// Whether anything became integers.
    pub fn changed(&self) -> bool {
        self.input || !self.layers.is_empty() || self.scores.is_some()
    }
}

fn as_text<S: serde::Serializer>(dtype: &DType, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(dtype)
}

/// The network with integers in place of floats where that is possible, and fused again; one without floats comes back as it
/// is. See the module.
///
/// # Errors
/// When an option or the preprocessing is out of range, or the graph is not valid.
pub fn quantize(graph: &Graph, options: &Options<'_>) -> Result<(Graph, Report)> {
    for (bits, what) in [(options.weight_bits, "weights"), (options.activation_bits, "floats between layers")]
    {
        if !(2..=8).contains(&bits) {
            return Err(Error::Input(format!("{what} cannot have {bits} bits: 2 to 8 are possible")));
        }
    }
    let image = graph.ty(Graph::INPUT).shape.elements();
    if !options.pixels.len().is_multiple_of(image) {
        let pixels = options.pixels.len();
        return Err(Error::Input(format!("{pixels} pixels are not a whole number of pictures of {image}")));
    }
    let mut before = graph.clone();
    passes::optimize(&mut before)?;
    let mut report = Report::default();
    let mut old = match input::as_bytes(&before)? {
        Some(bytes) => {
            report.input = true;
            bytes
        }
        None => before.clone(),
    };
    if options.integer_scores {
        while let Some(softmax) = old.producer(old.output).filter(|node| node.op == Op::Softmax) {
            let (name, scores) = (softmax.name.clone(), softmax.inputs[0]);
            old.notes.push(format!("'{name}' (softmax) is left out: it keeps the order of the scores"));
            old.output = scores;
        }
        old.normalize()?;
    }
    let mut reasons = HashMap::new();
    let mut new = layers(&old, options, &mut report, &mut reasons)?;
    if options.integer_scores {
        match scores::make_integers(&mut new) {
            Ok(scores) => report.scores = scores,
            Err(reason) => {
                let scores = scores::scores_value(&new);
                reasons.entry(source(&new, scores)).or_insert(reason);
            }
        }
    }
    if !report.changed() {
        new = before;
    } else {
        new.meta.accuracy = None;
        new.meta.source = match new.meta.source.as_str() {
            "" => "quantised by onebit".into(),
            source => format!("{source}; quantised by onebit"),
        };
        passes::optimize(&mut new)?;
    }
    report.floats = floats(&new, &reasons);
    Ok((new, report))
}

/// A copy of the graph with integer layers in place of float ones, and with affine maps apart from the layers that they
/// were fused into. Says of layers that stay as they are why.
fn layers(
    old: &Graph,
    options: &Options<'_>,
    report: &mut Report,
    reasons: &mut HashMap<String, String>,
) -> Result<Graph> {
    let mut new = Graph::new(old.ty(Graph::INPUT), old.meta.clone());
    new.notes.clone_from(&old.notes);
    let mut place = vec![Graph::INPUT];
    let mut absorbed = vec![false; old.nodes.len()];
    let head = head(old);
    for (i, node) in old.nodes.iter().enumerate() {
        let inputs: Vec<usize> = node.inputs.iter().map(|v| place[*v]).collect();
        if absorbed[i] {
            place.push(inputs[0]);
            continue;
        }
        match node.op {
            Op::Conv2d(_) | Op::Dense => {
                let behind = head.as_ref().filter(|(layer, _)| *layer == i).map(|(_, maps)| maps);
                let chain: Option<Vec<Node<'static>>> =
                    behind.map(|maps| maps.iter().map(|n| old.nodes[*n].clone()).collect());
                match layer::quantize(&mut new, node, inputs[0], chain.as_deref(), options)? {
                    Ok((value, layer)) => {
                        place.push(value);
                        report.layers.push(layer);
                        behind.into_iter().flatten().for_each(|n| absorbed[*n] = true);
                        continue;
                    }
                    Err(reason) => drop(reasons.insert(node.name.clone(), reason)),
                }
            }
            Op::BConv2d(BConv2d { output: DType::F32, .. }) | Op::BDense(BDense { output: DType::F32 }) => {
                let mut op = node.op;
                if let Op::BConv2d(BConv2d { output, .. }) | Op::BDense(BDense { output }) = &mut op {
                    *output = DType::I32;
                }
                let weight = Params { weight: node.params.weight.clone(), ..Params::default() };
                let rest = Params { weight: None, ..node.params.clone() };
                let sum = new.add(&node.name, op, &inputs, weight)?;
                place.push(new.add(format!("{}_scale", node.name), Op::Affine, &[sum], rest)?);
                continue;
            }
            _ => {}
        }
        place.push(new.add(&node.name, node.op, &inputs, node.params.clone())?);
    }
    new.output = place[old.output];
    Ok(new)
}

/// The layer with weights behind which only affine maps make the scores, if there is one, and these maps, in order.
fn head(graph: &Graph) -> Option<(usize, Vec<usize>)> {
    let (value, maps) = scores::below_affines(graph, scores::scores_value(graph));
    let layer = graph.producer(value)?;
    matches!(layer.op, Op::Conv2d(_) | Op::Dense).then(|| (value - 1, maps))
}

/// What computes with floats, but for integers that floats hold exactly.
fn floats(graph: &Graph, reasons: &HashMap<String, String>) -> Vec<Float> {
    let scores = scores::scores_value(graph);
    let float = |v: usize| graph.ty(v).dtype == DType::F32 && !(v == scores && scores::is_exact(graph, v));
    let one = |(i, node): (usize, &Node<'static>)| {
        let sources: Vec<String> =
            node.inputs.iter().filter(|v| float(**v)).map(|v| source_name(graph, *v)).collect();
        if sources.is_empty() && !float(i + 1) {
            return None;
        }
        let reason = reasons.get(&node.name).cloned().unwrap_or_else(|| match &sources[..] {
            [] => "it puts out floats".into(),
            names => format!("it reads floats of {}", names.join(" and ")),
        });
        Some(Float { name: node.name.clone(), op: node.op.name(), reason })
    };
    graph.nodes.iter().enumerate().filter_map(one).collect()
}

fn source(graph: &Graph, value: usize) -> String {
    graph.producer(value).map_or_else(String::new, |node| node.name.clone())
}

/// What makes a value, in words.
fn source_name(graph: &Graph, value: usize) -> String {
    match graph.producer(value) {
        Some(node) => format!("'{}'", node.name),
        None => "the network's input".into(),
    }
}
