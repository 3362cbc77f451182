//! Small networks of every kind of layer, against loops in f64.

use super::*;
use crate::layer::Weights;
use crate::network::Architecture;
use onebit::core::cases::Rng;
use onebit::core::reference;
use onebit::meta::Training;
use onebit::passes::optimize;
use onebit::session::{Elements, Options};
use onebit::{ModelFile, Session};

/// Random numbers for a network: what training could have left behind.
pub(crate) fn random(network: &Network, seed: u64) -> Values {
    let mut rng = Rng::new(seed);
    let params = network.params.iter().map(|p| {
        let n = p.shape.iter().product();
        match p.name.rsplit('.').next() {
            Some("range") => vec![1.7; n],
            Some("scale") => rng.floats(n, -0.3, 1.5),
            Some("slope") => rng.floats(n, 0.0, 0.5),
            _ => rng.floats(n, -0.6, 0.6),
        }
    });
    let params = params.collect();
    let statistics = network.nodes.iter().map(|node| {
        let c = node.shape.c;
        matches!(node.op, NodeOp::Norm(_)).then(|| (rng.floats(c, -2.0, 2.0), rng.floats(c, 0.5, 40.0)))
    });
    Values { params, statistics: statistics.collect() }
}

fn network(input: &str, layers: &str) -> Network {
    let architecture: Architecture = toml::from_str(&format!("{input}\nlayers = [\n{layers}\n]")).unwrap();
    Network::new(&architecture).unwrap()
}

const BYTES: &str = "input = [9, 8, 3]";
const FLOATS: &str = "input = [9, 8, 3]\nmean = [120.0]\nstd = [60.0]";

/// Input and layers: together they have every kind of layer, quantiser and combination of formats.
const NETWORKS: &[(&str, &str)] = &[
    (BYTES, "{conv={filters=9,kernel=3,pad=1}},{norm={}},{act='sign'},{dense={units=5,bias=true}}"),
    (
        FLOATS,
        "{conv={filters=8,kernel=3,stride=2,pad=1,weights='float',bias=true}},{norm={affine=false}},{act='rsign'},
         {conv={filters=8,kernel=3,pad=1,pad_value=1,weights='xnor'}},{act='rprelu'},{act='sign'},{max_pool={size=2,stride=2}},
         {conv={filters=4,kernel=2,groups=2,weights='magnitude',bias=true}},{global_avg_pool={}}",
    ),
    (
        BYTES,
        "{max_pool={size=3,stride=2,pad=1}},{conv={filters=6,kernel=3,pad=1,weights='ternary'}},{shift={}},{act='prelu'},
         {dropout={rate=0.3}},{act='dorefa:2'},{conv={filters=6,kernel=2,dilation=2,weights='dorefa:3'}},{norm={}},
         {act='pact:4'},{dense={units=7,weights='dorefa:1',bias=true}}",
    ),
    (
        FLOATS,
        "{conv={filters=4,kernel=3}},{act='relu'},{act='dorefa:12'},{conv={filters=4,kernel=1,weights='dorefa:10'}},
         {act='pact:9'},{avg_pool={size=3,stride=2,pad=1}},{act='hardtanh'},{act='dorefa:8'},
         {max_pool={size=2,stride=1}},{dense={units=3,weights='float'}},{act='tanh'}",
    ),
    (
        BYTES,
        "{residual={body=[{conv={filters=3,kernel=3,pad=1,weights='sign'}},{norm={}}]}},
         {concat={branches=[[],[{act='sign'}],[{act='pact:3'},{max_pool={size=3,stride=1,pad=1}}]]}},
         {act='sign'},{concat={branches=[[],[{dropout={rate=0.0}}]]}},
         {repeat={times=2,layers=[{conv={filters=6,kernel=3,pad=1,pad_value=-1,weights='ternary'}},{act='sign:approx'}]}},
         {residual={body=[{conv={filters=6,kernel=1}}],shortcut=[{conv={filters=6,kernel=1,weights='float',pad=0}}]}},
         {conv={filters=6,kernel=3,stride=2,pad=1,groups=6,fixed=[1.0,2.0,1.0,2.0,4.0,2.0,1.0,2.0,1.0]}},
         {norm={}},{act='pact:2'}",
    ),
    (
        FLOATS,
        "{act='sign'},{dropout={rate=0.5}},{conv={filters=4,kernel=3,pad=1,pad_value=1}},{act='sign'},
         {conv={filters=4,kernel=3,pad=1,pad_value=1,weights='float'}},{act='pact:2'},
         {conv={filters=4,kernel=3,pad=1,pad_value=-1,weights='float'}},{norm={eps=0.1}},{act='dorefa:1'},
         {dense={units=4,weights='dorefa:9'}}",
    ),
];

