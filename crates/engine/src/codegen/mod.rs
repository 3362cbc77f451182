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
pub mod c;
mod cost;
pub mod interpret;
pub mod ir;
pub mod lower;
pub mod plan;
pub mod report;
mod simplify;
pub mod target;

pub use plan::Plan;
pub use report::Report;
pub use target::Target;

use crate::error::Result;
use crate::meta::Meta;
use onebit_core::model::Model;

/// Generated source files and what is known of them.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Prefix of all names, and name of the header.
    pub name: String,
    /// What runs when, and where it lies.
    pub plan: Plan,
    /// Its figures.
    pub report: Report,
    /// The program that was printed.
    pub program: ir::Program,
    /// `NAME.h`.
    pub header: String,
    /// A program for the host that uses it.
    pub example: String,
}

/// Generates C for a model: the same model gives the same bytes.
///
/// # Errors
/// Names the layer that cannot be generated, and why.
pub fn generate(model: &Model<'_>, meta: &Meta, target: Target, name: Option<&str>) -> Result<Generated> {
    let name = c::prefix(name, meta)?;
    let plan = Plan::new(model, target)?;
    let program = lower::lower(model, &plan)?;
    let (header, example) = (c::header(&program, &plan, meta, &name), c::example(&name, &plan));
    let report = Report::new(model, &plan, &program);
    Ok(Generated { name, plan, report, program, header, example })
}
