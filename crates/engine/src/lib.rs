//! onebit imports, optimises and runs 1-bit and k-bit neural networks.
//!
//! Data flows one way: [`import`] makes a [`Graph`], [`passes`] fuse it, it becomes a
//! [`Model`](onebit_core::model::Model), which a [`file`](mod@file) keeps and a [`Session`] runs.
//!
//! ```no_run
//! use onebit::{Image, Session};
//!
//! let session = Session::open("lenet.onebit")?;
//! let output = session.run(&Image::open("digit.png")?)?;
//! println!("{}", session.class_name(output.class()));
//! # Ok::<(), onebit::Error>(())
//! ```
//!
//! Without the feature `std` it only reads model files that are in memory: [`file::load`], [`elements`], [`meta`].
#![deny(unsafe_code)]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

#[cfg(feature = "std")]
pub mod atomic;
#[cfg(feature = "std")]
pub mod codegen;
#[cfg(feature = "std")]
pub mod data;
#[cfg(feature = "std")]
mod driver;
pub mod elements;
#[cfg(feature = "std")]
pub mod error;
#[cfg(feature = "std")]
pub mod export;
pub mod file;
#[cfg(feature = "std")]
pub mod graph;
#[cfg(feature = "std")]
pub mod image;
#[cfg(feature = "std")]
pub mod import;
pub mod meta;
#[cfg(feature = "std")]
pub mod passes;
#[cfg(feature = "std")]
pub mod quantize;
#[cfg(feature = "std")]
pub mod session;
#[cfg(feature = "std")]
pub mod stats;
#[cfg(feature = "std")]
pub mod zoo;

#[cfg(feature = "std")]
pub use crate::data::Dataset;
#[cfg(feature = "std")]
pub use crate::error::{Error, Result};
#[cfg(feature = "std")]
pub use crate::file::ModelFile;
#[cfg(feature = "std")]
pub use crate::graph::Graph;
#[cfg(feature = "std")]
pub use crate::image::Image;
pub use crate::meta::Meta;
#[cfg(feature = "std")]
pub use crate::session::{Options, Output, Session};
pub use onebit_core as core;
