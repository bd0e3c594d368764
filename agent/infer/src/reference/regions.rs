//! Operators that sample images between their pixels: aligned regions, deformed windows, grids of affine maps.

use super::{
    call::{Answer, Call, floats, from_floats, size},
    pooling::sizes,
};
use crate::rules::{each_index, window};

/// Four pixels around a point, and the weight of each.
type Corners = [(usize, f64); 4];

/// The pixels around the point `(y, x)` whose weights fall off linearly; beyond the image they have no weight.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within the image, so small and positive"
)]
fn corners([height, width]: [usize; 2], y: f64, x: f64) -> Corners {
    let mut found = [(0, 0.0); 4];
    let places = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)];
    for (corner, (down, right)) in found.iter_mut().zip(places) {
        let (row, column) = (y.floor() + down, x.floor() + right);
        if row < 0.0 || column < 0.0 {
            continue;
        }
        let (at_row, at_column) = (row as usize, column as usize);
        if at_row < height && at_column < width {
            *corner = (at_row * width + at_column, (1.0 - (y - row).abs()) * (1.0 - (x - column).abs()));
        }
    }
    found
}

/// Regions of interest of `RoiAlign`.
struct Regions {
    image: [usize; 2],
    out: [usize; 2],
    /// Samples along each side of a bin; 0 for as many as the bin has pixels.
    samples: usize,
    scale: f64,
    /// Whether pixels have their centres at halves.
    half: bool,
    /// Whether a bin is its greatest weighed pixel, not the mean of its samples.
    most: bool,
}

/// A region laid over an image: where it starts, and the size and the samples of its bins along both axes.
struct Region {
    start: [f64; 2],
    bin: [f64; 2],
    grid: [usize; 2],
}

impl Region {
    /// A point of a bin that is sampled; `at` is the bin, then the sample in it.
    #[allow(clippy::cast_precision_loss, reason = "sizes of images")]
    fn point(&self, at: &[usize; 4]) -> [f64; 2] {
        [0, 1].map(|axis| {
            let within = (at[axis + 2] as f64 + 0.5) * self.bin[axis] / self.grid[axis] as f64;
            self.start[axis] + at[axis] as f64 * self.bin[axis] + within
        })
    }
}

impl Regions {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "sizes of images; what is negative or endless saturates and is refused"
    )]
    fn region(&self, sides: [f64; 4]) -> Region {
        let offset = if self.half { 0.5 } else { 0.0 };
        let [left, top, right, bottom] = sides.map(|side| side * self.scale - offset);
        let least = if self.half { f64::NEG_INFINITY } else { 1.0 };
        let extent = [(bottom - top).max(least), (right - left).max(least)];
        let bin = [0, 1].map(|axis| extent[axis] / self.out[axis].max(1) as f64);
        let grid = bin.map(|bin| if self.samples > 0 { self.samples } else { bin.ceil() as usize });
        Region { start: [top, left], bin, grid }
    }

    /// What is made of a bin of a region of an image.
    #[allow(clippy::cast_precision_loss, reason = "a count of samples")]
    fn pooled(&self, image: &[f64], region: &Region, [row, column]: [usize; 2]) -> f64 {
        let [down, right] = region.grid;
        let samples = (0..down).flat_map(|y| (0..right).map(move |x| [row, column, y, x]));
        let corners = samples.map(|at| self.corners(region.point(&at)));
        let parts = corners.flat_map(|corners| corners.map(|(at, weight)| image[at] * weight));
        if down == 0 || right == 0 {
            0.0
        } else if self.most {
            parts.fold(f64::NEG_INFINITY, f64::max)
        } else {
            parts.sum::<f64>() / (down as f64 * right as f64)
        }
    }

    /// Points just outside take the nearest pixel.
    #[allow(clippy::cast_precision_loss, reason = "sizes of images")]
    fn corners(&self, [y, x]: [f64; 2]) -> Corners {
        let [height, width] = self.image.map(|len| len as f64);
        if !((-1.0..=height).contains(&y) && (-1.0..=width).contains(&x)) {
            return [(0, 0.0); 4];
        }
        corners(self.image, y.clamp(0.0, height - 1.0), x.clamp(0.0, width - 1.0))
    }
}

