//! Convolution of integer activations with 1- to 8-bit weights: the heart of the project.
//!
//! ```text
//! acc[y][x][n] = sum over taps t and channels c of  w[n][t][c] * x[pixel(y, x, t)][c]
//! out          = transform(acc)
//! ```
//! A tap in the padding reads `pad_value`; 0 leaves the tap out exactly. Group `g` of the output
//! channels reads only the channels of group `g`. Weights are rows of `(ky, kx, c)` elements.
//!
//! **Two fast paths.** `planes`: every value is a sum over planes of +-1, `v = (sum_i p_i * s_i + e) / 2`
//! ([`crate::Quant::plane_weight`]). A product of any two formats is therefore a combination of binary
//! products of planes, and one microkernel (`kernels::bgemm`) serves all of them. `bytes`: from about six products of
//! planes on, values that are decoded to bytes are multiplied faster (`kernels::igemm`); a map of bytes is read as it is.
//!
//! On both, the map is lowered to one column (of words) or row (of bytes) for each output pixel (im2col). Padding reads
//! as a fixed code, and the difference to the true padding value is one number per channel and *border class* (which rows
//! and columns of the kernel lie outside). Where the output has few levels, that number goes into the limits that the
//! kernel compares with, and the mask of the comparison is the next layer's bits; else it is added after the kernel.
//!
//! Sources: XNOR and popcount, Courbariaux et al. 2016; border correction as in LCE; thresholds as in
//! FINN; prefix parity is ours.

use super::Window;
use crate::types::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct BConv2d {
    /// The sliding window.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// What a tap in the padding reads: 0 (left out), +1 or -1.
    pub pad_value: i32,
    /// Output format; `i32` takes no constants, `f32` takes `center`, `scale` and `bias`, bits take
    /// `thresholds` and `flips`.
    pub output: DType,
}

#[cfg(feature = "alloc")]
mod border;
#[cfg(feature = "alloc")]
mod bytes;
#[cfg(feature = "alloc")]
mod levels;
#[cfg(feature = "alloc")]
mod lower;
#[cfg(feature = "alloc")]
mod lower_bytes;
#[cfg(feature = "alloc")]
mod planes;
#[cfg(feature = "alloc")]
mod prepared;
#[cfg(feature = "alloc")]
pub use {prepared::Prepared, with_alloc::*};

#[cfg(feature = "alloc")]
mod with_alloc {
    use super::border;
    use super::*;
    use crate::bits;
    use crate::cases::{Case, Rng, formats, map};
    use crate::model::{Error, MAX_ACCUMULATOR, Params, Tensor, per_channel};
    use crate::ops::Op;
    use crate::ops::transform::{Transform, affine, level};
    use crate::reference::Values;
    use crate::types::{Encoding, Quant, Shape, ValueType};
    use alloc::format;
    use alloc::vec::Vec;

    /// Type of the output.
    pub fn infer(conv: &BConv2d, x: ValueType, params: &Params<Tensor<'_>>) -> Result<ValueType, Error> {
        let Some(xq) = x.dtype.quant() else {
            return Err(Error(format!("needs bits or bytes as input, not {}", x.dtype)));
        };
        if !(-1..=1).contains(&conv.pad_value) {
            return Err("has a padding value other than -1, 0 and 1".into());
        }
        let out = conv.window.filter(x.shape, conv.groups, params)?;
        let Some((wq, k)) = params.weight.as_ref().and_then(|w| Some((w.as_bits()?.0, w.cols))) else {
            return Err("needs bit-packed weights".into());
        };
        let largest = |q: Quant| i64::from(q.max().max(-q.min()));
        if largest(xq) * largest(wq) * k as i64 > MAX_ACCUMULATOR {
            return Err(Error(format!("could overflow its accumulator with {k} taps")));
        }
        check_transform(conv.output, out, params)?;
        border::check_border(&conv.window, x.shape, out)?;
        Ok(ValueType::new(out, conv.output))
    }

