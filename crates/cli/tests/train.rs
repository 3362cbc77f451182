//! `train`: arguments, and what is printed without training anything.

mod common;

use common::{fail, misuse, succeed};

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let run = ["train", "x", "--data", "d"];
    misuse(["train"]);
    misuse(["train", "x"]);
    misuse(["train", "--data", "d"]);
    for wrong in [
        &["--set", "train.clip"][..],
        &["--set", "=1"],
        &["--set", "train..clip=1"],
        &["--epochs", "0"],
        &["--batch", "0"],
        &["--batch", "65537"],
        &["--rate", "0"],
        &["--rate", "-1"],
        &["--rate", "nan"],
        &["--seed", "-1"],
        &["--limit", "0"],
        &["--device", "cpu", "--devices", "cpu,cpu"],
        &["--resume", "--start", "best.safetensors"],
        &["--resume", "--report-only"],
    ] {
        misuse(run.iter().chain(wrong));
    }
    assert!(succeed(["train", "--help"]).contains("--resume"));
}

#[cfg(not(feature = "train"))]
#[test]
fn a_build_that_cannot_train_says_how_to_get_one() {
    for args in [&["train", "--list"][..], &["train", "x", "--data", "d"]] {
        assert!(fail(args).contains("--features train"));
    }
}

#[cfg(feature = "train")]
mod with_training {
    use super::*;
    use common::json;
    use std::path::Path;

    fn text(path: &Path) -> String {
        path.to_str().unwrap().to_owned()
    }

    /// Name of a built-in recipe.
    fn first() -> String {
        json(["train", "--list"])["recipes"][0]["name"].as_str().unwrap().to_owned()
    }

    #[test]
    fn recipes_are_listed() {
        let list = json(["train", "--list"]);
        let recipes = list["recipes"].as_array().unwrap();
        let shown = succeed(["train", "--list"]);
        for recipe in recipes {
            common::assert_keys(recipe, &["name", "about", "data", "input", "classes", "epochs"]);
            let [parameters, bytes] = ["parameters", "bytes"].map(|k| recipe[k].as_u64().unwrap());
            assert!(bytes > 0 && bytes <= 4 * parameters, "{recipe}");
            assert!(shown.contains(recipe["name"].as_str().unwrap()));
        }
        assert!(!recipes.is_empty());
    }

    #[test]
    fn overrides_are_in_the_printed_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let file = text(&dir.path().join("mine.toml"));
        let print = ["train", "--print-recipe"];
        let first = first();
        std::fs::write(&file, succeed(print.iter().chain(&[first.as_str()]))).unwrap();
        let print = ["train", &file, "--print-recipe"];
        // What is printed is a recipe, and printing it again changes nothing.
        assert_eq!(succeed(print), std::fs::read_to_string(&file).unwrap());
        let options = [
            "--epochs",
            "7",
            "--batch",
            "33",
            "--rate",
            "0.25",
            "--seed",
            "9",
            "--weights",
            "dorefa:2",
            "--act",
            "pact:3",
            "--set",
            "train.clip=1.5",
            "--set",
            "name=other",
        ];
        let recipe = json(print.iter().chain(&options));
        let train = &recipe["train"];
        assert_eq!(
            [&train["epochs"], &train["batch"], &train["seed"], &train["clip"]].map(|v| v.as_f64().unwrap()),
            [7.0, 33.0, 9.0, 1.5]
        );
        assert_eq!(train["optimizer"].as_object().unwrap().values().next().unwrap()["rate"], 0.25);
        assert_eq!([&recipe["network"]["weights"], &recipe["network"]["act"]], ["dorefa:2", "pact:3"]);
        assert_eq!(recipe["name"], "other");
        let sgd = ["--set", "train.optimizer={ sgd = { rate = 1.0 } }", "--rate", "0.5"];
        assert_eq!(json(print.iter().chain(&sgd))["train"]["optimizer"]["sgd"]["rate"], 0.5);
    }

    #[test]
    fn recipes_that_are_wrong_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = text(&dir.path().join("mine.toml"));
        assert!(fail(["train", "nothing", "--data", "d"]).contains("--list"));
        std::fs::write(&file, "name = \"x\"\n[network]\n").unwrap();
        assert!(fail(["train", &file, "--print-recipe"]).contains("mine.toml"));
        let first = first();
        for (option, value, part) in [
            ("--weights", "sine", "sine"),
            ("--act", "dorefa:99", "bits"),
            ("--set", "train.epoch=3", "epoch"),
            ("--set", "train.optimizer.adam.beta1=1.5", "train.optimizer.adam.beta1"),
            ("--set", "train.augment.scale=2", "train.augment.scale"),
        ] {
            assert!(fail(["train", &first, "--print-recipe", option, value]).contains(part));
        }
    }

    #[test]
    fn layers_that_do_not_fit_are_told_before_pictures_are_read() {
        let layers = "network.layers=[{ conv = { filters = 3, kernel = 99 } }]";
        assert!(fail(["train", &first(), "--data", "d", "--set", layers]).contains("conv1"));
    }

    #[test]
    fn the_recipe_in_the_documentation_is_one() {
        let page = include_str!("../../../docs/training.md");
        let recipe = page.split("```toml\n").nth(1).and_then(|t| t.split("```").next()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = text(&dir.path().join("small.toml"));
        std::fs::write(&file, recipe).unwrap();
        let steps = "train.schedule={ steps = { epochs = [10, 15], factor = 0.1 } }";
        assert!(page.contains(steps));
        let recipe = json(["train", &file, "--print-recipe", "--set", steps]);
        assert_eq!((&recipe["name"], &recipe["train"]["augment"]["shift"]), (&"small".into(), &2.into()));
    }

    #[test]
    fn folders_with_and_without_runs() {
        let dir = tempfile::tempdir().unwrap();
        let folder = text(&dir.path().join("run"));
        let first = first();
        let run = ["train", &first, "--data", "d", "--out", &folder];
        assert!(fail(run.iter().chain(&["--resume"])).contains("--resume"));
        assert!(fail(["train", "--data", "d", "--out", &folder, "--resume"]).contains("recipe.toml"));
        assert!(!Path::new(&folder).exists());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(Path::new(&folder).join("log.json"), "{}").unwrap();
        assert!(fail(run).contains("--resume"));
    }

    #[test]
    fn reports_are_written_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let folder = text(dir.path());
        let report = ["train", "--out", &folder, "--report-only"];
        assert!(fail(report).contains("log.json"));
        std::fs::write(dir.path().join("log.json"), "{\"name\": 3}").unwrap();
        assert!(fail(report).contains("is no log of a run"));
        assert!(!dir.path().join("report.html").exists());
        let log = onebit_train::run::record::Log { name: "a & b".into(), ..Default::default() };
        std::fs::write(dir.path().join("log.json"), serde_json::to_string(&log).unwrap()).unwrap();
        let told = json(report);
        assert_eq!(told["epochs"], 0);
        let page = std::fs::read_to_string(told["report"].as_str().unwrap()).unwrap();
        assert!(page.contains("a &amp; b"));
    }
}
