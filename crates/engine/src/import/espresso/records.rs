//! The records of an Espresso file, still bytes: nothing is copied before the whole file has been understood.

/// Floats of a file.
#[derive(Clone, Copy, Debug)]
pub struct Floats<'a>(&'a [u8]);

impl Floats<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len() / 4
    }
    /// Float `i`; NaN beyond the end.
    pub fn at(&self, i: usize) -> f32 {
        let bytes = self.0.get(i * 4..).and_then(|b| b.first_chunk());
        bytes.map_or(f32::NAN, |b| f32::from_le_bytes(*b))
    }
    /// All of them.
    pub fn to_vec(self) -> Vec<f32> {
        self.iter().collect()
    }
    fn iter(&self) -> impl Iterator<Item = f32> {
        self.0.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
    /// Whether `f` holds for one of them.
    pub fn any(&self, f: impl FnMut(f32) -> bool) -> bool {
        self.iter().any(f)
    }
}

/// A layer.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// Weights `[row][column]`.
    Dense { rows: usize, columns: usize, weights: Floats<'a>, bias: Floats<'a> },
    /// Weights `[filter][channel][y][x]`.
    Conv {
        pad: usize,
        filters: usize,
        kernel: [usize; 2],
        channels: usize,
        stride: [usize; 2],
        weights: Floats<'a>,
        bias: Floats<'a>,
    },
    /// One value for each channel.
    BatchNorm { beta: Floats<'a>, gamma: Floats<'a>, mean: Floats<'a>, inv_std: Floats<'a> },
    /// A maximum.
    Pool { kernel: [usize; 2], stride: [usize; 2] },
}

impl<'a> Record<'a> {
    /// Whether it has weights.
    pub fn is_matrix(&self) -> bool {
        self.bias().is_some()
    }
    /// Biases of a matrix.
    pub fn bias(&self) -> Option<Floats<'a>> {
        match self {
            Record::Dense { bias, .. } | Record::Conv { bias, .. } => Some(*bias),
            _ => None,
        }
    }
}

const INPUT: u8 = 0x20;
const DENSE: u8 = 0x21;
const BATCH_NORM: u8 = 0x22;
const CONV: u8 = 0x23;
const POOL: u8 = 0x24;
/// Most layers.
const MAX_RECORDS: usize = 4096;

/// True if a file that begins with `start` has the records of such a network: counts, then the input, then a matrix.
pub fn starts(start: &[u8]) -> bool {
    let counts = start.chunks(5).take_while(|c| matches!(c, [0x11..=0x14, _, _, 0, 0])).count();
    (1..=4).contains(&counts) && matches!(start.get(counts * 5..), Some([INPUT, DENSE | CONV, ..]))
}

/// The layers of a file.
///
/// # Errors
/// Says which record is wrong, and where.
pub fn parse(bytes: &[u8]) -> Result<Vec<Record<'_>>, String> {
    let mut all = Vec::new();
    let mut expected = [None; 4];
    let mut found = [0; 4];
    let mut open = false;
    let mut rest = bytes;
    while let Some((tag, after)) = rest.split_first() {
        let at = bytes.len() - rest.len();
        let mut reader = Reader { rest: after };
        let record = match tag {
            0x11..=0x14 if !open => {
                let n = reader.number();
                n.map(|n| {
                    expected[usize::from(tag - 0x11)] = Some(n);
                    None
                })
            }
            &INPUT if !open => {
                open = true;
                Ok(None)
            }
            &(DENSE..=POOL) if open => reader.record(*tag).map(Some),
            _ => {
                let text = if open { "a layer" } else { "a number of layers or the input" };
                return Err(format!("has the byte {tag:#04x} at {at} where {text} should begin"));
            }
        };
        let record = record.map_err(|e| format!("has a record of type {tag:#04x} at byte {at} that {e}"))?;
        if let Some(record) = record {
            if all.len() == MAX_RECORDS {
                return Err(format!("has more than {MAX_RECORDS} layers"));
            }
            found[usize::from(tag - DENSE)] += 1;
            all.push(record);
        }
        rest = reader.rest;
    }
    let kinds = ["dense layers", "BatchNorms", "convolutions", "maxima"];
    for ((kind, expected), found) in kinds.iter().zip(expected).zip(found) {
        if expected.is_some_and(|n| n != found) {
            return Err(format!(
                "announces {} {kind}, but holds {found}: it is truncated or damaged",
                expected.unwrap_or(0)
            ));
        }
    }
    if !all.first().is_some_and(Record::is_matrix) {
        return Err("does not begin with a dense layer or a convolution".into());
    }
    Ok(all)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn record(&mut self, tag: u8) -> Result<Record<'a>, String> {
        Ok(match tag {
            DENSE => {
                let [rows, columns] = self.sizes()?;
                Record::Dense {
                    rows,
                    columns,
                    weights: self.floats(&[rows, columns])?,
                    bias: self.floats(&[rows])?,
                }
            }
            BATCH_NORM => {
                let [n] = self.sizes()?;
                let mut constant = || self.floats(&[n]);
                Record::BatchNorm {
                    beta: constant()?,
                    gamma: constant()?,
                    mean: constant()?,
                    inv_std: constant()?,
                }
            }
            CONV => {
                let pad = self.number()?;
                let [filters, rows, columns, channels, down, right] = self.sizes()?;
                let weights = self.floats(&[filters, channels, rows, columns])?;
                let bias = self.floats(&[filters])?;
                let (kernel, stride) = ([rows, columns], [down, right]);
                Record::Conv { pad, filters, kernel, channels, stride, weights, bias }
            }
            _ => {
                let [rows, columns, down, right] = self.sizes()?;
                Record::Pool { kernel: [rows, columns], stride: [down, right] }
            }
        })
    }

    /// A number that is not negative.
    fn number(&mut self) -> Result<usize, String> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>().ok_or("is truncated")?;
        self.rest = rest;
        let n = i32::from_le_bytes(*bytes);
        usize::try_from(n).map_err(|_| format!("has a size of {n}"))
    }

    /// Numbers above 0.
    fn sizes<const N: usize>(&mut self) -> Result<[usize; N], String> {
        let mut all = [0; N];
        for size in &mut all {
            *size = self.number()?;
            if *size == 0 {
                return Err("has a size of 0".into());
            }
        }
        Ok(all)
    }

    /// As many floats as the product of `shape`; none of them NaN or infinite.
    fn floats(&mut self, shape: &[usize]) -> Result<Floats<'a>, String> {
        let bytes = shape.iter().try_fold(4usize, |n, s| n.checked_mul(*s));
        let split = bytes.and_then(|n| self.rest.split_at_checked(n));
        let (floats, rest) = split.ok_or_else(|| {
            format!("needs floats of shape {shape:?}, but only {} bytes follow", self.rest.len())
        })?;
        self.rest = rest;
        let floats = Floats(floats);
        if floats.any(|f| !f.is_finite()) {
            return Err("contains NaN or infinity".into());
        }
        Ok(floats)
    }
}
