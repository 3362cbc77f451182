//! The container, safetensors: the length of the header (u64, little-endian), the header (JSON), then
//! the bytes of the tensors without gaps or overlaps.
//!
//! This reader accepts only what the safetensors crate accepts, and less: names may not repeat, tensors have
//! at most three dimensions, and a header is at most [`MAX_HEADER`] long, so that what it allocates is
//! a small multiple of the file.

use super::limits::{MAX_HEADER, bounded};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

/// Key of the network in the metadata of the container.
pub const KEY: &str = "onebit";

/// An opened container.
pub(super) struct Container<'a> {
    /// The text under [`KEY`].
    pub document: String,
    /// Tensors by name that were not taken yet.
    tensors: BTreeMap<String, Entry>,
    data: &'a [u8],
}

/// A tensor of the container.
pub(super) struct Stored<'a> {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: &'a [u8],
}

impl<'a> Container<'a> {
    /// Finds the tensors in `bytes` and checks that they cover it exactly.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(format!("is not a model file: it has only {} bytes", bytes.len()));
        };
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER as u64 {
            return Err(format!("is not a model file: its header would have {length} bytes"));
        }
        let Some((header, data)) = rest.split_at_checked(length as usize) else {
            return Err(format!("is cut off: its header has {length} bytes, but only {} follow", rest.len()));
        };
        let header =
            core::str::from_utf8(header).map_err(|e| format!("has a header that is no text: {e}"))?;
        let header: Header =
            serde_json::from_str(header).map_err(|e| format!("has a header that is not valid: {e}"))?;
        let Some(document) = header.document else {
            return Err("is a safetensors file, but not a onebit model: '__metadata__' has no 'onebit'; \
                        convert it first"
                .into());
        };

        let mut order: Vec<(&String, &Entry)> = header.tensors.iter().collect();
        order.sort_unstable_by_key(|(_, e)| e.data_offsets);
        let mut end = 0;
        for (name, entry) in order {
            let (from, to) = entry.data_offsets;
            if from != end {
                return Err(format!("has a gap or an overlap at byte {end}, before tensor '{name}'"));
            }
            let size = match entry.dtype {
                Dtype::U64 => Some(8),
                Dtype::F32 | Dtype::I32 => Some(4u64),
                _ => None,
            };
            let Some(size) = size else {
                return Err(format!("has tensor '{name}' of type {}, not U64, F32 or I32", entry.dtype));
            };
            let bytes = entry.shape.0.iter().try_fold(size, |n, d| n.checked_mul(*d as u64));
            if to.checked_sub(from) != bytes {
                return Err(format!("has tensor '{name}' whose shape does not fit its bytes {from} to {to}"));
            }
            end = to;
        }
        if end != data.len() as u64 {
            return Err(format!("has {} bytes of tensors, but its header describes {end}", data.len()));
        }
        Ok(Container { document, tensors: header.tensors, data })
    }

    /// Takes a tensor out. (Names stay with what the header says of them: a second map would cost a small program 4 kB.)
    pub fn take(&mut self, name: &str) -> Option<Stored<'a>> {
        let Entry { dtype, shape, data_offsets: (from, to) } = self.tensors.remove(name)?;
        // `open` has checked that offsets lie in the data.
        Some(Stored { dtype, shape: shape.0, bytes: &self.data[from as usize..to as usize] })
    }

    /// The name of a tensor that was not taken.
    pub fn left(&self) -> Option<&String> {
        self.tensors.keys().next()
    }
}

struct Header {
    document: Option<String>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: Dtype,
    shape: Dimensions,
    data_offsets: (u64, u64),
}

struct Dimensions(Vec<usize>);

impl<'de> Deserialize<'de> for Dimensions {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        bounded::<D, usize, 3>(d).map(Dimensions)
    }
}

struct Metadata(Option<String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Metadata;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut found = None;
                while let Some(key) = map.next_key::<String>()? {
                    // Other keys belong to other tools.
                    if key != KEY {
                        map.next_value::<IgnoredAny>()?;
                    } else if found.replace(map.next_value::<String>()?).is_some() {
                        return Err(A::Error::custom("'onebit' occurs twice in '__metadata__'"));
                    }
                }
                Ok(Metadata(found))
            }
        }
        d.deserialize_map(Keys)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut metadata = None;
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let twice = if name == "__metadata__" {
                        metadata.replace(map.next_value::<Metadata>()?).is_some()
                    } else {
                        let at = |e: A::Error| A::Error::custom(format!("tensor '{name}': {e}"));
                        let entry = map.next_value::<Entry>().map_err(at)?;
                        tensors.insert(name, entry).is_some()
                    };
                    if twice {
                        return Err(A::Error::custom("two tensors have the same name"));
                    }
                }
                Ok(Header { document: metadata.and_then(|m| m.0), tensors })
            }
        }
        d.deserialize_map(Entries)
    }
}
