//! Writing files in one step.

use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Writes a file. An existing file is replaced in one step, or left alone when anything fails.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Error::file(path, format!("cannot be written: there is no folder {}", folder.display())));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".onebit").suffix(".tmp");
    // Temporary files are private by default; a written file is an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(folder).map_err(Error::io(path))?;
    temporary.write_all(bytes).map_err(Error::io(path))?;
    temporary.persist(path).map_err(|e| Error::io(path)(e.error))?;
    Ok(())
}
