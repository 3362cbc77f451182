//! The parts of TensorFlow Lite's `schema.fbs` (version 3) that a network needs, read where they lie.
//!
//! Numbers of fields are places in the schema, which only ever grows at its end.

use super::flatbuffer::{Table, Tables, damaged};
use crate::error::{Error, Result};
use crate::import::array::{Array, Elements};
use std::borrow::Cow;
use std::collections::HashSet;

/// Most axes of a tensor.
const MAX_AXES: usize = 8;
/// Most inputs or outputs of an op, and of the network.
const MAX_VALUES: usize = 1024;
/// Most ops of a network.
const MAX_OPS: usize = 1 << 14;
/// Most bytes of a name that are kept.
const MAX_NAME: usize = 200;

/// Names of the built-in ops by their number.
const BUILTINS: &str = "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE \
    EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D \
    LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE \
    RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM \
    EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE \
    MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT \
    LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER \
    GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG \
    SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND \
    LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE \
    RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N \
    GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE \
    NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL \
    PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE \
    HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE \
    ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU \
    DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 \
    UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT";
const CUSTOM: i32 = 32;

/// True if `bytes` start as a TensorFlow Lite file does.
pub fn is_tflite(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"TFL3")
}

/// A file with one network.
pub struct Model<'a> {
    file: &'a [u8],
    codes: Tables<'a>,
    buffers: Tables<'a>,
    /// Subgraphs; the first is the network, others belong to loops and conditions.
    graphs: usize,
    tensors: Tables<'a>,
    operators: Tables<'a>,
    /// Tensors that the caller fills.
    pub inputs: Vec<usize>,
    /// Tensors that the caller reads.
    pub outputs: Vec<usize>,
}

