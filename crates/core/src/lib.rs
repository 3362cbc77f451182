//! What runs **on** the device: bit layout, ops, kernels, the model and its executor.
//!
//! The crate is `no_std`. With the feature `alloc` it can hold and prepare models; running one never
//! allocates. It parses nothing and opens nothing: files, importers and passes are in `onebit`.
//!
//! | module | holds |
//! |---|---|
//! | [`bits`] | the packing law |
//! | [`types`] | shapes and number formats |
//! | [`ops`] | one page per op: maths, shape, reference, fast path, cases |
//! | [`kernels`] | one list of microkernels, one file per instruction set |
//! | [`model`] | the deploy form of a network |
//! | [`exec`] | prepares a model for this machine and runs it |
//! | [`reference`](mod@reference) | runs a model the slow, obvious way: the specification |
#![no_std]
#![warn(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod bits;
pub mod kernels;
pub mod ops;
pub mod types;

#[cfg(feature = "alloc")]
#[doc(hidden)]
pub mod cases;
#[cfg(feature = "alloc")]
pub mod exec;
#[cfg(feature = "alloc")]
pub mod model;
#[cfg(feature = "alloc")]
pub mod reference;
#[cfg(feature = "alloc")]
pub mod team;

pub use types::{DType, Encoding, Quant, Shape, ValueType};

/// Sorts short lists, stably. The standard library's sort would be a tenth of a small program.
#[cfg(feature = "alloc")]
fn insertion_sort<T, K: Ord>(list: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..list.len() {
        let mut i = end;
        while i > 0 && key(&list[i - 1]) > key(&list[i]) {
            list.swap(i - 1, i);
            i -= 1;
        }
    }
}
