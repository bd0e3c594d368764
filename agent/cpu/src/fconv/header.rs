//! A layer as plain numbers, for a plan cache.

use super::activation::Activation;
use crate::{geometry::Conv2d, isa::Isa};

/// Says what the numbers and the packed data after them mean: another number, another layout.
const VERSION: u64 = 0x6663_6f6e_7600_0002;

/// Pixels, channels and other sizes are below this, so that sums of a few of them fit 32 bits.
const SIZE_MAX: usize = 1 << 28;

/// The version, the instruction set, 16 sizes, the activation, the residual, whether the weights are finite.
const WORDS: usize = 2 + 16 + 3 + 2;

/// What a layer is besides its packed data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) geometry: Conv2d,
    pub(super) activation: Activation,
    pub(super) residual: bool,
    /// Whether all weights are finite numbers.
    pub(super) finite: bool,
}

/// Writes a layer's numbers.
pub(super) fn write(isa: Isa, header: &Header) -> Vec<u64> {
    let mut words = vec![VERSION, isa_word(isa)];
    words.extend(sizes(&header.geometry).map(|size| size as u64));
    words.extend(header.activation.to_words());
    words.extend([u64::from(header.residual), u64::from(header.finite)]);
    words
}

/// Reads them; `None` where they are not of a layer for this instruction set or the machine lacks it.
pub(super) fn read(isa: Isa, words: &[u64]) -> Option<Header> {
    if words.len() != WORDS || words[0] != VERSION || words[1] != isa_word(isa) || !isa.is_available() {
        return None;
    }
    let mut sizes = [0; 16];
    for (size, word) in sizes.iter_mut().zip(&words[2..]) {
        *size = usize::try_from(*word).ok()?;
    }
    let geometry = geometry_of(sizes);
    let activation = Activation::from_words([words[18], words[19], words[20]])?;
    let flags = words[21] <= 1 && words[22] <= 1;
    (is_valid(&geometry) && flags).then_some(Header {
        geometry,
        activation,
        residual: words[21] == 1,
        finite: words[22] == 1,
    })
}

fn isa_word(isa: Isa) -> u64 {
    Isa::ALL.iter().position(|other| *other == isa).unwrap_or(usize::MAX) as u64
}

fn sizes(geometry: &Conv2d) -> [usize; 16] {
    let &Conv2d {
        batch,
        in_h,
        in_w,
        in_c,
        out_c,
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        dilation_h,
        dilation_w,
        pad: [top, left, bottom, right],
        groups,
    } = geometry;
    [
        batch, in_h, in_w, in_c, out_c, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, top,
        left, bottom, right, groups,
    ]
}

const fn geometry_of(sizes: [usize; 16]) -> Conv2d {
    let [batch, in_h, in_w, in_c, out_c, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, ..] =
        sizes;
    let [.., top, left, bottom, right, groups] = sizes;
    Conv2d {
        batch,
        in_h,
        in_w,
        in_c,
        out_c,
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        dilation_h,
        dilation_w,
        pad: [top, left, bottom, right],
        groups,
    }
}

/// Whether a geometry's sizes make sense and its tensors fit the memory.
pub(super) fn is_valid(geometry: &Conv2d) -> bool {
    let sizes = sizes(geometry);
    let positive = sizes[..11].iter().chain(&sizes[15..]).all(|size| *size > 0);
    if !positive || sizes.iter().any(|size| *size >= SIZE_MAX) {
        return false;
    }
    let span = |kernel: usize, dilation: usize| (kernel as u64 - 1) * dilation as u64;
    let spans = [span(sizes[5], sizes[9]), span(sizes[6], sizes[10])];
    if spans.iter().any(|span| *span >= SIZE_MAX as u64) {
        return false;
    }
    let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let fits = |sizes: &[usize]| product(sizes).is_some_and(|len| len < isize::MAX as usize / 16);
    geometry.in_c.is_multiple_of(geometry.groups)
        && geometry.out_c.is_multiple_of(geometry.groups)
        && fits(&[geometry.batch, geometry.in_h, geometry.in_w, geometry.in_c])
        && fits(&[geometry.batch, geometry.out_h(), geometry.out_w(), geometry.out_c])
        && fits(&[geometry.out_c, geometry.in_c / geometry.groups, geometry.kernel_h, geometry.kernel_w])
}
