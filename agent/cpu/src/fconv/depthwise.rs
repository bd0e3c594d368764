//! Convolutions of each channel on its own, a few output pixels of a vector of channels at a time.

use super::{
    activation::{Pass, clip},
    dense::Data,
    panels::lanes,
};
use crate::{
    geometry::Conv2d,
    isa::Isa,
    packed::Packed,
    simd::{Kernel, Simd, Window, dispatch},
};
use std::ops::Range;

/// Output pixels of a tile at most: images of usual networks are 7 pixels wide, 14, 28 and so on.
const TILE: usize = 7;

/// How a layer is computed.
#[derive(Debug)]
pub(super) struct Depthwise {
    isa: Isa,
    geometry: Conv2d,
    lanes: usize,
}

impl Depthwise {
    pub(super) fn new(isa: Isa, geometry: &Conv2d) -> Self {
        Self { isa, geometry: *geometry, lanes: lanes(isa) }
    }

    /// Output rows of all images.
    pub(super) const fn rows(&self) -> usize {
        self.geometry.batch * self.geometry.out_h()
    }

    /// Packed weights and biases, in floats.
    pub(super) fn packed_len(&self) -> [usize; 2] {
        let channels = self.geometry.in_c.div_ceil(self.lanes) * self.lanes;
        [channels * self.geometry.kernel_h * self.geometry.kernel_w, channels]
    }

    /// Packs vector by vector; the last one overlaps the one before it where the channels are not a multiple.
    pub(super) fn pack(&self, weights: &[f32], bias: Option<&[f32]>) -> [Packed; 2] {
        let taps = self.geometry.kernel_h * self.geometry.kernel_w;
        let mut packed = self.packed_len().map(|len| vec![0.0; len]);
        for block in 0..self.geometry.in_c.div_ceil(self.lanes) {
            let first = first_channel(block, self.lanes, self.geometry.in_c);
            for lane in 0..self.lanes.min(self.geometry.in_c) {
                for tap in 0..taps {
                    packed[0][(block * taps + tap) * self.lanes + lane] =
                        weights[(first + lane) * taps + tap];
                }
                packed[1][block * self.lanes + lane] = bias.map_or(0.0, |bias| bias[first + lane]);
            }
        }
        packed.map(|packed| Packed::of(&packed))
    }

    pub(super) fn run(&self, rows: Range<usize>, data: Data<'_>) {
        dispatch(self.isa, Run { layer: self, rows, data });
    }
}

#[inline(always)]
fn first_channel(block: usize, lanes: usize, channels: usize) -> usize {
    (block * lanes).min(channels.saturating_sub(lanes))
}

struct Run<'a> {
    layer: &'a Depthwise,
    rows: Range<usize>,
    data: Data<'a>,
}

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { layer, rows, mut data } = self;
        for row in rows.clone() {
            layer.line(&mut data, (row, row - rows.start)).run(simd);
        }
        if data.activation.needs_pass() {
            simd.call(Pass { activation: data.activation, elements: data.output });
        }
    }
}

impl Depthwise {
    /// An output row, which is the `index`th of the data's.
    fn line<'a>(&'a self, data: &'a mut Data<'_>, (row, index): (usize, usize)) -> Line<'a> {
        let geometry = &self.geometry;
        let row_len = geometry.out_w() * geometry.out_c;
        let elements = index * row_len..(index + 1) * row_len;
        let (image, y) = (row / geometry.out_h(), row % geometry.out_h());
        let start = y * geometry.stride_h;
        // Kernel rows above the image, and up to its end.
        let above = geometry.pad[0].saturating_sub(start).div_ceil(geometry.dilation_h);
        let end = (geometry.in_h + geometry.pad[0]).saturating_sub(start).div_ceil(geometry.dilation_h);
        let taps = above.min(geometry.kernel_h)..end.min(geometry.kernel_h);
        let first = (start + above * geometry.dilation_h).wrapping_sub(geometry.pad[0]);
        Line {
            geometry,
            taps: taps.start..taps.end.max(taps.start),
            input: data.input,
            first_row: image * geometry.in_h + if taps.is_empty() { 0 } else { first },
            weights: data.weights,
            bias: data.bias,
            residual: data.residual.map(|residual| &residual[elements.clone()]),
            limits: data.activation.limits(),
            output: &mut data.output[elements],
        }
    }
}

