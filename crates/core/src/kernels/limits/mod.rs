//! Ceilings of a CPU: loops that do nothing but the multiply-adds of one instruction set, in registers, and a loop
//! that does nothing but read. What a kernel reaches is judged against them.
//!
//! A loop says how many multiply-adds ([`Loop::per_turn`]) a turn stands for and is as fast as the CPU's vector units
//! allow: no operand comes from memory, and there are enough independent sums to hide every latency. Loops are written in
//! assembly, because a compiler sees that such a loop computes nothing and removes it.
//!
//! As with [`Kernels`], holding a [`Loop`] proves that the CPU can run it.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use super::Kernels;

/// What a loop counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Multiply-adds of single bits.
    Binary,
    /// Multiply-adds of bytes into 32-bit integers.
    Int8,
    /// Fused multiply-adds of single floats.
    F32,
    /// Steps of a chain in which each waits for the one before and takes one cycle.
    Clock,
}

/// A loop that touches registers only.
pub struct Loop {
    /// The rung that it belongs to.
    pub isa: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Its instructions, in words.
    pub name: &'static str,
    /// Units of one turn.
    pub per_turn: u64,
    /// What the CPU must have beyond the rung.
    available: fn() -> bool,
    turns: unsafe fn(u64),
}

impl Loop {
    /// Runs `turns` turns, at least one.
    pub fn run(&self, turns: u64) {
        // SAFETY: a `Loop` is only reachable through `loops`, which takes the proof that the CPU has the rung and
        // asks for the rest; the loops count down from a number that is not 0.
        unsafe { (self.turns)(turns.max(1)) }
    }
}

/// Every loop of this build; best instruction set first.
static LOOPS: &[&[Loop]] = &[
    #[cfg(target_arch = "x86_64")]
    x86_64::LOOPS,
    #[cfg(target_arch = "aarch64")]
    aarch64::LOOPS,
    portable::LOOPS,
];

/// The loops of the rung of `kernels` that this CPU can run; none for a rung without any.
pub fn loops(kernels: &Kernels) -> impl Iterator<Item = &'static Loop> {
    let isa = kernels.isa;
    // A rung that has only a binary kernel of its own takes the rest from another.
    let shares = move |l: &&Loop| match isa {
        "popcnt" => l.isa == "scalar" && !l.name.contains("count_ones"),
        "avx512bw" => l.isa == "avx512" && l.unit != Unit::Binary,
        _ => false,
    };
    LOOPS.iter().copied().flatten().filter(move |l| (l.isa == isa || shares(l)) && (l.available)())
}

/// Words that [`read`] loads in one go.
pub const BLOCK: usize = 64;

/// Loads `words` into registers with the widest loads of the rung; what is left over after the last whole
/// [`BLOCK`] is not read.
pub fn read(kernels: &Kernels, words: &[u64]) {
    let blocks = words.len() / BLOCK;
    let load = match kernels.isa {
        #[cfg(target_arch = "x86_64")]
        "avx512" => x86_64::read_avx512,
        #[cfg(target_arch = "x86_64")]
        "avx2" => x86_64::read_avx2,
        #[cfg(target_arch = "aarch64")]
        "neon" => aarch64::read_neon,
        _ => portable::read as unsafe fn(*const u64, usize),
    };
    if blocks > 0 {
        // SAFETY: holding the `Kernels` of a rung proves that the CPU has it; there are `blocks` blocks, not 0.
        unsafe { load(words.as_ptr(), blocks) }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::super::{available, named};
    use super::*;

    #[test]
    fn every_loop_of_this_cpu_runs() {
        for kernels in available() {
            for l in loops(kernels) {
                l.run(0);
                l.run(1000);
                assert!(l.per_turn > 0);
            }
            // Also a length that is no whole number of blocks, and less than one.
            for words in [0, BLOCK - 1, BLOCK, 5 * BLOCK + 3] {
                read(kernels, &[1; 5 * BLOCK + 3][..words]);
            }
        }
        let units = |isa| named(isa).map(|k| loops(k).map(|l| l.unit).collect::<alloc::vec::Vec<_>>());
        for isa in ["avx512", "avx2", "neon", "popcnt", "scalar"] {
            let complete = |u: alloc::vec::Vec<Unit>| u.contains(&Unit::Binary) && u.contains(&Unit::F32);
            assert!(units(isa).is_none_or(complete), "{isa}");
        }
    }
}
