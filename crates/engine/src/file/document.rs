//! The JSON under `onebit`: the network without its numbers. `docs/format.md` is its specification.

use super::limits::{MAX_INPUTS, MAX_NAME, MAX_NODES, MAX_RESIZE, bounded};
use crate::meta::Meta;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use onebit_core::ops::Op;
use onebit_core::types::{DType, Shape, ValueType};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version that this crate reads and writes.
pub const VERSION: u64 = 1;

/// The network without its numbers.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub version: u64,
    pub input: Input,
    #[serde(serialize_with = "as_doubles")]
    pub meta: Meta,
    #[serde(deserialize_with = "bounded::<_, _, MAX_NODES>")]
    pub nodes: Vec<Entry>,
}

/// Type of the network input.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    shape: Shape,
    dtype: DType,
}

impl From<ValueType> for Input {
    fn from(t: ValueType) -> Self {
        Input { shape: t.shape, dtype: t.dtype }
    }
}
impl From<Input> for ValueType {
    fn from(i: Input) -> Self {
        ValueType::new(i.shape, i.dtype)
    }
}

/// One node.
pub(super) struct Entry {
    pub name: String,
    pub inputs: Vec<String>,
    /// The key `op` and the attributes.
    pub op: Map<String, Value>,
    /// Roles and what the constants look like.
    pub tensors: Vec<(String, TensorEntry)>,
}

/// What a constant looks like.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TensorEntry {
    pub dtype: String,
    pub rows: usize,
    pub cols: usize,
}

impl Document {
    /// Parses the text and checks all that does not depend on other nodes or on tensors.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        /// Everything but the version may change with the version.
        #[derive(Deserialize)]
        struct AnyVersion {
            version: u64,
        }
        let invalid = |e: serde_json::Error| format!("describes its network wrongly: {e}");
        let AnyVersion { version } = serde_json::from_str(text).map_err(invalid)?;
        if !(1..=VERSION).contains(&version) {
            return Err(format!(
                "has format version {version}, but this program reads version {VERSION}: \
                 convert the network again, or use another release"
            ));
        }
        let document: Document = serde_json::from_str(text).map_err(invalid)?;
        check_meta(&document.meta, document.input.shape)?;
        Ok(document)
    }
}

impl Entry {
    /// The op with its attributes; all must be known.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn op(&self) -> Result<Op, String> {
        let wrong = |e: serde_json::Error| format!("is described wrongly: {e}");
        let op = nested(self.op.clone());
        match &op {
            Value::Null => Err("is described wrongly: missing field `op`".into()),
            // A name alone is an op without attributes, or one that lacks all of them and should name the first.
            Value::String(name) => serde_json::from_value(op.clone())
                .or_else(|e| {
                    serde_json::from_value(single(name, Map::new().into()))
                        .map_err(|f| if f.is_data() { f } else { e })
                })
                .map_err(wrong),
            _ => serde_json::from_value(op).map_err(wrong),
        }
    }
}

/// Attributes of a window, which stand among those of its op.
const WINDOW: [&str; 4] = ["kernel", "stride", "dilation", "pad"];

/// A map of one key. (Collecting into maps sorts, which is kilobytes of code.)
fn single(key: &str, value: Value) -> Value {
    let mut map = Map::new();
    map.insert(key.into(), value);
    Value::Object(map)
}

/// `name` alone, or with fields in a map of its own: how serde writes a variant of an enum.
fn variant(name: Value, fields: Map<String, Value>) -> Value {
    match name {
        Value::String(name) if !fields.is_empty() => single(&name, fields.into()),
        name => name,
    }
}

/// An op as core's types have it, with windows and functions in maps of their own.
fn nested(mut flat: Map<String, Value>) -> Value {
    let name = flat.remove("op").unwrap_or_default();
    if let Some(function) = flat.remove("function") {
        let function = variant(function, flat);
        return match name {
            Value::String(name) => single(&name, function),
            name => name,
        };
    }
    if flat.contains_key(WINDOW[0]) {
        let mut window = Map::new();
        for key in WINDOW {
            if let Some(value) = flat.remove(key) {
                window.insert(key.into(), value);
            }
        }
        flat.insert("window".into(), window.into());
    }
    variant(name, flat)
}

/// The key `op` and the attributes of an op. Floats become doubles of the same value, so that every JSON
/// parser reads them exactly.
///
/// # Errors
/// When a number is not finite.
#[cfg(feature = "std")]
pub(super) fn attributes(op: &Op) -> Result<Map<String, Value>, String> {
    let mut flat = Map::new();
    flatten("op", serde_json::to_value(op).map_err(|e| format!("{e}"))?, &mut flat);
    match flat.iter().find(|(_, v)| v.is_null()) {
        Some((key, _)) => Err(format!("has a '{key}' that is not finite")),
        None => Ok(flat),
    }
}

/// The opposite of [`nested`]: puts the name of an op or function under `key`, and its attributes beside it.
#[cfg(feature = "std")]
fn flatten(key: &str, value: Value, flat: &mut Map<String, Value>) {
    let Value::Object(variant) = value else {
        flat.insert(key.into(), value);
        return;
    };
    for (name, content) in variant {
        let holds_function = key == "op" && name == "activation";
        flat.insert(key.into(), name.into());
        match content {
            Value::Object(fields) if !holds_function => {
                for (field, value) in fields {
                    match value {
                        Value::Object(window) => flat.extend(window),
                        value => drop(flat.insert(field, value)),
                    }
                }
            }
            function => flatten("function", function, flat),
        }
    }
}

fn as_doubles<S: Serializer>(meta: &Meta, s: S) -> Result<S::Ok, S::Error> {
    serde_json::to_value(meta).map_err(serde::ser::Error::custom)?.serialize(s)
}

