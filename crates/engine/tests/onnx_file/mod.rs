//! Fields of protobuf messages, to write ONNX files with.

use prost::encoding::{WireType, encode_key, encode_varint};

/// A field that is a message, text or bytes.
pub fn field(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    encode_key(tag, WireType::LengthDelimited, &mut to);
    encode_varint(bytes.len() as u64, &mut to);
    to.extend_from_slice(bytes);
    to
}

/// A field that is an integer.
pub fn int(tag: u32, value: i64) -> Vec<u8> {
    let mut to = Vec::new();
    encode_key(tag, WireType::Varint, &mut to);
    encode_varint(value as u64, &mut to);
    to
}
