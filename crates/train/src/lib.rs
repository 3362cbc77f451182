//! Training of 1-bit and k-bit networks.
#![deny(unsafe_code)]

pub mod data;
pub mod driver;
pub mod export;
pub mod forward;
pub mod layer;
pub mod loss;
pub mod network;
pub mod ops;
pub mod optim;
pub mod recipe;
pub mod recipes;
pub mod report;
pub mod run;
pub mod schedule;
pub mod search;
pub mod weights;
