//! The portable depthwise loop.

use super::{
    Task,
    finish::{Block, Place},
    kernel::{self, LINE_CHANNELS},
    spec::{QConvSpec, QSlice},
};
use crate::{geometry::Conv2d, isa::Isa, packed::Packed};
use std::ops::Range;

/// Weights as i16 `[block of channels][tap][channel]`.
pub(super) fn pack(spec: &QConvSpec<'_>) -> Packed {
    let geometry = &spec.geometry;
    let taps = geometry.kernel_h * geometry.kernel_w;
    let mut weights = vec![0i16; weight_bytes(geometry) / size_of::<i16>()];
    for (channel, from) in spec.weights.chunks_exact(taps).enumerate() {
        let (block, lane) = (channel / LINE_CHANNELS, channel % LINE_CHANNELS);
        for (tap, weight) in from.iter().enumerate() {
            weights[(block * taps + tap) * LINE_CHANNELS + lane] = *weight;
        }
    }
    Packed::of(&weights)
}

pub(super) fn weight_bytes(geometry: &Conv2d) -> usize {
    let channels = geometry.out_c.next_multiple_of(LINE_CHANNELS);
    geometry.kernel_h * geometry.kernel_w * channels * size_of::<i16>()
}

/// Runs a part of one output row of all images' rows.
pub(super) fn run(
    isa: Isa,
    task: &Task<'_>,
    weights: &[i16],
    (row, pixels): (usize, Range<usize>),
    output: &mut QSlice<'_>,
) {
    let geometry = task.geometry;
    let taps = geometry.kernel_h * geometry.kernel_w;
    for x in pixels {
        for (block, weights) in weights.chunks_exact(taps * LINE_CHANNELS).enumerate() {
            let channel = block * LINE_CHANNELS;
            let sums = pixel(task, (row, x), channel, weights);
            let columns = LINE_CHANNELS.min(geometry.out_c - channel);
            let block = Block { sums: &sums, stride: LINE_CHANNELS, columns, rows: 1 };
            let start = (row * geometry.out_w() + x) * geometry.out_c + channel - task.start;
            let place = Place { output, start, stride: geometry.out_c, residual: task.residual };
            kernel::finish(isa)(&block, &task.columns.from(channel), task.finish, place);
        }
    }
}

fn pixel(task: &Task<'_>, (row, x): (usize, usize), channel: usize, weights: &[i16]) -> [i32; LINE_CHANNELS] {
    let geometry = task.geometry;
    let (image, y) = (row / geometry.out_h(), row % geometry.out_h());
    let mut sums = [0i32; LINE_CHANNELS];
    let mut weights = weights.as_chunks::<LINE_CHANNELS>().0.iter();
    for ky in 0..geometry.kernel_h {
        let y = (y * geometry.stride_h + ky * geometry.dilation_h).wrapping_sub(geometry.pad[0]);
        for (kx, weights) in (0..geometry.kernel_w).zip(&mut weights) {
            let x = (x * geometry.stride_w + kx * geometry.dilation_w).wrapping_sub(geometry.pad[1]);
            if y < geometry.in_h && x < geometry.in_w {
                let at = ((image * geometry.in_h + y) * geometry.in_w + x) * geometry.in_c + channel;
                let values = &task.input[at..at + LINE_CHANNELS];
                for ((sum, weight), value) in sums.iter_mut().zip(weights).zip(values) {
                    *sum += i32::from(*weight) * i32::from(*value);
                }
            } else {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += i32::from(*weight) * i32::from(task.input_zero);
                }
            }
        }
    }
    sums
}
