//! Weights as the register tiles read them: panels of a few vectors' columns, all of a panel's rows one after another.

use crate::{
    geometry::Conv2d,
    isa::Isa,
    packed::Packed,
    simd::{Kernel, Simd, dispatch},
};

/// Channels that are packed for every column before the next.
const CHANNELS_AT_ONCE: usize = 16;

/// One panel: neighbouring output channels of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel {
    /// The group.
    pub(super) group: usize,
    /// The first output channel.
    pub(super) column: usize,
    /// Output channels; the rest of the vectors is padding.
    pub(super) columns: usize,
    /// Vectors.
    pub(super) vectors: usize,
    /// Where its biases start, in floats; its weights start at `depth` times that.
    pub(super) bias_at: usize,
}

/// How a layer's output channels are cut into panels.
#[derive(Debug)]
pub(super) struct Panels {
    /// Floats of a vector.
    pub(super) lanes: usize,
    /// Rows of a panel: the products that one output element sums.
    pub(super) depth: usize,
    /// The panels, in the order of their output channels.
    pub(super) list: Vec<Panel>,
    /// Columns of all panels, with padding.
    pub(super) width: usize,
}

impl Panels {
    /// Cuts `groups` groups of `columns` columns each.
    pub(super) fn new(isa: Isa, groups: usize, columns: usize, depth: usize) -> Self {
        let lanes = lanes(isa);
        let mut list = Vec::new();
        let mut width = 0;
        for group in 0..groups {
            let mut done = 0;
            while done < columns {
                let vectors = panel_vectors((columns - done).div_ceil(lanes), lanes);
                let here = (vectors * lanes).min(columns - done);
                let column = group * columns + done;
                list.push(Panel { group, column, columns: here, vectors, bias_at: width });
                width += vectors * lanes;
                done += here;
            }
        }
        Self { lanes, depth, list, width }
    }

    /// A panel's weights.
    #[inline]
    pub(super) fn weights<'a>(&self, panel: &Panel, weights: &'a [f32]) -> &'a [f32] {
        &weights[panel.bias_at * self.depth..][..panel.vectors * self.lanes * self.depth]
    }

    /// A panel's biases.
    #[inline]
    pub(super) fn bias<'a>(&self, panel: &Panel, bias: &'a [f32]) -> &'a [f32] {
        &bias[panel.bias_at..][..panel.vectors * self.lanes]
    }

    /// Packs a convolution's weights, kernel row by kernel row, pixel by pixel, channel by channel.
    pub(super) fn pack(&self, geometry: &Conv2d, weights: &[f32]) -> Packed {
        let taps = geometry.kernel_h * geometry.kernel_w;
        let channels = geometry.in_c / geometry.groups;
        Packed::filled(self.width * self.depth * size_of::<f32>(), |bytes| {
            let packed: &mut [f32] = bytemuck::cast_slice_mut(bytes);
            for panel in &self.list {
                let columns = panel.vectors * self.lanes;
                let to = &mut packed[panel.bias_at * self.depth..][..columns * self.depth];
                // Some channels at a time, so that the lines that are written stay in the cache for all columns.
                for first in (0..channels).step_by(CHANNELS_AT_ONCE) {
                    let last = (first + CHANNELS_AT_ONCE).min(channels);
                    for column in 0..panel.columns {
                        let from =
                            &weights[(panel.column + column) * self.depth..][first * taps..last * taps];
                        for (channel, from) in (first..last).zip(from.chunks_exact(taps)) {
                            for (tap, weight) in from.iter().enumerate() {
                                to[(tap * channels + channel) * columns + column] = *weight;
                            }
                        }
                    }
                }
            }
        })
    }

    /// Packs biases; zeros where there are none.
    pub(super) fn pack_bias(&self, bias: Option<&[f32]>) -> Packed {
        let mut packed = vec![0.0; self.width];
        if let Some(bias) = bias {
            for panel in &self.list {
                let to = &mut packed[panel.bias_at..][..panel.columns];
                for (to, bias) in to.iter_mut().zip(&bias[panel.column..]) {
                    // A negative zero would tell whether a product with padding was added to it.
                    *to = bias + 0.0;
                }
            }
        }
        Packed::of(&packed)
    }
}

/// How many vectors the next panel has where so many are left: no panel of one, if that can be avoided.
fn panel_vectors(left: usize, lanes: usize) -> usize {
    // With 16 registers, tiles of two vectors have the least loads; with 32, those of three.
    let wide = lanes != 8;
    match left {
        0..=3 => left,
        4 => 2,
        _ if wide || left % 2 == 1 => 3,
        _ => 2,
    }
}

/// Floats of an instruction set's vectors.
pub(super) fn lanes(isa: Isa) -> usize {
    struct Lanes;
    impl Kernel for Lanes {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _simd: S) -> usize {
            S::LANES
        }
    }
    dispatch(isa, Lanes)
}
