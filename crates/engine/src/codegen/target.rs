//! What code is generated for: width of words, popcount, and what operations cost.

use std::fmt;
use std::str::FromStr;

/// A kind of processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Cortex-M4 and M3: shifts are part of operations.
    CortexM4,
    /// Cortex-M0 and M0+: sixteen-bit instructions only.
    CortexM0,
    /// Eight bits, such as the ATmega328P of an Arduino Uno.
    Avr,
    /// RV32IMC, such as the ESP32-C3.
    Rv32imc,
    /// The machine that generates the code.
    Host,
}

impl Target {
    /// All targets.
    pub const ALL: [Target; 5] =
        [Target::CortexM4, Target::CortexM0, Target::Avr, Target::Rv32imc, Target::Host];

    /// Name, as the command line takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Target::CortexM4 => "cortex-m4",
            Target::CortexM0 => "cortex-m0",
            Target::Avr => "avr",
            Target::Rv32imc => "rv32imc",
            Target::Host => "host",
        }
    }
    /// Bits of a word, in which weights and activations are packed.
    pub const fn word(self) -> usize {
        match self {
            Target::Avr => 8,
            _ => 32,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let names = || Target::ALL.map(Target::name).join(", ");
        Target::ALL.into_iter().find(|t| t.name() == s).ok_or_else(|| format!("one of {} is needed", names()))
    }
}
