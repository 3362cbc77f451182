//! Model files: safetensors files that also describe the network (`docs/format.md`).
//!
//! Opening a file maps it; constants borrow from the mapping where their bytes are aligned. Everything
//! is checked before use: a file is either a valid model or refused with one sentence, and what loading
//! allocates is a small multiple of the file's size.

mod container;
mod document;
pub mod limits;
mod load;
#[cfg(feature = "std")]
mod opened;
#[cfg(feature = "std")]
mod save;

pub use container::KEY;
pub use document::VERSION;
pub use load::load;
#[cfg(feature = "std")]
pub use opened::ModelFile;
#[cfg(feature = "std")]
pub use save::{save, to_bytes};
