//! Values of few levels: signs, thresholds and quantisers.

use super::builder::{Builder, Id};
use super::proto::{Attribute, Elem};
use super::{Carried, Dialect, EXACT};
use onebit_core::bits;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{Quantize, Rounding, Sign, Zero};
use onebit_core::types::{DType, Encoding, Quant};

/// Largest magnitude of an integer format that has few levels.
pub fn largest(dtype: DType) -> i64 {
    dtype.quant().map_or(0, |q| i64::from(q.max().max(-q.min())))
}

/// Axes of a constant with one number for each channel of `x`.
pub fn per_channel(b: &Builder, x: Id) -> Vec<usize> {
    let mut dims = vec![1; b.dims(x).len()];
    dims[0] = b.dims(x)[0];
    dims
}

/// Multiplies the channels that `flips` marks with -1.
pub fn flip(b: &mut Builder, layer: &str, x: Id, flips: &[bool]) -> Id {
    let signs = flips.iter().map(|f| if *f { -1.0 } else { 1.0 });
    let name = format!("{layer}.flips");
    let dims = per_channel(b, x);
    let signs = numbers(b, &name, &dims, signs, b.elem(x));
    b.like(layer, "Mul", &[x, signs], vec![])
}

/// A constant of floats, or of doubles where it meets them.
fn numbers(b: &mut Builder, name: &str, dims: &[usize], v: impl Iterator<Item = f64>, elem: Elem) -> Id {
    match elem {
        Elem::Double => b.constant(name, elem, dims, v.flat_map(f64::to_le_bytes).collect()),
        _ => b.floats(name, dims, &v.map(|x| x as f32).collect::<Vec<_>>()),
    }
}

/// The truth of each flip bit; none are none.
pub fn flips(params: &Params<Tensor<'_>>, c: usize) -> Vec<bool> {
    match params.flips.as_ref().and_then(|f| f.as_bits()) {
        Some((_, words)) => (0..c).map(|i| bits::get(words, i)).collect(),
        None => vec![false; c],
    }
}

/// Sign of numbers.
pub fn sign(b: &mut Builder, layer: &str, x: Id, sign: Sign) -> Id {
    match (b.dialect, sign.zero) {
        (Dialect::Onnx, zero) => {
            let op = if zero == Zero::Positive { "GreaterOrEqual" } else { "Greater" };
            let zero = b.scalar(0.0);
            choose(b, layer, op, x, zero, Quant::BIT)
        }
        (Dialect::Qonnx, Zero::Positive) => quantiser(b, layer, x, Quant::BIT, "ROUND"),
        // Its quantiser makes +1 of 0.
        (Dialect::Qonnx, Zero::Negative) => {
            let negative = b.like(layer, "Neg", &[x], vec![]);
            let bits = quantiser(b, layer, negative, Quant::BIT, "ROUND");
            b.like(layer, "Neg", &[bits], vec![])
        }
    }
}

/// The larger of two levels where the comparison `op` of `x` with `limit` holds, else the smaller.
fn choose(b: &mut Builder, layer: &str, op: &'static str, x: Id, limit: Id, quant: Quant) -> Id {
    let dims = b.dims(x).to_vec();
    let reached = b.node(layer, op, &[x, limit], vec![], Elem::Bool, &dims);
    let (high, low) = (b.scalar(quant.max() as f32), b.scalar(quant.min() as f32));
    b.node(layer, "Where", &[reached, high, low], vec![], Elem::Float, &dims)
}

/// The value of the level of `x`: the number of thresholds that it reaches, or misses in flipped channels. Integers
/// are at most `bound` in magnitude.
pub fn thresholds(
    b: &mut Builder,
    layer: &str,
    x: Id,
    bound: i64,
    quant: Quant,
    thresholds: &Tensor<'_>,
    flips: &[bool],
) -> Id {
    let steps = quant.levels() - 1;
    // A flipped channel counts `x < t`: the negative of `x` then exceeds `-t`.
    let mut limits: Vec<f64> = match thresholds.as_i32() {
        Some(t) => {
            let limit = |(i, t): (usize, &i32)| {
                let t = i64::from(*t);
                let t = if flips[i / steps] { 1 - t } else { t };
                // Thresholds that no number or every number reaches are often the largest integers.
                t.clamp(-bound, bound + 1) as f64
            };
            t.iter().enumerate().map(limit).collect()
        }
        None => {
            let limit = |(i, t): (usize, f32)| f64::from(if flips[i / steps] { (-t).next_up() } else { t });
            thresholds.to_f32().into_iter().enumerate().map(limit).collect()
        }
    };
    for channel in limits.chunks_exact_mut(steps) {
        channel.sort_by(f64::total_cmp);
    }
    let x = if flips.contains(&true) { flip(b, layer, x, flips) } else { x };
    let (c, name) = (flips.len(), format!("{layer}.thresholds"));
    if b.dialect == Dialect::Qonnx {
        let limits = numbers(b, &name, &[c, steps], limits.into_iter(), Elem::Float);
        let layout = if b.dims(x).len() == 1 { "NC" } else { "NCHW" };
        let attributes = vec![
            Attribute::Text("out_dtype", finn_type(quant)),
            Attribute::Float("out_scale", quant.step() as f32),
            Attribute::Float("out_bias", quant.min() as f32),
            Attribute::Text("data_layout", layout.into()),
        ];
        return b.like(layer, "MultiThreshold", &[x, limits], attributes);
    }
    let mut axes = per_channel(b, x);
    if steps == 1 {
        let limits = numbers(b, &name, &axes, limits.into_iter(), b.elem(x));
        return choose(b, layer, "GreaterOrEqual", x, limits, quant);
    }
    // One more axis for the thresholds; how many are reached is a sum over it.
    axes.push(steps);
    let dims = b.dims(x).to_vec();
    let mut wide = dims.clone();
    wide.push(1);
    let last = b.ints(&format!("{layer}.axes"), &[-1]);
    let limits = numbers(b, &name, &axes, limits.into_iter(), b.elem(x));
    let one = b.node(layer, "Unsqueeze", &[x, last], vec![], b.elem(x), &wide);
    *wide.last_mut().expect("an axis was added") = steps;
    let reached = b.node(layer, "GreaterOrEqual", &[one, limits], vec![], Elem::Bool, &wide);
    let reached = b.cast(layer, reached, Elem::Float);
    let sum =
        b.node(layer, "ReduceSum", &[reached, last], vec![Attribute::Int("keepdims", 0)], Elem::Float, &dims);
    let step = b.scalar(quant.step() as f32);
    let scaled = if quant.step() == 1 { sum } else { b.like(layer, "Mul", &[sum, step], vec![]) };
    let lowest = b.scalar(quant.min() as f32);
    if quant.min() == 0 { scaled } else { b.like(layer, "Add", &[scaled, lowest], vec![]) }
}

