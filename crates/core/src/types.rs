//! What a value is: shape, number format, and how it lies in memory.
//!
//! Activations are NHWC. One image of a bit-packed value is `h * w` pixels of `planes` rows of
//! `words(c)` words: `[h][w][plane][word]`. All other formats are plain `[h][w][c]` arrays.

use crate::bits;
use core::fmt;
use core::str::FromStr;

/// Shape of one image: height, width, channels. A vector is `1 x 1 x c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "[usize; 3]", from = "[usize; 3]"))]
pub struct Shape {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// `h x w x c`.
    pub const fn new(h: usize, w: usize, c: usize) -> Self {
        Shape { h, w, c }
    }
    /// A vector of `c` elements.
    pub const fn vector(c: usize) -> Self {
        Shape { h: 1, w: 1, c }
    }
    /// Number of pixels.
    pub const fn pixels(&self) -> usize {
        self.h * self.w
    }
    /// Number of elements.
    pub const fn elements(&self) -> usize {
        self.h * self.w * self.c
    }
    /// Number of elements, or `None` when it overflows.
    pub fn checked_elements(&self) -> Option<usize> {
        self.h.checked_mul(self.w)?.checked_mul(self.c)
    }
}

impl From<Shape> for [usize; 3] {
    fn from(s: Shape) -> Self {
        [s.h, s.w, s.c]
    }
}
impl From<[usize; 3]> for Shape {
    fn from([h, w, c]: [usize; 3]) -> Self {
        Shape { h, w, c }
    }
}
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.h == 1 && self.w == 1 {
            write!(f, "{}", self.c)
        } else {
            write!(f, "{}x{}x{}", self.h, self.w, self.c)
        }
    }
}

/// How the levels of a `bits`-wide code are read as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Odd numbers `2u - (2^bits - 1)`: one bit gives -1/+1, two bits give -3, -1, +1, +3.
    Bipolar,
    /// `0 ..= 2^bits - 1`.
    Unsigned,
    /// Two's complement, `-2^(bits-1) ..= 2^(bits-1) - 1`.
    Signed,
    /// Two's complement in two bits, only -1, 0, +1 occur.
    Ternary,
}

/// Number format of a bit-packed tensor: 1 to 8 bit planes and their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quant {
    /// Bit planes, 1 to 8.
    pub bits: u8,
    /// Meaning of the code.
    pub encoding: Encoding,
}

impl Quant {
    /// The +1/-1 format.
    pub const BIT: Quant = Quant { bits: 1, encoding: Encoding::Bipolar };
    /// -1, 0, +1.
    pub const TERNARY: Quant = Quant { bits: 2, encoding: Encoding::Ternary };

