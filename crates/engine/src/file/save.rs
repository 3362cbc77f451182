//! Writing model files.

use super::document::{self, Document, Entry, TensorEntry, shorten};
use super::{KEY, VERSION, load};
use crate::atomic::replace;
use crate::error::{Error, Result};
use crate::meta::Meta;
use onebit_core::bits;
use onebit_core::model::{Data, Model, Tensor};
use safetensors::Dtype;
use safetensors::tensor::View;
use std::borrow::Cow;
use std::path::Path;

/// The bytes of a model file. [`load`] accepts them: that is checked.
///
/// # Errors
/// When the model is beyond the [`limits`](super::limits) of the format.
pub fn to_bytes(model: &Model<'_>, meta: &Meta) -> Result<Vec<u8>> {
    let mut names = vec!["input".to_owned()];
    let mut nodes = Vec::new();
    let mut tensors = Vec::new();
    for node in model.nodes() {
        let entries = node.params.each().map(|(role, t)| {
            let dtype = t.dtype().to_string();
            (role.to_owned(), TensorEntry { dtype, rows: t.rows, cols: t.cols })
        });
        nodes.push(Entry {
            name: node.name.clone(),
            inputs: node.inputs.iter().map(|&v| names[v].clone()).collect(),
            op: document::attributes(&node.op).map_err(|e| Error::layer(&node.name, e))?,
            tensors: entries.collect(),
        });
        names.push(node.name.clone());
        for (role, t) in node.params.each() {
            tensors.push((format!("{}.{role}", node.name), Plain::of(t)));
        }
    }
    let refuse = |e: String| Error::Model(format!("the network cannot be saved: {}", shorten(&e)));
    document::check_meta(meta, model.input().shape).map_err(refuse)?;
    let document = Document { version: VERSION, input: model.input().into(), meta: meta.clone(), nodes };
    let text = serde_json::to_string(&document).map_err(|e| refuse(format!("has no JSON form: {e}")))?;
    let metadata = std::collections::HashMap::from([(KEY.to_owned(), text)]);
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|e| refuse(format!("has no safetensors form: {e}")))?;
    // The loader is the one place that knows what is allowed.
    load(&bytes).map_err(|e| refuse(e.0))?;
    Ok(bytes)
}

/// Writes a model file. An existing file is replaced in one step, or left alone when anything fails; who
/// has the old one mapped keeps it.
///
/// # Errors
/// As [`to_bytes`]; also when the file cannot be written.
pub fn save(model: &Model<'_>, meta: &Meta, path: &Path) -> Result<()> {
    let bytes = to_bytes(model, meta).map_err(|e| e.in_file(path))?;
    replace(path, &bytes)
}

/// A constant as the container stores it.
struct Plain<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Plain<'a> {
    fn of(t: &'a Tensor<'_>) -> Self {
        let matrix = vec![t.rows, t.cols];
        match &t.data {
            Data::Bits(q, words) => Plain {
                dtype: Dtype::U64,
                shape: vec![t.rows, q.planes(), bits::words(t.cols)],
                bytes: little_endian(words, u64::to_le_bytes),
            },
            Data::F32(v) => {
                Plain { dtype: Dtype::F32, shape: matrix, bytes: little_endian(v, f32::to_le_bytes) }
            }
            Data::I32(v) => {
                Plain { dtype: Dtype::I32, shape: matrix, bytes: little_endian(v, i32::to_le_bytes) }
            }
        }
    }
}

fn little_endian<T: bytemuck::Pod, const N: usize>(v: &[T], to: fn(T) -> [u8; N]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(v))
    } else {
        v.iter().flat_map(|x| to(*x)).collect()
    }
}

impl View for Plain<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
