//! Quantisation whose parameters only a run gives, along an axis or in blocks.

use super::{
    call::{Answer, Call, floats, from_floats},
    numeric::product,
};
use crate::{datatype::Datatype, rules::axis_index, tensor::Tensor};

/// For each element of a tensor, the place of its scale.
fn places(call: &Call, shape: &[usize], scale: &Tensor) -> Result<Vec<usize>, String> {
    let count = call.count(shape)?;
    if scale.len() == 1 {
        return Ok(vec![0; count]);
    }
    let axis = axis_index(call.int("axis", 1), shape.len())?;
    let inner: usize = shape[axis + 1..].iter().product();
    let len = shape[axis];
    let block = super::call::size(call.int("block_size", 0))?;
    if block == 0 {
        if scale.shape() != [len] {
            return Err(format!("{} scales for {len} slices", scale.len()));
        }
        return Ok((0..count).map(|at| at / inner % len).collect());
    }
    let blocks = len.div_ceil(block);
    let fits = |i: usize| scale.shape()[i] == if i == axis { blocks } else { shape[i] };
    if scale.shape().len() != shape.len() || !(0..shape.len()).all(fits) {
        return Err(format!("scales of shape {:?} for blocks of {block} in {shape:?}", scale.shape()));
    }
    let place = |at: usize| {
        let (row, i) = (at / inner / len, at / inner % len);
        (row * blocks + i / block) * inner + at % inner
    };
    Ok((0..count).map(place).collect())
}

/// Zero points, one for each scale.
fn zeros(call: &Call, index: usize, scales: usize) -> Result<Vec<f64>, String> {
    let zeros = call.maybe(index).map_or_else(|| Ok(vec![0.0; scales]), floats)?;
    if zeros.len() == scales {
        Ok(zeros)
    } else {
        Err(format!("{} zero points for {scales} scales", zeros.len()))
    }
}

fn bounds(datatype: Datatype) -> Result<(f64, f64), String> {
    Ok(match datatype {
        Datatype::Uint8 => (0.0, 255.0),
        Datatype::Int8 => (-128.0, 127.0),
        Datatype::Uint16 => (0.0, 65535.0),
        Datatype::Int16 => (-32768.0, 32767.0),
        other => return Err(format!("quantised values are {other}")),
    })
}

/// `QuantizeLinear`.
#[allow(clippy::cast_possible_truncation, reason = "quotients are rounded to f32, as the operator says")]
pub(super) fn quantise(call: &Call) -> Answer {
    let (data, scale) = (call.input(0)?, call.input(1)?);
    let by_attribute =
        i32::try_from(call.int("output_dtype", 0)).ok().and_then(crate::graph::datatype_of_number);
    let datatype = call.maybe(2).map(Tensor::datatype).or(by_attribute).unwrap_or(Datatype::Uint8);
    let (min, max) = bounds(datatype)?;
    let (scales, zeros) = (floats(scale)?, zeros(call, 2, scale.len())?);
    let places = places(call, data.shape(), scale)?;
    let one = |(value, place): (&f64, &usize)| {
        let quotient = f64::from((value / scales[*place]) as f32);
        (quotient.round_ties_even() + zeros[*place]).clamp(min, max)
    };
    let values: Vec<f64> = floats(data)?.iter().zip(&places).map(one).collect();
    Ok(vec![from_floats(datatype, data.shape().to_vec(), &values)?])
}

/// `DequantizeLinear`.
pub(super) fn dequantise(call: &Call) -> Answer {
    let (data, scale) = (call.input(0)?, call.input(1)?);
    let (scales, zeros) = (floats(scale)?, zeros(call, 2, scale.len())?);
    let places = places(call, data.shape(), scale)?;
    let one = |(value, place): (&f64, &usize)| (value - zeros[*place]) * scales[*place];
    let values: Vec<f64> = floats(data)?.iter().zip(&places).map(one).collect();
    Ok(vec![from_floats(scale.datatype(), data.shape().to_vec(), &values)?])
}

/// `QLinearMatMul`, its sums exact: a double holds those of more products than memory does.
#[allow(clippy::cast_possible_truncation, reason = "sums are scaled in f32, as the operator says")]
pub(super) fn product_of_bytes(call: &Call) -> Answer {
    let (a, b, zero) = (call.input(0)?, call.input(3)?, call.input(7)?);
    let columns = b.shape().last().copied().unwrap_or(1);
    let rows = a.shape().iter().rev().nth(1).copied().unwrap_or(1);
    let (a_scales, b_scales, y_scales) = (call.floats(1)?, call.floats(4)?, call.floats(6)?);
    let (a_zeros, b_zeros) = (zeros(call, 2, a_scales.len())?, zeros(call, 5, b_scales.len())?);
    let fits = |scales: &[f64], count: usize| scales.len() == 1 || scales.len() == count;
    if !fits(&a_scales, rows) || !fits(&b_scales, columns) || y_scales.len() != 1 || zero.len() != 1 {
        return Err("its scales are neither one for all nor one for each row or column".into());
    }
    let of = |list: &[f64], index: usize| if list.len() == 1 { list[0] } else { list[index] };
    let k = a.shape().last().copied().unwrap_or(1).max(1);
    let whole = |values: Vec<f64>, zero: &dyn Fn(usize) -> f64| -> Vec<f64> {
        values.iter().enumerate().map(|(at, v)| v - zero(at)).collect()
    };
    let left = whole(floats(a)?, &|at| of(&a_zeros, at / k % rows));
    let right = whole(floats(b)?, &|at| of(&b_zeros, at % columns));
    let (shape, sums) = product(call, (&left, a.shape()), (&right, b.shape()))?;
    let ((min, max), y_zero) = (bounds(zero.datatype())?, floats(zero)?[0]);
    let one = |(at, sum): (usize, &f64)| {
        let scale = of(&a_scales, at / columns % rows) * of(&b_scales, at % columns);
        let scaled = f64::from((sum * scale / y_scales[0]) as f32);
        (scaled.round_ties_even() + y_zero).clamp(min, max)
    };
    let values: Vec<f64> = sums.iter().enumerate().map(one).collect();
    Ok(vec![from_floats(zero.datatype(), shape, &values)?])
}
