//! f32 convolutions and matrix products, and the windows of all convolutions.

use super::{Activated, kernel, overrides};
use crate::engine::build::{Block, Builder, Dispatch, Lowered, Places, size};
use whimbrel_infer::{
    CompileError,
    plan::{Conv, Conv2d, MatMul, Step},
};

overrides! {
    /// The windows of a convolution, as `window.wgsl` has them.
    Window;
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
    padded: bool,
    pixels: u32,
}

overrides! {
    /// What one invocation of `dense.wgsl` or `qdense.wgsl` makes.
    Tile;
    /// Eight pixels rather than four.
    deep: bool,
    /// Eight channels rather than four.
    wide: bool,
    /// Invocations for all channels of a pixel.
    columns: u32,
}

kernel! {
    /// Dense, or in groups of whole blocks.
    Dense = "dense" + ["window", "activation", "sums"];
    ..window: Window,
    ..activation: Activated,
    ..tile: Tile,
    units: u32,
    in_channels: u32,
    group_channels: u32,
    out_channels: u32,
    group_blocks: u32,
    bias_at: u32,
    residual: bool,
}

overrides! {
    /// How lanes share pixels, as `lanes.wgsl` has it.
    Lanes;
    tiles: u32,
    columns: u32,
}

kernel! {
    /// Dense, lanes sharing pixels.
    DenseLanes = "dense_lanes" + ["window", "lanes", "activation", "sums"];
    ..window: Window,
    ..activation: Activated,
    ..lanes: Lanes,
    in_channels: u32,
    out_channels: u32,
    bias_at: u32,
    residual: bool,
    units: u32,
}

kernel! {
    /// In groups of any size.
    Grouped = "grouped" + ["window", "activation"];
    ..window: Window,
    ..activation: Activated,
    units: u32,
    in_channels: u32,
    group_channels: u32,
    out_channels: u32,
    group_outputs: u32,
    bias_at: u32,
    residual: bool,
}

kernel! {
    /// Each channel on its own, where windows move on by one pixel.
    Depthwise = "depthwise" + ["window", "activation"];
    ..window: Window,
    ..activation: Activated,
    units: u32,
    channels: u32,
    tiles: u32,
    bias_at: u32,
    residual: bool,
}

kernel! {
    /// Products of stacks of matrices.
    Product = "matmul" + [];
    units: u32,
    m: u32,
    k: u32,
    n: u32,
    a_step: u32,
    b_step: u32,
    row_blocks: u32,
    column_blocks: u32,
}

impl Lanes {
    /// How lanes share the work of a dense convolution, and the workgroups for it. Nothing where subgroups are not offered, or too many
    /// lanes would have nothing to do.
    pub(crate) fn of(
        subgroup: Option<[u32; 2]>,
        geometry: &Conv2d,
    ) -> Result<Option<(Self, [u32; 3])>, CompileError> {
        let Some([least, most]) = subgroup else { return Ok(None) };
        let (tiles, columns) = (geometry.out_pixels().div_ceil(16), geometry.out_c.div_ceil(4));
        let (tiles, columns) = (size(tiles)?, size(columns)?);
        let idle = columns.next_multiple_of(most) - columns;
        if geometry.groups > 1 || geometry.out_pixels() <= 8 || idle * 2 > columns {
            return Ok(None);
        }
        let sizes = (0..u32::BITS).map(|bit| 1 << bit).filter(|size| (least..=most).contains(size));
        let groups = sizes.map(|lanes| {
            let subgroups = u64::from(tiles) * u64::from(columns.div_ceil(lanes));
            subgroups.div_ceil(u64::from(super::WIDTH / lanes))
        });
        let groups = size(groups.max().unwrap_or(0) as usize)?;
        Ok(Some((Self { tiles, columns }, super::rows(groups))))
    }
}

impl Tile {
    /// Channels of a row of weights, filled up to whole tiles.
    pub(crate) const fn channels(&self) -> usize {
        self.columns as usize * if self.wide { 8 } else { 4 }
    }
}

