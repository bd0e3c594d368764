//! Convolutions of bytes.

use super::{
    conv::{Lanes, Tile, Window},
    kernel, overrides,
    pointwise::{self, Pair},
};
use crate::engine::{
    build::{Block, Builder, Dispatch, Lowered, Places, size},
    tables::Meets,
};
use whimbrel_infer::{
    CompileError,
    plan::{Conv2d, QConv, QConvOutput, QResidual, Step},
};

kernel! {
    /// Dense, or in groups.
    QDense = "qdense" + ["window", "qpair", "qfinish", "qsums"];
    ..window: Window,
    ..finish: Finish,
    ..pair: Pair,
    ..tile: Tile,
    units: u32,
    in_words: u32,
    group_words: u32,
    group_blocks: u32,
    zero_word: u32,
    parts: u32,
}

kernel! {
    /// Dense, lanes sharing pixels.
    QDenseLanes = "qdense_lanes" + ["window", "lanes", "qpair", "qfinish", "qsums"];
    ..window: Window,
    ..finish: Finish,
    ..pair: Pair,
    ..lanes: Lanes,
    in_words: u32,
    zero_word: u32,
    parts: u32,
    units: u32,
}

kernel! {
    /// Each channel on its own.
    QDepthwise = "qdepthwise" + ["window", "qpair", "qfinish"];
    ..window: Window,
    ..finish: Finish,
    ..pair: Pair,
    units: u32,
    input_zero: i32,
    parts: u32,
    tiles: u32,
    slides: bool,
}

overrides! {
    /// What becomes of sums, as `qfinish.wgsl` has it.
    Finish;
    finish: u32,
    zero: i32,
    low: f32,
    high: f32,
    residual: u32,
    out_blocks: u32,
    bias_at: u32,
    multiplier_at: u32,
    offset_at: u32,
}

/// Channels filled up to whole words, group by group.
#[derive(Debug, Clone, Copy)]
struct Channels {
    /// Groups on each side; depthwise, where all channels lie as one.
    groups: usize,
    /// Input channels of a group, and what they are filled up to.
    input: [usize; 2],
    /// Output channels of a group, and what they are filled up to.
    output: [usize; 2],
}

impl Channels {
    fn of(conv: &Conv2d) -> Self {
        let groups = if conv.is_depthwise() { 1 } else { conv.groups.max(1) };
        let filled = |channels: usize| [channels / groups, (channels / groups).next_multiple_of(4)];
        Self { groups, input: filled(conv.in_c), output: filled(conv.out_c) }
    }

    fn out_filled(&self) -> usize {
        self.groups * self.output[1]
    }

    /// Values of output channels at their filled-up places.
    fn spread<T: Copy + Default>(&self, values: impl Fn(usize) -> T) -> Vec<T> {
        let [channels, filled] = self.output;
        let mut spread = vec![T::default(); self.out_filled()];
        for channel in 0..self.groups * channels {
            spread[channel / channels * filled + channel % channels] = values(channel);
        }
        spread
    }
}

/// A convolution of bytes as dispatches.
pub(crate) fn qconv(b: &mut Builder<'_>, step: &Step, conv: &QConv) -> Lowered {
    let (Some(x), Some(out)) = (b.input(step, 0), b.output(step)) else { return Ok(None) };
    let (geometry, channels) = (&conv.geometry, Channels::of(&conv.geometry));
    if geometry.out_len() == 0 || geometry.in_len() == 0 || !has_finite_factors(&conv.output) {
        return Ok(None);
    }
    let table = match residual(&conv.output) {
        Some(residual) => match b.pair_table((residual.pair, true), Meets::Same)? {
            Some(table) => table,
            None => return Ok(None),
        },
        None => Vec::new(),
    };
    let mut list = Vec::new();
    let in_rows = geometry.batch * geometry.in_h * geometry.in_w * channels.groups;
    let out_rows = geometry.out_pixels() * channels.groups;
    let x = widened(b, &mut list, (x, in_rows, channels.input))?;
    let y = match b.input(step, 1) {
        Some(y) => widened(b, &mut list, (y, out_rows, channels.output))?,
        None => 0,
    };
    let element_bytes = if matches!(conv.output, QConvOutput::Bytes { .. }) { 1 } else { 4 };
    let [plain, filled] = channels.output;
    let made = if plain == filled { out } else { b.scratch(out_rows * filled * element_bytes) };
    let places = Places { x, y, out: made, constants: 0 };
    let weights = conv.weights.get().map_err(|why| CompileError::Failed { why })?;
    list.push(if geometry.is_depthwise() {
        depthwise(b, (conv, &table), &channels, &weights, places)?
    } else {
        dense(b, (conv, &table), &channels, &weights, places)?
    });
    if plain != filled {
        let pitches = [filled, plain];
        list.push(pointwise::repitch(b, [made, out], out_rows, pitches, element_bytes == 1)?);
    }
    Ok(Some(list))
}

