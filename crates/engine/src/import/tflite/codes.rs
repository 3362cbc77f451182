//! Ops from codes of 8 bits to codes of 8 bits, in the integers of the built-in kernels of TensorFlow Lite: each result is
//! the code that those kernels put out on a processor with vectors of 128 bits.
//!
//! An accumulator becomes a code by a fixed-point product ([`fixed`](super::fixed)) that rises, so each code begins at
//! one accumulator, which is all that the graph keeps.

use super::fixed::{Halves, Multiplier, first};
use super::layers::{self, window};
use super::network::{Kind, Live, MAX_QUANTISED, Network, Node, Value, codes, single};
use super::schema::Format;
use crate::error::Result;
use crate::import::array::{Array, Elements};
use crate::import::lower::unary::Unary;
use crate::import::lower::{Binary, Channels, CodeRange, Constant, Pool, Var};
use onebit_core::ops::PoolKind;

/// Bits that the terms of a sum are shifted to the left by.
const LIFT: i32 = 20;
/// Channels that depthwise and transposed convolutions compute at a time, and averages. What is left over is computed one
/// by one, where halves are rounded away from zero.
const LANES: usize = 8;
const AVERAGE_LANES: usize = 16;

/// How channel `c` of `channels` is rounded by a kernel that computes `lanes` at a time.
fn in_lanes(c: usize, channels: usize, lanes: usize) -> Halves {
    if c < channels / lanes * lanes { Halves::Up } else { Halves::Away }
}

/// What an op makes of codes, or `None` where it has to be computed in real numbers.
pub fn translate(network: &mut Network<'_>, node: &Node<'_>) -> Result<Option<Value>> {
    let Some(out) = Target::of(network, node)? else { return Ok(None) };
    match node.op.name.as_ref() {
        "CONV_2D" | "DEPTHWISE_CONV_2D" | "FULLY_CONNECTED" | "TRANSPOSE_CONV" => {
            product(network, node, &out)
        }
        "ADD" | "SUB" => sum(network, node, &out),
        "MUL" => times(network, node, &out),
        "PRELU" => prelu(network, node, &out),
        "AVERAGE_POOL_2D" => average(network, node, &out),
        "MEAN" | "SUM" => reduced(network, node, &out),
        _ => one(network, node, &out),
    }
}

/// The codes that an op puts out.
struct Target {
    range: CodeRange,
    scale: f32,
    zero: i32,
}

impl Target {
    fn of(network: &Network<'_>, node: &Node<'_>) -> Result<Option<Self>> {
        let &[index] = node.op.outputs.as_slice() else { return Ok(None) };
        let tensor = network.model.tensor(index)?;
        let Some((lowest, highest)) = codes(&tensor)? else { return Ok(None) };
        // The other way says what is wrong with it.
        if tensor.shape.iter().any(|d| *d > MAX_QUANTISED) {
            return Ok(None);
        }
        let (scale, zero) = single(&tensor)?;
        Ok(Some(Target { range: (lowest as i32, highest as i32), scale, zero: zero as i32 }))
    }
    /// The code of a real number, as the ends of activations are rounded.
    fn code(&self, real: f32) -> i32 {
        self.zero.saturating_add((real / self.scale).round() as i32)
    }
    /// The codes that an activation leaves, or `None` where it does more than clamp.
    fn activated(&self, code: u8) -> Option<CodeRange> {
        let (low, high) = match code {
            0 => return Some(self.range),
            1 => (self.zero, i32::MAX),
            2 => (self.code(-1.0), self.code(1.0)),
            3 => (self.zero, self.code(6.0)),
            _ => return None,
        };
        let range = (self.range.0.max(low), self.range.1.min(high));
        (range.0 <= range.1).then_some(range)
    }
}

/// Codes that an op reads.
struct Source {
    live: Live,
    scale: f32,
    zero: i32,
}

impl Source {
    /// Input `i`, if it is codes that are known when the network runs.
    fn of(network: &Network<'_>, node: &Node<'_>, i: usize) -> Result<Option<Self>> {
        let Some(index) = node.optional(i) else { return Ok(None) };
        match network.values.get(&index) {
            Some(Value::Live(live)) if live.kind == Kind::Codes => {
                let (scale, zero) = single(&network.model.tensor(index)?)?;
                Ok(Some(Source { live: live.clone(), scale, zero: zero as i32 }))
            }
            _ => Ok(None),
        }
    }
    /// The integers that the codes stand for.
    fn integers(&self, network: &mut Network<'_>, node: &Node<'_>) -> Result<Live> {
        let var = network.lowerer.unary(&node.name, self.live.var.clone(), Unary::Sub(self.zero as f32))?;
        Ok(Live { kind: Kind::Real, ..self.live.with(var) })
    }
}

