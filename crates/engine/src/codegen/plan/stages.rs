//! Ops become stages: which rows each reads, and which pools are computed with the convolution before them.

use super::{Home, Needs, Repr, Stage, Value};
use onebit_core::Shape;
use onebit_core::model::{Model, Node};
use onebit_core::ops::{Op, Window};

/// The stages of all nodes that `output` needs.
pub fn stages(model: &Model<'_>, values: &mut [Value], output: usize) -> Vec<Stage> {
    let nodes = &model.nodes()[..output];
    let needed = needed(nodes, output);
    let mut stages: Vec<Stage> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        if !needed[i + 1] {
            values[i + 1].home = Home::None;
            continue;
        }
        if i + 1 != output
            && pooled(nodes, values, &needed, i)
            && let Some(conv) = stages.iter_mut().find(|s| s.output == node.inputs[0])
            && let Op::BPool2d(pool) = node.op
        {
            // Output row `o` of the pool reads what rows `o * stride ..` of the convolution read.
            let [rows, step] = [pool.window.kernel[0], pool.window.stride[0]];
            let needs = &mut conv.needs[0];
            needs.extent += (rows - 1) * needs.stride;
            needs.stride *= step;
            conv.pool = Some(i);
            conv.output = i + 1;
            values[node.inputs[0]].home = Home::None;
            continue;
        }
        let shapes: Vec<Shape> = node.inputs.iter().map(|v| values[*v].shape).collect();
        let needs = needs(node, &shapes);
        let name = identifier(&node.name);
        stages.push(Stage { name, node: i, pool: None, inputs: node.inputs.clone(), needs, output: i + 1 });
    }
    stages
}

/// Values that the output depends on.
fn needed(nodes: &[Node<'_>], output: usize) -> Vec<bool> {
    let mut needed = vec![false; nodes.len() + 1];
    needed[output] = true;
    for (i, node) in nodes.iter().enumerate().rev() {
        if needed[i + 1] {
            for v in &node.inputs {
                needed[*v] = true;
            }
        }
    }
    needed
}

/// Whether node `i` is a pool of windows that do not overlap, over bits that a convolution makes for it alone.
fn pooled(nodes: &[Node<'_>], values: &[Value], needed: &[bool], i: usize) -> bool {
    let Op::BPool2d(pool) = nodes[i].op else { return false };
    let w = pool.window;
    let apart = (0..2).all(|axis| w.stride[axis] >= w.kernel[axis]);
    let from = nodes[i].inputs[0];
    let makes = from.checked_sub(1).is_some_and(|n| matches!(nodes[n].op, Op::BConv2d(_)));
    let readers = nodes.iter().enumerate().filter(|(k, n)| needed[k + 1] && n.inputs.contains(&from)).count();
    apart
        && makes
        && readers == 1
        && values[from].shape.c > 1
        && w.pad == [0; 4]
        && w.dilation == [1; 2]
        && values[from].repr == Repr::Bits
}

/// Rows that a window reads.
fn window(w: &Window) -> Needs {
    Needs { stride: w.stride[0], first: -(w.pad[0] as i64), extent: (w.kernel[0] - 1) * w.dilation[0] + 1 }
}

fn needs(node: &Node<'_>, inputs: &[Shape]) -> Vec<Needs> {
    let x = inputs[0];
    match &node.op {
        Op::BConv2d(c) => vec![window(&c.window)],
        Op::BDense(_) => vec![Needs::all(x.h)],
        Op::BPool2d(p) => vec![window(&p.window)],
        Op::Pool2d(p) => vec![window(&p.window)],
        Op::Reshape(_) => vec![Needs::all(x.h)],
        Op::Slice(s) => vec![Needs { stride: s.step[0], first: s.from[0] as i64, extent: 1 }],
        Op::Pad(p) => vec![Needs { stride: 1, first: -(p.pad[0] as i64), extent: 1 }],
        Op::Concat => vec![Needs::same(); inputs.len()],
        Op::Add | Op::Mul | Op::Max | Op::Min => {
            let b = inputs[1];
            vec![Needs::same(), if b.h == x.h && b.h > 1 { Needs::same() } else { Needs::all(b.h) }]
        }
        _ => vec![Needs::same()],
    }
}

/// A layer's name as an identifier of most languages: letters, digits and single underscores, a letter first.
pub fn identifier(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    out.truncate(40);
    let out = out.trim_end_matches('_');
    match out.chars().next() {
        Some(c) if c.is_ascii_alphabetic() => out.into(),
        _ => format!("layer_{out}"),
    }
}
