//! What can go wrong, always in one sentence that names the file or the layer.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something was refused.
#[derive(Debug)]
pub enum Error {
    /// A file could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A layer of a network cannot be used.
    Layer {
        /// Name of the layer in its source.
        layer: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A network as a whole cannot be used.
    Model(String),
    /// An input does not fit the network, or an option does not fit this machine.
    Input(String),
}

impl Error {
    /// [`Error::Io`] for `path`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { path: path.as_ref().to_owned(), source }
    }
    /// [`Error::File`] for `path`.
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Error {
        Error::File { path: path.as_ref().to_owned(), message: message.into() }
    }
    /// [`Error::Layer`] for `layer`.
    pub fn layer(layer: impl Into<String>, message: impl Into<String>) -> Error {
        Error::Layer { layer: layer.into(), message: message.into() }
    }
    /// The same error, said of `path`.
    pub fn in_file(self, path: impl AsRef<Path>) -> Error {
        match self {
            Error::Io { .. } | Error::File { .. } => self,
            other => Error::file(path, other.to_string()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { path, source } => {
                write!(f, "{}: ", path.display())?;
                match source.kind() {
                    io::ErrorKind::NotFound => f.write_str("there is no such file or folder"),
                    io::ErrorKind::IsADirectory => f.write_str("is a folder, not a file"),
                    io::ErrorKind::NotADirectory => f.write_str("is in a file, not in a folder"),
                    io::ErrorKind::PermissionDenied => f.write_str("permission denied"),
                    _ => write!(f, "{source}"),
                }
            }
            Error::File { path, message } => write!(f, "{}: {message}", path.display()),
            Error::Layer { layer, message } => write!(f, "layer '{layer}': {message}"),
            Error::Model(message) | Error::Input(message) => f.write_str(message),
        }
    }
}

// The message says all: `source` would make callers print it twice.
impl std::error::Error for Error {}

impl From<onebit_core::model::Error> for Error {
    fn from(e: onebit_core::model::Error) -> Self {
        Error::Model(e.0)
    }
}
