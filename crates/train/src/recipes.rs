//! Built-in recipes: published networks and small ones to start from. One TOML file each, in `recipes/`.

use crate::recipe::Recipe;

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../recipes/", $name, ".toml")))),*]
    };
}

/// Names and texts: those that a laptop trains first.
const RECIPES: &[(&str, &str)] = recipes![
    "mnist-mlp",
    "ebnn-mnist",
    "bmxnet-lenet",
    "fashion-lenet",
    "cifar10-small",
    "khan-vehicles",
    "dorefa-resnet20-cifar10",
    "binarynet-mlp",
    "binarynet-vgg",
    "vgg-w1a2",
    "bmxnet-resnet18",
    "bmxnet-resnet18-imagenet",
    "bmxnet-resnet18-imagenet-float1",
    "birealnet18",
    "resnete18",
    "binarydensenet28",
    "quicknet-small",
    "reactnet-a",
];

/// Names of the built-in recipes.
pub fn names() -> Vec<&'static str> {
    RECIPES.iter().map(|(name, _)| *name).collect()
}

/// A built-in recipe as TOML; `None` if the name is unknown.
pub fn text(name: &str) -> Option<&'static str> {
    RECIPES.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// What a built-in recipe is, in a sentence or two; `None` if the name is unknown.
pub fn about(name: &str) -> Option<String> {
    Some(Recipe::parse(text(name)?, &[]).ok()?.about)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::lower;
    use crate::export::tests::random;
    use crate::network::{Linear, Network, NodeOp, Role};
    use onebit::Meta;
    use onebit::core::types::Shape;
    use onebit::passes::optimize;

    fn network(name: &str) -> Network {
        let recipe = Recipe::parse(text(name).unwrap(), &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(recipe.name, name);
        assert!(!recipe.about.is_empty() && !recipe.data.is_empty(), "{name}");
        Network::new(&recipe.network).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn linears(network: &Network) -> impl Iterator<Item = (&Linear, Shape, bool)> {
        network.nodes.iter().filter_map(|n| match &n.op {
            NodeOp::Linear(l) => {
                let binary =
                    l.fixed.is_none() && l.weights.quant().is_some() && network.quant(n.inputs[0]).is_some();
                Some((l, n.shape, binary))
            }
            _ => None,
        })
    }

    #[test]
    fn every_recipe_becomes_a_network_that_runs_on_bits() {
        for name in names() {
            let network = network(name);
            let classes =
                [10, 1000, 4][usize::from(network.input.h > 32) + usize::from(network.input.h == 96)];
            assert_eq!(network.classes(), classes, "{name}");
            let mut graph = lower(&network, &random(&network, 1), Meta::default()).unwrap();
            optimize(&mut graph).unwrap();
            let (model, _) = graph.into_model().unwrap();
            let ops: Vec<_> = model.nodes().iter().map(|n| n.op.name()).collect();
            let binary = linears(&network).filter(|(.., binary)| *binary).count();
            assert!(binary >= 2, "{name}");
            assert_eq!(
                ops.iter().filter(|op| op.starts_with("b_conv") || **op == "b_dense").count(),
                binary,
                "{name}"
            );
            // Whatever makes bits is folded.
            assert!(!ops.iter().any(|op| ["sign", "quantize"].contains(op)), "{name}: {ops:?}");
        }
        assert_eq!(text("alexnet-2012"), None);
        assert!(about("mnist-mlp").unwrap().contains("1602.02830"));
    }

    /// Weights and biases, and some numbers for each channel of a BatchNorm.
    fn parameters(network: &Network, norm: usize) -> usize {
        let filters = |r: &Role| matches!(r, Role::Latent | Role::Weight);
        let weights = network.params.iter().filter(|p| filters(&p.role));
        let weights: usize = weights.map(|p| p.shape.iter().product::<usize>()).sum();
        let nodes = network.nodes.iter().map(|n| match &n.op {
            NodeOp::Norm(_) => norm * n.shape.c,
            NodeOp::Linear(l) => {
                usize::from(l.bias) * n.shape.c + l.fixed.as_ref().map_or(0, |k| k.len() * n.shape.c)
            }
            _ => 0,
        });
        weights + nodes.sum::<usize>()
    }

    #[test]
    fn published_networks_have_the_published_numbers_of_parameters() {
        // Documentation of the models of Larq Zoo, which counts the running statistics of the older ones.
        for (name, norm, published) in [
            ("birealnet18", 4, 11_699_112),
            ("resnete18", 4, 11_699_368),
            ("binarydensenet28", 4, 5_150_504),
            ("quicknet-small", 2, 12_655_688),
        ] {
            assert_eq!(parameters(&network(name), norm), published, "{name}");
        }
    }

    #[test]
    fn published_networks_have_the_published_binary_layers() {
        let binary = |name| {
            let network = network(name);
            let latent = network.params.iter().filter(|p| p.role == Role::Latent);
            latent.map(|p| p.shape.iter().product::<usize>()).sum::<usize>()
        };
        // The nets of Espresso's files, which are BinaryNet's.
        assert_eq!(binary("binarynet-mlp"), 36_806_656);
        assert_eq!(binary("binarynet-vgg"), 14_022_016);
        // BMXNet's converted files: bits of these weights, and floats for what is left.
        assert_eq!(binary("bmxnet-lenet"), 64 * 1600 + 1000 * 1024);
        assert_eq!(binary("bmxnet-resnet18"), 11_161_600);
        assert_eq!(binary("bmxnet-resnet18-imagenet"), 11_161_600);
        assert_eq!(binary("bmxnet-resnet18-imagenet-float1"), 11_010_048);
        // BinCNN's weights: 75 and 800 taps of 32 filters, then 18432-100-100-4.
        assert_eq!(binary("khan-vehicles"), 2_400 + 25_600 + 1_843_200 + 10_000 + 400);
        // ReActNet-A: MobileNet's layers.
        let shapes: Vec<_> = linears(&network("reactnet-a")).map(|(_, s, _)| (s.h, s.c)).collect();
        assert_eq!(shapes.len(), 1 + 2 * 13 + 1);
        assert_eq!(shapes[..5], [(112, 32), (112, 32), (112, 64), (56, 64), (56, 128)]);
        assert_eq!(shapes[24..], [(7, 1024), (7, 1024), (7, 1024), (1, 1000)]);
    }

    #[test]
    fn the_small_network_is_small() {
        let network = network("cifar10-small");
        let macs: usize = network
            .nodes
            .iter()
            .filter_map(|n| match &n.op {
                NodeOp::Linear(_) => {
                    let weights: usize = network.params[n.params.start].shape.iter().product();
                    Some(weights * n.shape.pixels())
                }
                _ => None,
            })
            .sum();
        assert!((30_000_000..46_000_000).contains(&macs), "{macs}");
        let mut graph = lower(&network, &random(&network, 1), Meta::default()).unwrap();
        optimize(&mut graph).unwrap();
        let (model, meta) = graph.into_model().unwrap();
        let bytes = onebit::file::to_bytes(&model, &meta).unwrap().len();
        assert!(bytes < 200_000, "{bytes}");
    }
}
