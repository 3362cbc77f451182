//! Layers of a BMXNet network as ops.
//!
//! * A quantising layer reads codes: sign bits, or DoReFa levels `round(clip(x, 0, 1) * (2^k - 1))`.
//! * A layer of one-bit weights and inputs puts out the number of matches, `(K + dot) / 2`. BMXNet pads with
//!   0 before it quantises, so one-bit padding is +1 and all other padding is 0.
//! * Maps are `(c, h, w)` in the source and `(h, w, c)` here; a vector remembers the source's order until
//!   a dense layer has read it.

use super::layers::{FLOAT, Kind, Layer, Matrix};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::import::build;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::{
    BConv2d, BDense, BPool2d, Conv2d, Op, PoolKind, Quantize, Reshape, Rounding, Sign, Window, Zero,
};
use onebit_core::types::{DType, Encoding, Quant, Shape};
use std::collections::HashMap;
use std::rc::Rc;

/// A value of the source.
#[derive(Clone)]
struct Value {
    /// Value in the graph.
    id: usize,
    /// Distance of neighbouring codes; 1 for floats and bits.
    step: f32,
    /// Place in the source of every element, where it differs.
    order: Option<Rc<[usize]>>,
}

/// Puts the ops of `layers` into `graph`.
///
/// # Errors
/// Names the layer that cannot be expressed.
pub fn lower(layers: &[Layer<'_>], graph: &mut Graph) -> Result<()> {
    let mut lowering = Lowering { graph, codes: HashMap::new(), floats: HashMap::new() };
    let mut values: Vec<Value> = Vec::with_capacity(layers.len());
    for layer in layers {
        let inputs: Vec<Value> = layer.inputs.iter().map(|i| values[*i].clone()).collect();
        values.push(lowering.layer(layer, &inputs)?);
    }
    let (last, layer) = (&values[values.len() - 1], &layers[layers.len() - 1]);
    if last.order.is_some() {
        return Err(Error::layer(&layer.name, "puts out a flattened map, which is not supported"));
    }
    let output = lowering.as_floats(last)?;
    graph.output = output;
    graph.normalize()?;
    Ok(())
}

struct Lowering<'g> {
    graph: &'g mut Graph,
    /// Codes of a value, by number of bits.
    codes: HashMap<(usize, usize), usize>,
    /// Floats of a value.
    floats: HashMap<usize, usize>,
}

