//! BinaryNet (Courbariaux et al. 2016): the `.npz` of all parameters that its training saves.
//!
//! `numpy.savez(path, *lasagne.layers.get_all_param_values(network))` writes arrays without names, six a block:
//!
//! | array | shape | meaning |
//! |---|---|---|
//! | W | `(in, out)`, or `(out, in, rows, columns)` | `w >= 0` is +1; Theano convolves, so kernels are flipped |
//! | b | `out` | bias; some versions have none, so that blocks have five arrays |
//! | beta, gamma, mean, inv_std | `out` | `(x - mean) * (gamma * inv_std) + beta` |
//!
//! A block is the matrix, a 2 x 2 maximum after some convolutions, the BatchNorm, and a sign with `sign(0) = +1`, which
//! the last one lacks. Convolutions keep the size of the map, and zeros around it count as 0. Neither the size of the
//! input nor the places of the maxima are in the file: the first is given or assumed, the second then follow from what the first
//! dense layer reads.

pub mod npz;

use super::chain::{BatchNorm, Chain, Flatten};
use super::{ImportOptions, Imported, Importer, build};
use crate::data;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::meta::{Layout, Meta, Preprocessing};
use npz::Named;
use onebit_core::ops::{Window, Zero};
use onebit_core::types::{DType, Shape, ValueType};
use std::io::Read;
use std::path::Path;

/// The importer.
pub struct BinaryNet;

impl Importer for BinaryNet {
    fn name(&self) -> &'static str {
        "binarynet"
    }

    fn detects(&self, path: &Path) -> bool {
        let mut start = Vec::new();
        let read = std::fs::File::open(path).and_then(|f| f.take(512).read_to_end(&mut start));
        read.is_ok() && npz::is_npz(&start)
    }

    fn import(&self, path: &Path, options: &ImportOptions) -> Result<Imported> {
        parse(&data::read(path)?, path, options)
    }
}

/// The network of an archive's content; `path` is what it is called.
///
/// # Errors
/// Names the array or the layer.
pub fn parse(bytes: &[u8], path: &Path, options: &ImportOptions) -> Result<Imported> {
    let arrays = npz::parse(bytes).map_err(|e| Error::file(path, e))?;
    let blocks = blocks(&arrays).map_err(|e| Error::file(path, e))?;
    let mut notes = Vec::new();
    let geometry = Geometry::of(&blocks, options, &mut notes).map_err(|e| match e {
        // What is wrong with an option is not said of the file.
        Error::Input(_) => e,
        other => other.in_file(path),
    })?;
    let stem = path.file_stem().map_or_else(|| build::file_name(path), |s| s.to_string_lossy().into_owned());
    let meta = Meta {
        name: build::name(options, &stem),
        source: format!("BinaryNet parameters {}", build::file_name(path)),
        input: preprocessing(options, geometry.input, &mut notes)?,
        ..Meta::default()
    };
    let mut graph = lower(&blocks, &geometry, meta).map_err(|e| e.in_file(path))?;
    build::choose_classes(&mut graph, options)?;
    Ok(Imported { graph, notes, format: BinaryNet.name() })
}

/// Pixels as BinaryNet trains on them, unless the user says otherwise.
fn preprocessing(options: &ImportOptions, shape: Shape, notes: &mut Vec<String>) -> Result<Preprocessing> {
    if !(options.mean.is_empty() && options.std.is_empty()) {
        return build::preprocessing(options, shape, Layout::Nchw, notes);
    }
    notes.push(
        "The source does not say how pixels are normalised: 2 x / 255 - 1 was assumed, as BinaryNet trains \
         (mean 127.5, std 127.5)."
            .into(),
    );
    Ok(Preprocessing {
        layout: Layout::Nchw,
        mean: vec![127.5],
        std: vec![127.5],
        resize: build::resize(options, shape),
    })
}

/// The arrays of a layer.
struct Block<'a> {
    name: String,
    /// `(in, out)` or `(out, in, rows, columns)`.
    shape: &'a [usize],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    norm: BatchNorm<'a>,
}

