//! Espresso (Pedersoli et al. 2018): one file of records, `.esp`, each a byte that says what follows.
//!
//! | tag | record, little-endian, 32 bits a number |
//! |---|---|
//! | 0x11, 0x12, 0x13, 0x14 | number of dense layers, BatchNorms, convolutions, maxima |
//! | 0x20 | the input: layers follow |
//! | 0x21 | dense: rows, columns; weights `[row][column]`, biases |
//! | 0x22 | BatchNorm: channels; beta, gamma, mean, inv_std |
//! | 0x23 | convolution: padding, filters, rows, columns, channels, strides; weights `[filter][c][y][x]`, biases |
//! | 0x24 | maximum: rows, columns, strides |
//!
//! The numbers are BinaryNet's: real weights of which the sign counts, convolutions with flipped kernels, maps flattened
//! channel after channel. The arithmetic is that of Espresso's packed kernels: weights and activations are
//! `x > 0 ? +1 : -1`, padding is -1, biases are not added, and the first layer reads bytes as `x / 128 - 1`.

mod records;

use super::chain::{BatchNorm, Chain, Flatten};
use super::{ImportOptions, Imported, Importer, build};
use crate::data;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::meta::{Layout, Meta, Preprocessing};
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{Op, Window, Zero};
use onebit_core::types::{DType, Shape, ValueType};
use records::Record;
use std::io::Read;
use std::path::Path;

/// The importer.
pub struct Espresso;

impl Importer for Espresso {
    fn name(&self) -> &'static str {
        "espresso"
    }

    fn detects(&self, path: &Path) -> bool {
        let mut start = Vec::new();
        let read = std::fs::File::open(path).and_then(|f| f.take(64).read_to_end(&mut start));
        read.is_ok() && records::starts(&start)
    }

    fn import(&self, path: &Path, options: &ImportOptions) -> Result<Imported> {
        parse(&data::read(path)?, path, options)
    }
}

/// The network of a file's content; `path` is what it is called.
///
/// # Errors
/// Names the record or the layer.
pub fn parse(bytes: &[u8], path: &Path, options: &ImportOptions) -> Result<Imported> {
    let records = records::parse(bytes).map_err(|e| Error::file(path, e))?;
    let mut notes = Vec::new();
    let input = input(&records, options, &mut notes)?;
    if !(options.mean.is_empty() && options.std.is_empty()) {
        notes.push("Mean and std were not used: the network takes pixels, 0 to 255, as x / 128 - 1.".into());
    }
    if records.iter().any(|r| r.bias().is_some_and(|b| b.any(|b| b != 0.0))) {
        notes.push(
            "The file has biases that are not 0; Espresso does not add them, so they were left out.".into(),
        );
    }
    notes.push(
        "Espresso's packed arithmetic was assumed: the sign of 0 is -1, padding is -1, and pixels are x / 128 - 1."
            .into(),
    );
    let stem = path.file_stem().map_or_else(|| build::file_name(path), |s| s.to_string_lossy().into_owned());
    let meta = Meta {
        name: build::name(options, &stem),
        source: format!("Espresso parameters {}", build::file_name(path)),
        input: Preprocessing {
            layout: Layout::Nchw,
            resize: build::resize(options, input),
            ..Preprocessing::default()
        },
        ..Meta::default()
    };
    let mut graph = lower(&records, input, meta).map_err(|e| e.in_file(path))?;
    build::choose_classes(&mut graph, options)?;
    Ok(Imported { graph, notes, format: Espresso.name() })
}

