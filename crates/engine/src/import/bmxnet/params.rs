//! The container of MXNet parameters: a list of named arrays.
//!
//! ```text
//! u64 0x112, u64 0, u64 count, count arrays, u64 count, count x { u64 length, name }
//! ```
//! An array is `u32 dims, u32 x dims` (before MXNet 1.0), or a version mark, for newer versions a storage
//! type, then `u32 dims, i64 x dims`; then device type, device, element type and the elements. All of it
//! is little-endian. Arrays stay slices of the file: whatever a count says, nothing is allocated for
//! elements that the file does not hold.

use std::collections::HashMap;

/// First word of the file.
pub const MAGIC: u64 = 0x112;

const V1: u32 = 0xF993_FAC8;
const V2: u32 = 0xF993_FAC9;
const V3: u32 = 0xF993_FACA;
const DENSE: i32 = 0;
const MAX_DIMS: u32 = 32;

/// Type of the elements of an [`Array`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE single precision, or 32 weights of one bit.
    F32,
    /// IEEE double precision, or 64 weights of one bit.
    F64,
    /// IEEE half precision.
    F16,
    /// Integers of so many bytes.
    Integer(usize),
}

impl Element {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F64 => 8,
            Element::F16 => 2,
            Element::Integer(n) => n,
        }
    }
}

/// An array, still in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    /// Type of the elements.
    pub element: Element,
    /// The elements, little-endian.
    pub bytes: &'a [u8],
}

impl Array<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.element.bytes()
    }
    /// The elements, rounded to single precision, or `None` if they are integers.
    pub fn floats(&self) -> Option<Vec<f32>> {
        let chunks = self.bytes.chunks_exact(self.element.bytes());
        Some(match self.element {
            Element::F32 => chunks.map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect(),
            Element::F64 => {
                chunks.map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes")) as f32).collect()
            }
            Element::F16 => {
                chunks.map(|b| half(u16::from_le_bytes(b.try_into().expect("2 bytes")))).collect()
            }
            Element::Integer(_) => return None,
        })
    }
}