/// The element of `table` at the level of `x`, and the largest magnitude of integers.
///
/// # Errors
/// When `x` is no integers of few levels.
pub fn lookup(b: &mut Builder, layer: &str, x: Carried, table: &Tensor<'_>) -> Result<(Id, i64), String> {
    let quant = x.ty.dtype.quant().ok_or("reads no levels")?;
    let table = table.as_i32().ok_or("has no table of integers")?;
    let bound = table.iter().map(|v| i64::from(*v).abs()).max().unwrap_or(0);
    let elem = if bound > EXACT { Elem::Double } else { Elem::Float };
    let data = table.iter().map(|v| f64::from(*v));
    let data = numbers(b, &format!("{layer}.table"), &[table.len()], data, elem);
    let lowest = b.scalar(quant.min() as f32);
    let above = b.like(layer, "Sub", &[x.id, lowest], vec![]);
    let step = b.scalar(quant.step() as f32);
    let level = if quant.step() == 1 { above } else { b.like(layer, "Div", &[above, step], vec![]) };
    let level = b.cast(layer, level, Elem::Int64);
    let dims = b.dims(x.id).to_vec();
    Ok((b.node(layer, "Gather", &[data, level], vec![Attribute::Int("axis", 0)], elem, &dims), bound))
}

/// FINN's name of a format that holds the values of `quant`.
fn finn_type(quant: Quant) -> String {
    match quant.encoding {
        Encoding::Bipolar if quant.is_bit() => "BIPOLAR".into(),
        Encoding::Bipolar => format!("INT{}", quant.bits + 1),
        Encoding::Ternary => "TERNARY".into(),
        Encoding::Signed => format!("INT{}", quant.bits),
        Encoding::Unsigned => format!("UINT{}", quant.bits),
    }
}

/// A quantiser of QONNX whose results are the values of `quant`.
pub fn quantiser(b: &mut Builder, layer: &str, x: Id, quant: Quant, rounding: &str) -> Id {
    if quant.is_bit() {
        let scale = b.scalar(1.0);
        return b.like(layer, "BipolarQuant", &[x, scale], vec![]);
    }
    let scale = b.scalar(quant.step() as f32);
    // Odd numbers are twice what lies between integers: their zero does too.
    let (signed, zero) = match quant.encoding {
        Encoding::Bipolar => (0, quant.max() as f32 / 2.0),
        Encoding::Unsigned => (0, 0.0),
        Encoding::Signed | Encoding::Ternary => (1, 0.0),
    };
    let narrow = i64::from(quant.encoding == Encoding::Ternary);
    let (zero, bits) = (b.scalar(zero), b.scalar(quant.bits.into()));
    let attributes = vec![
        Attribute::Int("signed", signed),
        Attribute::Int("narrow", narrow),
        Attribute::Text("rounding_mode", rounding.into()),
    ];
    b.like(layer, "Quant", &[x, scale, zero, bits], attributes)
}

/// `clamp(round(x * scale + offset), lowest, highest)`.
pub fn quantize(b: &mut Builder, layer: &str, x: Id, q: &Quantize) -> Id {
    let [scale, offset, low, high, half] =
        [q.scale, q.offset, q.lowest as f32, q.highest as f32, 0.5].map(|v| b.scalar(v));
    let mut x = if q.scale == 1.0 { x } else { b.like(layer, "Mul", &[x, scale], vec![]) };
    if q.offset != 0.0 {
        x = b.like(layer, "Add", &[x, offset], vec![]);
    }
    x = b.like(layer, "Clip", &[x, low, high], vec![]);
    if q.rounding == Rounding::HalfUp {
        x = b.like(layer, "Add", &[x, half], vec![]);
    }
    let even = q.rounding == Rounding::HalfEven;
    match (b.dialect, q.output.quant()) {
        (Dialect::Qonnx, Some(quant)) => quantiser(b, layer, x, quant, if even { "ROUND" } else { "FLOOR" }),
        _ => b.like(layer, if even { "Round" } else { "Floor" }, &[x], vec![]),
    }
}
