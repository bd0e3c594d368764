//! `NonMaxSuppression`: the best boxes of each class that do not overlap better ones.

use super::call::{Answer, Call, text};
use crate::tensor::Tensor;

/// Corners of a box: least and greatest row, least and greatest column.
type Corners = [f64; 4];

pub(super) fn non_max_suppression(call: &Call) -> Answer {
    let (boxes, scores) = (call.input(0)?, call.input(1)?);
    let ([batches, count, 4], [same_batches, classes, same_count]) = (boxes.shape(), scores.shape()) else {
        return Err(format!("boxes of shape {:?} and scores of shape {:?}", boxes.shape(), scores.shape()));
    };
    if batches != same_batches || count != same_count {
        return Err(format!("boxes of shape {:?} and scores of shape {:?}", boxes.shape(), scores.shape()));
    }
    let max = call.ints(2)?.and_then(|v| v.first().copied()).unwrap_or(0);
    let max = usize::try_from(max).unwrap_or(0).min(*count);
    let overlap_max = call.scalar(3)?.unwrap_or(0.0);
    let score_min = call.scalar(4)?.unwrap_or(f64::NEG_INFINITY);
    Call::work(&[*batches, *classes, *count, max.max(1)])?;
    let centred = call.int("center_point_box", 0) != 0;
    let corners: Vec<Corners> =
        call.floats(0)?.as_chunks().0.iter().map(|sides| corners(sides, centred)).collect();
    let scores = call.floats(1)?;
    let mut kept: Vec<i64> = Vec::new();
    for (list, scores) in scores.chunks_exact((*count).max(1)).enumerate() {
        let (batch, class) = (list / classes, list % classes);
        let own = &corners[batch * count..(batch + 1) * count];
        let mut order: Vec<usize> = (0..*count).filter(|i| scores[*i] > score_min).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mut chosen: Vec<usize> = Vec::new();
        for candidate in order {
            if chosen.len() == max {
                break;
            }
            if chosen.iter().all(|other| overlap(&own[*other], &own[candidate]) <= overlap_max) {
                chosen.push(candidate);
            }
        }
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        kept.extend(chosen.into_iter().flat_map(|index| [number(batch), number(class), number(index)]));
    }
    Ok(vec![Tensor::from_values(vec![kept.len() / 3, 3], &kept).map_err(text)?])
}

fn corners(sides: &[f64; 4], centred: bool) -> Corners {
    let [a, b, c, d] = *sides;
    if centred {
        return [b - d / 2.0, b + d / 2.0, a - c / 2.0, a + c / 2.0];
    }
    [a.min(c), a.max(c), b.min(d), b.max(d)]
}

/// The common area over the area of both together.
fn overlap(a: &Corners, b: &Corners) -> f64 {
    let area = |c: &Corners| (c[1] - c[0]) * (c[3] - c[2]);
    let rows = (a[1].min(b[1]) - a[0].max(b[0])).max(0.0);
    let columns = (a[3].min(b[3]) - a[2].max(b[2])).max(0.0);
    let union = area(a) + area(b) - rows * columns;
    if union > 0.0 { rows * columns / union } else { 0.0 }
}