    /// `bits` planes of `encoding`.
    pub const fn new(bits: u8, encoding: Encoding) -> Self {
        Quant { bits, encoding }
    }
    /// True for the +1/-1 format.
    pub fn is_bit(self) -> bool {
        self == Quant::BIT
    }
    /// Number of planes.
    pub const fn planes(self) -> usize {
        self.bits as usize
    }
    /// Number of distinct values.
    pub const fn levels(self) -> usize {
        match self.encoding {
            Encoding::Ternary => 3,
            _ => 1 << self.bits,
        }
    }
    /// Smallest value.
    pub const fn min(self) -> i32 {
        match self.encoding {
            Encoding::Bipolar => -((1 << self.bits) - 1),
            Encoding::Unsigned => 0,
            Encoding::Signed => -(1 << (self.bits - 1)),
            Encoding::Ternary => -1,
        }
    }
    /// Distance between neighbouring values.
    pub const fn step(self) -> i32 {
        match self.encoding {
            Encoding::Bipolar => 2,
            _ => 1,
        }
    }
    /// Largest value.
    pub const fn max(self) -> i32 {
        self.value_of_level(self.levels() - 1)
    }
    /// Value of the `level`-th smallest code.
    pub const fn value_of_level(self, level: usize) -> i32 {
        self.min() + self.step() * level as i32
    }
    /// Stored code (plane `i` holds bit `i`) of the `level`-th smallest value.
    pub const fn code_of_level(self, level: usize) -> u32 {
        match self.encoding {
            Encoding::Bipolar | Encoding::Unsigned => level as u32,
            _ => (self.min() + level as i32) as u32 & ((1 << self.bits) - 1),
        }
    }
    /// Level of a stored code.
    pub const fn level_of_code(self, code: u32) -> usize {
        ((self.decode(code) - self.min()) / self.step()) as usize
    }
    /// Value of a stored code.
    pub const fn decode(self, code: u32) -> i32 {
        match self.encoding {
            Encoding::Bipolar => 2 * code as i32 - ((1 << self.bits) - 1),
            Encoding::Unsigned => code as i32,
            Encoding::Signed | Encoding::Ternary => {
                let shift = 32 - self.bits as u32;
                ((code << shift) as i32) >> shift
            }
        }
    }
    /// Code of `value`, or `None` when this format cannot hold it.
    pub fn encode(self, value: i32) -> Option<u32> {
        let level = value.checked_sub(self.min())?;
        if level < 0 || level % self.step() != 0 || level / self.step() >= self.levels() as i32 {
            return None;
        }
        Some(self.code_of_level((level / self.step()) as usize))
    }
    /// Adds one step to the levels of 64 numbers, kept as bit planes: those whose bit in `reached` is set rise by one.
    #[inline]
    pub fn raise(levels: &mut [u64; 8], mut reached: u64) {
        for plane in levels {
            (*plane, reached) = (*plane ^ reached, *plane & reached);
        }
    }
    /// Turns the levels of 64 numbers into their codes, both as bit planes.
    #[inline]
    pub fn encode_levels(self, levels: &mut [u64; 8]) {
        match self.encoding {
            Encoding::Bipolar | Encoding::Unsigned => {}
            // Two's complement of `level - 2^(bits-1)`: the top bit is inverted.
            Encoding::Signed => levels[self.planes() - 1] ^= !0,
            // Levels 0, 1, 2 are codes 11, 00, 01.
            Encoding::Ternary => (levels[0], levels[1]) = (!levels[0], !levels[0] & !levels[1]),
        }
    }
    /// With `s_i = +-1` for plane `i`, a value is `(sum_i plane_weight(i) * s_i + plane_offset()) / 2`.
    pub const fn plane_weight(self, plane: usize) -> i32 {
        match self.encoding {
            Encoding::Bipolar => 2 << plane,
            Encoding::Unsigned => 1 << plane,
            Encoding::Signed | Encoding::Ternary => {
                let w = 1 << plane;
                if plane + 1 == self.bits as usize { -w } else { w }
            }
        }
    }
    /// See [`Quant::plane_weight`].
    pub const fn plane_offset(self) -> i32 {
        match self.encoding {
            Encoding::Bipolar => 0,
            Encoding::Unsigned => (1 << self.bits) - 1,
            Encoding::Signed | Encoding::Ternary => -1,
        }
    }
}

/// Number format of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "alloc::string::String", try_from = "alloc::string::String"))]
pub enum DType {
    /// Bit-packed, 1 to 8 planes.
    Bits(Quant),
    /// Bytes 0..=255.
    U8,
    /// Bytes -128..=127.
    I8,
    /// 32-bit integers: accumulators and sums of them.
    I32,
    /// IEEE single precision.
    F32,
}

impl DType {
    /// The +1/-1 format.
    pub const BIT: DType = DType::Bits(Quant::BIT);

    /// The format as bit planes, for everything integer that a binary kernel can read.
    pub fn quant(self) -> Option<Quant> {
        match self {
            DType::Bits(q) => Some(q),
            DType::U8 => Some(Quant::new(8, Encoding::Unsigned)),
            DType::I8 => Some(Quant::new(8, Encoding::Signed)),
            DType::I32 | DType::F32 => None,
        }
    }
    /// True for all formats but `F32`.
    pub fn is_integer(self) -> bool {
        self != DType::F32
    }
    /// Bytes of one image; the largest number where a 32-bit target cannot count them.
    pub fn bytes(self, shape: Shape) -> usize {
        match self {
            DType::Bits(q) => {
                shape.pixels().saturating_mul(q.planes() * bits::words(shape.c)).saturating_mul(8)
            }
            DType::U8 | DType::I8 => shape.elements(),
            DType::I32 | DType::F32 => shape.elements() * 4,
        }
    }
}

/// `bit`, `ternary`, `u2`..`u8`, `s2`..`s8` (signed planes), `b2`..`b8` (bipolar planes), `bytes-u8`, `bytes-i8`, `i32`, `f32`.
impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DType::Bits(Quant::BIT) => f.write_str("bit"),
            DType::Bits(q) => match q.encoding {
                Encoding::Bipolar => write!(f, "b{}", q.bits),
                Encoding::Unsigned => write!(f, "u{}", q.bits),
                Encoding::Signed => write!(f, "s{}", q.bits),
                Encoding::Ternary => f.write_str("ternary"),
            },
            DType::U8 => f.write_str("bytes-u8"),
            DType::I8 => f.write_str("bytes-i8"),
            DType::I32 => f.write_str("i32"),
            DType::F32 => f.write_str("f32"),
        }
    }
}

