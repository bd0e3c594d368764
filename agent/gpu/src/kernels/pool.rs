//! Windows over channels-last data.

use super::{kernel, overrides, pointwise};
use crate::engine::build::{Block, Builder, Lowered, size};
use whimbrel_infer::{
    CompileError,
    plan::{Pool, Quant, Step},
};

overrides! {
    /// Windows, as `pool.wgsl` and `qpool.wgsl` have them.
    Windows;
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    pad_top: u32,
    pad_left: u32,
    count_padding: bool,
    channels: u32,
    elements: u32,
}

kernel! {
    /// The greatest or the mean.
    Pooling = "pool" + [];
    ..windows: Windows,
    units: u32,
    counted_h: u32,
    counted_w: u32,
    mean: bool,
    bytes: bool,
}

kernel! {
    /// The mean of whole images of bytes.
    QMean = "qmean" + [];
    units: u32,
    image_pixels: u32,
    channels: u32,
    elements: u32,
    input_zero: i32,
    factor: f32,
    zero: i32,
    low: f32,
    high: f32,
}

kernel! {
    /// The mean of bytes.
    QPooling = "qpool" + ["divide"];
    ..windows: Windows,
    units: u32,
    scale: f32,
    zero: f32,
    low: f32,
    high: f32,
    shift: i32,
}

impl Windows {
    fn of(pool: &Pool, elements: u32) -> Result<Self, CompileError> {
        let [_, in_h, in_w, channels] = pool.input;
        let [top, left, ..] = pool.pads;
        Ok(Self {
            in_h: size(in_h)?,
            in_w: size(in_w)?,
            out_h: size(pool.output[0])?,
            out_w: size(pool.output[1])?,
            kernel_h: size(pool.kernel[0])?,
            kernel_w: size(pool.kernel[1])?,
            stride_h: size(pool.strides[0])?,
            stride_w: size(pool.strides[1])?,
            dilation_h: size(pool.dilations[0])?,
            dilation_w: size(pool.dilations[1])?,
            pad_top: size(top)?,
            pad_left: size(left)?,
            count_padding: pool.count_padding,
            channels: size(channels)?,
            elements,
        })
    }
}

/// The greatest within windows of f32 or bytes, or the mean of f32.
pub(crate) fn pool(b: &mut Builder<'_>, step: &Step, pool: &Pool, mean: bool) -> Lowered {
    let Some((places, count)) = pointwise::one(b, step) else { return Ok(None) };
    let bytes = step.outputs.first().and_then(|id| b.plan.buffer(*id).datatype.size_bytes()) == Some(1);
    let [images, in_h, in_w, channels] = pool.input;
    if images * in_h * in_w * channels == 0 {
        return Ok(None);
    }
    let [top, left, bottom, right] = pool.pads;
    let elements = size(count)?;
    let kernel = Pooling {
        windows: Windows::of(pool, elements)?,
        units: if bytes { elements.div_ceil(4) } else { elements },
        counted_h: size(top + in_h + bottom)?,
        counted_w: size(left + in_w + right)?,
        mean,
        bytes,
    };
    Ok(Some(vec![b.dispatch(kernel, kernel.units, places, Block::default())?]))
}

/// The mean within windows of bytes.
pub(crate) fn qpool(
    b: &mut Builder<'_>,
    step: &Step,
    pool: &Pool,
    ([input, output], signed): ([Quant; 2], bool),
) -> Lowered {
    let plain = pointwise::is_plain(input.scale) && pointwise::is_plain(output.scale);
    let Some((places, count)) = pointwise::one(b, step).filter(|_| plain) else { return Ok(None) };
    if pool.input.contains(&0) {
        return Ok(None);
    }
    let number = |byte: i32| (byte - i32::from(input.zero)) as f32 * input.scale;
    let mut block = Block::default();
    block.floats((0..256).map(number));
    let elements = size(count)?;
    let shift = if signed { 128 } else { 0 };
    let kernel = QPooling {
        windows: Windows::of(pool, elements)?,
        units: elements.div_ceil(4),
        scale: output.scale,
        zero: (i32::from(output.zero) - shift) as f32,
        low: -shift as f32,
        high: (255 - shift) as f32,
        shift,
    };
    Ok(Some(vec![b.dispatch(kernel, kernel.units, places, block)?]))
}

/// The mean of whole images of bytes.
pub(crate) fn mean(b: &mut Builder<'_>, step: &Step, pool: &Pool, [input, output]: [Quant; 2]) -> Lowered {
    let Some((places, count)) = pointwise::one(b, step) else { return Ok(None) };
    let [_, height, width, channels] = pool.input;
    let (pixels, elements) = (height * width, size(count)?);
    let factor = input.scale / (output.scale * pixels as f32);
    if !factor.is_finite() || pixels * channels == 0 {
        return Ok(None);
    }
    let kernel = QMean {
        units: elements.div_ceil(4),
        image_pixels: size(pixels)?,
        channels: size(channels)?,
        elements,
        input_zero: i32::from(input.zero),
        factor,
        zero: i32::from(output.zero),
        low: -f32::from(output.zero),
        high: f32::from(255 - output.zero),
    };
    Ok(Some(vec![b.dispatch(kernel, kernel.units, places, Block::default())?]))
}
