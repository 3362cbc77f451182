//! Architectures of the literature with random weights, for benchmarks.
//!
//! The speed of a binary network does not depend on its weights. Networks are built as an importer would
//! emit them and then optimised like any other.

use crate::error::Result;
use crate::graph::Graph;
use crate::meta::Meta;
use onebit_core::cases::Rng;
use onebit_core::model::{Params, Tensor};
use onebit_core::ops::*;
use onebit_core::types::{DType, Quant, Shape, ValueType};

/// Names that [`build`] knows.
pub const NAMES: &[&str] = &[
    "binarynet-mlp",
    "binarynet-vgg",
    "bmxnet-lenet",
    "resnet18-cifar10",
    "resnet18-imagenet",
    "birealnet18",
    "quicknet",
    "mcu",
];

/// Builds an architecture, not yet optimised; `None` if the name is unknown.
///
/// # Errors
/// Never for a name in [`NAMES`].
pub fn build(name: &str) -> Option<Result<Graph>> {
    let builder = |input: ValueType| {
        let meta = Meta { name: name.into(), source: "random weights".into(), ..Meta::default() };
        Builder { graph: Graph::new(input, meta), rng: Rng::new(7) }
    };
    let picture = |size, c, dtype| builder(ValueType::new(Shape::new(size, size, c), dtype));
    Some(match name {
        "binarynet-mlp" => picture(28, 1, DType::U8).binarynet_mlp(),
        "binarynet-vgg" => picture(32, 3, DType::U8).binarynet_vgg(),
        "bmxnet-lenet" => picture(28, 1, DType::F32).bmxnet_lenet(),
        "resnet18-cifar10" => picture(32, 3, DType::F32).resnet18(Shortcut::Binary, 10),
        "resnet18-imagenet" => picture(224, 3, DType::F32).resnet18(Shortcut::Binary, 1000),
        "birealnet18" => picture(224, 3, DType::F32).resnet18(Shortcut::Float, 1000),
        "quicknet" => picture(224, 3, DType::F32).quicknet(),
        "mcu" => picture(28, 1, DType::BIT).mcu(),
        _ => return None,
    })
}

/// How a residual block adapts its shortcut.
#[derive(Clone, Copy, PartialEq)]
enum Shortcut {
    /// Two convolutions a block; a binary 1x1 convolution where the shape changes (BMXNet).
    Binary,
    /// A shortcut around every convolution; average pool and float 1x1 convolution (Bi-Real net).
    Float,
}

struct Builder {
    graph: Graph,
    rng: Rng,
}

impl Builder {
    /// Appends an op to `x`, named after its kind and place.
    fn op(&mut self, op: Op, x: &[usize], params: Params<Tensor<'static>>) -> Result<usize> {
        let name = format!("{}{}", op.name(), self.graph.nodes.len() + 1);
        self.graph.add(name, op, x, params)
    }
    fn sign(&mut self, x: usize) -> Result<usize> {
        self.op(Op::Sign(Sign { zero: Zero::Positive }), &[x], Params::default())
    }
    fn batch_norm(&mut self, x: usize) -> Result<usize> {
        let c = self.graph.ty(x).shape.c;
        let mut random = |lo, hi| Some(Tensor::f32(self.rng.floats(c, lo, hi)));
        let params = Params {
            center: random(-8.0, 8.0),
            scale: random(-0.1, 0.2),
            bias: random(-0.5, 0.5),
            ..Params::default()
        };
        self.op(Op::Affine, &[x], params)
    }
    fn activation(&mut self, x: usize, a: Activation) -> Result<usize> {
        self.op(Op::Activation(a), &[x], Params::default())
    }
    fn max_pool(&mut self, x: usize, kernel: usize, stride: usize, pad: usize) -> Result<usize> {
        self.pool(x, PoolKind::Max, Window::square(kernel, stride, pad))
    }
    fn pool(&mut self, x: usize, kind: PoolKind, window: Window) -> Result<usize> {
        self.op(Op::Pool2d(Pool2d { kind, window, count_pad: false }), &[x], Params::default())
    }
    fn binary_conv(&mut self, x: usize, n: usize, window: Window, pad_value: i32) -> Result<usize> {
        let k = window.taps() * self.graph.ty(x).shape.c;
        let weight = Some(self.rng.weights(n, k, Quant::BIT));
        let conv = BConv2d { window, groups: 1, pad_value, output: DType::I32 };
        self.op(Op::BConv2d(conv), &[x], Params { weight, ..Params::default() })
    }
    fn binary_dense(&mut self, x: usize, n: usize) -> Result<usize> {
        let weight = Some(self.rng.weights(n, self.graph.ty(x).shape.elements(), Quant::BIT));
        let dense = Op::BDense(BDense { output: DType::I32 });
        self.op(dense, &[x], Params { weight, ..Params::default() })
    }
    fn float_conv(&mut self, x: usize, n: usize, window: Window, groups: usize) -> Result<usize> {
        let k = window.taps() * self.graph.ty(x).shape.c / groups;
        let weight = Some(Tensor::f32_matrix(n, k, self.rng.floats(n * k, -0.1, 0.1)));
        let conv = Conv2d { window, groups, pad_value: 0.0 };
        self.op(Op::Conv2d(conv), &[x], Params { weight, ..Params::default() })
    }
    fn float_dense(&mut self, x: usize, n: usize) -> Result<usize> {
        let k = self.graph.ty(x).shape.elements();
        let weight = Some(Tensor::f32_matrix(n, k, self.rng.floats(n * k, -0.1, 0.1)));
        let bias = Some(Tensor::f32(self.rng.floats(n, -0.1, 0.1)));
        self.op(Op::Dense, &[x], Params { weight, bias, ..Params::default() })
    }

