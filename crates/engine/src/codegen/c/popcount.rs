//! Counting bits that differ, in three ways that the preprocessor chooses from: an instruction, a table, or sums of fields of
//! words (SWAR), of which three words share the wider half.

use super::expr::Context;
use crate::codegen::ir::*;
use crate::codegen::simplify::visit;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Words whose counts fit into the bytes of a word.
const BLOCK: usize = 30;

/// The functions that the program's [`Node::Mismatches`] need.
pub fn helpers(context: &Context<'_>) -> String {
    let mut uses = BTreeSet::new();
    for function in &context.program.functions {
        visit(&function.body, &mut |e| {
            if let Node::Mismatches { words, mask, .. } = &*e.node {
                uses.insert((*words, mask.is_some()));
            }
        });
    }
    if uses.is_empty() {
        return String::new();
    }
    let (prefix, capitals) = (context.prefix, context.capitals);
    let mut text = String::new();
    if context.program.word == 8 {
        text.push_str("/* Bits of a byte. */\n");
        text.push_str(&table(prefix, capitals));
        for (words, masked) in uses {
            text.push_str(&signature(context, words, masked));
            let differ = differ(context, masked, "i");
            let _ = write!(
                text,
                "    {0} sum = 0;\n    for (int i = 0; i < {words}; i++) {{\n        \
                 sum = ({0})(sum + {capitals}_READ_U8(&{prefix}_bits[{differ}]));\n    }}\n    return sum;\n}}\n\n",
                if words * 8 < 256 { "uint8_t" } else { ty(words * 8) }
            );
        }
        return text;
    }
    let _ = write!(
        text,
        "#if !defined({capitals}_POPCOUNT_TABLE) && !defined({capitals}_POPCOUNT_BUILTIN)\n\
         #if defined(__AVR__)\n#define {capitals}_POPCOUNT_TABLE\n\
         #elif defined(__GNUC__) && (defined(__POPCNT__) || defined(__aarch64__) || defined(__riscv_zbb) || defined(__wasm__))\n\
         #define {capitals}_POPCOUNT_BUILTIN\n#endif\n#endif\n\n\
         #if defined({capitals}_POPCOUNT_TABLE)\n\n{}\
         static inline int {prefix}_count(uint32_t v) {{\n    return {capitals}_READ_U8(&{prefix}_bits[v & 255u]) + \
         {capitals}_READ_U8(&{prefix}_bits[(v >> 8) & 255u]) +\n           \
         {capitals}_READ_U8(&{prefix}_bits[(v >> 16) & 255u]) + {capitals}_READ_U8(&{prefix}_bits[v >> 24]);\n}}\n\n\
         #elif defined({capitals}_POPCOUNT_BUILTIN)\n\n\
         static inline int {prefix}_count(uint32_t v) {{\n    return __builtin_popcount(v);\n}}\n\n#else\n\n\
         /* Masks stay in registers where shifts are part of operations. */\n\
         #if defined(__GNUC__) && defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB >= 2\n\
         #define {capitals}_KEEP(v) __asm__(\"\" : \"+r\"(v))\n#else\n#define {capitals}_KEEP(v) ((void)0)\n#endif\n\
         #if defined(__GNUC__)\n#define {capitals}_INLINE static inline __attribute__((__always_inline__))\n\
         #else\n#define {capitals}_INLINE static inline\n#endif\n\
         #define {capitals}_MASKS \\\n    uint32_t m1 = 0x55555555u, m2 = 0x33333333u, m4 = 0x0f0f0f0fu; \\\n    \
         {capitals}_KEEP(m1); {capitals}_KEEP(m2); {capitals}_KEEP(m4)\n\n\
         /* Bits of three words, as sums in bytes. Fields of two bits hold half of the second word each. */\n\
         {capitals}_INLINE uint32_t {prefix}_three(uint32_t x, uint32_t y, uint32_t z, uint32_t m1, uint32_t m2, uint32_t m4) {{\n    \
         x = x - (m1 & (x >> 1)) + (m1 & y);\n    z = z - (m1 & (z >> 1)) + (m1 & (y >> 1));\n    \
         x = (m2 & x) + (m2 & (x >> 2)) + (m2 & z) + (m2 & (z >> 2));\n    return (m4 & x) + (m4 & (x >> 4));\n}}\n\n\
         /* Bits of one word. */\n\
         {capitals}_INLINE uint32_t {prefix}_one(uint32_t x, uint32_t m1, uint32_t m2, uint32_t m4) {{\n    \
         x = x - (m1 & (x >> 1));\n    x = (m2 & x) + (m2 & (x >> 2));\n    return (m4 & x) + (m4 & (x >> 4));\n}}\n\n\
         /* Sum of the bytes. */\n\
         {capitals}_INLINE int {prefix}_total(uint32_t v) {{\n    v = (v & 0x00ff00ffu) + ((v >> 8) & 0x00ff00ffu);\n    \
         return (int)((v + (v >> 16)) & 0xffffu);\n}}\n\n#endif\n\n",
        table(prefix, capitals)
    );
    for (words, masked) in uses {
        let _ = writeln!(
            text,
            "/* Bits that differ in {words} words{}. */",
            if masked { ", of those that count" } else { "" }
        );
        text.push_str(&signature(context, words, masked));
        let _ = write!(
            text,
            "#if defined({capitals}_POPCOUNT_TABLE) || defined({capitals}_POPCOUNT_BUILTIN)\n    {0} sum = 0;\n    \
             for (int i = 0; i < {words}; i++) {{\n        sum += {prefix}_count({1});\n    }}\n    return sum;\n#else\n",
            ty(words * 32),
            differ(context, masked, "i")
        );
        text.push_str(&fields(context, words, masked));
        text.push_str("#endif\n}\n\n");
    }
    text
}

