//! Ops of Larq Compute Engine, 0.4 to 0.16.
//!
//! Between them values are bits, packed into words of 32 channels: bit `i` of word `w` is channel `32 w + i`, and **1 is
//! -1**. With the options as in the file:
//!
//! ```text
//! LceQuantize     x >= 0 ? +1 : -1; int8 compares with the zero point
//! LceDequantize   the other way; int8 puts out zero point +- round(1 / scale)
//! LceBMaxPool2d   maximum; padding is left out
//! LceBconv2d      dot = sum of +-1 products; padding reads `pad_values`: +1, or a true 0
//!                 float   clamp(dot) * multiplier + bias      the activation comes first
//!                 int8    the same, divided by the scale, rounded, plus the zero point
//!                 packed  -1 where (K - dot) / 2 > threshold, K products in all
//! ```
//! Source: the kernels of Larq Compute Engine; what its converter does is not assumed.

use super::flexbuffer::Map;
use super::layers::{activated, window};
use super::network::{Kind, Live, Network, Node, Value, codes, rounder, single};
use super::schema::Format;
use crate::error::Result;
use crate::import::array::{Array, Elements};
use crate::import::lower::unary::{Compare, Unary};
use crate::import::lower::{Binary, Channels, Filter, Pool, Var};
use onebit_core::ops::PoolKind;

/// Channels of a word.
const WORD: usize = 32;

/// `x >= 0 ? +1 : -1`; of truth values, false is -1.
pub fn quantize(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let truth = node
        .optional(0)
        .map(|i| network.model.tensor(i))
        .transpose()?
        .is_some_and(|t| t.format == Format::Bool);
    let live = network.live(node, 0)?;
    let compare = if truth { Compare::Greater } else { Compare::GreaterOrEqual };
    let var = network.lowerer.unary(&node.name, live.var, Unary::Compare(compare, 0.0))?;
    signs(network, node, var, live.batch)
}

/// +1 for truth, -1 for what is not true.
fn signs(network: &mut Network<'_>, node: &Node<'_>, truth: Var, batch: bool) -> Result<Value> {
    let steps = [Unary::Mul(2.0), Unary::Sub(1.0)];
    let var = steps.into_iter().try_fold(truth, |var, f| network.lowerer.unary(&node.name, var, f))?;
    Ok(Value::Live(Live { var, kind: Kind::Packed, batch }))
}

/// The input, which must be packed bits.
fn packed(network: &mut Network<'_>, node: &Node<'_>) -> Result<Live> {
    match network.stored(node, 0)? {
        Value::Live(live) if live.kind == Kind::Packed => Ok(live),
        _ => Err(node.error("reads something other than the packed bits of LceQuantize or LceBconv2d")),
    }
}

/// The numbers of packed bits.
pub fn dequantize(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = packed(network, node)?;
    let output = node.op.outputs.first().map(|i| network.model.tensor(*i)).transpose()?;
    let output = output.ok_or_else(|| node.error("has no output"))?;
    let (channels, real) = (output.shape.last(), live.var.dims.last());
    if channels != real {
        return Err(
            node.error(format!("puts out {channels:?} channels of {real:?}; convert the network again"))
        );
    }
    let (steps, kind) = match codes(&output)? {
        Some((lowest, highest)) => {
            let (scale, zero) = single(&output)?;
            let one = (1.0 / scale).round();
            (vec![Unary::Mul(one), Unary::Add(zero), Unary::Clip(lowest, highest)], Kind::Codes)
        }
        None if output.format == Format::Bool => (vec![Unary::Max(0.0)], Kind::Real),
        None => (vec![], Kind::Real),
    };
    let var = steps.into_iter().try_fold(live.var, |var, f| network.lowerer.unary(&node.name, var, f))?;
    Ok(Value::Live(Live { var, kind, batch: live.batch }))
}

/// An option that is a size.
fn size(node: &Node<'_>, map: &Map<'_>, key: &str) -> Result<i32> {
    let value = map.int(key)?;
    i32::try_from(value).map_err(|_| node.error(format!("has the impossible {key} {value}")))
}

/// Padding, activation: small enumerations.
fn choice(node: &Node<'_>, map: &Map<'_>, key: &str) -> Result<u8> {
    u8::try_from(map.int(key)?).map_err(|_| node.error(format!("has an unknown {key}")))
}

/// The largest of a window.
pub fn max_pool(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = packed(network, node)?;
    let map = Map::root(node.op.custom)?;
    let kernel = [size(node, &map, "filter_height")?, size(node, &map, "filter_width")?];
    let stride = [size(node, &map, "stride_height")?, size(node, &map, "stride_width")?];
    let window = window(node, &live, kernel, stride, [1, 1], choice(node, &map, "padding")?)?;
    let pool = Pool { kind: PoolKind::Max, window: Some(window), count_pad: false };
    let var = network.lowerer.pool(&node.name, live.var.clone(), Channels::Last, pool)?;
    Ok(Value::Live(live.with(var)))
}

