//! Training pictures: reading, splitting, augmenting, batches ahead of time.

mod augment;

pub use augment::Augment;
