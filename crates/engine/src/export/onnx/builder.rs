//! The ONNX graph while it is built: values, constants, nodes, and names that are given last.

use super::Dialect;
use super::proto::{self, Attribute, Elem, Message};
use std::collections::{HashMap, HashSet};

/// Domain of the ops of QONNX.
pub const QONNX: &str = "qonnx.custom_op.general";

/// A value of the ONNX graph, by number.
pub type Id = usize;

struct Value {
    name: String,
    elem: Elem,
    /// Without the batch axis.
    dims: Vec<usize>,
    /// False for constants and what is made of constants alone.
    batched: bool,
    origin: Origin,
}

enum Origin {
    Input,
    Constant(Vec<u8>),
    Node,
}

struct Node {
    op: &'static str,
    domain: &'static str,
    inputs: Vec<Id>,
    output: Id,
    attributes: Vec<Attribute>,
}

/// See the module.
pub struct Builder {
    /// Which ops may be used.
    pub dialect: Dialect,
    values: Vec<Value>,
    nodes: Vec<Node>,
    taken: HashSet<String>,
    scalars: HashMap<u32, Id>,
}

impl Builder {
    /// A graph without nodes; the names of layers are kept for them.
    pub fn new<'a>(dialect: Dialect, layers: impl Iterator<Item = &'a str>) -> Self {
        Builder {
            dialect,
            values: Vec::new(),
            nodes: Vec::new(),
            taken: layers.map(str::to_owned).collect(),
            scalars: HashMap::new(),
        }
    }

    fn value(&mut self, name: String, elem: Elem, dims: &[usize], batched: bool, origin: Origin) -> Id {
        self.values.push(Value { name, elem, dims: dims.to_vec(), batched, origin });
        self.values.len() - 1
    }
    fn unique(&mut self, name: &str) -> String {
        let mut free = name.to_owned();
        for i in 2.. {
            if !self.taken.contains(&free) {
                break;
            }
            free = format!("{name}_{i}");
        }
        self.taken.insert(free.clone());
        free
    }

    /// The network's input.
    pub fn input(&mut self, elem: Elem, dims: &[usize]) -> Id {
        let name = self.unique("input");
        self.value(name, elem, dims, true, Origin::Input)
    }
    /// Appends a node whose value has `dims`, and a batch axis if an input has one. Until it gets a layer's name it is
    /// called after the layer and its op.
    pub fn node(
        &mut self,
        layer: &str,
        op: &'static str,
        inputs: &[Id],
        attributes: Vec<Attribute>,
        elem: Elem,
        dims: &[usize],
    ) -> Id {
        let name = self.unique(&format!("{layer}/{op}"));
        let batched = inputs.iter().any(|&i| self.values[i].batched);
        let output = self.value(name, elem, dims, batched, Origin::Node);
        let domain = if matches!(op, "BipolarQuant" | "Quant" | "MultiThreshold") { QONNX } else { "" };
        self.nodes.push(Node { op, domain, inputs: inputs.to_vec(), output, attributes });
        output
    }
    /// A node whose value has the shape and the format of its first input.
    pub fn like(&mut self, layer: &str, op: &'static str, inputs: &[Id], attributes: Vec<Attribute>) -> Id {
        let first = &self.values[inputs[0]];
        let (elem, dims) = (first.elem, first.dims.clone());
        self.node(layer, op, inputs, attributes, elem, &dims)
    }
    /// Converts elements.
    pub fn cast(&mut self, layer: &str, x: Id, elem: Elem) -> Id {
        let dims = self.values[x].dims.clone();
        self.node(layer, "Cast", &[x], vec![Attribute::Int("to", elem as i64)], elem, &dims)
    }

    /// A constant, little endian.
    pub fn constant(&mut self, name: &str, elem: Elem, dims: &[usize], data: Vec<u8>) -> Id {
        let name = self.unique(name);
        self.value(name, elem, dims, false, Origin::Constant(data))
    }
    /// A constant of floats.
    pub fn floats(&mut self, name: &str, dims: &[usize], v: &[f32]) -> Id {
        self.constant(name, Elem::Float, dims, v.iter().flat_map(|x| x.to_le_bytes()).collect())
    }
    /// A row of integers: axes, shapes and the like.
    pub fn ints(&mut self, name: &str, v: &[i64]) -> Id {
        self.constant(name, Elem::Int64, &[v.len()], v.iter().flat_map(|x| x.to_le_bytes()).collect())
    }
    /// A float without axes; one for the whole graph.
    pub fn scalar(&mut self, v: f32) -> Id {
        match self.scalars.get(&v.to_bits()) {
            Some(id) => *id,
            None => {
                let id = self.floats(&format!("constant/{v}"), &[], &[v]);
                self.scalars.insert(v.to_bits(), id);
                id
            }
        }
    }

    /// Axes of a value, without the batch.
    pub fn dims(&self, id: Id) -> &[usize] {
        &self.values[id].dims
    }
    /// Format of a value's elements.
    pub fn elem(&self, id: Id) -> Elem {
        self.values[id].elem
    }
    /// Number of values made so far.
    pub fn count(&self) -> usize {
        self.values.len()
    }
    /// Names a value and the node that makes it after a layer.
    pub fn name_after(&mut self, id: Id, layer: &str) {
        self.values[id].name = layer.to_owned();
    }

    /// The graph, with one output.
    pub fn finish(self, name: &str, output: Id) -> Message {
        let batch = match self.dialect {
            Dialect::Onnx => None,
            Dialect::Qonnx => Some(1),
        };
        let mut graph = Message::default().text(2, name);
        for node in &self.nodes {
            let inputs: Vec<&str> = node.inputs.iter().map(|&i| self.values[i].name.as_str()).collect();
            let name = &self.values[node.output].name;
            graph = graph.message(1, &proto::node(node.op, node.domain, name, &inputs, &node.attributes));
        }
        let read: HashSet<Id> = self.nodes.iter().flat_map(|n| n.inputs.iter().copied()).collect();
        // Nobody needs a value after it is written: constants are freed one by one.
        for (id, v) in self.values.into_iter().enumerate() {
            let info = || {
                let lengths = v.dims.iter().map(|d| Some(*d));
                let dims: Vec<_> = v.batched.then_some(batch).into_iter().chain(lengths).collect();
                proto::value_info(&v.name, v.elem, &dims)
            };
            graph = match &v.origin {
                Origin::Constant(_) if !read.contains(&id) => graph,
                Origin::Constant(data) => graph.message(5, &proto::tensor(&v.name, v.elem, &v.dims, data)),
                Origin::Input => graph.message(11, &info()),
                Origin::Node if id == output => graph.message(12, &info()),
                Origin::Node => graph.message(13, &info()),
            };
        }
        graph
    }
}
