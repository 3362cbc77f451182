//! Quantisers: those of ONNX, and the operators of QONNX in its three domains.

use super::evaluate::code_range;
use super::importer::Walk;
use super::operators::Inputs;
use crate::error::Result;
use crate::import::array::{Array, Elements};
use crate::import::lower::unary::{Compare, Quantizer, Round, Unary, bounds};
use crate::import::lower::{Binary, Channels, Filter, Pool, Var};
use onebit_core::ops::{PoolKind, Window};

fn rounding(inputs: &Inputs<'_>, default: &str) -> Result<Round> {
    let name = inputs.node.text("rounding_mode", default)?;
    Round::named(name).ok_or_else(|| inputs.error(format!("rounds by '{name}', which is not supported")))
}

/// Scale and zero point of a quantiser of a value of `rank` axes after the batch: one number, or one for each place of
/// an axis.
fn along(inputs: &Inputs<'_>, rank: usize) -> Result<[Array; 2]> {
    let one = |i: usize| match inputs.constant(i)? {
        None => Ok(Array::scalar(0.0)),
        Some(a) if a.len() == 1 => Ok(Array::scalar(a.to_f32()[0])),
        Some(a) if a.shape.len() == 1 => {
            let mut shape = vec![1; rank];
            shape[inputs.axis(inputs.node.int("axis", 1)?, rank)?] = a.len();
            Array::new(shape, Elements::F32(a.to_f32()))
        }
        Some(_) => Err(inputs.error("has scales of blocks, which is not supported")),
    };
    inputs.weight(1)?;
    Ok([one(1)?, one(2)?])
}

impl<'a> Walk<'a> {
    /// `saturate(round(x / scale) + zero_point)`, as codes.
    pub(super) fn quantize_linear(&mut self, inputs: &Inputs<'a>) -> Result<Var> {
        let (name, x) = (inputs.node.label(), inputs.var(0)?);
        let [scale, zero] = along(inputs, x.dims.len())?;
        let zero_name = inputs.node.inputs.get(2).copied().unwrap_or("");
        let default = inputs.node.int("output_dtype", 0)?;
        let kind = match self.element_type(zero_name).map_or(default, i64::from) {
            0 => 2,
            kind => kind,
        };
        let range = i32::try_from(kind).ok().and_then(code_range);
        let (low, high) =
            range.ok_or_else(|| inputs.error(format!("quantises to type {kind}, which is not supported")))?;
        let x = self.lowerer.with_constant(name, Binary::Div, x, &scale, false)?;
        let x = self.lowerer.unary(name, x, Unary::Round(Round::HalfEven))?;
        let x = self.lowerer.with_constant(name, Binary::Add, x, &zero, false)?;
        self.lowerer.unary(name, x, Unary::Clip(low as f32, high as f32))
    }

    pub(super) fn dequantize_linear(&mut self, inputs: &Inputs<'a>) -> Result<Var> {
        let (name, x) = (inputs.node.label(), inputs.var(0)?);
        let [scale, zero] = along(inputs, x.dims.len())?;
        let x = self.lowerer.with_constant(name, Binary::Sub, x, &zero, false)?;
        self.lowerer.with_constant(name, Binary::Mul, x, &scale, false)
    }

    /// An operator of QONNX.
    pub(super) fn qonnx(&mut self, inputs: &Inputs<'a>) -> Result<Var> {
        let name = inputs.node.label();
        match inputs.node.op {
            "BipolarQuant" => {
                let signed = self.binarized(name, inputs.var(0)?)?;
                let scale = inputs.weight(1)?;
                self.lowerer.with_constant(name, Binary::Mul, signed, &scale, false)
            }
            "Quant" | "IntQuant" => self.quant(inputs),
            "Trunc" => self.trunc(inputs),
            "MultiThreshold" => self.multi_threshold(inputs),
            "XnorPopcountMatMul" => self.xnor_popcount(inputs),
            "MaxPoolNHWC" => self.pool(inputs, Channels::Last),
            "QuantAvgPool2d" => self.truncated_average(inputs),
            _ => Err(inputs.error("is an operator of QONNX that is not supported")),
        }
    }

