//! Ceilings of 64-bit Arm: what NEON does at best.

use super::{Loop, Unit};
use core::arch::asm;

pub(super) const LOOPS: &[Loop] = &[
    Loop {
        isa: "neon",
        unit: Unit::Binary,
        name: "eor, cnt, add",
        per_turn: 8 * 128,
        available: super::super::always,
        turns: binary,
    },
    Loop {
        isa: "neon",
        unit: Unit::Binary,
        name: "prefix parity, cnt, add",
        per_turn: 16 * 128,
        available: super::super::always,
        turns: prefix,
    },
    Loop {
        isa: "neon",
        unit: Unit::Int8,
        name: "sdot",
        per_turn: 16 * 16,
        available: has_dotprod,
        turns: int8,
    },
    Loop {
        isa: "neon",
        unit: Unit::F32,
        name: "fmla",
        per_turn: 16 * 4,
        available: super::super::always,
        turns: f32,
    },
    Loop {
        isa: "scalar",
        unit: Unit::Clock,
        name: "dependent adds",
        per_turn: 64,
        available: super::super::always,
        turns: clock,
    },
];

fn has_dotprod() -> bool {
    #[cfg(feature = "std")]
    return std::arch::is_aarch64_feature_detected!("dotprod");
    #[cfg(not(feature = "std"))]
    return cfg!(target_feature = "dotprod");
}

/// A loop of `turns` turns around instructions on registers. `.irp` is the assembler's repetition, and `\()` ends the
/// name of its variable.
macro_rules! registers_only {
    ($(#[$doc:meta])* $name:ident, $features:literal, $body:literal) => {
        $(#[$doc])*
        #[target_feature(enable = $features)]
        unsafe fn $name(turns: u64) {
            // SAFETY: `Loop::run` guarantees the CPU and that `turns` is not 0; the instructions touch no memory, and of the
            // registers only the counter and those that a call in the C convention may change.
            unsafe {
                asm!(
                    "movi v30.16b, #0", "movi v31.16b, #0",
                    ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", r"movi v\i\().16b, #0", ".endr",
                    "2:", $body, "subs x0, x0, #1", "b.ne 2b",
                    inout("x0") turns => _, clobber_abi("C"), options(nomem, nostack),
                )
            }
        }
    };
}

registers_only!(
    /// 3 instructions for a word of each lane; sums are bytes, and flushing them is left out.
    binary, "neon",
    r".irp i, 0,1,2,3,4,5,6,7
    eor v16.16b, v30.16b, v31.16b
    cnt v16.16b, v16.16b
    add v\i\().16b, v\i\().16b, v16.16b
    .endr"
);

registers_only!(
    /// 6 instructions for two words, one of them a count. Sums are in v0 to v7, parities in v20 to v27.
    prefix, "neon",
    r".irp i, 0,1,2,3,4,5,6,7
    eor v16.16b, v28.16b, v30.16b
    eor v17.16b, v29.16b, v31.16b
    mvn v17.16b, v17.16b
    bit v2\i\().16b, v17.16b, v16.16b
    cnt v18.16b, v2\i\().16b
    add v\i\().16b, v\i\().16b, v18.16b
    .endr"
);

registers_only!(
    /// 16 products an instruction.
    int8, "neon,dotprod",
    r".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    sdot v\i\().4s, v30.16b, v31.16b
    .endr"
);

registers_only!(
    /// 4 multiply-adds an instruction.
    f32, "neon",
    r".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    fmla v\i\().4s, v30.4s, v31.4s
    .endr"
);

registers_only!(
    /// One addition a cycle.
    clock, "neon",
    r".rept 64
    add x1, x1, x2
    .endr"
);

/// # Safety
/// `words` are readable for `blocks` blocks of [`super::BLOCK`] words, and there is at least one.
pub(super) unsafe fn read_neon(words: *const u64, blocks: usize) {
    // SAFETY: guaranteed by the caller; each turn reads 512 bytes at `x1` and moves on by as many.
    unsafe {
        asm!(
            "2:",
            ".irp at, 0,32,64,96,128,160,192,224,256,288,320,352,384,416,448,480",
            r"ldp q0, q1, [x1, #\at]",
            ".endr",
            "add x1, x1, #512",
            "subs x0, x0, #1",
            "b.ne 2b",
            inout("x0") blocks => _,
            inout("x1") words => _,
            clobber_abi("C"),
            options(readonly, nostack),
        );
    }
}
