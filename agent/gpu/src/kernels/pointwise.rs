//! Functions of elements: of f32, of bytes by tables, and of one into the other.

use super::{Activated, kernel, overrides, rows};
use crate::engine::{
    build::{Block, Builder, Dispatch, Lowered, Places, size},
    tables::{self, Meets},
};
use whimbrel_infer::{
    CompileError,
    plan::{Binary, BinaryKind, Layout, Operation, Place, QBroadcast, QPair, Quant, Step, Unary},
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
    TwoBytes = "pair" + ["axes", "qpair"];
    ..pair: Pair,
    units: u32,
    axes: u32,
    elements: u32,
    same: bool,
}

overrides! {
    /// A sum or product of bytes, as `qpair.wgsl` has it.
    Pair;
    pair_sum: bool,
    pair_a_zero: f32,
    pair_b_zero: f32,
    pair_a_ratio: f32,
    pair_b_ratio: f32,
    pair_zero: f32,
    pair_low: f32,
    pair_high: f32,
    pair_doubt: f32,
    pair_table: u32,
    pair_second_first: bool,
}

impl Pair {
    /// Of what the bytes mean, with the table of all results from this word of the constants on.
    pub(super) fn of(pair: &QPair, sum: bool, table: u32, second_first: bool) -> Self {
        let [a, b] = if sum {
            [pair.a.scale / pair.out.scale, pair.b.scale / pair.out.scale]
        } else {
            [pair.a.scale * pair.b.scale / pair.out.scale, 0.0]
        };
        // All that is added up, twice, by eight times the rounding of f32: more than any order of steps is off by.
        let greatest = if sum { 256.0 * (a.abs() + b.abs()) } else { 65_536.0 * a.abs() };
        let doubt = 2.0 * (greatest + 512.0) / 1_048_576.0;
        let plain = a.is_finite() && b.is_finite() && doubt < 0.5;
        Self {
            pair_sum: sum,
            pair_a_zero: pair.a.zero.into(),
            pair_b_zero: pair.b.zero.into(),
            pair_a_ratio: if plain { a } else { 0.0 },
            pair_b_ratio: if plain { b } else { 0.0 },
            pair_zero: pair.out.zero.into(),
            pair_low: pair.min.into(),
            pair_high: pair.max.max(pair.min).into(),
            // Beyond the distance of any number from its nearest integer: the table has every answer.
            pair_doubt: if plain { doubt } else { 1.0 },
            pair_table: table,
            pair_second_first: second_first,
        }
    }
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
    if let Some(list) = with_one(b, step, spec)? {
        return Ok(Some(list));
    }
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
        pair: Pair::of(pair, *sum, table_at, meets == Meets::SecondRepeats),
        units: elements.div_ceil(4),
        axes: size(axes.len())?,
        elements,
        same,
    };
    Ok(Some(vec![b.dispatch(kernel, kernel.units, places, block)?]))
}

/// A sum or product with one constant byte: a function of the other operand's.
fn with_one(b: &mut Builder<'_>, step: &Step, spec: &QBroadcast) -> Lowered {
    let Some((_, count)) = two(b, step) else { return Ok(None) };
    let one = |place: usize| match &b.plan.buffer(*step.inputs.get(place)?).place {
        Place::Constant(tensor) if tensor.len() == 1 => tensor.as_le_bytes()?.first().copied(),
        _ => None,
    };
    let (byte, other, meets) = match (one(0), one(1)) {
        (_, Some(byte)) => (byte, 0, Meets::SecondRepeats),
        (Some(byte), None) => (byte, 1, Meets::FirstRepeats),
        (None, None) => return Ok(None),
    };
    let whole = step.inputs.get(other).is_some_and(|id| b.plan.buffer(*id).len() == count);
    let (Some(x), Some(out), true) = (b.input(step, other), b.output(step), whole) else { return Ok(None) };
    let table = tables::of_pair(b.tables, (spec.pair, spec.sum), meets)?;
    let mut block = Block::default();
    block.bytes(&table[usize::from(byte) * 256..][..256]);
    let units = size(count)?.div_ceil(4);
    let places = Places { x, out, ..Places::default() };
    Ok(Some(vec![b.dispatch(EachByte { units }, units, places, block)?]))
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
