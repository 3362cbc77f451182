//! Devices by name.

use crate::forward::Form;
use burn::tensor::Device;
use onebit::error::{Error, Result};

/// The devices called `names`, and how ops run on them.
///
/// # Errors
/// Says what this build can use.
pub fn choose(names: &[String]) -> Result<(Form, Vec<Device>)> {
    if names.is_empty() || names.iter().all(|n| n == "cpu") {
        return Ok((Form::Fused, vec![Device::flex(); names.len().max(1)]));
    }
    let devices = names.iter().map(|n| gpu(n)).collect::<Result<Vec<_>>>()?;
    Ok((Form::Plain, devices))
}

fn gpu(name: &str) -> Result<Device> {
    let (kind, number) = name.split_once(':').unwrap_or((name, "0"));
    let number: usize =
        number.parse().map_err(|_| Error::Input(format!("device '{name}': '{number}' is no number")))?;
    match kind {
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(number))),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(number))),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(number)),
        "cpu" => Err(Error::Input("the CPU cannot be one of several devices that differ".into())),
        "vulkan" | "wgpu" | "cuda" => Err(Error::Input(format!(
            "device '{name}' needs a build with the feature `{kind}` (device {number}); this one has the CPU"
        ))),
        _ => {
            Err(Error::Input(format!("device '{name}' is unknown: known are cpu, vulkan:N, wgpu:N, cuda:N")))
        }
    }
}