/// The result of an op, as codes.
fn coded(live: &Live, var: Var) -> Option<Value> {
    Some(Value::Live(Live { kind: Kind::Codes, ..live.with(var) }))
}

/// Where a condition begins to hold, of numbers that lie `below` those that it is about.
fn edge(below: i64, holds: impl Fn(i64) -> bool) -> f32 {
    match first(holds) {
        // The smallest integer: it always holds.
        Some(n) if n <= i64::from(i32::MIN) => f32::MIN,
        Some(n) => (n - below) as f32,
        None => f32::MAX,
    }
}

/// Convolutions and dense layers: an accumulator with its bias, times the scales of both sides over that of the output.
fn product(network: &mut Network<'_>, node: &Node<'_>, out: &Target) -> Result<Option<Value>> {
    let name = node.op.name.as_ref();
    let (data, bias, activation) = match name {
        "TRANSPOSE_CONV" => (2, 3, 3),
        "DEPTHWISE_CONV_2D" => (0, 2, 4),
        "FULLY_CONNECTED" => (0, 2, 0),
        _ => (0, 2, 3),
    };
    let range = out.activated(node.op.options.choice(activation)?);
    let (Some(x), Some(range), Some(index)) = (Source::of(network, node, data)?, range, node.optional(1))
    else {
        return Ok(None);
    };
    let tensor = network.model.tensor(index)?;
    let (Format::Int(1) | Format::U8, Some(weights)) = (tensor.format, tensor.quantization) else {
        return Ok(None);
    };
    let Value::Constant(array) = network.stored(node, 1)? else { return Ok(None) };
    let axis = if name == "DEPTHWISE_CONV_2D" { array.shape.len().saturating_sub(1) } else { 0 };
    let (rows, scales) = (array.shape.get(axis).copied().unwrap_or(0), weights.len());
    let (Some(integers), true) = (array.to_i64(), rows > 0 && (scales == 1 || scales == rows)) else {
        return Ok(None);
    };
    let mut multipliers = Vec::with_capacity(rows);
    let mut zero = 0;
    for i in 0..rows {
        let Some((scale, point)) = weights.at(i.min(scales - 1)) else { return Ok(None) };
        if point != 0 && scales > 1 {
            return Ok(None);
        }
        zero = i64::from(point);
        // Dense layers with one scale multiply in single precision.
        let both = match name {
            "FULLY_CONNECTED" if scales == 1 => f64::from(x.scale * scale),
            _ => f64::from(x.scale) * f64::from(scale),
        };
        multipliers.push(Multiplier::new(both / f64::from(out.scale)));
    }
    let bias = match node.optional(bias) {
        Some(_) => match network.stored(node, bias)? {
            Value::Constant(bias) => bias.to_i64().filter(|bias| bias.len() == rows),
            Value::Live(_) => None,
        },
        None => Some(vec![0; rows]),
    };
    let Some(bias) = bias else { return Ok(None) };
    let values = integers.iter().map(|v| (v - zero) as f32).collect();
    let filter = Array::new(array.shape, Elements::F32(values))?;
    let live = x.integers(network, node)?;
    let sums = match name {
        "CONV_2D" => layers::convolved(network, node, &live, &filter, None)?,
        "DEPTHWISE_CONV_2D" => layers::by_channel(network, node, &live, &filter, None)?,
        "FULLY_CONNECTED" => layers::multiplied(network, node, live, &filter, None)?,
        _ => layers::upsampled(network, node, &live, &filter, None)?,
    };
    let halves = |c: usize| match name {
        "TRANSPOSE_CONV" | "DEPTHWISE_CONV_2D" => in_lanes(c, rows, LANES),
        _ => Halves::Up,
    };
    let edge = |c: usize, code: i32| {
        let (c, above) = (c.min(rows - 1), i64::from(code - out.zero));
        edge(bias[c], |n| multipliers[c].times(n, halves(c)) >= above)
    };
    let var = network.lowerer.stepped(&node.name, sums.var.clone(), range, edge)?;
    Ok(coded(&sums, var))
}

