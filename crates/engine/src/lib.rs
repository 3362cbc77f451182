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
#![deny(unsafe_code)]

mod atomic;
pub mod data;
mod driver;
pub mod error;
pub mod file;
pub mod graph;
pub mod image;
pub mod import;
pub mod meta;
pub mod passes;
pub mod session;
pub mod stats;
pub mod zoo;

pub use crate::data::Dataset;
pub use crate::error::{Error, Result};
pub use crate::file::ModelFile;
pub use crate::graph::Graph;
pub use crate::image::Image;
pub use crate::meta::Meta;
pub use crate::session::{Options, Output, Session};
pub use onebit_core as core;
