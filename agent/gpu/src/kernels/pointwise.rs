//! Functions of elements: of f32, of bytes by tables, and of one into the other.

use super::{Activated, kernel, overrides, rows};
use crate::engine::{
    build::{Block, Builder, Dispatch, Lowered, Places, size},
    tables::{self, Meets},
};
use whimbrel_infer::{
    CompileError,
    plan::{Binary, BinaryKind, Layout, Operation, QBroadcast, QPair, Quant, Step, Unary},
};

kernel! {
    /// A function of each f32.
    EachFloat = "unary" + ["activation"];
    ..activation: Activated,
    units: u32,
    elements: u32,
}

kernel! {
    /// An operator of two f32 that broadcast.
    TwoFloats = "binary" + ["axes", "activation"];
    ..activation: Activated,
    units: u32,
    axes: u32,
    kind: u32,
    elements: u32,
    first: u32,
    second: u32,
    row_len: u32,
}

kernel! {
    /// A function of two bytes that broadcast.
    TwoBytes = "pair" + ["axes"];
    units: u32,
    axes: u32,
    table_at: u32,
    elements: u32,
    same: bool,
    second_first: bool,
}

kernel! {
    /// A function of each byte.
    EachByte = "table" + [];
    units: u32,
}

overrides! {
    /// A change of layout on the way, as `relay.wgsl` has it.
    Relay;
    relay: u32,
    image_pixels: u32,
    channels: u32,
    elements: u32,
}

kernel! {
    /// f32 to bytes.
    Quantise = "quantise" + ["relay", "divide"];
    ..relay: Relay,
    units: u32,
    scale: f32,
    reciprocal: f32,
    zero: i32,
    low: f32,
    high: f32,
}

kernel! {
    /// Bytes to f32.
    Dequantise = "dequantise" + ["relay"];
    ..relay: Relay,
    units: u32,
    scale: f32,
    zero: i32,
}

kernel! {
    /// Rows of elements at another pitch.
    Repitch = "repitch" + [];
    units: u32,
    from_pitch: u32,
    to_pitch: u32,
    fill: u32,
    elements: u32,
    bytes: bool,
}

kernel! {
    /// Softmax of rows.
    Softmax = "softmax" + [];
    rows: u32,
    row_len: u32,
    logarithm: bool,
    units: u32,
}

kernel! {
    /// Softmax of rows of bytes.
    QSoftmax = "qsoftmax" + ["divide"];
    units: u32,
    row_len: u32,
    elements: u32,
    factor: f32,
    zero: u32,
}

/// Elements of a step's result.
fn elements(b: &Builder<'_>, step: &Step) -> usize {
    step.outputs.first().map_or(0, |id| b.plan.buffer(*id).len())
}

/// The places of a step with one operand, and the elements of its result; nothing where there are none.
pub(super) fn one(b: &Builder<'_>, step: &Step) -> Option<(Places, usize)> {
    let places = Places { x: b.input(step, 0)?, out: b.output(step)?, ..Places::default() };
    let count = elements(b, step);
    (count > 0).then_some((places, count))
}

/// As [`one`], with two operands.
fn two(b: &Builder<'_>, step: &Step) -> Option<(Places, usize)> {
    let (places, count) = one(b, step)?;
    Some((Places { y: b.input(step, 1)?, ..places }, count))
}

/// Rows of `pitches[0]` elements as rows of `pitches[1]`.
pub(super) fn repitch(
    b: &mut Builder<'_>,
    [x, out]: [u32; 2],
    rows: usize,
    pitches: [usize; 2],
    bytes: bool,
) -> Result<Dispatch, CompileError> {
    let elements = size(rows * pitches[1])?;
    let units = if bytes { elements.div_ceil(4) } else { elements };
    let [from_pitch, to_pitch] = [size(pitches[0])?, size(pitches[1])?];
    let kernel = Repitch { units, from_pitch, to_pitch, fill: 0, elements, bytes };
    b.dispatch(kernel, units, Places { x, out, ..Places::default() }, Block::default())
}

/// A function of each f32.
pub(crate) fn unary(b: &mut Builder<'_>, step: &Step, function: Unary) -> Lowered {
    let activation = Activated::from(function);
    let Some((places, count)) = one(b, step).filter(|_| activation.is_usable()) else { return Ok(None) };
    let elements = size(count)?;
    let kernel = EachFloat { activation, units: elements.div_ceil(4), elements };
    Ok(Some(vec![b.dispatch(kernel, kernel.units, places, Block::default())?]))
}

/// A function of each byte.
pub(crate) fn table(b: &mut Builder<'_>, step: &Step, operation: &Operation) -> Lowered {
    let Some((places, count)) = one(b, step) else { return Ok(None) };
    let mut block = Block::default();
    block.bytes(&tables::of_byte(b.tables, operation.clone())?);
    let units = size(count)?.div_ceil(4);
    Ok(Some(vec![b.dispatch(EachByte { units }, units, places, block)?]))
}