impl Lowering<'_> {
    fn layer(&mut self, layer: &Layer<'_>, inputs: &[Value]) -> Result<Value> {
        let name = &layer.name;
        let Some(x) = inputs.first() else {
            return Ok(Value { id: Graph::INPUT, step: 1.0, order: None });
        };
        let same_order = |id| Value { id, step: 1.0, order: x.order.clone() };
        Ok(match &layer.kind {
            Kind::Input | Kind::Same => x.clone(),
            Kind::Conv(m, window, groups) => self.matrix(name, m, x, Some((*window, *groups)))?,
            Kind::Dense(m) => self.matrix(name, m, x, None)?,
            Kind::BatchNorm(bn) => {
                let bn = x.order.as_ref().map_or_else(|| bn.clone(), |order| bn.reordered(order));
                let params = bn.affine(name)?;
                same_order(self.on_floats(name, Op::Affine, x, params)?)
            }
            Kind::Activation(a) => {
                same_order(self.on_floats(name, Op::Activation(*a), x, Params::default())?)
            }
            Kind::Slope(slopes) => {
                let slopes = match (&x.order, slopes.len()) {
                    (_, 1) => vec![slopes[0]; self.graph.ty(x.id).shape.c],
                    (Some(order), _) => build::reordered(slopes, order),
                    (None, _) => slopes.clone(),
                };
                let params = Params { scale: Some(Tensor::f32(slopes)), ..Params::default() };
                same_order(self.on_floats(name, Op::Prelu, x, params)?)
            }
            Kind::Scalar(scale, bias) => {
                let each = |v: f32| Some(Tensor::f32(vec![v; self.graph.ty(x.id).shape.c]));
                let params = Params { scale: each(*scale), bias: each(*bias), ..Params::default() };
                same_order(self.on_floats(name, Op::Affine, x, params)?)
            }
            Kind::Softmax => same_order(self.on_floats(name, Op::Softmax, x, Params::default())?),
            Kind::Quantize(bits) => {
                Value { id: self.as_codes(x, *bits)?, step: step(*bits), order: x.order.clone() }
            }
            Kind::Pool(pool) => {
                let pool = pool.on(self.graph.ty(x.id).shape).map_err(|e| Error::layer(name, e))?;
                if matches!(self.graph.ty(x.id).dtype, DType::Bits(_)) && pool.kind == PoolKind::Max {
                    let op = Op::BPool2d(BPool2d { window: pool.window });
                    Value { id: self.graph.add(name, op, &[x.id], Params::default())?, ..x.clone() }
                } else {
                    same_order(self.on_floats(name, Op::Pool2d(pool), x, Params::default())?)
                }
            }
            Kind::Flatten => {
                let shape = self.graph.ty(x.id).shape;
                if shape.pixels() == 1 {
                    return Ok(x.clone());
                }
                let op = Op::Reshape(Reshape { shape: Shape::vector(shape.elements()) });
                let id = self.graph.add(name, op, &[x.id], Params::default())?;
                Value { id, step: x.step, order: flat_order(shape) }
            }
            Kind::Sum => self.combine(name, Op::Add, inputs)?,
            Kind::Product => self.combine(name, Op::Mul, inputs)?,
            Kind::Join => self.join(name, inputs)?,
        })
    }

    fn on_floats(&mut self, name: &str, op: Op, x: &Value, params: Params<Tensor<'static>>) -> Result<usize> {
        let input = self.as_floats(x)?;
        self.graph.add(name, op, &[input], params)
    }

    /// The value as floats.
    fn as_floats(&mut self, x: &Value) -> Result<usize> {
        if self.graph.ty(x.id).dtype == DType::F32 {
            return Ok(x.id);
        }
        if let Some(id) = self.floats.get(&x.id) {
            return Ok(*id);
        }
        let name = self.name_of(x.id);
        let mut id = self.graph.add(format!("{name}_decode"), Op::Decode, &[x.id], Params::default())?;
        if x.step != 1.0 {
            let scale = Some(Tensor::f32(vec![x.step; self.graph.ty(id).shape.c]));
            id = self.graph.add(
                format!("{name}_step"),
                Op::Affine,
                &[id],
                Params { scale, ..Params::default() },
            )?;
        }
        self.floats.insert(x.id, id);
        Ok(id)
    }

    /// The value as codes of so many bits.
    fn as_codes(&mut self, x: &Value, bits: usize) -> Result<usize> {
        let output = code_type(bits);
        if self.graph.ty(x.id).dtype == output {
            return Ok(x.id);
        }
        if let Some(id) = self.codes.get(&(x.id, bits)) {
            return Ok(*id);
        }
        let input = self.as_floats(x)?;
        let name = format!("{}_{}", self.name_of(x.id), if bits == 1 { "sign" } else { "quantize" });
        let levels = (1 << bits) - 1;
        let op = match bits {
            1 => Op::Sign(Sign { zero: Zero::Positive }),
            _ => Op::Quantize(Quantize {
                scale: levels as f32,
                offset: 0.0,
                rounding: Rounding::HalfUp,
                output,
                lowest: 0,
                highest: levels,
            }),
        };
        let id = self.graph.add(name, op, &[input], Params::default())?;
        self.codes.insert((x.id, bits), id);
        Ok(id)
    }

    fn name_of(&self, value: usize) -> String {
        self.graph.producer(value).map_or_else(|| "input".into(), |n| n.name.clone())
    }

    /// A convolution, or a dense layer where there is no window.
    fn matrix(
        &mut self,
        name: &str,
        m: &Matrix<'_>,
        x: &Value,
        conv: Option<(Window, usize)>,
    ) -> Result<Value> {
        let order: Option<Rc<[usize]>> = match conv {
            Some((w, _)) => flat_order(Shape::new(w.kernel[0], w.kernel[1], m.cols / w.taps())),
            None => x.order.clone().or_else(|| flat_order(self.graph.ty(x.id).shape)),
        };
        let column = |c: usize| order.as_ref().map_or(c, |o| o[c]);
        let weight = weights(name, m, column)?;
        let magnitude = if m.scaled { mean_magnitude(&m.floats(name)?) } else { 1.0 };
        let bias = m.bias.as_ref().map(|b| b.iter().map(|v| v * magnitude).collect());
        let result = |id| Ok(Value { id, step: 1.0, order: None });
        if m.input_bits == FLOAT {
            let op = match conv {
                Some((window, groups)) => Op::Conv2d(Conv2d { window, groups, pad_value: 0.0 }),
                None => Op::Dense,
            };
            let params = Params { weight: Some(weight), bias: bias.map(Tensor::f32), ..Params::default() };
            return result(self.on_floats(name, op, x, params)?);
        }
        let output = DType::I32;
        let op = match conv {
            Some((window, groups)) => {
                let pad_value = i32::from(m.input_bits == 1);
                Op::BConv2d(BConv2d { window, groups, pad_value, output })
            }
            None => Op::BDense(BDense { output }),
        };
        let codes = self.as_codes(x, m.input_bits)?;
        let dot = self.graph.add(name, op, &[codes], Params { weight: Some(weight), ..Params::default() })?;
        let each = |v: f32| Some(Tensor::f32(vec![v; m.rows]));
        let (suffix, center, scale) = match (m.input_bits, m.weight_bits) {
            (1, 1) => ("matches", each(-(m.cols as f32)), 0.5),
            (a, w) => ("step", None, step(a) * step(w)),
        };
        let params = Params {
            center,
            scale: each(scale * magnitude),
            bias: bias.map(Tensor::f32),
            ..Params::default()
        };
        result(self.graph.add(format!("{name}_{suffix}"), Op::Affine, &[dot], params)?)
    }

    fn combine(&mut self, name: &str, op: Op, inputs: &[Value]) -> Result<Value> {
        let mut sum = inputs[0].clone();
        for (i, next) in inputs.iter().enumerate().skip(1) {
            if sum.order != next.order {
                return Err(Error::layer(name, "combines vectors that were flattened from different maps"));
            }
            let (a, b) = (self.as_floats(&sum)?, self.as_floats(next)?);
            // The one that is repeated comes second.
            let swap = self.graph.ty(a).shape.pixels() < self.graph.ty(b).shape.pixels();
            let pair = if swap { [b, a] } else { [a, b] };
            let name = if i + 1 == inputs.len() { name.to_owned() } else { format!("{name}_{i}") };
            sum = Value {
                id: self.graph.add(name, op, &pair, Params::default())?,
                step: 1.0,
                order: sum.order,
            };
        }
        Ok(sum)
    }

    fn join(&mut self, name: &str, inputs: &[Value]) -> Result<Value> {
        let ids = inputs.iter().map(|v| self.as_floats(v)).collect::<Result<Vec<_>>>()?;
        let mut order: Vec<usize> = Vec::new();
        for (v, id) in inputs.iter().zip(&ids) {
            let start = order.len();
            let n = self.graph.ty(*id).shape.c;
            order.extend((0..n).map(|i| start + v.order.as_ref().map_or(i, |o| o[i])));
        }
        let differs = inputs.iter().any(|v| v.order.is_some());
        let id = self.graph.add(name, Op::Concat, &ids, Params::default())?;
        Ok(Value { id, step: 1.0, order: differs.then(|| order.into()) })
    }
}