impl Window {
    /// Of a convolution.
    pub(crate) fn of(conv: &Conv2d) -> Result<Self, CompileError> {
        let last = |output: usize, stride: usize, kernel: usize, dilation: usize| {
            (output.max(1) - 1) * stride + (kernel - 1) * dilation
        };
        let bottom = last(conv.out_h(), conv.stride_h, conv.kernel_h, conv.dilation_h);
        let right = last(conv.out_w(), conv.stride_w, conv.kernel_w, conv.dilation_w);
        let [top, left, ..] = conv.pad;
        Ok(Self {
            in_h: size(conv.in_h)?,
            in_w: size(conv.in_w)?,
            out_h: size(conv.out_h())?,
            out_w: size(conv.out_w())?,
            kernel_h: size(conv.kernel_h)?,
            kernel_w: size(conv.kernel_w)?,
            stride_h: size(conv.stride_h)?,
            stride_w: size(conv.stride_w)?,
            dilation_h: size(conv.dilation_h)?,
            dilation_w: size(conv.dilation_w)?,
            pad_top: size(top)?,
            pad_left: size(left)?,
            padded: top > 0 || left > 0 || bottom >= top + conv.in_h || right >= left + conv.in_w,
            pixels: size(conv.out_pixels())?,
        })
    }

    /// The largest tile that leaves a device enough invocations to be busy; `blocks` are fours of output channels, in `groups` groups.
    /// And how many invocations that makes.
    pub(crate) fn tile(
        &self,
        invocations_min: usize,
        (blocks, groups): (usize, usize),
    ) -> Result<(Tile, u32), CompileError> {
        let pairs = groups <= 1 || (blocks / groups).is_multiple_of(2);
        let of = |deep: bool, wide: bool| {
            let rows = self.pixels.div_ceil(if deep { 8 } else { 4 }) as usize;
            let columns = if wide { blocks.div_ceil(2) } else { blocks };
            (Tile { deep, wide, columns: columns as u32 }, rows * columns)
        };
        let sizes = [(true, true), (false, true), (true, false)];
        let fits = |(deep, wide): &(bool, bool)| {
            (!deep || self.pixels > 4)
                && (!wide || (pairs && blocks > 1))
                && of(*deep, *wide).1 >= invocations_min
        };
        let (deep, wide) = sizes.into_iter().find(fits).unwrap_or_default();
        let (tile, units) = of(deep, wide);
        Ok((tile, size(units)?))
    }

    /// Fours of output pixels, the last one incomplete.
    pub(crate) const fn quads(&self) -> u32 {
        self.pixels.div_ceil(4)
    }
}

/// A convolution of f32 as dispatches.
pub(crate) fn conv(b: &mut Builder<'_>, step: &Step, conv: &Conv) -> Lowered {
    let (Some(x), Some(out)) = (b.input(step, 0), b.output(step)) else { return Ok(None) };
    let geometry = &conv.geometry;
    let activation = Activated::from(conv.activation);
    if geometry.out_len() == 0 || geometry.in_len() == 0 || !activation.is_usable() {
        return Ok(None);
    }
    let places = Places { x, y: b.input(step, 1).unwrap_or(0), out, constants: 0 };
    let weights = conv.weights.get().map_err(|why| CompileError::Failed { why })?;
    let group_outputs = geometry.out_c / geometry.groups.max(1);
    let slides = geometry.stride_w == 1 && geometry.dilation_w == 1;
    let dispatch = if geometry.is_depthwise() && slides {
        depthwise(b, conv, activation, &weights, places)?
    } else if geometry.groups <= 1 || group_outputs.is_multiple_of(4) {
        dense(b, conv, activation, &weights, places)?
    } else {
        grouped(b, conv, activation, &weights, places)?
    };
    Ok(Some(vec![dispatch]))
}

/// Weights as rows of output channels, filled up to `row_len`: one row for each tap and input channel of a group.
fn rows(conv: &Conv2d, weights: &[f32], row_len: usize) -> Vec<f32> {
    let (channels, taps) = (conv.in_c / conv.groups.max(1), conv.kernel_h * conv.kernel_w);
    let mut rows = vec![0.0; taps * channels * row_len];
    for (index, weight) in weights.iter().enumerate() {
        let (oc, c, tap) = (index / taps / channels, index / taps % channels, index % taps);
        rows[(tap * channels + c) * row_len + oc] = *weight;
    }
    rows
}

/// The bias of each channel; 0 where there is none.
fn bias(conv: &Conv, channels: usize) -> impl Iterator<Item = f32> {
    let of = |oc: usize| conv.bias.as_ref().and_then(|bias| bias.get(oc)).copied().unwrap_or(0.0);
    (0..channels).map(of)
}

