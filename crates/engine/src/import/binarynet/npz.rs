//! NumPy's `.npz`: a ZIP archive of `.npy` arrays, stored or deflated.
//!
//! The size that the header of an array says, the size that the directory says and the size that there is must be the
//! same, and are compared before anything of that size is kept.

use crate::data::npy::{self, Array};
use flate2::bufread::DeflateDecoder;
use rawzip::{CompressionMethod, ZipArchive};
use std::io::Read;

/// An array of an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Name of the entry, without `.npy`.
    pub name: String,
    /// Shape and elements.
    pub array: Array,
}

/// Most arrays of an archive.
const MAX_ARRAYS: usize = 4096;
/// Longest name, in bytes.
const MAX_NAME: usize = 256;
/// Longest header of an array: NumPy writes 118 bytes for a plain one.
const MAX_HEADER: usize = 4096;
/// Arrays of weights that are all +1 or -1 deflate to a sixteenth; these are the bytes per byte of the file, beyond
/// [`FREE`], that an archive may hold.
const MAX_RATIO: usize = 64;
/// Bytes that an archive may hold however small it is.
const FREE: usize = 1 << 20;

/// True if `start`, the first bytes of a file, are those of such an archive.
pub fn is_npz(start: &[u8]) -> bool {
    // The first local header: 30 bytes, of which the 27th and 28th are the length of the name that follows.
    let Some(length) = start.get(26..28).filter(|_| start.starts_with(b"PK\x03\x04")) else { return false };
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    start.get(30..30 + length).is_some_and(|name| name.ends_with(b".npy"))
}

/// The arrays of an archive: by number where all are called `arr_` and a number, else in the order of its directory.
///
/// # Errors
/// Says which array is wrong, and how.
pub fn parse(bytes: &[u8]) -> Result<Vec<Named>, String> {
    let archive = ZipArchive::from_slice(bytes).map_err(|e| format!("is no ZIP archive: {e}"))?;
    let damaged = |e: rawzip::Error| format!("has a damaged directory: {e}");
    let mut budget = bytes.len().saturating_mul(MAX_RATIO).saturating_add(FREE);
    let mut all = Vec::new();
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        if all.len() == MAX_ARRAYS {
            return Err(format!("has more than {MAX_ARRAYS} arrays"));
        }
        let path = entry.file_path();
        let name = path.as_bytes().get(..MAX_NAME).unwrap_or(path.as_bytes());
        let name = String::from_utf8_lossy(name).replace(char::is_control, "?");
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else {
            return Err(format!("holds '{name}', which is no .npy array"));
        };
        let content = content(&archive, &entry, budget).map_err(|e| format!("its array '{name}' {e}"))?;
        budget -= content.len();
        let array = npy::parse(&content).map_err(|e| format!("its array '{name}' {e}"))?;
        all.push(Named { name, array });
    }
    let number = |n: &Named| n.name.strip_prefix("arr_")?.parse::<usize>().ok();
    if all.iter().all(|n| number(n).is_some()) {
        all.sort_by_key(|n| number(n));
    }
    if let Some(twice) = all.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(format!("holds the array '{}' twice", twice[0].name));
    }
    Ok(all)
}

/// The bytes of an entry, no more than `budget`.
fn content(
    archive: &rawzip::ZipSliceArchive<&[u8]>,
    entry: &rawzip::ZipFileHeaderRecord<'_>,
    budget: usize,
) -> Result<Vec<u8>, String> {
    let found = archive.get_entry(entry.wayfinder()).map_err(|e| format!("is damaged: {e}"))?;
    let claimed = found.claim_verifier().uncompressed_size;
    if claimed > budget as u64 {
        return Err(format!(
            "claims to hold {claimed} bytes, far more than the file; no trained network does"
        ));
    }
    if entry.flags().is_encrypted() {
        return Err("is encrypted, which is not supported".into());
    }
    let mut stored = found.data();
    let mut inflated;
    let source: &mut dyn Read = match entry.compression_method() {
        CompressionMethod::STORE => &mut stored,
        CompressionMethod::DEFLATE => {
            inflated = DeflateDecoder::new(stored);
            &mut inflated
        }
        other => return Err(format!("is compressed by method {}; save it with numpy.savez", other.as_u16())),
    };
    let mut reader = found.verifying_reader(source).take(claimed.saturating_add(1));
    let damaged = |e: std::io::Error| format!("is damaged: {e}");
    let mut bytes = Vec::new();
    reader.by_ref().take(MAX_HEADER as u64).read_to_end(&mut bytes).map_err(damaged)?;
    let length = npy::length(&bytes)?;
    if length as u64 != claimed {
        return Err(format!("needs {length} bytes by its header, but has {claimed}"));
    }
    // The reader compares what it reads with what the directory claims.
    reader.read_to_end(&mut bytes).map_err(damaged)?;
    Ok(bytes)
}