/// Axes of a result with the strides of two operands, as `axes.wgsl` has them: neighbours that behave alike are one.
pub(super) fn axes(sizes: &[usize], a: &[usize], b: &[usize]) -> Result<Vec<[u32; 4]>, CompileError> {
    let mut merged: Vec<[usize; 3]> = Vec::new();
    for ((length, a), b) in sizes.iter().zip(a).zip(b).filter(|((length, _), _)| **length != 1) {
        match merged.last_mut() {
            Some([size, x, y]) if *x == a * length && *y == b * length => {
                (*size, *x, *y) = (*size * length, *a, *b);
            }
            _ => merged.push([*length, *a, *b]),
        }
    }
    merged.into_iter().map(|[length, a, b]| Ok([size(length)?, size(a)?, size(b)?, 0])).collect()
}

/// The number of an operator in `binary.wgsl`; none where devices compute it too roughly.
const fn operator(kind: BinaryKind) -> Option<u32> {
    match kind {
        BinaryKind::Add => Some(0),
        BinaryKind::Sub => Some(1),
        BinaryKind::Mul => Some(2),
        BinaryKind::Div => Some(3),
        BinaryKind::Min => Some(4),
        BinaryKind::Max => Some(5),
        BinaryKind::PRelu => Some(6),
        BinaryKind::Pow => None,
    }
}

/// An operator of two f32 that broadcast.
pub(crate) fn binary(b: &mut Builder<'_>, step: &Step, binary: &Binary) -> Lowered {
    let activation = Activated::from(binary.activation);
    let (Some((places, count)), Some(kind)) = (two(b, step), operator(binary.kind)) else {
        return Ok(None);
    };
    if !activation.is_usable() || binary.sizes.iter().product::<usize>() != count {
        return Ok(None);
    }
    let axes = axes(&binary.sizes, &binary.a_strides, &binary.b_strides)?;
    let mut block = Block::default();
    block.words(axes.iter().flatten().copied());
    let elements = size(count)?;
    let kernel = TwoFloats {
        activation,
        units: elements.div_ceil(4),
        axes: size(axes.len())?,
        kind,
        elements,
        first: way(&axes, 1),
        second: way(&axes, 2),
        row_len: axes.last().map_or(1, |axis| axis[0]),
    };
    Ok(Some(vec![b.dispatch(kernel, kernel.units, places, block)?]))
}

/// How `binary.wgsl` reads an operand, whose strides are at this place of the axes.
fn way(axes: &[[u32; 4]], place: usize) -> u32 {
    match axes {
        [] => 1,
        [axis] if axis[place] == 1 => 0,
        _ if axes.iter().all(|axis| axis[place] == 0) => 1,
        [outer, row] if outer[place] == 0 && row[place] == 1 => 2,
        [outer, row] if outer[place] == row[0] && row[place] == 1 => 0,
        _ => 3,
    }
}

/// A sum or product of two byte tensors of one shape.
pub(crate) fn pair(b: &mut Builder<'_>, step: &Step, pair: QPair, sum: bool) -> Lowered {
    let shape = vec![elements(b, step)];
    let same_len = |id: &whimbrel_infer::plan::BufferId| b.plan.buffer(*id).len() == shape[0];
    if !step.inputs.iter().all(same_len) {
        return Ok(None);
    }
    broadcast(b, step, &QBroadcast { pair, sum, shapes: [shape.clone(), shape] })
}

/// Elements to move on per axis: 0 where an operand is repeated.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut step = 1;
    let mut strides: Vec<usize> = shape
        .iter()
        .rev()
        .map(|length| {
            let stride = if *length == 1 { 0 } else { step };
            step *= length;
            stride
        })
        .collect();
    strides.reverse();
    strides
}

/// A sum or product of two byte tensors that broadcast.
pub(crate) fn broadcast(b: &mut Builder<'_>, step: &Step, spec: &QBroadcast) -> Lowered {
    let Some((places, count)) = two(b, step) else { return Ok(None) };
    let QBroadcast { pair, sum, shapes: [first, second] } = spec;
    let sizes: Vec<usize> = first.iter().zip(second).map(|(a, b)| *a.max(b)).collect();
    if first.len() != second.len() || sizes.iter().product::<usize>() != count {
        return Ok(None);
    }
    let axes = axes(&sizes, &strides(first), &strides(second))?;
    // The processor works along rows, in which either operand advances or stands still.
    let meets = match axes.last() {
        Some([_, 0, ..]) => Meets::FirstRepeats,
        Some([_, _, 0, _]) => Meets::SecondRepeats,
        _ => Meets::Same,
    };
    let Some(table) = b.pair_table((*pair, *sum), meets)? else { return Ok(None) };
    let same = axes.len() <= 1 && meets == Meets::Same;
    let mut block = Block::default();
    block.words(axes.iter().flatten().copied());
    let table_at = block.bytes(&table) * 4;
    let elements = size(count)?;
    let kernel = TwoBytes {
        units: elements.div_ceil(4),
        axes: size(axes.len())?,
        table_at,
        elements,
        same,
        second_first: meets == Meets::SecondRepeats,
    };
    Ok(Some(vec![b.dispatch(kernel, kernel.units, places, block)?]))
}

