//! Differentiable ops. Each page has the maths, the plain form in Burn's tensor ops, which is the specification and runs on
//! GPUs, and the fused form for the CPU.

pub mod act;
pub mod host;
pub mod linear;
pub mod norm;
pub mod pool;
#[cfg(test)]
mod tests;
mod vector;
