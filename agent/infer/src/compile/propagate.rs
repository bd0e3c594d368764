//! Moves dequantisation behind operators that only move elements, so that these work on bytes.
//!
//! `Reshape(Dequantise(q))` and `Dequantise(Reshape(q))` are the same tensor; in the second form what follows sees that it is
//! quantised. Order and sums are untouched, so this is exact.

use super::straight::{Placed, Straight, Value, ValueId};
use crate::datatype::Datatype;
use std::sync::Arc;

/// Rewrites a list.
pub(crate) fn propagate(list: &mut Straight) {
    let mut makers: Vec<Option<usize>> = vec![None; list.values.len()];
    let mut nodes: Vec<Placed> = Vec::with_capacity(list.nodes.len());
    for placed in std::mem::take(&mut list.nodes) {
        let dequantise = source(&placed, &makers).map(|at| nodes[at].clone());
        let swapped = dequantise.and_then(|dequantise| swap(list, &placed, &dequantise));
        for placed in swapped.map_or_else(|| vec![placed], |(moved, dequantise)| vec![moved, dequantise]) {
            makers.resize(list.values.len(), None);
            placed.outputs.iter().flatten().for_each(|id| makers[id.0] = Some(nodes.len()));
            nodes.push(placed);
        }
    }
    list.nodes = nodes;
}

fn moves_only(placed: &Placed) -> bool {
    let attributes = &placed.node.attributes;
    let one_output = placed.outputs.iter().flatten().count() == 1;
    one_output
        && match placed.node.op.as_str() {
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "MaxPool" | "Slice"
            | "Gather" | "DepthToSpace" | "SpaceToDepth" | "Expand" | "Tile" => true,
            "Resize" | "Upsample" => attributes.text("mode").unwrap_or("nearest") == "nearest",
            _ => false,
        }
}

/// The node that makes what an operator moves.
fn source(placed: &Placed, makers: &[Option<usize>]) -> Option<usize> {
    if !moves_only(placed) {
        return None;
    }
    placed.inputs.first().copied().flatten().and_then(|id| makers[id.0])
}

fn swap(list: &mut Straight, placed: &Placed, dequantise: &Placed) -> Option<(Placed, Placed)> {
    let q = dequantise.inputs.first().copied().flatten()?;
    let scale = dequantise.inputs.get(1).copied().flatten()?;
    let bytes = matches!(list.values[q.0].datatype, Datatype::Uint8 | Datatype::Int8);
    let one_scale = list.values[scale.0].constant.as_ref().is_some_and(|t| t.len() == 1);
    if !dequantise.node.op.ends_with("DequantizeLinear") || !bytes || !one_scale {
        return None;
    }
    let out = placed.outputs.first().copied().flatten()?;
    let value = Value {
        name: format!("{} (quantised)", list.values[out.0].name),
        datatype: list.values[q.0].datatype,
        shape: list.values[out.0].shape.clone(),
        constant: None,
    };
    list.values.push(value);
    let moved_q = ValueId(list.values.len() - 1);
    let mut moved = placed.clone();
    moved.inputs[0] = Some(q);
    moved.outputs = vec![Some(moved_q)];
    moved.single = None;
    let mut after = dequantise.clone();
    after.node = Arc::clone(&dequantise.node);
    after.inputs[0] = Some(moved_q);
    after.outputs = vec![Some(out)];
    Some((moved, after))
}
