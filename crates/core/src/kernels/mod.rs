//! Kernels: the innermost loops, once per instruction set. All `unsafe` of the crate is under this folder.
//!
//! `bgemm` and `fgemm` hold the algorithms, written once over a small trait of vector verbs; an ISA
//! file (`scalar`, `avx2`, `avx512`, `neon`, `simd128`) supplies the verbs and instantiates them.
//! [`ALL`] is the one list that dispatch, tests and benches walk. A [`Kernels`] can only be reached
//! through [`best`] or [`named`], which check the CPU: holding one proves that it may run.

mod aligned;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bgemm;
mod fgemm;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;

#[cfg(feature = "alloc")]
pub use aligned::Aligned;
pub use bgemm::{Bgemm, MAX_CHANNELS};
pub use fgemm::{Fgemm, MAX_COLUMNS, Rows, Target};

/// Plain code that is worth compiling for every instruction set: loops that the compiler turns into vectors.
pub trait Pass {
    /// Does the work. It and what it calls must be `#[inline(always)]`: only then it gets the instructions.
    fn run(self);
}

/// Instructions that the compiler may use in a [`Pass`].
#[derive(Clone, Copy)]
enum Vectors {
    /// Those of every CPU of the target.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The kernels of one instruction set.
pub struct Kernels {
    /// Name of the rung, as `ONEBIT_ISA` takes it.
    pub isa: &'static str,
    available: fn() -> bool,
    /// Binary matrix multiplication.
    pub bgemm: Bgemm,
    /// Float matrix multiplication, depthwise convolution and comparison.
    pub fgemm: Fgemm,
    vectors: Vectors,
}

impl Kernels {
    /// Runs `pass`, compiled with the instructions of this rung.
    #[inline]
    pub fn run(&self, pass: impl Pass) {
        match self.vectors {
            Vectors::Baseline => pass.run(),
            // SAFETY: a `Kernels` is only reachable through `available()`, so the CPU has its instructions.
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2 => unsafe { avx2::run(pass) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512 => unsafe { avx512::run(pass) },
        }
    }
}

/// Every rung of this build, best first; `scalar` is always there and last.
pub static ALL: &[Kernels] = &[
    #[cfg(target_arch = "x86_64")]
    Kernels {
        isa: "avx512",
        available: avx512::available,
        bgemm: avx512::BGEMM,
        fgemm: avx512::FGEMM,
        vectors: Vectors::Avx512,
    },
    #[cfg(target_arch = "x86_64")]
    Kernels {
        isa: "avx2",
        available: avx2::available,
        bgemm: avx2::BGEMM,
        fgemm: avx2::FGEMM,
        vectors: Vectors::Avx2,
    },
    #[cfg(target_arch = "aarch64")]
    Kernels {
        isa: "neon",
        available: neon::available,
        bgemm: neon::BGEMM,
        fgemm: neon::FGEMM,
        vectors: Vectors::Baseline,
    },
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Kernels {
        isa: "simd128",
        available: always,
        bgemm: simd128::BGEMM,
        fgemm: simd128::FGEMM,
        vectors: Vectors::Baseline,
    },
    Kernels {
        isa: "scalar",
        available: always,
        bgemm: scalar::BGEMM,
        fgemm: scalar::FGEMM,
        vectors: Vectors::Baseline,
    },
];

// The callers' buffers hold a panel of any rung, and a panel's bits fit into a word of masks.
const _: () = {
    let mut i = 0;
    while i < ALL.len() {
        let (b, f) = (&ALL[i].bgemm, &ALL[i].fgemm);
        assert!(b.nr <= MAX_CHANNELS && MAX_CHANNELS <= 32);
        assert!(f.nr <= MAX_COLUMNS && MAX_COLUMNS <= 64);
        i += 1;
    }
};

fn always() -> bool {
    true
}

/// The rungs that this CPU can run, best first.
pub fn available() -> impl Iterator<Item = &'static Kernels> {
    ALL.iter().filter(|k| (k.available)())
}

/// The best rung of this CPU.
pub fn best() -> &'static Kernels {
    // `scalar` is always available, so the list is never empty.
    available().next().unwrap_or(&ALL[ALL.len() - 1])
}

/// The rung called `isa`, if this build has it and this CPU can run it.
pub fn named(isa: &str) -> Option<&'static Kernels> {
    available().find(|k| k.isa == isa)
}

impl core::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.isa)
    }
}