/// `RoiAlign`.
pub(super) fn roi_align(call: &Call) -> Answer {
    let (x, regions, items) =
        (call.input(0)?, call.floats(1)?, call.ints(2)?.ok_or("it has no batch_indices")?);
    let &[batch, channels, height, width] = x.shape() else {
        return Err(format!("its input has shape {:?}", x.shape()));
    };
    if height == 0 || width == 0 || regions.len() != items.len().saturating_mul(4) {
        return Err(format!("{} regions, {} sides, shape {:?}", items.len(), regions.len(), x.shape()));
    }
    let default = if call.node.version < 16 { "output_half_pixel" } else { "half_pixel" };
    let out = [size(call.int("output_height", 1))?, size(call.int("output_width", 1))?];
    let how = Regions {
        image: [height, width],
        out,
        samples: size(call.int("sampling_ratio", 0).max(0))?,
        scale: call.float("spatial_scale", 1.0),
        half: call.text("coordinate_transformation_mode", default) == "half_pixel",
        most: call.text("mode", "avg") == "max",
    };
    let shape = vec![items.len(), channels, out[0], out[1]];
    let mut pooled = Vec::with_capacity(call.count(&shape)?);
    let (values, plane) = (floats(x)?, height * width);
    for (item, sides) in items.iter().zip(regions.as_chunks().0) {
        let item = size(*item)?;
        if item >= batch {
            return Err(format!("a region of image {item} of {batch}"));
        }
        let region = how.region(*sides);
        Call::work(&[[items.len(), channels.max(1)], out, region.grid].concat())?;
        for channel in 0..channels {
            let image = &values[(item * channels + channel) * plane..][..plane];
            each_index(&out, |bin| pooled.push(how.pooled(image, &region, [bin[0], bin[1]])));
        }
    }
    Ok(vec![from_floats(x.datatype(), shape, &pooled)?])
}

/// `DeformConv` of images.
#[allow(clippy::cast_precision_loss, reason = "sizes of images")]
pub(super) fn deformed_convolution(call: &Call) -> Answer {
    let (x, w, offset) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let wrong = || format!("shapes {:?}, {:?} and {:?} do not fit", x.shape(), w.shape(), offset.shape());
    let (&[batch, channels, height, width], &[outs, fan, kh, kw]) = (x.shape(), w.shape()) else {
        return Err(wrong());
    };
    let (groups, shifts) = (size(call.int("group", 1))?, size(call.int("offset_group", 1))?);
    let window = window(call.node, &[kh, kw], &[height, width])?;
    let (taps, places) = (call.count(&[kh, kw])?, call.count(&window.out)?);
    let fits = fan.checked_mul(groups) == Some(channels)
        && outs.checked_rem(groups) == Some(0)
        && channels.checked_rem(shifts) == Some(0)
        && offset.shape() == [batch, shifts.saturating_mul(taps * 2), window.out[0], window.out[1]];
    let (bias, mask) = (call.maybe(3).map(floats).transpose()?, call.maybe(4).map(floats).transpose()?);
    let mask_fits = mask.as_ref().is_none_or(|mask| mask.len() == offset.len() / 2);
    if !fits || !mask_fits || bias.as_ref().is_some_and(|bias| bias.len() != outs) {
        return Err(wrong());
    }
    let shape = vec![batch, outs, window.out[0], window.out[1]];
    let mut sums = vec![0.0; call.count(&shape)?];
    if sums.is_empty() {
        return Ok(vec![from_floats(x.datatype(), shape, &sums)?]);
    }
    Call::work(&[batch, outs, fan.max(1), places, taps])?;
    let (values, weights, moves) = (floats(x)?, floats(w)?, floats(offset)?);
    let mut samples = vec![0.0; call.count(&[fan, taps])?];
    each_index(&[batch, groups, window.out[0], window.out[1]], |at| {
        let &[item, group, row, column] = at else { return };
        let place = row * window.out[1] + column;
        for (index, sample) in samples.iter_mut().enumerate() {
            let (channel, tap) = (group * fan + index / taps, index % taps);
            // Where offsets and the mask have this element of the window.
            let known = (item * shifts + channel / (channels / shifts)) * taps + tap;
            let point = |axis: usize, at: usize, tap: usize| {
                let still = (at * window.strides[axis] + tap * window.dilations[axis]) as f64;
                still - window.pads[axis].0 as f64 + moves[(known * 2 + axis) * places + place]
            };
            let own = &values[(item * channels + channel) * height * width..][..height * width];
            let found = corners([height, width], point(0, row, tap / kw), point(1, column, tap % kw));
            let value: f64 =
                found.iter().filter(|(_, weight)| *weight != 0.0).map(|(at, w)| own[*at] * w).sum();
            *sample = value * mask.as_ref().map_or(1.0, |mask| mask[known * places + place]);
        }
        for out in group * (outs / groups)..(group + 1) * (outs / groups) {
            let own = &weights[out * fan * taps..(out + 1) * fan * taps];
            let sum: f64 = own.iter().zip(&samples).map(|(a, b)| a * b).sum();
            sums[(item * outs + out) * places + place] = sum + bias.as_ref().map_or(0.0, |bias| bias[out]);
        }
    });
    Ok(vec![from_floats(x.datatype(), shape, &sums)?])
}