/// A row of output pixels.
struct Line<'a> {
    geometry: &'a Conv2d,
    /// Kernel rows within the image, and the input row of the first.
    taps: Range<usize>,
    first_row: usize,
    input: &'a [f32],
    weights: &'a [f32],
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    limits: (f32, f32),
    output: &'a mut [f32],
}

impl Line<'_> {
    fn run<S: Simd>(self, simd: S) {
        let geometry = self.geometry;
        let [_, left, _, right] = geometry.pad;
        if left.max(right) > geometry.kernel_w / 2 {
            return simd.call(Tiles::<0, 0>(self));
        }
        match (geometry.kernel_w, geometry.stride_w, geometry.dilation_w) {
            (3, 1, 1) => simd.call(Tiles::<3, 1>(self)),
            (3, 2, 1) => simd.call(Tiles::<3, 2>(self)),
            (5, 1, 1) => simd.call(Tiles::<5, 1>(self)),
            (5, 2, 1) => simd.call(Tiles::<5, 2>(self)),
            _ => simd.call(Tiles::<0, 0>(self)),
        }
    }
}

/// A row of output pixels with kernel rows of `K` pixels and a stride of `P`; with other kernels for zero.
struct Tiles<'a, const K: usize, const P: usize>(Line<'a>);

impl<const K: usize, const P: usize> Kernel for Tiles<'_, K, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let out_w = self.0.geometry.out_w();
        let mut column = 0;
        while column < out_w {
            column += match out_w - column {
                1 => self.tile::<S, 1>(simd, column),
                2 | 3 => self.tile::<S, 2>(simd, column),
                TILE.. if P == 1 => self.tile::<S, TILE>(simd, column),
                _ => self.tile::<S, 4>(simd, column),
            };
        }
    }
}

/// The pixels of each input row that a tile reads: how many are padding on the left, and the window of the others.
#[derive(Clone, Copy)]
struct View<'a> {
    window: Window<'a>,
    padding: usize,
    pixels: usize,
    /// The pixels that are padding in no tile.
    core: Window<'a>,
}

