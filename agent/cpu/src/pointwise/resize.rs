//! Nearest and linear resizing of channels-last images, with the coordinates and the rounding of ONNX
//! Runtime.

use super::multiversion;
use std::ops::Range;

/// How an output place is mapped to the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// (x + 1/2) / scale - 1/2.
    HalfPixel,
    /// As the former, but 0 where the output has one pixel.
    PytorchHalfPixel,
    /// As the first, with the input's centre kept where the size was rounded.
    HalfPixelSymmetric,
    /// x / scale.
    Asymmetric,
    /// x * (input - 1) / (output - 1).
    AlignCorners,
    /// (x + 1/2) / scale, of older models.
    TfHalfPixel,
}

/// How a place between pixels becomes one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearest {
    /// The nearest, the lower of two.
    RoundPreferFloor,
    /// The nearest, the upper of two.
    RoundPreferCeil,
    /// The one below.
    Floor,
    /// The one above.
    Ceil,
    /// The one below, or that above when the image shrinks: models before opset 11.
    Simple,
}

/// One axis of a resizing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    /// Pixels of the input.
    pub input: usize,
    /// Pixels of the output.
    pub output: usize,
    /// The scale the model states, or `output / input`.
    pub scale: f32,
    /// The mapping.
    pub coordinates: Coordinates,
}

impl Axis {
    /// The place in the input of place `at` of the output.
    #[must_use]
    pub fn original(&self, at: usize) -> f32 {
        let (x, input, output) = (at as f32, self.input as f32, self.output as f32);
        if self.scale == 1.0 {
            return x;
        }
        match self.coordinates {
            Coordinates::PytorchHalfPixel if self.output <= 1 => 0.0,
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => (x + 0.5) / self.scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = output / (self.scale * input);
                let offset = input / 2.0 * (1.0 - adjustment);
                (f64::from(offset) + (f64::from(x) + 0.5) / f64::from(self.scale) - 0.5) as f32
            }
            Coordinates::Asymmetric => x / self.scale,
            Coordinates::AlignCorners if self.output == 1 => 0.0,
            Coordinates::AlignCorners => x * (input - 1.0) / (output - 1.0),
            Coordinates::TfHalfPixel => (x + 0.5) / self.scale,
        }
    }

    /// The input pixel of each output pixel.
    #[must_use]
    pub fn nearest(&self, mode: Nearest) -> Vec<u32> {
        /// How far from one half a fraction still counts as a tie, as rounding of the scale shifts ties.
        const TIE: f32 = 1e-6;
        let of = |at: usize| {
            let place = self.original(at);
            let is_tie = (place - place.floor() - 0.5).abs() <= TIE;
            let pixel = match mode {
                Nearest::RoundPreferFloor if is_tie => place.floor(),
                Nearest::RoundPreferCeil if is_tie => place.floor() + 1.0,
                Nearest::RoundPreferFloor | Nearest::RoundPreferCeil => place.round(),
                Nearest::Floor => place.floor(),
                Nearest::Ceil => place.ceil(),
                Nearest::Simple if self.scale < 1.0 => place.ceil(),
                Nearest::Simple => place.trunc(),
            };
            pixel.clamp(0.0, self.input.saturating_sub(1) as f32) as u32
        };
        (0..self.output).map(of).collect()
    }

    /// The two input pixels between which each output pixel lies, and their weights.
    #[must_use]
    pub fn linear(&self) -> Vec<Between> {
        let last = self.input.saturating_sub(1);
        let of = |at: usize| {
            let place = self.original(at).min(last as f32).max(0.0);
            let low = (place as usize).min(last);
            let high = (low + 1).min(last);
            let fixed = (place * 1024.0) as i32;
            let mut between = Between {
                pixels: [low as u32, high as u32],
                weights: [(place - high as f32).abs(), (place - low as f32).abs()],
                fixed: [(fixed - high as i32 * 1024).abs(), (fixed - low as i32 * 1024).abs()],
            };
            if low == high {
                (between.weights, between.fixed) = ([0.5; 2], [512; 2]);
            }
            between
        };
        (0..self.output).map(of).collect()
    }
}

/// Between which input pixels an output pixel lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Between {
    /// The two.
    pub pixels: [u32; 2],
    /// Their weights.
    pub weights: [f32; 2],
    /// Their weights for quantised elements, in units of 1/1024, cut off.
    pub fixed: [i32; 2],
}

/// A linear resizing of channels-last images.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    channels: usize,
    input: [usize; 2],
    rows: Vec<Between>,
    columns: Vec<Between>,
    /// What is subtracted from quantised elements to get the model's own: 128 for int8.
    shift: i32,
    fixed: bool,
}

