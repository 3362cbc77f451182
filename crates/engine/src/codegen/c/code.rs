//! The implementation part of the header: tables, helpers, functions.

use super::comment;
use super::expr::{Context, alias, float, integer};
use super::popcount;
use crate::codegen::ir::*;
use crate::codegen::simplify::{buffers, visit};
use std::fmt::Write;

/// Everything between `#ifdef NAME_IMPLEMENTATION` and its end.
pub fn implementation(program: &Program, prefix: &str, capitals: &str, outputs: usize) -> String {
    let context = Context { program, prefix, capitals };
    let mut body = String::new();
    for table in &program.tables {
        body.push_str(&constants(&context, table));
    }
    body.push('\n');
    for function in &program.functions {
        body.push_str(&definition(&context, function));
    }
    let _ = write!(
        body,
        "int {prefix}_class(const {prefix}_score *scores) {{\n    int best = 0;\n    int i;\n    \
         for (i = 1; i < {outputs}; i++) {{\n        if (scores[i] > scores[best]) {{\n            best = i;\n        \
         }}\n    }}\n    return best;\n}}\n"
    );
    let mut text = format!("#if defined({capitals}_IMPLEMENTATION) && !defined({capitals}_IMPLEMENTED)\n");
    let _ = write!(
        text,
        "#define {capitals}_IMPLEMENTED\n\n\
         /* AVR code is made as small as possible by default, which is slow: loops are worth their bytes. */\n\
         #if defined(__AVR__) && defined(__GNUC__) && !defined(__clang__)\n\
         #pragma GCC push_options\n#pragma GCC optimize (\"O2\")\n#endif\n\n"
    );
    text.push_str(&preamble(&context, &body));
    text.push_str(&body);
    text.push_str("\n#if defined(__AVR__) && defined(__GNUC__) && !defined(__clang__)\n#pragma GCC pop_options\n#endif\n");
    let _ = write!(text, "\n#endif /* {capitals}_IMPLEMENTATION */\n");
    text
}

/// Macros, types and helpers that the body names.
fn preamble(context: &Context<'_>, body: &str) -> String {
    let (prefix, capitals) = (context.prefix, context.capitals);
    let mut text = format!(
        "#if defined(__BYTE_ORDER__) && defined(__ORDER_BIG_ENDIAN__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__\n\
         #error \"{prefix}: the code is for little-endian processors\"\n#endif\n\n\
         /* On AVR constants stay in flash and are read by instructions of their own. */\n\
         #ifdef __AVR__\n#include <avr/pgmspace.h>\n#define {capitals}_ROM PROGMEM\n"
    );
    let reads = [
        (Kind::U8, "(uint8_t)pgm_read_byte"),
        (Kind::I8, "(int8_t)pgm_read_byte"),
        (Kind::U16, "(uint16_t)pgm_read_word"),
        (Kind::I16, "(int16_t)pgm_read_word"),
        (Kind::U32, "(uint32_t)pgm_read_dword"),
        (Kind::I32, "(int32_t)pgm_read_dword"),
        (Kind::F32, "pgm_read_float"),
    ];
    let macros =
        reads.map(|(kind, read)| (format!("{capitals}_READ_{}", alias(kind).to_uppercase()), kind, read));
    let counts = popcount::helpers(context);
    let used = |name: &str| body.contains(&format!("{name}(")) || counts.contains(&format!("{name}("));
    let macros: Vec<_> = macros.into_iter().filter(|(name, _, _)| used(name)).collect();
    for (name, _, read) in &macros {
        let _ = writeln!(text, "#define {name}(p) ({read}(p))");
    }
    let _ = write!(text, "#else\n#define {capitals}_ROM\n");
    for (name, _, _) in &macros {
        let _ = writeln!(text, "#define {name}(p) (*(p))");
    }
    text.push_str("#endif\n\n");
    let aliased: Vec<_> = [Kind::U16, Kind::I16, Kind::F32]
        .into_iter()
        .filter(|k| body.contains(&format!("{prefix}_{} *", alias(*k))))
        .collect();
    if !aliased.is_empty() {
        text.push_str("/* Elements of the scratch, which holds others at other times. */\n#ifdef __GNUC__\n");
        for kind in &aliased {
            let plain = context.kind(*kind, false);
            let _ =
                writeln!(text, "typedef {plain} __attribute__((__may_alias__)) {prefix}_{};", alias(*kind));
        }
        text.push_str("#else\n");
        for kind in &aliased {
            let _ = writeln!(text, "typedef {} {prefix}_{};", context.kind(*kind, false), alias(*kind));
        }
        text.push_str("#endif\n\n");
    }
    if body.contains(&format!("{prefix}_mul(")) {
        let _ = write!(
            text,
            "/* A product that is rounded: no compiler fuses it with a sum. */\n\
             static inline float {prefix}_mul(float a, float b) {{\n    volatile float product = a * b;\n    \
             return product;\n}}\n\n"
        );
    }
    text.push_str(&counts);
    text
}