/// Format of codes of so many bits.
fn code_type(bits: usize) -> DType {
    match bits {
        1 => DType::BIT,
        _ => DType::Bits(Quant::new(bits as u8, Encoding::Unsigned)),
    }
}

/// Distance of neighbouring codes of so many bits; the largest is 1.
fn step(bits: usize) -> f32 {
    1.0 / ((1 << bits) - 1) as f32
}

/// Order of a flattened map, or `None` where the source's is the same.
fn flat_order(shape: Shape) -> Option<Rc<[usize]>> {
    (shape.pixels() > 1 && shape.c > 1).then(|| build::chw_of_hwc(shape).into())
}

fn mean_magnitude(weights: &[f32]) -> f32 {
    let sum: f64 = weights.iter().map(|w| f64::from(w.abs())).sum();
    (sum / weights.len() as f64) as f32
}

/// The weights with their columns reordered: packed where they have up to 8 bits and are read with codes, or
/// have one bit.
fn weights(name: &str, m: &Matrix<'_>, column: impl Fn(usize) -> usize) -> Result<Tensor<'static>> {
    if m.packing.is_some() {
        return Ok(build::signs(m.rows, m.cols, |r, c| m.bit(r, column(c))));
    }
    let floats = m.floats(name)?;
    if floats.iter().any(|w| !w.is_finite()) {
        return Err(Error::layer(name, "its weight contains NaN or infinity"));
    }
    let place = |r: usize, c: usize| r * m.cols + column(c);
    let all = || (0..m.rows).flat_map(|r| (0..m.cols).map(move |c| (r, c)));
    match m.weight_bits {
        FLOAT => {
            let values = all().map(|(r, c)| floats[place(r, c)]).collect();
            Ok(Tensor::f32_matrix(m.rows, m.cols, values))
        }
        1 => Ok(build::signs(m.rows, m.cols, |r, c| floats[place(r, c)] >= 0.0)),
        bits => {
            let levels = dorefa(&floats, bits);
            let levels = levels.ok_or_else(|| Error::layer(name, "its weights are all 0"))?;
            let odd = |r, c| 2 * levels[place(r, c)] - ((1 << bits) - 1);
            Ok(match m.input_bits {
                FLOAT => {
                    let values = all().map(|(r, c)| odd(r, c) as f32 * step(bits)).collect();
                    Tensor::f32_matrix(m.rows, m.cols, values)
                }
                _ => Tensor::bits(m.rows, m.cols, Quant::new(bits as u8, Encoding::Bipolar), odd),
            })
        }
    }
}

/// DoReFa weights: `round((tanh(w) / (2 max|tanh(w)|) + 1/2) * (2^k - 1))`, or `None` where all are 0.
fn dorefa(weights: &[f32], bits: usize) -> Option<Vec<i32>> {
    let tanh: Vec<f32> = weights.iter().map(|w| f64::from(*w).tanh() as f32).collect();
    let largest = tanh.iter().fold(0f32, |m, t| m.max(t.abs()));
    let levels = ((1 << bits) - 1) as f32;
    let level = |t: &f32| ((t / (2.0 * largest) + 0.5) * levels).round() as i32;
    (largest > 0.0).then(|| tanh.iter().map(level).collect())
}
