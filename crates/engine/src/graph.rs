//! The compile-time form of a network: what importers build and passes rewrite.
//!
//! It is made of the same nodes as a model, with owned constants. Value 0 is the input, value `i + 1` is
//! made by node `i`. While a pass works the list may be in any order; [`Graph::normalize`] sorts it
//! and drops what nothing reads.

use crate::error::{Error, Result};
use crate::meta::Meta;
use onebit_core::model::{Model, Node, Params, Tensor};
use onebit_core::ops::Op;
use onebit_core::types::ValueType;

/// A network under construction.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Facts that travel with the network.
    pub meta: Meta,
    /// The ops.
    pub nodes: Vec<Node<'static>>,
    /// The value that is the network's output.
    pub output: usize,
    /// What passes decided that the user should know, one sentence each.
    pub notes: Vec<String>,
    types: Vec<ValueType>,
}

impl Graph {
    /// The value that is the network's input.
    pub const INPUT: usize = 0;

    /// A graph without ops.
    pub fn new(input: ValueType, meta: Meta) -> Self {
        Graph { meta, nodes: Vec::new(), output: 0, notes: Vec::new(), types: vec![input] }
    }

    /// Appends an op, makes its value the output, and returns the value.
    ///
    /// # Errors
    /// Names the layer when the op does not fit its inputs and constants.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        op: Op,
        inputs: &[usize],
        params: Params<Tensor<'static>>,
    ) -> Result<usize> {
        let name = self.unique(name.into());
        let types: Vec<ValueType> = inputs.iter().map(|&v| self.types[v]).collect();
        for (role, tensor) in params.each() {
            tensor.check().map_err(|e| Error::layer(&name, format!("its {role} {e}")))?;
        }
        let out =
            op.infer(&types, &params).map_err(|e| Error::layer(&name, format!("({}) {e}", op.name())))?;
        self.nodes.push(Node { name, op, inputs: inputs.to_vec(), params });
        self.types.push(out);
        self.output = self.nodes.len();
        Ok(self.output)
    }

    fn unique(&self, name: String) -> String {
        let taken = |n: &str| n == "input" || self.nodes.iter().any(|node| node.name == n);
        if !taken(&name) {
            return name;
        }
        // Numbers go on where the names so far end: a search from the first would be cubic in nodes of one name.
        let alike = self.nodes.iter().filter(|node| node.name.starts_with(&name)).count();
        (alike + 1..).map(|i| format!("{name}_{i}")).find(|n| !taken(n)).unwrap_or(name)
    }

    /// Type of a value.
    pub fn ty(&self, value: usize) -> ValueType {
        self.types[value]
    }
    /// The node that makes a value, or `None` for the input.
    pub fn producer(&self, value: usize) -> Option<&Node<'static>> {
        self.nodes.get(value.checked_sub(1)?)
    }
    /// How often each value is read; the output counts as read.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.types.len()];
        uses[self.output] += 1;
        for node in &self.nodes {
            for &v in &node.inputs {
                uses[v] += 1;
            }
        }
        uses
    }
    /// Makes every reader of `old` except the node of `new` read `new` instead.
    pub fn redirect(&mut self, old: usize, new: usize) {
        for (i, node) in self.nodes.iter_mut().enumerate() {
            if i + 1 != new {
                for v in node.inputs.iter_mut().filter(|v| **v == old) {
                    *v = new;
                }
            }
        }
        if self.output == old {
            self.output = new;
        }
    }

    /// Sorts the nodes so that each reads only earlier values, drops nodes that the output does not need,
    /// and infers all types again. Returns the number of nodes dropped.
    ///
    /// # Errors
    /// When nodes form a cycle or an op does not fit its inputs.
    pub fn normalize(&mut self) -> Result<usize> {
        let before = self.nodes.len();
        // Depth first from the output, without recursion: networks may be deep.
        let mut place = vec![None; self.types.len().max(self.nodes.len() + 1)];
        place[0] = Some(0);
        let mut open = vec![false; place.len()];
        let mut order: Vec<usize> = Vec::new();
        let mut stack = vec![self.output];
        while let Some(&v) = stack.last() {
            if place[v].is_some() {
                stack.pop();
                continue;
            }
            let waiting = self.nodes[v - 1].inputs.iter().rev().filter(|i| place[**i].is_none());
            let waiting: Vec<usize> = waiting.copied().collect();
            if waiting.is_empty() {
                order.push(v - 1);
                place[v] = Some(order.len());
                stack.pop();
            } else if std::mem::replace(&mut open[v], true) {
                return Err(Error::layer(&self.nodes[v - 1].name, "depends on its own output"));
            } else {
                stack.extend(waiting);
            }
        }
        let mut nodes: Vec<Option<Node<'static>>> = self.nodes.drain(..).map(Some).collect();
        let input = self.types[0];
        let (meta, output) = (std::mem::take(&mut self.meta), self.output);
        let mut sorted = Graph::new(input, meta);
        sorted.notes = std::mem::take(&mut self.notes);
        for i in order {
            let node = nodes[i].take().expect("every node is placed once");
            let inputs: Vec<usize> =
                node.inputs.iter().map(|v| place[*v].expect("inputs are placed first")).collect();
            sorted.add(node.name, node.op, &inputs, node.params)?;
        }
        sorted.output = place[output].expect("the output is placed last");
        *self = sorted;
        Ok(before - self.nodes.len())
    }

    /// The deploy form.
    ///
    /// # Errors
    /// As [`Graph::normalize`]; also when the graph has no ops.
    pub fn into_model(mut self) -> Result<(Model<'static>, Meta)> {
        self.normalize()?;
        Ok((Model::new(self.types[0], self.nodes)?, self.meta))
    }

    /// The graph of a model.
    pub fn from_model(model: &Model<'_>, meta: Meta) -> Self {
        let nodes = model.nodes().iter().map(|n| {
            let mut params = Params::default();
            for (role, t) in n.params.each() {
                *params.slot(role).expect("roles are the same") = Some(t.clone().into_owned());
            }
            Node { name: n.name.clone(), op: n.op, inputs: n.inputs.clone(), params }
        });
        let nodes: Vec<_> = nodes.collect();
        Graph { meta, output: nodes.len(), nodes, notes: Vec::new(), types: model.types().to_vec() }
    }
}