    fn binarized(&mut self, name: &str, x: Var) -> Result<Var> {
        self.chain(name, x, &[Unary::Compare(Compare::GreaterOrEqual, 0.0), Unary::Choose(1.0, -1.0)])
    }

    fn quant(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, name) = (inputs.node, inputs.node.label());
        let bits = inputs.number(3, "bitwidth", 8.0)?;
        let signed = node.int("signed", 1)? != 0;
        if !node.has("narrow") {
            self.notes
                .push(format!("'{name}' does not say whether its range is narrow: taken as not narrow."));
        }
        let narrow = node.int("narrow", 0)? != 0;
        if !(1.0..=32.0).contains(&bits) || bits.fract() != 0.0 {
            return Err(inputs.error(format!("has {bits} bits; whole numbers from 1 to 32 are supported")));
        }
        let (scale, zero) = (inputs.weight(1)?, inputs.weight(2)?);
        let rounding = rounding(inputs, "ROUND")?;
        let (lowest, highest) = bounds(bits as u32, signed, narrow);
        // What the reference executor does with a signed format of one bit.
        let bipolar = bits == 1.0 && signed;
        if let (Some(scale), Some(zero), false) = (scale.uniform(), zero.uniform(), bipolar) {
            let quantizer = Quantizer { scale, zero, lowest, highest, rounding };
            return self.lowerer.unary(name, inputs.var(0)?, Unary::Quantize(quantizer));
        }
        let mut x = self.lowerer.with_constant(name, Binary::Div, inputs.var(0)?, &scale, false)?;
        x = self.lowerer.with_constant(name, Binary::Add, x, &zero, false)?;
        x = match bipolar {
            true => self.binarized(name, x)?,
            false => self.chain(name, x, &[Unary::Clip(lowest, highest), Unary::Round(rounding)])?,
        };
        x = self.lowerer.with_constant(name, Binary::Sub, x, &zero, false)?;
        self.lowerer.with_constant(name, Binary::Mul, x, &scale, false)
    }

    /// Drops low bits: version 1 has 5 inputs, version 2 also the scale of its output.
    fn trunc(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, name) = (inputs.node, inputs.node.label());
        let bits = |i: usize| inputs.number(i, "", 1.0);
        let (scale, zero) = (inputs.weight(1)?, inputs.weight(2)?);
        let rounding = rounding(inputs, "FLOOR")?;
        // The divisors, the scale of the output, and its bounds.
        let (divisor, out_scale, clip) = if inputs.len() < 6 {
            (Array::scalar((bits(3)? - bits(4)?).exp2()), (*scale).clone(), None)
        } else {
            let out_scale = bits(4)?;
            let (signed, narrow) = (node.int("signed", 1)? != 0, node.int("narrow", 0)? != 0);
            let (low, high) = bounds(bits(5)?.clamp(1.0, 32.0) as u32, signed, narrow);
            let divisor = scale.map(|s| (out_scale / s).log2().round_ties_even().exp2())?;
            (divisor, Array::scalar(out_scale), Some(Unary::Clip(low, high)))
        };
        // The zero point of version 2 is scaled with the codes.
        let out_zero = match clip {
            Some(_) => zero.zip(&divisor, |z, d| z / d, |z, _| Ok(z))?,
            None => (*zero).clone(),
        };
        let mut x = self.lowerer.with_constant(name, Binary::Div, inputs.var(0)?, &scale, false)?;
        x = self.lowerer.with_constant(name, Binary::Add, x, &zero, false)?;
        x = self.lowerer.unary(name, x, Unary::Round(Round::HalfEven))?;
        x = self.lowerer.with_constant(name, Binary::Div, x, &divisor, false)?;
        if let Some(clip) = clip {
            x = self.lowerer.unary(name, x, clip)?;
        }
        x = self.lowerer.unary(name, x, Unary::Round(rounding))?;
        x = self.lowerer.with_constant(name, Binary::Sub, x, &out_zero, false)?;
        self.lowerer.with_constant(name, Binary::Mul, x, &out_scale, false)
    }

    /// `out_scale * (number of thresholds that are reached) + out_bias`.
    fn multi_threshold(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, name) = (inputs.node, inputs.node.label());
        let thresholds = inputs.weight(1)?;
        let [rows, steps] = thresholds.shape.as_slice() else {
            return Err(inputs.error("has thresholds that are no matrix"));
        };
        let (scale, bias) = (node.float("out_scale", 1.0)?, node.float("out_bias", 0.0)?);
        let x = inputs.var(0)?;
        // Without a layout it depends on the number of axes.
        let layout = match (node.text("data_layout", "")?, x.dims.len()) {
            ("", 2) => "NWC",
            ("", _) => "NCHW",
            (given, _) => given,
        };
        let last = layout.len() > 2 && layout.ends_with('C');
        if !last && layout.chars().nth(1) != Some('C') {
            return Err(inputs.error(format!("has the layout '{layout}', which is not supported")));
        }
        // What is counted does not depend on the order.
        let mut values = thresholds.to_f32();
        values.chunks_mut((*steps).max(1)).for_each(|row| row.sort_by(f32::total_cmp));
        let x = self.lowerer.thresholds(name, x, *rows, *steps, values, last)?;
        self.chain(name, x, &[Unary::Mul(scale), Unary::Add(bias)])
    }

    /// The number of equal bits of rows and columns of 0 and 1.
    fn xnor_popcount(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (name, b) = (inputs.node.label(), inputs.weight(1)?);
        let [k, n] = b.shape.as_slice() else { return Err(inputs.error("has bits that are no matrix")) };
        let values = b.to_f32();
        let signs = (0..*n).flat_map(|n| (0..*k).map(move |k| (k, n)));
        let values = signs.map(|(row, col)| 2.0 * values[row * n + col] - 1.0).collect();
        let filter = Filter { rows: *n, values, bias: Some(vec![*k as f32; *n]) };
        let x = self.chain(name, inputs.var(0)?, &[Unary::Mul(2.0), Unary::Sub(1.0)])?;
        let agreeing = self.lowerer.dense(name, x, &filter)?;
        self.lowerer.unary(name, agreeing, Unary::Mul(0.5))
    }

    /// The sums of windows without their lowest bits, so many that the rest has `obits`.
    fn truncated_average(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, name) = (inputs.node, inputs.node.label());
        let size = |attribute: &str| -> Result<u32> {
            let n = node.int(attribute, 1)?;
            let n = u32::try_from(n).ok().filter(|n| (1..=1 << 10).contains(n));
            n.ok_or_else(|| inputs.error(format!("has an impossible {attribute}")))
        };
        let (kernel, stride) = (size("kernel")? as usize, size("stride")? as usize);
        let (ibits, obits) = (size("ibits")?.min(32), size("obits")?);
        let channels =
            if node.text("data_layout", "NCHW")? == "NHWC" { Channels::Last } else { Channels::First };
        let most = ((1u64 << ibits) - 1) * (kernel * kernel) as u64;
        let shift = (u64::BITS - most.leading_zeros()).saturating_sub(obits);
        let window = Window { stride: [stride; 2], ..Window::square(kernel, 1, 0) };
        let pool = Pool { kind: PoolKind::Average, window: Some(window), count_pad: false };
        let x = self.lowerer.pool(name, inputs.var(0)?, channels, pool)?;
        let steps = [
            Unary::Mul((kernel * kernel) as f32),
            Unary::Round(Round::HalfEven),
            Unary::Mul((-(shift as f32)).exp2()),
            Unary::Round(Round::Floor),
        ];
        self.chain(name, x, &steps)
    }
}