impl<'a> Model<'a> {
    /// Finds the network in a file.
    ///
    /// # Errors
    /// When the file is damaged, or of another format or version.
    pub fn read(file: &'a [u8]) -> Result<Self> {
        if !is_tflite(file) {
            return Err(Error::Model("is no TensorFlow Lite file: it lacks the identifier TFL3".into()));
        }
        let root = Table::root(file)?;
        let version = root.i32(0, 0)?;
        if version != 3 {
            let text =
                format!("has version {version} of the TensorFlow Lite schema; convert the network again");
            return Err(Error::Model(format!("{text} with TensorFlow 2")));
        }
        let graphs = root.tables(2)?;
        let Some(graph) = graphs.get(0)? else { return Err(damaged("it contains no network")) };
        let (codes, buffers) = (root.tables(1)?, root.tables(4)?);
        let (tensors, operators) = (graph.tables(0)?, graph.tables(3)?);
        if operators.len() > MAX_OPS {
            return Err(Error::Model(format!(
                "has {} ops; networks of at most {MAX_OPS} can be read",
                operators.len()
            )));
        }
        let (graphs, inputs, outputs) = (graphs.len(), Vec::new(), Vec::new());
        let mut model = Model { file, codes, buffers, graphs, tensors, operators, inputs, outputs };
        model.inputs = model.present(&graph, 1)?;
        model.outputs = model.present(&graph, 2)?;
        Ok(model)
    }
    /// Refuses files of several networks. Ops that use the others have better messages, so they come first.
    ///
    /// # Errors
    /// When there are several.
    pub fn check_single(&self) -> Result<()> {
        match self.graphs {
            1 => Ok(()),
            n => Err(Error::Model(format!(
                "has {n} subgraphs, but files of one network are imported; convert one alone"
            ))),
        }
    }
    /// Tensor `index`.
    ///
    /// # Errors
    /// When it is damaged or of a kind that cannot be read.
    pub fn tensor(&self, index: usize) -> Result<Tensor<'a>> {
        let table =
            self.tensors.get(index)?.ok_or_else(|| damaged("an op names a tensor that is not there"))?;
        let name = short(table.string(3)?);
        let axes = table.vector(0)?;
        let shape: Option<Vec<usize>> = match axes.len() <= MAX_AXES {
            true => axes.iter().map(|a| usize::try_from(i32::from_le_bytes(*a)).ok()).collect(),
            false => None,
        };
        let Some(shape) = shape else {
            let text =
                format!("has a negative length or more than {MAX_AXES} axes; convert with fixed shapes");
            return Err(Error::layer(name, text));
        };
        if table.table(6)?.is_some() {
            return Err(Error::layer(name, "is stored sparsely; convert it without sparsity"));
        }
        let data = match self.buffers.get(table.i32(2, 0)?.cast_unsigned() as usize)? {
            Some(buffer) => self.data(&buffer)?,
            None => &[],
        };
        let quantization = Quantization::read(table.table(4)?)?;
        Ok(Tensor { name, shape, format: Format::of(table.u8(1, 0)?), data, quantization })
    }
    /// Bytes of a buffer: inside the tables, or anywhere in the file where they did not fit into 2 GB.
    fn data(&self, buffer: &Table<'a>) -> Result<&'a [u8]> {
        let (offset, size) = (buffer.u64(1)?, buffer.u64(2)?);
        if offset <= 1 {
            return buffer.bytes(0);
        }
        let start = usize::try_from(offset).ok().and_then(|offset| self.file.get(offset..));
        let data = start.and_then(|rest| rest.get(..usize::try_from(size).ok()?));
        data.ok_or_else(|| damaged("a buffer lies outside the file"))
    }
    /// The ops that the first output depends on, in the order in which they run.
    ///
    /// # Errors
    /// When an op is damaged.
    pub fn needed(&self) -> Result<Vec<Operator<'a>>> {
        let mut read: HashSet<usize> = self.outputs.first().copied().into_iter().collect();
        let mut needed = Vec::new();
        for i in (0..self.operators.len()).rev() {
            let op = self.operator(i)?;
            if op.outputs.iter().any(|o| read.contains(o)) {
                read.extend(op.inputs.iter().flatten());
                needed.push(op);
            }
        }
        needed.reverse();
        Ok(needed)
    }
    fn operator(&self, index: usize) -> Result<Operator<'a>> {
        let missing = || damaged("an op is not there");
        let table = self.operators.get(index)?.ok_or_else(missing)?;
        let code = self.codes.get(table.i32(0, 0)?.cast_unsigned() as usize)?.ok_or_else(missing)?;
        // Old files have only the byte; new ones repeat small numbers there.
        let number = code.i32(3, 0)?.max(i32::from(code.u8(0, 0)?.cast_signed()));
        let builtin = usize::try_from(number).ok().and_then(|n| BUILTINS.split_ascii_whitespace().nth(n));
        let name = match builtin {
            _ if number == CUSTOM => short(code.string(1)?),
            Some(name) => Cow::Borrowed(name),
            None => format!("number {number}").into(),
        };
        Ok(Operator {
            name,
            inputs: self.values(&table, 1)?,
            outputs: self.present(&table, 2)?,
            options: Options(table.table(4)?),
            custom: table.bytes(5)?,
        })
    }
    /// Tensors that a field names; -1 is an input that is left out.
    fn values(&self, table: &Table<'a>, field: usize) -> Result<Vec<Option<usize>>> {
        let list = table.vector(field)?;
        if list.len() > MAX_VALUES {
            return Err(Error::Model(format!("has an op of more than {MAX_VALUES} inputs or outputs")));
        }
        let value = |index: &[u8; 4]| match i32::from_le_bytes(*index) {
            -1 => Ok(None),
            i => match usize::try_from(i) {
                Ok(i) if i < self.tensors.len() => Ok(Some(i)),
                _ => Err(damaged("an op names a tensor that is not there")),
            },
        };
        list.iter().map(value).collect()
    }
    /// [`Model::values`] where none may be left out.
    fn present(&self, table: &Table<'a>, field: usize) -> Result<Vec<usize>> {
        let all: Option<Vec<usize>> = self.values(table, field)?.into_iter().collect();
        all.ok_or_else(|| damaged("an output is left out"))
    }
}

/// A name without what would make a message unreadable or is too long for the name of a layer.
fn short(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.len() <= MAX_NAME && !name.contains(char::is_control) {
        return name;
    }
    let mut short: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    while short.len() > MAX_NAME {
        short.pop();
    }
    short.into()
}

/// An op: its name, tensors and options.
pub struct Operator<'a> {
    /// Name of the built-in or custom op.
    pub name: Cow<'a, str>,
    /// Tensors that it reads; `None` where an optional one is left out.
    pub inputs: Vec<Option<usize>>,
    /// Tensors that it makes.
    pub outputs: Vec<usize>,
    /// Options of a built-in op.
    pub options: Options<'a>,
    /// Options of a custom op.
    pub custom: &'a [u8],
}

/// Options of a built-in op by the number of their field; all are optional.
pub struct Options<'a>(Option<Table<'a>>);