    /// 784-4096-4096-4096-10 on pixels (Courbariaux et al. 2016).
    fn binarynet_mlp(mut self) -> Result<Graph> {
        let mut x = Graph::INPUT;
        for _ in 0..3 {
            x = self.binary_dense(x, 4096)?;
            x = self.batch_norm(x)?;
            x = self.sign(x)?;
        }
        x = self.binary_dense(x, 10)?;
        self.batch_norm(x)?;
        Ok(self.graph)
    }

    /// Six 3x3 convolutions and three dense layers on CIFAR-10 (Courbariaux et al. 2016).
    fn binarynet_vgg(mut self) -> Result<Graph> {
        let mut x = Graph::INPUT;
        for (n, pool) in [(128, false), (128, true), (256, false), (256, true), (512, false), (512, true)] {
            x = self.binary_conv(x, n, Window::square(3, 1, 1), 0)?;
            if pool {
                x = self.max_pool(x, 2, 2, 0)?;
            }
            x = self.batch_norm(x)?;
            x = self.sign(x)?;
        }
        for _ in 0..2 {
            x = self.binary_dense(x, 1024)?;
            x = self.batch_norm(x)?;
            x = self.sign(x)?;
        }
        x = self.binary_dense(x, 10)?;
        self.batch_norm(x)?;
        Ok(self.graph)
    }

    /// LeNet with float first and last layers (Yang et al. 2017).
    fn bmxnet_lenet(mut self) -> Result<Graph> {
        let mut x = self.float_conv(Graph::INPUT, 64, Window::square(5, 1, 0), 1)?;
        x = self.activation(x, Activation::Tanh)?;
        x = self.max_pool(x, 2, 2, 0)?;
        x = self.batch_norm(x)?;
        x = self.sign(x)?;
        x = self.binary_conv(x, 64, Window::square(5, 1, 0), 1)?;
        x = self.batch_norm(x)?;
        x = self.max_pool(x, 2, 2, 0)?;
        x = self.sign(x)?;
        x = self.binary_dense(x, 1000)?;
        x = self.batch_norm(x)?;
        x = self.activation(x, Activation::Tanh)?;
        self.float_dense(x, 10)?;
        Ok(self.graph)
    }

    /// ResNet-18 with a float stem and head (He et al. 2016, binarised by Yang et al. 2017 and Liu et al. 2018).
    fn resnet18(mut self, shortcut: Shortcut, classes: usize) -> Result<Graph> {
        let large = self.graph.ty(Graph::INPUT).shape.h > 64;
        let stem = if large { Window::square(7, 2, 3) } else { Window::square(3, 1, 1) };
        let mut x = self.float_conv(Graph::INPUT, 64, stem, 1)?;
        if large {
            x = self.batch_norm(x)?;
            x = self.activation(x, Activation::Relu)?;
            x = self.max_pool(x, 3, 2, 1)?;
        }
        for (stage, n) in [64, 128, 256, 512].into_iter().enumerate() {
            for unit in 0..2 {
                let stride = if stage > 0 && unit == 0 { 2 } else { 1 };
                x = match shortcut {
                    Shortcut::Binary => self.block(x, n, stride, unit == 0)?,
                    Shortcut::Float => {
                        let first = self.bi_real(x, n, stride)?;
                        self.bi_real(first, n, 1)?
                    }
                };
            }
        }
        x = self.batch_norm(x)?;
        x = self.activation(x, Activation::Relu)?;
        let whole = Window::whole(self.graph.ty(x).shape);
        x = self.pool(x, PoolKind::Average, whole)?;
        self.float_dense(x, classes)?;
        Ok(self.graph)
    }

