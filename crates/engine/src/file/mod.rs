//! Model files: safetensors files that also describe the network (`docs/format.md`).
//!
//! Opening a file maps it; constants borrow from the mapping where their bytes are aligned. Everything
//! is checked before use: a file is either a valid model or refused with one sentence, and what loading
//! allocates is a small multiple of the file's size.

mod container;
mod document;
pub mod limits;

use crate::atomic::replace;
use crate::driver::map::map;
use crate::error::{Error, Result};
use crate::meta::Meta;
use container::{Container, KEY, Stored};
use document::{Document, Entry, TensorEntry, check_name, shorten};
use memmap2::Mmap;
use onebit_core::bits;
use onebit_core::model::{Data, Model, Node, Params, Tensor};
use onebit_core::types::DType;
use safetensors::Dtype;
use safetensors::tensor::View;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use document::VERSION;

/// An opened model file. Models borrow from it.
pub struct ModelFile {
    bytes: Bytes,
    path: Option<PathBuf>,
}

enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
    Static(&'static [u8]),
}

impl ModelFile {
    /// Maps a file. It must not be changed in place while it is open; replacing it is fine (see
    /// [`save`]).
    ///
    /// # Errors
    /// When the file cannot be read. Its contents are checked by [`ModelFile::load`].
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = map(path).map_err(Error::io(path))?;
        Ok(ModelFile { bytes: Bytes::Mapped(bytes), path: Some(path.to_owned()) })
    }
    /// A file that is in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        ModelFile { bytes: Bytes::Owned(bytes), path: None }
    }
    /// A file that is part of the program.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        ModelFile { bytes: Bytes::Static(bytes), path: None }
    }

    /// The contents.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(m) => m,
            Bytes::Owned(v) => v,
            Bytes::Static(s) => s,
        }
    }
    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }
    /// True for a file of 0 bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks everything and gives the network.
    ///
    /// # Errors
    /// One sentence that names the file, if it has a name, and the layer.
    pub fn load(&self) -> Result<(Model<'_>, Meta)> {
        load(self.bytes()).map_err(|e| match &self.path {
            Some(path) => Error::file(path, shorten(&e)),
            None => Error::Model(format!("model file in memory: {}", shorten(&e))),
        })
    }
}

fn load(bytes: &[u8]) -> Result<(Model<'_>, Meta), String> {
    let container = Container::open(bytes)?;
    let document = Document::parse(&container.document)?;
    let mut stored = container.tensors;
    let mut values: HashMap<&str, usize> = HashMap::from([("input", 0)]);
    let mut nodes = Vec::with_capacity(document.nodes.len());
    for entry in &document.nodes {
        check_name(&entry.name)?;
        nodes.push(node(entry, &values, &mut stored).map_err(|e| format!("layer '{}' {e}", entry.name))?);
        if values.insert(&entry.name, nodes.len()).is_some() {
            return Err(format!("has two layers called '{}'", entry.name));
        }
    }
    if let Some(name) = stored.keys().next() {
        return Err(format!("has a tensor '{name}' that no layer uses"));
    }
    let model = Model::new(document.input.into(), nodes).map_err(|e| e.0)?;
    Ok((model, document.meta))
}

type Tensors<'a> = std::collections::BTreeMap<String, Stored<'a>>;

fn node<'a>(
    entry: &Entry,
    values: &HashMap<&str, usize>,
    stored: &mut Tensors<'a>,
) -> Result<Node<'a>, String> {
    let op = entry.op()?;
    let value = |name: &String| {
        let value = values.get(name.as_str()).copied();
        value.ok_or_else(|| format!("reads '{name}', which no earlier layer makes"))
    };
    let inputs = entry.inputs.iter().map(value).collect::<Result<Vec<usize>, String>>()?;
    let mut params = Params::default();
    for (role, wanted) in &entry.tensors {
        let slot = params.slot(role).ok_or_else(|| format!("has the unknown constant '{role}'"))?;
        let tensor = stored
            .remove(&format!("{}.{role}", entry.name))
            .ok_or_else(|| format!("needs the tensor '{}.{role}', which is missing", entry.name))?;
        *slot = Some(constant(wanted, &tensor).map_err(|e| format!("has a {role} {e}"))?);
    }
    Ok(Node { name: entry.name.clone(), op, inputs, params })
}

/// Finds the elements of a constant, borrowed if possible. [`Model::new`] checks them.
fn constant<'a>(wanted: &TensorEntry, stored: &Stored<'a>) -> Result<Tensor<'a>, String> {
    let (rows, cols) = (wanted.rows, wanted.cols);
    let dtype: DType = wanted.dtype.parse().map_err(|e| format!("of format '{}': {e}", wanted.dtype))?;
    let (of, shape, data) = match dtype {
        DType::Bits(q) => {
            let shape = vec![rows, q.planes(), bits::words(cols)];
            (Dtype::U64, shape, Data::Bits(q, elements(stored.bytes, u64::from_le_bytes)))
        }
        DType::F32 => (Dtype::F32, vec![rows, cols], Data::F32(elements(stored.bytes, f32::from_le_bytes))),
        DType::I32 => (Dtype::I32, vec![rows, cols], Data::I32(elements(stored.bytes, i32::from_le_bytes))),
        other => return Err(format!("of format {other}, which constants cannot have")),
    };
    if (of, &shape) != (stored.dtype, &stored.shape) {
        return Err(format!(
            "of {rows} x {cols} {dtype}, which is a tensor {of} {shape:?}, but the file has {} {:?}",
            stored.dtype, stored.shape
        ));
    }
    Ok(Tensor { rows, cols, data })
}

/// Little-endian elements: borrowed where this machine can read them in place, converted elsewhere.
fn elements<'a, T: bytemuck::Pod, const N: usize>(bytes: &'a [u8], from: fn([u8; N]) -> T) -> Cow<'a, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(slice) if cfg!(target_endian = "little") => Cow::Borrowed(slice),
        _ => bytes.as_chunks::<N>().0.iter().map(|b| from(*b)).collect(),
    }
}

/// The bytes of a model file. [`ModelFile::load`] accepts them: that is checked.
///
/// # Errors
/// When the model is beyond the [`limits`] of the format.
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
    load(&bytes).map_err(refuse)?;
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
