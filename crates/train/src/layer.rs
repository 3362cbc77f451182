//! The layers of a recipe, as they stand in its TOML file, and the quantisers they name.
//!
//! A recipe's network is a list of layers; `residual`, `concat` and `repeat` hold lists of their own. Quantisers are
//! written as short texts (`"sign"`, `"sign:swish:5"`, `"dorefa:2"`), so that one override on a command line can
//! change a whole network.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One layer, or a structure of layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// Convolution.
    Conv(Conv),
    /// Dense layer over all elements of its input.
    Dense(Dense),
    /// BatchNorm over the channels.
    Norm(Norm),
    /// A function of each number, among them the quantisers of activations.
    Act(Act),
    /// Largest value of a window.
    MaxPool(Pool),
    /// Mean of a window; padding does not count.
    AvgPool(Pool),
    /// Mean of the whole map.
    GlobalAvgPool(Empty),
    /// A learned number added to each channel (the shifts of ReActNet, Liu et al. 2020).
    Shift(Empty),
    /// Zeroes numbers at random in training (Srivastava et al. 2014); the rate is their share.
    Dropout(Rate),
    /// `body(x) + shortcut(x)`; an empty list is the identity.
    Residual(Residual),
    /// Outputs of the branches joined along the channels; an empty list is the identity.
    Concat(Concat),
    /// The same layers several times over, each time with parameters of its own.
    Repeat(Repeat),
}

/// A layer without attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Attributes of a convolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Output channels.
    pub filters: usize,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// Step between windows.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub stride: usize,
    /// Rows and columns added on each side.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pad: usize,
    /// What the padding reads in a layer of quantised inputs: 0, +1 or -1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pad_value: i8,
    /// Distance between taps.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub dilation: usize,
    /// Groups of channels.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Quantiser of the weights.
    #[serde(default)]
    pub weights: Weights,
    /// Adds a learned number to each channel.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bias: bool,
    /// Weights are this constant kernel, the same for each channel, and are not learned (QuickNet's blur pool).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<Vec<f32>>,
}

/// Attributes of a dense layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// Outputs.
    pub units: usize,
    /// Quantiser of the weights.
    #[serde(default)]
    pub weights: Weights,
    /// Adds a learned number to each output.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bias: bool,
}

/// Attributes of a BatchNorm (Ioffe and Szegedy 2015).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Norm {
    /// Added to the variance.
    pub eps: f32,
    /// Share of the newest batch in the running statistics.
    pub momentum: f32,
    /// Whether scale and offset are learned.
    pub affine: bool,
}

impl Default for Norm {
    fn default() -> Self {
        Norm { eps: 1e-5, momentum: 0.1, affine: true }
    }
}

/// Attributes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Rows and columns of the window.
    pub size: usize,
    /// Step between windows.
    pub stride: usize,
    /// Rows and columns added on each side.
    #[serde(default)]
    pub pad: usize,
}

/// Attribute of a dropout.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Share of the numbers that are zeroed.
    pub rate: f32,
}

/// Two paths whose results are added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// The path with the layers that matter.
    pub body: Vec<Layer>,
    /// The other path; empty is the identity.
    #[serde(default)]
    pub shortcut: Vec<Layer>,
}

/// Paths whose results are joined along the channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The paths, all from the same input.
    pub branches: Vec<Vec<Layer>>,
}

/// Layers several times over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How often.
    pub times: usize,
    /// What.
    pub layers: Vec<Layer>,
}

fn one() -> usize {
    1
}
fn is_one(n: &usize) -> bool {
    *n == 1
}
fn is_zero(n: &usize) -> bool {
    *n == 0
}
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What stands in for the derivative of the sign, which is 0.
///
/// Definitions are those of Larq.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Estimator {
    /// 1 where `|x| <= clip`, else 0: the clipped straight-through estimator (Courbariaux et al. 2016). Text `ste`, or `ste:1.25`.
    Clip(f32),
    /// `2 (1 - |x|)` where `|x| <= 1` (Bi-Real net, Liu et al. 2018). Text `approx`.
    Approx,
    /// `beta (2 - b x tanh(b x / 2)) / (1 + cosh(b x))` (SignSwish, Darabi et al. 2019). Text `swish`, or `swish:5`.
    Swish(f32),
    /// 1 everywhere. Text `identity`.
    Identity,
}

/// Quantiser of weights. Latent weights are floats; the network computes with their quantised form.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Weights {
    /// As `network.weights` says. Text `default`.
    #[default]
    Default,
    /// Floats. Text `float`.
    Float,
    /// Sign. Texts `sign`, `sign:approx`, ...
    Sign(Estimator),
    /// Sign times the mean magnitude of the filter, through which the gradient flows too (XNOR-Net, Rastegari et al.
    /// 2016). Text `xnor`.
    Xnor,
    /// Sign times the mean magnitude of the filter, which the gradient takes for a constant (magnitude-aware sign of
    /// Bi-Real net). Text `magnitude`.
    Magnitude,
    /// -1, 0 and 1 times a scale for each filter: 0 where `|w| <= 0.7 mean |w|` (TWN, Li and Liu 2016). Text `ternary`.
    Ternary,
    /// `2 q(tanh(w) / (2 max |tanh w|) + 1/2) - 1` with `k` bits (DoReFa-Net, Zhou et al. 2016). Text `dorefa:2`.
    /// Above 8 bits the exported weights are floats.
    Dorefa(u8),
}