/// `AffineGrid`: for each pixel of an output the point that an affine map takes it to, the last axis first.
#[allow(clippy::cast_precision_loss, reason = "sizes of images")]
pub(super) fn affine_grid(call: &Call) -> Answer {
    let (theta, wanted) = (call.input(0)?, sizes(&call.ints(1)?.ok_or("it has no size")?)?);
    let [batch, _, spatial @ ..] = wanted.as_slice() else { return Err(format!("its size is {wanted:?}")) };
    let rank = spatial.len();
    if !matches!(rank, 2 | 3) {
        return Err(format!("its size is {wanted:?}"));
    }
    if theta.shape() != [*batch, rank, rank + 1] {
        return Err(format!("maps of shape {:?} for a size of {wanted:?}", theta.shape()));
    }
    let corners = call.int("align_corners", 0) != 0;
    let place = |index: usize, len: usize| match (corners, len) {
        (true, 1) => 0.0,
        (true, _) => 2.0 * index as f64 / (len - 1) as f64 - 1.0,
        (false, _) => (2 * index + 1) as f64 / len as f64 - 1.0,
    };
    let shape = [&[*batch], spatial, &[rank]].concat();
    let mut grid = Vec::with_capacity(call.count(&shape)?);
    for map in floats(theta)?.chunks_exact(rank * (rank + 1)) {
        each_index(spatial, |index| {
            for row in map.chunks_exact(rank + 1) {
                let from_last = index.iter().zip(spatial).rev().zip(row);
                let sum: f64 = from_last.map(|((index, len), factor)| place(*index, *len) * factor).sum();
                grid.push(sum + row[rank]);
            }
        });
    }
    Ok(vec![from_floats(theta.datatype(), shape, &grid)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::Value,
        reference::testing::{f32s, int64s, run},
    };

    #[test]
    fn a_region_without_end_is_refused() {
        let (x, first) = (f32s(&[1, 1, 1, 1], &[1.0]), int64s(&[0]));
        let region = |side: f32| f32s(&[1, 4], &[0.0, 0.0, side, side]);
        assert!(run(roi_align, &[], &[&x, &region(1e30), &first]).is_err());
        assert!(run(roi_align, &[], &[&x, &region(1.0), &first]).is_ok_and(|made| made[0].len() == 1));
        let nowhere = [("sampling_ratio", Value::Int(1))];
        assert!(run(roi_align, &nowhere, &[&x, &region(f32::NAN), &first]).is_ok());
    }

    #[test]
    fn groups_that_no_channel_has_take_no_time() {
        let (x, w) = (f32s(&[1, 0, 2, 2], &[]), f32s(&[0, 0, 1, 1], &[]));
        let groups = [("group", Value::Int(1 << 60))];
        let offset = f32s(&[1, 2, 2, 2], &[0.0; 8]);
        let made = run(deformed_convolution, &groups, &[&x, &w, &offset]).expect("runs");
        assert_eq!(made[0].shape(), [1, 0, 2, 2]);
    }

    #[test]
    fn a_grid_needs_two_or_three_axes() {
        assert!(run(affine_grid, &[], &[&f32s(&[1, 0, 1], &[]), &int64s(&[1, 1])]).is_err());
        let same = f32s(&[1, 2, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let made = run(affine_grid, &[], &[&same, &int64s(&[1, 1, 1, 2])]).expect("runs");
        assert_eq!(made[0], f32s(&[1, 1, 2, 2], &[-0.5, 0.0, 0.5, 0.0]));
        assert!(run(affine_grid, &[], &[&same, &int64s(&[1, 1, 1 << 60, 2])]).is_err());
    }
}
