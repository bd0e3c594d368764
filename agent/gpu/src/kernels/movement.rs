//! Elements at other places: concatenation, transposition, resizing.

use super::{
    kernel,
    pointwise::{axes, one},
};
use crate::engine::{
    build::{Block, Builder, Lowered, Places, size},
    tables,
};
use whimbrel_infer::{
    CompileError,
    plan::{Resize, Step},
};

kernel! {
    /// One after another within blocks.
    Concat = "concat" + [];
    units: u32,
    inputs: u32,
    whole: u32,
    elements: u32,
    bytes: bool,
}

kernel! {
    /// Axes in another order.
    Transpose = "transpose" + ["axes"];
    units: u32,
    axes: u32,
    elements: u32,
    bytes: bool,
}

kernel! {
    /// Each element taken from one of the input.
    Nearest = "nearest" + [];
    units: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    channels: u32,
    elements: u32,
    bytes: bool,
}

kernel! {
    /// Mixed from four neighbours.
    Linear = "linear" + [];
    units: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    channels: u32,
}

/// What an element is moved as: bytes or words, and how many of them.
fn pieces(b: &Builder<'_>, step: &Step) -> Option<(bool, usize)> {
    let bytes = b.plan.buffer(*step.outputs.first()?).datatype.size_bytes()?;
    Some(if bytes.is_multiple_of(4) { (false, bytes / 4) } else { (true, bytes) })
}

/// Invocations for so many bytes or words.
fn units(bytes: bool, elements: usize) -> Result<u32, CompileError> {
    size(if bytes { elements.div_ceil(4) } else { elements })
}

/// Tensors one after another: `outer` blocks, of each input `inner[i]` elements.
pub(crate) fn concat(b: &mut Builder<'_>, step: &Step, outer: usize, inner: &[usize]) -> Lowered {
    let (Some(out), Some((bytes, parts))) = (b.output(step), pieces(b, step)) else { return Ok(None) };
    let whole: usize = inner.iter().sum::<usize>() * parts;
    if whole * outer == 0 {
        return Ok(None);
    }
    let (mut block, mut start) = (Block::default(), 0);
    let mut entries = Vec::new();
    for (index, inner) in inner.iter().enumerate() {
        let Some(place) = b.input(step, index) else { return Ok(None) };
        entries.extend([size(start)?, size(inner * parts)?, place, 0]);
        start += inner * parts;
    }
    block.words(entries);
    let kernel = Concat {
        units: units(bytes, whole * outer)?,
        inputs: size(inner.len())?,
        whole: size(whole)?,
        elements: size(whole * outer)?,
        bytes,
    };
    Ok(Some(vec![b.dispatch(kernel, kernel.units, Places { out, ..Places::default() }, block)?]))
}

/// Axes in another order.
pub(crate) fn transpose(b: &mut Builder<'_>, step: &Step, sizes: &[usize], order: &[usize]) -> Lowered {
    let (Some((places, count)), Some((bytes, parts))) = (one(b, step), pieces(b, step)) else {
        return Ok(None);
    };
    let stride = |axis: usize| sizes[axis + 1..].iter().product::<usize>() * parts;
    let mut made: Vec<usize> = order.iter().map(|axis| sizes[*axis]).collect();
    let mut strides: Vec<usize> = order.iter().map(|axis| stride(*axis)).collect();
    if made.iter().product::<usize>() != count {
        return Ok(None);
    }
    made.push(parts);
    strides.push(1);
    let axes = axes(&made, &strides, &strides)?;
    let mut block = Block::default();
    block.words(axes.iter().flatten().copied());
    let elements = count * parts;
    let kernel = Transpose {
        units: size(elements)?.div_ceil(4),
        axes: size(axes.len())?,
        elements: size(elements)?,
        bytes,
    };
    Ok(Some(vec![b.dispatch(kernel, kernel.units, places, block)?]))
}

/// Channels-last images at another size.
pub(crate) fn resize(b: &mut Builder<'_>, step: &Step, spec: &Resize) -> Lowered {
    let (Some((places, count)), Some((bytes, parts))) = (one(b, step), pieces(b, step)) else {
        return Ok(None);
    };
    let [_, height, width, channels] = spec.input;
    let [in_h, in_w] = [size(height)?, size(width)?];
    let [out_h, out_w] = [size(spec.output[0])?, size(spec.output[1])?];
    let mut block = Block::default();
    if !spec.linear {
        let mut maps = tables::nearest(b.tables, spec, 0)?;
        maps.extend(tables::nearest(b.tables, spec, 1)?);
        block.words(maps);
        let channels = size(channels * parts)?;
        let elements = size(count * parts)?;
        let units = units(bytes, count * parts)?;
        let kernel = Nearest { units, in_h, in_w, out_h, out_w, channels, elements, bytes };
        return Ok(Some(vec![b.dispatch(kernel, units, places, block)?]));
    }
    let (rows, columns) = (tables::linear(b.tables, spec, 0)?, tables::linear(b.tables, spec, 1)?);
    let (Some(rows), Some(columns), false) = (rows, columns, bytes) else { return Ok(None) };
    let words = |(at, weight): tables::Mix| [at[0], at[1], weight[0].to_bits(), weight[1].to_bits()];
    block.words(rows.into_iter().chain(columns).flat_map(words));
    let units = size(count)?;
    let kernel = Linear { units, in_h, in_w, out_h, out_w, channels: size(channels)? };
    Ok(Some(vec![b.dispatch(kernel, units, places, block)?]))
}
