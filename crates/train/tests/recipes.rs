//! Every built-in recipe learns for some steps, is exported, and computes the same in the engine.

use onebit_train::recipe::Recipe;
use onebit_train::recipes;
use onebit_train::run::record::{Event, Observer};
use onebit_train::run::{Job, train};

struct Quiet;
impl Observer for Quiet {
    fn see(&mut self, _: Event<'_>) -> bool {
        true
    }
}

#[test]
fn every_recipe_trains_and_exports_exactly() {
    let all = tempfile::tempdir().unwrap();
    for name in recipes::names() {
        let overrides = [("train.epochs", "1"), ("train.batch", "2"), ("train.validation", "0")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let recipe = Recipe::parse(recipes::text(name).unwrap(), &overrides).unwrap();
        let shape = recipe.network.input;
        let data = all.path().join(format!("{name}-data"));
        for (part, n) in [("train", 6), ("test", 2)] {
            for class in ["a", "b"] {
                let folder = data.join(part).join(class);
                std::fs::create_dir_all(&folder).unwrap();
                for i in 0..n / 2 {
                    let path = folder.join(format!("{i}.png"));
                    let seed = (i * 7 + class.len() + usize::from(part == "test") * 31) as u32;
                    let value = |x: u32, y: u32, c: u32| {
                        let v = (x * 37 + y * 91 + c * 53 + seed * 17).wrapping_mul(2654435761) >> 24;
                        (v as u8) / 2 + if class == "a" { 0 } else { 120 }
                    };
                    let (w, h) = (shape.w as u32, shape.h as u32);
                    if shape.c == 1 {
                        image::GrayImage::from_fn(w, h, |x, y| image::Luma([value(x, y, 0)]))
                            .save(path)
                            .unwrap();
                    } else {
                        let pixel = |x, y| image::Rgb([0, 1, 2].map(|c| value(x, y, c)));
                        image::RgbImage::from_fn(w, h, pixel).save(path).unwrap();
                    }
                }
            }
        }
        let job = Job {
            recipe,
            data,
            folder: all.path().join(name),
            resume: false,
            teacher: None,
            start: None,
            strict: true,
            limit: 0,
            test: true,
            devices: vec!["cpu".into()],
        };
        let log = train(&job, &mut Quiet).unwrap_or_else(|e| panic!("{name}: {e}"));
        let result = log.result.unwrap();
        assert_eq!(result.differences, [""; 0], "{name}");
        assert_eq!(result.test.unwrap().1, 2, "{name}");
    }
}
