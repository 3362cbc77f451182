//! Fields of a protobuf message, borrowed from the file.

use crate::error::{Error, Result};
use prost::encoding::{WireType, decode_key, decode_varint, skip_field};

/// Most bytes that the description of a network may take in memory.
const MOST: usize = 256 << 20;

/// What a file may still make the reader allocate: an empty message is two bytes in a file and a hundred in memory.
pub(crate) struct Budget(usize);

impl Budget {
    /// Names and nodes of real files need less than twelve times their size; weights stay in the file.
    pub(crate) fn of(file: &[u8]) -> Self {
        Budget(file.len().saturating_mul(16).saturating_add(1 << 20).min(MOST))
    }
    /// Appends to a list whose memory is paid for.
    pub(crate) fn push<T>(&mut self, list: &mut Vec<T>, item: T) -> Result<()> {
        self.0 = self.0.checked_sub(size_of::<T>()).ok_or_else(|| {
            Error::Model("it has far more nodes, attributes or names than its size allows".into())
        })?;
        list.push(item);
        Ok(())
    }
}

/// The value of one field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
}

/// The fields of a message, one after the other.
pub(crate) struct Fields<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `message` is its name, for errors.
    pub(crate) fn new(message: &'static str, rest: &'a [u8]) -> Self {
        Fields { message, rest }
    }

    fn damaged(&self, what: impl std::fmt::Display) -> Error {
        Error::Model(format!("it is damaged: in a {}, {what}; export or download it again", self.message))
    }

    /// The next field's number and value, `None` at the end. Groups, which ONNX does not use, are skipped.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>> {
        while !self.rest.is_empty() {
            let (tag, wire) = decode_key(&mut self.rest).map_err(|e| self.damaged(e))?;
            let value = match wire {
                WireType::Varint => Field::Varint(self.varint()?),
                WireType::SixtyFourBit => Field::Fixed64(self.array()?),
                WireType::ThirtyTwoBit => Field::Fixed32(self.array()?),
                WireType::LengthDelimited => {
                    let length = self.varint()?;
                    Field::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
                }
                WireType::StartGroup | WireType::EndGroup => {
                    skip_field(wire, tag, &mut self.rest, Default::default()).map_err(|e| self.damaged(e))?;
                    continue;
                }
            };
            return Ok(Some((tag, value)));
        }
        Ok(None)
    }

    fn varint(&mut self) -> Result<u64> {
        decode_varint(&mut self.rest).map_err(|e| self.damaged(e))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(length) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(self.damaged(format!("a field of {length} bytes has only {}", self.rest.len()))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let short = self.damaged("a number is cut off");
        self.take(N)?.try_into().map_err(|_| short)
    }
}

fn unexpected(what: &str) -> Error {
    Error::Model(format!("it is damaged: a field should be {what}; export or download it again"))
}

impl<'a> Field<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Field::Bytes(b) => Ok(b),
            _ => Err(unexpected("a message or text")),
        }
    }
    /// A name. Messages repeat names, so they are one line.
    pub(crate) fn text(self) -> Result<&'a str> {
        match std::str::from_utf8(self.bytes()?) {
            Ok(text) if !text.contains(char::is_control) => Ok(text),
            _ => Err(unexpected("a name in UTF-8")),
        }
    }
    pub(crate) fn int(self) -> Result<i64> {
        match self {
            Field::Varint(v) => Ok(v as i64),
            _ => Err(unexpected("an integer")),
        }
    }
    /// 32-bit integers and enumerations, of which protobuf keeps the low half.
    pub(crate) fn int32(self) -> Result<i32> {
        Ok(self.int()? as i32)
    }
    pub(crate) fn float(self) -> Result<f32> {
        match self {
            Field::Fixed32(b) => Ok(f32::from_le_bytes(b)),
            _ => Err(unexpected("a float")),
        }
    }

    /// Calls `each` with the integers of a repeated field, of which this is a packed part or one element.
    pub(crate) fn ints(self, mut each: impl FnMut(i64) -> Result<()>) -> Result<()> {
        match self {
            Field::Varint(v) => each(v as i64),
            Field::Bytes(packed) => {
                let mut values = Fields::new("list of integers", packed);
                while !values.rest.is_empty() {
                    each(values.varint()? as i64)?;
                }
                Ok(())
            }
            _ => Err(unexpected("integers")),
        }
    }
    /// The same for floats.
    pub(crate) fn floats(self, mut each: impl FnMut(f32) -> Result<()>) -> Result<()> {
        match self {
            Field::Fixed32(b) => each(f32::from_le_bytes(b)),
            Field::Bytes(packed) => match packed.as_chunks::<4>() {
                (values, []) => values.iter().try_for_each(|v| each(f32::from_le_bytes(*v))),
                _ => Err(unexpected("whole floats")),
            },
            _ => Err(unexpected("floats")),
        }
    }
    /// The same for doubles.
    pub(crate) fn doubles(self, mut each: impl FnMut(f64) -> Result<()>) -> Result<()> {
        match self {
            Field::Fixed64(b) => each(f64::from_le_bytes(b)),
            Field::Bytes(packed) => match packed.as_chunks::<8>() {
                (values, []) => values.iter().try_for_each(|v| each(f64::from_le_bytes(*v))),
                _ => Err(unexpected("whole doubles")),
            },
            _ => Err(unexpected("doubles")),
        }
    }
}
