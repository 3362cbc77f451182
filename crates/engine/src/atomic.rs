//! Writing files in one step.

use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Writes a file. An existing file is replaced in one step, or left alone when anything fails. What is no file, such as
/// `/dev/null` or a pipe, is written to; a link stays, and what it names is written.
///
/// # Errors
/// When `path` is a folder, or is in none, or the operating system refuses.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Ok(there) = path.metadata() {
        if there.is_dir() {
            return Err(Error::file(path, "is a folder; name a file in it"));
        }
        if !there.is_file() {
            return std::fs::OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|mut f| f.write_all(bytes))
                .map_err(Error::io(path));
        }
    }
    let named = path.canonicalize();
    let path = named.as_deref().unwrap_or(path);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_refused_and_links_stay() {
        let dir = tempfile::tempdir().unwrap();
        assert!(replace(dir.path(), b"x").unwrap_err().to_string().contains("folder"));
        let file = dir.path().join("file");
        replace(&file, b"one").unwrap();
        #[cfg(unix)]
        {
            let link = dir.path().join("link");
            std::os::unix::fs::symlink(&file, &link).unwrap();
            replace(&link, b"two").unwrap();
            assert!(link.is_symlink());
            assert_eq!(std::fs::read(&file).unwrap(), b"two");
            let null = Path::new("/dev/null");
            replace(null, b"three").unwrap();
            assert!(!null.is_file());
        }
    }
}
