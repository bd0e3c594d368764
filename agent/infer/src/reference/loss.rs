//! Losses of classification.

use super::call::{Answer, Call, floats, from_floats, integers};
use crate::tensor::Tensor;

/// `NegativeLogLikelihoodLoss`: inputs are logarithms of probabilities, classes, and weights of classes.
pub(super) fn negative_log_likelihood(call: &Call) -> Answer {
    let input = call.input(0)?;
    Ok(vec![loss(call, input, &floats(input)?)?])
}

/// `SoftmaxCrossEntropyLoss`: the same, of scores.
pub(super) fn softmax_cross_entropy(call: &Call) -> Answer {
    let scores = call.input(0)?;
    let (outer, classes, inner) = sizes(scores.shape())?;
    let mut logs = floats(scores)?;
    for block in 0..outer {
        for place in 0..inner {
            let at = |class: usize| (block * classes + class) * inner + place;
            let max = (0..classes).map(|c| logs[at(c)]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..classes).map(|c| (logs[at(c)] - max).exp()).sum();
            (0..classes).for_each(|c| logs[at(c)] -= max + sum.ln());
        }
    }
    let loss = loss(call, scores, &logs)?;
    Ok(vec![loss, from_floats(scores.datatype(), scores.shape().to_vec(), &logs)?])
}

/// Elements before the axis of classes, classes, elements after it.
fn sizes(shape: &[usize]) -> Result<(usize, usize, usize), String> {
    match shape {
        [n, classes, rest @ ..] => Ok((*n, *classes, rest.iter().product())),
        _ => Err(format!("scores of shape {shape:?} have no axis of classes")),
    }
}

fn loss(call: &Call, input: &Tensor, logs: &[f64]) -> Result<Tensor, String> {
    let (outer, classes, inner) = sizes(input.shape())?;
    let targets = integers(call.input(1)?)?;
    let weights = call.maybe(2).map(floats).transpose()?;
    if targets.len() != outer * inner || weights.as_ref().is_some_and(|w| w.len() != classes) {
        return Err("targets or weights do not fit the scores".into());
    }
    let ignored = call.node.attributes.int("ignore_index");
    let mut losses = Vec::with_capacity(targets.len());
    let mut total = 0.0;
    for (index, target) in targets.iter().enumerate() {
        if ignored == Some(*target) {
            losses.push(0.0);
            continue;
        }
        let class = usize::try_from(*target).ok().filter(|class| *class < classes);
        let class = class.ok_or_else(|| format!("there is no class {target} among {classes}"))?;
        let weight = weights.as_ref().map_or(1.0, |weights| weights[class]);
        total += weight;
        losses.push(-weight * logs[((index / inner) * classes + class) * inner + index % inner]);
    }
    let sum: f64 = losses.iter().sum();
    match call.text("reduction", "mean") {
        "none" => from_floats(input.datatype(), call.input(1)?.shape().to_vec(), &losses),
        "sum" => from_floats(input.datatype(), vec![], &[sum]),
        _ => from_floats(input.datatype(), vec![], &[sum / total]),
    }
}