    /// Checks the constants of an output transform.
    fn check_transform(output: DType, out: Shape, params: &Params<Tensor<'_>>) -> Result<(), Error> {
        let affine = [&params.center, &params.scale, &params.bias];
        match output {
            DType::F32 => {
                for (role, t) in ["center", "scale", "bias"].iter().zip(affine) {
                    per_channel(role, t.as_ref(), out)?;
                }
            }
            _ if affine.iter().any(|t| t.is_some()) => {
                return Err("has a scale, but its output is no float".into());
            }
            DType::Bits(q) => return crate::ops::threshold::check(q, out, params, DType::I32),
            DType::I32 => {}
            other => return Err(Error(format!("cannot put out {other}"))),
        }
        if params.thresholds.is_some() || params.flips.is_some() {
            return Err("has thresholds, but its output is not bits".into());
        }
        Ok(())
    }

    /// The specification.
    pub fn reference(
        conv: &BConv2d,
        x: ValueType,
        v: &Values,
        params: &Params<Tensor<'_>>,
        out: ValueType,
    ) -> Values {
        let weight = params.weight.as_ref().expect("checked by infer");
        let w = weight.to_i32().expect("checked by infer");
        let (v, owned) = (v.int(), OwnedTransform::new(conv.output, params, out.shape.c));
        let (ng, cg) = (out.shape.c / conv.groups, x.shape.c / conv.groups);
        let mut ints = Vec::new();
        let mut floats = Vec::new();
        for oy in 0..out.shape.h {
            for ox in 0..out.shape.w {
                for n in 0..out.shape.c {
                    let mut acc = 0i32;
                    conv.window.for_each_tap(x.shape, oy, ox, |tap, pixel| {
                        for c in 0..cg {
                            let value = match pixel {
                                Some(p) => v[p * x.shape.c + n / ng * cg + c],
                                None => conv.pad_value,
                            };
                            acc += w[n * weight.cols + tap * cg + c] * value;
                        }
                    });
                    match owned.view() {
                        Transform::I32 => ints.push(acc),
                        Transform::F32 { center, scale, bias } => {
                            floats.push(affine(acc as f32, center[n], scale[n], bias[n]));
                        }
                        Transform::Levels { quant, thresholds, flips } => {
                            let steps = quant.levels() - 1;
                            let t = &thresholds[n * steps..][..steps];
                            ints.push(quant.value_of_level(level(acc, t, bits::get(flips, n))));
                        }
                    }
                }
            }
        }
        if out.dtype == DType::F32 { Values::F32(floats) } else { Values::Int(ints) }
    }

    /// The constants of an output transform, complete and owned.
    pub(crate) struct OwnedTransform {
        output: DType,
        floats: [Vec<f32>; 3],
        thresholds: Vec<i32>,
        pub(crate) flips: Vec<u64>,
    }

