//! Writes small TensorFlow Lite files: tables of fields by number, and the tables of a network.

/// A field of a table.
#[derive(Clone)]
pub enum Field {
    Absent,
    Byte(u8),
    Int(i32),
    Float(f32),
    Text(&'static str),
    Bytes(Vec<u8>),
    Ints(Vec<i32>),
    Floats(Vec<f32>),
    Longs(Vec<i64>),
    Table(Table),
    Tables(Vec<Table>),
}
use Field::*;

/// Fields by number.
pub type Table = Vec<Field>;

/// Appends a table: vtable, fields, and then what they point to. Returns where it is.
fn write(table: &Table, out: &mut Vec<u8>) -> usize {
    let vtable = out.len();
    let at = vtable + 4 + 2 * table.len();
    let mut places = Vec::new();
    let mut inline: Vec<u8> = vec![0; 4];
    for field in table {
        places.push(if let Absent = field { 0 } else { inline.len() as u16 });
        match field {
            Absent => {}
            Byte(v) => inline.push(*v),
            Int(v) => inline.extend(v.to_le_bytes()),
            Float(v) => inline.extend(v.to_le_bytes()),
            _ => inline.extend([0; 4]),
        }
    }
    inline[..4].copy_from_slice(&((at - vtable) as i32).to_le_bytes());
    out.extend(((4 + 2 * table.len()) as u16).to_le_bytes());
    out.extend((inline.len() as u16).to_le_bytes());
    places.iter().for_each(|p| out.extend(p.to_le_bytes()));
    out.extend(inline);
    for (field, place) in table.iter().zip(places) {
        let target = match field {
            Absent | Byte(_) | Int(_) | Float(_) => continue,
            Text(v) => vector(v.len(), v.as_bytes().to_vec(), out),
            Bytes(v) => vector(v.len(), v.clone(), out),
            Ints(v) => vector(v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect(), out),
            Floats(v) => vector(v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect(), out),
            Longs(v) => vector(v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect(), out),
            Table(t) => write(t, out),
            Tables(list) => {
                let target = vector(list.len(), vec![0; 4 * list.len()], out);
                for (i, t) in list.iter().enumerate() {
                    let child = write(t, out);
                    point(out, target + 4 + 4 * i, child);
                }
                target
            }
        };
        point(out, at + usize::from(place), target);
    }
    at
}

fn vector(length: usize, bytes: Vec<u8>, out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend((length as u32).to_le_bytes());
    out.extend(bytes);
    at
}

fn point(out: &mut [u8], from: usize, to: usize) {
    out[from..from + 4].copy_from_slice(&((to - from) as u32).to_le_bytes());
}

/// What an op of the schema is called by.
pub enum Code {
    Builtin(u8),
    Custom(&'static str),
}

/// A network in the making. Tensor 0 is its input, the last one its output.
#[derive(Default)]
pub struct Network {
    tensors: Vec<Table>,
    buffers: Vec<Table>,
    codes: Vec<Table>,
    ops: Vec<Table>,
    /// Where not the last tensor is the output.
    pub outputs: Vec<i32>,
}

pub const F32: u8 = 0;
pub const I32: u8 = 2;
pub const BOOL: u8 = 6;
pub const I8: u8 = 9;

impl Network {
    pub fn new() -> Self {
        Network { buffers: vec![vec![]], ..Network::default() }
    }
    fn add(&mut self, shape: &[i32], format: u8, data: Option<Vec<u8>>, quantization: Field) -> i32 {
        let buffer = data.map_or(0, |data| {
            self.buffers.push(vec![Bytes(data)]);
            self.buffers.len() as i32 - 1
        });
        let name = ["x", "a", "b", "c", "d", "e", "f", "g"][self.tensors.len() % 8];
        self.tensors.push(vec![Ints(shape.to_vec()), Byte(format), Int(buffer), Text(name), quantization]);
        self.tensors.len() as i32 - 1
    }
    /// A tensor that an op makes, or the input.
    pub fn tensor(&mut self, shape: &[i32], format: u8) -> i32 {
        self.add(shape, format, None, Absent)
    }
    /// The same, quantised.
    pub fn quantised(&mut self, shape: &[i32], scale: f32, zero: i64) -> i32 {
        let quantization = vec![Absent, Absent, Floats(vec![scale]), Longs(vec![zero])];
        self.add(shape, I8, None, Table(quantization))
    }
    pub fn floats(&mut self, shape: &[i32], values: &[f32]) -> i32 {
        self.add(shape, F32, Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()), Absent)
    }
    pub fn ints(&mut self, shape: &[i32], values: &[i32]) -> i32 {
        self.add(shape, I32, Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()), Absent)
    }
    /// Int8 weights with a scale for each place of the first axis.
    pub fn bytes(&mut self, shape: &[i32], values: &[i8], scales: &[f32]) -> i32 {
        let quantization = vec![Absent, Absent, Floats(scales.to_vec()), Longs(vec![0; scales.len()])];
        self.add(shape, I8, Some(values.iter().map(|v| *v as u8).collect()), Table(quantization))
    }
    /// An op with options of its table, or custom options.
    pub fn op(&mut self, code: Code, inputs: &[i32], outputs: &[i32], options: Table, custom: Vec<u8>) {
        self.codes.push(match code {
            Code::Builtin(number) => vec![Byte(number.min(127)), Absent, Absent, Int(i32::from(number))],
            Code::Custom(name) => vec![Byte(32), Text(name), Absent, Int(32)],
        });
        let index = Int(self.codes.len() as i32 - 1);
        let (inputs, outputs) = (Ints(inputs.to_vec()), Ints(outputs.to_vec()));
        self.ops.push(vec![index, inputs, outputs, Absent, Table(options), Bytes(custom)]);
    }
    pub fn file(&self) -> Vec<u8> {
        let outputs =
            if self.outputs.is_empty() { vec![self.tensors.len() as i32 - 1] } else { self.outputs.clone() };
        let graph =
            vec![Tables(self.tensors.clone()), Ints(vec![0]), Ints(outputs), Tables(self.ops.clone())];
        let codes = Tables(self.codes.clone());
        let model = vec![Int(3), codes, Tables(vec![graph]), Absent, Tables(self.buffers.clone())];
        let mut out = b"\0\0\0\0TFL3".to_vec();
        let root = write(&model, &mut out);
        point(&mut out, 0, root);
        out
    }
}

/// A FlexBuffers map of integers, two bytes each.
pub fn flexbuffer(pairs: &[(&str, i16)]) -> Vec<u8> {
    let mut pairs = pairs.to_vec();
    pairs.sort_unstable();
    let mut out = Vec::new();
    let starts: Vec<usize> = pairs
        .iter()
        .map(|(key, _)| {
            let at = out.len();
            out.extend(key.bytes().chain([0]));
            at
        })
        .collect();
    let keys = out.len();
    for (i, start) in starts.iter().enumerate() {
        out.extend(((keys + 2 * i - start) as u16).to_le_bytes());
    }
    let header = out.len();
    for number in [header - keys, 2, pairs.len()] {
        out.extend((number as u16).to_le_bytes());
    }
    let values = out.len();
    pairs.iter().for_each(|(_, value)| out.extend(value.to_le_bytes()));
    // Integers of two bytes; a map of them; how far back it is.
    out.extend(vec![1 << 2 | 1; pairs.len()]);
    out.extend([(out.len() - values) as u8, 9 << 2 | 1, 1]);
    out
}
