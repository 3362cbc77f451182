//! Read-only mapping of a file into memory.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;

/// Maps the regular file at `path`.
///
/// **Do not change a file in place while it is mapped.** If another program truncates it, reading beyond
/// its new end ends the process (SIGBUS on Unix); if another program overwrites it, the mapped bytes
/// change. Replacing the file by a rename, as [`save`](crate::file::save) does, is harmless: the
/// mapping keeps the old one. No check can exclude the former, so a mapping should live only as long as
/// it takes to prepare a model; an executor owns copies of all it needs.
///
/// # Errors
/// When the file cannot be opened or is a folder, pipe or device.
pub(crate) fn map(path: &Path) -> io::Result<Mmap> {
    // Before `open`, which would wait for the other end of a pipe.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a file"));
    }
    let file = File::open(path)?;
    // SAFETY: the mapping is read-only, `is_file` above has excluded devices, and this crate never writes into an existing model file. That no other program changes the file meanwhile is the
    // documented duty of the caller. Even then no kernel goes astray: all types of the contents
    // (u8, u32, u64, f32) allow every bit pattern, slices have the mapped length, and kernels read only
    // the packed copies that an executor owns.
    unsafe { Mmap::map(&file) }
}
