//! BNN-PYNQ (FINN): folders of integer weights and thresholds for FPGAs (Umuroglu et al. 2017).
//!
//! The files name no geometry. There are two families, told apart by their number of layers: LFC, four
//! dense layers on the bits of a 28 x 28 picture, and CNV, six 3 x 3 convolutions and three dense layers on a
//! 32 x 32 picture. A neuron fires when its accumulator is above its threshold:
//!
//! | weights, activations | accumulator | becomes |
//! |---|---|---|
//! | one bit, one bit | number of matches `p = (dot + K) / 2` | `dot >= 2 T + 2 - K` |
//! | other | `dot`; two thresholds make -1, 0, +1 | `dot >= T + 1` |
//! | first layer of CNV | `dot / 128`, thresholds are `T / 256` | `dot >= floor(T / 2) + 1` |

mod files;

use super::{Classes, ImportOptions, Imported, Importer, build};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::meta::{Layout, Meta, Preprocessing};
use files::LayerFiles;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{BConv2d, BDense, BPool2d, Op, Quantize, Reshape, Rounding, Threshold, Window};
use onebit_core::types::{DType, Encoding, Quant, Shape, ValueType};
use std::path::Path;

/// The importer.
pub struct BnnPynq;

/// A layer of a family.
struct Geometry {
    rows: usize,
    /// Inputs of a neuron in the files, which may be padded.
    cols: usize,
    /// Inputs that exist.
    real: usize,
    convolution: bool,
    /// A 2 x 2 maximum follows.
    pool: bool,
}

const fn dense(cols: usize, real: usize, rows: usize) -> Geometry {
    Geometry { rows, cols, real, convolution: false, pool: false }
}
const fn conv(channels: usize, rows: usize, pool: bool) -> Geometry {
    Geometry { rows, cols: channels * 9, real: channels * 9, convolution: true, pool }
}

static LFC: [Geometry; 4] =
    [dense(832, 784, 1024), dense(1024, 1024, 1024), dense(1024, 1024, 1024), dense(1024, 1024, 64)];

static CNV: [Geometry; 9] = [
    conv(3, 64, false),
    conv(64, 64, true),
    conv(64, 128, false),
    conv(128, 128, true),
    conv(128, 256, false),
    conv(256, 256, false),
    dense(256, 256, 512),
    dense(512, 512, 512),
    dense(512, 512, 64),
];

/// Pixels as the first layer of CNV takes them: `clamp(floor((2 p / 255 - 1) * 128 + 0.5), -128, 127)`.
const PIXELS: Quantize = Quantize {
    scale: 256.0 / 255.0,
    offset: -128.0,
    rounding: Rounding::HalfUp,
    output: DType::I8,
    lowest: -128,
    highest: 127,
};

/// Number of classes where neither the user nor the folder says it.
const DEFAULT_CLASSES: usize = 10;

/// Beyond all accumulators, so that thresholds can be clamped to it.
const LIMIT: i64 = 1 << 30;

impl Importer for BnnPynq {
    fn name(&self) -> &'static str {
        "bnn-pynq"
    }

    fn detects(&self, path: &Path) -> bool {
        path.join("0-0-weights.bin").is_file()
    }

    fn import(&self, path: &Path, options: &ImportOptions) -> Result<Imported> {
        let elements = files::layers(path)?;
        let family: &[Geometry] = match elements.len() {
            4 => &LFC,
            9 => &CNV,
            n => {
                let text = format!("has {n} layers, but networks of this source have 4 (LFC) or 9 (CNV)");
                return Err(Error::file(path, text));
            }
        };
        let mut notes = Vec::new();
        let names = class_names(path, options, family[family.len() - 1].rows, &mut notes)?;
        if !(options.mean.is_empty() && options.std.is_empty()) {
            notes.push("Mean and std were not used: the network takes pixels, 0 to 255.".into());
        }
        let mut network = Network::new(elements.len() == 9, path, options)?;
        for (i, geometry) in family.iter().enumerate() {
            let last = i + 1 == family.len();
            // Thresholds of the last layer would leave one bit of each score.
            let files = files::read(path, i, elements[i] + 1, geometry.rows, geometry.cols, !last)?;
            let kept = if last { names.count } else { geometry.rows };
            network.layer(i, geometry, &files, kept).map_err(|e| e.in_file(path))?;
        }
        let mut graph = network.graph;
        graph.meta.classes = names.names;
        Ok(Imported { graph, notes, format: self.name() })
    }
}

/// How many classes there are, and what they are called if that is known.
struct ClassNames {
    count: usize,
    names: Vec<String>,
}

