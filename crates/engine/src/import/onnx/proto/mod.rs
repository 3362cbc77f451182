//! The parts of an ONNX file that describe a network, borrowed from its bytes.
//!
//! The messages and field numbers are those of `onnx.proto` (ONNX 1.19, IR version 12). Weights stay in the file until
//! [`Tensor::to_array`](Tensor) is called; subgraphs of attributes are not read.

mod attributes;
mod wire;

use crate::error::{Error, Result};
pub(crate) use attributes::brief;
use std::path::Path;
use wire::Budget;
pub(crate) use wire::Fields;

/// Most nodes of a graph.
pub const MOST_NODES: usize = 100_000;

/// A file.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    /// Version of the file format.
    pub ir_version: i64,
    /// Program that wrote it, and that program's version.
    pub producer: String,
    /// Domain and version of each set of operators; the domain of ONNX itself is empty.
    pub opsets: Vec<(&'a str, i64)>,
    /// The network.
    pub graph: Graph<'a>,
    /// Keys and values that describe the model.
    pub metadata: Vec<(&'a str, &'a str)>,
    /// Number of functions that the file defines.
    pub functions: usize,
    /// Length of the file.
    pub bytes: usize,
}

/// A network. Nodes are in an order in which they can run.
#[derive(Clone, Debug, Default)]
pub struct Graph<'a> {
    /// Name.
    pub name: &'a str,
    /// What it computes.
    pub nodes: Vec<Node<'a>>,
    /// Constants.
    pub initializers: Vec<Tensor<'a>>,
    /// What it is given; old files list their initializers too.
    pub inputs: Vec<ValueInfo<'a>>,
    /// What it returns.
    pub outputs: Vec<ValueInfo<'a>>,
}

/// Name and type of a value.
#[derive(Clone, Debug, Default)]
pub struct ValueInfo<'a> {
    /// Name.
    pub name: &'a str,
    /// Type of the elements as [`Tensor::data_type`], 0 if unknown.
    pub elem_type: i32,
    /// Length of each axis; `None` when no shape is given.
    pub dims: Option<Vec<Dim<'a>>>,
}

/// Length of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim<'a> {
    /// Known.
    Fixed(i64),
    /// The same wherever it has this name.
    Named(&'a str),
    /// Anything.
    Unknown,
}

/// One operation.
#[derive(Clone, Debug, Default)]
pub struct Node<'a> {
    /// Name; exporters may leave it empty, see [`Node::label`].
    pub name: &'a str,
    /// Operator.
    pub op: &'a str,
    /// Set of operators; that of ONNX itself is empty.
    pub domain: &'a str,
    /// Names of values; an input that is left out is empty.
    pub inputs: Vec<&'a str>,
    /// Names of values.
    pub outputs: Vec<&'a str>,
    /// Constants of the operator.
    pub attributes: Vec<Attribute<'a>>,
}

/// A constant of an operator.
#[derive(Clone, Debug)]
pub struct Attribute<'a> {
    /// Name.
    pub name: &'a str,
    /// Value.
    pub value: Value<'a>,
}

impl Attribute<'_> {
    /// Whether it is one number.
    pub fn is_number(&self) -> bool {
        matches!(self.value, Value::Float(_) | Value::Int(_))
    }
}

/// Value of an [`Attribute`].
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// A float.
    Float(f32),
    /// An integer.
    Int(i64),
    /// Text.
    String(&'a [u8]),
    /// An array.
    Tensor(Tensor<'a>),
    /// Floats.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
    /// Texts.
    Strings(Vec<&'a [u8]>),
    /// A graph, which is not read.
    Graph,
    /// Something else, which is not read.
    Other,
}

/// A constant that is still in the file.
#[derive(Clone, Debug, Default)]
pub struct Tensor<'a> {
    /// Name.
    pub name: &'a str,
    /// Length of each axis.
    pub dims: Vec<i64>,
    /// Type of the elements: a `TensorProto.DataType`.
    pub data_type: i32,
    /// The whole message, from which the elements are read when they are wanted.
    pub(super) message: &'a [u8],
}

/// True if a file of this name that begins with `first_bytes` is probably an ONNX file.
pub fn looks_like(first_bytes: &[u8], path: &Path) -> bool {
    // Writers emit fields in order: the IR version, then the producer, domain, documentation, graph or opsets.
    let begins = matches!(first_bytes, [0x08, 1..=63, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..]);
    begins || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

/// Reads all but the weights.
///
/// # Errors
/// When the bytes are no such file, are damaged, or would take too much memory. The caller adds the file's name.
pub fn read<'a>(bytes: &'a [u8]) -> Result<Model<'a>> {
    let budget = &mut Budget::of(bytes);
    let (mut ir_version, mut functions) = (0, 0);
    let (mut producer, mut version) = ("", "");
    let (mut opsets, mut metadata) = (Vec::new(), Vec::new());
    let mut graph = None;
    let mut fields = Fields::new("model", bytes);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            1 => ir_version = field.int()?,
            2 => producer = field.text()?,
            3 => version = field.text()?,
            7 => {
                let read = read_graph(field.bytes()?, budget)?;
                if graph.replace(read).is_some() {
                    return Err(Error::Model("it has two graphs".into()));
                }
            }
            8 => {
                let opset = read_opset(field.bytes()?)?;
                budget.push(&mut opsets, opset)?;
            }
            14 => {
                let entry = read_entry(field.bytes()?)?;
                budget.push(&mut metadata, entry)?;
            }
            25 => functions += 1,
            _ => {}
        }
    }
    let graph = graph.ok_or_else(|| Error::Model("it is no ONNX network: it has no graph".into()))?;
    let producer = format!("{producer} {version}").trim().to_owned();
    Ok(Model { ir_version, producer, opsets, graph, metadata, functions, bytes: bytes.len() })
}