#[test]
fn fused_and_fast_equal_the_reference_and_follow_the_maths() {
    for (i, (input, layers)) in NETWORKS.iter().enumerate() {
        let network = network(input, layers);
        let values = random(&network, i as u64 + 5);
        let lowered = lower_nodes(&network, &values, Meta::default()).unwrap();
        let graph = lower(&network, &values, Meta::default()).unwrap();
        let mut fused = graph.clone();
        optimize(&mut fused).unwrap();
        let (plain, _) = graph.into_model().unwrap();
        let (fused, _) = fused.into_model().unwrap();
        let mut rng = Rng::new(77);
        for _ in 0..3 {
            let n = network.input.elements();
            let pixels: Vec<f32> = match network.input_quant {
                Some(_) => (0..n).map(|_| rng.below(256) as f32).collect(),
                None => rng.floats(n, -2.0, 2.0),
            };
            let input = match network.input_quant {
                Some(_) => reference::Values::Int(pixels.iter().map(|p| *p as i32).collect()),
                None => reference::Values::F32(pixels.clone()),
            };
            let expected = reference::run(&plain, input.clone()).unwrap().to_f32();
            for model in [&plain, &fused] {
                let options = Options { threads: 1, ..Options::default() };
                let session = Session::new(model, Meta::default(), &options).unwrap();
                let scores = session.run_elements(Elements::F32(&pixels)).unwrap().remove(0).scores;
                assert_eq!(scores, expected, "network {i}");
            }
            follows_the_maths(&network, &values, &lowered, input);
        }
    }
}

/// Checks each node by itself, from the inputs that the engine computed for it.
fn follows_the_maths(network: &Network, values: &Values, lowered: &Lowerer, input: reference::Values) {
    // The last node's value alone would be lost if it is read by nobody and not the output.
    let model = onebit::core::model::Model::new(lowered.graph.ty(0), lowered.graph.nodes.clone()).unwrap();
    let all = reference::run_all(&model, input).unwrap();
    let real = |v: usize| -> Vec<f64> {
        let Made { value, scale } = lowered.made[v];
        all[value].to_f32().iter().map(|x| f64::from(*x) * f64::from(scale)).collect()
    };
    for (i, node) in network.nodes.iter().enumerate() {
        let inputs: Vec<Vec<f64>> = node.inputs.iter().map(|v| real(*v)).collect();
        let expected = naive(network, values, lowered, i, &inputs);
        let got = real(i + 1);
        assert_eq!(got.len(), expected.len(), "{}", node.name);
        let step = lowered.made[i + 1].scale;
        for (g, (e, tie)) in got.iter().zip(&expected) {
            let close = (g - e).abs() <= 1e-4 * (1.0 + e.abs());
            // Next to a tie one level more or less is right as well.
            let near = *tie && (g - e).abs() < 2.001 * f64::from(step);
            assert!(close || near, "{}: {g} instead of {e}", node.name);
        }
        let quant = network.quant(i + 1);
        let dtype = lowered.graph.ty(lowered.made[i + 1].value).dtype;
        assert_eq!(quant, dtype.quant(), "{}", node.name);
        assert_eq!(node.shape, lowered.graph.ty(lowered.made[i + 1].value).shape, "{}", node.name);
    }
}

