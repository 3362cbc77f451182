//! One file for each command.

pub mod bench;
pub mod codegen;
pub mod convert;
pub mod demo;
pub mod eval;
pub mod export;
pub mod info;
pub mod run;
pub mod search;
pub mod train;

mod conv;
mod explain;
mod gemm;
mod kbit;
mod limits;
mod plot;
mod quantize;
mod single;
mod sweep;
mod tensor;
mod verify;

use anyhow::{Result, bail};
use clap::ValueEnum;

/// Where a network runs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Device {
    Cpu,
    Cuda,
    Wgpu,
}

impl Device {
    /// Name, as `--device` takes it.
    fn name(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
            Device::Wgpu => "wgpu",
        }
    }
    /// Refuses devices that this build cannot use.
    fn check(self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            other => bail!("this build has no {} backend; use --device cpu", other.name()),
        }
    }
}
