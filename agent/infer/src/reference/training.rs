//! Steps of optimisers, of the domain `ai.onnx.preview.training`.

use super::call::{Answer, Call, floats, from_floats};

/// What a step knows of one number that is learnt: itself, its gradient, and up to two values that it carries on.
type Known = [f64; 4];

/// The number and what it carries on, after a step.
type Next = [f64; 3];

/// Takes a step of every number. Of each tensor that is learnt there are `kinds` inputs, all of one kind side by side, after the
/// rate and the count of steps; the outputs are of the same kinds but for gradients.
fn step(call: &Call, kinds: usize, next: impl Fn(Known) -> Next) -> Answer {
    let learnt = call.inputs.len().saturating_sub(2);
    if learnt == 0 || !learnt.is_multiple_of(kinds) {
        return Err(format!("{learnt} inputs for {kinds} kinds of them"));
    }
    let tensors = learnt / kinds;
    let mut outputs = vec![Vec::new(); kinds - 1];
    for index in 0..tensors {
        let x = call.input(2 + index)?;
        let mut known = vec![Known::default(); x.len()];
        for kind in 0..kinds {
            let input = call.input(2 + kind * tensors + index)?;
            if input.shape() != x.shape() {
                return Err(format!("shapes {:?} and {:?} for one tensor", x.shape(), input.shape()));
            }
            known.iter_mut().zip(floats(input)?).for_each(|(known, value)| known[kind] = value);
        }
        let after: Vec<Next> = known.into_iter().map(&next).collect();
        for (kind, outputs) in outputs.iter_mut().enumerate() {
            let values: Vec<f64> = after.iter().map(|next| next[kind]).collect();
            outputs.push(from_floats(x.datatype(), x.shape().to_vec(), &values)?);
        }
    }
    Ok(outputs.concat())
}

/// The rate, and how many steps came before.
fn rate_and_count(call: &Call) -> Result<(f64, f64), String> {
    let need = |index: usize| call.scalar(index)?.ok_or_else(|| format!("input {index} is empty"));
    Ok((need(0)?, need(1)?))
}

/// `Adagrad`.
pub(super) fn adagrad(call: &Call) -> Answer {
    let (rate, count) = rate_and_count(call)?;
    let rate = rate / (1.0 + count * call.float("decay_factor", 0.0));
    let (norm, epsilon) = (call.float("norm_coefficient", 0.0), call.float("epsilon", 1e-6));
    step(call, 3, |[x, gradient, squares, _]| {
        let gradient = norm * x + gradient;
        let squares = squares + gradient * gradient;
        [x - rate * gradient / (squares.sqrt() + epsilon), squares, 0.0]
    })
}

/// `Adam`.
pub(super) fn adam(call: &Call) -> Answer {
    let (rate, count) = rate_and_count(call)?;
    let (alpha, beta) = (call.float("alpha", 0.9), call.float("beta", 0.999));
    let (norm, after) = (call.float("norm_coefficient", 0.0), call.float("norm_coefficient_post", 0.0));
    let epsilon = call.float("epsilon", 1e-6);
    let unbiased = (1.0 - beta.powf(count)).sqrt() / (1.0 - alpha.powf(count));
    let rate = if count > 0.0 { rate * unbiased } else { rate };
    step(call, 4, |[x, gradient, mean, squares]| {
        let gradient = norm * x + gradient;
        let mean = alpha * mean + (1.0 - alpha) * gradient;
        let squares = beta * squares + (1.0 - beta) * gradient * gradient;
        [(1.0 - after) * (x - rate * mean / (squares.sqrt() + epsilon)), mean, squares]
    })
}

/// `Momentum`, Nesterov's too.
pub(super) fn momentum(call: &Call) -> Answer {
    let (rate, count) = rate_and_count(call)?;
    let (alpha, norm) = (call.float("alpha", 0.0), call.float("norm_coefficient", 0.0));
    let beta = if count > 0.0 { call.float("beta", 1.0) } else { 1.0 };
    let nesterov = call.text("mode", "standard") == "nesterov";
    step(call, 3, |[x, gradient, speed, _]| {
        let gradient = norm * x + gradient;
        let speed = alpha * speed + beta * gradient;
        let ahead = if nesterov { gradient + alpha * speed } else { speed };
        [x - rate * ahead, speed, 0.0]
    })
}
