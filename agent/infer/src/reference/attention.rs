//! `Attention`: each query's weighted sum of values, by how well their keys match it.

use super::call::{Answer, Call, floats, from_floats, size};
use crate::{datatype::Datatype, tensor::Tensor};

pub(super) fn attention(call: &Call) -> Answer {
    let queries = Heads::new(call, 0, "q_num_heads")?;
    let keys = Heads::new(call, 1, "kv_num_heads")?;
    let values = Heads::new(call, 2, "kv_num_heads")?;
    let past = call.maybe(4).map_or(0, |past| past.shape().get(2).copied().unwrap_or(0));
    let (keys, values) = (keys.after(call, 4)?, values.after(call, 5)?);
    let ([batch, heads, count, width], [_, groups, total, _]) = (queries.shape, keys.shape);
    let fit = keys.shape == [batch, groups, total, width] && values.shape[..3] == keys.shape[..3];
    if !fit || heads.checked_rem(groups) != Some(0) {
        let shapes = [queries.shape, keys.shape, values.shape];
        return Err(format!("queries, keys and values of shapes {shapes:?} do not fit"));
    }
    let out_width = values.shape[3];
    call.count(&[batch, heads, count, out_width])?;
    Call::work(&[batch, heads, count, total.max(1), width.saturating_add(out_width).max(1)])?;
    let bias = Bias::new(call, [batch, heads, count, total], past)?;
    let wants_scores = call.node.outputs.get(3).is_some_and(|name| !name.is_empty());
    if wants_scores {
        call.count(&[batch, heads, count, total])?;
    }
    let scoring = Scoring::new(call, width)?;
    let mut scores = Vec::new();
    let mut out = Heads { values: Vec::new(), shape: [batch, heads, count, out_width] };
    for line in 0..batch * heads * count {
        let (place, head, item) = (line % count, line / count % heads, line / count / heads);
        let group = head / (heads / groups);
        let query = queries.line(item, head, place);
        let products = (0..total).map(|key| dot(query, keys.line(item, group, key)));
        let (weights, shown) = scoring.weights(products.collect(), |key| bias.at([item, head, place, key]));
        let mut sums = vec![0.0; out_width];
        for (key, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let value = values.line(item, group, key);
            sums.iter_mut().zip(value).for_each(|(sum, value)| *sum += weight * value);
        }
        out.values.extend(sums);
        if wants_scores {
            scores.extend(shown);
        }
    }
    let [q, k, v] = [0, 1, 2].map(|index| call.input(index).map(Tensor::datatype));
    let (q, flat) = (q?, call.input(0)?.shape().len() == 3);
    let scores_shape = if wants_scores { vec![batch, heads, count, total] } else { vec![0] };
    Ok(vec![
        if flat { out.flat(q)? } else { from_floats(q, out.shape.to_vec(), &out.values)? },
        from_floats(k?, keys.shape.to_vec(), &keys.values)?,
        from_floats(v?, values.shape.to_vec(), &values.values)?,
        from_floats(q, scores_shape, &scores)?,
    ])
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Vectors by batch, head and place in the sequence.
struct Heads {
    values: Vec<f64>,
    /// Batch, heads, length, size of a vector.
    shape: [usize; 4],
}

impl Heads {
    /// An input of four axes, or of three where an attribute says how many heads lie side by side in the last.
    fn new(call: &Call, index: usize, attribute: &str) -> Result<Self, String> {
        let values = call.floats(index)?;
        let (batch, length, all) = match *call.input(index)?.shape() {
            [batch, heads, length, width] => {
                return Ok(Self { values, shape: [batch, heads, length, width] });
            }
            [batch, length, all] => (batch, length, all),
            ref other => return Err(format!("input {index} has shape {other:?}")),
        };
        let heads = size(call.int(attribute, 0))?;
        if all.checked_rem(heads) != Some(0) {
            return Err(format!("{all} elements for a {attribute} of {heads}"));
        }
        Ok(Self { values, shape: [batch, length, heads, all / heads] }.exchanged())
    }

    /// With the two axes in the middle exchanged.
    fn exchanged(self) -> Self {
        let [batch, a, b, width] = self.shape;
        if self.values.is_empty() {
            return Self { values: Vec::new(), shape: [batch, b, a, width] };
        }
        let mut values = Vec::with_capacity(self.values.len());
        for item in 0..batch {
            for second in 0..b {
                (0..a).for_each(|first| values.extend_from_slice(self.line(item, first, second)));
            }
        }
        Self { values, shape: [batch, b, a, width] }
    }

    /// Those of the input at `index` first, where it is there.
    fn after(self, call: &Call, index: usize) -> Result<Self, String> {
        let Some(past) = call.maybe(index) else { return Ok(self) };
        let [batch, heads, length, width] = self.shape;
        let &[past_batch, past_heads, past_length, past_width] = past.shape() else {
            return Err(format!("input {index} has shape {:?}", past.shape()));
        };
        if [past_batch, past_heads, past_width] != [batch, heads, width] {
            return Err(format!("what is past has shape {:?}, what is new {:?}", past.shape(), self.shape));
        }
        let shape = [batch, heads, past_length.saturating_add(length), width];
        let mut values = Vec::with_capacity(call.count(&shape)?);
        let past = floats(past)?;
        let rows = if shape.contains(&0) { 0 } else { batch * heads };
        for row in 0..rows {
            values.extend_from_slice(&past[row * past_length * width..(row + 1) * past_length * width]);
            values.extend_from_slice(&self.values[row * length * width..(row + 1) * length * width]);
        }
        Ok(Self { values, shape })
    }

    fn line(&self, batch: usize, head: usize, place: usize) -> &[f64] {
        let [_, heads, length, width] = self.shape;
        let line = (batch * heads + head) * length + place;
        &self.values[line * width..(line + 1) * width]
    }

    /// A tensor of three axes, the heads side by side in the last.
    fn flat(self, datatype: Datatype) -> Result<Tensor, String> {
        let Self { values, shape: [batch, length, heads, width] } = self.exchanged();
        from_floats(datatype, vec![batch, length, heads.saturating_mul(width)], &values)
    }
}

/// What is added to a score before it is capped: minus infinity where a query must not see a key.
struct Bias {
    mask: Option<Vec<f64>>,
    /// Step of the mask for each axis, and the length of its last one.
    steps: [usize; 4],
    known: usize,
    /// Where a query sees only keys up to its own place: how many came before the first query.
    causal_after: Option<usize>,
    /// How many keys each batch item has.
    lengths: Option<Vec<i64>>,
}

impl Bias {
    fn new(call: &Call, scores: [usize; 4], past: usize) -> Result<Self, String> {
        let causal_after = (call.int("is_causal", 0) != 0).then_some(past);
        let lengths = call.ints(6)?;
        if lengths.as_ref().is_some_and(|lengths| lengths.len() != scores[0]) {
            return Err(format!("nonpad_kv_seqlen does not have {} values", scores[0]));
        }
        let mut new = Self { mask: None, steps: [0; 4], known: scores[3], causal_after, lengths };
        let Some(mask) = call.maybe(3) else { return Ok(new) };
        let wrong = || format!("a mask of shape {:?} for scores of shape {scores:?}", mask.shape());
        let mut shape = [1; 4];
        let offset = 4usize.checked_sub(mask.shape().len()).ok_or_else(wrong)?;
        shape[offset..].copy_from_slice(mask.shape());
        let mut step = 1;
        for axis in (0..4).rev() {
            let (own, all) = (shape[axis], scores[axis]);
            // Since version 24 the last axis may end early: no query sees the keys after that.
            let ends_early = axis == 3 && own < all && call.node.version >= 24;
            if own == all || ends_early {
                new.steps[axis] = step;
            } else if own != 1 {
                return Err(wrong());
            }
            if ends_early {
                new.known = own;
            }
            step = step.saturating_mul(own);
        }
        let see = mask.datatype() == Datatype::Bool;
        let one = |v: f64| {
            if !see {
                v
            } else if v != 0.0 {
                0.0
            } else {
                f64::NEG_INFINITY
            }
        };
        new.mask = Some(floats(mask)?.into_iter().map(one).collect());
        Ok(new)
    }

    fn at(&self, index: [usize; 4]) -> f64 {
        let [item, _, place, key] = index;
        let unseen = key >= self.known
            || self.causal_after.is_some_and(|past| key > place + past)
            || self.lengths.as_ref().is_some_and(|all| usize::try_from(all[item]).is_ok_and(|n| key >= n));
        if unseen {
            return f64::NEG_INFINITY;
        }
        let Some(mask) = &self.mask else { return 0.0 };
        mask[index.iter().zip(self.steps).map(|(i, step)| i * step).sum::<usize>()]
    }
}

/// From products of a query with keys to weights of their values.
struct Scoring {
    scale: f64,
    /// Scores are held between this and its negative, smoothly; 0 where they are not.
    cap: f64,
    /// Which stage of the scores is shown.
    shown: i64,
}

impl Scoring {
    #[allow(clippy::cast_precision_loss, reason = "a size of vectors")]
    fn new(call: &Call, width: usize) -> Result<Self, String> {
        let scale = call.node.attributes.float("scale");
        let scale = scale.map_or_else(|| 1.0 / (width as f64).sqrt(), f64::from);
        let shown = call.int("qk_matmul_output_mode", 0);
        if !(0..=3).contains(&shown) {
            return Err(format!("its qk_matmul_output_mode is {shown}"));
        }
        Ok(Self { scale, cap: call.float("softcap", 0.0), shown })
    }

    /// Weights, and the stage that is shown. A query that sees no key gives no weight.
    fn weights(&self, mut scores: Vec<f64>, bias: impl Fn(usize) -> f64) -> (Vec<f64>, Vec<f64>) {
        let mut stages = vec![];
        let mut show = |stage: i64, scores: &[f64]| {
            if self.shown == stage {
                stages = scores.to_vec();
            }
        };
        scores.iter_mut().for_each(|score| *score *= self.scale);
        show(0, &scores);
        scores.iter_mut().enumerate().for_each(|(key, score)| *score += bias(key));
        show(1, &scores);
        if self.cap > 0.0 {
            // Capped, minus infinity would let a query see what it must not.
            let seen = scores.iter_mut().filter(|score| **score != f64::NEG_INFINITY);
            seen.for_each(|score| *score = self.cap * (*score / self.cap).tanh());
        }
        show(2, &scores);
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let most = if most == f64::NEG_INFINITY { 0.0 } else { most };
        scores.iter_mut().for_each(|score| *score = (*score - most).exp());
        let sum: f64 = scores.iter().sum();
        if sum > 0.0 {
            scores.iter_mut().for_each(|score| *score /= sum);
        }
        show(3, &scores);
        (scores, stages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::Value,
        reference::testing::{f32s, run},
    };

    #[test]
    fn capping_does_not_show_what_a_mask_hides_and_a_query_may_see_nothing() {
        let tensor = |values: &[f32]| f32s(&[1, 1, 2, 1], values);
        let mask = Tensor::from_values(vec![2, 2], &[false, true, false, false]).expect("valid");
        let (q, k, v) = (tensor(&[1.0, 2.0]), tensor(&[3.0, -4.0]), tensor(&[5.0, 6.0]));
        let answer = run(attention, &[("softcap", Value::Float(0.5))], &[&q, &k, &v, &mask]).expect("runs");
        assert_eq!(answer[0], tensor(&[6.0, 0.0]));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused_and_take_no_time() {
        let none = |shape: &[usize]| f32s(shape, &[]);
        let heads = [("q_num_heads", Value::Int(1)), ("kv_num_heads", Value::Int(1))];
        let wide = none(&[1 << 40, 1 << 20, 0]);
        assert!(run(attention, &heads, &[&wide, &wide, &wide]).is_err());
        let (line, other) = (none(&[1, 1, 0, 4]), none(&[1, 1, 0, 5]));
        assert!(run(attention, &[], &[&line, &other, &line]).is_err());
        assert!(
            run(attention, &[], &[&line, &line, &other]).is_ok_and(|made| made[0].shape() == [1, 1, 0, 5])
        );
        assert!(run(attention, &[], &[&wide, &wide, &wide]).is_err());
    }
}
