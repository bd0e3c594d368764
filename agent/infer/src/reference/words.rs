//! Operators of strings, and counts of sequences of words.

use super::{
    call::{Answer, Call, from_floats, integers, text},
    pooling::sizes,
};
use crate::{
    datatype::Datatype,
    rules::{broadcast, each_index, strides},
    tensor::Tensor,
};
use std::collections::HashMap;

/// `StringConcat`.
pub(super) fn concat(call: &Call) -> Answer {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let (Some(a_strings), Some(b_strings)) = (a.as_strings(), b.as_strings()) else {
        return Err("its inputs are not strings".into());
    };
    let shape = broadcast([a.shape(), b.shape()])?;
    let mut joined: Vec<Vec<u8>> = Vec::with_capacity(call.count(&shape)?);
    let (a_steps, b_steps) = (steps(a.shape(), shape.len()), steps(b.shape(), shape.len()));
    let mut room = call.limits.tensor_elements_max;
    let mut fits = true;
    each_index(&shape, |index| {
        let at = |steps: &[usize]| index.iter().zip(steps).map(|(i, step)| i * step).sum::<usize>();
        let (a, b) = (&a_strings[at(&a_steps)], &b_strings[at(&b_steps)]);
        match room.checked_sub(a.len() + b.len()) {
            Some(left) if fits => {
                room = left;
                joined.push([a.as_slice(), b.as_slice()].concat());
            }
            _ => fits = false,
        }
    });
    if !fits {
        return Err(format!(
            "its strings are longer than {} bytes together",
            call.limits.tensor_elements_max
        ));
    }
    Ok(vec![Tensor::from_strings(shape, joined).map_err(text)?])
}

/// Steps of a tensor along the axes that it is broadcast to.
fn steps(shape: &[usize], rank: usize) -> Vec<usize> {
    let own = strides(shape).into_iter().zip(shape).map(|(step, len)| if *len == 1 { 0 } else { step });
    std::iter::repeat_n(0, rank - shape.len()).chain(own).collect()
}

/// Sequences of words that are counted: where each stands in the output, and its weight.
type Known = HashMap<Vec<Vec<u8>>, (usize, f64)>;

/// `TfIdfVectorizer`.
pub(super) fn vectorise(call: &Call) -> Answer {
    let x = call.input(0)?;
    let words: Vec<Vec<u8>> = match x.as_strings() {
        Some(strings) => strings.to_vec(),
        None => integers(x)?.iter().map(|word| word.to_le_bytes().to_vec()).collect(),
    };
    let (row, outer) = match *x.shape() {
        [row] => (row, vec![]),
        [rows, row] => (row, vec![rows]),
        ref other => return Err(format!("its input has shape {other:?}")),
    };
    let indices = sizes(call.node.attributes.ints("ngram_indexes").ok_or("it has no ngram_indexes")?)?;
    let places = indices.iter().max().map_or(0, |most| most.saturating_add(1));
    let (known, longest) = known(call, &indices)?;
    let shape = [outer.as_slice(), &[places]].concat();
    let mut sums = vec![0.0; call.count(&shape)?];
    let whole = |name: &str, default: i64| usize::try_from(call.int(name, default)).unwrap_or(0);
    let lengths = whole("min_gram_length", 1).max(1)..=whole("max_gram_length", 1).min(longest);
    let skips = whole("max_skip_count", 0).min(row);
    Call::work(&[words.len().max(1), skips + 1, longest.max(1), longest.max(1)])?;
    let once = match call.text("mode", "TF") {
        "TF" | "TFIDF" => false,
        "IDF" => true,
        other => return Err(format!("mode {other:?} is not known")),
    };
    let weighs = call.text("mode", "TF") != "TF";
    for (words, sums) in words.chunks_exact(row.max(1)).zip(sums.chunks_exact_mut(places.max(1))) {
        let mut found: HashMap<usize, (f64, f64)> = HashMap::new();
        for (skip, length) in (0..=skips).flat_map(|skip| lengths.clone().map(move |length| (skip, length))) {
            // A single word skips none.
            if length == 1 && skip > 0 {
                continue;
            }
            let span = (length - 1).saturating_mul(skip + 1);
            for start in 0..words.len().saturating_sub(span) {
                let gram: Vec<Vec<u8>> =
                    words[start..=start + span].iter().step_by(skip + 1).cloned().collect();
                if let Some((place, weight)) = known.get(&gram) {
                    let entry = found.entry(*place).or_insert((0.0, *weight));
                    entry.0 += 1.0;
                }
            }
        }
        for (place, (count, weight)) in found {
            let count = if once { 1.0 } else { count };
            sums[place] = if weighs { count * weight } else { count };
        }
    }
    Ok(vec![from_floats(Datatype::Fp32, shape, &sums)?])
}

/// The sequences that a node names, and the length of the longest.
fn known(call: &Call, indices: &[usize]) -> Result<(Known, usize), String> {
    let attributes = &call.node.attributes;
    let pool: Vec<Vec<u8>> = match (attributes.texts("pool_strings"), attributes.ints("pool_int64s")) {
        (Some(words), _) => words.to_vec(),
        (None, Some(words)) => words.iter().map(|word| word.to_le_bytes().to_vec()).collect(),
        (None, None) => return Err("it has no pool".into()),
    };
    let starts = sizes(attributes.ints("ngram_counts").ok_or("it has no ngram_counts")?)?;
    let weights = attributes.floats("weights").unwrap_or_default();
    let mut known = Known::new();
    let mut places = indices.iter().enumerate();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(pool.len());
        let own = pool.get(*start..end).ok_or("its ngram_counts are out of order")?;
        for gram in own.chunks_exact(index + 1) {
            let (number, place) = places.next().ok_or("it has fewer ngram_indexes than sequences")?;
            let weight = weights.get(number).map_or(1.0, |weight| f64::from(*weight));
            known.insert(gram.to_vec(), (*place, weight));
        }
    }
    Ok((known, starts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::Value,
        reference::testing::{f32s, int64s, run},
    };

    #[test]
    fn words_are_counted_and_weighed() {
        let ints = |name: &'static str, values: &[i64]| (name, Value::Ints(values.to_vec()));
        let mut node = vec![
            ints("ngram_counts", &[0, 2]),
            ints("ngram_indexes", &[0, 1, 2]),
            ("max_gram_length", Value::Int(2)),
            ("max_skip_count", Value::Int(1)),
            ints("pool_int64s", &[7, 8, 7, 8]),
            ("weights", Value::Floats(vec![0.5, 1.0, 10.0])),
        ];
        let x = int64s(&[7, 7, 8, 9]);
        assert_eq!(run(vectorise, &node, &[&x]).expect("runs")[0], f32s(&[3], &[2.0, 1.0, 2.0]));
        node.push(("mode", Value::Text(b"TFIDF".to_vec())));
        assert_eq!(run(vectorise, &node, &[&x]).expect("runs")[0], f32s(&[3], &[1.0, 1.0, 20.0]));
        node.push(("mode", Value::Text(b"IDF".to_vec())));
        assert_eq!(run(vectorise, &node, &[&x]).expect("runs")[0], f32s(&[3], &[0.5, 1.0, 10.0]));
        node.push(ints("ngram_indexes", &[0, 1, i64::MAX]));
        assert!(run(vectorise, &node, &[&x]).is_err());
        node.push(ints("ngram_counts", &[2, 0]));
        assert!(run(vectorise, &node, &[&x]).is_err());
        assert!(run(vectorise, &[], &[&x]).is_err());
    }
}
