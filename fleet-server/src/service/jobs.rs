//! What goes on without being asked for.

use super::{Fleet, millis};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Between two looks at the rollouts at least: reports of many devices are looked at together.
const PLAN_PAUSE: Duration = Duration::from_millis(100);
/// How often a soaking rollout is looked at.
const SOAK_LOOK: Duration = Duration::from_millis(500);
/// How often rollouts are looked at when nothing happens.
const IDLE_LOOK: Duration = Duration::from_secs(30);
/// How often signatures and old telemetry are looked at.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);
/// How often files that no target names are looked for.
const COLLECT_EVERY: Duration = Duration::from_secs(3600);
/// How long they stay: longer than any upload takes that ends in a target.
const COLLECT_GRACE: Duration = Duration::from_secs(24 * 3600);
/// How often signs of life are written down.
const KEEP_SEEN_EVERY: Duration = Duration::from_secs(5);

/// Carries on rollouts whenever something changed or time passed; never ends.
pub(crate) async fn plan_rollouts(fleet: Arc<Fleet>) {
    loop {
        if let Err(error) = fleet.carry_on().await {
            tracing::error!("carry on rollouts: {error}");
        }
        tokio::time::sleep(PLAN_PAUSE).await;
        let look = if fleet.is_soaking() { SOAK_LOOK } else { IDLE_LOOK };
        // Both ends mean the same: look again.
        let _ = tokio::time::timeout(look, fleet.woken()).await;
    }
}

/// Writes signs of life down; never ends.
pub(crate) async fn keep_seen(fleet: Arc<Fleet>) {
    let mut tick = tokio::time::interval(KEEP_SEEN_EVERY);
    loop {
        tick.tick().await;
        if let Err(error) = fleet.keep_seen().await {
            tracing::error!("note when devices were seen: {error}");
        }
    }
}

/// Renews signatures before they expire and drops old telemetry; never ends.
pub(crate) async fn maintain(fleet: Arc<Fleet>) {
    let mut tick = tokio::time::interval(MAINTAIN_EVERY);
    loop {
        tick.tick().await;
        if let Err(error) = fleet.renew_signatures().await {
            tracing::error!("renew signatures: {error}");
        }
        let keep = time::Duration::days(i64::from(fleet.settings().telemetry_days));
        if let Err(error) = fleet.store().drop_windows(millis(fleet.now() - keep)).await {
            tracing::error!("{}", super::chain(&error));
        }
    }
}

/// Removes files that no target names any more; never ends.
pub(crate) async fn collect_blobs(fleet: Arc<Fleet>) {
    let mut tick = tokio::time::interval(COLLECT_EVERY);
    loop {
        tick.tick().await;
        // The files' times are by the machine's own clock.
        let before = SystemTime::now().checked_sub(COLLECT_GRACE).unwrap_or(SystemTime::UNIX_EPOCH);
        match fleet.collect_blobs(before).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "files that no target names were removed"),
            Err(error) => tracing::error!("collect chunks: {error}"),
        }
    }
}