/// Size of the input: what the user says, else the picture that the first layer most likely reads.
fn input(records: &[Record<'_>], options: &ImportOptions, notes: &mut Vec<String>) -> Result<Shape> {
    if let Some(shape) = build::input_shape(options)? {
        return Ok(shape);
    }
    Ok(match records.first() {
        Some(Record::Conv { channels, .. }) => {
            let shape = Shape::new(32, 32, *channels);
            notes.push(format!(
                "The source does not say how large its input is: {shape} was assumed (--input says it)."
            ));
            shape
        }
        Some(Record::Dense { columns, .. }) => build::picture(*columns, notes),
        _ => Shape::vector(1),
    })
}

fn lower(records: &[Record<'_>], input: Shape, meta: Meta) -> Result<Graph> {
    let graph = Graph::new(ValueType::new(input, DType::U8), meta);
    // Espresso pads the bytes of the first layer with 0, which is -1 after their normalisation.
    let mut chain = Chain::new(graph, Zero::Negative, 0);
    let last = records.iter().rposition(Record::is_matrix).unwrap_or(0);
    let (mut convs, mut denses) = (0, 0);
    let mut name = String::new();
    let mut ready = true;
    for (i, record) in records.iter().enumerate() {
        if record.is_matrix() && !ready {
            let text =
                "is followed by another layer without a BatchNorm between them, which is not supported";
            return Err(Error::layer(name, text));
        }
        match *record {
            Record::Conv { pad, filters, kernel: [rows, columns], channels, stride, weights, .. } => {
                convs += 1;
                name = format!("conv{convs}");
                if chain.shape().c != channels {
                    let text = format!("takes {channels} channels, but gets {}", chain.shape().c);
                    return Err(Error::layer(name, text));
                }
                let window = Window { kernel: [rows, columns], stride, dilation: [1; 2], pad: [pad; 4] };
                window.output(chain.shape()).map_err(|e| Error::layer(&name, e.to_string()))?;
                let positive = |n: usize, ky: usize, kx: usize, c: usize| {
                    let tap = (rows - 1 - ky) * columns + columns - 1 - kx;
                    weights.at((n * channels + c) * rows * columns + tap) > 0.0
                };
                chain.conv(&name, window, filters, positive)?;
            }
            Record::Dense { rows, columns, weights, .. } => {
                denses += 1;
                name = format!("fc{denses}");
                if chain.shape().elements() != columns {
                    let text = format!("takes {columns} inputs, but gets {}", chain.shape());
                    return Err(Error::layer(name, text));
                }
                chain.dense(&name, Flatten::Chw, rows, |n, i| weights.at(n * columns + i) > 0.0)?;
            }
            Record::Pool { kernel, stride } => {
                let window = Window { kernel, stride, dilation: [1; 2], pad: [0; 4] };
                chain.max_pool(&format!("{name}_pool"), window)?;
            }
            Record::BatchNorm { beta, gamma, mean, inv_std } => {
                let [beta, gamma, mean, inv_std] = [beta, gamma, mean, inv_std].map(|f| f.to_vec());
                let norm = BatchNorm { beta: &beta, gamma: &gamma, mean: &mean, inv_std: &inv_std };
                chain.batch_norm(&format!("{name}_norm"), &norm)?;
                if i < last {
                    chain.sign(&format!("{name}_sign"))?;
                }
                ready = true;
            }
        }
        if record.is_matrix() {
            ready = false;
            if i == 0 {
                normalise(&mut chain, &name, record)?;
                chain.pad_value = -1;
            }
        }
    }
    Ok(chain.graph)
}

/// `sum(w x) / 128 - sum(w)`, which is the sum of `w (x / 128 - 1)`; exact, for sums stay below 2^24.
fn normalise(chain: &mut Chain, name: &str, record: &Record<'_>) -> Result<()> {
    let (Record::Conv { filters: rows, weights, .. } | Record::Dense { rows, weights, .. }) = *record else {
        return Ok(());
    };
    let columns = weights.len() / rows;
    let sum =
        |n: usize| (0..columns).map(|i| if weights.at(n * columns + i) > 0.0 { -1.0 } else { 1.0 }).sum();
    let params = Params {
        scale: Some(Tensor::f32(vec![1.0 / 128.0; rows])),
        bias: Some(Tensor::f32((0..rows).map(sum).collect())),
        ..Params::default()
    };
    chain.op(&format!("{name}_pixels"), Op::Affine, params)
}
