//! `search`: arguments, what is printed, and a search that is killed and goes on.

mod common;

use common::{fail, misuse, succeed};

#[test]
fn arguments_that_make_no_sense_are_refused() {
    misuse(["search"]);
    for wrong in [
        ["--max-ram", "0"],
        ["--max-ram", "much"],
        ["--max-flash", "15XB"],
        ["--max-instructions", "-5"],
        ["--target", "abacus"],
        ["--trials", "0"],
        ["--epochs", "0"],
        ["--finals", "0"],
        ["--limit", "0"],
    ] {
        misuse(["search", "--data", "d"].iter().chain(&wrong));
    }
    assert!(succeed(["search", "--help"]).contains("--resume"));
}

#[cfg(not(feature = "train"))]
#[test]
fn a_build_that_cannot_train_says_how_to_get_one() {
    assert!(fail(["search", "--data", "d"]).contains("--features train"));
}

#[cfg(feature = "train")]
#[path = "../../train/tests/patterns/mod.rs"]
mod patterns;

#[cfg(feature = "train")]
mod with_training {
    use super::*;
    use common::{json, onebit};
    use serde_json::Value;
    use std::path::{Path, PathBuf};
    use std::process::Stdio;

    const SPACE: &str =
        "depth = [1]\nfilters = [2, 4, 8]\nkernel = [3]\nstride = [1]\nhidden = [0]\n[train]\nbatch = 16\n";

    /// Pictures and a space in a folder.
    fn place(dir: &Path) -> [PathBuf; 2] {
        let [data, space] = ["data", "space.toml"].map(|n| dir.join(n));
        std::fs::create_dir(&data).unwrap();
        super::patterns::write_data(&data, 12, 3, 200, 40);
        std::fs::write(&space, SPACE).unwrap();
        [data, space]
    }

    fn arguments([data, space]: &[PathBuf; 2], out: &Path) -> Vec<String> {
        let words = "--max-ram 2KB --max-flash 4KiB --max-instructions 0.2M --trials 5 --epochs 4 --finals 1 --threads 1";
        let paths = [("--data", data.as_path()), ("--space", space), ("--out", out)];
        let paths = paths.iter().flat_map(|(k, v)| [(*k).to_owned(), v.display().to_string()]);
        ["search".to_owned()].into_iter().chain(paths).chain(words.split(' ').map(str::to_owned)).collect()
    }

    /// Trials as they are in the folder, without times.
    fn trials(out: &Path) -> Value {
        let mut found: Value =
            serde_json::from_slice(&std::fs::read(out.join("search.json")).unwrap()).unwrap();
        assert_eq!(found["done"], true);
        let mut trials = found["trials"].take();
        for trial in trials.as_array_mut().unwrap() {
            let last = trial["last"].take();
            let mut trained = trial["rungs"].take().as_array().unwrap().clone();
            trained.push(last);
            trained.iter_mut().filter_map(Value::as_object_mut).for_each(|t| drop(t.remove("cpu_seconds")));
            trial["rungs"] = trained.into();
        }
        trials
    }

    #[test]
    fn a_search_that_is_killed_goes_on_to_the_same_end() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let [whole, killed] = ["whole", "killed"].map(|n| dir.path().join(n));
        let found = json(arguments(&place, &whole));
        let first = &found["front"][0];
        assert!(
            first["ram_bytes"].as_u64().unwrap() <= 2048 && first["flash_bytes"].as_u64().unwrap() <= 4096
        );
        let model = Path::new(first["folder"].as_str().unwrap()).join("model.onebit");
        succeed(["codegen", model.to_str().unwrap(), "-o", dir.path().join("c").to_str().unwrap()]);
        assert!(std::fs::read_to_string(whole.join("front.md")).unwrap().lines().count() > 2);
        // Killed when a network was proposed, among the first trainings, and in the last one.
        for (i, marker) in ["trials/0000.json", "trials/0003.json", "networks"].into_iter().enumerate() {
            let mut command = onebit();
            command.args(arguments(&place, &killed)).args((i > 0).then_some("--resume"));
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            while !killed.join(marker).exists() {
                assert!(child.try_wait().unwrap().is_none(), "ended before there was {marker}");
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            child.kill().unwrap();
            assert!(!child.wait().unwrap().success(), "ended before it was killed at {marker}");
        }
        succeed(arguments(&place, &killed).iter().map(String::as_str).chain(["--resume"]));
        assert_eq!(trials(&killed), trials(&whole));
        // What is there is not overwritten, and other settings are refused.
        assert!(fail_last(&arguments(&place, &whole)).contains("--resume"));
        let other =
            [arguments(&place, &whole), ["--resume", "--seed", "5"].map(str::to_owned).to_vec()].concat();
        assert!(fail_last(&other).contains("`seed`"));
    }

    /// Runs what must fail; the error.
    fn fail_last(args: &[String]) -> String {
        let output = onebit().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap().lines().last().unwrap_or_default().to_owned()
    }

    #[test]
    fn what_is_needed_for_a_search_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let mut args = arguments(&place, &dir.path().join("out"));
        let i = args.iter().position(|a| a == "2KB").unwrap();
        args[i] = "100".into();
        let error = fail(&args);
        assert!(error.contains("the smallest that was found") && error.contains("bytes of RAM"), "{error}");
        assert!(!dir.path().join("out").exists());
        std::fs::write(&place[1], "filter = [3]").unwrap();
        assert!(fail(&args).contains("space.toml"));
    }

    #[test]
    fn the_space_can_be_printed_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("space.toml");
        let text = succeed(["search", "--print-space"]);
        std::fs::write(&file, &text).unwrap();
        assert_eq!(succeed(["search", "--print-space", "--space", file.to_str().unwrap()]), text);
    }
}