fn dense(
    b: &mut Builder<'_>,
    conv: &Conv,
    activation: Activated,
    weights: &[f32],
    places: Places,
) -> Result<Dispatch, CompileError> {
    let geometry = &conv.geometry;
    let (groups, blocks) = (geometry.groups.max(1), geometry.out_c.div_ceil(4));
    let window = Window::of(geometry)?;
    if let Some((lanes, workgroups)) = Lanes::of(b.subgroup, geometry)? {
        let mut block = Block::default();
        block.floats(rows(geometry, weights, blocks * 4));
        let bias_at = block.floats(bias(conv, blocks * 4));
        let kernel = DenseLanes {
            window,
            activation,
            lanes,
            in_channels: size(geometry.in_c)?,
            out_channels: size(geometry.out_c)?,
            bias_at,
            residual: conv.residual,
            units: 0,
        };
        return b.dispatch_groups(kernel, workgroups, places, block);
    }
    let (tile, units) = window.tile(b.invocations_min, (blocks, groups))?;
    let mut block = Block::default();
    block.floats(rows(geometry, weights, tile.channels()));
    let bias_at = block.floats(bias(conv, blocks * 4));
    let kernel = Dense {
        window,
        activation,
        tile,
        units,
        in_channels: size(geometry.in_c)?,
        group_channels: size(geometry.in_c / groups)?,
        out_channels: size(geometry.out_c)?,
        group_blocks: size(blocks / groups)?,
        bias_at,
        residual: conv.residual,
    };
    b.dispatch(kernel, units, places, block)
}

fn grouped(
    b: &mut Builder<'_>,
    conv: &Conv,
    activation: Activated,
    weights: &[f32],
    places: Places,
) -> Result<Dispatch, CompileError> {
    let geometry = &conv.geometry;
    let groups = geometry.groups.max(1);
    let mut block = Block::default();
    block.floats(rows(geometry, weights, geometry.out_c));
    let bias_at = block.floats(bias(conv, geometry.out_c)) * 4;
    let window = Window::of(geometry)?;
    let units = size(window.quads() as usize * geometry.out_c)?;
    let kernel = Grouped {
        window,
        activation,
        units,
        in_channels: size(geometry.in_c)?,
        group_channels: size(geometry.in_c / groups)?,
        out_channels: size(geometry.out_c)?,
        group_outputs: size(geometry.out_c / groups)?,
        bias_at,
        residual: conv.residual,
    };
    b.dispatch(kernel, units, places, block)
}

fn depthwise(
    b: &mut Builder<'_>,
    conv: &Conv,
    activation: Activated,
    weights: &[f32],
    places: Places,
) -> Result<Dispatch, CompileError> {
    let geometry = &conv.geometry;
    let mut block = Block::default();
    block.floats(rows(geometry, weights, geometry.out_c));
    let bias_at = block.floats(bias(conv, geometry.out_c)) * 4;
    let window = Window::of(geometry)?;
    let tiles = geometry.out_w().div_ceil(8);
    let units = size(geometry.batch * geometry.out_h() * tiles * geometry.out_c)?;
    let kernel = Depthwise {
        window,
        activation,
        units,
        channels: size(geometry.out_c)?,
        tiles: size(tiles)?,
        bias_at,
        residual: conv.residual,
    };
    b.dispatch(kernel, units, places, block)
}

/// A stack of matrix products as dispatches.
pub(crate) fn matmul(b: &mut Builder<'_>, step: &Step, product: &MatMul) -> Lowered {
    let MatMul { batch, a_step, b_step, m, k, n } = *product;
    let (Some(x), Some(y), Some(out)) = (b.input(step, 0), b.input(step, 1), b.output(step)) else {
        return Ok(None);
    };
    if batch * m * k * n == 0 {
        return Ok(None);
    }
    let (row_blocks, column_blocks) = (m.div_ceil(4), n.div_ceil(4));
    let units = size(batch * row_blocks * column_blocks)?;
    let kernel = Product {
        units,
        m: size(m)?,
        k: size(k)?,
        n: size(n)?,
        a_step: size(a_step)?,
        b_step: size(b_step)?,
        row_blocks: size(row_blocks)?,
        column_blocks: size(column_blocks)?,
    };
    let places = Places { x, y, out, constants: 0 };
    Ok(Some(vec![b.dispatch(kernel, units, places, Block::default())?]))
}
