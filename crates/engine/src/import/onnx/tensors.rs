//! Constants of an ONNX file as arrays, wherever their elements are: in the file, or in a file beside it.

use super::proto::{Fields, Tensor, brief};
use crate::driver::map::map;
use crate::error::{Error, Result};
use crate::import::array::{Array, Elements, count};
use memmap2::Mmap;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

/// Names of `TensorProto.DataType`.
const TYPES: [&str; 25] = [
    "UNDEFINED",
    "FLOAT",
    "UINT8",
    "INT8",
    "UINT16",
    "INT16",
    "INT32",
    "INT64",
    "STRING",
    "BOOL",
    "FLOAT16",
    "DOUBLE",
    "UINT32",
    "UINT64",
    "COMPLEX64",
    "COMPLEX128",
    "BFLOAT16",
    "FLOAT8E4M3FN",
    "FLOAT8E4M3FNUZ",
    "FLOAT8E5M2",
    "FLOAT8E5M2FNUZ",
    "UINT4",
    "INT4",
    "FLOAT4E2M1",
    "FLOAT8E8M0",
];

/// Name of a `TensorProto.DataType`, for messages.
pub fn type_name(data_type: i32) -> &'static str {
    usize::try_from(data_type).ok().and_then(|i| TYPES.get(i)).copied().unwrap_or("an unknown type")
}

/// The files beside a model in which it keeps its constants. Each is mapped once.
#[derive(Debug)]
pub struct External {
    folder: Option<PathBuf>,
    files: RefCell<BTreeMap<String, Rc<Mmap>>>,
}

impl External {
    /// For the model in the file `model`: files in its folder, and no others, can be read.
    pub fn beside(model: &Path) -> Self {
        let folder = match model.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        External { folder: Some(folder.to_owned()), files: RefCell::default() }
    }

    /// For a model in memory: nothing can be read.
    pub fn none() -> Self {
        External { folder: None, files: RefCell::default() }
    }

    /// Length of the files that were needed so far.
    pub fn bytes(&self) -> usize {
        self.files.borrow().values().map(|f| f.len()).sum()
    }

    fn file(&self, location: &str) -> Result<Rc<Mmap>> {
        if let Some(file) = self.files.borrow().get(location) {
            return Ok(Rc::clone(file));
        }
        let outside = || {
            let text =
                format!("its file '{}' is outside of the model's folder: put it there", brief(location));
            Error::Model(text)
        };
        let folder = self.folder.as_ref().ok_or_else(outside)?;
        let name = Path::new(location);
        if location.is_empty() || !name.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(outside());
        }
        // Links are followed before the comparison.
        let path = folder.join(name);
        let real = path.canonicalize().map_err(Error::io(&path))?;
        if !real.starts_with(folder.canonicalize().map_err(Error::io(folder))?) {
            return Err(outside());
        }
        let file = Rc::new(map(&real).map_err(Error::io(&path))?);
        self.files.borrow_mut().insert(location.to_owned(), Rc::clone(&file));
        Ok(file)
    }
}

/// Where the elements of a tensor are.
#[derive(Default)]
struct Source<'a> {
    raw: Option<&'a [u8]>,
    external: bool,
    location: &'a str,
    offset: Option<&'a str>,
    length: Option<&'a str>,
}

impl<'a> Source<'a> {
    fn of(tensor: &Tensor<'a>) -> Result<Self> {
        let mut source = Source::default();
        let mut fields = Fields::new("tensor", tensor.message);
        while let Some((tag, field)) = fields.next()? {
            match tag {
                9 => source.raw = Some(field.bytes()?),
                13 => {
                    let (mut key, mut value) = ("", "");
                    let mut entry = Fields::new("place of a tensor", field.bytes()?);
                    while let Some((tag, field)) = entry.next()? {
                        match tag {
                            1 => key = field.text()?,
                            2 => value = field.text()?,
                            _ => {}
                        }
                    }
                    match key {
                        "location" => source.location = value,
                        "offset" => source.offset = Some(value),
                        "length" => source.length = Some(value),
                        _ => {}
                    }
                }
                14 => source.external = field.int()? == 1,
                _ => {}
            }
        }
        Ok(source)
    }

