//! Attributes of nodes: how they are read, and asked for.

use super::wire::{Budget, Fields};
use super::{Attribute, Node, Tensor, Value, read_tensor};
use crate::error::{Error, Result};

pub(super) fn read<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Attribute<'a>> {
    let (mut name, mut kind) = ("", 0);
    let (mut f, mut i, mut s, mut t) = (None, None, None, None);
    let (mut floats, mut ints, mut strings) = (Vec::new(), Vec::new(), Vec::new());
    let (mut graph, mut other) = (false, false);
    let mut fields = Fields::new("attribute", bytes);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            1 => name = field.text()?,
            2 => f = Some(field.float()?),
            3 => i = Some(field.int()?),
            4 => s = Some(field.bytes()?),
            5 => t = Some(read_tensor(field.bytes()?, budget)?),
            6 => graph = true,
            7 => field.floats(|v| budget.push(&mut floats, v))?,
            8 => field.ints(|v| budget.push(&mut ints, v))?,
            9 => budget.push(&mut strings, field.bytes()?)?,
            20 => kind = field.int32()?,
            13 => {}
            _ => other = true,
        }
    }
    // Files before IR version 2 do not say which; a number that is 0 may have been left out.
    if kind == 0 {
        kind = match () {
            () if f.is_some() => 1,
            () if i.is_some() => 2,
            () if s.is_some() => 3,
            () if t.is_some() => 4,
            () if graph => 5,
            () if !floats.is_empty() => 6,
            () if !ints.is_empty() => 7,
            () if !strings.is_empty() => 8,
            () => 0,
        };
    }
    let value = match (kind, t) {
        // A reference to an attribute of the enclosing function.
        _ if other => Value::Other,
        (1, _) => Value::Float(f.unwrap_or(0.0)),
        (2, _) => Value::Int(i.unwrap_or(0)),
        (3, _) => Value::String(s.unwrap_or(&[])),
        (4, Some(t)) => Value::Tensor(t),
        (5, _) => Value::Graph,
        (6, _) => Value::Floats(floats),
        (7, _) => Value::Ints(ints),
        (8, _) => Value::Strings(strings),
        _ => Value::Other,
    };
    Ok(Attribute { name, value })
}

/// The beginning of a name, for messages.
pub(crate) fn brief(name: &str) -> &str {
    name.char_indices().nth(200).map_or(name, |(end, _)| &name[..end])
}

impl<'a> Node<'a> {
    /// What errors call it: its name, or else that of its first output; only the beginning if it is very long.
    pub fn label(&self) -> &'a str {
        match self.outputs.first() {
            Some(output) if self.name.is_empty() => brief(output),
            _ => brief(self.name),
        }
    }

    /// An error that names the node and its operator.
    pub fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::layer(self.label(), format!("{}: {what}", brief(self.op)))
    }

    fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.attributes.iter().find(|a| a.name == name).map(|a| &a.value)
    }

    fn wrong(&self, name: &str, what: &str) -> Error {
        self.error(format!("its attribute '{name}' should be {what}"))
    }

    /// True if it has the attribute.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// An integer, or `default` if it is absent.
    ///
    /// # Errors
    /// Names the node when the attribute is something else; so do the others.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Int(v)) => Ok(*v),
            Some(_) => Err(self.wrong(name, "an integer")),
        }
    }

    /// A float, or `default` if it is absent.
    ///
    /// # Errors
    /// As [`Node::int`].
    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Float(v)) => Ok(*v),
            Some(_) => Err(self.wrong(name, "a float")),
        }
    }

    /// Integers.
    ///
    /// # Errors
    /// As [`Node::int`].
    pub fn ints(&self, name: &str) -> Result<Option<&[i64]>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Ints(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong(name, "a list of integers")),
        }
    }

    /// Floats.
    ///
    /// # Errors
    /// As [`Node::int`].
    pub fn floats(&self, name: &str) -> Result<Option<&[f32]>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Floats(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong(name, "a list of floats")),
        }
    }

    /// Text, or `default` if it is absent.
    ///
    /// # Errors
    /// As [`Node::int`].
    pub fn text<'s>(&'s self, name: &str, default: &'s str) -> Result<&'s str> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::String(v)) => std::str::from_utf8(v).map_err(|_| self.wrong(name, "text in UTF-8")),
            Some(_) => Err(self.wrong(name, "text")),
        }
    }

    /// An array.
    ///
    /// # Errors
    /// As [`Node::int`].
    pub fn tensor(&self, name: &str) -> Result<Option<&Tensor<'a>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Tensor(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong(name, "a tensor")),
        }
    }
}