/// The change of layout between a step's operand and its result.
fn relay(b: &Builder<'_>, step: &Step, count: usize) -> Result<Relay, CompileError> {
    let plain = Relay { relay: 0, image_pixels: 1, channels: 1, elements: size(count)? };
    let (Some(from), Some(to)) = (step.inputs.first(), step.outputs.first()) else { return Ok(plain) };
    let (from, to) = (b.plan.buffer(*from), b.plan.buffer(*to));
    let [_, channels, spatial @ ..] = to.shape.as_slice() else { return Ok(plain) };
    let pixels: usize = spatial.iter().product();
    if from.layout == to.layout || spatial.is_empty() || pixels == 1 || *channels == 1 {
        return Ok(plain);
    }
    let relay = if to.layout == Layout::ChannelsLast { 1 } else { 2 };
    Ok(Relay { relay, image_pixels: size(pixels)?, channels: size(*channels)?, ..plain })
}

/// Whether a scale is far enough from the ends of f32 that no product or quotient with it that matters leaves the normal numbers,
/// which devices may take for 0.
pub(super) fn is_plain(scale: f32) -> bool {
    (1e-30..1e30).contains(&scale)
}

/// f32 to bytes.
pub(crate) fn quantise(b: &mut Builder<'_>, step: &Step, quant: Quant) -> Lowered {
    let Some((places, count)) = one(b, step).filter(|_| is_plain(quant.scale)) else { return Ok(None) };
    let zero = i32::from(quant.zero);
    let relay = relay(b, step, count)?;
    let kernel = Quantise {
        relay,
        units: size(count)?.div_ceil(4),
        scale: quant.scale,
        reciprocal: 1.0 / quant.scale,
        zero,
        low: -f32::from(quant.zero),
        high: f32::from(255 - quant.zero),
    };
    Ok(Some(vec![b.dispatch(kernel, kernel.units, places, Block::default())?]))
}

/// Bytes to f32.
pub(crate) fn dequantise(b: &mut Builder<'_>, step: &Step, quant: Quant) -> Lowered {
    let Some((places, count)) = one(b, step).filter(|_| is_plain(quant.scale)) else { return Ok(None) };
    let (relay, units) = (relay(b, step, count)?, size(count)?);
    let kernel = Dequantise { relay, units, scale: quant.scale, zero: i32::from(quant.zero) };
    Ok(Some(vec![b.dispatch(kernel, units, places, Block::default())?]))
}

/// The length of a step's rows.
fn row_len(b: &Builder<'_>, step: &Step) -> usize {
    step.outputs.first().and_then(|id| b.plan.buffer(*id).shape.last().copied()).unwrap_or(1).max(1)
}

/// Softmax of rows of bytes.
pub(crate) fn qsoftmax(b: &mut Builder<'_>, step: &Step, input_scale: f32, output: Quant) -> Lowered {
    let (Some((places, count)), row_len) = (one(b, step), row_len(b, step)) else { return Ok(None) };
    // As the processor makes them: the greatest of a row is so large that the sum of all of them is just a number.
    let scale = f64::from(input_scale);
    let reserve = f64::from(f32::MAX / row_len as f32).ln() - 5.0;
    let offset = reserve.max(0.0) / scale;
    let exponential = |byte: u32| ((f64::from(byte) - 255.0 + offset) * scale).exp() as f32;
    let exponentials: Vec<f32> = (0..256).map(exponential).collect();
    let factor = (1.0 / output.scale).floor();
    let usable = exponentials.iter().all(|e| (e * factor).is_finite()) && exponentials[255].is_normal();
    if !usable || !is_plain(output.scale) {
        return Ok(None);
    }
    let mut block = Block::default();
    block.floats(exponentials);
    let elements = size(count)?;
    let units = elements.div_ceil(4);
    let kernel = QSoftmax { units, row_len: size(row_len)?, elements, factor, zero: u32::from(output.zero) };
    Ok(Some(vec![b.dispatch(kernel, units, places, block)?]))
}

/// Softmax of rows of f32.
pub(crate) fn softmax(b: &mut Builder<'_>, step: &Step, log: bool) -> Lowered {
    let (Some((places, count)), row_len) = (one(b, step), row_len(b, step)) else { return Ok(None) };
    let lines = size(count / row_len)?;
    let kernel = Softmax { rows: lines, row_len: size(row_len)?, logarithm: log, units: size(count)? };
    Ok(Some(vec![b.dispatch_groups(kernel, rows(lines), places, Block::default())?]))
}
