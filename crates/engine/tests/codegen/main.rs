//! Generated code equals the reference bit for bit.

mod compiled;
mod random;

use onebit::codegen::interpret::{self, Number};
use onebit::codegen::{Plan, Target, lower};
use onebit::core::cases::{self, Rng};
use onebit::core::model::Model;
use onebit::core::reference::{self, Values};

/// Scores of the reference, as numbers; without the ops that are left out at the end.
fn expected(model: &Model<'_>, plan: &Plan, image: &Values) -> Vec<f32> {
    reference::run_all(model, image.clone()).unwrap()[plan.output].to_f32()
}

/// Random images and special ones.
fn images(rng: &mut Rng, model: &Model<'_>, n: usize) -> Vec<Values> {
    let mut all = cases::special_values(model.input());
    all.extend((0..n).map(|_| rng.values(model.input())));
    all
}

fn numbers(scores: &[Number]) -> Vec<f32> {
    let number = |n: &Number| match n {
        Number::Int(v) => *v as f32,
        Number::Float(v) => *v,
    };
    scores.iter().map(number).collect()
}

#[test]
fn random_networks_equal_the_reference() {
    let (mut together, mut rings, mut pooled) = (0, 0, 0);
    let mut refused = 0;
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let model = random::network(&mut rng);
        let layers: Vec<String> = model
            .nodes()
            .iter()
            .zip(&model.types()[1..])
            .map(|(n, t)| format!("{} -> {t}", n.op.name()))
            .collect();
        for target in [Target::CortexM4, Target::Avr] {
            let plan = match Plan::new(&model, target) {
                Ok(plan) => plan,
                Err(e) => {
                    assert!(e.to_string().contains("not generated yet"), "seed {seed}: {e}");
                    refused += 1;
                    continue;
                }
            };
            together += plan.segments.iter().filter(|s| s.len() > 1).count();
            rings += plan.values.iter().filter(|v| v.is_ring()).count();
            pooled += plan.stages.iter().filter(|s| s.pool.is_some()).count();
            let program = lower::lower(&model, &plan).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            for image in images(&mut rng, &model, 1) {
                let run = std::panic::catch_unwind(|| {
                    interpret::run(&program, &plan.pack_input(image.int()), seed as u8)
                });
                let Ok(scores) = run else {
                    panic!("seed {seed} for {target}: {} {layers:#?}", model.input());
                };
                let want = expected(&model, &plan, &image);
                assert_eq!(numbers(&scores), want, "seed {seed} for {target}: {} {layers:#?}", model.input());
            }
        }
    }
    assert!(together > 50 && rings > 50 && pooled > 15, "{together} {rings} {pooled}");
    assert!(refused < 200, "{refused}");
}

/// Networks that were published, where the repository has them.
#[test]
fn published_networks_equal_the_reference() {
    for name in ["lfc-w1a1", "cnv-w1a1"] {
        let path = format!("{}/../cli/assets/{name}.onebit", env!("CARGO_MANIFEST_DIR"));
        let Ok(file) = onebit::ModelFile::open(path.as_ref()) else {
            eprintln!("skipped: {path} is not there");
            continue;
        };
        let (model, _) = file.load().unwrap();
        let plan = Plan::new(&model, Target::CortexM4).unwrap();
        let program = lower::lower(&model, &plan).unwrap();
        let image = Rng::new(5).values(model.input());
        let scores = interpret::run(&program, &plan.pack_input(image.int()), 0);
        assert_eq!(numbers(&scores), expected(&model, &plan, &image), "{name}");
    }
}

/// What the plan promises for a network of a known size, and that rows save memory.
#[test]
fn figures_are_exact() {
    let mut graph = onebit::zoo::build("mcu").unwrap().unwrap();
    onebit::passes::optimize(&mut graph).unwrap();
    let (model, meta) = graph.into_model().unwrap();
    // Weights, a limit for each filter, and the channels that take the minimum of their pool.
    let tables = 32 * (2 + 1) + 4 + 32 * (9 * 4 + 1) + 4 + 10 * 25 * 4;
    for target in [Target::CortexM4, Target::Avr] {
        let generated = onebit::codegen::generate(&model, &meta, target, None).unwrap();
        let report = &generated.report;
        // Four rows of 13 words between the convolutions, and 25 words for the dense layer.
        assert_eq!(
            (report.scratch_bytes, report.input_bytes, report.outputs),
            (4 * 13 * 4 + 25 * 4, 112, 10)
        );
        assert_eq!(report.table_bytes, tables);
        assert!(generated.header.contains("#define MCU_SCRATCH_BYTES 308\n"));
        let again = onebit::codegen::generate(&model, &meta, target, None).unwrap();
        assert_eq!(generated.header, again.header);
    }
}

/// One sentence that names the layer, quickly and without much memory.
#[test]
fn what_is_too_large_or_unknown_is_refused() {
    use onebit::core::model::Params;
    use onebit::core::ops::*;
    use onebit::core::{DType, Shape, ValueType};
    let refused = |input: ValueType, op: Op| {
        let mut g = onebit::Graph::new(input, Default::default());
        g.add("odd one", op, &[0], Params::default()).unwrap();
        let model = g.into_model().unwrap().0;
        Plan::new(&model, Target::CortexM4).and_then(|p| lower::lower(&model, &p)).unwrap_err().to_string()
    };
    let map = |h, w, c, d| ValueType::new(Shape::new(h, w, c), d);
    let shape = |h, w, c| Op::Reshape(Reshape { shape: Shape::new(h, w, c) });
    let pool = Op::BPool2d(BPool2d { window: Window::square(1, 1, 0) });
    for (input, op, want) in [
        (map(1, 1, 1 << 27, DType::U8), shape(1 << 13, 1 << 14, 1), "the input"),
        (map(1 << 14, 1, 1, DType::BIT), pool, "the input"),
        (map(1, 1, 1 << 14, DType::BIT), shape(1 << 14, 1, 1), "'odd one'"),
        (map(4, 4, 4, DType::F32), Op::Activation(Activation::Relu), "--quantize"),
        (map(4, 4, 4, DType::U8), Op::Transpose(Transpose { order: [1, 0, 2] }), "'odd one'"),
    ] {
        let error = refused(input, op);
        assert!(error.contains(want) && !error.contains('\n'), "{error}");
    }
}
