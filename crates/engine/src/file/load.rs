//! Reading a model file that is in memory; needs no operating system.

use super::container::{Container, Stored};
use super::document::{Document, Entry, TensorEntry, check_name, shorten};
use crate::meta::Meta;
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use onebit_core::bits;
use onebit_core::model::{Data, Error, Model, Node, Params, Tensor};
use onebit_core::types::DType;
use safetensors::Dtype;

/// Checks everything in the bytes of a model file and gives the network, which borrows from them.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the name of the file.
pub fn load(bytes: &[u8]) -> Result<(Model<'_>, Meta), Error> {
    read(bytes).map_err(|e| Error(shorten(&e)))
}

fn read(bytes: &[u8]) -> Result<(Model<'_>, Meta), String> {
    let mut container = Container::open(bytes)?;
    let document = Document::parse(&container.document)?;
    let mut values: BTreeMap<&str, usize> = BTreeMap::new();
    values.insert("input", 0);
    let mut nodes = Vec::with_capacity(document.nodes.len());
    for entry in &document.nodes {
        check_name(&entry.name)?;
        nodes.push(node(entry, &values, &mut container).map_err(|e| format!("layer '{}' {e}", entry.name))?);
        if values.insert(&entry.name, nodes.len()).is_some() {
            return Err(format!("has two layers called '{}'", entry.name));
        }
    }
    if let Some(name) = container.left() {
        return Err(format!("has a tensor '{name}' that no layer uses"));
    }
    let model = Model::new(document.input.into(), nodes).map_err(|e| e.0)?;
    Ok((model, document.meta))
}

fn node<'a>(
    entry: &Entry,
    values: &BTreeMap<&str, usize>,
    stored: &mut Container<'a>,
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
            .take(&format!("{}.{role}", entry.name))
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