/// A function of each number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// As `network.act` says. Text `default`.
    Default,
    /// Sign, +1 for 0. Texts `sign`, `sign:approx`, ...
    Sign(Estimator),
    /// Sign of `x - a` with a learned `a` for each channel (RSign of ReActNet). Texts `rsign`, `rsign:approx`.
    RSign(Estimator),
    /// `round(clip(x, 0, 1) n) / n` with `n = 2^k - 1`, halves to even (DoReFa-Net). Text `dorefa:2`.
    Dorefa(u8),
    /// `round(clip(x, 0, a) n / a) a / n` with a learned `a` for the layer (PACT, Choi et al. 2018). Text `pact:2`.
    Pact(u8),
    /// `max(x, 0)`. Text `relu`.
    Relu,
    /// Hyperbolic tangent. Text `tanh`.
    Tanh,
    /// `clip(x, -1, 1)`. Text `hardtanh`.
    HardTanh,
    /// `x`, or `a x` for negative `x`, with a learned `a` for each channel (He et al. 2015). Text `prelu`.
    Prelu,
    /// `prelu(x - b) + c` with learned `b` and `c` for each channel (RPReLU of ReActNet). Text `rprelu`.
    RPrelu,
}

/// `name`, or `name:argument`.
fn parts(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (text, None),
    }
}

impl FromStr for Estimator {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |default: f32, argument: Option<&str>| match argument.map_or(Ok(default), str::parse) {
            Ok(n) if n > 0.0 && f32::is_finite(n) => Ok(n),
            _ => Err(format!("`{text}` needs a positive number after the colon")),
        };
        match parts(text) {
            ("ste", n) => Ok(Estimator::Clip(number(1.0, n)?)),
            ("approx", None) => Ok(Estimator::Approx),
            ("swish", n) => Ok(Estimator::Swish(number(5.0, n)?)),
            ("identity", None) => Ok(Estimator::Identity),
            _ => Err(format!(
                "`{text}` is no estimator: known are ste, ste:CLIP, approx, swish, swish:BETA, identity"
            )),
        }
    }
}

impl fmt::Display for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Estimator::Clip(1.0) => f.write_str("ste"),
            Estimator::Clip(clip) => write!(f, "ste:{clip}"),
            Estimator::Approx => f.write_str("approx"),
            Estimator::Swish(beta) => write!(f, "swish:{beta}"),
            Estimator::Identity => f.write_str("identity"),
        }
    }
}

fn estimator(argument: Option<&str>) -> Result<Estimator, String> {
    argument.map_or(Ok(Estimator::Clip(1.0)), str::parse)
}

fn bits(text: &str, argument: Option<&str>, most: u8) -> Result<u8, String> {
    match argument.map(str::parse::<u8>) {
        Some(Ok(n)) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("`{text}` needs a number of bits from 1 to {most} after the colon")),
    }
}

impl FromStr for Weights {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match parts(text) {
            ("default", None) => Ok(Weights::Default),
            ("float", None) => Ok(Weights::Float),
            ("sign", argument) => Ok(Weights::Sign(estimator(argument)?)),
            ("xnor", None) => Ok(Weights::Xnor),
            ("magnitude", None) => Ok(Weights::Magnitude),
            ("ternary", None) => Ok(Weights::Ternary),
            ("dorefa", argument) => Ok(Weights::Dorefa(bits(text, argument, 31)?)),
            _ => Err(format!(
                "`{text}` is no quantiser of weights: known are float, sign, sign:ESTIMATOR, xnor, magnitude, ternary, dorefa:BITS"
            )),
        }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weights::Default => f.write_str("default"),
            Weights::Float => f.write_str("float"),
            Weights::Sign(Estimator::Clip(1.0)) => f.write_str("sign"),
            Weights::Sign(estimator) => write!(f, "sign:{estimator}"),
            Weights::Xnor => f.write_str("xnor"),
            Weights::Magnitude => f.write_str("magnitude"),
            Weights::Ternary => f.write_str("ternary"),
            Weights::Dorefa(bits) => write!(f, "dorefa:{bits}"),
        }
    }
}

impl FromStr for Act {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match parts(text) {
            ("default", None) => Ok(Act::Default),
            ("sign", argument) => Ok(Act::Sign(estimator(argument)?)),
            ("rsign", argument) => Ok(Act::RSign(estimator(argument)?)),
            ("dorefa", argument) => Ok(Act::Dorefa(bits(text, argument, 31)?)),
            ("pact", argument) => Ok(Act::Pact(bits(text, argument, 31)?)),
            ("relu", None) => Ok(Act::Relu),
            ("tanh", None) => Ok(Act::Tanh),
            ("hardtanh", None) => Ok(Act::HardTanh),
            ("prelu", None) => Ok(Act::Prelu),
            ("rprelu", None) => Ok(Act::RPrelu),
            _ => Err(format!(
                "`{text}` is no activation: known are sign, sign:ESTIMATOR, rsign, rsign:ESTIMATOR, dorefa:BITS, pact:BITS, \
                 relu, tanh, hardtanh, prelu, rprelu"
            )),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Default => f.write_str("default"),
            Act::Sign(Estimator::Clip(1.0)) => f.write_str("sign"),
            Act::Sign(estimator) => write!(f, "sign:{estimator}"),
            Act::RSign(Estimator::Clip(1.0)) => f.write_str("rsign"),
            Act::RSign(estimator) => write!(f, "rsign:{estimator}"),
            Act::Dorefa(bits) => write!(f, "dorefa:{bits}"),
            Act::Pact(bits) => write!(f, "pact:{bits}"),
            Act::Relu => f.write_str("relu"),
            Act::Tanh => f.write_str("tanh"),
            Act::HardTanh => f.write_str("hardtanh"),
            Act::Prelu => f.write_str("prelu"),
            Act::RPrelu => f.write_str("rprelu"),
        }
    }
}

/// Quantisers are texts in TOML.
macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(Weights, Act);