impl Options<'_> {
    /// An integer.
    pub fn int(&self, field: usize, default: i32) -> Result<i32> {
        self.0.map_or(Ok(default), |t| t.i32(field, default))
    }
    /// A small enumeration; the first by default.
    pub fn choice(&self, field: usize) -> Result<u8> {
        self.0.map_or(Ok(0), |t| t.u8(field, 0))
    }
    /// A truth value; false by default.
    pub fn flag(&self, field: usize) -> Result<bool> {
        self.0.map_or(Ok(false), |t| t.bool(field))
    }
    /// A float.
    pub fn float(&self, field: usize, default: f32) -> Result<f32> {
        self.0.map_or(Ok(default), |t| t.f32(field, default))
    }
    /// A list of integers; empty by default.
    pub fn ints(&self, field: usize) -> Result<Vec<i64>> {
        let list = self.0.map_or(Ok(&[] as &[_]), |t| t.vector(field))?;
        if list.len() > MAX_AXES {
            return Err(Error::Model(format!("has an op with a list of more than {MAX_AXES} axes")));
        }
        Ok(list.iter().map(|v| i64::from(i32::from_le_bytes(*v))).collect())
    }
}

/// Number format of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Double precision.
    F64,
    /// Signed integers of so many bytes.
    Int(usize),
    /// Bytes 0..=255.
    U8,
    /// Truth values, one byte each.
    Bool,
    /// Any other, by its number.
    Other(u8),
}

impl Format {
    fn of(code: u8) -> Self {
        match code {
            0 => Format::F32,
            1 => Format::F16,
            2 => Format::Int(4),
            3 => Format::U8,
            4 => Format::Int(8),
            6 => Format::Bool,
            7 => Format::Int(2),
            9 => Format::Int(1),
            10 => Format::F64,
            other => Format::Other(other),
        }
    }
    /// Bytes of an element, or `None` where they are not known.
    fn bytes(self) -> Option<usize> {
        match self {
            Format::F32 => Some(4),
            Format::F16 => Some(2),
            Format::F64 => Some(8),
            Format::Int(bytes) => Some(bytes),
            Format::U8 | Format::Bool => Some(1),
            Format::Other(_) => None,
        }
    }
    /// True for floats of any width.
    pub fn is_float(self) -> bool {
        matches!(self, Format::F32 | Format::F16 | Format::F64)
    }
}

/// A tensor: what is known of it before the network runs.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Name, for messages.
    pub name: Cow<'a, str>,
    /// Length of each axis, the batch first.
    pub shape: Vec<usize>,
    /// Number format.
    pub format: Format,
    /// Elements of a constant; empty for everything else.
    data: &'a [u8],
    /// What integers mean, where they stand for floats.
    pub quantization: Option<Quantization<'a>>,
}

impl Tensor<'_> {
    /// Whether it is a constant: it has elements in the file, or none at all.
    pub fn is_constant(&self) -> bool {
        !self.data.is_empty() || self.shape.contains(&0)
    }
    /// The elements of a constant as they are stored: integers are not dequantised.
    ///
    /// # Errors
    /// When there are too few or too many, or their format cannot be read.
    pub fn array(&self) -> Result<Array> {
        let elements = self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let Some(size) = self.format.bytes() else {
            let text = format!("has the number format {:?}; convert with float32 or int8", self.format);
            return Err(Error::layer(self.name.as_ref(), text));
        };
        if elements.and_then(|n| n.checked_mul(size)) != Some(self.data.len()) {
            let text = format!("has {} bytes for shape {:?}; convert it again", self.data.len(), self.shape);
            return Err(Error::layer(self.name.as_ref(), text));
        }
        let groups = self.data.chunks_exact(size);
        let unsigned = |b: &[u8]| b.iter().rev().fold(0u64, |v, digit| v << 8 | u64::from(*digit));
        let unused = 64 - 8 * size as u32;
        let elements = match self.format {
            Format::F32 => Elements::F32(groups.map(|b| f32::from_bits(unsigned(b) as u32)).collect()),
            Format::F16 => Elements::F32(groups.map(|b| half(unsigned(b) as u16)).collect()),
            Format::F64 => Elements::F32(groups.map(|b| f64::from_bits(unsigned(b)) as f32).collect()),
            Format::Bool => Elements::Bool(self.data.iter().map(|b| *b != 0).collect()),
            Format::U8 => Elements::I64(self.data.iter().map(|b| i64::from(*b)).collect()),
            _ => Elements::I64(groups.map(|b| (unsigned(b) << unused) as i64 >> unused).collect()),
        };
        Array::new(self.shape.clone(), elements)
    }
}