    /// The part of `file` that has `need` bytes of elements.
    fn part<'f>(&self, file: &'f [u8], need: usize) -> Result<&'f [u8]> {
        let number = |text: Option<&str>, default: usize| match text {
            None => Ok(default),
            Some(t) => t
                .trim()
                .parse::<usize>()
                .map_err(|_| Error::Model(format!("'{}' is no place in a file", brief(t)))),
        };
        let (offset, length) = (number(self.offset, 0)?, number(self.length, need)?);
        let part = file.get(offset..).and_then(|rest| rest.get(..length));
        part.ok_or_else(|| {
            let text = format!(
                "{length} bytes at {offset} are not in the file '{}' of {} bytes",
                brief(self.location),
                file.len()
            );
            Error::Model(text)
        })
    }
}

/// The number types that can be read, and how wide their elements are in raw data.
#[derive(Clone, Copy)]
pub(super) enum Type {
    F32,
    F64,
    F16,
    Bf16,
    /// Width in bits, signed.
    Int(usize, bool),
    Bool,
}

impl Type {
    pub(super) fn of(data_type: i32) -> Option<Self> {
        Some(match data_type {
            1 => Type::F32,
            2 => Type::Int(8, false),
            3 => Type::Int(8, true),
            4 => Type::Int(16, false),
            5 => Type::Int(16, true),
            6 => Type::Int(32, true),
            7 => Type::Int(64, true),
            9 => Type::Bool,
            10 => Type::F16,
            11 => Type::F64,
            12 => Type::Int(32, false),
            13 => Type::Int(64, false),
            16 => Type::Bf16,
            21 => Type::Int(4, false),
            22 => Type::Int(4, true),
            _ => return None,
        })
    }

    fn bits(self) -> usize {
        match self {
            Type::F32 => 32,
            Type::F64 => 64,
            Type::F16 | Type::Bf16 => 16,
            Type::Int(bits, _) => bits,
            Type::Bool => 8,
        }
    }

    /// Number of the field for elements that are not raw.
    fn field(self) -> u32 {
        match self {
            Type::F32 => 4,
            Type::F64 => 10,
            Type::Int(64, true) => 7,
            Type::Int(32 | 64, false) => 11,
            _ => 5,
        }
    }
}

impl Tensor<'_> {
    /// The elements, widened as [`Elements`] says. Integers of 4 bits lie two in a byte, the low half first.
    ///
    /// # Errors
    /// Names the tensor when its type is not a number's, its data do not fill its shape, or its file is not there.
    pub fn to_array(&self, external: &External) -> Result<Array> {
        self.array(external).map_err(|e| match e {
            Error::Model(what) => Error::layer(brief(self.name), what),
            other => other,
        })
    }

    fn array(&self, external: &External) -> Result<Array> {
        let kind = Type::of(self.data_type).ok_or_else(|| {
            Error::Model(format!(
                "constants of type {} are not supported: export float or integer ones",
                type_name(self.data_type)
            ))
        })?;
        let axis =
            |d: &i64| usize::try_from(*d).map_err(|_| Error::Model(format!("an axis has the length {d}")));
        let shape: Vec<usize> = self.dims.iter().map(axis).collect::<Result<_>>()?;
        let n = count(&shape)?;
        let source = Source::of(self)?;
        let need = (n * kind.bits()).div_ceil(8);
        let elements = if source.external {
            let file = external.file(source.location)?;
            raw(kind, source.part(&file, need)?, n)?
        } else if let Some(bytes) = source.raw {
            raw(kind, bytes, n)?
        } else {
            self.typed(kind, n)?
        };
        Array::new(shape, elements)
    }

    /// Elements of the fields for one type each.
    fn typed(&self, kind: Type, n: usize) -> Result<Elements> {
        // An element takes at least one byte of the message.
        let room = n.min(self.message.len());
        let (mut floats, mut ints) = match kind {
            Type::F32 | Type::F64 => (Vec::with_capacity(room), Vec::new()),
            _ => (Vec::new(), Vec::with_capacity(room)),
        };
        let full = |len: usize| match len < n {
            true => Ok(()),
            false => Err(Error::Model(format!("it has more than {n} elements"))),
        };
        let mut fields = Fields::new("tensor", self.message);
        while let Some((tag, field)) = fields.next()? {
            if tag != kind.field() {
                continue;
            }
            match kind {
                Type::F32 => field.floats(|v| full(floats.len()).map(|()| floats.push(v)))?,
                Type::F64 => field.doubles(|v| full(floats.len()).map(|()| floats.push(v as f32)))?,
                _ => field.ints(|v| full(ints.len()).map(|()| ints.push(v)))?,
            }
        }
        let narrow = |bits: usize, signed: bool, v: i64| match (bits, signed) {
            (64, true) => Some(v),
            (64, false) => (v >= 0).then_some(v),
            (bits, true) => (-(1 << (bits - 1))..1 << (bits - 1)).contains(&v).then_some(v),
            (bits, false) => (0..1 << bits).contains(&v).then_some(v),
        };
        let elements = match kind {
            Type::F32 | Type::F64 => Elements::F32(floats),
            Type::Bool => Elements::Bool(ints.iter().map(|v| *v != 0).collect()),
            Type::F16 => Elements::F32(ints.iter().map(|v| half(*v as u16)).collect()),
            Type::Bf16 => Elements::F32(ints.iter().map(|v| bfloat(*v as u16)).collect()),
            // Bytes of two elements each.
            Type::Int(4, _) => {
                let bytes: Vec<u8> = ints.iter().map(|v| *v as u8).collect();
                return raw(kind, &bytes, n);
            }
            Type::Int(bits, signed) => {
                let values: Option<Vec<i64>> = ints.iter().map(|v| narrow(bits, signed, *v)).collect();
                Elements::I64(values.ok_or_else(|| {
                    Error::Model(format!("it has elements that {} does not have", type_name(self.data_type)))
                })?)
            }
        };
        Ok(elements)
    }
}