impl Block<'_> {
    fn is_conv(&self) -> bool {
        self.shape.len() == 4
    }
    fn inputs(&self) -> usize {
        if self.is_conv() { self.shape[1] } else { self.shape[0] }
    }
}

/// Outputs of a matrix of this shape, or `None` if it is none.
fn outputs(shape: &[usize]) -> Option<usize> {
    match shape {
        [_, out] | [out, _, _, _] if !shape.contains(&0) => Some(*out),
        _ => None,
    }
}

/// Groups arrays to layers: convolutions, then dense ones.
fn blocks(arrays: &[Named]) -> Result<Vec<Block<'_>>, String> {
    let first = arrays.first().and_then(|n| outputs(&n.array.shape));
    let six = arrays.len().is_multiple_of(6) && arrays.get(5).map(|n| n.array.values.len()) == first;
    let size = if six { 6 } else { 5 };
    if arrays.is_empty() || !arrays.len().is_multiple_of(size) {
        return Err(format!(
            "holds {} arrays, but a network of BinaryNet has six for each layer (W, b, beta, gamma, mean, inv_std), or \
             five without b",
            arrays.len()
        ));
    }
    let mut all: Vec<Block<'_>> = Vec::new();
    for (i, group) in arrays.chunks_exact(size).enumerate() {
        let Named { name, array } = &group[0];
        let Some(out) = outputs(&array.shape) else {
            return Err(format!(
                "its array '{name}' should be the weights of layer {i}, of two axes (in, out) or four (out, in, rows, \
                 columns), but has the shape {:?}",
                array.shape
            ));
        };
        let vector = |at: usize, what: &str| {
            let Named { name, array } = &group[size - 5 + at];
            match array.values.len() == out {
                true => Ok(array.values.as_slice()),
                false => Err(format!(
                    "its array '{name}' should be the {what} of the {out} outputs of layer {i}, but has the shape {:?}",
                    array.shape
                )),
            }
        };
        let bias = if six { Some(vector(0, "biases")?) } else { None };
        let norm = BatchNorm {
            beta: vector(1, "beta")?,
            gamma: vector(2, "gamma")?,
            mean: vector(3, "mean")?,
            inv_std: vector(4, "inv_std")?,
        };
        let (shape, weight) = (array.shape.as_slice(), array.values.as_slice());
        if weight.iter().any(|w| !w.is_finite()) {
            return Err(format!("its array '{name}' contains NaN or infinity"));
        }
        let convs = all.iter().filter(|b| b.is_conv()).count();
        let conv = shape.len() == 4;
        if conv && convs < all.len() {
            return Err(format!(
                "its array '{name}' is a convolution behind a dense layer, which is not supported"
            ));
        }
        let name = if conv { format!("conv{}", i + 1) } else { format!("fc{}", i - convs + 1) };
        all.push(Block { name, shape, weight, bias, norm });
    }
    Ok(all)
}

/// What the file does not say.
struct Geometry {
    input: Shape,
    /// Number of convolutions up to each 2 x 2 maximum.
    pools: Vec<usize>,
}

/// Size of the input of convolutions unless the user says it: CIFAR-10 and SVHN.
const ASSUMED: usize = 32;

