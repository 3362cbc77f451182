//! The graph file of MXNet, `NAME-symbol.json`: nodes with text attributes.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::HashMap;

/// A node: an operation, or a variable if its op is `null`.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name of the operation.
    pub op: String,
    /// Name of the node.
    pub name: String,
    /// Attributes as text.
    attributes: HashMap<String, String>,
    /// Nodes that it reads.
    pub inputs: Vec<usize>,
}

/// A graph; every node reads only nodes before it.
#[derive(Clone, Debug)]
pub struct Symbol {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The node whose value is the output.
    pub head: usize,
}

#[derive(Deserialize)]
struct RawSymbol {
    nodes: Vec<RawNode>,
    heads: Vec<Vec<u64>>,
}

#[derive(Deserialize)]
struct RawNode {
    op: String,
    name: String,
    /// The key changed twice in the history of MXNet.
    #[serde(alias = "attrs", alias = "param", default)]
    attr: Option<HashMap<String, serde_json::Value>>,
    inputs: Vec<Vec<u64>>,
}

impl Symbol {
    /// Reads the JSON text.
    ///
    /// # Errors
    /// Says what is wrong with the text or the graph.
    pub fn parse(text: &[u8]) -> Result<Symbol> {
        let raw: RawSymbol = serde_json::from_slice(text)
            .map_err(|e| Error::Model(format!("is no MXNet graph of nodes and heads: {e}")))?;
        let count = raw.nodes.len();
        let mut nodes = Vec::with_capacity(count);
        for (i, raw) in raw.nodes.into_iter().enumerate() {
            let mut inputs = Vec::with_capacity(raw.inputs.len());
            for input in &raw.inputs {
                match input[..] {
                    [node, 0, ..] if node < i as u64 => inputs.push(node as usize),
                    _ => {
                        let text =
                            format!("reads {input:?}, which is not the first output of an earlier node");
                        return Err(Error::layer(&raw.name, text));
                    }
                }
            }
            let text = |v: serde_json::Value| match v {
                serde_json::Value::String(s) => s,
                other => other.to_string(),
            };
            let attributes = raw.attr.unwrap_or_default().into_iter().map(|(k, v)| (k, text(v))).collect();
            nodes.push(Node { op: raw.op, name: raw.name, attributes, inputs });
        }
        match raw.heads[..] {
            [ref head] if head.first().is_some_and(|h| *h < count as u64) && head.get(1) == Some(&0) => {
                Ok(Symbol { nodes, head: head[0] as usize })
            }
            [_] => Err(Error::Model("names an output that it does not have".into())),
            _ => Err(Error::Model(format!(
                "has {} outputs, but only graphs with one can be imported",
                raw.heads.len()
            ))),
        }
    }
}

impl Node {
    fn parsed<T>(&self, key: &str, default: T, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
        match self.attributes.get(key) {
            None => Ok(default),
            Some(text) => parse(text.trim()).ok_or_else(|| {
                self.error(format!("has the attribute {key} = '{text}', which makes no sense"))
            }),
        }
    }
    /// A truth value.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        self.parsed(key, default, |t| match t {
            "True" | "true" | "1" => Some(true),
            "False" | "false" | "0" => Some(false),
            _ => None,
        })
    }
    /// A whole number that is not negative.
    pub fn number(&self, key: &str, default: usize) -> Result<usize> {
        self.parsed(key, default, |t| t.trim_end_matches('L').parse().ok())
    }
    /// A finite number.
    pub fn float(&self, key: &str, default: f64) -> Result<f64> {
        self.parsed(key, default, |t| t.parse().ok().filter(|v: &f64| v.is_finite()))
    }
    /// Rows and columns, as `(3, 3)`.
    pub fn pair(&self, key: &str, default: [usize; 2]) -> Result<[usize; 2]> {
        self.parsed(key, default, |t| {
            let list = list(t)?;
            match list[..] {
                [] => Some(default),
                [h, w] => Some([usize::try_from(h).ok()?, usize::try_from(w).ok()?]),
                _ => None,
            }
        })
    }
    /// A list of whole numbers.
    pub fn list(&self, key: &str) -> Result<Vec<i64>> {
        self.parsed(key, Vec::new(), list)
    }
    /// Text.
    pub fn text(&self, key: &str, default: &'static str) -> &str {
        self.attributes.get(key).map_or(default, String::as_str)
    }
    /// [`Error::Layer`] for this node.
    pub fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::layer(&self.name, format!("(op {}) {message}", self.op))
    }
}

/// Numbers in round or square brackets, with or without Python's `L`.
fn list(text: &str) -> Option<Vec<i64>> {
    let inner = text.trim_matches(|c| "()[] ".contains(c));
    let parts = inner.split(',').map(|p| p.trim().trim_end_matches('L')).filter(|p| !p.is_empty());
    parts.map(|p| p.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_three_keys_and_python_syntax() {
        for key in ["attr", "attrs", "param"] {
            let text = format!(
                r#"{{"nodes":[{{"op":"null","name":"data","inputs":[]}},{{"op":"Convolution","name":"c",
                "{key}":{{"kernel":"(3L, 5L)","no_bias":"True","num_filter":"64"}},"inputs":[[0,0,0]]}}],
                "heads":[[1,0,0]]}}"#
            );
            let symbol = Symbol::parse(text.as_bytes()).unwrap();
            let node = &symbol.nodes[1];
            assert_eq!(node.pair("kernel", [0, 0]).unwrap(), [3, 5]);
            assert_eq!(node.pair("stride", [1, 1]).unwrap(), [1, 1]);
            assert!(node.flag("no_bias", false).unwrap());
            assert!(node.number("kernel", 1).unwrap_err().to_string().contains("'c'"));
        }
    }

    #[test]
    fn bad_graphs_are_refused() {
        let node = r#"{"op":"null","name":"a","inputs":[]}"#;
        for text in [
            String::new(),
            "{}".into(),
            format!(r#"{{"nodes":[{node}],"heads":[]}}"#),
            format!(r#"{{"nodes":[{node}],"heads":[[1,0,0]]}}"#),
            format!(r#"{{"nodes":[{node}],"heads":[[]]}}"#),
            format!(r#"{{"nodes":[{node}],"heads":[[0,0,0],[0,0,0]]}}"#),
            r#"{"nodes":[{"op":"Flatten","name":"f","inputs":[[0,0,0]]}],"heads":[[0,0,0]]}"#.into(),
            r#"{"nodes":[{"op":"Flatten","name":"f","inputs":[[9,0,0]]}],"heads":[[0,0,0]]}"#.into(),
        ] {
            assert!(Symbol::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Symbol::parse(&"[".repeat(100_000).into_bytes()).is_err());
    }
}
