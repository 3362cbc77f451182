//! NumPy's `.npy` arrays: a strict reader (versions 1 to 3) and a writer of floats.
//!
//! Little-endian `f4 f8 i1 i2 i4 i8 u1 u2` and `bool`, in C and Fortran order. What the header says must be
//! exactly what the file holds.

use crate::atomic::replace;
use crate::error::{Error, Result};
use std::path::Path;

/// An array in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Size of every axis.
    pub shape: Vec<usize>,
    /// The elements, rounded to single precision where they need more.
    pub values: Vec<f32>,
}

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy's own limit for arrays.
const MAX_AXES: usize = 64;

/// Reads a file.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn open(path: impl AsRef<Path>) -> Result<Array> {
    let path = path.as_ref();
    parse(&super::read(path)?).map_err(|e| Error::file(path, e))
}

/// True if `bytes` start as an array does.
pub fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads an array from the content of a file.
///
/// # Errors
/// Says what is wrong.
pub fn parse(bytes: &[u8]) -> Result<Array, String> {
    let (Header { descr, fortran, shape }, data) = checked(bytes)?;
    let (size, read) = element(&descr)?;
    let values: Vec<f32> = data.chunks_exact(size).map(read).collect();
    let values = if fortran { from_fortran(&shape, &values) } else { values };
    Ok(Array { shape, values })
}

/// Size of every axis, and elements in C order.
pub type Bytes<'a> = (Vec<usize>, &'a [u8]);

/// An array of `uint8` in C order, in place; `None` for other arrays.
///
/// # Errors
/// As [`parse`].
pub fn bytes(content: &[u8]) -> Result<Option<Bytes<'_>>, String> {
    let (header, data) = checked(content)?;
    Ok((header.descr == "|u1" && !header.fortran).then_some((header.shape, data)))
}

/// Header, and elements that are as many as it says.
fn checked(bytes: &[u8]) -> Result<(Header, &[u8]), String> {
    let (header, data) = split(bytes)?;
    let header = Header::parse(header)?;
    let shape = &header.shape;
    let (size, _) = element(&header.descr)?;
    let elements = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
    match elements.and_then(|n| n.checked_mul(size)) {
        Some(n) if n == data.len() => Ok((header, data)),
        Some(n) if n > data.len() => {
            Err(format!("is truncated: its shape {shape:?} needs {n} bytes, but {} follow", data.len()))
        }
        _ => Err(format!("its shape {shape:?} does not match the {} bytes that follow", data.len())),
    }
}

/// Length of the file that begins with `start`, by its header.
///
/// # Errors
/// When the header does not end within `start`, or elements are of an unknown type.
pub fn length(start: &[u8]) -> Result<usize, String> {
    let (header, data) = split(start)?;
    let Header { descr, shape, .. } = Header::parse(header)?;
    let elements = shape.iter().try_fold(element(&descr)?.0, |n, s| n.checked_mul(*s));
    let length = elements.and_then(|n| n.checked_add(start.len() - data.len()));
    length.ok_or_else(|| format!("its shape {shape:?} is too large"))
}

/// Bytes of an element, and how it is read.
type Element = (usize, fn(&[u8]) -> f32);

fn element(descr: &str) -> Result<Element, String> {
    Ok(match descr {
        "<f4" => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        "<f8" => (8, |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32),
        "<i8" => (8, |b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32),
        "<i4" => (4, |b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32),
        "<i2" => (2, |b| f32::from(i16::from_le_bytes([b[0], b[1]]))),
        "<u2" => (2, |b| f32::from(u16::from_le_bytes([b[0], b[1]]))),
        "|i1" => (1, |b| f32::from(b[0] as i8)),
        "|u1" => (1, |b| f32::from(b[0])),
        "|b1" => (1, |b| f32::from(u8::from(b[0] != 0))),
        object if object.starts_with("|O") => {
            return Err(
                "holds pickled Python objects, which are not read; save plain arrays of floats".into()
            );
        }
        other => {
            return Err(format!(
                "has elements of type '{other}'; save it as float32 or uint8, for example with x.astype('<f4')"
            ));
        }
    })
}

