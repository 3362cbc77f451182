//! FlatBuffers: tables, vectors and strings, read where they lie. Every offset is checked when it is followed.
//!
//! ```text
//! table    i32 distance back to its vtable, then the fields
//! vtable   u16 own bytes, u16 bytes of the table, then for each field u16 its distance from the table, or 0: absent
//! vector   u32 length, then the elements; elements that are tables are u32 distances from where they stand
//! string   a vector of bytes
//! ```
//! A field that is no number is a u32 distance from where it stands. All is little-endian. Nothing here allocates or
//! recurses: offsets only say where to read next. Source: the FlatBuffers binary format (Google, 2014).

use crate::error::{Error, Result};
use std::borrow::Cow;

/// Why a file cannot be read further.
pub fn damaged(what: &str) -> Error {
    Error::Model(format!("is cut short or damaged ({what}); copy it again, or convert the network again"))
}

/// `N` bytes at `at`.
fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes = at.checked_add(N).and_then(|end| file.get(at..end)).and_then(|b| b.try_into().ok());
    bytes.ok_or_else(|| damaged("an offset leads out of the file"))
}

/// Follows the distance that stands at `at`.
fn follow(file: &[u8], at: usize) -> Result<usize> {
    let distance = u32::from_le_bytes(bytes_at(file, at)?);
    at.checked_add(distance as usize).ok_or_else(|| damaged("an offset leads out of the file"))
}

/// The elements of the vector at `at`, `N` bytes each.
fn vector_at<const N: usize>(file: &[u8], at: usize) -> Result<&[[u8; N]]> {
    let length = u32::from_le_bytes(bytes_at(file, at)?) as usize;
    let bytes = length.checked_mul(N).and_then(|bytes| file.get(at + 4..)?.get(..bytes));
    Ok(bytes.ok_or_else(|| damaged("a list is longer than the file"))?.as_chunks().0)
}

/// A table: fields by number, all of them optional.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    file: &'a [u8],
    at: usize,
    /// For each field its distance from `at`.
    fields: &'a [[u8; 2]],
}

impl<'a> Table<'a> {
    /// The root table of a file.
    ///
    /// # Errors
    /// When an offset leads out of the file, here and below.
    pub fn root(file: &'a [u8]) -> Result<Self> {
        Table::at(file, follow(file, 0)?)
    }
    fn at(file: &'a [u8], at: usize) -> Result<Self> {
        let back = i32::from_le_bytes(bytes_at(file, at)?);
        let vtable = i64::try_from(at).ok().and_then(|at| usize::try_from(at - i64::from(back)).ok());
        let vtable = vtable.ok_or_else(|| damaged("an offset leads out of the file"))?;
        let size = usize::from(u16::from_le_bytes(bytes_at(file, vtable)?));
        let bytes = file.get(vtable..).and_then(|rest| rest.get(4..size));
        let fields = bytes.ok_or_else(|| damaged("a table has an impossible size"))?.as_chunks().0;
        Ok(Table { file, at, fields })
    }
    fn place(&self, field: usize) -> Option<usize> {
        let distance = self.fields.get(field).map(|d| usize::from(u16::from_le_bytes(*d)));
        distance.filter(|d| *d > 0).map(|d| self.at + d)
    }
    fn number<const N: usize>(&self, field: usize) -> Result<Option<[u8; N]>> {
        self.place(field).map(|at| bytes_at(self.file, at)).transpose()
    }
    fn target(&self, field: usize) -> Result<Option<usize>> {
        self.place(field).map(|at| follow(self.file, at)).transpose()
    }

