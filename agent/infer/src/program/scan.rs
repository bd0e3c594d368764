//! ONNX's `Scan`: a body over slices of its inputs, carrying values from one to the next.

use super::{
    Engine,
    drive::{Program, Tensors, Which},
    dynamic::{Outer, captured, failed, stacked},
};
use crate::{
    compile::straight::Placed,
    error::RunError,
    profile::Profile,
    rules::{axis_index, transposed},
    tensor::Tensor,
};
use std::sync::Arc;

/// Runs the body for each slice.
///
/// # Errors
/// Lengths or shapes contradict each other, or the body fails.
pub(super) fn run<E: Engine>(
    program: &Program<E>,
    placed: &Placed,
    inputs: &[Option<Arc<Tensor>>],
    outer: &Outer<'_>,
    mut profile: Option<&mut Profile>,
) -> Result<Vec<Arc<Tensor>>, RunError> {
    let node = &placed.node;
    let fail = |why: &str| failed(node, why);
    let body = node.graphs.get("body").ok_or_else(|| fail("it has no body"))?;
    let all: Vec<Arc<Tensor>> = inputs.iter().flatten().cloned().collect();
    let scanned = node.attributes.int("num_scan_inputs").and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let states = all.len().checked_sub(scanned).filter(|_| scanned > 0 && node.version >= 9);
    let states = states.ok_or_else(|| fail("it has no inputs to scan, or is of an old version"))?;
    if body.inputs.len() != all.len() || body.outputs.len() < states {
        return Err(fail("its body does not take and make what it carries"));
    }
    let list = |name: &str, index: usize| {
        node.attributes.ints(name).and_then(|values| values.get(index)).copied().unwrap_or(0)
    };
    let mut sequences = Vec::with_capacity(scanned);
    for (index, tensor) in all[states..].iter().enumerate() {
        let axis =
            axis_index(list("scan_input_axes", index), tensor.shape().len()).map_err(|why| fail(&why))?;
        let first = to_front(tensor, axis).ok_or_else(|| fail("it scans strings"))?;
        sequences.push((first, list("scan_input_directions", index) == 1));
    }
    let turns = sequences.first().and_then(|(tensor, _)| tensor.shape().first()).copied().unwrap_or(0);
    if sequences.iter().any(|(tensor, _)| tensor.shape().first() != Some(&turns)) {
        return Err(fail("its inputs have different lengths"));
    }
    let captured: Tensors = captured(body, outer);
    let mut carried = all[..states].to_vec();
    let mut collected: Vec<Vec<Arc<Tensor>>> = vec![Vec::new(); body.outputs.len() - states];
    let mut warm = None;
    for turn in 0..turns {
        let mut given = captured.clone();
        let mut own = carried.clone();
        for (tensor, backwards) in &sequences {
            let at = if *backwards { turns - 1 - turn } else { turn };
            own.push(Arc::new(item(tensor, at).ok_or_else(|| fail("it scans strings"))?));
        }
        given.extend(body.inputs.iter().cloned().zip(own));
        let which = Which::Inner(body, &placed.key);
        let mut outputs = program.run(which, given, &mut warm, profile.as_deref_mut())?.into_iter();
        carried = outputs.by_ref().take(states).collect();
        collected.iter_mut().zip(outputs).for_each(|(list, tensor)| list.push(tensor));
    }
    for (index, mut items) in collected.into_iter().enumerate() {
        if list("scan_output_directions", index) == 1 {
            items.reverse();
        }
        let whole =
            stacked(&items).ok_or_else(|| fail("its turns made different shapes, or there were none"))?;
        let axis =
            axis_index(list("scan_output_axes", index), whole.shape().len()).map_err(|why| fail(&why))?;
        let order: Vec<usize> = (1..=axis).chain([0]).chain(axis + 1..whole.shape().len()).collect();
        let whole = transposed(&whole, &order).ok_or_else(|| fail("it makes strings"))?;
        carried.push(Arc::new(whole));
    }
    Ok(carried)
}

fn to_front(tensor: &Tensor, axis: usize) -> Option<Tensor> {
    let rank = tensor.shape().len();
    let order: Vec<usize> = [axis].into_iter().chain((0..rank).filter(|other| *other != axis)).collect();
    transposed(tensor, &order)
}

/// One item along the first axis.
fn item(tensor: &Tensor, at: usize) -> Option<Tensor> {
    let shape = tensor.shape().get(1..)?.to_vec();
    let len = shape.iter().product::<usize>() * tensor.datatype().size_bytes()?;
    let bytes = tensor.as_le_bytes()?.get(at * len..(at + 1) * len)?.to_vec();
    Tensor::from_le_bytes(tensor.datatype(), shape, bytes).ok()
}