/// Checks names: `input` is the network input, and a name must fit on one line.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name == "input" || name.len() > MAX_NAME {
        return Err(format!("has a layer with the impossible name '{}'", shorten(name)));
    }
    one_line("a layer name", name)
}

/// Checks that numbers can be used and that texts fit on one line.
pub(super) fn check_meta(meta: &Meta, input: Shape) -> Result<(), String> {
    for text in [&meta.name, &meta.source, &meta.license].into_iter().chain(&meta.classes) {
        one_line("a text of its metadata", text)?;
    }
    #[cfg(feature = "std")]
    if let Some(accuracy) = &meta.accuracy {
        one_line("a text of its metadata", &accuracy.data)?;
    }
    #[cfg(feature = "std")]
    if let Some(training) = &meta.training {
        one_line("a text of its metadata", &training.data)?;
        training.recipe.lines().try_for_each(|line| one_line("its recipe", line))?;
    }
    let pre = &meta.input;
    for (what, values) in [("mean", &pre.mean), ("std", &pre.std)] {
        if values.len() > 1 && values.len() != input.c {
            return Err(format!("has {} values of {what} for {} channels", values.len(), input.c));
        }
        if values.iter().any(|v| !v.is_finite() || (what == "std" && *v == 0.0)) {
            return Err(format!("has a {what} that pixels cannot be normalised with"));
        }
    }
    if pre.resize > MAX_RESIZE {
        return Err(format!("wants pictures resized to {}, above the limit of {MAX_RESIZE}", pre.resize));
    }
    Ok(())
}

fn one_line(what: &str, text: &str) -> Result<(), String> {
    match text.chars().any(|c| c.is_control() && c != '\t') {
        true => Err(format!("has a control character in {what}, '{}'", shorten(text))),
        false => Ok(()),
    }
}

/// The beginning of a text, on one line.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut short: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push_str("...");
    }
    short
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        struct Tensors<'a>(&'a [(String, TensorEntry)]);
        impl Serialize for Tensors<'_> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_map(self.0.iter().map(|(role, t)| (role, t)))
            }
        }
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("inputs", &self.inputs)?;
        // What the node is comes before how it does it.
        if let Some((key, value)) = self.op.get_key_value("op") {
            map.serialize_entry(key, value)?;
        }
        for (key, value) in self.op.iter().filter(|(key, _)| *key != "op") {
            map.serialize_entry(key, value)?;
        }
        if !self.tensors.is_empty() {
            map.serialize_entry("tensors", &Tensors(&self.tensors))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Entry;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a layer")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let (mut name, mut inputs, mut tensors) = (None, None, None);
                let mut op = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    let twice = match key.as_str() {
                        "name" => name.replace(map.next_value::<String>()?).is_some(),
                        "inputs" => inputs.replace(map.next_value::<Inputs>()?.0).is_some(),
                        "tensors" => tensors.replace(map.next_value::<Tensors>()?.0).is_some(),
                        _ if op.len() == 16 => {
                            return Err(A::Error::custom("a layer has too many attributes"));
                        }
                        _ => op.insert(key.clone(), map.next_value::<Attribute>()?.0).is_some(),
                    };
                    if twice {
                        return Err(A::Error::custom(format!("'{key}' occurs twice in a layer")));
                    }
                }
                Ok(Entry {
                    name: name.ok_or_else(|| A::Error::missing_field("name"))?,
                    inputs: inputs.ok_or_else(|| A::Error::missing_field("inputs"))?,
                    op,
                    tensors: tensors.unwrap_or_default(),
                })
            }
        }
        d.deserialize_map(Keys)
    }
}

struct Inputs(Vec<String>);

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        bounded::<D, String, MAX_INPUTS>(d).map(Inputs)
    }
}

struct Tensors(Vec<(String, TensorEntry)>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Roles;
        impl<'de> Visitor<'de> for Roles {
            type Value = Tensors;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the constants of a layer")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
                let mut all: Vec<(String, TensorEntry)> = Vec::new();
                while let Some((role, tensor)) = map.next_entry::<String, TensorEntry>()? {
                    if all.len() == 8 || all.iter().any(|(known, _)| *known == role) {
                        return Err(A::Error::custom("a layer has too many constants, or one of them twice"));
                    }
                    all.push((role, tensor));
                }
                Ok(Tensors(all))
            }
        }
        d.deserialize_map(Roles)
    }
}

/// An attribute: a number, a word, or up to four numbers. Nothing nests, so nothing can be deep.
struct Attribute(Value);

impl<'de> Deserialize<'de> for Attribute {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Kinds;
        impl<'de> Visitor<'de> for Kinds {
            type Value = Attribute;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a word or up to four numbers as an attribute")
            }
            fn visit_bool<E>(self, v: bool) -> Result<Attribute, E> {
                Ok(Attribute(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Attribute, E> {
                Ok(Attribute(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Attribute, E> {
                Ok(Attribute(v.into()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Attribute, E> {
                Ok(Attribute(v.into()))
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Attribute, E> {
                Ok(Attribute(v.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Attribute, A::Error> {
                let mut all: Vec<Value> = Vec::new();
                while all.len() < 4 {
                    match seq.next_element::<serde_json::Number>()? {
                        Some(number) => all.push(Value::Number(number)),
                        None => return Ok(Attribute(all.into())),
                    }
                }
                match seq.next_element::<IgnoredAny>()? {
                    Some(_) => Err(A::Error::custom("an attribute has more than four numbers")),
                    None => Ok(Attribute(all.into())),
                }
            }
        }
        d.deserialize_any(Kinds)
    }
}
