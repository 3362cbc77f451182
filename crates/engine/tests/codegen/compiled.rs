//! Headers through C compilers, with all warnings as errors and with sanitizers, against the reference.

use super::{expected, images, random};
use onebit::codegen::{self, Target};
use onebit::core::cases::Rng;
use onebit::meta::Meta;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const WARNINGS: &[&str] = &["-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"];

/// Whether a compiler is there and makes programs with these options.
fn works(compiler: &str, options: &[&str]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("main.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let done =
        Command::new(compiler).args(options).arg("-o").arg(dir.path().join("main")).arg(&source).output();
    done.is_ok_and(|o| o.status.success())
}

fn compile(compiler: &str, options: &[&str], dir: &Path, seed: u64) {
    let done = Command::new(compiler)
        .args(options)
        .args(WARNINGS)
        .args(["-o", "main", "main.c"])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(done.status.success(), "seed {seed}, {compiler}: {}", String::from_utf8_lossy(&done.stderr));
}

/// What the example prints for some inputs.
fn run(dir: &Path, input: &[u8], seed: u64) -> Vec<Vec<f32>> {
    let mut child = Command::new("./main")
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines().map(|l| l.split_whitespace().map(|n| n.parse().unwrap()).collect()).collect()
}

#[test]
fn headers_compile_without_warnings_and_equal_the_reference() {
    let sanitize = "-fsanitize=address,undefined";
    let configurations: [(&str, &[&str]); 5] = [
        ("cc", &["-std=c99", "-O1", sanitize, "-fno-sanitize-recover"]),
        ("clang", &["-std=c99", "-O2"]),
        ("cc", &["-std=c99", "-O2", "-DNET_POPCOUNT_TABLE"]),
        ("cc", &["-x", "c++", "-std=c++11", "-O2", "-DNET_POPCOUNT_BUILTIN"]),
        ("clang", &["-x", "c++", "-std=c++11", "-O1"]),
    ];
    for (c, (compiler, options)) in configurations.into_iter().enumerate() {
        if !works(compiler, options) {
            eprintln!("skipped: {compiler} {} is not there", options.join(" "));
            continue;
        }
        for i in 0..14 {
            let seed = 7000 + 100 * c as u64 + i;
            let mut rng = Rng::new(seed);
            let model = random::network(&mut rng);
            let target = [Target::CortexM4, Target::Avr][i as usize % 2];
            let meta = Meta { name: "Net".into(), source: "random */ weights \\".into(), ..Meta::default() };
            let Ok(generated) = codegen::generate(&model, &meta, target, None) else { continue };
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("net.h"), &generated.header).unwrap();
            std::fs::write(dir.path().join("main.c"), &generated.example).unwrap();
            compile(compiler, options, dir.path(), seed);
            let images = images(&mut rng, &model, 3);
            let input: Vec<u8> = images.iter().flat_map(|i| generated.plan.pack_input(i.int())).collect();
            let lines = run(dir.path(), &input, seed);
            assert_eq!(lines.len(), images.len());
            for (line, image) in lines.iter().zip(&images) {
                let want = expected(&model, &generated.plan, image);
                assert_eq!(line[1..], want, "seed {seed} for {target}");
                let best = (0..want.len()).fold(0, |best, i| if want[i] > want[best] { i } else { best });
                assert_eq!(line[0], best as f32);
            }
        }
    }
}
