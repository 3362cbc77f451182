//! Running the real program.
#![allow(dead_code)]

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program, ready for arguments.
pub fn onebit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onebit"));
    command.env_remove("ONEBIT_ISA");
    command
}

/// Runs the program.
pub fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    onebit().args(args).output().unwrap()
}

/// Runs the program, which must succeed; stdout.
pub fn succeed<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> String {
    let output = run(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program with `--json`, which must succeed and print one object and nothing else.
pub fn json<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Value {
    let args = args.into_iter().map(|a| a.as_ref().to_owned());
    let text = succeed(args.chain(["--json".into()]));
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(value.is_object());
    value
}

/// Runs the program, which must fail with exit code 1, nothing on stdout and one line, which is returned.
pub fn fail<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> String {
    let output = run(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty());
    let errors: Vec<&str> = stderr.lines().filter(|l| !l.starts_with("warning: ")).collect();
    assert!(errors.len() == 1 && errors[0].starts_with("error: "), "{stderr}");
    errors[0].to_owned()
}

/// Runs the program, which must refuse its arguments.
pub fn misuse<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) {
    let output = run(args);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
}

/// Asserts that an object has these keys.
pub fn assert_keys(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(!value[*key].is_null(), "{key} is missing in {value}");
    }
}

/// A file that the program carries.
pub fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(name)
}

/// A folder of published networks and data, if there is one here.
pub fn shared() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("ONEBIT_SHARED").map_or_else(beside, PathBuf::from);
    let found = folder.join("models").is_dir();
    if !found {
        eprintln!("skipped: no published networks in {}; ONEBIT_SHARED names their folder", folder.display());
    }
    found.then_some(folder)
}
