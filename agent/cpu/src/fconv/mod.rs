//! f32 convolutions and matrix products.
//!
//! | module | holds |
//! |---|---|
//! | `activation` | what is applied to the output |
//! | `dense` | convolutions over whole groups of channels |
//! | `depthwise` | those of each channel on its own |
//! | `gemv` | those with a single output pixel |
//! | `header` | a layer as plain numbers, for a plan cache |
//! | `matmul` | products of two matrices that are known only at run time |
//! | `panels`, `rows`, `tile` | packed weights, where input lies, the innermost loops |
//!
//! Every output element is summed in an order that depends on the layer alone: results do not depend on how the units are
//! split over threads.

#![allow(
    clippy::needless_range_loop,
    reason = "register tiles are indexed alike, row by row and vector by vector"
)]

mod activation;
mod dense;
mod depthwise;
mod gemv;
mod header;
mod matmul;
mod panels;
mod rows;
mod scratch;
mod tile;

#[cfg(test)]
mod tests;

pub use activation::Activation;
pub use matmul::{MatMul, MatMulSpec};

use header::Header;

use crate::{geometry::Conv2d, isa::Isa, packed::Packed};
use std::ops::Range;

/// What a convolution computes.
#[derive(Debug, Clone, Copy)]
pub struct ConvSpec<'a> {
    /// Its sizes.
    pub geometry: Conv2d,
    /// Weights by output channel, input channel of the group, kernel row and kernel column.
    pub weights: &'a [f32],
    /// One for each output channel.
    pub bias: Option<&'a [f32]>,
    /// What is applied in the end.
    pub activation: Activation,
    /// Whether another tensor of the output's shape is added before the activation.
    pub residual: bool,
}

/// A convolution, its weights packed for one instruction set.
#[derive(Debug)]
pub struct Conv {
    isa: Isa,
    header: Header,
    kind: Kind,
    weights: Packed,
    bias: Packed,
}

/// How it is computed.
#[derive(Debug)]
enum Kind {
    Dense(dense::Dense),
    Gemv(gemv::Gemv),
    Depthwise(depthwise::Depthwise),
}

impl Kind {
    fn new(isa: Isa, header: &Header) -> Self {
        let geometry = &header.geometry;
        if geometry.is_depthwise() {
            Self::Depthwise(depthwise::Depthwise::new(isa, geometry))
        } else if geometry.out_pixels() == 1 {
            Self::Gemv(gemv::Gemv::new(isa, geometry))
        } else {
            let mut dense = dense::Dense::new(isa, geometry);
            dense.skip_padding = header.finite;
            Self::Dense(dense)
        }
    }

    /// Packed weights and biases, in floats.
    fn packed_len(&self) -> [usize; 2] {
        match self {
            Self::Dense(dense::Dense { panels, .. }) | Self::Gemv(gemv::Gemv { panels, .. }) => {
                [panels.width * panels.depth, panels.width]
            }
            Self::Depthwise(depthwise) => depthwise.packed_len(),
        }
    }

    fn pack(&self, spec: &ConvSpec<'_>) -> [Packed; 2] {
        match self {
            Self::Dense(dense::Dense { panels, .. }) | Self::Gemv(gemv::Gemv { panels, .. }) => {
                [panels.pack(&spec.geometry, spec.weights), panels.pack_bias(spec.bias)]
            }
            Self::Depthwise(depthwise) => depthwise.pack(spec.weights, spec.bias),
        }
    }
}

impl Conv {
    /// Packs a convolution.
    ///
    /// # Panics
    /// This machine lacks the instruction set, the geometry has a size of zero or channel counts that are no multiples of the
    /// groups, or the weights or biases are not as many as it says.
    #[must_use]
    pub fn new(isa: Isa, spec: &ConvSpec<'_>) -> Self {
        let geometry = spec.geometry;
        assert!(header::is_valid(&geometry), "no convolution has these sizes: {geometry:?}");
        let per_channel = geometry.in_c / geometry.groups * geometry.kernel_h * geometry.kernel_w;
        assert_eq!(spec.weights.len(), geometry.out_c * per_channel, "weights of a convolution");
        if let Some(bias) = spec.bias {
            assert_eq!(bias.len(), geometry.out_c, "biases of a convolution");
        }
        let header = Header {
            geometry,
            activation: spec.activation,
            residual: spec.residual,
            finite: spec.weights.iter().all(|weight| weight.is_finite()),
        };
        let kind = Kind::new(isa, &header);
        let [weights, bias] = kind.pack(spec);
        Self { isa, header, kind, weights, bias }
    }

