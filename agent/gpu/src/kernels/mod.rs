//! Compute shaders, and what a plan's operations become of them.
//!
//! A shader is a WGSL file in `shaders`, behind the files that it shares with others. Its shapes are WGSL `override`s: each kernel is a
//! struct whose fields are just those, so that a constant that a shader does not have is found by the tests, and one that is not given
//! does not compile.
//!
//! | module | holds |
//! |---|---|
//! | `activation` | functions of one f32 |
//! | `conv` | f32 convolutions and matrix products |
//! | `movement` | concatenation, transposition, resizing |
//! | `pointwise` | functions of elements |
//! | `pool` | windows |
//! | `qconv` | convolutions of bytes |

mod activation;
mod conv;
mod movement;
mod pointwise;
mod pool;
mod qconv;
#[cfg(test)]
mod tests;

pub(crate) use activation::Activated;

use crate::engine::build::{Builder, Lowered};
use whimbrel_infer::plan::{Operation, Step};

/// Invocations of a workgroup.
const WIDTH: u32 = 64;

/// Most workgroups along one axis of a dispatch.
const GROUPS_MAX: u32 = 65_535;

/// A WGSL module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shader {
    /// The file's name.
    pub(crate) name: &'static str,
    /// The file behind those that it shares.
    pub(crate) source: &'static str,
}

/// A compute shader with its constants.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kernel {
    /// Which.
    pub(crate) shader: Shader,
    /// Names and values of its overrides.
    pub(crate) constants: Vec<(&'static str, f64)>,
}

/// Values of a shader's overrides, or of some of them.
pub(crate) trait Overrides {
    /// Adds names and values.
    fn push(&self, to: &mut Vec<(&'static str, f64)>);
}

/// Defines overrides that several shaders share.
macro_rules! overrides {
    ($(#[$meta:meta])* $name:ident; $($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $field: $type,)*
        }

        impl $crate::kernels::Overrides for $name {
            fn push(&self, to: &mut Vec<(&'static str, f64)>) {
                to.extend([$((stringify!($field), f64::from(self.$field)),)*]);
            }
        }
    };
}
pub(crate) use overrides;

/// Defines a kernel: the shader's file, the files that it shares, the overrides that those have, and its own.
macro_rules! kernel {
    (
        $(#[$meta:meta])*
        $name:ident = $file:literal + [$($shared:literal),*];
        $(..$part:ident: $part_type:ty,)*
        $($field:ident: $type:ty,)*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub(crate) struct $name {
            $(pub(crate) $part: $part_type,)*
            $(pub(crate) $field: $type,)*
        }

        impl $name {
            /// Its shader.
            pub(crate) const SHADER: $crate::kernels::Shader = $crate::kernels::Shader {
                name: $file,
                source: concat!(
                    include_str!("../shaders/common.wgsl"),
                    $(include_str!(concat!("../shaders/", $shared, ".wgsl")),)*
                    include_str!(concat!("../shaders/", $file, ".wgsl"))
                ),
            };
        }

        impl From<$name> for $crate::kernels::Kernel {
            fn from(kernel: $name) -> Self {
                let mut constants = Vec::new();
                $($crate::kernels::Overrides::push(&kernel.$part, &mut constants);)*
                constants.extend([$((stringify!($field), f64::from(kernel.$field)),)*]);
                Self { shader: $name::SHADER, constants }
            }
        }
    };
}
pub(crate) use kernel;

kernel! {
    /// Arithmetic that exact results rest on.
    Probe = "probe" + [];
    units: u32,
}

/// Workgroups for so many invocations, as a dispatch takes them.
pub(crate) fn groups(units: u32) -> [u32; 3] {
    rows(units.div_ceil(WIDTH))
}

/// So many workgroups, and a few more where one axis cannot hold them.
pub(crate) fn rows(groups: u32) -> [u32; 3] {
    let lines = groups.div_ceil(GROUPS_MAX).max(1);
    [groups.div_ceil(lines).max(1), lines, 1]
}

/// The dispatches of a step; nothing where no kernel does it.
///
/// # Errors
/// Its sizes or weights are beyond what the device can take.
pub(crate) fn lower(b: &mut Builder<'_>, step: &Step) -> Lowered {
    b.begin();
    match &step.operation {
        Operation::Conv(conv) => conv::conv(b, step, conv),
        Operation::QConv(conv) => qconv::qconv(b, step, conv),
        Operation::MatMul(product) => conv::matmul(b, step, product),
        Operation::Quantise(quant) => pointwise::quantise(b, step, *quant),
        Operation::Dequantise(quant) => pointwise::dequantise(b, step, *quant),
        Operation::QAdd(pair) => pointwise::pair(b, step, *pair, true),
        Operation::QMul(pair) => pointwise::pair(b, step, *pair, false),
        Operation::QBroadcast(spec) => pointwise::broadcast(b, step, spec),
        Operation::Map(_) | Operation::Flip => pointwise::table(b, step, &step.operation),
        Operation::MaxPool(pool) => pool::pool(b, step, pool, false),
        Operation::AveragePool(pool) => pool::pool(b, step, pool, true),
        Operation::QAveragePool { pool, input, output, global: true, .. } => {
            pool::mean(b, step, pool, [*input, *output])
        }
        Operation::QAveragePool { pool, input, output, global: false, signed } => {
            pool::qpool(b, step, pool, ([*input, *output], *signed))
        }
        Operation::QSoftmax { input_scale, output, .. } => {
            pointwise::qsoftmax(b, step, *input_scale, *output)
        }
        Operation::Binary(binary) => pointwise::binary(b, step, binary),
        Operation::Unary(function) => pointwise::unary(b, step, *function),
        Operation::Softmax { log } => pointwise::softmax(b, step, *log),
        Operation::Concat { outer, inner } => movement::concat(b, step, *outer, inner),
        Operation::Transpose { sizes, order } => movement::transpose(b, step, sizes, order),
        Operation::Resize(spec) => movement::resize(b, step, spec),
        Operation::Recurrent(_)
        | Operation::DynamicQuantise { .. }
        | Operation::DynamicConv(_)
        | Operation::Single(_) => Ok(None),
    }
}
