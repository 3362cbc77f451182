//! BinCNN (Khan et al. 2018): a folder of the packed weights of one network, which tells four types of vehicles apart.
//!
//! The program that runs it has all sizes written in it, and the files have no header. 32-bit words, little-endian; the first
//! input of a word is the highest bit that is used, 1 is +1:
//!
//! | file | words | a word holds |
//! |---|---|---|
//! | `pkwConv1.bin` | `[32 filters][3 channels]` | 25 taps of a 5 x 5 kernel, row after row |
//! | `pkwConv2.bin` | `[32][32]` | the same |
//! | `pkwD1.bin` | `[100 rows][576 pixels]` | 32 channels |
//! | `pkwD2.bin`, `pkwD3.bin` | `[100][4]`, `[4][4]` | 25 inputs |
//!
//! A picture of 96 x 96 becomes bits by a threshold for each channel; then come convolution, maximum and sign twice, and three
//! dense layers with signs between them. Sums of 0 have the sign -1, and so has the padding of both convolutions. There
//! is neither BatchNorm nor bias.

use super::chain::{Chain, Flatten};
use super::{ImportOptions, Imported, Importer, build};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::meta::{Layout, Meta, Preprocessing};
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{Op, Threshold, Window, Zero};
use onebit_core::types::{DType, Shape, ValueType};
use std::path::{Path, PathBuf};

/// The importer.
pub struct BinCnn;

/// Smallest pixel of red, green and blue that is +1: the program adds -127, -100 and -70 and asks for more than 0.
const PIXELS: [i32; 3] = [128, 101, 71];
const INPUT: Shape = Shape::new(96, 96, 3);
/// Taps of a kernel, and inputs in a word of most layers.
const TAPS: usize = 25;
const FILTERS: usize = 32;
const HIDDEN: usize = 100;
const CLASSES: usize = 4;

impl Importer for BinCnn {
    fn name(&self) -> &'static str {
        "bincnn"
    }

    fn detects(&self, path: &Path) -> bool {
        folder(path).is_some()
    }

    fn import(&self, path: &Path, options: &ImportOptions) -> Result<Imported> {
        let weights = folder(path).unwrap_or_else(|| path.to_owned());
        let mut notes = vec![
            "Pixels are compared with the thresholds of BinCNN's program, 127, 100 and 70, which were taken to be \
             those of red, green and blue."
                .to_owned(),
        ];
        if !(options.mean.is_empty() && options.std.is_empty()) {
            notes.push("Mean and std were not used: the network takes pixels, 0 to 255.".into());
        }
        if build::input_shape(options)?.is_some_and(|s| s != INPUT) {
            return Err(Error::Input(format!("the network takes pictures of {INPUT} only")));
        }
        let called = build::file_name(path);
        let meta = Meta {
            name: build::name(options, &called),
            source: format!("BinCNN weights {called}"),
            input: Preprocessing {
                layout: Layout::Nchw,
                resize: build::resize(options, INPUT),
                ..Preprocessing::default()
            },
            ..Meta::default()
        };
        let mut graph = lower(&weights, meta)?;
        build::choose_classes(&mut graph, options)?;
        Ok(Imported { graph, notes, format: self.name() })
    }
}

/// Where the files are: in the folder, or in the one below it that holds the packed weights.
fn folder(path: &Path) -> Option<PathBuf> {
    let folders = [path.to_owned(), path.join("wgt"), path.join("packed")];
    folders.into_iter().find(|f| f.join("pkwConv1.bin").is_file())
}

fn lower(folder: &Path, meta: Meta) -> Result<Graph> {
    let conv1 = Words::read(folder, "pkwConv1.bin", FILTERS, INPUT.c, TAPS)?;
    let conv2 = Words::read(folder, "pkwConv2.bin", FILTERS, FILTERS, TAPS)?;
    let quarter = Shape::new(INPUT.h / 4, INPUT.w / 4, FILTERS);
    let dense1 = Words::read(folder, "pkwD1.bin", HIDDEN, quarter.pixels(), FILTERS)?;
    let dense2 = Words::read(folder, "pkwD2.bin", HIDDEN, HIDDEN / TAPS, TAPS)?;
    let dense3 = Words::read(folder, "pkwD3.bin", CLASSES, HIDDEN / TAPS, TAPS)?;

    let mut chain = Chain::new(Graph::new(ValueType::new(INPUT, DType::U8), meta), Zero::Negative, -1);
    let thresholds = Some(Tensor::i32_matrix(PIXELS.len(), 1, PIXELS.to_vec()));
    let op = Op::Threshold(Threshold { output: DType::BIT });
    chain.op("pixels", op, Params { thresholds, ..Params::default() })?;
    for (i, words) in [&conv1, &conv2].into_iter().enumerate() {
        let name = format!("conv{}", i + 1);
        chain.conv(&name, Window::square(5, 1, 2), words.rows, |n, ky, kx, c| {
            words.positive(n, c, ky * 5 + kx)
        })?;
        chain.max_pool(&format!("{name}_pool"), Window::square(2, 2, 0))?;
        chain.sign(&format!("{name}_sign"))?;
    }
    for (i, words) in [&dense1, &dense2, &dense3].into_iter().enumerate() {
        let name = format!("fc{}", i + 1);
        let per_word = words.used;
        chain.dense(&name, Flatten::Hwc, words.rows, |n, at| {
            words.positive(n, at / per_word, at % per_word)
        })?;
        if i < 2 {
            chain.sign(&format!("{name}_sign"))?;
        }
    }
    Ok(chain.graph)
}

/// The words of a file, `[row][word]`.
struct Words {
    rows: usize,
    columns: usize,
    /// Bits of a word that are used, the lowest ones.
    used: usize,
    words: Vec<u32>,
}

impl Words {
    fn read(folder: &Path, name: &str, rows: usize, columns: usize, used: usize) -> Result<Self> {
        let path = folder.join(name);
        let size = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
        let expected = rows * columns * 4;
        if size != expected as u64 {
            let text = format!(
                "has {size} bytes, but {rows} x {columns} words of 4 bytes ({expected}) are expected"
            );
            return Err(Error::file(path, text));
        }
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if words.len() != rows * columns || words.iter().any(|w| used < 32 && w >> used != 0) {
            return Err(Error::file(
                path,
                format!("has words with more than {used} bits set; is it packed?"),
            ));
        }
        Ok(Words { rows, columns, used, words })
    }
    /// Whether input `at` of a word is +1.
    fn positive(&self, row: usize, column: usize, at: usize) -> bool {
        self.words[row * self.columns + column] >> (self.used - 1 - at) & 1 == 1
    }
}
