//! Files that want to crash, flood or mislead: each is refused with one sentence, and cheaply.
//!
//! The files are in `tests/hostile/`; `cargo test -p onebit --test hostile -- --ignored regenerate` writes
//! them again from `cases.rs`. One test does everything, because allocations are counted per process.

#[path = "hostile/cases.rs"]
mod cases;
#[path = "hostile/counting.rs"]
mod counting;

use counting::peak;
use onebit::core::exec::Executor;
use onebit::core::kernels;
use onebit::{ModelFile, Options, Session};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile")
}

fn committed() -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path());
    files.filter(|p| p.extension().is_some_and(|e| e == "onebit")).collect()
}

fn path(case: &cases::Case) -> PathBuf {
    folder().join(format!("{}.onebit", case.name))
}

/// What loading may allocate.
fn budget(file_bytes: usize) -> usize {
    (1 << 20) + 8 * file_bytes
}

#[test]
fn hostile_files_are_refused_with_one_sentence_and_cheaply() {
    let all = cases::all();
    assert_eq!(committed().len(), all.len(), "regenerate the folder");
    let mut wrong = Vec::new();
    for case in &all {
        let path = path(case);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; regenerate", path.display()));
        assert!(bytes == case.bytes, "{}: regenerate the folder", case.name);
        assert!(bytes.len() < 80 << 10, "{} is too large for the repository", case.name);

        let (opened, used) = peak(|| Session::open_with(&path, &Options::default()).err());
        let error = opened.map_or("accepted".into(), |e| e.to_string());
        let one_line = !error.contains(char::is_control) && error.len() < 1000;
        let named = error.contains(&format!("{}.onebit: ", case.name));
        let in_memory =
            ModelFile::from_bytes(bytes).load().err().map_or("accepted".into(), |e| e.to_string());
        let says = error.contains(case.says) && in_memory.contains(case.says);
        if !(one_line && named && says && used < budget(case.bytes.len())) {
            wrong.push(format!("{} ({used} bytes, should say '{}'): {error:?}", case.name, case.says));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Too large for the repository: a million inputs, and tensors without end.
    let inputs = |n| {
        let mut draft = cases::valid();
        draft.document["nodes"][0]["inputs"] = vec!["input"; n].into();
        draft
    };
    let mut many = cases::valid();
    many.tensors.extend((0..50_000).map(|i| (format!("t{i}"), "F32", vec![0], vec![])));
    let mut classes = cases::valid();
    classes.document["meta"]["classes"] = vec![""; 1 << 20].into();
    classes.document["nodes"] = serde_json::json!([]);
    classes.tensors.clear();
    let drafts = [
        (inputs(500_000), "more than 1024 elements"),
        (inputs(1_000_000), "its header would have 10001072 bytes"),
        (cases::too_many_layers(), "more than 8192 elements"),
        (many, "no layer uses"),
        (classes, "no layers"),
    ];
    for (draft, says) in drafts {
        let file = ModelFile::from_bytes(draft.bytes());
        let (error, used) = peak(|| file.load().unwrap_err().to_string());
        assert!(error.contains(says), "{error}");
        assert!(used < budget(file.len()), "{used} bytes for {} bytes: {error}", file.len());
    }

    // The file is valid, but no machine should try to run it.
    let bomb = ModelFile::from_bytes(cases::arena_bomb());
    let (result, used) = peak(|| bomb.load().map(|(m, _)| Executor::new(&m, kernels::best()).err().unwrap()));
    assert!(result.unwrap().to_string().contains("limit of 2048 MiB"));
    assert!(used < budget(bomb.len()), "{used} bytes");

    // The network that all of these were made from is fine, and so is its budget.
    let valid = ModelFile::from_bytes(cases::valid().bytes());
    let (loaded, used) = peak(|| valid.load().map(|(model, meta)| (model.nodes().len(), meta)));
    assert_eq!(loaded.unwrap().0, 3);
    assert!(used < budget(valid.len()), "{used} bytes");
}

#[test]
#[ignore = "writes into the source tree"]
fn regenerate() {
    committed().iter().for_each(|old| std::fs::remove_file(old).unwrap());
    for case in cases::all() {
        std::fs::write(path(&case), &case.bytes).unwrap();
    }
}
