//! Verifying a bundle against what a device has seen before, without changing it.

use bytes::Bytes;
use std::{collections::BTreeMap, path::Path};
use time::OffsetDateTime;
use whimbrel_updater::{
    bundle::{Packed, Verified, VerifyError},
    disk::{Disk as _, DiskError, Files},
    transport::TransportError,
    tuf::{Source, Trust, TufError},
};

/// Largest file of a trust folder.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Checks that a device with this trust folder would accept the bundle from a file: metadata not older than what it has
/// seen, and a version not below the highest floor.
///
/// # Errors
/// The first check that fails.
pub(super) async fn verify(
    bundle: &Packed,
    trust: &Path,
    now: OffsetDateTime,
) -> Result<Verified, VerifyError> {
    // Checked on a copy, so that looking does not change what the device trusts.
    let copy = tempfile::tempdir().map_err(|source| {
        TufError::Disk(DiskError { attempted: "create", path: std::env::temp_dir(), source })
    })?;
    for file in Files.list(trust).map_err(TufError::Disk)? {
        if let Some(bytes) = Files.read(&trust.join(&file), FILE_BYTES_MAX).map_err(TufError::Disk)? {
            Files.write(&copy.path().join(file), &bytes).map_err(TufError::Disk)?;
        }
    }
    let mut seen = Trust::open(copy.path())?;
    let source = InBundle(&bundle.metadata);
    seen.refresh(&source, now).await?;
    let path = bundle.target_path();
    let target = seen.find(&path, &source, now).await?.ok_or(VerifyError::NotATarget(path))?;
    target.check(bundle.index_bytes())?;
    let manifest = &bundle.index().manifest;
    if let Some(floor) = seen.floor(&manifest.name).filter(|floor| manifest.version < **floor) {
        let why = format!("{} {} is below the signed floor {floor}", manifest.name, manifest.version);
        return Err(VerifyError::Content(why));
    }
    bundle.verify_content()?;
    let trusted = seen.trusted();
    Ok(Verified {
        root_version: trusted.root().body().version,
        targets_version: trusted.targets().map_or(0, |t| t.body().version),
    })
}

/// The metadata inside a bundle, as a device without a network gets it.
struct InBundle<'a>(&'a BTreeMap<String, Vec<u8>>);

impl Source for InBundle<'_> {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        match self.0.get(file) {
            Some(bytes) if bytes.len() as u64 > size_bytes_max => {
                Err(TransportError::TooLarge { what: file.to_owned(), size_bytes_max })
            }
            other => Ok(other.map(|bytes| Bytes::copy_from_slice(bytes))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{
        Given, TARGETS,
        tests::{NOW, Operator},
    };

    #[tokio::test]
    async fn a_device_refuses_what_is_older_than_it_has_seen_and_is_not_changed() {
        let operator = Operator::new();
        let repository = operator.repository();
        let key = [&operator.release];
        let mut one = operator.bundle("1.0.0", "weights");
        repository.sign_bundle(TARGETS, &one, Given::new(&key, NOW)).expect("signed");
        let first = operator.publish(&repository, None);
        repository.adopt(&first, NOW).expect("verifies");
        one.metadata = repository.for_bundle().expect("readable");

        let trust = operator.dir.path().join("trust");
        Trust::init(&trust, &repository.root(1).expect("there")).expect("begins");
        let verified = verify(&one, &trust, NOW).await.expect("accepted");
        assert_eq!(verified, Verified { root_version: 1, targets_version: 1 });
        assert!(!trust.join("timestamp.json").exists(), "looking changed nothing");

        // The device then sees newer metadata with a floor; the old file is replayed to it.
        let old = one.clone();
        let floor = "1.5.0".parse().expect("a version");
        repository
            .set_floor(&"digits".parse().expect("a name"), &floor, Given::new(&key, NOW))
            .expect("signed");
        repository.adopt(&operator.publish(&repository, Some(&first)), NOW).expect("verifies");
        one.metadata = repository.for_bundle().expect("readable");
        Trust::open(&trust).expect("opens").refresh(&InBundle(&one.metadata), NOW).await.expect("trusted");
        assert!(matches!(verify(&old, &trust, NOW).await, Err(VerifyError::Tuf(TufError::Replayed { .. }))));
        assert!(matches!(verify(&one, &trust, NOW).await, Err(VerifyError::Content(_))), "below the floor");
    }
}