/// Header text and elements.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    if !is_npy(bytes) {
        return Err("is no .npy array".into());
    }
    let short = || "is truncated in its header".to_owned();
    let version = *bytes.get(6).ok_or_else(short)?;
    let (start, length) = match version {
        1 => {
            let b = bytes.get(8..10).ok_or_else(short)?;
            (10, usize::from(u16::from_le_bytes([b[0], b[1]])))
        }
        2 | 3 => {
            let b = bytes.get(8..12).ok_or_else(short)?;
            (12, u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
        }
        other => return Err(format!("is an .npy array of version {other}; known are 1 to 3")),
    };
    let rest = &bytes[start..];
    if length > rest.len() {
        return Err(short());
    }
    let (header, data) = rest.split_at(length);
    let header = std::str::from_utf8(header).map_err(|_| "has a header that is not text".to_owned())?;
    Ok((header, data))
}

struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, keys in any order.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "has a header that is not a NumPy header".to_owned();
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        let text = text.trim();
        let mut rest = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(wrong)?.trim();
        while !rest.is_empty() {
            let (key, after) = quoted(rest).ok_or_else(wrong)?;
            let value = after.trim_start().strip_prefix(':').ok_or_else(wrong)?.trim_start();
            rest = match key {
                "descr" => {
                    if !value.starts_with(['\'', '"']) {
                        return Err("has structured elements; save one plain array".into());
                    }
                    let (value, after) = quoted(value).ok_or_else(wrong)?;
                    descr = Some(value.to_owned());
                    after
                }
                "fortran_order" => {
                    let word = value.split([',', ' ', '}']).next().unwrap_or("");
                    fortran = Some(match word {
                        "True" => true,
                        "False" => false,
                        _ => return Err(wrong()),
                    });
                    &value[word.len()..]
                }
                "shape" => {
                    let (inside, after) =
                        value.strip_prefix('(').and_then(|v| v.split_once(')')).ok_or_else(wrong)?;
                    let sizes = inside.split(',').map(str::trim).filter(|s| !s.is_empty());
                    let sizes: Option<Vec<usize>> =
                        sizes.map(|s| s.trim_end_matches('L').parse().ok()).collect();
                    shape = Some(sizes.filter(|s| s.len() <= MAX_AXES).ok_or_else(wrong)?);
                    after
                }
                _ => return Err(wrong()),
            };
            rest = rest.trim_start();
            rest = match rest.strip_prefix(',') {
                Some(more) => more.trim_start(),
                None if rest.is_empty() => rest,
                None => return Err(wrong()),
            };
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) => Ok(Header { descr, fortran, shape }),
            _ => Err(wrong()),
        }
    }
}

/// A quoted string at the start of `text`, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// Elements in C order from elements in Fortran order.
fn from_fortran(shape: &[usize], values: &[f32]) -> Vec<f32> {
    let mut strides = vec![1usize; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut index = vec![0usize; shape.len()];
    let mut at = 0;
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        out.push(values[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

/// The content of a file with these floats in C order.
///
/// # Panics
/// When `shape` does not match the number of values.
pub fn to_bytes(shape: &[usize], values: &[f32]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len());
    let sizes: Vec<String> = shape.iter().map(|s| s.to_string()).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}{comma}), }}", sizes.join(", "));
    // The elements start at a multiple of 64 bytes, and a newline ends the header.
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = Vec::with_capacity(10 + header.len() + values.len() * 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
    bytes
}

/// Writes floats in C order; the file appears when it is complete.
///
/// # Errors
/// When the file cannot be written.
///
/// # Panics
/// As [`to_bytes`].
pub fn save(path: impl AsRef<Path>, shape: &[usize], values: &[f32]) -> Result<()> {
    replace(path.as_ref(), &to_bytes(shape, values))
}