/// Value of an IEEE half precision number.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if bits & 1023 == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// Reads the container; keys are names without their `arg:` or `aux:`.
///
/// # Errors
/// One sentence that says what is wrong and where.
pub fn parse(file: &[u8]) -> Result<HashMap<&str, Array<'_>>, String> {
    let mut r = Reader { file, at: 0 };
    if r.u64("its first word")? != MAGIC {
        return Err("is no MXNet parameter file (its first word is not 0x112)".into());
    }
    r.u64("its header")?;
    let count = r.u64("the number of arrays")?;
    let mut arrays = Vec::new();
    for i in 0..count {
        arrays.push(r.array().map_err(|e| format!("{e} in array {i} of {count}"))?);
    }
    let names = r.u64("the number of names")?;
    if names != count {
        return Err(format!("has {count} arrays, but {names} names"));
    }
    let mut map = HashMap::new();
    for array in arrays {
        let length = r.u64("the length of a name")?;
        let name = r.take(length, "a name")?;
        let name = std::str::from_utf8(name).map_err(|_| "has a name that is not text".to_string())?;
        let name = name.strip_prefix("arg:").or(name.strip_prefix("aux:")).unwrap_or(name);
        if array.is_some_and(|array| map.insert(name, array).is_some()) {
            return Err(format!("has two arrays called '{name}'"));
        }
    }
    if r.at != file.len() {
        return Err(format!("has {} bytes after its end", file.len() - r.at));
    }
    Ok(map)
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8], String> {
        let rest = &self.file[self.at..];
        match usize::try_from(n).ok().filter(|n| *n <= rest.len()) {
            Some(n) => {
                self.at += n;
                Ok(&rest[..n])
            }
            None => Err(format!(
                "is cut short: {what} needs {n} bytes at offset {}, but only {} are left",
                self.at,
                rest.len()
            )),
        }
    }
    fn u32(&mut self, what: &str) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.take(4, what)?.try_into().expect("4 bytes")))
    }
    fn i32(&mut self, what: &str) -> Result<i32, String> {
        Ok(self.u32(what)? as i32)
    }
    fn u64(&mut self, what: &str) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.take(8, what)?.try_into().expect("8 bytes")))
    }

    /// One array, or `None` for a place holder without elements.
    fn array(&mut self) -> Result<Option<Array<'a>>, String> {
        let first = self.u32("the shape")?;
        let wide = matches!(first, V1 | V2 | V3);
        if matches!(first, V2 | V3) && self.i32("the storage type")? != DENSE {
            return Err("has a sparse array".into());
        }
        let dims = if wide { self.u32("the shape")? } else { first };
        if dims > MAX_DIMS {
            return Err(format!("has an impossible number of dimensions, {dims},"));
        }
        let mut elements = 1u64;
        for _ in 0..dims {
            let size = if wide { self.u64("the shape")? } else { u64::from(self.u32("the shape")?) };
            elements = elements.checked_mul(size).ok_or("has an impossible shape")?;
        }
        if dims == 0 && first != V3 {
            return Ok(None);
        }
        self.i32("the device type")?;
        self.i32("the device")?;
        let element = match self.i32("the element type")? {
            0 => Element::F32,
            1 => Element::F64,
            2 => Element::F16,
            3 | 5 => Element::Integer(1),
            4 => Element::Integer(4),
            6 => Element::Integer(8),
            other => return Err(format!("has an unknown element type, {other},")),
        };
        let bytes = elements.checked_mul(element.bytes() as u64).ok_or("has an impossible shape")?;
        Ok(Some(Array { element, bytes: self.take(bytes, "the elements")? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One array in each of the four encodings.
    fn sample(version: Option<u32>) -> Vec<u8> {
        let mut b = Vec::new();
        for word in [MAGIC, 0, 1] {
            b.extend(word.to_le_bytes());
        }
        match version {
            None => [2u32, 3, 1].iter().for_each(|v| b.extend(v.to_le_bytes())),
            Some(mark) => {
                b.extend(mark.to_le_bytes());
                if mark != V1 {
                    b.extend(DENSE.to_le_bytes());
                }
                b.extend(2u32.to_le_bytes());
                [3u64, 1].iter().for_each(|v| b.extend(v.to_le_bytes()));
            }
        }
        [1i32, 0, 0].iter().for_each(|v| b.extend(v.to_le_bytes()));
        [0.5f32, -2.0, 3.0].iter().for_each(|v| b.extend(v.to_le_bytes()));
        b.extend(1u64.to_le_bytes());
        b.extend(5u64.to_le_bytes());
        b.extend(b"arg:w");
        b
    }

    #[test]
    fn every_version_reads_the_same() {
        for version in [None, Some(V1), Some(V2), Some(V3)] {
            let file = sample(version);
            let map = parse(&file).unwrap();
            assert_eq!(map["w"].floats().unwrap(), [0.5, -2.0, 3.0]);
            assert_eq!(map["w"].len(), 3);
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        for version in [None, Some(V1), Some(V2), Some(V3)] {
            let file = sample(version);
            for n in 0..file.len() {
                assert!(parse(&file[..n]).is_err(), "{n} bytes of {version:?}");
            }
            let longer = [&file[..], &[0]].concat();
            assert!(parse(&longer).unwrap_err().contains("after its end"));
        }
    }

    #[test]
    fn hostile_words_are_refused_without_allocating() {
        for version in [None, Some(V1), Some(V2), Some(V3)] {
            let good = sample(version);
            for at in (8..good.len()).step_by(4) {
                for word in [u32::MAX, 1 << 31, 1 << 30, 0x00ff_ffff, V2, 0, 7] {
                    let mut file = good.clone();
                    let n = (good.len() - at).min(4);
                    file[at..at + n].copy_from_slice(&word.to_le_bytes()[..n]);
                    // Some changes only change values; what matters is that none panics or asks for memory.
                    let _ = parse(&file);
                }
            }
        }
        let mut many = sample(None);
        many[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(parse(&many).unwrap_err().contains("in array 1 of"));
    }

    #[test]
    fn half_precision() {
        for (bits, value) in [(0x3C00, 1.0), (0xC000, -2.0), (0x3555, 0.333_251_95), (0x0001, 5.960_464_5e-8)]
        {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7E00).is_nan() && half(0x7C00).is_infinite());
    }
}
