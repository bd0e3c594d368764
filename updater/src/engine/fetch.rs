//! Fetching the chunks that are not on the device.

use super::{
    Core, Host,
    local::Local,
    work::{Context, blocking, missing, refuse},
};
use crate::{
    bundle::chunk,
    machine::{Event, Failure},
    transport::Transport,
};
use futures_util::stream::{self, StreamExt};
use std::{collections::BTreeSet, sync::Arc};
use whimbrel_wire::{
    Digest, Message, ModelName, decode,
    index::{Chunk, Index},
    report::ReasonKind,
};

/// Chunks asked for at the same time.
const CONCURRENCY: usize = 4;
/// Times that a chunk is asked for while its bytes are wrong.
const WRONG_MAX: u32 = 3;
/// Progress is told each time this share of the whole came.
const STEPS: u64 = 20;

/// What a bundle lacks on this device.
struct Lack {
    chunks: Vec<Chunk>,
    done_bytes: u64,
    total_bytes: u64,
}

/// Fetches what is missing of a bundle, several chunks at a time, each verified and kept as it comes.
pub(super) async fn fetch<H: Host, T: Transport>(
    context: &Context<H, T>,
    bundle: Digest,
    active: Option<Digest>,
) -> Result<(), Failure> {
    let (core, model) = (Arc::clone(&context.core), context.model.clone());
    let Lack { chunks, mut done_bytes, total_bytes } =
        blocking(move || lack(&core, &model, bundle, active)).await?;
    let tell = |done_bytes| {
        // The receiver goes away only together with this work.
        let _ = context.progress.send(Event::Progressed { done_bytes, total_bytes });
    };
    tell(done_bytes);
    let mut told = done_bytes;
    let fetches = chunks.into_iter().map(|part| fetch_chunk(&context.core, part));
    let mut fetches = stream::iter(fetches).buffer_unordered(CONCURRENCY);
    while let Some(fetched) = fetches.next().await {
        done_bytes += fetched?;
        if (done_bytes - told).saturating_mul(STEPS) >= total_bytes {
            told = done_bytes;
            tell(done_bytes);
        }
    }
    Ok(())
}

/// Looks at every chunk that could be here already: all are read and checked, so that what counts as done is done.
fn lack<H: Host, T: Transport>(
    core: &Core<H, T>,
    model: &ModelName,
    bundle: Digest,
    active: Option<Digest>,
) -> Result<Lack, Failure> {
    let index = core.store.get(bundle, Index::SIZE_BYTES_MAX as u64)?;
    let index = index.ok_or_else(|| missing("the bundle's index"))?;
    let index: Index = decode(&index).map_err(|e| refuse(ReasonKind::Malformed, e))?;
    let local = Local::open(&core.slots, Arc::clone(&core.config.disk), model, active);
    let mut seen = BTreeSet::new();
    let mut lack = Lack { chunks: Vec::new(), done_bytes: 0, total_bytes: 0 };
    for part in index.chunks().filter(|c| seen.insert(c.stored)) {
        if local.read(part).is_some() {
            continue;
        }
        let bytes = u64::from(part.stored_bytes);
        lack.total_bytes += bytes;
        if core.store.get(part.stored, chunk::STORED_BYTES_MAX)?.is_some() {
            lack.done_bytes += bytes;
        } else {
            lack.chunks.push(*part);
        }
    }
    Ok(lack)
}

/// Fetches, checks and keeps one chunk; its size.
async fn fetch_chunk<H: Host, T: Transport>(core: &Arc<Core<H, T>>, part: Chunk) -> Result<u64, Failure> {
    let mut tries = 1;
    loop {
        let bytes = core.transport.chunk(part.stored, u64::from(part.stored_bytes)).await?;
        match chunk::check(&part, &bytes) {
            Ok(()) => {
                let core = Arc::clone(core);
                blocking(move || Ok(core.store.put(part.stored, &bytes)?)).await?;
                return Ok(u64::from(part.stored_bytes));
            }
            Err(e) if tries == WRONG_MAX => return Err(refuse(ReasonKind::Corrupt, e)),
            Err(e) => tracing::warn!(%e, tries, "a chunk came wrong"),
        }
        tries += 1;
    }
}
