//! Convolutions and dense layers: weights, axes, padding, and products that floats cannot hold.

use super::builder::{Builder, Id};
use super::levels::quantiser;
use super::proto::{Attribute, Elem};
use super::{Carried, Dialect, EXACT, dims};
use onebit_core::model::{Data, Tensor};
use onebit_core::ops::Window;
use onebit_core::types::{Quant, Shape};

/// What multiplies weights with a value.
pub enum Product {
    /// A window slides over it; taps in the padding read `pad_value`.
    Conv { window: Window, groups: usize, pad_value: f32 },
    /// All of its elements are read at once.
    Dense,
}

/// Which multiplication, and where.
pub struct Site<'a> {
    /// Name of the layer.
    pub layer: &'a str,
    /// What is multiplied with the weights.
    pub x: Carried,
    /// Shape of the product.
    pub out: Shape,
    /// How.
    pub product: Product,
}

impl Site<'_> {
    /// The product with floats, or with packed weights as floats.
    pub fn floats(&self, b: &mut Builder, weight: &Tensor<'_>, bias: Option<&Tensor<'_>>) -> Id {
        let w = match (&weight.data, weight.to_i32()) {
            (Data::Bits(quant, _), Some(w)) => self.packed(b, &w, weight.rows, Some(*quant)),
            _ => {
                let (dims, values) = self.arrange(&weight.to_f32(), weight.rows);
                b.floats(&format!("{}.weight", self.layer), &dims, &values)
            }
        };
        let x = self.prepare(b);
        let bias = bias.map(|t| b.floats(&format!("{}.bias", self.layer), &[t.cols], &t.to_f32()));
        self.multiply(b, x, w, bias)
    }

    /// The product of integers and its bound; a double where floats could not hold it.
    ///
    /// # Errors
    /// When no exact product can be written down.
    pub fn integers(
        &self,
        b: &mut Builder,
        weight: &[i32],
        rows: usize,
        quant: Quant,
    ) -> Result<(Id, i64), String> {
        let cols = weight.len() / rows;
        let largest_sum = |digit: &dyn Fn(i32) -> i32| {
            let sum = |row: &[i32]| row.iter().map(|w| i64::from(digit(*w)).abs()).sum::<i64>();
            self.x.bound.max(1) * weight.chunks_exact(cols).map(sum).max().unwrap_or(0)
        };
        let bound = largest_sum(&|w| w);
        let x = self.prepare(b);
        if bound <= EXACT {
            let w = self.packed(b, weight, rows, Some(quant));
            return Ok((self.multiply(b, x, w, None), bound));
        }
        if b.dialect == Dialect::Qonnx {
            return Err(format!(
                "its products could reach {bound}, and tools of QONNX compute with floats, which hold integers up to {EXACT} only; export to plain ONNX"
            ));
        }
        // Digits of 4, 2 or 1 bits, the last with what is left and the sign.
        let digit = |width: u32, i: u32, w: i32| match (i + 1) * width < 8 {
            true => w >> (i * width) & ((1 << width) - 1),
            false => w >> (i * width),
        };
        let fits = |width: &u32| (0..8 / width).all(|i| largest_sum(&|w| digit(*width, i, w)) <= EXACT);
        let Some(width) = [4, 2, 1].into_iter().find(fits) else {
            return Err(format!("its products could reach {bound}, which takes more than floats to compute"));
        };
        let mut sum = None;
        for i in 0..8 / width {
            let digits: Vec<i32> = weight.iter().map(|w| digit(width, i, *w)).collect();
            let w = self.packed(b, &digits, rows, None);
            let y = self.multiply(b, x, w, None);
            let y = b.cast(self.layer, y, Elem::Double);
            let place = f64::from(1 << (i * width)).to_le_bytes().to_vec();
            let place = b.constant(&format!("{}.place", self.layer), Elem::Double, &[], place);
            let y = b.like(self.layer, "Mul", &[y, place], vec![]);
            sum = Some(sum.map_or(y, |sum| b.like(self.layer, "Add", &[sum, y], vec![])));
        }
        Ok((sum.unwrap_or(x), bound))
    }

    /// Weights of few bits: bytes that become floats, or floats that pass a quantiser.
    fn packed(&self, b: &mut Builder, weight: &[i32], rows: usize, quant: Option<Quant>) -> Id {
        let name = format!("{}.weight", self.layer);
        let (dims, w) = self.arrange(weight, rows);
        if let (Dialect::Qonnx, Some(quant)) = (b.dialect, quant) {
            let floats: Vec<f32> = w.iter().map(|w| *w as f32).collect();
            let w = b.floats(&name, &dims, &floats);
            return quantiser(b, self.layer, w, quant, "ROUND");
        }
        let all = |low, high| w.iter().all(|w| (low..=high).contains(w));
        let (elem, bytes): (_, Vec<u8>) = if all(-128, 127) {
            (Elem::Int8, w.iter().map(|w| *w as u8).collect())
        } else if all(0, 255) {
            (Elem::Uint8, w.iter().map(|w| *w as u8).collect())
        } else {
            (Elem::Int16, w.iter().flat_map(|w| (*w as i16).to_le_bytes()).collect())
        };
        let w = b.constant(&name, elem, &dims, bytes);
        b.cast(self.layer, w, Elem::Float)
    }

    /// Rows of `(ky, kx, c)` elements as `[n, c, ky, kx]`, or as the columns that a vector is multiplied with.
    fn arrange<T: Copy>(&self, weight: &[T], rows: usize) -> (Vec<usize>, Vec<T>) {
        let cols = weight.len() / rows;
        let (taps, dims) = match &self.product {
            Product::Conv { window, .. } => {
                let [h, w] = window.kernel;
                (h * w, vec![rows, cols / (h * w), h, w])
            }
            Product::Dense => (self.x.ty.shape.pixels(), vec![cols, rows]),
        };
        let channels = cols / taps;
        let filter = |n: usize| {
            let row = &weight[n * cols..][..cols];
            (0..channels).flat_map(move |c| (0..taps).map(move |t| row[t * channels + c]))
        };
        let rows_first: Vec<T> = (0..rows).flat_map(filter).collect();
        match self.product {
            Product::Conv { .. } => (dims, rows_first),
            Product::Dense => {
                let column = |k: usize| rows_first[k..].iter().step_by(cols).copied();
                (dims, (0..cols).flat_map(column).collect())
            }
        }
    }

    /// The value in the shape that the multiplication reads, with padding that is not zero.
    fn prepare(&self, b: &mut Builder) -> Id {
        let Shape { h, w, c } = self.x.ty.shape;
        let x = self.x.id;
        let Product::Conv { window, pad_value, .. } = &self.product else {
            let flat = vec![Attribute::Int("axis", 1)];
            return if h * w == 1 {
                x
            } else {
                b.node(self.layer, "Flatten", &[x], flat, Elem::Float, &[h * w * c])
            };
        };
        let x = as_map(b, self.layer, self.x);
        if *pad_value == 0.0 { x } else { pad(b, self.layer, x, window.pad, *pad_value, "constant") }
    }

    fn multiply(&self, b: &mut Builder, x: Id, w: Id, bias: Option<Id>) -> Id {
        let Product::Conv { window, groups, pad_value } = &self.product else {
            let op = if bias.is_some() { "Gemm" } else { "MatMul" };
            let inputs: Vec<Id> = [x, w].into_iter().chain(bias).collect();
            return b.node(self.layer, op, &inputs, vec![], Elem::Float, &[self.out.c]);
        };
        let pad = if *pad_value == 0.0 { window.pad } else { [0; 4] };
        let mut attributes = window_attributes(window, pad);
        attributes.push(Attribute::Ints("dilations", window.dilation.map(|v| v as i64).to_vec()));
        attributes.push(Attribute::Int("group", *groups as i64));
        let inputs: Vec<Id> = [x, w].into_iter().chain(bias).collect();
        let map = [self.out.c, self.out.h, self.out.w];
        let y = b.node(self.layer, "Conv", &inputs, attributes, Elem::Float, &map);
        settle(b, self.layer, y, self.out)
    }
}