/// A table.
fn constants(context: &Context<'_>, table: &Table) -> String {
    let kind = context.kind(table.kind, false);
    let numbers: Vec<String> = match &table.data {
        Constants::Float(v) => v.iter().map(|v| float(*v)).collect(),
        Constants::Int(v) => match table.kind {
            Kind::U32 => v.iter().map(|v| format!("0x{v:08x}u")).collect(),
            _ => v.iter().map(|v| integer(*v).trim_matches(['(', ')']).to_owned()).collect(),
        },
    };
    let prefix = context.prefix;
    let mut text = format!(
        "static const {kind} {prefix}_{}[{}] {}_ROM = {{\n",
        table.name,
        table.len(),
        context.capitals
    );
    let mut line = String::from("   ");
    for number in numbers {
        if line.len() + number.len() > 110 {
            let _ = writeln!(text, "{line}");
            line = String::from("   ");
        }
        let _ = write!(line, " {number},");
    }
    let _ = write!(text, "{line}\n}};\n");
    text
}

/// What a function takes of the caller's memory: input, scores, scratch.
fn takes(program: &Program, function: &Function) -> [bool; 3] {
    let mut takes = [false; 3];
    for buffer in buffers(&function.body) {
        match program.buffers[buffer].place {
            Place::Input => takes[0] = true,
            Place::Scores => takes[1] = true,
            Place::Scratch(_) => takes[2] = true,
            Place::Local => {}
        }
    }
    takes
}

fn definition(context: &Context<'_>, function: &Function) -> String {
    let (program, prefix) = (context.program, context.prefix);
    let entry = std::ptr::eq(function, &program.functions[program.functions.len() - 1]);
    let mut text = format!("/* {}. */\n", comment(&function.about));
    let [input, scores, scratch] = if entry { [true; 3] } else { takes(program, function) };
    let mut params = Vec::new();
    if input {
        params.push("const uint8_t *input".to_owned());
    }
    if scores {
        params.push(format!("{prefix}_score *scores"));
    }
    if scratch {
        params.push(format!("{prefix}_scratch *scratch"));
    }
    for local in &function.locals[..function.params] {
        params.push(format!("{} {}", context.local(local.ty, local.lo, local.hi), local.name));
    }
    let linkage = if entry { "" } else { "static " };
    let params = if params.is_empty() { "void".into() } else { params.join(", ") };
    let _ = writeln!(text, "{linkage}void {prefix}_{}({params}) {{", function.name);
    for buffer in buffers(&function.body) {
        let b = &program.buffers[buffer];
        let (plain, aliased) = (context.kind(b.kind, false), context.kind(b.kind, true));
        let name = &b.name;
        let _ = match b.place {
            Place::Local => writeln!(text, "    {plain} b_{name}[{}];", b.len),
            Place::Input if b.kind == Kind::U8 => {
                writeln!(text, "    const uint8_t *const b_{name} = input;")
            }
            Place::Input => writeln!(text, "    const {plain} *const b_{name} = (const {plain} *)input;"),
            Place::Scores => writeln!(text, "    {prefix}_score *const b_{name} = scores;"),
            Place::Scratch(at) if at % 4 == 0 && b.kind == Kind::U32 => {
                writeln!(text, "    uint32_t *const b_{name} = scratch->words + {};", at / 4)
            }
            Place::Scratch(at) if at % 4 == 0 => {
                writeln!(text, "    {aliased} *const b_{name} = ({aliased} *)(scratch->words + {});", at / 4)
            }
            Place::Scratch(at) => writeln!(
                text,
                "    {aliased} *const b_{name} = ({aliased} *)(void *)((uint8_t *)scratch->words + {at});"
            ),
        };
    }
    let mut read = vec![false; function.locals.len()];
    visit(&function.body, &mut |e| {
        if let Node::Var(v) = *e.node {
            read[v] = true;
        }
    });
    for (local, _) in function.locals[..function.params].iter().zip(&read).filter(|(_, r)| !**r) {
        let _ = writeln!(text, "    (void){};", local.name);
    }
    if entry {
        for (i, name) in ["input", "scores", "scratch"].into_iter().enumerate() {
            let passed = program.functions.iter().any(|f| takes(program, f)[i]);
            if !passed {
                let _ = writeln!(text, "    (void){name};");
            }
        }
    }
    block(context, function, &function.body, 1, &mut text);
    text.push_str("}\n\n");
    text
}

