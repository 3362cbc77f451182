//! Calls into the operating system that need `unsafe`. The rest of the crate is safe.
#![allow(unsafe_code)]

pub mod memory;