/// Kernel, strides and padding (top, left, bottom, right) of a window.
pub fn window_attributes(window: &Window, pad: [usize; 4]) -> Vec<Attribute> {
    let ints = |v: &[usize]| v.iter().map(|v| *v as i64).collect();
    vec![
        Attribute::Ints("kernel_shape", ints(&window.kernel)),
        Attribute::Ints("strides", ints(&window.stride)),
        Attribute::Ints("pads", ints(&pad)),
    ]
}

/// A map with a border (top, left, bottom, right): of `value` where the mode is `constant`.
pub fn pad(b: &mut Builder, layer: &str, x: Id, border: [usize; 4], value: f32, mode: &str) -> Id {
    let [top, left, bottom, right] = border;
    if border == [0; 4] {
        return x;
    }
    let axes = [b.dims(x)[0], b.dims(x)[1] + top + bottom, b.dims(x)[2] + left + right];
    let ends = [0, 0, top, left, 0, 0, bottom, right].map(|v| v as i64);
    let ends = b.ints(&format!("{layer}.pads"), &ends);
    let mut inputs = vec![x, ends];
    if mode == "constant" {
        inputs.push(b.scalar(value));
    }
    b.node(layer, "Pad", &inputs, vec![Attribute::Text("mode", mode.into())], Elem::Float, &axes)
}

/// A value as a map, `[N, C, H, W]`; vectors have one pixel.
pub fn as_map(b: &mut Builder, layer: &str, x: Carried) -> Id {
    if x.ty.shape.pixels() > 1 {
        return x.id;
    }
    let axes = b.ints(&format!("{layer}.axes"), &[2, 3]);
    b.node(layer, "Unsqueeze", &[x.id, axes], vec![], Elem::Float, &[x.ty.shape.c, 1, 1])
}

/// A map, or the vector `[N, C]` where it has one pixel.
pub fn settle(b: &mut Builder, layer: &str, map: Id, shape: Shape) -> Id {
    match shape.pixels() {
        1 => b.node(layer, "Flatten", &[map], vec![Attribute::Int("axis", 1)], Elem::Float, &dims(shape)),
        _ => map,
    }
}
