//! Vectors of f32: one interface over the instruction sets, so that a kernel is written once.

use crate::isa::Isa;

/// Floats of the widest vector.
pub(crate) const MAX_LANES: usize = 16;

/// Vectors wide a panel of packed weights is at most.
pub(crate) const MAX_PANEL_VECTORS: usize = 3;

/// Vector arithmetic. A value of an implementing type is the proof that this machine has the instructions.
///
/// The methods are `inline(always)` in every implementation, since they have to end up within a function that is compiled
/// for the instruction set: kernels are entered through [`Simd::call`].
pub(crate) trait Simd: Copy {
    /// One vector.
    type Vector: Copy;

    /// Four elements, of which each is multiplied by whole vectors.
    type Quad<'a>: Copy;

    /// Floats of a vector.
    const LANES: usize;

    /// Rows that one register tile holds, by the vectors that its panel is wide, less one.
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS];

    /// Runs a kernel in a function that is compiled for the instruction set.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    /// The same value in all lanes.
    fn splat(self, value: f32) -> Self::Vector;

    /// The first [`Self::LANES`] elements.
    ///
    /// # Panics
    /// There are fewer.
    fn load(self, from: &[f32]) -> Self::Vector;

    /// Writes the first [`Self::LANES`] elements.
    ///
    /// # Panics
    /// There are fewer.
    fn store(self, vector: Self::Vector, to: &mut [f32]);

    /// [`Self::LANES`] channels of a window's pixel.
    ///
    /// # Panics
    /// The window has no such pixel, or it has not as many.
    fn load_window(self, window: Window<'_>, spot: Spot) -> Self::Vector;

    /// Asks for the cache line of an element, which may lie beyond the slice, to be brought near.
    #[inline(always)]
    fn prefetch(self, _from: &[f32], _index: usize) {}

    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a * b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a / b`.
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a * b + c`, rounded once where the instruction set can.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// Four elements.
    fn quad(self, from: &[f32; 4]) -> Self::Quad<'_>;

    /// One of four elements by `b`, and `c`.
    fn mul_add_lane<const LANE: i32>(
        self,
        quad: Self::Quad<'_>,
        b: Self::Vector,
        c: Self::Vector,
    ) -> Self::Vector;

    /// The greater of the two; `x` where it is not a number.
    fn max(self, bound: Self::Vector, x: Self::Vector) -> Self::Vector;

    /// The lesser of the two; `x` where it is not a number.
    fn min(self, bound: Self::Vector, x: Self::Vector) -> Self::Vector;

    /// The nearest whole number.
    fn round(self, x: Self::Vector) -> Self::Vector;

    /// Two to the power of whole numbers from -126 to 127.
    fn exp2_whole(self, x: Self::Vector) -> Self::Vector;

    /// The first `len` elements, at most [`Self::LANES`], and zeros.
    #[inline(always)]
    fn load_some(self, from: &[f32], len: usize) -> Self::Vector {
        if len == Self::LANES {
            return self.load(from);
        }
        let mut lanes = [0.0; MAX_LANES];
        lanes[..len].copy_from_slice(&from[..len]);
        self.load(&lanes)
    }

    /// Writes the first `len` elements, at most [`Self::LANES`].
    #[inline(always)]
    fn store_some(self, vector: Self::Vector, to: &mut [f32], len: usize) {
        if len == Self::LANES {
            return self.store(vector, to);
        }
        let mut lanes = [0.0; MAX_LANES];
        self.store(vector, &mut lanes);
        to[..len].copy_from_slice(&lanes[..len]);
    }

    /// e to the power of x, to about two units in the last place; NaN stays NaN.
    #[inline(always)]
    fn exp(self, x: Self::Vector) -> Self::Vector {
        let x = self.max(self.splat(-87.3), x);
        let x = self.min(self.splat(88.0), x);
        let whole = self.round(self.mul(x, self.splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first of few bits, so that the difference is exact.
        let rest = self.mul_add(whole, self.splat(-0.693_359_4), x);
        let rest = self.mul_add(whole, self.splat(2.121_944_4e-4), rest);
        let mut sum = self.splat(1.987_569_1e-4);
        for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0] {
            sum = self.mul_add(sum, rest, self.splat(factor));
        }
        self.mul(sum, self.exp2_whole(whole))
    }
}

/// What is compiled once per instruction set. `run` has to be `inline(always)`, and so has all that it calls.
pub(crate) trait Kernel {
    /// What it gives.
    type Output;

    /// Does the work.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Rows of pixels within a slice, at equal distances.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    elements: &'a [f32],
    rows: usize,
    row_step: usize,
    pixels: usize,
    pixel_step: usize,
    channels: usize,
}

impl<'a> Window<'a> {
    /// Some rows, `row_step` elements apart, of some pixels, `pixel_step` elements apart, of some channels.
    ///
    /// # Panics
    /// The slice ends before the last pixel does.
    #[inline(always)]
    pub(crate) fn new(
        elements: &'a [f32],
        (rows, row_step): (usize, usize),
        (pixels, pixel_step): (usize, usize),
        channels: usize,
    ) -> Self {
        let last_row = rows.saturating_sub(1).checked_mul(row_step);
        let last_pixel = pixels.saturating_sub(1).checked_mul(pixel_step);
        let last = last_row.zip(last_pixel).and_then(|(row, pixel)| row.checked_add(pixel));
        let len = last.and_then(|last| last.checked_add(channels));
        assert!(len.is_some_and(|len| len <= elements.len()), "a window beyond its elements");
        Self { elements, rows, row_step, pixels, pixel_step, channels }
    }

    /// Where `len` channels of a pixel start in the elements.
    ///
    /// # Panics
    /// The window has no such pixel, or it has not as many.
    #[inline(always)]
    pub(crate) fn check(self, (row, pixel, channel): Spot, len: usize) -> (&'a [f32], usize) {
        assert!(row < self.rows && pixel < self.pixels, "a pixel beyond its window");
        assert!(channel <= self.channels && len <= self.channels - channel, "a vector beyond its window");
        (self.elements, row * self.row_step + pixel * self.pixel_step + channel)
    }
}

/// A row, pixel and channel of a window.
pub(crate) type Spot = (usize, usize, usize);

/// Runs a kernel with an instruction set.
///
/// # Panics
/// This machine lacks it.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    assert!(isa.is_available(), "this machine lacks {isa}");
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => match crate::x86_64::f32_avx2::Avx2::new() {
            Some(simd) => kernel.run(simd),
            None => kernel.run(Portable),
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => match crate::x86_64::f32_avx512::Avx512::new() {
            Some(simd) => kernel.run(simd),
            None => kernel.run(Portable),
        },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDotprod | Isa::NeonI8mm => match crate::aarch64::f32_neon::Neon::new() {
            Some(simd) => kernel.run(simd),
            None => kernel.run(Portable),
        },
        _ => kernel.run(Portable),
    }
}

