//! Training pictures: reading, splitting, changing at random, batches ahead of time.
//!
//! ```text
//! Source ----split----> indices ----epoch----> Batches: Batch, Batch, ...
//! (pictures, labels)    (training, validation) (shuffled, augmented, normalised; made by a thread ahead of time)
//! ```
//!
//! * A [`Source`] is a [`Dataset`](onebit::Dataset) with what training needs besides: parts that agree on their classes, and a
//!   hash. Picture files are read when they are needed, never all at once.
//! * Everything random is decided by seed, epoch and picture alone, so the number of threads and where a run was resumed do
//!   not show in the result.
//! * Pictures stay bytes until the last step, which is the engine's `(pixel - mean) / std` in single precision: what the
//!   network is trained on is bit for bit what [`Session`](onebit::session::Session) feeds it later.
//! * A picture that cannot be used is left out and named in its batch, see [`Batch::damaged`].

mod augment;
mod batches;
mod random;
mod source;
mod split;
#[cfg(test)]
mod tests;

pub use augment::{Augment, Change};
pub use batches::{Batch, Batches, Options, epoch, steps};
pub(crate) use random::{Purpose, Random};
pub use source::Source;
pub use split::split;