    fn block(&mut self, x: usize, n: usize, stride: usize, project: bool) -> Result<usize> {
        let bn = self.batch_norm(x)?;
        let bits = self.sign(bn)?;
        let mut y = self.binary_conv(bits, n, Window::square(3, stride, 1), 1)?;
        y = self.batch_norm(y)?;
        y = self.sign(y)?;
        y = self.binary_conv(y, n, Window::square(3, 1, 1), 1)?;
        let y = self.batch_norm(y)?;
        let shortcut = if project {
            let y = self.binary_conv(bits, n, Window::square(1, stride, 0), 1)?;
            self.batch_norm(y)?
        } else {
            x
        };
        self.op(Op::Add, &[y, shortcut], Params::default())
    }

    fn bi_real(&mut self, x: usize, n: usize, stride: usize) -> Result<usize> {
        let bits = self.sign(x)?;
        let y = self.binary_conv(bits, n, Window::square(3, stride, 1), 0)?;
        let y = self.batch_norm(y)?;
        let shortcut = if stride > 1 {
            let pooled = self.pool(x, PoolKind::Average, Window::square(2, 2, 0))?;
            let wide = self.float_conv(pooled, n, Window::square(1, 1, 0), 1)?;
            self.batch_norm(wide)?
        } else {
            x
        };
        self.op(Op::Add, &[y, shortcut], Params::default())
    }

    /// Two convolutions and a dense layer, 2 kB in all, in the manner of eBNN (McDanel et al. 2017).
    fn mcu(mut self) -> Result<Graph> {
        let mut x = Graph::INPUT;
        for _ in 0..2 {
            x = self.binary_conv(x, 32, Window::square(3, 1, 0), 0)?;
            x = self.max_pool(x, 2, 2, 0)?;
            x = self.batch_norm(x)?;
            x = self.sign(x)?;
        }
        self.binary_dense(x, 10)?;
        Ok(self.graph)
    }

    /// QuickNet (Bannink et al. 2021): cheap float stem, 3x3 residual binary layers, depthwise transitions.
    fn quicknet(mut self) -> Result<Graph> {
        let mut x = self.float_conv(Graph::INPUT, 16, Window::square(3, 2, 1), 1)?;
        x = self.batch_norm(x)?;
        x = self.activation(x, Activation::Relu)?;
        x = self.float_conv(x, 16, Window::square(3, 2, 1), 16)?;
        x = self.float_conv(x, 64, Window::square(1, 1, 0), 1)?;
        x = self.batch_norm(x)?;
        for (stage, (n, layers)) in [(64, 4), (128, 4), (256, 4), (512, 4)].into_iter().enumerate() {
            if stage > 0 {
                let c = self.graph.ty(x).shape.c;
                x = self.activation(x, Activation::Relu)?;
                x = self.max_pool(x, 3, 1, 1)?;
                x = self.float_conv(x, c, Window::square(3, 2, 1), c)?;
                x = self.float_conv(x, n, Window::square(1, 1, 0), 1)?;
                x = self.batch_norm(x)?;
            }
            for _ in 0..layers {
                let bits = self.sign(x)?;
                let y = self.binary_conv(bits, n, Window::square(3, 1, 1), 1)?;
                let y = self.op(Op::Affine, &[y], Params::default())?;
                let y = self.activation(y, Activation::Relu)?;
                let y = self.batch_norm(y)?;
                x = self.op(Op::Add, &[x, y], Params::default())?;
            }
        }
        x = self.activation(x, Activation::Relu)?;
        let whole = Window::whole(self.graph.ty(x).shape);
        x = self.pool(x, PoolKind::Average, whole)?;
        self.float_dense(x, 1000)?;
        Ok(self.graph)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_architecture_builds_and_fuses() {
        for name in super::NAMES {
            let mut graph = super::build(name).unwrap().unwrap();
            crate::passes::optimize(&mut graph).unwrap();
            let (model, _) = graph.into_model().unwrap();
            let ops = model.nodes().iter().map(|n| n.op.name());
            assert!(!ops.clone().any(|op| op == "sign"), "{name}");
            assert!(ops.filter(|op| op.starts_with("b_")).count() > 2, "{name}");
        }
        assert!(super::build("alexnet-2012").is_none());
    }
}
