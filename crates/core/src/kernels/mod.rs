//! Kernels: the innermost loops, once per instruction set. All `unsafe` of the crate is under this folder.
//!
//! `bgemm`, `fgemm` and `igemm` hold the algorithms, written once over a small trait of vector verbs; an ISA
//! file (`scalar`, `popcnt`, `avx2`, `avx512bw`, `avx512`, `neon`, `simd128`) supplies the verbs and instantiates them.
//! `ALL` is the one list that dispatch, tests and benches walk. A [`Kernels`] can only be reached
//! through [`best`] or [`named`], which check the CPU: holding one proves that it may run.

mod aligned;
#[cfg(all(target_arch = "x86_64", feature = "rungs"))]
mod avx2;
#[cfg(all(target_arch = "x86_64", feature = "rungs"))]
mod avx512;
#[cfg(all(target_arch = "x86_64", feature = "rungs"))]
mod avx512bw;
mod bgemm;
mod fgemm;
mod igemm;
pub mod limits;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod popcnt;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;

#[cfg(feature = "alloc")]
pub use aligned::Aligned;
#[cfg(feature = "alloc")]
pub use bgemm::Offsets;
pub use bgemm::{Accumulators, Bgemm, Block, LOWER_SLACK, Limits, MAX_CHANNELS, Pair};
pub use fgemm::{Fgemm, MAX_COLUMNS, Rows, Target};
pub use igemm::{Igemm, IntLimits, MAX_OUTPUTS};

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
    #[cfg(all(target_arch = "x86_64", feature = "rungs"))]
    Avx2,
    #[cfg(all(target_arch = "x86_64", feature = "rungs"))]
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
    igemms: &'static [Igemm],
    vectors: Vectors,
}

impl Kernels {
    /// Runs `pass`, compiled with the instructions of this rung.
    #[inline]
    pub fn run(&self, pass: impl Pass) {
        match self.vectors {
            Vectors::Baseline => pass.run(),
            // SAFETY: a `Kernels` is only reachable through `available()`, so the CPU has its instructions.
            #[cfg(all(target_arch = "x86_64", feature = "rungs"))]
            Vectors::Avx2 => unsafe { avx2::run(pass) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", feature = "rungs"))]
            Vectors::Avx512 => unsafe { avx512::run(pass) },
        }
    }
}

/// Every rung of this build, best first; `scalar` is always there and last.
static ALL: &[Kernels] = &[
    #[cfg(all(target_arch = "x86_64", feature = "rungs"))]
    Kernels {
        isa: "avx512",
        available: avx512::available,
        bgemm: avx512::BGEMM,
        fgemm: avx512::FGEMM,
        igemms: avx512::IGEMMS,
        vectors: Vectors::Avx512,
    },
    #[cfg(all(target_arch = "x86_64", feature = "rungs"))]
    Kernels {
        isa: "avx512bw",
        available: avx512bw::available,
        bgemm: avx512bw::BGEMM,
        fgemm: avx512::FGEMM,
        igemms: avx512::IGEMMS,
        vectors: Vectors::Avx512,
    },
    #[cfg(all(target_arch = "x86_64", feature = "rungs"))]
    Kernels {
        isa: "avx2",
        available: avx2::available,
        bgemm: avx2::BGEMM,
        fgemm: avx2::FGEMM,
        igemms: avx2::IGEMMS,
        vectors: Vectors::Avx2,
    },
    #[cfg(target_arch = "aarch64")]
    Kernels {
        isa: "neon",
        available: neon::available,
        bgemm: neon::BGEMM,
        fgemm: neon::FGEMM,
        igemms: neon::IGEMMS,
        vectors: Vectors::Baseline,
    },
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Kernels {
        isa: "simd128",
        available: always,
        bgemm: simd128::BGEMM,
        fgemm: simd128::FGEMM,
        igemms: simd128::IGEMMS,
        vectors: Vectors::Baseline,
    },
    #[cfg(target_arch = "x86_64")]
    Kernels {
        isa: "popcnt",
        available: popcnt::available,
        bgemm: popcnt::BGEMM,
        fgemm: scalar::FGEMM,
        igemms: scalar::IGEMMS,
        vectors: Vectors::Baseline,
    },
    Kernels {
        isa: "scalar",
        available: always,
        bgemm: scalar::BGEMM,
        fgemm: scalar::FGEMM,
        igemms: scalar::IGEMMS,
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

impl Kernels {
    /// Integer matrix multiplications that this CPU can run, best first. A rung may have several: dot product
    /// instructions are detected apart from it, and some kernels only take small weights.
    pub fn igemms(&self) -> impl Iterator<Item = &'static Igemm> + use<> {
        self.igemms.iter().filter(|gemm| (gemm.available)())
    }

    /// The best integer matrix multiplication for weights of at most this magnitude.
    pub fn igemm(&self, largest_weight: u8) -> &'static Igemm {
        let mut takes = self.igemms().filter(|gemm| gemm.largest_weight >= largest_weight);
        // The last kernel of every rung takes every weight; the plain one is for builds that cannot detect it.
        takes.next().unwrap_or(&scalar::IGEMMS[0])
    }
}

fn always() -> bool {
    true
}

/// Names of the rungs of this build, best first, whether this CPU can run them or not.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|k| k.isa)
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