fn read_entry(bytes: &[u8]) -> Result<(&str, &str)> {
    let mut entry = ("", "");
    let mut fields = Fields::new("metadata", bytes);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            // Texts of others may be anything; they are not needed.
            1 => entry.0 = field.text().unwrap_or_default(),
            2 => entry.1 = field.text().unwrap_or_default(),
            _ => {}
        }
    }
    Ok(entry)
}

fn read_opset(bytes: &[u8]) -> Result<(&str, i64)> {
    let mut opset = ("", 0);
    let mut fields = Fields::new("set of operators", bytes);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            1 => opset.0 = field.text()?,
            2 => opset.1 = field.int()?,
            _ => {}
        }
    }
    Ok(opset)
}

fn read_graph<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Graph<'a>> {
    let mut graph = Graph::default();
    let mut fields = Fields::new("graph", bytes);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            1 => {
                if graph.nodes.len() == MOST_NODES {
                    return Err(Error::Model(format!("it has more than {MOST_NODES} nodes")));
                }
                let node = read_node(field.bytes()?, budget)?;
                budget.push(&mut graph.nodes, node)?;
            }
            2 => graph.name = field.text()?,
            5 => {
                let tensor = read_tensor(field.bytes()?, budget)?;
                budget.push(&mut graph.initializers, tensor)?;
            }
            11 | 12 => {
                let value = read_value_info(field.bytes()?, budget)?;
                let list = if tag == 11 { &mut graph.inputs } else { &mut graph.outputs };
                budget.push(list, value)?;
            }
            15 => {
                return Err(Error::Model(
                    "it has sparse constants, which are not supported: export dense ones".into(),
                ));
            }
            _ => {}
        }
    }
    Ok(graph)
}

fn read_node<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Node<'a>> {
    let mut node = Node::default();
    let mut fields = Fields::new("node", bytes);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            1 => budget.push(&mut node.inputs, field.text()?)?,
            2 => budget.push(&mut node.outputs, field.text()?)?,
            3 => node.name = field.text()?,
            4 => node.op = field.text()?,
            5 => {
                let attribute = attributes::read(field.bytes()?, budget)?;
                budget.push(&mut node.attributes, attribute)?;
            }
            7 => node.domain = field.text()?,
            _ => {}
        }
    }
    if node.domain == "ai.onnx" {
        node.domain = "";
    }
    Ok(node)
}

fn read_tensor<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Tensor<'a>> {
    let mut tensor = Tensor { message: bytes, ..Tensor::default() };
    let mut fields = Fields::new("tensor", bytes);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            1 => field.ints(|d| budget.push(&mut tensor.dims, d))?,
            2 => tensor.data_type = field.int32()?,
            8 => tensor.name = field.text()?,
            _ => {}
        }
    }
    Ok(tensor)
}

fn read_value_info<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<ValueInfo<'a>> {
    let mut info = ValueInfo::default();
    let mut fields = Fields::new("value", bytes);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            1 => info.name = field.text()?,
            2 => {
                let mut types = Fields::new("type", field.bytes()?);
                while let Some((tag, field)) = types.next()? {
                    // Sequences, maps and the like keep type 0.
                    if tag == 1 {
                        (info.elem_type, info.dims) = read_tensor_type(field.bytes()?, budget)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(info)
}

fn read_tensor_type<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<(i32, Option<Vec<Dim<'a>>>)> {
    let (mut elem_type, mut dims) = (0, None);
    let mut fields = Fields::new("type", bytes);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            1 => elem_type = field.int32()?,
            2 => {
                let dims = dims.get_or_insert_default();
                let mut shape = Fields::new("shape", field.bytes()?);
                while let Some((tag, field)) = shape.next()? {
                    if tag == 1 {
                        budget.push(dims, read_dim(field.bytes()?)?)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok((elem_type, dims))
}

fn read_dim<'a>(bytes: &'a [u8]) -> Result<Dim<'a>> {
    let mut dim = Dim::Unknown;
    let mut fields = Fields::new("shape", bytes);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            1 => dim = Dim::Fixed(field.int()?),
            2 => dim = Dim::Named(field.text()?),
            _ => {}
        }
    }
    Ok(dim)
}
