//! From an offer to a bundle that is signed, not below its floor, and fit for this device.

use super::{
    Core, Host,
    work::{Context, blocking, refuse},
};
use crate::{
    disk::DiskError,
    journal::Offer,
    machine::{Failure, Resolved},
    slots::SignedIndex,
    transport::Transport,
    tuf::{Target, Trust},
};
use bytes::Bytes;
use semver::Version;
use std::sync::Arc;
use whimbrel_wire::{
    Digest, Message as _, ModelName,
    index::{Index, target_path},
    manifest::Manifest,
    report::{Reason, ReasonKind},
};

/// Disk space that must stay free beyond what a bundle needs.
const SPARE_BYTES: u64 = 4 << 20;

/// Refreshes the metadata, looks the target up, and checks all that can be checked before a chunk is moved. The index is left
/// where the bundle is put together.
pub(super) async fn resolve<H: Host, T: Transport>(
    context: &Context<H, T>,
    offer: &Offer,
) -> Result<Resolved, Failure> {
    let core = &context.core;
    let (target, file) = trusted_target(core, &context.model, offer).await?;
    let index_bytes = index_bytes(core, &context.model, &target, &file).await?;
    let (core, model, offer) = (Arc::clone(core), context.model.clone(), offer.clone());
    blocking(move || {
        let index = SignedIndex::decode(&index_bytes)?;
        let manifest = &index.index().manifest;
        is_the_one(manifest, &model, &offer)?;
        fits(manifest, &core.config.agent_version).map_err(Failure::Final)?;
        core.host.accepts(manifest).map_err(Failure::Final)?;
        let bundle = index.digest();
        if core.slots.open(&model, bundle).is_ok() {
            return Ok(Resolved { bundle, total_bytes: 0, installed: true });
        }
        make_room(&core, index.index(), bundle)?;
        core.slots.begin(&index, &index_bytes)?;
        let total_bytes = index.moved_bytes();
        core.remember(&model, index);
        Ok(Resolved { bundle, total_bytes, installed: false })
    })
    .await
}

/// Looks whether the disk has room for what is not on it yet of a bundle; gives up what is half made of others where it has not.
fn make_room<H, T>(core: &Core<H, T>, index: &Index, bundle: Digest) -> Result<(), Failure> {
    let present_bytes = core.slots.partial_bytes(bundle, index)?;
    let needed_bytes = index.size_bytes().saturating_sub(present_bytes);
    let look = || -> Result<Result<(), Reason>, DiskError> {
        let free_bytes = core.config.disk.free_bytes(&core.config.state_dir)?;
        Ok(has_room(needed_bytes, free_bytes))
    };
    if look()?.is_err() && core.slots.drop_partials(&index.manifest.name, bundle)? {
        tracing::warn!(model = %index.manifest.name, "unfinished downloads were given up to make room");
    }
    look()?.map_err(Failure::Final)
}

/// The target that the newest metadata names, and its name on the server.
async fn trusted_target<H: Host, T: Transport>(
    core: &Core<H, T>,
    model: &ModelName,
    offer: &Offer,
) -> Result<(Target, String), Failure> {
    let mut held = core.trust.lock().await;
    let trust: &mut Trust = match &mut *held {
        Some(trust) => trust,
        empty => empty.insert(core.open_trust()?),
    };
    let now = (core.config.now)();
    trust.refresh(&core.transport, now).await?;
    check_floor(trust.floor(model), model, &offer.version)?;
    let target = trust.find(&offer.target, &core.transport, now).await?.ok_or_else(|| {
        let detail = format!("the signed metadata names no target {:?}", offer.target);
        refuse(ReasonKind::Inconsistent, detail)
    })?;
    let consistent = trust.trusted().root().body().consistent_snapshot;
    let file = if consistent { target.file() } else { target.path.clone() };
    Ok((target, file))
}

fn check_floor(floor: Option<&Version>, model: &ModelName, version: &Version) -> Result<(), Failure> {
    match floor {
        Some(floor) if version < floor => {
            let detail =
                format!("{model} {version} is asked for, {floor} is the lowest that may be installed");
            Err(refuse(ReasonKind::BelowFloor, detail))
        }
        _ => Ok(()),
    }
}