/// The other side of an op of two values that reads one that is computed: constant integers with their scale.
fn constant(network: &mut Network<'_>, node: &Node<'_>, i: usize) -> Result<Option<(Array, f32)>> {
    let Some(index) = node.optional(i) else { return Ok(None) };
    let tensor = network.model.tensor(index)?;
    let known = matches!(tensor.format, Format::Int(1) | Format::U8) && tensor.quantization.is_some();
    if !known || tensor.shape.contains(&0) {
        return Ok(None);
    }
    let (scale, zero) = single(&tensor)?;
    let Value::Constant(array) = network.stored(node, i)? else { return Ok(None) };
    let values = array.to_f32().into_iter().map(|v| v - zero).collect();
    Ok(Some((Array::new(array.shape, Elements::F32(values))?, scale)))
}

/// How the terms of a sum are brought to a finer scale, and the sum to that of the output.
struct Sum {
    scales: [Multiplier; 2],
    whole: Multiplier,
    subtracts: bool,
}

impl Sum {
    fn of(a: f32, b: f32, out: &Target, subtracts: bool) -> Self {
        let twice = f64::from(2.0 * a.max(b));
        let whole = Multiplier::new(twice / f64::from((1u32 << LIFT) as f32 * out.scale));
        Sum { scales: [a, b].map(|s| Multiplier::new(f64::from(s) / twice)), whole, subtracts }
    }
    /// The term of integer `n` of side `i`. Sums are computed in vectors, differences one by one.
    fn term(&self, i: usize, n: i64) -> i64 {
        match (self.subtracts, i) {
            (false, _) => self.scales[i].lifted(n, LIFT),
            (true, 0) => self.scales[i].times(n << LIFT, Halves::Away),
            (true, _) => -self.scales[i].times(n << LIFT, Halves::Away),
        }
    }
    /// Whether a sum makes at least `above`, which is a code less the zero point.
    fn reaches(&self, sum: i64, above: i32) -> bool {
        self.whole.times(sum, Halves::Away) >= i64::from(above)
    }
}

/// `a + b` or `a - b`.
fn sum(network: &mut Network<'_>, node: &Node<'_>, out: &Target) -> Result<Option<Value>> {
    let Some(range) = out.activated(node.op.options.choice(0)?) else { return Ok(None) };
    let subtracts = node.op.name == "SUB";
    let (a, b) = match (Source::of(network, node, 0)?, Source::of(network, node, 1)?) {
        (Some(a), Some(b)) => (a, b),
        (Some(a), None) => return shifted(network, node, out, range, &a, 0),
        (None, Some(b)) if !subtracts => return shifted(network, node, out, range, &b, 1),
        _ => return Ok(None),
    };
    let sum = Sum::of(a.scale, b.scale, out, subtracts);
    let edge = |code: i32| first(|n| sum.reaches(n, code - out.zero)).map_or(i32::MAX, |n| n as i32);
    let terms: [&dyn Fn(i32) -> i32; 2] = [&|code| sum.term(0, i64::from(code - a.zero)) as i32, &|code| {
        sum.term(1, i64::from(code - b.zero)) as i32
    }];
    let vars = [a.live.var.clone(), b.live.var.clone()];
    let var = network.lowerer.sum_of_codes(&node.name, vars, terms, range, edge)?;
    Ok(var.and_then(|var| coded(&Live { batch: a.live.batch || b.live.batch, ..a.live.clone() }, var)))
}

/// [`sum`] of side `i` and a constant.
fn shifted(
    network: &mut Network<'_>,
    node: &Node<'_>,
    out: &Target,
    range: CodeRange,
    x: &Source,
    i: usize,
) -> Result<Option<Value>> {
    let Some((array, scale)) = constant(network, node, 1 - i)? else { return Ok(None) };
    let scales = if i == 0 { [x.scale, scale] } else { [scale, x.scale] };
    let sum = Sum::of(scales[0], scales[1], out, node.op.name == "SUB");
    let live = x.integers(network, node)?;
    let others = match network.lowerer.spread(&node.name, &live.var, &array)? {
        Constant::Uniform(one) => vec![one],
        Constant::Channels(all) => all,
        Constant::Elements(_) => return Ok(None),
    };
    let edge = |c: usize, code: i32| {
        let other = sum.term(1 - i, others.get(c).unwrap_or(&others[0]).round() as i64);
        edge(0, |n| sum.reaches(sum.term(i, n.clamp(-256, 256)) + other, code - out.zero))
    };
    let var = network.lowerer.stepped(&node.name, live.var.clone(), range, edge)?;
    Ok(coded(&live, var))
}

