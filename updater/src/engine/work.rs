//! Performs work and says in an event what came of it.

use super::{Core, Host, driver::News, fetch::fetch, resolve::resolve};
use crate::{
    disk::DiskError,
    machine::{Event, Failure, Work},
    slots::{InstalledBundle, SlotError},
    transport::{Transport, TransportError},
    tuf::TufError,
};
use std::sync::Arc;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use whimbrel_wire::{
    Digest, ModelName,
    report::{Reason, ReasonKind},
};

/// What all work needs.
pub(super) struct Context<H, T> {
    pub(super) core: Arc<Core<H, T>>,
    pub(super) model: ModelName,
    pub(super) progress: mpsc::UnboundedSender<News>,
    pub(super) serving_since: Instant,
}

/// Performs one piece of work.
pub(super) async fn perform<H: Host, T: Transport>(context: Context<H, T>, work: Work) -> Event {
    let done = match work {
        Work::Resolve(offer) => resolve(&context, &offer).await.map(Event::Resolved),
        Work::Fetch(bundle) => fetch(&context, bundle).await.map(|()| Event::Fetched),
        Work::Install(bundle) => install(&context, bundle)
            .await
            .map(|bundle| Event::Installed { policy: bundle.manifest.probation }),
        Work::Test(bundle) => test(&context, bundle).await.map(|()| Event::Tested),
        Work::Serve { bundle, fallback } => serve(&context, bundle, fallback).await.map(|()| Event::Served),
        Work::Withdraw => {
            context.core.host.withdraw(&context.model).await;
            Ok(Event::Served)
        }
        Work::Watch => {
            sleep(context.core.config.probation_poll).await;
            let traffic = context.core.host.traffic(&context.model);
            Ok(Event::Watched { traffic, elapsed: context.serving_since.elapsed() })
        }
        Work::Wait { tries } => {
            sleep(context.core.config.backoff.jittered(tries)).await;
            Ok(Event::RetryDue)
        }
    };
    done.unwrap_or_else(Event::Failed)
}

async fn install<H: Host, T: Transport>(
    context: &Context<H, T>,
    bundle: Digest,
) -> Result<InstalledBundle, Failure> {
    let (core, model) = (Arc::clone(&context.core), context.model.clone());
    blocking(move || {
        match core.slots.verify(&model, bundle) {
            Ok(installed) => {
                core.keep_opened(installed.clone());
                return Ok(installed);
            }
            Err(SlotError::Absent { .. }) => {}
            Err(e) => tracing::warn!(%e, "a damaged bundle is replaced"),
        }
        let known = core.known_index(&model);
        let partial = core.slots.partial(&model, bundle, known.as_ref())?;
        let installed = partial.ok_or_else(|| missing("the bundle's index"))?.finish()?;
        core.forget_index(&model);
        core.keep_opened(installed.clone());
        Ok(installed)
    })
    .await
}

async fn test<H: Host, T: Transport>(context: &Context<H, T>, bundle: Digest) -> Result<(), Failure> {
    let bundle = open(context, bundle)?;
    context.core.host.self_test(&bundle).await.map_err(Failure::Final)
}

async fn serve<H: Host, T: Transport>(
    context: &Context<H, T>,
    bundle: Digest,
    fallback: Option<Digest>,
) -> Result<(), Failure> {
    let bundle = open(context, bundle)?;
    // A fallback that cannot be opened must not keep the bundle itself from serving.
    let fallback = fallback.and_then(|fallback| open(context, fallback).ok());
    context.core.host.serve(&bundle, fallback.as_ref()).await.map_err(Failure::Final)
}

/// Opens an installed bundle. One that this process has looked at before is not read again.
fn open<H: Host, T: Transport>(context: &Context<H, T>, bundle: Digest) -> Result<InstalledBundle, Failure> {
    let core = &context.core;
    if let Some(opened) = core.opened(&context.model, bundle) {
        return Ok(opened);
    }
    let opened = core.slots.open(&context.model, bundle)?;
    core.keep_opened(opened.clone());
    Ok(opened)
}

/// Runs disk and CPU work beside the network tasks.
pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Failure> + Send + 'static,
) -> Result<R, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(refuse(ReasonKind::Disk, format!("disk work ended early: {e}"))),
    }
}

/// A failure that trying again would not mend.
pub(super) fn refuse(kind: ReasonKind, detail: impl ToString) -> Failure {
    Failure::Final(Reason::new(kind, detail))
}

/// Something that was fetched before is gone; it can be fetched again.
pub(super) fn missing(what: &str) -> Failure {
    Failure::Gone(Reason::new(ReasonKind::Corrupt, format!("{what} is not on the device any more")))
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        refuse(ReasonKind::Disk, error)
    }
}

impl From<SlotError> for Failure {
    fn from(error: SlotError) -> Self {
        match &error {
            SlotError::Incomplete { .. } => Self::Later(Reason::new(ReasonKind::Corrupt, error)),
            SlotError::Disk(_) | SlotError::Absent { .. } => refuse(ReasonKind::Disk, error),
            SlotError::Damaged { .. } => refuse(ReasonKind::Corrupt, error),
            SlotError::Index { .. } | SlotError::Unfit { .. } => refuse(ReasonKind::Malformed, error),
        }
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Unavailable { .. } => Self::Later(Reason::new(ReasonKind::Network, error)),
            TransportError::Tls { .. } => Self::Later(Reason::new(ReasonKind::Tls, error)),
            TransportError::TooLarge { .. } => refuse(ReasonKind::TooLarge, error),
            TransportError::NotFound { .. } | TransportError::Refused { .. } => {
                refuse(ReasonKind::Network, error)
            }
        }
    }
}

impl From<TufError> for Failure {
    fn from(error: TufError) -> Self {
        if error.is_temporary() { Self::Later(error.reason()) } else { Self::Final(error.reason()) }
    }
}
