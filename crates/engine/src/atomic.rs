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
    let mut temporary = temporary(folder).map_err(Error::io(path))?;
    temporary.write_all(bytes).map_err(Error::io(path))?;
    temporary.persist(path).map_err(|e| Error::io(path)(e.error))?;
    Ok(())
}

/// Writes a file that must not exist yet, in one step; false, and nothing is written, where it does. Of several programs that
/// create the same file one succeeds.
///
/// # Errors
/// When the folder does not exist or the operating system refuses.
pub fn create(path: &Path, bytes: &[u8]) -> Result<bool> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = temporary(folder).map_err(Error::io(path))?;
    temporary.write_all(bytes).map_err(Error::io(path))?;
    match temporary.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io(path)(e.error)),
    }
}

fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".onebit").suffix(".tmp");
    // Temporary files are private by default; a written file is an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_create_a_file_one_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        assert!(create(&file, b"one").unwrap());
        assert!(!create(&file, b"two").unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

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