/// What is added to the bytes in the end.
const fn residual(output: &QConvOutput) -> Option<&QResidual> {
    match output {
        QConvOutput::Bytes { residual: Some(residual), .. } => Some(residual),
        _ => None,
    }
}

/// Multipliers that are constants in a shader must be numbers.
fn has_finite_factors(output: &QConvOutput) -> bool {
    match output {
        QConvOutput::Bytes { multiplier, .. } | QConvOutput::Floats { multiplier, .. } => {
            multiplier.iter().all(|factor| factor.is_finite())
        }
        QConvOutput::Sums => true,
    }
}

/// Rows of bytes filled up to whole words; where they are already, nothing is done.
fn widened(
    b: &mut Builder<'_>,
    list: &mut Vec<Dispatch>,
    (from, rows, pitches): (u32, usize, [usize; 2]),
) -> Result<u32, CompileError> {
    if pitches[0] == pitches[1] {
        return Ok(from);
    }
    let to = b.scratch(rows * pitches[1]);
    list.push(pointwise::repitch(b, [from, to], rows, pitches, true)?);
    Ok(to)
}

/// Summands of a weight in int8.
fn part(weight: i16, index: usize) -> i8 {
    let mut rest = weight;
    for _ in 0..index {
        rest -= rest.clamp(-128, 127);
    }
    rest.clamp(-128, 127) as i8
}

/// How many summands in int8 the weights need.
fn parts(weights: &[i16]) -> usize {
    let needs = |weight: &i16| (1..).find(|count| part(*weight, *count) == 0).unwrap_or(1);
    weights.iter().map(needs).max().unwrap_or(1)
}

fn dense(
    b: &mut Builder<'_>,
    (conv, table): (&QConv, &[u8]),
    channels: &Channels,
    weights: &[i16],
    places: Places,
) -> Result<Dispatch, CompileError> {
    let geometry = &conv.geometry;
    let [in_plain, in_filled] = channels.input;
    let (taps, parts) = (geometry.kernel_h * geometry.kernel_w, parts(weights));
    let (group_words, blocks) = (in_filled / 4, channels.out_filled() / 4);
    let mut block = Block::default();
    let of = |oc: usize, c: usize, tap: usize| weights[(oc * in_plain + c) * taps + tap];
    let window = Window::of(geometry)?;
    let lanes = Lanes::of(b.subgroup, geometry)?;
    let (tile, units) = window.tile(b.invocations_min, (blocks, channels.groups))?;
    let row_len = if lanes.is_some() { blocks * 4 } else { tile.channels() };
    let mut words = vec![0u32; taps * group_words * parts * row_len];
    let channel_count = geometry.out_c;
    for oc in 0..channel_count {
        let place = oc / channels.output[0] * channels.output[1] + oc % channels.output[0];
        for tap in 0..taps {
            for c in 0..in_plain {
                for index in 0..parts {
                    let row = (tap * group_words + c / 4) * parts + index;
                    let byte = part(of(oc, c, tap), index) as u8;
                    words[row * row_len + place] |= u32::from(byte) << (c % 4 * 8);
                }
            }
        }
    }
    block.words(words);
    // Bytes less 128 are multiplied, and padding is the zero point: what is missing is the same for every pixel.
    let shift = 128 - i32::from(conv.input_zero);
    let own = in_plain * taps;
    let sum = |oc: usize| weights[oc * own..(oc + 1) * own].iter().map(|w| i32::from(*w)).sum::<i32>();
    let pair = pair((conv, table), &mut block);
    let finish = finish(conv, channels, &mut block, |oc| shift.wrapping_mul(sum(oc)))?;
    let (in_words, parts) = (size(channels.groups * group_words)?, size(parts)?);
    let zero_word = u32::from(conv.input_zero) * 0x0101_0101;
    if let Some((lanes, workgroups)) = lanes {
        let kernel = QDenseLanes { window, finish, pair, lanes, in_words, zero_word, parts, units: 0 };
        return b.dispatch_groups(kernel, workgroups, places, block);
    }
    let kernel = QDense {
        window,
        finish,
        pair,
        tile,
        units,
        in_words,
        group_words: size(group_words)?,
        group_blocks: size(channels.output[1] / 4)?,
        zero_word,
        parts,
    };
    b.dispatch(kernel, units, places, block)
}

