//! `Unique`: the different elements, or slices, of a tensor.

use super::call::{Answer, Call, floats, integers, picked, text};
use crate::{rules::axis_index, tensor::Tensor};
use std::cmp::Ordering;

enum Elements<'a> {
    Whole(Vec<i64>),
    Floats(Vec<f64>),
    Texts(&'a [Vec<u8>]),
}

impl Elements<'_> {
    fn compare(&self, a: usize, b: usize) -> Ordering {
        match self {
            Self::Whole(v) => v[a].cmp(&v[b]),
            // Zeros of both signs are one value, NaN is one too.
            Self::Floats(v) => v[a].partial_cmp(&v[b]).unwrap_or_else(|| v[a].total_cmp(&v[b])),
            Self::Texts(v) => v[a].cmp(&v[b]),
        }
    }
}

pub(super) fn unique(call: &Call) -> Answer {
    let data = call.input(0)?;
    let elements = match data.as_strings() {
        Some(strings) => Elements::Texts(strings),
        None if data.datatype().is_float() => Elements::Floats(floats(data)?),
        None => Elements::Whole(integers(data)?),
    };
    let axis = call.node.attributes.int("axis").map(|axis| axis_index(axis, data.shape().len()));
    let axis = axis.transpose()?;
    let (outer, count, inner) = match axis {
        Some(axis) => {
            let (before, after) = data.shape().split_at(axis);
            (before.iter().product(), after[0], after[1..].iter().product())
        }
        None => (1, data.len(), 1),
    };
    let offsets: Vec<usize> =
        (0..outer).flat_map(|o| (0..inner).map(move |i| o * count * inner + i)).collect();
    let compare = |a: &usize, b: &usize| {
        let pairs = offsets.iter().map(|o| elements.compare(o + a * inner, o + b * inner));
        pairs.fold(Ordering::Equal, Ordering::then)
    };
    // Stable, so that the first of equal slices comes first.
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(compare);
    let mut firsts: Vec<(usize, Vec<usize>)> = Vec::new();
    for slice in order {
        match firsts.last_mut() {
            Some((first, members)) if compare(first, &slice).is_eq() => members.push(slice),
            _ => firsts.push((slice, vec![slice])),
        }
    }
    if call.int("sorted", 1) == 0 {
        firsts.sort_by_key(|(first, _)| *first);
    }
    let mut shape = axis.map_or_else(|| vec![0], |_| data.shape().to_vec());
    shape[axis.unwrap_or(0)] = firsts.len();
    let places = (0..outer).flat_map(|o| {
        let firsts = &firsts;
        firsts.iter().flat_map(move |(f, _)| (0..inner).map(move |i| Some((o * count + f) * inner + i)))
    });
    let values = picked(data, shape, places, None)?;
    let mut inverse = vec![0; count];
    for (place, (_, members)) in firsts.iter().enumerate() {
        members.iter().for_each(|member| inverse[*member] = place);
    }
    let list = |values: Vec<usize>| -> Result<Tensor, String> {
        let values: Vec<i64> = values.iter().map(|v| i64::try_from(*v).unwrap_or(i64::MAX)).collect();
        Tensor::from_values(vec![values.len()], &values).map_err(text)
    };
    let indices = list(firsts.iter().map(|(first, _)| *first).collect())?;
    let counts = list(firsts.iter().map(|(_, members)| members.len()).collect())?;
    Ok(vec![values, indices, list(inverse)?, counts])
}
