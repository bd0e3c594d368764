//! Kernels of one version, where the architecture's plain instruction set already has vectors (or none has
//! any).

/// Defines `fn name(isa, arguments…)` from a portable body, within which `FMA` says whether the machine has
/// fused multiply-add as an instruction.
macro_rules! multiversion {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters, reason = "not every kernel multiplies and adds")]
            fn body<const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body

            assert!(isa.is_available(), "{isa} is not there on this machine");
            body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    )*};
}

pub(crate) use multiversion;
