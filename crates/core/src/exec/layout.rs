//! Ops that move elements and compute nothing but interpolations: what is prepared of them, and their formats.

use super::{view, view_mut};
use crate::bits;
use crate::ops::resize::{self, ResizeMode, Tap};
use crate::ops::{DepthToSpace, Op, Pad, Slice, Transpose, depth_to_space, pad, slice, transpose};
use crate::types::{DType, Shape, ValueType};
use alloc::vec::Vec;
use bytemuck::Pod;

/// One of the ops, ready to run.
pub(super) enum Layout {
    Transpose(Transpose),
    Slice(Slice),
    Pad(Pad),
    Resize { mode: ResizeMode, rows: Vec<Tap>, cols: Vec<Tap> },
    DepthToSpace(DepthToSpace),
}

impl Layout {
    /// Prepares an op for values of a type; `None` for ops of other kinds.
    pub fn new(op: &Op, x: ValueType) -> Option<Self> {
        Some(match op {
            Op::Transpose(t) => Layout::Transpose(*t),
            Op::Slice(s) => Layout::Slice(*s),
            Op::Pad(p) => Layout::Pad(*p),
            Op::Resize(r) => {
                let [rows, cols] = resize::taps(r, x.shape);
                Layout::Resize { mode: r.mode, rows, cols }
            }
            Op::DepthToSpace(d) => Layout::DepthToSpace(*d),
            _ => return None,
        })
    }

    /// Runs one image of type `ty`, which becomes one of shape `to`. Not once more for each instruction set: it waits for
    /// memory.
    #[inline(never)]
    pub fn run(&self, ty: ValueType, to: Shape, x: &[u64], out: &mut [u64]) {
        let (n, outputs, c) = (ty.shape.elements(), to.elements(), ty.shape.c);
        match (self, ty.dtype) {
            (Layout::Resize { mode: ResizeMode::Linear, rows, cols }, _) => {
                resize::run_linear(ty.shape, rows, cols, view(x, n), view_mut(out, outputs));
            }
            (_, DType::Bits(q)) => {
                let (planes, unit) = (q.planes(), q.planes() * bits::words(c));
                match self {
                    Layout::Transpose(t) => transpose::run_bits(t, planes, ty.shape, x, out),
                    Layout::Slice(s) => slice::run_bits(s, planes, ty.shape, x, out),
                    Layout::DepthToSpace(d) => depth_to_space::run_bits(d, planes, ty.shape, x, out),
                    Layout::Resize { rows, cols, .. } => {
                        resize::run_nearest(ty.shape, unit, rows, cols, x, out);
                    }
                    Layout::Pad(p) => {
                        let code = q.encode(p.value as i32).unwrap_or(0);
                        pad::run(p, ty.shape, unit, |i| pad::constant_word(q, code, c, i), x, out);
                    }
                }
            }
            // Bits of the padding; all else only copies, so the size of a number is all that counts.
            (_, DType::U8 | DType::I8) => {
                self.run_numbers(ty.shape, |v| v as i32 as u8, view(x, n), view_mut(out, outputs));
            }
            (_, dtype) => {
                let bits = |v: f32| if dtype == DType::I32 { v as i32 as u32 } else { v.to_bits() };
                self.run_numbers::<u32>(ty.shape, bits, view(x, n), view_mut(out, outputs));
            }
        }
    }

    fn run_numbers<T: Pod>(&self, shape: Shape, constant: impl Fn(f32) -> T, x: &[T], out: &mut [T]) {
        match self {
            Layout::Transpose(t) => transpose::run(t, shape, x, out),
            Layout::Slice(s) => slice::run(s, shape, x, out),
            Layout::DepthToSpace(d) => depth_to_space::run(d, shape, x, out),
            Layout::Resize { rows, cols, .. } => resize::run_nearest(shape, shape.c, rows, cols, x, out),
            Layout::Pad(p) => {
                let value = constant(p.value);
                pad::run(p, shape, shape.c, |_| value, x, out);
            }
        }
    }
}