/// Value of a node, and where it is about as near to another level.
fn naive(
    network: &Network,
    values: &Values,
    lowered: &Lowerer,
    index: usize,
    inputs: &[Vec<f64>],
) -> Vec<(f64, bool)> {
    let node = &network.nodes[index];
    let (x, c) = (&inputs[0], node.shape.c);
    let from = network.shape(node.inputs[0]);
    let params = &values.params[node.params.clone()];
    let at = |p: usize, i: usize| f64::from(params[p][i % c]);
    let exact = |f: &dyn Fn(usize, f64) -> f64| -> Vec<(f64, bool)> {
        x.iter().enumerate().map(|(i, x)| (f(i, *x), false)).collect()
    };
    let sign = |v: f64| (if v >= 0.0 { 1.0 } else { -1.0 }, v.abs() < 1e-4);
    let levels = |bits: u8, range: f64| {
        let n = f64::from(2f32.powi(bits.into())) - 1.0;
        let one = |x: &f64| {
            let q = x.clamp(0.0, range) * n / range;
            (q.round_ties_even() * range / n, (q - q.floor() - 0.5).abs() < 1e-3 * (1.0 + q))
        };
        x.iter().map(one).collect::<Vec<_>>()
    };
    match &node.op {
        NodeOp::Linear(linear) => {
            let weights: Vec<f64> = match (&linear.fixed, params) {
                (Some(kernel), _) => {
                    kernel.iter().map(|w| f64::from(*w)).cycle().take(kernel.len() * c).collect()
                }
                (None, params) => naive_weights(linear.weights, &params[0], c),
            };
            let pad = match network.quant(node.inputs[0]) {
                Some(_) => f64::from(linear.pad_value) * f64::from(lowered.made[node.inputs[0]].scale),
                None => 0.0,
            };
            let (window, cg, ng) = (&linear.window, from.c / linear.groups, c / linear.groups);
            let [kh, kw] = window.kernel;
            let mut out = Vec::new();
            for oy in 0..node.shape.h {
                for ox in 0..node.shape.w {
                    for n in 0..c {
                        let mut sum = if linear.bias { f64::from(params.last().unwrap()[n]) } else { 0.0 };
                        for (t, w) in weights[n * kh * kw * cg..][..kh * kw * cg].iter().enumerate() {
                            let (tap, ch) = (t / cg, n / ng * cg + t % cg);
                            let y = (oy * window.stride[0] + tap / kw * window.dilation[0]) as isize
                                - window.pad[0] as isize;
                            let x0 = (ox * window.stride[1] + tap % kw * window.dilation[1]) as isize
                                - window.pad[1] as isize;
                            let inside =
                                (0..from.h as isize).contains(&y) && (0..from.w as isize).contains(&x0);
                            let v = if inside {
                                x[(y as usize * from.w + x0 as usize) * from.c + ch]
                            } else {
                                pad
                            };
                            sum += w * v;
                        }
                        out.push((sum, false));
                    }
                }
            }
            out
        }
        NodeOp::Norm(norm) => {
            let (mean, variance) = values.statistics[index].as_ref().unwrap();
            exact(&|i, x| {
                let normal =
                    (x - f64::from(mean[i % c])) / (f64::from(variance[i % c]) + f64::from(norm.eps)).sqrt();
                if norm.affine { normal * at(0, i) + at(1, i) } else { normal }
            })
        }
        NodeOp::Act(act) => match act {
            Act::Default => unreachable!(),
            Act::Sign(_) => x.iter().map(|x| sign(*x)).collect(),
            Act::RSign(_) => x.iter().enumerate().map(|(i, x)| sign(x - at(0, i))).collect(),
            Act::Dorefa(bits) => levels(*bits, 1.0),
            Act::Pact(bits) => levels(*bits, at(0, 0)),
            Act::Relu => exact(&|_, x| x.max(0.0)),
            Act::Tanh => exact(&|_, x| x.tanh()),
            Act::HardTanh => exact(&|_, x| x.clamp(-1.0, 1.0)),
            Act::Prelu => exact(&|i, x| if x >= 0.0 { x } else { at(0, i) * x }),
            Act::RPrelu => exact(&|i, x| {
                let x = x - at(1, i);
                (if x >= 0.0 { x } else { at(0, i) * x }) + at(2, i)
            }),
        },
        NodeOp::Pool(pool) => {
            let (window, mut out) = (&pool.window, Vec::new());
            for i in 0..node.shape.elements() {
                let (oy, ox, ch) = (i / c / node.shape.w, i / c % node.shape.w, i % c);
                let mut taps = Vec::new();
                for ky in 0..window.kernel[0] {
                    for kx in 0..window.kernel[1] {
                        let y = (oy * window.stride[0] + ky).wrapping_sub(window.pad[0]);
                        let x0 = (ox * window.stride[1] + kx).wrapping_sub(window.pad[1]);
                        if y < from.h && x0 < from.w {
                            taps.push(x[(y * from.w + x0) * c + ch]);
                        }
                    }
                }
                let n = taps.len() as f64;
                out.push(match pool.kind {
                    PoolKind::Max => (taps.into_iter().fold(f64::MIN, f64::max), false),
                    PoolKind::Average => (taps.into_iter().sum::<f64>() / n, false),
                });
            }
            out
        }
        NodeOp::Shift => exact(&|i, x| x + at(0, i)),
        NodeOp::Dropout(_) => exact(&|_, x| x),
        NodeOp::Add => exact(&|i, x| x + inputs[1][i]),
        NodeOp::Concat => {
            let widths: Vec<usize> = node.inputs.iter().map(|v| network.shape(*v).c).collect();
            let pixels = (0..node.shape.pixels()).flat_map(|p| {
                let row = |(x, w): (&Vec<f64>, &usize)| x[p * w..][..*w].to_vec();
                inputs.iter().zip(&widths).flat_map(row).collect::<Vec<_>>()
            });
            pixels.map(|x| (x, false)).collect()
        }
    }
}

