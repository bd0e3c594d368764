//! Convolution and matrix products of u8 activations with integer weights, exact to the last bit.
//!
//! | module | holds |
//! |---|---|
//! | `spec` | what a layer is made from, and where its results go |
//! | `layout`, `pack`, `order` | how dense weights lie, and their packing |
//! | `dense` | the run of dense layers, grouped ones included |
//! | `depthwise` | the run of layers that convolve each channel on its own |
//! | `shape`, `strands` | how these are cut up, and the input that they read |
//! | `window` | where the input rows that dense kernels read lie |
//! | `kernel` | the choice of kernels, and the portable ones |
//! | `finish` | bias, requantisation, clamping, the residual sum |
//! | `parts` | a layer as plain numbers and packed bytes |

mod dense;
mod depthwise;
pub(crate) mod finish;
pub(crate) mod kernel;
pub(crate) mod layout;
mod order;
mod pack;
mod parts;
mod shape;
mod spec;
mod strands;
#[cfg(test)]
mod tests;
mod window;

pub use spec::{Dynamic, QConvSpec, QOutput, QSlice, Residual};

use crate::{geometry::Conv2d, isa::Isa, packed::Packed};
use finish::{Columns, Finish};
use std::ops::Range;

/// Bytes that kernels may read beyond the input's end.
const SLACK_BYTES: usize = 64;

/// A convolution of u8 activations with packed integer weights.
///
/// Activations are NHWC. The weights, biases and multipliers are packed for one instruction set.
#[derive(Debug, Clone)]
pub struct QConv {
    isa: Isa,
    geometry: Conv2d,
    input_zero: u8,
    finish: Finish,
    method: Method,
    parameters: Parameters,
}

/// How the layer is run.
#[derive(Debug, Clone)]
enum Method {
    Dense(dense::Dense),
    Depthwise(depthwise::Depthwise),
}

/// Per output channel, padded as the method wants it.
#[derive(Debug, Clone)]
struct Parameters {
    /// i32: the zero of the input is folded in.
    bias: Packed,
    /// i32: of the weights.
    sums: Packed,
    /// f32; empty for integer results.
    multiplier: Packed,
    /// f32; may be empty.
    offset: Packed,
}

impl Parameters {
    fn columns(&self) -> Columns<'_> {
        Columns {
            bias: self.bias.elements(),
            multiplier: self.multiplier.elements(),
            offset: self.offset.elements(),
        }
    }
}

/// What a piece of a run works on.
struct Task<'a> {
    geometry: &'a Conv2d,
    input: &'a [u8],
    input_zero: u8,
    residual: &'a [u8],
    columns: Columns<'a>,
    finish: &'a Finish,
    units: Range<usize>,
    /// The element of the whole output at which the slice starts.
    start: usize,
}

impl QConv {
    /// Packs a layer for an instruction set of this architecture, which this machine need not have.
    ///
    /// # Panics
    /// The lengths of the specification's slices are not those of its geometry, the channels are no multiples of the
    /// groups, a size is zero, or the instruction set is another architecture's.
    #[must_use]
    pub fn new(isa: Isa, spec: &QConvSpec<'_>) -> Self {
        spec.check();
        assert!(kernel::exist(isa), "this architecture lacks {isa}");
        let geometry = spec.geometry;
        let method = if geometry.is_depthwise() {
            Method::Depthwise(depthwise::Depthwise::new(isa, spec))
        } else {
            Method::Dense(dense::Dense::new(isa, spec))
        };
        let (multiplier, offset) = spec.factors();
        let places = method.places(&geometry);
        let sums = spec.weight_sums();
        let parameters = Parameters {
            bias: Packed::of(&places.spread(&spec.folded_bias(&sums, method.input_shift()))),
            sums: Packed::of(&places.spread(&sums)),
            multiplier: Packed::of(&places.spread(&multiplier)),
            offset: Packed::of(&places.spread(&offset)),
        };
        Self { isa, geometry, input_zero: spec.input_zero, finish: spec.finish(), method, parameters }
    }

