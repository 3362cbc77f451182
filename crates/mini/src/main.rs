//! `onebit-mini MODEL PICTURE...`: the class and the scores of each picture.
//!
//! A picture is a binary PGM or PPM file, or nothing but the bytes `[height][width][channels]`, in the size that
//! the network takes. The variable `ONEBIT_ISA` forces a kernel rung, as in the other programs.
#![no_std]
#![no_main]

extern crate alloc;

mod driver;
mod picture;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::fmt::Write;
use onebit::core::exec::Executor;
use onebit::core::kernels::{self, Kernels};
use onebit::elements::{Elements, put_input, read_output};
use onebit::file;

/// What the program prints.
///
/// # Errors
/// One sentence that names the file.
fn run(arguments: &[&str]) -> Result<String, String> {
    let [path, pictures @ ..] = arguments else { return Err(usage()) };
    if pictures.is_empty() {
        return Err(usage());
    }
    let bytes = driver::read(path)?;
    let (model, meta) = file::load(&bytes).map_err(|e| format!("{path}: {e}"))?;
    let executor = Executor::new(&model, rung()?).map_err(|e| format!("{path}: {e}"))?;
    let (input, output) = (executor.input(), executor.output());
    let mut arena = vec![0; executor.arena_words(1)];
    let mut scores = vec![0.0; output.shape.elements()];
    let mut text = String::new();
    for path in pictures {
        let at = |e: String| format!("{path}: {e}");
        let bytes = driver::read(path)?;
        let pixels = Elements::Pixels(picture::pixels(&bytes, input.shape).map_err(at)?);
        put_input(input, &meta.input, pixels, executor.input_mut(&mut arena, 1)).map_err(|e| at(e.0))?;
        executor.run(1, &mut arena, |_| {});
        read_output(output, executor.output_of(&arena, 1), &mut scores);
        // The first largest score.
        let class = (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
        let name = meta.classes.get(class).map_or("", String::as_str);
        let _ = writeln!(text, "{path}: class {class} {name} {scores:?}");
    }
    Ok(text)
}

fn usage() -> String {
    "usage: onebit-mini MODEL.onebit PICTURE... (PGM, PPM, or bytes in the network's size)".into()
}

/// The rung that `ONEBIT_ISA` names, else the best.
fn rung() -> Result<&'static Kernels, String> {
    match driver::variable(c"ONEBIT_ISA") {
        None | Some("") => Ok(kernels::best()),
        Some(name) => kernels::named(name).ok_or_else(|| format!("no kernels called '{name}' here")),
    }
}
