//! What a plan takes of memory, told from the plan alone.

use super::{Operation, Place, Plan, RecurrentWeights, Step};
use crate::{memory::Footprint, single::CONSTANT_COPIES};

/// What is kept of a step besides its weights, and more than most need: descriptions, tables, alignment.
const STEP_BYTES: u64 = 4 << 10;

impl Plan {
    /// What the plan takes where `threads` make it ready and run it, `packed` says what an engine keeps of a step's weights, and
    /// `scratch_bytes` is what each thread needs.
    #[must_use]
    pub fn footprint(&self, threads: usize, packed: impl Fn(&Step) -> u64, scratch_bytes: u64) -> Footprint {
        let kept = |step: &Step| packed(step) + self.constants(step) + STEP_BYTES;
        let mut loose: Vec<u64> = self.steps.iter().map(Step::loose_bytes).collect();
        loose.sort_unstable_by_key(|bytes| std::cmp::Reverse(*bytes));
        let copies = |step: &Step| match &step.operation {
            Operation::Single(single) => (CONSTANT_COPIES - 2) * single.constant_bytes(),
            _ => 0,
        };
        let singles = self.steps.iter().map(copies).max().unwrap_or(0);
        let given = self.inputs.iter().chain(&self.outputs).map(|id| self.bytes(*id)).sum::<u64>();
        Footprint {
            ready_bytes: self.steps.iter().map(kept).sum(),
            making_bytes: loose.iter().take(threads.max(1)).sum::<u64>().max(singles),
            run_bytes: self.arena_bytes as u64
                + given
                + self.steps.iter().map(|step| self.outside_bytes(step)).max().unwrap_or(0)
                + threads.max(1) as u64 * scratch_bytes,
        }
    }

    fn bytes(&self, id: super::BufferId) -> u64 {
        self.buffer(id).size_bytes() as u64
    }

    /// Constants that a step reads: as the model holds them, and as the step does.
    fn constants(&self, step: &Step) -> u64 {
        let is_constant = |id: &&super::BufferId| matches!(self.buffer(**id).place, Place::Constant(_));
        let read = step.inputs.iter().filter(is_constant).map(|id| 2 * self.bytes(*id)).sum::<u64>();
        match &step.operation {
            Operation::Single(single) => read + 2 * single.constant_bytes(),
            _ => read,
        }
    }

    /// What a node that runs on its own is given and makes, outside the arena, and about as much while it works.
    fn outside_bytes(&self, step: &Step) -> u64 {
        match &step.operation {
            Operation::Single(_) => {
                2 * step.inputs.iter().chain(&step.outputs).map(|id| self.bytes(*id)).sum::<u64>()
            }
            _ => 0,
        }
    }
}

impl Step {
    /// Weights that are in memory while they are packed: as they are read, as an engine wants them, and in its order.
    fn loose_bytes(&self) -> u64 {
        match &self.operation {
            Operation::Conv(conv) => 2 * 4 * conv.weights.len() as u64,
            Operation::QConv(conv) | Operation::DynamicConv(conv) => (1 + 3 * 2) * conv.weights.len() as u64,
            Operation::Recurrent(layer) => {
                let of = |weights: &RecurrentWeights| match weights {
                    RecurrentWeights::Floats(weights) => 4 * weights.len() as u64,
                    RecurrentWeights::Bytes { weights, .. } => 3 * 2 * weights.len() as u64,
                };
                layer.directions.iter().map(|direction| of(&direction.weights)).sum()
            }
            _ => 0,
        }
    }
}
