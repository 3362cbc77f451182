//! Numbers of tensors on the CPU as slices: read and changed in place, without intermediate tensors.

use burn::backend::Flex;
use burn::tensor::{Device, Tensor, TensorData};
use onebit::error::{Error, Result};

/// Numbers of one parameter that belong together, all slices of the same length but for moments that a rule does not have.
#[derive(Debug, Default)]
pub struct Lane<'a> {
    /// What is changed.
    pub value: &'a mut [f32],
    /// What it is changed by.
    pub gradient: &'a [f32],
    /// What is kept from step to step.
    pub moments: [&'a mut [f32]; 2],
}

/// Numbers that one thread takes at once: enough to outweigh handing them over.
const CHUNK: usize = 1 << 17;

impl Lane<'_> {
    /// Calls `f` for all numbers, in parts on several threads where there are many.
    pub fn run(self, f: &(impl Fn(Lane<'_>) + Sync)) {
        if self.value.len() <= CHUNK {
            return f(self);
        }
        // Parts begin at multiples of a vector, so that only the last has a remainder.
        let middle = (self.value.len() / 2).next_multiple_of(64);
        let (value, value2) = self.value.split_at_mut(middle);
        let (gradient, gradient2) = self.gradient.split_at(middle);
        let [(a, a2), (b, b2)] = self.moments.map(|m| m.split_at_mut(middle.min(m.len())));
        rayon::join(
            || Lane { value, gradient, moments: [a, b] }.run(f),
            || Lane { value: value2, gradient: gradient2, moments: [a2, b2] }.run(f),
        );
    }
}

/// Whether the numbers of a device's tensors can be had as slices.
pub fn is_host(device: &Device) -> bool {
    *device == Device::flex()
}

/// Takes a tensor's numbers; they are copied only if someone else holds the tensor too, or if it is a view of another.
pub fn take(tensor: Tensor<4>) -> TensorData {
    tensor.inner().into_data()
}

/// The numbers of `data` to change.
pub fn slice_mut<'a>(name: &str, data: &'a mut TensorData) -> Result<&'a mut [f32]> {
    data.as_mut_slice().map_err(|e| not_floats(name, &e))
}

/// Calls `f` with the numbers of a tensor, without a copy on the CPU.
///
/// # Errors
/// Names the tensor if they are no 32-bit floats.
pub fn read<T>(name: &str, tensor: &Tensor<4>, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.clone().inner();
    if is_host(&tensor.device()) {
        let primitive = tensor.clone().try_into_primitive::<Flex>();
        if let Some(numbers) = primitive.as_ref().ok().and_then(|p| p.as_slice::<f32>()) {
            return Ok(f(numbers));
        }
    }
    let data = tensor.into_data();
    data.as_slice().map(f).map_err(|e| not_floats(name, &e))
}

fn not_floats(name: &str, e: &impl std::fmt::Display) -> Error {
    Error::layer(name, format!("is not made of 32-bit floats: {e}"))
}
