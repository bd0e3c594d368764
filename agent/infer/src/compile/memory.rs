//! Lifetimes of buffers to offsets in one arena.
//!
//! A buffer is alive from the step that writes it to the last that reads it. Largest first, each is put at the lowest offset where it
//! overlaps no other that is alive at the same time ("greedy by size", Pisarchyk and Lee, 2020).

use crate::plan::{BufferId, Place, Plan};

/// Alignment of every buffer, in bytes: a cache line, and the widest vector.
pub const ALIGNMENT_BYTES: usize = 64;

/// Bytes after every buffer that a kernel may read, and not write.
pub const SLACK_BYTES: usize = 64;

/// Steps during which a buffer is alive, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifetime {
    first: usize,
    last: usize,
}

/// Gives every buffer its place, and the plan its arena's size.
pub(crate) fn place(plan: &mut Plan) {
    let lifetimes = lifetimes(plan);
    let mut order: Vec<usize> = (0..plan.buffers.len()).filter(|index| lifetimes[*index].is_some()).collect();
    order.sort_by_key(|index| (std::cmp::Reverse(plan.buffers[*index].size_bytes()), *index));
    let mut placed: Vec<(usize, usize, Lifetime)> = Vec::new();
    for index in order {
        let Some(life) = lifetimes[index] else { continue };
        let size = room(plan.buffers[index].size_bytes());
        let offset = lowest_gap(&placed, size, life);
        let at = placed.partition_point(|(start, ..)| *start <= offset);
        placed.insert(at, (offset, offset + size, life));
        plan.buffers[index].place = Place::Arena(offset);
    }
    plan.arena_bytes = placed.iter().map(|(_, end, _)| *end).max().unwrap_or(0);
    for index in 0..plan.buffers.len() {
        let (of, offset) = match plan.buffers[index].place {
            Place::View(of) => (of, 0),
            Place::Part(of, offset) => (of, offset),
            _ => continue,
        };
        let mut place = plan.buffers[of.0].place.clone();
        if let Place::Arena(start) = &mut place {
            *start += offset;
        }
        plan.buffers[index].place = place;
    }
}

fn room(size: usize) -> usize {
    size.next_multiple_of(ALIGNMENT_BYTES) + SLACK_BYTES
}

/// The lifetime of each buffer that has memory of its own in the arena.
fn lifetimes(plan: &Plan) -> Vec<Option<Lifetime>> {
    let mut lifetimes: Vec<Option<Lifetime>> = vec![None; plan.buffers.len()];
    let root = |id: BufferId| match plan.buffers[id.0].place {
        Place::View(of) | Place::Part(of, _) => of,
        _ => id,
    };
    let mut touch = |id: BufferId, step: usize| {
        let id = root(id);
        if !matches!(plan.buffers[id.0].place, Place::Arena(_)) {
            return;
        }
        let life = lifetimes[id.0].get_or_insert(Lifetime { first: step, last: step });
        life.first = life.first.min(step);
        life.last = life.last.max(step);
    };
    let end = plan.steps.len() + 1;
    plan.inputs.iter().for_each(|id| touch(*id, 0));
    for (index, step) in plan.steps.iter().enumerate() {
        step.inputs.iter().chain(&step.outputs).for_each(|id| touch(*id, index + 1));
    }
    plan.outputs.iter().for_each(|id| touch(*id, end));
    lifetimes
}

/// The lowest offset at which `size` bytes overlap nothing that is alive during `life`; `placed` is sorted by offset.
fn lowest_gap(placed: &[(usize, usize, Lifetime)], size: usize, life: Lifetime) -> usize {
    let mut offset = 0;
    for (start, end, other) in placed {
        if other.last < life.first || life.last < other.first {
            continue;
        }
        if offset + size <= *start {
            break;
        }
        offset = offset.max(*end);
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_lives_together_never_overlaps(
            buffers in proptest::collection::vec((1usize..5000, 0usize..20, 0usize..20), 1..40),
        ) {
            let mut placed: Vec<(usize, usize, Lifetime)> = Vec::new();
            for (size, a, b) in buffers {
                let life = Lifetime { first: a.min(b), last: a.max(b) };
                let offset = lowest_gap(&placed, size, life);
                for (start, end, other) in &placed {
                    let apart = other.last < life.first || life.last < other.first;
                    prop_assert!(apart || offset + size <= *start || *end <= offset);
                }
                let at = placed.partition_point(|(start, ..)| *start <= offset);
                placed.insert(at, (offset, offset + size, life));
            }
        }
    }
}