/// `n` elements of raw data, which is little-endian.
fn raw(kind: Type, bytes: &[u8], n: usize) -> Result<Elements> {
    let need = (n * kind.bits()).div_ceil(8);
    if bytes.len() != need {
        let text = format!("its shape needs {need} bytes of data, but it has {}", bytes.len());
        return Err(Error::Model(text));
    }
    fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|b| f(*b)).collect()
    }
    Ok(match kind {
        Type::F32 => Elements::F32(each(bytes, f32::from_le_bytes)),
        Type::F64 => Elements::F32(each(bytes, |b| f64::from_le_bytes(b) as f32)),
        Type::F16 => Elements::F32(each(bytes, |b| half(u16::from_le_bytes(b)))),
        Type::Bf16 => Elements::F32(each(bytes, |b| bfloat(u16::from_le_bytes(b)))),
        Type::Bool => Elements::Bool(bytes.iter().map(|b| *b != 0).collect()),
        Type::Int(4, signed) => {
            let nibble = |i: usize| (bytes[i / 2] >> (4 * (i % 2))) & 15;
            let value = |v: u8| if signed { i64::from((v << 4) as i8 >> 4) } else { i64::from(v) };
            Elements::I64((0..n).map(|i| value(nibble(i))).collect())
        }
        Type::Int(8, true) => Elements::I64(bytes.iter().map(|b| i64::from(*b as i8)).collect()),
        Type::Int(8, false) => Elements::I64(bytes.iter().map(|b| i64::from(*b)).collect()),
        Type::Int(16, true) => Elements::I64(each(bytes, |b| i64::from(i16::from_le_bytes(b)))),
        Type::Int(16, false) => Elements::I64(each(bytes, |b| i64::from(u16::from_le_bytes(b)))),
        Type::Int(32, true) => Elements::I64(each(bytes, |b| i64::from(i32::from_le_bytes(b)))),
        Type::Int(32, false) => Elements::I64(each(bytes, |b| i64::from(u32::from_le_bytes(b)))),
        Type::Int(_, true) => Elements::I64(each(bytes, i64::from_le_bytes)),
        Type::Int(_, false) => {
            let values = each(bytes, u64::from_le_bytes);
            if values.iter().any(|v| i64::try_from(*v).is_err()) {
                return Err(Error::Model("it has integers of more than 63 bits".into()));
            }
            Elements::I64(values.into_iter().map(|v| v as i64).collect())
        }
    })
}

/// The value of an IEEE 754 half float.
pub fn half(bits: u16) -> f32 {
    let magnitude = match (bits >> 10 & 31, bits & 1023) {
        (0, mantissa) => f32::from(mantissa) * 2f32.powi(-24),
        (31, 0) => f32::INFINITY,
        (31, _) => f32::NAN,
        (exponent, mantissa) => f32::from(1024 + mantissa) * 2f32.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

fn bfloat(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