    /// What a plan cache keeps: plain numbers, and packed data.
    #[must_use]
    pub fn parts(&self) -> (Vec<u64>, Vec<Packed>) {
        let header = header::write(self.isa, &self.header);
        (header, vec![self.weights.clone(), self.bias.clone()])
    }

    /// The layer that [`Self::parts`] gave; `None` where these are no parts of a layer for this instruction set, or the
    /// machine lacks it.
    #[must_use]
    pub fn from_parts(isa: Isa, header: &[u64], parts: Vec<Packed>) -> Option<Self> {
        let header = header::read(isa, header)?;
        let geometry = &header.geometry;
        let [weights, bias]: [Packed; 2] = parts.try_into().ok()?;
        // The smallest packing has all weights: sizes beyond the data are not worth a list of panels.
        let per_channel = (geometry.in_c / geometry.groups).checked_mul(geometry.kernel_h)?;
        let least = per_channel.checked_mul(geometry.kernel_w)?.checked_mul(geometry.out_c)?;
        if least > weights.as_bytes().len() / size_of::<f32>() {
            return None;
        }
        let kind = Kind::new(isa, &header);
        let [weight_len, bias_len] = kind.packed_len();
        let fits = weights.as_bytes().len() == weight_len.checked_mul(size_of::<f32>())?
            && bias.as_bytes().len() == bias_len.checked_mul(size_of::<f32>())?;
        fits.then_some(Self { isa, header, kind, weights, bias })
    }

    /// Its sizes.
    #[must_use]
    pub const fn geometry(&self) -> &Conv2d {
        &self.header.geometry
    }

    /// Whether another tensor is added.
    #[must_use]
    pub const fn adds_residual(&self) -> bool {
        self.header.residual
    }

    /// What is applied in the end.
    #[must_use]
    pub const fn activation(&self) -> Activation {
        self.header.activation
    }

    /// Pieces of work, about equally much each.
    #[must_use]
    pub fn units(&self) -> usize {
        match &self.kind {
            Kind::Dense(_) => self.header.geometry.out_pixels(),
            Kind::Gemv(gemv) => gemv.panels.list.len(),
            Kind::Depthwise(depthwise) => depthwise.rows(),
        }
    }

    /// The output elements that some units fill.
    #[must_use]
    pub fn output_range(&self, units: Range<usize>) -> Range<usize> {
        match &self.kind {
            Kind::Dense(_) => {
                units.start * self.header.geometry.out_c..units.end * self.header.geometry.out_c
            }
            Kind::Gemv(gemv) => gemv.output_range(units),
            Kind::Depthwise(_) => {
                let row = self.header.geometry.out_w() * self.header.geometry.out_c;
                units.start * row..units.end * row
            }
        }
    }

    /// Bytes of scratch memory that each thread needs.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        match &self.kind {
            Kind::Dense(dense) => dense.scratch_bytes(),
            Kind::Gemv(gemv) => gemv.scratch_bytes(),
            Kind::Depthwise(_) => 0,
        }
    }

    /// Bytes that have to be readable after the input: none.
    #[must_use]
    pub const fn input_slack_bytes(&self) -> usize {
        0
    }

    /// Computes some units: `input` and `residual` are whole tensors, `output` is the units' part of the output.
    ///
    /// # Panics
    /// A slice is shorter than the geometry says, `output` is not as long as [`Self::output_range`] says, or the layer adds a
    /// residual and gets none.
    pub fn run(
        &self,
        units: Range<usize>,
        input: &[f32],
        residual: Option<&[f32]>,
        output: &mut [f32],
        scratch: &mut [u8],
    ) {
        let elements = self.output_range(units.clone());
        assert!(units.end <= self.units(), "units beyond the layer's");
        assert!(input.len() >= self.header.geometry.in_len(), "the input is shorter than the geometry says");
        assert_eq!(output.len(), elements.len(), "output elements of the units");
        if units.is_empty() {
            return;
        }
        let residual = match residual {
            Some(residual) if self.header.residual => Some(&residual[elements]),
            _ => None,
        };
        assert_eq!(residual.is_some(), self.header.residual, "the layer adds a residual");
        let data = dense::Data {
            weights: self.weights.elements(),
            bias: self.bias.elements(),
            input,
            residual,
            activation: self.header.activation,
            output,
        };
        match &self.kind {
            Kind::Dense(dense) => dense.run(units, data, scratch),
            Kind::Gemv(gemv) => gemv.run(units, data, scratch),
            Kind::Depthwise(depthwise) => depthwise.run(units, data),
        }
    }
}
