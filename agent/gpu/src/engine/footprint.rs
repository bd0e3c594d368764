//! Memory that plans take, that of the device counted as any other: boards share it.

use super::{run::Passes, stages::Stage};
use whimbrel_infer::{
    Engine, Footprint,
    plan::{Conv2d, Operation, Place, Plan, QConvOutput, Step},
};

/// Bytes of a table of pairs of bytes.
const TABLE_BYTES: u64 = 1 << 16;

/// Bytes of what each step needs besides weights: places of its dispatches, and small constants.
const STEP_BYTES: u64 = 4096;

/// Channels as kernels fill them up, at most.
fn filled(channels: usize, groups: usize) -> u64 {
    let groups = groups.max(1);
    ((channels / groups).next_multiple_of(8) * groups) as u64
}

/// Elements of the weights of a convolution, filled up.
fn weights(conv: &Conv2d) -> u64 {
    let taps = (conv.kernel_h * conv.kernel_w) as u64;
    let inputs = (conv.in_c / conv.groups.max(1)).next_multiple_of(4) as u64;
    taps.saturating_mul(inputs).saturating_mul(filled(conv.out_c, conv.groups))
}

/// Constants of a step on the device, and its weights before they are packed.
fn constants(step: &Step) -> [u64; 2] {
    match &step.operation {
        Operation::Conv(conv) => [weights(&conv.geometry).saturating_mul(4), conv.weights.len() as u64 * 4],
        Operation::QConv(conv) => {
            let residual = matches!(conv.output, QConvOutput::Bytes { residual: Some(_), .. });
            let table = if residual { TABLE_BYTES } else { 0 };
            // Weights beyond int8 take twice as much, or in a rare case three times.
            [weights(&conv.geometry).saturating_mul(2).saturating_add(table), conv.weights.len() as u64 * 2]
        }
        Operation::QAdd(_) | Operation::QMul(_) | Operation::QBroadcast(_) => [TABLE_BYTES, 0],
        Operation::Resize(spec) => [16 * (spec.output[0] + spec.output[1]) as u64, 0],
        _ => [0, 0],
    }
}

/// Scratch memory of a step: operands and result with channels filled up.
fn scratch(plan: &Plan, step: &Step) -> u64 {
    let Operation::QConv(conv) = &step.operation else { return 0 };
    let Conv2d { in_c, out_c, groups, batch, in_h, in_w, .. } = conv.geometry;
    let result = step.outputs.first().map_or(0, |id| plan.buffer(*id).size_bytes() as u64);
    let more = |channels: usize, bytes: u64| {
        if (channels / groups.max(1)).is_multiple_of(4) {
            return 0;
        }
        bytes.saturating_mul(filled(channels, groups)) / (channels as u64).max(1)
    };
    let operand = (batch * in_h * in_w * in_c) as u64;
    more(in_c, operand).saturating_add(more(out_c, result).saturating_mul(2))
}

/// What a plan will take, rather too much than too little.
pub(super) fn estimate<F: Engine>(other: &F, plan: &Plan) -> Footprint {
    let elsewhere = elsewhere(other, plan);
    let sum = |numbers: &mut dyn Iterator<Item = u64>| numbers.fold(0, u64::saturating_add);
    let packed = sum(&mut plan.steps.iter().map(|step| constants(step)[0].saturating_add(STEP_BYTES)));
    let unpacked = plan.steps.iter().map(|step| constants(step)[1]).max().unwrap_or(0);
    let literals = sum(&mut plan.buffers.iter().map(|buffer| match buffer.place {
        Place::Constant(_) => buffer.size_bytes() as u64 + 128,
        _ => 0,
    }));
    let ends = plan.inputs.iter().chain(&plan.outputs).map(|id| plan.buffer(*id).size_bytes() as u64);
    let scratch = plan.steps.iter().map(|step| scratch(plan, step)).max().unwrap_or(0);
    let run = [plan.arena_bytes as u64, scratch, literals, sum(&mut ends.map(|bytes| bytes * 3))];
    Footprint {
        ready_bytes: packed.saturating_add(literals).saturating_add(elsewhere.ready_bytes),
        // Constants are put together before they go to the device.
        making_bytes: packed.saturating_add(unpacked).max(elsewhere.making_bytes),
        run_bytes: sum(&mut run.into_iter()).saturating_add(elsewhere.run_bytes),
    }
}

/// What has no kernel here, as the other engine takes it.
fn elsewhere<F: Engine>(other: &F, plan: &Plan) -> Footprint {
    use Operation::{DynamicConv, DynamicQuantise, Recurrent, Single};
    let no_kernel = |step: &&Step| {
        matches!(step.operation, Recurrent(_) | DynamicQuantise { .. } | DynamicConv(_) | Single(_))
    };
    let steps: Vec<Step> = plan.steps.iter().filter(no_kernel).cloned().collect();
    if steps.is_empty() {
        return Footprint::default();
    }
    other.estimate(&Plan { steps, ..plan.clone() })
}

/// What a plan on the device has turned out to take.
pub(super) fn found<F: Engine>(other: &F, passes: &Passes, stages: &[Stage<F>]) -> Footprint {
    let mut footprint = passes.footprint();
    for stage in stages {
        if let Stage::Island { prepared, .. } = stage {
            let island = other.footprint(prepared).unwrap_or_default();
            footprint.ready_bytes = footprint.ready_bytes.saturating_add(island.ready_bytes);
            footprint.run_bytes = footprint.run_bytes.saturating_add(island.run_bytes);
        }
    }
    footprint
}
