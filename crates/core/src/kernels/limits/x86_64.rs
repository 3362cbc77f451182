//! Ceilings of x86-64: what AVX-512, AVX2 and the plain POPCNT instruction do at best.

use super::{Loop, Unit};
use core::arch::asm;

pub(super) const LOOPS: &[Loop] = &[
    Loop {
        isa: "avx512",
        unit: Unit::Binary,
        name: "xor, vpopcntq, add",
        per_turn: 12 * 512,
        available: super::super::always,
        turns: binary_avx512,
    },
    Loop {
        isa: "avx512",
        unit: Unit::Binary,
        name: "prefix parity, vpopcntq, add",
        per_turn: 32 * 512,
        available: super::super::always,
        turns: prefix_avx512,
    },
    Loop {
        isa: "avx512",
        unit: Unit::Int8,
        name: "vpdpbusd",
        per_turn: 12 * 64,
        available: has_vnni,
        turns: int8_avx512,
    },
    Loop {
        isa: "avx512",
        unit: Unit::F32,
        name: "fma",
        per_turn: 12 * 16,
        available: super::super::always,
        turns: f32_avx512,
    },
    Loop {
        isa: "avx2",
        unit: Unit::Binary,
        name: "xor, vpshufb popcount, add",
        per_turn: 8 * 256,
        available: super::super::always,
        turns: binary_avx2,
    },
    Loop {
        isa: "avx2",
        unit: Unit::Binary,
        name: "prefix parity, carry-save, vpshufb popcount, add",
        per_turn: 8 * 256,
        available: super::super::always,
        turns: prefix_avx2,
    },
    Loop {
        isa: "avx2",
        unit: Unit::Int8,
        name: "vpmaddubsw, vpmaddwd, add",
        per_turn: 12 * 32,
        available: super::super::always,
        turns: int8_avx2,
    },
    Loop {
        isa: "avx2",
        unit: Unit::F32,
        name: "fma",
        per_turn: 12 * 8,
        available: super::super::always,
        turns: f32_avx2,
    },
    Loop {
        isa: "scalar",
        unit: Unit::Binary,
        name: "xor, popcnt, add",
        per_turn: 8 * 64,
        available: has_popcnt,
        turns: binary_popcnt,
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

fn has_vnni() -> bool {
    #[cfg(feature = "std")]
    return std::arch::is_x86_feature_detected!("avx512vnni");
    #[cfg(not(feature = "std"))]
    return cfg!(target_feature = "avx512vnni");
}

fn has_popcnt() -> bool {
    super::super::popcnt::available()
}

/// A loop of `turns` turns around instructions on registers, `head` before and `tail` after it. `.irp` is the
/// assembler's repetition; its `\i` ends a register's name, so that `zmm1\i` is one of zmm10 to zmm19.
macro_rules! registers_only {
    ($(#[$doc:meta])* $name:ident, $features:literal, $head:literal, $body:literal, $tail:literal) => {
        $(#[$doc])*
        #[target_feature(enable = $features)]
        unsafe fn $name(turns: u64) {
            // SAFETY: `Loop::run` guarantees the CPU and that `turns` is not 0; the instructions touch no memory, and of the
            // registers only the counter and those that a call in the System V convention may change.
            unsafe {
                asm!(
                    $head, ".p2align 5", "2:", $body, "dec rax", "jnz 2b", $tail,
                    inout("rax") turns => _, clobber_abi("sysv64"), options(nomem, nostack),
                )
            }
        }
    };
}

registers_only!(
    /// 3 instructions for a word of each lane.
    binary_avx512, "avx512f,avx512vl,avx512vpopcntdq", "vzeroall",
    r".irp i, 0,1,2,3,4,5,6,7,8,9,10,11
    vpxorq zmm16, zmm30, zmm31
    vpopcntq zmm16, zmm16
    vpaddq zmm\i, zmm\i, zmm16
    .endr",
    "vzeroupper"
);

registers_only!(
    /// 5 instructions for two words, see [`crate::kernels`] on prefix parity. The parity of the last word is in zmm10 to
    /// zmm17 and in zmm20 to zmm27 by turns.
    prefix_avx512, "avx512f,avx512vl,avx512vpopcntdq", "vzeroall",
    r".irp i, 0,1,2,3,4,5,6,7
    vpxorq zmm8, zmm28, zmm30
    vpxorq zmm2\i, zmm29, zmm31
    vpternlogq zmm1\i, zmm8, zmm2\i, 0x74
    vpopcntq zmm1\i, zmm1\i
    vpaddq zmm\i, zmm\i, zmm1\i
    .endr
    .irp i, 0,1,2,3,4,5,6,7
    vpxorq zmm8, zmm28, zmm30
    vpxorq zmm1\i, zmm29, zmm31
    vpternlogq zmm2\i, zmm8, zmm1\i, 0x74
    vpopcntq zmm2\i, zmm2\i
    vpaddq zmm\i, zmm\i, zmm2\i
    .endr",
    "vzeroupper"
);

registers_only!(
    /// 64 products an instruction.
    int8_avx512, "avx512f,avx512vnni", "vzeroall",
    r".irp i, 0,1,2,3,4,5,6,7,8,9,10,11
    vpdpbusd zmm\i, zmm14, zmm15
    .endr",
    "vzeroupper"
);

registers_only!(
    /// 16 multiply-adds an instruction.
    f32_avx512, "avx512f", "vzeroall",
    r".irp i, 0,1,2,3,4,5,6,7,8,9,10,11
    vfmadd231ps zmm\i, zmm14, zmm15
    .endr",
    "vzeroupper"
);

registers_only!(
    /// 8 instructions for a word of each lane; sums are bytes, and flushing them is left out.
    binary_avx2, "avx2", "vzeroall",
    r".irp i, 0,1,2,3,4,5,6,7
    vpxor ymm8, ymm14, ymm15
    vpsrlw ymm9, ymm8, 4
    vpand ymm8, ymm8, ymm13
    vpand ymm9, ymm9, ymm13
    vpshufb ymm8, ymm12, ymm8
    vpshufb ymm9, ymm12, ymm9
    vpaddb ymm8, ymm8, ymm9
    vpaddb ymm\i, ymm\i, ymm8
    .endr",
    "vzeroupper"
);

registers_only!(
    /// 42 instructions for 8 words: 8 xor, 4 carries of prefix parity (3 each, into ymm6 and ymm8), 3 full adders (5 each,
    /// kept in ymm1 and ymm2), one popcount. The parity is in ymm0, the sum in ymm3.
    prefix_avx2, "avx2", "vzeroall",
    r".irp fours, 9,10
    vpxor ymm4, ymm14, ymm15
    vpxor ymm5, ymm14, ymm15
    vpandn ymm6, ymm5, ymm4
    vpandn ymm7, ymm4, ymm0
    vpor ymm6, ymm6, ymm7
    vpxor ymm4, ymm14, ymm15
    vpxor ymm0, ymm14, ymm15
    vpandn ymm8, ymm0, ymm4
    vpandn ymm7, ymm4, ymm5
    vpor ymm8, ymm8, ymm7
    vpxor ymm7, ymm1, ymm6
    vpand ymm\fours, ymm1, ymm6
    vpxor ymm1, ymm7, ymm8
    vpand ymm7, ymm7, ymm8
    vpor ymm\fours, ymm\fours, ymm7
    .endr
    vpxor ymm7, ymm2, ymm9
    vpand ymm11, ymm2, ymm9
    vpxor ymm2, ymm7, ymm10
    vpand ymm7, ymm7, ymm10
    vpor ymm11, ymm11, ymm7
    vpsrlw ymm7, ymm11, 4
    vpand ymm11, ymm11, ymm13
    vpand ymm7, ymm7, ymm13
    vpshufb ymm11, ymm12, ymm11
    vpshufb ymm7, ymm12, ymm7
    vpaddb ymm11, ymm11, ymm7
    vpaddb ymm3, ymm3, ymm11",
    "vzeroupper"
);

registers_only!(
    /// 3 instructions for 32 products.
    int8_avx2, "avx2", "vzeroall",
    r".irp i, 0,1,2,3,4,5,6,7,8,9,10,11
    vpmaddubsw ymm12, ymm14, ymm15
    vpmaddwd ymm12, ymm12, ymm13
    vpaddd ymm\i, ymm\i, ymm12
    .endr",
    "vzeroupper"
);

registers_only!(
    /// 8 multiply-adds an instruction.
    f32_avx2, "avx2,fma", "vzeroall",
    r".irp i, 0,1,2,3,4,5,6,7,8,9,10,11
    vfmadd231ps ymm\i, ymm14, ymm15
    .endr",
    "vzeroupper"
);

registers_only!(
    /// 3 instructions for a word, and a move in the place of the load that a kernel needs.
    binary_popcnt, "popcnt", "",
    r".irp sum, rcx,rdx,rsi,rdi, rcx,rdx,rsi,rdi
    mov r8, r9
    xor r8, r10
    popcnt r8, r8
    add \sum, r8
    .endr",
    ""
);

registers_only!(
    /// Two registers, because some CPUs fold chains of additions of a constant.
    clock, "sse2", "",
    r".rept 64
    add rcx, rdx
    .endr",
    ""
);

/// A loop over `blocks` blocks of [`super::BLOCK`] words.
macro_rules! read_only {
    ($name:ident, $features:literal, $body:literal) => {
        /// # Safety
        /// The CPU has the features; `words` are readable for `blocks` blocks, and there is at least one.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(words: *const u64, blocks: usize) {
            // SAFETY: guaranteed by the caller; each turn reads 512 bytes at `rsi` and moves on by as many. Registers as above.
            unsafe {
                asm!(
                    ".p2align 5", "2:", $body, "add rsi, 512", "dec rax", "jnz 2b", "vzeroupper",
                    inout("rax") blocks => _, inout("rsi") words => _, clobber_abi("sysv64"),
                    options(readonly, nostack),
                )
            }
        }
    };
}

read_only!(
    read_avx512,
    "avx512f",
    r".irp at, 0,64,128,192,256,320,384,448
    vmovdqu64 zmm0, [rsi + \at]
    .endr"
);
read_only!(
    read_avx2,
    "avx2",
    r".irp at, 0,32,64,96,128,160,192,224,256,288,320,352,384,416,448,480
    vmovdqu ymm0, [rsi + \at]
    .endr"
);