fn class_names(
    folder: &Path,
    options: &ImportOptions,
    outputs: usize,
    notes: &mut Vec<String>,
) -> Result<ClassNames> {
    let path = folder.join("classes.txt");
    // The list of a family is some hundred bytes; what is longer is something else.
    let small = std::fs::metadata(&path).is_ok_and(|m| m.len() <= 1 << 16);
    let text = if small { std::fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
    let listed: Vec<String> = text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect();
    let classes = match &options.classes {
        Classes::Named(names) => ClassNames { count: names.len(), names: names.clone() },
        Classes::First(n) => {
            let names = if listed.len() >= *n { listed[..*n].to_vec() } else { Vec::new() };
            ClassNames { count: *n, names }
        }
        Classes::FromSource if (1..=outputs).contains(&listed.len()) => {
            ClassNames { count: listed.len(), names: listed }
        }
        Classes::FromSource => {
            notes.push(format!(
                "The folder does not say how many of the {outputs} outputs are classes (no classes.txt): \
                 the first {DEFAULT_CLASSES} were kept."
            ));
            ClassNames { count: DEFAULT_CLASSES, names: Vec::new() }
        }
    };
    build::check_class_count(classes.count, outputs)?;
    Ok(classes)
}

/// The graph so far.
struct Network {
    graph: Graph,
    /// The value that the next layer reads.
    value: usize,
}

impl Network {
    /// The input, and its preparation: bits for LFC, signed bytes for CNV.
    fn new(cnv: bool, path: &Path, options: &ImportOptions) -> Result<Self> {
        let shape = if cnv { Shape::new(32, 32, 3) } else { Shape::new(28, 28, 1) };
        if build::input_shape(options)?.is_some_and(|s| s != shape) {
            return Err(Error::Input(format!("the network takes pictures of {shape} only")));
        }
        let folder = build::file_name(path);
        let input = Preprocessing {
            layout: Layout::Nchw,
            resize: build::resize(options, shape),
            ..Preprocessing::default()
        };
        let meta = Meta {
            name: build::name(options, &folder),
            source: format!("BNN-PYNQ network {folder}"),
            license: "BSD-3-Clause".into(),
            input,
            ..Meta::default()
        };
        let mut graph = Graph::new(ValueType::new(shape, DType::U8), meta);
        let value = if cnv {
            graph.add("pixels", Op::Quantize(PIXELS), &[Graph::INPUT], Params::default())?
        } else {
            // 2 p / 255 - 1 >= 0 from pixel 128 on.
            let thresholds = Some(Tensor::i32_matrix(1, 1, vec![128]));
            let op = Op::Threshold(Threshold { output: DType::BIT });
            let params = Params { thresholds, ..Params::default() };
            let bits = graph.add("pixels", op, &[Graph::INPUT], params)?;
            let op = Op::Reshape(Reshape { shape: Shape::vector(shape.elements()) });
            graph.add("flatten", op, &[bits], Params::default())?
        };
        Ok(Network { graph, value })
    }

    /// Layer `i`: matrix, thresholds if it has any, pool if there is one. The first `rows` neurons are kept.
    fn layer(&mut self, i: usize, g: &Geometry, files: &LayerFiles, rows: usize) -> Result<()> {
        let name = format!("{}{i}", if g.convolution { "conv" } else { "fc" });
        let input = self.graph.ty(self.value).dtype;
        let weight = |r: usize, c: usize| i32::from(files.weights[r * g.cols + c]);
        let quant = match files.weight_bits {
            1 => Quant::BIT,
            _ if files.weights.contains(&-2) => Quant::new(2, Encoding::Signed),
            _ => Quant::TERNARY,
        };
        let op = match g.convolution {
            true => Op::BConv2d(BConv2d {
                window: Window::square(3, 1, 0),
                groups: 1,
                pad_value: 0,
                output: DType::I32,
            }),
            false => Op::BDense(BDense { output: DType::I32 }),
        };
        let params = Params { weight: Some(Tensor::bits(rows, g.real, quant, weight)), ..Params::default() };
        self.value = self.graph.add(&name, op, &[self.value], params)?;
        if files.thresholds.is_empty() {
            return Ok(());
        }

        let levels = files.thresholds.len() / g.rows;
        let matches = files.weight_bits == 1 && levels == 1 && input == DType::BIT;
        if !matches && levels == 1 && input != DType::I8 {
            let text = format!(
                "has one threshold for each neuron, but {} bits for weights and inputs of format {input}, which \
                 no network of this source has",
                files.weight_bits
            );
            return Err(Error::layer(name, text));
        }
        let limits = files.thresholds.iter().enumerate().map(|(at, t)| {
            let t = (*t).clamp(-LIMIT, LIMIT);
            let limit = match (input, matches) {
                (DType::I8, _) => t.div_euclid(2) + 1,
                (_, true) => 2 * t + 2 - g.cols as i64,
                (_, false) => t + 1,
            };
            // Inputs that only pad are -1: without them, the sum is larger by their weights.
            let padding: i32 = (g.real..g.cols).map(|c| weight(at / levels, c)).sum();
            (limit + i64::from(padding)).clamp(-LIMIT, LIMIT) as i32
        });
        let thresholds = Some(Tensor::i32_matrix(g.rows, levels, limits.collect()));
        let output = if levels == 1 { DType::BIT } else { DType::Bits(Quant::TERNARY) };
        let op = Op::Threshold(Threshold { output });
        let params = Params { thresholds, ..Params::default() };
        self.value = self.graph.add(format!("{name}_threshold"), op, &[self.value], params)?;
        if g.pool {
            let op = Op::BPool2d(BPool2d { window: Window::square(2, 2, 0) });
            self.value = self.graph.add(format!("pool{i}"), op, &[self.value], Params::default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_becomes_the_byte_that_the_hardware_gets() {
        for p in 0..=255i32 {
            // floor((2 p / 255 - 1) * 128 + 1/2) in whole numbers: multiplied by 510.
            let exact = (512 * p - 128 * 510 + 255).div_euclid(510).clamp(-128, 127);
            assert_eq!(PIXELS.apply(p as f32), exact, "pixel {p}");
            let float = ((2.0 * f64::from(p) / 255.0 - 1.0) * 128.0 + 0.5).floor().clamp(-128.0, 127.0);
            assert_eq!(f64::from(exact), float, "pixel {p}");
        }
    }
}
