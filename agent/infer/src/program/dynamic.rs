//! Nodes whose output shapes only a run tells.

use super::{
    Engine,
    drive::{Program, Tensors, Which, shapes_failed},
    scan,
};
use crate::{
    compile::straight::Placed,
    error::RunError,
    graph::{Graph, Node},
    profile::{LayerInfo, Profile},
    rules::View,
    single::Single,
    tensor::Tensor,
};
use std::{collections::HashMap, sync::Arc, time::Instant};

/// Most turns of one loop.
const TURNS_MAX: i64 = 1_000_000;

/// What inner graphs may read from around their node.
pub(super) struct Outer<'a> {
    pub(super) tensors: &'a Tensors,
    pub(super) constants: &'a HashMap<String, Arc<Tensor>>,
}

/// Runs a node on tensors.
///
/// # Errors
/// The operator is not supported, or fails on these tensors.
pub(super) fn run<E: Engine>(
    program: &Program<E>,
    placed: &Placed,
    inputs: &[Option<Arc<Tensor>>],
    outer: &Outer<'_>,
    profile: Option<&mut Profile>,
) -> Result<Vec<Arc<Tensor>>, RunError> {
    let node = &placed.node;
    match node.op.as_str() {
        "Loop" => turn(program, placed, inputs, outer, profile),
        "Scan" => scan::run(program, placed, inputs, outer, profile),
        _ => {
            let view = |tensor: &Arc<Tensor>| View {
                datatype: tensor.datatype(),
                shape: tensor.shape().to_vec(),
                constant: Some(Arc::clone(tensor)),
            };
            let views: Vec<Option<View>> = inputs.iter().map(|tensor| tensor.as_ref().map(view)).collect();
            let start = profile.as_ref().map(|_| Instant::now());
            let single = program
                .model()
                .and_then(|model| Single::compile(node, &model.opsets, &views, &program.limits))
                .map_err(|e| shapes_failed(&e))?;
            let outputs = single.run(&[]).map_err(|why| failed(node, &why))?;
            if let (Some(profile), Some(start)) = (profile, start) {
                profile.add_node(start.elapsed(), || layer(node, &single, &outputs));
            }
            Ok(outputs.into_iter().map(Arc::new).collect())
        }
    }
}

/// A node that runs between plans. It is made ready anew each time, which its time includes.
fn layer(node: &Node, single: &Single, outputs: &[Tensor]) -> LayerInfo {
    LayerInfo {
        name: node.title().to_owned(),
        operators: vec![node.op.clone()],
        kernel: format!("{}, between plans", single.runner()),
        fallback: Some(single.runner()),
        shape: outputs.first().map_or_else(Vec::new, |tensor| tensor.shape().to_vec()),
        macs: single.macs(),
    }
}

pub(super) fn failed(node: &Node, why: &str) -> RunError {
    RunError::Failed { why: format!("{}: {why}", node.describe()) }
}

/// ONNX's `Loop`: turns of its body, carrying values from turn to turn and collecting others.
fn turn<E: Engine>(
    program: &Program<E>,
    placed: &Placed,
    inputs: &[Option<Arc<Tensor>>],
    outer: &Outer<'_>,
    mut profile: Option<&mut Profile>,
) -> Result<Vec<Arc<Tensor>>, RunError> {
    let node = &placed.node;
    let body = node.graphs.get("body").ok_or_else(|| failed(node, "it has no body"))?;
    let first = |index: usize| inputs.get(index).and_then(Option::as_ref);
    let limit = match first(0) {
        Some(tensor) => scalar(tensor).ok_or_else(|| failed(node, "its trip count is no number"))?,
        None => i64::MAX,
    };
    let mut going = first(1).is_none_or(|tensor| truth(tensor));
    let mut carried: Vec<Arc<Tensor>> = inputs.iter().skip(2).flatten().cloned().collect();
    let count = carried.len();
    let mut collected: Vec<Vec<Arc<Tensor>>> = vec![Vec::new(); body.outputs.len().saturating_sub(1 + count)];
    if body.inputs.len() != count + 2 || body.outputs.len() < count + 1 {
        return Err(failed(node, "its body does not take and make what it carries"));
    }
    let captured = captured(body, outer);
    let mut warm = None;
    let mut index = 0;
    let elements_max = program.limits.tensor_elements_max;
    let turns_max = i64::try_from(elements_max).unwrap_or(i64::MAX).min(TURNS_MAX);
    let mut elements = 0usize;
    while going && index < limit {
        if index >= turns_max {
            return Err(failed(node, &format!("it turned more than {turns_max} times")));
        }
        let mut given = captured.clone();
        let counter = Tensor::from_values(vec![], &[index]);
        let condition = Tensor::from_le_bytes(crate::datatype::Datatype::Bool, vec![], vec![1]);
        let (Ok(counter), Ok(condition)) = (counter, condition) else { break };
        let own = [Arc::new(counter), Arc::new(condition)].into_iter().chain(carried);
        given.extend(body.inputs.iter().cloned().zip(own));
        let which = Which::Inner(body, &placed.key);
        let mut outputs = program.run(which, given, &mut warm, profile.as_deref_mut())?.into_iter();
        going = outputs.next().is_some_and(|tensor| truth(&tensor));
        carried = outputs.by_ref().take(count).collect();
        for (list, tensor) in collected.iter_mut().zip(outputs) {
            elements = elements.saturating_add(tensor.len());
            list.push(tensor);
        }
        if elements > elements_max {
            return Err(failed(node, &format!("it collects more than {elements_max} elements")));
        }
        index += 1;
    }
    for list in collected {
        carried
            .push(Arc::new(stacked(&list).ok_or_else(|| failed(node, "its turns made different shapes"))?));
    }
    Ok(carried)
}

fn scalar(tensor: &Tensor) -> Option<i64> {
    crate::rules::ints(tensor).ok()?.first().copied()
}

fn truth(tensor: &Tensor) -> bool {
    tensor.as_le_bytes().and_then(|bytes| bytes.first()).is_some_and(|byte| *byte != 0)
}

/// What an inner graph reads from around it.
pub(super) fn captured(body: &Graph, outer: &Outer<'_>) -> Tensors {
    let mut found = Tensors::new();
    for name in body.free_names() {
        if let Some(tensor) = outer.tensors.get(name).or_else(|| outer.constants.get(name)) {
            found.insert(name.to_owned(), Arc::clone(tensor));
        }
    }
    found
}

/// Tensors of one shape, one after another along a new first axis.
pub(super) fn stacked(list: &[Arc<Tensor>]) -> Option<Tensor> {
    let first = list.first()?;
    let shape = [&[list.len()], first.shape()].concat();
    let mut bytes = Vec::new();
    for tensor in list {
        if tensor.shape() != first.shape() || tensor.datatype() != first.datatype() {
            return None;
        }
        bytes.extend_from_slice(tensor.as_le_bytes()?);
    }
    Tensor::from_le_bytes(first.datatype(), shape, bytes).ok()
}