fn naive_weights(weights: Weights, latent: &[f32], rows: usize) -> Vec<f64> {
    let w: Vec<f64> = latent.iter().map(|w| f64::from(*w)).collect();
    let sign = |w: f64| if w < 0.0 { -1.0 } else { 1.0 };
    let filters = w.chunks(w.len() / rows);
    let mean = |f: &[f64]| f.iter().map(|w| w.abs()).sum::<f64>() / f.len() as f64;
    match weights {
        Weights::Default => unreachable!(),
        Weights::Float => w,
        Weights::Sign(_) => w.into_iter().map(sign).collect(),
        Weights::Xnor | Weights::Magnitude => {
            filters.flat_map(|f| f.iter().map(|w| sign(*w) * mean(f)).collect::<Vec<_>>()).collect()
        }
        Weights::Ternary => filters
            .flat_map(|f| {
                let large: Vec<f64> = f.iter().copied().filter(|w| w.abs() > 0.7 * mean(f)).collect();
                let scale = mean(&large);
                f.iter()
                    .map(|w| if w.abs() > 0.7 * mean(f) { sign(*w) * scale } else { 0.0 })
                    .collect::<Vec<_>>()
            })
            .collect(),
        Weights::Dorefa(bits) => {
            let n = f64::from(bits).exp2() - 1.0;
            let most = w.iter().map(|w| w.tanh().abs()).fold(0.0, f64::max);
            let one = |w: &f64| 2.0 * ((w.tanh() / (2.0 * most) + 0.5) * n).round_ties_even() / n - 1.0;
            w.iter().map(one).collect()
        }
    }
}

#[test]
fn binary_layers_run_on_bits_once_fused() {
    let layers = "{conv={filters=8,kernel=3}},{max_pool={size=2,stride=2}},{norm={}},{act='sign'},
        {conv={filters=8,kernel=2,weights='xnor'}},{norm={}},{act='hardtanh'},{act='sign'},{dense={units=4}},{norm={}}";
    let network = network(BYTES, layers);
    let mut graph = lower(&network, &random(&network, 3), Meta::default()).unwrap();
    optimize(&mut graph).unwrap();
    let ops: Vec<_> = graph.nodes.iter().map(|n| n.op.name()).collect();
    assert_eq!(ops, ["b_conv2d", "b_pool2d", "b_conv2d", "b_dense"]);
}

#[test]
fn model_files_keep_the_network_and_how_it_was_trained() {
    let text = crate::recipes::text("ebnn-mnist").unwrap();
    let recipe = Recipe::parse(text, &[("name".into(), "two\nlines".into())]).unwrap();
    let network = Network::new(&recipe.network).unwrap();
    let training = Training { recipe: recipe.to_toml().unwrap(), seed: 3, epochs: 25, data: "00ff".into() };
    let meta = Meta { training: Some(training), ..meta(&recipe) };
    assert_eq!((meta.name.as_str(), &meta.input.mean[..]), ("two lines", &[127.5][..]));
    let graph = lower(&network, &random(&network, 9), meta.clone()).unwrap();
    let pixels: Vec<u8> = (0..784).map(|i| (i * 37 % 256) as u8).collect();
    let scores = |model: &onebit::core::model::Model, meta: &Meta| {
        let session = Session::new(model, meta.clone(), &Options::default()).unwrap();
        session.run_elements(Elements::Pixels(&pixels)).unwrap()
    };
    let (plain, _) = graph.clone().into_model().unwrap();
    let mut fused = graph;
    optimize(&mut fused).unwrap();
    let (fused, fused_meta) = fused.into_model().unwrap();
    let file = ModelFile::from_bytes(onebit::file::to_bytes(&fused, &fused_meta).unwrap());
    let (loaded, loaded_meta) = file.load().unwrap();
    assert_eq!(loaded_meta, meta);
    assert_eq!(Recipe::parse(&loaded_meta.training.as_ref().unwrap().recipe, &[]).unwrap(), recipe);
    assert_eq!(scores(&loaded, &loaded_meta), scores(&plain, &meta));
}

#[test]
fn numbers_that_do_not_fit_are_named() {
    let network = network(BYTES, "{conv={filters=2,kernel=3}},{norm={}},{act='pact:2'}");
    let good = random(&network, 1);
    let fails = |change: &dyn Fn(&mut Values)| {
        let mut values = good.clone();
        change(&mut values);
        lower(&network, &values, Meta::default()).unwrap_err().to_string()
    };
    assert!(fails(&|v| v.params[0][3] = f32::NAN).contains("conv1.weight"));
    assert!(fails(&|v| v.params[1].truncate(1)).contains("norm1.scale"));
    assert!(fails(&|v| v.params[3][0] = -0.5).contains("quantize1"));
    assert!(fails(&|v| v.params[3][0] = 1e-45).contains("quantize1"));
    assert!(fails(&|v| v.statistics[1] = None).contains("norm1"));
    assert!(fails(&|v| v.statistics[1].as_mut().unwrap().1[0] = -1.0).contains("norm1"));
    assert!(fails(&|v| v.params.truncate(2)).contains("another network"));
}
