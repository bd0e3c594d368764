//! Segments to a plan cache and back.

use super::{
    Engine,
    drive::Program,
    file::ModelFile,
    segments::{Key, Recorded, Segment, Segments},
    session::Shared,
};
use crate::{
    binding::Binding,
    cache::{Blob, Described, Record, SegmentRecord, Slot, Written},
    limits::ImportLimits,
    memory::{Budget, Footprint, Purpose},
    plan::Plan,
    source::Source,
};
use std::sync::Arc;

/// A model of what a cache holds, its file not read; the engine again where the two do not fit, or there is no memory for it.
pub(super) fn restore<E: Engine>(
    engine: E,
    described: Described,
    (source, limits, budget): (&Source, &ImportLimits, &Arc<Budget>),
    slot: Option<Slot>,
) -> Result<Shared<E>, E> {
    let Record { inputs, symbols, outputs, macs, segments: records } = described;
    let segments = Segments::new(false);
    let mut found =
        if inputs.len() == symbols.len() && !records.is_empty() { Ok(()) } else { Err(Misfit::Parts) };
    for record in records {
        found = found.and_then(|()| {
            let (key, segment) = restored(&engine, record, outputs.len(), (limits, budget))?;
            segments.add(key, segment);
            Ok(())
        });
    }
    if let Err(misfit) = found {
        if let (Misfit::Parts, Some(slot)) = (misfit, slot) {
            slot.discard("what it says does not fit together");
        }
        return Err(engine);
    }
    let (file, budget) = (ModelFile::unread(source.clone()), Arc::clone(budget));
    let program = Program { engine, file, limits: limits.clone(), segments, budget, slot };
    Ok(Shared { program, binding: Binding { inputs, symbols }, outputs, macs })
}

/// Why a segment was not restored.
#[derive(Clone, Copy)]
enum Misfit {
    /// What the cache says does not fit together.
    Parts,
    /// There is no room for it: the ordinary load will say so.
    Memory,
}

fn restored<E: Engine>(
    engine: &E,
    record: SegmentRecord<Plan, Blob>,
    answers: usize,
    (limits, budget): (&ImportLimits, &Arc<Budget>),
) -> Result<(Key, Segment<E>), Misfit> {
    let SegmentRecord { live, inputs, outputs, macs, plan, pieces } = record;
    let fits = plan.is_sound(limits)
        && plan.inputs.len() == inputs.len()
        && plan.outputs.len() == outputs.len()
        && outputs.len() == answers;
    let prepared = fits.then_some(plan).and_then(|plan| engine.restore(plan, pieces));
    let prepared = Arc::new(prepared.ok_or(Misfit::Parts)?);
    let Footprint { ready_bytes, run_bytes, .. } = engine.footprint(&prepared).ok_or(Misfit::Parts)?;
    // Whoever loads it wants to run it.
    let mut memory =
        budget.reserve(Purpose::Plan, ready_bytes.saturating_add(run_bytes)).map_err(|_| Misfit::Memory)?;
    memory.settle(ready_bytes).map_err(|_| Misfit::Memory)?;
    let key = Key { graph: String::new(), live, known: Vec::new(), depth: 0 };
    Ok((key, Segment::whole(prepared, (inputs, outputs), macs, (run_bytes, memory))))
}

/// Writes the segments made so far, beside what the model does.
pub(super) fn keep<E: Engine>(shared: &Arc<Shared<E>>, slot: Slot) {
    let recorded = shared.program.segments.recorded();
    if recorded.is_empty() {
        tracing::debug!(
            "the plan is not kept: it has steps without a kernel, or ends where a shape depends on data"
        );
        return;
    }
    // A model that is gone by then was refused or replaced, and its folder may be about to go.
    let shared = Arc::downgrade(shared);
    slot.write_later(move || written(&*shared.upgrade()?, recorded));
}

fn written<E: Engine>(shared: &Shared<E>, recorded: Vec<Recorded<E>>) -> Option<Written> {
    let Shared { program, binding, outputs, macs } = shared;
    let segment = |Recorded { key, segment, plan }: Recorded<E>| {
        let segment = segment.upgrade()?;
        Some(SegmentRecord {
            live: key.live,
            inputs: segment.inputs.clone(),
            outputs: segment.outputs.clone(),
            macs: segment.macs,
            plan,
            pieces: program.engine.packed(&segment.prepared)?,
        })
    };
    Some(Record {
        inputs: binding.inputs.clone(),
        symbols: binding.symbols.clone(),
        outputs: outputs.clone(),
        macs: *macs,
        segments: recorded.into_iter().map(segment).collect::<Option<_>>()?,
    })
}
