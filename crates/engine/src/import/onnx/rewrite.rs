//! What training leaves in a graph and does not change its result.

use super::proto::{Attribute, Graph, Node};
use std::collections::{HashMap, HashSet};

/// Names that stand for other names.
pub(super) struct Aliases<'a>(HashMap<&'a str, &'a str>);

impl<'a> Aliases<'a> {
    /// The name that `name` stands for.
    pub(super) fn resolve(&self, mut name: &'a str) -> &'a str {
        while let Some(next) = self.0.get(name) {
            name = next;
        }
        name
    }

    /// Finds nodes whose result is one of their inputs: `Identity`, `Dropout`, and the straight-through estimator
    /// `(a - b) + b`, `(a + b) - b` or `a - (a - b)`, which is how training code gives a step function the gradient of another one.
    pub(super) fn of(graph: &Graph<'a>) -> Self {
        let producer: HashMap<&str, &Node<'a>> =
            graph.nodes.iter().filter_map(|n| Some((*n.outputs.first()?, n))).collect();
        let mut aliases = Aliases(HashMap::new());
        let mut constants: HashSet<&str> = graph.initializers.iter().map(|t| t.name).collect();
        constants.extend(graph.nodes.iter().filter(|n| n.op == "Constant").flat_map(|n| n.outputs.first()));
        let mut known: HashMap<(&str, &str, String), &str> = HashMap::new();
        for node in &graph.nodes {
            let Some(out) = node.outputs.first() else { continue };
            let same = match (node.op, node.inputs.as_slice()) {
                ("Identity" | "Dropout" | "DebugMarker", [x, ..]) => Some(aliases.resolve(x)),
                ("Add", [x, y]) => {
                    aliases.cancelled(&producer, x, y).or_else(|| aliases.cancelled(&producer, y, x))
                }
                // With a constant it is a computation of its own, such as `1 - (1 - x)`.
                ("Sub", [a, _]) if constants.contains(aliases.resolve(a)) => None,
                ("Sub", [_, b]) if constants.contains(aliases.resolve(b)) => None,
                ("Sub", [a, b]) => {
                    aliases.subtracted(&producer, a, b).or_else(|| aliases.added(&producer, a, b))
                }
                _ => None,
            };
            // Functions of one value that are written down twice, for the value and for its gradient.
            let same = same.or_else(|| {
                let [x] = node.inputs.as_slice() else { return None };
                let small = node.outputs.len() == 1 && node.attributes.iter().all(Attribute::is_number);
                let key = (node.op, aliases.resolve(x), format!("{:?}", node.attributes));
                small.then(|| *known.entry(key).or_insert(out))
            });
            // Files whose nodes are out of order could make circles.
            if let Some(same) = same.filter(|same| same != out && !aliases.0.contains_key(out)) {
                aliases.0.insert(out, same);
            }
        }
        aliases
    }

    /// `a` for `(a - b) + b`, and `b` for `(a - a) + b`.
    fn cancelled(
        &self,
        producer: &HashMap<&str, &Node<'a>>,
        difference: &'a str,
        b: &'a str,
    ) -> Option<&'a str> {
        let node = producer.get(self.resolve(difference)).filter(|n| n.op == "Sub")?;
        match node.inputs.as_slice() {
            [a, subtracted] if self.resolve(subtracted) == self.resolve(b) => Some(self.resolve(a)),
            [a, subtracted] if self.resolve(subtracted) == self.resolve(a) => Some(self.resolve(b)),
            _ => None,
        }
    }

    /// `a` for `(a + b) - b` or `(b + a) - b`.
    fn added(&self, producer: &HashMap<&str, &Node<'a>>, sum: &'a str, b: &'a str) -> Option<&'a str> {
        let b = self.resolve(b);
        let node = producer.get(self.resolve(sum)).filter(|n| n.op == "Add")?;
        match node.inputs.as_slice() {
            [x, y] if self.resolve(y) == b => Some(self.resolve(x)),
            [x, y] if self.resolve(x) == b => Some(self.resolve(y)),
            _ => None,
        }
    }

    /// `b` for `a - (a - b)`.
    fn subtracted(
        &self,
        producer: &HashMap<&str, &Node<'a>>,
        a: &'a str,
        difference: &'a str,
    ) -> Option<&'a str> {
        let node = producer.get(self.resolve(difference)).filter(|n| n.op == "Sub")?;
        match node.inputs.as_slice() {
            [other, b] if self.resolve(other) == self.resolve(a) => Some(self.resolve(b)),
            _ => None,
        }
    }
}

/// How often each value is read by nodes that the output depends on; what is never read has no entry.
pub(super) fn uses<'a>(graph: &Graph<'a>, aliases: &Aliases<'a>, output: &'a str) -> HashMap<&'a str, usize> {
    let mut uses = HashMap::from([(aliases.resolve(output), 1)]);
    // Nodes are in order, so the readers of a value come after it.
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|o| uses.contains_key(o)) {
            for input in node.inputs.iter().filter(|i| !i.is_empty()) {
                *uses.entry(aliases.resolve(input)).or_default() += 1;
            }
        }
    }
    uses
}
