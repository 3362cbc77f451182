//! Calls into the operating system that need `unsafe`, one file each. The rest of the crate is safe.
#![allow(unsafe_code)]

pub(crate) mod map;
pub(crate) mod team;