    /// The sizes.
    #[must_use]
    pub fn geometry(&self) -> &Conv2d {
        &self.geometry
    }

    /// The instruction set whose kernels run it.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether another tensor is added to its bytes.
    #[must_use]
    pub fn adds_residual(&self) -> bool {
        matches!(self.finish, Finish::Quantised(_, Some(_)))
    }

    /// Whether its results are floats.
    #[must_use]
    pub fn makes_floats(&self) -> bool {
        matches!(self.finish, Finish::Float)
    }

    /// Whether its results are int32 sums.
    #[must_use]
    pub fn makes_sums(&self) -> bool {
        matches!(self.finish, Finish::Int32)
    }

    /// Independent pieces of work: blocks of output pixels, or panels of output channels where there is one pixel.
    #[must_use]
    pub fn units(&self) -> usize {
        match &self.method {
            Method::Dense(dense) => dense.units(&self.geometry),
            Method::Depthwise(depthwise) => depthwise.units(&self.geometry),
        }
    }

    /// The output elements that these units fill.
    #[must_use]
    pub fn output_range(&self, units: Range<usize>) -> Range<usize> {
        let end = |unit| match &self.method {
            Method::Dense(dense) => dense.output_before(&self.geometry, unit),
            Method::Depthwise(depthwise) => depthwise.output_before(&self.geometry, unit),
        };
        end(units.start)..end(units.end)
    }

    /// Bytes of scratch memory that each thread needs.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        let method = match &self.method {
            Method::Dense(dense) => dense.scratch_bytes(&self.geometry),
            Method::Depthwise(depthwise) => depthwise.scratch_bytes(),
        };
        crate::packed::ALIGNMENT_BYTES + method + self.dynamic_bytes()
    }

    /// Bytes that must be readable after the input's last element.
    #[must_use]
    pub fn input_slack_bytes(&self) -> usize {
        SLACK_BYTES
    }

    /// Runs units of the layer.
    ///
    /// `input` is the whole input with its slack; `residual` is the whole other tensor, of the output's shape, and is
    /// there exactly if the layer adds one; `output` is exactly [`Self::output_range`] of the units. `scratch` holds at
    /// least [`Self::scratch_bytes`], with any content.
    ///
    /// # Panics
    /// A slice is too short or of the wrong kind, or this machine lacks the instruction set.
    pub fn run(
        &self,
        units: Range<usize>,
        input: &[u8],
        residual: Option<&[u8]>,
        output: QSlice<'_>,
        scratch: &mut [u8],
    ) {
        let columns = self.parameters.columns();
        self.run_with(units, (input, self.input_zero), (residual, columns), output, aligned(scratch));
    }

    /// Runs units of a layer of [`QOutput::Int32`] or [`QOutput::Float`] over an input whose zero and scale only the
    /// run knows; otherwise as [`Self::run`].
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_dynamic(
        &self,
        units: Range<usize>,
        input: &[u8],
        dynamic: Dynamic,
        output: QSlice<'_>,
        scratch: &mut [u8],
    ) {
        let fixed = self.parameters.columns();
        let (here, scratch) = aligned(scratch).split_at_mut(self.dynamic_bytes());
        let (bias, multiplier) = here.split_at_mut(padded(size_of_val(fixed.bias)));
        let bias: &mut [i32] = &mut bytemuck::cast_slice_mut(bias)[..fixed.bias.len()];
        let multiplier: &mut [f32] = &mut bytemuck::cast_slice_mut(multiplier)[..fixed.multiplier.len()];
        let by = i32::from(self.input_zero) - i32::from(dynamic.input_zero);
        let sums: &[i32] = self.parameters.sums.elements();
        for ((to, bias), sum) in bias.iter_mut().zip(fixed.bias).zip(sums) {
            *to = bias.wrapping_add(by.wrapping_mul(*sum));
        }
        for (to, multiplier) in multiplier.iter_mut().zip(fixed.multiplier) {
            *to = dynamic.scale * multiplier;
        }
        let columns = Columns { bias, multiplier, offset: fixed.offset };
        self.run_with(units, (input, dynamic.input_zero), (None, columns), output, scratch);
    }

    fn dynamic_bytes(&self) -> usize {
        let columns = self.parameters.columns();
        padded(size_of_val(columns.bias)) + padded(size_of_val(columns.multiplier))
    }

    fn run_with(
        &self,
        units: Range<usize>,
        (input, input_zero): (&[u8], u8),
        (residual, columns): (Option<&[u8]>, Columns<'_>),
        mut output: QSlice<'_>,
        scratch: &mut [u8],
    ) {
        assert!(self.isa.is_available(), "this machine lacks {}", self.isa);
        assert!(units.start <= units.end && units.end <= self.units(), "units beyond those of the layer");
        assert!(input.len() >= self.geometry.in_len() + SLACK_BYTES, "an input without its slack");
        let range = self.output_range(units.clone());
        assert_eq!(output.len(), range.len(), "elements of the output");
        let kind_fits = matches!(
            (&self.finish, &output),
            (Finish::Quantised(..), QSlice::U8(_))
                | (Finish::Int32, QSlice::I32(_))
                | (Finish::Float, QSlice::F32(_))
        );
        assert!(kind_fits, "the output's kind is not the layer's");
        let other = match (&self.finish, residual) {
            (Finish::Quantised(_, Some(_)), Some(other)) => &other[range.clone()],
            (Finish::Quantised(_, Some(_)), None) => panic_without_residual(),
            _ => &[],
        };
        if range.is_empty() {
            return;
        }
        let task = Task {
            geometry: &self.geometry,
            input,
            input_zero,
            residual: other,
            columns,
            finish: &self.finish,
            units,
            start: range.start,
        };
        match &self.method {
            Method::Dense(dense) => dense.run(self.isa, &task, &mut output, scratch),
            Method::Depthwise(depthwise) => depthwise.run(self.isa, &task, &mut output, scratch),
        }
    }
}

