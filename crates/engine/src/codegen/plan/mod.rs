//! What is computed when, and where it lies: a [`Model`] becomes stages whose rows are made one by one.
//!
//! Every op makes rows of its output from rows of its inputs ([`Needs`]). Stages that follow each other may run row by row
//! together, so that only the rows between them that are still needed are kept, in rings (`rows`); or one after the
//! other, with whole maps between them. `segments` chooses what takes the least memory, `memory` gives every value its place
//! in one scratch. All figures are exact before any code is generated.

mod memory;
mod rows;
mod segments;
mod stages;
mod values;

pub use stages::identifier;
pub use values::EXACT;

use super::ir::Kind;
use super::target::Target;
use crate::error::{Error, Result};
use onebit_core::Shape;
use onebit_core::model::Model;
use std::ops::Range;

/// What the elements of a value are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Repr {
    /// +1 and -1.
    Bits,
    /// Integers with bounds; also floats of the model whose arithmetic is exact in integers.
    Int {
        /// Smallest.
        lo: i64,
        /// Largest.
        hi: i64,
    },
    /// Single precision.
    Float,
}

/// How a row of a value lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `pixel` bits for each pixel, channels first, in units of a kind. A pixel is whole units, or its bits follow those
    /// of its neighbour and only rows are whole units.
    Bits {
        /// Bits of a pixel.
        pixel: usize,
        /// Type of the units.
        unit: Kind,
    },
    /// `[x][c]` elements.
    Numbers(Kind),
}

impl Layout {
    /// Type of the elements in memory.
    pub const fn kind(self) -> Kind {
        match self {
            Layout::Bits { unit, .. } => unit,
            Layout::Numbers(kind) => kind,
        }
    }
    /// Whether pixels are not whole units.
    pub const fn is_dense(self) -> bool {
        match self {
            Layout::Bits { pixel, unit } => pixel % (8 * unit.bytes()) != 0,
            Layout::Numbers(_) => false,
        }
    }
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Nowhere: it is made and read within one stage.
    None,
    /// In the caller's input.
    Input,
    /// In the caller's scores.
    Scores,
    /// In the scratch, from this byte on.
    Scratch(usize),
}

/// A value of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Shape.
    pub shape: Shape,
    /// Its elements.
    pub repr: Repr,
    /// A row in memory.
    pub layout: Layout,
    /// Where it lies.
    pub home: Home,
    /// Rows that are kept at a time; all, or a ring.
    pub rows: usize,
}

impl Value {
    /// Elements of the layout's kind in a row.
    pub fn row_units(&self) -> usize {
        match self.layout {
            Layout::Bits { pixel, unit } => (self.shape.w * pixel).div_ceil(8 * unit.bytes()),
            Layout::Numbers(_) => self.shape.w * self.shape.c,
        }
    }
    /// Whether rows take turns.
    pub fn is_ring(&self) -> bool {
        self.rows < self.shape.h
    }
    /// Bytes of `rows` rows; bits fill whole words.
    pub fn bytes(&self, rows: usize, word: usize) -> usize {
        let bytes = rows * self.row_units() * self.layout.kind().bytes();
        match self.layout {
            Layout::Bits { .. } => bytes.next_multiple_of(word / 8),
            Layout::Numbers(_) => bytes,
        }
    }
}

/// Rows of an input that one row of the output reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Rows from the first that an output row reads to the first that the next one reads; 0 where all read the same.
    pub stride: usize,
    /// First row that output row 0 reads; negative in the padding.
    pub first: i64,
    /// Rows from the first to the last that it reads, both counted.
    pub extent: usize,
}

impl Needs {
    /// Every row reads the whole input.
    pub const fn all(h: usize) -> Self {
        Needs { stride: 0, first: 0, extent: h }
    }
    /// Row `o` reads row `o`.
    pub const fn same() -> Self {
        Needs { stride: 1, first: 0, extent: 1 }
    }
    /// Real rows that output row `o` reads of `h`.
    pub fn rows(&self, o: usize, h: usize) -> Range<usize> {
        let start = self.first + (o * self.stride) as i64;
        let end = (start + self.extent as i64).clamp(0, h as i64);
        start.clamp(0, end) as usize..end as usize
    }
}

/// One or two ops that are computed together.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Identifier, after the layer.
    pub name: String,
    /// The op.
    pub node: usize,
    /// A pool of its bits, computed with it.
    pub pool: Option<usize>,
    /// Values that it reads.
    pub inputs: Vec<usize>,
    /// Rows of them that it reads.
    pub needs: Vec<Needs>,
    /// Value that it makes.
    pub output: usize,
}

/// How a network is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// For what.
    pub target: Target,
    /// One for each value of the model.
    pub values: Vec<Value>,
    /// In order.
    pub stages: Vec<Stage>,
    /// Stages that run row by row together.
    pub segments: Vec<Range<usize>>,
    /// The value that the scores are; nodes after it are left out, see [`Plan::notes`].
    pub output: usize,
    /// Bytes of scratch.
    pub scratch: usize,
    /// What the user of the code should know, one sentence each.
    pub notes: Vec<String>,
}

impl Plan {
    /// Plans a model for a target.
    ///
    /// # Errors
    /// Names the layer that cannot be generated, and why.
    pub fn new(model: &Model<'_>, target: Target) -> Result<Plan> {
        let mut notes = Vec::new();
        let output = values::output(model, &mut notes);
        let mut values = values::values(model, output, target)?;
        let stages = stages::stages(model, &mut values, output);
        let segments = segments::choose(&stages, &values, target)?;
        rows::keep(&stages, &segments, &mut values);
        let scratch = memory::place(&stages, &segments, &mut values, target);
        if scratch > MAX_SCRATCH {
            return Err(Error::Model(format!(
                "the network needs {scratch} bytes of working memory, more than generated code is meant for"
            )));
        }
        Ok(Plan { target, values, stages, segments, output, scratch, notes })
    }
    /// Bytes that the caller gives.
    pub fn input_bytes(&self) -> usize {
        let input = &self.values[0];
        input.shape.h * input.row_units() * input.layout.kind().bytes()
    }
    /// Whether the input is one bit for each element.
    pub fn input_is_bits(&self) -> bool {
        self.values[0].repr == Repr::Bits
    }
    /// An image as the caller gives it: bits in rows, or bytes.
    pub fn pack_input(&self, image: &[i32]) -> Vec<u8> {
        let Value { shape, .. } = &self.values[0];
        if !self.input_is_bits() {
            return image.iter().map(|v| *v as u8).collect();
        }
        let mut bytes = vec![0; self.input_bytes()];
        let line = shape.w * shape.c;
        for (i, _) in image.iter().enumerate().filter(|(_, v)| **v > 0) {
            bytes[i / line * line.div_ceil(8) + i % line / 8] |= 1 << (i % line % 8);
        }
        bytes
    }
    /// Number of scores.
    pub fn outputs(&self) -> usize {
        self.values[self.output].shape.elements()
    }
}

/// Most bytes of scratch: code that indexes with 32-bit integers is far from overflowing.
const MAX_SCRATCH: usize = 1 << 24;
