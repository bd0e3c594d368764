//! What a server checks before it takes over metadata that operators signed.

use super::{Delegation, RepoError};
use crate::tuf::{Role, RoleName, Root, Signed, Standing, Targets, Trusted, TufError};

/// Checks a root: version 1 signed as it demands itself, or, after `old`, exactly one version on and signed by both.
///
/// # Errors
/// The check that fails.
pub fn check_root(old: Option<&[u8]>, new: &[u8]) -> Result<Root, TufError> {
    let trusted = match old {
        Some(old) => {
            let mut trusted = Trusted::new(old)?;
            trusted.update_root(new)?;
            trusted
        }
        None => {
            let trusted = Trusted::new(new)?;
            expect_version(RoleName::Root, trusted.root().body().version, 1)?;
            trusted
        }
    };
    Ok(trusted.root().body().clone())
}

/// Checks targets: signed as `root` demands, and exactly one version after `old` (version 1 without one).
///
/// # Errors
/// The check that fails.
pub fn check_targets(root: &[u8], old: Option<&[u8]>, new: &[u8]) -> Result<Targets, TufError> {
    let root = Signed::<Root>::parse(root)?;
    let new = Signed::<Targets>::parse(new)?;
    root.vouches_for(&new)?;
    expect_next(old, new.body().version)?;
    Ok(new.body().clone())
}

/// Checks the metadata of a delegated role: signed as its `delegator`, a targets file, demands, and exactly one version after
/// `old` (version 1 without one).
///
/// # Errors
/// The check that fails; [`RepoError::Invalid`] when the delegator does not delegate to the role.
pub fn check_delegated(
    delegator: &[u8],
    role: &str,
    old: Option<&[u8]>,
    new: &[u8],
) -> Result<Targets, RepoError> {
    let delegation = Delegation::read_all(delegator)?.into_iter().find(|d| d.name == role);
    let delegation = delegation.ok_or_else(|| {
        super::draft::invalid("delegated metadata", format!("nobody delegates to {role:?}"))
    })?;
    let Standing { valid, threshold } = delegation.signers.standing::<Targets>(new)?;
    if (valid as u64) < threshold {
        let by = format!("the delegation of {role:?}");
        return Err(TufError::Signature { role: RoleName::Targets, by, valid, threshold }.into());
    }
    let new = Signed::<Targets>::parse(new)?;
    expect_next(old, new.body().version)?;
    Ok(new.body().clone())
}

/// How many keys of the role, as `root` lists them, signed the metadata. For a new root, ask with the old one and with itself.
///
/// # Errors
/// When one of the two files is not what it should be.
pub fn standing<T: Role>(root: &[u8], metadata: &[u8]) -> Result<Standing, TufError> {
    let root = Signed::<Root>::parse(root)?;
    let metadata = Signed::<T>::parse(metadata)?;
    Ok(metadata.standing(root.body().role(T::NAME), &root.body().keys))
}

/// Checks that targets of version `found` come right after `old`.
fn expect_next(old: Option<&[u8]>, found: u64) -> Result<(), TufError> {
    let before = old.map(Signed::<Targets>::parse).transpose()?.map_or(0, |old| old.body().version);
    if before > 0 && found <= before {
        return Err(TufError::Replayed { role: RoleName::Targets, found, trusted: before });
    }
    expect_version(RoleName::Targets, found, before.saturating_add(1))
}

fn expect_version(role: RoleName, found: u64, expected: u64) -> Result<(), TufError> {
    if found == expected {
        return Ok(());
    }
    Err(TufError::Inconsistent { role, reason: format!("version {found} is offered, expected {expected}") })
}