impl<const K: usize, const P: usize> Tiles<'_, K, P> {
    /// Pixels of an input row that so many output pixels read.
    #[inline(always)]
    fn span(geometry: &Conv2d, pixels: usize) -> usize {
        if K > 0 {
            return (pixels - 1) * P + K;
        }
        (pixels - 1) * geometry.stride_w + (geometry.kernel_w - 1) * geometry.dilation_w + 1
    }

    /// Computes `T` output pixels from a column on, and says so.
    #[inline(always)]
    fn tile<S: Simd, const T: usize>(&mut self, simd: S, column: usize) -> usize {
        let geometry = self.0.geometry;
        let span = Self::span(geometry, T);
        let left = column * geometry.stride_w;
        let padding = geometry.pad[1].saturating_sub(left).min(span);
        let end = (geometry.in_w + geometry.pad[1]).saturating_sub(left).min(span).max(padding);
        let pixels = end - padding;
        let channels = geometry.in_c;
        let start = if pixels == 0 || self.0.taps.is_empty() {
            0
        } else {
            (self.0.first_row * geometry.in_w + left + padding - geometry.pad[1]) * channels
        };
        let row_step = geometry.dilation_h * geometry.in_w * channels;
        let rows = (self.0.taps.len(), row_step);
        let window = Window::new(&self.0.input[start..], rows, (pixels, channels), channels);
        let core = if K > 0 { &self.0.input[start + (K / 2 - padding) * channels..] } else { &[] };
        let core_pixels = if K > 0 { (T - 1) * P + K - 2 * (K / 2) } else { 0 };
        let core = if K > 0 { Window::new(core, rows, (core_pixels, channels), channels) } else { window };
        let view = View { window, padding, pixels, core };
        if channels < S::LANES {
            self.channels::<S, T, true, false>(simd, column, view);
        } else if pixels == span {
            self.channels::<S, T, false, true>(simd, column, view);
        } else {
            self.channels::<S, T, true, true>(simd, column, view);
        }
        T
    }

    /// All channels of a tile; `EDGE`: some pixels are padding, `WHOLE`: there are as many channels as lanes, or more.
    #[inline(always)]
    fn channels<S: Simd, const T: usize, const EDGE: bool, const WHOLE: bool>(
        &mut self,
        simd: S,
        column: usize,
        view: View<'_>,
    ) {
        let line = &mut self.0;
        let channels = line.geometry.in_c;
        let kernel_w = if K > 0 { K } else { line.geometry.kernel_w };
        let row_len = kernel_w * S::LANES;
        let block_len = line.geometry.kernel_h * row_len;
        for vector in 0..channels.div_ceil(S::LANES) {
            let channel = first_channel(vector, S::LANES, channels);
            let mut sums = [[simd.load(&line.bias[vector * S::LANES..])]; T];
            let weights = &line.weights[vector * block_len..][..block_len];
            let weights = weights[line.taps.start * row_len..].chunks_exact(row_len);
            for (row, weights) in (0..line.taps.len()).zip(weights) {
                let pixel = |pixel: usize| {
                    let spot = |pixel| (row, pixel, channel);
                    if K > 0 && WHOLE && pixel >= K / 2 && pixel < (T - 1) * P + K - K / 2 {
                        return simd.load_window(view.core, spot(pixel - K / 2));
                    }
                    if !EDGE {
                        return simd.load_window(view.window, spot(pixel));
                    }
                    let pixel = pixel.wrapping_sub(view.padding);
                    if pixel >= view.pixels {
                        simd.splat(0.0)
                    } else if WHOLE {
                        simd.load_window(view.window, spot(pixel))
                    } else {
                        let (elements, start) = view.window.check(spot(pixel), channels);
                        simd.load_some(&elements[start..], channels)
                    }
                };
                if K > 0 {
                    Self::sum_row(simd, weights, pixel, &mut sums);
                } else {
                    Self::sum_any_row(simd, line.geometry, weights, pixel, &mut sums);
                }
            }
            for i in 0..T {
                let at = (column + i) * channels + channel;
                let len = if WHOLE { S::LANES } else { channels };
                if let Some(residual) = line.residual {
                    sums[i][0] = simd.add(sums[i][0], simd.load_some(&residual[at..], len));
                }
            }
            clip(simd, line.limits, &mut sums);
            for i in 0..T {
                let at = (column + i) * channels + channel;
                if WHOLE {
                    simd.store(sums[i][0], &mut line.output[at..]);
                } else {
                    simd.store_some(sums[i][0], &mut line.output[at..], channels);
                }
            }
        }
    }

    /// Adds a kernel row's products, each input pixel being read once.
    #[inline(always)]
    fn sum_row<S: Simd, const T: usize>(
        simd: S,
        weights: &[f32],
        pixel: impl Fn(usize) -> S::Vector,
        sums: &mut [[S::Vector; 1]; T],
    ) {
        let mut factors = [simd.splat(0.0); K];
        for k in 0..K {
            factors[k] = simd.load(&weights[k * S::LANES..]);
        }
        for x in 0..(T - 1) * P + K {
            let element = pixel(x);
            for i in 0..T {
                if x >= i * P && x < i * P + K {
                    sums[i][0] = simd.mul_add(element, factors[x - i * P], sums[i][0]);
                }
            }
        }
    }

    /// The same for any kernel.
    #[inline(always)]
    fn sum_any_row<S: Simd, const T: usize>(
        simd: S,
        geometry: &Conv2d,
        weights: &[f32],
        pixel: impl Fn(usize) -> S::Vector,
        sums: &mut [[S::Vector; 1]; T],
    ) {
        for (k, factors) in weights.chunks_exact(S::LANES).enumerate() {
            let factors = simd.load(factors);
            for i in 0..T {
                let element = pixel(i * geometry.stride_w + k * geometry.dilation_w);
                sums[i][0] = simd.mul_add(element, factors, sums[i][0]);
            }
        }
    }
}