/// `a * b`.
fn times(network: &mut Network<'_>, node: &Node<'_>, out: &Target) -> Result<Option<Value>> {
    let Some(range) = out.activated(node.op.options.choice(0)?) else { return Ok(None) };
    let (live, product, scale) = match (Source::of(network, node, 0)?, Source::of(network, node, 1)?) {
        (Some(a), Some(b)) => {
            let (first, second) = (a.integers(network, node)?, b.integers(network, node)?);
            let product = network.lowerer.binary(&node.name, Binary::Mul, first.var, second.var)?;
            (Live { batch: a.live.batch || b.live.batch, ..a.live }, product, a.scale * b.scale)
        }
        (Some(x), None) | (None, Some(x)) => {
            let other = if matches!(network.stored(node, 0)?, Value::Live(_)) { 1 } else { 0 };
            let Some((array, scale)) = constant(network, node, other)? else { return Ok(None) };
            let live = x.integers(network, node)?;
            let var = network.lowerer.floats(&node.name, live.var.clone())?;
            let product = network.lowerer.with_constant(&node.name, Binary::Mul, var, &array, false)?;
            (live, product, x.scale * scale)
        }
        _ => return Ok(None),
    };
    let multiplier = Multiplier::new(f64::from(scale / out.scale));
    let f = |n| multiplier.times(n, Halves::Away) + i64::from(out.zero);
    let var = fixed(network, node, product, range, 0, f)?;
    Ok(coded(&live, var))
}

/// `x >= 0 ? x : x * slope`, the slopes constant: both halves as codes, of which one is the zero point.
fn prelu(network: &mut Network<'_>, node: &Node<'_>, out: &Target) -> Result<Option<Value>> {
    let (Some(x), Some((slopes, scale))) = (Source::of(network, node, 0)?, constant(network, node, 1)?)
    else {
        return Ok(None);
    };
    let zero = i64::from(out.zero);
    let live = x.integers(network, node)?;
    let (name, lowerer) = (&node.name, &mut network.lowerer);
    let above = Multiplier::new(f64::from(x.scale / out.scale));
    let f = |code: i32| (above.times(i64::from((code - x.zero).max(0)), Halves::Away) + zero) as i32;
    let above = lowerer.recoded(name, x.live.var.clone(), out.range, f)?;
    let negative = lowerer.floats(name, live.var.clone())?;
    let negative = lowerer.unary(name, negative, Unary::Min(0.0))?;
    let product = lowerer.with_constant(name, Binary::Mul, negative, &slopes, false)?;
    let below = Multiplier::new(f64::from(x.scale * scale / out.scale));
    let f = |n| below.times(n, Halves::Away) + zero;
    let below = fixed(network, node, product, out.range, 0, f)?;
    let lowerer = &mut network.lowerer;
    let below = lowerer.unary(name, below, Unary::Sub(out.zero as f32))?;
    let (above, below) = (lowerer.floats(name, above)?, lowerer.floats(name, below)?);
    let both = lowerer.binary(name, Binary::Add, above, below)?;
    let var = lowerer.stepped(name, both, out.range, |_, code| code as f32)?;
    Ok(coded(&live, var))
}

/// Codes of integers that are `below` the argument of `f`, which rises and is the same for all channels.
fn fixed(
    network: &mut Network<'_>,
    node: &Node<'_>,
    x: Var,
    range: CodeRange,
    below: i64,
    f: impl Fn(i64) -> i64,
) -> Result<Var> {
    let all: Vec<f32> = (range.0..=range.1).map(|code| edge(below, |n| f(n) >= i64::from(code))).collect();
    let of = |_, code: i32| all.get((code - range.0) as usize).copied().unwrap_or(f32::MAX);
    network.lowerer.stepped(&node.name, x, range, of)
}

/// The average of codes, halves away from 0.
fn average(network: &mut Network<'_>, node: &Node<'_>, out: &Target) -> Result<Option<Value>> {
    let o = &node.op.options;
    let (stride, kernel) = ([o.int(2, 0)?, o.int(1, 0)?], [o.int(4, 0)?, o.int(3, 0)?]);
    let (Some(x), Some(range)) = (Source::of(network, node, 0)?, out.activated(o.choice(5)?)) else {
        return Ok(None);
    };
    let window = window(node, &x.live, kernel, stride, [1, 1], o.choice(0)?)?;
    let pool = Pool { kind: PoolKind::Average, window: Some(window), count_pad: false };
    let mean = network.lowerer.pool(&node.name, x.live.var.clone(), Channels::Last, pool)?;
    let edge = |_, code: i32| match code as f32 - 0.5 {
        above if code > 0 => above,
        below => below.next_up(),
    };
    let var = network.lowerer.stepped(&node.name, mean, range, edge)?;
    Ok(coded(&x.live, var))
}