fn depthwise(
    b: &mut Builder<'_>,
    (conv, table): (&QConv, &[u8]),
    channels: &Channels,
    weights: &[i16],
    places: Places,
) -> Result<Dispatch, CompileError> {
    let geometry = &conv.geometry;
    let taps = geometry.kernel_h * geometry.kernel_w;
    let blocks = channels.out_filled() / 4;
    let (mut block, mut words) = (Block::default(), Vec::new());
    let parts = parts(weights);
    for (tap, index) in (0..taps).flat_map(|tap| (0..parts).map(move |index| (tap, index))) {
        let bytes = channels.spread(|channel| part(weights[channel * taps + tap], index) as u8);
        words.extend(bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)));
    }
    block.words(words);
    let pair = pair((conv, table), &mut block);
    let finish = finish(conv, channels, &mut block, |_| 0)?;
    let window = Window::of(geometry)?;
    let tiles = geometry.out_w().div_ceil(4);
    let units = size(geometry.batch * geometry.out_h() * tiles * blocks)?;
    let kernel = QDepthwise {
        window,
        finish,
        pair,
        units,
        input_zero: i32::from(conv.input_zero),
        parts: size(parts)?,
        tiles: size(tiles)?,
        slides: geometry.stride_w == 1 && geometry.dilation_w == 1,
    };
    b.dispatch(kernel, units, places, block)
}

/// One value per channel, or one for all.
fn per_channel<T: Copy>(values: &[T], channel: usize, default: T) -> T {
    values.get(channel).or(values.first()).copied().unwrap_or(default)
}

/// The sum with a residual, where there is one.
fn pair((conv, table): (&QConv, &[u8]), block: &mut Block) -> Pair {
    residual(&conv.output).map_or_else(Pair::default, |QResidual { pair, .. }| {
        Pair::of(pair, true, block.bytes(table) * 4, false)
    })
}

fn finish(
    conv: &QConv,
    channels: &Channels,
    block: &mut Block,
    missing: impl Fn(usize) -> i32,
) -> Result<Finish, CompileError> {
    let bias = |oc: usize| conv.bias.as_ref().and_then(|bias| bias.get(oc)).copied().unwrap_or(0);
    let bias = channels.spread(|oc| bias(oc).wrapping_add(missing(oc)));
    let bias_at = block.words(bias.into_iter().map(i32::cast_unsigned));
    let common = Finish { out_blocks: size(channels.out_filled() / 4)?, bias_at, ..Finish::default() };
    match &conv.output {
        QConvOutput::Sums => Ok(Finish { finish: 1, ..common }),
        QConvOutput::Floats { multiplier, bias } => {
            let offset = |oc: usize| bias.as_ref().and_then(|bias| bias.get(oc)).copied().unwrap_or(0.0);
            let multiplier_at = block.floats(channels.spread(|oc| per_channel(multiplier, oc, 0.0)));
            let offset_at = block.floats(channels.spread(offset));
            Ok(Finish { finish: 2, multiplier_at, offset_at, ..common })
        }
        QConvOutput::Bytes { multiplier, zero, min, max, residual } => {
            let multiplier_at = block.floats(channels.spread(|oc| per_channel(multiplier, oc, 0.0)));
            let around = |byte: u8| f32::from(byte) - f32::from(*zero);
            let (low, high) = (around(*min), around(*max.max(min)));
            let residual = residual.map_or(0, |residual| if residual.own_first { 1 } else { 2 });
            let zero = i32::from(*zero);
            Ok(Finish { zero, low, high, residual, multiplier_at, ..common })
        }
    }
}
