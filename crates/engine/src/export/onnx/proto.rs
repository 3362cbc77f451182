//! Protocol-buffer messages of ONNX, as far as an exported file needs them.
//!
//! Numbers of fields and types are those of `onnx.proto` (ONNX IR version 8).

use prost::encoding::{self, WireType};

/// A message under construction: its encoded fields.
#[derive(Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// An integer or the number of a choice.
    pub fn int(mut self, field: u32, value: i64) -> Self {
        encoding::int64::encode(field, &value, &mut self.0);
        self
    }
    /// A float.
    pub fn float(mut self, field: u32, value: f32) -> Self {
        encoding::float::encode(field, &value, &mut self.0);
        self
    }
    /// Bytes, or the text that they are.
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        encoding::encode_key(field, WireType::LengthDelimited, &mut self.0);
        encoding::encode_varint(value.len() as u64, &mut self.0);
        self.0.extend_from_slice(value);
        self
    }
    /// Text.
    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }
    /// A message inside this one.
    pub fn message(self, field: u32, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }
    /// The encoded message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
    /// Length of the encoded message.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Elem {
    Float = 1,
    Uint8 = 2,
    Int8 = 3,
    Int16 = 5,
    Int64 = 7,
    Bool = 9,
    Double = 11,
}

/// `AttributeProto`: a name and a value.
pub enum Attribute {
    Int(&'static str, i64),
    Ints(&'static str, Vec<i64>),
    Float(&'static str, f32),
    Text(&'static str, String),
}

impl Attribute {
    /// `AttributeProto`.
    pub fn message(&self) -> Message {
        const TYPE: u32 = 20;
        let named = |name: &str| Message::default().text(1, name);
        match self {
            Attribute::Int(name, v) => named(name).int(3, *v).int(TYPE, 2),
            Attribute::Ints(name, v) => v.iter().fold(named(name), |m, v| m.int(8, *v)).int(TYPE, 7),
            Attribute::Float(name, v) => named(name).float(2, *v).int(TYPE, 1),
            Attribute::Text(name, v) => named(name).text(4, v).int(TYPE, 3),
        }
    }
}

/// `NodeProto`.
pub fn node(op: &str, domain: &str, name: &str, inputs: &[&str], attributes: &[Attribute]) -> Message {
    let m = inputs.iter().fold(Message::default(), |m, input| m.text(1, input));
    let m = m.text(2, name).text(3, name).text(4, op).text(7, domain);
    attributes.iter().fold(m, |m, a| m.message(5, &a.message()))
}

/// `TensorProto` with raw data, little endian.
pub fn tensor(name: &str, elem: Elem, dims: &[usize], data: &[u8]) -> Message {
    let m = dims.iter().fold(Message::default(), |m, d| m.int(1, *d as i64));
    m.int(2, elem as i64).text(8, name).bytes(9, data)
}

/// `ValueInfoProto`; a first axis without length is called `N`.
pub fn value_info(name: &str, elem: Elem, dims: &[Option<usize>]) -> Message {
    let shape = dims.iter().fold(Message::default(), |m, d| {
        let dim = match d {
            Some(d) => Message::default().int(1, *d as i64),
            None => Message::default().text(2, "N"),
        };
        m.message(1, &dim)
    });
    let tensor = Message::default().int(1, elem as i64).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// `ModelProto` of a graph.
pub fn model(graph: &Message, opsets: &[(&str, i64)], properties: &[(String, String)]) -> Message {
    const IR_VERSION: i64 = 8;
    let m = Message::default().int(1, IR_VERSION).text(2, "onebit").text(3, env!("CARGO_PKG_VERSION"));
    let m = opsets
        .iter()
        .fold(m, |m, (domain, version)| m.message(8, &Message::default().text(1, domain).int(2, *version)));
    let m = properties
        .iter()
        .fold(m, |m, (key, value)| m.message(14, &Message::default().text(1, key).text(2, value)));
    m.message(7, graph)
}
