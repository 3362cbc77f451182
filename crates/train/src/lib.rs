//! Training of 1-bit and k-bit networks.
#![forbid(unsafe_code)]

pub mod data;
pub mod layer;
pub mod network;
pub mod recipe;
pub mod recipes;
pub mod report;
pub mod run;