/// What the integers of a tensor mean: `scale * (q - zero_point)`, with one scale or one for each place along an axis.
#[derive(Clone, Copy, Debug)]
pub struct Quantization<'a> {
    scales: &'a [[u8; 4]],
    zero_points: &'a [[u8; 8]],
    /// The axis that several scales are for.
    pub axis: usize,
}

impl<'a> Quantization<'a> {
    /// `None` where there are no scales: files keep only the range there, or nothing.
    fn read(table: Option<Table<'a>>) -> Result<Option<Self>> {
        let Some(table) = table else { return Ok(None) };
        let (scales, zero_points) = (table.vector(2)?, table.vector(3)?);
        let axis = usize::try_from(table.i32(6, 0)?).unwrap_or(usize::MAX);
        Ok((!scales.is_empty()).then_some(Quantization { scales, zero_points, axis }))
    }
    /// Number of scales: 1, or the length of the axis.
    pub fn len(&self) -> usize {
        self.scales.len()
    }
    /// Scale and zero point at place `index` of the axis, or `None` when they are not there or cannot be used.
    pub fn at(&self, index: usize) -> Option<(f32, i32)> {
        let scale = f32::from_le_bytes(*self.scales.get(index)?);
        let zero = match self.zero_points {
            [] => 0,
            [zero] => i64::from_le_bytes(*zero),
            zeros => i64::from_le_bytes(*zeros.get(index)?),
        };
        // Zero points are codes of at most 16 bits.
        let zero = i32::try_from(zero).ok().filter(|z| z.unsigned_abs() <= 1 << 16)?;
        (scale.is_finite() && scale > 0.0).then_some((scale, zero))
    }
}

/// A half-precision float.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = f32::from(bits & 0x3ff) / 1024.0;
    match bits >> 10 & 31 {
        0 => sign * fraction * 2f32.powi(-14),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        exponent => sign * (1.0 + fraction) * 2f32.powi(i32::from(exponent) - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ops_stand_at_their_numbers() {
        let names: Vec<&str> = BUILTINS.split_ascii_whitespace().collect();
        for (number, name) in [
            (0, "ADD"),
            (3, "CONV_2D"),
            (9, "FULLY_CONNECTED"),
            (CUSTOM as usize, "CUSTOM"),
            (40, "MEAN"),
            (67, "TRANSPOSE_CONV"),
            (98, "LEAKY_RELU"),
            (117, "HARD_SWISH"),
            (123, "SELECT_V2"),
            (150, "GELU"),
            (158, "SIGN"),
            (161, "RIGHT_SHIFT"),
        ] {
            assert_eq!(names[number], name);
        }
    }

    #[test]
    fn constants_are_widened() {
        let constant = |format, data: &'static [u8], count| Tensor {
            name: "c".into(),
            shape: vec![count],
            format,
            data,
            quantization: None,
        };
        let read = |format, data, count| constant(format, data, count).array().unwrap().elements;
        assert_eq!(read(Format::F32, &[0, 0, 0xc0, 0xbf], 1), Elements::F32(vec![-1.5]));
        assert_eq!(
            read(Format::F16, &[0, 0xbe, 1, 0, 0xff, 0x7b], 3),
            Elements::F32(vec![-1.5, 2f32.powi(-24), 65504.0])
        );
        assert_eq!(read(Format::F64, &[0, 0, 0, 0, 0, 0, 0xf8, 0xbf], 1), Elements::F32(vec![-1.5]));
        assert_eq!(read(Format::Int(1), &[0xff, 5], 2), Elements::I64(vec![-1, 5]));
        assert_eq!(read(Format::Int(2), &[0xfe, 0xff], 1), Elements::I64(vec![-2]));
        assert_eq!(read(Format::Int(4), &[0, 0, 0, 0x80], 1), Elements::I64(vec![i64::from(i32::MIN)]));
        assert_eq!(read(Format::Int(8), &[3, 0, 0, 0, 1, 0, 0, 0], 1), Elements::I64(vec![(1 << 32) + 3]));
        assert_eq!(read(Format::U8, &[0xff], 1), Elements::I64(vec![255]));
        assert_eq!(read(Format::Bool, &[0, 2], 2), Elements::Bool(vec![false, true]));
        for (format, count) in
            [(Format::F32, 1), (Format::Int(1), 3), (Format::Int(1), usize::MAX), (Format::Other(5), 2)]
        {
            assert!(constant(format, &[0, 0], count).array().is_err(), "{format:?}");
        }
    }
}
