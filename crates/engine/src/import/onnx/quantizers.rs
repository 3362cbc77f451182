//! Quantisers: those of ONNX, and the operators of QONNX in its three domains.

use super::importer::Walk;
use super::operators::Inputs;
use crate::error::Result;
use crate::import::lower::unary::{Compare, Quantizer, Round, Unary};
use crate::import::lower::{Binary, Filter, Var};

/// Lowest and highest integer of `bits`.
fn bounds(bits: f32, signed: bool, narrow: bool) -> (f32, f32) {
    let (all, half) = (bits.exp2(), (bits - 1.0).exp2());
    match (signed, narrow) {
        (true, true) => (1.0 - half, half - 1.0),
        (true, false) => (-half, half - 1.0),
        (false, true) => (0.0, all - 2.0),
        (false, false) => (0.0, all - 1.0),
    }
}

fn rounding(inputs: &Inputs<'_>, default: &str) -> Result<Round> {
    let name = inputs.node.text("rounding_mode", default)?.to_ascii_uppercase();
    Ok(match name.as_str() {
        "ROUND" | "HALF_EVEN" => Round::HalfEven,
        "FLOOR" => Round::Floor,
        "CEIL" => Round::Ceil,
        "ROUND_TO_ZERO" | "DOWN" => Round::ToZero,
        "UP" => Round::FromZero,
        "HALF_UP" => Round::HalfAway,
        "HALF_DOWN" => Round::HalfToZero,
        _ => return Err(inputs.error(format!("rounds by '{name}', which is not supported"))),
    })
}

impl Walk<'_> {
    /// `saturate(round(x / scale) + zero_point)`, as codes.
    pub(super) fn quantize_linear(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let scale = inputs.number(1, "", 1.0)?;
        let zero = inputs.number(2, "", 0.0)?;
        let (low, high) = self.code_range(inputs)?;
        let steps =
            [Unary::Div(scale), Unary::Round(Round::HalfEven), Unary::Add(zero), Unary::Clip(low, high)];
        self.chain(inputs.node.label(), inputs.var(0)?, &steps)
    }

    pub(super) fn dequantize_linear(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let zero = inputs.number(2, "", 0.0)?;
        let scale = inputs.number(1, "", 1.0)?;
        self.chain(inputs.node.label(), inputs.var(0)?, &[Unary::Sub(zero), Unary::Mul(scale)])
    }

    /// The codes of the type of the zero point.
    fn code_range(&self, inputs: &Inputs<'_>) -> Result<(f32, f32)> {
        let name = inputs.node.inputs.get(2).copied().unwrap_or("");
        let default = inputs.node.int("output_dtype", 2)?;
        Ok(match self.element_type(name).map_or(default, i64::from) {
            2 => (0.0, 255.0),
            3 => (-128.0, 127.0),
            4 => (0.0, 65_535.0),
            5 => (-32_768.0, 32_767.0),
            21 => (0.0, 15.0),
            22 => (-8.0, 7.0),
            other => return Err(inputs.error(format!("quantises to type {other}, which is not supported"))),
        })
    }

    /// An operator of QONNX.
    pub(super) fn qonnx(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
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
        // What the reference executor does with a signed format of one bit.
        if bits == 1.0 && signed {
            let x = self.binarized(name, inputs.var(0)?)?;
            return self.lowerer.with_constant(name, Binary::Mul, x, &scale, false);
        }
        let (lowest, highest) = bounds(bits, signed, narrow);
        let rounding = rounding(inputs, "ROUND")?;
        if let (Some(scale), Some(zero)) = (scale.uniform(), zero.uniform()) {
            let quantizer = Quantizer { scale, zero, lowest, highest, rounding };
            return self.lowerer.unary(name, inputs.var(0)?, Unary::Quantize(quantizer));
        }
        let mut x = self.lowerer.with_constant(name, Binary::Div, inputs.var(0)?, &scale, false)?;
        x = self.lowerer.with_constant(name, Binary::Add, x, &zero, false)?;
        x = self.chain(name, x, &[Unary::Clip(lowest, highest), Unary::Round(rounding)])?;
        x = self.lowerer.with_constant(name, Binary::Sub, x, &zero, false)?;
        self.lowerer.with_constant(name, Binary::Mul, x, &scale, false)
    }

    /// Drops low bits: version 1 has 5 inputs, version 2 also the scale of its output.
    fn trunc(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, name) = (inputs.node, inputs.node.label());
        let number = |i: usize| inputs.number(i, "", 1.0);
        let (scale, zero, in_bits) = (number(1)?, number(2)?, number(3)?);
        let rounding = rounding(inputs, "FLOOR")?;
        let mut steps = vec![Unary::Div(scale), Unary::Add(zero), Unary::Round(Round::HalfEven)];
        if inputs.len() < 6 {
            let factor = (in_bits - number(4)?).exp2();
            steps.extend([Unary::Div(factor), Unary::Round(rounding), Unary::Sub(zero), Unary::Mul(scale)]);
        } else {
            let (out_scale, out_bits) = (number(4)?, number(5)?);
            let signed = node.int("signed", 1)? != 0;
            let narrow = node.int("narrow", 0)? != 0;
            let (low, high) = bounds(out_bits, signed, narrow);
            let factor = (out_scale / scale).log2().round().exp2();
            // The zero point is scaled with the codes.
            let moved = zero / factor;
            steps.extend([Unary::Div(factor), Unary::Clip(low, high), Unary::Round(rounding)]);
            steps.extend([Unary::Sub(moved), Unary::Mul(out_scale)]);
        }
        self.chain(name, inputs.var(0)?, &steps)
    }

    /// `out_scale * (number of thresholds that are reached) + out_bias`.
    fn multi_threshold(&mut self, inputs: &Inputs<'_>) -> Result<Var> {
        let (node, name) = (inputs.node, inputs.node.label());
        let thresholds = inputs.weight(1)?;
        let [rows, steps] = thresholds.shape.as_slice() else {
            return Err(inputs.error("has thresholds that are no matrix"));
        };
        let (scale, bias) = (node.float("out_scale", 1.0)?, node.float("out_bias", 0.0)?);
        let last = matches!(node.text("data_layout", "NCHW")?, "NHWC" | "NWC");
        let x = inputs.var(0)?;
        let x = self.lowerer.thresholds(name, x, *rows, *steps, thresholds.to_f32(), last)?;
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
}
