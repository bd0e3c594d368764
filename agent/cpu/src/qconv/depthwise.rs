//! The run of layers that convolve each channel on its own.

use super::{
    Places, Task,
    finish::{Block, Place},
    kernel, padded,
    spec::{QConvSpec, QSlice},
};
use crate::{geometry::Conv2d, isa::Isa, packed::Packed};

/// Channels are padded to a multiple of this.
const CHANNELS: usize = 64;

/// A packed depthwise layer.
#[derive(Debug, Clone)]
pub(super) struct Depthwise {
    /// i16: `[tap][channel]`.
    weights: Packed,
}

fn padded_channels(geometry: &Conv2d) -> usize {
    geometry.out_c.next_multiple_of(CHANNELS)
}

impl Depthwise {
    pub(super) fn new(_isa: Isa, spec: &QConvSpec<'_>) -> Self {
        let geometry = &spec.geometry;
        let taps = geometry.kernel_h * geometry.kernel_w;
        let channels = padded_channels(geometry);
        let mut weights = vec![0i16; taps * channels];
        for (channel, from) in spec.weights.chunks_exact(taps).enumerate() {
            for (tap, weight) in from.iter().enumerate() {
                weights[tap * channels + channel] = *weight;
            }
        }
        Self { weights: Packed::of(&weights) }
    }

    pub(super) fn from_parts(_isa: Isa, geometry: &Conv2d, weights: Packed) -> Option<Self> {
        let count =
            geometry.kernel_h.checked_mul(geometry.kernel_w)?.checked_mul(padded_channels(geometry))?;
        (weights.as_bytes().len() == count.checked_mul(size_of::<i16>())?).then_some(Self { weights })
    }

    pub(super) fn parts(&self) -> [Packed; 2] {
        [self.weights.clone(), Packed::of::<u32>(&[])]
    }

    pub(super) fn places(&self, geometry: &Conv2d) -> Places {
        Places { columns: geometry.out_c, padded: padded_channels(geometry) }
    }

    pub(super) fn units(&self, geometry: &Conv2d) -> usize {
        geometry.batch * geometry.out_h()
    }

    pub(super) fn output_before(&self, geometry: &Conv2d, unit: usize) -> usize {
        unit * geometry.out_w() * geometry.out_c
    }

    pub(super) fn scratch_bytes(&self, geometry: &Conv2d) -> usize {
        padded(padded_channels(geometry) * size_of::<i32>())
    }

    pub(super) fn run(&self, isa: Isa, task: &Task<'_>, output: &mut QSlice<'_>, scratch: &mut [u8]) {
        let geometry = task.geometry;
        let channels = geometry.out_c;
        let sums: &mut [i32] = bytemuck::cast_slice_mut(&mut scratch[..padded(channels * 4)]);
        let sums = &mut sums[..channels];
        for unit in task.units.clone() {
            for x in 0..geometry.out_w() {
                self.pixel(task, (unit, x), sums);
                let block = Block { sums, stride: channels, columns: channels, rows: 1 };
                let start = (unit * geometry.out_w() + x) * channels - task.start;
                let place = Place { output, start, stride: channels, residual: task.residual };
                kernel::finish(isa)(&block, &task.columns, task.finish, place);
            }
        }
    }

    fn pixel(&self, task: &Task<'_>, (row, x): (usize, usize), sums: &mut [i32]) {
        let geometry = task.geometry;
        let (image, y) = (row / geometry.out_h(), row % geometry.out_h());
        let weights: &[i16] = self.weights.elements();
        sums.fill(0);
        for (tap, weights) in weights.chunks_exact(padded_channels(geometry)).enumerate() {
            let (ky, kx) = (tap / geometry.kernel_w, tap % geometry.kernel_w);
            let y = (y * geometry.stride_h + ky * geometry.dilation_h).wrapping_sub(geometry.pad[0]);
            let x = (x * geometry.stride_w + kx * geometry.dilation_w).wrapping_sub(geometry.pad[1]);
            if y < geometry.in_h && x < geometry.in_w {
                let at = ((image * geometry.in_h + y) * geometry.in_w + x) * geometry.in_c;
                let pixel = &task.input[at..at + geometry.in_c];
                for ((sum, weight), value) in sums.iter_mut().zip(weights).zip(pixel) {
                    *sum += i32::from(*weight) * i32::from(*value);
                }
            } else {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += i32::from(*weight) * i32::from(task.input_zero);
                }
            }
        }
    }
}
