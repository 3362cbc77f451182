//! Words on 64-byte boundaries, so that no vector load of a weight panel splits a cache line.
#![cfg_attr(not(feature = "alloc"), allow(dead_code))]

/// One cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u64; 8]);

// SAFETY: `Line` is 64 bytes of `u64` without padding (8 * 8 = its alignment), every bit pattern is valid.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above; it is `Copy`, `'static` and has no interior mutability.
unsafe impl bytemuck::Pod for Line {}

/// A zeroed, 64-byte aligned array of words.
#[cfg(feature = "alloc")]
pub struct Aligned {
    lines: alloc::vec::Vec<Line>,
    len: usize,
}

#[cfg(feature = "alloc")]
impl Aligned {
    /// `len` words of 0.
    pub fn zeroed(len: usize) -> Self {
        Aligned { lines: alloc::vec![Line([0; 8]); len.div_ceil(8)], len }
    }
    /// The same memory as floats, two for each word.
    pub fn as_f32(&self) -> &[f32] {
        bytemuck::cast_slice(self)
    }
    /// The same memory as floats, two for each word.
    pub fn as_f32_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self)
    }
}

#[cfg(feature = "alloc")]
impl core::ops::Deref for Aligned {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}
#[cfg(feature = "alloc")]
impl core::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}