fn block(context: &Context<'_>, function: &Function, stmts: &[Stmt], depth: usize, text: &mut String) {
    let (program, prefix, locals) = (context.program, context.prefix, &function.locals);
    let indent = "    ".repeat(depth);
    for stmt in stmts {
        text.push_str(&indent);
        match stmt {
            Stmt::Let(v, e) => {
                let l = &locals[*v];
                let (ty, value) = (context.local(l.ty, l.lo, l.hi), context.assigned(locals, e, l));
                let _ = writeln!(text, "{ty} {} = {value};", l.name);
            }
            Stmt::Set(v, e) => {
                let l = &locals[*v];
                let _ = writeln!(text, "{} = {};", l.name, context.assigned(locals, e, l));
            }
            Stmt::Store(b, index, value) => {
                let b = &program.buffers[*b];
                let value = context.stored(locals, value, b.kind);
                let _ = writeln!(text, "b_{}[{}] = {value};", b.name, context.bare(locals, index));
            }
            Stmt::For(v, count, body) => {
                let l = &locals[*v];
                let (ty, i) = (context.local(l.ty, l.lo, l.hi + 1), &l.name);
                let _ = writeln!(text, "for ({ty} {i} = 0; {i} < {count}; {i}++) {{");
                block(context, function, body, depth + 1, text);
                let _ = writeln!(text, "{indent}}}");
            }
            Stmt::If(e, yes, no) => {
                let _ = writeln!(text, "if ({}) {{", context.bare(locals, e));
                block(context, function, yes, depth + 1, text);
                if !no.is_empty() {
                    let _ = writeln!(text, "{indent}}} else {{");
                    block(context, function, no, depth + 1, text);
                }
                let _ = writeln!(text, "{indent}}}");
            }
            Stmt::While(e, body) => {
                let _ = writeln!(text, "while ({}) {{", context.bare(locals, e));
                block(context, function, body, depth + 1, text);
                let _ = writeln!(text, "{indent}}}");
            }
            Stmt::Call(f, args) => {
                let f = &program.functions[*f];
                let takes = takes(program, f);
                let mut all: Vec<String> = ["input", "scores", "scratch"]
                    .into_iter()
                    .zip(takes)
                    .filter(|(_, t)| *t)
                    .map(|(n, _)| n.to_owned())
                    .collect();
                all.extend(args.iter().zip(&f.locals).map(|(a, l)| context.assigned(locals, a, l)));
                let _ = writeln!(text, "{prefix}_{}({});", f.name, all.join(", "));
            }
        }
    }
}