    impl OwnedTransform {
        pub(crate) fn new(output: DType, params: &Params<Tensor<'_>>, n: usize) -> Self {
            let floats = |t: &Option<Tensor<'_>>, default| {
                t.as_ref().and_then(|t| t.as_f32()).map_or(alloc::vec![default; n], <[f32]>::to_vec)
            };
            OwnedTransform {
                output,
                floats: [floats(&params.center, 0.0), floats(&params.scale, 1.0), floats(&params.bias, 0.0)],
                thresholds: params
                    .thresholds
                    .as_ref()
                    .and_then(|t| t.as_i32())
                    .map_or(Vec::new(), <[i32]>::to_vec),
                flips: params
                    .flips
                    .as_ref()
                    .and_then(|t| t.as_bits())
                    .map_or(alloc::vec![0; bits::words(n)], |(_, w)| w.to_vec()),
            }
        }
        /// Sorts the thresholds of each channel: how many are reached does not depend on their order.
        pub(super) fn sort(&mut self, steps: usize) {
            for thresholds in self.thresholds.chunks_exact_mut(steps) {
                // Almost always in order already.
                crate::insertion_sort(thresholds, |t| *t);
            }
        }
        pub(crate) fn view(&self) -> Transform<'_> {
            match self.output {
                DType::Bits(quant) => {
                    Transform::Levels { quant, thresholds: &self.thresholds, flips: &self.flips }
                }
                DType::F32 => {
                    let [center, scale, bias] = &self.floats;
                    Transform::F32 { center, scale, bias }
                }
                _ => Transform::I32,
            }
        }
    }

    /// Random constants for an output format.
    pub(crate) fn random_transform(
        rng: &mut Rng,
        params: &mut Params<Tensor<'static>>,
        output: DType,
        n: usize,
        spread: i32,
    ) {
        match output {
            DType::F32 => {
                params.center = Some(Tensor::f32(rng.floats(n, -4.0, 4.0)));
                params.scale = Some(Tensor::f32(rng.floats(n, -1.0, 1.0)));
                params.bias = Some(Tensor::f32(rng.floats(n, -4.0, 4.0)));
            }
            DType::Bits(q) => {
                params.thresholds = Some(rng.thresholds(n, q.levels() - 1, spread));
                params.flips = Some(rng.flags(n));
            }
            _ => {}
        }
    }

    /// Shapes, formats, paddings and borders that must all equal the reference.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut rng = Rng::new(1);
        let mut add = |name: &str, x: ValueType, n: usize, conv: BConv2d, wq: Quant| {
            let mut case = Case::new(name, Op::BConv2d(conv), &[x]);
            let k = conv.window.taps() * x.shape.c / conv.groups;
            case.params.weight = Some(rng.weights(n, k, wq));
            random_transform(&mut rng, &mut case.params, conv.output, n, 12);
            cases.push(case);
        };
        let conv = |window, pad_value, output| BConv2d { window, groups: 1, pad_value, output };
        let bit = |h, w, c| map(h, w, c, DType::BIT);
        for c in [1, 3, 63, 64, 65, 128, 192, 257] {
            for output in [DType::I32, DType::BIT, DType::F32] {
                let name = format!("{c} channels to {output}");
                add(&name, bit(5, 6, c), 19, conv(Window::square(3, 1, 1), 0, output), Quant::BIT);
            }
        }
        for (kernel, stride, pad) in
            [(1, 1, 0), (1, 2, 0), (2, 2, 1), (3, 2, 1), (3, 3, 2), (5, 1, 2), (7, 2, 3), (4, 1, 3)]
        {
            for pad_value in [0, 1, -1] {
                let name = format!("kernel {kernel} stride {stride} pad {pad} of {pad_value}");
                let window = Window::square(kernel, stride, pad);
                for output in [DType::I32, DType::BIT] {
                    add(&name, bit(9, 7, 40), 33, conv(window, pad_value, output), Quant::BIT);
                    add(&name, map(9, 7, 5, DType::U8), 33, conv(window, pad_value, output), Quant::BIT);
                }
            }
        }
        let odd = Window { kernel: [3, 2], stride: [2, 1], dilation: [2, 3], pad: [1, 0, 3, 2] };
        let ready = BConv2d { groups: 2, ..conv(Window::square(1, 2, 0), 0, DType::I32) };
        add("groups of whole words", bit(3, 5, 128), 6, ready, Quant::BIT);
        let (wide, four) = (Quant::new(8, Encoding::Signed), DType::Bits(Quant::new(4, Encoding::Unsigned)));
        let grouped = BConv2d { groups: 3, ..conv(Window::square(3, 1, 1), 1, DType::I32) };
        add("groups of planes as bytes", map(3, 4, 24, four), 9, grouped, wide);
        for x in [DType::BIT, DType::I8] {
            add("dilated, uneven", map(11, 9, 70, x), 21, conv(odd, 0, DType::BIT), Quant::BIT);
            let slow = conv(Window::square(3, 1, 1), 1, DType::BIT);
            add("several bands", map(40, 2, 1920, x), 2, slow, Quant::BIT);
            let many = conv(Window::square(1, 1, 0), 0, DType::Bits(Quant::new(5, Encoding::Signed)));
            add("many levels", map(2, 2, 20, x), 70, many, Quant::BIT);
        }
        add("long rows", bit(2, 2, 5000), 5, conv(Window::square(2, 1, 0), 0, DType::I32), Quant::BIT);
        add(
            "one pixel, one filter",
            bit(1, 1, 1),
            1,
            conv(Window::square(1, 1, 0), 0, DType::BIT),
            Quant::BIT,
        );
        for (groups, c, n) in [(2, 128, 32), (3, 15, 9), (4, 256, 64), (8, 8, 8), (2, 400, 4)] {
            for output in [DType::BIT, DType::I32] {
                let grouped = BConv2d { groups, ..conv(Window::square(3, 1, 1), 0, output) };
                add(&format!("{groups} groups of {c}"), bit(4, 5, c), n, grouped, Quant::BIT);
            }
        }
        // The widest weights do not fit into bytes.
        let eight = |encoding| Quant::new(8, encoding);
        for wq in formats().into_iter().chain([eight(Encoding::Unsigned), eight(Encoding::Bipolar)]) {
            for xq in
                formats().into_iter().chain([eight(Encoding::Bipolar), Quant::new(7, Encoding::Bipolar)])
            {
                let output = [DType::I32, DType::BIT, DType::Bits(Quant::TERNARY)][xq.planes() % 3];
                let name = format!("w {} a {}", DType::Bits(wq), DType::Bits(xq));
                let x = map(4, 5, 37, DType::Bits(xq));
                add(&name, x, 18, conv(Window::square(3, 1, 1), 0, output), wq);
            }
            for bytes in [DType::U8, DType::I8] {
                let name = format!("w {} on {bytes}", DType::Bits(wq));
                let c = conv(Window::square(3, 1, 1), [-1, 0, 1][wq.planes() % 3], DType::I32);
                add(&name, map(6, 5, 3, bytes), 18, c, wq);
            }
        }
        let two = Quant::new(2, Encoding::Unsigned);
        for q in [
            Quant::new(1, Encoding::Unsigned),
            two,
            Quant::new(2, Encoding::Bipolar),
            Quant::new(3, Encoding::Signed),
            Quant::TERNARY,
        ] {
            let name = format!("to {}", DType::Bits(q));
            add(&name, bit(4, 4, 66), 70, conv(Window::square(3, 1, 1), 1, DType::Bits(q)), Quant::BIT);
        }
        for output in [DType::I32, DType::BIT, DType::F32, DType::Bits(two)] {
            for (h, c, groups, n) in [(6, 3, 1, 70), (3, 3, 1, 70), (6, 6, 2, 10), (2, 6, 3, 9)] {
                for (x, pad_value) in [(DType::U8, 1), (DType::I8, -1), (DType::Bits(two), 1)] {
                    let name = format!("{x} {h}x{h}x{c} in {groups} groups to {output}");
                    let grouped = BConv2d { groups, ..conv(Window::square(3, 1, 1), pad_value, output) };
                    add(&name, map(h, h, c, x), n, grouped, Quant::TERNARY);
                }
            }
        }
        cases.extend(ends());
        cases.push(beyond_floats());
        cases
    }

    /// Sums of bytes that a float cannot hold: odd, and above 2^24.
    fn beyond_floats() -> Case {
        let conv = BConv2d { window: Window::square(1, 1, 0), groups: 1, pad_value: 0, output: DType::I32 };
        let mut case = Case::new("beyond floats", Op::BConv2d(conv), &[map(4, 4, 999, DType::U8)]);
        let wide = Quant::new(8, Encoding::Signed);
        case.params.weight = Some(Tensor::bits(3, 999, wide, |r, _| [127, -127, 1][r]));
        case
    }

    /// Filters of equal weights with thresholds around the smallest and the largest accumulator: a limit that is
    /// off by one or rounds the wrong way shows only here.
    fn ends() -> Vec<Case> {
        let k = 35;
        let thresholds: Vec<i32> =
            (-k - 3..=3 - k).chain(-3..=3).chain(k - 3..=k + 3).flat_map(|t| [t, t]).collect();
        let n = thresholds.len();
        [false, true]
            .map(|flip| {
                let conv =
                    BConv2d { window: Window::square(1, 1, 0), groups: 1, pad_value: 0, output: DType::BIT };
                let x = map(3, 3, k as usize, DType::BIT);
                let mut case = Case::new(&format!("ends, flip {flip}"), Op::BConv2d(conv), &[x]);
                case.params.weight =
                    Some(Tensor::bits(n, k as usize, Quant::BIT, |r, _| if r % 2 == 0 { 1 } else { -1 }));
                case.params.thresholds = Some(Tensor::i32_matrix(n, 1, thresholds.clone()));
                case.params.flips = Some(Tensor::flags(&alloc::vec![flip; n]));
                case
            })
            .into()
    }
}