impl Geometry {
    fn of(blocks: &[Block<'_>], options: &ImportOptions, notes: &mut Vec<String>) -> Result<Self> {
        let given = build::input_shape(options)?;
        let channels = blocks[0].inputs();
        let convs: Vec<&Block<'_>> = blocks.iter().take_while(|b| b.is_conv()).collect();
        let Some(last) = convs.last() else {
            let input = given.unwrap_or_else(|| build::picture(channels, notes));
            if input.elements() != channels {
                return Err(Error::Input(format!("the network takes {channels} inputs, not {input}")));
            }
            return Ok(Geometry { input, pools: Vec::new() });
        };
        if let Some(even) = convs.iter().find(|b| b.shape[2] % 2 == 0 || b.shape[3] % 2 == 0) {
            let text =
                format!("has a kernel of {} x {}, whose padding is unknown", even.shape[2], even.shape[3]);
            return Err(Error::layer(&even.name, text));
        }
        let input = given.unwrap_or_else(|| {
            notes.push(format!(
                "The source does not say how large its input is: {ASSUMED} x {ASSUMED} was assumed (--input says it)."
            ));
            Shape::new(ASSUMED, ASSUMED, channels)
        });
        if input.c != channels {
            let text = format!("the network takes {channels} channels, but the input has {}", input.c);
            return Err(Error::Input(text));
        }
        let Some(dense) = blocks.get(convs.len()) else {
            return Err(Error::Model(
                "has no dense layer, so nothing says where the maxima are; such networks are not supported"
                    .into(),
            ));
        };
        let pools = pools(convs.len(), input, dense.inputs(), last.shape[0]).ok_or_else(|| {
            Error::Model(format!(
                "its first dense layer reads {} values, which {} convolutions of {} channels with 2 x 2 maxima do not make of an \
                 input of {} x {}; say the true size with --input",
                dense.inputs(),
                convs.len(),
                last.shape[0],
                input.h,
                input.w
            ))
        })?;
        if !pools.is_empty() {
            let places: Vec<String> = pools.iter().map(usize::to_string).collect();
            notes.push(format!(
                "The source does not say where its 2 x 2 maxima are: after convolutions {} was assumed, which fits the \
                 {} inputs of its first dense layer.",
                places.join(", "),
                dense.inputs()
            ));
        }
        Ok(Geometry { input, pools })
    }
}

/// Number of convolutions up to each maximum: as many maxima as make `inputs` of the last map, spread evenly, the last
/// one at the end. That is BinaryNet's rule, one after every second convolution, wherever it fits.
fn pools(convs: usize, input: Shape, inputs: usize, channels: usize) -> Option<Vec<usize>> {
    let pixels = Some(inputs / channels).filter(|p| p * channels == inputs && *p > 0)?;
    let halved = |n: usize| (input.h >> n) * (input.w >> n);
    let n = (0..=convs.min(16)).find(|n| halved(*n) == pixels)?;
    Some((1..=n).map(|i| (i * convs).div_ceil(n)).collect())
}

fn lower(blocks: &[Block<'_>], geometry: &Geometry, meta: Meta) -> Result<Graph> {
    let graph = Graph::new(ValueType::new(geometry.input, DType::F32), meta);
    let mut chain = Chain::new(graph, Zero::Positive, 0);
    for (i, block) in blocks.iter().enumerate() {
        let name = &block.name;
        if let [out, channels, rows, columns] = *block.shape {
            if chain.shape().c != channels {
                let text = format!("takes {channels} channels, but gets {}", chain.shape().c);
                return Err(Error::layer(name, text));
            }
            let window = Window {
                kernel: [rows, columns],
                stride: [1; 2],
                dilation: [1; 2],
                pad: [rows / 2, columns / 2, rows / 2, columns / 2],
            };
            chain.conv(name, window, out, |n, ky, kx, c| {
                let tap = (rows - 1 - ky) * columns + columns - 1 - kx;
                block.weight[(n * channels + c) * rows * columns + tap] >= 0.0
            })?;
            if geometry.pools.contains(&(i + 1)) {
                chain.max_pool(&format!("pool{}", i + 1), Window::square(2, 2, 0))?;
            }
        } else {
            let (inputs, out) = (block.shape[0], block.shape[1]);
            if chain.shape().elements() != inputs {
                let text = format!("takes {inputs} inputs, but gets {}", chain.shape());
                return Err(Error::layer(name, text));
            }
            chain.dense(name, Flatten::Chw, out, |n, i| block.weight[i * out + n] >= 0.0)?;
        }
        if let Some(bias) = block.bias {
            chain.bias(&format!("{name}_bias"), bias)?;
        }
        chain.batch_norm(&format!("{name}_norm"), &block.norm)?;
        if i + 1 < blocks.len() {
            chain.sign(&format!("{name}_sign"))?;
        }
    }
    Ok(chain.graph)
}