impl Linear {
    /// Down and across. `signed` says whether quantised elements are int8; it does not matter to f32.
    ///
    /// `fixed` is whether quantised elements are weighted in fixed point. ONNX Runtime does so where the
    /// model's own layout is channels-last and the height changes; otherwise in f32, and cuts the result off.
    #[must_use]
    pub fn new(channels: usize, axes: [Axis; 2], signed: bool, fixed: bool) -> Self {
        Self {
            channels,
            input: [axes[0].input, axes[1].input],
            rows: axes[0].linear(),
            columns: axes[1].linear(),
            shift: if signed { 128 } else { 0 },
            fixed,
        }
    }

    /// Elements of an output row.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.columns.len() * self.channels
    }

    /// Calls `pixel` with the four input pixels around each output pixel, and its channels.
    #[inline(always)]
    fn for_pixels<T>(
        &self,
        input: &[T],
        rows: Range<usize>,
        output: &mut [T],
        mut pixel: impl FnMut([&[T]; 4], &Between, &Between, &mut [T]),
    ) {
        assert_eq!(output.len(), rows.len() * self.row_len(), "the output holds its rows");
        if output.is_empty() {
            return;
        }
        let image_len = self.input[0] * self.input[1] * self.channels;
        for (row, output) in rows.zip(output.chunks_exact_mut(self.row_len())) {
            let image = &input[row / self.rows.len() * image_len..][..image_len];
            let y = &self.rows[row % self.rows.len()];
            let at = |y: u32, x: u32| {
                &image[(y as usize * self.input[1] + x as usize) * self.channels..][..self.channels]
            };
            for (x, output) in self.columns.iter().zip(output.chunks_exact_mut(self.channels)) {
                let ([top, bottom], [left, right]) = (y.pixels, x.pixels);
                pixel([at(top, left), at(top, right), at(bottom, left), at(bottom, right)], y, x, output);
            }
        }
    }
}

fn products(y: &Between, x: &Between) -> [f32; 4] {
    let ([top, bottom], [left, right]) = (y.weights, x.weights);
    [top * left, top * right, bottom * left, bottom * right]
}

multiversion! {
    /// Linear resizing of f32; `input` holds all images, `rows` are output rows counted through all of them.
    ///
    /// # Panics
    /// The slices are shorter than the resizing says.
    pub fn linear(spec: &Linear, input: &[f32], rows: Range<usize>, output: &mut [f32]) {
        spec.for_pixels(input, rows, output, #[inline(always)] |[a, b, c, d], y, x, output| {
            let [wa, wb, wc, wd] = products(y, x);
            for ((((out, a), b), c), d) in output.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *out = a * wa + b * wb + c * wc + d * wd;
            }
        });
    }

    /// Linear resizing of quantised elements; slices as for [`linear`].
    ///
    /// # Panics
    /// The slices are shorter than the resizing says.
    pub fn linear_u8(spec: &Linear, input: &[u8], rows: Range<usize>, output: &mut [u8]) {
        spec.for_pixels(input, rows, output, #[inline(always)] |[a, b, c, d], y, x, output| {
            let of = |element: &u8| i32::from(*element) - spec.shift;
            if spec.fixed {
                let ([top, bottom], [left, right]) = (y.fixed, x.fixed);
                let [wa, wb, wc, wd] = [top * left, top * right, bottom * left, bottom * right];
                for ((((out, a), b), c), d) in output.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    let sum = wa * of(a) + wb * of(b) + wc * of(c) + wd * of(d);
                    *out = (sum / (1 << 20) + spec.shift) as u8;
                }
            } else {
                let [wa, wb, wc, wd] = products(y, x);
                for ((((out, a), b), c), d) in output.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    let sum = of(a) as f32 * wa + of(b) as f32 * wb + of(c) as f32 * wc + of(d) as f32 * wd;
                    *out = (sum as i32 + spec.shift) as u8;
                }
            }
        });
    }
}

/// Nearest resizing: `maps` are the input rows and columns of the output's, from [`Axis::nearest`]; `shape`
/// the rows, columns and channels of an input image. `input` holds all images, `rows` are output rows counted
/// through all of them.
///
/// # Panics
/// The slices are shorter than the resizing says, or the maps reach beyond the input.
pub fn nearest<T: Copy>(
    maps: [&[u32]; 2],
    shape: [usize; 3],
    input: &[T],
    rows: Range<usize>,
    output: &mut [T],
) {
    let [down, across] = maps;
    let [height, width, channels] = shape;
    let row_len = across.len() * channels;
    assert_eq!(output.len(), rows.len() * row_len, "the output holds its rows");
    if output.is_empty() {
        return;
    }
    for (row, output) in rows.zip(output.chunks_exact_mut(row_len)) {
        let (image, y) = (row / down.len(), down[row % down.len()] as usize);
        let from = &input[(image * height + y) * width * channels..][..width * channels];
        for (x, output) in across.iter().zip(output.chunks_exact_mut(channels)) {
            output.copy_from_slice(&from[*x as usize * channels..][..channels]);
        }
    }
}