/// Arrays, which the compiler turns into the vectors of the architecture's baseline.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const PORTABLE_LANES: usize = 4;

#[inline(always)]
fn map2(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl Simd for Portable {
    type Vector = [f32; PORTABLE_LANES];
    type Quad<'a> = &'a [f32; 4];
    const LANES: usize = PORTABLE_LANES;
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [4, 4, 3];

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        [value; PORTABLE_LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::Vector {
        [from[0], from[1], from[2], from[3]]
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, to: &mut [f32]) {
        to[..PORTABLE_LANES].copy_from_slice(&vector);
    }

    #[inline(always)]
    fn load_window(self, window: Window<'_>, spot: Spot) -> Self::Vector {
        let (elements, start) = window.check(spot, Self::LANES);
        self.load(&elements[start..])
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        map2(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        map2(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        map2(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        self.add(self.mul(a, b), c)
    }

    #[inline(always)]
    fn quad(self, from: &[f32; 4]) -> &[f32; 4] {
        from
    }

    #[inline(always)]
    fn mul_add_lane<const LANE: i32>(
        self,
        quad: &[f32; 4],
        b: Self::Vector,
        c: Self::Vector,
    ) -> Self::Vector {
        self.mul_add(self.splat(quad[LANE as usize]), b, c)
    }

    #[inline(always)]
    fn max(self, bound: Self::Vector, x: Self::Vector) -> Self::Vector {
        map2(bound, x, |bound, x| if bound > x { bound } else { x })
    }

    #[inline(always)]
    fn min(self, bound: Self::Vector, x: Self::Vector) -> Self::Vector {
        map2(bound, x, |bound, x| if bound < x { bound } else { x })
    }

    #[inline(always)]
    fn round(self, x: Self::Vector) -> Self::Vector {
        map2(x, x, |x, _| x.round_ties_even())
    }

    #[inline(always)]
    fn exp2_whole(self, x: Self::Vector) -> Self::Vector {
        #[allow(clippy::cast_possible_truncation, reason = "whole and small, or not a number and then zero")]
        map2(x, x, |x, _| f32::from_bits(((x as i32).wrapping_add(127) as u32) << 23))
    }
}
