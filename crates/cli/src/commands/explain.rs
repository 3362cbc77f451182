//! What the layers of a network compute with, which of them work on floats, why, and what would change that.

use crate::text::{Table, bytes, count};
use onebit::core::model::{Data, Model, Node};
use onebit::core::ops::Op;
use onebit::core::types::DType;
use onebit::stats::{LayerStats, Stats};
use serde::Serialize;
use std::fmt::Write;

/// Float layers with a smaller part of the multiply-adds are not worth binarising.
const FEW: f64 = 0.05;

/// Where a network's work and bytes are.
#[derive(Serialize)]
pub struct Explanation {
    /// Part of the multiply-adds with weights and activations of 1 to 8 bits.
    pub binary_mac_fraction: f64,
    /// Part of the constants' bytes that belongs to layers that work on floats.
    pub float_bytes_fraction: f64,
    /// Both in words.
    pub summary: String,
    /// The layers that work on floats.
    pub float_layers: Vec<FloatLayer>,
}

/// A layer that works on floats.
#[derive(Serialize)]
pub struct FloatLayer {
    /// Name of the layer.
    pub name: String,
    /// Name of the op.
    pub op: &'static str,
    /// Its multiply-adds for one image.
    pub float_macs: u64,
    /// Bytes of its constants.
    pub weight_bytes: u64,
    /// Why it is not binary.
    pub reason: String,
    /// What to change where it is trained; none where nothing need be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Explains a network from its costs.
pub fn explain(model: &Model<'_>, stats: &Stats) -> Explanation {
    let macs = stats.binary_macs + stats.float_macs;
    let part = |n: u64, of: u64| if of == 0 { 0.0 } else { n as f64 / of as f64 };
    let float_layer = |(i, (node, layer)): (usize, (&Node<'_>, &LayerStats))| {
        let reason = reason(model, i, node)?;
        let advice = advice(model, node, part(layer.float_macs, macs));
        let (float_macs, weight_bytes) = (layer.float_macs, layer.weight_bytes);
        Some(FloatLayer { name: node.name.clone(), op: layer.op, float_macs, weight_bytes, reason, advice })
    };
    let layers = model.nodes().iter().zip(&stats.layers).enumerate();
    let float_layers: Vec<FloatLayer> = layers.filter_map(float_layer).collect();
    let float_bytes = float_layers.iter().map(|l| l.weight_bytes).sum();
    let binary_mac_fraction = part(stats.binary_macs, macs);
    let float_bytes_fraction = part(float_bytes, stats.weight_bytes);
    let summary = summary(stats, binary_mac_fraction, float_bytes_fraction, &float_layers);
    Explanation { binary_mac_fraction, float_bytes_fraction, summary, float_layers }
}

/// One sentence on where the work and the bytes are.
fn summary(stats: &Stats, macs: f64, bytes: f64, float_layers: &[FloatLayer]) -> String {
    let whole = |part: f64| match part {
        p if p > 0.0 && p < 0.005 => "under 1 %".to_owned(),
        p if p < 1.0 && p > 0.995 => "over 99 %".to_owned(),
        p => format!("{:.0} %", 100.0 * p),
    };
    let products = || stats.layers.iter().enumerate().filter(|(_, l)| l.weight_bits.is_some());
    let binary = |l: &LayerStats| l.binary_macs > 0;
    let (first, last) = (products().find(|l| binary(l.1)), products().rfind(|l| binary(l.1)));
    let (Some((first, _)), Some((last, _))) = (first, last) else {
        return match products().next() {
            Some(_) => "no MACs are binary: the network runs on floats".into(),
            None => "no layer multiplies with weights".into(),
        };
    };
    let float = |l: &LayerStats| l.weight_bytes > 0 && float_layers.iter().any(|f| f.name == l.name);
    let floats = || stats.layers.iter().enumerate().filter(|(_, l)| float(l)).map(|(i, _)| i);
    let places = [
        ("the float stem", floats().any(|i| i < first)),
        ("float layers in between", floats().any(|i| first < i && i < last)),
        ("the float head", floats().any(|i| i > last)),
    ];
    let places: Vec<&str> = places.iter().filter(|(_, any)| *any).map(|(name, _)| *name).collect();
    let places = match &places[..] {
        ["the float stem", "the float head"] => "the float stem and head".to_owned(),
        many => many.join(" and "),
    };
    match places.is_empty() {
        true => format!("{} of MACs binary; no float weights", whole(macs)),
        false => format!("{} of MACs binary; {} of the bytes are {places}", whole(macs), whole(bytes)),
    }
}

fn reason(model: &Model<'_>, i: usize, node: &Node<'_>) -> Option<String> {
    let reads_floats = node.inputs.iter().any(|&v| model.types()[v].dtype == DType::F32);
    let from = |v: usize| source(model, v);
    let readers: Vec<&Node<'_>> = model.nodes().iter().filter(|n| n.inputs.contains(&(i + 1))).collect();
    match node.op {
        Op::Conv2d(_) | Op::Dense => Some(match node.params.weight.as_ref().map(|w| &w.data) {
            Some(Data::Bits(..)) => {
                format!("its weights are binary, but it reads floats from {}", from(node.inputs[0]))
            }
            _ => "its weights are floats, not +1 and -1 times one scale for each filter".to_owned(),
        }),
        // These make bits of floats, or compute on bits and put out floats: nothing is left to binarise.
        Op::Sign(_) | Op::Threshold(_) | Op::Quantize(_) | Op::BConv2d(_) | Op::BDense(_) => None,
        Op::Decode => Some(format!("makes floats for {}", names(&readers))),
        _ if !reads_floats => None,
        Op::Add | Op::Mul | Op::Div | Op::Max | Op::Min | Op::Concat => {
            let sources: Vec<String> = node.inputs.iter().map(|&v| from(v)).collect();
            Some(format!("joins the floats of {}", sources.join(" and ")))
        }
        _ if readers.is_empty() => Some("makes the network's output".to_owned()),
        _ => Some(match readers.iter().find(|r| !makes_bits(r)) {
            Some(_) => format!("its floats are read by {}", names(&readers)),
            None => format!("no exact threshold replaces it before {}", names(&readers)),
        }),
    }
}

/// What to change in the code that trains a layer with weights, which takes this part of the multiply-adds.
fn advice(model: &Model<'_>, node: &Node<'_>, part: f64) -> Option<String> {
    if !matches!(node.op, Op::Conv2d(_) | Op::Dense) {
        return None;
    }
    if part < FEW {
        let part = if part < 0.01 { "under 1 %".to_owned() } else { format!("only {:.0} %", 100.0 * part) };
        return Some(format!("{part} of the MACs: leave it"));
    }
    let input = node.inputs[0];
    let binary = matches!(node.params.weight.as_ref().map(|w| &w.data), Some(Data::Bits(..)));
    // Floats that were bits before need no second sign.
    let was_bits = input.checked_sub(1).is_some_and(|n| matches!(model.nodes()[n].op, Op::Decode));
    let weights = "binarise its weights (one scale for each filter)";
    let values = match input {
        0 => "let the network take bytes, without mean and std,".to_owned(),
        _ => format!("put a sign behind {}", source(model, input)),
    };
    Some(match (binary, was_bits) {
        (true, _) => format!("{values} to run it on bits"),
        (false, true) => format!("{weights} to run it on bits"),
        (false, false) => format!("{weights} and {values} to run it on bits"),
    })
}

/// What makes a value.
fn source(model: &Model<'_>, value: usize) -> String {
    match value.checked_sub(1) {
        Some(n) => format!("'{}'", model.nodes()[n].name),
        None => "the network's input".to_owned(),
    }
}

fn makes_bits(node: &Node<'_>) -> bool {
    matches!(node.op, Op::Sign(_) | Op::Threshold(_) | Op::Quantize(_))
}

fn names(nodes: &[&Node<'_>]) -> String {
    match nodes {
        [] => "the network's output".to_owned(),
        _ => {
            nodes.iter().map(|n| format!("'{}' ({})", n.name, n.op.name())).collect::<Vec<_>>().join(" and ")
        }
    }
}

/// Every layer: what it puts out, the bits it runs at, what it costs.
pub fn table(stats: &Stats) -> String {
    let headings = [
        "layer",
        "op",
        ">output",
        "format",
        ">bits w x a",
        "kind",
        ">parameters",
        ">binary MACs",
        ">float MACs",
        ">weights",
        ">activations",
    ];
    let mut table = Table::new(&headings);
    let some = |n: u64| if n == 0 { "·".to_owned() } else { count(n) };
    let size = |n: u64| if n == 0 { "·".to_owned() } else { bytes(n) };
    for l in &stats.layers {
        let [h, w, c] = l.output;
        table.row(vec![
            l.name.clone(),
            l.op.into(),
            if h == 1 && w == 1 { c.to_string() } else { format!("{h}x{w}x{c}") },
            l.output_format.clone(),
            precision(l).unwrap_or("·".into()),
            l.kind.map_or("·".into(), |k| k.to_string()),
            some(l.parameters),
            some(l.binary_macs),
            some(l.float_macs),
            size(l.weight_bytes),
            bytes(l.activation_bytes),
        ]);
    }
    table.render()
}

/// Bits of weights and activations of a layer with weights.
pub fn precision(layer: &LayerStats) -> Option<String> {
    layer.weight_bits.map(|w| format!("{w} x {}", layer.activation_bits))
}

impl Explanation {
    /// The layers that work on floats, those that take the most time first, one or two lines each; empty where there are
    /// none.
    pub fn list(&self) -> String {
        let mut text = String::new();
        let width = self.float_layers.iter().map(|l| l.name.chars().count()).max().unwrap_or(0);
        let mut layers: Vec<&FloatLayer> = self.float_layers.iter().collect();
        layers.sort_by_key(|l| std::cmp::Reverse(l.float_macs));
        for l in layers {
            let macs = match l.float_macs {
                0 => String::new(),
                n => format!(" ({} MACs)", count(n)),
            };
            let _ = writeln!(text, "    {:<width$}  {:<10}  {}{macs}", l.name, l.op, l.reason);
            if let Some(advice) = &l.advice {
                let _ = writeln!(text, "    {:<width$}  {:<10}  -> {advice}", "", "");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onebit::core::model::{Params, Tensor};
    use onebit::core::ops::{Activation, BDense};
    use onebit::core::types::{Quant, Shape, ValueType};
    use onebit::stats::stats;
    use onebit::{Graph, Meta};

    /// Dense layers on `inputs` floats, an activation in between.
    fn explained(inputs: usize, first_is_binary: bool, second_is_binary: bool) -> Explanation {
        let mut graph = Graph::new(ValueType::new(Shape::vector(inputs), DType::F32), Meta::default());
        let weight = |n: usize, k: usize, binary| {
            let weight = match binary {
                true => Tensor::bits(n, k, Quant::BIT, |_, _| 1),
                false => Tensor::f32_matrix(n, k, vec![0.5; n * k]),
            };
            Params { weight: Some(weight), ..Params::default() }
        };
        let x = graph.add("fc1", Op::Dense, &[0], weight(8, inputs, first_is_binary)).unwrap();
        let x = graph.add("tanh", Op::Activation(Activation::Tanh), &[x], Params::default()).unwrap();
        graph.add("fc2", Op::Dense, &[x], weight(8, 8, second_is_binary)).unwrap();
        let (model, _) = graph.into_model().unwrap();
        explain(&model, &stats(&model))
    }

    #[test]
    fn float_layers_hear_what_to_change() {
        let advice = |e: &Explanation, i: usize| e.float_layers[i].advice.clone().unwrap_or_default();
        let e = explained(8, true, true);
        assert!(e.float_layers[0].reason.contains("reads floats from the network's input"));
        assert!(advice(&e, 0).starts_with("let the network take bytes"));
        assert_eq!(
            (advice(&e, 1), advice(&e, 2)),
            (String::new(), "put a sign behind 'tanh' to run it on bits".into())
        );
        assert_eq!(e.summary, "no MACs are binary: the network runs on floats");
        let e = explained(8, false, false);
        let both =
            "binarise its weights (one scale for each filter) and put a sign behind 'tanh' to run it on bits";
        assert_eq!(advice(&e, 2), both);
        let e = explained(8000, false, false);
        assert_eq!(advice(&e, 2), "under 1 % of the MACs: leave it");
        assert_eq!((e.binary_mac_fraction, e.float_bytes_fraction), (0.0, 1.0));
    }

    #[test]
    fn summaries_say_where_the_floats_are() {
        let mut graph = Graph::new(ValueType::new(Shape::vector(64), DType::U8), Meta::default());
        let params = Params { weight: Some(Tensor::bits(96, 64, Quant::BIT, |_, _| 1)), ..Params::default() };
        let x = graph.add("bits", Op::BDense(BDense { output: DType::F32 }), &[0], params).unwrap();
        let all = Graph::clone(&graph).into_model().unwrap().0;
        assert_eq!(explain(&all, &stats(&all)).summary, "100 % of MACs binary; no float weights");
        let params =
            Params { weight: Some(Tensor::f32_matrix(16, 96, vec![0.5; 16 * 96])), ..Params::default() };
        graph.add("head", Op::Dense, &[x], params).unwrap();
        let model = graph.into_model().unwrap().0;
        let e = explain(&model, &stats(&model));
        // 96 * 64 of 96 * 80 products; 6144 bytes of floats beside 96 words.
        assert_eq!(e.summary, "80 % of MACs binary; 89 % of the bytes are the float head");
    }
}