/// The bytes of the signed index, from the device where they are there already.
async fn index_bytes<H: Host, T: Transport>(
    core: &Core<H, T>,
    model: &ModelName,
    target: &Target,
    file: &str,
) -> Result<Bytes, Failure> {
    let size_bytes_max = Index::SIZE_BYTES_MAX as u64;
    if target.length_bytes > size_bytes_max {
        let detail =
            format!("the index has {} bytes, at most {size_bytes_max} are accepted", target.length_bytes);
        return Err(refuse(ReasonKind::TooLarge, detail));
    }
    if let Some(digest) = target.hashes.sha256
        && let Some(bytes) = core.slots.index_bytes(model, digest)?
        && target.check(&bytes).is_ok()
    {
        return Ok(bytes.into());
    }
    let bytes = core.transport.target(file, target.length_bytes).await?;
    target.check(&bytes)?;
    Ok(bytes)
}

/// Whether the index is that of the model and version asked for: the fleet chooses among targets by their path, and must
/// not be able to pass one off as another.
fn is_the_one(manifest: &Manifest, model: &ModelName, offer: &Offer) -> Result<(), Failure> {
    if manifest.name == *model && manifest.version == offer.version && target_path(manifest) == offer.target {
        return Ok(());
    }
    let detail = format!(
        "{model} {} is asked for as {:?}, which holds {} {}",
        offer.version, offer.target, manifest.name, manifest.version
    );
    Err(refuse(ReasonKind::Inconsistent, detail))
}

/// Whether this program can run the bundle at all.
fn fits(manifest: &Manifest, agent: &Version) -> Result<(), Reason> {
    let agent_min = &manifest.needs.agent_min;
    if agent < agent_min {
        let detail = format!("the bundle needs agent {agent_min}, this is {agent}");
        return Err(Reason::new(ReasonKind::AgentTooOld, detail));
    }
    Ok(())
}

/// Whether that much more fits on the disk.
fn has_room(needed_bytes: u64, free_bytes: u64) -> Result<(), Reason> {
    if needed_bytes > 0 && free_bytes < needed_bytes.saturating_add(SPARE_BYTES) {
        let detail =
            format!("{needed_bytes} bytes and {SPARE_BYTES} to spare are needed, {free_bytes} are free");
        return Err(Reason::new(ReasonKind::Disk, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle;

    fn index() -> Index {
        let dir = tempfile::tempdir().expect("temp dir");
        crate::testing::write_bundle(dir.path(), "m", "1.2.0", b"model");
        bundle::pack(dir.path()).expect("packs").index().clone()
    }

    #[test]
    fn an_old_agent_and_a_full_disk_are_refused_before_any_byte_moves() {
        let (index, agent) = (index(), Version::new(0, 1, 0));
        let kind = |r: Result<(), Reason>| r.expect_err("refused").kind;
        assert!(fits(&index.manifest, &agent).is_ok());
        assert_eq!(kind(fits(&index.manifest, &Version::new(0, 0, 9))), ReasonKind::AgentTooOld);
        assert!(has_room(100, 100 + SPARE_BYTES).is_ok());
        assert_eq!(kind(has_room(100, 99 + SPARE_BYTES)), ReasonKind::Disk);
        assert!(has_room(0, 0).is_ok(), "what is there already needs no space");
    }

    #[test]
    fn a_target_cannot_be_passed_off_as_another_version() {
        let model = "m".parse().expect("a name");
        let offer = |version: &str, target: &str| Offer {
            version: version.parse().expect("a version"),
            target: target.into(),
            attempt: 1,
            rollout: String::new(),
        };
        assert!(is_the_one(&index().manifest, &model, &offer("1.2.0", "m/1.2.0.wbi")).is_ok());
        assert!(is_the_one(&index().manifest, &model, &offer("9.0.0", "m/1.2.0.wbi")).is_err());
        assert!(is_the_one(&index().manifest, &model, &offer("1.2.0", "m/9.0.0.wbi")).is_err());
        assert!(
            is_the_one(&index().manifest, &"n".parse().expect("a name"), &offer("1.2.0", "m/1.2.0.wbi"))
                .is_err()
        );
    }
}