impl FromStr for DType {
    type Err = &'static str;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let planes = |min: u8, encoding| match s[1..].parse::<u8>() {
            Ok(n) if (min..=8).contains(&n) => Ok(DType::Bits(Quant::new(n, encoding))),
            _ => Err("a number format has 1 to 8 bit planes"),
        };
        match s {
            "bit" => Ok(DType::BIT),
            "ternary" => Ok(DType::Bits(Quant::TERNARY)),
            "bytes-u8" => Ok(DType::U8),
            "bytes-i8" => Ok(DType::I8),
            "i32" => Ok(DType::I32),
            "f32" => Ok(DType::F32),
            _ if s.starts_with('b') && s.is_ascii() => planes(2, Encoding::Bipolar),
            _ if s.starts_with('u') && s.is_ascii() => planes(1, Encoding::Unsigned),
            _ if s.starts_with('s') && s.is_ascii() => planes(2, Encoding::Signed),
            _ => Err("unknown number format"),
        }
    }
}

#[cfg(feature = "serde")]
mod text {
    use super::DType;
    use alloc::string::{String, ToString};

    impl From<DType> for String {
        fn from(d: DType) -> String {
            d.to_string()
        }
    }
    impl TryFrom<String> for DType {
        type Error = &'static str;
        fn try_from(s: String) -> Result<Self, Self::Error> {
            s.parse()
        }
    }
}

/// Shape and number format of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ValueType {
    /// Shape of one image.
    pub shape: Shape,
    /// Number format.
    pub dtype: DType,
}

impl ValueType {
    /// Shape and format.
    pub const fn new(shape: Shape, dtype: DType) -> Self {
        ValueType { shape, dtype }
    }
    /// Words that one image of this value takes in the arena.
    pub fn arena_words(&self) -> usize {
        self.dtype.bytes(self.shape).div_ceil(8)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.shape, self.dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats() -> impl Iterator<Item = Quant> {
        (1..=8)
            .flat_map(|b| [Encoding::Bipolar, Encoding::Unsigned, Encoding::Signed].map(|e| Quant::new(b, e)))
            .filter(|q| q.bits > 1 || q.encoding != Encoding::Signed)
            .chain([Quant::TERNARY])
    }

    #[test]
    fn codes_levels_and_plane_weights_agree() {
        for q in formats() {
            for level in 0..q.levels() {
                let code = q.code_of_level(level);
                let value = q.value_of_level(level);
                assert_eq!(q.decode(code), value, "{q:?}");
                assert_eq!(q.encode(value), Some(code));
                assert_eq!(q.level_of_code(code), level);
                let twice: i32 = (0..q.planes())
                    .map(|p| q.plane_weight(p) * if code >> p & 1 == 1 { 1 } else { -1 })
                    .sum();
                assert_eq!(twice + q.plane_offset(), 2 * value);
            }
            // Number `i` reaches `i % levels` steps.
            let mut planes = [0; 8];
            for step in 1..q.levels() {
                let reached = (0..64).filter(|i| i % q.levels() >= step).fold(0, |m, i| m | 1 << i);
                Quant::raise(&mut planes, reached);
            }
            q.encode_levels(&mut planes);
            for i in 0..64 {
                let code = (0..q.planes()).fold(0, |code, p| code | (planes[p] >> i & 1) << p);
                assert_eq!(code, u64::from(q.code_of_level(i % q.levels())), "{q:?}");
            }
            assert_eq!(q.encode(q.max() + q.step()), None);
            assert_eq!(q.encode(q.min() - q.step()), None);
        }
        assert_eq!(Quant::BIT.encode(0), None);
    }

    #[test]
    fn names_round_trip() {
        extern crate std;
        use std::string::ToString;
        for q in formats() {
            let d = DType::Bits(q);
            assert_eq!(d.to_string().parse(), Ok(d));
        }
        for d in [DType::U8, DType::I8, DType::I32, DType::F32] {
            assert_eq!(d.to_string().parse(), Ok(d));
        }
        assert!("u9".parse::<DType>().is_err() && "b1x".parse::<DType>().is_err());
        assert!("".parse::<DType>().is_err() && "ü1".parse::<DType>().is_err());
    }
}
