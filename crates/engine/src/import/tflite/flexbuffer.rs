//! FlexBuffers: a map of names to integers, which is how custom ops keep their options.
//!
//! The last byte is the width of the root, the one before it its type. A map of width `w` is, around its start,
//!
//! ```text
//! distance back to the keys, width of the keys, length n,  | n values,  n type bytes
//! ```
//! each number `w` bytes wide. The keys are a vector of their own width, of distances back to strings that end with a
//! zero byte. Type bytes are `type << 2 | log2(width)`. Widths follow from the largest number: they vary from file to
//! file. Source: the FlexBuffers binary format (Google, 2017).

use super::flatbuffer::damaged;
use crate::error::Result;

const INT: u8 = 1;
const UINT: u8 = 2;
const MAP: u8 = 9;
const BOOL: u8 = 26;

/// A map. Keys are looked up one by one: there are few.
pub struct Map<'a> {
    bytes: &'a [u8],
    /// Where the values start.
    values: usize,
    /// Bytes of a value.
    width: usize,
    /// Where the keys start.
    keys: usize,
    key_width: usize,
    length: usize,
}

impl<'a> Map<'a> {
    /// The map that is the root of `bytes`.
    ///
    /// # Errors
    /// When the root is no map, or an offset leads out of the bytes.
    pub fn root(bytes: &'a [u8]) -> Result<Self> {
        let [body @ .., kind, root_width] = bytes else { return Err(wrong()) };
        let root = body.len().checked_sub(usize::from(*root_width)).ok_or_else(wrong)?;
        if kind >> 2 != MAP {
            return Err(wrong());
        }
        let width = 1 << (kind & 3);
        let values = back(body, root, usize::from(*root_width))?;
        let header = |numbers: usize| values.checked_sub(numbers * width).ok_or_else(wrong);
        let keys = back(body, header(3)?, width)?;
        let key_width = distance(body, header(2)?, width)?;
        let length = distance(body, header(1)?, width)?;
        Ok(Map { bytes: body, values, width, keys, key_width, length })
    }

    /// The integer called `key`.
    ///
    /// # Errors
    /// When there is none, or it is no integer.
    pub fn int(&self, key: &str) -> Result<i64> {
        for i in 0..self.length {
            let at = back(self.bytes, place(self.keys, i, self.key_width)?, self.key_width)?;
            let name = self.bytes.get(at..).and_then(|rest| rest.get(..=key.len())).unwrap_or_default();
            if name.strip_suffix(&[0]) != Some(key.as_bytes()) {
                continue;
            }
            let types = place(self.values, self.length, self.width)?;
            let kind = self.bytes.get(place(types, i, 1)?).ok_or_else(wrong)? >> 2;
            let value = unsigned(self.bytes, place(self.values, i, self.width)?, self.width)?;
            let unused = 64 - 8 * self.width as u32;
            return match kind {
                // Sign-extended from its width.
                INT => Ok((value << unused) as i64 >> unused),
                UINT | BOOL => i64::try_from(value).map_err(|_| wrong()),
                _ => Err(wrong()),
            };
        }
        Err(damaged(&format!("the options of a custom op lack '{key}'")))
    }
}

fn wrong() -> crate::Error {
    damaged("the options of a custom op are no map of integers")
}

/// Where element `index` of a vector stands.
fn place(start: usize, index: usize, width: usize) -> Result<usize> {
    index.checked_mul(width).and_then(|d| start.checked_add(d)).ok_or_else(wrong)
}

/// The unsigned number of `width` bytes at `at`.
fn unsigned(bytes: &[u8], at: usize, width: usize) -> Result<u64> {
    if !matches!(width, 1 | 2 | 4 | 8) {
        return Err(wrong());
    }
    let digits = at.checked_add(width).and_then(|end| bytes.get(at..end)).ok_or_else(wrong)?;
    Ok(digits.iter().rev().fold(0, |value, digit| value << 8 | u64::from(*digit)))
}

/// A length or distance.
fn distance(bytes: &[u8], at: usize, width: usize) -> Result<usize> {
    usize::try_from(unsigned(bytes, at, width)?).map_err(|_| wrong())
}

/// Follows the distance back that stands at `at`.
fn back(bytes: &[u8], at: usize, width: usize) -> Result<usize> {
    at.checked_sub(distance(bytes, at, width)?).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"a": 3, "bc": -2}`, with values of `width` bytes.
    fn map(width: usize) -> Vec<u8> {
        let log = width.trailing_zeros() as u8;
        let number = |v: i64| v.to_le_bytes()[..width].to_vec();
        let mut bytes = b"a\0bc\0".to_vec();
        bytes.extend([2, 6, 5]); // two keys at 6: 6 back to 0, 5 back to 2
        let header = bytes.len();
        bytes.extend([number(header as i64 - 6), number(1), number(2)].concat());
        let values = bytes.len();
        bytes.extend([number(3), number(-2)].concat());
        bytes.extend([INT << 2 | log; 2]);
        bytes.extend([(bytes.len() - values) as u8, MAP << 2 | log, 1]);
        bytes
    }

    #[test]
    fn integers_of_every_width_are_found() {
        for width in [1, 2, 4, 8] {
            let bytes = map(width);
            let map = Map::root(&bytes).unwrap();
            assert_eq!((map.int("a").unwrap(), map.int("bc").unwrap()), (3, -2), "width {width}");
            for absent in ["b", "bcd", "", "a\0"] {
                assert!(map.int(absent).is_err(), "{absent:?}");
            }
        }
    }

    #[test]
    fn damage_is_refused() {
        let bytes = map(1);
        for at in 0..bytes.len() {
            assert!(Map::root(&bytes[..at]).and_then(|m| m.int("bc")).is_err());
            for value in 0..=255 {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                let _ = Map::root(&bytes).and_then(|m| m.int("bc"));
            }
        }
    }
}