#[allow(clippy::panic, reason = "a caller's mistake, as the assertions beside it")]
fn panic_without_residual() -> ! {
    panic!("the layer adds a tensor, and there is none")
}

/// A count of bytes up to the next aligned one.
const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(crate::packed::ALIGNMENT_BYTES)
}

/// The part of scratch memory that starts aligned.
fn aligned(scratch: &mut [u8]) -> &mut [u8] {
    let at = scratch.as_ptr().align_offset(crate::packed::ALIGNMENT_BYTES);
    assert!(at <= scratch.len(), "too little scratch memory");
    &mut scratch[at..]
}

/// Where the parameters of output channels lie.
struct Places {
    /// Output channels of one group.
    columns: usize,
    /// The same with padding.
    padded: usize,
}

impl Places {
    /// Values per output channel in their places, zero in padding.
    fn spread<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut spread = Vec::with_capacity(values.len() / self.columns * self.padded);
        for group in values.chunks(self.columns) {
            spread.extend_from_slice(group);
            spread.resize(spread.len() + self.padded - group.len(), T::default());
        }
        spread
    }

    /// Elements of a parameter in its places.
    fn len(&self, channels: usize) -> usize {
        channels / self.columns * self.padded
    }
}

impl Method {
    fn places(&self, geometry: &Conv2d) -> Places {
        match self {
            Self::Dense(dense) => dense.places(),
            Self::Depthwise(_) => depthwise::Depthwise::places(geometry),
        }
    }

    /// What kernels subtract from stored inputs.
    fn input_shift(&self) -> i32 {
        match self {
            Self::Dense(dense) => dense.input_shift(),
            Self::Depthwise(depthwise) => depthwise.input_shift(),
        }
    }
}
