//! Instruction sets.

use std::{fmt, str::FromStr};

/// The variable that forces an instruction set.
pub const VARIABLE: &str = "WHIMBREL_CPU";

macro_rules! isas {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// An instruction set that kernels are written for, from the plainest up within each architecture.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Isa {
            $($(#[$doc])* $variant,)*
        }

        impl Isa {
            /// Every one, whatever this machine has.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name, as `WHIMBREL_CPU` takes it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

isas! {
    /// Portable Rust, on every architecture.
    Generic = "generic",
    /// x86-64 with AVX2 and FMA: u8 x s8 products in 16 bits (`vpmaddubsw`), f32 in 256 bits.
    Avx2 = "avx2",
    /// AVX2 with the 256-bit dot product (`vpdpbusd`, VEX encoded).
    AvxVnni = "avx-vnni",
    /// AVX-512 F, BW, DQ and VL with the 512-bit dot product.
    Avx512Vnni = "avx512-vnni",
    /// aarch64 with Advanced SIMD.
    Neon = "neon",
    /// Advanced SIMD with the dot product (`sdot`, `udot`).
    NeonDotprod = "neon-dotprod",
    /// Advanced SIMD with 8-bit matrix products (`usmmla`, `usdot`).
    NeonI8mm = "neon-i8mm",
}

/// A name that is no instruction set of this build, or one that this machine lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownIsa(String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here: Vec<&str> = Isa::available().map(Isa::as_str).collect();
        write!(f, "{:?} is no instruction set of this machine, which has {}", self.0, here.join(", "))
    }
}

impl std::error::Error for UnknownIsa {}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        let found = Self::available().find(|isa| isa.as_str() == name);
        found.ok_or_else(|| UnknownIsa(name.chars().take(40).collect()))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Isa {
    /// Whether this machine, and its system, can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Generic => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod => {
                Self::Neon.is_available() && std::arch::is_aarch64_feature_detected!("dotprod")
            }
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm => {
                Self::NeonDotprod.is_available() && std::arch::is_aarch64_feature_detected!("i8mm")
            }
            #[allow(unreachable_patterns, reason = "those of the other architectures")]
            _ => false,
        }
    }

    /// Those that this machine can run, from the plainest up.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|isa| isa.is_available())
    }

    /// The best that this machine can run.
    #[must_use]
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Self::Generic)
    }

    /// What each family of kernels computes with, for people.
    #[must_use]
    pub const fn families(self) -> [(&'static str, &'static str); 3] {
        let [dense, depthwise, floats] = match self {
            Self::Generic => ["portable", "portable", "portable"],
            Self::Avx2 => ["vpmaddubsw, 256 bits", "vpmaddwd, 256 bits", "FMA, 256 bits"],
            Self::AvxVnni => ["vpdpbusd, 256 bits", "vpdpbusd, 256 bits", "FMA, 256 bits"],
            Self::Avx512Vnni => ["vpdpbusd, 512 bits", "vpdpbusd, 512 bits", "FMA, 512 bits"],
            Self::Neon => ["16-bit products, 128 bits", "16-bit products, 128 bits", "FMA, 128 bits"],
            Self::NeonDotprod => ["sdot, 128 bits", "sdot, 128 bits", "FMA, 128 bits"],
            Self::NeonI8mm => ["usdot, 128 bits", "usdot, 128 bits", "FMA, 128 bits"],
        };
        [("int8", dense), ("int8 depthwise", depthwise), ("f32", floats)]
    }

    /// What `WHIMBREL_CPU` asks for, or else the best.
    ///
    /// # Errors
    /// The variable names none that this machine has.
    pub fn chosen() -> Result<Self, UnknownIsa> {
        match std::env::var(VARIABLE) {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(Self::best()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_one_is_everywhere_and_names_come_back() {
        assert!(Isa::available().any(|isa| isa == Isa::Generic));
        for isa in Isa::available() {
            assert_eq!(isa.as_str().parse(), Ok(isa));
        }
        assert!(Isa::best().is_available());
        let error = "sse9".parse::<Isa>().expect_err("unknown").to_string();
        assert!(error.contains("sse9") && error.contains("generic"), "{error}");
    }
}