fn ty(bits: usize) -> &'static str {
    if bits > 0x7FFF { "int32_t" } else { "int" }
}

fn signature(context: &Context<'_>, words: usize, masked: bool) -> String {
    let (word, ty) = (context.word(), ty(words * context.program.word));
    let mask = if masked { format!(", const {word} *m") } else { String::new() };
    format!("static {ty} {}(const {word} *a, const {word} *w{mask}) {{\n", context.counter(words, masked))
}

/// The bits in which word `i` differs.
fn differ(context: &Context<'_>, masked: bool, i: &str) -> String {
    let kind = Kind::unsigned(context.program.word);
    let read = format!("{}_READ_{}(&w[{i}])", context.capitals, super::expr::alias(kind).to_uppercase());
    if masked { format!("(a[{i}] ^ {read}) & m[{i}]") } else { format!("a[{i}] ^ {read}") }
}

/// Three words at a time: their nibbles, at most 4 each, fit into one word of nibbles; their bytes into those of a block.
fn fields(context: &Context<'_>, words: usize, masked: bool) -> String {
    let prefix = context.prefix;
    let group = |from: &dyn Fn(usize) -> String, n: usize| {
        let part = |i: usize| differ(context, masked, &from(i));
        match n {
            1 => format!("{prefix}_one({}, m1, m2, m4)", part(0)),
            2 => format!("{prefix}_three({}, {}, 0, m1, m2, m4)", part(0), part(1)),
            _ => format!("{prefix}_three({}, {}, {}, m1, m2, m4)", part(0), part(1), part(2)),
        }
    };
    let at = |base: usize| move |i: usize| (base + i).to_string();
    let mut text = format!("    {}_MASKS;\n", context.capitals);
    if words <= 12 {
        let all: Vec<String> = (0..words).step_by(3).map(|i| group(&at(i), 3.min(words - i))).collect();
        let _ = writeln!(text, "    return {prefix}_total({});", all.join(" +\n        "));
        return text;
    }
    let loops = |text: &mut String, indent: &str, count: usize| {
        let _ = write!(
            text,
            "{indent}for (int i = 0; i < {count}; i += 3) {{\n{indent}    v += {};\n{indent}}}\n",
            group(&|i| if i == 0 { "i".into() } else { format!("i + {i}") }, 3)
        );
    };
    let (blocks, rest) = (words / BLOCK, words % BLOCK);
    if blocks == 0 || (blocks == 1 && rest == 0) {
        text.push_str("    uint32_t v = 0;\n");
        loops(&mut text, "    ", words / 3 * 3);
        if !words.is_multiple_of(3) {
            let _ = writeln!(text, "    v += {};", group(&at(words / 3 * 3), words % 3));
        }
        let _ = writeln!(text, "    return {prefix}_total(v);");
        return text;
    }
    let step = if masked {
        format!("a += {BLOCK}, w += {BLOCK}, m += {BLOCK}")
    } else {
        format!("a += {BLOCK}, w += {BLOCK}")
    };
    let _ = write!(
        text,
        "    {} sum = 0;\n    for (int block = 0; block < {blocks}; block++, {step}) {{\n",
        ty(words * 32)
    );
    text.push_str("        uint32_t v = 0;\n");
    loops(&mut text, "        ", BLOCK);
    let _ = write!(text, "        sum += {prefix}_total(v);\n    }}\n");
    if rest > 0 {
        text.push_str("    {\n        uint32_t v = 0;\n");
        if rest >= 3 {
            loops(&mut text, "        ", rest / 3 * 3);
        }
        if rest % 3 > 0 {
            let _ = writeln!(text, "        v += {};", group(&at(rest / 3 * 3), rest % 3));
        }
        let _ = write!(text, "        sum += {prefix}_total(v);\n    }}\n");
    }
    text.push_str("    return sum;\n");
    text
}

/// The table of 256 counts.
fn table(prefix: &str, capitals: &str) -> String {
    let rows: Vec<String> = (0u32..256)
        .collect::<Vec<_>>()
        .chunks(32)
        .map(|row| row.iter().map(|v| v.count_ones().to_string()).collect::<Vec<_>>().join(", "))
        .collect();
    format!(
        "static const uint8_t {prefix}_bits[256] {capitals}_ROM = {{\n    {},\n}};\n\n",
        rows.join(",\n    ")
    )
}
