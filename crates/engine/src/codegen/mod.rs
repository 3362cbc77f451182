//! Code for microcontrollers: a model becomes one self-contained source file.
//!
//! ```text
//! Model --plan--> Plan (stages, rows, offsets) --lower--> Program (ir) --c--> header
//!                                                            |
//!                                                       interpret (tests), cost
//! ```
//! [`plan`] says what runs when and where it lies, [`lower`] writes loops with every shape folded in, [`c`] prints them.
//! The output equals the reference bit for bit. Sources: eBNN (McDanel et al. 2017) for pooling after binarisation,
//! row by row execution as in MCUNet's patches (Lin et al. 2021) and FINN's sliding windows.

mod build;
pub mod interpret;
pub mod ir;
pub mod lower;
pub mod plan;
pub mod target;

pub use plan::Plan;
pub use target::Target;