    /// A byte.
    pub fn u8(&self, field: usize, default: u8) -> Result<u8> {
        Ok(self.number(field)?.map_or(default, u8::from_le_bytes))
    }
    /// A truth value.
    pub fn bool(&self, field: usize) -> Result<bool> {
        Ok(self.u8(field, 0)? != 0)
    }
    /// A signed integer.
    pub fn i32(&self, field: usize, default: i32) -> Result<i32> {
        Ok(self.number(field)?.map_or(default, i32::from_le_bytes))
    }
    /// A long unsigned integer.
    pub fn u64(&self, field: usize) -> Result<u64> {
        Ok(self.number(field)?.map_or(0, u64::from_le_bytes))
    }
    /// A float.
    pub fn f32(&self, field: usize, default: f32) -> Result<f32> {
        Ok(self.number(field)?.map_or(default, f32::from_le_bytes))
    }
    /// A table, or `None` when it is absent.
    pub fn table(&self, field: usize) -> Result<Option<Table<'a>>> {
        self.target(field)?.map(|at| Table::at(self.file, at)).transpose()
    }
    /// A vector of numbers of `N` bytes; an absent one is empty.
    pub fn vector<const N: usize>(&self, field: usize) -> Result<&'a [[u8; N]]> {
        self.target(field)?.map_or(Ok(&[]), |at| vector_at(self.file, at))
    }
    /// A vector of bytes; an absent one is empty.
    pub fn bytes(&self, field: usize) -> Result<&'a [u8]> {
        Ok(self.vector::<1>(field)?.as_flattened())
    }
    /// A string; an absent one is empty. What is not UTF-8 is replaced.
    pub fn string(&self, field: usize) -> Result<Cow<'a, str>> {
        self.bytes(field).map(String::from_utf8_lossy)
    }
    /// A vector of tables; an absent one is empty.
    pub fn tables(&self, field: usize) -> Result<Tables<'a>> {
        let (file, none) = (self.file, Tables { file: self.file, first: 0, distances: &[] });
        let Some(at) = self.target(field)? else { return Ok(none) };
        Ok(Tables { file, first: at + 4, distances: vector_at(file, at)? })
    }
}

/// A vector of tables.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    file: &'a [u8],
    /// Where the first distance stands.
    first: usize,
    distances: &'a [[u8; 4]],
}

impl<'a> Tables<'a> {
    /// Number of tables.
    pub fn len(&self) -> usize {
        self.distances.len()
    }
    /// Table `index`, or `None` beyond the last.
    pub fn get(&self, index: usize) -> Result<Option<Table<'a>>> {
        let distance = self.distances.get(index).map(|d| u32::from_le_bytes(*d) as usize);
        let at = distance.map(|d| self.first.saturating_add(4 * index).saturating_add(d));
        at.map(|at| Table::at(self.file, at)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of four fields: the number -3, the bytes "ab", nothing, and a vector of one table, which is itself.
    const FILE: &[u8] = &[
        16, 0, 0, 0, // the root is at 16
        12, 0, 16, 0, 4, 0, 8, 0, 0, 0, 12, 0, // vtable at 4
        12, 0, 0, 0, // 16: 12 bytes back to the vtable
        0xfd, 0xff, 0xff, 0xff, // 20: field 0
        8, 0, 0, 0, // 24: field 1 is at 32
        12, 0, 0, 0, // 28: field 3 is at 40
        2, 0, 0, 0, b'a', b'b', 0, 0, // 32
        1, 0, 0, 0, 0xe4, 0xff, 0xff, 0xff, // 40: distance that wraps, so it leads out of the file
    ];

    #[test]
    fn fields_are_read_or_have_their_default() {
        let root = Table::root(FILE).unwrap();
        assert_eq!(root.i32(0, 7).unwrap(), -3);
        assert_eq!(root.string(1).unwrap(), "ab");
        assert_eq!((root.i32(2, 7).unwrap(), root.i32(9, 8).unwrap()), (7, 8));
        assert!(root.bytes(2).unwrap().is_empty() && root.table(2).unwrap().is_none());
        let tables = root.tables(3).unwrap();
        assert_eq!(tables.len(), 1);
        assert!(tables.get(0).is_err() && tables.get(1).unwrap().is_none());
    }

    #[test]
    fn offsets_do_not_leave_the_file() {
        for length in 0..FILE.len() {
            let read = |cut: &[u8]| {
                let root = Table::root(cut)?;
                Ok::<_, Error>((root.i32(0, 0)?, root.string(1)?.len(), root.tables(3)?.len()))
            };
            let error = read(&FILE[..length]).unwrap_err().to_string();
            assert!(error.contains("damaged"), "{error}");
        }
        for at in 0..FILE.len() {
            for flip in [1, 0x80, 0xff] {
                let mut file = FILE.to_vec();
                file[at] ^= flip;
                if let Ok(root) = Table::root(&file) {
                    let _ = (root.i32(0, 0), root.string(1), root.table(1), root.tables(3).map(|t| t.get(0)));
                }
            }
        }
    }
}
