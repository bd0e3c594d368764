//! Fetching the chunks that are not on the device.

use super::{
    CHUNK_WINDOW, Core, Host,
    plan::{Plan, Stop, plan},
    work::{Context, blocking, missing, refuse},
};
use crate::{
    bundle::chunk::ChunkError,
    machine::{Event, Failure},
    transport::Transport,
};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use whimbrel_wire::{Digest, report::ReasonKind};

/// Times that a chunk is asked for while its bytes are wrong.
const WRONG_MAX: u32 = 3;
/// Progress is told each time this share of the whole came.
const STEPS: u64 = 20;

/// Puts in place what the device has of a bundle, then fetches the rest, several chunks at a time, each checked and put in its
/// place as it comes.
pub(super) async fn fetch<H: Host, T: Transport>(
    context: &Context<H, T>,
    bundle: Digest,
) -> Result<(), Failure> {
    let core = &context.core;
    let plan = Arc::new(survey(context, bundle).await?);
    let (mut done_bytes, total_bytes) = (plan.done_bytes, plan.total_bytes);
    let tell = |done_bytes| {
        // The receiver goes away only together with this work.
        let _ = context.progress.send(Event::Progressed { done_bytes, total_bytes });
    };
    tell(done_bytes);
    let mut told = done_bytes;
    let lack = (0..plan.lack.len()).filter_map(|at| plan.lack.get(at).copied());
    let fetches = lack.map(|number| fetch_chunk(core, &plan, number));
    let mut fetches = stream::iter(fetches).buffer_unordered(CHUNK_WINDOW);
    while let Some(fetched) = fetches.next().await {
        done_bytes += fetched?;
        if (done_bytes - told).saturating_mul(STEPS) >= total_bytes {
            told = done_bytes;
            tell(done_bytes);
        }
    }
    Ok(())
}

/// Looks for every chunk on the device.
async fn survey<H: Host, T: Transport>(context: &Context<H, T>, bundle: Digest) -> Result<Plan, Failure> {
    let (core, model, stop) = (Arc::clone(&context.core), context.model.clone(), Stop::default());
    let flag = stop.flag();
    blocking(move || {
        let known = core.known_index(&model);
        let partial = core.slots.partial(&model, bundle, known.as_ref())?;
        let partial = partial.ok_or_else(|| missing("the bundle's index"))?;
        plan(&core.slots, &*core.config.disk, partial, &flag)
    })
    .await
}

/// Fetches one chunk, checks it and puts it in place; its stored size.
async fn fetch_chunk<H: Host, T: Transport>(
    core: &Arc<Core<H, T>>,
    plan: &Arc<Plan>,
    number: u32,
) -> Result<u64, Failure> {
    let part = *plan.partial.layout().chunk(number);
    let _place = core.workers.enter().await;
    let mut tries = 1;
    loop {
        let stored = core.transport.chunk(part.stored, u64::from(part.stored_bytes)).await?;
        match put(core, plan, number, stored).await? {
            Ok(()) => return Ok(u64::from(part.stored_bytes)),
            Err(e) if tries == WRONG_MAX => return Err(refuse(ReasonKind::Corrupt, e)),
            Err(e) => tracing::warn!(%e, tries, "a chunk came wrong"),
        }
        tries += 1;
    }
}

/// Checks a chunk and writes its content wherever the bundle has it. The inner error says that the bytes are wrong.
async fn put<H: Host, T: Transport>(
    core: &Arc<Core<H, T>>,
    plan: &Arc<Plan>,
    number: u32,
    stored: Bytes,
) -> Result<Result<(), ChunkError>, Failure> {
    let thread = core.workers.thread().await;
    let (core, plan) = (Arc::clone(core), Arc::clone(plan));
    blocking(move || {
        let _thread = thread;
        let (partial, layout) = (&plan.partial, plan.partial.layout());
        let part = layout.chunk(number);
        let written = core.workers.with_unpacker(|unpacker| match unpacker.unpack(part, &stored) {
            Ok(raw) => Ok(layout.with_content(part.raw).iter().try_for_each(|n| partial.write(*n, raw))),
            Err(e) => Err(e),
        });
        match written.and_then(|unpacked| unpacked) {
            Ok(written) => Ok(Ok(written?)),
            Err(e) => Ok(Err(e)),
        }
    })
    .await
}