/// Averages and sums over axes.
fn reduced(network: &mut Network<'_>, node: &Node<'_>, out: &Target) -> Result<Option<Value>> {
    let Some(x) = Source::of(network, node, 0)? else { return Ok(None) };
    let keep = node.op.options.flag(0)?;
    let rank = x.live.shape().len();
    let (axes, batch) = layers::axes(network, node, &x.live, keep)?;
    let elements: usize = axes.iter().map(|a| x.live.var.dims[*a]).product();
    let Ok(n) = u32::try_from(elements) else { return Ok(None) };
    let live = x.integers(network, node)?;
    let sums = network.lowerer.sum(&node.name, live.var.clone(), &axes, keep)?;
    let zeros = i64::from(n) * i64::from(x.zero);
    let (zero, ratio) = (i64::from(out.zero), x.scale / out.scale);
    let real = Multiplier::new(f64::from(x.scale) / f64::from(out.scale));
    let var = match node.op.name.as_ref() {
        "SUM" => {
            let offset = -(x.zero as f32) * ratio * n as f32;
            let f = |n: i64| (n as f32 * ratio + offset).round() as i64 + zero;
            fixed(network, node, sums, out.range, zeros, f)?
        }
        // Over rows and columns of a map that keeps its axes: codes are added, and the zero points are rounded apart.
        _ if keep && rank == 4 && live.batch && matches!(axes.as_slice(), [0, 1] | [1, 0]) => {
            let multiplier = Multiplier::new(f64::from(x.scale / (n as f32 * out.scale)));
            let moved = zero - (x.zero as f32 * x.scale / out.scale).round() as i64;
            let channels = live.var.dims.last().copied().unwrap_or(1);
            let all = [Halves::Up, Halves::Away].map(|halves| -> Vec<f32> {
                let edge = |code| edge(zeros, |n| multiplier.times(n, halves) + moved >= i64::from(code));
                (out.range.0..=out.range.1).map(edge).collect()
            });
            let edge = |c: usize, code: i32| {
                let away = in_lanes(c, channels, AVERAGE_LANES) == Halves::Away;
                all[usize::from(away)].get((code - out.range.0) as usize).copied().unwrap_or(f32::MAX)
            };
            network.lowerer.stepped(&node.name, sums, out.range, edge)?
        }
        _ => {
            let multiplier = real.divided(n);
            fixed(network, node, sums, out.range, 0, |n| multiplier.times(n, Halves::Away) + zero)?
        }
    };
    Ok(coded(&Live { batch, ..live }, var))
}

/// Functions of one code.
fn one(network: &mut Network<'_>, node: &Node<'_>, out: &Target) -> Result<Option<Value>> {
    let Some(x) = Source::of(network, node, 0)? else { return Ok(None) };
    let (zero, ratio) = (i64::from(out.zero), x.scale / out.scale);
    let times = |real: f64| {
        let (multiplier, from) = (Multiplier::new(real), x.zero);
        move |code: i32| (multiplier.times(i64::from(code - from), Halves::Away) + zero) as i32
    };
    let range = |code: u8| out.activated(code).unwrap_or(out.range);
    let real = |code: i32| x.scale * (code - x.zero) as f32;
    let table = |f: fn(f64) -> f64| {
        move |code: i32| (f(f64::from(real(code))) as f32 * (1.0 / out.scale)).round() as i32 + out.zero
    };
    let name = &node.name;
    let var = x.live.var.clone();
    let lowerer = &mut network.lowerer;
    let var = match node.op.name.as_ref() {
        "QUANTIZE" => {
            lowerer.recoded(name, var, out.range, times(f64::from(x.scale) / f64::from(out.scale)))?
        }
        "RELU" => lowerer.recoded(name, var, range(1), times(f64::from(ratio)))?,
        "RELU_N1_TO_1" => lowerer.recoded(name, var, range(2), times(f64::from(ratio)))?,
        "RELU6" => lowerer.recoded(name, var, range(3), times(f64::from(ratio)))?,
        "LEAKY_RELU" => {
            let slope = node.op.options.float(0, 0.0)?;
            if slope <= 0.0 {
                return Ok(None);
            }
            let (above, below) = (times(f64::from(ratio)), times(f64::from(x.scale * slope / out.scale)));
            let f = |code: i32| if code >= x.zero { above(code) } else { below(code) };
            lowerer.recoded(name, var, out.range, f)?
        }
        "LOGISTIC" => lowerer.recoded(name, var, out.range, table(|x| 1.0 / (1.0 + (-x).exp())))?,
        "TANH" => lowerer.recoded(name, var, out.range, table(f64::tanh))?,
        _ => return Ok(None),
    };
    Ok(coded(&x.live, var))
}