/// A binary convolution.
pub fn conv(network: &mut Network<'_>, node: &Node<'_>) -> Result<Value> {
    let live = packed(network, node)?;
    let map = Map::root(node.op.custom)?;
    let channels = size(node, &map, "channels_in")?.cast_unsigned() as usize;
    if live.var.dims.last() != Some(&channels) {
        return Err(node.error(format!("takes {channels} channels, but gets {:?}", live.var.dims.last())));
    }
    let bits = network.constant(node, 1, "filter")?;
    let (filter, kernel, groups) = unpacked(network, node, &bits, channels)?;
    let k = filter.values.len() / filter.rows.max(1);
    let stride = [size(node, &map, "stride_height")?, size(node, &map, "stride_width")?];
    let dilation = [size(node, &map, "dilation_height_factor")?, size(node, &map, "dilation_width_factor")?];
    let mut window = window(node, &live, kernel, stride, dilation, choice(node, &map, "padding")?)?;
    let mut var = live.var.clone();
    match map.int("pad_values")? {
        0 => {}
        1 => {
            let [top, left, bottom, right] = std::mem::take(&mut window.pad);
            var = network.lowerer.padded(&node.name, var, &[(top, bottom), (left, right), (0, 0)], 1.0)?;
        }
        other => return Err(node.error(format!("has the padding value {other}; 0 and 1 are known"))),
    }
    let var = network.lowerer.conv(&node.name, var, Channels::Last, &filter, window, groups)?;
    let dot = Live { var, kind: Kind::Real, batch: live.batch };

    let output = node.op.outputs.first().map(|i| network.model.tensor(*i)).transpose()?;
    let output = output.ok_or_else(|| node.error("has no output"))?;
    if node.optional(4).is_some() {
        let limits = network.ints(node, 4, "threshold")?;
        check_rows(node, &filter, limits.len())?;
        // (k - dot) / 2 <= t is dot >= k - 2 t. Beyond all sums it is always so or never.
        let k = k as i64;
        let least =
            limits.iter().map(|t| (k.saturating_sub(t.saturating_mul(2))).clamp(-k, k + 1) as f32).collect();
        let least = Array::new(vec![filter.rows], Elements::F32(least))?;
        let compare = Binary::Compare(Compare::GreaterOrEqual);
        let var = network.lowerer.with_constant(&node.name, compare, dot.var, &least, false)?;
        return signs(network, node, var, dot.batch);
    }
    let multiplier = network.constant(node, 2, "multiplier")?.to_f32();
    let bias = network.constant(node, 3, "bias")?.to_f32();
    check_rows(node, &filter, multiplier.len().min(bias.len()))?;
    let (scale, zero, range) = match codes(&output)? {
        Some(range) => {
            let (scale, zero) = single(&output)?;
            (f64::from(scale), f64::from(zero), Some(range))
        }
        None => (1.0, 0.0, None),
    };
    // As the source computes it, so that the last bit is the same: it multiplies k - dot, and all constants are worked
    // out in double precision before.
    let code = choice(node, &map, "fused_activation_function")?;
    let Value::Live(dot) = activated(network, node, Value::Live(dot), code)? else {
        return Err(node.error("is constant"));
    };
    let rows = || multiplier.iter().zip(&bias).map(|(m, b)| (f64::from(*m), f64::from(*b)));
    let constants = [
        vec![k as f32; filter.rows],
        rows().map(|(m, _)| (m / scale) as f32).collect(),
        rows().map(|(m, b)| ((b + k as f64 * m) / scale + zero) as f32).collect(),
    ];
    let constants = constants.map(|v| Array { shape: vec![v.len()], elements: Elements::F32(v) });
    let mut result = dot.with(network.lowerer.normalized(&node.name, dot.var.clone(), &constants)?);
    if let Some((lowest, highest)) = range {
        let rounding = Unary::Quantize(rounder(lowest, highest));
        result.var = network.lowerer.unary(&node.name, result.var, rounding)?;
        result.kind = Kind::Codes;
    }
    Ok(Value::Live(result))
}

fn check_rows(node: &Node<'_>, filter: &Filter, length: usize) -> Result<()> {
    match length == filter.rows {
        true => Ok(()),
        false => Err(node.error(format!("has {length} constants for {} channels", filter.rows))),
    }
}

/// A filter `[channels out][rows][columns][words]` of bits as +-1, with the size of its kernel and the number of groups.
fn unpacked(
    network: &mut Network<'_>,
    node: &Node<'_>,
    bits: &Array,
    channels: usize,
) -> Result<(Filter, [i32; 2], usize)> {
    let wrong = || node.error(format!("has a filter of shape {:?} for {channels} channels", bits.shape));
    let words = bits.to_i64().ok_or_else(wrong)?;
    let &[rows, height, width, row_words] = bits.shape.as_slice() else { return Err(wrong()) };
    let all_words = channels.div_ceil(WORD);
    let groups = all_words.checked_div(row_words).ok_or_else(wrong)?;
    // A group begins with a word.
    if groups * row_words != all_words
        || groups == 0
        || (groups > 1 && !channels.is_multiple_of(groups * WORD))
    {
        return Err(wrong());
    }
    let per_group = channels / groups;
    let kernel = [height, width].map(|d| i32::try_from(d).ok());
    let [Some(height), Some(width)] = kernel else { return Err(wrong()) };
    network.spend(node, words.len().saturating_mul(WORD))?;
    let mut values = Vec::with_capacity(words.len() / row_words * per_group);
    for tap in words.chunks_exact(row_words) {
        let bit = |c: usize| tap[c / WORD] >> (c % WORD) & 1;
        values.extend((0..per_group).map(|c| if bit(c) == 1 { -1.0 } else { 1.0 }));
    }
    Ok((Filter { rows, values, bias: None }, [height, width], groups))
}
