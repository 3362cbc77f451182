//! A training run.

pub mod record;
