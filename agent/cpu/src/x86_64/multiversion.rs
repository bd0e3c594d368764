//! Compiles a portable kernel once for each x86-64 instruction set.

/// Defines `fn name(isa, arguments…)` from a portable body, which the compiler vectorises anew for AVX2 and
/// for AVX-512.
///
/// Within the body `FMA` is a constant: whether this copy has fused multiply-add as an instruction. Whatever
/// the body calls in a loop must be `#[inline(always)]`, as code that is not inlined keeps the plain
/// instruction set.
macro_rules! multiversion {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters, reason = "not every kernel multiplies and adds")]
            fn body<const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                body::<true>($($arg),*)
            }

            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                body::<true>($($arg),*)
            }

            use $crate::isa::Isa;
            assert!(isa.is_available(), "{isa} is not there on this machine");
            #[allow(unsafe_code, reason = "calls code for an instruction set that was checked above")]
            match isa {
                // SAFETY: AVX2 and FMA are there, as `is_available` has said of this one.
                Isa::Avx2 | Isa::AvxVnni => unsafe { avx2($($arg),*) },
                // SAFETY: AVX2, FMA and AVX-512 F, BW, DQ and VL are there, as `is_available` has said.
                Isa::Avx512Vnni => unsafe { avx512($($arg),*) },
                _ => body::<false>($($arg),*),
            }
        }
    )*};
}

pub(crate) use multiversion;
